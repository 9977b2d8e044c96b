package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// waitPrepared waits until the journal's preparer has written and synced the first file, so that it does not meet what is
// meant for the committer.
func waitPrepared(s *Store) {
	for s.journal.prepared.Load() < s.options.JournalFileBytes {
		time.Sleep(100 * time.Microsecond)
	}
}

// TestFailedSyncStops shows S3: after a failed sync nothing is confirmed, and what was confirmed before is there.
func TestFailedSyncStops(t *testing.T) {
	for n := 1; n <= 3; n++ {
		fsys := NewMemFS()
		s := open(t, fsys, small())
		l := openLog(t, s, 1, Config{})
		put(t, l, batchOf("kept", 1, 1))
		waitPrepared(s)
		fsys.FailNth(OpSync, n, syscall.EIO)
		var failed error
		for i := 0; failed == nil && i < 5; i++ {
			w := make(waitFor, 1)
			if _, failed = l.Append(batchOf("lost", 1, 1), w); failed == nil {
				failed = <-w
			}
		}
		var typed *FailedError
		if !errors.Is(failed, ErrFailed) || !errors.Is(failed, syscall.EIO) || !errors.As(failed, &typed) {
			t.Fatalf("error %v", failed)
		}
		<-s.Failed()
		if _, err := l.Append(batchOf("late", 1, 1), nil); !errors.Is(err, ErrFailed) {
			t.Errorf("a later append: %v", err)
		}
		if err := s.Checkpoint(context.Background()); !errors.Is(err, ErrFailed) {
			t.Errorf("a later checkpoint: %v", err)
		}
		if stable := l.Stable(); stable != int64(n) {
			t.Errorf("stable %d after %d syncs", stable, n)
		}
		if err := s.Close(); !errors.Is(err, ErrFailed) {
			t.Errorf("close: %v", err)
		}
		s = open(t, fsys.Crash(1), small())
		l = openLog(t, s, 1, Config{})
		if list := readAll(t, l); len(list) < n || list[0].value != "kept" {
			t.Errorf("read %v", list)
		}
		closeStore(t, s)
	}
}

// TestFullDiskAndBack shows S4: ErrFull to who appends, nothing of it remains, reserved logs go on, and service resumes.
func TestFullDiskAndBack(t *testing.T) {
	for _, memory := range []bool{false, true} {
		t.Run(fmt.Sprintf("memory=%t", memory), func(t *testing.T) {
			o := small()
			o.JournalFileBytes = 256 << 10
			o.ReservedBytes = 128 << 10
			fsys := NewMemFS()
			s := open(t, fsys, o)
			l := openLog(t, s, 1, Config{Memory: memory, SegmentBytes: 60_000})
			reserved := openLog(t, s, 2, Config{Reserved: true})
			other := openLog(t, s, 3, Config{})
			var want, wantReserved []got
			fill := func(name string) (full bool) {
				waits := make([]waitFor, 0, 16)
				var list []got
				for i := range 16 { // pipelined, so that appends stand behind the one that fails
					w := make(waitFor, 1)
					v := fmt.Sprintf("%s%d%s", name, i, strings.Repeat("f", 1000))
					base, err := l.Append(batchOf(v, 1, 1), w)
					if err != nil {
						t.Fatal(err)
					}
					waits, list = append(waits, w), append(list, got{base, v})
				}
				for i, w := range waits {
					switch err := <-w; {
					case errors.Is(err, ErrFull) && errors.Is(err, syscall.ENOSPC):
						full = true
					case err != nil:
						t.Fatal(err)
					default:
						want = append(want, list[i])
					}
				}
				return full
			}
			if fill("before") {
				t.Fatal("full too early")
			}
			fsys.SetCapacity(fsys.Used() + 40<<10)
			for i := 0; !fill(fmt.Sprint(i)); i++ {
				if i > 100 {
					t.Fatal("never full")
				}
			}
			if s.Err() != nil {
				t.Fatal(s.Err())
			}
			w := make(waitFor, 1)
			if _, err := other.Append(batchOf(strings.Repeat("o", 9000), 1, 1), w); err != nil {
				t.Fatal(err)
			}
			if err := <-w; !errors.Is(err, ErrFull) {
				t.Errorf("another log on a full disk: %v", err)
			}
			for i := range 40 {
				v := fmt.Sprintf("r%d%s", i, strings.Repeat("r", 1000))
				wantReserved = append(wantReserved, got{put(t, reserved, batchOf(v, 1, 1)), v})
			}
			if s.Stats().ReserveIntact {
				t.Error("the reserve was not needed")
			}
			if err := s.Checkpoint(context.Background()); err != nil {
				t.Errorf("checkpoint on a full disk: %v", err)
			}
			compare(t, readAll(t, l), want)
			fsys.SetCapacity(0)
			for fill("after") {
				t.Fatal("still full")
			}
			put(t, other, batchOf("again", 1, 1))
			if !s.Stats().ReserveIntact {
				t.Error("the reserve was not taken again")
			}
			for i := range want {
				if want[i].base != int64(i) {
					t.Fatalf("a hole at %d: %d", i, want[i].base)
				}
			}
			compare(t, readAll(t, l), want)
			fsys.Stop()
			_ = s.Close()
			s = open(t, fsys.Crash(3), o)
			compare(t, readAll(t, openLog(t, s, 2, Config{Reserved: true})), wantReserved)
			if l = openLog(t, s, 1, Config{Memory: memory}); !memory {
				compare(t, readAll(t, l), want)
			}
			closeStore(t, s)
		})
	}
}

// TestRefusedCommitIsWhole shows that a commit that one log has no room for leaves no trace in the others.
func TestRefusedCommitIsWhole(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	a, b := openLog(t, s, 1, Config{SegmentBytes: 3000}), openLog(t, s, 2, Config{})
	put(t, a, batchOf("a", 1, 1))
	put(t, b, batchOf("b", 1, 1))
	fsys.Inject(func(op Op, name string) error {
		if op == OpPreallocate && strings.HasPrefix(name, b.dir) {
			return syscall.ENOSPC
		}
		return nil
	})
	big := batchOf(strings.Repeat("x", 2000), 1, 1)
	for range 9 { // past the room that b has
		if w := make(waitFor, 1); s.Commit([]Write{{Log: a, Batches: big}, {Log: b, Batches: big}}, w) == nil {
			<-w
		}
	}
	endA, endB := a.End(), b.End()
	w, after := make(waitFor, 1), make(waitFor, 1)
	ws := []Write{{Log: a, Batches: big}, {Log: a, Batches: big}, {Log: b, Batches: big}}
	if err := s.Commit(ws, w); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Append(batchOf("behind", 1, 1), after); err != nil {
		t.Fatal(err)
	}
	if err := <-w; !errors.Is(err, ErrFull) {
		t.Fatalf("commit: %v", err)
	}
	<-after // refused or not, by whether the committer had got that far
	if a.Stable() > endA+1 || b.Stable() != endB {
		t.Errorf("stable %d and %d after %d and %d", a.Stable(), b.Stable(), endA, endB)
	}
	fsys.Inject(nil)
	put(t, a, batchOf("a again", 1, 1))
	put(t, b, batchOf("b again", 1, 1))
	before, err := state(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range before[a.id].batches[endA:] {
		if strings.HasPrefix(g.value, "x") {
			t.Errorf("a part of the refused commit at %d", g.base)
		}
	}
	fsys.Stop()
	_ = s.Close()
	s = open(t, fsys.Crash(5), small())
	have, err := state(s)
	if err != nil {
		t.Fatal(err)
	}
	if d := differs(have, before); d != "" {
		t.Error(d)
	}
	closeStore(t, s)
}

// TestFullJournal shows that ENOSPC in the journal itself refuses the group and leaves nothing of it, also after a crash.
func TestFullJournal(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	l := openLog(t, s, 1, Config{})
	want := []got{{put(t, l, batchOf("first", 1, 1)), "first"}}
	waitPrepared(s)
	var armed atomic.Bool
	fsys.Inject(func(op Op, name string) error {
		if op == OpWrite && strings.HasPrefix(name, journalDir) && armed.CompareAndSwap(true, false) {
			return syscall.ENOSPC
		}
		return nil
	})
	fresh := openLog(t, s, 2, Config{})
	for _, log := range []*Log{l, fresh} {
		w := make(waitFor, 1)
		armed.Store(true)
		if _, err := log.Append(batchOf("refused", 1, 1), w); err != nil {
			t.Fatal(err)
		}
		if err := <-w; !errors.Is(err, ErrFull) {
			t.Fatalf("append: %v", err)
		}
	}
	want = append(want, got{put(t, l, batchOf("second", 1, 1)), "second"})
	put(t, fresh, batchOf("fresh", 1, 1))
	compare(t, readAll(t, l), want)
	fsys.Stop()
	_ = s.Close()
	s = open(t, fsys.Crash(1), small())
	compare(t, readAll(t, openLog(t, s, 1, Config{})), want)
	compare(t, readAll(t, openLog(t, s, 2, Config{})), []got{{0, "fresh"}})
	closeStore(t, s)
}

// TestJournalStall shows that appenders wait for a slow checkpoint and do not fail.
func TestJournalStall(t *testing.T) {
	fsys := NewMemFS()
	o := small()
	o.JournalFiles = 2
	release := make(chan struct{})
	var armed atomic.Bool
	slow := &slowFS{FS: fsys, name: checkpointName + ".tmp", wait: func() {
		if armed.Load() {
			<-release
		}
	}}
	s := open(t, slow, o)
	l := openLog(t, s, 1, Config{})
	armed.Store(true)
	g := newGate(400)
	var want []got
	for i := range 400 { // more than two journal files
		v := fmt.Sprintf("%d%s", i, strings.Repeat("s", 1000))
		g.enter()
		base, err := l.Append(batchOf(v, 1, 1), g)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, got{base, v})
	}
	for s.Stats().Stalls == 0 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	if err := g.drain(400); err != nil {
		t.Fatal(err)
	}
	compare(t, readAll(t, l), want)
	if n := s.Stats().JournalFiles; n > 2 {
		t.Errorf("%d journal files", n)
	}
	closeStore(t, s)
}

// slowFS waits before it opens one file.
type slowFS struct {
	FS
	name string
	wait func()
}

func (f *slowFS) OpenFile(name string, create bool) (File, error) {
	if name == f.name {
		f.wait()
	}
	return f.FS.OpenFile(name, create)
}

// TestLocked shows that two stores never share a directory.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	first, err := DirFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DirFS(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := first.OpenFile("../outside", true); err == nil {
		t.Error("a name left the directory")
	}
	if _, err := first.OpenFile("missing", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPreparerLeavesTheError shows that what the preparer's sync is told of a failed write-back, the committer's is told too
// (S3).
func TestPreparerLeavesTheError(t *testing.T) {
	fsys := NewMemFS()
	if err := fsys.MkdirAll(journalDir); err != nil {
		t.Fatal(err)
	}
	j := newJournal(fsys, Options{JournalFileBytes: 4 << 20, JournalFiles: 2})
	f, err := j.create(1)
	if err != nil {
		t.Fatal(err)
	}
	fsys.FailWriteBack(f.name)
	if _, err := j.prepareOnce(f); !errors.Is(err, syscall.EIO) {
		t.Errorf("the preparer: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the committer: %v", err)
	}
}

// TestTwoJournalFiles shows that a store has a second journal file from its start on, or does not start: one alone could
// never be freed (S4).
func TestTwoJournalFiles(t *testing.T) {
	fsys := NewMemFS()
	fsys.SetCapacity(3 * 64 << 10 / 2)
	if s, err := Open(fsys, small()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("opened %v, %v", s, err)
	}
	fsys.SetCapacity(4 * 64 << 10)
	s := open(t, fsys, small())
	if n := s.Stats().JournalFiles; n != 2 {
		t.Errorf("%d journal files", n)
	}
	closeStore(t, s)
}

// TestAppendEarly shows that an early waiter does not wait for the sync, and others do.
func TestAppendEarly(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	l := openLog(t, s, 1, Config{})
	put(t, l, batchOf("first", 1, 1))
	waitPrepared(s)
	syncing, release := make(chan struct{}), make(chan struct{})
	early, late := make(waitFor, 1), make(waitFor, 1)
	var armed atomic.Bool
	armed.Store(true)
	slow := func(op Op, name string) error {
		if op == OpSync && strings.HasPrefix(name, journalDir) && armed.Swap(false) {
			close(syncing)
			<-release
		}
		return nil
	}
	fsys.Inject(slow)
	if _, err := l.AppendEarly(batchOf("early", 1, 1), early); err != nil {
		t.Fatal(err)
	}
	if err := <-early; err != nil {
		t.Fatal(err)
	}
	<-syncing
	if stable := l.Stable(); stable != 1 {
		t.Errorf("readable before the sync: %d", stable)
	}
	if _, err := l.Append(batchOf("late", 1, 1), late); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-late:
		t.Errorf("confirmed before the sync: %v", err)
	default:
	}
	close(release)
	if err := <-late; err != nil {
		t.Fatal(err)
	}
	if stable := l.Stable(); stable != 3 {
		t.Errorf("stable %d", stable)
	}
	closeStore(t, s)
}
