package record

import (
	"errors"
	"fmt"
)

var (
	// ErrCorrupt says that bytes are not what the format demands. What is
	// returned is a CorruptError, which says where and why.
	ErrCorrupt = errors.New("corrupt record batch")

	// ErrTooLarge says that a batch holds more bytes, decompressed, than the
	// caller allows. Decompression stops there.
	ErrTooLarge = errors.New("record batch is too large when decompressed")

	// ErrNewerVersion says that a format of ours was written by a newer polylog.
	ErrNewerVersion = errors.New("newer format version")

	// ErrReservedName says that a property's name belongs to polylog or to a
	// field of Message.
	ErrReservedName = errors.New("reserved property name")

	// ErrPropertyType says that a property's value is none of the types that
	// a JMS property may have.
	ErrPropertyType = errors.New("unsupported property type")
)

// CorruptError is the ErrCorrupt with its place.
type CorruptError struct {
	Offset int64 // base offset of the batch, or the record's own where that is known; -1 when neither is
	Reason string
}

func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return "corrupt record batch: " + e.Reason
	}
	return fmt.Sprintf("corrupt record batch at offset %d: %s", e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) hold.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func corrupt(offset int64, reason string) error {
	return &CorruptError{Offset: offset, Reason: reason}
}
