package group

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/classic"
	"github.com/polylog-mq/polylog/broker/group/consumer"
)

// entry is one group. Only one of the machines is there, or none for a group
// that has only offsets.
type entry struct {
	id string

	mu       sync.Mutex // guards what follows, up to landing
	gone     bool       // deleted: look it up again
	deleting *write     // its tombstones are under way: wait for them
	failed   bool       // the machine has decided what is not on disk: it is read again
	classic  *classic.Group
	consumer *consumer.Group
	share    *consumer.ShareGroup
	offsets  map[partition]committed               // what is durable
	pending  map[int64]map[partition]committed     // of open transactions, by producer
	waiting  map[classic.Ticket]chan kmsg.Response // who waits for other members
	emptyAt  time.Time                             // since when nobody is in it; zero if somebody is, or it is not known
	timer    func() bool                           // stops the timer; nil if there is none
	timerAt  time.Time
	flying   []*write // what was appended and not taken in yet, in order

	landing sync.Mutex // guards the outcomes of writes; the committer takes it, and nothing under it
}

func newEntry(id string) *entry {
	return &entry{
		id: id, offsets: map[partition]committed{}, pending: map[int64]map[partition]committed{},
		waiting: map[classic.Ticket]chan kmsg.Response{},
	}
}

// blank says that nothing is known of a group. e.mu is held, as in all that follows.
func (e *entry) blank() bool {
	return !e.gone && e.deleting == nil && !e.failed && len(e.flying) == 0 && len(e.offsets) == 0 && len(e.pending) == 0 &&
		(e.classic == nil || e.classic.Pristine()) && (e.consumer == nil || e.consumer.Pristine()) && (e.share == nil || e.share.Pristine())
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

// deadline is when the machine wants to be looked at; zero for never.
func (e *entry) deadline() time.Time {
	switch {
	case e.classic != nil:
		return e.classic.Deadline()
	case e.consumer != nil:
		return e.consumer.Deadline()
	case e.share != nil:
		return e.share.Deadline()
	}
	return time.Time{}
}

// noteEmpty remembers since when nobody is in a group.
func (e *entry) noteEmpty(now time.Time) {
	switch {
	case e.size() > 0:
		e.emptyAt = time.Time{}
	case e.emptyAt.IsZero():
		e.emptyAt = now
	}
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

// tombstones end the records of an empty group, but for its offsets. The
// machine is of no use afterwards.
func (e *entry) tombstones() []consumer.Record {
	switch {
	case e.classic != nil && !e.classic.Pristine():
		return []consumer.Record{{Key: classicKey(e.id)}}
	case e.consumer != nil:
		return e.consumer.Delete()
	case e.share != nil:
		return e.share.Delete()
	}
	return nil
}

func classicKey(group string) []byte {
	key := kmsg.GroupMetadataKey{Version: 2, Group: group}
	return key.AppendTo(nil)
}
