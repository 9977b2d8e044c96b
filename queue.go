package polylog

import (
	"context"
	"iter"

	"github.com/polylog-mq/polylog/wire/native"
)

// Queue is a queue through a session, typed by what its messages hold. It may
// be used by several goroutines; opening it costs nothing, the first use asks
// the broker, which creates it if it may.
type Queue[T any] struct {
	sender[T]
}

// QueueOf returns a queue typed by T: a string travels as text, a []byte as
// bytes, a map[string]any as a map, a *Message as it is, anything else as
// MessagePack (struct tags "msgpack", else "json").
func QueueOf[T any](s *Session, name string) *Queue[T] {
	return &Queue[T]{senderOf[T](s, name, native.KindQueue)}
}

// Queue returns a queue of untyped messages.
func (s *Session) Queue(name string) *Queue[*Message] { return QueueOf[*Message](s, name) }

// Put sends v and waits until it is confirmed, which by default means on the
// broker's disk. If the context ends first, or the connection breaks, the
// error is ErrInDoubt. Other errors: ErrWrongKind, ErrTooLarge, ErrFull,
// ErrUnauthorized, ErrClosed.
func (q *Queue[T]) Put(ctx context.Context, v T, opts ...PutOption) (Receipt, error) {
	return q.send(ctx, v, opts)
}

// PutAsync sends v and returns as soon as it is buffered; the context bounds
// only the wait for room. An error says that nothing was sent. Otherwise done
// is called once, in the order of the session's sends, on the connection's one
// goroutine for that and never on the caller's: Jakarta Messaging 3.1 §7.3. It
// may send, but must not wait for the session. Session.Close waits for it.
// A nil done leaves failures to the exception listener.
func (q *Queue[T]) PutAsync(ctx context.Context, v T, done func(Receipt, error), opts ...PutOption) error {
	return q.sendAsync(ctx, v, done, opts)
}

// PutAll sends all of values in order and waits until the last is confirmed.
// It returns how many were confirmed, and the first error, after which nothing
// more is sent.
func (q *Queue[T]) PutAll(ctx context.Context, values iter.Seq[T], opts ...PutOption) (int, error) {
	return q.sendAll(ctx, values, opts)
}

// Consume opens a consumer when the iteration starts, and closes it when the
// iteration ends; what was fetched ahead and not seen goes back uncounted.
//
// In the modes AutoAcknowledge and DupsOKAcknowledge a message is acknowledged
// when the loop's body is done with it, by whatever way except a panic, unless
// the body has settled it. The last pair of an iteration that the body did not
// leave is a nil delivery and why it ended: the context's error, ErrClosed, or
// the broker's refusal. A message whose body is no T comes with ErrBody and its
// delivery; if the loop does not settle it, it is released and counted.
func (q *Queue[T]) Consume(ctx context.Context, opts ...ConsumeOption) iter.Seq2[*Delivery[T], error] {
	return func(yield func(*Delivery[T], error) bool) {
		o := consumeOptionsOf(opts)
		c, err := q.session.openConsumer(ctx, q.subscribe(&o), &o)
		if err != nil {
			yield(nil, err)
			return
		}
		defer c.close(context.WithoutCancel(ctx))
		if err := c.acquire(ctx); err != nil {
			yield(nil, err)
			return
		}
		defer c.release()
		iterate(ctx, c, q.codec, yield)
	}
}

// Take takes one message, waiting for it as long as the context lets it, or
// with NoWait not at all. Without one it fails with ErrNoMessage, and then
// nothing is left behind: what arrives too late is returned, or goes back
// uncounted. Of the options only NoWait and WithSelector apply.
func (q *Queue[T]) Take(ctx context.Context, opts ...ConsumeOption) (*Delivery[T], error) {
	return first(q.TakeBatch(ctx, 1, opts...))
}

// TakeBatch takes up to max messages: what is ready, or else the first that
// comes and what comes with it.
func (q *Queue[T]) TakeBatch(ctx context.Context, max int, opts ...ConsumeOption) ([]*Delivery[T], error) {
	o := consumeOptionsOf(opts)
	c, err := q.session.taker(ctx, q.subscribe(&o), q.destination.temporary)
	if err != nil {
		return nil, err
	}
	return take(ctx, c, q.codec, max, o.noWait)
}

// Listen consumes until the context ends, and then returns nil once the calls
// under way have returned. f is called with one message at a time, or with
// WithConcurrency several at a time. Where it returns nil the message is
// acknowledged, but in ClientAcknowledge and Transacted, which leave that to
// Session.Acknowledge and Commit; where it returns an error it is released by the
// destination's redelivery policy, unless f has settled it. f may close its
// session or consumer with the context that it is given.
func (q *Queue[T]) Listen(ctx context.Context, f func(context.Context, *Delivery[T]) error, opts ...ConsumeOption) error {
	o := consumeOptionsOf(opts)
	spec := q.subscribe(&o)
	return q.session.listen(ctx, o.concurrency, func(ctx context.Context) error {
		c, err := q.session.openConsumer(ctx, spec, &o)
		if err != nil {
			return err
		}
		defer c.close(context.WithoutCancel(ctx))
		if err := c.acquire(ctx); err != nil {
			return err
		}
		defer c.release()
		return listen(ctx, c, q.codec, f)
	})
}

// Browse reads the queue's messages in order without taking them: Jakarta
// Messaging 3.1 §4.4. Only WithSelector applies.
func (q *Queue[T]) Browse(ctx context.Context, opts ...ConsumeOption) iter.Seq2[*Browsed[T], error] {
	o := consumeOptionsOf(opts)
	return browse(ctx, q.session, q.Name(), o.selector, q.codec)
}

func (q *Queue[T]) subscribe(o *consumeOptions) native.Subscribe {
	return q.sender.subscribe(native.SubscribeQueue, "", o)
}
