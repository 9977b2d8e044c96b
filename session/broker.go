package session

import (
	"context"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// The refusals that protocols branch on. A broker wraps them with what was
// asked for and what to do about it; each protocol maps them to its own codes
// in one table.
var (
	ErrInvalid      = destination.ErrInvalid
	ErrUnsupported  = destination.ErrUnsupported
	ErrUnauthorized = destination.ErrUnauthorized
	ErrNotFound     = destination.ErrNotFound
	ErrExists       = destination.ErrExists
	ErrWrongKind    = destination.ErrWrongKind
	ErrConflict     = destination.ErrConflict
	ErrTooLarge     = destination.ErrTooLarge
	ErrBusy         = destination.ErrBusy
	ErrPaused       = destination.ErrPaused
	ErrQueueFull    = destination.ErrQueueFull
	ErrSlowConsumer = destination.ErrSlowConsumer
	ErrClosed       = destination.ErrClosed
	ErrShuttingDown = destination.ErrShuttingDown
	ErrBadSelector  = destination.ErrBadSelector
	ErrRolledBack   = destination.ErrRolledBack
)

// Principal is who asks.
type Principal = destination.Principal

// Operation is what a principal asks to do, for Authorize.
type Operation = destination.Operation

// The operations; destination.Operation says which resource each names.
const (
	OperationConnect             = destination.OperationConnect
	OperationCreate              = destination.OperationCreate
	OperationDescribe            = destination.OperationDescribe
	OperationSend                = destination.OperationSend
	OperationConsume             = destination.OperationConsume
	OperationBrowse              = destination.OperationBrowse
	OperationSubscribe           = destination.OperationSubscribe
	OperationAlter               = destination.OperationAlter
	OperationDelete              = destination.OperationDelete
	OperationDescribeConfigs     = destination.OperationDescribeConfigs
	OperationAlterConfigs        = destination.OperationAlterConfigs
	OperationDescribeGroup       = destination.OperationDescribeGroup
	OperationDeleteGroup         = destination.OperationDeleteGroup
	OperationTransact            = destination.OperationTransact
	OperationDescribeTransaction = destination.OperationDescribeTransaction
	OperationIdempotentWrite     = destination.OperationIdempotentWrite
	OperationInspect             = destination.OperationInspect
	OperationAdminister          = destination.OperationAdminister
)

// Broker is what sessions need of a broker; *broker.Broker satisfies it. Its
// methods are safe for concurrent use, and their errors wrap the sentinels of
// this package.
type Broker interface {
	// Destination returns the destination of that name. Kind 0 takes it as
	// whatever it is and never creates it; another kind creates it where the
	// broker permits that (ErrNotFound), and refuses a destination of another
	// kind that does not permit the view (ErrWrongKind).
	Destination(ctx context.Context, name string, kind destination.Kind) (*destination.Destination, error)
	// Queue returns the queue view of d, which opens with its first use.
	Queue(ctx context.Context, d *destination.Destination) (*queue.View, error)
	// Subscribe opens a subscription on d under the rules of Jakarta
	// Messaging 3.1 §8.3, and counts the caller as its consumer until release
	// is called, once.
	Subscribe(ctx context.Context, d *destination.Destination, s topic.Spec) (sub *topic.Subscription, release func(), err error)
	// SubscribePattern opens the subscriptions that s has on all topics that p
	// matches, those that will be made included; each is then opened with
	// Subscribe and s.Pattern. It counts the caller as Subscribe does.
	SubscribePattern(ctx context.Context, p destination.Pattern, s topic.Spec) (release func(), err error)
	// Match returns the destinations that p matches and that take the views of
	// kind, and has made called, at once and perhaps in several goroutines, for
	// those that are made from then on, until cancel is called.
	Match(p destination.Pattern, kind destination.Kind, made func(*destination.Destination)) (now []*destination.Destination, cancel func())
	// Unsubscribe deletes a durable subscription (§8.3.6): ErrNotFound, or
	// ErrConflict while it has a consumer or unacknowledged messages.
	Unsubscribe(ctx context.Context, clientID, name string, shared bool) error
	// CreateTemporary makes a temporary queue or topic, which lives until
	// DeleteTemporary or the broker's next start.
	CreateTemporary(ctx context.Context, kind destination.Kind) (*destination.Destination, error)
	// DeleteTemporary deletes one. It does not look for consumers: the
	// caller's Connection does.
	DeleteTemporary(ctx context.Context, d *destination.Destination) error
	// ClaimClientID reserves a client id until release is called: ErrConflict
	// while another connection has it (§6.1.2).
	ClaimClientID(id string) (release func(), err error)
	// Commit commits a local transaction; if it returns an error, u.Done is not
	// called. MaxUnitBytes bounds what one may send.
	Commit(u *queue.Unit) error
	MaxUnitBytes() int
	// Hold says that the caller is about to send and to settle, and Release that
	// it has: soon, in the same goroutine, and without a wait between the two.
	// Release commits what came by itself, if that is little and the broker has
	// nothing else to do; then it calls answer, and delivers. What mayWait,
	// because nobody waits for its answer, may be committed a millisecond later,
	// with what comes meanwhile.
	Hold()
	Release(mayWait bool, answer func())
	// Authorize is the one place that says who may do what: nil, or
	// ErrUnauthorized. Every operation of every protocol asks it.
	Authorize(who Principal, op Operation, resource string) error
	// WatchAccess has changed called whenever the rules of Authorize have changed, until
	// cancel is called; it must not block for long.
	WatchAccess(changed func()) (cancel func())
	// Epoch is the leader epoch that this start of the broker stamps.
	Epoch() int32
	// NextNumber returns a number that no other call since the broker's start
	// has returned, from 1: for connections and holders.
	NextNumber() uint64

	Administrator
	Groups
	Branches
}

// Branches is the part of Broker that keeps branches of distributed
// transactions: X/Open XA, Jakarta Messaging 3.1 §6.2.8. Its methods wait for the
// disk.
type Branches interface {
	// ReserveBranch has a session begin a branch: ErrExists. ReleaseBranch ends
	// one that was not prepared.
	ReserveBranch(x destination.XID) error
	ReleaseBranch(x destination.XID)
	// PrepareBranch prepares a reserved branch; with an error it is released.
	PrepareBranch(x destination.XID, settled []queue.Settled, sends []destination.BranchSend) error
	// CommitBranch and RollbackBranch end a prepared branch: ErrNotFound, ErrBusy,
	// *destination.HeuristicError.
	CommitBranch(ctx context.Context, x destination.XID) error
	RollbackBranch(ctx context.Context, x destination.XID) error
	// ForgetBranch forgets one that SettleBranch has ended: ErrNotFound, ErrConflict.
	ForgetBranch(x destination.XID) error
	// JoinProducers makes the caller a member of a group of producers until leave
	// is called: check is told of its half messages whose end is not known, and
	// must not wait. Whoever knows ends the branch.
	JoinProducers(p destination.Producers, check func(destination.Half)) (leave func(), err error)
	// Branches are those that are prepared or heuristically ended.
	Branches() []destination.BranchInfo
	// SettleBranch ends a prepared branch in place of its manager.
	SettleBranch(ctx context.Context, x destination.XID, commit bool) error
}

// Groups is the part of Broker that serves Kafka's groups to other protocols.
type Groups interface {
	ListGroups(ctx context.Context) ([]destination.GroupInfo, error)
	DescribeGroup(ctx context.Context, name string) (*destination.GroupDescription, error)
	ResetGroup(ctx context.Context, r destination.GroupReset) ([]destination.GroupMove, error)
	DeleteGroup(ctx context.Context, name string) error
	DeleteGroupOffsets(ctx context.Context, name, topic string, partitions []int32) error

	// GroupHeartbeat, CommitGroup and GroupOffsets are for a member:
	// destination.ErrStaleToken says that it has to join anew.
	GroupHeartbeat(ctx context.Context, h destination.GroupHeartbeat) (destination.GroupAssignment, error)
	CommitGroup(ctx context.Context, c destination.GroupCommit) error
	GroupOffsets(ctx context.Context, name string, of []destination.TopicPartition) ([]int64, error)
}

// Administrator is the part of Broker that serves operators.
type Administrator interface {
	// ListDestinations returns those whose name begins with prefix, by name;
	// the broker's own only where internal is set.
	ListDestinations(ctx context.Context, prefix string, internal bool) ([]DestinationInfo, error)
	DescribeDestination(ctx context.Context, name string) (DestinationInfo, error)
	// CreateDestination makes a destination with settings by their documented
	// names, unnamed ones at their defaults: ErrExists.
	CreateDestination(ctx context.Context, name string, kind destination.Kind, settings map[string]string) (DestinationInfo, error)
	// AlterDestination changes settings by name; an empty value sets the
	// default back.
	AlterDestination(ctx context.Context, name string, settings map[string]string) (DestinationInfo, error)
	// DeleteDestination deletes a destination and its messages: ErrConflict
	// while it has consumers.
	DeleteDestination(ctx context.Context, name string) error

	// Purge deletes waiting messages, Move moves them to another destination,
	// and Redrive sends dead letters back to where they came from or to
	// t.To. Each is bounded; TransferResult.More and Next are for another call.
	Purge(ctx context.Context, t Transfer) (TransferResult, error)
	Move(ctx context.Context, t Transfer) (TransferResult, error)
	Redrive(ctx context.Context, t Transfer) (TransferResult, error)

	// ListSubscriptions returns those that match all that q sets.
	ListSubscriptions(ctx context.Context, q SubscriptionQuery) ([]SubscriptionInfo, error)
	DeleteSubscription(ctx context.Context, q SubscriptionQuery) error
	// AlterSubscription changes settings that a subscription has in place of its
	// topic's; an empty value has the topic's hold again.
	AlterSubscription(ctx context.Context, q SubscriptionQuery, settings map[string]string) (SubscriptionInfo, error)
	// SeekSubscription forgets what was delivered and goes on at the start;
	// with toEnd, behind the last message.
	SeekSubscription(ctx context.Context, q SubscriptionQuery, to queue.Start, toEnd bool) (SubscriptionInfo, error)

	// CreateSchedule has a message sent again and again; Sent, LastMS, NextMS and
	// CreatedMS are the broker's to say. ErrExists.
	CreateSchedule(ctx context.Context, s Schedule) (Schedule, error)
	ListSchedules(ctx context.Context) ([]Schedule, error)
	PauseSchedule(ctx context.Context, name string, paused bool) (Schedule, error)
	DeleteSchedule(ctx context.Context, name string) error

	// ListUsers returns all users, by name. PutUser creates one or gives one a new
	// password (ErrInvalid), and DeleteUser deletes one (ErrNotFound).
	ListUsers(ctx context.Context) ([]UserInfo, error)
	PutUser(ctx context.Context, name, password string) error
	DeleteUser(ctx context.Context, name string) error
	// ListACLs returns the rules that f selects, CreateACLs adds rules, all or none
	// (ErrInvalid), and DeleteACLs deletes those that f selects and returns them.
	ListACLs(ctx context.Context, f ACLFilter) ([]ACL, error)
	CreateACLs(ctx context.Context, acls ...ACL) error
	DeleteACLs(ctx context.Context, f ACLFilter) ([]ACL, error)

	// Stats describes the broker; Connections is left to the caller's server.
	Stats(ctx context.Context) (Stats, error)
}

// What the Administrator's methods take and give. The packages below own the
// structs, because the broker returns them and does not import this one.
type (
	DestinationInfo   = destination.Info
	PartitionInfo     = destination.PartitionInfo
	ViewInfo          = destination.ViewInfo
	Transfer          = destination.Transfer
	TransferResult    = destination.TransferResult
	SubscriptionQuery = topic.Query
	SubscriptionInfo  = topic.Info
	Schedule          = destination.Schedule
	Stats             = destination.BrokerInfo
	UserInfo          = destination.UserInfo
	ACL               = destination.ACL
	ACLFilter         = destination.ACLFilter
)
