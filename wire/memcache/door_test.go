package memcache_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/memcache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is a broker that is reached by memcached's protocol alone.
type door struct {
	t        testing.TB
	broker   *broker.Broker
	listener *wire.Listener
}

func open(t testing.TB, o memcache.Options) *door {
	t.Helper()
	silent := slog.New(slog.DiscardHandler)
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	o.Logger, o.Version = silent, "1.2.3"
	l, err := wire.Listen(wire.Config{}, wire.NewGuard(wire.Limits{}), memcache.New(b, o), silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &door{t, b, l}
}

type client struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func (d *door) dial() *client {
	near, far := wire.Pipe()
	d.listener.ServeConn(far)
	d.t.Cleanup(func() { near.Close() })
	_ = near.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{d.t, near, bufio.NewReader(near)}
}

// do writes text, and expects the answer.
func (c *client) do(text, answer string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
	got := make([]byte, len(answer))
	n, err := io.ReadFull(c.in, got)
	if string(got[:n]) != answer {
		c.t.Fatalf("%.60q: %q, %v, want %q", text, got[:n], err, answer)
	}
}

func (c *client) line() string {
	c.t.Helper()
	text, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSuffix(text, "\r\n")
}

func (c *client) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Fatalf("the connection does not end: %q, %v", rest, err)
	}
}

func TestSetAndGet(t *testing.T) {
	c := open(t, memcache.Options{}).dial()
	c.do("get q\r\n", "END\r\n")
	c.do("set q 5 0 5\r\nhello\r\nset q 0 0 2\r\n\r\n\r\nset q 0 0 0\r\n\r\n", "STORED\r\nSTORED\r\nSTORED\r\n")
	c.do("get q\r\n", "VALUE q 5 5\r\nhello\r\nEND\r\n")
	c.do("gets q\r\n", "VALUE q 0 2 2\r\n\r\n\r\nEND\r\n")
	c.do("get q\nget q\n", "VALUE q 0 0\r\n\r\nEND\r\nEND\r\n")
}

func TestMultiGet(t *testing.T) {
	c := open(t, memcache.Options{}).dial()
	c.do("set a 0 0 1 noreply\r\n1\r\nset b 0 0 1\r\n2\r\nset a 0 0 1\r\n3\r\n", "STORED\r\nSTORED\r\n")
	c.do("get a none b a a\r\n", "VALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nVALUE a 0 1\r\n3\r\nEND\r\n")
}

// What was sent ahead is done in order, and is on disk before its answers.
func TestPipelined(t *testing.T) {
	c := open(t, memcache.Options{}).dial()
	var ask, answer strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&ask, "set q 0 0 4\r\n%04d\r\n", i)
		answer.WriteString("STORED\r\n")
	}
	for i := range 3000 {
		ask.WriteString("get q\r\n")
		fmt.Fprintf(&answer, "VALUE q 0 4\r\n%04d\r\nEND\r\n", i)
	}
	go func() { _, _ = io.WriteString(c.conn, ask.String()) }()
	c.do("", answer.String())
}

// A get acknowledges once it has been written; what could not be comes again.
func TestGetIsAcknowledged(t *testing.T) {
	d := open(t, memcache.Options{})
	c := d.dial()
	c.do("set q 0 0 1\r\na\r\nset q 0 0 1\r\nb\r\n", "STORED\r\nSTORED\r\n")
	c.do("get q\r\n", "VALUE q 0 1\r\na\r\nEND\r\n")
	c.conn.Close()
	d.dial().do("get q\r\n", "VALUE q 0 1\r\nb\r\nEND\r\n")
}

func TestExpires(t *testing.T) {
	c := open(t, memcache.Options{}).dial()
	c.do("set q 0 -1 1\r\na\r\nset q 0 2592000 1\r\nb\r\nset q 0 4102444800 1\r\nc\r\n", "STORED\r\nSTORED\r\nSTORED\r\n")
	c.do("get q q\r\n", "VALUE q 0 1\r\nb\r\nVALUE q 0 1\r\nc\r\nEND\r\n")
}

func TestStatsAndDelete(t *testing.T) {
	c := open(t, memcache.Options{}).dial()
	c.do("delete q\r\n", "NOT_FOUND\r\n")
	c.do("set q 0 0 1\r\na\r\nset q 0 0 1\r\nb\r\nset other 0 0 1\r\nb\r\nget q\r\n", "STORED\r\nSTORED\r\nSTORED\r\nVALUE q 0 1\r\na\r\nEND\r\n")
	c.do("stats queue\r\n", "STAT other 1/0\r\nSTAT q 2/1\r\nEND\r\n")
	c.do("delete q\r\nget q\r\n", "DELETED\r\nEND\r\n")
	c.do("stats queue\r\nstats items\r\n", "STAT other 1/0\r\nSTAT q 2/2\r\nEND\r\nEND\r\n")
	c.do("stats\r\n", "STAT pid ")
	for line := c.line(); line != "END"; line = c.line() {
		if !strings.HasPrefix(line, "STAT ") && !strings.Contains("0123456789", line[:1]) {
			t.Errorf("%q", line)
		}
	}
	c.do("version\r\nverbosity 1\r\n", "VERSION 1.4.0-polylog-1.2.3\r\nOK\r\n")
}

func TestRefusals(t *testing.T) {
	d := open(t, memcache.Options{})
	if _, err := d.broker.CreateDestination(t.Context(), "news", destination.KindTopic, nil); err != nil {
		t.Fatal(err)
	}
	c := d.dial()
	long := strings.Repeat("k", 251)
	for text, want := range map[string]string{
		"nonsense\r\n":                        "ERROR",
		"\r\n":                                "ERROR",
		"get\r\n":                             "ERROR",
		"get " + long + "\r\n":                "CLIENT_ERROR bad command line format",
		"set q x 0 1\r\na\r\n":                "CLIENT_ERROR bad command line format",
		"set " + long + " 0 0 1\r\na\r\n":     "CLIENT_ERROR bad command line format",
		"add q 0 0 1\r\na\r\n":                "SERVER_ERROR a queue cannot do that",
		"cas q 0 0 1 7\r\na\r\n":              "SERVER_ERROR a queue cannot do that",
		"incr q 1\r\n":                        "SERVER_ERROR a queue cannot do that",
		"flush_all\r\n":                       "SERVER_ERROR a queue cannot do that",
		"set __delivery_state 0 0 1\r\na\r\n": "CLIENT_ERROR ",
		"set q 0 0 1048577\r\n" + strings.Repeat("x", 1<<20+1) + "\r\n": "SERVER_ERROR object too large for cache",
		"set news 0 0 1\r\na\r\n": "CLIENT_ERROR ",
		"get news\r\n":            "CLIENT_ERROR ",
	} {
		if _, err := io.WriteString(c.conn, text); err != nil {
			t.Fatalf("%.40q: %v", text, err)
		}
		if got := c.line(); !strings.HasPrefix(got, want) {
			t.Errorf("%.40q: %q, want %q", text, got, want)
		}
	}
	c.do("set q 0 0 1\r\na\r\n", "STORED\r\n") // it goes on
	c.do("set q 0 0 1\r\nabc\r\n", "CLIENT_ERROR bad data chunk\r\n")
	c.ended() // where the next command begins is not known
	c = d.dial()
	c.do("get "+strings.Repeat("k ", 20_000)+"\r\n", "CLIENT_ERROR bad command line format\r\n")
	c.ended()
	c = d.dial()
	c.do("\x80\x0a\x00\x00", "")
	c.ended()
	for _, text := range []string{"set q 0 0\r\n", "set q 0 0 -1\r\n"} {
		c = d.dial()
		c.do(text, "CLIENT_ERROR bad command line format\r\n")
		c.ended()
	}
	c = d.dial()
	c.do("quit\r\n", "")
	c.ended()
}

// A queue that is full and lets its senders wait holds up one connection, for as long
// as it may.
func TestFullQueue(t *testing.T) {
	d := open(t, memcache.Options{FullTimeout: 200 * time.Millisecond})
	if _, err := d.broker.CreateDestination(t.Context(), "q", destination.KindQueue, map[string]string{"max.length": "1", "overflow": "block"}); err != nil {
		t.Fatal(err)
	}
	c := d.dial()
	c.do("set q 0 0 1\r\na\r\n", "STORED\r\n")
	c.do("set q 0 0 1\r\nb\r\n", "SERVER_ERROR ")
	c.line()
	d.dial().do("get q\r\n", "VALUE q 0 1\r\na\r\nEND\r\n")
}

func TestAuthentication(t *testing.T) {
	d := open(t, memcache.Options{Authenticate: func(user, password string) (string, error) {
		if user != "u" || password != "p" {
			return "", errors.New("no")
		}
		return user, nil
	}})
	c := d.dial()
	c.do("version\r\nset any 0 0 3\r\nu p\r\n", "VERSION 1.4.0-polylog-1.2.3\r\nSTORED\r\n")
	c.do("get any\r\n", "END\r\n")
	c = d.dial()
	c.do("set any 0 0 3\r\nu q\r\n", "CLIENT_ERROR authentication failure\r\n")
	c.ended()
	c = d.dial()
	c.do("get any\r\n", "CLIENT_ERROR unauthenticated\r\n")
	c.ended()
}

func TestDrain(t *testing.T) {
	d := open(t, memcache.Options{})
	c := d.dial()
	c.do("set q 0 0 1\r\na\r\n", "STORED\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	d.listener.Drain(ctx)
	c.ended()
	if ctx.Err() != nil {
		t.Error("it took its time")
	}
}

// FuzzPeer has a peer send whatever it likes: the door stays open for others.
func FuzzPeer(f *testing.F) {
	f.Add("set q 0 0 1\r\na\r\nget q\r\n")
	f.Add("set q 0 0 99\r\na\r\n")
	f.Add("get a b c\r\ndelete a\r\nstats queue\r\nquit\r\n")
	d := open(f, memcache.Options{})
	honest := d.dial()
	f.Fuzz(func(t *testing.T, text string) {
		near, far := wire.Pipe()
		d.listener.ServeConn(far)
		_ = near.SetDeadline(time.Now().Add(20 * time.Second))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, near)
		}()
		_, _ = io.WriteString(near, text) // it may have been cut off
		near.Close()
		<-done
		honest.t = t
		_ = honest.conn.SetDeadline(time.Now().Add(20 * time.Second))
		honest.do("set honest 0 0 1\r\na\r\n", "STORED\r\n")
	})
}
