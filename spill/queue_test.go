package spill

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/polylog-mq/polylog"
)

// simulation is a queue with a store and a broker that are slices, of the numbers
// of messages. At any time a write and a round may be under way, and each may fail.
type simulation struct {
	t   *testing.T
	rnd *rand.Rand
	queue

	handed  []*entry
	store   []int // safe, and not confirmed
	passed  int   // of the store, confirmed while it was being written
	broker  []int
	answers map[int]answer
	doubted map[int]bool // may have arrived in a round that failed

	underWrite []*entry
	underWay   []int // the round
	fromMemory []*entry
}

func (s *simulation) number(e *entry) int {
	var n int
	if _, err := fmt.Sscan(e.message.Text(), &n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *simulation) step() {
	switch s.rnd.IntN(7) {
	case 0:
		e := texts(len(s.handed), 1)[0]
		e.bytes = 1
		s.handed = append(s.handed, e)
		s.push(e)
	case 1:
		s.spilling = s.rnd.IntN(3) > 0
	case 2:
		if s.underWrite == nil {
			s.underWrite = s.batch()
		}
	case 3:
		s.endWrite()
	case 4:
		s.startRound()
	default:
		s.endRound()
	}
	for _, a := range s.queue.answers {
		n := s.number(a.entry)
		if _, twice := s.answers[n]; twice {
			s.t.Fatalf("message %d was answered twice", n)
		}
		s.answers[n] = a
	}
	s.queue.answers = nil
}

func (s *simulation) endWrite() {
	if s.underWrite == nil {
		return
	}
	var err error
	if s.rnd.IntN(4) == 0 {
		err = ErrFull
	}
	if err == nil {
		for _, e := range s.underWrite {
			s.store = append(s.store, s.number(e))
		}
	}
	s.passed += int(s.written(err))
	s.underWrite = nil
}

func (s *simulation) startRound() {
	if s.underWay != nil {
		return
	}
	s.store, s.passed = s.store[s.passed:], 0
	if int64(len(s.store)) != s.stored {
		s.t.Fatalf("the store has %d messages, the queue says %d", len(s.store), s.stored)
	}
	most := 1 + s.rnd.IntN(4)
	if s.stored > 0 {
		s.underWay = slices.Clone(s.store[:min(most, len(s.store))])
		return
	}
	if s.fromMemory = s.round(most); s.fromMemory != nil {
		for _, e := range s.fromMemory {
			s.underWay = append(s.underWay, s.number(e))
		}
	}
}

func (s *simulation) endRound() {
	round, entries := s.underWay, s.fromMemory
	if round == nil {
		return
	}
	s.underWay, s.fromMemory = nil, nil
	switch outcome := s.rnd.IntN(4); outcome {
	case 0, 1: // it failed: nothing of it arrived, or all of it
		if outcome == 1 {
			s.broker = append(s.broker, round...)
		}
		for _, n := range round {
			s.doubted[n] = true
		}
		return
	case 2: // one of it was refused
		if len(round) > 1 {
			s.undone(entries)
			return
		}
		if len(round) == 1 && entries != nil {
			s.refused(entries[0], polylog.ErrWrongKind)
			return
		}
	}
	s.broker = append(s.broker, round...)
	if entries != nil {
		s.store = s.store[s.confirmed(entries):]
		return
	}
	s.stored -= int64(len(round))
	s.store = s.store[len(round):]
}

// Whatever fails, and whenever: what is safe has arrived or is in the store, in
// order, and what has failed without doubt is neither.
func TestTheQueueKeepsTheOrder(t *testing.T) {
	for seed := range uint64(3000) {
		s := &simulation{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), answers: map[int]answer{}, doubted: map[int]bool{}}
		for range 200 {
			s.step()
		}
		seen := map[int]bool{}
		last := -1
		for _, n := range append(slices.Clone(s.broker), s.store[s.passed:]...) {
			if seen[n] {
				continue
			}
			if n < last {
				t.Fatalf("seed %d: %d after %d: %d, and then %d", seed, n, last, s.broker, s.store)
			}
			seen[n], last = true, n
		}
		waiting := int64(0)
		for _, e := range s.handed {
			n := s.number(e)
			switch a, told := s.answers[n]; {
			case !told:
				waiting++
			case a.err == nil && !seen[n]:
				t.Fatalf("seed %d: message %d was safe, and is nowhere", seed, n)
			case errors.Is(a.err, polylog.ErrWrongKind) && errors.Is(a.err, polylog.ErrInDoubt) != s.doubted[n]:
				t.Fatalf("seed %d: message %d was refused, in doubt %t: %v", seed, n, s.doubted[n], a.err)
			case a.err != nil && seen[n] && !errors.Is(a.err, polylog.ErrInDoubt):
				t.Fatalf("seed %d: message %d has failed, and is there: %v", seed, n, a.err)
			}
		}
		if got, want := s.pending(), waiting+s.stored; got != want {
			t.Fatalf("seed %d: %d pending, not %d", seed, got, want)
		}
		if want := waiting; s.bytes < want {
			t.Fatalf("seed %d: %d bytes wait, of %d messages", seed, s.bytes, want)
		}
	}
}
