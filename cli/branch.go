package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// branchCommand is `polylog branch`.
func (r *run) branchCommand() *cli.Command {
	return &cli.Command{
		Name: "branch", Category: categoryOperation,
		Usage: "list and settle prepared branches of distributed (XA) transactions",
		Description: "A prepared branch waits for its transaction manager, and holds what it acknowledges\n" +
			"until then. Ending one here is for managers that never come back: what the other\n" +
			"resources of the transaction do may differ. A manager that comes is told, until\n" +
			"the branch is forgotten.",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the branches that are prepared, or were ended here",
				Action: r.configured(r.branchList),
			},
			{
				Name: "commit", Usage: "commit prepared branches in place of their manager", ArgsUsage: "XID...",
				Flags:  []cli.Flag{yesFlag()},
				Action: r.configured(r.branchEnd("Commit", "committed", func(c *cli.Context, a polylog.Admin, x polylog.XID) error { return a.SettleBranch(c.Context, x, true) })),
			},
			{
				Name: "rollback", Usage: "roll prepared branches back in place of their manager", ArgsUsage: "XID...",
				Flags:  []cli.Flag{yesFlag()},
				Action: r.configured(r.branchEnd("Roll back", "rolled back", func(c *cli.Context, a polylog.Admin, x polylog.XID) error { return a.SettleBranch(c.Context, x, false) })),
			},
			{
				Name: "forget", Usage: "forget branches that were ended here, if their manager does not", ArgsUsage: "XID...",
				Flags:  []cli.Flag{yesFlag()},
				Action: r.configured(r.branchEnd("Forget", "forgotten", func(c *cli.Context, a polylog.Admin, x polylog.XID) error { return a.ForgetBranch(c.Context, x) })),
			},
		},
	}
}

// branchRow is a branch as it is printed.
type branchRow struct {
	XID string `json:"xid"`
	polylog.BranchInfo
}

func (r *run) branchList(c *cli.Context) error {
	if err := operands(c, 0, 0); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		all, err := a.Branches(c.Context)
		if err != nil {
			return err
		}
		rows := make([]branchRow, len(all))
		for i := range all {
			rows[i] = branchRow{all[i].XID.String(), all[i]}
		}
		return printList(r, rows,
			column("XID", func(b branchRow) string { return b.XID }),
			column("STATE", func(b branchRow) string { return b.State }),
			figures("AGE", func(b branchRow) string { return humanDuration(time.Since(time.UnixMilli(b.PreparedMS))) }),
			figures("SENDS", func(b branchRow) string { return humanCount(int64(b.Sends)) }),
			figures("ACKNOWLEDGES", func(b branchRow) string { return humanCount(int64(b.Acknowledges)) }),
			column("DESTINATIONS", func(b branchRow) string { return strings.Join(b.Destinations, ",") }))
	})
}

// branchEnd does the same to each branch that is named.
func (r *run) branchEnd(question, done string, do func(*cli.Context, polylog.Admin, polylog.XID) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := operands(c, 1, -1); err != nil {
			return err
		}
		var xids []polylog.XID
		for _, text := range c.Args().Slice() {
			x, err := polylog.ParseXID(text)
			if err != nil {
				return usagef("%v; `polylog branch list` prints them", err)
			}
			xids = append(xids, x)
		}
		if err := r.ask(c.Bool("yes"), fmt.Sprintf("%s %s?", question, strings.Join(c.Args().Slice(), ", "))); err != nil {
			return err
		}
		return r.withAdmin(c.Context, func(a polylog.Admin) error {
			for _, x := range xids {
				if err := do(c, a, x); err != nil {
					return fmt.Errorf("%s: %w", x, err)
				}
				r.say("branch %s %s", x, done)
			}
			return nil
		})
	}
}
