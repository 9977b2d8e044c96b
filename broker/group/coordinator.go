package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
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
// because all of it is read at a start.
func Settings() destination.Settings {
	s := destination.DefaultSettings()
	s.Partitions = 50
	s.CleanupPolicy = destination.CleanupCompact
	s.RetentionMS = -1
	s.SegmentBytes = 8 << 20
	return s
}

// The error codes that a coordinator answers with.
const (
	codeNone                      int16 = 0
	codeUnknownTopicOrPartition   int16 = 3
	codeOffsetMetadataTooLarge    int16 = 12
	codeCoordinatorNotAvailable   int16 = 15
	codeIllegalGeneration         int16 = 22
	codeInconsistentGroupProtocol int16 = 23
	codeInvalidGroupID            int16 = 24
	codeUnknownMemberID           int16 = 25
	codeNonEmptyGroup             int16 = 68
	codeGroupIDNotFound           int16 = 69
	codeGroupSubscribedToTopic    int16 = 86
	codeUnstableOffsetCommit      int16 = 88
	codeUnknownTopicID            int16 = 100
)

// maxMetadata bounds what a client may note with an offset, bytes (Kafka's
// offset.metadata.max.bytes).
const maxMetadata = 4096

// sweepEvery is how often offsets are looked at that may have expired.
const sweepEvery = 10 * time.Minute

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

	// OffsetsRetention is how long the offsets of an empty group are kept;
	// default 7 days (offsets.retention.minutes).
	OffsetsRetention time.Duration
	Classic          classic.Options
	Consumer, Share  consumer.Options

	Now       func() time.Time                                    // default time.Now
	AfterFunc func(d time.Duration, fn func()) (stop func() bool) // default time.AfterFunc
	Logger    *slog.Logger                                        // default slog.Default
}

// Coordinator is the coordinator of all groups. It is safe for concurrent use.
// Locks, in order: an entry's mu, then Coordinator.mu, then the log's.
type Coordinator struct {
	o      Options
	ticket atomic.Uint64

	mu     sync.Mutex // guards what follows
	log    *destination.Destination
	groups map[string]*entry
	sweep  func() bool // stops the timer
	closed bool
}

// entry is one group. Only one of the machines is there, or none for a group
// that has only offsets.
type entry struct {
	id string

	mu       sync.Mutex // guards what follows
	gone     bool       // deleted: look it up again
	classic  *classic.Group
	consumer *consumer.Group
	share    *consumer.ShareGroup
	offsets  map[partition]committed
	pending  map[int64]map[partition]committed // of open transactions, by producer
	waiting  map[classic.Ticket]chan kmsg.Response
	emptyAt  time.Time // since when nobody is in it
	timer    func() bool
	timerAt  time.Time
}

// partition is a topic's partition by the topic's Kafka name, as in the records.
type partition struct {
	topic  string
	number int32
}

type committed struct {
	offset   int64
	epoch    int32
	metadata string
	at       int64 // ms
	expires  int64 // ms; -1: by the retention
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
	c := &Coordinator{o: o, groups: map[string]*entry{}}
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

// Close refuses what comes, and lets go of who waits.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	c.closed = true
	c.sweep()
	all := c.entries()
	c.mu.Unlock()
	for _, e := range all {
		e.mu.Lock()
		if e.timer != nil {
			e.timer()
		}
		e.waiting = nil
		e.mu.Unlock()
	}
	return nil
}

// entries are all groups. mu is held.
func (c *Coordinator) entries() []*entry {
	all := make([]*entry, 0, len(c.groups))
	for _, e := range c.groups {
		all = append(all, e)
	}
	return all
}

// lock returns a group with its lock held, nil if there is none and it is not
// to be made.
func (c *Coordinator) lock(id string, create bool) *entry {
	for {
		c.mu.Lock()
		e := c.groups[id]
		if e == nil {
			if !create || c.closed {
				c.mu.Unlock()
				return nil
			}
			e = newEntry(id)
			e.emptyAt = c.o.Now()
			c.groups[id] = e
		}
		c.mu.Unlock()
		e.mu.Lock()
		if !e.gone {
			return e
		}
		e.mu.Unlock()
	}
}

func newEntry(id string) *entry {
	return &entry{
		id: id, offsets: map[partition]committed{}, pending: map[int64]map[partition]committed{},
		waiting: map[classic.Ticket]chan kmsg.Response{},
	}
}

// drop forgets a group of which nothing is left. e.mu is held.
func (c *Coordinator) drop(e *entry) {
	e.gone = true
	if e.timer != nil {
		e.timer()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.groups, e.id)
}

// partitionOf is where a group's records are.
func (c *Coordinator) partitionOf(group string) (*destination.Partition, error) {
	c.mu.Lock()
	log, closed := c.log, c.closed
	c.mu.Unlock()
	if closed {
		return nil, destination.ErrClosed
	}
	if log == nil {
		var err error
		if log, err = c.o.Offsets(); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.log = log
		c.mu.Unlock()
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

// synced waits for an append.
type synced chan error

func (s synced) Committed(err error) { s <- err }

// write appends records as one batch; done is told when they are on disk. e.mu
// is held.
func (c *Coordinator) write(e *entry, records []consumer.Record, done synced) error {
	p, err := c.partitionOf(e.id)
	if err != nil {
		return err
	}
	var b record.Builder
	now := c.o.Now().UnixMilli()
	for _, r := range records {
		b.Append(now, r.Key, r.Value, nil)
	}
	_, err = p.Append(b.Batch(), done)
	return err
}

// append writes records and returns a function that waits for them. e.mu is
// held; the function is called without it.
func (c *Coordinator) append(e *entry, records []consumer.Record) func() error {
	if len(records) == 0 {
		return func() error { return nil }
	}
	done := make(synced, 1)
	if err := c.write(e, records, done); err != nil {
		return func() error { return err }
	}
	return func() error { return <-done }
}

// schedule has a group's machine looked at when it asks for it. e.mu is held.
func (c *Coordinator) schedule(e *entry) {
	var at time.Time
	switch {
	case e.classic != nil:
		at = e.classic.Deadline()
	case e.consumer != nil:
		at = e.consumer.Deadline()
	case e.share != nil:
		at = e.share.Deadline()
	}
	if at.Equal(e.timerAt) && e.timer != nil {
		return
	}
	if e.timer != nil {
		e.timer()
		e.timer = nil
	}
	if e.timerAt = at; !at.IsZero() && !e.gone {
		e.timer = c.o.AfterFunc(max(at.Sub(c.o.Now()), 0), func() { c.expire(e) })
	}
}

// expire does what the time asks for in one group.
func (c *Coordinator) expire(e *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if e.gone || closed {
		return
	}
	e.timer, e.timerAt = nil, time.Time{}
	now := c.o.Now()
	switch {
	case e.classic != nil:
		c.settle(e, e.classic.Expire(now))
	case e.consumer != nil:
		r := e.consumer.Expire(now)
		c.keep(e, r.Records)
	case e.share != nil:
		r := e.share.Expire(now)
		c.keep(e, r.Records)
	}
	c.noteEmpty(e, now)
	c.schedule(e)
}

// keep writes records that nobody waits for; if that fails the group is read
// again from what is there. e.mu is held.
func (c *Coordinator) keep(e *entry, records []consumer.Record) {
	if len(records) == 0 {
		return
	}
	wait := c.append(e, records)
	go func() { // few: a member has died
		if err := wait(); err != nil {
			c.o.Logger.Error("write group", "group", e.id, "error", err)
			c.reload(e)
		}
	}()
}

// settle writes a classic group's record, if it has changed, and gives the
// answers when it is on disk. e.mu is held.
func (c *Coordinator) settle(e *entry, r classic.Result) {
	type delivery struct {
		to       chan kmsg.Response
		response kmsg.Response
	}
	deliveries := make([]delivery, 0, len(r.Answers))
	for _, a := range r.Answers {
		if to := e.waiting[a.Ticket]; to != nil {
			delete(e.waiting, a.Ticket)
			deliveries = append(deliveries, delivery{to, a.Response})
		}
	}
	give := func(err error) {
		for _, d := range deliveries {
			if err != nil {
				setCode(d.response, codeCoordinatorNotAvailable)
			}
			d.to <- d.response
		}
	}
	if !r.Changed {
		give(nil)
		return
	}
	key := kmsg.GroupMetadataKey{Version: 2, Group: e.id}
	value := e.classic.Record()
	done := afterSync(func(err error) {
		if err != nil {
			c.o.Logger.Error("write group", "group", e.id, "error", err)
		}
		give(err)
	})
	p, err := c.partitionOf(e.id)
	if err == nil {
		var b record.Builder
		b.Append(c.o.Now().UnixMilli(), key.AppendTo(nil), value.AppendTo(nil), nil)
		_, err = p.Append(b.Batch(), done)
	}
	if err != nil {
		done.Committed(err)
	}
}

// afterSync is a Waiter; its channels have room, so it does not block.
type afterSync func(error)

func (f afterSync) Committed(err error) { f(err) }

// setCode puts an error code into a response of a classic group.
func setCode(r kmsg.Response, code int16) {
	switch r := r.(type) {
	case *kmsg.JoinGroupResponse:
		r.ErrorCode = code
	case *kmsg.SyncGroupResponse:
		r.ErrorCode = code
	}
}

// noteEmpty remembers since when nobody is in a group. e.mu is held.
func (c *Coordinator) noteEmpty(e *entry, now time.Time) {
	switch {
	case e.size() > 0:
		e.emptyAt = time.Time{}
	case e.emptyAt.IsZero():
		e.emptyAt = now
	}
}

// size is the number of members.
func (e *entry) size() int {
	switch {
	case e.classic != nil:
		return e.classic.Size()
	case e.consumer != nil:
		return e.consumer.Size()
	case e.share != nil:
		return e.share.Size()
	}
	return 0
}

// Changed tells that a topic was made, has more partitions, or was deleted.
func (c *Coordinator) Changed(topic [16]byte) {
	c.mu.Lock()
	all := c.entries()
	c.mu.Unlock()
	_, err := c.o.TopicByID(topic)
	deleted := errors.Is(err, destination.ErrNotFound)
	for _, e := range all {
		e.mu.Lock()
		switch {
		case e.gone:
		case e.consumer != nil:
			e.consumer.Changed()
		case e.share != nil:
			e.share.Changed()
		}
		if deleted && !e.gone {
			c.dropDeleted(e)
		}
		e.mu.Unlock()
	}
}

// dropDeleted forgets the offsets of topics that are gone. e.mu is held.
func (c *Coordinator) dropDeleted(e *entry) {
	known := map[string]bool{}
	var records []consumer.Record
	for p := range e.offsets {
		there, looked := known[p.topic]
		if !looked {
			_, err := c.o.Topic(p.topic)
			there = !errors.Is(err, destination.ErrNotFound)
			known[p.topic] = there
		}
		if !there {
			delete(e.offsets, p)
			records = append(records, consumer.Record{Key: offsetKey(e.id, p)})
		}
	}
	c.keep(e, records)
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

// Committed is a group's offset; -1 if there is none.
func (c *Coordinator) Committed(group string, topic [16]byte, number int32) int64 {
	d, err := c.o.TopicByID(topic)
	if err != nil {
		return -1
	}
	e := c.lock(group, false)
	if e == nil {
		return -1
	}
	defer e.mu.Unlock()
	if o, ok := e.offsets[partition{record.TopicName(d.Name), number}]; ok {
		return o.offset
	}
	return -1
}

// Floor is the lowest offset that any group has committed in a partition, for
// hold.groups; ok is false if none has.
func (c *Coordinator) Floor(topic string, number int32) (offset int64, ok bool) {
	c.mu.Lock()
	all := c.entries()
	c.mu.Unlock()
	for _, e := range all {
		e.mu.Lock()
		if o, has := e.offsets[partition{topic, number}]; has && (!ok || o.offset < offset) {
			offset, ok = o.offset, true
		}
		e.mu.Unlock()
	}
	return offset, ok
}

// sweepOffsets forgets offsets that have expired, and groups of which nothing
// is left.
func (c *Coordinator) sweepOffsets() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	all := c.entries()
	c.sweep = c.o.AfterFunc(sweepEvery, c.sweepOffsets)
	c.mu.Unlock()
	now := c.o.Now()
	for _, e := range all {
		e.mu.Lock()
		if !e.gone {
			c.sweepEntry(e, now)
		}
		e.mu.Unlock()
	}
}

func (c *Coordinator) sweepEntry(e *entry, now time.Time) {
	var records []consumer.Record
	for p, o := range e.offsets {
		due := now.UnixMilli() - c.o.OffsetsRetention.Milliseconds()
		switch {
		case o.expires >= 0:
			if o.expires > now.UnixMilli() {
				continue
			}
		case e.emptyAt.IsZero() && e.subscribed(p.topic), !e.emptyAt.IsZero() && e.emptyAt.UnixMilli() > due, o.at > due:
			continue
		}
		delete(e.offsets, p)
		records = append(records, consumer.Record{Key: offsetKey(e.id, p)})
	}
	if e.size() == 0 && len(e.offsets) == 0 && len(e.pending) == 0 && !e.emptyAt.IsZero() && e.share == nil {
		records = append(records, e.tombstones()...)
		c.drop(e)
	}
	c.keep(e, records)
}

// subscribed says whether a member consumes a topic.
func (e *entry) subscribed(topic string) bool {
	switch {
	case e.classic != nil:
		return e.classic.Subscribed(topic)
	case e.consumer != nil:
		return e.consumer.Subscribed(topic)
	case e.share != nil:
		return e.share.Subscribed(topic)
	}
	return false
}

// tombstones end the records of an empty group, but for its offsets.
func (e *entry) tombstones() []consumer.Record {
	switch {
	case e.classic != nil:
		key := kmsg.GroupMetadataKey{Version: 2, Group: e.id}
		return []consumer.Record{{Key: key.AppendTo(nil)}}
	case e.consumer != nil:
		return e.consumer.Delete()
	case e.share != nil:
		return e.share.Delete()
	}
	return nil
}

func wait(ctx context.Context, answer <-chan kmsg.Response) kmsg.Response {
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return nil
	}
}

func sortedPartitions(m map[partition]committed) []partition {
	list := make([]partition, 0, len(m))
	for p := range m {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b partition) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.number, b.number))
	})
	return list
}
