package polylog

import (
	"context"
	"fmt"
	"iter"

	"github.com/polylog-mq/polylog/wire/native"
)

// Subscription is an open consumer of a topic. While nobody consumes it holds
// nothing; what is published waits at the broker.
type Subscription[T any] struct {
	consumer *consumer
	codec    codec[T]
	name     string
	shared   bool
}

// Name returns the subscription's name, empty for a temporary one.
func (s *Subscription[T]) Name() string { return s.name }

// Consume is what Queue.Consume is, but leaves the subscription open when the
// iteration ends. One iteration, Take or Listen can run at a time; another
// waits.
func (s *Subscription[T]) Consume(ctx context.Context) iter.Seq2[*Delivery[T], error] {
	return func(yield func(*Delivery[T], error) bool) {
		if err := s.consumer.acquire(ctx); err != nil {
			yield(nil, err)
			return
		}
		defer s.consumer.release()
		defer s.consumer.pause(context.WithoutCancel(ctx))
		iterate(ctx, s.consumer, s.codec, yield)
	}
}

// Take is what Queue.Take is.
func (s *Subscription[T]) Take(ctx context.Context, opts ...ConsumeOption) (*Delivery[T], error) {
	return first(s.TakeBatch(ctx, 1, opts...))
}

// TakeBatch is what Queue.TakeBatch is.
func (s *Subscription[T]) TakeBatch(ctx context.Context, max int, opts ...ConsumeOption) ([]*Delivery[T], error) {
	o := consumeOptionsOf(opts)
	return take(ctx, s.consumer, s.codec, max, o.noWait)
}

// Listen is what Queue.Listen is, with one call at a time.
func (s *Subscription[T]) Listen(ctx context.Context, f func(context.Context, *Delivery[T]) error) error {
	return s.consumer.session.listen(ctx, 1, func(ctx context.Context) error {
		if err := s.consumer.acquire(ctx); err != nil {
			return err
		}
		defer s.consumer.release()
		defer s.consumer.pause(context.WithoutCancel(ctx))
		return listen(ctx, s.consumer, s.codec, f)
	})
}

// Close ends the consumer. A durable subscription stays; a temporary one is
// gone, and so is a shared one with its last consumer. It is idempotent.
func (s *Subscription[T]) Close(ctx context.Context) error { return s.consumer.close(ctx) }

// Unsubscribe closes and deletes a durable subscription: Jakarta Messaging 3.1
// §8.3.6. It fails with ErrConflict while another consumer is active or
// messages are not acknowledged.
func (s *Subscription[T]) Unsubscribe(ctx context.Context) error {
	if err := s.Close(ctx); err != nil {
		return err
	}
	return s.consumer.session.c.Unsubscribe(ctx, s.name, s.shared)
}

// Unsubscribe deletes the durable subscription of this name: with shared a
// shared one, else the connection's client id's own.
func (c *Connection) Unsubscribe(ctx context.Context, name string, shared bool) error {
	_, err := c.call(ctx, false, func(request uint64) native.Frame {
		return &native.Unsubscribe{Request: request, Name: name, Shared: shared}
	})
	if err != nil {
		return fmt.Errorf("unsubscribe %q: %w", name, err)
	}
	return nil
}
