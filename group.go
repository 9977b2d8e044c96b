package polylog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/polylog-mq/polylog/wire/native"
)

// TopicPartition is a partition by its topic's name.
type TopicPartition = native.TopicPartition

const (
	// rebalanceTimeout is how long a member may take to let go of partitions.
	rebalanceTimeout = time.Minute
	// leaveTimeout bounds the wait for the answer to a leave.
	leaveTimeout = 5 * time.Second
)

// GroupConsumer is a member of a Kafka consumer group (KIP-848): the broker
// gives each partition of the topic to one member, of whatever client. What the
// group has committed is the same for all of them. Between a record's arrival and
// its commit a member may die: then another reads it again.
type GroupConsumer[T any] struct {
	stream  *Stream[T]
	group   string
	options consumeOptions
	cancel  context.CancelFunc
	beating sync.WaitGroup

	mu       sync.Mutex // guards what follows
	member   string
	epoch    int32
	turn     uint64            // counts changes of assigned
	assigned map[int32]*cursor // what it may read, by partition
	done     map[int32]int64   // what Consume has given and Commit has not had, by partition: the offset behind
	changed  chan struct{}     // closed when assigned changes, or err
	closed   bool
	err      error
}

// Group joins the consumer group of that name as a member. Where the group has
// committed nothing, it begins at the topic's end, or where FromBeginning,
// FromOffset, FromTime or FromLast say. It fails with ErrConflict if the group is of
// another kind.
func (s *Stream[T]) Group(ctx context.Context, group string, opts ...ConsumeOption) (*GroupConsumer[T], error) {
	g := &GroupConsumer[T]{
		stream: s, group: group, options: consumeOptionsOf(opts), member: nuid.Next(),
		assigned: map[int32]*cursor{}, done: map[int32]int64{}, changed: make(chan struct{}),
	}
	interval, err := g.heartbeat(ctx)
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", group, err)
	}
	life, cancel := context.WithCancel(s.session.c.life)
	g.cancel = cancel
	g.beating.Go(func() { g.beat(life, interval) })
	return g, nil
}

// beat keeps the membership up, until the consumer is closed.
func (g *GroupConsumer[T]) beat(ctx context.Context, interval time.Duration) {
	for {
		timer := time.NewTimer(interval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		next, err := g.heartbeat(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			interval = next
		case errors.Is(err, ErrBusy), errors.Is(err, ErrInDoubt), errors.Is(err, ErrShuttingDown):
			interval = time.Second
		default:
			g.fail(fmt.Errorf("group %s: %w", g.group, err))
			return
		}
	}
}

// heartbeat says what the member has, and follows what it is told. It returns
// when to heartbeat next.
func (g *GroupConsumer[T]) heartbeat(ctx context.Context) (time.Duration, error) {
	g.mu.Lock()
	q := native.GroupHeartbeat{
		Group: g.group, MemberID: g.member, Epoch: g.epoch, Topics: []string{g.stream.name},
		RebalanceMS: rebalanceTimeout.Milliseconds(), Owned: g.partitions(),
	}
	g.mu.Unlock()
	var a native.GroupAssignment
	err := g.stream.session.c.group(ctx, native.VerbHeartbeat, &q, &a, true)
	if errors.Is(err, ErrStale) { // it was given up: as if new
		g.mu.Lock()
		g.epoch = 0
		g.assign(map[int32]*cursor{})
		g.mu.Unlock()
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	g.mu.Lock()
	g.member, g.epoch = a.MemberID, a.Epoch
	g.mu.Unlock()
	interval := max(time.Duration(a.IntervalMS)*time.Millisecond, time.Millisecond)
	if !a.Changed {
		return interval, nil
	}
	changed, err := g.follow(ctx, a.Assigned)
	if changed {
		interval = 0 // to tell that it was done
	}
	return interval, err
}

// follow makes the assignment the member's own.
func (g *GroupConsumer[T]) follow(ctx context.Context, assigned []TopicPartition) (changed bool, err error) {
	g.mu.Lock()
	next := map[int32]*cursor{}
	var added []int32
	for _, p := range assigned {
		if c := g.assigned[p.Partition]; c != nil {
			next[p.Partition] = c
		} else {
			added = append(added, p.Partition)
		}
	}
	changed = len(added) > 0 || len(next) != len(g.assigned)
	if changed {
		g.assign(next) // what was taken away is let go at once
	}
	g.mu.Unlock()
	if len(added) == 0 {
		return changed, nil
	}
	cursors, err := g.begin(ctx, added)
	if err != nil {
		return changed, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	next = maps.Clone(g.assigned)
	for _, c := range cursors {
		next[c.partition] = c
	}
	g.assign(next)
	return true, nil
}

// begin is where to read in partitions that are new.
func (g *GroupConsumer[T]) begin(ctx context.Context, partitions []int32) ([]*cursor, error) {
	q := native.GroupCommit{Group: g.group}
	for _, p := range partitions {
		q.Offsets = append(q.Offsets, native.CommittedOffset{Topic: g.stream.name, Partition: p})
	}
	var committed []int64
	if err := g.stream.session.c.group(ctx, native.VerbCommitted, &q, &committed, true); err != nil {
		return nil, err
	}
	o := g.options
	o.partitions = partitions
	starts, err := g.stream.start(ctx, &o)
	if err != nil {
		return nil, err
	}
	cursors := make([]*cursor, len(starts))
	for i, c := range starts {
		if at := slices.Index(partitions, c.partition); at < len(committed) && committed[at] >= 0 {
			c.next = committed[at]
		}
		cursors[i] = &c
	}
	return cursors, nil
}

// assign replaces what may be read. The caller holds mu.
func (g *GroupConsumer[T]) assign(next map[int32]*cursor) {
	for p := range g.done {
		if next[p] == nil {
			delete(g.done, p)
		}
	}
	g.assigned = next
	g.announce()
}

func (g *GroupConsumer[T]) announce() {
	g.turn++
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *GroupConsumer[T]) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	g.announce()
}

// partitions are what the member has. The caller holds mu.
func (g *GroupConsumer[T]) partitions() []TopicPartition {
	var list []TopicPartition
	for _, p := range slices.Sorted(maps.Keys(g.assigned)) {
		list = append(list, TopicPartition{Topic: g.stream.name, Partition: p})
	}
	return list
}

// Assigned returns the partitions that this member reads now.
func (g *GroupConsumer[T]) Assigned() []TopicPartition {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.partitions()
}

// MemberID returns the id that the group knows the member by.
func (g *GroupConsumer[T]) MemberID() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.member
}

// Consume reads the records of the partitions that the member has, as they come
// and go. A record comes again, here or elsewhere, unless Commit is told of it.
// One iteration can run at a time.
func (g *GroupConsumer[T]) Consume(ctx context.Context) iter.Seq2[*Record[T], error] {
	return func(yield func(*Record[T], error) bool) {
		for {
			g.mu.Lock()
			err, turn, changed := g.err, g.turn, g.changed
			cursors := make([]cursor, 0, len(g.assigned))
			for _, c := range g.assigned {
				cursors = append(cursors, *c)
			}
			g.mu.Unlock()
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if len(cursors) == 0 {
				select {
				case <-changed:
				case <-ctx.Done():
				}
				continue
			}
			page, err := g.fetch(ctx, cursors, changed)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.parts {
				if !g.give(&page.parts[i], turn, yield) {
					return
				}
			}
		}
	}
}

// fetch reads until there is something, or the assignment changes.
func (g *GroupConsumer[T]) fetch(ctx context.Context, cursors []cursor, changed <-chan struct{}) (*page, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-changed:
			cancel()
		case <-stop:
		}
	}()
	p, err := g.stream.fetch(inner, cursors)
	if err != nil && inner.Err() != nil && ctx.Err() == nil {
		return &page{}, nil
	}
	return p, err
}

// give hands records out, as long as their partition is the member's.
func (g *GroupConsumer[T]) give(p *pagePart, turn uint64, yield func(*Record[T], error) bool) bool {
	g.mu.Lock()
	c := g.assigned[p.partition]
	from := int64(0)
	if c != nil {
		from = c.next
	}
	mine := func() bool { return g.turn == turn || g.assigned[p.partition] == c } // mu is held
	g.mu.Unlock()
	if c == nil {
		return true
	}
	lost := false
	more := g.stream.each(p, from, func(r *Record[T], err error) bool {
		if err != nil {
			return yield(nil, err)
		}
		g.mu.Lock()
		if lost = !mine(); !lost {
			c.next, g.done[p.partition] = r.Offset+1, r.Offset+1
		}
		g.mu.Unlock()
		return !lost && yield(r, nil)
	})
	if lost {
		return true
	}
	if more {
		g.mu.Lock()
		c.next = p.next
		g.mu.Unlock()
	}
	return more
}

// Commit commits what comes behind these records, or without any behind all
// that Consume has given, and waits until that is on the broker's disk. ErrStale
// says that a partition is another member's by now, which reads it again.
func (g *GroupConsumer[T]) Commit(ctx context.Context, records ...*Record[T]) error {
	g.mu.Lock()
	offsets := map[int32]int64{}
	if len(records) == 0 {
		offsets = maps.Clone(g.done)
	}
	for _, r := range records {
		offsets[r.Partition] = max(offsets[r.Partition], r.Offset+1)
	}
	g.mu.Unlock()
	if len(offsets) == 0 {
		return nil
	}
	q := native.GroupCommit{Group: g.group}
	for p, offset := range offsets {
		q.Offsets = append(q.Offsets, native.CommittedOffset{Topic: g.stream.name, Partition: p, Offset: offset})
	}
	for {
		g.mu.Lock()
		q.MemberID, q.Epoch = g.member, g.epoch
		g.mu.Unlock()
		err := g.stream.session.c.group(ctx, native.VerbCommit, &q, nil, true)
		g.mu.Lock()
		again := errors.Is(err, ErrStale) && g.epoch > q.Epoch // it has heard of a new epoch meanwhile
		for p, offset := range offsets {
			if err == nil && g.done[p] <= offset {
				delete(g.done, p)
			}
		}
		g.mu.Unlock()
		if !again {
			if err != nil {
				return fmt.Errorf("commit of group %s: %w", g.group, err)
			}
			return nil
		}
	}
}

// Close leaves the group; its partitions go to the other members at once. What
// is not committed is read again. It is idempotent.
func (g *GroupConsumer[T]) Close(ctx context.Context) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.beating.Wait()
	g.fail(closedError("the member of group %s is closed", g.group))
	g.mu.Lock()
	q := native.GroupHeartbeat{Group: g.group, MemberID: g.member, Epoch: -1}
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	err := g.stream.session.c.group(ctx, native.VerbHeartbeat, &q, nil, true)
	if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("leave group %s: %w", g.group, err)
	}
	return nil
}
