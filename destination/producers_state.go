package destination

import (
	"cmp"
	"slices"
	"sort"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

const (
	// recentBatches is how many batches of a producer are known again when they
	// are repeated: as many as a client may have in flight (KIP-98).
	recentBatches = 5
	// maxUndo is how many changes an idle table keeps room for.
	maxUndo = 1 << 10
	noEpoch = -1
)

// sent is a batch that a producer has sent.
type sent struct {
	offset   int64 // of its last record
	sequence int32 // of its last record
	records  int32 // 0: there is none
}

func (s *sent) base() int64 { return s.offset - int64(s.records) + 1 }

// first is the sequence of its first record. Sequences go from 0 to the
// largest int32, and on at 0.
func (s *sent) first() int32 { return (s.sequence - s.records + 1) & 0x7fffffff }

// producerState is what decides on a producer's next batch.
type producerState struct {
	batches          [recentBatches]sent // of this epoch, newest first
	first            int64               // offset of the open transaction; -1: none
	used             int64               // ms; when it was heard of
	ends             uint32              // transactions that were ended here, since it was read back
	coordinatorEpoch int32               // of the last end marker; -1: none
	epoch            int16

	// resume, if not -1, is the sequence that resumeEpoch goes on with: the first
	// batch of a producer that was not known before, which the log has refused.
	resume      int32
	resumeEpoch int16
}

// producer is one in the table, and in the ring of all by use.
type producer struct {
	id           int64
	older, newer *producer
	pending      int // changes that may be taken back
	producerState
}

// change is one that the log has not made good yet, with what was before it.
type change struct {
	at       int64 // the offset that it was made for
	producer *producer
	fresh    bool // the producer was not known before
	ended    bool // it ended a transaction
	before   producerState
}

// endedSend is one whose end marker is not stable yet.
type endedSend struct{ producer, first, marker int64 }

// producers is what a partition knows of Kafka's producers (KIP-98, and what
// Kafka 4 makes of it): which batch is the next one of each, which came
// before, and which transactions are open.
//
// It is pure: no clock, no I/O, no lock. Its owner has the mutex. A batch or
// an end marker is admitted before the log has it, so that the next one can be
// checked at once; cut takes back what the log then refuses, as if it had never
// come. It is allocation-free for a producer that is known.
type producers struct {
	all        map[int64]*producer
	ring       producer          // its newer is the one that was heard of longest ago
	open       []OpenTransaction // by first offset
	ended      []endedSend       // by marker
	changes    []change          // by offset, from head on; below Stable they are good
	head       int
	stable     int64  // as of the last settle
	ends       uint64 // end markers that have become stable
	cuts       uint64 // that took something back
	expiration int64  // ms
	limit      int    // of producers without an open transaction
}

func newProducers(expiration int64) *producers {
	s := &producers{all: map[int64]*producer{}, expiration: expiration, limit: commitlog.MaxProducers}
	s.ring.older, s.ring.newer = &s.ring, &s.ring
	return s
}

// restore takes in what the log knows, which is stable.
func (s *producers) restore(list []commitlog.Producer, now int64) {
	slices.SortFunc(list, func(a, b commitlog.Producer) int { return cmp.Compare(a.LastOffset, b.LastOffset) })
	for i := range list {
		from := &list[i]
		p := s.make(from.ID)
		p.epoch, p.first, p.coordinatorEpoch, p.used = from.Epoch, from.FirstOffset, from.CoordinatorEpoch, now
		if from.LastSequence >= 0 {
			p.batches[0] = sent{from.LastOffset, from.LastSequence, from.OffsetDelta + 1}
			for i, b := range from.Earlier {
				p.batches[i+1] = sent{b.LastOffset, b.LastSequence, b.Records}
			}
		}
		if p.first >= 0 {
			s.opened(p)
		}
	}
}

// make is a new producer in the table, the newest.
func (s *producers) make(id int64) *producer {
	p := &producer{id: id, producerState: producerState{epoch: noEpoch, first: -1, coordinatorEpoch: -1, resume: -1}}
	s.all[id] = p
	s.link(p)
	return p
}

func (s *producers) link(p *producer) {
	p.newer, p.older = &s.ring, s.ring.older
	p.older.newer, p.newer.older = p, p
}

func (p *producer) unlink() { p.older.newer, p.newer.older = p.newer, p.older }

func (s *producers) remove(p *producer) {
	p.unlink()
	delete(s.all, p.id)
}

// appending is a batch that is to be appended at an offset.
type appending struct {
	at            int64
	id            int64
	now           int64 // ms
	sequence      int32 // of its first record; -1: it has none, and only the epoch is checked
	records       int32
	epoch         int16
	transactional bool
	verified      bool // what follows is known
	ends          uint32
	epochBump     bool // each of the producer's transactions has an epoch of its own (KIP-890)
}

// admit decides on a batch. If it is a repeated one, the offset of the first
// time is returned, otherwise a.at. Errors: *SequenceError, ErrProducerFenced,
// ErrInvalidTxnState.
func (s *producers) admit(a *appending) (base int64, err error) {
	p := s.all[a.id]
	if p != nil && a.sequence >= 0 {
		if b := p.repeated(a); b != nil {
			return b.base(), nil
		}
	}
	if err := p.check(a); err != nil {
		return 0, err
	}
	fresh := p == nil
	if fresh {
		s.forget(a.now)
		p = s.make(a.id)
	}
	s.begin(a.at, p, fresh, a.now)
	p.enter(a.epoch)
	if a.sequence >= 0 {
		copy(p.batches[1:], p.batches[:])
		p.batches[0] = sent{a.at + int64(a.records) - 1, (a.sequence + a.records - 1) & 0x7fffffff, a.records}
	}
	if a.transactional && p.first < 0 {
		p.first = a.at
		s.opened(p)
	}
	return a.at, nil
}

// repeated is the remembered batch that a is, or nil.
func (p *producer) repeated(a *appending) *sent {
	if p.epoch != a.epoch {
		return nil
	}
	for i := range p.batches {
		if b := &p.batches[i]; b.records == a.records && b.first() == a.sequence {
			return b
		}
	}
	return nil
}

// check says what speaks against a batch that is not a repeated one. p is nil
// for a producer that is not known: because it is new, or because it was
// forgotten, and then it goes on at any sequence, as in Kafka since KIP-360.
func (p *producer) check(a *appending) error {
	if p == nil {
		switch {
		case a.verified && a.transactional && a.ends != 0:
			return ErrInvalidTxnState
		case a.verified && a.epochBump && a.sequence > 0:
			return &SequenceError{ProducerID: a.id, Epoch: a.epoch, Got: a.sequence}
		}
		return nil
	}
	if a.epoch < p.epoch {
		return ErrProducerFenced
	}
	if a.sequence >= 0 {
		if next := p.next(a.epoch); a.sequence != next {
			return &SequenceError{ProducerID: a.id, Epoch: a.epoch, Expected: next, Got: a.sequence}
		}
	}
	switch {
	case p.first >= 0 && !a.transactional:
		return ErrInvalidTxnState
	case p.first < 0 && a.transactional && a.verified && a.ends != p.ends:
		return ErrInvalidTxnState // it was verified before another transaction's end
	}
	return nil
}

// next is the sequence that is expected. An epoch begins at 0.
func (p *producer) next(epoch int16) int32 {
	if p.resume >= 0 && epoch == p.resumeEpoch {
		return p.resume
	}
	if epoch != p.epoch || p.batches[0].records == 0 {
		return 0
	}
	return (p.batches[0].sequence + 1) & 0x7fffffff
}

// ending is an end marker that is to be appended at an offset.
type ending struct {
	at, id, now      int64
	epoch            int16
	coordinatorEpoch int32
}

// end decides on an end marker. Errors: ErrProducerFenced, ErrCoordinatorFenced.
func (s *producers) end(e *ending) error {
	p := s.all[e.id]
	if p != nil {
		switch {
		case e.epoch < p.epoch:
			return ErrProducerFenced
		case e.coordinatorEpoch < p.coordinatorEpoch:
			return ErrCoordinatorFenced
		}
	}
	fresh := p == nil
	if fresh {
		s.forget(e.now)
		p = s.make(e.id)
	}
	c := s.begin(e.at, p, fresh, e.now)
	p.enter(e.epoch)
	p.coordinatorEpoch = e.coordinatorEpoch
	p.ends++
	if p.first >= 0 {
		c.ended = true
		s.ended = append(s.ended, endedSend{p.id, p.first, e.at})
		s.closed(p)
		p.first = -1
	}
	return nil
}

// enter makes epoch the producer's, which forgets the batches of another.
func (p *producer) enter(epoch int16) {
	if p.epoch != epoch {
		p.epoch, p.batches = epoch, [recentBatches]sent{}
	}
	p.resume = -1
}

// begin notes how p was before a change at an offset. What is returned is
// valid until the next call.
func (s *producers) begin(at int64, p *producer, fresh bool, now int64) *change {
	if s.head > 0 && len(s.changes) == cap(s.changes) {
		n := copy(s.changes, s.changes[s.head:])
		clear(s.changes[n:])
		s.changes, s.head = s.changes[:n], 0
	}
	s.changes = append(s.changes, change{at: at, producer: p, fresh: fresh, before: p.producerState})
	p.used = now
	p.pending++
	p.unlink()
	s.link(p)
	return &s.changes[len(s.changes)-1]
}

func (s *producers) findOpen(first int64) int {
	return sort.Search(len(s.open), func(i int) bool { return s.open[i].FirstOffset >= first })
}

// opened adds the open transaction of p to the list; mostly it is the newest.
func (s *producers) opened(p *producer) {
	s.open = slices.Insert(s.open, s.findOpen(p.first), OpenTransaction{p.id, p.first})
}

func (s *producers) closed(p *producer) {
	i := s.findOpen(p.first)
	s.open = slices.Delete(s.open, i, i+1)
}

// settle is told how far the log is stable: what is below cannot be taken back.
func (s *producers) settle(stable int64) {
	s.stable = max(s.stable, stable)
	for s.head < len(s.changes) && s.changes[s.head].at < s.stable {
		s.changes[s.head].producer.pending--
		s.changes[s.head].producer = nil
		s.head++
	}
	if s.head == len(s.changes) {
		if s.changes, s.head = s.changes[:0], 0; cap(s.changes) > maxUndo {
			s.changes = nil
		}
	}
	n := 0
	for n < len(s.ended) && s.ended[n].marker < s.stable {
		n++
	}
	if n > 0 {
		s.ends += uint64(n)
		s.ended = slices.Delete(s.ended, 0, n)
	}
}

// cut takes back what was admitted at and above end, newest first. It is false
// if some of that has settled, so that the table has to be read again.
func (s *producers) cut(end int64) bool {
	if end < s.stable {
		return false
	}
	for len(s.changes) > s.head && s.changes[len(s.changes)-1].at >= end {
		c := &s.changes[len(s.changes)-1]
		s.undo(c)
		*c = change{}
		s.changes = s.changes[:len(s.changes)-1]
		s.cuts++
	}
	return true
}

func (s *producers) undo(c *change) {
	p := c.producer
	p.pending--
	if p.first >= 0 && p.first != c.before.first {
		s.closed(p)
	}
	reopened := c.before.first >= 0 && p.first != c.before.first
	if c.ended {
		s.ended = s.ended[:len(s.ended)-1]
	}
	refused, epoch, used := p.batches[0], p.epoch, p.used
	p.producerState = c.before
	if c.fresh && refused.records > 0 {
		// It stays known, so that none of its batches that come behind this one
		// is taken for its first.
		p.resume, p.resumeEpoch, p.used = refused.first(), epoch, used
	} else if c.fresh {
		s.remove(p)
	} else if reopened {
		s.opened(p)
	}
}

// forget lets go of producers that have been idle for too long, and of the
// longest idle when they are too many. One with an open transaction, or with a
// batch that may be taken back, stays.
func (s *producers) forget(now int64) {
	for looked := len(s.open) + 1; looked > 0; looked-- {
		p := s.ring.newer
		if p == &s.ring || now-p.used < s.expiration && len(s.all)-len(s.open) < s.limit {
			return
		}
		if p.first >= 0 {
			p.unlink()
			s.link(p) // it comes up again later
			continue
		}
		if p.pending > 0 {
			return
		}
		s.remove(p)
		looked++
	}
}

// lastStable is the first offset of the oldest transaction whose end is not
// below stable, or stable.
func (s *producers) lastStable(stable int64) int64 {
	s.settle(stable)
	if len(s.open) > 0 {
		stable = min(stable, s.open[0].FirstOffset)
	}
	for i := range s.ended {
		stable = min(stable, s.ended[i].first)
	}
	return stable
}

// unended are the transactions whose end is not below stable, by producer.
func (s *producers) unended(stable int64) []OpenTransaction {
	s.settle(stable)
	list := slices.Clone(s.open)
	for _, e := range s.ended {
		list = append(list, OpenTransaction{e.producer, e.first})
	}
	slices.SortFunc(list, func(a, b OpenTransaction) int {
		return cmp.Or(cmp.Compare(a.ProducerID, b.ProducerID), cmp.Compare(a.FirstOffset, b.FirstOffset))
	})
	return list
}
