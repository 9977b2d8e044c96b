package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/wire/native"
)

// transferFlags are shared by move, purge and redrive.
func transferFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.Int64Flag{Name: "max", Usage: "no more than `N` messages", DefaultText: "all that wait now"},
		selectorFlag(),
		yesFlag(),
	}, more...)
}

func (r *run) moveCommand() *cli.Command {
	return &cli.Command{
		Name: "move", Usage: "move waiting messages to another destination", ArgsUsage: "NAME TO",
		Flags: transferFlags(),
		Action: r.configured(func(c *cli.Context) error {
			if err := operands(c, 2, 2); err != nil {
				return err
			}
			spec := transferSpec(c)
			spec.To = c.Args().Get(1)
			return r.transfer(c, fmt.Sprintf("Move the waiting messages of %s to %s?", spec.Name, spec.To), "moved", spec, polylog.Admin.Move)
		}),
	}
}

func (r *run) purgeCommand() *cli.Command {
	return &cli.Command{
		Name: "purge", Usage: "delete waiting messages", ArgsUsage: "NAME",
		Flags: transferFlags(),
		Action: r.configured(func(c *cli.Context) error {
			if err := operands(c, 1, 1); err != nil {
				return err
			}
			spec := transferSpec(c)
			return r.transfer(c, fmt.Sprintf("Delete the waiting messages of %s?", spec.Name), "purged", spec, polylog.Admin.Purge)
		}),
	}
}

func (r *run) redriveCommand() *cli.Command {
	return &cli.Command{
		Name: "redrive", Usage: "send dead letters back to where they came from", ArgsUsage: "DEAD-LETTER-QUEUE",
		Description: "What came from a queue goes back to it. What came from a subscription is published\n" +
			"again to its topic, and so to all the topic's subscriptions: those that are done\n" +
			"with it get it a second time, as a new message with the same body and properties.\n" +
			"With --to it goes to another place, such as a queue, instead.\n\n" +
			"Each message is in one place or the other whenever the broker or this command is\n" +
			"stopped; the same command again goes on with those that are left. A message that\n" +
			"was redriven --max-redrives times and has died again stays.",
		Flags: transferFlags(
			&cli.StringFlag{Name: "to", Usage: "send them to `NAME` instead"},
			&cli.StringFlag{Name: "id", Usage: "only the message with this `ID`"},
			&cli.IntFlag{Name: "max-redrives", Value: native.DefaultMaxRedrives, Usage: "leave those that were redriven `N` times already; -1: however often"},
			&cli.Float64Flag{Name: "rate", Usage: "no more than `N` messages a second", DefaultText: "as fast as it goes"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only count, by destination", DisableDefaultText: true},
		),
		Action: r.configured(func(c *cli.Context) error {
			if err := operands(c, 1, 1); err != nil {
				return err
			}
			spec := transferSpec(c)
			spec.To, spec.DryRun, spec.MaxRedrives = c.String("to"), c.Bool("dry-run"), c.Int("max-redrives")
			switch id := c.String("id"); {
			case spec.MaxRedrives == 0 || spec.MaxRedrives < -1:
				return usagef("--max-redrives %d: write a number from 1, or -1 for no limit", spec.MaxRedrives)
			case c.Float64("rate") < 0:
				return usagef("--rate %v: write a number above 0", c.Float64("rate"))
			case id != "" && spec.Selector != "":
				return usagef("give --id or --selector")
			case id != "":
				spec.Selector = "JMSMessageID = '" + strings.ReplaceAll(id, "'", "''") + "'"
			}
			if spec.DryRun {
				return r.transfer(c, "", "would be redriven", spec, polylog.Admin.Redrive)
			}
			where := "back to where they came from"
			if spec.To != "" {
				where = "to " + spec.To
			}
			return r.transfer(c, fmt.Sprintf("Send the messages of %s %s?", spec.Name, where), "redriven", spec, polylog.Admin.Redrive)
		}),
	}
}

func transferSpec(c *cli.Context) polylog.TransferSpec {
	return polylog.TransferSpec{Name: c.Args().First(), Max: c.Int64("max"), Selector: c.String("selector")}
}

// transferStep is how many messages one request moves, so that progress can be
// seen, and a rate kept to.
const transferStep = 10_000

type transferFunc func(polylog.Admin, context.Context, polylog.TransferSpec) (polylog.TransferResult, error)

// transfer asks, if there is a question, does it, and says how many messages
// there were.
func (r *run) transfer(c *cli.Context, question, verb string, spec polylog.TransferSpec, do transferFunc) error {
	if spec.Max < 0 {
		return usagef("--max %d: write a number from 1, or leave it out for all", spec.Max)
	}
	if question != "" {
		if err := r.ask(c.Bool("yes"), question); err != nil {
			return err
		}
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		result, err := r.transferAll(c, a, verb, spec, do)
		if err != nil {
			return fmt.Errorf("%s %s, then: %w", messages(result.Messages), verb, err)
		}
		if r.output != formatTable {
			return printOne(r, result)
		}
		r.say("%s %s", messages(result.Messages), verb)
		for _, name := range slices.Sorted(maps.Keys(result.To)) {
			r.say("  %s to %s", messages(result.To[name]), name)
		}
		if result.Skipped > 0 {
			r.say("%s left: redriven %d times already (see --max-redrives)", messages(result.Skipped), spec.MaxRedrives)
		}
		return nil
	})
}

// transferAll does it step by step, at a rate if one is given.
func (r *run) transferAll(c *cli.Context, a polylog.Admin, verb string, spec polylog.TransferSpec, do transferFunc) (sum polylog.TransferResult, err error) {
	step, pace := int64(transferStep), newPacer(0)
	if rate := c.Float64("rate"); rate > 0 {
		step = min(step, max(1, int64(rate/4)))
		pace = newPacer(rate / float64(step))
	}
	progress := r.startProgress(verb)
	defer progress.stop()
	sum.To = map[string]int64{}
	limit := spec.Max
	// To purge everything is one step, however many there are.
	stepped := !spec.DryRun && (verb != "purged" || spec.Selector != "")
	for {
		if stepped {
			if spec.Max = step; limit > 0 {
				spec.Max = min(step, limit-sum.Messages)
			}
			if err := pace.wait(c.Context); err != nil {
				return sum, err
			}
		}
		result, err := do(a, c.Context, spec)
		sum.Messages += result.Messages
		sum.Skipped += result.Skipped
		progress.add(result.Messages)
		for name, n := range result.To {
			sum.To[name] += n
		}
		if err != nil || !result.More || !stepped || limit > 0 && sum.Messages >= limit {
			return sum, err
		}
		spec.After = result.Next
	}
}
