package kafka

import (
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
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

// KIP-98: a committed read never has a batch of an open transaction, also where
// the log grows while it is read: what it gives is committed, or listed as aborted.
func TestCommittedFetchWhileWritten(t *testing.T) {
	store, err := commitlog.Open(commitlog.NewMemFS(), commitlog.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	log, err := store.OpenLog(commitlog.LogID{Topic: [16]byte{1}}, "t-0", commitlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p := destination.NewPartition(0, log, store.Epoch())
	const producers, transactions = 4, 3000
	written := make(chan error, producers)
	for id := range int64(producers) {
		go func() {
			written <- func() error {
				w := make(synced, 1)
				for i := range transactions {
					var b record.Builder
					b.SetProducer(id, int16(i), 0, true)
					b.Append(0, nil, []byte("aborted"), nil)
					if _, err := p.Produce(b.Batch(), false, w); err != nil {
						return err
					}
					if err := <-w; err != nil {
						return err
					}
					if err := p.EndTransaction(id, int16(i), 0, false, w); err != nil {
						return err
					}
					if err := <-w; err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	f := &fetched{}
	for next := int64(0); next < 2*producers*transactions; {
		one := asked(0, -1, next, 1<<20)
		one.partition, one.committed = p, true
		f.records, f.vain = f.records[:0], 0
		f.read(&one, 1<<20)
		if one.code != codeNone {
			t.Fatalf("code %d at %d", one.code, next)
		}
		for rest := f.records[one.from:one.to]; len(rest) > 0; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				t.Fatal(err)
			}
			listed := slices.ContainsFunc(one.aborted, func(a destination.AbortedTransaction) bool { return a.FirstOffset == b.BaseOffset() })
			if !b.IsControl() && !listed {
				t.Fatalf("offset %d of an aborted transaction was given as committed; the last stable offset was %d", b.BaseOffset(), one.lastStable)
			}
			next = b.NextOffset()
		}
	}
	for range producers {
		if err := <-written; err != nil {
			t.Fatal(err)
		}
	}
}

type synced chan error

func (s synced) Committed(err error) { s <- err }
