package classic

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Join answers JoinGroup 0–9, perhaps later.
func (g *Group) Join(now time.Time, q *kmsg.JoinGroupRequest, c Client, t Ticket) (r Result) {
	if q.Version == 0 {
		q.RebalanceTimeoutMillis = q.SessionTimeoutMillis
	}
	switch session := milliseconds(q.SessionTimeoutMillis); {
	case session < g.o.MinSessionTimeout || session > g.o.MaxSessionTimeout:
		r.answer(t, refuseJoin(q, codeInvalidSessionTimeout, q.MemberID))
		return r
	case g.state == Dead:
		r.answer(t, refuseJoin(q, codeUnknownMemberID, q.MemberID))
		return r
	}
	if q.MemberID == "" {
		g.joinNew(now, q, c, t, &r)
	} else {
		g.joinKnown(now, q, c, t, &r)
	}
	return r
}

// joinNew is the join of a client without a member id.
func (g *Group) joinNew(now time.Time, q *kmsg.JoinGroupRequest, c Client, t Ticket, r *Result) {
	var old *member
	if q.InstanceID != nil {
		old = g.members[g.static[*q.InstanceID]]
	}
	switch {
	case !g.supports(q.ProtocolType, q.Protocols, old):
		r.answer(t, refuseJoin(q, codeInconsistentGroupProtocol, ""))
	case old != nil:
		g.replace(now, old, q, c, t, r)
	case len(g.members)+len(g.pending) >= g.o.MaxSize:
		r.answer(t, refuseJoin(q, codeGroupMaxSizeReached, ""))
	case q.InstanceID == nil && q.Version >= 4:
		// KIP-394: the id first, so that a client that retries is not two members.
		id := g.o.NewMemberID(c.ID)
		g.pending[id] = now.Add(milliseconds(q.SessionTimeoutMillis))
		r.answer(t, refuseJoin(q, codeMemberIDRequired, id))
	default:
		prefix := c.ID
		if q.InstanceID != nil {
			prefix = *q.InstanceID
		}
		g.add(now, g.o.NewMemberID(prefix), q, c, t, r)
	}
}

// joinKnown is the join of a client with a member id.
func (g *Group) joinKnown(now time.Time, q *kmsg.JoinGroupRequest, c Client, t Ticket, r *Result) {
	m := g.members[q.MemberID]
	_, waits := g.pending[q.MemberID]
	if code := g.checkMember(m, q.MemberID, q.InstanceID); code != codeNone && !(waits && code == codeUnknownMemberID) {
		r.answer(t, refuseJoin(q, code, q.MemberID))
		return
	}
	if !g.supports(q.ProtocolType, q.Protocols, m) {
		r.answer(t, refuseJoin(q, codeInconsistentGroupProtocol, q.MemberID))
		return
	}
	if m == nil {
		delete(g.pending, q.MemberID)
		g.add(now, q.MemberID, q, c, t, r)
		return
	}
	switch g.state {
	case PreparingRebalance:
		g.update(now, m, q, c, t, r)
		g.maybeComplete(now, r)
	case CompletingRebalance:
		if same(m.protocols, q.Protocols) {
			// The answer was lost: it gets it again.
			m.heard = now
			r.answer(t, g.generationFor(m, q, false))
			return
		}
		g.update(now, m, q, c, t, r)
		g.prepare(now, r)
	case Stable:
		if m.id != g.leader && same(m.protocols, q.Protocols) {
			m.heard = now
			r.answer(t, g.generationFor(m, q, false))
			return
		}
		g.update(now, m, q, c, t, r)
		g.prepare(now, r)
	default:
		r.answer(t, refuseJoin(q, codeUnknownMemberID, q.MemberID))
	}
}

// checkMember says whether id, perhaps of a static member, is one of the group.
func (g *Group) checkMember(m *member, id string, instance *string) int16 {
	if instance != nil {
		switch current, known := g.static[*instance]; {
		case !known:
			return codeUnknownMemberID
		case current != id:
			return codeFencedInstanceID
		}
	}
	if m == nil {
		return codeUnknownMemberID
	}
	return codeNone
}

// add makes a member and has it wait for the next generation.
func (g *Group) add(now time.Time, id string, q *kmsg.JoinGroupRequest, c Client, t Ticket, r *Result) {
	m := &member{id: id, instance: q.InstanceID}
	if len(g.members) == 0 {
		g.protocolType = q.ProtocolType
	}
	g.members[id] = m
	if q.InstanceID != nil {
		g.static[*q.InstanceID] = id
	}
	g.update(now, m, q, c, t, r)
	g.fresh = true
	switch g.state {
	case PreparingRebalance:
		g.maybeComplete(now, r)
	default:
		g.prepare(now, r)
	}
}

// update has a member wait for the next generation, as it is now.
func (g *Group) update(now time.Time, m *member, q *kmsg.JoinGroupRequest, c Client, t Ticket, r *Result) {
	if m.join != nil { // it asks again, perhaps on another connection
		r.answer(m.join.ticket, refuseJoin(m.join.request.(*kmsg.JoinGroupRequest), codeRebalanceInProgress, m.id))
	}
	m.client, m.heard = c, now
	m.session = milliseconds(q.SessionTimeoutMillis)
	m.rebalance = min(max(milliseconds(q.RebalanceTimeoutMillis), 0), maxTimeout)
	m.protocols = cloneProtocols(q.Protocols)
	m.join, m.joining = &waiting{t, q.Version, q}, true
	g.joined++
	if m.joinedAt == 0 {
		m.joinedAt = g.joined
	}
}

// replace gives a static member's place to a new one of the same instance
// (KIP-345). The old one, if it is still there, is fenced. In a stable group
// whose protocol that does not change nobody else notices.
func (g *Group) replace(now time.Time, old *member, q *kmsg.JoinGroupRequest, c Client, t Ticket, r *Result) {
	g.refuseWaiting(old, r, codeFencedInstanceID)
	was := old.id
	id := g.o.NewMemberID(*q.InstanceID)
	delete(g.members, was)
	unchanged := same(old.protocols, q.Protocols)
	m := old
	m.id = id
	g.members[id], g.static[*q.InstanceID] = m, id
	led := g.leader == was
	if led {
		g.leader = id
	}
	assignment, synced := m.assignment, m.synced
	g.update(now, m, q, c, t, r)
	if g.state != Stable {
		if g.state == PreparingRebalance {
			g.maybeComplete(now, r)
		} else {
			g.prepare(now, r)
		}
		return
	}
	if g.vote() != g.protocol || !unchanged && led {
		g.prepare(now, r)
		return
	}
	m.join, m.joining = nil, false
	m.assignment, m.synced = assignment, synced
	a := g.generationFor(m, q, led && q.Version >= 9)
	if led && q.Version < 9 {
		// It is not to assign: it is told that the one before it leads.
		a.LeaderID, a.Members = was, []kmsg.JoinGroupResponseMember{}
	}
	r.answer(t, a)
	r.Changed = true
}

func same(a, b []kmsg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(a, b, func(x, y kmsg.JoinGroupRequestProtocol) bool {
		return x.Name == y.Name && bytes.Equal(x.Metadata, y.Metadata)
	})
}

func cloneProtocols(list []kmsg.JoinGroupRequestProtocol) []kmsg.JoinGroupRequestProtocol {
	c := make([]kmsg.JoinGroupRequestProtocol, len(list))
	for i := range list {
		c[i].Name, c[i].Metadata = list[i].Name, append([]byte{}, list[i].Metadata...)
	}
	return c
}
