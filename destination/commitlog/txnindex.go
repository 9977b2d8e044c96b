package commitlog

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"sort"

	"github.com/polylog-mq/polylog/destination/record"
)

// AbortedTransaction is a transaction that was aborted: its records lie between FirstOffset and LastOffset, which is that of
// its end marker.
type AbortedTransaction struct {
	ProducerID              int64
	FirstOffset, LastOffset int64
}

// Format of a .txnindex: Kafka's AbortedTxn, one behind the other, in the order of their end markers. It is in the segment
// of the marker.
const (
	txnIndexVersion = 0
	txnIndexEntry   = 2 + 8 + 8 + 8 + 8
)

// abortedEntry is one of them; behind the marker, stable is up to where every transaction had ended.
type abortedEntry struct {
	AbortedTransaction
	stable int64
}

// txnIndex is a segment's, while it is active or its file is not written. Guarded by Log.files.
type txnIndex struct {
	list  []abortedEntry
	saved int  // as many are in the file
	whole bool // list has all that the segment has; otherwise the file is missing or damaged
	file  bool // there is one
	cut   bool // and it is too long
}

// Aborted lists the aborted transactions that overlap [from, to), by first offset. Those whose end marker is at or above
// Stable are not among them. An index that is missing or damaged is made again first, from the segments.
func (l *Log) Aborted(from, to int64) ([]AbortedTransaction, error) {
	if !l.Produced() || from >= to {
		return nil, nil
	}
	list, err := l.aborted(from, to)
	if !errors.Is(err, errStaleIndex) {
		return list, err
	}
	l.admin.Lock()
	defer l.admin.Unlock()
	return l.abortedRebuilt(from, to)
}

// abortedRebuilt is Aborted with admin held.
func (l *Log) abortedRebuilt(from, to int64) ([]AbortedTransaction, error) {
	list, err := l.aborted(from, to)
	if !errors.Is(err, errStaleIndex) {
		return list, err
	}
	if err := l.rebuildTxnIndexes(); err != nil {
		return nil, err
	}
	return l.aborted(from, to)
}

// aborted is Aborted; errStaleIndex if an index is missing or damaged.
func (l *Log) aborted(from, to int64) (found []AbortedTransaction, err error) {
	if err := l.ensureFiles(); err != nil {
		return nil, err
	}
	l.files.RLock()
	defer l.files.RUnlock()
	stable := l.stable.Load()
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].base > from })
	for _, s := range l.segments[max(0, i-1):] {
		complete := false
		err := l.eachAborted(s, from, to, func(e *abortedEntry) bool {
			if e.FirstOffset < to && e.LastOffset < stable {
				found = append(found, e.AbortedTransaction)
			}
			complete = e.stable >= to
			return !complete
		})
		if err != nil {
			return nil, err
		}
		if complete {
			break
		}
	}
	slices.SortFunc(found, func(a, b AbortedTransaction) int {
		return cmp.Or(cmp.Compare(a.FirstOffset, b.FirstOffset), cmp.Compare(a.LastOffset, b.LastOffset))
	})
	return found, nil
}

// eachAborted visits a segment's transactions that end at or above from, if any begins below to. files is held.
func (l *Log) eachAborted(s *segment, from, to int64, visit func(*abortedEntry) bool) error {
	if x := s.txns; x != nil {
		if !x.whole {
			return errStaleIndex
		}
		i := sort.Search(len(x.list), func(i int) bool { return x.list[i].LastOffset >= from })
		for i < len(x.list) && visit(&x.list[i]) {
			i++
		}
		return nil
	}
	summary := s.aborts.Load()
	if summary == nil {
		list, err := readTxnIndex(l.store.cache, s)
		if err != nil {
			return err
		}
		summary = &abortSummary{count: len(list)}
		for i, e := range list {
			if i == 0 || e.FirstOffset < summary.first {
				summary.first = e.FirstOffset
			}
		}
		s.aborts.Store(summary)
	}
	if summary.count == 0 || summary.first >= to {
		return nil
	}
	h, err := l.store.cache.acquire(s, kindTxn, false)
	if errors.Is(err, fs.ErrNotExist) {
		return errStaleIndex
	}
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	return searchAborted(h, summary.count, from, visit)
}

// abortSummary says of a closed segment's index whether it is worth a look.
type abortSummary struct {
	count int
	first int64 // the lowest first offset
}

// searchAborted visits the entries of a file that end at or above from.
func searchAborted(f File, count int, from int64, visit func(*abortedEntry) bool) error {
	var failed error
	var p [txnIndexEntry]byte
	read := func(i int) (e abortedEntry) {
		if _, err := f.ReadAt(p[:], int64(i)*txnIndexEntry); err != nil && err != io.EOF {
			failed = err
		}
		return decodeAborted(p[:])
	}
	i := sort.Search(count, func(i int) bool { return read(i).LastOffset >= from })
	for ; i < count && failed == nil; i++ {
		if e := read(i); failed == nil && !visit(&e) {
			break
		}
	}
	return failed
}

func appendAborted(dst []byte, list []abortedEntry) []byte {
	for _, e := range list {
		dst = binary.BigEndian.AppendUint16(dst, txnIndexVersion)
		for _, n := range [...]int64{e.ProducerID, e.FirstOffset, e.LastOffset, e.stable} {
			dst = binary.BigEndian.AppendUint64(dst, uint64(n))
		}
	}
	return dst
}

func decodeAborted(p []byte) abortedEntry {
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(p[2+8*i:])) }
	return abortedEntry{AbortedTransaction{at(0), at(1), at(2)}, at(3)}
}

// parseTxnIndex decodes the entries of a segment that begins at base, up to the first that cannot be one; ok is false if
// there was one.
func parseTxnIndex(p []byte, base int64) (list []abortedEntry, ok bool) {
	last := base - 1
	for ; len(p) >= txnIndexEntry; p = p[txnIndexEntry:] {
		e := decodeAborted(p)
		if binary.BigEndian.Uint16(p) != txnIndexVersion || e.FirstOffset < 0 || e.FirstOffset >= e.LastOffset || e.LastOffset <= last {
			return list, false
		}
		list, last = append(list, e), e.LastOffset
	}
	return list, len(p) == 0
}

// readTxnIndex reads the file of a closed segment; errStaleIndex if it is missing or damaged.
func readTxnIndex(c *fileCache, s *segment) ([]abortedEntry, error) {
	file, ok := false, false
	list, err := readWhole(c, s, kindTxn, func(p []byte) (l []abortedEntry) {
		file = true
		l, ok = parseTxnIndex(p, s.base)
		return l
	})
	if err == nil && !(file && ok) {
		err = errStaleIndex
	}
	return list, err
}

// loadTxnIndex reads that of a segment which becomes active. What its file says of offsets at or above end was lost in a
// crash, or truncated. files is held.
func (l *Log) loadTxnIndex(s *segment, end int64) (err error) {
	x := &txnIndex{whole: s.size == 0 || !l.produced.Load()}
	x.list, err = readWhole(l.store.cache, s, kindTxn, func(p []byte) []abortedEntry {
		list, ok := parseTxnIndex(p, s.base)
		x.file, x.whole = true, x.whole || ok
		n := countBelow(list, end)
		x.saved, x.cut = n, n*txnIndexEntry < len(p)
		return list[:n]
	})
	s.txns = x
	s.aborts.Store(nil)
	return err
}

// adoptTxnIndexes gives the closed segments of another broker an index where they have none: Kafka writes one only for
// aborted transactions. Where the other indexes are missing too, they have been taken away. files is held.
func (l *Log) adoptTxnIndexes() error {
	for _, s := range l.segments[:len(l.segments)-1] {
		if _, err := l.store.fs.Stat(s.name(kindIndex)); err != nil {
			continue
		}
		h, err := l.store.cache.acquire(s, kindTxn, true)
		if err != nil {
			return err
		}
		l.store.cache.release(h)
	}
	return nil
}

// cutTxnIndex forgets what ends at or above an offset, in a segment that becomes active. files is held.
func (l *Log) cutTxnIndex(s *segment, end int64) error {
	x := s.txns
	if x == nil {
		return l.loadTxnIndex(s, end)
	}
	n := countBelow(x.list, end)
	x.list, x.saved, x.cut = x.list[:n], min(x.saved, n), x.cut || n < x.saved
	return nil
}

func countBelow(list []abortedEntry, end int64) int {
	return sort.Search(len(list), func(i int) bool { return list[i].LastOffset >= end })
}

// saveTxnIndex writes what is not in the file yet, and cuts it to what is. The next checkpoint syncs it: what it tells of the
// log before the checkpoint is not in the journal any more. files is held.
func (l *Log) saveTxnIndex(s *segment) error {
	x := s.txns
	if x == nil || !x.whole || x.file && !x.cut && x.saved == len(x.list) {
		return nil
	}
	if err := saveEntries(l.store.cache, s, kindTxn, appendAborted(nil, x.list[x.saved:]), int64(x.saved*txnIndexEntry)); err != nil {
		return err
	}
	if !l.memory {
		l.aside.txnsUnsynced = append(l.aside.txnsUnsynced, dirtySegment{log: l, segment: s, fresh: !x.file})
	}
	x.saved, x.file, x.cut = len(x.list), true, false
	return nil
}

// closeTxnIndex leaves that of a segment which was closed to its file. files is held.
func (l *Log) closeTxnIndex(s *segment) error {
	err := l.saveTxnIndex(s)
	if err == nil && s.txns != nil && s.txns.whole {
		s.txns = nil
		s.aborts.Store(nil)
	}
	return err
}

// saveTxnIndexes is for a checkpoint, and the end. In a log without producers the active segment needs none. files is held.
func (l *Log) saveTxnIndexes() error {
	for _, s := range l.segments {
		var err error
		switch {
		case s.txns == nil:
		case s != l.indexed:
			err = l.closeTxnIndex(s)
		case s.txns.file || l.produced.Load():
			err = l.saveTxnIndex(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// syncTxnIndexes syncs what was saved since the last checkpoint. created means that a name is not durable yet.
func (l *Log) syncTxnIndexes() (created bool, err error) {
	l.files.Lock()
	list := l.aside.txnsUnsynced
	l.aside.txnsUnsynced = nil
	l.files.Unlock()
	for i, d := range list {
		created = created || d.fresh
		if err := l.syncTxnIndex(d.segment); err != nil {
			l.files.Lock()
			l.aside.txnsUnsynced = append(l.aside.txnsUnsynced, list[i:]...)
			l.files.Unlock()
			return created, err
		}
	}
	return created, nil
}

func (l *Log) syncTxnIndex(s *segment) error {
	l.files.RLock()
	if s.gone {
		l.files.RUnlock()
		return nil
	}
	h, err := l.store.cache.acquire(s, kindTxn, false)
	l.files.RUnlock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed from outside: it will be made again
	}
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	if err := h.Sync(); err != nil {
		return &syncError{fmt.Errorf("%s: %w", s.name(kindTxn), err)}
	}
	return nil
}

// checkTxnIndex says by errStaleIndex that a segment's is missing or damaged.
func (l *Log) checkTxnIndex(s *segment) error {
	l.files.RLock()
	defer l.files.RUnlock()
	return l.eachAborted(s, math.MaxInt64, math.MinInt64, func(*abortedEntry) bool { return false })
}

// rebuildTxnIndexes makes the missing and the damaged ones again. admin is held, so that segments only come and close.
func (l *Log) rebuildTxnIndexes() error {
	l.files.RLock()
	segments, end := l.segments, l.stable.Load()
	l.files.RUnlock()
	rebuilt := false
	var p *producers
	for i, s := range segments {
		if err := l.checkTxnIndex(s); !errors.Is(err, errStaleIndex) {
			if err != nil {
				return err
			}
			p = nil
			continue
		}
		next := end
		if i+1 < len(segments) {
			next = min(end, segments[i+1].base)
		}
		if p == nil {
			var err error
			if p, err = l.readProducers(segments[:i+1], min(s.base, end)); err != nil {
				return err
			}
		}
		var list []abortedEntry
		l.files.RLock()
		size := s.size
		l.files.RUnlock()
		err := l.eachProduced(s, stretch{0, size}, next, func(b record.Batch) {
			if e, aborted := p.add(b, 0); aborted {
				list = append(list, e)
			}
		})
		if err == nil {
			err = l.putTxnIndex(s, list)
		}
		if err != nil {
			return fmt.Errorf("rebuild %s: %w", s.name(kindTxn), err)
		}
		rebuilt = true
	}
	if rebuilt && !l.memory {
		return l.syncDir()
	}
	return nil
}

// putTxnIndex replaces a segment's file by list, whole and durable, and has what came meanwhile follow it.
func (l *Log) putTxnIndex(s *segment, list []abortedEntry) error {
	if err := replaceFile(l.store.fs, s.name(kindTxn), appendAborted(nil, list), !l.memory); err != nil {
		return err
	}
	l.files.Lock()
	defer l.files.Unlock()
	if s.gone {
		return l.store.fs.Remove(s.name(kindTxn))
	}
	x := &txnIndex{list: list, saved: len(list), whole: true, file: true}
	if old := s.txns; old != nil {
		seen := int64(-1)
		if n := len(list); n > 0 {
			seen = list[n-1].LastOffset
		}
		x.list = append(x.list, old.list[countBelow(old.list, seen+1):]...)
	}
	s.txns = x
	s.aborts.Store(nil)
	if err := l.store.cache.drop(s); err != nil || s == l.indexed {
		return err
	}
	return l.closeTxnIndex(s)
}
