package txn

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AddPartitionsToTxn, versions 0 to 5: partitions enter a transaction.
//
//   - All or none: if one does not exist (UNKNOWN_TOPIC_OR_PARTITION), the
//     others get OPERATION_NOT_ATTEMPTED.
//   - From v2 on PRODUCER_FENCED, before INVALID_PRODUCER_EPOCH.
//   - From v4 on for brokers: several transactions at once, each of which may
//     ask only whether the partitions are in it. Those that are not get
//     TRANSACTION_ABORTABLE from v5 on, before INVALID_TXN_STATE.
func (c *Coordinator) AddPartitionsToTxn(ctx context.Context, r *kmsg.AddPartitionsToTxnRequest) *kmsg.AddPartitionsToTxnResponse {
	resp := r.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	if r.Version < 4 {
		topics := make([]kmsg.TxnMetadataValueTopic, len(r.Topics))
		for i, t := range r.Topics {
			topics[i] = kmsg.TxnMetadataValueTopic{Topic: t.Topic, Partitions: t.Partitions}
		}
		a := c.startAdding(ctx, r.TransactionalID, r.ProducerID, r.ProducerEpoch, version0, topics)
		code := fencedBelow(a.outcome(ctx, c), r.Version, 2)
		resp.Topics = make([]kmsg.AddPartitionsToTxnResponseTopic, len(topics))
		for i, t := range topics {
			resp.Topics[i] = kmsg.AddPartitionsToTxnResponseTopic{Topic: t.Topic, Partitions: a.partitions(i, t, code)}
		}
		return resp
	}
	// All are under way before one is waited for, so that they share a sync.
	added := make([]adding, len(r.Transactions))
	resp.Transactions = make([]kmsg.AddPartitionsToTxnResponseTransaction, len(r.Transactions))
	for i := range r.Transactions {
		t := &r.Transactions[i]
		topics := topicsOf(t)
		if t.VerifyOnly {
			added[i] = c.verifyAll(t, topics, r.Version)
			continue
		}
		added[i] = c.startAdding(ctx, t.TransactionalID, t.ProducerID, t.ProducerEpoch, version2, topics)
	}
	for i := range r.Transactions {
		t := &r.Transactions[i]
		out := &resp.Transactions[i]
		out.TransactionalID = t.TransactionalID
		code := added[i].outcome(ctx, c)
		for j, topic := range topicsOf(t) {
			out.Topics = append(out.Topics, kmsg.AddPartitionsToTxnResponseTransactionTopic{Topic: topic.Topic})
			last := &out.Topics[len(out.Topics)-1]
			for _, p := range added[i].partitions(j, topic, code) {
				last.Partitions = append(last.Partitions,
					kmsg.AddPartitionsToTxnResponseTransactionTopicPartition{Partition: p.Partition, ErrorCode: p.ErrorCode})
			}
		}
	}
	return resp
}

func topicsOf(t *kmsg.AddPartitionsToTxnRequestTransaction) []kmsg.TxnMetadataValueTopic {
	topics := make([]kmsg.TxnMetadataValueTopic, len(t.Topics))
	for i, topic := range t.Topics {
		topics[i] = kmsg.TxnMetadataValueTopic{Topic: topic.Topic, Partitions: topic.Partitions}
	}
	return topics
}

// adding is one transaction's part of a request.
type adding struct {
	w     *write
	code  int16
	codes [][]int16 // of each partition, where they differ; else nil
}

func (a *adding) outcome(ctx context.Context, c *Coordinator) int16 {
	return c.outcome(ctx, a.w, a.code)
}

// partitions are the answers for topic, the ith.
func (a *adding) partitions(i int, topic kmsg.TxnMetadataValueTopic, code int16) []kmsg.AddPartitionsToTxnResponseTopicPartition {
	answers := make([]kmsg.AddPartitionsToTxnResponseTopicPartition, len(topic.Partitions))
	for j, p := range topic.Partitions {
		answers[j].Partition, answers[j].ErrorCode = p, code
		if a.codes != nil {
			answers[j].ErrorCode = a.codes[i][j]
		}
	}
	return answers
}

// each sets the code of every partition, and says whether one is not codeNone.
func (a *adding) each(topics []kmsg.TxnMetadataValueTopic, code func(topic string, partition int32) int16) (refused bool) {
	a.codes = make([][]int16, len(topics))
	for i, t := range topics {
		a.codes[i] = make([]int16, len(t.Partitions))
		for j, p := range t.Partitions {
			a.codes[i][j] = code(t.Topic, p)
			refused = refused || a.codes[i][j] != codeNone
		}
	}
	return refused
}

func (c *Coordinator) startAdding(ctx context.Context, name string, id int64, epoch, version int16, topics []kmsg.TxnMetadataValueTopic) (a adding) {
	if name == "" {
		return adding{code: codeInvalidRequest}
	}
	if a.each(topics, func(topic string, partition int32) int16 {
		if _, err := c.o.Partition(topic, partition); err != nil {
			return codeUnknownTopicOrPartition
		}
		return codeNone
	}) {
		for _, codes := range a.codes {
			for i, code := range codes {
				if code == codeNone {
					codes[i] = codeOperationNotAttempted
				}
			}
		}
		return a
	}
	a.codes = nil
	request := addRequest{id: id, epoch: epoch, version: version, topics: owned(topics)}
	a.w, a.code = c.patiently(ctx, name, func(t *transaction, _ int64) answer {
		request.nowMS = c.nowMS()
		return t.add(request)
	})
	return a
}

func (c *Coordinator) verifyAll(r *kmsg.AddPartitionsToTxnRequestTransaction, topics []kmsg.TxnMetadataValueTopic, version int16) (a adding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.transactions[r.TransactionalID]
	switch {
	case r.TransactionalID == "":
		return adding{code: codeInvalidRequest}
	case c.closed:
		return adding{code: codeCoordinatorNotAvailable}
	case t == nil:
		return adding{code: codeInvalidProducerIDMapping}
	}
	code := t.verify(r.ProducerID, r.ProducerEpoch)
	a.each(topics, func(topic string, partition int32) int16 {
		switch {
		case code != codeNone && code != codeInvalidTxnState:
			return code
		case code == codeNone && t.current.contains(topic, partition):
			return codeNone
		case version >= 5:
			return codeTransactionAbortable
		}
		return codeInvalidTxnState
	})
	return a
}

// owned is a sorted copy.
func owned(topics []kmsg.TxnMetadataValueTopic) []kmsg.TxnMetadataValueTopic {
	mine := make([]kmsg.TxnMetadataValueTopic, len(topics))
	for i, t := range topics {
		mine[i] = kmsg.TxnMetadataValueTopic{Topic: t.Topic, Partitions: append([]int32(nil), t.Partitions...)}
	}
	return sortTopics(mine)
}
