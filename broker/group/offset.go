package group

import (
	"cmp"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/consumer"
	"github.com/polylog-mq/polylog/destination/record"
)

// partition is a topic's partition by the topic's Kafka name, as in the records.
type partition struct {
	topic  string
	number int32
}

func (p partition) compare(q partition) int {
	return cmp.Or(cmp.Compare(p.topic, q.topic), cmp.Compare(p.number, q.number))
}

// committed is one offset of a group.
type committed struct {
	offset   int64
	epoch    int32
	metadata string
	topicID  [16]byte // zero if its record does not say
	at       int64    // when it was committed, ms
	expires  int64    // when it ends, ms; -1: by the retention
	record   int64    // the offset of its record, by which the newer of two is known
}

// of says whether it is of the topic with this id, and not of one of the same
// name that was before.
func (o committed) of(topic [16]byte) bool {
	return o.topicID == topic || o.topicID == [16]byte{} || topic == [16]byte{}
}

const (
	offsetKeyVersion = 1
	// offsetValueVersion has the leader epoch and, as a tag, the topic's id.
	offsetValueVersion = 4
	// expiringValueVersion has the time at which it expires, and not the others.
	expiringValueVersion = 1
)

func offsetKey(group string, p partition) []byte {
	key := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: group, Topic: p.topic, Partition: p.number}
	return key.AppendTo(nil)
}

func offsetRecord(group string, p partition, o committed) consumer.Record {
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch, v.Metadata, v.CommitTimestamp, v.TopicID = offsetValueVersion, o.offset, o.epoch, o.metadata, o.at, o.topicID
	if o.expires >= 0 {
		v.Version, v.ExpireTimestamp = expiringValueVersion, o.expires
	}
	return consumer.Record{Key: offsetKey(group, p), Value: v.AppendTo(nil)}
}

// readOffset reads a value; at is the offset of its record.
func readOffset(value []byte, at int64) (committed, error) {
	var v kmsg.OffsetCommitValue
	if err := v.ReadFrom(value); err != nil {
		return committed{}, err
	}
	o := committed{
		offset: v.Offset, epoch: -1, metadata: v.Metadata, topicID: v.TopicID,
		at: v.CommitTimestamp, expires: -1, record: at,
	}
	if v.Version >= 3 {
		o.epoch = v.LeaderEpoch
	}
	if v.Version == 1 {
		o.expires = v.ExpireTimestamp
	}
	return o, nil
}

// The changes of a group's offsets, in the order of the records. e.mu is held.

func (e *entry) put(p partition, o committed) { e.offsets[p] = o }

// hold keeps an offset until its transaction ends.
func (e *entry) hold(producer int64, p partition, o committed) {
	if e.pending[producer] == nil {
		e.pending[producer] = map[partition]committed{}
	}
	e.pending[producer][p] = o
}

// erase is what a tombstone does.
func (e *entry) erase(p partition) {
	delete(e.offsets, p)
	for producer, offsets := range e.pending {
		if delete(offsets, p); len(offsets) == 0 {
			delete(e.pending, producer)
		}
	}
}

// endPending makes the offsets of a transaction the group's, or forgets them.
// One that was committed otherwise, after it was sent, stays, as in Kafka.
func (e *entry) endPending(producer int64, commit bool) {
	if commit {
		for p, o := range e.pending[producer] {
			if have, ok := e.offsets[p]; !ok || have.record < o.record {
				e.offsets[p] = o
			}
		}
	}
	delete(e.pending, producer)
}

// Committed is a group's offset; -1 if there is none.
func (c *Coordinator) Committed(group string, topic [16]byte, number int32) int64 {
	d, err := c.o.TopicByID(topic)
	if err != nil {
		return -1
	}
	e, _ := c.lock(group, false)
	if e == nil {
		return -1
	}
	defer c.unlock(e)
	if o, ok := e.offsets[partition{record.TopicName(d.Name), number}]; ok && o.of(topic) {
		return o.offset
	}
	return -1
}

// Floor is the lowest offset that any group has committed in a partition, for
// hold.groups; ok is false if none has.
func (c *Coordinator) Floor(topic string, number int32) (offset int64, ok bool) {
	for _, e := range c.entries() {
		e.mu.Lock()
		_, _ = c.enter(e)
		if o, has := e.offsets[partition{topic, number}]; has && (!ok || o.offset < offset) {
			offset, ok = o.offset, true
		}
		e.mu.Unlock()
	}
	return offset, ok
}
