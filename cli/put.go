package cli

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/spill"
)

// sendFlags are shared by put and publish.
func sendFlags() []cli.Flag {
	return slices.Concat(bodyFlags(), messageFlags(), []cli.Flag{
		&cli.BoolFlag{Name: "transaction", Usage: "send all of it in one transaction: all or nothing", DisableDefaultText: true},
		spillFlag(),
	}, rateFlags())
}

// messageFlags say what is sent beside the body.
func messageFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "priority", Usage: "JMSPriority, `0-9`", DefaultText: "4"},
		&cli.DurationFlag{Name: "delay", Usage: "deliver only after this `TIME`", DefaultText: "at once"},
		&cli.DurationFlag{Name: "ttl", Usage: "expire after this `TIME`", DefaultText: "never"},
		&cli.StringFlag{Name: "key", Usage: "the record's `KEY`: it picks the partition, and compaction goes by it"},
		&cli.StringFlag{Name: "group", Usage: "JMSXGroupID: messages of a `GROUP` go to one consumer at a time, in order"},
		&cli.StringSliceFlag{Name: "property", Aliases: []string{"p"}, Usage: "a property as `NAME=VALUE`, or NAME:TYPE=VALUE with bool, byte, short, int, long, float or double; any number of times"},
		&cli.StringFlag{Name: "correlation-id", Usage: "JMSCorrelationID"},
		&cli.StringFlag{Name: "type", Usage: "JMSType"},
		&cli.StringFlag{Name: "reply-to", Usage: "JMSReplyTo, the name of a `QUEUE`"},
		&cli.BoolFlag{Name: "non-persistent", Usage: "ask for confirmation once it is written; a destination on disk syncs first all the same", DisableDefaultText: true},
	}
}

// bodyFlags say where the bodies of what is sent come from.
func bodyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the body is what is in `FILE`; - is standard input"},
		&cli.BoolFlag{Name: "lines", Usage: "each line of --file is a message", DisableDefaultText: true},
		&cli.BoolFlag{Name: "null", Aliases: []string{"0"}, Usage: "lines end with a NUL byte instead of a newline", DisableDefaultText: true},
		&cli.BoolFlag{Name: "bytes", Usage: "send bytes messages; without it a body that is UTF-8 is sent as text", DisableDefaultText: true},
	}
}

// rateFlags say how often and how fast it is sent.
func rateFlags() []cli.Flag {
	return []cli.Flag{
		&cli.Float64Flag{Name: "rate", Usage: "send no more than `N` messages a second", DefaultText: "as fast as it goes"},
		&cli.IntFlag{Name: "repeat", Usage: "send each message `N` times", Value: 1},
	}
}

const sendHelp = "Bodies are the arguments behind NAME, or --file, or else each line of standard\ninput. Exit code 0 means that every message is confirmed: on disk, unless the\ndestination or --non-persistent says otherwise. After a failure the number that\nwas confirmed is told; they are the first ones. With --spill a message that no broker\ntakes is safe in a directory, and that is enough; order is kept."

func (r *run) putCommand() *cli.Command {
	return &cli.Command{
		Name: "put", Usage: "send messages to a queue", ArgsUsage: "NAME [BODY ...]",
		Description: sendHelp,
		Flags:       sendFlags(),
		Action: r.configured(func(c *cli.Context) error {
			options, err := putOptions(c)
			if err != nil {
				return err
			}
			if c.IsSet("spill") {
				return r.sendSpilling(c, spill.Queue(c.Args().First()), bodyAlone, options)
			}
			return r.send(c, bodyAlone, options, func(s *polylog.Session, name string) sendFunc { return s.Queue(name).PutAsync })
		}),
	}
}

// sendFunc is PutAsync of a queue or PublishAsync of a topic.
type sendFunc func(ctx context.Context, m *polylog.Message, done func(polylog.Receipt, error), opts ...polylog.PutOption) error

// composeFunc makes a message of a body, or of a line that has more in it.
type composeFunc func(body []byte) (*polylog.Message, error)

// bodyAlone is a message of nothing but the body.
func bodyAlone(body []byte) (*polylog.Message, error) { return polylog.NewBytes(body), nil }

// send sends all bodies in order, many under way at once: the client bounds
// how many bytes that are.
func (r *run) send(c *cli.Context, compose composeFunc, options []polylog.PutOption, open func(*polylog.Session, string) sendFunc) error {
	if err := checkSend(c); err != nil {
		return err
	}
	ctx := c.Context
	connection, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer connection.Close()
	if c.Bool("transaction") {
		return r.sendTransaction(c, connection, compose, options, open)
	}
	session, err := connection.Session(ctx, polylog.AutoAcknowledge)
	if err != nil {
		return err
	}
	confirmed, err := r.sendEach(c, compose, open(session, c.Args().First()), options, "confirmed")
	if err != nil {
		return fmt.Errorf("%s confirmed, then: %w", messages(confirmed), err)
	}
	r.say("%s confirmed", messages(confirmed))
	return nil
}

// sendTransaction is send in one transaction.
func (r *run) sendTransaction(c *cli.Context, connection *polylog.Connection, compose composeFunc, options []polylog.PutOption, open func(*polylog.Session, string) sendFunc) error {
	session, err := connection.Session(c.Context, polylog.Transacted)
	if err != nil {
		return err
	}
	sent, err := r.sendEach(c, compose, open(session, c.Args().First()), options, "sent")
	if err != nil {
		return fmt.Errorf("nothing was sent: %w", err) // with the session it is rolled back
	}
	if err := session.Commit(c.Context); err != nil {
		return err
	}
	r.say("%s committed", messages(sent))
	return nil
}

// sendEach hands every body to send, and waits until all are what verb says, or one
// failed.
func (r *run) sendEach(c *cli.Context, compose composeFunc, send sendFunc, options []polylog.PutOption, verb string) (confirmed int64, err error) {
	progress := r.startProgress(verb)
	sending, stop := context.WithCancel(c.Context)
	defer stop()
	t := &tally{progress: progress, stop: stop}
	sendErr := r.sendAll(sending, c, compose, send, options, t)
	confirmed, err = t.wait(c.Context)
	progress.stop()
	if err == nil { // else it is why sendAll stopped
		err = sendErr
	}
	return confirmed, err
}

// sendAll hands every body to send until ctx ends, which it does on a signal
// and when a send fails.
func (r *run) sendAll(ctx context.Context, c *cli.Context, compose composeFunc, send sendFunc, options []polylog.PutOption, t *tally) error {
	p := newPacer(c.Float64("rate"))
	repeat, asBytes := c.Int("repeat"), c.Bool("bytes")
	for body, err := range interruptible(ctx, r.bodies(c, c.Args().Tail())) {
		if err != nil {
			return err
		}
		m, err := compose(body)
		if err != nil {
			return err
		}
		if !asBytes && utf8.Valid(m.Body) {
			m.Kind = polylog.BodyText
		}
		for range repeat {
			if err := p.wait(ctx); err != nil {
				return errInterrupted
			}
			t.sending()
			if err := send(ctx, m, t.done, options...); err != nil {
				t.unsent()
				if ctx.Err() != nil {
					return errInterrupted
				}
				return err
			}
		}
	}
	return nil
}

// tally counts what is under way and what is confirmed. Confirmations come in
// the order of the sends, so that what is confirmed is a prefix of them until
// the first failure, after which nothing is counted.
type tally struct {
	progress *progress
	stop     func() // called at the first failure

	mu        sync.Mutex // guards what follows
	underWay  int64
	confirmed int64
	err       error
	idle      chan struct{} // closed when nothing is under way, if somebody waits
}

func (t *tally) sending() {
	t.mu.Lock()
	t.underWay++
	t.mu.Unlock()
}

func (t *tally) unsent() { t.finish(false, nil) }

func (t *tally) done(_ polylog.Receipt, err error) { t.finish(err == nil, err) }

func (t *tally) finish(confirmed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay--
	if t.err == nil {
		if err != nil {
			t.err = err
			t.stop()
		}
		if confirmed {
			t.confirmed++
			t.progress.add(1)
		}
	}
	if t.underWay == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

// wait waits for what is under way; once ctx has ended only a little longer.
func (t *tally) wait(ctx context.Context) (confirmed int64, err error) {
	t.mu.Lock()
	idle := make(chan struct{})
	if t.underWay == 0 {
		close(idle)
	} else {
		t.idle = idle
	}
	t.mu.Unlock()
	late := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(closeTimeout, func() { close(late) })
	})()
	select {
	case <-idle:
	case <-late:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil && t.underWay > 0 {
		t.err = fmt.Errorf("%s in doubt: %w", messages(t.underWay), errInterrupted)
	}
	return t.confirmed, t.err
}

// checkSend refuses what makes no sense.
func checkSend(c *cli.Context) error {
	if err := operands(c, 1, -1); err != nil {
		return err
	}
	if c.Int("repeat") < 1 {
		return usagef("--repeat %d: write a number from 1", c.Int("repeat"))
	}
	if c.Bool("transaction") && c.IsSet("spill") {
		return usagef("--transaction and --spill: a transaction waits for the broker, and so needs no directory")
	}
	if c.IsSet("rate") && c.Float64("rate") <= 0 {
		return usagef("--rate %g: write a number above 0", c.Float64("rate"))
	}
	return nil
}

// putOptions reads the headers and properties.
func putOptions(c *cli.Context) ([]polylog.PutOption, error) {
	if p := c.Int("priority"); c.IsSet("priority") && (p < 0 || p > 9) {
		return nil, usagef("--priority %d: write a number from 0 to 9", p)
	}
	if c.IsSet("key") && c.IsSet("group") {
		return nil, usagef("a message's group is its key: give --key or --group, not both")
	}
	var options []polylog.PutOption
	add := func(name string, option func() polylog.PutOption) {
		if c.IsSet(name) {
			options = append(options, option())
		}
	}
	add("priority", func() polylog.PutOption { return polylog.WithPriority(c.Int("priority")) })
	add("delay", func() polylog.PutOption { return polylog.WithDelay(c.Duration("delay")) })
	add("ttl", func() polylog.PutOption { return polylog.WithTTL(c.Duration("ttl")) })
	add("key", func() polylog.PutOption { return polylog.WithKey(c.String("key")) })
	add("group", func() polylog.PutOption { return polylog.WithGroup(c.String("group")) })
	add("correlation-id", func() polylog.PutOption { return polylog.WithCorrelationID(c.String("correlation-id")) })
	add("type", func() polylog.PutOption { return polylog.WithType(c.String("type")) })
	add("reply-to", func() polylog.PutOption { return polylog.WithReplyTo(c.String("reply-to")) })
	add("non-persistent", polylog.NonPersistent)
	for _, text := range c.StringSlice("property") {
		name, value, err := parseProperty(text)
		if err != nil {
			return nil, err
		}
		options = append(options, polylog.WithProperty(name, value))
	}
	return options, nil
}
