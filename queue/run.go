package queue

import (
	"encoding/binary"
	"hash/crc32"
	"sync"

	"github.com/polylog-mq/polylog/destination/record"
)

const (
	// readBytes is how much is read from the log in one go, in bytes; a larger
	// batch is read whole.
	readBytes = 64 << 10
	// maxDecompressed bounds one batch out of its compression, in bytes.
	maxDecompressed = 256 << 20
)

// chunk is bytes read from the log in one go, which runs point into.
type chunk struct {
	buf  []byte
	runs int // that point here
}

var chunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, 0, readBytes)} }}

// free gives the chunk back, unless it is small, or had to grow for an
// unusually large batch.
func (c *chunk) free() {
	if n := cap(c.buf); n >= readBytes && n <= windowBytes/4 {
		c.buf, c.runs = c.buf[:0], 0
		chunks.Put(c)
	}
}

// run is records of one stored batch that are consecutive in offset and share
// their routing. It has at least one record.
type run struct {
	chunk           *chunk
	batch, batchEnd int32 // the stored batch, in chunk.buf
	at, end         int32 // its records of this run; at is 0 while the batch is compressed, and then the run is all of it
	from, to        int64 // offsets
	expires         int64 // the earliest expiration, ms; 0: none of them expires
	group           int32 // 0: none; else 1 + the group's slot
	priority        uint8
}

func (r *run) records() int64       { return r.to - r.from }
func (r *run) packed() bool         { return r.at == 0 }
func (r *run) stored() record.Batch { return record.Batch(r.chunk.buf[r.batch:r.batchEnd]) }

// whole says whether the run is all of its batch, as it is stored.
func (r *run) whole() bool {
	return r.packed() || r.at == r.batch+record.HeaderSize && r.end == r.batchEnd &&
		int64(r.stored().Count()) == r.records()
}

// continues says whether next, which comes later in the batch, can be part of r.
func (r *run) continues(next *run) bool {
	return r.to == next.from && r.end == next.at && r.priority == next.priority && r.group == next.group &&
		(r.expires == 0) == (next.expires == 0)
}

// first measures the first records of the run: at most n, at most limit bytes,
// at least one. end is where they end. A packed run is taken whole or opened
// before.
func (r *run) first(n int64, limit int) (records int64, end int32) {
	if n >= r.records() && (r.packed() || int(r.end-r.at) <= limit) {
		return r.records(), r.end
	}
	end = r.at
	for records < n && end < r.end {
		next := r.after(end)
		if records > 0 && int(next-r.at) > limit {
			break
		}
		end = next
		records++
	}
	return records, end
}

// after is where the record at ends. The bytes were walked when they were read.
func (r *run) after(at int32) int32 {
	size, n := binary.Varint(r.chunk.buf[at:r.end])
	return at + int32(n) + int32(size)
}

// Where the fields of a batch's header are that change in a cut (KIP-98,
// message format 2). The CRC covers all from the attributes on.
const (
	atLength     = 8
	atCRC        = 17
	atAttributes = 21
	atCount      = 57
	codecBits    = 0x07
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendCut appends to dst a batch of count records whose bytes, uncompressed,
// are given and come from stored. As after compaction, base offset and deltas
// stay. It is record.Subset for records that lie together, without a walk over
// those that are not wanted.
func appendCut(dst []byte, stored record.Batch, records []byte, count int64) []byte {
	start := len(dst)
	dst = append(append(dst, stored[:record.HeaderSize]...), records...)
	b := dst[start:]
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-atLength-4))
	b[atAttributes+1] &^= codecBits
	binary.BigEndian.PutUint32(b[atCount:], uint32(count))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return dst
}
