package destination

import (
	"encoding/binary"
)

// The format is drawn in docs/format/delivery-state.md.
const (
	kindDelta    = 1
	kindSnapshot = 2
	kindPart     = 3 // a piece of a snapshot that is too long for one record

	formatVersion = 1

	// maxDelta bounds a delta that nobody takes, bytes. Beyond it the next
	// TakeDelta is a snapshot.
	maxDelta = 256 << 10
	// keptDelta is how much room for the next delta an idle cursor keeps, bytes.
	keptDelta = 4 << 10
)

// op is one kind of change.
type op uint8

const (
	opAcquire     op = iota + 1 // range: count + 1, no longer scheduled
	opAcknowledge               // range: done
	opArchive                   // range: done
	opPass                      // range: done
	opUncount                   // range: count - 1
	opSchedule                  // range, due
	opHold                      // range, transaction
	opCommitHold                // transaction
	opAbortHold                 // transaction
	opHoldSend                  // range, producer
	opCommitSend                // producer
	opAbortSend                 // producer
	opSeek                      // offset: forget everything, start there
	opDone                      // range: done, counted elsewhere (snapshot)
	opCount                     // range, count (snapshot)
	opEnd                       // not an op

	opMask    = 0x1f
	flagOne   = 0x80 // the range is one offset, its length is left out
	flagAfter = 0x40 // the range begins where the one before ended
)

// hasRange says whether a range follows the op.
func (o op) hasRange() bool {
	switch o {
	case opCommitHold, opAbortHold, opCommitSend, opAbortSend:
		return false
	}
	return true
}

// hasArgument says whether a number follows.
func (o op) hasArgument() bool {
	switch o {
	case opSchedule, opHold, opHoldSend, opCount:
		return true
	}
	return !o.hasRange()
}

// delta collects changes as bytes. Consecutive ranges of one op become one.
//
// Acquisitions and acknowledgements alternate when a queue is busy, so each
// has an open range of its own that is written late. That is right because an
// acknowledged message is never acquired again: the two commute. Everything
// else closes both first.
type delta struct {
	ops          opWriter
	acquire, ack interval
	next         int64 // as of the last TakeDelta
	overflow     bool  // too long: the next TakeDelta is a snapshot
}

func (d *delta) emit(o op, from, to int64, argument uint64) {
	switch o {
	case opAcquire:
		d.extend(&d.acquire, opAcquire, from, to)
	case opAcknowledge:
		d.extend(&d.ack, opAcknowledge, from, to)
	default:
		d.closeRanges()
		d.write(o, from, to, argument)
	}
}

func (d *delta) extend(open *interval, o op, from, to int64) {
	if open.to == from && open.from < open.to {
		open.to = to
		return
	}
	// Of the two open ranges only this one is closed: see the type.
	d.closeRange(open, o)
	*open = interval{from, to}
}

func (d *delta) closeRange(open *interval, o op) {
	if open.from < open.to {
		d.write(o, open.from, open.to, 0)
	}
	*open = interval{}
}

func (d *delta) closeRanges() {
	d.closeRange(&d.acquire, opAcquire)
	d.closeRange(&d.ack, opAcknowledge)
}

func (d *delta) write(o op, from, to int64, argument uint64) {
	if d.overflow {
		return
	}
	if len(d.ops.buf) > maxDelta {
		d.overflow = true
		d.ops.reset()
		return
	}
	d.ops.write(o, from, to, argument)
}

func (d *delta) reset() {
	d.ops.reset()
	d.acquire, d.ack, d.overflow = interval{}, interval{}, false
}

func (d *delta) empty() bool {
	return len(d.ops.buf) == 0 && d.acquire.to == 0 && d.ack.to == 0 && !d.overflow
}

// opWriter appends ops to buf. Each range is written relative to the end of
// the one before, each due time relative to the one before.
type opWriter struct {
	buf       []byte
	end, time int64
}

func (w *opWriter) reset() { w.buf, w.end, w.time = w.buf[:0], 0, 0 }

func (w *opWriter) write(o op, from, to int64, argument uint64) {
	code := byte(o)
	if o.hasRange() {
		if to-from == 1 {
			code |= flagOne
		}
		if from == w.end {
			code |= flagAfter
		}
	}
	w.buf = append(w.buf, code)
	if o.hasRange() {
		if code&flagAfter == 0 {
			w.buf = binary.AppendVarint(w.buf, from-w.end)
		}
		if code&flagOne == 0 {
			w.buf = binary.AppendUvarint(w.buf, uint64(to-from-1))
		}
		w.end = to
	}
	switch {
	case o == opSchedule:
		w.buf = binary.AppendVarint(w.buf, int64(argument)-w.time)
		w.time = int64(argument)
	case o.hasArgument():
		w.buf = binary.AppendUvarint(w.buf, argument)
	}
}

// Dirty says whether TakeDelta has something to say.
func (c *Cursor) Dirty() bool { return !c.delta.empty() || c.delta.next != c.next }

// TakeDelta appends to dst what has changed since it was called last, and
// nothing if nothing has. What it returns must be applied or journaled in
// order; if one is lost, only a snapshot helps.
func (c *Cursor) TakeDelta(dst []byte) []byte {
	if !c.Dirty() {
		return dst
	}
	if c.delta.overflow {
		dst = c.AppendSnapshot(dst)
	} else {
		c.delta.closeRanges()
		dst = append(c.appendHeader(dst), c.delta.ops.buf...)
	}
	c.forgetDelta()
	return dst
}

// appendHeader appends a delta without changes.
func (c *Cursor) appendHeader(dst []byte) []byte {
	dst = append(dst, kindDelta, formatVersion)
	dst = binary.AppendUvarint(dst, uint64(c.next))
	return binary.AppendUvarint(dst, c.acquisition)
}

// forgetDelta is called when the changes so far are written otherwise.
func (c *Cursor) forgetDelta() {
	c.delta.reset()
	if cap(c.delta.ops.buf) > keptDelta {
		c.delta.ops.buf = nil
	}
	c.delta.next = c.next
}

// AppendSnapshot appends the whole state to dst, except who has acquired what:
// whoever reads it back finds that available, with its delivery count.
func (c *Cursor) AppendSnapshot(dst []byte) []byte {
	dst = append(dst, kindSnapshot, formatVersion)
	for _, n := range [...]int64{
		c.stats.Start, c.floor, c.next, int64(c.acquisition),
		c.stats.Acknowledged, c.stats.Archived, c.stats.Passed,
	} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	w := opWriter{buf: dst}
	c.done.each(c.floor, c.next, func(from, to int64) bool {
		w.write(opDone, from, to, 0)
		return true
	})
	for i := range c.counts.levels {
		l := &c.counts.levels[i]
		l.set.each(c.floor, c.next, func(from, to int64) bool {
			w.write(opCount, from, to, uint64(l.count))
			return true
		})
	}
	// Counts first: what is scheduled or held takes its count with it.
	for p := (place{}); c.runs.valid(p); p = c.runs.next(p) {
		if r := c.runs.at(p); r.count > 0 {
			w.write(opCount, r.from, r.to, uint64(r.count))
		}
	}
	for p := (place{}); c.runs.valid(p); p = c.runs.next(p) {
		switch r := c.runs.at(p); r.state {
		case scheduled:
			w.write(opSchedule, r.from, r.to, uint64(r.until))
		case held:
			w.write(opHold, r.from, r.to, r.owner)
		case heldSend:
			w.write(opHoldSend, r.from, r.to, r.owner)
		}
	}
	return w.buf
}
