package txn

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Admission keeps the end markers of a transaction from being written between
// the moment that a batch was found to belong to it and the moment that it is
// appended. The zero value keeps nothing.
type Admission struct {
	c *Coordinator
	t *transaction
}

// Release lets the transaction end. It must be called once the batch is
// appended (not yet durable) or given up, soon; calling it again does nothing.
func (a *Admission) Release() {
	if a.t == nil {
		return
	}
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.t.held--
	a.c.finish(a.t)
	a.t = nil
}

// Admit says whether a transactional batch may be appended to a partition, in
// Produce's words: 0, or a code to answer. Without implicit the partition must
// have been added to the transaction (INVALID_TXN_STATE; Produce v11 says
// TRANSACTION_ABORTABLE for that). With implicit (Produce from v12 on, KIP-890)
// it is added, which waits for the disk.
//
// A marker may still come between Admit and the append; Enter prevents that.
func (c *Coordinator) Admit(ctx context.Context, txnID string, producerID int64, epoch int16, topic string, partition int32, implicit bool) (code int16) {
	a, codes := c.Enter(ctx, txnID, producerID, epoch, []TopicPartition{{topic, partition}}, implicit)
	a.Release()
	if codes != nil {
		return codes[0]
	}
	return codeNone
}

// Enter is Admit for all partitions of one Produce, which are added with one
// record. codes is nil if all are admitted, else has one for each. If one is
// admitted, the batches must be appended before Release.
func (c *Coordinator) Enter(ctx context.Context, txnID string, producerID int64, epoch int16, partitions []TopicPartition, implicit bool) (a Admission, codes []int16) {
	all := func(code int16) []int16 {
		codes := make([]int16, len(partitions))
		for i := range codes {
			codes[i] = producing(code)
		}
		return codes
	}
	if txnID == "" {
		return a, all(codeInvalidRequest)
	}
	if implicit {
		request := addRequest{id: producerID, epoch: epoch, version: version2, topics: grouped(partitions)}
		w, code := c.patiently(ctx, txnID, func(t *transaction, _ int64) answer {
			request.nowMS = c.nowMS()
			return t.add(request)
		})
		if code = c.outcome(ctx, w, code); code != codeNone {
			return a, all(code)
		}
	}
	a, code := c.hold(txnID, producerID, epoch, func(m *metadata) bool {
		found := false
		for i, p := range partitions {
			if m.contains(p.Topic, p.Partition) {
				found = true
				continue
			}
			if codes == nil {
				codes = make([]int16, len(partitions))
			}
			codes[i] = codeInvalidTxnState
		}
		return found
	})
	if code != codeNone {
		return a, all(code)
	}
	return a, codes
}

// AdmitOffsets is Admit for the offsets of a group, in TxnOffsetCommit's
// words. From v5 on (KIP-890) the group is added to the transaction.
func (c *Coordinator) AdmitOffsets(ctx context.Context, txnID string, producerID int64, epoch int16, group string, implicit bool) (code int16) {
	a, code := c.EnterOffsets(ctx, txnID, producerID, epoch, group, implicit)
	a.Release()
	return code
}

// EnterOffsets is AdmitOffsets that keeps the transaction from ending until
// Release: the offsets must be appended before.
func (c *Coordinator) EnterOffsets(ctx context.Context, txnID string, producerID int64, epoch int16, group string, implicit bool) (a Admission, code int16) {
	if txnID == "" {
		return a, codeInvalidRequest
	}
	if implicit {
		if code := c.addOffsets(ctx, txnID, producerID, epoch, version2, group); code != codeNone {
			return a, committing(code)
		}
	}
	a, code = c.hold(txnID, producerID, epoch, func(m *metadata) bool {
		_, found := slices.BinarySearch(m.groups, group)
		return found
	})
	return a, committing(code)
}

// hold admits to an open transaction, if has finds there what it looks for.
func (c *Coordinator) hold(txnID string, producerID int64, epoch int16, has func(*metadata) bool) (Admission, int16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.transactions[txnID]
	switch {
	case c.closed:
		return Admission{}, codeCoordinatorNotAvailable
	case t == nil:
		return Admission{}, codeInvalidProducerIDMapping
	}
	if code := t.verify(producerID, epoch); code != codeNone {
		return Admission{}, code
	}
	if !has(&t.current) {
		return Admission{}, codeInvalidTxnState
	}
	t.held++
	return Admission{c, t}, codeNone
}

// grouped is partitions by topic, sorted.
func grouped(partitions []TopicPartition) []kmsg.TxnMetadataValueTopic {
	topics := make([]kmsg.TxnMetadataValueTopic, len(partitions))
	for i, p := range partitions {
		topics[i] = kmsg.TxnMetadataValueTopic{Topic: p.Topic, Partitions: []int32{p.Partition}}
	}
	return sortTopics(topics)
}
