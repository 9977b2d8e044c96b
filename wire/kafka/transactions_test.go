package kafka

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination/record"
)

// A batch of a transaction that does not have the partition: from version 11 on
// clients are told to abort (KIP-890).
func TestProduceOutsideTheTransaction(t *testing.T) {
	r := newRig(t)
	r.create("a")
	c := r.dial()
	id := "x"
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis = &id, 60_000
	producer := ask[*kmsg.InitProducerIDResponse](c, init, 4)
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = id, producer.ProducerID, producer.ProducerEpoch
	r.create("b")
	add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "b", Partitions: []int32{0}}}
	if a := ask[*kmsg.AddPartitionsToTxnResponse](c, add, 3); a.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("add: %+v", a)
	}
	var b record.Builder
	b.SetProducer(producer.ProducerID, producer.ProducerEpoch, 0, true)
	b.Append(1, nil, []byte("v"), nil)
	for version, want := range map[int16]int16{10: codeInvalidTxnState, 11: codeTransactionAbortable} {
		q := produceRequest("a", 0, -1, b.Batch())
		q.TransactionID = &id
		if got := ask[*kmsg.ProduceResponse](c, q, version).Topics[0].Partitions[0].ErrorCode; got != want {
			t.Errorf("version %d: %d, want %d", version, got, want)
		}
	}
}

// An administrator ends a transaction that hangs: what kafka-transactions does.
func TestWriteTxnMarkers(t *testing.T) {
	r := newRig(t)
	d := r.create("a")
	c := r.dial()
	id := "x"
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis = &id, 60_000
	producer := ask[*kmsg.InitProducerIDResponse](c, init, 4)
	var b record.Builder
	b.SetProducer(producer.ProducerID, producer.ProducerEpoch, 0, true)
	b.Append(1, nil, []byte("v"), nil)
	q := produceRequest("a", 0, -1, b.Batch())
	q.TransactionID = &id
	if a := ask[*kmsg.ProduceResponse](c, q, 12).Topics[0].Partitions[0]; a.ErrorCode != 0 {
		t.Fatalf("produce: %+v", a)
	}
	if at := d.Partitions[0].LastStable(); at != 0 {
		t.Fatalf("the last stable offset is %d while the transaction is open", at)
	}
	abort := kmsg.NewPtrWriteTxnMarkersRequest()
	m := kmsg.NewWriteTxnMarkersRequestMarker()
	m.ProducerID, m.ProducerEpoch = producer.ProducerID, producer.ProducerEpoch
	m.Topics = []kmsg.WriteTxnMarkersRequestMarkerTopic{
		{Topic: "a", Partitions: []int32{0, 7}},
		{Topic: "nowhere", Partitions: []int32{0}},
		{Topic: "__transaction_state", Partitions: []int32{0}},
	}
	abort.Markers = append(abort.Markers, m)
	var got []int16
	for _, t := range ask[*kmsg.WriteTxnMarkersResponse](c, abort, 1).Markers[0].Topics {
		for _, p := range t.Partitions {
			got = append(got, p.ErrorCode)
		}
	}
	if want := []int16{0, codeUnknownTopicOrPartition, codeUnknownTopicOrPartition, codeTopicAuthorizationFailed}; !slices.Equal(got, want) {
		t.Errorf("codes %v, want %v", got, want)
	}
	if at := d.Partitions[0].LastStable(); at != 2 {
		t.Errorf("the last stable offset is %d after the abort", at)
	}
	if aborted, err := d.Partitions[0].Aborted(0, 2); err != nil || len(aborted) != 1 {
		t.Errorf("aborted: %v, %v", aborted, err)
	}
	m.ProducerEpoch = -1
	m.Topics = m.Topics[:1]
	abort.Markers[0] = m
	if a := ask[*kmsg.WriteTxnMarkersResponse](c, abort, 1).Markers[0].Topics[0].Partitions[0]; a.ErrorCode != codeInvalidProducerEpoch {
		t.Errorf("an older epoch: %+v", a)
	}
}

// KIP-937: a producer whose clock is far ahead is told so.
func TestProduceAheadOfTheClock(t *testing.T) {
	r := newRig(t)
	r.create("a")
	r.create("later", "message.timestamp.after.max.ms=7200000")
	r.create("ours", "message.timestamp.type=LogAppendTime")
	c := r.dial()
	var b record.Builder
	b.Append(time.Now().Add(90*time.Minute).UnixMilli(), nil, []byte("v"), nil)
	for topic, want := range map[string]int16{"a": codeInvalidTimestamp, "later": 0, "ours": 0} {
		if a := c.produce(topic, 0, slices.Clone(b.Batch())); a.ErrorCode != want {
			t.Errorf("%s: %+v", topic, a)
		}
	}
}
