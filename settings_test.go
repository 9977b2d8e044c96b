package polylog_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// TestSubscriptionSettings has two subscriptions of one topic redeliver and give up
// differently, over a restart.
func TestSubscriptionSettings(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	createWith(t, b, "t", "topic", map[string]string{"max.deliveries": "4"})
	s := b.Session(polylog.IndividualAcknowledge)
	type subscription = *polylog.Subscription[string]
	topic := polylog.TopicOf[string](s, "t")
	own := must[subscription](t)(topic.SharedDurable(ctx, "own", polylog.WithSettings(map[string]string{"max.deliveries": "1", "dead.letter": "given.up"})))
	plain := must[subscription](t)(topic.SharedDurable(ctx, "plain"))
	if _, err := topic.SharedDurable(ctx, "wrong", polylog.WithSettings(map[string]string{"partitions": "3"})); !errors.Is(err, polylog.ErrInvalid) {
		t.Errorf("a setting that no subscription has: %v", err)
	}
	if _, err := topic.SharedDurable(ctx, "wrong", polylog.WithSettings(map[string]string{"redelivery.delay": "1h"})); !errors.Is(err, polylog.ErrInvalid) {
		t.Errorf("more than the topic's redelivery.max.delay: %v", err)
	}
	// deliveries counts how often a subscription delivers a message that fails.
	deliveries := func(sub subscription) (n int) {
		t.Helper()
		publish(t, s, "t", "x")
		for {
			d, err := sub.Take(ctx, polylog.NoWait())
			if errors.Is(err, polylog.ErrNoMessage) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
			if err := d.Release(ctx, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := deliveries(own); n != 1 {
		t.Errorf("%d deliveries, with a setting of its own", n)
	}
	if n := deliveries(plain); n != 8 { // both messages
		t.Errorf("%d deliveries, with the topic's setting", n)
	}
	if d := must[*polylog.Delivery[string]](t)(polylog.QueueOf[string](s, "given.up").Take(ctx)); d.Value != "x" || d.Ack(ctx) != nil {
		t.Error(d.Value)
	}
	deliveries(own)
	for _, sub := range []subscription{own, plain} {
		if err := sub.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	b.Restart()
	own = must[subscription](t)(topic.SharedDurable(ctx, "own"))
	if n := deliveries(own); n != 1 {
		t.Errorf("%d deliveries after a restart", n)
	}
	spec := polylog.SubscriptionSpec{Topic: "t", Name: "own", Shared: true, Settings: map[string]string{"max.deliveries": "2", "dead.letter": ""}}
	info := must[*polylog.SubscriptionInfo](t)(b.Connection.Admin().AlterSubscription(ctx, spec))
	if want := map[string]string{"max.deliveries": "2"}; !maps.Equal(info.Settings, want) {
		t.Errorf("%v, want %v", info.Settings, want)
	}
	if n := deliveries(own); n != 2 {
		t.Errorf("%d deliveries after it was altered", n)
	}
	b.Restart()
	if n := deliveries(own); n != 2 {
		t.Errorf("%d deliveries after it was altered, and a restart", n)
	}
	spec.Settings = map[string]string{"segment.bytes": "1MiB"}
	if _, err := b.Connection.Admin().AlterSubscription(ctx, spec); !errors.Is(err, polylog.ErrInvalid) {
		t.Errorf("altering what no subscription has: %v", err)
	}
}
