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
	"sync"
	"syscall"
	"time"
)

const (
	readyLimit = 2 * time.Minute  // a broker is ready by then, or has failed
	stopLimit  = 30 * time.Second // a broker has ended by then, or is killed
)

// A process is a broker on one data directory and one port, which is started again
// after it was killed. Its goroutine, which ends with the broker, copies what it prints.
type process struct {
	program   string
	arguments []string
	dir       string
	address   string
	log       *os.File

	mu    sync.Mutex // guards what follows
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	ready chan struct{} // closed when cmd has said that it is ready
	ours  bool          // cmd ended because it was told to
}

func newProcess(ctx context.Context, o *options) (*process, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &process{dir: dir, address: fmt.Sprintf("127.0.0.1:%d", port)}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	switch o.broker {
	case "polylog":
		p.program = o.program
		if p.program == "" {
			p.program = filepath.Join(dir, "polylog")
			progress("building polylog")
			if err := run(ctx, root, "go", "build", "-o", p.program, "./cli/polylog"); err != nil {
				return nil, err
			}
		}
		if p.program, err = filepath.Abs(p.program); err != nil {
			return nil, err
		}
		p.arguments = []string{"serve", "--data", data, "--native-listen", "", "--kafka-listen", p.address, "--amqp-listen", "", "--stomp-listen", "", "--http-listen", ""}
	case "kafka":
		java := filepath.Join(root, "interop", "java")
		if err := run(ctx, java, "./build"); err != nil {
			return nil, err
		}
		jars, err := os.ReadFile(filepath.Join(java, "target", "classpath"))
		if err != nil {
			return nil, err
		}
		// A copy, which nobody compiles again while this runs.
		classes := filepath.Join(dir, "classes")
		if err := os.RemoveAll(classes); err != nil {
			return nil, err
		}
		if err := os.CopyFS(classes, os.DirFS(filepath.Join(java, "target", "classes"))); err != nil {
			return nil, err
		}
		// Members of KIP-848 groups are told to heartbeat every second, as members of
		// classic ones choose to here.
		p.program, p.arguments = "java", []string{
			"-Xmx512m", "-XX:+UseSerialGC", "-cp", classes + ":" + strings.TrimSpace(string(jars)), "polylog.interop.Broker",
			"--dir", data, "--port", strconv.Itoa(port),
			"--set", "group.consumer.min.heartbeat.interval.ms=1000", "--set", "group.consumer.heartbeat.interval.ms=1000",
			"--set", "group.consumer.min.session.timeout.ms=6000", "--set", "group.consumer.session.timeout.ms=10000",
		}
	default:
		return nil, fmt.Errorf("there is no broker %s: polylog and kafka are known", o.broker)
	}
	p.log, err = os.OpenFile(filepath.Join(dir, "broker.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	return p, err
}

// findRoot finds the repository from a directory in it.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "interop", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("not in the repository")
		}
	}
}

func run(ctx context.Context, dir, program string, arguments ...string) error {
	cmd := exec.CommandContext(ctx, program, arguments...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text)
	}
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// launch starts the broker without waiting for it.
func (p *process) launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.program, p.arguments...)
	cmd.Dir = p.dir // no polylog.toml of somebody's
	cmd.Env = append(os.Environ(), "POLYLOG_CONFIG=")
	cmd.Stderr = p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	p.cmd, p.ready, p.ended, p.ours = cmd, ready, ended, false
	go func() {
		announced := false
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			fmt.Fprintln(p.log, lines.Text())
			if strings.HasPrefix(lines.Text(), "ready") && !announced {
				announced = true
				close(ready)
			}
		}
		_, _ = io.Copy(p.log, output) // after a line that was too long
		err := cmd.Wait()
		fmt.Fprintf(p.log, "--- ended: %v\n", err)
		close(ended)
	}()
	return nil
}

func (p *process) awaitReady(ctx context.Context) error {
	p.mu.Lock()
	ready, ended := p.ready, p.ended
	p.mu.Unlock()
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	select {
	case <-ready:
		return nil
	case <-ended:
		return errors.New("the broker ended before it was ready")
	case <-limit.C:
		return fmt.Errorf("the broker was not ready after %s", readyLimit)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *process) start(ctx context.Context) error {
	if err := p.launch(); err != nil {
		return err
	}
	return p.awaitReady(ctx)
}

// failed tells if the broker has ended though nobody told it to.
func (p *process) failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		return !p.ours
	default:
		return false
	}
}

// kill is kill -9 of the process group, which is the broker.
func (p *process) kill() { p.end(syscall.SIGKILL) }

// stop lets the broker end in order; it tells if it does not.
func (p *process) stop() error {
	if !p.end(syscall.SIGTERM) {
		return fmt.Errorf("the broker had not ended %s after it was told to", stopLimit)
	}
	return nil
}

func (p *process) end(signal syscall.Signal) bool {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	select {
	case <-ended:
		p.mu.Unlock()
		return true
	default:
	}
	p.ours = true
	p.mu.Unlock()
	_ = syscall.Kill(-cmd.Process.Pid, signal)
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-ended:
		return true
	case <-limit.C:
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		return false
	}
}
