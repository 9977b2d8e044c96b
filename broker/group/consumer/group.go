package consumer

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Group is one consumer group of the protocol of KIP-848.
type Group struct{}

// New makes an empty group, to which Replay or Heartbeat add members. For an
// unknown group id a coordinator makes one when a member joins with epoch 0,
// and answers GROUP_ID_NOT_FOUND to anything else. A new group must not be
// kept if Heartbeat returned an error code: it is still Pristine.
func New(id string, o Options) *Group { return &Group{} }

// Heartbeat answers ConsumerGroupHeartbeat 0 and 1: joins, leaves and stays.
func (g *Group) Heartbeat(now time.Time, topics Topics, r *kmsg.ConsumerGroupHeartbeatRequest, client Client) Result {
	return Result{}
}

// Expire fences the members whose session, or whose time to give partitions
// up, has passed.
func (g *Group) Expire(now time.Time) Result { return Result{} }

// Deadline is when Expire has to be called, at the latest; zero for never.
func (g *Group) Deadline() time.Time { return time.Time{} }

// Changed tells that topics were made, changed or deleted; the next heartbeat
// looks at them.
func (g *Group) Changed() {}

// Replay applies a record of the group that was read from the log, in order.
// Records of other types, or other groups, are an error.
func (g *Group) Replay(key, value []byte) error { return nil }

// Start is called after the last Replay: members get a whole session timeout
// to be heard of.
func (g *Group) Start(now time.Time) {}

// Describe answers ConsumerGroupDescribe 0 and 1. AuthorizedOperations are the
// caller's.
func (g *Group) Describe(topics Topics) kmsg.ConsumerGroupDescribeResponseGroup {
	return kmsg.NewConsumerGroupDescribeResponseGroup()
}

// State is Empty, Assigning, Reconciling, Stable or, after Delete, Dead.
func (g *Group) State() string { return "" }

// Size is the number of members.
func (g *Group) Size() int { return 0 }

// Pristine tells that nothing was ever recorded of the group.
func (g *Group) Pristine() bool { return false }

// Subscribed tells whether any member subscribes to the topic; offsets of such
// topics are neither expired nor deleted (GROUP_SUBSCRIBED_TO_TOPIC).
func (g *Group) Subscribed(topic string) bool { return false }

// CheckCommit says whether offsets of partitions may be committed: 0, or the
// error code for all of them.
func (g *Group) CheckCommit(c Commit, partitions []Partition) int16 { return 0 }

// CheckFetch says whether a member may fetch offsets: 0, or the error code.
func (g *Group) CheckFetch(memberID *string, epoch int32) int16 { return 0 }

// Delete ends the group and returns the tombstones of all that was recorded of
// it. Only an Empty group may be deleted.
func (g *Group) Delete() []Record { return nil }

// SetOptions changes settings; they hold from each member's next heartbeat on.
func (g *Group) SetOptions(o Options) {}
