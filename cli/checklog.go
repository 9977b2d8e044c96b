package cli

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strconv"
	"strings"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// maxBatchBytes is more than any setting permits: a length beyond it is
// damage.
const maxBatchBytes = 512 << 20

// placed is where a batch of a segment starts and what its last offset is.
type placed struct{ position, last int64 }

// checkLog checks the segments of one partition, in the order of their
// offsets.
func (c *checkReport) checkLog(store commitlog.FS, directory string) error {
	entries, err := store.ReadDir(directory)
	if err != nil {
		return err
	}
	var bases []int64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name, ".log")
		if base, err := strconv.ParseInt(digits, 10, 64); ok && err == nil && len(digits) == 20 {
			bases = append(bases, base)
		}
	}
	if len(bases) == 0 {
		return nil
	}
	c.Logs++
	sort.Slice(bases, func(i, j int) bool { return bases[i] < bases[j] })
	next := int64(0)
	for _, base := range bases {
		if next, err = c.checkSegment(store, path.Join(directory, fmt.Sprintf("%020d", base)), base, next); err != nil {
			return err
		}
	}
	return nil
}

// checkSegment checks one segment, which holds offsets from base on; next is
// the first that the segments before it leave free. It returns the same for
// the next one.
func (c *checkReport) checkSegment(store commitlog.FS, name string, base, next int64) (int64, error) {
	c.Segments++
	if base < next {
		c.find(name+".log", 0, "begins at offset %d, but the segment before it goes up to %d", base, next-1)
	}
	file, err := store.OpenFile(name+".log", false)
	if err != nil {
		return next, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return next, err
	}
	c.Bytes += size
	batches, next, err := c.checkBatches(file, name+".log", size, max(base, next))
	if err != nil {
		return next, err
	}
	if err := c.checkIndex(store, name+".index", base, size, batches); err != nil {
		return next, err
	}
	return next, c.checkTimeIndex(store, name+".timeindex", base, next)
}

// checkBatches walks a segment. What is behind a damaged length cannot be
// found, so that it ends there.
func (c *checkReport) checkBatches(file io.ReaderAt, name string, size, next int64) ([]placed, int64, error) {
	var batches []placed
	var buf []byte
	for position := int64(0); position < size; {
		var prefix [12]byte
		if size-position < record.HeaderSize {
			c.find(name, position, "%d bytes at the end are no whole batch", size-position)
			break
		}
		if _, err := file.ReadAt(prefix[:], position); err != nil {
			return batches, next, fmt.Errorf("read %s: %w", name, err)
		}
		length := int64(int32(binary.BigEndian.Uint32(prefix[8:]))) + 12
		if length < record.HeaderSize || length > min(maxBatchBytes, size-position) {
			c.find(name, position, "a batch of %d bytes cannot be here; the %d bytes from here on cannot be read", length, size-position)
			break
		}
		if int64(cap(buf)) < length {
			buf = make([]byte, length)
		}
		buf = buf[:length]
		if _, err := file.ReadAt(buf, position); err != nil {
			return batches, next, fmt.Errorf("read %s: %w", name, err)
		}
		if b := c.checkBatch(buf, name, position, next); b != nil {
			next = max(next, b.NextOffset())
			batches = append(batches, placed{position, b.LastOffset()})
			c.Batches++
			c.Records += int64(b.Count())
		}
		position += length
	}
	return batches, next, nil
}

// checkBatch returns the batch if it is whole.
func (c *checkReport) checkBatch(buf []byte, name string, position, next int64) record.Batch {
	b, _, err := record.Next(buf)
	if err != nil {
		c.find(name, position, "%v", err)
		return nil
	}
	if !b.CRCValid() {
		c.find(name, position, "the checksum of the batch at offset %d does not hold", b.BaseOffset())
		return nil
	}
	if b.BaseOffset() < next {
		c.find(name, position, "offset %d comes again; %d was expected at least", b.BaseOffset(), next)
	}
	return b
}

// checkIndex checks that every entry leads to the batch that ends with its
// offset. Zeros at the end are room that Kafka keeps.
func (c *checkReport) checkIndex(store commitlog.FS, name string, base, size int64, batches []placed) error {
	data, err := readAll(store, name)
	if err != nil || len(data) == 0 {
		return err
	}
	if len(data)%8 != 0 {
		c.find(name, int64(len(data)-len(data)%8), "ends within an entry")
	}
	previous := int64(-1)
	for at := 0; at+8 <= len(data); at += 8 {
		offset, position := base+int64(binary.BigEndian.Uint32(data[at:])), int64(binary.BigEndian.Uint32(data[at+4:]))
		if at > 0 && offset == base && position == 0 {
			break
		}
		i := sort.Search(len(batches), func(i int) bool { return batches[i].position >= position })
		switch {
		case position >= size || i == len(batches) || batches[i].position != position:
			c.find(name, int64(at), "offset %d is said to be at byte %d, where no batch begins", offset, position)
		case batches[i].last != offset:
			c.find(name, int64(at), "offset %d is said to be at byte %d, where the batch ends with offset %d", offset, position, batches[i].last)
		case position <= previous:
			c.find(name, int64(at), "entries are out of order")
		}
		previous = position
	}
	return nil
}

// checkTimeIndex checks that times and offsets ascend and that the offsets
// are the segment's.
func (c *checkReport) checkTimeIndex(store commitlog.FS, name string, base, next int64) error {
	data, err := readAll(store, name)
	if err != nil {
		return err
	}
	if len(data)%12 != 0 {
		c.find(name, int64(len(data)-len(data)%12), "ends within an entry")
	}
	lastTime, lastOffset := int64(-1), int64(-1)
	for at := 0; at+12 <= len(data); at += 12 {
		timestamp, offset := int64(binary.BigEndian.Uint64(data[at:])), base+int64(binary.BigEndian.Uint32(data[at+8:]))
		if at > 0 && timestamp == 0 && offset == base {
			break
		}
		if timestamp <= lastTime || offset < lastOffset {
			c.find(name, int64(at), "entries are out of order")
		}
		if offset >= next && next > base {
			c.find(name, int64(at), "offset %d is not in the segment, which ends with %d", offset, next-1)
		}
		lastTime, lastOffset = timestamp, offset
	}
	return nil
}

// readAll reads an index; one that is missing is made again when it is needed.
func readAll(store commitlog.FS, name string) ([]byte, error) {
	file, err := store.OpenFile(name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if _, err := file.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}
