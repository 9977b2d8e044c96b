package http

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
)

// leases are the takes of which something is still held. A lease keeps the connection that
// has taken; when its time is over the connection is closed, and what is left goes back.
type leases struct {
	nonce [8]byte // so that receipts of another start are nobody's

	mu      sync.Mutex // guards what follows
	most    int
	closed  bool
	numbers map[uint64]*lease
	byConn  map[*session.Connection]*lease
}

type lease struct {
	number     uint64
	connection *session.Connection
	consumer   *session.Consumer
	spans      map[int]queue.Span // that are held, by their places in the take
	timer      *time.Timer
}

func (l *leases) init(most int) {
	_, _ = rand.Read(l.nonce[:]) // it does not fail
	l.most, l.numbers, l.byConn = most, map[uint64]*lease{}, map[*session.Connection]*lease{}
}

// add begins a lease of what was taken, and gives it receipts: session.ErrBusy.
func (l *leases) add(c *session.Connection, k *session.Consumer, got []taken, d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return session.ErrShuttingDown
	case len(l.numbers) >= l.most:
		return fmt.Errorf("%w: %d takes hold messages", session.ErrBusy, l.most)
	}
	held := &lease{number: c.Number(), connection: c, consumer: k, spans: map[int]queue.Span{}}
	for i := range got {
		held.spans[i] = got[i].span
		got[i].Receipt = receiptOf(l.nonce, held.number, i)
	}
	held.timer = time.AfterFunc(d, func() { l.release(c) })
	l.numbers[held.number], l.byConn[c] = held, held
	return nil
}

// holds reports whether a connection is kept by a lease.
func (l *leases) holds(c *session.Connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byConn[c] != nil
}

// release ends a connection's lease, if it has one: what is held goes back, counted.
func (l *leases) release(c *session.Connection) {
	l.mu.Lock()
	held := l.byConn[c]
	if held != nil {
		l.forget(held)
	}
	l.mu.Unlock()
	if held != nil {
		_ = c.Close(context.Background()) // nothing of it can fail
	}
}

// forget ends a lease. The lock is held.
func (l *leases) forget(held *lease) {
	held.timer.Stop()
	delete(l.numbers, held.number)
	delete(l.byConn, held.connection)
}

// settle settles a message by its receipt; w is told once that is on disk:
// session.ErrNotFound for one that is nobody's, or no longer held.
func (l *leases) settle(receipt, principal string, o queue.Outcome, w commitlog.Waiter) error {
	unknown := fmt.Errorf("receipt %.60q: %w: it was settled, or its lease is over", receipt, session.ErrNotFound)
	raw, err := base64.RawURLEncoding.DecodeString(receipt)
	if err != nil {
		return unknown
	}
	text, ours := strings.CutPrefix(string(raw), string(l.nonce[:]))
	var number uint64
	var i int
	if n, err := fmt.Sscanf(text, "%d.%d", &number, &i); !ours || err != nil || n != 2 {
		return unknown
	}
	l.mu.Lock()
	held := l.numbers[number]
	if held == nil || held.connection.Principal() != principal {
		l.mu.Unlock()
		return unknown
	}
	span, there := held.spans[i]
	delete(held.spans, i)
	last := len(held.spans) == 0
	if last {
		l.forget(held)
	}
	l.mu.Unlock()
	if !there {
		return unknown
	}
	err = held.consumer.Settle([]queue.Span{span}, o, w)
	if last {
		_ = held.connection.Close(context.Background()) // nothing of it can fail
	}
	return err
}

// close ends all.
func (l *leases) close() {
	l.mu.Lock()
	l.closed = true
	all := make([]*lease, 0, len(l.numbers))
	for _, held := range l.numbers {
		all = append(all, held)
	}
	l.mu.Unlock()
	for _, held := range all {
		l.release(held.connection)
	}
}
