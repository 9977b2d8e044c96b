package conformance

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func connections(s *section) {
	authentication(s)
	clientIDs(s)
	startAndStop(s)
	exceptionListeners(s)
	closing(s)
}

func authentication(s *section) {
	guarded := func(c *fixture) *fixture {
		c.t.Helper()
		return c.alone(brokerOptions{authenticate: func(user, password string) (string, error) {
			if user == "anna" && password == "secret" {
				return user, nil
			}
			return "", errors.New("no")
		}})
	}
	s.clause("6.1.1", "a user is admitted with the password", func(t *testing.T, c *fixture) {
		c = guarded(c)
		con, err := c.tryConnect(polylog.WithUser("anna", "secret"))
		c.done(err)
		put(c, c.sessionOn(con).Queue("q"), polylog.NewText("x"))
	})
	s.clause("6.1.1", "a wrong password is refused, and so is none", func(t *testing.T, c *fixture) {
		c = guarded(c)
		for _, user := range [][2]string{{"anna", "wrong"}, {"bert", "secret"}, {"anna", ""}, {"", ""}} {
			_, err := c.tryConnect(polylog.WithUser(user[0], user[1]))
			c.refused(err, polylog.ErrUnauthorized)
		}
		_, err := c.tryConnect()
		c.refused(err, polylog.ErrUnauthorized)
	})
	s.clause("6.1.1", "user and password may be in the address", func(t *testing.T, c *fixture) {
		c = guarded(c)
		address := strings.Replace(c.b.address(), "polylog://", "polylog://anna:secret@", 1)
		con, err := polylog.Connect(c.ctx, address, c.b.reach()...)
		c.done(err)
		c.done(con.Close())
		_, err = polylog.Connect(c.ctx, strings.Replace(address, "secret", "wrong", 1), c.b.reach()...)
		c.refused(err, polylog.ErrUnauthorized)
		if err != nil && strings.Contains(err.Error(), "wrong@") {
			t.Errorf("%v shows the password", err)
		}
	})
	s.clause("6.1.1", "a connection without credentials", func(t *testing.T, c *fixture) {
		put(c, c.texts(), "x")
	})
}

func clientIDs(s *section) {
	s.clause("6.1.2", "a connection has the client id that it was made with", func(t *testing.T, c *fixture) {
		equal(t, "client id", c.withID().ClientID(), c.name("id"))
	})
	s.clause("6.1.2", "a connection without a client id has none", func(t *testing.T, c *fixture) {
		equal(t, "client id", c.connection().ClientID(), "")
	})
	s.clause("6.1.2", "the client id may be in the address", func(t *testing.T, c *fixture) {
		con, err := polylog.Connect(c.ctx, c.b.address()+"?client-id="+c.name("id"), c.b.reach()...)
		c.done(err)
		defer con.Close()
		equal(t, "client id", con.ClientID(), c.name("id"))
		_, err = c.tryConnect(polylog.WithClientID(c.name("id")))
		c.refused(err, polylog.ErrConflict)
	})
	s.clause("6.1.2", "a client id that is in use is refused", func(t *testing.T, c *fixture) {
		c.withID()
		_, err := c.tryConnect(polylog.WithClientID(c.name("id")))
		c.refused(err, polylog.ErrConflict)
	})
	s.clause("6.1.2", "a refused client id disturbs nobody who has it", func(t *testing.T, c *fixture) {
		con := c.withID()
		topic := polylog.TopicOf[string](c.sessionOn(con), c.name("t"))
		subscription := sub[string](c)(topic.Durable(c.ctx, "d"))
		_, err := c.tryConnect(polylog.WithClientID(c.name("id")))
		c.refused(err, polylog.ErrConflict)
		publish(c, topic, "x")
		equal(t, "received", take(c, subscription).Value, "x")
	})
	s.clause("6.1.2", "a client id is free once its connection is closed", func(t *testing.T, c *fixture) {
		c.done(c.withID().Close())
		c.until("the client id", func() bool {
			_, err := c.tryConnect(polylog.WithClientID(c.name("id")))
			return err == nil
		})
	})
	s.clause("6.1.2", "client ids that differ in case are two", func(t *testing.T, c *fixture) {
		c.connect(polylog.WithClientID(c.name("id")))
		c.connect(polylog.WithClientID(c.name("ID")))
	})
	s.clause("6.1.2", "connections without a client id do not collide", func(t *testing.T, c *fixture) {
		c.connect()
		c.connect()
		c.connect(polylog.WithClientID(""))
	})
	s.clause("6.1.2", "a client id of any characters", func(t *testing.T, c *fixture) {
		equal(t, "client id", c.connect(polylog.WithClientID(c.name("größe / 名\n"))).ClientID(), c.name("größe / 名\n"))
	})
	s.clause("6.1.2", "a client id belongs to the connection over breaks", func(t *testing.T, c *fixture) {
		con := c.breakable(polylog.WithClientID(c.name("id")))
		q := polylog.QueueOf[string](c.sessionOn(con), c.name("q"))
		put(c, q, "x")
		con.lose(c)
		equal(t, "received", take(c, q).Value, "x")
		_, err := c.tryConnect(polylog.WithClientID(c.name("id")))
		c.refused(err, polylog.ErrConflict)
	})
	s.clause("6.1.2", "the state of a client id is its durable subscriptions", func(t *testing.T, c *fixture) {
		first := c.withID()
		topic := polylog.TopicOf[string](c.sessionOn(first), c.name("t"))
		c.done(sub[string](c)(topic.Durable(c.ctx, "d")).Close(c.ctx))
		publish(c, topic, "x")
		other := c.connect(polylog.WithClientID(c.name("other")))
		nothing(c, sub[string](c)(polylog.TopicOf[string](c.sessionOn(other), c.name("t")).Durable(c.ctx, "d")))
		equal(t, "received", take(c, sub[string](c)(topic.Durable(c.ctx, "d"))).Value, "x")
	})
}

// takesNothing wants a Take to end with its context.
func takesNothing[T any](c *fixture, from taker[T]) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 20*time.Millisecond)
	defer cancel()
	// On a slow machine the time may be over before there is a consumer.
	if d, err := from.Take(ctx); d != nil || !errors.Is(err, polylog.ErrNoMessage) && !errors.Is(err, context.DeadlineExceeded) {
		c.t.Errorf("%v, %v, where there should be nothing", d, err)
	}
}

func startAndStop(s *section) {
	stopped := func(c *fixture) (*polylog.Connection, *polylog.Queue[string]) {
		c.t.Helper()
		con := c.connect(polylog.WithStopped())
		return con, polylog.QueueOf[string](c.sessionOn(con), c.name("q"))
	}
	s.clause("6.1.4", "a connection begins stopped", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		equal(t, "received", take(c, q).Value, "x")
	}, deviates("a connection is made in stopped mode; polylog's begins started, as a JMSContext does with its first consumer, unless it is made with WithStopped"))
	s.clause("6.1.4", "nothing is received before the start", func(t *testing.T, c *fixture) {
		_, q := stopped(c)
		put(c, q, "x")
		takesNothing(c, q)
	})
	s.clause("6.1.4", "no listener is called before the start", func(t *testing.T, c *fixture) {
		con, q := stopped(c)
		put(c, q, "x")
		var started atomic.Bool
		called := make(chan struct{})
		c.background(func(ctx context.Context) {
			_ = q.Listen(ctx, func(context.Context, *polylog.Delivery[string]) error {
				if !started.Load() {
					t.Error("called before the start")
				}
				close(called)
				return nil
			})
		})
		c.waits("the listener", called)
		started.Store(true)
		c.done(con.Start(c.ctx))
		c.comes("the message", called)
	})
	s.clause("6.1.4", "no subscription is served before the start", func(t *testing.T, c *fixture) {
		con := c.connect(polylog.WithStopped())
		topic := polylog.TopicOf[string](c.sessionOn(con), c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x")
		takesNothing(c, subscription)
		c.done(con.Start(c.ctx))
		equal(t, "received", take(c, subscription).Value, "x")
	})
	s.clause("6.1.4", "a connection sends before the start", func(t *testing.T, c *fixture) {
		_, q := stopped(c)
		put(c, q, "x")
		equal(t, "received", take(c, c.texts()).Value, "x")
	})
	s.clause("6.1.4", "what waited comes with the start", func(t *testing.T, c *fixture) {
		con, q := stopped(c)
		putAll(c, q, "1", "2")
		c.done(con.Start(c.ctx))
		wantTexts(t, "received", takeN(c, q, 2), "1", "2")
	})
	s.clause("6.1.4", "a receive that waits is served after the start", func(t *testing.T, c *fixture) {
		con, q := stopped(c)
		put(c, q, "x")
		done := c.background(func(ctx context.Context) {
			if d, err := q.Take(ctx); err != nil || d.Value != "x" {
				t.Errorf("%v, %v", d, err)
			}
		})
		c.waits("the receive", done)
		c.done(con.Start(c.ctx))
		c.comes("the message", done)
	})
	s.clause("6.1.4", "sessions and consumers are set up before the start", func(t *testing.T, c *fixture) {
		con := c.connect(polylog.WithStopped(), polylog.WithClientID(c.name("id")))
		session := c.sessionOn(con, polylog.ClientAcknowledge)
		sub[*polylog.Message](c)(session.Topic(c.name("t")).Durable(c.ctx, "d"))
		_, err := session.TemporaryQueue(c.ctx)
		c.done(err)
	})

	// §6.1.5
	s.clause("6.1.5", "a stopped connection receives nothing until it is started", func(t *testing.T, c *fixture) {
		q := c.texts()
		putAll(c, q, "1", "2")
		take(c, q)
		c.done(c.connection().Stop(c.ctx))
		takesNothing(c, q)
		c.done(c.connection().Start(c.ctx))
		equal(t, "received", take(c, q).Value, "2")
	})
	s.clause("6.1.5", "what was fetched ahead is not delivered while stopped", func(t *testing.T, c *fixture) {
		q := c.texts()
		putAll(c, q, "1", "2", "3")
		var seen atomic.Int32
		first := make(chan struct{})
		c.background(func(ctx context.Context) {
			for _, err := range q.Consume(ctx) {
				if err != nil {
					return
				}
				if seen.Add(1) == 1 {
					close(first)
					<-ctx.Done() // the rest is in the client by now
				}
			}
		})
		c.comes("a message", first)
		c.done(c.connection().Stop(c.ctx))
		equal(t, "seen", seen.Load(), 1)
	})
	s.clause("6.1.5", "receives of a stopped connection time out", func(t *testing.T, c *fixture) {
		q := c.texts()
		nothing(c, q) // there is a consumer from now on
		put(c, q, "x")
		c.done(c.connection().Stop(c.ctx))
		ctx, cancel := context.WithTimeout(c.ctx, 10*time.Millisecond)
		defer cancel()
		_, err := q.Take(ctx)
		c.refused(err, polylog.ErrNoMessage)
		c.refused(err, context.DeadlineExceeded)
	})
	s.clause("6.1.5", "a receive without waiting returns at once when stopped", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		c.done(c.connection().Stop(c.ctx))
		_, err := q.Take(c.ctx, polylog.NoWait())
		c.refused(err, polylog.ErrNoMessage)
	})
	s.clause("6.1.5", "stop waits for a listener that runs", func(t *testing.T, c *fixture) {
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
			if err := c.connection().Stop(ctx); err != nil {
				t.Error(err)
			}
		})
		c.waits("stop", done)
		close(leave)
		c.comes("the stop", done)
	})
	s.clause("6.1.5", "a listener that stop waits for has the connection's services", func(t *testing.T, c *fixture) {
		q, other := c.texts(), polylog.QueueOf[string](c.session(), c.name("other"))
		running, leave := make(chan struct{}), make(chan struct{})
		c.background(func(ctx context.Context) {
			_ = q.Listen(ctx, func(ctx context.Context, d *polylog.Delivery[string]) error {
				close(running)
				<-leave
				_, err := other.Put(ctx, "sent while stopping")
				if err == nil {
					err = d.Ack(ctx)
				}
				if err != nil {
					t.Error(err)
				}
				return err
			})
		})
		put(c, q, "x")
		c.comes("the message", running)
		done := c.background(func(ctx context.Context) { _ = c.connection().Stop(ctx) })
		c.waits("stop", done)
		close(leave)
		c.comes("the stop", done)
		equal(t, "received", take(c, polylog.QueueOf[string](c.sessionOn(c.connect()), c.name("other"))).Value, "sent while stopping")
	})
	s.clause("6.1.5", "no listener is called while stopped", func(t *testing.T, c *fixture) {
		q := c.texts()
		var allowed atomic.Bool
		allowed.Store(true)
		seen := make(chan string, 10)
		c.background(func(ctx context.Context) {
			_ = q.Listen(ctx, func(_ context.Context, d *polylog.Delivery[string]) error {
				if !allowed.Load() {
					t.Error("called while stopped")
				}
				seen <- d.Value
				return nil
			})
		})
		put(c, q, "1")
		equal(t, "received", <-seen, "1")
		c.done(c.connection().Stop(c.ctx))
		allowed.Store(false)
		put(c, q, "2")
		time.Sleep(10 * time.Millisecond) // for a listener that should not be called
		allowed.Store(true)
		c.done(c.connection().Start(c.ctx))
		equal(t, "received", <-seen, "2")
	})
	s.clause("6.1.5", "a stopped connection sends", func(t *testing.T, c *fixture) {
		q := c.texts()
		c.done(c.connection().Stop(c.ctx))
		put(c, q, "x")
		equal(t, "received", take(c, polylog.QueueOf[string](c.sessionOn(c.connect()), c.name("q"))).Value, "x")
	})
	s.clause("6.1.5", "to stop what is stopped, and to start what is started, is ignored", func(t *testing.T, c *fixture) {
		q := c.texts()
		con := c.connection()
		c.done(con.Start(c.ctx))
		for range 2 {
			c.done(con.Stop(c.ctx))
		}
		for range 2 {
			c.done(con.Start(c.ctx))
		}
		put(c, q, "x")
		equal(t, "received", take(c, q).Value, "x")
	})
	s.clause("6.1.5", "stop is for one connection", func(t *testing.T, c *fixture) {
		q := c.texts()
		c.done(c.connect().Stop(c.ctx))
		put(c, q, "x")
		equal(t, "received", take(c, q).Value, "x")
	})
	s.clause("6.1.5", "stop is for all sessions of a connection", func(t *testing.T, c *fixture) {
		a, b := c.texts(), polylog.QueueOf[string](c.session(), c.name("other"))
		put(c, a, "x")
		put(c, b, "x")
		c.done(c.connection().Stop(c.ctx))
		takesNothing(c, a)
		takesNothing(c, b)
	})
	s.clause("6.1.5", "a stopped connection acknowledges and commits", func(t *testing.T, c *fixture) {
		session := c.session(polylog.Transacted)
		q := polylog.QueueOf[string](session, c.name("q"))
		put(c, polylog.QueueOf[string](c.session(), c.name("q")), "x")
		take(c, q)
		c.done(c.connection().Stop(c.ctx))
		c.done(session.Commit(c.ctx))
		nothing(c, polylog.QueueOf[string](c.sessionOn(c.connect()), c.name("q")))
	})
	s.clause("6.1.5", "a connection that breaks while stopped stays stopped", func(t *testing.T, c *fixture) {
		con := c.breakable()
		q := polylog.QueueOf[string](c.sessionOn(con), c.name("q"))
		put(c, q, "x")
		c.done(con.Stop(c.ctx))
		con.lose(c)
		put(c, q, "y") // over the next connection
		takesNothing(c, q)
		c.done(con.Start(c.ctx))
		wantTexts(t, "received", takeN(c, q, 2), "x", "y")
	})
}

func exceptionListeners(s *section) {
	s.clause("6.1.7", "the exception listener is told that the connection broke", func(t *testing.T, c *fixture) {
		told := make(chan error, 10)
		con := c.breakable(polylog.WithExceptionListener(func(err error) { told <- err }))
		put(c, c.sessionOn(con).Queue(c.name("q")), polylog.NewText("x"))
		con.cut()
		select {
		case err := <-told:
			if err == nil {
				t.Error("told of nothing")
			}
		case <-c.ctx.Done():
			t.Error("it was not told")
		}
	})
	s.clause("6.1.7", "the exception listener is told of sends that nobody waits for", func(t *testing.T, c *fixture) {
		told := make(chan error, 10)
		con := c.connect(polylog.WithExceptionListener(func(err error) { told <- err }))
		q := c.sessionOn(con).Queue(c.name("q"))
		put(c, q, polylog.NewText("x"))
		c.done(con.Admin().Delete(c.ctx, c.name("q")))
		c.done(q.PutAsync(c.ctx, polylog.NewText("y"), nil))
		c.refused(<-told, polylog.ErrNotFound)
	})
	s.clause("6.1.7", "the exception listener is not told what the caller is", func(t *testing.T, c *fixture) {
		con := c.connect(polylog.WithExceptionListener(func(err error) { t.Errorf("told %v", err) }))
		session := c.sessionOn(con)
		_, err := session.Topic(c.name("t")).Durable(c.ctx, "d") // needs a client id
		c.refused(err, polylog.ErrInvalid)
		_, err = polylog.QueueOf[string](session, c.name("q")).Take(c.ctx, polylog.WithSelector("="), polylog.NoWait())
		c.refused(err, polylog.ErrBadSelector)
		_, err = polylog.QueueOf[string](session, "").Put(c.ctx, "x")
		if err == nil {
			t.Error("no error")
		}
		c.done(con.Close())
	})
	s.clause("6.1.7", "the exception listener may use the connection", func(t *testing.T, c *fixture) {
		var con *fragile
		ready, sent := make(chan struct{}), make(chan error, 10)
		con = c.breakable(polylog.WithExceptionListener(func(error) {
			<-ready
			s, err := con.Session(c.ctx)
			if err == nil {
				_, err = s.Queue(c.name("q")).Put(c.ctx, polylog.NewText("x"))
			}
			sent <- err
		}))
		close(ready)
		con.cut()
		c.done(<-sent)
	})
	s.clause("6.1.7", "calls of the exception listener do not overlap", func(t *testing.T, c *fixture) {
		var inside, calls atomic.Int32
		con := c.breakable(polylog.WithExceptionListener(func(error) {
			if inside.Add(1) > 1 {
				t.Error("called twice at a time")
			}
			time.Sleep(10 * time.Millisecond)
			inside.Add(-1)
			calls.Add(1)
		}))
		q := c.sessionOn(con).Queue(c.name("q"))
		put(c, q, polylog.NewText("x"))
		c.done(c.connection().Admin().Delete(c.ctx, c.name("q")))
		c.done(q.PutAsync(c.ctx, polylog.NewText("y"), nil)) // refused: known to the goroutine of completions
		c.until("the first call", func() bool { return inside.Load()+calls.Load() > 0 })
		con.cut() // known to the one that dials again
		c.until("the second call", func() bool { return calls.Load() > 1 })
	})
}
