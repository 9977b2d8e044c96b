package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// startLimit is how long a broker may take until it says that it is ready.
const startLimit = time.Minute

// stopLimit is how long a broker may take to end before it is killed.
const stopLimit = 15 * time.Second

// A target starts brokers, or knows the one that runs.
type target struct {
	program   string // empty: bootstrap runs already
	arguments func(data string, port int) []string
	bootstrap string
	native    string
	warm      bool // see warmUp
}

// A broker is what one suite talks to.
type broker struct {
	kafka    string // HOST:PORT
	native   string // HOST:PORT, or empty: it is not polylog
	amqp     string // likewise
	stomp    string // likewise
	memcache string // likewise
	http     string // likewise
	data     string // data directory, or empty: it is not ours
	cmd      *exec.Cmd
	ended    chan error
}

func newTarget(ctx context.Context, o options, work string) (*target, error) {
	if o.bootstrap != "" {
		return &target{bootstrap: o.bootstrap, native: o.native}, nil
	}
	switch o.target {
	case "kfake":
		program := filepath.Join(work, "kfake")
		if err := build(ctx, o.module, program, "./kfake"); err != nil {
			return nil, err
		}
		return &target{program: program, arguments: func(_ string, port int) []string {
			return []string{"--kafka-listen", loopback(port)}
		}}, nil
	case "polylog":
		program := o.polylog
		if program == "" {
			program = filepath.Join(work, "polylog")
			if err := build(ctx, filepath.Dir(o.module), program, "./cli/polylog"); err != nil {
				return nil, err
			}
		}
		program, err := filepath.Abs(program)
		return &target{program: program, arguments: func(data string, port int) []string {
			return []string{"serve", "--data", data, "--native-listen", "127.0.0.1:0", "--amqp-listen", "127.0.0.1:0", "--stomp-listen", "127.0.0.1:0", "--memcache-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--kafka-listen", loopback(port)}
		}}, err
	case "kafka":
		java := filepath.Join(o.module, "java")
		if text, err := exec.CommandContext(ctx, filepath.Join(java, "build")).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build what starts Kafka: %w\n%s", err, text)
		}
		jars, err := os.ReadFile(filepath.Join(java, "target", "classpath"))
		if err != nil {
			return nil, err
		}
		classes := filepath.Join(java, "target", "classes") + ":" + strings.TrimSpace(string(jars))
		return &target{program: "java", warm: true, arguments: func(data string, port int) []string {
			return []string{
				"-Xmx512m", "-XX:+UseSerialGC", "-cp", classes, "polylog.interop.Broker",
				"--dir", data, "--port", strconv.Itoa(port),
			}
		}}, nil
	}
	return nil, fmt.Errorf("target %s needs -bootstrap", o.target)
}

func build(ctx context.Context, dir, program, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, pkg)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// start gives a suite a broker of its own with an empty data directory in dir,
// unless there is only one for all. port 0 is any free one.
func (t *target) start(dir string, port int, log io.Writer) (*broker, error) {
	if t.program == "" {
		return &broker{kafka: t.bootstrap, native: t.native}, nil
	}
	b := &broker{data: filepath.Join(dir, "data"), ended: make(chan error, 1)}
	if err := os.MkdirAll(b.data, 0o755); err != nil {
		return nil, err
	}
	if port == 0 {
		var err error
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	b.cmd = exec.Command(t.program, t.arguments(b.data, port)...)
	b.cmd.Dir = dir // no polylog.toml of somebody's
	b.cmd.Env = append(os.Environ(), "POLYLOG_CONFIG=")
	b.cmd.Stderr = log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	output, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	go func() { // ends with the broker
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			fmt.Fprintln(log, lines.Text())
			if rest, ok := strings.CutPrefix(lines.Text(), "ready"); ok {
				select {
				case ready <- rest:
				default:
				}
			}
		}
		b.ended <- b.cmd.Wait()
	}()
	select {
	case line := <-ready:
		b.kafka, b.native = loopback(port), field(line, "native")
		b.amqp, b.stomp, b.memcache, b.http = field(line, "amqp"), field(line, "stomp"), field(line, "memcache"), field(line, "http")
		if !strings.Contains(line, b.kafka) {
			_ = b.stop()
			return nil, fmt.Errorf("%s does not listen on %s: ready%s", filepath.Base(t.program), b.kafka, line)
		}
		if t.warm {
			if err := warmUp(b.kafka); err != nil {
				_ = b.stop()
				return nil, err
			}
		}
		return b, nil
	case err := <-b.ended:
		b.ended <- err
		return nil, fmt.Errorf("%s ended before it was ready: %v", filepath.Base(t.program), err)
	case <-time.After(startLimit):
		_ = b.stop()
		return nil, fmt.Errorf("%s was not ready after %s", filepath.Base(t.program), startLimit)
	}
}

// warmUp has the coordinators of a Kafka broker make their topics, of fifty
// partitions each. That takes Kafka seconds on a small machine, in which many a
// client gives up.
func warmUp(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.TransactionalID("warm-up"))
	if err != nil {
		return err
	}
	defer cl.Close()
	if _, _, err := cl.ProducerID(ctx); err != nil {
		return fmt.Errorf("warm up transactions: %w", err)
	}
	for ctx.Err() == nil {
		if _, err = kadm.NewClient(cl).FetchOffsets(ctx, "warm-up"); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("warm up groups: %w", err)
}

// field is the value of name=value in a line of words.
func field(line, name string) string {
	for word := range strings.FieldsSeq(line) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return ""
}

// stop ends the broker, if it is ours, and tells if it had ended before, or did
// not want to.
func (b *broker) stop() error {
	if b.cmd == nil {
		return nil
	}
	select {
	case err := <-b.ended:
		return fmt.Errorf("the broker ended during the suite: %v", err)
	default:
	}
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-b.ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 128+int(syscall.SIGTERM) {
			return nil // how Java says that it was asked to
		}
		if err != nil {
			return fmt.Errorf("the broker ended badly: %w", err)
		}
		return nil
	case <-time.After(stopLimit):
		_ = b.cmd.Process.Kill()
		<-b.ended
		return errors.New("the broker did not end and was killed")
	}
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
