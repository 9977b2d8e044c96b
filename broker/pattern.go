package broker

import (
	"context"
	"fmt"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/topic"
)

// watch is who waits for destinations.
type watch struct {
	pattern destination.Pattern
	kind    destination.Kind
	made    func(*destination.Destination)
}

// wants says whether d is of those that w waits for. A log is read as a topic,
// as in Kafka; a queue's own cursor it has only where somebody names it.
func (w *watch) wants(d *destination.Destination) bool {
	return takesPattern(d, w.kind) && w.pattern.Matches(d.Name)
}

func takesPattern(d *destination.Destination, kind destination.Kind) bool {
	switch {
	case d.Internal, d.Temporary:
		return false
	case d.Kind == kind, d.Settings.Views == destination.ViewsAny:
		return true
	}
	return d.Kind == destination.KindLog && kind == destination.KindTopic
}

// Match returns the destinations that p matches and that take the views of kind,
// and has made called for those that are made from then on, until cancel is called.
func (b *Broker) Match(p destination.Pattern, kind destination.Kind, made func(*destination.Destination)) (now []*destination.Destination, cancel func()) {
	w := &watch{p, kind, made}
	b.mu.Lock()
	b.watches[w] = struct{}{}
	b.mu.Unlock()
	return b.matching(w), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watches, w)
	}
}

func (b *Broker) matching(w *watch) (all []*destination.Destination) {
	for _, d := range b.entries() {
		if w.wants(d) {
			all = append(all, d)
		}
	}
	return all
}

// made has a new destination known to those whose patterns match it. Those are
// told by another goroutine: they open views, and d may be made by one.
func (b *Broker) made(ctx context.Context, d *destination.Destination) {
	if takesPattern(d, destination.KindTopic) {
		if err := b.topics.Made(context.WithoutCancel(ctx), d); err != nil {
			b.o.Logger.Error("a subscription of a pattern misses a new topic until the next start", "topic", d.Name, "error", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return
	}
	for w := range b.watches {
		if w.wants(d) {
			b.watching.Go(func() { w.made(d) })
		}
	}
}

// SubscribePattern opens the subscriptions that s has on all topics that p
// matches, and counts the caller as a consumer until release is called.
func (b *Broker) SubscribePattern(ctx context.Context, p destination.Pattern, s topic.Spec) (release func(), err error) {
	b.mu.RLock()
	draining := b.draining
	b.mu.RUnlock()
	if draining {
		return nil, fmt.Errorf("broker is %w", destination.ErrShuttingDown)
	}
	return b.topics.OpenPattern(ctx, p, s, func() []*destination.Destination {
		return b.matching(&watch{pattern: p, kind: destination.KindTopic})
	})
}

// restorePatterns makes what a crash kept from being made.
func (b *Broker) restorePatterns() error {
	for _, d := range b.entries() {
		if !takesPattern(d, destination.KindTopic) {
			continue
		}
		if err := b.topics.Made(context.Background(), d); err != nil {
			return err
		}
	}
	return nil
}
