package server

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/wire/native"
)

// The bounds of a client's heartbeat: shorter is taken as the shortest, so
// that a busy moment kills nobody; none at all is taken as silentClient.
const (
	shortestHeartbeat = 500 * time.Millisecond
	longestHeartbeat  = time.Hour
	silentClient      = 30 * time.Second
)

var (
	errHandshakeTimeout = fmt.Errorf("%w: no Hello in time", native.ErrProtocol)
	errPeerSilent       = errors.New("the peer was silent for two heartbeats")
	errPeerStuck        = errors.New("the peer read nothing for too long")
)

// watch looks at a connection from time to time, with a timer and no
// goroutine: for a peer that is dead, for one that does not read, and for our
// own silence, which it ends with a Ping.
type watch struct {
	c     *connection
	every time.Duration
	peer  time.Duration // the peer's heartbeat

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	stopped bool
}

func startWatch(c *connection, peerMS uint64) *watch {
	peer := silentClient
	if peerMS > 0 {
		peer = min(max(time.Duration(min(peerMS, uint64(longestHeartbeat/time.Millisecond)))*time.Millisecond, shortestHeartbeat), longestHeartbeat)
	}
	o := c.server.options
	w := &watch{c: c, peer: peer, every: min(peer, o.Heartbeat, o.WriteTimeout) / 2}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.every, w.look)
	return w
}

// look runs on the timer.
func (w *watch) look() {
	if err := w.verdict(w.c.now()); err != nil {
		w.c.kill(err)
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
	silent := time.Duration(0)
	if since := c.reading.Load(); since != 0 {
		silent = now - time.Duration(since)
	}
	if silent > 2*w.peer {
		return errPeerSilent
	}
	// A peer that has nothing to say is asked, so that one that only listens
	// is not taken for dead; and our own silence ends before it is too long.
	quiet := c.out.Quiet(now) >= o.Heartbeat/2
	if quiet || silent >= w.peer {
		c.pings.Add(1)
		c.out.append(&native.Ping{Number: c.pings.Load()}, nil)
		c.out.Flush()
	}
	return nil
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
