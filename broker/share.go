package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// Share groups of Kafka (KIP-932). Their members are package group's to know,
// their subscriptions package topic's, and what is configured for each stands
// in the metadata as a fact.

// shareGroups are the settings of share groups.
type shareGroups struct {
	changing sync.Mutex // one change at a time; held over a sync

	mu       sync.Mutex                   // guards what follows
	settings map[string]map[string]string // by group; never changed, only replaced
}

const (
	shareGroupFact = "share.group."
	// maxShareGroups bounds how many groups may have settings of their own.
	maxShareGroups = 10_000
)

// restoreShareGroups reads the settings of share groups.
func (b *Broker) restoreShareGroups(facts map[string]string) error {
	all := map[string]map[string]string{}
	for fact, text := range facts {
		name, ok := strings.CutPrefix(fact, shareGroupFact)
		if !ok || text == "" {
			continue
		}
		var s map[string]string
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return fmt.Errorf("metadata: %s: %w", fact, err)
		}
		all[name] = s
	}
	b.shareGroups.settings = all
	return nil
}

// ShareGroupSettings are what is set for a share group, by name; nil if
// nothing is. They are not to be changed.
func (b *Broker) ShareGroupSettings(group string) map[string]string {
	b.shareGroups.mu.Lock()
	defer b.shareGroups.mu.Unlock()
	return b.shareGroups.settings[group]
}

// ShareGroupsSet are the groups that have settings, by name.
func (b *Broker) ShareGroupsSet() []string {
	b.shareGroups.mu.Lock()
	defer b.shareGroups.mu.Unlock()
	return slices.Sorted(maps.Keys(b.shareGroups.settings))
}

// SetShareGroup replaces what is set for a share group; nothing forgets it.
// ErrTooLarge.
func (b *Broker) SetShareGroup(group string, settings map[string]string) error {
	if len(group) > topic.MaxNameBytes {
		return fmt.Errorf("%w: a group's name may have %d bytes", destination.ErrTooLarge, topic.MaxNameBytes)
	}
	g := &b.shareGroups
	g.changing.Lock()
	defer g.changing.Unlock()
	text := ""
	if len(settings) > 0 {
		if b.ShareGroupSettings(group) == nil && len(b.ShareGroupsSet()) >= maxShareGroups {
			return fmt.Errorf("%w: %d groups have settings", destination.ErrTooLarge, maxShareGroups)
		}
		encoded, err := json.Marshal(settings)
		if err != nil {
			return fmt.Errorf("settings of group %q: %w", group, err)
		}
		text = string(encoded)
	} else if b.ShareGroupSettings(group) == nil {
		return nil
	}
	if err := b.metadata.PutFact(shareGroupFact+group, text); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if text == "" {
		delete(g.settings, group)
	} else {
		g.settings[group] = maps.Clone(settings)
	}
	return nil
}

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
