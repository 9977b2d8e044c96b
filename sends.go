package polylog

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// sends is the sending half of a session: the batches that are open, those
// under way, and the completions to be called. Its lock is taken before the
// connection's.
type sends struct {
	s *Session
	c *Connection

	mu          sync.Mutex // guards what follows
	lanes       map[laneKey]*lane
	last        *lane // the lane of the last send: most sessions have one
	lastID      uint64
	outstanding int // messages neither confirmed nor failed, and completions to be called
	completions completionQueue
	completing  bool // the completer has or will have this session in hand
	flushers    []*waiter
	closed      bool
	failed      error // the connection is closed for good
}

// laneKey is what the records of one batch have in common.
type laneKey struct {
	destination *destination
	partition   int32
	unsynced    bool
}

// lane is where the records of one session for one partition gather. Order
// holds within a lane: Jakarta Messaging 3.1 §6.2.9. Guarded by sends.mu.
type lane struct {
	laneKey
	sends  *sends
	full   []*batch // closed, oldest first
	open   *batch   // still filling; newer than full
	under  int      // batches written and not confirmed
	queued bool     // in the connection's ready list, or parked at its destination
}

// maxLanes bounds the lanes that a session keeps while they are empty.
const maxLanes = 1024

func (s *sends) init(session *Session) {
	s.s, s.c = session, session.c
	s.lanes = make(map[laneKey]*lane)
}

// append appends p to the batch that is open for it. One of w and done is told
// of the outcome; neither is if append fails.
func (s *sends) append(ctx context.Context, d *destination, p *parcel, w *waiter, done func(Receipt, error), async bool) (Receipt, error) {
	r, err := d.resolve(ctx)
	if err != nil {
		return Receipt{}, err
	}
	size := p.size()
	if n := len(p.message.Body); r.MaxMessage > 0 && uint64(n) > r.MaxMessage {
		return Receipt{}, &Error{Code: native.CodeTooLarge, Message: fmt.Sprintf("a message of %d bytes, the destination takes %d (max.message.bytes)", n, r.MaxMessage)}
	}
	partition := p.partition
	switch {
	case partition == anyPartition:
		partition = int32(record.Partition(p.message.Key, s.producer(p), int(r.Partitions)))
	case partition < 0 || uint64(partition) >= r.Partitions:
		return Receipt{}, &Error{Code: native.CodeNotFound, Message: fmt.Sprintf("there is no partition %d: the destination has %d", partition, r.Partitions)}
	}
	if err := s.c.budget.take(ctx, int64(size), s.c.closed); err != nil {
		return Receipt{}, err
	}
	s.mu.Lock()
	most := batchBytes
	if r.MaxMessage > 0 { // it bounds a batch, as in Kafka
		most = int(min(uint64(most), r.MaxMessage))
	}
	receipt, l, err := s.add(laneKey{d, partition, p.message.NonPersistent}, p, size, most, w, done, async)
	s.mu.Unlock()
	if err != nil {
		s.c.budget.give(int64(size))
		return Receipt{}, err
	}
	if l != nil {
		s.c.enqueue(l)
	}
	return receipt, nil
}

// producer is who sends p, as far as the choice of a partition goes: the session,
// or what the id that p was given names.
func (s *sends) producer(p *parcel) uint64 {
	given := p.message.ID
	if given == "" {
		return s.s.producer
	}
	h := fnv.New64a()
	_, _ = h.Write(bytesOf(given[:strings.LastIndexByte(given, '-')+1]))
	return h.Sum64()
}

// add adds p to the lane's batch, or to another one where that would become longer
// than most. It returns a lane that is to be enqueued, if there is one.
func (s *sends) add(key laneKey, p *parcel, size, most int, w *waiter, done func(Receipt, error), async bool) (Receipt, *lane, error) {
	if s.failed != nil {
		return Receipt{}, nil, s.failed
	}
	if s.closed {
		return Receipt{}, nil, closedError("the session is closed")
	}
	l := s.lane(key)
	if b := l.open; b != nil && (b.builder.Size()+size > most || b.count == batchRecords) {
		l.full = append(l.full, b)
		l.open = nil
	}
	if l.open == nil {
		l.open = newBatch(l)
	}
	b := l.open
	s.s.work.use()
	id := messageID{s.s.idPrefix, s.lastID + 1}
	if given := p.message.ID; given != "" {
		id = messageID{prefix: given}
	}
	if err := p.appendTo(b.builder, id); err != nil {
		return Receipt{}, nil, err
	}
	s.lastID++
	s.outstanding++
	if async {
		s.completions.push(completion{done: done, batch: b, index: b.count, id: id})
		b.async++
	} else {
		b.waiters = append(b.waiters, batchWaiter{w, b.count})
	}
	b.count++
	b.bytes += int64(size)
	receipt := Receipt{Partition: key.partition, id: id}
	if l.mayGo() {
		l.queued = true
		return receipt, l, nil
	}
	return receipt, nil, nil
}

// mayGo says whether the lane is to be queued: it has something to send that
// need not wait, and is not queued yet. While a few batches are under way, the
// next one fills until one of them is confirmed or it is full: so an idle line
// sends at once, and a loaded one in large batches.
func (l *lane) mayGo() bool {
	return !l.queued && (len(l.full) > 0 || l.open != nil && l.under < unfilledBatches)
}

func (s *sends) lane(key laneKey) *lane {
	if s.last != nil && s.last.laneKey == key {
		return s.last
	}
	l := s.lanes[key]
	if l == nil {
		if len(s.lanes) >= maxLanes {
			s.dropIdle()
		}
		l = &lane{laneKey: key, sends: s}
		s.lanes[key] = l
	}
	s.last = l
	return l
}

func (s *sends) dropIdle() {
	for key, l := range s.lanes {
		if l.open == nil && len(l.full) == 0 && l.under == 0 && !l.queued {
			delete(s.lanes, key)
		}
	}
	s.last = nil
}

// take hands the lane's batches to the connection's writer.
func (l *lane) take(dst []*batch) []*batch {
	l.sends.mu.Lock()
	defer l.sends.mu.Unlock()
	l.queued = false
	l.under += len(l.full)
	dst = append(dst, l.full...)
	clear(l.full)
	l.full = l.full[:0]
	if l.open != nil && l.under < unfilledBatches {
		dst = append(dst, l.open)
		l.open = nil
		l.under++
	}
	return dst
}

// settled ends a batch: it was confirmed at base, or failed.
func (s *sends) settled(b *batch, base int64, err error) {
	s.c.budget.give(b.bytes)
	s.mu.Lock()
	b.base, b.err, b.done = base, err, true
	b.lane.under--
	s.outstanding -= len(b.waiters)
	complete := b.async > 0 && !s.completing
	if complete {
		s.completing = true
	}
	s.wakeFlushers()
	l := b.lane
	if l.mayGo() {
		l.queued = true
	} else {
		l = nil
	}
	s.mu.Unlock()

	for _, w := range b.waiters {
		w.answer(offsetAt(base, w.index), err)
	}
	b.recycle()
	if complete {
		s.c.completer.add(s)
	}
	if l != nil {
		s.c.enqueue(l)
	}
}

// offsetAt is -1 for a message of a transaction, which has no offset yet.
func offsetAt(base int64, index int) int64 {
	if base < 0 {
		return -1
	}
	return base + int64(index)
}

func (s *sends) wakeFlushers() {
	if s.outstanding > 0 {
		return
	}
	for _, w := range s.flushers {
		w.answer(0, nil)
	}
	s.flushers = nil
}

// flush waits until nothing is outstanding.
func (s *sends) flush(ctx context.Context) error {
	s.mu.Lock()
	if s.outstanding == 0 {
		s.mu.Unlock()
		return nil
	}
	w := s.c.newWaiter()
	s.flushers = append(s.flushers, w)
	s.mu.Unlock()
	_, err := w.wait(ctx)
	return err
}

func (s *sends) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

// fail fails whatever has not been written, for good.
func (s *sends) fail(err error) {
	s.mu.Lock()
	s.failed = err
	lanes := make([]*lane, 0, len(s.lanes))
	for _, l := range s.lanes {
		lanes = append(lanes, l)
	}
	s.mu.Unlock()
	for _, l := range lanes {
		l.fail(err)
	}
}

// fail fails what waits in a lane, because its destination is refused.
func (l *lane) fail(err error) {
	for _, b := range l.takeAll() {
		l.sends.settled(b, 0, err)
	}
}

func (l *lane) takeAll() []*batch {
	l.sends.mu.Lock()
	defer l.sends.mu.Unlock()
	batches := l.full
	if l.open != nil {
		batches = append(batches, l.open)
	}
	l.full, l.open, l.queued = nil, nil, false
	l.under += len(batches)
	return batches
}

// putBack returns batches that were not sent, or are to be sent again, to the
// front of their lane, in order.
func (l *lane) putBack(batches []*batch) {
	l.sends.mu.Lock()
	l.full = append(batches, l.full...)
	l.under -= len(batches)
	queue := l.mayGo()
	if queue {
		l.queued = true
	}
	l.sends.mu.Unlock()
	if queue {
		l.sends.c.enqueue(l)
	}
}

// batch is a record batch and those who wait for it. Guarded by its session's
// sends.mu until it is taken, and by the connection's writer until it is
// answered.
type batch struct {
	lane    *lane
	builder *record.Builder
	count   int
	bytes   int64 // of the budget
	waiters []batchWaiter
	async   int // completions to be called

	written bool // some of it may have reached the broker
	base    int64
	err     error
	done    bool
}

type batchWaiter struct {
	*waiter
	index int
}

var builders = sync.Pool{New: func() any { return new(record.Builder) }}

func newBatch(l *lane) *batch {
	b := &batch{lane: l, builder: builders.Get().(*record.Builder)}
	b.builder.Reset()
	return b
}

// recycle gives the bytes back. The rest stays for the completions.
func (b *batch) recycle() {
	if b.builder == nil {
		return
	}
	if b.builder.Size() <= 2*batchBytes { // one large message must not stay for ever
		builders.Put(b.builder)
	}
	b.builder = nil
	b.waiters = nil
}

// The answers to a Send.

func (b *batch) confirmed(base int64) { b.lane.sends.settled(b, base, nil) }

func (b *batch) answered(_, _ []byte) {
	b.lane.sends.settled(b, 0, errors.New("the broker answered a send with OK in place of Confirm"))
}

func (b *batch) refused(err error) {
	if errors.Is(err, ErrNotFound) {
		b.lane.destination.forget()
	}
	b.lane.sends.settled(b, 0, err)
}

func (b *batch) broken(cause error) { b.lane.sends.settled(b, 0, doubt(cause)) }
