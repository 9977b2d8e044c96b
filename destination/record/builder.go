package record

import (
	"encoding/binary"
	"math"
)

// Header is one record header. A nil Value is null.
type Header struct {
	Key   string
	Value []byte
}

// Builder writes a batch, record by record, into a buffer that grows and is kept
// for the next batch. The zero Builder is ready to use. It is not safe for
// concurrent use.
//
// A batch is bounded by its int32 length, 2 GiB; a caller that lets others append
// bounds it lower by asking Size before each record.
type Builder struct {
	buf                         []byte // header, then records; empty before the first
	count                       int
	baseTimestamp, maxTimestamp int64

	// What Message.AppendTo needs for a moment.
	headers []Header
	names   []string
	text    []byte
	types   []TypedProperty
}

// Reset starts a new batch, without a producer. Batches handed out before are no
// longer valid.
func (w *Builder) Reset() {
	w.buf, w.count = w.buf[:0], 0
}

// Append adds a record with the next offset. The timestamp is in unix
// milliseconds; a nil key or value is null. It copies everything.
func (w *Builder) Append(timestamp int64, key, value []byte, headers []Header) {
	w.begin()
	if w.count == 0 {
		w.baseTimestamp, w.maxTimestamp = timestamp, timestamp
	}
	w.maxTimestamp = max(w.maxTimestamp, timestamp)
	timestampDelta, offsetDelta := timestamp-w.baseTimestamp, int64(w.count)
	w.count++

	size := 1 + varintSize(timestampDelta) + varintSize(offsetDelta) +
		nullableSize(key) + nullableSize(value) + varintSize(int64(len(headers)))
	for i := range headers {
		size += varintSize(int64(len(headers[i].Key))) + len(headers[i].Key) + nullableSize(headers[i].Value)
	}

	b := appendVarint(w.buf, int64(size))
	b = append(b, 0) // attributes: unused
	b = appendVarint(b, timestampDelta)
	b = appendVarint(b, offsetDelta)
	b = appendNullable(b, key)
	b = appendNullable(b, value)
	b = appendVarint(b, int64(len(headers)))
	for i := range headers {
		b = appendVarint(b, int64(len(headers[i].Key)))
		b = append(b, headers[i].Key...)
		b = appendNullable(b, headers[i].Value)
	}
	w.buf = b
}

// Count is the number of records so far.
func (w *Builder) Count() int { return w.count }

// Size is the length of the batch so far in bytes, its header included.
func (w *Builder) Size() int { return max(len(w.buf), HeaderSize) }

// SetProducer names the idempotent or transactional producer of the batch
// (KIP-98). It holds until Reset.
func (w *Builder) SetProducer(id int64, epoch int16, sequence int32, transactional bool) {
	w.begin()
	binary.BigEndian.PutUint64(w.buf[atProducerID:], uint64(id))
	binary.BigEndian.PutUint16(w.buf[atProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(w.buf[atBaseSequence:], uint32(sequence))
	w.setAttribute(attrTransactional, transactional)
}

// SetControl makes the batch one of control records, the markers of a
// transaction's end (KIP-98). It holds until Reset.
func (w *Builder) SetControl() {
	w.begin()
	w.setAttribute(attrControl, true)
}

// Batch closes the header and returns the batch: base offset 0, leader epoch -1,
// and, unless SetProducer said otherwise, no producer. It is valid until the next
// Append or Reset. A Builder without records has no batch, nil.
func (w *Builder) Batch() Batch {
	if w.count == 0 {
		return nil
	}
	if len(w.buf) > math.MaxInt32 || w.count > math.MaxInt32 {
		panic("record: batch beyond the 2 GiB that its length can say")
	}
	b := Batch(w.buf)
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(w.count-1))
	binary.BigEndian.PutUint64(b[atBaseTimestamp:], uint64(w.baseTimestamp))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(w.maxTimestamp))
	binary.BigEndian.PutUint32(b[atCount:], uint32(w.count))
	b.seal()
	return b
}

// emptyHeader is the header of a batch without records or producer.
var emptyHeader = func() (h [HeaderSize]byte) {
	binary.BigEndian.PutUint32(h[atLeaderEpoch:], math.MaxUint32)
	h[atMagic] = magic2
	binary.BigEndian.PutUint64(h[atProducerID:], math.MaxUint64)
	binary.BigEndian.PutUint16(h[atProducerEpoch:], math.MaxUint16)
	binary.BigEndian.PutUint32(h[atBaseSequence:], math.MaxUint32)
	return h
}()

func (w *Builder) begin() {
	if len(w.buf) == 0 {
		w.buf = append(w.buf, emptyHeader[:]...)
	}
}

func (w *Builder) setAttribute(bit uint16, on bool) {
	attributes := binary.BigEndian.Uint16(w.buf[atAttributes:]) &^ bit
	if on {
		attributes |= bit
	}
	binary.BigEndian.PutUint16(w.buf[atAttributes:], attributes)
}

func nullableSize(v []byte) int {
	if v == nil {
		return 1
	}
	return varintSize(int64(len(v))) + len(v)
}

func appendNullable(dst, v []byte) []byte {
	if v == nil {
		return append(dst, 1) // the varint of -1
	}
	return append(appendVarint(dst, int64(len(v))), v...)
}
