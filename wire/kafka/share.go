package kafka

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// Share groups (KIP-932). A group has a subscription on each topic, which is
// JMS's shared durable one of that name, and a member's share session has a
// consumer of its view for each topic: what is acquired, released or rejected
// stands in the cursor, where JMS's consumers see it too. The group
// polylog.queue has none of its own, but a destination's queue.
//
// A session is a member's, and is named in each of its requests with the next
// epoch: 0 opens it, -1 closes it. It ends with the connection that opened it
// too; then what it holds goes back, counted as delivered.

// shareHandlers are the requests of share groups; their membership is package
// group's.
var shareHandlers = map[int16]handler{
	int16(kmsg.ShareFetch):                {min: 1, max: 2, serve: shareFetch, copies: true},
	int16(kmsg.ShareAcknowledge):          answering(1, 2, (*connection).shareAcknowledge),
	int16(kmsg.DescribeShareGroupOffsets): answering(0, 1, (*connection).describeShareOffsets),
	int16(kmsg.AlterShareGroupOffsets):    answering(0, 0, (*connection).alterShareOffsets),
	int16(kmsg.DeleteShareGroupOffsets):   answering(0, 0, (*connection).deleteShareOffsets),
}

const (
	codeInvalidGroupID           int16 = 24
	codeNonEmptyGroup            int16 = 68
	codeGroupIDNotFound          int16 = 69
	codeInvalidRecordState       int16 = 121
	codeShareSessionNotFound     int16 = 122
	codeInvalidShareSessionEpoch int16 = 123
	codeShareSessionLimitReached int16 = 133
)

// queueGroup consumes the queue of each destination, together with all that
// take from it.
const queueGroup = "polylog.queue"

const (
	// maxShareSessions bounds those of a broker, as in Kafka.
	maxShareSessions = 2000
	// maxSharePartitions bounds those of one session.
	maxSharePartitions = 10_000
	// maxMemberID bounds a member's id, bytes: a UUID as text.
	maxMemberID = 36
	// maxLockedRecords bounds the records of one partition that a group's
	// members may hold together. Kafka bounds how far they lie apart.
	maxLockedRecords = 2000
)

// The epochs of a session that are not its next one.
const (
	openShareSession  = 0
	closeShareSession = -1
)

// shareSessions are all of a server's.
type shareSessions struct {
	mu    sync.Mutex // guards what follows, and each session's epoch
	byKey map[shareKey]*shareSession
}

type shareKey struct{ group, member string }

// shareSession is what a member consumes.
type shareSession struct {
	key    shareKey
	server *Server
	conn   *connection // that opened it
	epoch  int32       // the next one; guarded by shareSessions.mu
	ctx    context.Context
	cancel context.CancelFunc
	turn   chan struct{} // held by the fetch that is under way; capacity 1
	wake   chan struct{} // something was delivered, drained or closed; capacity 1

	mu         sync.Mutex // guards what follows; taken before a view's
	closed     bool
	topics     []*shareTopic
	partitions int
	first      int // the topic that goes first in the next fetch
}

// begin finds the session that a request belongs to, and has the next one
// expect the next epoch. The one that closes it is still given it.
func (all *shareSessions) begin(c *connection, key shareKey, epoch int32) (*shareSession, int16) {
	all.mu.Lock()
	s := all.byKey[key]
	switch {
	case epoch == openShareSession:
		delete(all.byKey, key)
		if len(all.byKey) >= maxShareSessions {
			all.mu.Unlock()
			s.close()
			return nil, codeShareSessionLimitReached
		}
		fresh := newShareSession(c, key)
		if all.byKey == nil {
			all.byKey = map[shareKey]*shareSession{}
		}
		all.byKey[key] = fresh
		c.shares++
		all.mu.Unlock()
		s.close() // what the member knew of it is lost
		return fresh, codeNone
	case s == nil:
		all.mu.Unlock()
		return nil, codeShareSessionNotFound
	case epoch == closeShareSession:
		delete(all.byKey, key)
	case epoch != s.epoch:
		all.mu.Unlock()
		return nil, codeInvalidShareSessionEpoch
	default:
		s.epoch = max(s.epoch+1, 1) // behind the largest comes 1
	}
	all.mu.Unlock()
	return s, codeNone
}

func newShareSession(c *connection, key shareKey) *shareSession {
	s := &shareSession{
		key: key, server: c.server, conn: c, epoch: 1,
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// closeShares ends the sessions that the connection has opened.
func (c *connection) closeShares() {
	all := &c.server.shares
	all.mu.Lock()
	var ended []*shareSession
	if c.shares > 0 {
		for key, s := range all.byKey {
			if s.conn == c {
				ended = append(ended, s)
				delete(all.byKey, key)
			}
		}
	}
	all.mu.Unlock()
	for _, s := range ended {
		s.close()
	}
}

// close gives back what the session holds. It may be called for none, and
// again.
func (s *shareSession) close() {
	if s == nil {
		return
	}
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, t := range s.topics {
		t.close()
	}
	s.topics = nil
}

// notify wakes the fetch that waits, if any.
func (s *shareSession) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// shareTopic is what a session has of one topic. It is the sink of its consumer.
type shareTopic struct {
	session *shareSession
	id      [16]byte

	// Guarded by the session's mu.
	partitions []int32         // that are fetched, ascending
	told       map[int32]int16 // errors that were reported, by partition
	consumer   *queue.Consumer // nil until it is open
	release    func()
	settings   shareSettings
	served     []int32 // what the consumer knows of partitions
	held       map[int32]*heldRecords

	mu      sync.Mutex // guards what follows; innermost, taken under the view's
	got     []shared
	records int
	bytes   []byte
	drained bool
	err     error // the view has closed it
}

// topic returns what the session has of a topic, or nil.
func (s *shareSession) topic(id [16]byte) *shareTopic {
	for _, t := range s.topics {
		if t.id == id {
			return t
		}
	}
	return nil
}

// add has a partition fetched. It is false if there are too many.
func (s *shareSession) add(id [16]byte, partition int32) bool {
	t := s.topic(id)
	if t == nil {
		t = &shareTopic{session: s, id: id}
		s.topics = append(s.topics, t)
	}
	at, found := slices.BinarySearch(t.partitions, partition)
	if found {
		return true
	}
	if s.partitions >= maxSharePartitions {
		return false
	}
	s.partitions++
	t.partitions = slices.Insert(t.partitions, at, partition)
	return true
}

// forget has a partition not be fetched any more. What is held of it stays held.
func (s *shareSession) forget(id [16]byte, partition int32) {
	if t := s.topic(id); t != nil {
		if at, found := slices.BinarySearch(t.partitions, partition); found {
			t.partitions = slices.Delete(t.partitions, at, at+1)
			delete(t.told, partition)
			s.partitions--
		}
	}
}

// prune forgets locks that have expired, and topics of which nothing is
// fetched or held.
func (s *shareSession) prune(now int64) {
	s.topics = slices.DeleteFunc(s.topics, func(t *shareTopic) bool {
		for p, h := range t.held {
			if h.expire(now); len(h.runs) == 0 {
				delete(t.held, p)
			}
		}
		if len(t.partitions) > 0 || len(t.held) > 0 {
			return false
		}
		t.close()
		return true
	})
}

// close gives back what is held. The session's lock is held.
func (t *shareTopic) close() {
	if t.consumer != nil {
		t.consumer.Close(false)
		t.release()
		t.consumer = nil
	}
	t.held = nil
}

// open has a consumer on the topic, with the group's settings as they are now.
// Only the session's fetch calls it.
func (t *shareTopic) open(ctx context.Context, d *destination.Destination) (*queue.Consumer, error) {
	s := t.session
	settings := s.server.shareSettings(s.key.group, d)
	t.mu.Lock()
	lost := t.err
	t.err = nil
	t.mu.Unlock()
	s.mu.Lock()
	if lost != nil {
		t.close() // the destination has been made anew, or the broker is going
	}
	consumer, before := t.consumer, t.settings
	partitions := make([]int32, 0, len(t.partitions)) // that there are
	for _, p := range t.partitions {
		if partitionOf(d, p) != nil {
			partitions = append(partitions, p)
		}
	}
	changed := !slices.Equal(t.served, partitions)
	t.settings, t.served = settings, partitions
	s.mu.Unlock()
	if consumer != nil {
		if changed {
			consumer.Restrict(partitions)
		}
		if settings.lock != before.lock {
			consumer.SetLock(settings.lock)
		}
		if settings.deliveries != before.deliveries && s.key.group != queueGroup {
			consumer.View().LimitDeliveries(settings.deliveries)
		}
		return consumer, nil
	}
	v, release, err := s.view(ctx, d, settings)
	if err != nil {
		return nil, err
	}
	if s.key.group != queueGroup {
		v.LimitDeliveries(settings.deliveries)
	}
	consumer, err = v.Consume(queue.ConsumerOptions{
		Holder: destination.Holder(s.server.broker.NextNumber()), Lock: settings.lock,
		LockedLimit: maxLockedRecords, Partitions: partitions,
	}, t)
	if err != nil {
		release()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.consumer, t.release = consumer, release
	if s.closed {
		t.close()
		return nil, context.Canceled
	}
	return consumer, nil
}

// view opens what the group consumes of d.
func (s *shareSession) view(ctx context.Context, d *destination.Destination, settings shareSettings) (*queue.View, func(), error) {
	if s.key.group == queueGroup {
		v, err := s.server.broker.Queue(ctx, d)
		return v, func() {}, err
	}
	sub, release, err := s.server.broker.Subscribe(ctx, d, topic.Spec{
		Kind: topic.ShareGroup, Name: s.key.group, Start: settings.start,
	})
	if err != nil {
		return nil, nil, err
	}
	return sub.View, release, nil
}

// heldRecords are what a session holds of one partition, by offset.
type heldRecords struct{ runs []heldRun }

// heldRun is records that are consecutive in offset and acquisition.
type heldRun struct {
	from, to    int64
	acquisition uint64
	until       int64 // ms
}

// add notes what was delivered. What was known of these offsets is of an
// earlier delivery, whose lock has expired.
func (h *heldRecords) add(r heldRun) {
	h.remove(r.from, r.to)
	at, _ := slices.BinarySearchFunc(h.runs, r.from, func(r heldRun, offset int64) int { return int(min(max(r.from-offset, -1), 1)) })
	h.runs = slices.Insert(h.runs, at, r)
}

// remove forgets [from, to).
func (h *heldRecords) remove(from, to int64) {
	at := h.find(from)
	for at < len(h.runs) && h.runs[at].from < to {
		r := h.runs[at]
		var rest []heldRun
		if r.from < from {
			rest = append(rest, heldRun{r.from, from, r.acquisition, r.until})
		}
		if r.to > to {
			rest = append(rest, heldRun{to, r.to, r.acquisition + uint64(to-r.from), r.until})
		}
		h.runs = slices.Replace(h.runs, at, at+1, rest...)
		if r.from < from {
			at++
		}
		if r.to >= to {
			return
		}
	}
}

// find is the first run that ends behind offset.
func (h *heldRecords) find(offset int64) int {
	at, _ := slices.BinarySearchFunc(h.runs, offset, func(r heldRun, offset int64) int {
		if r.to <= offset {
			return -1
		}
		return 1
	})
	return at
}

// expire forgets what was locked until now.
func (h *heldRecords) expire(now int64) {
	h.runs = slices.DeleteFunc(h.runs, func(r heldRun) bool { return r.until <= now })
}

// spans are the deliveries of [from, to); false if not all of it is held.
func (h *heldRecords) spans(partition int32, from, to int64, spans []queue.Span) ([]queue.Span, bool) {
	for at := h.find(from); from < to; at++ {
		if at == len(h.runs) || h.runs[at].from > from {
			return spans, false
		}
		r := h.runs[at]
		end := min(to, r.to)
		spans = append(spans, queue.Span{
			Partition: partition, Offset: from, Acquisition: r.acquisition + uint64(from-r.from), Count: int32(end - from),
		})
		from = end
	}
	return spans, true
}

// extend has the lock on [from, to) last until then.
func (h *heldRecords) extend(from, to, until int64) {
	spans, _ := h.spans(0, from, to, nil)
	for _, s := range spans {
		h.add(heldRun{s.Offset, s.Offset + int64(s.Count), s.Acquisition, until})
	}
}

// now is the clock in ms.
func (s *Server) now() int64 { return s.options.Now().UnixMilli() }

// shareID checks what every request of a session says of itself.
func shareID(group, member *string) (key shareKey, code int16) {
	switch {
	case group == nil || *group == "":
		return key, codeInvalidGroupID
	case len(*group) > topic.MaxNameBytes, member == nil, *member == "", len(*member) > maxMemberID:
		return key, codeInvalidRequest
	}
	return shareKey{*group, *member}, codeNone
}

// shareWait bounds how long an answer waits for a settlement to be durable.
const shareWait = 30 * time.Second
