package consumer

import (
	"flag"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// topicMap is a view of topics by name.
type topicMap map[string]Topic

func (t topicMap) Topic(name string) (Topic, bool) { topic, ok := t[name]; return topic, ok }

func (t topicMap) TopicByID(id [16]byte) (Topic, bool) {
	for _, topic := range t {
		if topic.ID == id {
			return topic, true
		}
	}
	return Topic{}, false
}

func (t topicMap) All() iter.Seq[Topic] { return maps.Values(t) }

// simulated is a consumer that does what KIP-848 asks of one: it says what it
// owns, gives up what it is told to, and rejoins with nothing when it is fenced.
type simulated struct {
	id, instance string
	epoch        int32
	names        []string
	regex        string
	owned        map[Partition]bool
	assigned     map[Partition]bool // what it was last told
	full         bool               // its next heartbeat says everything
	told         map[Partition]bool // what it last said that it owns
	paused       bool
	gone         bool
	classic      *classicPhase // nil unless it uses the classic protocol
}

// world is a group, its log, its members, its topics and the time.
type world struct {
	t       rapid.TB
	choose  func(n int) int // below n
	now     time.Time
	topics  topicMap
	group   *Group
	log     []Record
	clients []*simulated
	made    int
	seen    int32 // the greatest epoch that was ever answered
	story   []string
	written int // the length of the log that was compared
}

const (
	simSession   = 45 * time.Second
	simRebalance = 20 * time.Second
)

var simOptions = Options{SessionTimeout: simSession, RefreshInterval: time.Hour}

func newWorld(t rapid.TB, choose func(int) int) *world {
	w := &world{t: t, choose: choose, now: time.Unix(1_700_000_000, 0), topics: topicMap{}}
	w.group = New("g", w.options())
	w.addTopic()
	return w
}

func (w *world) options() Options {
	o := simOptions
	o.NewMemberID = func() string { w.made++; return fmt.Sprintf("n%03d", w.made) }
	return o
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\nstory:\n%s", fmt.Sprintf(format, args...), strings.Join(w.story, "\n"))
}

func (w *world) tell(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf("%4.0fs ", w.now.Sub(time.Unix(1_700_000_000, 0)).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) addTopic() {
	w.made++
	name := fmt.Sprintf("t%d", w.choose(4))
	if _, ok := w.topics[name]; !ok {
		w.topics[name] = Topic{Name: name, ID: [16]byte{byte(w.made), byte(w.made >> 8), 1}, Partitions: int32(w.choose(6) + 1)}
		w.tell("topic %s with %d partitions", name, w.topics[name].Partitions)
	}
	w.group.Changed()
}

func (w *world) changeTopic() {
	for name, t := range w.topics {
		if w.choose(4) == 0 {
			delete(w.topics, name)
			w.tell("topic %s is deleted", name)
		} else {
			t.Partitions += int32(w.choose(3) + 1)
			w.topics[name] = t
			w.tell("topic %s has %d partitions", name, t.Partitions)
		}
		break
	}
	w.group.Changed()
}

func (w *world) subscription(c *simulated) {
	c.names, c.regex = nil, ""
	for i := range 4 {
		if w.choose(2) == 0 {
			c.names = append(c.names, fmt.Sprintf("t%d", i))
		}
	}
	if w.choose(3) == 0 && c.classic == nil {
		c.regex = []string{"t.*", "t[0-1]", "t3"}[w.choose(3)]
	}
	c.full = true
}

func (w *world) join() {
	w.made++
	c := &simulated{id: fmt.Sprintf("m%03d", w.made)}
	if w.choose(4) == 0 {
		c.instance = fmt.Sprintf("i%d", w.choose(3))
	}
	if w.choose(3) == 0 {
		w.makeClassic(c)
	}
	w.subscription(c)
	c.abandon()
	w.clients = append(w.clients, c)
	w.tell("%s (%s) will join: %v %s, classic: %t", c.id, c.instance, c.names, c.regex, c.classic != nil)
}

// abandon is what a fenced member does.
func (c *simulated) abandon() {
	c.epoch, c.full = 0, true
	c.owned, c.assigned, c.told = map[Partition]bool{}, map[Partition]bool{}, map[Partition]bool{}
	if c.classic != nil {
		c.classic.next = mustJoin
	}
}

// request is the next heartbeat of a member.
func (c *simulated) request() *kmsg.ConsumerGroupHeartbeatRequest {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.MemberEpoch = 1, "g", c.id, c.epoch
	if c.instance != "" {
		r.InstanceID = &c.instance
	}
	if c.full {
		r.RebalanceTimeoutMillis = int32(simRebalance.Milliseconds())
		r.SubscribedTopicNames = append([]string{}, c.names...)
		r.SubscribedTopicRegex = &c.regex
	}
	if c.full || !maps.Equal(c.owned, c.told) {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for _, t := range byTopic(sorted(c.owned)) {
			r.Topics = append(r.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.id, Partitions: t.partitions})
		}
	}
	return r
}

// heard is the answer to a heartbeat.
func (w *world) heard(c *simulated, said map[Partition]bool, r *kmsg.ConsumerGroupHeartbeatResponse) {
	switch r.ErrorCode {
	case 0:
	case unknownMemberID, fencedMemberEpoch:
		w.tell("%s is fenced: %d", c.id, r.ErrorCode)
		c.abandon()
		return
	case unreleasedInstanceID, fencedInstanceID:
		w.tell("%s gives up: %d", c.id, r.ErrorCode)
		c.abandon()
		c.gone = true
		return
	default:
		w.failf("%s is answered %d: %s", c.id, r.ErrorCode, *r.ErrorMessage)
	}
	if r.MemberEpoch < c.epoch {
		w.failf("the epoch of %s goes from %d to %d", c.id, c.epoch, r.MemberEpoch)
	}
	c.epoch, c.full, c.told = r.MemberEpoch, false, said
	w.seen = max(w.seen, r.MemberEpoch)
	if r.Assignment != nil {
		c.assigned = map[Partition]bool{}
		for _, t := range r.Assignment.Topics {
			for _, p := range t.Partitions {
				c.assigned[Partition{Topic: t.TopicID, Index: p}] = true
			}
		}
	}
	// Giving up takes a while, taking does not. That the protocol needs: what
	// a member does not list, the coordinator may give to another.
	for p := range c.owned {
		if !c.assigned[p] {
			return
		}
	}
	c.work()
}

// work is what a member does between heartbeats: it gives up what it has to
// and takes what is new, which its next heartbeat says.
func (c *simulated) work() {
	if c.classic == nil {
		c.owned = maps.Clone(c.assigned)
	}
}

// heartbeat sends one, which may be lost on either way.
func (w *world) heartbeat(c *simulated, lossy bool) {
	if c.gone || c.paused {
		return
	}
	if c.classic != nil {
		w.request(c, lossy)
		return
	}
	if lossy && w.choose(12) == 0 {
		w.tell("a heartbeat of %s is lost", c.id)
		c.full = true
		return
	}
	said := maps.Clone(c.owned)
	result := w.group.Heartbeat(w.now, w.topics, c.request(), Client{ID: "client", Host: "/host"})
	if lossy && len(result.Records) > 0 && w.choose(15) == 0 {
		n := w.choose(len(result.Records) + 1)
		w.tell("the answer to %s at %d, with %d of %d records, dies with the broker", c.id, c.epoch, n, len(result.Records))
		w.log = append(w.log, result.Records[:n]...)
		w.restart()
		c.full = true
		return
	}
	w.append(result)
	if lossy && w.choose(10) == 0 {
		w.tell("the answer to %s at %d is lost", c.id, c.epoch)
		c.full = true
		return
	}
	before := c.epoch
	w.heard(c, said, result.Response)
	w.tell("%s at %d owns %d, is to own %d", c.id, before, len(c.owned), len(c.assigned))
}

func (w *world) append(r Result) {
	w.log = append(w.log, r.Records...)
	if d := w.group.Deadline(); !r.Deadline.Equal(d) {
		w.failf("the deadline is %v, the result says %v", d, r.Deadline)
	}
	w.check()
}

func (w *world) leave(c *simulated) {
	if c.gone || c.epoch <= 0 {
		return
	}
	if c.classic != nil {
		w.leaveClassic(c)
		return
	}
	r := c.request()
	r.MemberEpoch = epochLeave
	returns := c.instance != "" && w.choose(2) == 0
	if returns {
		r.MemberEpoch = epochLeaveStatic
	}
	c.abandon()
	c.gone = true
	w.tell("%s leaves with %d", c.id, r.MemberEpoch)
	w.append(w.group.Heartbeat(w.now, w.topics, r, Client{}))
	if returns {
		w.made++
		again := &simulated{id: fmt.Sprintf("m%03d", w.made), instance: c.instance, names: c.names, regex: c.regex}
		if w.choose(3) == 0 {
			again.regex = ""
			w.makeClassic(again)
		}
		again.abandon()
		w.clients = append(w.clients, again)
	}
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for {
		at := w.group.Deadline()
		if at.IsZero() || at.After(w.now) {
			return
		}
		result := w.group.Expire(w.now)
		if len(result.Records) > 0 {
			w.tell("members expire")
		}
		w.append(result)
		if d := w.group.Deadline(); !d.IsZero() && !d.After(w.now) {
			w.failf("Expire leaves a deadline behind: %v", d)
		}
	}
}

// restart builds the group from its log, or from what compaction leaves of it.
func (w *world) restart() {
	if w.choose(2) == 0 {
		w.compact()
	}
	w.group = w.replayed()
	w.group.Start(w.now)
	w.check()
}

func (w *world) replayed() *Group {
	g := New("g", w.options())
	for _, r := range w.log {
		if err := g.Replay(r.Key, r.Value); err != nil {
			w.failf("replay: %v", err)
		}
	}
	return g
}

// compact keeps the last record of each key, in any prefix of the log, and
// drops tombstones.
func (w *world) compact() {
	upTo := w.choose(len(w.log) + 1)
	last := map[string]int{}
	for i, r := range w.log[:upTo] {
		last[string(r.Key)] = i
	}
	var kept []Record
	for i, r := range w.log {
		if i >= upTo || last[string(r.Key)] == i && r.Value != nil {
			kept = append(kept, r)
		}
	}
	w.log = kept
}

// check are the invariants.
func (w *world) check() {
	g := w.group
	if g.targetEpoch > g.epoch {
		w.failf("the target is of epoch %d, the group of %d", g.targetEpoch, g.epoch)
	}
	if g.epoch < w.seen {
		w.failf("the epoch of the group is %d, %d was seen", g.epoch, w.seen)
	}
	if w.written != len(w.log) {
		w.written = len(w.log)
		w.compare(w.replayed())
	}
	held := map[Partition]string{}
	for id, m := range g.members {
		if m.session.IsZero() || m.classic == nil && (m.state == unrevoked) == m.rebalance.IsZero() {
			w.failf("%s in state %d has deadlines %v and %v", id, m.state, m.session, m.rebalance)
		}
		for _, set := range []map[Partition]int32{m.assigned, m.revoking} {
			for p := range set {
				if other, ok := held[p]; ok {
					w.failf("%v is held by %s and %s", p, other, id)
				}
				held[p] = id
			}
		}
	}
	if !maps.Equal(held, g.owners) {
		w.failf("owners are %v, held is %v", g.owners, held)
	}
	// No two members own a partition at the same time. Who owns one may commit
	// its offset; who is behind and does not hold it may not.
	owner := map[Partition]*simulated{}
	for _, c := range w.clients {
		m := g.members[c.id]
		if m == nil || c.epoch <= 0 || m.epoch == 0 && len(m.assigned) == 0 {
			continue // fenced, though it may not know, or half replaced; or about to rejoin, with nothing
		}
		for p := range c.owned {
			if owner[p] != nil {
				w.failf("%v is owned by %s and %s", p, owner[p].id, c.id)
			}
			owner[p] = c
		}
		for p, holder := range held {
			code := g.CheckCommit(Commit{MemberID: c.id, Epoch: c.epoch, Version: 9}, []Partition{p})
			if m.classic != nil {
				if c.epoch != m.epoch && code != illegalGeneration || c.epoch == m.epoch && code != 0 {
					w.failf("%s, at %d of %d, commits: %d", c.id, c.epoch, m.epoch, code)
				}
				continue
			}
			if c.owned[p] && code != 0 || holder != c.id && c.epoch < m.epoch && code != staleMemberEpoch {
				w.failf("%s, at %d of %d, commits for %v, which %s holds: %d", c.id, c.epoch, m.epoch, p, holder, code)
			}
		}
	}
}

// compare: what the log says is what there is.
func (w *world) compare(r *Group) {
	g := w.group
	for _, pair := range [][2]any{
		{r.epoch, g.epoch},
		{r.hash, g.hash},
		{r.targetEpoch, g.targetEpoch},
		{r.owners, g.owners},
		{r.instances, g.instances},
		{r.others, g.others},
		{r.classics, g.classics},
		{len(r.members), len(g.members)},
		{len(r.regexes), len(g.regexes)},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			w.failf("replayed: %v, there is: %v", pair[0], pair[1])
		}
	}
	for id, m := range g.members {
		o := r.members[id]
		if o == nil || !o.memberValue.equal(m.memberValue) || !o.currentValue.equal(m.currentValue) || !slices.Equal(o.target, m.target) {
			w.failf("%s is replayed as %+v, is %+v", id, o, m)
		}
	}
	for s, x := range g.regexes {
		if o := r.regexes[s]; o == nil || !reflect.DeepEqual(o.regexValue, x.regexValue) {
			w.failf("%s is replayed as %+v, is %+v", s, o, x)
		}
	}
}

func (w *world) step() {
	var c *simulated
	if len(w.clients) > 0 {
		c = w.clients[w.choose(len(w.clients))]
	}
	switch action := w.choose(40); {
	case c == nil || action < 3 && len(w.clients) < 12:
		w.join()
	case action == 3:
		w.leave(c)
	case action == 4:
		w.tell("%s crashes", c.id)
		c.abandon()
		c.gone = true
	case action == 5:
		c.paused = !c.paused
		w.tell("%s pauses: %t", c.id, c.paused)
	case action == 6:
		w.subscription(c)
		w.tell("%s subscribes to %v %s", c.id, c.names, c.regex)
	case action == 7:
		w.addTopic()
	case action == 8 && len(w.topics) > 0:
		w.changeTopic()
	case action == 9:
		w.tell("the broker restarts")
		w.restart()
	case action < 14:
		w.pass(time.Duration(w.choose(15)) * time.Second)
	case action < 22:
		if !c.paused {
			c.work()
			w.check()
		}
	default:
		w.heartbeat(c, true)
	}
	w.clients = slices.DeleteFunc(w.clients, func(c *simulated) bool { return c.gone })
}

// settle stops all trouble and wants the group to converge, in five heartbeats
// of each member.
func (w *world) settle() {
	w.tell("from here on all is well")
	for _, c := range w.clients {
		c.paused = false
	}
	for range 10 { // what is gone expires
		w.pass(5 * time.Second)
		for _, c := range w.clients {
			c.work()
			w.turn(c)
		}
		w.clients = slices.DeleteFunc(w.clients, func(c *simulated) bool { return c.gone })
	}
	w.group.Changed()
	if w.group.OnlyClassic() {
		// Nobody who uses the classic protocol looks at topics: a coordinator does
		// not keep such a group. When the guest leaves, all that has happened is known.
		w.made++
		guest := &simulated{id: fmt.Sprintf("m%03d", w.made), names: []string{"t0"}}
		guest.abandon()
		w.clients = append(w.clients, guest)
		w.converge()
		w.leave(guest)
		w.clients = w.clients[:len(w.clients)-1]
	}
	w.converge()
}

func (w *world) converge() {
	w.tell("the last change was")
	for range 5 {
		w.pass(5 * time.Second)
		for _, c := range w.clients {
			w.turn(c)
			c.work()
			w.turn(c) // Kafka's consumer heartbeats at once after it gave partitions up
			c.work()
		}
	}
	w.converged()
}

// turn is a heartbeat, and what a classic consumer does at once because of it.
func (w *world) turn(c *simulated) {
	w.heartbeat(c, false)
	for range 5 {
		if c.classic != nil && c.classic.next != steady {
			w.heartbeat(c, false)
		}
	}
}

func (w *world) converged() {
	g := w.group
	want := "Stable"
	if len(w.clients) == 0 {
		want = "Empty"
	}
	if g.State() != want || g.Size() != len(w.clients) {
		w.failf("%s with %d members, there are %d clients", g.State(), g.Size(), len(w.clients))
	}
	var members []subscriber
	var targets [][]Partition
	for _, m := range g.sorted() {
		members = append(members, subscriber{id: m.id, topics: g.topicsOf(m, w.topics)})
		targets = append(targets, m.target)
	}
	checkTargets(w.t, members, targets, true)
	if improvable(members, targets) {
		w.failf("not even: %v", targets)
	}
	for _, c := range w.clients {
		if m := g.members[c.id]; m == nil || !slices.Equal(sorted(c.owned), m.target) {
			w.failf("%s owns %v, and is to own %v", c.id, sorted(c.owned), g.members[c.id])
		}
	}
	if g.OnlyClassic() {
		w.convert()
	}
	// Nothing is written when nothing happens.
	before := len(w.log)
	for _, c := range w.clients {
		c.full = w.choose(2) == 0
		w.heartbeat(c, false)
	}
	if len(w.log) != before {
		w.failf("%d records were written for nothing", len(w.log)-before)
	}
}

var seeds = flag.Int("seeds", 25, "how many simulations to run")

func TestSimulation(t *testing.T) {
	for seed := range uint64(*seeds) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			w := newWorld(t, rand.New(rand.NewPCG(seed, 1)).IntN)
			for range 150 {
				w.step()
			}
			w.settle()
		})
	}
}

// TestSimulationShrinks is the same, drawn by rapid, which tells the shortest
// story of a failure.
func TestSimulationShrinks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "") })
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.step()
		}
		w.settle()
	})
}
