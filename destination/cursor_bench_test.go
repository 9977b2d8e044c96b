package destination

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkCursorRanges is a queue at full speed: batches of 256 acquired and
// acknowledged by eight consumers side by side, deltas taken. One op is a record.
func BenchmarkCursorRanges(b *testing.B) {
	const batch, consumers = 256, 8
	type delivery struct {
		from  int64
		first uint64
	}
	c := NewCursor(0)
	var flight [consumers]delivery
	var buf []byte
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		i := n / batch * 5 % consumers // not in order
		if d := flight[i]; d.first > 0 {
			if err := c.AcknowledgeRange(d.from, d.from+batch, d.first, Holder(i)); err != nil {
				b.Fatal(err)
			}
		}
		from := c.Next()
		first, ok := c.AcquireRange(from, from+batch, Holder(i), 0)
		if !ok {
			b.Fatal("not acquired")
		}
		flight[i] = delivery{from, first}
		buf = c.TakeDelta(buf[:0])
	}
}

// BenchmarkCursorRecords is one record at a time, in order, with a delta for
// every acquisition and every acknowledgement.
func BenchmarkCursorRecords(b *testing.B) {
	c := NewCursor(0)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		o := c.Next()
		acquisition, _, _ := c.Acquire(o, 1, 0)
		buf = c.TakeDelta(buf[:0])
		if err := c.Acknowledge(o, acquisition); err != nil {
			b.Fatal(err)
		}
		buf = c.TakeDelta(buf[:0])
	}
}

// BenchmarkCursorRandom acknowledges at random among 10,000 in flight.
func BenchmarkCursorRandom(b *testing.B) {
	type delivery struct {
		offset      int64
		acquisition uint64
	}
	c := NewCursor(0)
	r := rand.New(rand.NewPCG(1, 2))
	flight := make([]delivery, 10_000)
	for i := range flight {
		flight[i].offset = c.Next()
		flight[i].acquisition, _, _ = c.Acquire(c.Next(), Holder(i%8), 0)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		i := r.IntN(len(flight))
		if err := c.Acknowledge(flight[i].offset, flight[i].acquisition); err != nil {
			b.Fatal(err)
		}
		flight[i].offset = c.Next()
		flight[i].acquisition, _, _ = c.Acquire(c.Next(), Holder(i%8), 0)
		buf = c.TakeDelta(buf[:0])
	}
}

// BenchmarkSnapshotScheduled writes and reads back 100,000 delayed messages.
func BenchmarkSnapshotScheduled(b *testing.B) {
	c := NewCursor(0)
	for i := range int64(100_000) {
		c.Schedule(i, 1_700_000_000_000+i*7919%86_400_000)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = c.AppendSnapshot(buf[:0])
		if _, err := RestoreCursor(buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(buf))/100_000, "bytes/message")
}
