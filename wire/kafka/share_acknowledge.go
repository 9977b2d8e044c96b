package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
)

// ShareAcknowledge 1–2, and the acknowledgements in a ShareFetch. For each
// offset it is a gap (0), accepted (1), released (2), rejected (3), or, where the
// request says that there are such, renewed (4, KIP-1222). A partition's
// acknowledgements are for all of its offsets or, with INVALID_RECORD_STATE, for
// none: one that the member does not hold, or not any more, spoils them. The answer
// comes when the outcome is durable. A rejected record goes to the destination's
// dead letter destination, together with its end here. A released one comes back
// after the destination's redelivery delay, which is none by default.

// What becomes of an offset.
const (
	ackGap int8 = iota
	ackAccept
	ackRelease
	ackReject
	ackRenew
)

// shareAck is what a request says of one partition.
type shareAck struct {
	topic     [16]byte
	partition int32
	batches   []ackBatch
}

type ackBatch struct {
	first, last int64
	types       []int8
}

func fetchAcks(r *kmsg.ShareFetchRequest) (acks []shareAck) {
	for i := range r.Topics {
		t := &r.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			if len(p.AcknowledgementBatches) == 0 {
				continue
			}
			a := shareAck{topic: t.TopicID, partition: p.Partition}
			for _, b := range p.AcknowledgementBatches {
				a.batches = append(a.batches, ackBatch{b.FirstOffset, b.LastOffset, b.AcknowledgeTypes})
			}
			acks = append(acks, a)
		}
	}
	return acks
}

func (c *connection) shareAcknowledge(ctx context.Context, r *kmsg.ShareAcknowledgeRequest) *kmsg.ShareAcknowledgeResponse {
	response := r.ResponseKind().(*kmsg.ShareAcknowledgeResponse)
	key, code := shareID(r.GroupID, r.MemberID)
	if code == codeNone {
		response.AcquisitionLockTimeoutMillis = int32(c.server.shareSettings(key.group, nil).lock.Milliseconds())
		if r.ShareSessionEpoch == openShareSession {
			code = codeInvalidShareSessionEpoch
		}
	}
	var s *shareSession
	if code == codeNone {
		s, code = c.server.shares.begin(c, key, r.ShareSessionEpoch)
	}
	if response.ErrorCode = code; code != codeNone {
		return response
	}
	var acks []shareAck
	for i := range r.Topics {
		t := &r.Topics[i]
		for j := range t.Partitions {
			a := shareAck{topic: t.TopicID, partition: t.Partitions[j].Partition}
			for _, b := range t.Partitions[j].AcknowledgementBatches {
				a.batches = append(a.batches, ackBatch{b.FirstOffset, b.LastOffset, b.AcknowledgeTypes})
			}
			acks = append(acks, a)
		}
	}
	answered := s.acknowledge(acks, r.IsRenewAck)
	if r.ShareSessionEpoch == closeShareSession {
		s.close()
	}
	codes := answered.wait(ctx)
	next := 0
	for i := range r.Topics {
		t := kmsg.NewShareAcknowledgeResponseTopic()
		t.TopicID = r.Topics[i].TopicID
		for range r.Topics[i].Partitions {
			p := kmsg.NewShareAcknowledgeResponseTopicPartition()
			p.Partition, p.ErrorCode = acks[next].partition, codes[next]
			p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = -1, -1
			t.Partitions = append(t.Partitions, p)
			next++
		}
		response.Topics = append(response.Topics, t)
	}
	return response
}

// acknowledged are the outcomes of a request's partitions while they become
// durable.
type acknowledged struct {
	mu    sync.Mutex // guards what follows; innermost
	codes []int16
	left  int
	done  chan struct{}
}

// settledPart is told of one settlement, of partition i.
type settledPart struct {
	of *acknowledged
	i  int
}

// Committed implements commitlog.Waiter.
func (s settledPart) Committed(err error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if err != nil {
		s.of.codes[s.i] = ackCode(err)
	}
	s.of.finish()
}

// finish ends one part. The lock is held.
func (a *acknowledged) finish() {
	if a.left--; a.left == 0 {
		close(a.done)
	}
}

// wait returns the codes once all is durable.
func (a *acknowledged) wait(ctx context.Context) []int16 {
	if len(a.codes) == 0 {
		return nil
	}
	a.mu.Lock()
	a.finish() // what acknowledge has counted for itself
	a.mu.Unlock()
	timer := time.NewTimer(shareWait)
	defer timer.Stop()
	select {
	case <-a.done:
		return a.codes
	case <-timer.C:
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	late := make([]int16, len(a.codes))
	for i, code := range a.codes {
		if late[i] = code; code == codeNone {
			late[i] = codeRequestTimedOut
		}
	}
	return late
}

// ackCode is the code of a settlement that failed.
func ackCode(err error) int16 {
	switch {
	case errors.Is(err, destination.ErrStaleToken):
		return codeInvalidRecordState
	case errors.Is(err, destination.ErrClosed):
		return codeUnknownTopicID
	}
	return codeOf(err)
}

// acknowledge settles what the member says; the outcomes are waited for.
func (s *shareSession) acknowledge(acks []shareAck, renews bool) *acknowledged {
	a := &acknowledged{codes: make([]int16, len(acks)), left: 1, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(acks)
	for i := range acks {
		code := s.acknowledgeOne(&acks[i], renews, a, i)
		if code != codeNone {
			a.mu.Lock()
			a.codes[i] = code
			a.mu.Unlock()
		}
	}
	return a
}

// expire forgets the locks that are over, of the partitions that are spoken of.
func (s *shareSession) expire(acks []shareAck) {
	now := s.server.now()
	for i := range acks {
		if t := s.topic(acks[i].topic); t != nil {
			if h := t.held[acks[i].partition]; h != nil {
				h.expire(now)
			}
		}
	}
}

// stretch is consecutive offsets with one outcome.
type stretch struct {
	from, to int64
	kind     int8
}

func (s *shareSession) acknowledgeOne(ack *shareAck, renews bool, a *acknowledged, i int) int16 {
	stretches, ok := ack.stretches(renews)
	if !ok {
		return codeInvalidRequest
	}
	t := s.topic(ack.topic)
	if t == nil || t.consumer == nil {
		if s.server.broker.ByID(ack.topic) == nil {
			return codeUnknownTopicID
		}
		return codeInvalidRecordState
	}
	h := t.held[ack.partition]
	if h == nil {
		return codeInvalidRecordState
	}
	var spans [ackRenew + 1][]queue.Span
	for _, st := range stretches {
		kind := st.kind
		if kind == ackGap {
			kind = ackAccept // there is nothing: it is done
		}
		if spans[kind], ok = h.spans(ack.partition, st.from, st.to, spans[kind]); !ok {
			return codeInvalidRecordState
		}
	}
	if code := t.renew(h, spans[ackRenew]); code != codeNone {
		return code
	}
	for _, st := range stretches {
		if st.kind != ackRenew {
			h.remove(st.from, st.to)
		}
	}
	var code int16
	for kind, outcome := range shareOutcomes {
		if len(spans[kind]) == 0 {
			continue
		}
		a.mu.Lock()
		a.left++
		a.mu.Unlock()
		if err := t.consumer.View().Settle(t.consumer.Holder(), spans[kind], outcome, settledPart{a, i}); err != nil {
			settledPart{a, i}.Committed(nil)
			code = ackCode(err)
		}
	}
	return code
}

// shareOutcomes are what a view is told of each type.
var shareOutcomes = [...]queue.Outcome{
	ackAccept:  {Kind: queue.Acknowledge},
	ackRelease: {Kind: queue.Release, Delay: -1},
	ackReject:  {Kind: queue.Reject},
}

// renew has the locks begin anew. It is all or nothing.
func (t *shareTopic) renew(h *heldRecords, spans []queue.Span) int16 {
	if len(spans) == 0 {
		return codeNone
	}
	until := t.session.server.now() + t.settings.lock.Milliseconds()
	if err := t.consumer.View().Extend(t.consumer.Holder(), spans, t.settings.lock); err != nil {
		return ackCode(err)
	}
	for _, span := range spans {
		h.extend(span.Offset, span.Offset+int64(span.Count), until)
	}
	return codeNone
}

// stretches are the offsets by outcome, in order; false if that makes no sense.
func (ack *shareAck) stretches(renews bool) ([]stretch, bool) {
	limit := ackReject
	if renews {
		limit = ackRenew
	}
	next := int64(0)
	all := make([]stretch, 0, len(ack.batches))
	for _, b := range ack.batches {
		n := int64(len(b.types))
		if b.first < next || b.last < b.first || b.last == 1<<63-1 || n == 0 || n > 1 && n-1 != b.last-b.first {
			return nil, false
		}
		next = b.last + 1
		for i, kind := range b.types {
			if kind < ackGap || kind > limit {
				return nil, false
			}
			from, to := b.first+int64(i), b.first+int64(i)+1
			if n == 1 {
				to = next
			}
			if k := len(all); i > 0 && all[k-1].kind == kind {
				all[k-1].to = to
				continue
			}
			all = append(all, stretch{from, to, kind})
		}
	}
	return all, true
}
