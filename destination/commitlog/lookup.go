package commitlog

import (
	"errors"
	"io"
	"io/fs"
	"sort"
)

// Closed segments' indexes stay in their files and are searched there.

// fileIndex searches the .index of a closed segment.
func fileIndex(c *fileCache, s *segment, offset int64) (position int64, err error) {
	err = searchFile(c, s, kindIndex, indexEntryBytes, func(p []byte) bool {
		return s.base+int64(decodeIndexEntry(p).relative) > offset
	}, func(p []byte) { position = int64(decodeIndexEntry(p).position) })
	if position >= s.size {
		return 0, errStaleIndex
	}
	return position, err
}

// fileTime searches the .timeindex of a closed segment: the last offset that is known to be below ms.
func fileTime(c *fileCache, s *segment, ms int64) (offset int64, err error) {
	offset = s.base
	err = searchFile(c, s, kindTime, timeEntryBytes, func(p []byte) bool { return decodeTimeEntry(p).timestamp >= ms },
		func(p []byte) { offset = s.base + int64(decodeTimeEntry(p).relative) })
	return offset, err
}

// lastTime is the largest timestamp of a closed segment.
func lastTime(c *fileCache, s *segment) (timeEntry, error) {
	h, err := c.acquire(s, kindTime, false)
	if errors.Is(err, fs.ErrNotExist) {
		return timeEntry{}, errStaleIndex
	}
	if err != nil {
		return timeEntry{}, err
	}
	defer c.release(h)
	size, err := h.Size()
	if err != nil {
		return timeEntry{}, err
	}
	if size < timeEntryBytes || size%timeEntryBytes != 0 {
		return timeEntry{}, errStaleIndex
	}
	var p [timeEntryBytes]byte
	if _, err := h.ReadAt(p[:], size-timeEntryBytes); err != nil && err != io.EOF {
		return timeEntry{}, err
	}
	e := decodeTimeEntry(p[:])
	if e.timestamp <= 0 {
		return e, errStaleIndex
	}
	return e, nil
}

// errStaleIndex means that an index file is missing or does not fit its segment, and must be made again.
var errStaleIndex = errors.New("commitlog: index missing or stale")

// searchFile finds the first entry for which after holds and gives the one before it, if there is one, to found.
func searchFile(c *fileCache, s *segment, kind int, entryBytes int, after func([]byte) bool, found func([]byte)) error {
	h, err := c.acquire(s, kind, false)
	if errors.Is(err, fs.ErrNotExist) {
		return errStaleIndex
	}
	if err != nil {
		return err
	}
	defer c.release(h)
	size, err := h.Size()
	if err != nil {
		return err
	}
	if size%int64(entryBytes) != 0 {
		return errStaleIndex
	}
	var buf [timeEntryBytes]byte
	p := buf[:entryBytes]
	var failed error
	read := func(i int) bool {
		if _, err := h.ReadAt(p, int64(i*entryBytes)); err != nil && err != io.EOF {
			failed = err
			return false
		}
		return true
	}
	n := sort.Search(int(size)/entryBytes, func(i int) bool { return read(i) && after(p) })
	if failed == nil && n > 0 && read(n-1) {
		found(p)
	}
	return failed
}

// rebuildIndexes reads a segment's headers and writes its index files anew.
func rebuildIndexes(c *fileCache, s *segment, size int64) (*indexes, error) {
	h, err := c.acquire(s, kindLog, false)
	if err != nil {
		return nil, err
	}
	defer c.release(h)
	shadow := &segment{dir: s.dir, base: s.base, maxTimestamp: -1, maxOffset: -1} // s is shared and may be read now
	x := &indexes{}
	w := &walk{file: h, limit: size, buf: make([]byte, 0, walkBytes)}
	for w.next() {
		x.add(shadow, w.batch, w.at)
	}
	if err := ignoreNoBatch(w.err); err != nil {
		return nil, err
	}
	x.addTime(shadow)
	return x, x.save(c, s)
}
