package stomp

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

// Server serves STOMP from one broker. It implements wire.Protocol.
type Server struct {
	broker  session.Broker
	options Options
	started time.Time

	mu          sync.Mutex // guards what follows
	connections map[*connection]struct{}
	draining    bool
}

// New returns a Server of b.
func New(b session.Broker, o Options) *Server {
	return &Server{broker: b, options: o.withDefaults(), started: time.Now(), connections: map[*connection]struct{}{}}
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
	s.connections[c] = struct{}{}
	draining := s.draining
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.connections, c)
	}()
	if draining {
		c.cancel(session.ErrShuttingDown)
		s.Refuse(conn, session.ErrShuttingDown)
		return
	}
	c.run(t)
}

// Refuse implements wire.Protocol. What it writes fits an empty socket's buffer, so the
// deadline is for a peer that is not what it seems.
func (s *Server) Refuse(conn net.Conn, why error) {
	_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = conn.Write(frame.Append(nil, frame.V10, errorFrame(why))) // the connection is closed next, whatever this says
}

// drainQuiet is how long a draining connection must have been quiet, with nothing of
// its under way, before it is closed.
const drainQuiet = 200 * time.Millisecond

// Drain implements wire.Protocol. STOMP has no word for a broker that is about to go,
// so subscriptions get nothing more, what is under way is answered, and a connection
// that has been quiet for drainQuiet is closed with an ERROR. It returns when all have
// ended, or ctx has.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	all := make([]*connection, 0, len(s.connections))
	for c := range s.connections {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.drain()
	}
	tick := time.NewTicker(drainQuiet / 4)
	defer tick.Stop()
	for s.Connections() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, c := range all {
				c.closeIfQuiet(drainQuiet)
			}
		}
	}
}
