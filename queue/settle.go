package queue

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// maxPartial bounds a span, in records, of which a part may be settled though
// another part is stale.
const maxPartial = 1 << 16

// Settle ends deliveries of the holder h. w, if not nil, is told when the
// outcome is on disk.
//
// If it returns an error, w is not called, and what could be settled is
// settled all the same. A *destination.StaleTokenError names the first
// delivery that was not h's newest of its message (Q1); other errors are
// destination.ErrClosed, ErrInvalid, and those of the log.
func (v *View) Settle(h destination.Holder, spans []Span, o Outcome, w commitlog.Waiter) error {
	if len(o.Reason) > maxReason {
		o.Reason = strings.ToValidUTF8(o.Reason[:maxReason], "")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return v.closedError()
	}
	s := settlement{v: v, h: h, outcome: o}
	if c := v.holders[h]; c != nil {
		s.locked = c.lockMS > 0
	}
	for i := range spans {
		s.span(&spans[i])
	}
	c := v.holders[h]
	if c != nil {
		c.settles(s.settled)
	}
	if o.Kind != Acknowledge || c != nil && c.limit > 0 || v.first.Room().Wanted() {
		v.trigger()
	}
	if s.err != nil {
		w = nil
	}
	if len(s.rejected) == 0 {
		return errors.Join(s.err, v.journalTouched(w))
	}
	w, all := s.reject(w)
	err := v.journalTouched(w)
	if err != nil && all != nil {
		all.mute()
	}
	return errors.Join(s.err, err)
}

// settlement is one call of Settle.
type settlement struct {
	v        *View
	h        destination.Holder
	locked   bool // h has a lock
	outcome  Outcome
	settled  int64
	rejected []rejected
	err      error // the first
}

// rejected is a message that is on its way to the dead letter destination.
type rejected struct {
	p    *part
	move move
}

func (s *settlement) span(span *Span) {
	if span.Partition < 0 || int(span.Partition) >= len(s.v.parts) || span.Count <= 0 || span.Offset < 0 {
		s.fail(fmt.Errorf("settle on %q: %w: partition %d, %d records", s.v.d.Name, destination.ErrInvalid, span.Partition, span.Count))
		return
	}
	p := s.v.parts[span.Partition]
	to := span.Offset + int64(span.Count)
	err := s.settle(p, span.Offset, to, span.Acquisition)
	if err == nil {
		s.done(p, int64(span.Count))
		return
	}
	s.fail(err)
	if span.Count == 1 || span.Count > maxPartial {
		return
	}
	for offset := span.Offset; offset < to; offset++ {
		if s.settle(p, offset, offset+1, span.Acquisition+uint64(offset-span.Offset)) == nil {
			s.done(p, 1)
		}
	}
}

func (s *settlement) done(p *part, records int64) {
	s.settled += records
	if s.locked {
		p.locked -= records
	}
	s.v.touch(p)
}

func (s *settlement) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// settle settles all of [from, to), or nothing.
func (s *settlement) settle(p *part, from, to int64, first uint64) error {
	switch s.outcome.Kind {
	case Acknowledge:
		err := p.cursor.AcknowledgeRange(from, to, first, s.h)
		if err == nil {
			s.v.counters.acknowledged += to - from
		}
		return err
	case Release:
		return s.release(p, from, to, first)
	case Reject:
		return s.take(p, from, to, first)
	}
	return fmt.Errorf("%w: outcome %d", destination.ErrInvalid, s.outcome.Kind)
}

// release gives [from, to) back, now or later.
func (s *settlement) release(p *part, from, to int64, first uint64) error {
	v, o := s.v, &s.outcome
	if err := p.cursor.CheckRange(from, to, first, s.h); err != nil {
		return err
	}
	uniform := o.CountBack || v.maxDeliveries() == 0
	if o.Delay < 0 && v.settings.RedeliveryDelay > 0 && !o.CountBack {
		uniform = false
	}
	if !uniform {
		for offset := from; offset < to; offset++ {
			s.releaseOne(p, offset, first+uint64(offset-from))
		}
		return nil
	}
	due := v.dueAfter(o.Delay)
	if err := p.cursor.ReleaseRange(from, to, first, s.h, due, o.CountBack); err != nil {
		return err
	}
	if due == 0 {
		p.giveBack(from, to)
	}
	return nil
}

// releaseOne gives back one message that s.h holds, or has it leave for the
// dead letter destination if it was delivered as often as it may.
func (s *settlement) releaseOne(p *part, offset int64, acquisition uint64) {
	due, dead := int64(0), p.exhausted(offset)
	if !dead {
		delay := s.outcome.Delay
		if delay < 0 {
			delay = s.v.settings.RedeliveryAfter(p.cursor.Count(offset), offset)
		}
		due = s.v.dueAfter(delay)
	}
	if err := p.cursor.ReleaseRange(offset, offset+1, acquisition, s.h, due, false); err != nil {
		panic("queue: a checked token is stale: " + err.Error())
	}
	switch {
	case dead:
		p.leaveDead(offset, reasonDeliveries, s.outcome.Reason)
	case due == 0:
		p.giveBack(offset, offset+1)
	}
}

// take takes [from, to) from its holder, for the dead letter destination.
func (s *settlement) take(p *part, from, to int64, first uint64) error {
	if err := p.cursor.CheckRange(from, to, first, s.h); err != nil {
		return err
	}
	for offset := from; offset < to; offset++ {
		count := p.cursor.Count(offset)
		// The delivery that is rejected counts; the mover's own does not.
		if err := p.cursor.ReleaseRange(offset, offset+1, first+uint64(offset-from), s.h, 0, true); err != nil {
			panic("queue: a checked token is stale: " + err.Error())
		}
		reason := s.outcome.Reason
		if reason == "" {
			reason = reasonRejected
		}
		number, _, _ := p.cursor.Acquire(offset, mover, 0)
		s.rejected = append(s.rejected, rejected{p, move{offset: offset, acquisition: number, count: count, reason: reason, kind: moveDead}})
	}
	return nil
}

// reject hands what was rejected to the movers. The waiter that comes back is
// to be told when the rest is on disk; w is told when all of it is.
func (s *settlement) reject(w commitlog.Waiter) (rest commitlog.Waiter, all *joint) {
	if w != nil {
		all = newJoint(len(s.rejected)+1, w)
		rest = all
	}
	for i := range s.rejected {
		r := &s.rejected[i]
		r.move.done = all
		r.p.moves = append(r.p.moves, r.move)
	}
	return rest, all
}

// dueAfter is now and a delay, in ms, or 0 without one.
func (v *View) dueAfter(delay time.Duration) int64 {
	if delay <= 0 {
		return 0
	}
	return v.now() + max(delay.Milliseconds(), 1)
}

// journalTouched journals the cursors that were touched and has w told when
// all of it is on disk. On an error w is not called.
func (v *View) journalTouched(w commitlog.Waiter) (err error) {
	touched := v.touched
	v.touched = touched[:0]
	for _, p := range touched {
		p.touched = false
	}
	if len(touched) == 0 {
		if w != nil {
			w.Committed(nil)
		}
		return nil
	}
	if len(touched) == 1 {
		return touched[0].journal(w)
	}
	var all *joint
	if w != nil {
		all = newJoint(len(touched)+1, w)
		defer func() {
			if err != nil {
				all.mute()
			}
			all.Committed(nil)
		}()
	}
	for _, p := range touched {
		var part commitlog.Waiter
		if all != nil {
			part = all
		}
		if e := p.journal(part); e != nil {
			if err == nil {
				err = e
			}
			if all != nil {
				all.Committed(e)
			}
		}
	}
	return err
}

// joint tells one waiter when several parts are done, with the first error.
type joint struct {
	next  commitlog.Waiter
	left  atomic.Int64
	err   atomic.Pointer[error]
	muted atomic.Bool
}

func newJoint(parts int, next commitlog.Waiter) *joint {
	j := &joint{next: next}
	j.left.Store(int64(parts))
	return j
}

// mute has the waiter never be called.
func (j *joint) mute() { j.muted.Store(true) }

// Committed ends one part.
func (j *joint) Committed(err error) {
	if err != nil {
		j.err.CompareAndSwap(nil, &err)
	}
	if j.left.Add(-1) > 0 || j.muted.Load() {
		return
	}
	if e := j.err.Load(); e != nil {
		err = *e
	} else {
		err = nil
	}
	j.next.Committed(err)
}
