package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func sessions(s *section) {
	sessionsInGeneral(s)
	temporaryDestinations(s)
	transactions(s)
	order(s)
	acknowledgement(s)
	recovery(s)
	serialExecution(s)
	closingSessions(s)
}

var modes = map[string]polylog.Mode{
	"AUTO_ACKNOWLEDGE": polylog.AutoAcknowledge, "CLIENT_ACKNOWLEDGE": polylog.ClientAcknowledge, "DUPS_OK_ACKNOWLEDGE": polylog.DupsOKAcknowledge,
	"INDIVIDUAL_ACKNOWLEDGE": polylog.IndividualAcknowledge, "SESSION_TRANSACTED": polylog.Transacted,
}

// queueOf is a queue of text messages of a session.
func (c *fixture) queueOf(s *polylog.Session, of string) *polylog.Queue[string] {
	return polylog.QueueOf[string](s, c.name(of))
}

func sessionsInGeneral(s *section) {
	for name, mode := range ordered(modes) {
		s.clause("6.2", "a session in the mode "+name+" sends and receives", func(t *testing.T, c *fixture) {
			session := c.session(mode)
			equal(t, "mode", session.Mode(), mode)
			put(c, c.queueOf(c.session(), "q"), "x")
			equal(t, "received", take(c, c.queueOf(session, "q")).Value, "x")
			put(c, c.queueOf(session, "out"), "y")
			if mode == polylog.Transacted {
				c.done(session.Commit(c.ctx))
			}
			equal(t, "sent", take(c, c.queueOf(c.session(), "out")).Value, "y")
		})
	}
	s.clause("6.2", "a session is in AUTO_ACKNOWLEDGE where nothing else is said", func(t *testing.T, c *fixture) {
		equal(t, "mode", c.session().Mode(), polylog.AutoAcknowledge)
	})
	s.clause("6.2", "a mode that there is not is refused", func(t *testing.T, c *fixture) {
		_, err := c.connection().Session(c.ctx, polylog.Mode(99))
		c.refused(err, polylog.ErrInvalid)
	})
	s.clause("6.2", "a connection has many sessions", func(t *testing.T, c *fixture) {
		for range 50 {
			put(c, c.queueOf(c.session(), "q"), "x")
		}
		equal(t, "received", len(rest(c, c.texts())), 50)
	})
	for _, name := range []string{"CLIENT_ACKNOWLEDGE", "INDIVIDUAL_ACKNOWLEDGE", "SESSION_TRANSACTED"} {
		s.clause("6.2", "what a session of the mode "+name+" leaves unacknowledged on a queue is delivered again", func(t *testing.T, c *fixture) {
			session := c.session(modes[name])
			put(c, c.queueOf(c.session(), "q"), "x")
			take(c, c.queueOf(session, "q"))
			c.done(session.Close(c.ctx))
			d := take(c, c.queueOf(c.session(), "q"))
			equal(t, "received", d.Value, "x")
			equal(t, "redelivered", d.Redelivered(), true)
			equal(t, "count", d.DeliveryCount(), 2)
		})
	}
	s.clause("6.2.1", "a session has several producers and consumers", func(t *testing.T, c *fixture) {
		session := c.session()
		for i := range 5 {
			put(c, c.queueOf(session, fmt.Sprint("q", i)), fmt.Sprint(i))
		}
		for i := range 5 {
			equal(t, "received", take(c, c.queueOf(session, fmt.Sprint("q", i))).Value, fmt.Sprint(i))
		}
	})
	s.clause("6.2.1", "a queue and a subscription of one session", func(t *testing.T, c *fixture) {
		session := c.session()
		q, topic := c.queueOf(session, "q"), polylog.TopicOf[string](session, c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		put(c, q, "of the queue")
		publish(c, topic, "of the topic")
		equal(t, "received", take(c, subscription).Value, "of the topic")
		equal(t, "received", take(c, q).Value, "of the queue")
	})
	s.clause("6.2.3", "a destination is made of its name, and again", func(t *testing.T, c *fixture) {
		session := c.session()
		put(c, c.queueOf(session, "q"), "x")
		equal(t, "name", c.queueOf(session, "q").Name(), c.name("q"))
		equal(t, "received", take(c, c.queueOf(session, "q")).Value, "x")
	})
	s.clause("6.2.4", "a message is sent by any session", func(t *testing.T, c *fixture) {
		m := polylog.NewText("x")
		put(c, c.session().Queue(c.name("a")), m)
		put(c, c.sessionOn(c.connect()).Queue(c.name("b")), m)
		equal(t, "received", take(c, c.queueOf(c.session(), "a")).Value+take(c, c.queueOf(c.session(), "b")).Value, "xx")
	})
	s.clause("6.2.4", "a message that one connection received another sends", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithProperty("p", "v"), polylog.WithType("t"))
		put(c, c.sessionOn(c.connect()).Queue(c.name("b")), take(c, q).Message())
		m := take(c, c.session().Queue(c.name("b"))).Message()
		equal(t, "message", fmt.Sprintf("%s %v %s", m.Text(), m.Properties, m.Type), "x map[p:v] t")
	})
}

func temporaryDestinations(s *section) {
	temporary := func(c *fixture, session *polylog.Session) *polylog.Queue[*polylog.Message] {
		c.t.Helper()
		q, err := session.TemporaryQueue(c.ctx)
		c.done(err)
		return q
	}
	s.clause("6.2.2", "temporary destinations are unique", func(t *testing.T, c *fixture) {
		seen := map[string]bool{}
		for _, session := range []*polylog.Session{c.session(), c.session(), c.sessionOn(c.connect())} {
			for range 3 {
				seen[temporary(c, session).Name()] = true
				topic, err := session.TemporaryTopic(c.ctx)
				c.done(err)
				seen[topic.Name()] = true
			}
		}
		equal(t, "names", len(seen), 18)
	})
	s.clause("6.2.2", "a temporary queue is consumed by any session of its connection", func(t *testing.T, c *fixture) {
		q := temporary(c, c.session())
		put(c, q, polylog.NewText("x"))
		equal(t, "received", take(c, c.session().Queue(q.Name())).Value.Text(), "x")
	})
	s.clause("6.2.2", "a temporary queue is consumed by no other connection", func(t *testing.T, c *fixture) {
		q := temporary(c, c.session())
		put(c, q, polylog.NewText("x"))
		other := c.sessionOn(c.connect()).Queue(q.Name())
		_, err := other.Take(c.ctx, polylog.NoWait())
		c.refused(err, polylog.ErrUnauthorized)
		for _, err := range other.Consume(c.ctx) {
			c.refused(err, polylog.ErrUnauthorized)
			break
		}
	})
	s.clause("6.2.2", "another connection sends to a temporary queue", func(t *testing.T, c *fixture) {
		q := temporary(c, c.session())
		put(c, c.sessionOn(c.connect()).Queue(q.Name()), polylog.NewText("x"))
		equal(t, "received", take(c, q).Value.Text(), "x")
	})
	s.clause("6.2.2", "a temporary queue outlives its session", func(t *testing.T, c *fixture) {
		session := c.session()
		q := temporary(c, session)
		c.done(session.Close(c.ctx))
		put(c, c.session().Queue(q.Name()), polylog.NewText("x"))
		equal(t, "received", take(c, c.session().Queue(q.Name())).Value.Text(), "x")
	})
	s.clause("6.2.2", "a temporary queue is gone with its connection", func(t *testing.T, c *fixture) {
		con := c.connect()
		q := temporary(c, c.sessionOn(con))
		put(c, q, polylog.NewText("x"))
		c.done(con.Close())
		c.until("the queue's end", func() bool {
			_, err := c.connection().Admin().Describe(c.ctx, q.Name())
			return errors.Is(err, polylog.ErrNotFound)
		})
		if _, err := c.session().Queue(q.Name()).Put(c.ctx, polylog.NewText("x")); err == nil {
			t.Error("it took a message")
		}
	})
	s.clause("6.2.2", "a temporary queue is gone when its connection breaks", func(t *testing.T, c *fixture) {
		con := c.breakable()
		session := c.sessionOn(con)
		q := temporary(c, session)
		put(c, q, polylog.NewText("x"))
		con.lose(c)
		put(c, session.Queue(c.name("q")), polylog.NewText("y")) // over the next connection
		_, err := q.Put(c.ctx, polylog.NewText("x"))
		c.refused(err, polylog.ErrNotFound)
		if _, err = q.Take(c.ctx, polylog.NoWait()); err == nil || errors.Is(err, polylog.ErrNoMessage) {
			t.Errorf("take: %v", err)
		}
	})
	s.clause("6.2.2", "a temporary queue with a consumer cannot be deleted", func(t *testing.T, c *fixture) {
		q := temporary(c, c.session())
		nothing(c, q) // which leaves a consumer
		c.refused(c.connection().Admin().Delete(c.ctx, q.Name()), polylog.ErrConflict)
		put(c, q, polylog.NewText("x"))
		equal(t, "received", take(c, q).Value.Text(), "x")
	})
	s.clause("6.2.2", "a temporary queue can be deleted by its connection", func(t *testing.T, c *fixture) {
		q := temporary(c, c.session())
		c.done(c.connection().Admin().Delete(c.ctx, q.Name()))
		_, err := q.Put(c.ctx, polylog.NewText("x"))
		c.refused(err, polylog.ErrNotFound)
	})
	s.clause("6.2.2", "a temporary queue is where replies come", func(t *testing.T, c *fixture) {
		q := temporary(c, c.session())
		requests := c.messages()
		request := polylog.NewText("x")
		request.ReplyTo = q.Name()
		put(c, requests, request, polylog.WithReplyTo(q.Name()))
		c.done(polylog.Reply(c.ctx, c.sessionOn(c.connect()), take(c, requests).Message(), "y"))
		equal(t, "reply", take(c, q).Value.Text(), "y")
	})
	s.clause("6.2.2", "messages of a temporary queue are acknowledged and come again as others", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		q := temporary(c, session)
		put(c, q, polylog.NewText("x"))
		take(c, q)
		c.done(session.Recover(c.ctx))
		equal(t, "redelivered", take(c, q).Redelivered(), true)
		c.done(session.Acknowledge(c.ctx))
		nothing(c, q)
	})
	s.clause("6.2.2", "no temporary destination is made by its name", func(t *testing.T, c *fixture) {
		_, err := c.session().Queue("temp-queue/"+c.name("q")).Put(c.ctx, polylog.NewText("x"))
		c.refused(err, polylog.ErrInvalid)
		_, err = c.session().Topic("temp-topic/"+c.name("t")).Publish(c.ctx, polylog.NewText("x"))
		c.refused(err, polylog.ErrInvalid)
	})
}

// meets says whether two functions run at the same time: each waits for the other.
type meets struct {
	here atomic.Int32
	both chan struct{}
}

func newMeets() *meets { return &meets{both: make(chan struct{})} }

func (m *meets) arrive(ctx context.Context) {
	if m.here.Add(1) == 2 {
		close(m.both)
	}
	m.wait(ctx)
}

func (m *meets) wait(ctx context.Context) {
	select {
	case <-m.both:
	case <-ctx.Done():
	}
}

func serialExecution(s *section) {
	s.clause("6.2.13", "a listener is called with one message at a time", func(t *testing.T, c *fixture) {
		q := c.texts()
		numbers(c, q, 20)
		var inside, calls atomic.Int32
		ctx, cancel := context.WithCancel(c.ctx)
		c.done(q.Listen(ctx, func(context.Context, *polylog.Delivery[string]) error {
			if inside.Add(1) > 1 {
				t.Error("called while it runs")
			}
			time.Sleep(100 * time.Microsecond)
			inside.Add(-1)
			if calls.Add(1) == 20 {
				cancel()
			}
			return nil
		}))
		equal(t, "calls", calls.Load(), 20)
	})
	s.clause("6.2.13", "a listener that is to be called with several at a time is", func(t *testing.T, c *fixture) {
		q := c.texts()
		numbers(c, q, 10) // of which one consumer fetches two
		m := newMeets()
		ctx, cancel := context.WithCancel(c.ctx)
		c.background(func(ctx context.Context) {
			m.wait(ctx)
			cancel()
		})
		c.done(q.Listen(ctx, func(ctx context.Context, _ *polylog.Delivery[string]) error { m.arrive(ctx); return nil }, polylog.WithConcurrency(2), polylog.WithPrefetch(1)))
		equal(t, "at once", m.here.Load() >= 2, true)
	})
	s.clause("6.2.13", "a session calls one of its listeners at a time", func(t *testing.T, c *fixture) {
		session := c.session()
		m := newMeets()
		for _, of := range []string{"a", "b"} {
			put(c, c.queueOf(session, of), "x")
			c.background(func(ctx context.Context) {
				_ = c.queueOf(session, of).Listen(ctx, func(ctx context.Context, _ *polylog.Delivery[string]) error { m.arrive(ctx); return nil })
			})
		}
		c.comes("both at once", m.both)
	}, deviates("a session runs its listeners one after the other; polylog's sessions are for several goroutines, and each Listen runs by itself"))
	s.clause("6.2.14", "listeners of two sessions run at the same time", func(t *testing.T, c *fixture) {
		numbers(c, c.texts(), 10)
		m := newMeets()
		for range 2 {
			q := c.queueOf(c.session(), "q")
			c.background(func(ctx context.Context) {
				_ = q.Listen(ctx, func(ctx context.Context, _ *polylog.Delivery[string]) error { m.arrive(ctx); return nil }, polylog.WithPrefetch(1))
			})
		}
		c.comes("both at once", m.both)
	})
	s.clause("6.2.14", "sessions receive from one queue at the same time", func(t *testing.T, c *fixture) {
		sent := numbers(c, c.texts(), 100)
		got := shared(c, c.texts(), c.texts(), c.texts(), c.texts())
		all := slices.Concat(got...)
		slices.Sort(all)
		wantTexts(t, "received", all, sent...)
	})
}
