package server

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

const (
	// gatherBytes is how much is gathered for one append, and the size from
	// which a batch is appended by itself, uncopied.
	gatherBytes  = 128 << 10
	uncopiedFrom = 16 << 10
	// gatherSends bounds the sends of one append.
	gatherSends = 1024
)

// send handles a Send: checks it, and gathers it with its neighbours.
func (c *connection) send(f *native.Send, payload []byte) {
	s := c.session(f.Session)
	if t := c.handles.get(f.Handle); t != nil && t.all != nil {
		c.sends.flush(c) // so that the order stays
		if err := c.sendAll(s, t.all, f, payload); err != nil {
			c.out.fail(f.Request, err)
		}
		return
	}
	p, err := c.sendTo(s, f, payload)
	switch {
	case err == nil && c.overflows(s, p, f, payload):
		return
	case err == nil && s.Mode() != session.AckTransacted:
		c.sends.add(c, p, f.Request, payload)
		if p.Deduplicates() { // its receipts would say where its neighbours' are not
			c.sends.flush(c)
		}
		return
	case err == nil:
		err = s.Send(p, record.Batch(payload))
	}
	c.sends.flush(c) // so that answers keep the order of requests
	if err != nil {
		c.out.fail(f.Request, err)
		return
	}
	c.out.append(&native.Confirm{Request: f.Request, Base: -1}, nil) // it has no offset before the commit
}

// sendTo returns the partition for a batch that may be appended to it. The
// batch says nothing about who sent it that is taken on trust; Unsynced
// (Jakarta Messaging 3.1 §7.7) needs no look: the log knows two levels, synced
// or, with durability=memory, written, and a destination on disk gives the
// stronger one.
func (c *connection) sendTo(s *session.Session, f *native.Send, payload []byte) (*destination.Partition, error) {
	if err := c.maySend(s, f); err != nil {
		return nil, err
	}
	t := c.handles.get(f.Handle)
	if t == nil {
		return nil, fmt.Errorf("destination handle %d: %w on this connection; resolve the destination first", f.Handle, session.ErrNotFound)
	}
	d := t.destination
	if err := c.sendable(d); err != nil { // the rules may have changed
		return nil, err
	}
	if f.Partition >= uint64(len(d.Partitions)) {
		return nil, fmt.Errorf("%w: partition %d of %q, which has %d", session.ErrInvalid, f.Partition, d.Name, len(d.Partitions))
	}
	p := d.Partitions[f.Partition]
	if err := session.Takes(d, p, len(payload)); err != nil {
		return nil, err
	}
	return p, checkBatch(payload, int(d.Settings.MaxMessageBytes))
}

func (c *connection) maySend(s *session.Session, f *native.Send) error {
	switch {
	case c.draining.Load():
		return errDraining
	case s == nil:
		return fmt.Errorf("session %d: %w on this connection", f.Session, session.ErrNotFound)
	}
	return nil
}

// sendAll sends a batch to all destinations of a list.
func (c *connection) sendAll(s *session.Session, all []*destination.Destination, f *native.Send, payload []byte) error {
	if err := c.maySend(s, f); err != nil {
		return err
	}
	limit := math.MaxInt
	for _, d := range all {
		for _, p := range d.Partitions {
			if err := session.Takes(d, p, len(payload)); err != nil {
				return err
			}
		}
		limit = min(limit, int(d.Settings.MaxMessageBytes))
	}
	if err := checkBatch(payload, limit); err != nil {
		return err
	}
	for _, d := range all {
		if err := d.Partitions[0].Room().Take(record.Batch(payload).Count()); err != nil {
			return fmt.Errorf("%q: %w", d.Name, err)
		}
	}
	c.underWay.Add(1)
	err := s.SendAll(all, record.Batch(payload), &unitSend{c, f.Request})
	if err != nil {
		c.underWay.Add(-1)
	}
	return err
}

// unitSend answers a Send that several logs have taken, and so has no offset.
type unitSend struct {
	c       *connection
	request uint64
}

// Committed implements commitlog.Waiter.
func (u *unitSend) Committed(err error) {
	if err != nil {
		u.c.out.fail(u.request, err)
	} else {
		u.c.out.append(&native.Confirm{Request: u.request, Base: -1}, nil)
	}
	u.c.out.Flush()
	u.c.underWay.Add(-1)
}

// checkBatch checks a producer's batch. Control batches, producer ids and
// transactions belong to the broker here: taken from a client they would fence
// or hold up others.
func checkBatch(payload []byte, limit int) error {
	b, rest, err := record.Next(payload)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", session.ErrInvalid, err)
	case len(rest) > 0:
		return fmt.Errorf("%w: a Send carries one record batch, %d bytes follow it", session.ErrInvalid, len(rest))
	case b.IsControl() || b.IsTransactional() || b.ProducerID() != -1:
		return fmt.Errorf("%w: a client's batch with the marks of a broker's transaction", session.ErrInvalid)
	}
	return record.Validate(b, limit)
}

// sendGather is the append that the reader is gathering: sends to one
// partition that arrived together.
type sendGather struct {
	partition *destination.Partition
	batches   []byte
	group     *sendGroup
}

func (g *sendGather) add(c *connection, p *destination.Partition, request uint64, payload []byte) {
	if g.group != nil && (g.partition != p || p.Deduplicates() || len(g.batches)+len(payload) > gatherBytes || len(g.group.sends) == gatherSends) {
		g.flush(c)
	}
	c.hold(true)
	if g.group == nil {
		g.partition, g.group = p, newSendGroup(c)
	}
	records := record.Batch(payload).Count()
	g.group.sends = append(g.group.sends, sent{request, g.group.records, len(payload)})
	g.group.records += int64(records)
	if len(payload) >= uncopiedFrom && len(g.batches) == 0 {
		g.append(payload)
		return
	}
	g.batches = append(g.batches, payload...)
}

// flush appends what was gathered, if anything.
func (g *sendGather) flush(c *connection) {
	if g.group != nil {
		g.append(g.batches)
		if g.batches = g.batches[:0]; cap(g.batches) > 2*gatherBytes {
			g.batches = nil
		}
	}
}

// append hands a group to its log. A log that takes no append as large as the
// group gets its sends one by one.
func (g *sendGather) append(batches []byte) {
	group, p := g.group, g.partition
	g.group, g.partition = nil, nil
	if len(group.sends) > 1 && group.c.tooLargeAtOnce.Load() {
		group.split(p, batches)
		return
	}
	err := group.append(p, batches)
	if err == nil {
		return
	}
	if errors.Is(err, commitlog.ErrTooLarge) && len(group.sends) > 1 {
		group.c.tooLargeAtOnce.Store(true)
		group.split(p, batches)
		return
	}
	group.refuse(err)
}

// sendGroup waits for one append and answers its sends. It is pooled: free
// again once both the append has returned and the log has called Committed,
// which may happen in either order.
type sendGroup struct {
	c       *connection
	sends   []sent
	records int64

	halves atomic.Int32 // of the two: append returned, Committed called
	base   int64
	err    error
}

// sent is one Send of a group: its first record's place among the group's, and
// its bytes.
type sent struct {
	request uint64
	first   int64
	bytes   int
}

var sendGroups = sync.Pool{New: func() any { return new(sendGroup) }}

func newSendGroup(c *connection) *sendGroup {
	g := sendGroups.Get().(*sendGroup)
	g.c = c
	c.underWay.Add(1)
	return g
}

func (g *sendGroup) free() {
	g.c.underWay.Add(-1)
	g.c, g.sends, g.records, g.base, g.err = nil, g.sends[:0], 0, 0, nil
	g.halves.Store(0)
	sendGroups.Put(g)
}

func (g *sendGroup) append(p *destination.Partition, batches []byte) error {
	base, err := p.Send(batches, g)
	if err != nil {
		return err
	}
	g.base = base
	if g.halves.Add(1) == 2 {
		g.confirm()
	}
	return nil
}

// Committed implements commitlog.Waiter.
func (g *sendGroup) Committed(err error) {
	g.err = err
	if g.halves.Add(1) == 2 {
		g.confirm()
	}
}

// confirm answers every send of the group and wakes the writer once.
func (g *sendGroup) confirm() {
	if g.err != nil {
		g.refuse(g.err)
		return
	}
	o := g.c.out
	if b, ok := o.Begin(); ok {
		for _, s := range g.sends {
			o.confirm = native.Confirm{Request: s.request, Base: g.base + s.first}
			b = o.encoder.Append(b, &o.confirm, nil)
		}
		o.EndConfirms(b)
	}
	g.free()
}

func (g *sendGroup) refuse(err error) {
	for _, s := range g.sends {
		g.c.out.fail(s.request, err)
	}
	g.c.out.Flush()
	g.free()
}

// split appends the sends of a group one by one.
func (g *sendGroup) split(p *destination.Partition, batches []byte) {
	for _, s := range g.sends {
		one := newSendGroup(g.c)
		one.sends = append(one.sends, sent{request: s.request, bytes: s.bytes})
		if err := one.append(p, batches[:s.bytes]); err != nil {
			one.refuse(err)
		}
		batches = batches[s.bytes:]
	}
	g.free()
}
