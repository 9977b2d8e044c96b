package cli

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// streamCommand is `polylog stream`.
func (r *run) streamCommand() *cli.Command {
	return &cli.Command{
		Name: "stream", Category: categoryMessages,
		Usage: "write and read records by partition, offset and key",
		Subcommands: []*cli.Command{
			r.streamWriteCommand(),
			r.streamReadCommand(),
		},
	}
}

// separator reads a flag's text, in which \t, \n, \\ and \x00 have their usual
// meaning, because shells have no plain way to write a tabulator.
func separator(c *cli.Context, name string) (string, error) {
	text := c.String(name)
	out, err := strconv.Unquote(`"` + strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(text) + `"`)
	if err != nil || out == "" {
		return "", usagef("--%s %q: write a text; a tabulator is \\t, a backslash \\\\", name, text)
	}
	return out, nil
}
