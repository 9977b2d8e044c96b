package amqp

import (
	"errors"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

var (
	errPeerSilent error = broken(codec.ResourceLimitExceeded, "the peer was silent for longer than the idle-time-out")
	errPeerStuck        = errors.New("the peer read nothing for too long")
)

// shortestIdle is the shortest idle-time-out of a peer that is heeded.
const shortestIdle = 100 * time.Millisecond

// watch looks at a connection from time to time, with a timer and no goroutine: for
// a peer that is dead, for one that does not read, and for our own silence, which it
// ends with an empty frame (AMQP 1.0 §2.4.5).
type watch struct {
	c     *connection
	every time.Duration
	peer  time.Duration // how long we may be silent; 0: for ever

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	stopped bool
}

func startWatch(c *connection, peer time.Duration) *watch {
	o := c.server.options
	w := &watch{c: c, peer: peer, every: min(o.IdleTimeout, o.WriteTimeout) / 4}
	if peer > 0 {
		w.peer = max(peer, shortestIdle)
		w.every = min(w.every, w.peer/4)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.every, w.look)
	return w
}

// look runs on the timer.
func (w *watch) look() {
	if err := w.verdict(w.c.now()); err == errPeerStuck {
		w.c.kill(err)
		return
	} else if err != nil {
		w.c.cancel(err)
		_ = w.c.conn.SetReadDeadline(time.Now()) // the reader ends, and says why
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(w.every)
	}
}

func (w *watch) verdict(now time.Duration) error {
	c, o := w.c, w.c.server.options
	if c.out.Stuck(now) > o.WriteTimeout {
		return errPeerStuck
	}
	if since := c.reading.Load(); since != 0 && now-time.Duration(since) > o.IdleTimeout {
		return errPeerSilent
	}
	if w.peer > 0 && c.out.Quiet(now) >= w.peer/2 {
		if b, ok := c.out.Begin(); ok {
			b, at := codec.BeginFrame(b, codec.FrameAMQP, 0)
			c.out.EndFlush(codec.EndFrame(b, at))
		}
	}
	return nil
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
