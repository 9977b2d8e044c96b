package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"syscall"

	"github.com/polylog-mq/polylog/destination/record"
)

// writer is the end of a log as its committer plans it, ahead of what can be read.
type writer struct {
	end    int64 // the next offset
	base   int64 // of the active segment; -1 if there is none
	size   int64 // of the active segment
	room   int64 // up to where the active segment's blocks are taken
	first  int64 // ms: when the active segment was begun, or after a restart its first batch's timestamp
	known  bool  // its creation is in the journal
	adopt  bool  // nothing but the directory tells what the log holds
	round  int   // Log.round, after the last rollback
	run    int64 // the committer's run that touched the log last
	head   int   // first operation of the run that is to be written; -1
	tail   int
	before mark // at the beginning of the run
}

// mark is what a refused append goes back to.
type mark struct {
	end, base, size, room, first int64
	segments                     int
	known                        bool
}

func (l *Log) mark() mark {
	l.files.RLock()
	defer l.files.RUnlock()
	w := &l.w
	return mark{w.end, w.base, w.size, w.room, w.first, len(l.segments), w.known}
}

// undo goes back to a mark and removes the segments that were begun since. It is called before anything was written.
func (l *Log) undo(m mark) error {
	l.files.Lock()
	defer l.files.Unlock()
	errs := l.dropSegments(m.segments)
	w := &l.w
	w.end, w.base, w.size, w.room, w.first, w.known = m.end, m.base, m.size, m.room, m.first, m.known
	if n := len(l.segments); n > 0 {
		l.segments[n-1].size = w.size
	}
	return errs
}

// dropSegments removes all but the first n segments. It leaves the old list alone: a reader may have it. files is held.
func (l *Log) dropSegments(n int) error {
	gone := l.segments[n:]
	if len(gone) == 0 {
		return nil
	}
	l.segments = slices.Clone(l.segments[:n])
	var errs error
	for _, s := range slices.Backward(gone) {
		errs = errors.Join(errs, l.removeSegment(s))
	}
	return errs
}

// unaccept goes back to before an append that was the last one accepted. A segment that it began stays, empty.
func (l *Log) unaccept(o *op) error {
	l.files.Lock()
	defer l.files.Unlock()
	errs := l.dropSegments(slices.Index(l.segments, o.segment) + 1)
	l.w.end, l.w.base, l.w.size, l.w.room = o.base, o.segment.base, o.position, 0
	o.segment.size = o.position
	return errs
}

// acceptChange plans an operation that needs no room.
func (l *Log) acceptChange(o *op) {
	switch o.kind {
	case opCreate:
		l.w.known = true
	case opSkip:
		l.w.end = max(l.w.end, o.base)
	}
}

// publish lets readers see what the log's run has written.
func (l *Log) publish() {
	l.files.Lock()
	l.readable = place{l.w.base, l.w.size}
	l.files.Unlock()
	if old := l.stable.Swap(l.w.end); old != l.w.end && l.onStable != nil {
		l.onStable(l.w.end)
	}
}

// accept plans an append at the log's end, and takes the disk's room for it. now is in ms.
func (l *Log) accept(o *op, now int64) error {
	w := &l.w
	if !w.known || o.base != w.end || o.round != w.round {
		return ErrFull // behind an append that was refused
	}
	l.files.Lock()
	defer l.files.Unlock()
	if err := l.load(); err != nil {
		return err
	}
	n := int64(o.length)
	if w.base < 0 || w.size > 0 && (w.size+n > l.config.Load().SegmentBytes ||
		o.next-1-w.base > math.MaxInt32 || now-w.first > l.config.Load().SegmentAge.Milliseconds()) {
		if err := l.roll(); err != nil {
			return err
		}
	}
	s := l.segments[len(l.segments)-1]
	if !l.memory && w.size+n > w.room {
		if err := l.takeRoom(s, n); err != nil {
			return err
		}
	}
	if w.size == 0 {
		w.first = now // a segment of records that were old when they came does not age faster for it
	}
	o.segment, o.position = s, w.size
	w.size += n
	w.end = o.next
	s.size = w.size
	return nil
}

// roll begins a segment at the log's end. The one before it is finished when it has been written. files is held.
func (l *Log) roll() error {
	s := &segment{dir: l.dir, base: l.w.end, maxTimestamp: -1, maxOffset: -1}
	if n := len(l.segments); n > 0 && l.segments[n-1].base >= s.base {
		return fmt.Errorf("commitlog: %s: segment %d at offset %d", l.dir, l.segments[n-1].base, s.base)
	}
	err := l.store.withRoom(l.config.Load().Reserved, func() error {
		h, err := l.store.cache.acquire(s, kindLog, true)
		if errors.Is(err, fs.ErrNotExist) {
			if err = l.store.fs.MkdirAll(l.dir); err == nil {
				h, err = l.store.cache.acquire(s, kindLog, true)
			}
		}
		if err != nil {
			return err
		}
		defer l.store.cache.release(h)
		// Left over from before a crash.
		if err := l.store.fs.Remove(s.name(kindTxn)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return h.Truncate(0)
	})
	if err != nil {
		return fmt.Errorf("begin segment %s: %w", s.name(kindLog), err)
	}
	if n := len(l.segments); n > 0 && !l.memory {
		l.segments[n-1].closed = l.store.journal.sequence
	}
	s.fresh = true
	if !l.memory { // also if the append is refused after this: the next checkpoint names the segment
		s.dirty = true
		l.store.dirty = append(l.store.dirty, dirtySegment{log: l, segment: s})
	}
	l.segments = append(l.segments, s)
	l.w.base, l.w.size, l.w.room = s.base, 0, 0
	return nil
}

// takeRoom takes blocks in steps that grow with the segment, so that a thousand small logs do not take a thousand large
// steps. A full disk is met here, before anything of the append is in the journal.
func (l *Log) takeRoom(s *segment, n int64) error {
	step := int64(16 << 10)
	for _, larger := range []int64{64 << 10, 1 << 20, 4 << 20} {
		if l.w.size+n > step {
			step = larger
		}
	}
	to := (l.w.size + n + step - 1) / step * step
	to = max(min(to, l.config.Load().SegmentBytes), l.w.size+n)
	err := l.store.withRoom(l.config.Load().Reserved, func() error {
		h, err := l.store.cache.acquire(s, kindLog, true)
		if err != nil {
			return err
		}
		defer l.store.cache.release(h)
		if err := h.Preallocate(l.w.size, to-l.w.size); errors.Is(err, syscall.ENOSPC) {
			to = l.w.size + n // the last blocks of the disk
			return h.Preallocate(l.w.size, n)
		} else {
			return err
		}
	})
	if err == nil {
		l.w.room = to
	}
	return err
}

// write writes the log's operations of a run, from head on, one write for each stretch in one segment.
func (l *Log) write(g *group, scratch []byte) ([]byte, error) {
	for i := l.w.head; i >= 0; {
		first := &g.ops[i]
		data := g.buf[first.at : first.at+first.length]
		j := first.sibling
		if j >= 0 && g.ops[j].segment == first.segment && len(data) < maxGather {
			scratch = append(scratch[:0], data...)
			for j >= 0 && g.ops[j].segment == first.segment && len(scratch) < maxGather {
				scratch = append(scratch, g.buf[g.ops[j].at:g.ops[j].at+g.ops[j].length]...)
				j = g.ops[j].sibling
			}
			data = scratch
		}
		if err := l.writeAt(first.segment, data, first.position); err != nil {
			return scratch, err
		}
		i = j
	}
	return scratch, l.observe(g)
}

// maxGather bounds the copy that joins small appends into one write.
const maxGather = 1 << 20

func (l *Log) writeAt(s *segment, p []byte, at int64) error {
	h, err := l.store.cache.acquire(s, kindLog, false)
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	n, err := h.WriteAt(p, at)
	if errors.Is(err, syscall.ENOSPC) && !l.memory {
		// Only a file system that cannot preallocate comes here. The journal has the append already, so that it must not be
		// refused any more; the reserve is for this too.
		l.store.reserve.release()
		_, err = h.WriteAt(p[n:], at+int64(n))
	}
	return err
}

// observe takes the run's batches into the indexes, and finishes segments that it has closed.
func (l *Log) observe(g *group) error {
	l.files.Lock()
	defer l.files.Unlock()
	for i := l.w.head; i >= 0; i = g.ops[i].sibling {
		o := &g.ops[i]
		if err := l.observeBatches(o.segment, g.buf[o.at:o.at+o.length], o.position); err != nil {
			return err
		}
	}
	return nil
}

// observeBatches is called with files held.
func (l *Log) observeBatches(s *segment, batches []byte, position int64) error {
	if s != l.indexed {
		if err := l.finishIndexed(); err != nil {
			return err
		}
		l.indexed, l.indexes = s, &indexes{}
		s.txns = &txnIndex{whole: true}
	}
	for rest := batches; len(rest) > 0; {
		b, r, err := record.Next(rest)
		if err != nil {
			return err
		}
		h, _ := headerOf(b)
		l.indexes.add(s, h, position)
		if err := l.track(b); err != nil {
			return err
		}
		position, rest = position+int64(h.size), r
	}
	return nil
}

// finishIndexed writes the indexes of a segment that was closed, gives back its spare room, and keeps the producers' state
// at its end. files is held. A full disk is no failure here: indexes and snapshots can be made again.
func (l *Log) finishIndexed() error {
	s := l.indexed
	if s == nil {
		return nil
	}
	l.indexes.addTime(s)
	err := l.indexes.save(l.store.cache, s)
	if err == nil {
		err = l.closeTxnIndex(s)
	}
	if err == nil {
		err = l.saveProducers(l.endOf(s), true)
	}
	if err == nil {
		var h *handle
		if h, err = l.store.cache.acquire(s, kindLog, false); err == nil {
			err = h.Truncate(s.size)
			l.store.cache.release(h)
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return err
}

// endOf is the base of the segment behind s. files is held.
func (l *Log) endOf(s *segment) int64 {
	for i := range l.segments {
		if l.segments[i] == s && i+1 < len(l.segments) {
			return l.segments[i+1].base
		}
	}
	return l.w.end
}

// removeSegment removes a segment's files. files is held; readers that use them keep their handles.
func (l *Log) removeSegment(s *segment) error {
	s.gone = true
	errs := l.store.cache.drop(s)
	for kind := range kinds {
		if err := l.store.fs.Remove(s.name(kind)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = errors.Join(errs, err)
		}
	}
	if l.indexed == s {
		l.indexed, l.indexes = nil, nil
	}
	return errs
}

func parentOf(dir string) string { return path.Dir(dir) }
