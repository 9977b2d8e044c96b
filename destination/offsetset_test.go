package destination

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestOffsetSet compares a set with a map, where ranges are long enough to
// stay ranges and many enough to move into bitmaps, around the borders of
// containers (2^16) and of bitmaps (2^32).
func TestOffsetSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.SampledFrom([]int64{0, 1<<16 - 300, 1<<32 - 300, 1<<40 - 70_000}).Draw(t, "base")
		const width = 140_000
		var s offsetSet
		want := make([]bool, width+1)
		check := func(i int64) {
			o := base + i
			if s.contains(o) != want[i] {
				t.Fatalf("contains(%d) is %t", o, !want[i])
			}
			present, absent := slices.Index(want[i:], true), slices.Index(want[i:], false)
			if got := s.nextPresent(o); present < 0 && got != none || present >= 0 && got != o+int64(present) {
				t.Fatalf("nextPresent(%d) is %d, want +%d", o, got, present)
			}
			if got := s.nextAbsent(o); got != o+int64(absent) {
				t.Fatalf("nextAbsent(%d) is %d, want +%d", o, got, absent)
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			from := rapid.Int64Range(0, width-1).Draw(t, "from")
			to := min(width, from+rapid.SampledFrom([]int64{1, 2, 100, 5000, 70_000}).Draw(t, "length"))
			if rapid.Bool().Draw(t, "dust") {
				// Every third offset: too many ranges to stay ranges.
				for o := from; o < min(to, from+600); o += 3 {
					s.addMissing(base+o, base+o+1)
					want[o] = true
				}
			}
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0, 1:
				added := int64(0)
				for o := from; o < to; o++ {
					if !want[o] {
						added++
						want[o] = true
					}
				}
				if got := s.addMissing(base+from, base+to); got != added {
					t.Fatalf("added %d, want %d", got, added)
				}
			case 2:
				s.remove(base+from, base+to)
				clear(want[from:to])
			}
			check(from)
			check(to)
			check(rapid.Int64Range(0, width-1).Draw(t, "probe"))
		}
		var size int64
		for _, in := range want {
			if in {
				size++
			}
		}
		if s.size != size {
			t.Fatalf("size %d, want %d", s.size, size)
		}
		var listed int64
		s.each(0, none, func(from, to int64) bool {
			for o := from; o < to; o++ {
				if !want[o-base] {
					t.Fatalf("%d is listed", o)
				}
			}
			listed += to - from
			return true
		})
		if listed != size {
			t.Fatalf("%d listed, want %d", listed, size)
		}
	})
}

// TestLongRangesCostNothing: what a peer or a damaged file claims about an
// enormous range must not be paid for in memory.
func TestLongRangesCostNothing(t *testing.T) {
	c := NewCursor(0)
	w := opWriter{buf: []byte{kindDelta, formatVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 1}}
	for i := range int64(100) {
		w.write(opAcquire, i, 1<<50+i, 0)
		w.write(opSchedule, 3*i<<40, (3*i+1)<<40, uint64(i))
		w.write(opPass, (3*i+1)<<40, (3*i+2)<<40, 0)
	}
	if err := c.Apply(w.buf); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Passed == 0 || s.Scheduled == 0 {
		t.Fatalf("nothing was applied: %+v", s)
	}
	if n := testing.AllocsPerRun(1, func() { _ = c.AppendSnapshot(nil) }); n > 100 {
		t.Fatalf("%v allocations for a snapshot", n)
	}
}
