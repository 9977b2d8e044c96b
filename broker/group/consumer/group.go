package consumer

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Group is one consumer group of the protocol of KIP-848.
type Group struct{ roster }

var consumerKinds = kinds{
	group: typeGroup, member: typeMember, target: typeTarget, targetMember: typeTargetMember, current: typeCurrent,
}

// New makes an empty group, to which Replay or Heartbeat add members. For an
// unknown group id a coordinator makes one when a member joins with epoch 0,
// and answers GROUP_ID_NOT_FOUND to anything else. A new group must not be
// kept if Heartbeat returned an error code: it is still Pristine.
func New(id string, o Options) *Group {
	g := &Group{newRoster(id, consumerKinds, o, maxGroup)}
	g.owners = map[Partition]string{}
	return g
}

// Expire fences the members whose session, or whose time to give partitions
// up, has passed.
func (g *Group) Expire(now time.Time) Result {
	g.expire(now)
	return g.result(nil)
}

func (r *roster) expire(now time.Time) {
	if late := r.late(now); len(late) > 0 {
		r.remove(late...)
	}
	r.reckon()
}

func (g *Group) result(response *kmsg.ConsumerGroupHeartbeatResponse) Result {
	return Result{Response: response, Records: g.take(), Deadline: g.wake}
}

// Deadline is when Expire has to be called, at the latest; zero for never.
func (g *Group) Deadline() time.Time { return g.wake }

// Changed tells that topics were made, changed or deleted; the next heartbeat
// looks at them.
func (g *Group) Changed() { g.refresh = time.Time{} }

// Replay applies a record of the group that was read from the log, in order.
// Records of other types, or other groups, are an error.
func (g *Group) Replay(key, value []byte) error { return g.replay(key, value, isConsumer) }

// Start is called after the last Replay: members get a whole session timeout
// to be heard of.
func (g *Group) Start(now time.Time) { g.start(now) }

// State is Empty, Assigning, Reconciling, Stable or, after Delete, Dead.
func (g *Group) State() string {
	switch {
	case g.dead:
		return "Dead"
	case len(g.members) == 0:
		return "Empty"
	case g.epoch > g.targetEpoch:
		return "Assigning"
	}
	for _, m := range g.members {
		if !m.reconciled(g.targetEpoch) {
			return "Reconciling"
		}
	}
	return "Stable"
}

// Size is the number of members.
func (g *Group) Size() int { return len(g.members) }

// Pristine tells that nothing is recorded of the group.
func (g *Group) Pristine() bool { return g.pristine() }

// Subscribed tells whether any member subscribes to the topic; offsets of such
// topics are neither expired nor deleted (GROUP_SUBSCRIBED_TO_TOPIC).
func (g *Group) Subscribed(topic string) bool { return g.subscribed(topic) }

// Delete ends the group and returns the tombstones of all that was recorded of
// it. Only an Empty group may be deleted.
func (g *Group) Delete() []Record { return g.delete() }

// SetOptions changes settings; they hold from each member's next heartbeat on.
func (g *Group) SetOptions(o Options) { g.o = o.withDefaults(maxGroup) }

// preferredAssignor is the one that most members ask for, the default one
// among equals.
func (g *Group) preferredAssignor() string {
	votes := map[string]int{}
	for _, m := range g.members {
		if m.assignor != "" {
			votes[m.assignor]++
		}
	}
	best := uniformName
	for _, name := range []string{rangeName} {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// CheckCommit says whether offsets of partitions may be committed: 0, or the
// error code for all of them.
func (g *Group) CheckCommit(c Commit, partitions []Partition) int16 {
	if c.Epoch < 0 && len(g.members) == 0 {
		return 0 // by an administrator, or a consumer that assigns itself
	}
	if c.Transactional && c.Epoch == -1 && c.MemberID == "" && c.InstanceID == nil {
		return 0 // by a producer that tells nothing of its group
	}
	m := g.members[c.MemberID]
	switch {
	case m == nil:
		return unknownMemberID
	case m.classic != nil && c.Epoch != m.epoch:
		return illegalGeneration
	case m.classic != nil:
		return 0
	case !c.Transactional && c.Version < 9:
		return unsupportedVersion
	case c.Epoch == m.epoch:
		return 0
	case c.Epoch > m.epoch:
		return staleMemberEpoch
	}
	// KIP-1251: the member may not know yet of its newer epoch, but it has
	// to own what it commits since the epoch that it knows.
	for _, p := range partitions {
		if since, ok := m.holds(p); !ok || c.Epoch < since {
			return staleMemberEpoch
		}
	}
	return 0
}

// CheckFetch says whether a member may fetch offsets: 0, or the error code.
func (g *Group) CheckFetch(memberID *string, epoch int32) int16 {
	if memberID == nil && epoch < 0 {
		return 0
	}
	if memberID == nil || g.members[*memberID] == nil {
		return unknownMemberID
	}
	if g.members[*memberID].epoch != epoch {
		return staleMemberEpoch
	}
	return 0
}
