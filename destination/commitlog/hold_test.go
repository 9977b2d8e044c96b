package commitlog

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// told notes that it was called.
type told struct{ telling, committed *int }

func (w told) Committed(error) { *w.committed = *w.telling }

// TestRelease has appends between Hold and Release committed by Release itself, in both lanes, after it has called telling.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, NewMemFS(), small())
		defer closeStore(t, s)
		telling := 0
		tell := func() { telling++ }
		for i, c := range []Config{{}, {Memory: true}} {
			l := openLog(t, s, i, c)
			put(t, l, batchOf("makes the files", 1, 1))
			synctest.Wait() // the committer sleeps
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
			if runs := s.Release(false, tell); runs != 1 || committed != i+1 || telling != i+1 || l.Stable() != 4 {
				t.Errorf("log %d: %d runs, told after %d of %d, stable %d", i, runs, committed, telling, l.Stable())
			}
		}
		s.Hold()
		if runs := s.Release(false, tell); runs != 0 || telling != 2 {
			t.Errorf("%d runs of nothing", runs)
		}
	})
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
		if runs := s.Release(false, nil); runs != 0 {
			t.Errorf("%d runs of what the committer had done", runs)
		}
	})
}

// TestReleaseWaits has what may wait committed a millisecond later, or with what comes before that.
func TestReleaseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, NewMemFS(), small())
		l := openLog(t, s, 1, Config{})
		put(t, l, batchOf("makes the files", 1, 1))
		syncs := func() int64 { return s.Stats().Syncs }
		before := syncs()
		lazily := func() waitFor {
			w := make(waitFor, 1)
			s.Hold()
			if _, err := l.Append(batchOf("may wait", 1, 1), w); err != nil {
				t.Fatal(err)
			}
			if runs := s.Release(true, nil); runs != 0 {
				t.Errorf("%d runs", runs)
			}
			return w
		}
		first := lazily()
		time.Sleep(maxDelay / 2)
		second := lazily() // waits no longer than the first
		synctest.Wait()
		if len(first)+len(second) > 0 {
			t.Error("committed at once")
		}
		time.Sleep(maxDelay / 2)
		synctest.Wait()
		if len(first)+len(second) != 2 || syncs() != before+1 {
			t.Errorf("%d of 2 told after the delay, with %d syncs", len(first)+len(second), syncs()-before)
		}

		first = lazily()
		put(t, l, batchOf("may not", 1, 1))
		if len(first) != 1 || syncs() != before+2 {
			t.Errorf("%d of 1 told with what could not wait, %d syncs", len(first), syncs()-before)
		}
		time.Sleep(10 * maxDelay)
		synctest.Wait()
		if syncs() != before+2 {
			t.Error("a sync of nothing")
		}

		first = lazily()
		s.Hold()
		w := make(waitFor, 1)
		if _, err := l.Append(batchOf("held", 1, 1), w); err != nil {
			t.Fatal(err)
		}
		if runs := s.Release(false, nil); runs != 1 || len(first) != 1 || len(w) != 1 {
			t.Errorf("%d runs, %d and %d told", runs, len(first), len(w))
		}
		last := lazily()
		if err := s.Close(); err != nil || len(last) != 1 {
			t.Errorf("closed with %v, %d told", err, len(last))
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
	s.Release(false, nil)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
