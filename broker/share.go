package broker

import (
	"context"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
)

// Share groups of Kafka (KIP-932). Their members are package group's to know,
// and their subscriptions package topic's.

// ShareGroupTopics are the destinations that a share group has begun to
// consume, in no particular order.
func (b *Broker) ShareGroupTopics(group string) []*destination.Destination {
	return b.topics.GroupTopics(group)
}

// ShareGroupView returns the view of a share group on d, until leave is
// called: ErrNotFound.
func (b *Broker) ShareGroupView(ctx context.Context, d *destination.Destination, group string) (v *queue.View, leave func(), err error) {
	return b.topics.GroupView(ctx, d, group)
}

// SeekShareGroup has a share group go on at these offsets of d's partitions,
// also if it has not consumed d yet: ErrConflict while it is consuming,
// ErrNotFound, ErrWrongKind.
func (b *Broker) SeekShareGroup(ctx context.Context, d *destination.Destination, group string, offsets map[int32]int64) error {
	if err := permits(d, destination.KindTopic); err != nil {
		return err
	}
	return b.topics.SeekGroup(ctx, d, group, offsets)
}

// DeleteShareGroup deletes what a share group has on d: ErrNotFound,
// ErrConflict, or ErrUnsupported where JMS has made it.
func (b *Broker) DeleteShareGroup(ctx context.Context, d *destination.Destination, group string) error {
	return b.topics.DeleteGroup(ctx, d, group)
}
