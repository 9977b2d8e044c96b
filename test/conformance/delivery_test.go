package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func deliveryOptions(s *section) {
	s.clause("7.4", "options are for the message that they are given with", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithPriority(9), polylog.WithTTL(time.Hour), polylog.NonPersistent(), polylog.WithGroup("g"), polylog.WithProperty("p", "v"))
		put(c, q, polylog.NewText("y"))
		take(c, q)
		m := take(c, q).Message()
		equal(t, "the second's", fmt.Sprint(m.Priority, m.Expiration, m.NonPersistent, m.Group(), len(m.Properties)), fmt.Sprint(4, 0, false, "", 0))
	})
	s.clause("7.4", "all options at once", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithPriority(8), polylog.WithTTL(time.Hour), polylog.WithDelay(time.Millisecond), polylog.NonPersistent(),
			polylog.WithGroup("g"), polylog.WithCorrelationID("c"), polylog.WithType("t"), polylog.WithReplyTo("r"), polylog.WithProperty("p", "v"))
		m := take(c, q).Message()
		equal(t, "header fields", fmt.Sprintf("%d %d %d %v %s %s %s %s %v", m.Priority, m.Expiration-m.Timestamp, m.DeliveryTime-m.Timestamp, m.NonPersistent, m.Group(), m.CorrelationID, m.Type, m.ReplyTo, m.Properties), "8 3600000 1 true g c t r map[p:v]")
	})
	s.clause("7.4", "the last of two options of a kind counts", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithPriority(1), polylog.WithPriority(2), polylog.WithTTL(time.Hour), polylog.WithTTL(0))
		m := take(c, q).Message()
		equal(t, "header fields", fmt.Sprint(m.Priority, m.Expiration), "2 0")
	})
	s.clause("7.5", "a property that is given with the send is the message's", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x", polylog.WithProperty("p", int16(7)))
		equal(t, "property", take(c, q).Message().Properties["p"], any(int16(7)))
	})
	s.clause("7.6", "header fields that are given with the send override the message's", func(t *testing.T, c *fixture) {
		q := c.messages()
		m := polylog.NewText("x")
		m.CorrelationID, m.Type, m.ReplyTo = "c", "t", "r"
		put(c, q, m, polylog.WithCorrelationID("C"), polylog.WithType("T"), polylog.WithReplyTo("R"))
		got := take(c, q).Message()
		equal(t, "header fields", got.CorrelationID+got.Type+got.ReplyTo, "CTR")
	})

	// §7.7
	for what, opts := range ordered(map[string][]polylog.PutOption{"PERSISTENT": nil, "NON_PERSISTENT": {polylog.NonPersistent()}}) {
		s.clause("7.7", "a "+what+" message is delivered once", func(t *testing.T, c *fixture) {
			q := c.texts()
			put(c, q, "x", opts...)
			wantTexts(t, "received", rest(c, q), "x")
		})
		s.clause("7.7", "a "+what+" message that was not acknowledged is delivered again", func(t *testing.T, c *fixture) {
			q := c.texts(polylog.ClientAcknowledge)
			put(c, q, "x", opts...)
			take(c, q)
			c.done(q.Session().Close(c.ctx))
			equal(t, "count", take(c, c.texts()).DeliveryCount(), 2)
		})
		s.clause("7.7", "a "+what+" message in a transaction", func(t *testing.T, c *fixture) {
			tx := c.session(polylog.Transacted)
			put(c, c.queueOf(tx, "q"), "1", opts...)
			c.done(tx.Rollback(c.ctx))
			put(c, c.queueOf(tx, "q"), "2", opts...)
			c.done(tx.Commit(c.ctx))
			wantTexts(t, "received", rest(c, c.texts()), "2")
		})
	}
	s.clause("7.7", "a destination takes messages of both delivery modes", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "1")
		put(c, q, "2", polylog.NonPersistent())
		put(c, q, "3")
		wantTexts(t, "received", rest(c, q), "1", "2", "3")
	})
	s.clause("7.7", "a destination in memory takes messages of both delivery modes", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"durability": "memory"}})
		c.done(err)
		q := c.texts()
		put(c, q, "1")
		put(c, q, "2", polylog.NonPersistent())
		wantTexts(t, "received", rest(c, q), "1", "2")
	})
}

// takeInTime receives a message that expires soon, before it does.
func takeInTime(c *fixture, q *polylog.Queue[string]) *polylog.Delivery[string] {
	c.t.Helper()
	for ttl := 30 * time.Millisecond; ; ttl *= 2 { // a slow machine needs a longer one
		put(c, q, "x", polylog.WithTTL(ttl))
		d, err := q.Take(c.ctx, polylog.NoWait())
		if !errors.Is(err, polylog.ErrNoMessage) {
			c.done(err)
			return d
		}
	}
}

func timeToLive(s *section) {
	soon := 25 * time.Millisecond
	s.clause("7.8", "a message lives until its time to live has passed", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x", polylog.WithTTL(time.Hour))
		equal(t, "received", take(c, q).Value, "x")
	})
	s.clause("7.8", "messages that expire do not hide those that do not", func(t *testing.T, c *fixture) {
		q := c.texts()
		past := polylog.WithExpiry(time.Now().Add(-time.Second))
		put(c, q, "1", past)
		put(c, q, "2")
		put(c, q, "3", past)
		put(c, q, "4", polylog.WithTTL(time.Hour))
		wantTexts(t, "received", rest(c, q), "2", "4")
	})
	s.clause("7.8", "a message expires in a durable subscription that nobody consumes", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		c.done(sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"))).Close(c.ctx))
		publish(c, topic, "x", polylog.WithTTL(soon))
		publish(c, topic, "y")
		sleepUntil(time.Now().Add(soon))
		wantTexts(t, "received", rest(c, sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))), "y")
	})
	s.clause("7.8", "a message expires while its consumer's session lets it come again", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		d := takeInTime(c, q)
		sleepUntil(time.UnixMilli(d.Message().Expiration))
		c.done(d.Release(c.ctx, 0))
		nothing(c, q)
	})
	s.clause("7.8", "what was delivered in time can be acknowledged later", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		d := takeInTime(c, q)
		sleepUntil(time.UnixMilli(d.Message().Expiration))
		c.done(d.Ack(c.ctx))
	})
	s.clause("7.8", "the time to live counts from the send, not from the delivery time", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x", polylog.WithTTL(20*time.Millisecond), polylog.WithDelay(40*time.Millisecond))
		sleepUntil(time.Now().Add(50 * time.Millisecond))
		nothing(c, q)
	})
	s.clause("7.8", "a message with a delay lives on after it", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x", polylog.WithTTL(time.Hour), polylog.WithDelay(10*time.Millisecond))
		equal(t, "received", take(c, q).Value, "x")
	})
	s.clause("7.8", "expired messages go where the destination says", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"expiry.destination": c.name("expired")}})
		c.done(err)
		q := c.texts()
		put(c, q, "x", polylog.WithExpiry(time.Now().Add(-time.Second)), polylog.WithProperty("p", "v"))
		nothing(c, q)
		d := take(c, c.queueOf(c.session(), "expired"))
		equal(t, "received", d.Value, "x")
		equal(t, "property", d.Message().Properties["p"], any("v"))
	})
	s.clause("7.8", "expired messages are no dead letters", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x", polylog.WithExpiry(time.Now().Add(-time.Second)))
		nothing(c, q)
		nothing(c, polylog.QueueOf[string](c.session(), "DLQ."+c.name("q")))
	})
	s.clause("7.8", "a message that expires after it was fetched ahead is not received", func(t *testing.T, c *fixture) {
		q := c.texts()
		for ttl := 50 * time.Millisecond; ttl < 5*time.Second; ttl *= 4 { // a slow machine needs a longer one
			put(c, q, "first")
			put(c, q, "expires", polylog.WithTTL(ttl))
			put(c, q, "last")
			for d, err := range q.Consume(c.ctx) {
				c.done(err)
				if d.Value == "first" {
					sleepUntil(time.Now().Add(ttl))
				}
				if d.Value == "expires" {
					return
				}
				if d.Value == "last" {
					break
				}
			}
		}
		t.Error("it was not received")
	}, deviates("clients should not receive messages that have expired; polylog's looks at the expiration only at the broker, so that a message that expires when it was fetched ahead is delivered"))
}

func deliveryDelay(s *section) {
	s.clause("7.9", "a consumer that waits gets a message at its delivery time", func(t *testing.T, c *fixture) {
		q := c.texts()
		done := c.background(func(ctx context.Context) {
			d, err := q.Take(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			if now := time.Now().UnixMilli(); now < d.Message().DeliveryTime {
				t.Errorf("%d ms too early", d.Message().DeliveryTime-now)
			}
		})
		put(c, c.queueOf(c.session(), "q"), "x", polylog.WithDelay(25*time.Millisecond))
		c.comes("the message", done)
	})
	s.clause("7.9", "a listener gets a message at its delivery time", func(t *testing.T, c *fixture) {
		q := c.texts()
		ctx, cancel := context.WithCancel(c.ctx)
		put(c, q, "x", polylog.WithDelay(25*time.Millisecond))
		c.done(q.Listen(ctx, func(_ context.Context, d *polylog.Delivery[string]) error {
			if now := time.Now().UnixMilli(); now < d.Message().DeliveryTime {
				t.Errorf("%d ms too early", d.Message().DeliveryTime-now)
			}
			cancel()
			return nil
		}))
	})
	s.clause("7.9", "a subscription gets a message at its delivery time", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x", polylog.WithDelay(25*time.Millisecond))
		d := take(c, subscription)
		if now := time.Now().UnixMilli(); now < d.Message().DeliveryTime {
			t.Errorf("%d ms too early", d.Message().DeliveryTime-now)
		}
	})
	s.clause("7.9", "a message is for the subscriptions that exist when it is sent", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		there := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x", polylog.WithDelay(25*time.Millisecond))
		later := sub[string](c)(topic.Subscribe(c.ctx))
		equal(t, "received", take(c, there).Value, "x")
		nothing(c, later)
	})
	s.clause("7.9", "a durable subscription that is inactive gets it too", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		c.done(sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub"))).Close(c.ctx))
		publish(c, topic, "x", polylog.WithDelay(10*time.Millisecond))
		equal(t, "received", take(c, sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))).Value, "x")
	})
	for _, delay := range []time.Duration{0, -time.Second} {
		s.clause("7.9", fmt.Sprintf("a delay of %v is none", delay), func(t *testing.T, c *fixture) {
			q := c.texts()
			put(c, q, "x", polylog.WithDelay(delay))
			wantTexts(t, "received", rest(c, q), "x")
		})
	}
	s.clause("7.9", "a delayed message of a transaction that is rolled back does not come", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		put(c, c.queueOf(tx, "q"), "x", polylog.WithDelay(5*time.Millisecond))
		c.done(tx.Rollback(c.ctx))
		sleepUntil(time.Now().Add(10 * time.Millisecond))
		nothing(c, c.texts())
	})
	s.clause("7.9", "a delivery time that has come before the commit", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		put(c, c.queueOf(tx, "q"), "x", polylog.WithDelay(5*time.Millisecond))
		sleepUntil(time.Now().Add(5 * time.Millisecond))
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", rest(c, c.texts()), "x")
	})
	s.clause("7.9", "a delayed message is selected as others", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "no", polylog.WithDelay(5*time.Millisecond), polylog.WithProperty("p", 1))
		put(c, q, "yes", polylog.WithDelay(5*time.Millisecond), polylog.WithProperty("p", 2))
		equal(t, "received", take(c, q, polylog.WithSelector("p = 2")).Value, "yes")
	})
	s.clause("7.9", "a delayed message of high priority comes first at its time", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "high", polylog.WithDelay(5*time.Millisecond), polylog.WithPriority(9))
		put(c, q, "low", polylog.WithPriority(1))
		sleepUntil(time.Now().Add(5 * time.Millisecond))
		wantTexts(t, "received", rest(c, q), "high", "low")
	})
	s.clause("7.9", "delayed and undelayed messages are all there in the end", func(t *testing.T, c *fixture) {
		q := c.texts()
		var sent []string
		for i := range 20 {
			sent = append(sent, fmt.Sprintf("%02d", i))
			c.done(q.PutAsync(c.ctx, sent[i], nil, polylog.WithDelay(time.Duration(i%4)*3*time.Millisecond)))
		}
		got := takeN(c, q, 20)
		slices.Sort(got)
		wantTexts(t, "received", got, sent...)
	})
}
