package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/metrics"
	"slices"
	"strings"

	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// ListDestinations describes those whose name begins with prefix, by name; the
// broker's own only where internal is set.
func (b *Broker) ListDestinations(_ context.Context, prefix string, internal bool) ([]destination.Info, error) {
	var infos []destination.Info
	for _, d := range b.entries() {
		if strings.HasPrefix(d.Name, prefix) && (internal || !d.Internal) {
			infos = append(infos, b.describe(d))
		}
	}
	slices.SortFunc(infos, func(a, b destination.Info) int { return cmp.Compare(a.Name, b.Name) })
	return infos, nil
}

// DescribeDestination describes one: ErrNotFound.
func (b *Broker) DescribeDestination(ctx context.Context, name string) (destination.Info, error) {
	d, err := b.find(ctx, name)
	if err != nil {
		return destination.Info{}, err
	}
	return b.describe(d), nil
}

func (b *Broker) describe(d *destination.Destination) destination.Info {
	i := destination.Info{
		Name: d.Name, ID: d.ID, Kind: d.Kind, Temporary: d.Temporary, Internal: d.Internal,
		Settings: settingTexts(&d.Settings),
	}
	for n, p := range d.Partitions {
		bytes := p.Log().Bytes()
		i.Bytes += bytes
		i.Partitions = append(i.Partitions, destination.PartitionInfo{
			Partition: int32(n), Start: p.Start(), End: p.End(), Stable: p.Stable(), Bytes: bytes,
		})
	}
	i.Subscriptions, _ = b.topics.Count(d.ID)
	b.mu.RLock()
	var v *queue.View
	if e := b.byID[d.ID]; e != nil {
		v = e.view
	}
	b.mu.RUnlock()
	if v != nil {
		info := v.Stats().ViewInfo
		i.Queue = &info
	} else if d.Kind == destination.KindQueue {
		i.Queue = b.unopened(d)
	}
	return i
}

// unopened counts what waits in a queue that nobody has used since the start.
func (b *Broker) unopened(d *destination.Destination) *destination.ViewInfo {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e := b.byID[d.ID]
	if e == nil || e.busy != nil || e.view != nil {
		return nil // it is just being opened; the cursor has another owner
	}
	var i destination.ViewInfo
	for n, p := range d.Partitions {
		next := p.Start()
		if c, ok := b.state.Cursor(destination.CursorID{Topic: d.ID, Partition: int32(n)}); ok {
			s := c.Stats()
			i.Waiting += s.Available
			i.Scheduled += s.Scheduled
			i.Held += s.Held
			next = max(next, c.Next())
		}
		i.Waiting += max(p.Stable()-next, 0)
	}
	return &i
}

// CreateDestination makes a destination with settings by their documented
// names: ErrExists, ErrInvalid, ErrTooLarge, ErrBusy.
func (b *Broker) CreateDestination(ctx context.Context, name string, kind destination.Kind, settings map[string]string) (destination.Info, error) {
	if err := checkName(name); err != nil {
		return destination.Info{}, err
	}
	if kind < destination.KindQueue || kind > destination.KindLog {
		return destination.Info{}, fmt.Errorf("%w: %w %d", destination.ErrInvalid, destination.ErrKind, kind)
	}
	s, err := b.settingsWith(b.defaults, settings)
	if err == nil {
		err = checkTargets(name, &s)
	}
	if err != nil {
		return destination.Info{}, err
	}
	d, err := b.create(ctx, name, kind, s, true)
	if err != nil {
		return destination.Info{}, err
	}
	return b.describe(d), nil
}

// checkTargets refuses settings that name a destination which cannot be made.
func checkTargets(name string, s *destination.Settings) error {
	for _, target := range []string{s.DeadLetter, s.ExpiryDestination} {
		switch {
		case target == "" || target == destination.None:
			continue
		case target == name:
			return fmt.Errorf("%w: %q cannot be its own destination for dead or expired messages", destination.ErrInvalid, name)
		}
		if err := checkDeadLetterName(target); err != nil {
			return fmt.Errorf("destination for dead or expired messages: %w", err)
		}
	}
	return nil
}

// AlterDestination changes settings by name; an empty value sets the broker's
// default back. Partitions can be added, not taken away; the durability stays
// what it was created with.
func (b *Broker) AlterDestination(ctx context.Context, name string, settings map[string]string) (destination.Info, error) {
	d, err := b.find(ctx, name)
	if err != nil {
		return destination.Info{}, err
	}
	if d.Internal || d.Temporary {
		return destination.Info{}, fmt.Errorf("%w: the settings of %q cannot be changed", destination.ErrInvalid, name)
	}
	e, err := b.seize(ctx, d)
	if err != nil {
		return destination.Info{}, err
	}
	defer b.unseize(e)
	changed, err := b.alter(e, settings)
	if err != nil {
		return destination.Info{}, fmt.Errorf("alter %q: %w", name, err)
	}
	// First where new subscriptions look, then those that there are.
	b.mu.Lock()
	e.d = changed
	b.mu.Unlock()
	b.configure(changed)
	err = b.topics.Reconfigure(changed)
	if e.view != nil {
		err = errors.Join(err, e.view.Reconfigure(changed))
	}
	if err != nil {
		return destination.Info{}, fmt.Errorf("alter %q: %w", name, err)
	}
	if len(changed.Partitions) > len(d.Partitions) {
		b.regroup(changed)
	}
	return b.describe(changed), nil
}

// alter makes another destination of that of a busy entry, because a
// destination never changes, and remembers it.
func (b *Broker) alter(e *entry, settings map[string]string) (*destination.Destination, error) {
	d := e.d
	s, err := b.settingsWith(d.Settings, settings)
	if err == nil {
		err = checkTargets(d.Name, &s)
	}
	switch {
	case err != nil:
		return nil, err
	case s.Partitions < len(d.Partitions):
		return nil, fmt.Errorf("%w: %d partitions cannot become %d: messages would be lost",
			destination.ErrInvalid, len(d.Partitions), s.Partitions)
	case s.Durability != d.Settings.Durability:
		return nil, fmt.Errorf("%w: durability is %s and stays so; create another destination and move the messages",
			destination.ErrUnsupported, d.Settings.Durability)
	}
	changed := *d
	changed.Settings = s
	// The logs first: partitions that metadata do not know are without files.
	if err := b.openPartitions(&changed, d.Partitions); err != nil {
		return nil, err
	}
	for _, p := range d.Partitions {
		if _, err := b.store.OpenLog(p.Log().ID(), p.Log().Dir(), logConfig(&changed)); err != nil {
			return nil, err
		}
	}
	return &changed, b.metadata.PutDestination(metadata.Destination{
		Name: d.Name, ID: d.ID, Kind: d.Kind, Partitions: s.Partitions, Settings: s, CreatedMS: e.createdMS,
	})
}

// ListSubscriptions returns those that match all that q sets.
func (b *Broker) ListSubscriptions(ctx context.Context, q topic.Query) ([]topic.Info, error) {
	return b.topics.List(ctx, q)
}

// DeleteSubscription deletes a durable subscription: ErrNotFound, ErrConflict.
func (b *Broker) DeleteSubscription(ctx context.Context, q topic.Query) error {
	return b.topics.Delete(ctx, q)
}

// AlterSubscription changes settings that a durable subscription has in place of
// its topic's; an empty value has the topic's hold again: ErrNotFound, ErrInvalid.
func (b *Broker) AlterSubscription(ctx context.Context, q topic.Query, settings map[string]string) (topic.Info, error) {
	if name, ok := settings["dead.letter"]; ok && name != "" {
		s := destination.DefaultSettings()
		s.DeadLetter = name
		if err := checkTargets(q.Topic, &s); err != nil {
			return topic.Info{}, err
		}
	}
	return b.topics.Alter(ctx, q, settings)
}

// SeekSubscription has a durable subscription forget what it was delivered and
// go on at to, or with toEnd behind the last message: ErrNotFound, ErrConflict
// while it has consumers.
func (b *Broker) SeekSubscription(ctx context.Context, q topic.Query, to queue.Start, toEnd bool) (topic.Info, error) {
	if toEnd {
		to = queue.Start{Kind: queue.StartEnd}
	}
	return b.topics.Seek(ctx, q, to)
}

// Stats describes the broker. Connections is for the caller to fill in.
func (b *Broker) Stats(context.Context) (destination.BrokerInfo, error) {
	s, r := b.store.Stats(), b.store.Recovery()
	b.mu.RLock()
	n := len(b.byID)
	b.mu.RUnlock()
	return destination.BrokerInfo{
		Version: b.o.Version, StartedMS: b.startedMS, Epoch: b.Epoch(), Destinations: n,
		Syncs: s.Syncs, JournalBytes: s.JournalBytes,
		RecoveryMS: r.Duration.Milliseconds(), RecoveredEntries: r.Entries,
		HeapBytes: heapBytes(),
	}, nil
}

// heapBytes is what live and not yet collected objects take. Reading it does
// not stop the world.
func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
