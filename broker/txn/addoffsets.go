package txn

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AddOffsetsToTxn, versions 0 to 4: a group's offsets enter a transaction.
// From v2 on PRODUCER_FENCED, before INVALID_PRODUCER_EPOCH.
func (c *Coordinator) AddOffsetsToTxn(ctx context.Context, r *kmsg.AddOffsetsToTxnRequest) *kmsg.AddOffsetsToTxnResponse {
	resp := r.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
	code := c.addOffsets(ctx, r.TransactionalID, r.ProducerID, r.ProducerEpoch, version0, r.Group)
	resp.ErrorCode = fencedBelow(code, r.Version, 2)
	return resp
}

func (c *Coordinator) addOffsets(ctx context.Context, name string, id int64, epoch, version int16, group string) int16 {
	if name == "" {
		return codeInvalidRequest
	}
	request := addRequest{id: id, epoch: epoch, version: version, groups: []string{group}, topics: []kmsg.TxnMetadataValueTopic{{
		Topic: OffsetsTopicName, Partitions: []int32{partitionOf(group, c.o.OffsetsPartitions())},
	}}}
	w, code := c.patiently(ctx, name, func(t *transaction, _ int64) answer {
		if t.current.state == ongoing && len(t.current.groups) >= maxGroups {
			return refuse(codePolicyViolation)
		}
		request.nowMS = c.nowMS()
		return t.add(request)
	})
	return c.outcome(ctx, w, code)
}
