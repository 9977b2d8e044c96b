package commitlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/polylog-mq/polylog/destination/record"
)

func TestRetain(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	c := Config{SegmentBytes: 1000}
	l := openLog(t, s, 1, c)
	fill(t, l, 0, 50) // timestamps are offsets, five batches in a segment
	segments := l.Segments()
	if len(segments) < 8 {
		t.Fatalf("%d segments", len(segments))
	}
	end := func(i int) int64 { return segments[i+1].Base }
	now := func(ms int64) time.Time { return time.UnixMilli(ms) }
	for _, step := range []struct {
		name  string
		p     Retention
		now   int64
		start int64
	}{
		{"nothing", Retention{Floor: math.MaxInt64}, 1 << 40, 0},
		{"age, held", Retention{Floor: 3, Age: time.Millisecond}, 1 << 40, 0},
		{"consumed", Retention{Floor: end(0) + 1, Consumed: true}, 0, end(0)},
		{"age", Retention{Floor: math.MaxInt64, Age: 10 * time.Millisecond}, end(1) + 10, end(1)},
		{"bytes, held", Retention{Floor: 0, Bytes: 1}, 0, end(1)},
		{"bytes", Retention{Floor: math.MaxInt64, Bytes: l.Bytes() - 3*segments[0].Bytes}, 0, end(2)},
		{"age, hard", Retention{Floor: 0, Hard: true, Age: time.Millisecond}, 1 << 40, segments[len(segments)-1].Base},
	} {
		before := l.Bytes()
		deleted, err := l.Retain(step.p, now(step.now))
		if err != nil {
			t.Fatal(step.name, err)
		}
		if l.Start() != step.start || before-l.Bytes() != deleted {
			t.Errorf("%s: start %d, want %d; %d deleted, %d less", step.name, l.Start(), step.start, deleted, before-l.Bytes())
		}
		if list := readAll(t, l); list[0].base != step.start {
			t.Errorf("%s: first record %d", step.name, list[0].base)
		}
		if _, err := l.Read(step.start-1, 1, nil); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("%s: below the start: %v", step.name, err)
		}
	}
	start := l.Start()
	fsys = crashed(s, fsys)
	s = open(t, fsys, small())
	if l = openLog(t, s, 1, c); l.Start() != start || l.End() != 50 {
		t.Errorf("start %d, end %d", l.Start(), l.End())
	}
	closeStore(t, s)
}

// built makes a batch of readable records: key and value, and timestamps from ms on.
func built(ms int64, pairs ...string) record.Batch {
	var w record.Builder
	for i := 0; i < len(pairs); i += 2 {
		value := []byte(pairs[i+1])
		if pairs[i+1] == "" {
			value = nil
		}
		w.Append(ms+int64(i/2), []byte(pairs[i]), value, nil)
	}
	return slices.Clone(w.Batch())
}

type readable struct {
	offset     int64
	key, value string
}

func records(t testing.TB, l *Log) (list []readable) {
	t.Helper()
	buf, err := l.Read(l.Start(), 1<<20, nil)
	for offset := l.Start(); err == nil && len(buf) > 0; buf, err = l.Read(offset, 1<<20, buf[:0]) {
		for rest := buf; len(rest) > 0; {
			b, tail, err := record.Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			var r record.Reader
			if err := r.Reset(b, 1<<20); err != nil {
				t.Fatal(err)
			}
			for r.Next() {
				m := r.Record()
				list = append(list, readable{m.Offset, string(m.Key), string(m.Value)})
			}
			if err := r.Err(); err != nil {
				t.Fatal(err)
			}
			offset, rest = b.NextOffset(), tail
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestOffsetForTime(t *testing.T) {
	s := open(t, NewMemFS(), small())
	defer closeStore(t, s)
	l := openLog(t, s, 1, Config{SegmentBytes: 2000})
	for i := range 200 {
		put(t, l, built(int64(1000+10*i), "a", "1", "b", "2")) // 1000+10i and 1001+10i
	}
	for _, c := range []struct{ ms, offset, timestamp int64 }{
		{0, 0, 1000},
		{1000, 0, 1000},
		{1001, 1, 1001},
		{1002, 2, 1010},
		{1500, 100, 1500},
		{1501, 101, 1501},
		{2991, 399, 2991},
		{2992, -1, -1},
	} {
		offset, timestamp, err := l.OffsetForTime(c.ms)
		if err != nil || offset != c.offset || timestamp != c.timestamp {
			t.Errorf("at %d: offset %d, timestamp %d, %v", c.ms, offset, timestamp, err)
		}
	}
	if err := l.AdvanceStart(150); err != nil {
		t.Fatal(err)
	}
	if offset, _, err := l.OffsetForTime(0); err != nil || offset != 150 {
		t.Errorf("above the start: %d, %v", offset, err)
	}
}

func TestCleanKeepsOffsets(t *testing.T) {
	for _, memory := range []bool{false, true} {
		fsys := NewMemFS()
		s := open(t, fsys, small())
		c := Config{SegmentBytes: 1500, Memory: memory}
		l := openLog(t, s, 1, c)
		for i := range 100 {
			put(t, l, built(1000, fmt.Sprint(3*i), "v"+strings.Repeat("v", 50), fmt.Sprint(3*i+1), "w", fmt.Sprint(3*i+2), "x"))
		}
		even := func(r *record.Record) bool { return r.Offset%2 == 0 && r.Offset > 50 }
		if !memory {
			if err := l.Clean(context.Background(), func(*record.Record) bool { t.Error("before a checkpoint"); return true }); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
		before := l.Bytes()
		if err := l.Clean(context.Background(), even); err != nil {
			t.Fatal(err)
		}
		if l.Bytes() >= before {
			t.Errorf("%d bytes after %d", l.Bytes(), before)
		}
		check := func(l *Log) {
			t.Helper()
			segments := l.Segments()
			active := segments[len(segments)-1].Base
			seen := map[int64]bool{}
			for _, r := range records(t, l) {
				if r.key != fmt.Sprint(r.offset) {
					t.Fatalf("record %v", r)
				}
				if r.offset < active && (r.offset%2 != 0 || r.offset <= 50) {
					t.Errorf("record %d is still there", r.offset)
				}
				seen[r.offset] = true
			}
			for i := range int64(300) {
				if (i >= active || i%2 == 0 && i > 50) && !seen[i] {
					t.Errorf("record %d is gone", i)
				}
			}
			if l.Start() != 0 || l.End() != 300 {
				t.Errorf("start %d, end %d", l.Start(), l.End())
			}
		}
		check(l)
		if err := l.Clean(context.Background(), even); err != nil {
			t.Fatal(err)
		}
		check(l)
		if !memory {
			fsys = crashed(s, fsys)
			s = open(t, fsys, small())
			check(openLog(t, s, 1, c))
		}
		closeStore(t, s)
	}
}

// TestCleanInterrupted crashes a cleaning at every call: each segment is the old one or the new one.
func TestCleanInterrupted(t *testing.T) {
	for n := 1; ; n++ {
		fsys := NewMemFS()
		s := open(t, fsys, small())
		c := Config{SegmentBytes: 700}
		l := openLog(t, s, 1, c)
		for i := range 20 {
			put(t, l, built(1000, fmt.Sprint(2*i), "v"+strings.Repeat("v", 50), fmt.Sprint(2*i+1), "w"))
		}
		if err := s.Checkpoint(context.Background()); err != nil {
			t.Fatal(err)
		}
		waitPrepared(s)
		fsys.StopAt(n)
		cleaned := l.Clean(context.Background(), func(r *record.Record) bool { return r.Offset%2 == 0 && r.Offset > 15 })
		fsys = crashed(s, fsys)
		s = open(t, fsys, small())
		l = openLog(t, s, 1, c)
		seen := map[int64]bool{}
		for _, r := range records(t, l) {
			if r.key != fmt.Sprint(r.offset) {
				t.Fatalf("call %d: record %v", n, r)
			}
			seen[r.offset] = true
		}
		for i := int64(16); i < 40; i += 2 {
			if !seen[i] {
				t.Errorf("call %d: record %d is gone", n, i)
			}
		}
		if s.Stats().Damaged > 0 || l.End() != 40 {
			t.Errorf("call %d: %d damaged, end %d", n, s.Stats().Damaged, l.End())
		}
		closeStore(t, s)
		if cleaned == nil {
			break
		}
	}
}

func TestCompact(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	l := openLog(t, s, 1, Config{SegmentBytes: 600, TombstoneAge: time.Hour})
	const day = 24 * 3600 * 1000
	for i := range 30 {
		put(t, l, built(int64(i), fmt.Sprint("k", i%7), fmt.Sprint("v", i), fmt.Sprint("only", i), "once"))
	}
	put(t, l, built(40, "k0", "", "k1", "")) // tombstones
	for i := range 20 {
		put(t, l, built(50, fmt.Sprint("filler", i), "f"))
	}
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := l.Compact(context.Background(), 0, time.UnixMilli(1000)); err != nil {
		t.Fatal(err)
	}
	last := func() map[string]string {
		m := map[string]string{}
		count := map[string]int{}
		for _, r := range records(t, l) {
			m[r.key] = r.value
			count[r.key]++
		}
		for k, n := range count {
			if n > 1 && !strings.HasPrefix(k, "filler") {
				t.Errorf("%s is there %d times", k, n)
			}
		}
		return m
	}
	m := last()
	if v, ok := m["k0"]; !ok || v != "" {
		t.Errorf("a young tombstone is gone: %q", v)
	}
	if m["k2"] != "v23" || m["only3"] != "once" || len(m) != 7+30+20 {
		t.Errorf("%d keys: %v", len(m), m)
	}
	if err := l.Compact(context.Background(), 0, time.UnixMilli(day)); err != nil {
		t.Fatal(err)
	}
	if _, ok := last()["k0"]; ok {
		t.Error("an old tombstone is still there")
	}
	closeStore(t, s)
}

// TestMemoryLogAfterCrash shows that a memory destination resumes past what its users have settled.
func TestMemoryLogAfterCrash(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	l := openLog(t, s, 1, Config{Memory: true})
	want := fill(t, l, 0, 20)
	syncs := s.Stats().Syncs
	if syncs != 0 {
		t.Errorf("%d syncs for a log in memory", syncs)
	}
	epoch := s.Epoch()
	fsys = crashed(s, fsys)
	s = open(t, fsys, small())
	l = openLog(t, s, 1, Config{Memory: true})
	list := readAll(t, l)
	for i := range list {
		if list[i] != want[i] {
			t.Errorf("batch %d: %v", i, list[i])
		}
	}
	if err := l.SkipTo(100); err != nil {
		t.Fatal(err)
	}
	if base := put(t, l, batchOf("next", 1, 1)); base != 100 {
		t.Errorf("base %d", base)
	}
	if s.Epoch() != epoch+1 {
		t.Errorf("epoch %d after %d", s.Epoch(), epoch)
	}
	if list, err := readFrom(l, 50, 100); err != nil || len(list) != 1 || list[0].base != 100 {
		t.Errorf("read over the gap: %v, %v", list, err)
	}
	closeStore(t, s)
}

func TestEpochs(t *testing.T) {
	fsys := NewMemFS()
	var want []EpochStart
	for i := range 4 {
		s := open(t, fsys, small())
		l := openLog(t, s, 1, Config{})
		want = append(want, EpochStart{s.Epoch(), l.End()})
		fill(t, l, 0, 5)
		if have, err := l.Epochs(); err != nil || !slices.Equal(have, want) {
			t.Errorf("epochs %v, want %v (%v)", have, want, err)
		}
		if i%2 == 0 {
			fsys = crashed(s, fsys)
		} else {
			closeStore(t, s)
		}
	}
	s := open(t, fsys, small())
	l := openLog(t, s, 1, Config{})
	if err := l.TruncateTo(12); err != nil {
		t.Fatal(err)
	}
	if have, err := l.Epochs(); err != nil || !slices.Equal(have, want[:3]) {
		t.Errorf("epochs %v, want %v (%v)", have, want[:3], err)
	}
	closeStore(t, s)
	p, err := readFile(fsys, l.Dir()+"/"+epochsName)
	if err != nil || string(p) != "0\n3\n0 0\n1 5\n2 10\n" {
		t.Errorf("file %q, %v", p, err)
	}
	p, err = readFile(fsys, l.Dir()+"/partition.metadata")
	if err != nil || string(p) != "version: 0\ntopic_id: AQAAAAAAAAAAAAAAAAAABw\n" {
		t.Errorf("file %q, %v", p, err)
	}
}

// produced is a batch of an idempotent producer.
func produced(id int64, epoch int16, sequence int32, count int, transactional bool) record.Batch {
	b := batchOf("p", count, 77)
	binary.BigEndian.PutUint64(b[43:], uint64(id))
	binary.BigEndian.PutUint16(b[51:], uint16(epoch))
	binary.BigEndian.PutUint32(b[53:], uint32(sequence))
	if transactional {
		b[22] |= 0x10
	}
	return sealed(b)
}

func TestProducers(t *testing.T) {
	fsys := NewMemFS()
	small := func() Options {
		o := small()
		o.Now = func() time.Time { return time.UnixMilli(77) }
		return o
	}
	s := open(t, fsys, small())
	l := openLog(t, s, 1, Config{SegmentBytes: 500})
	want := []Producer{
		{ID: 5, Epoch: 1, LastSequence: 59, LastOffset: -1, OffsetDelta: 2, Timestamp: 77, CoordinatorEpoch: -1, FirstOffset: -1},
		{ID: 9, Epoch: 0, LastSequence: 1, LastOffset: -1, OffsetDelta: 1, Timestamp: 77, CoordinatorEpoch: -1, FirstOffset: -1},
	}
	for i := range 20 {
		want[0].LastOffset = put(t, l, produced(5, 1, int32(3*i), 3, false)) + 2
	}
	want[1].FirstOffset = put(t, l, produced(9, 0, 0, 2, true))
	want[1].LastOffset = want[1].FirstOffset + 1
	check := func(l *Log) {
		t.Helper()
		have, err := l.Producers()
		for i := range have {
			// Of the batches before the last, those are known again that lie near the snapshot.
			for j, b := range have[i].Earlier {
				if last := int32(56 - 3*j); have[i].ID == 5 && b.Records > 0 && (b.LastSequence != last || b.LastOffset != int64(last)) {
					t.Errorf("batch %d before the last: %+v", j, b)
				}
			}
			if have[i].ID == 5 && have[i].Earlier[2].Records != 3 {
				t.Errorf("earlier batches are forgotten: %+v", have[i])
			}
			have[i].Earlier = [4]ProducerBatch{}
		}
		if err != nil || !slices.Equal(have, want) {
			t.Errorf("producers %+v, want %+v (%v)", have, want, err)
		}
	}
	check(l)
	fsys = crashed(s, fsys)
	s = open(t, fsys, small())
	check(openLog(t, s, 1, Config{}))
	closeStore(t, s)
	s = open(t, fsys, small())
	check(openLog(t, s, 1, Config{}))
	closeStore(t, s)
	p, err := readFile(fsys, segmentName(l.Dir(), 62, snapshotExtension))
	if list, ok := parseSnapshot(p); err != nil || !ok || !slices.Equal(list, want) {
		t.Errorf("snapshot %v, %v", list, err)
	}
}

// TestAdopt shows that a directory copied from a Kafka broker is served and appended to, and survives a crash.
func TestAdopt(t *testing.T) {
	source := NewMemFS()
	s := open(t, source, small())
	l := openLog(t, s, 1, Config{SegmentBytes: 1000})
	want := fill(t, l, 0, 30)
	closeStore(t, s)
	fsys := NewMemFS()
	if err := fsys.MkdirAll(l.Dir()); err != nil {
		t.Fatal(err)
	}
	entries, err := source.ReadDir(l.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name, ".log") || e.Name == "partition.metadata" {
			p, err := readFile(source, l.Dir()+"/"+e.Name)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, fsys, l.Dir()+"/"+e.Name, p)
		}
	}
	s = open(t, fsys, small())
	l = openLog(t, s, 1, Config{SegmentBytes: 1000})
	if l.End() != 30 {
		t.Errorf("end %d", l.End())
	}
	compare(t, readAll(t, l), want)
	want = append(want, fill(t, l, 30, 40)...)
	fsys = crashed(s, fsys)
	s = open(t, fsys, small())
	compare(t, readAll(t, openLog(t, s, 1, Config{})), want)
	closeStore(t, s)
}

// TestManyLogs shows that logs cost nothing before they are touched, and that the bound on open files holds.
func TestManyLogs(t *testing.T) {
	fsys := NewMemFS()
	o := small()
	o.MaxOpenFiles = 50
	s := open(t, fsys, o)
	if n := unsafe.Sizeof(Log{}) + unsafe.Sizeof(Config{}); n > 1024 {
		t.Errorf("%d bytes for each log", n)
	}
	const count = 10_000
	for i := range 300 {
		put(t, openLog(t, s, i, Config{}), batchOf(fmt.Sprint(i), 1, 1))
	}
	for i := range count {
		openLog(t, s, i, Config{})
	}
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().OpenFiles; n > 50 {
		t.Errorf("%d open files", n)
	}
	fsys = crashed(s, fsys)
	s = open(t, fsys, o)
	calls := fsys.Count(OpAny)
	for i := range count {
		openLog(t, s, i, Config{})
	}
	if n := fsys.Count(OpAny); n != calls || s.Stats().OpenFiles != 0 {
		t.Errorf("%d calls to open logs, %d open files", n-calls, s.Stats().OpenFiles)
	}
	for i := range 300 {
		compare(t, readAll(t, openLog(t, s, i, Config{})), []got{{0, fmt.Sprint(i)}})
	}
	closeStore(t, s)
}

// TestRefusals are the errors of an append, and of what reaches outside a log.
func TestRefusals(t *testing.T) {
	s := open(t, NewMemFS(), small())
	l := openLog(t, s, 1, Config{MaxBatchBytes: 200})
	fill(t, l, 0, 3)
	for name, c := range map[string]struct {
		batches []byte
		want    error
	}{
		"nothing":    {nil, record.ErrCorrupt},
		"garbage":    {[]byte(strings.Repeat("g", 100)), record.ErrCorrupt},
		"large":      {batchOf(strings.Repeat("l", 200), 1, 1), ErrTooLarge},
		"many bytes": {make([]byte, 20<<10), ErrTooLarge},
	} {
		if _, err := l.Append(c.batches, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.End() != 3 {
		t.Errorf("end %d", l.End())
	}
	for name, err := range map[string]error{
		"truncate above": l.TruncateTo(4), "start above": l.AdvanceStart(4), "truncate below": l.TruncateTo(-1),
	} {
		if !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, offset := range []int64{-1, 4} {
		if _, err := l.Read(offset, 1, nil); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("read at %d: %v", offset, err)
		}
	}
	for _, dir := range []string{"", ".", "..", "../x", "/x", "a/../../b", "journal", "damaged/x", "a-delete"} {
		if _, err := s.OpenLog(logID(9), dir, Config{}); err == nil {
			t.Errorf("directory %q", dir)
		}
	}
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(batchOf("x", 1, 1), nil); !errors.Is(err, ErrDeleted) {
		t.Errorf("append to a deleted log: %v", err)
	}
	if _, err := l.Read(0, 1, nil); !errors.Is(err, ErrDeleted) {
		t.Errorf("read of a deleted log: %v", err)
	}
	closeStore(t, s)
	if _, err := l.Append(batchOf("x", 1, 1), nil); err == nil {
		t.Error("append to a closed store")
	}
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}
