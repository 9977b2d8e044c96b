// Package adopt has polylog take over the data directory of a real Kafka broker.
package adopt

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/polylog-mq/polylog/interop/target"
)

// process is a broker that was started.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	line string // that says that it is ready
	out  io.ReadCloser
}

// start runs a program until it says that it is ready.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(name, args...)}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.out = out
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "ready ") {
			p.line = lines.Text()
			return p
		}
	}
	t.Fatalf("%s ended: %v", name, p.cmd.Wait())
	return nil
}

// stop ends it as an operator does, and waits.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.cmd.Wait() // a virtual machine ends with 143
}

// word is what a ready line says behind name.
func (p *process) word(name string) string {
	p.t.Helper()
	for _, w := range strings.Fields(p.line) {
		if v, ok := strings.CutPrefix(w, name); ok {
			return v
		}
	}
	p.t.Fatalf("%q does not say %s", p.line, name)
	return ""
}

func client(t *testing.T, address string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(address))...)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs polylog and returns what it says.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), target.Patience)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("polylog %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// TestAdopt: what a Kafka broker has stored is taken from a queue of polylog,
// and its groups go on where they were.
func TestAdopt(t *testing.T) {
	polylog := os.Getenv("INTEROP_POLYLOG")
	if polylog == "" {
		t.Skip("INTEROP_POLYLOG does not name the program")
	}
	dir := t.TempDir()
	kafka := start(t, cmp.Or(os.Getenv("INTEROP_KAFKA"), "../java/broker"), "--dir", dir)
	address := strings.Fields(kafka.line)[1]
	want := fill(t, address)
	kafka.stop()

	data := t.TempDir()
	said := run(t, polylog, "adopt", "--data", data, "-o", "jsonl", filepath.Join(dir, "data"))
	for _, part := range []string{`"topic":"plain"`, `"topic":"compact"`, `"topic":"__consumer_offsets"`, `"cleanup.policy":"compact"`, `"retention.ms":"3600000"`} {
		if !strings.Contains(strings.ReplaceAll(said, `": "`, `":"`), part) {
			t.Errorf("adopt says nothing of %s:\n%s", part, said)
		}
	}
	if again := run(t, polylog, "adopt", "--data", data, "-o", "jsonl", filepath.Join(dir, "data")); again != "" {
		t.Errorf("adopted again: %s", again)
	}
	broker := start(t, polylog, "serve", "--data", data, "--native-listen", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0", "--amqp-listen", "", "--stomp-listen", "", "--http-listen", "")
	url := "polylog://" + broker.word("native=")

	// Through a queue: all that was committed, once.
	taken := strings.Split(strings.TrimSpace(run(t, polylog, "--url", url, "queue", "take", "plain", "--count", fmt.Sprint(len(want)), "--timeout", "20s")), "\n")
	slices.Sort(taken)
	slices.Sort(want)
	if !slices.Equal(taken, want) {
		t.Errorf("%d messages were taken, want %d", len(taken), len(want))
	}

	// Through the group, which had committed 100 of each partition.
	cl := client(t, broker.word("kafka="), kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("plain"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DisableAutoCommit())
	left := 0
	for left < len(want)-200 {
		fetches := cl.PollFetches(target.Context(t))
		must(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if left++; r.Offset < 100 {
				t.Errorf("offset %d of partition %d again", r.Offset, r.Partition)
			}
		})
	}
	cl.Close()

	// A producer goes on behind what is there, and the key that was written last wins.
	cl = client(t, broker.word("kafka="), kgo.DefaultProduceTopic("compact"))
	r, err := cl.ProduceSync(target.Context(t), &kgo.Record{Key: []byte("k"), Value: []byte("new")}).First()
	must(t, err)
	if r.Offset != 50 {
		t.Errorf("the next offset is %d, want 50", r.Offset)
	}
	cl.Close()
	broker.stop()
	if report := run(t, polylog, "check", data, "-o", "json"); !strings.Contains(report, `"ok": true`) {
		t.Errorf("check: %s", report)
	}
}

// fill writes into a Kafka broker what a broker has after a while, and returns
// the values of plain that were committed.
func fill(t *testing.T, address string) (committed []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*target.Patience)
	defer cancel()
	cl := client(t, address)
	defer cl.Close()
	admin := kadm.NewClient(cl)
	hour, policy := "3600000", "compact"
	_, err := admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &hour}, "plain")
	must(t, err)
	_, err = admin.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &policy}, "compact")
	must(t, err)

	for i, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		p := client(t, address, kgo.DefaultProduceTopic("plain"), kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for j := range 100 {
			v := fmt.Sprintf("%d-%d-%s", i, j, strings.Repeat("x", 50))
			committed = append(committed, v)
			p.Produce(ctx, &kgo.Record{Partition: int32(j % 2), Value: []byte(v)}, func(_ *kgo.Record, err error) { must(t, err) })
		}
		must(t, p.Flush(ctx))
		p.Close()
	}
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		p := client(t, address, kgo.DefaultProduceTopic("plain"), kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		must(t, p.BeginTransaction())
		for j := range 20 {
			v := fmt.Sprintf("tx-%v-%d", commit, j)
			if commit == kgo.TryCommit {
				committed = append(committed, v)
			}
			p.Produce(ctx, &kgo.Record{Partition: int32(j % 2), Value: []byte(v)}, func(_ *kgo.Record, err error) { must(t, err) })
		}
		must(t, p.Flush(ctx))
		must(t, p.EndTransaction(ctx, commit))
		p.Close()
	}
	p := client(t, address, kgo.DefaultProduceTopic("compact"))
	for j := range 50 {
		must(t, p.ProduceSync(ctx, &kgo.Record{Key: []byte("k"), Value: fmt.Append(nil, j)}).FirstErr())
	}
	p.Close()
	offsets := kadm.Offsets{}
	for partition := range int32(2) {
		offsets.Add(kadm.Offset{Topic: "plain", Partition: partition, At: 100, LeaderEpoch: -1})
	}
	must(t, admin.CommitAllOffsets(ctx, "readers", offsets))
	time.Sleep(100 * time.Millisecond) // the controller writes behind
	return committed
}
