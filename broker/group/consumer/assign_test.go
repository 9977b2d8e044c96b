package consumer

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

func topicOf(n byte, partitions int32) Topic {
	return Topic{Name: fmt.Sprintf("topic-%c", 'a'+n), ID: [16]byte{n + 1}, Partitions: partitions}
}

func subscribe(id string, topics ...Topic) subscriber {
	s := subscriber{id: id, topics: map[[16]byte]Topic{}}
	for _, t := range topics {
		s.topics[t.ID] = t
	}
	return s
}

// checkTargets checks what holds for every assignor: targets are sorted, of
// subscribed topics only, and cover every partition that has a subscriber;
// exactly once, where exclusive.
func checkTargets(t rapid.TB, members []subscriber, targets [][]Partition, exclusive bool) {
	t.Helper()
	holders := map[Partition]int{}
	for i, target := range targets {
		if !slices.IsSortedFunc(target, comparePartitions) {
			t.Fatalf("%s: not sorted: %v", members[i].id, target)
		}
		for _, p := range target {
			topic, ok := members[i].topics[p.Topic]
			if !ok || p.Index < 0 || p.Index >= topic.Partitions {
				t.Fatalf("%s does not subscribe to %v", members[i].id, p)
			}
			holders[p]++
		}
	}
	for _, m := range members {
		for id, topic := range m.topics {
			for i := range topic.Partitions {
				n := holders[Partition{id, i}]
				if n == 0 || exclusive && n > 1 {
					t.Fatalf("partition %d of %s has %d members", i, topic.Name, n)
				}
			}
		}
	}
}

// improvable finds, by brute force, a path that would even loads out.
func improvable(members []subscriber, targets [][]Partition) bool {
	for from := range members {
		seen := map[int]bool{from: true}
		for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
			for _, p := range targets[queue[0]] {
				for to := range members {
					if _, ok := members[to].topics[p.Topic]; !ok || seen[to] {
						continue
					}
					if len(targets[to]) <= len(targets[from])-2 {
						return true
					}
					seen[to] = true
					queue = append(queue, to)
				}
			}
		}
	}
	return false
}

// drawMembers makes members with any subscriptions, or all with the same.
func drawMembers(t *rapid.T, topics []Topic, same bool) []subscriber {
	var members []subscriber
	for i := range rapid.IntRange(1, 8).Draw(t, "members") {
		m := subscribe(fmt.Sprintf("m%d", i))
		for _, topic := range topics {
			if same || rapid.Bool().Draw(t, "subscribes") {
				m.topics[topic.ID] = topic
			}
		}
		members = append(members, m)
	}
	return members
}

func drawTopics(t *rapid.T) []Topic {
	var topics []Topic
	for i := range rapid.IntRange(1, 4).Draw(t, "topics") {
		topics = append(topics, topicOf(byte(i), rapid.Int32Range(0, 9).Draw(t, "partitions")))
	}
	return topics
}

// change returns some of the members and some new ones, with what they had.
func change(t *rapid.T, members []subscriber, targets [][]Partition, topics []Topic, same bool) []subscriber {
	var next []subscriber
	for i, m := range members {
		m.previous = targets[i]
		if rapid.IntRange(0, 3).Draw(t, "leaves") > 0 {
			next = append(next, m)
		}
	}
	for i, m := range drawMembers(t, topics, same) {
		if rapid.Bool().Draw(t, "joins") || len(next) == 0 {
			m.id = fmt.Sprintf("n%d", i)
			next = append(next, m)
		}
	}
	return next
}

// moved counts the partitions that members lost though they are there still.
func moved(members []subscriber, targets [][]Partition) int {
	n := 0
	for i, m := range members {
		for _, p := range m.previous {
			if !slices.Contains(targets[i], p) {
				n++
			}
		}
	}
	return n
}

// TestUniform: balanced as far as it can be, and where all subscribe to the
// same, nothing moves that balance does not need.
func TestUniform(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		same := rapid.Bool().Draw(t, "same")
		topics := drawTopics(t)
		members := drawMembers(t, topics, same)
		targets := assignUniform(members)
		for range 3 {
			checkTargets(t, members, targets, true)
			if improvable(members, targets) {
				t.Fatalf("not even: %v", targets)
			}
			for i := range members {
				members[i].previous = targets[i]
			}
			if again := assignUniform(members); !reflect.DeepEqual(again, targets) {
				t.Fatalf("moved without a reason: %v to %v", targets, again)
			}
			members = change(t, members, targets, topics, same)
			targets = assignUniform(members)
			if same {
				if got, least := moved(members, targets), leastMoves(members, topics); got != least {
					t.Fatalf("%d were moved, %d had to be: %v", got, least, targets)
				}
			}
		}
	})
}

// leastMoves is how much has to be taken from members that all subscribe to
// the same topics: what they have above their shares, if those who have most
// get the larger shares.
func leastMoves(members []subscriber, topics []Topic) int {
	all := 0
	for _, topic := range topics {
		all += int(topic.Partitions)
	}
	var had []int
	for _, m := range members {
		had = append(had, len(m.previous))
	}
	slices.Sort(had)
	slices.Reverse(had)
	moves := 0
	for i, n := range had {
		share := all / len(members)
		if i < all%len(members) {
			share++
		}
		moves += max(0, n-share)
	}
	return moves
}

func TestUniformMovesAlongPaths(t *testing.T) {
	// Only the middle one can take from the first, and only it can give to the last.
	a, b := topicOf(0, 4), topicOf(1, 2)
	members := []subscriber{subscribe("m0", a), subscribe("m1", a, b), subscribe("m2", b)}
	members[0].previous = []Partition{{a.ID, 0}, {a.ID, 1}, {a.ID, 2}, {a.ID, 3}}
	members[1].previous = []Partition{{b.ID, 0}, {b.ID, 1}}
	want := [][]Partition{{{a.ID, 0}, {a.ID, 1}}, {{a.ID, 2}, {a.ID, 3}}, {{b.ID, 0}, {b.ID, 1}}}
	if got := assignUniform(members); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func TestUniformDropsWhatIsNoMore(t *testing.T) {
	a := topicOf(0, 2)
	members := []subscriber{subscribe("m0", a), subscribe("m1", a)}
	members[0].previous = []Partition{{a.ID, 0}, {a.ID, 7}, {a.ID, -1}, {[16]byte{99}, 0}}
	members[1].previous = []Partition{{a.ID, 0}} // so had the first
	want := [][]Partition{{{a.ID, 0}}, {{a.ID, 1}}}
	if got := assignUniform(members); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if got := assignUniform(nil); len(got) != 0 {
		t.Errorf("nobody gets %v", got)
	}
}

func TestRange(t *testing.T) {
	a, b, c := topicOf(0, 5), topicOf(1, 5), topicOf(2, 1)
	members := []subscriber{subscribe("x", a, b, c), subscribe("y", a, b), subscribe("z", a, b)}
	members[2].instance = "first" // static members go first
	part := func(topic Topic, all ...int32) (ps []Partition) {
		for _, i := range all {
			ps = append(ps, Partition{topic.ID, i})
		}
		return ps
	}
	want := [][]Partition{
		slices.Concat(part(a, 2, 3), part(b, 2, 3), part(c, 0)),
		slices.Concat(part(a, 4), part(b, 4)),
		slices.Concat(part(a, 0, 1), part(b, 0, 1)),
	}
	if got := assignRange(members); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t, drawTopics(t), rapid.Bool().Draw(t, "same"))
		checkTargets(t, members, assignRange(members), true)
	})
}

// TestSimple: every partition has a member; every member has a partition, and
// no more than one if it has to be shared; sharing is even.
func TestSimple(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		same := rapid.Bool().Draw(t, "same")
		topics := drawTopics(t)
		members := drawMembers(t, topics, same)
		targets := assignSimple(members)
		for range 3 {
			checkTargets(t, members, targets, false)
			checkShared(t, members, targets, same)
			for i := range members {
				members[i].previous = targets[i]
			}
			if again := assignSimple(members); moved(members, again) > 0 && same {
				t.Fatalf("moved without a reason: %v to %v", targets, again)
			}
			members = change(t, members, targets, topics, same)
			targets = assignSimple(members)
		}
	})
}

func checkShared(t rapid.TB, members []subscriber, targets [][]Partition, same bool) {
	t.Helper()
	have := map[Partition]int{}
	for _, target := range targets {
		for _, p := range target {
			have[p]++
		}
	}
	least, most := len(members), 0
	for _, n := range have {
		least, most = min(least, n), max(most, n)
	}
	for i, m := range members {
		some := false
		for _, topic := range m.topics {
			some = some || topic.Partitions > 0
		}
		if some && len(targets[i]) == 0 {
			t.Fatalf("%s has nothing: %v", m.id, targets)
		}
		if same && len(have) > 0 && len(targets[i]) > max(1, (len(have)+len(members)-1)/len(members)) {
			t.Fatalf("%s has too much: %v", m.id, targets)
		}
	}
	if same && most-least > 1 {
		t.Fatalf("shared unevenly: %v", targets)
	}
}

// BenchmarkHeartbeat is one of 1000 members of a stable group.
func BenchmarkHeartbeat(b *testing.B) {
	now := time.Unix(1_700_000_000, 0)
	topics := topicMap{"topic-a": topicOf(0, 4000)}
	g := New("g", Options{})
	for round := range 2 {
		for i := range 1000 {
			r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			r.Version, r.Group, r.MemberID = 1, "g", fmt.Sprintf("m%04d", i)
			if r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}; round == 0 {
				r.RebalanceTimeoutMillis, r.SubscribedTopicNames = 1000, []string{"topic-a"}
			}
			if m := g.members[r.MemberID]; m != nil {
				r.MemberEpoch = m.epoch
			}
			g.Heartbeat(now, topics, r, Client{})
		}
	}
	if state := g.State(); state != "Stable" {
		b.Fatal(state)
	}
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.MemberEpoch = 1, "g", "m0500", g.epoch
	for b.Loop() {
		if result := g.Heartbeat(now, topics, r, Client{}); result.Response.ErrorCode != 0 || len(result.Records) > 0 {
			b.Fatal(result)
		}
	}
}

func BenchmarkUniformJoin(b *testing.B) {
	topics := []Topic{topicOf(0, 5000), topicOf(1, 5000)}
	var members []subscriber
	for i := range 1000 {
		members = append(members, subscribe(fmt.Sprintf("m%04d", i), topics...))
	}
	for i, target := range assignUniform(members[:999]) {
		members[i].previous = target
	}
	for b.Loop() {
		assignUniform(members)
	}
}
