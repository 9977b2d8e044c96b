package polylog_test

import (
	"errors"
	"testing"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// TestPause pauses a queue and a topic for sends and for takes, over a restart,
// under clients that have them open.
func TestPause(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	set := func(name, paused string) {
		t.Helper()
		if _, err := b.Connection.Admin().Alter(ctx, polylog.DestinationSpec{Name: name, Settings: map[string]string{"paused": paused}}); err != nil {
			t.Fatal(err)
		}
	}
	s := b.Session(polylog.IndividualAcknowledge)
	q := polylog.QueueOf[string](s, "q")
	must[polylog.Receipt](t)(q.Put(ctx, "first"))

	set("q", "puts")
	refused := func(when string) {
		t.Helper()
		if _, err := q.Put(ctx, "refused"); !errors.Is(err, polylog.ErrPaused) {
			t.Errorf("%s: a put on a paused queue: %v", when, err)
		}
		err := b.Connection.Tx(ctx, func(s *polylog.Session) error {
			_, err := polylog.QueueOf[string](s, "q").Put(ctx, "refused")
			return err
		})
		if !errors.Is(err, polylog.ErrPaused) {
			t.Errorf("%s: a transaction's put on a paused queue: %v", when, err)
		}
	}
	refused("at once")
	d := must[*polylog.Delivery[string]](t)(q.Take(ctx))
	if err := d.Reject(ctx, "no"); err != nil || d.Value != "first" {
		t.Fatal(d.Value, err)
	}

	set("DLQ.q", "puts") // dead letters come all the same
	set("q", "takes")
	must[polylog.Receipt](t)(q.Put(ctx, "second"))
	kept := func(when string) {
		t.Helper()
		if d, err := q.Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
			t.Errorf("%s: taken from a paused queue: %v, %v", when, d, err)
		}
	}
	kept("at once")
	set("q", "all")
	b.Restart()
	refused("after a restart")
	kept("after a restart")
	set("q", "")
	must[polylog.Receipt](t)(q.Put(ctx, "third"))
	for _, want := range []string{"second", "third"} {
		d := must[*polylog.Delivery[string]](t)(q.Take(ctx))
		if err := d.Reject(ctx, "no"); err != nil || d.Value != want {
			t.Errorf("%q, not %q: %v", d.Value, want, err)
		}
	}
	for range 3 {
		must[*polylog.Delivery[string]](t)(polylog.QueueOf[string](s, "DLQ.q").Take(ctx))
	}

	topic := polylog.TopicOf[string](s, "t")
	sub := must[*polylog.Subscription[string]](t)(topic.Subscribe(ctx))
	set("t", "takes")
	must[polylog.Receipt](t)(topic.Publish(ctx, "kept"))
	if d, err := sub.Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
		t.Errorf("taken from a paused topic: %v, %v", d, err)
	}
	set("t", "")
	if d := must[*polylog.Delivery[string]](t)(sub.Take(ctx)); d.Value != "kept" {
		t.Error(d.Value)
	}
}
