// Package memcache has programs with gomemcache and with libmemcached's tools, to which a
// queue is a key, and looks at their messages through the other doors.
package memcache

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/interop/target"
)

func dial(t *testing.T) *memcache.Client {
	t.Helper()
	c := memcache.New(target.Memcache(t))
	c.Timeout = target.Patience
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t *testing.T, c *memcache.Client, queue, body string) {
	t.Helper()
	if err := c.Set(&memcache.Item{Key: queue, Value: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

func take(t *testing.T, c *memcache.Client, queue, want string) *memcache.Item {
	t.Helper()
	got, err := c.Get(queue)
	if err != nil || string(got.Value) != want {
		t.Fatalf("%+v, %v, want %q", got, err, want)
	}
	return got
}

func empty(t *testing.T, c *memcache.Client, queue string) {
	t.Helper()
	if got, err := c.Get(queue); !errors.Is(err, memcache.ErrCacheMiss) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestPutAndTake(t *testing.T) {
	c, q := dial(t), target.Name(t)
	for i := range 300 {
		put(t, c, q, fmt.Sprint(i))
	}
	for i := range 300 {
		take(t, c, q, fmt.Sprint(i))
	}
	empty(t, c, q)
}

func TestFlagsAndLargeValues(t *testing.T) {
	c, q := dial(t), target.Name(t)
	body := bytes.Repeat([]byte("0\r\n\x00"), 240_000)
	if err := c.Set(&memcache.Item{Key: q, Value: body, Flags: 1<<32 - 1}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(q); err != nil || !bytes.Equal(got.Value, body) || got.Flags != 1<<32-1 {
		t.Errorf("%v", err)
	}
	if err := c.Set(&memcache.Item{Key: q, Value: make([]byte, 1<<20+1)}); err == nil {
		t.Error("more than 1 MiB is taken")
	}
	empty(t, c, q)
}

func TestGetMulti(t *testing.T) {
	c, a, b := dial(t), target.Name(t), target.Name(t)
	put(t, c, a, "1")
	put(t, c, b, "2")
	got, err := c.GetMulti([]string{a, b, target.Name(t)})
	if err != nil || len(got) != 2 || string(got[a].Value) != "1" || string(got[b].Value) != "2" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRefusals(t *testing.T) {
	c, q := dial(t), target.Name(t)
	if err := c.Add(&memcache.Item{Key: q, Value: []byte("x")}); err == nil {
		t.Error("add is taken")
	}
	if _, err := c.Increment(q, 1); err == nil {
		t.Error("incr is taken")
	}
	if err := c.Delete(q); !errors.Is(err, memcache.ErrCacheMiss) {
		t.Errorf("delete: %v", err)
	}
	put(t, c, q, "x")
	if err := c.Delete(q); err != nil {
		t.Error(err)
	}
	empty(t, c, q)
	if err := c.Ping(); err != nil {
		t.Error(err)
	}
}

// run runs one of libmemcached's tools.
func run(t *testing.T, args ...string) string {
	t.Helper()
	args = append(args, "--servers="+target.Memcache(t))
	cmd := exec.CommandContext(target.Context(t), args[0], args[1:]...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return string(text)
}

func TestTools(t *testing.T) {
	q := target.Name(t)
	file := filepath.Join(t.TempDir(), q)
	for _, body := range []string{"first", "second", "third"} {
		if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, "memccp", file)
	}
	if got := run(t, "memccat", q); strings.TrimSpace(got) != "first" {
		t.Errorf("%q", got)
	}
	if got := run(t, "memccat", q); strings.TrimSpace(got) != "second" {
		t.Errorf("%q", got)
	}
	run(t, "memcping")
	if got := run(t, "memcstat"); !strings.Contains(got, "curr_connections") {
		t.Errorf("%q", got)
	}
	run(t, "memcrm", q)
	empty(t, dial(t), q)
}

// What memcached's clients put is seen by polylog's own client and by Kafka's, and the
// reverse.
func TestOtherDoors(t *testing.T) {
	c, name, ctx := dial(t), target.Topic(t, 1), target.Context(t)
	put(t, c, name, "by set")
	r := target.Client(t, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())).PollFetches(ctx).Records()
	if len(r) != 1 || string(r[0].Value) != "by set" {
		t.Fatalf("%+v", r)
	}
	conn, err := polylog.Connect(ctx, "polylog://"+target.Native(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := conn.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		t.Fatal(err)
	}
	q := polylog.QueueOf[*polylog.Message](s, name)
	d, err := q.Take(ctx)
	if err != nil || string(d.Message().Body) != "by set" || d.Message().Kind != polylog.BodyBytes {
		t.Fatalf("%+v, %v", d, err)
	}
	if err := d.Ack(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Put(ctx, polylog.NewText("from Go")); err != nil {
		t.Fatal(err)
	}
	take(t, c, name, "from Go")
	empty(t, c, name)
}

func TestStatsQueue(t *testing.T) {
	c, q := dial(t), target.Name(t)
	put(t, c, q, "x")
	put(t, c, q, "y")
	take(t, c, q, "x")
	want := "STAT " + q + " 2/1\r\n"
	got := stats(t)
	for until := time.Now().Add(target.Patience); !strings.Contains(got, want); got = stats(t) { // a get is acknowledged after its answer
		if time.Now().After(until) {
			t.Fatalf("%q", got)
		}
	}
}

func stats(t *testing.T) string {
	t.Helper()
	conn, err := net.Dial("tcp", target.Memcache(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "stats queue\r\nquit\r\n")
	var text bytes.Buffer
	if _, err := text.ReadFrom(conn); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
