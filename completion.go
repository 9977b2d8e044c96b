package polylog

import "sync"

// completion is one asynchronous send whose outcome is to be told.
type completion struct {
	done  func(Receipt, error)
	batch *batch
	index int
	id    messageID
}

// completionQueue is a ring, so that a steady stream allocates nothing.
type completionQueue struct {
	ring  []completion // of a power of two
	head  int
	count int
}

func (q *completionQueue) push(c completion) {
	if q.count == len(q.ring) {
		grown := make([]completion, max(64, 2*len(q.ring)))
		for i := range q.count {
			grown[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.count)&(len(q.ring)-1)] = c
	q.count++
}

// popDone takes the oldest one if its batch is done: completions are called in
// the order of the sends, whatever order their batches are answered in.
// Jakarta Messaging 3.1 §7.3.8.
func (q *completionQueue) popDone() (c completion, ok bool) {
	if q.count == 0 || !q.ring[q.head].batch.done {
		return completion{}, false
	}
	c = q.ring[q.head]
	q.ring[q.head] = completion{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.count--
	return c, true
}

// completer calls completions, on one goroutine for each connection.
type completer struct {
	c *Connection

	mu     sync.Mutex // guards what follows
	more   sync.Cond
	ready  []*sends
	closed bool
}

func newCompleter(c *Connection) *completer {
	k := &completer{c: c}
	k.more.L = &k.mu
	return k
}

func (k *completer) add(s *sends) {
	k.mu.Lock()
	k.ready = append(k.ready, s)
	k.mu.Unlock()
	k.more.Signal()
}

// close lets run return once it has nothing left to do.
func (k *completer) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.more.Signal()
}

func (k *completer) run() {
	var ready []*sends
	chunk := make([]completion, 0, 256)
	for {
		k.mu.Lock()
		for len(k.ready) == 0 && !k.closed {
			k.more.Wait()
		}
		ready, k.ready = k.ready, ready[:0]
		k.mu.Unlock()
		if len(ready) == 0 {
			return
		}
		for _, s := range ready {
			chunk = k.complete(s, chunk)
		}
		clear(ready)
	}
}

// complete calls what is ready of one session.
func (k *completer) complete(s *sends, chunk []completion) []completion {
	for {
		chunk = s.takeDone(chunk[:0])
		if len(chunk) == 0 {
			return chunk
		}
		for i := range chunk {
			k.call(&chunk[i])
		}
		s.completed(len(chunk))
		clear(chunk)
	}
}

func (k *completer) call(c *completion) {
	r := Receipt{Partition: c.batch.lane.partition, id: c.id}
	if c.batch.err == nil {
		r.Offset = offsetAt(c.batch.base, c.index)
	}
	if c.done != nil {
		c.done(r, c.batch.err)
	} else if c.batch.err != nil {
		k.c.exception(c.batch.err)
	}
}

// takeDone takes completions up to the capacity of dst. When there are none,
// the session leaves the completer's hands.
func (s *sends) takeDone(dst []completion) []completion {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(dst) < cap(dst) {
		c, ok := s.completions.popDone()
		if !ok {
			break
		}
		dst = append(dst, c)
	}
	if len(dst) == 0 {
		s.completing = false
	}
	return dst
}

func (s *sends) completed(n int) {
	s.mu.Lock()
	s.outstanding -= n
	s.wakeFlushers()
	s.mu.Unlock()
}
