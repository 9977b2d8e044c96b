package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// `bench kafka` measures Kafka's protocol: polylog, which syncs before it
// confirms acks=all, against a real Kafka broker as it comes, which does not,
// and against one that syncs too (flush.messages=1). The clients are kgo and
// librdkafka's own performance tool.

// kafkaPeers are measured one after the other in each round.
var kafkaPeers = []struct {
	name       string
	properties []string // of a real broker; nil: polylog
}{
	{"polylog", nil},
	{"kafka", []string{}},
	{"kafka-flush", []string{"--set", "log.flush.interval.messages=1"}},
}

type kafkaSettings struct {
	settings
	broker string // the script that starts a real Kafka broker
	tool   string // librdkafka's performance tool, once it is built
}

func kafkaMain(args []string) error {
	var s kafkaSettings
	flags := flag.NewFlagSet("bench kafka", flag.ExitOnError)
	flags.StringVar(&s.binary, "polylog", "../bin/polylog", "the program to measure")
	flags.StringVar(&s.broker, "broker", "../interop/java/broker", "starts a real Kafka broker")
	flags.IntVar(&s.rounds, "rounds", 5, "interleaved rounds; the median is printed")
	flags.Float64Var(&s.scale, "scale", 1, "multiplies the number of records")
	_ = flags.Parse(args)
	dir, err := os.MkdirTemp("", "bench-kafka-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.dir = dir
	if s.tool, err = buildTool(dir); err != nil {
		return err
	}
	machine, err := measureMachine(dir)
	if err != nil {
		return err
	}
	fmt.Printf("machine: %s\n\n", machine)
	results := map[string]map[string][]figures{}
	var works, names []string
	for _, p := range kafkaPeers {
		names = append(names, p.name)
	}
	for round := range s.rounds {
		for _, w := range kafkaWorkloads {
			if round == 0 {
				works = append(works, w.name)
				results[w.name] = map[string][]figures{}
			}
			for i := range kafkaPeers {
				name := kafkaPeers[i].name
				fmt.Fprintf(os.Stderr, "round %d/%d %-24s %s\n", round+1, s.rounds, w.name, name)
				f, err := s.measureKafka(i, w)
				for try := 1; err != nil && try < 3; try++ { // a broker that does not come up
					fmt.Fprintf(os.Stderr, "%s, %s: %v; once more\n", w.name, name, err)
					f, err = s.measureKafka(i, w)
				}
				if err != nil {
					report(os.Stdout, results, names, works)
					return fmt.Errorf("%s, %s: %w", w.name, name, err)
				}
				results[w.name][name] = append(results[w.name][name], f)
			}
		}
	}
	report(os.Stdout, results, names, works)
	return nil
}

// buildTool compiles librdkafka's performance tool.
func buildTool(dir string) (string, error) {
	const source = "/usr/share/doc/librdkafka-dev/examples/rdkafka_performance.c"
	// Its include of ../src/rd.h is looked for beside the file.
	for _, sub := range []string{"examples", "src"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return "", err
		}
	}
	copies := map[string]string{source: "examples/rdkafka_performance.c", "rdkafka/rd.h": "src/rd.h"}
	for from, to := range copies {
		text, err := os.ReadFile(from)
		if err != nil {
			return "", fmt.Errorf("%w; the package librdkafka-dev has it", err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o644); err != nil {
			return "", err
		}
	}
	tool := filepath.Join(dir, "rdkafka_performance")
	out, err := exec.Command("gcc", "-O2", "-w", "-D_GNU_SOURCE", "-Irdkafka", "-I/usr/include/librdkafka", "-o", tool,
		filepath.Join(dir, "examples/rdkafka_performance.c"), "-lrdkafka", "-lm").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile %s: %w\n%s", source, err, out)
	}
	return tool, nil
}

// startKafka starts a peer on an empty directory.
func (s *kafkaSettings) startKafka(peer int, dir string) (*server, error) {
	p := kafkaPeers[peer]
	if p.properties == nil {
		return child(dir, nil, s.binary, "serve", "--data", "{dir}/data", "--native-listen", "", "--amqp-listen", "", "--stomp-listen", "", "--http-listen", "", "--kafka-listen", "{addr}")
	}
	args := append([]string{"--port", "{port}", "--dir", "{dir}/kafka"}, p.properties...)
	return child(dir, []string{"KAFKA_HEAP_OPTS=-Xms1g -Xmx1g"}, s.broker, args...)
}

func (s *kafkaSettings) measureKafka(peer int, w kafkaWorkload) (figures, error) {
	dir, err := os.MkdirTemp(s.dir, kafkaPeers[peer].name)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	srv, err := s.startKafka(peer, dir)
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	if err := warmUp(srv.addr); err != nil {
		return nil, err
	}
	f := figures{}
	before := srv.cpuSeconds()
	n, err := w.run(s, srv.addr, w, f)
	if err != nil {
		return nil, err
	}
	f["cpu s/M"] = (srv.cpuSeconds() - before) / float64(n) * 1e6
	f["RSS MB"] = float64(srv.peakBytes()) / 1e6
	return f, nil
}

// warmUp sends and reads enough for a virtual machine to compile what matters.
func warmUp(addr string) error {
	f := figures{}
	w := kafkaWorkload{size: 1024, acks: kgo.AllISRAcks(), records: 50_000, topic: "warm"}
	_, err := kgoThrough(nil, addr, w, f)
	return err
}

// kafkaWorkload is one row of the report.
type kafkaWorkload struct {
	name    string
	topic   string
	size    int
	acks    kgo.Acks
	tool    string // acks as librdkafka's tool has it; empty: kgo
	records int
	run     func(s *kafkaSettings, addr string, w kafkaWorkload, f figures) (int, error)
}

var kafkaWorkloads = []kafkaWorkload{
	{name: "kgo 1KiB acks=1", size: 1024, acks: kgo.LeaderAck(), records: 400_000, run: kgoThrough},
	{name: "kgo 1KiB acks=all", size: 1024, acks: kgo.AllISRAcks(), records: 400_000, run: kgoThrough},
	{name: "kgo 100B acks=1", size: 100, acks: kgo.LeaderAck(), records: 2_000_000, run: kgoThrough},
	{name: "kgo 100B acks=all", size: 100, acks: kgo.AllISRAcks(), records: 2_000_000, run: kgoThrough},
	{name: "librdkafka 1KiB acks=1", size: 1024, tool: "1", records: 400_000, run: toolThrough},
	{name: "librdkafka 1KiB acks=all", size: 1024, tool: "-1", records: 400_000, run: toolThrough},
	{name: "librdkafka 100B acks=1", size: 100, tool: "1", records: 2_000_000, run: toolThrough},
	{name: "librdkafka 100B acks=all", size: 100, tool: "-1", records: 2_000_000, run: toolThrough},
	{name: "latency 5000/s acks=all", size: 1024, acks: kgo.AllISRAcks(), records: 25_000, run: kgoPaced},
}

func (w kafkaWorkload) scaled(s *kafkaSettings) int {
	if s == nil {
		return w.records
	}
	return int(float64(w.records) * s.scale)
}

// kgoThrough produces as fast as it is confirmed, and then consumes all of it.
func kgoThrough(s *kafkaSettings, addr string, w kafkaWorkload, f figures) (int, error) {
	n := w.scaled(s)
	topic := "bench" + w.topic
	options := []kgo.Opt{
		kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation(), kgo.RequiredAcks(w.acks),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(50_000),
	}
	if w.acks == kgo.LeaderAck() {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	c, err := kgo.NewClient(options...)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	body := bytes.Repeat([]byte{'b'}, w.size)
	var failed onceError
	begin := time.Now()
	for range n {
		c.Produce(ctx, &kgo.Record{Value: body}, func(_ *kgo.Record, err error) { failed.set(err) })
	}
	if err := errors.Join(c.Flush(ctx), failed.get()); err != nil {
		return 0, err
	}
	f["produce/s"] = float64(n) / time.Since(begin).Seconds()
	r, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	begin = time.Now()
	for got := 0; got < n; {
		fetches := r.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return 0, err
		}
		got += fetches.NumRecords()
	}
	f["consume/s"] = float64(n) / time.Since(begin).Seconds()
	return n, nil
}

// kgoPaced sends 5,000 records a second, each on its own, and looks at how long
// each confirmation takes, those of the first two seconds left out: a virtual
// machine compiles meanwhile.
func kgoPaced(s *kafkaSettings, addr string, w kafkaWorkload, f figures) (int, error) {
	const warm = 2 * 5000
	n := warm + w.scaled(s)
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("paced"), kgo.AllowAutoTopicCreation(),
		kgo.RequiredAcks(w.acks), kgo.ProducerLinger(0))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	body := bytes.Repeat([]byte{'b'}, w.size)
	times := make([]time.Duration, n)
	var failed onceError
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range n {
		due := begin.Add(time.Duration(i) * time.Second / 5000)
		time.Sleep(time.Until(due))
		wg.Add(1)
		c.Produce(ctx, &kgo.Record{Value: body}, func(_ *kgo.Record, err error) {
			times[i] = time.Since(due)
			failed.set(err)
			wg.Done()
		})
	}
	wg.Wait()
	if err := failed.get(); err != nil {
		return 0, err
	}
	times = times[warm:]
	slices.Sort(times)
	f["p50 us"] = float64(times[len(times)/2].Microseconds())
	f["p99 us"] = float64(times[len(times)*99/100].Microseconds())
	return n, nil
}

// onceError keeps the first error.
type onceError struct {
	mu  sync.Mutex
	err error
}

func (e *onceError) set(err error) {
	if err == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}

func (e *onceError) get() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// rates are the lines of figures that the tool prints with -u; the last has the
// sums.
var (
	producedRate = regexp.MustCompile(`(?m)^\|\s+\d+ \|\s+\d+ \|\s+\d+ \|\s+\d+ \|\s+(\d+) \|\s+(\d+) \|`)
	consumedRate = regexp.MustCompile(`(?m)^\|\s+\d+ \|\s+(\d+) \|\s+\d+ \|\s+\d+ \|\s+(\d+) \|`)
)

// toolThrough is kgoThrough with librdkafka's performance tool.
func toolThrough(s *kafkaSettings, addr string, w kafkaWorkload, f figures) (int, error) {
	n := w.scaled(s)
	count := strconv.Itoa(n)
	for _, phase := range []struct {
		figure string
		rate   *regexp.Regexp
		args   []string
	}{
		{"produce/s", producedRate, []string{"-P", "-t", "tool", "-p", "0", "-s", strconv.Itoa(w.size), "-c", count, "-a", w.tool}},
		{"consume/s", consumedRate, []string{"-C", "-t", "tool", "-p", "0", "-o", "beginning", "-c", count}},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		out, err := exec.CommandContext(ctx, s.tool, append(phase.args, "-b", addr, "-u")...).CombinedOutput()
		cancel()
		if err != nil {
			return 0, fmt.Errorf("rdkafka_performance: %w\n%s", err, out)
		}
		lines := phase.rate.FindAllSubmatch(out, -1)
		if len(lines) == 0 || string(lines[len(lines)-1][1]) != count {
			return 0, fmt.Errorf("rdkafka_performance did not do all of %d:\n%s", n, out)
		}
		f[phase.figure], _ = strconv.ParseFloat(string(lines[len(lines)-1][2]), 64)
	}
	return n, nil
}
