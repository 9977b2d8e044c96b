package conformance

import (
	"fmt"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func durable(s *section) {
	s.clause("8.3.3", "a durable subscription gets everything, consumed or not", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		subscription := sub[string](c)(topic.Durable(c.ctx, "d"))
		publish(c, topic, "1")
		equal(t, "received", take(c, subscription).Value, "1")
		publish(c, topic, "2")
		c.close(subscription)
		publish(c, topic, "3")
		wantTexts(t, "received", rest(c, sub[string](c)(topic.Durable(c.ctx, "d"))), "2", "3")
	})
	s.clause("8.3.3", "a durable subscription outlives its connection", func(t *testing.T, c *fixture) {
		con := c.withID()
		c.close(sub[string](c)(c.topicOf(c.sessionOn(con), "t").Durable(c.ctx, "d")))
		c.done(con.Close())
		publish(c, c.topicOf(c.session(), "t"), "x")
		var again *polylog.Connection
		c.until("the client id", func() bool {
			var err error
			again, err = c.tryConnect(polylog.WithClientID(c.name("id")))
			return err == nil
		})
		wantTexts(t, "received", rest(c, sub[string](c)(c.topicOf(c.sessionOn(again), "t").Durable(c.ctx, "d"))), "x")
	})
	s.clause("8.3.3", "a durable subscription has one consumer", func(t *testing.T, c *fixture) {
		con := c.withID()
		topic := c.topicOf(c.sessionOn(con), "t")
		subscription := sub[string](c)(topic.Durable(c.ctx, "d"))
		_, err := topic.Durable(c.ctx, "d")
		c.refused(err, polylog.ErrConflict)
		_, err = c.topicOf(c.sessionOn(con), "t").Durable(c.ctx, "d")
		c.refused(err, polylog.ErrConflict)
		publish(c, topic, "x")
		equal(t, "received", take(c, subscription).Value, "x")
	})
	s.clause("8.3.3", "a durable subscription has another consumer once the first is closed", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		c.close(sub[string](c)(topic.Durable(c.ctx, "d")))
		sub[string](c)(topic.Durable(c.ctx, "d"))
	})
	s.clause("8.3.3", "a durable subscription needs a client id", func(t *testing.T, c *fixture) {
		_, err := c.topicOf(c.session(), "t").Durable(c.ctx, "d")
		c.refused(err, polylog.ErrInvalid)
	})
	s.clause("8.3.3", "a durable subscription of another client id is another one", func(t *testing.T, c *fixture) {
		a := sub[string](c)(c.topicOf(c.sessionOn(c.connect(polylog.WithClientID(c.name("a")))), "t").Durable(c.ctx, "d"))
		b := sub[string](c)(c.topicOf(c.sessionOn(c.connect(polylog.WithClientID(c.name("b")))), "t").Durable(c.ctx, "d"))
		publish(c, c.topicOf(c.session(), "t"), "x")
		equal(t, "received", take(c, a).Value+take(c, b).Value, "xx")
	})
	s.clause("8.3.3", "a client id has several durable subscriptions", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		a, b := sub[string](c)(topic.Durable(c.ctx, "a")), sub[string](c)(topic.Durable(c.ctx, "b"))
		publish(c, topic, "x")
		equal(t, "received", take(c, a).Value+take(c, b).Value, "xx")
	})
	s.clause("8.3.3", "a durable subscription with a selector keeps what matches", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		open := func() *polylog.Subscription[string] {
			return sub[string](c)(topic.Durable(c.ctx, "d", polylog.WithSelector("p = '1'")))
		}
		c.close(open())
		c.publishAll(topic, "0", "1", "2")
		wantTexts(t, "received", rest(c, open()), "1")
	})
	// Another topic, selector or noLocal.
	for what, open := range ordered(map[string]func(c *fixture, session *polylog.Session) (*polylog.Subscription[string], error){
		"another topic": func(c *fixture, session *polylog.Session) (*polylog.Subscription[string], error) {
			return c.topicOf(session, "other").Durable(c.ctx, "d")
		},
		"another selector": func(c *fixture, session *polylog.Session) (*polylog.Subscription[string], error) {
			return c.topicOf(session, "t").Durable(c.ctx, "d", polylog.WithSelector("p = 'after'"))
		},
		"noLocal": func(c *fixture, session *polylog.Session) (*polylog.Subscription[string], error) {
			return c.topicOf(session, "t").Durable(c.ctx, "d", polylog.WithNoLocal())
		},
	}) {
		s.clause("8.3.3", "a durable subscription that is opened with "+what+" begins anew", func(t *testing.T, c *fixture) {
			session := c.sessionOn(c.withID())
			c.close(sub[string](c)(c.topicOf(session, "t").Durable(c.ctx, "d")))
			c.publishAll(c.topicOf(session, "t"), "before")
			subscription := sub[string](c)(open(c, session))
			plain := c.session()
			c.publishAll(c.topicOf(plain, "t"), "after")
			c.publishAll(c.topicOf(plain, "other"), "after")
			wantTexts(t, "received", rest(c, subscription), "after")
			list, err := c.connection().Admin().Subscriptions(c.ctx, c.name("t"))
			c.done(err)
			other, err := c.connection().Admin().Subscriptions(c.ctx, c.name("other"))
			c.done(err)
			equal(t, "subscriptions", len(list)+len(other), 1)
		})
		s.clause("8.3.3", "a durable subscription that is consumed is not opened with "+what, func(t *testing.T, c *fixture) {
			session := c.sessionOn(c.withID())
			subscription := sub[string](c)(c.topicOf(session, "t").Durable(c.ctx, "d"))
			_, err := open(c, session)
			c.refused(err, polylog.ErrConflict)
			c.publishAll(c.topicOf(session, "t"), "x")
			equal(t, "received", take(c, subscription).Value, "x")
		})
	}
	s.clause("8.3.3", "a durable subscription with a selector that is opened without begins anew", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		c.close(sub[string](c)(topic.Durable(c.ctx, "d", polylog.WithSelector("p = '1'"))))
		c.publishAll(topic, "1")
		nothing(c, sub[string](c)(topic.Durable(c.ctx, "d")))
	})
	s.clause("8.3.3", "an empty selector is the same as none", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		c.close(sub[string](c)(topic.Durable(c.ctx, "d", polylog.WithSelector(""))))
		publish(c, topic, "x")
		wantTexts(t, "received", rest(c, sub[string](c)(topic.Durable(c.ctx, "d"))), "x")
	})
	s.clause("8.3.3", "noLocal leaves out what connections with the client id publish", func(t *testing.T, c *fixture) {
		con := c.withID()
		topic := c.topicOf(c.sessionOn(con), "t")
		subscription := sub[string](c)(topic.Durable(c.ctx, "d", polylog.WithNoLocal()))
		publish(c, c.topicOf(c.sessionOn(con), "t"), "own")
		publish(c, c.topicOf(c.session(), "t"), "other")
		wantTexts(t, "received", rest(c, subscription), "other")
	})
	s.clause("8.3.3", "a durable subscription is no shared one", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		c.close(sub[string](c)(topic.Durable(c.ctx, "d")))
		_, err := topic.SharedDurable(c.ctx, "d")
		c.refused(err, polylog.ErrConflict)
	})
	s.clause("8.3.3", "a durable and a shared nondurable subscription of one name are two", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		a, b := sub[string](c)(topic.Durable(c.ctx, "d")), sub[string](c)(topic.Shared(c.ctx, "d"))
		publish(c, topic, "x")
		equal(t, "received", take(c, a).Value+take(c, b).Value, "xx")
	})
	s.clause("8.3.3", "a durable subscription is consumed again after a break", func(t *testing.T, c *fixture) {
		con := c.breakable(polylog.WithClientID(c.name("id")))
		session := c.sessionOn(con, polylog.IndividualAcknowledge)
		subscription := sub[string](c)(c.topicOf(session, "t").Durable(c.ctx, "d"))
		c.publishAll(c.topicOf(c.session(), "t"), "1", "2")
		c.done(take(c, subscription).Ack(c.ctx))
		take(c, subscription)
		con.lose(c)
		publish(c, c.topicOf(c.session(), "t"), "3")
		d := take(c, subscription)
		equal(t, "received", fmt.Sprintf("%s/%d", d.Value, d.DeliveryCount()), "2/2")
		equal(t, "received", take(c, subscription).Value, "3")
	})
	s.clause("8.3.3", "messages of a durable subscription are kept until they are acknowledged", func(t *testing.T, c *fixture) {
		con := c.withID()
		session := c.sessionOn(con, polylog.ClientAcknowledge)
		subscription := sub[string](c)(c.topicOf(session, "t").Durable(c.ctx, "d"))
		c.publishAll(c.topicOf(c.session(), "t"), "1", "2", "3")
		c.done(take(c, subscription).Ack(c.ctx))
		take(c, subscription)
		c.done(session.Close(c.ctx))
		again := sub[string](c)(c.topicOf(c.sessionOn(con), "t").Durable(c.ctx, "d"))
		wantTexts(t, "received", rest(c, again), "2", "3")
	})
}

func sharedDurable(s *section) {
	s.clause("8.3.4", "a shared durable subscription gets everything, consumed or not", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		c.close(sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"))))
		c.publishAll(topic, "1", "2")
		wantTexts(t, "received", rest(c, sub[string](c)(c.topicOf(c.sessionOn(c.connect()), "t").SharedDurable(c.ctx, c.name("sub")))), "1", "2")
	})
	s.clause("8.3.4", "a shared durable subscription that nobody consumes begins anew with another topic", func(t *testing.T, c *fixture) {
		session := c.session()
		c.close(sub[string](c)(c.topicOf(session, "t").SharedDurable(c.ctx, c.name("sub"))))
		publish(c, c.topicOf(session, "t"), "before")
		subscription := sub[string](c)(c.topicOf(session, "other").SharedDurable(c.ctx, c.name("sub")))
		publish(c, c.topicOf(session, "other"), "after")
		wantTexts(t, "received", rest(c, subscription), "after")
	})
	s.clause("8.3.4", "a shared durable subscription that nobody consumes begins anew with another selector", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		c.close(sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"), polylog.WithSelector("p = '1'"))))
		c.publishAll(topic, "1", "2")
		subscription := sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"), polylog.WithSelector("p = '2'")))
		nothing(c, subscription)
		c.publishAll(topic, "1", "2")
		wantTexts(t, "received", rest(c, subscription), "2")
	})
	s.clause("8.3.4", "a shared durable subscription with unacknowledged messages does not begin anew", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		topic := c.topicOf(session, "t")
		subscription := sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))
		publish(c, topic, "x")
		take(c, subscription)
		c.close(subscription)
		_, err := topic.SharedDurable(c.ctx, c.name("sub"), polylog.WithSelector("p = '1'"))
		c.refused(err, polylog.ErrConflict)
		c.done(session.Acknowledge(c.ctx))
		sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"), polylog.WithSelector("p = '1'")))
	})
	s.clause("8.3.4", "a shared durable subscription is no unshared one", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		subscription := sub[string](c)(topic.SharedDurable(c.ctx, "d"))
		_, err := topic.Durable(c.ctx, "d")
		c.refused(err, polylog.ErrConflict)
		c.close(subscription)
		_, err = topic.Durable(c.ctx, "d")
		c.refused(err, polylog.ErrConflict)
	})
	s.clause("8.3.4", "a shared durable subscription without a client id and an unshared one of its name are two", func(t *testing.T, c *fixture) {
		a := sub[string](c)(c.topicOf(c.session(), "t").SharedDurable(c.ctx, c.name("sub")))
		b := sub[string](c)(c.topicOf(c.sessionOn(c.withID()), "t").Durable(c.ctx, c.name("sub")))
		publish(c, c.topicOf(c.session(), "t"), "x")
		equal(t, "received", take(c, a).Value+take(c, b).Value, "xx")
	})
	s.clause("8.3.4", "a shared durable and a shared nondurable subscription of one name are two", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		a, b := sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"))), sub[string](c)(topic.Shared(c.ctx, c.name("sub")))
		publish(c, topic, "x")
		equal(t, "received", take(c, a).Value+take(c, b).Value, "xx")
	})
	s.clause("8.3.4", "a shared durable subscription with a selector gets what matches", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		c.close(sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"), polylog.WithSelector("p = '2'"))))
		c.publishAll(topic, "1", "2")
		wantTexts(t, "received", rest(c, sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"), polylog.WithSelector("p = '2'")))), "2")
	})
	s.clause("8.3.4", "a message expires in a shared durable subscription", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		c.close(sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"))))
		publish(c, topic, "x", polylog.WithExpiry(time.Now().Add(-time.Second)))
		nothing(c, sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"))))
	})
}

func unsubscribing(s *section) {
	// Both kinds that are durable, with how they are opened and unsubscribed.
	for kind, of := range ordered(map[string]struct {
		clause string
		open   func(c *fixture, session *polylog.Session) (*polylog.Subscription[string], error)
		shared bool
	}{
		"unshared durable": {"8.3.3", func(c *fixture, session *polylog.Session) (*polylog.Subscription[string], error) {
			return c.topicOf(session, "t").Durable(c.ctx, c.name("sub"))
		}, false},
		"shared durable": {"8.3.4", func(c *fixture, session *polylog.Session) (*polylog.Subscription[string], error) {
			return c.topicOf(session, "t").SharedDurable(c.ctx, c.name("sub"))
		}, true},
	}) {
		s.clause(of.clause, "unsubscribe deletes a "+kind+" subscription with what it has", func(t *testing.T, c *fixture) {
			con := c.withID()
			session := c.sessionOn(con)
			c.close(sub[string](c)(of.open(c, session)))
			publish(c, c.topicOf(session, "t"), "x")
			c.done(con.Unsubscribe(c.ctx, c.name("sub"), of.shared))
			nothing(c, sub[string](c)(of.open(c, session)))
		})
		s.clause(of.clause, "unsubscribe fails while a "+kind+" subscription has a consumer", func(t *testing.T, c *fixture) {
			con := c.withID()
			session := c.sessionOn(con)
			subscription := sub[string](c)(of.open(c, session))
			c.refused(con.Unsubscribe(c.ctx, c.name("sub"), of.shared), polylog.ErrConflict)
			publish(c, c.topicOf(session, "t"), "x")
			equal(t, "received", take(c, subscription).Value, "x")
			c.close(subscription)
			c.done(con.Unsubscribe(c.ctx, c.name("sub"), of.shared))
		})
		s.clause(of.clause, "unsubscribe fails while a "+kind+" subscription has unacknowledged messages", func(t *testing.T, c *fixture) {
			con := c.withID()
			session := c.sessionOn(con, polylog.ClientAcknowledge)
			subscription := sub[string](c)(of.open(c, session))
			publish(c, c.topicOf(session, "t"), "x")
			take(c, subscription)
			c.close(subscription)
			c.refused(con.Unsubscribe(c.ctx, c.name("sub"), of.shared), polylog.ErrConflict)
			c.done(session.Acknowledge(c.ctx))
			c.done(con.Unsubscribe(c.ctx, c.name("sub"), of.shared))
		})
		s.clause(of.clause, "unsubscribe fails while a message of a "+kind+" subscription is in a transaction", func(t *testing.T, c *fixture) {
			con := c.withID()
			tx := c.sessionOn(con, polylog.Transacted)
			subscription := sub[string](c)(of.open(c, tx))
			publish(c, c.topicOf(c.session(), "t"), "x")
			take(c, subscription)
			c.close(subscription)
			c.refused(con.Unsubscribe(c.ctx, c.name("sub"), of.shared), polylog.ErrConflict)
			c.done(tx.Commit(c.ctx))
			c.done(con.Unsubscribe(c.ctx, c.name("sub"), of.shared))
		})
		s.clause(of.clause, "unsubscribe of a "+kind+" subscription that there is not is refused", func(t *testing.T, c *fixture) {
			c.refused(c.withID().Unsubscribe(c.ctx, c.name("sub"), of.shared), polylog.ErrNotFound)
		})
		s.clause(of.clause, "unsubscribe of a "+kind+" subscription twice is refused", func(t *testing.T, c *fixture) {
			con := c.withID()
			c.close(sub[string](c)(of.open(c, c.sessionOn(con))))
			c.done(con.Unsubscribe(c.ctx, c.name("sub"), of.shared))
			c.refused(con.Unsubscribe(c.ctx, c.name("sub"), of.shared), polylog.ErrNotFound)
		})
		s.clause(of.clause, "unsubscribe of another client id's "+kind+" subscription is refused", func(t *testing.T, c *fixture) {
			c.close(sub[string](c)(of.open(c, c.sessionOn(c.withID()))))
			other := c.connect(polylog.WithClientID(c.name("other")))
			c.refused(other.Unsubscribe(c.ctx, c.name("sub"), of.shared), polylog.ErrNotFound)
		})
		s.clause(of.clause, "an open "+kind+" subscription closes and deletes itself", func(t *testing.T, c *fixture) {
			session := c.sessionOn(c.withID())
			subscription := sub[string](c)(of.open(c, session))
			publish(c, c.topicOf(session, "t"), "x")
			c.done(subscription.Unsubscribe(c.ctx))
			nothing(c, sub[string](c)(of.open(c, session)))
		})
	}
	s.clause("8.3.3", "unsubscribe without a client id is refused", func(t *testing.T, c *fixture) {
		c.refused(c.connection().Unsubscribe(c.ctx, "d", false), polylog.ErrInvalid)
	})
	s.clause("8.3.4", "unsubscribe of a shared durable subscription needs no client id", func(t *testing.T, c *fixture) {
		c.close(sub[string](c)(c.topicOf(c.session(), "t").SharedDurable(c.ctx, c.name("sub"))))
		c.done(c.connection().Unsubscribe(c.ctx, c.name("sub"), true))
	})
	s.clause("8.3.4", "unsubscribe fails while one of several consumers is left", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		a, b := sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"))), sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))
		c.close(a)
		c.refused(c.connection().Unsubscribe(c.ctx, c.name("sub"), true), polylog.ErrConflict)
		c.done(b.Unsubscribe(c.ctx))
	})
	s.clause("8.3.2", "a shared nondurable subscription is not unsubscribed", func(t *testing.T, c *fixture) {
		c.close(sub[string](c)(c.topicOf(c.session(), "t").Shared(c.ctx, c.name("sub"))))
		c.refused(c.connection().Unsubscribe(c.ctx, c.name("sub"), true), polylog.ErrNotFound)
	})
}
