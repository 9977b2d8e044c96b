package polylog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/polylog-mq/polylog/wire/native"
)

// establishTimeout bounds opening again all that was open.
const establishTimeout = 30 * time.Second

// supervise keeps the connection up until it is closed or given up.
func (c *Connection) supervise(l *link) {
	for {
		l.monitor()
		c.detach(l)
		if c.life.Err() != nil {
			c.finish(closedError("the connection is closed"))
			return
		}
		cause := l.cause()
		c.exception(cause)
		next, err := c.redial(c.life, cause)
		if err != nil {
			c.finish(err)
			return
		}
		l = next
	}
}

// detach takes a broken link away: first what it had delivered becomes stale,
// so that nothing new is settled on it, then those who wait are told.
func (c *Connection) detach(l *link) {
	sessions, consumers := c.snapshot()
	c.mu.Lock()
	c.link = nil
	c.generation.Store(0)
	consumers = append(consumers, c.dirty...) // among them such as are closed
	c.dirty = nil
	c.announce()
	c.mu.Unlock()
	for _, consumer := range consumers {
		consumer.disconnected()
	}
	for _, s := range sessions {
		s.work.lose()
	}
	l.lost()
}

// finish ends the connection for good.
func (c *Connection) finish(err error) {
	c.mu.Lock()
	c.err = err
	close(c.closed)
	c.announce()
	c.mu.Unlock()
	c.kill()
	sessions, consumers := c.snapshot()
	for _, consumer := range consumers {
		consumer.end(err)
	}
	for _, s := range sessions {
		s.sending.fail(err)
	}
	c.gate.open()
	c.completer.close()
}

// redial dials until it succeeds, the context ends, or the policy gives up.
func (c *Connection) redial(ctx context.Context, cause error) (*link, error) {
	p := c.options.reconnect
	if p.Disabled {
		return nil, closedError("the connection broke: %v", cause)
	}
	for attempt := 1; ; attempt++ {
		p.pause(ctx, attempt)
		l, err := c.dialAny(ctx)
		if err == nil {
			if err = c.resume(ctx, l); err == nil {
				c.options.logger.Info("polylog: connected again", "attempts", attempt)
				return l, nil
			}
		}
		if ctx.Err() != nil {
			return nil, closedError("the connection is closed")
		}
		if errors.Is(err, ErrUnauthorized) || p.Attempts > 0 && attempt >= p.Attempts {
			return nil, closedError("the connection broke (%v) and could not be made again: %v", cause, err)
		}
		c.options.logger.Debug("polylog: could not connect", "attempt", attempt, "error", err)
	}
}

// pause waits before an attempt, for a random while, so that a broker that
// comes back is not met by all its clients at once.
func (p ReconnectPolicy) pause(ctx context.Context, attempt int) {
	shortest := max(p.Min, time.Millisecond)
	longest := shortest
	for range attempt - 1 {
		if longest *= 2; longest >= p.Max {
			longest = max(p.Max, shortest)
			break
		}
	}
	timer := time.NewTimer(shortest + rand.N(longest-shortest+1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// resume goes on over a new link, or breaks it.
func (c *Connection) resume(ctx context.Context, l *link) error {
	ctx, cancel := context.WithTimeout(ctx, establishTimeout)
	defer cancel()
	c.attach(l)
	err := c.establish(ctx, l)
	if err != nil {
		l.fail(err)
		l.done.Wait()
		c.detach(l)
	}
	return err
}

// establish opens on a new link what is open, and then lets sends go.
func (c *Connection) establish(ctx context.Context, l *link) error {
	if c.gate.shut.Load() {
		_, err := l.call(ctx, func(request uint64) native.Frame {
			return &native.Flow{Request: request}
		})
		if err != nil {
			return fmt.Errorf("stop delivery: %w", err)
		}
	}
	sessions, consumers := c.snapshot()
	for _, s := range sessions {
		_, err := l.call(ctx, func(request uint64) native.Frame {
			return &native.OpenSession{Request: request, Session: s.number, Mode: s.mode}
		})
		if err != nil {
			return fmt.Errorf("open session %d again: %w", s.number, err)
		}
	}
	for _, consumer := range consumers {
		if err := consumer.reopen(ctx, l); err != nil {
			return err
		}
	}
	c.mu.Lock()
	producers := slices.Collect(maps.Values(c.producers))
	c.mu.Unlock()
	for _, p := range producers {
		if _, err := l.call(ctx, p.join); err != nil {
			return fmt.Errorf("join the producers %q again: %w", p.member.Group, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	l.established = true
	c.announce()
	l.wake.Signal()
	return nil
}

// reopen opens the consumer on a new link. A refusal ends the consumer, not
// the connection: its temporary destination is gone, for example.
func (c *consumer) reopen(ctx context.Context, l *link) error {
	c.mu.Lock()
	gone := c.closing || c.err != nil
	if !gone {
		c.generation.Store(l.generation)
	}
	c.mu.Unlock()
	if gone {
		return nil
	}
	var err error
	if c.temporary {
		err = temporaryGone(c.spec.Destination)
	} else {
		_, err = l.call(ctx, c.request)
	}
	var refused *Error
	if err == nil {
		c.replenish()
		c.signal()
		return nil
	}
	if errors.As(err, &refused) {
		err = fmt.Errorf("consume from %s again: %w", c.spec.Destination, err)
		c.c.forgetConsumer(c)
		c.end(err)
		c.c.exception(err)
		return nil
	}
	return err
}
