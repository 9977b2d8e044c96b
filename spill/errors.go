package spill

import (
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/destination/record"
)

var (
	// ErrFull says that the message has no room: what is pending has reached
	// Options.MaxBytes, or the disk is full. Nothing of it is kept.
	ErrFull = errors.New("no room to spill")

	// ErrLocked says that another Producer has the directory.
	ErrLocked = errors.New("the directory is in use by another producer")

	// ErrClosed says that the Producer is closed.
	ErrClosed = errors.New("the producer is closed")

	// ErrNewerVersion says that a file was written by a newer polylog. The
	// error names the file.
	ErrNewerVersion = record.ErrNewerVersion

	// ErrCorrupt says that what had been safe cannot be read any more. What is
	// returned is a *CorruptError.
	ErrCorrupt = errors.New("damaged")

	// errBroken says that the disk has failed: what is on it is known again
	// when the directory is opened again.
	errBroken = errors.New("the directory can no longer be written")
)

// CorruptError is the ErrCorrupt with its place.
type CorruptError struct {
	File   string
	Offset int64 // byte
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s", e.File, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) hold.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
