package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func receiving(s *section) {
	synchronousReceives(s)
	receivedBodies(s)
	asynchronousReceives(s)
	deadLetters(s)
	closingConsumers(s)
}

func synchronousReceives(s *section) {
	s.clause("8.5", "receive returns the next message", func(t *testing.T, c *fixture) {
		q := c.texts()
		putAll(c, q, "1", "2")
		equal(t, "received", take(c, q).Value, "1")
		equal(t, "received", take(c, q).Value, "2")
	})
	s.clause("8.5", "receive waits for a message", func(t *testing.T, c *fixture) {
		q := c.texts()
		nothing(c, q)
		done := c.background(func(ctx context.Context) {
			if d, err := q.Take(ctx); err != nil || d.Value != "x" {
				t.Errorf("%v, %v", d, err)
			}
		})
		c.waits("the receive", done)
		put(c, c.queueOf(c.session(), "q"), "x")
		c.comes("the message", done)
	})
	s.clause("8.5", "receive with a timeout returns nothing when it has passed", func(t *testing.T, c *fixture) {
		q := c.texts()
		nothing(c, q)
		ctx, cancel := context.WithTimeout(c.ctx, 10*time.Millisecond)
		defer cancel()
		at := time.Now()
		_, err := q.Take(ctx)
		c.refused(err, polylog.ErrNoMessage)
		if waited := time.Since(at); waited < 5*time.Millisecond {
			t.Errorf("it waited %v", waited)
		}
	})
	s.clause("8.5", "receive with a timeout returns a message that comes in time", func(t *testing.T, c *fixture) {
		q := c.texts()
		ctx, cancel := context.WithTimeout(c.ctx, time.Hour)
		defer cancel()
		put(c, q, "x")
		d, err := q.Take(ctx)
		c.done(err)
		equal(t, "received", d.Value, "x")
	})
	s.clause("8.5", "a message that comes after a timeout is there for the next receive", func(t *testing.T, c *fixture) {
		q := c.texts()
		takesNothing(c, q)
		put(c, q, "x")
		d := take(c, q)
		equal(t, "received", d.Value, "x")
		equal(t, "count", d.DeliveryCount(), 1)
	})
	s.clause("8.5", "many receives that time out lose nothing", func(t *testing.T, c *fixture) {
		q, other := c.texts(), c.texts()
		sender := c.background(func(ctx context.Context) {
			for i := range 30 {
				if _, err := other.Put(ctx, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			}
		})
		var got []string
		for len(got) < 30 && c.ctx.Err() == nil {
			ctx, cancel := context.WithTimeout(c.ctx, time.Millisecond)
			d, err := q.Take(ctx)
			cancel()
			if d != nil {
				got = append(got, d.Value)
			} else if !errors.Is(err, polylog.ErrNoMessage) && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		c.comes("the end of the sends", sender)
		slices.Sort(got)
		equal(t, "messages", len(slices.Compact(got)), 30)
	})
	s.clause("8.5", "receiveNoWait returns a message that is there", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		equal(t, "received", take(c, q, polylog.NoWait()).Value, "x")
	})
	s.clause("8.5", "receiveNoWait returns nothing where nothing is", func(t *testing.T, c *fixture) {
		q := c.texts()
		nothing(c, q)
		put(c, q, "x")
		take(c, q)
		nothing(c, q)
	})
	s.clause("8.5", "a subscription receives so too", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		nothing(c, subscription)
		takesNothing(c, subscription)
		publish(c, topic, "x")
		equal(t, "received", take(c, subscription).Value, "x")
	})
	s.clause("8.5", "several messages are received in one call", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 10)
		list, err := q.TakeBatch(c.ctx, 7)
		c.done(err)
		var got []string
		for _, d := range list {
			got = append(got, d.Value)
		}
		wantTexts(t, "received", got, sent[:7]...)
		wantTexts(t, "the rest", rest(c, q), sent[7:]...)
	})
	s.clause("8.5", "a receive whose time is over before it has a consumer returns nothing", func(t *testing.T, c *fixture) {
		con := c.breakable()
		q := c.queueOf(c.sessionOn(con), "q")
		goOn := con.holdUp()
		ctx, cancel := context.WithTimeout(c.ctx, 10*time.Millisecond)
		defer cancel()
		_, err := q.Take(ctx)
		goOn()
		c.refused(err, context.DeadlineExceeded)
		equal(t, "is ErrNoMessage", errors.Is(err, polylog.ErrNoMessage), false)
	}, deviates("receive with a timeout returns null when it has passed, which Take says by ErrNoMessage; a session's first Take of a queue, which opens a consumer, fails with ErrInDoubt if the time is over before that is answered"))
	s.clause("8.5", "a receive that is cancelled takes nothing", func(t *testing.T, c *fixture) {
		q := c.texts()
		nothing(c, q)
		ctx, cancel := context.WithCancel(c.ctx)
		done := c.background(func(context.Context) {
			if d, err := q.Take(ctx); !errors.Is(err, polylog.ErrNoMessage) {
				t.Errorf("%v, %v", d, err)
			}
		})
		cancel()
		c.comes("the receive's end", done)
		put(c, q, "x")
		equal(t, "received", take(c, q).Value, "x")
	})
}

// wrongBody is said of receiveBody and a body of another type.
const wrongBody = "receiveBody with a type that the body cannot be assigned to is a MessageFormatException; polylog's queues of string and []byte take the bytes of any body, whatever kind it is"

func receivedBodies(s *section) {
	s.clause("8.6", "the body of a TextMessage is received as a String", func(t *testing.T, c *fixture) {
		put(c, c.messages(), polylog.NewText("x"))
		equal(t, "body", take(c, c.texts()).Value, "x")
	})
	s.clause("8.6", "the body of a BytesMessage is received as a byte[]", func(t *testing.T, c *fixture) {
		put(c, c.messages(), polylog.NewBytes([]byte{0, 0xff}))
		equal(t, "body", string(take(c, polylog.QueueOf[[]byte](c.session(), c.name("q"))).Value), "\x00\xff")
	})
	s.clause("8.6", "the body of a MapMessage is received as a Map", func(t *testing.T, c *fixture) {
		m, err := polylog.NewMap(map[string]any{"v": int32(7)})
		c.done(err)
		put(c, c.messages(), m)
		equal(t, "body", take(c, polylog.QueueOf[map[string]any](c.session(), c.name("q"))).Value["v"], any(int32(7)))
	})
	s.clause("8.6", "the body of an ObjectMessage is received as the object", func(t *testing.T, c *fixture) {
		m, err := polylog.NewValue(point{1, 2, "x"})
		c.done(err)
		put(c, c.messages(), m)
		equal(t, "body", take(c, polylog.QueueOf[point](c.session(), c.name("q"))).Value, point{1, 2, "x"})
	})
	bodies := map[string]func() (*polylog.Message, error){
		"TextMessage":   func() (*polylog.Message, error) { return polylog.NewText("no object"), nil },
		"BytesMessage":  func() (*polylog.Message, error) { return polylog.NewBytes([]byte{0xc1}), nil },
		"MapMessage":    func() (*polylog.Message, error) { return polylog.NewMap(map[string]any{"v": "x"}) },
		"StreamMessage": func() (*polylog.Message, error) { return polylog.NewStream("x", true) },
		"Message":       func() (*polylog.Message, error) { return polylog.NewMessage(), nil },
	}
	send := func(c *fixture, kind string) {
		c.t.Helper()
		m, err := bodies[kind]()
		c.done(err)
		put(c, c.messages(), m)
	}
	for _, kind := range []string{"TextMessage", "BytesMessage", "StreamMessage", "Message"} {
		s.clause("8.6", "the body of a "+kind+" is no Map", func(t *testing.T, c *fixture) {
			send(c, kind)
			_, err := polylog.QueueOf[map[string]any](c.session(), c.name("q")).Take(c.ctx)
			c.refused(err, polylog.ErrBody)
		})
		s.clause("8.6", "the body of a "+kind+" is no object", func(t *testing.T, c *fixture) {
			send(c, kind)
			_, err := polylog.QueueOf[point](c.session(), c.name("q")).Take(c.ctx)
			c.refused(err, polylog.ErrBody)
		})
	}
	for _, kind := range []string{"BytesMessage", "MapMessage", "StreamMessage", "Message"} {
		s.clause("8.6", "the body of a "+kind+" is no String", func(t *testing.T, c *fixture) {
			send(c, kind)
			take(c, c.texts())
		}, deviates(wrongBody))
	}
	for _, kind := range []string{"TextMessage", "MapMessage", "StreamMessage", "Message"} {
		s.clause("8.6", "the body of a "+kind+" is no byte[]", func(t *testing.T, c *fixture) {
			send(c, kind)
			take(c, polylog.QueueOf[[]byte](c.session(), c.name("q")))
		}, deviates(wrongBody))
	}
	s.clause("8.6", "a body that does not fit comes with its message", func(t *testing.T, c *fixture) {
		send(c, "StreamMessage")
		d, err := polylog.QueueOf[point](c.session(polylog.IndividualAcknowledge), c.name("q")).Take(c.ctx)
		c.refused(err, polylog.ErrBody)
		equal(t, "kind", d.Message().Kind, polylog.BodyStream)
		c.done(d.Ack(c.ctx))
	})
	for _, mode := range []string{"AUTO_ACKNOWLEDGE", "DUPS_OK_ACKNOWLEDGE"} {
		s.clause("8.6", mode+": a body that does not fit is as if it had not been received", func(t *testing.T, c *fixture) {
			send(c, "StreamMessage")
			put(c, c.messages(), polylog.NewText("next"))
			_, err := polylog.QueueOf[point](c.session(modes[mode]), c.name("q")).Take(c.ctx)
			c.refused(err, polylog.ErrBody)
			d := take(c, c.messages())
			equal(t, "kind", d.Message().Kind, polylog.BodyStream)
			equal(t, "count", d.DeliveryCount(), 2)
		}, deviates("a receiveBody that fails is not counted as a delivery, and sets no JMSRedelivered; polylog releases the message and counts it, so that it becomes a dead letter in the end"))
	}
	for mode, end := range ordered(map[string]func(c *fixture, s *polylog.Session) error{
		"CLIENT_ACKNOWLEDGE": func(c *fixture, s *polylog.Session) error { return s.Recover(c.ctx) },
		"SESSION_TRANSACTED": func(c *fixture, s *polylog.Session) error { return s.Rollback(c.ctx) },
	}) {
		s.clause("8.6", mode+": a body that does not fit comes again after recover or rollback alone", func(t *testing.T, c *fixture) {
			send(c, "StreamMessage")
			session := c.session(modes[mode])
			_, err := polylog.QueueOf[point](session, c.name("q")).Take(c.ctx)
			c.refused(err, polylog.ErrBody)
			equal(t, "count", take(c, session.Queue(c.name("q"))).DeliveryCount(), 2) // without either
			c.done(end(c, session))
			equal(t, "count", take(c, session.Queue(c.name("q"))).DeliveryCount(), 3)
		}, deviates("a receiveBody that fails counts as a receipt in CLIENT_ACKNOWLEDGE and transacted sessions, and the message comes again with recover or rollback; polylog releases it at once, so that it comes again by itself"))
	}
	s.clause("8.6", "a loop goes on after a body that does not fit", func(t *testing.T, c *fixture) {
		send(c, "StreamMessage")
		m, err := polylog.NewValue(point{1, 2, "x"})
		c.done(err)
		put(c, c.messages(), m)
		for d, err := range polylog.QueueOf[point](c.session(), c.name("q")).Consume(c.ctx) {
			if errors.Is(err, polylog.ErrBody) {
				c.done(d.Reject(c.ctx, "no point"))
				continue
			}
			c.done(err)
			equal(t, "received", d.Value, point{1, 2, "x"})
			break
		}
	})
}

func asynchronousReceives(s *section) {
	// listens has a listener called until it has been called n times, and returns
	// what it was called with.
	listens := func(c *fixture, q *polylog.Queue[string], n int, f func(d *polylog.Delivery[string]) error, opts ...polylog.ConsumeOption) (seen []string) {
		c.t.Helper()
		ctx, cancel := context.WithCancel(c.ctx)
		defer cancel()
		c.done(q.Listen(ctx, func(_ context.Context, d *polylog.Delivery[string]) error {
			if len(seen) == n {
				return errors.New("enough")
			}
			if seen = append(seen, fmt.Sprint(d.Value, "/", d.DeliveryCount())); len(seen) == n {
				cancel()
			}
			return f(d)
		}, opts...))
		return seen
	}
	once := errors.New("not now")
	failFirst := func(d *polylog.Delivery[string]) error {
		if d.Value == "1" && !d.Redelivered() {
			return once
		}
		return nil
	}
	s.clause("8.7", "a listener is called with messages as they come", func(t *testing.T, c *fixture) {
		q, other := c.texts(), c.texts()
		c.background(func(ctx context.Context) {
			for _, text := range []string{"1", "2", "3"} {
				if _, err := other.Put(ctx, text); err != nil {
					t.Error(err)
				}
			}
		})
		wantTexts(t, "seen", listens(c, q, 3, func(*polylog.Delivery[string]) error { return nil }), "1/1", "2/1", "3/1")
	})
	s.clause("8.7", "a listener of a subscription is called", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x")
		ctx, cancel := context.WithCancel(c.ctx)
		var seen string
		c.done(subscription.Listen(ctx, func(_ context.Context, d *polylog.Delivery[string]) error {
			seen = d.Value
			cancel()
			return nil
		}))
		equal(t, "seen", seen, "x")
	})
	s.clause("8.7", "a listener with a selector", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 6 {
			put(c, q, fmt.Sprint(i), polylog.WithProperty("n", i))
		}
		wantTexts(t, "seen", listens(c, q, 3, func(*polylog.Delivery[string]) error { return nil }, polylog.WithSelector("n > 2")), "3/1", "4/1", "5/1")
	})
	for _, mode := range []string{"AUTO_ACKNOWLEDGE", "DUPS_OK_ACKNOWLEDGE"} {
		s.clause("8.7", mode+": a message whose listener fails is delivered again, marked", func(t *testing.T, c *fixture) {
			q := c.texts(modes[mode])
			put(c, q, "1")
			wantTexts(t, "seen", listens(c, q, 2, failFirst), "1/1", "1/2")
		})
		s.clause("8.7", mode+": a message whose listener fails is delivered again at once", func(t *testing.T, c *fixture) {
			q := c.texts(modes[mode])
			putAll(c, q, "1", "2", "3")
			seen := listens(c, q, 4, failFirst)
			if slices.Index(seen, "1/2") < slices.Index(seen, "2/1") {
				t.Errorf("%v", seen)
			}
		}, deviates("a message whose listener fails is immediately redelivered; polylog delivers what it had fetched ahead before it comes again"))
	}
	s.clause("8.7", "CLIENT_ACKNOWLEDGE: after a listener that fails comes the next message", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		put(c, q, "1")
		wantTexts(t, "seen", listens(c, q, 2, failFirst), "1/1", "1/2")
	}, deviates("in CLIENT_ACKNOWLEDGE a message whose listener fails comes again with recover alone; polylog releases it in every mode"))
	s.clause("8.7", "CLIENT_ACKNOWLEDGE: a listener that returns acknowledges nothing", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		putAll(c, q, "1", "2")
		listens(c, q, 2, func(*polylog.Delivery[string]) error { return nil })
		c.done(q.Session().Close(c.ctx))
		equal(t, "received again", take(c, c.texts()).Value, "1")
	})
	s.clause("8.7", "SESSION_TRANSACTED: after a listener that fails comes the next message", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.Transacted)
		put(c, c.texts(), "1")
		wantTexts(t, "seen", listens(c, q, 2, failFirst), "1/1", "1/2")
	}, deviates("in a transacted session a message whose listener fails comes again with the rollback alone; polylog releases it in every mode"))
	s.clause("8.7", "SESSION_TRANSACTED: a listener commits what it was called with", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		putAll(c, c.texts(), "1", "2")
		listens(c, c.queueOf(tx, "q"), 2, func(d *polylog.Delivery[string]) error {
			if _, err := c.queueOf(tx, "out").Put(c.ctx, d.Value); err != nil {
				return err
			}
			if d.Value == "1" {
				return nil // rolled back with what follows, or committed with it
			}
			return tx.Commit(c.ctx)
		})
		nothing(c, c.texts())
		wantTexts(t, "sent", rest(c, c.queueOf(c.session(), "out")), "1", "2")
	})
	s.clause("8.7", "SESSION_TRANSACTED: a listener rolls back what it was called with", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		putAll(c, c.texts(), "1", "2")
		seen := listens(c, c.queueOf(tx, "q"), 3, func(d *polylog.Delivery[string]) error {
			if !d.Redelivered() && d.Value == "1" {
				return tx.Rollback(c.ctx)
			}
			return tx.Commit(c.ctx)
		})
		wantTexts(t, "seen", seen, "1/1", "1/2", "2/1")
		nothing(c, c.texts())
	})
	s.clause("8.7", "CLIENT_ACKNOWLEDGE: a listener recovers its session", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2")
		seen := listens(c, c.queueOf(session, "q"), 3, func(d *polylog.Delivery[string]) error {
			if !d.Redelivered() && d.Value == "1" {
				return session.Recover(c.ctx)
			}
			return d.Ack(c.ctx)
		})
		wantTexts(t, "seen", seen, "1/1", "1/2", "2/1")
		c.done(session.Close(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("8.7", "CLIENT_ACKNOWLEDGE: a listener acknowledges what it is called with", func(t *testing.T, c *fixture) {
		told := make(chan error, 10)
		session := c.sessionOn(c.connect(polylog.WithExceptionListener(func(err error) { told <- err })), polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2")
		listens(c, c.queueOf(session, "q"), 2, func(d *polylog.Delivery[string]) error { return d.Ack(c.ctx) })
		c.done(session.Close(c.ctx))
		nothing(c, c.texts())
		select {
		case err := <-told:
			t.Error(err)
		default:
		}
	})
	s.clause("8.7", "INDIVIDUAL_ACKNOWLEDGE: a listener settles by itself what it likes", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		putAll(c, q, "1", "2", "3")
		listens(c, q, 3, func(d *polylog.Delivery[string]) error {
			if d.Value == "2" {
				return d.Reject(c.ctx, "no")
			}
			return d.Ack(c.ctx)
		})
		nothing(c, c.texts())
		equal(t, "rejected", take(c, polylog.QueueOf[string](c.session(), "DLQ."+c.name("q"))).Value, "2")
	})
	s.clause("8.7", "a listener may send and receive", func(t *testing.T, c *fixture) {
		q := c.texts()
		putAll(c, q, "1", "2")
		put(c, c.queueOf(c.session(), "other"), "of the other")
		listens(c, q, 2, func(d *polylog.Delivery[string]) error {
			_, err := c.queueOf(q.Session(), "out").Put(c.ctx, d.Value)
			if err == nil && d.Value == "1" {
				_, err = c.queueOf(q.Session(), "other").Take(c.ctx, polylog.NoWait())
			}
			if err != nil {
				t.Error(err)
			}
			return err
		})
		wantTexts(t, "sent", rest(c, c.queueOf(c.session(), "out")), "1", "2")
	})
	s.clause("8.7", "a listener's loop ends with its context, after the call that runs", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		ctx, cancel := context.WithCancel(c.ctx)
		var returned atomic.Bool
		c.done(q.Listen(ctx, func(context.Context, *polylog.Delivery[string]) error {
			cancel()
			time.Sleep(2 * time.Millisecond)
			returned.Store(true)
			return nil
		}))
		equal(t, "returned", returned.Load(), true)
		nothing(c, c.texts())
	})
	s.clause("8.7", "redelivery waits as long as the destination says", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"redelivery.delay": "20ms"}})
		c.done(err)
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		d := take(c, q)
		at := time.Now()
		c.done(d.Release(c.ctx, -1))
		take(c, q)
		if waited := time.Since(at); waited < 19*time.Millisecond {
			t.Errorf("it waited %v", waited)
		}
	})
	s.clause("8.7", "a message can be given back for a while", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		d := take(c, q)
		c.done(d.Release(c.ctx, time.Hour))
		nothing(c, q)
		put(c, q, "y")
		equal(t, "received", take(c, q).Value, "y")
	})
}

func closingConsumers(s *section) {
	s.clause("8.8", "to close a closed consumer is ignored", func(t *testing.T, c *fixture) {
		subscription := sub[*polylog.Message](c)(c.session().Topic(c.name("t")).Subscribe(c.ctx))
		for range 3 {
			c.done(subscription.Close(c.ctx))
		}
	})
	s.clause("8.8", "a closed consumer gets nothing", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x")
		c.done(subscription.Close(c.ctx))
		_, err := subscription.Take(c.ctx)
		c.refused(err, polylog.ErrClosed)
	})
	s.clause("8.8", "close ends a receive that waits, and waits for it", func(t *testing.T, c *fixture) {
		subscription := sub[*polylog.Message](c)(c.session().Topic(c.name("t")).Subscribe(c.ctx))
		var ended atomic.Bool
		done := c.background(func(ctx context.Context) {
			if d, err := subscription.Take(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("%v, %v", d, err)
			}
			ended.Store(true)
		})
		c.waits("the receive", done)
		c.done(subscription.Close(c.ctx))
		c.comes("the receive's end", done)
	})
	s.clause("8.8", "close waits for a listener that runs", func(t *testing.T, c *fixture) {
		topic := c.session().Topic(c.name("t"))
		subscription := sub[*polylog.Message](c)(topic.Subscribe(c.ctx))
		running, leave := make(chan struct{}), make(chan struct{})
		c.background(func(ctx context.Context) {
			_ = subscription.Listen(ctx, func(context.Context, *polylog.Delivery[*polylog.Message]) error {
				close(running)
				<-leave
				return nil
			})
		})
		publish(c, topic, polylog.NewText("x"))
		c.comes("the message", running)
		done := c.background(func(ctx context.Context) {
			if err := subscription.Close(ctx); err != nil {
				t.Error(err)
			}
		})
		c.waits("close", done)
		close(leave)
		c.comes("the close", done)
	})
	s.clause("8.8", "a listener may close its own consumer", func(t *testing.T, c *fixture) {
		topic := c.session().Topic(c.name("t"))
		subscription := sub[*polylog.Message](c)(topic.Subscribe(c.ctx))
		publish(c, topic, polylog.NewText("x"))
		err := subscription.Listen(c.ctx, func(ctx context.Context, _ *polylog.Delivery[*polylog.Message]) error {
			return subscription.Close(ctx)
		})
		c.refused(err, polylog.ErrClosed)
	})
	for mode, end := range ordered(map[string]func(c *fixture, d *polylog.Delivery[string]) error{
		"CLIENT_ACKNOWLEDGE":     func(c *fixture, d *polylog.Delivery[string]) error { return d.Ack(c.ctx) },
		"INDIVIDUAL_ACKNOWLEDGE": func(c *fixture, d *polylog.Delivery[string]) error { return d.Ack(c.ctx) },
	}) {
		s.clause("8.8", mode+": what a closed consumer received can be acknowledged", func(t *testing.T, c *fixture) {
			session := c.session(modes[mode])
			topic := polylog.TopicOf[string](session, c.name("t"))
			subscription := sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))
			publish(c, topic, "x")
			d := take(c, subscription)
			c.done(subscription.Close(c.ctx))
			c.done(end(c, d))
			c.done(session.Close(c.ctx))
			nothing(c, sub[string](c)(polylog.TopicOf[string](c.session(), c.name("t")).SharedDurable(c.ctx, c.name("sub"))))
		})
		s.clause("8.8", mode+": what a closed consumer received is not given away before the session closes", func(t *testing.T, c *fixture) {
			session := c.session(modes[mode])
			topic := polylog.TopicOf[string](session, c.name("t"))
			subscription := sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))
			publish(c, topic, "x")
			take(c, subscription)
			c.done(subscription.Close(c.ctx))
			other := sub[string](c)(polylog.TopicOf[string](c.session(), c.name("t")).SharedDurable(c.ctx, c.name("sub")))
			nothing(c, other)
			c.done(session.Close(c.ctx))
			equal(t, "count", take(c, other).DeliveryCount(), 2)
		})
	}
	for what, end := range ordered(map[string]struct {
		end  func(c *fixture, tx *polylog.Session) error
		left []string
	}{
		"committed":   {func(c *fixture, tx *polylog.Session) error { return tx.Commit(c.ctx) }, nil},
		"rolled back": {func(c *fixture, tx *polylog.Session) error { return tx.Rollback(c.ctx) }, []string{"1", "2"}},
	}) {
		s.clause("8.8", "SESSION_TRANSACTED: what a closed consumer received is "+what+" with the rest", func(t *testing.T, c *fixture) {
			tx := c.session(polylog.Transacted)
			putAll(c, c.texts(), "1", "2", "3")
			n := 0
			for _, err := range c.queueOf(tx, "q").Consume(c.ctx) {
				c.done(err)
				if n++; n == 2 {
					break // which closes the consumer
				}
			}
			c.done(end.end(c, tx))
			wantTexts(t, "left", rest(c, c.texts()), append(end.left, "3")...)
		})
	}
	s.clause("8.8", "AUTO_ACKNOWLEDGE: what a closed consumer received is acknowledged", func(t *testing.T, c *fixture) {
		session := c.session()
		topic := polylog.TopicOf[string](session, c.name("t"))
		subscription := sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))
		publish(c, topic, "1")
		publish(c, topic, "2")
		take(c, subscription)
		c.done(subscription.Close(c.ctx))
		wantTexts(t, "received", rest(c, sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))), "2")
	})
	s.clause("8.8", "what a closed consumer had fetched ahead comes as if for the first time", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		sent := numbers(c, q, 10)
		for d, err := range q.Consume(c.ctx) {
			c.done(err)
			c.done(d.Ack(c.ctx))
			break
		}
		for _, want := range sent[1:] {
			d := take(c, q)
			equal(t, "received", fmt.Sprint(d.Value, d.DeliveryCount()), fmt.Sprint(want, 1))
		}
	})
	s.clause("8.8", "a panic in a loop closes its consumer and acknowledges nothing", func(t *testing.T, c *fixture) {
		q := c.texts()
		putAll(c, q, "1", "2")
		func() {
			defer func() { _ = recover() }()
			for range q.Consume(c.ctx) {
				panic("on purpose")
			}
		}()
		c.done(q.Session().Flush(c.ctx))
		a, b := take(c, q), take(c, q)
		equal(t, "received", fmt.Sprintf("%s/%d %s/%d", a.Value, a.DeliveryCount(), b.Value, b.DeliveryCount()), "1/2 2/1")
	})
}
