package commitlog

import (
	"errors"
	"fmt"
	"syscall"
)

// Errors of an append or a commit. They reach the caller, or its Waiter when the append was already in the journal's buffer.
var (
	// ErrFull means that the disk has no room for the append. Nothing of it remains, its offsets are used again,
	// and appends succeed once there is room. It wraps syscall.ENOSPC.
	ErrFull = fmt.Errorf("commitlog: disk full: %w", syscall.ENOSPC)

	// ErrTooLarge means that a batch is larger than Config.MaxBatchBytes, or that one Append or Commit does not fit into
	// a quarter of a journal file.
	ErrTooLarge = errors.New("commitlog: too large")

	// ErrFailed means that an earlier write or sync failed for good; it wraps nothing by itself, see FailedError.
	ErrFailed = errors.New("commitlog: store failed")
)

// Errors of a log that cannot serve.
var (
	// ErrOffsetOutOfRange means that an offset is below Start or above the end that the call can reach.
	ErrOffsetOutOfRange = errors.New("commitlog: offset out of range")

	// ErrDeleted means that the log was deleted.
	ErrDeleted = errors.New("commitlog: log deleted")

	// ErrClosed means that the store is closed.
	ErrClosed = errors.New("commitlog: store closed")
)

// Errors of Open.
var (
	// ErrNewerFormat means that a file was written by a newer version. The error names the file and both versions.
	ErrNewerFormat = errors.New("commitlog: written by a newer version")

	// ErrLocked means that another process has the data directory open.
	ErrLocked = errors.New("commitlog: data directory is in use")

	// ErrCheckpointDamaged means that neither copy of the checkpoint can be read.
	ErrCheckpointDamaged = errors.New("commitlog: checkpoint damaged")
)

// FailedError is what every append gets after a failed sync (reliability S3). errors.Is(err, ErrFailed) holds.
type FailedError struct {
	Doing string // what was being done, with the file's name
	Err   error
}

func (e *FailedError) Error() string {
	return "commitlog: store failed: " + e.Doing + ": " + e.Err.Error()
}

// Unwrap gives ErrFailed and the cause.
func (e *FailedError) Unwrap() []error { return []error{ErrFailed, e.Err} }

// DamagedError names a range that could not be read and that was set aside (reliability S2). The rest is served.
type DamagedError struct {
	Dir     string // the log's directory, or "journal"
	Segment string // the damaged file's name within Dir
	Aside   string // where the file was put, relative to the data directory; empty if that failed
	// Offset is the first offset that is missing, Next the first that is there again. Both are sequences of the
	// journal if Dir is "journal".
	Offset, Next int64
	// Position and Length are the damaged bytes of the file.
	Position, Length int64
	Reason           string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("commitlog: %s/%s damaged at byte %d (%d bytes), offsets %d to %d lost: %s",
		e.Dir, e.Segment, e.Position, e.Length, e.Offset, e.Next, e.Reason)
}
