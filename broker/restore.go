package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// restore builds the registry from the metadata, and finishes what a crash has
// left half done.
func (b *Broker) restore() error {
	c, err := b.metadata.Load()
	if err != nil {
		return err
	}
	for _, d := range c.Deletions {
		if err := b.finishDeletion(d); err != nil {
			return fmt.Errorf("finish the deletion of %q: %w", d.Name, err)
		}
	}
	for _, m := range c.Destinations {
		d, err := b.build(m)
		if err != nil {
			return err
		}
		e := &entry{d: d, createdMS: m.CreatedMS}
		b.byName[d.Name], b.byID[d.ID] = e, e
	}
	if err := b.restoreSubscriptions(c.Subscriptions); err != nil {
		return err
	}
	if err := b.dropOrphans(); err != nil {
		return err
	}
	if err := b.skipSettled(c.Subscriptions); err != nil {
		return err
	}
	if err := b.restoreProducerIDs(c.Facts[producerIDFact]); err != nil {
		return err
	}
	if err := b.restoreGroupSettings(c.Facts); err != nil {
		return err
	}
	if err := b.restoreSchedules(c.Facts); err != nil {
		return err
	}
	if err := b.restoreAccess(c); err != nil {
		return err
	}
	if b.clusterID = c.Facts[clusterIDFact]; b.clusterID == "" {
		b.clusterID = newClusterID()
		return b.metadata.PutFact(clusterIDFact, b.clusterID)
	}
	return nil
}

const clusterIDFact = "cluster.id"

// build opens a destination's logs, which costs no file until they are used.
func (b *Broker) build(m metadata.Destination) (*destination.Destination, error) {
	d := &destination.Destination{Name: m.Name, ID: m.ID, Kind: m.Kind, Settings: m.Settings, Internal: isInternal(m.Name)}
	d.Settings.Partitions = m.Partitions
	return d, b.openPartitions(d, nil)
}

// openPartitions opens the partitions of d, behind those that it has already.
func (b *Broker) openPartitions(d *destination.Destination, have []*destination.Partition) error {
	d.Partitions = append(make([]*destination.Partition, 0, d.Settings.Partitions), have...)
	for p := len(have); p < d.Settings.Partitions; p++ {
		log, err := b.store.OpenLog(commitlog.LogID{Topic: d.ID, Partition: int32(p)}, directory(d.Name, p), logConfig(d))
		if err != nil {
			return fmt.Errorf("open partition %d of %q: %w", p, d.Name, err)
		}
		d.Partitions = append(d.Partitions, destination.NewPartition(int32(p), log, b.store.Epoch()))
	}
	if have == nil { // else it is done when the destination is known to have changed
		b.configure(d)
	}
	return nil
}

// configure tells the partitions of d what the settings say about sends.
func (b *Broker) configure(d *destination.Destination) {
	s := &d.Settings
	var room *destination.Room
	if s.MaxLength > 0 {
		room = destination.NewRoom(int64(s.MaxLength), s.Overflow == destination.OverflowBlock, func() int64 { return b.length(d) })
	}
	for _, p := range d.Partitions {
		p.Pause(s.PausesPuts())
		p.Deduplicate(s.DuplicateWindow, time.Duration(s.DuplicateWindowMS)*time.Millisecond)
		p.Limit(room)
	}
}

// length is how many messages wait in a queue, or in the longest subscription.
func (b *Broker) length(d *destination.Destination) int64 {
	n := b.topics.Length(d.ID)
	b.mu.RLock()
	var v *queue.View
	if e := b.byID[d.ID]; e != nil {
		v = e.view
	}
	b.mu.RUnlock()
	if v == nil && d.Kind == destination.KindQueue {
		v, _ = b.queueView(context.Background(), d) // or it is gone
	}
	if v != nil {
		n = max(n, v.Length())
	}
	return n
}

// finishDeletion deletes what is left of a destination that was being deleted.
func (b *Broker) finishDeletion(m metadata.Destination) error {
	d, err := b.build(m)
	if err != nil {
		return err
	}
	for _, p := range d.Partitions {
		if err := p.Log().Delete(); err != nil {
			return err
		}
	}
	return b.metadata.Forget(m.ID)
}

// restoreSubscriptions puts the durable subscriptions back, the patterns first.
// One whose topic is not there cannot be, since both are deleted at once; if it is there all the
// same, nobody could ever open it again.
func (b *Broker) restoreSubscriptions(all []metadata.Subscription) error {
	patterns := map[string]bool{}
	for _, s := range all {
		if s.Topic != (metadata.ID{}) {
			continue
		}
		r, err := subscriptionRecord(s)
		if err == nil {
			err = b.topics.RestorePattern(r)
		}
		if err != nil {
			return fmt.Errorf("subscription %q: %w", s.Name, err)
		}
		patterns[s.ClientID+"\x00"+s.Name] = true
	}
	for _, s := range all {
		if s.Topic == (metadata.ID{}) {
			continue
		}
		e := b.byID[s.Topic]
		if s.Pattern != "" && !patterns[s.ClientID+"\x00"+s.Name] {
			// Its pattern was not made to the end, or is deleted.
			if err := b.metadata.DeleteSubscription(s.ID); err != nil {
				return err
			}
			continue
		}
		if e == nil {
			b.o.Logger.Warn("a subscription has no topic: it is deleted", "subscription", s.Name, "client id", s.ClientID)
			if err := b.metadata.DeleteSubscription(s.ID); err != nil {
				return err
			}
			continue
		}
		r, err := subscriptionRecord(s)
		if err != nil {
			return fmt.Errorf("subscription %q: %w", s.Name, err)
		}
		b.topics.Restore(e.d, r)
	}
	return b.restorePatterns()
}

func subscriptionRecord(s metadata.Subscription) (topic.Record, error) {
	kind, err := topic.ParseKind(s.Kind)
	if err != nil {
		return topic.Record{}, err
	}
	settings, err := destination.Overrides("").With(s.Settings)
	return topic.Record{
		ID: s.ID, Topic: s.Topic, Kind: kind, ClientID: s.ClientID, Name: s.Name,
		Selector: s.Selector, NoLocal: s.NoLocal, Pattern: s.Pattern, Settings: settings, Start: s.Start, CreatedMS: s.CreatedMS,
	}, err
}

// dropOrphans drops cursors whose destination or subscription is gone: those
// of subscriptions that are not durable, and those whose deletion a crash has
// interrupted.
func (b *Broker) dropOrphans() error {
	var orphans []destination.CursorID
	for id := range b.state.Cursors() {
		e := b.byID[id.Topic]
		if e == nil || int(id.Partition) >= len(e.d.Partitions) ||
			id.Subscription != "" && !b.topics.Owns(id.Topic, id.Subscription) {
			orphans = append(orphans, id)
		}
	}
	for _, id := range orphans {
		if err := b.state.Drop(id); err != nil {
			return fmt.Errorf("drop a cursor without an owner: %w", err)
		}
	}
	return nil
}

// skipSettled has every log go on past all that a cursor has ever seen. A
// destination in memory may have lost the end of its log while the cursors,
// which are journaled, remember it as done: without this they would take its
// next messages for done too.
func (b *Broker) skipSettled(subscriptions []metadata.Subscription) error {
	seen := map[commitlog.LogID]int64{}
	for id := range b.state.Cursors() {
		if c, ok := b.state.Cursor(id); ok {
			log := commitlog.LogID{Topic: id.Topic, Partition: id.Partition}
			seen[log] = max(seen[log], c.Next())
		}
	}
	for _, s := range subscriptions {
		for p, start := range s.Start {
			log := commitlog.LogID{Topic: s.Topic, Partition: int32(p)}
			seen[log] = max(seen[log], start)
		}
	}
	for id, next := range seen {
		e := b.byID[id.Topic]
		if e == nil || int(id.Partition) >= len(e.d.Partitions) {
			continue
		}
		if log := e.d.Partitions[id.Partition].Log(); log.End() < next {
			if err := log.SkipTo(next); err != nil {
				return fmt.Errorf("resume %q past what was settled: %w", e.d.Name, err)
			}
		}
	}
	return nil
}

// subscriptionStore is the metadata as topic wants them: the two packages do
// not know each other.
type subscriptionStore struct{ metadata.Store }

func (s subscriptionStore) PutSubscription(r topic.Record, replaces ...string) error {
	return s.Store.PutSubscription(metadata.Subscription{
		ID: r.ID, Topic: r.Topic, Kind: r.Kind.String(), ClientID: r.ClientID, Name: r.Name,
		Selector: r.Selector, NoLocal: r.NoLocal, Pattern: r.Pattern, Settings: r.Settings.Map(), Start: r.Start, CreatedMS: r.CreatedMS,
	}, replaces...)
}
