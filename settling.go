package polylog

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// outcome says what becomes of deliveries.
type outcome struct {
	kind      native.OutcomeKind
	delayMS   int64
	uncounted bool
	reason    string
}

// settling is what a consumer has to settle, guarded by consumer.mu. While
// settlements are under way, others gather: so one that comes alone travels
// at once, and many travel as a few spans.
type settling struct {
	pending  []*settlement // oldest first
	under    int           // Settle frames sent and not answered
	queued   bool          // in the connection's list
	lazy     int           // acknowledgements that nobody has hurried
	timer    *time.Timer   // hurries them
	flushers []*waiter
}

// Bounds of settling.
const (
	settlesUnderWay = 2                      // Settle frames of a consumer
	lazyAcks        = 100                    // DupsOK acknowledgements that wait for more
	lazyDelay       = 100 * time.Millisecond // and how long they do
)

// settlement is the content of one Settle frame.
type settlement struct {
	outcome
	consumer *consumer
	spans    []native.Span
	waiters  []*waiter
	awaited  bool // somebody waits for it, as it is sent
}

// add appends spans to what is pending, and says whether the consumer is to be
// put into the connection's list.
func (s *settling) add(c *consumer, spans []native.Span, o outcome, w *waiter) bool {
	for len(spans) > 0 {
		t := s.open(c, o)
		t.extend(spans[0])
		spans = spans[1:]
		if w != nil && len(spans) == 0 {
			t.waiters = append(t.waiters, w)
		}
	}
	return s.mayGo()
}

// open returns the settlement that more can be added to.
func (s *settling) open(c *consumer, o outcome) *settlement {
	if n := len(s.pending); n > 0 {
		if t := s.pending[n-1]; t.outcome == o && len(t.spans) < native.MaxSpans {
			return t
		}
	}
	t := &settlement{outcome: o, consumer: c}
	s.pending = append(s.pending, t)
	return t
}

// extend adds a span, to the last one if it goes on there.
func (t *settlement) extend(span native.Span) {
	if n := len(t.spans); n > 0 && follows(&t.spans[n-1], &span) {
		t.spans[n-1].Count += span.Count
		return
	}
	t.spans = append(t.spans, span)
}

func follows(last, next *native.Span) bool {
	return last.Partition == next.Partition && last.Offset+int64(last.Count) == next.Offset && last.Acquisition+last.Count == next.Acquisition
}

// compact joins spans that were settled out of order.
func (t *settlement) compact() {
	if len(t.spans) < 2 {
		return
	}
	slices.SortFunc(t.spans, func(a, b native.Span) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	all := t.spans
	t.spans = t.spans[:0]
	for _, span := range all {
		t.extend(span)
	}
}

// mayGo marks the consumer as queued if it has something to send now.
func (s *settling) mayGo() bool {
	if s.queued || s.under >= settlesUnderWay || len(s.pending) == 0 {
		return false
	}
	s.queued, s.lazy = true, 0
	return true
}

// take hands settlements to the connection's writer.
func (c *consumer) takeSettlements(dst []*settlement) []*settlement {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.settling
	s.queued = false
	n := min(settlesUnderWay-s.under, len(s.pending))
	if n <= 0 {
		return dst
	}
	for _, t := range s.pending[:n] {
		t.awaited = len(t.waiters) > 0 || len(s.flushers) > 0
	}
	dst = append(dst, s.pending[:n]...)
	s.pending = slices.Delete(s.pending, 0, n)
	s.under += n
	return dst
}

// abandon returns the waiters of what was never sent, and forgets it.
func (s *settling) abandon() []*waiter {
	var lost []*waiter
	for _, t := range s.pending {
		lost = append(lost, t.waiters...)
	}
	s.pending, s.queued, s.lazy = nil, false, 0
	return append(lost, s.wakeFlushers()...)
}

// wakeFlushers returns those who wait for nothing to be left.
func (s *settling) wakeFlushers() []*waiter {
	if s.under > 0 || len(s.pending) > 0 {
		return nil
	}
	woken := s.flushers
	s.flushers = nil
	return woken
}

// settle settles one span of the connection's generation. lazy lets it wait
// for others.
func (c *consumer) settle(span native.Span, generation uint64, o outcome, w *waiter, lazy bool) error {
	c.mu.Lock()
	if generation != c.generation.Load() || generation != c.c.generation.Load() {
		c.mu.Unlock()
		return staleError("%s: offset %d was delivered over another connection, and is delivered again", c.spec.Destination, span.Offset)
	}
	s := &c.settling
	if lazy {
		s.open(c, o).extend(span)
		if s.lazy++; s.lazy < lazyAcks {
			c.hurryLater()
			c.mu.Unlock()
			return nil
		}
	} else {
		t := s.open(c, o)
		t.extend(span)
		if w != nil {
			t.waiters = append(t.waiters, w)
		}
	}
	queue := s.mayGo()
	c.mu.Unlock()
	if queue {
		c.c.settle(c)
	}
	return nil
}

// hurryLater arms the timer for the first lazy acknowledgement.
func (c *consumer) hurryLater() {
	s := &c.settling
	switch {
	case s.lazy > 1:
	case s.timer == nil:
		s.timer = time.AfterFunc(lazyDelay, c.hurry)
	default:
		s.timer.Reset(lazyDelay)
	}
}

// hurry sends what is pending.
func (c *consumer) hurry() {
	c.mu.Lock()
	queue := c.settling.mayGo()
	c.mu.Unlock()
	if queue {
		c.c.settle(c)
	}
}

// flush waits until every settlement is answered. The broker may let those wait a
// little that nobody waited for; it is told that somebody does now.
func (c *consumer) flush(ctx context.Context) error {
	c.mu.Lock()
	s := &c.settling
	if s.under == 0 && len(s.pending) == 0 {
		c.mu.Unlock()
		return nil
	}
	w := c.c.newWaiter()
	s.flushers = append(s.flushers, w)
	queue, hurry, generation := s.mayGo(), s.under > 0 && !c.left, c.generation.Load()
	c.mu.Unlock()
	if queue {
		c.c.settle(c)
	} else if hurry {
		c.c.post(generation, &native.Settle{Consumer: c.number, Awaited: true})
	}
	_, err := w.wait(ctx)
	return err
}

// note remembers what ClientAcknowledge and Transacted have delivered.
func (c *consumer) note(span native.Span) {
	c.session.work.use()
	c.mu.Lock()
	if n := len(c.unacked); n > 0 && follows(&c.unacked[n-1], &span) {
		c.unacked[n-1].Count++
	} else {
		c.unacked = append(c.unacked, span)
	}
	c.mu.Unlock()
}

// forget takes out a delivery that is settled by itself.
func (c *consumer) forget(span native.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.unacked {
		u := c.unacked[i]
		before := span.Offset - u.Offset
		if u.Partition != span.Partition || before < 0 || before >= int64(u.Count) || u.Acquisition+uint64(before) != span.Acquisition {
			continue
		}
		rest := native.Span{Partition: u.Partition, Offset: span.Offset + 1, Acquisition: span.Acquisition + 1, Count: u.Count - uint64(before) - 1}
		c.unacked = slices.Delete(c.unacked, i, i+1)
		if rest.Count > 0 {
			c.unacked = slices.Insert(c.unacked, i, rest)
		}
		if before > 0 {
			u.Count = uint64(before)
			c.unacked = slices.Insert(c.unacked, i, u)
		}
		return
	}
}

// acknowledgeAll acknowledges what was noted.
func (c *consumer) acknowledgeAll(newWaiter func() *waiter) error {
	c.settleNoted(outcome{kind: native.OutcomeAcknowledge}, newWaiter)
	c.forgetIfDone()
	return nil
}

func (c *consumer) settleNoted(o outcome, newWaiter func() *waiter) {
	c.mu.Lock()
	spans := c.unacked
	c.unacked = nil
	var w *waiter
	if len(spans) > 0 && newWaiter != nil {
		w = newWaiter()
	}
	queue := c.settling.add(c, spans, o, w)
	c.mu.Unlock()
	if queue {
		c.c.settle(c)
	}
}

// giveBack releases, for Session.Recover, what was noted and what was fetched
// ahead, and waits until that is done. Delivery is stopped.
func (c *consumer) giveBack(ctx context.Context) error {
	c.giveBackUnseen()
	c.settleNoted(outcome{kind: native.OutcomeRelease}, nil)
	err := c.flush(ctx)
	c.replenish()
	return err
}

// The answers to a Settle.

func (t *settlement) answered(_, _ []byte) { t.done(nil) }

func (t *settlement) confirmed(int64) { t.done(nil) }

func (t *settlement) refused(err error) { t.done(err) }

func (t *settlement) broken(cause error) { t.done(doubt(cause)) }

func (t *settlement) done(err error) {
	c := t.consumer
	c.mu.Lock()
	s := &c.settling
	s.under--
	queue := s.mayGo()
	woken := s.wakeFlushers()
	c.mu.Unlock()
	if queue {
		c.c.settle(c)
	}
	answer(t.waiters, err)
	answer(woken, nil)
	if err != nil && len(t.waiters) == 0 {
		c.c.exception(err)
	}
}

func answer(list []*waiter, err error) {
	for _, w := range list {
		w.answer(0, err)
	}
}

// spansOf returns the spans of a batch from record number seen on. Offsets
// within a batch may have gaps, where others were delivered elsewhere.
func spansOf(in *inbound, seen int) []native.Span {
	if n := in.batch.Count(); int(in.batch.LastOffsetDelta()) == n-1 {
		if seen >= n {
			return nil
		}
		return []native.Span{{Partition: uint64(in.partition), Offset: in.batch.BaseOffset() + int64(seen), Acquisition: in.acquisition + uint64(seen), Count: uint64(n - seen)}}
	}
	var r record.Reader
	if r.Reset(in.batch, maxInflated) != nil {
		return nil
	}
	var t settlement
	for i := 0; r.Next(); i++ {
		if i >= seen {
			t.extend(native.Span{Partition: uint64(in.partition), Offset: r.Record().Offset, Acquisition: in.acquisition + uint64(i), Count: 1})
		}
	}
	return t.spans
}
