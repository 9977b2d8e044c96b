package session_test

import (
	"errors"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
)

// transacted is a transacted session with a consumer of q.
type transacted struct {
	t        *testing.T
	c        *session.Connection
	s        *session.Session
	consumer *session.Consumer
	to       *sink
}

func transact(t *testing.T, c *session.Connection) *transacted {
	t.Helper()
	s, err := c.OpenSession(session.AckTransacted)
	if err != nil {
		t.Fatal(err)
	}
	x := &transacted{t: t, c: c, s: s}
	x.consumer, x.to = consume(t, s, fromQ, 0)
	return x
}

func (x *transacted) send(name string, value string) {
	x.t.Helper()
	d, err := x.c.Resolve(ctx, name, destination.KindQueue)
	if err != nil {
		x.t.Fatal(err)
	}
	var b record.Builder
	b.Append(time.Now().UnixMilli(), nil, []byte(value), nil)
	if err := x.s.Send(d.Partitions[0], b.Batch()); err != nil {
		x.t.Fatal(err)
	}
}

// receive takes n messages, and has the transaction acknowledge them.
func (x *transacted) receive(n int) (values string) {
	x.t.Helper()
	x.consumer.Credit(n)
	for _, d := range x.to.take(n) {
		values += d.value
		done(x.t, func(w waiter) error {
			return x.consumer.Settle([]queue.Span{d.span}, queue.Outcome{Kind: queue.Acknowledge}, w)
		})
	}
	return values
}

// left is what anybody else can take of a destination.
func (x *transacted) left(name string, n int) string {
	x.t.Helper()
	other := openSession(x.t, x.c)
	defer other.Close()
	_, to := consume(x.t, other, session.Spec{Destination: name, DestinationKind: destination.KindQueue}, 100)
	if n == 0 {
		to.nothing()
		return ""
	}
	return to.values(n)
}

// §6.2.7: what a transacted session sends and receives is done by its commit,
// all of it, and not before.
func TestCommit(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	x := transact(t, c)
	put(t, c, "q", destination.KindQueue, "a", "b", "c")
	if got := x.receive(2); got != "ab" {
		t.Fatal(got)
	}
	x.send("p", "1")
	x.send("r", "2")
	x.send("p", "3")
	if got := x.left("p", 0); got != "" {
		t.Errorf("before the commit: %s", got)
	}
	done(t, func(w waiter) error { return x.s.Commit(w) })
	done(t, func(w waiter) error { return x.s.Commit(w) }) // of nothing
	if got := x.left("p", 2) + x.left("r", 1) + x.left("q", 1); got != "11 31 21 c1 " {
		t.Errorf("after it: %s", got)
	}
}

// §6.2.7: a rollback destroys what was sent, and recovers what was received;
// closing the session is one (§6.2.15).
func TestRollback(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	x := transact(t, c)
	put(t, c, "q", destination.KindQueue, "a", "b")
	x.receive(2)
	x.send("p", "1")
	done(t, func(w waiter) error { return x.s.Rollback(w) })
	if got := x.left("p", 0); got != "" {
		t.Errorf("sent all the same: %s", got)
	}
	if got := x.receive(2); got != "ab" {
		t.Errorf("again: %s", got)
	}
	x.send("p", "2")
	x.s.Close()
	if got := x.left("q", 2); got != "a3 b3 " {
		t.Errorf("after the session: %s", got)
	}
	if err := x.s.Commit(make(waiter, 1)); !errors.Is(err, session.ErrClosed) {
		t.Errorf("commit of a closed session: %v", err)
	}
}

// A commit that cannot be done is a rollback, and says so.
func TestRolledBack(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{})
	x := transact(t, c)
	put(t, c, "q", destination.KindQueue, "a", "b")
	x.receive(1)
	x.send("p", "1")
	// An operator has the queue begin anew: nothing is held any more.
	d, err := b.Destination(ctx, "q", 0)
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.Queue(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	done(t, func(w waiter) error { return v.Seek(queue.Start{Kind: queue.StartBeginning}, w) })
	w := make(waiter, 1)
	if err := x.s.Commit(w); err != nil {
		t.Fatal(err)
	}
	var stale *destination.StaleTokenError
	if err := <-w; !errors.Is(err, session.ErrRolledBack) || !errors.As(err, &stale) {
		t.Errorf("commit: %v", err)
	}
	if got := x.left("p", 0) + x.left("q", 2); got != "a1 b1 " {
		t.Errorf("after it: %s", got)
	}
}

// A consumer that is closed within a transaction has its part in the commit.
func TestCommitAfterConsumerClosed(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	x := transact(t, c)
	put(t, c, "q", destination.KindQueue, "a")
	x.receive(1)
	x.consumer.Close()
	done(t, func(w waiter) error { return x.s.Commit(w) })
	if !x.consumer.Ended() {
		t.Error("the consumer is still there")
	}
	if got := x.left("q", 0); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestTransactionLimits(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{})
	x := transact(t, c)
	d, err := c.Resolve(ctx, "p", destination.KindQueue)
	if err != nil {
		t.Fatal(err)
	}
	var batch record.Builder
	batch.Append(1, nil, make([]byte, 1_000_000), nil)
	n := 0
	for err == nil {
		err = x.s.Send(d.Partitions[0], batch.Batch())
		n++
	}
	if !errors.Is(err, session.ErrTooLarge) || n > b.MaxUnitBytes()/1_000_000+1 {
		t.Errorf("%d sends of 1 MB: %v", n, err)
	}
	done(t, func(w waiter) error { return x.s.Commit(w) }) // what it had
	if got := d.Partitions[0].End(); got != int64(n-1) {
		t.Errorf("%d messages, want %d", got, n-1)
	}
	plain := openSession(t, c)
	if err := plain.Send(d.Partitions[0], batch.Batch()); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("of a session that is not transacted: %v", err)
	}
	if err := plain.Commit(make(waiter, 1)); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("of a session that is not transacted: %v", err)
	}
}
