package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog/embed"
)

// devCommand is `polylog dev`.
func (r *run) devCommand() *cli.Command {
	var flags []cli.Flag
	for _, s := range settings {
		if s.section == sectionServe && s.name != "data" {
			flags = append(flags, s.flag())
		}
	}
	return &cli.Command{
		Name: "dev", Category: categoryBroker,
		Usage: "run a broker to try things with, and forget everything at the end",
		Description: "Like serve, on a temporary data directory that is removed when it ends. The flags\n" +
			"of serve hold, and so does [serve] in the configuration, but for its data directory.",
		Flags:  flags,
		Action: r.configured(r.dev),
	}
}

func (r *run) dev(c *cli.Context) (err error) {
	if err := operands(c, 0, 0); err != nil {
		return err
	}
	data, err := os.MkdirTemp("", "polylog-dev-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	return r.serveIn(c.Context, data, func(s *embed.Server, recovered time.Duration) error {
		_, err := fmt.Fprintf(r.stdout, "%s\n%s", readyLine(s, data, recovered), devHints(s.Addr()))
		return err
	})
}

// devHints are commands to copy into another terminal.
func devHints(native net.Addr) string {
	if native == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nTry in another terminal:\n\n   export POLYLOG_URL=polylog://%s\n", native)
	for _, line := range []string{
		`polylog queue put orders "first" "second"`,
		"polylog queue take orders --count 2",
		"polylog subscribe news &",
		`polylog topic publish news "hello"`,
		"polylog destination list",
		"polylog bench --duration 5s",
	} {
		fmt.Fprintf(&b, "   %s\n", line)
	}
	b.WriteString("\nCtrl-C ends the broker and removes its data.\n")
	return b.String()
}
