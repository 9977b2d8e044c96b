package destination

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

const (
	// readBytes is how much of the log is read at a time.
	readBytes = 1 << 20
	// maxBatchBytes bounds what a batch of ours may grow to; it is not compressed.
	maxBatchBytes = 64 << 20
)

// OpenDeliveryState reads log from its start and builds all cursors again.
// What is damaged is left out and named by Problems; what a newer broker has
// written is refused, ErrNewerFormat.
func OpenDeliveryState(store *commitlog.Store, log *commitlog.Log, now func() time.Time) (*DeliveryState, error) {
	s := &DeliveryState{
		store: store, log: log, now: now, states: map[CursorID]*cursorState{},
		partBytes: partBytes, trimAfter: trimAfter,
	}
	r := replay{cursors: map[CursorID]*replayed{}}
	if err := r.read(log, log.Start(), log.End()); err != nil {
		return nil, fmt.Errorf("read %s: %w", DeliveryStateName, err)
	}
	s.problems = r.problems
	for id, found := range r.cursors {
		if found.cursor == nil {
			continue
		}
		found.cursor.BeginEpoch(store.Epoch())
		st := &cursorState{
			owner: s, id: id, key: id.key(), first: found.snapshotAt, cursor: found.cursor, last: found.last,
			snapshotBytes: found.snapshotBytes, deltaBytes: found.deltaBytes,
		}
		st.snapshotAt.Store(found.snapshotAt)
		s.states[id] = st
		s.live.Add(st.snapshotBytes)
	}
	s.appended.Store(log.Bytes())
	return s, nil
}

// replay builds cursors from the records of the log.
type replay struct {
	cursors  map[CursorID]*replayed
	wanted   func(CursorID) bool // nil wants all
	reader   record.Reader
	problems []error
}

// replayed is one cursor as far as it has been read.
type replayed struct {
	cursor        *Cursor // nil until its snapshot has been read
	snapshotAt    int64
	last          int64
	snapshotBytes int64
	deltaBytes    int64
	parts         []byte // of a snapshot that is not complete yet
	partsAt       int64
	nextPart      uint64
}

// read reads [from, to) of log.
func (r *replay) read(log *commitlog.Log, from, to int64) error {
	var buf []byte
	for from < to {
		var err error
		buf, err = log.Read(from, readBytes, buf[:0])
		var damage *commitlog.DamagedError
		if errors.As(err, &damage) {
			// Reported once; what is behind it is read as if it followed.
			r.problems = append(r.problems, err)
			if len(buf) == 0 {
				continue
			}
		} else if err != nil {
			return err
		}
		if len(buf) == 0 {
			return nil
		}
		if from, err = r.batches(buf, from, to); err != nil {
			return err
		}
	}
	return nil
}

// batches reads what of buf is in [from, to) and returns where to go on.
func (r *replay) batches(buf []byte, from, to int64) (next int64, err error) {
	for len(buf) > 0 {
		var b record.Batch
		if b, buf, err = record.Next(buf); err != nil {
			return from, err
		}
		if err := r.reader.Reset(b, maxBatchBytes); err != nil {
			return from, err
		}
		for r.reader.Next() {
			rec := r.reader.Record()
			if rec.Offset < from || rec.Offset >= to {
				continue
			}
			if err := r.record(rec, int64(len(b))); err != nil {
				return from, err
			}
		}
		if err := r.reader.Err(); err != nil {
			return from, err
		}
		from = max(from, b.NextOffset())
	}
	return from, nil
}

// record reads one record. Only what forbids to go on is an error.
func (r *replay) record(rec *record.Record, size int64) error {
	id, ok := parseCursorKey(rec.Key)
	if !ok {
		return r.problem(rec, errors.New("key is too short"))
	}
	if r.wanted != nil && !r.wanted(id) {
		return nil
	}
	if rec.Value == nil {
		delete(r.cursors, id)
		return nil
	}
	if len(rec.Value) < 2 {
		return r.problem(rec, errors.New("value is too short"))
	}
	found := r.cursors[id]
	if found == nil {
		found = new(replayed)
		r.cursors[id] = found
	}
	found.last = rec.Offset
	err := found.apply(rec, size)
	if errors.Is(err, ErrNewerFormat) {
		return fmt.Errorf("cursor %s at offset %d: %w", id, rec.Offset, err)
	}
	if err != nil {
		*found = replayed{}
		return r.problem(rec, err)
	}
	return nil
}

func (r *replay) problem(rec *record.Record, err error) error {
	r.problems = append(r.problems, fmt.Errorf("%s at offset %d: %w", DeliveryStateName, rec.Offset, err))
	return nil
}

func (f *replayed) apply(rec *record.Record, size int64) (err error) {
	kind := rec.Value[0]
	if kind != kindPart {
		// A snapshot whose parts were not all written does not count.
		f.parts, f.nextPart = nil, 0
	}
	switch kind {
	case kindPart:
		return f.part(rec)
	case kindSnapshot:
		return f.snapshot(rec.Value, rec.Offset)
	}
	if f.cursor == nil {
		// The snapshot is further on: the log begins at the oldest that is
		// needed, in the midst of others' deltas.
		return nil
	}
	f.deltaBytes += size
	return f.cursor.Apply(rec.Value)
}

func (f *replayed) snapshot(value []byte, at int64) (err error) {
	if f.cursor, err = RestoreCursor(value); err != nil {
		return err
	}
	f.snapshotAt, f.snapshotBytes, f.deltaBytes = at, int64(len(value)), 0
	return nil
}

// part collects a part of a snapshot. Parts that do not follow each other are
// what a failed append has left; the log may begin with the last of them.
func (f *replayed) part(rec *record.Record) error {
	if version := rec.Value[1]; version > formatVersion {
		return fmt.Errorf("%w: version %d, this broker knows %d", ErrNewerFormat, version, formatVersion)
	}
	value := rec.Value[2:]
	number, n := binary.Uvarint(value)
	if n <= 0 {
		return fmt.Errorf("%w: bad part", ErrDeliveryState)
	}
	value = value[n:]
	parts, n := binary.Uvarint(value)
	if n <= 0 || number >= parts {
		return fmt.Errorf("%w: bad part", ErrDeliveryState)
	}
	value = value[n:]
	switch {
	case number == 0:
		f.parts, f.partsAt = f.parts[:0], rec.Offset
	case number != f.nextPart:
		f.parts, f.nextPart = nil, 0
		return nil
	}
	f.parts = append(f.parts, value...)
	f.nextPart = number + 1
	if f.nextPart < parts {
		return nil
	}
	whole := f.parts
	f.parts, f.nextPart = nil, 0
	return f.snapshot(whole, f.partsAt)
}
