package server

import (
	"fmt"
	"sync"

	"github.com/polylog-mq/polylog/session"
)

// lane runs requests that may wait, one after the other in their order, beside
// the reader. It has a goroutine only while it has requests.
type lane struct {
	c     *connection
	limit int
	done  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	waiting []func()
	running bool
	closed  bool // nothing more is queued
}

func (l *lane) init(c *connection, limit int) { l.c, l.limit = c, limit }

// do queues request number request, or answers that too many wait. Done, do
// has answered by itself or returns the error to answer with.
func (l *lane) do(request uint64, do func() error) (queued bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= l.limit {
		l.c.out.fail(request, fmt.Errorf("%w: %d requests wait", session.ErrBusy, l.limit))
		return false
	}
	l.queue(request, do)
	return true
}

// must queues a request whose effect the reader has announced already, and
// which can not be more than there are sessions and consumers.
func (l *lane) must(request uint64, do func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(request, do)
}

// idle says whether all that was queued is done.
func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.running
}

func (l *lane) queue(request uint64, do func() error) {
	if l.closed {
		return
	}
	l.c.underWay.Add(1)
	l.waiting = append(l.waiting, func() {
		if err := do(); err != nil {
			l.c.out.fail(request, err)
		}
		l.c.underWay.Add(-1)
		l.c.out.Flush()
	})
	if !l.running {
		l.running = true
		l.done.Go(l.run)
	}
}

func (l *lane) run() {
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

// close returns when all that was queued is done; nothing is queued any more.
// The connection's context has ended, so nothing waits for long.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.done.Wait()
}
