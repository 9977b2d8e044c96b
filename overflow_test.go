package polylog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

func createWith(t *testing.T, b *polylogtest.Broker, name, kind string, settings map[string]string) {
	t.Helper()
	must[*polylog.DestinationInfo](t)(b.Connection.Admin().Create(t.Context(), polylog.DestinationSpec{Name: name, Kind: kind, Settings: settings}))
}

// TestOverflowFails sends to queues and topics that take no more.
func TestOverflowFails(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	createWith(t, b, "q", "queue", map[string]string{"max.length": "3", "partitions": "2"})
	createWith(t, b, "t", "topic", map[string]string{"max.length": "2"})
	s := b.Session(polylog.IndividualAcknowledge)
	q := polylog.QueueOf[string](s, "q")
	full := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, polylog.ErrQueueFull) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range 3 {
		put(t, s, "q", fmt.Sprint(i))
	}
	_, err := q.Put(ctx, "x")
	full("a fourth", err)
	full("in a transaction", b.Connection.Tx(ctx, func(s *polylog.Session) error {
		_, err := polylog.QueueOf[string](s, "q").Put(ctx, "x")
		return err
	}))
	_, err = polylog.QueueOf[string](s, "other,q").Put(ctx, "x")
	full("to two at once", err)
	b.Restart()
	_, err = q.Put(ctx, "x")
	full("after a restart", err)
	d := must[*polylog.Delivery[string]](t)(q.Take(ctx))
	_, err = q.Put(ctx, "x")
	full("with one delivered", err)
	if err := d.Ack(ctx); err != nil {
		t.Fatal(err)
	}
	put(t, s, "q", "3")
	_, err = q.Put(ctx, "x")
	full("with one acknowledged and one sent", err)

	for i := range 5 { // nobody has them
		publish(t, s, "t", fmt.Sprint(i))
	}
	sub := must[*polylog.Subscription[string]](t)(polylog.TopicOf[string](s, "t").SharedDurable(ctx, "sub"))
	publish(t, s, "t", "a")
	publish(t, s, "t", "b")
	_, err = polylog.TopicOf[string](s, "t").Publish(ctx, "x")
	full("a topic", err)
	if err := must[*polylog.Delivery[string]](t)(sub.Take(ctx)).Ack(ctx); err != nil {
		t.Fatal(err)
	}
	publish(t, s, "t", "c")
}

// TestOverflowBlocks has a producer wait for consumers of its own connection,
// while others are served.
func TestOverflowBlocks(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	createWith(t, b, "q", "queue", map[string]string{"max.length": "50", "overflow": "block"})
	s := b.Session(polylog.IndividualAcknowledge)
	q := polylog.QueueOf[int](s, "q")
	const n = 5000
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			if err := q.PutAsync(ctx, i, func(_ polylog.Receipt, err error) {
				if err != nil {
					t.Error(err)
				}
			}); err != nil {
				sent <- err
				return
			}
			if i%7 == 0 { // small batches
				if err := s.Flush(ctx); err != nil {
					sent <- err
					return
				}
			}
		}
		sent <- s.Flush(ctx)
	}()
	put(t, s, "other", "goes on")
	most := int64(0)
	consumer := polylog.QueueOf[int](b.Session(polylog.IndividualAcknowledge), "q")
	for i := range n {
		d := must[*polylog.Delivery[int]](t)(consumer.Take(ctx))
		if d.Value != i {
			t.Fatalf("%d in place of %d", d.Value, i)
		}
		if err := d.Ack(ctx); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			info := must[*polylog.DestinationInfo](t)(b.Connection.Admin().Describe(ctx, "q"))
			most = max(most, info.Queue.Waiting)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if most > 60 {
		t.Errorf("%d waited", most)
	}
	for i := range 50 {
		must[polylog.Receipt](t)(q.Put(ctx, i))
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := q.Put(short, 50); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a full queue: %v", err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := q.Put(ctx, 51)
		waiting <- err
	}()
	if err := b.Connection.Tx(ctx, func(s *polylog.Session) error {
		_, err := polylog.QueueOf[int](s, "q").Put(ctx, 52)
		return err
	}); !errors.Is(err, polylog.ErrQueueFull) {
		t.Errorf("a transaction beside what waits: %v", err)
	}
	must[*polylog.DestinationInfo](t)(b.Connection.Admin().Alter(ctx, polylog.DestinationSpec{Name: "q", Settings: map[string]string{"max.length": "0"}}))
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}
