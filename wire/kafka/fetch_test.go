package kafka

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination/record"
)

// manyNamed is how many partitions the tests of this file name in one request.
const manyNamed = 100_000

// allocated is what f allocates, bytes, together with the broker.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestFetchOfManyIsBounded names 100,000 partitions, all of which have more than
// is left of MaxBytes: the answer keeps to it, its first batch apart, and what
// it costs does not grow with the records.
func TestFetchOfManyIsBounded(t *testing.T) {
	r := newRig(t)
	r.create("t", "partitions=100")
	c := r.dial()
	var named []int32
	for i := range int32(100) {
		for range 2 {
			if a := c.produce("t", i, batch(strings.Repeat("v", 100_000))); a.ErrorCode != 0 {
				t.Fatal(a.ErrorCode)
			}
		}
	}
	for i := range int32(manyNamed) {
		named = append(named, i%100)
	}
	for _, is := range []struct {
		epoch   int32
		limit   int32
		batches int
	}{{openFetchSession, 1, 1}, {closeFetchSession, 350_000, 3}, {openFetchSession, 1 << 20, 10}} {
		q := fetchIn(0, is.epoch, "t", [16]byte{}, 0, named...)
		q.MaxBytes = is.limit
		batches, bytes := 0, 0
		cost := allocated(func() {
			a := ask[*kmsg.FetchResponse](c, q, 12)
			if n := len(a.Topics[0].Partitions); n != manyNamed {
				t.Errorf("%d partitions", n)
			}
			for _, p := range a.Topics[0].Partitions {
				bytes += len(p.RecordBatches)
				for rest := p.RecordBatches; len(rest) > 0; batches++ {
					var err error
					if _, rest, err = record.Next(rest); err != nil {
						t.Fatal(err)
					}
				}
				if p.ErrorCode != 0 || p.HighWatermark != 2 {
					t.Fatalf("code %d, high watermark %d", p.ErrorCode, p.HighWatermark)
				}
			}
		})
		if batches != is.batches || bytes > int(is.limit) && batches > 1 {
			t.Errorf("of %d bytes: %d in %d batches", is.limit, bytes, batches)
		}
		// The client's half, request and answer, is most of it.
		if cost > 250<<20 {
			t.Errorf("%d bytes cost %d MiB", is.limit, cost>>20)
		}
	}
}

// TestFetchWaitsForMany shows that to wait for one partition that is named
// 100,000 times costs no more than to wait for it once.
func TestFetchWaitsForMany(t *testing.T) {
	r := newRig(t)
	r.create("t")
	c := r.dial()
	q := fetchIn(0, closeFetchSession, "t", [16]byte{}, 0, slices.Repeat([]int32{0}, manyNamed)...)
	q.MaxWaitMillis = 1
	cost := allocated(func() {
		if n := len(ask[*kmsg.FetchResponse](c, q, 12).Topics[0].Partitions); n != manyNamed {
			t.Errorf("%d partitions", n)
		}
	})
	if cost > 250<<20 {
		t.Errorf("cost %d MiB", cost>>20)
	}
}

// TestFetchKeepsLittle shows that what is kept for the next answer has a bound.
func TestFetchKeepsLittle(t *testing.T) {
	f := &fetched{
		partitions: make([]fetchedPartition, 1, keptPartitions+1), head: make([]byte, 10),
		records: make([]byte, keptFetch+1),
	}
	f.release()
	if cap(f.partitions) > 0 || cap(f.head) > 0 || cap(f.records) > 0 {
		t.Errorf("kept are %d partitions, %d and %d bytes", cap(f.partitions), cap(f.head), cap(f.records))
	}
	f = &fetched{partitions: make([]fetchedPartition, 1, keptPartitions), head: make([]byte, 10), records: make([]byte, keptFetch)}
	f.release()
	if cap(f.partitions) != keptPartitions || cap(f.head) != 10 || cap(f.records) != keptFetch {
		t.Errorf("kept are %d partitions, %d and %d bytes", cap(f.partitions), cap(f.head), cap(f.records))
	}
}
