package session_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/topic"
)

// guarded is a broker that refuses some operations, and remembers all.
type guarded struct {
	*broker.Broker
	unit int // if not 0, its MaxUnitBytes

	mu     sync.Mutex
	refuse map[session.Operation]bool
	asked  []string
}

func (g *guarded) Authorize(who session.Principal, op session.Operation, resource string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, fmt.Sprintf("%s %d %s", who.Name, op, resource))
	if g.refuse[op] {
		return fmt.Errorf("%w: by the test", session.ErrUnauthorized)
	}
	return nil
}

func (g *guarded) MaxUnitBytes() int {
	if g.unit != 0 {
		return g.unit
	}
	return g.Broker.MaxUnitBytes()
}

func create(t *testing.T, b *broker.Broker, name string, kind destination.Kind, settings map[string]string) {
	t.Helper()
	if _, err := b.CreateDestination(ctx, name, kind, settings); err != nil {
		t.Fatal(err)
	}
}

// Every operation is asked for by the connection's principal, and what is
// refused is not done.
func TestAuthorize(t *testing.T) {
	b := open(t)
	create(t, b, "q", destination.KindQueue, nil)
	create(t, b, "news", destination.KindTopic, nil)
	subscription := session.Spec{Destination: "news", Subscription: topic.Shared, Name: "s"}
	for _, test := range []struct {
		op   session.Operation
		on   string
		call func(c *session.Connection, s *session.Session) error
	}{
		{session.OperationConnect, "shop", func(c *session.Connection, _ *session.Session) error { return c.SetClientID("shop") }},
		{session.OperationDescribe, "none", func(c *session.Connection, _ *session.Session) error {
			_, err := c.Resolve(ctx, "none", 0) // that it is not there is not for everybody to know
			return err
		}},
		{session.OperationCreate, "new", func(c *session.Connection, _ *session.Session) error {
			_, err := c.Resolve(ctx, "new", destination.KindQueue)
			return err
		}},
		{session.OperationCreate, "", func(c *session.Connection, _ *session.Session) error {
			_, err := c.CreateTemporary(ctx, destination.KindQueue)
			return err
		}},
		{session.OperationBrowse, "q", func(c *session.Connection, _ *session.Session) error {
			_, _, err := c.Browse(ctx, "q", "", nil, 1, nil)
			return err
		}},
		{session.OperationSubscribe, "s", func(c *session.Connection, _ *session.Session) error { return c.Unsubscribe(ctx, "s", true) }},
		{session.OperationConsume, "q", func(_ *session.Connection, s *session.Session) error {
			_, err := s.Consume(ctx, session.Spec{Destination: "q"}, &sink{})
			return err
		}},
		{session.OperationConsume, "news", func(_ *session.Connection, s *session.Session) error {
			_, err := s.Consume(ctx, subscription, &sink{})
			return err
		}},
		{session.OperationSubscribe, "s", func(_ *session.Connection, s *session.Session) error {
			_, err := s.Consume(ctx, subscription, &sink{})
			return err
		}},
	} {
		g := &guarded{Broker: b}
		c := connect(t, g, session.Options{Principal: session.Principal{Name: "ann"}, MaxConsumers: 1})
		if c.Principal() != "ann" {
			t.Errorf("principal %s", c.Principal())
		}
		g.refuse = map[session.Operation]bool{test.op: true}
		var s *session.Session
		if test.op != session.OperationConnect {
			s = openSession(t, c)
		}
		is(t, test.call(c, s), session.ErrUnauthorized)
		if want := fmt.Sprintf("ann %d %s", test.op, test.on); !slices.Contains(g.asked, want) {
			t.Errorf("asked %q, want %q", g.asked, want)
		}
		if test.on == "new" {
			_, err := g.DescribeDestination(ctx, "new")
			is(t, err, session.ErrNotFound)
		}
		if s != nil { // the consumer that was not opened has no place
			g.refuse = nil
			consume(t, s, session.Spec{Destination: "q"}, 0)
		}
	}
}

func TestNumbersDiffer(t *testing.T) {
	b := open(t)
	if one, two := connect(t, b, session.Options{}), connect(t, b, session.Options{}); one.Number() == two.Number() || one.Number() == 0 {
		t.Errorf("%d and %d", one.Number(), two.Number())
	}
}

// The bounds of a connection are what they say, and what is closed has its
// place free.
func TestBounds(t *testing.T) {
	c := connect(t, open(t), session.Options{MaxSessions: 2, MaxConsumers: 2, MaxTemporary: 2})
	_, err := c.OpenSession(session.AckTransacted + 1)
	is(t, err, session.ErrInvalid)
	one, two := openSession(t, c), openSession(t, c)
	if one.Mode() != session.AckClient {
		t.Errorf("mode %d", one.Mode())
	}
	_, err = c.OpenSession(session.AckAuto)
	is(t, err, session.ErrBusy)
	two.Close()
	two = openSession(t, c)

	put(t, c, "q", destination.KindQueue, "a")
	k, to := consume(t, one, fromQ, 1)
	holds := to.take(1)[0].span
	consume(t, two, fromQ, 0)
	_, err = two.Consume(ctx, fromQ, to)
	is(t, err, session.ErrBusy)
	k.Close()
	_, err = two.Consume(ctx, fromQ, to) // it holds a
	is(t, err, session.ErrBusy)
	if k.Ended() || k.Prune() {
		t.Error("a consumer that holds a message has ended")
	}
	done(t, func(w waiter) error {
		return k.Settle([]queue.Span{holds}, queue.Outcome{Kind: queue.Acknowledge}, w)
	})
	if !k.Prune() || !k.Ended() || k.Prune() {
		t.Error("a closed consumer that holds nothing any more has not ended once")
	}
	k, _ = consume(t, two, fromQ, 0)
	_, err = two.Consume(ctx, fromQ, to)
	is(t, err, session.ErrBusy)
	if k.Prune() {
		t.Error("an open consumer was forgotten")
	}
	if k.Close(); !k.Ended() {
		t.Error("a closed consumer that holds nothing has not ended")
	}
	consume(t, two, fromQ, 0)
	two.Close()
	consume(t, one, fromQ, 0)
	consume(t, one, fromQ, 0)

	first, err := c.CreateTemporary(ctx, destination.KindQueue)
	is(t, err, nil)
	second, err := c.CreateTemporary(ctx, destination.KindTopic)
	is(t, err, nil)
	_, err = c.CreateTemporary(ctx, destination.KindQueue)
	is(t, err, session.ErrBusy)
	if !c.Temporary(first.Name) || c.Temporary("q") {
		t.Error("what is temporary is not known")
	}
	is(t, c.DeleteTemporary(ctx, first.Name), nil)
	is(t, c.DeleteTemporary(ctx, first.Name), session.ErrNotFound)
	if c.Temporary(first.Name) || !c.Temporary(second.Name) {
		t.Error("what is temporary is not known")
	}
	_, err = c.CreateTemporary(ctx, destination.KindQueue)
	is(t, err, nil)
}

// The defaults are bounds too.
func TestDefaultBounds(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	for range 1024 {
		openSession(t, c)
	}
	_, err := c.OpenSession(session.AckAuto)
	is(t, err, session.ErrBusy)
}

// A temporary destination is deleted when its last consumer has closed, even if
// that holds a message of it still; what its creator may not make is refused.
func TestTemporaryAndItsConsumers(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	_, err := c.CreateTemporary(ctx, destination.KindLog)
	is(t, err, session.ErrInvalid)
	d, err := c.CreateTemporary(ctx, destination.KindQueue)
	is(t, err, nil)
	s := openSession(t, c)
	spec := session.Spec{Destination: d.Name}
	one, to := consume(t, s, spec, 1)
	if one.Destination() != d {
		t.Errorf("it consumes from %v", one.Destination())
	}
	consume(t, s, spec, 0)
	put(t, c, d.Name, 0, "a")
	to.take(1)
	one.Close()
	is(t, c.DeleteTemporary(ctx, d.Name), session.ErrConflict)
	also := openSession(t, c)
	last, _ := consume(t, also, spec, 0)
	also.Close()
	last.Close() // it is closed: there is still the second one
	is(t, c.DeleteTemporary(ctx, d.Name), session.ErrConflict)
	s.Close()
	is(t, c.DeleteTemporary(ctx, d.Name), nil)
	c.Close(ctx)
	_, err = c.CreateTemporary(ctx, destination.KindQueue)
	is(t, err, session.ErrClosed)
}

// What fails to open leaves nothing behind.
func TestConsumerThatDoesNotOpen(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{MaxConsumers: 1})
	create(t, b, "news", destination.KindTopic, nil)
	s := openSession(t, c)
	bad := session.Spec{Destination: "news", Subscription: topic.Shared, Name: "s", Selector: "a ="}
	for range 2 {
		_, err := s.Consume(ctx, bad, &sink{t: t})
		is(t, err, session.ErrUnsupported)
		_, err = s.Consume(ctx, session.Spec{Destination: "nowhere"}, &sink{t: t})
		is(t, err, session.ErrNotFound)
		_, err = s.Consume(ctx, session.Spec{Destination: "news", Subscription: topic.ShareGroup + 1, Name: "s"}, &sink{t: t})
		is(t, err, session.ErrInvalid)
	}
	consume(t, s, session.Spec{Destination: "news", Subscription: topic.Shared, Name: "s"}, 0)
}

func TestClientIDComesFirst(t *testing.T) {
	b := open(t)
	for name, before := range map[string]func(c *session.Connection){
		"resolve": func(c *session.Connection) { _, _ = c.Resolve(ctx, "q", destination.KindQueue) },
		"temporary": func(c *session.Connection) {
			_, err := c.CreateTemporary(ctx, destination.KindQueue)
			is(t, err, nil)
		},
		"session": func(c *session.Connection) { openSession(t, c) },
	} {
		c := connect(t, b, session.Options{})
		before(c)
		if err := c.SetClientID("late"); err == nil || c.ClientID() != "" {
			t.Errorf("after %s: %v", name, err)
		}
	}
	c := connect(t, b, session.Options{})
	is(t, c.SetClientID(""), session.ErrInvalid)
	is(t, c.SetClientID("shop"), nil)
	is(t, c.SetClientID("other"), session.ErrInvalid)
	if c.ClientID() != "shop" {
		t.Errorf("client id %s", c.ClientID())
	}
	closed := connect(t, b, session.Options{})
	closed.Close(ctx)
	is(t, closed.SetClientID("desk"), session.ErrClosed)
}

func TestUnsubscribe(t *testing.T) {
	b := open(t)
	create(t, b, "news", destination.KindTopic, nil)
	c := connect(t, b, session.Options{})
	is(t, c.Unsubscribe(ctx, "s", false), session.ErrInvalid) // it has no client id
	is(t, c.Unsubscribe(ctx, "s", true), session.ErrNotFound)
	k, _ := consume(t, openSession(t, c), session.Spec{Destination: "news", Subscription: topic.SharedDurable, Name: "s"}, 0)
	is(t, c.Unsubscribe(ctx, "s", true), session.ErrConflict)
	k.Close()
	is(t, c.Unsubscribe(ctx, "s", true), nil)
	is(t, c.Unsubscribe(ctx, "s", true), session.ErrNotFound)
}

// browse is what a browse of name shows.
func browse(c *session.Connection, name, selector string) (values string, err error) {
	_, _, err = c.Browse(ctx, name, selector, nil, 100, func(_ int32, b record.Batch, _ []queue.State) error {
		var r record.Reader
		if err := r.Reset(b, 1<<20); err != nil {
			return err
		}
		for r.Next() {
			values += string(r.Record().Value)
		}
		return nil
	})
	return values, err
}

func TestBrowse(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{CompileSelector: func(text string) (queue.Selector, error) {
		if text == "bad" {
			return nil, session.ErrBadSelector
		}
		return even{}, nil
	}})
	create(t, b, "news", destination.KindTopic, nil)
	put(t, c, "q", destination.KindQueue, "0", "1", "2")
	for _, test := range []struct {
		of       *session.Connection
		name     string
		selector string
		want     string
		err      error
	}{
		{c, "q", "", "012", nil},
		{c, "q", "even", "02", nil},
		{c, "q", "bad", "", session.ErrBadSelector},
		{c, "q", strings.Repeat("x", topic.MaxSelectorBytes), "02", nil},
		{c, "q", strings.Repeat("x", topic.MaxSelectorBytes+1), "", session.ErrTooLarge},
		{c, "nowhere", "", "", session.ErrNotFound},
		{c, "news", "", "", session.ErrWrongKind},
		{connect(t, b, session.Options{}), "q", "even", "", session.ErrUnsupported},
	} {
		got, err := browse(test.of, test.name, test.selector)
		is(t, err, test.err)
		if got != test.want {
			t.Errorf("%s with %.10s: %s, want %s", test.name, test.selector, got, test.want)
		}
	}
}

// A topic is not a queue, and a queue not a topic, unless it says so; what is
// the broker's own is neither.
func TestViews(t *testing.T) {
	g := &guarded{Broker: open(t)}
	any := map[string]string{"views": destination.ViewsAny}
	create(t, g.Broker, "q", destination.KindQueue, nil)
	create(t, g.Broker, "news", destination.KindTopic, nil)
	create(t, g.Broker, "any q", destination.KindQueue, any)
	create(t, g.Broker, "any news", destination.KindTopic, any)
	s := openSession(t, connect(t, g, session.Options{}))
	for _, test := range []struct {
		name         string
		queue, topic error
	}{
		{"q", nil, session.ErrWrongKind},
		{"news", session.ErrWrongKind, nil},
		{"any q", nil, nil},
		{"any news", nil, nil},
		{"__delivery_state", session.ErrUnauthorized, session.ErrUnauthorized},
	} {
		if _, err := s.Consume(ctx, session.Spec{Destination: test.name}, &sink{t: t}); test.queue != nil || err != nil {
			is(t, err, test.queue)
		}
		spec := session.Spec{Destination: test.name, Subscription: topic.Temporary}
		if _, err := s.Consume(ctx, spec, &sink{t: t}); test.topic != nil || err != nil {
			is(t, err, test.topic)
		}
	}
}

// Of exclusive consumers one at a time is served: those that ask for it, those of
// a queue that wants it, and those of an exclusive subscription.
func TestExclusive(t *testing.T) {
	b := open(t)
	create(t, b, "one", destination.KindQueue, map[string]string{"exclusive": "true"})
	create(t, b, "news", destination.KindTopic, nil)
	c := connect(t, b, session.Options{})
	s := openSession(t, c)
	for _, test := range []struct {
		spec  session.Spec
		kind  destination.Kind
		alone bool
	}{
		{fromQ, destination.KindQueue, false},
		{session.Spec{Destination: "p", DestinationKind: destination.KindQueue, Exclusive: true}, destination.KindQueue, true},
		{session.Spec{Destination: "one"}, destination.KindQueue, true},
		{session.Spec{Destination: "news", Subscription: topic.Shared, Name: "s"}, destination.KindTopic, false},
		{session.Spec{Destination: "news", Subscription: topic.Exclusive, Name: "e"}, destination.KindTopic, true},
	} {
		k, first := consume(t, s, test.spec, 1)
		_, second := consume(t, s, test.spec, 1)
		put(t, c, test.spec.Destination, test.kind, "a", "b")
		first.take(1)
		if test.alone {
			second.nothing()
			k.Close()
		}
		second.take(1)
	}
}

// A consumer that opens while deliveries are stopped does not begin before they
// are started.
func TestConsumerOpensStopped(t *testing.T) {
	c := connect(t, open(t), session.Options{})
	s := openSession(t, c)
	put(t, c, "q", destination.KindQueue, "a", "b", "c")
	s.Stop()
	_, to := consume(t, s, fromQ, 1)
	to.nothing()
	s.Start()
	to.take(1)
	c.Hold(true)
	_, to = consume(t, s, fromQ, 1)
	to.nothing()
	s.Start() // its connection is held all the same
	to.nothing()
	c.Hold(false)
	to.take(1)
	c.Stop()
	_, to = consume(t, s, fromQ, 1)
	to.nothing()
	c.Start()
	to.take(1)
}

// noLocal keeps from a subscription what was sent under its own client id.
func TestNoLocal(t *testing.T) {
	b := open(t)
	create(t, b, "news", destination.KindTopic, nil)
	c := connect(t, b, session.Options{})
	is(t, c.SetClientID("shop"), nil)
	s := openSession(t, c)
	_, to := consume(t, s, session.Spec{Destination: "news", Subscription: topic.Durable, Name: "others", NoLocal: true}, 10)
	_, all := consume(t, s, session.Spec{Destination: "news", Subscription: topic.Durable, Name: "all"}, 10)
	d, err := c.Resolve(ctx, "news", 0)
	is(t, err, nil)
	for _, from := range []string{"shop", "desk"} {
		m := record.Message{Meta: record.Meta{ClientID: from, Kind: record.BodyText}, Timestamp: time.Now().UnixMilli(), Body: []byte(from)}
		var r record.Builder
		is(t, m.AppendTo(&r), nil)
		done(t, func(w waiter) error {
			_, err := d.Partitions[0].Append(r.Batch(), w)
			return err
		})
	}
	if got := all.values(2) + to.values(1); got != "shop1 desk1 desk1 " {
		t.Errorf("%s", got)
	}
	to.nothing()
}

// What a rolled back transaction has received comes again when the destination
// says, not at once.
func TestRollbackWaits(t *testing.T) {
	b := open(t)
	create(t, b, "q", destination.KindQueue, map[string]string{"redelivery.delay": "1h", "redelivery.max.delay": "2h"})
	c := connect(t, b, session.Options{})
	x := transact(t, c)
	put(t, c, "q", destination.KindQueue, "a", "b")
	x.receive(1)
	done(t, func(w waiter) error { return x.s.Rollback(w) })
	if got := x.left("q", 1); got != "b1 " {
		t.Errorf("%s", got)
	}
}

// A transaction may send exactly what the journal takes at once.
func TestSendLimit(t *testing.T) {
	var r record.Builder
	r.Append(1, nil, []byte("value"), nil)
	batch := r.Batch()
	g := &guarded{Broker: open(t), unit: 2 * len(batch)}
	x := transact(t, connect(t, g, session.Options{}))
	d, err := x.c.Resolve(ctx, "p", destination.KindQueue)
	is(t, err, nil)
	for range 2 { // a commit makes room
		is(t, x.s.Send(d.Partitions[0], batch), nil)
		is(t, x.s.Send(d.Partitions[0], batch), nil)
		is(t, x.s.Send(d.Partitions[0], batch), session.ErrTooLarge)
		done(t, func(w waiter) error { return x.s.Commit(w) })
	}
	if got := d.Partitions[0].End(); got != 4 {
		t.Errorf("%d messages", got)
	}
}

// An acknowledgement of what is not held any more tells its waiter so.
func TestAcknowledgeOfWhatIsGone(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{Track: true})
	s := openSession(t, c)
	put(t, c, "q", destination.KindQueue, "a")
	put(t, c, "p", destination.KindQueue, "x")
	_, to := consume(t, s, fromQ, 1)
	_, also := consume(t, s, session.Spec{Destination: "p", DestinationKind: destination.KindQueue}, 1)
	to.take(1)
	also.take(1)
	d, err := b.Destination(ctx, "q", 0)
	is(t, err, nil)
	v, err := b.Queue(ctx, d)
	is(t, err, nil)
	done(t, func(w waiter) error { return v.Seek(queue.Start{Kind: queue.StartBeginning}, w) })
	w := make(waiter, 2)
	is(t, s.Acknowledge(w), nil)
	is(t, <-w, destination.ErrStaleToken)
	s.Close()
	is(t, s.Acknowledge(w), session.ErrClosed)
	is(t, s.Recover(w), session.ErrClosed)
	if len(w) > 0 {
		t.Error("the waiter was told again")
	}
	s = openSession(t, c)
	_, also = consume(t, s, session.Spec{Destination: "p"}, 1)
	also.nothing() // x was acknowledged all the same
	is(t, s.Acknowledge(nil), nil)
}

// noted is a sink that says when it was drained or closed.
type noted struct {
	sink
	drained, closed chan struct{}
}

func (*noted) Flush()                                 {}
func (*noted) Joined(int32, *destination.Destination) {}
func (n *noted) Drained(*queue.Consumer)              { close(n.drained) }
func (n *noted) Closed(*queue.Consumer, error)        { close(n.closed) }

// What is tracked passes on all that the view says.
func TestTrackedSinkIsTold(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{Track: true})
	d, err := c.CreateTemporary(ctx, destination.KindQueue)
	is(t, err, nil)
	put(t, c, d.Name, 0, "a")
	to := &noted{sink: sink{t: t}, drained: make(chan struct{}), closed: make(chan struct{})}
	k, err := openSession(t, c).Consume(ctx, session.Spec{Destination: d.Name}, to)
	is(t, err, nil)
	k.Credit(5)
	to.take(1)
	k.Drain()
	wait(t, to.drained)
	put(t, c, d.Name, 0, "b")
	to.nothing() // the rest of the credit is taken back
	is(t, b.DeleteTemporary(ctx, d), nil)
	wait(t, to.closed)
}

func wait(t *testing.T, c chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
	}
}

// A right that is taken away ends the consumers that have it, and no others.
func TestRulesChange(t *testing.T) {
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Authorization: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	create(t, b, "q", destination.KindQueue, nil)
	create(t, b, "r", destination.KindQueue, nil)
	rule := session.ACL{
		Resource: destination.ResourceTopic, Name: "q", Pattern: destination.PatternLiteral, Principal: "User:ann", Host: "*",
		Operation: destination.AccessRead, Effect: destination.EffectAllow,
	}
	other := rule
	other.Name = "r"
	if err := b.CreateACLs(ctx, rule, other); err != nil {
		t.Fatal(err)
	}
	s := openSession(t, connect(t, b, session.Options{Principal: session.Principal{Name: "ann"}}))
	gone, stays := &sink{}, &sink{}
	for name, k := range map[string]*sink{"q": gone, "r": stays} {
		if _, err := s.Consume(ctx, session.Spec{Destination: name}, k); err != nil {
			t.Fatal(err)
		}
	}
	name := "q"
	if _, err := b.DeleteACLs(ctx, session.ACLFilter{Name: &name}); err != nil {
		t.Fatal(err)
	}
	ended := func(k *sink) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.ended
	}
	is(t, ended(gone), session.ErrUnauthorized)
	if err := ended(stays); err != nil {
		t.Errorf("closed as well: %v", err)
	}
}
