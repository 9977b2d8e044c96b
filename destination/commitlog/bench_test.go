package commitlog

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// gate bounds the appends in flight, and is their Waiter.
type gate struct {
	mu   sync.Mutex
	cond sync.Cond
	free int
	err  error
}

func newGate(n int) *gate {
	g := &gate{free: n}
	g.cond.L = &g.mu
	return g
}

func (g *gate) enter() {
	g.mu.Lock()
	for g.free == 0 {
		g.cond.Wait()
	}
	g.free--
	g.mu.Unlock()
}

func (g *gate) Committed(err error) {
	g.mu.Lock()
	g.free++
	if err != nil {
		g.err = err
	}
	g.cond.Signal()
	g.mu.Unlock()
}

func (g *gate) drain(n int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.free < n {
		g.cond.Wait()
	}
	return g.err
}

func benchStore(b *testing.B) *Store {
	fs, err := DirFS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s := open(b, fs, Options{Logger: quiet(), ReservedBytes: -1})
	b.Cleanup(func() { closeStore(b, s) })
	return s
}

var kilobyte = batchOf(string(make([]byte, 1024-61)), 1, 1)

// BenchmarkAppend appends batches of 1 KiB to one log, or to a hundred in turn, with so many in flight. The first line is
// the bare loop that it is to be compared with: an append of as many kilobytes to a preallocated file, and its fdatasync.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("bare/inflight=%d", n), func(b *testing.B) { benchBare(b, n) })
		for _, logs := range []int{1, 100} {
			b.Run(fmt.Sprintf("disk/logs=%d/inflight=%d", logs, n), func(b *testing.B) { benchAppend(b, logs, n, false) })
		}
		b.Run(fmt.Sprintf("memory/logs=1/inflight=%d", n), func(b *testing.B) { benchAppend(b, 1, n, true) })
	}
}

func benchBare(b *testing.B, n int) {
	fs, err := DirFS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = fs.Close() }()
	f, err := fs.OpenFile("bare", true)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	const size = 64 << 20
	for at := int64(0); at < size; at += int64(len(zeroes)) {
		if _, err := f.WriteAt(zeroes[:], at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, n<<10)
	b.SetBytes(1024)
	b.ResetTimer()
	at := int64(0)
	for i := 0; i < b.N; i += n {
		if at+int64(len(p)) > size {
			at = 0
		}
		if _, err := f.WriteAt(p, at); err != nil {
			b.Fatal(err)
		}
		at += int64(len(p))
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

func benchAppend(b *testing.B, logs, n int, memory bool) {
	s := benchStore(b)
	list := make([]*Log, logs)
	for i := range list {
		list[i] = openLog(b, s, i, Config{Memory: memory})
		put(b, list[i], kilobyte)
	}
	g := newGate(n)
	b.SetBytes(1024)
	b.ReportAllocs()
	before := s.Stats()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		g.enter()
		if _, err := list[i%logs].Append(kilobyte, g); err != nil {
			b.Fatal(err)
		}
	}
	if err := g.drain(n); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	after := s.Stats()
	if syncs := after.Syncs - before.Syncs; syncs > 0 {
		b.ReportMetric(float64(b.N)/float64(syncs), "appends/sync")
	}
}

// BenchmarkRead reads a log from its start to its end, in reads of 64 KiB, with the CRC check.
func BenchmarkRead(b *testing.B) {
	s := benchStore(b)
	l := openLog(b, s, 1, Config{})
	const count = 100_000
	g := newGate(512)
	for range count {
		g.enter()
		if _, err := l.Append(kilobyte, g); err != nil {
			b.Fatal(err)
		}
	}
	if err := g.drain(512); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1024)
	b.ReportAllocs()
	b.ResetTimer()
	buf := make([]byte, 0, 64<<10)
	offset := int64(0)
	for i := 0; i < b.N; {
		var err error
		if buf, err = l.Read(offset, 64<<10, buf[:0]); err != nil {
			b.Fatal(err)
		}
		n := len(buf) / len(kilobyte)
		if n == 0 {
			offset = 0
			continue
		}
		i += n
		offset += int64(n)
	}
}

// TestAppendDoesNotAllocate holds for the appender and the committer together, in steady state. What remains is the index,
// which grows with the bytes.
func TestAppendDoesNotAllocate(t *testing.T) {
	fs, err := DirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, fs, Options{JournalFileBytes: 64 << 20, ReservedBytes: -1, Logger: quiet(), CheckpointInterval: time.Hour})
	defer closeStore(t, s)
	l := openLog(t, s, 1, Config{})
	g := newGate(64)
	round := func() {
		for range 64 {
			g.enter()
			if _, err := l.Append(kilobyte, g); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.drain(64); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(50, round); n > 6 {
		t.Errorf("%.0f allocations in 64 appends", n)
	}
}
