package destination

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Errors of reading delivery state.
var (
	// ErrDeliveryState is returned for bytes that are not what a cursor writes.
	ErrDeliveryState = errors.New("delivery state is damaged")
	// ErrNewerFormat is returned for what a newer broker has written.
	ErrNewerFormat = errors.New("delivery state has a newer format")
)

// RestoreCursor is the cursor that wrote snapshot, with everything that was
// acquired available. ErrDeliveryState, ErrNewerFormat.
func RestoreCursor(snapshot []byte) (*Cursor, error) {
	if len(snapshot) > 0 && snapshot[0] != kindSnapshot {
		return nil, fmt.Errorf("%w: kind %d where a snapshot begins", ErrDeliveryState, snapshot[0])
	}
	c := NewCursor(0)
	if err := c.Apply(snapshot); err != nil {
		return nil, err
	}
	return c, nil
}

// Apply makes the changes that TakeDelta of another cursor has written; a
// snapshot replaces everything. The cursor must hold no acquisitions of its
// own. After an error, ErrDeliveryState or ErrNewerFormat, it is of no use.
func (c *Cursor) Apply(data []byte) error {
	r := opReader{buf: data}
	kind, version := r.byte(), r.byte()
	switch {
	case r.err != nil:
		return r.err
	case version > formatVersion:
		return fmt.Errorf("%w: version %d, this broker knows %d", ErrNewerFormat, version, formatVersion)
	case version == 0 || kind != kindDelta && kind != kindSnapshot:
		return fmt.Errorf("%w: kind %d, version %d", ErrDeliveryState, kind, version)
	}
	if kind == kindSnapshot {
		c.readSnapshot(&r)
	} else {
		c.readDelta(&r)
	}
	c.forgetDelta()
	return r.err
}

func (c *Cursor) readSnapshot(r *opReader) {
	start, floor, next := r.number(), r.number(), r.number()
	acquisition := r.uvarint()
	acknowledged, archived, passed := r.number(), r.number(), r.number()
	if r.err == nil && (floor > next || start > floor) {
		r.fail("start %d, floor %d, next %d", start, floor, next)
	}
	if r.err != nil {
		return
	}
	c.seek(floor)
	c.next, c.acquisition = next, acquisition
	c.stats = CursorStats{Start: start, Acknowledged: acknowledged, Archived: archived, Passed: passed}
	c.replay(r, opSchedule, opHold, opHoldSend, opDone, opCount)
	if r.err == nil && c.floor-start+c.done.size != acknowledged+archived+passed {
		r.fail("%d done, %d accounted for", c.floor-start+c.done.size, acknowledged+archived+passed)
	}
}

func (c *Cursor) readDelta(r *opReader) {
	next, acquisition := r.number(), r.uvarint()
	if r.err != nil {
		return
	}
	if len(r.buf) > 0 && op(r.buf[0]&opMask) == opSeek {
		_, from, _, _ := r.op(next + 1)
		if r.err != nil {
			return
		}
		c.seek(from)
	}
	if next < c.next {
		r.fail("next %d goes back from %d", next, c.next)
		return
	}
	c.next, c.acquisition = next, max(c.acquisition, acquisition)
	c.replay(r, opAcquire, opAcknowledge, opArchive, opPass, opUncount, opSchedule, opHold, opCommitHold,
		opAbortHold, opHoldSend, opCommitSend, opAbortSend)
}

// replay makes the changes that r still holds, if they are among allowed.
func (c *Cursor) replay(r *opReader, allowed ...op) {
	var mask uint32
	for _, o := range allowed {
		mask |= 1 << o
	}
	for r.err == nil && len(r.buf) > 0 {
		o, from, to, argument := r.op(c.next)
		if r.err == nil && mask&(1<<o) == 0 {
			r.fail("op %d is not expected here", o)
		}
		if r.err == nil {
			c.redo(o, from, to, argument)
		}
	}
}

// redo makes one change. Unlike the methods that wrote it, it finds nothing
// acquired, and it must survive changes that make no sense.
func (c *Cursor) redo(o op, from, to int64, argument uint64) {
	switch o {
	case opAcquire:
		c.loosen(from, to)
		c.eachUndone(from, to, func(from, to int64) { c.counts.add(from, to, 1) })
	case opUncount:
		c.counts.add(from, to, -1)
	case opCount:
		c.eachUndone(from, to, func(from, to int64) {
			c.counts.drop(from, to)
			c.counts.put(from, to, int32(min(argument, math.MaxInt32)))
		})
	case opAcknowledge:
		c.redoDone(from, to, &c.stats.Acknowledged)
	case opArchive:
		c.redoDone(from, to, &c.stats.Archived)
	case opPass:
		c.redoDone(from, to, &c.stats.Passed)
	case opDone:
		var counted int64 // in the snapshot's header
		c.redoDone(from, to, &counted)
	case opSchedule:
		c.redoTrack(from, to, run{state: scheduled, until: int64(argument)})
	case opHold:
		c.redoTrack(from, to, run{state: held, owner: argument})
	case opHoldSend:
		c.redoTrack(from, to, run{state: heldSend, owner: argument})
	case opCommitHold, opAbortHold:
		c.endHold(argument, o == opCommitHold, nil)
	case opCommitSend, opAbortSend:
		c.endSend(argument, o == opCommitSend, nil)
	}
}

func (c *Cursor) redoDone(from, to int64, total *int64) {
	c.loosen(from, to)
	c.eachUndone(from, to, func(from, to int64) {
		c.finish(from, to)
		*total += to - from
	})
}

func (c *Cursor) redoTrack(from, to int64, r run) {
	c.loosen(from, to)
	c.eachUndone(from, to, func(from, to int64) { c.trackCounted(from, to, r) })
}

// opReader reads what opWriter wrote. The first error stays.
type opReader struct {
	buf       []byte
	end, time int64
	err       error
}

func (r *opReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrDeliveryState}, args...)...)
	}
}

func (r *opReader) byte() byte {
	if r.err != nil || len(r.buf) == 0 {
		r.fail("cut short")
		return 0
	}
	b := r.buf[0]
	r.buf = r.buf[1:]
	return b
}

func (r *opReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.fail("bad varint")
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *opReader) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// maxOffset leaves room above every offset for the searches' none.
const maxOffset = math.MaxInt64 >> 1

// number is an offset or a count of offsets.
func (r *opReader) number() int64 {
	v := r.uvarint()
	if v > maxOffset {
		r.fail("number %d", v)
		return 0
	}
	return int64(v)
}

// op reads one change, whose range must end at limit or below.
func (r *opReader) op(limit int64) (o op, from, to int64, argument uint64) {
	code := r.byte()
	if o = op(code & opMask); r.err == nil && (o == 0 || o >= opEnd) {
		r.fail("op %d", o)
	}
	if o.hasRange() {
		from, to = r.readRange(code, limit)
	}
	switch {
	case r.err != nil:
	case o == opSchedule:
		r.time += r.varint()
		argument = uint64(r.time)
	case o.hasArgument():
		argument = r.uvarint()
	}
	return o, from, to, argument
}

func (r *opReader) readRange(code byte, limit int64) (from, to int64) {
	from, length := r.end, int64(1)
	if code&flagAfter == 0 {
		from += r.varint()
	}
	if code&flagOne == 0 {
		length += r.number()
	}
	if r.err == nil && (from < 0 || from > limit || length > limit-from) {
		r.fail("range of %d from %d beyond next %d", length, from, limit)
	}
	r.end = from + length
	return from, r.end
}
