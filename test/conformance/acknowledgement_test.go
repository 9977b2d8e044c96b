package conformance

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

// ignoredAcknowledgement is §3.6.
func ignoredAcknowledgement(s *section) {
	for _, name := range []string{"AUTO_ACKNOWLEDGE", "DUPS_OK_ACKNOWLEDGE"} {
		s.clause("3.6", "in "+name+" to acknowledge a received message is ignored", func(t *testing.T, c *fixture) {
			q := c.texts(modes[name])
			put(c, q, "x")
			c.refused(take(c, q).Ack(c.ctx), polylog.ErrStale)
		}, deviates(acknowledgedAlready))
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
}

// acknowledgedAlready is said of AUTO_ACKNOWLEDGE and DUPS_OK_ACKNOWLEDGE.
const acknowledgedAlready = "in a session that acknowledges by itself, calls of acknowledge are ignored; polylog's Ack of a delivery that Take returned fails with ErrStale, for it was acknowledged by then"

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
	s.clause("6.2.10", "CLIENT_ACKNOWLEDGE: what a break has given back cannot be acknowledged", func(t *testing.T, c *fixture) {
		con := c.breakable()
		put(c, c.texts(), "x")
		d := take(c, c.queueOf(c.sessionOn(con, polylog.ClientAcknowledge), "q"))
		con.lose(c)
		c.refused(d.Ack(c.ctx), polylog.ErrStale)
		c.done(con.Close())
		equal(t, "count", take(c, c.texts()).DeliveryCount(), 2)
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
		c.refused(q.Session().Recover(c.ctx), polylog.ErrInvalid)
	})
	s.clause("6.2.10", "recover of messages that are acknowledged one by one", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		d := take(c, q)
		c.done(q.Session().Recover(c.ctx))
		nothing(c, q)
		c.done(d.Ack(c.ctx))
	})
}
