package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strconv"
	"sync/atomic"
)

// AdvanceStart moves Start up, durably, and removes the closed segments that are wholly below it. It waits for the sync.
// Below the present Start it does nothing; above Stable it is ErrOffsetOutOfRange.
func (l *Log) AdvanceStart(offset int64) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	_, err := l.advanceStart(offset)
	return err
}

// advanceStart is called with admin held. It returns the bytes that it has removed.
func (l *Log) advanceStart(offset int64) (int64, error) {
	if offset > l.Stable() {
		return 0, ErrOffsetOutOfRange
	}
	if offset > l.start.Load() {
		if err := l.change(opStart, offset, func() error { return nil }); err != nil {
			return 0, err
		}
	}
	if err := l.keepProducers(l.start.Load()); err != nil {
		return 0, err
	}
	return l.removeBelow(l.start.Load())
}

// removeBelow removes the closed segments that end at or below an offset that is durably the start.
func (l *Log) removeBelow(offset int64) (removed int64, err error) {
	l.files.Lock()
	defer l.files.Unlock()
	if err := l.load(); err != nil {
		return 0, err
	}
	n := 0
	for l.removable(n, offset) {
		removed += l.segments[n].size
		err = errors.Join(err, l.removeSegment(l.segments[n]))
		n++
	}
	l.segments = slices.Clone(l.segments[n:])
	l.hints.clear()
	return removed, errors.Join(err, l.cutEpochsBelow(offset))
}

// removable says whether the n-th segment lies below an offset, and is closed. One that has told of producers since the last
// checkpoint stays until the next: after a crash they are read back from there on. files is held.
func (l *Log) removable(n int, offset int64) bool {
	if n+1 >= len(l.segments) || l.segments[n+1].base > offset || l.segments[n].base == l.readable.base || l.segments[n] == l.indexed {
		return false
	}
	return l.memory || !l.produced.Load() || l.segments[n+1].base <= l.durable.Load()
}

// TruncateTo removes the records at and above offset, durably; the next append gets offset. A batch that holds offset goes
// as a whole. It waits for the sync. Outside Start and End it is ErrOffsetOutOfRange.
func (l *Log) TruncateTo(offset int64) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	return l.change(opTruncate, offset, func() error {
		if offset < l.start.Load() || offset > l.next {
			return ErrOffsetOutOfRange
		}
		l.next = offset
		if l.onCut != nil {
			l.onCut(offset)
		}
		return nil
	})
}

// SkipTo makes the next append get at least this offset: a memory destination's after a restart. It waits for the sync of
// a log on disk.
func (l *Log) SkipTo(offset int64) error {
	return l.change(opSkip, offset, func() error {
		l.next = max(l.next, offset)
		return nil
	})
}

// apply does what a run has other than appends, after it is durable.
func (c *committer) apply(ops []op) error {
	for i := range ops {
		o := &ops[i]
		var err error
		switch o.kind {
		case opStart:
			if old := o.log.start.Load(); o.base > old {
				o.log.start.Store(o.base)
			}
		case opTruncate:
			err = o.log.truncate(o.base)
		case opDelete:
			c.store.forget(o.log)
		}
		if err != nil {
			c.store.fail(fmt.Sprintf("truncate %s", o.log.dir), err)
			return c.store.Err()
		}
	}
	return nil
}

// truncate cuts the log's files. It is called by the committer, between runs that write.
func (l *Log) truncate(offset int64) error {
	l.files.Lock()
	defer l.files.Unlock()
	if err := l.load(); err != nil {
		return err
	}
	if offset >= l.w.end {
		l.w.end = max(l.w.end, offset)
		return nil
	}
	l.cuts++
	l.hints.clear()
	below := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].base >= offset })
	if err := l.dropSegments(below); err != nil {
		return err
	}
	l.w.end, l.w.base, l.w.size, l.w.room = offset, -1, 0, 0
	if n := len(l.segments); n > 0 {
		if err := l.cutSegment(l.segments[n-1], offset); err != nil {
			return err
		}
	}
	if l.start.Load() > offset {
		l.start.Store(offset)
	}
	l.aside.producers = nil
	l.aside.observed = min(l.aside.observed, offset)
	if err := l.dropSnapshots(offset); err != nil {
		return err
	}
	return l.cutEpochsFrom(offset)
}

// cutSegment makes a segment the active one again, without what is at or above an offset. files is held.
func (l *Log) cutSegment(s *segment, offset int64) error {
	h, err := l.store.cache.acquire(s, kindLog, true)
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	w := &walk{file: h, limit: s.size, buf: make([]byte, 0, walkBytes)}
	if l.indexed == s {
		w.position = l.indexes.find(s, offset)
	}
	position := w.position
	for w.next() && w.batch.next <= offset {
		position = w.position
	}
	if err := ignoreNoBatch(w.err); err != nil {
		return err
	}
	if err := h.Truncate(position); err != nil {
		return err
	}
	s.size = position
	l.w.base, l.w.size, l.w.room = s.base, position, position
	if l.indexed == s {
		l.indexes.cut(s, position, offset)
		if err := l.indexes.save(l.store.cache, s); err != nil {
			return err
		}
	}
	if l.indexes, err = loadIndexes(l.store.cache, s); err != nil {
		return err
	}
	l.indexed = s
	if err := l.cutTxnIndex(s, offset); err != nil {
		return err
	}
	l.w.first = firstTimestamp(h, s.size)
	s.fresh = true // that the segments behind it are gone must become durable before another is begun there
	if !s.dirty && !l.memory {
		s.dirty = true
		l.store.dirty = append(l.store.dirty, dirtySegment{log: l, segment: s})
	}
	return nil
}

// deletedSuffix marks the directory of a deleted log, as Kafka does.
const deletedSuffix = "-delete"

var deletions atomic.Int64

// Delete deletes the log, durably. Its directory is renamed now and removed in the background. Readers and later appends
// get ErrDeleted; OpenLog makes a new log.
func (l *Log) Delete() error {
	l.admin.Lock()
	defer l.admin.Unlock()
	err := l.change(opDelete, 0, func() error {
		l.deleted = true
		return nil
	})
	if err != nil {
		return err
	}
	return l.renameDeleted()
}

// forget takes a deleted log out of the table.
func (s *Store) forget(l *Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs[l.id] == l {
		delete(s.logs, l.id)
	}
}

// renameDeleted gets the directory out of the way of a new log of that name, durably.
func (l *Log) renameDeleted() error {
	s := l.store
	l.mu.Lock()
	l.deleted = true
	l.mu.Unlock()
	l.files.Lock()
	var errs error
	for _, seg := range l.segments {
		seg.gone = true
		errs = errors.Join(errs, s.cache.drop(seg))
	}
	l.segments, l.indexed, l.indexes, l.loaded = nil, nil, nil, true
	l.files.Unlock()
	base := path.Base(l.dir)
	suffix := "." + strconv.FormatInt(int64(s.epoch), 16) + "-" + strconv.FormatInt(deletions.Add(1), 16) + deletedSuffix
	name := base[:min(len(base), 255-len(suffix))] + suffix
	err := s.fs.Rename(l.dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return errs
	}
	if err == nil {
		if err = s.fs.SyncDir(parentOf(l.dir)); err != nil {
			s.fail("sync "+parentOf(l.dir), err)
		}
	}
	if errs = errors.Join(errs, err); errs != nil {
		return fmt.Errorf("delete %s: %w", l.dir, errs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && s.started { // otherwise the next start removes it
		s.running.Go(func() {
			if err := s.fs.RemoveAll(name); err != nil && s.Err() == nil {
				s.logger.Warn("commitlog: remove deleted log", "dir", name, "error", err)
			}
		})
	}
	return nil
}
