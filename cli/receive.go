package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// Bounds of what is held unacknowledged: one batch is written and flushed
// before the next one is asked for.
const (
	receiveMessages = 500
	receiveBytes    = 8 << 20
	assumedBytes    = 256 << 10 // of a message, until the first have come
)

// receiveFlags are shared by take and subscribe.
func receiveFlags(countText string) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "take `N` messages; exit code 3 if fewer came", DefaultText: countText},
		&cli.DurationFlag{Name: "timeout", Aliases: []string{"t"}, Usage: "give up when no message has come for this `TIME`; 0 does not wait", DefaultText: "wait on"},
		&cli.BoolFlag{Name: "json", Usage: "a line of JSON for each message, with headers and properties; -o json and -o jsonl do so too", DisableDefaultText: true},
		&cli.BoolFlag{Name: "null", Aliases: []string{"0"}, Usage: "end bodies with a NUL byte instead of a newline", DisableDefaultText: true},
		&cli.BoolFlag{Name: "no-ack", Usage: "give the messages back at the end; they count as delivered once", DisableDefaultText: true},
		selectorFlag(),
		&cli.StringFlag{Name: "reject", Usage: "send the messages to the dead letter destination, with this `REASON`"},
	}
}

// selectorFlag chooses messages: Jakarta Messaging 3.1 §3.8.
func selectorFlag() cli.Flag {
	return &cli.StringFlag{Name: "selector", Usage: "only messages that this `CONDITION` holds for, such as \"JMSPriority > 6 AND colour IN ('red', 'blue')\""}
}

// selected are the options that selectorFlag asks for.
func selected(c *cli.Context) []polylog.ConsumeOption {
	if text := c.String("selector"); text != "" {
		return []polylog.ConsumeOption{polylog.WithSelector(text)}
	}
	return nil
}

// receiver prints messages and settles what it has printed.
type receiver struct {
	// take is TakeBatch of a queue or a subscription.
	take func(ctx context.Context, max int, opts ...polylog.ConsumeOption) ([]*polylog.Delivery[*polylog.Message], error)
	// settle is called with what has been written and flushed.
	settle func(ctx context.Context, batch []*polylog.Delivery[*polylog.Message]) error

	count   int           // messages asked for; 0: no bound
	timeout time.Duration // without a message; negative: none
	out     *messageWriter
}

// newReceiver reads the flags; take is left to the caller.
func (r *run) newReceiver(c *cli.Context, session *polylog.Session) *receiver {
	v := &receiver{count: c.Int("count"), timeout: -1, out: r.newMessageWriter(c.Bool("json"), c.Bool("null"))}
	if c.IsSet("timeout") {
		v.timeout = c.Duration("timeout")
	}
	switch {
	case c.IsSet("reject"):
		reason := c.String("reject")
		v.settle = func(ctx context.Context, batch []*polylog.Delivery[*polylog.Message]) error {
			return rejectAll(ctx, batch, reason)
		}
	case c.Bool("no-ack"):
		// Held until the session closes: released earlier, they would come again.
		v.settle = func(context.Context, []*polylog.Delivery[*polylog.Message]) error { return nil }
	default:
		v.settle = func(ctx context.Context, _ []*polylog.Delivery[*polylog.Message]) error {
			return session.Acknowledge(ctx)
		}
	}
	return v
}

// checkReceiveFlags refuses what contradicts itself.
func checkReceiveFlags(c *cli.Context) error {
	switch {
	case c.IsSet("count") && c.Int("count") < 1:
		return usagef("--count %d: write a number from 1", c.Int("count"))
	case c.IsSet("reject") && c.Bool("no-ack"):
		return usagef("give --no-ack or --reject, not both")
	}
	return nil
}

// rejectAll rejects a batch at once, so that its syncs are shared.
func rejectAll(ctx context.Context, batch []*polylog.Delivery[*polylog.Message], reason string) error {
	errs := make([]error, len(batch))
	var wg sync.WaitGroup
	for i, d := range batch {
		wg.Go(func() { errs[i] = d.Reject(ctx, reason) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// run receives until count messages have come, none comes any more, or ctx
// ends.
func (v *receiver) run(ctx context.Context) error {
	got, err := v.receive(ctx)
	if endErr := v.out.end(); err == nil {
		err = endErr
	}
	switch {
	case err != nil:
		return err
	case v.count > 0 && got == v.count:
		return nil
	case ctx.Err() != nil:
		return errInterrupted
	case v.count > 0:
		return &exitError{exitFewer, fmt.Errorf("%d of %d messages came", got, v.count)}
	}
	return nil
}

func (v *receiver) receive(ctx context.Context) (got int, err error) {
	var bytes int
	for v.count == 0 || got < v.count {
		batch, err := v.next(ctx, v.room(got, bytes))
		for _, d := range batch {
			bytes += len(d.Value.Body)
			if err := v.out.write(d.Value); err != nil {
				return got, err
			}
		}
		if len(batch) > 0 {
			if err := v.out.flush(); err != nil {
				return got, err
			}
			if err := v.settleAll(ctx, batch); err != nil {
				return got, err
			}
			got += len(batch)
		}
		if errors.Is(err, polylog.ErrNoMessage) || ctx.Err() != nil {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// next asks for up to max messages and waits no longer than the timeout.
func (v *receiver) next(ctx context.Context, max int) ([]*polylog.Delivery[*polylog.Message], error) {
	if v.timeout == 0 {
		return v.take(ctx, max, polylog.NoWait())
	}
	if v.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, v.timeout)
		defer cancel()
	}
	return v.take(ctx, max)
}

// room is how many messages the next batch may have, by the size of those
// that have come.
func (v *receiver) room(got, bytes int) int {
	average := assumedBytes
	if got > 0 {
		average = bytes/got + 256
	}
	n := min(max(receiveBytes/average, 1), receiveMessages)
	if v.count > 0 {
		n = min(n, v.count-got)
	}
	return n
}

// settleAll settles although ctx may have ended: what was written is done.
func (v *receiver) settleAll(ctx context.Context, batch []*polylog.Delivery[*polylog.Message]) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := v.settle(ctx, batch); err != nil {
		return fmt.Errorf("%d messages were written but not settled, and may come again: %w", len(batch), err)
	}
	return nil
}
