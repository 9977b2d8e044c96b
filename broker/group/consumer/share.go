package consumer

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareGroup is the membership of one share group (KIP-932): who belongs to
// it and which partitions each member should fetch from. Which records they
// get is not its concern.
type ShareGroup struct{}

// NewShare makes an empty share group; see New.
func NewShare(id string, o Options) *ShareGroup { return &ShareGroup{} }

// Heartbeat answers ShareGroupHeartbeat 1.
func (g *ShareGroup) Heartbeat(now time.Time, topics Topics, r *kmsg.ShareGroupHeartbeatRequest, client Client) ShareResult {
	return ShareResult{}
}

// Expire fences the members whose session has passed.
func (g *ShareGroup) Expire(now time.Time) ShareResult { return ShareResult{} }

// Deadline is when Expire has to be called, at the latest; zero for never.
func (g *ShareGroup) Deadline() time.Time { return time.Time{} }

// Changed tells that topics were made, changed or deleted.
func (g *ShareGroup) Changed() {}

// Replay applies a record of the group that was read from the log, in order.
func (g *ShareGroup) Replay(key, value []byte) error { return nil }

// Start is called after the last Replay.
func (g *ShareGroup) Start(now time.Time) {}

// Describe answers ShareGroupDescribe 1. AuthorizedOperations are the caller's.
func (g *ShareGroup) Describe(topics Topics) kmsg.ShareGroupDescribeResponseGroup {
	return kmsg.NewShareGroupDescribeResponseGroup()
}

// State is Empty, Stable or, after Delete, Dead.
func (g *ShareGroup) State() string { return "" }

// Size is the number of members.
func (g *ShareGroup) Size() int { return 0 }

// Pristine tells that nothing was ever recorded of the group.
func (g *ShareGroup) Pristine() bool { return false }

// Subscribed tells whether any member subscribes to the topic.
func (g *ShareGroup) Subscribed(topic string) bool { return false }

// Initialized lists the partitions that the group has ever begun to consume
// and not forgotten since, in order.
func (g *ShareGroup) Initialized() []Partition { return nil }

// Forget drops topics from the initialized ones: their offsets in the group
// are deleted.
func (g *ShareGroup) Forget(topics ...[16]byte) []Record { return nil }

// Delete ends the group and returns the tombstones of all that was recorded of
// it. Only an Empty group may be deleted.
func (g *ShareGroup) Delete() []Record { return nil }

// SetOptions changes settings; they hold from each member's next heartbeat on.
func (g *ShareGroup) SetOptions(o Options) {}
