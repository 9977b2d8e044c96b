package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
)

// Format of the checkpoint: see docs/format/checkpoint.md.
const (
	checkpointVersion = 1
	checkpointMagic   = 0x504c4350 // "PLCP"
	checkpointHeader  = 56
	checkpointLog     = 65 // bytes of a log without its directory's name

	checkpointName = "checkpoint"
	checkpointCopy = "checkpoint.copy" // the same again, against a damaged sector
)

// checkpoint is what all segments hold, durably, and from where the journal has to be replayed over it.
type checkpoint struct {
	clean   bool
	epoch   int32
	mark    journalMark
	nextUse uint64
	logs    []checkpointedLog
}

type checkpointedLog struct {
	id           LogID
	memory       bool
	unproduced   bool // there was never a batch with a producer id
	segmentBytes int64
	start, end   int64
	base, size   int64 // of the active segment; base -1 if there is none
	dir          string
}

func (c *checkpoint) appendTo(dst []byte) []byte {
	at := len(dst)
	flags := uint16(0)
	if c.clean {
		flags = 1
	}
	dst = binary.BigEndian.AppendUint32(dst, checkpointMagic)
	dst = binary.BigEndian.AppendUint16(dst, checkpointVersion)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	dst = binary.BigEndian.AppendUint32(dst, uint32(c.epoch))
	dst = binary.BigEndian.AppendUint64(dst, c.mark.use)
	dst = binary.BigEndian.AppendUint64(dst, uint64(c.mark.position))
	dst = binary.BigEndian.AppendUint64(dst, c.mark.sequence)
	dst = binary.BigEndian.AppendUint64(dst, c.mark.synced)
	dst = binary.BigEndian.AppendUint64(dst, c.nextUse)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(c.logs)))
	for i := range c.logs {
		dst = c.logs[i].appendTo(dst)
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

func (l *checkpointedLog) appendTo(dst []byte) []byte {
	dst = append(dst, l.id.Topic[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(l.id.Partition))
	flags := byte(0)
	if l.memory {
		flags = 1
	}
	if l.unproduced {
		flags |= 2
	}
	dst = append(dst, flags)
	for _, n := range [...]int64{l.segmentBytes, l.start, l.end, l.base, l.size} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	dst = binary.BigEndian.AppendUint16(dst, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(l.dir)))
	return append(dst, l.dir...)
}

var errCheckpoint = errors.New("not a checkpoint")

func parseCheckpoint(p []byte) (*checkpoint, error) {
	if len(p) < checkpointHeader+4 || binary.BigEndian.Uint32(p) != checkpointMagic {
		return nil, errCheckpoint
	}
	if v := binary.BigEndian.Uint16(p[4:]); v > checkpointVersion {
		return nil, fmt.Errorf("%w: version %d, known is %d", ErrNewerFormat, v, checkpointVersion)
	}
	body := p[:len(p)-4]
	if binary.BigEndian.Uint32(p[len(body):]) != crc32.Checksum(body, castagnoli) {
		return nil, fmt.Errorf("%w: checksum", errCheckpoint)
	}
	c := &checkpoint{
		clean: binary.BigEndian.Uint16(p[6:])&1 != 0,
		epoch: int32(binary.BigEndian.Uint32(p[8:])),
		mark: journalMark{
			use:      binary.BigEndian.Uint64(p[12:]),
			position: int64(binary.BigEndian.Uint64(p[20:])),
			sequence: binary.BigEndian.Uint64(p[28:]),
			synced:   binary.BigEndian.Uint64(p[36:]),
		},
		nextUse: binary.BigEndian.Uint64(p[44:]),
	}
	count := int64(binary.BigEndian.Uint32(p[52:]))
	rest := body[checkpointHeader:]
	if count*checkpointLog > int64(len(rest)) || c.mark.position < 0 {
		return nil, errCheckpoint
	}
	c.logs = make([]checkpointedLog, 0, count)
	for range count {
		var l checkpointedLog
		var err error
		if l, rest, err = parseCheckpointedLog(rest); err != nil {
			return nil, err
		}
		c.logs = append(c.logs, l)
	}
	if len(rest) != 0 {
		return nil, errCheckpoint
	}
	return c, nil
}

func parseCheckpointedLog(p []byte) (l checkpointedLog, rest []byte, err error) {
	if len(p) < checkpointLog {
		return l, nil, errCheckpoint
	}
	copy(l.id.Topic[:], p)
	l.id.Partition = int32(binary.BigEndian.Uint32(p[16:]))
	l.memory, l.unproduced = p[20]&1 != 0, p[20]&2 != 0
	for i, n := range [...]*int64{&l.segmentBytes, &l.start, &l.end, &l.base, &l.size} {
		*n = int64(binary.BigEndian.Uint64(p[21+8*i:]))
	}
	n := int(binary.BigEndian.Uint16(p[63:]))
	p = p[checkpointLog:]
	if n > len(p) || l.size < 0 || l.size > math.MaxInt32 || l.end < 0 {
		return l, nil, errCheckpoint
	}
	l.dir = string(p[:n])
	return l, p[n:], nil
}

// writeCheckpoint replaces both copies, durably.
func writeCheckpoint(fsys FS, p []byte) error {
	for _, name := range []string{checkpointName, checkpointCopy} {
		if err := replaceFile(fsys, name, p, true); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := fsys.SyncDir("."); err != nil {
			return &syncError{fmt.Errorf("%s: %w", name, err)}
		}
	}
	return nil
}

// replaceFile writes a file beside the old one, syncs it if it is not one that can be made again, and renames it over the
// old one. The caller syncs the directory.
func replaceFile(fsys FS, name string, p []byte, durable bool) error {
	temporary := name + ".tmp"
	f, err := fsys.OpenFile(temporary, true)
	if err != nil {
		return err
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt(p, 0)
	}
	if err == nil && durable {
		if err = f.Sync(); err != nil {
			err = &syncError{err}
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return fsys.Rename(temporary, name)
}

// readCheckpoint returns the newer of the two copies that can be read, nil if there was never one. It reports the other
// one if that is damaged.
func readCheckpoint(fsys FS) (best *checkpoint, damaged []*DamagedError, err error) {
	for _, name := range []string{checkpointName, checkpointCopy} {
		p, err := readFile(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", name, err)
		}
		c, err := parseCheckpoint(p)
		if errors.Is(err, ErrNewerFormat) {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		if err != nil {
			damaged = append(damaged, &DamagedError{Dir: ".", Segment: name, Length: int64(len(p)), Reason: err.Error()})
			continue
		}
		if best == nil || c.nextUse > best.nextUse || c.mark.sequence > best.mark.sequence {
			best = c
		}
	}
	if best == nil && len(damaged) > 0 {
		return nil, nil, fmt.Errorf("%w: %w", ErrCheckpointDamaged, damaged[0])
	}
	return best, damaged, nil
}

func readFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, false)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	var p []byte
	if err == nil {
		p = make([]byte, size)
		var n int
		n, err = f.ReadAt(p, 0)
		p = p[:n]
		if err == io.EOF {
			err = nil
		}
	}
	return p, errors.Join(err, f.Close())
}
