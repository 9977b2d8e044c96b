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
	s.clause("7.2", "small messages are sent to a destination that takes no large ones", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"max.message.bytes": "2048"}})
		c.done(err)
		con := c.breakable()
		q := c.queueOf(c.sessionOn(con), "q")
		put(c, q, "x")
		goOn := con.holdUp() // so that what is sent gathers
		var failed error
		for range 100 {
			c.done(q.PutAsync(c.ctx, strings.Repeat("x", 100), func(_ polylog.Receipt, err error) { failed = errors.Join(failed, err) }))
		}
		goOn()
		c.done(q.Session().Flush(c.ctx))
		c.done(failed)
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
