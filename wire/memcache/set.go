package memcache

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// pass is the sets whose outcome is awaited together.
type pass struct {
	mu      sync.Mutex // guards what follows
	done    sync.Cond
	waiting int
	errs    []error
}

// put is one of them, a commitlog.Waiter.
type put struct {
	pass *pass
	at   int
}

// Committed implements commitlog.Waiter.
func (p *put) Committed(err error) {
	p.pass.mu.Lock()
	defer p.pass.mu.Unlock()
	p.pass.errs[p.at] = err
	if p.pass.waiting--; p.pass.waiting == 0 {
		p.pass.done.Broadcast()
	}
}

// put sends a message; its answer comes once that is on disk.
func (c *connection) put(cmd *command, value []byte) {
	if err := c.send(cmd, value); err != nil {
		c.replies = append(c.replies, reply{text: append(appendError(nil, err), "\r\n"...), quiet: cmd.noreply})
		return
	}
	c.replies = append(c.replies, reply{set: len(c.sets.errs), quiet: cmd.noreply})
}

func (c *connection) send(cmd *command, value []byte) error {
	d, err := c.state.Resolve(c.ctx, string(cmd.keys[0]), destination.KindQueue)
	if err != nil {
		return err
	}
	if d.Internal {
		return fmt.Errorf("%w: %q is the broker's own", session.ErrUnauthorized, d.Name)
	}
	if err := c.state.Authorize(session.OperationSend, d.Name); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	m := record.Message{Body: value, Timestamp: now}
	m.Priority, m.Kind, m.Expiration = record.DefaultPriority, record.BodyBytes, expiration(cmd.expires, now)
	if cmd.flags != 0 {
		m.Properties = map[string]any{flagsProperty: int64(cmd.flags)}
	}
	c.builder.Reset()
	if err := m.AppendTo(&c.builder); err != nil {
		return err
	}
	batch := c.builder.Batch()
	p := d.Route(nil, c.state.Number())
	if err := session.Takes(d, p, len(batch)); err != nil {
		return err
	}
	if err := p.Room().Take(1); err != nil {
		if !p.Room().Blocks() {
			return err
		}
		c.settleSets() // what came before is not held up
		ctx, cancel := context.WithTimeout(c.ctx, c.server.options.FullTimeout)
		defer cancel()
		if err := p.WaitRoom(ctx, 1); err != nil {
			return fmt.Errorf("%q: %w", d.Name, session.ErrQueueFull)
		}
	}
	if !c.holding {
		c.holding = true
		c.server.broker.Hold()
	}
	c.sets.mu.Lock()
	c.sets.errs = append(c.sets.errs, nil)
	c.sets.waiting++
	w := &put{c.sets, len(c.sets.errs) - 1}
	c.sets.mu.Unlock()
	if _, err := p.Send(batch, w); err != nil {
		w.Committed(err) // a log that refuses does not call it
	}
	return nil
}

// settleSets waits for what was put.
func (c *connection) settleSets() {
	if c.holding {
		c.holding = false
		c.server.broker.Release(false, func() {})
	}
	c.sets.mu.Lock()
	defer c.sets.mu.Unlock()
	for c.sets.waiting > 0 {
		c.sets.done.Wait()
	}
}
