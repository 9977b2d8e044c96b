package conformance

import (
	"context"
	"fmt"
	"slices"
	"testing"

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

// noLocalNeeds is said of noLocal.
const noLocalNeeds = "noLocal of an unshared nondurable subscription goes by the connection; polylog's goes by the client id, and is refused without one"

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
		wantTexts(t, "received", rest(c, subscription))
	})
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
		wantTexts(t, "the last one", rest(c, sub[string](c)(topic.Subscribe(c.ctx, polylog.FromLast(1)))), "3")
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
