package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

func transactions(s *section) {
	// begin is a transacted session, and a plain one that looks at what it does.
	begin := func(c *fixture) (tx, plain *polylog.Session) {
		c.t.Helper()
		return c.session(polylog.Transacted), c.session()
	}
	s.clause("6.2.7", "what is sent is there with the commit and not before", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(tx, "q"), "1", "2")
		nothing(c, c.queueOf(plain, "q"))
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", takeN(c, c.queueOf(plain, "q"), 2), "1", "2")
	})
	s.clause("6.2.7", "what was sent a rollback destroys", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(tx, "q"), "1", "2")
		c.done(tx.Rollback(c.ctx))
		c.done(tx.Commit(c.ctx))
		nothing(c, c.queueOf(plain, "q"))
	})
	s.clause("6.2.7", "what is received a commit acknowledges", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "q"), "1", "2")
		takeN(c, c.queueOf(tx, "q"), 2)
		c.done(tx.Commit(c.ctx))
		c.done(tx.Close(c.ctx))
		nothing(c, c.queueOf(plain, "q"))
	})
	s.clause("6.2.7", "what was received a rollback has delivered again", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "q"), "1", "2")
		wantTexts(t, "received", takeN(c, c.queueOf(tx, "q"), 2), "1", "2")
		c.done(tx.Rollback(c.ctx))
		for _, want := range []string{"1", "2"} {
			d := take(c, c.queueOf(tx, "q"))
			equal(t, "received", d.Value, want)
			equal(t, "redelivered", d.Redelivered(), true)
			equal(t, "count", d.DeliveryCount(), 2)
		}
	})
	s.clause("6.2.7", "what is received in a transaction nobody else is given", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		put(c, c.queueOf(plain, "q"), "x")
		take(c, c.queueOf(tx, "q"))
		nothing(c, c.queueOf(plain, "q"))
	})
	s.clause("6.2.7", "a message that was rolled back may go to another consumer", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		put(c, c.queueOf(plain, "q"), "x")
		take(c, c.queueOf(tx, "q"))
		c.done(tx.Rollback(c.ctx))
		d := take(c, c.queueOf(plain, "q"))
		equal(t, "received", d.Value, "x")
		equal(t, "redelivered", d.Redelivered(), true)
	})
	s.clause("6.2.7", "sends and receipts are one unit: commit", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "in"), "1", "2")
		for range 2 {
			put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "in")).Value)
		}
		c.done(tx.Commit(c.ctx))
		c.done(tx.Close(c.ctx))
		nothing(c, c.queueOf(plain, "in"))
		wantTexts(t, "sent", takeN(c, c.queueOf(plain, "out"), 2), "1", "2")
	})
	s.clause("6.2.7", "sends and receipts are one unit: rollback", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "in"), "1", "2")
		for range 2 {
			put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "in")).Value)
		}
		c.done(tx.Rollback(c.ctx))
		nothing(c, c.queueOf(plain, "out"))
		wantTexts(t, "received again", takeN(c, c.queueOf(plain, "in"), 2), "1", "2")
	})
	s.clause("6.2.7", "the next transaction begins by itself", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		put(c, c.queueOf(tx, "q"), "1")
		c.done(tx.Commit(c.ctx))
		put(c, c.queueOf(tx, "q"), "2")
		c.done(tx.Rollback(c.ctx))
		put(c, c.queueOf(tx, "q"), "3")
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", rest(c, c.queueOf(plain, "q")), "1", "3")
	})
	s.clause("6.2.7", "a commit is of what came before it", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "q"), "1", "2")
		take(c, c.queueOf(tx, "q"))
		c.done(tx.Commit(c.ctx))
		take(c, c.queueOf(tx, "q"))
		c.done(tx.Rollback(c.ctx))
		wantTexts(t, "received", rest(c, c.queueOf(plain, "q")), "2")
	})
	s.clause("6.2.7", "empty transactions are committed and rolled back", func(t *testing.T, c *fixture) {
		tx, _ := begin(c)
		for range 2 {
			c.done(tx.Commit(c.ctx))
			c.done(tx.Rollback(c.ctx))
		}
	})
	s.clause("6.2.7", "a transaction has several destinations of both kinds", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		subscription := sub[string](c)(polylog.TopicOf[string](plain, c.name("t")).Subscribe(c.ctx))
		put(c, c.queueOf(tx, "a"), "a")
		put(c, c.queueOf(tx, "b"), "b")
		publish(c, polylog.TopicOf[string](tx, c.name("t")), "t")
		nothing(c, subscription)
		nothing(c, c.queueOf(plain, "a"))
		c.done(tx.Commit(c.ctx))
		equal(t, "received", take(c, c.queueOf(plain, "a")).Value+take(c, c.queueOf(plain, "b")).Value+take(c, subscription).Value, "abt")
	})
	s.clause("6.2.7", "a transaction receives of several destinations", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		topic := polylog.TopicOf[string](tx, c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		put(c, c.queueOf(plain, "a"), "a")
		publish(c, polylog.TopicOf[string](plain, c.name("t")), "t")
		take(c, c.queueOf(tx, "a"))
		take(c, subscription)
		c.done(tx.Rollback(c.ctx))
		a, b := take(c, c.queueOf(tx, "a")), take(c, subscription)
		equal(t, "counts", fmt.Sprint(a.DeliveryCount(), b.DeliveryCount()), "2 2")
		c.done(tx.Commit(c.ctx))
		nothing(c, c.queueOf(plain, "a"))
		nothing(c, subscription)
	})
	s.clause("6.2.7", "a session does not receive what it has sent before the commit", func(t *testing.T, c *fixture) {
		tx, _ := begin(c)
		put(c, c.queueOf(tx, "q"), "x")
		nothing(c, c.queueOf(tx, "q"))
		c.done(tx.Commit(c.ctx))
		equal(t, "received", take(c, c.queueOf(tx, "q")).Value, "x")
	})
	s.clause("6.2.7", "two transacted sessions do not touch each other", func(t *testing.T, c *fixture) {
		a, b := c.session(polylog.Transacted), c.session(polylog.Transacted)
		put(c, c.queueOf(a, "q"), "a")
		put(c, c.queueOf(b, "q"), "b")
		c.done(a.Rollback(c.ctx))
		c.done(b.Commit(c.ctx))
		wantTexts(t, "received", rest(c, c.texts()), "b")
	})
	s.clause("6.2.7", "other sessions see nothing of a transaction, and are not held up by it", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		put(c, c.queueOf(tx, "q"), "of the transaction")
		put(c, c.queueOf(plain, "q"), "plain")
		wantTexts(t, "received", rest(c, c.queueOf(plain, "q")), "plain")
	})
	s.clause("6.2.7", "asynchronous sends belong to the transaction", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		for i := range 20 {
			c.done(c.queueOf(tx, "q").PutAsync(c.ctx, fmt.Sprint(i), nil))
		}
		c.done(tx.Rollback(c.ctx))
		c.done(c.queueOf(tx, "q").PutAsync(c.ctx, "x", nil))
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", rest(c, c.queueOf(plain, "q")), "x")
	})
	s.clause("6.2.7", "a transaction of a thousand messages", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		sent := numbers(c, c.queueOf(tx, "q"), 1000)
		c.done(tx.Commit(c.ctx))
		list, err := c.queueOf(plain, "q").TakeBatch(c.ctx, 2000)
		c.done(err)
		equal(t, "received", len(list), len(sent))
	})
	s.clause("6.2.7", "a loop that commits now and then", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		sent := numbers(c, c.queueOf(plain, "in"), 10)
		n := 0
		for d, err := range c.queueOf(tx, "in").Consume(c.ctx) {
			c.done(err)
			put(c, c.queueOf(tx, "out"), d.Value)
			if n++; n%3 == 0 {
				c.done(tx.Commit(c.ctx))
			}
			if n == 10 {
				break
			}
		}
		c.done(tx.Close(c.ctx)) // the tenth is rolled back
		wantTexts(t, "out", rest(c, c.queueOf(plain, "out")), sent[:9]...)
		wantTexts(t, "in", rest(c, c.queueOf(plain, "in")), sent[9])
	})
	s.clause("6.2.7", "a rollback has nothing to do with what was merely fetched ahead", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		numbers(c, c.queueOf(plain, "q"), 5)
		for _, err := range c.queueOf(tx, "q").Consume(c.ctx) {
			c.done(err)
			break
		}
		c.done(tx.Rollback(c.ctx))
		var counts []int
		for range 5 {
			counts = append(counts, take(c, c.queueOf(plain, "q")).DeliveryCount())
		}
		equal(t, "counts", fmt.Sprint(counts), "[2 1 1 1 1]")
	})
	for name, mode := range ordered(modes) {
		if mode == polylog.Transacted {
			continue
		}
		s.clause("6.2.7", "commit and rollback are refused in the mode "+name, func(t *testing.T, c *fixture) {
			session := c.session(mode)
			c.refused(session.Commit(c.ctx), polylog.ErrInvalid)
			c.refused(session.Rollback(c.ctx), polylog.ErrInvalid)
		})
	}
	s.clause("6.2.7", "a transaction that its connection's break undid is told so", func(t *testing.T, c *fixture) {
		con := c.breakable()
		tx := c.sessionOn(con, polylog.Transacted)
		put(c, c.texts(), "x")
		take(c, c.queueOf(tx, "q"))
		put(c, c.queueOf(tx, "out"), "y")
		con.lose(c)
		c.refused(tx.Commit(c.ctx), polylog.ErrRolledBack)
		nothing(c, c.queueOf(c.session(), "out"))
		d := take(c, c.texts())
		equal(t, "received", d.Value, "x")
		equal(t, "redelivered", d.Redelivered(), true)
	})
	s.clause("6.2.7", "a session goes on with a new transaction after one that was undone", func(t *testing.T, c *fixture) {
		con := c.breakable()
		tx := c.sessionOn(con, polylog.Transacted)
		put(c, c.queueOf(tx, "q"), "lost")
		con.lose(c)
		c.refused(tx.Commit(c.ctx), polylog.ErrRolledBack)
		put(c, c.queueOf(tx, "q"), "kept")
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", rest(c, c.texts()), "kept")
	})
	s.clause("6.2.7", "a rollback after a break is no error", func(t *testing.T, c *fixture) {
		con := c.breakable()
		tx := c.sessionOn(con, polylog.Transacted)
		put(c, c.queueOf(tx, "q"), "lost")
		con.lose(c)
		c.done(tx.Rollback(c.ctx))
		c.done(tx.Commit(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("6.2.7", "a function in a transaction of its own", func(t *testing.T, c *fixture) {
		put(c, c.texts(), "x")
		c.done(c.connection().Tx(c.ctx, func(tx *polylog.Session) error {
			put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "q")).Value)
			return nil
		}))
		nothing(c, c.texts())
		equal(t, "sent", take(c, c.queueOf(c.session(), "out")).Value, "x")
	})
	s.clause("6.2.7", "a function that fails in its transaction is rolled back", func(t *testing.T, c *fixture) {
		failed := errors.New("no")
		put(c, c.texts(), "x")
		c.refused(c.connection().Tx(c.ctx, func(tx *polylog.Session) error {
			put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "q")).Value)
			return failed
		}), failed)
		equal(t, "received again", take(c, c.texts()).DeliveryCount(), 2)
		nothing(c, c.queueOf(c.session(), "out"))
	})
	s.clause("6.2.7", "a durable subscription in a transaction", func(t *testing.T, c *fixture) {
		con := c.withID()
		tx := c.sessionOn(con, polylog.Transacted)
		subscription := sub[string](c)(polylog.TopicOf[string](tx, c.name("t")).Durable(c.ctx, "d"))
		publish(c, polylog.TopicOf[string](c.session(), c.name("t")), "x")
		take(c, subscription)
		c.done(tx.Rollback(c.ctx))
		equal(t, "count", take(c, subscription).DeliveryCount(), 2)
		c.done(tx.Commit(c.ctx))
		c.done(subscription.Close(c.ctx))
		nothing(c, sub[string](c)(polylog.TopicOf[string](c.sessionOn(con), c.name("t")).Durable(c.ctx, "d")))
	})
}

func order(s *section) {
	s.clause("6.2.9.1", "what a session sends to a queue is received in order", func(t *testing.T, c *fixture) {
		q := c.texts()
		var sent []string
		for i := range 30 {
			sent = append(sent, fmt.Sprint(i))
			put(c, q, sent[i])
		}
		wantTexts(t, "received", takeN(c, q, 30), sent...)
	})
	s.clause("6.2.9.1", "what a session sends to two queues is in order in each", func(t *testing.T, c *fixture) {
		session := c.session()
		a, b := c.queueOf(session, "a"), c.queueOf(session, "b")
		var sent []string
		for i := range 20 {
			sent = append(sent, fmt.Sprint(i))
			c.done(a.PutAsync(c.ctx, sent[i], nil))
			c.done(b.PutAsync(c.ctx, sent[i], nil))
		}
		wantTexts(t, "the first's", takeN(c, a, 20), sent...)
		wantTexts(t, "the second's", takeN(c, b, 20), sent...)
	})
	s.clause("6.2.9.1", "what a session sends through two handles of a queue is in order", func(t *testing.T, c *fixture) {
		session := c.session()
		var sent []string
		for i := range 20 {
			sent = append(sent, fmt.Sprint(i))
			c.done(c.queueOf(session, "q").PutAsync(c.ctx, sent[i], nil))
		}
		wantTexts(t, "received", takeN(c, c.texts(), 20), sent...)
	})
	s.clause("6.2.9.1", "what a session sends to a queue of several partitions is received in order", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"partitions": "4"}})
		c.done(err)
		q := c.texts()
		sent := numbers(c, q, 50)
		wantTexts(t, "received", takeN(c, q, 50), sent...)
	})
	s.clause("6.2.9.1", "what several sessions send to several partitions is in order for each session", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"partitions": "3"}})
		c.done(err)
		var all sync.WaitGroup
		for i := range 4 {
			q := c.queueOf(c.session(), "q")
			all.Go(func() {
				for n := range 15 {
					if _, err := q.Put(c.ctx, fmt.Sprintf("%d %02d", i, n)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		of := map[string][]string{}
		for _, text := range takeN(c, c.texts(), 60) {
			of[text[:1]] = append(of[text[:1]], text)
		}
		for who, list := range of {
			if len(list) != 15 || !slices.IsSorted(list) {
				t.Errorf("of %s: %v", who, list)
			}
		}
	})
	s.clause("6.2.9.1", "what a consumer of a subscription receives is in order", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))
		var sent []string
		for i := range 30 {
			sent = append(sent, fmt.Sprint(i))
			c.done(topic.PublishAsync(c.ctx, sent[i], nil))
		}
		wantTexts(t, "received", takeN(c, subscription, 30), sent...)
	})
	s.clause("6.2.9.1", "a loop sees the order that single receives see", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 30)
		var got []string
		for d, err := range q.Consume(c.ctx, polylog.WithPrefetch(4)) {
			c.done(err)
			if got = append(got, d.Value); len(got) == 30 {
				break
			}
		}
		wantTexts(t, "received", got, sent...)
	})
	s.clause("6.2.9.2", "messages of one priority keep their order among others", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 20 {
			put(c, q, fmt.Sprintf("%d %02d", i%2, i), polylog.WithPriority(4+5*(i%2)))
		}
		got := takeN(c, q, 20)
		if !strings.HasPrefix(got[0], "1") || !strings.HasPrefix(got[19], "0") || !slices.IsSorted(got[:10]) || !slices.IsSorted(got[10:]) {
			t.Errorf("%v", got)
		}
	})
	s.clause("6.2.9.2", "messages of one delivery mode keep their order among others", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 20 {
			var opts []polylog.PutOption
			if i%2 == 1 {
				opts = append(opts, polylog.NonPersistent())
			}
			c.done(q.PutAsync(c.ctx, fmt.Sprintf("%d %02d", i%2, i), nil, opts...))
		}
		got := takeN(c, q, 20)
		slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:1], b[:1]) })
		if !slices.IsSorted(got) {
			t.Errorf("%v", got)
		}
	})
	s.clause("6.2.9.2", "messages with a later delivery time may come later", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "1", polylog.WithDelay(time.Hour))
		put(c, q, "2")
		wantTexts(t, "received", rest(c, q), "2")
	})
	s.clause("6.2.9.2", "delayed messages come in the order of their delivery times", func(t *testing.T, c *fixture) {
		q := c.texts()
		at := time.Now()
		put(c, q, "second", polylog.WithDelay(40*time.Millisecond))
		put(c, q, "first", polylog.WithDelay(time.Until(at.Add(30*time.Millisecond))))
		sleepUntil(at.Add(100 * time.Millisecond))
		a, b := take(c, q), take(c, q)
		if a.Message().DeliveryTime > b.Message().DeliveryTime && a.Value != "second" {
			t.Errorf("%s before %s", a.Value, b.Value)
		}
	})
	s.clause("6.2.9.2", "a transaction's messages to a destination are in order", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		sent := numbers(c, c.queueOf(tx, "q"), 20)
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", takeN(c, c.texts(), 20), sent...)
	})
	s.clause("6.2.9.2", "transactions' messages are in the order of the commits", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		for _, text := range []string{"1", "2", "3"} {
			put(c, c.queueOf(tx, "q"), text)
			c.done(tx.Commit(c.ctx))
		}
		wantTexts(t, "received", takeN(c, c.texts(), 3), "1", "2", "3")
	})
}

// ignoredAcknowledge is said of AUTO_ACKNOWLEDGE and DUPS_OK_ACKNOWLEDGE.
const ignoredAcknowledge = "in a session that acknowledges by itself, calls of acknowledge are ignored; polylog's Ack of a delivery that Take returned fails with ErrStale, for it was acknowledged by then"

func acknowledgement(s *section) {
	s.clause("6.2.10", "AUTO_ACKNOWLEDGE: a receive acknowledges when it returns", func(t *testing.T, c *fixture) {
		session := c.session()
		put(c, c.texts(), "x")
		take(c, c.queueOf(session, "q"))
		c.done(session.Close(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("6.2.10", "AUTO_ACKNOWLEDGE: a loop acknowledges when its body is done", func(t *testing.T, c *fixture) {
		session := c.session()
		putAll(c, c.texts(), "1", "2", "3")
		for d, err := range c.queueOf(session, "q").Consume(c.ctx) {
			c.done(err)
			if d.Value == "2" {
				break
			}
		}
		c.done(session.Close(c.ctx))
		d := take(c, c.texts())
		equal(t, "received", d.Value, "3")
		equal(t, "count", d.DeliveryCount(), 1)
	})
	s.clause("6.2.10", "AUTO_ACKNOWLEDGE: a loop has not acknowledged while its body runs", func(t *testing.T, c *fixture) {
		con := c.breakable()
		session := c.sessionOn(con)
		putAll(c, c.texts(), "1", "2")
		for d, err := range c.queueOf(session, "q").Consume(c.ctx) {
			c.done(err)
			if d.Value == "2" {
				c.done(session.Flush(c.ctx)) // the first is acknowledged
				con.lose(c)
				break
			}
		}
		c.done(con.Close())
		d := take(c, c.texts())
		equal(t, "received", d.Value, "2")
		equal(t, "redelivered", d.Redelivered(), true)
	})
	s.clause("6.2.10", "AUTO_ACKNOWLEDGE: a listener acknowledges when it returns", func(t *testing.T, c *fixture) {
		session := c.session()
		put(c, c.texts(), "x")
		ctx, cancel := context.WithCancel(c.ctx)
		c.done(c.queueOf(session, "q").Listen(ctx, func(context.Context, *polylog.Delivery[string]) error { cancel(); return nil }))
		c.done(session.Close(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("6.2.10", "DUPS_OK_ACKNOWLEDGE: what was received is acknowledged in the end", func(t *testing.T, c *fixture) {
		session := c.session(polylog.DupsOKAcknowledge)
		numbers(c, c.texts(), 20)
		takeN(c, c.queueOf(session, "q"), 10)
		n := 0
		for _, err := range c.queueOf(session, "q").Consume(c.ctx) {
			c.done(err)
			if n++; n == 10 {
				break
			}
		}
		c.done(session.Close(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("6.2.10", "DUPS_OK_ACKNOWLEDGE: a lazy acknowledgement comes without another message", func(t *testing.T, c *fixture) {
		session := c.session(polylog.DupsOKAcknowledge)
		put(c, c.texts(), "x")
		take(c, c.queueOf(session, "q"))
		c.until("the acknowledgement", func() bool {
			info, err := c.connection().Admin().Describe(c.ctx, c.name("q"))
			return err == nil && info.Queue != nil && info.Queue.Acquired == 0 && info.Queue.Acknowledged == 1
		})
	})
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: nothing is acknowledged by itself", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2")
		takeN(c, c.queueOf(session, "q"), 2)
		c.done(session.Close(c.ctx))
		wantTexts(t, "received again", rest(c, c.texts()), "1", "2")
	})
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: one message acknowledges all that the session has delivered", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2", "3")
		takeN(c, c.queueOf(session, "q"), 2)
		c.done(take(c, c.queueOf(session, "q")).Ack(c.ctx))
		c.done(session.Close(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: the first message acknowledges those that came after it", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2", "3")
		first := take(c, c.queueOf(session, "q"))
		takeN(c, c.queueOf(session, "q"), 2)
		c.done(first.Ack(c.ctx))
		c.done(session.Close(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: what is delivered later is not acknowledged", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2")
		c.done(take(c, c.queueOf(session, "q")).Ack(c.ctx))
		take(c, c.queueOf(session, "q"))
		c.done(session.Close(c.ctx))
		wantTexts(t, "received again", rest(c, c.texts()), "2")
	})
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: all consumers of the session are meant", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		subscription := sub[string](c)(polylog.TopicOf[string](session, c.name("t")).SharedDurable(c.ctx, c.name("sub")))
		put(c, c.queueOf(session, "a"), "x")
		put(c, c.queueOf(session, "b"), "x")
		publish(c, polylog.TopicOf[string](session, c.name("t")), "x")
		take(c, c.queueOf(session, "a"))
		take(c, subscription)
		c.done(take(c, c.queueOf(session, "b")).Ack(c.ctx))
		c.done(session.Close(c.ctx))
		plain := c.session()
		nothing(c, c.queueOf(plain, "a"))
		nothing(c, c.queueOf(plain, "b"))
		nothing(c, sub[string](c)(polylog.TopicOf[string](plain, c.name("t")).SharedDurable(c.ctx, c.name("sub"))))
	})
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: no other session is meant", func(t *testing.T, c *fixture) {
		a, b := c.session(polylog.ClientAcknowledge), c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2")
		take(c, c.queueOf(a, "q"))
		c.done(take(c, c.queueOf(b, "q")).Ack(c.ctx))
		c.done(a.Close(c.ctx))
		c.done(b.Close(c.ctx))
		wantTexts(t, "received again", rest(c, c.texts()), "1")
	})
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: the session acknowledges", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2")
		takeN(c, c.queueOf(session, "q"), 2)
		c.done(session.Acknowledge(c.ctx))
		c.done(session.Acknowledge(c.ctx))
		c.done(session.Close(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: what was fetched ahead is not acknowledged", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2", "3")
		for d, err := range c.queueOf(session, "q").Consume(c.ctx) {
			c.done(err)
			c.done(d.Ack(c.ctx))
			break
		}
		c.done(session.Close(c.ctx))
		wantTexts(t, "received", rest(c, c.texts()), "2", "3")
	})
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: a consumer's backlog is bounded by its prefetch", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		numbers(c, c.texts(), 50)
		for _, err := range c.queueOf(session, "q").Consume(c.ctx, polylog.WithPrefetch(5)) {
			c.done(err)
			info, err := c.connection().Admin().Describe(c.ctx, c.name("q"))
			c.done(err)
			if info.Queue.Acquired > 6 {
				t.Errorf("%d acquired", info.Queue.Acquired)
			}
			break
		}
	})
	s.clause("6.2.10", "INDIVIDUAL_ACKNOWLEDGE: each message is acknowledged by itself", func(t *testing.T, c *fixture) {
		session := c.session(polylog.IndividualAcknowledge)
		putAll(c, c.texts(), "1", "2", "3")
		take(c, c.queueOf(session, "q"))
		second := take(c, c.queueOf(session, "q"))
		take(c, c.queueOf(session, "q"))
		c.done(second.Ack(c.ctx))
		c.done(session.Close(c.ctx))
		wantTexts(t, "received again", rest(c, c.texts()), "1", "3")
	})
	s.clause("6.2.10", "INDIVIDUAL_ACKNOWLEDGE: a message is acknowledged once", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		d := take(c, q)
		c.done(d.Ack(c.ctx))
		c.refused(d.Ack(c.ctx), polylog.ErrStale)
	})
	s.clause("6.2.10", "SESSION_TRANSACTED: acknowledging is the commit's", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		put(c, c.texts(), "x")
		c.done(take(c, c.queueOf(tx, "q")).Ack(c.ctx))
		c.done(tx.Rollback(c.ctx))
		equal(t, "count", take(c, c.texts()).DeliveryCount(), 2)
	})
	for _, name := range []string{"AUTO_ACKNOWLEDGE", "DUPS_OK_ACKNOWLEDGE"} {
		s.clause("3.6", "in "+name+" to acknowledge a received message is ignored", func(t *testing.T, c *fixture) {
			q := c.texts(modes[name])
			put(c, q, "x")
			c.refused(take(c, q).Ack(c.ctx), polylog.ErrStale)
		}, deviates(ignoredAcknowledge))
		s.clause("3.6", "in "+name+" the session's acknowledge is ignored", func(t *testing.T, c *fixture) {
			q := c.texts(modes[name])
			put(c, q, "x")
			take(c, q)
			c.done(q.Session().Acknowledge(c.ctx))
		})
		s.clause("3.6", "in "+name+" a loop's body may acknowledge", func(t *testing.T, c *fixture) {
			q := c.texts(modes[name])
			put(c, q, "x")
			for d, err := range q.Consume(c.ctx) {
				c.done(err)
				c.done(d.Ack(c.ctx))
				break
			}
			nothing(c, q)
		})
	}

	// §6.2.11 and §6.2.12
	s.clause("6.2.11", "what is acknowledged is not delivered again, whoever closes or breaks", func(t *testing.T, c *fixture) {
		con := c.breakable()
		session := c.sessionOn(con, polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2", "3")
		takeN(c, c.queueOf(session, "q"), 2)
		c.done(session.Acknowledge(c.ctx))
		con.lose(c)
		c.done(session.Recover(c.ctx))
		c.done(con.Close())
		wantTexts(t, "received", rest(c, c.texts()), "3")
	})
	s.clause("6.2.11", "after a break what was not acknowledged is delivered again, marked", func(t *testing.T, c *fixture) {
		con := c.breakable()
		q := c.queueOf(c.sessionOn(con, polylog.IndividualAcknowledge), "q")
		putAll(c, c.texts(), "1", "2")
		c.done(take(c, q).Ack(c.ctx))
		d := take(c, q)
		con.lose(c)
		again := take(c, q)
		equal(t, "received", again.Value, "2")
		equal(t, "redelivered", again.Redelivered(), true)
		equal(t, "count", again.DeliveryCount(), 2)
		c.refused(d.Ack(c.ctx), polylog.ErrStale)
		c.done(again.Ack(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("6.2.11", "in AUTO_ACKNOWLEDGE a break redelivers the last consumed message at most", func(t *testing.T, c *fixture) {
		con := c.breakable()
		putAll(c, c.texts(), "1", "2", "3", "4")
		goOn := func() {}
		for d, err := range c.queueOf(c.sessionOn(con), "q").Consume(c.ctx) {
			c.done(err)
			if d.Value == "1" {
				goOn = con.holdUp()
			}
			if d.Value == "2" { // of "1" the acknowledgement has not left
				con.cut()
				goOn()
				c.comes("the notice of the break", con.noticed)
				break
			}
		}
		c.done(con.Close())
		equal(t, "the first", take(c, c.texts()).DeliveryCount(), 2)
		equal(t, "the second", take(c, c.texts()).DeliveryCount(), 2)
	}, deviates("in AUTO_ACKNOWLEDGE only the message that was consumed last may be delivered again after a failure; a loop or a listener of polylog's goes on before an acknowledgement has left, so that several may"))
	s.clause("6.2.12", "what is sent is there once", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 200)
		list, err := q.TakeBatch(c.ctx, 300)
		c.done(err)
		ids := map[string]bool{}
		for _, d := range list {
			ids[d.Message().ID] = true
		}
		equal(t, "messages", len(list), len(sent))
		equal(t, "ids", len(ids), len(sent))
	})
}

func recovery(s *section) {
	s.clause("6.2.10", "recover delivers again from the first message that is not acknowledged", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		sent := numbers(c, q, 5)
		takeN(c, q, 2)
		c.done(q.Session().Acknowledge(c.ctx))
		takeN(c, q, 2)
		c.done(q.Session().Recover(c.ctx))
		wantTexts(t, "received", takeN(c, q, 3), sent[2:]...)
	})
	s.clause("6.2.10", "recover sets JMSRedelivered and counts", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		putAll(c, q, "1", "2", "3")
		for n := 1; n <= 3; n++ {
			for range 2 {
				d := take(c, q)
				equal(t, "count of "+d.Value, d.DeliveryCount(), n)
				equal(t, "redelivered", d.Redelivered(), n > 1)
			}
			c.done(q.Session().Recover(c.ctx))
		}
		takeN(c, q, 2)
		equal(t, "of the third", take(c, q).DeliveryCount(), 1)
	})
	s.clause("6.2.10", "recover in a loop", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		putAll(c, q, "1", "2", "3", "4")
		var seen []string
		for d, err := range q.Consume(c.ctx) {
			c.done(err)
			seen = append(seen, fmt.Sprint(d.Value, "/", d.DeliveryCount()))
			switch len(seen) {
			case 2:
				c.done(d.Ack(c.ctx))
			case 4:
				c.done(q.Session().Recover(c.ctx))
			}
			if len(seen) == 6 {
				break
			}
		}
		wantTexts(t, "seen", seen, "1/1", "2/1", "3/1", "4/1", "3/2", "4/2")
	})
	s.clause("6.2.10", "recover is for all consumers of the session", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		a, b := c.queueOf(session, "a"), c.queueOf(session, "b")
		put(c, a, "a")
		put(c, b, "b")
		take(c, a)
		take(c, b)
		c.done(session.Recover(c.ctx))
		equal(t, "counts", fmt.Sprint(take(c, a).DeliveryCount(), take(c, b).DeliveryCount()), "2 2")
	})
	s.clause("6.2.10", "recover is for no other session", func(t *testing.T, c *fixture) {
		a, b := c.session(polylog.ClientAcknowledge), c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2")
		take(c, c.queueOf(a, "q"))
		take(c, c.queueOf(b, "q"))
		c.done(b.Recover(c.ctx))
		d := take(c, c.queueOf(b, "q"))
		equal(t, "received", d.Value, "2")
		nothing(c, c.queueOf(b, "q"))
	})
	s.clause("6.2.10", "recover with nothing to recover", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		c.done(q.Session().Recover(c.ctx))
		put(c, q, "x")
		c.done(take(c, q).Ack(c.ctx))
		c.done(q.Session().Recover(c.ctx))
		nothing(c, q)
	})
	s.clause("6.2.10", "after recover a message of higher priority may come first", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		put(c, q, "normal")
		take(c, q)
		put(c, q, "expedited", polylog.WithPriority(9))
		c.done(q.Session().Recover(c.ctx))
		wantTexts(t, "received", takeN(c, q, 2), "expedited", "normal")
	})
	s.clause("6.2.10", "after recover a message that has expired does not come", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		r := time.Now().Add(30 * time.Millisecond)
		put(c, q, "x", polylog.WithExpiry(time.Now().Add(time.Hour)))
		take(c, q)
		put(c, c.queueOf(c.session(), "q"), "y", polylog.WithExpiry(r))
		sleepUntil(r)
		c.done(q.Session().Recover(c.ctx))
		wantTexts(t, "received", rest(c, q), "x")
	})
	for _, name := range []string{"AUTO_ACKNOWLEDGE", "DUPS_OK_ACKNOWLEDGE"} {
		s.clause("6.2.10", "recover in "+name+" delivers nothing again", func(t *testing.T, c *fixture) {
			q := c.texts(modes[name])
			putAll(c, q, "1", "2")
			take(c, q)
			c.done(q.Session().Recover(c.ctx))
			wantTexts(t, "received", rest(c, q), "2")
		})
	}
	s.clause("6.2.10", "recover is refused in a transacted session", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.Transacted)
		put(c, c.queueOf(c.session(), "q"), "x")
		take(c, q)
		c.done(q.Session().Recover(c.ctx))
		equal(t, "count", take(c, q).DeliveryCount(), 2)
	}, deviates("recovery of a transacted session is its rollback, and recover is refused with IllegalStateException; polylog's Recover has the deliveries come again, and leaves the sends in the transaction"))
	s.clause("6.2.10", "recover of messages that are acknowledged one by one", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		d := take(c, q)
		c.done(q.Session().Recover(c.ctx))
		nothing(c, q)
		c.done(d.Ack(c.ctx))
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

// closedIsNotFound is said of most uses of a closed session.
const closedIsNotFound = "to use a closed session is an IllegalStateException; polylog's consumers, Recover, Commit and Rollback fail with ErrNotFound, which the broker says of a session that it does not know, in place of ErrClosed"

func closingSessions(s *section) {
	s.clause("6.2.15", "to close a closed session is ignored", func(t *testing.T, c *fixture) {
		session := c.session()
		for range 3 {
			c.done(session.Close(c.ctx))
		}
	})
	for what, use := range ordered(uses) {
		var marks []mark
		check := func(c *fixture, err error) { c.t.Helper(); c.refused(err, polylog.ErrClosed) }
		switch what {
		case "a browser", "a temporary queue", "a temporary topic":
			marks = append(marks, deviates("to use a closed session is an error; polylog's browsers and temporary destinations are the connection's, and are made all the same"))
			check = func(c *fixture, err error) { c.t.Helper(); c.done(err) }
		case "recover", "a receive", "a receive without waiting", "a consumer", "a listener", "a subscription":
			marks = append(marks, deviates(closedIsNotFound))
			check = func(c *fixture, err error) { c.t.Helper(); c.refused(err, polylog.ErrNotFound) }
		}
		s.clause("6.2.15", "a closed session refuses "+what, func(t *testing.T, c *fixture) {
			session := c.session()
			put(c, session.Queue(c.name("q")), polylog.NewText("x"))
			c.done(session.Close(c.ctx))
			check(c, use(c, session))
		}, marks...)
	}
	s.clause("6.2.15", "a closed session refuses commit and rollback", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		c.done(tx.Close(c.ctx))
		c.refused(tx.Commit(c.ctx), polylog.ErrNotFound)
		c.refused(tx.Rollback(c.ctx), polylog.ErrNotFound)
	}, deviates(closedIsNotFound))
	s.clause("6.2.15", "the consumers of a closed session can be closed", func(t *testing.T, c *fixture) {
		session := c.session()
		subscription := sub[*polylog.Message](c)(session.Topic(c.name("t")).Subscribe(c.ctx))
		c.done(session.Close(c.ctx))
		c.done(subscription.Close(c.ctx))
		_, err := subscription.Take(c.ctx)
		c.refused(err, polylog.ErrClosed)
	})
	s.clause("6.2.15", "close ends a receive that waits", func(t *testing.T, c *fixture) {
		q := c.texts()
		nothing(c, q)
		done := c.background(func(ctx context.Context) {
			if d, err := q.Take(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("%v, %v", d, err)
			}
		})
		c.waits("the receive", done)
		c.done(q.Session().Close(c.ctx))
		c.comes("the receive's end", done)
	})
	s.clause("6.2.15", "close ends a loop and a listener", func(t *testing.T, c *fixture) {
		session := c.session()
		var ends sync.WaitGroup
		ends.Go(func() {
			for d, err := range c.queueOf(session, "q").Consume(c.ctx) {
				if d != nil || !errors.Is(err, polylog.ErrClosed) {
					t.Errorf("%v, %v", d, err)
				}
			}
		})
		ends.Go(func() {
			c.refused(c.queueOf(session, "q").Listen(c.ctx, func(context.Context, *polylog.Delivery[string]) error { return nil }), polylog.ErrClosed)
		})
		c.until("consumers", func() bool {
			info, err := c.connection().Admin().Describe(c.ctx, c.name("q"))
			return err == nil && info.Queue != nil && info.Queue.Consumers == 2
		})
		c.done(session.Close(c.ctx))
		ends.Wait()
	})
	s.clause("6.2.15", "close waits for a listener that runs", func(t *testing.T, c *fixture) {
		q := c.texts()
		running, leave := make(chan struct{}), make(chan struct{})
		c.background(func(ctx context.Context) {
			_ = q.Listen(ctx, func(context.Context, *polylog.Delivery[string]) error {
				close(running)
				<-leave
				return nil
			})
		})
		put(c, q, "x")
		c.comes("the message", running)
		done := c.background(func(ctx context.Context) {
			if err := q.Session().Close(ctx); err != nil {
				t.Error(err)
			}
		})
		c.waits("close", done)
		close(leave)
		c.comes("the close", done)
		nothing(c, c.texts()) // AUTO_ACKNOWLEDGE has acknowledged it
	})
	s.clause("6.2.15", "close rolls back the transaction in progress", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		put(c, c.texts(), "x")
		take(c, c.queueOf(tx, "q"))
		put(c, c.queueOf(tx, "out"), "y")
		c.done(tx.Close(c.ctx))
		nothing(c, c.queueOf(c.session(), "out"))
		equal(t, "count", take(c, c.texts()).DeliveryCount(), 2)
	})
	s.clause("6.2.15", "close acknowledges nothing that is the client's to acknowledge", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2")
		takeN(c, c.queueOf(session, "q"), 2)
		c.done(session.Close(c.ctx))
		wantTexts(t, "received again", rest(c, c.texts()), "1", "2")
	})
	s.clause("6.2.15", "close leaves other sessions of the connection alone", func(t *testing.T, c *fixture) {
		other := c.texts(polylog.ClientAcknowledge)
		put(c, other, "x")
		d := take(c, other)
		session := c.session()
		nothing(c, c.queueOf(session, "q"))
		c.done(session.Close(c.ctx))
		c.done(d.Ack(c.ctx))
		put(c, other, "y")
		equal(t, "received", take(c, other).Value, "y")
	})
	s.clause("6.2.15", "a received message can be used once its session is closed", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithProperty("p", "v"))
		m := take(c, q).Message()
		c.done(q.Session().Close(c.ctx))
		equal(t, "message", fmt.Sprintf("%s %v", m.Text(), m.Properties), "x map[p:v]")
		put(c, c.session().Queue(c.name("other")), m)
	})
	s.clause("6.2.15", "a message of a closed session cannot be acknowledged", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		put(c, q, "x")
		d := take(c, q)
		c.done(q.Session().Close(c.ctx))
		c.done(d.Ack(c.ctx))
		equal(t, "received again", take(c, c.texts()).Value, "x")
	}, deviates(acknowledgeClosed))
	s.clause("6.2.15", "a message of a closed session cannot be acknowledged by itself", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		d := take(c, q)
		c.done(q.Session().Close(c.ctx))
		if err := d.Ack(c.ctx); err == nil {
			t.Error("no error")
		}
		equal(t, "received again", take(c, c.texts()).Value, "x")
	})
	s.clause("6.2.15", "close waits for sends and their completions", func(t *testing.T, c *fixture) {
		q := c.texts()
		var completed atomic.Int32
		for range 10 {
			c.done(q.PutAsync(c.ctx, "x", func(polylog.Receipt, error) {
				time.Sleep(time.Millisecond)
				completed.Add(1)
			}))
		}
		c.done(q.Session().Close(c.ctx))
		equal(t, "completed", completed.Load(), 10)
	})
}
