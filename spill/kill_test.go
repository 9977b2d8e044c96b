//go:build unix

package spill_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/spill"
	"github.com/polylog-mq/polylog/wire"
)

// childVariable has what a child process is to do: its address, directory and
// generation.
const childVariable = "POLYLOG_SPILL_CHILD"

func TestMain(m *testing.M) {
	if do := os.Getenv(childVariable); do != "" {
		fmt.Fprintln(os.Stderr, produce(strings.Fields(do)))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// produce sends until it is killed, a few messages at once, and says of each that
// it is safe.
func produce(do []string) error {
	p, err := spill.Open(do[1], do[0], spill.Options{Patience: 2 * time.Millisecond})
	if err != nil {
		return err
	}
	for n := 0; ; {
		safe := make(chan error)
		burst := 1 + rand.IntN(8)
		for i := range burst {
			err := p.SendAsync(context.Background(), spill.Queue("q"), polylog.NewText(fmt.Sprint(do[2], " ", n+i)), func(_ spill.Receipt, err error) { safe <- err })
			if err != nil {
				return err
			}
		}
		for range burst {
			if err := <-safe; err != nil {
				return err
			}
			fmt.Println(do[2], n)
			n++
		}
	}
}

// A producer's process is killed again and again, while the broker comes and goes:
// all that it has called safe arrives, in order.
func TestKill(t *testing.T) {
	const generations = 10
	data, dir, address := t.TempDir(), t.TempDir()+"/made/here", "127.0.0.1:0"
	var server *embed.Server
	start := func() {
		t.Helper()
		var err error
		if server, err = embed.Start(embed.Options{Dir: data, Listen: wire.Config{Address: address}, CloseTimeout: 20 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		address = server.Addr().String()
	}
	stop := func() {
		if server != nil {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			server = nil
		}
	}
	start()
	t.Cleanup(stop)
	rnd := rand.New(rand.NewPCG(5, 6))
	safe := make([]int, generations)
	for g := range generations {
		safe[g] = child(t, "polylog://"+address, dir, g, 100+rnd.IntN(600), func() {
			if server == nil {
				start()
			} else {
				stop()
			}
		})
	}
	stop()
	start()
	p, err := spill.Open(dir, "polylog://"+address, spill.Options{})
	if err != nil {
		t.Fatal(err)
	}
	left := int(p.Pending())
	flush(t, p)
	closed(t, p)
	c, err := polylog.Connect(t.Context(), "polylog://"+address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Session(t.Context(), polylog.IndividualAcknowledge)
	if err != nil {
		t.Fatal(err)
	}
	all := takeAll(t, s, "q")
	next := make([]int, generations)
	seen, generation := map[string]bool{}, 0
	for _, m := range all {
		if seen[m.ID] {
			continue
		}
		seen[m.ID] = true
		var g, n int
		if _, err := fmt.Sscan(m.Text(), &g, &n); err != nil {
			t.Fatal(err)
		}
		if g < generation || n != next[g] {
			t.Fatalf("message %d of generation %d, in generation %d, where %d is next", n, g, generation, next[g])
		}
		generation = g
		next[g]++
	}
	for g := range next {
		if next[g] < safe[g] {
			t.Errorf("generation %d: %d messages arrived, %d were safe", g, next[g], safe[g])
		}
	}
	if left == len(all) {
		t.Error("nothing was sent before the end: this test shows little")
	}
	t.Logf("%d messages, %d of them again; %d were left when the last was killed; safe: %d", len(all), len(all)-len(seen), left, safe)
}

// child runs a producer until so many of its messages are safe, and calls half when
// half of them are. It returns how many it was told of before the end.
func child(t *testing.T, address, dir string, generation, count int, half func()) (safe int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprint(childVariable, "=", address, " ", dir, " ", generation))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if want := fmt.Sprint(generation, " "); !strings.HasPrefix(lines.Text(), want) {
			t.Errorf("generation %d: %s", generation, lines.Text())
		}
		if safe++; safe == count/2+1 {
			half()
		}
		if safe == count+1 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	return safe
}
