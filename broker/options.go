package broker

import (
	"log/slog"
	"time"

	"github.com/polylog-mq/polylog/broker/auth"
	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
)

// Options of a Broker. Only Dir is needed.
type Options struct {
	// Dir is the data directory; it is made if it is not there.
	Dir string
	// FS is where the logs are, in place of Dir/log; Close closes it.
	FS commitlog.FS
	// Metadata is where they are remembered, in place of Dir/metadata.db;
	// Close closes it.
	Metadata metadata.Store
	// Log is passed to the logs; its clock and logger are those below.
	Log commitlog.Options

	// Defaults are settings, by name, of destinations about which nothing else
	// is said. They apply when a destination is created.
	Defaults map[string]string
	// NoAutoCreate refuses destinations that were not created on purpose. Dead
	// letter destinations are made all the same.
	NoAutoCreate bool
	// MaxDestinations bounds how many there are, temporary ones included;
	// ErrBusy beyond. Default 100,000.
	MaxDestinations int
	// KeepInterval is how long the keeper takes to go round all destinations.
	// Default 30 s.
	KeepInterval time.Duration
	// Workers is how many goroutines deliver; default 2 or GOMAXPROCS,
	// whichever is less.
	Workers int
	// CompileSelector makes a selector of its text, ErrBadSelector; nil
	// refuses selectors with ErrUnsupported.
	CompileSelector func(text string) (queue.Selector, error)

	// Authorization has the users and rules say who may do what. Without it everybody may
	// do everything.
	Authorization bool
	// SuperUsers may do everything. Default: auth.Administrator.
	SuperUsers []string

	// Version is what the statistics call this release.
	Version string
	Now     func() time.Time // default time.Now
	Logger  *slog.Logger     // default slog.Default
}

func (o Options) withDefaults() Options {
	if o.MaxDestinations == 0 {
		o.MaxDestinations = 100_000
	}
	if o.SuperUsers == nil {
		o.SuperUsers = []string{auth.Administrator}
	}
	if o.KeepInterval == 0 {
		o.KeepInterval = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Log.Now, o.Log.Logger = o.Now, o.Logger
	if o.Log.JournalFileBytes == 0 {
		o.Log.JournalFileBytes = 64 << 20
	}
	if o.Log.ReservedBytes == 0 {
		// S4: acknowledgements may need one more journal file when the disk is
		// full, and some room in segments.
		o.Log.ReservedBytes = o.Log.JournalFileBytes + 16<<20
	}
	return o
}
