package session

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// BranchFlag says how a session joins or leaves a branch: X/Open XA §4.3.
type BranchFlag uint8

// The flags of StartBranch (BranchNew, BranchJoin, BranchResume) and EndBranch
// (BranchSuccess, BranchFail, BranchSuspend).
const (
	BranchNew     BranchFlag = iota // TMNOFLAGS
	BranchJoin                      // TMJOIN
	BranchResume                    // TMRESUME
	BranchSuccess                   // TMSUCCESS
	BranchFail                      // TMFAIL
	BranchSuspend                   // TMSUSPEND
)

// branch is one that is not prepared. It is of one connection, and gone with it.
type branch struct {
	xid       destination.XID
	work      work     // while no session works for it
	session   *Session // that works for it, nil if none
	suspended *Session // that may resume it
	timer     *time.Timer
}

// maxBranches bounds those of a connection that are not prepared, whose sends are
// in memory.
const maxBranches = 256

// branches are those of a connection.
type branches struct {
	mu     sync.Mutex // guards what follows and every branch; taken before a session's
	of     map[destination.XID]*branch
	closed bool
}

// StartBranch has the session, which must be transacted, work for a branch: a new
// one, which is rolled back after a timeout, if that is not 0, unless it is
// prepared before; or one of this connection that another session has left, or
// this one suspended. ErrExists is XAER_DUPID, ErrNotFound XAER_NOTA, ErrConflict
// XAER_PROTO, ErrInvalid XAER_OUTSIDE or XAER_INVAL, ErrRolledBack XA_RBROLLBACK.
func (s *Session) StartBranch(x destination.XID, flag BranchFlag, timeout time.Duration) error {
	if err := x.Check(); err != nil {
		return err
	}
	c := s.connection
	all := &c.branches
	all.mu.Lock()
	defer all.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.transacted(); err != nil {
		return err
	}
	switch {
	case all.closed:
		return errConnectionClosed
	case s.branch != nil:
		return fmt.Errorf("branch %s: %w: the session works for branch %s", x, ErrConflict, s.branch.xid)
	case !s.work.empty():
		return fmt.Errorf("branch %s: %w: the session has a transaction of its own under way; commit it or roll it back", x, ErrInvalid)
	}
	b := all.of[x]
	switch {
	case flag == BranchNew && len(all.of) >= maxBranches:
		return fmt.Errorf("%w: a connection may have %d branches that are not prepared", ErrBusy, maxBranches)
	case flag == BranchNew:
		if err := c.broker.ReserveBranch(x); err != nil {
			return err
		}
		b = &branch{xid: x}
		if all.of == nil {
			all.of = map[destination.XID]*branch{}
		}
		all.of[x] = b
		if timeout > 0 {
			b.timer = time.AfterFunc(timeout, func() { all.expire(b, timeout) })
		}
	case b == nil:
		return fmt.Errorf("branch %s: %w on this connection", x, ErrNotFound)
	case flag != BranchJoin && flag != BranchResume:
		return fmt.Errorf("branch %s: %w: flag %d does not start one", x, ErrInvalid, flag)
	case b.session != nil:
		return fmt.Errorf("branch %s: %w: another session works for it", x, ErrConflict)
	case (flag == BranchResume) != (b.suspended == s) || b.suspended != nil && b.suspended != s:
		return fmt.Errorf("branch %s: %w: to resume is for the session that has suspended it, to join for others", x, ErrConflict)
	case b.work.refused != nil:
		return b.work.refused
	}
	b.session, b.suspended = s, nil
	s.branch, s.work, b.work = b, b.work, work{}
	return nil
}

// EndBranch has the session leave its branch, which it may resume if it suspends
// it. After BranchFail the branch can only be rolled back. ErrRolledBack says that
// this is so already.
func (s *Session) EndBranch(x destination.XID, flag BranchFlag) error {
	all := &s.connection.branches
	all.mu.Lock()
	defer all.mu.Unlock()
	b := all.of[x]
	if flag < BranchSuccess || flag > BranchSuspend {
		return fmt.Errorf("branch %s: %w: flag %d does not end one", x, ErrInvalid, flag)
	}
	if b != nil && b.session == nil && b.suspended == s && flag != BranchSuspend {
		b.suspended = nil
	} else if b == nil || b.session != s {
		return fmt.Errorf("branch %s: %w: the session does not work for it", x, ErrConflict)
	} else {
		s.mu.Lock()
		b.work, s.work, s.branch, b.session = s.work, work{}, nil, nil
		s.mu.Unlock()
		if flag == BranchSuspend {
			b.suspended = s
		}
	}
	if b.work.refused == nil && flag == BranchFail {
		all.refuse(b, fmt.Errorf("branch %s: %w: it has failed", x, ErrRolledBack))
		return nil
	}
	return b.work.refused
}

// refuse gives back what a branch acknowledges: it can only be rolled back. No
// session works for it; all.mu is held.
func (all *branches) refuse(b *branch, why error) {
	noted := b.work.noted.takeAll()
	b.work = work{refused: why}
	giveBack(noted, nil)
}

// expire rolls a branch back that took too long.
func (all *branches) expire(b *branch, timeout time.Duration) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.of[b.xid] != b || b.work.refused != nil {
		return
	}
	why := fmt.Errorf("branch %s: %w: it was not prepared within %s", b.xid, ErrRolledBack, timeout)
	s := b.session
	if s == nil {
		all.refuse(b, why)
		return
	}
	s.mu.Lock()
	noted := s.work.noted.takeAll()
	s.work = work{refused: why}
	s.mu.Unlock()
	giveBack(noted, nil)
}

// leave has a session that closes leave its branches: what its consumers have
// received goes back with them, so they can only be rolled back.
func (all *branches) leave(s *Session) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, b := range all.of {
		if b.session == s {
			b.session = nil
			all.refuse(b, closedUnder(b))
			continue
		}
		if b.suspended == s {
			b.suspended = nil
		}
		for _, r := range b.work.noted.runs {
			if r.consumer.session == s {
				all.refuse(b, closedUnder(b))
				break
			}
		}
	}
}

func closedUnder(b *branch) error {
	return fmt.Errorf("branch %s: %w: a session that worked for it has closed", b.xid, ErrRolledBack)
}

// close rolls all back.
func (all *branches) close(c *Connection) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.closed = true
	for x, b := range all.of {
		all.drop(c, b)
		giveBack(b.work.noted.takeAll(), nil)
		c.broker.ReleaseBranch(x)
	}
}

// drop forgets a branch here.
func (all *branches) drop(c *Connection, b *branch) {
	if b.timer != nil {
		b.timer.Stop()
	}
	delete(all.of, b.xid)
}

// take takes a branch for which nobody works out of the connection; nil if it is
// not one of it.
func (c *Connection) takeBranch(x destination.XID) (*branch, error) {
	all := &c.branches
	all.mu.Lock()
	defer all.mu.Unlock()
	b := all.of[x]
	switch {
	case b == nil:
		return nil, nil
	case b.session != nil || b.suspended != nil:
		return nil, fmt.Errorf("branch %s: %w: a session works for it still", x, ErrConflict)
	}
	all.drop(c, b)
	return b, nil
}

// PrepareBranch prepares a branch for which no session works any more. readOnly
// says that it has done nothing, and is over: XA_RDONLY. With an error it is
// rolled back: ErrRolledBack, or ErrNotFound and ErrConflict as StartBranch.
func (c *Connection) PrepareBranch(x destination.XID) (readOnly bool, err error) {
	b, err := c.takeBranch(x)
	switch {
	case err != nil:
		return false, err
	case b == nil:
		return false, fmt.Errorf("branch %s: %w on this connection", x, ErrNotFound)
	case b.work.empty():
		c.broker.ReleaseBranch(x)
		return true, nil
	case b.work.refused != nil:
		c.broker.ReleaseBranch(x)
		return false, b.work.refused
	}
	w := &b.work
	noted := w.noted.takeAll()
	sends := make([]destination.BranchSend, len(w.sends))
	for i := range w.sends {
		s := &w.sends[i]
		id := s.partition.Log().ID()
		sends[i] = destination.BranchSend{Topic: id.Topic, Partition: id.Partition, Records: s.records, Batches: s.batches}
	}
	if err := c.broker.PrepareBranch(x, settled(noted), sends); err != nil {
		giveBack(noted, nil)
		return false, fmt.Errorf("branch %s: %w: %w", x, ErrRolledBack, err)
	}
	for _, p := range noted {
		p.consumer.Prune()
	}
	return false, nil
}

// CommitBranch commits a branch: a prepared one, whoever has prepared it, or in
// one phase one of this connection, with the errors of Session.Commit. Else
// ErrNotFound is XAER_NOTA, ErrBusy says that somebody else ends it, and
// *destination.HeuristicError that somebody has.
func (c *Connection) CommitBranch(ctx context.Context, x destination.XID, onePhase bool) error {
	b, err := c.takeBranchFor(x, onePhase)
	switch {
	case err != nil:
		return err
	case b == nil:
		return c.broker.CommitBranch(ctx, x)
	}
	defer c.broker.ReleaseBranch(x)
	if b.work.refused != nil {
		return b.work.refused
	}
	done := make(waiter, 1)
	if err := c.commit(&b.work, done); err != nil {
		return err
	}
	return <-done
}

func (c *Connection) takeBranchFor(x destination.XID, onePhase bool) (*branch, error) {
	if onePhase {
		return c.takeBranch(x)
	}
	c.branches.mu.Lock()
	defer c.branches.mu.Unlock()
	if c.branches.of[x] != nil {
		return nil, fmt.Errorf("branch %s: %w: it is not prepared", x, ErrConflict)
	}
	return nil, nil
}

// waiter hands on one result.
type waiter chan error

// Committed implements commitlog.Waiter.
func (w waiter) Committed(err error) { w <- err }

var _ commitlog.Waiter = waiter(nil)

// RollbackBranch rolls a branch back, prepared or not, with the errors of
// CommitBranch.
func (c *Connection) RollbackBranch(ctx context.Context, x destination.XID) error {
	b, err := c.takeBranch(x)
	switch {
	case err != nil:
		return err
	case b == nil:
		return c.broker.RollbackBranch(ctx, x)
	}
	defer c.broker.ReleaseBranch(x)
	done := make(waiter, 1)
	giveBack(b.work.noted.takeAll(), done)
	return <-done
}

// ForgetBranch forgets a branch that an operator has ended: ErrNotFound,
// ErrConflict.
func (c *Connection) ForgetBranch(x destination.XID) error { return c.broker.ForgetBranch(x) }

// RecoverBranches are the branches that are prepared or heuristically ended.
func (c *Connection) RecoverBranches() []destination.BranchInfo { return c.broker.Branches() }
