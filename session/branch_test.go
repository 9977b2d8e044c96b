package session_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
)

func xid(n int) destination.XID {
	return destination.XID{Format: 1, Global: fmt.Sprint("transaction ", n), Branch: "b"}
}

func (x *transacted) is(err, want error) {
	x.t.Helper()
	if !errors.Is(err, want) {
		x.t.Errorf("error %v, want %v", err, want)
	}
}

func (x *transacted) start(n int, flag session.BranchFlag) {
	x.t.Helper()
	if err := x.s.StartBranch(xid(n), flag, 0); err != nil {
		x.t.Fatal(err)
	}
}

func (x *transacted) end(n int, flag session.BranchFlag) {
	x.t.Helper()
	if err := x.s.EndBranch(xid(n), flag); err != nil {
		x.t.Fatal(err)
	}
}

// What a session does between start and end belongs to the branch, and is done by
// its commit, in one phase or two; what it does before and after does not.
func TestBranchPhases(t *testing.T) {
	for _, onePhase := range []bool{true, false} {
		c := connect(t, open(t), session.Options{})
		x := transact(t, c)
		put(t, c, "q", destination.KindQueue, "a", "b", "c")
		x.start(1, session.BranchNew)
		x.send("out", "1")
		if got := x.receive(2); got != "ab" {
			t.Fatal(got)
		}
		x.is(x.s.Commit(nil), session.ErrInvalid)
		x.is(x.s.Rollback(nil), session.ErrInvalid)
		x.end(1, session.BranchSuccess)
		x.send("out", "not of the branch")
		done(t, func(w waiter) error { return x.s.Rollback(w) })
		if onePhase {
			x.is(c.CommitBranch(ctx, xid(1), false), session.ErrConflict)
		} else if readOnly, err := c.PrepareBranch(xid(1)); readOnly || err != nil {
			t.Fatal(readOnly, err)
		}
		if got := x.left("out", 0); got != "" {
			t.Fatal(got)
		}
		if err := c.CommitBranch(ctx, xid(1), onePhase); err != nil {
			t.Fatal(err)
		}
		x.is(c.CommitBranch(ctx, xid(1), onePhase), session.ErrNotFound)
		x.is(c.RollbackBranch(ctx, xid(1)), session.ErrNotFound)
		if got := x.left("out", 1); got != "11 " {
			t.Error(got)
		}
		if got := x.left("q", 1); got != "c1 " {
			t.Error(got)
		}
	}
}

func TestBranchRollback(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	put(t, c, "q", destination.KindQueue, "a", "b", "c")
	x := transact(t, c)
	for n, prepare := range []bool{false, true} {
		x.start(n, session.BranchNew)
		x.send("out", "1")
		if got := x.receive(1); got != "a" {
			t.Fatal(got)
		}
		x.end(n, session.BranchSuccess)
		if prepare {
			if _, err := c.PrepareBranch(xid(n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.RollbackBranch(ctx, xid(n)); err != nil {
			t.Fatal(err)
		}
	}
	if got := x.left("q", 3); got != "a3 b1 c1 " {
		t.Error(got)
	}
	if got := x.left("out", 0); got != "" {
		t.Error(got)
	}
}

// Who may start and end what: X/Open XA §2.2.
func TestBranchAssociations(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	x, y := transact(t, c), transact(t, c)
	plain := openSession(t, c)
	x.is(plain.StartBranch(xid(1), session.BranchNew, 0), session.ErrInvalid)
	x.is(x.s.StartBranch(destination.XID{}, session.BranchNew, 0), session.ErrInvalid)
	x.is(x.s.StartBranch(xid(1), session.BranchJoin, 0), session.ErrNotFound)
	x.is(x.s.StartBranch(xid(1), session.BranchResume, 0), session.ErrNotFound)
	x.is(x.s.EndBranch(xid(1), session.BranchSuccess), session.ErrConflict)
	x.send("out", "its own")
	x.is(x.s.StartBranch(xid(1), session.BranchNew, 0), session.ErrInvalid)
	done(t, func(w waiter) error { return x.s.Rollback(w) })
	x.start(1, session.BranchNew)
	x.is(x.s.StartBranch(xid(2), session.BranchNew, 0), session.ErrConflict)
	x.is(y.s.StartBranch(xid(1), session.BranchNew, 0), session.ErrExists)
	x.is(y.s.StartBranch(xid(1), session.BranchJoin, 0), session.ErrConflict)
	x.is(y.s.EndBranch(xid(1), session.BranchSuccess), session.ErrConflict)
	x.is(x.s.EndBranch(xid(1), session.BranchNew), session.ErrInvalid)
	_, err := c.PrepareBranch(xid(1))
	x.is(err, session.ErrConflict)
	x.is(c.CommitBranch(ctx, xid(1), true), session.ErrConflict)
	x.is(c.RollbackBranch(ctx, xid(1)), session.ErrConflict)
	x.end(1, session.BranchSuspend)
	_, err = c.PrepareBranch(xid(1)) // it is suspended
	x.is(err, session.ErrConflict)
	x.is(y.s.StartBranch(xid(1), session.BranchJoin, 0), session.ErrConflict)
	x.is(y.s.StartBranch(xid(1), session.BranchResume, 0), session.ErrConflict)
	x.is(x.s.StartBranch(xid(1), session.BranchJoin, 0), session.ErrConflict)
	x.is(x.s.StartBranch(xid(1), session.BranchSuccess, 0), session.ErrInvalid)
	x.start(1, session.BranchResume)
	x.end(1, session.BranchSuspend)
	x.end(1, session.BranchSuccess) // from suspended
	y.start(1, session.BranchJoin)
	y.end(1, session.BranchSuccess)
	x.is(x.s.StartBranch(xid(1), session.BranchResume, 0), session.ErrConflict)
	if readOnly, err := c.PrepareBranch(xid(1)); !readOnly || err != nil {
		t.Error(readOnly, err)
	}
	_, err = c.PrepareBranch(xid(1))
	x.is(err, session.ErrNotFound)
}

// A branch that has failed, or whose session has closed, or that took too long,
// can only be rolled back, and what it held is there again.
func TestBranchRefused(t *testing.T) {
	for name, spoil := range map[string]func(x *transacted){
		"failed": func(x *transacted) { x.end(1, session.BranchFail) },
		"closed": func(x *transacted) { x.s.Close() },
		"closed when ended": func(x *transacted) {
			x.end(1, session.BranchSuccess)
			x.s.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, open(t), session.Options{})
			put(t, c, "q", destination.KindQueue, "a")
			x := transact(t, c)
			x.start(1, session.BranchNew)
			x.send("out", "1")
			if got := x.receive(1); got != "a" {
				t.Fatal(got)
			}
			spoil(x)
			y := transact(t, c)
			x.is(y.s.StartBranch(xid(1), session.BranchJoin, 0), session.ErrRolledBack)
			_, err := c.PrepareBranch(xid(1))
			x.is(err, session.ErrRolledBack)
			_, err = c.PrepareBranch(xid(1))
			x.is(err, session.ErrNotFound)
			x.s.Close()
			if got := y.left("q", 1); got != "a2 " {
				t.Error(got)
			}
			if got := y.left("out", 0); got != "" {
				t.Error(got)
			}
			y.start(1, session.BranchNew) // its name is free again
		})
	}
}

// A session that goes on with a branch which took too long is refused, and what
// it acknowledges is given back.
func TestBranchTimeout(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	put(t, c, "q", destination.KindQueue, "a", "b")
	x := transact(t, c)
	if err := x.s.StartBranch(xid(1), session.BranchNew, 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := x.receive(1); got != "a" {
		t.Fatal(got)
	}
	time.Sleep(60 * time.Millisecond)
	x.consumer.Credit(1)
	next := x.to.take(1)
	err := x.consumer.Settle([]queue.Span{next[0].span}, queue.Outcome{Kind: queue.Acknowledge}, nil)
	x.is(err, session.ErrRolledBack)
	x.is(x.s.EndBranch(xid(1), session.BranchSuccess), session.ErrRolledBack)
	x.is(c.CommitBranch(ctx, xid(1), true), session.ErrRolledBack)
	x.is(c.RollbackBranch(ctx, xid(1)), session.ErrNotFound)
	x.s.Close()
	y := transact(t, c)
	if got := y.left("q", 2); !strings.Contains(got, "a") || !strings.Contains(got, "b") {
		t.Error(got)
	}
}

// A connection holds no more than so many branches in memory, and with it they go.
func TestBranchesOfAConnection(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{})
	x := transact(t, c)
	for n := range 256 {
		x.start(n, session.BranchNew)
		x.end(n, session.BranchSuccess)
	}
	x.is(x.s.StartBranch(xid(999), session.BranchNew, 0), session.ErrBusy)
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	other := connect(t, b, session.Options{})
	y := transact(t, other)
	y.start(1, session.BranchNew)
	if got := len(other.RecoverBranches()); got != 0 {
		t.Errorf("%d branches are prepared", got)
	}
	x.is(x.s.StartBranch(xid(2), session.BranchNew, 0), session.ErrClosed)
}
