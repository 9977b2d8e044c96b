package destination

import (
	"math"
	"slices"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"
)

const (
	// shortRange is the length below which a range may be moved into a bitmap.
	// A bitmap spends memory on what it covers, a range does not, so a decoder
	// that is told of a range of 2^60 offsets spends nothing on it.
	shortRange = 4096
	// spareRanges is how many ranges more than the long ones are kept before
	// the short ones move into the bitmaps. Consumers that settle their
	// batches side by side rarely leave that many gaps, and then no bitmap is
	// ever touched.
	spareRanges = 64
)

// none is what the searches return when there is no such offset.
const none = int64(math.MaxInt64)

// interval is the offsets [from, to).
type interval struct{ from, to int64 }

// offsetSet is a set of offsets, cheap for long ranges and for dense dust.
//
// An offset is in ranges or in bits, never in both. ranges are ascending and
// do not touch each other; bits are ascending by high.
type offsetSet struct {
	ranges []interval
	bits   []bitChunk
	size   int64
	limit  int // len(ranges) beyond which the short ones move into bits
}

// bitChunk holds the offsets whose upper 32 bits are high.
type bitChunk struct {
	high int64
	bits *roaring.Bitmap
}

func (s *offsetSet) empty() bool { return s.size == 0 }

// clear empties the set and keeps the memory of the ranges.
func (s *offsetSet) clear() {
	s.ranges, s.bits, s.size, s.limit = s.ranges[:0], nil, 0, 0
}

// add adds [from, to), none of which may be in the set.
func (s *offsetSet) add(from, to int64) {
	s.size += to - from
	i := s.search(from)
	left := i > 0 && s.ranges[i-1].to == from
	right := i < len(s.ranges) && s.ranges[i].from == to
	switch {
	case left && right:
		s.ranges[i-1].to = s.ranges[i].to
		s.ranges = slices.Delete(s.ranges, i, i+1)
	case left:
		s.ranges[i-1].to = to
	case right:
		s.ranges[i].from = from
	default:
		s.ranges = slices.Insert(s.ranges, i, interval{from, to})
		if len(s.ranges) > s.limit+spareRanges {
			s.spill()
		}
	}
}

// addMissing adds what of [from, to) is not in the set yet, and says how much.
func (s *offsetSet) addMissing(from, to int64) (added int64) {
	for from < to {
		from = s.nextAbsent(from)
		if from >= to {
			break
		}
		end := min(s.nextPresent(from), to)
		s.add(from, end)
		added += end - from
		from = end
	}
	return added
}

// spill moves the short ranges into the bitmaps.
func (s *offsetSet) spill() {
	kept := s.ranges[:0]
	for _, r := range s.ranges {
		if r.to-r.from >= shortRange {
			kept = append(kept, r)
			continue
		}
		for from := r.from; from < r.to; {
			high := from >> 32
			end := min(r.to, (high+1)<<32)
			// One by one: AddRange makes containers of runs, and the union of
			// dust with one of those copies it whole each time.
			for bits := s.chunk(high); from < end; from++ {
				bits.Add(uint32(from))
			}
		}
	}
	s.ranges, s.limit = kept, len(kept)
}

// chunk returns the bitmap for high, made if it is not there.
func (s *offsetSet) chunk(high int64) *roaring.Bitmap {
	i := s.chunkAt(high)
	if i == len(s.bits) || s.bits[i].high != high {
		s.bits = slices.Insert(s.bits, i, bitChunk{high, roaring.New()})
	}
	return s.bits[i].bits
}

// remove removes what of [from, to) is in the set.
func (s *offsetSet) remove(from, to int64) {
	if s.size == 0 || from >= to {
		return
	}
	i := s.search(from)
	if i > 0 && s.ranges[i-1].to > from {
		i--
	}
	for i < len(s.ranges) && s.ranges[i].from < to {
		r := s.ranges[i]
		s.size -= min(r.to, to) - max(r.from, from)
		switch {
		case r.from < from && r.to > to:
			s.ranges[i].to = from
			s.ranges = slices.Insert(s.ranges, i+1, interval{to, r.to})
		case r.from < from:
			s.ranges[i].to = from
		case r.to > to:
			s.ranges[i].from = to
		default:
			s.ranges = slices.Delete(s.ranges, i, i+1)
			continue
		}
		i++
	}
	s.removeBits(from, to)
}

func (s *offsetSet) removeBits(from, to int64) {
	for i := s.chunkAt(from >> 32); i < len(s.bits) && s.bits[i].high<<32 < to; {
		c := s.bits[i]
		base := c.high << 32
		low, high := uint64(max(from, base)-base), uint64(min(to-base, 1<<32))
		for v := low; v < high; {
			present := c.bits.NextValue(uint32(v))
			if present < 0 || uint64(present) >= high {
				break
			}
			v = min(nextAbsentBit(c.bits, uint64(present)), high)
			c.bits.RemoveRange(uint64(present), v)
			s.size -= int64(v) - present
		}
		if c.bits.IsEmpty() {
			s.bits = slices.Delete(s.bits, i, i+1)
			continue
		}
		i++
	}
}

// nextAbsentBit is the first value from v on that is not in b, or 2^32. It
// asks value by value, about 10 ns each, because the NextAbsentValue of roaring
// 2.30 is wrong beyond the first container. Each is asked when the floor passes
// it, once, and in snapshots.
func nextAbsentBit(b *roaring.Bitmap, v uint64) uint64 {
	for v < 1<<32 && b.Contains(uint32(v)) {
		v++
	}
	return v
}

// contains says whether offset is in the set.
func (s *offsetSet) contains(offset int64) bool {
	if s.size == 0 {
		return false
	}
	if i := s.search(offset); i > 0 && s.ranges[i-1].to > offset {
		return true
	} else if i < len(s.ranges) && s.ranges[i].from == offset {
		return true
	}
	return len(s.bits) > 0 && s.containsBit(offset)
}

func (s *offsetSet) containsBit(offset int64) bool {
	i := s.chunkAt(offset >> 32)
	return i < len(s.bits) && s.bits[i].high == offset>>32 && s.bits[i].bits.Contains(uint32(offset))
}

// nextPresent is the first offset from offset on that is in the set, or none.
func (s *offsetSet) nextPresent(offset int64) int64 {
	if s.size == 0 {
		return none
	}
	found := none
	if i := s.search(offset); i > 0 && s.ranges[i-1].to > offset {
		return offset
	} else if i < len(s.ranges) {
		found = s.ranges[i].from
	}
	for i := s.chunkAt(offset >> 32); i < len(s.bits); i++ {
		base := s.bits[i].high << 32
		if v := s.bits[i].bits.NextValue(uint32(max(offset, base) - base)); v >= 0 {
			return min(found, base+v)
		}
	}
	return found
}

// nextAbsent is the first offset from offset on that is not in the set.
func (s *offsetSet) nextAbsent(offset int64) int64 {
	if s.size == 0 {
		return offset
	}
	for {
		start := offset
		if i := s.search(offset); i > 0 && s.ranges[i-1].to > offset {
			offset = s.ranges[i-1].to
		} else if i < len(s.ranges) && s.ranges[i].from == offset {
			offset = s.ranges[i].to
		}
		if i := s.chunkAt(offset >> 32); i < len(s.bits) && s.bits[i].high == offset>>32 {
			base := s.bits[i].high << 32
			offset = base + int64(nextAbsentBit(s.bits[i].bits, uint64(offset-base)))
		}
		if offset == start {
			return offset
		}
	}
}

// each calls f with the set's ranges in ascending order, those of a range and
// a bitmap that touch in two calls, until f returns false.
func (s *offsetSet) each(from, to int64, f func(from, to int64) bool) {
	for from < to {
		start := s.nextPresent(from)
		if start >= to {
			return
		}
		from = min(s.nextAbsent(start), to)
		if !f(start, from) {
			return
		}
	}
}

// search is the index of the first range that begins after offset, or at it
// if none contains the offset before it.
func (s *offsetSet) search(offset int64) int {
	return sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].from >= offset })
}

func (s *offsetSet) chunkAt(high int64) int {
	return sort.Search(len(s.bits), func(i int) bool { return s.bits[i].high >= high })
}
