package record

import (
	"strconv"
	"sync"
)

// Validate checks everything that a broker must before it appends a producer's
// batch as it is: shape, CRC, the claims of the header, and every record, header
// lengths included. The records must be numbered 0 to n-1 without a gap, for the
// broker only stamps a base offset. maxDecompressed bounds the records of a
// compressed batch, in bytes; a batch that holds more fails with ErrTooLarge,
// every other fault is a CorruptError.
//
// It accepts what Kafka's LogValidator accepts, with two differences: deltas that
// Kafka would renumber are refused, and so are lengths below -1, which Kafka
// takes for null.
func Validate(b Batch, maxDecompressed int) error {
	if err := validateHeader(b); err != nil {
		return err
	}
	return validateRecords(b, maxDecompressed)
}

func validateRecords(b Batch, maxDecompressed int) error {
	r := readers.Get().(*Reader)
	defer r.release()
	if err := r.Reset(b, maxDecompressed); err != nil {
		return err
	}
	// The reader sees to it that deltas ascend within 0 to LastOffsetDelta. As
	// that is one less than the count, they are consecutive.
	for r.Next() {
		if !r.rec.checkHeaders() {
			return corrupt(r.rec.Offset, "record headers")
		}
	}
	return r.Err()
}

// ValidateOpaque is Validate without a look into what is compressed: such a
// batch is taken by its header and its checksum.
func ValidateOpaque(b Batch) error {
	if err := validateHeader(b); err != nil || b.Compression() != None {
		return err
	}
	return validateRecords(b, len(b))
}

func validateHeader(b Batch) error {
	if err := checkShape(b); err != nil {
		return err
	}
	if !b.CRCValid() {
		return corrupt(b.BaseOffset(), "checksum")
	}
	if reason := producerFault(b); reason != "" {
		return corrupt(b.BaseOffset(), reason)
	}
	return nil
}

// producerFault names what a producer may not claim in a batch's header.
func producerFault(b Batch) string {
	attributes, count := b.Attributes(), b.Count()
	switch {
	case b.Compression() > Zstd:
		return "unknown compression " + strconv.Itoa(int(b.Compression()))
	case attributes&attrControl != 0:
		return "control batch from a producer"
	case attributes&attrLogAppendTime != 0:
		return "log append time from a producer"
	case attributes&attrDeleteHorizon != 0:
		return "delete horizon from a producer"
	case count <= 0:
		return "record count " + strconv.Itoa(count)
	case int(b.LastOffsetDelta()) != count-1:
		return "last offset delta " + strconv.Itoa(int(b.LastOffsetDelta())) + " for " + strconv.Itoa(count) + " records"
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return "producer id without an epoch and a sequence"
	case b.ProducerID() < 0 && attributes&attrTransactional != 0:
		return "transactional batch without a producer id"
	}
	return ""
}

// readers lends out Readers whose buffers are worth keeping.
var readers = sync.Pool{New: func() any { return new(Reader) }}

// keptBuffer is the largest buffer, in bytes, that goes back to a pool.
const keptBuffer = 4 << 20

func (r *Reader) release() {
	buffer := r.decompressed
	if cap(buffer) > keptBuffer {
		buffer = nil
	}
	*r = Reader{decompressed: buffer}
	readers.Put(r)
}
