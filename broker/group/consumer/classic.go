package consumer

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A consumer group may have members that use the classic protocol, so that a
// group's consumers can be moved from one protocol to the other one by one
// (KIP-848, online migration). They send JoinGroup where others send a heartbeat
// with what they own, and nobody leads them: the generation is the member's
// epoch, and SyncGroup only asks for what the group has assigned.
//
//	classic group ──Upgrade──► Group ──► a member's epoch is behind, it has to
//	      ▲                      │       give partitions up, or those that it
//	      │                      │       waits for are free
//	      │                      │             │ Heartbeat: REBALANCE_IN_PROGRESS
//	      └──────Downgrade───────┘             └──► JoinGroup ──► SyncGroup

// protocolType is what consumers call themselves in the classic protocol.
const protocolType = "consumer"

// maxMetadataBytes bounds what a classic member says of itself under all
// protocols: INCONSISTENT_GROUP_PROTOCOL.
const maxMetadataBytes = 1 << 20

// Classic is a group of the classic protocol. Its members are of consumers.
type Classic struct {
	Generation int32
	Members    []ClassicMember
}

// ClassicMember is a member of it.
type ClassicMember struct {
	ID                 string
	Instance           *string
	Client             Client
	Session, Rebalance time.Duration
	Protocols          []kmsg.JoinGroupRequestProtocol
	Assignment         []byte // what it was last assigned, and may have still
}

// Upgrade makes a group of a classic one, whose records it does not touch. It is
// not ok if what members say of themselves cannot be read. Members own what they
// were assigned, at an epoch which is the generation; as soon as the group's is
// higher they join again. What they had when they joined and were not assigned any
// more they own, too: they may not have given it up yet.
func Upgrade(id string, o Options, now time.Time, topics Topics, c Classic) (g *Group, records []Record, ok bool) {
	g = New(id, o)
	g.write(typeGroup, "", groupValue{epoch: c.Generation})
	said := make([]memberValue, len(c.Members))
	owned := make([]map[Partition]int32, len(c.Members))
	had := make([]map[Partition]bool, len(c.Members))
	taken := map[Partition]bool{}
	take := func(i int, partitions map[Partition]bool) {
		for p := range partitions {
			if !taken[p] {
				taken[p] = true
				owned[i][p] = c.Generation
			}
		}
	}
	for i := range c.Members {
		m := &c.Members[i]
		s, readable := subscriptionOf(m.Protocols)
		assigned, ok := readAssignment(m.Assignment, topics)
		if !readable || !ok || text("MemberId", m.ID, false) != nil {
			return nil, nil, false
		}
		said[i] = classicSaid(m.Instance, m.Client, m.Session, m.Rebalance, &s, m.Protocols)
		owned[i], had[i] = map[Partition]int32{}, ownedByName(s.OwnedPartitions, topics)
		take(i, assigned)
	}
	for i := range c.Members {
		m := &c.Members[i]
		take(i, had[i])
		g.write(typeMember, m.ID, said[i])
		g.write(typeTargetMember, m.ID, targetMemberValue(sorted(owned[i])))
		g.write(typeCurrent, m.ID, currentValue{
			epoch: c.Generation, previousEpoch: c.Generation, assigned: owned[i], revoking: map[Partition]int32{},
		})
		g.heard(now, g.members[m.ID])
	}
	g.write(typeTarget, "", targetValue{epoch: c.Generation})
	return g, g.take(), true
}

// OnlyClassic says that there are members and all of them use the classic
// protocol: it is time to Downgrade.
func (g *Group) OnlyClassic() bool { return len(g.members) > 0 && g.classics == len(g.members) }

// Downgrade ends the group: the tombstones of all that was recorded of it, and
// the classic group that goes on. It has no leader, by which it is known that its
// members have to join again. behind are the epochs of members that are not yet at
// its generation.
func (g *Group) Downgrade(now time.Time, topics Topics) (tombstones []Record, v kmsg.GroupMetadataValue, behind map[string]int32) {
	kind, protocol := protocolType, g.commonProtocol()
	v = kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Protocol, v.CurrentStateTimestamp = 3, kind, &protocol, now.UnixMilli()
	for _, m := range g.sorted() {
		v.Generation = max(v.Generation, m.epoch, 1)
		x := kmsg.NewGroupMetadataValueMember()
		x.MemberID, x.InstanceID, x.ClientID, x.ClientHost = m.id, nullable(m.instance), m.clientID, m.clientHost
		x.SessionTimeoutMillis, x.RebalanceTimeoutMillis = m.classic.sessionMillis, m.rebalanceTimeoutMillis
		x.Subscription, x.Assignment = m.classic.metadata(protocol), m.assignment(topics, true)
		v.Members = append(v.Members, x)
	}
	behind = map[string]int32{}
	for _, m := range g.members {
		if m.epoch < v.Generation {
			behind[m.id] = m.epoch
		}
	}
	return g.delete(), v, behind
}

// commonProtocol is one that all members have, all of which are classic.
func (g *Group) commonProtocol() string {
	all := g.sorted()
	for _, p := range all[0].classic.protocols {
		if !slices.ContainsFunc(all, func(m *member) bool { return !m.classic.has(p.name) }) {
			return p.name
		}
	}
	return all[0].classic.protocols[0].name
}

// classicSaid is what a classic member says of itself.
func classicSaid(instance *string, c Client, session, rebalance time.Duration, s *kmsg.ConsumerMemberMetadata, protocols []kmsg.JoinGroupRequestProtocol) memberValue {
	v := memberValue{
		clientID: c.ID, clientHost: c.Host, topics: names(s.Topics), rebalanceTimeoutMillis: int32(rebalance.Milliseconds()),
		classic: &classicValue{sessionMillis: int32(session.Milliseconds())},
	}
	if instance != nil {
		v.instance = *instance
	}
	if s.Rack != nil {
		v.rack = *s.Rack
	}
	for _, p := range protocols {
		if !v.classic.has(p.Name) {
			v.classic.protocols = append(v.classic.protocols, classicProtocol{p.Name, bytes.Clone(p.Metadata)})
		}
	}
	return v
}

// ClassicJoin is the answer to JoinGroup.
type ClassicJoin struct {
	Code     int16
	MemberID string
	Epoch    int32 // the generation
	Protocol string
}

// Join answers JoinGroup 0–9, at once: others are not waited for.
func (g *Group) Join(now time.Time, topics Topics, q *kmsg.JoinGroupRequest, c Client) (ClassicJoin, []Record) {
	session := time.Duration(q.SessionTimeoutMillis) * time.Millisecond
	rebalance := time.Duration(max(q.RebalanceTimeoutMillis, 0)) * time.Millisecond
	if q.Version == 0 {
		rebalance = session
	}
	id := q.MemberID
	refuse := func(code int16) (ClassicJoin, []Record) { return ClassicJoin{Code: code, MemberID: id, Epoch: -1}, nil }
	s, ok := subscriptionOf(q.Protocols)
	switch {
	case firstRefusal(text("GroupId", q.Group, false), text("MemberId", id, true), optionalText("InstanceId", q.InstanceID)) != nil:
		return refuse(invalidRequest)
	case session < g.o.MinClassicSession || session > g.o.MaxClassicSession:
		return refuse(invalidSessionTimeout)
	case q.ProtocolType != protocolType || !ok || !g.supports(id, q.Protocols):
		return refuse(inconsistentGroupProtocol)
	}
	m, replaced, code := g.findClassic(q)
	switch {
	case code != 0:
		return refuse(code)
	case m == nil && id != "" && len(s.OwnedPartitions) > 0:
		// It was a member, and others may have by now what it believes to own. New
		// ones own nothing: their ids, which they were given, are all right.
		return refuse(unknownMemberID)
	case m == nil && replaced == nil && len(g.members) >= g.o.MaxSize:
		return refuse(groupMaxSizeReached)
	case m == nil && id == "":
		id = g.o.NewMemberID()
		if len(c.ID) <= maxIDBytes {
			id = c.ID + "-" + id
		}
		if q.InstanceID == nil && q.Version >= 4 { // KIP-394
			return refuse(memberIDRequired)
		}
	}
	e := entrance{
		member: m, replaced: replaced, before: member{id: id},
		said: classicSaid(q.InstanceID, c, session, rebalance, &s, q.Protocols), owned: ownedByName(s.OwnedPartitions, topics),
	}
	switch {
	case m != nil:
		e.before = *m
	case replaced != nil:
		e.before.memberValue = replaced.memberValue
	}
	m = g.enter(now, topics, e)
	return ClassicJoin{MemberID: m.id, Epoch: m.epoch, Protocol: m.classic.protocols[0].name}, g.take()
}

// findClassic is the member that a JoinGroup is of, or nil for a new one. It may
// replace a static one.
func (g *Group) findClassic(q *kmsg.JoinGroupRequest) (m, replaced *member, code int16) {
	m = g.members[q.MemberID]
	if q.InstanceID != nil {
		static := g.members[g.instances[*q.InstanceID]]
		switch {
		case q.MemberID == "":
			return nil, static, 0
		case static == nil:
			return nil, nil, unknownMemberID
		case static != m:
			return nil, nil, fencedInstanceID
		}
	}
	if m != nil && m.classic == nil {
		return nil, nil, unknownMemberID
	}
	return m, nil, 0
}

// supports says whether all classic members but id have one of these protocols.
func (g *Group) supports(id string, protocols []kmsg.JoinGroupRequestProtocol) bool {
	if m := g.members[id]; m != nil && m.classic != nil && slices.EqualFunc(m.classic.protocols, protocols,
		func(a classicProtocol, b kmsg.JoinGroupRequestProtocol) bool { return a.name == b.Name }) {
		return true
	}
	common := map[string]bool{}
	for _, p := range protocols {
		common[p.Name] = true
	}
	for _, m := range g.members {
		if m.classic == nil || m.id == id {
			continue
		}
		for name := range common {
			if !m.classic.has(name) {
				delete(common, name)
			}
		}
	}
	return len(common) > 0
}

// classicMember is a member that uses the classic protocol, or the code of why
// there is none.
func (g *Group) classicMember(id string, instance *string) (*member, int16) {
	if instance != nil {
		switch current, known := g.instances[*instance]; {
		case !known:
			return nil, unknownMemberID
		case current != id:
			return nil, fencedInstanceID
		}
	}
	if m := g.members[id]; m != nil && m.classic != nil {
		return m, 0
	}
	return nil, unknownMemberID
}

// ClassicSync is the answer to SyncGroup.
type ClassicSync struct {
	Code       int16
	Protocol   string
	Assignment []byte
}

// Sync answers SyncGroup 0–5.
func (g *Group) Sync(now time.Time, topics Topics, q *kmsg.SyncGroupRequest) ClassicSync {
	m, code := g.classicMember(q.MemberID, q.InstanceID)
	switch {
	case code != 0:
	case q.Generation != m.epoch:
		code = illegalGeneration
	case q.ProtocolType != nil && *q.ProtocolType != protocolType, q.Protocol != nil && *q.Protocol != m.classic.protocols[0].name:
		code = inconsistentGroupProtocol
	case g.epoch > m.epoch && m.state != unrevoked:
		// It has to join again. One that has partitions to give up has to be
		// told first of what is left to it.
		g.mustJoin(now, m)
		code = rebalanceInProgress
	}
	if code != 0 {
		return ClassicSync{Code: code}
	}
	m.rebalance = time.Time{}
	g.heard(now, m)
	return ClassicSync{Protocol: m.classic.protocols[0].name, Assignment: m.assignment(topics, false)}
}

// ClassicHeartbeat answers Heartbeat 0–4.
func (g *Group) ClassicHeartbeat(now time.Time, topics Topics, q *kmsg.HeartbeatRequest) (code int16) {
	m, code := g.classicMember(q.MemberID, q.InstanceID)
	switch {
	case code != 0:
		return code
	case q.Generation != m.epoch:
		return illegalGeneration
	}
	g.heard(now, m)
	if m.epoch < g.epoch || m.state == unrevoked || m.state == unreleased && !g.waits(m, topics) {
		g.mustJoin(now, m)
		return rebalanceInProgress
	}
	return 0
}

// Leave answers LeaveGroup 0–5 for each of the members.
func (g *Group) Leave(members []kmsg.LeaveGroupRequestMember) ([]kmsg.LeaveGroupResponseMember, []Record) {
	answers := []kmsg.LeaveGroupResponseMember{}
	var gone []*member
	for _, l := range members {
		id := l.MemberID
		if id == "" && l.InstanceID != nil { // an administrator, who does not know the member's id
			id = g.instances[*l.InstanceID]
		}
		a := kmsg.NewLeaveGroupResponseMember()
		a.MemberID, a.InstanceID = l.MemberID, l.InstanceID
		m, code := g.classicMember(id, l.InstanceID)
		switch a.ErrorCode = code; {
		case code == 0 && slices.Contains(gone, m): // named twice
			a.ErrorCode = unknownMemberID
		case code == 0:
			gone = append(gone, m)
		}
		answers = append(answers, a)
	}
	if len(gone) > 0 {
		g.remove(gone...)
	}
	return answers, g.take()
}

// heard gives a member a whole session.
func (g *Group) heard(now time.Time, m *member) {
	m.session = now.Add(g.sessionOf(m))
	g.soonest(m)
}

// mustJoin gives a member that is told to join again the time to do so.
func (g *Group) mustJoin(now time.Time, m *member) {
	if m.rebalance.IsZero() {
		m.rebalance = now.Add(m.rebalanceTimeout())
		g.soonest(m)
	}
}

// waits says whether others have what a member is to own.
func (g *Group) waits(m *member, topics Topics) bool {
	subscribed := g.topicsOf(m, topics)
	for _, p := range m.target {
		if _, ok := subscribed[p.Topic]; !ok {
			continue
		}
		if owner, taken := g.owners[p]; taken && owner != m.id {
			return true
		}
	}
	return false
}

func (v *classicValue) has(protocol string) bool {
	return slices.ContainsFunc(v.protocols, func(p classicProtocol) bool { return p.name == protocol })
}

func (v *classicValue) metadata(protocol string) []byte {
	for _, p := range v.protocols {
		if p.name == protocol {
			return p.metadata
		}
	}
	return []byte{}
}

// subscriptionOf reads what a member says under the protocol that it likes best.
func subscriptionOf(protocols []kmsg.JoinGroupRequestProtocol) (s kmsg.ConsumerMemberMetadata, ok bool) {
	size := 0
	for _, p := range protocols {
		size += len(p.Name) + len(p.Metadata)
	}
	if len(protocols) == 0 || size > maxMetadataBytes || s.ReadFrom(protocols[0].Metadata) != nil {
		return s, false
	}
	return s, len(s.Topics) <= maxSubscriptions
}

func ownedByName(list []kmsg.ConsumerMemberMetadataOwnedPartition, topics Topics) map[Partition]bool {
	owned := map[Partition]bool{}
	for _, t := range list {
		if topic, ok := topics.Topic(t.Topic); ok {
			for _, p := range t.Partitions {
				if p >= 0 && p < topic.Partitions {
					owned[Partition{Topic: topic.ID, Index: p}] = true
				}
			}
		}
	}
	return owned
}

// readAssignment reads what a leader has assigned; nothing is nothing.
func readAssignment(b []byte, topics Topics) (map[Partition]bool, bool) {
	owned := map[Partition]bool{}
	if len(b) == 0 {
		return owned, true
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(b); err != nil {
		return nil, false
	}
	for _, t := range a.Topics {
		if topic, ok := topics.Topic(t.Topic); ok {
			for _, p := range t.Partitions {
				if p >= 0 && p < topic.Partitions {
					owned[Partition{Topic: topic.ID, Index: p}] = true
				}
			}
		}
	}
	return owned, true
}

// assignment is what a classic member owns as it reads it, in the version in
// which it writes; also with what it has yet to give up.
func (m *member) assignment(topics Topics, revoking bool) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	if len(m.classic.protocols[0].metadata) >= 2 {
		r := reader{b: m.classic.protocols[0].metadata}
		a.Version = min(max(r.int16(), 0), 3)
	}
	held := sorted(m.assigned)
	if revoking {
		held = append(held, sorted(m.revoking)...)
		slices.SortFunc(held, comparePartitions)
	}
	for _, t := range byTopic(held) {
		if topic, ok := topics.TopicByID(t.id); ok {
			x := kmsg.NewConsumerMemberAssignmentTopic()
			x.Topic, x.Partitions = topic.Name, t.partitions
			a.Topics = append(a.Topics, x)
		}
	}
	return a.AppendTo(nil)
}
