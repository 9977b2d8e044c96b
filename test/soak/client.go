package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/polylog-mq/polylog"
)

// groups is how many message groups each producer has.
const groups = 50

// client is a process that uses the broker until its standard input ends.
type client struct {
	url    string
	dir    string
	number uint32 // of its own: no two processes have the same
	slot   uint32 // of the process that it replaces, if that has died
	random *rand.Rand
	j      *journal
}

func runClient(ctx context.Context, role, url, dir string, number, slot uint32) error {
	j, err := openJournal(journalName(dir, number))
	if err != nil {
		return err
	}
	c := &client{url: url, dir: dir, number: number, slot: slot, random: rand.New(rand.NewPCG(uint64(number), 0)), j: j}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	switch role {
	case "producer":
		return c.produce(ctx)
	case "consumer":
		return c.consume(ctx)
	case "transactor":
		return c.transact(ctx)
	}
	return fmt.Errorf("no role %q", role)
}

func journalName(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("events-%d", number))
}

func (c *client) connect(ctx context.Context, more ...polylog.Option) (*polylog.Connection, error) {
	policy := polylog.ReconnectPolicy{Min: 10 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		conn, err := polylog.Connect(ctx, c.url, append(more, polylog.WithReconnect(policy))...)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		pause(ctx, 50*time.Millisecond) // the broker is down, or has not noticed that a client id is free again
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// produce sends to every view in turn, each message with what its view is for.
func (c *client) produce(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := conn.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		return err
	}
	targets := []view{viewPlain, viewPriority, viewGroups, viewExpiry, viewPoison, viewTxIn, viewXAIn, viewDurable}
	var next [views]uint32
	for ctx.Err() == nil {
		for _, v := range targets {
			if (v == viewTxIn || v == viewXAIn) && c.random.IntN(2) == 0 {
				continue // units of work are slower than the rest
			}
			i := item{View: v, Producer: c.number, Sequence: next[v]}
			next[v]++
			if err := c.send(ctx, s, i); err != nil && ctx.Err() == nil {
				pause(ctx, 20*time.Millisecond)
			}
		}
		pause(ctx, 10*time.Millisecond)
	}
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = s.Flush(flush)
	return nil
}

func (c *client) send(ctx context.Context, s *polylog.Session, i item) error {
	var opts []polylog.PutOption
	switch i.View {
	case viewPlain, viewDurable:
		i.Flags |= ordered
	case viewPriority:
		opts = append(opts, polylog.WithPriority(c.random.IntN(10)), polylog.WithProperty("colour", []string{"red", "green", "blue"}[c.random.IntN(3)]))
		if c.random.IntN(3) == 0 {
			opts = append(opts, polylog.WithDelay(time.Duration(c.random.IntN(2000))*time.Millisecond))
		}
	case viewGroups:
		i.Flags |= ordered
		opts = append(opts, polylog.WithGroup(fmt.Sprintf("%d of %d", i.Sequence%groups, i.Producer)))
	case viewExpiry:
		if c.random.IntN(2) == 0 {
			i.Flags |= mortal
			opts = append(opts, polylog.WithTTL(time.Duration(200+c.random.IntN(3000))*time.Millisecond))
		}
	}
	copies := []item{i}
	if i.View == viewDurable { // one message, in two subscriptions
		other := i
		other.View, other.Flags = viewShared, 0
		copies = append(copies, other)
	}
	say := func(k kind) {
		var events []event
		for _, i := range copies {
			events = append(events, i.event(k, 0))
		}
		c.j.write(events...)
	}
	say(sending)
	done := func(_ polylog.Receipt, err error) {
		switch {
		case err == nil:
			say(sent)
		case !errors.Is(err, polylog.ErrInDoubt):
			say(unsent)
		}
	}
	if i.View == viewDurable {
		return polylog.TopicOf[item](s, newsTopic).PublishAsync(ctx, i, done, opts...)
	}
	return polylog.QueueOf[item](s, viewNames[i.View]).PutAsync(ctx, i, done, opts...)
}

// consume consumes from everything, as several consumers.
func (c *client) consume(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var running sync.WaitGroup
	defer running.Wait()
	queue := func(v view, opts ...polylog.ConsumeOption) {
		running.Go(func() {
			c.again(ctx, conn, func(s *polylog.Session) error {
				for d, err := range polylog.QueueOf[item](s, viewNames[v]).Consume(ctx, opts...) {
					if err := c.handle(ctx, v, d, err); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	queue(viewPlain, polylog.WithExclusive())
	queue(viewPriority, polylog.WithSelector("colour = 'red' AND JMSPriority > 3"))
	queue(viewPriority, polylog.WithPrefetch(10))
	for _, v := range []view{viewGroups, viewGroups, viewExpiry, viewPoison, viewTxA, viewTxB, viewXAA, viewXAB} {
		queue(v, polylog.WithPrefetch(20))
	}
	subscription := func(v view, conn *polylog.Connection, open func(*polylog.Session) (*polylog.Subscription[item], error)) {
		running.Go(func() {
			c.again(ctx, conn, func(s *polylog.Session) error {
				sub, err := open(s)
				if err != nil {
					return err
				}
				for d, err := range sub.Consume(ctx) {
					if err := c.handle(ctx, v, d, err); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	subscription(viewShared, conn, func(s *polylog.Session) (*polylog.Subscription[item], error) {
		return polylog.TopicOf[item](s, newsTopic).SharedDurable(ctx, sharedSub)
	})
	running.Go(func() { c.bury(ctx, conn) })
	if c.slot == 0 { // the client id admits one
		durable, err := c.connect(ctx, polylog.WithClientID(durableID))
		if err != nil {
			return err
		}
		defer durable.Close()
		subscription(viewDurable, durable, func(s *polylog.Session) (*polylog.Subscription[item], error) {
			return polylog.TopicOf[item](s, newsTopic).Durable(ctx, durableSub)
		})
		running.Wait()
	}
	return nil
}

// again does do, with a session, until the context ends.
func (c *client) again(ctx context.Context, conn *polylog.Connection, do func(*polylog.Session) error, mode ...polylog.Mode) {
	if len(mode) == 0 {
		mode = []polylog.Mode{polylog.IndividualAcknowledge}
	}
	for ctx.Err() == nil {
		s, err := conn.Session(ctx, mode...)
		if err == nil {
			err = do(s)
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			_ = s.Close(closing)
			cancel()
		}
		if err != nil {
			pause(ctx, 20*time.Millisecond)
		}
	}
}

// handle does with a message what its view is for.
func (c *client) handle(ctx context.Context, v view, d *polylog.Delivery[item], err error) error {
	if err != nil {
		return err
	}
	i := d.Value
	if i.View != v {
		if v != viewShared || i.View != viewDurable {
			return fmt.Errorf("a message of %s in %s", viewNames[i.View], viewNames[v])
		}
		i.View, i.Flags = viewShared, 0
	}
	c.j.write(i.event(arrived, c.number))
	if v == viewPoison {
		switch i.Sequence % 10 {
		case 0:
			return ignoreStale(d.Release(ctx, time.Duration(i.Sequence%50)*time.Millisecond))
		case 1:
			return ignoreStale(d.Reject(ctx, "poison"))
		}
	}
	return c.settle(ctx, i, acking, acked, d)
}

func ignoreStale(err error) error {
	if errors.Is(err, polylog.ErrStale) {
		return nil // the broker was killed meanwhile
	}
	return err
}

func (c *client) settle(ctx context.Context, i item, before, after kind, d *polylog.Delivery[item]) error {
	c.j.write(i.event(before, c.number))
	err := d.Ack(context.WithoutCancel(ctx))
	switch {
	case err == nil:
		c.j.write(i.event(after, c.number))
	case !errors.Is(err, polylog.ErrInDoubt):
		c.j.write(i.event(unacked, c.number))
	}
	return ignoreStale(err)
}

// bury takes the dead letters.
func (c *client) bury(ctx context.Context, conn *polylog.Connection) {
	c.again(ctx, conn, func(s *polylog.Session) error {
		for d, err := range polylog.QueueOf[item](s, "DLQ."+viewNames[viewPoison]).Consume(ctx) {
			if err != nil {
				return err
			}
			c.j.write(d.Value.event(died, c.number))
			if err := c.settle(ctx, d.Value, burying, buried, d); err != nil {
				return err
			}
		}
		return nil
	})
}
