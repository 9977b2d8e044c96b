package polylog_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

func xid(n int) polylog.XID {
	return polylog.XID{Format: 7, Global: fmt.Sprintf("global \x00\xff %d", n), Branch: "b"}
}

// branch is a session in XA, with a queue that it takes from and one that it
// sends to.
type branch struct {
	t       *testing.T
	s       *polylog.Session
	xa      polylog.XAResource
	in, out polylog.Queue[string]
}

func newBranch(t *testing.T, b *polylogtest.Broker) *branch {
	t.Helper()
	s := b.Session(polylog.Transacted)
	return &branch{t: t, s: s, xa: s.XA(), in: *polylog.QueueOf[string](s, "in"), out: *polylog.QueueOf[string](s, "out")}
}

// work starts a branch, takes one message, and sends one about it.
func (x *branch) work(id polylog.XID) {
	x.t.Helper()
	if err := x.xa.Start(x.t.Context(), id, polylog.XANew, 0); err != nil {
		x.t.Fatal(err)
	}
	x.step()
}

func (x *branch) step() {
	x.t.Helper()
	d := must[*polylog.Delivery[string]](x.t)(x.in.Take(x.t.Context()))
	must[polylog.Receipt](x.t)(x.out.Put(x.t.Context(), "about "+d.Value))
}

func (x *branch) end(id polylog.XID, flag polylog.XAFlag) {
	x.t.Helper()
	if err := x.xa.End(x.t.Context(), id, flag); err != nil {
		x.t.Fatal(err)
	}
}

func (x *branch) prepare(id polylog.XID) {
	x.t.Helper()
	x.end(id, polylog.XASuccess)
	if readOnly, err := x.xa.Prepare(x.t.Context(), id); readOnly || err != nil {
		x.t.Fatal(readOnly, err)
	}
}

func (x *branch) is(err, want error) {
	x.t.Helper()
	if !errors.Is(err, want) {
		x.t.Errorf("error %v, want %v", err, want)
	}
}

func fill(t *testing.T, b *polylogtest.Broker, values ...string) {
	t.Helper()
	for _, v := range values {
		must[polylog.Receipt](t)(polylog.QueueOf[string](b.Session(), "in").Put(t.Context(), v))
	}
}

// Two phases: what was prepared on one connection is listed, committed and rolled
// back on any.
func TestXATwoPhases(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	fill(t, b, "1", "2")
	x := newBranch(t, b)
	x.work(xid(1))
	x.prepare(xid(1))
	x.work(xid(2))
	x.prepare(xid(2))
	wantValues(t, "out before the commit", values(t, b, "out"))
	wantValues(t, "in before the commit", values(t, b, "in"))
	if err := x.s.Close(ctx); err != nil {
		t.Fatal(err)
	}

	other := b.Connect()
	s, err := other.Session(ctx, polylog.Transacted)
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.XA().Recover(ctx)
	if err != nil || !slices.Equal(found, []polylog.XID{xid(1), xid(2)}) {
		t.Fatal(found, err)
	}
	if err := s.XA().Commit(ctx, xid(1), false); err != nil {
		t.Fatal(err)
	}
	if err := s.XA().Rollback(ctx, xid(2)); err != nil {
		t.Fatal(err)
	}
	wantValues(t, "out", values(t, b, "out"), "about 1")
	wantValues(t, "in", values(t, b, "in"), "2")
	x.is(s.XA().Commit(ctx, xid(1), false), polylog.ErrNotFound)
	x.is(s.XA().Rollback(ctx, xid(2)), polylog.ErrNotFound)
	if found, err := s.XA().Recover(ctx); len(found) != 0 || err != nil {
		t.Error(found, err)
	}
}

// One phase, and a branch that has done nothing.
func TestXAOnePhase(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	fill(t, b, "1", "2")
	x := newBranch(t, b)
	x.work(xid(1))
	x.end(xid(1), polylog.XASuccess)
	if err := x.xa.Commit(ctx, xid(1), true); err != nil {
		t.Fatal(err)
	}
	wantValues(t, "out", values(t, b, "out"), "about 1")
	x.work(xid(2))
	x.end(xid(2), polylog.XASuccess)
	x.is(x.xa.Commit(ctx, xid(2), false), polylog.ErrConflict) // it is not prepared
	if err := x.xa.Rollback(ctx, xid(2)); err != nil {
		t.Fatal(err)
	}
	wantValues(t, "in", values(t, b, "in"), "2")
	if err := x.xa.Start(ctx, xid(3), polylog.XANew, 0); err != nil {
		t.Fatal(err)
	}
	x.end(xid(3), polylog.XASuccess)
	if readOnly, err := x.xa.Prepare(ctx, xid(3)); !readOnly || err != nil {
		t.Error(readOnly, err)
	}
	x.is(x.xa.Commit(ctx, xid(3), false), polylog.ErrNotFound)
}

// Suspend and resume, leave and join: X/Open XA §2.2, §3.4.
func TestXAAssociation(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	fill(t, b, "1", "2", "3")
	x, y := newBranch(t, b), newBranch(t, b)
	x.work(xid(1))
	x.is(x.xa.Start(ctx, xid(2), polylog.XANew, 0), polylog.ErrInvalid) // it works for one
	x.is(y.xa.Start(ctx, xid(1), polylog.XANew, 0), polylog.ErrExists)
	x.is(y.xa.Start(ctx, xid(1), polylog.XAJoin, 0), polylog.ErrConflict)
	x.is(y.xa.Start(ctx, xid(9), polylog.XAJoin, 0), polylog.ErrNotFound)
	x.is(x.s.Commit(ctx), polylog.ErrInvalid)
	x.is(x.xa.End(ctx, xid(9), polylog.XASuccess), polylog.ErrConflict)
	_, err := x.xa.Prepare(ctx, xid(1))
	x.is(err, polylog.ErrConflict)
	x.end(xid(1), polylog.XASuspend)
	x.is(y.xa.Start(ctx, xid(1), polylog.XAResume, 0), polylog.ErrConflict)
	// Between, the session may do other work.
	x.work(xid(2))
	x.end(xid(2), polylog.XAFail)
	_, err = x.xa.Prepare(ctx, xid(2))
	x.is(err, polylog.ErrRolledBack)
	if err := x.xa.Start(ctx, xid(1), polylog.XAResume, 0); err != nil {
		t.Fatal(err)
	}
	x.end(xid(1), polylog.XASuccess)
	if err := y.xa.Start(ctx, xid(1), polylog.XAJoin, 0); err != nil {
		t.Fatal(err)
	}
	must[polylog.Receipt](t)(y.out.Put(ctx, "from y"))
	y.prepare(xid(1))
	if err := y.xa.Commit(ctx, xid(1), false); err != nil {
		t.Fatal(err)
	}
	wantValues(t, "out", values(t, b, "out"), "about 1", "from y")
	got := values(t, b, "in")
	slices.Sort(got)
	wantValues(t, "in", got, "2", "3")
}

// A branch that is not prepared is lost with its session, its connection, and
// after its timeout; what it held comes again.
func TestXALost(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	fill(t, b, "1")
	x := newBranch(t, b)
	x.work(xid(1))
	x.end(xid(1), polylog.XASuccess)
	if err := x.s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	y := newBranch(t, b)
	_, err := y.xa.Prepare(ctx, xid(1))
	x.is(err, polylog.ErrRolledBack)

	other := b.Connect()
	s, err := other.Session(ctx, polylog.Transacted)
	if err != nil {
		t.Fatal(err)
	}
	z := &branch{t: t, s: s, xa: s.XA(), in: *polylog.QueueOf[string](s, "in"), out: *polylog.QueueOf[string](s, "out")}
	z.work(xid(1))
	z.end(xid(1), polylog.XASuccess)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = y.xa.Prepare(ctx, xid(1))
	x.is(err, polylog.ErrNotFound)

	if err := y.xa.Start(ctx, xid(1), polylog.XANew, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	y.step()
	time.Sleep(100 * time.Millisecond)
	x.is(y.xa.End(ctx, xid(1), polylog.XASuccess), polylog.ErrRolledBack)
	if err := y.xa.Rollback(ctx, xid(1)); err != nil {
		t.Error(err)
	}
	wantValues(t, "in after the timeout", values(t, b, "in"), "1")
	wantValues(t, "out", values(t, b, "out"))
}

// What an operator ends.
func TestXAHeuristics(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	fill(t, b, "1", "2")
	x := newBranch(t, b)
	admin := b.Session().Connection().Admin()
	for i, commit := range []bool{true, false} {
		x.work(xid(i))
		x.prepare(xid(i))
		if err := admin.SettleBranch(ctx, xid(i), commit); err != nil {
			t.Fatal(err)
		}
	}
	x.is(x.xa.Commit(ctx, xid(0), false), polylog.ErrHeuristicCommit)
	x.is(x.xa.Commit(ctx, xid(1), false), polylog.ErrHeuristicRollback)
	all, err := admin.Branches(ctx)
	if err != nil || len(all) != 2 || all[0].XID != xid(0) || all[0].State != "heuristically-committed" || all[1].State != "heuristically-rolled-back" || all[0].Sends != 1 || all[0].Acknowledges != 1 || all[0].EndedMS == 0 {
		t.Errorf("%+v %v", all, err)
	}
	if err := x.xa.Forget(ctx, xid(0)); err != nil {
		t.Error(err)
	}
	if err := admin.ForgetBranch(ctx, xid(1)); err != nil {
		t.Error(err)
	}
	wantValues(t, "out", values(t, b, "out"), "about 1")
	wantValues(t, "in", values(t, b, "in"), "2")
}

// An XID is written and read as text; what is none is refused, by the broker too.
func TestXID(t *testing.T) {
	got, err := polylog.ParseXID(xid(1).String())
	if err != nil || got != xid(1) {
		t.Error(got, err)
	}
	for _, s := range []string{"", "1", "1:2", "x:00:00", "1:0:00", "1:00:0g", "1:00:00:00", "99999999999:00:00"} {
		if x, err := polylog.ParseXID(s); !errors.Is(err, polylog.ErrInvalid) {
			t.Errorf("%q: %v %v", s, x, err)
		}
	}
	b := polylogtest.Start(t)
	r := b.Session(polylog.Transacted).XA()
	for _, x := range []polylog.XID{{}, {Format: -1, Global: "g"}, {Global: string(make([]byte, 65))}, {Global: "g", Branch: string(make([]byte, 65))}} {
		if err := r.Start(t.Context(), x, polylog.XANew, 0); !errors.Is(err, polylog.ErrInvalid) {
			t.Errorf("%s: %v", x, err)
		}
	}
	if err := b.Session().XA().Start(t.Context(), xid(1), polylog.XANew, 0); !errors.Is(err, polylog.ErrInvalid) {
		t.Errorf("not transacted: %v", err)
	}
}

// What a prepared branch held comes again after the redelivery delay, and is dead
// if it came too often.
func TestXARollbackBacksOff(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	createWith(t, b, "in", "queue", map[string]string{"redelivery.delay": "1h", "redelivery.max.delay": "0s", "max.deliveries": "2"})
	fill(t, b, "1")
	x := newBranch(t, b)
	x.work(xid(1))
	x.prepare(xid(1))
	if err := x.s.XA().Rollback(ctx, xid(1)); err != nil {
		t.Fatal(err)
	}
	queue := func() polylog.ViewInfo {
		t.Helper()
		return *must[*polylog.DestinationInfo](t)(b.Connection.Admin().Describe(ctx, "in")).Queue
	}
	if v := queue(); v.Scheduled != 1 || v.Waiting != 0 {
		t.Errorf("%+v", v)
	}
	must[*polylog.DestinationInfo](t)(b.Connection.Admin().Alter(ctx, polylog.DestinationSpec{Name: "in", Settings: map[string]string{"max.deliveries": "1"}}))
	fill(t, b, "2")
	x.work(xid(2))
	x.prepare(xid(2))
	if err := x.s.XA().Rollback(ctx, xid(2)); err != nil {
		t.Fatal(err)
	}
	d := must[*polylog.Delivery[string]](t)(polylog.QueueOf[string](b.Session(), "DLQ.in").Take(ctx))
	if d.Value != "2" {
		t.Errorf("%s is dead", d.Value)
	}
	if v := queue(); v.Scheduled != 1 || v.Waiting != 0 {
		t.Errorf("%+v", v)
	}
}
