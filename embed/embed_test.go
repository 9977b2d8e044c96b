package embed_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
	"github.com/polylog-mq/polylog/wire/native/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client asks in raw frames.
type client struct {
	t       *testing.T
	conn    net.Conn
	encoder *native.Encoder
	decoder *native.Decoder
	reader  *native.Reader
}

func connect(t *testing.T, conn net.Conn, err error, hello native.Hello) *client {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &client{t: t, conn: conn, encoder: native.NewEncoder(), decoder: native.NewDecoder(), reader: native.NewReader(conn, 16<<20)}
	hello.Version = native.Version
	c.send(&hello, nil)
	c.want(&native.Welcome{})
	c.send(&native.OpenSession{Request: 1, Session: 1}, nil)
	c.want(&native.OK{})
	return c
}

func dial(t *testing.T, s *embed.Server) *client {
	t.Helper()
	conn, err := s.Dial(context.Background())
	return connect(t, conn, err, native.Hello{})
}

func (c *client) send(f native.Frame, payload []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(c.encoder.Append(nil, f, payload)); err != nil {
		c.t.Fatal(err)
	}
}

// want reads the next frame but Pings into f.
func (c *client) want(f native.Frame) []byte {
	c.t.Helper()
	for {
		typ, body, err := c.reader.Next()
		if err != nil {
			c.t.Fatalf("expected %s: %v", f.Type(), err)
		}
		if typ == native.TypePing {
			continue
		}
		if typ != f.Type() {
			fail := &native.Fail{}
			if typ == native.TypeFail {
				c.decoder.Decode(body, fail)
			}
			c.t.Fatalf("expected %s, got %s %s", f.Type(), typ, fail.Error.Message)
		}
		payload, err := c.decoder.Decode(body, f)
		if err != nil {
			c.t.Fatal(err)
		}
		return append([]byte(nil), payload...)
	}
}

func (c *client) put(queue, value string) {
	c.t.Helper()
	c.send(&native.Resolve{Request: 2, Name: queue, Kind: native.KindQueue}, nil)
	ok := &native.OK{}
	c.want(ok)
	to, err := native.DecodeResolved(ok.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	w := &record.Builder{}
	w.Reset()
	w.Append(time.Now().UnixMilli(), nil, []byte(value), nil)
	c.send(&native.Send{Request: 3, Session: 1, Handle: to.Handle}, w.Batch())
	c.want(&native.Confirm{})
}

func (c *client) take(queue string) (native.Deliver, string) {
	c.t.Helper()
	c.send(&native.Subscribe{Request: 4, Session: 1, Consumer: 1, Destination: queue, DestinationKind: native.KindQueue, Credit: 1}, nil)
	c.want(&native.OK{})
	f := native.Deliver{}
	payload := c.want(&f)
	r := &record.Reader{}
	if err := r.Reset(payload, 1<<20); err != nil || !r.Next() {
		c.t.Fatal(err, r.Err())
	}
	value := string(r.Record().Value)
	c.send(&native.Settle{Request: 5, Consumer: 1, Spans: []native.Span{{Partition: f.Partition, Offset: r.Record().Offset, Acquisition: f.FirstAcquisition, Count: 1}}}, nil)
	c.want(&native.OK{})
	return f, value
}

// What was confirmed is there after a restart, what was acknowledged is not
// (S1, Q3).
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []string{"first", "second"} {
		s, err := embed.Start(embed.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, s)
		if i == 0 {
			c.put("q", "first")
			c.put("q", "second")
		}
		if _, got := c.take("q"); got != want {
			t.Errorf("start %d: took %q, not %q", i, got, want)
		}
		c.conn.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("closed again: %v", err)
		}
	}
}

func TestOnTheNetwork(t *testing.T) {
	s, err := embed.Start(embed.Options{Listen: wire.Config{Address: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.Addr().String())
	far := connect(t, conn, err, native.Hello{})
	far.put("q", "across")
	if _, got := dial(t, s).take("q"); got != "across" {
		t.Errorf("took %q", got)
	}
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Close took %v", took)
	}
	if conn, err := s.Dial(context.Background()); err == nil {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("served after Close")
		}
	}
}

// The door to a network stays shut without TLS and authentication, unless it
// is meant; nothing is left behind.
func TestInsecureIsRefused(t *testing.T) {
	dir := t.TempDir()
	open := wire.Config{Address: "0.0.0.0:0"}
	if _, err := embed.Start(embed.Options{Dir: dir, Listen: open}); !errors.Is(err, wire.ErrInsecure) {
		t.Errorf("%v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("%v", entries)
	}
	open.Insecure = true
	s, err := embed.Start(embed.Options{Dir: dir, Listen: open})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// A temporary data directory goes with the server, and two servers never share
// one.
func TestDataDirectory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := embed.Start(embed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(os.Getenv("TMPDIR")); len(entries) != 1 {
		t.Errorf("%v", entries)
	}
	s.Close()
	if entries, _ := os.ReadDir(os.Getenv("TMPDIR")); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	dir := t.TempDir()
	if s, err = embed.Start(embed.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if second, err := embed.Start(embed.Options{Dir: dir}); err == nil {
		second.Close()
		t.Error("two servers on one directory")
	}
}

func TestClientID(t *testing.T) {
	s, err := embed.Start(embed.Options{Native: server.Options{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn, err := s.Dial(context.Background())
	c := connect(t, conn, err, native.Hello{ClientID: "shop"})
	c.send(&native.Admin{Request: 9, Verb: native.VerbBrokerStats}, nil)
	ok, stats := &native.OK{}, native.BrokerStats{}
	c.want(ok)
	if err := native.UnmarshalBody(ok.Body, &stats); err != nil || stats.Connections != 1 || stats.Version != "embedded" {
		t.Errorf("%+v, %v", stats, err)
	}
}
