package spill

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// memory is the log's file system that can be crashed, as a directory.
type memory struct{ *commitlog.MemFS }

func (m memory) OpenFile(name string, create bool) (file, error) {
	return m.MemFS.OpenFile(name, create)
}
func (m memory) SyncDir() error { return m.MemFS.SyncDir(".") }

func (m memory) ReadDir() ([]string, error) {
	entries, err := m.MemFS.ReadDir(".")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names, err
}

func (m memory) content(t testing.TB, name string) []byte {
	t.Helper()
	f, err := m.OpenFile(name, false)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// with returns a directory with the position of m and this one segment.
func (m memory) with(t testing.TB, name string, content []byte) memory {
	t.Helper()
	out := memory{commitlog.NewMemFS()}
	for n, b := range map[string][]byte{positionFile: m.content(t, positionFile), name: content} {
		f, err := out.OpenFile(n, true)
		if err == nil {
			_, err = f.WriteAt(b, 0)
		}
		if err == nil {
			err = f.Truncate(int64(len(b)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func texts(from, n int) []*entry {
	entries := make([]*entry, n)
	for i := range entries {
		m := polylog.NewText(fmt.Sprint(from + i))
		m.ID, m.Timestamp = fmt.Sprintf("ID:x-%d", from+i), int64(1000+from+i)
		entries[i] = &entry{item: item{Queue("q"), m}}
	}
	return entries
}

func mustOpen(t testing.TB, fs fileSystem, segmentBytes int64) *store {
	t.Helper()
	s, err := openStore(fs, segmentBytes)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustAppend(t testing.TB, s *store, entries []*entry) {
	t.Helper()
	if err := s.append(entries); err != nil {
		t.Fatal(err)
	}
}

// drainAll reads and confirms all there is.
func drainAll(t testing.TB, s *store) []string {
	t.Helper()
	var out []string
	for {
		items, err := s.read(7)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) == 0 {
			return out
		}
		for _, i := range items {
			out = append(out, i.message.Text())
		}
		if err := s.confirm(len(items)); err != nil {
			t.Fatal(err)
		}
	}
}

func numbers(from, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint(from+i))
	}
	return out
}

func segmentsOf(t testing.TB, fs fileSystem) []string {
	t.Helper()
	names, err := fs.ReadDir()
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, segmentSuffix) })
	slices.Sort(names)
	return names
}

// Everything that a message can have comes back.
func TestAStoredMessageIsWhatItWas(t *testing.T) {
	m := polylog.NewText("body")
	m, err := m.With(polylog.WithPriority(9), polylog.WithCorrelationID("c"), polylog.WithType("t"), polylog.WithReplyTo("r"), polylog.WithGroup("g"),
		polylog.WithTTL(1e12), polylog.WithDelay(1e12), polylog.NonPersistent(),
		polylog.WithProperty("bool", true), polylog.WithProperty("byte", int8(1)), polylog.WithProperty("short", int16(2)), polylog.WithProperty("int", int32(3)),
		polylog.WithProperty("long", int64(4)), polylog.WithProperty("float", float32(5.5)), polylog.WithProperty("double", 6.5), polylog.WithProperty("string", "s"),
		polylog.WithProperty("bytes", []byte{0xff, 0}))
	if err != nil {
		t.Fatal(err)
	}
	m.ID = "ID:x-1"
	empty, err := polylog.NewMessage().With()
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, memory{commitlog.NewMemFS()}, 1<<20)
	mustAppend(t, s, []*entry{{item: item{Topic("news"), m}}, {item: item{Queue("q"), empty}}})
	items, err := s.read(10)
	if err != nil || len(items) != 2 {
		t.Fatal(items, err)
	}
	got := items[0].message
	got.Offset = 0
	if items[0].to != Topic("news") || !reflect.DeepEqual(got, m) {
		t.Errorf("to %s:\n%#v, not\n%#v", items[0].to, got, m)
	}
	if items[1].to != Queue("q") || items[1].message.Kind != polylog.BodyNone {
		t.Errorf("%s %#v", items[1].to, items[1].message)
	}
}

func TestSegmentsComeAndGo(t *testing.T) {
	fs := memory{commitlog.NewMemFS()}
	s := mustOpen(t, fs, 400)
	for n := range 20 {
		mustAppend(t, s, texts(10*n, 10))
	}
	if n := len(segmentsOf(t, fs)); n < 5 {
		t.Fatalf("%d segments", n)
	}
	items, err := s.read(15)
	if err != nil || len(items) != 15 {
		t.Fatalf("%d, %v", len(items), err)
	}
	before := s.used()
	if err := s.confirm(5); err != nil {
		t.Fatal(err)
	}
	// Half of a batch is confirmed: so it is after opening again, and no room is free.
	if s.used() != before || s.pending() != 195 {
		t.Error(s.used(), before, s.pending())
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, fs, 400)
	if s.used() != before {
		t.Errorf("%d bytes, then %d", before, s.used())
	}
	mustAppend(t, s, texts(200, 3))
	if got := drainAll(t, s); !slices.Equal(got, numbers(5, 198)) {
		t.Errorf("%q", got)
	}
	if names := segmentsOf(t, fs); len(names) > 0 || s.used() != 0 || s.pending() != 0 {
		t.Error(names, s.used(), s.pending())
	}
	mustAppend(t, s, texts(203, 2))
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if got := drainAll(t, mustOpen(t, fs, 400)); !slices.Equal(got, numbers(203, 2)) {
		t.Errorf("%q", got)
	}
}

// A last write that ends at any byte, or of which any byte is not there, is cut
// off, and nothing in front of it.
func TestATornTailIsCut(t *testing.T) {
	fs := memory{commitlog.NewMemFS()}
	s := mustOpen(t, fs, 1<<20)
	mustAppend(t, s, texts(0, 3))
	safe := int(s.used())
	mustAppend(t, s, texts(3, 3))
	name := segmentsOf(t, fs)[0]
	whole := fs.content(t, name)
	check := func(what string, content []byte, want int) {
		t.Helper()
		fs := fs.with(t, name, content)
		s := mustOpen(t, fs, 1<<20)
		mustAppend(t, s, texts(want, 2))
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if got := drainAll(t, mustOpen(t, fs, 1<<20)); !slices.Equal(got, numbers(0, want+2)) {
			t.Errorf("%s: %q", what, got)
		}
	}
	for end := safe; end < len(whole); end++ {
		check(fmt.Sprintf("cut at %d", end), whole[:end], 3)
	}
	for at := safe; at < len(whole); at++ {
		if at >= safe+12 && at < safe+16 {
			continue // the leader epoch, which means nothing here
		}
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x55
		check(fmt.Sprintf("damage at %d", at), damaged, 3)
	}
	check("whole", whole, 6)
	check("zeros behind it", append(bytes.Clone(whole), make([]byte, 1000)...), 6)
	// A header that was being written.
	for end := range segmentHeader {
		check(fmt.Sprintf("header cut at %d", end), whole[:end], 0)
	}
}

// What had been safe and is not there any more is never passed over.
func TestDamageIsNamed(t *testing.T) {
	fs := memory{commitlog.NewMemFS()}
	s := mustOpen(t, fs, 1<<20)
	mustAppend(t, s, texts(0, 3))
	second := int(s.used())
	mustAppend(t, s, texts(3, 3))
	name := segmentsOf(t, fs)[0]
	whole := fs.content(t, name)
	for at := range second {
		if at >= segmentHeader+12 && at < segmentHeader+16 {
			continue // the leader epoch
		}
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x55
		_, err := openStore(fs.with(t, name, damaged), 1<<20)
		var c *CorruptError
		if at >= 8 && at < 12 { // the version: a newer one
			if !errors.Is(err, ErrNewerVersion) {
				t.Errorf("damage at %d: %v", at, err)
			}
			continue
		}
		if !errors.As(err, &c) || !errors.Is(err, ErrCorrupt) || c.File != name {
			t.Fatalf("damage at %d: %v", at, err)
		}
	}
	// So is a file under another one's name.
	other := fs.with(t, name, whole)
	if err := other.Rename(name, segmentName(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(other, 1<<20); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "name says") {
		t.Error(err)
	}
	// In a segment that is not the last, any damage is one.
	fs = memory{commitlog.NewMemFS()}
	s = mustOpen(t, fs, 100)
	mustAppend(t, s, texts(0, 3))
	mustAppend(t, s, texts(3, 3))
	first := segmentsOf(t, fs)[0]
	f, err := fs.OpenFile(first, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(s.segments[0].size - 1); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, fs, 100)
	if _, err := s.read(10); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), first) {
		t.Error(err)
	}
	if err := f.Truncate(3); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(fs, 100); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), first) {
		t.Error(err)
	}
}

func TestANewerVersionIsRefusedByName(t *testing.T) {
	fs := memory{commitlog.NewMemFS()}
	s := mustOpen(t, fs, 1<<20)
	mustAppend(t, s, texts(0, 1))
	for _, name := range []string{positionFile, segmentsOf(t, fs)[0]} {
		f, err := fs.OpenFile(name, false)
		if err != nil {
			t.Fatal(err)
		}
		old := make([]byte, 4)
		if _, err := f.ReadAt(old, 8); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(binary.BigEndian.AppendUint32(nil, 2), 8); err != nil {
			t.Fatal(err)
		}
		if _, err := openStore(fs, 1<<20); !errors.Is(err, ErrNewerVersion) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := f.WriteAt(old, 8); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := parseDestination([]byte{2, 'q', 'x'}); !errors.Is(err, ErrNewerVersion) || !strings.Contains(err.Error(), headerName) {
		t.Error(err)
	}
	mustOpen(t, fs, 1<<20)
}

// A batch of another file, in a message's body, is none of this one's.
func TestABatchInABodyIsABody(t *testing.T) {
	fs := memory{commitlog.NewMemFS()}
	s := mustOpen(t, fs, 1<<20)
	var w record.Builder
	b, err := encode(&w, texts(1, 1), 1, s.position.done)
	if err != nil {
		t.Fatal(err)
	}
	m := polylog.NewBytes(bytes.Clone(b))
	mustAppend(t, s, texts(0, 1))
	safe := s.used()
	mustAppend(t, s, []*entry{{item: item{Queue("q"), m}}})
	name := segmentsOf(t, fs)[0]
	content := fs.content(t, name)
	content[safe+record.HeaderSize]++ // tears the batch, not what is in it
	if got := drainAll(t, mustOpen(t, fs.with(t, name, content), 1<<20)); !slices.Equal(got, numbers(0, 1)) {
		t.Errorf("%q", got)
	}
}

// A full disk refuses a message, keeps what it has, and takes again when there is
// room.
func TestAFullDisk(t *testing.T) {
	fs := memory{commitlog.NewMemFS()}
	s := mustOpen(t, fs, 8<<10)
	fs.SetCapacity(64 << 10)
	stored, refused := 0, 0
	for refused < 3 {
		switch err := s.append(texts(stored, 20)); {
		case err == nil:
			stored += 20
		case errors.Is(err, ErrFull) && errors.Is(err, syscall.ENOSPC):
			refused++
		default:
			t.Fatal(err)
		}
	}
	items, err := s.read(1)
	if err != nil || stored == 0 {
		t.Fatal(stored, err)
	}
	confirmed := 0
	for confirmed < stored/2 {
		if err := s.confirm(len(items)); err != nil {
			t.Fatal(err)
		}
		confirmed += len(items)
		if items, err = s.read(20); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, s, texts(stored, 5))
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if got := drainAll(t, mustOpen(t, fs, 8<<10)); !slices.Equal(got, numbers(confirmed, stored+5-confirmed)) {
		t.Errorf("from %d to %d: %q", confirmed, stored+5, got)
	}
}

// After a failed sync nothing is safe, and it says so.
func TestAFailedSyncIsForGood(t *testing.T) {
	fs := memory{commitlog.NewMemFS()}
	s := mustOpen(t, fs, 8<<10)
	mustAppend(t, s, texts(0, 1))
	fs.FailNth(commitlog.OpSync, 1, syscall.EIO)
	if err := s.append(texts(1, 1)); !errors.Is(err, errBroken) || errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

// The producer of a disk that is full takes messages again when it has room; that of
// a disk that has failed takes none, and says why.
func TestAProducersDisk(t *testing.T) {
	fs := memory{commitlog.NewMemFS()}
	away := errors.New("away")
	p, err := open(fs, "polylog://test", Options{Patience: time.Millisecond, Connect: []polylog.Option{
		polylog.WithDialer(func(context.Context) (net.Conn, error) { return nil, away }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	put := func() error {
		r, err := p.Send(t.Context(), Queue("q"), polylog.NewText("x"))
		if err == nil && !r.Spilled {
			t.Errorf("%+v", r)
		}
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	fs.SetCapacity(fs.Used())
	sent := int64(1)
	for ; sent < 1000; sent++ {
		if err = put(); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) || p.Pending() != sent {
		t.Fatalf("%d pending of %d: %v", p.Pending(), sent, err)
	}
	fs.SetCapacity(0)
	if err := put(); err != nil {
		t.Fatal(err)
	}
	fs.FailNth(commitlog.OpSync, 1, syscall.EIO)
	for range 2 {
		if err := put(); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrFull) {
			t.Error(err)
		}
	}
	if err := p.Flush(t.Context()); !errors.Is(err, syscall.EIO) || !errors.Is(p.Err(), syscall.EIO) {
		t.Error(err, p.Err())
	}
	if err := p.Close(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	// What was safe before is there.
	s := mustOpen(t, fs, 1<<20)
	if n := s.pending(); n < sent+1 || n > sent+2 {
		t.Errorf("%d pending, of %d that were safe", n, sent+1)
	}
}

// No file makes it panic, or take more memory than the file has.
func FuzzSegment(f *testing.F) {
	fs := memory{commitlog.NewMemFS()}
	s := mustOpen(f, fs, 1<<20)
	mustAppend(f, s, texts(0, 3))
	mustAppend(f, s, texts(3, 2))
	name := segmentsOf(f, fs)[0]
	whole := fs.content(f, name)
	f.Add(whole, uint16(0), byte(0))
	for at := range whole {
		f.Add(whole[:at], uint16(at/2), byte(at))
	}
	f.Fuzz(func(t *testing.T, content []byte, at uint16, flip byte) {
		content = bytes.Clone(content)
		if int(at) < len(content) {
			content[at] ^= flip
		}
		fs := fs.with(t, name, content)
		s, err := openStore(fs, 1<<20)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerVersion) {
				t.Fatal(err)
			}
			return
		}
		before := s.pending()
		mustAppend(t, s, texts(int(before), 2))
		if items, err := s.read(10); err != nil && !errors.Is(err, ErrCorrupt) || err == nil && len(items) == 0 {
			t.Fatal(items, err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if again := mustOpen(t, fs, 1<<20).pending(); again != before+2 {
			t.Fatalf("%d pending, and then %d", before+2, again)
		}
	})
}

// Whatever call the power goes at: what was safe is there, in order and without a
// gap; what was confirmed comes again, if it does, in one piece in front of it.
func TestAPowerCutAtEveryCall(t *testing.T) {
	for seed := range uint64(12) {
		for at := 1; ; at++ {
			if !powerCut(t, seed, at) {
				break
			}
		}
	}
}

func powerCut(t *testing.T, seed uint64, at int) (more bool) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	fs := memory{commitlog.NewMemFS()}
	fs.StopAt(at)
	safe, tried, confirmed := 0, 0, 0
	s, err := openStore(fs, 600)
	for step := 0; err == nil; step++ {
		if step == 60 {
			return false
		}
		if rnd.IntN(5) < 2 {
			n := 1 + rnd.IntN(8)
			tried = safe + n
			if err = s.append(texts(safe, n)); err == nil {
				safe = tried
			}
			continue
		}
		var items []item
		if items, err = s.read(1 + rnd.IntN(6)); err == nil && len(items) > 0 {
			if got := items[0].message.Text(); got != fmt.Sprint(confirmed) {
				t.Fatalf("seed %d, call %d: %s where %d is next", seed, at, got, confirmed)
			}
			confirmed += len(items)
			err = s.confirm(len(items))
		}
	}
	for again := range uint64(3) {
		after := memory{fs.Crash(seed*31 + uint64(at)*7 + again)}
		s, err := openStore(after, 600)
		if err != nil {
			t.Fatalf("seed %d, call %d, crash %d: %v", seed, at, again, err)
		}
		got := drainAll(t, s)
		from := safe // nothing is left: all was confirmed
		if len(got) > 0 {
			if _, err := fmt.Sscan(got[0], &from); err != nil {
				t.Fatal(err)
			}
		}
		end := from + len(got)
		if from > confirmed || len(got) > 0 && (end < safe || end > tried) || !slices.Equal(got, numbers(from, len(got))) {
			t.Fatalf("seed %d, call %d, crash %d: confirmed %d, safe %d, tried %d, and there is %q", seed, at, again, confirmed, safe, tried, got)
		}
	}
	return true
}
