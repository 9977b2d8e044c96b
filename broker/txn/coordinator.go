package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// Partition is what the coordinator needs of a partition that a transaction
// has records in.
type Partition interface {
	// EndTransaction appends the end marker; w is told when that is durable.
	// destination.ErrProducerFenced if a marker or record of a newer epoch is
	// there; commitlog.ErrDeleted if the partition is gone.
	EndTransaction(producerID int64, epoch int16, coordinatorEpoch int32, commit bool, w commitlog.Waiter) error
}

// Groups is the group coordinator.
type Groups interface {
	// EndTransaction makes the offsets of a transaction those of the group, or
	// drops them, and writes the marker. It returns when that is durable, and
	// may be called again for what it has done.
	EndTransaction(ctx context.Context, producerID int64, epoch int16, group string, commit bool) error
}

// Options are what the coordinator is made of. Those without a default must be set.
type Options struct {
	// Log finds or makes __transaction_state; Settings say how. It may be called again.
	Log func() (*destination.Destination, error)
	// Find only finds it: destination.ErrNotFound if nobody has used
	// transactions yet. Default: Log.
	Find func() (*destination.Destination, error)
	// Partition finds a partition by its topic's name: destination.ErrNotFound.
	Partition func(topic string, partition int32) (Partition, error)
	// Groups ends the transactions of offsets.
	Groups Groups
	// OffsetsPartitions is the number of partitions of __consumer_offsets; default 50.
	OffsetsPartitions func() int
	// NextProducerIDBlock gives n producer ids from first on, durably nobody else's.
	NextProducerIDBlock func() (first int64, n int, err error)

	// MaxTimeout bounds what a producer may ask for; default 15 minutes.
	MaxTimeout time.Duration
	// Expiration is after how long an unused transactional id is forgotten; default 7 days.
	Expiration time.Duration
	// MaxIDs bounds the transactional ids; default 1,000,000. A new one beyond
	// gets POLICY_VIOLATION.
	MaxIDs int
	// Patience bounds how long a request waits for the end of the transaction
	// before, instead of CONCURRENT_TRANSACTIONS; default 100 ms, as Kafka's
	// add.partitions.to.txn.retry.backoff.max.ms; negative: not at all.
	Patience time.Duration
	// FinishTimeout bounds how long EndTxn waits for the markers before it
	// answers; default 5 s; negative: not at all, as Kafka.
	FinishTimeout time.Duration

	Now       func() time.Time                                    // default time.Now
	AfterFunc func(d time.Duration, fn func()) (stop func() bool) // default time.AfterFunc
	Logger    *slog.Logger                                        // default slog.Default
}

const (
	// maxWorkers bounds the goroutines that end transactions. A worker waits
	// only for a group's offsets, so this is how many groups share a sync.
	maxWorkers = 64
	// maxGroups bounds the groups of one transaction; POLICY_VIOLATION.
	maxGroups = 1000
	// retryAfter is the wait before a marker or a record is written again
	// after a failure, and between two attempts to time a transaction out.
	retryAfter = time.Second
	// expireEvery is how often idle ids are looked for.
	expireEvery = time.Hour
)

var _ Partition = (*destination.Partition)(nil)

// Settings are how __transaction_state is to be made: of kind log, compacted,
// in segments that are small because all of it is read at a start.
func Settings() destination.Settings {
	s := destination.DefaultSettings()
	s.Partitions = 50
	s.CleanupPolicy = destination.CleanupCompact
	s.RetentionMS = -1
	s.SegmentBytes = 8 << 20
	return s
}

// Coordinator is Kafka's transaction coordinator for all transactional ids.
// It is safe for concurrent use.
//
// It runs up to maxWorkers goroutines, while there are transactions to end;
// Close waits for them. mu is never held over a sync, an append, or a call of
// anything in Options but Now, AfterFunc and Logger.
type Coordinator struct {
	o      Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup // of workers

	mu           sync.Mutex               // guards all below
	log          *destination.Destination // nil until the first transactional id; then for good
	opening      chan struct{}            // closed when the call of Options.Log that is under way is over
	transactions map[string]*transaction
	deadlines    deadlines // of open transactions
	alarm        alarm     // for the first of deadlines
	expiry       func() bool
	ids          producerIDs
	jobs         []job
	workers      int
	closed       bool
}

// transaction is a transactional id: its machine and what is under way for it.
// Coordinator.mu guards it.
type transaction struct {
	machine
	id        string
	changed   chan struct{} // closed when the machine is no longer busy; nil while nobody waits
	held      int           // admissions: what was let in and may not be appended yet
	finishing bool          // a worker has it, or will
	wakeAt    int64         // ms; when to look at its deadline, while it is in Coordinator.deadlines
	index     int           // in Coordinator.deadlines; -1: not there
}

// Open reads __transaction_state, if it is there, and begins to finish what
// was prepared. The partitions and groups must be there already.
func Open(o Options) (*Coordinator, error) {
	o.MaxTimeout = cmp.Or(o.MaxTimeout, 15*time.Minute)
	o.Expiration = cmp.Or(o.Expiration, 7*24*time.Hour)
	o.MaxIDs = cmp.Or(o.MaxIDs, 1_000_000)
	o.Patience = cmp.Or(o.Patience, 100*time.Millisecond)
	o.FinishTimeout = cmp.Or(o.FinishTimeout, 5*time.Second)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.Find == nil {
		o.Find = o.Log
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AfterFunc == nil {
		o.AfterFunc = func(d time.Duration, fn func()) func() bool { return time.AfterFunc(d, fn).Stop }
	}
	if o.OffsetsPartitions == nil {
		o.OffsetsPartitions = func() int { return 50 }
	}
	c := &Coordinator{o: o, transactions: map[string]*transaction{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	log, err := o.Find()
	switch {
	case errors.Is(err, destination.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("find %s: %w", TopicName, err)
	default:
		c.log = log
		if err := c.load(); err != nil {
			return nil, fmt.Errorf("read %s: %w", TopicName, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transactions {
		c.settled(t)
	}
	c.scheduleExpiry(expireEvery)
	return c, nil
}

// Close refuses what comes, and waits for the workers. What was prepared and
// is not finished will be after the next start.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	c.closed = true
	c.jobs = nil
	c.alarm.stop()
	if c.expiry != nil {
		c.expiry()
	}
	for _, t := range c.transactions {
		t.wake()
	}
	c.mu.Unlock()
	c.cancel()
	c.wait.Wait()
	return nil
}

func (c *Coordinator) nowMS() int64 { return c.o.Now().UnixMilli() }

// open finds or makes the log, before the first transactional id is made.
// Those who come meanwhile wait for the same.
func (c *Coordinator) open(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.log != nil {
			c.mu.Unlock()
			return nil
		}
		if opening := c.opening; opening != nil {
			c.mu.Unlock()
			select {
			case <-opening:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		c.opening = make(chan struct{})
		c.mu.Unlock()
		log, err := c.o.Log()
		c.mu.Lock()
		close(c.opening)
		c.opening = nil
		if err == nil {
			c.log = log
		}
		c.mu.Unlock()
		return err
	}
}

// partition is where the records of a transactional id are.
func (c *Coordinator) partition(id string) *destination.Partition {
	return c.log.Partitions[partitionOf(id, len(c.log.Partitions))]
}

// change is closed when the machine is no longer busy. mu is held.
func (t *transaction) change() <-chan struct{} {
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// wake tells those who wait that the machine is no longer busy.
func (t *transaction) wake() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// write is one record under way. It is told by the log, once.
type write struct {
	c    *Coordinator
	t    *transaction
	done chan struct{} // closed when it is durable or has failed
	code int16         // set before done is closed
}

// Committed is called by the log's committer, or by whoever appended in vain.
func (w *write) Committed(err error) {
	c, t := w.c, w.t
	c.mu.Lock()
	defer c.mu.Unlock()
	t.appended(err == nil)
	if err != nil {
		c.o.Logger.Warn("transaction record not written", "transactional_id", t.id, "error", err)
	}
	if t.current.state == dead || t.current.epoch == noEpoch {
		// Forgotten, or never used.
		delete(c.transactions, t.id)
	}
	w.code = ofAppend(err)
	close(w.done)
	c.settled(t)
}

// settled is called when a transition has ended, in mu: on the committer's
// goroutine mostly, so it only arranges what is next.
func (c *Coordinator) settled(t *transaction) {
	c.setDeadline(t)
	if !t.busy() {
		t.wake()
		return
	}
	c.finish(t)
}

// finish has a worker end a prepared transaction, once nobody is about to
// append to it. mu is held.
func (c *Coordinator) finish(t *transaction) {
	if t.current.state.prepared() && !t.finishing && t.held == 0 {
		t.finishing = true
		c.do(job{t: t})
	}
}

// begin is called under mu when a machine has answered. The caller gives what it
// returns, nil if there is nothing to write, to append, without mu.
func (c *Coordinator) begin(t *transaction, a answer) *write {
	if a.write == nil {
		return nil
	}
	return &write{c: c, t: t, done: make(chan struct{})}
}

// append writes what the machine has in next. mu is not held; until w is told,
// nobody else changes the machine.
func (c *Coordinator) append(w *write) {
	if w == nil {
		return
	}
	if err := c.appendRecord(w.t.id, w.t.next, w); err != nil {
		w.Committed(err)
	}
}

// appendRecord appends the record of an id, a tombstone if it is dead.
func (c *Coordinator) appendRecord(id string, m *metadata, w commitlog.Waiter) error {
	var value []byte
	if m.state != dead {
		value = appendValue(nil, m)
	}
	var b record.Builder
	b.Append(c.nowMS(), appendKey(nil, id), value, nil)
	_, err := c.partition(id).Append(b.Batch(), w)
	return err
}

// outcome waits for a write. Its transition goes on when ctx ends.
func (c *Coordinator) outcome(ctx context.Context, w *write, code int16) int16 {
	if w == nil {
		return code
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		return codeCoordinatorNotAvailable
	case <-c.ctx.Done():
		return codeCoordinatorNotAvailable
	}
	if w.code != codeNone {
		return w.code
	}
	return code
}

// ask has the machine of an id answer, and gives it a new producer id if it
// needs one. It waits for what the machine wants written.
func (c *Coordinator) ask(ctx context.Context, id string, request func(t *transaction, newID int64) answer) int16 {
	w, code := c.start(ctx, id, request)
	return c.outcome(ctx, w, code)
}

// start is ask without waiting.
func (c *Coordinator) start(ctx context.Context, id string, request func(t *transaction, newID int64) answer) (*write, int16) {
	for newID := noID; ; {
		c.mu.Lock()
		t := c.transactions[id]
		if c.closed || t == nil {
			defer c.mu.Unlock()
			if c.closed {
				return nil, codeCoordinatorNotAvailable
			}
			return nil, codeInvalidProducerIDMapping
		}
		a := request(t, newID)
		w := c.begin(t, a)
		c.mu.Unlock()
		if !a.needID {
			c.append(w)
			return w, a.code
		}
		var err error
		if newID, err = c.newProducerID(ctx); err != nil {
			return nil, codeCoordinatorLoading
		}
	}
}

// patiently is start that waits a moment while the machine is busy, for
// requests that have nothing to do with why.
func (c *Coordinator) patiently(ctx context.Context, id string, request func(t *transaction, newID int64) answer) (*write, int16) {
	var over chan struct{}
	for {
		var changed <-chan struct{}
		w, code := c.start(ctx, id, func(t *transaction, newID int64) answer {
			a := request(t, newID)
			if a.code == codeConcurrentTransactions && t.busy() && c.o.Patience > 0 {
				changed = t.change()
			}
			return a
		})
		if code != codeConcurrentTransactions || changed == nil {
			return w, code
		}
		if over == nil {
			over = make(chan struct{})
			defer c.o.AfterFunc(c.o.Patience, func() { close(over) })()
		}
		select {
		case <-changed:
		case <-over:
			return w, code
		case <-ctx.Done():
			return w, code
		}
	}
}
