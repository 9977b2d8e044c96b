package amqp

import (
	"log/slog"
	"time"

	"github.com/polylog-mq/polylog/session"
)

// Options of a Server. Zero fields take their defaults.
type Options struct {
	// Name is the broker's name and version, for people.
	Name string
	// Logger gets what operators may want to know of connections.
	Logger *slog.Logger
	// Authenticate says who user is, or refuses. Nil: everybody may come, as
	// nobody in particular, whatever name they give.
	Authenticate session.Authenticate
	// SCRAM begins an exchange of it; nil: it is not offered.
	SCRAM session.BeginSCRAM
	// CompileSelector compiles selectors; nil refuses them.
	CompileSelector session.CompileSelector
	// MaxFrame is the largest frame in bytes that is taken; peers may say a smaller
	// one for what they take. Default 1 MiB.
	MaxFrame int
	// IdleTimeout is how long a peer may be silent; it is told half of that, as
	// AMQP 1.0 §2.4.5 advises. Default 60 s.
	IdleTimeout time.Duration
	// WriteTimeout is how long a peer may read nothing while there is something to
	// read, before its connection is closed. Default 30 s.
	WriteTimeout time.Duration
	// MaxOutgoing is how many bytes may wait to be written; above it the peer's
	// frames are not read and its receivers get nothing. Default 2 MiB.
	MaxOutgoing int
	// MaxUnfinished bounds the bytes of the messages of one connection whose last
	// frame has not come. Default 64 MiB.
	MaxUnfinished int
	// MaxSessions and MaxLinks bound the sessions of a connection and the links of
	// a session; MaxTemporary a connection's dynamic nodes. Defaults 1,024, 1,024
	// and 1,024.
	MaxSessions, MaxLinks, MaxTemporary int
	// Credit is how many messages a sender may have under way. Default 1,000.
	Credit int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	setDefault(&o.Name, "polylog")
	setDefault(&o.MaxFrame, 1<<20)
	setDefault(&o.IdleTimeout, 60*time.Second)
	setDefault(&o.WriteTimeout, 30*time.Second)
	setDefault(&o.MaxOutgoing, 2<<20)
	setDefault(&o.MaxUnfinished, 64<<20)
	setDefault(&o.MaxSessions, 1024)
	setDefault(&o.MaxLinks, 1024)
	setDefault(&o.MaxTemporary, 1024)
	setDefault(&o.Credit, 1000)
	return o
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
