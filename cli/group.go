package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/wire/native"
)

// groupCommand is `polylog group`.
func (r *run) groupCommand() *cli.Command {
	topic := &cli.StringSliceFlag{Name: "topic", Usage: "the offsets of `TOPIC[:PARTITIONS]`, such as orders or orders:0,3-5; any number of times"}
	return &cli.Command{
		Name: "group", Category: categoryOperation,
		Usage: "list, describe, reset and delete consumer groups",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the groups of consumers", ArgsUsage: "[PREFIX]",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "type", Usage: "those of this `TYPE` only: classic, consumer or share"},
					&cli.StringFlag{Name: "state", Usage: "those in this `STATE` only, such as Empty or Stable"},
				},
				Action: r.configured(r.groupList),
			},
			{
				Name: "describe", Usage: "show what a group has committed and how far behind it is", ArgsUsage: "NAME",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "offsets", Usage: "each partition: committed offset, end, lag in records and in time, and who reads it; the default", DisableDefaultText: true},
					&cli.BoolFlag{Name: "members", Usage: "who is in it, and the partitions that each has", DisableDefaultText: true},
					&cli.BoolFlag{Name: "state", Usage: "the group as a whole", DisableDefaultText: true},
				},
				Action: r.configured(r.groupDescribe),
			},
			{
				Name: "reset", Usage: "set what a group without members has committed", ArgsUsage: "NAME",
				Description: "Exactly one place must be given. Offsets before the log's start or behind its end\n" +
					"become these. With --dry-run it prints what it would do, and does nothing.",
				Flags: []cli.Flag{
					topic,
					&cli.BoolFlag{Name: "all-topics", Usage: "every topic that the group has committed offsets of", DisableDefaultText: true},
					&cli.BoolFlag{Name: "to-earliest", Usage: "the first record that is kept", DisableDefaultText: true},
					&cli.BoolFlag{Name: "to-latest", Usage: "behind the last record", DisableDefaultText: true},
					&cli.Int64Flag{Name: "to-offset", Usage: "offset `N` of each partition", DefaultText: "none"},
					&cli.StringFlag{Name: "to-time", Usage: "the first record at or after `TIME`: 2026-07-01T12:00:00Z, or -1h"},
					&cli.DurationFlag{Name: "by-duration", Usage: "the first record of the last `TIME`, such as 90m", DefaultText: "none"},
					&cli.Int64Flag{Name: "shift-by", Usage: "`N` records on, or back if it is negative", DefaultText: "none"},
					&cli.BoolFlag{Name: "to-current", Usage: "where it is: what is committed is within the log after that", DisableDefaultText: true},
					&cli.BoolFlag{Name: "dry-run", Usage: "print the plan and leave it at that", DisableDefaultText: true},
					yesFlag(),
				},
				Action: r.configured(r.groupReset),
			},
			{
				Name: "delete", Usage: "delete groups without members, with what they have committed", ArgsUsage: "NAME...",
				Flags:  []cli.Flag{yesFlag()},
				Action: r.configured(r.groupDelete),
			},
			{
				Name: "delete-offsets", Usage: "forget what a group has committed of topics that it does not read", ArgsUsage: "NAME",
				Flags:  []cli.Flag{topic, yesFlag()},
				Action: r.configured(r.groupDeleteOffsets),
			},
		},
	}
}

func (r *run) groupList(c *cli.Context) error {
	if err := operands(c, 0, 1); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		list, err := a.Groups(c.Context)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(g polylog.GroupInfo) bool {
			return !strings.HasPrefix(g.Name, c.Args().First()) ||
				c.IsSet("type") && !strings.EqualFold(g.Type, c.String("type")) ||
				c.IsSet("state") && !strings.EqualFold(g.State, c.String("state"))
		})
		return printList(r, list,
			column("GROUP", func(g polylog.GroupInfo) string { return g.Name }),
			column("TYPE", func(g polylog.GroupInfo) string { return g.Type }),
			column("STATE", func(g polylog.GroupInfo) string { return g.State }),
			column("PROTOCOL", func(g polylog.GroupInfo) string { return g.Protocol }),
			figures("MEMBERS", func(g polylog.GroupInfo) string { return humanCount(int64(g.Members)) }))
	})
}

func (r *run) groupDescribe(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	ways := 0
	for _, name := range []string{"offsets", "members", "state"} {
		if c.Bool(name) {
			ways++
		}
	}
	if ways > 1 {
		return usagef("give one of --offsets, --members and --state")
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		g, err := a.DescribeGroup(c.Context, c.Args().First())
		if err != nil {
			return err
		}
		switch {
		case c.Bool("state"):
			return r.describeGroupState(g)
		case c.Bool("members"):
			return r.describeGroupMembers(g)
		}
		return r.describeGroupOffsets(g)
	})
}

func (r *run) describeGroupState(g *polylog.GroupDescription) error {
	s := polylog.GroupInfo{Name: g.Name, Type: g.Type, State: g.State, Protocol: g.Protocol, Members: len(g.Members)}
	return printOne(r, s,
		pair{"group", s.Name}, pair{"type", s.Type}, pair{"state", s.State}, pair{"protocol", s.Protocol},
		pair{"members", humanCount(int64(s.Members))})
}

// groupMember is one member, as JSON.
type groupMember struct {
	ID         string            `json:"id"`
	InstanceID string            `json:"instance_id,omitempty"`
	Host       string            `json:"host"`
	ClientID   string            `json:"client_id"`
	Assignment []topicAssignment `json:"assignment"`
}

type topicAssignment struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
}

// assignmentOf puts the partitions of each topic together.
func assignmentOf(partitions []native.TopicPartition) []topicAssignment {
	list := []topicAssignment{}
	for _, p := range slices.SortedFunc(slices.Values(partitions), func(a, b native.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	}) {
		if n := len(list); n == 0 || list[n-1].Topic != p.Topic {
			list = append(list, topicAssignment{Topic: p.Topic})
		}
		last := &list[len(list)-1]
		last.Partitions = append(last.Partitions, p.Partition)
	}
	return list
}

func (r *run) describeGroupMembers(g *polylog.GroupDescription) error {
	list := make([]groupMember, len(g.Members))
	for i, m := range g.Members {
		list[i] = groupMember{m.ID, m.InstanceID, m.Host, m.ClientID, assignmentOf(m.Assignment)}
	}
	return printList(r, list,
		column("MEMBER", func(m groupMember) string { return m.ID }),
		column("INSTANCE", func(m groupMember) string { return dash(m.InstanceID) }),
		column("HOST", func(m groupMember) string { return dash(m.Host) }),
		column("CLIENT", func(m groupMember) string { return dash(m.ClientID) }),
		column("ASSIGNMENT", func(m groupMember) string {
			var words []string
			for _, a := range m.Assignment {
				words = append(words, a.Topic+":"+rangesOf(a.Partitions))
			}
			return dash(strings.Join(words, " "))
		}))
}

// groupOffset is where a group stands in a partition, as JSON. What has not
// been committed is not there.
type groupOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed *int64 `json:"committed"`
	Start     int64  `json:"start"`
	End       int64  `json:"end"`
	Lag       *int64 `json:"lag"`
	LagMS     *int64 `json:"lag_ms"`
	MemberID  string `json:"member_id,omitempty"`
	Host      string `json:"host,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
}

func (r *run) describeGroupOffsets(g *polylog.GroupDescription) error {
	list := make([]groupOffset, len(g.Offsets))
	for i, o := range g.Offsets {
		list[i] = groupOffset{Topic: o.Topic, Partition: o.Partition, Start: o.LogStart, End: o.End, MemberID: o.MemberID}
		if o.Committed >= 0 {
			list[i].Committed, list[i].Lag, list[i].LagMS = &o.Committed, &o.Lag, &o.LagMS
		}
		for _, m := range g.Members {
			if m.ID == o.MemberID {
				list[i].Host, list[i].ClientID = m.Host, m.ClientID
			}
		}
	}
	if len(g.Members) == 0 {
		r.say("group %s has no members", g.Name)
	}
	return printList(r, list,
		column("TOPIC", func(o groupOffset) string { return o.Topic }),
		figures("PARTITION", func(o groupOffset) string { return fmt.Sprint(o.Partition) }),
		figures("COMMITTED", func(o groupOffset) string { return countOrDash(o.Committed) }),
		figures("END", func(o groupOffset) string { return humanCount(o.End) }),
		figures("LAG", func(o groupOffset) string { return countOrDash(o.Lag) }),
		figures("BEHIND", func(o groupOffset) string {
			if o.LagMS == nil {
				return "-"
			}
			return humanDuration(time.Duration(*o.LagMS) * time.Millisecond)
		}),
		column("MEMBER", func(o groupOffset) string { return dash(o.MemberID) }),
		column("HOST", func(o groupOffset) string { return dash(o.Host) }),
		column("CLIENT", func(o groupOffset) string { return dash(o.ClientID) }))
}

func countOrDash(n *int64) string {
	if n == nil {
		return "-"
	}
	return humanCount(*n)
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// topicPartitions is one --topic: a topic, and its partitions if not all.
type topicPartitions struct {
	topic      string
	partitions []int32
}

// maxPartitions bounds what --topic may name.
const maxPartitions = 10_000

// parseTopics reads TOPIC[:PARTITIONS]. What stands behind the last colon is
// part of the name unless it is a list of numbers or nothing: a destination
// orders:1 is meant by orders:1: with all its partitions.
func parseTopics(c *cli.Context) ([]topicPartitions, error) {
	var list []topicPartitions
	for _, text := range c.StringSlice("topic") {
		t := topicPartitions{topic: text}
		if i := strings.LastIndexByte(text, ':'); i > 0 && strings.Trim(text[i+1:], "0123456789,-") == "" {
			t.topic = text[:i]
			var err error
			if t.partitions, err = parsePartitions(text[i+1:]); err != nil {
				return nil, usagef("--topic %s: %w", text, err)
			}
		}
		if t.topic == "" {
			return nil, usagef("--topic needs a topic's name")
		}
		list = append(list, t)
	}
	return list, nil
}

// parsePartitions reads 0,3-5.
func parsePartitions(text string) ([]int32, error) {
	if text == "" {
		return nil, nil
	}
	var list []int32
	for word := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(word, "-")
		first, err := strconv.ParseInt(low, 10, 32)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseInt(high, 10, 32)
		}
		if err != nil || last < first {
			return nil, fmt.Errorf("%q is no list of partitions; write one such as 0,3-5", text)
		}
		if last-first >= int64(maxPartitions-len(list)) {
			return nil, fmt.Errorf("%s are more than %d partitions", text, maxPartitions)
		}
		for p := first; p <= last; p++ {
			list = append(list, int32(p))
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// rangesOf writes sorted partitions as parsePartitions reads them.
func rangesOf(list []int32) string {
	var words []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		word := fmt.Sprint(list[i])
		if j > i {
			word += "-" + fmt.Sprint(list[j])
		}
		words = append(words, word)
		i = j + 1
	}
	return strings.Join(words, ",")
}

func (r *run) groupReset(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	spec := polylog.GroupResetSpec{Group: c.Args().First()}
	if err := resetPlace(c, &spec, r.now()); err != nil {
		return err
	}
	topics, err := parseTopics(c)
	if err != nil {
		return err
	}
	if len(topics) > 0 == c.Bool("all-topics") {
		return usagef("which offsets? Give --topic TOPIC[:PARTITIONS], or --all-topics")
	}
	question := fmt.Sprintf("Reset the offsets of group %s?", spec.Group)
	asks := !c.Bool("dry-run") && !c.Bool("yes")
	if asks && !r.canAsk() {
		return r.ask(false, question)
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		if c.Bool("all-topics") {
			if topics, err = committedTopics(c, a, spec.Group); err != nil {
				return err
			}
		}
		// The plan comes first in any case, so that a reset that cannot be done for
		// the last topic is not done for the first.
		plan, err := resetGroup(c, a, spec, topics, true)
		if err != nil {
			return err
		}
		if c.Bool("dry-run") || asks {
			if err := r.printResets(plan); err != nil || c.Bool("dry-run") {
				return err
			}
			if err := r.ask(false, question); err != nil {
				return err
			}
		}
		done, err := resetGroup(c, a, spec, topics, false)
		if err != nil {
			return err
		}
		if asks {
			r.say("group %s is reset", spec.Group)
			return nil
		}
		return r.printResets(done)
	})
}

// resetPlace reads the one flag that says where to.
func resetPlace(c *cli.Context, spec *polylog.GroupResetSpec, now time.Time) error {
	places := []string{"to-earliest", "to-latest", "to-offset", "to-time", "by-duration", "shift-by", "to-current"}
	place, given := "", 0
	for _, name := range places {
		if c.IsSet(name) {
			place = name
			given++
		}
	}
	if given != 1 {
		return usagef("where to? Give one of --%s", strings.Join(places, ", --"))
	}
	switch place {
	case "to-earliest":
		spec.To = native.ResetEarliest
	case "to-latest":
		spec.To = native.ResetLatest
	case "to-current":
		spec.To = native.ResetCurrent
	case "to-offset":
		spec.To, spec.Offset = native.ResetOffset, c.Int64("to-offset")
		if spec.Offset < 0 {
			return usagef("--to-offset %d: offsets begin at 0", spec.Offset)
		}
	case "shift-by":
		spec.To, spec.Offset = native.ResetShift, c.Int64("shift-by")
	case "by-duration":
		spec.To, spec.AtMS = native.ResetTime, now.Add(-c.Duration("by-duration")).UnixMilli()
	case "to-time":
		t, err := parseTime(c.String("to-time"), now)
		if err != nil {
			return usagef("--to-time %w", err)
		}
		spec.To, spec.AtMS = native.ResetTime, t.UnixMilli()
	}
	return nil
}

// committedTopics are those that the group has committed something of.
func committedTopics(c *cli.Context, a polylog.Admin, group string) ([]topicPartitions, error) {
	g, err := a.DescribeGroup(c.Context, group)
	if err != nil {
		return nil, err
	}
	var list []topicPartitions
	for _, o := range g.Offsets {
		if o.Committed < 0 {
			continue
		}
		if n := len(list); n == 0 || list[n-1].topic != o.Topic {
			list = append(list, topicPartitions{topic: o.Topic})
		}
		last := &list[len(list)-1]
		last.partitions = append(last.partitions, o.Partition)
	}
	return list, nil
}

func resetGroup(c *cli.Context, a polylog.Admin, spec polylog.GroupResetSpec, topics []topicPartitions, dry bool) ([]polylog.GroupOffsetReset, error) {
	var all []polylog.GroupOffsetReset
	for _, t := range topics {
		spec.Topic, spec.Partitions, spec.DryRun = t.topic, t.partitions, dry
		list, err := a.ResetGroup(c.Context, spec)
		if err != nil {
			return all, fmt.Errorf("%s: %w", t.topic, err)
		}
		all = append(all, list...)
	}
	return all, nil
}

func (r *run) printResets(list []polylog.GroupOffsetReset) error {
	return printList(r, list,
		column("TOPIC", func(o polylog.GroupOffsetReset) string { return o.Topic }),
		figures("PARTITION", func(o polylog.GroupOffsetReset) string { return fmt.Sprint(o.Partition) }),
		figures("FROM", func(o polylog.GroupOffsetReset) string {
			if o.From < 0 {
				return "-"
			}
			return humanCount(o.From)
		}),
		figures("TO", func(o polylog.GroupOffsetReset) string { return humanCount(o.To) }))
}

func (r *run) groupDelete(c *cli.Context) error {
	if err := operands(c, 1, -1); err != nil {
		return err
	}
	names := c.Args().Slice()
	if err := r.ask(c.Bool("yes"), fmt.Sprintf("Delete %s and all that is committed there?", strings.Join(names, ", "))); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		for _, name := range names {
			if err := a.DeleteGroup(c.Context, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			r.say("group %s deleted", name)
		}
		return nil
	})
}

func (r *run) groupDeleteOffsets(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	name := c.Args().First()
	topics, err := parseTopics(c)
	if err != nil {
		return err
	}
	if len(topics) == 0 {
		return usagef("which offsets? Give --topic TOPIC[:PARTITIONS]")
	}
	if err := r.ask(c.Bool("yes"), fmt.Sprintf("Forget what group %s has committed of %s?", name, strings.Join(c.StringSlice("topic"), ", "))); err != nil {
		return err
	}
	return r.withAdmin(c.Context, func(a polylog.Admin) error {
		for _, t := range topics {
			if err := a.DeleteGroupOffsets(c.Context, name, t.topic, t.partitions...); err != nil {
				return fmt.Errorf("%s: %w", t.topic, err)
			}
			r.say("offsets of %s deleted", t.topic)
		}
		return nil
	})
}
