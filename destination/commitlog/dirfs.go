package commitlog

import (
	"errors"
	"fmt"
	"os"
	"path"
	"sync/atomic"
)

// dirFS is a directory of the operating system, reached through os.Root so that no name can leave it.
type dirFS struct {
	root *os.Root
	lock *os.File
	// noPreallocate is set once the file system has said that it cannot.
	noPreallocate atomic.Bool
}

// DirFS opens a data directory, made if it is missing, and locks it: a second process gets ErrLocked.
// The Store that uses it closes it.
func DirFS(directory string) (FS, error) {
	if err := os.MkdirAll(directory, 0o750); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	lock, err := root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o640)
	if err == nil {
		if err = lockFile(lock); err != nil {
			_ = lock.Close()
		}
	}
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("lock %s: %w", directory, err)
	}
	return &dirFS{root: root, lock: lock}, nil
}

func (d *dirFS) OpenFile(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE
	}
	f, err := d.root.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, fs: d}, nil
}

func (d *dirFS) Remove(name string) error     { return d.root.Remove(name) }
func (d *dirFS) RemoveAll(name string) error  { return d.root.RemoveAll(name) }
func (d *dirFS) Rename(from, to string) error { return d.root.Rename(from, to) }
func (d *dirFS) Link(from, to string) error   { return d.root.Link(from, to) }
func (d *dirFS) MkdirAll(name string) error   { return d.root.MkdirAll(path.Clean(name), 0o750) }

func (d *dirFS) ReadDir(name string) ([]Entry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	list, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	entries := make([]Entry, len(list))
	for i, e := range list {
		entries[i] = Entry{Name: e.Name(), Dir: e.IsDir()}
	}
	return entries, nil
}

func (d *dirFS) Stat(name string) (int64, error) {
	info, err := d.root.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d *dirFS) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// SyncAll goes by way of the lock's file, because that is open all the time: a failed write-back is told to files that were
// open when it happened.
func (d *dirFS) SyncAll() error { return syncFileSystem(d.lock) }

func (d *dirFS) Close() error { return errors.Join(d.lock.Close(), d.root.Close()) }

type osFile struct {
	*os.File
	fs *dirFS
}

func (f *osFile) Sync() error { return syncData(f.File) }

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) Preallocate(offset, length int64) error {
	if f.fs.noPreallocate.Load() {
		return nil
	}
	err := preallocate(f.File, offset, length)
	if errors.Is(err, errors.ErrUnsupported) {
		f.fs.noPreallocate.Store(true)
		return nil
	}
	return err
}
