package stomp

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

const (
	// gatherBytes and gatherMessages bound what is gathered for one append; a message
	// from aloneFrom bytes on is one by itself.
	gatherBytes    = 128 << 10
	gatherMessages = 1024
	aloneFrom      = 32 << 10
	// blockedBytes bounds what waits on one connection for room in full queues.
	blockedBytes = 16 << 20
)

// send handles a SEND.
func (c *connection) send(f *frame.Frame) error {
	d, err := c.target(f.Get("destination"))
	if err != nil {
		return err
	}
	err = c.in.parse(f, time.Now().UnixMilli(), func(name string) (string, error) {
		t, err := c.temporaryQueue(name)
		if err != nil {
			return "", err
		}
		return t.Name, nil
	})
	if err != nil {
		return err
	}
	m := &c.in.message
	c.sent++
	m.ID = fmt.Sprintf("ID:stomp-%d-%d-%d", c.server.broker.Epoch(), c.state.Number(), c.sent)
	m.ClientID, m.UserID = c.state.ClientID(), c.state.Principal()
	p := d.Route(m.Key, c.state.Number())
	if name, ok := f.Lookup("transaction"); ok {
		return c.sendIn(name, d, p, f.Get("receipt"))
	}
	return c.sends.add(c, d, p, f.Size(), f.Get("receipt"))
}

// sendIn sends the message that was parsed in a transaction.
func (c *connection) sendIn(name string, d *destination.Destination, p *destination.Partition, receipt string) error {
	t := c.transactions[name]
	if t == nil {
		return fmt.Errorf("transaction %.80q: %w", name, session.ErrNotFound)
	}
	batch, err := c.sends.single(c)
	if err == nil {
		err = session.Takes(d, p, len(batch))
	}
	if err == nil {
		err = p.Room().Take(1)
	}
	if err == nil {
		err = t.Send(p, batch)
	}
	if err == nil {
		c.receipt(receipt)
	}
	return err
}

// sendGather is the append that the reader is gathering: messages for one partition
// that arrived together, as one batch.
type sendGather struct {
	partition *destination.Partition
	limit     int // bytes of the batch
	builder   record.Builder
	group     *sendGroup
	one       record.Builder // of a message that goes by itself
}

// single is the message that was parsed as a batch.
func (g *sendGather) single(c *connection) (record.Batch, error) {
	g.one.Reset()
	if err := c.in.message.AppendTo(&g.one); err != nil {
		return nil, fmt.Errorf("%w: %w", session.ErrInvalid, err)
	}
	return g.one.Batch(), nil
}

// add adds the message that was parsed, of a frame of size bytes. With an error it
// was not.
func (g *sendGather) add(c *connection, d *destination.Destination, p *destination.Partition, size int, receipt string) error {
	if err := session.Takes(d, p, 0); err != nil {
		return err
	}
	lane := c.blocked[p]
	waits := lane != nil && !lane.Idle()
	if !waits {
		if err := p.Room().Take(1); err != nil {
			if !p.Room().Blocks() {
				return fmt.Errorf("%q: %w", d.Name, err)
			}
			waits = true
		}
	}
	limit := int(min(d.Settings.MaxMessageBytes, gatherBytes))
	if waits || size >= aloneFrom || 2*size+1024 > limit || p.Deduplicates() {
		return g.alone(c, d, p, waits, receipt)
	}
	if g.group != nil && (g.partition != p || g.builder.Size()+2*size+1024 > g.limit || g.group.messages == gatherMessages) {
		g.flush()
	}
	if g.group == nil {
		g.partition, g.limit, g.group = p, limit, newSendGroup(c)
		g.builder.Reset()
	}
	if err := c.in.message.AppendTo(&g.builder); err != nil {
		if g.group.messages == 0 {
			g.group.forget()
			g.group = nil
		}
		return fmt.Errorf("%w: %w", session.ErrInvalid, err)
	}
	g.group.add(receipt)
	c.hold()
	return nil
}

// alone sends a message by itself; one that waits for room behind those that do.
func (g *sendGather) alone(c *connection, d *destination.Destination, p *destination.Partition, waits bool, receipt string) error {
	g.flush()
	batch, err := g.single(c)
	if err == nil {
		err = session.Takes(d, p, len(batch))
	}
	if err != nil {
		return err
	}
	if waits {
		return c.wait(p, bytes.Clone(batch), receipt)
	}
	c.hold()
	one := newSendGroup(c)
	one.add(receipt)
	one.append(p, batch)
	return nil
}

// wait sends a batch once there is room for it, on a lane of its partition's.
func (c *connection) wait(p *destination.Partition, batch []byte, receipt string) error {
	size := int64(len(batch))
	if c.blockedNow.Add(size) > blockedBytes {
		c.blockedNow.Add(-size)
		return fmt.Errorf("%w: %d bytes wait on this connection for room", session.ErrQueueFull, blockedBytes)
	}
	lane := c.blocked[p]
	if lane == nil {
		lane = new(wire.Lane)
		c.blocked[p] = lane
	}
	one := newSendGroup(c)
	one.add(receipt)
	lane.Do(0, func() {
		defer c.blockedNow.Add(-size)
		if err := p.WaitRoom(c.ctx, 1); err != nil {
			one.Committed(err)
			return
		}
		one.append(p, batch)
	})
	return nil
}

// flush appends what was gathered, if anything.
func (g *sendGather) flush() {
	if group := g.group; group != nil {
		g.group = nil
		group.append(g.partition, g.builder.Batch())
	}
}

// sendGroup waits for one append and answers its messages. It is pooled.
type sendGroup struct {
	c        *connection
	messages int
	receipts []string // of those that asked for one
}

var sendGroups = sync.Pool{New: func() any { return new(sendGroup) }}

func newSendGroup(c *connection) *sendGroup {
	g := sendGroups.Get().(*sendGroup)
	g.c = c
	c.begin()
	return g
}

func (g *sendGroup) add(receipt string) {
	g.messages++
	if receipt != "" {
		g.receipts = append(g.receipts, receipt)
	}
}

func (g *sendGroup) append(p *destination.Partition, batch []byte) {
	if _, err := p.Send(batch, g); err != nil {
		g.Committed(err) // a log that refuses does not call it
	}
}

// Committed implements commitlog.Waiter: what is on disk is answered. What is not ends
// the connection.
func (g *sendGroup) Committed(err error) {
	c := g.c
	if err != nil {
		first := ""
		if len(g.receipts) > 0 {
			first = g.receipts[0]
		}
		c.fail(&refused{first, err})
	} else {
		for _, r := range g.receipts {
			c.receipt(r)
		}
	}
	g.forget()
}

// forget gives the group back.
func (g *sendGroup) forget() {
	c := g.c
	clear(g.receipts)
	g.c, g.messages, g.receipts = nil, 0, g.receipts[:0]
	sendGroups.Put(g)
	c.end()
}

// answer is a commitlog.Waiter that answers one frame other than SEND.
type answer struct {
	c       *connection
	receipt string
}

// waiter returns one, which must be called once.
func (c *connection) waiter(receipt string) *answer {
	c.begin()
	return &answer{c, receipt}
}

// Committed implements commitlog.Waiter.
func (a *answer) Committed(err error) {
	if err != nil {
		a.c.fail(&refused{a.receipt, err})
	} else {
		a.c.receipt(a.receipt)
	}
	a.c.end()
}

// beginTransaction handles a BEGIN.
func (c *connection) beginTransaction(f *frame.Frame) error {
	name := f.Get("transaction")
	switch {
	case name == "":
		return invalid("BEGIN without a transaction")
	case c.transactions[name] != nil:
		return fmt.Errorf("transaction %.80q: %w", name, session.ErrExists)
	}
	t, err := c.state.Begin()
	if err != nil {
		return err
	}
	c.transactions[name] = t
	c.receipt(f.Get("receipt"))
	return nil
}

// endTransaction handles a COMMIT or an ABORT.
func (c *connection) endTransaction(f *frame.Frame) error {
	name := f.Get("transaction")
	t := c.transactions[name]
	if t == nil {
		return fmt.Errorf("transaction %.80q: %w", name, session.ErrNotFound)
	}
	delete(c.transactions, name)
	c.sends.flush() // so that the order stays
	c.hold()
	end := t.Commit
	if f.Command == "ABORT" {
		end = t.Rollback
	}
	w := c.waiter(f.Get("receipt"))
	if err := end(w); err != nil {
		c.end()
		return err
	}
	return nil
}

// token is what names a delivery in ACK: its subscription's number and its own.
func token(subscription, delivery uint64) string {
	b := strconv.AppendUint(append(make([]byte, 0, 24), 'd'), subscription, 36)
	return string(strconv.AppendUint(append(b, '-'), delivery, 36))
}
