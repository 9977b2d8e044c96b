package cli

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// statsCommand is `polylog stats`.
func (r *run) statsCommand() *cli.Command {
	return &cli.Command{
		Name: "stats", Category: categoryOperation,
		Usage: "show how the broker is doing",
		Action: r.configured(func(c *cli.Context) error {
			if err := operands(c, 0, 0); err != nil {
				return err
			}
			return r.withAdmin(c.Context, func(a polylog.Admin) error {
				s, err := a.Stats(c.Context)
				if err != nil {
					return err
				}
				started := time.UnixMilli(s.StartedMS)
				return printOne(r, s,
					pair{"version", s.Version},
					pair{"started", started.Format(time.DateTime) + ", " + humanDuration(r.now().Sub(started).Round(time.Second)) + " ago"},
					pair{"epoch", humanCount(int64(s.Epoch))},
					pair{"recovery", humanDuration(time.Duration(s.RecoveryMS)*time.Millisecond) + " for " + humanCount(s.RecoveredMsgs) + " journal entries"},
					pair{"destinations", humanCount(int64(s.Destinations))},
					pair{"connections", humanCount(int64(s.Connections))},
					pair{"journal", humanBytes(s.JournalBytes)},
					pair{"syncs", humanCount(s.Syncs)},
					pair{"heap", humanBytes(int64(s.HeapBytes))})
			})
		}),
	}
}
