package queue

import (
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// part is a view's state on one partition. The view's lock guards it.
type part struct {
	v       *View
	p       *destination.Partition
	id      destination.CursorID
	cursor  *destination.Cursor
	unwatch func()
	stable  int64   // as of the beginning of the turn
	sends   sends   // of Kafka's transactions, as of this turn
	ends    uint64  // Partition.Ended when endSends looked last
	ended   []int64 // what transactions have let go while a lane was reading, to be offered to all

	locked     int64              // records that consumers with a lock hold
	groups     []*Consumer        // by slot, where the view's owner of the slot does not consume this partition; nil until then
	shared     *lane              // of the consumers without a selector
	lanes      []*lane            // of those with one
	expiry     *expiry            // nil where expired messages go nowhere
	moves      []move             // messages that are to leave for another destination
	moving     *moving            // those that are on their way to the disk, nil if none
	reserved   bool               // a transaction waits for moving to end: no other move begins
	committing bool               // transactions are on their way to the disk
	owed       int64              // ms; when the cursor's changes are to be journaled, 0 if there are none
	retry      int64              // ms; no moves before
	touched    bool               // in v.touched
	deferred   []commitlog.Waiter // of settlements that wait until it is not busy
}

func openPart(v *View, dp *destination.Partition, start int64) *part {
	p := &part{v: v, p: dp, id: destination.CursorID{
		Topic: v.d.ID, Partition: dp.Number(), Subscription: v.subscription,
	}}
	c, ok := v.deps.State.Cursor(p.id)
	if !ok {
		c = destination.NewCursor(start)
	}
	c.BeginEpoch(dp.Epoch())
	// A move's hold is on disk only together with the message at its new
	// place, and a unit's with all that its transactions have done; so what was
	// held when the broker stopped has moved, or is acknowledged.
	for _, txn := range c.Held() {
		if HeldByUnit(txn) {
			c.EndHold(txn, true)
		}
	}
	p.cursor, p.sends.p, p.ends = c, dp, neverLooked
	p.shared = &lane{p: p, scan: c.Floor()}
	p.unwatch = dp.Watch(v.trigger)
	return p
}

// available says whether the message at offset waits.
func (p *part) available(offset int64) bool {
	for range p.cursor.UndoneRanges(offset, offset+1) {
		return true
	}
	return false
}

// giveBack offers what is available again to every lane that has gone past it.
func (p *part) giveBack(from, to int64) {
	p.shared.giveBack(from, to)
	for _, l := range p.lanes {
		l.giveBack(from, to)
	}
	if p.expiry != nil {
		p.expiry.lane.giveBack(from, to)
	}
}

// takeBack is giveBack for offsets, ascending, of which those whose deliveries
// are exhausted leave for the dead letter destination.
func (p *part) takeBack(offsets []int64) {
	for i := 0; i < len(offsets); {
		if p.exhausted(offsets[i]) {
			p.leaveDead(offsets[i], reasonDeliveries, "")
			i++
			continue
		}
		from := offsets[i]
		to := from + 1
		for i++; i < len(offsets) && offsets[i] == to && !p.exhausted(to); i++ {
			to++
		}
		p.giveBack(from, to)
	}
}

// backOff is takeBack after the redelivery delay.
func (p *part) backOff(offsets []int64) {
	if p.v.settings.RedeliveryDelay == 0 {
		p.takeBack(offsets)
		return
	}
	for i, offset := range offsets {
		due := p.v.dueAfter(p.v.settings.RedeliveryAfter(p.cursor.Count(offset), offset))
		if p.exhausted(offset) || due == 0 || !p.cursor.Schedule(offset, due) {
			p.takeBack(offsets[i : i+1])
		}
	}
}

// exhausted says whether a message has been delivered as often as it may.
func (p *part) exhausted(offset int64) bool {
	limit := p.v.maxDeliveries()
	return limit > 0 && p.cursor.Count(offset) >= limit
}

// rewind has every lane look again at everything from offset on.
func (p *part) rewind(offset int64) {
	p.shared.rewind(offset)
	for _, l := range p.lanes {
		l.rewind(offset)
	}
	p.expiry = nil
}

// dropLanes gives back what the lanes have read.
func (p *part) dropLanes() {
	p.shared.drop()
	for _, l := range p.lanes {
		l.drop()
	}
}

// busy says whether something of the partition is held on its way to the disk.
func (p *part) busy() bool { return p.moving != nil || p.committing }

// journal writes the cursor's changes and has w told when they are on disk.
// While a move or a transaction is under way that waits, because a snapshot of
// the cursor must not say that messages have gone before they have.
func (p *part) journal(w commitlog.Waiter) error {
	if p.busy() {
		if w != nil {
			p.deferred = append(p.deferred, w)
		}
		p.owe(0)
		return nil
	}
	p.owed = 0
	return p.v.deps.State.Journal(p.id, p.cursor, p.takeDeferred(w))
}

// takeDeferred is a waiter that tells w and all that were deferred.
func (p *part) takeDeferred(w commitlog.Waiter) commitlog.Waiter {
	if len(p.deferred) == 0 {
		return w
	}
	all := waiters(p.deferred)
	p.deferred = nil
	if w != nil {
		all = append(all, w)
	}
	return all
}

// owe has the cursor's changes journaled at a time, ms, unless that happens before.
func (p *part) owe(at int64) {
	if p.owed == 0 || at < p.owed {
		p.owed = max(at, 1)
	}
}

// waiters are told together.
type waiters []commitlog.Waiter

// Committed tells all.
func (ws waiters) Committed(err error) {
	for _, w := range ws {
		w.Committed(err)
	}
}
