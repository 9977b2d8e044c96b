package stomp

import (
	"log/slog"
	"time"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

// Options of a Server. Zero fields take their defaults.
type Options struct {
	// Name is the broker's name and version, for the header server.
	Name string
	// Logger gets what operators may want to know of connections.
	Logger *slog.Logger
	// Authenticate says who login is, or refuses. Nil: everybody may come, as nobody
	// in particular, whatever name they give.
	Authenticate session.Authenticate
	// CompileSelector compiles selectors; nil refuses them.
	CompileSelector session.CompileSelector
	// Frame bounds one frame. Default 256 headers of 64 KiB together, and a body of
	// 16 MiB.
	Frame frame.Limits
	// Prefetch is how many messages a subscription that does not say may have that are
	// not acknowledged. Default 1,000, as ActiveMQ's.
	Prefetch int
	// MaxSubscriptions and MaxTemporary bound what a connection has
	// at once. Defaults 1,024 and 256.
	MaxSubscriptions, MaxTemporary int
	// WriteTimeout is how long a peer may read nothing while there is something to
	// read, before its connection is closed. Default 30 s.
	WriteTimeout time.Duration
	// MaxOutgoing is how many bytes may wait to be written; above it the peer's frames
	// are not read and its subscriptions get nothing. Default 2 MiB.
	MaxOutgoing int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	setDefault(&o.Name, "polylog")
	setDefault(&o.Frame.Headers, 256)
	setDefault(&o.Frame.HeaderBytes, 64<<10)
	setDefault(&o.Frame.Body, 16<<20)
	setDefault(&o.Prefetch, 1000)
	setDefault(&o.MaxSubscriptions, 1024)
	setDefault(&o.MaxTemporary, 256)
	setDefault(&o.WriteTimeout, 30*time.Second)
	setDefault(&o.MaxOutgoing, 2<<20)
	return o
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
