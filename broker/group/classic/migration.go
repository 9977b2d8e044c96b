package classic

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Member is what whoever takes a group over to another protocol has to know of
// one of its members.
type Member struct {
	ID                 string
	Instance           *string
	Client             Client
	Session, Rebalance time.Duration
	Protocols          []kmsg.JoinGroupRequestProtocol
	// Assignment is what it was assigned last, which it may have still: one that
	// rebalances cooperatively keeps it while it joins.
	Assignment []byte
}

// Generation is that of the last assignment, or of the one to come.
func (g *Group) Generation() int32 { return g.generation }

// Members are those who know that they are, in the order in which they came.
func (g *Group) Members() (all []Member) {
	for _, m := range g.inOrder() {
		if !m.isNew {
			all = append(all, Member{m.id, m.instance, m.client, m.session, m.rebalance, m.protocols, m.last})
		}
	}
	return all
}

// Behind tells that members who come from another protocol take another number for
// the generation. As long as the group waits for them they keep what they have:
// they are told to join, and may commit.
func (g *Group) Behind(generations map[string]int32) { g.behind = generations }

// isGeneration says whether a member may take that for the generation.
func (g *Group) isGeneration(m *member, generation int32) bool {
	if generation == g.generation {
		return true
	}
	known, ok := g.behind[m.id]
	return ok && generation == known && g.state == PreparingRebalance
}

// Dissolve ends the group, whose members go on under another protocol. Who waits
// is told to join again.
func (g *Group) Dissolve() (r Result) {
	for _, m := range g.inOrder() {
		g.remove(m, &r, codeRebalanceInProgress)
	}
	return r
}
