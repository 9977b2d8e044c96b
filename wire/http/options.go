package http

import (
	"log/slog"
	"net"
	"time"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
)

// Options of a Server. Zero fields take their defaults.
type Options struct {
	// Version is what the broker says it is.
	Version string
	// Logger gets what operators may want to know.
	Logger *slog.Logger
	// Authenticate says who user is, or refuses; requests then need HTTP's Basic
	// authentication, or a certificate. Nil: everybody may come.
	Authenticate session.Authenticate
	// CompileSelector compiles selectors; nil refuses them.
	CompileSelector session.CompileSelector
	// Ready says what keeps the broker from serving; nil: nothing does.
	Ready func() error
	// Connections are how many connections each protocol has open, for the metrics.
	Connections func() map[string]int
	// STOMP serves what comes over the WebSocket; nil: nobody does.
	STOMP func(conn net.Conn, t *wire.Ticket)
	// MaxBody bounds the body of a message where its destination has no smaller limit,
	// in bytes. Default 16 MiB.
	MaxBody int64
	// MaxWait bounds how long a request may wait for a message, and DefaultLease and
	// MaxLease how long a message is held for who took it. Defaults 5 minutes, 30
	// seconds, 12 hours.
	MaxWait, DefaultLease, MaxLease time.Duration
	// MaxCount bounds the messages of one take. Default 256.
	MaxCount int
	// MaxLeases bounds the takes whose messages are held at once. Default 65,536.
	MaxLeases int
	// MaxMetrics bounds the destinations that metrics are given of one by one. Default
	// 1,000.
	MaxMetrics int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.Connections == nil {
		o.Connections = func() map[string]int { return nil }
	}
	setDefault(&o.MaxBody, 16<<20)
	setDefault(&o.MaxWait, 5*time.Minute)
	setDefault(&o.DefaultLease, 30*time.Second)
	setDefault(&o.MaxLease, 12*time.Hour)
	setDefault(&o.MaxCount, 256)
	setDefault(&o.MaxLeases, 1<<16)
	setDefault(&o.MaxMetrics, 1000)
	return o
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
