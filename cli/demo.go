package cli

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog/demo"
)

// demoCommand is `polylog demo`.
func (r *run) demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Category: categoryBroker,
		Usage: "tell the whole story on recorded webhooks, kill -9 included, and account for every message",
		Description: "Runs a broker of its own on temporary data and loopback; touches nothing else.\n" +
			"Exit code 1 if a message is missing or doubled.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "rounds", Value: 20, Usage: "how often each recorded webhook is delivered"},
		},
		Action: r.configured(r.demo),
	}
}

func (r *run) demo(c *cli.Context) error {
	if err := operands(c, 0, 0); err != nil {
		return err
	}
	if c.Int("rounds") < 2 {
		return usagef("--rounds is at least 2: one before and one after the broker is killed")
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, which is to run the broker: %w", err)
	}
	err = demo.Run(c.Context, demo.Options{Program: program, Rounds: c.Int("rounds"), Out: r.stdout})
	if err != nil && c.Context.Err() != nil {
		return errInterrupted // whatever the story broke off with
	}
	return err
}
