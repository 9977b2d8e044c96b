package group

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/consumer"
)

// OffsetFetch answers OffsetFetch 1–10. An unknown group has committed nothing,
// which is no error.
func (c *Coordinator) OffsetFetch(_ context.Context, _ Client, r *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	a := r.ResponseKind().(*kmsg.OffsetFetchResponse)
	if r.Version >= 8 {
		for i := range r.Groups {
			a.Groups = append(a.Groups, c.fetch(&r.Groups[i], r.Version, r.RequireStable))
		}
		return a
	}
	q := kmsg.NewOffsetFetchRequestGroup()
	q.Group = r.Group
	if r.Topics != nil {
		q.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range r.Topics {
		x := kmsg.NewOffsetFetchRequestGroupTopic()
		x.Topic, x.Partitions = t.Topic, t.Partitions
		q.Topics = append(q.Topics, x)
	}
	g := c.fetch(&q, r.Version, r.RequireStable)
	a.ErrorCode = g.ErrorCode
	for _, t := range g.Topics {
		x := kmsg.NewOffsetFetchResponseTopic()
		x.Topic = t.Topic
		for _, p := range t.Partitions {
			y := kmsg.NewOffsetFetchResponseTopicPartition()
			y.Partition, y.Offset, y.LeaderEpoch, y.Metadata, y.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			x.Partitions = append(x.Partitions, y)
		}
		a.Topics = append(a.Topics, x)
	}
	return a
}

// fetch answers for one group.
func (c *Coordinator) fetch(q *kmsg.OffsetFetchRequestGroup, version int16, stable bool) kmsg.OffsetFetchResponseGroup {
	a := kmsg.NewOffsetFetchResponseGroup()
	a.Group = q.Group
	e, code := c.lock(q.Group, false)
	if e != nil {
		defer c.unlock(e)
		if e.consumer != nil && version >= 9 {
			code = e.consumer.CheckFetch(q.MemberID, q.MemberEpoch)
		}
	}
	if code != codeNone && version >= 2 {
		a.ErrorCode = code
		return a
	}
	if q.Topics == nil {
		if e != nil {
			a.Topics = c.allOffsets(e, version, stable)
		}
		return a
	}
	for _, t := range q.Topics {
		x := kmsg.NewOffsetFetchResponseGroupTopic()
		x.Topic, x.TopicID = t.Topic, t.TopicID
		name, d, refused := c.topicOf(t.Topic, t.TopicID, version >= 10)
		var id [16]byte
		if d != nil {
			id = d.ID
		}
		for _, number := range t.Partitions {
			y := e.fetched(partition{name, number}, id, stable)
			if version >= 10 && refused != codeNone {
				y.ErrorCode = refused
			}
			if code != codeNone {
				y.ErrorCode = code
			}
			x.Partitions = append(x.Partitions, y)
		}
		a.Topics = append(a.Topics, x)
	}
	return a
}

// fetched is a group's offset as OffsetFetch says it; e may be nil.
func (e *entry) fetched(p partition, topic [16]byte, stable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	y := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	none := ""
	y.Partition, y.Offset, y.LeaderEpoch, y.Metadata = p.number, -1, -1, &none
	if e == nil {
		return y
	}
	if stable {
		for _, pending := range e.pending {
			if _, open := pending[p]; open {
				y.ErrorCode = codeUnstableOffsetCommit // KIP-447
				return y
			}
		}
	}
	if o, ok := e.offsets[p]; ok && o.of(topic) {
		y.Offset, y.LeaderEpoch, y.Metadata = o.offset, o.epoch, &o.metadata
	}
	return y
}

// allOffsets are all that a group has committed. e.mu is held.
func (c *Coordinator) allOffsets(e *entry, version int16, stable bool) []kmsg.OffsetFetchResponseGroupTopic {
	all := maps.Clone(e.offsets)
	if stable {
		for _, pending := range e.pending {
			maps.Copy(all, pending)
		}
	}
	list := []kmsg.OffsetFetchResponseGroupTopic{}
	for _, p := range slices.SortedFunc(maps.Keys(all), partition.compare) {
		var id [16]byte
		d, err := c.o.Topic(p.topic)
		if err == nil {
			id = d.ID
		}
		y := e.fetched(p, id, stable)
		switch {
		case version >= 10 && err != nil, y.Offset < 0 && y.ErrorCode == codeNone:
			continue // of a topic that is no more
		}
		if n := len(list); n == 0 || list[n-1].Topic != p.topic {
			x := kmsg.NewOffsetFetchResponseGroupTopic()
			x.Topic, x.TopicID = p.topic, id
			list = append(list, x)
		}
		x := &list[len(list)-1]
		x.Partitions = append(x.Partitions, y)
	}
	return list
}

// OffsetDelete answers OffsetDelete 0. It waits for the disk.
func (c *Coordinator) OffsetDelete(_ context.Context, _ Client, r *kmsg.OffsetDeleteRequest) *kmsg.OffsetDeleteResponse {
	a := r.ResponseKind().(*kmsg.OffsetDeleteResponse)
	e, code := c.lock(r.Group, false)
	switch {
	case e == nil && code == codeNone:
		code = codeGroupIDNotFound
	case e == nil:
	case e.share != nil:
		code = codeGroupIDNotFound
	case e.classic != nil && e.classic.Size() > 0 && e.classic.ProtocolType() != "consumer":
		code = codeNonEmptyGroup // nobody knows what they consume
	}
	if code != codeNone {
		if e != nil {
			c.unlock(e)
		}
		a.ErrorCode = code
		return a
	}
	w := &write{e: e}
	var records []consumer.Record
	for _, t := range r.Topics {
		x := kmsg.NewOffsetDeleteResponseTopic()
		x.Topic = t.Topic
		for _, p := range t.Partitions {
			y := kmsg.NewOffsetDeleteResponseTopicPartition()
			y.Partition = p.Partition
			key := partition{t.Topic, p.Partition}
			if e.subscribed(t.Topic) {
				y.ErrorCode = codeGroupSubscribedToTopic
			} else if _, ok := e.offsets[key]; ok {
				w.touches = append(w.touches, key)
				records = append(records, consumer.Record{Key: offsetKey(e.id, key)})
			}
			x.Partitions = append(x.Partitions, y)
		}
		a.Topics = append(a.Topics, x)
	}
	if len(records) == 0 {
		c.unlock(e)
		return a
	}
	err := c.erase(w, records)
	c.unlock(e)
	if err == nil {
		err = w.wait()
	}
	a.ErrorCode = codeOf(err)
	return a
}

// erase appends tombstones of the offsets that w touches. e.mu is held.
func (c *Coordinator) erase(w *write, records []consumer.Record) error {
	w.apply = func(err error) {
		for i := 0; err == nil && i < len(w.touches); i++ {
			w.e.erase(w.touches[i])
		}
	}
	return c.append(w, records)
}
