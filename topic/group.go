package topic

import (
	"context"
	"fmt"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
)

// A Kafka share group (KIP-932) has a subscription on each of its topics. The
// shared durable subscription of JMS of that name, without a client id, on such
// a topic is the same: whoever comes first makes it, and the other's consumers
// compete for its messages. What JMS made, JMS may make anew with another topic
// or selector; what a share group made stays until its offsets are deleted.

// group returns what a share group has on d, or nil. The lock is held.
func (r *Registry) group(d *destination.Destination, group string) *entry {
	n := name{durable: true, subscribed: group, topic: d.ID}
	if e := r.named[n]; e != nil {
		return e
	}
	n.topic = [16]byte{}
	if e := r.named[n]; e != nil && e.spec.Kind == SharedDurable && e.topic.ID == d.ID {
		return e
	}
	return nil
}

// sameGroup returns the share group's subscription that a JMS one is, or nil.
func (r *Registry) sameGroup(d *destination.Destination, s Spec) (*entry, error) {
	if s.Kind != SharedDurable || s.ClientID != "" {
		return nil, nil
	}
	e := r.named[name{durable: true, subscribed: s.Name, topic: d.ID}]
	if e != nil && s.Selector != "" {
		return nil, fmt.Errorf("%w: the %s takes everything, and cannot be opened with a selector", destination.ErrConflict, e)
	}
	return e, nil
}

// memberLeaves ends what admit has counted for a share group's member.
func (r *Registry) memberLeaves(e *entry, s Spec) {
	if s.Kind == ShareGroup {
		r.mu.Lock()
		e.members--
		r.mu.Unlock()
	}
}

// GroupTopics are the topics that a share group has begun to consume, in no
// particular order.
func (r *Registry) GroupTopics(group string) []*destination.Destination {
	r.mu.Lock()
	defer r.mu.Unlock()
	var topics []*destination.Destination
	for n, e := range r.named {
		if n.durable && n.subscribed == group && n.clientID == "" && (e.spec.Kind == ShareGroup || e.spec.Kind == SharedDurable) {
			topics = append(topics, e.topic)
		}
	}
	return topics
}

// GroupView returns the view of a share group on d, and keeps it from being
// deleted until leave is called: ErrNotFound.
func (r *Registry) GroupView(ctx context.Context, d *destination.Destination, group string) (v *queue.View, leave func(), err error) {
	r.mu.Lock()
	e := r.group(d, group)
	r.mu.Unlock()
	if e != nil {
		v, leave, err = r.use(ctx, e)
	}
	if v == nil && err == nil {
		err = fmt.Errorf("%w: share group %q on %q", destination.ErrNotFound, group, d.Name)
	}
	return v, leave, err
}

// SeekGroup has a share group go on at these offsets of d's partitions, and
// makes its subscription if there is none: ErrConflict while it has consumers or
// unacknowledged messages, ErrNotFound if there is no such partition.
func (r *Registry) SeekGroup(ctx context.Context, d *destination.Destination, group string, offsets map[int32]int64) error {
	sub, leave, err := r.Open(ctx, d, Spec{Kind: ShareGroup, Name: group})
	if err != nil {
		return err
	}
	defer leave()
	r.mu.Lock()
	e := r.group(d, group)
	switch {
	case e == nil:
		err = fmt.Errorf("%w: share group %q on %q", destination.ErrNotFound, group, d.Name)
	case e.users > 1:
		err = fmt.Errorf("%w: the %s has a consumer", destination.ErrConflict, e)
	default:
		err = r.settled(e)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	w := make(waiter, 1)
	if err := sub.View.SeekTo(offsets, w); err != nil {
		return fmt.Errorf("seek share group %q: %w", group, err)
	}
	return <-w
}

// DeleteGroup deletes what a share group has on d: ErrNotFound, or ErrConflict
// while it has consumers, or ErrUnsupported where JMS has made it.
func (r *Registry) DeleteGroup(ctx context.Context, d *destination.Destination, group string) error {
	r.mu.Lock()
	e := r.group(d, group)
	r.mu.Unlock()
	switch {
	case e == nil:
		return fmt.Errorf("%w: share group %q on %q", destination.ErrNotFound, group, d.Name)
	case e.spec.Kind != ShareGroup:
		return fmt.Errorf("%w: the %s was made through JMS, and is deleted there", destination.ErrUnsupported, e)
	}
	return r.delete(ctx, e)
}
