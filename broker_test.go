package polylog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// Against a whole broker.

func TestBrokerPutAndTake(t *testing.T) {
	b := polylogtest.Start(t)
	s := b.Session()
	comesBack(t, s, "text", "hello")
	comesBack(t, s, "empty", "")
	comesBack(t, s, "bytes", []byte{1, 2, 3})
	comesBack(t, s, "map", map[string]any{"a": int32(1), "b": "x"})
	comesBack(t, s, "struct", order{7, "pen"})
	q := polylog.QueueOf[string](s, "text")
	if _, err := q.Take(t.Context(), polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
		t.Errorf("an empty queue: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := q.Take(ctx); !errors.Is(err, polylog.ErrNoMessage) {
		t.Errorf("an empty queue: %v", err)
	}
	if _, err := polylog.TopicOf[string](s, "text").Publish(t.Context(), "x"); !errors.Is(err, polylog.ErrWrongKind) {
		t.Errorf("a queue as a topic: %v", err)
	}
	if _, err := q.Put(t.Context(), string(make([]byte, 64<<20))); !errors.Is(err, polylog.ErrTooLarge) {
		t.Errorf("a message of 64 MiB: %v", err)
	}
}

// Several producers and consumers; nothing is lost, nothing comes twice, and
// what one session sends stays in order.
func TestBrokerManyAtOnce(t *testing.T) {
	b := polylogtest.Start(t)
	const producers, consumers, each = 4, 4, 2000
	var wait sync.WaitGroup
	for p := range producers {
		q := polylog.QueueOf[order](b.Session(), "many")
		wait.Go(func() {
			values := func(yield func(order) bool) {
				for i := range each {
					if !yield(order{i, fmt.Sprint(p)}) {
						return
					}
				}
			}
			if n, err := q.PutAll(t.Context(), values); n != each || err != nil {
				t.Errorf("put %d: %v", n, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen sync.Map
	var count atomic.Int64
	for range consumers {
		q := polylog.QueueOf[order](b.Session(polylog.IndividualAcknowledge), "many")
		wait.Go(func() {
			last := map[string]int{}
			for d, err := range q.Consume(ctx, polylog.WithPrefetch(100)) {
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					return
				}
				if _, twice := seen.LoadOrStore(d.Value, true); twice {
					t.Errorf("%v came twice", d.Value)
				}
				if n, ok := last[d.Value.Item]; ok && n >= d.Value.Number {
					t.Errorf("%v after %d", d.Value, n)
				}
				last[d.Value.Item] = d.Value.Number
				if err := d.AckAsync(); err != nil {
					t.Error(err)
				}
				if count.Add(1) == producers*each {
					cancel()
				}
			}
		})
	}
	wait.Wait()
	b.Connection.Close()
	info, err := b.Connect().Admin().Describe(t.Context(), "many")
	if err != nil || info.Queue == nil || info.Queue.Waiting != 0 || info.Queue.Acquired != 0 {
		t.Errorf("left over: %+v, %v", info.Queue, err)
	}
}

// Work goes on over restarts of the broker: whatever was confirmed comes,
// at least once. S1, Q3.
func TestBrokerRestarts(t *testing.T) {
	b := polylogtest.Start(t, polylog.WithReconnect(polylog.ReconnectPolicy{Min: time.Millisecond, Max: 20 * time.Millisecond}))
	q := polylog.QueueOf[int](b.Session(), "work")
	var mu sync.Mutex
	confirmed := map[int]bool{}
	var producing, wait sync.WaitGroup
	stop := make(chan struct{})
	producing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_, err := q.Put(t.Context(), i)
			switch {
			case err == nil:
				mu.Lock()
				confirmed[i] = true
				mu.Unlock()
			case !errors.Is(err, polylog.ErrInDoubt) && !errors.Is(err, polylog.ErrShuttingDown):
				t.Error(err)
				return
			}
		}
	})
	seen := map[int]bool{}
	consumer := polylog.QueueOf[int](b.Session(polylog.IndividualAcknowledge), "work")
	ctx, cancel := context.WithCancel(t.Context())
	wait.Go(func() {
		for d, err := range consumer.Consume(ctx) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			seen[d.Value] = true
			mu.Unlock()
			if err := d.Ack(ctx); err != nil && !errors.Is(err, polylog.ErrStale) && !errors.Is(err, polylog.ErrInDoubt) && !errors.Is(err, polylog.ErrShuttingDown) {
				t.Error(err)
			}
		}
	})
	for range 3 {
		time.Sleep(50 * time.Millisecond)
		b.Restart()
	}
	time.Sleep(50 * time.Millisecond)
	close(stop)
	producing.Wait()
	missing := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for i := range confirmed {
			if !seen[i] {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(10 * time.Second); missing() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	wait.Wait()
	if n := missing(); n > 0 || len(confirmed) == 0 {
		t.Errorf("%d of %d confirmed messages did not come", n, len(confirmed))
	}
}

func TestBrokerSubscriptions(t *testing.T) {
	b := polylogtest.Start(t, polylog.WithClientID("client"))
	ctx := t.Context()
	s := b.Session()
	news := polylog.TopicOf[string](s, "news")
	durable := must[*polylog.Subscription[string]](t)(news.Durable(ctx, "durable"))
	temporary := must[*polylog.Subscription[string]](t)(news.Subscribe(ctx))
	shared := []*polylog.Subscription[string]{
		must[*polylog.Subscription[string]](t)(news.SharedDurable(ctx, "shared")),
		must[*polylog.Subscription[string]](t)(news.SharedDurable(ctx, "shared")),
	}
	if err := durable.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		must[polylog.Receipt](t)(news.Publish(ctx, fmt.Sprint(i)))
	}
	durable = must[*polylog.Subscription[string]](t)(news.Durable(ctx, "durable"))
	for _, sub := range []*polylog.Subscription[string]{durable, temporary} {
		for i := range 3 {
			if d := must[*polylog.Delivery[string]](t)(sub.Take(ctx)); d.Value != fmt.Sprint(i) {
				t.Errorf("%q in place of %d", d.Value, i)
			}
		}
	}
	got := 0
	for _, sub := range append(shared, shared...) {
		if _, err := sub.Take(ctx, polylog.NoWait()); err == nil {
			got++
		}
	}
	if got != 3 {
		t.Errorf("the shared subscription gave %d", got)
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := durable.Unsubscribe(ctx); err != nil {
		t.Errorf("unsubscribe: %v", err)
	}
	if err := b.Connection.Unsubscribe(ctx, "durable", false); !errors.Is(err, polylog.ErrNotFound) {
		t.Errorf("unsubscribe again: %v", err)
	}
}

func TestBrokerRedelivery(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	if _, err := b.Connection.Admin().Create(ctx, polylog.DestinationSpec{Name: "q", Kind: "queue", Settings: map[string]string{"max.deliveries": "2"}}); err != nil {
		t.Fatal(err)
	}
	s := b.Session(polylog.IndividualAcknowledge)
	q := polylog.QueueOf[string](s, "q")
	must[polylog.Receipt](t)(q.Put(ctx, "poison", polylog.WithProperty("shop", "north")))
	must[polylog.Receipt](t)(q.Put(ctx, "rejected"))
	for i := 1; i <= 2; i++ {
		d := must[*polylog.Delivery[string]](t)(q.Take(ctx))
		if d.Value != "poison" || d.DeliveryCount() != i {
			t.Fatalf("%q, delivery %d", d.Value, d.DeliveryCount())
		}
		if err := d.Release(ctx, 0); err != nil {
			t.Fatal(err)
		}
	}
	d := must[*polylog.Delivery[string]](t)(q.Take(ctx))
	if err := d.Reject(ctx, "because"); err != nil {
		t.Fatal(err)
	}
	dead := map[string]polylog.DeadLetter{}
	for range 2 {
		d := must[*polylog.Delivery[*polylog.Message]](t)(s.Queue("DLQ.q").Take(ctx))
		letter, ok := d.Value.DeadLetter()
		if !ok {
			t.Errorf("%v is no dead letter", d.Value.Properties)
		}
		dead[d.Value.Text()] = letter
		if d.Value.Text() == "poison" && d.Value.Properties["shop"] != "north" {
			t.Errorf("properties %v", d.Value.Properties)
		}
	}
	if dead["rejected"].Reason != "because" || dead["rejected"].Origin != "q" || dead["poison"].Count != 2 {
		t.Errorf("dead letters %+v", dead)
	}
}

func TestBrokerRequest(t *testing.T) {
	b := polylogtest.Start(t)
	service := b.Connect()
	s := session(t, service)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- s.Queue("double").Listen(ctx, func(ctx context.Context, d *polylog.Delivery[*polylog.Message]) error {
			return polylog.Reply(ctx, s, d.Value, d.Value.Text()+d.Value.Text())
		})
	}()
	reply := must[*polylog.Message](t)(b.Connection.Request(t.Context(), "double", polylog.NewText("a")))
	if reply.Text() != "aa" {
		t.Errorf("reply %q", reply.Text())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
