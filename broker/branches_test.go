package broker

import (
	"errors"
	"fmt"
	"testing"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
)

var xid = destination.XID{Format: 1, Global: "order 7", Branch: "polylog"}

// prepare has a branch take what k has, and send to a queue.
func (r *rig) prepare(k *reader, to string, bodies ...string) error {
	r.t.Helper()
	r.must(r.b.ReserveBranch(xid))
	d := r.queue(to)
	k.mu.Lock()
	spans := k.spans
	k.spans = nil
	k.mu.Unlock()
	return r.b.PrepareBranch(xid, []queue.Settled{{View: k.view, Holder: k.holder, Spans: spans}}, []destination.BranchSend{
		{Topic: d.ID, Records: len(bodies), Batches: batch(r.t, bodies...)},
	})
}

// waits is how many messages a queue has available, and how many are held.
func (r *rig) waits(name string) (available, held int64) {
	r.t.Helper()
	r.queue(name)
	v, err := r.b.Queue(ctx, r.queue(name))
	r.must(err)
	i := v.Stats()
	return i.Waiting, i.Held
}

func (r *rig) wantWaits(when, name string, available, held int64) {
	r.t.Helper()
	if a, h := r.waits(name); a != available || h != held {
		r.t.Fatalf("%s: %q has %d available and %d held, want %d and %d", when, name, a, h, available, held)
	}
}

func (r *rig) state() destination.BranchState {
	r.t.Helper()
	switch all := r.b.Branches(); len(all) {
	case 0:
		return 0
	case 1:
		if all[0].XID != xid {
			r.t.Fatalf("branch %s", all[0].XID)
		}
		return all[0].State
	default:
		r.t.Fatalf("%d branches: %v", len(all), all)
		return 0
	}
}

// A prepared branch survives restarts, keeps what it holds to itself, and ends
// then as its manager says: X/Open XA §2.3.
func TestBranchSurvives(t *testing.T) {
	for _, commit := range []bool{true, false} {
		r := newRig(t)
		r.put("in", "one", "two")
		k := r.take("in")
		k.gets("one", "two")
		r.must(r.prepare(k, "out", "x", "y"))
		k.close()
		for i := range 3 {
			when := fmt.Sprintf("restart %d", i)
			r.wantWaits(when, "in", 0, 2)
			r.wantWaits(when, "out", 0, 0)
			if s := r.state(); s != destination.BranchPrepared {
				t.Fatalf("%s: %s", when, s)
			}
			r.is(r.b.ReserveBranch(xid), destination.ErrExists)
			r.is(r.b.ForgetBranch(xid), destination.ErrConflict)
			if i == 1 {
				r.crash(1)
			} else {
				r.reopen()
			}
		}
		info := r.b.Branches()[0]
		if info.Sends != 2 || info.Acknowledges != 2 || len(info.Destinations) != 2 || info.Destinations[0] != "in" || info.Destinations[1] != "out" || !info.Prepared.Equal(r.clock()) {
			t.Errorf("%+v", info)
		}
		if commit {
			r.must(r.b.CommitBranch(ctx, xid))
		} else {
			r.must(r.b.RollbackBranch(ctx, xid))
		}
		r.is(r.b.CommitBranch(ctx, xid), destination.ErrNotFound)
		r.is(r.b.RollbackBranch(ctx, xid), destination.ErrNotFound)
		for range 2 {
			if commit {
				r.wantWaits("committed", "in", 0, 0)
				r.wantWaits("committed", "out", 2, 0)
			} else {
				r.wantWaits("rolled back", "in", 2, 0)
				r.wantWaits("rolled back", "out", 0, 0)
			}
			r.crash(2)
		}
		if commit {
			r.take("out").gets("x", "y")
		} else {
			r.take("in").gets("one", "two")
		}
		r.close()
	}
}

// What an operator has ended is told the manager, until he has it forgotten:
// X/Open XA §2.3.3.
func TestBranchHeuristics(t *testing.T) {
	for _, commit := range []bool{true, false} {
		r := newRig(t)
		r.put("in", "one")
		k := r.take("in")
		k.gets("one")
		r.must(r.prepare(k, "out", "x"))
		k.close()
		r.must(r.b.SettleBranch(ctx, xid, commit))
		want, state, in, out := destination.ErrHeuristicRollback, destination.BranchHeuristicRollback, int64(1), int64(0)
		if commit {
			want, state, in, out = destination.ErrHeuristicCommit, destination.BranchHeuristicCommit, 0, 1
		}
		for range 2 {
			r.wantWaits("settled", "in", in, 0)
			r.wantWaits("settled", "out", out, 0)
			r.is(r.b.CommitBranch(ctx, xid), want)
			r.is(r.b.RollbackBranch(ctx, xid), want)
			r.is(r.b.SettleBranch(ctx, xid, !commit), want)
			r.is(r.b.ReserveBranch(xid), destination.ErrExists)
			if s := r.state(); s != state || r.b.Branches()[0].Ended.IsZero() {
				t.Fatalf("%+v", r.b.Branches())
			}
			r.crash(3)
		}
		r.must(r.b.ForgetBranch(xid))
		r.is(r.b.ForgetBranch(xid), destination.ErrNotFound)
		r.crash(4)
		if s := r.state(); s != 0 {
			t.Fatal(s)
		}
		r.wantWaits("forgotten", "out", out, 0)
		r.close()
	}
}

// A destination that is deleted takes along what a prepared branch does there,
// and no more.
func TestBranchOutlivesDestinations(t *testing.T) {
	for _, gone := range []string{"in", "out"} {
		r := newRig(t)
		r.put("in", "one")
		k := r.take("in")
		k.gets("one")
		r.must(r.prepare(k, "out", "x"))
		k.close()
		r.must(r.b.DeleteDestination(ctx, gone))
		r.must(r.b.CommitBranch(ctx, xid))
		r.reopen()
		if s := r.state(); s != 0 {
			t.Fatal(s)
		}
		if gone == "in" {
			r.take("out").gets("x")
		}
		r.wantWaits("without "+gone, "in", 0, 0)
		r.close()
	}
}

// A power cut at every change of the disk, from before the prepare to behind the
// end: the branch is prepared, all of it, or nothing of it is; and it ends as was
// said, all of it.
func TestBranchCrash(t *testing.T) {
	for _, end := range []string{"commit", "rollback", "settle commit", "settle rollback"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			for cut, over := 1, false; !over; cut++ {
				r := newRig(t)
				r.put("in", "one", "two")
				k := r.take("in")
				k.gets("one", "two")
				r.queue("out")
				r.must(r.b.store.Checkpoint(t.Context()))
				before := r.fs.Count(commitlog.OpAny)
				r.fs.StopAt(cut)
				prepared := r.prepare(k, "out", "x", "y") == nil
				ended := prepared && r.endBranch(end) == nil
				over = ended && r.fs.Count(commitlog.OpAny)-before < cut
				r.crash(uint64(cut))
				r.check(fmt.Sprintf("cut at %d", cut), end, prepared, ended)
				r.close()
				if over && cut < 6 {
					t.Fatalf("it changed the disk %d times: the cuts are not where they should be", cut)
				}
			}
		})
	}
}

func (r *rig) endBranch(how string) error {
	switch how {
	case "commit":
		return r.b.CommitBranch(ctx, xid)
	case "rollback":
		return r.b.RollbackBranch(ctx, xid)
	}
	return r.b.SettleBranch(ctx, xid, how == "settle commit")
}

func (r *rig) check(when, end string, prepared, ended bool) {
	r.t.Helper()
	commits := end == "commit" || end == "settle commit"
	for range 2 { // also after one more start
		in, held := r.waits("in")
		out, _ := r.waits("out")
		state := r.state()
		nothing := in == 2 && held == 0 && out == 0
		waiting := in == 0 && held == 2 && out == 0
		done := in == 0 && held == 0 && out == 2
		switch state {
		case destination.BranchPrepared:
			if !waiting || ended {
				r.t.Fatalf("%s: prepared, ended %v, with in %d, held %d, out %d", when, ended, in, held, out)
			}
		case destination.BranchHeuristicCommit, destination.BranchHeuristicRollback:
			if done != commits || nothing == commits || (state == destination.BranchHeuristicCommit) != commits {
				r.t.Fatalf("%s: %s with in %d, held %d, out %d", when, state, in, held, out)
			}
		case 0:
			if nothing && (!prepared || !commits) || done && prepared && commits {
				break
			}
			r.t.Fatalf("%s: prepared %v, ended %v, with in %d, held %d, out %d", when, prepared, ended, in, held, out)
		default:
			r.t.Fatalf("%s: %s after a start", when, state)
		}
		if state == destination.BranchPrepared {
			r.must(r.b.CommitBranch(ctx, xid))
			r.wantWaits(when+", then committed", "in", 0, 0)
			r.wantWaits(when+", then committed", "out", 2, 0)
			prepared, ended, commits = true, true, true
		}
		r.reopen()
	}
}

// Several ask for the end of one branch at once: one of them ends it.
func TestBranchEndsOnce(t *testing.T) {
	r := newRig(t)
	r.put("in", "one")
	k := r.take("in")
	k.gets("one")
	r.must(r.prepare(k, "out", "x"))
	k.close()
	results := make(chan error, 8)
	for i := range cap(results) {
		go func() {
			if i%2 == 0 {
				results <- r.b.CommitBranch(ctx, xid)
			} else {
				results <- r.b.RollbackBranch(ctx, xid)
			}
		}()
	}
	succeeded := 0
	for range cap(results) {
		err := <-results
		switch {
		case err == nil:
			succeeded++
		case !errors.Is(err, destination.ErrBusy) && !errors.Is(err, destination.ErrNotFound):
			t.Error(err)
		}
	}
	in, _ := r.waits("in")
	out, _ := r.waits("out")
	if succeeded != 1 || in+out != 1 {
		t.Errorf("%d have ended it; in %d, out %d", succeeded, in, out)
	}
}
