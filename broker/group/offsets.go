package group

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/consumer"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

const (
	offsetKeyVersion   = 1
	offsetValueVersion = 3
)

func offsetKey(group string, p partition) []byte {
	key := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: group, Topic: p.topic, Partition: p.number}
	return key.AppendTo(nil)
}

func offsetRecord(group string, p partition, o committed) consumer.Record {
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch, v.Metadata, v.CommitTimestamp = offsetValueVersion, o.offset, o.epoch, o.metadata, o.at
	if o.expires >= 0 {
		v.Version, v.ExpireTimestamp = 1, o.expires
	}
	return consumer.Record{Key: offsetKey(group, p), Value: v.AppendTo(nil)}
}

// topicOf is a topic as a request names it, by name or id, and its code.
func (c *Coordinator) topicOf(name string, id [16]byte, byID bool) (string, *destination.Destination, int16) {
	if byID {
		d, err := c.o.TopicByID(id)
		if err != nil {
			return "", nil, codeUnknownTopicID
		}
		return record.TopicName(d.Name), d, codeNone
	}
	d, err := c.o.Topic(name)
	if errors.Is(err, destination.ErrNotFound) {
		return name, nil, codeUnknownTopicOrPartition
	}
	return name, d, codeOf(err)
}

// OffsetCommit answers OffsetCommit 2–10.
func (c *Coordinator) OffsetCommit(_ context.Context, _ Client, r *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitResponse {
	a := r.ResponseKind().(*kmsg.OffsetCommitResponse)
	now := c.o.Now()
	changes := map[partition]committed{}
	expires := int64(-1)
	if r.Version <= 4 && r.RetentionTimeMillis >= 0 {
		expires = now.Add(time.Duration(r.RetentionTimeMillis) * time.Millisecond).UnixMilli()
	}
	var named []consumer.Partition
	for _, t := range r.Topics {
		answer := kmsg.NewOffsetCommitResponseTopic()
		answer.Topic, answer.TopicID = t.Topic, t.TopicID
		name, d, code := c.topicOf(t.Topic, t.TopicID, r.Version >= 10)
		for _, p := range t.Partitions {
			x := kmsg.NewOffsetCommitResponseTopicPartition()
			x.Partition, x.ErrorCode = p.Partition, code
			o, refused := newCommitted(d, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, now)
			if r.Version < 6 {
				o.epoch = -1
			}
			if o.expires = expires; code == codeNone {
				if x.ErrorCode = refused; refused == codeNone {
					changes[partition{name, p.Partition}] = o
					named = append(named, consumer.Partition{Topic: d.ID, Index: p.Partition})
				}
			}
			answer.Partitions = append(answer.Partitions, x)
		}
		a.Topics = append(a.Topics, answer)
	}
	code := c.commit(r, changes, named)
	if code != codeNone {
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if p := &a.Topics[i].Partitions[j]; p.ErrorCode == codeNone {
					p.ErrorCode = code
				}
			}
		}
	}
	return a
}

// newCommitted checks one offset.
func newCommitted(d *destination.Destination, number int32, offset int64, epoch int32, metadata *string, now time.Time) (committed, int16) {
	o := committed{offset: offset, epoch: epoch, at: now.UnixMilli(), expires: -1}
	if metadata != nil {
		o.metadata = *metadata
	}
	switch {
	case len(o.metadata) > maxMetadata:
		return o, codeOffsetMetadataTooLarge
	case d == nil || number < 0 || int(number) >= len(d.Partitions):
		return o, codeUnknownTopicOrPartition
	}
	return o, codeNone
}

// commit makes the changes, if their sender may, and waits for them.
func (c *Coordinator) commit(r *kmsg.OffsetCommitRequest, changes map[partition]committed, named []consumer.Partition) int16 {
	if r.Group == "" && r.Generation >= 0 {
		return codeInvalidGroupID
	}
	simple := r.Generation < 0 && r.MemberID == ""
	e := c.lock(r.Group, simple)
	if e == nil {
		return codeIllegalGeneration
	}
	code := e.checkCommit(c.o.Now(), consumer.Commit{
		MemberID: r.MemberID, InstanceID: r.InstanceID, Epoch: r.Generation, Version: r.Version,
	}, named)
	if code != codeNone || len(changes) == 0 {
		e.mu.Unlock()
		return code
	}
	var records []consumer.Record
	for _, p := range sortedPartitions(changes) {
		records = append(records, offsetRecord(e.id, p, changes[p]))
	}
	before := map[partition]committed{}
	done := make(synced, 1)
	if err := c.write(e, records, done); err != nil {
		e.mu.Unlock()
		return codeOf(err)
	}
	for p, o := range changes {
		if old, ok := e.offsets[p]; ok {
			before[p] = old
		}
		e.offsets[p] = o
	}
	c.schedule(e)
	e.mu.Unlock()
	err := <-done
	if err == nil {
		return codeNone
	}
	// Nothing of it is on disk: as before, but for what was committed since.
	e.mu.Lock()
	defer e.mu.Unlock()
	for p, o := range changes {
		if e.offsets[p] != o {
			continue
		}
		if old, ok := before[p]; ok {
			e.offsets[p] = old
		} else {
			delete(e.offsets, p)
		}
	}
	return codeOf(err)
}

// checkCommit says whether the sender may commit offsets. e.mu is held.
func (e *entry) checkCommit(now time.Time, s consumer.Commit, named []consumer.Partition) int16 {
	switch {
	case e.share != nil:
		return codeGroupIDNotFound
	case e.consumer != nil:
		return e.consumer.CheckCommit(s, named)
	case e.classic != nil:
		return e.classic.CheckCommit(now, s.MemberID, s.InstanceID, s.Epoch, s.Transactional)
	case s.Epoch >= 0 && !s.Transactional:
		return codeIllegalGeneration
	}
	return codeNone
}

// OffsetFetch answers OffsetFetch 1–10. An unknown group has committed nothing,
// which is no error.
func (c *Coordinator) OffsetFetch(_ context.Context, _ Client, r *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	a := r.ResponseKind().(*kmsg.OffsetFetchResponse)
	if r.Version >= 8 {
		for i := range r.Groups {
			a.Groups = append(a.Groups, c.fetchOffsets(&r.Groups[i], r.Version, r.RequireStable))
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
	g := c.fetchOffsets(&q, r.Version, r.RequireStable)
	a.ErrorCode = g.ErrorCode
	for _, t := range g.Topics {
		x := kmsg.NewOffsetFetchResponseTopic()
		x.Topic = t.Topic
		for _, p := range t.Partitions {
			y := kmsg.NewOffsetFetchResponseTopicPartition()
			y.Partition, y.Offset, y.LeaderEpoch, y.Metadata, y.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			if r.Version < 2 && g.ErrorCode != codeNone {
				y.ErrorCode = g.ErrorCode
			}
			x.Partitions = append(x.Partitions, y)
		}
		a.Topics = append(a.Topics, x)
	}
	return a
}

func (c *Coordinator) fetchOffsets(q *kmsg.OffsetFetchRequestGroup, version int16, stable bool) kmsg.OffsetFetchResponseGroup {
	a := kmsg.NewOffsetFetchResponseGroup()
	a.Group = q.Group
	e := c.lock(q.Group, false)
	if e != nil {
		defer e.mu.Unlock()
		switch {
		case e.consumer != nil && version >= 9:
			a.ErrorCode = e.consumer.CheckFetch(q.MemberID, q.MemberEpoch)
		case e.share != nil:
			a.ErrorCode = codeGroupIDNotFound
		}
		if a.ErrorCode != codeNone {
			return a
		}
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
		name, code := t.Topic, codeNone
		if version >= 10 {
			name, _, code = c.topicOf("", t.TopicID, true)
		}
		for _, number := range t.Partitions {
			y := e.offset(partition{name, number}, stable)
			if code != codeNone {
				y.ErrorCode = code
			}
			x.Partitions = append(x.Partitions, y)
		}
		a.Topics = append(a.Topics, x)
	}
	return a
}

// offset is a group's offset as OffsetFetch says it; e may be nil.
func (e *entry) offset(p partition, stable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	y := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	none := ""
	y.Partition, y.Offset, y.LeaderEpoch, y.Metadata = p.number, -1, -1, &none
	if e == nil {
		return y
	}
	if stable {
		for _, pending := range e.pending {
			if _, open := pending[p]; open {
				y.ErrorCode = codeUnstableOffsetCommit
				return y
			}
		}
	}
	if o, ok := e.offsets[p]; ok {
		y.Offset, y.LeaderEpoch, y.Metadata = o.offset, o.epoch, &o.metadata
	}
	return y
}

// allOffsets are all that a group has committed. e.mu is held.
func (c *Coordinator) allOffsets(e *entry, version int16, stable bool) []kmsg.OffsetFetchResponseGroupTopic {
	all := map[partition]committed{}
	for p, o := range e.offsets {
		all[p] = o
	}
	if stable {
		for _, pending := range e.pending {
			for p, o := range pending {
				all[p] = o
			}
		}
	}
	var list []kmsg.OffsetFetchResponseGroupTopic
	for _, p := range sortedPartitions(all) {
		if n := len(list); n == 0 || list[n-1].Topic != p.topic {
			x := kmsg.NewOffsetFetchResponseGroupTopic()
			x.Topic = p.topic
			if version >= 10 {
				d, err := c.o.Topic(p.topic)
				if err != nil {
					continue
				}
				x.TopicID = d.ID
			}
			list = append(list, x)
		}
		x := &list[len(list)-1]
		x.Partitions = append(x.Partitions, e.offset(p, stable))
	}
	return list
}

// OffsetDelete answers OffsetDelete 0.
func (c *Coordinator) OffsetDelete(_ context.Context, _ Client, r *kmsg.OffsetDeleteRequest) *kmsg.OffsetDeleteResponse {
	a := r.ResponseKind().(*kmsg.OffsetDeleteResponse)
	e := c.lock(r.Group, false)
	if e == nil {
		a.ErrorCode = codeGroupIDNotFound
		return a
	}
	var records []consumer.Record
	switch {
	case e.share != nil:
		a.ErrorCode = codeGroupIDNotFound
	case e.classic != nil && e.classic.Size() > 0 && e.classic.ProtocolType() != "consumer":
		a.ErrorCode = codeNonEmptyGroup
	}
	if a.ErrorCode != codeNone {
		e.mu.Unlock()
		return a
	}
	for _, t := range r.Topics {
		x := kmsg.NewOffsetDeleteResponseTopic()
		x.Topic = t.Topic
		for _, p := range t.Partitions {
			y := kmsg.NewOffsetDeleteResponseTopicPartition()
			y.Partition = p.Partition
			key := partition{t.Topic, p.Partition}
			if e.size() > 0 && e.subscribed(t.Topic) {
				y.ErrorCode = codeGroupSubscribedToTopic
			} else if _, ok := e.offsets[key]; ok {
				delete(e.offsets, key)
				records = append(records, consumer.Record{Key: offsetKey(e.id, key)})
			}
			x.Partitions = append(x.Partitions, y)
		}
		a.Topics = append(a.Topics, x)
	}
	done := c.append(e, records)
	e.mu.Unlock()
	a.ErrorCode = codeOf(done())
	return a
}

// TxnOffsetCommit answers TxnOffsetCommit 0–5: the offsets are written as
// records of the producer's transaction, and become the group's when it commits.
// Whether the transaction has the group was asked before.
func (c *Coordinator) TxnOffsetCommit(_ context.Context, _ Client, r *kmsg.TxnOffsetCommitRequest) *kmsg.TxnOffsetCommitResponse {
	a := r.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	now := c.o.Now()
	changes := map[partition]committed{}
	var named []consumer.Partition
	for _, t := range r.Topics {
		answer := kmsg.NewTxnOffsetCommitResponseTopic()
		answer.Topic = t.Topic
		_, d, code := c.topicOf(t.Topic, [16]byte{}, false)
		for _, p := range t.Partitions {
			x := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			x.Partition, x.ErrorCode = p.Partition, code
			o, refused := newCommitted(d, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, now)
			if r.Version < 2 {
				o.epoch = -1
			}
			if code == codeNone {
				if x.ErrorCode = refused; refused == codeNone {
					changes[partition{t.Topic, p.Partition}] = o
					named = append(named, consumer.Partition{Topic: d.ID, Index: p.Partition})
				}
			}
			answer.Partitions = append(answer.Partitions, x)
		}
		a.Topics = append(a.Topics, answer)
	}
	code := c.commitPending(r, changes, named)
	if code != codeNone {
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if p := &a.Topics[i].Partitions[j]; p.ErrorCode == codeNone {
					p.ErrorCode = code
				}
			}
		}
	}
	return a
}

func (c *Coordinator) commitPending(r *kmsg.TxnOffsetCommitRequest, changes map[partition]committed, named []consumer.Partition) int16 {
	if r.Group == "" {
		return codeInvalidGroupID
	}
	if r.Version < 3 {
		r.Generation, r.MemberID = -1, ""
	}
	e := c.lock(r.Group, r.Generation < 0 && r.MemberID == "")
	if e == nil {
		return codeIllegalGeneration
	}
	code := e.checkCommit(c.o.Now(), consumer.Commit{
		MemberID: r.MemberID, InstanceID: r.InstanceID, Epoch: r.Generation, Version: 9, Transactional: true,
	}, named)
	if code != codeNone || len(changes) == 0 {
		e.mu.Unlock()
		return code
	}
	p, err := c.partitionOf(e.id)
	if err != nil {
		e.mu.Unlock()
		return codeOf(err)
	}
	var b record.Builder
	b.SetProducer(r.ProducerID, r.ProducerEpoch, -1, true)
	for _, key := range sortedPartitions(changes) {
		x := offsetRecord(e.id, key, changes[key])
		b.Append(c.o.Now().UnixMilli(), x.Key, x.Value, nil)
	}
	done := make(synced, 1)
	if _, err := p.Produce(b.Batch(), false, done); err != nil {
		e.mu.Unlock()
		return codeOf(err)
	}
	if e.pending[r.ProducerID] == nil {
		e.pending[r.ProducerID] = map[partition]committed{}
	}
	for key, o := range changes {
		e.pending[r.ProducerID][key] = o
	}
	e.mu.Unlock()
	return codeOf(<-done)
}

// EndTransaction ends a transaction's offsets of a group: they become the
// group's, or are dropped. It returns when the marker is on disk, and may be
// called again.
func (c *Coordinator) EndTransaction(ctx context.Context, producerID int64, epoch int16, group string, commit bool) error {
	p, err := c.partitionOf(group)
	if err != nil {
		return err
	}
	done := make(synced, 1)
	if err := p.EndTransaction(producerID, epoch, p.Epoch(), commit, done); err != nil {
		return err
	}
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if e := c.lock(group, false); e != nil {
		e.endPending(producerID, commit)
		e.mu.Unlock()
	}
	return nil
}
