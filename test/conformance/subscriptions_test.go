package conformance

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func subscriptions(s *section) {
	unshared(s)
	sharedSubscriptions(s)
	durable(s)
	sharedDurable(s)
	subscriptionNames(s)
	unsubscribing(s)
	exclusive(s)
}

// topicOf is a topic of text messages of a session.
func (c *fixture) topicOf(s *polylog.Session, of string) *polylog.Topic[string] {
	return polylog.TopicOf[string](s, c.name(of))
}

// close closes a subscription.
func (c *fixture) close(s *polylog.Subscription[string]) {
	c.t.Helper()
	c.done(s.Close(c.ctx))
}

// publishAll publishes several messages, each with its text as the property p.
func (c *fixture) publishAll(topic *polylog.Topic[string], texts ...string) {
	c.t.Helper()
	for _, text := range texts {
		publish(c, topic, text, polylog.WithProperty("p", text))
	}
}

// What is said of noLocal.
const (
	noLocalFails = "with noLocal a subscription does not get what its own connection, or one with its client id, publishes; polylog's Go client does not put the client id into what it sends, so that all of it comes"
	noLocalNeeds = "noLocal of an unshared nondurable subscription goes by the connection; polylog's goes by the client id, and is refused without one"
)

func unshared(s *section) {
	s.clause("8.3.1", "every unshared subscription is a new one", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		a, b := sub[string](c)(topic.Subscribe(c.ctx)), sub[string](c)(topic.Subscribe(c.ctx))
		equal(t, "names", a.Name()+b.Name(), "")
		publish(c, topic, "x")
		equal(t, "received", take(c, a).Value+take(c, b).Value, "xx")
	})
	s.clause("8.3.1", "an unshared subscription is gone with its consumer, and so is what it had", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x")
		c.close(subscription)
		nothing(c, sub[string](c)(topic.Subscribe(c.ctx)))
		c.until("the subscription's end", func() bool {
			list, err := c.connection().Admin().Subscriptions(c.ctx, c.name("t"))
			return err == nil && len(list) == 1
		})
	})
	for what, end := range ordered(map[string]func(c *fixture, con *polylog.Connection, session *polylog.Session) error{
		"session":    func(c *fixture, _ *polylog.Connection, session *polylog.Session) error { return session.Close(c.ctx) },
		"connection": func(_ *fixture, con *polylog.Connection, _ *polylog.Session) error { return con.Close() },
	}) {
		s.clause("8.3.1", "an unshared subscription is gone with its "+what, func(t *testing.T, c *fixture) {
			con := c.connect()
			session := c.sessionOn(con)
			sub[string](c)(c.topicOf(session, "t").Subscribe(c.ctx))
			c.done(end(c, con, session))
			c.until("the subscription's end", func() bool {
				list, err := c.connection().Admin().Subscriptions(c.ctx, c.name("t"))
				return err == nil && len(list) == 0
			})
		})
	}
	s.clause("8.3.1", "an unshared subscription with a selector gets what matches", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		subscription := sub[string](c)(topic.Subscribe(c.ctx, polylog.WithSelector("p IN ('1', '3')")))
		c.publishAll(topic, "1", "2", "3")
		wantTexts(t, "received", rest(c, subscription), "1", "3")
	})
	s.clause("8.3.1", "an unshared subscription receives over breaks, but not what came meanwhile", func(t *testing.T, c *fixture) {
		con := c.breakable()
		session := c.sessionOn(con)
		subscription := sub[string](c)(c.topicOf(session, "t").Subscribe(c.ctx))
		con.lose(c)
		publish(c, c.topicOf(session, "t"), "x") // over the next connection
		equal(t, "received", take(c, subscription).Value, "x")
	})
	s.clause("8.3.1", "noLocal leaves out what the connection publishes", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.sessionOn(c.withID()), "t")
		subscription := sub[string](c)(topic.Subscribe(c.ctx, polylog.WithNoLocal()))
		publish(c, topic, "own")
		wantTexts(t, "received", rest(c, subscription), "own")
	}, deviates(noLocalFails))
	s.clause("8.3.1", "noLocal lets in what others publish", func(t *testing.T, c *fixture) {
		subscription := sub[string](c)(c.topicOf(c.sessionOn(c.withID()), "t").Subscribe(c.ctx, polylog.WithNoLocal()))
		publish(c, c.topicOf(c.session(), "t"), "of nobody")
		publish(c, c.topicOf(c.sessionOn(c.connect(polylog.WithClientID(c.name("other")))), "t"), "of another")
		wantTexts(t, "received", rest(c, subscription), "of nobody", "of another")
	})
	s.clause("8.3.1", "noLocal needs no client id", func(t *testing.T, c *fixture) {
		_, err := c.topicOf(c.session(), "t").Subscribe(c.ctx, polylog.WithNoLocal())
		c.refused(err, polylog.ErrInvalid)
	}, deviates(noLocalNeeds))
	s.clause("8.3.1", "a subscription can begin with what is still kept", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		c.publishAll(topic, "1", "2", "3")
		wantTexts(t, "from the beginning", rest(c, sub[string](c)(topic.Subscribe(c.ctx, polylog.FromBeginning()))), "1", "2", "3")
		wantTexts(t, "from an offset", rest(c, sub[string](c)(topic.Subscribe(c.ctx, polylog.FromOffset(2)))), "3")
	})
}

// sharing are the kinds of subscription that several consumers share.
var sharing = map[string]struct {
	clause string
	open   func(c *fixture, topic *polylog.Topic[string], opts ...polylog.ConsumeOption) (*polylog.Subscription[string], error)
}{
	"shared": {"8.3.2", func(c *fixture, topic *polylog.Topic[string], opts ...polylog.ConsumeOption) (*polylog.Subscription[string], error) {
		return topic.Shared(c.ctx, c.name("sub"), opts...)
	}},
	"shared durable": {"8.3.4", func(c *fixture, topic *polylog.Topic[string], opts ...polylog.ConsumeOption) (*polylog.Subscription[string], error) {
		return topic.SharedDurable(c.ctx, c.name("sub"), opts...)
	}},
}

// sharedSubscriptions is what both kinds of shared subscription have in common, and
// what is only the nondurable one's.
func sharedSubscriptions(s *section) {
	for kind, of := range ordered(sharing) {
		s.clause(of.clause, "consumers of a "+kind+" subscription share its messages", func(t *testing.T, c *fixture) {
			a, b := sub[string](c)(of.open(c, c.topicOf(c.session(), "t"))), sub[string](c)(of.open(c, c.topicOf(c.sessionOn(c.connect()), "t")))
			topic := c.topicOf(c.session(), "t")
			var sent []string
			for i := range 40 {
				sent = append(sent, fmt.Sprintf("%02d", i))
				publish(c, topic, sent[i])
			}
			got := shared(c, a, b)
			for _, list := range got {
				if !slices.IsSorted(list) {
					t.Errorf("%v", list)
				}
			}
			all := slices.Concat(got...)
			slices.Sort(all)
			wantTexts(t, "received", all, sent...)
		})
		s.clause(of.clause, "consumers of one session share a "+kind+" subscription", func(t *testing.T, c *fixture) {
			topic := c.topicOf(c.session(polylog.IndividualAcknowledge), "t")
			a, b := sub[string](c)(of.open(c, topic)), sub[string](c)(of.open(c, topic))
			c.publishAll(topic, "1", "2")
			equal(t, "received", take(c, a).Value, "1")
			equal(t, "received", take(c, b).Value, "2")
		})
		s.clause(of.clause, "a "+kind+" subscription with another client id is another one", func(t *testing.T, c *fixture) {
			a := sub[string](c)(of.open(c, c.topicOf(c.sessionOn(c.connect(polylog.WithClientID(c.name("a")))), "t")))
			b := sub[string](c)(of.open(c, c.topicOf(c.sessionOn(c.connect(polylog.WithClientID(c.name("b")))), "t")))
			none := sub[string](c)(of.open(c, c.topicOf(c.session(), "t")))
			publish(c, c.topicOf(c.session(), "t"), "x")
			for _, from := range []*polylog.Subscription[string]{a, b, none} {
				wantTexts(t, "received", rest(c, from), "x")
			}
		})
		s.clause(of.clause, "a "+kind+" subscription needs no client id", func(t *testing.T, c *fixture) {
			sub[string](c)(of.open(c, c.topicOf(c.session(), "t")))
		})
		s.clause(of.clause, "consumers of a "+kind+" subscription with a client id have it", func(t *testing.T, c *fixture) {
			con := c.withID()
			a, b := sub[string](c)(of.open(c, c.topicOf(c.sessionOn(con), "t"))), sub[string](c)(of.open(c, c.topicOf(c.sessionOn(con), "t")))
			publish(c, c.topicOf(c.session(), "t"), "x")
			equal(t, "received", len(rest(c, a))+len(rest(c, b)), 1)
		})
		s.clause(of.clause, "a "+kind+" subscription that is consumed is not opened with another topic", func(t *testing.T, c *fixture) {
			session := c.session()
			subscription := sub[string](c)(of.open(c, c.topicOf(session, "t")))
			_, err := of.open(c, c.topicOf(session, "other"))
			c.refused(err, polylog.ErrConflict)
			publish(c, c.topicOf(session, "t"), "x")
			equal(t, "received", take(c, subscription).Value, "x")
		})
		s.clause(of.clause, "a "+kind+" subscription that is consumed is not opened with another selector", func(t *testing.T, c *fixture) {
			topic := c.topicOf(c.session(), "t")
			subscription := sub[string](c)(of.open(c, topic, polylog.WithSelector("p = '1'")))
			for _, selector := range []string{"p = '2'", ""} {
				_, err := of.open(c, topic, polylog.WithSelector(selector))
				c.refused(err, polylog.ErrConflict)
			}
			c.publishAll(topic, "1", "2")
			wantTexts(t, "received", rest(c, subscription), "1")
		})
		s.clause(of.clause, "a "+kind+" subscription is opened again with its own selector", func(t *testing.T, c *fixture) {
			topic := c.topicOf(c.session(polylog.IndividualAcknowledge), "t")
			a, b := sub[string](c)(of.open(c, topic, polylog.WithSelector("p <> '0'"))), sub[string](c)(of.open(c, topic, polylog.WithSelector("p <> '0'")))
			c.publishAll(topic, "0", "1", "2")
			equal(t, "received", take(c, a).Value, "1")
			equal(t, "received", take(c, b).Value, "2")
		})
		s.clause(of.clause, "the name of a "+kind+" subscription is one for all topics", func(t *testing.T, c *fixture) {
			session := c.session()
			sub[string](c)(of.open(c, c.topicOf(session, "t")))
			_, err := of.open(c, c.topicOf(session, "other"))
			c.refused(err, polylog.ErrConflict)
		})
		s.clause(of.clause, "what a consumer of a "+kind+" subscription leaves goes to the others", func(t *testing.T, c *fixture) {
			session := c.session(polylog.ClientAcknowledge)
			a, b := sub[string](c)(of.open(c, c.topicOf(session, "t"))), sub[string](c)(of.open(c, c.topicOf(c.session(), "t")))
			publish(c, c.topicOf(c.session(), "t"), "x")
			take(c, a)
			nothing(c, b)
			c.done(session.Close(c.ctx))
			d := take(c, b)
			equal(t, "received", fmt.Sprintf("%s/%d", d.Value, d.DeliveryCount()), "x/2")
		})
		s.clause(of.clause, "a "+kind+" subscription has no noLocal", func(t *testing.T, c *fixture) {
			_, err := of.open(c, c.topicOf(c.sessionOn(c.withID()), "t"), polylog.WithNoLocal())
			c.refused(err, polylog.ErrInvalid)
		})
		s.clause(of.clause, "a "+kind+" subscription goes on while one consumer is left", func(t *testing.T, c *fixture) {
			topic := c.topicOf(c.session(), "t")
			a, b := sub[string](c)(of.open(c, topic)), sub[string](c)(of.open(c, topic))
			publish(c, topic, "1")
			c.close(a)
			publish(c, topic, "2")
			wantTexts(t, "received", rest(c, b), "1", "2")
		})
	}
	s.clause("8.3.2", "a shared subscription is gone with its last consumer, and so is what it had", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		a, b := sub[string](c)(topic.Shared(c.ctx, c.name("sub"))), sub[string](c)(topic.Shared(c.ctx, c.name("sub")))
		publish(c, topic, "x")
		c.close(a)
		c.close(b)
		publish(c, topic, "y")
		nothing(c, sub[string](c)(topic.Shared(c.ctx, c.name("sub"))))
	})
	s.clause("8.3.2", "a shared subscription that nobody consumes is opened with another topic and selector", func(t *testing.T, c *fixture) {
		session := c.session()
		c.close(sub[string](c)(c.topicOf(session, "t").Shared(c.ctx, c.name("sub"))))
		other := c.topicOf(session, "other")
		subscription := sub[string](c)(other.Shared(c.ctx, c.name("sub"), polylog.WithSelector("p = '1'")))
		c.publishAll(other, "0", "1")
		wantTexts(t, "received", rest(c, subscription), "1")
	})
	s.clause("8.3.2", "a shared subscription with a selector gets what matches", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		subscription := sub[string](c)(topic.Shared(c.ctx, c.name("sub"), polylog.WithSelector("p > 1")))
		publish(c, topic, "1", polylog.WithProperty("p", 1))
		publish(c, topic, "2", polylog.WithProperty("p", 2))
		wantTexts(t, "received", rest(c, subscription), "2")
	})
}

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
		wantTexts(t, "received", rest(c, subscription), "own", "other")
	}, deviates(noLocalFails))
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

func subscriptionNames(s *section) {
	for kind, open := range ordered(kindsOfSubscription) {
		s.clause("8.3", "the name of a "+kind+" subscription is case-sensitive", func(t *testing.T, c *fixture) {
			topic := c.topicOf(c.sessionOn(c.withID()), "t")
			a, b := sub[string](c)(open(c, topic, "name")), sub[string](c)(open(c, topic, "NAME"))
			publish(c, topic, "x")
			equal(t, "received", take(c, a).Value+take(c, b).Value, "xx")
		})
		s.clause("8.3", "a "+kind+" subscription on a queue is refused", func(t *testing.T, c *fixture) {
			put(c, c.texts(), "x")
			_, err := open(c, c.topicOf(c.sessionOn(c.withID()), "q"), c.name("sub"))
			c.refused(err, polylog.ErrWrongKind)
		})
	}
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

// exclusive is a kind of polylog's own: durable, with consumers that stand by.
func exclusive(s *section) {
	s.clause("8.3", "an exclusive subscription serves one consumer while others stand by", func(t *testing.T, c *fixture) {
		topic := c.topicOf(c.session(), "t")
		a, b := sub[string](c)(topic.Exclusive(c.ctx, c.name("sub"))), sub[string](c)(topic.Exclusive(c.ctx, c.name("sub")))
		c.publishAll(topic, "1", "2")
		equal(t, "received", take(c, a).Value, "1")
		nothing(c, b)
		c.close(a)
		equal(t, "received", take(c, b).Value, "2")
	})
	s.clause("8.3", "an exclusive consumer of a queue is served alone", func(t *testing.T, c *fixture) {
		first, second := c.texts(), c.texts()
		// consumes tells what a consumer has, until its session closes.
		consumes := func(q *polylog.Queue[string]) (seen chan string) {
			seen = make(chan string, 10)
			c.background(func(ctx context.Context) {
				for d, err := range q.Consume(ctx, polylog.WithExclusive()) {
					if err != nil {
						return
					}
					seen <- d.Value
				}
			})
			return seen
		}
		a := consumes(first)
		put(c, c.texts(), "1")
		equal(t, "the first's", <-a, "1")
		b := consumes(second)
		c.until("the second consumer", func() bool {
			info, err := c.connection().Admin().Describe(c.ctx, c.name("q"))
			return err == nil && info.Queue != nil && info.Queue.Consumers == 2
		})
		put(c, c.texts(), "2")
		equal(t, "the first's", <-a, "2")
		c.done(first.Session().Close(c.ctx))
		put(c, c.texts(), "3")
		equal(t, "the second's", <-b, "3")
	})
}
