package consumer

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// subscriber is a member as an assignor sees it.
type subscriber struct {
	id, instance string
	topics       map[[16]byte]Topic
	previous     []Partition // its target before
}

// assignor computes targets: one for each subscriber, in their order, each
// sorted. It is a function of its argument alone.
type assignor func([]subscriber) [][]Partition

// The names by which members choose an assignor.
const (
	uniformName = "uniform" // the default
	rangeName   = "range"
	simpleName  = "simple" // that of share groups
)

var assignors = map[string]assignor{uniformName: assignUniform, rangeName: assignRange}

// board is an assignment in the making: topics and members are numbered.
type board struct {
	topics      []Topic
	subscribers [][]int // the members by topic
	owner       [][]int // the member by topic and partition, or nobody
	load        []int   // the number of partitions by member
	count       [][]int // the same by member and topic
}

const nobody = -1

func newBoard(members []subscriber) *board {
	b := &board{load: make([]int, len(members)), count: make([][]int, len(members))}
	all := map[[16]byte]Topic{}
	for _, m := range members {
		for id, t := range m.topics {
			all[id] = t
		}
	}
	for _, t := range all {
		b.topics = append(b.topics, t)
	}
	slices.SortFunc(b.topics, func(x, y Topic) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	for _, t := range b.topics {
		var who []int
		for m := range members {
			if _, ok := members[m].topics[t.ID]; ok {
				who = append(who, m)
			}
		}
		b.subscribers = append(b.subscribers, who)
		b.owner = append(b.owner, slices.Repeat([]int{nobody}, int(max(t.Partitions, 0))))
	}
	for m := range members {
		b.count[m] = make([]int, len(b.topics))
	}
	return b
}

// topic is the number of a topic, if one of the members subscribes to it.
func (b *board) topic(id [16]byte) (int, bool) {
	return slices.BinarySearchFunc(b.topics, id, func(t Topic, id [16]byte) int { return bytes.Compare(t.ID[:], id[:]) })
}

// valid finds a partition that a subscriber had and may have still.
func (b *board) valid(m *subscriber, p Partition) (topic int, ok bool) {
	if _, ok := m.topics[p.Topic]; !ok {
		return 0, false
	}
	t, ok := b.topic(p.Topic)
	return t, ok && p.Index >= 0 && int(p.Index) < len(b.owner[t])
}

func (b *board) give(topic, partition, member int) {
	b.owner[topic][partition] = member
	b.load[member]++
	b.count[member][topic]++
}

func (b *board) targets() [][]Partition {
	targets := make([][]Partition, len(b.load))
	for t, owners := range b.owner { // topics are in order, and so are partitions
		for p, m := range owners {
			if m != nobody {
				targets[m] = append(targets[m], Partition{Topic: b.topics[t].ID, Index: int32(p)})
			}
		}
	}
	return targets
}

// assignUniform gives every partition to one of its topic's subscribers, as
// evenly as subscriptions permit, and moves as few as it can:
//
//   - Members keep what they had.
//   - What nobody has goes to the subscriber with the fewest partitions.
//   - A partition moves only if that evens out: along a path from a member with
//     most partitions to one with at least two less. When there is no such path
//     the sum of squares of the members' loads is the least possible.
//
// Where all subscribe to the same topics, loads then differ by at most one, and
// a member loses no more than what it had above its share: with P partitions
// and M members, P mod M of those that had most have a share of ⌈P/M⌉, the
// others one of ⌊P/M⌋.
func assignUniform(members []subscriber) [][]Partition {
	b := newBoard(members)
	for m := range members {
		for _, p := range members[m].previous {
			if t, ok := b.valid(&members[m], p); ok && b.owner[t][p.Index] == nobody {
				b.give(t, int(p.Index), m)
			}
		}
	}
	b.fill()
	b.level()
	return b.targets()
}

// fill gives away what nobody has, topics with the fewest subscribers first.
func (b *board) fill() {
	order := make([]int, 0, len(b.topics))
	for t := range b.topics {
		order = append(order, t)
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(len(b.subscribers[x]), len(b.subscribers[y])) })
	for _, t := range order {
		for p, m := range b.owner[t] {
			if m == nobody {
				b.give(t, p, b.leastLoaded(b.subscribers[t]))
			}
		}
	}
}

func (b *board) leastLoaded(members []int) int {
	return slices.MinFunc(members, func(x, y int) int { return cmp.Compare(b.load[x], b.load[y]) })
}

// level moves partitions until no path evens loads out any more.
//
// A member from which no path leads to one with at least two less is settled,
// and so is everyone whom it reaches, as long as it has the most partitions of
// those not settled: none of them has less than one less. Paths from others
// into what is settled lead to nobody with two less either.
func (b *board) level() {
	settled := make([]bool, len(b.load))
	for {
		most, least := nobody, nobody
		for m, load := range b.load {
			if settled[m] {
				continue
			}
			if most == nobody || load > b.load[most] {
				most = m
			}
			if least == nobody || load < b.load[least] {
				least = m
			}
		}
		if most == nobody || b.load[most]-b.load[least] < 2 {
			return
		}
		b.shift(most, settled)
	}
}

// shift moves one partition less onto a member, along the shortest path to one
// with at least two less, or settles all that it reaches.
func (b *board) shift(from int, settled []bool) {
	type hop struct{ member, topic int }
	came := map[int]hop{from: {nobody, 0}}
	seen := make([]bool, len(b.topics))
	for ring := []int{from}; len(ring) > 0; {
		var next []int
		to := nobody
		for _, u := range ring {
			for t := range b.topics {
				if b.count[u][t] == 0 || seen[t] {
					continue
				}
				seen[t] = true
				for _, v := range b.subscribers[t] {
					if _, ok := came[v]; ok || settled[v] {
						continue
					}
					came[v] = hop{u, t}
					next = append(next, v)
					if b.load[v] <= b.load[from]-2 && (to == nobody || b.load[v] < b.load[to]) {
						to = v
					}
				}
			}
		}
		if to != nobody {
			for to != from {
				h := came[to]
				b.move(h.topic, h.member, to)
				to = h.member
			}
			return
		}
		ring = next
	}
	for m := range came {
		settled[m] = true
	}
}

// move gives one partition of a topic, the last, from one member to another.
func (b *board) move(topic, from, to int) {
	owners := b.owner[topic]
	for p := len(owners) - 1; p >= 0; p-- {
		if owners[p] == from {
			b.load[from]--
			b.count[from][topic]--
			b.give(topic, p, to)
			return
		}
	}
}

// assignRange gives each member a range of each topic's partitions, members in
// the order of their instance ids and then ids, so that those who subscribe to
// the same topics get the same partitions of topics with equally many.
func assignRange(members []subscriber) [][]Partition {
	b := newBoard(members)
	for t, who := range b.subscribers {
		order := slices.Clone(who)
		slices.SortFunc(order, func(x, y int) int {
			mx, my := &members[x], &members[y]
			if (mx.instance == "") != (my.instance == "") { // static ones first
				return strings.Compare(my.instance, mx.instance)
			}
			return cmp.Or(strings.Compare(mx.instance, my.instance), strings.Compare(mx.id, my.id))
		})
		size, more := len(b.owner[t])/len(order), len(b.owner[t])%len(order)
		p := 0
		for i, m := range order {
			n := size
			if i < more {
				n++
			}
			for range n {
				b.give(t, p, m)
				p++
			}
		}
	}
	return b.targets()
}

// assignSimple is the assignor of share groups, whose members may share
// partitions: every partition goes to a member as in assignUniform, and a
// member left without any shares one with others, so that everyone who
// subscribes to something has something to fetch, and partitions are shared by
// equally many as far as subscriptions permit.
func assignSimple(members []subscriber) [][]Partition {
	exclusive := slices.Clone(members)
	b := newBoard(members)
	for i, had := range b.holders(members) {
		exclusive[i].previous = had
	}
	targets := assignUniform(exclusive)
	b.share(members, targets)
	return targets
}

// holders gives each partition to the one of those who had it who has the
// fewest so far.
func (b *board) holders(members []subscriber) [][]Partition {
	who := map[Partition][]int{}
	for i := range members {
		for _, p := range members[i].previous {
			if _, ok := b.valid(&members[i], p); ok {
				who[p] = append(who[p], i)
			}
		}
	}
	for _, p := range sorted(who) {
		t, _ := b.topic(p.Topic)
		b.give(t, int(p.Index), b.leastLoaded(who[p]))
	}
	return b.targets()
}

// share gives each member without a target one partition: what it had, or the
// one that fewest have; then evens that out.
func (b *board) share(members []subscriber, targets [][]Partition) {
	have := map[Partition]int{}
	var idle []int
	for i, target := range targets {
		for _, p := range target {
			have[p]++
		}
		if len(target) == 0 {
			idle = append(idle, i)
		}
	}
	fewest := func(i int) (best Partition, ok bool) {
		for t, topic := range b.topics {
			if _, subscribed := members[i].topics[topic.ID]; !subscribed {
				continue
			}
			for index := range b.owner[t] {
				if p := (Partition{Topic: topic.ID, Index: int32(index)}); !ok || have[p] < have[best] {
					best, ok = p, true
				}
			}
		}
		return best, ok
	}
	for _, i := range idle {
		for _, p := range members[i].previous {
			if _, ok := b.valid(&members[i], p); ok {
				targets[i] = []Partition{p}
				have[p]++
				break
			}
		}
	}
	for _, i := range idle {
		if len(targets[i]) > 0 {
			continue
		}
		if p, ok := fewest(i); ok {
			targets[i] = []Partition{p}
			have[p]++
		}
	}
	for moved := true; moved; { // every move lowers the sum of squares
		moved = false
		for _, i := range idle {
			if len(targets[i]) == 0 {
				continue
			}
			from := targets[i][0]
			if to, _ := fewest(i); have[to] <= have[from]-2 {
				have[from]--
				have[to]++
				targets[i] = []Partition{to}
				moved = true
			}
		}
	}
}
