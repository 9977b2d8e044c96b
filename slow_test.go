package polylog_test

import (
	"errors"
	"testing"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// TestSlowConsumer has consumers that settle nothing closed, and others get what
// they held.
func TestSlowConsumer(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	createWith(t, b, "q", "queue", map[string]string{"slow.consumer.timeout": "100ms"})
	s := b.Session(polylog.IndividualAcknowledge)
	put(t, s, "q", "held")
	for _, name := range []string{"q", "q.>"} { // a pattern's, too
		next := 0
		for d, err := range polylog.QueueOf[string](b.Session(polylog.IndividualAcknowledge), name).Consume(ctx) {
			if err != nil {
				if !errors.Is(err, polylog.ErrSlowConsumer) || next != 1 {
					t.Errorf("%s: after %d: %v", name, next, err)
				}
				break
			}
			if next++; d.Value != "held" {
				t.Errorf("%s: %s", name, d.Value)
			}
		}
	}
	d := must[*polylog.Delivery[string]](t)(polylog.QueueOf[string](s, "q").Take(ctx))
	if d.Value != "held" || d.DeliveryCount() != 3 {
		t.Errorf("%s, delivery %d", d.Value, d.DeliveryCount())
	}
	if err := d.Ack(ctx); err != nil {
		t.Fatal(err)
	}
}
