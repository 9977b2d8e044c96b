package polylog

import (
	"context"
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/wire/native"
)

// slabSize is how many deliveries are allocated together. One that is kept
// keeps the others of its slab.
const slabSize = 32

// iterate is the body of the Consume iterators. The caller holds c.using.
func iterate[T any](ctx context.Context, c *consumer, k codec[T], yield func(*Delivery[T], error) bool) {
	c.startStream()
	var slab []Delivery[T]
	for {
		if len(slab) == 0 {
			slab = make([]Delivery[T], slabSize)
		}
		d := &slab[0]
		if err := c.next(ctx, &d.delivery); err != nil {
			yield(nil, err)
			return
		}
		slab = slab[1:]
		if !hand(d, k, yield) {
			return
		}
	}
}

// hand gives one delivery to the loop's body. A body that panics has not
// processed it: it goes back and is counted.
func hand[T any](d *Delivery[T], k codec[T], yield func(*Delivery[T], error) bool) (more bool) {
	var err error
	d.Value, err = k.decode(&d.delivery)
	returned := false
	defer func() {
		if !returned {
			d.finish(true)
		}
	}()
	more = yield(d, d.bodyError(err))
	returned = true
	d.finish(err != nil)
	return more
}

// bodyError says where a body is that could not be read.
func (d *delivery) bodyError(err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrBody) {
		err = fmt.Errorf("%w: %w", ErrBody, err)
	}
	return fmt.Errorf("%s, partition %d, offset %d: %w", d.Destination(), d.Partition(), d.Offset(), err)
}

// listen is the body of one Listen consumer. The caller holds c.using.
func listen[T any](ctx context.Context, c *consumer, k codec[T], f func(context.Context, *Delivery[T]) error) error {
	c.startStream()
	ctx = context.WithValue(ctx, listening{}, c)
	var slab []Delivery[T]
	for {
		if len(slab) == 0 {
			slab = make([]Delivery[T], slabSize)
		}
		d := &slab[0]
		if err := c.next(ctx, &d.delivery); err != nil {
			return err
		}
		slab = slab[1:]
		var err error
		if d.Value, err = k.decode(&d.delivery); err == nil {
			err = callListener(ctx, c, d, f)
		}
		d.conclude(err)
	}
}

// listening is the key of the consumer whose listener a context is given to, so
// that who closes it in there does not wait for himself: Jakarta Messaging 3.1 §8.8.
type listening struct{}

// callListener calls a listener. Connection.Stop waits for it: Jakarta Messaging 3.1
// §6.1.5.
func callListener[T any](ctx context.Context, c *consumer, d *Delivery[T], f func(context.Context, *Delivery[T]) error) error {
	if err := c.c.gate.enter(ctx); err != nil {
		return err
	}
	defer c.c.gate.leave()
	returned := false
	defer func() {
		if !returned { // a panic
			d.conclude(errPanicked)
		}
	}()
	err := f(ctx, d)
	returned = true
	return err
}

// conclude settles what a listener has not settled.
func (d *delivery) conclude(err error) {
	mode := d.from.session.mode
	if err == nil && d.from.session.notes() { // Acknowledge does it, or the commit
		return
	}
	if d.settled.Swap(true) {
		return
	}
	if d.from.session.notes() {
		d.from.forget(d.span())
	}
	o := outcome{kind: native.OutcomeAcknowledge}
	if err != nil {
		o = failed(err)
	}
	// A stale delivery comes again by itself; there is nobody to tell.
	_ = d.from.settle(d.span(), d.generation, o, nil, mode == DupsOKAcknowledge && err == nil)
}
