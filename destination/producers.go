package destination

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// Refusals of a Kafka producer's batch or of a transaction's end.
var (
	// ErrOutOfOrderSequence: a batch is missing before this one, or it is an
	// old one that is not remembered any more. Errors that wrap it are *SequenceError.
	ErrOutOfOrderSequence = errors.New("out of order sequence")
	// ErrProducerFenced: the producer's epoch is older than one that was seen
	// (INVALID_PRODUCER_EPOCH).
	ErrProducerFenced = errors.New("producer epoch is fenced")
	// ErrInvalidTxnState: a batch outside of a transaction from a producer that
	// has one open, or one inside from a producer whose transaction has ended.
	ErrInvalidTxnState = errors.New("invalid transaction state")
	// ErrCoordinatorFenced: an end marker of a transaction coordinator that has
	// been replaced.
	ErrCoordinatorFenced = errors.New("transaction coordinator is fenced")
)

// SequenceError names the sequence that was expected and the one that came.
type SequenceError struct {
	ProducerID    int64
	Epoch         int16
	Expected, Got int32
}

// Error names them.
func (e *SequenceError) Error() string {
	return fmt.Sprintf("%v: producer %d epoch %d sent sequence %d, expected is %d",
		ErrOutOfOrderSequence, e.ProducerID, e.Epoch, e.Got, e.Expected)
}

// Unwrap is ErrOutOfOrderSequence.
func (e *SequenceError) Unwrap() error { return ErrOutOfOrderSequence }

// AbortedTransaction is one whose records a committed read leaves out.
type AbortedTransaction = commitlog.AbortedTransaction

// producing is a partition's table of producers, and whether it has been read.
type producing struct {
	loaded atomic.Bool
	// loading is held while the log is read. It is taken before all of the
	// log's locks.
	loading sync.Mutex

	mu    sync.Mutex // guards what follows; a leaf, taken under the log's own
	state *producers
	cuts  int // times that the table has become useless
}

// errReload asks for the table to be read again.
var errReload = errors.New("producers are to be read again")

// Verification is what an answer of the transaction coordinator is good for:
// it must have been asked after it was taken.
type Verification struct {
	// Open says that the producer has a transaction open here, so that there
	// is nothing to be asked.
	Open bool
	// EpochBump is set by the caller for a producer that has an epoch of its own
	// for each transaction (KIP-890 part 2, Produce from version 12 on).
	EpochBump bool
	taken     bool
	ends      uint32
}

// Verify is taken before the transaction coordinator is asked about a batch,
// for ProduceVerified (KIP-890 part 1): a marker that goes between the answer
// and the batch would leave a transaction open for ever.
func (p *Partition) Verify(producerID int64, epoch int16) (Verification, error) {
	if err := p.load(); err != nil {
		return Verification{}, err
	}
	p.producing.mu.Lock()
	defer p.producing.mu.Unlock()
	v := Verification{taken: true}
	if q := p.producing.state.all[producerID]; q != nil {
		v.ends, v.Open = q.ends, q.first >= 0 && q.epoch == epoch
	}
	return v, nil
}

// Produce appends one whole, validated batch of a Kafka producer. A batch with
// a producer id is checked first (KIP-98): a repeated one of the last five is
// not appended again, base is that of the first time, and w is told when that
// is durable, perhaps before Produce returns. A batch without a sequence, as
// the group coordinator has for offsets, is checked for its epoch alone. early
// has w told after the write instead of the sync (acks=1).
//
// Errors: *SequenceError, ErrProducerFenced, ErrInvalidTxnState, those of the
// log; then w is not called. If w gets one, the batch never was: it and those
// behind it can be sent again.
func (p *Partition) Produce(b record.Batch, early bool, w commitlog.Waiter) (base int64, err error) {
	return p.ProduceVerified(b, Verification{}, early, w)
}

// ProduceVerified is Produce of a batch of a transaction that the coordinator
// knows to be open: ErrInvalidTxnState if it has been ended since v was taken.
func (p *Partition) ProduceVerified(b record.Batch, v Verification, early bool, w commitlog.Waiter) (base int64, err error) {
	if b.ProducerID() >= 0 {
		return p.appendChecked(b, v, early, w)
	}
	if early {
		return p.log.AppendEarly(b, w)
	}
	return p.log.Append(b, w)
}

// admission is a Gate for one append.
type admission struct {
	p        *Partition
	verified Verification
	cuts     uint64 // when the batch turned out to be a repeated one
}

var admissions = sync.Pool{New: func() any { return new(admission) }}

func (p *Partition) appendChecked(b record.Batch, v Verification, early bool, w commitlog.Waiter) (base int64, err error) {
	a := admissions.Get().(*admission)
	*a = admission{p: p, verified: v}
	defer func() {
		a.p = nil
		admissions.Put(a)
	}()
	for {
		if err := p.load(); err != nil {
			return 0, err
		}
		base, fresh, err := p.log.AppendChecked(b, early, w, a)
		switch {
		case err == errReload:
			continue
		case err != nil:
			return 0, err
		case !fresh:
			return base, p.whenStable(b, base, a.cuts, w)
		}
		return base, nil
	}
}

// Admit is asked by the log, which is locked.
func (a *admission) Admit(b record.Batch, at int64) (int64, error) {
	p := &a.p.producing
	now, stable := a.p.log.Now(), a.p.log.Stable()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.loaded.Load() {
		return 0, errReload
	}
	p.state.settle(stable)
	if b.IsControl() {
		m, _ := commitlog.ParseMarker(b)
		return at, p.state.end(&ending{
			at: at, id: b.ProducerID(), now: now, epoch: b.ProducerEpoch(), coordinatorEpoch: m.CoordinatorEpoch,
		})
	}
	a.cuts = p.state.cuts
	return p.state.admit(&appending{
		at: at, id: b.ProducerID(), now: now,
		epoch: b.ProducerEpoch(), sequence: max(b.BaseSequence(), -1), records: b.LastOffsetDelta() + 1,
		transactional: b.IsTransactional(),
		verified:      a.verified.taken, ends: a.verified.ends, epochBump: a.verified.EpochBump,
	})
}

// whenStable has w told how the first sending of a batch that was repeated ends.
func (p *Partition) whenStable(b record.Batch, base int64, cuts uint64, w commitlog.Waiter) error {
	switch {
	case w == nil:
		return nil
	case base+int64(b.LastOffsetDelta()) < p.log.Stable():
		w.Committed(nil)
		return nil
	}
	return p.log.Barrier(&repeated{
		p: &p.producing, id: b.ProducerID(), base: base, cuts: cuts, w: w,
	})
}

// repeated waits for all that was appended before.
type repeated struct {
	p    *producing
	id   int64
	base int64
	cuts uint64
	w    commitlog.Waiter
}

// Committed tells w, after everything before has been committed or refused.
func (r *repeated) Committed(err error) {
	if err == nil && !r.stands() {
		err = commitlog.ErrFull
	}
	r.w.Committed(err)
}

// stands says whether the batch was not taken back.
func (r *repeated) stands() bool {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if r.p.state.cuts == r.cuts {
		return true
	}
	if q := r.p.state.all[r.id]; q != nil {
		for i := range q.batches {
			if q.batches[i].records > 0 && q.batches[i].base() == r.base {
				return true
			}
		}
	}
	return false
}

// EndTransaction appends the marker that ends the open transaction of a
// producer (KIP-98). Without an open transaction it fences older epochs all
// the same.
//
// Errors: ErrProducerFenced, ErrCoordinatorFenced, those of the log; then w is
// not called.
func (p *Partition) EndTransaction(producerID int64, epoch int16, coordinatorEpoch int32, commit bool, w commitlog.Waiter) error {
	var b record.Builder
	appendMarker(&b, p.log.Now(), producerID, epoch, coordinatorEpoch, commit)
	_, err := p.appendChecked(b.Batch(), Verification{}, false, w)
	return err
}

// appendMarker makes b a transaction's end (KIP-98): the key is version and
// kind, the value is version and coordinator epoch.
func appendMarker(b *record.Builder, now, producerID int64, epoch int16, coordinatorEpoch int32, commit bool) {
	var key [4]byte
	if commit {
		key[3] = 1
	}
	var value [6]byte
	binary.BigEndian.PutUint32(value[2:], uint32(coordinatorEpoch))
	b.SetProducer(producerID, epoch, -1, true)
	b.SetControl()
	b.Append(now, key[:], value[:], nil)
}

// LastStable is the first offset of the oldest open transaction, or Stable if
// there is none: what a committed read may go up to. Where the log cannot be
// read to find out, that is Start.
func (p *Partition) LastStable() int64 {
	stable := p.log.Stable()
	if !p.hasProducers() {
		return stable
	}
	start := min(p.log.Start(), stable)
	if p.load() != nil {
		return start
	}
	p.producing.mu.Lock()
	defer p.producing.mu.Unlock()
	return max(p.producing.state.lastStable(stable), start)
}

// hasProducers says whether there is anything to be read.
func (p *Partition) hasProducers() bool { return p.producing.loaded.Load() || p.log.Produced() }

// Aborted lists the aborted transactions that overlap [from, to), by first
// offset. What ends above Stable is not among them.
func (p *Partition) Aborted(from, to int64) ([]AbortedTransaction, error) {
	return p.log.Aborted(from, to)
}

// Producers describes the producers that the partition remembers, by id.
func (p *Partition) Producers() ([]commitlog.Producer, error) { return p.log.Producers() }

// OpenTransaction is one that has not ended, or whose end is not stable.
type OpenTransaction struct{ ProducerID, FirstOffset int64 }

// Open lists the open transactions, by producer, with those whose end is not
// stable yet: what a view holds back.
func (p *Partition) Open() ([]OpenTransaction, error) {
	stable := p.log.Stable()
	if !p.hasProducers() {
		return nil, nil
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	p.producing.mu.Lock()
	defer p.producing.mu.Unlock()
	return p.producing.state.unended(stable), nil
}

// Ended is a number that changes when a transaction's end has become stable.
func (p *Partition) Ended() uint64 {
	stable := p.log.Stable()
	if !p.producing.loaded.Load() {
		return 0 // and nobody has learned from Open that one was open
	}
	p.producing.mu.Lock()
	defer p.producing.mu.Unlock()
	p.producing.state.settle(stable)
	return p.producing.state.ends
}

// load reads the table of producers from the log, once.
func (p *Partition) load() error {
	t := &p.producing
	if t.loaded.Load() {
		return nil
	}
	t.loading.Lock()
	defer t.loading.Unlock()
	for {
		t.mu.Lock()
		loaded, cuts, old := t.loaded.Load(), t.cuts, t.state
		t.mu.Unlock()
		if loaded {
			return nil
		}
		if cuts > 0 { // what the log knows is what it has written; wait for what it was told
			w := make(loadWaiter, 1)
			if err := p.log.Barrier(w); err != nil {
				return err
			}
			if err := <-w; err != nil {
				return err
			}
		}
		list, err := p.log.Producers()
		if err != nil {
			return fmt.Errorf("read producers: %w", err)
		}
		s := newProducers(p.log.ProducerExpiration().Milliseconds())
		s.restore(list, p.log.Now())
		if old != nil { // so that everybody looks again
			s.ends, s.cuts = old.ends+1, old.cuts+1
		}
		t.mu.Lock()
		if t.cuts == cuts {
			t.state = s
			t.loaded.Store(true)
		}
		t.mu.Unlock()
	}
}

type loadWaiter chan error

func (w loadWaiter) Committed(err error) { w <- err }

// cut is told by the log, which is locked, what it will not have.
func (p *Partition) cut(end int64) {
	if p.Deduplicates() {
		p.duplicates.cut(end)
	}
	t := &p.producing
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded.Load() {
		t.cuts++ // perhaps it is being read
	} else if !t.state.cut(end) {
		t.cuts++
		t.loaded.Store(false)
	}
}
