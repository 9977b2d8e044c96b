// Package half is when the producers of a half message are asked what became of
// it, and which of them. It is pure: the times come in.
//
// A half message is a prepared branch ([destination.HalfFormat]) of a group of
// producers. The producer that sent it commits it or rolls it back when its own
// transaction has ended; if it does neither, because it died or does not know, the
// members of its group are asked, one after the other, until one of them does.
package half

import (
	"math"

	"github.com/polylog-mq/polylog/destination"
)

// Defaults and limits of a group.
const (
	DefaultAfterMS = 6_000 // after the prepare, and twice as long each time
	DefaultMax     = 15
	longest        = 6 // doublings
)

// Group is the producers of one that are connected.
type Group struct {
	Members int
	AfterMS int64 // how long after the prepare the first check is
	Max     int   // checks, after which the message is rolled back
}

// Prepared is a half message that nobody has ended.
type Prepared struct {
	XID        destination.XID
	PreparedMS int64
}

// Check says that a member of the group is to be asked about a half message.
type Check struct {
	XID    destination.XID
	Member int // of the group's, from 0
	Number int // how often it was asked, with this time
}

// Checker knows which were asked. The counts are since the broker's start.
type Checker struct {
	asked map[destination.XID]*asked
	turns map[string]int // by group
}

type asked struct {
	checks int
	nextMS int64
}

// Step returns what is to be done now, of all half messages that there are: whom to
// ask, and which are over, for they were asked about often enough. wake is when to
// come again, ms; math.MaxInt64: when there is something new.
func (c *Checker) Step(now int64, prepared []Prepared, groups map[string]Group) (checks []Check, over []destination.XID, wake int64) {
	wake = math.MaxInt64
	old := c.asked
	c.asked = make(map[destination.XID]*asked, len(prepared))
	if c.turns == nil {
		c.turns = map[string]int{}
	}
	for _, p := range prepared {
		g := groups[p.XID.Global]
		a := old[p.XID]
		if a != nil {
			c.asked[p.XID] = a
		}
		if g.Members == 0 {
			continue // it waits for one
		}
		if a == nil {
			a = &asked{nextMS: p.PreparedMS + g.AfterMS}
			c.asked[p.XID] = a
		}
		switch {
		case now < a.nextMS:
		case a.checks >= g.Max:
			over = append(over, p.XID)
			delete(c.asked, p.XID)
			continue
		default:
			a.checks++
			a.nextMS = now + g.AfterMS<<min(a.checks, longest)
			checks = append(checks, Check{p.XID, c.turns[p.XID.Global] % g.Members, a.checks})
			c.turns[p.XID.Global]++
		}
		wake = min(wake, a.nextMS)
	}
	return checks, over, wake
}
