// Package child runs a polylog broker as a process of its own, for tests that
// kill it, starve it or look at what it uses.
package child

import (
	"bufio"
	"bytes"
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
)

// Broker is a polylog that runs as a child process. It dies with this process.
type Broker struct {
	URL    string
	Took   time.Duration // from the start to ready
	Ready  string        // the line that said so
	cmd    *exec.Cmd
	errors bytes.Buffer
	ended  chan struct{}
	err    error // why it ended; read after ended is closed
}

// Start starts "binary serve" on dir, with more arguments, and returns once it
// says that it is ready. The words of before, if any, come before the command:
// a tracer, a limiter.
func Start(binary, dir string, before []string, more ...string) (*Broker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	args := append(append(append([]string{}, before...), binary, "serve", "--data", dir, "--native-listen", addr, "--kafka-listen", "", "--amqp-listen", "", "--stomp-listen", "", "--http-listen", ""), more...)
	b := &Broker{URL: "polylog://" + addr, cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{})}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	b.cmd.Stderr = &b.errors
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for b.Ready == "" && lines.Scan() {
		if strings.Contains(lines.Text(), "ready") {
			b.Ready = lines.Text()
		}
	}
	b.Took = time.Since(begin)
	go func() {
		io.Copy(io.Discard, out)
		b.err = b.cmd.Wait()
		close(b.ended)
	}()
	if b.Ready == "" {
		<-b.ended
		return nil, fmt.Errorf("the broker ended before it was ready: %v\n%s", b.err, b.errors.String())
	}
	return b, nil
}

// Kill ends the broker, and what was named before it, as kill -9 does.
func (b *Broker) Kill() {
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) // the group of this child alone
	<-b.ended
}

// Stop asks the broker to end in order, and waits.
func (b *Broker) Stop() error {
	if err := syscall.Kill(-b.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		return err
	}
	return b.Wait(time.Minute)
}

// Wait waits until the broker has ended by itself.
func (b *Broker) Wait(limit time.Duration) error {
	select {
	case <-b.ended:
		return b.err
	case <-time.After(limit):
		return fmt.Errorf("the broker runs on after %s", limit)
	}
}

// Errors is what the broker wrote to its standard error; only once it ended.
func (b *Broker) Errors() string {
	<-b.ended
	return b.errors.String()
}

// Usage is what the broker uses now.
type Usage struct {
	RSSBytes, PeakBytes, AnonymousBytes int64
	Descriptors                         int
	CPUSeconds                          float64
	ReadBytes                           int64 // by system calls, from the page cache or not
}

// Usage reads /proc.
func (b *Broker) Usage() (u Usage, err error) {
	dir := fmt.Sprintf("/proc/%d", b.cmd.Process.Pid)
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		n, _ := strconv.ParseInt(fields[0], 10, 64)
		switch name {
		case "VmRSS":
			u.RSSBytes = n << 10
		case "VmHWM":
			u.PeakBytes = n << 10
		case "RssAnon":
			u.AnonymousBytes = n << 10
		}
	}
	descriptors, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return u, err
	}
	u.Descriptors = len(descriptors)
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	u.CPUSeconds = (user + system) / 100
	counters, err := os.ReadFile(filepath.Join(dir, "io"))
	if err != nil {
		return u, err
	}
	_, err = fmt.Sscanf(string(counters), "rchar: %d", &u.ReadBytes)
	return u, err
}
