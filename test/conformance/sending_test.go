package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func sending(s *section) {
	synchronousSends(s)
	asynchronousSends(s)
	deliveryOptions(s)
	timeToLive(s)
	deliveryDelay(s)
}

func synchronousSends(s *section) {
	s.clause("7.1", "a producer sends to its destination", func(t *testing.T, c *fixture) {
		put(c, c.texts(), "x")
		equal(t, "received", take(c, c.texts()).Value, "x")
	})
	s.clause("7.1", "a destination is given with each send", func(t *testing.T, c *fixture) {
		session := c.session()
		for _, of := range []string{"a", "b", "a"} {
			put(c, c.queueOf(session, of), of)
		}
		wantTexts(t, "of the first", rest(c, c.queueOf(session, "a")), "a", "a")
		wantTexts(t, "of the second", rest(c, c.queueOf(session, "b")), "b")
	})
	s.clause("7.2", "a message is there when its send returns", func(t *testing.T, c *fixture) {
		q, other := c.texts(), c.queueOf(c.sessionOn(c.connect()), "q")
		for i := range 10 {
			put(c, q, fmt.Sprint(i))
			wantTexts(t, "received", rest(c, other), fmt.Sprint(i))
		}
	})
	s.clause("7.2", "a send waits for its confirmation", func(t *testing.T, c *fixture) {
		con := c.breakable()
		q := c.queueOf(c.sessionOn(con), "q")
		put(c, q, "1")
		goOn := con.holdUp()
		done := c.background(func(ctx context.Context) {
			if _, err := q.Put(ctx, "2"); err != nil {
				t.Error(err)
			}
		})
		c.waits("the send", done)
		goOn()
		c.comes("the confirmation", done)
	})
	s.clause("7.2", "a send whose confirmation does not come in time is in doubt", func(t *testing.T, c *fixture) {
		con := c.breakable()
		q := c.queueOf(c.sessionOn(con), "q")
		put(c, q, "1")
		goOn := con.holdUp()
		ctx, cancel := context.WithTimeout(c.ctx, 10*time.Millisecond)
		defer cancel()
		_, err := q.Put(ctx, "2")
		goOn()
		c.refused(err, polylog.ErrInDoubt)
		c.refused(err, context.DeadlineExceeded)
	})
	s.clause("7.2", "several messages are sent in one call, in order", func(t *testing.T, c *fixture) {
		q := c.texts()
		n, err := q.PutAll(c.ctx, slices.Values([]string{"1", "2", "3"}))
		c.done(err)
		equal(t, "confirmed", n, 3)
		wantTexts(t, "received", rest(c, q), "1", "2", "3")
	})
	s.clause("7.2", "many goroutines send through one session", func(t *testing.T, c *fixture) {
		q := c.texts()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := q.Put(c.ctx, "x"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		equal(t, "received", len(rest(c, q)), 20)
	})
	kind := func(c *fixture) polylog.BodyKind {
		c.t.Helper()
		return take(c, c.messages()).Message().Kind
	}
	s.clause("7.2", "a body that is a String makes a TextMessage", func(t *testing.T, c *fixture) {
		put(c, c.texts(), "x")
		equal(t, "kind", kind(c), polylog.BodyText)
	})
	s.clause("7.2", "a body that is a Map makes a MapMessage", func(t *testing.T, c *fixture) {
		put(c, polylog.QueueOf[map[string]any](c.session(), c.name("q")), map[string]any{"v": true})
		equal(t, "kind", kind(c), polylog.BodyMap)
	})
	s.clause("7.2", "a body that is a byte[] makes a BytesMessage", func(t *testing.T, c *fixture) {
		put(c, polylog.QueueOf[[]byte](c.session(), c.name("q")), []byte("x"))
		equal(t, "kind", kind(c), polylog.BodyBytes)
	})
	s.clause("7.2", "a body that is another object makes an ObjectMessage", func(t *testing.T, c *fixture) {
		put(c, polylog.QueueOf[point](c.session(), c.name("q")), point{1, 2, "x"})
		equal(t, "kind", kind(c), polylog.BodyValue)
	})
	s.clause("7.2", "a body that cannot be sent is refused, and nothing is sent", func(t *testing.T, c *fixture) {
		_, err := polylog.QueueOf[func()](c.session(), c.name("q")).Put(c.ctx, func() {})
		if err == nil {
			t.Error("no error")
		}
		nothing(c, c.texts())
	})
	s.clause("7.2", "a message that is too large is refused, and nothing is sent", func(t *testing.T, c *fixture) {
		q := c.texts()
		_, err := q.Put(c.ctx, strings.Repeat("x", 2<<20))
		c.refused(err, polylog.ErrTooLarge)
		put(c, q, "small")
		wantTexts(t, "received", rest(c, q), "small")
	})
}

// notFromCompletion is said of what a CompletionListener must not call.
const notFromCompletion = "close, commit or rollback called in a completion of the session is refused with IllegalStateException; polylog only documents that it must not be called, and the call waits for the completion that it is in, until its context ends"

func asynchronousSends(s *section) {
	s.clause("7.3", "an asynchronous send returns without a confirmation", func(t *testing.T, c *fixture) {
		con := c.breakable()
		q := c.queueOf(c.sessionOn(con), "q")
		put(c, q, "1")
		goOn := con.holdUp()
		completed := make(chan struct{})
		err := q.PutAsync(c.ctx, "2", func(polylog.Receipt, error) { close(completed) })
		c.waits("the completion", completed)
		goOn()
		c.done(err)
		c.comes("the completion", completed)
	})
	s.clause("7.3", "several asynchronous sends are under way at once", func(t *testing.T, c *fixture) {
		q := c.texts()
		var completed atomic.Int32
		for i := range 100 {
			c.done(q.PutAsync(c.ctx, fmt.Sprint(i), func(_ polylog.Receipt, err error) {
				if err == nil {
					completed.Add(1)
				}
			}))
		}
		c.done(q.Session().Flush(c.ctx))
		equal(t, "completed", completed.Load(), 100)
		equal(t, "received", len(rest(c, q)), 100)
	})
	s.clause("7.3.1", "a message is there when its completion is called", func(t *testing.T, c *fixture) {
		q, other := c.texts(), c.queueOf(c.sessionOn(c.connect()), "q")
		put(c, other, "before")
		take(c, other)
		done := make(chan error, 1)
		c.done(q.PutAsync(c.ctx, "x", func(polylog.Receipt, error) {
			d, err := other.Take(c.ctx, polylog.NoWait())
			if err == nil && d.Value != "x" {
				err = errors.New(d.Value)
			}
			done <- err
		}))
		c.done(<-done)
	})
	s.clause("7.3.2", "what the call can tell is not told to the completion", func(t *testing.T, c *fixture) {
		q := c.texts()
		called := func(polylog.Receipt, error) { t.Error("the completion is called") }
		c.refused(q.PutAsync(c.ctx, "x", called, polylog.WithPriority(10)), polylog.ErrInvalid)
		c.refused(q.PutAsync(c.ctx, strings.Repeat("x", 2<<20), called), polylog.ErrTooLarge)
		c.refused(c.messages().PutAsync(c.ctx, nil, called), polylog.ErrInvalid)
		c.done(q.Session().Close(c.ctx))
		c.refused(q.PutAsync(c.ctx, "x", called), polylog.ErrClosed)
	})
	s.clause("7.3.2", "what the call cannot tell is told to the completion, once", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		c.done(c.connection().Admin().Delete(c.ctx, c.name("q")))
		var calls atomic.Int32
		done := make(chan error, 1)
		c.done(q.PutAsync(c.ctx, "y", func(_ polylog.Receipt, err error) {
			calls.Add(1)
			done <- err
		}))
		c.refused(<-done, polylog.ErrNotFound)
		c.done(q.Session().Flush(c.ctx))
		equal(t, "calls", calls.Load(), 1)
	})
	s.clause("7.3.2", "sends that a break leaves unconfirmed are told to be in doubt", func(t *testing.T, c *fixture) {
		con := c.breakable()
		q := c.queueOf(c.sessionOn(con), "q")
		put(c, q, "1")
		goOn := con.holdUp()
		outcome := make(chan error, 1)
		c.done(q.PutAsync(c.ctx, "2", func(_ polylog.Receipt, err error) { outcome <- err }))
		time.Sleep(5 * time.Millisecond) // for the writer to take it; otherwise it is simply sent later
		con.cut()
		goOn()
		if err := <-outcome; err != nil {
			c.refused(err, polylog.ErrInDoubt)
		}
	})
	s.clause("7.3.3", "asynchronous and synchronous sends keep their order", func(t *testing.T, c *fixture) {
		q := c.texts()
		var sent []string
		for i := range 30 {
			sent = append(sent, fmt.Sprint(i))
			if i%5 == 4 {
				put(c, q, sent[i])
				continue
			}
			c.done(q.PutAsync(c.ctx, sent[i], nil))
		}
		wantTexts(t, "received", takeN(c, q, 30), sent...)
	})
	for what, end := range ordered(map[string]func(c *fixture, tx *polylog.Session) error{
		"commit": func(c *fixture, tx *polylog.Session) error { return tx.Commit(c.ctx) }, "rollback": func(c *fixture, tx *polylog.Session) error { return tx.Rollback(c.ctx) },
	}) {
		s.clause("7.3.4", what+" waits for completions", func(t *testing.T, c *fixture) {
			tx := c.session(polylog.Transacted)
			var completed atomic.Int32
			for range 10 {
				c.done(c.queueOf(tx, "q").PutAsync(c.ctx, "x", func(polylog.Receipt, error) {
					time.Sleep(time.Millisecond)
					completed.Add(1)
				}))
			}
			c.done(end(c, tx))
			equal(t, "completed", completed.Load(), 10)
		})
		s.clause("7.3.4", what+" in a completion of its session is refused", func(t *testing.T, c *fixture) {
			tx := c.session(polylog.Transacted)
			done := make(chan error, 1)
			c.done(c.queueOf(tx, "q").PutAsync(c.ctx, "x", func(polylog.Receipt, error) {
				inner := *c
				ctx, cancel := context.WithTimeout(c.ctx, 10*time.Millisecond)
				defer cancel()
				inner.ctx = ctx
				done <- end(&inner, tx)
			}))
			c.refused(<-done, context.DeadlineExceeded)
		}, deviates(notFromCompletion))
	}
	s.clause("7.3.4", "close in a completion of its session is refused", func(t *testing.T, c *fixture) {
		q := c.texts()
		done := make(chan error, 1)
		c.done(q.PutAsync(c.ctx, "x", func(polylog.Receipt, error) {
			ctx, cancel := context.WithTimeout(c.ctx, 10*time.Millisecond)
			defer cancel()
			done <- q.Session().Close(ctx)
		}))
		c.refused(<-done, context.DeadlineExceeded)
	}, deviates(notFromCompletion))
	s.clause("7.3.6", "a completion tells where the message is", func(t *testing.T, c *fixture) {
		q := c.texts()
		receipts := make(chan polylog.Receipt, 1)
		c.done(q.PutAsync(c.ctx, "x", func(r polylog.Receipt, _ error) { receipts <- r }))
		r := <-receipts
		d := take(c, q)
		equal(t, "place", fmt.Sprint(r.Partition, r.Offset, r.MessageID()), fmt.Sprint(d.Partition(), d.Offset(), d.Message().ID))
	})
	s.clause("7.3.7", "the session can be used while sends are under way", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 20 {
			c.done(q.PutAsync(c.ctx, fmt.Sprint(i), nil))
		}
		equal(t, "received", take(c, q).Value, "0")
		put(c, q, "20")
		equal(t, "received", len(takeN(c, q, 20)), 20)
	})
	s.clause("7.3.7", "a completion may send", func(t *testing.T, c *fixture) {
		q := c.texts()
		done := make(chan error, 1)
		c.done(q.PutAsync(c.ctx, "1", func(polylog.Receipt, error) {
			done <- q.PutAsync(c.ctx, "2", nil)
		}))
		c.done(<-done)
		wantTexts(t, "received", takeN(c, q, 2), "1", "2")
	})
	s.clause("7.3.8", "completions come in the order of the sends, one at a time", func(t *testing.T, c *fixture) {
		q := c.texts()
		var inside atomic.Int32
		var order []int
		for i := range 50 {
			c.done(q.PutAsync(c.ctx, "x", func(polylog.Receipt, error) {
				if inside.Add(1) > 1 {
					t.Error("called while another one runs")
				}
				order = append(order, i)
				inside.Add(-1)
			}))
		}
		c.done(q.Session().Flush(c.ctx))
		if len(order) != 50 || !slices.IsSorted(order) {
			t.Errorf("%v", order)
		}
	})
	s.clause("7.3.8", "completions of sends to several destinations come in the order of the sends", func(t *testing.T, c *fixture) {
		session := c.session()
		topic := polylog.TopicOf[string](session, c.name("t"))
		var order []int
		for i := range 30 {
			done := func(polylog.Receipt, error) { order = append(order, i) }
			switch i % 3 {
			case 0:
				c.done(c.queueOf(session, "a").PutAsync(c.ctx, "x", done))
			case 1:
				c.done(c.queueOf(session, "b").PutAsync(c.ctx, "x", done, polylog.NonPersistent()))
			default:
				c.done(topic.PublishAsync(c.ctx, "x", done))
			}
		}
		c.done(session.Flush(c.ctx))
		if len(order) != 30 || !slices.IsSorted(order) {
			t.Errorf("%v", order)
		}
	})
	s.clause("7.3.8", "a failed send's completion keeps its place", func(t *testing.T, c *fixture) {
		session := c.session()
		gone, q := c.queueOf(session, "gone"), c.queueOf(session, "q")
		put(c, gone, "x")
		c.done(c.connection().Admin().Delete(c.ctx, c.name("gone")))
		var order []string
		note := func(_ polylog.Receipt, err error) { order = append(order, fmt.Sprint(err == nil)) }
		c.done(q.PutAsync(c.ctx, "x", note))
		c.done(gone.PutAsync(c.ctx, "x", note))
		c.done(q.PutAsync(c.ctx, "x", note))
		c.done(session.Flush(c.ctx))
		wantTexts(t, "completions", order, "true", "false", "true")
	})
	s.clause("7.3.8", "a completion is never called by the goroutine that sends", func(t *testing.T, c *fixture) {
		q := c.texts()
		var mu sync.Mutex
		called := make(chan struct{}, 20)
		for range 20 {
			mu.Lock() // a completion on this goroutine would wait for ever
			err := q.PutAsync(c.ctx, "x", func(polylog.Receipt, error) {
				mu.Lock()
				defer mu.Unlock()
				called <- struct{}{}
			})
			mu.Unlock()
			c.done(err)
		}
		for range 20 {
			c.comes("a completion", called)
		}
	})
	s.clause("7.3.9", "a message can be changed as soon as its asynchronous send has returned", func(t *testing.T, c *fixture) {
		q := c.messages()
		body := []byte("before")
		m := polylog.NewBytes(body)
		c.done(m.SetProperty("p", "before"))
		c.done(q.PutAsync(c.ctx, m, nil))
		copy(body, "after!")
		c.done(m.SetProperty("p", "after"))
		got := take(c, q).Message()
		equal(t, "body", string(got.Body), "before")
		equal(t, "property", got.Properties["p"], any("before"))
	})
}

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
