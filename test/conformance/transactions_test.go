package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

func transactions(s *section) {
	// begin is a transacted session, and a plain one that looks at what it does.
	begin := func(c *fixture) (tx, plain *polylog.Session) {
		c.t.Helper()
		return c.session(polylog.Transacted), c.session()
	}
	s.clause("6.2.7", "what is sent is there with the commit and not before", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(tx, "q"), "1", "2")
		nothing(c, c.queueOf(plain, "q"))
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", takeN(c, c.queueOf(plain, "q"), 2), "1", "2")
	})
	s.clause("6.2.7", "what was sent a rollback destroys", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(tx, "q"), "1", "2")
		c.done(tx.Rollback(c.ctx))
		c.done(tx.Commit(c.ctx))
		nothing(c, c.queueOf(plain, "q"))
	})
	s.clause("6.2.7", "what is received a commit acknowledges", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "q"), "1", "2")
		takeN(c, c.queueOf(tx, "q"), 2)
		c.done(tx.Commit(c.ctx))
		c.done(tx.Close(c.ctx))
		nothing(c, c.queueOf(plain, "q"))
	})
	s.clause("6.2.7", "what was received a rollback has delivered again", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "q"), "1", "2")
		wantTexts(t, "received", takeN(c, c.queueOf(tx, "q"), 2), "1", "2")
		c.done(tx.Rollback(c.ctx))
		for _, want := range []string{"1", "2"} {
			d := take(c, c.queueOf(tx, "q"))
			equal(t, "received", d.Value, want)
			equal(t, "redelivered", d.Redelivered(), true)
			equal(t, "count", d.DeliveryCount(), 2)
		}
	})
	s.clause("6.2.7", "what is received in a transaction nobody else is given", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		put(c, c.queueOf(plain, "q"), "x")
		take(c, c.queueOf(tx, "q"))
		nothing(c, c.queueOf(plain, "q"))
	})
	s.clause("6.2.7", "a message that was rolled back may go to another consumer", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		put(c, c.queueOf(plain, "q"), "x")
		take(c, c.queueOf(tx, "q"))
		c.done(tx.Rollback(c.ctx))
		d := take(c, c.queueOf(plain, "q"))
		equal(t, "received", d.Value, "x")
		equal(t, "redelivered", d.Redelivered(), true)
	})
	s.clause("6.2.7", "sends and receipts are one unit: commit", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "in"), "1", "2")
		for range 2 {
			put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "in")).Value)
		}
		c.done(tx.Commit(c.ctx))
		c.done(tx.Close(c.ctx))
		nothing(c, c.queueOf(plain, "in"))
		wantTexts(t, "sent", takeN(c, c.queueOf(plain, "out"), 2), "1", "2")
	})
	s.clause("6.2.7", "sends and receipts are one unit: rollback", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "in"), "1", "2")
		for range 2 {
			put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "in")).Value)
		}
		c.done(tx.Rollback(c.ctx))
		nothing(c, c.queueOf(plain, "out"))
		wantTexts(t, "received again", takeN(c, c.queueOf(plain, "in"), 2), "1", "2")
	})
	s.clause("6.2.7", "the next transaction begins by itself", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		put(c, c.queueOf(tx, "q"), "1")
		c.done(tx.Commit(c.ctx))
		put(c, c.queueOf(tx, "q"), "2")
		c.done(tx.Rollback(c.ctx))
		put(c, c.queueOf(tx, "q"), "3")
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", rest(c, c.queueOf(plain, "q")), "1", "3")
	})
	s.clause("6.2.7", "a commit is of what came before it", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		putAll(c, c.queueOf(plain, "q"), "1", "2")
		take(c, c.queueOf(tx, "q"))
		c.done(tx.Commit(c.ctx))
		take(c, c.queueOf(tx, "q"))
		c.done(tx.Rollback(c.ctx))
		wantTexts(t, "received", rest(c, c.queueOf(plain, "q")), "2")
	})
	s.clause("6.2.7", "empty transactions are committed and rolled back", func(t *testing.T, c *fixture) {
		tx, _ := begin(c)
		for range 2 {
			c.done(tx.Commit(c.ctx))
			c.done(tx.Rollback(c.ctx))
		}
	})
	s.clause("6.2.7", "a transaction has several destinations of both kinds", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		subscription := sub[string](c)(polylog.TopicOf[string](plain, c.name("t")).Subscribe(c.ctx))
		put(c, c.queueOf(tx, "a"), "a")
		put(c, c.queueOf(tx, "b"), "b")
		publish(c, polylog.TopicOf[string](tx, c.name("t")), "t")
		nothing(c, subscription)
		nothing(c, c.queueOf(plain, "a"))
		c.done(tx.Commit(c.ctx))
		equal(t, "received", take(c, c.queueOf(plain, "a")).Value+take(c, c.queueOf(plain, "b")).Value+take(c, subscription).Value, "abt")
	})
	s.clause("6.2.7", "a transaction receives of several destinations", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		topic := polylog.TopicOf[string](tx, c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx))
		put(c, c.queueOf(plain, "a"), "a")
		publish(c, polylog.TopicOf[string](plain, c.name("t")), "t")
		take(c, c.queueOf(tx, "a"))
		take(c, subscription)
		c.done(tx.Rollback(c.ctx))
		a, b := take(c, c.queueOf(tx, "a")), take(c, subscription)
		equal(t, "counts", fmt.Sprint(a.DeliveryCount(), b.DeliveryCount()), "2 2")
		c.done(tx.Commit(c.ctx))
		nothing(c, c.queueOf(plain, "a"))
		nothing(c, subscription)
	})
	s.clause("6.2.7", "a session does not receive what it has sent before the commit", func(t *testing.T, c *fixture) {
		tx, _ := begin(c)
		put(c, c.queueOf(tx, "q"), "x")
		nothing(c, c.queueOf(tx, "q"))
		c.done(tx.Commit(c.ctx))
		equal(t, "received", take(c, c.queueOf(tx, "q")).Value, "x")
	})
	s.clause("6.2.7", "two transacted sessions do not touch each other", func(t *testing.T, c *fixture) {
		a, b := c.session(polylog.Transacted), c.session(polylog.Transacted)
		put(c, c.queueOf(a, "q"), "a")
		put(c, c.queueOf(b, "q"), "b")
		c.done(a.Rollback(c.ctx))
		c.done(b.Commit(c.ctx))
		wantTexts(t, "received", rest(c, c.texts()), "b")
	})
	s.clause("6.2.7", "other sessions see nothing of a transaction, and are not held up by it", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		put(c, c.queueOf(tx, "q"), "of the transaction")
		put(c, c.queueOf(plain, "q"), "plain")
		wantTexts(t, "received", rest(c, c.queueOf(plain, "q")), "plain")
	})
	s.clause("6.2.7", "asynchronous sends belong to the transaction", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		for i := range 20 {
			c.done(c.queueOf(tx, "q").PutAsync(c.ctx, fmt.Sprint(i), nil))
		}
		c.done(tx.Rollback(c.ctx))
		c.done(c.queueOf(tx, "q").PutAsync(c.ctx, "x", nil))
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", rest(c, c.queueOf(plain, "q")), "x")
	})
	s.clause("6.2.7", "a transaction of a thousand messages", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		sent := numbers(c, c.queueOf(tx, "q"), 1000)
		c.done(tx.Commit(c.ctx))
		list, err := c.queueOf(plain, "q").TakeBatch(c.ctx, 2000)
		c.done(err)
		equal(t, "received", len(list), len(sent))
	})
	s.clause("6.2.7", "a loop that commits now and then", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		sent := numbers(c, c.queueOf(plain, "in"), 10)
		n := 0
		for d, err := range c.queueOf(tx, "in").Consume(c.ctx) {
			c.done(err)
			put(c, c.queueOf(tx, "out"), d.Value)
			if n++; n%3 == 0 {
				c.done(tx.Commit(c.ctx))
			}
			if n == 10 {
				break
			}
		}
		c.done(tx.Close(c.ctx)) // the tenth is rolled back
		wantTexts(t, "out", rest(c, c.queueOf(plain, "out")), sent[:9]...)
		wantTexts(t, "in", rest(c, c.queueOf(plain, "in")), sent[9])
	})
	s.clause("6.2.7", "a rollback has nothing to do with what was merely fetched ahead", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		numbers(c, c.queueOf(plain, "q"), 5)
		for _, err := range c.queueOf(tx, "q").Consume(c.ctx) {
			c.done(err)
			break
		}
		c.done(tx.Rollback(c.ctx))
		var counts []int
		for range 5 {
			counts = append(counts, take(c, c.queueOf(plain, "q")).DeliveryCount())
		}
		equal(t, "counts", fmt.Sprint(counts), "[2 1 1 1 1]")
	})
	for name, mode := range ordered(modes) {
		if mode == polylog.Transacted {
			continue
		}
		s.clause("6.2.7", "commit and rollback are refused in the mode "+name, func(t *testing.T, c *fixture) {
			session := c.session(mode)
			c.refused(session.Commit(c.ctx), polylog.ErrInvalid)
			c.refused(session.Rollback(c.ctx), polylog.ErrInvalid)
		})
	}
	s.clause("6.2.7", "a transaction that its connection's break undid is told so", func(t *testing.T, c *fixture) {
		con := c.breakable()
		tx := c.sessionOn(con, polylog.Transacted)
		put(c, c.texts(), "x")
		take(c, c.queueOf(tx, "q"))
		put(c, c.queueOf(tx, "out"), "y")
		con.lose(c)
		c.refused(tx.Commit(c.ctx), polylog.ErrRolledBack)
		nothing(c, c.queueOf(c.session(), "out"))
		d := take(c, c.texts())
		equal(t, "received", d.Value, "x")
		equal(t, "redelivered", d.Redelivered(), true)
	})
	s.clause("6.2.7", "a session goes on with a new transaction after one that was undone", func(t *testing.T, c *fixture) {
		con := c.breakable()
		tx := c.sessionOn(con, polylog.Transacted)
		put(c, c.queueOf(tx, "q"), "lost")
		con.lose(c)
		c.refused(tx.Commit(c.ctx), polylog.ErrRolledBack)
		put(c, c.queueOf(tx, "q"), "kept")
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", rest(c, c.texts()), "kept")
	})
	s.clause("6.2.7", "a rollback after a break is no error", func(t *testing.T, c *fixture) {
		con := c.breakable()
		tx := c.sessionOn(con, polylog.Transacted)
		put(c, c.queueOf(tx, "q"), "lost")
		con.lose(c)
		c.done(tx.Rollback(c.ctx))
		c.done(tx.Commit(c.ctx))
		nothing(c, c.texts())
	})
	s.clause("6.2.7", "a transaction that cannot be done as a whole is not done at all", func(t *testing.T, c *fixture) {
		c = c.alone(brokerOptions{}) // transactions that are committed at the same time are rolled back with it
		tx, plain := begin(c)
		put(c, c.queueOf(plain, "in"), "x")
		put(c, c.queueOf(tx, "a"), "a")
		put(c, c.queueOf(tx, "b"), "b")
		take(c, c.queueOf(tx, "in"))
		c.done(c.connection().Admin().Delete(c.ctx, c.name("b")))
		c.refused(tx.Commit(c.ctx), polylog.ErrRolledBack)
		nothing(c, c.queueOf(plain, "a"))
		equal(t, "received again", take(c, c.queueOf(plain, "in")).DeliveryCount(), 2)
	})
	s.clause("6.2.7", "a transaction that grows too large says so, and can be committed", func(t *testing.T, c *fixture) {
		tx, plain := begin(c)
		large := strings.Repeat("x", 900<<10)
		var err error
		sent := 0
		for ; err == nil && sent < 100; sent++ {
			_, err = c.queueOf(tx, "q").Put(c.ctx, large)
		}
		c.refused(err, polylog.ErrTooLarge)
		c.done(tx.Commit(c.ctx))
		equal(t, "received", len(rest(c, c.queueOf(plain, "q"))), sent-1)
	})
	s.clause("6.2.7", "a function in a transaction of its own", func(t *testing.T, c *fixture) {
		put(c, c.texts(), "x")
		c.done(c.connection().Tx(c.ctx, func(tx *polylog.Session) error {
			put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "q")).Value)
			return nil
		}))
		nothing(c, c.texts())
		equal(t, "sent", take(c, c.queueOf(c.session(), "out")).Value, "x")
	})
	s.clause("6.2.7", "a function that fails in its transaction is rolled back", func(t *testing.T, c *fixture) {
		failed := errors.New("no")
		put(c, c.texts(), "x")
		c.refused(c.connection().Tx(c.ctx, func(tx *polylog.Session) error {
			put(c, c.queueOf(tx, "out"), take(c, c.queueOf(tx, "q")).Value)
			return failed
		}), failed)
		equal(t, "received again", take(c, c.texts()).DeliveryCount(), 2)
		nothing(c, c.queueOf(c.session(), "out"))
	})
	s.clause("6.2.7", "a durable subscription in a transaction", func(t *testing.T, c *fixture) {
		con := c.withID()
		tx := c.sessionOn(con, polylog.Transacted)
		subscription := sub[string](c)(polylog.TopicOf[string](tx, c.name("t")).Durable(c.ctx, "d"))
		publish(c, polylog.TopicOf[string](c.session(), c.name("t")), "x")
		take(c, subscription)
		c.done(tx.Rollback(c.ctx))
		equal(t, "count", take(c, subscription).DeliveryCount(), 2)
		c.done(tx.Commit(c.ctx))
		c.done(subscription.Close(c.ctx))
		nothing(c, sub[string](c)(polylog.TopicOf[string](c.sessionOn(con), c.name("t")).Durable(c.ctx, "d")))
	})
}

func order(s *section) {
	s.clause("6.2.9.1", "what a session sends to a queue is received in order", func(t *testing.T, c *fixture) {
		q := c.texts()
		var sent []string
		for i := range 30 {
			sent = append(sent, fmt.Sprint(i))
			put(c, q, sent[i])
		}
		wantTexts(t, "received", takeN(c, q, 30), sent...)
	})
	s.clause("6.2.9.1", "what a session sends to two queues is in order in each", func(t *testing.T, c *fixture) {
		session := c.session()
		a, b := c.queueOf(session, "a"), c.queueOf(session, "b")
		var sent []string
		for i := range 20 {
			sent = append(sent, fmt.Sprint(i))
			c.done(a.PutAsync(c.ctx, sent[i], nil))
			c.done(b.PutAsync(c.ctx, sent[i], nil))
		}
		wantTexts(t, "the first's", takeN(c, a, 20), sent...)
		wantTexts(t, "the second's", takeN(c, b, 20), sent...)
	})
	s.clause("6.2.9.1", "what a session sends through two handles of a queue is in order", func(t *testing.T, c *fixture) {
		session := c.session()
		var sent []string
		for i := range 20 {
			sent = append(sent, fmt.Sprint(i))
			c.done(c.queueOf(session, "q").PutAsync(c.ctx, sent[i], nil))
		}
		wantTexts(t, "received", takeN(c, c.texts(), 20), sent...)
	})
	s.clause("6.2.9.1", "what a session sends to a queue of several partitions is received in order", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"partitions": "4"}})
		c.done(err)
		q := c.texts()
		sent := numbers(c, q, 50)
		wantTexts(t, "received", takeN(c, q, 50), sent...)
	})
	s.clause("6.2.9.1", "what several sessions send to several partitions is in order for each session", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"partitions": "3"}})
		c.done(err)
		var all sync.WaitGroup
		for i := range 4 {
			q := c.queueOf(c.session(), "q")
			all.Go(func() {
				for n := range 15 {
					if _, err := q.Put(c.ctx, fmt.Sprintf("%d %02d", i, n)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		of := map[string][]string{}
		for _, text := range takeN(c, c.texts(), 60) {
			of[text[:1]] = append(of[text[:1]], text)
		}
		for who, list := range of {
			if len(list) != 15 || !slices.IsSorted(list) {
				t.Errorf("of %s: %v", who, list)
			}
		}
	})
	s.clause("6.2.9.1", "what a consumer of a subscription receives is in order", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.SharedDurable(c.ctx, c.name("sub")))
		var sent []string
		for i := range 30 {
			sent = append(sent, fmt.Sprint(i))
			c.done(topic.PublishAsync(c.ctx, sent[i], nil))
		}
		wantTexts(t, "received", takeN(c, subscription, 30), sent...)
	})
	s.clause("6.2.9.1", "a loop sees the order that single receives see", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 30)
		var got []string
		for d, err := range q.Consume(c.ctx, polylog.WithPrefetch(4)) {
			c.done(err)
			if got = append(got, d.Value); len(got) == 30 {
				break
			}
		}
		wantTexts(t, "received", got, sent...)
	})
	s.clause("6.2.9.2", "messages of one priority keep their order among others", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 20 {
			put(c, q, fmt.Sprintf("%d %02d", i%2, i), polylog.WithPriority(4+5*(i%2)))
		}
		got := takeN(c, q, 20)
		if !strings.HasPrefix(got[0], "1") || !strings.HasPrefix(got[19], "0") || !slices.IsSorted(got[:10]) || !slices.IsSorted(got[10:]) {
			t.Errorf("%v", got)
		}
	})
	s.clause("6.2.9.2", "messages of one delivery mode keep their order among others", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 20 {
			var opts []polylog.PutOption
			if i%2 == 1 {
				opts = append(opts, polylog.NonPersistent())
			}
			c.done(q.PutAsync(c.ctx, fmt.Sprintf("%d %02d", i%2, i), nil, opts...))
		}
		got := takeN(c, q, 20)
		slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:1], b[:1]) })
		if !slices.IsSorted(got) {
			t.Errorf("%v", got)
		}
	})
	s.clause("6.2.9.2", "messages with a later delivery time may come later", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "1", polylog.WithDelay(time.Hour))
		put(c, q, "2")
		wantTexts(t, "received", rest(c, q), "2")
	})
	s.clause("6.2.9.2", "delayed messages come in the order of their delivery times", func(t *testing.T, c *fixture) {
		q := c.texts()
		at := time.Now()
		put(c, q, "second", polylog.WithDelay(40*time.Millisecond))
		put(c, q, "first", polylog.WithDelay(time.Until(at.Add(30*time.Millisecond))))
		sleepUntil(at.Add(100 * time.Millisecond))
		a, b := take(c, q), take(c, q)
		if a.Message().DeliveryTime > b.Message().DeliveryTime && a.Value != "second" {
			t.Errorf("%s before %s", a.Value, b.Value)
		}
	})
	s.clause("6.2.9.2", "a transaction's messages to a destination are in order", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		sent := numbers(c, c.queueOf(tx, "q"), 20)
		c.done(tx.Commit(c.ctx))
		wantTexts(t, "received", takeN(c, c.texts(), 20), sent...)
	})
	s.clause("6.2.9.2", "transactions' messages are in the order of the commits", func(t *testing.T, c *fixture) {
		tx := c.session(polylog.Transacted)
		for _, text := range []string{"1", "2", "3"} {
			put(c, c.queueOf(tx, "q"), text)
			c.done(tx.Commit(c.ctx))
		}
		wantTexts(t, "received", takeN(c, c.texts(), 3), "1", "2", "3")
	})
}
