package polylog

import (
	"context"
	"sync"
)

// waiter is where one goroutine waits for one answer. It is pooled: a waiter
// goes back only when its answer has been received, so that no late answer
// meets another's wait. Each connection has its own pool, because a channel
// must not leave a test's synctest bubble.
type waiter struct {
	pool     *sync.Pool
	answered chan struct{} // of one element
	offset   int64
	err      error
}

func (c *Connection) newWaiter() *waiter {
	if w, ok := c.waiters.Get().(*waiter); ok {
		return w
	}
	return &waiter{pool: &c.waiters, answered: make(chan struct{}, 1)}
}

// free gives back a waiter that nobody will answer.
func (w *waiter) free() {
	w.offset, w.err = 0, nil
	w.pool.Put(w)
}

// answer is called once for each wait and does not block.
func (w *waiter) answer(offset int64, err error) {
	w.offset, w.err = offset, err
	w.answered <- struct{}{}
}

// wait returns the answer. When the context ends first, what was asked may
// still be done: ErrInDoubt.
func (w *waiter) wait(ctx context.Context) (int64, error) {
	select {
	case <-w.answered:
	default:
		select {
		case <-w.answered:
		case <-ctx.Done():
			return 0, doubt(ctx.Err())
		}
	}
	offset, err := w.offset, w.err
	w.free()
	return offset, err
}
