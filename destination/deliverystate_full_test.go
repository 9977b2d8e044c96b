package destination

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// fillDisk lets segments of the delivery state take no more blocks.
func (r *rig) fillDisk() {
	r.fs.Inject(func(op commitlog.Op, name string) error {
		if op == commitlog.OpPreallocate && strings.HasPrefix(name, DeliveryStateName) {
			return syscall.ENOSPC
		}
		return nil
	})
}

func filler(records, size int) []byte {
	var b record.Builder
	key := (CursorID{Topic: [16]byte{99}}).key()
	for range records {
		b.Append(1, key, make([]byte, size), nil)
	}
	return b.Batch()
}

// gate is a waiter that keeps the committer until it is opened.
type gate chan struct{}

func (g gate) Committed(error) { <-g }

// TestSnapshotBehindRefused shows that a trim keeps a snapshot that came to lie lower than the log's end was when it was
// written, because what was pending there found no room (Q3).
func TestSnapshotBehindRefused(t *testing.T) {
	r := openRig(t, commitlog.NewMemFS())
	busy, id := CursorID{Topic: [16]byte{8}}, CursorID{Topic: [16]byte{7}}
	other := NewCursor(0)
	r.journal(t, busy, other)
	c := NewCursor(0)
	first, _ := c.AcquireRange(0, 10, 1, 0)
	if err := c.AcknowledgeRange(0, 10, first, 1); err != nil {
		t.Fatal(err)
	}

	hold, refused := make(gate), newWaiter()
	if _, err := r.state.log.Append(filler(1, 10), hold); err != nil {
		t.Fatal(err)
	}
	r.fillDisk()
	if _, err := r.state.log.Append(filler(50, 12<<10), refused); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	r.state.now = func() time.Time {
		once.Do(func() { // between the look at the log's end and the append
			close(hold)
			if err := <-refused; !errors.Is(err, commitlog.ErrFull) {
				t.Errorf("append without room: %v", err)
			}
		})
		return time.Now()
	}
	r.journal(t, id, c)
	r.fs.Inject(nil)

	for range 60 {
		other.Pass(other.Next(), other.Next()+1)
		r.journal(t, busy, other)
	}
	r.state.state(busy).stale.Store(true)
	r.journal(t, busy, other)
	if err := r.state.trim(); err != nil {
		t.Fatal(err)
	}
	r = r.reopen(t)
	defer r.close(t)
	found, ok := r.state.Cursor(id)
	if !ok {
		t.Fatal("the cursor is gone")
	}
	if err := same(c, found); err != nil {
		t.Error(err)
	}
}

// TestRefusedPart shows that nobody is told that a snapshot is on disk of which a part found no room (Q3).
func TestRefusedPart(t *testing.T) { testRefusedPart(t, false) }

// TestRefusedPartOfMove shows that the message of a move is not at its new place either (Q6).
func TestRefusedPartOfMove(t *testing.T) { testRefusedPart(t, true) }

func testRefusedPart(t *testing.T, move bool) {
	r := openRig(t, commitlog.NewMemFS())
	r.state.partBytes = 100 << 10
	id := CursorID{Topic: [16]byte{7}}
	c := NewCursor(0)
	r.journal(t, id, c)
	before := r.state.state(id).snapshotAt.Load()
	w := newWaiter()
	if _, err := r.state.log.Append(filler(1, 850_000), w); err != nil {
		t.Fatal(err)
	}
	if err := <-w; err != nil { // the segment has room for the first part, not for two
		t.Fatal(err)
	}
	for i := range int64(20_000) {
		c.HoldSend(2*i, 2*i+1, 1<<63+uint64(i))
	}
	if n := len(c.AppendSnapshot(nil)); n < 200<<10 || n > 280<<10 {
		t.Fatalf("a snapshot of %d bytes is not three parts, the last of them small", n)
	}

	r.fillDisk()
	part := 0
	r.state.now = func() time.Time {
		if part++; part == 3 {
			for i := 0; i < 200 && r.store.Stats().Full == 0; i++ { // never, if the parts are one commit
				time.Sleep(time.Millisecond)
			}
		}
		return time.Now()
	}
	r.state.state(id).stale.Store(true)
	var also []commitlog.Write
	if move {
		also = append(also, commitlog.Write{Log: r.dead, Batches: deadLetter(1)})
	}
	if err := r.state.Journal(id, c, w, also...); err != nil {
		t.Fatal(err)
	}
	if err := <-w; !errors.Is(err, commitlog.ErrFull) {
		t.Errorf("told %v", err)
	}
	if at := r.state.state(id).snapshotAt.Load(); at != before {
		t.Errorf("a trim would cut at %d, the last whole snapshot is at %d", at, before)
	}
	if n := r.dead.Stable(); n != 0 {
		t.Errorf("%d messages at the new place", n)
	}
	r.fs.Inject(nil)
	if err := errors.Join(r.state.Journal(id, c, w, also...), <-w); err != nil {
		t.Fatal(err)
	}
	r = r.reopen(t)
	defer r.close(t)
	if found, _ := r.state.Cursor(id); found == nil {
		t.Error("the cursor is gone")
	} else if err := same(c, found); err != nil {
		t.Error(err)
	}
}

// TestNothingNewBehindRefused shows that a Journal without a change of its own answers for the one before it that found no
// room, and no longer once a snapshot has made up for it (Q3).
func TestNothingNewBehindRefused(t *testing.T) {
	r := openRig(t, commitlog.NewMemFS())
	defer r.close(t)
	id, c := CursorID{Topic: [16]byte{7}}, NewCursor(0)
	held := int64(0)
	hold := func(n int64) {
		for ; n > 0; n-- {
			c.HoldSend(2*held, 2*held+1, 1<<63+uint64(held))
			held++
		}
	}
	hold(10_000)
	r.journal(t, id, c) // a large snapshot, so that what follows is a delta
	w := newWaiter()
	if _, err := r.state.log.Append(filler(1, 1_000_000-int(r.state.log.Bytes())), w); err != nil {
		t.Fatal(err)
	}
	if err := <-w; err != nil { // the first MiB of the segment has room for little more
		t.Fatal(err)
	}
	r.fillDisk()
	before, within, first, second := make(gate), make(gate), newWaiter(), newWaiter()
	behind := r.state.log.Stable()
	if _, err := r.state.log.Append(filler(1, 10), before); err != nil {
		t.Fatal(err)
	}
	for r.state.log.Stable() == behind { // before's run is over, but for telling it
		runtime.Gosched()
	}
	if _, err := r.state.log.Append(filler(1, 10), within); err != nil {
		t.Fatal(err)
	}
	hold(7_000)
	if err := r.state.Journal(id, c, first); err != nil {
		t.Fatal(err)
	}
	close(before)
	for r.store.Stats().Full == 0 { // the change is refused, and nobody has been told yet
		runtime.Gosched()
	}
	if err := r.state.Journal(id, c, second); err != nil {
		t.Fatal(err)
	}
	close(within)
	if err := <-first; !errors.Is(err, commitlog.ErrFull) {
		t.Fatalf("a change without room: %v", err)
	}
	if err := <-second; !errors.Is(err, commitlog.ErrFull) {
		t.Errorf("nothing new behind it: %v", err)
	}
	r.fs.Inject(nil)
	r.journal(t, id, c)
	if err := errors.Join(r.state.Journal(id, c, second), <-second); err != nil {
		t.Errorf("after a snapshot: %v", err)
	}
}
