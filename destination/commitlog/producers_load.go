package commitlog

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"slices"
	"sort"

	"github.com/polylog-mq/polylog/destination/record"
)

// Format of a snapshot: Kafka's ProducerStateManager.
const (
	snapshotExtension = ".snapshot"
	snapshotVersion   = 1
	snapshotEntry     = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
)

// historyBytes is how much is read in front of a snapshot, for the batches before each producer's last one: a snapshot does
// not have them, and a client that was cut off may send as many as five again.
const historyBytes = 1 << 20

// withProducers calls f with the state of the producers, under Log.files. Where that has to be read first, no lock is held
// over the reading of batches.
func (l *Log) withProducers(f func(p *producers)) error {
	if err := l.ensureFiles(); err != nil {
		return err
	}
	for {
		l.files.Lock()
		if p := l.known(); p != nil {
			f(p)
			l.files.Unlock()
			return nil
		}
		segments, end, cuts := l.segments, l.stable.Load(), l.cuts
		l.files.Unlock()
		p, err := l.readProducers(segments, end)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return err
		}
		if err == nil {
			err = l.installProducers(p, cuts)
		}
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || l.unchanged(segments)) {
			return err
		}
	}
}

// warmProducers reads the state before a checkpoint, which keeps it: so that whoever needs it later need not read much.
// Without a snapshot, in a log of an earlier version or of another broker, all of it would be read, for which a checkpoint
// cannot wait.
func (l *Log) warmProducers() error {
	if !l.produced.Load() || !l.store.started {
		return nil
	}
	l.files.RLock()
	known := l.aside.producers != nil
	l.files.RUnlock()
	if known {
		return nil
	}
	if offsets, err := l.snapshots(); err != nil || len(offsets) == 0 {
		return err
	}
	return l.withProducers(func(*producers) {})
}

// known is the state of the producers if it is in memory, or if there is none. files is held.
func (l *Log) known() *producers {
	if l.aside.producers == nil && !l.produced.Load() {
		l.aside.producers = newProducers()
	}
	return l.aside.producers
}

func (l *Log) unchanged(segments []*segment) bool {
	l.files.RLock()
	defer l.files.RUnlock()
	return slices.Equal(l.segments, segments)
}

// installProducers makes p the log's, with what was written while it was read.
func (l *Log) installProducers(p *producers, cuts int) error {
	l.files.Lock()
	defer l.files.Unlock()
	if l.aside.producers != nil || l.cuts != cuts {
		return nil
	}
	for i, s := range l.segments {
		if i+1 < len(l.segments) && l.segments[i+1].base <= p.end || s.base >= l.aside.observed {
			continue
		}
		at, err := l.before(s, p.end, 0)
		if err == nil {
			err = l.replayProducers(p, s, at, p.end, l.aside.observed)
		}
		if err != nil {
			return err
		}
	}
	p.end = max(p.end, l.aside.observed)
	l.aside.producers = p
	if !p.any {
		l.produced.Store(false)
	}
	return nil
}

// loadProducers reads the state at end when a batch comes that nobody has asked for before. files is held.
func (l *Log) loadProducers(end int64) error {
	if l.known() != nil {
		return nil
	}
	p, from, err := l.readSnapshot(l.segments, end)
	if err == nil {
		err = l.replayFrom(p, l.segments, from, end, l.before)
	}
	if err == nil {
		l.aside.producers = p
	}
	return err
}

// trackProducer takes in a batch with a producer id that was written. files is held.
func (l *Log) trackProducer(b record.Batch) error {
	if err := l.loadProducers(b.BaseOffset()); err != nil {
		return err
	}
	l.produced.Store(true)
	p := l.aside.producers
	e, aborted := p.add(b, l.Now())
	if x := l.indexed.txns; aborted && x != nil {
		x.list = append(x.list, e)
	}
	if len(p.ended) > endedKept {
		p.unstable(l.stable.Load())
	}
	return nil
}

// endedKept is how many ended transactions are remembered though perhaps nobody needs them.
const endedKept = 64

// readProducers is loadProducers without the lock.
func (l *Log) readProducers(segments []*segment, end int64) (*producers, error) {
	p, from, err := l.readSnapshot(segments, end)
	if err != nil {
		return nil, err
	}
	return p, l.replayFrom(p, segments, from, end, func(s *segment, offset, back int64) (stretch, error) {
		l.files.RLock()
		defer l.files.RUnlock()
		return l.before(s, offset, back)
	})
}

// readSnapshot reads the newest snapshot at or below end that can be read. One from before the first segment is of no use:
// what came between is not there any more.
func (l *Log) readSnapshot(segments []*segment, end int64) (p *producers, from int64, err error) {
	p = newProducers()
	offsets, err := l.snapshots()
	if err != nil {
		return nil, 0, err
	}
	for _, at := range slices.Backward(offsets) {
		if at > end || len(segments) > 0 && at < segments[0].base {
			continue
		}
		data, err := readFile(l.store.fs, segmentName(l.dir, at, snapshotExtension))
		if err != nil {
			return nil, 0, err
		}
		if list, ok := parseSnapshot(data); ok {
			for _, s := range list {
				p.all[s.ID] = &remembered{Producer: s}
				if s.FirstOffset >= 0 {
					p.open = append(p.open, transaction{producer: s.ID, first: s.FirstOffset})
				}
			}
			slices.SortFunc(p.open, func(a, b transaction) int { return cmp.Compare(a.first, b.first) })
			p.any = true // or there was one that has expired
			p.expire(l.Now() - l.store.options.ProducerExpiration.Milliseconds())
			p.dirty = false
			p.end = at
			return p, at, nil
		}
	}
	return p, 0, nil
}

// replayFrom adds the batches from one offset to another, and what lies just before them.
func (l *Log) replayFrom(p *producers, segments []*segment, from, end int64, before func(s *segment, offset, back int64) (stretch, error)) error {
	for i, s := range segments {
		if i+1 < len(segments) && segments[i+1].base < from || s.base >= end {
			continue
		}
		at, err := before(s, from, historyBytes)
		if err == nil {
			err = l.replayProducers(p, s, at, from, end)
		}
		if err != nil {
			return err
		}
	}
	p.end = max(p.end, end)
	return nil
}

// stretch is bytes of a segment, from where a batch begins.
type stretch struct{ from, to int64 }

// before is what a segment has from back bytes before an offset on, or more. files is held.
func (l *Log) before(s *segment, offset, back int64) (stretch, error) {
	position, err := l.positionBefore(s, offset, back)
	return stretch{position, s.size}, err
}

func (l *Log) positionBefore(s *segment, offset, back int64) (int64, error) {
	if offset <= s.base {
		return 0, nil
	}
	var list []indexEntry
	if s == l.indexed {
		list = l.indexes.offsets
	} else {
		var err error
		if list, err = readWhole(l.store.cache, s, kindIndex, func(p []byte) []indexEntry { l, _ := parseIndex(p, s.size); return l }); err != nil {
			return 0, err
		}
	}
	n := sort.Search(len(list), func(i int) bool { return s.base+int64(list[i].relative) > offset })
	if n == 0 {
		return 0, nil
	}
	at := int64(list[n-1].position) - back
	n = sort.Search(n, func(i int) bool { return int64(list[i].position) > at })
	if n == 0 {
		return 0, nil
	}
	e := list[n-1]
	h, err := l.store.cache.acquire(s, kindLog, false)
	if err != nil {
		return 0, err
	}
	defer l.store.cache.release(h)
	w := &walk{file: h, position: int64(e.position), limit: s.size}
	if !w.next() || w.batch.next-1-s.base != int64(e.relative) {
		return 0, nil // the index is stale
	}
	return int64(e.position), nil
}

// replayProducers reads a segment's batches up to an offset, adds those at or above from, and remembers
// those below.
func (l *Log) replayProducers(p *producers, s *segment, at stretch, from, end int64) error {
	now := l.Now()
	return l.eachProduced(s, at, end, func(b record.Batch) {
		if b.BaseOffset() < from {
			p.remember(b)
		} else {
			p.add(b, now)
		}
	})
}

// eachProduced calls visit with the batches up to an offset that have a producer id: the header, or the whole if it is a
// control batch. Where the segment is damaged, it ends.
func (l *Log) eachProduced(s *segment, at stretch, end int64, visit func(b record.Batch)) error {
	h, err := l.store.cache.acquire(s, kindLog, false)
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	w := &walk{file: h, position: at.from, limit: at.to, buf: make([]byte, 0, walkBytes)}
	for w.next() && w.batch.base < end {
		next := w.position
		w.position = w.at
		b, err := w.bytes(record.HeaderSize)
		if err == nil && record.Batch(b).IsControl() {
			b, err = w.bytes(w.batch.size)
		}
		w.position = next
		if err != nil {
			break // damaged
		}
		if record.Batch(b).ProducerID() >= 0 {
			visit(b)
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

// dropSnapshots removes those above an offset: they tell of batches that are not there.
func (l *Log) dropSnapshots(end int64) error {
	if !l.produced.Load() && !l.memory {
		return nil
	}
	l.aside.snapshots = nil
	offsets, err := l.snapshots()
	for _, at := range offsets {
		if at > end {
			err = errors.Join(err, l.store.fs.Remove(segmentName(l.dir, at, snapshotExtension)))
		}
	}
	return err
}

// keptSnapshots is how many stay, beside those at the beginning of segments, of those that a crash cannot make wrong: they
// are not synced, so the newest may be torn.
const keptSnapshots = 2

// saveProducers writes a snapshot at an offset, which the state is at, or, if that is 0, where it is, and removes older
// ones. It does nothing if there was never a producer, or if always is not set and nothing has changed. files is held.
func (l *Log) saveProducers(at int64, always bool) error {
	p := l.known()
	if p == nil || !p.any && !l.memory {
		return nil
	}
	p.expire(l.Now() - l.store.options.ProducerExpiration.Milliseconds())
	if at == 0 {
		at = max(p.end, l.aside.observed)
	}
	if !p.dirty && !always || at == 0 {
		return nil
	}
	if err := replaceFile(l.store.fs, segmentName(l.dir, at, snapshotExtension), p.appendTo(nil), false); err != nil {
		return err
	}
	p.dirty = false
	if l.aside.snapshots == nil {
		var err error
		if l.aside.snapshots, err = l.snapshots(); err != nil {
			return err
		}
	} else if n := len(l.aside.snapshots); l.aside.snapshots[n-1] < at {
		l.aside.snapshots = append(l.aside.snapshots, at)
	}
	return l.trimSnapshots()
}

// keepProducers makes the snapshot at the beginning of the first segment that stays durable, before those below an offset are
// removed: after that there is nothing else to tell of the producers in them. admin is held.
func (l *Log) keepProducers(offset int64) error {
	if !l.produced.Load() || l.memory {
		return nil
	}
	if err := l.ensureFiles(); err != nil {
		return err
	}
	l.files.RLock()
	n := 0
	for l.removable(n, offset) {
		n++
	}
	segments := l.segments
	l.files.RUnlock()
	if n == 0 {
		return nil
	}
	name := segmentName(l.dir, segments[n].base, snapshotExtension)
	data, err := readFile(l.store.fs, name)
	if _, ok := parseSnapshot(data); err != nil || !ok {
		p, err := l.readProducers(segments, segments[n].base)
		if err != nil {
			return err
		}
		data = p.appendTo(nil)
	}
	err = replaceFile(l.store.fs, name, data, true)
	if err == nil {
		err = l.store.fs.SyncDir(l.dir)
	}
	var failed *syncError
	if errors.As(err, &failed) {
		l.store.fail("sync "+name, err)
		return l.store.Err()
	}
	return err
}

// trimSnapshots removes those that nobody needs. files is held.
func (l *Log) trimSnapshots() (err error) {
	offsets := l.aside.snapshots
	n := len(offsets)
	if !l.memory { // the end of the last checkpoint is where a crash may lead back to
		n = sort.Search(n, func(i int) bool { return offsets[i] > l.durable.Load() })
	}
	n = max(n-keptSnapshots, 0)
	kept := offsets[:0]
	for i, at := range offsets {
		// From the beginning of a segment an index of aborted transactions is made again.
		_, base := slices.BinarySearchFunc(l.segments, at, func(s *segment, at int64) int { return cmp.Compare(s.base, at) })
		if i >= n || base || err != nil {
			kept = append(kept, at)
			continue
		}
		err = l.store.fs.Remove(segmentName(l.dir, at, snapshotExtension))
	}
	l.aside.snapshots = kept
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
		dst = binary.BigEndian.AppendUint64(dst, uint64(max(s.Timestamp, s.seen)))
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
