package commitlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Format of the journal: see docs/format/journal.md. All integers are big-endian, as in Kafka's files.
const (
	journalVersion   = 1
	journalMagic     = 0x504c4a52 // "PLJR"
	journalHeader    = 40         // bytes of a header
	journalDataStart = 8192       // the header stands at 0 and again at 4096

	entryHeader = 32
	entryAlign  = 8
	// entryTarget is where an entry is closed and the next begun: what one damaged spot costs. Smaller than a file's quarter in any case.
	entryTarget = 64 << 10

	operationHeader = 36
)

type opKind uint8

const (
	opVoid     opKind = 0 // was refused after it had been encoded; replay passes over it
	opAppend   opKind = 1 // offset: of the first record; payload: batches
	opTruncate opKind = 2 // offset: the new end
	opStart    opKind = 3 // offset: the new start
	opDelete   opKind = 4
	opCreate   opKind = 5 // payload: see appendCreate
	opSkip     opKind = 6 // offset: the new end
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errEntry = errors.New("not a journal entry")

// fileHeader starts a journal file. Each use of a recycled file has a new one.
type fileHeader struct {
	use   uint64 // counts all uses of all files
	salt  uint32 // random, so that nobody can write bytes into a batch that pass for an entry
	first uint64 // sequence of the first entry
	epoch int32
}

func (h fileHeader) appendTo(dst []byte) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, journalMagic)
	dst = binary.BigEndian.AppendUint16(dst, journalVersion)
	dst = binary.BigEndian.AppendUint16(dst, 0)
	dst = binary.BigEndian.AppendUint64(dst, h.use)
	dst = binary.BigEndian.AppendUint32(dst, h.salt)
	dst = binary.BigEndian.AppendUint64(dst, h.first)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.epoch))
	dst = binary.BigEndian.AppendUint32(dst, 0)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// parseFileHeader returns the version even if it is newer than this program's; then the rest is not filled in.
func parseFileHeader(p []byte) (h fileHeader, version uint16, err error) {
	if len(p) < journalHeader || binary.BigEndian.Uint32(p) != journalMagic {
		return h, 0, errEntry
	}
	version = binary.BigEndian.Uint16(p[4:])
	if version > journalVersion {
		return h, version, ErrNewerFormat
	}
	if binary.BigEndian.Uint32(p[journalHeader-4:]) != crc32.Checksum(p[:journalHeader-4], castagnoli) {
		return h, version, errEntry
	}
	h.use = binary.BigEndian.Uint64(p[8:])
	h.salt = binary.BigEndian.Uint32(p[16:])
	h.first = binary.BigEndian.Uint64(p[20:])
	h.epoch = int32(binary.BigEndian.Uint32(p[28:]))
	return h, version, nil
}

// seed is where the CRC of a file's entries starts, so that an entry of an earlier use is none of this one.
func (h fileHeader) seed() uint32 {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], h.use)
	binary.BigEndian.PutUint32(b[8:], h.salt)
	return crc32.Checksum(b[:], castagnoli)
}

// sealEntry fills in the header of an entry whose body is complete. p is header, body and padding.
func sealEntry(p []byte, body int, seed uint32, sequence, synced uint64, operations int) {
	binary.BigEndian.PutUint32(p[4:], uint32(body))
	binary.BigEndian.PutUint64(p[8:], sequence)
	binary.BigEndian.PutUint64(p[16:], synced)
	binary.BigEndian.PutUint32(p[24:], uint32(operations))
	binary.BigEndian.PutUint32(p[28:], 0)
	binary.BigEndian.PutUint32(p, crc32.Update(seed, castagnoli, p[4:entryHeader+body]))
}

// entry is a decoded entry; body aliases what it was parsed from.
type entry struct {
	sequence, synced uint64
	operations       int
	body             []byte
	size             int // with header and padding
}

func align(n int) int { return (n + entryAlign - 1) &^ (entryAlign - 1) }

// parseEntry decodes the entry at the start of p.
func parseEntry(p []byte, seed uint32) (entry, error) {
	if len(p) < entryHeader {
		return entry{}, errEntry
	}
	body := int64(binary.BigEndian.Uint32(p[4:]))
	operations := int64(binary.BigEndian.Uint32(p[24:]))
	if operations == 0 || operations*operationHeader > body || entryHeader+body > int64(len(p)) {
		return entry{}, errEntry
	}
	end := entryHeader + int(body)
	if binary.BigEndian.Uint32(p) != crc32.Update(seed, castagnoli, p[4:end]) {
		return entry{}, errEntry
	}
	return entry{
		sequence:   binary.BigEndian.Uint64(p[8:]),
		synced:     binary.BigEndian.Uint64(p[16:]),
		operations: int(operations),
		body:       p[entryHeader:end],
		size:       align(end),
	}, nil
}

// operation is one decoded operation.
type operation struct {
	kind    opKind
	id      LogID
	offset  int64
	payload []byte
}

func appendOperation(dst []byte, kind opKind, id LogID, offset int64, payload int) []byte {
	dst = append(dst, byte(kind), 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(payload))
	dst = append(dst, id.Topic[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(id.Partition))
	return binary.BigEndian.AppendUint64(dst, uint64(offset))
}

func parseOperation(p []byte) (o operation, rest []byte, err error) {
	if len(p) < operationHeader {
		return o, nil, errEntry
	}
	n := int64(binary.BigEndian.Uint32(p[4:]))
	if n > int64(len(p)-operationHeader) {
		return o, nil, errEntry
	}
	o.kind = opKind(p[0])
	copy(o.id.Topic[:], p[8:])
	o.id.Partition = int32(binary.BigEndian.Uint32(p[24:]))
	o.offset = int64(binary.BigEndian.Uint64(p[28:]))
	end := operationHeader + int(n)
	o.payload = p[operationHeader:end:end]
	return o, p[end:], nil
}

// appendCreate encodes what a created log must be found by again.
func appendCreate(dst []byte, segmentBytes int64, dir string) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(segmentBytes))
	return append(dst, dir...)
}

func parseCreate(p []byte) (segmentBytes int64, dir string, err error) {
	if len(p) < 9 {
		return 0, "", errEntry
	}
	return int64(binary.BigEndian.Uint64(p)), string(p[8:]), nil
}
