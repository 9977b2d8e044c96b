package txn

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTransactions, version 0: what is known of transactional ids;
// TRANSACTIONAL_ID_NOT_FOUND.
func (c *Coordinator) DescribeTransactions(_ context.Context, r *kmsg.DescribeTransactionsRequest) *kmsg.DescribeTransactionsResponse {
	resp := r.ResponseKind().(*kmsg.DescribeTransactionsResponse)
	for _, name := range r.TransactionalIDs {
		resp.TransactionStates = append(resp.TransactionStates, c.describe(name))
	}
	return resp
}

func (c *Coordinator) describe(name string) kmsg.DescribeTransactionsResponseTransactionState {
	s := kmsg.NewDescribeTransactionsResponseTransactionState()
	s.TransactionalID = name
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.transactions[name]
	switch {
	case c.closed:
		s.ErrorCode = codeCoordinatorNotAvailable
		return s
	case name == "":
		s.ErrorCode = codeInvalidRequest
		return s
	case t == nil || t.hidden():
		s.ErrorCode = codeTransactionalIDNotFound
		return s
	}
	m := &t.current
	s.State, s.TimeoutMillis, s.StartTimestamp = m.state.String(), m.timeoutMS, m.startMS
	s.ProducerID, s.ProducerEpoch = m.producerID, m.epoch
	for _, topic := range m.topics {
		s.Topics = append(s.Topics, kmsg.DescribeTransactionsResponseTransactionStateTopic{Topic: topic.Topic, Partitions: topic.Partitions})
	}
	return s
}

// hidden is an id that is being made or forgotten.
func (t *transaction) hidden() bool {
	return t.current.epoch == noEpoch || t.next != nil && t.next.state == dead
}

// ListTransactions, versions 0 to 2: transactional ids by state and producer
// id; from v1 on also by how long the transaction is open, from v2 on by a
// regular expression, INVALID_REGULAR_EXPRESSION. In order of their names.
func (c *Coordinator) ListTransactions(_ context.Context, r *kmsg.ListTransactionsRequest) *kmsg.ListTransactionsResponse {
	resp := r.ResponseKind().(*kmsg.ListTransactionsResponse)
	var wanted [states]bool
	for _, name := range r.StateFilters {
		if s, known := parseState(name); known {
			wanted[s] = true
		} else {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
		}
	}
	var pattern *regexp.Regexp
	if r.Version >= 2 && r.TransactionalIDPattern != nil && *r.TransactionalIDPattern != "" {
		var err error
		if pattern, err = regexp.Compile("^(?:" + *r.TransactionalIDPattern + ")$"); err != nil {
			resp.ErrorCode = codeInvalidRegularExpression
			return resp
		}
	}
	now := c.nowMS()
	include := func(t *transaction) bool {
		m := &t.current
		switch {
		case t.hidden(),
			len(r.ProducerIDFilters) > 0 && !slices.Contains(r.ProducerIDFilters, m.producerID),
			len(r.StateFilters) > 0 && !wanted[m.state],
			r.Version >= 1 && r.DurationFilterMillis >= 0 && now-m.startMS <= r.DurationFilterMillis:
			return false
		}
		return true
	}
	if resp.TransactionStates, resp.ErrorCode = c.list(include); pattern != nil {
		// Not under the mutex, which the committer takes too.
		resp.TransactionStates = slices.DeleteFunc(resp.TransactionStates, func(s listed) bool {
			return !pattern.MatchString(s.TransactionalID)
		})
	}
	slices.SortFunc(resp.TransactionStates, func(a, b listed) int { return strings.Compare(a.TransactionalID, b.TransactionalID) })
	return resp
}

type listed = kmsg.ListTransactionsResponseTransactionState

func (c *Coordinator) list(include func(*transaction) bool) (found []listed, code int16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, codeCoordinatorNotAvailable
	}
	for _, t := range c.transactions {
		if include(t) {
			m := &t.current
			found = append(found, listed{TransactionalID: t.id, ProducerID: m.producerID, TransactionState: m.state.String()})
		}
	}
	return found, codeNone
}
