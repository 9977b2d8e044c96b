package kafka

import (
	"testing"

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
