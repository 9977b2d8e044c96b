package polylog

import (
	"context"
	"sync"
	"sync/atomic"
)

// budget bounds the bytes that are sent and not confirmed. As long as there is
// room it costs one atomic addition.
type budget struct {
	limit   int64
	used    atomic.Int64
	waiting atomic.Int32

	mu   sync.Mutex
	room chan struct{} // closed when there is room again
}

func newBudget(limit int64) *budget { return &budget{limit: limit, room: make(chan struct{})} }

// take waits for room. More than the limit may be taken while nothing else is.
func (b *budget) take(ctx context.Context, n int64, closed <-chan struct{}) error {
	if b.try(n) {
		return nil
	}
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	for {
		b.mu.Lock()
		room := b.room
		b.mu.Unlock()
		if b.try(n) { // what was given before room was looked at wakes nobody
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-closed:
			return closedError("the connection is closed")
		}
	}
}

func (b *budget) try(n int64) bool {
	for {
		used := b.used.Load()
		if used > 0 && used+n > b.limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// give returns what was taken. Those who wait are woken at three quarters, so
// that they then have work for a while.
func (b *budget) give(n int64) {
	if used := b.used.Add(-n); b.waiting.Load() == 0 || used > b.limit/4*3 {
		return
	}
	b.mu.Lock()
	close(b.room)
	b.room = make(chan struct{})
	b.mu.Unlock()
}
