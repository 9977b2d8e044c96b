package session_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
)

var (
	xid      = destination.XID{Format: 1, Global: "order 7", Branch: "polylog"}
	otherXID = destination.XID{Format: 1, Global: "order 8"}
)

// shop is a broker with a and b in q, a connection, and a transacted session of
// it that consumes from q.
func shop(t *testing.T) *transacted {
	t.Helper()
	c := connect(t, open(t), session.Options{})
	put(t, c, "q", destination.KindQueue, "a", "b")
	return transact(t, c)
}

func (x *transacted) start(id destination.XID, flag session.BranchFlag) {
	x.t.Helper()
	if err := x.s.StartBranch(id, flag, 0); err != nil {
		x.t.Fatal(err)
	}
}

func (x *transacted) end(id destination.XID, flag session.BranchFlag) {
	x.t.Helper()
	if err := x.s.EndBranch(id, flag); err != nil {
		x.t.Fatal(err)
	}
}

// work has a branch take one message of q, and send one to p.
func (x *transacted) work(id destination.XID, sends string) {
	x.t.Helper()
	x.start(id, session.BranchNew)
	x.receive(1)
	x.send("p", sends)
	x.end(id, session.BranchSuccess)
}

func (x *transacted) prepare(id destination.XID) {
	x.t.Helper()
	if readOnly, err := x.c.PrepareBranch(id); readOnly || err != nil {
		x.t.Fatalf("read-only %t, %v", readOnly, err)
	}
}

// is checks an error.
func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || err != nil && want == nil {
		t.Errorf("%v, want %v", err, want)
	}
}

// ended checks what is left in q and was sent to p, and that the branch's name
// is free again.
func (x *transacted) ended(q string, p string) {
	x.t.Helper()
	x.s.Close()
	if got := x.left("q", strings.Count(q, " ")); got != q {
		x.t.Errorf("left in q: %s, want %s", got, q)
	}
	if got := x.left("p", strings.Count(p, " ")); got != p {
		x.t.Errorf("sent to p: %s, want %s", got, p)
	}
	again := transact(x.t, x.c)
	again.start(xid, session.BranchNew)
	again.end(xid, session.BranchSuccess)
	is(x.t, x.c.RollbackBranch(ctx, xid), nil)
}

// X/Open XA §2.3: what a branch sends and acknowledges is done when it is
// committed, in one phase or two, by whom ever; and undone if it is rolled back.
func TestBranchEnds(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(x *transacted) error
		q, p string // what is there then
	}{
		"one phase": {func(x *transacted) error { return x.c.CommitBranch(ctx, xid, true) }, "b1 ", "x1 "},
		"two phases": {func(x *transacted) error {
			x.prepare(xid)
			return x.c.CommitBranch(ctx, xid, false)
		}, "b1 ", "x1 "},
		"rollback": {func(x *transacted) error { return x.c.RollbackBranch(ctx, xid) }, "a2 b1 ", ""},
		"rollback of a prepared one": {func(x *transacted) error {
			x.prepare(xid)
			return x.c.RollbackBranch(ctx, xid)
		}, "a2 b1 ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			x := shop(t)
			x.work(xid, "x")
			if got := x.left("p", 0); got != "" {
				t.Errorf("before the end: %s", got)
			}
			is(t, test.end(x), nil)
			is(t, x.c.CommitBranch(ctx, xid, true), session.ErrNotFound)
			is(t, x.c.CommitBranch(ctx, xid, false), session.ErrNotFound)
			is(t, x.c.RollbackBranch(ctx, xid), session.ErrNotFound)
			_, err := x.c.PrepareBranch(xid)
			is(t, err, session.ErrNotFound)
			x.ended(test.q, test.p)
		})
	}
}

// A prepared branch is not its connection's any more: another ends it.
func TestPreparedBranchOutlivesItsConnection(t *testing.T) {
	b := open(t)
	first := transact(t, connect(t, b, session.Options{}))
	put(t, first.c, "q", destination.KindQueue, "a", "b")
	first.work(xid, "x")
	first.prepare(xid)
	is(t, first.c.ForgetBranch(xid), session.ErrConflict)
	is(t, first.c.Close(ctx), nil)
	x := transact(t, connect(t, b, session.Options{}))
	all := x.c.RecoverBranches()
	if len(all) != 1 || all[0].XID != xid || all[0].Sends != 1 || all[0].Acknowledges != 1 || !slices.Equal(all[0].Destinations, []string{"p", "q"}) {
		t.Errorf("%+v", all)
	}
	is(t, x.s.StartBranch(xid, session.BranchNew, 0), session.ErrExists)
	is(t, x.s.StartBranch(xid, session.BranchJoin, 0), session.ErrNotFound)
	is(t, x.c.ForgetBranch(otherXID), session.ErrNotFound)
	is(t, x.c.CommitBranch(ctx, xid, false), nil)
	x.ended("b1 ", "x1 ")
}

// A branch that is not prepared goes with its connection.
func TestBranchEndsWithItsConnection(t *testing.T) {
	b := open(t)
	x := transact(t, connect(t, b, session.Options{}))
	put(t, x.c, "q", destination.KindQueue, "a", "b")
	x.work(xid, "x")
	x.start(otherXID, session.BranchNew)
	x.receive(1)
	is(t, x.c.Close(ctx), nil)
	is(t, x.s.StartBranch(xid, session.BranchJoin, 0), session.ErrClosed)
	x = transact(t, connect(t, b, session.Options{}))
	x.start(otherXID, session.BranchNew)
	x.end(otherXID, session.BranchSuccess)
	x.ended("a2 b2 ", "")
}

// A session that closes takes with it what its consumers have received, and so
// the branches of which that is a part; the others it leaves.
func TestBranchOfClosedSession(t *testing.T) {
	t.Run("working", func(t *testing.T) {
		x := shop(t)
		x.start(xid, session.BranchNew)
		x.send("p", "x")
		x.s.Close()
		_, err := x.c.PrepareBranch(xid)
		is(t, err, session.ErrRolledBack)
		x.ended("a1 b1 ", "")
	})
	t.Run("that has left", func(t *testing.T) {
		x := shop(t)
		x.work(xid, "x")
		x.s.Close()
		is(t, x.c.CommitBranch(ctx, xid, true), session.ErrRolledBack)
		x.ended("a2 b1 ", "")
	})
	t.Run("suspended", func(t *testing.T) {
		x := shop(t)
		x.start(xid, session.BranchNew)
		x.send("p", "x")
		x.end(xid, session.BranchSuspend)
		is(t, x.c.CommitBranch(ctx, xid, true), session.ErrConflict)
		x.s.Close()
		is(t, x.c.CommitBranch(ctx, xid, true), nil)
		x.ended("a1 b1 ", "x1 ")
	})
	t.Run("of another branch", func(t *testing.T) {
		x := shop(t)
		x.work(xid, "x")
		transact(t, x.c).s.Close()
		is(t, x.c.CommitBranch(ctx, xid, true), nil)
		x.ended("b1 ", "x1 ")
	})
}

// Several sessions work for a branch, one after the other, and one of them in
// several parts, with other branches between.
func TestBranchIsJoinedAndResumed(t *testing.T) {
	x := shop(t)
	second := transact(t, x.c)
	x.start(xid, session.BranchNew)
	x.receive(1)
	is(t, second.s.StartBranch(xid, session.BranchJoin, 0), session.ErrConflict) // it is worked for
	is(t, second.s.EndBranch(xid, session.BranchSuccess), session.ErrConflict)   // not by this one
	is(t, x.s.StartBranch(otherXID, session.BranchNew, 0), session.ErrConflict)
	x.end(xid, session.BranchSuspend)
	is(t, second.s.StartBranch(xid, session.BranchJoin, 0), session.ErrConflict)
	is(t, second.s.StartBranch(xid, session.BranchResume, 0), session.ErrConflict)
	is(t, x.s.StartBranch(xid, session.BranchJoin, 0), session.ErrConflict)
	_, err := x.c.PrepareBranch(xid)
	is(t, err, session.ErrConflict)
	is(t, x.c.RollbackBranch(ctx, xid), session.ErrConflict)
	x.start(otherXID, session.BranchNew)
	x.send("p", "other")
	x.end(otherXID, session.BranchSuccess)
	x.start(xid, session.BranchResume)
	x.send("p", "x")
	is(t, x.c.CommitBranch(ctx, xid, true), session.ErrConflict)
	is(t, x.c.CommitBranch(ctx, xid, false), session.ErrConflict)
	x.end(xid, session.BranchSuccess)
	is(t, x.s.StartBranch(xid, session.BranchResume, 0), session.ErrConflict) // it is not suspended
	is(t, x.c.CommitBranch(ctx, xid, false), session.ErrConflict)             // nor prepared
	second.start(xid, session.BranchJoin)
	second.receive(1)
	second.end(xid, session.BranchSuspend)
	second.end(xid, session.BranchSuccess) // also after it has left
	is(t, second.s.EndBranch(xid, session.BranchSuccess), session.ErrConflict)
	is(t, x.c.RollbackBranch(ctx, otherXID), nil)
	is(t, x.c.CommitBranch(ctx, xid, true), nil)
	second.s.Close()
	x.ended("", "x1 ")
}

// A branch that has failed can only be rolled back; what it has acknowledged is
// back at once.
func TestBranchFails(t *testing.T) {
	for name, end := range map[string]func(x *transacted){
		"rollback":  func(x *transacted) { is(x.t, x.c.RollbackBranch(ctx, xid), nil) },
		"one phase": func(x *transacted) { is(x.t, x.c.CommitBranch(ctx, xid, true), session.ErrRolledBack) },
		"prepare": func(x *transacted) {
			readOnly, err := x.c.PrepareBranch(xid)
			is(x.t, err, session.ErrRolledBack)
			if readOnly {
				x.t.Error("read-only")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := shop(t)
			x.start(xid, session.BranchNew)
			x.receive(1)
			x.send("p", "x")
			x.end(xid, session.BranchFail)
			if got := x.left("q", 2); got != "a2 b1 " {
				t.Errorf("after it has failed: %s", got)
			}
			is(t, x.s.StartBranch(xid, session.BranchJoin, 0), session.ErrRolledBack)
			is(t, x.s.EndBranch(xid, session.BranchSuccess), session.ErrConflict) // it was not started
			end(x)
			x.ended("a3 b2 ", "")
		})
	}
}

// A branch that has failed while it was suspended has failed as well.
func TestSuspendedBranchFails(t *testing.T) {
	x := shop(t)
	x.start(xid, session.BranchNew)
	x.receive(1)
	x.end(xid, session.BranchSuspend)
	x.end(xid, session.BranchFail)
	is(t, x.c.CommitBranch(ctx, xid, true), session.ErrRolledBack)
	x.ended("a2 b1 ", "")
}

// XA_RDONLY: nothing to commit, nothing to recover.
func TestReadOnlyBranch(t *testing.T) {
	x := shop(t)
	x.start(xid, session.BranchNew)
	x.end(xid, session.BranchSuccess)
	if readOnly, err := x.c.PrepareBranch(xid); !readOnly || err != nil {
		t.Errorf("read-only %t, %v", readOnly, err)
	}
	is(t, x.c.CommitBranch(ctx, xid, false), session.ErrNotFound)
	x.ended("a1 b1 ", "")
}

func TestBranchRefusals(t *testing.T) {
	x := shop(t)
	plain := openSession(t, x.c)
	is(t, plain.StartBranch(xid, session.BranchNew, 0), session.ErrInvalid)
	is(t, x.s.StartBranch(destination.XID{}, session.BranchNew, 0), session.ErrInvalid)
	is(t, x.s.StartBranch(xid, session.BranchJoin, 0), session.ErrNotFound)
	is(t, x.s.StartBranch(xid, session.BranchResume, 0), session.ErrNotFound)
	is(t, x.s.EndBranch(xid, session.BranchSuccess), session.ErrConflict)
	x.send("p", "1")
	is(t, x.s.StartBranch(xid, session.BranchNew, 0), session.ErrInvalid) // it has a transaction of its own
	done(t, func(w waiter) error { return x.s.Rollback(w) })
	x.receive(1)
	is(t, x.s.StartBranch(xid, session.BranchNew, 0), session.ErrInvalid)
	done(t, func(w waiter) error { return x.s.Rollback(w) })
	x.start(xid, session.BranchNew)
	is(t, x.s.Commit(make(waiter, 1)), session.ErrInvalid) // its manager ends it
	is(t, x.s.Rollback(nil), session.ErrInvalid)
	is(t, x.s.EndBranch(xid, session.BranchResume), session.ErrInvalid)
	is(t, x.s.EndBranch(xid, session.BranchSuspend+1), session.ErrInvalid)
	x.end(xid, session.BranchSuccess)
	is(t, x.s.StartBranch(xid, session.BranchNew, 0), session.ErrExists)
	is(t, x.s.StartBranch(xid, session.BranchSuccess, 0), session.ErrInvalid)
	done(t, func(w waiter) error { return x.s.Commit(w) }) // of nothing, the branch is left
	x.s.Close()
	is(t, x.s.StartBranch(otherXID, session.BranchNew, 0), session.ErrClosed)
}

// A branch that acknowledges what it does not hold any more is rolled back when
// it is prepared, or committed in one phase.
func TestBranchIsNotPrepared(t *testing.T) {
	for name, end := range map[string]func(x *transacted) error{
		"prepare": func(x *transacted) error {
			_, err := x.c.PrepareBranch(xid)
			return err
		},
		"one phase": func(x *transacted) error { return x.c.CommitBranch(ctx, xid, true) },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			x := transact(t, connect(t, b, session.Options{}))
			put(t, x.c, "q", destination.KindQueue, "a", "b")
			x.work(xid, "x")
			d, err := b.Destination(ctx, "q", 0)
			is(t, err, nil)
			v, err := b.Queue(ctx, d)
			is(t, err, nil)
			done(t, func(w waiter) error { return v.Seek(queue.Start{Kind: queue.StartBeginning}, w) })
			is(t, end(x), session.ErrRolledBack)
			x.ended("a1 b1 ", "")
		})
	}
}

// A branch that is not prepared in time is rolled back, whether a session works
// for it or not.
func TestBranchTakesTooLong(t *testing.T) {
	inTime := func(name string, f func(t *testing.T, x *transacted)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := shop(t)
				is(t, x.s.StartBranch(xid, session.BranchNew, time.Minute), nil)
				x.receive(1)
				f(t, x)
			})
		})
	}
	inTime("at work", func(t *testing.T, x *transacted) {
		x.send("p", "x")
		time.Sleep(2 * time.Minute)
		x.consumer.Credit(1)
		again := x.to.take(1)[0] // what it acknowledged is back
		if again.value != "a" || again.count != 2 {
			t.Errorf("%+v", again)
		}
		is(t, x.consumer.Settle([]queue.Span{again.span}, queue.Outcome{Kind: queue.Acknowledge}, nil), session.ErrRolledBack)
		x.consumer.Credit(1)
		if got := x.to.values(1); got != "a3 " {
			t.Errorf("%s", got)
		}
		is(t, x.s.EndBranch(xid, session.BranchFail), session.ErrRolledBack)
		is(t, x.c.CommitBranch(ctx, xid, true), session.ErrRolledBack)
		x.ended("a4 b1 ", "")
	})
	inTime("left", func(t *testing.T, x *transacted) {
		x.end(xid, session.BranchSuccess)
		time.Sleep(2 * time.Minute)
		is(t, x.s.StartBranch(xid, session.BranchJoin, 0), session.ErrRolledBack)
		is(t, x.c.CommitBranch(ctx, xid, true), session.ErrRolledBack)
		x.ended("a2 b1 ", "")
	})
	inTime("failed", func(t *testing.T, x *transacted) {
		x.end(xid, session.BranchFail)
		time.Sleep(2 * time.Minute)
		if err := x.c.CommitBranch(ctx, xid, true); !errors.Is(err, session.ErrRolledBack) || !strings.Contains(err.Error(), "it has failed") {
			t.Errorf("%v", err)
		}
		x.ended("a2 b1 ", "")
	})
	inTime("prepared", func(t *testing.T, x *transacted) {
		x.end(xid, session.BranchSuccess)
		x.prepare(xid)
		time.Sleep(2 * time.Minute)
		is(t, x.c.CommitBranch(ctx, xid, false), nil)
		x.ended("b1 ", "")
	})
	inTime("another of its name", func(t *testing.T, x *transacted) {
		x.end(xid, session.BranchSuccess)
		is(t, x.c.CommitBranch(ctx, xid, true), nil)
		x.start(xid, session.BranchNew)
		x.receive(1)
		time.Sleep(2 * time.Minute)
		x.end(xid, session.BranchSuccess)
		is(t, x.c.CommitBranch(ctx, xid, true), nil)
		x.ended("", "")
	})
}
