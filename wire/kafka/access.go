package kafka

import (
	"context"
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/broker/txn"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// What a request asks for is Kafka's own table. What concerns topics is asked where they
// are looked up; what a request asks for as a whole is here, and so is what it asks of
// groups and transactions one by one: those that are refused are kept back, and answered
// beside the others.

// may says whether the peer may do it.
func (c *connection) may(op session.Operation, resource string) bool {
	return c.server.broker.Authorize(c.principal(), op, resource) == nil
}

// mayTopic is may of a topic as requests name it. One that is not there is for others to
// refuse.
func (c *connection) mayTopic(op session.Operation, name string, id [16]byte) bool {
	if name == "" {
		d := c.server.broker.ByID(id)
		return d == nil || c.may(op, d.Name)
	}
	return c.may(op, record.DestinationName(name))
}

// refused answers a request that must not be done at all; nil if it may.
func (c *connection) refused(r kmsg.Request) kmsg.Response {
	if !c.secured() {
		return nil
	}
	code := codeNone
	ask := func(op session.Operation, resource string, otherwise int16) {
		if code == codeNone && !c.may(op, resource) {
			code = otherwise
		}
	}
	ofGroup := func(name string) { ask(session.OperationSubscribe, name, codeGroupAuthFailed) }
	ofID := func(id string) { ask(session.OperationTransact, id, codeTransactionalIDAuthFailed) }
	switch r := r.(type) {
	case *kmsg.InitProducerIDRequest:
		if r.TransactionalID != nil {
			ofID(*r.TransactionalID)
		} else {
			ask(session.OperationIdempotentWrite, "", codeClusterAuthFailed)
		}
	case *kmsg.AddOffsetsToTxnRequest:
		ofID(r.TransactionalID)
		ofGroup(r.Group)
	case *kmsg.EndTxnRequest:
		ofID(r.TransactionalID)
	case *kmsg.JoinGroupRequest:
		ofGroup(r.Group)
	case *kmsg.SyncGroupRequest:
		ofGroup(r.Group)
	case *kmsg.HeartbeatRequest:
		ofGroup(r.Group)
	case *kmsg.LeaveGroupRequest:
		ofGroup(r.Group)
	case *kmsg.ConsumerGroupHeartbeatRequest:
		ofGroup(r.Group)
	case *kmsg.ShareGroupHeartbeatRequest:
		ofGroup(r.GroupID)
	case *kmsg.ShareFetchRequest:
		ofGroup(deref(r.GroupID))
	case *kmsg.ShareAcknowledgeRequest:
		ofGroup(deref(r.GroupID))
	case *kmsg.AlterShareGroupOffsetsRequest:
		ofGroup(r.GroupID)
	case *kmsg.DeleteShareGroupOffsetsRequest:
		ask(session.OperationDeleteGroup, r.GroupID, codeGroupAuthFailed)
	case *kmsg.OffsetDeleteRequest:
		ask(session.OperationDeleteGroup, r.Group, codeGroupAuthFailed)
	case *kmsg.DescribeLogDirsRequest, *kmsg.ListPartitionReassignmentsRequest, *kmsg.DescribeACLsRequest,
		*kmsg.DescribeUserSCRAMCredentialsRequest, *kmsg.DescribeClientQuotasRequest, *kmsg.ListConfigResourcesRequest:
		ask(session.OperationInspect, "", codeClusterAuthFailed)
	case *kmsg.ElectLeadersRequest, *kmsg.AlterPartitionAssignmentsRequest:
		ask(session.OperationAdminister, "", codeClusterAuthFailed)
	}
	if code == codeNone {
		return nil
	}
	response := r.ResponseKind()
	if f := reflect.ValueOf(response).Elem().FieldByName("ErrorCode"); f.IsValid() {
		f.SetInt(int64(code))
	}
	return response
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// keep splits a list into what may be done, and what may not.
func keep[T any](list []T, may func(*T) bool) (kept, denied []T) {
	for i := range list {
		if may(&list[i]) {
			kept = append(kept, list[i])
		} else {
			denied = append(denied, list[i])
		}
	}
	return kept, denied
}

func (c *connection) offsetCommit(ctx context.Context, r *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitResponse {
	code, denied := codeGroupAuthFailed, r.Topics
	if c.may(session.OperationSubscribe, r.Group) {
		code = codeTopicAuthorizationFailed
		r.Topics, denied = keep(r.Topics, func(t *kmsg.OffsetCommitRequestTopic) bool {
			return c.mayTopic(session.OperationConsume, t.Topic, t.TopicID)
		})
	} else {
		r.Topics = nil
	}
	response := r.ResponseKind().(*kmsg.OffsetCommitResponse)
	if len(denied) == 0 || len(r.Topics) > 0 {
		response = c.server.broker.Groups().OffsetCommit(ctx, c.client(), r)
	}
	for _, t := range denied {
		a := kmsg.NewOffsetCommitResponseTopic()
		a.Topic, a.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			q := kmsg.NewOffsetCommitResponseTopicPartition()
			q.Partition, q.ErrorCode = p.Partition, code
			a.Partitions = append(a.Partitions, q)
		}
		response.Topics = append(response.Topics, a)
	}
	return response
}

// offsetFetch is of one group up to version 7. Topics that the peer must not see are left
// out where all are asked for.
func (c *connection) offsetFetch(ctx context.Context, r *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	if r.Version < 8 {
		if !c.may(session.OperationDescribeGroup, r.Group) {
			return refusedOffsets(r)
		}
		response := c.server.broker.Groups().OffsetFetch(ctx, c.client(), r)
		response.Topics, _ = keep(response.Topics, func(t *kmsg.OffsetFetchResponseTopic) bool {
			return c.mayTopic(session.OperationDescribe, t.Topic, [16]byte{})
		})
		return response
	}
	groups, denied := keep(r.Groups, func(g *kmsg.OffsetFetchRequestGroup) bool { return c.may(session.OperationDescribeGroup, g.Group) })
	r.Groups = groups
	response := c.server.broker.Groups().OffsetFetch(ctx, c.client(), r)
	for i := range response.Groups {
		g := &response.Groups[i]
		g.Topics, _ = keep(g.Topics, func(t *kmsg.OffsetFetchResponseGroupTopic) bool {
			return c.mayTopic(session.OperationDescribe, t.Topic, t.TopicID)
		})
	}
	for _, g := range denied {
		a := kmsg.NewOffsetFetchResponseGroup()
		a.Group, a.ErrorCode = g.Group, codeGroupAuthFailed
		response.Groups = append(response.Groups, a)
	}
	return response
}

// refusedOffsets says it for the group, and before version 2, which has no place for
// that, for each partition.
func refusedOffsets(r *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	response := r.ResponseKind().(*kmsg.OffsetFetchResponse)
	response.ErrorCode = codeGroupAuthFailed
	for _, t := range r.Topics {
		a := kmsg.NewOffsetFetchResponseTopic()
		a.Topic = t.Topic
		for _, p := range t.Partitions {
			q := kmsg.NewOffsetFetchResponseTopicPartition()
			q.Partition, q.Offset, q.ErrorCode = p, -1, codeGroupAuthFailed
			a.Partitions = append(a.Partitions, q)
		}
		response.Topics = append(response.Topics, a)
	}
	return response
}

func (c *connection) addPartitionsToTxn(ctx context.Context, r *kmsg.AddPartitionsToTxnRequest) *kmsg.AddPartitionsToTxnResponse {
	code := codeNone
	if r.Version >= 4 { // a broker's request, in the name of producers
		if !c.may(session.OperationAdminister, "") {
			response := r.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
			response.ErrorCode = codeClusterAuthFailed
			return response
		}
	} else if !c.may(session.OperationTransact, r.TransactionalID) {
		code = codeTransactionalIDAuthFailed
	}
	for i := range r.Topics {
		if code == codeNone && !c.mayTopic(session.OperationSend, r.Topics[i].Topic, [16]byte{}) {
			code = codeOperationNotAttempted // for the others: all or none
		}
	}
	if code == codeNone {
		return (*txn.Coordinator).AddPartitionsToTxn(c.server.broker.Transactions(), ctx, r)
	}
	response := r.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	for _, t := range r.Topics {
		a := kmsg.NewAddPartitionsToTxnResponseTopic()
		a.Topic = t.Topic
		for _, p := range t.Partitions {
			q := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			q.Partition, q.ErrorCode = p, code
			if code == codeOperationNotAttempted && !c.mayTopic(session.OperationSend, t.Topic, [16]byte{}) {
				q.ErrorCode = codeTopicAuthorizationFailed
			}
			a.Partitions = append(a.Partitions, q)
		}
		response.Topics = append(response.Topics, a)
	}
	return response
}

// mayCommitWithin says whether offsets may be committed in a transaction; the code says
// what is wrong with those of a topic.
func (c *connection) mayCommitWithin(r *kmsg.TxnOffsetCommitRequest) int16 {
	switch {
	case !c.may(session.OperationTransact, r.TransactionalID):
		return codeTransactionalIDAuthFailed
	case !c.may(session.OperationSubscribe, r.Group):
		return codeGroupAuthFailed
	}
	for i := range r.Topics {
		if !c.mayTopic(session.OperationConsume, r.Topics[i].Topic, [16]byte{}) {
			return codeTopicAuthorizationFailed
		}
	}
	return codeNone
}

func (c *connection) describeGroups(ctx context.Context, r *kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse {
	groups, denied := keep(r.Groups, c.mayDescribeGroup)
	r.Groups = groups
	response := c.server.broker.Groups().DescribeGroups(ctx, c.client(), r)
	for _, name := range denied {
		a := kmsg.NewDescribeGroupsResponseGroup()
		a.Group, a.ErrorCode = name, codeGroupAuthFailed
		response.Groups = append(response.Groups, a)
	}
	return response
}

func (c *connection) mayDescribeGroup(name *string) bool {
	return c.may(session.OperationDescribeGroup, *name)
}

func (c *connection) consumerGroupDescribe(ctx context.Context, r *kmsg.ConsumerGroupDescribeRequest) *kmsg.ConsumerGroupDescribeResponse {
	groups, denied := keep(r.Groups, c.mayDescribeGroup)
	r.Groups = groups
	response := c.server.broker.Groups().ConsumerGroupDescribe(ctx, c.client(), r)
	for _, name := range denied {
		a := kmsg.NewConsumerGroupDescribeResponseGroup()
		a.Group, a.ErrorCode = name, codeGroupAuthFailed
		response.Groups = append(response.Groups, a)
	}
	return response
}

func (c *connection) shareGroupDescribe(ctx context.Context, r *kmsg.ShareGroupDescribeRequest) *kmsg.ShareGroupDescribeResponse {
	groups, denied := keep(r.GroupIDs, c.mayDescribeGroup)
	r.GroupIDs = groups
	response := c.server.broker.Groups().ShareGroupDescribe(ctx, c.client(), r)
	for _, name := range denied {
		a := kmsg.NewShareGroupDescribeResponseGroup()
		a.GroupID, a.ErrorCode = name, codeGroupAuthFailed
		response.Groups = append(response.Groups, a)
	}
	return response
}

// listGroups leaves out those that the peer must not see, as Kafka does.
func (c *connection) listGroups(ctx context.Context, r *kmsg.ListGroupsRequest) *kmsg.ListGroupsResponse {
	response := (*group.Coordinator).ListGroups(c.server.broker.Groups(), ctx, c.client(), r)
	if !c.may(session.OperationInspect, "") {
		response.Groups, _ = keep(response.Groups, func(g *kmsg.ListGroupsResponseGroup) bool { return c.may(session.OperationDescribeGroup, g.Group) })
	}
	return response
}

func (c *connection) listTransactions(ctx context.Context, r *kmsg.ListTransactionsRequest) *kmsg.ListTransactionsResponse {
	response := (*txn.Coordinator).ListTransactions(c.server.broker.Transactions(), ctx, r)
	response.TransactionStates, _ = keep(response.TransactionStates, func(t *kmsg.ListTransactionsResponseTransactionState) bool {
		return c.may(session.OperationDescribeTransaction, t.TransactionalID)
	})
	return response
}

func (c *connection) describeTransactions(ctx context.Context, r *kmsg.DescribeTransactionsRequest) *kmsg.DescribeTransactionsResponse {
	ids, denied := keep(r.TransactionalIDs, func(id *string) bool { return c.may(session.OperationDescribeTransaction, *id) })
	r.TransactionalIDs = ids
	response := (*txn.Coordinator).DescribeTransactions(c.server.broker.Transactions(), ctx, r)
	for _, id := range denied {
		a := kmsg.NewDescribeTransactionsResponseTransactionState()
		a.TransactionalID, a.ErrorCode = id, codeTransactionalIDAuthFailed
		response.TransactionStates = append(response.TransactionStates, a)
	}
	return response
}
