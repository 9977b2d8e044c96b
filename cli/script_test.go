package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts run this program as people do: a broker in the background, and
// clients that talk to it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			address, err := freeAddress()
			env.Setenv("LISTEN", address)
			env.Setenv("POLYLOG_URL", "polylog://"+address)
			env.Setenv("POLYLOG_CONFIG", "")
			env.Setenv("POLYLOG_KAFKA_LISTEN", "") // one address cannot serve all scripts
			env.Setenv("POLYLOG_AMQP_LISTEN", "")
			env.Setenv("POLYLOG_STOMP_LISTEN", "")
			env.Setenv("POLYLOG_HTTP_LISTEN", "")
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await, "exits": exits, "signal": signalTo, "flip": flip,
		},
		RequireExplicitExec: true,
	})
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// await waits until the file holds the word.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: await FILE WORD")
	}
	for range 2000 {
		if text, _ := os.ReadFile(ts.MkAbs(args[0])); strings.Contains(string(text), args[1]) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	text, _ := os.ReadFile(ts.MkAbs(args[0]))
	ts.Fatalf("%s never came:\n%s", args[1], text)
}

// exits runs a program and wants this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENT...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// signalTo sends a signal to the process whose number is in a file.
func signalTo(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}
	if len(args) != 2 || neg {
		ts.Fatalf("usage: signal TERM|INT|KILL FILE")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, signals[args[0]]))
}

// flip inverts a byte of the only file that matches the pattern.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: flip PATTERN POSITION")
	}
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(names) != 1 {
		ts.Fatalf("%s matches %v", args[0], names)
	}
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	data, err := os.ReadFile(names[0])
	ts.Check(err)
	if at >= len(data) {
		ts.Fatalf("%s has %d bytes", names[0], len(data))
	}
	data[at] ^= 0xff
	ts.Check(os.WriteFile(names[0], data, 0o600))
	fmt.Fprintf(ts.Stdout(), "%s\n", names[0])
}
