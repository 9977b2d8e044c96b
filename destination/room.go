package destination

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Room is how many messages more a destination with max.length takes from its
// clients. It may be used by many goroutines. Its bound is what was measured last:
// clients that send at once may exceed it by what they are just sending.
type Room struct {
	max     int64
	block   bool
	measure func() int64 // the messages that wait, scheduled and delivered ones included
	left    atomic.Int64
	waiting atomic.Int32

	mu   sync.Mutex    // guards what follows
	free chan struct{} // closed when there is room again
}

// NewRoom returns the room of a destination that may have so many messages, and
// whether its clients are to wait for some.
func NewRoom(max int64, block bool, measure func() int64) *Room {
	return &Room{max: max, block: block, measure: measure, free: make(chan struct{})}
}

// Blocks says whether clients are to wait for room, and not to be refused.
func (r *Room) Blocks() bool { return r.block }

// Take takes room for n messages, or returns ErrQueueFull. A nil Room has no end.
// Where there is room for one there is for all that come with it.
func (r *Room) Take(n int) error {
	if r == nil {
		return nil
	}
	if r.left.Add(-int64(n)) > -int64(n) {
		return nil
	}
	left := r.max - r.measure()
	if left <= 0 {
		r.left.Store(0)
		return fmt.Errorf("%w: %d messages wait, as many as its setting max.length permits", ErrQueueFull, r.max-left)
	}
	r.left.Store(left - int64(n))
	return nil
}

// lookAgain is how long WaitRoom relies on being told of room: what deletes a
// subscription, or alters the destination, tells nobody.
const lookAgain = time.Second

// WaitRoom takes room for n messages as soon as there is some, or returns why the
// context has ended.
func (p *Partition) WaitRoom(ctx context.Context, n int) error {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		r := p.Room()
		if r == nil {
			return nil
		}
		taken, err := r.wait(ctx, again.C, n)
		if taken || err != nil {
			return err
		}
	}
}

// wait is WaitRoom, for a while.
func (r *Room) wait(ctx context.Context, again <-chan time.Time, n int) (taken bool, err error) {
	r.waiting.Add(1)
	defer r.waiting.Add(-1)
	r.mu.Lock()
	free := r.free
	r.mu.Unlock()
	if r.Take(n) == nil {
		return true, nil
	}
	select {
	case <-free:
	case <-again:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return false, err
}

// Wanted says whether somebody waits for room, and so Freed is to be called.
func (r *Room) Wanted() bool { return r != nil && r.waiting.Load() > 0 }

// Freed is told that messages may have gone. It wakes who waits for room.
func (r *Room) Freed() {
	if !r.Wanted() || r.measure() >= r.max {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.free)
	r.free = make(chan struct{})
}
