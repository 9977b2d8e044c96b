package session

import (
	"errors"
	"fmt"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
)

// maxNoted bounds the runs of deliveries that one transaction acknowledges.
const maxNoted = 1 << 16

// work is what a transacted session has done since its last commit or rollback.
// It is in memory: what is sent is nowhere before the commit, and what is
// acknowledged is its consumers' still, so that with the session it is gone, as
// if rolled back.
type work struct {
	sends   []send // one for each partition
	bytes   int
	noted   history
	refused error // it can only be rolled back, and holds nothing any more
}

// send is whole batches for one partition.
type send struct {
	partition *destination.Partition
	batches   []byte
	records   int
}

func (w *work) empty() bool { return len(w.sends) == 0 && len(w.noted.runs) == 0 && w.refused == nil }

// Transacted refuses what only a transacted session can do, and the reverse:
// Jakarta Messaging 3.1 §6.2.7.
func (s *Session) transacted() error {
	switch {
	case s.mode != AckTransacted:
		return fmt.Errorf("%w: the session is not transacted", ErrInvalid)
	case s.closed:
		return errSessionClosed
	}
	return nil
}

// Send adds a validated batch to the session's transaction; it is copied.
// ErrTooLarge says that the transaction has no room for it: what it has can
// still be committed.
func (s *Session) Send(p *destination.Partition, batch record.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.mayAdd(len(batch))
	if err == nil {
		s.work.add(p, batch, batch.Count())
	}
	return err
}

// mayAdd says whether the transaction has room for sends of that many bytes. The
// lock is held.
func (s *Session) mayAdd(bytes int) error {
	if err := s.transacted(); err != nil {
		return err
	}
	return s.work.mayAdd(bytes, s.connection.broker.MaxUnitBytes())
}

func (w *work) mayAdd(bytes, limit int) error {
	if w.refused != nil {
		return w.refused
	}
	if w.bytes+bytes > limit {
		return fmt.Errorf("%w: a transaction may send %d bytes; commit more often, or have the broker keep a larger journal-file-size", ErrTooLarge, limit)
	}
	return nil
}

// add copies a batch.
func (w *work) add(p *destination.Partition, batch []byte, records int) {
	w.bytes += len(batch)
	for i := range w.sends {
		if s := &w.sends[i]; s.partition == p {
			s.batches = append(s.batches, batch...)
			s.records += records
			return
		}
	}
	w.sends = append(w.sends, send{p, append([]byte(nil), batch...), records})
}

// note has the transaction acknowledge deliveries of k.
func (s *Session) note(k *Consumer, spans []queue.Span, w commitlog.Waiter) error {
	s.mu.Lock()
	if err := s.transacted(); err != nil {
		s.mu.Unlock()
		return err
	}
	if err := s.work.refused; err != nil {
		s.mu.Unlock()
		giveBack([]part{{k, spans}}, nil)
		return err
	}
	err := s.work.note(k, spans)
	s.mu.Unlock()
	if err == nil && w != nil {
		w.Committed(nil)
	}
	return err
}

func (w *work) note(k *Consumer, spans []queue.Span) error {
	if len(w.noted.runs)+len(spans) > maxNoted {
		return fmt.Errorf("%w: a transaction may acknowledge %d runs of messages; commit more often", ErrTooLarge, maxNoted)
	}
	for _, span := range spans {
		w.noted.add(k, span)
	}
	return nil
}

// Commit ends the session's transaction, and begins the next one. w is told
// once, when all that it sent and acknowledged is on disk; with ErrRolledBack
// nothing of it is, and what it acknowledged is delivered again. If Commit
// returns an error, w is not called, and the transaction is rolled back, too.
func (s *Session) Commit(w commitlog.Waiter) error {
	done, err := s.takeWork()
	if err != nil {
		return err
	}
	return s.connection.commit(&done, w)
}

// commit commits work, and tells w as Session.Commit does.
func (c *Connection) commit(done *work, w commitlog.Waiter) error {
	end := &commit{noted: done.noted.takeAll(), next: w}
	if err := c.unit(settled(end.noted), done.sends, end); err != nil {
		giveBack(end.noted, nil)
		return fmt.Errorf("%w: %w", ErrRolledBack, err)
	}
	return nil
}

// unit commits what is settled and sent at once. Messages that are there already
// are left out (destination.Partition.Reserve). If it returns an error, w is not told.
func (c *Connection) unit(settled []queue.Settled, sends []send, w commitlog.Waiter) error {
	u := &queue.Unit{Settled: settled, Done: w}
	r := &reservations{unit: u, next: w}
	for _, s := range sends {
		var reserved *destination.Reservation
		if s.partition.Deduplicates() {
			var err error
			if s.batches, reserved, err = s.partition.Reserve(s.batches); err != nil {
				r.done(err)
				return err
			}
		}
		if len(s.batches) == 0 {
			continue
		}
		u.Sends = append(u.Sends, commitlog.Write{Log: s.partition.Log(), Batches: s.batches})
		if r.all = append(r.all, reserved); reserved != nil {
			u.Done = r
		}
	}
	if len(u.Sends) == 0 && len(u.Settled) == 0 {
		w.Committed(nil)
		return nil
	}
	err := c.broker.Commit(u)
	if err != nil {
		r.done(err)
	}
	return err
}

// reservations are of the sends of a unit, nil for those that need none.
type reservations struct {
	unit *queue.Unit
	all  []*destination.Reservation
	next commitlog.Waiter
}

// Committed implements commitlog.Waiter.
func (r *reservations) Committed(err error) {
	r.done(err)
	r.next.Committed(err)
}

func (r *reservations) done(err error) {
	for i, reserved := range r.all {
		if reserved != nil {
			reserved.Done(r.unit.Sends[i].Base, err)
		}
	}
}

func settled(noted []part) (all []queue.Settled) {
	for _, p := range noted {
		parts, _ := p.consumer.split(p.spans) // they were delivered so
		all = append(all, parts...)
	}
	return all
}

func (s *Session) takeWork() (work, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.transacted(); err != nil {
		return work{}, err
	}
	if s.branch != nil {
		return work{}, fmt.Errorf("%w: the session works for branch %s, whose manager ends it", ErrInvalid, s.branch.xid)
	}
	done := s.work
	s.work = work{}
	return done, nil
}

// commit is one that is under way.
type commit struct {
	noted []part
	next  commitlog.Waiter
}

// Committed implements commitlog.Waiter.
func (c *commit) Committed(err error) {
	if err != nil {
		giveBack(c.noted, nil)
		err = fmt.Errorf("%w: %w", ErrRolledBack, err)
	}
	for _, p := range c.noted {
		p.consumer.Prune()
	}
	c.next.Committed(err)
}

// giveBack has what was acknowledged delivered again, after the destination's
// redelivery delay. What is not held any more was given back before. w, if not
// nil, is told when the counts are on disk.
func giveBack(noted []part, w commitlog.Waiter) {
	parts := settled(noted)
	joint := newJoint(len(parts)+1, w)
	for _, s := range parts {
		err := s.View.Settle(s.Holder, s.Spans, queue.Outcome{Kind: queue.Release, Delay: -1}, joint)
		if err != nil {
			var stale *destination.StaleTokenError
			if errors.As(err, &stale) {
				err = nil // its lock or its consumer is gone, and so it was given back before
			}
			joint.Committed(err)
		}
	}
	for _, p := range noted {
		p.consumer.Prune()
	}
	joint.Committed(nil)
}

// Rollback undoes the session's transaction, and begins the next one: what it
// sent is nowhere, and what it acknowledged is delivered again, after the
// destination's redelivery delay, with one more delivery counted. w, if not nil,
// is told when the counts are on disk.
func (s *Session) Rollback(w commitlog.Waiter) error {
	undone, err := s.takeWork()
	if err != nil {
		return err
	}
	giveBack(undone.noted.takeAll(), w)
	return nil
}

// Transaction is a unit of work of a protocol whose clients name theirs, and have
// several: AMQP 1.0 part 4, STOMP's BEGIN. Its sends and acknowledgements may be of
// all sessions of its connection that are not transacted themselves. It ends once,
// with Commit or Rollback; with its connection, it is gone. It may be used by many
// goroutines.
type Transaction struct {
	connection *Connection

	mu    sync.Mutex // guards what follows
	work  work
	ended bool
}

// maxTransactions bounds those of a connection, whose sends are in memory.
const maxTransactions = 256

// Begin begins a transaction: ErrBusy beyond 256 of a connection, ErrClosed.
func (c *Connection) Begin() (*Transaction, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, errConnectionClosed
	case c.transactions >= maxTransactions:
		return nil, fmt.Errorf("%w: a connection may have %d transactions under way", ErrBusy, maxTransactions)
	}
	c.used = true
	c.transactions++
	return &Transaction{connection: c}, nil
}

var errTransactionEnded = fmt.Errorf("transaction %w", ErrClosed)

// Send is Session.Send.
func (t *Transaction) Send(p *destination.Partition, batch record.Batch) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return errTransactionEnded
	}
	err := t.work.mayAdd(len(batch), t.connection.broker.MaxUnitBytes())
	if err == nil {
		t.work.add(p, batch, batch.Count())
	}
	return err
}

// Acknowledge has the transaction acknowledge deliveries of k.
func (t *Transaction) Acknowledge(k *Consumer, spans []queue.Span) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return errTransactionEnded
	}
	return t.work.note(k, spans)
}

// Commit is Session.Commit, and ends the transaction.
func (t *Transaction) Commit(w commitlog.Waiter) error {
	done, err := t.end()
	if err != nil {
		return err
	}
	return t.connection.commit(&done, w)
}

// Rollback is Session.Rollback, and ends the transaction.
func (t *Transaction) Rollback(w commitlog.Waiter) error {
	undone, err := t.end()
	if err != nil {
		return err
	}
	giveBack(undone.noted.takeAll(), w)
	return nil
}

func (t *Transaction) end() (work, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return work{}, errTransactionEnded
	}
	t.ended = true
	done := t.work
	t.work = work{}
	t.connection.mu.Lock()
	t.connection.transactions--
	t.connection.mu.Unlock()
	return done, nil
}
