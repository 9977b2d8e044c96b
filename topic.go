package polylog

import (
	"context"
	"iter"

	"github.com/polylog-mq/polylog/wire/native"
)

// Topic is a topic through a session, typed by what its messages hold. It may
// be used by several goroutines.
type Topic[T any] struct {
	sender[T]
}

// TopicOf returns a topic typed by T, as QueueOf does a queue.
func TopicOf[T any](s *Session, name string) *Topic[T] {
	return &Topic[T]{senderOf[T](s, name, native.KindTopic)}
}

// Topic returns a topic of untyped messages.
func (s *Session) Topic(name string) *Topic[*Message] { return TopicOf[*Message](s, name) }

// Publish is what Put is to a queue.
func (t *Topic[T]) Publish(ctx context.Context, v T, opts ...PutOption) (Receipt, error) {
	return t.send(ctx, v, opts)
}

// PublishAsync is what PutAsync is to a queue.
func (t *Topic[T]) PublishAsync(ctx context.Context, v T, done func(Receipt, error), opts ...PutOption) error {
	return t.sendAsync(ctx, v, done, opts)
}

// PublishAll is what PutAll is to a queue.
func (t *Topic[T]) PublishAll(ctx context.Context, values iter.Seq[T], opts ...PutOption) (int, error) {
	return t.sendAll(ctx, values, opts)
}

// Subscribe opens an unshared subscription that lasts until it is closed:
// Jakarta Messaging 3.1 §8.3.2. What is published while the connection is
// broken is missed.
func (t *Topic[T]) Subscribe(ctx context.Context, opts ...ConsumeOption) (*Subscription[T], error) {
	return t.open(ctx, native.SubscribeTemporary, "", opts)
}

// Durable opens the durable subscription of this name and the connection's
// client id, which it needs, and creates it if there is none: Jakarta
// Messaging 3.1 §8.3.3. It has one active consumer, another fails with
// ErrConflict. Opened with another topic, selector or WithNoLocal it is
// deleted and created anew.
func (t *Topic[T]) Durable(ctx context.Context, name string, opts ...ConsumeOption) (*Subscription[T], error) {
	return t.open(ctx, native.SubscribeDurable, name, opts)
}

// Shared opens a subscription that several consumers share, and that is gone
// with the last of them: Jakarta Messaging 3.1 §8.3.4.
func (t *Topic[T]) Shared(ctx context.Context, name string, opts ...ConsumeOption) (*Subscription[T], error) {
	return t.open(ctx, native.SubscribeShared, name, opts)
}

// SharedDurable opens a durable subscription that several consumers share:
// Jakarta Messaging 3.1 §8.3.5.
func (t *Topic[T]) SharedDurable(ctx context.Context, name string, opts ...ConsumeOption) (*Subscription[T], error) {
	return t.open(ctx, native.SubscribeSharedDurable, name, opts)
}

// Exclusive opens a durable subscription of which one consumer at a time is
// served, the others standing by.
func (t *Topic[T]) Exclusive(ctx context.Context, name string, opts ...ConsumeOption) (*Subscription[T], error) {
	return t.open(ctx, native.SubscribeExclusive, name, opts)
}

func (t *Topic[T]) open(ctx context.Context, kind native.SubscriptionKind, name string, opts []ConsumeOption) (*Subscription[T], error) {
	o := consumeOptionsOf(opts)
	c, err := t.session.openConsumer(ctx, t.subscribe(kind, name, &o), &o)
	if err != nil {
		return nil, err
	}
	return &Subscription[T]{consumer: c, codec: t.codec, name: name, shared: kind == native.SubscribeSharedDurable}, nil
}
