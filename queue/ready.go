package queue

import (
	"slices"
	"sort"

	"github.com/polylog-mq/polylog/destination/record"
)

// priorities is how many there are: 0 to 9 (Jakarta Messaging 3.1 §3.4.10).
const priorities = 10

// ready is a look-ahead window: what a lane has read and not handed out, by
// priority, and within one by offset. It is pure; its view has the lock.
type ready struct {
	lists   [priorities]runList
	records int64 // in all lists
	blocked int64 // of those, passed over by the last hand-out because their group waits for its owner
	bytes   int64 // of the chunks behind them
	expires int64 // nothing in it expires before; 0: nothing expires
}

// runList is runs by offset, from head on. What is before was taken.
type runList struct {
	items []run
	head  int
}

// push adds a run behind all others of its priority.
func (q *ready) push(r run) {
	q.adopt(&r)
	l := &q.lists[r.priority]
	l.items = append(l.items, r)
}

// insert adds a run where its offset belongs.
func (q *ready) insert(r run) {
	q.adopt(&r)
	l := &q.lists[r.priority]
	rest := l.items[l.head:]
	i := sort.Search(len(rest), func(i int) bool { return rest[i].from > r.from })
	if i == 0 && l.head > 0 {
		l.head--
		l.items[l.head] = r
		return
	}
	l.items = slices.Insert(l.items, l.head+i, r)
}

// adopt counts a new run.
func (q *ready) adopt(r *run) {
	q.records += r.records()
	if r.chunk.runs == 0 {
		q.bytes += int64(cap(r.chunk.buf))
	}
	r.chunk.runs++
	if r.expires > 0 && (q.expires == 0 || r.expires < q.expires) {
		q.expires = r.expires
	}
}

// advance takes the first n records, which end at end, off a run that is in q.
func (q *ready) advance(r *run, n int64, end int32) {
	q.records -= n
	r.from += n
	r.at = end
	if r.from == r.to {
		q.leave(r)
	}
}

// leave ends a run's use of its chunk.
func (q *ready) leave(r *run) {
	r.chunk.runs--
	if r.chunk.runs == 0 {
		q.bytes -= int64(cap(r.chunk.buf))
		r.chunk.free()
	}
	r.chunk = nil
}

// remove takes a whole run out of the count; its place in the list is the caller's.
func (q *ready) remove(r *run) {
	q.records -= r.records()
	q.leave(r)
}

// open points a packed run to its batch out of its compression, which c holds.
func (q *ready) open(r *run, c *chunk) {
	q.leave(r)
	q.bytes += int64(cap(c.buf))
	c.runs = 1
	r.chunk, r.batch, r.batchEnd = c, 0, int32(len(c.buf))
	r.at, r.end = record.HeaderSize, r.batchEnd
}

// clear drops everything and returns the lowest offset that was there.
func (q *ready) clear() (lowest int64, any bool) {
	for p := range q.lists {
		l := &q.lists[p]
		for i := l.head; i < len(l.items); i++ {
			r := &l.items[i]
			if !any || r.from < lowest {
				lowest, any = r.from, true
			}
			q.remove(r)
		}
		*l = runList{}
	}
	q.blocked, q.expires = 0, 0
	return lowest, any
}

// shift closes the gap between what was kept, which ends at kept, and what was
// not looked at, which begins at rest.
func (l *runList) shift(kept, rest int) {
	if kept == l.head {
		l.head = rest
	} else {
		n := copy(l.items[kept:], l.items[rest:])
		clear(l.items[kept+n:])
		l.items = l.items[:kept+n]
	}
	if l.head == len(l.items) {
		l.items, l.head = l.items[:0], 0
		if cap(l.items) > 256 {
			l.items = nil
		}
	}
}
