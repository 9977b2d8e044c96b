// Package embed runs a whole broker in the user's own process.
//
// [Start] opens a data directory, and a door to it: always one within the
// process, [Server.Dial], and one on the network if Options.Listen says where.
// A client connects through the first so:
//
//	polylog.Connect(ctx, "polylog://embedded", polylog.WithDialer(server.Dial))
//
// What it does not say is the broker's, the listener's or the protocol's
// default. The command line's `serve` is this package and flags.
package embed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/selector"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/amqp"
	"github.com/polylog-mq/polylog/wire/http"
	"github.com/polylog-mq/polylog/wire/kafka"
	"github.com/polylog-mq/polylog/wire/memcache"
	"github.com/polylog-mq/polylog/wire/native/server"
	"github.com/polylog-mq/polylog/wire/stomp"
)

// The one place where the broker and what sessions need of it meet.
var _ session.Broker = (*broker.Broker)(nil)

// Options of a Server. All may be left out.
type Options struct {
	// Dir is the data directory, made if it is not there. Empty: a temporary
	// one, which Close removes.
	Dir string
	// Listen is where the native protocol is spoken on the network; without an
	// address, nowhere. Its Authenticated is worked out from Native.
	Listen wire.Config
	// Kafka are the listeners of Kafka's protocol; none by default.
	Kafka []KafkaListener
	// AMQP is where AMQP 1.0 is spoken; without an address, nowhere. Its
	// Authenticated is worked out from Native.
	AMQP wire.Config
	// STOMP is where STOMP is spoken; without an address, nowhere. Its
	// Authenticated is worked out from Native.
	STOMP wire.Config
	// Memcache is where memcached's protocol is spoken; without an address, nowhere.
	// Its Authenticated is worked out from Native.
	Memcache wire.Config
	// HTTP is where HTTP is spoken; without an address, nowhere. Its Authenticated is
	// worked out from Native.
	HTTP wire.Config
	// TLS, if set, is what every connection from the network is wrapped in.
	TLS *tls.Config
	// BrokerID is what Kafka's clients know the broker by. Default 1.
	BrokerID int32
	// Limits are those on connections, of all listeners together.
	Limits wire.Limits
	// Native are the options of the native protocol.
	Native server.Options
	// Broker are the options of the broker. Its Dir is not used. With its Authorization
	// every peer is asked who it is, of the broker's users unless Native.Authenticate
	// knows others; so is the client of Dial.
	Broker broker.Options
	// CloseTimeout is how long Close lets clients finish. Default 2 s.
	CloseTimeout time.Duration
	// Version is what the broker says it is. Default "embedded".
	Version string
	// Logger goes to all of them. Default: nothing is logged.
	Logger *slog.Logger
}

// KafkaListener is one address where Kafka's protocol is spoken.
type KafkaListener struct {
	wire.Config
	// AdvertisedHost and AdvertisedPort are where clients that have come by this
	// listener are told to find the broker. By default it is where they have come.
	AdvertisedHost string
	AdvertisedPort int32
}

func (o Options) withDefaults() Options {
	if o.CloseTimeout == 0 {
		o.CloseTimeout = 2 * time.Second
	}
	if o.Version == "" {
		o.Version = "embedded"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Broker.Dir = o.Dir
	o.Broker.Version, o.Broker.Logger, o.Broker.CompileSelector = o.Version, o.Logger, compileSelector
	o.Native.Name, o.Native.Logger, o.Native.CompileSelector = "polylog "+o.Version, o.Logger, compileSelector
	for _, c := range []*wire.Config{&o.Listen, &o.AMQP, &o.STOMP, &o.Memcache, &o.HTTP} {
		c.Authenticated = o.secured()
		if o.TLS != nil {
			c.TLS = o.TLS
		}
	}
	o.Kafka = slices.Clone(o.Kafka)
	for i := range o.Kafka {
		o.Kafka[i].Authenticated = o.secured()
		if o.TLS != nil {
			o.Kafka[i].TLS = o.TLS
		}
	}
	return o
}

// secured reports whether every peer is asked who it is.
func (o *Options) secured() bool { return o.Broker.Authorization || o.Native.Authenticate != nil }

// listens are the addresses that are to be listened on.
func (o *Options) listens() (all []wire.Config) {
	for _, c := range []wire.Config{o.Listen, o.AMQP, o.STOMP, o.Memcache, o.HTTP} {
		if c.Address != "" {
			all = append(all, c)
		}
	}
	for _, k := range o.Kafka {
		all = append(all, k.Config)
	}
	return all
}

// compileSelector compiles a selector for a view: destination.ErrBadSelector.
func compileSelector(text string) (queue.Selector, error) {
	s, err := selector.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", destination.ErrBadSelector, err)
	}
	return s, nil
}

// Server is a broker and its doors.
type Server struct {
	broker    *broker.Broker
	listener  *wire.Listener
	kafka     []*wire.Listener
	amqp      *wire.Listener // nil without one
	stomp     *wire.Listener // nil without one
	memcache  *wire.Listener // nil without one
	http      *wire.Listener // nil without one
	timeout   time.Duration
	temporary string // the directory to remove; empty: none

	closing sync.Once
	closed  error
}

// Start starts a broker. The error wraps wire.ErrInsecure for a listener that
// would be open to a network, and those of broker.Open.
func Start(o Options) (_ *Server, err error) {
	s := &Server{}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "polylog-"); err != nil {
			return nil, fmt.Errorf("temporary data directory: %w", err)
		}
		s.temporary = o.Dir
	}
	o = o.withDefaults()
	s.timeout = o.CloseTimeout
	for _, c := range o.listens() {
		if err := c.Check(); err != nil {
			return nil, errors.Join(err, s.cleanUp()) // before the data directory is touched
		}
	}
	if s.broker, err = broker.Open(o.Broker); err != nil {
		return nil, errors.Join(err, s.cleanUp())
	}
	if err = s.listen(o); err != nil {
		for _, l := range s.listeners() {
			l.Close()
		}
		return nil, errors.Join(err, s.broker.Close(), s.cleanUp())
	}
	return s, nil
}

// listen opens the doors.
func (s *Server) listen(o Options) (err error) {
	guard := wire.NewGuard(o.Limits)
	var scram session.BeginSCRAM
	if o.secured() && o.Native.Authenticate == nil {
		o.Native.Authenticate, scram = s.broker.Authority().Password, s.broker.Authority().SCRAM
	}
	protocols := map[string][]counted{}
	listen := func(name string, c wire.Config, p counted) (*wire.Listener, error) {
		l, err := wire.Listen(c, guard, p, o.Logger)
		if err == nil {
			protocols[name] = append(protocols[name], p)
		}
		return l, err
	}
	if s.listener, err = listen("native", o.Listen, server.New(s.broker, o.Native)); err != nil {
		return err
	}
	for _, k := range o.Kafka {
		l, err := listen("kafka", k.Config, kafka.New(s.broker, kafka.Options{
			NodeID: o.BrokerID, AdvertisedHost: k.AdvertisedHost, AdvertisedPort: k.AdvertisedPort, Logger: o.Logger,
			Authenticate: o.Native.Authenticate, SCRAM: scram,
		}))
		if err != nil {
			return err
		}
		s.kafka = append(s.kafka, l)
	}
	overSTOMP := stomp.New(s.broker, stomp.Options{
		Name: o.Native.Name, Logger: o.Logger, Authenticate: o.Native.Authenticate, CompileSelector: compileSelector,
	})
	for _, door := range []struct {
		name     string
		config   wire.Config
		protocol func() counted
		listener **wire.Listener
	}{
		{"amqp", o.AMQP, func() counted {
			return amqp.New(s.broker, amqp.Options{
				Name: o.Native.Name, Logger: o.Logger, Authenticate: o.Native.Authenticate, SCRAM: scram, CompileSelector: compileSelector,
			})
		}, &s.amqp},
		{"stomp", o.STOMP, func() counted { return overSTOMP }, &s.stomp},
		{"memcache", o.Memcache, func() counted {
			return memcache.New(s.broker, memcache.Options{Version: o.Version, Logger: o.Logger, Authenticate: o.Native.Authenticate})
		}, &s.memcache},
		{"http", o.HTTP, func() counted {
			return http.New(s.broker, http.Options{
				Version: o.Version, Logger: o.Logger, Authenticate: o.Native.Authenticate, CompileSelector: compileSelector,
				Ready: s.broker.Err, Connections: func() map[string]int { return connections(protocols) }, STOMP: overSTOMP.Serve,
			})
		}, &s.http},
	} {
		if door.config.Address == "" {
			continue
		}
		if *door.listener, err = listen(door.name, door.config, door.protocol()); err != nil {
			return err
		}
	}
	return nil
}

// counted is a protocol that knows how many speak it.
type counted interface {
	wire.Protocol
	Connections() int
}

// connections is how many speak each protocol.
func connections(protocols map[string][]counted) map[string]int {
	n := map[string]int{}
	for name, all := range protocols {
		for _, p := range all {
			n[name] += p.Connections()
		}
	}
	return n
}

// listeners are those that are open.
func (s *Server) listeners() []*wire.Listener {
	all := slices.Clone(s.kafka)
	for _, l := range []*wire.Listener{s.listener, s.amqp, s.stomp, s.memcache, s.http} {
		if l != nil {
			all = append(all, l)
		}
	}
	return all
}

// Broker is the broker itself.
func (s *Server) Broker() *broker.Broker { return s.broker }

// Addr is where it listens on the network; nil if nowhere.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// KafkaAddrs is where Kafka's protocol is spoken, in the order of the options.
func (s *Server) KafkaAddrs() []net.Addr {
	addrs := make([]net.Addr, len(s.kafka))
	for i, l := range s.kafka {
		addrs[i] = l.Addr()
	}
	return addrs
}

// AMQPAddr is where AMQP 1.0 is spoken; nil if nowhere.
func (s *Server) AMQPAddr() net.Addr { return addrOf(s.amqp) }

// STOMPAddr is where STOMP is spoken; nil if nowhere.
func (s *Server) STOMPAddr() net.Addr { return addrOf(s.stomp) }

// MemcacheAddr is where memcached's protocol is spoken; nil if nowhere.
func (s *Server) MemcacheAddr() net.Addr { return addrOf(s.memcache) }

// HTTPAddr is where HTTP is spoken; nil if nowhere.
func (s *Server) HTTPAddr() net.Addr { return addrOf(s.http) }

func addrOf(l *wire.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Dial connects to the broker within the process. It fails only if ctx has
// ended; a server that has closed closes the connection.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	near, far := wire.Pipe()
	s.listener.ServeConn(far)
	return near, nil
}

// Failed is closed after a failed sync: nothing is confirmed any more, and the
// process should close the server, or end, and start again.
func (s *Server) Failed() <-chan struct{} { return s.broker.Failed() }

// Drain takes nothing new, lets clients finish until ctx ends, and closes. The
// error is that of closing the broker.
func (s *Server) Drain(ctx context.Context) error {
	s.closing.Do(func() {
		s.broker.Drain()
		var drained sync.WaitGroup
		for _, l := range s.listeners() {
			drained.Go(func() { l.Drain(ctx) })
		}
		drained.Wait()
		s.closed = errors.Join(s.broker.Close(), s.cleanUp())
	})
	return s.closed
}

// Close is Drain with Options.CloseTimeout. It may be called again.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	return s.Drain(ctx)
}

func (s *Server) cleanUp() error {
	if s.temporary == "" {
		return nil
	}
	return os.RemoveAll(s.temporary)
}
