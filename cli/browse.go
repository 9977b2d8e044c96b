package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// browseStates are what "state" says of a browsed message.
var browseStates = map[polylog.BrowseState]string{
	polylog.BrowseAvailable: "available", polylog.BrowseAcquired: "acquired",
	polylog.BrowseScheduled: "scheduled", polylog.BrowseHeld: "held",
}

func (r *run) browseCommand() *cli.Command {
	return &cli.Command{
		Name: "browse", Usage: "print a queue's messages without taking them", ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "no more than `N` messages", DefaultText: "all"},
			&cli.BoolFlag{Name: "json", Usage: "a line of JSON for each message, with headers and properties; -o json and -o jsonl do so too", DisableDefaultText: true},
			selectorFlag(),
			&cli.BoolFlag{Name: "null", Aliases: []string{"0"}, Usage: "end bodies with a NUL byte instead of a newline", DisableDefaultText: true},
		},
		Action: r.configured(r.browse),
	}
}

func (r *run) browse(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	limit := c.Int("count")
	if c.IsSet("count") && limit < 1 {
		return usagef("--count %d: write a number from 1", limit)
	}
	return r.withSession(c.Context, nil, func(session *polylog.Session) error {
		out := r.newMessageWriter(c.Bool("json"), c.Bool("null"))
		for b, err := range session.Queue(c.Args().First()).Browse(c.Context, selected(c)...) {
			if err != nil {
				return fmt.Errorf("after %d messages: %w", out.written, err)
			}
			if err := out.writeInfo(b.Value, browseStates[b.State]); err != nil {
				return err
			}
			if out.written == limit {
				break
			}
		}
		return out.end()
	})
}
