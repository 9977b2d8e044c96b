package commitlog

import (
	"strings"
	"testing"
	"testing/synctest"
)

// told notes that it was called.
type told struct{ telling, committed *int }

func (w told) Committed(error) { *w.committed = *w.telling }

// TestRelease has appends between Hold and Release committed by Release itself, in both lanes, after it has called telling.
func TestRelease(t *testing.T) {
	s := open(t, NewMemFS(), small())
	defer closeStore(t, s)
	telling := 0
	tell := func() { telling++ }
	for i, c := range []Config{{}, {Memory: true}} {
		l := openLog(t, s, i, c)
		put(t, l, batchOf("makes the files", 1, 1))
		committed := -1
		s.Hold()
		for range 3 {
			if _, err := l.Append(batchOf("held", 1, 1), told{&telling, &committed}); err != nil {
				t.Fatal(err)
			}
		}
		if l.Stable() != 1 {
			t.Errorf("log %d: stable %d before Release", i, l.Stable())
		}
		if runs := s.Release(tell); runs != 1 || committed != i+1 || telling != i+1 || l.Stable() != 4 {
			t.Errorf("log %d: %d runs, told after %d of %d, stable %d", i, runs, committed, telling, l.Stable())
		}
	}
	s.Hold()
	if runs := s.Release(tell); runs != 0 || telling != 2 {
		t.Errorf("%d runs of nothing", runs)
	}
}

// TestReleaseLeaves has the committer commit what is much, and what somebody waits for.
func TestReleaseLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small()
		o.JournalFileBytes = 1 << 20
		s := open(t, NewMemFS(), o)
		defer closeStore(t, s)
		l := openLog(t, s, 1, Config{})
		put(t, l, batchOf("makes the files", 1, 1))
		much := batchOf(strings.Repeat("m", inlineBytes), 1, 1)

		s.Hold()
		w := make(waitFor, 1)
		if _, err := l.Append(much, w); err != nil {
			t.Fatal(err)
		}
		if err := <-w; err != nil { // it is too much to wait for Release
			t.Fatal(err)
		}
		if _, err := l.Append(batchOf("little", 1, 1), w); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(w) > 0 {
			t.Error("a small append was not left to Release")
		}
		if err := l.SkipTo(10); err != nil { // waits, and takes the append along
			t.Fatal(err)
		}
		if err := <-w; err != nil {
			t.Fatal(err)
		}
		if runs := s.Release(nil); runs != 0 {
			t.Errorf("%d runs of what the committer had done", runs)
		}
	})
}

// TestReleaseAfterFailure tells waiters of a store that has failed, and of one that closes.
func TestReleaseAfterFailure(t *testing.T) {
	s := open(t, NewMemFS(), small())
	l := openLog(t, s, 1, Config{})
	put(t, l, batchOf("makes the files", 1, 1))
	w := make(waitFor, 1)
	s.Hold()
	if _, err := l.Append(batchOf("held", 1, 1), w); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	if err := <-w; err != nil {
		t.Errorf("a held append at the close: %v", err)
	}
	s.Release(nil)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
