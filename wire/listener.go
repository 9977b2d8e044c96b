package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Protocol serves connections. Its methods are called from many goroutines.
type Protocol interface {
	// Serve serves one connection until it ends. The listener closes conn
	// when Serve has returned, and also while it runs if a drain takes too
	// long; Serve must then return soon.
	Serve(conn net.Conn, t *Ticket)
	// Refuse tells a peer that is over a limit so, if that does not block.
	Refuse(conn net.Conn, why error)
	// Drain tells every peer that the broker takes nothing new, and returns
	// when all connections have ended, or ctx has.
	Drain(ctx context.Context)
}

// Listener accepts connections for one protocol. It owns the accept loop and
// a goroutine for each connection; Close and Drain wait for all of them.
type Listener struct {
	net      net.Listener // nil if only connections within the process are served
	tls      *tls.Config
	guard    *Guard
	protocol Protocol
	logger   *slog.Logger
	served   sync.WaitGroup // the accept loop and every connection

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	closed bool
}

// Listen opens c.Address and serves p on it. With an empty address it listens
// nowhere, and serves what is handed to ServeConn.
func Listen(c Config, g *Guard, p Protocol, logger *slog.Logger) (*Listener, error) {
	l := &Listener{tls: c.tlsConfig(), guard: g, protocol: p, logger: logger, conns: map[net.Conn]struct{}{}}
	if c.Address == "" {
		return l, nil
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	var err error
	if l.net, err = net.Listen("tcp", c.listenAddress()); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", c.Address, err)
	}
	l.served.Add(1)
	go l.accept()
	return l, nil
}

// Addr is where it listens; nil if nowhere.
func (l *Listener) Addr() net.Addr {
	if l.net == nil {
		return nil
	}
	return l.net.Addr()
}

// accept runs until the listener closes. Running out of descriptors is no
// reason to stop: it waits, up to a second, for some to come back.
func (l *Listener) accept() {
	defer l.served.Done()
	const shortest, longest = 5 * time.Millisecond, time.Second
	wait := shortest
	for {
		conn, err := l.net.Accept()
		switch {
		case err == nil:
			wait = shortest
			l.serve(conn, l.tls)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			l.logger.Warn("accept failed", "address", l.net.Addr(), "error", err, "retry", wait)
			time.Sleep(wait)
			wait = min(2*wait, longest)
		}
	}
}

// ServeConn serves a connection that did not come through the network, such
// as one end of a Pipe, without TLS. It returns at once.
func (l *Listener) ServeConn(conn net.Conn) { l.serve(conn, nil) }

func (l *Listener) serve(conn net.Conn, secure *tls.Config) {
	ticket, err := l.guard.admit(conn.RemoteAddr())
	if err != nil {
		if secure == nil {
			l.protocol.Refuse(conn, err)
		}
		l.logger.Debug("connection refused", "peer", conn.RemoteAddr(), "error", err)
		conn.Close()
		return
	}
	if !l.add(conn) {
		ticket.release()
		conn.Close()
		return
	}
	go func() {
		defer l.served.Done()
		defer ticket.release()
		defer l.remove(conn)
		defer conn.Close()
		if secured, err := handshake(conn, secure, ticket.HandshakeTimeout()); err != nil {
			l.logger.Debug("TLS handshake failed", "peer", conn.RemoteAddr(), "error", err)
		} else {
			l.protocol.Serve(secured, ticket)
		}
	}()
}

// handshake bounds the TLS handshake by time; its messages are bounded by
// crypto/tls to 64 KiB.
func handshake(conn net.Conn, secure *tls.Config, timeout time.Duration) (net.Conn, error) {
	if secure == nil {
		return conn, nil
	}
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	secured := tls.Server(conn, secure)
	return secured, secured.HandshakeContext(ctx)
}

func (l *Listener) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.conns[conn] = struct{}{}
	l.served.Add(1)
	return true
}

func (l *Listener) remove(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// Drain accepts nothing more, has the protocol ask its peers to go, and closes
// those that have not gone when ctx ends. It returns when all have ended.
func (l *Listener) Drain(ctx context.Context) {
	l.stop()
	l.protocol.Drain(ctx)
	l.Close()
}

// Close accepts nothing more, closes every connection, and waits for them to
// end. It may be called again.
func (l *Listener) Close() {
	l.stop()
	l.mu.Lock()
	for conn := range l.conns {
		conn.Close()
	}
	l.mu.Unlock()
	l.served.Wait()
}

func (l *Listener) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.net != nil {
		l.net.Close()
	}
}
