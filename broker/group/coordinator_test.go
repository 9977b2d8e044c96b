package group

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// run runs a test with a rig, in a bubble.
func run(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, openRig(t, commitlog.NewMemFS(), nil)) })
}

// Java's String.hashCode, as Kafka has it: 99162322 for hello, and the famous
// polygenelubricants has the smallest of all integers.
func TestPartitionOfGroup(t *testing.T) {
	for group, want := range map[string]int{"": 0, "a": 47, "hello": 22, "polygenelubricants": 0} {
		if got := indexOf(group, 50); got != want {
			t.Errorf("%q is in partition %d, want %d", group, got, want)
		}
	}
}

func TestCommitAndFetchInEveryVersion(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		defer r.close()
		for commitVersion := int16(2); commitVersion <= 10; commitVersion++ {
			group := fmt.Sprint("g", commitVersion)
			q := r.commitRequest(commitVersion, group, nobody, offsets{"a/0": 5, "a/3": 6, "b/1": 7, "b/2": 8, "none/0": 9})
			a := r.c.OffsetCommit(ctx, r.cl, q)
			back := kmsg.NewPtrOffsetCommitResponse()
			if back.Version = commitVersion; back.ReadFrom(a.AppendTo(nil)) != nil || len(back.Topics) != 3 {
				t.Fatalf("version %d: %+v", commitVersion, back)
			}
			unknown := codeUnknownTopicOrPartition
			if commitVersion >= 10 {
				unknown = codeUnknownTopicID
			}
			got := []int16{
				back.Topics[0].Partitions[0].ErrorCode, back.Topics[0].Partitions[1].ErrorCode, back.Topics[1].Partitions[0].ErrorCode,
				back.Topics[1].Partitions[1].ErrorCode, back.Topics[2].Partitions[0].ErrorCode,
			}
			if want := []int16{0, 0, 0, codeUnknownTopicOrPartition, unknown}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("version %d: codes %v, want %v", commitVersion, got, want)
			}
			for version := int16(1); version <= 10; version++ {
				r.fetchInVersion(version, group, commitVersion >= 6)
			}
		}
	})
}

// fetchInVersion compares what a group has, by name and all.
func (r *rig) fetchInVersion(version int16, group string, epochs bool) {
	t := r.t
	t.Helper()
	want := map[string]int64{"a/0": 5, "a/3": 6, "b/1": 7}
	for _, keys := range [][]string{{"a/0", "a/3", "a/1", "b/1"}, nil} {
		if keys == nil && version < 2 {
			continue // all has to be asked for with a null
		}
		back := kmsg.NewPtrOffsetFetchResponse()
		if back.Version = version; back.ReadFrom(r.c.OffsetFetch(ctx, r.cl, r.fetchRequest(version, group, version >= 7, keys...)).AppendTo(nil)) != nil {
			t.Fatalf("version %d cannot be read", version)
		}
		got := map[string]int64{}
		note := func(topic string, id [16]byte, number int32, offset int64, epoch int32, metadata *string, code int16) {
			if version >= 10 {
				topic = map[[16]byte]string{r.id("a"): "a", r.id("b"): "b"}[id]
			}
			if offset < 0 {
				if topic != "a" || number != 1 || code != 0 || metadata == nil || *metadata != "" {
					t.Errorf("version %d: no offset is answered %s/%d code %d %v", version, topic, number, code, metadata)
				}
				return
			}
			got[fmt.Sprintf("%s/%d", topic, number)] = offset
			wantEpoch := int32(-1)
			if epochs && version >= 5 {
				wantEpoch = 7
			}
			if epoch != wantEpoch || *metadata != fmt.Sprint("at ", offset) || code != 0 {
				t.Errorf("version %d: epoch %d, metadata %q, code %d", version, epoch, *metadata, code)
			}
		}
		for _, x := range back.Topics {
			for _, p := range x.Partitions {
				note(x.Topic, [16]byte{}, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
			}
		}
		for _, g := range back.Groups {
			for _, x := range g.Topics {
				for _, p := range x.Partitions {
					note(x.Topic, x.TopicID, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
				}
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("fetch version %d of %v: %v, want %v", version, keys, got, want)
		}
	}
}

func TestUnknownGroup(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		defer r.close()
		if got := r.fetched("nobody", true, "a/0", "b/1"); !maps.Equal(got, offsets{"a/0": -1, "b/1": -1}) {
			t.Errorf("fetch: %v", got)
		}
		r.has("nobody", offsets{})
		m := member{id: "m", generation: 1}
		for name, got := range map[string]int16{
			"sync": r.sync("nobody", m).ErrorCode, "leave": r.leave("nobody", m), "heartbeat": r.heartbeat("nobody", m),
			"join": r.c.JoinGroup(ctx, r.cl, r.joinRequest("nobody", "m", time.Minute)).ErrorCode,
		} {
			if got != codeUnknownMemberID {
				t.Errorf("%s: %d", name, got)
			}
		}
		q := kmsg.NewPtrLeaveGroupRequest()
		if q.Version, q.Group, q.MemberID = 2, "nobody", "m"; r.c.LeaveGroup(ctx, r.cl, q).ErrorCode != codeUnknownMemberID {
			t.Error("leave in version 2")
		}
		if s := r.sync("", m); s.ErrorCode != codeInvalidGroupID || s.MemberAssignment == nil {
			t.Errorf("sync without group: %+v", s)
		}
		if code := r.commitAs(m, "nobody", offsets{"a/0": 1}); code != codeGroupIDNotFound {
			t.Errorf("commit of a member: %d", code)
		}
		old := r.commitRequest(8, "nobody", m, offsets{"a/0": 1})
		if code := r.c.OffsetCommit(ctx, r.cl, old).Topics[0].Partitions[0].ErrorCode; code != codeIllegalGeneration {
			t.Errorf("commit of a member, version 8: %d", code)
		}
		if code := r.deleteGroup("nobody"); code != codeGroupIDNotFound {
			t.Errorf("delete: %d", code)
		}
		if d := r.describe(5, "nobody"); d.State != "Dead" || d.ErrorCode != 0 {
			t.Errorf("describe 5: %+v", d)
		}
		if d := r.describe(6, "nobody"); d.State != "Dead" || d.ErrorCode != codeGroupIDNotFound || *d.ErrorMessage != "Group nobody not found." {
			t.Errorf("describe 6: %+v", d)
		}
		if code := r.consume("nobody", "m", 1).ErrorCode; code != codeGroupIDNotFound {
			t.Errorf("consume: %d", code)
		}
		if code := r.share("nobody", "m", 1).ErrorCode; code != codeGroupIDNotFound {
			t.Errorf("share: %d", code)
		}
		// None of this leaves anything behind.
		if all := r.listed(nil, nil); len(all) > 0 || len(r.c.groups) > 0 || r.made {
			t.Errorf("left behind: %v, %d entries, %s made: %t", all, len(r.c.groups), TopicName, r.made)
		}
		bad := r.joinRequest("refused", "", time.Millisecond)
		if code := r.c.JoinGroup(ctx, r.cl, bad).ErrorCode; code != 26 || len(r.c.groups) != 0 {
			t.Errorf("a refused join: code %d, %d entries", code, len(r.c.groups))
		}
	})
}

func TestWhoMayCommit(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		defer r.close()
		m := r.join("g", 10*time.Second)
		check := func(name string, want int16, m member) {
			t.Helper()
			if code := r.commitAs(m, "g", offsets{"a/0": 1}); code != want {
				t.Errorf("%s: %d, want %d", name, code, want)
			}
		}
		check("member", codeNone, m)
		check("nobody", codeUnknownMemberID, nobody)
		check("stranger", codeUnknownMemberID, member{id: "x", generation: 1})
		check("of the past", codeIllegalGeneration, member{id: m.id, generation: 0})
		if code := r.leave("g", m); code != 0 {
			t.Error(code)
		}
		check("nobody, empty", codeNone, nobody)
		check("member who has left", codeUnknownMemberID, m)
		r.commit("simple", offsets{"a/0": 1})
		if code := r.commitAs(m, "simple", offsets{"a/0": 1}); code != codeUnknownMemberID {
			t.Errorf("a member of a group that has only offsets: %d", code)
		}

		k := r.consume("k", "m", 0)
		if code := r.commitAs(member{id: "m", generation: k.MemberEpoch}, "k", offsets{"a/0": 1}); code != codeNone {
			t.Errorf("KIP-848 member: %d", code)
		}
		if code := r.commitAs(member{id: "m", generation: k.MemberEpoch + 1}, "k", offsets{"a/0": 1}); code != 113 {
			t.Errorf("KIP-848 member with a newer epoch: %d", code)
		}
		if code := r.commitAs(nobody, "k", offsets{"a/0": 1}); code != codeUnknownMemberID {
			t.Errorf("nobody in a KIP-848 group: %d", code)
		}

		long := strings.Repeat("x", maxMetadata+1)
		q := r.commitRequest(9, "simple", nobody, offsets{"a/1": 1})
		q.Topics[0].Partitions[0].Metadata = &long
		if code := r.c.OffsetCommit(ctx, r.cl, q).Topics[0].Partitions[0].ErrorCode; code != codeOffsetMetadataTooLarge {
			t.Errorf("long metadata: %d", code)
		}
		r.has("simple", offsets{"a/0": 1})
	})
}

// A whole life of a classic group, over restarts.
func TestClassicGroup(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		m := r.join("g", 10*time.Second)
		if code := r.commitAs(m, "g", offsets{"a/0": 5}); code != 0 {
			t.Fatal(code)
		}
		second := make(chan *kmsg.JoinGroupResponse)
		id := r.c.JoinGroup(ctx, r.cl, r.joinRequest("g", "", 10*time.Second)).MemberID
		go func() { second <- r.c.JoinGroup(ctx, r.cl, r.joinRequest("g", id, 10*time.Second)) }()
		synctest.Wait()
		if code := r.heartbeat("g", m); code != 27 {
			t.Errorf("heartbeat in a rebalance: %d", code)
		}
		first := r.c.JoinGroup(ctx, r.cl, r.joinRequest("g", m.id, 10*time.Second))
		if b := <-second; b.Generation != first.Generation || len(first.Members) != 2 || b.LeaderID != m.id {
			t.Fatalf("%+v, %+v", first, b)
		}
		m.generation = first.Generation
		follower := make(chan *kmsg.SyncGroupResponse)
		go func() { follower <- r.sync("g", member{id: id, generation: m.generation}) }()
		synctest.Wait()
		if s := r.sync("g", m); string(s.MemberAssignment) != "all" {
			t.Errorf("%+v", s)
		}
		if s := <-follower; s.ErrorCode != 0 || len(s.MemberAssignment) != 0 {
			t.Errorf("%+v", s)
		}

		r = r.crash(1)
		if code := r.heartbeat("g", m); code != 0 {
			t.Errorf("heartbeat after a crash: %d", code)
		}
		if s := r.sync("g", m); string(s.MemberAssignment) != "all" {
			t.Errorf("sync after a crash: %+v", s)
		}
		d := r.describe(6, "g")
		if d.State != "Stable" || len(d.Members) != 2 || d.Members[0].ClientHost != "/127.0.0.1" {
			t.Errorf("after a crash: %+v", d)
		}
		r.has("g", offsets{"a/0": 5})
		if got := r.c.Committed("g", r.id("a"), 0); got != 5 {
			t.Errorf("committed is %d", got)
		}
		if offset, ok := r.c.Floor("a", 0); !ok || offset != 5 {
			t.Errorf("floor is %d, %t", offset, ok)
		}
		for range 3 { // the other one is silent
			time.Sleep(8 * time.Second)
			r.heartbeat("g", m)
		}
		if code := r.heartbeat("g", member{id: id, generation: m.generation}); code != codeUnknownMemberID {
			t.Errorf("heartbeat of the dead: %d", code)
		}
		if code := r.deleteGroup("g"); code != codeNonEmptyGroup {
			t.Errorf("delete with members: %d", code)
		}
		time.Sleep(time.Minute)
		if all := r.listed([]string{"empty"}, []string{"CLASSIC"}); fmt.Sprint(all) != "[g Classic Empty]" {
			t.Errorf("listed: %v", all)
		}
		r = r.crash(2)
		if all := r.listed([]string{"Empty"}, nil); fmt.Sprint(all) != "[g Classic Empty]" {
			t.Errorf("listed after a crash: %v", all)
		}
		if d := r.describe(6, "g"); d.State != "Empty" || d.ProtocolType != "consumer" {
			t.Errorf("%+v", d)
		}
		if code := r.deleteGroup("g"); code != 0 {
			t.Errorf("delete: %d", code)
		}
		r.has("g", offsets{})
		r = r.crash(3)
		if all := r.listed(nil, nil); len(all) != 0 {
			t.Errorf("listed after delete: %v", all)
		}
		r.close()
	})
}

// Who waits for others is let go when the coordinator closes, or the connection.
func TestWaitEnds(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		defer r.close()
		r.join("g", time.Minute)
		id := r.c.JoinGroup(ctx, r.cl, r.joinRequest("g", "", time.Minute)).MemberID
		hung, hangUp := context.WithCancel(ctx)
		done := make(chan int16, 2)
		for _, c := range []context.Context{hung, ctx} {
			go func() { done <- r.c.JoinGroup(c, r.cl, r.joinRequest("g", id, time.Minute)).ErrorCode }()
			synctest.Wait()
		}
		if code := <-done; code != 27 { // it has asked again
			t.Errorf("the first: %d", code)
		}
		hangUp()
		go func() { done <- r.c.JoinGroup(hung, r.cl, r.joinRequest("g", id, time.Minute)).ErrorCode }()
		for _, want := range []int16{27, codeCoordinatorNotAvailable} {
			if code := <-done; code != want && code != 27+codeCoordinatorNotAvailable-want {
				t.Errorf("then: %d", code)
			}
		}
		go func() { done <- r.c.JoinGroup(ctx, r.cl, r.joinRequest("g", id, time.Minute)).ErrorCode }()
		synctest.Wait()
		if n := len(r.c.groups["g"].waiting); n != 1 {
			t.Errorf("%d wait", n)
		}
		_ = r.c.Close()
		if code := <-done; code != codeCoordinatorNotAvailable {
			t.Errorf("closed: %d", code)
		}
		if code := r.commitAs(nobody, "other", offsets{"a/0": 1}); code != codeCoordinatorNotAvailable {
			t.Errorf("commit after close: %d", code)
		}
	})
}

func TestTransactionalOffsets(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.commit("g", offsets{"a/0": 1, "a/1": 1})
		if code := r.txnCommit(7, 0, "g", offsets{"a/0": 10, "b/0": 20}); code != 0 {
			t.Fatal(code)
		}
		unstable := 1000 + int64(codeUnstableOffsetCommit)
		open := func() {
			t.Helper()
			r.has("g", offsets{"a/0": 1, "a/1": 1})
			if got := r.fetched("g", true); !maps.Equal(got, offsets{"a/0": unstable, "a/1": 1, "b/0": unstable}) {
				t.Errorf("all, stable: %v", got)
			}
			if got := r.fetched("g", true, "a/0", "a/1"); !maps.Equal(got, offsets{"a/0": unstable, "a/1": 1}) {
				t.Errorf("stable: %v", got)
			}
		}
		open()
		r = r.crash(1) // it is still open
		open()
		r.end(7, 0, "g", true)
		want := offsets{"a/0": 10, "a/1": 1, "b/0": 20}
		r.has("g", want)
		if got := r.fetched("g", true); !maps.Equal(got, want) {
			t.Errorf("stable: %v", got)
		}
		r.end(7, 0, "g", true) // again
		r.has("g", want)

		// Aborted.
		if code := r.txnCommit(7, 0, "g", offsets{"a/0": 11}); code != 0 {
			t.Fatal(code)
		}
		r.end(7, 0, "g", false)
		r.has("g", want)

		// Of two, the one whose record is the newer one, whenever it is committed.
		if code := r.txnCommit(8, 0, "g", offsets{"a/0": 12, "a/1": 12}); code != 0 {
			t.Fatal(code)
		}
		r.commit("g", offsets{"a/0": 13})
		r.end(8, 0, "g", true)
		want = offsets{"a/0": 13, "a/1": 12, "b/0": 20}
		r.has("g", want)
		r = r.crash(2)
		r.has("g", want)

		// Fenced.
		r.end(8, 3, "g", true)
		if code := r.txnCommit(8, 2, "g", offsets{"a/0": 14}); code != codeInvalidProducerEpoch {
			t.Errorf("fenced: %d", code)
		}
		// A group that nobody knows.
		r.end(9, 0, "nobody", true)
		if all := r.listed(nil, nil); fmt.Sprint(all) != "[g Classic Empty]" {
			t.Errorf("listed: %v", all)
		}

		// The group is deleted under it.
		if code := r.txnCommit(10, 0, "g", offsets{"a/0": 15}); code != 0 {
			t.Fatal(code)
		}
		if code := r.deleteGroup("g"); code != 0 {
			t.Errorf("delete: %d", code)
		}
		r.end(10, 0, "g", true)
		r.has("g", offsets{})
		r = r.crash(3)
		r.has("g", offsets{})
		if all := r.listed(nil, nil); len(all) != 0 {
			t.Errorf("listed: %v", all)
		}
		r.close()
	})
}

func TestTransactionalMembers(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		defer r.close()
		m := r.join("g", time.Minute)
		q := kmsg.NewPtrTxnOffsetCommitRequest()
		q.Version, q.Group, q.ProducerID, q.MemberID, q.Generation = 3, "g", 1, m.id, m.generation
		q.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "a", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Partition: 0, Offset: 1}, {Partition: 9, Offset: 1}}}}
		codes := func() string {
			a := r.c.TxnOffsetCommit(ctx, r.cl, q)
			return fmt.Sprint(a.Topics[0].Partitions[0].ErrorCode, a.Topics[0].Partitions[1].ErrorCode)
		}
		if got := codes(); got != "0 3" {
			t.Errorf("member: %s", got)
		}
		q.Generation++
		if got := codes(); got != "22 3" {
			t.Errorf("of the future: %s", got)
		}
		q.Version = 2 // which knows nothing of members
		if got := codes(); got != "0 3" {
			t.Errorf("version 2: %s", got)
		}
		q.Version, q.Group = 3, "nobody"
		if got := codes(); got != "22 3" {
			t.Errorf("unknown group: %s", got)
		}
	})
}

func TestOffsetDelete(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		m := r.join("g", time.Minute)
		if code := r.commitAs(m, "g", offsets{"a/0": 1, "b/0": 2, "b/1": 3}); code != 0 {
			t.Fatal(code)
		}
		q := kmsg.NewPtrOffsetDeleteRequest()
		q.Group = "g"
		q.Topics = []kmsg.OffsetDeleteRequestTopic{
			{Topic: "a", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}},
			{Topic: "b", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 1}, {Partition: 7}}},
		}
		a := r.c.OffsetDelete(ctx, r.cl, q)
		if a.ErrorCode != 0 || a.Topics[0].Partitions[0].ErrorCode != codeGroupSubscribedToTopic || a.Topics[1].Partitions[0].ErrorCode != 0 || a.Topics[1].Partitions[1].ErrorCode != 0 {
			t.Errorf("%+v", a)
		}
		r = r.crash(1)
		r.has("g", offsets{"a/0": 1, "b/0": 2})
		r.leave("g", m)
		r.c.OffsetDelete(ctx, r.cl, q)
		r.has("g", offsets{"b/0": 2})
		if q.Group = "nobody"; r.c.OffsetDelete(ctx, r.cl, q).ErrorCode != codeGroupIDNotFound {
			t.Error("unknown group")
		}
		join := r.joinRequest("connect", "", time.Minute)
		join.Version, join.ProtocolType = 3, "connect"
		if code := r.c.JoinGroup(ctx, r.cl, join).ErrorCode; code != 0 {
			t.Fatal(code)
		}
		if q.Group = "connect"; r.c.OffsetDelete(ctx, r.cl, q).ErrorCode != codeNonEmptyGroup {
			t.Error("a group of others than consumers")
		}
		r.close()
	})
}

// Offsets go when the retention has passed since the group became empty.
func TestExpiry(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		const day = 24 * time.Hour
		m := r.join("g", 30*time.Minute)
		if code := r.commitAs(m, "g", offsets{"a/0": 1, "b/0": 2}); code != 0 {
			t.Fatal(code)
		}
		r.commit("simple", offsets{"a/0": 3})
		brief := r.commitRequest(4, "brief", nobody, offsets{"a/0": 4})
		brief.RetentionTimeMillis = (3 * time.Hour).Milliseconds()
		r.c.OffsetCommit(ctx, r.cl, brief)
		alive := func(d time.Duration) {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Minute) {
				if code := r.heartbeat("g", m); code != 0 {
					t.Fatal(code)
				}
			}
		}
		alive(2 * time.Hour)
		r.has("brief", offsets{"a/0": 4})
		alive(2 * time.Hour)
		r.has("brief", offsets{})
		alive(6 * day)
		r.has("g", offsets{"a/0": 1, "b/0": 2})
		r.has("simple", offsets{"a/0": 3})
		alive(day)
		r.has("g", offsets{"a/0": 1}) // b is nobody's any more
		r.has("simple", offsets{})
		r.leave("g", m)
		time.Sleep(3 * day)
		r = r.crash(1) // it remembers since when
		time.Sleep(3 * day)
		r.has("g", offsets{"a/0": 1})
		time.Sleep(day + time.Hour)
		r.has("g", offsets{})
		if all := r.listed(nil, nil); len(all) != 0 || len(r.c.groups) != 0 {
			t.Errorf("listed: %v, %d entries", all, len(r.c.groups))
		}
		if _, tombstones := r.records("g", classicKey("g")); tombstones != 1 {
			t.Errorf("%d tombstones", tombstones)
		}
		r = r.crash(2)
		if all := r.listed(nil, nil); len(all) != 0 {
			t.Errorf("listed after a crash: %v", all)
		}
		r.close()
	})
}

// The offsets of a topic go with it, and another one of its name has none.
func TestTopicDeleted(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		m := r.join("g", 30*time.Minute)
		if code := r.commitAs(m, "g", offsets{"a/0": 1, "b/0": 2}); code != 0 {
			t.Fatal(code)
		}
		r.append("old", offsetKey("old", partition{"b", 1}), func() []byte { // by an old broker, which knew no ids
			v := kmsg.NewOffsetCommitValue()
			v.Version, v.Offset, v.CommitTimestamp = 3, 9, time.Now().UnixMilli()
			return v.AppendTo(nil)
		}())
		r = r.crash(1)
		r.has("old", offsets{"b/1": 9})
		if code := r.txnCommit(1, 0, "g", offsets{"b/1": 3}); code != 0 {
			t.Fatal(code)
		}
		r.remove("b")
		r.create("b", 2)
		r.end(1, 0, "g", true)
		r.has("g", offsets{"a/0": 1})
		r.remove("b")
		r.has("old", offsets{})
		r.create("b", 2)
		r = r.crash(2)
		r.has("g", offsets{"a/0": 1})
		r.has("old", offsets{})

		// The broker dies before it has told.
		if code := r.commitAs(m, "g", offsets{"b/0": 4}); code != 0 {
			t.Fatal(code)
		}
		r.create("b", 2)
		r.has("g", offsets{"a/0": 1})
		if got := r.fetched("g", false, "b/0"); got["b/0"] != -1 {
			t.Errorf("%v", got)
		}
		if got := r.c.Committed("g", r.id("b"), 0); got != -1 {
			t.Errorf("committed is %d", got)
		}
		time.Sleep(sweepEvery + time.Minute)
		if _, tombstones := r.records("g", offsetKey("g", partition{"b", 0})); tombstones != 2 {
			t.Errorf("%d tombstones", tombstones)
		}
		r.close()
	})
}

// Groups are of one kind, and may change it while nobody is in them.
func TestKinds(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		m := r.join("g", time.Minute)
		if code := r.commitAs(m, "g", offsets{"a/0": 1}); code != 0 {
			t.Fatal(code)
		}
		if a := r.consume("g", "k", 0); a.ErrorCode != codeGroupIDNotFound || *a.ErrorMessage != "Group g is not a consumer group." {
			t.Errorf("KIP-848 into classic: %+v", a)
		}
		if a := r.share("g", "s", 0); a.ErrorCode != codeGroupIDNotFound {
			t.Errorf("share into classic: %+v", a)
		}
		r.leave("g", m)
		k := r.consume("g", "k", 0)
		if k.ErrorCode != 0 {
			t.Fatalf("KIP-848 into empty: %+v", k)
		}
		r = r.crash(1)
		r.has("g", offsets{"a/0": 1})
		if all := r.listed(nil, []string{"consumer"}); fmt.Sprint(all) != "[g Consumer Stable]" && fmt.Sprint(all) != "[g Consumer Reconciling]" && fmt.Sprint(all) != "[g Consumer Assigning]" {
			t.Errorf("listed: %v", all)
		}
		if a := r.consume("g", "k", k.MemberEpoch); a.ErrorCode != 0 {
			t.Errorf("after a crash: %+v", a)
		}
		connect := r.joinRequest("g", "", time.Minute)
		connect.ProtocolType = "connect"
		if a := r.c.JoinGroup(ctx, r.cl, connect); a.ErrorCode != codeInconsistentGroupProtocol {
			t.Errorf("Connect into KIP-848: %+v", a)
		}
		if d := r.describe(6, "g"); d.ErrorCode != codeGroupIDNotFound || *d.ErrorMessage != "Group g is not a classic group." {
			t.Errorf("described as classic: %+v", d)
		}
		for name, code := range map[string]int16{"heartbeat": r.heartbeat("g", m), "sync": r.sync("g", m).ErrorCode, "leave": r.leave("g", m)} {
			if code != codeUnknownMemberID {
				t.Errorf("%s: %d", name, code)
			}
		}
		q := kmsg.NewPtrConsumerGroupDescribeRequest()
		q.Groups = []string{"g", "nobody"}
		if d := r.c.ConsumerGroupDescribe(ctx, r.cl, q); d.Groups[0].ErrorCode != 0 || len(d.Groups[0].Members) != 1 || d.Groups[1].ErrorCode != codeGroupIDNotFound {
			t.Errorf("described: %+v", d)
		}
		if a := r.consume("g", "k", -1); a.ErrorCode != 0 {
			t.Fatalf("leave: %+v", a)
		}
		m = r.join("g", time.Minute)
		r = r.crash(2)
		if code := r.heartbeat("g", m); code != 0 {
			t.Errorf("classic again, after a crash: %d", code)
		}
		r.has("g", offsets{"a/0": 1})

		if a := r.share("s", "s", 0); a.ErrorCode != 0 {
			t.Fatalf("share: %+v", a)
		}
		for name, code := range map[string]int16{
			"join":    r.c.JoinGroup(ctx, r.cl, r.joinRequest("s", "", time.Minute)).ErrorCode - codeInconsistentGroupProtocol + codeGroupIDNotFound,
			"consume": r.consume("s", "k", 0).ErrorCode, "commit": r.commitAs(nobody, "s", offsets{"a/0": 1}),
		} {
			if code != codeGroupIDNotFound {
				t.Errorf("%s into a share group: %d", name, code)
			}
		}
		if got := r.fetched("s", false, "a/0"); !maps.Equal(got, offsets{"a/0": -1}) {
			t.Errorf("offsets of a share group: %v", got)
		}
		if n := r.c.ShareMembers("s"); n != 1 {
			t.Errorf("%d members", n)
		}
		r = r.crash(3)
		if all := r.listed(nil, []string{"share"}); fmt.Sprint(all) != "[s Share Stable]" {
			t.Errorf("listed: %v", all)
		}
		sq := kmsg.NewPtrShareGroupDescribeRequest()
		sq.GroupIDs = []string{"s", "g"}
		if d := r.c.ShareGroupDescribe(ctx, r.cl, sq); d.Groups[0].ErrorCode != 0 || d.Groups[1].ErrorCode != codeGroupIDNotFound {
			t.Errorf("described: %+v", d)
		}
		if code := r.deleteGroup("s"); code != codeNonEmptyGroup {
			t.Errorf("delete: %d", code)
		}
		if a := r.share("s", "s", -1); a.ErrorCode != 0 {
			t.Errorf("leave: %+v", a)
		}
		if code := r.deleteGroup("s"); code != 0 {
			t.Errorf("delete: %d", code)
		}
		r = r.crash(4)
		if all := r.listed(nil, []string{"share"}); len(all) != 0 {
			t.Errorf("listed: %v", all)
		}
		r.close()
	})
}

// Records of newer versions stay where they are; damaged ones are passed over.
func TestUnknownRecords(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.commit("g", offsets{"a/0": 1})
		newer := []byte{0, 99, 0, 1, 'g'}
		r.append("g", newer, []byte("whatever"))
		r.append("g", []byte{0}, nil)
		r.append("g", []byte{0, 1, 0}, []byte("x"))
		r.append("g", classicKey("g"), []byte{0})
		r = r.crash(1)
		r.has("g", offsets{"a/0": 1})
		if code := r.deleteGroup("g"); code != 0 {
			t.Error(code)
		}
		if values, tombstones := r.records("g", newer); values != 1 || tombstones != 0 {
			t.Errorf("%d values and %d tombstones of a newer version", values, tombstones)
		}
		r.close()
	})
}

// What is acknowledged is on disk, what is not is not seen, and a full disk
// leaves everything as it was.
func TestFullDisk(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.commit("g", offsets{"a/0": 1})
		k := r.consume("k", "m", 0)
		if k.ErrorCode != 0 {
			t.Fatal(k.ErrorCode)
		}
		m := r.join("c", time.Minute)
		full := false
		r.fs.Inject(func(op commitlog.Op, name string) error {
			if full && (op == commitlog.OpPreallocate || op == commitlog.OpCreate) && strings.Contains(name, TopicName) {
				return syscall.ENOSPC
			}
			return nil
		})
		full = true
		failed := map[string]int{}
		var last int64 = 1
		for i := range int64(3000) { // until a segment is full
			if code := r.commitAs(nobody, "g", offsets{"a/0": i + 2, "a/1": i, "a/2": i, "b/0": i, "b/1": i}); code == 0 {
				last = i + 2
			} else if failed["commit"]++; code != codeCoordinatorNotAvailable {
				t.Fatal(code)
			}
			if got := r.fetched("g", false, "a/0")["a/0"]; got != last {
				t.Fatalf("%d is committed, %d was acknowledged", got, last)
			}
			if failed["commit"] > 3 {
				break
			}
		}
		for i := 0; i < 3000 && failed["consume"] < 3; i++ {
			if a := r.consume("k", fmt.Sprint("new", i), 0); a.ErrorCode != 0 {
				failed["consume"]++
			}
		}
		for i := 0; i < 3000 && failed["join"] < 3; i++ {
			a := r.c.JoinGroup(ctx, r.cl, r.joinRequest("c", m.id, time.Minute))
			if m.generation = a.Generation; a.ErrorCode != 0 {
				t.Fatalf("join: %d", a.ErrorCode)
			}
			if s := r.sync("c", m); s.ErrorCode != 0 {
				if failed["join"]++; len(s.MemberAssignment) != 0 || r.heartbeat("c", m) != 27 {
					t.Errorf("an assignment that is not on disk: %+v", s)
				}
			}
		}
		for _, what := range []string{"commit", "consume", "join"} {
			if failed[what] == 0 {
				t.Errorf("no %s has failed", what)
			}
		}
		if code := r.deleteGroup("g"); code != codeCoordinatorNotAvailable {
			t.Errorf("delete: %d", code)
		}
		if got := r.fetched("g", false, "a/0")["a/0"]; got != last {
			t.Errorf("%d is committed, %d was acknowledged", got, last)
		}
		q := kmsg.NewPtrConsumerGroupDescribeRequest()
		q.Groups = []string{"k"}
		before := r.c.ConsumerGroupDescribe(ctx, r.cl, q).Groups[0]

		full = false
		r.commit("g", offsets{"a/3": 5})
		if a := r.consume("k", "late", 0); a.ErrorCode != 0 {
			t.Errorf("consume: %+v", a)
		}
		r.c.JoinGroup(ctx, r.cl, r.joinRequest("c", m.id, time.Minute))
		m.generation++
		if s := r.sync("c", m); s.ErrorCode != 0 {
			t.Errorf("sync: %+v", s)
		}
		for _, restart := range []func(){func() {}, func() { r = r.crash(1) }} {
			restart()
			if got := r.fetched("g", false, "a/0", "a/3"); got["a/0"] != last || got["a/3"] != 5 {
				t.Errorf("%v is committed, %d was acknowledged", got, last)
			}
			after := r.c.ConsumerGroupDescribe(ctx, r.cl, q).Groups[0]
			if len(after.Members) != len(before.Members)+1 {
				t.Errorf("%d members, want %d", len(after.Members), len(before.Members)+1)
			}
			if code := r.heartbeat("c", m); code != 0 {
				t.Errorf("heartbeat: %d", code)
			}
		}
		r.close()
	})
}

// After a failed sync nothing is acknowledged, and what was is there.
func TestFailedSync(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.commit("g", offsets{"a/0": 1})
		time.Sleep(time.Minute)
		r.fs.Inject(func(op commitlog.Op, _ string) error {
			if op == commitlog.OpSync {
				return syscall.EIO
			}
			return nil
		})
		for i := range int64(3) {
			if code := r.commitAs(nobody, "g", offsets{"a/0": 2 + i}); code != codeCoordinatorNotAvailable {
				t.Errorf("commit: %d", code)
			}
		}
		if a := r.consume("k", "m", 0); a.ErrorCode != codeCoordinatorNotAvailable {
			t.Errorf("consume: %+v", a)
		}
		if err := r.c.EndTransaction(ctx, 1, 0, "g", true); err == nil {
			t.Error("a transaction ends")
		}
		r.has("g", offsets{"a/0": 1})
		r.fs.Inject(nil)
		_ = r.c.Close()
		_ = r.store.Close()
	})
}

// Nobody sees a deletion half done, and what comes after it stays.
func TestDeleteAndCommit(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		for round := range int64(50) {
			r.commit("g", offsets{"a/0": 1, "a/1": 1})
			done := make(chan int16)
			go func() { done <- r.deleteGroup("g") }()
			go func() { done <- r.commitAs(nobody, "g", offsets{"a/2": round}) }()
			if a, b := <-done, <-done; a+b != 0 {
				t.Fatal(a, b)
			}
			now := r.fetched("g", false)
			if len(now) != 0 && !maps.Equal(now, offsets{"a/2": round}) {
				t.Fatalf("after delete: %v", now)
			}
			if round%10 == 0 {
				r = r.crash(uint64(round))
				r.has("g", now)
			}
			r.deleteGroup("g")
		}
		r.close()
	})
}

func TestCommitTooLarge(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		defer r.close()
		r.create("wide", 1000)
		q := r.commitRequest(9, "g", nobody, offsets{})
		x := kmsg.NewOffsetCommitRequestTopic()
		x.Topic = "wide"
		text := strings.Repeat("x", 4000)
		for i := range int32(1000) {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Metadata = i, &text
			x.Partitions = append(x.Partitions, p)
		}
		q.Topics = append(q.Topics, x)
		if code := r.c.OffsetCommit(ctx, r.cl, q).Topics[0].Partitions[0].ErrorCode; code != codeInvalidCommitOffsetSize {
			t.Errorf("code %d", code)
		}
		if all := r.listed(nil, nil); len(all) != 0 {
			t.Errorf("listed: %v", all)
		}
	})
}

// A destination's settings must be such that it can be made.
func TestSettings(t *testing.T) {
	s := Settings()
	if s.MaxMessageBytes > s.SegmentBytes || s.CleanupPolicy != destination.CleanupCompact || s.Partitions != 50 {
		t.Errorf("%+v", s)
	}
}

// A session timeout that is set for a group holds from the next heartbeat on.
func TestConfigured(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		defer r.close()
		r.configure("nobody", GroupSettings{ConsumerSession: time.Second}) // it is not there
		r.consume("g", "m", 0)
		r.share("s", "m", 0)
		r.configure("g", GroupSettings{ConsumerSession: 10 * time.Second, ShareSession: time.Second})
		time.Sleep(40 * time.Second)
		a := r.consume("g", "m", 1)
		if a.ErrorCode != 0 {
			t.Fatalf("within the session that it began with: %+v", a)
		}
		if s := r.share("s", "m", 1); s.ErrorCode != 0 {
			t.Fatalf("the setting of another group: %+v", s)
		}
		time.Sleep(9 * time.Second)
		if a = r.consume("g", "m", 1); a.ErrorCode != 0 {
			t.Fatalf("within its session: %+v", a)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		if a = r.consume("g", "m", 1); a.ErrorCode != codeUnknownMemberID {
			t.Errorf("after its session: %+v", a)
		}
		r.configure("s", GroupSettings{ShareSession: 10 * time.Second})
		if s := r.share("s", "m", 1); s.ErrorCode != 0 {
			t.Fatalf("share: %+v", s)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		if s := r.share("s", "m", 1); s.ErrorCode != codeUnknownMemberID {
			t.Errorf("share, after its session: %+v", s)
		}
	})
}
