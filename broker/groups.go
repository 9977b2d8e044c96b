package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
)

// Kafka's groups, for protocols that are not Kafka's: what they ask is put to
// the coordinator as Kafka's own requests, so that there is one way to change a
// group.

// asked calls a method of the coordinator with a request of a version.
func asked[Q kmsg.Request, R any](ctx context.Context, b *Broker, f func(*group.Coordinator, context.Context, group.Client, Q) R, version int16, q Q) R {
	q.SetVersion(version)
	return f(b.groups, ctx, group.Client{ID: "polylog"}, q)
}

// ListGroups lists the groups, by name.
func (b *Broker) ListGroups(ctx context.Context) ([]destination.GroupInfo, error) {
	a := asked(ctx, b, (*group.Coordinator).ListGroups, 5, kmsg.NewPtrListGroupsRequest())
	if err := group.Error("", a.ErrorCode); err != nil {
		return nil, err
	}
	list := make([]destination.GroupInfo, len(a.Groups))
	for i := range a.Groups {
		g := &a.Groups[i]
		d, err := b.describeMembers(ctx, g.Group, strings.ToLower(g.GroupType))
		if err != nil {
			d = &destination.GroupDescription{} // it has gone meanwhile
		}
		list[i] = destination.GroupInfo{Name: g.Group, Type: strings.ToLower(g.GroupType), State: g.GroupState, Protocol: g.ProtocolType, Members: len(d.Members)}
	}
	slices.SortFunc(list, func(a, b destination.GroupInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// DescribeGroup describes a group: ErrNotFound.
func (b *Broker) DescribeGroup(ctx context.Context, name string) (*destination.GroupDescription, error) {
	a := asked(ctx, b, (*group.Coordinator).ListGroups, 5, kmsg.NewPtrListGroupsRequest())
	i := slices.IndexFunc(a.Groups, func(g kmsg.ListGroupsResponseGroup) bool { return g.Group == name })
	if i < 0 {
		return nil, fmt.Errorf("group %q: %w", name, destination.ErrNotFound)
	}
	g := &a.Groups[i]
	d, err := b.describeMembers(ctx, name, strings.ToLower(g.GroupType))
	if err != nil {
		return nil, err
	}
	d.GroupInfo = destination.GroupInfo{Name: name, Type: strings.ToLower(g.GroupType), State: g.GroupState, Protocol: g.ProtocolType, Members: len(d.Members)}
	owners := map[destination.TopicPartition]string{}
	for _, m := range d.Members {
		for _, p := range m.Assignment {
			owners[p] = m.ID
		}
	}
	committed := map[destination.TopicPartition]int64{}
	if strings.EqualFold(g.GroupType, "share") {
		b.shareOffsets(ctx, name, committed)
	} else if err := b.groupOffsets(ctx, name, committed); err != nil {
		return nil, err
	}
	for p := range owners {
		if _, ok := committed[p]; !ok {
			committed[p] = -1
		}
	}
	for p, offset := range committed {
		if o, ok := b.groupOffset(p, offset); ok {
			o.MemberID = owners[p]
			d.Offsets = append(d.Offsets, o)
		}
	}
	slices.SortFunc(d.Offsets, func(a, b destination.GroupOffset) int { return comparePartitions(a.TopicPartition, b.TopicPartition) })
	return d, nil
}

func comparePartitions(a, b destination.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// describeMembers fills in the members.
func (b *Broker) describeMembers(ctx context.Context, name, kind string) (*destination.GroupDescription, error) {
	d := &destination.GroupDescription{}
	add := func(m destination.GroupMember, instance *string) {
		if instance != nil {
			m.InstanceID = *instance
		}
		slices.SortFunc(m.Assignment, comparePartitions)
		d.Members = append(d.Members, m)
	}
	switch kind {
	case "consumer":
		q := kmsg.NewPtrConsumerGroupDescribeRequest()
		q.Groups = []string{name}
		g := &asked(ctx, b, (*group.Coordinator).ConsumerGroupDescribe, 1, q).Groups[0]
		if err := group.Error(name, g.ErrorCode); err != nil {
			return nil, err
		}
		for i := range g.Members {
			m := &g.Members[i]
			one := destination.GroupMember{ID: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost}
			for _, t := range m.Assignment.TopicPartitions {
				one.Assignment = appendPartitions(one.Assignment, t.Topic, t.Partitions)
			}
			add(one, m.InstanceID)
		}
	case "share":
		q := kmsg.NewPtrShareGroupDescribeRequest()
		q.GroupIDs = []string{name}
		g := &asked(ctx, b, (*group.Coordinator).ShareGroupDescribe, 1, q).Groups[0]
		if err := group.Error(name, g.ErrorCode); err != nil {
			return nil, err
		}
		for i := range g.Members {
			m := &g.Members[i]
			one := destination.GroupMember{ID: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost}
			for _, t := range m.Assignment.TopicPartitions {
				one.Assignment = appendPartitions(one.Assignment, t.Topic, t.Partitions)
			}
			add(one, nil)
		}
	default:
		q := kmsg.NewPtrDescribeGroupsRequest()
		q.Groups = []string{name}
		g := &asked(ctx, b, (*group.Coordinator).DescribeGroups, 6, q).Groups[0]
		if err := group.Error(name, g.ErrorCode); err != nil {
			return nil, err
		}
		for i := range g.Members {
			m := &g.Members[i]
			one := destination.GroupMember{ID: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost}
			var a kmsg.ConsumerMemberAssignment
			if g.ProtocolType == "consumer" && a.ReadFrom(m.MemberAssignment) == nil {
				for _, t := range a.Topics {
					one.Assignment = appendPartitions(one.Assignment, t.Topic, t.Partitions)
				}
			}
			add(one, m.InstanceID)
		}
	}
	return d, nil
}

// kafkaName is the name under which Kafka has a destination, whichever of the
// two names it is given.
func kafkaName(name string) string { return record.TopicName(record.DestinationName(name)) }

func appendPartitions(list []destination.TopicPartition, topic string, partitions []int32) []destination.TopicPartition {
	for _, p := range partitions {
		list = append(list, destination.TopicPartition{Topic: topic, Partition: p})
	}
	return list
}

// groupOffsets adds what a consumer group has committed.
func (b *Broker) groupOffsets(ctx context.Context, name string, to map[destination.TopicPartition]int64) error {
	q := kmsg.NewPtrOffsetFetchRequest()
	one := kmsg.NewOffsetFetchRequestGroup()
	one.Group = name
	q.Groups = append(q.Groups, one)
	g := &asked(ctx, b, (*group.Coordinator).OffsetFetch, 8, q).Groups[0]
	if err := group.Error(name, g.ErrorCode); err != nil {
		return err
	}
	for _, t := range g.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 && p.Offset >= 0 {
				to[destination.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = p.Offset
			}
		}
	}
	return nil
}

// shareOffsets adds where a share group is done with everything before.
func (b *Broker) shareOffsets(ctx context.Context, name string, to map[destination.TopicPartition]int64) {
	for _, d := range b.ShareGroupTopics(name) {
		v, leave, err := b.ShareGroupView(ctx, d, name)
		if err != nil {
			continue // it has gone meanwhile
		}
		for _, p := range d.Partitions {
			to[destination.TopicPartition{Topic: record.TopicName(d.Name), Partition: p.Number()}] = v.Floor(p.Number())
		}
		leave()
	}
}

// groupOffset completes what is known of a partition; false if there is none.
func (b *Broker) groupOffset(at destination.TopicPartition, committed int64) (destination.GroupOffset, bool) {
	d, err := b.topicNamed(at.Topic)
	if err != nil || int(at.Partition) >= len(d.Partitions) || at.Partition < 0 {
		return destination.GroupOffset{}, false
	}
	p := d.Partitions[at.Partition]
	o := destination.GroupOffset{TopicPartition: at, Committed: committed, Start: p.Start(), End: p.LastStable()}
	if committed >= 0 && committed < o.End {
		if sent, ok := timestampAt(p, max(committed, o.Start)); ok {
			o.LagTime = max(b.o.Now().Sub(time.UnixMilli(sent)), 0)
		}
	}
	return o, true
}

// timestampAt is that of the first record at or after an offset, ms.
func timestampAt(p *destination.Partition, offset int64) (int64, bool) {
	buf, err := p.Read(offset, 1, nil)
	if err != nil || len(buf) == 0 {
		return 0, false
	}
	batch, _, err := record.Next(buf)
	if err != nil {
		return 0, false
	}
	var r record.Reader
	if r.Reset(batch, 64<<20) == nil {
		for r.Next() {
			if r.Record().Offset >= offset {
				return r.Record().Timestamp, true
			}
		}
	}
	return batch.MaxTimestamp(), true
}

// ResetGroup sets the offsets of a consumer group that has no members, and
// tells what that changes. A group that is not there is made. ErrConflict while
// it has members, ErrNotFound for the topic.
func (b *Broker) ResetGroup(ctx context.Context, r destination.GroupReset) ([]destination.GroupMove, error) {
	d, err := b.topicNamed(r.Topic)
	if err != nil {
		return nil, err
	}
	start := queue.Start{Kind: queue.StartBeginning}
	switch r.To {
	case destination.ResetLatest:
		start.Kind = queue.StartEnd
	case destination.ResetTime:
		start = queue.Start{Kind: queue.StartTime, At: r.Time}
	}
	targets, err := start.Offsets(d, "")
	if err != nil {
		return nil, err
	}
	r.Topic = kafkaName(r.Topic)
	before := map[destination.TopicPartition]int64{}
	if err := b.groupOffsets(ctx, r.Group, before); err != nil && !errors.Is(err, destination.ErrNotFound) {
		return nil, err
	}
	if r.Partitions == nil {
		for _, p := range d.Partitions {
			r.Partitions = append(r.Partitions, p.Number())
		}
	}
	var moves []destination.GroupMove
	commit := destination.GroupCommit{Group: r.Group, Epoch: -1}
	for _, n := range r.Partitions {
		if n < 0 || int(n) >= len(d.Partitions) {
			return nil, fmt.Errorf("%w: partition %d of %q", destination.ErrNotFound, n, r.Topic)
		}
		p := d.Partitions[n]
		m := destination.GroupMove{TopicPartition: destination.TopicPartition{Topic: r.Topic, Partition: n}, From: -1, To: targets[n]}
		if offset, ok := before[m.TopicPartition]; ok {
			m.From = offset
		}
		switch r.To {
		case destination.ResetOffset:
			m.To = r.Offset
		case destination.ResetShift, destination.ResetCurrent:
			if m.From < 0 {
				continue // there is nothing to begin from
			}
			m.To = m.From
			if r.To == destination.ResetShift {
				m.To += r.Offset
			}
		}
		m.To = min(max(m.To, p.Start()), p.End())
		moves = append(moves, m)
		commit.Offsets = append(commit.Offsets, destination.CommittedOffset{TopicPartition: m.TopicPartition, Offset: m.To})
	}
	if r.DryRun || len(moves) == 0 {
		return moves, nil
	}
	err = b.CommitGroup(ctx, commit)
	if errors.Is(err, destination.ErrStaleToken) {
		err = fmt.Errorf("group %q: %w: it has members; stop them first", r.Group, destination.ErrConflict)
	}
	return moves, err
}

// CommitGroup commits offsets. It returns when that is on disk. ErrStaleToken
// says that the sender is not in the group any more, or has to heartbeat first.
func (b *Broker) CommitGroup(ctx context.Context, c destination.GroupCommit) error {
	q := kmsg.NewPtrOffsetCommitRequest()
	q.Group, q.MemberID, q.Generation = c.Group, c.MemberID, c.Epoch
	offsets := slices.SortedFunc(slices.Values(c.Offsets), func(a, b destination.CommittedOffset) int {
		return comparePartitions(a.TopicPartition, b.TopicPartition)
	})
	for _, o := range offsets {
		o.Topic = kafkaName(o.Topic)
		n := len(q.Topics)
		if n == 0 || q.Topics[n-1].Topic != o.Topic {
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic = o.Topic
			q.Topics = append(q.Topics, t)
			n++
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = o.Partition, o.Offset, -1
		q.Topics[n-1].Partitions = append(q.Topics[n-1].Partitions, p)
	}
	a := asked(ctx, b, (*group.Coordinator).OffsetCommit, 9, q)
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			if err := group.Error(c.Group, p.ErrorCode); err != nil {
				return fmt.Errorf("commit %s-%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// GroupOffsets are what a consumer group has committed of partitions, -1 for
// nothing, in their order.
func (b *Broker) GroupOffsets(ctx context.Context, name string, of []destination.TopicPartition) ([]int64, error) {
	all := map[destination.TopicPartition]int64{}
	if err := b.groupOffsets(ctx, name, all); err != nil && !errors.Is(err, destination.ErrNotFound) {
		return nil, err
	}
	offsets := make([]int64, len(of))
	for i, p := range of {
		offsets[i], p.Topic = -1, kafkaName(p.Topic)
		if offset, ok := all[p]; ok {
			offsets[i] = offset
		}
	}
	return offsets, nil
}

// DeleteGroupOffsets forgets what a group has committed of a topic that it does
// not consume: ErrNotFound, ErrConflict.
func (b *Broker) DeleteGroupOffsets(ctx context.Context, name, topic string, partitions []int32) error {
	q := kmsg.NewPtrOffsetDeleteRequest()
	q.Group = name
	t := kmsg.NewOffsetDeleteRequestTopic()
	t.Topic = kafkaName(topic)
	if partitions == nil {
		d, err := b.topicNamed(topic)
		if err != nil {
			return err
		}
		for _, p := range d.Partitions {
			partitions = append(partitions, p.Number())
		}
	}
	for _, n := range partitions {
		p := kmsg.NewOffsetDeleteRequestTopicPartition()
		p.Partition = n
		t.Partitions = append(t.Partitions, p)
	}
	q.Topics = append(q.Topics, t)
	a := asked(ctx, b, (*group.Coordinator).OffsetDelete, 0, q)
	if err := group.Error(name, a.ErrorCode); err != nil {
		return err
	}
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			if err := group.Error(name, p.ErrorCode); err != nil {
				return fmt.Errorf("offset of %s-%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// DeleteGroup deletes a group without members, with what it has committed:
// ErrNotFound, ErrConflict. Of a share group what Kafka has made is deleted.
func (b *Broker) DeleteGroup(ctx context.Context, name string) error {
	q := kmsg.NewPtrDeleteGroupsRequest()
	q.Groups = []string{name}
	err := group.Error(name, asked(ctx, b, (*group.Coordinator).DeleteGroups, 2, q).Groups[0].ErrorCode)
	if err != nil && !errors.Is(err, destination.ErrNotFound) {
		return err
	}
	for _, d := range b.ShareGroupTopics(name) {
		switch failed := b.DeleteShareGroup(ctx, d, name); {
		case failed == nil:
			err = nil
		case errors.Is(failed, destination.ErrUnsupported), errors.Is(failed, destination.ErrNotFound):
		default:
			return failed
		}
	}
	return err
}

// GroupHeartbeat has a member join, stay in, or leave a consumer group by the
// protocol of KIP-848: ErrStaleToken if it has to join anew, ErrConflict if the
// group is of another kind.
func (b *Broker) GroupHeartbeat(ctx context.Context, h destination.GroupHeartbeat) (destination.GroupAssignment, error) {
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Group, q.MemberID, q.MemberEpoch = h.Group, h.MemberID, h.Epoch
	if h.Epoch >= 0 {
		q.RebalanceTimeoutMillis = int32(h.Rebalance.Milliseconds())
		for _, topic := range h.Topics {
			q.SubscribedTopicNames = append(q.SubscribedTopicNames, kafkaName(topic))
		}
		q.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		ids := map[string]int{}
		for _, p := range h.Owned {
			i, ok := ids[p.Topic]
			if !ok {
				d, err := b.topicNamed(p.Topic)
				if err != nil {
					continue // it has been deleted
				}
				i = len(q.Topics)
				ids[p.Topic] = i
				t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
				t.TopicID = d.ID
				q.Topics = append(q.Topics, t)
			}
			q.Topics[i].Partitions = append(q.Topics[i].Partitions, p.Partition)
		}
	}
	q.SetVersion(1)
	a := b.groups.ConsumerGroupHeartbeat(ctx, group.Client{ID: h.ClientID, Host: h.Host}, q)
	if err := group.Error(h.Group, a.ErrorCode); err != nil {
		return destination.GroupAssignment{}, err
	}
	answer := destination.GroupAssignment{Epoch: a.MemberEpoch, Interval: time.Duration(a.HeartbeatIntervalMillis) * time.Millisecond}
	if a.MemberID != nil {
		answer.MemberID = *a.MemberID
	}
	if a.Assignment != nil {
		answer.Changed = true
		for _, t := range a.Assignment.Topics {
			if d := b.current(t.TopicID); d != nil {
				answer.Assigned = appendPartitions(answer.Assigned, d.Name, t.Partitions)
			}
		}
	}
	return answer, nil
}
