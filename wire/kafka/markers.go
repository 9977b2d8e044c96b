package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/session"
)

// WriteTxnMarkers 1–2: brokers of a cluster end transactions in one another's
// partitions with it, and an administrator (kafka-transactions abort) one that
// hangs. The markers are answered when they are durable, in one sync if they can.
// In the broker's own topics it is TOPIC_AUTHORIZATION_FAILED: what hangs there
// ends with its transaction's timeout.
func (c *connection) writeTxnMarkers(_ context.Context, r *kmsg.WriteTxnMarkersRequest) *kmsg.WriteTxnMarkersResponse {
	response := r.ResponseKind().(*kmsg.WriteTxnMarkersResponse)
	var waits []func()
	for i := range r.Markers {
		m := &r.Markers[i]
		answer := kmsg.NewWriteTxnMarkersResponseMarker()
		answer.ProducerID = m.ProducerID
		for _, t := range m.Topics {
			topic := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			topic.Topic = t.Topic
			topic.Partitions = make([]kmsg.WriteTxnMarkersResponseMarkerTopicPartition, len(t.Partitions))
			d, code := c.lookup(t.Topic, [16]byte{}, false, session.OperationAlter)
			if code == codeNone && d.Internal {
				code = codeTopicAuthorizationFailed
			}
			for j, number := range t.Partitions {
				p := &topic.Partitions[j]
				p.Partition, p.ErrorCode = number, code
				if code != codeNone {
					continue
				}
				partition := partitionOf(d, number)
				if partition == nil {
					p.ErrorCode = codeUnknownTopicOrPartition
					continue
				}
				done := make(errorWaiter, 1)
				if err := partition.EndTransaction(m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, m.Committed, done); err != nil {
					p.ErrorCode = codeOf(err)
					continue
				}
				waits = append(waits, func() { p.ErrorCode = codeOf(<-done) })
			}
			answer.Topics = append(answer.Topics, topic)
		}
		response.Markers = append(response.Markers, answer)
	}
	for _, wait := range waits {
		wait()
	}
	return response
}
