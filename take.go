package polylog

import (
	"context"
	"errors"
	"time"

	"github.com/polylog-mq/polylog/wire/native"
)

// maxTake bounds one TakeBatch, in messages.
const maxTake = 65536

// drainTimeout bounds the wait for the answer to a Drain once nobody wants a
// message any more, so that a context's end is felt even if the broker is
// silent. What comes later goes back uncounted.
const drainTimeout = 2 * time.Second

// errMoved says that the consumer is open on another connection by now.
var errMoved = errors.New("the consumer is open on another connection")

// take is the body of Take and TakeBatch.
func take[T any](ctx context.Context, c *consumer, k codec[T], limit int, noWait bool) ([]*Delivery[T], error) {
	if c.acquire(ctx) != nil {
		return nil, noMessage(ctx)
	}
	defer c.release()
	batches, err := c.collect(ctx, min(max(limit, 1), maxTake), noWait)
	if err != nil {
		return nil, err
	}
	var list []*Delivery[T]
	var bad error
	for i := range batches {
		if err := c.setCurrent(batches[i]); err != nil {
			return list, err
		}
		for {
			d := new(Delivery[T])
			if !c.following(&d.delivery) {
				break
			}
			var err error
			d.Value, err = k.decode(&d.delivery)
			bad = errors.Join(bad, d.bodyError(err))
			d.finish(err != nil)
			list = append(list, d)
		}
		c.current.Store(nil)
	}
	if len(list) == 0 { // the connection broke in this moment
		return nil, noMessage(ctx)
	}
	return list, bad
}

func first[T any](list []*Delivery[T], err error) (*Delivery[T], error) {
	if len(list) > 0 {
		return list[0], err
	}
	return nil, err
}

// collect waits for up to limit messages without standing credit: it asks for
// what is ready, and if nothing is, for the first that comes. A connection
// that breaks meanwhile starts it over. The caller holds using.
func (c *consumer) collect(ctx context.Context, limit int, noWait bool) ([]inbound, error) {
	c.want(true)
	defer c.want(false)
	for {
		batches, err := c.collectOnce(ctx, limit, noWait)
		switch {
		case len(batches) > 0:
			return batches, nil
		case errors.Is(err, errMoved) && ctx.Err() == nil:
		case err == nil || errors.Is(err, errMoved) || ctx.Err() != nil:
			return nil, noMessage(ctx)
		default:
			return nil, err
		}
	}
}

func (c *consumer) collectOnce(ctx context.Context, limit int, noWait bool) ([]inbound, error) {
	if noWait && c.c.gate.shutUntil() != nil {
		return nil, c.failure()
	}
	if err := c.pass(ctx); err != nil {
		return nil, err
	}
	generation, err := c.idle(ctx)
	if err != nil {
		return nil, err
	}
	if noWait || limit > 1 {
		if err := c.grant(generation, limit, true); err != nil {
			return nil, err
		}
		err := c.awaitDrained(ctx, generation)
		if batches := c.popAll(); len(batches) > 0 || noWait || err != nil {
			return batches, err
		}
	}
	if err := c.grant(generation, limit, false); err != nil {
		return nil, err
	}
	err = c.await(ctx, generation, func() bool { return c.head < len(c.inbox) })
	if err == nil && c.holds() >= limit {
		return c.popAll(), nil
	}
	if err == nil || ctx.Err() != nil {
		c.drain(ctx, generation)
	}
	return c.popAll(), err
}

// want says whether a Take waits. What it leaves behind goes back.
func (c *consumer) want(wanted bool) {
	c.mu.Lock()
	c.wanted = wanted
	c.mu.Unlock()
	if !wanted {
		c.giveBackUnseen()
	}
	c.mu.Lock()
	c.credit = 0
	c.mu.Unlock()
}

// idle waits until the consumer is open and no Drain of an earlier Take is
// unanswered.
func (c *consumer) idle(ctx context.Context) (generation uint64, err error) {
	err = c.await(ctx, 0, func() bool {
		generation = c.generation.Load()
		return generation > 0 && c.drains == 0
	})
	return generation, err
}

// await waits for a condition on what mu guards. A generation other than 0
// must stay what it is.
func (c *consumer) await(ctx context.Context, generation uint64, condition func() bool) error {
	for {
		c.mu.Lock()
		ok, err := condition(), c.err
		moved := generation > 0 && c.generation.Load() != generation
		c.mu.Unlock()
		switch {
		case moved && err == nil:
			return errMoved
		case ok:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-c.arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// grant gives credit, with drain only for what is ready.
func (c *consumer) grant(generation uint64, messages int, drain bool) error {
	if drain {
		c.mu.Lock()
		c.drains++
		c.mu.Unlock()
	}
	if !c.c.post(generation, &native.Credit{Consumer: c.number, Messages: uint64(messages), Drain: drain}) {
		return errMoved
	}
	return nil
}

// drain takes back the credit that is left, and waits until the broker has
// said so.
func (c *consumer) drain(ctx context.Context, generation uint64) {
	if c.grant(generation, 0, true) == nil {
		_ = c.awaitDrained(ctx, generation)
	}
}

// awaitDrained waits for the answer to a Drain, and beyond the context's end a
// little longer: a message may be on its way.
func (c *consumer) awaitDrained(ctx context.Context, generation uint64) error {
	drained := func() bool { return c.drains == 0 }
	err := c.await(ctx, generation, drained)
	if err == nil || ctx.Err() == nil {
		return err
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	return c.await(late, generation, drained)
}

// popAll takes everything out of the inbox.
func (c *consumer) popAll() []inbound {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []inbound
	for {
		in, ok := c.popLocked()
		if !ok {
			return all
		}
		all = append(all, in)
	}
}

// holds counts the messages in the inbox.
func (c *consumer) holds() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for i := c.head; i < len(c.inbox); i++ {
		n += c.inbox[i].batch.Count()
	}
	return n
}
