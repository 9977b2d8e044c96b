package polylog

import (
	"context"
	"sync"
	"sync/atomic"
)

// gate holds delivery back while the connection is stopped, and knows the
// listeners that are running. Jakarta Messaging 3.1 §6.1.5.
type gate struct {
	shut atomic.Bool // so that an open gate costs a load

	mu      sync.Mutex // guards what follows
	opened  chan struct{}
	running sync.RWMutex // read-locked by each listener while it runs
}

// pass waits until the gate is open.
func (g *gate) pass(ctx context.Context) error {
	for g.shut.Load() {
		g.mu.Lock()
		opened := g.opened
		g.mu.Unlock()
		if opened == nil {
			continue
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (g *gate) close() {
	g.mu.Lock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	g.shut.Store(true)
	g.mu.Unlock()
}

func (g *gate) open() {
	g.mu.Lock()
	g.shut.Store(false)
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
	g.mu.Unlock()
}

// enter waits until the gate is open, and holds it so until leave.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.running.RLock()
		if !g.shut.Load() {
			return nil
		}
		g.running.RUnlock()
		if err := g.pass(ctx); err != nil {
			return err
		}
	}
}

func (g *gate) leave() { g.running.RUnlock() }

// quiet waits for the listeners that run.
func (g *gate) quiet() {
	g.running.Lock()
	g.running.Unlock() //nolint:staticcheck // taking it was all that was wanted
}
