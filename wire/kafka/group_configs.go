package kafka

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
)

// The configs of groups (resource type 32).

const (
	shareReset     = "share.auto.offset.reset"
	shareIsolation = "share.isolation.level"
	shareLock      = "share.record.lock.duration.ms"
	shareLimit     = "share.delivery.count.limit"
)

// The bounds of a share group's configs. Kafka's bounds of the lock are the
// operator's to set; these are what makes sense.
const (
	defaultShareLock   = 30 * time.Second
	minShareLock       = time.Second
	maxShareLock       = time.Hour
	maxShareDeliveries = 1000
)

// The bounds of how often members are heard of, and how long they may be silent:
// as those of the classic protocol's sessions.
const (
	minGroupSession   = 6 * time.Second
	maxGroupSession   = 30 * time.Minute
	minGroupHeartbeat = 100 * time.Millisecond
)

// groupConfigs are all configs of groups.
var groupConfigs = []configEntry{
	{name: broker.ConsumerHeartbeatInterval, fallback: "3000", kind: kmsg.ConfigTypeInt, doc: "How often members of a consumer group (KIP-848) are to be heard of."},
	{name: broker.ConsumerSessionTimeout, fallback: "45000", kind: kmsg.ConfigTypeInt, doc: "How long a member of a consumer group (KIP-848) may be silent."},
	{name: shareReset, fallback: "latest", kind: kmsg.ConfigTypeString, doc: "Where a share group begins to consume a topic: latest or earliest."},
	{name: shareLimit, fallback: "0", kind: kmsg.ConfigTypeInt, doc: "Deliveries after which a record goes to the topic's dead letter destination; 0 is what the topic's max.deliveries says."},
	{name: broker.ShareHeartbeatInterval, fallback: "3000", kind: kmsg.ConfigTypeInt, doc: "How often members of a share group are to be heard of."},
	{name: shareIsolation, fallback: "read_committed", kind: kmsg.ConfigTypeString, doc: "Always read_committed."},
	{name: shareLock, fallback: "30000", kind: kmsg.ConfigTypeInt, doc: "How long a member may keep a record."},
	{name: broker.ShareSessionTimeout, fallback: "45000", kind: kmsg.ConfigTypeInt, doc: "How long a member of a share group may be silent."},
}

// checkGroupConfig says whether a group's config may have a value.
func checkGroupConfig(name, value string) error {
	i := slices.IndexFunc(groupConfigs, func(e configEntry) bool { return e.name == name })
	bad := func(reason string) error {
		return coded(codeInvalidConfig, fmt.Sprintf("Invalid value %s for configuration %s: %s", value, name, reason))
	}
	if i < 0 {
		return coded(codeInvalidConfig, "Unknown group config name: "+name)
	}
	within := func(least, most time.Duration) error {
		ms, err := strconv.ParseInt(value, 10, 64)
		if err != nil || ms < least.Milliseconds() || ms > most.Milliseconds() {
			return bad(fmt.Sprintf("it is milliseconds from %d to %d", least.Milliseconds(), most.Milliseconds()))
		}
		return nil
	}
	switch name {
	case broker.ConsumerSessionTimeout, broker.ShareSessionTimeout:
		return within(minGroupSession, maxGroupSession)
	case broker.ConsumerHeartbeatInterval, broker.ShareHeartbeatInterval:
		return within(minGroupHeartbeat, maxGroupSession)
	case shareReset:
		if value != "latest" && value != "earliest" {
			return bad("it is latest or earliest")
		}
	case shareIsolation:
		if value != "read_committed" {
			return bad("share groups always read committed records here")
		}
	case shareLock:
		return within(minShareLock, maxShareLock)
	case shareLimit:
		if n, err := strconv.Atoi(value); err != nil || n < 0 || n > maxShareDeliveries {
			return bad(fmt.Sprintf("it is a number from 0 to %d", maxShareDeliveries))
		}
	}
	return nil
}

// groupMilliseconds is a group's setting, which was checked, or its default.
func groupMilliseconds(settings map[string]string, name string) int64 {
	value, set := settings[name]
	if i := slices.IndexFunc(groupConfigs, func(e configEntry) bool { return e.name == name }); !set {
		value = groupConfigs[i].fallback
	}
	ms, _ := strconv.ParseInt(value, 10, 64)
	return ms
}

// configsOfGroup are a group's. Every name is a group's, whether it is in use
// or not.
func (c *connection) configsOfGroup(group string) ([]configEntry, error) {
	if group == "" {
		return nil, coded(codeInvalidRequest, "a group has a name")
	}
	set := c.server.broker.GroupSettings(group)
	list := slices.Clone(groupConfigs)
	for i := range list {
		list[i].value = list[i].fallback
		if v, ok := set[list[i].name]; ok {
			list[i].value = v
		}
	}
	return list, nil
}

// alterGroup changes a group's configs; a change to nil sets the default back.
// With all, it does so for those that are not named.
func (c *connection) alterGroup(group string, all, validateOnly bool, changes map[string]*string) error {
	if group == "" {
		return coded(codeInvalidRequest, "a group has a name")
	}
	settings := map[string]string{}
	if !all {
		maps.Copy(settings, c.server.broker.GroupSettings(group))
	}
	for name, value := range changes {
		if value == nil {
			if !slices.ContainsFunc(groupConfigs, func(e configEntry) bool { return e.name == name }) {
				return coded(codeInvalidConfig, "Unknown group config name: "+name)
			}
			delete(settings, name)
			continue
		}
		if err := checkGroupConfig(name, *value); err != nil {
			return err
		}
		settings[name] = *value
	}
	for _, pair := range [][2]string{
		{broker.ConsumerHeartbeatInterval, broker.ConsumerSessionTimeout}, {broker.ShareHeartbeatInterval, broker.ShareSessionTimeout},
	} {
		if groupMilliseconds(settings, pair[0]) >= groupMilliseconds(settings, pair[1]) {
			return coded(codeInvalidConfig, fmt.Sprintf("%s has to be less than %s", pair[0], pair[1]))
		}
	}
	if validateOnly {
		return nil
	}
	return c.server.broker.SetGroup(group, settings)
}

// alterGroupAll is AlterConfigs.
func (c *connection) alterGroupAll(q *kmsg.AlterConfigsRequestResource, validateOnly bool) error {
	changes := map[string]*string{}
	for i := range q.Configs {
		changes[q.Configs[i].Name] = q.Configs[i].Value
	}
	return c.alterGroup(q.ResourceName, true, validateOnly, changes)
}

// alterGroupSome is IncrementalAlterConfigs.
func (c *connection) alterGroupSome(q *kmsg.IncrementalAlterConfigsRequestResource, validateOnly bool) error {
	changes := map[string]*string{}
	for i := range q.Configs {
		k := &q.Configs[i]
		if _, twice := changes[k.Name]; twice {
			return coded(codeInvalidRequest, "Error due to duplicate config keys: "+k.Name)
		}
		switch {
		case k.Op == kmsg.IncrementalAlterConfigOpDelete:
			changes[k.Name] = nil
		case k.Op != kmsg.IncrementalAlterConfigOpSet:
			return coded(codeInvalidConfig, "Can't append to or subtract from the key "+k.Name+", because it is no list.")
		case k.Value == nil:
			return coded(codeInvalidRequest, "Null value not supported for: "+k.Name)
		default:
			changes[k.Name] = k.Value
		}
	}
	return c.alterGroup(q.ResourceName, false, validateOnly, changes)
}

// shareSettings are what a session needs of a group's configs.
type shareSettings struct {
	start      queue.Start
	lock       time.Duration
	deliveries int // 0: as the destination says
}

// shareSettings are those of a group on d, or in general if d is nil. Where the
// group says nothing, the lock is the destination's lock.timeout. What is
// stored has been checked.
func (s *Server) shareSettings(group string, d *destination.Destination) shareSettings {
	set := s.broker.GroupSettings(group)
	settings := shareSettings{start: queue.Start{Kind: queue.StartEnd}, lock: defaultShareLock}
	if d != nil && d.Settings.LockTimeout > 0 {
		settings.lock = d.Settings.LockTimeout
	}
	if set[shareReset] == "earliest" {
		settings.start.Kind = queue.StartBeginning
	}
	if ms, err := strconv.ParseInt(set[shareLock], 10, 64); err == nil {
		settings.lock = time.Duration(ms) * time.Millisecond
	}
	if n, err := strconv.Atoi(set[shareLimit]); err == nil {
		settings.deliveries = n
	}
	return settings
}
