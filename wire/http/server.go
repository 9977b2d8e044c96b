package http

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
)

// What a peer may take, and have.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 90 * time.Second
	maxHeaderBytes = 32 << 10
	// slowest is what a body must come with at least, in bytes per second, after
	// headerTimeout.
	slowest = 16 << 10
)

// Server serves HTTP from one broker. It implements wire.Protocol.
type Server struct {
	broker   session.Broker
	options  Options
	http     http.Server
	incoming *incoming
	leases   leases
	draining chan struct{} // closed when the broker drains: who waits is answered

	open  atomic.Int64
	drain sync.Once
	ended sync.WaitGroup // of http
}

// New returns a Server of b.
func New(b session.Broker, o Options) *Server {
	s := &Server{broker: b, options: o.withDefaults(), draining: make(chan struct{}), incoming: &incoming{conns: make(chan net.Conn), closed: make(chan struct{})}}
	s.leases.init(s.options.MaxLeases)
	s.http = http.Server{
		Handler: s.handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c.(*peer))
		},
	}
	s.ended.Go(func() { _ = s.http.Serve(s.incoming) }) // it ends with http.ErrServerClosed
	return s
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/queues/{name}/messages", s.asked(s.put))
	mux.HandleFunc("GET /v1/queues/{name}/messages", s.asked(s.browse))
	mux.HandleFunc("POST /v1/queues/{name}/take", s.asked(s.take))
	mux.HandleFunc("POST /v1/receipts/{receipt}/{outcome}", s.asked(s.settle))
	mux.HandleFunc("POST /v1/topics/{name}/messages", s.asked(s.publish))
	mux.HandleFunc("GET /v1/topics/{name}/events", s.asked(s.events))
	mux.HandleFunc("GET /v1/destinations", s.asked(s.destinations))
	mux.HandleFunc("GET /v1/destinations/{name}", s.asked(s.destination))
	mux.HandleFunc("GET /livez", s.alive)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /openapi.yaml", openAPI)
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(newCollector(s))
	scrape := promhttp.HandlerFor(metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 2, ErrorLog: slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelWarn)})
	mux.HandleFunc("GET /metrics", s.asked(func(w http.ResponseWriter, r *http.Request, c *session.Connection) error {
		if err := c.Authorize(session.OperationInspect, ""); err != nil {
			return err
		}
		scrape.ServeHTTP(w, r)
		return nil
	}))
	if s.options.STOMP != nil {
		mux.HandleFunc("GET /ws", s.socket)
	}
	return s.guarded(mux)
}

// guarded refuses what a page of another origin asks with its visitor's browser, and,
// where nobody is asked who they are, what comes by a name that is not this machine's: a
// name can be made to point here.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch from := r.Header.Get("Sec-Fetch-Site"); {
		case from != "" && from != "same-origin" && from != "none", from == "" && !sameOrigin(r):
			problem(w, http.StatusForbidden, "a request from a page of another origin")
		case s.options.Authenticate == nil && !local(r.Host):
			problem(w, http.StatusForbidden, "without users, only an address or localhost names this broker")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// sameOrigin says whether a browser that does not say from where a request comes, or
// nobody's browser, has sent it from a page of ours.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	u, err := url.Parse(origin)
	return origin == "" || err == nil && u.Host == r.Host
}

func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// Connections returns how many are open.
func (s *Server) Connections() int { return int(s.open.Load()) }

// Serve implements wire.Protocol. It returns when the connection has ended.
func (s *Server) Serve(conn net.Conn, t *wire.Ticket) {
	p := &peer{Conn: conn, ticket: t, name: wire.CertifiedName(conn), closed: make(chan struct{})}
	if p.known = s.options.Authenticate == nil || p.name != ""; p.known {
		t.Authenticated()
	}
	s.open.Add(1)
	defer s.open.Add(-1)
	select {
	case s.incoming.conns <- p:
		<-p.closed
	case <-s.incoming.closed:
	}
}

// Refuse implements wire.Protocol.
func (s *Server) Refuse(conn net.Conn, why error) {
	_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n") // the connection is closed next, whatever this says
	s.options.Logger.Debug("connection refused", "error", why)
}

// Drain implements wire.Protocol: who waits for messages is answered, what is under way
// is finished, and connections end. It returns when all have, or ctx has.
func (s *Server) Drain(ctx context.Context) {
	s.drain.Do(func() { close(s.draining) })
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
	s.ended.Wait()
	s.leases.close()
}

// incoming is a net.Listener of the connections that Serve is given.
type incoming struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *incoming) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *incoming) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *incoming) Addr() net.Addr { return &net.TCPAddr{} }

// peer is a connection, and who it has said it is.
type peer struct {
	net.Conn
	ticket *wire.Ticket
	once   sync.Once
	closed chan struct{}

	mu    sync.Mutex // guards what follows
	known bool
	name  string // by certificate, or of the header
	basic string // the header that was found right
}

type peerKey struct{}

func (p *peer) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
}

var errUnauthenticated = errors.New("wrong user or password")

// identify says who asks. The header of a connection is looked at once: its password
// takes a while.
func (s *Server) identify(r *http.Request) (session.Principal, error) {
	p := r.Context().Value(peerKey{}).(*peer)
	who := session.Principal{Host: wire.Host(p.RemoteAddr())}
	p.mu.Lock()
	defer p.mu.Unlock()
	header := r.Header.Get("Authorization")
	switch {
	case s.options.Authenticate == nil:
		return who, nil
	case p.known && (header == "" && p.basic == "" || header == p.basic && header != ""):
		who.Name = p.name
		return who, nil
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return who, errUnauthenticated
	}
	name, err := s.options.Authenticate(user, password)
	if err != nil {
		s.options.Logger.Warn("authentication failed", "user", user, "peer", p.RemoteAddr(), "error", err)
		return who, errUnauthenticated
	}
	if !p.known {
		p.ticket.Authenticated()
	}
	p.known, p.name, p.basic, who.Name = true, name, header, name
	return who, nil
}

// asked makes a handler of one that serves a known peer, through a connection of its own.
func (s *Server) asked(f func(http.ResponseWriter, *http.Request, *session.Connection) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.identify(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="polylog", charset="UTF-8"`)
			problem(w, http.StatusUnauthorized, err.Error())
			return
		}
		c := session.NewConnection(s.broker, session.Options{Principal: who, CompileSelector: s.options.CompileSelector})
		err = c.Authorize(session.OperationConnect, "")
		if err == nil {
			err = f(w, r, c)
		}
		if err != nil && !errors.Is(err, errAnswered) {
			refuse(w, err)
		}
		if !s.leases.holds(c) {
			_ = c.Close(context.WithoutCancel(r.Context()))
		}
	}
}

// errAnswered ends a request to which something was answered already.
var errAnswered = errors.New("answered")

func (s *Server) alive(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n")
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	err := s.options.Ready()
	select {
	case <-s.draining:
		err = session.ErrShuttingDown
	default:
	}
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}
