package commitlog

import "io"

// FS is the file system below one data directory. Names are slash-separated and relative to it.
// Errors satisfy errors.Is with fs.ErrNotExist, fs.ErrExist and syscall.ENOSPC where those apply.
// DirFS and MemFS implement it.
type FS interface {
	// OpenFile opens a file for reading and writing. It creates a missing one if create is set, else fails with fs.ErrNotExist.
	OpenFile(name string, create bool) (File, error)
	Remove(name string) error
	RemoveAll(name string) error
	// Rename replaces an existing file; it is atomic, and durable after SyncDir of both directories.
	Rename(from, to string) error
	// Link makes a second name for a file.
	Link(from, to string) error
	MkdirAll(name string) error
	// ReadDir lists a directory in no particular order; "." is the data directory itself.
	ReadDir(name string) ([]Entry, error)
	// Stat gives the size of a file.
	Stat(name string) (int64, error)
	// SyncDir makes the creations, renames and removals in a directory durable.
	SyncDir(name string) error
	// SyncAll makes everything durable (syncfs).
	SyncAll() error
	Close() error
}

// Entry is one name in a directory.
type Entry struct {
	Name string
	Dir  bool
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Truncate sets the size, and gives back what was preallocated past it.
	Truncate(size int64) error
	// Sync makes data and size durable (fdatasync).
	Sync() error
	Size() (int64, error)
	// Preallocate takes disk blocks for the range without changing the size, so that later writes there cannot meet
	// ENOSPC. A file system that cannot do so returns nil.
	Preallocate(offset, length int64) error
	Close() error
}
