package polylog

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/nats-io/nuid"

	"github.com/polylog-mq/polylog/wire/native"
)

// Mode says what acknowledges the deliveries of a session: Jakarta Messaging
// 3.1 §6.2.10.
type Mode = native.AckMode

// The acknowledgement modes.
const (
	AutoAcknowledge       = native.AckAuto       // when the application is done with the message
	ClientAcknowledge     = native.AckClient     // Acknowledge, for all that the session has delivered
	DupsOKAcknowledge     = native.AckDupsOK     // like auto, but lazily: a broken connection may repeat more
	IndividualAcknowledge = native.AckIndividual // each delivery by its own Ack
	Transacted            = native.AckTransacted // Commit, for all that the session has sent and delivered
)

// Session is a stream of work on a connection: what one session sends to a
// destination keeps its order. Unlike in Java it may be used by several
// goroutines; those share its order and, in ClientAcknowledge, its
// acknowledgements.
type Session struct {
	c        *Connection
	number   uint64
	mode     Mode
	idPrefix string // of message ids
	producer uint64 // what routes messages without a key

	sending sends
	work    work // of Transacted

	mu        sync.Mutex // guards what follows
	consumers map[uint64]*consumer
	takers    map[takerKey]*consumer
	closed    bool

	closeOnce sync.Once
	closeErr  error
}

// takerKey is what the implicit consumers of Take differ by.
type takerKey struct {
	destination string
	selector    string
}

// maxTakers bounds a session's implicit consumers. Beyond it, those that
// nobody uses are closed.
const maxTakers = 256

// Session opens a session, in AutoAcknowledge unless another mode is given.
func (c *Connection) Session(ctx context.Context, mode ...Mode) (*Session, error) {
	s := &Session{c: c, idPrefix: "ID:" + nuid.New().Next() + "-", consumers: map[uint64]*consumer{}, takers: map[takerKey]*consumer{}}
	if len(mode) > 0 {
		s.mode = mode[len(mode)-1]
	}
	s.producer = maphash.String(producerSeed, s.idPrefix)
	s.sending.init(s)
	err := c.open(ctx, func() {
		c.lastSession++
		s.number = c.lastSession
		c.sessions[s.number] = s
	}, func(request uint64) native.Frame {
		return &native.OpenSession{Request: request, Session: s.number, Mode: s.mode}
	}, s.closeRequest)
	if err != nil {
		c.forgetSession(s)
		return nil, fmt.Errorf("open a session: %w", err)
	}
	return s, nil
}

var producerSeed = maphash.MakeSeed()

// Connection returns the session's connection.
func (s *Session) Connection() *Connection { return s.c }

// notes says whether the session remembers what it has delivered.
func (s *Session) notes() bool { return s.mode == ClientAcknowledge || s.mode == Transacted }

// Mode returns the acknowledgement mode.
func (s *Session) Mode() Mode { return s.mode }

// Acknowledge acknowledges all that the session has delivered, and waits until
// that is confirmed. Only ClientAcknowledge keeps account of it; in the other
// modes there is nothing to do. Jakarta Messaging 3.1 §8.7.
func (s *Session) Acknowledge(ctx context.Context) error {
	if err := s.alive(); err != nil {
		return err
	}
	var waits []*waiter
	err := s.acknowledge(func() *waiter {
		w := s.c.newWaiter()
		waits = append(waits, w)
		return w
	})
	for _, w := range waits {
		if _, failed := w.wait(ctx); err == nil {
			err = failed
		}
	}
	return err
}

// acknowledge asks newWaiter, if there is one, for a waiter for each consumer.
func (s *Session) acknowledge(newWaiter func() *waiter) (err error) {
	for _, c := range s.all() {
		if failed := c.acknowledgeAll(newWaiter); err == nil {
			err = failed
		}
	}
	return err
}

// alive returns ErrClosed if the session is closed.
func (s *Session) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return closedError("the session is closed")
	}
	return nil
}

// all returns the session's consumers, also those that are closed but whose
// deliveries are not all settled.
func (s *Session) all() []*consumer {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*consumer, 0, len(s.consumers))
	for _, c := range s.consumers {
		list = append(list, c)
	}
	return list
}

// Recover gives back all that the session has delivered and not acknowledged,
// and starts delivery over with the oldest of it: Jakarta Messaging 3.1
// §6.2.12. Only ClientAcknowledge keeps account of it; what was merely fetched
// ahead is given back in every mode.
func (s *Session) Recover(ctx context.Context) error {
	if s.mode == Transacted {
		return &Error{Code: native.CodeInvalid, Message: "recover: the session is transacted; roll it back"}
	}
	if err := s.alive(); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if err := s.flow(ctx, false); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	var failed error
	for _, c := range s.all() {
		if err := c.giveBack(ctx); failed == nil {
			failed = err
		}
	}
	if err := s.flow(ctx, true); failed == nil {
		failed = err
	}
	if failed != nil {
		return fmt.Errorf("recover: %w", failed)
	}
	return nil
}

func (s *Session) flow(ctx context.Context, start bool) error {
	_, err := s.c.call(ctx, true, func(request uint64) native.Frame {
		return &native.Flow{Request: request, Session: s.number, Start: start}
	})
	return err
}

// Flush waits until all that was sent is confirmed, the completions have
// returned, and the acknowledgements are confirmed.
func (s *Session) Flush(ctx context.Context) error {
	err := s.sending.flush(ctx)
	for _, c := range s.all() {
		if failed := c.flush(ctx); err == nil {
			err = failed
		}
	}
	return err
}

// Close waits for what was sent and for the completions, as Flush does, closes
// the session's consumers, and gives back what is not acknowledged. It is
// idempotent, and must not be called from a completion. If the context ends
// first the session is closed all the same, and what is under way is in doubt.
func (s *Session) Close(ctx context.Context) error {
	s.closeOnce.Do(func() { s.closeErr = s.close(ctx) })
	return s.closeErr
}

func (s *Session) close(ctx context.Context) error {
	s.sending.close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	failed := s.sending.flush(ctx)
	for _, c := range s.all() {
		if err := c.close(ctx); failed == nil {
			failed = err
		}
	}
	err := s.c.callOnce(ctx, s.closeRequest)
	s.c.forgetSession(s)
	if failed == nil && !errors.Is(err, ErrClosed) {
		failed = err
	}
	s.sending.fail(closedError("the session is closed"))
	for _, c := range s.all() {
		c.end(closedError("the session is closed"))
	}
	if failed != nil {
		return fmt.Errorf("close the session: %w", failed)
	}
	return nil
}

func (s *Session) closeRequest(request uint64) native.Frame {
	return &native.CloseSession{Request: request, Session: s.number}
}

// listen runs n consumers until the context ends or one of them fails.
func (s *Session) listen(ctx context.Context, n int, run func(context.Context) error) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make(chan error, n)
	for range n {
		go func() {
			err := run(inner)
			if err != nil {
				cancel()
			}
			failures <- err
		}()
	}
	var failed error
	for range n {
		if err := <-failures; failed == nil && err != nil && !(inner.Err() != nil && errors.Is(err, context.Canceled)) {
			failed = err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return failed
}
