package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/broker/txn"
)

// Transactions are package txn's: InitProducerId 0–5, AddPartitionsToTxn 0–5,
// AddOffsetsToTxn 0–4, EndTxn 0–5, DescribeTransactions 0, ListTransactions
// 0–2; markers.go has WriteTxnMarkers. TxnOffsetCommit 0–5 is the group's, once the transaction has admitted
// it.

// transacted makes a handler of one of the transaction coordinator's methods.
func transacted[Q kmsg.Request, R kmsg.Response](from, to int16, f func(*txn.Coordinator, context.Context, Q) R) handler {
	return answering(from, to, func(c *connection, ctx context.Context, r Q) R {
		return f(c.server.broker.Transactions(), ctx, r)
	})
}

var txnHandlers = map[int16]handler{
	int16(kmsg.InitProducerID):       transacted(0, 5, (*txn.Coordinator).InitProducerID),
	int16(kmsg.AddPartitionsToTxn):   answering(0, 5, (*connection).addPartitionsToTxn),
	int16(kmsg.AddOffsetsToTxn):      transacted(0, 4, (*txn.Coordinator).AddOffsetsToTxn),
	int16(kmsg.EndTxn):               transacted(0, 5, (*txn.Coordinator).EndTxn),
	int16(kmsg.DescribeTransactions): answering(0, 0, (*connection).describeTransactions),
	int16(kmsg.ListTransactions):     answering(0, 2, (*connection).listTransactions),
	int16(kmsg.TxnOffsetCommit):      answering(0, 5, (*connection).txnOffsetCommit),
	int16(kmsg.WriteTxnMarkers):      answering(1, 2, (*connection).writeTxnMarkers),
}

func (c *connection) txnOffsetCommit(ctx context.Context, r *kmsg.TxnOffsetCommitRequest) *kmsg.TxnOffsetCommitResponse {
	code := c.mayCommitWithin(r)
	var admission txn.Admission
	if code == codeNone {
		admission, code = c.server.broker.Transactions().EnterOffsets(ctx, r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Group, r.Version >= 5)
	}
	defer admission.Release()
	if code == codeNone {
		return (*group.Coordinator).TxnOffsetCommit(c.server.broker.Groups(), ctx, c.client(), r)
	}
	response := r.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	for _, t := range r.Topics {
		answer := kmsg.NewTxnOffsetCommitResponseTopic()
		answer.Topic = t.Topic
		for _, p := range t.Partitions {
			a := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			a.Partition, a.ErrorCode = p.Partition, code
			answer.Partitions = append(answer.Partitions, a)
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}
