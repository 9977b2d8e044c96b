package spill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nuid"
)

// position is the file that says what is done: that the broker has confirmed all
// messages below a number. It is written after each confirmation and synced at the
// end: when the power goes, what it has forgotten is sent again. It also has the
// producer's name, which all message ids begin with.
//
// Two places are written in turn, a sector each, so that one of them is whole.
type position struct {
	file file
	name string // of the producer: a nuid
	done int64
	next int64 // 0 or 1: the place to be written next
}

const (
	positionFile    = "position"
	positionMagic   = "plogposi"
	positionVersion = 1
	positionSize    = 64  // bytes of a place
	positionSpacing = 512 // bytes from one place to the other
	nameSize        = 22  // of a nuid
)

// openPosition reads the file, or makes it. Without a whole place it knows nothing.
func openPosition(fs fileSystem) (_ *position, err error) {
	p := &position{}
	if p.file, err = fs.OpenFile(positionFile, true); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.file.Close())
		}
	}()
	for place := range int64(2) {
		if err := p.read(place); err != nil {
			return nil, err
		}
	}
	if p.name != "" {
		return p, nil
	}
	p.name = nuid.Next()
	for range 2 { // so that both places have their room on the disk
		if err := p.note(0); err != nil {
			return nil, err
		}
	}
	return p, errors.Join(p.file.Sync(), fs.SyncDir())
}

func (p *position) read(place int64) error {
	b := make([]byte, positionSize)
	if n, err := p.file.ReadAt(b, place*positionSpacing); n < len(b) {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	if string(b[:8]) != positionMagic {
		return nil
	}
	if version := binary.BigEndian.Uint32(b[8:]); version > positionVersion {
		return fmt.Errorf("%w: %s has version %d, and this polylog knows none beyond %d", ErrNewerVersion, positionFile, version, positionVersion)
	}
	if binary.BigEndian.Uint32(b[12:]) != headerChecksum(b) {
		return nil
	}
	if done := int64(binary.BigEndian.Uint64(b[16:])); p.name == "" || done > p.done {
		p.done, p.name, p.next = done, string(b[24:24+nameSize]), 1-place
	}
	return nil
}

// note writes what is done. It does not sync.
func (p *position) note(done int64) error {
	b := make([]byte, positionSize)
	copy(b, positionMagic)
	binary.BigEndian.PutUint32(b[8:], positionVersion)
	binary.BigEndian.PutUint64(b[16:], uint64(done))
	copy(b[24:], p.name)
	binary.BigEndian.PutUint32(b[12:], headerChecksum(b))
	if _, err := p.file.WriteAt(b, p.next*positionSpacing); err != nil {
		return fmt.Errorf("write %s: %w", positionFile, err)
	}
	p.done, p.next = done, 1-p.next
	return nil
}

func (p *position) close() error { return errors.Join(p.file.Sync(), p.file.Close()) }
