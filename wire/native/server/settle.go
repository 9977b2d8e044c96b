package server

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

// settle handles a Settle.
func (c *connection) settle(f *native.Settle) {
	k := c.consumer(f.Consumer)
	outcome, err := outcomeOf(f)
	if err == nil && (k == nil || k.opened.Load() == nil) {
		err = fmt.Errorf("consumer %d: %w on this connection", f.Consumer, session.ErrNotFound)
	}
	if err == nil {
		err = c.settles.add(c, k, f, outcome)
	}
	if err != nil {
		c.settles.flush(c)
		c.out.fail(f.Request, err)
	}
}

// maxDelay bounds the delay of a release: ten years, which is never, and far
// from overflowing.
const maxDelay = 10 * 365 * 24 * time.Hour

func outcomeOf(f *native.Settle) (queue.Outcome, error) {
	switch {
	case f.DelayMS > int64(maxDelay/time.Millisecond):
		return queue.Outcome{}, fmt.Errorf("%w: a delay of %d ms; at most %d", session.ErrInvalid, f.DelayMS, maxDelay/time.Millisecond)
	case f.Kind == native.OutcomeAcknowledge:
		return queue.Outcome{Kind: queue.Acknowledge}, nil
	case f.Kind == native.OutcomeReject:
		return queue.Outcome{Kind: queue.Reject, Reason: f.Reason}, nil
	case f.Kind == native.OutcomeRelease:
		delay := max(f.DelayMS, -1) * int64(time.Millisecond)
		return queue.Outcome{Kind: queue.Release, Delay: time.Duration(delay), CountBack: f.Uncounted, Reason: f.Reason}, nil
	}
	return queue.Outcome{}, fmt.Errorf("%w: outcome %d", session.ErrInvalid, f.Kind)
}

// settleGather gathers Settles that arrived together, are of one consumer and
// have one outcome, and want no answer: which of several answered ones was
// refused could not be told from one result, so each of those goes alone.
type settleGather struct {
	consumer *consumer
	outcome  queue.Outcome
	spans    []queue.Span
	request  uint64
}

func (g *settleGather) add(c *connection, k *consumer, f *native.Settle, o queue.Outcome) error {
	for _, s := range f.Spans {
		if s.Count == 0 || s.Count > math.MaxInt32 || s.Partition > math.MaxInt32 ||
			s.Offset < 0 || s.Offset > math.MaxInt64-int64(s.Count) || s.Acquisition > math.MaxUint64-s.Count {
			return fmt.Errorf("%w: a span of %d deliveries from offset %d of partition %d", session.ErrInvalid, s.Count, s.Offset, s.Partition)
		}
	}
	if g.consumer != nil && (g.consumer != k || g.outcome != o || g.request != 0 || f.Request != 0 ||
		len(g.spans)+len(f.Spans) > native.MaxSpans) {
		g.flush(c)
	}
	c.hold(f.Awaited)
	g.consumer, g.outcome, g.request = k, o, f.Request
	for _, s := range f.Spans {
		g.spans = append(g.spans, queue.Span{
			Partition: int32(s.Partition), Offset: s.Offset, Acquisition: s.Acquisition, Count: int32(s.Count),
		})
	}
	return nil
}

// flush settles what was gathered, if anything.
func (g *settleGather) flush(c *connection) {
	if g.consumer == nil {
		return
	}
	k, opened := g.consumer, g.consumer.opened.Load()
	w := newSettleWaiter(c, g.request)
	if len(g.spans) == 0 {
		w.Committed(nil)
	} else if err := opened.Settle(g.spans, g.outcome, w); err != nil {
		w.Committed(err) // a view that refuses does not call it
	}
	g.consumer, g.spans = nil, g.spans[:0]
	if k.closing.Load() && opened.Prune() {
		c.forget(k)
	}
}

// settleWaiter answers one settlement, once. It is pooled.
type settleWaiter struct {
	c       *connection
	request uint64
}

var settleWaiters = sync.Pool{New: func() any { return new(settleWaiter) }}

func newSettleWaiter(c *connection, request uint64) *settleWaiter {
	w := settleWaiters.Get().(*settleWaiter)
	w.c, w.request = c, request
	c.underWay.Add(1)
	return w
}

// Committed implements commitlog.Waiter.
func (w *settleWaiter) Committed(err error) {
	c, request := w.c, w.request
	w.c = nil
	settleWaiters.Put(w)
	switch {
	case err != nil:
		c.out.fail(request, err)
		c.out.Flush()
	case request != 0:
		o := c.out
		if b, ok := o.Begin(); ok {
			o.ok = native.OK{Request: request}
			o.EndConfirms(o.encoder.Append(b, &o.ok, nil))
		}
	}
	c.underWay.Add(-1)
}
