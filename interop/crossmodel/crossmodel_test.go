// Package crossmodel has messages cross between the models of Jakarta Messaging
// and those of Kafka, over one log: polylog's own client and kcat or franz-go.
package crossmodel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/interop/target"
)

func session(t *testing.T, opts ...polylog.Option) *polylog.Session {
	t.Helper()
	c, err := polylog.Connect(target.Context(t), "polylog://"+target.Native(t), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := c.Session(target.Context(t), polylog.IndividualAcknowledge)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// destination creates one of a kind through polylog's own door.
func destination(t *testing.T, kind string) string {
	t.Helper()
	c, err := polylog.Connect(target.Context(t), "polylog://"+target.Native(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	name := target.Name(t)
	if _, err := c.Admin().Create(target.Context(t), polylog.DestinationSpec{Name: name, Kind: kind}); err != nil {
		t.Fatal(err)
	}
	return name
}

func kcat(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(target.Context(t), "kcat", append([]string{"-b", target.Bootstrap(t)}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("kcat %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

type seen struct {
	Key     *string
	Payload string
	Headers []string
}

// readAll is what kcat sees from the beginning to the end.
func readAll(t *testing.T, topic string) []seen {
	t.Helper()
	var all []seen
	for d := json.NewDecoder(strings.NewReader(kcat(t, "", "-C", "-t", topic, "-e", "-q", "-J"))); d.More(); {
		var m seen
		if err := d.Decode(&m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func (m seen) header(name string) (string, bool) {
	for h := range slices.Chunk(m.Headers, 2) {
		if h[0] == name {
			return h[1], true
		}
	}
	return "", false
}

// TestTextToKcat: a text message with properties is for kcat its text as the
// value and readable headers.
func TestTextToKcat(t *testing.T) {
	s := session(t)
	for kind, send := range map[string]func(name string, opts ...polylog.PutOption) error{
		"queue": func(name string, opts ...polylog.PutOption) error {
			_, err := polylog.QueueOf[string](s, name).Put(target.Context(t), "guten Tag, Welt", opts...)
			return err
		},
		"topic": func(name string, opts ...polylog.PutOption) error {
			_, err := polylog.TopicOf[string](s, name).Publish(target.Context(t), "guten Tag, Welt", opts...)
			return err
		},
	} {
		t.Run(kind, func(t *testing.T) {
			name := destination(t, kind)
			err := send(name, polylog.WithProperty("colour", "grün"), polylog.WithProperty("count", int32(42)),
				polylog.WithProperty("price", 1.5), polylog.WithProperty("urgent", true), polylog.WithPriority(7), polylog.WithGroup("g1"))
			if err != nil {
				t.Fatal(err)
			}
			all := readAll(t, name)
			if len(all) != 1 {
				t.Fatalf("%d records: %+v", len(all), all)
			}
			m := all[0]
			if m.Payload != "guten Tag, Welt" || m.Key == nil || *m.Key != "g1" {
				t.Errorf("%+v", m)
			}
			for property, want := range map[string]string{"colour": "grün", "count": "42", "price": "1.5", "urgent": "true"} {
				if got, ok := m.header(property); !ok || got != want {
					t.Errorf("header %s is %q, %v", property, got, ok)
				}
			}
			if n := len(m.Headers) / 2; n != 5 {
				t.Errorf("%d headers, want the four properties and polylog.jms: %q", n, m.Headers)
			}
		})
	}
}

// TestKcatToQueue: what kcat sends to a queue is taken from it, as bytes with its
// headers as properties, each message once.
func TestKcatToQueue(t *testing.T) {
	for _, kind := range []string{"queue", "log"} {
		t.Run(kind, func(t *testing.T) {
			name := destination(t, kind)
			kcat(t, "k1:one\nk2:two\n", "-P", "-t", name, "-K:", "-H", "colour=grün", "-z", "lz4")
			q := session(t).Queue(name)
			for _, want := range []string{"one", "two"} {
				d, err := q.Take(target.Context(t))
				if err != nil {
					t.Fatal(err)
				}
				m := d.Message()
				if m.Kind != polylog.BodyBytes || m.Text() != want || m.Properties["colour"] != "grün" || m.Group() != "" {
					t.Errorf("%+v", m)
				}
				if err := d.Ack(target.Context(t)); err != nil {
					t.Fatal(err)
				}
			}
			if d, err := q.Take(target.Context(t), polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
				t.Errorf("a third message: %+v, %v", d, err)
			}
			// Taking does not take away from Kafka's view.
			if all := readAll(t, name); len(all) != 2 {
				t.Errorf("%d records", len(all))
			}
		})
	}
}

// TestKcatToDurable: a durable subscriber gets what kcat sent while it was away.
func TestKcatToDurable(t *testing.T) {
	for _, kind := range []string{"topic", "log"} {
		t.Run(kind, func(t *testing.T) {
			name := destination(t, kind)
			subscriber := func() (*polylog.Connection, *polylog.Subscription[string]) {
				c, err := polylog.Connect(target.Context(t), "polylog://"+target.Native(t), polylog.WithClientID(name))
				if err != nil {
					t.Fatal(err)
				}
				s, err := c.Session(target.Context(t), polylog.IndividualAcknowledge)
				if err != nil {
					t.Fatal(err)
				}
				sub, err := polylog.TopicOf[string](s, name).Durable(target.Context(t), "d")
				if err != nil {
					t.Fatal(err)
				}
				return c, sub
			}
			away, _ := subscriber()
			away.Close()
			kcat(t, "one\ntwo\nthree\n", "-P", "-t", name)
			back, sub := subscriber()
			defer back.Close()
			for _, want := range []string{"one", "two", "three"} {
				d, err := sub.Take(target.Context(t))
				if err != nil {
					t.Fatal(err)
				}
				if d.Value != want {
					t.Errorf("got %q, want %q", d.Value, want)
				}
				if err := d.Ack(target.Context(t)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestAbortedStaysUnseen: what a Kafka transaction aborts no queue delivers, and
// what it commits every view does.
func TestAbortedStaysUnseen(t *testing.T) {
	name := destination(t, "queue")
	cl := target.Client(t, kgo.TransactionalID(name), kgo.DefaultProduceTopic(name))
	for i, commit := range []bool{true, false, true} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(target.Context(t), kgo.StringRecord(fmt.Sprint(i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(target.Context(t), kgo.TransactionEndTry(commit)); err != nil {
			t.Fatal(err)
		}
	}
	q := polylog.QueueOf[string](session(t), name)
	for _, want := range []string{"0", "2"} {
		d, err := q.Take(target.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		if d.Value != want {
			t.Errorf("got %q, want %q", d.Value, want)
		}
		if err := d.Ack(target.Context(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// tally counts what one model's consumers got.
type tally struct {
	mu   sync.Mutex
	seen map[string]int
	in   []string // by the first of them, in order
	by   []int    // by each of them
}

func newTally(consumers int) *tally {
	return &tally{seen: map[string]int{}, by: make([]int, consumers)}
}

func (c *tally) add(consumer int, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[value]++
	c.by[consumer]++
	if consumer == 0 {
		c.in = append(c.in, value)
	}
}

func (c *tally) different() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// TestAllModelsAtOnce has a consumer group, a share group, a durable subscriber
// and a queue's takers on one destination at the same time, with producers of
// both kinds. Each sees what its model promises, and the disk holds each message
// once.
func TestAllModelsAtOnce(t *testing.T) {
	native, data := target.Native(t), target.Data(t)
	const partitions = 2
	each := 2000
	if os.Getenv("INTEROP_QUICK") == "" {
		each = 20_000
	}
	total := 2 * each
	name := target.Topic(t, partitions) // through Kafka: a log, which takes every view
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var running sync.WaitGroup
	var told sync.Map // by what: a thousand failures of one kind are one
	failed := func(what string, err error) {
		if err == nil || ctx.Err() != nil {
			return
		}
		if _, again := told.LoadOrStore(what, true); !again {
			t.Errorf("%s: %v", what, err)
		}
	}

	// A consumer group of two members.
	group := newTally(2)
	groupName := target.Name(t)
	for i := range 2 {
		cl := target.Client(t, kgo.ConsumerGroup(groupName), kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		running.Go(func() {
			for ctx.Err() == nil {
				f := cl.PollFetches(ctx)
				failed("consumer group", f.Err())
				f.EachRecord(func(r *kgo.Record) { group.add(i, string(r.Value)) })
			}
		})
	}
	// A share group of two members.
	share := newTally(2)
	shareName := target.Name(t)
	earliest(t, shareName)
	for i := range 2 {
		cl := target.Client(t, kgo.ShareGroup(shareName), kgo.ConsumeTopics(name), kgo.ShareMaxRecords(50))
		running.Go(func() {
			for ctx.Err() == nil {
				f := cl.PollFetches(ctx)
				failed("share group", f.Err())
				f.EachRecord(func(r *kgo.Record) {
					share.add(i, string(r.Value))
					r.Ack(kgo.AckAccept)
				})
			}
		})
	}
	// A durable subscriber.
	durable := newTally(1)
	c, err := polylog.Connect(ctx, "polylog://"+native, polylog.WithClientID(name))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := polylog.TopicOf[string](s, name).Durable(ctx, "d")
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		for d, err := range sub.Consume(ctx) {
			if err != nil {
				failed("durable subscriber", err)
				return
			}
			durable.add(0, d.Value)
			failed("durable subscriber", d.AckAsync())
		}
	})
	// Two takers of the queue.
	queue := newTally(2)
	for i := range 2 {
		q := polylog.QueueOf[string](session(t), name)
		running.Go(func() {
			for d, err := range q.Consume(ctx, polylog.WithPrefetch(50)) {
				if err != nil {
					failed("queue", err)
					return
				}
				queue.add(i, d.Value)
				failed("queue", d.AckAsync())
			}
		})
	}

	// Half of the messages come from Kafka's side, half from the other.
	filler := strings.Repeat("x", 200)
	value := func(from string, i int) string { return fmt.Sprintf("%s-%06d-%s", from, i, filler) }
	var producing sync.WaitGroup
	producing.Go(func() {
		// Uncompressed, so that the values can be counted on disk.
		cl := target.Client(t, kgo.DefaultProduceTopic(name), kgo.ProducerBatchCompression(kgo.NoCompression()))
		for i := range each {
			cl.Produce(ctx, kgo.StringRecord(value("kafka", i)), func(_ *kgo.Record, err error) { failed("produce", err) })
			if i%100 == 0 {
				failed("produce", cl.Flush(ctx))
			}
		}
		failed("produce", cl.Flush(ctx))
	})
	producing.Go(func() {
		topic := polylog.TopicOf[string](session(t), name)
		for i := range each {
			failed("publish", topic.PublishAsync(ctx, value("native", i), func(_ polylog.Receipt, err error) { failed("publish", err) }))
		}
		_, err := topic.Publish(ctx, "the end")
		failed("publish", err)
	})
	producing.Wait()
	total++ // the end
	models := map[string]*tally{"consumer group": group, "share group": share, "durable subscriber": durable, "queue": queue}
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		done := true
		for _, m := range models {
			done = done && m.different() == total
		}
		if done {
			break
		}
	}
	time.Sleep(500 * time.Millisecond) // what comes twice would come now
	cancel()
	running.Wait()
	for what, m := range models {
		twice := 0
		for _, n := range m.seen {
			if n > 1 {
				twice++
			}
		}
		t.Logf("%s: %d of %d messages, %d of them more than once, by consumer %v", what, len(m.seen), total, twice, m.by)
		if len(m.seen) != total {
			t.Errorf("%s: %d of %d messages", what, len(m.seen), total)
		}
		if twice > 0 {
			t.Errorf("%s: %d messages came more than once though nothing failed", what, twice)
		}
		// Who published one after the other is heard so, for a session keeps to one partition.
		if what == "durable subscriber" {
			natives := slices.DeleteFunc(slices.Clone(m.in), func(v string) bool { return !strings.HasPrefix(v, "native-") })
			if !slices.IsSorted(natives) {
				t.Errorf("%s: not in the order of the publisher", what)
			}
		}
	}
	for _, m := range []*tally{share, queue} {
		if m.by[0] == 0 || m.by[1] == 0 {
			t.Errorf("one consumer of two got everything: %v", m.by)
		}
	}
	onDisk(t, data, name, total, len(value("kafka", 0)))
}

// earliest has a share group begin at the beginning.
func earliest(t *testing.T, group string) {
	t.Helper()
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = "share.auto.offset.reset", kmsg.StringPtr("earliest")
	g := kmsg.NewIncrementalAlterConfigsRequestResource()
	g.ResourceType, g.ResourceName, g.Configs = kmsg.ConfigResourceTypeGroupConfig, group, append(g.Configs, c)
	r := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r.Resources = append(r.Resources, g)
	answer := target.Ask[*kmsg.IncrementalAlterConfigsResponse](t, target.Client(t), r)
	if len(answer.Resources) != 1 || answer.Resources[0].ErrorCode != 0 {
		t.Fatalf("%+v", answer)
	}
}

// onDisk counts what the data directory holds: the values once, in the segments
// of their destination, and nowhere else but in the journal, which is used again
// and again. What views remember of them is small.
func onDisk(t *testing.T, data, name string, messages, valueBytes int) {
	t.Helper()
	var segments, others int64
	values, elsewhere := 0, 0
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".log") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n := bytes.Count(b, []byte("kafka-")) + bytes.Count(b, []byte("native-"))
		if strings.HasPrefix(filepath.Base(filepath.Dir(path)), name+"-") {
			segments += int64(len(b))
			values += n
		} else {
			others += int64(len(b))
			elsewhere += bytes.Count(b, bytes.Repeat([]byte("x"), 200))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	net := int64(messages * valueBytes)
	t.Logf("%d messages of %d bytes: %d bytes of values, %d bytes of the destination's segments, %d bytes of all other logs", messages, valueBytes, net, segments, others)
	if values != messages-1 { // the end is no such value
		t.Errorf("%d values in the destination's segments, want %d", values, messages-1)
	}
	if elsewhere > 0 {
		t.Errorf("%d values in other logs", elsewhere)
	}
	if segments > 2*net {
		t.Errorf("the segments have %d bytes for %d bytes of values", segments, net)
	}
	if others > net {
		t.Errorf("what the views remember has %d bytes, more than the %d bytes of values", others, net)
	}
}
