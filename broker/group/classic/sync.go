package classic

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Sync answers SyncGroup 0–5, perhaps later.
func (g *Group) Sync(now time.Time, q *kmsg.SyncGroupRequest, t Ticket) (r Result) {
	m, code := g.checkMember(q.MemberID, q.InstanceID)
	switch {
	case code != codeNone:
	case !g.isGeneration(m, q.Generation):
		code = codeIllegalGeneration
	case q.ProtocolType != nil && *q.ProtocolType != g.protocolType, q.Protocol != nil && *q.Protocol != g.protocol:
		code = codeInconsistentGroupProtocol
	case g.state == PreparingRebalance:
		code = codeRebalanceInProgress
	case g.state != CompletingRebalance && g.state != Stable:
		code = codeUnknownMemberID
	}
	if code != codeNone {
		r.answer(t, RefuseSync(q, code))
		return r
	}
	if !m.synced {
		m.synced = true
		g.unsynced--
	}
	if g.state == Stable {
		g.stableSynced()
		g.listen(m, now)
		r.answer(t, g.assigned(m, q))
		return r
	}
	if m.sync != nil { // it asks again, perhaps on another connection
		r.answer(m.sync.ticket, RefuseSync(m.sync.request.(*kmsg.SyncGroupRequest), codeRebalanceInProgress))
	}
	m.sync = &waiting{t, q}
	if m.id == g.leader {
		g.assign(now, q, &r)
	}
	return r
}

// assign makes the group stable with what the leader has assigned.
func (g *Group) assign(now time.Time, q *kmsg.SyncGroupRequest, r *Result) {
	for _, a := range q.GroupAssignment {
		if m := g.members[a.MemberID]; m != nil {
			m.assignment = append([]byte{}, a.MemberAssignment...)
		}
	}
	for _, m := range g.members {
		m.last = m.assignment
	}
	g.become(Stable, now)
	g.stableSynced()
	r.Changed = true
	for _, m := range g.inOrder() {
		if w := m.sync; w != nil {
			r.answer(w.ticket, g.assigned(m, w.request.(*kmsg.SyncGroupRequest)))
			m.sync = nil
			g.listen(m, now)
		}
	}
}

// stableSynced ends the wait for SyncGroup of all members, if all have sent it.
func (g *Group) stableSynced() {
	if g.unsynced == 0 {
		g.until = time.Time{}
	}
}

func (g *Group) assigned(m *member, q *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	a := q.ResponseKind().(*kmsg.SyncGroupResponse)
	protocolType, protocol := g.protocolType, g.protocol
	a.ProtocolType, a.Protocol = &protocolType, &protocol
	a.MemberAssignment = append([]byte{}, m.assignment...)
	return a
}

// RefuseSync is the answer to a sync that is refused.
func RefuseSync(q *kmsg.SyncGroupRequest, code int16) *kmsg.SyncGroupResponse {
	a := q.ResponseKind().(*kmsg.SyncGroupResponse)
	a.ErrorCode, a.MemberAssignment = code, []byte{}
	return a
}

// Heartbeat answers Heartbeat 0–4.
func (g *Group) Heartbeat(now time.Time, q *kmsg.HeartbeatRequest) (code int16) {
	m, code := g.checkMember(q.MemberID, q.InstanceID)
	switch {
	case code != codeNone:
		return code
	case !g.isGeneration(m, q.Generation):
		return codeIllegalGeneration
	}
	g.listen(m, now)
	if g.state == PreparingRebalance {
		return codeRebalanceInProgress
	}
	return codeNone
}

// CheckCommit says whether a member, or nobody in particular, may commit
// offsets: 0, or the error code. Unless it is transactional it counts as a
// heartbeat.
func (g *Group) CheckCommit(now time.Time, memberID string, instance *string, generation int32, transactional bool) int16 {
	if generation < 0 && g.state == Empty {
		return codeNone // by an administrator, or a consumer that assigns itself
	}
	if generation < 0 && memberID == "" && instance == nil {
		if transactional {
			return codeNone // by a producer that tells nothing of its group
		}
		return codeUnknownMemberID // members hold the partitions
	}
	m, code := g.checkMember(memberID, instance)
	switch {
	case code != codeNone:
		return code
	case !g.isGeneration(m, generation):
		return codeIllegalGeneration
	case transactional:
		return codeNone
	case g.state == CompletingRebalance:
		return codeRebalanceInProgress
	}
	g.listen(m, now)
	return codeNone
}

// Leave answers LeaveGroup 0–5 for each of the members.
func (g *Group) Leave(now time.Time, members []kmsg.LeaveGroupRequestMember) (answers []kmsg.LeaveGroupResponseMember, r Result) {
	left := false
	for _, l := range members {
		a := kmsg.NewLeaveGroupResponseMember()
		a.MemberID, a.InstanceID = l.MemberID, l.InstanceID
		if a.ErrorCode = g.leave(l, &r); a.ErrorCode == codeNone {
			left = true
		}
		answers = append(answers, a)
	}
	if left {
		g.memberLeft(now, &r)
	}
	return answers, r
}

func (g *Group) leave(l kmsg.LeaveGroupRequestMember, r *Result) (code int16) {
	id := l.MemberID
	if id == "" && l.InstanceID != nil { // an administrator, who does not know the member's id
		id = g.static[*l.InstanceID]
	}
	if _, waits := g.pending[id]; waits {
		delete(g.pending, id)
		return codeNone
	}
	m, code := g.checkMember(id, l.InstanceID)
	if code == codeNone {
		g.remove(m, r, codeUnknownMemberID)
	}
	return code
}
