package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func deadLetters(s *section) {
	dead := func(c *fixture) *polylog.Queue[*polylog.Message] {
		c.t.Helper()
		return c.session(polylog.IndividualAcknowledge).Queue("DLQ." + c.name("q"))
	}
	s.clause("8.7", "a message that is delivered in vain too often becomes a dead letter", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		for n := 1; n <= 5; n++ {
			d := take(c, q)
			equal(t, "count", d.DeliveryCount(), n)
			c.done(d.Release(c.ctx, 0))
		}
		letter, ok := take(c, dead(c)).Value.DeadLetter()
		equal(t, "a dead letter", ok, true)
		equal(t, "dead letter", fmt.Sprintf("%s %s %d", letter.Origin, letter.Reason, letter.Count), c.name("q")+" max.deliveries 5")
		nothing(c, q)
	})
	for what, setting := range ordered(map[string]struct {
		max     string
		deliver int
	}{"after one delivery": {"1", 1}, "after two": {"2", 2}, "never": {"0", 8}}) {
		s.clause("8.7", "a destination says when to give up: "+what, func(t *testing.T, c *fixture) {
			_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"max.deliveries": setting.max}})
			c.done(err)
			q := c.texts(polylog.IndividualAcknowledge)
			put(c, q, "x")
			for range setting.deliver {
				c.done(take(c, q).Release(c.ctx, 0))
			}
			if setting.max == "0" {
				equal(t, "count", take(c, q).DeliveryCount(), setting.deliver+1)
				return
			}
			equal(t, "dead letter", take(c, dead(c)).Value.Text(), "x")
		})
	}
	s.clause("8.7", "rollbacks count towards giving up", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.Transacted)
		put(c, c.texts(), "x")
		for range 5 {
			take(c, q)
			c.done(q.Session().Rollback(c.ctx))
		}
		equal(t, "dead letter", take(c, dead(c)).Value.Text(), "x")
	})
	s.clause("8.7", "a listener that always fails has its message become a dead letter", func(t *testing.T, c *fixture) {
		q := c.texts()
		putAll(c, q, "bad", "good")
		var calls atomic.Int32
		c.background(func(ctx context.Context) {
			_ = q.Listen(ctx, func(_ context.Context, d *polylog.Delivery[string]) error {
				if calls.Add(1); d.Value == "bad" {
					return errors.New("no")
				}
				return nil
			})
		})
		m := take(c, dead(c)).Value
		letter, _ := m.DeadLetter()
		equal(t, "dead letter", fmt.Sprint(m.Text(), " ", letter.Reason, " ", letter.Exception), "bad max.deliveries no")
		equal(t, "calls", calls.Load(), 6)
	})
	s.clause("8.7", "a dead letter has the error of its last delivery, and no other", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"max.deliveries": "2"}})
		c.done(err)
		q := c.texts(polylog.IndividualAcknowledge)
		last := strings.Repeat("é", 600)
		for _, failures := range [][]error{{errors.New("first"), errors.New(last)}, {errors.New("first"), nil}} {
			put(c, q, "x")
			for _, failure := range failures {
				if d := take(c, q); failure != nil {
					c.done(d.Fail(c.ctx, failure))
				} else {
					c.done(d.Release(c.ctx, 0))
				}
			}
		}
		letter, _ := take(c, dead(c)).Value.DeadLetter()
		equal(t, "exception", letter.Exception, last[:1024])
		letter, _ = take(c, dead(c)).Value.DeadLetter()
		equal(t, "exception", letter.Exception, "")
	})
	s.clause("8.7", "a message can be rejected, with the reason", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		c.done(take(c, q).Reject(c.ctx, "it makes no sense"))
		letter, _ := take(c, dead(c)).Value.DeadLetter()
		equal(t, "reason", letter.Reason, "it makes no sense")
		nothing(c, q)
	})
	s.clause("8.7", "a dead letter is the message that it was", func(t *testing.T, c *fixture) {
		q := c.messages(polylog.IndividualAcknowledge)
		r := put(c, q, polylog.NewText("x"), polylog.WithProperty("p", int32(7)), polylog.WithCorrelationID("c"), polylog.WithType("t"), polylog.WithPriority(7), polylog.WithReplyTo("r"))
		was := take(c, q)
		c.done(was.Reject(c.ctx, "no"))
		m := take(c, dead(c)).Value
		equal(t, "message", fmt.Sprint(m.Text(), m.Properties["p"], m.CorrelationID, m.Type, m.Priority, m.ReplyTo, m.ID, m.Timestamp),
			fmt.Sprint("x", int32(7), "c", "t", 7, "r", r.MessageID(), was.Value.Timestamp))
		equal(t, "count", m.DeliveryCount, 1)
	})
	s.clause("8.7", "a dead letter does not expire", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		d := takeInTime(c, q)
		c.done(d.Reject(c.ctx, "no"))
		sleepUntil(time.UnixMilli(d.Message().Expiration))
		m := take(c, dead(c)).Value
		equal(t, "expiration", m.Expiration, 0)
	})
	s.clause("8.7", "a dead letter goes where the destination says", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"dead.letter": c.name("dead")}})
		c.done(err)
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		c.done(take(c, q).Reject(c.ctx, "no"))
		equal(t, "dead letter", take(c, c.queueOf(c.session(), "dead")).Value, "x")
	})
	s.clause("8.7", "a dead letter goes nowhere where the destination says so", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"dead.letter": "none"}})
		c.done(err)
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		c.done(take(c, q).Reject(c.ctx, "no"))
		nothing(c, q)
		nothing(c, dead(c))
	})
	s.clause("8.7", "a dead letter can be sent back to where it was", func(t *testing.T, c *fixture) {
		q := c.messages(polylog.IndividualAcknowledge)
		put(c, q, polylog.NewText("x"), polylog.WithProperty("p", "v"))
		c.done(take(c, q).Reject(c.ctx, "no"))
		n, err := c.connection().Admin().Redrive(c.ctx, polylog.TransferSpec{Name: "DLQ." + c.name("q")})
		c.done(err)
		equal(t, "sent back", n.Messages, 1)
		m := take(c, q).Value
		_, isDead := m.DeadLetter()
		equal(t, "message", fmt.Sprint(m.Text(), m.Properties, isDead, m.DeliveryCount), fmt.Sprint("x", map[string]any{"p": "v", "JMS_POLYLOG_REDRIVEN": 1}, false, 1))
	})
	s.clause("8.7", "a subscription's dead letters", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(polylog.IndividualAcknowledge), c.name("q"))
		a, b := sub[string](c)(topic.Subscribe(c.ctx)), sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x")
		c.done(take(c, a).Reject(c.ctx, "no"))
		nothing(c, a)
		equal(t, "dead letter", take(c, dead(c)).Value.Text(), "x")
		equal(t, "the other's", take(c, b).Value, "x")
	})
}
