package cli

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
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
			"With --to it goes to another place, such as a queue, instead.",
		Flags: transferFlags(&cli.StringFlag{Name: "to", Usage: "send them to `NAME` instead"}),
		Action: r.configured(func(c *cli.Context) error {
			if err := operands(c, 1, 1); err != nil {
				return err
			}
			spec := transferSpec(c)
			spec.To = c.String("to")
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

// transfer asks, does it, and says how many messages there were.
func (r *run) transfer(c *cli.Context, question, verb string, spec polylog.TransferSpec, do func(polylog.Admin, context.Context, polylog.TransferSpec) (int64, error)) error {
	if spec.Max < 0 {
		return usagef("--max %d: write a number from 1, or leave it out for all", spec.Max)
	}
	if err := r.ask(c.Bool("yes"), question); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		n, err := do(a, c.Context, spec)
		if err != nil {
			return fmt.Errorf("%s %s, then: %w", messages(n), verb, err)
		}
		if r.output == formatTable {
			r.say("%s %s", messages(n), verb)
			return nil
		}
		return printOne(r, struct {
			Messages int64 `json:"messages"`
		}{n})
	})
}
