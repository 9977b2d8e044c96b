package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/session"
)

// DescribeConfigs 1–4, AlterConfigs 0–2, IncrementalAlterConfigs 0–1,
// ListConfigResources 0–1.
//
// A topic's configs are the settings of the destination under the same names,
// and the rest of Kafka's names at the values that hold here. Those can be set to
// just that value; every other value, and every unknown name, is INVALID_CONFIG.
// Those of groups are in group_configs.go.
// AlterConfigs sets all that it does not name back to the default.

// configEntry is one config of a topic.
type configEntry struct {
	name, value, fallback string
	kind                  kmsg.ConfigType
	readOnly              bool
	doc                   string
}

func (e *configEntry) source() kmsg.ConfigSource {
	if e.value != e.fallback {
		return kmsg.ConfigSourceDynamicTopicConfig
	}
	return kmsg.ConfigSourceDefaultConfig
}

// fixed are Kafka's configs that no setting stands for.
var fixed = []struct {
	name, value string
	kind        kmsg.ConfigType
}{
	{"file.delete.delay.ms", "0", kmsg.ConfigTypeLong},
	{"flush.messages", "1", kmsg.ConfigTypeLong},
	{"flush.ms", "0", kmsg.ConfigTypeLong},
	{"follower.replication.throttled.replicas", "", kmsg.ConfigTypeList},
	{"index.interval.bytes", "4096", kmsg.ConfigTypeInt},
	{"leader.replication.throttled.replicas", "", kmsg.ConfigTypeList},
	{"local.retention.bytes", "-2", kmsg.ConfigTypeLong},
	{"local.retention.ms", "-2", kmsg.ConfigTypeLong},
	{"max.compaction.lag.ms", "9223372036854775807", kmsg.ConfigTypeLong},
	{"message.timestamp.before.max.ms", "9223372036854775807", kmsg.ConfigTypeLong},
	{"min.cleanable.dirty.ratio", "0.5", kmsg.ConfigTypeDouble},
	{"preallocate", "true", kmsg.ConfigTypeBoolean},
	{"remote.storage.enable", "false", kmsg.ConfigTypeBoolean},
	{"segment.index.bytes", "10485760", kmsg.ConfigTypeInt},
	{"segment.jitter.ms", "0", kmsg.ConfigTypeLong},
	{"unclean.leader.election.enable", "false", kmsg.ConfigTypeBoolean},
}

// ours are settings that are not configs: they have requests of their own, or
// cannot be changed.
func ours(name string) bool { return name == "partitions" }

// topicConfigs are all configs of a topic with these settings, by name.
func topicConfigs(settings map[string]string) []configEntry {
	var list []configEntry
	for _, i := range destination.SettingNames() {
		if ours(i.Name) {
			continue
		}
		list = append(list, configEntry{
			name: i.Name, value: settings[i.Name], fallback: i.Default, kind: configType(i.Type),
			readOnly: i.Name == "durability", doc: i.Doc,
		})
	}
	for _, f := range fixed {
		list = append(list, configEntry{name: f.name, value: f.value, fallback: f.value, kind: f.kind, readOnly: true})
	}
	slices.SortFunc(list, func(a, b configEntry) int { return cmpStrings(a.name, b.name) })
	return list
}

func configType(setting string) kmsg.ConfigType {
	switch setting {
	case "count":
		return kmsg.ConfigTypeInt
	case "bytes", "milliseconds":
		return kmsg.ConfigTypeLong
	case "factor":
		return kmsg.ConfigTypeDouble
	case "flag":
		return kmsg.ConfigTypeBoolean
	}
	return kmsg.ConfigTypeString
}

// setConfig notes a change of a config by name; nil sets the default back.
func setConfig(settings map[string]string, name string, value *string) error {
	for _, f := range fixed {
		if f.name != name {
			continue
		}
		if value != nil && *value != f.value {
			return coded(codeInvalidConfig, fmt.Sprintf("%s is %q here and cannot be changed", name, f.value))
		}
		return nil
	}
	if ours(name) || !slices.ContainsFunc(destination.SettingNames(), func(i destination.SettingInfo) bool { return i.Name == name }) {
		return coded(codeInvalidConfig, "Unknown topic config name: "+name)
	}
	if value == nil {
		settings[name] = ""
	} else {
		settings[name] = canonical(name, *value)
	}
	return nil
}

// canonical is a list as the setting has it: without spaces.
func canonical(name, value string) string {
	if name != "cleanup.policy" {
		return value
	}
	return strings.Join(listOf(value), ",")
}

func listOf(value string) (words []string) {
	for w := range strings.SplitSeq(value, ",") {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}

func (c *connection) describeConfigs(ctx context.Context, r *kmsg.DescribeConfigsRequest) *kmsg.DescribeConfigsResponse {
	response := r.ResponseKind().(*kmsg.DescribeConfigsResponse)
	for i := range r.Resources {
		q := &r.Resources[i]
		a := kmsg.NewDescribeConfigsResponseResource()
		a.ResourceType, a.ResourceName = q.ResourceType, q.ResourceName
		list, err := c.configsOf(ctx, q.ResourceType, q.ResourceName)
		a.ErrorCode, a.ErrorMessage = codeOf(err), messageOf(err)
		for i := range list {
			e := &list[i]
			if q.ConfigNames != nil && !slices.Contains(q.ConfigNames, e.name) {
				continue
			}
			a.Configs = append(a.Configs, e.describe(q.ResourceType, r.IncludeSynonyms, r.IncludeDocumentation))
		}
		response.Resources = append(response.Resources, a)
	}
	return response
}

func (e *configEntry) describe(of kmsg.ConfigResourceType, synonyms, docs bool) kmsg.DescribeConfigsResponseResourceConfig {
	k := kmsg.NewDescribeConfigsResponseResourceConfig()
	k.Name, k.Value, k.ReadOnly, k.ConfigType = e.name, &e.value, e.readOnly, e.kind
	k.Source = e.source()
	if of == kmsg.ConfigResourceTypeBroker && k.Source == kmsg.ConfigSourceDynamicTopicConfig {
		k.Source = kmsg.ConfigSourceStaticBrokerConfig
	}
	if of == kmsg.ConfigResourceTypeGroupConfig && k.Source == kmsg.ConfigSourceDynamicTopicConfig {
		k.Source = kmsg.ConfigSourceGroupConfig
	}
	k.IsDefault = k.Source == kmsg.ConfigSourceDefaultConfig
	if docs && e.doc != "" {
		k.Documentation = &e.doc
	}
	if synonyms {
		s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		s.Name, s.Value, s.Source = e.name, &e.value, k.Source
		k.ConfigSynonyms = append(k.ConfigSynonyms, s)
	}
	return k
}

func (c *connection) configsOf(ctx context.Context, kind kmsg.ConfigResourceType, name string) ([]configEntry, error) {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		if err := checkTopicName(name); err != nil {
			return nil, coded(codeInvalidTopic, err.Error())
		}
		d, code := c.lookup(name, [16]byte{}, false, session.OperationDescribeConfigs)
		if code != codeNone {
			return nil, coded(code, "")
		}
		info, err := c.server.broker.DescribeDestination(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		return topicConfigs(info.Settings), nil
	case kmsg.ConfigResourceTypeBroker:
		if name != "" && name != strconv.Itoa(int(c.server.options.NodeID)) {
			return nil, coded(codeInvalidRequest, fmt.Sprintf("Unexpected broker id, expected %d or empty string, but received %s", c.server.options.NodeID, name))
		}
		if name == "" {
			return nil, nil // the cluster's dynamic defaults: there are none
		}
		return c.brokerConfigs(), nil
	case kmsg.ConfigResourceTypeGroupConfig:
		return c.configsOfGroup(name)
	case kmsg.ConfigResourceTypeBrokerLogger:
		return nil, coded(codeInvalidRequest, "loggers have no configs here")
	}
	return nil, coded(codeInvalidRequest, fmt.Sprintf("Unsupported resource type: %d", kind))
}

// brokerConfigs are the broker's under Kafka's names.
func (c *connection) brokerConfigs() []configEntry {
	host, port := c.endpoint()
	o := &c.server.options
	defaults, _ := c.server.broker.Settings(nil) // nothing was changed that could be wrong
	static := func(name, value string, kind kmsg.ConfigType) configEntry {
		return configEntry{name: name, value: value, kind: kind, readOnly: true}
	}
	return []configEntry{
		static("advertised.listeners", fmt.Sprintf("PLAINTEXT://%s:%d", host, port), kmsg.ConfigTypeString),
		static("auto.create.topics.enable", strconv.FormatBool(c.server.broker.AutoCreates()), kmsg.ConfigTypeBoolean),
		static("broker.id", strconv.Itoa(int(o.NodeID)), kmsg.ConfigTypeInt),
		static("compression.type", "producer", kmsg.ConfigTypeString),
		static("default.replication.factor", "1", kmsg.ConfigTypeInt),
		static("delete.topic.enable", "true", kmsg.ConfigTypeBoolean),
		static("group.consumer.migration.policy", "bidirectional", kmsg.ConfigTypeString),
		static("log.cleanup.policy", defaults["cleanup.policy"], kmsg.ConfigTypeList),
		static("log.dirs", c.server.broker.Dir(), kmsg.ConfigTypeString),
		static("log.retention.bytes", defaults["retention.bytes"], kmsg.ConfigTypeLong),
		static("log.retention.ms", defaults["retention.ms"], kmsg.ConfigTypeLong),
		static("log.segment.bytes", defaults["segment.bytes"], kmsg.ConfigTypeInt),
		static("message.max.bytes", defaults["max.message.bytes"], kmsg.ConfigTypeInt),
		static("min.insync.replicas", "1", kmsg.ConfigTypeInt),
		static("node.id", strconv.Itoa(int(o.NodeID)), kmsg.ConfigTypeInt),
		static("num.partitions", defaults["partitions"], kmsg.ConfigTypeInt),
		static("offsets.topic.num.partitions", "50", kmsg.ConfigTypeInt),
		static("producer.id.expiration.ms", strconv.FormatInt(c.server.broker.ProducerExpiration().Milliseconds(), 10), kmsg.ConfigTypeInt),
		static("socket.request.max.bytes", strconv.Itoa(o.MaxRequestBytes), kmsg.ConfigTypeInt),
		static("transaction.state.log.num.partitions", "50", kmsg.ConfigTypeInt),
	}
}

// alter changes a resource's configs.
func (c *connection) alter(ctx context.Context, kind kmsg.ConfigResourceType, name string, validateOnly bool, changes func(settings map[string]string, d *destination.Destination) error) error {
	if kind != kmsg.ConfigResourceTypeTopic {
		return coded(codeInvalidRequest, "only the configs of topics and groups can be changed; the broker has its own configuration file")
	}
	d, code := c.lookup(name, [16]byte{}, false, session.OperationAlterConfigs)
	if code != codeNone {
		return coded(code, "")
	}
	settings := map[string]string{}
	if err := changes(settings, d); err != nil {
		return err
	}
	if len(settings) == 0 {
		return nil
	}
	if validateOnly {
		if _, err := c.server.broker.Settings(settings); err != nil {
			return coded(codeInvalidConfig, err.Error())
		}
		return nil
	}
	if _, err := c.server.broker.AlterDestination(ctx, d.Name, settings); err != nil {
		return coded(codeInvalidConfig, err.Error())
	}
	return nil
}

func (c *connection) alterConfigs(ctx context.Context, r *kmsg.AlterConfigsRequest) *kmsg.AlterConfigsResponse {
	response := r.ResponseKind().(*kmsg.AlterConfigsResponse)
	for i := range r.Resources {
		q := &r.Resources[i]
		a := kmsg.NewAlterConfigsResponseResource()
		a.ResourceType, a.ResourceName = q.ResourceType, q.ResourceName
		if q.ResourceType == kmsg.ConfigResourceTypeGroupConfig {
			err := c.alterGroupAll(q, r.ValidateOnly)
			a.ErrorCode, a.ErrorMessage = codeOf(err), messageOf(err)
			response.Resources = append(response.Resources, a)
			continue
		}
		err := c.alter(ctx, q.ResourceType, q.ResourceName, r.ValidateOnly, func(settings map[string]string, _ *destination.Destination) error {
			for _, i := range destination.SettingNames() {
				if !ours(i.Name) && i.Name != "durability" {
					settings[i.Name] = ""
				}
			}
			for j := range q.Configs {
				if err := setConfig(settings, q.Configs[j].Name, q.Configs[j].Value); err != nil {
					return err
				}
			}
			return nil
		})
		a.ErrorCode, a.ErrorMessage = codeOf(err), messageOf(err)
		response.Resources = append(response.Resources, a)
	}
	return response
}

func (c *connection) incrementalAlterConfigs(ctx context.Context, r *kmsg.IncrementalAlterConfigsRequest) *kmsg.IncrementalAlterConfigsResponse {
	response := r.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	for i := range r.Resources {
		q := &r.Resources[i]
		a := kmsg.NewIncrementalAlterConfigsResponseResource()
		a.ResourceType, a.ResourceName = q.ResourceType, q.ResourceName
		if q.ResourceType == kmsg.ConfigResourceTypeGroupConfig {
			err := c.alterGroupSome(q, r.ValidateOnly)
			a.ErrorCode, a.ErrorMessage = codeOf(err), messageOf(err)
			response.Resources = append(response.Resources, a)
			continue
		}
		err := c.alter(ctx, q.ResourceType, q.ResourceName, r.ValidateOnly, func(settings map[string]string, d *destination.Destination) error {
			for j := range q.Configs {
				if err := increment(settings, d, &q.Configs[j]); err != nil {
					return err
				}
			}
			return nil
		})
		a.ErrorCode, a.ErrorMessage = codeOf(err), messageOf(err)
		response.Resources = append(response.Resources, a)
	}
	return response
}

func increment(settings map[string]string, d *destination.Destination, q *kmsg.IncrementalAlterConfigsRequestResourceConfig) error {
	if _, twice := settings[q.Name]; twice {
		return coded(codeInvalidRequest, "Error due to duplicate config keys: "+q.Name)
	}
	switch q.Op {
	case kmsg.IncrementalAlterConfigOpSet:
		if q.Value == nil {
			return coded(codeInvalidRequest, "Null value not supported for: "+q.Name)
		}
		return setConfig(settings, q.Name, q.Value)
	case kmsg.IncrementalAlterConfigOpDelete:
		return setConfig(settings, q.Name, nil)
	case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
		if q.Name != "cleanup.policy" || q.Value == nil {
			return coded(codeInvalidConfig, "Can't append to or subtract from the key "+q.Name+", because it is no list.")
		}
		words := listOf(d.Settings.CleanupPolicy)
		for _, w := range listOf(*q.Value) {
			words = slices.DeleteFunc(words, func(have string) bool { return have == w })
			if q.Op == kmsg.IncrementalAlterConfigOpAppend {
				words = append(words, w)
			}
		}
		all := strings.Join(words, ",")
		return setConfig(settings, q.Name, &all)
	}
	return coded(codeInvalidRequest, fmt.Sprintf("unknown operation %d", q.Op))
}

func (c *connection) listConfigResources(_ context.Context, r *kmsg.ListConfigResourcesRequest) *kmsg.ListConfigResourcesResponse {
	response := r.ResponseKind().(*kmsg.ListConfigResourcesResponse)
	wanted := func(t kmsg.ConfigResourceType) bool {
		return r.Version > 0 && (len(r.ResourceTypes) == 0 || slices.Contains(r.ResourceTypes, int8(t)))
	}
	add := func(name string, t kmsg.ConfigResourceType) {
		k := kmsg.NewListConfigResourcesResponseConfigResource()
		k.Name, k.Type = name, int8(t)
		response.ConfigResources = append(response.ConfigResources, k)
	}
	if wanted(kmsg.ConfigResourceTypeTopic) {
		for _, d := range c.server.broker.Destinations() {
			if !d.Temporary {
				add(topicName(d), kmsg.ConfigResourceTypeTopic)
			}
		}
	}
	if wanted(kmsg.ConfigResourceTypeGroupConfig) {
		for _, g := range c.server.broker.GroupsSet() {
			add(g, kmsg.ConfigResourceTypeGroupConfig)
		}
	}
	if wanted(kmsg.ConfigResourceTypeBroker) {
		add(strconv.Itoa(int(c.server.options.NodeID)), kmsg.ConfigResourceTypeBroker)
	}
	return response
}
