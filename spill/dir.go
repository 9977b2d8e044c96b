package spill

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// directory is a directory of the operating system, reached through os.Root so
// that no name can leave it.
type directory struct {
	root *os.Root
	lock *os.File
}

// openDirectory opens a directory, made durably if it is missing, and locks it.
func openDirectory(name string) (*directory, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	if err := makeDirectory(name); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	lock, err := root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o640)
	if err == nil {
		if err = lockFile(lock); err != nil {
			_ = lock.Close()
			err = fmt.Errorf("lock %s: %w", name, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &directory{root, lock}, nil
}

// makeDirectory is os.MkdirAll, durable: a directory is lost with its name.
func makeDirectory(name string) error {
	parent := filepath.Dir(name)
	if _, err := os.Stat(name); err == nil || !errors.Is(err, fs.ErrNotExist) || parent == name {
		return err
	}
	if err := makeDirectory(parent); err != nil {
		return err
	}
	if err := os.Mkdir(name, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(os.Open(parent))
}

func syncDirectory(f *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *directory) OpenFile(name string, create bool) (file, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE
	}
	f, err := d.root.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *directory) Remove(name string) error { return d.root.Remove(name) }

func (d *directory) ReadDir() ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d *directory) SyncDir() error { return syncDirectory(d.root.Open(".")) }

// Close lets another process have the directory.
func (d *directory) Close() error { return errors.Join(d.lock.Close(), d.root.Close()) }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
