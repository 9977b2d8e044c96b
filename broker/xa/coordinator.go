package xa

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
)

// TopicName is the internal destination that keeps the branches.
const TopicName = "__xa_state"

// Settings are those of TopicName.
func Settings() destination.Settings {
	s := destination.DefaultSettings()
	s.Partitions = 1
	s.CleanupPolicy = destination.CleanupCompact
	s.RetentionMS = -1
	s.SegmentBytes = 8 << 20
	return s
}

// Options of a Coordinator. None is optional but Logger.
type Options struct {
	// Log makes TopicName; Find is Log where it is there: ErrNotFound.
	Log, Find func() (*destination.Destination, error)
	// Commit commits a unit, as queue.Committer does.
	Commit func(*queue.Unit) error
	// State has the cursors, when views are not open yet.
	State *destination.DeliveryState
	// Topic is the destination of an id, nil if it is gone.
	Topic func(id [16]byte) *destination.Destination
	// View opens the view of a cursor, and keeps it until leave is called; nil
	// if it is gone.
	View   func(ctx context.Context, id destination.CursorID) (v *queue.View, leave func(), err error)
	Now    func() time.Time
	Logger *slog.Logger
}

// Coordinator keeps the branches of a broker. It is safe for concurrent use.
// Its methods wait for the disk.
type Coordinator struct {
	o Options

	mu       sync.Mutex // guards what follows; never held across a wait
	log      *destination.Destination
	branches map[destination.XID]*branch
	last     uint64 // id
}

// branch is one that is prepared, or reserved by a session.
type branch struct {
	entry
	xid    destination.XID
	busy   bool  // somebody prepares it or ends it
	offset int64 // of its record with the sends
}

// reserved says whether the branch is a session's still.
func (b *branch) reserved() bool { return b.state == 0 }

// Open reads the branches, and ends the holds of those that have ended. No view
// is open yet.
func Open(o Options) (*Coordinator, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	c := &Coordinator{o: o, branches: map[destination.XID]*branch{}}
	d, err := o.Find()
	switch {
	case errors.Is(err, destination.ErrNotFound):
	case err != nil:
		return nil, err
	default:
		c.log = d
		if err := c.load(d.Partitions[0]); err != nil {
			return nil, fmt.Errorf("read %s: %w", TopicName, err)
		}
	}
	return c, c.settle()
}

// Reserve has a session begin a branch: ErrExists (XAER_DUPID).
func (c *Coordinator) Reserve(x destination.XID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.branches[x] != nil {
		return fmt.Errorf("branch %s %w", x, destination.ErrExists)
	}
	c.branches[x] = &branch{xid: x}
	return nil
}

// Release ends a branch that is only reserved.
func (c *Coordinator) Release(x destination.XID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.branches[x]; b != nil && b.reserved() {
		delete(c.branches, x)
	}
}

// Send is a unit's write with where it goes.
type Send = destination.BranchSend

// Prepare prepares a reserved branch: what u settles is held and what it sends
// kept from then on. With an error, nothing is, and it is released.
func (c *Coordinator) Prepare(x destination.XID, settled []queue.Settled, sends []Send) error {
	c.mu.Lock()
	b := c.branches[x]
	if b == nil || !b.reserved() || b.busy {
		c.mu.Unlock()
		return fmt.Errorf("branch %s: %w", x, destination.ErrNotFound)
	}
	b.busy = true
	c.last++
	b.id = c.last
	c.mu.Unlock()

	err := c.prepare(b, settled, sends)
	c.mu.Lock()
	defer c.mu.Unlock()
	b.busy = false
	if err != nil {
		delete(c.branches, x)
		return err
	}
	b.state = destination.BranchPrepared
	b.sends = nil // they are in the log
	return nil
}

func (c *Coordinator) prepare(b *branch, settled []queue.Settled, sends []Send) error {
	p, err := c.partition()
	if err != nil {
		return err
	}
	b.describe(settled, sends)
	b.preparedMS = c.o.Now().UnixMilli()
	e := b.entry
	e.state = destination.BranchPrepared
	w := []commitlog.Write{{Log: p.Log(), Batches: c.batch(b.xid, &e)}}
	if err := c.commit(&queue.Unit{Settled: settled, Sends: w, Hold: b.id}); err != nil {
		return err
	}
	b.offset = w[0].Base
	return nil
}

// describe notes what a branch does.
func (b *branch) describe(settled []queue.Settled, sends []Send) {
	for i := range settled {
		s := &settled[i]
		topic := s.View.Destination().ID
		for _, span := range s.Spans {
			b.acks += uint64(span.Count)
			id := destination.CursorID{Topic: topic, Partition: span.Partition, Subscription: s.View.Subscription()}
			if !slices.Contains(b.cursors, id) {
				b.cursors = append(b.cursors, id)
			}
		}
		b.touch(topic)
	}
	for i := range sends {
		s := &sends[i]
		b.sends = append(b.sends, send{topic: s.Topic, partition: s.Partition, batches: s.Batches})
		b.sent += uint64(s.Records)
		b.touch(s.Topic)
	}
}

func (b *branch) touch(topic [16]byte) {
	if !slices.Contains(b.topics, topic) {
		b.topics = append(b.topics, topic)
	}
}

// Commit commits a prepared branch: ErrNotFound (XAER_NOTA), ErrBusy while
// somebody else ends it, *destination.HeuristicError. What it sends to a
// destination that is gone is gone with that.
func (c *Coordinator) Commit(ctx context.Context, x destination.XID) error {
	return c.end(ctx, x, true, destination.BranchCommitting)
}

// Rollback rolls a prepared branch back, with the errors of Commit.
func (c *Coordinator) Rollback(ctx context.Context, x destination.XID) error {
	return c.end(ctx, x, false, 0)
}

// Settle ends a prepared branch in place of its manager, who is told when he
// comes, and has it forgotten then.
func (c *Coordinator) Settle(ctx context.Context, x destination.XID, commit bool) error {
	if commit {
		return c.end(ctx, x, true, destination.BranchHeuristicCommit)
	}
	return c.end(ctx, x, false, destination.BranchHeuristicRollback)
}

// Forget forgets a branch that was heuristically ended: ErrNotFound (XAER_NOTA),
// ErrConflict (XAER_PROTO) for any other one.
func (c *Coordinator) Forget(x destination.XID) error {
	b, err := c.take(x)
	if err != nil {
		return err
	}
	if !b.heuristic() {
		err = fmt.Errorf("branch %s: %w: it is %s, and ends with commit or rollback", x, destination.ErrConflict, b.state)
	} else {
		err = c.append(x, nil)
	}
	c.give(b, err == nil)
	return err
}

// Branches are those that a restart survives, by age.
func (c *Coordinator) Branches() []destination.BranchInfo {
	c.mu.Lock()
	var all []destination.BranchInfo
	var topics [][][16]byte
	for x, b := range c.branches {
		if b.reserved() {
			continue
		}
		info := destination.BranchInfo{
			XID: x, State: b.state, Prepared: time.UnixMilli(b.preparedMS),
			Sends: int(b.sent), Acknowledges: int(b.acks),
		}
		if b.endedMS != 0 {
			info.Ended = time.UnixMilli(b.endedMS)
		}
		all = append(all, info)
		topics = append(topics, b.topics)
	}
	c.mu.Unlock()
	for i := range all {
		for _, id := range topics[i] {
			if d := c.o.Topic(id); d != nil {
				all[i].Destinations = append(all[i].Destinations, d.Name)
			}
		}
		slices.Sort(all[i].Destinations)
	}
	slices.SortFunc(all, func(a, b destination.BranchInfo) int {
		return cmp.Or(a.Prepared.Compare(b.Prepared), cmp.Compare(a.String(), b.String()))
	})
	return all
}

func (b *branch) heuristic() bool {
	return b.state == destination.BranchHeuristicCommit || b.state == destination.BranchHeuristicRollback
}

// take makes a durable branch busy.
func (c *Coordinator) take(x destination.XID) (*branch, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.branches[x]
	switch {
	case b == nil || b.reserved() && !b.busy:
		return nil, fmt.Errorf("branch %s: %w: it is not prepared", x, destination.ErrNotFound)
	case b.busy:
		return nil, fmt.Errorf("branch %s: %w: it is being prepared or ended", x, destination.ErrBusy)
	}
	b.busy = true
	return b, nil
}

// give ends take.
func (c *Coordinator) give(b *branch, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.busy = false
	if gone {
		delete(c.branches, b.xid)
	}
}

// end ends a prepared branch in a state, 0: without one.
func (c *Coordinator) end(ctx context.Context, x destination.XID, commit bool, state destination.BranchState) error {
	b, err := c.take(x)
	if err != nil {
		return err
	}
	heuristic := state == destination.BranchHeuristicCommit || state == destination.BranchHeuristicRollback
	switch {
	case b.heuristic():
		c.give(b, false)
		return &destination.HeuristicError{XID: x, Committed: b.state == destination.BranchHeuristicCommit}
	case b.state == destination.BranchCommitting && !commit:
		c.give(b, false)
		return fmt.Errorf("branch %s: %w: it is committed", x, destination.ErrConflict)
	case b.state == destination.BranchCommitting:
		// It was decided before, and what follows was not done.
	default:
		if err = c.decide(b, commit, state); err != nil {
			c.give(b, false)
			return err
		}
	}
	// From here on it has happened, whoever waits.
	err = c.endHolds(context.WithoutCancel(ctx), b, commit)
	if err == nil && b.state == destination.BranchCommitting {
		err = c.append(x, nil)
	}
	if err != nil && !commit {
		// Nothing is left of it but holds, which the next start ends.
		c.o.Logger.Error("a branch is rolled back; what it held is delivered again after a restart", "branch", x.String(), "error", err)
		err = nil
	}
	c.give(b, err == nil && !heuristic)
	return err
}

// decide makes the outcome durable.
func (c *Coordinator) decide(b *branch, commit bool, state destination.BranchState) error {
	e := b.entry
	e.state = state
	if state == destination.BranchHeuristicCommit || state == destination.BranchHeuristicRollback {
		e.endedMS = c.o.Now().UnixMilli()
	}
	if !commit {
		var value *entry
		if state != 0 {
			value = &e
		}
		if err := c.append(b.xid, value); err != nil {
			return err
		}
	} else if err := c.send(b, &e); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if state != 0 {
		b.state, b.endedMS = state, e.endedMS
	}
	return nil
}

// send appends what a branch sends, with the record that says so.
func (c *Coordinator) send(b *branch, e *entry) error {
	p, err := c.partition()
	if err != nil {
		return err
	}
	sends, err := c.read(p, b)
	if err != nil {
		return err
	}
	var writes []commitlog.Write
	for i := range sends {
		s := &sends[i]
		d := c.o.Topic(s.topic)
		if d == nil || int(s.partition) >= len(d.Partitions) {
			c.o.Logger.Warn("a branch sends to a destination that is gone", "branch", b.xid.String(), "destination", fmt.Sprintf("%x", s.topic))
			continue
		}
		writes = append(writes, commitlog.Write{Log: d.Partitions[s.partition].Log(), Batches: s.batches})
	}
	writes = append(writes, commitlog.Write{Log: p.Log(), Batches: c.batch(b.xid, e)})
	return c.commit(&queue.Unit{Sends: writes})
}

// Sends are what a prepared branch sends: ErrNotFound.
func (c *Coordinator) Sends(x destination.XID) ([]Send, error) {
	b, err := c.take(x)
	if err != nil {
		if errors.Is(err, destination.ErrBusy) { // it is just ending
			err = fmt.Errorf("branch %s: %w", x, destination.ErrNotFound)
		}
		return nil, err
	}
	defer c.give(b, false)
	p, err := c.partition()
	if err != nil {
		return nil, err
	}
	sends, err := c.read(p, b)
	all := make([]Send, len(sends))
	for i, s := range sends {
		all[i] = Send{Topic: s.topic, Partition: s.partition, Batches: s.batches}
	}
	return all, err
}

// read reads what a branch sends.
func (c *Coordinator) read(p *destination.Partition, b *branch) ([]send, error) {
	if b.sent == 0 {
		return nil, nil
	}
	var found []send
	err := c.scan(p, b.offset, b.offset+1, func(r *record.Record) error {
		if r.Offset != b.offset {
			return nil
		}
		e, err := parseValue(slices.Clone(r.Value))
		if err == nil {
			found = e.sends
		}
		return err
	})
	if err == nil && found == nil {
		err = fmt.Errorf("branch %s: %w: it is not at offset %d of %s", b.xid, errRecord, b.offset, TopicName)
	}
	return found, err
}

// endHolds has every cursor of a branch end its hold, durably.
func (c *Coordinator) endHolds(ctx context.Context, b *branch, commit bool) error {
	var views []*queue.View
	for _, id := range b.cursors {
		v, leave, err := c.o.View(ctx, id)
		if err != nil {
			return fmt.Errorf("branch %s: %w", b.xid, err)
		}
		if v == nil { // it is gone, and what it held with it
			continue
		}
		defer leave()
		if !slices.Contains(views, v) {
			views = append(views, v)
		}
	}
	w := newWaiter(len(views))
	for _, v := range views {
		v.EndHold(b.id, commit, w)
	}
	return w.wait()
}

// partition is where the branches are kept.
func (c *Coordinator) partition() (*destination.Partition, error) {
	c.mu.Lock()
	d := c.log
	c.mu.Unlock()
	if d != nil {
		return d.Partitions[0], nil
	}
	d, err := c.o.Log()
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", TopicName, err)
	}
	c.mu.Lock()
	c.log = d
	c.mu.Unlock()
	return d.Partitions[0], nil
}

// batch is a record of a branch, a tombstone if e is nil.
func (c *Coordinator) batch(x destination.XID, e *entry) record.Batch {
	var value []byte
	if e != nil {
		value = appendValue([]byte{}, e)
	}
	var b record.Builder
	b.Append(c.o.Now().UnixMilli(), appendKey(nil, x), value, nil)
	return b.Batch()
}

// append appends one, durably.
func (c *Coordinator) append(x destination.XID, e *entry) error {
	p, err := c.partition()
	if err != nil {
		return err
	}
	w := newWaiter(1)
	if _, err := p.Append(c.batch(x, e), w); err != nil {
		return err
	}
	return w.wait()
}

// commit commits a unit, and waits.
func (c *Coordinator) commit(u *queue.Unit) error {
	w := newWaiter(1)
	u.Done = w
	if err := c.o.Commit(u); err != nil {
		return err
	}
	return w.wait()
}

// waiter waits for n.
type waiter struct {
	results chan error
	n       int
}

func newWaiter(n int) *waiter { return &waiter{results: make(chan error, n), n: n} }

// Committed implements commitlog.Waiter.
func (w *waiter) Committed(err error) { w.results <- err }

func (w *waiter) wait() (first error) {
	for range w.n {
		if err := <-w.results; first == nil {
			first = err
		}
	}
	return first
}
