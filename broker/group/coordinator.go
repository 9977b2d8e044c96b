package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/classic"
	"github.com/polylog-mq/polylog/broker/group/consumer"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// TopicName is where groups and their offsets are kept.
const TopicName = "__consumer_offsets"

// Settings are how it is to be made: compacted, in segments that are small
// because all of it is read at a start. A batch may be as large as the record
// of a group of ten thousand members.
func Settings() destination.Settings {
	s := destination.DefaultSettings()
	s.Partitions = 50
	s.CleanupPolicy = destination.CleanupCompact
	s.RetentionMS = -1
	s.SegmentBytes = 8 << 20
	s.MaxMessageBytes = 8 << 20
	return s
}

// maxGroups bounds the groups: GROUP_MAX_SIZE_REACHED.
const maxGroups = 1_000_000

// Client is who asks.
type Client struct{ ID, Host, Principal string }

// Options are what the coordinator is made of. Those without a default must be set.
type Options struct {
	// Offsets finds or makes __consumer_offsets; Settings say how. It may be called again.
	Offsets func() (*destination.Destination, error)
	// Find only finds it: destination.ErrNotFound if no group has been used yet.
	Find func() (*destination.Destination, error)
	// Topic finds what Kafka calls a topic by name, and TopicByID by id:
	// destination.ErrNotFound.
	Topic     func(name string) (*destination.Destination, error)
	TopicByID func(id [16]byte) (*destination.Destination, error)
	// Topics are all that groups may subscribe to by a pattern.
	Topics func() []*destination.Destination

	// Settings are what is set for one group; nil if nothing can be. It is asked
	// when a group is made or read, and after Configured.
	Settings func(group string) GroupSettings

	// OffsetsRetention is how long offsets are kept after their group has become
	// empty, or after the last commit if that was later; default 7 days
	// (offsets.retention.minutes).
	OffsetsRetention time.Duration
	Classic          classic.Options
	Consumer, Share  consumer.Options

	Now       func() time.Time                                    // default time.Now
	AfterFunc func(d time.Duration, fn func()) (stop func() bool) // default time.AfterFunc
	Logger    *slog.Logger                                        // default slog.Default
}

// Coordinator is the coordinator of all groups. It is safe for concurrent use.
// Locks, in order: an entry's mu, then Coordinator.mu, then those of the
// broker and the log; an entry's landing is taken last of all.
type Coordinator struct {
	o       Options
	ticket  atomic.Uint64
	closing chan struct{} // closed by Close

	mu     sync.Mutex // guards what follows
	log    *destination.Destination
	groups map[string]*entry
	sweep  func() bool // stops the timer
	closed bool
}

// Open reads __consumer_offsets, if it is there.
func Open(o Options) (*Coordinator, error) {
	o.OffsetsRetention = cmp.Or(o.OffsetsRetention, 7*24*time.Hour)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.Find == nil {
		o.Find = o.Offsets
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AfterFunc == nil {
		o.AfterFunc = func(d time.Duration, fn func()) func() bool { return time.AfterFunc(d, fn).Stop }
	}
	c := &Coordinator{o: o, groups: map[string]*entry{}, closing: make(chan struct{})}
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
	c.sweep = o.AfterFunc(sweepEvery, c.sweepOffsets)
	return c, nil
}

// Close refuses what comes, and lets go of who waits for other members.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	close(c.closing)
	c.sweep()
	c.mu.Unlock()
	for _, e := range c.entries() {
		e.mu.Lock()
		if e.timer != nil {
			e.timer()
		}
		e.mu.Unlock()
	}
	return nil
}

// entries are all groups.
func (c *Coordinator) entries() []*entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*entry, 0, len(c.groups))
	for _, e := range c.groups {
		all = append(all, e)
	}
	return all
}

// lock returns a group with its lock held. Without one, it is nil with a code
// that says why: codeNone if there is none, and it is not to be made.
func (c *Coordinator) lock(id string, create bool) (*entry, int16) {
	if create {
		if _, err := c.offsetsLog(); err != nil { // before any lock: it may have to be made
			return nil, codeOf(err)
		}
	}
	for {
		e, code := c.entry(id, create)
		if e == nil {
			return nil, code
		}
		e.mu.Lock()
		wait, err := c.enter(e)
		switch {
		case err != nil:
			e.mu.Unlock()
			return nil, codeOf(err)
		case wait == nil && !e.gone:
			return e, codeNone
		}
		e.mu.Unlock()
		if wait != nil {
			<-wait.landed
		}
	}
}

// entry finds a group, or makes it.
func (c *Coordinator) entry(id string, create bool) (*entry, int16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.groups[id]
	switch {
	case c.closed:
		return nil, codeCoordinatorNotAvailable
	case e != nil || !create:
		return e, codeNone
	case len(c.groups) >= maxGroups:
		return nil, codeGroupMaxSizeReached
	}
	e = newEntry(id)
	c.groups[id] = e
	return e, codeNone
}

// unlock ends what lock began: a group of which nothing is known is forgotten,
// the others have their timer set.
func (c *Coordinator) unlock(e *entry) {
	if e.blank() {
		c.drop(e)
	}
	c.schedule(e)
	e.mu.Unlock()
}

// drop forgets a group. e.mu is held.
func (c *Coordinator) drop(e *entry) {
	e.gone = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups[e.id] == e {
		delete(c.groups, e.id)
	}
}

// offsetsLog finds or makes __consumer_offsets.
func (c *Coordinator) offsetsLog() (*destination.Destination, error) {
	c.mu.Lock()
	log, closed := c.log, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return nil, destination.ErrClosed
	case log != nil:
		return log, nil
	}
	log, err := c.o.Offsets()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = log
	return log, nil
}

// partitionOf is where a group's records are.
func (c *Coordinator) partitionOf(group string) (*destination.Partition, error) {
	log, err := c.offsetsLog()
	if err != nil {
		return nil, err
	}
	return log.Partitions[indexOf(group, len(log.Partitions))], nil
}

// indexOf is the number of a group's partition: Java's String.hashCode, as in
// Kafka.
func indexOf(group string, partitions int) int {
	var h int32
	for _, u := range utf16.Encode([]rune(group)) {
		h = 31*h + int32(u)
	}
	return int(uint32(h)&0x7fffffff) % partitions
}

// schedule has a group's machine looked at when it asks for it. A timer that is
// early stays: it finds nothing to do and is set again. e.mu is held.
func (c *Coordinator) schedule(e *entry) {
	at := e.deadline()
	if e.timer != nil {
		if !e.gone && !at.IsZero() && !at.Before(e.timerAt) {
			return
		}
		e.timer()
		e.timer = nil
	}
	if !at.IsZero() && !e.gone {
		e.timerAt = at
		e.timer = c.o.AfterFunc(max(at.Sub(c.o.Now()), 0), func() { c.expire(e) })
	}
}

// retryEvery is how often a group is looked at that cannot be read just now.
const retryEvery = time.Second

// expire does what the time asks for in one group.
func (c *Coordinator) expire(e *entry) {
	e.mu.Lock()
	e.timer = nil
	wait, err := c.enter(e)
	select {
	case <-c.closing:
		e.mu.Unlock()
		return
	default:
	}
	if wait != nil || err != nil {
		e.timerAt = c.o.Now().Add(retryEvery)
		e.timer = c.o.AfterFunc(retryEvery, func() { c.expire(e) })
		e.mu.Unlock()
		return
	}
	if e.gone {
		e.mu.Unlock()
		return
	}
	now := c.o.Now()
	switch {
	case e.classic != nil:
		c.settle(e, e.classic.Expire(now))
	case e.consumer != nil:
		c.keepConsumer(e, now, e.consumer.Expire(now).Records)
	case e.share != nil:
		c.keep(e, e.share.Expire(now).Records)
	}
	e.noteEmpty(now)
	c.unlock(e)
}

// Changed tells that a topic was made, has more partitions, or was deleted.
func (c *Coordinator) Changed(topic [16]byte) {
	_, err := c.o.TopicByID(topic)
	deleted := errors.Is(err, destination.ErrNotFound)
	for _, e := range c.entries() {
		e.mu.Lock()
		if wait, err := c.enter(e); wait == nil && err == nil && !e.gone {
			switch {
			case e.consumer != nil:
				e.consumer.Changed()
			case e.share != nil:
				e.share.Changed()
			}
			if deleted {
				c.forget(e, topic)
			}
		}
		c.unlock(e)
	}
}

// topics is what the machines see of the destinations.
type topics struct{ c *Coordinator }

func (t topics) of(d *destination.Destination, err error) (consumer.Topic, bool) {
	if err != nil {
		return consumer.Topic{}, false
	}
	return consumer.Topic{Name: record.TopicName(d.Name), ID: d.ID, Partitions: int32(len(d.Partitions))}, true
}

func (t topics) Topic(name string) (consumer.Topic, bool) { return t.of(t.c.o.Topic(name)) }

func (t topics) TopicByID(id [16]byte) (consumer.Topic, bool) { return t.of(t.c.o.TopicByID(id)) }

func (t topics) All() iter.Seq[consumer.Topic] {
	return func(yield func(consumer.Topic) bool) {
		for _, d := range t.c.o.Topics() {
			if one, ok := t.of(d, nil); ok && !yield(one) {
				return
			}
		}
	}
}

// await waits for the answer of a ticket; nil if ctx ends, because the client
// has hung up, or the coordinator.
func (c *Coordinator) await(ctx context.Context, e *entry, t classic.Ticket, answer <-chan kmsg.Response) kmsg.Response {
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
	case <-c.closing:
	}
	e.mu.Lock()
	delete(e.waiting, t)
	if wait, err := c.enter(e); wait != nil || err != nil || e.gone || e.classic == nil {
		e.mu.Unlock()
		return nil
	}
	now := c.o.Now()
	c.settle(e, e.classic.HungUp(now, t))
	e.noteEmpty(now)
	c.unlock(e)
	return nil
}
