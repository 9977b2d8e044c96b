package txn

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// EndTxn, versions 0 to 5: commit or abort. The answer comes when the outcome
// is durable; the markers follow.
//
//   - Asked again, it answers the same; for the other outcome INVALID_TXN_STATE.
//   - From v2 on PRODUCER_FENCED, before INVALID_PRODUCER_EPOCH.
//   - Version 5 is transaction.version 2 (KIP-890): the epoch rises with every
//     end, and the answer has what the producer goes on with, a new producer
//     id where the epochs are exhausted. An abort needs no transaction.
func (c *Coordinator) EndTxn(ctx context.Context, r *kmsg.EndTxnRequest) *kmsg.EndTxnResponse {
	resp := r.ResponseKind().(*kmsg.EndTxnResponse)
	resp.ProducerID, resp.ProducerEpoch = noID, noEpoch
	if r.TransactionalID == "" {
		resp.ErrorCode = codeInvalidRequest
		return resp
	}
	request := endRequest{id: r.ProducerID, epoch: r.ProducerEpoch, commit: r.Commit, version: version0}
	if r.Version >= 5 {
		request.version = version2
	}
	id, epoch := noID, noEpoch
	code := c.ask(ctx, r.TransactionalID, func(t *transaction, newID int64) answer {
		request.newID, request.nowMS = newID, c.nowMS()
		a := t.end(request)
		if a.write != nil {
			id, epoch = a.write.following()
		} else {
			id, epoch = t.current.producerID, t.current.epoch
		}
		return a
	})
	resp.ErrorCode = fencedBelow(code, r.Version, 2)
	if code == codeNone && request.version >= version2 {
		resp.ProducerID, resp.ProducerEpoch = id, epoch
	}
	return resp
}
