package destination

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
)

// seeds are values of the delivery state's records, as they are on disk.
func seeds() [][]byte {
	c := NewCursor(3)
	var all [][]byte
	take := func() { all = append(all, c.TakeDelta(nil), c.AppendSnapshot(nil)) }
	take()
	first, _ := c.AcquireRange(3, 200, 1, 0)
	take()
	for o := int64(4); o < 200; o += 2 {
		_ = c.Acknowledge(o, first+uint64(o-3))
	}
	take()
	_ = c.Hold(3, first, 9)
	_ = c.Release(5, first+2, 1_700_000_000_000, false)
	_ = c.Release(7, first+4, 0, true)
	c.HoldSend(200, 210, 4)
	c.Schedule(300, 1_700_000_000_000)
	take()
	c.EndHold(9, true)
	c.EndSend(4, false)
	c.ArchiveRange(11, 12)
	take()
	c.SeekTo(1000)
	c.Acquire(1001, 1, 0)
	take()
	return all
}

// FuzzApply: whatever the bytes, the cursor refuses them or is in a state that
// survives being written and read back, and it takes no memory that the bytes
// did not pay for.
func FuzzApply(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, base, data []byte) {
		if len(base)+len(data) > 4096 {
			t.Skip("the work may grow with the square of the length")
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := RestoreCursor(base)
		if err != nil {
			c = NewCursor(0)
		}
		err = c.Apply(data)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
			t.Fatalf("%d bytes were allocated for %d", grown, len(base)+len(data))
		}
		if err != nil {
			if !errors.Is(err, ErrDeliveryState) && !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		checkInvariants(t, c)
		snapshot := c.AppendSnapshot(nil)
		again, err := RestoreCursor(snapshot)
		if err != nil {
			t.Fatalf("snapshot is refused: %v", err)
		}
		if again.Stats() != c.Stats() {
			t.Fatalf("stats %+v, want %+v", again.Stats(), c.Stats())
		}
		if s := again.AppendSnapshot(nil); len(s) != len(snapshot) {
			t.Fatalf("snapshot of a snapshot differs:\n% x\n% x", s, snapshot)
		}
	})
}

func checkInvariants(t *testing.T, c *Cursor) {
	t.Helper()
	s := c.Stats()
	if c.floor > c.next || s.Available < 0 || s.Acquired != 0 {
		t.Fatalf("floor %d, next %d, %+v", c.floor, c.next, s)
	}
	if c.Next()-s.Start != s.Available+s.Scheduled+s.Held+s.HeldSends+s.Acknowledged+s.Archived+s.Passed {
		t.Fatalf("Q5: next %d, %+v", c.Next(), s)
	}
	var before int64
	for p := (place{}); c.runs.valid(p); p = c.runs.next(p) {
		r := c.runs.at(p)
		if r.from < before || r.from >= r.to || r.from < c.floor || r.to > c.next || c.done.nextPresent(r.from) < r.to {
			t.Fatalf("run %+v, floor %d, next %d", *r, c.floor, c.next)
		}
		before = r.to
	}
}

// FuzzReplay: records of the log with any key and value.
func FuzzReplay(f *testing.F) {
	key := CursorID{Partition: 1, Subscription: "s"}.key()
	for _, s := range seeds() {
		f.Add(key, s)
		f.Add(key, appendPart(nil, 0, 2, s))
		f.Add(key, appendPart(nil, 0, 1, s))
	}
	f.Add(key[:19], []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(value) > 4096 {
			t.Skip("the work may grow with the square of the length")
		}
		id, ok := parseCursorKey(key)
		if ok && !bytes.Equal(id.key(), key) {
			t.Fatalf("key %x became %x", key, id.key())
		}
		replayOne(t, key, value)
	})
}

// TestNewerFormat: a version that is not known is refused by name.
func TestNewerFormat(t *testing.T) {
	for kind := range byte(4) {
		if err := NewCursor(0).Apply([]byte{kind, formatVersion + 1, 0}); !errors.Is(err, ErrNewerFormat) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
	if err := NewCursor(0).Apply([]byte{kindDelta, 0, 0}); !errors.Is(err, ErrDeliveryState) {
		t.Errorf("version 0: %v", err)
	}
}
