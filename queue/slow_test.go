package queue

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination"
)

// TestSlowConsumer has a consumer settle now and then, and then nothing.
func TestSlowConsumer(t *testing.T) {
	r := newRig(t)
	defer r.close()
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	r.deps.Now = func() time.Time { return time.UnixMilli(now.Load()) }
	v := r.view(r.destination("q", "slow.consumer.timeout", "10s", "max.deliveries", "0"))
	defer v.Close()
	put(t, v, numbered(0, 10)...)
	idle, is := consume(t, v, ConsumerOptions{})
	a, as := consume(t, v, ConsumerOptions{})
	got := drain(t, a, as, 10)
	for i := range 5 {
		now.Add(9_000)
		settle(t, a, Outcome{Kind: Acknowledge}, got[i])
		v.trigger()
	}
	drain(t, idle, is, 0) // a turn has passed, and nobody is closed
	if n := v.Stats().Consumers; n != 2 {
		t.Fatalf("%d consumers are left", n)
	}
	now.Add(10_000)
	v.trigger()
	err := as.closedWith()
	if !errors.Is(err, destination.ErrSlowConsumer) {
		t.Fatal(err)
	}
	b, bs := consume(t, v, ConsumerOptions{})
	again := drain(t, b, bs, 10)
	wantBodies(t, "what it held", again, bodies(numbered(5, 10))...)
	if again[0].count != 2 {
		t.Errorf("delivery %d", again[0].count)
	}
	settle(t, b, Outcome{Kind: Acknowledge}, again...)
	now.Add(100_000) // who holds nothing is not slow
	v.trigger()
	drain(t, b, bs, 1)
	if n := v.Stats().Consumers; n != 2 {
		t.Errorf("%d consumers are left", n)
	}
}
