package destination

import (
	"sync"
	"sync/atomic"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

// Partition is one log of a destination and those who wait for it to grow.
//
// It may be used by many goroutines. The leader epoch and the high watermark
// are the partition's own, not the log's: on one node the high watermark is
// what is stable on this disk; in a cluster it is what enough replicas have.
type Partition struct {
	number int32
	log    *commitlog.Log
	epoch  atomic.Int32
	paused atomic.Bool
	room   atomic.Pointer[Room]

	// mu guards changes of watchers. notify reads without it, from the
	// committer, which must never wait for someone who is registering.
	mu       sync.Mutex
	watchers atomic.Pointer[[]*watcher]

	producing  producing
	duplicates duplicates
}

// watcher has an address, so that a function can be found again to cancel it.
type watcher struct{ fn func() }

// NewPartition wraps log. epoch is the leader epoch under which it is served.
// It takes the log's OnStable and OnCut for itself, so it must come before any append.
func NewPartition(number int32, log *commitlog.Log, epoch int32) *Partition {
	p := &Partition{number: number, log: log}
	p.epoch.Store(epoch)
	log.OnStable(p.notify)
	log.OnCut(p.cut)
	return p
}

// Number is the partition's number in its destination, from 0.
func (p *Partition) Number() int32 { return p.number }

// Epoch is the leader epoch under which this partition is served.
func (p *Partition) Epoch() int32 { return p.epoch.Load() }

// Log is the log itself, for retention, replication and Kafka's reads.
func (p *Partition) Log() *commitlog.Log { return p.log }

// Pause has protocols refuse what clients send, until it is called with false.
// What the broker itself appends, dead letters above all, is not refused.
func (p *Partition) Pause(paused bool) { p.paused.Store(paused) }

// Paused says whether what clients send is to be refused, with ErrPaused.
func (p *Partition) Paused() bool { return p.paused.Load() }

// Limit bounds what clients may send by r, which all partitions of a destination
// share; nil does not. What the broker itself appends is not bounded.
func (p *Partition) Limit(r *Room) { p.room.Store(r) }

// Room is what Limit was given.
func (p *Partition) Room() *Room { return p.room.Load() }

// Append appends one or more whole, validated batches and returns the offset
// of the first record. It returns before they are on disk; w, if not nil, is
// told when they are. The bytes are copied.
func (p *Partition) Append(batches []byte, w commitlog.Waiter) (int64, error) {
	return p.log.Append(batches, w)
}

// Read appends to buf whole batches, from the one that holds offset, up to max
// bytes but at least one. What is at or above Stable must not be delivered.
func (p *Partition) Read(offset int64, max int, buf []byte) ([]byte, error) {
	return p.log.Read(offset, max, buf)
}

// Start is the first offset that is still there.
func (p *Partition) Start() int64 { return p.log.Start() }

// End is the offset that the next record gets.
func (p *Partition) End() int64 { return p.log.End() }

// Stable is the high watermark: what is below may be delivered.
func (p *Partition) Stable() int64 { return p.log.Stable() }

// Watch has fn called after Stable moved, until cancel is called; a call that
// is under way may still finish after cancel. fn runs on the committer's
// goroutine: it must not block, and it must not append.
func (p *Partition) Watch(fn func()) (cancel func()) {
	w := &watcher{fn: fn}
	p.change(func(old []*watcher) []*watcher {
		return append(append(make([]*watcher, 0, len(old)+1), old...), w)
	})
	return func() {
		p.change(func(old []*watcher) []*watcher {
			kept := make([]*watcher, 0, len(old))
			for _, o := range old {
				if o != w {
					kept = append(kept, o)
				}
			}
			return kept
		})
	}
}

// change replaces the list of watchers, which is never changed in place.
func (p *Partition) change(f func([]*watcher) []*watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*watcher
	if l := p.watchers.Load(); l != nil {
		old = *l
	}
	l := f(old)
	p.watchers.Store(&l)
}

// notify is the log's OnStable. It allocates nothing and takes no lock.
func (p *Partition) notify(int64) {
	l := p.watchers.Load()
	if l == nil {
		return
	}
	for _, w := range *l {
		w.fn()
	}
}
