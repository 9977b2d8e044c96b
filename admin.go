package polylog

import (
	"context"
	"fmt"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// What administration speaks of. The native protocol defines them.
type (
	DestinationSpec  = native.DestinationSpec
	DestinationInfo  = native.DestinationInfo
	PartitionInfo    = native.PartitionInfo
	ViewInfo         = native.ViewInfo
	TransferSpec     = native.TransferSpec
	TransferResult   = native.TransferResult
	SubscriptionSpec = native.SubscriptionSpec
	SubscriptionInfo = native.SubscriptionInfo
	ScheduleSpec     = native.ScheduleSpec
	ScheduleInfo     = native.ScheduleInfo
	BrokerStats      = native.BrokerStats
	StartKind        = native.StartKind
	GroupInfo        = native.GroupInfo
	GroupDescription = native.GroupDescription
	GroupMember      = native.GroupMember
	GroupOffset      = native.GroupOffset
	GroupResetSpec   = native.GroupResetSpec
	GroupOffsetReset = native.GroupOffsetReset
	ResetTo          = native.ResetTo
	UserInfo         = native.UserInfo
	ACL              = native.ACL
	ACLFilter        = native.ACLFilter
)

// Where a group's offsets are set to; what is outside the log becomes its start
// or end.
const (
	ResetEarliest = native.ResetEarliest
	ResetLatest   = native.ResetLatest
	ResetOffset   = native.ResetOffset  // Offset
	ResetTime     = native.ResetTime    // the first record at or after AtMS
	ResetShift    = native.ResetShift   // Offset further, or back
	ResetCurrent  = native.ResetCurrent // where they are
)

// Where a subscription starts or is set to.
const (
	StartDefault   = native.StartDefault
	StartBeginning = native.StartBeginning
	StartOffset    = native.StartOffset
	StartTime      = native.StartTime
	StartLast      = native.StartLast
)

// Admin administers the broker. Its methods wait for a connection if there is
// none, as long as the context lets them. A change whose answer the connection
// broke before fails with ErrInDoubt; what only reads is asked again.
type Admin struct{ c *Connection }

// Admin returns the connection's administration.
func (c *Connection) Admin() Admin { return Admin{c} }

// Destinations lists the destinations whose names begin with prefix, and with
// internal the broker's own too.
func (a Admin) Destinations(ctx context.Context, prefix string, internal bool) ([]DestinationInfo, error) {
	var list []DestinationInfo
	err := a.ask(ctx, native.VerbDestinationList, &native.DestinationQuery{Prefix: prefix, Internal: internal}, &list, true)
	return list, err
}

// Describe describes one destination.
func (a Admin) Describe(ctx context.Context, name string) (*DestinationInfo, error) {
	info := new(DestinationInfo)
	return info, a.ask(ctx, native.VerbDestinationDescribe, &native.DestinationQuery{Name: name}, info, true)
}

// Create creates a destination. It fails with ErrExists if there is one.
func (a Admin) Create(ctx context.Context, spec DestinationSpec) (*DestinationInfo, error) {
	info := new(DestinationInfo)
	return info, a.ask(ctx, native.VerbDestinationCreate, &spec, info, false)
}

// Alter changes the settings that spec names; an empty value sets the default
// back.
func (a Admin) Alter(ctx context.Context, spec DestinationSpec) (*DestinationInfo, error) {
	info := new(DestinationInfo)
	return info, a.ask(ctx, native.VerbDestinationAlter, &spec, info, false)
}

// Delete deletes a destination with all that it holds.
func (a Admin) Delete(ctx context.Context, name string) error {
	return a.ask(ctx, native.VerbDestinationDelete, &native.DestinationQuery{Name: name}, nil, false)
}

// Purge deletes waiting messages of a queue. It asks again until the broker
// has done it all, or spec.Max. With an error the result is what was done before.
func (a Admin) Purge(ctx context.Context, spec TransferSpec) (TransferResult, error) {
	return a.transfer(ctx, native.VerbQueuePurge, spec)
}

// Move moves waiting messages of a queue to spec.To, as Purge does. Each message
// is in one of the two at any time.
func (a Admin) Move(ctx context.Context, spec TransferSpec) (TransferResult, error) {
	return a.transfer(ctx, native.VerbQueueMove, spec)
}

// Redrive sends the messages of a dead letter queue back to where they came
// from, or to spec.To, as Move does. What was redriven spec.MaxRedrives times
// already stays.
func (a Admin) Redrive(ctx context.Context, spec TransferSpec) (TransferResult, error) {
	return a.transfer(ctx, native.VerbQueueRedrive, spec)
}

// transfer repeats a bounded request until it is done or spec.Max is reached.
func (a Admin) transfer(ctx context.Context, verb string, spec TransferSpec) (TransferResult, error) {
	var done TransferResult
	limit := spec.Max
	for {
		var r TransferResult
		if err := a.ask(ctx, verb, &spec, &r, false); err != nil {
			return done, err
		}
		done.Messages += r.Messages
		done.Skipped += r.Skipped
		done.More, done.Next, spec.After = r.More, r.Next, r.Next
		for name, n := range r.To {
			if done.To == nil {
				done.To = map[string]int64{}
			}
			done.To[name] += n
		}
		if !r.More || limit > 0 && done.Messages >= limit {
			return done, nil
		}
		if limit > 0 {
			spec.Max = limit - done.Messages
		}
	}
}

// Subscriptions lists the subscriptions of a topic, or of all if it is empty.
func (a Admin) Subscriptions(ctx context.Context, topic string) ([]SubscriptionInfo, error) {
	var list []SubscriptionInfo
	err := a.ask(ctx, native.VerbSubscriptionList, &SubscriptionSpec{Topic: topic}, &list, true)
	return list, err
}

// DeleteSubscription deletes a subscription, whoever's it is.
func (a Admin) DeleteSubscription(ctx context.Context, spec SubscriptionSpec) error {
	return a.ask(ctx, native.VerbSubscriptionDelete, &spec, nil, false)
}

// AlterSubscription changes settings that a durable subscription has in place of
// its topic's: of redelivery, dead letters, expiry and priority. An empty value
// has the topic's hold again.
func (a Admin) AlterSubscription(ctx context.Context, spec SubscriptionSpec) (*SubscriptionInfo, error) {
	info := new(SubscriptionInfo)
	return info, a.ask(ctx, native.VerbSubscriptionAlter, &spec, info, false)
}

// SeekSubscription sets where a subscription goes on: to spec.To with spec.At,
// or with spec.ToEnd to the end.
func (a Admin) SeekSubscription(ctx context.Context, spec SubscriptionSpec) (*SubscriptionInfo, error) {
	info := new(SubscriptionInfo)
	return info, a.ask(ctx, native.VerbSubscriptionSeek, &spec, info, false)
}

// CreateSchedule has m sent again and again, by itself, at the times that spec
// says: once at each, whatever happens to the broker. What m says of a delay or a
// time to live counts from each send. Its property JMS_POLYLOG_SCHEDULE is the
// schedule's name. ErrExists, ErrInvalid.
func (a Admin) CreateSchedule(ctx context.Context, spec ScheduleSpec, m *Message) (*ScheduleInfo, error) {
	made, err := m.With()
	if err != nil {
		return nil, err
	}
	var b record.Builder
	if err := made.Message.AppendTo(&b); err != nil {
		return nil, err
	}
	spec.Batch = b.Batch()
	info := new(ScheduleInfo)
	return info, a.ask(ctx, native.VerbScheduleCreate, &spec, info, false)
}

// Schedules lists the messages that are sent again and again, by name.
func (a Admin) Schedules(ctx context.Context) ([]ScheduleInfo, error) {
	var list []ScheduleInfo
	err := a.ask(ctx, native.VerbScheduleList, nil, &list, true)
	return list, err
}

// PauseSchedule stops a schedule, or has it go on: ErrNotFound.
func (a Admin) PauseSchedule(ctx context.Context, name string, paused bool) (*ScheduleInfo, error) {
	info := new(ScheduleInfo)
	return info, a.ask(ctx, native.VerbSchedulePause, &ScheduleSpec{Name: name, Paused: paused}, info, false)
}

// DeleteSchedule deletes one: ErrNotFound.
func (a Admin) DeleteSchedule(ctx context.Context, name string) error {
	return a.ask(ctx, native.VerbScheduleDelete, &ScheduleSpec{Name: name}, nil, false)
}

// Groups lists the groups of consumers, those of share groups among them.
func (a Admin) Groups(ctx context.Context) ([]GroupInfo, error) {
	var list []GroupInfo
	err := a.ask(ctx, native.VerbGroupList, nil, &list, true)
	return list, err
}

// DescribeGroup describes a group, with how far behind it is.
func (a Admin) DescribeGroup(ctx context.Context, name string) (*GroupDescription, error) {
	d := new(GroupDescription)
	return d, a.ask(ctx, native.VerbGroupDescribe, &native.GroupQuery{Name: name}, d, true)
}

// ResetGroup sets what a consumer group has committed of a topic, and returns
// what that changes; with spec.DryRun nothing is done. It fails with ErrConflict
// while the group has members.
func (a Admin) ResetGroup(ctx context.Context, spec GroupResetSpec) ([]GroupOffsetReset, error) {
	var list []GroupOffsetReset
	err := a.ask(ctx, native.VerbGroupReset, &spec, &list, spec.DryRun)
	return list, err
}

// DeleteGroup deletes a group without members, with what it has committed.
func (a Admin) DeleteGroup(ctx context.Context, name string) error {
	return a.ask(ctx, native.VerbGroupDelete, &native.GroupQuery{Name: name}, nil, false)
}

// DeleteGroupOffsets forgets what a group has committed of a topic that it does
// not consume, in all partitions unless some are named.
func (a Admin) DeleteGroupOffsets(ctx context.Context, group, topic string, partitions ...int32) error {
	return a.ask(ctx, native.VerbGroupDeleteOffsets, &native.GroupQuery{Name: group, Topic: topic, Partitions: partitions}, nil, false)
}

// Users lists the users of a broker that has any, by name.
func (a Admin) Users(ctx context.Context) ([]UserInfo, error) {
	var list []UserInfo
	err := a.ask(ctx, native.VerbUserList, nil, &list, true)
	return list, err
}

// PutUser creates a user, or gives one a new password: ErrInvalid.
func (a Admin) PutUser(ctx context.Context, name, password string) error {
	return a.ask(ctx, native.VerbUserPut, &native.UserSpec{Name: name, Password: password}, nil, true)
}

// DeleteUser deletes one: ErrNotFound. Connections that it has open stay.
func (a Admin) DeleteUser(ctx context.Context, name string) error {
	return a.ask(ctx, native.VerbUserDelete, &native.UserSpec{Name: name}, nil, false)
}

// ACLs lists the rules that f selects.
func (a Admin) ACLs(ctx context.Context, f ACLFilter) ([]ACL, error) {
	var list []ACL
	err := a.ask(ctx, native.VerbACLList, &f, &list, true)
	return list, err
}

// CreateACL adds a rule, unless it is there: ErrInvalid.
func (a Admin) CreateACL(ctx context.Context, rule ACL) error {
	return a.ask(ctx, native.VerbACLCreate, &rule, nil, true)
}

// DeleteACLs deletes the rules that f selects, and returns them.
func (a Admin) DeleteACLs(ctx context.Context, f ACLFilter) ([]ACL, error) {
	var list []ACL
	err := a.ask(ctx, native.VerbACLDelete, &f, &list, false)
	return list, err
}

// Stats describes the broker.
func (a Admin) Stats(ctx context.Context) (*BrokerStats, error) {
	stats := new(BrokerStats)
	return stats, a.ask(ctx, native.VerbBrokerStats, nil, stats, true)
}

// Ping asks the broker for a sign of life and returns how long it took.
func (a Admin) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	_, err := a.Stats(ctx)
	return time.Since(start), err
}

// ask sends one verb. again says that asking twice does no harm.
func (a Admin) ask(ctx context.Context, verb string, question, answer any, again bool) error {
	var body []byte
	if question != nil {
		var err error
		if body, err = native.MarshalBody(question); err != nil {
			return fmt.Errorf("%s: encode: %w", verb, err)
		}
	}
	got, err := a.c.call(ctx, again, func(request uint64) native.Frame {
		return &native.Admin{Request: request, Verb: verb, Body: body}
	})
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if answer == nil {
		return nil
	}
	if err := native.UnmarshalBody(got.body, answer); err != nil {
		return fmt.Errorf("%s: decode: %w", verb, err)
	}
	return nil
}
