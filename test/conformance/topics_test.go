package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/destination/record"
)

// withID makes a connection with the client id of the case's own.
func (c *fixture) withID() *polylog.Connection {
	c.t.Helper()
	return c.connect(polylog.WithClientID(c.name("id")))
}

// kindsOfSubscription open a subscription of each kind that has a name. The
// session's connection has a client id.
var kindsOfSubscription = map[string]func(c *fixture, topic *polylog.Topic[string], name string, opts ...polylog.ConsumeOption) (*polylog.Subscription[string], error){
	"shared": func(c *fixture, topic *polylog.Topic[string], name string, opts ...polylog.ConsumeOption) (*polylog.Subscription[string], error) {
		return topic.Shared(c.ctx, name, opts...)
	},
	"unshared durable": func(c *fixture, topic *polylog.Topic[string], name string, opts ...polylog.ConsumeOption) (*polylog.Subscription[string], error) {
		return topic.Durable(c.ctx, name, opts...)
	},
	"shared durable": func(c *fixture, topic *polylog.Topic[string], name string, opts ...polylog.ConsumeOption) (*polylog.Subscription[string], error) {
		return topic.SharedDurable(c.ctx, name, opts...)
	},
}

func topics(s *section) {
	// §4.2.2
	s.clause("4.2.2", "every subscription gets a copy of every message", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		var subs []*polylog.Subscription[string]
		for range 3 {
			subs = append(subs, sub[string](c)(topic.Subscribe(c.ctx)))
		}
		subs = append(subs, sub[string](c)(topic.Shared(c.ctx, c.name("shared"))))
		for i := range 3 {
			publish(c, topic, fmt.Sprint(i))
		}
		for _, from := range subs {
			wantTexts(t, "received", takeN(c, from, 3), "0", "1", "2")
		}
	})
	s.clause("4.2.2", "to acknowledge one copy acknowledges no other", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(polylog.IndividualAcknowledge), c.name("t"))
		a, b := sub[string](c)(topic.Subscribe(c.ctx)), sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x")
		c.done(take(c, a).Ack(c.ctx))
		equal(t, "the other's", take(c, b).Value, "x")
	})
	s.clause("4.2.2", "a subscription that lags holds up no other", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(polylog.IndividualAcknowledge), c.name("t"))
		a, b := sub[string](c)(topic.Subscribe(c.ctx)), sub[string](c)(topic.Subscribe(c.ctx))
		for i := range 3 {
			publish(c, topic, fmt.Sprint(i))
		}
		take(c, a)
		wantTexts(t, "the other's", takeN(c, b, 3), "0", "1", "2")
	})
	s.clause("4.2.2", "a subscription gets what is sent after it was made", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		publish(c, topic, "before")
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "after")
		wantTexts(t, "received", rest(c, subscription), "after")
	})
	s.clause("4.2.2", "a topic without subscriptions keeps nothing for later ones", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		publish(c, topic, "x")
		nothing(c, sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"))))
	})
	s.clause("4.2.2", "a subscription's messages come in the order of the sends", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint(i))
			c.done(topic.PublishAsync(c.ctx, fmt.Sprint(i), nil))
		}
		wantTexts(t, "received", takeN(c, subscription, 50), want...)
	})
	s.clause("4.2.2", "what two sessions publish all subscriptions get", func(t *testing.T, c *fixture) {
		a, b := polylog.TopicOf[string](c.session(), c.name("t")), polylog.TopicOf[string](c.sessionOn(c.connect()), c.name("t"))
		subscription := sub[string](c)(a.Subscribe(c.ctx))
		publish(c, a, "1")
		publish(c, b, "2")
		wantTexts(t, "received", takeN(c, subscription, 2), "1", "2")
	})

	// §4.2.4
	for kind, open := range ordered(kindsOfSubscription) {
		for what, name := range ordered(map[string]string{
			"letters": "abcXYZ", "letters beyond ASCII": "größeЖ名", "digits": "0123456789", "underscores": "_a_b_", "dots": "a.b..c.", "minuses": "-a--b-", "128 characters": strings.Repeat("n", 100),
		}) {
			if what == "128 characters" { // with the case's prefix
				s.clause("4.2.4", "the name of a "+kind+" subscription may have "+what, func(t *testing.T, c *fixture) {
					topic := polylog.TopicOf[string](c.sessionOn(c.withID()), c.name("t"))
					name := c.name(strings.Repeat("n", 128-len(c.prefix)))
					equal(t, "name", sub[string](c)(open(c, topic, name)).Name(), name)
				})
				continue
			}
			s.clause("4.2.4", "the name of a "+kind+" subscription may have "+what, func(t *testing.T, c *fixture) {
				topic := polylog.TopicOf[string](c.sessionOn(c.withID()), c.name("t"))
				subscription := sub[string](c)(open(c, topic, name)) // the client id makes it unique
				publish(c, topic, "x")
				equal(t, "received", take(c, subscription).Value, "x")
				equal(t, "name", subscription.Name(), name)
			})
		}
		s.clause("4.2.4", "a "+kind+" subscription has a name", func(t *testing.T, c *fixture) {
			_, err := open(c, polylog.TopicOf[string](c.sessionOn(c.withID()), c.name("t")), "")
			c.refused(err, polylog.ErrInvalid)
		})
		s.clause("4.2.4", "the name of a "+kind+" subscription has a bound, which is told", func(t *testing.T, c *fixture) {
			_, err := open(c, polylog.TopicOf[string](c.sessionOn(c.withID()), c.name("t")), strings.Repeat("n", 1025))
			c.refused(err, polylog.ErrTooLarge)
		})
	}

	// §4.2.5 and §4.2.6
	s.clause("4.2.5", "a topic is made by its first use", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x")
		equal(t, "received", take(c, subscription).Value, "x")
	})
	for _, name := range []string{"a/b/c", "a b", "größe", "news*", "#", "topic://a"} {
		s.clause("4.2.6", fmt.Sprintf("a topic may be named %q", name), func(t *testing.T, c *fixture) {
			topic := polylog.TopicOf[string](c.session(), c.name(name))
			subscription := sub[string](c)(topic.Subscribe(c.ctx))
			publish(c, topic, name)
			equal(t, "received", take(c, subscription).Value, name)
		})
	}
	s.clause("4.2.6", "a queue is no topic", func(t *testing.T, c *fixture) {
		put(c, c.texts(), "x")
		_, err := c.session().Topic(c.name("q")).Subscribe(c.ctx)
		c.refused(err, polylog.ErrWrongKind)
		_, err = c.session().Topic(c.name("q")).Publish(c.ctx, polylog.NewText("x"))
		c.refused(err, polylog.ErrWrongKind)
	})

	// §4.2.7
	s.clause("4.2.7", "a temporary topic is consumed by its connection", func(t *testing.T, c *fixture) {
		topic, err := c.session().TemporaryTopic(c.ctx)
		c.done(err)
		subscription := sub[*polylog.Message](c)(topic.Subscribe(c.ctx))
		publish(c, topic, polylog.NewText("x"))
		equal(t, "received", take(c, subscription).Value.Text(), "x")
	})
	s.clause("4.2.7", "a temporary topic is consumed by any session of its connection", func(t *testing.T, c *fixture) {
		topic, err := c.session().TemporaryTopic(c.ctx)
		c.done(err)
		subscription := sub[*polylog.Message](c)(c.session().Topic(topic.Name()).Subscribe(c.ctx))
		publish(c, topic, polylog.NewText("x"))
		equal(t, "received", take(c, subscription).Value.Text(), "x")
	})
	s.clause("4.2.7", "a temporary topic is consumed by no other connection", func(t *testing.T, c *fixture) {
		topic, err := c.session().TemporaryTopic(c.ctx)
		c.done(err)
		_, err = c.sessionOn(c.connect()).Topic(topic.Name()).Subscribe(c.ctx)
		c.refused(err, polylog.ErrUnauthorized)
	})
	s.clause("4.2.7", "another connection may publish to a temporary topic", func(t *testing.T, c *fixture) {
		topic, err := c.session().TemporaryTopic(c.ctx)
		c.done(err)
		subscription := sub[*polylog.Message](c)(topic.Subscribe(c.ctx))
		publish(c, c.sessionOn(c.connect()).Topic(topic.Name()), polylog.NewText("x"))
		equal(t, "received", take(c, subscription).Value.Text(), "x")
	})
	s.clause("4.2.7", "a temporary topic is gone with its connection", func(t *testing.T, c *fixture) {
		con := c.connect()
		topic, err := c.sessionOn(con).TemporaryTopic(c.ctx)
		c.done(err)
		c.done(con.Close())
		c.until("the topic's end", func() bool {
			_, err := c.connection().Admin().Describe(c.ctx, topic.Name())
			return err != nil
		})
		_, err = c.session().Topic(topic.Name()).Publish(c.ctx, polylog.NewText("x"))
		if err == nil {
			t.Error("it took a message")
		}
	})

	// §4.2.8
	s.clause("4.2.8", "a nondurable subscription recovers what is not acknowledged", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		topic := polylog.TopicOf[string](session, c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x")
		take(c, subscription)
		c.done(session.Recover(c.ctx))
		d := take(c, subscription)
		equal(t, "received", d.Value, "x")
		equal(t, "redelivered", d.Redelivered(), true)
	})
	s.clause("4.2.8", "a durable subscription recovers what a closed session did not acknowledge", func(t *testing.T, c *fixture) {
		con := c.withID()
		session := c.sessionOn(con, polylog.ClientAcknowledge)
		topic := polylog.TopicOf[string](session, c.name("t"))
		subscription := sub[string](c)(topic.Durable(c.ctx, "d"))
		publish(c, topic, "x")
		take(c, subscription)
		c.done(session.Close(c.ctx))
		again := sub[string](c)(polylog.TopicOf[string](c.sessionOn(con), c.name("t")).Durable(c.ctx, "d"))
		d := take(c, again)
		equal(t, "received", d.Value, "x")
		equal(t, "redelivered", d.Redelivered(), true)
	})

	// §4.2.10
	s.clause("4.2.10", "a request is answered over a temporary topic", func(t *testing.T, c *fixture) {
		session := c.session()
		answers, err := session.TemporaryTopic(c.ctx)
		c.done(err)
		subscription := sub[*polylog.Message](c)(answers.Subscribe(c.ctx))
		q := c.messages()
		request := polylog.NewText("x")
		request.ReplyTo, request.ReplyToKind = answers.Name(), record.DestinationTemporaryTopic
		r := put(c, q, request)
		c.done(polylog.Reply(c.ctx, c.sessionOn(c.connect()), take(c, q).Message(), "y"))
		reply := take(c, subscription).Message()
		equal(t, "reply", reply.Text(), "y")
		equal(t, "correlation id", reply.CorrelationID, r.MessageID())
	})

	// §4.2.11
	s.clause("4.2.11", "a durable subscription gets what came while it was inactive", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.sessionOn(c.withID()), c.name("t"))
		c.done(sub[string](c)(topic.Durable(c.ctx, "d")).Close(c.ctx))
		publish(c, topic, "x")
		equal(t, "received", take(c, sub[string](c)(topic.Durable(c.ctx, "d"))).Value, "x")
	})
	s.clause("4.2.11", "a nondurable subscription misses what comes when it is closed", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		c.done(sub[string](c)(topic.Subscribe(c.ctx)).Close(c.ctx))
		publish(c, topic, "missed")
		nothing(c, sub[string](c)(topic.Subscribe(c.ctx)))
	})
}
