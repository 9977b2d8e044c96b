package classic

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Sync answers SyncGroup 0–5, perhaps later.
func (g *Group) Sync(now time.Time, q *kmsg.SyncGroupRequest, t Ticket) (r Result) {
	m := g.members[q.MemberID]
	code := g.checkMember(m, q.MemberID, q.InstanceID)
	switch {
	case code != codeNone:
	case q.Generation != g.generation:
		code = codeIllegalGeneration
	case q.ProtocolType != nil && *q.ProtocolType != g.protocolType, q.Protocol != nil && *q.Protocol != g.protocol:
		code = codeInconsistentGroupProtocol
	case g.state == PreparingRebalance:
		code = codeRebalanceInProgress
	case g.state != CompletingRebalance && g.state != Stable:
		code = codeUnknownMemberID
	}
	if code != codeNone {
		r.answer(t, refuseSync(q, code))
		return r
	}
	m.heard, m.synced = now, true
	if g.state == Stable {
		r.answer(t, g.assigned(m, q))
		return r
	}
	if m.sync != nil {
		r.answer(m.sync.ticket, refuseSync(m.sync.request.(*kmsg.SyncGroupRequest), codeRebalanceInProgress))
	}
	m.sync = &waiting{t, q.Version, q}
	if m.id != g.leader {
		return r
	}
	for _, a := range q.GroupAssignment {
		if o := g.members[a.MemberID]; o != nil {
			o.assignment = append([]byte{}, a.MemberAssignment...)
		}
	}
	g.become(Stable, now)
	g.until = time.Time{}
	r.Changed = true
	for _, o := range g.inOrder() {
		if o.sync != nil {
			r.answer(o.sync.ticket, g.assigned(o, o.sync.request.(*kmsg.SyncGroupRequest)))
			o.sync, o.heard = nil, now
		}
	}
	return r
}

func (g *Group) assigned(m *member, q *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	a := q.ResponseKind().(*kmsg.SyncGroupResponse)
	protocolType, protocol := g.protocolType, g.protocol
	a.ProtocolType, a.Protocol = &protocolType, &protocol
	a.MemberAssignment = append([]byte{}, m.assignment...)
	return a
}

// Heartbeat answers Heartbeat 0–4.
func (g *Group) Heartbeat(now time.Time, q *kmsg.HeartbeatRequest) (code int16) {
	m := g.members[q.MemberID]
	if code = g.checkMember(m, q.MemberID, q.InstanceID); code != codeNone {
		return code
	}
	switch {
	case q.Generation != g.generation:
		return codeIllegalGeneration
	case g.state == Empty || g.state == Dead:
		return codeUnknownMemberID
	}
	m.heard = now
	if g.state == PreparingRebalance {
		return codeRebalanceInProgress
	}
	return codeNone
}

// CheckCommit says whether a member, or nobody in particular, may commit
// offsets: 0, or the error code. It counts as a heartbeat.
func (g *Group) CheckCommit(now time.Time, memberID string, instance *string, generation int32, transactional bool) int16 {
	if generation < 0 && memberID == "" && instance == nil {
		if g.state != Empty && !transactional {
			return codeUnknownMemberID // members hold the partitions
		}
		return codeNone
	}
	m := g.members[memberID]
	if code := g.checkMember(m, memberID, instance); code != codeNone {
		return code
	}
	switch {
	case generation != g.generation:
		return codeIllegalGeneration
	case g.state == CompletingRebalance && !transactional:
		return codeRebalanceInProgress
	}
	m.heard = now
	return codeNone
}

// Leave answers LeaveGroup 0–5 for each of the members.
func (g *Group) Leave(now time.Time, members []kmsg.LeaveGroupRequestMember) (codes []kmsg.LeaveGroupResponseMember, r Result) {
	gone := false
	for _, l := range members {
		a := kmsg.NewLeaveGroupResponseMember()
		a.MemberID, a.InstanceID = l.MemberID, l.InstanceID
		id := l.MemberID
		if l.InstanceID != nil && id == "" {
			id = g.static[*l.InstanceID]
		}
		if _, waits := g.pending[id]; waits && id != "" && l.InstanceID == nil {
			delete(g.pending, id)
			gone = true
			codes = append(codes, a)
			continue
		}
		m := g.members[id]
		if a.ErrorCode = g.checkMember(m, id, l.InstanceID); a.ErrorCode == codeNone {
			g.remove(m, &r, codeUnknownMemberID)
			gone = true
		}
		codes = append(codes, a)
	}
	if gone {
		g.memberLeft(now, &r)
	}
	return codes, r
}

// Close ends an empty group.
func (g *Group) Close(now time.Time) { g.become(Dead, now) }

// Describe answers DescribeGroups 0–6.
func (g *Group) Describe() kmsg.DescribeGroupsResponseGroup {
	a := kmsg.NewDescribeGroupsResponseGroup()
	a.Group, a.State, a.ProtocolType = g.id, g.state, g.protocolType
	if g.state == Stable {
		a.Protocol = g.protocol
	}
	a.Members = []kmsg.DescribeGroupsResponseGroupMember{}
	for _, m := range g.inOrder() {
		x := kmsg.NewDescribeGroupsResponseGroupMember()
		x.MemberID, x.InstanceID, x.ClientID, x.ClientHost = m.id, m.instance, m.client.ID, m.client.Host
		x.ProtocolMetadata, x.MemberAssignment = []byte{}, []byte{}
		if g.state == Stable {
			x.ProtocolMetadata = append(x.ProtocolMetadata, m.metadata(g.protocol)...)
			x.MemberAssignment = append(x.MemberAssignment, m.assignment...)
		}
		a.Members = append(a.Members, x)
	}
	return a
}

// Subscribed says whether any member's subscription names a topic.
func (g *Group) Subscribed(topic string) bool {
	if g.protocolType != "consumer" {
		return len(g.members) > 0 // whoever knows what these consume
	}
	for _, m := range g.members {
		for _, p := range m.protocols {
			var s kmsg.ConsumerMemberMetadata
			if s.ReadFrom(p.Metadata) != nil || slices.Contains(s.Topics, topic) {
				return true
			}
		}
	}
	return false
}

// recordVersion is what Kafka writes.
const recordVersion = 3

// Record is the group as __consumer_offsets has it.
func (g *Group) Record() kmsg.GroupMetadataValue {
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Generation = recordVersion, g.protocolType, g.generation
	v.CurrentStateTimestamp = g.changedAt.UnixMilli()
	if g.protocol != "" {
		v.Protocol = &g.protocol
	}
	if g.leader != "" {
		v.Leader = &g.leader
	}
	for _, m := range g.inOrder() {
		x := kmsg.NewGroupMetadataValueMember()
		x.MemberID, x.InstanceID, x.ClientID, x.ClientHost = m.id, m.instance, m.client.ID, m.client.Host
		x.SessionTimeoutMillis, x.RebalanceTimeoutMillis = int32(m.session.Milliseconds()), int32(m.rebalance.Milliseconds())
		x.Subscription, x.Assignment = m.metadata(g.protocol), m.assignment
		if x.Subscription == nil {
			x.Subscription = []byte{}
		}
		if x.Assignment == nil {
			x.Assignment = []byte{}
		}
		v.Members = append(v.Members, x)
	}
	return v
}

// Restore makes the group what a record says; members get a whole session
// timeout from now to be heard of.
func (g *Group) Restore(v *kmsg.GroupMetadataValue, now time.Time) {
	*g = *New(g.id, g.o)
	g.protocolType, g.generation, g.changedAt = v.ProtocolType, v.Generation, time.UnixMilli(v.CurrentStateTimestamp)
	if v.CurrentStateTimestamp <= 0 {
		g.changedAt = now
	}
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	for i := range v.Members {
		x := &v.Members[i]
		g.joined++
		m := &member{
			id: x.MemberID, instance: x.InstanceID, client: Client{x.ClientID, x.ClientHost},
			session: milliseconds(x.SessionTimeoutMillis), rebalance: milliseconds(x.RebalanceTimeoutMillis),
			protocols:  []kmsg.JoinGroupRequestProtocol{{Name: g.protocol, Metadata: slices.Clone(x.Subscription)}},
			assignment: slices.Clone(x.Assignment), heard: now, joinedAt: g.joined, synced: true,
		}
		g.members[m.id] = m
		if m.instance != nil {
			g.static[*m.instance] = m.id
		}
	}
	if len(g.members) > 0 {
		g.state = Stable
	}
}
