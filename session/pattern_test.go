package session_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/topic"
)

// joining is a sink that remembers who joined, and when it was drained.
type joining struct {
	sink
	joined  map[int32]string
	drained int
	at      []string // where each delivery was from
}

func newJoining(t *testing.T) *joining { return &joining{sink: sink{t: t}, joined: map[int32]string{}} }

func (j *joining) Joined(member int32, d *destination.Destination) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.joined[member] = d.Name
}

func (j *joining) Drained(*queue.Consumer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drained++
}

func (j *joining) Deliver(d queue.Delivery) {
	j.mu.Lock()
	j.at = append(j.at, j.joined[d.Partition>>session.MemberShift])
	j.mu.Unlock()
	j.sink.Deliver(d)
}

// sorted waits for n deliveries and returns what they were, in order of their values.
func (j *joining) sorted(n int) string {
	j.t.Helper()
	values := strings.Fields(j.values(n))
	slices.Sort(values)
	return strings.Join(values, " ")
}

// until waits for what other goroutines do.
func until(t *testing.T, mu *sync.Mutex, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		mu.Lock()
		done := ok()
		mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func spans(all []delivery) (spans []queue.Span) {
	for _, d := range all {
		spans = append(spans, d.span)
	}
	return spans
}

// A consumer of a pattern has what is there, and what is made later; one credit is
// for all of it.
func TestPatternOfQueues(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{})
	put(t, c, "orders.a", destination.KindQueue, "1", "2")
	put(t, c, "orders.b", destination.KindQueue, "3", "4")
	put(t, c, "others", destination.KindQueue, "x")
	create(t, b, "orders.news", destination.KindTopic, nil)
	to := newJoining(t)
	k, err := openSession(t, c).Consume(ctx, session.Spec{Destination: "orders.*", DestinationKind: destination.KindQueue}, to)
	if err != nil {
		t.Fatal(err)
	}
	if k.Destination() != nil {
		t.Error("it has one destination")
	}
	k.Credit(3)
	first := to.take(3)
	to.nothing() // beyond its credit
	k.Credit(2)
	first = append(first, to.take(1)...)
	put(t, c, "orders.c", destination.KindQueue, "5", "6")
	last := to.take(1)
	to.nothing()
	to.mu.Lock()
	slices.Sort(to.at)
	if at := strings.Join(to.at, " "); at != "orders.a orders.a orders.b orders.b orders.c" || len(to.joined) != 3 {
		t.Errorf("from %s; joined %v", at, to.joined)
	}
	to.mu.Unlock()

	// Each goes back, or is done with, where it is from.
	done(t, func(w waiter) error { return k.Settle(spans(first), queue.Outcome{Kind: queue.Acknowledge}, w) })
	done(t, func(w waiter) error { return k.Settle(spans(last), queue.Outcome{Kind: queue.Release}, w) })
	if err := k.Settle(spans(last), queue.Outcome{}, nil); err == nil {
		t.Error("settled twice")
	}
	is(t, k.Settle([]queue.Span{{Partition: 7 << session.MemberShift, Count: 1}}, queue.Outcome{}, nil), session.ErrInvalid)
	is(t, k.Settle([]queue.Span{{Partition: 1<<31 - 1, Count: 1}}, queue.Outcome{}, nil), session.ErrInvalid)
	k.Credit(10)
	if got := to.sorted(2); got != "52 61" {
		t.Errorf("again: %s", got)
	}

	// It is drained once, whoever is the last.
	to.mu.Lock()
	to.drained = 0
	to.mu.Unlock()
	k.Drain()
	until(t, &to.mu, "draining", func() bool { return to.drained == 1 })
	put(t, c, "orders.a", destination.KindQueue, "7")
	to.nothing()
	if to.drained != 1 {
		t.Errorf("drained %d times", to.drained)
	}
	k.Credit(5)
	if got := to.sorted(1); got != "71" {
		t.Error(got)
	}
	k.Revoke()
	put(t, c, "orders.b", destination.KindQueue, "8")
	to.nothing()

	// What is gone does not hold up the others.
	if err := b.DeleteDestination(ctx, "orders.c"); !errors.Is(err, session.ErrConflict) {
		t.Errorf("a destination that is consumed from: %v", err)
	}
	k.Close()
	k.Close()
	put(t, c, "orders.d", destination.KindQueue, "9")
	to.nothing()
	if to.mu.Lock(); len(to.joined) != 3 {
		t.Errorf("joined a closed consumer: %v", to.joined)
	}
	to.mu.Unlock()
}

// A stopped session is delivered nothing by who joins either.
func TestPatternIsStopped(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	s := openSession(t, c)
	to := newJoining(t)
	k, err := s.Consume(ctx, session.Spec{Destination: "a.>", DestinationKind: destination.KindQueue}, to)
	if err != nil {
		t.Fatal(err)
	}
	k.Credit(10)
	to.mu.Lock()
	drained := to.drained
	to.mu.Unlock()
	k.Drain() // of nobody
	until(t, &to.mu, "draining", func() bool { return to.drained == drained+1 })
	k.Credit(10)
	s.Stop()
	put(t, c, "a.b.c", destination.KindQueue, "1")
	to.nothing()
	s.Start()
	if got := to.sorted(1); got != "11" {
		t.Error(got)
	}
}

// Who may not read a destination, or not subscribe, does not.
func TestPatternIsAuthorized(t *testing.T) {
	b := open(t)
	put(t, connect(t, b, session.Options{}), "p.a", destination.KindQueue, "1")
	create(t, b, "p.t", destination.KindTopic, nil)
	g := &guarded{Broker: b, refuse: map[session.Operation]bool{session.OperationConsume: true}}
	c := connect(t, g, session.Options{})
	to := newJoining(t)
	k, err := openSession(t, c).Consume(ctx, session.Spec{Destination: "p.*", DestinationKind: destination.KindQueue}, to)
	if err != nil {
		t.Fatal(err)
	}
	k.Credit(1)
	to.nothing()
	g.refuse = map[session.Operation]bool{session.OperationSubscribe: true}
	shared := session.Spec{Destination: "p.*", Subscription: topic.Shared, Name: "s"}
	_, err = openSession(t, c).Consume(ctx, shared, newJoining(t))
	is(t, err, session.ErrUnauthorized)
	_, err = openSession(t, c).Consume(ctx, session.Spec{Destination: "p.*.>.x", DestinationKind: destination.KindQueue}, newJoining(t))
	is(t, err, session.ErrInvalid)
}

// A durable subscription to a pattern has, of a topic that is made later, all of it.
func TestPatternOfTopics(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{})
	if err := c.SetClientID("me"); err != nil {
		t.Fatal(err)
	}
	put(t, c, "news.a", destination.KindTopic, "before")
	spec := session.Spec{Destination: "news.*", Subscription: topic.Durable, Name: "d"}
	to := newJoining(t)
	k, err := openSession(t, c).Consume(ctx, spec, to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openSession(t, c).Consume(ctx, spec, newJoining(t))
	is(t, err, session.ErrConflict)
	k.Close()
	put(t, c, "news.a", destination.KindTopic, "1")
	put(t, c, "news.b", destination.KindTopic, "2")
	to = newJoining(t)
	if k, err = openSession(t, c).Consume(ctx, spec, to); err != nil {
		t.Fatal(err)
	}
	k.Credit(10)
	if got := to.sorted(2); got != "11 21" {
		t.Errorf("received %s", got)
	}
}

// A virtual topic's queue is the subscription of its name.
func TestVirtualTopic(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	put(t, c, "VirtualTopic.T", destination.KindTopic)
	spec := session.Spec{Destination: "Consumer.G.VirtualTopic.T", DestinationKind: destination.KindQueue}
	_, to := consume(t, openSession(t, c), spec, 10)
	put(t, c, "VirtualTopic.T", destination.KindTopic, "1")
	if got := to.values(1); got != "11 " {
		t.Error(got)
	}
	if got, err := browse(c, spec.Destination, ""); err != nil || got == "" {
		t.Errorf("browsed %q, %v", got, err)
	}
	_, err := c.Resolve(ctx, spec.Destination, destination.KindQueue)
	is(t, err, session.ErrUnsupported)
	spec.Settings = map[string]string{"no.such": "1"}
	_, err = openSession(t, c).Consume(ctx, spec, &sink{t: t})
	is(t, err, session.ErrInvalid)
	_, err = openSession(t, c).Consume(ctx, session.Spec{Destination: "q", DestinationKind: destination.KindQueue, Settings: map[string]string{"priority": "true"}}, &sink{t: t})
	is(t, err, session.ErrInvalid)
}

func batchOf(values ...string) record.Batch {
	var b record.Builder
	for _, v := range values {
		b.Append(time.Now().UnixMilli(), []byte("key"+v), []byte(v), []record.Header{{Key: "h", Value: []byte(v)}})
	}
	return b.Batch()
}

// What is sent to several destinations is in all of them, once, each by its own
// partitions.
func TestComposite(t *testing.T) {
	b := open(t)
	create(t, b, "wide", destination.KindQueue, map[string]string{"partitions": "3"})
	c := connect(t, b, session.Options{})
	all, err := c.ResolveList(ctx, "wide,b,wide", destination.KindQueue)
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	s := openSession(t, c)
	done(t, func(w waiter) error { return s.SendAll(all, batchOf("1", "2", "3"), w) })
	for _, name := range []string{"wide", "b"} {
		to := newJoining(t)
		k, err := openSession(t, c).Consume(ctx, session.Spec{Destination: name, DestinationKind: destination.KindQueue}, to)
		if err != nil {
			t.Fatal(err)
		}
		k.Credit(10)
		if got := to.sorted(3); got != "11 21 31" {
			t.Errorf("%s has %s", name, got)
		}
		k.Close()
	}
	for _, list := range []string{"a,", "topic://wide,b"} {
		if _, err := c.ResolveList(ctx, list, destination.KindQueue); err == nil {
			t.Errorf("%q is a list", list)
		}
	}
	broken := append(record.Batch(nil), batchOf("1", "2")...)
	if err := s.SendAll(all, broken[:len(broken)-3], make(waiter, 1)); err == nil {
		t.Error("half a batch was sent")
	}
}

// In a transacted session it is of the transaction.
func TestCompositeTransacted(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{})
	all, err := c.ResolveList(ctx, "a,b", destination.KindQueue)
	if err != nil {
		t.Fatal(err)
	}
	x := transact(t, c)
	done(t, func(w waiter) error { return x.s.SendAll(all, batchOf("1"), w) })
	if got := x.left("a", 0); got != "" {
		t.Errorf("before the commit: %s", got)
	}
	done(t, func(w waiter) error { return x.s.Commit(w) })
	if got := x.left("a", 1) + x.left("b", 1); got != "11 11 " {
		t.Errorf("after it: %s", got)
	}
	done(t, func(w waiter) error { return x.s.SendAll(all, batchOf("2"), w) })
	done(t, func(w waiter) error { return x.s.Rollback(w) })
	if got := x.left("b", 1); got != "12 " {
		t.Errorf("rolled back, and sent: %s", got)
	}
	tight := connect(t, &guarded{Broker: b, unit: 100}, session.Options{})
	s, err := tight.OpenSession(session.AckTransacted)
	if err != nil {
		t.Fatal(err)
	}
	is(t, s.SendAll(all, batchOf("2"), make(waiter, 1)), session.ErrTooLarge)
}

// A transaction of its own: several at once, over sessions that are not transacted.
func TestTransactions(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	put(t, c, "q", destination.KindQueue, "a", "b", "c", "d")
	k, to := consume(t, openSession(t, c), fromQ, 4)
	got := to.take(4)
	p, err := c.Resolve(ctx, "p", destination.KindQueue)
	if err != nil {
		t.Fatal(err)
	}
	begin := func() *session.Transaction {
		x, err := c.Begin()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	one, two := begin(), begin()
	for i, x := range []*session.Transaction{one, two} {
		if err := x.Send(p.Partitions[0], batchOf([]string{"1", "2"}[i])); err != nil {
			t.Fatal(err)
		}
		if err := x.Acknowledge(k, spans(got[i:i+1])); err != nil {
			t.Fatal(err)
		}
	}
	done(t, func(w waiter) error { return two.Rollback(w) })
	done(t, func(w waiter) error { return one.Commit(w) })
	for _, x := range []*session.Transaction{one, two} {
		is(t, x.Send(p.Partitions[0], batchOf("3")), session.ErrClosed)
		is(t, x.Acknowledge(k, spans(got[2:3])), session.ErrClosed)
		is(t, x.Commit(make(waiter, 1)), session.ErrClosed)
		is(t, x.Rollback(nil), session.ErrClosed)
	}
	k.Credit(1)
	if got := to.values(1); got != "b2 " {
		t.Errorf("rolled back: %s", got)
	}
	_, sent := consume(t, openSession(t, c), session.Spec{Destination: "p"}, 10)
	if got := sent.values(1); got != "11 " {
		t.Errorf("sent %s", got)
	}

	// What is not held any more cannot be acknowledged: nothing of it is done.
	late := begin()
	if err := late.Acknowledge(k, spans(got[2:3])); err != nil {
		t.Fatal(err)
	}
	if err := late.Send(p.Partitions[0], batchOf("4")); err != nil {
		t.Fatal(err)
	}
	done(t, func(w waiter) error {
		return k.Settle(spans(got[2:3]), queue.Outcome{Kind: queue.Acknowledge}, w)
	})
	w := make(waiter, 1)
	if err := late.Commit(w); err == nil {
		err = <-w
		is(t, err, session.ErrRolledBack)
	} else {
		is(t, err, session.ErrRolledBack)
	}
	sent.nothing()

	var all []*session.Transaction
	for {
		x, err := c.Begin()
		if err != nil {
			is(t, err, session.ErrBusy)
			break
		}
		all = append(all, x)
	}
	if len(all) != 256 {
		t.Errorf("%d at once", len(all))
	}
	done(t, func(w waiter) error { return all[0].Commit(w) })
	if _, err := c.Begin(); err != nil {
		t.Error(err)
	}
	c.Close(ctx)
	if _, err := c.Begin(); !errors.Is(err, session.ErrClosed) {
		t.Error(err)
	}
}

// A subscription that is shared by all has no client id, though its consumer has.
func TestGlobalSubscription(t *testing.T) {
	b := open(t)
	spec := session.Spec{Destination: "news", DestinationKind: destination.KindTopic, Subscription: topic.SharedDurable, Name: "s", Global: true}
	for _, id := range []string{"one", "two"} {
		c := connect(t, b, session.Options{})
		if err := c.SetClientID(id); err != nil {
			t.Fatal(err)
		}
		s := openSession(t, c)
		consume(t, s, spec, 1)
		if id == "two" {
			is(t, c.UnsubscribeGlobal(ctx, "s"), session.ErrConflict)
			is(t, c.Unsubscribe(ctx, "s", true), session.ErrNotFound)
		}
	}
	if all, err := b.ListSubscriptions(ctx, session.SubscriptionQuery{}); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	_, err := openSession(t, connect(t, b, session.Options{})).Consume(ctx, session.Spec{Destination: "news", Global: true}, &sink{})
	is(t, err, session.ErrInvalid)
}
