package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Store is one data directory: the journal, its checkpoint, and all logs. It is safe for concurrent use.
type Store struct {
	fs      FS
	options Options
	logger  *slog.Logger
	epoch   int32
	cache   *fileCache
	journal *journal
	reserve *reserve
	disk    *lane
	memory  *lane
	// committers are those of the two lanes.
	committers [2]*committer

	mu     sync.Mutex // guards the following
	logs   map[LogID]*Log
	closed bool

	dirty        []dirtySegment // since the last snapshot; owned by the journal's committer
	started      bool           // recovery is over; does not change after Open
	checkpointed atomic.Uint64  // the sequence from which the journal would be replayed

	damage   damageList
	recovery Recovery
	counters counters

	failOnce sync.Once
	failed   chan struct{}
	err      atomic.Pointer[FailedError] // set before failed is closed

	checkpoints chan checkpointRequest // to the checkpointer
	stop        chan struct{}          // closed when the committers have ended
	running     sync.WaitGroup         // checkpointer, preparer, syncer, removals
}

type counters struct {
	appends, appendedBytes, groups, syncs, waiters, journalBytes, checkpoints, stalls, full atomic.Int64
	lastCheckpoint                                                                          atomic.Int64
}

func (o Options) withDefaults() (Options, error) {
	o.JournalFileBytes = positive(o.JournalFileBytes, 64<<20)
	o.JournalFiles = int(positive(int64(o.JournalFiles), 4))
	o.MaxOpenFiles = int(positive(int64(o.MaxOpenFiles), 4096))
	o.MaxPendingBytes = int(positive(int64(o.MaxPendingBytes), 16<<20))
	o.CheckpointInterval = time.Duration(positive(int64(o.CheckpointInterval), int64(30*time.Second)))
	o.ProducerExpiration = time.Duration(positive(int64(o.ProducerExpiration), int64(24*time.Hour)))
	if o.ReservedBytes == 0 {
		o.ReservedBytes = 16 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.JournalFileBytes < 64<<10 || o.JournalFileBytes > 1<<31 || o.JournalFiles < 2 {
		return o, fmt.Errorf("commitlog: %d journal files of %d bytes: at least 2 of 64 KiB to 2 GiB", o.JournalFiles, o.JournalFileBytes)
	}
	return o, nil
}

func positive(n, otherwise int64) int64 {
	if n > 0 {
		return n
	}
	return otherwise
}

// Open recovers the data directory and raises the leader epoch durably. If it fails, the caller still owns the FS;
// afterwards Close closes it.
func Open(fsys FS, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		fs: fsys, options: o, logger: o.Logger,
		cache:       newFileCache(fsys, o.MaxOpenFiles),
		disk:        newLane(o),
		memory:      newLane(o),
		logs:        map[LogID]*Log{},
		failed:      make(chan struct{}),
		stop:        make(chan struct{}),
		checkpoints: make(chan checkpointRequest, 1),
	}
	s.damage.init(s)
	s.reserve = newReserve(fsys, o.ReservedBytes, o.Logger)
	began := time.Now()
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("recover: %w", err), s.cache.closeUnused(), s.journal.close())
	}
	s.recovery.Duration = time.Since(began)
	s.start()
	return s, nil
}

// start begins the long-lived goroutines: two committers, the syncer, the journal's preparer and the checkpointer.
func (s *Store) start() {
	s.started = true
	d := &committer{store: s, lane: s.disk, journal: s.journal, syncs: make(chan *journalFile), synced: make(chan error)}
	m := &committer{store: s, lane: s.memory}
	s.committers = [2]*committer{d, m}
	go d.run()
	go m.run()
	s.running.Go(d.syncer)
	s.running.Go(func() { s.journal.prepare(s.stop, s.fail) })
	s.running.Go(s.checkpointer)
	s.running.Go(s.removeDeleted)
}

// OpenLog opens a log, or creates it; its files are made by the first append, and read when they are first needed.
// dir is relative to the data directory. A directory that the store does not know, with Kafka's files in it, is adopted.
// Opening a log twice gives the same Log with the newer config.
func (s *Store) OpenLog(id LogID, dir string, c Config) (*Log, error) {
	c = c.withDefaults()
	dir = path.Clean(dir)
	first, _, _ := strings.Cut(dir, "/")
	if !fs.ValidPath(dir) || dir == "." || first == journalDir || first == damagedDir || strings.HasSuffix(dir, deletedSuffix) {
		return nil, fmt.Errorf("commitlog: %q is no directory for a log within the data directory", dir)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	l := s.logs[id]
	if l == nil {
		l = s.newLog(id, dir, c)
		s.logs[id] = l
		return l, nil
	}
	if l.dir != dir || l.memory != c.Memory && l.created {
		return nil, fmt.Errorf("commitlog: %s is open as %s (memory %t), not %s (memory %t)", id, l.dir, l.memory, dir, c.Memory)
	}
	l.config.Store(&c)
	return l, nil
}

// String is for errors.
func (id LogID) String() string { return fmt.Sprintf("%x-%d", id.Topic, id.Partition) }

func (c Config) withDefaults() Config {
	c.SegmentBytes = min(positive(c.SegmentBytes, 256<<20), 1<<31-1)
	c.SegmentAge = time.Duration(positive(int64(c.SegmentAge), int64(7*24*time.Hour)))
	c.MaxBatchBytes = int(positive(int64(c.MaxBatchBytes), 1<<20+64<<10))
	c.TombstoneAge = time.Duration(positive(int64(c.TombstoneAge), int64(24*time.Hour)))
	return c
}

// Recovery tells what Open found.
func (s *Store) Recovery() Recovery { return s.recovery }

// Epoch is the leader epoch of this start: one more than at the last one, durable. The first is 0, as in Kafka.
func (s *Store) Epoch() int32 { return s.epoch }

// Failed is closed after a failed sync or an unexpected failure of a write: nothing is confirmed any more (reliability S3).
// The process should end; the next start reads again what the disk holds.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err is why the store failed; nil while it has not.
func (s *Store) Err() error {
	if e := s.err.Load(); e != nil {
		return e
	}
	return nil
}

// fail ends all service. Retrying a sync could report success with the data gone.
func (s *Store) fail(doing string, cause error) {
	s.failOnce.Do(func() {
		e := &FailedError{Doing: doing, Err: cause}
		s.err.Store(e)
		s.disk.refuse(e)
		s.memory.refuse(e)
		close(s.failed)
		s.logger.Error("commitlog: store failed, nothing is confirmed any more", "doing", doing, "error", cause)
	})
}

// Checkpoint syncs all segments and frees the journal. It returns when that is done, or with ctx.
func (s *Store) Checkpoint(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case s.checkpoints <- checkpointRequest{done: done}:
	case <-s.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
		return ErrClosed
	}
}

// Close commits what is pending, writes a last checkpoint so that the next Open has nothing to replay, and closes the FS.
// Appends and other changes fail from its start on. It returns why the store failed, if it has.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	s.disk.close(ErrClosed)
	s.memory.close(ErrClosed)
	close(s.stop)
	s.running.Wait()
	err := s.Err()
	if err == nil {
		err = s.finish()
	}
	return errors.Join(err, s.cache.closeUnused(), s.journal.close(), s.fs.Close())
}

// Stats counts since Open.
func (s *Store) Stats() Stats {
	c := &s.counters
	s.mu.Lock()
	logs := len(s.logs)
	s.mu.Unlock()
	return Stats{
		Appends: c.appends.Load(), AppendedBytes: c.appendedBytes.Load(), Groups: c.groups.Load(), Syncs: c.syncs.Load(),
		Waiters: c.waiters.Load(), JournalBytes: c.journalBytes.Load(), Checkpoints: c.checkpoints.Load(),
		Stalls: c.stalls.Load(), Full: c.full.Load(), Damaged: s.damage.count(),
		Logs: logs, OpenFiles: s.cache.count(), JournalFiles: s.journal.count(),
		PendingBytes: s.disk.pending() + s.memory.pending(), ReserveIntact: s.reserve.intact(),
		LastCheckpoint: time.Duration(c.lastCheckpoint.Load()),
	}
}
