package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/classic"
	"github.com/polylog-mq/polylog/broker/group/consumer"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// write is one append of a group's, until it is known what has become of it.
type write struct {
	e *entry
	// apply takes it into the group, which is locked, in the order of the
	// appends; nil if there is nothing to do.
	apply func(err error)
	// answer is called by the committer, which it must not block.
	answer func(err error)
	// touches are the offsets that it changes, for who deletes them all.
	touches []partition

	base   int64         // the offset of its first record
	landed chan struct{} // closed when err is known
	done   bool          // guarded by e.landing, as err is until landed is closed
	err    error
}

// Committed is called by the log.
func (w *write) Committed(err error) {
	w.e.landing.Lock()
	w.done, w.err = true, err
	w.e.landing.Unlock()
	if w.answer != nil {
		w.answer(err)
	}
	close(w.landed)
}

// wait waits until it is durable.
func (w *write) wait() error {
	<-w.landed
	return w.err
}

// begin announces a write to the log; submit appends it with w as the Waiter.
// e.mu is held.
func (c *Coordinator) begin(w *write, submit func(p *destination.Partition, w commitlog.Waiter) (int64, error)) error {
	p, err := c.partitionOf(w.e.id)
	if err != nil {
		return err
	}
	w.landed = make(chan struct{})
	w.e.flying = append(w.e.flying, w)
	if w.base, err = submit(p, w); err != nil {
		w.e.flying = w.e.flying[:len(w.e.flying)-1] // the lock is held: it is the last
	}
	return err
}

// append appends records as one batch. e.mu is held.
func (c *Coordinator) append(w *write, records []consumer.Record) error {
	var b record.Builder
	now := c.o.Now().UnixMilli()
	for _, r := range records {
		b.Append(now, r.Key, r.Value, nil)
	}
	return c.begin(w, func(p *destination.Partition, w commitlog.Waiter) (int64, error) {
		return p.Append(b.Batch(), w)
	})
}

// keep appends what a KIP-848 or share group's machine has decided. The write
// to wait for is nil if all that the machine knows is durable. e.mu is held.
func (c *Coordinator) keep(e *entry, records []consumer.Record) (*write, error) {
	if len(records) == 0 {
		if n := len(e.flying); n > 0 {
			return e.flying[n-1], nil // an answer may tell what an earlier request has led to
		}
		return nil, nil
	}
	w := &write{e: e}
	w.apply = func(err error) {
		if err != nil {
			c.broken(e, err)
		}
	}
	if err := c.append(w, records); err != nil {
		c.broken(e, err)
		return nil, err
	}
	return w, nil
}

// broken remembers that a machine has to be read again. e.mu is held.
func (c *Coordinator) broken(e *entry, err error) {
	e.failed = true
	c.o.Logger.Error("write group", "group", e.id, "error", err)
}

// settle records a classic group, if it has changed, and gives the answers when
// that is durable. e.mu is held.
func (c *Coordinator) settle(e *entry, r classic.Result) {
	type delivery struct {
		to       chan kmsg.Response
		response kmsg.Response
	}
	deliveries := make([]delivery, 0, len(r.Answers))
	for _, a := range r.Answers {
		if to := e.waiting[a.Ticket]; to != nil {
			delete(e.waiting, a.Ticket)
			deliveries = append(deliveries, delivery{to, a.Response})
		}
	}
	give := func(err error) { // the channels have room
		for _, d := range deliveries {
			if err != nil {
				refuse(d.response, codeOf(err))
			}
			d.to <- d.response
		}
	}
	if !r.Changed {
		give(nil)
		return
	}
	value := e.classic.Record()
	w := &write{e: e, answer: give}
	w.apply = func(err error) {
		if err != nil {
			c.unrecorded(e, err)
		}
	}
	if err := c.append(w, []consumer.Record{{Key: classicKey(e.id), Value: value.AppendTo(nil)}}); err != nil {
		give(err)
		c.unrecorded(e, err)
	}
}

// unrecorded has the members of a classic group join again. e.mu is held.
func (c *Coordinator) unrecorded(e *entry, err error) {
	c.o.Logger.Error("write group", "group", e.id, "error", err)
	if e.classic != nil {
		c.settle(e, e.classic.Failed(c.o.Now()))
	}
}

// refuse puts an error code into a response that was meant to succeed.
func refuse(r kmsg.Response, code int16) {
	switch r := r.(type) {
	case *kmsg.JoinGroupResponse:
		r.ErrorCode = code
	case *kmsg.SyncGroupResponse:
		r.ErrorCode, r.MemberAssignment = code, []byte{}
	}
}

// enter takes in what has landed. If the group cannot be used just now, it
// returns a write to wait for, without the lock, or an error. e.mu is held.
func (c *Coordinator) enter(e *entry) (wait *write, err error) {
	for {
		w := e.nextLanded()
		if w == nil {
			break
		}
		if w.apply != nil {
			w.apply(w.err)
		}
	}
	switch {
	case e.gone:
		return nil, nil
	case e.deleting != nil:
		return e.deleting, nil
	case !e.failed:
		return nil, nil
	case len(e.flying) > 0:
		return e.flying[len(e.flying)-1], nil
	}
	return nil, c.reload(e)
}

// nextLanded takes the first write out, if its outcome is known.
func (e *entry) nextLanded() *write {
	if len(e.flying) == 0 {
		return nil
	}
	e.landing.Lock()
	defer e.landing.Unlock()
	w := e.flying[0]
	if !w.done {
		return nil
	}
	e.flying[0] = nil
	e.flying = e.flying[1:]
	return w
}

// touched are all partitions of which the group has, or may have, offsets on disk.
func (e *entry) touched() []partition {
	seen := map[partition]bool{}
	for p := range e.offsets {
		seen[p] = true
	}
	for _, w := range e.flying {
		for _, p := range w.touches {
			seen[p] = true
		}
	}
	for _, offsets := range e.pending {
		for p := range offsets {
			seen[p] = true
		}
	}
	all := make([]partition, 0, len(seen))
	for p := range seen {
		all = append(all, p)
	}
	slices.SortFunc(all, partition.compare)
	return all
}
