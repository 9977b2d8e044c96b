package session

import (
	"context"
	"errors"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// The refusals that protocols branch on. A broker wraps them with what was
// asked for and what to do about it; each protocol maps them to its own codes
// in one table.
var (
	// ErrInvalid: the request makes no sense as asked; asking again will not help.
	ErrInvalid = errors.New("invalid request")
	// ErrUnsupported: this release cannot do it.
	ErrUnsupported = errors.New("not supported")
	// ErrUnauthorized: the principal may not do it.
	ErrUnauthorized = errors.New("not permitted")
	// ErrNotFound: no such destination, subscription, session or consumer.
	ErrNotFound = errors.New("not found")
	// ErrExists: it is there already.
	ErrExists = errors.New("exists already")
	// ErrWrongKind: a queue was opened as a topic, or the reverse, and
	// views=any does not permit it.
	ErrWrongKind = errors.New("destination is of another kind")
	// ErrConflict: in use by somebody else.
	ErrConflict = errors.New("in use")
	// ErrTooLarge: over a limit that the message names.
	ErrTooLarge = errors.New("over a limit")
	// ErrBusy: a limit on what may be open at once; trying later may help.
	ErrBusy = errors.New("too much at once")
	// ErrClosed: the connection, session, consumer or broker has closed.
	ErrClosed = errors.New("closed")
	// ErrShuttingDown: the broker drains and takes nothing new.
	ErrShuttingDown = errors.New("shutting down")
	// ErrBadSelector: the selector's syntax; the message has the position.
	ErrBadSelector = errors.New("bad selector")
)

// Operation is what a principal asks to do, for Authorize.
type Operation uint8

// The operations.
const (
	OperationConnect    Operation = iota // resource: the client id, or empty
	OperationCreate                      // resource: the destination's name, empty for a temporary one
	OperationDescribe                    // resource: the destination's name
	OperationSend                        // resource: the destination's name
	OperationConsume                     // resource: the destination's name
	OperationBrowse                      // resource: the destination's name
	OperationSubscribe                   // resource: the subscription's name
	OperationAlter                       // resource: the destination's name
	OperationDelete                      // resource: the destination's or the subscription's name
	OperationAdminister                  // resource: the verb
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
	// Authorize is the one place that says who may do what: nil, or
	// ErrUnauthorized. Every operation of every protocol asks it.
	Authorize(principal string, op Operation, resource string) error
	// Epoch is the leader epoch that this start of the broker stamps.
	Epoch() int32
	// NextNumber returns a number that no other call since the broker's start
	// has returned, from 1: for connections and holders.
	NextNumber() uint64

	Administrator
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
	// t.To. Each is bounded; TransferResult.More asks for another call.
	Purge(ctx context.Context, t Transfer) (TransferResult, error)
	Move(ctx context.Context, t Transfer) (TransferResult, error)
	Redrive(ctx context.Context, t Transfer) (TransferResult, error)

	// ListSubscriptions returns those that match all that q sets.
	ListSubscriptions(ctx context.Context, q SubscriptionQuery) ([]SubscriptionInfo, error)
	DeleteSubscription(ctx context.Context, q SubscriptionQuery) error
	// SeekSubscription forgets what was delivered and goes on at the start;
	// with toEnd, behind the last message.
	SeekSubscription(ctx context.Context, q SubscriptionQuery, to queue.Start, toEnd bool) (SubscriptionInfo, error)

	// Stats describes the broker; Connections is left to the caller's server.
	Stats(ctx context.Context) (Stats, error)
}

// DestinationInfo describes a destination for operators.
type DestinationInfo struct {
	Name          string
	ID            [16]byte
	Kind          destination.Kind
	Temporary     bool
	Internal      bool
	Settings      map[string]string // every setting by name, as it applies
	Partitions    []PartitionInfo
	Queue         *ViewInfo // nil where no queue view has been opened
	Subscriptions int
	Bytes         int64
}

// PartitionInfo describes one partition's log; offsets and bytes.
type PartitionInfo struct {
	Partition          int32
	Start, End, Stable int64
	Bytes              int64
}

// ViewInfo counts the messages of a queue or a subscription: the first line
// as it is now, the second since the broker's start.
type ViewInfo struct {
	Waiting, Acquired, Scheduled, Held             int64
	Delivered, Acknowledged, Expired, DeadLettered int64
	Consumers                                      int
}

// Transfer says which waiting messages of a queue to purge, move or redrive.
type Transfer struct {
	Name     string
	To       string
	Selector string
	Max      int64 // messages; 0: all that wait now
}

// TransferResult says how much was done, and whether a bound of one call left
// some.
type TransferResult struct {
	Messages int64
	More     bool
}

// SubscriptionQuery names one subscription, or those of a topic.
type SubscriptionQuery struct {
	Topic    string
	ClientID string
	Name     string
	Shared   bool
}

// SubscriptionInfo describes a subscription for operators.
type SubscriptionInfo struct {
	Topic    string
	ClientID string
	Name     string
	Kind     topic.Kind
	Selector string
	NoLocal  bool
	View     ViewInfo
}

// Stats describes the broker.
type Stats struct {
	Version          string
	StartedMS        int64 // ms since 1970
	Epoch            int32
	Destinations     int
	Connections      int
	Syncs            int64
	JournalBytes     int64
	RecoveryMS       int64
	RecoveredEntries int64
	HeapBytes        uint64
}
