package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"sync"
	"syscall"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

// overlay is a commitlog.FS over a directory that is never written to: what
// the store writes while it recovers stays in memory, page by page. So check
// runs the very recovery that the next start will run, without doing it.
type overlay struct {
	root *os.Root

	mu    sync.Mutex // guards what follows, and is never held with a file's
	files map[string]*overlayContent
	gone  map[string]bool // of the directory below
	dirs  map[string]bool // made here
}

// overlayContent is one file, whatever its names are.
type overlayContent struct {
	mu    sync.Mutex // guards what follows
	below *os.File   // nil if the file was made here
	limit int64      // how much of below still counts
	size  int64
	pages map[int64][]byte
}

const overlayPage = 32 << 10

var _ commitlog.FS = (*overlay)(nil)

func openOverlay(directory string) (*overlay, error) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, err
	}
	return &overlay{root: root, files: map[string]*overlayContent{}, gone: map[string]bool{}, dirs: map[string]bool{}}, nil
}

func notExist(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

func (o *overlay) OpenFile(name string, create bool) (commitlog.File, error) {
	name = path.Clean(name)
	o.mu.Lock()
	defer o.mu.Unlock()
	c, err := o.content(name)
	if err != nil && create && errors.Is(err, fs.ErrNotExist) {
		c, err = &overlayContent{pages: map[int64][]byte{}}, nil
		o.files[name] = c
	}
	if err != nil {
		return nil, err
	}
	return overlayFile{c}, nil
}

// content finds a file here or below.
func (o *overlay) content(name string) (*overlayContent, error) {
	if c := o.files[name]; c != nil {
		return c, nil
	}
	if o.gone[name] {
		return nil, notExist("open", name)
	}
	below, err := o.root.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := below.Stat()
	if err != nil {
		return nil, errors.Join(err, below.Close())
	}
	if info.IsDir() {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}, below.Close())
	}
	c := &overlayContent{below: below, limit: info.Size(), size: info.Size(), pages: map[int64][]byte{}}
	o.files[name] = c
	return c, nil
}

func (o *overlay) Remove(name string) error {
	name = path.Clean(name)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.dirs[name] {
		if _, err := o.content(name); err != nil && !errors.Is(err, syscall.EISDIR) {
			return err
		}
	}
	o.forget(name)
	return nil
}

func (o *overlay) forget(name string) {
	delete(o.files, name)
	delete(o.dirs, name)
	o.gone[name] = true
}

func (o *overlay) RemoveAll(name string) error {
	name = path.Clean(name)
	entries, err := o.ReadDir(name)
	if err == nil {
		for _, e := range entries {
			if err := o.RemoveAll(path.Join(name, e.Name)); err != nil {
				return err
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forget(name)
	return nil
}

// Rename moves a file; the store renames no directory that has files.
func (o *overlay) Rename(from, to string) error {
	from, to = path.Clean(from), path.Clean(to)
	o.mu.Lock()
	defer o.mu.Unlock()
	c, err := o.content(from)
	if err != nil {
		return err
	}
	o.forget(from)
	o.files[to] = c
	return nil
}

func (o *overlay) Link(from, to string) error {
	from, to = path.Clean(from), path.Clean(to)
	o.mu.Lock()
	defer o.mu.Unlock()
	c, err := o.content(from)
	if err != nil {
		return err
	}
	if _, err := o.content(to); err == nil {
		return &fs.PathError{Op: "link", Path: to, Err: fs.ErrExist}
	}
	o.files[to] = c
	return nil
}

func (o *overlay) MkdirAll(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name = path.Clean(name); name != "."; name = path.Dir(name) {
		o.dirs[name] = true
	}
	return nil
}

func (o *overlay) ReadDir(name string) ([]commitlog.Entry, error) {
	name = path.Clean(name)
	found := map[string]bool{}
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.readBelow(name, found)
	for file := range o.files {
		if path.Dir(file) == name {
			found[path.Base(file)] = false
		}
	}
	for dir := range o.dirs {
		if path.Dir(dir) == name {
			found[path.Base(dir)] = true
		}
	}
	if err != nil && !o.dirs[name] && len(found) == 0 {
		return nil, err
	}
	entries := make([]commitlog.Entry, 0, len(found))
	for base, dir := range found {
		entries = append(entries, commitlog.Entry{Name: base, Dir: dir})
	}
	sort.Slice(entries, func(i, j int) bool { return strings.Compare(entries[i].Name, entries[j].Name) < 0 })
	return entries, nil
}

func (o *overlay) readBelow(name string, found map[string]bool) error {
	if o.gone[name] {
		return notExist("open", name)
	}
	f, err := o.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	for _, e := range list {
		if !o.gone[path.Join(name, e.Name())] {
			found[e.Name()] = e.IsDir()
		}
	}
	return err
}

func (o *overlay) Stat(name string) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c, err := o.content(path.Clean(name))
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size, nil
}

func (o *overlay) SyncDir(string) error { return nil }
func (o *overlay) SyncAll() error       { return nil }

func (o *overlay) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	closed := map[*os.File]bool{}
	var err error
	for _, c := range o.files {
		if c.below != nil && !closed[c.below] {
			closed[c.below] = true
			err = errors.Join(err, c.below.Close())
		}
	}
	return errors.Join(err, o.root.Close())
}

// overlayFile is an open file; closing it keeps the content.
type overlayFile struct{ c *overlayContent }

func (f overlayFile) ReadAt(p []byte, at int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	n := 0
	for n < len(p) && at < f.c.size {
		page, inPage := at/overlayPage, at%overlayPage
		want := min(int64(len(p)-n), overlayPage-inPage, f.c.size-at)
		if mem, ok := f.c.pages[page]; ok {
			copy(p[n:n+int(want)], mem[inPage:])
		} else if err := f.c.readBelow(p[n:n+int(want)], at); err != nil {
			return n, err
		}
		n, at = n+int(want), at+want
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readBelow fills p from the file below, with zeros where that has nothing.
func (c *overlayContent) readBelow(p []byte, at int64) error {
	have := max(min(int64(len(p)), c.limit-at), 0)
	if c.below == nil {
		have = 0
	}
	if have > 0 {
		if _, err := c.below.ReadAt(p[:have], at); err != nil {
			return err
		}
	}
	clear(p[have:])
	return nil
}

func (f overlayFile) WriteAt(p []byte, at int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	n := 0
	for n < len(p) {
		mem, err := f.c.page(at / overlayPage)
		if err != nil {
			return n, err
		}
		copied := copy(mem[at%overlayPage:], p[n:])
		n, at = n+copied, at+int64(copied)
	}
	f.c.size = max(f.c.size, at)
	return n, nil
}

// page is a page in memory, copied from below the first time.
func (c *overlayContent) page(number int64) ([]byte, error) {
	if mem, ok := c.pages[number]; ok {
		return mem, nil
	}
	mem := make([]byte, overlayPage)
	if err := c.readBelow(mem, number*overlayPage); err != nil {
		return nil, err
	}
	c.pages[number] = mem
	return mem, nil
}

func (f overlayFile) Truncate(size int64) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.limit, f.c.size = min(f.c.limit, size), size
	for number, mem := range f.c.pages {
		switch start := number * overlayPage; {
		case start >= size:
			delete(f.c.pages, number)
		case start+overlayPage > size:
			clear(mem[size-start:])
		}
	}
	return nil
}

func (f overlayFile) Sync() error { return nil }

func (f overlayFile) Size() (int64, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.c.size, nil
}

func (f overlayFile) Preallocate(int64, int64) error { return nil }
func (f overlayFile) Close() error                   { return nil }
