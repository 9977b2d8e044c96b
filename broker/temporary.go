package broker

import (
	"context"
	"fmt"

	"github.com/nats-io/nuid"

	"github.com/polylog-mq/polylog/destination"
)

// CreateTemporary makes a temporary queue or topic, which lives until
// DeleteTemporary or the broker's next start (Jakarta Messaging 3.1 §6.2.2).
// It is in memory, and no metadata know it, so that asking for one costs no
// sync.
func (b *Broker) CreateTemporary(ctx context.Context, kind destination.Kind) (*destination.Destination, error) {
	prefix := temporaryQueuePrefix
	switch kind {
	case destination.KindQueue:
	case destination.KindTopic:
		prefix = temporaryTopicPrefix
	default:
		return nil, fmt.Errorf("%w: a temporary destination is a queue or a topic, not a %s", destination.ErrInvalid, kind)
	}
	name := prefix + nuid.Next()
	e, _, err := b.reserve(ctx, name)
	if err != nil {
		return nil, err
	}
	d := &destination.Destination{
		Name: name, ID: newID(), Kind: kind, Settings: b.temporarySettings(), Temporary: true,
	}
	err = b.openPartitions(d, nil)
	b.settle(e, name, d, err)
	if err != nil {
		return nil, fmt.Errorf("create a temporary destination: %w", err)
	}
	return d, nil
}

// temporarySettings: nothing of a temporary destination is worth keeping once
// it is consumed.
func (b *Broker) temporarySettings() destination.Settings {
	s := b.defaults
	s.Partitions = 1
	s.Durability = destination.DurabilityMemory
	s.RetentionMS = 0
	s.SegmentBytes = min(s.SegmentBytes, max(4<<20, s.MaxMessageBytes))
	s.CleanupPolicy = destination.CleanupDelete
	s.DeadLetter = destination.None
	s.Views = ""
	return s
}

// DeleteTemporary deletes a temporary destination, and closes what consumes
// from it: whether anything may is for the caller's connection to know.
func (b *Broker) DeleteTemporary(ctx context.Context, d *destination.Destination) error {
	if !d.Temporary {
		return fmt.Errorf("%w: %q is not temporary", destination.ErrInvalid, d.Name)
	}
	return b.delete(ctx, d, true)
}
