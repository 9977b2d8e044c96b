package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A suite is one client's tests.
type suite struct {
	name  string
	what  string
	full  bool // not part of a quick run
	ours  bool // needs the native protocol: polylog only
	exact bool // asks what a fake broker does not do
	limit time.Duration
	port  int // where the broker must listen; 0 is anywhere
	// command makes what is to be run. It may build it first.
	command func(context.Context, *environment) (*exec.Cmd, error)
	reads   func(output string) []outcome
}

// environment is what a suite runs in.
type environment struct {
	options
	target   *target
	broker   *broker
	work     string // a directory of its own
	building *sync.Mutex
}

var suites = []suite{
	{
		name: "kgo", what: "franz-go's own tests: produce, group, transaction and share group pipelines, and its regressions",
		limit: 15 * time.Minute, command: kgoTests, reads: topLevel,
	},
	{
		name: "confluent", what: "confluent-kafka-go's integration tests, librdkafka inside, classic groups",
		limit: 6 * time.Minute, command: confluent("classic"), reads: goTests,
	},
	{
		name: "confluent-848", what: "the same with the consumer group protocol of KIP-848", full: true,
		limit: 6 * time.Minute, command: confluent("consumer"), reads: goTests,
	},
	{
		name: "kcat", what: "kcat: codecs, keys, headers, groups, transactions, offsets by time",
		limit: 4 * time.Minute, command: ownTests("kcat"), reads: goTests,
	},
	{
		name: "python", what: "python3-kafka of Debian",
		limit: 4 * time.Minute, command: python("suite.py"), reads: tap,
	},
	{
		name: "sarama", what: "programs with sarama",
		limit: 4 * time.Minute, command: ownTests("sarama"), reads: goTests,
	},
	{
		name: "kafka-go", what: "programs with kafka-go",
		limit: 4 * time.Minute, command: ownTests("kafkago"), reads: goTests,
	},
	{
		name: "kafkajs", what: "programs with kafkajs",
		limit: 4 * time.Minute, command: node("kafkajs.test.mjs"), reads: tap,
	},
	{
		name: "platformatic", what: "programs with @platformatic/kafka",
		limit: 4 * time.Minute, command: node("platformatic.test.mjs"), reads: tap,
	},
	{
		name: "pitfalls", what: "what breaks clients when it is wrong, each with two clients or more", exact: true,
		limit: 4 * time.Minute, command: ownTests("pitfalls"), reads: goTests,
	},
	{
		name: "cross-model", what: "one log seen by JMS models and Kafka models at once", ours: true,
		limit: 4 * time.Minute, command: ownTests("crossmodel"), reads: goTests,
	},
	{
		name: "go-amqp", what: "programs with go-amqp, and what other doors see of their messages", ours: true,
		limit: 4 * time.Minute, command: ownTests("goamqp"), reads: goTests,
	},
	{
		name: "rhea", what: "programs with rhea (AMQP 1.0, Node.js)", ours: true,
		limit: 4 * time.Minute, command: node("rhea.test.mjs"), reads: tap,
	},
	{
		name: "proton", what: "programs with Qpid Proton of Debian (AMQP 1.0, Python)", ours: true,
		limit: 4 * time.Minute, command: python("proton_suite.py"), reads: tap,
	},
	{
		name: "go-stomp", what: "programs with go-stomp, and what other doors see of their messages", ours: true,
		limit: 4 * time.Minute, command: ownTests("gostomp"), reads: goTests,
	},
	{
		name: "stomp.py", what: "programs with stomp.py of Debian", ours: true,
		limit: 4 * time.Minute, command: python("stomp_suite.py"), reads: tap,
	},
	{
		name: "stompjs", what: "programs with @stomp/stompjs over WebSocket (Node.js)", ours: true,
		limit: 4 * time.Minute, command: node("stompjs.test.mjs"), reads: tap,
	},
	{
		name: "curl", what: "programs with curl", ours: true,
		limit: 4 * time.Minute, command: ownTests("curl"), reads: goTests,
	},
	{
		name: "memcache", what: "programs with gomemcache and libmemcached's tools, and what other doors see of their messages", ours: true,
		limit: 4 * time.Minute, command: ownTests("memcache"), reads: goTests,
	},
	{
		name: "python-memcached", what: "programs with python-memcached of Debian", ours: true,
		limit: 4 * time.Minute, command: python("memcache_suite.py"), reads: tap,
	},
	{
		name: "matrix", what: "what one door has written, read through every other", ours: true,
		limit: 4 * time.Minute, command: ownTests("matrix"), reads: goTests,
	},
	{
		name: "access", what: "users, certificates and rules, the same at every door", ours: true,
		limit: 4 * time.Minute, command: ownTests("access"), reads: goTests,
	},
	{
		name: "adopt", what: "the data directory of a real Kafka broker, taken over", ours: true,
		limit: 4 * time.Minute, command: ownTests("adopt"), reads: goTests,
	},
}

// wants says whether a run without named suites has this one.
func (s suite) wants(o options) bool {
	switch {
	case s.ours && o.target != "polylog", s.exact && o.target == "kfake", s.full && o.quick:
		return false
	}
	return true
}

// run runs a suite and judges it.
func (s suite) run(ctx context.Context, e *environment, expected expectation) report {
	begin := time.Now()
	r := s.outcomes(ctx, e)
	r.took = time.Since(begin)
	r.judge(expected)
	fmt.Fprintf(os.Stderr, "%s: %s\n", s.name, r.line())
	return r
}

func (s suite) outcomes(ctx context.Context, e *environment) (r report) {
	r.suite = s.name
	if err := os.MkdirAll(e.work, 0o755); err != nil {
		r.broken = err
		return r
	}
	cmd, err := s.command(ctx, e)
	if err != nil {
		r.broken = err
		return r
	}
	log, err := os.Create(filepath.Join(e.results, s.name+".broker.log"))
	if err != nil {
		r.broken = err
		return r
	}
	defer log.Close()
	if e.broker, err = e.target.start(e.work, s.port, log); err != nil {
		r.broken = err
		return r
	}
	cmd.Env = append(cmd.Environ(), e.variables()...)
	output, err := e.execute(ctx, s, cmd)
	r.outcomes, r.output = s.reads(output), output
	if stopped := e.broker.stop(); stopped != nil {
		err = errors.Join(stopped, err)
	}
	switch failed := r.count(failed); {
	case len(r.outcomes) == 0:
		r.broken = fmt.Errorf("no test was run: %w", errors.Join(errors.New(lastLine(output)), err))
	case err != nil && failed == 0:
		r.broken = err // no test is to blame
	}
	return r
}

// variables tell a suite where the broker is.
func (e *environment) variables() []string {
	v := []string{
		"INTEROP_BOOTSTRAP=" + e.broker.kafka,
		"INTEROP_NATIVE=" + e.broker.native,
		"INTEROP_AMQP=" + e.broker.amqp,
		"INTEROP_STOMP=" + e.broker.stomp,
		"INTEROP_MEMCACHE=" + e.broker.memcache,
		"INTEROP_HTTP=" + e.broker.http,
		"INTEROP_README=" + filepath.Join(e.module, "..", "README.md"),
		"INTEROP_DATA=" + e.broker.data,
	}
	if e.broker.native != "" && e.target.program != "" {
		v = append(v, "INTEROP_POLYLOG="+e.target.program, "INTEROP_KAFKA="+filepath.Join(e.module, "java", "broker"))
	}
	if e.quick {
		v = append(v, "INTEROP_QUICK=1")
	}
	return v
}

// execute runs a suite's program in a process group of its own, which is ended
// with it, and gives what it printed.
func (e *environment) execute(ctx context.Context, s suite, cmd *exec.Cmd) (string, error) {
	path := filepath.Join(e.results, s.name+".log")
	log, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer log.Close()
	fmt.Fprintf(log, "# %s\n", strings.Join(cmd.Args, " "))
	// kgo and confluent know the broker by their own means, too late for command.
	for i, v := range cmd.Env {
		cmd.Env[i] = strings.ReplaceAll(v, "{kafka}", e.broker.kafka)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(s.limit)
	defer timer.Stop()
	select {
	case err = <-ended:
	case <-timer.C:
		err = fmt.Errorf("not done after %s", s.limit)
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the program, or what it left behind
	output, readErr := os.ReadFile(path)
	return string(output), errors.Join(err, readErr)
}

func lastLine(output string) string {
	output = strings.TrimSpace(output)
	return output[strings.LastIndexByte(output, '\n')+1:]
}

// compile builds the tests of a package, another module's too: they need
// nothing but what this module requires.
func (e *environment) compile(ctx context.Context, pkg string) (string, error) {
	e.building.Lock()
	defer e.building.Unlock()
	program := filepath.Join(e.work, "suite.test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, pkg)
	cmd.Dir = e.module
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the tests of %s: %w\n%s", pkg, err, text)
	}
	return program, nil
}

func kgoTests(ctx context.Context, e *environment) (*exec.Cmd, error) {
	program, err := e.compile(ctx, "github.com/twmb/franz-go/pkg/kgo")
	if err != nil {
		return nil, err
	}
	records := "500000"
	if e.quick {
		records = "50000"
	}
	// One test reads the package's source.
	source := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/twmb/franz-go/pkg/kgo")
	source.Dir = e.module
	dir, err := source.Output()
	if err != nil {
		return nil, fmt.Errorf("find the source of kgo: %w", err)
	}
	cmd := exec.Command(program, "-test.v", "-test.timeout=14m")
	cmd.Dir = strings.TrimSpace(string(dir))
	cmd.Env = append(os.Environ(), "KGO_SEEDS={kafka}", "KGO_TEST_RF=1", "KGO_TEST_RECORDS="+records, "KGO_LOG_LEVEL=none")
	return cmd, nil
}

func confluent(protocol string) func(context.Context, *environment) (*exec.Cmd, error) {
	return func(ctx context.Context, e *environment) (*exec.Cmd, error) {
		program, err := e.compile(ctx, "github.com/confluentinc/confluent-kafka-go/v2/kafka")
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(e.work, "testconf.json"), []byte(`{"Brokers": "$BROKERS"}`), 0o644); err != nil {
			return nil, err
		}
		cmd := exec.Command(program, "-test.v", "-test.timeout=6m", "-test.run=^(TestIntegration|TestTransactionalProducer|TestTransactionalSendOffsets)$")
		cmd.Dir = e.work
		cmd.Env = append(os.Environ(), "BROKERS={kafka}", "TEST_CONSUMER_GROUP_PROTOCOL="+protocol)
		return cmd, nil
	}
}

// ownTests runs the Go tests of one of this module's packages.
func ownTests(pkg string) func(context.Context, *environment) (*exec.Cmd, error) {
	return func(ctx context.Context, e *environment) (*exec.Cmd, error) {
		program, err := e.compile(ctx, "./"+pkg)
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(program, "-test.v", "-test.timeout=4m")
		cmd.Dir = e.work
		cmd.Env = os.Environ()
		return cmd, nil
	}
}

func python(file string) func(context.Context, *environment) (*exec.Cmd, error) {
	return func(_ context.Context, e *environment) (*exec.Cmd, error) {
		// Debian's interpreter, not one that stands before it in PATH.
		cmd := exec.Command("/usr/bin/python3", filepath.Join(e.module, "python", file))
		cmd.Dir = e.work
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
		return cmd, nil
	}
}

func node(file string) func(context.Context, *environment) (*exec.Cmd, error) {
	return func(_ context.Context, e *environment) (*exec.Cmd, error) {
		cmd := exec.Command("node", "--test-force-exit", "--test-reporter=tap", filepath.Join(e.module, "node", file))
		cmd.Dir = e.work
		cmd.Env = append(os.Environ(), "KAFKAJS_NO_PARTITIONER_WARNING=1", "NO_COLOR=1")
		return cmd, nil
	}
}
