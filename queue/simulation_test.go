package queue

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

var simulationSeed = flag.Uint64("seed", 0, "run the simulation with this seed only")

// TestSimulation plays producers, consumers, power cuts and full disks against
// a model, and checks
//
//	Q1 a settlement with the newest token is accepted, any other is refused
//	Q2 counts only grow, but by what a power cut may take
//	Q3 what was confirmed as acknowledged is not delivered again
//	Q4 what is delivered for the first time comes in the order of sending
//	Q5 the account is right at all times, and in the end every message is somewhere
//	Q6 a message is never at its dead letter destination and still here, nor at neither
//	Q9 what a transaction sent is delivered after it has committed, and never if it was aborted
func TestSimulation(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		if *simulationSeed != 0 {
			seed = *simulationSeed
		}
		synctest.Test(t, func(t *testing.T) {
			s := newSimulation(t, seed)
			if err := s.run(200); err != nil {
				t.Errorf("%v\nrun with -seed %d", err, seed)
			}
		})
		if t.Failed() || *simulationSeed != 0 {
			return
		}
	}
}

// fate is what the model knows of one message.
type fate struct {
	stored    bool // confirmed to the producer
	acked     bool // confirmed to the consumer
	maybeDone bool // settled, and the confirmation did not come
	rejected  bool // asked to leave, confirmed
	count     int  // of the newest delivery
	seen      bool // delivered at least once
	excused   bool // a power cut or a release may have lowered its count
	delayed   bool // overtaken by what was sent later
	sender    *sender
}

type simulation struct {
	t       *testing.T
	rnd     *rand.Rand
	r       *rig
	d       *destination.Destination
	v       *View
	players []*player
	sent    int
	senders []*sender // one for each Kafka producer; its present transaction
	ids     int64

	mu    sync.Mutex
	fates map[string]*fate
	err   error
}

type player struct {
	c     *Consumer
	s     *simulation
	mu    sync.Mutex
	held  []got
	stale []got
	order map[int32]int64 // highest offset delivered for the first time; simulation.mu
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), fates: map[string]*fate{}}
	s.open(commitlog.NewMemFS())
	for range 3 {
		s.senders = append(s.senders, s.newSender(0))
	}
	return s
}

func (s *simulation) open(fs *commitlog.MemFS) {
	s.r = openRig(s.t, fs)
	s.d = s.r.destination("q", "partitions", "2", "max.deliveries", "4")
	s.v = s.r.view(s.d)
	s.players = nil
	for range 3 {
		s.join()
	}
}

func (s *simulation) join() {
	p := &player{s: s, order: map[int32]int64{}}
	holders++
	o := ConsumerOptions{Holder: holders}
	if s.rnd.IntN(4) == 0 {
		odd := s.rnd.IntN(2)
		o.Selector = match(func(r *record.Record) bool { return int(r.Value[len(r.Value)-1])%2 == odd })
	}
	if s.rnd.IntN(4) == 0 {
		o.Lock = time.Second
	}
	c, err := s.v.Consume(o, p)
	must(s.t, err)
	p.c = c
	s.players = append(s.players, p)
}

func (s *simulation) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
}

func (p *player) Deliver(d Delivery) {
	var r record.Reader
	if err := r.Reset(d.Batch, maxDecompressed); err != nil || !d.Batch.CRCValid() {
		p.s.fail("delivered batch: %v", err)
	}
	for i := 0; r.Next(); i++ {
		count := 1
		if d.Counts != nil {
			count = int(d.Counts[i])
		}
		g := got{string(r.Record().Value), d.Partition, r.Record().Offset, d.FirstAcquisition + uint64(i), count}
		if g.offset != d.Offset+int64(i) {
			p.s.fail("offset %d at place %d of a delivery from %d", g.offset, i, d.Offset)
		}
		p.s.delivered(p, g)
		p.mu.Lock()
		p.held = append(p.held, g)
		p.mu.Unlock()
	}
}

func (*player) Flush()                    {}
func (p *player) Drained(*Consumer)       {}
func (p *player) Closed(*Consumer, error) {}

func (s *simulation) delivered(p *player, g got) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fates[g.body]
	bad := func(what string) {
		if s.err == nil {
			s.err = fmt.Errorf("%s: %+v, known %+v", what, g, *f)
		}
	}
	switch {
	case f.sender != nil && f.sender.outcome != committed:
		bad("Q9: delivered before the commit, or in spite of an abort")
	case f.acked:
		bad("Q3: delivered after its acknowledgement was confirmed")
	case f.rejected:
		bad("Q6: delivered after its rejection was confirmed")
	case g.count > 4:
		bad("delivered too often")
	case f.seen && !f.excused && g.count != f.count+1:
		bad("Q2: count")
	}
	if !f.seen && !f.delayed {
		if last, ok := p.order[g.partition]; ok && g.offset < last {
			bad("Q4: first delivery out of order")
		}
		p.order[g.partition] = max(p.order[g.partition], g.offset)
	}
	f.seen, f.count, f.excused = true, g.count, false
}

func (s *simulation) run(steps int) error {
	defer func() {
		s.v.Close()
		s.r.close()
	}()
	for range steps {
		s.step()
		synctest.Wait()
		s.account()
		if s.err != nil {
			return s.err
		}
	}
	return s.finish()
}

func (s *simulation) step() {
	p := s.players[s.rnd.IntN(len(s.players))]
	switch n := s.rnd.IntN(125); {
	case n < 25:
		s.put()
	case n < 45:
		p.c.Credit(1 + s.rnd.IntN(20))
	case n < 65:
		s.settle(p, Outcome{})
	case n < 73:
		s.settle(p, Outcome{Kind: Release, Delay: time.Duration(s.rnd.IntN(3)) * 100 * time.Millisecond, CountBack: s.rnd.IntN(3) == 0})
	case n < 78:
		s.settle(p, Outcome{Kind: Reject})
	case n < 82:
		s.late(p)
	case n < 87:
		s.leave(p)
	case n < 92:
		time.Sleep(time.Duration(s.rnd.IntN(1500)) * time.Millisecond)
	case n < 95:
		s.fullDisk()
	case n < 100:
		s.powerCut()
	case n < 115:
		s.sendInTransaction()
	default:
		s.endTransaction(s.rnd.IntN(len(s.senders)), s.rnd.IntN(3) > 0)
	}
}

func (s *simulation) put() {
	var b record.Builder
	var all []*fate
	for range 1 + s.rnd.IntN(8) {
		body := fmt.Sprintf("m%d", s.sent)
		s.sent++
		f := &fate{}
		s.mu.Lock()
		s.fates[body] = f
		s.mu.Unlock()
		all = append(all, f)
		m := message{body: body}
		if s.rnd.IntN(10) == 0 {
			f.delayed = true
			m.due = time.Now().Add(200 * time.Millisecond).UnixMilli()
		}
		m.appendTo(&b, time.Now().UnixMilli())
	}
	codec := record.None
	if s.rnd.IntN(3) == 0 {
		codec = record.LZ4
	}
	batch, err := record.Compress(nil, b.Batch(), codec)
	must(s.t, err)
	_, _, err = s.v.Put(nil, s.rnd.Uint64(), batch, s.then(func() {
		for _, f := range all {
			f.stored = true
		}
	}))
	must(s.t, err)
}

// told is a waiter that changes the model if all went well.
type told struct {
	s  *simulation
	ok func()
}

func (s *simulation) then(ok func()) commitlog.Waiter { return told{s, ok} }

func (w told) Committed(err error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if err == nil {
		w.ok()
	}
}

// settle settles some of what the player holds. What is not confirmed may or
// may not be.
func (s *simulation) settle(p *player, o Outcome) {
	p.mu.Lock()
	s.rnd.Shuffle(len(p.held)/2, func(i, j int) { p.held[i], p.held[j] = p.held[j], p.held[i] })
	n := min(len(p.held), 1+s.rnd.IntN(10))
	some := slices.Clone(p.held[:n])
	p.held = slices.Delete(p.held, 0, n)
	p.stale = append(p.stale, some...)
	p.mu.Unlock()
	if n == 0 {
		return
	}
	s.mu.Lock()
	var fates []*fate
	for _, g := range some {
		f := s.fates[g.body]
		fates = append(fates, f)
		if o.Kind == Release {
			f.excused = true
		} else {
			f.maybeDone = true
		}
	}
	s.mu.Unlock()
	err := s.v.Settle(p.c.holder, spans(some...), o, s.then(func() {
		for _, f := range fates {
			f.acked = f.acked || o.Kind == Acknowledge
			f.rejected = f.rejected || o.Kind == Reject
		}
	}))
	if err != nil && (p.c.lockMS == 0 || !errors.Is(err, destination.ErrStaleToken)) && s.r.store.Err() == nil {
		s.fail("Q1: settle %v of %v: %w", o.Kind, some, err)
	}
}

// late settles with a token that was settled before.
func (s *simulation) late(p *player) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.stale) == 0 {
		return
	}
	g := p.stale[s.rnd.IntN(len(p.stale))]
	if err := s.v.Settle(p.c.holder, spans(g), Outcome{}, nil); !errors.Is(err, destination.ErrStaleToken) {
		s.fail("Q1: a stale token of %v: %v", g, err)
	}
}

func (s *simulation) leave(p *player) {
	s.excuse(p)
	p.c.Close(s.rnd.IntN(2) == 0)
	s.players = slices.DeleteFunc(s.players, func(o *player) bool { return o == p })
	s.join()
}

func (s *simulation) excuse(p *player) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range p.held {
		s.fates[g.body].excused = true
	}
}

// fullDisk refuses growth for a while.
func (s *simulation) fullDisk() {
	s.r.fs.SetCapacity(max(s.r.fs.Used(), 1))
	for range 5 {
		p := s.players[s.rnd.IntN(len(s.players))]
		s.settle(p, Outcome{Kind: OutcomeKind(s.rnd.IntN(3))})
		synctest.Wait()
	}
	s.r.fs.SetCapacity(0)
}

func (s *simulation) powerCut() {
	fs := s.r.fs.Crash(s.rnd.Uint64())
	s.mu.Lock()
	for _, f := range s.fates {
		f.excused = true
		f.maybeDone = f.maybeDone || f.count >= 4
	}
	s.mu.Unlock()
	s.v.Close()
	s.r.close()
	s.endAgain(s.rnd.IntN(2) == 0, fs)
}

// sender is a transaction of a Kafka producer.
type sender struct {
	id        int64
	epoch     int16
	sequences map[int]int32 // by partition
	sent      int           // batches
	stored    int           // of those, confirmed
	lost      bool          // a power cut took one
	outcome   sendOutcome   // decided, as a coordinator does before it writes markers
	ended     int           // markers that were confirmed
}

func (s *simulation) newSender(epoch int16) *sender {
	s.ids++
	return &sender{id: s.ids, epoch: epoch, sequences: map[int]int32{}}
}

// sendInTransaction sends a batch in the open transaction of one of the senders.
func (s *simulation) sendInTransaction() {
	tx := s.senders[s.rnd.IntN(len(s.senders))]
	if tx.lost {
		return
	}
	var b record.Builder
	var all []*fate
	for range 1 + s.rnd.IntN(5) {
		body := fmt.Sprintf("m%d", s.sent)
		s.sent++
		f := &fate{sender: tx, delayed: true}
		s.mu.Lock()
		s.fates[body] = f
		s.mu.Unlock()
		all = append(all, f)
		m := message{body: body}
		if s.rnd.IntN(10) == 0 {
			m.due = time.Now().Add(200 * time.Millisecond).UnixMilli()
		}
		m.appendTo(&b, time.Now().UnixMilli())
	}
	i := s.rnd.IntN(len(s.d.Partitions))
	b.SetProducer(tx.id, tx.epoch, tx.sequences[i], true)
	tx.sequences[i] += int32(len(all))
	codec := record.None
	if s.rnd.IntN(3) == 0 {
		codec = record.LZ4
	}
	batch, err := record.Compress(nil, b.Batch(), codec)
	must(s.t, err)
	tx.sent++
	_, err = s.d.Partitions[i].Produce(batch, false, s.then(func() {
		tx.stored++
		for _, f := range all {
			f.stored = true
		}
	}))
	must(s.t, err)
	if s.rnd.IntN(2) == 0 {
		synctest.Wait()
	}
}

// endTransaction ends a transaction on all its partitions, and begins another.
func (s *simulation) endTransaction(i int, commit bool) {
	tx := s.senders[i]
	synctest.Wait() // a client waits for its sends before it commits
	s.mu.Lock()
	if tx.outcome == open {
		tx.outcome = aborted
		if commit && !tx.lost && tx.stored == tx.sent {
			tx.outcome = committed
		}
	}
	s.mu.Unlock()
	s.writeMarkers(tx)
	s.senders[i] = s.newSender(0)
	if s.rnd.IntN(2) == 0 { // the same producer, in a new epoch or in the old one
		s.senders[i].id, s.senders[i].epoch = tx.id, tx.epoch+int16(s.rnd.IntN(2))
		if tx.epoch == s.senders[i].epoch {
			s.senders[i].sequences = tx.sequences
			s.senders[i].lost = tx.lost
		}
	}
	if s.rnd.IntN(10) == 0 {
		s.powerCutDuring(tx)
	}
}

func (s *simulation) writeMarkers(tx *sender) {
	for _, i := range s.rnd.Perm(len(s.d.Partitions)) {
		if _, sent := tx.sequences[i]; sent {
			must(s.t, s.d.Partitions[i].EndTransaction(tx.id, tx.epoch, 0, tx.outcome == committed, s.then(func() { tx.ended++ })))
		}
	}
}

// powerCutDuring cuts the power when perhaps some of a transaction's markers
// are written. The coordinator writes them again.
func (s *simulation) powerCutDuring(tx *sender) {
	s.powerCut()
	s.writeMarkers(tx)
}

// endAgain restarts after a power cut. What a transaction sent and was not
// told of may be lost, so that it can only abort; some do before the view is
// open.
func (s *simulation) endAgain(early bool, fs *commitlog.MemFS) {
	for _, tx := range s.senders {
		tx.lost = tx.lost || tx.stored < tx.sent
	}
	if early {
		r := openRig(s.t, fs)
		s.r, s.d = r, r.destination("q", "partitions", "2", "max.deliveries", "4")
		for i, tx := range s.senders {
			if tx.sent > 0 && s.rnd.IntN(2) == 0 {
				s.endTransactionQuietly(i)
			}
		}
		synctest.Wait()
		s.r.close()
	}
	s.open(fs)
}

func (s *simulation) endTransactionQuietly(i int) {
	tx := s.senders[i]
	tx.outcome = aborted
	if !tx.lost && s.rnd.IntN(2) == 0 {
		tx.outcome = committed
	}
	s.writeMarkers(tx)
	s.senders[i] = s.newSender(0)
}

// account is Q5.
func (s *simulation) account() {
	st := s.v.Stats()
	if st.Produced != st.Waiting+st.Acquired+st.Scheduled+st.Held+st.Done {
		s.fail("Q5: %+v", st)
	}
	held := int64(0)
	s.v.mu.Lock()
	for _, c := range s.v.holders {
		if c.lockMS == 0 {
			held += c.held
		}
	}
	s.v.mu.Unlock()
	if st.Acquired < held+st.Moving {
		s.fail("Q5: %d held by consumers, %d moving: %+v", held, st.Moving, st)
	}
}

// finish has everything delivered and looks where each message is.
func (s *simulation) finish() error {
	for i := range s.senders {
		s.endTransaction(i, s.rnd.IntN(2) > 0)
	}
	for _, p := range s.players {
		s.excuse(p)
		p.c.Close(true)
	}
	s.players = nil
	holders++
	last := &player{s: s, order: map[int32]int64{}}
	var err error
	last.c, err = s.v.Consume(ConsumerOptions{Holder: holders}, last)
	must(s.t, err)
	last.c.Credit(1 << 20)
	time.Sleep(5 * time.Second)
	synctest.Wait()
	s.account()
	dead := s.dead()
	here := map[string]int{}
	for _, g := range last.held {
		here[g.body]++
	}
	for body, f := range s.fates {
		places := here[body] + dead[body]
		switch {
		case places > 1:
			s.fail("Q6: %s is %d times here and %d times dead", body, here[body], dead[body])
		case f.acked && places > 0:
			s.fail("Q3: %s is acknowledged and still somewhere", body)
		case f.rejected && dead[body] != 1:
			s.fail("Q6: %s was rejected and is not dead", body)
		case f.sender != nil && f.sender.outcome == aborted && places > 0:
			s.fail("Q9: %s was aborted and is somewhere", body)
		case f.sender != nil && f.sender.outcome == aborted:
		case f.stored && !f.acked && !f.maybeDone && places == 0:
			s.fail("Q5: %s is lost: %+v", body, *f)
		}
	}
	return s.err
}

func (s *simulation) dead() map[string]int {
	found := map[string]int{}
	for _, p := range s.r.destination("DLQ.q").Partitions {
		for offset := p.Start(); offset < p.Stable(); {
			buf, err := p.Read(offset, 1<<20, nil)
			must(s.t, err)
			for len(buf) > 0 {
				b, rest, err := record.Next(buf)
				must(s.t, err)
				var r record.Reader
				must(s.t, r.Reset(b, maxDecompressed))
				for r.Next() {
					found[string(r.Record().Value)]++
				}
				buf, offset = rest, b.NextOffset()
			}
		}
	}
	return found
}
