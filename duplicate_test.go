package polylog_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/polylogtest"
)

// TestDuplicateDetection sends messages again under their ids: over a restart, in
// transactions, to several destinations.
func TestDuplicateDetection(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	for _, name := range []string{"q", "other"} {
		must[*polylog.DestinationInfo](t)(b.Connection.Admin().Create(ctx, polylog.DestinationSpec{Name: name, Kind: "queue", Settings: map[string]string{"duplicate.window": "100"}}))
	}
	s := b.Session(polylog.IndividualAcknowledge)
	now := time.Now()
	first := must[polylog.Receipt](t)(polylog.QueueOf[string](s, "q").Put(ctx, "1", polylog.WithIdentity("ID:1", now)))
	again := must[polylog.Receipt](t)(polylog.QueueOf[string](s, "q").Put(ctx, "1", polylog.WithIdentity("ID:1", now)))
	if again.Offset != first.Offset || again.MessageID() != "ID:1" {
		t.Errorf("the second time %+v, the first %+v", again, first)
	}
	b.Restart()
	put(t, s, "q", "1", polylog.WithIdentity("ID:1", now))
	err := b.Connection.Tx(ctx, func(s *polylog.Session) error {
		for _, id := range []string{"1", "2", "2", "3"} {
			put(t, s, "q", id, polylog.WithIdentity("ID:"+id, now))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "q", "2", polylog.WithIdentity("ID:2", now))
	put(t, s, "q,other", "3", polylog.WithIdentity("ID:3", now))
	undone := errors.New("undone")
	err = b.Connection.Tx(ctx, func(s *polylog.Session) error {
		put(t, s, "q", "4", polylog.WithIdentity("ID:4", now))
		return undone
	})
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	put(t, s, "q", "4", polylog.WithIdentity("ID:4", now)) // what was rolled back was never sent
	q, other := polylog.QueueOf[string](s, "q"), polylog.QueueOf[string](s, "other")
	same(t, "the queue", got(t, 4, func(ctx context.Context) (*polylog.Delivery[string], error) { return q.Take(ctx) }), "q=1", "q=2", "q=3", "q=4")
	same(t, "the other", got(t, 1, func(ctx context.Context) (*polylog.Delivery[string], error) { return other.Take(ctx) }), "other=3")
	for _, q := range []*polylog.Queue[string]{q, other} {
		if d, err := q.Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
			t.Errorf("%v, %v", d, err)
		}
	}
}

// TestRetryInDoubtIsOnce cuts a connection again and again while messages are
// sent over it that are sent anew then.
func TestRetryInDoubtIsOnce(t *testing.T) {
	ctx := t.Context()
	b, err := embed.Start(embed.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var mu sync.Mutex
	var current net.Conn
	c, err := polylog.Connect(ctx, "polylog://test", polylog.WithRetryInDoubt(), polylog.WithReconnect(polylog.ReconnectPolicy{Min: time.Millisecond, Max: 5 * time.Millisecond}),
		polylog.WithDialer(func(ctx context.Context) (net.Conn, error) {
			conn, err := b.Dial(ctx)
			mu.Lock()
			defer mu.Unlock()
			current = conn
			return conn, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	must[*polylog.DestinationInfo](t)(c.Admin().Create(ctx, polylog.DestinationSpec{Name: "q", Kind: "queue", Settings: map[string]string{"duplicate.window": "100000"}}))
	s := must[*polylog.Session](t)(c.Session(ctx))
	q := polylog.QueueOf[int](s, "q")
	const n = 5000
	var failed error
	for i := range n {
		err := q.PutAsync(ctx, i, func(_ polylog.Receipt, err error) {
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 {
			mu.Lock()
			if current != nil {
				current.Close()
			}
			mu.Unlock()
		}
	}
	if err := s.Flush(ctx); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	taken := polylog.QueueOf[int](s, "q")
	for i := range n {
		d, err := taken.Take(ctx, polylog.NoWait())
		if err != nil || d.Value != i {
			t.Fatalf("%d: %v, %v", i, d, err)
		}
	}
	if d, err := taken.Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
		t.Errorf("one came twice: %v, %v", d, err)
	}
}
