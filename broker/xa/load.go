package xa

import (
	"errors"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
)

// readBytes is how much is read at a time; a longer batch comes whole.
const readBytes = 1 << 20

// scan calls fn for each record of [from, to), and for those that share a batch
// with them.
func (c *Coordinator) scan(p *destination.Partition, from, to int64, fn func(*record.Record) error) error {
	var reader record.Reader
	var buf []byte
	for from < to {
		var err error
		buf, err = p.Read(from, readBytes, buf[:0])
		var damage *commitlog.DamagedError
		if errors.As(err, &damage) {
			c.o.Logger.Error("records of branches are lost", "offset", from, "error", err)
			if len(buf) == 0 {
				continue // behind the damage
			}
		} else if err != nil {
			return err
		}
		if len(buf) == 0 {
			return nil
		}
		for rest := buf; len(rest) > 0 && from < to; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return err
			}
			if err := reader.Reset(b, max(len(b), readBytes)); err != nil {
				return err
			}
			for reader.Next() {
				if err := fn(reader.Record()); err != nil {
					return err
				}
			}
			if err := reader.Err(); err != nil {
				return err
			}
			from = max(from, b.NextOffset())
		}
	}
	return nil
}

// load reads all branches: the last record of each counts.
func (c *Coordinator) load(p *destination.Partition) error {
	return c.scan(p, p.Start(), p.Stable(), func(r *record.Record) error {
		if err := c.loadRecord(r); err != nil {
			// One must not keep all others down.
			c.o.Logger.Error("branch not restored", "offset", r.Offset, "error", err)
		}
		return nil
	})
}

func (c *Coordinator) loadRecord(r *record.Record) error {
	x, err := parseKey(r.Key)
	if err != nil {
		return err
	}
	if r.Value == nil {
		delete(c.branches, x)
		return nil
	}
	e, err := parseValue(r.Value)
	if err != nil {
		return err
	}
	e.sends = nil
	c.last = max(c.last, e.id)
	c.branches[x] = &branch{entry: *e, xid: x, offset: r.Offset}
	return nil
}

// settle ends what cursors hold of branches that have ended.
func (c *Coordinator) settle() error {
	outcomes := map[uint64]*branch{}
	for _, b := range c.branches {
		outcomes[b.id] = b
	}
	var waiters []*waiter
	for id := range c.o.State.Cursors() {
		cursor, ok := c.o.State.Cursor(id)
		if !ok {
			continue
		}
		ended := false
		for _, hold := range cursor.Held() {
			if queue.HeldByUnit(hold) { // the view knows
				continue
			}
			b := outcomes[hold]
			if b != nil && b.state == destination.BranchPrepared {
				continue
			}
			commit := b != nil && b.state != destination.BranchHeuristicRollback
			cursor.EndHold(hold, commit)
			ended = true
		}
		if !ended {
			continue
		}
		w := newWaiter(1)
		if err := c.o.State.Journal(id, cursor, w); err != nil {
			return err
		}
		waiters = append(waiters, w)
	}
	for _, w := range waiters {
		if err := w.wait(); err != nil {
			return err
		}
	}
	for x, b := range c.branches {
		if b.state == destination.BranchCommitting {
			if err := c.append(x, nil); err != nil {
				return err
			}
			delete(c.branches, x)
		}
	}
	return nil
}
