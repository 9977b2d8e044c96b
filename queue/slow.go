package queue

import (
	"fmt"
	"slices"

	"github.com/polylog-mq/polylog/destination"
)

// settles counts what a consumer has settled. The view's lock is held.
func (c *Consumer) settles(records int64) {
	if records > 0 {
		c.held = max(c.held-records, 0)
		c.settled = c.v.now()
	}
}

// closeSlow closes the consumers that hold messages and have settled none for
// slow.consumer.timeout, so that others get them. Those with a lock lose them
// anyway.
func (v *View) closeSlow(now int64) {
	timeout := v.settings.SlowConsumer.Milliseconds()
	if timeout == 0 {
		return
	}
	for _, c := range slices.Clone(v.consumers) {
		if c.held == 0 || c.lockMS > 0 {
			continue
		}
		if due := c.settled + timeout; now < due {
			v.timer.want(due)
			continue
		}
		v.deps.Logger.Warn("a consumer is closed that settles nothing", "destination", v.d.Name, "held", c.held, "timeout", v.settings.SlowConsumer)
		err := fmt.Errorf("%w: it held %d messages of %q and settled none for %s (slow.consumer.timeout)", destination.ErrSlowConsumer, c.held, v.d.Name, v.settings.SlowConsumer)
		c.leave(false)
		c.sink.Closed(c, err)
	}
}
