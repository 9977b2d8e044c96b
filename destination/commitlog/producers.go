package commitlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"slices"

	"github.com/polylog-mq/polylog/destination/record"
)

// Producer is what the log knows of an idempotent or transactional producer (KIP-98).
type Producer struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: none
	LastOffset       int64
	OffsetDelta      int32 // of the last batch: its last offset less its first
	Timestamp        int64 // ms
	CoordinatorEpoch int32 // of the last end marker; -1: none
	FirstOffset      int64 // of the open transaction; -1: none
}

// producers is the state of all producers at an offset.
type producers struct {
	all   map[int64]Producer
	dirty bool // a snapshot at the end would tell something new
}

const (
	snapshotExtension = ".snapshot"
	snapshotVersion   = 1 // Kafka's ProducerStateManager
	snapshotEntry     = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
)

// Producers lists the producers of the log up to Stable, by id. The first call after a crash may read one segment.
func (l *Log) Producers() ([]Producer, error) {
	if err := l.ensureFiles(); err != nil {
		return nil, err
	}
	l.files.Lock()
	defer l.files.Unlock()
	if l.aside.producers == nil {
		if err := l.loadProducers(l.stable.Load()); err != nil {
			return nil, err
		}
	}
	list := slices.Collect(maps.Values(l.aside.producers.all))
	slices.SortFunc(list, func(a, b Producer) int { return int(max(-1, min(1, a.ID-b.ID))) })
	return list, nil
}

// add takes in a batch with a producer id.
func (p *producers) add(b record.Batch) {
	id := b.ProducerID()
	s, known := p.all[id]
	if !known {
		s = Producer{ID: id, LastSequence: -1, CoordinatorEpoch: -1, FirstOffset: -1}
	}
	s.Epoch, s.Timestamp = b.ProducerEpoch(), b.MaxTimestamp()
	if b.IsControl() {
		s.FirstOffset = -1
		if epoch, ok := coordinatorEpoch(b); ok {
			s.CoordinatorEpoch = epoch
		}
	} else {
		s.LastSequence = b.BaseSequence() + b.LastOffsetDelta()
		if s.LastSequence < 0 && b.BaseSequence() >= 0 { // sequences wrap around to 0
			s.LastSequence = int32(uint32(s.LastSequence) & 0x7fffffff)
		}
		s.LastOffset, s.OffsetDelta = b.LastOffset(), b.LastOffsetDelta()
		if b.IsTransactional() && s.FirstOffset < 0 {
			s.FirstOffset = b.BaseOffset()
		}
	}
	p.all[id] = s
	p.dirty = true
}

// coordinatorEpoch reads an end marker: key version and type, value version and epoch (KIP-98).
func coordinatorEpoch(b record.Batch) (int32, bool) {
	var r record.Reader
	if r.Reset(b, len(b)) != nil || !r.Next() {
		return 0, false
	}
	v := r.Record().Value
	if len(v) < 6 {
		return 0, false
	}
	return int32(binary.BigEndian.Uint32(v[2:])), true
}

// loadProducers reads the newest snapshot at or below end and the batches from there to end. files is held.
func (l *Log) loadProducers(end int64) error {
	p := &producers{all: map[int64]Producer{}}
	from := int64(0)
	offsets, err := l.snapshots()
	if err != nil {
		return err
	}
	for _, at := range slices.Backward(offsets) {
		if at > end {
			continue
		}
		data, err := readFile(l.store.fs, segmentName(l.dir, at, snapshotExtension))
		if err != nil {
			return err
		}
		if list, ok := parseSnapshot(data); ok {
			for _, s := range list {
				p.all[s.ID] = s
			}
			from = at
			break
		}
	}
	for i, s := range l.segments {
		if i+1 < len(l.segments) && l.segments[i+1].base <= from {
			continue
		}
		if err := l.replayProducers(p, s, from, end); err != nil {
			return err
		}
	}
	l.aside.producers = p
	return nil
}

// replayProducers adds a segment's batches from one offset to another.
func (l *Log) replayProducers(p *producers, s *segment, from, end int64) error {
	h, err := l.store.cache.acquire(s, kindLog, false)
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	w := &walk{file: h, limit: s.size, buf: make([]byte, 0, walkBytes)}
	for w.next() && w.batch.base < end {
		if w.batch.base < from {
			continue
		}
		position := w.position
		w.position = w.at
		b, err := w.bytes(w.batch.size)
		w.position = position
		if err != nil {
			break // planned, and not written yet, or damaged
		}
		if record.Batch(b).ProducerID() >= 0 {
			p.add(b)
		}
	}
	return ignoreNoBatch(w.err)
}

// snapshots lists the offsets of the log's snapshots, ascending.
func (l *Log) snapshots() ([]int64, error) {
	entries, err := l.store.fs.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var offsets []int64
	for _, e := range entries {
		if at, ok := parseSegmentName(e.Name, snapshotExtension); ok {
			offsets = append(offsets, at)
		}
	}
	slices.Sort(offsets)
	return offsets, nil
}

// keptSnapshots is how many snapshots stay: the newest valid one is read, and the newest is not synced.
const keptSnapshots = 2

// saveProducers writes a snapshot at an offset, if there is any producer, and removes older ones. files is held.
func (l *Log) saveProducers(at int64) error {
	p := l.aside.producers
	if p == nil || len(p.all) == 0 || !p.dirty {
		return nil
	}
	if err := replaceFile(l.store.fs, segmentName(l.dir, at, snapshotExtension), p.appendTo(nil), false); err != nil {
		return err
	}
	p.dirty = false
	offsets, err := l.snapshots()
	for i := 0; err == nil && i < len(offsets)-keptSnapshots; i++ {
		err = l.store.fs.Remove(segmentName(l.dir, offsets[i], snapshotExtension))
	}
	return err
}

// appendTo writes Kafka's format: version, CRC-32C of what follows it, and the producers.
func (p *producers) appendTo(dst []byte) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, snapshotVersion)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.all)))
	for _, id := range slices.Sorted(maps.Keys(p.all)) {
		s := p.all[id]
		dst = binary.BigEndian.AppendUint64(dst, uint64(s.ID))
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.Epoch))
		dst = binary.BigEndian.AppendUint32(dst, uint32(s.LastSequence))
		dst = binary.BigEndian.AppendUint64(dst, uint64(s.LastOffset))
		dst = binary.BigEndian.AppendUint32(dst, uint32(s.OffsetDelta))
		dst = binary.BigEndian.AppendUint64(dst, uint64(s.Timestamp))
		dst = binary.BigEndian.AppendUint32(dst, uint32(s.CoordinatorEpoch))
		dst = binary.BigEndian.AppendUint64(dst, uint64(s.FirstOffset))
	}
	binary.BigEndian.PutUint32(dst[at+2:], crc32.Checksum(dst[at+6:], castagnoli))
	return dst
}

func parseSnapshot(p []byte) ([]Producer, bool) {
	if len(p) < 10 || binary.BigEndian.Uint16(p) != snapshotVersion ||
		binary.BigEndian.Uint32(p[2:]) != crc32.Checksum(p[6:], castagnoli) {
		return nil, false
	}
	count := int64(binary.BigEndian.Uint32(p[6:]))
	p = p[10:]
	if count*snapshotEntry != int64(len(p)) {
		return nil, false
	}
	list := make([]Producer, 0, count)
	for ; len(p) > 0; p = p[snapshotEntry:] {
		list = append(list, Producer{
			ID:               int64(binary.BigEndian.Uint64(p)),
			Epoch:            int16(binary.BigEndian.Uint16(p[8:])),
			LastSequence:     int32(binary.BigEndian.Uint32(p[10:])),
			LastOffset:       int64(binary.BigEndian.Uint64(p[14:])),
			OffsetDelta:      int32(binary.BigEndian.Uint32(p[22:])),
			Timestamp:        int64(binary.BigEndian.Uint64(p[26:])),
			CoordinatorEpoch: int32(binary.BigEndian.Uint32(p[34:])),
			FirstOffset:      int64(binary.BigEndian.Uint64(p[38:])),
		})
	}
	return list, true
}
