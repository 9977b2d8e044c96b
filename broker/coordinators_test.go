package broker

import (
	"fmt"
	"strings"
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

// What is set for a group holds for its members, and after a restart, until it is
// set back.
func TestGroupSettings(t *testing.T) {
	r := newRig(t)
	_, err := r.b.CreateDestination(ctx, "t", destination.KindLog, nil)
	r.must(err)
	consume := func(id, member string, epoch int32) (int32, int16) {
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Version, q.Group, q.MemberID, q.MemberEpoch = 1, id, member, epoch
		if epoch == 0 {
			q.RebalanceTimeoutMillis, q.SubscribedTopicNames, q.Topics = 60_000, []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}
		a := r.b.Groups().ConsumerGroupHeartbeat(ctx, group.Client{}, q)
		return a.HeartbeatIntervalMillis, a.ErrorCode
	}
	share := func(member string, epoch int32) int32 {
		q := kmsg.NewPtrShareGroupHeartbeatRequest()
		q.Version, q.GroupID, q.MemberID, q.MemberEpoch = 1, "s", member, epoch
		if epoch == 0 {
			q.SubscribedTopicNames = []string{"t"}
		}
		return r.b.Groups().ShareGroupHeartbeat(ctx, group.Client{}, q).HeartbeatIntervalMillis
	}
	want := func(what string, got, want int32) {
		t.Helper()
		if got != want {
			t.Errorf("%s: members are told %d ms, want %d", what, got, want)
		}
	}
	ms, _ := consume("g", "m", 0)
	want("a group without settings", ms, 3000)
	want("a share group without settings", share("m", 0), 3000)
	r.must(r.b.SetGroup("g", map[string]string{ConsumerHeartbeatInterval: "700", ConsumerSessionTimeout: "9000", ShareHeartbeatInterval: "1"}))
	r.must(r.b.SetGroup("s", map[string]string{ShareHeartbeatInterval: "800"}))
	r.must(r.b.SetGroup("later", map[string]string{ConsumerHeartbeatInterval: "900"}))
	for _, when := range []string{"set", "after a restart"} {
		ms, _ = consume("g", "m", 1)
		want(when, ms, 700)
		want(when+", share group", share("m", 1), 800)
		r.reopen()
	}
	ms, _ = consume("later", "m", 0)
	want("before it was made", ms, 900)
	r.must(r.b.SetGroup("g", nil))
	ms, _ = consume("g", "m", 1)
	want("set back", ms, 3000)
	if set := r.b.GroupsSet(); len(set) != 2 {
		t.Errorf("set are %v", set)
	}
	r.is(r.b.SetGroup(strings.Repeat("x", 1<<16), nil), destination.ErrTooLarge)
}
