package consumer

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// classicPhase is what a simulated consumer of the classic protocol does next,
// and how it rebalances.
type classicPhase struct {
	next  int
	eager bool
}

const (
	steady = iota
	mustJoin
	mustSync
)

func (w *world) makeClassic(c *simulated) {
	c.id = "" // the group makes it
	c.classic = &classicPhase{next: mustJoin, eager: w.choose(2) == 0}
}

// protocols: all have range, so that they fit.
func (c *simulated) protocols(topics Topics) (all []kmsg.JoinGroupRequestProtocol) {
	s := kmsg.NewConsumerMemberMetadata()
	s.Version, s.Topics, s.Generation = 3, c.names, c.epoch
	for _, t := range byTopic(sorted(c.owned)) {
		if topic, ok := topics.TopicByID(t.id); ok {
			s.OwnedPartitions = append(s.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: topic.Name, Partitions: t.partitions})
		}
	}
	names := []string{"cooperative-sticky", "range"}
	if c.classic.eager {
		names = []string{"range"}
	}
	for _, name := range names {
		all = append(all, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: s.AppendTo(nil)})
	}
	return all
}

func (c *simulated) joinRequest(topics Topics) *kmsg.JoinGroupRequest {
	q := kmsg.NewPtrJoinGroupRequest()
	q.Version, q.Group, q.MemberID, q.ProtocolType = 9, "g", c.id, "consumer"
	q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = int32(simSession.Milliseconds()), int32(simRebalance.Milliseconds())
	if c.instance != "" {
		q.InstanceID = &c.instance
	}
	q.Protocols = c.protocols(topics)
	return q
}

// request sends the next request of a classic consumer, which may be lost on
// either way.
func (w *world) request(c *simulated, lossy bool) {
	if lossy && w.choose(12) == 0 {
		w.tell("a request of %s is lost", c.id)
		return
	}
	switch c.classic.next {
	case mustJoin:
		w.joinGroup(c, lossy)
	case mustSync:
		q := kmsg.NewPtrSyncGroupRequest()
		q.MemberID, q.Generation = c.id, c.epoch
		if c.instance != "" {
			q.InstanceID = &c.instance
		}
		a := w.group.Sync(w.now, w.topics, q)
		w.check()
		if lossy && w.choose(10) == 0 {
			w.tell("the assignment of %s is lost", c.id)
			c.classic.next = mustJoin
			return
		}
		w.told(c, a.Code)
		if a.Code == 0 {
			w.assign(c, a.Assignment)
		}
		w.tell("%s at %d syncs: %d, and owns %d", c.id, c.epoch, a.Code, len(c.owned))
	default:
		q := kmsg.NewPtrHeartbeatRequest()
		q.MemberID, q.Generation = c.id, c.epoch
		if c.instance != "" {
			q.InstanceID = &c.instance
		}
		w.told(c, w.group.ClassicHeartbeat(w.now, w.topics, q))
		w.check()
	}
}

func (w *world) joinGroup(c *simulated, lossy bool) {
	if c.classic.eager {
		clear(c.owned)
	}
	a, records := w.group.Join(w.now, w.topics, c.joinRequest(w.topics), Client{ID: "client", Host: "/host"})
	if a.Code != 0 && len(records) > 0 {
		w.failf("%s is refused with %d, and yet %d records", c.id, a.Code, len(records))
	}
	if lossy && len(records) > 0 && w.choose(15) == 0 {
		n := w.choose(len(records) + 1)
		w.tell("the answer to the join of %s, with %d of %d records, dies with the broker", c.id, n, len(records))
		w.log = append(w.log, records[:n]...)
		w.restart()
		return
	}
	w.append(Result{Records: records, Deadline: w.group.Deadline()})
	if lossy && w.choose(10) == 0 {
		w.tell("the answer to the join of %s is lost", c.id)
		return
	}
	w.tell("%s joins at %d: %d, %s at %d", c.id, c.epoch, a.Code, a.MemberID, a.Epoch)
	if a.Code == memberIDRequired {
		c.id = a.MemberID
		return
	}
	if w.told(c, a.Code); a.Code != 0 {
		return
	}
	if a.Epoch < c.epoch {
		w.failf("the generation of %s goes from %d to %d", c.id, c.epoch, a.Epoch)
	}
	c.id, c.epoch, c.classic.next = a.MemberID, a.Epoch, mustSync
	w.seen = max(w.seen, a.Epoch)
	w.check()
}

// told is the code of an answer.
func (w *world) told(c *simulated, code int16) {
	switch code {
	case 0:
	case rebalanceInProgress:
		c.classic.next = mustJoin
	case illegalGeneration:
		w.tell("%s has a generation that is not", c.id)
		c.abandon()
	case unknownMemberID:
		w.tell("%s is unknown", c.id)
		c.abandon()
		c.id = ""
	case fencedInstanceID:
		w.tell("%s is fenced", c.id)
		c.abandon()
		c.gone = true
	default:
		w.failf("%s is answered %d", c.id, code)
	}
}

// assign is what a consumer does with its assignment: what it has to give up it
// gives up, and joins again to say so.
func (w *world) assign(c *simulated, b []byte) {
	assigned, ok := readAssignment(b, w.topics)
	if !ok {
		w.failf("%s is assigned %x", c.id, b)
	}
	c.classic.next = steady
	for p := range c.owned {
		if !assigned[p] {
			c.classic.next = mustJoin
		}
	}
	c.owned, c.assigned = assigned, maps.Clone(assigned)
	w.check()
}

func (w *world) leaveClassic(c *simulated) {
	w.tell("%s leaves", c.id)
	l := kmsg.NewLeaveGroupRequestMember()
	l.MemberID = c.id
	if c.instance != "" {
		l.InstanceID = &c.instance
	}
	c.abandon()
	c.gone = true
	answers, records := w.group.Leave([]kmsg.LeaveGroupRequestMember{l, l})
	if len(answers) != 2 || answers[1].ErrorCode == 0 || (answers[0].ErrorCode == 0) != (len(records) > 0) {
		w.failf("%+v, and %d records", answers, len(records))
	}
	w.append(Result{Records: records, Deadline: w.group.Deadline()})
}

// writes are the records that the next request of c would lead to.
func (c *simulated) writes(g *Group, now time.Time, topics Topics) []Record {
	switch {
	case c.classic == nil:
		return g.Heartbeat(now, topics, c.request(), Client{ID: "client", Host: "/host"}).Records
	case c.classic.next == mustJoin && !c.classic.eager:
		_, records := g.Join(now, topics, c.joinRequest(topics), Client{ID: "client", Host: "/host"})
		return records
	}
	return nil
}

// convert has a settled group become a classic one and be what it was again.
func (w *world) convert() {
	records, v, behind := w.replayed().Downgrade(w.now, w.topics)
	after := New("g", w.options())
	for _, r := range append(slices.Clone(w.log), records...) {
		if err := after.Replay(r.Key, r.Value); err != nil {
			w.failf("replay: %v", err)
		}
	}
	if !after.Pristine() {
		w.failf("a group that was converted has left %+v", after.roster)
	}
	if v.Leader != nil || len(v.Members) != w.group.Size() || v.Protocol == nil || *v.Protocol != "range" && *v.Protocol != "cooperative-sticky" {
		w.failf("the classic group is %+v", v)
	}
	for id, epoch := range behind {
		if m := w.group.members[id]; m.epoch != epoch || epoch >= v.Generation {
			w.failf("%s at %d is behind at %d of %d", id, m.epoch, epoch, v.Generation)
		}
	}
	was := Classic{Generation: v.Generation}
	for _, m := range v.Members {
		was.Members = append(was.Members, ClassicMember{
			ID: m.MemberID, Instance: m.InstanceID, Client: Client{m.ClientID, m.ClientHost}, Assignment: m.Assignment,
			Session: simSession, Rebalance: simRebalance, Protocols: []kmsg.JoinGroupRequestProtocol{{Name: *v.Protocol, Metadata: m.Subscription}},
		})
	}
	g, records, ok := Upgrade("g", w.options(), w.now, w.topics, was)
	if !ok || !maps.Equal(g.owners, w.group.owners) || g.Size() != w.group.Size() || g.epoch != v.Generation || g.State() != "Stable" {
		w.failf("upgraded to %+v, %t", g, ok)
	}
	same := New("g", w.options())
	for _, r := range records {
		if err := same.Replay(r.Key, r.Value); err != nil {
			w.failf("replay: %v", err)
		}
	}
	for _, c := range w.clients {
		m := same.members[c.id]
		if m == nil || !m.classic.equal(g.members[c.id].classic) || !maps.Equal(m.assigned, g.members[c.id].assigned) || !slices.Equal(m.topics, c.names) {
			w.failf("%s is replayed as %+v", c.id, m)
		}
	}
}
