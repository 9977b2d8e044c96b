package destination

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 0, "seed of the simulation; 0 takes the time")

// simulation is a queue of messages, its consumers, and a journal that loses
// what was not synced when the broker crashes.
type simulation struct {
	r       *rand.Rand
	c       *Cursor
	epoch   int32
	now     int64
	journal [][]byte // snapshot, then deltas
	synced  int      // as many of them are on disk

	produced int64
	log      map[int64]logged // what is not just a message
	open     map[uint64]*sentTransaction
	wrong    error
	flight   []token
	stale    []token         // were good once
	pending  []confirmation  // settlements that wait for the disk
	acked    map[int64]bool  // confirmed
	least    map[int64]int   // delivery counts that are on disk
	counted  []countedOffset // delivery counts that wait for the disk
}

// logged is an offset of a producer's transaction.
type logged struct {
	producer uint64
	txn      *sentTransaction
	marker   bool
}

// sentTransaction is open until one of the two is set.
type sentTransaction struct{ committed, aborted bool }

type token struct {
	offset      int64
	acquisition uint64
	holder      Holder
}

type confirmation struct {
	offset int64
	at     int // journaled with this entry
}

type countedOffset struct {
	offset int64
	count  int
	at     int
}

// TestSimulation runs consumers over crashes: a stale token is always refused
// (Q1), delivery counts that are on disk never go down (Q2), a confirmed
// acknowledgement sticks (Q3), every message is in exactly one place (Q5), what
// a producer's transaction sent is delivered after it has committed and else
// never (Q9), and in the end all are acknowledged.
func TestSimulation(t *testing.T) {
	first := *seed
	runs := uint64(20)
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	} else {
		runs = 1
	}
	for n := range runs {
		s := &simulation{
			r: rand.New(rand.NewPCG(first+n, 0)), c: NewCursor(0), epoch: 1,
			acked: map[int64]bool{}, least: map[int64]int{},
			log: map[int64]logged{}, open: map[uint64]*sentTransaction{},
		}
		s.snapshot()
		if err := s.run(2000); err != nil {
			t.Fatalf("-seed %d: %v", first+n, err)
		}
	}
}

func (s *simulation) run(steps int) error {
	for step := range steps {
		if err := s.step(); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
	}
	return s.finish()
}

func (s *simulation) step() error {
	s.now += s.r.Int64N(20)
	s.c.ExpireLocks(s.now)
	s.c.DueScheduled(s.now, 50)
	switch s.r.IntN(24) {
	case 20, 21:
		s.sendInTransaction()
	case 22:
		s.endTransaction(uint64(1 + s.r.IntN(3)))
	case 23:
		s.endHeld()
	case 0:
		return s.crash()
	case 1:
		s.snapshot()
	case 2, 3, 4:
		s.sync()
	case 5:
		s.gone(Holder(s.r.IntN(4)))
	case 6, 7, 8:
		s.produced += s.r.Int64N(30)
	case 9, 10, 11, 12:
		s.deliver()
	case 13:
		return s.settleStale()
	default:
		return s.settle()
	}
	return nil
}

// deliver acquires new messages as a range, or old ones one by one.
func (s *simulation) deliver() {
	h := Holder(s.r.IntN(4))
	lock := int64(0)
	if s.r.IntN(3) == 0 {
		lock = s.now + s.r.Int64N(100)
	}
	if from := s.c.Next(); from < s.produced && s.r.IntN(2) == 0 {
		to := min(s.produced, from+1+s.r.Int64N(20))
		for from < to {
			end := from
			for ; end < to && !s.special(end); end++ {
			}
			if end == from {
				s.look(from)
				from++
				continue
			}
			first, ok := s.c.AcquireRange(from, end, h, lock)
			if !ok {
				panic("new messages are not available")
			}
			for o := from; o < end; o++ {
				s.delivered(o, first+uint64(o-from), 1, h)
			}
			from = end
		}
	} else {
		left := s.r.IntN(20)
		for o := range s.c.Undone(0, s.produced) {
			if left--; left < 0 {
				break
			}
			acquisition, count, ok := s.c.Acquire(o, h, lock)
			if !ok {
				panic("an undone message is not available")
			}
			s.delivered(o, acquisition, count, h)
		}
	}
	s.flush()
}

// special says whether an offset is no message of its own, or not yet.
func (s *simulation) special(o int64) bool {
	l, ok := s.log[o]
	return ok && (l.marker || !l.txn.committed)
}

// look has the cursor look at such an offset for the first time, as a view does.
func (s *simulation) look(o int64) {
	switch l := s.log[o]; {
	case l.marker:
		s.c.EndSend(l.producer, l.txn.committed)
		s.c.Pass(o, o+1)
	case l.txn.aborted:
		s.c.Pass(o, o+1)
	default:
		s.c.HoldSend(o, o+1, l.producer)
	}
}

func (s *simulation) sendInTransaction() {
	p := uint64(1 + s.r.IntN(3))
	if s.open[p] == nil {
		s.open[p] = &sentTransaction{}
	}
	for range 1 + s.r.IntN(5) {
		s.log[s.produced] = logged{p, s.open[p], false}
		s.produced++
	}
}

func (s *simulation) endTransaction(p uint64) {
	t := s.open[p]
	if t == nil {
		return
	}
	delete(s.open, p)
	t.committed = s.r.IntN(2) == 0
	t.aborted = !t.committed
	s.log[s.produced] = logged{p, t, true}
	s.produced++
}

// endHeld ends what is held back for transactions that have ended.
func (s *simulation) endHeld() {
	for _, p := range s.c.HeldSends() {
		from, to := s.c.HeldSend(p)
		l := s.log[from]
		if l.producer != p || s.log[to-1].txn != l.txn {
			s.wrong = fmt.Errorf("Q9: [%d, %d) held for %d", from, to, p)
		} else if l.txn.committed || l.txn.aborted {
			s.c.EndSend(p, l.txn.committed)
		}
	}
	s.flush()
}

func (s *simulation) delivered(o int64, acquisition uint64, count int, h Holder) {
	if s.special(o) {
		s.wrong = fmt.Errorf("Q9: offset %d was delivered", o)
	}
	s.flight = append(s.flight, token{o, acquisition, h})
	s.counted = append(s.counted, countedOffset{o, count, len(s.journal)})
}

// gone is the end of a holder. What it had may count as never delivered, and
// then nothing is promised about its count any more.
func (s *simulation) gone(h Holder) {
	back := s.r.IntN(2) == 0
	for _, o := range s.c.ReleaseHolder(h, back) {
		if back {
			delete(s.least, o)
			s.counted = slices.DeleteFunc(s.counted, func(n countedOffset) bool { return n.offset == o })
		}
	}
	s.flush()
}

// settle acknowledges or releases one of those in flight, whose lock
// may have gone meanwhile.
func (s *simulation) settle() error {
	if len(s.flight) == 0 {
		return nil
	}
	i := s.r.IntN(len(s.flight))
	d := s.flight[i]
	s.flight[i] = s.flight[len(s.flight)-1]
	s.flight = s.flight[:len(s.flight)-1]
	s.stale = append(s.stale, d)
	if s.c.Check(d.offset, d.acquisition, d.holder) != nil {
		return nil
	}
	if s.r.IntN(4) == 0 {
		due := s.r.Int64N(2) * (s.now + s.r.Int64N(200))
		if err := s.c.Release(d.offset, d.acquisition, due, false); err != nil {
			return err
		}
		s.flush()
		return nil
	}
	if err := s.c.Acknowledge(d.offset, d.acquisition); err != nil {
		return err
	}
	s.pending = append(s.pending, confirmation{d.offset, len(s.journal)})
	s.flush()
	return nil
}

func (s *simulation) settleStale() error {
	if len(s.stale) == 0 {
		return nil
	}
	d := s.stale[s.r.IntN(len(s.stale))]
	if s.c.Acknowledge(d.offset, d.acquisition) == nil {
		return fmt.Errorf("Q1: stale token %+v was taken", d)
	}
	return nil
}

func (s *simulation) flush() {
	if d := s.c.TakeDelta(nil); len(d) > 0 {
		s.journal = append(s.journal, d)
	}
}

func (s *simulation) snapshot() {
	s.sync()
	s.journal = [][]byte{s.c.AppendSnapshot(nil)}
	s.c.TakeDelta(nil)
	s.synced = 1
}

// sync confirms some of what waits.
func (s *simulation) sync() {
	s.flush()
	if len(s.journal) == 0 {
		return
	}
	s.synced += s.r.IntN(len(s.journal) - s.synced + 1)
	kept := s.pending[:0]
	for _, p := range s.pending {
		if p.at < s.synced {
			s.acked[p.offset] = true
		} else {
			kept = append(kept, p)
		}
	}
	s.pending = kept
	left := s.counted[:0]
	for _, n := range s.counted {
		if n.at < s.synced {
			s.least[n.offset] = max(s.least[n.offset], n.count)
		} else {
			left = append(left, n)
		}
	}
	s.counted = left
}

// crash loses some of what was not synced, and everybody who held anything.
func (s *simulation) crash() error {
	s.journal = s.journal[:s.synced+s.r.IntN(len(s.journal)-s.synced+1)]
	s.synced = len(s.journal)
	c, err := RestoreCursor(s.journal[0])
	for _, d := range s.journal[1:] {
		if err == nil {
			err = c.Apply(d)
		}
	}
	if err != nil {
		return err
	}
	s.epoch++
	c.BeginEpoch(s.epoch)
	s.c = c
	s.stale = append(s.stale, s.flight...)
	s.flight, s.pending, s.counted = nil, nil, nil
	return s.checkKept()
}

func (s *simulation) check() error {
	st := s.c.Stats()
	if s.wrong != nil {
		return s.wrong
	}
	if s.c.Next()-st.Start != st.Available+st.Acquired+st.Scheduled+st.HeldSends+st.Acknowledged+st.Passed {
		return fmt.Errorf("Q5: next %d, %+v", s.c.Next(), st)
	}
	if st.Available < 0 || s.c.Next() > s.produced {
		return fmt.Errorf("Q5: next %d of %d, %+v", s.c.Next(), s.produced, st)
	}
	return nil
}

// checkKept compares what was confirmed with what a crash has left.
func (s *simulation) checkKept() error {
	for o := range s.acked {
		if o >= s.c.Floor() && !s.c.done.contains(o) {
			return fmt.Errorf("Q3: offset %d is back", o)
		}
	}
	for o, n := range s.least {
		if got := s.c.Count(o); got < n && o >= s.c.Floor() && !s.c.done.contains(o) {
			return fmt.Errorf("Q2: offset %d was delivered %d times, now %d", o, n, got)
		}
	}
	return nil
}

// finish lets one consumer take everything.
func (s *simulation) finish() error {
	for s.c.Floor() < s.produced {
		s.now += 1000
		s.c.ExpireLocks(s.now)
		s.c.DueScheduled(s.now, 1000)
		for h := range Holder(4) {
			s.c.ReleaseHolder(h, false)
		}
		before := s.c.Floor()
		for p := range uint64(3) {
			s.endTransaction(p + 1)
		}
		for o := s.c.Next(); o < s.produced; o++ {
			if s.special(o) {
				s.look(o)
			} else {
				s.c.ScanTo(o + 1)
			}
		}
		s.endHeld()
		for o := range s.c.Undone(0, s.produced) {
			acquisition, count, _ := s.c.Acquire(o, 1, 0)
			s.delivered(o, acquisition, count, 1)
			if err := s.c.Acknowledge(o, acquisition); err != nil {
				return err
			}
		}
		if s.c.Floor() == before {
			return fmt.Errorf("Q5: stuck at %d of %d: %+v", before, s.produced, s.c.Stats())
		}
	}
	return s.wrong
}
