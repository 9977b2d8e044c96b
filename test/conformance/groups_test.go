package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog"
)

// messageGroups is what polylog makes of JMSXGroupID, whose use §3.5.9 leaves to
// providers.
func messageGroups(s *section) {
	s.clause("3.5.9", "messages of a group are received in order", func(t *testing.T, c *fixture) {
		q := c.texts()
		for i := range 20 {
			put(c, q, fmt.Sprintf("%d %02d", i%2, i), polylog.WithGroup(fmt.Sprint(i%2)))
		}
		got := takeN(c, q, 20)
		slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:1], b[:1]) })
		if !slices.IsSorted(got) {
			t.Errorf("%v", got)
		}
	})
	s.clause("3.5.9", "while one consumer has a message of a group no other gets one", func(t *testing.T, c *fixture) {
		q, other := c.texts(polylog.IndividualAcknowledge), c.texts(polylog.IndividualAcknowledge)
		put(c, q, "a1", polylog.WithGroup("a"))
		put(c, q, "a2", polylog.WithGroup("a"))
		put(c, q, "b1", polylog.WithGroup("b"))
		equal(t, "received", take(c, q).Value, "a1")
		wantTexts(t, "the other's", rest(c, other), "b1")
	})
	s.clause("3.5.9", "a group goes to another consumer when the first is gone", func(t *testing.T, c *fixture) {
		q, other := c.texts(polylog.IndividualAcknowledge), c.texts(polylog.IndividualAcknowledge)
		put(c, q, "a1", polylog.WithGroup("a"))
		put(c, q, "a2", polylog.WithGroup("a"))
		c.done(take(c, q).Ack(c.ctx))
		c.done(q.Session().Close(c.ctx))
		equal(t, "received", take(c, other).Value, "a2")
	})
	s.clause("3.5.9", "a group whose message is released keeps its order", func(t *testing.T, c *fixture) {
		q := c.texts(polylog.IndividualAcknowledge)
		for _, text := range []string{"1", "2", "3"} {
			put(c, q, text, polylog.WithGroup("a"))
		}
		c.done(take(c, q).Release(c.ctx, 0))
		wantTexts(t, "received", takeN(c, q, 3), "1", "2", "3")
	})
	s.clause("3.5.9", "messages without a group are anybody's", func(t *testing.T, c *fixture) {
		q, other := c.texts(polylog.IndividualAcknowledge), c.texts(polylog.IndividualAcknowledge)
		putAll(c, q, "1", "2")
		take(c, q)
		equal(t, "the other's", take(c, other).Value, "2")
	})
	s.clause("3.5.9", "groups of a shared subscription", func(t *testing.T, c *fixture) {
		open := func() *polylog.Subscription[string] {
			topic := polylog.TopicOf[string](c.session(polylog.IndividualAcknowledge), c.name("t"))
			return sub[string](c)(topic.Shared(c.ctx, c.name("sub")))
		}
		a, b := open(), open()
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		publish(c, topic, "a1", polylog.WithGroup("a"))
		publish(c, topic, "a2", polylog.WithGroup("a"))
		equal(t, "received", take(c, a).Value, "a1")
		nothing(c, b)
	})
	s.clause("3.5.9", "a group over the partitions of a queue is in order", func(t *testing.T, c *fixture) {
		_, err := c.connection().Admin().Create(c.ctx, polylog.DestinationSpec{Name: c.name("q"), Kind: "queue", Settings: map[string]string{"partitions": "4"}})
		c.done(err)
		for i := range 10 { // by sessions of their own
			put(c, c.texts(), fmt.Sprint(i), polylog.WithGroup("a"))
		}
		wantTexts(t, "received", takeN(c, c.texts(), 10), "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
	})
}
