package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
)

// flip changes one bit of a file, durably.
func flip(t testing.TB, fsys FS, name string, at int64) {
	t.Helper()
	f, err := fsys.OpenFile(name, false)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t testing.TB, fsys FS, name string, p []byte) {
	t.Helper()
	f, err := fsys.OpenFile(name, true)
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(p, 0)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// crashed ends a store without a checkpoint, with all that was synced.
func crashed(s *Store, fsys *MemFS) *MemFS {
	fsys.Stop()
	_ = s.Close()
	return fsys.Crash(1)
}

// fill appends values one after the other, each confirmed, so that each is an entry of its own.
func fill(t testing.TB, l *Log, from, to int) (want []got) {
	for i := from; i < to; i++ {
		v := fmt.Sprintf("%04d%s", i, strings.Repeat("d", 100))
		want = append(want, got{put(t, l, batchOf(v, 1, int64(i))), v})
	}
	return want
}

// TestDamagedJournal shows S2: damage below what is known to be synced is named and set aside, and the rest is served;
// damage at the end is a torn tail and is cut.
func TestDamagedJournal(t *testing.T) {
	for _, at := range []int{0, 1, 10, 48, 49} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			fsys := NewMemFS()
			s := open(t, fsys, small())
			l, other := openLog(t, s, 1, Config{}), openLog(t, s, 2, Config{})
			put(t, other, batchOf("other", 1, 1))
			if err := s.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
			start := s.journal.position
			want := fill(t, l, 0, 50)
			size := (s.journal.position - start) / 50
			name := s.journal.current.name
			fsys = crashed(s, fsys)
			flip(t, fsys, name, start+int64(at)*size+200)
			s = open(t, fsys, small())
			damaged := s.Recovery().Damaged
			l = openLog(t, s, 1, Config{})
			switch {
			case at == 49: // no later entry says that it was synced
				if len(damaged) != 0 || l.End() != 49 {
					t.Errorf("a torn tail: end %d, damage %v", l.End(), damaged)
				}
			case at == 0:
				// The log's creation was in the damaged entry, so that nobody knows its directory.
				if len(damaged) == 0 || damaged[0].Dir != journalDir {
					t.Errorf("damage %v", damaged)
				}
			default:
				if len(damaged) != 2 || damaged[0].Dir != journalDir || damaged[0].Aside == "" || damaged[1].Dir != l.Dir() ||
					damaged[1].Offset != int64(at) || damaged[1].Next != int64(at)+1 {
					t.Fatalf("damage %v", damaged)
				}
				if _, err := fsys.Stat(damaged[0].Aside); err != nil {
					t.Error(err)
				}
				compare(t, readAll(t, l), append(append([]got{}, want[:at]...), want[at+1:]...))
			}
			compare(t, readAll(t, openLog(t, s, 2, Config{})), []got{{0, "other"}})
			put(t, l, batchOf("goes on", 1, 1))
			before, err := state(s)
			if err != nil {
				t.Fatal(err)
			}
			fsys = crashed(s, fsys)
			s = open(t, fsys, small())
			have, err := state(s)
			if err != nil {
				t.Fatal(err)
			}
			if d := differs(have, before); d != "" {
				t.Error(d)
			}
			closeStore(t, s)
		})
	}
}

// TestRecycledJournal shows that what a journal file holds of earlier uses is never taken for new.
func TestRecycledJournal(t *testing.T) {
	fsys := NewMemFS()
	o := small()
	o.JournalFiles = 2
	s := open(t, fsys, o)
	l := openLog(t, s, 1, Config{})
	want := fill(t, l, 0, 1000) // each file is used several times
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	want = append(want, fill(t, l, 1000, 1010)...)
	if s.journal.nextUse < 4 || s.Stats().JournalFiles > 2 {
		t.Fatalf("use %d of %d files", s.journal.nextUse, s.Stats().JournalFiles)
	}
	fsys = crashed(s, fsys)
	s = open(t, fsys, o)
	if r := s.Recovery(); len(r.Damaged) > 0 || r.Entries != 10 || r.TornBytes != 0 {
		t.Errorf("recovery %+v", r)
	}
	compare(t, readAll(t, openLog(t, s, 1, Config{})), want)
	closeStore(t, s)
}

// TestDamagedJournalHeader shows that one of the two headers is enough.
func TestDamagedJournalHeader(t *testing.T) {
	for _, at := range []int64{10, journalDataStart/2 + 10} {
		fsys := NewMemFS()
		s := open(t, fsys, small())
		want := fill(t, openLog(t, s, 1, Config{}), 0, 5)
		name := s.journal.current.name
		fsys = crashed(s, fsys)
		flip(t, fsys, name, at)
		s = open(t, fsys, small())
		compare(t, readAll(t, openLog(t, s, 1, Config{})), want)
		closeStore(t, s)
	}
}

// TestDamagedSegment shows S2 for what was checkpointed: a reader passes over it, and it is reported once and set aside.
func TestDamagedSegment(t *testing.T) {
	for _, active := range []bool{false, true} {
		for _, where := range []int64{8, 16, 100} { // the length, the magic byte, the records
			t.Run(fmt.Sprintf("active=%t/byte=%d", active, where), func(t *testing.T) {
				fsys := NewMemFS()
				s := open(t, fsys, small())
				c := Config{SegmentBytes: 5000}
				if active {
					c.SegmentBytes = 1 << 20
				}
				l := openLog(t, s, 1, c)
				want := fill(t, l, 0, 100)
				size := int64(len(batchOf(want[0].value, 1, 1)))
				closeStore(t, s)
				const bad = 17
				flip(t, fsys, segmentName(l.Dir(), 0, ".log"), bad*size+where)
				o := small()
				var reported []*DamagedError
				o.OnDamage = func(e *DamagedError) { reported = append(reported, e) }
				s = open(t, fsys, o)
				l = openLog(t, s, 1, c)
				for range 2 {
					compare(t, readAll(t, l), append(append([]got{}, want[:bad]...), want[bad+1:]...))
				}
				if len(reported) != 1 || s.Stats().Damaged != 1 {
					t.Fatalf("reported %v", reported)
				}
				e := reported[0]
				if e.Offset != bad || e.Next != bad+1 || e.Position != bad*size || e.Length != size {
					t.Errorf("damage %v", e)
				}
				if _, err := fsys.Stat(e.Aside); err != nil {
					t.Error(err)
				}
				for _, offset := range []int64{bad, bad + 1, bad + 50} {
					list, err := readFrom(l, offset, 100)
					if err != nil {
						t.Fatal(err)
					}
					compare(t, list, want[max(offset, bad+1):])
				}
				closeStore(t, s)
			})
		}
	}
}

// TestIndexFiles shows that missing, short, stale and damaged index files change nothing but the time.
func TestIndexFiles(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	c := Config{SegmentBytes: 40_000}
	l := openLog(t, s, 1, c)
	want := fill(t, l, 0, 1000)
	closeStore(t, s)
	zero, ones := make([]byte, 64), []byte(strings.Repeat("\xff", 60))
	for name, spoil := range map[string]func(FS, string){
		"missing": func(fsys FS, name string) { _ = fsys.Remove(name) },
		"empty":   func(fsys FS, name string) { overwrite(t, fsys, name, nil) },
		"zeros":   func(fsys FS, name string) { overwrite(t, fsys, name, zero) },
		"ones":    func(fsys FS, name string) { overwrite(t, fsys, name, ones) },
		"odd":     func(fsys FS, name string) { overwrite(t, fsys, name, []byte("odd")) },
		"short": func(fsys FS, name string) {
			p, err := readFile(fsys, name)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, fsys, name, p[:len(p)/24*12/8*8])
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fsys.Crash(1)
			entries, err := fsys.ReadDir(l.Dir())
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, e := range entries {
				if strings.HasSuffix(e.Name, "index") {
					spoil(fsys, path.Join(l.Dir(), e.Name))
					n++
				}
			}
			if n < 6 {
				t.Fatalf("%d index files", n)
			}
			s := open(t, fsys, small())
			l := openLog(t, s, 1, c)
			for _, offset := range []int64{999, 0, 500, 251, 750, 1} {
				list, err := readFrom(l, offset, 1000)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, list, want[offset:])
			}
			for _, i := range l.Segments()[:3] {
				if last := i.MaxTimestamp; last < i.Base || last > i.Base+300 {
					t.Errorf("segment %d: largest timestamp %d", i.Base, last)
				}
			}
			put(t, l, batchOf("on", 1, 1))
			closeStore(t, s)
		})
		fsys.mu.Lock()
		fsys.crashed = false // the next one starts from the same again
		fsys.mu.Unlock()
	}
}

// TestEmptyLastSegment shows that a segment may have been begun and not written.
func TestEmptyLastSegment(t *testing.T) {
	for _, memory := range []bool{false, true} {
		fsys := NewMemFS()
		s := open(t, fsys, small())
		c := Config{Memory: memory}
		l := openLog(t, s, 1, c)
		want := fill(t, l, 0, 10)
		closeStore(t, s)
		overwrite(t, fsys, segmentName(l.Dir(), 10, ".log"), nil)
		s = open(t, fsys, small())
		l = openLog(t, s, 1, c)
		compare(t, readAll(t, l), want)
		want = append(want, fill(t, l, 10, 20)...)
		closeStore(t, s)
		s = open(t, fsys, small())
		compare(t, readAll(t, openLog(t, s, 1, c)), want)
		closeStore(t, s)
	}
}

// TestCheckpointFiles shows that one copy is enough, that no copy is an error, and that a newer format is refused by name.
func TestCheckpointFiles(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	want := fill(t, openLog(t, s, 1, Config{}), 0, 10)
	closeStore(t, s)
	for _, name := range []string{checkpointName, checkpointCopy} {
		flip(t, fsys, name, 20)
		s = open(t, fsys, small())
		if d := s.Recovery().Damaged; len(d) != 1 || d[0].Segment != name {
			t.Errorf("damage %v", d)
		}
		compare(t, readAll(t, openLog(t, s, 1, Config{})), want)
		closeStore(t, s)
	}
	for _, name := range []string{checkpointName, checkpointCopy} {
		flip(t, fsys, name, 20)
	}
	if _, err := Open(fsys, small()); !errors.Is(err, ErrCheckpointDamaged) {
		t.Errorf("without a checkpoint: %v", err)
	}
	p, err := readFile(fsys, checkpointName)
	if err != nil {
		t.Fatal(err)
	}
	p[5]++
	overwrite(t, fsys, checkpointName, p)
	if _, err := Open(fsys, small()); !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), checkpointName) {
		t.Errorf("a newer checkpoint: %v", err)
	}
	fsys = NewMemFS()
	s = open(t, fsys, small())
	name := s.journal.current.name
	closeStore(t, s)
	f, err := fsys.OpenFile(name, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0, 9}, 4); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(fsys, small()); !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), name) {
		t.Errorf("a newer journal: %v", err)
	}
	for _, n := range []string{checkpointName, checkpointCopy} {
		if err := fsys.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// TestCleanPassesDamage shows that a damaged segment stays as it is and that those behind it are cleaned all the same.
func TestCleanPassesDamage(t *testing.T) {
	fsys := NewMemFS()
	s := open(t, fsys, small())
	l := openLog(t, s, 1, Config{SegmentBytes: 700})
	for i := range 20 {
		put(t, l, built(1000, fmt.Sprint(i%3), "v"+strings.Repeat("v", 50)))
	}
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	before := l.Segments()
	flip(t, fsys, segmentName(l.Dir(), before[1].Base, extensions[kindLog]), before[1].Bytes-5)
	clean := map[string]func() error{
		"compact": func() error { return l.Compact(context.Background(), 0, time.UnixMilli(1<<40)) },
		"clean": func() error {
			return l.Clean(context.Background(), func(r *record.Record) bool { return r.Offset == 0 })
		},
	}
	for _, name := range []string{"compact", "clean"} {
		if err := clean[name](); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var bytes int64
		after := l.Segments()
		for _, s := range after {
			if s.Base == before[1].Base {
				bytes = s.Bytes
			}
		}
		if bytes != before[1].Bytes {
			t.Errorf("%s: the damaged segment has %d bytes, before %d", name, bytes, before[1].Bytes)
		}
		if last := after[len(after)-2]; name == "clean" && last.Base > before[1].Base {
			t.Errorf("%s left segment %d", name, last.Base)
		}
	}
	closeStore(t, s)
}
