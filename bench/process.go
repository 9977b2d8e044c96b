package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a broker that runs as a child process.
type server struct {
	cmd   *exec.Cmd
	addr  string
	debug string // where a Go server serves its profiles; empty: it does not
	log   *os.File
	after func() // ends what the child has left behind; may be nil
}

// child starts a program that is to listen on a free loopback port, and waits
// until the port answers. {addr}, {port} and {dir} are filled in in its
// arguments and environment.
func child(dir string, env []string, name string, args ...string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	fill := strings.NewReplacer("{addr}", addr, "{port}", strconv.Itoa(port), "{dir}", dir)
	for i := range args {
		args[i] = fill.Replace(args[i])
	}
	cmd := exec.Command(name, args...)
	cmd.Env = os.Environ()
	for _, e := range env {
		cmd.Env = append(cmd.Env, fill.Replace(e))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, addr: addr, log: log}
	if err := s.await(time.Minute); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *server) await(limit time.Duration) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			c.Close()
			return nil
		}
	}
	text, _ := os.ReadFile(s.log.Name())
	return fmt.Errorf("no answer on %s after %s:\n%s", s.addr, limit, text)
}

// stop ends the child's process group, which only the child and its own
// children are in.
func (s *server) stop() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	_ = s.cmd.Wait()
	s.log.Close()
	if s.after != nil {
		s.after()
	}
}

// pids are the processes of the child's group: a broker may be a script that
// starts a virtual machine.
func (s *server) pids() []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		if f := statFields(path); len(f) > 4 && f[2] == strconv.Itoa(s.cmd.Process.Pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// statFields are the fields of /proc/PID/stat behind the command's name:
// state, parent, group and so on.
func statFields(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

func (s *server) cpuSeconds() float64 {
	ticks := 0.0
	for _, pid := range s.pids() {
		f := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if len(f) > 12 {
			user, _ := strconv.ParseFloat(f[11], 64)
			system, _ := strconv.ParseFloat(f[12], 64)
			ticks += user + system
		}
	}
	return ticks / 100
}

func (s *server) peakBytes() (sum int64) {
	for _, pid := range s.pids() {
		f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if rest, ok := strings.CutPrefix(sc.Text(), "VmHWM:"); ok {
				kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				sum += kb << 10
			}
		}
		f.Close()
	}
	return sum
}

// mallocs is how many objects a Go server has allocated since its start, as its
// heap profile says; 0 where there is none.
func (s *server) mallocs() uint64 {
	if s.debug == "" {
		return 0
	}
	r, err := http.Get("http://" + s.debug + "/debug/pprof/heap?debug=1")
	if err != nil {
		return 0
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\n# Mallocs = ")
	number, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
	return n
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
