package commitlog

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/polylog-mq/polylog/destination/record"
)

// segment is one .log file with its indexes. The log's last segment is the active one.
type segment struct {
	dir     string
	base    int64
	handles [kinds]*handle // guarded by the file cache

	// Guarded by Log.files.
	size         int64 // of whole batches, written or about to be
	maxTimestamp int64 // ms; -1 if it is empty, unknownTimestamp if it was not asked yet
	maxOffset    int64 // last offset of the batch with maxTimestamp
	damaged      []span64
	rebuilt      bool      // its index was made again by this process
	gone         bool      // removed, or replaced by a cleaned one
	txns         *txnIndex // nil: what the file has
	closed       uint64    // the journal's sequence when it was closed; a later checkpoint has all of it

	aborts atomic.Pointer[abortSummary] // of the file of a closed segment, once it was read; changed with Log.files held

	// Owned by the journal's committer.
	dirty bool // in the list for the next checkpoint
	fresh bool // made since the last checkpoint
}

// span64 is a damaged range: bytes, and the offset that is read instead.
type span64 struct{ from, to int64 }

const unknownTimestamp = -2

func (s *segment) name(kind int) string { return segmentName(s.dir, s.base, extensions[kind]) }

func segmentName(dir string, base int64, extension string) string {
	return fmt.Sprintf("%s/%020d%s", dir, base, extension)
}

// parseSegmentName takes the base offset from a name of 20 digits and the extension.
func parseSegmentName(name, extension string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, extension)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseUint(digits, 10, 63)
	return int64(base), err == nil
}

// walk reads batch headers one after the other.
type walk struct {
	file     io.ReaderAt
	position int64
	limit    int64
	buf      []byte
	from     int64 // position of buf
	batch    batchHeader
	at       int64 // of batch
	err      error
}

const walkBytes = 64 << 10

// next moves to the batch at position; false at the limit or, with err set, where no batch starts.
func (w *walk) next() bool {
	if w.position >= w.limit || w.err != nil {
		return false
	}
	p, err := w.bytes(record.HeaderSize)
	if err != nil {
		w.err = err
		return false
	}
	h, ok := headerOf(p)
	if !ok || w.position+int64(h.size) > w.limit {
		w.err = errNoBatch
		return false
	}
	w.batch, w.at = h, w.position
	w.position += int64(h.size)
	return true
}

var errNoBatch = fmt.Errorf("commitlog: %w", record.ErrCorrupt)

// bytes returns n bytes at position, or fewer with an error.
func (w *walk) bytes(n int) ([]byte, error) {
	if i := w.position - w.from; i >= 0 && i+int64(n) <= int64(len(w.buf)) {
		return w.buf[i : i+int64(n)], nil
	}
	want := int(min(max(int64(cap(w.buf)), int64(n)), w.limit-w.position))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	got, err := w.file.ReadAt(w.buf[:want], w.position)
	w.from, w.buf = w.position, w.buf[:got]
	if got >= n {
		return w.buf[:n], nil
	}
	if err == nil || err == io.EOF {
		err = errNoBatch
	}
	return nil, err
}

// valid reads the whole batch that next has found and checks its CRC.
func (w *walk) valid() bool {
	end := w.position
	w.position = w.at
	p, err := w.bytes(w.batch.size)
	w.position = end
	return err == nil && record.Batch(p).CRCValid()
}
