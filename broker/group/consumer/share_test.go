package consumer

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type shareBench struct {
	t      *testing.T
	now    time.Time
	topics topicMap
	g      *ShareGroup
	log    []Record
}

func (b *shareBench) beat(want, member string, epoch int32, names ...string) {
	b.t.Helper()
	r := kmsg.NewPtrShareGroupHeartbeatRequest()
	r.Version, r.GroupID, r.MemberID, r.MemberEpoch, r.SubscribedTopicNames = 1, "g", member, epoch, names
	result := b.g.Heartbeat(b.now, b.topics, r, Client{ID: "c", Host: "/h"})
	b.log = append(b.log, result.Records...)
	if got := b.told(result); got != want {
		b.t.Errorf("%s at %d is told %q, expected %q", member, epoch, got, want)
	}
}

func (b *shareBench) told(result ShareResult) string {
	r := result.Response
	if r.ErrorCode != 0 {
		if len(result.Records) > 0 || r.ErrorMessage == nil {
			b.t.Errorf("error %d with %d records", r.ErrorCode, len(result.Records))
		}
		return fmt.Sprintf("error %d", r.ErrorCode)
	}
	s := fmt.Sprint(r.MemberEpoch)
	if r.Assignment == nil {
		return s
	}
	for _, t := range r.Assignment.TopicPartitions {
		topic, _ := b.topics.TopicByID(t.TopicID)
		s += fmt.Sprintf(" %s:%v", strings.TrimPrefix(topic.Name, "topic-"), t.Partitions)
	}
	return s
}

func (b *shareBench) restart() {
	b.t.Helper()
	g := NewShare("g", b.g.o)
	for _, r := range b.log {
		if err := g.Replay(r.Key, r.Value); err != nil {
			b.t.Fatal(err)
		}
	}
	g.Start(b.now)
	for id, m := range b.g.members {
		o := g.members[id]
		if o == nil || !o.memberValue.equal(m.memberValue) || !slices.Equal(o.target, m.target) ||
			o.epoch != m.epoch || o.previousEpoch != m.previousEpoch || !samePartitions(o.assigned, m.assigned) {
			b.t.Errorf("%s is replayed as %+v, was %+v", id, o, m)
		}
	}
	if g.epoch != b.g.epoch || g.targetEpoch != b.g.targetEpoch || g.hash != b.g.hash || len(g.members) != len(b.g.members) ||
		!reflect.DeepEqual(g.Initialized(), b.g.Initialized()) {
		b.t.Errorf("replayed %+v, was %+v", g, b.g)
	}
	b.g = g
}

func newShareBench(t *testing.T, o Options, topics ...Topic) *shareBench {
	b := &shareBench{t: t, now: time.Unix(1_700_000_000, 0), topics: topicMap{}, g: NewShare("g", o)}
	for _, topic := range topics {
		b.topics[topic.Name] = topic
	}
	return b
}

func TestShareGroup(t *testing.T) {
	b := newShareBench(t, Options{MaxSize: 4}, topicB)
	b.beat("error 42", "", 0, "topic-b")
	b.beat("error 42", "m1", 0)
	b.beat("error 42", "m1", -2)
	b.beat("error 25", "m1", -1)
	b.beat("error 25", "m1", 1)
	if !b.g.Pristine() || b.g.State() != "Empty" {
		t.Error("refusals leave something behind")
	}
	b.beat("1 b:[0 1]", "m1", 0, "topic-b")
	b.beat("1", "m1", 1)
	b.beat("1 b:[0 1]", "m1", 1, "topic-b") // a full request
	b.beat("2 b:[1]", "m2", 0, "topic-b")   // at once: who had it may go on
	b.beat("2 b:[0]", "m1", 1)              //
	b.restart()                             //
	b.beat("2", "m1", 1)                    // the answer was lost
	b.beat("error 110", "m1", 3)            //
	b.beat("3 b:[0]", "m3", 0, "topic-b")   // more members than partitions
	b.beat("4 b:[1]", "m4", 0, "topic-b")   //
	b.beat("error 81", "m5", 0, "topic-b")  //
	b.beat("4", "m1", 2)                    //
	b.beat("error 110", "m1", 1)            //
	b.beat("4 b:[0]", "m1", 0, "topic-b")   // it lost its state
	if want := of(topicB, 0, 1); !slices.Equal(b.g.Initialized(), want) || b.g.State() != "Stable" {
		t.Errorf("%v, %s", b.g.Initialized(), b.g.State())
	}

	b.topics["topic-b"] = topicOf(1, 3)
	b.g.Changed()
	b.beat("5", "m1", 4)
	b.restart()
	b.topics["topic-a"] = topicA
	b.beat("6 a:[0 1 2 3]", "m1", 5, "topic-a")
	if want := slices.Concat(of(topicA, 0, 1, 2, 3), of(topicB, 0, 1, 2)); !slices.Equal(b.g.Initialized(), want) {
		t.Errorf("%v", b.g.Initialized())
	}
	b.restart()
	b.log = append(b.log, b.g.Forget(topicA.ID)...)
	b.restart()
	if want := of(topicB, 0, 1, 2); !slices.Equal(b.g.Initialized(), want) {
		t.Errorf("%v", b.g.Initialized())
	}
	if records := b.g.Forget(topicA.ID); len(records) > 0 {
		t.Errorf("%d records to forget nothing", len(records))
	}
	delete(b.topics, "topic-b")
	b.g.Changed()
	b.beat("7", "m1", 6)
	if want := of(topicA, 0, 1, 2, 3); !slices.Equal(b.g.Initialized(), want) {
		t.Errorf("%v", b.g.Initialized())
	}

	b.beat("-1", "m1", -1)
	b.restart()
	if b.g.Size() != 3 || b.g.Subscribed("topic-a") || !b.g.Subscribed("topic-b") {
		t.Errorf("%d members", b.g.Size())
	}
	b.now = b.now.Add(44 * time.Second)
	if r := b.g.Expire(b.now); len(r.Records) > 0 || !r.Deadline.Equal(b.now.Add(time.Second)) {
		t.Errorf("too early: %+v", r)
	}
	b.now = b.now.Add(time.Second)
	r := b.g.Expire(b.now)
	b.log = append(b.log, r.Records...)
	if b.g.State() != "Empty" || !r.Deadline.IsZero() {
		t.Errorf("%s, %+v", b.g.State(), r)
	}
	b.restart()
	b.log = append(b.log, b.g.Delete()...)
	if b.g.State() != "Dead" {
		t.Error(b.g.State())
	}
	b.restart()
	if !b.g.Pristine() {
		t.Error("something is left of the group")
	}
}

func TestShareGroupDescribe(t *testing.T) {
	b := newShareBench(t, Options{}, topicB)
	b.beat("1 b:[0 1]", "m1", 0, "topic-z", "topic-b")
	d := b.g.Describe(b.topics)
	want := kmsg.NewShareGroupDescribeResponseGroup()
	want.GroupID, want.GroupState, want.GroupEpoch, want.AssignmentEpoch, want.Assignor = "g", "Stable", 1, 1, "simple"
	want.Members = []kmsg.ShareGroupDescribeResponseGroupMember{{
		MemberID: "m1", MemberEpoch: 1, ClientID: "c", ClientHost: "/h", SubscribedTopicNames: []string{"topic-b", "topic-z"},
		Assignment: kmsg.ShareGroupDescribeResponseGroupMemberAssignment{
			TopicPartitions: []kmsg.ShareGroupDescribeResponseGroupMemberAssignmentTopicPartition{
				{TopicID: topicB.ID, Topic: "topic-b", Partitions: []int32{0, 1}},
			},
		},
	}}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("%+v", d)
	}
}

// TestShareGroupConverges: members come, go and subscribe, brokers restart with
// torn writes; two heartbeats after the last change everyone has its target.
func TestShareGroupConverges(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 4))
		b := newShareBench(t, Options{}, topicA, topicB)
		epochs := map[string]int32{}
		names := func() []string { return [][]string{{"topic-a"}, {"topic-b"}, {"topic-a", "topic-b"}}[random.IntN(3)] }
		send := func(id string, epoch int32, names []string, torn bool) {
			r := kmsg.NewPtrShareGroupHeartbeatRequest()
			r.Version, r.GroupID, r.MemberID, r.MemberEpoch, r.SubscribedTopicNames = 1, "g", id, epoch, names
			result := b.g.Heartbeat(b.now, b.topics, r, Client{})
			if n := len(result.Records); torn && n > 0 {
				b.log = append(b.log, result.Records[:random.IntN(n+1)]...)
				b.g = NewShare("g", Options{})
				for _, r := range b.log {
					if err := b.g.Replay(r.Key, r.Value); err != nil {
						t.Fatal(err)
					}
				}
				b.g.Start(b.now)
				return
			}
			b.log = append(b.log, result.Records...)
			switch result.Response.ErrorCode {
			case 0:
				epochs[id] = result.Response.MemberEpoch
			case unknownMemberID, fencedMemberEpoch:
				epochs[id] = 0
			default:
				t.Fatalf("seed %d: %+v", seed, result.Response)
			}
		}
		for range 60 {
			id := fmt.Sprintf("m%d", random.IntN(6))
			switch epoch := epochs[id]; {
			case epoch == 0 || random.IntN(5) == 0:
				send(id, epoch, names(), random.IntN(6) == 0)
			case random.IntN(8) == 0:
				send(id, -1, nil, false)
				delete(epochs, id)
			case random.IntN(6) == 0:
				b.restart()
			default:
				send(id, epoch, nil, random.IntN(6) == 0)
			}
		}
		for id := range b.g.members { // those of whom nobody knows any more
			if _, ok := epochs[id]; !ok {
				send(id, 0, names(), false)
			}
		}
		for range 3 {
			for id, epoch := range epochs {
				if epoch == 0 {
					send(id, 0, names(), false)
				} else {
					send(id, epoch, nil, false)
				}
			}
		}
		var members []subscriber
		var targets [][]Partition
		for _, m := range b.g.sorted() {
			members = append(members, subscriber{id: m.id, topics: b.g.topicsOf(m, b.topics)})
			targets = append(targets, m.target)
			if !slices.Equal(sorted(m.assigned), m.target) || m.epoch != b.g.epoch || epochs[m.id] != m.epoch {
				t.Fatalf("seed %d: %s is at %+v, and should be at %d with %v", seed, m.id, m.currentValue, b.g.epoch, m.target)
			}
		}
		checkTargets(t, members, targets, false)
		b.restart()
	}
}
