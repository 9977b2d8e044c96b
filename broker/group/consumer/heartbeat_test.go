package consumer

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// bench drives one group, step by step.
type bench struct {
	t      *testing.T
	now    time.Time
	topics topicMap
	g      *Group
	log    []Record
}

func newBench(t *testing.T, o Options, topics ...Topic) *bench {
	b := &bench{t: t, now: time.Unix(1_700_000_000, 0), topics: topicMap{}, g: New("g", o)}
	for _, topic := range topics {
		b.topics[topic.Name] = topic
	}
	return b
}

type option func(*kmsg.ConsumerGroupHeartbeatRequest)

func instance(id string) option {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = &id }
}

func to(names ...string) option {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = append([]string{}, names...) }
}

func matchingRegex(s string) option {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicRegex = &s }
}

func by(assignor string) option {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.ServerAssignor = &assignor }
}

// owning says which partitions are owned, as in "topic-a:0,1".
func owning(partitions ...Partition) option {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for _, t := range byTopic(partitions) {
			r.Topics = append(r.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.id, Partitions: t.partitions})
		}
	}
}

func (b *bench) request(member string, epoch int32, all ...option) *kmsg.ConsumerGroupHeartbeatRequest {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.MemberEpoch = 1, "g", member, epoch
	if epoch == epochJoin {
		r.RebalanceTimeoutMillis = 60_000
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	for _, o := range all {
		o(r)
	}
	return r
}

func (b *bench) send(r *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	result := b.g.Heartbeat(b.now, b.topics, r, Client{ID: "c", Host: "/h"})
	b.log = append(b.log, result.Records...)
	if result.Response.ErrorCode != 0 && len(result.Records) > 0 {
		b.t.Errorf("refused with %d, and yet %d records", result.Response.ErrorCode, len(result.Records))
	}
	return result.Response
}

// beat is a heartbeat and what its answer has to be: an epoch and, unless it
// is to have none, an assignment, as in "5 a:0,1 b:0"; or "error 110".
func (b *bench) beat(want, member string, epoch int32, all ...option) {
	b.t.Helper()
	if got := b.told(b.send(b.request(member, epoch, all...))); got != want {
		b.t.Errorf("%s at %d is told %q, expected %q", member, epoch, got, want)
	}
}

func (b *bench) told(r *kmsg.ConsumerGroupHeartbeatResponse) string {
	if r.ErrorCode != 0 {
		if r.ErrorMessage == nil {
			b.t.Errorf("error %d has no message", r.ErrorCode)
		}
		return fmt.Sprintf("error %d", r.ErrorCode)
	}
	s := fmt.Sprint(r.MemberEpoch)
	if r.Assignment == nil {
		return s
	}
	if len(r.Assignment.Topics) == 0 {
		return s + " nothing"
	}
	for _, t := range r.Assignment.Topics {
		topic, _ := b.topics.TopicByID(t.TopicID)
		s += fmt.Sprintf(" %s:%s", strings.TrimPrefix(topic.Name, "topic-"), strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Partitions), " ", ","), "[]"))
	}
	return s
}

func (b *bench) expire(after time.Duration, want bool) {
	b.t.Helper()
	b.now = b.now.Add(after)
	result := b.g.Expire(b.now)
	b.log = append(b.log, result.Records...)
	if got := len(result.Records) > 0; got != want {
		b.t.Errorf("members expired: %t", got)
	}
}

func (b *bench) state(want string) {
	b.t.Helper()
	if got := fmt.Sprintf("%s %d/%d", b.g.State(), b.g.epoch, b.g.targetEpoch); got != want {
		b.t.Errorf("the group is %s, expected %s", got, want)
	}
}

func (b *bench) restart() {
	b.t.Helper()
	b.g = New("g", b.g.o)
	for _, r := range b.log {
		if err := b.g.Replay(r.Key, r.Value); err != nil {
			b.t.Fatal(err)
		}
	}
	b.g.Start(b.now)
}

func of(t Topic, all ...int32) (ps []Partition) {
	for _, i := range all {
		ps = append(ps, Partition{t.ID, i})
	}
	return ps
}

var topicA, topicB = topicOf(0, 4), topicOf(1, 2)

// The example of KIP-848: who joins waits for what others give up.
func TestRevokeBeforeAssign(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"))
	b.state("Stable 1/1")
	b.beat("1", "m1", 1, owning(of(topicA, 0, 1, 2, 3)...))
	b.beat("2 nothing", "m2", 0, to("topic-a"))
	b.state("Reconciling 2/2")
	if r := b.send(b.request("m2", 2)); r.HeartbeatIntervalMillis != 600 || r.Assignment != nil {
		t.Errorf("who waits is told %+v", r)
	}
	b.beat("1 a:0,1", "m1", 1)
	b.restart()
	b.beat("1", "m1", 1)                                 // still busy
	b.beat("1", "m1", 1, owning(of(topicA, 0, 1, 2)...)) // not all yet
	b.beat("2", "m2", 2)                                 // so nobody gets the other one either
	b.beat("2", "m1", 1, owning(of(topicA, 0, 1)...))    // done: its epoch is the target's
	b.beat("2 a:2,3", "m2", 2)                           //
	b.state("Stable 2/2")                                //
	if r := b.send(b.request("m2", 2)); r.HeartbeatIntervalMillis != 3000 {
		t.Errorf("who waits for nothing is told %+v", r)
	}
	for id, want := range map[string]int32{"m1": 1, "m2": 2} {
		for p, epoch := range b.g.members[id].assigned {
			if epoch != want {
				t.Errorf("%v was assigned to %s at %d", p, id, epoch)
			}
		}
	}
}

func TestRebalanceTimeoutFences(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"))
	b.beat("2 nothing", "m2", 0, to("topic-a"))
	b.beat("1 a:0,1", "m1", 1)
	for range 5 { // it lives, but does not give anything up
		b.expire(10*time.Second, false)
		b.beat("1", "m1", 1)
		b.beat("2", "m2", 2)
	}
	if want := b.now.Add(10 * time.Second); !b.g.Deadline().Equal(want) && b.g.Deadline().After(want) {
		t.Errorf("the deadline is %v", b.g.Deadline())
	}
	b.expire(10*time.Second, true)
	b.state("Assigning 3/2")
	b.beat("error 25", "m1", 1, owning(of(topicA, 0, 1, 2, 3)...))
	b.beat("3 a:0,1,2,3", "m2", 2)
	b.beat("4 nothing", "m1", 0, to("topic-a"))
}

func TestSessionTimeoutFences(t *testing.T) {
	b := newBench(t, Options{SessionTimeout: 10 * time.Second}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"))
	b.expire(9*time.Second, false)
	b.beat("1", "m1", 1)
	b.expire(9*time.Second, false)
	b.restart() // which begins a whole session
	b.expire(9*time.Second, false)
	b.expire(time.Second, true)
	b.state("Empty 2/1")
	if !b.g.Deadline().IsZero() {
		t.Errorf("nobody has a deadline at %v", b.g.Deadline())
	}
	b.beat("error 25", "m1", 1)
}

// A member whose answer was lost comes again with the epoch before.
func TestLostAnswers(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"))
	b.beat("2 nothing", "m2", 0, to("topic-a"))
	b.beat("1 a:0,1", "m1", 1, owning(of(topicA, 0, 1, 2, 3)...))
	b.beat("2", "m1", 1, owning(of(topicA, 0, 1)...)) // lost
	b.beat("2", "m1", 1, owning(of(topicA, 0, 1)...))
	full := func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = 60_000 }
	b.beat("2 a:0,1", "m1", 1, full, to("topic-a"), owning(of(topicA, 0)...))
	b.beat("error 110", "m1", 1)                                 // it does not say what it owns
	b.beat("error 110", "m1", 1, owning(of(topicA, 0, 1, 2)...)) // it owns what it must not
	b.beat("error 110", "m1", 3, owning(of(topicA, 0)...))       // from the future
	b.beat("2 a:2,3", "m2", 2)                                   // lost
	b.beat("2", "m2", 2)
	b.beat("2 a:2,3", "m2", 2, full, to("topic-a"), owning())
	b.beat("2 a:0,1", "m1", 0, to("topic-a")) // fenced, it rejoins, and nothing changes for others
	b.state("Stable 2/2")
	// From when it is told to give something up, the epoch before is no more.
	b.beat("3 nothing", "m3", 0, to("topic-a"))
	b.beat("2 a:0", "m1", 2)
	b.beat("error 110", "m1", 1, owning(of(topicA, 0)...))
	// Who waits may lose many answers.
	b.beat("3", "m3", 3)
	b.beat("error 110", "m3", 2, owning())
	b.beat("4 nothing", "m4", 0, to("topic-a"))
	b.beat("4", "m3", 3, owning())
	b.beat("4", "m3", 3, owning())
	b.beat("4", "m3", 3, owning())
}

func TestLeaving(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"))
	b.beat("2 nothing", "m2", 0, to("topic-a"))
	b.beat("-1", "m1", -1)
	b.state("Assigning 3/2")
	b.beat("error 25", "m1", -1)
	b.beat("error 25", "m1", 2)
	b.beat("3 a:0,1,2,3", "m2", 2)
	b.beat("-1", "m2", -1)
	b.state("Empty 4/3")
	b.restart()
	b.state("Empty 4/3")
	if b.g.Pristine() || b.g.Size() != 0 {
		t.Error("its epochs are forgotten")
	}
	b.log = append(b.log, b.g.Delete()...)
	b.state("Dead 0/0")
	b.restart()
	if !b.g.Pristine() {
		t.Error("something of the group is left")
	}
}

func TestStaticMembers(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"), instance("i1"))
	b.beat("2 nothing", "m2", 0, to("topic-a"), instance("i2"))
	b.beat("1 a:0,1", "m1", 1, instance("i1"))
	b.beat("error 111", "m3", 0, to("topic-a"), instance("i1"))       // it is in use
	b.beat("2 a:0,1", "m1", 0, to("topic-a"), instance("i1"))         // by the same: it has lost its state
	b.beat("2 a:2,3", "m2", 2, instance("i2"))                        //
	b.beat("error 82", "m3", 2, instance("i1"))                       // another took its place
	b.beat("error 25", "m1", 2, instance("i3"))                       // unknown
	b.beat("error 82", "m3", -2, instance("i1"))                      //
	b.beat("error 25", "m1", -1, instance("i3"))                      //
	b.beat("-2", "m1", -2, instance("i1"))                            // back soon
	b.state("Reconciling 2/2")                                        // but nothing moves
	b.beat("error 110", "m1", 2, instance("i1"))                      // it has left
	b.restart()                                                       //
	b.beat("2", "m2", 2, owning(of(topicA, 2, 3)...), instance("i2")) //
	b.beat("2 a:0,1", "m1b", 0, to("topic-a"), instance("i1"))        // under a new id
	b.state("Stable 2/2")                                             // without a rebalance
	b.beat("error 82", "m1", 2, instance("i1"))                       // the old one is no more
	b.beat("error 25", "m1", 2)                                       //
	b.beat("-2", "m1b", -2, instance("i1"))                           //
	b.beat("2 a:0,1", "m1b", 0, to("topic-a"), instance("i1"))        // under the same id
	b.beat("-2", "m1b", -2, instance("i1"))                           //
	b.expire(44*time.Second, false)                                   //
	b.beat("2", "m2", 2, instance("i2"))                              //
	b.expire(time.Second, true)                                       // too late
	b.beat("3 a:0,1,2,3", "m2", 2, instance("i2"))                    //
	b.beat("4 nothing", "m1c", 0, to("topic-a"), instance("i1"))      //
	b.beat("-1", "m1c", -1, instance("i1"))                           // for good
	b.beat("5", "m2", 3, instance("i2"))                              // what it has
}

// A static member that leaves while it gives something up has given it up.
func TestStaticMemberLeavesWhileRevoking(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"), instance("i1"))
	b.beat("2 nothing", "m2", 0, to("topic-a"))
	b.beat("1 a:0,1", "m1", 1, instance("i1"))
	b.expire(30*time.Second, false)
	b.beat("1", "m1", 1, instance("i1"))
	b.beat("2", "m2", 2)
	b.beat("-2", "m1", -2, instance("i1"))
	b.beat("2 a:2,3", "m2", 2)
	b.expire(40*time.Second, false) // its time to revoke is over, its session not
	b.beat("2 a:0,1", "m1b", 0, to("topic-a"), instance("i1"))
	b.state("Stable 2/2")
}

// A dynamic member may take the place of a static one: what it had on its own
// goes to others.
func TestMemberTakesStaticPlace(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"), instance("i1"))
	b.beat("2 nothing", "m2", 0, to("topic-a"))
	b.beat("2 a:0,1", "m1", 1, owning(of(topicA, 0, 1)...), instance("i1"))
	b.beat("2 a:2,3", "m2", 2)
	b.beat("-2", "m1", -2, instance("i1"))
	b.beat("3 a:0,1,2,3", "m2", 0, to("topic-a"), instance("i1"))
	b.state("Stable 3/3")
}

func TestRefusals(t *testing.T) {
	b := newBench(t, Options{MaxSize: 2}, topicA)
	null := func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Topics = nil }
	noTimeout := func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = -1 }
	rack := func(s string) option { return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RackID = &s } }
	noGroup := func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Group = "" }
	many := func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.SubscribedTopicNames = make([]string, maxSubscriptions+1)
	}
	b.beat("error 42", "", 0, to("topic-a"))
	b.beat("error 42", strings.Repeat("m", maxIDBytes+1), 0, to("topic-a"))
	b.beat("error 42", "m", 0, to("topic-a"), noGroup)
	b.beat("error 42", "m", 0, to("topic-a"), instance(""))
	b.beat("error 42", "m", 0, to("topic-a"), rack(""))
	b.beat("error 42", "m", 0, to("topic-a"), noTimeout)
	b.beat("error 42", "m", 0, to("topic-a"), null)
	b.beat("error 42", "m", 0, to("topic-a"), owning(of(topicA, 0)...))
	b.beat("error 42", "m", 0)
	b.beat("error 42", "m", 0, many)
	b.beat("error 42", "m", -2)
	b.beat("error 42", "m", -3)
	b.beat("error 112", "m", 0, to("topic-a"), by("cooperative-sticky"))
	b.beat("error 25", "m", 1)
	b.beat("error 25", "m", -1)
	b.beat("error 128", "m", 0, matchingRegex("to(pic"))
	b.beat("error 128", "m", 0, matchingRegex(strings.Repeat("x", maxRegexBytes+1)))
	if !b.g.Pristine() || len(b.log) > 0 {
		t.Error("refusals leave something behind")
	}
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"), instance("i1"))
	b.beat("2 nothing", "m2", 0, to("topic-a"))
	b.beat("error 81", "m3", 0, to("topic-a"))
	b.beat("error 128", "m1", 1, matchingRegex("a)(b"), instance("i1"))
	b.beat("-2", "m1", -2, instance("i1"))
	b.beat("2 a:0,1", "m3", 0, to("topic-a"), instance("i1")) // it is one of two
}

// Version 0 lets the coordinator make the ids of members.
func TestCoordinatorMakesID(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	r := b.request("", 0, to("topic-a"))
	r.Version = 0
	answer := b.send(r)
	if answer.ErrorCode != 0 || answer.MemberID == nil || len(*answer.MemberID) != 22 || answer.Version != 0 {
		t.Fatalf("%+v", answer)
	}
	b.beat("1", *answer.MemberID, 1)
	r = b.request("", 1)
	r.Version = 0
	if answer := b.send(r); answer.ErrorCode != invalidRequest {
		t.Errorf("%+v", answer)
	}
}

func TestSubscriptions(t *testing.T) {
	b := newBench(t, Options{}, topicA, topicB)
	b.beat("1 nothing", "m1", 0, to())
	b.beat("2 b:0,1", "m1", 1, to("topic-z", "topic-b", "topic-b"), owning())
	full := func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = 5 }
	b.beat("2 b:0,1", "m1", 2, to("topic-b", "topic-z"), full, owning())
	b.beat("2", "m1", 2, owning(of(topicB, 0, 1)...))
	if b.g.Subscribed("topic-a") || !b.g.Subscribed("topic-b") {
		t.Error("who subscribes to what?")
	}
	// It gives up the one topic before it gets the other.
	b.beat("2 nothing", "m1", 2, to("topic-a"))
	b.beat("3 a:0,1,2,3", "m1", 2, owning())
	b.beat("4 a:0,1,2,3 b:0,1", "m1", 3, to("topic-a", "topic-b"))
	b.state("Stable 4/4")
}

// A member changes its mind while it is still giving partitions up.
func TestUnsubscribeWhileRevoking(t *testing.T) {
	b := newBench(t, Options{}, topicA, topicB)
	all := append(of(topicA, 0, 1, 2, 3), of(topicB, 0, 1)...)
	b.beat("1 a:0,1,2,3 b:0,1", "m1", 0, to("topic-a", "topic-b"))
	b.beat("2 nothing", "m2", 0, to("topic-a", "topic-b"))
	b.beat("1 a:0 b:0,1", "m1", 1, owning(all...))
	b.expire(30*time.Second, false)
	b.beat("2", "m2", 2)
	b.beat("1 b:0,1", "m1", 1, to("topic-b"))
	b.expire(40*time.Second, false) // it has time from then on
	b.restart()
	b.beat("3", "m2", 2, owning())
	b.beat("1", "m1", 1, owning(of(topicA, 0)...))
	b.beat("3", "m1", 1, owning(of(topicB, 0, 1)...))
	b.beat("3 a:0,1,2,3", "m2", 3)
	b.beat("3", "m1", 3)
	b.state("Stable 3/3")
}

func TestRegex(t *testing.T) {
	b := newBench(t, Options{}, topicA, topicB)
	b.beat("1 a:0,1,2,3 b:0,1", "m1", 0, matchingRegex("topic-.*"))
	b.restart()
	b.beat("1", "m1", 1)
	// Names match as a whole.
	b.topics["x-topic-c"] = Topic{Name: "x-topic-c", ID: [16]byte{9}, Partitions: 1}
	b.topics["topic-c"] = Topic{Name: "topic-c", ID: [16]byte{8}, Partitions: 1}
	b.beat("1", "m1", 1) // not looked at yet
	b.g.Changed()
	b.beat("2 a:0,1,2,3 b:0,1 c:0", "m1", 1)
	delete(b.topics, "topic-a")
	b.g.Changed()
	b.beat("2 b:0,1 c:0", "m1", 2)
	b.beat("3", "m1", 2, owning(Partition{topicB.ID, 0}, Partition{topicB.ID, 1}, Partition{[16]byte{8}, 0}))
	// Another with the same, and one alternative of which is shorter.
	b.beat("4 nothing", "m2", 0, matchingRegex("topic|topic-b|topic-c"))
	b.beat("3 b:0 c:0", "m1", 3)
	b.beat("4", "m1", 3, owning(Partition{topicB.ID, 0}, Partition{[16]byte{8}, 0}))
	b.beat("4 b:1", "m2", 4)
	if !b.g.Subscribed("topic-c") || b.g.Subscribed("x-topic-c") {
		t.Error("who subscribes to what?")
	}
	b.beat("5 nothing", "m2", 4, matchingRegex(""), owning())
	if len(b.g.regexes) != 1 {
		t.Errorf("%d regular expressions", len(b.g.regexes))
	}
	b.beat("6 b:1", "m3", 0, matchingRegex("topic-.*")) // m1 has not come for it
	b.beat("-1", "m3", -1)
	b.beat("-1", "m1", -1)
	if len(b.g.regexes) != 0 || b.g.Subscribed("topic-b") {
		t.Error("nobody subscribes any more")
	}
	// Two subscribe to the same topics in ways that hide a change of one.
	b.beat("9 b:0,1 c:0", "m4", 0, matchingRegex("topic-[b-d]"), to("topic-b"))
	b.beat("10 nothing", "m5", 0, to("topic-d"))
	b.topics["topic-d"] = Topic{Name: "topic-d", ID: [16]byte{7}, Partitions: 4}
	b.g.Changed()
	b.beat("11 d:0,1,2", "m5", 10)
}

// A regular expression comes to match a topic that others name: what the group
// subscribes to is the same as before, and yet its target is not.
func TestRegexMatchesNamedTopic(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"))
	b.beat("2 nothing", "m2", 0, matchingRegex("topic-a"))
	b.beat("1 a:0,1", "m1", 1)
	// As a log has it that was written before topic-a was there.
	b.log = append(b.log, newRecord(key{typeRegex, "g", "topic-a"}, regexValue{version: 1}))
	b.restart()
	b.beat("3", "m2", 2)
	if !slices.Equal(b.g.regexes["topic-a"].topics, []string{"topic-a"}) {
		t.Errorf("it stands for %v", b.g.regexes["topic-a"].topics)
	}
}

// What a torn write may leave of regular expressions is mended.
func TestRegexMended(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, matchingRegex("topic-a"))
	b.log = append(b.log, newRecord(key{typeRegex, "g", "topic-a"}, nil), newRecord(key{typeRegex, "g", "nobody"}, regexValue{version: 1}))
	b.restart()
	b.beat("2", "m1", 1)
	if got := slices.Collect(maps.Keys(b.g.regexes)); !slices.Equal(got, []string{"topic-a"}) {
		t.Errorf("%v", got)
	}
	b.restart()
	if got := slices.Collect(maps.Keys(b.g.regexes)); !slices.Equal(got, []string{"topic-a"}) {
		t.Errorf("%v, as recorded", got)
	}
}

func TestTopicsChange(t *testing.T) {
	b := newBench(t, Options{RefreshInterval: 10 * time.Second}, topicA)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a", "topic-b"))
	b.topics["topic-a"] = topicOf(0, 5)
	b.beat("1", "m1", 1)
	b.now = b.now.Add(10 * time.Second) // it looks by itself
	b.beat("2 a:0,1,2,3,4", "m1", 1)
	b.topics["topic-b"] = topicB
	b.g.Changed()
	b.beat("3 a:0,1,2,3,4 b:0,1", "m1", 2)
	again := topicA
	again.ID = [16]byte{42}
	b.topics["topic-a"] = again // deleted, and made anew
	b.g.Changed()
	b.beat("3 b:0,1", "m1", 3)
	b.beat("4 b:0,1 a:0,1,2,3", "m1", 3, owning(of(topicB, 0, 1)...))
	b.g.Changed()
	b.beat("4", "m1", 4)
}

// Who leaves may take the last subscription to a topic along: that is noticed
// with the same change, not later.
func TestLastSubscriberLeaves(t *testing.T) {
	b := newBench(t, Options{RefreshInterval: time.Second, SessionTimeout: time.Hour}, topicA, topicB)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"))
	b.beat("2 b:0,1", "m2", 0, to("topic-b"))
	b.beat("2", "m1", 1)
	b.beat("-1", "m2", -1)
	b.beat("4", "m1", 2)
	for range 3 {
		b.now = b.now.Add(time.Second)
		b.beat("4", "m1", 4)
	}
}

func TestServerAssignor(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	if got := b.g.Describe(b.topics).AssignorName; got != "uniform" {
		t.Errorf("the default is %s", got)
	}
	b.beat("1 a:0,1,2,3", "m2", 0, to("topic-a"))
	b.beat("2 nothing", "m1", 0, to("topic-a"))
	b.beat("2 a:0,1", "m2", 1, owning(of(topicA, 0, 1)...))
	b.beat("2 a:2,3", "m1", 2)
	b.beat("3 nothing", "m1", 2, by("range"), owning()) // who is first has the first ones
	b.state("Reconciling 3/3")
	b.beat("3", "m1", 3, by("range"))
	b.beat("4", "m1", 3, by("uniform")) // what m1 is to have stays
}

func TestCheckCommitAndFetch(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	id, admin := "m1", Commit{Epoch: -1, Version: 9}
	commit := func(want int16, c Commit, all ...int32) {
		t.Helper()
		if got := b.g.CheckCommit(c, of(topicA, all...)); got != want {
			t.Errorf("%+v of %v: %d, expected %d", c, all, got, want)
		}
	}
	commit(0, admin, 0)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"))
	commit(unknownMemberID, admin, 0)
	commit(0, Commit{Epoch: -1, Transactional: true}, 0)
	commit(unknownMemberID, Commit{MemberID: "m9", Epoch: -1, Transactional: true}, 0)
	commit(unknownMemberID, Commit{InstanceID: &id, Epoch: -1, Transactional: true}, 0)
	commit(0, Commit{MemberID: id, Epoch: 1, Version: 9}, 0)
	commit(unsupportedVersion, Commit{MemberID: id, Epoch: 1, Version: 8}, 0)
	commit(0, Commit{MemberID: id, Epoch: 1, Version: 3, Transactional: true}, 0)
	commit(staleMemberEpoch, Commit{MemberID: id, Epoch: 2, Version: 9}, 0)

	b.beat("2 nothing", "m2", 0, to("topic-a"))
	b.beat("1 a:0,1", "m1", 1)
	commit(0, Commit{MemberID: id, Epoch: 1, Version: 9}, 0, 1, 2, 3) // it gives up in order
	b.beat("2", "m1", 1, owning(of(topicA, 0, 1)...))
	commit(0, Commit{MemberID: id, Epoch: 1, Version: 9}, 0, 1) // it may not know of epoch 2
	commit(staleMemberEpoch, Commit{MemberID: id, Epoch: 1, Version: 9}, 0, 2)
	commit(staleMemberEpoch, Commit{MemberID: id, Epoch: 0, Version: 9}, 0)
	commit(0, Commit{MemberID: id, Epoch: 2, Version: 10}, 0)

	for _, c := range []struct {
		id    *string
		epoch int32
		want  int16
	}{
		{nil, -1, 0},
		{nil, 2, unknownMemberID},
		{nullable("m9"), -1, unknownMemberID},
		{&id, 2, 0},
		{&id, 1, staleMemberEpoch},
	} {
		if got := b.g.CheckFetch(c.id, c.epoch); got != c.want {
			t.Errorf("fetch at %d: %d, expected %d", c.epoch, got, c.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	b := newBench(t, Options{}, topicA, topicB)
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"), instance("i1"), matchingRegex("topic-b|x"), func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.RackID = nullable("r")
		delete(b.topics, "topic-b")
	})
	b.beat("2 nothing", "m2", 0, to("topic-a"))
	d := b.g.Describe(b.topics)
	if d.Group != "g" || d.State != "Reconciling" || d.Epoch != 2 || d.AssignmentEpoch != 2 || d.AssignorName != "uniform" || len(d.Members) != 2 {
		t.Errorf("%+v", d)
	}
	part := func(all ...int32) []kmsg.AssignmentTopicPartition {
		return []kmsg.AssignmentTopicPartition{{TopicID: topicA.ID, Topic: "topic-a", Partitions: all}}
	}
	want := kmsg.ConsumerGroupDescribeResponseGroupMember{
		MemberID: "m1", InstanceID: nullable("i1"), RackID: nullable("r"), MemberEpoch: 1, ClientID: "c", ClientHost: "/h",
		SubscribedTopics: []string{"topic-a"}, SubscribedTopicRegex: nullable("topic-b|x"), MemberType: 1,
		Assignment:       kmsg.Assignment{TopicPartitions: part(0, 1, 2, 3)},
		TargetAssignment: kmsg.Assignment{TopicPartitions: part(0, 1)},
	}
	if !reflect.DeepEqual(d.Members[0], want) {
		t.Errorf("%+v", d.Members[0])
	}
	if m := d.Members[1]; m.InstanceID != nil || m.RackID != nil || m.SubscribedTopicRegex != nil || len(m.Assignment.TopicPartitions) != 0 {
		t.Errorf("%+v", m)
	}
	delete(b.topics, "topic-a")
	if d := b.g.Describe(b.topics); len(d.Members[0].Assignment.TopicPartitions) != 0 {
		t.Errorf("a deleted topic is described: %+v", d)
	}
}

// In a compacted log a partition's new owner may stand before the record by
// which the old one gave it up.
func TestReplayOutOfOrder(t *testing.T) {
	b := newBench(t, Options{}, topicA)
	current := func(member string, all ...int32) Record {
		v := currentValue{epoch: 3, previousEpoch: 2, assigned: map[Partition]int32{}}
		for _, p := range of(topicA, all...) {
			v.assigned[p] = 3
		}
		return newRecord(key{typeCurrent, "g", member}, v)
	}
	b.log = []Record{current("m1", 0, 1), current("m2", 1, 2), current("m1", 0), newRecord(key{typeMember, "g", "m3"}, nil)}
	b.restart()
	want := map[Partition]string{{topicA.ID, 0}: "m1", {topicA.ID, 1}: "m2", {topicA.ID, 2}: "m2"}
	if !maps.Equal(b.g.owners, want) {
		t.Errorf("%v", b.g.owners)
	}
	if b.g.Size() != 2 {
		t.Errorf("%d members", b.g.Size())
	}
	b.expire(45*time.Second, true) // nobody speaks for them
	if b.g.Size() != 0 || len(b.g.owners) != 0 {
		t.Errorf("%v", b.g.owners)
	}
}

// The record of topics that Kafka kept before 4.1 is erased when the group changes.
func TestOldTopicsRecord(t *testing.T) {
	_, records := kafkaRecords(t)
	b := newBench(t, Options{}, topicA)
	b.log = []Record{records["topics"]}
	b.restart()
	b.beat("1 a:0,1,2,3", "m1", 0, to("topic-a"))
	if last := b.log[len(b.log)-1]; !slices.ContainsFunc(b.log, func(r Record) bool {
		return reflect.DeepEqual(r, records["topics-tombstone"])
	}) {
		t.Errorf("last: %x", last.Key)
	}
}
