package classic

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// memberLeft goes on without one or some.
func (g *Group) memberLeft(now time.Time, r *Result) {
	switch g.state {
	case Stable, CompletingRebalance:
		g.prepare(now, r)
	case PreparingRebalance:
		g.maybeComplete(now, r)
	}
}

// HungUp tells that nobody waits for the answer of a ticket any more: the
// connection that asked has ended. The member has to be heard of within its
// session from now on; one that has not been told its id is gone. (Kafka counts
// it among those who have joined, and its session from the next generation on.)
func (g *Group) HungUp(now time.Time, t Ticket) (r Result) {
	for _, m := range g.members {
		switch {
		case m.join != nil && m.join.ticket == t:
			knows := m.join.request.(*kmsg.JoinGroupRequest).MemberID != "" || m.instance != nil
			m.join = nil
			g.awaiting--
			if !knows && m.isNew {
				g.remove(m, &r, codeUnknownMemberID)
				g.memberLeft(now, &r)
				return r
			}
			m.isNew = false
			g.listen(m, now)
			return r
		case m.sync != nil && m.sync.ticket == t:
			m.sync = nil
			g.listen(m, now)
			return r
		}
	}
	return r
}

// prepare begins a rebalance.
func (g *Group) prepare(now time.Time, r *Result) {
	for _, m := range g.members {
		if m.sync != nil {
			r.answer(m.sync.ticket, RefuseSync(m.sync.request.(*kmsg.SyncGroupRequest), codeRebalanceInProgress))
			m.sync = nil
			g.listen(m, now)
		}
		m.assignment = nil
	}
	g.unsynced = 0
	g.initial = g.state == Empty
	g.become(PreparingRebalance, now)
	timeout := g.rebalanceTimeout()
	if !g.initial {
		g.stepUntil(now.Add(timeout))
		g.maybeComplete(now, r)
		return
	}
	delay := min(g.o.InitialDelay, timeout)
	g.remaining, g.fresh = timeout-delay, false
	g.stepUntil(now.Add(delay))
	if delay == 0 {
		g.completeJoin(now, r)
	}
}

func (g *Group) stepUntil(t time.Time) {
	g.until = t
	g.wakeBy(t)
}

// stepEnds is called when a step of a rebalance has taken as long as it may.
func (g *Group) stepEnds(now time.Time, r *Result) {
	if g.state == PreparingRebalance {
		if g.initial && g.fresh && g.remaining > 0 { // members keep coming
			delay := min(g.o.InitialDelay, g.remaining)
			g.remaining, g.fresh = g.remaining-delay, false
			g.stepUntil(now.Add(delay))
			return
		}
		g.completeJoin(now, r)
		return
	}
	// Some have not asked for their assignment, which others may have already.
	for _, m := range g.inOrder() {
		if !m.synced {
			g.remove(m, r, codeUnknownMemberID)
		}
	}
	g.prepare(now, r)
}

func (g *Group) rebalanceTimeout() (longest time.Duration) {
	for _, m := range g.members {
		longest = max(longest, m.rebalance)
	}
	return longest
}

// maybeComplete ends a wait for members if there is nobody left to wait for.
func (g *Group) maybeComplete(now time.Time, r *Result) {
	if g.state == PreparingRebalance && !g.initial && len(g.pending) == 0 && g.awaiting == len(g.members) {
		g.completeJoin(now, r)
	}
}

// completeJoin begins a generation with those who have joined, and the static
// members who may still come.
func (g *Group) completeJoin(now time.Time, r *Result) {
	members := g.inOrder()
	for _, m := range members {
		if m.join == nil && m.instance == nil {
			g.remove(m, r, codeUnknownMemberID)
		}
	}
	if len(g.members) == 0 {
		g.generation++
		g.become(Empty, now)
		g.until, g.initial = time.Time{}, false
		g.leader, g.protocol = "", ""
		r.Changed = true
		return
	}
	if !g.elect(members) {
		// Only static members are left, and none of them has joined: until one
		// does, or their sessions end.
		g.stepUntil(now.Add(max(g.rebalanceTimeout(), time.Second)))
		return
	}
	g.initial = false
	g.generation++
	g.behind = nil
	g.protocol = g.vote(members)
	g.become(CompletingRebalance, now)
	g.stepUntil(now.Add(g.rebalanceTimeout()))
	g.unsynced = len(g.members)
	for _, m := range members {
		if g.members[m.id] != m {
			continue
		}
		m.isNew, m.synced, m.assignment = false, false, nil
		if w := m.join; w != nil {
			r.answer(w.ticket, g.generationFor(m, w.request.(*kmsg.JoinGroupRequest), false))
			m.join = nil
			g.awaiting--
		}
		g.listen(m, now)
	}
}

// elect keeps the leader, if it has joined, or takes the first that has.
func (g *Group) elect(inOrder []*member) bool {
	if l := g.members[g.leader]; l != nil && l.join != nil {
		return true
	}
	for _, m := range inOrder {
		if m.join != nil && g.members[m.id] == m {
			g.leader = m.id
			return true
		}
	}
	return false
}

// vote selects the protocol that most members like best of those that all have;
// among equals, that of those who came first.
func (g *Group) vote(inOrder []*member) string {
	votes := map[string]int{}
	best := ""
	for _, m := range inOrder {
		for _, p := range m.protocols {
			if g.members[m.id] != m || g.supported[p.Name] < len(g.members) {
				continue
			}
			if votes[p.Name]++; best == "" || votes[p.Name] > votes[best] {
				best = p.Name
			}
			break
		}
	}
	return best
}

// count notes that one more member, or one fewer, has these protocols.
func (g *Group) count(protocols []kmsg.JoinGroupRequestProtocol, by int) {
	for _, p := range protocols {
		if g.supported[p.Name] += by; g.supported[p.Name] == 0 {
			delete(g.supported, p.Name)
		}
	}
}

// supports says whether a member with these protocols fits the others.
func (g *Group) supports(protocolType string, protocols []kmsg.JoinGroupRequestProtocol) bool {
	if g.state == Empty {
		return protocolType != "" && len(protocols) > 0
	}
	if protocolType != g.protocolType {
		return false
	}
	for _, p := range protocols {
		if g.supported[p.Name] == len(g.members) {
			return true
		}
	}
	return false
}

// Failed tells that the group's record could not be written, after all: the
// members join again. An empty group has lost nothing by it.
func (g *Group) Failed(now time.Time) (r Result) {
	if g.state == CompletingRebalance || g.state == Stable {
		g.prepare(now, &r)
	}
	return r
}
