package polylog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
	"github.com/polylog-mq/polylog/wire/native"
)

// values takes what waits in a queue, n messages, and leaves nothing behind.
func values(t *testing.T, b *polylogtest.Broker, name string) (all []string) {
	t.Helper()
	q := polylog.QueueOf[string](b.Session(), name)
	for {
		d, err := q.Take(t.Context(), polylog.NoWait())
		if errors.Is(err, polylog.ErrNoMessage) {
			return all
		}
		all = append(all, must[*polylog.Delivery[string]](t)(d, err).Value)
	}
}

func wantValues(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// What a transacted session sends to several destinations, and receives from
// several, is there with the commit: Jakarta Messaging 3.1 §6.2.7.
func TestCommit(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	plain := b.Session()
	for _, v := range []string{"1", "2", "3"} {
		must[polylog.Receipt](t)(polylog.QueueOf[string](plain, "in").Put(ctx, v))
	}
	s := b.Session(polylog.Transacted)
	in, out, log := polylog.QueueOf[string](s, "in"), polylog.QueueOf[string](s, "out"), polylog.TopicOf[string](s, "log")
	sub, err := polylog.TopicOf[string](plain, "log").Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for d, err := range in.Consume(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		r := must[polylog.Receipt](t)(out.Put(ctx, "out"+d.Value))
		if r.Offset != -1 {
			t.Errorf("sent at %d before the commit", r.Offset)
		}
		must[polylog.Receipt](t)(log.Publish(ctx, "log"+d.Value))
		if n++; n == 2 {
			break
		}
	}
	wantValues(t, "out before the commit", values(t, b, "out"))
	if err := s.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	wantValues(t, "out", values(t, b, "out"), "out1", "out2")
	for _, want := range []string{"log1", "log2"} {
		if d := must[*polylog.Delivery[string]](t)(sub.Take(ctx)); d.Value != want {
			t.Errorf("published %s, want %s", d.Value, want)
		}
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	wantValues(t, "in", values(t, b, "in"), "3")
	if err := plain.Commit(ctx); !errors.Is(err, polylog.ErrInvalid) {
		t.Errorf("commit of a session that is not transacted: %v", err)
	}
	if err := plain.Rollback(ctx); !errors.Is(err, polylog.ErrInvalid) {
		t.Errorf("rollback of a session that is not transacted: %v", err)
	}
}

// A rollback delivers again what was received, in order and before what had
// been fetched ahead, with the count one higher, and sends nothing.
func TestRollback(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	for _, v := range []string{"1", "2", "3", "4"} {
		must[polylog.Receipt](t)(polylog.QueueOf[string](b.Session(), "in").Put(ctx, v))
	}
	s := b.Session(polylog.Transacted)
	in, out := polylog.QueueOf[string](s, "in"), polylog.QueueOf[string](s, "out")
	var seen []string
	for d, err := range in.Consume(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, fmt.Sprint(d.Value, "/", d.DeliveryCount()))
		must[polylog.Receipt](t)(out.Put(ctx, d.Value))
		switch len(seen) {
		case 2, 4:
			if err := s.Rollback(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if len(seen) == 8 {
			break
		}
	}
	wantValues(t, "seen", seen, "1/1", "2/1", "1/2", "2/2", "1/3", "2/3", "3/1", "4/1")
	wantValues(t, "sent", values(t, b, "out"))
	if err := s.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	wantValues(t, "sent", values(t, b, "out"), "1", "2", "3", "4")
	wantValues(t, "left", values(t, b, "in"))
}

func TestTx(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	send := func(value string, err error) func(*polylog.Session) error {
		return func(s *polylog.Session) error {
			must[polylog.Receipt](t)(polylog.QueueOf[string](s, "q").Put(ctx, value))
			return err
		}
	}
	failed := errors.New("no")
	if err := b.Connection.Tx(ctx, send("a", failed)); !errors.Is(err, failed) {
		t.Errorf("a failed transaction: %v", err)
	}
	if err := b.Connection.Tx(ctx, send("b", nil)); err != nil {
		t.Error(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = b.Connection.Tx(ctx, func(s *polylog.Session) error {
			_ = send("c", nil)(s)
			panic("on purpose")
		})
	}()
	wantValues(t, "q", values(t, b, "q"), "b")
}

// What was sent and received on a connection that broke is rolled back, and
// the commit says so.
func TestCommitAfterTheConnectionBroke(t *testing.T) {
	b := polylogtest.Start(t, polylog.WithReconnect(polylog.ReconnectPolicy{Min: time.Millisecond, Max: 20 * time.Millisecond}))
	ctx := t.Context()
	must[polylog.Receipt](t)(polylog.QueueOf[string](b.Session(), "in").Put(ctx, "1"))
	s := b.Session(polylog.Transacted)
	in, out := polylog.QueueOf[string](s, "in"), polylog.QueueOf[string](s, "out")
	must[*polylog.Delivery[string]](t)(in.Take(ctx))
	must[polylog.Receipt](t)(out.Put(ctx, "lost"))
	b.Restart()
	must[polylog.Receipt](t)(out.Put(ctx, "lost too")) // on the next connection, in the same transaction
	if err := s.Commit(ctx); !errors.Is(err, polylog.ErrRolledBack) {
		t.Errorf("commit: %v", err)
	}
	must[*polylog.Delivery[string]](t)(in.Take(ctx))
	must[polylog.Receipt](t)(out.Put(ctx, "done"))
	if err := s.Commit(ctx); err != nil {
		t.Error(err)
	}
	wantValues(t, "out", values(t, b, "out"), "done")
	wantValues(t, "in", values(t, b, "in"))
}

// A commit whose answer does not come is in doubt; one that was never asked for
// is not.
func TestCommitInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.handle = func(c *peerConn, f native.Frame, _ []byte) bool {
			f2, ok := f.(*native.EndWork)
			switch {
			case ok && f2.Commit:
				c.close()
			case ok:
				c.ok(f2.Request, nil)
			}
			return ok
		}
		s := session(t, p.connect(t), polylog.Transacted)
		must[polylog.Receipt](t)(polylog.QueueOf[string](s, "q").Put(t.Context(), "x"))
		if err := s.Commit(t.Context()); !errors.Is(err, polylog.ErrInDoubt) {
			t.Errorf("commit: %v", err)
		}
		must[polylog.Receipt](t)(polylog.QueueOf[string](s, "q").Put(t.Context(), "x"))
		p.cut()
		synctest.Wait()
		if err := s.Commit(t.Context()); !errors.Is(err, polylog.ErrRolledBack) {
			t.Errorf("commit after the connection broke: %v", err)
		}
	})
}

// Messages move from queue to queue and back in transactions, of which some
// are rolled back, while the broker is restarted: each is in one of them, once.
func TestTransactionsOverRestarts(t *testing.T) {
	b := polylogtest.Start(t, polylog.WithReconnect(polylog.ReconnectPolicy{Min: time.Millisecond, Max: 20 * time.Millisecond}))
	const messages, workers = 40, 4
	for i := range messages {
		must[polylog.Receipt](t)(polylog.QueueOf[int](b.Session(), "a").Put(t.Context(), i))
	}
	stop, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	committed := make([]int, workers)
	for w := range workers {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			s := b.Session(polylog.Transacted)
			for stop.Err() == nil {
				from, to := "a", "b"
				if rnd.IntN(2) == 0 {
					from, to = to, from
				}
				ctx, cancel := context.WithTimeout(stop, 20*time.Millisecond)
				d, err := polylog.QueueOf[int](s, from).Take(ctx)
				cancel()
				if err == nil {
					_, err = polylog.QueueOf[int](s, to).Put(t.Context(), d.Value)
				}
				if err != nil || rnd.IntN(4) == 0 {
					_ = s.Rollback(t.Context())
					continue
				}
				switch err := s.Commit(t.Context()); {
				case err == nil:
					committed[w]++
				case !errors.Is(err, polylog.ErrRolledBack) && !errors.Is(err, polylog.ErrInDoubt) && !errors.Is(err, polylog.ErrShuttingDown):
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		time.Sleep(100 * time.Millisecond)
		b.Restart()
	}
	time.Sleep(100 * time.Millisecond)
	cancel()
	all.Wait()
	b.Connection.Close()
	c := b.Connect()
	var left []int
	for _, name := range []string{"a", "b", "DLQ.a", "DLQ.b"} {
		s := session(t, c)
		for {
			d, err := polylog.QueueOf[int](s, name).Take(t.Context(), polylog.NoWait())
			if errors.Is(err, polylog.ErrNoMessage) {
				break
			}
			left = append(left, must[*polylog.Delivery[int]](t)(d, err).Value)
		}
	}
	slices.Sort(left)
	if want := messages; len(left) != want || len(slices.Compact(left)) != want {
		t.Errorf("%d messages are left, want %d: %v", len(left), want, left)
	}
	t.Log("committed:", committed)
	if slices.Max(committed) == 0 {
		t.Error("nothing was committed")
	}
}
