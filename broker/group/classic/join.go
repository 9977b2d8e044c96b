package classic

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Join answers JoinGroup 0–9, perhaps later.
func (g *Group) Join(now time.Time, q *kmsg.JoinGroupRequest, c Client, t Ticket) (r Result) {
	session := milliseconds(q.SessionTimeoutMillis)
	code := codeNone
	switch {
	case session < g.o.MinSessionTimeout || session > g.o.MaxSessionTimeout:
		code = codeInvalidSessionTimeout
	case !g.admits(q):
		code = codeGroupMaxSizeReached
		if m := g.members[q.MemberID]; m != nil {
			g.remove(m, &r, code)
			g.maybeComplete(now, &r)
		}
	case !g.supports(q.ProtocolType, q.Protocols):
		code = codeInconsistentGroupProtocol
	}
	switch {
	case code != codeNone:
		r.answer(t, RefuseJoin(q, code, q.MemberID))
	case q.MemberID == "":
		g.joinNew(now, q, c, t, &r)
	default:
		g.joinKnown(now, q, c, t, &r)
	}
	return r
}

// admits says whether there is room for who joins. Those who wait in JoinGroup
// are counted while a rebalance is being prepared, so that the last to come
// back stay outside if there were too many.
func (g *Group) admits(q *kmsg.JoinGroupRequest) bool {
	m := g.members[q.MemberID]
	if q.MemberID == "" && q.InstanceID != nil {
		m = g.members[g.static[*q.InstanceID]] // whose place it takes
	}
	switch g.state {
	case PreparingRebalance:
		return m != nil && m.join != nil || g.awaiting < g.o.MaxSize
	case CompletingRebalance, Stable:
		return m != nil || len(g.members) < g.o.MaxSize
	}
	return true
}

// joinNew is the join of a client without a member id.
func (g *Group) joinNew(now time.Time, q *kmsg.JoinGroupRequest, c Client, t Ticket, r *Result) {
	if q.InstanceID != nil {
		if old := g.members[g.static[*q.InstanceID]]; old != nil {
			g.replace(now, old, q, c, t, r)
		} else {
			g.add(now, g.o.NewMemberID(*q.InstanceID), q, c, t, r)
		}
		return
	}
	switch id := g.o.NewMemberID(c.ID); {
	case q.Version < 4:
		g.add(now, id, q, c, t, r)
	case len(g.pending) >= g.o.MaxSize:
		r.answer(t, RefuseJoin(q, codeGroupMaxSizeReached, ""))
	default:
		// KIP-394: the id first, so that a client that retries is not two members.
		g.pending[id] = now.Add(milliseconds(q.SessionTimeoutMillis))
		g.wakeBy(g.pending[id])
		r.answer(t, RefuseJoin(q, codeMemberIDRequired, id))
	}
}

// joinKnown is the join of a client with a member id.
func (g *Group) joinKnown(now time.Time, q *kmsg.JoinGroupRequest, c Client, t Ticket, r *Result) {
	if _, waits := g.pending[q.MemberID]; waits && q.InstanceID == nil {
		delete(g.pending, q.MemberID)
		g.add(now, q.MemberID, q, c, t, r)
		return
	}
	m, code := g.checkMember(q.MemberID, q.InstanceID)
	if code != codeNone {
		r.answer(t, RefuseJoin(q, code, q.MemberID))
		return
	}
	rejoins := true
	switch g.state {
	case CompletingRebalance:
		rejoins = !same(m.protocols, q.Protocols) // else the answer was lost
	case Stable:
		// A leader wants to assign anew, whatever has changed.
		rejoins = m.id == g.leader || !same(m.protocols, q.Protocols)
	}
	if !rejoins {
		g.listen(m, now)
		r.answer(t, g.generationFor(m, q, false))
		return
	}
	g.update(m, q, c)
	g.await(now, m, q, t, r)
	g.rebalance(now, r)
}

// rebalance begins a rebalance, or completes the one that is under way.
func (g *Group) rebalance(now time.Time, r *Result) {
	if g.state == PreparingRebalance {
		g.maybeComplete(now, r)
	} else {
		g.prepare(now, r)
	}
}

// add makes a member and has it wait for the next generation.
func (g *Group) add(now time.Time, id string, q *kmsg.JoinGroupRequest, c Client, t Ticket, r *Result) {
	if len(g.members) == 0 {
		g.protocolType = q.ProtocolType
	}
	g.joins++
	m := &member{id: id, instance: q.InstanceID, order: g.joins, isNew: true, synced: true}
	g.members[id] = m
	if q.InstanceID != nil {
		g.static[*q.InstanceID] = id
	}
	g.update(m, q, c)
	g.await(now, m, q, t, r)
	g.fresh = true
	g.rebalance(now, r)
}

// update takes over what a member says of itself.
func (g *Group) update(m *member, q *kmsg.JoinGroupRequest, c Client) {
	m.client = c
	m.session, m.rebalance = milliseconds(q.SessionTimeoutMillis), min(milliseconds(q.RebalanceTimeoutMillis), maxTimeout)
	if q.Version == 0 {
		m.rebalance = m.session
	}
	g.count(m.protocols, -1)
	m.protocols = cloned(q.Protocols)
	g.count(m.protocols, 1)
	g.topics = nil
}

// await has a member wait for the next generation.
func (g *Group) await(now time.Time, m *member, q *kmsg.JoinGroupRequest, t Ticket, r *Result) {
	if m.join != nil { // it asks again, perhaps on another connection
		r.answer(m.join.ticket, RefuseJoin(m.join.request.(*kmsg.JoinGroupRequest), codeRebalanceInProgress, m.id))
		g.awaiting--
	}
	m.join = &waiting{t, q}
	g.awaiting++
	g.listen(m, now)
}

// replace gives a static member's place to a new one of the same instance
// (KIP-345). The old one, if it is still there, is fenced. In a stable group
// whose protocol that does not change nobody else notices.
func (g *Group) replace(now time.Time, m *member, q *kmsg.JoinGroupRequest, c Client, t Ticket, r *Result) {
	g.refuseWaiting(m, r, codeFencedInstanceID)
	was := m.id
	delete(g.members, was)
	m.id = g.o.NewMemberID(*q.InstanceID)
	g.members[m.id], g.static[*q.InstanceID] = m, m.id
	leads := g.leader == was
	if leads {
		g.leader = m.id
	}
	g.update(m, q, c)
	if g.state != Stable || g.vote(g.inOrder()) != g.protocol {
		// While a rebalance completes, the leader may have been told the old id.
		g.await(now, m, q, t, r)
		g.rebalance(now, r)
		return
	}
	g.listen(m, now)
	a := g.generationFor(m, q, leads && q.Version >= 9) // KIP-814: it may see what there is, and does not assign
	if leads && q.Version < 9 {
		// It takes the one before it for the leader, so that it does not assign.
		a.LeaderID, a.Members = was, []kmsg.JoinGroupResponseMember{}
	}
	r.answer(t, a)
	r.Changed = true
}

// generationFor answers a join with the present generation.
func (g *Group) generationFor(m *member, q *kmsg.JoinGroupRequest, skip bool) *kmsg.JoinGroupResponse {
	a := q.ResponseKind().(*kmsg.JoinGroupResponse)
	a.Generation, a.LeaderID, a.MemberID, a.SkipAssignment = g.generation, g.leader, m.id, skip
	protocolType, protocol := g.protocolType, g.protocol
	a.ProtocolType, a.Protocol = &protocolType, &protocol
	a.Members = []kmsg.JoinGroupResponseMember{}
	if g.leader == m.id {
		for _, o := range g.inOrder() {
			x := kmsg.NewJoinGroupResponseMember()
			x.MemberID, x.InstanceID, x.ProtocolMetadata = o.id, o.instance, o.metadata(g.protocol)
			a.Members = append(a.Members, x)
		}
	}
	return a
}

// RefuseJoin is the answer to a join that is refused.
func RefuseJoin(q *kmsg.JoinGroupRequest, code int16, memberID string) *kmsg.JoinGroupResponse {
	a := q.ResponseKind().(*kmsg.JoinGroupResponse)
	a.ErrorCode, a.Generation, a.MemberID = code, -1, memberID
	a.Members = []kmsg.JoinGroupResponseMember{}
	if q.Version < 7 {
		none := ""
		a.Protocol = &none
	}
	return a
}

// metadata is what a member says under a protocol.
func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return []byte{}
}

func same(a, b []kmsg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(a, b, func(x, y kmsg.JoinGroupRequestProtocol) bool {
		return x.Name == y.Name && bytes.Equal(x.Metadata, y.Metadata)
	})
}

// cloned are protocols without the request's bytes, each name once.
func cloned(list []kmsg.JoinGroupRequestProtocol) []kmsg.JoinGroupRequestProtocol {
	kept := make([]kmsg.JoinGroupRequestProtocol, 0, len(list))
	named := make(map[string]bool, len(list))
	for _, p := range list {
		if !named[p.Name] {
			named[p.Name] = true
			kept = append(kept, kmsg.JoinGroupRequestProtocol{Name: p.Name, Metadata: append([]byte{}, p.Metadata...)})
		}
	}
	return kept
}
