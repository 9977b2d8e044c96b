package cli

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// subscribeKinds are the flags that name a subscription; without one it is
// temporary.
var subscribeKinds = []string{"durable", "shared", "shared-durable", "exclusive"}

func (r *run) subscribeCommand() *cli.Command {
	flags := append([]cli.Flag{
		&cli.StringFlag{Name: "durable", Usage: "the durable subscription `NAME` of --client-id; made if it is not there"},
		&cli.StringFlag{Name: "shared", Usage: "the subscription `NAME`, which several consumers share until the last goes"},
		&cli.StringFlag{Name: "shared-durable", Usage: "the durable subscription `NAME`, which several consumers share"},
		&cli.StringFlag{Name: "exclusive", Usage: "the durable subscription `NAME`, of which one consumer at a time is served"},
		&cli.StringFlag{Name: "client-id", Usage: "the connection's client id, which a durable subscription belongs to"},
		&cli.BoolFlag{Name: "from-beginning", Usage: "a new subscription starts at the first message that is kept", DisableDefaultText: true},
		&cli.Int64Flag{Name: "from-offset", Usage: "a new subscription starts at offset `N`", DefaultText: "the topic's end"},
		&cli.StringFlag{Name: "from-time", Usage: "a new subscription starts at `TIME`: 2026-07-01T12:00:00Z, or -1h"},
		&cli.StringSliceFlag{Name: "set", Aliases: []string{"s"}, Usage: "a setting that a new subscription has in place of its topic's, as `NAME=VALUE`, any number of times"},
		&cli.Int64Flag{Name: "from-last", Usage: "a new subscription starts `N` messages before the topic's end, in each partition", DefaultText: "the topic's end"},
		&cli.BoolFlag{Name: "no-local", Usage: "leave out what this connection's client id has published", DisableDefaultText: true},
	}, receiveFlags("until interrupted")...)
	return &cli.Command{
		Name: "subscribe", Category: categoryMessages,
		Usage: "print a topic's messages as they come", ArgsUsage: "TOPIC",
		Description: "Without --count it goes on until interrupted, and connects again if the broker was\naway. A message is acknowledged once it is written.",
		Flags:       flags,
		Action:      r.configured(r.subscribe),
	}
}

func (r *run) subscribe(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	if err := checkReceiveFlags(c); err != nil {
		return err
	}
	options, err := subscribeOptions(c, r.now())
	if err != nil {
		return err
	}
	var connection []polylog.Option
	if id := c.String("client-id"); id != "" {
		connection = append(connection, polylog.WithClientID(id))
	}
	if !c.IsSet("count") {
		r.endless = !c.IsSet("timeout")
		connection = append(connection, reconnecting())
	}
	ctx := c.Context
	return r.withSession(ctx, connection, func(session *polylog.Session) error {
		subscription, err := openSubscription(ctx, c, session.Topic(c.Args().First()), options)
		if err != nil {
			return err
		}
		r.say("subscribed to %s", c.Args().First())
		v := r.newReceiver(c, session)
		v.take = subscription.TakeBatch
		return v.run(ctx)
	})
}

// openSubscription opens the kind that the flags name.
func openSubscription(ctx context.Context, c *cli.Context, topic *polylog.Topic[*polylog.Message], options []polylog.ConsumeOption) (*polylog.Subscription[*polylog.Message], error) {
	switch {
	case c.IsSet("durable"):
		return topic.Durable(ctx, c.String("durable"), options...)
	case c.IsSet("shared"):
		return topic.Shared(ctx, c.String("shared"), options...)
	case c.IsSet("shared-durable"):
		return topic.SharedDurable(ctx, c.String("shared-durable"), options...)
	case c.IsSet("exclusive"):
		return topic.Exclusive(ctx, c.String("exclusive"), options...)
	}
	return topic.Subscribe(ctx, options...)
}

func subscribeOptions(c *cli.Context, now time.Time) ([]polylog.ConsumeOption, error) {
	kinds := 0
	for _, name := range subscribeKinds {
		if !c.IsSet(name) {
			continue
		}
		if kinds++; c.String(name) == "" {
			return nil, usagef("--%s needs the subscription's name", name)
		}
	}
	if kinds > 1 {
		return nil, usagef("give one of --durable, --shared, --shared-durable and --exclusive")
	}
	// Jakarta Messaging 3.1 §8.3.3: an unshared durable subscription is named
	// by its client id too.
	if c.IsSet("durable") && c.String("client-id") == "" {
		return nil, usagef("--durable needs --client-id, which the subscription belongs to")
	}
	options, err := startOptions(c, now)
	if err != nil {
		return nil, err
	}
	if c.Bool("no-local") {
		options = append(options, polylog.WithNoLocal())
	}
	return append(options, selected(c)...), nil
}

// startOptions reads where a new subscription starts.
func startOptions(c *cli.Context, now time.Time) ([]polylog.ConsumeOption, error) {
	var options []polylog.ConsumeOption
	if c.Bool("from-beginning") {
		options = append(options, polylog.FromBeginning())
	}
	if c.IsSet("from-offset") {
		if c.Int64("from-offset") < 0 {
			return nil, usagef("--from-offset %d: offsets begin at 0", c.Int64("from-offset"))
		}
		options = append(options, polylog.FromOffset(c.Int64("from-offset")))
	}
	if c.IsSet("from-time") {
		t, err := parseTime(c.String("from-time"), now)
		if err != nil {
			return nil, usagef("--from-time %w", err)
		}
		options = append(options, polylog.FromTime(t))
	}
	if c.IsSet("set") {
		settings, err := parseSettings(c.StringSlice("set"))
		if err != nil {
			return nil, err
		}
		options = append(options, polylog.WithSettings(settings))
	}
	if c.IsSet("from-last") {
		if c.Int64("from-last") < 0 {
			return nil, usagef("--from-last %d: give a number of messages", c.Int64("from-last"))
		}
		options = append(options, polylog.FromLast(c.Int64("from-last")))
	}
	if len(options) > 1 {
		return nil, usagef("give one of --from-beginning, --from-offset, --from-time and --from-last")
	}
	return options, nil
}
