package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// fullWait is how long a request waits for room in a queue that lets its senders wait.
const fullWait = 30 * time.Second

func (s *Server) put(w http.ResponseWriter, r *http.Request, c *session.Connection) error {
	return s.send(w, r, c, destination.KindQueue)
}

func (s *Server) publish(w http.ResponseWriter, r *http.Request, c *session.Connection) error {
	return s.send(w, r, c, destination.KindTopic)
}

// sent is the answer to a message that is on disk.
type sent struct {
	ID          string `json:"id"`
	Destination string `json:"destination"`
	Partition   int32  `json:"partition"`
	Offset      int64  `json:"offset"`
}

func (s *Server) send(w http.ResponseWriter, r *http.Request, c *session.Connection, kind destination.Kind) error {
	select {
	case <-s.draining:
		return session.ErrShuttingDown
	default:
	}
	d, err := c.Resolve(r.Context(), r.PathValue("name"), kind)
	if err != nil {
		return err
	}
	if d.Internal {
		return fmt.Errorf("%w: %q is the broker's own", session.ErrUnauthorized, d.Name)
	}
	if err := c.Authorize(session.OperationSend, d.Name); err != nil {
		return err
	}
	body, err := s.body(w, r, d)
	if err != nil {
		return err
	}
	m, err := parse(r.Header, body, time.Now())
	if err != nil {
		return err
	}
	if m.ID == "" {
		m.ID = fmt.Sprintf("ID:http-%d-%d", s.broker.Epoch(), c.Number())
	}
	m.UserID = c.Principal()
	var b record.Builder
	if err := m.AppendTo(&b); err != nil {
		return fmt.Errorf("%w: %w", session.ErrInvalid, err)
	}
	batch := b.Batch()
	p := d.Route(m.Key, c.Number())
	if err := session.Takes(d, p, len(batch)); err != nil {
		return err
	}
	if err := p.Room().Take(1); err != nil {
		if !p.Room().Blocks() {
			return fmt.Errorf("%q: %w", d.Name, err)
		}
		ctx, cancel := context.WithTimeout(r.Context(), fullWait)
		defer cancel()
		if err := p.WaitRoom(ctx, 1); err != nil {
			return fmt.Errorf("%q: %w", d.Name, session.ErrQueueFull)
		}
	}
	done := make(waiter, 1)
	offset, err := p.Send(batch, done)
	if err == nil {
		err = <-done
	}
	if err != nil {
		return err
	}
	return reply(w, http.StatusCreated, sent{m.ID, d.Name, p.Number(), offset})
}

// waiter is a commitlog.Waiter.
type waiter chan error

// Committed implements commitlog.Waiter.
func (w waiter) Committed(err error) { w <- err }

// body reads a request's body, which must come with some speed.
func (s *Server) body(w http.ResponseWriter, r *http.Request, d *destination.Destination) ([]byte, error) {
	limit := min(s.options.MaxBody, int64(d.Settings.MaxMessageBytes))
	tooLarge := fmt.Errorf("%w: a message of %q has at most %d bytes", session.ErrTooLarge, d.Name, limit)
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(headerTimeout + time.Duration(limit/slowest)*time.Second))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = control.SetReadDeadline(time.Time{})
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, invalid("the body ends early")
	}
	return body, nil
}
