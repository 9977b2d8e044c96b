package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

func open(t *testing.T) *broker.Broker {
	t.Helper()
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func connect(t *testing.T, b session.Broker, o session.Options) *session.Connection {
	t.Helper()
	c := session.NewConnection(b, o)
	t.Cleanup(func() { c.Close(ctx) })
	return c
}

func openSession(t *testing.T, c *session.Connection) *session.Session {
	t.Helper()
	s, err := c.OpenSession(session.AckClient)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// waiter waits for one settlement or append.
type waiter chan error

func (w waiter) Committed(err error) { w <- err }

func put(t *testing.T, c *session.Connection, name string, kind destination.Kind, values ...string) {
	t.Helper()
	d, err := c.Resolve(ctx, name, kind)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		r := &record.Builder{}
		r.Reset()
		r.Append(time.Now().UnixMilli(), nil, []byte(v), nil)
		w := make(waiter, 1)
		if _, err := d.Partitions[0].Append(r.Batch(), w); err != nil {
			t.Fatal(err)
		}
		if err := <-w; err != nil {
			t.Fatal(err)
		}
	}
}

// sink keeps what is delivered.
type sink struct {
	t *testing.T

	mu    sync.Mutex
	got   []delivery
	ended error
}

type delivery struct {
	value string
	count int
	span  queue.Span
}

func (s *sink) Deliver(d queue.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r record.Reader
	if err := r.Reset(d.Batch, 1<<20); err != nil {
		s.t.Error(err)
	}
	for i := 0; r.Next(); i++ {
		one := delivery{string(r.Record().Value), 1, queue.Span{Partition: d.Partition, Offset: r.Record().Offset, Acquisition: d.FirstAcquisition + uint64(i), Count: 1}}
		if d.Counts != nil {
			one.count = int(d.Counts[i])
		}
		s.got = append(s.got, one)
	}
}

func (*sink) Flush()                                 {}
func (*sink) Joined(int32, *destination.Destination) {}
func (s *sink) Drained(*queue.Consumer)              {}

func (s *sink) Closed(_ *queue.Consumer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
}

// take waits for n deliveries and forgets them.
func (s *sink) take(n int) []delivery {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		got := slices.Clone(s.got)
		if len(got) >= n {
			s.got = nil
			s.mu.Unlock()
			return got
		}
		s.mu.Unlock()
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d deliveries came: %+v", len(got), n, got)
		}
	}
}

func (s *sink) nothing() {
	s.t.Helper()
	time.Sleep(20 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) > 0 {
		s.t.Errorf("delivered: %+v", s.got)
	}
}

func (s *sink) values(n int) string {
	s.t.Helper()
	text := ""
	for _, d := range s.take(n) {
		text += fmt.Sprintf("%s%d ", d.value, d.count)
	}
	return text
}

func consume(t *testing.T, s *session.Session, spec session.Spec, credit int) (*session.Consumer, *sink) {
	t.Helper()
	to := &sink{t: t}
	k, err := s.Consume(ctx, spec, to)
	if err != nil {
		t.Fatal(err)
	}
	k.Credit(credit)
	return k, to
}

var fromQ = session.Spec{Destination: "q", DestinationKind: destination.KindQueue}

func done(t *testing.T, do func(waiter) error) {
	t.Helper()
	w := make(waiter, 1)
	if err := do(w); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-w:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the waiter was not called")
	}
}

// Jakarta Messaging 3.1 §6.2.10: in CLIENT mode one acknowledgement covers all
// that the session has delivered, through every consumer, and nothing else.
func TestAcknowledgeCoversTheSession(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{Track: true})
	s, other := openSession(t, c), openSession(t, c)
	put(t, c, "q", destination.KindQueue, "a", "b", "c", "d", "e")
	put(t, c, "p", destination.KindQueue, "x")
	_, fromOther := consume(t, other, fromQ, 1)
	if got := fromOther.values(1); got != "a1 " {
		t.Fatal(got)
	}
	k, one := consume(t, s, fromQ, 3)
	_, two := consume(t, s, session.Spec{Destination: "p", DestinationKind: destination.KindQueue}, 1)
	delivered := one.take(3)
	two.take(1)
	done(t, func(w waiter) error { // an individual settlement is not undone by what follows
		return k.Settle([]queue.Span{delivered[1].span}, queue.Outcome{Kind: queue.Release}, w)
	})
	done(t, func(w waiter) error { return s.Acknowledge(w) })
	done(t, func(w waiter) error { return s.Acknowledge(w) }) // of nothing
	s.Close()
	other.Close()
	last := openSession(t, c)
	_, rest := consume(t, last, fromQ, 10)
	if got := rest.values(3); got != "a2 c2 e1 " {
		t.Errorf("left in q: %s", got)
	}
	_, rest = consume(t, last, session.Spec{Destination: "p", DestinationKind: destination.KindQueue}, 10)
	rest.nothing()
}

// §6.2.11: Recover starts over with the first that is not acknowledged, in
// order, and counts.
func TestRecover(t *testing.T) {
	c := connect(t, open(t), session.Options{Track: true})
	s := openSession(t, c)
	put(t, c, "q", destination.KindQueue, "a", "b", "c")
	k, to := consume(t, s, fromQ, 3)
	first := to.take(3)
	done(t, func(w waiter) error {
		return k.Settle([]queue.Span{first[0].span}, queue.Outcome{Kind: queue.Acknowledge}, w)
	})
	done(t, func(w waiter) error { return s.Recover(w) })
	k.Credit(5)
	if got := to.values(2); got != "b2 c2 " {
		t.Errorf("%s", got)
	}
}

// A connection stops and starts all sessions, a session itself; both must be
// started for anything to come.
func TestStartAndStop(t *testing.T) {
	c := connect(t, open(t), session.Options{Stopped: true})
	s := openSession(t, c)
	put(t, c, "q", destination.KindQueue, "a")
	_, to := consume(t, s, fromQ, 100)
	to.nothing() // §6.1.4: a connection begins stopped
	s.Stop()
	c.Start()
	to.nothing()
	s.Start()
	to.take(1)
	c.Hold(true)
	put(t, c, "q", destination.KindQueue, "b")
	c.Stop()
	c.Start()
	to.nothing()
	c.Hold(false)
	to.take(1)
}

// §8.8 and §6.2.15: what a closed consumer has delivered stays with its
// session; what a closed session holds goes back.
func TestClose(t *testing.T) {
	b := open(t)
	c, other := connect(t, b, session.Options{}), connect(t, b, session.Options{})
	s := openSession(t, c)
	put(t, c, "q", destination.KindQueue, "a", "b")
	k, to := consume(t, s, fromQ, 2)
	got := to.take(2)
	k.Close()
	k.Close()
	_, elsewhere := consume(t, openSession(t, other), fromQ, 10)
	elsewhere.nothing()
	done(t, func(w waiter) error {
		return k.Settle([]queue.Span{got[0].span}, queue.Outcome{Kind: queue.Acknowledge}, w)
	})
	if k.Prune() || k.Ended() {
		t.Error("a consumer that still holds something was forgotten")
	}
	s.Close()
	s.Close()
	if got := elsewhere.values(1); got != "b2 " {
		t.Errorf("%s", got)
	}
	if _, err := s.Consume(ctx, fromQ, to); !errors.Is(err, session.ErrClosed) {
		t.Errorf("consume on a closed session: %v", err)
	}
	c.Close(ctx)
	if _, err := c.OpenSession(session.AckAuto); !errors.Is(err, session.ErrClosed) {
		t.Errorf("a session on a closed connection: %v", err)
	}
}

// §6.1.2: the client id is set once, first, and nobody else has it.
func TestClientID(t *testing.T) {
	b := open(t)
	c, other := connect(t, b, session.Options{}), connect(t, b, session.Options{})
	if err := c.SetClientID("shop"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetClientID("shop"); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("twice: %v", err)
	}
	if err := other.SetClientID("shop"); !errors.Is(err, session.ErrConflict) {
		t.Errorf("in use: %v", err)
	}
	openSession(t, other)
	if err := other.SetClientID("late"); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("after a session: %v", err)
	}
	c.Close(ctx)
	third := connect(t, b, session.Options{})
	if err := third.SetClientID("shop"); err != nil {
		t.Errorf("given up: %v", err)
	}
}

// §6.2.2: only its connection consumes from a temporary destination; it is not
// deleted under a consumer; it goes with the connection.
func TestTemporary(t *testing.T) {
	b := open(t)
	c, other := connect(t, b, session.Options{MaxTemporary: 1}), connect(t, b, session.Options{})
	d, err := c.CreateTemporary(ctx, destination.KindQueue)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateTemporary(ctx, destination.KindQueue); !errors.Is(err, session.ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	spec := session.Spec{Destination: d.Name}
	if _, err := openSession(t, other).Consume(ctx, spec, &sink{t: t}); !errors.Is(err, session.ErrUnauthorized) {
		t.Errorf("a foreign consumer: %v", err)
	}
	put(t, other, d.Name, 0, "answer")
	k, to := consume(t, openSession(t, c), spec, 1)
	to.take(1)
	if err := c.DeleteTemporary(ctx, d.Name); !errors.Is(err, session.ErrConflict) {
		t.Errorf("under a consumer: %v", err)
	}
	if err := other.DeleteTemporary(ctx, d.Name); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("another's: %v", err)
	}
	k.Close()
	c.Close(ctx)
	if _, err := other.Resolve(ctx, d.Name, 0); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("after the connection: %v", err)
	}
}

// Selectors are refused until there is something that compiles them.
func TestSelectorSeam(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{})
	spec := fromQ
	spec.Selector = "a = 1"
	if _, err := openSession(t, c).Consume(ctx, spec, &sink{t: t}); !errors.Is(err, session.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	c = connect(t, b, session.Options{CompileSelector: func(text string) (queue.Selector, error) {
		if text != "a = 1" {
			return nil, fmt.Errorf("%w: at 0", session.ErrBadSelector)
		}
		return even{}, nil
	}})
	put(t, c, "q", destination.KindQueue, "0", "1", "2")
	_, to := consume(t, openSession(t, c), spec, 10)
	if got := to.values(2); got != "01 21 " {
		t.Errorf("%s", got)
	}
	spec.Selector = "a ="
	if _, err := openSession(t, c).Consume(ctx, spec, &sink{t: t}); !errors.Is(err, session.ErrBadSelector) {
		t.Errorf("%v", err)
	}
}

type even struct{}

func (even) Match(r *record.Record) bool { return (r.Value[0]-'0')%2 == 0 }

// Every kind of subscription opens and delivers what is published after.
func TestSubscriptions(t *testing.T) {
	b := open(t)
	c := connect(t, b, session.Options{})
	if err := c.SetClientID("shop"); err != nil {
		t.Fatal(err)
	}
	put(t, c, "news", destination.KindTopic, "before")
	s := openSession(t, c)
	for kind := topic.Durable; kind <= topic.Temporary; kind++ {
		spec := session.Spec{Destination: "news", DestinationKind: destination.KindTopic, Subscription: kind, Name: "s" + kind.String()}
		if kind == topic.Temporary {
			spec.Name = ""
		}
		k, to := consume(t, s, spec, 10)
		put(t, c, "news", destination.KindTopic, kind.String())
		if got := to.values(1); got != kind.String()+"1 " {
			t.Errorf("%s: %s", kind, got)
		}
		if kind == topic.Durable {
			if _, err := s.Consume(ctx, spec, to); !errors.Is(err, session.ErrConflict) {
				t.Errorf("a second consumer of an unshared durable subscription: %v", err)
			}
			if err := c.Unsubscribe(ctx, spec.Name, false); !errors.Is(err, session.ErrConflict) {
				t.Errorf("unsubscribe under a consumer: %v", err)
			}
		}
		k.Close()
	}
	s.Close()
	if err := c.Unsubscribe(ctx, "sdurable", false); err != nil {
		t.Error(err)
	}
	if err := c.Unsubscribe(ctx, "sdurable", false); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
}
