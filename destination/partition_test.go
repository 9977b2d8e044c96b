package destination

import (
	"sync/atomic"
	"testing"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

func TestPartitionWatch(t *testing.T) {
	store, err := commitlog.Open(commitlog.NewMemFS(), commitlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	log, err := store.OpenLog(commitlog.LogID{Topic: [16]byte{1}}, "orders-0", commitlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewPartition(0, log, store.Epoch())
	var a, b atomic.Int64
	cancel := p.Watch(func() { a.Store(p.Stable()) })
	p.Watch(func() { b.Store(p.Stable()) })
	send := func() {
		w := newWaiter()
		if _, err := p.Append(deadLetter(1), w); err != nil {
			t.Fatal(err)
		}
		if err := <-w; err != nil {
			t.Fatal(err)
		}
	}
	send()
	if a.Load() != 1 || b.Load() != 1 {
		t.Errorf("watchers saw %d and %d", a.Load(), b.Load())
	}
	cancel()
	cancel()
	send()
	if a.Load() != 1 || b.Load() != 2 {
		t.Errorf("after cancel, watchers saw %d and %d", a.Load(), b.Load())
	}
	if batches, err := p.Read(0, 1<<20, nil); err != nil || len(batches) == 0 || p.Start() != 0 || p.End() != 2 || p.Epoch() != store.Epoch() {
		t.Errorf("%d bytes %v, start %d, end %d, epoch %d", len(batches), err, p.Start(), p.End(), p.Epoch())
	}
	if n := testing.AllocsPerRun(100, func() { p.notify(0) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestFormatExample is the example of docs/format/delivery-state.md.
func TestFormatExample(t *testing.T) {
	c := NewCursor(0)
	first, _ := c.AcquireRange(0, 256, 1, 0)
	if err := c.AcknowledgeRange(0, 100, first, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.Release(100, first+100, 1_700_000_000_000, false); err != nil {
		t.Fatal(err)
	}
	want := "\x01\x01\x80\x02\x81\x02" + "\x41\xff\x01" + "\x02\xff\x03\x63" + "\xc6\x80\xa0\xab\xfe\xf9\x62"
	if got := string(c.TakeDelta(nil)); got != want {
		t.Errorf("% x, want % x", got, want)
	}
}
