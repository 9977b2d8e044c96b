package commitlog

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"sort"
)

// indexInterval is the number of bytes between two entries of an index (Kafka's log.index.interval.bytes).
const indexInterval = 4096

const (
	indexEntryBytes = 8
	timeEntryBytes  = 12
)

// indexEntry says where a batch starts; relative is its last offset less the segment's base.
type indexEntry struct{ relative, position uint32 }

// timeEntry says that up to a last offset, timestamp is the largest.
type timeEntry struct {
	timestamp int64
	relative  uint32
}

// indexes are the two indexes of a segment, while it is active or is being rebuilt.
// Entries behind saved are not yet in the files. Guarded by Log.files.
type indexes struct {
	offsets      []indexEntry
	times        []timeEntry
	offsetsSaved int
	timesSaved   int
	since        int64 // bytes since the last entry
}

// add takes in the batch at position, as Kafka's LogSegment.append does.
func (x *indexes) add(s *segment, h batchHeader, position int64) {
	if h.maxTimestamp > s.maxTimestamp || s.maxTimestamp < 0 {
		s.maxTimestamp, s.maxOffset = h.maxTimestamp, h.next-1
	}
	if x.since >= indexInterval {
		x.offsets = append(x.offsets, indexEntry{relative: uint32(h.next - 1 - s.base), position: uint32(position)})
		x.addTime(s)
		x.since = 0
	}
	x.since += int64(h.size)
}

// addTime keeps timestamps ascending.
func (x *indexes) addTime(s *segment) {
	if s.maxTimestamp >= 0 && (len(x.times) == 0 || s.maxTimestamp > x.times[len(x.times)-1].timestamp) {
		x.times = append(x.times, timeEntry{timestamp: s.maxTimestamp, relative: uint32(s.maxOffset - s.base)})
	}
}

// cut forgets what lies at or behind a position, before the segment is truncated there.
func (x *indexes) cut(s *segment, position, next int64) {
	n := sort.Search(len(x.offsets), func(i int) bool { return int64(x.offsets[i].position) >= position })
	x.offsets, x.offsetsSaved = x.offsets[:n], min(x.offsetsSaved, n)
	n = sort.Search(len(x.times), func(i int) bool { return s.base+int64(x.times[i].relative) >= next })
	x.times, x.timesSaved = x.times[:n], min(x.timesSaved, n)
	x.since = position
	if n := len(x.offsets); n > 0 {
		x.since = position - int64(x.offsets[n-1].position)
	}
}

// find returns the position of the last entry at or below offset; 0 if there is none.
func (x *indexes) find(s *segment, offset int64) int64 {
	n := sort.Search(len(x.offsets), func(i int) bool { return s.base+int64(x.offsets[i].relative) > offset })
	if n == 0 {
		return 0
	}
	return int64(x.offsets[n-1].position)
}

// findTime returns the last offset that is known to be below ms; the segment's base if there is none.
func (x *indexes) findTime(s *segment, ms int64) int64 {
	n := sort.Search(len(x.times), func(i int) bool { return x.times[i].timestamp >= ms })
	if n == 0 {
		return s.base
	}
	return s.base + int64(x.times[n-1].relative)
}

func appendIndexEntries(dst []byte, list []indexEntry) []byte {
	for _, e := range list {
		dst = binary.BigEndian.AppendUint32(dst, e.relative)
		dst = binary.BigEndian.AppendUint32(dst, e.position)
	}
	return dst
}

func appendTimeEntries(dst []byte, list []timeEntry) []byte {
	for _, e := range list {
		dst = binary.BigEndian.AppendUint64(dst, uint64(e.timestamp))
		dst = binary.BigEndian.AppendUint32(dst, e.relative)
	}
	return dst
}

func decodeIndexEntry(p []byte) indexEntry {
	return indexEntry{binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])}
}

func decodeTimeEntry(p []byte) timeEntry {
	return timeEntry{int64(binary.BigEndian.Uint64(p)), binary.BigEndian.Uint32(p[8:])}
}

// parseIndex decodes entries up to the first that cannot belong to a segment of that size; ok is false if there was one.
// Zeros that Kafka has preallocated, or that a crash has left, are such entries.
func parseIndex(p []byte, size int64) (list []indexEntry, ok bool) {
	for ; len(p) >= indexEntryBytes; p = p[indexEntryBytes:] {
		e := decodeIndexEntry(p)
		if int64(e.position) >= size || e.relative > math.MaxInt32 {
			return list, false
		}
		if n := len(list); n > 0 && (e.relative <= list[n-1].relative || e.position <= list[n-1].position) {
			return list, false
		}
		list = append(list, e)
	}
	return list, len(p) == 0
}

func parseTimeIndex(p []byte) (list []timeEntry, ok bool) {
	for ; len(p) >= timeEntryBytes; p = p[timeEntryBytes:] {
		e := decodeTimeEntry(p)
		if e.timestamp < 0 || e.relative > math.MaxInt32 {
			return list, false
		}
		if n := len(list); n > 0 && (e.timestamp <= list[n-1].timestamp || e.relative < list[n-1].relative) {
			return list, false
		}
		list = append(list, e)
	}
	return list, len(p) == 0
}

// loadIndexes reads the files of a segment that becomes active. Entries that do not lead to a batch are not believed:
// what is missing is read from the segment.
func loadIndexes(c *fileCache, s *segment) (*indexes, error) {
	log, err := c.acquire(s, kindLog, true)
	if err != nil {
		return nil, err
	}
	defer c.release(log)
	x := &indexes{}
	s.maxTimestamp, s.maxOffset = -1, -1
	if s.size == 0 {
		return x, nil
	}
	if x.offsets, err = readWhole(c, s, kindIndex, func(p []byte) []indexEntry { l, _ := parseIndex(p, s.size); return l }); err != nil {
		return nil, err
	}
	if x.times, err = readWhole(c, s, kindTime, func(p []byte) []timeEntry { l, _ := parseTimeIndex(p); return l }); err != nil {
		return nil, err
	}
	from := int64(0)
	if n := len(x.offsets); n > 0 {
		w := &walk{file: log, position: int64(x.offsets[n-1].position), limit: s.size}
		if !w.next() || w.batch.next-1-s.base != int64(x.offsets[n-1].relative) || !consistent(x) {
			*x = indexes{}
		} else {
			from = w.position
			x.since = int64(w.batch.size)
			last := timeEntry{-1, 0}
			if len(x.times) > 0 {
				last = x.times[len(x.times)-1]
			}
			s.maxTimestamp, s.maxOffset = last.timestamp, s.base+int64(last.relative)
			if w.batch.maxTimestamp > s.maxTimestamp {
				s.maxTimestamp, s.maxOffset = w.batch.maxTimestamp, w.batch.next-1
			}
		}
	} else {
		*x = indexes{}
	}
	x.offsetsSaved, x.timesSaved = len(x.offsets), len(x.times)
	w := &walk{file: log, position: from, limit: s.size, buf: make([]byte, 0, walkBytes)}
	for w.next() {
		x.add(s, w.batch, w.at)
	}
	return x, ignoreNoBatch(w.err)
}

// consistent tells whether the two indexes may be of one age: they are written together.
func consistent(x *indexes) bool {
	if len(x.times) == 0 {
		return false
	}
	return x.times[len(x.times)-1].relative <= x.offsets[len(x.offsets)-1].relative
}

func ignoreNoBatch(err error) error {
	if errors.Is(err, errNoBatch) {
		return nil
	}
	return err
}

func readWhole[T any](c *fileCache, s *segment, kind int, parse func([]byte) []T) ([]T, error) {
	h, err := c.acquire(s, kind, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.release(h)
	size, err := h.Size()
	if err != nil {
		return nil, err
	}
	p := make([]byte, min(size, math.MaxInt32))
	n, err := h.ReadAt(p, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return parse(p[:n]), nil
}

// save writes what is not in the files yet and cuts them to what is. It does not sync: an index can be made again.
func (x *indexes) save(c *fileCache, s *segment) error {
	err := saveEntries(c, s, kindIndex, appendIndexEntries(nil, x.offsets[x.offsetsSaved:]), int64(x.offsetsSaved*indexEntryBytes))
	if err != nil {
		return err
	}
	x.offsetsSaved = len(x.offsets)
	err = saveEntries(c, s, kindTime, appendTimeEntries(nil, x.times[x.timesSaved:]), int64(x.timesSaved*timeEntryBytes))
	if err != nil {
		return err
	}
	x.timesSaved = len(x.times)
	return nil
}

func saveEntries(c *fileCache, s *segment, kind int, p []byte, at int64) error {
	h, err := c.acquire(s, kind, true)
	if err != nil {
		return err
	}
	defer c.release(h)
	if len(p) > 0 {
		if _, err := h.WriteAt(p, at); err != nil {
			return err
		}
	}
	size, err := h.Size()
	if err == nil && size != at+int64(len(p)) {
		err = h.Truncate(at + int64(len(p)))
	}
	return err
}
