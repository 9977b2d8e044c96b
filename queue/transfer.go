package queue

import (
	"context"
	"fmt"
	"math"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// transferRecords bounds one call of Transfer that has to look at messages.
const transferRecords = 1 << 16

// TransferOptions say which available messages leave, and where they go.
type TransferOptions struct {
	Selector Selector // nil: all
	Max      int64    // messages; 0: as many as one call takes
	// To is where a message goes; nil deletes it. It is called without locks,
	// and its error ends the transfer.
	To func(r *record.Record) (*destination.Destination, error)
	// Redrive takes the marks of a dead letter off, and counts in Redriven.
	Redrive bool
	// MaxRedrives, if not 0, leaves what went back so often already where it is.
	MaxRedrives int
	// After is where another Transfer has ended.
	After Position
	// DryRun has it look, as far as there are messages, and move nothing.
	DryRun bool
}

// Transferred is what a Transfer has done.
type Transferred struct {
	Messages int64
	Skipped  int64    // of those that it has looked at, for MaxRedrives
	More     bool     // a bound was reached
	Next     Position // and where to go on then
}

// Transfer purges or moves available messages: what is delivered and not
// settled, and what is scheduled, stays. Each message is in one place or the
// other at any time. It returns when that is on disk.
//
// If ctx ends, what is under way goes on, and is not counted.
func (v *View) Transfer(ctx context.Context, o TransferOptions) (Transferred, error) {
	if o.Max <= 0 {
		o.Max = math.MaxInt64
	}
	if o.Selector == nil && o.To == nil && !o.DryRun {
		return v.purge(ctx, o.Max)
	}
	if !o.DryRun {
		o.Max = min(o.Max, transferRecords)
	}
	v.mu.Lock()
	parts := v.parts
	v.mu.Unlock()
	var done Transferred
	done.Next = make(Position, len(parts))
	copy(done.Next, o.After)
	for i, p := range parts {
		t := transfer{v: v, p: p, o: &o, done: &done}
		rest, err := t.all(ctx, &done.Next[i])
		if err != nil || rest {
			done.More = true
			return done, err
		}
	}
	return done, nil
}

// purge archives everything that is available, without looking at it.
func (v *View) purge(ctx context.Context, limit int64) (did Transferred, err error) {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return did, v.closedError()
	}
	for _, p := range v.parts {
		purged, rest := p.purge(limit - did.Messages)
		did.Messages += purged
		did.More = did.More || rest
		if purged > 0 {
			v.touch(p)
		}
	}
	v.counters.purged += did.Messages
	done := newSignal()
	err = v.journalTouched(done)
	v.trigger()
	v.mu.Unlock()
	if err != nil {
		return Transferred{More: did.More}, fmt.Errorf("purge: %w", err)
	}
	return did, done.wait(ctx)
}

func (p *part) purge(limit int64) (n int64, more bool) {
	p.scanAll()
	var waiting intervals
	for from, to := range p.cursor.UndoneRanges(p.cursor.Floor(), p.cursor.Next()) {
		if n == limit {
			more = true
			break
		}
		to = from + min(to-from, limit-n)
		waiting = append(waiting, interval{from, to})
		n += to - from
	}
	for _, w := range waiting {
		p.cursor.ArchiveRange(w.from, w.to)
	}
	p.dropLanes()
	return n, more
}

// transfer is one Transfer on one partition.
type transfer struct {
	v      *View
	p      *part
	o      *TransferOptions
	done   *Transferred
	buf    []byte
	reader record.Reader
}

// all goes through the partition once, from *offset on, which it moves behind
// what it has looked at. It is true if it ends because there were enough.
func (t *transfer) all(ctx context.Context, offset *int64) (enough bool, err error) {
	*offset = max(*offset, t.p.p.Start())
	stable := t.p.p.Stable()
	for *offset < stable {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		available, err := t.read(offset)
		if err != nil {
			return false, err
		}
		if len(t.buf) == 0 {
			break
		}
		moves, next, err := t.choose(available, *offset, t.o.Max-t.done.Messages)
		if err != nil {
			return false, err
		}
		if t.o.DryRun {
			t.done.Messages += int64(len(moves))
		} else if err := t.leave(ctx, moves); err != nil {
			return false, err
		}
		stuck := next <= *offset
		*offset = max(*offset, next)
		if t.done.Messages >= t.o.Max && next < stable {
			return true, nil
		}
		if stuck {
			break
		}
	}
	return false, nil
}

// read reads the next messages, from the first available one at or above
// *offset on, and says what of them is available.
func (t *transfer) read(offset *int64) (available intervals, err error) {
	v := t.v
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, v.closedError()
	}
	c, stable := t.p.cursor, t.p.p.Stable()
	t.p.sends.forget()
	produced := t.p.p.Log().Produced()
	if !produced {
		c.ScanTo(stable)
	}
	*offset = max(*offset, t.p.p.Start())
	start := c.Next()
	for from := range c.UndoneRanges(*offset, start) {
		start = from
		break
	}
	*offset = start
	if t.buf, err = t.p.p.Read(start, readBytes, t.buf[:0]); err != nil && len(t.buf) == 0 {
		return nil, fmt.Errorf("read messages to move: %w", err)
	}
	end := start
	for rest := t.buf; len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Next(rest); err != nil || b.NextOffset() > stable {
			break
		}
		if produced && b.NextOffset() > c.Next() && !t.p.look(b) {
			break
		}
		end = b.NextOffset()
	}
	t.p.offerEnded()
	for from, to := range c.UndoneRanges(start, end) {
		available = append(available, interval{from, to})
	}
	return available, nil
}

// choose says which of the messages that were read are to leave, at most
// limit, and where to go on.
func (t *transfer) choose(available intervals, from, limit int64) (moves []move, next int64, err error) {
	next = from
	for rest := t.buf; len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Next(rest); err != nil {
			break
		}
		if b.IsControl() || t.reader.Reset(b, maxDecompressed) != nil {
			next = b.NextOffset()
			continue
		}
		for t.reader.Next() {
			r := t.reader.Record()
			for len(available) > 0 && available[0].to <= r.Offset {
				available = available[1:]
			}
			if len(available) == 0 || r.Offset < available[0].from || t.o.Selector != nil && !t.o.Selector.Match(r) {
				continue
			}
			if int64(len(moves)) == limit {
				return moves, r.Offset, nil
			}
			if t.o.MaxRedrives > 0 && redriven(r) >= t.o.MaxRedrives {
				t.done.Skipped++
				continue
			}
			m := move{offset: r.Offset, kind: moveWished, redrive: t.o.Redrive}
			if t.o.To != nil {
				if m.to, err = t.o.To(r); err != nil {
					return nil, from, err
				}
			}
			moves = append(moves, m)
		}
		next = b.NextOffset()
	}
	return moves, next, nil
}

// leave has messages leave, as far as they are still available, and waits.
func (t *transfer) leave(ctx context.Context, moves []move) error {
	if len(moves) == 0 {
		return nil
	}
	n := int64(0)
	done := newSignal()
	all := newJoint(len(moves)+1, done)
	t.v.mu.Lock()
	if t.v.closed {
		t.v.mu.Unlock()
		return t.v.closedError()
	}
	for _, m := range moves {
		m.done = all
		if t.p.leave(m) {
			n++
		} else {
			all.Committed(nil)
		}
	}
	all.Committed(nil)
	t.v.mu.Unlock()
	t.v.trigger()
	if err := done.wait(ctx); err != nil {
		return fmt.Errorf("move messages: %w", err)
	}
	t.done.Messages += n
	return nil
}

// signal is a waiter that one goroutine waits for.
type signal struct{ done chan error }

var _ commitlog.Waiter = signal{}

func newSignal() signal { return signal{make(chan error, 1)} }

// Committed ends the wait.
func (s signal) Committed(err error) { s.done <- err }

func (s signal) wait(ctx context.Context) error {
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
