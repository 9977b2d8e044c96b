package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/session"
)

// ListOffsets 1–11 and OffsetForLeaderEpoch 2–4.
//
// A time gives the first record at or after it, with its real timestamp, and
// never one that the reader may not read. -1 is the end (the last stable offset
// for a committed read), -2 the start, -3 the record with the highest
// timestamp, -4 the start of what is local, which is the start, and -5 and -6
// are of tiered storage, which there is none of.

const (
	latest        int64 = -1
	earliest      int64 = -2
	maxTimestamp  int64 = -3
	earliestLocal int64 = -4
)

func (c *connection) listOffsets(_ context.Context, r *kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
	response := r.ResponseKind().(*kmsg.ListOffsetsResponse)
	for i := range r.Topics {
		t := &r.Topics[i]
		answer := kmsg.NewListOffsetsResponseTopic()
		answer.Topic = t.Topic
		d, code := c.lookup(t.Topic, [16]byte{}, false, session.OperationDescribe)
		for j := range t.Partitions {
			answer.Partitions = append(answer.Partitions, listOffset(d, code, &t.Partitions[j], r.IsolationLevel == 1))
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}

func listOffset(d *destination.Destination, code int16, q *kmsg.ListOffsetsRequestTopicPartition, committed bool) kmsg.ListOffsetsResponseTopicPartition {
	a := kmsg.NewListOffsetsResponseTopicPartition()
	a.Partition, a.ErrorCode, a.Timestamp, a.Offset, a.LeaderEpoch = q.Partition, code, -1, -1, -1
	if code != codeNone {
		return a
	}
	p := partitionOf(d, q.Partition)
	if p == nil {
		a.ErrorCode = codeUnknownTopicOrPartition
		return a
	}
	if a.ErrorCode = checkEpoch(p, q.CurrentLeaderEpoch); a.ErrorCode != codeNone {
		return a
	}
	end := p.Stable()
	if committed {
		end = min(end, p.LastStable())
	}
	var err error
	switch {
	case q.Timestamp == latest:
		a.Offset = end
	case q.Timestamp == earliest || q.Timestamp == earliestLocal:
		a.Offset = p.Start()
	case q.Timestamp == maxTimestamp:
		a.Offset, a.Timestamp, err = newest(p, end)
	case q.Timestamp < 0:
		// Nothing is tiered.
	default:
		a.Offset, a.Timestamp, err = p.Log().OffsetForTime(q.Timestamp)
		if a.Offset >= end {
			a.Offset, a.Timestamp = -1, -1
		}
	}
	switch {
	case err != nil:
		a.ErrorCode = codeOf(err)
	case a.Offset >= 0:
		a.LeaderEpoch = epochAt(p, a.Offset)
	}
	return a
}

// newest is the first record with the highest timestamp below end.
func newest(p *destination.Partition, end int64) (offset, timestamp int64, err error) {
	highest := int64(-1)
	for _, s := range p.Log().Segments() {
		highest = max(highest, s.MaxTimestamp)
	}
	if highest < 0 {
		return -1, -1, nil
	}
	if offset, timestamp, err = p.Log().OffsetForTime(highest); offset >= end {
		return -1, -1, err
	}
	return offset, timestamp, err
}

// epochAt is the leader epoch under which an offset was written.
func epochAt(p *destination.Partition, offset int64) int32 {
	epochs, err := p.Log().Epochs()
	if err != nil {
		return -1
	}
	epoch := p.Epoch() // at the end it is the present one
	for i, e := range epochs {
		if e.Offset <= offset && (offset < p.End() || i < len(epochs)-1) {
			epoch = e.Epoch
		}
	}
	return epoch
}

// offsetForLeaderEpoch tells where an epoch ends (KIP-279, KIP-320): the newest
// epoch at or before the one asked for, and where the next one begins.
func (c *connection) offsetForLeaderEpoch(_ context.Context, r *kmsg.OffsetForLeaderEpochRequest) *kmsg.OffsetForLeaderEpochResponse {
	response := r.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for i := range r.Topics {
		t := &r.Topics[i]
		answer := kmsg.NewOffsetForLeaderEpochResponseTopic()
		answer.Topic = t.Topic
		d, code := c.lookup(t.Topic, [16]byte{}, false, session.OperationDescribe)
		for j := range t.Partitions {
			answer.Partitions = append(answer.Partitions, endOfEpoch(d, code, &t.Partitions[j]))
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}

func endOfEpoch(d *destination.Destination, code int16, q *kmsg.OffsetForLeaderEpochRequestTopicPartition) kmsg.OffsetForLeaderEpochResponseTopicPartition {
	a := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
	a.Partition, a.ErrorCode, a.LeaderEpoch, a.EndOffset = q.Partition, code, -1, -1
	if code != codeNone {
		return a
	}
	p := partitionOf(d, q.Partition)
	if p == nil {
		a.ErrorCode = codeUnknownTopicOrPartition
		return a
	}
	if a.ErrorCode = checkEpoch(p, q.CurrentLeaderEpoch); a.ErrorCode != codeNone {
		return a
	}
	epochs, err := p.Log().Epochs()
	if err != nil {
		a.ErrorCode = codeOf(err)
		return a
	}
	switch {
	case q.LeaderEpoch > p.Epoch():
		return a // never heard of
	case q.LeaderEpoch == p.Epoch():
		a.LeaderEpoch, a.EndOffset = q.LeaderEpoch, p.Stable()
		return a
	}
	for i, e := range epochs {
		if e.Epoch > q.LeaderEpoch {
			break
		}
		a.LeaderEpoch, a.EndOffset = e.Epoch, p.Stable()
		if i+1 < len(epochs) {
			a.EndOffset = epochs[i+1].Offset
		}
	}
	if a.LeaderEpoch < 0 { // older than all that is known
		a.LeaderEpoch, a.EndOffset = q.LeaderEpoch, p.Start()
	}
	return a
}
