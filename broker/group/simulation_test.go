package group

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run the simulation with this seed only")
	seedsFlag = flag.Uint64("seeds", 6, "how many simulations to run")
)

// TestCrashes has several clients commit, in transactions and without, and
// delete, each in a group of its own, cuts the power anywhere, and compares what
// is there with what was acknowledged. What was under way may be there or not,
// but all of it or nothing.
func TestCrashes(t *testing.T) {
	for seed := uint64(1); seed <= *seedsFlag; seed++ {
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		synctest.Test(t, func(t *testing.T) { crashes(t, seed) })
		if t.Failed() || *seedFlag != 0 {
			t.Logf("seed %d", seed)
			return
		}
	}
}

// account is what a client knows of its group.
type account struct {
	group    string
	producer int64
	rnd      *rand.Rand
	next     int64

	has  offsets // acknowledged
	open offsets // acknowledged, in a transaction that is open; nil if there is none
	// Under way when the power went: how it may be besides.
	thenHas, thenOpen offsets
	unsure            bool
	ending, commit    bool // the transaction's outcome is decided, and its end must be repeated
}

func crashes(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	r := openRig(t, commitlog.NewMemFS(), nil)
	var accounts []*account
	for i := range 4 {
		accounts = append(accounts, &account{
			group: fmt.Sprint("g", i), producer: int64(100 + i), rnd: rand.New(rand.NewPCG(seed, uint64(10+i))), has: offsets{},
		})
	}
	for round := range 4 {
		r.fs.StopAt(1 + rnd.IntN(400))
		var all sync.WaitGroup
		for _, a := range accounts {
			all.Go(func() {
				for range 40 {
					if !a.step(r) || t.Failed() {
						return
					}
					time.Sleep(time.Duration(a.rnd.IntN(3)) * time.Millisecond)
				}
			})
		}
		all.Wait()
		if r = r.crash(seed + uint64(round)); t.Failed() {
			break
		}
		for _, a := range accounts {
			a.compare(r)
		}
	}
	r.fs.Stop() // whatever it was in the middle of
	_ = r.c.Close()
	_ = r.store.Close()
}

// step does one thing; it is false when the power has gone.
func (a *account) step(r *rig) bool {
	change := offsets{}
	for range 1 + a.rnd.IntN(3) {
		a.next++
		change[fmt.Sprintf("a/%d", a.rnd.IntN(4))] = a.next
	}
	a.thenHas, a.thenOpen, a.unsure = maps.Clone(a.has), maps.Clone(a.open), true
	ok := false
	switch n := a.rnd.IntN(20); {
	case a.ending || a.open != nil && n < 6:
		if !a.ending {
			a.ending, a.commit = true, a.rnd.IntN(2) == 0
		}
		if a.commit {
			for key, o := range a.open { // what was committed otherwise since stays
				if o > a.has[key] {
					a.thenHas[key] = o
				}
			}
		}
		a.thenOpen = nil
		ok = r.c.EndTransaction(ctx, a.producer, 0, a.group, a.commit) == nil
		if ok {
			a.ending = false
		}
	case n < 8:
		if a.thenOpen == nil {
			a.thenOpen = offsets{}
		}
		maps.Copy(a.thenOpen, change)
		ok = r.txnCommit(a.producer, 0, a.group, change) == codeNone
	case n < 10:
		clear(a.thenHas)
		a.thenOpen = nil
		code := r.deleteGroup(a.group)
		ok = code == codeNone || code == codeGroupIDNotFound
	case n < 12:
		q := kmsg.NewPtrOffsetDeleteRequest()
		q.Group = a.group
		q.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "a", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
		if _, there := a.has["a/0"]; there {
			delete(a.thenHas, "a/0")
			delete(a.thenOpen, "a/0") // as in Kafka
			if len(a.thenOpen) == 0 {
				a.thenOpen = nil
			}
		}
		code := r.c.OffsetDelete(ctx, r.cl, q).ErrorCode
		ok = code == codeNone || code == codeGroupIDNotFound
	default:
		maps.Copy(a.thenHas, change)
		ok = r.commitAs(nobody, a.group, change) == codeNone
	}
	if !ok {
		return false
	}
	a.has, a.open, a.unsure = a.thenHas, a.thenOpen, false
	if got := r.fetched(a.group, false); got["error"] == 0 && !maps.Equal(got, a.has) {
		r.t.Errorf("%s has %v, acknowledged is %v", a.group, got, a.has)
	}
	return true
}

// compare compares what is there after a crash.
func (a *account) compare(r *rig) {
	got := r.fetched(a.group, false)
	open := offsets{}
	for key, o := range r.fetched(a.group, true) {
		if o == 1000+int64(codeUnstableOffsetCommit) {
			open[key] = o
		}
	}
	is := func(has, pending offsets) bool {
		if !maps.Equal(got, has) || len(open) != len(pending) {
			return false
		}
		for key := range pending {
			if open[key] == 0 {
				return false
			}
		}
		return true
	}
	switch {
	case is(a.has, a.open):
	case a.unsure && is(a.thenHas, a.thenOpen):
		a.has, a.open, a.ending = a.thenHas, a.thenOpen, false
	default:
		r.t.Errorf("%s has %v and open %v; acknowledged is %v and %v, under way (%t) %v and %v", a.group, got, open, a.has, a.open, a.unsure, a.thenHas, a.thenOpen)
	}
	if a.unsure && a.open != nil && !a.ending && !maps.Equal(a.open, a.thenOpen) {
		// Which of the two is open nobody can tell: neither, then.
		r.end(a.producer, 0, a.group, false)
		a.open = nil
	}
	a.ending = a.ending && a.open != nil
	a.unsure = false
}
