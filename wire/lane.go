package wire

import "sync"

// Lane runs what may wait, one after the other in its order, beside the reader of a
// connection. It has a goroutine only while it has something to run. The zero Lane
// is ready to use.
type Lane struct {
	done sync.WaitGroup

	mu      sync.Mutex // guards what follows
	waiting []func()
	running bool
	closed  bool // nothing more is queued
}

// Do queues f, unless limit already wait; 0 is no limit. A lane that has closed
// forgets it.
func (l *Lane) Do(limit int, f func()) (queued bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit > 0 && len(l.waiting) >= limit {
		return false
	}
	if l.closed {
		return true
	}
	l.waiting = append(l.waiting, f)
	if !l.running {
		l.running = true
		l.done.Go(l.run)
	}
	return true
}

// Idle says whether all that was queued is done.
func (l *Lane) Idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.running
}

func (l *Lane) run() {
	for {
		l.mu.Lock()
		if len(l.waiting) == 0 {
			l.running = false
			l.waiting = nil
			l.mu.Unlock()
			return
		}
		next := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.mu.Unlock()
		next()
	}
}

// Close returns when all that was queued is done; nothing is queued any more.
func (l *Lane) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.done.Wait()
}
