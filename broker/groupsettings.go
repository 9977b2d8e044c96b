package broker

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/topic"
)

// The settings of groups by Kafka's names that the coordinator of groups obeys:
// whole numbers of milliseconds. Others are for who serves the group.
const (
	ConsumerSessionTimeout    = "consumer.session.timeout.ms"
	ConsumerHeartbeatInterval = "consumer.heartbeat.interval.ms"
	ShareSessionTimeout       = "share.session.timeout.ms"
	ShareHeartbeatInterval    = "share.heartbeat.interval.ms"
)

// groupSettings are the settings of groups, of each a fact in the metadata.
type groupSettings struct {
	changing sync.Mutex // one change at a time; held over a sync

	mu       sync.Mutex                   // guards what follows
	settings map[string]map[string]string // by group; never changed, only replaced
}

const (
	groupFact = "share.group." // from when only share groups had settings
	// maxGroupsSet bounds how many groups may have settings of their own.
	maxGroupsSet = 10_000
)

// restoreGroupSettings reads the settings of groups.
func (b *Broker) restoreGroupSettings(facts map[string]string) error {
	all := map[string]map[string]string{}
	for fact, text := range facts {
		name, ok := strings.CutPrefix(fact, groupFact)
		if !ok || text == "" {
			continue
		}
		var s map[string]string
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return fmt.Errorf("metadata: %s: %w", fact, err)
		}
		all[name] = s
	}
	b.groupSettings.settings = all
	return nil
}

// GroupSettings are what is set for a group, by name; nil if nothing is. They are
// not to be changed.
func (b *Broker) GroupSettings(group string) map[string]string {
	b.groupSettings.mu.Lock()
	defer b.groupSettings.mu.Unlock()
	return b.groupSettings.settings[group]
}

// GroupsSet are the groups that have settings, by name.
func (b *Broker) GroupsSet() []string {
	b.groupSettings.mu.Lock()
	defer b.groupSettings.mu.Unlock()
	return slices.Sorted(maps.Keys(b.groupSettings.settings))
}

// SetGroup replaces what is set for a group, whether it is in use or not; nothing
// forgets it. The values are the caller's to check. ErrTooLarge.
func (b *Broker) SetGroup(group string, settings map[string]string) error {
	if len(group) > topic.MaxNameBytes {
		return fmt.Errorf("%w: a group's name may have %d bytes", destination.ErrTooLarge, topic.MaxNameBytes)
	}
	g := &b.groupSettings
	g.changing.Lock()
	defer g.changing.Unlock()
	text := ""
	if len(settings) > 0 {
		if b.GroupSettings(group) == nil && len(b.GroupsSet()) >= maxGroupsSet {
			return fmt.Errorf("%w: %d groups have settings", destination.ErrTooLarge, maxGroupsSet)
		}
		encoded, err := json.Marshal(settings)
		if err != nil {
			return fmt.Errorf("settings of group %q: %w", group, err)
		}
		text = string(encoded)
	} else if b.GroupSettings(group) == nil {
		return nil
	}
	if err := b.metadata.PutFact(groupFact+group, text); err != nil {
		return err
	}
	g.put(group, settings)
	b.groups.Configured(group)
	return nil
}

func (g *groupSettings) put(group string, settings map[string]string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(settings) == 0 {
		delete(g.settings, group)
	} else {
		g.settings[group] = maps.Clone(settings)
	}
}

// settingsOf is what the coordinator of groups has to know of them.
func (b *Broker) settingsOf(id string) group.GroupSettings {
	set := b.GroupSettings(id)
	milliseconds := func(name string) time.Duration {
		n, _ := strconv.ParseInt(set[name], 10, 32) // they were checked
		return time.Duration(n) * time.Millisecond
	}
	return group.GroupSettings{
		ConsumerSession: milliseconds(ConsumerSessionTimeout), ConsumerHeartbeat: milliseconds(ConsumerHeartbeatInterval),
		ShareSession: milliseconds(ShareSessionTimeout), ShareHeartbeat: milliseconds(ShareHeartbeatInterval),
	}
}
