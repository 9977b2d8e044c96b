package txn

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerID, versions 0 to 5: a producer id and epoch.
//
//   - Without a transactional id: a new producer id, for idempotence alone.
//   - With one: its producer id with the epoch raised, so that whoever had it
//     is fenced; a new id where the epochs are exhausted. An open transaction
//     is aborted first, CONCURRENT_TRANSACTIONS meanwhile.
//   - From v3 on the client may say what it has (KIP-360), and is fenced if
//     that is not the newest. The same request again gets the same answer.
//   - From v4 on PRODUCER_FENCED, before INVALID_PRODUCER_EPOCH.
//   - Version 6 (two-phase commit, KIP-939) is not offered.
func (c *Coordinator) InitProducerID(ctx context.Context, r *kmsg.InitProducerIDRequest) *kmsg.InitProducerIDResponse {
	resp := r.ResponseKind().(*kmsg.InitProducerIDResponse)
	id, epoch, code := c.initProducerID(ctx, r)
	if code = fencedBelow(code, r.Version, 4); code != codeNone {
		id, epoch = noID, noEpoch
	}
	resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code, id, epoch
	return resp
}

func (c *Coordinator) initProducerID(ctx context.Context, r *kmsg.InitProducerIDRequest) (id int64, epoch, code int16) {
	if r.TransactionalID == nil {
		id, err := c.newProducerID(ctx)
		if err != nil {
			return noID, noEpoch, codeCoordinatorLoading
		}
		return id, 0, codeNone
	}
	request := initRequest{id: noID, epoch: noEpoch, timeoutMS: r.TransactionTimeoutMillis}
	if r.Version >= 3 {
		request.id, request.epoch = r.ProducerID, r.ProducerEpoch
	}
	name := *r.TransactionalID
	switch {
	case name == "", len(name) > maxIDBytes, request.id < noID, request.epoch < noEpoch,
		(request.id == noID) != (request.epoch == noEpoch):
		return noID, noEpoch, codeInvalidRequest
	case request.timeoutMS <= 0, int64(request.timeoutMS) > c.o.MaxTimeout.Milliseconds():
		return noID, noEpoch, codeInvalidTxnTimeout
	}
	if code := c.ensure(ctx, name); code != codeNone {
		return noID, noEpoch, code
	}
	code = c.ask(ctx, name, func(t *transaction, newID int64) answer {
		request.newID, request.nowMS = newID, c.nowMS()
		a := t.initProducerID(request)
		if a.write != nil {
			id, epoch = a.write.producerID, a.write.epoch
		}
		return a
	})
	if code == codeInvalidProducerIDMapping {
		// It was there a moment ago: it expired, or its first record failed.
		code = codeConcurrentTransactions
	}
	return id, epoch, code
}

// ensure makes a transactional id that is not there yet.
func (c *Coordinator) ensure(ctx context.Context, name string) (code int16) {
	c.mu.Lock()
	t, count := c.transactions[name], len(c.transactions)
	c.mu.Unlock()
	switch {
	case t != nil:
		return codeNone
	case count >= c.o.MaxIDs:
		return codePolicyViolation
	}
	if err := c.open(ctx); err != nil {
		c.o.Logger.Warn("no "+TopicName, "error", err)
		return codeCoordinatorNotAvailable
	}
	id, err := c.newProducerID(ctx)
	if err != nil {
		return codeCoordinatorLoading
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transactions[name] == nil {
		t := &transaction{machine: created(id, c.nowMS()), id: name, index: -1}
		c.transactions[name] = t
	}
	return codeNone
}
