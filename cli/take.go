package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

func (r *run) takeCommand() *cli.Command {
	flags := append(receiveFlags("1"),
		&cli.BoolFlag{Name: "all", Usage: "take what waits, without waiting for more unless --timeout says so", DisableDefaultText: true},
		&cli.BoolFlag{Name: "follow", Usage: "take until interrupted, and connect again if the broker was away", DisableDefaultText: true})
	return &cli.Command{
		Name: "take", Usage: "take messages from a queue and print them", ArgsUsage: "NAME",
		Description: "Prints the body of each message on a line of its own, and acknowledges the message\nonce it is written. What could not be written goes back to the queue.",
		Flags:       flags,
		Action:      r.configured(r.takeMessages),
	}
}

func (r *run) takeMessages(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	if err := checkReceiveFlags(c); err != nil {
		return err
	}
	ways := 0
	for _, name := range []string{"count", "all", "follow"} {
		if c.IsSet(name) {
			ways++
		}
	}
	if ways > 1 {
		return usagef("give one of --count, --all and --follow")
	}
	var options []polylog.Option
	if c.Bool("follow") {
		r.endless = !c.IsSet("timeout")
		options = append(options, reconnecting())
	}
	return r.withSession(c.Context, options, func(session *polylog.Session) error {
		v := r.newReceiver(c, session)
		switch {
		case c.Bool("follow"):
		case c.Bool("all"):
			v.timeout = max(v.timeout, 0)
		case v.count == 0:
			v.count = 1
		}
		queue, chosen := session.Queue(c.Args().First()), selected(c)
		v.take = func(ctx context.Context, max int, opts ...polylog.ConsumeOption) ([]*polylog.Delivery[*polylog.Message], error) {
			return queue.TakeBatch(ctx, max, append(opts, chosen...)...)
		}
		return v.run(c.Context)
	})
}
