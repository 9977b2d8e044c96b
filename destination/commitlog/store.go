package commitlog

import (
	"context"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
)

// Store is one data directory. This first version keeps everything in memory.
type Store struct {
	mu     sync.Mutex
	logs   map[LogID]*Log
	failed chan struct{}
	opts   Options
}

// Open opens the store.
func Open(fs FS, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{logs: map[LogID]*Log{}, failed: make(chan struct{}), opts: o}, nil
}

// Recovery tells what Open found.
func (s *Store) Recovery() Recovery { return Recovery{Clean: true} }

// Epoch is the leader epoch of this start.
func (s *Store) Epoch() int32 { return 1 }

// Failed is closed after a failed sync.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err is why the store failed.
func (s *Store) Err() error { return nil }

// Checkpoint frees the journal.
func (s *Store) Checkpoint(ctx context.Context) error { return ctx.Err() }

// Close closes the store and its FS.
func (s *Store) Close() error { return nil }

// Stats counts.
func (s *Store) Stats() Stats { return Stats{} }

// OpenLog opens or creates a log.
func (s *Store) OpenLog(id LogID, dir string, c Config) (*Log, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.logs[id]; l != nil {
		return l, nil
	}
	l := &Log{store: s, id: id, dir: dir, config: c}
	s.logs[id] = l
	return l, nil
}

// Commit appends to several logs at once.
func (s *Store) Commit(ws []Write, w Waiter) error {
	for i := range ws {
		base, err := ws[i].Log.Append(ws[i].Batches, nil)
		if err != nil {
			return err
		}
		ws[i].Base = base
	}
	if w != nil {
		go w.Committed(nil)
	}
	return nil
}

// Log is one append log.
type Log struct {
	store  *Store
	id     LogID
	dir    string
	config Config

	mu       sync.Mutex
	batches  []record.Batch
	start    int64
	next     int64
	onStable func(int64)
}

// Append appends whole batches.
func (l *Log) Append(batches []byte, w Waiter) (int64, error) {
	l.mu.Lock()
	base := l.next
	rest := append([]byte(nil), batches...)
	for len(rest) > 0 {
		b, r, err := record.Next(rest)
		if err != nil {
			l.mu.Unlock()
			return 0, err
		}
		b.SetBaseOffset(l.next)
		b.SetLeaderEpoch(1)
		l.next = b.NextOffset()
		l.batches = append(l.batches, b)
		rest = r
	}
	stable, fn := l.next, l.onStable
	l.mu.Unlock()
	go func() {
		if fn != nil {
			fn(stable)
		}
		if w != nil {
			w.Committed(nil)
		}
	}()
	return base, nil
}

// Read reads whole batches from the one that holds offset.
func (l *Log) Read(offset int64, max int, buf []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset < l.start || offset > l.next {
		return buf, ErrOffsetOutOfRange
	}
	n := len(buf)
	for _, b := range l.batches {
		if b.NextOffset() <= offset {
			continue
		}
		if len(buf) > n && len(buf)-n+len(b) > max {
			break
		}
		buf = append(buf, b...)
	}
	return buf, nil
}

// ID is the log's id.
func (l *Log) ID() LogID { return l.id }

// Dir is the log's directory.
func (l *Log) Dir() string { return l.dir }

// Start is the first offset.
func (l *Log) Start() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.start }

// End is the next offset.
func (l *Log) End() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.next }

// Stable is the offset below which all can be read.
func (l *Log) Stable() int64 { return l.End() }

// OnStable sets what is called after Stable moved.
func (l *Log) OnStable(fn func(stable int64)) { l.onStable = fn }

// OffsetForTime finds the first record at or after ms; offset -1 if there is none.
func (l *Log) OffsetForTime(ms int64) (offset, timestamp int64, err error) { return -1, -1, nil }

// AdvanceStart moves Start up.
func (l *Log) AdvanceStart(offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = max(l.start, offset)
	return nil
}

// TruncateTo drops what is at or above offset.
func (l *Log) TruncateTo(offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.batches) > 0 && l.batches[len(l.batches)-1].NextOffset() > offset {
		l.batches = l.batches[:len(l.batches)-1]
	}
	l.next = offset
	return nil
}

// SkipTo makes the next append get at least this offset.
func (l *Log) SkipTo(offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = max(l.next, offset)
	return nil
}

// Retain removes closed segments.
func (l *Log) Retain(p Retention, now time.Time) (deletedBytes int64, err error) { return 0, nil }

// Clean rewrites closed segments.
func (l *Log) Clean(ctx context.Context, keep func(r *record.Record) bool) error { return nil }

// Compact keeps the last record of each key.
func (l *Log) Compact(ctx context.Context, minAge time.Duration, now time.Time) error { return nil }

// Bytes is the size of all segments.
func (l *Log) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(0)
	for _, b := range l.batches {
		n += int64(len(b))
	}
	return n
}

// Segments lists the segments.
func (l *Log) Segments() []SegmentInfo { return nil }

// Delete deletes the log.
func (l *Log) Delete() error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	delete(l.store.logs, l.id)
	return nil
}
