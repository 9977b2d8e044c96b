package destination

import "time"

// What administration and streams say of Kafka's groups. The broker fills
// these, and protocols render them.

// TopicPartition is a partition by its topic's name.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// GroupInfo is a group in a list.
type GroupInfo struct {
	Name     string
	Type     string // "classic", "consumer" or "share"
	State    string // as Kafka names it
	Protocol string // what its members have in common, such as "consumer"
	Members  int    // -1: not known in a list
}

// GroupDescription is all of one group.
type GroupDescription struct {
	GroupInfo
	Members []GroupMember
	Offsets []GroupOffset // of what it has committed, or is assigned
}

// GroupMember is one member of a group.
type GroupMember struct {
	ID, InstanceID, ClientID, Host string
	Assignment                     []TopicPartition
}

// GroupOffset is how far a group is in one partition.
type GroupOffset struct {
	TopicPartition
	Committed  int64 // -1: nothing
	Start, End int64 // of the log; End is behind what a committed read may see
	// LagTime is how long ago the first record was appended that is not
	// committed; 0 if there is none.
	LagTime  time.Duration
	MemberID string // who has it; empty: nobody
}

// ResetTo says where a group's offsets are set to.
type ResetTo uint8

// Where offsets are set to. All but ResetCurrent end within the log.
const (
	ResetEarliest ResetTo = iota
	ResetLatest
	ResetOffset  // Offset
	ResetTime    // the first record at or after Time, ms
	ResetShift   // Offset further, or back
	ResetCurrent // where they are
)

// GroupReset asks for new offsets of a group without members.
type GroupReset struct {
	Group      string
	Topic      string
	Partitions []int32 // nil: all
	To         ResetTo
	Offset     int64
	Time       int64 // ms
	DryRun     bool
}

// GroupMove is a partition whose offset is to be changed, or was.
type GroupMove struct {
	TopicPartition
	From, To int64 // From is -1 if nothing was committed
}

// GroupHeartbeat is what a member of a consumer group (KIP-848) says. Epoch 0
// joins, -1 leaves.
type GroupHeartbeat struct {
	Group, MemberID string
	ClientID, Host  string
	Epoch           int32
	Topics          []string // what it subscribes to
	Rebalance       time.Duration
	Owned           []TopicPartition
}

// GroupAssignment is what it is told.
type GroupAssignment struct {
	MemberID string
	Epoch    int32
	Interval time.Duration
	Changed  bool // Assigned is what it may have from now on; otherwise what it has is right
	Assigned []TopicPartition
}

// GroupCommit is what a member, or an operator with epoch -1, commits.
type GroupCommit struct {
	Group, MemberID string
	Epoch           int32
	Offsets         []CommittedOffset
}

// CommittedOffset is where a group goes on in one partition.
type CommittedOffset struct {
	TopicPartition
	Offset int64
}
