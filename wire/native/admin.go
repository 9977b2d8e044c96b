package native

import (
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

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
	VerbSubscriptionAlter   = "subscription.alter"   // SubscriptionSpec -> SubscriptionInfo
	VerbSubscriptionSeek    = "subscription.seek"    // SubscriptionSpec -> SubscriptionInfo
	VerbScheduleCreate      = "schedule.create"      // ScheduleSpec -> ScheduleInfo
	VerbScheduleList        = "schedule.list"        // nothing -> []ScheduleInfo
	VerbSchedulePause       = "schedule.pause"       // ScheduleSpec with Name and Paused -> ScheduleInfo
	VerbScheduleDelete      = "schedule.delete"      // ScheduleSpec with Name -> nothing
	VerbBrokerStats         = "broker.stats"         // nothing -> BrokerStats
	VerbGroupList           = "group.list"           // nothing -> []GroupInfo
	VerbGroupDescribe       = "group.describe"       // GroupQuery -> GroupDescription
	VerbGroupReset          = "group.reset"          // GroupResetSpec -> []GroupOffsetReset
	VerbGroupDelete         = "group.delete"         // GroupQuery -> nothing
	VerbGroupDeleteOffsets  = "group.delete-offsets" // GroupQuery -> nothing
	VerbBranchList          = "branch.list"          // nothing -> []BranchInfo
	VerbBranchSettle        = "branch.settle"        // BranchSpec -> nothing: commits or rolls back in place of the manager
	VerbBranchForget        = "branch.forget"        // BranchSpec -> nothing; of Branch, too
	VerbUserList            = "user.list"            // nothing -> []UserInfo
	VerbUserPut             = "user.put"             // UserSpec -> nothing: creates it, or gives it a new password
	VerbUserDelete          = "user.delete"          // UserSpec -> nothing
	VerbACLList             = "acl.list"             // ACLFilter -> []ACL
	VerbACLCreate           = "acl.create"           // ACL -> nothing
	VerbACLDelete           = "acl.delete"           // ACLFilter -> []ACL, those that were deleted
)

// The verbs of Branch: X/Open XA §3. The broker's answers come when what they
// say is on disk.
const (
	VerbBranchStart    = "start"    // BranchSpec with Flag and TimeoutMS -> nothing
	VerbBranchEnd      = "end"      // BranchSpec with Flag -> nothing
	VerbBranchPrepare  = "prepare"  // BranchSpec -> BranchVote
	VerbBranchCommit   = "commit"   // BranchSpec with OnePhase -> nothing
	VerbBranchRollback = "rollback" // BranchSpec -> nothing
	VerbBranchRecover  = "recover"  // nothing -> []BranchInfo
	VerbBranchJoin     = "join"     // Producers -> nothing: from here on Checks come
	VerbBranchLeave    = "leave"    // Producers -> nothing
)

// The flags of VerbBranchStart and VerbBranchEnd: X/Open XA §4.3.
const (
	BranchNew     = "new"     // TMNOFLAGS: start a branch
	BranchJoin    = "join"    // TMJOIN: go on with one that another session has left
	BranchResume  = "resume"  // TMRESUME: go on with one that this session has suspended
	BranchSuccess = "success" // TMSUCCESS: leave it
	BranchFail    = "fail"    // TMFAIL: leave it; it can only be rolled back
	BranchSuspend = "suspend" // TMSUSPEND: leave it for a while
)

// XID names a branch: its format, and up to 64 bytes each.
type XID struct {
	Format int32  `msgpack:"format"`
	Global []byte `msgpack:"global"`
	Branch []byte `msgpack:"branch"`
}

// UserSpec is a user. Its password goes over the connection as it is.
type UserSpec struct {
	Name     string `msgpack:"name"`
	Password string `msgpack:"password,omitempty"`
}

// UserInfo describes a user.
type UserInfo struct {
	Name       string   `msgpack:"name" json:"name"`
	Mechanisms []string `msgpack:"mechanisms" json:"mechanisms"` // by which it can prove who it is
	Super      bool     `msgpack:"super" json:"super"`           // may do everything
}

// ACL is one rule of who may do what, in the words of Kafka's tools.
type ACL struct {
	Principal string `msgpack:"principal" json:"principal"`         // User:NAME, or User:* for everybody
	Effect    string `msgpack:"effect,omitempty" json:"permission"` // allow, the default, or deny, which wins
	Operation string `msgpack:"operation" json:"operation"`         // read, write, create, delete, alter, describe, ..., or all
	Resource  string `msgpack:"resource" json:"resource"`           // topic, group, cluster, transactional-id
	Name      string `msgpack:"name" json:"name"`                   // * is every one
	Pattern   string `msgpack:"pattern,omitempty" json:"pattern"`   // literal, the default, or prefixed
	Host      string `msgpack:"host,omitempty" json:"host"`         // an address, or *, the default
}

// ACLFilter selects rules. Empty fields select all; the pattern match selects those
// that apply to Name.
type ACLFilter ACL

// BranchSpec names a branch, and says what about it.
type BranchSpec struct {
	XID       XID    `msgpack:"xid"`
	Flag      string `msgpack:"flag,omitempty"`
	TimeoutMS int64  `msgpack:"timeout_ms,omitempty"` // rolled back unless prepared within; 0: never
	OnePhase  bool   `msgpack:"one_phase,omitempty"`  // commit without having prepared
	Commit    bool   `msgpack:"commit,omitempty"`     // of VerbBranchSettle: not rollback
}

// HalfFormat is the format of the XIDs of half messages. Global is the producers'
// group, Branch what the producer calls it.
const HalfFormat = 0x68616c66

// Producers is a group of producers, as one of them joins it or leaves it.
type Producers struct {
	Group     string `msgpack:"group"`
	AfterMS   int64  `msgpack:"after_ms,omitempty"`   // how long after a half message is sent its group is asked about it; 0: 6 s
	MaxChecks int    `msgpack:"max_checks,omitempty"` // how often, before it is rolled back; 0: 15
}

// HalfSend says which batches of a Check's payload go where.
type HalfSend struct {
	Destination string `msgpack:"destination"`
	Partition   int32  `msgpack:"partition"`
	Bytes       int    `msgpack:"bytes"`
}

// BranchVote is what a prepare answers.
type BranchVote struct {
	ReadOnly bool `msgpack:"read_only,omitempty"` // it has done nothing, and is over: XA_RDONLY
}

// BranchInfo describes a branch that is prepared, or was ended by an operator.
type BranchInfo struct {
	XID          XID      `msgpack:"xid" json:"-"`
	State        string   `msgpack:"state" json:"state"` // "prepared", "committing", "heuristically-committed" or "heuristically-rolled-back"
	PreparedMS   int64    `msgpack:"prepared_ms" json:"prepared_ms"`
	EndedMS      int64    `msgpack:"ended_ms,omitempty" json:"ended_ms,omitempty"`
	Sends        int      `msgpack:"sends" json:"sends"`               // messages
	Acknowledges int      `msgpack:"acknowledges" json:"acknowledges"` // messages
	Destinations []string `msgpack:"destinations,omitempty" json:"destinations,omitempty"`
}

// The verbs of Group.
const (
	VerbHeartbeat = "heartbeat" // GroupHeartbeat -> GroupAssignment
	VerbCommit    = "commit"    // GroupCommit -> nothing
	VerbCommitted = "committed" // GroupCommit -> []int64, -1 for nothing
	VerbStart     = "start"     // StreamStart -> []StreamPosition
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

	// Of a redrive: DryRun counts and does nothing; what was redriven MaxRedrives
	// times already stays, 0: DefaultMaxRedrives, -1: however often.
	DryRun      bool `msgpack:"dry_run,omitempty"`
	MaxRedrives int  `msgpack:"max_redrives,omitempty"`

	After []int64 `msgpack:"after,omitempty"` // TransferResult.Next of the request before
}

// DefaultMaxRedrives is how often a message may be redriven unless a TransferSpec
// says otherwise.
const DefaultMaxRedrives = 5

// TransferResult says how much was done. More is set where a bound of one
// request was reached, Max too, and the client may ask again with Next as After.
type TransferResult struct {
	Messages int64            `msgpack:"messages" json:"messages"`
	Skipped  int64            `msgpack:"skipped,omitempty" json:"skipped,omitempty"` // redriven too often
	To       map[string]int64 `msgpack:"to,omitempty" json:"to,omitempty"`           // of a redrive: messages, by destination
	More     bool             `msgpack:"more" json:"more"`
	Next     []int64          `msgpack:"next,omitempty" json:"-"`
}

// SubscriptionSpec names a subscription, and for a seek where to, for an alter what
// to change.
type SubscriptionSpec struct {
	Topic    string    `msgpack:"topic,omitempty"`
	ClientID string    `msgpack:"client_id,omitempty"`
	Name     string    `msgpack:"name,omitempty"`
	Shared   bool      `msgpack:"shared,omitempty"`
	To       StartKind `msgpack:"to,omitempty"`
	ToEnd    bool      `msgpack:"to_end,omitempty"`
	At       int64     `msgpack:"at,omitempty"`
	// Settings are those it is to have in place of its topic's; an empty value has
	// the topic's hold again.
	Settings map[string]string `msgpack:"settings,omitempty"`
}

// SubscriptionInfo describes a subscription.
type SubscriptionInfo struct {
	Topic    string            `msgpack:"topic" json:"topic"`
	ClientID string            `msgpack:"client_id" json:"client_id"`
	Name     string            `msgpack:"name" json:"name"`
	Kind     string            `msgpack:"kind" json:"kind"` // "durable", "shared-durable", "shared", "exclusive", "temporary"
	Selector string            `msgpack:"selector" json:"selector"`
	NoLocal  bool              `msgpack:"no_local" json:"no_local"`
	Pattern  string            `msgpack:"pattern" json:"pattern"`   // whose subscription on Topic it is; "": it is of Topic alone
	Settings map[string]string `msgpack:"settings" json:"settings"` // that it has in place of its topic's
	View     ViewInfo          `msgpack:"view" json:"view"`
}

// ScheduleSpec says when a message is sent again and again.
type ScheduleSpec struct {
	Name        string `msgpack:"name" json:"name"`
	Destination string `msgpack:"destination" json:"destination"`
	Kind        string `msgpack:"kind" json:"kind"`                     // "queue" or "topic"
	Cron        string `msgpack:"cron" json:"cron"`                     // minute, hour, day of month, month, day of week; seconds may come first; @hourly and so on; @every 90s
	Zone        string `msgpack:"zone,omitempty" json:"zone,omitempty"` // such as Europe/Berlin; empty is UTC
	StartMS     int64  `msgpack:"start,omitempty" json:"start_ms,omitempty"`
	EndMS       int64  `msgpack:"end,omitempty" json:"end_ms,omitempty"`    // 0 is never
	Count       int64  `msgpack:"count,omitempty" json:"count,omitempty"`   // how often it is sent at most; 0 is without end
	Missed      string `msgpack:"missed,omitempty" json:"missed,omitempty"` // of the times at which the broker was not there: "once" (one message, also if empty), "skip", "all"
	Paused      bool   `msgpack:"paused,omitempty" json:"paused"`
	Batch       []byte `msgpack:"batch,omitempty" json:"-"` // a record batch of one message
}

// ScheduleInfo describes a schedule.
type ScheduleInfo struct {
	ScheduleSpec
	CreatedMS int64 `msgpack:"created" json:"created_ms"`
	Sent      int64 `msgpack:"sent" json:"sent"`                        // how often it was
	LastMS    int64 `msgpack:"last,omitempty" json:"last_ms,omitempty"` // when it was last
	NextMS    int64 `msgpack:"next,omitempty" json:"next_ms,omitempty"` // when it will be; 0 is never
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

// GroupQuery names a group, and with delete-offsets a topic and perhaps some
// of its partitions.
type GroupQuery struct {
	Name       string  `msgpack:"name"`
	Topic      string  `msgpack:"topic,omitempty"`
	Partitions []int32 `msgpack:"partitions,omitempty"`
}

// TopicPartition is a partition by its topic's name.
type TopicPartition struct {
	Topic     string `msgpack:"topic" json:"topic"`
	Partition int32  `msgpack:"partition" json:"partition"`
}

// GroupInfo is a group of consumers.
type GroupInfo struct {
	Name     string `msgpack:"name" json:"name"`
	Type     string `msgpack:"type" json:"type"`         // "classic", "consumer" or "share"
	State    string `msgpack:"state" json:"state"`       // as Kafka names it
	Protocol string `msgpack:"protocol" json:"protocol"` // what its members have in common, such as "consumer"
	Members  int    `msgpack:"members" json:"members"`
}

// GroupDescription is all of one group.
type GroupDescription struct {
	Name     string        `msgpack:"name" json:"name"`
	Type     string        `msgpack:"type" json:"type"`
	State    string        `msgpack:"state" json:"state"`
	Protocol string        `msgpack:"protocol" json:"protocol"`
	Members  []GroupMember `msgpack:"members" json:"members"`
	Offsets  []GroupOffset `msgpack:"offsets" json:"offsets"`
}

// GroupMember is one member of a group.
type GroupMember struct {
	ID         string           `msgpack:"id" json:"id"`
	InstanceID string           `msgpack:"instance_id,omitempty" json:"instance_id,omitempty"`
	ClientID   string           `msgpack:"client_id" json:"client_id"`
	Host       string           `msgpack:"host" json:"host"`
	Assignment []TopicPartition `msgpack:"assignment" json:"assignment"`
}

// GroupOffset is how far a group is in one partition. Committed is -1 where it
// has committed nothing; LagMS is how long ago the first record was appended
// that is not committed, 0 if there is none.
type GroupOffset struct {
	Topic     string `msgpack:"topic" json:"topic"`
	Partition int32  `msgpack:"partition" json:"partition"`
	Committed int64  `msgpack:"committed" json:"committed"`
	LogStart  int64  `msgpack:"log_start" json:"log_start"`
	End       int64  `msgpack:"end" json:"end"`
	Lag       int64  `msgpack:"lag" json:"lag"`
	LagMS     int64  `msgpack:"lag_ms" json:"lag_ms"`
	MemberID  string `msgpack:"member_id,omitempty" json:"member_id,omitempty"`
}

// LagTime is LagMS as a duration.
func (o GroupOffset) LagTime() time.Duration { return time.Duration(o.LagMS) * time.Millisecond }

// ResetTo says where a group's offsets are set to.
type ResetTo uint8

// Where offsets are set to; what is outside the log becomes its start or end.
const (
	ResetEarliest ResetTo = iota
	ResetLatest
	ResetOffset  // Offset
	ResetTime    // the first record at or after AtMS
	ResetShift   // Offset further, or back
	ResetCurrent // where they are
)

// GroupResetSpec sets the offsets of a group without members.
type GroupResetSpec struct {
	Group      string  `msgpack:"group"`
	Topic      string  `msgpack:"topic"`
	Partitions []int32 `msgpack:"partitions,omitempty"` // none: all
	To         ResetTo `msgpack:"to"`
	Offset     int64   `msgpack:"offset,omitempty"`
	AtMS       int64   `msgpack:"at_ms,omitempty"`
	DryRun     bool    `msgpack:"dry_run,omitempty"`
}

// GroupOffsetReset is a partition's offset before and after a reset.
type GroupOffsetReset struct {
	Topic     string `msgpack:"topic" json:"topic"`
	Partition int32  `msgpack:"partition" json:"partition"`
	From      int64  `msgpack:"from" json:"from"` // -1: nothing was committed
	To        int64  `msgpack:"to" json:"to"`
}

// GroupHeartbeat is what a member of a consumer group says (KIP-848). Epoch 0
// joins, -1 leaves.
type GroupHeartbeat struct {
	Group       string           `msgpack:"group"`
	MemberID    string           `msgpack:"member_id"`
	Epoch       int32            `msgpack:"epoch"`
	Topics      []string         `msgpack:"topics,omitempty"`
	RebalanceMS int64            `msgpack:"rebalance_ms,omitempty"`
	Owned       []TopicPartition `msgpack:"owned,omitempty"`
}

// GroupAssignment is what it is told. Unless Changed, what it has is right.
type GroupAssignment struct {
	MemberID   string           `msgpack:"member_id"`
	Epoch      int32            `msgpack:"epoch"`
	IntervalMS int64            `msgpack:"interval_ms"`
	Changed    bool             `msgpack:"changed,omitempty"`
	Assigned   []TopicPartition `msgpack:"assigned,omitempty"`
}

// GroupCommit commits offsets, or asks for them.
type GroupCommit struct {
	Group    string            `msgpack:"group"`
	MemberID string            `msgpack:"member_id"`
	Epoch    int32             `msgpack:"epoch"`
	Offsets  []CommittedOffset `msgpack:"offsets"`
}

// CommittedOffset is where a group goes on in a partition.
type CommittedOffset struct {
	Topic     string `msgpack:"topic"`
	Partition int32  `msgpack:"partition"`
	Offset    int64  `msgpack:"offset,omitempty"`
}

// StreamStart asks where in each partition a reader begins.
type StreamStart struct {
	Name  string    `msgpack:"name"`
	To    StartKind `msgpack:"to"`
	ToEnd bool      `msgpack:"to_end,omitempty"`
	At    int64     `msgpack:"at,omitempty"`
}

// StreamPosition is a partition, where to begin in it, and where what can be
// read ends now.
type StreamPosition struct {
	Partition int32 `msgpack:"partition"`
	Offset    int64 `msgpack:"offset"`
	End       int64 `msgpack:"end"`
}

// MarshalBody encodes a request or reply struct of an Admin.
func MarshalBody(v any) ([]byte, error) { return msgpack.Marshal(v) }

// UnmarshalBody decodes one. The error wraps what is wrong with the bytes.
func UnmarshalBody(b []byte, v any) error { return msgpack.Unmarshal(b, v) }
