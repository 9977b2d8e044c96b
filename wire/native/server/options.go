package server

import (
	"log/slog"
	"time"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
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
	// CompileSelector compiles selectors; nil refuses them.
	CompileSelector session.CompileSelector
	// MaxFrame is the largest frame in bytes. Default native.DefaultMaxFrame.
	MaxFrame int
	// Heartbeat is how long the server is silent at most. Default 10 s.
	Heartbeat time.Duration
	// WriteTimeout is how long a peer may read nothing while there is
	// something to read, before its connection is closed. Default 30 s.
	WriteTimeout time.Duration
	// MaxOutgoing is how many bytes may wait to be written while others are
	// being written: above it the peer's frames are not read and its consumers
	// get nothing. What is under way when it is reached, at most a view's turn
	// and one message, still comes. Default 2 MiB.
	MaxOutgoing int
	// MaxSessions, MaxConsumers, MaxTemporary and MaxHandles bound what one
	// connection has open: CodeBusy. Defaults 1,024, 4,096, 1,024, 65,536.
	MaxSessions, MaxConsumers, MaxTemporary, MaxHandles int
	// MaxRequests bounds the requests of one connection that wait on one
	// lane: CodeBusy. Default 1,024.
	MaxRequests int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	setDefault(&o.MaxFrame, native.DefaultMaxFrame)
	setDefault(&o.Heartbeat, 10*time.Second)
	setDefault(&o.WriteTimeout, 30*time.Second)
	setDefault(&o.MaxOutgoing, 2<<20)
	setDefault(&o.MaxSessions, 1024)
	setDefault(&o.MaxConsumers, 4096)
	setDefault(&o.MaxTemporary, 1024)
	setDefault(&o.MaxHandles, 65_536)
	setDefault(&o.MaxRequests, 1024)
	return o
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
