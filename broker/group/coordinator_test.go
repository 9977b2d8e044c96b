package group

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// rig is a coordinator over logs in memory that can be crashed.
type rig struct {
	t      testing.TB
	fs     *commitlog.MemFS
	store  *commitlog.Store
	c      *Coordinator
	topics map[string]*destination.Destination

	mu  sync.Mutex // guards now
	now time.Time
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, fs: commitlog.NewMemFS(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	r.open()
	return r
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	r.store, err = commitlog.Open(r.fs, commitlog.Options{JournalFileBytes: 1 << 20, ReservedBytes: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.topics = map[string]*destination.Destination{}
	for i, name := range []string{TopicName, "a", "b"} {
		s := destination.DefaultSettings()
		d := &destination.Destination{Name: name, ID: [16]byte{byte(i + 1)}, Kind: destination.KindLog, Settings: s, Internal: i == 0}
		for p := range 4 {
			log, err := r.store.OpenLog(commitlog.LogID{Topic: d.ID, Partition: int32(p)}, fmt.Sprintf("%s-%d", name, p), commitlog.Config{})
			if err != nil {
				r.t.Fatal(err)
			}
			d.Partitions = append(d.Partitions, destination.NewPartition(int32(p), log, r.store.Epoch()))
		}
		r.topics[name] = d
	}
	r.c, err = Open(Options{
		Offsets:   func() (*destination.Destination, error) { return r.topics[TopicName], nil },
		Topic:     r.topic,
		TopicByID: r.topicByID,
		Topics:    func() []*destination.Destination { return []*destination.Destination{r.topics["a"], r.topics["b"]} },
		Now: func() time.Time {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.now
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) topic(name string) (*destination.Destination, error) {
	if d := r.topics[name]; d != nil {
		return d, nil
	}
	return nil, destination.ErrNotFound
}

func (r *rig) topicByID(id [16]byte) (*destination.Destination, error) {
	for _, d := range r.topics {
		if d.ID == id {
			return d, nil
		}
	}
	return nil, destination.ErrNotFound
}

// crash is a power cut: what was not synced is gone.
func (r *rig) crash() {
	r.t.Helper()
	r.fs.Stop()
	_ = r.c.Close()
	_ = r.store.Close()
	r.fs = r.fs.Crash(1)
	r.open()
}

func (r *rig) commit(group, topic string, partition int32, offset int64) int16 {
	r.t.Helper()
	q := kmsg.NewPtrOffsetCommitRequest()
	q.Version, q.Group, q.Generation = 8, group, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	note := "note"
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, offset, 3, &note
	q.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return r.c.OffsetCommit(context.Background(), Client{}, q).Topics[0].Partitions[0].ErrorCode
}

// offset is what OffsetFetch says: -1 for none.
func (r *rig) offset(group, topic string, partition int32, stable bool) (int64, int16) {
	r.t.Helper()
	q := kmsg.NewPtrOffsetFetchRequest()
	q.Version, q.RequireStable = 8, stable
	q.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, Partitions: []int32{partition}}}}}
	g := r.c.OffsetFetch(context.Background(), Client{}, q).Groups[0]
	if g.ErrorCode != 0 {
		return -1, g.ErrorCode
	}
	return g.Topics[0].Partitions[0].Offset, g.Topics[0].Partitions[0].ErrorCode
}

func (r *rig) want(group, topic string, partition int32, offset int64) {
	r.t.Helper()
	if got, code := r.offset(group, topic, partition, false); got != offset || code != 0 {
		r.t.Errorf("%s of %s-%d: %d, code %d, not %d", group, topic, partition, got, code, offset)
	}
}

// TestOffsetsSurvive shows that what was confirmed is there after a power cut.
func TestOffsetsSurvive(t *testing.T) {
	r := newRig(t)
	for i := range int32(4) {
		if code := r.commit(fmt.Sprint("g", i), "a", i, int64(10*i)); code != 0 {
			t.Fatal(code)
		}
	}
	r.commit("g0", "a", 0, 99)
	if code := r.commit("g0", "nothing", 0, 1); code != codeUnknownTopicOrPartition {
		t.Errorf("an unknown topic: %d", code)
	}
	r.want("nobody", "a", 0, -1) // no error: pitfall 1
	r.crash()
	r.want("g0", "a", 0, 99)
	r.want("g3", "a", 3, 30)
	if got := r.c.Committed("g3", r.topics["a"].ID, 3); got != 30 {
		t.Errorf("committed %d", got)
	}
	q := kmsg.NewPtrDeleteGroupsRequest()
	q.Groups = []string{"g3", "nobody"}
	a := r.c.DeleteGroups(context.Background(), Client{}, q)
	if a.Groups[0].ErrorCode != 0 || a.Groups[1].ErrorCode != codeGroupIDNotFound {
		t.Errorf("%+v", a.Groups)
	}
	r.crash()
	r.want("g3", "a", 3, -1)
	delete(r.topics, "a")
	r.c.Changed([16]byte{2})
	r.want("g0", "a", 0, -1)
}

// TestTransactionalOffsets shows that a transaction's offsets are the group's
// when it commits, never when it aborts, and that a restart in between changes
// nothing.
func TestTransactionalOffsets(t *testing.T) {
	for _, commits := range []bool{true, false} {
		for _, crashed := range []bool{false, true} {
			r := newRig(t)
			r.commit("g", "a", 0, 5)
			q := kmsg.NewPtrTxnOffsetCommitRequest()
			q.Version, q.TransactionalID, q.Group, q.ProducerID, q.ProducerEpoch, q.Generation = 3, "t", "g", 7, 0, -1
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Offset = 50
			q.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "a", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
			if a := r.c.TxnOffsetCommit(context.Background(), Client{}, q); a.Topics[0].Partitions[0].ErrorCode != 0 {
				t.Fatalf("%+v", a.Topics)
			}
			if crashed {
				r.crash()
			}
			r.want("g", "a", 0, 5)
			if _, code := r.offset("g", "a", 0, true); code != codeUnstableOffsetCommit {
				t.Errorf("a stable fetch: code %d", code)
			}
			for range 2 { // once more is the same
				if err := r.c.EndTransaction(context.Background(), 7, 0, "g", commits); err != nil {
					t.Fatal(err)
				}
			}
			want := int64(5)
			if commits {
				want = 50
			}
			r.want("g", "a", 0, want)
			r.crash()
			r.want("g", "a", 0, want)
		}
	}
}

// TestMembersSurvive shows that a member of a classic group and one of a KIP-848
// group go on after a power cut, and that their commits are checked.
func TestMembersSurvive(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 5, "classic", "consumer", 10_000, 10_000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
	join.MemberID = r.c.JoinGroup(ctx, Client{ID: "c"}, join).MemberID
	joined := r.c.JoinGroup(ctx, Client{ID: "c"}, join)
	if joined.ErrorCode != 0 || joined.LeaderID != join.MemberID {
		t.Fatalf("%+v", joined)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, "classic", join.MemberID, joined.Generation
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: join.MemberID, MemberAssignment: []byte("all")}}
	if a := r.c.SyncGroup(ctx, Client{}, sync); a.ErrorCode != 0 || string(a.MemberAssignment) != "all" {
		t.Fatalf("%+v", a)
	}
	next := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	next.Version, next.Group, next.MemberID, next.RebalanceTimeoutMillis = 1, "next", "m", 10_000
	next.SubscribedTopicNames, next.Topics = []string{"a"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	member := r.c.ConsumerGroupHeartbeat(ctx, Client{ID: "c"}, next)
	if member.ErrorCode != 0 || member.Assignment == nil || len(member.Assignment.Topics[0].Partitions) != 4 {
		t.Fatalf("%+v", member)
	}
	r.crash()
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = "classic", join.MemberID, joined.Generation
	if a := r.c.Heartbeat(ctx, Client{}, beat); a.ErrorCode != 0 {
		t.Errorf("classic: %d", a.ErrorCode)
	}
	next.MemberEpoch = member.MemberEpoch
	if a := r.c.ConsumerGroupHeartbeat(ctx, Client{}, next); a.ErrorCode != 0 || a.MemberEpoch != member.MemberEpoch {
		t.Errorf("KIP-848: %+v", a)
	}
	for _, group := range []string{"classic", "next"} {
		if code := r.commit(group, "a", 0, 1); code == 0 {
			t.Errorf("%s: a stranger commits", group)
		}
	}
	list := r.c.ListGroups(ctx, Client{}, kmsg.NewPtrListGroupsRequest())
	if len(list.Groups) != 2 || list.Groups[0].GroupType != "Classic" || list.Groups[1].GroupType != "Consumer" {
		t.Errorf("%+v", list.Groups)
	}
	join.Group, join.MemberID = "next", ""
	if a := r.c.JoinGroup(ctx, Client{}, join); a.ErrorCode != codeInconsistentGroupProtocol {
		t.Errorf("a classic member in a KIP-848 group: %d", a.ErrorCode)
	}
}

// TestExpiredOffsets shows offsets.retention.minutes: from when the group was
// left.
func TestExpiredOffsets(t *testing.T) {
	r := newRig(t)
	r.commit("g", "a", 0, 5)
	pass := func(d time.Duration) {
		r.mu.Lock()
		r.now = r.now.Add(d)
		r.mu.Unlock()
		r.c.sweepOffsets()
	}
	pass(6 * 24 * time.Hour)
	r.want("g", "a", 0, 5)
	pass(2 * 24 * time.Hour)
	r.want("g", "a", 0, -1)
	if n := len(r.c.ListGroups(context.Background(), Client{}, kmsg.NewPtrListGroupsRequest()).Groups); n != 0 {
		t.Errorf("%d groups are left", n)
	}
}
