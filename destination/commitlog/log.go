package commitlog

import (
	"context"
	"sync"
	"sync/atomic"
)

// Log is one partition's append log. It is safe for concurrent use.
type Log struct {
	store    *Store
	lane     *lane
	id       LogID
	dir      string
	memory   bool
	config   atomic.Pointer[Config]
	start    atomic.Int64
	stable   atomic.Int64
	onStable func(int64)
	ready    atomic.Bool  // its end is known
	produced atomic.Bool  // it may have batches with a producer id; changed with files held
	durable  atomic.Int64 // its end in the last checkpoint
	adopting sync.Mutex   // held while that is found out

	// admin is held by one truncation, retention or cleaning at a time, over their waits; it is taken first of all locks.
	admin sync.Mutex

	// files guards what is known of the files. It is held over reads of the directory and of indexes, but not over syncs.
	// The committer alone changes the last segment.
	files    sync.RWMutex
	loaded   bool
	segments []*segment
	indexes  *indexes // of indexed
	indexed  *segment // the segment whose indexes are in memory: the active one, up to what has been written
	readable place    // where stable is
	cuts     int      // counts truncations, so that a reader that met one tries again
	aside    tracked

	// mu guards the following; it is taken after files and before lane.mu.
	mu      sync.Mutex
	next    int64
	round   int             // counts rollbacks
	onCut   func(end int64) // may be nil
	created bool            // the create operation is in the journal, or there is a checkpoint with the log
	deleted bool

	hints hints

	// w is owned by the lane's committer, and by recovery before there is one.
	w writer
}

// place is a position in the segment with a base offset.
type place struct{ base, position int64 }

func (s *Store) newLog(id LogID, dir string, c Config) *Log {
	l := &Log{store: s, id: id, dir: dir, memory: c.Memory, lane: s.disk}
	if c.Memory {
		l.lane = s.memory
		l.created = true
		l.w.known = true
	}
	l.config.Store(&c)
	l.w.base = -1
	l.w.adopt = true
	return l
}

// ID is the topic's id and the partition.
func (l *Log) ID() LogID { return l.id }

// Dir is the log's directory, relative to the data directory.
func (l *Log) Dir() string { return l.dir }

// Config is what the log was last opened with, defaults filled in.
func (l *Log) Config() Config { return *l.config.Load() }

// Start is the first offset that can be read. There may be no record there: the first one is at or behind it.
func (l *Log) Start() int64 {
	l.ensureLoaded()
	return l.start.Load()
}

// End is the offset of the next append.
func (l *Log) End() int64 {
	l.ensureLoaded()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Stable is the end of what can be read: what is synced, or written if the log is in memory.
func (l *Log) Stable() int64 {
	l.ensureLoaded()
	return l.stable.Load()
}

// OnStable sets the function that is called by the committer after Stable has moved, before the Waiters of the appends
// that moved it. It is set before the first append, and must not block.
func (l *Log) OnStable(fn func(stable int64)) { l.onStable = fn }

// Append appends one or more whole, validated batches. It copies them, gives its copy base offsets and leader epochs, and
// returns the first offset as soon as the copy is in the journal's buffer. w, which may be nil, is called when the append
// is durable (or written, if the log is in memory). It blocks while Options.MaxPendingBytes are pending.
//
// Errors: ErrTooLarge, record.ErrCorrupt, ErrDeleted, ErrClosed, FailedError; then w is not called.
func (l *Log) Append(batches []byte, w Waiter) (base int64, err error) {
	base, _, err = l.appendFor(batches, w, false, nil)
	return base, err
}

// AppendEarly is Append with w called when the append is written, not yet synced: a power cut may take it, a crash of the
// process not (Kafka's acks=1). Readers see it after the sync, as ever.
func (l *Log) AppendEarly(batches []byte, w Waiter) (base int64, err error) {
	base, _, err = l.appendFor(batches, w, true, nil)
	return base, err
}

// appendFor appends unless gate has something against it. fresh is false if the gate named another offset.
func (l *Log) appendFor(batches []byte, w Waiter, early bool, gate Gate) (base int64, fresh bool, err error) {
	if _, err := l.check(batches); err != nil {
		return 0, false, err
	}
	if err := l.ensureAdopted(); err != nil {
		return 0, false, err
	}
	if err := l.lane.admit(); err != nil {
		return 0, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if gate != nil {
		if base, err := gate.Admit(batches, l.next); err != nil || base != l.next {
			return base, false, err
		}
	}
	ln := l.lane
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if err := l.refused(); err != nil {
		return 0, false, err
	}
	g := ln.filling
	g.entry(l.createSize()+operationHeader+len(batches), false)
	o := l.append(g, batches)
	o.waiter, o.early = w, early
	ln.inserted()
	return o.base, true, nil
}

// Deleted says whether the log was deleted.
func (l *Log) Deleted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deleted
}

// check returns how many offsets the batches take.
func (l *Log) check(batches []byte) (int64, error) {
	if int64(len(batches)) > l.store.options.JournalFileBytes/4 {
		return 0, ErrTooLarge
	}
	return sizeOfBatches(batches, l.config.Load().MaxBatchBytes)
}

// refused is called with mu and lane.mu held.
func (l *Log) refused() error {
	if l.lane.err != nil {
		return l.lane.err
	}
	if l.deleted {
		return ErrDeleted
	}
	return nil
}

// append puts an append into the group, behind the creation of the log if that is not there yet.
// It is called with mu and lane.mu held.
func (l *Log) append(g *group, batches []byte) *op {
	l.create(g)
	o := g.add(l, opAppend, l.next, batches)
	o.round = l.round
	g.stamp(o, l.store.epoch)
	l.next = o.next
	return o
}

// create puts the log's creation into the group, once. It is called with mu and lane.mu held.
func (l *Log) create(g *group) {
	if !l.created {
		l.created = true
		g.add(l, opCreate, 0, appendCreate(nil, l.config.Load().SegmentBytes, l.dir))
	}
}

func (l *Log) createSize() int {
	if l.created {
		return 0
	}
	return operationHeader + 8 + len(l.dir)
}

// change puts an operation without batches into the lane and waits for it. prepare runs with mu held; an error ends it.
func (l *Log) change(kind opKind, offset int64, prepare func() error) error {
	w := make(waitFor, 1)
	if err := l.insert(kind, offset, w, prepare); err != nil {
		return err
	}
	return <-w
}

// insert is change without the wait.
func (l *Log) insert(kind opKind, offset int64, w Waiter, prepare func() error) error {
	if err := l.ensureAdopted(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lane.mu.Lock()
	defer l.lane.mu.Unlock()
	if err := l.refused(); err != nil {
		return err
	}
	if err := prepare(); err != nil {
		return err
	}
	g := l.lane.filling
	if !l.created { // its creation may not stand behind the barrier
		g.entry(l.createSize(), false)
		l.create(g)
	}
	g.entry(operationHeader, kind == opTruncate)
	g.add(l, kind, offset, nil).waiter = w
	l.lane.inserted()
	l.lane.hurry() // its caller may have locks, and waits
	return nil
}

// waitFor is the Waiter of a call that waits.
type waitFor chan error

func (w waitFor) Committed(err error) { w <- err }

// ensureAdopted finds the end of a log that is neither in the checkpoint nor in the journal, before its first append. One
// that has files, copied from elsewhere, gets into a checkpoint first: the journal tells only what is appended to it.
func (l *Log) ensureAdopted() error {
	if l.ready.Load() {
		return nil
	}
	l.adopting.Lock()
	defer l.adopting.Unlock()
	if l.ready.Load() {
		return nil
	}
	l.files.Lock()
	err := l.load()
	segments := l.segments
	l.files.Unlock()
	if err != nil {
		return err
	}
	if !l.memory && len(segments) > 0 {
		if err := l.store.checkpointAdopted(l, segments); err != nil {
			return err
		}
	}
	l.ready.Store(true)
	return nil
}

// checkpointAdopted makes a copied log durable and known.
func (s *Store) checkpointAdopted(l *Log, segments []*segment) error {
	known := func() {
		l.w.known = true
		for _, seg := range segments {
			seg.dirty, seg.fresh = true, true
			s.dirty = append(s.dirty, dirtySegment{log: l, segment: seg})
		}
	}
	if !s.disk.ask(known) {
		return ErrClosed
	}
	if err := s.Checkpoint(context.Background()); err != nil {
		return err
	}
	l.mu.Lock()
	l.created = true
	l.mu.Unlock()
	return nil
}

// ensureLoaded is ensureAdopted for calls that cannot fail; the append that follows will tell.
func (l *Log) ensureLoaded() {
	if err := l.ensureAdopted(); err != nil {
		l.store.logger.Error("commitlog: cannot read log", "dir", l.dir, "error", err)
	}
}
