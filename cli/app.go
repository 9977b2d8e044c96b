package cli

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// The categories of the top command's help, in the order of the names' sort.
const (
	categoryBroker    = "Broker"
	categoryMessages  = "Messages"
	categoryOperation = "Operation"
	categoryProgram   = "Program"
)

// newApp builds the command tree on r.
func newApp(r *run) *cli.App {
	app := &cli.App{
		Name:                      "polylog",
		Usage:                     "a message server: queues, topics and streams over one log",
		UsageText:                 "polylog [global flags] COMMAND [flags] [arguments]",
		Description:               "Flags may stand before or after the arguments; -- ends them.\n\n" + exitCodesHelp(),
		Flags:                     append(flagsOf(sectionGlobal), configFileFlag(), cli.HelpFlag),
		HideVersion:               true,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     appHelp,
		Reader:                    r.stdin,
		Writer:                    r.stdout,
		ErrWriter:                 r.stderr,
		ExitErrHandler:            func(*cli.Context, error) {}, // the exit code is main's
		OnUsageError:              usageError,
		Action:                    group,
		Commands: []*cli.Command{
			r.serveCommand(),
			r.devCommand(),
			r.demoCommand(),
			r.checkCommand(),
			r.adoptCommand(),
			r.queueCommand(),
			r.topicCommand(),
			r.subscribeCommand(),
			r.streamCommand(),
			r.destinationCommand(),
			r.subscriptionCommand(),
			r.groupCommand(),
			r.branchCommand(),
			r.scheduleCommand(),
			r.userCommand(),
			r.aclCommand(),
			r.statsCommand(),
			r.benchCommand(),
			r.configCommand(),
			r.completionCommand(),
			r.completeCommand(),
			r.versionCommand(),
			r.helpCommand(),
		},
	}
	prepare(app.Commands)
	return app
}

// prepare gives every command what all of them share.
func prepare(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelpCommand = true // else a queue could not be called help
		c.OnUsageError = usageError
		c.CustomHelpTemplate = commandHelp
		if len(c.Subcommands) > 0 {
			c.CustomHelpTemplate = groupHelp
			c.Action = group
			prepare(c.Subcommands)
		}
	}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	return &exitError{exitUsage, err}
}

// group is the action of a command that only has commands below it.
func group(c *cli.Context) error {
	commands, path := c.App.Commands, "polylog"
	if c.Command.Name != c.App.Name {
		commands, path = c.Command.Subcommands, c.Command.HelpName
	}
	if !c.Args().Present() {
		if c.Command.Name == c.App.Name {
			return cli.ShowAppHelp(c)
		}
		return cli.ShowSubcommandHelp(c)
	}
	word := c.Args().First()
	return usagef("%s has no command %q%s (see %s --help)", path, word, hint(word, commandNames(commands)), path)
}

// commandNames lists the names, aliases included, of the commands to be seen.
func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Names()...)
		}
	}
	return names
}

// helpCommand is `polylog help [COMMAND ...]`, the same as --help behind the
// command.
func (r *run) helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Category: categoryProgram,
		Usage:     "tell about a command",
		ArgsUsage: "[COMMAND ...]",
		Action: func(c *cli.Context) error {
			args := append([]string{"polylog"}, c.Args().Slice()...)
			return newApp(r).RunContext(c.Context, append(args, "--help"))
		},
	}
}

// operands checks the number of a command's operands; most < 0 means any.
func operands(c *cli.Context, least, most int) error {
	n := c.NArg()
	if n < least || most >= 0 && n > most {
		usage := strings.TrimSpace(c.Command.HelpName + " " + c.Command.ArgsUsage)
		if n < least {
			return usagef("too few arguments; usage: %s", usage)
		}
		return usagef("argument %q is one too many; usage: %s", c.Args().Get(most), usage)
	}
	return nil
}

const (
	appHelp = `{{.Name}} - {{.Usage}}

Usage:
   {{.UsageText}}
{{range .VisibleCategories}}
{{.Name}}:{{range .VisibleCommands}}
   {{join .Names ", "}}{{"\t"}}{{.Usage}}{{end}}
{{end}}
Global flags:{{range .VisibleFlags}}
   {{.}}{{end}}

{{.Description}}
`
	groupHelp = `{{.HelpName}} - {{.Usage}}

Usage:
   {{.HelpName}} COMMAND [flags] [arguments]
{{if .Description}}
{{.Description}}
{{end}}
Commands:{{range .VisibleCommands}}
   {{join .Names ", "}}{{"\t"}}{{.Usage}}{{end}}
`
	commandHelp = `{{.HelpName}} - {{.Usage}}

Usage:
   {{.HelpName}}{{if .VisibleFlags}} [flags]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}
{{if .Description}}
{{.Description}}
{{end}}{{if .VisibleFlags}}
Flags:{{range .VisibleFlags}}
   {{.}}{{end}}
{{end}}
Global flags (polylog --help) may stand here too.
`
)
