package group

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/consumer"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// maxMetadata bounds what a client may note with an offset, bytes (Kafka's
// offset.metadata.max.bytes): OFFSET_METADATA_TOO_LARGE.
const maxMetadata = 4096

// topicOf is a topic as a request names it, by name or id, and its code.
func (c *Coordinator) topicOf(name string, id [16]byte, byID bool) (string, *destination.Destination, int16) {
	var d *destination.Destination
	var err error
	unknown := codeUnknownTopicOrPartition
	if byID {
		unknown = codeUnknownTopicID
		if d, err = c.o.TopicByID(id); err == nil {
			name = record.TopicName(d.Name)
		}
	} else {
		d, err = c.o.Topic(name)
	}
	if errors.Is(err, destination.ErrNotFound) {
		return name, nil, unknown
	}
	return name, d, codeOf(err)
}

// changes are the offsets of one request that may be committed.
type changes struct {
	offsets map[partition]committed
	named   []consumer.Partition // the same, by topic id
}

// add checks one offset.
func (s *changes) add(d *destination.Destination, p partition, o committed, metadata *string) int16 {
	if metadata != nil {
		o.metadata = *metadata
	}
	switch {
	case len(o.metadata) > maxMetadata:
		return codeOffsetMetadataTooLarge
	case p.number < 0 || int(p.number) >= len(d.Partitions):
		return codeUnknownTopicOrPartition
	}
	o.topicID = d.ID
	if s.offsets == nil {
		s.offsets = map[partition]committed{}
	}
	s.offsets[p] = o
	s.named = append(s.named, consumer.Partition{Topic: d.ID, Index: p.number})
	return codeNone
}

// records are the changes as records, and what they touch, in the same order.
func (s *changes) records(group string) (records []consumer.Record, touched []partition) {
	for p := range s.offsets {
		touched = append(touched, p)
	}
	slices.SortFunc(touched, partition.compare)
	for _, p := range touched {
		records = append(records, offsetRecord(group, p, s.offsets[p]))
	}
	return records, touched
}

// OffsetCommit answers OffsetCommit 2–10. It waits for the disk.
func (c *Coordinator) OffsetCommit(_ context.Context, _ Client, r *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitResponse {
	a := r.ResponseKind().(*kmsg.OffsetCommitResponse)
	now := c.o.Now()
	o := committed{at: now.UnixMilli(), expires: -1}
	if r.Version <= 4 && r.RetentionTimeMillis >= 0 {
		o.expires = now.Add(time.Duration(r.RetentionTimeMillis) * time.Millisecond).UnixMilli()
	}
	var s changes
	for _, t := range r.Topics {
		answer := kmsg.NewOffsetCommitResponseTopic()
		answer.Topic, answer.TopicID = t.Topic, t.TopicID
		name, d, code := c.topicOf(t.Topic, t.TopicID, r.Version >= 10)
		for _, p := range t.Partitions {
			x := kmsg.NewOffsetCommitResponseTopicPartition()
			x.Partition, x.ErrorCode = p.Partition, code
			if o.offset, o.epoch = p.Offset, -1; r.Version >= 6 {
				o.epoch = p.LeaderEpoch
			}
			if code == codeNone {
				x.ErrorCode = s.add(d, partition{name, p.Partition}, o, p.Metadata)
			}
			answer.Partitions = append(answer.Partitions, x)
		}
		a.Topics = append(a.Topics, answer)
	}
	if code := c.commit(r, &s); code != codeNone {
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

// commit makes the changes, if their sender may, and waits for them.
func (c *Coordinator) commit(r *kmsg.OffsetCommitRequest, s *changes) int16 {
	e, code := c.lock(r.Group, r.Generation < 0) // -1: by who is not in a group's generation
	switch {
	case code != codeNone:
		return code
	case e == nil && r.Version >= 9:
		return codeGroupIDNotFound
	case e == nil:
		return codeIllegalGeneration
	}
	code = e.checkCommit(c.o.Now(), consumer.Commit{
		MemberID: r.MemberID, InstanceID: r.InstanceID, Epoch: r.Generation, Version: r.Version,
	}, s.named)
	if code != codeNone || len(s.offsets) == 0 {
		c.unlock(e)
		return code
	}
	records, touched := s.records(e.id)
	w := &write{e: e, touches: touched}
	w.apply = func(err error) {
		for i := 0; err == nil && i < len(touched); i++ {
			o := s.offsets[touched[i]]
			o.record = w.base + int64(i)
			e.put(touched[i], o)
		}
	}
	err := c.append(w, records)
	c.unlock(e)
	if err == nil {
		err = w.wait()
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
	case s.Epoch >= 0:
		return codeUnknownMemberID
	}
	return codeNone
}

// TxnOffsetCommit answers TxnOffsetCommit 0–5: the offsets are written as
// records of the producer's transaction, and become the group's when it commits
// (KIP-447). Whether the transaction has the group was asked before, and it does
// not end before this returns.
func (c *Coordinator) TxnOffsetCommit(_ context.Context, _ Client, r *kmsg.TxnOffsetCommitRequest) *kmsg.TxnOffsetCommitResponse {
	a := r.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	o := committed{at: c.o.Now().UnixMilli(), expires: -1}
	var s changes
	for _, t := range r.Topics {
		answer := kmsg.NewTxnOffsetCommitResponseTopic()
		answer.Topic = t.Topic
		_, d, code := c.topicOf(t.Topic, [16]byte{}, false)
		for _, p := range t.Partitions {
			x := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			x.Partition, x.ErrorCode = p.Partition, code
			if o.offset, o.epoch = p.Offset, -1; r.Version >= 2 {
				o.epoch = p.LeaderEpoch
			}
			if code == codeNone {
				x.ErrorCode = s.add(d, partition{t.Topic, p.Partition}, o, p.Metadata)
			}
			answer.Partitions = append(answer.Partitions, x)
		}
		a.Topics = append(a.Topics, answer)
	}
	if code := c.commitPending(r, &s); code != codeNone {
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

func (c *Coordinator) commitPending(r *kmsg.TxnOffsetCommitRequest, s *changes) int16 {
	if r.Group == "" {
		return codeInvalidGroupID
	}
	sender := consumer.Commit{Epoch: -1, Version: 9, Transactional: true}
	if r.Version >= 3 {
		sender.MemberID, sender.InstanceID, sender.Epoch = r.MemberID, r.InstanceID, r.Generation
	}
	e, code := c.lock(r.Group, sender.Epoch < 0)
	switch {
	case code != codeNone:
		return code
	case e == nil:
		return codeIllegalGeneration
	}
	if code = e.checkCommit(c.o.Now(), sender, s.named); code != codeNone || len(s.offsets) == 0 {
		c.unlock(e)
		return code
	}
	records, touched := s.records(e.id)
	w := &write{e: e, touches: touched}
	w.apply = func(err error) {
		for i := 0; err == nil && i < len(touched); i++ {
			o := s.offsets[touched[i]]
			o.record = w.base + int64(i)
			e.hold(r.ProducerID, touched[i], o)
		}
	}
	var b record.Builder
	b.SetProducer(r.ProducerID, r.ProducerEpoch, -1, true)
	now := c.o.Now().UnixMilli()
	for _, x := range records {
		b.Append(now, x.Key, x.Value, nil)
	}
	err := c.begin(w, func(p *destination.Partition, w commitlog.Waiter) (int64, error) {
		return p.Produce(b.Batch(), false, w)
	})
	c.unlock(e)
	if err == nil {
		err = w.wait()
	}
	return codeOf(err)
}

// EndTransaction ends a transaction's offsets of a group: they become the
// group's, or are dropped. It returns when the marker is on disk, and may be
// called again.
func (c *Coordinator) EndTransaction(ctx context.Context, producerID int64, epoch int16, group string, commit bool) error {
	if _, err := c.offsetsLog(); err != nil {
		return err
	}
	e, code := c.lock(group, false)
	switch {
	case code != codeNone:
		return errUnavailable
	case e == nil: // nothing of the group is known, but others may read the log
		e = newEntry(group)
		e.mu.Lock()
	}
	w := &write{e: e}
	w.apply = func(err error) {
		if err == nil {
			e.endPending(producerID, commit)
		}
	}
	err := c.begin(w, func(p *destination.Partition, w commitlog.Waiter) (int64, error) {
		return 0, p.EndTransaction(producerID, epoch, p.Epoch(), commit, w)
	})
	c.unlock(e)
	if err != nil {
		return err
	}
	select {
	case <-w.landed:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errUnavailable is what whoever ends a transaction gets who has to try again.
var errUnavailable = errors.New("group is not available")
