package session

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// pattern is what a consumer of several destinations has beside its members.
type pattern struct {
	destination.Pattern
	cancel  func() // of the watch for new destinations
	release func() // of a subscription that has a name; else nil

	opening sync.Mutex // held while a member is opened, which may wait
	joined  map[[16]byte]*member

	mu       sync.Mutex // guards what follows; a leaf: taken under views' locks
	draining map[*member]struct{}
}

// consumePattern opens a consumer of all that a pattern matches: now, and later.
func (s *Session) consumePattern(ctx context.Context, k *Consumer) error {
	p, err := destination.ParsePattern(k.spec.Destination)
	if err != nil {
		return err
	}
	c := s.connection
	c.touch()
	k.credit = new(queue.Credit)
	k.pattern = &pattern{Pattern: p, joined: map[[16]byte]*member{}, draining: map[*member]struct{}{}}
	kind := destination.KindQueue
	if sub, ok := k.spec.subscription(c.ClientID()); ok {
		kind = destination.KindTopic
		if sub.Kind != topic.Temporary {
			if err := c.Authorize(OperationSubscribe, sub.Name); err != nil {
				return err
			}
			if k.pattern.release, err = c.broker.SubscribePattern(ctx, p, sub); err != nil {
				return err
			}
		}
	}
	later := k.spec
	later.Start = queue.Start{Kind: queue.StartBeginning} // of what is made while somebody waits for it
	if kind == destination.KindQueue {
		later.Start = queue.Start{}
	}
	// Whatever is made from here on is told; and then, what was there before.
	now, cancel := c.broker.Match(p, kind, func(d *destination.Destination) {
		if err := k.join(context.WithoutCancel(ctx), d, later); err != nil && !isOver(err) {
			k.sink.Closed(nil, fmt.Errorf("%q: %w", d.Name, err))
		}
	})
	k.pattern.cancel = cancel
	first := k.spec
	if k.pattern.release != nil && k.spec.Subscription != topic.Shared {
		first = later // what was there when it was made has begun where that said
	}
	for _, d := range now {
		if err := k.join(ctx, d, first); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%q: %w", d.Name, err)
		}
	}
	return nil
}

// isOver says whether the consumer or the destination has gone meanwhile.
func isOver(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrClosed) || errors.Is(err, ErrShuttingDown)
}

// join makes d a member, unless it is one, or the consumer may not read it.
func (k *Consumer) join(ctx context.Context, d *destination.Destination, spec Spec) error {
	c := k.session.connection
	if c.Authorize(OperationConsume, d.Name) != nil {
		return nil // it is as if it were not there
	}
	p := k.pattern
	p.opening.Lock()
	defer p.opening.Unlock()
	if p.joined[d.ID] != nil {
		return nil
	}
	if len(k.all()) >= maxMembers {
		return fmt.Errorf("%w: one consumer may have %d destinations", ErrBusy, maxMembers)
	}
	if err := k.open(ctx, d, spec); err != nil {
		return err
	}
	all := k.all()
	m := all[len(all)-1]
	p.joined[d.ID] = m
	k.session.resume(k, m)
	return nil
}

// resume has a new member deliver, unless its consumer is stopped or not open yet.
func (s *Session) resume(k *Consumer, m *member) {
	c := s.connection
	c.flow.Lock()
	defer c.flow.Unlock()
	flowing := c.flowing()
	s.mu.Lock()
	_, open := s.consumers[k]
	flowing = flowing && !s.stopped && open
	s.mu.Unlock()
	if flowing {
		m.holder.Pause(false)
	}
}

// leave ends what the pattern has used. Who is joining has joined, or has seen
// that the consumer is closed.
func (p *pattern) leave() {
	if p.cancel != nil {
		p.cancel()
	}
	if p.release != nil {
		p.release()
	}
}

// drain drains all members; the consumer is drained when the last of them is.
func (p *pattern) drain(k *Consumer) {
	var all []*member
	p.mu.Lock()
	for _, m := range k.all() {
		if !m.gone.Load() {
			p.draining[m] = struct{}{}
			all = append(all, m)
		}
	}
	p.mu.Unlock()
	if len(all) == 0 {
		k.credit.Clear()
		k.sink.Drained(nil)
	}
	for _, m := range all {
		m.holder.Drain()
	}
}

// drained says that m is, and whether it was the last.
func (p *pattern) drained(m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.draining[m]; !ok {
		return false
	}
	delete(p.draining, m)
	return len(p.draining) == 0
}

// memberSink tells a consumer's sink which of its members something came from.
type memberSink struct {
	queue.Sink
	consumer *Consumer
	member   *member
	number   int32
}

func (s *memberSink) Deliver(d queue.Delivery) {
	d.Partition |= s.number << MemberShift
	s.Sink.Deliver(d)
}

func (s *memberSink) Drained(c *queue.Consumer) {
	if s.consumer.pattern.drained(s.member) {
		s.consumer.credit.Clear()
		s.Sink.Drained(c)
	}
}

// Closed comes if the destination or its subscription is deleted: the others stay.
// Who is too slow for one of them is closed.
func (s *memberSink) Closed(c *queue.Consumer, err error) {
	s.member.gone.Store(true)
	if errors.Is(err, ErrSlowConsumer) {
		s.Sink.Closed(c, err)
		return
	}
	s.Drained(c)
}
