package polylog

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/polylog-mq/polylog/wire/native"
)

// work is what a session knows of its transaction. All else is the broker's,
// and is lost with the connection.
type work struct {
	used atomic.Bool // something was sent or received
	lost atomic.Bool // on a connection that broke since
}

// use notes that something was sent or received.
func (w *work) use() {
	if !w.used.Load() {
		w.used.Store(true)
	}
}

// lose notes that the connection broke.
func (w *work) lose() {
	if w.used.Load() {
		w.lost.Store(true)
	}
}

// begin begins the next transaction.
func (w *work) begin() {
	w.used.Store(false)
	w.lost.Store(false)
}

// Commit commits what the session has sent and received since its last Commit
// or Rollback: all of it is on the broker's disk when it returns, or nothing
// is. The session must be Transacted: Jakarta Messaging 3.1 §6.2.7.
//
// ErrRolledBack says that nothing of it was done, because the connection broke
// meanwhile, or the broker could not do it; what was received comes again.
// ErrInDoubt says that the connection broke, or the context ended, after the
// commit was asked for and before it was answered. In either case the session
// goes on with a new transaction.
func (s *Session) Commit(ctx context.Context) error {
	l, err := s.endWork(ctx, "commit")
	if err != nil {
		return err
	}
	// On another connection the broker knows nothing of this transaction.
	if s.work.lost.Load() {
		return s.rolledBack(ctx)
	}
	_, err = l.call(ctx, func(request uint64) native.Frame {
		return &native.EndWork{Request: request, Session: s.number, Commit: true}
	})
	switch {
	case errors.Is(err, errNotSent):
		return s.rolledBack(ctx)
	case errors.Is(err, errBroken):
		err = doubt(err)
	}
	s.work.begin()
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (s *Session) transacted(what string) error {
	if s.mode != Transacted {
		return &Error{Code: native.CodeInvalid, Message: what + ": the session is not transacted"}
	}
	if err := s.alive(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// endWork has all that was sent and received noted by the broker, and returns
// the connection on which that is so unless the work is lost.
func (s *Session) endWork(ctx context.Context, what string) (*link, error) {
	if err := s.transacted(what); err != nil {
		return nil, err
	}
	l, err := s.c.await(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	consumers := s.all() // those that are closed are forgotten once they have acknowledged
	err = s.acknowledge(nil)
	for _, c := range consumers {
		if failed := c.flush(ctx); err == nil {
			err = failed
		}
	}
	if failed := s.sending.flush(ctx); err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return l, nil
}

// rolledBack forgets a transaction that was lost with its connection, and what
// of it has come to the next one.
func (s *Session) rolledBack(ctx context.Context) error {
	err := s.abandonWork(ctx)
	return errors.Join(&Error{Code: native.CodeRolledBack, Message: "transaction rolled back: the connection broke before the commit"}, err)
}

// Rollback undoes what the session has sent and received since its last Commit
// or Rollback: what it sent is nowhere, and what it received comes again, with
// its delivery counted, first of all that it had fetched ahead. The session must
// be Transacted: Jakarta Messaging 3.1 §6.2.7. Closing a session does the same.
func (s *Session) Rollback(ctx context.Context) error {
	if err := s.transacted("rollback"); err != nil {
		return err
	}
	if err := s.flow(ctx, false); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	for _, c := range s.all() {
		c.giveBackUnseen()
	}
	_, err := s.endWork(ctx, "rollback")
	if err == nil {
		err = s.abandonWork(ctx)
	}
	for _, c := range s.all() {
		c.replenish()
	}
	if failed := s.flow(ctx, true); err == nil {
		err = failed
	}
	return err
}

// abandonWork has the broker forget the transaction.
func (s *Session) abandonWork(ctx context.Context) error {
	_, err := s.c.call(ctx, true, func(request uint64) native.Frame {
		return &native.EndWork{Request: request, Session: s.number}
	})
	s.work.begin()
	if err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	return nil
}

// Tx runs f in a transacted session of its own, and commits what f has sent
// and received if it returns nil. Otherwise, or if f panics, that is rolled
// back, and f's error is returned as it is. See Session.Commit for the errors
// of the commit.
func (c *Connection) Tx(ctx context.Context, f func(s *Session) error) (err error) {
	s, err := c.Session(ctx, Transacted)
	if err != nil {
		return err
	}
	// Closing rolls back what is not committed.
	defer func() {
		if failed := s.Close(context.WithoutCancel(ctx)); err == nil {
			err = failed
		}
	}()
	if err = f(s); err != nil {
		return err
	}
	return s.Commit(ctx)
}
