package consumer

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareGroup is the membership of one share group (KIP-932): who belongs to
// it and which partitions each member should fetch from. Members may share
// partitions, so nobody waits for anybody: a member goes to its target at once.
// Which records they get is not its concern.
type ShareGroup struct{ roster }

var shareKinds = kinds{
	group: typeShareGroup, member: typeShareMember, target: typeShareTarget,
	targetMember: typeShareTargetMember, current: typeShareCurrent,
}

// NewShare makes an empty share group; see New.
func NewShare(id string, o Options) *ShareGroup {
	return &ShareGroup{newRoster(id, shareKinds, o, maxShareGroup)}
}

// Heartbeat answers ShareGroupHeartbeat 1.
func (g *ShareGroup) Heartbeat(now time.Time, topics Topics, r *kmsg.ShareGroupHeartbeatRequest, client Client) ShareResult {
	response := r.ResponseKind().(*kmsg.ShareGroupHeartbeatResponse)
	var refused *refusal
	if refused = checkShareHeartbeat(r); refused == nil {
		if r.MemberEpoch == epochLeave {
			refused = g.leave(r, response)
		} else {
			refused = g.stay(now, topics, r, client, response)
		}
	}
	if refused != nil {
		response.ErrorCode, response.ErrorMessage = refused.code, &refused.message
	}
	return g.result(response)
}

func (g *ShareGroup) result(response *kmsg.ShareGroupHeartbeatResponse) ShareResult {
	return ShareResult{Response: response, Records: g.take(), Deadline: g.wake}
}

func checkShareHeartbeat(r *kmsg.ShareGroupHeartbeatRequest) *refusal {
	if refused := firstRefusal(
		text("MemberId", r.MemberID, false),
		text("GroupId", r.GroupID, false),
		optionalText("RackId", r.RackID),
	); refused != nil {
		return refused
	}
	switch {
	case r.MemberEpoch < epochLeave:
		return refuse(invalidRequest, "MemberEpoch is invalid.")
	case r.MemberEpoch == epochJoin && len(r.SubscribedTopicNames) == 0:
		return refuse(invalidRequest, "SubscribedTopicNames must be set in first request.")
	case len(r.SubscribedTopicNames) > maxSubscriptions:
		return refuse(invalidRequest, "SubscribedTopicNames can't be more than %d.", maxSubscriptions)
	}
	return nil
}

func (g *ShareGroup) stay(now time.Time, topics Topics, r *kmsg.ShareGroupHeartbeatRequest, client Client, response *kmsg.ShareGroupHeartbeatResponse) *refusal {
	m := g.members[r.MemberID]
	if refused := g.check(m, r); refused != nil {
		return refused
	}
	before := member{id: r.MemberID}
	if m != nil {
		before = *m
	}
	said := before.memberValue
	said.clientID, said.clientHost = client.ID, client.Host
	if r.RackID != nil {
		said.rack = *r.RackID
	}
	if r.SubscribedTopicNames != nil {
		said.topics = names(r.SubscribedTopicNames)
	}
	if m == nil || !said.equal(before.memberValue) {
		g.write(typeShareMember, before.id, said)
	}
	m = g.members[before.id]
	g.look(now, topics, !slices.Equal(said.topics, before.topics))
	if g.targetEpoch < g.epoch {
		g.initialize(topics)
		g.retarget(topics, assignSimple)
	}
	if m.epoch != g.targetEpoch {
		v := m.at(g.targetEpoch)
		v.assigned = map[Partition]int32{}
		for _, p := range m.target {
			v.assigned[p] = g.targetEpoch
		}
		g.write(typeShareCurrent, m.id, v)
	}
	m.session = now.Add(g.o.SessionTimeout)
	g.soonest(m)

	response.MemberID, response.MemberEpoch = &m.id, m.epoch
	response.HeartbeatIntervalMillis = int32(g.o.HeartbeatInterval.Milliseconds())
	if r.SubscribedTopicNames != nil || !samePartitions(before.assigned, m.assigned) {
		response.Assignment = shareAssignment(m.assigned)
	}
	return nil
}

func (g *ShareGroup) check(m *member, r *kmsg.ShareGroupHeartbeatRequest) *refusal {
	switch {
	case m == nil && r.MemberEpoch != epochJoin:
		return refuse(unknownMemberID, "Member %s is not a member of group %s.", r.MemberID, g.id)
	case m == nil && len(g.members) >= g.o.MaxSize:
		return refuse(groupMaxSizeReached, "The share group has reached its maximum capacity of %d members.", g.o.MaxSize)
	case r.MemberEpoch == epochJoin || r.MemberEpoch == m.epoch:
		return nil
	case r.MemberEpoch > m.epoch:
		return refuse(fencedMemberEpoch, "The share group member has a greater member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", r.MemberEpoch, m.epoch)
	case r.MemberEpoch != m.previousEpoch: // otherwise the answer with the newer one may have been lost
		return refuse(fencedMemberEpoch, "The share group member has a smaller member epoch (%d) than the one known by the group coordinator (%d), and it does not match the previous member epoch (%d). The member must abandon all its partitions and rejoin.", r.MemberEpoch, m.epoch, m.previousEpoch)
	}
	return nil
}

func (g *ShareGroup) leave(r *kmsg.ShareGroupHeartbeatRequest, response *kmsg.ShareGroupHeartbeatResponse) *refusal {
	m := g.members[r.MemberID]
	if m == nil {
		return refuse(unknownMemberID, "Member %s is not a member of group %s.", r.MemberID, g.id)
	}
	g.remove(m)
	response.MemberID, response.MemberEpoch = &m.id, r.MemberEpoch
	return nil
}

// initialize notes what the group begins to consume. Topics that are no more
// are dropped.
func (g *ShareGroup) initialize(topics Topics) {
	now := map[[16]byte]initializedTopic{}
	for _, t := range g.initialized {
		if _, ok := topics.TopicByID(t.id); ok {
			now[t.id] = t
		}
	}
	changed := len(now) < len(g.initialized)
	for _, m := range g.members {
		for id, t := range g.topicsOf(m, topics) {
			known := now[id]
			if len(known.partitions) >= int(t.Partitions) {
				continue
			}
			partitions := make([]int32, t.Partitions)
			for i := range partitions {
				partitions[i] = int32(i)
			}
			now[id] = initializedTopic{id: id, name: t.Name, partitions: partitions}
			changed = true
		}
	}
	if changed {
		g.writeInitialized(now)
	}
}

func (g *ShareGroup) writeInitialized(now map[[16]byte]initializedTopic) {
	ids := make(map[Partition]bool, len(now))
	for id := range now {
		ids[Partition{Topic: id}] = true
	}
	var v shareStateValue
	for _, p := range sorted(ids) {
		v.topics = append(v.topics, now[p.Topic])
	}
	g.write(typeShareState, "", v)
}

// Initialized lists the partitions that the group has ever begun to consume
// and not forgotten since, in order.
func (g *ShareGroup) Initialized() []Partition {
	var all []Partition
	for _, t := range g.initialized {
		for _, p := range t.partitions {
			all = append(all, Partition{Topic: t.id, Index: p})
		}
	}
	slices.SortFunc(all, comparePartitions)
	return all
}

// Forget drops topics from the initialized ones: their offsets in the group
// are deleted.
func (g *ShareGroup) Forget(topics ...[16]byte) []Record {
	left := map[[16]byte]initializedTopic{}
	for _, t := range g.initialized {
		if !slices.Contains(topics, t.id) {
			left[t.id] = t
		}
	}
	if len(left) < len(g.initialized) {
		g.writeInitialized(left)
	}
	return g.take()
}

// Expire fences the members whose session has passed.
func (g *ShareGroup) Expire(now time.Time) ShareResult {
	g.expire(now)
	return g.result(nil)
}

// Deadline is when Expire has to be called, at the latest; zero for never.
func (g *ShareGroup) Deadline() time.Time { return g.wake }

// Changed tells that topics were made, changed or deleted; the next heartbeat
// looks at them.
func (g *ShareGroup) Changed() { g.refresh = time.Time{} }

// Replay applies a record of the group that was read from the log, in order.
// Records of other types, or other groups, are an error.
func (g *ShareGroup) Replay(key, value []byte) error { return g.replay(key, value, isShare) }

// Start is called after the last Replay: members get a whole session timeout
// to be heard of.
func (g *ShareGroup) Start(now time.Time) { g.start(now) }

// State is Empty, Stable or, after Delete, Dead.
func (g *ShareGroup) State() string {
	switch {
	case g.dead:
		return "Dead"
	case len(g.members) == 0:
		return "Empty"
	}
	return "Stable"
}

// Size is the number of members.
func (g *ShareGroup) Size() int { return len(g.members) }

// Pristine tells that nothing is recorded of the group.
func (g *ShareGroup) Pristine() bool { return g.pristine() }

// Subscribed tells whether any member subscribes to the topic.
func (g *ShareGroup) Subscribed(topic string) bool { return g.subscribed(topic) }

// Delete ends the group and returns the tombstones of all that was recorded of
// it. Only an Empty group may be deleted.
func (g *ShareGroup) Delete() []Record { return g.delete() }

// SetOptions changes settings; they hold from each member's next heartbeat on.
func (g *ShareGroup) SetOptions(o Options) { g.o = o.withDefaults(maxShareGroup) }

func shareAssignment(assigned map[Partition]int32) *kmsg.ShareGroupHeartbeatResponseAssignment {
	a := kmsg.NewShareGroupHeartbeatResponseAssignment()
	a.TopicPartitions = []kmsg.ShareGroupHeartbeatResponseAssignmentTopicPartition{}
	for _, t := range byTopic(sorted(assigned)) {
		topic := kmsg.NewShareGroupHeartbeatResponseAssignmentTopicPartition()
		topic.TopicID, topic.Partitions = t.id, t.partitions
		a.TopicPartitions = append(a.TopicPartitions, topic)
	}
	return &a
}
