package consumer

import "github.com/twmb/franz-go/pkg/kmsg"

// Describe answers ConsumerGroupDescribe 0 and 1. AuthorizedOperations are the
// caller's.
func (g *Group) Describe(topics Topics) kmsg.ConsumerGroupDescribeResponseGroup {
	d := kmsg.NewConsumerGroupDescribeResponseGroup()
	d.Group, d.State = g.id, g.State()
	d.Epoch, d.AssignmentEpoch = g.epoch, g.targetEpoch
	d.AssignorName = g.preferredAssignor()
	d.Members = []kmsg.ConsumerGroupDescribeResponseGroupMember{}
	for _, m := range g.sorted() {
		dm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		dm.MemberID, dm.MemberEpoch = m.id, m.epoch
		dm.InstanceID, dm.RackID = nullable(m.instance), nullable(m.rack)
		dm.ClientID, dm.ClientHost = m.clientID, m.clientHost
		dm.SubscribedTopics, dm.SubscribedTopicRegex = m.topics, nullable(m.regex)
		dm.Assignment.TopicPartitions = described(sorted(m.assigned), topics)
		dm.TargetAssignment.TopicPartitions = described(m.target, topics)
		if dm.MemberType = 1; m.classic != nil { // 1: of the consumer protocol
			dm.MemberType = 0
		}
		d.Members = append(d.Members, dm)
	}
	return d
}

// described leaves out topics that are no more.
func described(partitions []Partition, topics Topics) []kmsg.AssignmentTopicPartition {
	all := []kmsg.AssignmentTopicPartition{}
	for _, t := range byTopic(partitions) {
		topic, ok := topics.TopicByID(t.id)
		if !ok {
			continue
		}
		d := kmsg.NewAssignmentTopicPartition()
		d.TopicID, d.Topic, d.Partitions = t.id, topic.Name, t.partitions
		all = append(all, d)
	}
	return all
}

func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Describe answers ShareGroupDescribe 1. AuthorizedOperations are the caller's.
func (g *ShareGroup) Describe(topics Topics) kmsg.ShareGroupDescribeResponseGroup {
	d := kmsg.NewShareGroupDescribeResponseGroup()
	d.GroupID, d.GroupState = g.id, g.State()
	d.GroupEpoch, d.AssignmentEpoch = g.epoch, g.targetEpoch
	d.Assignor = simpleName
	d.Members = []kmsg.ShareGroupDescribeResponseGroupMember{}
	for _, m := range g.sorted() {
		dm := kmsg.NewShareGroupDescribeResponseGroupMember()
		dm.MemberID, dm.MemberEpoch = m.id, m.epoch
		dm.RackID = nullable(m.rack)
		dm.ClientID, dm.ClientHost = m.clientID, m.clientHost
		dm.SubscribedTopicNames = m.topics
		dm.Assignment.TopicPartitions = []kmsg.ShareGroupDescribeResponseGroupMemberAssignmentTopicPartition{}
		for _, t := range described(sorted(m.assigned), topics) {
			dt := kmsg.NewShareGroupDescribeResponseGroupMemberAssignmentTopicPartition()
			dt.TopicID, dt.Topic, dt.Partitions = t.TopicID, t.Topic, t.Partitions
			dm.Assignment.TopicPartitions = append(dm.Assignment.TopicPartitions, dt)
		}
		d.Members = append(d.Members, dm)
	}
	return d
}
