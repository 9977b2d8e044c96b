package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/polylog-mq/polylog"
)

// userCommand is `polylog user`.
func (r *run) userCommand() *cli.Command {
	return &cli.Command{
		Name: "user", Category: categoryOperation,
		Usage: "list, create and delete users",
		Description: "A broker that was started with --auth asks everybody who they are. What a user may\n" +
			"do is said by rules: see acl.",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the users", Action: r.configured(r.userList)},
			{
				Name: "put", Usage: "create a user, or give one a new password", ArgsUsage: "NAME",
				Description: "The password is asked for, or, if standard input is no terminal, its first line.",
				Action:      r.configured(r.userPut),
			},
			{
				Name: "delete", Usage: "delete users", ArgsUsage: "NAME...",
				Flags:  []cli.Flag{yesFlag()},
				Action: r.configured(r.userDelete),
			},
		},
	}
}

func (r *run) userList(c *cli.Context) error {
	if err := operands(c, 0, 0); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		all, err := a.Users(c.Context)
		if err != nil {
			return err
		}
		return printList(r, all,
			column("NAME", func(u polylog.UserInfo) string { return u.Name }),
			column("MECHANISMS", func(u polylog.UserInfo) string { return strings.Join(u.Mechanisms, ",") }),
			column("SUPER", func(u polylog.UserInfo) string { return yesOrNo(u.Super) }))
	})
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (r *run) userPut(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	name := c.Args().First()
	password, err := r.readPassword(name)
	if err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		if err := a.PutUser(c.Context, name, password); err != nil {
			return err
		}
		r.say("user %s can come", name)
		return nil
	})
}

// readPassword asks for a new password, twice where somebody types it.
func (r *run) readPassword(name string) (string, error) {
	if !r.stdinTerminal {
		line, err := bufio.NewReader(io.LimitReader(r.stdin, 4096)).ReadString('\n')
		if password := strings.TrimRight(line, "\r\n"); password != "" {
			return password, nil
		}
		if err != nil && err != io.EOF {
			return "", err
		}
		return "", usagef("no password on standard input")
	}
	var typed [2]string
	for i, question := range [...]string{"Password of " + name + ": ", "Once more: "} {
		fmt.Fprint(r.stderr, question)
		text, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(r.stderr)
		if err != nil {
			return "", err
		}
		typed[i] = string(text)
	}
	if typed[0] != typed[1] {
		return "", usagef("the two passwords are not the same")
	}
	return typed[0], nil
}

func (r *run) userDelete(c *cli.Context) error {
	if err := operands(c, 1, -1); err != nil {
		return err
	}
	names := c.Args().Slice()
	if err := r.ask(c.Bool("yes"), fmt.Sprintf("Delete %s?", strings.Join(names, ", "))); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		for _, name := range names {
			if err := a.DeleteUser(c.Context, name); err != nil {
				return err
			}
			r.say("user %s deleted", name)
		}
		return nil
	})
}
