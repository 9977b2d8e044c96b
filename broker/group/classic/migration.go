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

// Dissolve ends the group, whose members go on under another protocol. Who waits
// is told to join again.
func (g *Group) Dissolve() (r Result) {
	for _, m := range g.inOrder() {
		g.remove(m, &r, codeRebalanceInProgress)
	}
	return r
}
