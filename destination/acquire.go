package destination

import "slices"

// Acquire gives the available message at offset to h, until lockUntil (ms), or
// for as long as h lives if that is 0. The number is new, and count is how
// often the message has been delivered with this time. ok is false, and
// nothing is changed, if the message is not available.
func (c *Cursor) Acquire(offset int64, h Holder, lockUntil int64) (acquisition uint64, count int, ok bool) {
	var before int32
	if offset >= c.next {
		c.reach(offset, offset+1)
	} else {
		if !c.available(offset) {
			return 0, 0, false
		}
		if len(c.counts.levels) > 0 {
			before, _ = c.counts.at(offset)
			c.counts.drop(offset, offset+1)
		}
	}
	return c.acquire(offset, offset+1, h, lockUntil, before+1), int(before) + 1, true
}

// AcquireRange gives all of [from, to) to h; the message at from+i gets the
// number first+i, and it is the first delivery of each. ok is false, and
// nothing is changed, unless all are available and were never delivered.
// Offsets at or above Next are looked at on the way.
func (c *Cursor) AcquireRange(from, to int64, h Holder, lockUntil int64) (first uint64, ok bool) {
	if from >= to || !c.fresh(from, to) {
		return 0, false
	}
	c.reach(from, to)
	return c.acquire(from, to, h, lockUntil, 1), true
}

func (c *Cursor) acquire(from, to int64, h Holder, lockUntil int64, count int32) (first uint64) {
	first = c.acquisition
	c.acquisition += uint64(to - from)
	c.track(run{
		from: from, to: to, acquisition: first, owner: uint64(h),
		until: lockUntil, count: count, state: acquired,
	})
	c.delta.emit(opAcquire, from, to, 0)
	return first
}

// Check says whether h has the message at offset by this acquisition.
// ErrStaleToken.
func (c *Cursor) Check(offset int64, acquisition uint64, h Holder) error {
	return c.CheckRange(offset, offset+1, acquisition, h)
}

// CheckRange is Check for [from, to), acquired as first, first+1 and so on.
func (c *Cursor) CheckRange(from, to int64, first uint64, h Holder) error {
	p := c.runs.seek(from)
	for offset := from; offset < to; p = c.runs.next(p) {
		number := first + uint64(offset-from)
		if !c.runs.valid(p) {
			return &StaleTokenError{offset, number}
		}
		r := c.runs.at(p)
		if r.from > offset || r.state != acquired ||
			r.acquisition+uint64(offset-r.from) != number ||
			h != anyHolder && r.owner != uint64(h) {
			return &StaleTokenError{offset, number}
		}
		offset = r.to
	}
	return nil
}

// Acknowledge is the end of a message that its holder has dealt with.
// ErrStaleToken.
func (c *Cursor) Acknowledge(offset int64, acquisition uint64) error {
	return c.AcknowledgeRange(offset, offset+1, acquisition, anyHolder)
}

// AcknowledgeRange acknowledges all of [from, to), which h acquired as first,
// first+1 and so on, or nothing. ErrStaleToken.
func (c *Cursor) AcknowledgeRange(from, to int64, first uint64, h Holder) error {
	if err := c.CheckRange(from, to, first, h); err != nil || from >= to {
		return err
	}
	for offset := from; offset < to; {
		offset = c.take(c.runs.seek(offset), offset, to).to
	}
	c.finish(from, to)
	c.stats.Acknowledged += to - from
	c.delta.emit(opAcknowledge, from, to, 0)
	return nil
}

// Release gives a message back: available at once if due is 0, else scheduled
// for then (ms). With countBack it counts as never delivered. ErrStaleToken.
func (c *Cursor) Release(offset int64, acquisition uint64, due int64, countBack bool) error {
	return c.ReleaseRange(offset, offset+1, acquisition, anyHolder, due, countBack)
}

// ReleaseRange releases all of [from, to), which h acquired as first, first+1
// and so on, or nothing. ErrStaleToken.
func (c *Cursor) ReleaseRange(from, to int64, first uint64, h Holder, due int64, countBack bool) error {
	if err := c.CheckRange(from, to, first, h); err != nil {
		return err
	}
	for offset := from; offset < to; {
		r := c.take(c.runs.seek(offset), offset, to)
		c.release(r, due, countBack)
		offset = r.to
	}
	return nil
}

// release puts back what was taken from an acquired run. To be available again
// needs no record in the delta: after a crash everything acquired is.
func (c *Cursor) release(r run, due int64, countBack bool) {
	if countBack {
		r.count--
		c.delta.emit(opUncount, r.from, r.to, 0)
	}
	if due <= 0 {
		c.counts.put(r.from, r.to, r.count)
		return
	}
	c.track(run{from: r.from, to: r.to, state: scheduled, until: due, count: r.count})
	c.delta.emit(opSchedule, r.from, r.to, uint64(due))
}

// Extend moves the time at which the lock on a message expires; 0 is never.
// ErrStaleToken.
func (c *Cursor) Extend(offset int64, acquisition uint64, lockUntil int64) error {
	if err := c.Check(offset, acquisition, anyHolder); err != nil {
		return err
	}
	r := c.take(c.runs.seek(offset), offset, offset+1)
	r.until = lockUntil
	c.track(r)
	return nil
}

// ReleaseHolder gives back everything that h has acquired, because h is gone,
// and returns the offsets, ascending, which are available now. What h
// acknowledged in a transaction belongs to the transaction.
func (c *Cursor) ReleaseHolder(h Holder, countBack bool) (offsets []int64) {
	key := ownerKey{uint64(h), acquired}
	if o, ok := c.owners[key]; ok {
		offsets = make([]int64, 0, o.records)
		c.takeOwned(key, func(r run) {
			c.release(r, 0, countBack)
			offsets = appendRange(offsets, r.from, r.to)
		})
	}
	return offsets
}

// ExpireLocks makes available what was locked until now (ms) or before, and
// returns the offsets, ascending (Q7).
func (c *Cursor) ExpireLocks(now int64) (offsets []int64) {
	for len(c.locks.heap) > 0 && c.locks.heap[0].at <= now {
		p, ok := c.ring(c.locks.heap[0], acquired)
		if !ok {
			c.locks.pop()
			continue
		}
		r := c.take(p, 0, none)
		c.release(r, 0, false)
		offsets = appendRange(offsets, r.from, r.to)
	}
	slices.Sort(offsets)
	return offsets
}

// DueScheduled makes available what was scheduled for now (ms) or before, at
// most limit messages, and returns the offsets, ascending.
func (c *Cursor) DueScheduled(now int64, limit int) (offsets []int64) {
	for len(offsets) < limit && len(c.schedules.heap) > 0 && c.schedules.heap[0].at <= now {
		p, ok := c.ring(c.schedules.heap[0], scheduled)
		if !ok {
			c.schedules.pop()
			continue
		}
		from := c.runs.at(p).from
		r := c.take(p, from, from+int64(limit-len(offsets)))
		c.counts.put(r.from, r.to, r.count)
		offsets = appendRange(offsets, r.from, r.to)
	}
	slices.Sort(offsets)
	return offsets
}

// NextWake is when ExpireLocks or DueScheduled have something to do next.
func (c *Cursor) NextWake() (ms int64, ok bool) {
	ms = none
	for len(c.locks.heap) > 0 {
		if _, ok := c.ring(c.locks.heap[0], acquired); ok {
			ms = c.locks.heap[0].at
			break
		}
		c.locks.pop()
	}
	for len(c.schedules.heap) > 0 {
		if _, ok := c.ring(c.schedules.heap[0], scheduled); ok {
			ms = min(ms, c.schedules.heap[0].at)
			break
		}
		c.schedules.pop()
	}
	return ms, ms != none
}

func appendRange(offsets []int64, from, to int64) []int64 {
	for ; from < to; from++ {
		offsets = append(offsets, from)
	}
	return offsets
}
