package spill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/polylog-mq/polylog/destination/record"
)

// A segment is a file of messages: a header, and record batches in Kafka's format
// one behind the other. The offsets in them are the messages' numbers, and the
// producer id is the segment's salt, so that no batch that is in a message's body
// is taken for one of the file's. docs/format/spill.md draws it.
//
// Each write is one batch, and is synced before the next: so a batch shows that
// all in front of it was safe once.
type segment struct {
	name  string
	file  file
	first int64 // the number of its first message
	end   int64 // the number behind its last one
	size  int64 // bytes that are safe
	salt  int64
}

const (
	segmentMagic   = "plogspil"
	segmentVersion = 1
	segmentHeader  = 32 // bytes
	segmentSuffix  = ".spill"

	batchLengthAt  = 8 // where a batch has its length, which does not count what is in front of it
	batchLengthEnd = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func segmentName(first int64) string { return fmt.Sprintf("%020d%s", first, segmentSuffix) }

// parseSegmentName returns false for what segmentName does not produce.
func parseSegmentName(name string) (first int64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	first, err := strconv.ParseInt(digits, 10, 64)
	return first, err == nil && first >= 0 && segmentName(first) == name
}

// createSegment makes a file for messages from first on. It is durable, but for
// its name.
func createSegment(fs fileSystem, first int64) (*segment, error) {
	s := &segment{name: segmentName(first), first: first, end: first, size: segmentHeader, salt: rand.Int64()}
	var err error
	if s.file, err = fs.OpenFile(s.name, true); err != nil {
		return nil, err
	}
	header := make([]byte, segmentHeader)
	copy(header, segmentMagic)
	binary.BigEndian.PutUint32(header[8:], segmentVersion)
	binary.BigEndian.PutUint64(header[16:], uint64(first))
	binary.BigEndian.PutUint64(header[24:], uint64(s.salt))
	binary.BigEndian.PutUint32(header[12:], headerChecksum(header))
	err = s.file.Truncate(0) // of a file of that name that was found to hold nothing
	if err == nil {
		_, err = s.file.WriteAt(header, 0)
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

// headerChecksum is over all of a header but the checksum's own place.
func headerChecksum(header []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:12], castagnoli), castagnoli, header[16:])
}

// errUnborn says that a segment has nothing but a header that is not whole: it was
// being made when the process or the power went.
var errUnborn = errors.New("no header yet")

// openSegment reads the header. The size is the file's, the end is not known yet.
func openSegment(fs fileSystem, name string, first int64) (_ *segment, err error) {
	s := &segment{name: name, first: first, end: first}
	if s.file, err = fs.OpenFile(name, false); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.file.Close())
		}
	}()
	if s.size, err = s.file.Size(); err != nil {
		return nil, err
	}
	header := make([]byte, min(s.size, segmentHeader))
	if _, err := s.file.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(header) >= 12 && string(header[:8]) == segmentMagic {
		if version := binary.BigEndian.Uint32(header[8:]); version > segmentVersion {
			return nil, fmt.Errorf("%w: %s has version %d, and this polylog knows none beyond %d", ErrNewerVersion, name, version, segmentVersion)
		}
	}
	switch {
	case s.size >= segmentHeader && string(header[:8]) == segmentMagic && binary.BigEndian.Uint32(header[12:]) == headerChecksum(header):
	case s.size > segmentHeader:
		return nil, &CorruptError{name, 0, "the header"}
	default:
		return nil, errUnborn
	}
	if n := int64(binary.BigEndian.Uint64(header[16:])); n != first {
		return nil, &CorruptError{name, 16, fmt.Sprintf("it begins with message %d, not %d as its name says", n, first)}
	}
	s.salt = int64(binary.BigEndian.Uint64(header[24:]))
	return s, nil
}

// batchAt reads the batch at a byte offset, whose first message has this number.
// An error with a reason, a *CorruptError, is one of the content.
func (s *segment) batchAt(at, number int64) (record.Batch, error) {
	corrupt := func(reason string) (record.Batch, error) { return nil, &CorruptError{s.name, at, reason} }
	if s.size-at < record.HeaderSize {
		return corrupt("less than a batch's header")
	}
	var length [batchLengthEnd]byte
	if _, err := s.file.ReadAt(length[:], at); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(length[batchLengthAt:])) + batchLengthEnd
	if n < record.HeaderSize || n > s.size-at {
		return corrupt(fmt.Sprintf("a batch of %d bytes, where %d are left", n, s.size-at))
	}
	b := make(record.Batch, n)
	if _, err := s.file.ReadAt(b, at); err != nil {
		return nil, err
	}
	if reason := s.fault(b); reason != "" {
		return corrupt(reason)
	}
	if b.BaseOffset() != number {
		return corrupt(fmt.Sprintf("message %d where %d is expected", b.BaseOffset(), number))
	}
	return b, nil
}

// fault says what keeps b from being a batch of this segment.
func (s *segment) fault(b record.Batch) string {
	if err := record.Validate(b, 0); err != nil {
		return err.Error()
	}
	if b.ProducerID() != s.salt {
		return "a batch of another file"
	}
	return ""
}

// findEnd reads the last segment through, and cuts off what a write has left that
// was under way when the process or the power went. What is damaged and had been
// safe is a *CorruptError.
func (s *segment) findEnd() error {
	at := int64(segmentHeader)
	for at < s.size {
		b, err := s.batchAt(at, s.end)
		var damage *CorruptError
		if errors.As(err, &damage) {
			return s.cut(at, damage)
		}
		if err != nil {
			return err
		}
		at += int64(len(b))
		s.end = b.NextOffset()
	}
	return nil
}

// cut makes the segment end at a byte offset, unless a batch behind it shows that
// what is there had been safe.
func (s *segment) cut(at int64, damage *CorruptError) error {
	rest := make([]byte, s.size-at)
	if _, err := s.file.ReadAt(rest, at); err != nil {
		return err
	}
	for from := range rest {
		if b, _, err := record.Next(rest[from:]); from > 0 && err == nil && b.ProducerID() == s.salt && b.CRCValid() {
			return damage
		}
	}
	if err := s.file.Truncate(at); err != nil {
		return err
	}
	s.size = at
	return s.file.Sync()
}

// encode makes one batch of messages that are numbered from first on.
func encode(w *record.Builder, entries []*entry, first, salt int64) (record.Batch, error) {
	w.Reset()
	w.SetProducer(salt, 0, 0, false)
	for _, e := range entries {
		if err := e.message.AppendTo(w, record.Header{Key: headerName, Value: e.to.header()}); err != nil {
			return nil, err
		}
	}
	b := w.Batch()
	b.SetBaseOffset(first)
	return b, nil
}

// decode appends to items the messages of b from this number on.
func decode(items []item, b record.Batch, from int64) ([]item, error) {
	var r record.Reader
	if err := r.Reset(b, 0); err != nil {
		return items, err
	}
	for r.Next() {
		if r.Record().Offset < from {
			continue
		}
		i, err := decodeItem(r.Record())
		if err != nil {
			return items, fmt.Errorf("message %d: %w", r.Record().Offset, err)
		}
		items = append(items, i)
	}
	return items, r.Err()
}
