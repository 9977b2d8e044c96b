package cli

import "github.com/urfave/cli/v2"

// queueCommand is `polylog queue`.
func (r *run) queueCommand() *cli.Command {
	return &cli.Command{
		Name: "queue", Category: categoryMessages,
		Usage: "put, take, browse, move, purge and redrive messages",
		Subcommands: []*cli.Command{
			r.putCommand(),
			r.takeCommand(),
			r.browseCommand(),
			r.moveCommand(),
			r.purgeCommand(),
			r.redriveCommand(),
		},
	}
}
