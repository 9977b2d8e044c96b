package commitlog

import (
	"errors"
	"io"
	"slices"
	"sort"
	"sync"

	"github.com/polylog-mq/polylog/destination/record"
)

// Read appends to buf whole batches from the one that holds offset, or from the next one that exists: at least one even if
// it is larger than max bytes. It reads only below Stable. Nothing and no error means that there is no record from offset
// to Stable. The first batch may begin below offset.
//
// Damaged ranges are passed over; each is reported once (Options.OnDamage, Stats, the logger).
//
// Errors: ErrOffsetOutOfRange if offset is below Start or above Stable; ErrDeleted; of the file system.
func (l *Log) Read(offset int64, max int, buf []byte) ([]byte, error) {
	r := reader{log: l}
	defer r.close()
	for {
		found, err := r.open(offset)
		if err != nil || !found {
			return buf, err
		}
		n := len(buf)
		buf, err = r.read(offset, max, buf)
		if err == errCut {
			buf = buf[:n]
			continue
		}
		if err != nil || len(buf) > n {
			return buf, err
		}
		offset = r.nextBase // nothing from offset on in this segment
		if offset < 0 {
			return buf, nil
		}
	}
}

// errCut means that the log was truncated or cleaned during a read.
var errCut = errors.New("commitlog: log was cut during a read")

// reader is one Read: a segment that is kept open, and how far it may be read.
type reader struct {
	log      *Log
	segment  *segment
	handle   *handle
	position int64 // where to look for the offset from
	exact    bool  // and the batch is just there
	limit    int64
	last     bool  // nothing in memory tells more than the files
	nextBase int64 // of the segment behind; -1 if there is none
	cuts     int
}

func (r *reader) close() {
	if r.handle != nil {
		r.log.store.cache.release(r.handle)
		r.handle = nil
	}
}

// open finds the segment; false if there is nothing to read.
func (r *reader) open(offset int64) (bool, error) {
	r.close()
	l := r.log
	if err := l.ensureFiles(); err != nil {
		return false, err
	}
	l.files.RLock()
	defer l.files.RUnlock()
	stable := l.stable.Load()
	if l.isDeleted() {
		return false, ErrDeleted
	}
	if offset < l.start.Load() || offset > stable {
		return false, ErrOffsetOutOfRange
	}
	if offset == stable || len(l.segments) == 0 {
		return false, nil
	}
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].base > offset })
	i = max(i-1, 0)
	s := l.segments[i]
	if s.base > l.readable.base {
		return false, nil
	}
	r.segment, r.cuts, r.nextBase, r.limit = s, l.cuts, -1, s.size
	if s.base == l.readable.base {
		r.limit = l.readable.position
	} else if i+1 < len(l.segments) {
		r.nextBase = l.segments[i+1].base
	}
	var err error
	if r.handle, err = l.store.cache.acquire(s, kindLog, false); err != nil {
		return false, err
	}
	r.position, r.exact = l.hints.find(s, offset)
	if !r.exact && s == l.indexed {
		r.position, r.last = l.indexes.find(s, offset), true
		return true, nil
	}
	r.last = r.exact
	return true, nil
}

// ensureFiles reads the directory if nobody has yet.
func (l *Log) ensureFiles() error {
	l.files.RLock()
	loaded := l.loaded
	l.files.RUnlock()
	if loaded {
		return nil
	}
	l.files.Lock()
	defer l.files.Unlock()
	return l.load()
}

// cut tells whether the log was truncated since open.
func (r *reader) cut() bool {
	r.log.files.RLock()
	defer r.log.files.RUnlock()
	return r.log.cuts != r.cuts || r.segment.gone
}

func (r *reader) read(offset int64, max int, buf []byte) ([]byte, error) {
	position, err := r.locate(offset)
	if err != nil {
		return buf, err
	}
	start := len(buf)
	for position < r.limit {
		position = r.log.passDamaged(r.segment, position)
		var damage string
		var next int64
		buf, next, damage, err = r.readAt(position, max, buf, start)
		if err != nil {
			return buf, err
		}
		if len(buf) > start {
			r.log.hints.put(r.segment, lastBatch(buf[start:]), next)
			return buf, nil
		}
		if damage == "" {
			break
		}
		if r.cut() {
			return buf, errCut
		}
		if position, err = r.damaged(position, offset, damage); err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// readAt appends the whole, valid batches at a position. If there is none at all, damage says why; next is behind them.
func (r *reader) readAt(position int64, max int, buf []byte, start int) (_ []byte, next int64, damage string, err error) {
	want := int(min(int64(max), r.limit-position))
	if want < record.HeaderSize {
		want = int(min(int64(record.HeaderSize), r.limit-position))
	}
	for {
		buf = slices.Grow(buf[:start], want)[:start+want]
		n, err := r.handle.ReadAt(buf[start:], position)
		if err != nil && err != io.EOF {
			return buf[:start], position, "", err
		}
		whole, problem := r.whole(buf[start : start+n])
		if whole > 0 {
			return buf[:start+whole], position + int64(whole), problem, nil
		}
		if problem != "" {
			return buf[:start], position, problem, nil
		}
		if n < want {
			return buf[:start], position, "the file ends early", nil
		}
		h, ok := headerOf(buf[start : start+n])
		if !ok {
			return buf[:start], position, "no batch", nil
		}
		if position+int64(h.size) > r.limit {
			return buf[:start], position, "a batch reaches beyond the end", nil
		}
		want = h.size
	}
}

// whole returns the length of the whole, valid batches at the start of p; problem says why they end before p does, if it
// is not that p cuts one.
func (r *reader) whole(p []byte) (length int, problem string) {
	for length < len(p) {
		b, _, err := record.Next(p[length:])
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return length, ""
		}
		if err != nil {
			return length, err.Error()
		}
		if !r.log.store.options.SkipReadCheck && !b.CRCValid() {
			return length, "checksum"
		}
		length += len(b)
	}
	return length, ""
}

func lastBatch(p []byte) record.Batch {
	var last record.Batch
	for len(p) > 0 {
		b, rest, err := record.Next(p)
		if err != nil {
			break
		}
		last, p = b, rest
	}
	return last
}

// locate returns the position of the batch that holds offset, or of the next one, or of damage on the way.
func (r *reader) locate(offset int64) (int64, error) {
	if r.exact {
		return r.position, nil
	}
	position := r.position
	if !r.last {
		var err error
		position, err = fileIndex(r.log.store.cache, r.segment, offset)
		if err != nil && !errors.Is(err, errStaleIndex) {
			return 0, err
		}
		if err != nil {
			if position, err = r.rebuild(offset); err != nil {
				return 0, err
			}
		}
	}
	found, walked, sound, err := r.walk(position, offset)
	if err == nil && (!sound || walked > staleAfter) && !r.last {
		if position, err = r.rebuild(offset); err == nil {
			found, _, _, err = r.walk(position, offset)
		}
	}
	return found, err
}

// staleAfter is how much is read behind an index entry before the index is held to be incomplete.
const staleAfter = 4 << 20

// walk goes from a position to the batch that holds offset. sound is false if the position was none to start from.
func (r *reader) walk(position, offset int64) (found, walked int64, sound bool, err error) {
	w := &walk{file: r.handle, position: position, limit: r.limit, buf: make([]byte, 0, 2*indexInterval)}
	for i := 0; ; i++ {
		w.position = r.log.passDamaged(r.segment, w.position)
		at := w.position
		if !w.next() {
			return at, at - position, i > 0 || position == 0, ignoreNoBatch(w.err)
		}
		if i == 0 && position > 0 && w.batch.base > offset {
			return at, 0, false, nil
		}
		if w.batch.next > offset {
			return at, at - position, true, nil
		}
	}
}

// rebuild makes the index of a closed segment again, once in the life of the process.
func (r *reader) rebuild(offset int64) (int64, error) {
	l := r.log
	l.admin.Lock()
	defer l.admin.Unlock()
	if r.cut() {
		return 0, errCut
	}
	l.files.Lock()
	done := r.segment.rebuilt
	r.segment.rebuilt = true
	l.files.Unlock()
	if done {
		position, err := fileIndex(l.store.cache, r.segment, offset)
		if errors.Is(err, errStaleIndex) {
			return 0, nil
		}
		return position, err
	}
	l.store.logger.Info("commitlog: index missing or stale, made again", "segment", r.segment.name(kindIndex))
	x, err := rebuildIndexes(l.store.cache, r.segment, r.limit)
	if err != nil {
		return 0, err
	}
	return x.find(r.segment, offset), nil
}

// hints remember where the last reads ended, for readers that go on there.
type hints struct {
	mu    sync.Mutex // guards the following; nothing is taken under it
	slots [4]hint
	turn  int
}

type hint struct {
	segment  *segment
	offset   int64
	position int64
}

func (h *hints) find(s *segment, offset int64) (int64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.slots {
		if h.slots[i].segment == s && h.slots[i].offset == offset {
			return h.slots[i].position, true
		}
	}
	return 0, false
}

// put remembers that the batch behind last is at a position.
func (h *hints) put(s *segment, last record.Batch, position int64) {
	offset := last.NextOffset()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.slots {
		if h.slots[i].offset <= last.LastOffset() && h.slots[i].offset >= last.BaseOffset() {
			h.slots[i] = hint{s, offset, position}
			return
		}
	}
	h.turn = (h.turn + 1) % len(h.slots)
	h.slots[h.turn] = hint{s, offset, position}
}

func (h *hints) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slots = [4]hint{}
}
