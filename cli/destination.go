package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/destination"
)

// destinationCommand is `polylog destination`.
func (r *run) destinationCommand() *cli.Command {
	set := &cli.StringSliceFlag{Name: "set", Aliases: []string{"s"}, Usage: "a setting as `NAME=VALUE`, any number of times; an empty value sets the default back"}
	partitions := &cli.IntFlag{Name: "partitions", Usage: "`N` partitions, as --set partitions=N; they can only become more", DefaultText: "1"}
	yes := yesFlag()
	return &cli.Command{
		Name: "destination", Category: categoryOperation,
		Usage: "list, create and change queues, topics and logs",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the destinations", ArgsUsage: "[PREFIX]",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "internal", Usage: "the broker's own too", DisableDefaultText: true}},
				Action: r.configured(r.destinationList),
			},
			{
				Name: "create", Usage: "create a destination", ArgsUsage: "queue|topic|log NAME",
				Description: kindsHelp + "\n\n" + settingsHelp(),
				Flags: []cli.Flag{
					set, partitions,
					&cli.IntFlag{Name: "replication-factor", Usage: "`N` copies of each partition: one, on this node", DefaultText: "1"},
					&cli.BoolFlag{Name: "if-absent", Usage: "succeed if it is there already, whatever its settings", DisableDefaultText: true},
				},
				Action: r.configured(r.destinationCreate),
			},
			{
				Name: "describe", Usage: "show a destination's settings, partitions and counts", ArgsUsage: "NAME",
				Action: r.configured(r.destinationDescribe),
			},
			{
				Name: "alter", Usage: "change a destination's settings", ArgsUsage: "NAME",
				Description: settingsHelp(),
				Flags:       []cli.Flag{set, partitions},
				Action:      r.configured(r.destinationAlter),
			},
			{
				Name: "pause", Usage: "refuse sends to a destination, or keep its messages, or both", ArgsUsage: "NAME",
				Description: "Without a flag it does both, until \"destination resume\", over restarts too. What is\n" +
					"sent meanwhile is refused with the code paused; Kafka's producers try again. Dead\n" +
					"letters still come. Takes wait; reading the destination as a log goes on.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "puts", Usage: "refuse sends only", DisableDefaultText: true},
					&cli.BoolFlag{Name: "takes", Usage: "keep the messages only", DisableDefaultText: true},
				},
				Action: r.configured(r.destinationPause),
			},
			{
				Name: "resume", Usage: "end what pause began", ArgsUsage: "NAME",
				Action: r.configured(r.destinationResume),
			},
			{
				Name: "delete", Usage: "delete destinations with all that they hold", ArgsUsage: "NAME...",
				Flags:  []cli.Flag{yes},
				Action: r.configured(r.destinationDelete),
			},
		},
	}
}

func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask", DisableDefaultText: true}
}

const kindsHelp = "A queue gives each message to one of those who take from it. A topic gives all its\n" +
	"messages to every subscription. A log may be taken from and subscribed to, both at\n" +
	"once: it is created so on purpose, or by a Kafka client. A first use makes a queue\n" +
	"or a topic. With the setting views=any these two may be used as a log is."

// settingsHelp lists the settings in a command's help.
func settingsHelp() string {
	width := 0
	for _, s := range destination.SettingNames() {
		width = max(width, len(s.Name))
	}
	var b strings.Builder
	b.WriteString("Settings:\n")
	for _, s := range destination.SettingNames() {
		fmt.Fprintf(&b, "   %-*s  %s", width, s.Name, s.Doc)
		if s.Default != "" {
			fmt.Fprintf(&b, " (default %s)", s.Default)
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (r *run) destinationList(c *cli.Context) error {
	if err := operands(c, 0, 1); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		list, err := a.Destinations(c.Context, c.Args().First(), c.Bool("internal"))
		if err != nil {
			return err
		}
		return printList(r, list,
			column("NAME", func(d polylog.DestinationInfo) string { return d.Name }),
			column("KIND", kindOf),
			figures("PARTITIONS", func(d polylog.DestinationInfo) string { return humanCount(int64(len(d.Partitions))) }),
			figures("WAITING", queueCount(func(v *polylog.ViewInfo) int64 { return v.Waiting })),
			figures("ACQUIRED", queueCount(func(v *polylog.ViewInfo) int64 { return v.Acquired })),
			figures("SCHEDULED", queueCount(func(v *polylog.ViewInfo) int64 { return v.Scheduled })),
			figures("CONSUMERS", queueCount(func(v *polylog.ViewInfo) int64 { return int64(v.Consumers) })),
			figures("SUBSCRIPTIONS", func(d polylog.DestinationInfo) string { return humanCount(int64(d.Subscriptions)) }),
			figures("SIZE", func(d polylog.DestinationInfo) string { return humanBytes(d.Bytes) }))
	})
}

func kindOf(d polylog.DestinationInfo) string {
	if d.Temporary {
		return d.Kind + " (temporary)"
	}
	return d.Kind
}

// queueCount is a count of the queue view, or a dash where there is none.
func queueCount(count func(*polylog.ViewInfo) int64) func(polylog.DestinationInfo) string {
	return func(d polylog.DestinationInfo) string {
		if d.Queue == nil {
			return "-"
		}
		return humanCount(count(d.Queue))
	}
}

func (r *run) destinationCreate(c *cli.Context) error {
	if err := operands(c, 2, 2); err != nil {
		return err
	}
	kind, name := c.Args().Get(0), c.Args().Get(1)
	if _, err := destination.ParseKind(kind); err != nil {
		return usagef("%q is no kind of destination%s; usage: polylog destination create queue|topic|log NAME", kind, hint(kind, []string{"queue", "topic", "log"}))
	}
	if n := c.Int("replication-factor"); c.IsSet("replication-factor") && n != 1 {
		return usagef("--replication-factor %d: this broker is a single node, which has one copy of each partition; give 1 or leave it out", n)
	}
	changes, err := changedSettings(c)
	if err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		info, err := a.Create(c.Context, polylog.DestinationSpec{Name: name, Kind: kind, Settings: changes})
		if errors.Is(err, polylog.ErrExists) && c.Bool("if-absent") {
			info, err = a.Describe(c.Context, name)
		}
		if err != nil {
			return err
		}
		return r.printChanged(info, "created")
	})
}

func (r *run) destinationAlter(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	changes, err := changedSettings(c)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return usagef("nothing to change; add --set NAME=VALUE or --partitions N")
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		info, err := a.Alter(c.Context, polylog.DestinationSpec{Name: c.Args().First(), Settings: changes})
		if err != nil {
			return err
		}
		return r.printChanged(info, "altered")
	})
}

func (r *run) destinationPause(c *cli.Context) error {
	what := destination.PausedAll
	switch puts, takes := c.Bool("puts"), c.Bool("takes"); {
	case puts && !takes:
		what = destination.PausedPuts
	case takes && !puts:
		what = destination.PausedTakes
	}
	return r.setPaused(c, what, "paused")
}

func (r *run) destinationResume(c *cli.Context) error { return r.setPaused(c, "", "resumed") }

func (r *run) setPaused(c *cli.Context, what, verb string) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		info, err := a.Alter(c.Context, polylog.DestinationSpec{Name: c.Args().First(), Settings: map[string]string{"paused": what}})
		if err != nil {
			return err
		}
		return r.printChanged(info, verb)
	})
}

// printChanged says what was done in a word, or prints all of it as JSON.
func (r *run) printChanged(info *polylog.DestinationInfo, verb string) error {
	if r.output == formatTable {
		r.say("%s %s %s", info.Kind, info.Name, verb)
		return nil
	}
	return printOne(r, info)
}

// changedSettings reads --set and the flags that stand for one.
func changedSettings(c *cli.Context) (map[string]string, error) {
	words := c.StringSlice("set")
	if c.IsSet("partitions") {
		for _, word := range words {
			if strings.HasPrefix(word, "partitions=") {
				return nil, usagef("give --partitions or --set partitions=N, not both")
			}
		}
		words = append(words, fmt.Sprintf("partitions=%d", c.Int("partitions")))
	}
	return parseSettings(words)
}

// parseSettings reads NAME=VALUE, refusing names and values that this program
// knows to be wrong. A setting that is not known here may be known to a newer
// broker, but is far more likely a slip.
func parseSettings(words []string) (map[string]string, error) {
	changes := map[string]string{}
	scratch := destination.DefaultSettings()
	for _, word := range words {
		name, text, ok := strings.Cut(word, "=")
		if !ok {
			return nil, usagef("--set %s: write NAME=VALUE", word)
		}
		if err := scratch.Set(name, text); err != nil && text != "" || errors.Is(err, destination.ErrUnknownSetting) {
			return nil, usagef("--set %w%s", err, settingHint(name))
		}
		changes[name] = text
	}
	return changes, nil
}

func settingHint(name string) string {
	var names []string
	for _, s := range destination.SettingNames() {
		if s.Name == name {
			return ""
		}
		names = append(names, s.Name)
	}
	return hint(name, names)
}

func (r *run) destinationDescribe(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		info, err := a.Describe(c.Context, c.Args().First())
		if err != nil {
			return err
		}
		if r.output != formatTable {
			return printOne(r, info)
		}
		return r.describe(info)
	})
}

// describe prints a destination for people, in four tables.
func (r *run) describe(d *polylog.DestinationInfo) error {
	pairs := []pair{
		{"name", d.Name},
		{"kind", kindOf(*d)},
		{"id", d.ID},
		{"size", humanBytes(d.Bytes)},
		{"partitions", humanCount(int64(len(d.Partitions)))},
		{"replicas", "1 of each partition, on this node, which leads them all"},
		{"subscriptions", humanCount(int64(d.Subscriptions))},
	}
	if d.Queue != nil {
		pairs = append(pairs, viewPairs(d.Queue)...)
	}
	if err := printOne(r, d, pairs...); err != nil {
		return err
	}
	fmt.Fprintln(r.stdout)
	if err := r.describeSettings(d.Settings); err != nil {
		return err
	}
	fmt.Fprintln(r.stdout)
	return printList(r, d.Partitions,
		figures("PARTITION", func(p polylog.PartitionInfo) string { return fmt.Sprint(p.Partition) }),
		figures("START", func(p polylog.PartitionInfo) string { return humanCount(p.Start) }),
		figures("END", func(p polylog.PartitionInfo) string { return humanCount(p.End) }),
		figures("STABLE", func(p polylog.PartitionInfo) string { return humanCount(p.Stable) }),
		figures("SIZE", func(p polylog.PartitionInfo) string { return humanBytes(p.Bytes) }))
}

// describeSettings shows every setting that the broker told, in the order of
// the documentation; those of a newer broker come last.
func (r *run) describeSettings(values map[string]string) error {
	values = maps.Clone(values)
	type line struct{ name, value, fallback, doc string }
	var lines []line
	for _, s := range destination.SettingNames() {
		if value, ok := values[s.Name]; ok {
			lines = append(lines, line{s.Name, value, s.Default, s.Doc})
			delete(values, s.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		lines = append(lines, line{name, values[name], "", "(of a newer broker)"})
	}
	return printList(r, lines,
		column("SETTING", func(l line) string { return l.name }),
		column("VALUE", func(l line) string { return l.value }),
		column("DEFAULT", func(l line) string { return l.fallback }),
		column("WHAT IT DOES", func(l line) string { return l.doc }))
}

func viewPairs(v *polylog.ViewInfo) []pair {
	return []pair{
		{"waiting", humanCount(v.Waiting)},
		{"acquired", humanCount(v.Acquired)},
		{"scheduled", humanCount(v.Scheduled)},
		{"held", humanCount(v.Held)},
		{"consumers", humanCount(int64(v.Consumers))},
		{"delivered", humanCount(v.Delivered) + " since the broker's start"},
		{"acknowledged", humanCount(v.Acknowledged)},
		{"expired", humanCount(v.Expired)},
		{"dead-lettered", humanCount(v.DeadLettered)},
	}
}

func (r *run) destinationDelete(c *cli.Context) error {
	if err := operands(c, 1, -1); err != nil {
		return err
	}
	names := c.Args().Slice()
	if err := r.ask(c.Bool("yes"), fmt.Sprintf("Delete %s and all messages in it?", strings.Join(names, ", "))); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		for _, name := range names {
			if err := a.Delete(c.Context, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			r.say("%s deleted", name)
		}
		return nil
	})
}
