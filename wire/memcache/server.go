package memcache

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
)

// Options of a Server. Zero fields take their defaults.
type Options struct {
	// Version is what the broker says it is.
	Version string
	// Logger gets what operators may want to know of connections.
	Logger *slog.Logger
	// Authenticate says who user is, or refuses: the first command must then be a
	// set, of any key, whose value is "user password" (memcached's protocol.txt).
	// Nil: everybody may come.
	Authenticate session.Authenticate
	// MaxQueues bounds the queues that a connection remembers to take from. Default
	// 256.
	MaxQueues int
	// WriteTimeout is how long a peer may read nothing while there is something to
	// read. Default 30 s.
	WriteTimeout time.Duration
	// FullTimeout is how long a set waits for room in a queue that is full, where that
	// queue lets its senders wait. Default 30 s.
	FullTimeout time.Duration
}

// Server serves memcached's protocol from one broker. It implements wire.Protocol.
type Server struct {
	broker  session.Broker
	options Options
	started time.Time

	mu          sync.Mutex // guards what follows
	connections map[*connection]struct{}
	draining    bool
}

// protocolVersion is the memcached whose text protocol this is: clients take nothing but
// three numbers for a version, and 0 for none.
const protocolVersion = "1.4.0"

// New returns a Server of b.
func New(b session.Broker, o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Version == "" {
		o.Version = "unknown"
	}
	if o.MaxQueues == 0 {
		o.MaxQueues = 256
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 30 * time.Second
	}
	if o.FullTimeout == 0 {
		o.FullTimeout = 30 * time.Second
	}
	o.Version = protocolVersion + "-polylog-" + strings.ReplaceAll(o.Version, " ", "-")
	return &Server{broker: b, options: o, started: time.Now(), connections: map[*connection]struct{}{}}
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
	draining := s.draining
	s.connections[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.connections, c)
	}()
	if draining {
		s.Refuse(conn, session.ErrShuttingDown)
		return
	}
	c.run(t)
}

// Refuse implements wire.Protocol.
func (s *Server) Refuse(conn net.Conn, why error) {
	_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = conn.Write(append(appendError(nil, why), "\r\n"...)) // the connection is closed next, whatever this says
}

// Drain implements wire.Protocol: what has come is answered, and connections end. It
// returns when all have, or ctx has.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	for c := range s.connections {
		c.leave()
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
