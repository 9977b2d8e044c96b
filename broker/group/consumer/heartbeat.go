package consumer

import (
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The epochs that are requests.
const (
	epochJoin        = 0
	epochLeave       = -1
	epochLeaveStatic = -2 // a static member that will be back
)

// Heartbeat answers ConsumerGroupHeartbeat 0 and 1: joins, leaves and stays.
func (g *Group) Heartbeat(now time.Time, topics Topics, r *kmsg.ConsumerGroupHeartbeatRequest, client Client) Result {
	response := r.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	var refused *refusal
	if refused = checkHeartbeat(r); refused == nil {
		if r.MemberEpoch < 0 {
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

func checkHeartbeat(r *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	// Since version 1 members make their own ids.
	mayLackID := r.Version == 0 && (r.MemberEpoch == epochJoin || r.MemberEpoch == epochLeaveStatic)
	if refused := firstRefusal(
		text("MemberId", r.MemberID, mayLackID),
		text("GroupId", r.Group, false),
		optionalText("InstanceId", r.InstanceID),
		optionalText("RackId", r.RackID),
	); refused != nil {
		return refused
	}
	switch {
	case r.MemberEpoch < epochLeaveStatic:
		return refuse(invalidRequest, "MemberEpoch is invalid.")
	case r.MemberEpoch == epochLeaveStatic && r.InstanceID == nil:
		return refuse(invalidRequest, "InstanceId can't be null.")
	case r.MemberEpoch != epochJoin:
	case r.RebalanceTimeoutMillis == -1:
		return refuse(invalidRequest, "RebalanceTimeoutMs must be provided in first request.")
	case r.Topics == nil || len(r.Topics) > 0:
		return refuse(invalidRequest, "TopicPartitions must be empty when (re-)joining.")
	case r.SubscribedTopicNames == nil && r.SubscribedTopicRegex == nil:
		return refuse(invalidRequest, "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	}
	if len(r.SubscribedTopicNames) > maxSubscriptions {
		return refuse(invalidRequest, "SubscribedTopicNames can't be more than %d.", maxSubscriptions)
	}
	if r.ServerAssignor != nil && assignors[*r.ServerAssignor] == nil {
		return refuse(unsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s, %s.",
			*r.ServerAssignor, uniformName, rangeName)
	}
	return nil
}

// stay is a heartbeat of who wants to be a member, or be one still. Everything
// that can be refused is found out before anything is changed.
func (g *Group) stay(now time.Time, topics Topics, r *kmsg.ConsumerGroupHeartbeatRequest, client Client, response *kmsg.ConsumerGroupHeartbeatResponse) *refusal {
	m, replaced, refused := g.find(r)
	if refused != nil {
		return refused
	}
	before := member{id: r.MemberID}
	switch {
	case m != nil:
		before = *m
	case replaced != nil:
		before.memberValue = replaced.memberValue
	}
	said := before.memberValue.updated(r, client)
	var compiled *regexp.Regexp
	if said.regex != "" && g.regexes[said.regex] == nil {
		if compiled, refused = checkRegex(said.regex); refused != nil {
			return refused
		}
	}

	if before.id == "" {
		before.id = g.o.NewMemberID()
	}
	owned := before.assigned
	m = g.enter(now, topics, entrance{
		member: m, replaced: replaced, before: before, said: said, compiled: compiled, owned: ownedBy(r),
	})

	response.MemberID, response.MemberEpoch = &m.id, m.epoch
	response.HeartbeatIntervalMillis = int32(g.o.HeartbeatInterval.Milliseconds())
	if m.state == unreleased {
		response.HeartbeatIntervalMillis = int32(g.o.WaitingInterval.Milliseconds())
	}
	// A full request, which a member sends also after any failure, may mean
	// that it has not got the last assignment.
	full := r.RebalanceTimeoutMillis != -1 && (r.SubscribedTopicNames != nil || r.SubscribedTopicRegex != nil) && r.Topics != nil
	if r.MemberEpoch == epochJoin || full || !samePartitions(owned, m.assigned) {
		response.Assignment = assignment(m.assigned)
	}
	return nil
}

// entrance is a request of who is a member, or becomes one.
type entrance struct {
	member, replaced *member        // whose it is, and whose place it takes; nil for nobody
	before           member         // as it was; of a new one only the id, and what its predecessor said
	said             memberValue    // what it says of itself now
	compiled         *regexp.Regexp // of said.regex, if that is not known yet
	owned            map[Partition]bool
}

// enter takes over what a member says, and takes the group and the member as far
// to the target as they can go now.
func (g *Group) enter(now time.Time, topics Topics, e entrance) *member {
	m, replaced, before, said := e.member, e.replaced, &e.before, e.said
	// A successor takes over the target of its predecessor, and needs no new
	// one, unless it was a member on its own account.
	joined := m == nil && (replaced == nil || replaced.id != before.id && g.members[before.id] != nil)
	elects := m == nil || said.assignor != before.assignor
	preferred := ""
	if elects {
		preferred = g.preferredAssignor()
	}
	added := g.addRegex(now, said.regex, e.compiled, topics)
	if m == nil || !said.equal(before.memberValue) {
		g.write(typeMember, before.id, said)
	}
	if m = g.members[before.id]; replaced != nil && replaced != m {
		g.replace(replaced, m)
	}
	subscriptionChanged := !slices.Equal(said.topics, before.topics) || said.regex != before.regex
	elected := elects && g.preferredAssignor() != preferred
	g.look(now, topics, joined || subscriptionChanged || added || elected)
	if g.targetEpoch < g.epoch {
		g.retarget(topics, assignors[g.preferredAssignor()])
	}
	if step := g.reconcile(m, topics, e.owned, subscriptionChanged); !step.equal(m.currentValue) {
		g.write(typeCurrent, m.id, step)
	}
	g.schedule(now, m, before.currentValue)
	return m
}

// find is the member that a request is of, or nil for a new one. It may replace
// a static one that has left for a while.
func (g *Group) find(r *kmsg.ConsumerGroupHeartbeatRequest) (m, replaced *member, _ *refusal) {
	m = g.members[r.MemberID]
	joins := r.MemberEpoch == epochJoin
	if r.InstanceID != nil {
		static := g.members[g.instances[*r.InstanceID]]
		switch {
		case joins && static != nil && (static.epoch == epochLeaveStatic || static.classic != nil && static != m):
			return nil, static, nil
		case joins && static != nil && static != m:
			return nil, nil, refuse(unreleasedInstanceID,
				"Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.",
				r.MemberID, *r.InstanceID, static.id)
		case !joins:
			if refused := isStatic(static, r); refused != nil {
				return nil, nil, refused
			}
			m = static
		}
	}
	switch {
	case m != nil && m.classic != nil && !joins:
		return nil, nil, refuse(unknownMemberID, "Member %s uses the classic protocol.", m.id)
	case m != nil:
		return m, nil, checkEpoch(m, r)
	case !joins:
		return nil, nil, refuse(unknownMemberID, "Member %s is not a member of group %s.", r.MemberID, g.id)
	case len(g.members) >= g.o.MaxSize:
		return nil, nil, refuse(groupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", g.o.MaxSize)
	}
	return nil, nil, nil
}

// isStatic refuses a request in the name of an instance that is not, or is
// another member by now.
func isStatic(static *member, r *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	if static == nil {
		return refuse(unknownMemberID, "Instance id %s is unknown.", *r.InstanceID)
	}
	if static.id != r.MemberID {
		return refuse(fencedInstanceID, "Static member %s with instance id %s was fenced by member %s.",
			r.MemberID, *r.InstanceID, static.id)
	}
	return nil
}

func checkEpoch(m *member, r *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	switch {
	case r.MemberEpoch == epochJoin || r.MemberEpoch == m.epoch:
		return nil
	case r.MemberEpoch > m.epoch:
		return refuse(fencedMemberEpoch, "The consumer group member has a greater member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", r.MemberEpoch, m.epoch)
	}
	// The answer with the newer epoch may have been lost, if the member owns
	// no more than what it has at the newer one.
	if r.MemberEpoch == m.previousEpoch && r.Topics != nil {
		strange := false
		for p := range ownedBy(r) {
			if _, ok := m.assigned[p]; !ok {
				strange = true
			}
		}
		if !strange {
			return nil
		}
	}
	return refuse(fencedMemberEpoch, "The consumer group member has a smaller member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", r.MemberEpoch, m.epoch)
}

func checkRegex(s string) (*regexp.Regexp, *refusal) {
	if len(s) > maxRegexBytes {
		return nil, refuse(invalidRegularExpression, "SubscribedTopicRegex can't be longer than %d bytes.", maxRegexBytes)
	}
	x, err := compileRegex(s)
	if err != nil {
		return nil, refuse(invalidRegularExpression, "SubscribedTopicRegex `%s` is not a valid regular expression: %s.", s, err)
	}
	return x, nil
}

// updated is what a member says of itself after a request, in which null is as
// before.
func (v memberValue) updated(r *kmsg.ConsumerGroupHeartbeatRequest, client Client) memberValue {
	set := func(field, said *string) {
		if said != nil {
			*field = *said
		}
	}
	set(&v.instance, r.InstanceID)
	set(&v.rack, r.RackID)
	set(&v.regex, r.SubscribedTopicRegex)
	set(&v.assignor, r.ServerAssignor)
	v.clientID, v.clientHost, v.classic = client.ID, client.Host, nil
	if r.RebalanceTimeoutMillis != -1 {
		v.rebalanceTimeoutMillis = r.RebalanceTimeoutMillis
	}
	if r.SubscribedTopicNames != nil {
		v.topics = names(r.SubscribedTopicNames)
	}
	return v
}

// names are sorted, each once.
func names(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return slices.Compact(all)
}

// replace gives a static member's place to its successor. Of these records,
// too, the first ones may survive alone: then the predecessor's session ends,
// and until then nobody but the successor may own its partitions.
func (g *Group) replace(old, m *member) {
	current := old.currentValue
	current.epoch, current.previousEpoch = 0, 0
	g.write(typeTargetMember, m.id, old.target)
	g.erase(typeCurrent, old.id)
	g.write(typeCurrent, m.id, current)
	g.erase(typeTargetMember, old.id)
	g.erase(typeMember, old.id)
}

// look looks at topics, if it is time to, and raises the epoch if they are
// not what they were.
func (r *roster) look(now time.Time, topics Topics, bump bool) {
	if !bump && now.Before(r.refresh) {
		return
	}
	bump = r.resolveRegexes(now, topics) || bump
	r.refresh = now.Add(r.o.RefreshInterval)
	if hash := r.topicHash(topics); bump || hash != r.hash {
		r.bump(hash)
		if r.others[typeTopics] { // Kafka 4.0 and before kept topics themselves
			r.erase(typeTopics, "")
		}
	}
}

// schedule moves a member's deadlines on.
func (g *Group) schedule(now time.Time, m *member, before currentValue) {
	m.session = now.Add(g.sessionOf(m))
	switch {
	case m.classic != nil:
		m.rebalance = now.Add(m.rebalanceTimeout()) // until SyncGroup
	case m.state != unrevoked:
		m.rebalance = time.Time{}
	case m.rebalance.IsZero() || !m.currentValue.equal(before):
		m.rebalance = now.Add(m.rebalanceTimeout())
	}
	g.soonest(m)
}

// leave is the last heartbeat of a member, or of a static one that will be back.
func (g *Group) leave(r *kmsg.ConsumerGroupHeartbeatRequest, response *kmsg.ConsumerGroupHeartbeatResponse) *refusal {
	m := g.members[r.MemberID]
	if r.InstanceID != nil {
		m = g.members[g.instances[*r.InstanceID]]
		if refused := isStatic(m, r); refused != nil {
			return refused
		}
	}
	if m == nil {
		return refuse(unknownMemberID, "Member %s is not a member of group %s.", r.MemberID, g.id)
	}
	response.MemberID, response.MemberEpoch = &m.id, r.MemberEpoch
	if r.MemberEpoch == epochLeave {
		g.remove(m)
		return nil
	}
	// It keeps what it was assigned, for the time of its session.
	current := m.currentValue
	current.epoch, current.state, current.revoking = epochLeaveStatic, stable, nil
	g.write(typeCurrent, m.id, current)
	m.rebalance = time.Time{}
	return nil
}

// ownedBy are the partitions that a member says it owns; nil if it says nothing.
func ownedBy(r *kmsg.ConsumerGroupHeartbeatRequest) map[Partition]bool {
	if r.Topics == nil {
		return nil
	}
	owned := map[Partition]bool{}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			owned[Partition{Topic: t.TopicID, Index: p}] = true
		}
	}
	return owned
}

func samePartitions(a, b map[Partition]int32) bool {
	for p := range a {
		if _, ok := b[p]; !ok {
			return false
		}
	}
	return len(a) == len(b)
}

func assignment(assigned map[Partition]int32) *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	a.Topics = []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{}
	for _, t := range byTopic(sorted(assigned)) {
		topic := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		topic.TopicID, topic.Partitions = t.id, t.partitions
		a.Topics = append(a.Topics, topic)
	}
	return &a
}
