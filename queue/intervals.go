package queue

import (
	"slices"
	"sort"
)

// interval is the offsets [from, to).
type interval struct{ from, to int64 }

// intervals is a set of offsets: ascending, apart from each other.
type intervals []interval

// add adds [from, to).
func (s *intervals) add(from, to int64) {
	list := *s
	// All that touch [from, to) are [i, j).
	i := sort.Search(len(list), func(i int) bool { return list[i].to >= from })
	j := i
	for j < len(list) && list[j].from <= to {
		from, to = min(from, list[j].from), max(to, list[j].to)
		j++
	}
	*s = slices.Replace(list, i, j, interval{from, to})
}

// below takes away everything below offset.
func (s *intervals) below(offset int64) {
	list := *s
	i := sort.Search(len(list), func(i int) bool { return list[i].to > offset })
	if i > 0 {
		list = slices.Delete(list, 0, i)
	}
	if len(list) > 0 && list[0].from < offset {
		list[0].from = offset
	}
	if len(list) == 0 {
		list = nil
	}
	*s = list
}
