package polylog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/wire/native"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func session(t testing.TB, c *polylog.Connection, mode ...polylog.Mode) *polylog.Session {
	t.Helper()
	s, err := c.Session(t.Context(), mode...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

type order struct {
	Number int    `json:"number"`
	Item   string `json:"item"`
}

func TestEveryTypeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := session(t, newPeer(t).connect(t))
		comesBack(t, s, "text", "hello")
		comesBack(t, s, "empty", "")
		comesBack(t, s, "bytes", []byte{1, 2, 3})
		comesBack(t, s, "map", map[string]any{"a": int32(1), "b": "x", "c": true})
		comesBack(t, s, "struct", order{7, "pen"})
		comesBack(t, s, "int", 42)
	})
}

func comesBack[T any](t *testing.T, s *polylog.Session, name string, v T) {
	t.Helper()
	q := polylog.QueueOf[T](s, name)
	must[polylog.Receipt](t)(q.Put(t.Context(), v))
	d := must[*polylog.Delivery[T]](t)(q.Take(t.Context()))
	if fmt.Sprintf("%#v", d.Value) != fmt.Sprintf("%#v", v) {
		t.Errorf("%s: put %#v, took %#v", name, v, d.Value)
	}
}

func TestOptionsBecomeHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := session(t, newPeer(t).connect(t))
		q := polylog.QueueOf[string](s, "orders")
		now := time.Now()
		receipt := must[polylog.Receipt](t)(q.Put(t.Context(), "x",
			polylog.WithPriority(9), polylog.WithTTL(time.Minute), polylog.WithDelay(0), polylog.WithGroup("g"),
			polylog.WithCorrelationID("c"), polylog.WithType("t"), polylog.WithReplyTo("r"),
			polylog.WithProperty("count", 3), polylog.WithProperty("small", int8(1)), polylog.NonPersistent()))
		m := must[*polylog.Delivery[string]](t)(q.Take(t.Context())).Message()
		want := fmt.Sprintf("%s 9 %d 0 g c t r true 1", receipt.MessageID(), now.Add(time.Minute).UnixMilli())
		got := fmt.Sprintf("%s %d %d %d %s %s %s %s %v %d", m.ID, m.Priority, m.Expiration, m.DeliveryTime, m.Group(),
			m.CorrelationID, m.Type, m.ReplyTo, m.NonPersistent, m.DeliveryCount)
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if m.Properties["count"] != int64(3) || m.Properties["small"] != int8(1) {
			t.Errorf("properties %v", m.Properties)
		}
		if _, err := q.Put(t.Context(), "x", polylog.WithPriority(10)); !errors.Is(err, polylog.ErrInvalid) {
			t.Errorf("priority 10: %v", err)
		}
	})
}

// Completions come in the order of the sends, whatever order the broker
// confirms in. Jakarta Messaging 3.1 §7.3.8.
func TestCompletionsAreInSendOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		type held struct {
			c       *peerConn
			request uint64
		}
		sends := make(chan held, 100)
		p.handle = func(c *peerConn, f native.Frame, _ []byte) bool {
			send, ok := f.(*native.Send)
			if ok {
				sends <- held{c, send.Request}
			}
			return ok
		}
		s := session(t, p.connect(t))
		var order []int
		for i := range 6 {
			q := polylog.QueueOf[string](s, fmt.Sprint("q", i%3))
			err := q.PutAsync(t.Context(), "x", func(r polylog.Receipt, err error) {
				if err != nil {
					t.Error(err)
				}
				order = append(order, i)
			})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		var all []held
		for len(sends) > 0 {
			all = append(all, <-sends)
		}
		if len(all) != 6 {
			t.Fatalf("%d sends", len(all))
		}
		for i, h := range slices.Backward(all) {
			h.c.send(&native.Confirm{Request: h.request, Base: int64(i)}, nil)
			synctest.Wait()
			if i > 0 && len(order) > 0 {
				t.Fatalf("completion %v before the first send was confirmed", order)
			}
		}
		if !slices.Equal(order, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("completions in the order %v", order)
		}
	})
}

// A loaded line sends large batches: while a few are under way, the rest
// gathers.
func TestSendsGatherWhileOthersAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		var held []func()
		p.handle = func(c *peerConn, f native.Frame, payload []byte) bool {
			send, ok := f.(*native.Send)
			if ok {
				held = append(held, func() { c.serve(send, payload) })
				_ = payload
			}
			return ok
		}
		s := session(t, p.connect(t))
		q := polylog.QueueOf[string](s, "q")
		confirmed := 0
		for range 1000 {
			if err := q.PutAsync(t.Context(), "x", func(polylog.Receipt, error) { confirmed++ }); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if len(held) != 3 {
			t.Fatalf("%d batches under way", len(held))
		}
		p.handle = nil
		for _, c := range received[*native.Send](p) {
			p.mu.Lock()
			conn := p.conns[0]
			p.mu.Unlock()
			conn.send(&native.Confirm{Request: c.Request, Base: int64(c.Request)}, nil)
		}
		synctest.Wait()
		if confirmed != 1000 {
			t.Errorf("%d of 1000 confirmed", confirmed)
		}
		if n := len(received[*native.Send](p)); n != 4 {
			t.Errorf("1000 messages in %d batches", n)
		}
	})
}

func TestABrokenConnectionLeavesSendsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.handle = func(c *peerConn, f native.Frame, _ []byte) bool {
			if _, ok := f.(*native.Send); ok {
				c.close()
				return true
			}
			return false
		}
		s := session(t, p.connect(t))
		q := polylog.QueueOf[string](s, "q")
		if _, err := q.Put(t.Context(), "x"); !errors.Is(err, polylog.ErrInDoubt) {
			t.Errorf("Put: %v", err)
		}
		p.mu.Lock()
		p.handle = nil
		p.mu.Unlock()
		must[polylog.Receipt](t)(q.Put(t.Context(), "y")) // over a new connection
	})
}

func TestRetryInDoubtSendsAgainUnderTheSameID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		cut := false
		p.handle = func(c *peerConn, f native.Frame, payload []byte) bool {
			if _, ok := f.(*native.Send); ok && !cut {
				cut = true
				p.mu.Lock()
				p.append("q", payload) // it arrives, but the confirm does not
				p.mu.Unlock()
				c.close()
				return true
			}
			return false
		}
		s := session(t, p.connect(t, polylog.WithRetryInDoubt()))
		q := polylog.QueueOf[string](s, "q")
		receipt := must[polylog.Receipt](t)(q.Put(t.Context(), "x"))
		for range 2 {
			d := must[*polylog.Delivery[string]](t)(q.Take(t.Context(), polylog.NoWait()))
			if d.Message().ID != receipt.MessageID() {
				t.Errorf("id %s, sent as %s", d.Message().ID, receipt.MessageID())
			}
		}
	})
}

// What was not written when the connection broke is simply sent.
func TestSendsWaitForTheNextConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		q := polylog.QueueOf[string](session(t, c), "q")
		must[polylog.Receipt](t)(q.Put(t.Context(), "0"))
		p.setRefuse(errRefused)
		p.cut()
		synctest.Wait()
		var got []error
		for i := range 10 {
			if err := q.PutAsync(t.Context(), fmt.Sprint(i), func(_ polylog.Receipt, err error) { got = append(got, err) }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(got) > 0 {
			t.Fatalf("completions %v without a connection", got)
		}
		p.setRefuse(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(got) != 10 || errors.Join(got...) != nil {
			t.Errorf("completions %v", got)
		}
	})
}

func TestBreakGivesBackWhatWasFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", slices.Repeat([]string{"x"}, 250)...)
		s := session(t, p.connect(t))
		q := polylog.QueueOf[string](s, "q")
		seen := 0
		for _, err := range q.Consume(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if seen++; seen == 10 {
				break
			}
		}
		if available, acquired, done := p.state("q"); available != 240 || acquired != 0 || done != 10 {
			t.Errorf("%d available, %d acquired, %d done", available, acquired, done)
		}
		counts := p.counts("q")
		if slices.Max(counts[10:]) != 0 {
			t.Errorf("what was not seen has been counted: %v", counts[10:])
		}
	})
}

func TestAPanicInTheLoopIsNoAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", "a", "b")
		s := session(t, p.connect(t))
		func() {
			defer func() { recover() }()
			for range polylog.QueueOf[string](s, "q").Consume(t.Context()) {
				panic("no")
			}
		}()
		synctest.Wait()
		if available, acquired, done := p.state("q"); available != 2 || acquired != 0 || done != 0 {
			t.Errorf("%d available, %d acquired, %d done", available, acquired, done)
		}
		if counts := p.counts("q"); counts[0] != 1 || counts[1] != 0 {
			t.Errorf("counts %v", counts)
		}
	})
}

func TestTakeTimesOutAndHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		s := session(t, p.connect(t))
		q := polylog.QueueOf[string](s, "q")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.Take(ctx); !errors.Is(err, polylog.ErrNoMessage) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Take: %v", err)
		}
		if _, err := q.Take(t.Context(), polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
			t.Errorf("Take without waiting: %v", err)
		}
		p.put("q", "late")
		synctest.Wait()
		if available, _, _ := p.state("q"); available != 1 {
			t.Error("an idle consumer was given a message")
		}
		if d := must[*polylog.Delivery[string]](t)(q.Take(t.Context())); d.Value != "late" {
			t.Errorf("took %q", d.Value)
		}
	})
}

// A message that crosses the Drain is returned although the time is up.
func TestTakeReturnsWhatCrossesTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.handle = func(c *peerConn, f native.Frame, payload []byte) bool {
			if credit, ok := f.(*native.Credit); ok && credit.Drain {
				p.put("q", "just in time")
			}
			return false
		}
		q := polylog.QueueOf[string](session(t, p.connect(t)), "q")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if d := must[*polylog.Delivery[string]](t)(q.Take(ctx)); d.Value != "just in time" {
			t.Errorf("took %q", d.Value)
		}
	})
}

// A broker that does not answer a Drain keeps nobody: the Take ends, and what
// comes afterwards goes back uncounted.
func TestTakeGivesBackWhatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.handle = func(c *peerConn, f native.Frame, payload []byte) bool {
			credit, ok := f.(*native.Credit)
			return ok && credit.Drain
		}
		q := polylog.QueueOf[string](session(t, p.connect(t)), "q")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := q.Take(ctx); !errors.Is(err, polylog.ErrNoMessage) {
			t.Errorf("Take: %v", err)
		}
		if waited := time.Since(start); waited > 5*time.Second {
			t.Errorf("Take took %v", waited)
		}
		p.put("q", "late")
		synctest.Wait()
		if available, acquired, _ := p.state("q"); available != 1 || acquired != 0 {
			t.Errorf("%d available, %d acquired", available, acquired)
		}
		if counts := p.counts("q"); counts[0] != 0 {
			t.Errorf("counts %v", counts)
		}
	})
}

func TestTakeBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", "a", "b", "c")
		q := polylog.QueueOf[string](session(t, p.connect(t), polylog.IndividualAcknowledge), "q")
		list := must[[]*polylog.Delivery[string]](t)(q.TakeBatch(t.Context(), 2))
		if len(list) != 2 || list[0].Value != "a" || list[1].Value != "b" {
			t.Errorf("took %d", len(list))
		}
		list = must[[]*polylog.Delivery[string]](t)(q.TakeBatch(t.Context(), 100))
		if len(list) != 1 {
			t.Errorf("took %d", len(list))
		}
		go func() {
			time.Sleep(time.Second)
			p.put("q", "d")
		}()
		list = must[[]*polylog.Delivery[string]](t)(q.TakeBatch(t.Context(), 100))
		if len(list) != 1 || list[0].Value != "d" {
			t.Errorf("took %d", len(list))
		}
		for _, d := range list {
			if err := d.Ack(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if _, acquired, done := p.state("q"); acquired != 3 || done != 1 {
			t.Errorf("%d acquired, %d done", acquired, done)
		}
	})
}

func TestIndividualSettlement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", "ack", "release", "reject", "keep", "again")
		s := session(t, p.connect(t), polylog.IndividualAcknowledge)
		q := polylog.QueueOf[string](s, "q")
		ctx := t.Context()
		var kept *polylog.Delivery[string]
		for d, err := range q.Consume(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			switch d.Value {
			case "ack":
				err = d.Ack(ctx)
			case "release":
				if d.Redelivered() {
					err = d.Ack(ctx)
					break
				}
				err = d.Release(ctx, 0)
			case "reject":
				err = d.Reject(ctx, "bad")
			case "keep":
				kept = d
			case "again":
				if err := d.Ack(ctx); err != nil {
					t.Error(err)
				}
				if err := d.Ack(ctx); !errors.Is(err, polylog.ErrStale) {
					t.Errorf("a second Ack: %v", err)
				}
			}
			if err != nil {
				t.Error(err)
			}
			if _, acquired, done := p.state("q"); acquired == 1 && done == 4 {
				break
			}
		}
		if err := kept.Ack(ctx); err != nil {
			t.Errorf("after the loop: %v", err)
		}
		if _, acquired, done := p.state("q"); acquired != 0 || done != 5 {
			t.Errorf("%d acquired, %d done", acquired, done)
		}
	})
}

func TestClientAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", "a", "b", "c", "d", "e")
		s := session(t, p.connect(t), polylog.ClientAcknowledge)
		q := polylog.QueueOf[string](s, "q")
		n := 0
		for d, err := range q.Consume(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			switch n++; n {
			case 2:
				if _, _, done := p.state("q"); done != 0 {
					t.Errorf("%d done before any acknowledgement", done)
				}
				if err := d.Ack(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, _, done := p.state("q"); done != 2 {
					t.Errorf("%d done after the second's acknowledgement", done)
				}
			case 4: // c and d come again, and then e
				if err := s.Recover(t.Context()); err != nil {
					t.Fatal(err)
				}
			case 5:
				if d.Value != "c" || !d.Redelivered() || d.DeliveryCount() != 2 {
					t.Errorf("after Recover: %q, delivery %d", d.Value, d.DeliveryCount())
				}
			case 7:
				if d.Value != "e" || d.Redelivered() {
					t.Errorf("the unseen one: %q, delivery %d", d.Value, d.DeliveryCount())
				}
				if err := s.Acknowledge(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n == 7 {
				break
			}
		}
		if _, _, done := p.state("q"); done != 5 {
			t.Errorf("%d done", done)
		}
	})
}

func TestDupsOKAcknowledgesLazily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", slices.Repeat([]string{"x"}, 50)...)
		s := session(t, p.connect(t), polylog.DupsOKAcknowledge)
		n := 0
		for _, err := range polylog.QueueOf[string](s, "q").Consume(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 50 {
				synctest.Wait()
				if got := received[*native.Settle](p); len(got) != 0 {
					t.Errorf("%d settlements", len(got))
				}
				time.Sleep(time.Second)
				if got := received[*native.Settle](p); len(got) != 1 || len(got[0].Spans) != 1 || got[0].Spans[0].Count != 49 {
					t.Errorf("settlements %+v", got)
				}
				break
			}
		}
	})
}

func TestReconnectGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", slices.Repeat([]string{"x"}, 20)...)
		var told []error
		s := session(t, p.connect(t, polylog.WithExceptionListener(func(err error) { told = append(told, err) })), polylog.IndividualAcknowledge)
		n := 0
		for d, err := range polylog.QueueOf[string](s, "q").Consume(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			n++
			if n == 5 {
				p.cut()
				synctest.Wait()
				if err := d.Ack(t.Context()); !errors.Is(err, polylog.ErrStale) {
					t.Errorf("an Ack of the connection before: %v", err)
				}
				continue
			}
			if err := d.Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n > 5 && d.DeliveryCount() != 2 {
				t.Errorf("delivery %d", d.DeliveryCount())
			}
			if n == 21 {
				break
			}
		}
		if _, _, done := p.state("q"); done != 20 {
			t.Errorf("%d done", done)
		}
		synctest.Wait()
		if len(told) != 1 {
			t.Errorf("the exception listener was told %v", told)
		}
	})
}

func TestTakeSurvivesABrokenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		q := polylog.QueueOf[string](session(t, p.connect(t)), "q")
		go func() {
			time.Sleep(time.Second)
			p.cut()
			time.Sleep(10 * time.Second)
			p.put("q", "x")
		}()
		if d := must[*polylog.Delivery[string]](t)(q.Take(t.Context())); d.Value != "x" {
			t.Errorf("took %q", d.Value)
		}
	})
}

func TestReconnectGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t, polylog.WithReconnect(polylog.ReconnectPolicy{Min: time.Second, Max: time.Minute, Attempts: 3}))
		q := polylog.QueueOf[string](session(t, c), "q")
		must[polylog.Receipt](t)(q.Put(t.Context(), "x"))
		p.setRefuse(errRefused)
		p.cut()
		if _, err := q.Put(t.Context(), "y"); !errors.Is(err, polylog.ErrClosed) {
			t.Errorf("Put: %v", err)
		}
		for d, err := range q.Consume(t.Context()) {
			if d != nil || !errors.Is(err, polylog.ErrClosed) {
				t.Errorf("Consume: %v, %v", d, err)
			}
		}
		if _, err := c.Session(t.Context()); !errors.Is(err, polylog.ErrClosed) {
			t.Errorf("Session: %v", err)
		}
	})
}

// A broker that stays silent for two heartbeats is dead.
func TestSilenceBreaksTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		s := session(t, p.connect(t))
		time.Sleep(time.Minute) // heartbeats keep it
		if n := len(received[*native.Hello](p)); n != 1 {
			t.Fatalf("%d connections", n)
		}
		p.mu.Lock()
		p.handle = func(_ *peerConn, f native.Frame, _ []byte) bool { _, hello := f.(*native.Hello); return !hello }
		p.mu.Unlock()
		start := time.Now()
		for len(received[*native.Hello](p)) == 1 {
			time.Sleep(100 * time.Millisecond)
		}
		if waited := time.Since(start); waited < 15*time.Second || waited > 32*time.Second {
			t.Errorf("it took %v", waited)
		}
		p.mu.Lock()
		p.handle = nil
		p.mu.Unlock()
		p.cut()
		must[polylog.Receipt](t)(polylog.QueueOf[string](s, "q").Put(t.Context(), "x"))
	})
}

func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.handle = func(c *peerConn, f native.Frame, payload []byte) bool {
			if f, ok := f.(*native.Send); ok {
				go func() {
					time.Sleep(time.Second)
					c.send(&native.Confirm{Request: f.Request}, nil)
				}()
				return true
			}
			return false
		}
		c := p.connect(t)
		q := polylog.QueueOf[string](session(t, c), "q")
		completed := false
		err := q.PutAsync(t.Context(), "x", func(polylog.Receipt, error) {
			time.Sleep(time.Second)
			completed = true
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil || !completed {
			t.Errorf("Close: %v, completed %v", err, completed)
		}
		if err := c.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
		if _, err := q.Put(t.Context(), "y"); !errors.Is(err, polylog.ErrClosed) {
			t.Errorf("Put after Close: %v", err)
		}
	})
}

func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", slices.Repeat([]string{"x"}, 99)...)
		p.put("q", "bad")
		q := polylog.QueueOf[string](session(t, p.connect(t)), "q")
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan int, 1000)
		go func() {
			for range 101 {
				<-seen
			}
			cancel()
		}()
		err := q.Listen(ctx, func(_ context.Context, d *polylog.Delivery[string]) error {
			seen <- d.DeliveryCount()
			if d.Value == "bad" && !d.Redelivered() {
				return errors.New("not now")
			}
			return nil
		}, polylog.WithConcurrency(4))
		if err != nil {
			t.Error(err)
		}
		if available, acquired, done := p.state("q"); available+acquired != 0 || done != 100 {
			t.Errorf("%d available, %d acquired, %d done", available, acquired, done)
		}
	})
}

func TestStopHoldsDeliveryBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", slices.Repeat([]string{"x"}, 10)...)
		c := p.connect(t, polylog.WithStopped())
		q := polylog.QueueOf[string](session(t, c), "q")
		seen := 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- q.Listen(ctx, func(context.Context, *polylog.Delivery[string]) error {
				seen++
				time.Sleep(time.Second)
				return nil
			})
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if seen != 0 {
			t.Errorf("%d seen before Start", seen)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3500 * time.Millisecond)
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		stopped := seen
		time.Sleep(time.Minute)
		synctest.Wait()
		if seen != stopped || stopped != 4 {
			t.Errorf("%d seen, %d when stopped", seen, stopped)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		s := session(t, p.connect(t, polylog.WithClientID("c")))
		news := polylog.TopicOf[string](s, "news")
		sub := must[*polylog.Subscription[string]](t)(news.Durable(t.Context(), "all"))
		for i := range 5 {
			must[polylog.Receipt](t)(news.Publish(t.Context(), fmt.Sprint(i)))
		}
		if d := must[*polylog.Delivery[string]](t)(sub.Take(t.Context())); d.Value != "0" {
			t.Errorf("took %q", d.Value)
		}
		want := 1
		for range 2 { // the subscription stays open between iterations
			for d, err := range sub.Consume(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if d.Value != fmt.Sprint(want) {
					t.Errorf("%q in place of %d", d.Value, want)
				}
				want++
				break
			}
			synctest.Wait()
			if available, acquired, _ := p.state("subscription all"); acquired != 0 || available != 5-want {
				t.Errorf("%d available, %d acquired", available, acquired)
			}
		}
		if err := sub.Unsubscribe(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := news.Subscribe(t.Context(), polylog.WithSelector("syntax error")); !errors.Is(err, polylog.ErrBadSelector) {
			t.Errorf("a bad selector: %v", err)
		}
	})
}

func TestBrowse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", "a", "b", "c", "d", "e")
		q := polylog.QueueOf[string](session(t, p.connect(t), polylog.IndividualAcknowledge), "q")
		must[*polylog.Delivery[string]](t)(q.Take(t.Context()))
		got := ""
		for b, err := range q.Browse(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got += fmt.Sprintf("%s%d%d ", b.Value, b.Offset, b.State)
		}
		if got != "a01 b10 c20 d30 e40 " {
			t.Errorf("browsed %s", got)
		}
	})
}

func TestRequestAndReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		s := session(t, p.connect(t))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- s.Queue("double").Listen(ctx, func(ctx context.Context, d *polylog.Delivery[*polylog.Message]) error {
				return polylog.Reply(ctx, s, d.Value, d.Value.Text()+d.Value.Text())
			})
		}()
		for _, text := range []string{"a", "b"} {
			reply := must[*polylog.Message](t)(c.Request(t.Context(), "double", polylog.NewText(text)))
			if reply.Text() != text+text {
				t.Errorf("asked %q, was told %q", text, reply.Text())
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestABodyThatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", "this is no order", `{"number":7,"item":"pen"}`)
		s := session(t, p.connect(t))
		n := 0
		for d, err := range polylog.QueueOf[order](s, "q").Consume(t.Context()) {
			switch n++; n {
			case 1:
				if !errors.Is(err, polylog.ErrBody) || d == nil {
					t.Fatalf("%v, %v", d, err)
				}
				if err := d.Reject(t.Context(), "no order"); err != nil {
					t.Error(err)
				}
				continue
			case 2:
				if err != nil || d.Value != (order{7, "pen"}) {
					t.Errorf("%+v, %v", d.Value, err)
				}
			}
			break
		}
		if _, _, done := p.state("q"); done != 2 {
			t.Errorf("%d done", done)
		}
	})
}

func TestCreditComesBackInHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.put("q", slices.Repeat([]string{"x"}, 100)...)
		s := session(t, p.connect(t))
		n := 0
		for _, err := range polylog.QueueOf[string](s, "q").Consume(t.Context(), polylog.WithPrefetch(10)) {
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if _, acquired, _ := p.state("q"); acquired > 11 {
				t.Fatalf("%d acquired with a prefetch of 10", acquired)
			}
			if n++; n == 100 {
				break
			}
		}
		if credits := len(received[*native.Credit](p)); credits > 25 {
			t.Errorf("%d credits for 100 messages", credits)
		}
	})
}

func TestConnectErrors(t *testing.T) {
	for _, address := range []string{"localhost:7400", "http://localhost", "polylog://h?color=red", "polylog://a b"} {
		if _, err := polylog.Connect(t.Context(), address); !errors.Is(err, polylog.ErrInvalid) {
			t.Errorf("%s: %v", address, err)
		}
	}
	p := newPeer(t)
	p.handle = func(c *peerConn, f native.Frame, _ []byte) bool {
		c.send(&native.Fail{Error: native.Error{Code: native.CodeUnauthorized, Message: "no"}}, nil)
		return true
	}
	if _, err := polylog.Connect(t.Context(), "polylog://u:p@h,i/?client-id=c", polylog.WithDialer(p.dial)); !errors.Is(err, polylog.ErrUnauthorized) {
		t.Errorf("Connect: %v", err)
	}
	if h := received[*native.Hello](p)[0]; h.User != "u" || h.Password != "p" || h.ClientID != "c" {
		t.Errorf("Hello %+v", h)
	}
}

func TestPropertyConversions(t *testing.T) {
	m := polylog.NewMessage()
	for name, v := range map[string]any{"bool": true, "byte": int8(-3), "short": int16(300), "long": int64(1 << 40), "float": float32(1.5), "text": "12"} {
		if err := m.SetProperty(name, v); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := polylog.Property[int64](m, "byte"); v != -3 || err != nil {
		t.Errorf("a byte as long: %d, %v", v, err)
	}
	if v, err := polylog.Property[int16](m, "text"); v != 12 || err != nil {
		t.Errorf("a string as short: %d, %v", v, err)
	}
	if v, err := polylog.Property[string](m, "bool"); v != "true" || err != nil {
		t.Errorf("a boolean as string: %s, %v", v, err)
	}
	if v, err := polylog.Property[bool](m, "absent"); v || err != nil {
		t.Errorf("nothing as boolean: %v, %v", v, err)
	}
	for name, read := range map[string]func() error{
		"long as int":      func() error { _, err := polylog.Property[int32](m, "long"); return err },
		"short as boolean": func() error { _, err := polylog.Property[bool](m, "short"); return err },
		"boolean as int":   func() error { _, err := polylog.Property[int32](m, "bool"); return err },
		"absent as int":    func() error { _, err := polylog.Property[int32](m, "absent"); return err },
		"float as long":    func() error { _, err := polylog.Property[int64](m, "float"); return err },
	} {
		if read() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A session whose opening nobody waited for is closed at the broker.
func TestOpeningGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		p.mu.Lock()
		p.handle = func(_ *peerConn, f native.Frame, _ []byte) bool { _, ok := f.(*native.OpenSession); return ok }
		p.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Session(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Session: %v", err)
		}
		synctest.Wait()
		if got := received[*native.CloseSession](p); len(got) != 1 || got[0].Session != 1 {
			t.Errorf("closed %+v", got)
		}
	})
}
