package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func closingSessions(s *section) {
	s.clause("6.2.15", "to close a closed session is ignored", func(t *testing.T, c *fixture) {
		session := c.session()
		for range 3 {
			c.done(session.Close(c.ctx))
		}
	})
	for what, use := range ordered(uses) {
		var marks []mark
		check := func(c *fixture, err error) { c.t.Helper(); c.refused(err, polylog.ErrClosed) }
		if what == "a browser" {
			marks = append(marks, deviates("to use a closed session is an error; polylog's browsers are the connection's, and are made all the same"))
			check = func(c *fixture, err error) { c.t.Helper(); c.done(err) }
		}
		s.clause("6.2.15", "a closed session refuses "+what, func(t *testing.T, c *fixture) {
			session := c.session()
			put(c, session.Queue(c.name("q")), polylog.NewText("x"))
			c.done(session.Close(c.ctx))
			check(c, use(c, session))
		}, marks...)
	}
	s.clause("6.2.15", "a closed session refuses commit and rollback", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		c.done(tx.Close(c.ctx))
		c.refused(tx.Commit(c.ctx), polylog.ErrClosed)
		c.refused(tx.Rollback(c.ctx), polylog.ErrClosed)
	})
	s.clause("6.2.15", "the consumers of a closed session can be closed", func(t *testing.T, c *fixture) {
		session := c.session()
		subscription := sub[*polylog.Message](c)(session.Topic(c.name("t")).Subscribe(c.ctx))
		c.done(session.Close(c.ctx))
		c.done(subscription.Close(c.ctx))
		_, err := subscription.Take(c.ctx)
		c.refused(err, polylog.ErrClosed)
	})
	s.clause("6.2.15", "close ends a receive that waits", func(t *testing.T, c *fixture) {
		q := c.texts()
		nothing(c, q)
		done := c.background(func(ctx context.Context) {
			if d, err := q.Take(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("%v, %v", d, err)
			}
		})
		c.waits("the receive", done)
		c.done(q.Session().Close(c.ctx))
		c.comes("the receive's end", done)
	})
	s.clause("6.2.15", "close ends a loop and a listener", func(t *testing.T, c *fixture) {
		session := c.session()
		var ends sync.WaitGroup
		ends.Go(func() {
			for d, err := range c.queueOf(session, "q").Consume(c.ctx) {
				if d != nil || !errors.Is(err, polylog.ErrClosed) {
					t.Errorf("%v, %v", d, err)
				}
			}
		})
		ends.Go(func() {
			c.refused(c.queueOf(session, "q").Listen(c.ctx, func(context.Context, *polylog.Delivery[string]) error { return nil }), polylog.ErrClosed)
		})
		c.until("consumers", func() bool {
			info, err := c.connection().Admin().Describe(c.ctx, c.name("q"))
			return err == nil && info.Queue != nil && info.Queue.Consumers == 2
		})
		c.done(session.Close(c.ctx))
		ends.Wait()
	})
	s.clause("6.2.15", "close waits for a listener that runs", func(t *testing.T, c *fixture) {
		q := c.texts()
		running, leave := make(chan struct{}), make(chan struct{})
		c.background(func(ctx context.Context) {
			_ = q.Listen(ctx, func(context.Context, *polylog.Delivery[string]) error {
				close(running)
				<-leave
				return nil
			})
		})
		put(c, q, "x")
		c.comes("the message", running)
		done := c.background(func(ctx context.Context) {
			if err := q.Session().Close(ctx); err != nil {
				t.Error(err)
			}
		})
		c.waits("close", done)
		close(leave)
		c.comes("the close", done)
		nothing(c, c.texts()) // AUTO_ACKNOWLEDGE has acknowledged it
	})
	s.clause("6.2.15", "a listener that closes its own session is told that it must not, or succeeds", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		err := q.Listen(c.ctx, func(ctx context.Context, _ *polylog.Delivery[string]) error {
			return q.Session().Close(ctx)
		})
		c.refused(err, polylog.ErrClosed)
	})
	s.clause("6.2.15", "close rolls back the transaction in progress", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		put(c, c.texts(), "x")
		take(c, c.queueOf(tx, "q"))
		put(c, c.queueOf(tx, "out"), "y")
		c.done(tx.Close(c.ctx))
		nothing(c, c.queueOf(c.session(), "out"))
		equal(t, "count", take(c, c.texts()).DeliveryCount(), 2)
	})
	s.clause("6.2.15", "close acknowledges nothing that is the client's to acknowledge", func(t *testing.T, c *fixture) {
		session := c.session(polylog.ClientAcknowledge)
		putAll(c, c.texts(), "1", "2")
		takeN(c, c.queueOf(session, "q"), 2)
		c.done(session.Close(c.ctx))
		wantTexts(t, "received again", rest(c, c.texts()), "1", "2")
	})
	s.clause("6.2.15", "close leaves other sessions of the connection alone", func(t *testing.T, c *fixture) {
		other := c.texts(polylog.ClientAcknowledge)
		put(c, other, "x")
		d := take(c, other)
		session := c.session()
		nothing(c, c.queueOf(session, "q"))
		c.done(session.Close(c.ctx))
		c.done(d.Ack(c.ctx))
		put(c, other, "y")
		equal(t, "received", take(c, other).Value, "y")
	})
	s.clause("6.2.15", "a received message can be used once its session is closed", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithProperty("p", "v"))
		m := take(c, q).Message()
		c.done(q.Session().Close(c.ctx))
		equal(t, "message", fmt.Sprintf("%s %v", m.Text(), m.Properties), "x map[p:v]")
		put(c, c.session().Queue(c.name("other")), m)
	})
	s.clause("6.2.15", "a message of a closed session cannot be acknowledged", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		put(c, q, "x")
		d := take(c, q)
		c.done(q.Session().Close(c.ctx))
		c.refused(d.Ack(c.ctx), polylog.ErrClosed)
		equal(t, "received again", take(c, c.texts()).Value, "x")
	})
	s.clause("6.2.15", "a message of a closed session cannot be acknowledged by itself", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		put(c, q, "x")
		d := take(c, q)
		c.done(q.Session().Close(c.ctx))
		if err := d.Ack(c.ctx); err == nil {
			t.Error("no error")
		}
		equal(t, "received again", take(c, c.texts()).Value, "x")
	})
	s.clause("6.2.15", "close waits for sends and their completions", func(t *testing.T, c *fixture) {
		q := c.texts()
		var completed atomic.Int32
		for range 10 {
			c.done(q.PutAsync(c.ctx, "x", func(polylog.Receipt, error) {
				time.Sleep(time.Millisecond)
				completed.Add(1)
			}))
		}
		c.done(q.Session().Close(c.ctx))
		equal(t, "completed", completed.Load(), 10)
	})
}

// uses are the uses of a session that fail once it or its connection is closed.
var uses = map[string]func(c *fixture, session *polylog.Session) error{
	"a send": func(c *fixture, session *polylog.Session) error {
		_, err := session.Queue(c.name("q")).Put(c.ctx, polylog.NewText("x"))
		return err
	},
	"an asynchronous send": func(c *fixture, session *polylog.Session) error {
		return session.Queue(c.name("q")).PutAsync(c.ctx, polylog.NewText("x"), func(polylog.Receipt, error) {})
	},
	"a publication": func(c *fixture, session *polylog.Session) error {
		_, err := session.Topic(c.name("t")).Publish(c.ctx, polylog.NewText("x"))
		return err
	},
	"a receive": func(c *fixture, session *polylog.Session) error {
		_, err := session.Queue(c.name("q")).Take(c.ctx)
		return err
	},
	"a receive without waiting": func(c *fixture, session *polylog.Session) error {
		_, err := session.Queue(c.name("q")).Take(c.ctx, polylog.NoWait())
		return err
	},
	"a consumer": func(c *fixture, session *polylog.Session) error {
		for _, err := range session.Queue(c.name("q")).Consume(c.ctx) {
			return err
		}
		return nil
	},
	"a listener": func(c *fixture, session *polylog.Session) error {
		return session.Queue(c.name("q")).Listen(c.ctx, func(context.Context, *polylog.Delivery[*polylog.Message]) error { return nil })
	},
	"a subscription": func(c *fixture, session *polylog.Session) error {
		_, err := session.Topic(c.name("t")).Subscribe(c.ctx)
		return err
	},
	"a browser": func(c *fixture, session *polylog.Session) error {
		for _, err := range session.Queue(c.name("q")).Browse(c.ctx) {
			return err
		}
		return nil
	},
	"a temporary queue": func(c *fixture, session *polylog.Session) error {
		_, err := session.TemporaryQueue(c.ctx)
		return err
	},
	"a temporary topic": func(c *fixture, session *polylog.Session) error {
		_, err := session.TemporaryTopic(c.ctx)
		return err
	},
	"recover": func(c *fixture, session *polylog.Session) error { return session.Recover(c.ctx) },
}

func closing(s *section) {
	s.clause("6.1.8", "to close a closed connection is ignored", func(t *testing.T, c *fixture) {
		con := c.connect()
		for range 3 {
			c.done(con.Close())
		}
	})
	for what, use := range ordered(map[string]func(c *fixture, con *polylog.Connection) error{
		"a session":   func(c *fixture, con *polylog.Connection) error { _, err := con.Session(c.ctx); return err },
		"stop":        func(c *fixture, con *polylog.Connection) error { return con.Stop(c.ctx) },
		"unsubscribe": func(c *fixture, con *polylog.Connection) error { return con.Unsubscribe(c.ctx, "d", false) },
		"a request": func(c *fixture, con *polylog.Connection) error {
			_, err := con.Request(c.ctx, c.name("q"), polylog.NewText("x"))
			return err
		},
		"a transaction": func(c *fixture, con *polylog.Connection) error {
			return con.Tx(c.ctx, func(*polylog.Session) error { return nil })
		},
		"its administration": func(c *fixture, con *polylog.Connection) error {
			_, err := con.Admin().Ping(c.ctx)
			return err
		},
	}) {
		s.clause("6.1.8", "a closed connection refuses "+what, func(t *testing.T, c *fixture) {
			con := c.connect()
			c.done(con.Close())
			c.refused(use(c, con), polylog.ErrClosed)
		})
	}
	s.clause("6.1.8", "a closed connection refuses start", func(t *testing.T, c *fixture) {
		con := c.connect()
		c.done(con.Close())
		c.refused(con.Start(c.ctx), polylog.ErrClosed)
	})
	for what, use := range ordered(uses) {
		s.clause("6.1.8", "a session of a closed connection refuses "+what, func(t *testing.T, c *fixture) {
			con := c.connect()
			session := c.sessionOn(con)
			put(c, session.Queue(c.name("q")), polylog.NewText("x"))
			c.done(con.Close())
			c.refused(use(c, session), polylog.ErrClosed)
		})
	}
	s.clause("6.1.8", "a transacted session of a closed connection refuses commit and rollback", func(t *testing.T, c *fixture) {
		con := c.connect()
		session := c.sessionOn(con, polylog.Transacted)
		c.done(con.Close())
		c.refused(session.Commit(c.ctx), polylog.ErrClosed)
		c.refused(session.Rollback(c.ctx), polylog.ErrClosed)
	})
	s.clause("6.1.8", "a session and a subscription of a closed connection can be closed", func(t *testing.T, c *fixture) {
		con := c.connect()
		session := c.sessionOn(con)
		subscription := sub[*polylog.Message](c)(session.Topic(c.name("t")).Subscribe(c.ctx))
		c.done(con.Close())
		c.done(subscription.Close(c.ctx))
		c.done(session.Close(c.ctx))
	})
	s.clause("6.1.8", "close ends a receive that waits", func(t *testing.T, c *fixture) {
		con := c.connect()
		q := polylog.QueueOf[string](c.sessionOn(con), c.name("q"))
		nothing(c, q)
		done := c.background(func(ctx context.Context) {
			if d, err := q.Take(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("%v, %v", d, err)
			}
		})
		c.waits("the receive", done)
		c.done(con.Close())
		c.comes("the receive's end", done)
	})
	s.clause("6.1.8", "close ends a receive that waits for a stopped connection", func(t *testing.T, c *fixture) {
		con := c.connect(polylog.WithStopped())
		q := polylog.QueueOf[string](c.sessionOn(con), c.name("q"))
		put(c, q, "x")
		done := c.background(func(ctx context.Context) {
			_, err := q.Take(ctx)
			c.refused(err, polylog.ErrClosed)
		})
		c.waits("the receive", done)
		c.done(con.Close())
		c.comes("the receive's end", done)
	})
	s.clause("6.1.8", "close waits for a listener that runs, which has the connection's services", func(t *testing.T, c *fixture) {
		con := c.connect()
		session := c.sessionOn(con)
		q := polylog.QueueOf[string](session, c.name("q"))
		running, leave := make(chan struct{}), make(chan struct{})
		var acknowledged atomic.Bool
		c.background(func(ctx context.Context) {
			_ = q.Listen(ctx, func(ctx context.Context, d *polylog.Delivery[string]) error {
				close(running)
				<-leave
				if err := d.Ack(ctx); err != nil {
					t.Errorf("acknowledge: %v", err)
				}
				acknowledged.Store(true)
				return nil
			})
		})
		put(c, q, "x")
		c.comes("the message", running)
		done := c.background(func(context.Context) {
			if err := con.Close(); err != nil {
				t.Error(err)
			}
		})
		c.waits("close", done)
		close(leave)
		c.comes("the close", done)
		equal(t, "acknowledged", acknowledged.Load(), true)
		nothing(c, c.texts())
	})
	s.clause("6.1.8", "a listener that close waits for may send", func(t *testing.T, c *fixture) {
		con := c.connect()
		q := polylog.QueueOf[string](c.sessionOn(con), c.name("q"))
		other := polylog.QueueOf[string](c.sessionOn(con), c.name("other"))
		running, leave, sent := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		c.background(func(ctx context.Context) {
			_ = q.Listen(ctx, func(ctx context.Context, d *polylog.Delivery[string]) error {
				close(running)
				<-leave
				_, err := q.Put(ctx, "y")
				sent <- err
				_, _ = other.Put(ctx, "y")
				return nil
			})
		})
		put(c, q, "x")
		c.comes("the message", running)
		done := c.background(func(context.Context) { con.Close() })
		c.waits("close", done)
		close(leave)
		c.refused(<-sent, polylog.ErrClosed)
		c.comes("the close", done)
	}, deviates("the connection's and its sessions' facilities stay available to a listener that close waits for; in polylog a session that is being closed takes no sends any more"))
	s.clause("6.1.8", "close rolls back the transactions in progress", func(t *testing.T, c *fixture) {
		con := c.connect()
		put(c, c.texts(), "x")
		session := c.sessionOn(con, polylog.Transacted)
		take(c, session.Queue(c.name("q")))
		put(c, session.Queue(c.name("out")), polylog.NewText("y"))
		c.done(con.Close())
		nothing(c, polylog.QueueOf[string](c.session(), c.name("out")))
		d := take(c, c.texts())
		equal(t, "received", d.Value, "x")
		equal(t, "redelivered", d.Redelivered(), true)
	})
	s.clause("6.1.8", "close acknowledges nothing of a session that the client acknowledges", func(t *testing.T, c *fixture) {
		con := c.connect()
		put(c, c.texts(), "x")
		take(c, c.sessionOn(con, polylog.ClientAcknowledge).Queue(c.name("q")))
		c.done(con.Close())
		d := take(c, c.texts())
		equal(t, "received", d.Value, "x")
		equal(t, "redelivered", d.Redelivered(), true)
	})
	for _, mode := range []polylog.Mode{polylog.ClientAcknowledge, polylog.IndividualAcknowledge} {
		s.clause("6.1.8", fmt.Sprintf("a message of a closed connection cannot be acknowledged, mode %d", mode), func(t *testing.T, c *fixture) {
			con := c.connect()
			q := polylog.QueueOf[string](c.sessionOn(con, mode), c.name("q"))
			put(c, q, "x")
			d := take(c, q)
			c.done(con.Close())
			if err := d.Ack(c.ctx); err == nil {
				t.Error("no error")
			}
			equal(t, "received again", take(c, c.texts()).Value, "x")
		})
	}
	s.clause("6.1.8", "a received message can be used once its connection is closed", func(t *testing.T, c *fixture) {
		con := c.connect()
		q := c.sessionOn(con).Queue(c.name("q"))
		put(c, q, polylog.NewText("x"), polylog.WithProperty("p", "v"))
		m := take(c, q).Message()
		c.done(con.Close())
		equal(t, "text", m.Text(), "x")
		equal(t, "property", m.Properties["p"], any("v"))
	})
	s.clause("6.1.8", "close ends listeners and consumers", func(t *testing.T, c *fixture) {
		con := c.connect()
		q := polylog.QueueOf[string](c.sessionOn(con), c.name("q"))
		var ends sync.WaitGroup
		for range 3 {
			ends.Go(func() {
				err := q.Listen(c.ctx, func(context.Context, *polylog.Delivery[string]) error { return nil })
				c.refused(err, polylog.ErrClosed)
			})
			ends.Go(func() {
				for d, err := range q.Consume(c.ctx) {
					if d != nil || !errors.Is(err, polylog.ErrClosed) {
						t.Errorf("%v, %v", d, err)
					}
				}
			})
		}
		c.until("consumers", func() bool {
			info, err := c.connection().Admin().Describe(c.ctx, c.name("q"))
			return err == nil && info.Queue != nil && info.Queue.Consumers == 6
		})
		c.done(con.Close())
		ends.Wait()
	})
	s.clause("6.1.8", "close waits for completions", func(t *testing.T, c *fixture) {
		con := c.connect()
		var completed atomic.Bool
		c.done(c.sessionOn(con).Queue(c.name("q")).PutAsync(c.ctx, polylog.NewText("x"), func(polylog.Receipt, error) {
			time.Sleep(10 * time.Millisecond)
			completed.Store(true)
		}))
		c.done(con.Close())
		equal(t, "completed", completed.Load(), true)
	})
}
