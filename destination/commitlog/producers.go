package commitlog

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
)

// Producer is what the log knows of an idempotent or transactional producer (KIP-98).
type Producer struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: none in this epoch
	LastOffset       int64
	OffsetDelta      int32            // of the last batch: its last offset less its first
	Timestamp        int64            // ms
	CoordinatorEpoch int32            // of the last end marker; -1: none
	FirstOffset      int64            // of the open transaction; -1: none
	Earlier          [4]ProducerBatch // the batches of this epoch before the last one, newest first
}

// ProducerBatch is one that a producer has sent before its last one. Snapshots do not have them.
type ProducerBatch struct {
	Records      int32 // 0: there is none
	LastSequence int32
	LastOffset   int64
}

// MaxProducers bounds the producers that one log remembers. Beyond, those that have been idle for longest, and have no
// transaction open, are forgotten as if they had expired: their next batch may have any sequence.
const MaxProducers = 100_000

// Gate decides on appends of producers' batches. It is called with the log locked: it must call nothing of the log that
// takes a lock.
type Gate interface {
	// Admit is asked before a batch is appended at an offset. Another offset than that means that it is there already.
	Admit(b record.Batch, at int64) (base int64, err error)
}

// AppendChecked is Append, or AppendEarly, of one batch that the gate admits, in one step. fresh is false if the gate says
// that the batch is at base already; then w is not called.
func (l *Log) AppendChecked(b record.Batch, early bool, w Waiter, g Gate) (base int64, fresh bool, err error) {
	return l.appendFor(b, w, early, g)
}

// OnCut sets the function that is told when what was appended at and above end is refused, before any Waiter is, or is
// truncated. It is called with the log locked, like a Gate, and set before the first append.
func (l *Log) OnCut(fn func(end int64)) {
	l.mu.Lock()
	l.onCut = fn
	l.mu.Unlock()
}

// Barrier has w called when everything that was appended before is durable or refused.
func (l *Log) Barrier(w Waiter) error {
	return l.insert(opSkip, 0, w, func() error { return nil })
}

// Now is the store's clock, ms.
func (l *Log) Now() int64 { return l.store.options.Now().UnixMilli() }

// ProducerExpiration is how long an idle producer is remembered (Options).
func (l *Log) ProducerExpiration() time.Duration { return l.store.options.ProducerExpiration }

// Produced tells whether there may be a batch with a producer id in the log. It takes no lock.
func (l *Log) Produced() bool {
	l.ensureLoaded()
	return l.produced.Load()
}

// Producers lists the producers of the log up to what was written, by id. The first call after a crash may read what was
// written since the last checkpoint, or one segment.
func (l *Log) Producers() (list []Producer, err error) {
	err = l.withProducers(func(p *producers) {
		list = make([]Producer, 0, len(p.all))
		for _, s := range p.all {
			list = append(list, s.Producer)
		}
	})
	slices.SortFunc(list, func(a, b Producer) int { return cmp.Compare(a.ID, b.ID) })
	return list, err
}

// producers is the state of all producers at an offset. It is pure: times come in.
type producers struct {
	all   map[int64]*remembered
	open  []transaction // by first offset
	ended []transaction // whose markers were above Stable when somebody looked last, by marker
	end   int64         // batches below were taken in
	any   bool          // there was ever one, expired or not
	dirty bool          // a snapshot at the end would tell something new
}

// remembered is a producer, and when it was heard of last, ms; 0 if that was before this process.
type remembered struct {
	Producer
	seen int64
}

// transaction is a producer's, from its first offset to its end marker.
type transaction struct{ producer, first, marker int64 }

func newProducers() *producers { return &producers{all: map[int64]*remembered{}} }

// add takes in a batch with a producer id. If it aborts a transaction, that is returned.
func (p *producers) add(b record.Batch, now int64) (e abortedEntry, aborted bool) {
	if b.BaseOffset() < p.end {
		return e, false
	}
	p.end, p.dirty, p.any = b.NextOffset(), true, true
	id := b.ProducerID()
	s := p.all[id]
	if s == nil {
		p.bound()
		s = &remembered{Producer: Producer{ID: id, Epoch: b.ProducerEpoch(), LastSequence: -1, LastOffset: -1, CoordinatorEpoch: -1, FirstOffset: -1}}
		p.all[id] = s
	}
	s.Timestamp, s.seen = b.MaxTimestamp(), now
	if s.Epoch != b.ProducerEpoch() {
		s.Epoch, s.LastSequence, s.OffsetDelta, s.Earlier = b.ProducerEpoch(), -1, 0, [4]ProducerBatch{}
	}
	if b.IsControl() {
		m, ok := ParseMarker(b)
		if !ok {
			return e, false
		}
		s.CoordinatorEpoch = m.CoordinatorEpoch
		return p.finish(s, b.BaseOffset(), m.Commit)
	}
	if last, ok := lastSequence(b); ok {
		if s.LastSequence >= 0 {
			copy(s.Earlier[1:], s.Earlier[:])
			s.Earlier[0] = ProducerBatch{Records: s.OffsetDelta + 1, LastSequence: s.LastSequence, LastOffset: s.LastOffset}
		}
		s.LastSequence = last
	}
	s.LastOffset, s.OffsetDelta = b.LastOffset(), b.LastOffsetDelta()
	if b.IsTransactional() && s.FirstOffset < 0 {
		s.FirstOffset = b.BaseOffset()
		p.open = append(p.open, transaction{producer: id, first: s.FirstOffset})
	}
	return e, false
}

// finish ends the open transaction of a producer, if it has one.
func (p *producers) finish(s *remembered, marker int64, commit bool) (e abortedEntry, aborted bool) {
	if s.FirstOffset < 0 {
		return e, false
	}
	first := s.FirstOffset
	s.FirstOffset = -1
	p.open = slices.DeleteFunc(p.open, func(t transaction) bool { return t.producer == s.ID })
	p.ended = append(p.ended, transaction{s.ID, first, marker})
	if commit {
		return e, false
	}
	e = abortedEntry{AbortedTransaction{s.ID, first, marker}, marker + 1}
	if len(p.open) > 0 {
		e.stable = p.open[0].first
	}
	return e, true
}

// lastSequence is the sequence of a batch's last record; they wrap around to 0. Offsets that a group's coordinator commits
// in a transaction have none.
func lastSequence(b record.Batch) (int32, bool) {
	first := b.BaseSequence()
	return int32((uint32(first) + uint32(b.LastOffsetDelta())) & 0x7fffffff), first >= 0
}

// remember takes in a batch from before the snapshot that p was read from, ascending.
func (p *producers) remember(b record.Batch) {
	s := p.all[b.ProducerID()]
	last, ok := lastSequence(b)
	if s == nil || !ok || b.IsControl() || s.Epoch != b.ProducerEpoch() || s.LastSequence < 0 || b.LastOffset() >= s.LastOffset {
		return
	}
	if s.Earlier[0].Records > 0 && b.LastOffset() <= s.Earlier[0].LastOffset {
		return // it is known
	}
	copy(s.Earlier[1:], s.Earlier[:])
	s.Earlier[0] = ProducerBatch{Records: b.LastOffsetDelta() + 1, LastSequence: last, LastOffset: b.LastOffset()}
}

// unstable is the first offset of the oldest transaction whose end marker is not below stable, or stable.
func (p *producers) unstable(stable int64) int64 {
	n := 0
	for n < len(p.ended) && p.ended[n].marker < stable {
		n++
	}
	p.ended = slices.Delete(p.ended, 0, n)
	first := stable
	for _, t := range p.ended {
		first = min(first, t.first)
	}
	if len(p.open) > 0 {
		first = min(first, p.open[0].first)
	}
	return first
}

// expire forgets producers without an open transaction that were not heard of since a time, ms.
func (p *producers) expire(since int64) {
	for id, s := range p.all {
		if s.FirstOffset < 0 && max(s.seen, s.Timestamp) <= since {
			delete(p.all, id)
			p.dirty = true
		}
	}
}

// bound makes room for one more.
func (p *producers) bound() {
	if len(p.all) < MaxProducers {
		return
	}
	idle := make([]*remembered, 0, len(p.all))
	for _, s := range p.all {
		if s.FirstOffset < 0 {
			idle = append(idle, s)
		}
	}
	slices.SortFunc(idle, func(a, b *remembered) int { return cmp.Compare(a.LastOffset, b.LastOffset) })
	for _, s := range idle[:(len(idle)+7)/8] {
		delete(p.all, s.ID)
	}
}

// Marker is a transaction's end (KIP-98).
type Marker struct {
	Commit           bool
	CoordinatorEpoch int32
}

// ParseMarker reads a control batch: the key is version and kind, the value is version and coordinator epoch.
func ParseMarker(b record.Batch) (m Marker, ok bool) {
	var r record.Reader
	if r.Reset(b, len(b)) != nil || !r.Next() {
		return m, false
	}
	k, v := r.Record().Key, r.Record().Value
	if len(k) < 4 || len(v) < 6 {
		return m, false
	}
	kind := binary.BigEndian.Uint16(k[2:])
	return Marker{kind == 1, int32(binary.BigEndian.Uint32(v[2:]))}, kind <= 1
}
