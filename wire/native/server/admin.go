package server

import (
	"cmp"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

// verbs is the one table of administration: how each verb's request is read,
// and what answers it. Every verb goes through Authorize first, and none takes
// a path or an address.
var verbs = map[string]func(c *connection, body []byte) (any, error){
	native.VerbDestinationList: verb(nil, func(c *connection, q native.DestinationQuery) (any, error) {
		list, err := c.broker().ListDestinations(c.ctx, q.Prefix, q.Internal)
		list = slices.DeleteFunc(list, func(d session.DestinationInfo) bool {
			return c.state.Authorize(session.OperationDescribe, d.Name) != nil
		})
		return each(list, destinationInfo), err
	}),
	native.VerbDestinationDescribe: verb(func(q native.DestinationQuery) []asked { return ask(session.OperationDescribe, q.Name) }, func(c *connection, q native.DestinationQuery) (any, error) {
		info, err := c.broker().DescribeDestination(c.ctx, q.Name)
		return destinationInfo(info), err
	}),
	native.VerbDestinationCreate: verb(func(s native.DestinationSpec) []asked { return ask(session.OperationCreate, s.Name) }, func(c *connection, s native.DestinationSpec) (any, error) {
		kind, err := destination.ParseKind(s.Kind)
		if err != nil {
			return nil, err
		}
		info, err := c.broker().CreateDestination(c.ctx, s.Name, kind, s.Settings)
		return destinationInfo(info), err
	}),
	native.VerbDestinationAlter: verb(func(s native.DestinationSpec) []asked { return ask(session.OperationAlterConfigs, s.Name) }, func(c *connection, s native.DestinationSpec) (any, error) {
		info, err := c.broker().AlterDestination(c.ctx, s.Name, s.Settings)
		return destinationInfo(info), err
	}),
	native.VerbDestinationDelete: verb(func(q native.DestinationQuery) []asked { return ask(session.OperationDelete, q.Name) }, func(c *connection, q native.DestinationQuery) (any, error) {
		if c.state.Temporary(q.Name) {
			return nil, c.state.DeleteTemporary(c.ctx, q.Name)
		}
		return nil, c.broker().DeleteDestination(c.ctx, q.Name)
	}),
	native.VerbQueuePurge: verb(func(t native.TransferSpec) []asked { return ask(session.OperationDelete, t.Name) }, func(c *connection, t native.TransferSpec) (any, error) {
		result, err := c.broker().Purge(c.ctx, session.Transfer(t))
		return native.TransferResult(result), err
	}),
	native.VerbQueueMove: verb(func(t native.TransferSpec) []asked {
		return []asked{{session.OperationConsume, t.Name}, {session.OperationSend, t.To}}
	}, func(c *connection, t native.TransferSpec) (any, error) {
		result, err := c.broker().Move(c.ctx, session.Transfer(t))
		return native.TransferResult(result), err
	}),
	native.VerbQueueRedrive: verb(redriveAsks, func(c *connection, t native.TransferSpec) (any, error) {
		result, err := c.broker().Redrive(c.ctx, session.Transfer(t))
		return native.TransferResult(result), err
	}),
	native.VerbSubscriptionList: verb(nil, func(c *connection, s native.SubscriptionSpec) (any, error) {
		list, err := c.broker().ListSubscriptions(c.ctx, subscriptionQuery(s))
		list = slices.DeleteFunc(list, func(s session.SubscriptionInfo) bool {
			return c.state.Authorize(session.OperationDescribeGroup, s.Name) != nil
		})
		return each(list, subscriptionInfo), err
	}),
	native.VerbSubscriptionDelete: verb(func(s native.SubscriptionSpec) []asked { return ask(session.OperationDeleteGroup, s.Name) }, func(c *connection, s native.SubscriptionSpec) (any, error) {
		return nil, c.broker().DeleteSubscription(c.ctx, subscriptionQuery(s))
	}),
	native.VerbSubscriptionAlter: verb(func(s native.SubscriptionSpec) []asked { return ask(session.OperationSubscribe, s.Name) }, func(c *connection, s native.SubscriptionSpec) (any, error) {
		info, err := c.broker().AlterSubscription(c.ctx, subscriptionQuery(s), s.Settings)
		return subscriptionInfo(info), err
	}),
	native.VerbSubscriptionSeek: verb(func(s native.SubscriptionSpec) []asked { return ask(session.OperationSubscribe, s.Name) }, func(c *connection, s native.SubscriptionSpec) (any, error) {
		start, err := startOf(s.To, s.At)
		if err != nil {
			return nil, err
		}
		if start == (queue.Start{}) && !s.ToEnd {
			return nil, fmt.Errorf("%w: seek where to?", session.ErrInvalid)
		}
		info, err := c.broker().SeekSubscription(c.ctx, subscriptionQuery(s), start, s.ToEnd)
		return subscriptionInfo(info), err
	}),
	native.VerbScheduleCreate: verb(func(s native.ScheduleSpec) []asked { return ask(session.OperationSend, s.Destination) }, func(c *connection, s native.ScheduleSpec) (any, error) {
		kind, err := destination.ParseKind(s.Kind)
		if err != nil {
			return nil, err
		}
		made, err := c.broker().CreateSchedule(c.ctx, session.Schedule{
			Name: s.Name, Destination: s.Destination, Kind: kind, Cron: s.Cron, Zone: s.Zone, StartMS: s.StartMS, EndMS: s.EndMS,
			Count: s.Count, Missed: s.Missed, Paused: s.Paused, Batch: s.Batch,
		})
		return scheduleInfo(made), err
	}),
	native.VerbScheduleList: verb(inspect[struct{}], func(c *connection, _ struct{}) (any, error) {
		list, err := c.broker().ListSchedules(c.ctx)
		return each(list, scheduleInfo), err
	}),
	native.VerbSchedulePause: verb(administer[native.ScheduleSpec], func(c *connection, s native.ScheduleSpec) (any, error) {
		changed, err := c.broker().PauseSchedule(c.ctx, s.Name, s.Paused)
		return scheduleInfo(changed), err
	}),
	native.VerbScheduleDelete: verb(administer[native.ScheduleSpec], func(c *connection, s native.ScheduleSpec) (any, error) {
		return nil, c.broker().DeleteSchedule(c.ctx, s.Name)
	}),
	native.VerbBrokerStats: verb(nil, func(c *connection, _ struct{}) (any, error) {
		s, err := c.broker().Stats(c.ctx)
		return brokerStats(s, c.server.Connections()), err
	}),
	native.VerbGroupList: verb(nil, func(c *connection, _ struct{}) (any, error) {
		list, err := c.broker().ListGroups(c.ctx)
		list = slices.DeleteFunc(list, func(g destination.GroupInfo) bool {
			return c.state.Authorize(session.OperationDescribeGroup, g.Name) != nil
		})
		return each(list, func(g destination.GroupInfo) native.GroupInfo { return native.GroupInfo(g) }), err
	}),
	native.VerbGroupDescribe: verb(func(q native.GroupQuery) []asked { return ask(session.OperationDescribeGroup, q.Name) }, func(c *connection, q native.GroupQuery) (any, error) {
		g, err := c.broker().DescribeGroup(c.ctx, q.Name)
		if err != nil {
			return nil, err
		}
		return groupDescription(g), nil
	}),
	native.VerbGroupReset: verb(resetAsks, func(c *connection, s native.GroupResetSpec) (any, error) {
		moves, err := c.broker().ResetGroup(c.ctx, destination.GroupReset{
			Group: s.Group, Topic: s.Topic, Partitions: s.Partitions, To: destination.ResetTo(s.To),
			Offset: s.Offset, Time: s.AtMS, DryRun: s.DryRun,
		})
		return each(moves, func(m destination.GroupMove) native.GroupOffsetReset {
			return native.GroupOffsetReset{Topic: m.Topic, Partition: m.Partition, From: m.From, To: m.To}
		}), err
	}),
	native.VerbGroupDelete: verb(func(q native.GroupQuery) []asked { return ask(session.OperationDeleteGroup, q.Name) }, func(c *connection, q native.GroupQuery) (any, error) {
		return nil, c.broker().DeleteGroup(c.ctx, q.Name)
	}),
	native.VerbGroupDeleteOffsets: verb(func(q native.GroupQuery) []asked { return ask(session.OperationDeleteGroup, q.Name) }, func(c *connection, q native.GroupQuery) (any, error) {
		return nil, c.broker().DeleteGroupOffsets(c.ctx, q.Name, q.Topic, q.Partitions)
	}),
	native.VerbUserList: verb(inspect[struct{}], func(c *connection, _ struct{}) (any, error) {
		list, err := c.broker().ListUsers(c.ctx)
		return each(list, func(u session.UserInfo) native.UserInfo { return native.UserInfo(u) }), err
	}),
	native.VerbUserPut: verb(administer[native.UserSpec], func(c *connection, u native.UserSpec) (any, error) {
		return nil, c.broker().PutUser(c.ctx, u.Name, u.Password)
	}),
	native.VerbUserDelete: verb(administer[native.UserSpec], func(c *connection, u native.UserSpec) (any, error) {
		return nil, c.broker().DeleteUser(c.ctx, u.Name)
	}),
	native.VerbACLList: verb(inspect[native.ACLFilter], func(c *connection, f native.ACLFilter) (any, error) {
		filter, err := aclFilter(f)
		if err != nil {
			return nil, err
		}
		list, err := c.broker().ListACLs(c.ctx, filter)
		return each(list, aclInfo), err
	}),
	native.VerbACLCreate: verb(administer[native.ACL], func(c *connection, a native.ACL) (any, error) {
		rule, err := aclOf(a)
		if err != nil {
			return nil, err
		}
		return nil, c.broker().CreateACLs(c.ctx, rule)
	}),
	native.VerbACLDelete: verb(administer[native.ACLFilter], func(c *connection, f native.ACLFilter) (any, error) {
		filter, err := aclFilter(f)
		if err != nil {
			return nil, err
		}
		list, err := c.broker().DeleteACLs(c.ctx, filter)
		return each(list, aclInfo), err
	}),
	native.VerbBranchList: verb(inspect[struct{}], func(c *connection, _ struct{}) (any, error) {
		return each(c.broker().Branches(), branchInfo), nil
	}),
	native.VerbBranchSettle: verb(administer[native.BranchSpec], func(c *connection, s native.BranchSpec) (any, error) {
		return nil, c.broker().SettleBranch(c.ctx, xid(s.XID), s.Commit)
	}),
	native.VerbBranchForget: verb(administer[native.BranchSpec], func(c *connection, s native.BranchSpec) (any, error) {
		return nil, c.broker().ForgetBranch(xid(s.XID))
	}),
}

// asked is what a verb asks to do, on what.
type asked struct {
	op       session.Operation
	resource string
}

func ask(op session.Operation, resource string) []asked { return []asked{{op, resource}} }

func inspect[T any](T) []asked    { return ask(session.OperationInspect, "") }
func administer[T any](T) []asked { return ask(session.OperationAdminister, "") }

// redriveAsks is for one destination, or, where each message goes back to where it came
// from, for all.
func redriveAsks(t native.TransferSpec) []asked {
	if t.To == "" {
		return []asked{{session.OperationConsume, t.Name}, {session.OperationAdminister, ""}}
	}
	return []asked{{session.OperationConsume, t.Name}, {session.OperationSend, t.To}}
}

func resetAsks(s native.GroupResetSpec) []asked {
	if s.Topic == "" {
		return ask(session.OperationSubscribe, s.Group)
	}
	return []asked{{session.OperationSubscribe, s.Group}, {session.OperationConsume, s.Topic}}
}

// verb makes an entry of the table: what the request asks for, nothing where the answer
// leaves out what the peer must not see, and what is done.
func verb[T any](asks func(T) []asked, do func(*connection, T) (any, error)) func(*connection, []byte) (any, error) {
	return func(c *connection, body []byte) (any, error) {
		var request T
		if len(body) > 0 {
			if err := native.UnmarshalBody(body, &request); err != nil {
				return nil, fmt.Errorf("%w: %w", session.ErrInvalid, err)
			}
		}
		if asks != nil {
			for _, a := range asks(request) {
				if err := c.state.Authorize(a.op, a.resource); err != nil {
					return nil, err
				}
			}
		}
		return do(c, request)
	}
}

// admin handles an Admin, on the administration lane.
func (c *connection) admin(f *native.Admin) error {
	do := verbs[f.Verb]
	if do == nil {
		return fmt.Errorf("%w: no verb %q", session.ErrUnsupported, f.Verb)
	}
	reply, err := do(c, f.Body)
	if err != nil {
		return err
	}
	var body []byte
	if reply != nil {
		if body, err = native.MarshalBody(reply); err != nil {
			return err
		}
	}
	if len(body) > c.server.options.MaxFrame {
		return fmt.Errorf("%w: an answer of %d bytes; ask for less, by prefix", session.ErrTooLarge, len(body))
	}
	c.out.append(&native.OK{Request: f.Request, Body: body}, nil)
	return nil
}

func (c *connection) broker() session.Broker { return c.server.broker }

func aclInfo(a session.ACL) native.ACL {
	return native.ACL{
		Resource: a.Resource.String(), Name: a.Name, Pattern: a.Pattern.String(), Principal: a.Principal, Host: a.Host,
		Operation: a.Operation.String(), Effect: a.Effect.String(),
	}
}

// aclOf reads a rule: what it leaves out are a literal pattern, all hosts, and to allow.
func aclOf(a native.ACL) (rule session.ACL, err error) {
	rule = session.ACL{
		Name: a.Name, Pattern: destination.PatternLiteral, Principal: a.Principal, Host: cmp.Or(a.Host, destination.AnyHost), Effect: destination.EffectAllow,
	}
	return rule, errors.Join(
		rule.Resource.UnmarshalText([]byte(a.Resource)), rule.Operation.UnmarshalText([]byte(a.Operation)),
		parse(&rule.Pattern, a.Pattern), parse(&rule.Effect, a.Effect),
	)
}

func aclFilter(f native.ACLFilter) (filter session.ACLFilter, err error) {
	filter = session.ACLFilter{Name: some(f.Name), Principal: some(f.Principal), Host: some(f.Host)}
	return filter, errors.Join(
		parse(&filter.Resource, f.Resource), parse(&filter.Pattern, f.Pattern), parse(&filter.Operation, f.Operation), parse(&filter.Effect, f.Effect),
	)
}

// parse reads a name; an empty one leaves v as it is.
func parse(v encoding.TextUnmarshaler, text string) error {
	if text == "" {
		return nil
	}
	return v.UnmarshalText([]byte(text))
}

func some(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func each[A, B any](list []A, f func(A) B) []B {
	out := make([]B, len(list))
	for i := range list {
		out[i] = f(list[i])
	}
	return out
}

func subscriptionQuery(s native.SubscriptionSpec) session.SubscriptionQuery {
	return session.SubscriptionQuery{Topic: s.Topic, ClientID: s.ClientID, Name: s.Name, Shared: s.Shared}
}

func destinationInfo(d session.DestinationInfo) native.DestinationInfo {
	info := native.DestinationInfo{
		Name: d.Name, ID: hex.EncodeToString(d.ID[:]), Kind: d.Kind.String(), Temporary: d.Temporary, Internal: d.Internal,
		Settings: d.Settings, Partitions: each(d.Partitions, partitionInfo), Subscriptions: d.Subscriptions, Bytes: d.Bytes,
	}
	if d.Queue != nil {
		view := viewInfo(*d.Queue)
		info.Queue = &view
	}
	return info
}

func partitionInfo(p session.PartitionInfo) native.PartitionInfo {
	return native.PartitionInfo{Partition: p.Partition, Start: p.Start, End: p.End, Stable: p.Stable, Bytes: p.Bytes}
}

func viewInfo(v session.ViewInfo) native.ViewInfo {
	return native.ViewInfo{
		Waiting: v.Waiting, Acquired: v.Acquired, Scheduled: v.Scheduled, Held: v.Held, Consumers: v.Consumers,
		Delivered: v.Delivered, Acknowledged: v.Acknowledged, Expired: v.Expired, DeadLettered: v.DeadLettered,
	}
}

func subscriptionInfo(s session.SubscriptionInfo) native.SubscriptionInfo {
	return native.SubscriptionInfo{
		Topic: s.Topic, ClientID: s.ClientID, Name: s.Name, Kind: s.Kind.String(),
		Selector: s.Selector, NoLocal: s.NoLocal, Pattern: s.Pattern, Settings: s.Settings, View: viewInfo(s.View),
	}
}

func scheduleInfo(s session.Schedule) native.ScheduleInfo {
	return native.ScheduleInfo{
		ScheduleSpec: native.ScheduleSpec{
			Name: s.Name, Destination: s.Destination, Kind: s.Kind.String(), Cron: s.Cron, Zone: s.Zone, StartMS: s.StartMS, EndMS: s.EndMS,
			Count: s.Count, Missed: s.Missed, Paused: s.Paused,
		},
		CreatedMS: s.CreatedMS, Sent: s.Sent, LastMS: s.LastMS, NextMS: s.NextMS,
	}
}

func brokerStats(s session.Stats, connections int) native.BrokerStats {
	return native.BrokerStats{
		Version: s.Version, StartedMS: s.StartedMS, Epoch: s.Epoch, Destinations: s.Destinations, Connections: connections,
		Syncs: s.Syncs, JournalBytes: s.JournalBytes, RecoveryMS: s.RecoveryMS, RecoveredMsgs: s.RecoveredEntries, HeapBytes: s.HeapBytes,
	}
}

func groupDescription(g *destination.GroupDescription) native.GroupDescription {
	return native.GroupDescription{
		Name: g.Name, Type: g.Type, State: g.State, Protocol: g.Protocol,
		Members: each(g.Members, func(m destination.GroupMember) native.GroupMember {
			return native.GroupMember{ID: m.ID, InstanceID: m.InstanceID, ClientID: m.ClientID, Host: m.Host, Assignment: each(m.Assignment, topicPartition)}
		}),
		Offsets: each(g.Offsets, func(o destination.GroupOffset) native.GroupOffset {
			lag := int64(0)
			if o.Committed >= 0 {
				lag = max(o.End-max(o.Committed, o.Start), 0)
			}
			return native.GroupOffset{
				Topic: o.Topic, Partition: o.Partition, Committed: o.Committed, LogStart: o.Start, End: o.End,
				Lag: lag, LagMS: o.LagTime.Milliseconds(), MemberID: o.MemberID,
			}
		}),
	}
}
