package native

import "fmt"

// Type is a frame's first byte.
type Type byte

// The frames. Below 32 the client sends them, from 32 on the server; Ping and
// Pong go both ways.
const (
	TypeHello         Type = 1
	TypeOpenSession   Type = 2
	TypeCloseSession  Type = 3
	TypeFlow          Type = 4
	TypeResolve       Type = 5
	TypeSend          Type = 6
	TypeSubscribe     Type = 7
	TypeCredit        Type = 8
	TypeSettle        Type = 9
	TypeCloseConsumer Type = 10
	TypeUnsubscribe   Type = 11
	TypeBrowse        Type = 12
	TypeTemporary     Type = 13
	TypeAdmin         Type = 14
	TypePing          Type = 15
	TypePong          Type = 16
	TypeBye           Type = 17
	TypeFetch         Type = 18
	TypeGroup         Type = 19
	TypeEndWork       Type = 20
	TypeBranch        Type = 21

	TypeWelcome        Type = 32
	TypeOK             Type = 33
	TypeFail           Type = 34
	TypeConfirm        Type = 35
	TypeDeliver        Type = 36
	TypeDrained        Type = 37
	TypeConsumerClosed Type = 38
	TypeGoAway         Type = 39
	TypeJoined         Type = 40
	TypeCheck          Type = 41
)

var typeNames = map[Type]string{
	TypeHello: "Hello", TypeOpenSession: "OpenSession", TypeCloseSession: "CloseSession", TypeFlow: "Flow",
	TypeResolve: "Resolve", TypeSend: "Send", TypeSubscribe: "Subscribe", TypeCredit: "Credit",
	TypeSettle: "Settle", TypeCloseConsumer: "CloseConsumer", TypeUnsubscribe: "Unsubscribe",
	TypeBrowse: "Browse", TypeTemporary: "Temporary", TypeAdmin: "Admin", TypePing: "Ping", TypePong: "Pong",
	TypeBye: "Bye", TypeFetch: "Fetch", TypeGroup: "Group", TypeEndWork: "EndWork", TypeBranch: "Branch",
	TypeWelcome: "Welcome", TypeOK: "OK", TypeFail: "Fail", TypeConfirm: "Confirm",
	TypeDeliver: "Deliver", TypeDrained: "Drained", TypeConsumerClosed: "ConsumerClosed", TypeGoAway: "GoAway", TypeJoined: "Joined", TypeCheck: "Check",
}

func (t Type) String() string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return fmt.Sprintf("unknown (%d)", byte(t))
}

// Frame is one of the structs of this package that travel.
type Frame interface {
	Type() Type
	encode(*encoder)
	decode(*decoder)
}

// AckMode says what acknowledges a delivery: Jakarta Messaging 3.1 §6.2.10,
// and ours, Individual.
type AckMode uint8

// The acknowledgement modes.
const (
	AckAuto AckMode = iota
	AckClient
	AckDupsOK
	AckIndividual
	AckTransacted
)

// DestinationKind is what a name is opened as.
type DestinationKind uint8

// The kinds of destination.
const (
	KindAny DestinationKind = iota // whatever it is; not created
	KindQueue
	KindTopic
	KindLog
)

// SubscriptionKind is what a consumer consumes from: Jakarta Messaging 3.1 §8.3.
type SubscriptionKind uint8

// The kinds of subscription.
const (
	SubscribeQueue         SubscriptionKind = iota // the queue's own cursor
	SubscribeTemporary                             // unshared, non-durable: gone with the consumer
	SubscribeDurable                               // unshared, durable: (client id, name), one active consumer
	SubscribeShared                                // shared, non-durable: gone with the last consumer
	SubscribeSharedDurable                         // shared, durable
	SubscribeExclusive                             // durable, several consumers of which one is served at a time
)

// StartKind says where a new subscription begins.
type StartKind uint8

// Where a subscription begins.
const (
	StartDefault   StartKind = iota // a topic's end; a queue's first waiting message
	StartBeginning                  // the first message still kept
	StartOffset                     // Subscribe.StartAt is an offset
	StartTime                       // Subscribe.StartAt is milliseconds since 1970
	StartLast                       // Subscribe.StartAt is how many offsets before the end of each partition
)

// Hello is the first frame of a client.
type Hello struct {
	Version     uint64
	ClientID    string // Jakarta Messaging 3.1 §6.1.2; empty: none
	User        string
	Password    string
	Agent       string // library and version, for people
	HeartbeatMS uint64 // the client is silent no longer than this
}

// Welcome answers Hello.
type Welcome struct {
	Version     uint64
	Broker      string // the broker's name and version, for people
	Connection  uint64 // this connection's number, unique since the broker's start
	Epoch       int64  // the leader epoch that deliveries of this connection carry
	MaxFrame    uint64 // largest frame, in bytes, that the broker takes
	HeartbeatMS uint64 // the broker is silent no longer than this
}

// OpenSession opens session number Session, which the client chose.
type OpenSession struct {
	Request, Session uint64
	Mode             AckMode
}

// CloseSession closes a session and its consumers. What it holds goes back.
type CloseSession struct{ Request, Session uint64 }

// EndWork commits or rolls back what a transacted session has sent and
// acknowledged: Jakarta Messaging 3.1 §6.2.7. The OK to a commit says that all of
// it is on disk; CodeRolledBack that nothing is.
type EndWork struct {
	Request, Session uint64
	Commit           bool
}

// Branch asks something about a branch of a distributed transaction: Verb names
// it, Body is a MessagePack map, as in Admin. Session is of VerbBranchStart and
// VerbBranchEnd, 0 otherwise.
type Branch struct {
	Request, Session uint64
	Verb             string
	Body             []byte
}

// Flow starts or stops the delivery to a session (Session > 0) or to all
// sessions of the connection. Once it is answered, no delivery that was under
// way is still to come. Jakarta Messaging 3.1 §6.1.5.
type Flow struct {
	Request, Session uint64
	Start            bool
}

// Resolve gives a destination a number for this connection, creating it where
// the broker permits that. The OK's body is a Resolved.
type Resolve struct {
	Request uint64
	Name    string
	Kind    DestinationKind
}

// Resolved is the body of the OK for a Resolve and for a Temporary.
type Resolved struct {
	Handle     uint64
	Name       string
	Kind       DestinationKind
	Partitions uint64
	MaxMessage uint64 // bytes
}

// Send carries one record batch for one partition as its payload. It is
// answered by a Confirm once the records are as durable as the destination's
// setting says, or by a Fail. Where Unsynced is set (Jakarta Messaging 3.1
// §7.7, NON_PERSISTENT) it is confirmed once written.
type Send struct {
	Request, Session, Handle, Partition uint64
	Unsynced                            bool
}

// Confirm answers a Send: the offset of its first record.
type Confirm struct {
	Request uint64
	Base    int64
}

// Subscribe opens consumer number Consumer, which the client chose.
type Subscribe struct {
	Request, Session, Consumer uint64
	Destination                string
	DestinationKind            DestinationKind
	Kind                       SubscriptionKind
	Name                       string // the subscription's
	Selector                   string
	NoLocal                    bool
	Exclusive                  bool // on a queue: §"exclusive consumer"
	Start                      StartKind
	StartAt                    int64
	Settings                   string // of a new subscription, in place of its topic's: "name=value" lines
	Credit                     uint64
}

// Credit permits Messages more deliveries. With Drain the broker delivers what
// is ready within the credit, forgets the rest of the credit, and answers
// Drained.
type Credit struct {
	Consumer, Messages uint64
	Drain              bool
}

// Drained says that the consumer's credit is zero.
type Drained struct{ Consumer uint64 }

// Deliver carries records as a batch. Record i has the acquisition number
// FirstAcquisition + i. Counts has the delivery count of each, two bytes big
// endian, or is empty if this is the first delivery of them all.
type Deliver struct {
	Consumer, Partition, FirstAcquisition uint64
	Counts                                []byte
}

// OutcomeKind says what becomes of a delivery.
type OutcomeKind uint8

// The outcomes.
const (
	OutcomeAcknowledge OutcomeKind = iota
	OutcomeRelease                 // available again, after DelayMS
	OutcomeReject                  // to the dead letter destination
)

// Span is a run of deliveries, consecutive in offset and in acquisition number.
type Span struct {
	Partition   uint64
	Offset      int64
	Acquisition uint64
	Count       uint64
}

// Settle settles deliveries of one consumer. It is answered once the outcome
// is on disk, unless Request is 0: then only a failure is reported, as a Fail
// with request 0.
type Settle struct {
	Request, Consumer uint64
	Kind              OutcomeKind
	DelayMS           int64 // for OutcomeRelease; negative: by the destination's redelivery policy
	Uncounted         bool  // OutcomeRelease of what the application never saw: the delivery does not count
	Awaited           bool  // the application waits for the answer; else it may come a millisecond later, with what comes meanwhile
	Reason            string
	Spans             []Span
}

// CloseConsumer ends a consumer. What its session still holds of it stays
// held until it is settled or the session closes (Jakarta Messaging 3.1 §8.8).
type CloseConsumer struct{ Request, Consumer uint64 }

// Unsubscribe deletes a durable subscription: Jakarta Messaging 3.1 §8.3.6.
type Unsubscribe struct {
	Request uint64
	Name    string
	Shared  bool
}

// Fetch reads records of a log as they are, from a position in each partition:
// up to Max bytes of whole batches, but at least one. If there are none it waits
// up to WaitMS. What transactions have not committed does not come. The OK's body
// is a Fetched, and its payload the batches of its partitions, in order.
type Fetch struct {
	Request     uint64
	Destination string
	Max         uint64
	WaitMS      uint64
	Positions   []Position
}

// Position is where to read in a partition. What is not there any more is left
// out: reading goes on with the first record that is.
type Position struct {
	Partition uint64
	Offset    int64
}

// MaxPositions bounds the positions of a Fetch.
const MaxPositions = 4096

// Fetched is the body of the OK for a Fetch.
type Fetched struct{ Parts []FetchedPart }

// FetchedPart is one partition of it; those without news are left out.
type FetchedPart struct {
	Partition uint64
	Next      int64  // where to read on
	Bytes     uint64 // of its batches in the payload
}

// Group asks something for a member of a consumer group: Verb names it, Body is
// a MessagePack map, as in Admin.
type Group struct {
	Request uint64
	Verb    string
	Body    []byte
}

// Browse reads a page of a queue without taking anything. After is the
// position that the page before ended at, empty for the first. The OK's body
// is a Browsed and its payload record batches.
type Browse struct {
	Request     uint64
	Destination string
	Selector    string
	After       []byte
	Max         uint64
}

// Browsed is the body of the OK for a Browse.
type Browsed struct {
	After  []byte // position for the next page; empty: there is no more
	Bodies uint64 // how many batches the payload holds
	States []byte // a byte for each record: 0 available, 1 acquired, 2 scheduled, 3 held
	Parts  []byte // a byte pair for each batch: its partition, big endian
}

// Temporary creates a temporary destination of this connection.
type Temporary struct {
	Request uint64
	Kind    DestinationKind
}

// Admin asks for administration: Verb names it, Body is a MessagePack map.
type Admin struct {
	Request uint64
	Verb    string
	Body    []byte
}

// OK answers a request. Body is MessagePack; what it holds depends on the request.
type OK struct {
	Request uint64
	Body    []byte
}

// Fail answers a request with an Error; request 0 is about the connection or
// about a request that wanted no answer.
type Fail struct {
	Request uint64
	Error   Error
}

// ConsumerClosed says that the broker closed a consumer.
type ConsumerClosed struct {
	Consumer uint64
	Error    Error
}

// Joined says that a destination is one of those that a consumer of a pattern
// consumes: from here on, Deliver's partitions from Member<<MemberShift on are its.
type Joined struct {
	Consumer, Member uint64
	Destination      string
}

// MemberShift is where a partition's number ends and that of its destination
// among the consumer's begins.
const MemberShift = 14

// Check asks a member of a group of producers what became of a half message, which
// is the payload; Body is a []HalfSend. There is no answer: who knows ends the branch.
type Check struct {
	Group, ID string
	Checks    uint64 // how often somebody was asked, with this time
	Body      []byte
}

// GoAway says that the broker drains and takes nothing new.
type GoAway struct{ Message string }

// Ping asks for a Pong with the same number.
type Ping struct{ Number uint64 }

// Pong answers Ping.
type Pong struct{ Number uint64 }

// Bye ends a connection in order.
type Bye struct{}
