package record

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"strconv"
)

// HeaderSize is the length in bytes of a batch's header, before its records.
const HeaderSize = 61

// Where the header's fields are (KIP-98, message format 2). The CRC covers all
// from the attributes to the end, so that a broker may stamp the base offset and
// the leader epoch without touching it.
const (
	atBaseOffset      = 0
	atLength          = 8 // of what follows this field
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57

	// lengthOverhead is what the length field does not count: itself and the base offset.
	lengthOverhead = 12

	magic2 = 2
)

// Bits of the attributes.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40 // KIP-534: the base timestamp is the time at which tombstones go
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is exactly one record batch, header and records. Its accessors trust that
// Next or Validate has seen it: on fewer than HeaderSize bytes they panic.
type Batch []byte

// Next cuts the first batch off buf. It looks at the structure alone, magic and
// length; the CRC and the records are for CRCValid, Validate and Reader.
//
// At the end of an empty buf it returns io.EOF; io.ErrUnexpectedEOF when buf
// ends inside a batch, as a fetch answer may (KIP-74); and a CorruptError when
// no batch of this format starts here.
func Next(buf []byte) (b Batch, rest []byte, err error) {
	if len(buf) == 0 {
		return nil, nil, io.EOF
	}
	if len(buf) > atMagic && buf[atMagic] != magic2 {
		offset := int64(binary.BigEndian.Uint64(buf))
		return nil, buf, corrupt(offset, "magic "+strconv.Itoa(int(buf[atMagic]))+" where 2 is expected")
	}
	if len(buf) < atLength+4 {
		return nil, buf, io.ErrUnexpectedEOF
	}
	length := int64(int32(binary.BigEndian.Uint32(buf[atLength:])))
	if length < HeaderSize-lengthOverhead {
		offset := int64(binary.BigEndian.Uint64(buf))
		return nil, buf, corrupt(offset, "batch length "+strconv.FormatInt(length, 10)+" is shorter than a header")
	}
	size := length + lengthOverhead
	if size > int64(len(buf)) {
		return nil, buf, io.ErrUnexpectedEOF
	}
	return Batch(buf[:size:size]), buf[size:], nil
}

// BaseOffset is the offset that the batch's deltas are relative to.
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b[atBaseOffset:])) }

// LastOffset is the offset of the last record the batch was written with, which
// compaction may have removed since.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// NextOffset is the base offset of the batch that follows directly.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// LeaderEpoch is the epoch of the leader that appended the batch; -1 when unknown.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[atLeaderEpoch:])) }

// Attributes are the batch's flags, as on the wire.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[atAttributes:])) }

// Compression is the codec of everything after the header.
func (b Batch) Compression() Codec { return Codec(b.Attributes() & attrCodec) }

// IsControl tells whether the records are markers of a transaction's end and
// not messages (KIP-98).
func (b Batch) IsControl() bool { return b.Attributes()&attrControl != 0 }

// IsTransactional tells whether the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b.Attributes()&attrTransactional != 0 }

// HasLogAppendTime tells whether MaxTimestamp, the time of the append, stands
// for every record's timestamp (KIP-32).
func (b Batch) HasLogAppendTime() bool { return b.Attributes()&attrLogAppendTime != 0 }

// BaseTimestamp, in unix milliseconds, is what the timestamp deltas are relative to.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[atBaseTimestamp:])) }

// MaxTimestamp is the newest of the records' timestamps, in unix milliseconds.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[atMaxTimestamp:])) }

// ProducerID is -1 for a producer that is neither idempotent nor transactional.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[atProducerID:])) }

// ProducerEpoch is -1 without a producer id.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[atProducerEpoch:])) }

// BaseSequence is the first record's sequence number; -1 without a producer id.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[atBaseSequence:])) }

// LastOffsetDelta is LastOffset relative to BaseOffset.
func (b Batch) LastOffsetDelta() int32 {
	return int32(binary.BigEndian.Uint32(b[atLastOffsetDelta:]))
}

// Count is the number of records that the header claims.
func (b Batch) Count() int { return int(int32(binary.BigEndian.Uint32(b[atCount:]))) }

// SetBaseOffset moves the whole batch to offset, in place. The CRC does not cover it.
func (b Batch) SetBaseOffset(offset int64) {
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(offset))
}

// SetLeaderEpoch stamps the epoch, in place. The CRC does not cover it.
func (b Batch) SetLeaderEpoch(epoch int32) {
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(epoch))
}

// SetLogAppendTime has ms, the time of the append in unix milliseconds, stand for
// every record's timestamp, in place (KIP-32).
func (b Batch) SetLogAppendTime(ms int64) {
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(b.Attributes())|attrLogAppendTime)
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(ms))
	b.seal()
}

// CRCValid tells whether the checksum matches the bytes it covers.
func (b Batch) CRCValid() bool {
	return binary.BigEndian.Uint32(b[atCRC:]) == crc32.Checksum(b[atAttributes:], castagnoli)
}

// seal makes the length and the checksum right again after a change.
func (b Batch) seal() {
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-lengthOverhead))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
}

// records are the bytes after the header, compressed if the batch is.
func (b Batch) records() []byte { return b[HeaderSize:] }
