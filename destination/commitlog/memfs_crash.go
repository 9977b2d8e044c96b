package commitlog

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
)

var errCrashed = errors.New("commitlog: the file system has crashed")

// Stop makes every later call fail, as if the process had been cut off. Crash tells what is left.
func (m *MemFS) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true
}

// Crash ends m (later calls fail) and returns what a disk could hold after a power cut: all that was synced, and of the
// rest a part chosen by seed: each sector of a file old or new, each change of a name done or not, each size old or new.
func (m *MemFS) Crash(seed uint64) *MemFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true
	rnd := rand.New(rand.NewPCG(seed, 0))
	names := maps.Clone(m.durable)
	for _, c := range m.pending {
		if rnd.IntN(2) == 0 {
			c.apply(names)
		}
	}
	after := NewMemFS()
	after.capacity = m.capacity
	copies := map[*memNode]*memNode{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := names[name]
		c := copies[n]
		if c == nil {
			c = n.crash(rnd)
			copies[n] = c
		}
		c.links++
		after.names[name] = c
	}
	// A name whose directory was lost is lost with it.
	for _, name := range slices.Sorted(maps.Keys(after.names)) {
		if !after.hasParents(name) {
			delete(after.names, name)
		}
	}
	after.durable = maps.Clone(after.names)
	for _, c := range copies {
		for _, p := range c.pages {
			if p != nil {
				after.used++
			}
		}
	}
	return after
}

func (m *MemFS) hasParents(name string) bool {
	for i := range name {
		if name[i] == '/' && (m.names[name[:i]] == nil || !m.names[name[:i]].dir) {
			return false
		}
	}
	return true
}

// crash returns the node as the disk may hold it.
func (n *memNode) crash(rnd *rand.Rand) *memNode {
	c := &memNode{dir: n.dir, size: n.size, pages: make([]*[memPage]byte, len(n.pages))}
	for i, p := range n.pages {
		switch p {
		case nil, zeroPage:
			c.pages[i] = p
		default:
			page := *p
			c.pages[i] = &page
		}
	}
	if n.size != n.durableSize {
		switch rnd.IntN(3) {
		case 0:
			c.size = n.durableSize
		case 1: // a size between the two
			low, high := min(n.size, n.durableSize), max(n.size, n.durableSize)
			c.size = low + rnd.Int64N(high-low+1)
		}
	}
	for _, sector := range slices.Sorted(maps.Keys(n.durable)) {
		if rnd.IntN(2) == 0 {
			old := n.durable[sector]
			c.put(old[:], sector*memSector)
		}
	}
	// What lies past the end reads as zeros if the file grows again.
	c.zero(c.size, int64(len(c.pages))*memPage)
	c.durableSize = c.size
	return c
}

func (n *memNode) read(p []byte, off int64) {
	for len(p) > 0 {
		page, at := off/memPage, int(off%memPage)
		part := p[:min(len(p), memPage-at)]
		if page < int64(len(n.pages)) && n.pages[page] != nil {
			copy(part, n.pages[page][at:])
		} else {
			clear(part)
		}
		p, off = p[len(part):], off+int64(len(part))
	}
}

// remember keeps the durable content of the sectors of a range before they change for the first time since the last sync.
func (n *memNode) remember(off, length int64) {
	if n.durable == nil {
		n.durable = map[int64][memSector]byte{}
	}
	for s := off / memSector; s*memSector < off+length; s++ {
		if _, ok := n.durable[s]; !ok {
			var old [memSector]byte
			n.read(old[:], s*memSector)
			n.durable[s] = old
		}
	}
}

// write changes allocated pages; p does not cross a page.
func (n *memNode) write(p []byte, off int64) {
	n.remember(off, int64(len(p)))
	n.put(p, off)
	n.size = max(n.size, off+int64(len(p)))
}

// put stores bytes without remembering what was there.
func (n *memNode) put(p []byte, off int64) {
	for len(p) > 0 {
		page, at := off/memPage, int(off%memPage)
		part := p[:min(len(p), memPage-at)]
		for int64(len(n.pages)) <= page {
			n.pages = append(n.pages, nil)
		}
		if n.pages[page] == nil || n.pages[page] == zeroPage {
			if allZero(part) {
				p, off = p[len(part):], off+int64(len(part))
				continue
			}
			n.pages[page] = new([memPage]byte)
		}
		copy(n.pages[page][at:], part)
		p, off = p[len(part):], off+int64(len(part))
	}
}

func allZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

func (n *memNode) zero(from, to int64) {
	for from < to {
		page, at := from/memPage, from%memPage
		end := min(memPage, at+to-from)
		if page < int64(len(n.pages)) && n.pages[page] != nil && n.pages[page] != zeroPage {
			clear(n.pages[page][at:end])
		}
		from += end - at
	}
}

// truncate returns the number of pages that it gave back.
func (n *memNode) truncate(size int64) int {
	if size < n.size {
		n.remember(size, n.size-size)
		n.zero(size, n.size)
	}
	n.size = size
	freed := 0
	for i := (size + memPage - 1) / memPage; i < int64(len(n.pages)); i++ {
		if n.pages[i] != nil {
			freed++
			n.pages[i] = nil
		}
	}
	return freed
}

func (n *memNode) sync() {
	clear(n.durable)
	n.durableSize = n.size
}
