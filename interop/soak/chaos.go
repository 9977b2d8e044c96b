package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// chaos kills the broker at random moments and starts it again.
type chaos struct {
	broker *process
	random *rand.Rand
	every  time.Duration // between kills, in the middle
	limit  int           // kills

	killed func()                        // after each
	back   func(took time.Duration)      // each time that it serves again
	broken func(format string, a ...any) // it ended by itself, or does not come back
}

// run ends when there were enough kills, or with the context; the broker serves then,
// unless it is broken.
func (c *chaos) run(ctx context.Context, kills int) {
	for kills < c.limit {
		if !wait(ctx, time.Duration((0.25+1.5*c.random.Float64())*float64(c.every))) {
			break
		}
		if c.broker.failed() {
			c.broken("the broker ended by itself")
		}
		c.broker.kill()
		c.killed()
		kills++
		// Sometimes at once, sometimes later, sometimes killed again while it recovers.
		wait(ctx, time.Duration(c.random.Float64()*c.random.Float64()*float64(2*time.Second)))
		began := time.Now()
		if err := c.broker.launch(); err != nil {
			c.broken("start: %v", err)
			return
		}
		if c.random.IntN(8) == 0 && kills < c.limit {
			wait(ctx, time.Duration(c.random.Float64()*float64(500*time.Millisecond)))
			c.broker.kill()
			c.killed()
			kills++
			began = time.Now()
			if err := c.broker.launch(); err != nil {
				c.broken("start: %v", err)
				return
			}
		}
		if err := c.broker.awaitReady(context.WithoutCancel(ctx)); err != nil {
			c.broken("restart: %v", err)
			return
		}
		c.back(time.Since(began))
	}
	if c.broker.failed() {
		c.broken("the broker ended by itself")
	}
}
