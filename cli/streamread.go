package cli

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

func (r *run) streamReadCommand() *cli.Command {
	return &cli.Command{
		Name: "read", Usage: "print the records of a log, a topic or a queue", ArgsUsage: "NAME",
		Description: "Nothing is consumed by reading: queues and subscriptions keep what they have. Without\n" +
			"--no-wait, --count or --timeout it goes on until interrupted, and connects again if\n" +
			"the broker was away. With --group it joins this consumer group, reads the partitions\n" +
			"that it is given there, begins where the group stands, and commits what it has\n" +
			"printed: every second, and at its end.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "begin at `PLACE`: beginning, end, an offset, last:N for the last N of each partition, or a time such as 2026-07-01T12:00:00Z or -1h; with --group, where it has committed nothing", DefaultText: "end, and beginning with --no-wait"},
			&cli.IntSliceFlag{Name: "partition", Usage: "read the partition with this `NUMBER` only, any number of times"},
			&cli.StringFlag{Name: "group", Usage: "join the consumer group `NAME`"},
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "print `N` records; exit code 3 if fewer came", DefaultText: "no bound"},
			&cli.DurationFlag{Name: "timeout", Aliases: []string{"t"}, Usage: "give up when no record has come for this `TIME`", DefaultText: "wait on"},
			&cli.BoolFlag{Name: "no-wait", Usage: "end at what is the end now", DisableDefaultText: true},
			&cli.StringFlag{Name: "print", Usage: "print these `FIELDS`, in this order: " + recordFieldNames + "; bytes are printed as they are", Value: "value"},
			&cli.StringFlag{Name: "separator", Usage: "the `TEXT` between fields", Value: `\t`, DefaultText: "a tabulator"},
			&cli.StringFlag{Name: "null-literal", Usage: "print this `TEXT` for a key or value that is not there", Value: "null"},
			&cli.BoolFlag{Name: "json", Usage: "a line of JSON for each record, with all its fields; -o json and -o jsonl do so too", DisableDefaultText: true},
			&cli.BoolFlag{Name: "null", Aliases: []string{"0"}, Usage: "end records with a NUL byte instead of a newline", DisableDefaultText: true},
		},
		Action: r.configured(r.streamRead),
	}
}

// commitInterval is how often a reader in a group commits what it has printed.
const commitInterval = time.Second

func (r *run) streamRead(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	options, err := readOptions(c, r.now())
	if err != nil {
		return err
	}
	out, err := r.newRecordWriter(c)
	if err != nil {
		return err
	}
	v := &streamReader{count: c.Int("count"), timeout: c.Duration("timeout"), out: out}
	var connection []polylog.Option
	if !c.Bool("no-wait") && !c.IsSet("count") {
		r.endless = !c.IsSet("timeout")
		connection = append(connection, reconnecting())
	}
	ctx := c.Context
	return r.withSession(ctx, connection, func(session *polylog.Session) error {
		stream := session.Stream(c.Args().First())
		if !c.IsSet("group") {
			v.records = func(ctx context.Context) streamRecords { return stream.Read(ctx, options...) }
			return v.run(ctx)
		}
		member, err := stream.Group(ctx, c.String("group"), options...)
		if err != nil {
			return err
		}
		r.say("joined %s", c.String("group"))
		v.records, v.commit = member.Consume, member.Commit
		err = v.run(ctx)
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if closeErr := member.Close(leaving); err == nil {
			err = closeErr
		}
		return err
	})
}

// readOptions reads where to begin and what to read, and refuses what
// contradicts itself.
func readOptions(c *cli.Context, now time.Time) ([]polylog.ConsumeOption, error) {
	switch grouped := c.IsSet("group"); {
	case c.IsSet("count") && c.Int("count") < 1:
		return nil, usagef("--count %d: write a number from 1", c.Int("count"))
	case c.IsSet("timeout") && c.Duration("timeout") == 0:
		return nil, usagef("--timeout 0: write a time such as 5s, or --no-wait to end at what is the end now")
	case grouped && c.String("group") == "":
		return nil, usagef("--group needs the group's name")
	case grouped && c.IsSet("partition"):
		return nil, usagef("give --group or --partition, not both: a group assigns the partitions to its members")
	case grouped && c.Bool("no-wait"):
		return nil, usagef("--no-wait does not go with --group, which has to be waited for; --timeout TIME ends it")
	}
	var options []polylog.ConsumeOption
	var partitions []int32
	for _, n := range c.IntSlice("partition") {
		partition, err := partitionNumber(n)
		if err != nil {
			return nil, err
		}
		partitions = append(partitions, partition)
	}
	if len(partitions) > 0 {
		options = append(options, polylog.WithPartitions(partitions...))
	}
	from := c.String("from")
	if c.Bool("no-wait") {
		options = append(options, polylog.NoWait())
		if !c.IsSet("from") {
			from = "beginning"
		}
	}
	start, err := parseStart(from, now)
	if err != nil {
		return nil, usagef("--from %w", err)
	}
	return append(options, start...), nil
}

// parseStart reads a place in a log. The end, where readers begin by default,
// is no option.
func parseStart(text string, now time.Time) ([]polylog.ConsumeOption, error) {
	switch text {
	case "", "end":
		return nil, nil
	case "beginning":
		return []polylog.ConsumeOption{polylog.FromBeginning()}, nil
	}
	if last, ok := strings.CutPrefix(text, "last:"); ok {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q: write how many, as in last:10", text)
		}
		return []polylog.ConsumeOption{polylog.FromLast(n)}, nil
	}
	if offset, err := strconv.ParseInt(text, 10, 64); err == nil {
		if offset < 0 {
			return nil, fmt.Errorf("%s: offsets begin at 0", text)
		}
		return []polylog.ConsumeOption{polylog.FromOffset(offset)}, nil
	}
	t, err := parseTime(text, now)
	if err != nil {
		return nil, fmt.Errorf("%q: write beginning, end, an offset, last:N, or a time such as 2026-07-01T12:00:00Z or -1h%s",
			text, hint(text, []string{"beginning", "end"}))
	}
	return []polylog.ConsumeOption{polylog.FromTime(t)}, nil
}

type (
	streamRecord  = *polylog.Record[*polylog.Message]
	streamRecords = iter.Seq2[streamRecord, error]
)

// streamReader prints records as they come, and commits them if it is in a
// group.
type streamReader struct {
	records func(ctx context.Context) streamRecords
	commit  func(ctx context.Context, records ...streamRecord) error // nil without a group

	count   int           // records asked for; 0: no bound
	timeout time.Duration // without a record; 0: none
	out     *recordWriter

	printed map[streamPlace]streamRecord // the last of each partition, until it is committed
}

type streamPlace struct {
	topic     string
	partition int32
}

// run prints until count records have come, none comes any more, or ctx ends.
func (v *streamReader) run(ctx context.Context) error {
	err := v.read(ctx)
	if endErr := v.out.end(); endErr != nil {
		return endErr // and what could not be written is not committed
	}
	if commitErr := v.commitPrinted(ctx); err == nil {
		err = commitErr
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s printed, then: %w", records(int64(v.out.written)), err)
	case v.count > 0 && v.out.written == v.count:
		return nil
	case ctx.Err() != nil:
		return errInterrupted
	case v.count > 0:
		return &exitError{exitFewer, fmt.Errorf("%d of %d records came", v.out.written, v.count)}
	}
	return nil
}

// read prints. What is printed is flushed when no other record is ready.
func (v *streamReader) read(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	items, ended := v.ahead(reading)
	defer ended()
	defer stop()
	var quiet, commit <-chan time.Time // nil ones never come
	rearm := func() {}
	if v.timeout > 0 {
		timer := time.NewTimer(v.timeout)
		defer timer.Stop()
		quiet, rearm = timer.C, func() { timer.Reset(v.timeout) }
	}
	if v.commit != nil {
		ticker := time.NewTicker(commitInterval)
		defer ticker.Stop()
		commit = ticker.C
	}
	for v.count == 0 || v.out.written < v.count {
		if len(items) == 0 {
			if err := v.out.flush(); err != nil {
				return err
			}
		}
		select {
		case next, more := <-items:
			if !more || next.err != nil && ctx.Err() != nil {
				return nil
			}
			if err := v.print(next); err != nil {
				return err
			}
			rearm()
		case <-commit:
			if err := v.commitPrinted(ctx); err != nil {
				return err
			}
		case <-quiet:
			return nil
		}
	}
	return nil
}

// readAhead is how many records wait to be printed, at most.
const readAhead = 32

// arrival is what the records' iterator yields.
type arrival struct {
	record streamRecord
	err    error
}

// ahead waits for records in one goroutine, which ends with ctx; ended waits
// for that.
func (v *streamReader) ahead(ctx context.Context) (items <-chan arrival, ended func()) {
	queue := make(chan arrival, readAhead)
	var running sync.WaitGroup
	running.Go(func() {
		defer close(queue)
		for record, err := range v.records(ctx) {
			select {
			case queue <- arrival{record, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	return queue, running.Wait
}

func (v *streamReader) print(next arrival) error {
	if next.err != nil {
		return next.err
	}
	if err := v.out.write(next.record); err != nil {
		return err
	}
	if v.commit != nil {
		if v.printed == nil {
			v.printed = map[streamPlace]streamRecord{}
		}
		v.printed[streamPlace{next.record.Topic, next.record.Partition}] = next.record
	}
	return nil
}

// commitPrinted commits although ctx may have ended: what was printed is done.
func (v *streamReader) commitPrinted(ctx context.Context) error {
	if len(v.printed) == 0 {
		return nil
	}
	if err := v.out.flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	last := slices.Collect(maps.Values(v.printed))
	clear(v.printed)
	if err := v.commit(ctx, last...); err != nil {
		return fmt.Errorf("some records were printed but not committed, and may come again: %w", err)
	}
	return nil
}
