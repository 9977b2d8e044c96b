package polylog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// got takes n messages of a pattern and returns them with where they came from,
// sorted.
func got(t *testing.T, n int, take func(context.Context) (*polylog.Delivery[string], error)) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var all []string
	for range n {
		d, err := take(ctx)
		if err != nil {
			t.Fatalf("after %q: %v", all, err)
		}
		if d.Message().Destination != d.Destination() || d.Partition() < 0 || d.Partition() > 9 {
			t.Errorf("%s: message of %s, partition %d", d.Destination(), d.Message().Destination, d.Partition())
		}
		all = append(all, d.Destination()+"="+d.Value)
		if err := d.Ack(ctx); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	return all
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func put(t *testing.T, s *polylog.Session, queue, value string, opts ...polylog.PutOption) {
	t.Helper()
	must[polylog.Receipt](t)(polylog.QueueOf[string](s, queue).Put(t.Context(), value, opts...))
}

func publish(t *testing.T, s *polylog.Session, topic, value string, opts ...polylog.PutOption) {
	t.Helper()
	must[polylog.Receipt](t)(polylog.TopicOf[string](s, topic).Publish(t.Context(), value, opts...))
}

// TestPatternOfQueues takes from all queues that a pattern matches, one of which
// has several partitions and one of which is made while somebody waits.
func TestPatternOfQueues(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	s := b.Session(polylog.IndividualAcknowledge)
	_, err := b.Connection.Admin().Create(ctx, polylog.DestinationSpec{Name: "orders.us", Kind: "queue", Settings: map[string]string{"partitions": "10"}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "orders.eu", "1")
	for i := range 10 {
		put(t, s, "orders.us", fmt.Sprint(2+i), polylog.WithPartition(int32(i)))
	}
	put(t, s, "orders.eu.new", "not of it")
	publish(t, s, "orders.topic", "not a queue")
	q := polylog.QueueOf[string](s, "orders.*")
	take := func(ctx context.Context) (*polylog.Delivery[string], error) { return q.Take(ctx) }
	want := []string{"orders.eu=1"}
	for i := range 10 {
		want = append(want, fmt.Sprint("orders.us=", 2+i))
	}
	same(t, "what is there", got(t, 11, take), want...)
	if d, err := q.Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
		t.Errorf("more came: %v, %v", d, err)
	}
	later := make(chan []string)
	go func() { later <- got(t, 1, take) }()
	put(t, s, "orders.uk", "late")
	same(t, "a queue that was made later", <-later, "orders.uk=late")

	list := polylog.QueueOf[string](s, "orders.eu,orders.uk, none")
	put(t, s, "orders.eu", "a")
	put(t, s, "orders.uk", "b")
	same(t, "a list", got(t, 2, func(ctx context.Context) (*polylog.Delivery[string], error) { return list.Take(ctx) }),
		"orders.eu=a", "orders.uk=b")

	if _, err := q.Put(ctx, "to a pattern"); !errors.Is(err, polylog.ErrInvalid) {
		t.Errorf("put to a pattern: %v", err)
	}
	if _, err := polylog.QueueOf[string](s, "a.>.b").Take(ctx); !errors.Is(err, polylog.ErrInvalid) {
		t.Errorf("a pattern that is none: %v", err)
	}
	for _, name := range []string{"a,b", "a.*", ">", "Consumer.g.VirtualTopic.x"} {
		if _, err := b.Connection.Admin().Create(ctx, polylog.DestinationSpec{Name: name, Kind: "queue"}); !errors.Is(err, polylog.ErrInvalid) {
			t.Errorf("create %q: %v", name, err)
		}
	}
}

// TestPatternTransacted takes from two queues of a pattern in one transaction,
// rolls it back, and commits it.
func TestPatternTransacted(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	plain := b.Session(polylog.IndividualAcknowledge)
	put(t, plain, "a.x", "1")
	put(t, plain, "a.y", "2")
	s := b.Session(polylog.Transacted)
	q := polylog.QueueOf[string](s, "a.>")
	take := func(ctx context.Context) (*polylog.Delivery[string], error) { return q.Take(ctx) }
	for range 2 {
		same(t, "in a transaction", got(t, 2, take), "a.x=1", "a.y=2")
		if err := s.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "the last time", got(t, 2, take), "a.x=1", "a.y=2")
	if err := s.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if d, err := polylog.QueueOf[string](plain, "a.>").Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
		t.Errorf("after the commit: %v, %v", d, err)
	}
}

// TestPatternOfTopics subscribes to topics by pattern, in each way there is, over
// a restart, with a topic that is made while nobody looks.
func TestPatternOfTopics(t *testing.T) {
	b := polylogtest.Start(t, polylog.WithClientID("desk"))
	ctx := t.Context()
	s := b.Session(polylog.IndividualAcknowledge)
	publish(t, s, "news.sport", "old")
	topics := polylog.TopicOf[string](s, "news.>")
	type subscription = *polylog.Subscription[string]
	open := map[string]func(opts ...polylog.ConsumeOption) (subscription, error){
		"durable":        func(o ...polylog.ConsumeOption) (subscription, error) { return topics.Durable(ctx, "durable", o...) },
		"shared durable": func(o ...polylog.ConsumeOption) (subscription, error) { return topics.SharedDurable(ctx, "sd", o...) },
		"exclusive":      func(o ...polylog.ConsumeOption) (subscription, error) { return topics.Exclusive(ctx, "x", o...) },
		"from beginning": func(o ...polylog.ConsumeOption) (subscription, error) {
			return topics.Durable(ctx, "all", append(o, polylog.FromBeginning())...)
		},
		"selected": func(o ...polylog.ConsumeOption) (subscription, error) {
			return topics.Durable(ctx, "selected", append(o, polylog.WithSelector("kind = 'good'"))...)
		},
		"temporary": func(o ...polylog.ConsumeOption) (subscription, error) { return topics.Subscribe(ctx, o...) },
		"shared":    func(o ...polylog.ConsumeOption) (subscription, error) { return topics.Shared(ctx, "shared", o...) },
	}
	subs := map[string]subscription{}
	for name, f := range open {
		subs[name] = must[subscription](t)(f())
	}
	if _, err := topics.Durable(ctx, "durable"); !errors.Is(err, polylog.ErrConflict) {
		t.Errorf("a second consumer of a durable one: %v", err)
	}
	if _, err := polylog.TopicOf[string](s, "news.sport").Durable(ctx, "durable"); !errors.Is(err, polylog.ErrConflict) {
		t.Errorf("a topic under the name of a pattern: %v", err)
	}
	publish(t, s, "news.sport", "1", polylog.WithProperty("kind", "good"))
	publish(t, s, "news.local.x", "2") // makes it
	publish(t, s, "newspaper", "not of it")
	for name, sub := range subs {
		want := []string{"news.sport=1", "news.local.x=2"}
		switch name {
		case "from beginning":
			want = append(want, "news.sport=old")
		case "selected":
			want = want[:1]
		}
		same(t, name, got(t, len(want), func(ctx context.Context) (*polylog.Delivery[string], error) { return sub.Take(ctx) }), want...)
	}
	for _, sub := range subs {
		if err := sub.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, s, "news.sport", "3", polylog.WithProperty("kind", "good"))
	publish(t, s, "news.made.meanwhile", "4", polylog.WithProperty("kind", "good"))
	b.Restart()
	publish(t, s, "news.after", "5", polylog.WithProperty("kind", "good"))
	for name, f := range open {
		sub := must[subscription](t)(f(polylog.NoWait()))
		if name == "temporary" || name == "shared" {
			continue
		}
		same(t, name+" after a restart",
			got(t, 3, func(ctx context.Context) (*polylog.Delivery[string], error) { return sub.Take(ctx) }),
			"news.sport=3", "news.made.meanwhile=4", "news.after=5")
		if err := sub.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Connection.Unsubscribe(ctx, "durable", false); err != nil {
		t.Fatal(err)
	}
	infos := must[[]polylog.SubscriptionInfo](t)(b.Connection.Admin().Subscriptions(ctx, ""))
	if slices.ContainsFunc(infos, func(i polylog.SubscriptionInfo) bool { return i.Name == "durable" }) {
		t.Errorf("after it is deleted: %v", infos)
	}
	must[subscription](t)(polylog.TopicOf[string](s, "news.sport").Durable(ctx, "durable"))
}

// TestComposite sends to several destinations at once.
func TestComposite(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	s := b.Session(polylog.IndividualAcknowledge)
	sub := must[*polylog.Subscription[string]](t)(polylog.TopicOf[string](s, "audit").Subscribe(ctx))
	_, err := b.Connection.Admin().Create(ctx, polylog.DestinationSpec{Name: "many", Kind: "queue", Settings: map[string]string{"partitions": "4"}})
	if err != nil {
		t.Fatal(err)
	}
	const to = "one, many,topic://audit"
	var want []string
	for i := range 20 {
		v := fmt.Sprint(i)
		put(t, s, to, v, polylog.WithKey(v), polylog.WithProperty("n", i))
		want = append(want, "one="+v, "many="+v)
	}
	q := polylog.QueueOf[string](s, "one,many")
	take := func(ctx context.Context) (*polylog.Delivery[string], error) { return q.Take(ctx) }
	same(t, "the queues", got(t, 40, take), want...)
	for i := range 20 {
		d := must[*polylog.Delivery[string]](t)(sub.Take(ctx))
		if d.Value != fmt.Sprint(i) {
			t.Errorf("audit: %s in place of %d", d.Value, i)
		}
	}
	tx := b.Session(polylog.Transacted)
	put(t, tx, to, "rolled back")
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	put(t, tx, to, "committed")
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	same(t, "of a transaction", got(t, 2, take), "one=committed", "many=committed")
	if d := must[*polylog.Delivery[string]](t)(sub.Take(ctx)); d.Value != "committed" {
		t.Errorf("audit: %s", d.Value)
	}
	if _, err := b.Connection.Admin().Alter(ctx, polylog.DestinationSpec{Name: "many", Settings: map[string]string{"paused": "puts"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := polylog.QueueOf[string](s, to).Put(ctx, "refused"); !errors.Is(err, polylog.ErrPaused) {
		t.Errorf("one of them is paused: %v", err)
	}
	if d, err := q.Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
		t.Errorf("a part of what was refused: %v, %v", d, err)
	}
}

// TestVirtualTopic has groups take from a topic as from queues.
func TestVirtualTopic(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	s := b.Session(polylog.IndividualAcknowledge)
	const topic = "VirtualTopic.orders"
	queueOf := func(group string) *polylog.Queue[string] {
		return polylog.QueueOf[string](s, "Consumer."+group+"."+topic)
	}
	none := func(group string) {
		t.Helper()
		if d, err := queueOf(group).Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
			t.Errorf("%s: %v, %v", group, d, err)
		}
	}
	none("a")
	none("b")
	for i := range 4 {
		publish(t, s, topic, fmt.Sprint(i), polylog.WithProperty("odd", i%2 == 1))
	}
	b.Restart()
	odd := must[*polylog.Delivery[string]](t)(queueOf("a").Take(ctx, polylog.WithSelector("odd = TRUE")))
	if odd.Value != "1" || odd.Ack(ctx) != nil {
		t.Errorf("selected %s", odd.Value)
	}
	for group, want := range map[string][]string{"a": {"0", "2", "3"}, "b": {"0", "1", "2", "3"}} {
		var waiting []string
		for m, err := range queueOf(group).Browse(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting, m.Value)
		}
		same(t, "browsed", waiting, want...)
		for _, v := range want {
			d := must[*polylog.Delivery[string]](t)(queueOf(group).Take(ctx))
			if d.Value != v || d.Ack(ctx) != nil {
				t.Errorf("%s: %s in place of %s", group, d.Value, v)
			}
		}
		none(group)
	}
	if _, err := queueOf("a").Put(ctx, "x"); !errors.Is(err, polylog.ErrUnsupported) {
		t.Errorf("put to a group's queue: %v", err)
	}
}
