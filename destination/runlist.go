package destination

import (
	"slices"
	"sort"
)

// state is what a record is in that is neither available nor done.
type state uint8

const (
	acquired  state = iota + 1 // by a holder, until it settles, dies or its lock expires
	scheduled                  // not before a time
	held                       // acknowledged in a transaction that is open
	heldSend                   // written by a transaction that is open
)

// run is consecutive offsets [from, to) that share everything; the record at
// from+i has acquisition number acquisition+i. It has no pointers, so that the
// garbage collector does not look at what is in flight.
type run struct {
	from, to    int64
	acquisition uint64 // acquired only
	owner       uint64 // acquired: the holder; held: the transaction; heldSend: the producer
	until       int64  // acquired: when the lock expires, 0 is never; scheduled: when it is due
	count       int32  // deliveries so far
	state       state
}

func (r *run) length() int64 { return r.to - r.from }

// continues says whether next can become part of r.
func (r *run) continues(next *run) bool {
	return r.to == next.from && r.state == next.state && r.owner == next.owner &&
		r.until == next.until && r.count == next.count &&
		(r.state != acquired || r.acquisition+uint64(r.length()) == next.acquisition)
}

const (
	blockRuns = 128 // most runs in a block: 6 KiB, what an insertion may move
	mergeRuns = 32  // a block with fewer is joined with its neighbour
)

// runList is runs in ascending order that do not overlap, in blocks, so that
// an insertion moves little. Blocks are never empty. A queue that is consumed
// in order has a few runs; one that is acknowledged at random has at worst a
// run for each record in flight.
type runList struct {
	blocks [][]run
	spare  [][]run // at most one emptied block, for reuse
}

// place is where a run is. It holds until the list is changed.
type place struct{ block, index int }

func (l *runList) at(p place) *run { return &l.blocks[p.block][p.index] }

func (l *runList) valid(p place) bool { return p.block < len(l.blocks) }

func (l *runList) next(p place) place {
	if p.index++; p.index == len(l.blocks[p.block]) {
		return place{p.block + 1, 0}
	}
	return p
}

// seek is the place of the first run that ends after offset.
func (l *runList) seek(offset int64) place {
	b := sort.Search(len(l.blocks), func(i int) bool {
		block := l.blocks[i]
		return block[len(block)-1].to > offset
	})
	if b == len(l.blocks) {
		return place{b, 0}
	}
	block := l.blocks[b]
	return place{b, sort.Search(len(block), func(i int) bool { return block[i].to > offset })}
}

// find is the place of the run that holds offset.
func (l *runList) find(offset int64) (place, bool) {
	p := l.seek(offset)
	return p, l.valid(p) && l.at(p).from <= offset
}

// overlaps says whether a run holds any of [from, to).
func (l *runList) overlaps(from, to int64) bool {
	p := l.seek(from)
	return l.valid(p) && l.at(p).from < to
}

// insert adds r, which overlaps nothing, or makes its neighbours longer.
func (l *runList) insert(r run) {
	p := l.seek(r.from)
	if l.valid(p) && r.continues(l.at(p)) {
		after := l.at(p)
		after.from, after.acquisition = r.from, r.acquisition
		l.join(p)
		return
	}
	if before, ok := l.before(p); ok && l.at(before).continues(&r) {
		l.at(before).to = r.to
		return
	}
	l.insertAt(p, r)
}

// join makes the run at p part of the one before it, if it continues that.
func (l *runList) join(p place) {
	if before, ok := l.before(p); ok && l.at(before).continues(l.at(p)) {
		l.at(before).to = l.at(p).to
		l.removeAt(p)
	}
}

func (l *runList) before(p place) (place, bool) {
	if p.index > 0 {
		return place{p.block, p.index - 1}, true
	}
	if p.block > 0 {
		return place{p.block - 1, len(l.blocks[p.block-1]) - 1}, true
	}
	return place{}, false
}

func (l *runList) insertAt(p place, r run) {
	if p.block == len(l.blocks) {
		if p.block == 0 || len(l.blocks[p.block-1]) == blockRuns {
			l.blocks = append(l.blocks, append(l.block(), r))
			return
		}
		p = place{p.block - 1, len(l.blocks[p.block-1])}
	}
	if len(l.blocks[p.block]) == blockRuns {
		half := l.blocks[p.block][blockRuns/2:]
		l.blocks = slices.Insert(l.blocks, p.block+1, append(l.block(), half...))
		l.blocks[p.block] = l.blocks[p.block][:blockRuns/2]
		if p.index > blockRuns/2 {
			p = place{p.block + 1, p.index - blockRuns/2}
		}
	}
	l.blocks[p.block] = slices.Insert(l.blocks[p.block], p.index, r)
}

// block is an empty block.
func (l *runList) block() []run {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return nil
}

func (l *runList) removeAt(p place) {
	block := slices.Delete(l.blocks[p.block], p.index, p.index+1)
	l.blocks[p.block] = block
	if len(block) >= mergeRuns {
		return
	}
	// Joined with the smaller index, so that blocks never thin out.
	b := p.block
	if b == 0 {
		b = 1
	}
	if b < len(l.blocks) && len(l.blocks[b-1])+len(l.blocks[b]) <= blockRuns/2 {
		l.blocks[b-1] = append(l.blocks[b-1], l.blocks[b]...)
		l.drop(b)
		return
	}
	if len(block) == 0 {
		l.drop(p.block)
	}
}

// drop takes block b out of the list.
func (l *runList) drop(b int) {
	if len(l.spare) < 1 {
		l.spare = append(l.spare, l.blocks[b][:0])
	}
	l.blocks = slices.Delete(l.blocks, b, b+1)
}

// cut takes [from, to), which lies within the run at p, out of it.
func (l *runList) cut(p place, from, to int64) {
	r := l.at(p)
	switch {
	case r.from == from && r.to == to:
		l.removeAt(p)
	case r.from == from:
		r.acquisition += uint64(to - from)
		r.from = to
	case r.to == to:
		r.to = from
	default:
		rest := *r
		rest.acquisition += uint64(to - r.from)
		rest.from = to
		r.to = from
		l.insertAt(l.next(p), rest)
	}
}

// clear empties the list.
func (l *runList) clear() { l.blocks, l.spare = nil, nil }
