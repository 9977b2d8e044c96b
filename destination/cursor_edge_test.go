package destination

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// numbers are bytes of a header or of ops.
func numbers(kind byte, values ...uint64) []byte {
	b := []byte{kind, formatVersion}
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// withOps appends ops to a header.
func withOps(header []byte, write func(w *opWriter)) []byte {
	w := opWriter{buf: header}
	write(&w)
	return w.buf
}

// What is not as a cursor writes it is refused, and says why.
func TestDamagedDeliveryState(t *testing.T) {
	good := withOps(numbers(kindDelta, 10, 5), func(w *opWriter) { w.write(opAcquire, 2, 5, 0) })
	if err := NewCursor(0).Apply(good); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":             {nil, "cut short"},
		"kind alone":          {[]byte{kindDelta}, "cut short"},
		"kind 0":              {[]byte{0, formatVersion, 1, 1}, "kind 0, version 1"},
		"a part":              {[]byte{kindPart, formatVersion, 1, 1}, "kind 3, version 1"},
		"version 0":           {[]byte{kindDelta, 0, 1, 1}, "kind 1, version 0"},
		"header":              {[]byte{kindDelta, formatVersion, 1}, "bad varint"},
		"varint of 11 bytes":  {append([]byte{kindDelta, formatVersion}, slices.Repeat([]byte{0xff}, 11)...), "bad varint"},
		"next too large":      {numbers(kindDelta, maxOffset+1, 1), "number 4611686018427387904"},
		"cut in an op":        {good[:len(good)-1], "bad varint"},
		"op 0":                {append(numbers(kindDelta, 10, 5), 0), "op 0"},
		"op beyond the last":  {append(numbers(kindDelta, 10, 5), byte(opEnd), 0, 0), "op 16"},
		"op of a snapshot":    {withOps(numbers(kindDelta, 10, 5), func(w *opWriter) { w.write(opDone, 2, 3, 0) }), "op 14 is not expected here"},
		"count in a delta":    {withOps(numbers(kindDelta, 10, 5), func(w *opWriter) { w.write(opCount, 2, 3, 1) }), "op 15 is not expected here"},
		"seek in the middle":  {withOps(numbers(kindDelta, 10, 5), func(w *opWriter) { w.write(opPass, 2, 3, 0); w.write(opSeek, 4, 5, 0) }), "op 13 is not expected here"},
		"range beyond next":   {withOps(numbers(kindDelta, 10, 5), func(w *opWriter) { w.write(opPass, 8, 11, 0) }), "range of 3 from 8 beyond next 10"},
		"range from beyond":   {withOps(numbers(kindDelta, 10, 5), func(w *opWriter) { w.write(opPass, 11, 12, 0) }), "range of 1 from 11 beyond next 10"},
		"range below 0":       {withOps(numbers(kindDelta, 10, 5), func(w *opWriter) { w.write(opPass, -1, 1, 0) }), "range of 2 from -1 beyond next 10"},
		"length too large":    {append(numbers(kindDelta, 10, 5), byte(opPass)|flagAfter, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), "number 9223372036854775807"},
		"seek beyond next":    {withOps(numbers(kindDelta, 10, 5), func(w *opWriter) { w.write(opSeek, 11, 12, 0) }), "range of 1 from 11 beyond next 11"},
		"next before seek":    {withOps(numbers(kindDelta, 10, 5), func(w *opWriter) { w.write(opSeek, 12, 13, 0) }), "beyond next"},
		"floor behind next":   {numbers(kindSnapshot, 0, 6, 5, 1, 6, 0, 0), "start 0, floor 6, next 5"},
		"start behind floor":  {numbers(kindSnapshot, 3, 2, 5, 1, 0, 0, 0), "start 3, floor 2, next 5"},
		"more than counted":   {numbers(kindSnapshot, 0, 6, 8, 1, 3, 2, 0), "6 done, 5 accounted for"},
		"less than counted":   {numbers(kindSnapshot, 0, 6, 8, 1, 3, 2, 2), "6 done, 7 accounted for"},
		"snapshot cut":        {numbers(kindSnapshot, 0, 6, 8, 1, 3, 2), "bad varint"},
		"delta's op":          {withOps(numbers(kindSnapshot, 0, 0, 8, 1, 0, 0, 0), func(w *opWriter) { w.write(opAcquire, 2, 3, 0) }), "op 1 is not expected here"},
		"argument missing":    {append(numbers(kindSnapshot, 0, 0, 8, 1, 0, 0, 0), byte(opHold)|flagOne|flagAfter), "bad varint"},
		"due missing":         {append(numbers(kindSnapshot, 0, 0, 8, 1, 0, 0, 0), byte(opSchedule)|flagOne|flagAfter), "bad varint"},
		"transaction missing": {append(numbers(kindDelta, 10, 5), byte(opCommitHold)), "bad varint"},
	} {
		err := NewCursor(0).Apply(test.data)
		if !errors.Is(err, ErrDeliveryState) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	back := NewCursor(11)
	if err := back.Apply(numbers(kindDelta, 10, 5)); !errors.Is(err, ErrDeliveryState) || !strings.Contains(err.Error(), "next 10 goes back from 11") {
		t.Errorf("next goes back: %v", err)
	}
	same := NewCursor(10)
	if err := same.Apply(numbers(kindDelta, 10, 5)); err != nil {
		t.Errorf("next stays: %v", err)
	}
	if err := NewCursor(0).Apply([]byte{kindDelta, formatVersion + 1, 1, 1}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("a newer format: %v", err)
	}
}

func TestRestoreCursor(t *testing.T) {
	for _, data := range [][]byte{nil, {kindSnapshot}, numbers(kindDelta, 10, 5), numbers(kindSnapshot, 0, 6, 5, 1, 6, 0, 0)} {
		if c, err := RestoreCursor(data); c != nil || !errors.Is(err, ErrDeliveryState) {
			t.Errorf("% x: %v", data, err)
		}
	}
	if _, err := RestoreCursor([]byte{7, 9}); err == nil || !strings.Contains(err.Error(), "kind 7 where a snapshot begins") {
		t.Errorf("kind 7: %v", err)
	}
	c, err := RestoreCursor(numbers(kindSnapshot, 2, 6, 8, 33, 1, 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	want := CursorStats{Start: 2, Acknowledged: 1, Archived: 2, Passed: 1, Available: 2}
	if c.Floor() != 6 || c.Next() != 8 || c.Stats() != want || c.Dirty() {
		t.Errorf("floor %d, next %d, dirty %t, %+v", c.Floor(), c.Next(), c.Dirty(), c.Stats())
	}
	if number, count, ok := c.Acquire(6, 1, 0); number != 33 || count != 1 || !ok {
		t.Errorf("acquisition %d, count %d", number, count)
	}
}

// A delta that replaces what was there: nothing of it is left, not even numbers
// that would be smaller.
func TestApplySeek(t *testing.T) {
	a := NewCursor(0)
	a.BeginEpoch(1)
	a.AcquireRange(0, 20, 1, 0)
	a.Pass(30, 40)
	b := NewCursor(0)
	if err := b.Apply(a.TakeDelta(nil)); err != nil {
		t.Fatal(err)
	}
	a.SeekTo(5)
	a.AcquireRange(5, 7, 1, 0)
	if err := b.Apply(a.TakeDelta(nil)); err != nil {
		t.Fatal(err)
	}
	if got, want := b.Stats(), (CursorStats{Start: 5, Available: 2}); got != want || b.Floor() != 5 || b.Next() != 7 || b.Count(5) != 1 || b.Count(12) != 0 {
		t.Errorf("floor %d, next %d, %+v", b.Floor(), b.Next(), got)
	}
	first, _ := b.AcquireRange(7, 8, 1, 0)
	if again, _ := a.AcquireRange(7, 8, 1, 0); first != again || first != 1<<32+22 {
		t.Errorf("acquisitions %d and %d", first, again)
	}
	// A seek to the very end, and one below 0.
	a.SeekTo(8)
	if err := b.Apply(a.TakeDelta(nil)); err != nil || b.Floor() != 8 || b.Next() != 8 {
		t.Errorf("%v: floor %d, next %d", err, b.Floor(), b.Next())
	}
	if a.SeekTo(-3); a.Floor() != 0 || NewCursor(-3).Floor() != 0 {
		t.Errorf("floor %d", a.Floor())
	}
}

// Changes that nobody takes are a snapshot when they are too many, once.
func TestDeltaOverflow(t *testing.T) {
	c := NewCursor(0)
	begin := c.AppendSnapshot(nil)
	c.ScanTo(maxDelta) // more than there is room for
	for o := range c.Undone(0, maxDelta) {
		if len(c.delta.ops.buf) > maxDelta {
			break
		}
		c.Schedule(o, 1+o%7*1_000_000)
	}
	if c.delta.overflow {
		t.Fatal("too early")
	}
	full := c.Next()
	c.Archive(full + 4)
	if !c.delta.overflow || len(c.delta.ops.buf) != 0 || !c.Dirty() {
		t.Fatalf("overflow %t, %d bytes", c.delta.overflow, len(c.delta.ops.buf))
	}
	c.Archive(full + 6)
	if !c.delta.overflow || len(c.delta.ops.buf) != 0 {
		t.Fatal("what is too long goes on")
	}
	delta := c.TakeDelta([]byte("before"))
	data, ok := strings.CutPrefix(string(delta), "before")
	if !ok || data[0] != kindSnapshot || c.Dirty() || cap(c.delta.ops.buf) > keptDelta {
		t.Fatalf("kind %d, dirty %t, room for %d bytes kept", data[0], c.Dirty(), cap(c.delta.ops.buf))
	}
	other, err := RestoreCursor(begin)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Apply([]byte(data)); err != nil || other.Stats() != c.Stats() {
		t.Fatalf("%v: %+v, want %+v", err, other.Stats(), c.Stats())
	}
	c.Archive(full + 8)
	if next := c.TakeDelta(nil); len(next) > 20 || next[0] != kindDelta {
		t.Fatalf("% x", next)
	} else if err := other.Apply(next); err != nil || other.Stats() != c.Stats() || other.Next() != full+9 {
		t.Fatalf("%v: %+v, want %+v", err, other.Stats(), c.Stats())
	}
}

// What is dirty is what a delta has to say; it says it once.
func TestDirty(t *testing.T) {
	for name, change := range map[string]func(c *Cursor){
		"scan":        func(c *Cursor) { c.Scan(10) },
		"scan to":     func(c *Cursor) { c.ScanTo(11) },
		"acquire":     func(c *Cursor) { c.Acquire(0, 1, 0) },
		"pass":        func(c *Cursor) { c.Pass(2, 3) },
		"acknowledge": func(c *Cursor) { _ = c.Acknowledge(5, 1) },
		"seek":        func(c *Cursor) { c.SeekTo(10) },
	} {
		c := NewCursor(0)
		c.ScanTo(10)
		c.AcquireRange(5, 6, 1, 0)
		if c.TakeDelta(nil); c.Dirty() {
			t.Errorf("%s: dirty before", name)
		}
		change(c)
		if !c.Dirty() {
			t.Errorf("%s: not dirty", name)
		}
		delta := c.TakeDelta(nil)
		if len(delta) < 4 || delta[0] != kindDelta || delta[1] != formatVersion || c.Dirty() || c.TakeDelta(nil) != nil {
			t.Errorf("%s: % x", name, delta)
		}
	}
	c := NewCursor(0)
	c.ScanTo(5)
	if c.TakeDelta(nil); !slices.Equal(c.TakeDelta([]byte{1, 2}), []byte{1, 2}) {
		t.Error("something is appended to what was there")
	}
}

// What is refused changes nothing and says 0.
func TestRefusedChangesNothing(t *testing.T) {
	c := NewCursor(5)
	c.Acquire(5, 1, 0)
	c.Acknowledge(5, 1)
	c.AcquireRange(8, 10, 2, 0)
	c.Pass(12, 13)
	if err := c.HoldRange(9, 10, 3, 2, 7); err != nil { // 8 is acquired, 9 held, 12 done
		t.Fatal(err)
	}
	c.TakeDelta(nil)
	want := c.AppendSnapshot(nil)
	for name, change := range map[string]func() bool{
		"acquire below the floor":      func() bool { n, count, ok := c.Acquire(5, 1, 0); return ok || n != 0 || count != 0 },
		"acquire what is acquired":     func() bool { n, count, ok := c.Acquire(8, 1, 0); return ok || n != 0 || count != 0 },
		"acquire what is held":         func() bool { n, count, ok := c.Acquire(9, 1, 0); return ok || n != 0 || count != 0 },
		"acquire what is done":         func() bool { n, count, ok := c.Acquire(12, 1, 0); return ok || n != 0 || count != 0 },
		"acquire nothing":              func() bool { n, ok := c.AcquireRange(7, 7, 1, 0); return ok || n != 0 },
		"acquire a reverse range":      func() bool { n, ok := c.AcquireRange(8, 7, 1, 0); return ok || n != 0 },
		"acquire up to what is taken":  func() bool { n, ok := c.AcquireRange(6, 9, 1, 0); return ok || n != 0 },
		"acquire from below the floor": func() bool { n, ok := c.AcquireRange(5, 7, 1, 0); return ok || n != 0 },
		"acquire over what is done":    func() bool { n, ok := c.AcquireRange(10, 14, 1, 0); return ok || n != 0 },
		"schedule what is acquired":    func() bool { return c.Schedule(8, 1) },
		"schedule what is done":        func() bool { return c.Schedule(12, 1) },
		"archive what is held":         func() bool { return c.Archive(9) },
		"archive what is done":         func() bool { return c.Archive(12) },
		"archive up to what is held":   func() bool { return c.ArchiveRange(8, 10) },
		"archive up to what is done":   func() bool { return c.ArchiveRange(10, 13) },
		"archive below the floor":      func() bool { return c.ArchiveRange(5, 7) },
		"archive nothing":              func() bool { return c.ArchiveRange(20, 20) },
		"archive a reverse range":      func() bool { return c.ArchiveRange(21, 20) },
		"hold nothing":                 func() bool { return c.HoldRange(20, 20, 1, 1, 1) != nil },
		"acknowledge nothing":          func() bool { return c.AcknowledgeRange(20, 20, 1, 1) != nil },
		"release nothing":              func() bool { return c.ReleaseRange(20, 20, 1, 1, 0, true) != nil },
		"hold back nothing":            func() bool { c.HoldSend(20, 20, 1); c.HoldSend(21, 20, 1); c.HoldSend(2, 6, 1); return false },
		"end what is not held":         func() bool { return c.EndHold(8, true) != nil || c.EndHold(8, false) != nil },
		"end what is not held back":    func() bool { return c.EndSend(7, true) != nil || c.EndSend(7, false) != nil },
		"a holder of nothing":          func() bool { return c.ReleaseHolder(7, true) != nil },
		"the wrong holder":             func() bool { return c.AcknowledgeRange(8, 9, 2, 1) == nil },
		"the wrong number":             func() bool { return c.AcknowledgeRange(8, 9, 3, 2) == nil },
		"what is held already":         func() bool { return c.HoldRange(9, 10, 3, 2, 8) == nil },
		"beyond what is held":          func() bool { return c.AcknowledgeRange(8, 10, 2, 2) == nil },
		"what is not acquired":         func() bool { return c.Extend(10, 4, 9) == nil || c.Extend(30, 4, 9) == nil },
	} {
		if change() {
			t.Errorf("%s is permitted, or answered", name)
		}
		if got := c.AppendSnapshot(nil); !slices.Equal(got, want) || c.Dirty() {
			t.Fatalf("%s: % x, want % x", name, got, want)
		}
	}
	var stale *StaleTokenError
	if err := c.AcknowledgeRange(8, 10, 2, 2); !errors.As(err, &stale) || *stale != (StaleTokenError{9, 3}) || !errors.Is(err, ErrStaleToken) {
		t.Errorf("%v", err)
	}
	if err := c.CheckRange(20, 22, 7, 2); !errors.As(err, &stale) || *stale != (StaleTokenError{20, 7}) {
		t.Errorf("%v", err)
	}
}

// Numbers of an epoch are above all of those before, and stay where they are if
// they are above already.
func TestBeginEpoch(t *testing.T) {
	c := NewCursor(0)
	for _, step := range []struct {
		epoch int32
		want  uint64
	}{{0, 1}, {1, 1 << 32}, {1, 1<<32 + 1}, {0, 1<<32 + 2}, {3, 3 << 32}, {math.MaxInt32, math.MaxInt32 << 32}} {
		c.BeginEpoch(step.epoch)
		if n, _, ok := c.Acquire(c.Next(), 1, 0); n != step.want || !ok {
			t.Errorf("epoch %d: %d, want %d", step.epoch, n, step.want)
		}
	}
}

// The stretches that are available, whatever lies between, and as far as asked.
func TestUndoneRanges(t *testing.T) {
	c := NewCursor(2)
	c.ScanTo(20)
	c.AcquireRange(4, 6, 1, 0)
	c.Pass(8, 10)
	c.Schedule(10, 5)
	for _, test := range []struct {
		from, to int64
		want     []interval
	}{
		{0, none, []interval{{2, 4}, {6, 8}, {11, 20}}},
		{3, 7, []interval{{3, 4}, {6, 7}}},
		{4, 6, nil},
		{5, 7, []interval{{6, 7}}},
		{8, 11, nil},
		{9, 12, []interval{{11, 12}}},
		{0, 2, nil},
		{19, 25, []interval{{19, 20}}},
		{20, 25, nil},
		{7, 7, nil},
	} {
		var got []interval
		for from, to := range c.UndoneRanges(test.from, test.to) {
			got = append(got, interval{from, to})
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("[%d, %d): %v, want %v", test.from, test.to, got, test.want)
		}
	}
	for from := range c.UndoneRanges(0, none) {
		if from != 2 {
			t.Errorf("it goes on with %d", from)
		}
		break
	}
	for o := range c.Undone(0, none) {
		if o != 2 {
			t.Errorf("it goes on with %d", o)
		}
		break
	}
}

// Counts stay within what an int32 holds.
func TestCountsSaturate(t *testing.T) {
	var s counts
	s.put(0, 10, math.MaxInt32)
	s.put(10, 12, 1)
	s.put(20, 25, 0)  // of those never delivered there is nothing
	s.put(20, 25, -1) // nor of less
	if s.overlaps(20, 25) || s.overlaps(12, none) || !s.overlaps(11, 12) || s.overlaps(12, 12) {
		t.Error("what has a count")
	}
	s.add(5, 14, 1)
	s.add(8, 9, -1)
	for o, want := range []int32{0: math.MaxInt32, 7: math.MaxInt32, 8: math.MaxInt32 - 1, 9: math.MaxInt32, 10: 2, 11: 2, 12: 1, 13: 1, 14: 0} {
		if got, _ := s.at(int64(o)); got != want && (want != 0 || o == 14) {
			t.Errorf("offset %d: %d, want %d", o, got, want)
		}
	}
	s.add(10, 14, -2)
	if s.overlaps(10, none) {
		t.Error("counts below 1 are kept")
	}
	if _, end := s.at(6); end != 8 {
		t.Errorf("the stretch of 6 ends at %d", end)
	}
	if count, end := s.at(12); count != 0 || end != none {
		t.Errorf("count %d up to %d", count, end)
	}
	s.drop(0, none)
	if len(s.levels) != 0 {
		t.Errorf("%d levels of nothing", len(s.levels))
	}
}

// Two owners do not get each other's, and are listed in order.
func TestOwnersAreListed(t *testing.T) {
	c := NewCursor(0)
	first, _ := c.AcquireRange(0, 6, 1, 0)
	for i, txn := range []uint64{9, 3, 7} {
		if err := c.Hold(int64(2*i), first+uint64(2*i), txn); err != nil {
			t.Fatal(err)
		}
	}
	c.HoldSend(6, 8, 5)
	c.HoldSend(8, 9, 4)
	c.HoldSend(9, 12, 5)
	if got := c.Held(); !slices.Equal(got, []uint64{3, 7, 9}) {
		t.Errorf("held: %v", got)
	}
	if got := c.HeldSends(); !slices.Equal(got, []uint64{4, 5}) {
		t.Errorf("held sends: %v", got)
	}
	if from, to := c.HeldSend(5); from != 6 || to != 12 {
		t.Errorf("producer 5: [%d, %d)", from, to)
	}
	if from, to := c.HeldSend(6); from != 0 || to != 0 {
		t.Errorf("producer 6: [%d, %d)", from, to)
	}
	if got := c.EndSend(5, true); !slices.Equal(got, []int64{6, 7, 9, 10, 11}) {
		t.Errorf("ended: %v", got)
	}
	if got := c.EndHold(7, false); !slices.Equal(got, []int64{4}) || c.Count(4) != 1 {
		t.Errorf("ended: %v", got)
	}
}
