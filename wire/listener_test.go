package wire_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// echo is a protocol that answers what it reads; the first byte authenticates.
type echo struct {
	open    atomic.Int32
	refused atomic.Int32
	drained chan struct{}
}

func (e *echo) Serve(conn net.Conn, t *wire.Ticket) {
	e.open.Add(1)
	defer e.open.Add(-1)
	b := make([]byte, 1)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
		t.Authenticated()
		conn.Write(b)
	}
}

func (e *echo) Refuse(conn net.Conn, why error) {
	e.refused.Add(1)
	conn.Write([]byte("no"))
}

func (e *echo) Drain(ctx context.Context) {
	if e.drained != nil {
		close(e.drained)
	}
	<-ctx.Done()
}

func TestBindRules(t *testing.T) {
	secure := &tls.Config{}
	for _, c := range []struct {
		config wire.Config
		ok     bool
	}{
		{wire.Config{Address: "127.0.0.1:7400"}, true},
		{wire.Config{Address: "[::1]:7400"}, true},
		{wire.Config{Address: "localhost:7400"}, true},
		{wire.Config{Address: ":7400"}, true}, // loopback, see Config.Address
		{wire.Config{Address: "0.0.0.0:7400"}, false},
		{wire.Config{Address: "[::]:7400"}, false},
		{wire.Config{Address: "10.0.0.1:7400"}, false},
		{wire.Config{Address: "example.org:7400"}, false},
		{wire.Config{Address: "0.0.0.0:7400", TLS: secure}, false},
		{wire.Config{Address: "0.0.0.0:7400", Authenticated: true}, false},
		{wire.Config{Address: "0.0.0.0:7400", TLS: secure, Authenticated: true}, true},
		{wire.Config{Address: "0.0.0.0:7400", Insecure: true}, true},
	} {
		err := c.config.Check()
		if (err == nil) != c.ok || err != nil && !errors.Is(err, wire.ErrInsecure) {
			t.Errorf("%+v: %v", c.config, err)
		}
	}
	if err := (wire.Config{Address: "7400"}).Check(); err == nil || errors.Is(err, wire.ErrInsecure) {
		t.Errorf("an address without a port: %v", err)
	}
}

func TestEmptyHostIsLoopback(t *testing.T) {
	l, err := wire.Listen(wire.Config{Address: ":0"}, wire.NewGuard(wire.Limits{}), &echo{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
		t.Errorf("listens on %v", ip)
	}
}

func dial(t *testing.T, l *wire.Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

// ping reports whether conn is served.
func ping(conn net.Conn) bool {
	conn.Write([]byte{1})
	b := make([]byte, 2)
	n, err := conn.Read(b)
	return err == nil && n == 1 && b[0] == 1
}

func TestLimitsOnConnections(t *testing.T) {
	for name, limits := range map[string]wire.Limits{
		"total":       {Connections: 2},
		"per address": {PerAddress: 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := &echo{}
			g := wire.NewGuard(limits)
			l, err := wire.Listen(wire.Config{Address: "127.0.0.1:0"}, g, p, quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			first := dial(t, l)
			if !ping(first) || !ping(dial(t, l)) {
				t.Fatal("the permitted ones are not served")
			}
			if ping(dial(t, l)) || p.refused.Load() != 1 {
				t.Fatal("one too many is served, or was told nothing")
			}
			first.Close()
			for deadline := time.Now().Add(5 * time.Second); g.Open() == 2 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			if !ping(dial(t, l)) {
				t.Error("a place that came free is not given")
			}
		})
	}
}

// Those who have not proved who they are have fewer places, and hold them only
// until they have.
func TestLimitOnStrangers(t *testing.T) {
	l, err := wire.Listen(wire.Config{Address: "127.0.0.1:0"}, wire.NewGuard(wire.Limits{Handshaking: 2}), &echo{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 5 {
		if !ping(dial(t, l)) {
			t.Fatal("one that proves who it is is not served")
		}
	}
	dial(t, l) // two that say nothing
	dial(t, l)
	if ping(dial(t, l)) {
		t.Error("a third stranger is served")
	}
}

func TestDrainIsBounded(t *testing.T) {
	p := &echo{drained: make(chan struct{})}
	l, err := wire.Listen(wire.Config{Address: "127.0.0.1:0"}, wire.NewGuard(wire.Limits{}), p, quiet)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, l)
	if !ping(conn) {
		t.Fatal("not served")
	}
	near, far := wire.Pipe()
	l.ServeConn(far)
	if !ping(near) {
		t.Fatal("the pipe is not served")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	done := make(chan struct{})
	go func() { l.Drain(ctx); close(done) }()
	<-p.drained
	if !ping(conn) {
		t.Error("closed before the time was up")
	}
	<-done
	if p.open.Load() != 0 || ping(conn) || ping(near) {
		t.Error("still open after the drain")
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("still listening")
	}
	late, end := wire.Pipe()
	l.ServeConn(end)
	if ping(late) {
		t.Error("a connection after the drain is served")
	}
}

// A peer that begins TLS and then says nothing is let go in time.
func TestTLSHandshakeIsBounded(t *testing.T) {
	p := &echo{}
	l, err := wire.Listen(wire.Config{Address: "127.0.0.1:0", TLS: &tls.Config{}},
		wire.NewGuard(wire.Limits{Handshake: 50 * time.Millisecond}), p, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn := dial(t, l)
	conn.Write([]byte{0x16, 3, 1, 0, 200})
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, io.EOF) {
		var reset *net.OpError
		if !errors.As(err, &reset) || reset.Timeout() {
			t.Errorf("the connection was not closed: %v", err)
		}
	}
	if p.open.Load() != 0 {
		t.Error("served without TLS")
	}
}

func BenchmarkPipe(b *testing.B) {
	near, far := wire.Pipe()
	go io.Copy(io.Discard, far)
	defer near.Close()
	frame := make([]byte, 1024)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		near.Write(frame)
	}
}
