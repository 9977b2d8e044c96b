package destination

import (
	"math"
	"slices"
)

// counts says how often offsets were delivered that are available now, or
// were when the state was read back. Offsets that were never delivered are not
// in it. Few different counts occur at a time, so it is a set for each.
type counts struct {
	levels []level // none is empty; in no order
}

type level struct {
	count int32
	set   offsetSet
}

// at is the count at offset, and the end of the stretch that shares it.
func (c *counts) at(offset int64) (count int32, end int64) {
	end = none
	for i := range c.levels {
		set := &c.levels[i].set
		if present := set.nextPresent(offset); present > offset {
			end = min(end, present)
		} else {
			count, end = c.levels[i].count, min(end, set.nextAbsent(offset))
		}
	}
	return count, end
}

// put sets the count of [from, to), none of which may have one.
func (c *counts) put(from, to int64, count int32) {
	if count <= 0 {
		return
	}
	for i := range c.levels {
		if c.levels[i].count == count {
			c.levels[i].set.add(from, to)
			return
		}
	}
	c.levels = slices.Grow(c.levels, 1)
	c.levels = c.levels[:len(c.levels)+1]
	// What stood here before has been emptied; its memory is used again.
	l := &c.levels[len(c.levels)-1]
	l.count = count
	l.set.clear()
	l.set.add(from, to)
}

// drop forgets the counts of [from, to).
func (c *counts) drop(from, to int64) {
	for i := 0; i < len(c.levels); {
		c.levels[i].set.remove(from, to)
		if !c.levels[i].set.empty() {
			i++
			continue
		}
		// Swapped, not copied over, so that no two levels share memory.
		last := len(c.levels) - 1
		c.levels[i], c.levels[last] = c.levels[last], c.levels[i]
		c.levels = c.levels[:last]
	}
}

// add changes the counts of [from, to) by n. They stay within 0 and the
// largest int32.
func (c *counts) add(from, to int64, n int32) {
	for from < to {
		count, end := c.at(from)
		end = min(end, to)
		c.drop(from, end)
		c.put(from, end, int32(min(max(int64(count)+int64(n), 0), math.MaxInt32)))
		from = end
	}
}

// overlaps says whether any of [from, to) has a count.
func (c *counts) overlaps(from, to int64) bool {
	for i := range c.levels {
		if c.levels[i].set.nextPresent(from) < to {
			return true
		}
	}
	return false
}

func (c *counts) clear() { c.levels = nil }
