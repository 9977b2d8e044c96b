package record

import (
	"encoding/binary"
	"strconv"
)

// minRecordSize is the shortest record there is: its length, attributes,
// timestamp and offset deltas, null key, null value and no headers, a byte each.
// A batch that claims more records than its bytes can hold lies.
const minRecordSize = 7

// minHeaderSize is that of a header: an empty name and a null value.
const minHeaderSize = 2

// Reader walks the records of a batch, and is reusable. Of an uncompressed batch
// it reads in place and allocates nothing; a compressed one it decompresses into
// a buffer that it keeps for the next. It is not safe for concurrent use.
//
// It accepts what compaction leaves behind: offsets may be missing, but ascend.
type Reader struct {
	rest []byte
	left int // records still to come
	rec  Record
	err  error

	baseOffset    int64
	baseTimestamp int64
	maxTimestamp  int64
	appendTime    bool
	lastDelta     int32 // of the record before; -1 before the first
	maxDelta      int32

	decompressed []byte
}

// Reset starts on b. The records of a compressed batch may take at most
// maxDecompressed bytes, else ErrTooLarge; the limit does not concern an
// uncompressed batch. The CRC is not checked. An error is a CorruptError or
// ErrTooLarge, and Err returns it too.
func (r *Reader) Reset(b Batch, maxDecompressed int) error {
	r.rest, r.left, r.rec, r.err = nil, 0, Record{}, nil
	if r.err = checkShape(b); r.err != nil {
		return r.err
	}
	r.baseOffset = b.BaseOffset()
	r.baseTimestamp = b.BaseTimestamp()
	r.maxTimestamp = b.MaxTimestamp()
	r.appendTime = b.HasLogAppendTime()
	r.lastDelta, r.maxDelta = -1, b.LastOffsetDelta()

	payload := b.records()
	if codec := b.Compression(); codec != None {
		r.decompressed, r.err = decompress(r.decompressed[:0], codec, payload, maxDecompressed)
		if r.err != nil {
			r.err = atOffset(r.err, r.baseOffset)
			return r.err
		}
		payload = r.decompressed
	}
	count := b.Count()
	if count < 0 || count > len(payload)/minRecordSize {
		r.err = corrupt(r.baseOffset, "record count "+strconv.Itoa(count)+" in "+strconv.Itoa(len(payload))+" bytes")
		return r.err
	}
	r.rest, r.left = payload, count
	return nil
}

// Next goes to the next record. It returns false after the last, and at damage,
// which Err tells apart.
func (r *Reader) Next() bool {
	if r.left == 0 {
		if len(r.rest) != 0 {
			r.fail("bytes after the last record")
		}
		return false
	}
	b := r.rest
	size, at := varint32(b, 0)
	if at < 0 || size < minRecordSize-1 || int(size) > len(b)-at {
		return r.fail("record length")
	}
	end := at + int(size)
	r.rest, b = b[end:], b[:end:end]
	r.rec.raw = b

	// The record's attributes, a byte, mean nothing yet (KIP-98).
	timestampDelta, at := varint64(b, at+1)
	if at < 0 {
		return r.fail("timestamp delta")
	}
	delta, at := varint32(b, at)
	if at < 0 || delta <= r.lastDelta || delta > r.maxDelta {
		return r.fail("offset delta")
	}
	r.lastDelta = delta
	if r.rec.Key, at = nullableBytes(b, at); at < 0 {
		return r.fail("key length")
	}
	if r.rec.Value, at = nullableBytes(b, at); at < 0 {
		return r.fail("value length")
	}
	headers, at := varint32(b, at)
	if at < 0 || headers < 0 || int(headers) > (end-at)/minHeaderSize {
		return r.fail("header count")
	}
	if headers == 0 && at != end {
		return r.fail("bytes after a record's end")
	}
	r.rec.headers, r.rec.headerCount = b[at:], int(headers)
	r.rec.Offset = r.baseOffset + int64(delta)
	if r.rec.Timestamp = r.maxTimestamp; !r.appendTime {
		r.rec.Timestamp = r.baseTimestamp + timestampDelta
	}
	r.left--
	return true
}

// Record is the record that Next went to. It is overwritten by the next Next.
func (r *Reader) Record() *Record { return &r.rec }

// Err is what stopped the walk before the batch's end: a CorruptError, or what
// Reset returned.
func (r *Reader) Err() error { return r.err }

func (r *Reader) fail(reason string) bool {
	if r.err == nil {
		offset := r.baseOffset + int64(r.lastDelta) + 1
		r.err = corrupt(offset, reason)
	}
	r.rest, r.left = nil, 0
	return false
}

// nullableBytes reads a length and that many bytes at i; a length of -1 is null.
func nullableBytes(b []byte, i int) (v []byte, next int) {
	size, i := varint32(b, i)
	if i < 0 || size < -1 || int(size) > len(b)-i {
		return nil, -1
	}
	if size < 0 {
		return nil, i
	}
	end := i + int(size)
	return b[i:end:end], end
}

// checkShape says whether b is exactly one batch of this format, by its length
// and magic.
func checkShape(b Batch) error {
	switch {
	case len(b) < HeaderSize:
		return corrupt(-1, "batch of "+strconv.Itoa(len(b))+" bytes is shorter than a header")
	case b[atMagic] != magic2:
		return corrupt(b.BaseOffset(), "magic "+strconv.Itoa(int(b[atMagic]))+" where 2 is expected")
	case int64(int32(binary.BigEndian.Uint32(b[atLength:])))+lengthOverhead != int64(len(b)):
		return corrupt(b.BaseOffset(), "batch length does not match its bytes")
	}
	return nil
}
