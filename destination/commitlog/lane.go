package commitlog

import (
	"sync"
	"sync/atomic"
	"time"
)

// lane carries operations from the appenders to one committer, in order. There are two: through the journal for logs on
// disk, and past it for logs in memory, so that these do not wait for a sync.
type lane struct {
	maxBytes int
	full     atomic.Bool // as many bytes are pending: changed with mu held

	mu      sync.Mutex // guards the following; it is taken last of all locks
	work    sync.Cond  // the committer waits for something to do
	room    sync.Cond  // appenders wait for pending to shrink
	filling *group
	spare   *group
	holds   int  // of those who will commit what they append
	busy    bool // a group is being committed, or a function runs that asked
	urgent  bool // something in filling must not wait for more
	delayed bool // later is armed
	later   *time.Timer
	err     error         // why nothing is taken any more
	closing bool          // the committer ends when nothing is left
	ended   bool          // and has
	asks    []func()      // run by the committer between two runs
	asked   chan struct{} // there are some; capacity 1
	done    chan struct{} // closed when the committer has ended
}

func newLane(o Options) *lane {
	target := int(min(entryTarget, o.JournalFileBytes/4))
	ln := &lane{maxBytes: o.MaxPendingBytes, filling: &group{target: target}, spare: &group{target: target}, done: make(chan struct{}), asked: make(chan struct{}, 1)}
	ln.work.L = &ln.mu
	ln.room.L = &ln.mu
	ln.later = time.AfterFunc(time.Hour, ln.due)
	ln.later.Stop()
	return ln
}

// admit waits until less than the bound is pending. Several appenders may pass together, each with its one append.
func (ln *lane) admit() error {
	if !ln.full.Load() {
		return nil // whoever inserts sees err
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	for ln.err == nil && len(ln.filling.buf) >= ln.maxBytes {
		ln.room.Wait()
	}
	return ln.err
}

// take waits for a group or a question; it returns nil when the lane is closed and empty.
func (ln *lane) take() *group {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	for {
		for !ln.busy && len(ln.asks) > 0 {
			ask := ln.asks[0]
			ln.asks = ln.asks[1:]
			ln.busy = true
			ln.mu.Unlock()
			ask()
			ln.mu.Lock()
			ln.busy = false
		}
		if !ln.busy && len(ln.filling.ops) > 0 && (ln.urgent || ln.closing) {
			return ln.begin()
		}
		if !ln.busy && ln.closing {
			ln.ended = true
			return nil
		}
		ln.work.Wait()
	}
}

// begin takes the group. Until it is recycled, the lane is its taker's. It is called with mu held, and not busy.
func (ln *lane) begin() *group {
	g := ln.filling
	ln.filling, ln.spare = ln.spare, nil
	ln.busy, ln.urgent = true, false
	if ln.delayed {
		ln.delayed = false
		ln.later.Stop()
	}
	ln.full.Store(false)
	ln.room.Broadcast()
	return g
}

// recycle gives a group back after its last run, and the lane to whoever is next.
func (ln *lane) recycle(g *group) {
	g.reset()
	ln.mu.Lock()
	ln.spare, ln.busy = g, false
	if ln.urgent || len(ln.asks) > 0 || ln.closing {
		ln.work.Signal()
	}
	ln.mu.Unlock()
}

// hold keeps the committer asleep over what is appended until release.
func (ln *lane) hold() {
	ln.mu.Lock()
	ln.holds++
	ln.mu.Unlock()
}

// release ends a hold. It returns a group that the caller is to commit, or nil where there is none, or it may wait, or the
// committer is better at it.
func (ln *lane) release(mayWait bool) *group {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.holds--
	if len(ln.filling.ops) == 0 {
		return nil
	}
	if mayWait && !ln.urgent {
		if !ln.delayed {
			ln.delayed = true
			ln.later.Reset(maxDelay)
		}
		return nil
	}
	ln.urgent = true
	switch {
	case ln.busy:
		return nil
	case len(ln.filling.buf) <= inlineBytes && len(ln.asks) == 0 && !ln.closing:
		return ln.begin()
	}
	ln.work.Signal()
	return nil
}

// maxDelay is how long what may wait waits for something that may not.
const maxDelay = time.Millisecond

// due ends the wait.
func (ln *lane) due() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.delayed = false
	if len(ln.filling.ops) > 0 {
		ln.hurry()
	}
}

// ask has the committer run a function between two runs; false if it may have ended.
func (ln *lane) ask(fn func()) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.ended {
		return false
	}
	ln.asks = append(ln.asks, fn)
	ln.work.Signal()
	select {
	case ln.asked <- struct{}{}:
	default:
	}
	return true
}

// waitFreed waits, between two runs, until a journal file is free or the store has failed, and answers meanwhile.
func (ln *lane) waitFreed(freed, failed <-chan struct{}) {
	for {
		ln.mu.Lock()
		asks := ln.asks
		ln.asks = nil
		ln.mu.Unlock()
		for _, ask := range asks {
			ask()
		}
		select {
		case <-freed:
			return
		case <-failed:
			return
		case <-ln.asked:
		}
	}
}

// refuse makes every later append fail with err.
func (ln *lane) refuse(err error) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.err == nil {
		ln.err = err
	}
	ln.room.Broadcast()
}

// close ends the committer after what is pending.
func (ln *lane) close(err error) {
	ln.refuse(err)
	ln.mu.Lock()
	ln.closing = true
	ln.work.Signal()
	ln.mu.Unlock()
	<-ln.done
}

// inserted wakes the committer after operations were put into filling, or leaves them to who holds the lane. It is called
// with mu held.
func (ln *lane) inserted() {
	if len(ln.filling.buf) >= ln.maxBytes {
		ln.full.Store(true)
	}
	if ln.holds == 0 || len(ln.filling.buf) > inlineBytes {
		ln.hurry()
	}
}

// hurry wakes the committer. It is called with mu held.
func (ln *lane) hurry() {
	ln.urgent = true
	ln.work.Signal()
}

func (ln *lane) pending() int {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return len(ln.filling.buf)
}
