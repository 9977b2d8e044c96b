package destination

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// producersRig is a partition that Kafka's producers write to.
type producersRig struct {
	t     testing.TB
	fs    *commitlog.MemFS
	store *commitlog.Store
	p     *Partition
}

func openProducers(t testing.TB, fs *commitlog.MemFS) *producersRig {
	t.Helper()
	store, err := commitlog.Open(fs, commitlog.Options{
		JournalFileBytes: 1 << 20, CheckpointInterval: time.Hour, ReservedBytes: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := store.OpenLog(commitlog.LogID{Topic: [16]byte{1}}, "t-0", commitlog.Config{SegmentBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return &producersRig{t, fs, store, NewPartition(0, log, store.Epoch())}
}

func (r *producersRig) close() {
	r.t.Helper()
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// crash is a power cut and a restart.
func (r *producersRig) crash(seed uint64) *producersRig {
	r.fs.Stop()
	_ = r.store.Close()
	return openProducers(r.t, r.fs.Crash(seed))
}

// sentBatch is one of a producer.
func sentBatch(id int64, epoch int16, sequence int32, records int, transactional bool) record.Batch {
	var b record.Builder
	for i := range records {
		b.Append(time.Now().UnixMilli(), nil, fmt.Appendf(nil, "%d.%d", id, int(sequence)+i), nil)
	}
	b.SetProducer(id, epoch, sequence, transactional)
	return b.Batch()
}

func (r *producersRig) send(b record.Batch) int64 {
	r.t.Helper()
	w := newWaiter()
	base, err := r.p.Produce(b, false, w)
	if err == nil {
		err = <-w
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return base
}

func (r *producersRig) end(id int64, epoch int16, commit bool) {
	r.t.Helper()
	w := newWaiter()
	err := r.p.EndTransaction(id, epoch, 0, commit, w)
	if err == nil {
		err = <-w
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *producersRig) wantStable(want int64) {
	r.t.Helper()
	if have := r.p.LastStable(); have != want {
		r.t.Errorf("last stable offset %d, want %d", have, want)
	}
}

// TestProduceTransactions follows three transactions through the partition and
// through restarts.
func TestProduceTransactions(t *testing.T) {
	r := openProducers(t, commitlog.NewMemFS())
	r.wantStable(0)
	r.send(sentBatch(-1, -1, -1, 2, false)) // 0
	r.send(sentBatch(1, 0, 0, 2, true))     // 2
	r.send(sentBatch(2, 0, 0, 1, true))     // 4
	r.send(sentBatch(3, 0, 0, 1, true))     // 5
	r.send(sentBatch(1, 0, 2, 1, true))     // 6
	r.send(sentBatch(-1, -1, -1, 1, false)) // 7
	check := func(want int64, open ...OpenTransaction) {
		t.Helper()
		r.wantStable(want)
		have, err := r.p.Open()
		if err != nil || !slices.Equal(have, open) {
			t.Errorf("open %v %v, want %v", have, err, open)
		}
	}
	restart := func() {
		r = r.crash(1)
		list, err := r.p.Producers()
		if err != nil || len(list) != 3 || list[0].LastSequence != 2 || list[0].LastOffset != 6 {
			t.Errorf("producers %+v %v", list, err)
		}
	}
	open := func(id, first int64) OpenTransaction { return OpenTransaction{id, first} }
	check(2, open(1, 2), open(2, 4), open(3, 5))
	restart()
	check(2, open(1, 2), open(2, 4), open(3, 5))
	before := r.p.Ended()
	r.end(1, 0, false) // 8
	if r.p.Ended() == before {
		t.Error("nobody is told that a transaction has ended")
	}
	check(4, open(2, 4), open(3, 5))
	restart()
	check(4, open(2, 4), open(3, 5))
	r.end(2, 0, true)  // 9
	r.end(3, 0, false) // 10
	check(11)
	for range 2 {
		aborted, err := r.p.Aborted(0, 11)
		if want := []AbortedTransaction{{ProducerID: 1, FirstOffset: 2, LastOffset: 8}, {ProducerID: 3, FirstOffset: 5, LastOffset: 10}}; err != nil || !slices.Equal(aborted, want) {
			t.Errorf("aborted %v %v, want %v", aborted, err, want)
		}
		aborted, err = r.p.Aborted(9, 10)
		if want := []AbortedTransaction{{ProducerID: 3, FirstOffset: 5, LastOffset: 10}}; err != nil || !slices.Equal(aborted, want) {
			t.Errorf("aborted %v %v, want %v", aborted, err, want)
		}
		restart()
		check(11)
	}
	refused := func(want error, b record.Batch) {
		t.Helper()
		if _, err := r.p.Produce(b, false, nil); !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
	}
	r.send(sentBatch(1, 0, 3, 1, true))
	refused(ErrInvalidTxnState, sentBatch(1, 0, 4, 1, false))
	refused(ErrOutOfOrderSequence, sentBatch(1, 0, 5, 1, true))
	if err := r.p.EndTransaction(1, 0, -1, true, nil); !errors.Is(err, ErrCoordinatorFenced) {
		t.Errorf("error %v", err)
	}
	r.end(1, 1, true)
	refused(ErrProducerFenced, sentBatch(1, 0, 4, 1, true))
	if err := r.p.EndTransaction(1, 0, 0, true, nil); !errors.Is(err, ErrProducerFenced) {
		t.Errorf("error %v", err)
	}
	refused(ErrOutOfOrderSequence, sentBatch(1, 1, 4, 1, true))
	r.send(sentBatch(1, 1, 0, 1, true))
	r.close()
}

// TestProduceVerified shows that a batch does not open a transaction that ended
// while the coordinator was asked.
func TestProduceVerified(t *testing.T) {
	r := openProducers(t, commitlog.NewMemFS())
	verify := func(epoch int16) Verification {
		v, err := r.p.Verify(1, epoch)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := verify(0)
	r.end(1, 0, false)
	if _, err := r.p.ProduceVerified(sentBatch(1, 0, 0, 1, true), v, false, nil); !errors.Is(err, ErrInvalidTxnState) {
		t.Errorf("error %v", err)
	}
	if v = verify(0); v.Open {
		t.Error("open before the first batch")
	}
	if _, err := r.p.ProduceVerified(sentBatch(1, 0, 0, 1, true), v, false, nil); err != nil {
		t.Error(err)
	}
	if !verify(0).Open || verify(1).Open {
		t.Error("not open in the epoch of the batch, or in another")
	}
	v = Verification{EpochBump: true, taken: true}
	if _, err := r.p.ProduceVerified(sentBatch(2, 0, 3, 1, true), v, false, nil); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Errorf("error %v", err)
	}
	r.close()
}

// TestProduceAgain shows that each of the last five batches is known again,
// while it waits, when it is durable, after a crash and after a restart.
func TestProduceAgain(t *testing.T) {
	r := openProducers(t, commitlog.NewMemFS())
	var bases []int64
	hold := make(gate)
	if _, err := r.p.Append(sentBatch(-1, -1, -1, 1, false), hold); err != nil {
		t.Fatal(err)
	}
	for i := range int32(7) {
		base, err := r.p.Produce(sentBatch(1, 0, 3*i, 3, false), i%2 == 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		bases = append(bases, base)
	}
	again := func(i int32) (int64, waiter, error) {
		w := newWaiter()
		base, err := r.p.Produce(sentBatch(1, 0, 3*i, 3, false), false, w)
		return base, w, err
	}
	base, w, err := again(6)
	if err != nil || base != bases[6] {
		t.Fatalf("base %d %v", base, err)
	}
	select {
	case <-w:
		t.Error("told before the first one is durable")
	default:
	}
	close(hold)
	if err := <-w; err != nil {
		t.Error(err)
	}
	end := r.p.End()
	for _, restart := range []func(){func() {}, func() { r = r.crash(1) }, func() { r.close(); r = openProducers(t, r.fs) }} {
		restart()
		for i := int32(2); i < 7; i++ {
			if base, w, err := again(i); err != nil || base != bases[i] || <-w != nil {
				t.Errorf("batch %d again: base %d, want %d (%v)", i, base, bases[i], err)
			}
		}
		_, _, err := again(1)
		var se *SequenceError
		if !errors.As(err, &se) || se.Expected != 21 || se.Got != 3 {
			t.Errorf("batch 1 again: %v", err)
		}
		if r.p.End() != end {
			t.Errorf("end %d, want %d", r.p.End(), end)
		}
	}
	r.close()
}

// TestProduceRefused shows that batches which found no room were never there:
// the sequence is where it was, also with batches behind them, and the whole
// line can be sent again.
func TestProduceRefused(t *testing.T) {
	r := openProducers(t, commitlog.NewMemFS())
	r.send(sentBatch(1, 0, 0, 1, true))
	var full atomic.Bool
	r.fs.Inject(func(op commitlog.Op, name string) error {
		if full.Load() && op == commitlog.OpPreallocate {
			return syscall.ENOSPC
		}
		return nil
	})
	hold := make(gate)
	before := r.p.Stable()
	if _, err := r.p.Append(sentBatch(-1, -1, -1, 1, false), hold); err != nil {
		t.Fatal(err)
	}
	for r.p.Stable() == before { // its run is over, but for telling hold
		runtime.Gosched()
	}
	full.Store(true)
	big := func(sequence int32) record.Batch {
		var b record.Builder
		b.Append(1, nil, make([]byte, 20<<10), nil)
		b.SetProducer(1, 0, sequence, true)
		return b.Batch()
	}
	var waiters []waiter
	for i := range int32(3) {
		w := newWaiter()
		if _, err := r.p.Produce(big(i+1), i == 1, w); err != nil {
			t.Fatal(err)
		}
		waiters = append(waiters, w)
	}
	w := newWaiter()
	if _, err := r.p.Produce(big(2), false, w); err != nil { // again
		t.Fatal(err)
	}
	waiters = append(waiters, w)
	w = newWaiter()
	if err := r.p.EndTransaction(1, 3, 0, true, w); err != nil {
		t.Fatal(err)
	}
	waiters = append(waiters, w)
	r.wantStable(0)
	close(hold)
	for i, w := range waiters {
		if err := <-w; !errors.Is(err, commitlog.ErrFull) {
			t.Errorf("%d: %v", i, err)
		}
	}
	full.Store(false)
	r.wantStable(0)
	if _, err := r.p.Produce(big(2), false, nil); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Errorf("error %v", err)
	}
	for i := range int32(3) {
		if base := r.send(big(i + 1)); base != int64(i+2) {
			t.Errorf("base %d", base)
		}
	}
	r.end(1, 0, true)
	r.wantStable(r.p.Stable())
	r.close()
}

// TestProduceFullDisk has producers send lines of batches on a disk that is
// full now and then, each sending again what was refused, and then reads the
// log: of each producer there is every batch, once, and in order.
func TestProduceFullDisk(t *testing.T) {
	r := openProducers(t, commitlog.NewMemFS())
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2)) // a fixed turn might always be the same producer's
	r.fs.Inject(func(op commitlog.Op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == commitlog.OpPreallocate && random.IntN(3) != 0 {
			return syscall.ENOSPC
		}
		return nil
	})
	const producers, batches, line = 4, 150, 5
	var all sync.WaitGroup
	for id := range int64(producers) {
		all.Go(func() {
			for next := int32(0); next < batches; {
				var waiters []waiter
				for i := range min(line, batches-next) {
					w := newWaiter()
					var b record.Builder
					b.Append(1, nil, make([]byte, 3000), nil)
					b.SetProducer(id, 0, next+i, false)
					if _, err := r.p.Produce(b.Batch(), false, w); errors.Is(err, ErrOutOfOrderSequence) {
						break // what was before it has just been refused
					} else if err != nil {
						t.Error(err)
						return
					}
					waiters = append(waiters, w)
				}
				refused := false
				for _, w := range waiters {
					err := <-w
					if refused = refused || err != nil; err != nil && !errors.Is(err, commitlog.ErrFull) {
						t.Error(err)
						return
					} else if err == nil && refused {
						t.Error("a batch was taken, but not the one before")
					}
					if !refused {
						next++
					}
				}
			}
		})
	}
	all.Wait()
	next := map[int64]int32{}
	for offset := int64(0); offset < r.p.Stable(); {
		buf, err := r.p.Read(offset, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		for len(buf) > 0 {
			b, rest, err := record.Next(buf)
			if err != nil {
				t.Fatal(err)
			}
			if b.BaseSequence() != next[b.ProducerID()] {
				t.Fatalf("producer %d: sequence %d, want %d", b.ProducerID(), b.BaseSequence(), next[b.ProducerID()])
			}
			next[b.ProducerID()]++
			offset, buf = b.NextOffset(), rest
		}
	}
	for id := range int64(producers) {
		if next[id] != batches {
			t.Errorf("producer %d: %d batches", id, next[id])
		}
	}
	if r.store.Stats().Full == 0 {
		t.Error("the disk was never full")
	}
	r.close()
}

// TestProduceTruncated shows that the table is read again after a truncation.
func TestProduceTruncated(t *testing.T) {
	r := openProducers(t, commitlog.NewMemFS())
	r.send(sentBatch(1, 0, 0, 2, false))
	r.send(sentBatch(1, 0, 2, 2, false))
	r.send(sentBatch(2, 0, 0, 1, true))
	r.wantStable(4)
	if err := r.p.Log().TruncateTo(2); err != nil {
		t.Fatal(err)
	}
	r.wantStable(2)
	if base := r.send(sentBatch(1, 0, 2, 3, false)); base != 2 {
		t.Errorf("base %d", base)
	}
	r.wantStable(5)
	r.close()
}

// nobody is told.
type nobody struct{}

func (nobody) Committed(error) {}

// TestProduceAllocations shows that the check costs nothing that the append
// does not.
func TestProduceAllocations(t *testing.T) {
	r := openProducers(t, commitlog.NewMemFS())
	var plain, checked record.Builder
	plain.Append(1, nil, []byte("x"), nil)
	checked.Append(1, nil, []byte("x"), nil)
	checked.SetProducer(1, 0, 0, true)
	a, b := plain.Batch(), checked.Batch()
	sequence := uint32(0)
	w := newWaiter()
	produce := func(b record.Batch) {
		if _, err := r.p.Produce(b, false, w); err != nil {
			t.Fatal(err)
		}
		<-w
	}
	without := testing.AllocsPerRun(500, func() { produce(a) })
	with := testing.AllocsPerRun(500, func() {
		binary.BigEndian.PutUint32(b[53:], sequence)
		sequence++
		produce(b)
	})
	if with > without+0.5 {
		t.Errorf("%v allocations with a producer, %v without", with, without)
	}
	r.close()
}

// BenchmarkProduce compares batches with and without a producer.
func BenchmarkProduce(b *testing.B) {
	for _, id := range []int64{-1, 1} {
		b.Run(fmt.Sprint("producer ", id), func(b *testing.B) {
			r := openProducers(b, commitlog.NewMemFS())
			var w record.Builder
			w.Append(1, nil, make([]byte, 100), nil)
			w.SetProducer(id, 0, 0, false)
			batch := w.Batch()
			sequence := uint32(0)
			b.ReportAllocs()
			for b.Loop() {
				if id >= 0 {
					binary.BigEndian.PutUint32(batch[53:], sequence)
				}
				sequence++
				if _, err := r.p.Produce(batch, false, nobody{}); err != nil {
					b.Fatal(err)
				}
			}
			r.close()
		})
	}
}
