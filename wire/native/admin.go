package native

import "github.com/vmihailenco/msgpack/v5"

// The verbs of Admin. The request and reply structs of each stand below; they
// travel as MessagePack maps so that either side may know more fields.
const (
	VerbDestinationList     = "destination.list"     // DestinationQuery -> []DestinationInfo
	VerbDestinationDescribe = "destination.describe" // DestinationQuery -> DestinationInfo
	VerbDestinationCreate   = "destination.create"   // DestinationSpec -> DestinationInfo
	VerbDestinationAlter    = "destination.alter"    // DestinationSpec -> DestinationInfo
	VerbDestinationDelete   = "destination.delete"   // DestinationQuery -> nothing
	VerbQueuePurge          = "queue.purge"          // TransferSpec -> TransferResult
	VerbQueueMove           = "queue.move"           // TransferSpec -> TransferResult
	VerbQueueRedrive        = "queue.redrive"        // TransferSpec -> TransferResult
	VerbSubscriptionList    = "subscription.list"    // SubscriptionSpec -> []SubscriptionInfo
	VerbSubscriptionDelete  = "subscription.delete"  // SubscriptionSpec -> nothing
	VerbSubscriptionSeek    = "subscription.seek"    // SubscriptionSpec -> SubscriptionInfo
	VerbBrokerStats         = "broker.stats"         // nothing -> BrokerStats
)

// DestinationQuery names one destination, or for a list those that begin with
// Prefix.
type DestinationQuery struct {
	Name     string `msgpack:"name,omitempty"`
	Prefix   string `msgpack:"prefix,omitempty"`
	Internal bool   `msgpack:"internal,omitempty"` // list the broker's own too
}

// DestinationSpec creates or alters a destination. Settings are by their
// documented names ("max.deliveries"); an empty value sets the default back.
type DestinationSpec struct {
	Name     string            `msgpack:"name"`
	Kind     string            `msgpack:"kind,omitempty"` // "queue", "topic" or "log"
	Settings map[string]string `msgpack:"settings,omitempty"`
}

// DestinationInfo describes a destination and, where it has one, its queue
// view.
type DestinationInfo struct {
	Name          string            `msgpack:"name" json:"name"`
	ID            string            `msgpack:"id" json:"id"`
	Kind          string            `msgpack:"kind" json:"kind"`
	Temporary     bool              `msgpack:"temporary,omitempty" json:"temporary,omitempty"`
	Internal      bool              `msgpack:"internal,omitempty" json:"internal,omitempty"`
	Settings      map[string]string `msgpack:"settings" json:"settings"` // every setting, as it applies
	Partitions    []PartitionInfo   `msgpack:"partitions" json:"partitions"`
	Queue         *ViewInfo         `msgpack:"queue,omitempty" json:"queue,omitempty"`
	Subscriptions int               `msgpack:"subscriptions" json:"subscriptions"`
	Bytes         int64             `msgpack:"bytes" json:"bytes"`
}

// PartitionInfo describes one partition's log.
type PartitionInfo struct {
	Partition int32 `msgpack:"partition" json:"partition"`
	Start     int64 `msgpack:"start" json:"start"`
	End       int64 `msgpack:"end" json:"end"`
	Stable    int64 `msgpack:"stable" json:"stable"`
	Bytes     int64 `msgpack:"bytes" json:"bytes"`
}

// ViewInfo counts the messages of a queue or a subscription. The first four
// are now, the others since the broker's start.
type ViewInfo struct {
	Waiting      int64 `msgpack:"waiting" json:"waiting"`
	Acquired     int64 `msgpack:"acquired" json:"acquired"`
	Scheduled    int64 `msgpack:"scheduled" json:"scheduled"`
	Held         int64 `msgpack:"held" json:"held"`
	Consumers    int   `msgpack:"consumers" json:"consumers"`
	Delivered    int64 `msgpack:"delivered" json:"delivered"`
	Acknowledged int64 `msgpack:"acknowledged" json:"acknowledged"`
	Expired      int64 `msgpack:"expired" json:"expired"`
	DeadLettered int64 `msgpack:"dead_lettered" json:"dead_lettered"`
}

// TransferSpec moves or deletes waiting messages of a queue. Redrive sends
// each message of a dead letter queue back to where it came from, or to To.
type TransferSpec struct {
	Name     string `msgpack:"name"`
	To       string `msgpack:"to,omitempty"`
	Selector string `msgpack:"selector,omitempty"`
	Max      int64  `msgpack:"max,omitempty"` // 0: all that wait now
}

// TransferResult says how much was done. More is set where a bound of one
// request was reached and the client should ask again.
type TransferResult struct {
	Messages int64 `msgpack:"messages" json:"messages"`
	More     bool  `msgpack:"more" json:"more"`
}

// SubscriptionSpec names a subscription, and for a seek where to.
type SubscriptionSpec struct {
	Topic    string    `msgpack:"topic,omitempty"`
	ClientID string    `msgpack:"client_id,omitempty"`
	Name     string    `msgpack:"name,omitempty"`
	Shared   bool      `msgpack:"shared,omitempty"`
	To       StartKind `msgpack:"to,omitempty"`
	ToEnd    bool      `msgpack:"to_end,omitempty"`
	At       int64     `msgpack:"at,omitempty"`
}

// SubscriptionInfo describes a subscription.
type SubscriptionInfo struct {
	Topic    string   `msgpack:"topic" json:"topic"`
	ClientID string   `msgpack:"client_id" json:"client_id"`
	Name     string   `msgpack:"name" json:"name"`
	Kind     string   `msgpack:"kind" json:"kind"` // "durable", "shared-durable", "shared", "exclusive", "temporary"
	Selector string   `msgpack:"selector" json:"selector"`
	NoLocal  bool     `msgpack:"no_local" json:"no_local"`
	View     ViewInfo `msgpack:"view" json:"view"`
}

// BrokerStats describes the broker.
type BrokerStats struct {
	Version       string `msgpack:"version" json:"version"`
	StartedMS     int64  `msgpack:"started_ms" json:"started_ms"`
	Epoch         int32  `msgpack:"epoch" json:"epoch"`
	Destinations  int    `msgpack:"destinations" json:"destinations"`
	Connections   int    `msgpack:"connections" json:"connections"`
	Syncs         int64  `msgpack:"syncs" json:"syncs"`
	JournalBytes  int64  `msgpack:"journal_bytes" json:"journal_bytes"`
	RecoveryMS    int64  `msgpack:"recovery_ms" json:"recovery_ms"`
	RecoveredMsgs int64  `msgpack:"recovered_entries" json:"recovered_entries"`
	HeapBytes     uint64 `msgpack:"heap_bytes" json:"heap_bytes"`
}

// MarshalBody encodes a request or reply struct of an Admin.
func MarshalBody(v any) ([]byte, error) { return msgpack.Marshal(v) }

// UnmarshalBody decodes one. The error wraps what is wrong with the bytes.
func UnmarshalBody(b []byte, v any) error { return msgpack.Unmarshal(b, v) }
