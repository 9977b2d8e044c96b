package consumer

import (
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Topic is what a group has to know of a topic.
type Topic struct {
	Name       string
	ID         [16]byte
	Partitions int32
}

// Topics is the view of all topics at the time of a call. Internal topics are
// not in it.
type Topics interface {
	Topic(name string) (Topic, bool)
	TopicByID(id [16]byte) (Topic, bool)
	// All is for subscriptions by regular expression; the order does not matter.
	All() iter.Seq[Topic]
}

// Partition names a partition.
type Partition struct {
	Topic [16]byte
	Index int32
}

// Client is who asks, as it is shown by describe.
type Client struct{ ID, Host string }

// Options are the settings of a group. Zero values stand for the defaults.
type Options struct {
	// SessionTimeout is how long a member may be silent: 45 s.
	SessionTimeout time.Duration
	// HeartbeatInterval is told to members: 3 s, which has a group settle within 5 s.
	HeartbeatInterval time.Duration
	// WaitingInterval is told to members that wait for partitions which
	// others have yet to release, so that they get them soon: a fifth of
	// HeartbeatInterval.
	WaitingInterval time.Duration
	// MinClassicSession and MaxClassicSession bound the session timeouts that
	// members of the classic protocol ask for: 6 s and 30 min.
	MinClassicSession, MaxClassicSession time.Duration
	// MaxSize bounds the members; more get GROUP_MAX_SIZE_REACHED: 10,000 in
	// a consumer group, 200 in a share group, as in Kafka.
	MaxSize int
	// RefreshInterval is how often topics are looked at again although
	// Changed was not called: 1 min.
	RefreshInterval time.Duration
	// NewMemberID makes ids for members that bring none (version 0): random.
	NewMemberID func() string
}

// Record is one record for __consumer_offsets. A nil Value is a tombstone.
type Record struct{ Key, Value []byte }

// Result is what a call to a Group leads to.
type Result struct {
	// Response is nil after Expire.
	Response *kmsg.ConsumerGroupHeartbeatResponse
	// Records have to be durable before Response is sent. None: nothing changed.
	Records []Record
	// Deadline is when Expire has to be called, at the latest; zero for never.
	Deadline time.Time
}

// ShareResult is what a call to a ShareGroup leads to.
type ShareResult struct {
	Response *kmsg.ShareGroupHeartbeatResponse // nil after Expire
	Records  []Record
	Deadline time.Time
}

// Commit is what an OffsetCommit or TxnOffsetCommit says of its sender.
type Commit struct {
	MemberID   string
	InstanceID *string
	// Epoch is the request's generation or member epoch; -1 for none.
	Epoch int32
	// Version is that of OffsetCommit, which members must send in version 9 or above.
	Version       int16
	Transactional bool
}
