package spill

import "io"

// fileSystem is one directory, which is all that a store needs. Errors satisfy
// errors.Is with fs.ErrNotExist and syscall.ENOSPC where those apply.
type fileSystem interface {
	// OpenFile opens a file for reading and writing. It creates a missing one
	// if create is set, else fails with fs.ErrNotExist.
	OpenFile(name string, create bool) (file, error)
	Remove(name string) error
	// ReadDir lists the names in the directory in no particular order.
	ReadDir() ([]string, error)
	// SyncDir makes creations and removals durable.
	SyncDir() error
	Close() error
}

type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	// Sync makes data and size durable.
	Sync() error
	Size() (int64, error)
	Close() error
}
