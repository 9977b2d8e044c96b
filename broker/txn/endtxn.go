package txn

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// EndTxn, versions 0 to 5: commit or abort. The outcome stands when its record is
// durable. The answer comes when the markers are, too, unless that takes longer
// than Options.FinishTimeout: whoever hears of the end, from whichever client,
// reads what was committed and fetches the offsets.
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
	if code == codeNone {
		c.finished(ctx, r.TransactionalID)
	}
	resp.ErrorCode = fencedBelow(code, r.Version, 2)
	if code == codeNone && request.version >= version2 {
		resp.ProducerID, resp.ProducerEpoch = id, epoch
	}
	return resp
}

// finished waits for the markers of a prepared transaction. Its outcome stands,
// so that whoever waits gives up without an error.
func (c *Coordinator) finished(ctx context.Context, id string) {
	c.mu.Lock()
	t := c.transactions[id]
	if c.closed || c.o.FinishTimeout < 0 || t == nil || !t.current.state.prepared() {
		c.mu.Unlock()
		return
	}
	changed := t.change()
	c.mu.Unlock()
	over := make(chan struct{})
	defer c.o.AfterFunc(c.o.FinishTimeout, func() { close(over) })()
	select {
	case <-changed:
	case <-over:
	case <-ctx.Done():
	}
}
