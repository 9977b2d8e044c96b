package session

import (
	"sync"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
)

// history is what a session has delivered and not settled, in the order of
// delivery, as runs. What is there at once is bounded by the credit that the
// protocol gives.
type history struct{ runs []run }

type run struct {
	consumer *Consumer
	span     queue.Span
}

// part is what one consumer has delivered.
type part struct {
	consumer *Consumer
	spans    []queue.Span
}

// add remembers a delivery, in the last run if it continues that.
func (h *history) add(k *Consumer, s queue.Span) {
	if n := len(h.runs); n > 0 {
		last := &h.runs[n-1]
		l := &last.span
		if last.consumer == k && l.Partition == s.Partition &&
			l.Offset+int64(l.Count) == s.Offset && l.Acquisition+uint64(l.Count) == s.Acquisition {
			l.Count += s.Count
			return
		}
	}
	h.runs = append(h.runs, run{k, s})
}

// remove forgets the deliveries of spans.
func (h *history) remove(k *Consumer, spans []queue.Span) {
	for _, s := range spans {
		h.cut(k, s)
	}
}

func (h *history) cut(k *Consumer, s queue.Span) {
	kept := make([]run, 0, len(h.runs)+1)
	for _, r := range h.runs {
		from, to := overlap(r, k, s)
		if from >= to {
			kept = append(kept, r)
			continue
		}
		if from > 0 {
			head := r
			head.span.Count = from
			kept = append(kept, head)
		}
		if to < r.span.Count {
			tail := r
			tail.span.Offset += int64(to)
			tail.span.Acquisition += uint64(to)
			tail.span.Count -= to
			kept = append(kept, tail)
		}
	}
	h.runs = kept
}

// overlap returns which deliveries of r, counted from its first, s names.
func overlap(r run, k *Consumer, s queue.Span) (from, to int32) {
	if r.consumer != k || r.span.Partition != s.Partition ||
		s.Offset-r.span.Offset != int64(s.Acquisition-r.span.Acquisition) {
		return 0, 0
	}
	shift := s.Offset - r.span.Offset
	first := max(shift, 0)
	last := min(shift+int64(s.Count), int64(r.span.Count))
	if first >= last {
		return 0, 0
	}
	return int32(first), int32(last)
}

// takeAll empties the history, by consumer.
func (h *history) takeAll() []part {
	var parts []part
	index := map[*Consumer]int{}
	for _, r := range h.runs {
		i, ok := index[r.consumer]
		if !ok {
			i = len(parts)
			index[r.consumer] = i
			parts = append(parts, part{consumer: r.consumer})
		}
		parts[i].spans = append(parts[i].spans, r.span)
	}
	h.runs = nil
	return parts
}

// trackingSink remembers deliveries on their way to the protocol's sink.
type trackingSink struct {
	consumer *Consumer
	next     queue.Sink
}

func (t *trackingSink) Deliver(d queue.Delivery) {
	s := t.consumer.session
	s.mu.Lock()
	if !s.closed {
		s.delivered.add(t.consumer, queue.Span{
			Partition: d.Partition, Offset: d.Offset, Acquisition: d.FirstAcquisition, Count: int32(d.Records),
		})
	}
	s.mu.Unlock()
	t.next.Deliver(d)
}

func (t *trackingSink) Drained(c *queue.Consumer)           { t.next.Drained(c) }
func (t *trackingSink) Flush()                              { t.next.Flush() }
func (t *trackingSink) Closed(c *queue.Consumer, err error) { t.next.Closed(c, err) }

// joint tells one waiter when n parts are done, with the first error.
type joint struct {
	next commitlog.Waiter

	mu   sync.Mutex // guards what follows
	left int
	err  error
}

func newJoint(n int, w commitlog.Waiter) *joint { return &joint{next: w, left: n} }

func (j *joint) Committed(err error) {
	j.mu.Lock()
	if j.err == nil {
		j.err = err
	}
	j.left--
	done, first := j.left == 0, j.err
	j.mu.Unlock()
	if done && j.next != nil {
		j.next.Committed(first)
	}
}
