package classic

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// recordVersion is what Kafka writes.
const recordVersion = 3

// Record is the group as __consumer_offsets has it.
func (g *Group) Record() kmsg.GroupMetadataValue {
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Generation = recordVersion, g.protocolType, g.generation
	v.CurrentStateTimestamp = g.changedAt.UnixMilli()
	if g.protocol != "" {
		v.Protocol = &g.protocol
	}
	if g.leader != "" {
		v.Leader = &g.leader
	}
	for _, m := range g.inOrder() {
		x := kmsg.NewGroupMetadataValueMember()
		x.MemberID, x.InstanceID, x.ClientID, x.ClientHost = m.id, m.instance, m.client.ID, m.client.Host
		x.SessionTimeoutMillis, x.RebalanceTimeoutMillis = int32(m.session.Milliseconds()), int32(m.rebalance.Milliseconds())
		x.Subscription, x.Assignment = m.metadata(g.protocol), append([]byte{}, m.assignment...)
		v.Members = append(v.Members, x)
	}
	return v
}

// Restore makes the group what a record says; members get a whole session
// timeout from now to be heard of. Where there are members but no leader, as
// after a change of the protocol, they have to join again.
func (g *Group) Restore(v *kmsg.GroupMetadataValue, now time.Time) {
	*g = *New(g.id, g.o)
	g.protocolType, g.generation, g.changedAt = v.ProtocolType, v.Generation, now
	if v.CurrentStateTimestamp > 0 {
		g.changedAt = time.UnixMilli(v.CurrentStateTimestamp)
	}
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	for i := range v.Members {
		x := &v.Members[i]
		g.joins++
		m := &member{
			id: x.MemberID, instance: x.InstanceID, client: Client{x.ClientID, x.ClientHost},
			session: milliseconds(x.SessionTimeoutMillis), rebalance: milliseconds(x.RebalanceTimeoutMillis),
			protocols:  []kmsg.JoinGroupRequestProtocol{{Name: g.protocol, Metadata: slices.Clone(x.Subscription)}},
			assignment: slices.Clone(x.Assignment), order: g.joins, synced: true,
		}
		m.last = m.assignment
		if v.Version == 0 || m.rebalance == 0 {
			m.rebalance = m.session
		}
		g.members[m.id] = m
		if m.instance != nil {
			g.static[*m.instance] = m.id
		}
		g.count(m.protocols, 1)
		g.listen(m, now)
	}
	if len(g.members) > 0 {
		g.state = Stable
	}
	switch {
	case v.Leader != nil && g.members[*v.Leader] != nil:
		g.leader = *v.Leader
	case len(g.members) > 0:
		// It comes from another protocol, and nobody has assigned its partitions.
		g.prepare(now, &Result{}) // nobody waits for an answer
	}
}

// Describe answers DescribeGroups 0–6.
func (g *Group) Describe() kmsg.DescribeGroupsResponseGroup {
	a := kmsg.NewDescribeGroupsResponseGroup()
	a.Group, a.State, a.ProtocolType = g.id, g.state, g.protocolType
	if g.state == Stable {
		a.Protocol = g.protocol
	}
	a.Members = []kmsg.DescribeGroupsResponseGroupMember{}
	for _, m := range g.inOrder() {
		x := kmsg.NewDescribeGroupsResponseGroupMember()
		x.MemberID, x.InstanceID, x.ClientID, x.ClientHost = m.id, m.instance, m.client.ID, m.client.Host
		x.ProtocolMetadata, x.MemberAssignment = []byte{}, []byte{}
		if g.state == Stable {
			x.ProtocolMetadata = append(x.ProtocolMetadata, m.metadata(g.protocol)...)
			x.MemberAssignment = append(x.MemberAssignment, m.assignment...)
		}
		a.Members = append(a.Members, x)
	}
	return a
}

// Subscribed says whether any member's subscription names a topic. What members
// cannot be understood to consume they may all consume.
func (g *Group) Subscribed(topic string) bool {
	if len(g.members) == 0 {
		return false
	}
	if g.topics == nil {
		g.topics = g.subscriptions()
	}
	return g.topics[topic] || g.topics[anyTopic]
}

// anyTopic is no topic's name.
const anyTopic = ""

func (g *Group) subscriptions() map[string]bool {
	all := map[string]bool{}
	for _, m := range g.members {
		for _, p := range m.protocols {
			var s kmsg.ConsumerMemberMetadata
			if g.protocolType != "consumer" || s.ReadFrom(p.Metadata) != nil {
				all[anyTopic] = true
				return all
			}
			for _, t := range s.Topics {
				all[t] = true
			}
		}
	}
	return all
}
