package queue

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination"
)

const (
	// defaultBatchBytes is ConsumerOptions.BatchBytes where it is not said.
	defaultBatchBytes = 256 << 10
	// maxCredit bounds the credit of one consumer; more is not counted.
	maxCredit = math.MaxInt32
)

// ConsumerOptions say what a consumer gets.
type ConsumerOptions struct {
	// Selector chooses; nil takes everything.
	Selector Selector
	// NoLocal, if not empty, restricts the whole view as Deps.NoLocal does.
	NoLocal string
	// Exclusive has only the first such consumer of the view served, while the
	// others wait for it to go.
	Exclusive bool
	// Lock is how long the consumer may keep a message; 0: as long as it lives.
	Lock time.Duration
	// Holder is the number that its acquisitions are under, unique within a
	// broker's life and less than 2^62.
	Holder destination.Holder
	// BatchBytes bounds one Delivery of several records, in bytes; default 256
	// KiB. A batch that is stored compressed may go whole all the same.
	BatchBytes int
	// Partitions, if not nil, are the only ones that it is served from.
	Partitions []int32
	// Credit, if not nil, is what the consumer shares with others, of other
	// views: whoever has something first, uses it. Their Drained leaves it as it is.
	Credit *Credit
	// Paused has the consumer begin paused.
	Paused bool
	// LockedLimit bounds how many records of one partition the consumers with a
	// lock may hold together: there, this one gets no more until some are
	// settled. 0: no bound.
	LockedLimit int64
}

// Credit is how many records consumers may still be given.
type Credit struct{ records atomic.Int64 }

// Add permits n more. Who shares it has its consumers woken.
func (c *Credit) Add(n int) {
	if n > 0 && c.records.Add(int64(min(n, maxCredit))) > maxCredit {
		c.records.Store(maxCredit)
	}
}

// Clear takes back what is left.
func (c *Credit) Clear() { c.records.Store(0) }

// take uses up to n.
func (c *Credit) take(n int64) int64 {
	for {
		have := c.records.Load()
		if n = min(n, have); n <= 0 {
			return 0
		}
		if c.records.CompareAndSwap(have, have-n) {
			return n
		}
	}
}

// Consumer is one holder of deliveries. It may be used by many goroutines.
type Consumer struct {
	v          *View
	sink       Sink
	selector   Selector
	noLocal    string
	wantsAlone bool // exclusive
	lockMS     int64
	holder     destination.Holder
	batchBytes int
	limit      int64 // LockedLimit

	credit   *Credit
	shared   bool         // credit is others' too
	bytes    atomic.Int64 // credit in bytes
	whole    atomic.Bool  // a batch may be larger than the credit
	draining atomic.Bool

	// Guarded by the view's mutex; lockMS is too.
	serves   []bool  // by partition; nil: all
	lanes    []*lane // one for each partition, if it has a selector
	held     int64   // records delivered and not settled
	settled  int64   // ms; when it settled something, or had nothing
	taken    int64   // of a shared credit, and not yet used
	slots    int     // of message groups that it owns
	drains   bool    // this turn may end its drain
	paused   bool
	detached bool
	closed   bool
}

// Consume opens a consumer without credit. ErrConflict if the holder's number
// is in use, ErrClosed.
func (v *View) Consume(o ConsumerOptions, s Sink) (*Consumer, error) {
	if o.BatchBytes <= 0 {
		o.BatchBytes = defaultBatchBytes
	}
	if o.Holder >= 1<<62 {
		return nil, fmt.Errorf("%w: holder %d", destination.ErrInvalid, o.Holder)
	}
	c := &Consumer{
		v: v, sink: s, selector: o.Selector, noLocal: o.NoLocal, wantsAlone: o.Exclusive,
		lockMS: lockMS(o.Lock), holder: o.Holder, batchBytes: o.BatchBytes,
		limit: o.LockedLimit, serves: partitionSet(o.Partitions),
		credit: o.Credit, shared: o.Credit != nil, paused: o.Paused,
	}
	if !c.shared {
		c.credit = new(Credit)
	}
	c.bytes.Store(unlimited)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, v.closedError()
	}
	if v.holders[o.Holder] != nil {
		return nil, fmt.Errorf("consume %q: holder %d: %w", v.d.Name, o.Holder, destination.ErrConflict)
	}
	if o.NoLocal != "" {
		v.noLocal = o.NoLocal
		for _, p := range v.parts {
			p.dropLanes() // so that what was read ahead is looked at again
		}
	}
	v.holders[o.Holder] = c
	v.consumers = append(v.consumers, c)
	if c.wantsAlone {
		v.exclusive++
	}
	v.openLanes(c)
	return c, nil
}

func lockMS(lock time.Duration) int64 {
	if lock <= 0 {
		return 0
	}
	return max(lock.Milliseconds(), 1)
}

// partitionSet is nil for nil.
func partitionSet(partitions []int32) []bool {
	if partitions == nil {
		return nil
	}
	set := []bool{}
	for _, p := range partitions {
		if p < 0 {
			continue
		}
		for int(p) >= len(set) {
			set = append(set, false)
		}
		set[p] = true
	}
	return set
}

// openLanes gives a consumer with a selector a lane on each partition.
func (v *View) openLanes(c *Consumer) {
	if c.selector == nil {
		return
	}
	for i := len(c.lanes); i < len(v.parts); i++ {
		p := v.parts[i]
		l := &lane{p: p, consumer: c, scan: p.cursor.Floor()}
		c.lanes = append(c.lanes, l)
		p.lanes = append(p.lanes, l)
	}
}

// View is what it consumes from.
func (c *Consumer) View() *View { return c.v }

// Holder is the number that its acquisitions are under.
func (c *Consumer) Holder() destination.Holder { return c.holder }

// Held is how many records it has been given that are not settled.
func (c *Consumer) Held() int {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	return int(c.held)
}

// Credit permits n more records. It takes no lock.
func (c *Consumer) Credit(n int) {
	c.credit.Add(n)
	c.v.trigger()
}

// Wake has the view look again at a consumer whose shared credit has grown.
func (c *Consumer) Wake() { c.v.trigger() }

// Ask replaces the credit: up to so many records, and no more once there are so
// many bytes of batches, which the last one may exceed. With whole, a batch that
// is stored as one is handed over as one though it has more records.
func (c *Consumer) Ask(records, bytes int, whole bool) {
	c.whole.Store(whole)
	c.bytes.Store(int64(bytes))
	c.credit.records.Store(int64(min(max(records, 0), maxCredit)))
	c.v.trigger()
}

// Restrict has the consumer served from these partitions only; nil: from all.
// What it holds of others stays held.
func (c *Consumer) Restrict(partitions []int32) {
	c.v.mu.Lock()
	c.serves = partitionSet(partitions)
	c.v.mu.Unlock()
	c.v.trigger()
}

// SetLock changes how long a consumer with a lock may keep what it is given
// from now on.
func (c *Consumer) SetLock(lock time.Duration) {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	if c.lockMS > 0 && lock > 0 {
		c.lockMS = lockMS(lock)
	}
}

// Drain has what is ready delivered within the credit, then the rest of the
// credit taken back and the sink's Drained called: AMQP 1.0 §2.6.7.
func (c *Consumer) Drain() {
	c.draining.Store(true)
	c.v.draining.Store(true)
	c.v.trigger()
}

// Revoke takes back the credit that is left, unless it is shared. When it returns,
// no Deliver is under way.
func (c *Consumer) Revoke() {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	if !c.shared {
		c.credit.Clear()
	}
}

// Pause stops or starts the delivery. When it returns, no Deliver is under way.
func (c *Consumer) Pause(paused bool) {
	c.v.mu.Lock()
	c.paused = paused
	c.v.mu.Unlock()
	c.v.trigger()
}

// Detach ends the delivery. What the consumer holds stays held, and can be
// settled, until Close: Jakarta Messaging 3.1 §8.8. Its place, as owner of
// groups or as the exclusive consumer, is free at once.
func (c *Consumer) Detach() {
	c.v.mu.Lock()
	c.detach()
	c.v.mu.Unlock()
	c.v.trigger()
}

// Close ends the delivery and gives back what the consumer holds, in its old
// place before the backlog; as never delivered if countBack is set, because
// nobody saw it.
func (c *Consumer) Close(countBack bool) {
	c.v.mu.Lock()
	if !c.v.closed {
		c.leave(countBack)
	}
	c.v.mu.Unlock()
	c.v.trigger()
}

// Eject closes the consumer as Close does, and has its sink told why.
func (c *Consumer) Eject(why error) {
	c.v.mu.Lock()
	if !c.v.closed && !c.closed {
		told := !c.detached
		c.leave(false)
		if told {
			c.sink.Closed(c, why)
		}
	}
	c.v.mu.Unlock()
	c.v.trigger()
}

// detach is Detach. The view's lock is held.
func (c *Consumer) detach() {
	if c.detached {
		return
	}
	c.detached = true
	v := c.v
	if i := slices.Index(v.consumers, c); i >= 0 {
		v.consumers = slices.Delete(v.consumers, i, i+1)
		v.plain.removed(i)
	}
	if c.wantsAlone {
		v.exclusive--
	}
	if c.slots > 0 {
		disown(v.groups, c)
		for _, p := range v.parts {
			disown(p.groups, c)
		}
		c.slots = 0
	}
	for i, l := range c.lanes {
		l.drop()
		p := v.parts[i]
		p.lanes = slices.DeleteFunc(p.lanes, func(o *lane) bool { return o == l })
	}
	c.lanes = nil
	if len(v.consumers) == 0 {
		for _, p := range v.parts {
			p.dropLanes()
		}
	}
}

// leave is Close. The view's lock is held.
func (c *Consumer) leave(countBack bool) {
	if c.closed {
		return
	}
	c.detach()
	c.closed = true
	delete(c.v.holders, c.holder)
	if c.held == 0 {
		return
	}
	c.held = 0
	for _, p := range c.v.parts {
		if offsets := p.cursor.ReleaseHolder(c.holder, countBack); len(offsets) > 0 {
			if c.lockMS > 0 {
				p.locked -= int64(len(offsets))
			}
			p.takeBack(offsets)
			p.owe(c.v.now() + journalDelay.Milliseconds())
		}
	}
}

func disown(groups []*Consumer, c *Consumer) {
	for i := range groups {
		if groups[i] == c {
			groups[i] = nil
		}
	}
}

// hungry says whether the consumer may be given something now.
func (c *Consumer) hungry() bool {
	return !c.paused && c.credit.records.Load() > 0 && c.bytes.Load() > 0
}

// consumes says whether the consumer is served from p at all.
func (c *Consumer) consumes(p *part) bool {
	n := int(p.id.Partition)
	return c.serves == nil || n < len(c.serves) && c.serves[n]
}

// room is how many records of p the consumer may be given now.
func (c *Consumer) room(p *part) int64 {
	if !c.hungry() || !c.consumes(p) {
		return 0
	}
	n := c.credit.records.Load()
	if c.limit > 0 {
		n = min(n, c.limit-p.locked)
	}
	return max(n, 0)
}

// takesWhole says whether the consumer may be given all of a stored batch,
// whatever its credit.
func (c *Consumer) takesWhole(p *part, r *run) bool {
	return c.whole.Load() && r.whole() && (c.limit == 0 || p.locked+r.records() <= c.limit)
}
