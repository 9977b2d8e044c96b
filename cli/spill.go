package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/spill"
)

// spillFlag is of put and publish.
func spillFlag() cli.Flag {
	return &cli.StringFlag{Name: "spill", Usage: "keep in `DIR` what no broker takes; what is there goes first the next time, also without any message"}
}

// sendSpilling is send by way of a directory. It is done when every message is
// safe, and when what is in the directory goes no further.
func (r *run) sendSpilling(c *cli.Context, to spill.Destination, compose composeFunc, options []polylog.PutOption) (err error) {
	if err := checkSend(c); err != nil {
		return err
	}
	ctx, dir := c.Context, c.String("spill")
	if dir == "" {
		return usagef("--spill: name a directory")
	}
	p, err := spill.Open(dir, r.config.text("url"), spill.Options{Connect: []polylog.Option{polylog.WithLogger(r.clientLogger())}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	send := func(ctx context.Context, m *polylog.Message, done func(polylog.Receipt, error), opts ...polylog.PutOption) error {
		return p.SendAsync(ctx, to, m, func(_ spill.Receipt, err error) { done(polylog.Receipt{}, err) }, opts...)
	}
	safe, err := r.sendEach(c, compose, send, options, "safe")
	if err == nil {
		err = drainSpilled(ctx, p)
	}
	kept, why := p.Pending(), p.Err()
	told := fmt.Sprintf("%s safe", messages(safe))
	if kept > 0 {
		told += fmt.Sprintf("; %s in %s", messages(kept), dir)
		if why != nil {
			told += fmt.Sprintf(" until the broker takes them: %v", why)
		}
	}
	if err != nil {
		return fmt.Errorf("%s, then: %w", told, err)
	}
	r.say("%s", told)
	return nil
}

// drainSpilled waits as long as the broker takes what there is.
func drainSpilled(ctx context.Context, p *spill.Producer) error {
	for p.Err() == nil {
		before := p.Pending()
		waiting, cancel := context.WithTimeout(ctx, time.Second)
		err := p.Flush(waiting)
		cancel()
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err == nil || p.Pending() == before { // the directory has the rest
			return nil
		}
	}
	return nil
}
