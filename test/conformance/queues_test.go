package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

// oddNames are legal names of destinations. None is that of another case.
var oddNames = []string{
	"UPPER", "upper", "a b", " leading", "trailing ", "a/b", "/", "a\\b", "a:b", "a*b", "a;b", "a%b", "%41", "_x41_", "_x5F_x41_", "..", ".", "...", "-", "a-0", "größe", "名前", "🙂", "a\tb", "a\nb", "\x00", "'quoted'", `"`, "a>b", "#", "?", "<>", "|", "CON", "DLQ.", "queue://a", strings.Repeat("n", 250), strings.Repeat("ü", 512),
}

func queues(s *section) {
	queueSemantics(s)
	browsers(s)
	requestors(s)
}

// numbers sends as many messages as their numbers say, in order.
func numbers(c *fixture, q *polylog.Queue[string], n int, opts ...polylog.PutOption) (sent []string) {
	c.t.Helper()
	for i := range n {
		sent = append(sent, fmt.Sprintf("%03d", i))
	}
	if _, err := q.PutAll(c.ctx, slices.Values(sent), opts...); err != nil {
		c.t.Fatal(err)
	}
	return sent
}

// shared has several consumers take what is in a queue, one message at a time, and
// returns what each has had.
func shared(c *fixture, queues ...taker[string]) [][]string {
	c.t.Helper()
	got := make([][]string, len(queues))
	var all sync.WaitGroup
	for i, q := range queues {
		all.Go(func() {
			for {
				d, err := q.Take(c.ctx, polylog.NoWait())
				if errors.Is(err, polylog.ErrNoMessage) {
					return
				}
				if err != nil {
					c.t.Error(err)
					return
				}
				got[i] = append(got[i], d.Value)
			}
		})
	}
	all.Wait()
	return got
}

func queueSemantics(s *section) {
	for what, connect := range ordered(map[string]func(c *fixture) (a, b *polylog.Session){
		"of one connection": func(c *fixture) (a, b *polylog.Session) { return c.session(), c.session() },
		"of two connections": func(c *fixture) (a, b *polylog.Session) {
			return c.sessionOn(c.connect()), c.sessionOn(c.connect())
		},
	}) {
		s.clause("4.1.2", "each message goes to one of two consumers "+what, func(t *testing.T, c *fixture) {
			a, b := connect(c)
			sent := numbers(c, polylog.QueueOf[string](a, c.name("q")), 60)
			got := shared(c, polylog.QueueOf[string](a, c.name("q")), polylog.QueueOf[string](b, c.name("q")))
			all := slices.Concat(got...)
			slices.Sort(all)
			wantTexts(t, "received", all, sent...)
		})
	}
	s.clause("4.1.2", "what one consumer holds no other is given", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		put(c, q, "x")
		take(c, q)
		nothing(c, polylog.QueueOf[string](c.session(), c.name("q")))
	})
	s.clause("4.1.2", "each of several consumers gets its messages in order", func(t *testing.T, c *fixture) {
		q := c.texts()
		numbers(c, q, 60)
		for _, got := range shared(c, q, polylog.QueueOf[string](c.session(), c.name("q")), polylog.QueueOf[string](c.session(), c.name("q"))) {
			if !slices.IsSorted(got) {
				t.Errorf("%v", got)
			}
		}
	})
	s.clause("4.1.2", "a consumer with a selector gets its messages in order", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 20 {
			put(c, q, fmt.Sprintf("%02d", i), polylog.WithProperty("even", i%2 == 0))
		}
		got := rest(c, q, polylog.WithSelector("even"))
		if len(got) != 10 || !slices.IsSorted(got) {
			t.Errorf("%v", got)
		}
	})
	s.clause("4.1.2", "consumers with and without a selector leave nothing and share nothing", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 20 {
			put(c, q, fmt.Sprintf("%02d", i), polylog.WithProperty("even", i%2 == 0))
		}
		all := rest(c, q, polylog.WithSelector("even"))
		all = append(all, rest(c, q)...)
		slices.Sort(all)
		equal(t, "received", len(slices.Compact(all)), 20)
	})
	s.clause("4.1.2", "a consumer that is there first gets what is sent", func(t *testing.T, c *fixture) {
		q := c.texts()
		done := c.background(func(ctx context.Context) {
			if d, err := q.Take(ctx); err != nil || d.Value != "x" {
				t.Errorf("%v, %v", d, err)
			}
		})
		put(c, polylog.QueueOf[string](c.session(), c.name("q")), "x")
		c.comes("the message", done)
	})
	s.clause("4.1.3", "a queue is made by its first use", func(t *testing.T, c *fixture) {
		q := c.texts()
		nothing(c, q)
		put(c, q, "x")
		equal(t, "message", take(c, q).Value, "x")
	})
	for _, name := range oddNames {
		title := name
		if len(title) > 100 {
			title = fmt.Sprintf("%s, %d bytes", name[:4], len(name))
		}
		s.clause("4.1.4", fmt.Sprintf("a queue may be named %q", title), func(t *testing.T, c *fixture) {
			q := polylog.QueueOf[string](c.session(), name)
			put(c, q, name)
			d := take(c, q)
			equal(t, "body", d.Value, name)
			equal(t, "destination", d.Message().Destination, name)
		})
	}
	for what, wrong := range ordered(map[string]struct {
		name string
		err  error
	}{
		"an empty name": {"", polylog.ErrInvalid}, "1,025 bytes": {strings.Repeat("n", 1025), polylog.ErrTooLarge}, "bytes that are no text": {"\xff", polylog.ErrInvalid},
		"a broker's own name": {"__mine", polylog.ErrInvalid}, "the name of a temporary queue": {"temp-queue/mine", polylog.ErrInvalid},
	}) {
		s.clause("4.1.4", "no queue has "+what, func(t *testing.T, c *fixture) {
			_, err := c.session().Queue(wrong.name).Put(c.ctx, polylog.NewText("x"))
			if err == nil {
				t.Fatal("it was sent")
			}
			if !errors.Is(err, wrong.err) && !errors.Is(err, polylog.ErrUnauthorized) {
				t.Error(err)
			}
			if _, err := c.session().Queue(wrong.name).Take(c.ctx, polylog.NoWait()); err == nil || errors.Is(err, polylog.ErrNoMessage) {
				t.Errorf("take: %v", err)
			}
		})
	}
	s.clause("4.1.4", "a topic is no queue", func(t *testing.T, c *fixture) {
		publish(c, c.session().Topic(c.name("t")), polylog.NewText("x"))
		_, err := c.session().Queue(c.name("t")).Take(c.ctx, polylog.NoWait())
		c.refused(err, polylog.ErrWrongKind)
		for _, err := range c.session().Queue(c.name("t")).Browse(c.ctx) {
			c.refused(err, polylog.ErrWrongKind)
		}
	})
	s.clause("4.1.4", "nobody sends to a topic as to a queue", func(t *testing.T, c *fixture) {
		publish(c, c.session().Topic(c.name("t")), polylog.NewText("x"))
		_, err := c.session().Queue(c.name("t")).Put(c.ctx, polylog.NewText("x"))
		c.refused(err, polylog.ErrWrongKind)
	})
	s.clause("4.1.8", "a queue keeps messages while nobody is connected", func(t *testing.T, c *fixture) {
		con := c.connect()
		put(c, polylog.QueueOf[string](c.sessionOn(con), c.name("q")), "x")
		c.done(con.Close())
		equal(t, "message", take(c, c.texts()).Value, "x")
	})
}

// browse returns the texts that a browser sees.
func browse(c *fixture, q *polylog.Queue[string], opts ...polylog.ConsumeOption) (all []string) {
	c.t.Helper()
	for b, err := range q.Browse(c.ctx, opts...) {
		if err != nil {
			c.t.Fatalf("browse: %v", err)
		}
		all = append(all, b.Value)
	}
	return all
}

func browsers(s *section) {
	s.clause("4.1.6", "a browser sees all messages in order", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 10)
		wantTexts(t, "browsed", browse(c, q), sent...)
	})
	s.clause("4.1.6", "a browser removes nothing", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 3)
		browse(c, q)
		wantTexts(t, "browsed again", browse(c, q), sent...)
		wantTexts(t, "taken", rest(c, q), sent...)
	})
	s.clause("4.1.6", "to be browsed is no delivery", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		browse(c, q)
		d := take(c, q)
		equal(t, "count", d.DeliveryCount(), 1)
		equal(t, "redelivered", d.Redelivered(), false)
	})
	s.clause("4.1.6", "a browser with a selector sees what matches", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 10 {
			put(c, q, fmt.Sprint(i), polylog.WithProperty("n", i))
		}
		wantTexts(t, "browsed", browse(c, q, polylog.WithSelector("n BETWEEN 3 AND 5")), "3", "4", "5")
	})
	s.clause("4.1.6", "a browser of an empty queue sees nothing", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		take(c, q)
		wantTexts(t, "browsed", browse(c, q))
	})
	s.clause("4.1.6", "a browser of a queue that is not there is refused", func(t *testing.T, c *fixture) {
		for _, err := range c.texts().Browse(c.ctx) {
			c.refused(err, polylog.ErrNotFound)
		}
	})
	s.clause("4.1.6", "a browser sees more than fits into one answer", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 1300)
		wantTexts(t, "browsed", browse(c, q), sent...)
	})
	s.clause("4.1.6", "a browser can be left", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 5)
		for b, err := range q.Browse(c.ctx) {
			c.done(err)
			if b.Value == sent[1] {
				break
			}
		}
		wantTexts(t, "taken", rest(c, q), sent...)
	})
	s.clause("4.1.6", "a browser sees header fields and properties", func(t *testing.T, c *fixture) {
		q := c.messages()
		r := put(c, q, polylog.NewText("x"), polylog.WithProperty("p", "v"), polylog.WithPriority(8), polylog.WithType("t"))
		for b, err := range q.Browse(c.ctx) {
			c.done(err)
			m := b.Message()
			equal(t, "message", fmt.Sprint(m.ID, m.Properties["p"], m.Priority, m.Type, m.Destination), fmt.Sprint(r.MessageID(), "v", 8, "t", c.name("q")))
		}
	})
	s.clause("4.1.6", "a browser does not see what was acknowledged", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 3)
		take(c, q)
		c.done(q.Session().Flush(c.ctx))
		wantTexts(t, "browsed", browse(c, q), sent[1:]...)
	})
	s.clause("4.1.6", "a browser does not see what has expired", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "expired", polylog.WithExpiry(time.Now().Add(-time.Second)))
		put(c, q, "alive", polylog.WithTTL(time.Hour))
		nothing(c, q, polylog.WithSelector("FALSE"))
		wantTexts(t, "browsed", browse(c, q), "alive")
	})
	s.clause("4.1.6", "a browser does not see what is sent in an open transaction", func(t *testing.T, c *fixture) {
		session := c.session(polylog.Transacted)
		q := polylog.QueueOf[string](session, c.name("q"))
		put(c, q, "x")
		wantTexts(t, "before the commit", browse(c, q))
		c.done(session.Commit(c.ctx))
		wantTexts(t, "after it", browse(c, q), "x")
	})
	s.clause("4.1.6", "a browser may see a message that somebody holds, and then says so", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.ClientAcknowledge)
		numbers(c, q, 2)
		take(c, q)
		var states []polylog.BrowseState
		for b, err := range q.Browse(c.ctx) {
			c.done(err)
			states = append(states, b.State)
		}
		equal(t, "states", fmt.Sprint(states), fmt.Sprint([]polylog.BrowseState{polylog.BrowseAcquired, polylog.BrowseAvailable}))
	})
	s.clause("4.1.6", "a browser does not see a message before its delivery time", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x", polylog.WithDelay(time.Hour))
		nothing(c, q) // so that the broker has looked at it
		for b, err := range q.Browse(c.ctx) {
			c.done(err)
			equal(t, "state", b.State, polylog.BrowseScheduled)
		}
		wantTexts(t, "browsed", browse(c, q), "x")
	}, deviates("a browser must not return a message before its delivery time; polylog's shows it in the state BrowseScheduled"))
	s.clause("4.1.6", "a browser sees messages in the order in which they would be received", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "low", polylog.WithPriority(1))
		put(c, q, "high", polylog.WithPriority(9))
		wantTexts(t, "browsed", browse(c, q), "low", "high")
		wantTexts(t, "received", rest(c, q), "high", "low")
	}, deviates("a browser returns messages in the order in which they would be received (QueueBrowser.getEnumeration), the highest priority first; polylog's reads each partition in the order of the sends"))
	s.clause("4.1.6", "a browser goes on while messages come", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 600)
		var seen []string
		for b, err := range q.Browse(c.ctx) {
			c.done(err)
			if seen = append(seen, b.Value); len(seen) == 1 {
				put(c, q, "later")
			}
		}
		wantTexts(t, "browsed", seen[:len(sent)], sent...)
	})
	s.clause("4.1.6", "a browser of a temporary queue", func(t *testing.T, c *fixture) {
		q, err := c.session().TemporaryQueue(c.ctx)
		c.done(err)
		put(c, q, polylog.NewText("x"))
		n := 0
		for b, err := range q.Browse(c.ctx) {
			c.done(err)
			equal(t, "body", b.Value.Text(), "x")
			n++
		}
		equal(t, "browsed", n, 1)
	})
	s.clause("4.1.6", "two browsers of one queue", func(t *testing.T, c *fixture) {
		q := c.texts()
		sent := numbers(c, q, 3)
		var second []string
		for _, err := range q.Browse(c.ctx) {
			c.done(err)
			second = browse(c, polylog.QueueOf[string](c.session(), c.name("q")))
		}
		wantTexts(t, "browsed", second, sent...)
	})
}

func requestors(s *section) {
	// answering answers requests until the case ends.
	answering := func(c *fixture, answer func(m *polylog.Message) string) {
		session := c.session()
		q := session.Queue(c.name("requests"))
		c.background(func(ctx context.Context) {
			err := q.Listen(ctx, func(ctx context.Context, d *polylog.Delivery[*polylog.Message]) error {
				return polylog.Reply(ctx, session, d.Value, answer(d.Value))
			})
			if err != nil && !errors.Is(err, polylog.ErrClosed) {
				c.t.Error(err)
			}
		})
	}
	echo := func(m *polylog.Message) string { return "re: " + m.Text() }
	s.clause("4.1.7", "a request is answered over a temporary queue", func(t *testing.T, c *fixture) {
		answering(c, echo)
		reply, err := c.connect().Request(c.ctx, c.name("requests"), polylog.NewText("x"))
		c.done(err)
		equal(t, "reply", reply.Text(), "re: x")
		equal(t, "from a temporary queue", strings.HasPrefix(reply.Destination, "temp-queue/"), true)
	})
	s.clause("4.1.7", "a reply has the request's message id for its correlation id", func(t *testing.T, c *fixture) {
		answering(c, func(m *polylog.Message) string { return m.ID })
		reply, err := c.connect().Request(c.ctx, c.name("requests"), polylog.NewText("x"))
		c.done(err)
		equal(t, "correlation id", reply.CorrelationID, reply.Text())
	})
	s.clause("4.1.7", "a reply has the correlation id of a request that has one", func(t *testing.T, c *fixture) {
		answering(c, echo)
		reply, err := c.connect().Request(c.ctx, c.name("requests"), polylog.NewText("x"), polylog.WithCorrelationID(c.name("mine")))
		c.done(err)
		equal(t, "correlation id", reply.CorrelationID, c.name("mine"))
	})
	s.clause("4.1.7", "replies to many requests at once go to who asked", func(t *testing.T, c *fixture) {
		answering(c, echo)
		con := c.connect()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				reply, err := con.Request(c.ctx, c.name("requests"), polylog.NewText(fmt.Sprint(i)))
				if err != nil || reply.Text() != fmt.Sprint("re: ", i) {
					t.Errorf("%d: %v, %v", i, reply, err)
				}
			})
		}
		all.Wait()
	})
	s.clause("4.1.7", "a request that nobody answers ends with its context", func(t *testing.T, c *fixture) {
		ctx, cancel := context.WithTimeout(c.ctx, 20*time.Millisecond)
		defer cancel()
		_, err := c.connection().Request(ctx, c.name("requests"), polylog.NewText("x"))
		c.refused(err, context.DeadlineExceeded)
	})
	s.clause("4.1.7", "a message that wants no reply gets none", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"))
		c.refused(polylog.Reply(c.ctx, q.Session(), take(c, q).Message(), "y"), polylog.ErrInvalid)
	})
	s.clause("4.1.7", "a request is a message as any other", func(t *testing.T, c *fixture) {
		answering(c, func(m *polylog.Message) string {
			return fmt.Sprintf("%d %v %v", m.Priority, m.Properties["p"], m.ReplyTo != "")
		})
		reply, err := c.connect().Request(c.ctx, c.name("requests"), polylog.NewText("x"), polylog.WithPriority(7), polylog.WithProperty("p", "v"))
		c.done(err)
		equal(t, "reply", reply.Text(), "7 v true")
	})
	s.clause("4.1.7", "a reply goes to a queue that the request names", func(t *testing.T, c *fixture) {
		q, answers := c.messages(), polylog.QueueOf[string](c.session(), c.name("answers"))
		put(c, q, polylog.NewText("x"), polylog.WithReplyTo(c.name("answers")))
		c.done(polylog.Reply(c.ctx, q.Session(), take(c, q).Message(), "y"))
		equal(t, "reply", take(c, answers).Value, "y")
	})
}
