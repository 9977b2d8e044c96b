package commitlog

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"sync"
	"syscall"
)

const (
	memPage   = 4096
	memSector = 512 // what a disk writes whole or not at all
)

// zeroPage stands for every allocated page without content, so that a preallocated journal costs no memory.
var zeroPage = new([memPage]byte)

// MemFS is a file system in memory that can be crashed: see Crash. It counts writes and syncs and can be made to fail.
// It is safe for concurrent use.
type MemFS struct {
	mu       sync.Mutex
	names    map[string]*memNode // what a process sees
	durable  map[string]*memNode // what SyncDir has made durable
	pending  []nameChange        // changes of names since, in order
	capacity int64               // pages; 0: no limit
	used     int64               // pages
	counts   map[Op]int
	inject   func(op Op, name string) error
	crashed  bool
	left     int // calls until everything fails; 0: no end
}

// Op is a kind of call that changes the disk.
type Op string

// The calls that MemFS counts and can fail.
const (
	OpCreate      Op = "create"
	OpWrite       Op = "write"
	OpTruncate    Op = "truncate"
	OpPreallocate Op = "preallocate"
	OpSync        Op = "sync" // of a file, a directory, or all
	OpRename      Op = "rename"
	OpRemove      Op = "remove"
	OpLink        Op = "link"
	OpMkdir       Op = "mkdir"
	OpAny         Op = "any" // for Count: all of them
)

// memNode is a directory or a file: what a process sees, and below it what is durable.
type memNode struct {
	dir         bool
	pages       []*[memPage]byte // nil: a hole
	size        int64
	links       int
	durable     map[int64][memSector]byte // the durable content of sectors that were written since the last sync
	durableSize int64
	lost        int // how often writing it back has failed
}

// nameChange links a name to a node, or unlinks it (node nil), or both at once (rename).
type nameChange struct {
	from, to string
	node     *memNode
}

// NewMemFS returns an empty file system without a limit.
func NewMemFS() *MemFS {
	root := &memNode{dir: true}
	return &MemFS{
		names:   map[string]*memNode{".": root},
		durable: map[string]*memNode{".": root},
		counts:  map[Op]int{},
	}
}

// Inject sets a function that is asked before every call that changes the disk; an error that it returns is the call's.
// It is called with the file system locked. nil removes it.
func (m *MemFS) Inject(fn func(op Op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inject = fn
}

// FailNth makes the nth call from now of the given kind fail once (n = 1: the next).
func (m *MemFS) FailNth(op Op, n int, err error) {
	m.Inject(func(o Op, _ string) error {
		if o != op {
			return nil
		}
		if n--; n == 0 {
			return err
		}
		return nil
	})
}

// FailWriteBack is a disk that could not take what was written to a file, as Linux tells it: once to each open file, by its
// next Sync.
func (m *MemFS) FailWriteBack(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.names[path.Clean(name)]; n != nil {
		n.lost++
	}
}

// StopAt makes the nth call from now that changes the disk (n = 1: the next) and every later one fail, as Stop does.
func (m *MemFS) StopAt(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = n
}

// SetCapacity limits the bytes of all files; 0 is no limit.
func (m *MemFS) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes / memPage
}

// Used is the number of bytes that the files take.
func (m *MemFS) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used * memPage
}

// Count tells how many calls of a kind there were, failed ones included.
func (m *MemFS) Count(op Op) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[op]
}

// begin is called with mu held before every change.
func (m *MemFS) begin(op Op, name string) error {
	m.counts[op]++
	m.counts[OpAny]++
	if m.left > 0 {
		m.left--
		m.crashed = m.crashed || m.left == 0
	}
	if m.crashed {
		return &fs.PathError{Op: string(op), Path: name, Err: errCrashed}
	}
	if m.inject != nil {
		if err := m.inject(op, name); err != nil {
			return &fs.PathError{Op: string(op), Path: name, Err: err}
		}
	}
	return nil
}

// lookup is called with mu held.
func (m *MemFS) lookup(op, name string) (*memNode, error) {
	if m.crashed {
		return nil, &fs.PathError{Op: op, Path: name, Err: errCrashed}
	}
	n := m.names[name]
	if n == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// OpenFile implements FS.
func (m *MemFS) OpenFile(name string, create bool) (File, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup("open", name)
	if err != nil {
		if !create || m.crashed {
			return nil, err
		}
		if _, err := m.lookup("open", path.Dir(name)); err != nil {
			return nil, err
		}
		if err := m.begin(OpCreate, name); err != nil {
			return nil, err
		}
		n = &memNode{}
		m.change(nameChange{to: name, node: n})
	} else if n.dir {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return &memFile{fs: m, node: n, name: name, told: n.lost}, nil
}

// change applies a change of names and remembers that it is not durable. Called with mu held.
func (m *MemFS) change(c nameChange) {
	if c.from != "" && c.to != "" && c.node.dir { // what is pending below a directory goes with it
		for i := range m.pending {
			p := &m.pending[i]
			for _, name := range []*string{&p.from, &p.to} {
				if rest, ok := strings.CutPrefix(*name, c.from+"/"); ok {
					*name = c.to + "/" + rest
				}
			}
		}
	}
	m.pending = append(m.pending, c)
	if c.to != "" {
		if old := m.names[c.to]; old != nil && old != c.node {
			m.unlink(old)
		}
	}
	if c.from != "" && c.node == nil {
		m.unlink(m.names[c.from])
	}
	if c.to != "" && c.from == "" {
		c.node.links++
	}
	c.apply(m.names)
}

func (m *MemFS) unlink(n *memNode) {
	if n.links--; n.links > 0 {
		return
	}
	for _, p := range n.pages {
		if p != nil {
			m.used--
		}
	}
}

// apply changes a table of names; a renamed directory takes along what is in it.
func (c nameChange) apply(names map[string]*memNode) {
	if c.from != "" && c.to != "" && c.node.dir {
		for name, n := range names {
			if rest, ok := strings.CutPrefix(name, c.from+"/"); ok {
				delete(names, name)
				names[c.to+"/"+rest] = n
			}
		}
	}
	if c.from != "" {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.node
	}
}

// Remove implements FS.
func (m *MemFS) Remove(name string) error {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.lookup("remove", name); err != nil {
		return err
	}
	if err := m.begin(OpRemove, name); err != nil {
		return err
	}
	m.change(nameChange{from: name})
	return nil
}

// RemoveAll implements FS.
func (m *MemFS) RemoveAll(name string) error {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(OpRemove, name); err != nil {
		return err
	}
	var all []string
	for n := range m.names {
		if n == name || strings.HasPrefix(n, name+"/") {
			all = append(all, n)
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(all)))
	for _, n := range all {
		m.change(nameChange{from: n})
	}
	return nil
}

// Rename implements FS.
func (m *MemFS) Rename(from, to string) error {
	from, to = path.Clean(from), path.Clean(to)
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup("rename", from)
	if err != nil {
		return err
	}
	if _, err := m.lookup("rename", path.Dir(to)); err != nil {
		return err
	}
	if err := m.begin(OpRename, from); err != nil {
		return err
	}
	m.change(nameChange{from: from, to: to, node: n})
	return nil
}

// Link implements FS.
func (m *MemFS) Link(from, to string) error {
	from, to = path.Clean(from), path.Clean(to)
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup("link", from)
	if err != nil {
		return err
	}
	if m.names[to] != nil {
		return &fs.PathError{Op: "link", Path: to, Err: fs.ErrExist}
	}
	if err := m.begin(OpLink, to); err != nil {
		return err
	}
	m.change(nameChange{to: to, node: n})
	return nil
}

// MkdirAll implements FS.
func (m *MemFS) MkdirAll(name string) error {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 1; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if n := m.names[name[:i]]; n != nil {
			if !n.dir {
				return &fs.PathError{Op: "mkdir", Path: name[:i], Err: syscall.ENOTDIR}
			}
			continue
		}
		if err := m.begin(OpMkdir, name[:i]); err != nil {
			return err
		}
		m.change(nameChange{to: name[:i], node: &memNode{dir: true}})
	}
	return nil
}

// ReadDir implements FS. The order is by name, so that a test can be repeated.
func (m *MemFS) ReadDir(name string) ([]Entry, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.lookup("readdir", name); err != nil {
		return nil, err
	}
	var list []Entry
	for n, node := range m.names {
		if n != "." && path.Dir(n) == name {
			list = append(list, Entry{Name: path.Base(n), Dir: node.dir})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

// Stat implements FS.
func (m *MemFS) Stat(name string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup("stat", path.Clean(name))
	if err != nil {
		return 0, err
	}
	return n.size, nil
}

// SyncDir implements FS.
func (m *MemFS) SyncDir(name string) error {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.lookup("syncdir", name); err != nil {
		return err
	}
	if err := m.begin(OpSync, name); err != nil {
		return err
	}
	kept := m.pending[:0]
	for _, c := range m.pending {
		if (c.from != "" && path.Dir(c.from) == name) || (c.to != "" && path.Dir(c.to) == name) {
			c.apply(m.durable)
		} else {
			kept = append(kept, c)
		}
	}
	m.pending = kept
	return nil
}

// SyncAll implements FS.
func (m *MemFS) SyncAll() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(OpSync, "."); err != nil {
		return err
	}
	for _, c := range m.pending {
		c.apply(m.durable)
	}
	m.pending = nil
	for _, n := range m.names {
		n.sync()
	}
	return nil
}

// Close implements FS.
func (m *MemFS) Close() error { return nil }

type memFile struct {
	fs   *MemFS
	node *memNode
	name string
	told int // of node.lost
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.crashed {
		return 0, errCrashed
	}
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if off >= f.node.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.node.size-off))
	f.node.read(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes what fits into the file system's capacity, as a disk does, and then fails with ENOSPC.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.begin(OpWrite, f.name); err != nil {
		return 0, err
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		part := p[n:min(len(p), n+memPage-int(at%memPage))]
		if !f.fs.allocate(f.node, at/memPage) {
			return n, &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
		}
		f.node.write(part, at)
		n += len(part)
	}
	return n, nil
}

func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.begin(OpTruncate, f.name); err != nil {
		return err
	}
	f.fs.used -= int64(f.node.truncate(size))
	return nil
}

func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.begin(OpSync, f.name); err != nil {
		return err
	}
	if f.told < f.node.lost {
		f.told = f.node.lost
		return &fs.PathError{Op: "sync", Path: f.name, Err: syscall.EIO}
	}
	f.node.sync()
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.crashed {
		return 0, errCrashed
	}
	return f.node.size, nil
}

func (f *memFile) Preallocate(offset, length int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.begin(OpPreallocate, f.name); err != nil {
		return err
	}
	for p := offset / memPage; p*memPage < offset+length; p++ {
		if !f.fs.allocate(f.node, p) {
			return &fs.PathError{Op: "preallocate", Path: f.name, Err: syscall.ENOSPC}
		}
	}
	return nil
}

func (f *memFile) Close() error { return nil }

// allocate is called with mu held; false means that the disk is full.
func (m *MemFS) allocate(n *memNode, page int64) bool {
	for int64(len(n.pages)) <= page {
		n.pages = append(n.pages, nil)
	}
	if n.pages[page] != nil {
		return true
	}
	if m.capacity > 0 && m.used >= m.capacity {
		return false
	}
	m.used++
	n.pages[page] = zeroPage
	return true
}

// String lists the files, for tests that fail.
func (m *MemFS) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for n, node := range m.names {
		names = append(names, fmt.Sprintf("%s %d", n, node.size))
	}
	sort.Strings(names)
	return strings.Join(names, "\n")
}
