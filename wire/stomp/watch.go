package stomp

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	errPeerSilent = errors.New("the client was silent for longer than its heart-beats allow")
	errPeerStuck  = errors.New("the client read nothing for too long")
)

// leastBeat is the least time between heart-beats, in both directions.
const leastBeat = time.Second

// beats reads a client's heart-beat header, and returns how long the two ends may be
// silent; 0: for ever. STOMP 1.2, Heart-beating
func beats(header string) (client, server time.Duration, err error) {
	if header == "" {
		return 0, 0, nil
	}
	sends, wants, ok := strings.Cut(header, ",")
	x, err1 := strconv.ParseUint(strings.TrimSpace(sends), 10, 31)
	y, err2 := strconv.ParseUint(strings.TrimSpace(wants), 10, 31)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, invalid("heart-beat %.40q", header)
	}
	if x > 0 {
		client = max(time.Duration(x)*time.Millisecond, leastBeat)
	}
	if y > 0 {
		server = max(time.Duration(y)*time.Millisecond, leastBeat)
	}
	return client, server, nil
}

// watch looks at a connection from time to time, with a timer and no goroutine: for a
// peer that is dead, for one that does not read, and for our own silence, which it ends
// with a heart-beat.
type watch struct {
	c              *connection
	every          time.Duration
	client, server time.Duration // how long the two may be silent; 0: for ever

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	stopped bool
}

func startWatch(c *connection, client, server time.Duration) *watch {
	w := &watch{c: c, client: client, server: server, every: c.server.options.WriteTimeout / 4}
	for _, d := range [...]time.Duration{client, server} {
		if d > 0 {
			w.every = min(w.every, d/4)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.every, w.look)
	return w
}

// look runs on the timer.
func (w *watch) look() {
	c, now := w.c, w.c.now()
	if c.out.Stuck(now) > c.server.options.WriteTimeout {
		c.kill(errPeerStuck)
		return
	}
	// Twice what was agreed on: the specification asks for tolerance of what delays a beat.
	if since := c.reading.Load(); since != 0 && w.client > 0 && now-time.Duration(since) > 2*w.client {
		c.fail(errPeerSilent)
		return
	}
	if w.server > 0 && c.out.Quiet(now) >= w.server/2 {
		if b, ok := c.out.Begin(); ok {
			c.out.EndFlush(append(b, '\n'))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(w.every)
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
