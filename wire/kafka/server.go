package kafka

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
)

// Options of a Server. All may be left out.
type Options struct {
	// NodeID is the broker.id that clients see. Default 1.
	NodeID int32
	// AdvertisedHost and AdvertisedPort are where clients are told to find the
	// broker. By default it is where the asking client has found it.
	AdvertisedHost string
	AdvertisedPort int32
	// MaxRequestBytes bounds one request; default 100 MiB, as in Kafka.
	MaxRequestBytes int
	// Authenticate says who user is, or refuses. Nil: everybody may come, as nobody in
	// particular.
	Authenticate session.Authenticate
	// SCRAM begins an exchange of it; nil: it is not offered.
	SCRAM  session.BeginSCRAM
	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default slog.Default
}

func (o Options) withDefaults() Options {
	if o.NodeID == 0 {
		o.NodeID = 1
	}
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = 100 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Server serves Kafka's protocol from one broker. It implements wire.Protocol.
type Server struct {
	broker  *broker.Broker
	options Options
	shares  shareSessions
	fetches fetchSessions

	mu          sync.Mutex // guards what follows
	connections map[*connection]struct{}
	draining    bool
}

var _ wire.Protocol = (*Server)(nil)

// New returns a Server of b.
func New(b *broker.Broker, o Options) *Server {
	return &Server{broker: b, options: o.withDefaults(), connections: map[*connection]struct{}{}}
}

// Connections returns how many are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections)
}

// Serve implements wire.Protocol.
func (s *Server) Serve(conn net.Conn, t *wire.Ticket) {
	c := newConnection(s, conn)
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return
	}
	s.connections[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.connections, c)
	}()
	c.run(t)
}

// Refuse implements wire.Protocol. The protocol has no word for it: clients
// see a closed connection and try again.
func (s *Server) Refuse(net.Conn, error) {}

// Drain implements wire.Protocol. Every connection answers what it has read
// and is closed: clients find the broker again, or another one.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	for c := range s.connections {
		c.drain()
	}
	s.mu.Unlock()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.Connections() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
