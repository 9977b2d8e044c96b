package polylog

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/polylog-mq/polylog/wire/native"
)

// sender is what a Queue and a Topic have in common: sending.
type sender[T any] struct {
	session     *Session
	destination *destination
	codec       codec[T]
}

func senderOf[T any](s *Session, name string, kind native.DestinationKind) sender[T] {
	return sender[T]{session: s, destination: s.c.destination(name, kind), codec: codecOf[T]()}
}

// Name returns the destination's name.
func (s *sender[T]) Name() string { return s.destination.name }

// Session returns the session that it was opened through.
func (s *sender[T]) Session() *Session { return s.session }

func (s *sender[T]) subscribe(kind native.SubscriptionKind, name string, o *consumeOptions) native.Subscribe {
	o.temporary = s.destination.temporary
	return native.Subscribe{
		Destination: s.destination.name, DestinationKind: s.destination.kind,
		Kind: kind, Name: name, Selector: o.selector, NoLocal: o.noLocal,
		Exclusive: o.exclusive, Start: o.start, StartAt: o.startAt, Settings: o.settings,
	}
}

func (s *sender[T]) send(ctx context.Context, v T, opts []PutOption) (Receipt, error) {
	w := s.session.c.newWaiter()
	receipt, err := s.append(ctx, v, opts, w, nil, false)
	if err != nil {
		w.free()
		return Receipt{}, fmt.Errorf("send to %s: %w", s.Name(), err)
	}
	receipt.Offset, err = w.wait(ctx)
	if err != nil {
		return receipt, fmt.Errorf("send to %s: %w", s.Name(), err)
	}
	return receipt, nil
}

func (s *sender[T]) sendAsync(ctx context.Context, v T, done func(Receipt, error), opts []PutOption) error {
	if _, err := s.append(ctx, v, opts, nil, done, true); err != nil {
		return fmt.Errorf("send to %s: %w", s.Name(), err)
	}
	return nil
}

// append encodes v outside of every lock and appends it to its batch.
func (s *sender[T]) append(ctx context.Context, v T, opts []PutOption, w *waiter, done func(Receipt, error), async bool) (Receipt, error) {
	p := newParcel()
	defer p.free()
	if err := s.codec.encode(v, p); err != nil {
		return Receipt{}, err
	}
	p.message.ClientID = s.session.c.options.clientID // for noLocal
	if err := p.apply(opts); err != nil {
		return Receipt{}, err
	}
	return s.session.sending.append(ctx, s.destination, p, w, done, async)
}

// sendAll counts completions instead of waiting for each message.
func (s *sender[T]) sendAll(ctx context.Context, values iter.Seq[T], opts []PutOption) (int, error) {
	var all struct {
		sync.Mutex
		confirmed int
		failed    error
	}
	done := func(_ Receipt, err error) {
		all.Lock()
		defer all.Unlock()
		if err == nil {
			all.confirmed++
		} else if all.failed == nil {
			all.failed = err
		}
	}
	failed := func() error {
		all.Lock()
		defer all.Unlock()
		return all.failed
	}
	var waiting sync.WaitGroup
	completion := func(r Receipt, err error) {
		done(r, err)
		waiting.Done()
	}
	var stopped error
	for v := range values {
		if stopped = failed(); stopped != nil {
			break
		}
		waiting.Add(1)
		if stopped = s.sendAsync(ctx, v, completion, opts); stopped != nil {
			waiting.Done()
			break
		}
	}
	finished := make(chan struct{})
	go func() {
		waiting.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-ctx.Done():
		stopped = doubt(ctx.Err())
	}
	all.Lock()
	defer all.Unlock()
	if all.failed == nil {
		all.failed = stopped
	}
	if all.failed != nil {
		return all.confirmed, fmt.Errorf("send to %s: %w", s.Name(), all.failed)
	}
	return all.confirmed, nil
}
