package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// units is a rig with two sources, a target and a Committer.
type units struct {
	*rig
	c       *Committer
	sources [2]*View
	target  *View
}

func openUnits(t testing.TB, fs *commitlog.MemFS) *units {
	u := &units{rig: openRig(t, fs)}
	u.c = NewCommitter(u.state)
	u.sources[0] = u.view(u.destination("a"))
	u.sources[1] = u.view(u.destination("b", "partitions", "2"))
	u.target = u.view(u.destination("c"))
	return u
}

func (u *units) close() {
	u.c.Close()
	for _, v := range append(u.sources[:], u.target) {
		v.Close()
	}
	u.rig.close()
}

// sends are messages for the target.
func (u *units) sends(bodies ...string) []commitlog.Write {
	var b record.Builder
	for _, m := range texts(bodies...) {
		m.appendTo(&b, u.target.now())
	}
	return []commitlog.Write{{Log: u.target.Destination().Partitions[0].Log(), Batches: slices.Clone(b.Batch())}}
}

func settled(c *Consumer, g ...got) Settled {
	return Settled{View: c.v, Holder: c.holder, Spans: spans(g...)}
}

// commit waits for a unit.
func (u *units) commit(unit *Unit) error {
	w := newWaiter()
	unit.Done = w
	if err := u.c.Commit(unit); err != nil {
		return err
	}
	return <-w
}

// waiting takes all that waits in a view, and gives it back.
func waiting(t testing.TB, v *View) []string {
	t.Helper()
	c, s := consume(t, v, ConsumerOptions{})
	all := gotBodies(drain(t, c, s, 1000))
	c.Close(true)
	slices.Sort(all)
	return all
}

func TestUnit(t *testing.T) {
	fs := commitlog.NewMemFS()
	u := openUnits(t, fs)
	put(t, u.sources[0], texts("1", "2", "3")...)
	put(t, u.sources[1], texts("4", "5")...)
	ca, sa := consume(t, u.sources[0], ConsumerOptions{})
	cb, sb := consume(t, u.sources[1], ConsumerOptions{})
	ca.Credit(3)
	cb.Credit(2)
	a, b := sa.take(3), sb.take(2)
	unit := &Unit{Settled: []Settled{settled(ca, a[0], a[1]), settled(cb, b...)}, Sends: u.sends("6", "7")}
	must(t, u.commit(unit))
	if unit.Sends[0].Base != 0 {
		t.Errorf("sent at %d", unit.Sends[0].Base)
	}
	// The same again: nobody holds it any more, and nothing of it happens.
	var stale *destination.StaleTokenError
	if err := u.commit(&Unit{Settled: []Settled{settled(ca, a[2]), settled(cb, b[1])}, Sends: u.sends("8")}); !errors.As(err, &stale) {
		t.Errorf("the second time: %v", err)
	}
	settle(t, ca, Outcome{Kind: Release}, a[2]) // it is still held
	if ca.Held() != 0 || cb.Held() != 0 {
		t.Errorf("held: %d and %d", ca.Held(), cb.Held())
	}
	check := func(u *units) {
		t.Helper()
		for i, want := range []string{"3", "", "6 7"} {
			v := append(u.sources[:], u.target)[i]
			if got := strings.Join(waiting(t, v), " "); got != want {
				t.Errorf("view %d has %q, want %q", i, got, want)
			}
		}
	}
	check(u)
	u.close()
	u = openUnits(t, fs)
	check(u)
	u.close()
}

// Deliveries that are settled by themselves while a unit is on its way to the
// disk are on disk when they are confirmed, as the unit is.
func TestUnitsTogether(t *testing.T) {
	u := openUnits(t, commitlog.NewMemFS())
	defer u.close()
	const n = 200
	put(t, u.sources[0], numbered(0, n)...)
	var all sync.WaitGroup
	for range 8 {
		c, s := consume(t, u.sources[0], ConsumerOptions{})
		c.Credit(n / 8)
		all.Go(func() {
			for i := range n / 8 {
				g := s.take(1)[0]
				if i%3 == 0 {
					settle(t, c, Outcome{}, g)
				} else if err := u.commit(&Unit{Settled: []Settled{settled(c, g)}, Sends: u.sends(g.body)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if left := waiting(t, u.sources[0]); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if sent := waiting(t, u.target); len(sent) != n-8*9 {
		t.Errorf("%d were sent, want %d", len(sent), n-8*9)
	}
}

// On a full disk a transaction is rolled back whole.
func TestUnitOnFullDisk(t *testing.T) {
	fs := commitlog.NewMemFS()
	u := openUnits(t, fs)
	defer u.close()
	put(t, u.sources[0], texts("1")...)
	c, s := consume(t, u.sources[0], ConsumerOptions{})
	c.Credit(1)
	g := s.take(1)
	fs.SetCapacity(max(fs.Used(), 1))
	large := strings.Repeat("x", 100<<10)
	var err error
	for range 100 { // until what is preallocated is used up
		if err = u.commit(&Unit{Sends: u.sends(large)}); err != nil {
			break
		}
	}
	if err = u.commit(&Unit{Settled: []Settled{settled(c, g...)}, Sends: u.sends(large)}); !errors.Is(err, commitlog.ErrFull) {
		t.Fatalf("on a full disk: %v", err)
	}
	c.Credit(1)
	if again := s.take(1)[0]; again.body != "1" || again.count != 2 {
		t.Errorf("again: %+v", again)
	}
	fs.SetCapacity(0)
}

func TestUnitTooLarge(t *testing.T) {
	u := openUnits(t, commitlog.NewMemFS())
	defer u.close()
	if err := u.commit(&Unit{Sends: []commitlog.Write{{Batches: make([]byte, u.c.MaxBytes()+1)}}}); !errors.Is(err, destination.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

// A unit waits for a message of its partition that is being moved, and no
// other one begins to move meanwhile.
func TestUnitAndMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := openUnits(t, commitlog.NewMemFS())
		defer u.close()
		found := make(chan struct{})
		u.find = func(string) error { <-found; return nil }
		put(t, u.sources[0], texts("1", "2", "3")...)
		c, s := consume(t, u.sources[0], ConsumerOptions{})
		c.Credit(3)
		g := s.take(3)
		dead := newWaiter()
		must(t, u.sources[0].Settle(c.holder, spans(g[0]), Outcome{Kind: Reject}, dead))
		synctest.Wait()
		w := newWaiter()
		must(t, u.c.Commit(&Unit{Settled: []Settled{settled(c, g[1])}, Sends: u.sends("4"), Done: w}))
		synctest.Wait()
		close(found)
		dead.wait(t)
		w.wait(t)
		if got := waiting(t, u.target); len(got) != 1 {
			t.Errorf("sent: %v", got)
		}
	})
}

// The power is cut at every write and every sync of a few transactions: each is
// done whole or not at all, and what was confirmed is done.
func TestUnitCrash(t *testing.T) {
	for n := 1; ; n++ {
		fs := commitlog.NewMemFS()
		confirmed, ended := unitsUntil(t, fs, n)
		for seed := range uint64(3) {
			u := openUnits(t, fs.Crash(seed))
			taken := map[string]bool{}
			for i := range 12 {
				taken[fmt.Sprint(i)] = true
			}
			for _, v := range u.sources {
				for _, body := range waiting(t, v) {
					delete(taken, body)
				}
			}
			sent := map[string]bool{}
			for _, body := range waiting(t, u.target) {
				sent[body] = true
			}
			u.close()
			for i := range 4 {
				parts := 0
				for j := range 3 {
					if body := fmt.Sprint(3*i + j); taken[body] {
						parts++
					}
				}
				for _, half := range []string{"x", "y"} {
					if sent[fmt.Sprint(half, i)] {
						parts++
					}
				}
				if parts != 0 && parts != 5 || parts == 0 && confirmed[i] {
					t.Fatalf("cut at %d, seed %d: transaction %d is torn, %d of 5 parts; confirmed: %v", n, seed, i, parts, confirmed[i])
				}
			}
		}
		if ended {
			return
		}
	}
}

// unitsUntil commits four transactions, each of which takes three messages from
// two queues and sends two, until the nth change of the disk.
func unitsUntil(t *testing.T, fs *commitlog.MemFS, n int) (confirmed [4]bool, ended bool) {
	u := openUnits(t, fs)
	defer u.close()
	for i := range 4 {
		put(t, u.sources[0], texts(fmt.Sprint(3*i), fmt.Sprint(3*i+1))...)
		put(t, u.sources[1], texts(fmt.Sprint(3*i+2))...)
	}
	must(t, u.store.Checkpoint(t.Context()))
	ca, sa := consume(t, u.sources[0], ConsumerOptions{})
	cb, sb := consume(t, u.sources[1], ConsumerOptions{})
	ca.Credit(8)
	cb.Credit(4)
	a, b := sa.take(8), sb.take(4)
	fs.StopAt(n)
	before := fs.Count(commitlog.OpAny)
	for i := range 4 {
		number := func(g got) bool { return g.body == fmt.Sprint(3*i+2) }
		unit := &Unit{
			Settled: []Settled{settled(ca, a[2*i], a[2*i+1]), settled(cb, b[slices.IndexFunc(b, number)])},
			Sends:   append(u.sends(fmt.Sprint("x", i)), u.sends(fmt.Sprint("y", i))...),
		}
		confirmed[i] = u.commit(unit) == nil
		if i == 1 && confirmed[i] {
			_ = u.store.Checkpoint(t.Context())
		}
	}
	return confirmed, fs.Count(commitlog.OpAny)-before < n
}

// A unit that cannot be done, because what it sends to was deleted, takes nobody
// along who goes to the disk with it.
func TestUnitToDeletedAlone(t *testing.T) {
	u := openUnits(t, commitlog.NewMemFS())
	defer u.close()
	gone := u.destination("gone")
	batch := slices.Clone(u.sends("x")[0].Batches)
	must(t, gone.Partitions[0].Log().Delete())
	put(t, u.sources[0], texts("1", "2")...)
	c, s := consume(t, u.sources[0], ConsumerOptions{})
	c.Credit(2)
	g := s.take(2)
	bad, good := newWaiter(), newWaiter()
	f := flight{c: u.c, done: make(chan error, 1)}
	later := f.commit([]*Unit{
		{Settled: []Settled{settled(c, g[0])}, Sends: []commitlog.Write{{Log: gone.Partitions[0].Log(), Batches: batch}}, Done: bad},
		{Settled: []Settled{settled(c, g[1])}, Sends: u.sends("y"), Done: good},
	})
	if err := <-bad; !errors.Is(err, commitlog.ErrDeleted) {
		t.Errorf("to what is gone: %v", err)
	}
	if err := <-good; err != nil || len(later) != 0 {
		t.Errorf("beside it: %v, %d later", err, len(later))
	}
	if got := waiting(t, u.target); !slices.Equal(got, []string{"y"}) {
		t.Errorf("%q was sent", got)
	}
}
