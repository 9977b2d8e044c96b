package polylog_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// decided is what a producer's own transactions have come to, as in a database.
type decided struct {
	mu      sync.Mutex
	of      map[string]polylog.Outcome
	checked map[string]int
	halves  chan polylog.Half
}

func newDecided() *decided {
	return &decided{of: map[string]polylog.Outcome{}, checked: map[string]int{}, halves: make(chan polylog.Half, 100)}
}

func (d *decided) set(id string, o polylog.Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of[id] = o
}

func (d *decided) check(_ context.Context, h polylog.Half) polylog.Outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checked[h.ID]++
	d.halves <- h
	return d.of[h.ID]
}

// send sends a half message of one text to q whose transaction ends so.
func send(t *testing.T, p *polylog.Producers, id string, o polylog.Outcome) {
	t.Helper()
	err := p.Send(t.Context(), id, func(s *polylog.Session) error {
		_, err := polylog.QueueOf[string](s, "q").Put(t.Context(), id, polylog.WithProperty("half", true))
		return err
	}, func(context.Context) polylog.Outcome { return o })
	if err != nil {
		t.Fatal(err)
	}
}

func waiting(t *testing.T, b *polylogtest.Broker) []polylog.BranchInfo {
	t.Helper()
	return must[[]polylog.BranchInfo](t)(b.Connection.Admin().Branches(t.Context()))
}

func TestHalfMessages(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	d := newDecided()
	q := polylog.QueueOf[string](b.Session(polylog.IndividualAcknowledge), "q")
	taken := func(want ...string) {
		t.Helper()
		same(t, "delivered", got(t, len(want), func(ctx context.Context) (*polylog.Delivery[string], error) { return q.Take(ctx) }), want...)
		if d, err := q.Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
			t.Errorf("one more: %v, %v", d, err)
		}
	}
	join := func(c *polylog.Connection, d *decided) *polylog.Producers {
		t.Helper()
		p, err := c.Producers(ctx, "orders", d.check, polylog.CheckAfter(20*time.Millisecond), polylog.MaxChecks(3))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := b.Connect()
	p := join(first, d)
	if _, err := first.Producers(ctx, "orders", d.check); !errors.Is(err, polylog.ErrExists) {
		t.Errorf("joined twice: %v", err)
	}
	send(t, p, "1", polylog.Commit)
	taken("q=1")
	send(t, p, "2", polylog.Rollback)
	taken()
	d.set("3", polylog.Commit) // but the one who sends it does not know
	send(t, p, "3", polylog.Unknown)
	taken("q=3")
	h := <-d.halves
	if h.ID != "3" || h.Checks != 1 || len(h.Messages) != 1 || h.Messages[0].Text() != "3" || h.Messages[0].Destination != "q" || h.Messages[0].Properties["half"] != true {
		t.Errorf("%+v", h)
	}
	undone := errors.New("undone")
	if err := p.Send(ctx, "4", func(s *polylog.Session) error {
		if _, err := polylog.QueueOf[string](s, "q").Put(ctx, "4"); err != nil {
			return err
		}
		return undone
	}, func(context.Context) polylog.Outcome { t.Error("local was called"); return polylog.Commit }); !errors.Is(err, undone) {
		t.Error(err)
	}
	taken()

	// It dies before it says how its transaction has ended, the broker restarts, and
	// others of its group come.
	send(t, p, "5", polylog.Unknown)
	send(t, p, "6", polylog.Unknown)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	b.Restart()
	if all := waiting(t, b); len(all) != 2 || all[0].XID.Global != "orders" || all[0].XID.Branch != "5" {
		t.Errorf("%+v", all)
	}
	others := newDecided()
	others.set("5", polylog.Commit)
	others.set("6", polylog.Rollback)
	one, two := join(b.Connect(), others), join(b.Connect(), others)
	taken("q=5")
	for len(waiting(t, b)) > 0 {
		<-others.halves
	}
	taken()
	if err := one.Close(ctx); err != nil {
		t.Fatal(err)
	}

	// Nobody ever knows.
	send(t, two, "7", polylog.Unknown)
	for range 3 {
		for h := range others.halves {
			if h.ID == "7" {
				break
			}
		}
	}
	for len(waiting(t, b)) > 0 {
		time.Sleep(time.Millisecond) // the broker rolls it back by itself
	}
	taken()
	if others.checked["7"] != 3 {
		t.Errorf("%d checks", others.checked["7"])
	}
	// A connection that breaks joins again.
	b.Restart()
	others.set("8", polylog.Commit)
	send(t, two, "8", polylog.Unknown)
	taken("q=8")
}
