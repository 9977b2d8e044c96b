package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// aclCommand is `polylog acl`.
func (r *run) aclCommand() *cli.Command {
	return &cli.Command{
		Name: "acl", Category: categoryOperation,
		Usage: "list, create and delete the rules of who may do what",
		Description: "The rules are Kafka's ACLs, and hold for every protocol: what no rule allows is\n" +
			"refused, and one that denies wins. A queue, a topic or a log is a topic here; a\n" +
			"subscription is a group of its name. Sending needs write, receiving and browsing\n" +
			"read, and a subscription or a group read on that as well.",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list rules",
				Flags:  r.ruleFlags("; default: all", true),
				Action: r.configured(r.aclList),
			},
			{
				Name: "create", Usage: "add a rule for each operation that is named", ArgsUsage: "OPERATION...",
				Description: "Operations: read, write, create, delete, alter, describe, describe-configs,\n" +
					"alter-configs, cluster-action, idempotent-write, all. For example:\n\n" +
					"   polylog acl create --user ann --topic orders. --prefixed write describe",
				Flags:  append(r.ruleFlags("", false), &cli.BoolFlag{Name: "deny", Usage: "deny, in place of allowing"}),
				Action: r.configured(r.aclCreate),
			},
			{
				Name: "delete", Usage: "delete the rules that the flags select, all operations unless some are named", ArgsUsage: "[OPERATION...]",
				Flags:  append(r.ruleFlags("; default: all", true), yesFlag()),
				Action: r.configured(r.aclDelete),
			},
		},
	}
}

// ruleFlags say what rules are about.
func (r *run) ruleFlags(otherwise string, filter bool) []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "user", Usage: "the user's name, or * for everybody" + otherwise},
		&cli.StringFlag{Name: "topic", Usage: "a queue's, topic's or log's name, or * for every one"},
		&cli.StringFlag{Name: "group", Usage: "a group's or subscription's name, or * for every one"},
		&cli.StringFlag{Name: "transactional-id", Usage: "a transactional id, or * for every one"},
		&cli.BoolFlag{Name: "cluster", Usage: "the broker as a whole"},
		&cli.BoolFlag{Name: "prefixed", Usage: "all names that begin so"},
	}
	if filter {
		return append(flags,
			&cli.StringFlag{Name: "host", Usage: "the address that they come from" + otherwise},
			&cli.BoolFlag{Name: "match", Usage: "the rules that apply to that name, whatever their own"})
	}
	return append(flags, &cli.StringFlag{Name: "host", Value: "*", Usage: "the address that they come from, or * for any"})
}

// ruleFilter is what the flags say, as far as they do.
func ruleFilter(c *cli.Context) (polylog.ACLFilter, error) {
	var f polylog.ACLFilter
	if user := c.String("user"); user != "" {
		f.Principal = "User:" + user
	}
	f.Host = c.String("host")
	for _, resource := range []string{"topic", "group", "transactional-id"} {
		if name := c.String(resource); name != "" {
			if f.Resource != "" {
				return f, usagef("one of --topic, --group, --transactional-id and --cluster, not two")
			}
			f.Resource, f.Name = resource, name
		}
	}
	if c.Bool("cluster") {
		if f.Resource != "" {
			return f, usagef("one of --topic, --group, --transactional-id and --cluster, not two")
		}
		f.Resource, f.Name = "cluster", "kafka-cluster"
	}
	switch {
	case c.Bool("match") && f.Name == "":
		return f, usagef("--match needs a name: --topic, --group or --transactional-id")
	case c.Bool("match"):
		f.Pattern = "match"
	case c.Bool("prefixed"):
		f.Pattern = "prefixed"
	}
	return f, nil
}

func (r *run) aclList(c *cli.Context) error {
	if err := operands(c, 0, 0); err != nil {
		return err
	}
	f, err := ruleFilter(c)
	if err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		all, err := a.ACLs(c.Context, f)
		if err != nil {
			return err
		}
		return r.printRules(all)
	})
}

func (r *run) printRules(all []polylog.ACL) error {
	return printList(r, all,
		column("PRINCIPAL", func(a polylog.ACL) string { return a.Principal }),
		column("PERMISSION", func(a polylog.ACL) string { return a.Effect }),
		column("OPERATION", func(a polylog.ACL) string { return a.Operation }),
		column("RESOURCE", func(a polylog.ACL) string { return a.Resource }),
		column("NAME", func(a polylog.ACL) string { return a.Name }),
		column("PATTERN", func(a polylog.ACL) string { return a.Pattern }),
		column("HOST", func(a polylog.ACL) string { return a.Host }))
}

func (r *run) aclCreate(c *cli.Context) error {
	if err := operands(c, 1, -1); err != nil {
		return err
	}
	f, err := ruleFilter(c)
	if err != nil {
		return err
	}
	switch {
	case f.Principal == "":
		return usagef("for whom? Give --user")
	case f.Resource == "":
		return usagef("on what? Give --topic, --group, --transactional-id or --cluster")
	}
	f.Effect = "allow"
	if c.Bool("deny") {
		f.Effect = "deny"
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		for _, operation := range c.Args().Slice() {
			rule := polylog.ACL(f)
			rule.Operation = operation
			if err := a.CreateACL(c.Context, rule); err != nil {
				return err
			}
		}
		r.say("%s: %s %s on %s %s", f.Principal, f.Effect, strings.Join(c.Args().Slice(), ", "), f.Resource, f.Name)
		return nil
	})
}

func (r *run) aclDelete(c *cli.Context) error {
	f, err := ruleFilter(c)
	if err != nil {
		return err
	}
	if err := r.ask(c.Bool("yes"), "Delete all rules that match?"); err != nil {
		return err
	}
	operations := c.Args().Slice()
	if len(operations) == 0 {
		operations = []string{""}
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		var all []polylog.ACL
		for _, operation := range operations {
			g := f
			g.Operation = operation
			deleted, err := a.DeleteACLs(c.Context, g)
			if err != nil {
				return err
			}
			all = append(all, deleted...)
		}
		r.say("%s deleted", plural(len(all), "rule"))
		return r.printRules(all)
	})
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
