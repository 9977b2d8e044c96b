package destination

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// producerEvent is one that the log has accepted, or may still refuse.
type producerEvent struct {
	at, id           int64
	epoch            int16
	control          bool
	coordinatorEpoch int32
	sequence         int32
	records          int32
	transactional    bool
}

func (e *producerEvent) next() int64 {
	if e.control {
		return e.at + 1
	}
	return e.at + int64(e.records)
}

// producerModel knows nothing but what was appended, and looks at all of it
// every time.
type producerModel struct {
	events  []producerEvent
	stable  int64
	refused map[int64]producerEvent // the first batch of a producer, by which it is known since
}

func (m *producerModel) next() int64 {
	if n := len(m.events); n > 0 {
		return m.events[n-1].next()
	}
	return 0
}

// modelProducer is what the events say of one producer.
type modelProducer struct {
	known            bool
	epoch            int16
	batches          []producerEvent // of this epoch, oldest first
	first            int64
	coordinatorEpoch int32
	ended            [][2]int64 // transactions and their markers
}

func (m *producerModel) producer(id int64) modelProducer {
	p := modelProducer{first: -1, coordinatorEpoch: -1}
	for _, e := range m.events {
		if e.id != id {
			continue
		}
		if !p.known || p.epoch != e.epoch {
			p.known, p.epoch, p.batches = true, e.epoch, nil
		}
		switch {
		case e.control:
			if p.first >= 0 {
				p.ended = append(p.ended, [2]int64{p.first, e.at})
			}
			p.first, p.coordinatorEpoch = -1, e.coordinatorEpoch
			continue
		case e.sequence >= 0:
			p.batches = append(p.batches, e)
		}
		if e.transactional && p.first < 0 {
			p.first = e.at
		}
	}
	return p
}

// sequenceAfter counts on, from the largest to 0.
func sequenceAfter(sequence, n int32) int32 {
	return int32((int64(sequence) + int64(n)) % (math.MaxInt32 + 1))
}

// admit is KIP-98, as Kafka 4 has it.
func (m *producerModel) admit(e producerEvent) (base int64, err error) {
	p := m.producer(e.id)
	if e.sequence >= 0 && p.known && p.epoch == e.epoch {
		for _, b := range p.batches[max(0, len(p.batches)-5):] {
			if b.sequence == e.sequence && b.records == e.records {
				return b.at, nil
			}
		}
	}
	if first, ok := m.refused[e.id]; ok && !p.known && e.sequence >= 0 {
		want := int32(0)
		if e.epoch == first.epoch {
			want = first.sequence
		}
		if e.sequence != want {
			return 0, ErrOutOfOrderSequence
		}
	}
	if p.known {
		switch {
		case e.epoch < p.epoch:
			return 0, ErrProducerFenced
		case e.sequence < 0:
		case e.epoch > p.epoch || len(p.batches) == 0:
			if e.sequence != 0 {
				return 0, ErrOutOfOrderSequence
			}
		default:
			if b := p.batches[len(p.batches)-1]; e.sequence != sequenceAfter(b.sequence, b.records) {
				return 0, ErrOutOfOrderSequence
			}
		}
		if p.first >= 0 && !e.transactional {
			return 0, ErrInvalidTxnState
		}
	}
	m.events = append(m.events, e)
	return e.at, nil
}

func (m *producerModel) end(e producerEvent) error {
	if p := m.producer(e.id); p.known {
		if e.epoch < p.epoch {
			return ErrProducerFenced
		}
		if e.coordinatorEpoch < p.coordinatorEpoch {
			return ErrCoordinatorFenced
		}
	}
	m.events = append(m.events, e)
	return nil
}

const modelProducers = 4

func (m *producerModel) open() (list []OpenTransaction) {
	for id := range int64(modelProducers) {
		p := m.producer(id)
		for _, e := range p.ended {
			if e[1] >= m.stable {
				list = append(list, OpenTransaction{id, e[0]})
			}
		}
		if p.first >= 0 {
			list = append(list, OpenTransaction{id, p.first})
		}
	}
	return list
}

// compare says where the table is not what the model says.
func (m *producerModel) compare(s *producers) error {
	for id := range int64(modelProducers) {
		want, have := m.producer(id), s.all[id]
		if first, ok := m.refused[id]; ok && !want.known {
			if have == nil || have.epoch != noEpoch || have.first >= 0 || have.resume != first.sequence || have.resumeEpoch != first.epoch {
				return fmt.Errorf("producer %d is %+v, its first batch was refused: %+v", id, have, first)
			}
			continue
		}
		if want.known != (have != nil) {
			return fmt.Errorf("producer %d is known: %t, want %t", id, have != nil, want.known)
		}
		if have == nil {
			continue
		}
		if have.epoch != want.epoch || have.first != want.first || have.coordinatorEpoch != want.coordinatorEpoch {
			return fmt.Errorf("producer %d is %+v, want %+v", id, have.producerState, want)
		}
		recent := want.batches[max(0, len(want.batches)-5):]
		for i, b := range slices.Backward(recent) {
			h := have.batches[len(recent)-1-i]
			if h.base() != b.at || h.records != b.records || h.first() != b.sequence {
				return fmt.Errorf("producer %d has batch %+v, want %+v", id, h, b)
			}
		}
	}
	want := m.open()
	if have := s.unended(m.stable); !slices.Equal(have, want) {
		return fmt.Errorf("open %v, want %v", have, want)
	}
	lowest := m.stable
	for _, o := range want {
		lowest = min(lowest, o.FirstOffset)
	}
	if have := s.lastStable(m.stable); have != lowest {
		return fmt.Errorf("last stable %d, want %d", have, lowest)
	}
	return nil
}

// TestProducersModel compares the table with one that replays everything, over
// appends, refusals of appends, and what becomes stable.
func TestProducersModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := newProducers(math.MaxInt64), &producerModel{refused: map[int64]producerEvent{}}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			id := rapid.Int64Range(0, modelProducers-1).Draw(t, "id")
			p := m.producer(id)
			e := producerEvent{at: m.next(), id: id, epoch: p.epoch}
			switch rapid.IntRange(0, 9).Draw(t, "epoch") {
			case 0:
				e.epoch++
			case 1:
				e.epoch = max(e.epoch-1, 0)
			}
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0: // some of it is refused
				m.cutAt(t, s)
			case 1, 2:
				m.stable = rapid.Int64Range(m.stable, m.next()).Draw(t, "stable")
				s.settle(m.stable)
			case 3, 4:
				e.control = true
				e.coordinatorEpoch = max(0, p.coordinatorEpoch) + rapid.Int32Range(-1, 1).Draw(t, "coordinator")
				have := s.end(&ending{at: e.at, id: id, epoch: e.epoch, coordinatorEpoch: e.coordinatorEpoch})
				if want := m.end(e); !errors.Is(have, want) {
					t.Fatalf("end %+v: %v, want %v", e, have, want)
				}
			default:
				e.records = rapid.Int32Range(1, 3).Draw(t, "records")
				e.transactional = rapid.IntRange(0, 4).Draw(t, "transactional") > 0 == (id > 0)
				e.sequence = m.sequence(t, p, &e)
				base, have := s.admit(&appending{
					at: e.at, id: id, epoch: e.epoch, sequence: e.sequence, records: e.records, transactional: e.transactional,
				})
				if at, want := m.admit(e); base != at || !errors.Is(have, want) {
					t.Fatalf("batch %+v: %d %v, want %d %v", e, base, have, at, want)
				}
			}
			if err := m.compare(s); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// cutAt takes back some of what is not stable.
func (m *producerModel) cutAt(t *rapid.T, s *producers) {
	settled := 0
	for settled < len(m.events) && m.events[settled].at < m.stable {
		settled++
	}
	n := rapid.IntRange(settled, len(m.events)).Draw(t, "cut")
	end := m.next()
	if n < len(m.events) {
		end = m.events[n].at
	}
	gone := m.events[n:]
	m.events = m.events[:n]
	for _, e := range gone {
		if _, ok := m.refused[e.id]; ok || m.producer(e.id).known || slices.IndexFunc(gone, func(o producerEvent) bool { return o.id == e.id && o.at < e.at }) >= 0 {
			continue
		}
		if !e.control && e.sequence >= 0 {
			m.refused[e.id] = e
		}
	}
	if !s.cut(end) {
		t.Fatalf("cut at %d, stable is %d", end, m.stable)
	}
}

// sequence is mostly the next one, or a repeated one.
func (m *producerModel) sequence(t *rapid.T, p modelProducer, e *producerEvent) int32 {
	n := len(p.batches)
	switch k := rapid.IntRange(0, 11).Draw(t, "sequence"); {
	case k == 0:
		return rapid.Int32Range(0, 4).Draw(t, "any")
	case k > 8 && !p.known && m.refused[e.id].records > 0:
		return m.refused[e.id].sequence
	case k == 1:
		return -1
	case k == 2 && !p.known:
		return math.MaxInt32 - rapid.Int32Range(0, 3).Draw(t, "below the end")
	case k < 5 && n > 0:
		b := p.batches[rapid.IntRange(max(0, n-7), n-1).Draw(t, "repeated")]
		e.records = b.records
		return b.sequence
	case n > 0 && e.epoch == p.epoch:
		return sequenceAfter(p.batches[n-1].sequence, p.batches[n-1].records)
	}
	return 0
}

// TestProducersForget shows that idle producers go, the longest idle first, but
// for those with an open transaction or with something that may be taken back.
func TestProducersForget(t *testing.T) {
	s := newProducers(100)
	s.limit = 3
	next := int64(0)
	send := func(id, now int64, transactional bool) {
		t.Helper()
		if _, err := s.admit(&appending{at: next, id: id, now: now, records: 1, transactional: transactional}); err != nil {
			t.Fatal(err)
		}
		next++
	}
	known := func(want ...int64) {
		t.Helper()
		var have []int64
		for id := range s.all {
			have = append(have, id)
		}
		if slices.Sort(have); !slices.Equal(have, want) {
			t.Errorf("known are %v, want %v", have, want)
		}
	}
	send(1, 0, true)
	send(2, 10, false)
	send(3, 20, false)
	send(4, 30, false)
	send(5, 40, false) // one too many, but none has settled
	known(1, 2, 3, 4, 5)
	s.settle(next)
	send(6, 50, false)
	known(1, 4, 5, 6)
	s.settle(next)
	send(7, 145, false) // 4 and 5 have expired
	known(1, 6, 7)
	if err := s.end(&ending{at: next, id: 1, now: 150}); err != nil {
		t.Fatal(err)
	}
	next++
	s.settle(next)
	send(8, 260, false)
	known(8)
	if s.ends != 1 || len(s.open) != 0 || len(s.ended) != 0 {
		t.Errorf("%d ends, %v open, %v ended", s.ends, s.open, s.ended)
	}
}
