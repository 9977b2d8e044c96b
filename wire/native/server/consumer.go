package server

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/topic"
	"github.com/polylog-mq/polylog/wire/native"
)

// consumer is a session.Consumer by the number that the client gave it, and
// its sink. It is there from the Subscribe frame on, so that a Credit that
// follows at once finds it, and stays until it holds nothing: a closed
// consumer's deliveries may still be settled.
type consumer struct {
	c       *connection
	number  uint64
	session uint64
	opened  atomic.Pointer[session.Consumer] // nil until the broker has opened it
	closing atomic.Bool                      // a CloseConsumer was read
}

// Deliver implements queue.Sink. It is called under the view's lock.
func (k *consumer) Deliver(d queue.Delivery) { k.c.out.deliverBatch(k.number, d) }

// Flush implements queue.Sink.
func (k *consumer) Flush() { k.c.out.FlushDirect() }

// Joined implements session.Sink.
func (k *consumer) Joined(member int32, d *destination.Destination) {
	k.c.out.append(&native.Joined{Consumer: k.number, Member: uint64(member), Destination: d.Name}, nil)
}

// Drained implements queue.Sink.
func (k *consumer) Drained(*queue.Consumer) {
	k.c.out.append(&native.Drained{Consumer: k.number}, nil)
	k.c.out.Flush()
}

// Closed implements queue.Sink: the broker has closed it, because its
// destination or subscription is gone.
func (k *consumer) Closed(_ *queue.Consumer, err error) {
	if err == nil {
		err = session.ErrClosed
	}
	k.c.out.append(&native.ConsumerClosed{Consumer: k.number, Error: refusal(err)}, nil)
	k.c.out.Flush()
	if !k.closing.Swap(true) {
		k.c.ordered.must(0, func() error { k.close(); return nil })
	}
}

// close closes what a Subscribe opened, on the ordered lane, and forgets the
// number once nothing is held under it.
func (k *consumer) close() {
	if opened := k.opened.Load(); opened != nil {
		if opened.Close(); opened.Ended() {
			k.c.forget(k)
		}
	}
}

// maxCredit bounds one grant, and so what a client can have delivered to it
// without another word.
const maxCredit = 1 << 20

// credit handles a Credit.
func (c *connection) credit(f *native.Credit) {
	k := c.consumer(f.Consumer)
	if k == nil || k.closing.Load() {
		return // it crossed a ConsumerClosed, or follows its own CloseConsumer
	}
	opened := k.opened.Load()
	if opened == nil {
		// The Subscribe is still on its lane, so the credit follows it there.
		again := *f
		c.ordered.do(0, func() error {
			if opened := k.opened.Load(); opened != nil {
				grant(opened, &again)
			}
			return nil
		})
		return
	}
	grant(opened, f)
}

func grant(k *session.Consumer, f *native.Credit) {
	if n := min(f.Messages, maxCredit); n > 0 {
		k.Credit(int(n))
	}
	if f.Drain {
		k.Drain()
	}
}

// consumer returns one by number, or nil.
func (c *connection) consumer(number uint64) *consumer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.consumers[number]
}

// subscribe handles a Subscribe.
func (c *connection) subscribe(f *native.Subscribe) {
	spec, err := specOf(f)
	if err == nil {
		err = c.announce(f)
	}
	if err != nil {
		c.out.fail(f.Request, err)
		return
	}
	c.mu.Lock()
	k, s := c.consumers[f.Consumer], c.sessions[f.Session]
	c.mu.Unlock()
	if c.draining.Load() {
		c.forget(k)
		c.out.fail(f.Request, errDraining)
		return
	}
	queued := c.ordered.do(f.Request, func() error {
		opened, err := s.Consume(c.ctx, spec, k)
		if err != nil {
			c.forget(k)
			return err
		}
		k.opened.Store(opened)
		c.out.append(&native.OK{Request: f.Request}, nil)
		grant(opened, &native.Credit{Messages: f.Credit})
		return nil
	})
	if !queued {
		c.forget(k)
	}
}

// announce gives the consumer its number.
func (c *connection) announce(f *native.Subscribe) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case f.Consumer == 0:
		return fmt.Errorf("%w: consumers are numbered from 1", session.ErrInvalid)
	case c.sessions[f.Session] == nil:
		return fmt.Errorf("session %d: %w on this connection", f.Session, session.ErrNotFound)
	case c.consumers[f.Consumer] != nil:
		return fmt.Errorf("consumer %d: %w on this connection", f.Consumer, session.ErrExists)
	case len(c.consumers) >= c.server.options.MaxConsumers:
		return fmt.Errorf("%w: a connection may have %d consumers", session.ErrBusy, c.server.options.MaxConsumers)
	}
	c.consumers[f.Consumer] = &consumer{c: c, number: f.Consumer, session: f.Session}
	return nil
}

// forget makes the consumer's number free again.
func (c *connection) forget(k *consumer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.consumers[k.number] == k {
		delete(c.consumers, k.number)
	}
}

// closeConsumer handles a CloseConsumer.
func (c *connection) closeConsumer(f *native.CloseConsumer) {
	k := c.consumer(f.Consumer)
	if k == nil || k.closing.Swap(true) {
		c.out.fail(f.Request, fmt.Errorf("consumer %d: %w on this connection", f.Consumer, session.ErrNotFound))
		return
	}
	c.ordered.must(f.Request, func() error {
		k.close()
		c.out.append(&native.OK{Request: f.Request}, nil)
		return nil
	})
}

// kinds are the subscriptions of the protocol in the broker's words; 0 is the
// queue itself.
var kinds = [...]topic.Kind{
	native.SubscribeQueue:         0,
	native.SubscribeTemporary:     topic.Temporary,
	native.SubscribeDurable:       topic.Durable,
	native.SubscribeShared:        topic.Shared,
	native.SubscribeSharedDurable: topic.SharedDurable,
	native.SubscribeExclusive:     topic.Exclusive,
}

func specOf(f *native.Subscribe) (session.Spec, error) {
	kind, err := kindOf(f.DestinationKind)
	switch {
	case err != nil:
		return session.Spec{}, err
	case int(f.Kind) >= len(kinds):
		return session.Spec{}, fmt.Errorf("%w: subscription kind %d", session.ErrInvalid, f.Kind)
	}
	start, err := startOf(f.Start, f.StartAt)
	return session.Spec{
		Destination: f.Destination, DestinationKind: kind, Subscription: kinds[f.Kind], Name: f.Name,
		Selector: f.Selector, NoLocal: f.NoLocal, Exclusive: f.Exclusive, Start: start, Settings: destination.Overrides(f.Settings).Map(),
	}, err
}

func kindOf(k native.DestinationKind) (destination.Kind, error) {
	switch k {
	case native.KindAny:
		return 0, nil
	case native.KindQueue:
		return destination.KindQueue, nil
	case native.KindTopic:
		return destination.KindTopic, nil
	case native.KindLog:
		return destination.KindLog, nil
	}
	return 0, fmt.Errorf("%w: destination kind %d", session.ErrInvalid, k)
}

func nativeKind(k destination.Kind) native.DestinationKind {
	switch k {
	case destination.KindQueue:
		return native.KindQueue
	case destination.KindTopic:
		return native.KindTopic
	case destination.KindLog:
		return native.KindLog
	}
	return native.KindAny
}

func startOf(k native.StartKind, at int64) (queue.Start, error) {
	if at < 0 || at == math.MaxInt64 {
		return queue.Start{}, fmt.Errorf("%w: start at %d", session.ErrInvalid, at)
	}
	switch k {
	case native.StartDefault:
		return queue.Start{}, nil
	case native.StartBeginning:
		return queue.Start{Kind: queue.StartBeginning}, nil
	case native.StartOffset:
		return queue.Start{Kind: queue.StartOffset, At: at}, nil
	case native.StartTime:
		return queue.Start{Kind: queue.StartTime, At: at}, nil
	case native.StartLast:
		return queue.Start{Kind: queue.StartLast, At: at}, nil
	}
	return queue.Start{}, fmt.Errorf("%w: start kind %d", session.ErrInvalid, k)
}
