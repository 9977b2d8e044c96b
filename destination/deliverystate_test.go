package destination

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// waiter is told once.
type waiter chan error

func newWaiter() waiter { return make(waiter, 1) }

func (w waiter) Committed(err error) { w <- err }

// rig is a store with a delivery state and a dead letter log.
type rig struct {
	fs    *commitlog.MemFS
	store *commitlog.Store
	state *DeliveryState
	dead  *commitlog.Log
}

func openRig(t testing.TB, fs *commitlog.MemFS) *rig {
	t.Helper()
	store, err := commitlog.Open(fs, commitlog.Options{
		JournalFileBytes: 8 << 20, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	open := func(id byte, dir string) *commitlog.Log {
		log, err := store.OpenLog(commitlog.LogID{Topic: [16]byte{id}}, dir, DeliveryStateConfig)
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	state, err := OpenDeliveryState(store, open(1, DeliveryStateName+"-0"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{fs, store, state, open(2, "dead-0")}
}

func (r *rig) close(t testing.TB) {
	t.Helper()
	if err := errors.Join(r.state.Close(), r.store.Close()); err != nil {
		t.Fatal(err)
	}
}

// reopen is a clean restart.
func (r *rig) reopen(t testing.TB) *rig {
	t.Helper()
	r.close(t)
	return openRig(t, r.fs)
}

func (r *rig) journal(t testing.TB, id CursorID, c *Cursor) {
	t.Helper()
	w := newWaiter()
	if err := r.state.Journal(id, c, w); err != nil {
		t.Fatal(err)
	}
	if err := <-w; err != nil {
		t.Fatal(err)
	}
}

// same says whether b is what a becomes in a restart.
func same(a, b *Cursor) error {
	want, err := RestoreCursor(a.AppendSnapshot(nil))
	if err != nil {
		return err
	}
	if want.Stats() != b.Stats() {
		return fmt.Errorf("stats %+v, want %+v", b.Stats(), want.Stats())
	}
	for o := want.Floor(); o < want.Next(); o++ {
		if want.Count(o) != b.Count(o) || want.Scan(o) != b.Scan(o) {
			return fmt.Errorf("offset %d: count %d, want %d", o, b.Count(o), want.Count(o))
		}
	}
	return nil
}

func deadLetter(offset int64) []byte {
	var b record.Builder
	b.Append(offset, nil, []byte("dead"), nil)
	return b.Batch()
}

func TestDeliveryStateReopen(t *testing.T) {
	r := openRig(t, commitlog.NewMemFS())
	queue, durable := CursorID{Topic: [16]byte{7}}, CursorID{Topic: [16]byte{7}, Partition: 3, Subscription: "audit"}
	a, b := NewCursor(0), NewCursor(100)
	first, _ := a.AcquireRange(0, 50, 1, 0)
	r.journal(t, queue, a)
	if err := a.AcknowledgeRange(10, 20, first+10, 1); err != nil {
		t.Fatal(err)
	}
	r.journal(t, queue, a)
	b.Schedule(100, 1<<40)
	r.journal(t, durable, b)
	r.journal(t, CursorID{Partition: 9}, NewCursor(0))
	if err := r.state.Drop(CursorID{Partition: 9}); err != nil {
		t.Fatal(err)
	}
	if err := r.state.Drop(CursorID{Partition: 9}); err != nil {
		t.Fatal(err)
	}
	r = r.reopen(t)
	defer r.close(t)
	if got := slices.Collect(r.state.Cursors()); len(got) != 2 {
		t.Fatalf("cursors %v", got)
	}
	for id, want := range map[CursorID]*Cursor{queue: a, durable: b} {
		got, ok := r.state.Cursor(id)
		if !ok {
			t.Fatalf("%s is gone", id)
		}
		if err := same(want, got); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		// Q1: no number of before is given out again.
		if number, _, ok := got.Acquire(got.Next(), 1, 0); !ok || number <= a.acquisition {
			t.Errorf("%s: acquisition %d", id, number)
		}
	}
	if len(r.state.Problems()) > 0 {
		t.Error(r.state.Problems())
	}
}

// TestDeliveryStateCrash: power cuts at random times. What was confirmed is
// there (Q3), and a message is in the dead letter log if and only if the
// cursor has archived it (Q6).
func TestDeliveryStateCrash(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	var confirmed, lost int
	for n := range uint64(8) {
		c, l, err := crashRun(t, first+n)
		if err != nil {
			t.Fatalf("-seed %d: %v", first+n, err)
		}
		confirmed, lost = confirmed+c, lost+l
	}
	t.Logf("-seed %d: %d settlements confirmed, %d not", first, confirmed, lost)
	if confirmed < 1000 || lost == 0 {
		t.Error("the crashes do not hit anything")
	}
}

// confirmed is what a cursor's consumers were told, filled in by the committer.
type confirmed struct {
	mu   sync.Mutex
	done map[[2]int64]bool
	lost int
}

type settlement struct {
	c    *confirmed
	done [][2]int64
}

func (s *settlement) Committed(err error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for _, d := range s.done {
		if err == nil {
			s.c.done[d] = true
		} else {
			s.c.lost++
		}
	}
}

func crashRun(t *testing.T, seed uint64) (done, lost int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	told := &confirmed{done: map[[2]int64]bool{}}
	fs := commitlog.NewMemFS()
	for range 6 {
		r := openRig(t, fs)
		r.state.partBytes, r.state.trimAfter = 64, 20_000
		if err := checkCrash(r, told); err != nil {
			return 0, 0, err
		}
		cursors := make([]*Cursor, 5)
		for i := range cursors {
			if c, ok := r.state.Cursor(CursorID{Partition: int32(i)}); ok {
				cursors[i] = c
			} else {
				cursors[i] = NewCursor(0)
			}
		}
		for range rnd.IntN(600) {
			// Cursor 0 is idle most of the time.
			i := rnd.IntN(len(cursors))
			if i == 0 && rnd.IntN(50) > 0 {
				continue
			}
			if err := crashStep(r, rnd, told, i, cursors[i]); err != nil {
				return 0, 0, err
			}
			if rnd.IntN(100) == 0 {
				r.journal(t, CursorID{Partition: int32(i)}, cursors[i])
			}
		}
		r.fs.Stop()
		_ = r.state.Close()
		after := fs.Crash(rnd.Uint64())
		_ = r.store.Close() // fails: its disk is gone
		fs = after
	}
	r := openRig(t, fs)
	defer r.close(t)
	err = checkCrash(r, told)
	return len(told.done), told.lost, err
}

// crashStep delivers some messages and settles or buries some of them.
func crashStep(r *rig, rnd *rand.Rand, told *confirmed, i int, c *Cursor) error {
	id := CursorID{Partition: int32(i)}
	var offset int64
	for o := range c.Undone(0, none) {
		if offset = o; rnd.IntN(3) > 0 {
			break
		}
	}
	if c.Stats().Available == 0 || rnd.IntN(2) == 0 {
		offset = c.Next()
	}
	number, _, ok := c.Acquire(offset, 1, 0)
	if !ok {
		return fmt.Errorf("offset %d of cursor %d is not available", offset, i)
	}
	w := &settlement{told, [][2]int64{{int64(i), offset}}}
	switch rnd.IntN(5) {
	case 0:
		if err := c.Release(offset, number, 0, false); err != nil {
			return err
		}
		return r.state.Journal(id, c, nil)
	case 1:
		c.Archive(offset)
		// The timestamp says which message it was.
		return r.state.Journal(id, c, w, commitlog.Write{Log: r.dead, Batches: deadLetter(int64(i)<<32 | offset)})
	}
	if err := c.Acknowledge(offset, number); err != nil {
		return err
	}
	return r.state.Journal(id, c, w)
}

func checkCrash(r *rig, told *confirmed) error {
	told.mu.Lock()
	defer told.mu.Unlock()
	if len(r.state.Problems()) > 0 {
		return r.state.Problems()[0]
	}
	for d := range told.done {
		c, ok := r.state.Cursor(CursorID{Partition: int32(d[0])})
		if !ok || c.Scan(d[1]) {
			return fmt.Errorf("Q3: offset %d of cursor %d is back", d[1], d[0])
		}
	}
	buried, err := readDead(r.dead)
	if err != nil {
		return err
	}
	var archived int64
	for id := range r.state.Cursors() {
		c, _ := r.state.Cursor(id)
		archived += c.Stats().Archived
	}
	if archived != int64(len(buried)) {
		return fmt.Errorf("Q6: %d archived, %d dead letters", archived, len(buried))
	}
	for _, d := range buried {
		c, ok := r.state.Cursor(CursorID{Partition: int32(d >> 32)})
		if !ok || c.Scan(d&(1<<32-1)) {
			return fmt.Errorf("Q6: offset %d of cursor %d is back and dead", d&(1<<32-1), d>>32)
		}
	}
	return nil
}

func readDead(log *commitlog.Log) (found []int64, err error) {
	for from := log.Start(); from < log.End(); {
		buf, err := log.Read(from, 1<<20, nil)
		if err != nil {
			return nil, err
		}
		for len(buf) > 0 {
			var b record.Batch
			if b, buf, err = record.Next(buf); err != nil {
				return nil, err
			}
			found = append(found, b.BaseTimestamp())
			from = b.NextOffset()
		}
	}
	return found, nil
}

// TestDeliveryStateTrim: idle cursors do not hold the log, and are still there.
func TestDeliveryStateTrim(t *testing.T) {
	r := openRig(t, commitlog.NewMemFS())
	r.state.trimAfter = 50_000
	idle := NewCursor(0)
	for o := int64(1); o < 100; o += 2 {
		number, _, _ := idle.Acquire(o, 1, 0)
		if err := idle.Acknowledge(o, number); err != nil {
			t.Fatal(err)
		}
	}
	idle.ScanTo(200)
	for i := range int32(20) {
		r.journal(t, CursorID{Partition: i, Subscription: "idle"}, idle)
		idle.forgetDelta()
	}
	busy := NewCursor(0)
	for range 20_000 {
		o := busy.Next()
		number, _, _ := busy.Acquire(o, 1, 0)
		if err := busy.Acknowledge(o, number); err != nil {
			t.Fatal(err)
		}
		if err := r.state.Journal(CursorID{}, busy, nil); err != nil {
			t.Fatal(err)
		}
		if o%500 == 0 {
			r.journal(t, CursorID{}, busy)
			r.state.trims.Wait()
		}
	}
	r.journal(t, CursorID{}, busy)
	log := r.state.log
	if kept := log.End() - log.Start(); kept > 5000 {
		t.Errorf("%d of %d records are kept", kept, log.End())
	}
	r = r.reopen(t)
	defer r.close(t)
	for i := range int32(20) {
		c, ok := r.state.Cursor(CursorID{Partition: i, Subscription: "idle"})
		if !ok {
			t.Fatalf("idle cursor %d is gone", i)
		}
		if err := same(idle, c); err != nil {
			t.Fatal(err)
		}
	}
	if c, ok := r.state.Cursor(CursorID{}); !ok || c.Floor() != busy.Floor() {
		t.Error("the busy cursor is not where it was")
	}
}

// TestDeliveryStateParts: a snapshot that does not fit in one record counts
// once it is whole, and one that was left unfinished does not.
func TestDeliveryStateParts(t *testing.T) {
	r := openRig(t, commitlog.NewMemFS())
	r.state.partBytes = 100
	c := NewCursor(0)
	for o := int64(0); o < 1000; o += 2 {
		c.Schedule(o, 1<<40+o*o)
	}
	r.journal(t, CursorID{}, c)
	c.Archive(0)
	r.journal(t, CursorID{}, c)
	want := c.AppendSnapshot(nil)
	// What a failed append leaves.
	st := r.state.state(CursorID{})
	st.mu.Lock()
	e := new(encoder)
	if _, err := st.append(e, appendPart(nil, 0, 2, NewCursor(0).AppendSnapshot(nil)[:3]), outcome{snapshotAt: -1}, nil); err != nil {
		t.Fatal(err)
	}
	st.mu.Unlock()
	r = r.reopen(t)
	defer r.close(t)
	got, ok := r.state.Cursor(CursorID{})
	if !ok {
		t.Fatal("the cursor is gone")
	}
	wanted, err := RestoreCursor(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := same(wanted, got); err != nil {
		t.Error(err)
	}
}

// TestDeliveryStateFailed: after an append that failed, the next one writes
// everything, so that nothing of the failed one is missing.
func TestDeliveryStateFailed(t *testing.T) {
	r := openRig(t, commitlog.NewMemFS())
	c := NewCursor(0)
	r.journal(t, CursorID{}, c)
	c.Pass(0, 10)
	c.TakeDelta(nil) // is never written
	failed := &outcome{state: r.state.state(CursorID{}), snapshotAt: -1}
	failed.Committed(commitlog.ErrFull)
	c.Pass(10, 20)
	r.journal(t, CursorID{}, c)
	r = r.reopen(t)
	defer r.close(t)
	if got, ok := r.state.Cursor(CursorID{}); !ok || got.Floor() != 20 {
		t.Fatalf("floor %d", got.Floor())
	}
	w := newWaiter()
	got, _ := r.state.Cursor(CursorID{})
	if err := r.state.Journal(CursorID{}, got, w); err != nil || <-w != nil {
		t.Error("nothing to write, and the waiter was not told")
	}
}

// TestDeliveryStateParallel is for the race detector: many cursors at once.
func TestDeliveryStateParallel(t *testing.T) {
	r := openRig(t, commitlog.NewMemFS())
	r.state.trimAfter = 10_000
	var wg sync.WaitGroup
	for i := range int32(8) {
		wg.Go(func() {
			c := NewCursor(0)
			id := CursorID{Partition: i}
			for n := range int64(300) {
				number, _, _ := c.Acquire(n, 1, 0)
				if c.Acknowledge(n, number) != nil || r.state.Journal(id, c, nil) != nil {
					t.Error("not journaled")
				}
			}
			r.journal(t, id, c)
		})
	}
	wg.Wait()
	r = r.reopen(t)
	defer r.close(t)
	for i := range int32(8) {
		if c, ok := r.state.Cursor(CursorID{Partition: i}); !ok || c.Floor() != 300 {
			t.Errorf("cursor %d is not where it was", i)
		}
	}
}

// BenchmarkJournal is a settlement of 64 records, journaled, not waited for.
func BenchmarkJournal(b *testing.B) {
	r := openRig(b, commitlog.NewMemFS())
	defer r.close(b)
	c := NewCursor(0)
	b.ReportAllocs()
	for b.Loop() {
		from := c.Next()
		first, _ := c.AcquireRange(from, from+64, 1, 0)
		if c.AcknowledgeRange(from, from+64, first, 1) != nil || r.state.Journal(CursorID{}, c, nil) != nil {
			b.Fatal("not journaled")
		}
	}
}

// TestDeliveryStateAtomic: if the settlement cannot be written, the dead
// letter is not either (Q6).
func TestDeliveryStateAtomic(t *testing.T) {
	r := openRig(t, commitlog.NewMemFS())
	defer r.close(t)
	c := NewCursor(0)
	r.journal(t, CursorID{}, c)
	var huge record.Builder
	huge.Append(0, nil, make([]byte, 4<<20), nil)
	c.Archive(0)
	err := r.state.Journal(CursorID{}, c, nil,
		commitlog.Write{Log: r.dead, Batches: deadLetter(0)}, commitlog.Write{Log: r.dead, Batches: huge.Batch()})
	if err == nil || r.dead.End() != 0 {
		t.Fatalf("%d dead letters, %v", r.dead.End(), err)
	}
	also := []commitlog.Write{{Log: r.dead, Batches: deadLetter(0)}, {Log: r.dead, Batches: deadLetter(1)}}
	if err := r.state.Journal(CursorID{}, c, nil, also...); err != nil || also[0].Base != 0 || also[1].Base != 1 {
		t.Fatalf("bases %d and %d, %v", also[0].Base, also[1].Base, err)
	}
}

// TestRewriteOutdated: a cursor that was journaled while the trim read it back
// is left alone; what the trim has read would undo the change.
func TestRewriteOutdated(t *testing.T) {
	r := openRig(t, commitlog.NewMemFS())
	c := NewCursor(0)
	c.Pass(0, 5)
	r.journal(t, CursorID{}, c)
	idle := map[CursorID]*cursorState{{}: r.state.state(CursorID{})}
	cut := r.state.log.End()
	c.Pass(5, 10)
	r.journal(t, CursorID{}, c)
	if err := r.state.rewrite(idle, 0, cut); err != nil {
		t.Fatal(err)
	}
	r = r.reopen(t)
	defer r.close(t)
	if got, ok := r.state.Cursor(CursorID{}); !ok || got.Floor() != 10 {
		t.Error("the change is undone")
	}
}

// TestPartsInOrder: parts count only if all follow each other.
func TestPartsInOrder(t *testing.T) {
	c := NewCursor(0)
	c.Pass(0, 5)
	s := c.AppendSnapshot(nil)
	part := func(n int) []byte { return appendPart(nil, n, 3, s[n*4:min(n*4+4, len(s))]) }
	for _, test := range []struct {
		values [][]byte
		whole  bool
	}{
		{[][]byte{part(0), part(1), part(2)}, len(s) <= 12},
		{[][]byte{part(0), part(0), part(1), part(2)}, true},
		{[][]byte{part(0), part(2)}, false},
		{[][]byte{part(1), part(2)}, false},
		{[][]byte{part(0), part(1), c.appendHeader(nil), part(2)}, false},
	} {
		r := replay{cursors: map[CursorID]*replayed{}}
		for i, v := range test.values {
			if err := r.record(&record.Record{Offset: int64(i), Key: CursorID{}.key(), Value: v}, 1); err != nil {
				t.Fatal(err)
			}
		}
		found := r.cursors[CursorID{}]
		if whole := found.cursor != nil; whole != test.whole || len(r.problems) > 0 {
			t.Errorf("% x: whole is %t; %v", test.values, whole, r.problems)
		}
	}
}
