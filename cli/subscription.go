package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/destination"
)

// subscriptionCommand is `polylog subscription`.
func (r *run) subscriptionCommand() *cli.Command {
	clientID := &cli.StringFlag{Name: "client-id", Usage: "the client id that the subscription belongs to"}
	shared := &cli.BoolFlag{Name: "shared", Usage: "it is a shared one, which may have no client id", DisableDefaultText: true}
	return &cli.Command{
		Name: "subscription", Category: categoryOperation,
		Usage: "list, alter, delete and seek the subscriptions of topics",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the subscriptions, of one topic or of all", ArgsUsage: "[TOPIC]",
				Action: r.configured(r.subscriptionList),
			},
			{
				Name: "alter", Usage: "change the settings that a subscription has in place of its topic's", ArgsUsage: "TOPIC NAME",
				Description: "A subscription may have its own of these settings; an empty value has the topic's\nhold again:\n\n   " + strings.Join(destination.Overridable(), "\n   "),
				Flags: []cli.Flag{
					clientID, shared,
					&cli.StringSliceFlag{Name: "set", Aliases: []string{"s"}, Usage: "a setting as `NAME=VALUE`, any number of times"},
				},
				Action: r.configured(r.subscriptionAlter),
			},
			{
				Name: "delete", Usage: "delete a subscription and forget what it has not consumed", ArgsUsage: "TOPIC NAME",
				Flags:  []cli.Flag{clientID, shared, yesFlag()},
				Action: r.configured(r.subscriptionDelete),
			},
			{
				Name: "seek", Usage: "set where a subscription goes on", ArgsUsage: "TOPIC NAME",
				Description: "What the subscription has consumed behind that place comes again; what it has not\nconsumed before it never comes. Exactly one place must be given.",
				Flags: []cli.Flag{
					clientID, shared,
					&cli.BoolFlag{Name: "to-beginning", Usage: "the first message that is kept", DisableDefaultText: true},
					&cli.BoolFlag{Name: "to-end", Usage: "behind the last message", DisableDefaultText: true},
					&cli.Int64Flag{Name: "offset", Usage: "the message at offset `N` of each partition", DefaultText: "none"},
					&cli.StringFlag{Name: "time", Usage: "the first message at or after `TIME`: 2026-07-01T12:00:00Z, or -1h"},
					&cli.Int64Flag{Name: "last", Usage: "`N` messages before the end of each partition", DefaultText: "none"},
					yesFlag(),
				},
				Action: r.configured(r.subscriptionSeek),
			},
		},
	}
}

func (r *run) subscriptionList(c *cli.Context) error {
	if err := operands(c, 0, 1); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		list, err := a.Subscriptions(c.Context, c.Args().First())
		if err != nil {
			return err
		}
		return printList(r, list,
			column("TOPIC", func(s polylog.SubscriptionInfo) string { return s.Topic }),
			column("NAME", func(s polylog.SubscriptionInfo) string { return s.Name }),
			column("CLIENT ID", func(s polylog.SubscriptionInfo) string { return s.ClientID }),
			column("KIND", func(s polylog.SubscriptionInfo) string { return s.Kind }),
			figures("WAITING", func(s polylog.SubscriptionInfo) string { return humanCount(s.View.Waiting) }),
			figures("ACQUIRED", func(s polylog.SubscriptionInfo) string { return humanCount(s.View.Acquired) }),
			figures("CONSUMERS", func(s polylog.SubscriptionInfo) string { return humanCount(int64(s.View.Consumers)) }),
			column("SELECTOR", func(s polylog.SubscriptionInfo) string { return s.Selector }))
	})
}

func subscriptionSpec(c *cli.Context) polylog.SubscriptionSpec {
	return polylog.SubscriptionSpec{
		Topic: c.Args().Get(0), Name: c.Args().Get(1),
		ClientID: c.String("client-id"), Shared: c.Bool("shared"),
	}
}

// whichSubscription adds to a refusal the flags that a subscription is named by
// besides its own name: Jakarta Messaging 3.1 §8.3.3.
func whichSubscription(err error, spec polylog.SubscriptionSpec) error {
	if !errors.Is(err, polylog.ErrNotFound) {
		return err
	}
	missing := ""
	switch {
	case spec.ClientID == "" && !spec.Shared:
		missing = "give --client-id ID if it belongs to one, or --shared if it is a shared one"
	case spec.ClientID == "":
		missing = "give --client-id ID if it belongs to one"
	case !spec.Shared:
		missing = "give --shared if it is a shared one"
	default:
		missing = "leave out --client-id if it belongs to none"
	}
	return fmt.Errorf("%w\n%s; `polylog subscription list %s` shows what there is", err, sentence(missing), spec.Topic)
}

func (r *run) subscriptionDelete(c *cli.Context) error {
	if err := operands(c, 2, 2); err != nil {
		return err
	}
	spec := subscriptionSpec(c)
	if err := r.ask(c.Bool("yes"), fmt.Sprintf("Delete the subscription %s of %s?", spec.Name, spec.Topic)); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		if err := a.DeleteSubscription(c.Context, spec); err != nil {
			return whichSubscription(err, spec)
		}
		r.say("subscription %s deleted", spec.Name)
		return nil
	})
}

func (r *run) subscriptionAlter(c *cli.Context) error {
	if err := operands(c, 2, 2); err != nil {
		return err
	}
	spec := subscriptionSpec(c)
	var err error
	if spec.Settings, err = parseSettings(c.StringSlice("set")); err != nil {
		return err
	}
	if len(spec.Settings) == 0 {
		return usagef("nothing to change; add --set NAME=VALUE")
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		info, err := a.AlterSubscription(c.Context, spec)
		if err != nil {
			return whichSubscription(err, spec)
		}
		if r.output == formatTable {
			r.say("subscription %s altered", spec.Name)
			return nil
		}
		return printOne(r, info)
	})
}

func (r *run) subscriptionSeek(c *cli.Context) error {
	if err := operands(c, 2, 2); err != nil {
		return err
	}
	spec := subscriptionSpec(c)
	if err := seekTarget(c, &spec, r.now()); err != nil {
		return err
	}
	if err := r.ask(c.Bool("yes"), fmt.Sprintf("Seek the subscription %s of %s?", spec.Name, spec.Topic)); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		info, err := a.SeekSubscription(c.Context, spec)
		if err != nil {
			return whichSubscription(err, spec)
		}
		if r.output == formatTable {
			r.say("subscription %s goes on with %s waiting", spec.Name, messages(info.View.Waiting))
			return nil
		}
		return printOne(r, info)
	})
}

// seekTarget reads the one flag that says where to.
func seekTarget(c *cli.Context, spec *polylog.SubscriptionSpec, now time.Time) error {
	given := 0
	for _, name := range []string{"to-beginning", "to-end", "offset", "time", "last"} {
		if c.IsSet(name) {
			given++
		}
	}
	if given != 1 {
		return usagef("where to? Give one of --to-beginning, --to-end, --offset N, --time TIME, --last N")
	}
	switch {
	case c.IsSet("to-beginning"):
		spec.To = polylog.StartBeginning
	case c.IsSet("to-end"):
		spec.ToEnd = true
	case c.IsSet("offset"):
		spec.To, spec.At = polylog.StartOffset, c.Int64("offset")
		if spec.At < 0 {
			return usagef("--offset %d: offsets begin at 0", spec.At)
		}
	case c.IsSet("last"):
		spec.To, spec.At = polylog.StartLast, c.Int64("last")
		if spec.At < 0 {
			return usagef("--last %d: give a number of messages", spec.At)
		}
	default:
		t, err := parseTime(c.String("time"), now)
		if err != nil {
			return usagef("--time %w", err)
		}
		spec.To, spec.At = polylog.StartTime, t.UnixMilli()
	}
	return nil
}

// parseTime reads a time as RFC 3339, as a date, or as a duration before now.
func parseTime(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 2026-07-01T12:00:00Z, or -1h for an hour ago", text)
}
