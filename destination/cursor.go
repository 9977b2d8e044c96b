package destination

import (
	"errors"
	"fmt"
	"iter"
)

// Holder is who has acquired a message: a consumer of a session, or a lock
// holder without a session. It is unique within a broker's life.
type Holder uint64

// anyHolder stands for a settlement that is checked by its number alone.
const anyHolder = ^Holder(0)

// ErrStaleToken is returned for a settlement whose delivery is not the newest
// of its message, or was settled before. Errors that wrap it are *StaleTokenError.
var ErrStaleToken = errors.New("stale delivery token")

// StaleTokenError names the first record that the token does not fit.
type StaleTokenError struct {
	Offset      int64
	Acquisition uint64
}

// Error names offset and acquisition number.
func (e *StaleTokenError) Error() string {
	return fmt.Sprintf("stale delivery token: offset %d, acquisition %d", e.Offset, e.Acquisition)
}

// Unwrap is ErrStaleToken.
func (e *StaleTokenError) Unwrap() error { return ErrStaleToken }

// CursorStats counts records: by state, between Floor and Next, and, from
// where the cursor started, how they were done. At all times (Q5)
//
//	Next - Start = Available + Acquired + Scheduled + Held + HeldSends + Acknowledged + Archived + Passed
type CursorStats struct {
	Available, Acquired, Scheduled, Held, HeldSends int64
	Acknowledged, Archived, Passed                  int64
	DoneAboveFloor                                  int64 // part of the three before
	Start                                           int64 // the first offset that was counted
}

// Cursor is one subscription's state on one partition.
//
// Below the floor everything is done; from Next on nothing was looked at. In
// between an offset is in exactly one place: in done, in a run (acquired,
// scheduled, held), or in neither, and then it is available. Memory is spent
// on runs and on what is done out of order, not on what waits.
//
// It is pure: no clock, no I/O, no lock. Its owner has the mutex. Times are
// unix milliseconds. All ranges are half-open, [from, to). Every change is
// also written into a delta, which TakeDelta hands over, so that the state can
// be built again elsewhere by Apply.
type Cursor struct {
	floor, next int64
	acquisition uint64 // number of the next acquisition
	done        offsetSet
	runs        runList
	counts      counts // of what is available
	owners      map[ownerKey]owned
	locks       alarms // of acquired runs
	schedules   alarms // of scheduled runs
	stats       CursorStats
	delta       delta
}

// NewCursor is a cursor that has done everything below start and seen nothing else.
func NewCursor(start int64) *Cursor {
	start = max(start, 0)
	c := &Cursor{floor: start, next: start, acquisition: 1, owners: map[ownerKey]owned{}}
	c.stats.Start = start
	c.delta.next = start
	return c
}

// Floor is the offset below which everything is done.
func (c *Cursor) Floor() int64 { return c.floor }

// Next is the first offset that was never looked at.
func (c *Cursor) Next() int64 { return c.next }

// BeginEpoch makes acquisition numbers of this leader epoch differ from those
// of all before, even from those that were never journaled (Q1).
func (c *Cursor) BeginEpoch(epoch int32) {
	c.acquisition = max(c.acquisition, uint64(uint32(epoch))<<32)
}

// Scan looks at offset and says whether it is available. At or above Next it
// moves Next past it; offsets that were skipped on the way are not in the log
// and are passed. Below Next, after recovery, it may be done or scheduled.
func (c *Cursor) Scan(offset int64) (fresh bool) {
	if offset >= c.next {
		c.reach(offset, offset+1)
		return true
	}
	return c.available(offset)
}

// ScanTo moves Next up to next; everything on the way becomes available.
func (c *Cursor) ScanTo(next int64) { c.next = max(c.next, next) }

// reach makes sure that [from, to) is below Next and passes what is skipped.
func (c *Cursor) reach(from, to int64) {
	if from > c.next {
		c.Pass(c.next, from)
	}
	c.next = max(c.next, to)
}

// available says whether offset, below Next, is neither done nor in a run.
func (c *Cursor) available(offset int64) bool {
	if offset < c.floor || c.done.contains(offset) {
		return false
	}
	_, found := c.runs.find(offset)
	return !found
}

// fresh says whether all of [from, to) are available and were never delivered.
func (c *Cursor) fresh(from, to int64) bool {
	if from >= c.next {
		return true
	}
	return from >= c.floor && c.done.nextPresent(from) >= to &&
		!c.runs.overlaps(from, to) && !c.counts.overlaps(from, to)
}

// Pass does with [from, to) what is not a message for anyone: control
// batches, aborted transactions, what compaction or retention has removed.
// What is acquired or acknowledged in a transaction stays so.
func (c *Cursor) Pass(from, to int64) {
	c.next = max(c.next, to)
	for from = max(from, c.floor); from < to; {
		end := c.looseEnd(from, to)
		if end > from {
			c.loosen(from, end)
			c.pass(from, end)
		}
		from = c.skipHeld(end, to)
	}
}

// looseEnd is the end of the stretch from offset on that nobody has acquired
// or acknowledged.
func (c *Cursor) looseEnd(offset, to int64) int64 {
	for p := c.runs.seek(offset); c.runs.valid(p); p = c.runs.next(p) {
		r := c.runs.at(p)
		if r.from >= to {
			break
		}
		if r.state == acquired || r.state == held {
			return max(r.from, offset)
		}
	}
	return to
}

// skipHeld is the end of the run that holds offset.
func (c *Cursor) skipHeld(offset, to int64) int64 {
	if p, found := c.runs.find(offset); found && offset < to {
		return c.runs.at(p).to
	}
	return max(offset, to)
}

// pass passes what of [from, to), which is in no run, is not done.
func (c *Cursor) pass(from, to int64) {
	c.eachUndone(from, to, func(from, to int64) {
		c.finish(from, to)
		c.stats.Passed += to - from
		c.delta.emit(opPass, from, to, 0)
	})
}

// loosen makes available what of [from, to) is in a run.
func (c *Cursor) loosen(from, to int64) {
	for {
		p := c.runs.seek(from)
		if !c.runs.valid(p) || c.runs.at(p).from >= to {
			return
		}
		r := c.take(p, from, to)
		c.counts.put(r.from, r.to, r.count)
	}
}

// eachUndone calls f with the stretches of [from, to) that are not done. f may
// finish them.
func (c *Cursor) eachUndone(from, to int64, f func(from, to int64)) {
	for from < to {
		start := c.done.nextAbsent(max(from, c.floor))
		if start >= to {
			return
		}
		from = min(c.done.nextPresent(start), to)
		f(start, from)
	}
}

// finish puts [from, to), which is in no run and not done, behind the floor or
// into done. In order it touches no set.
func (c *Cursor) finish(from, to int64) {
	if len(c.counts.levels) > 0 {
		c.counts.drop(from, to)
	}
	if from != c.floor {
		c.done.add(from, to)
		return
	}
	c.floor = to
	if c.done.empty() {
		return
	}
	if c.floor = c.done.nextAbsent(to); c.floor > to {
		c.done.remove(to, c.floor)
	}
}

// Archive is the end of a message that will not be delivered (again): it is
// expired or in the dead letter destination. It may be available, acquired by
// anyone, or scheduled; otherwise the answer is false and nothing is changed.
func (c *Cursor) Archive(offset int64) (ok bool) { return c.ArchiveRange(offset, offset+1) }

// ArchiveRange archives all of [from, to), or nothing.
func (c *Cursor) ArchiveRange(from, to int64) (ok bool) {
	if from < c.floor || from >= to || c.done.nextPresent(from) < to {
		return false
	}
	for p := c.runs.seek(from); c.runs.valid(p) && c.runs.at(p).from < to; p = c.runs.next(p) {
		if s := c.runs.at(p).state; s == held || s == heldSend {
			return false
		}
	}
	c.reach(from, to)
	c.loosen(from, to)
	c.finish(from, to)
	c.stats.Archived += to - from
	c.delta.emit(opArchive, from, to, 0)
	return true
}

// Schedule keeps an available message back until due (delivery delay). It is
// false, and nothing is changed, if the message is not available.
func (c *Cursor) Schedule(offset, due int64) (ok bool) {
	if offset < c.next && !c.available(offset) {
		return false
	}
	c.reach(offset, offset+1)
	count, _ := c.counts.at(offset)
	c.counts.drop(offset, offset+1)
	c.track(run{from: offset, to: offset + 1, state: scheduled, until: due, count: count})
	c.delta.emit(opSchedule, offset, offset+1, uint64(due))
	return true
}

// Count is how often the message at offset was delivered; 0 if it is done.
func (c *Cursor) Count(offset int64) int {
	if p, found := c.runs.find(offset); found {
		return int(c.runs.at(p).count)
	}
	count, _ := c.counts.at(offset)
	return int(count)
}

// Undone are the available offsets of [from, to) below Next, ascending. The
// loop may acquire or settle the offset that it is given.
func (c *Cursor) Undone(from, to int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for start, end := range c.UndoneRanges(from, to) {
			for ; start < end; start++ {
				if !yield(start) {
					return
				}
			}
		}
	}
}

// UndoneRanges is Undone in ranges, for backlogs of any size.
func (c *Cursor) UndoneRanges(from, to int64) iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		for to = min(to, c.next); from < to; {
			from = c.done.nextAbsent(max(from, c.floor))
			p := c.runs.seek(from)
			if c.runs.valid(p) && c.runs.at(p).from <= from {
				from = c.runs.at(p).to
				continue
			}
			end := min(to, c.done.nextPresent(from))
			if c.runs.valid(p) {
				end = min(end, c.runs.at(p).from)
			}
			if from < end && !yield(from, end) {
				return
			}
			from = max(from, end)
		}
	}
}

// SeekTo forgets everything, also who holds what, and starts anew at offset.
// Acquisition numbers go on, so that old deliveries cannot be settled.
func (c *Cursor) SeekTo(offset int64) {
	c.seek(max(offset, 0))
	c.delta.reset()
	c.delta.emit(opSeek, c.floor, c.floor+1, 0)
}

func (c *Cursor) seek(offset int64) {
	c.floor, c.next = offset, offset
	c.done.clear()
	c.runs.clear()
	c.counts.clear()
	c.locks.clear()
	c.schedules.clear()
	clear(c.owners)
	c.stats = CursorStats{Start: offset}
}

// Stats counts what is where.
func (c *Cursor) Stats() CursorStats {
	s := c.stats
	s.DoneAboveFloor = c.done.size
	s.Available = c.next - c.floor - c.done.size - s.Acquired - s.Scheduled - s.Held - s.HeldSends
	return s
}
