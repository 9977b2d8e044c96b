package cli

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// scheduleCommand is `polylog schedule`.
func (r *run) scheduleCommand() *cli.Command {
	return &cli.Command{
		Name: "schedule", Category: categoryOperation,
		Usage: "have messages sent again and again",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "have a message sent at the times of a cron expression", ArgsUsage: "NAME DESTINATION [BODY]",
				Description: "The message is sent once at each time, whatever becomes of the broker meanwhile. Its\n" +
					"property JMS_POLYLOG_SCHEDULE is the schedule's name; --delay and --ttl count from\n" +
					"each send. A time that a change of the clock leaves out is left out, and one that\n" +
					"comes twice is met twice.",
				Flags: slices.Concat([]cli.Flag{
					&cli.StringFlag{Name: "cron", Usage: "minute, hour, day of month, month and day of week; seconds may come first. Or @hourly, @daily, @every 90s", Required: true},
					&cli.StringFlag{Name: "zone", Usage: "the `ZONE` of the times, such as Europe/Berlin", DefaultText: "UTC"},
					&cli.BoolFlag{Name: "topic", Usage: "DESTINATION is a topic, not a queue", DisableDefaultText: true},
					&cli.StringFlag{Name: "start", Usage: "not before `TIME`: 2026-07-01T12:00:00Z"},
					&cli.StringFlag{Name: "end", Usage: "not after `TIME`"},
					&cli.Int64Flag{Name: "count", Usage: "no more than `N` times", DefaultText: "without end"},
					&cli.StringFlag{Name: "missed", Usage: "of the times at which the broker was not there: once (one message), skip or all", Value: "once"},
					&cli.BoolFlag{Name: "paused", Usage: "begin paused", DisableDefaultText: true},
				}, messageFlags()),
				Action: r.configured(r.scheduleCreate),
			},
			{
				Name: "list", Usage: "list the schedules, and when each sends next",
				Action: r.configured(r.scheduleList),
			},
			{
				Name: "pause", Usage: "stop schedules", ArgsUsage: "NAME...",
				Action: r.configured(r.scheduleEach("paused", func(c *cli.Context, a polylog.Admin, name string) error {
					_, err := a.PauseSchedule(c.Context, name, true)
					return err
				})),
			},
			{
				Name: "resume", Usage: "have schedules go on", ArgsUsage: "NAME...",
				Action: r.configured(r.scheduleEach("resumed", func(c *cli.Context, a polylog.Admin, name string) error {
					_, err := a.PauseSchedule(c.Context, name, false)
					return err
				})),
			},
			{
				Name: "delete", Usage: "delete schedules; what they have sent stays", ArgsUsage: "NAME...",
				Flags: []cli.Flag{yesFlag()},
				Action: r.configured(func(c *cli.Context) error {
					if err := r.ask(c.Bool("yes"), fmt.Sprintf("Delete the schedules %v?", c.Args().Slice())); err != nil {
						return err
					}
					return r.scheduleEach("deleted", func(c *cli.Context, a polylog.Admin, name string) error {
						return a.DeleteSchedule(c.Context, name)
					})(c)
				}),
			},
		},
	}
}

func (r *run) scheduleCreate(c *cli.Context) error {
	if err := operands(c, 2, 3); err != nil {
		return err
	}
	options, err := putOptions(c)
	if err != nil {
		return err
	}
	body := []byte(c.Args().Get(2))
	m := polylog.NewBytes(body)
	if utf8.Valid(body) {
		m = polylog.NewText(string(body))
	}
	if m, err = m.With(options...); err != nil {
		return err
	}
	spec := polylog.ScheduleSpec{
		Name: c.Args().Get(0), Destination: c.Args().Get(1), Kind: "queue", Cron: c.String("cron"), Zone: c.String("zone"),
		Count: c.Int64("count"), Missed: c.String("missed"), Paused: c.Bool("paused"),
	}
	if c.Bool("topic") {
		spec.Kind = "topic"
	}
	for name, to := range map[string]*int64{"start": &spec.StartMS, "end": &spec.EndMS} {
		if !c.IsSet(name) {
			continue
		}
		at, err := parseTime(c.String(name), r.now())
		if err != nil {
			return usagef("--%s %v", name, err)
		}
		*to = at.UnixMilli()
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		info, err := a.CreateSchedule(c.Context, spec, m)
		if err != nil {
			return err
		}
		if r.output == formatTable {
			r.say("schedule %s sends next %s", info.Name, scheduleTime(info.NextMS, "never"))
			return nil
		}
		return printOne(r, info)
	})
}

func scheduleTime(ms int64, none string) string {
	if ms == 0 {
		return none
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}

func (r *run) scheduleList(c *cli.Context) error {
	if err := operands(c, 0, 0); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		list, err := a.Schedules(c.Context)
		if err != nil {
			return err
		}
		return printList(r, list,
			column("NAME", func(s polylog.ScheduleInfo) string { return s.Name }),
			column("DESTINATION", func(s polylog.ScheduleInfo) string { return s.Destination }),
			column("CRON", func(s polylog.ScheduleInfo) string { return s.Cron }),
			column("ZONE", func(s polylog.ScheduleInfo) string { return s.Zone }),
			figures("SENT", func(s polylog.ScheduleInfo) string { return humanCount(s.Sent) }),
			column("LAST", func(s polylog.ScheduleInfo) string { return scheduleTime(s.LastMS, "-") }),
			column("NEXT", func(s polylog.ScheduleInfo) string {
				if s.Paused {
					return "paused"
				}
				return scheduleTime(s.NextMS, "never")
			}))
	})
}

// scheduleEach does the same to each schedule that is named.
func (r *run) scheduleEach(done string, do func(*cli.Context, polylog.Admin, string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := operands(c, 1, -1); err != nil {
			return err
		}
		return r.withAdmin(c.Context, func(a polylog.Admin) error {
			for _, name := range c.Args().Slice() {
				if err := do(c, a, name); err != nil {
					return err
				}
				r.say("schedule %s %s", name, done)
			}
			return nil
		})
	}
}
