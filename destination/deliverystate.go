package destination

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// DeliveryStateName is the internal destination that holds delivery state.
const DeliveryStateName = "__delivery_state"

// DeliveryStateConfig is how its log is to be opened: small segments, because
// it is short and trimmed by whole segments, and acknowledgements may use the
// room that is reserved on a full disk (S4).
var DeliveryStateConfig = commitlog.Config{SegmentBytes: 4 << 20, Reserved: true}

// ErrDropped is returned when something is journaled for a cursor that was dropped.
var ErrDropped = errors.New("cursor was dropped")

// CursorID names a cursor. Subscription is "" for a queue's own.
type CursorID struct {
	Topic        [16]byte
	Partition    int32
	Subscription string
}

// String is topic/partition/subscription.
func (id CursorID) String() string {
	return fmt.Sprintf("%x/%d/%s", id.Topic, id.Partition, id.Subscription)
}

const cursorKeyBytes = 20 // of the fixed part of a key

func (id CursorID) key() []byte {
	key := append(make([]byte, 0, cursorKeyBytes+len(id.Subscription)), id.Topic[:]...)
	key = binary.BigEndian.AppendUint32(key, uint32(id.Partition))
	return append(key, id.Subscription...)
}

func parseCursorKey(key []byte) (id CursorID, ok bool) {
	if len(key) < cursorKeyBytes {
		return id, false
	}
	copy(id.Topic[:], key)
	id.Partition = int32(binary.BigEndian.Uint32(key[16:]))
	id.Subscription = string(key[cursorKeyBytes:])
	return id, true
}

const (
	// A cursor is written whole when its deltas since it was last written so
	// have grown beyond snapshotAfter and a multiple of its size. So a large
	// one does not cost much more than its changes, and a small one is read
	// back fast.
	snapshotAfter  = 32 << 10 // bytes
	snapshotFactor = 4
	// partBytes is how much of a snapshot goes into one record.
	partBytes = 256 << 10
	// trimAfter is how much is appended before the log is trimmed, if that is
	// more than twice the size of all snapshots, bytes.
	trimAfter = 8 << 20
)

// DeliveryState owns the internal log in which all cursors are journaled.
//
// It is used by many goroutines, for different cursors at the same time.
// Locks, in order: the mutex of the cursor's owner, cursorState.mu, the log's.
// DeliveryState.mu is a leaf: nothing is locked while it is held.
//
// One goroutine at a time, which Journal starts when enough was appended and
// Close waits for, trims the log.
type DeliveryState struct {
	store     *commitlog.Store
	log       *commitlog.Log
	now       func() time.Time
	partBytes int   // partBytes, less in tests
	trimAfter int64 // trimAfter, less in tests

	mu     sync.RWMutex // guards states, closed
	states map[CursorID]*cursorState
	closed bool

	appended atomic.Int64 // bytes since the last trim
	live     atomic.Int64 // bytes of the last snapshots of all cursors
	trimming atomic.Bool
	trims    sync.WaitGroup
	problems []error // of OpenDeliveryState
}

// cursorState is what is known about one cursor's records in the log.
type cursorState struct {
	owner *DeliveryState
	id    CursorID
	key   []byte
	first int64 // none of its records in the log is before

	// snapshotAt is the offset of the newest snapshot that is on disk; what is
	// before is not needed. -1 before the first.
	snapshotAt atomic.Int64
	// stale asks for a snapshot: an append has failed, so a delta is missing,
	// or the trim wants to get rid of the old one.
	stale atomic.Bool
	// refused is why an append has failed that no snapshot has made up for
	// yet. The committer has it to itself.
	refused error

	// mu keeps the order of this cursor's records that of its changes. It is
	// held while records are copied into the log's buffer, never for a sync.
	mu            sync.Mutex
	cursor        *Cursor
	last          int64 // offset of the last record
	snapshotBytes int64
	deltaBytes    int64 // appended since the last snapshot
	dropped       bool
}

// encoder is what Journal needs to write one record.
type encoder struct {
	builder record.Builder
	value   []byte
	part    []byte
	writes  []commitlog.Write
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// free puts e back for reuse, unless a large snapshot went through it.
func (e *encoder) free() {
	if cap(e.value) <= 2*partBytes {
		encoders.Put(e)
	}
}

// outcome is told how an append ended, and tells who waits for it.
type outcome struct {
	state      *cursorState
	snapshotAt int64  // of the snapshot that this append completes, or -1
	whole      *whole // of a snapshot that is appended in parts, else nil
	waiter     commitlog.Waiter
	before     bool // it has no change of its own: it answers for those before
}

// whole is shared by the parts of a snapshot, which are nothing if one of them
// found no room. The committer has it to itself.
type whole struct{ err error }

var outcomes = sync.Pool{New: func() any { return new(outcome) }}

// Committed is called by the log.
func (o *outcome) Committed(err error) {
	copied := *o
	*o = outcome{}
	outcomes.Put(o)
	err = copied.settle(err)
	if copied.waiter != nil {
		copied.waiter.Committed(err)
	}
}

// settle notes how the append has ended, and returns what the waiter is told.
func (o *outcome) settle(err error) error {
	if o.whole != nil {
		o.whole.err = cmp.Or(o.whole.err, err)
		err = o.whole.err
	}
	switch state := o.state; {
	case err != nil:
		state.refused = err
		state.stale.Store(true)
	case o.snapshotAt >= 0:
		state.refused = nil
		state.snapshotAt.Store(o.snapshotAt)
	case o.before:
		err = state.refused
	}
	return err
}

// Cursor returns the cursor that was journaled last as id, or read back. There
// is one for each id: whoever takes it is its owner until it is done with it.
func (s *DeliveryState) Cursor(id CursorID) (*Cursor, bool) {
	st := s.state(id)
	if st == nil {
		return nil, false
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.cursor, true
}

// Cursors are the ids of all cursors there are, in no order.
func (s *DeliveryState) Cursors() iter.Seq[CursorID] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Values(slices.Collect(maps.Keys(s.states)))
}

// Problems are what was damaged when the log was read: cursors that could not
// be read back are not there, and their messages will be delivered again.
func (s *DeliveryState) Problems() []error { return s.problems }

func (s *DeliveryState) state(id CursorID) *cursorState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.states[id]
}

// makeState is state, made if it is not there.
func (s *DeliveryState) makeState(id CursorID) *cursorState {
	if st := s.state(id); st != nil {
		return st
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.states[id]; st != nil {
		return st
	}
	st := &cursorState{owner: s, id: id, key: id.key(), first: s.log.Stable(), last: -1}
	st.snapshotAt.Store(-1)
	st.stale.Store(true)
	s.states[id] = st
	return st
}

// Journal writes what has changed in c since it was called last. The owner's
// lock on c is held. It returns when the records are in the log's buffer; w,
// if not nil, is told when they are on disk, and only then a settlement may be
// confirmed. If also is given, these batches and the changes are on disk
// together or not at all, and the Base of each is set.
//
// If it fails, now or by way of w, the changes stay made in c, but not on
// disk: the next Journal writes c whole. w is not called if it fails now.
func (s *DeliveryState) Journal(id CursorID, c *Cursor, w commitlog.Waiter, also ...commitlog.Write) error {
	st := s.makeState(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.dropped {
		return fmt.Errorf("journal cursor %s: %w", id, ErrDropped)
	}
	st.cursor = c
	e := encoders.Get().(*encoder)
	defer e.free()
	switch {
	case st.wantsSnapshot(c):
		// Before the append: a failure from here on must ask again.
		st.stale.Store(false)
		e.value = c.AppendSnapshot(e.value[:0])
		c.forgetDelta()
		return s.result(st, st.writeSnapshot(e, w, also))
	case !c.Dirty():
		if w == nil && len(also) == 0 {
			return nil
		}
		// w waits for what was journaled before.
		e.value = c.appendHeader(e.value[:0])
		return s.result(st, st.writeDelta(e, outcome{waiter: w, before: true}, also))
	default:
		e.value = c.TakeDelta(e.value[:0])
		return s.result(st, st.writeDelta(e, outcome{waiter: w}, also))
	}
}

// Settle writes c whole if it has to be, as Journal, and nothing else: what is
// journaled next is a delta then.
func (s *DeliveryState) Settle(id CursorID, c *Cursor) error {
	st := s.makeState(id)
	st.mu.Lock()
	wanted := st.wantsSnapshot(c)
	st.mu.Unlock()
	if !wanted {
		return nil
	}
	return s.Journal(id, c, nil)
}

// wantsSnapshot says whether c is to be written whole. st.mu is held.
func (st *cursorState) wantsSnapshot(c *Cursor) bool {
	return st.stale.Load() || c.delta.overflow || st.deltaBytes > snapshotAfter+snapshotFactor*st.snapshotBytes
}

func (s *DeliveryState) result(st *cursorState, err error) error {
	if err != nil {
		st.stale.Store(true)
		return fmt.Errorf("journal cursor %s: %w", st.id, err)
	}
	s.maybeTrim()
	return nil
}

// Drop forgets a cursor, on disk a little later. The owner is done with it.
func (s *DeliveryState) Drop(id CursorID) error {
	st := s.state(id)
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.dropped {
		return nil
	}
	e := encoders.Get().(*encoder)
	defer e.free()
	if _, err := st.append(e, nil, outcome{snapshotAt: -1}, nil); err != nil {
		return fmt.Errorf("drop cursor %s: %w", id, err)
	}
	st.dropped = true
	s.live.Add(-st.snapshotBytes)
	s.mu.Lock()
	delete(s.states, id)
	s.mu.Unlock()
	return nil
}

// Close waits for the trim that is under way, if any. The log stays open.
func (s *DeliveryState) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.trims.Wait()
	return nil
}

// writeDelta appends e.value as a delta. st.mu is held.
func (st *cursorState) writeDelta(e *encoder, o outcome, also []commitlog.Write) error {
	o.snapshotAt = -1
	n, err := st.append(e, e.value, o, also)
	st.deltaBytes += n
	return err
}

// writeSnapshot appends e.value as a snapshot, in parts if it is long. With
// also, all parts are in one commit, which bounds them: what is longer fails,
// and the next snapshot without also helps. st.mu is held.
func (st *cursorState) writeSnapshot(e *encoder, w commitlog.Waiter, also []commitlog.Write) error {
	// The offset of the first part is not known before it is appended, and the
	// committer may be faster than we are after. Stable is not above it; End
	// may be, if what is pending finds no room and gives its offsets back.
	at := st.owner.log.Stable()
	size, rest, limit := int64(len(e.value)), e.value, st.owner.partBytes
	parts := (len(rest) + limit - 1) / limit
	var shared *whole
	if parts > 1 {
		shared = new(whole)
	}
	for i := range parts - 1 {
		e.part = appendPart(e.part[:0], i, parts, rest[:limit])
		rest = rest[limit:]
		if len(also) > 0 {
			e.writes = append(e.writes, commitlog.Write{Log: st.owner.log, Batches: slices.Clone(st.batch(e, e.part))})
		} else if _, err := st.append(e, e.part, outcome{snapshotAt: -1, whole: shared}, nil); err != nil {
			return err
		}
	}
	if parts > 1 {
		e.part = appendPart(e.part[:0], parts-1, parts, rest)
		rest = e.part
	}
	if _, err := st.append(e, rest, outcome{snapshotAt: at, whole: shared, waiter: w}, also); err != nil {
		return err
	}
	st.owner.live.Add(size - st.snapshotBytes)
	st.snapshotBytes, st.deltaBytes = size, 0
	return nil
}

// batch is one record with value, in e's memory.
func (st *cursorState) batch(e *encoder, value []byte) []byte {
	e.builder.Reset()
	e.builder.Append(st.owner.now().UnixMilli(), st.key, value, nil)
	return e.builder.Batch()
}

// append appends one record with value, nil to drop the cursor, and says how
// many bytes that took. told is told how it ended. With also, what is in
// e.writes goes before it. st.mu is held.
func (st *cursorState) append(e *encoder, value []byte, told outcome, also []commitlog.Write) (int64, error) {
	s := st.owner
	batch := st.batch(e, value)
	o := outcomes.Get().(*outcome)
	*o = told
	o.state = st
	var err error
	var base int64
	if len(also) == 0 {
		base, err = s.log.Append(batch, o)
	} else {
		parts := len(e.writes)
		e.writes = append(append(e.writes, also...), commitlog.Write{Log: s.log, Batches: batch})
		err = s.store.Commit(e.writes, o)
		base = e.writes[parts+len(also)].Base
		for i := range also {
			also[i].Base = e.writes[parts+i].Base
		}
		clear(e.writes) // keep nobody's batches alive
		e.writes = e.writes[:0]
	}
	if err != nil {
		return 0, err
	}
	st.last = base
	s.appended.Add(int64(len(batch)))
	return int64(len(batch)), nil
}

// appendPart appends part number of parts of a snapshot to dst.
func appendPart(dst []byte, number, parts int, piece []byte) []byte {
	dst = append(dst, kindPart, formatVersion)
	dst = binary.AppendUvarint(dst, uint64(number))
	dst = binary.AppendUvarint(dst, uint64(parts))
	return append(dst, piece...)
}
