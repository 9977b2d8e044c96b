package commitlog

import (
	"errors"
	"sync"
)

// Kinds of files of a segment, in the order of segment.handles.
const (
	kindLog = iota
	kindIndex
	kindTime
	kindTxn // of segments with aborted transactions, and empty in others that were closed
	kinds
)

var extensions = [kinds]string{".log", ".index", ".timeindex", ".txnindex"}

// handle is an open file of a segment, counted while it is used.
type handle struct {
	File
	owner      *segment
	kind       int
	refs       int
	prev, next *handle // in the list of unused ones, oldest first
}

// fileCache bounds the open files. Files in use are never closed, so that the bound may be passed by their number.
type fileCache struct {
	fs  FS
	max int

	mu     sync.Mutex // guards the following and segment.handles; no other lock is taken under it
	open   int
	unused handle // head of the ring
}

func newFileCache(fs FS, max int) *fileCache {
	c := &fileCache{fs: fs, max: max}
	c.unused.prev, c.unused.next = &c.unused, &c.unused
	return c
}

// acquire opens a segment's file or finds it open. Every acquire needs a release.
func (c *fileCache) acquire(s *segment, kind int, create bool) (*handle, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := s.handles[kind]; h != nil {
		if h.refs == 0 {
			h.unlink()
		}
		h.refs++
		return h, nil
	}
	f, err := c.fs.OpenFile(s.name(kind), create)
	if err != nil {
		return nil, err
	}
	h := &handle{File: f, owner: s, kind: kind, refs: 1}
	s.handles[kind] = h
	c.open++
	for c.open > c.max && c.unused.next != &c.unused {
		if err := c.close(c.unused.next); err != nil {
			return h, nil // a failed close of a file that nobody uses loses nothing: what counts is synced by name
		}
	}
	return h, nil
}

// release is called once for each acquire.
func (c *fileCache) release(h *handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.refs--; h.refs > 0 {
		return
	}
	if h.owner.handles[h.kind] != h || c.open > c.max { // dropped meanwhile, or too many
		h.prev, h.next = h, h
		_ = c.close(h)
		return
	}
	h.prev, h.next = c.unused.prev, &c.unused
	h.prev.next, h.next.prev = h, h
}

func (h *handle) unlink() {
	h.prev.next, h.next.prev = h.next, h.prev
	h.prev, h.next = nil, nil
}

// close is called with mu held, for a handle without users.
func (c *fileCache) close(h *handle) error {
	h.unlink()
	if h.owner.handles[h.kind] == h {
		h.owner.handles[h.kind] = nil
	}
	c.open--
	return h.Close()
}

// drop forgets a segment's files, before they are removed or replaced. Those in use are closed by their last release.
func (c *fileCache) drop(s *segment) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs error
	for kind, h := range s.handles {
		if h == nil {
			continue
		}
		s.handles[kind] = nil
		if h.refs == 0 {
			errs = errors.Join(errs, c.close(h))
		}
	}
	return errs
}

// closeUnused closes all at the end.
func (c *fileCache) closeUnused() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs error
	for c.unused.next != &c.unused {
		errs = errors.Join(errs, c.close(c.unused.next))
	}
	return errs
}

func (c *fileCache) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}
