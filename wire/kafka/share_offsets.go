package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
)

// DescribeShareGroupOffsets 0–1, AlterShareGroupOffsets 0,
// DeleteShareGroupOffsets 0, and what DeleteGroups 0–3 does beside the
// coordinator.
//
// A partition's start offset is where its cursor's floor is: everything below is
// done. Version 1 has the lag (KIP-1226), which counts what is not done, be it
// acquired or not. Altering and deleting are for groups without members,
// NON_EMPTY_GROUP; altering makes what is not there. What JMS has made, JMS
// deletes.

func (c *connection) describeShareOffsets(ctx context.Context, r *kmsg.DescribeShareGroupOffsetsRequest) *kmsg.DescribeShareGroupOffsetsResponse {
	response := r.ResponseKind().(*kmsg.DescribeShareGroupOffsetsResponse)
	for i := range r.Groups {
		q := &r.Groups[i]
		g := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
		g.GroupID = q.GroupID
		topics := q.Topics
		if topics == nil {
			topics = c.shareTopics(q.GroupID)
		}
		for j := range topics {
			g.Topics = append(g.Topics, c.describeShareTopic(ctx, q.GroupID, &topics[j]))
		}
		response.Groups = append(response.Groups, g)
	}
	return response
}

// shareTopics are all partitions that a group has begun to consume.
func (c *connection) shareTopics(group string) (topics []kmsg.DescribeShareGroupOffsetsRequestGroupTopic) {
	all := c.server.broker.ShareGroupTopics(group)
	if group == queueGroup {
		for _, d := range c.server.broker.Destinations() {
			if d.Kind == destination.KindQueue && !d.Temporary && !d.Internal {
				all = append(all, d)
			}
		}
	}
	for _, d := range all {
		t := kmsg.NewDescribeShareGroupOffsetsRequestGroupTopic()
		t.Topic = topicName(d)
		for n := range d.Partitions {
			t.Partitions = append(t.Partitions, int32(n))
		}
		topics = append(topics, t)
	}
	return topics
}

func (c *connection) describeShareTopic(ctx context.Context, group string, q *kmsg.DescribeShareGroupOffsetsRequestGroupTopic) kmsg.DescribeShareGroupOffsetsResponseGroupTopic {
	t := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
	t.Topic = q.Topic
	d, code := c.lookup(q.Topic, [16]byte{}, false, session.OperationDescribe)
	var v *queue.View
	if code == codeNone {
		t.TopicID = d.ID
		view, leave, err := c.shareView(ctx, d, group)
		if err == nil {
			v = view
			defer leave()
		} else if !errors.Is(err, destination.ErrNotFound) {
			code = shareCode(err)
		}
	}
	for _, n := range q.Partitions {
		p := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
		p.Partition, p.StartOffset = n, -1
		if code != codeNone && code != codeUnknownTopicOrPartition { // what is not there has no offset, as in Kafka
			p.ErrorCode = code
		}
		if d != nil {
			if known := partitionOf(d, n); known != nil {
				p.LeaderEpoch = known.Epoch()
			}
		}
		if v != nil {
			if s, ok := v.PartitionStats(n); ok {
				p.StartOffset, p.Lag = v.Floor(n), s.Waiting+s.Acquired+s.Scheduled+s.Held
			}
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t
}

// shareView is what a group has of d, until leave is called: ErrNotFound.
func (c *connection) shareView(ctx context.Context, d *destination.Destination, group string) (v *queue.View, leave func(), err error) {
	if group == queueGroup {
		v, err = c.server.broker.Queue(ctx, d)
		return v, func() {}, err
	}
	return c.server.broker.ShareGroupView(ctx, d, group)
}

func (c *connection) alterShareOffsets(ctx context.Context, r *kmsg.AlterShareGroupOffsetsRequest) *kmsg.AlterShareGroupOffsetsResponse {
	response := r.ResponseKind().(*kmsg.AlterShareGroupOffsetsResponse)
	if response.ErrorCode = c.emptyShareGroup(r.GroupID); response.ErrorCode != codeNone {
		return response
	}
	for i := range r.Topics {
		q := &r.Topics[i]
		t := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		t.Topic = q.Topic
		d, code := c.lookup(q.Topic, [16]byte{}, false, session.OperationConsume)
		offsets := map[int32]int64{}
		if code == codeNone {
			t.TopicID = d.ID
			for _, p := range q.Partitions {
				if partitionOf(d, p.Partition) != nil {
					offsets[p.Partition] = p.StartOffset
				}
			}
		}
		var err error
		if len(offsets) > 0 {
			if err = c.seekShares(ctx, d, r.GroupID, offsets); err != nil {
				code = changeCode(err)
			}
		}
		for _, p := range q.Partitions {
			a := kmsg.NewAlterShareGroupOffsetsResponseTopicPartition()
			a.Partition, a.ErrorCode, a.ErrorMessage = p.Partition, code, messageOf(err)
			if _, known := offsets[p.Partition]; code == codeNone && !known {
				a.ErrorCode = codeUnknownTopicOrPartition
			}
			t.Partitions = append(t.Partitions, a)
		}
		response.Topics = append(response.Topics, t)
	}
	return response
}

// emptyShareGroup says whether a group may be changed.
func (c *connection) emptyShareGroup(group string) int16 {
	switch {
	case group == "":
		return codeInvalidGroupID
	case c.server.broker.Groups().ShareMembers(group) > 0:
		return codeNonEmptyGroup
	}
	return codeNone
}

// changeCode is the code for a change that did not happen. Who consumes
// without being a member is a session that has yet to end, or a JMS client.
func changeCode(err error) int16 {
	if errors.Is(err, destination.ErrConflict) {
		return codeNonEmptyGroup
	}
	return shareCode(err)
}

func (c *connection) seekShares(ctx context.Context, d *destination.Destination, group string, offsets map[int32]int64) error {
	if group != queueGroup {
		return c.server.broker.SeekShareGroup(ctx, d, group, offsets)
	}
	v, err := c.server.broker.Queue(ctx, d)
	if err != nil {
		return err
	}
	if s := v.Stats(); s.Consumers > 0 || s.Acquired+s.Held > 0 {
		return coded(codeNonEmptyGroup, "the queue has consumers or unacknowledged messages")
	}
	done := make(errorWaiter, 1)
	if err := v.SeekTo(offsets, done); err != nil {
		return err
	}
	return <-done
}

// errorWaiter hands over how a change ended; its capacity is 1.
type errorWaiter chan error

// Committed implements commitlog.Waiter.
func (w errorWaiter) Committed(err error) { w <- err }

func (c *connection) deleteShareOffsets(ctx context.Context, r *kmsg.DeleteShareGroupOffsetsRequest) *kmsg.DeleteShareGroupOffsetsResponse {
	response := r.ResponseKind().(*kmsg.DeleteShareGroupOffsetsResponse)
	code := c.emptyShareGroup(r.GroupID)
	if code == codeNone && len(c.server.broker.ShareGroupTopics(r.GroupID)) == 0 {
		code = codeGroupIDNotFound // so is polylog.queue: queues are destinations' own
	}
	if response.ErrorCode = code; code != codeNone {
		return response
	}
	var gone [][16]byte
	for i := range r.Topics {
		t := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
		t.Topic = r.Topics[i].Topic
		d, code := c.lookup(t.Topic, [16]byte{}, false, session.OperationConsume)
		if t.ErrorCode = code; code == codeNone {
			t.TopicID = d.ID
			err := c.server.broker.DeleteShareGroup(ctx, d, r.GroupID)
			if err == nil {
				gone = append(gone, d.ID)
			} else {
				t.ErrorCode, t.ErrorMessage = changeCode(err), messageOf(err)
			}
		}
		response.Topics = append(response.Topics, t)
	}
	if len(gone) > 0 {
		if err := c.server.broker.Groups().ForgetShare(r.GroupID, gone...); err != nil {
			c.server.options.Logger.Error("forget what a share group has consumed", "group", r.GroupID, "error", err)
			response.ErrorCode = codeCoordinatorNotAvailable
		}
	}
	return response
}

// deleteGroups deletes groups, and what share groups among them have of their
// topics.
func (c *connection) deleteGroups(ctx context.Context, r *kmsg.DeleteGroupsRequest) *kmsg.DeleteGroupsResponse {
	response := (*group.Coordinator).DeleteGroups(c.server.broker.Groups(), ctx, c.client(), r)
	for i := range response.Groups {
		g := &response.Groups[i]
		if g.ErrorCode != codeNone && g.ErrorCode != codeGroupIDNotFound {
			continue
		}
		for _, d := range c.server.broker.ShareGroupTopics(g.Group) {
			switch err := c.server.broker.DeleteShareGroup(ctx, d, g.Group); {
			case err == nil:
				if g.ErrorCode == codeGroupIDNotFound {
					g.ErrorCode = codeNone
				}
			case errors.Is(err, destination.ErrUnsupported), errors.Is(err, destination.ErrNotFound):
			default:
				g.ErrorCode = changeCode(err)
			}
		}
	}
	return response
}
