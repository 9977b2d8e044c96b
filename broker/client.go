package broker

import (
	"context"
	"fmt"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/topic"
)

// ClaimClientID reserves a client id until release is called: ErrConflict
// while another connection has it (Jakarta Messaging 3.1 §6.1.2).
func (b *Broker) ClaimClientID(id string) (release func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, taken := b.clientIDs[id]; taken {
		return nil, fmt.Errorf("%w: another connection has the client id %q", destination.ErrConflict, id)
	}
	b.clientIDs[id] = struct{}{}
	var once sync.Once
	return func() {
		once.Do(func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			delete(b.clientIDs, id)
		})
	}, nil
}

// Subscribe opens a subscription on d, and counts the caller as its consumer
// until release is called: Jakarta Messaging 3.1 §8.3, and ErrWrongKind.
func (b *Broker) Subscribe(ctx context.Context, d *destination.Destination, s topic.Spec) (*topic.Subscription, func(), error) {
	if err := permits(d, destination.KindTopic); err != nil {
		return nil, nil, err
	}
	b.mu.RLock()
	draining := b.draining
	b.mu.RUnlock()
	if draining {
		return nil, nil, fmt.Errorf("broker is %w", destination.ErrShuttingDown)
	}
	return b.topics.Open(ctx, d, s)
}

// Unsubscribe deletes a durable subscription (§8.3.6): ErrNotFound, or
// ErrConflict while it has a consumer or unacknowledged messages.
func (b *Broker) Unsubscribe(ctx context.Context, clientID, name string, shared bool) error {
	return b.topics.Unsubscribe(ctx, clientID, name, shared)
}
