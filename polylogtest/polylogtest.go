// Package polylogtest gives a test a broker of its own.
//
//	func TestOrders(t *testing.T) {
//		c := polylogtest.Start(t).Connection
//		s, err := c.Session(t.Context())
//		...
//	}
//
// The broker runs in the test's process, on a directory of the test's, and is
// reached without a network.
package polylogtest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/embed"
)

// Broker is a broker that lasts as long as its test, and a client of it.
type Broker struct {
	// Connection is connected to the broker.
	Connection *polylog.Connection

	t   testing.TB
	dir string

	mu     sync.Mutex // guards server
	server *embed.Server
}

// Start starts a broker on t.TempDir and connects to it. Both are closed when
// the test ends; that either cannot be is the test's failure.
func Start(t testing.TB, opts ...polylog.Option) *Broker {
	t.Helper()
	b := &Broker{t: t, dir: t.TempDir()}
	b.open()
	t.Cleanup(func() {
		if err := b.running().Close(); err != nil {
			t.Errorf("close the broker: %v", err)
		}
	})
	b.Connection = b.Connect(opts...)
	return b
}

func (b *Broker) open() {
	b.t.Helper()
	server, err := embed.Start(embed.Options{Dir: b.dir, CloseTimeout: time.Second})
	if err != nil {
		b.t.Fatalf("start a broker: %v", err)
	}
	b.mu.Lock()
	b.server = server
	b.mu.Unlock()
}

func (b *Broker) running() *embed.Server {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server
}

// Restart closes the broker and starts it again on the same directory.
// Connections break and are made again.
func (b *Broker) Restart() {
	b.t.Helper()
	if err := b.running().Close(); err != nil {
		b.t.Fatalf("close the broker: %v", err)
	}
	b.open()
}

// Connect makes another connection, which is closed when the test ends.
func (b *Broker) Connect(opts ...polylog.Option) *polylog.Connection {
	b.t.Helper()
	c, err := polylog.Connect(b.t.Context(), "polylog://test", append([]polylog.Option{b.Dialer()}, opts...)...)
	if err != nil {
		b.t.Fatalf("connect: %v", err)
	}
	b.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.t.Errorf("close a connection: %v", err)
		}
	})
	return c
}

// Dialer is the option that lets polylog.Connect reach the broker, also after
// a Restart.
func (b *Broker) Dialer() polylog.Option {
	return polylog.WithDialer(func(ctx context.Context) (net.Conn, error) { return b.running().Dial(ctx) })
}

// Session opens a session of Connection, which ends with it.
func (b *Broker) Session(mode ...polylog.Mode) *polylog.Session {
	b.t.Helper()
	s, err := b.Connection.Session(context.WithoutCancel(b.t.Context()), mode...)
	if err != nil {
		b.t.Fatalf("open a session: %v", err)
	}
	return s
}
