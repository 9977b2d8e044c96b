package server

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

// session returns one by number, or nil.
func (c *connection) session(number uint64) *session.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[number]
}

// openSession handles an OpenSession, on the reader: a Send may follow at once.
func (c *connection) openSession(f *native.OpenSession) error {
	if c.draining.Load() {
		return errDraining
	}
	if f.Session == 0 {
		return fmt.Errorf("%w: sessions are numbered from 1", session.ErrInvalid)
	}
	if c.session(f.Session) != nil {
		return fmt.Errorf("session %d: %w on this connection", f.Session, session.ErrExists)
	}
	s, err := c.state.OpenSession(session.AckMode(f.Mode))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[f.Session] = s
	return nil
}

// closeSession handles a CloseSession. The reader forgets the session and its
// consumers at once; what they hold goes back on the lane, behind the requests
// that came before.
func (c *connection) closeSession(f *native.CloseSession) {
	c.mu.Lock()
	s := c.sessions[f.Session]
	delete(c.sessions, f.Session)
	for number, k := range c.consumers {
		if k.session == f.Session {
			delete(c.consumers, number)
		}
	}
	c.mu.Unlock()
	if s == nil {
		c.out.fail(f.Request, fmt.Errorf("session %d: %w on this connection", f.Session, session.ErrNotFound))
		return
	}
	c.ordered.must(f.Request, func() error {
		s.Close()
		c.out.append(&native.OK{Request: f.Request}, nil)
		return nil
	})
}

// flow handles a Flow. The answer is appended after the views have let go of
// their last delivery, which was appended before: so nothing that was under
// way comes behind it (Jakarta Messaging 3.1 §6.1.5).
func (c *connection) flow(f *native.Flow) {
	var s *session.Session
	if f.Session != 0 {
		if s = c.session(f.Session); s == nil {
			c.out.fail(f.Request, fmt.Errorf("session %d: %w on this connection", f.Session, session.ErrNotFound))
			return
		}
	}
	c.ordered.do(f.Request, func() error {
		switch {
		case f.Start && c.draining.Load():
			return errDraining
		case f.Start && s != nil:
			s.Start()
		case f.Start:
			c.state.Start()
		case s != nil:
			s.Stop()
		default:
			c.state.Stop()
		}
		c.out.append(&native.OK{Request: f.Request}, nil)
		return nil
	})
}

// resolve handles a Resolve, on the lane.
func (c *connection) resolve(f *native.Resolve) error {
	kind, err := kindOf(f.Kind)
	if err != nil {
		return err
	}
	if destination.IsPattern(f.Name) {
		all, err := c.state.ResolveList(c.ctx, f.Name, kind)
		if err != nil {
			return err
		}
		return c.resolvedAll(f, all)
	}
	d, err := c.state.Resolve(c.ctx, f.Name, kind)
	if err != nil {
		return err
	}
	return c.resolved(f.Request, d)
}

// resolved gives d a handle, if this connection may send to it, and answers.
func (c *connection) resolved(request uint64, d *destination.Destination) error {
	if err := c.sendable(d); err != nil {
		return err
	}
	handle, err := c.handles.add(d.Name, target{destination: d}, c.server.options.MaxHandles)
	if err != nil {
		return err
	}
	body := (&native.Resolved{
		Handle: handle, Name: d.Name, Kind: nativeKind(d.Kind),
		Partitions: uint64(len(d.Partitions)), MaxMessage: uint64(d.Settings.MaxMessageBytes),
	}).Append(nil)
	c.out.append(&native.OK{Request: request, Body: body}, nil)
	return nil
}

func (c *connection) sendable(d *destination.Destination) error {
	if d.Internal {
		return fmt.Errorf("%w: %q is the broker's own", session.ErrUnauthorized, d.Name)
	}
	return c.state.Authorize(session.OperationSend, d.Name)
}

// resolvedAll gives a list of destinations one handle. It has one partition: each
// of them routes by itself.
func (c *connection) resolvedAll(f *native.Resolve, all []*destination.Destination) error {
	largest := int64(math.MaxInt64)
	for _, d := range all {
		if err := c.sendable(d); err != nil {
			return err
		}
		largest = min(largest, d.Settings.MaxMessageBytes)
	}
	handle, err := c.handles.add(fmt.Sprintf("%d,%s", f.Kind, f.Name), target{all: all}, c.server.options.MaxHandles)
	if err != nil {
		return err
	}
	body := (&native.Resolved{Handle: handle, Name: f.Name, Kind: f.Kind, Partitions: 1, MaxMessage: uint64(largest)}).Append(nil)
	c.out.append(&native.OK{Request: f.Request, Body: body}, nil)
	return nil
}

// temporary handles a Temporary, on the lane.
func (c *connection) temporary(f *native.Temporary) error {
	kind, err := kindOf(f.Kind)
	if err != nil {
		return err
	}
	d, err := c.state.CreateTemporary(c.ctx, kind)
	if err != nil {
		return err
	}
	return c.resolved(f.Request, d)
}

// unsubscribe handles an Unsubscribe, on the lane.
func (c *connection) unsubscribe(f *native.Unsubscribe) error {
	if err := c.state.Unsubscribe(c.ctx, f.Name, f.Shared); err != nil {
		return err
	}
	c.out.append(&native.OK{Request: f.Request}, nil)
	return nil
}

// target is what a handle stands for: a destination, or a list of them.
type target struct {
	destination *destination.Destination
	all         []*destination.Destination
}

// handles numbers the destinations that a connection sends to, from 1. The
// ordered lane adds, the reader looks up.
type handles struct {
	list   atomic.Pointer[[]target]
	byName map[string]uint64 // of the lane
}

// add returns the handle of t. A destination that was altered or made anew
// under its old name keeps the handle, which from then on means the new one.
func (h *handles) add(name string, t target, limit int) (uint64, error) {
	var old []target
	if l := h.list.Load(); l != nil {
		old = *l
	}
	handle, known := h.byName[name]
	if known && t.all == nil && old[handle-1].destination == t.destination {
		return handle, nil
	}
	list := append(make([]target, 0, len(old)+1), old...)
	if known {
		list[handle-1] = t
	} else {
		if len(list) >= limit {
			return 0, fmt.Errorf("%w: a connection may resolve %d destinations", session.ErrBusy, limit)
		}
		list = append(list, t)
		handle = uint64(len(list))
		if h.byName == nil {
			h.byName = map[string]uint64{}
		}
		h.byName[name] = handle
	}
	h.list.Store(&list)
	return handle, nil
}

// get returns what a handle stands for, or nil.
func (h *handles) get(handle uint64) *target {
	l := h.list.Load()
	if l == nil || handle == 0 || handle > uint64(len(*l)) {
		return nil
	}
	return &(*l)[handle-1]
}
