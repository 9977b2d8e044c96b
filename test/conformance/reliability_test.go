package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func reliability(s *section) {
	restarts(s)
	refusals(s)
}

// again closes the case's connection, restarts its broker, and begins anew.
func (c *fixture) again() {
	c.t.Helper()
	if c.own != nil {
		c.done(c.own.Close())
		c.own = nil
	}
	c.b.restart(c.t)
}

// restarts is §9.1. A case does several things at once, for a broker of its own and
// its restart take time.
func restarts(s *section) {
	s.clause("9.1", "persistent messages survive a restart, with all that they have", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		r := put(c, c.messages(), polylog.NewText("x"), polylog.WithProperty("p", int32(7)), polylog.WithCorrelationID("c"), polylog.WithType("t"), polylog.WithPriority(7), polylog.WithTTL(time.Hour), polylog.WithGroup("g"), polylog.WithReplyTo("r"))
		c.again()
		m := take(c, c.messages()).Value
		equal(t, "message", fmt.Sprint(m.ID, m.Text(), m.Properties, m.CorrelationID, m.Type, m.Priority, m.Expiration-m.Timestamp, m.Group(), m.ReplyTo, m.DeliveryCount),
			fmt.Sprint(r.MessageID(), "x", map[string]any{"p": int32(7)}, "c", "t", 7, time.Hour.Milliseconds(), "g", "r", 1))
	})
	s.clause("9.1", "messages that are waiting survive a restart in order, and those that are acknowledged do not come again", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		q := c.texts(polylog.ClientAcknowledge)
		sent := numbers(c, q, 10)
		takeN(c, q, 4)
		c.done(q.Session().Acknowledge(c.ctx))
		c.again()
		wantTexts(t, "received", rest(c, c.texts()), sent[4:]...)
	})
	s.clause("9.1", "what was not acknowledged is delivered again after a restart, marked", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		q := c.texts(polylog.ClientAcknowledge)
		putAll(c, q, "1", "2")
		take(c, q)
		c.again()
		a, b := take(c, c.texts()), take(c, c.texts())
		equal(t, "received", fmt.Sprintf("%s/%v/%v %s/%v", a.Value, a.Redelivered(), a.DeliveryCount() >= 2, b.Value, b.Redelivered()), "1/true/true 2/false")
	})
	s.clause("9.1", "a broker that restarts under its clients", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		con := c.breakable()
		q := c.queueOf(c.sessionOn(con, polylog.IndividualAcknowledge), "q")
		putAll(c, q, "1", "2")
		held := take(c, q)
		c.b.restart(t)
		d := take(c, q)
		equal(t, "received", fmt.Sprintf("%s/%v", d.Value, d.Redelivered()), "1/true")
		c.refused(held.Ack(c.ctx), polylog.ErrStale)
		c.done(d.Ack(c.ctx))
		wantTexts(t, "the rest", rest(c, q), "2")
	})
	s.clause("9.1", "durable subscriptions survive a restart, others do not", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		id := polylog.WithClientID("id")
		session := c.sessionOn(c.connect(id))
		topic := c.topicOf(session, "t")
		sub[string](c)(topic.Durable(c.ctx, "d", polylog.WithSelector("p <> '2'")))
		sub[string](c)(topic.SharedDurable(c.ctx, "sd"))
		sub[string](c)(topic.Shared(c.ctx, "s"))
		sub[string](c)(topic.Subscribe(c.ctx))
		c.publishAll(topic, "1", "2", "3")
		c.done(session.Connection().Close())
		c.again()
		topic = c.topicOf(c.sessionOn(c.connect(id)), "t")
		wantTexts(t, "of the durable one", rest(c, sub[string](c)(topic.Durable(c.ctx, "d", polylog.WithSelector("p <> '2'")))), "1", "3")
		wantTexts(t, "of the shared durable one", rest(c, sub[string](c)(topic.SharedDurable(c.ctx, "sd"))), "1", "2", "3")
		nothing(c, sub[string](c)(topic.Shared(c.ctx, "s")))
		list, err := c.connection().Admin().Subscriptions(c.ctx, c.name("t"))
		c.done(err)
		equal(t, "subscriptions", len(list), 3)
	})
	s.clause("9.1", "how far a durable subscription has come survives a restart", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		topic := c.topicOf(c.session(), "t")
		subscription := sub[string](c)(topic.SharedDurable(c.ctx, "sd"))
		c.publishAll(topic, "1", "2", "3")
		take(c, subscription)
		c.again()
		wantTexts(t, "received", rest(c, sub[string](c)(c.topicOf(c.session(), "t").SharedDurable(c.ctx, "sd"))), "2", "3")
	})
	s.clause("9.1", "an unsubscribed subscription stays away after a restart", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		topic := c.topicOf(c.session(), "t")
		c.done(sub[string](c)(topic.SharedDurable(c.ctx, "sd")).Unsubscribe(c.ctx))
		c.again()
		list, err := c.connection().Admin().Subscriptions(c.ctx, c.name("t"))
		c.done(err)
		equal(t, "subscriptions", len(list), 0)
	})
	s.clause("9.1", "a committed transaction survives a restart, and one in progress does not", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		putAll(c, c.texts(), "1", "2")
		tx := c.session(polylog.Transacted)
		put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "q")).Value)
		c.done(tx.Commit(c.ctx))
		put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "q")).Value)
		c.again()
		wantTexts(t, "in", rest(c, c.texts()), "2")
		wantTexts(t, "out", rest(c, c.queueOf(c.session(), "out")), "1")
	})
	s.clause("9.1", "delays and expirations go on over a restart", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		q := c.texts()
		put(c, q, "late", polylog.WithDelay(time.Hour))
		put(c, q, "soon", polylog.WithDelay(20*time.Millisecond))
		put(c, q, "expires", polylog.WithTTL(20*time.Millisecond))
		put(c, q, "lives", polylog.WithTTL(time.Hour))
		at := time.Now().Add(20 * time.Millisecond)
		c.again()
		sleepUntil(at)
		got := takeN(c, c.texts(), 2)
		equal(t, "received", strings.Join(got, " ") == "soon lives" || strings.Join(got, " ") == "lives soon", true)
		nothing(c, c.texts())
	})
	s.clause("9.1", "a dead letter survives a restart, and is in one place", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		c.done(take(c, q).Reject(c.ctx, "no"))
		c.again()
		nothing(c, c.texts())
		equal(t, "dead letter", take(c, polylog.QueueOf[string](c.session(), "DLQ."+c.name("q"))).Value, "x")
	})
	s.clause("9.1", "temporary destinations do not survive a restart", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		q, err := c.session().TemporaryQueue(c.ctx)
		c.done(err)
		put(c, q, polylog.NewText("x"))
		c.again()
		_, err = c.connection().Admin().Describe(c.ctx, q.Name())
		c.refused(err, polylog.ErrNotFound)
	})
	s.clause("9.1", "non-persistent messages may be lost, but not what comes after them", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{onDisk: true})
		q := c.texts()
		put(c, q, "may be lost", polylog.NonPersistent())
		put(c, q, "stays")
		c.again()
		got := rest(c, c.texts())
		equal(t, "the last", got[len(got)-1], "stays")
	})
}

// refusals is §10.3: what the standard exceptions are in Go.
func refusals(s *section) {
	s.clause("10.2", "an error has a code and says what was wrong", func(t *testing.T, c *fixture) {
		_, err := c.topicOf(c.session(), "t").Durable(c.ctx, "d")
		var refusal *polylog.Error
		if !errors.As(err, &refusal) || refusal.Code == "" || !strings.Contains(refusal.Message, "client id") {
			t.Errorf("%#v", err)
		}
	})
	s.clause("10.2", "an error names the destination", func(t *testing.T, c *fixture) {
		put(c, c.texts(), "x")
		_, err := c.topicOf(c.session(), "q").Publish(c.ctx, "y")
		if err == nil || !strings.Contains(err.Error(), c.name("q")) {
			t.Error(err)
		}
	})
	s.clause("10.3", "IllegalStateException: commit of a session that is not transacted", func(t *testing.T, c *fixture) {
		c.refused(c.session().Commit(c.ctx), polylog.ErrInvalid)
	})
	s.clause("10.3", "InvalidClientIDException: a client id that is in use", func(t *testing.T, c *fixture) {
		c.withID()
		_, err := c.tryConnect(polylog.WithClientID(c.name("id")))
		c.refused(err, polylog.ErrConflict)
	})
	s.clause("10.3", "InvalidDestinationException: a destination that was deleted", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		c.done(c.connection().Admin().Delete(c.ctx, c.name("q")))
		_, err := q.Put(c.ctx, "y")
		c.refused(err, polylog.ErrNotFound)
	})
	for what, use := range ordered(map[string]func(c *fixture) error{
		"a send":         func(c *fixture) error { _, err := c.texts().Put(c.ctx, "x"); return err },
		"a receive":      func(c *fixture) error { _, err := c.texts().Take(c.ctx, polylog.NoWait()); return err },
		"a publication":  func(c *fixture) error { _, err := c.topicOf(c.session(), "t").Publish(c.ctx, "x"); return err },
		"a subscription": func(c *fixture) error { _, err := c.topicOf(c.session(), "t").Subscribe(c.ctx); return err },
		"a browser": func(c *fixture) error {
			for _, err := range c.texts().Browse(c.ctx) {
				return err
			}
			return nil
		},
		"a request": func(c *fixture) error {
			_, err := c.connection().Request(c.ctx, c.name("q"), polylog.NewText("x"))
			return err
		},
	}) {
		s.clause("10.3", "InvalidDestinationException: "+what+" where the broker makes no destinations", func(t *testing.T, c *fixture) {
			c = c.alone(brokerOptions{noAutoCreate: true})
			c.refused(use(c), polylog.ErrNotFound)
		})
	}
	s.clause("10.3", "InvalidDestinationException: a queue taken for a topic", func(t *testing.T, c *fixture) {
		put(c, c.texts(), "x")
		_, err := c.topicOf(c.session(), "q").Subscribe(c.ctx)
		c.refused(err, polylog.ErrWrongKind)
	})
	s.clause("10.3", "InvalidSelectorException: a selector's syntax", func(t *testing.T, c *fixture) {
		_, err := c.texts().Take(c.ctx, polylog.WithSelector("a ="), polylog.NoWait())
		c.refused(err, polylog.ErrBadSelector)
		equal(t, "is another error too", errors.Is(err, polylog.ErrInvalid) || errors.Is(err, polylog.ErrNoMessage), false)
	})
	s.clause("10.3", "JMSSecurityException: the broker's own destinations", func(t *testing.T, c *fixture) {
		_, err := c.session().Queue("__delivery_state").Take(c.ctx, polylog.NoWait())
		c.refused(err, polylog.ErrUnauthorized)
		_, err = c.session().Queue("__delivery_state").Put(c.ctx, polylog.NewText("x"))
		c.refused(err, polylog.ErrUnauthorized)
	})
	s.clause("10.3", "MessageFormatException: a property of a type that there is not", func(t *testing.T, c *fixture) {
		c.refused(polylog.NewMessage().SetProperty("p", struct{}{}), polylog.ErrInvalid)
	})
	s.clause("10.3", "MessageFormatException: a body read as another type", func(t *testing.T, c *fixture) {
		_, err := polylog.NewText("x").Map()
		c.refused(err, polylog.ErrBody)
	})
	s.clause("10.3", "ResourceAllocationException: a message that is too large", func(t *testing.T, c *fixture) {
		_, err := c.texts().Put(c.ctx, strings.Repeat("x", 2<<20))
		c.refused(err, polylog.ErrTooLarge)
	})
	s.clause("10.3", "TransactionRolledBackException: a commit that could not be done", func(t *testing.T, c *fixture) {
		con := c.breakable()
		tx := c.sessionOn(con, polylog.Transacted)
		put(c, c.queueOf(tx, "q"), "x")
		con.lose(c)
		c.refused(tx.Commit(c.ctx), polylog.ErrRolledBack)
	})
	s.clause("10.3", "a broker that cannot be reached is an error of its own", func(t *testing.T, c *fixture) {
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		defer cancel()
		_, err := polylog.Connect(ctx, "polylog://127.0.0.1:1")
		if err == nil || errors.Is(err, polylog.ErrUnauthorized) || errors.Is(err, polylog.ErrInvalid) {
			t.Error(err)
		}
	})
	s.clause("10.3", "an address that is none is refused", func(t *testing.T, c *fixture) {
		_, err := polylog.Connect(c.ctx, "tcp://localhost")
		c.refused(err, polylog.ErrInvalid)
	})
}
