package queue

import "slices"

// plain is whose turn it is among the consumers without a selector.
type plain struct {
	at    int   // index in View.consumers of who is served
	quota int64 // records that it may still get before the next one's turn
	share int64 // the quota of each
}

// removed keeps the turn when the consumer at index i has gone.
func (t *plain) removed(i int) {
	if i < t.at {
		t.at--
	} else if i == t.at {
		t.quota = 0
	}
}

// run is one turn of the view: it does what is due, hands out what is ready,
// and says whether there is more to do at once.
func (v *View) run() (more bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false
	}
	v.served = v.served[:0]
	now := v.now()
	v.journalAt = now + journalDelay.Milliseconds()
	v.readLeft = turnBytes
	v.beginScan(now)
	draining := v.beginDrains()
	v.endMoves()
	v.closeSlow(now)
	v.takeDue(now)
	handed := int64(0)
	if !v.paused && !v.settings.PausesTakes() && len(v.consumers) > 0 {
		handed = v.handOutAll(now)
	}
	more = handed >= turnRecords || v.readLeft <= 0
	more = v.endScan(now) || more
	switch {
	case draining && (more || v.scan.wanted):
		v.draining.Store(true)
	case draining:
		v.drained()
	}
	v.expireIdle(now)
	v.startMoves(now)
	if v.closed { // while a destination was looked up
		return false
	}
	v.journalOwed(now)
	v.idle(now, handed)
	v.setTimer(now)
	return more
}

// takeDue takes back what is due again, whose lock has expired, or whose
// transaction has ended.
func (v *View) takeDue(now int64) {
	for _, p := range v.parts {
		p.endSends()
		if at, ok := p.cursor.NextWake(); !ok || at > now {
			continue
		}
		if offsets := p.cursor.ExpireLocks(now); len(offsets) > 0 {
			v.counters.lockExpired += int64(len(offsets))
			p.locked -= int64(len(offsets))
			p.takeBack(offsets)
		}
		p.takeBack(p.cursor.DueScheduled(now, turnRecords))
	}
}

// handOutAll hands out to everybody until there is nothing left, nobody has
// credit, or the turn is over.
func (v *View) handOutAll(now int64) (handed int64) {
	for _, p := range v.parts {
		p.stable = p.p.Stable()
		p.sends.forget()
	}
	for handed < turnRecords && v.readLeft > 0 {
		before := handed
		for i := range v.parts {
			p := v.parts[(v.turnPart+i)%len(v.parts)]
			if v.wanted(p) {
				n := v.handOut(p.shared, now)
				handed += n
				v.scan.owed = min(v.scan.owed+n, scanOwed)
			}
			for j := range p.lanes {
				l := p.lanes[(v.turnLane+j)%len(p.lanes)]
				if c := l.consumer; c.room(p) > 0 && v.mayServe(c, p) {
					handed += v.handOut(l, now)
				}
			}
		}
		v.turnPart = (v.turnPart + 1) % len(v.parts)
		v.turnLane++
		if handed == before {
			break
		}
	}
	for _, p := range v.parts {
		p.shared.shrink()
		for _, l := range p.lanes {
			l.shrink()
		}
	}
	return handed
}

// beginScan says how much the selectors may look at in this turn.
func (v *View) beginScan(now int64) {
	s := &v.scan
	s.owed = max(s.owed-max(now-s.at, 0)*scanYield, 0)
	s.at, s.wanted, s.left = now, false, 0
	if s.owed == 0 || now >= s.until || s.until > now+scanPause {
		s.left, s.until = scanBytes, now+scanPause
	}
}

// endScan says whether the selectors are to go on at once. Else, if they have
// more to look at, they go on when they may.
func (v *View) endScan(now int64) (more bool) {
	s := &v.scan
	if s.wanted && s.owed > 0 {
		v.timer.want(min(s.until, now+(s.owed+scanYield-1)/scanYield))
		return false
	}
	return s.wanted
}

// alone is the exclusive consumer of a partition, or nil if there is none.
func (v *View) alone(p *part) *Consumer {
	if v.settings.Exclusive || v.exclusive > 0 {
		for _, c := range v.consumers {
			if (v.settings.Exclusive || c.wantsAlone) && c.consumes(p) {
				return c
			}
		}
	}
	return nil
}

// mayServe says whether no other consumer is the exclusive one.
func (v *View) mayServe(c *Consumer, p *part) bool {
	alone := v.alone(p)
	return alone == nil || alone == c
}

// wanted says whether a consumer without a selector can take something of p.
func (v *View) wanted(p *part) bool {
	if alone := v.alone(p); alone != nil {
		return alone.selector == nil && alone.room(p) > 0
	}
	for _, c := range v.consumers {
		if c.selector == nil && c.room(p) > 0 {
			return true
		}
	}
	return false
}

// handOut reads ahead and hands out what is in the lane, by priority.
func (v *View) handOut(l *lane, now int64) (handed int64) {
	if l.ready.expires > 0 && l.ready.expires <= now {
		l.expireReady(now)
	}
	l.fill(now)
	if l.ready.records == 0 {
		return 0
	}
	if l.consumer == nil {
		v.shareOut(l.p, l.ready.records)
	}
	l.ready.blocked = 0
	for p := priorities - 1; p >= 0; p-- {
		n, full := v.handOutList(l, &l.ready.lists[p], now)
		handed += n
		if full {
			break
		}
	}
	return handed
}

// handOutList hands out one priority's runs. full says that nobody can take
// any more.
func (v *View) handOutList(l *lane, list *runList, now int64) (handed int64, full bool) {
	kept, i := list.head, list.head
	for ; i < len(list.items); i++ {
		r := &list.items[i]
		for r.chunk != nil {
			c, n := v.choose(l, r)
			if c == nil {
				break
			}
			handed += v.give(l, c, r, n, now)
		}
		if r.chunk == nil {
			continue
		}
		if r.group == 0 {
			full = true
			break
		}
		l.ready.blocked += r.records()
		if kept != i {
			list.items[kept] = *r
			r.chunk = nil
		}
		kept++
	}
	list.shift(kept, i)
	return handed, full
}

// shareOut divides what is ready by the consumers that can take something, so
// that none gets all of it while others wait.
func (v *View) shareOut(p *part, records int64) {
	hungry := int64(0)
	for _, c := range v.consumers {
		if c.selector == nil && c.room(p) > 0 {
			hungry++
		}
	}
	v.plain.share = 1
	if hungry > 0 {
		v.plain.share = (records + hungry - 1) / hungry
	}
	v.plain.quota = min(v.plain.quota, v.plain.share)
}

// choose says who gets the next records of a run, and how many, or nil if
// nobody can take them.
func (v *View) choose(l *lane, r *run) (*Consumer, int64) {
	c := l.consumer
	switch {
	case r.group > 0:
		c = v.owner(l, r.group-1)
		if c == nil || l.consumer != nil && l.consumer != c {
			return nil, 0
		}
	case c != nil:
	case v.alone(l.p) != nil:
		c = v.alone(l.p)
	default:
		return v.nextInTurn(l.p, r)
	}
	n := c.room(l.p)
	switch {
	case n <= 0:
		return nil, 0
	case c.takesWhole(l.p, r):
		return c, r.records()
	}
	return c, min(n, r.records())
}

// nextInTurn serves the consumers one after the other, each with its share. A
// stored batch is not divided for the sake of a few records.
func (v *View) nextInTurn(p *part, r *run) (*Consumer, int64) {
	t := &v.plain
	for range len(v.consumers) + 1 {
		if t.at >= len(v.consumers) {
			t.at, t.quota = 0, t.share
		}
		c := v.consumers[t.at]
		if room := c.room(p); t.quota > 0 && c.selector == nil && room > 0 {
			n := min(room, t.quota)
			if r.records() <= 2*t.quota && r.whole() && (r.records() <= room || c.takesWhole(p, r)) {
				n = r.records()
			}
			n = min(n, r.records())
			t.quota -= n
			return c, n
		}
		t.at, t.quota = t.at+1, t.share
	}
	return nil, 0
}

// owner is the consumer that gets the messages of a group's slot, for as long
// as it lives. A slot without one goes to the consumer that has the fewest.
func (v *View) owner(l *lane, slot int32) *Consumer {
	if v.groups == nil {
		v.groups = make([]*Consumer, groupSlots)
	}
	place := &v.groups[slot]
	if c := *place; c != nil && !c.consumes(l.p) {
		// It owns the slot for other partitions. A group lies in one, so that
		// this one's may have an owner of their own.
		if l.p.groups == nil {
			l.p.groups = make([]*Consumer, groupSlots)
		}
		place = &l.p.groups[slot]
		if c := *place; c != nil && !c.consumes(l.p) {
			c.slots--
			*place = nil
		}
	}
	if c := *place; c != nil {
		return c
	}
	best := l.consumer
	if alone := v.alone(l.p); alone != nil {
		best = alone
	}
	if best == nil {
		for _, c := range v.consumers {
			if c.selector == nil && c.room(l.p) > 0 && (best == nil || c.slots < best.slots) {
				best = c
			}
		}
	}
	if best != nil {
		*place = best
		best.slots++
	}
	return best
}

// give hands the first n records of a run, or as many of them as fit into one
// delivery, to c, and takes them off the run. It returns how many it has taken.
func (v *View) give(l *lane, c *Consumer, r *run, n, now int64) (taken int64) {
	if c.shared {
		if n = c.credit.take(n); n == 0 {
			return 0 // another view was faster
		}
		c.taken = n
		defer func() { c.credit.Add(int(c.taken)) }()
	}
	if r.packed() && n < r.records() && !l.open(r) {
		l.ready.remove(r)
		return n
	}
	records, end := r.first(n, c.batchBytes)
	lockUntil := int64(0)
	if c.lockMS > 0 {
		lockUntil = now + c.lockMS
	}
	first, ok := l.p.cursor.AcquireRange(r.from, r.from+records, c.holder, lockUntil)
	if !ok {
		return v.giveSome(l, c, r, records, lockUntil)
	}
	if records == r.records() && r.whole() {
		v.deliver(l.p, c, r.from, records, first, r.stored(), nil)
	} else {
		v.cut = appendCut(v.cut[:0], r.stored(), r.chunk.buf[r.at:end], records)
		v.deliver(l.p, c, r.from, records, first, v.cut, nil)
	}
	l.ready.advance(r, records, end)
	return records
}

// giveSome is give for records of which some were delivered before, or are not
// available any more.
func (v *View) giveSome(l *lane, c *Consumer, r *run, n, lockUntil int64) (looked int64) {
	if r.packed() && !l.open(r) {
		l.ready.remove(r)
		return n
	}
	start, end := r.at, r.at // of the records that are acquired and not yet delivered
	var (
		from  int64
		first uint64
	)
	v.counts = v.counts[:0]
	flush := func() {
		if len(v.counts) > 0 {
			v.cut = appendCut(v.cut[:0], r.stored(), r.chunk.buf[start:end], int64(len(v.counts)))
			v.deliver(l.p, c, from, int64(len(v.counts)), first, v.cut, v.counts)
			v.counts = v.counts[:0]
		}
	}
	for offset := r.from; offset < r.from+n; offset++ {
		next := r.after(end)
		switch {
		case !l.p.available(offset):
			flush()
			start = next
		case l.p.exhausted(offset):
			flush()
			start = next
			l.p.leaveDead(offset, reasonDeliveries, "")
		default:
			number, count, _ := l.p.cursor.Acquire(offset, c.holder, lockUntil)
			if len(v.counts) == 0 {
				from, first = offset, number
			}
			v.counts = append(v.counts, uint16(min(count, 1<<16-1)))
		}
		end = next
	}
	flush()
	l.ready.advance(r, n, end)
	return n
}

// deliver calls the sink.
func (v *View) deliver(p *part, c *Consumer, offset, records int64, first uint64, batch []byte, counts []uint16) {
	if c.shared {
		c.taken -= records
	} else {
		c.credit.records.Add(-records)
	}
	c.bytes.Add(-int64(len(batch)))
	if c.held == 0 {
		c.settled = v.journalAt - journalDelay.Milliseconds()
	}
	c.held += records
	if c.lockMS > 0 {
		p.locked += records
	}
	v.counters.delivered += records
	p.owe(v.journalAt)
	if !slices.Contains(v.served, c) {
		v.served = append(v.served, c)
	}
	c.sink.Deliver(Delivery{
		Consumer: c, Partition: p.id.Partition, FirstAcquisition: first,
		Offset: offset, Records: int(records), Batch: batch, Counts: counts,
	})
}

// beginDrains notes the drains that this turn may end: those that were asked for
// before it looks at what is ready and at who has credit.
func (v *View) beginDrains() bool {
	if !v.draining.Swap(false) {
		return false
	}
	for _, c := range v.holders {
		c.drains = c.draining.Load()
	}
	return true
}

// drained ends the drain of each consumer that has got all there was.
func (v *View) drained() {
	for _, c := range v.holders {
		if c.drains && !c.detached {
			c.drains = false
			c.draining.Store(false)
			if !c.shared {
				c.credit.Clear()
			}
			c.sink.Drained(c)
		}
	}
}

// journalOwed journals what has waited long enough.
func (v *View) journalOwed(now int64) {
	for _, p := range v.parts {
		if p.owed == 0 || p.owed > now || p.busy() {
			continue
		}
		if !p.cursor.Dirty() && len(p.deferred) == 0 {
			p.owed = 0
			continue
		}
		if err := p.journal(nil); err != nil {
			v.deps.Logger.Error("journal deliveries", "destination", v.d.Name, "partition", p.id.Partition, "error", err)
			p.owe(now + retryDelay.Milliseconds())
		}
	}
}

// idle drops what the lanes have read when nobody has taken from them for a while.
func (v *View) idle(now, handed int64) {
	held := false
	for _, p := range v.parts {
		held = held || p.shared.ready.records > 0
		for _, l := range p.lanes {
			held = held || l.ready.records > 0
		}
	}
	switch {
	case !held:
		v.idleAt = 0
	case handed > 0 || v.idleAt == 0:
		v.idleAt = now + idleDelay.Milliseconds()
	case v.idleAt <= now:
		v.idleAt = 0
		for _, p := range v.parts {
			p.dropLanes()
		}
	}
}

// touch remembers that a settlement has changed p's cursor.
func (v *View) touch(p *part) {
	if !p.touched {
		p.touched = true
		v.touched = append(v.touched, p)
	}
}
