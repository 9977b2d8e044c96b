package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nuid"
	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog"
)

// ackModes by the names that --ack takes.
var ackModes = map[string]polylog.Mode{
	"auto": polylog.AutoAcknowledge, "dups-ok": polylog.DupsOKAcknowledge,
	"client": polylog.ClientAcknowledge, "individual": polylog.IndividualAcknowledge,
}

var ackModeNames = []string{"auto", "client", "dups-ok", "individual"}

// clientAckEvery is how many deliveries one acknowledgement covers in client
// mode.
const clientAckEvery = 100

// benchCommand is `polylog bench`.
func (r *run) benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Category: categoryOperation,
		Usage: "measure throughput and latency",
		Description: "Producers put as fast as their messages in flight allow, consumers take and\n" +
			"acknowledge. Every producer and consumer has a connection of its own. The queue is\n" +
			"made for the run and deleted behind it.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "producers", Usage: "`N` producers", Value: 4},
			&cli.IntFlag{Name: "consumers", Usage: "`N` consumers; 0 only puts", Value: 4},
			&cli.StringFlag{Name: "size", Usage: "size of a body, at least 8 `BYTES`", Value: "1KiB"},
			&cli.DurationFlag{Name: "duration", Usage: "how long producers put", Value: 10 * time.Second},
			&cli.IntFlag{Name: "in-flight", Usage: "`N` messages of a producer may wait for their confirmation; 1 shows the latency of a put", Value: 1000},
			&cli.IntFlag{Name: "prefetch", Usage: "`N` messages a consumer holds ready", Value: 1000},
			&cli.StringFlag{Name: "ack", Usage: "auto|client|dups-ok|individual: what acknowledges", Value: "individual"},
			&cli.Float64Flag{Name: "rate", Usage: "`N` messages a second in all", DefaultText: "as fast as it goes"},
			&cli.BoolFlag{Name: "non-persistent", Usage: "ask for confirmation once it is written; a destination on disk syncs first all the same", DisableDefaultText: true},
			&cli.StringSliceFlag{Name: "set", Aliases: []string{"s"}, Usage: "a setting of the queue as `NAME=VALUE`, any number of times"},
		},
		Action: r.configured(r.bench),
	}
}

// load is one run of bench.
type load struct {
	r         *run
	queue     string
	size      int
	inFlight  int
	prefetch  int
	mode      polylog.Mode
	perSecond float64 // of each producer
	options   []polylog.PutOption

	confirmed, received atomic.Int64
	puts, ends          histogram
	progress            *progress
}

// benchResult is what bench prints.
type benchResult struct {
	Producers         int       `json:"producers"`
	Consumers         int       `json:"consumers"`
	Size              int       `json:"size"`
	InFlight          int       `json:"in_flight"`
	Ack               string    `json:"ack"`
	Seconds           float64   `json:"seconds"`
	Confirmed         int64     `json:"confirmed"`
	Received          int64     `json:"received"`
	ConfirmedASecond  float64   `json:"confirmed_per_second"`
	ReceivedASecond   float64   `json:"received_per_second"`
	BodyBytesASecond  float64   `json:"body_bytes_per_second"`
	PutLatency        latencies `json:"put_latency"`
	EndToEndLatencies latencies `json:"end_to_end_latency"`
}

func (r *run) bench(c *cli.Context) error {
	if err := operands(c, 0, 0); err != nil {
		return err
	}
	l, changes, err := r.newLoad(c)
	if err != nil {
		return err
	}
	ctx := c.Context
	connection, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer connection.Close()
	admin := connection.Admin()
	if _, err := admin.Create(ctx, polylog.DestinationSpec{Name: l.queue, Kind: "queue", Settings: changes}); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := admin.Delete(ctx, l.queue); err != nil {
			r.say("the queue %s is left behind: %v", l.queue, err)
		}
	}()
	producers, consumers := c.Int("producers"), c.Int("consumers")
	l.progress = r.startProgress("confirmed")
	took, err := l.run(ctx, producers, consumers, c.Duration("duration"))
	l.progress.stop()
	if err != nil {
		return err
	}
	return r.printBench(l, benchResult{
		Producers: producers, Consumers: consumers, Size: l.size, InFlight: l.inFlight, Ack: c.String("ack"), Seconds: took.Seconds(),
	})
}

func (r *run) newLoad(c *cli.Context) (*load, map[string]string, error) {
	size, err := parseSize(c.String("size"))
	if err != nil {
		return nil, nil, usagef("--size: %w", err)
	}
	if size < 8 || size > maxLineBytes {
		return nil, nil, usagef("--size %s: write a size from 8 bytes to 256MiB", c.String("size"))
	}
	mode, ok := ackModes[c.String("ack")]
	if !ok {
		return nil, nil, usagef("--ack %s: take one of auto, client, dups-ok, individual", c.String("ack"))
	}
	for _, name := range []string{"producers", "in-flight", "prefetch"} {
		if c.Int(name) < 1 {
			return nil, nil, usagef("--%s %d: write a number from 1", name, c.Int(name))
		}
	}
	if c.Int("consumers") < 0 {
		return nil, nil, usagef("--consumers %d: write a number from 0", c.Int("consumers"))
	}
	if c.Duration("duration") <= 0 {
		return nil, nil, usagef("--duration %s: write a duration above 0, such as 10s", c.Duration("duration"))
	}
	changes, err := parseSettings(c.StringSlice("set"))
	if err != nil {
		return nil, nil, err
	}
	l := &load{
		r: r, queue: "bench." + nuid.Next(), size: int(size), inFlight: c.Int("in-flight"), prefetch: c.Int("prefetch"),
		mode: mode, perSecond: c.Float64("rate") / float64(c.Int("producers")),
	}
	if c.Bool("non-persistent") {
		l.options = append(l.options, polylog.NonPersistent())
	}
	return l, changes, nil
}

// run lets everyone work, first the producers' time and then until the
// consumers have what was confirmed, and says how long it took in all.
func (l *load) run(ctx context.Context, producers, consumers int, duration time.Duration) (time.Duration, error) {
	var taking, putting sync.WaitGroup
	failures := make(chan error, producers+consumers)
	takeCtx, stopTaking := context.WithCancel(ctx)
	defer taking.Wait()
	defer stopTaking()
	for range consumers {
		taking.Go(func() {
			if err := l.consume(takeCtx); err != nil {
				failures <- fmt.Errorf("a consumer: %w", err)
				stopTaking()
			}
		})
	}
	started := time.Now()
	putCtx, stopPutting := context.WithTimeout(takeCtx, duration)
	defer stopPutting()
	for range producers {
		putting.Go(func() {
			if err := l.produce(putCtx); err != nil {
				failures <- fmt.Errorf("a producer: %w", err)
				stopPutting()
			}
		})
	}
	putting.Wait()
	if consumers > 0 {
		l.drain(takeCtx)
	}
	took := time.Since(started)
	if ctx.Err() != nil {
		return took, errInterrupted
	}
	select {
	case err := <-failures:
		return took, err
	default:
		return took, nil
	}
}

// drain waits until consumers have received what was confirmed, or have
// received nothing for ten seconds.
func (l *load) drain(ctx context.Context) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	last, since := int64(-1), time.Now()
	for l.received.Load() < l.confirmed.Load() {
		if n := l.received.Load(); n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > closeTimeout {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// producer puts; sent is a ring of the times at which what is in flight was
// put, for confirmations come in that order.
type producer struct {
	load *load
	room chan struct{} // one element for each message in flight

	mu   sync.Mutex // guards what follows
	sent []time.Time
	head int
	err  error
}

func (l *load) produce(ctx context.Context) error {
	connection, err := l.r.connect(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer connection.Close()
	session, err := connection.Session(context.WithoutCancel(ctx), polylog.AutoAcknowledge)
	if err != nil {
		return err
	}
	p := &producer{load: l, room: make(chan struct{}, l.inFlight), sent: make([]time.Time, l.inFlight)}
	queue := polylog.QueueOf[[]byte](session, l.queue)
	body := make([]byte, l.size)
	for i := range body {
		body[i] = byte(rand.Uint32()) // does not compress
	}
	pace := newPacer(l.perSecond)
	tail := 0
	for pace.wait(ctx) == nil {
		select {
		case p.room <- struct{}{}:
		case <-ctx.Done():
			return p.finish()
		}
		now := time.Now()
		binary.BigEndian.PutUint64(body, uint64(now.UnixNano()))
		p.mu.Lock()
		p.sent[tail], err = now, p.err
		p.mu.Unlock()
		if err != nil {
			return err
		}
		tail = (tail + 1) % len(p.sent)
		if err := queue.PutAsync(context.WithoutCancel(ctx), body, p.done, l.options...); err != nil {
			return err
		}
	}
	return p.finish()
}

// finish waits for what is in flight.
func (p *producer) finish() error {
	late := time.After(closeTimeout)
	for range cap(p.room) {
		select {
		case p.room <- struct{}{}:
		case <-late:
			return errors.New("confirmations are missing")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *producer) done(_ polylog.Receipt, err error) {
	p.mu.Lock()
	started := p.sent[p.head]
	p.head = (p.head + 1) % len(p.sent)
	if err != nil && p.err == nil {
		p.err = err
	}
	p.mu.Unlock()
	if err == nil {
		p.load.puts.add(time.Since(started))
		p.load.confirmed.Add(1)
		p.load.progress.add(1)
	}
	<-p.room
}

func (l *load) consume(ctx context.Context) error {
	connection, err := l.r.connect(ctx)
	if err != nil {
		return err
	}
	defer connection.Close()
	session, err := connection.Session(ctx, l.mode)
	if err != nil {
		return err
	}
	waiting := 0
	for d, err := range polylog.QueueOf[[]byte](session, l.queue).Consume(ctx, polylog.WithPrefetch(l.prefetch)) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if len(d.Value) >= 8 {
			l.ends.add(time.Duration(time.Now().UnixNano() - int64(binary.BigEndian.Uint64(d.Value))))
		}
		l.received.Add(1)
		switch l.mode {
		case polylog.IndividualAcknowledge:
			err = d.AckAsync()
		case polylog.ClientAcknowledge:
			if waiting++; waiting == clientAckEvery {
				waiting, err = 0, d.AckAsync()
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) printBench(l *load, b benchResult) error {
	b.Confirmed, b.Received = l.confirmed.Load(), l.received.Load()
	b.ConfirmedASecond = float64(b.Confirmed) / b.Seconds
	b.ReceivedASecond = float64(b.Received) / b.Seconds
	b.BodyBytesASecond = b.ConfirmedASecond * float64(b.Size)
	b.PutLatency, b.EndToEndLatencies = l.puts.latencies(), l.ends.latencies()
	pairs := []pair{
		{"confirmed", fmt.Sprintf("%s, %s/s, %s/s", messages(b.Confirmed), humanCount(int64(b.ConfirmedASecond)), humanBytes(int64(b.BodyBytesASecond)))},
		{"put latency", b.PutLatency.String()},
	}
	if b.Consumers > 0 {
		pairs = append(pairs,
			pair{"received", fmt.Sprintf("%s, %s/s", messages(b.Received), humanCount(int64(b.ReceivedASecond)))},
			pair{"end to end", b.EndToEndLatencies.String()})
	}
	if err := printOne(r, b, pairs...); err != nil {
		return err
	}
	if b.Consumers > 0 && b.Received < b.Confirmed {
		return fmt.Errorf("%d confirmed messages were not received within %s", b.Confirmed-b.Received, closeTimeout)
	}
	return nil
}
