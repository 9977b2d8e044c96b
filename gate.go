package polylog

import (
	"context"
	"sync"
	"sync/atomic"
)

// gate holds delivery back while the connection is stopped, and knows how many
// listeners are running. Jakarta Messaging 3.1 §6.1.5.
type gate struct {
	shut atomic.Bool // so that an open gate costs a load

	mu      sync.Mutex    // guards what follows
	opened  chan struct{} // closed when it opens; nil while it is open
	running int
	quieted chan struct{} // closed when nothing runs any more; nil unless somebody waits
}

// shutUntil is closed when the gate opens; nil if it is open.
func (g *gate) shutUntil() chan struct{} {
	if !g.shut.Load() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}

// pass waits until the gate is open.
func (g *gate) pass(ctx context.Context) error {
	for {
		opened := g.shutUntil()
		if opened == nil {
			return nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	g.shut.Store(true)
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut.Store(false)
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// enter waits until the gate is open, and counts a listener as running.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		open := g.opened == nil
		if open {
			g.running++
		}
		g.mu.Unlock()
		if open {
			return nil
		}
		if err := g.pass(ctx); err != nil {
			return err
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running--; g.running == 0 && g.quieted != nil {
		close(g.quieted)
		g.quieted = nil
	}
}

// quiet waits until no listener is running.
func (g *gate) quiet(ctx context.Context) error {
	g.mu.Lock()
	if g.running > 0 && g.quieted == nil {
		g.quieted = make(chan struct{})
	}
	quieted := g.quieted
	g.mu.Unlock()
	if quieted == nil {
		return nil
	}
	select {
	case <-quieted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
