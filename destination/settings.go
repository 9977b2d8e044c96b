package destination

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// None, as a name in DeadLetter, says that there is no such destination.
const None = "none"

// The values of the settings that are words.
const (
	DurabilityDisk   = "disk"
	DurabilityMemory = "memory"
	ViewsAny         = "any"
	PausedPuts       = "puts"
	PausedTakes      = "takes"
	PausedAll        = "all"
	GroupsKey        = "key"
	OverflowFail     = "fail"
	OverflowBlock    = "block"
	CleanupDelete    = "delete"
	CleanupCompact   = "compact"
	CleanupBoth      = "compact,delete"

	TimestampCreate = "CreateTime"
	TimestampAppend = "LogAppendTime"

	CompressionProducer     = "producer"
	CompressionUncompressed = "uncompressed"
)

// Errors of settings.
var (
	ErrUnknownSetting = errors.New("unknown setting")
	ErrSettingValue   = errors.New("bad value")
)

// Settings say how a destination behaves. Every one has a name, which is what
// the command line, TOML files and the wire use; SettingNames lists them.
// The zero value is not useful: start with DefaultSettings.
type Settings struct {
	Partitions           int           // partitions
	Durability           string        // durability
	Views                string        // views
	Paused               string        // paused
	RetentionMS          int64         // retention.ms; -1 is for ever
	RetentionBytes       int64         // retention.bytes, of one partition; -1 is no limit
	RetentionHard        bool          // retention.hard
	CleanupPolicy        string        // cleanup.policy
	SegmentBytes         int64         // segment.bytes
	SegmentMS            int64         // segment.ms
	CompactionLagMS      int64         // min.compaction.lag.ms
	DeleteRetentionMS    int64         // delete.retention.ms
	MaxMessageBytes      int64         // max.message.bytes
	TimestampType        string        // message.timestamp.type
	TimestampAfterMax    int64         // message.timestamp.after.max.ms
	CompressionType      string        // compression.type
	MinInsyncReplicas    int           // min.insync.replicas
	MaxDeliveries        int           // max.deliveries; 0 is no limit
	DeadLetter           string        // dead.letter; "" is DLQ.name, None is none
	ExpiryDestination    string        // expiry.destination; "" is none
	RedeliveryDelay      time.Duration // redelivery.delay
	RedeliveryMultiplier float64       // redelivery.multiplier
	RedeliveryMaxDelay   time.Duration // redelivery.max.delay
	RedeliveryJitter     float64       // redelivery.jitter
	DuplicateWindow      int           // duplicate.window; 0 is none
	DuplicateWindowMS    int64         // duplicate.window.ms; 0 is no limit
	LockTimeout          time.Duration // lock.timeout
	SlowConsumer         time.Duration // slow.consumer.timeout; 0 is none
	PriorityWindow       int           // priority.window
	MaxLength            int           // max.length; 0 is no limit
	Overflow             string        // overflow
	Groups               string        // groups
	Exclusive            bool          // exclusive
	HoldGroups           bool          // hold.groups
}

// DefaultSettings are the settings of a destination about which nothing was said.
func DefaultSettings() Settings { return defaultSettings }

var defaultSettings = func() (s Settings) {
	for i := range settings {
		if err := settings[i].field(&s).set(settings[i].Default); err != nil {
			panic(fmt.Sprintf("destination: default of %s: %v", settings[i].Name, err))
		}
	}
	return s
}()

// SettingInfo describes one setting.
type SettingInfo struct {
	Name    string
	Type    string // "count", "bytes", "milliseconds", "duration", "factor", "flag", "name", or the words with | between
	Default string // as Get gives it
	Doc     string
}

type setting struct {
	SettingInfo
	field func(*Settings) value
}

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// settings is the one table. The order is the order in which they are shown.
var settings = [...]setting{
	{
		SettingInfo{"partitions", "count", "1", "Number of partitions, 1 to 10000. May be raised later, never lowered."},
		func(s *Settings) value { return countValue{&s.Partitions, 1, MaxPartitions} },
	},
	{
		SettingInfo{"durability", "disk|memory", DurabilityDisk, "disk: confirmed once it is synced. memory: confirmed once it is written, lost with the broker."},
		func(s *Settings) value { return wordValue{&s.Durability, "disk|memory"} },
	},
	{
		SettingInfo{"views", "|any", "", "any: a queue may be opened as a topic too, and a topic as a queue."},
		func(s *Settings) value { return wordValue{&s.Views, "|any"} },
	},
	{
		SettingInfo{"paused", "puts|takes|all", "", "puts: sends are refused. takes: nothing is delivered; reading it as a log goes on. all: both."},
		func(s *Settings) value { return wordValue{&s.Paused, "|puts|takes|all"} },
	},
	{
		SettingInfo{"retention.ms", "milliseconds", "604800000", "How long messages are kept after everyone who holds them is done; -1 is for ever."},
		func(s *Settings) value { return millisValue{&s.RetentionMS, -1} },
	},
	{
		SettingInfo{"retention.bytes", "bytes", "-1", "How much of one partition is kept after everyone who holds it is done; -1 is no limit."},
		func(s *Settings) value { return bytesValue{&s.RetentionBytes, -1, math.MaxInt64} },
	},
	{
		SettingInfo{"retention.hard", "flag", "false", "true: the limits of time and size hold even for messages that nobody has consumed."},
		func(s *Settings) value { return flagValue{&s.RetentionHard} },
	},
	{
		SettingInfo{"cleanup.policy", "delete|compact|compact,delete|delete,compact", CleanupDelete, "compact: the last message of each key is kept."},
		func(s *Settings) value {
			return wordValue{&s.CleanupPolicy, "delete|compact|compact,delete|delete,compact"}
		},
	},
	{
		SettingInfo{"segment.bytes", "bytes", "268435456", "Size of one segment file, 64 KiB to 1 GiB."},
		func(s *Settings) value { return bytesValue{&s.SegmentBytes, 64 * kib, gib} },
	},
	{
		SettingInfo{"segment.ms", "milliseconds", "604800000", "Age at which a segment is closed, however small."},
		func(s *Settings) value { return millisValue{&s.SegmentMS, 1} },
	},
	{
		SettingInfo{"min.compaction.lag.ms", "milliseconds", "0", "How long a message is safe from compaction."},
		func(s *Settings) value { return millisValue{&s.CompactionLagMS, 0} },
	},
	{
		SettingInfo{"delete.retention.ms", "milliseconds", "86400000", "How long a tombstone survives compaction."},
		func(s *Settings) value { return millisValue{&s.DeleteRetentionMS, 0} },
	},
	{
		SettingInfo{"max.message.bytes", "bytes", "1048588", "Largest batch that is accepted, 1 KiB to 256 MiB."},
		func(s *Settings) value { return bytesValue{&s.MaxMessageBytes, kib, 256 * mib} },
	},
	{
		SettingInfo{"message.timestamp.type", "CreateTime|LogAppendTime", TimestampCreate, "Of what Kafka producers send: CreateTime keeps their timestamps, LogAppendTime sets the broker's."},
		func(s *Settings) value { return wordValue{&s.TimestampType, "CreateTime|LogAppendTime"} },
	},
	{
		SettingInfo{"message.timestamp.after.max.ms", "milliseconds", "3600000", "How far ahead of the broker's clock the timestamps of Kafka producers may be."},
		func(s *Settings) value { return millisValue{&s.TimestampAfterMax, 0} },
	},
	{
		SettingInfo{"compression.type", "producer|uncompressed|gzip|snappy|lz4|zstd", CompressionProducer, "Of what Kafka producers send: producer keeps it as it comes, the others compress it anew."},
		func(s *Settings) value {
			return wordValue{&s.CompressionType, "producer|uncompressed|gzip|snappy|lz4|zstd"}
		},
	},
	{
		SettingInfo{"min.insync.replicas", "count", "1", "Replicas that must have a message before acks=all is confirmed. There is one: more refuse such sends."},
		func(s *Settings) value { return countValue{&s.MinInsyncReplicas, 1, math.MaxInt32} },
	},
	{
		SettingInfo{"max.deliveries", "count", "5", "Deliveries after which a message goes to the dead letter destination; 0 is no limit."},
		func(s *Settings) value { return countValue{&s.MaxDeliveries, 0, math.MaxInt32} },
	},
	{
		SettingInfo{"dead.letter", "name", "", "Where undeliverable messages go; empty is DLQ. and the name, none is nowhere."},
		func(s *Settings) value { return nameValue{&s.DeadLetter} },
	},
	{
		SettingInfo{"expiry.destination", "name", "", "Where expired messages go; empty is nowhere."},
		func(s *Settings) value { return nameValue{&s.ExpiryDestination} },
	},
	{
		SettingInfo{"redelivery.delay", "duration", "0s", "Wait before the first redelivery."},
		func(s *Settings) value { return durationValue{&s.RedeliveryDelay, 0} },
	},
	{
		SettingInfo{"redelivery.multiplier", "factor", "1", "By how much the wait grows with each redelivery, 1 to 100."},
		func(s *Settings) value { return factorValue{&s.RedeliveryMultiplier, 1, 100} },
	},
	{
		SettingInfo{"redelivery.max.delay", "duration", "15m0s", "Longest wait before a redelivery; 0 is no limit."},
		func(s *Settings) value { return durationValue{&s.RedeliveryMaxDelay, 0} },
	},
	{
		SettingInfo{"redelivery.jitter", "factor", "0", "By what part of itself a redelivery's wait may be shorter, 0 to 1: what failed together comes back apart."},
		func(s *Settings) value { return factorValue{&s.RedeliveryJitter, 0, 1} },
	},
	{
		SettingInfo{"duplicate.window", "count", "0", "Of how many messages of a partition the ids are remembered: one that is sent again is stored once. 0 is none."},
		func(s *Settings) value { return countValue{&s.DuplicateWindow, 0, 1 << 20} },
	},
	{
		SettingInfo{"duplicate.window.ms", "milliseconds", "0", "How long the ids of duplicate.window are remembered; 0 is no limit."},
		func(s *Settings) value { return millisValue{&s.DuplicateWindowMS, 0} },
	},
	{
		SettingInfo{"lock.timeout", "duration", "30s", "How long a holder without a session (share groups, HTTP) may keep a message."},
		func(s *Settings) value { return durationValue{&s.LockTimeout, time.Millisecond} },
	},
	{
		SettingInfo{"slow.consumer.timeout", "duration", "0s", "A consumer that holds messages and settles none for so long is closed, and they are delivered to others; 0 is never."},
		func(s *Settings) value { return durationValue{&s.SlowConsumer, 0} },
	},
	{
		SettingInfo{"priority.window", "count", "1024", "How many waiting messages are looked at to find the one of highest priority; 0 ignores priority."},
		func(s *Settings) value { return countValue{&s.PriorityWindow, 0, 1 << 20} },
	},
	{
		SettingInfo{"max.length", "count", "0", "How many messages may wait in a queue, or in a topic's longest subscription; 0 is no limit. Dead letters and what is moved are not refused."},
		func(s *Settings) value { return countValue{&s.MaxLength, 0, math.MaxInt32} },
	},
	{
		SettingInfo{"overflow", "fail|block", OverflowFail, "Of what is sent beyond max.length. fail: it is refused. block: it is confirmed when there is room; within a transaction it is refused."},
		func(s *Settings) value { return wordValue{&s.Overflow, "fail|block"} },
	},
	{
		SettingInfo{"groups", "|key", "", "key: every record with a key is in the message group of that key."},
		func(s *Settings) value { return wordValue{&s.Groups, "|key"} },
	},
	{
		SettingInfo{"exclusive", "flag", "false", "true: one consumer at a time gets everything, the others wait for it to go."},
		func(s *Settings) value { return flagValue{&s.Exclusive} },
	},
	{
		SettingInfo{"hold.groups", "flag", "false", "true: messages are kept until the consumer groups have committed past them."},
		func(s *Settings) value { return flagValue{&s.HoldGroups} },
	},
}

// SettingNames describes all settings, in the order in which to show them.
func SettingNames() []SettingInfo {
	all := make([]SettingInfo, len(settings))
	for i := range settings {
		all[i] = settings[i].SettingInfo
	}
	return all
}

func lookup(name string) (*setting, error) {
	for i := range settings {
		if settings[i].Name == name {
			return &settings[i], nil
		}
	}
	return nil, fmt.Errorf("%w %q", ErrUnknownSetting, name)
}

// Get is a setting's value as text, which Set takes back. ErrUnknownSetting.
func (s *Settings) Get(name string) (string, error) {
	d, err := lookup(name)
	if err != nil {
		return "", err
	}
	return d.field(s).String(), nil
}

// Set changes one setting. Durations are taken as "5s" or "7d", milliseconds
// and sizes also so, as "64MiB", or as a number. On an error, ErrUnknownSetting
// or ErrSettingValue, nothing is changed.
func (s *Settings) Set(name, text string) error {
	d, err := lookup(name)
	if err != nil {
		return err
	}
	if err := d.field(s).set(text); err != nil {
		return fmt.Errorf("%s=%s: %w: %w", name, text, ErrSettingValue, err)
	}
	return nil
}

// Validate says whether all values are within their limits and agree with each
// other. Settings that were only changed by Set fail on the latter alone.
func (s *Settings) Validate() error {
	for i := range settings {
		v := settings[i].field(s)
		copied := *s
		if err := settings[i].field(&copied).set(v.String()); err != nil {
			return fmt.Errorf("%s=%s: %w: %w", settings[i].Name, v, ErrSettingValue, err)
		}
	}
	if s.RedeliveryMaxDelay > 0 && s.RedeliveryDelay > s.RedeliveryMaxDelay {
		return fmt.Errorf("redelivery.delay=%s: %w: more than redelivery.max.delay=%s",
			s.RedeliveryDelay, ErrSettingValue, s.RedeliveryMaxDelay)
	}
	return nil
}

// Changes are the settings that differ from the default, by name.
func (s *Settings) Changes() map[string]string {
	changes := map[string]string{}
	for i := range settings {
		if text := settings[i].field(s).String(); text != settings[i].Default {
			changes[settings[i].Name] = text
		}
	}
	return changes
}

// SettingsFrom are the default settings with changes made, and validated.
func SettingsFrom(changes map[string]string) (Settings, error) {
	s := defaultSettings
	for name, text := range changes {
		if err := s.Set(name, text); err != nil {
			return Settings{}, err
		}
	}
	if err := s.Validate(); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// String is what differs from the default, as "name=value name=value".
func (s *Settings) String() string {
	var b strings.Builder
	for i := range settings {
		if text := settings[i].field(s).String(); text != settings[i].Default {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(settings[i].Name + "=" + text)
		}
	}
	return b.String()
}

// PausesPuts says whether sends are refused.
func (s *Settings) PausesPuts() bool { return s.Paused == PausedPuts || s.Paused == PausedAll }

// PausesTakes says whether nothing is delivered.
func (s *Settings) PausesTakes() bool { return s.Paused == PausedTakes || s.Paused == PausedAll }

// RedeliveryAfter is how long the message at offset waits that has been
// delivered count times and came back. The jitter is drawn from offset and
// count, so that it is the same wherever it is computed.
func (s *Settings) RedeliveryAfter(count int, offset int64) time.Duration {
	delay := s.backoff(count)
	if s.RedeliveryJitter == 0 {
		return delay
	}
	drawn := rand.New(rand.NewPCG(uint64(offset), uint64(count))).Float64()
	return delay - time.Duration(float64(delay)*s.RedeliveryJitter*drawn)
}

func (s *Settings) backoff(count int) time.Duration {
	if s.RedeliveryDelay <= 0 || count < 1 {
		return 0
	}
	limit := s.RedeliveryMaxDelay
	if limit <= 0 {
		limit = math.MaxInt64
	}
	// Compared as floats, so that a long run of failures cannot overflow.
	delay := float64(s.RedeliveryDelay) * math.Pow(s.RedeliveryMultiplier, float64(count-1))
	if delay >= float64(limit) {
		return limit
	}
	return time.Duration(delay)
}
