package broker

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/destination"
)

// Who is told that a transaction has ended sees its offsets at once, whoever
// asks, and as stable as they are.
func TestOffsetsOfAnEndedTransaction(t *testing.T) {
	r := newRig(t)
	_, err := r.b.CreateDestination(ctx, "t", destination.KindLog, nil)
	r.must(err)
	id := "x"
	init := kmsg.NewPtrInitProducerIDRequest()
	init.Version, init.TransactionalID, init.TransactionTimeoutMillis = 5, &id, 60_000
	began := r.b.Transactions().InitProducerID(ctx, init)
	for round := range int64(50) {
		admission, code := r.b.Transactions().EnterOffsets(ctx, id, began.ProducerID, began.ProducerEpoch, "g", true)
		if code != 0 {
			t.Fatalf("round %d: enter: %d", round, code)
		}
		commit := kmsg.NewPtrTxnOffsetCommitRequest()
		commit.Version, commit.TransactionalID, commit.Group, commit.Generation = 5, id, "g", -1
		commit.ProducerID, commit.ProducerEpoch = began.ProducerID, began.ProducerEpoch
		commit.Topics = []kmsg.TxnOffsetCommitRequestTopic{{
			Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: round}},
		}}
		committed := r.b.Groups().TxnOffsetCommit(ctx, group.Client{}, commit)
		admission.Release()
		end := kmsg.NewPtrEndTxnRequest()
		end.Version, end.TransactionalID, end.Commit = 5, id, true
		end.ProducerID, end.ProducerEpoch = began.ProducerID, began.ProducerEpoch
		ended := r.b.Transactions().EndTxn(ctx, end)
		if code := committed.Topics[0].Partitions[0].ErrorCode; code != 0 || ended.ErrorCode != 0 {
			t.Fatalf("round %d: commit: %d, end: %d", round, code, ended.ErrorCode)
		}
		began.ProducerEpoch = ended.ProducerEpoch
		for _, stable := range []bool{false, true} {
			fetch := kmsg.NewPtrOffsetFetchRequest()
			fetch.Version, fetch.RequireStable = 8, stable
			fetch.Groups = []kmsg.OffsetFetchRequestGroup{{
				Group: "g", Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}},
			}}
			p := r.b.Groups().OffsetFetch(ctx, group.Client{}, fetch).Groups[0].Topics[0].Partitions[0]
			if got, want := fmt.Sprint(p.ErrorCode, p.Offset), fmt.Sprint(0, round); got != want {
				t.Fatalf("round %d, stable %t: code and offset are %s, want %s", round, stable, got, want)
			}
		}
	}
}
