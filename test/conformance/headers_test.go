package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/destination/record"
)

// honoured is what a message's own fields do, which the specification has ignored.
const honoured = "a value that the client sets on the message before sending is to be ignored and overwritten by what the producer says; polylog's Message fields are an alternative to the PutOptions, and are sent as they are"

// unchanged is what becomes of the message that was sent.
const unchanged = "the provider sets this field on the message that is sent; polylog leaves the sender's message as it is, and of the fields gives only the message id back, in the Receipt"

func headers(s *section) {
	sent := func(c *fixture, opts ...polylog.PutOption) *polylog.Message {
		c.t.Helper()
		q := c.messages()
		put(c, q, polylog.NewText("x"), opts...)
		return take(c, q).Message()
	}
	sentWith := func(c *fixture, set func(m *polylog.Message)) *polylog.Message {
		c.t.Helper()
		q := c.messages()
		m := polylog.NewText("x")
		set(m)
		put(c, q, m)
		return take(c, q).Message()
	}

	// §3.4.1
	s.clause("3.4.1", "JMSDestination is the queue that it was sent to", func(t *testing.T, c *fixture) {
		equal(t, "destination", sent(c).Destination, c.name("q"))
	})
	s.clause("3.4.1", "JMSDestination is the topic that it was sent to", func(t *testing.T, c *fixture) {
		topic := c.session().Topic(c.name("t"))
		subscription := sub[*polylog.Message](c)(topic.Subscribe(c.ctx))
		publish(c, topic, polylog.NewText("x"))
		equal(t, "destination", take(c, subscription).Message().Destination, c.name("t"))
	})
	s.clause("3.4.1", "JMSDestination is the temporary queue that it was sent to", func(t *testing.T, c *fixture) {
		q, err := c.session().TemporaryQueue(c.ctx)
		c.done(err)
		put(c, q, polylog.NewText("x"))
		equal(t, "destination", take(c, q).Message().Destination, q.Name())
	})
	s.clause("3.4.1", "JMSDestination set on a message is ignored by the send", func(t *testing.T, c *fixture) {
		m := sentWith(c, func(m *polylog.Message) { m.Destination = "elsewhere" })
		equal(t, "destination", m.Destination, c.name("q"))
	})
	s.clause("3.4.1", "JMSDestination of a delivery without its message", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		equal(t, "destination", take(c, q).Destination(), c.name("q"))
	})

	// §3.4.2
	s.clause("3.4.2", "JMSDeliveryMode is PERSISTENT by default", func(t *testing.T, c *fixture) {
		equal(t, "non-persistent", sent(c).NonPersistent, false)
	})
	s.clause("3.4.2", "JMSDeliveryMode is NON_PERSISTENT where the send says so", func(t *testing.T, c *fixture) {
		equal(t, "non-persistent", sent(c, polylog.NonPersistent()).NonPersistent, true)
	})
	s.clause("3.4.2", "JMSDeliveryMode set on a message is ignored by the send", func(t *testing.T, c *fixture) {
		m := sentWith(c, func(m *polylog.Message) { m.NonPersistent = true })
		equal(t, "non-persistent", m.NonPersistent, true)
	}, deviates(honoured))

	// §3.4.3
	s.clause("3.4.3", "JMSMessageID begins with ID:", func(t *testing.T, c *fixture) {
		if id := sent(c).ID; !strings.HasPrefix(id, "ID:") || len(id) == len("ID:") {
			t.Errorf("message id %q", id)
		}
	})
	s.clause("3.4.3", "JMSMessageID is known when the send returns", func(t *testing.T, c *fixture) {
		q := c.messages()
		r := put(c, q, polylog.NewText("x"))
		equal(t, "message id", take(c, q).Message().ID, r.MessageID())
	})
	s.clause("3.4.3", "JMSMessageID is known in the completion of an asynchronous send", func(t *testing.T, c *fixture) {
		q := c.messages()
		ids := make(chan string, 1)
		c.done(q.PutAsync(c.ctx, polylog.NewText("x"), func(r polylog.Receipt, _ error) { ids <- r.MessageID() }))
		equal(t, "message id", take(c, q).Message().ID, <-ids)
	})
	s.clause("3.4.3", "JMSMessageID set on a message is ignored by the send", func(t *testing.T, c *fixture) {
		m := sentWith(c, func(m *polylog.Message) { m.ID = "ID:mine" })
		if m.ID == "ID:mine" || !strings.HasPrefix(m.ID, "ID:") {
			t.Errorf("message id %q", m.ID)
		}
	})
	s.clause("3.4.3", "JMSMessageID is unique in a session", func(t *testing.T, c *fixture) {
		q := c.texts()
		seen := map[string]bool{}
		for range 200 {
			c.done(q.PutAsync(c.ctx, "x", func(r polylog.Receipt, _ error) { seen[r.MessageID()] = true }))
		}
		c.done(q.Session().Flush(c.ctx))
		equal(t, "distinct ids", len(seen), 200)
	})
	s.clause("3.4.3", "JMSMessageID is unique among sessions and connections", func(t *testing.T, c *fixture) {
		seen := map[string]bool{}
		for range 3 {
			con := c.connect()
			for range 3 {
				seen[put(c, c.sessionOn(con).Queue(c.name("q")), polylog.NewText("x")).MessageID()] = true
			}
		}
		equal(t, "distinct ids", len(seen), 9)
	})
	s.clause("3.4.3", "JMSMessageID is another one when a message is sent again", func(t *testing.T, c *fixture) {
		q := c.messages()
		m := polylog.NewText("x")
		if a, b := put(c, q, m), put(c, q, m); a.MessageID() == b.MessageID() {
			t.Errorf("both are %s", a.MessageID())
		}
	})
	s.clause("3.4.3", "JMSMessageID is another one when a received message is forwarded", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"))
		m := take(c, q).Message()
		if r := put(c, q, m); r.MessageID() == m.ID {
			t.Errorf("both are %s", m.ID)
		}
	})
	s.clause("3.4.3", "JMSMessageID is the same for every subscription", func(t *testing.T, c *fixture) {
		topic := c.session().Topic(c.name("t"))
		a, b := sub[*polylog.Message](c)(topic.Subscribe(c.ctx)), sub[*polylog.Message](c)(topic.Subscribe(c.ctx))
		r := publish(c, topic, polylog.NewText("x"))
		equal(t, "first", take(c, a).Message().ID, r.MessageID())
		equal(t, "second", take(c, b).Message().ID, r.MessageID())
	})
	s.clause("3.4.3", "JMSMessageID stays when a message is delivered again", func(t *testing.T, c *fixture) {
		q := c.messages(polylog.IndividualAcknowledge)
		put(c, q, polylog.NewText("x"))
		d := take(c, q)
		c.done(d.Release(c.ctx, 0))
		equal(t, "message id", take(c, q).Message().ID, d.Message().ID)
	})

	// §3.4.4
	between := func(t *testing.T, what string, ms int64, from, to time.Time) {
		t.Helper()
		if ms < from.UnixMilli() || ms > to.UnixMilli() {
			t.Errorf("%s %d, want between %d and %d", what, ms, from.UnixMilli(), to.UnixMilli())
		}
	}
	s.clause("3.4.4", "JMSTimestamp is between the call and the return of send", func(t *testing.T, c *fixture) {
		q := c.messages()
		from := time.Now()
		put(c, q, polylog.NewText("x"))
		to := time.Now()
		between(t, "timestamp", take(c, q).Message().Timestamp, from, to)
	})
	s.clause("3.4.4", "JMSTimestamp of what is published", func(t *testing.T, c *fixture) {
		topic := c.session().Topic(c.name("t"))
		subscription := sub[*polylog.Message](c)(topic.Subscribe(c.ctx))
		from := time.Now()
		publish(c, topic, polylog.NewText("x"))
		to := time.Now()
		between(t, "timestamp", take(c, subscription).Message().Sent().UnixMilli(), from, to)
	})
	s.clause("3.4.4", "JMSTimestamp set on a message is ignored by the send", func(t *testing.T, c *fixture) {
		from := time.Now()
		m := sentWith(c, func(m *polylog.Message) { m.Timestamp = 1 })
		between(t, "timestamp", m.Timestamp, from, time.Now())
	})
	s.clause("3.4.4", "JMSTimestamp is when a message was handed over, not when its transaction committed", func(t *testing.T, c *fixture) {
		session := c.session(polylog.Transacted)
		q := session.Queue(c.name("q"))
		put(c, q, polylog.NewText("x"))
		to := time.Now()
		time.Sleep(2 * time.Millisecond) // so that the commit is later
		c.done(session.Commit(c.ctx))
		between(t, "timestamp", take(c, q).Message().Timestamp, time.UnixMilli(0), to)
	})
	s.clause("3.4.4", "JMSTimestamp of a delayed message is that of the send", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithDelay(10*time.Millisecond))
		to := time.Now()
		between(t, "timestamp", take(c, q).Message().Timestamp, time.UnixMilli(0), to)
	})

	// §3.4.5
	for what, id := range ordered(map[string]string{
		"an application's text": "order 7", "a message id": "ID:somebody-1", "characters beyond ASCII": "größe €", "a long text": strings.Repeat("x", 4000),
	}) {
		s.clause("3.4.5", "JMSCorrelationID holds "+what, func(t *testing.T, c *fixture) {
			equal(t, "correlation id", sent(c, polylog.WithCorrelationID(id)).CorrelationID, id)
		})
	}
	s.clause("3.4.5", "JMSCorrelationID holds bytes of a native provider", func(t *testing.T, c *fixture) {
		equal(t, "correlation id", sent(c, polylog.WithCorrelationID("\x00\xff\xfe")).CorrelationID, "\x00\xff\xfe")
	})
	s.clause("3.4.5", "JMSCorrelationID is null where none was set", func(t *testing.T, c *fixture) {
		equal(t, "correlation id", sent(c).CorrelationID, "")
	})
	s.clause("3.4.5", "JMSCorrelationID set on the message is sent", func(t *testing.T, c *fixture) {
		equal(t, "correlation id", sentWith(c, func(m *polylog.Message) { m.CorrelationID = "c" }).CorrelationID, "c")
	})

	// §3.4.6
	s.clause("3.4.6", "JMSReplyTo is a queue", func(t *testing.T, c *fixture) {
		m := sent(c, polylog.WithReplyTo("answers"))
		equal(t, "reply to", m.ReplyTo, "answers")
		equal(t, "kind", m.ReplyToKind, record.DestinationQueue)
	})
	for what, kind := range ordered(map[string]record.DestinationKind{
		"a topic": record.DestinationTopic, "a temporary queue": record.DestinationTemporaryQueue, "a temporary topic": record.DestinationTemporaryTopic,
	}) {
		s.clause("3.4.6", "JMSReplyTo is "+what, func(t *testing.T, c *fixture) {
			m := sentWith(c, func(m *polylog.Message) { m.ReplyTo, m.ReplyToKind = "answers", kind })
			equal(t, "reply to", m.ReplyTo, "answers")
			equal(t, "kind", m.ReplyToKind, kind)
		})
	}
	s.clause("3.4.6", "JMSReplyTo is null where none was set", func(t *testing.T, c *fixture) {
		equal(t, "reply to", sent(c).ReplyTo, "")
	})

	// §3.4.7
	s.clause("3.4.7", "JMSRedelivered is not set at the first delivery", func(t *testing.T, c *fixture) {
		equal(t, "redelivered", sent(c).Redelivered(), false)
	})
	s.clause("3.4.7", "JMSRedelivered is set after a release", func(t *testing.T, c *fixture) {
		q := c.messages(polylog.IndividualAcknowledge)
		put(c, q, polylog.NewText("x"))
		c.done(take(c, q).Release(c.ctx, 0))
		d := take(c, q)
		equal(t, "of the message", d.Message().Redelivered(), true)
		equal(t, "of the delivery", d.Redelivered(), true)
	})
	s.clause("3.4.7", "JMSRedelivered is not set on a message that was only fetched ahead", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		putAll(c, q, "1", "2", "3")
		for d, err := range q.Consume(c.ctx) {
			c.done(err)
			c.done(d.Ack(c.ctx))
			break
		}
		for range 2 {
			equal(t, "redelivered", take(c, q).Redelivered(), false)
		}
	})
	s.clause("3.4.7", "JMSRedelivered of a forwarded message begins anew", func(t *testing.T, c *fixture) {
		q := c.messages(polylog.IndividualAcknowledge)
		put(c, q, polylog.NewText("x"))
		c.done(take(c, q).Release(c.ctx, 0))
		d := take(c, q)
		put(c, q, d.Message())
		c.done(d.Ack(c.ctx))
		equal(t, "redelivered", take(c, q).Redelivered(), false)
	})

	// §3.4.8
	s.clause("3.4.8", "JMSType holds what the client sets", func(t *testing.T, c *fixture) {
		equal(t, "type", sent(c, polylog.WithType("com.example.Größe")).Type, "com.example.Größe")
	})
	s.clause("3.4.8", "JMSType is null where none was set", func(t *testing.T, c *fixture) {
		equal(t, "type", sent(c).Type, "")
	})
	s.clause("3.4.8", "JMSType set on the message is sent", func(t *testing.T, c *fixture) {
		equal(t, "type", sentWith(c, func(m *polylog.Message) { m.Type = "car" }).Type, "car")
	})

	// §3.4.9
	s.clause("3.4.9", "JMSExpiration is the time of the send plus the time to live", func(t *testing.T, c *fixture) {
		m := sent(c, polylog.WithTTL(time.Hour))
		equal(t, "expiration", m.Expiration, m.Timestamp+time.Hour.Milliseconds())
	})
	s.clause("3.4.9", "JMSExpiration is 0 without a time to live", func(t *testing.T, c *fixture) {
		equal(t, "expiration", sent(c).Expiration, int64(0))
	})
	s.clause("3.4.9", "JMSExpiration is 0 with a time to live of 0", func(t *testing.T, c *fixture) {
		equal(t, "expiration", sent(c, polylog.WithTTL(0)).Expiration, int64(0))
	})
	s.clause("3.4.9", "JMSExpiration of a transacted send counts from the send", func(t *testing.T, c *fixture) {
		session := c.session(polylog.Transacted)
		q := session.Queue(c.name("q"))
		put(c, q, polylog.NewText("x"), polylog.WithTTL(time.Hour))
		to := time.Now()
		time.Sleep(2 * time.Millisecond) // so that the commit is later
		c.done(session.Commit(c.ctx))
		between(t, "expiration", take(c, q).Message().Expiration, time.UnixMilli(0), to.Add(time.Hour))
	})
	s.clause("3.4.9", "a message whose JMSExpiration has come is not received", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x", polylog.WithExpiry(time.Now().Add(-time.Second)))
		put(c, q, "y")
		wantTexts(t, "received", rest(c, q), "y")
	})
	s.clause("3.4.9", "a message that expires while it waits is destroyed", func(t *testing.T, c *fixture) {
		q := c.texts()
		r := put(c, q, "x", polylog.WithTTL(20*time.Millisecond))
		sleepUntil(time.Now().Add(30 * time.Millisecond))
		nothing(c, q)
		for b, err := range q.Browse(c.ctx) {
			c.done(err)
			t.Errorf("offset %d is there, sent was %d", b.Offset, r.Offset)
		}
	})
	s.clause("3.4.9", "JMSExpiration set on a message is ignored by the send", func(t *testing.T, c *fixture) {
		at := time.Now().Add(time.Hour).UnixMilli()
		m := sentWith(c, func(m *polylog.Message) { m.Expiration = at })
		equal(t, "expiration", m.Expiration, at)
	}, deviates(honoured))

	// §3.4.10
	s.clause("3.4.10", "JMSPriority is 4 by default", func(t *testing.T, c *fixture) {
		equal(t, "priority", sent(c).Priority, 4)
	})
	for p := range 10 {
		s.clause("3.4.10", fmt.Sprintf("JMSPriority %d is what the send says", p), func(t *testing.T, c *fixture) {
			equal(t, "priority", sent(c, polylog.WithPriority(p)).Priority, uint8(p))
		})
	}
	for _, p := range []int{-1, 10, 1000} {
		s.clause("3.4.10", fmt.Sprintf("JMSPriority %d is none of the ten levels", p), func(t *testing.T, c *fixture) {
			_, err := c.texts().Put(c.ctx, "x", polylog.WithPriority(p))
			c.refused(err, polylog.ErrInvalid)
		})
	}
	s.clause("3.4.10", "expedited messages are delivered ahead of normal ones", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "normal", polylog.WithPriority(4))
		put(c, q, "expedited", polylog.WithPriority(5))
		wantTexts(t, "order", takeN(c, q, 2), "expedited", "normal")
	})
	s.clause("3.4.10", "all ten levels are delivered in their order", func(t *testing.T, c *fixture) {
		q := c.texts()
		var want []string
		for p := range 10 {
			put(c, q, fmt.Sprint(p), polylog.WithPriority(p))
			want = append([]string{fmt.Sprint(p)}, want...)
		}
		wantTexts(t, "order", takeN(c, q, 10), want...)
	})
	s.clause("3.4.10", "a topic's subscription delivers by priority too", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "low", polylog.WithPriority(0))
		publish(c, topic, "high", polylog.WithPriority(9))
		wantTexts(t, "order", takeN(c, subscription, 2), "high", "low")
	})
	s.clause("3.4.10", "JMSPriority set on a message is ignored by the send", func(t *testing.T, c *fixture) {
		equal(t, "priority", sentWith(c, func(m *polylog.Message) { m.Priority = 8 }).Priority, 8)
	}, deviates(honoured))

	// §3.4.11
	for what, is := range ordered(map[string]func(m *polylog.Message) bool{
		"JMSDestination":  func(m *polylog.Message) bool { return m.Destination == "" },
		"JMSDeliveryMode": func(m *polylog.Message) bool { return !m.NonPersistent },
		"JMSExpiration":   func(m *polylog.Message) bool { return m.Expiration == 0 },
		"JMSDeliveryTime": func(m *polylog.Message) bool { return m.DeliveryTime == 0 },
		"JMSPriority":     func(m *polylog.Message) bool { return m.Priority == 4 },
		"JMSMessageID":    func(m *polylog.Message) bool { return m.ID == "" },
		"JMSTimestamp":    func(m *polylog.Message) bool { return m.Timestamp == 0 },
	}) {
		s.clause("3.4.11", what+" can be read from the message that was sent", func(t *testing.T, c *fixture) {
			m := polylog.NewText("x")
			put(c, c.messages(), m, polylog.NonPersistent(), polylog.WithTTL(time.Hour), polylog.WithDelay(time.Hour), polylog.WithPriority(9))
			equal(t, "untouched", is(m), true)
		}, deviates(unchanged))
	}
	s.clause("3.4.11", "an option of the send overrides what the message says", func(t *testing.T, c *fixture) {
		q := c.messages()
		m := polylog.NewText("x")
		m.Priority, m.Expiration, m.CorrelationID = 1, 1, "of the message"
		put(c, q, m, polylog.WithPriority(7), polylog.WithTTL(0), polylog.WithCorrelationID("of the send"))
		got := take(c, q).Message()
		equal(t, "priority", got.Priority, 7)
		equal(t, "expiration", got.Expiration, 0)
		equal(t, "correlation id", got.CorrelationID, "of the send")
	})

	// §3.4.13
	s.clause("3.4.13", "JMSDeliveryTime is the time of the send plus the delay", func(t *testing.T, c *fixture) {
		m := sent(c, polylog.WithDelay(10*time.Millisecond))
		equal(t, "delivery time", m.DeliveryTime, m.Timestamp+10)
	})
	s.clause("3.4.13", "JMSDeliveryTime without a delay is the time of the send", func(t *testing.T, c *fixture) {
		equal(t, "delivery time", sent(c).DeliveryTime, int64(0))
	}, deviates("JMSDeliveryTime is the time of the send plus the delay, also when that is 0; polylog's DeliveryTime is then 0, which stands for at once"))
	s.clause("3.4.13", "a message is not received before its JMSDeliveryTime", func(t *testing.T, c *fixture) {
		m := sent(c, polylog.WithDelay(30*time.Millisecond))
		if now := time.Now().UnixMilli(); now < m.DeliveryTime {
			t.Errorf("received %d ms too early", m.DeliveryTime-now)
		}
	})
	s.clause("3.4.13", "JMSDeliveryTime of a transacted send counts from the send", func(t *testing.T, c *fixture) {
		session := c.session(polylog.Transacted)
		q := session.Queue(c.name("q"))
		put(c, q, polylog.NewText("x"), polylog.WithDelay(5*time.Millisecond))
		to := time.Now().Add(5 * time.Millisecond)
		time.Sleep(2 * time.Millisecond) // so that the commit is later
		c.done(session.Commit(c.ctx))
		between(t, "delivery time", take(c, q).Message().DeliveryTime, time.UnixMilli(1), to)
	})
	s.clause("3.4.13", "JMSDeliveryTime set on a message is ignored by the send", func(t *testing.T, c *fixture) {
		at := time.Now().Add(5 * time.Millisecond).UnixMilli()
		equal(t, "delivery time", sentWith(c, func(m *polylog.Message) { m.DeliveryTime = at }).DeliveryTime, at)
	}, deviates(honoured))
	s.clause("3.4.13", "a later message without a delay is received first", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "late", polylog.WithDelay(time.Hour))
		put(c, q, "soon")
		wantTexts(t, "received", rest(c, q), "soon")
	})
	s.clause("3.4.13", "a receive waits for a delivery time that has not come", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x", polylog.WithDelay(time.Hour))
		nothing(c, q)
		ctx, cancel := context.WithTimeout(c.ctx, 20*time.Millisecond)
		defer cancel()
		_, err := q.Take(ctx)
		c.refused(err, polylog.ErrNoMessage)
	})
}
