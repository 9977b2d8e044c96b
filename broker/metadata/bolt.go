package metadata

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// formatVersion is the layout of buckets and keys; it stands in the facts.
const formatVersion = 1

const formatFact = "format"

// The buckets. Destinations are by name, deletions by id, subscriptions by id, users by
// name; a rule is its own key. The last two are made with the first that is in them.
var (
	factsBucket         = []byte("facts")
	destinationsBucket  = []byte("destinations")
	deletionsBucket     = []byte("deletions")
	subscriptionsBucket = []byte("subscriptions")
	usersBucket         = []byte("users")
	aclsBucket          = []byte("acls")
)

// A change waits this long for others to share its sync. It is short against
// a sync, and long against the time in which goroutines that were woken by one
// group come back with the next.
const (
	batchDelay = 500 * time.Microsecond
	batchSize  = 2000
)

// reservedBytes are kept allocated ahead of what the file holds, so that
// subscriptions and destinations can be deleted on a full disk (S4).
const reservedBytes = 1 << 20

// Bolt is a Store in one bbolt file.
type Bolt struct {
	path string
	db   *bbolt.DB

	failOnce sync.Once
	failed   chan struct{}
	err      error // written before failed is closed
}

var _ Store = (*Bolt)(nil)

// Options of OpenBolt.
type Options struct {
	Logger *slog.Logger // default slog.Default
	// OpenFile opens the file; default os.OpenFile.
	OpenFile func(name string, flag int, mode os.FileMode) (*os.File, error)
}

// OpenBolt opens or creates the file: ErrLocked, ErrNewerVersion, ErrCorrupt.
func OpenBolt(path string, o Options) (*Bolt, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.OpenFile == nil {
		o.OpenFile = os.OpenFile
	}
	var file *os.File
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        time.Second, // the lock of a process that is just going
		FreelistType:   bbolt.FreelistMapType,
		NoStatistics:   true,
		NoFreelistSync: false,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := o.OpenFile(name, flag, mode)
			file = f
			return f, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum):
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	case errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s: %w", ErrNewerVersion, path, err)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := reserve(file); err != nil {
		o.Logger.Warn("no room reserved for metadata: on a full disk nothing can be deleted either", "file", path, "error", err)
	}
	b := &Bolt{path: path, db: db, failed: make(chan struct{})}
	db.MaxBatchDelay, db.MaxBatchSize = batchDelay, batchSize
	if err := b.prepare(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return b, nil
}

// reserve allocates the file's blocks and some more.
func reserve(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return allocate(f, info.Size()+reservedBytes)
}

// prepare makes the buckets of a new file and refuses a newer one.
func (b *Bolt) prepare() error {
	var format string
	err := b.db.View(func(tx *bbolt.Tx) error {
		if facts := tx.Bucket(factsBucket); facts != nil {
			format = string(facts.Get([]byte(formatFact)))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", b.path, err)
	}
	if format != "" {
		version, err := strconv.Atoi(format)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %s: format %q", ErrCorrupt, b.path, format)
		case version > formatVersion:
			return fmt.Errorf("%w: %s has format %d, this release knows %d", ErrNewerVersion, b.path, version, formatVersion)
		}
		return nil
	}
	err = b.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{factsBucket, destinationsBucket, deletionsBucket, subscriptionsBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(factsBucket).Put([]byte(formatFact), []byte(strconv.Itoa(formatVersion)))
	})
	if err != nil {
		return fmt.Errorf("prepare %s: %w", b.path, err)
	}
	return nil
}

// change runs fn in a transaction that it shares with others. fn may run more
// than once.
func (b *Bolt) change(doing string, fn func(tx *bbolt.Tx) error) error {
	if err := b.Err(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	err := b.db.Batch(fn)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return fmt.Errorf("%s: %w", doing, ErrClosed)
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNewerVersion),
		errors.Is(err, bolterrors.ErrKeyTooLarge), errors.Is(err, bolterrors.ErrValueTooLarge), errors.Is(err, bolterrors.ErrKeyRequired):
		return fmt.Errorf("%s: %w", doing, err)
	case isFull(err):
		return fmt.Errorf("%s: %w", doing, ErrFull)
	}
	b.fail(fmt.Errorf("%w: %s: %s: %w", ErrFailed, b.path, doing, err))
	return fmt.Errorf("%s: %w", doing, b.Err())
}

// isFull tells a write that found no room, after which the file is as it was,
// from a sync that failed, after which nobody knows. bbolt gives only the text
// of a failed resize.
func isFull(err error) bool {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Op != "sync" && errors.Is(err, syscall.ENOSPC)
	}
	return strings.HasPrefix(err.Error(), "file resize error")
}

func (b *Bolt) fail(err error) {
	b.failOnce.Do(func() {
		b.err = err
		close(b.failed)
	})
}

// Failed is closed after a failed sync.
func (b *Bolt) Failed() <-chan struct{} { return b.failed }

// Err is ErrFailed with its cause, or nil.
func (b *Bolt) Err() error {
	select {
	case <-b.failed:
		return b.err
	default:
		return nil
	}
}

// Close waits for the changes under way.
func (b *Bolt) Close() error { return b.db.Close() }
