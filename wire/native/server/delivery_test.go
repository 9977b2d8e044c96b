package server_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
	"github.com/polylog-mq/polylog/wire/native/server"
)

// message is one delivered record.
type message struct {
	consumer    uint64
	partition   uint64
	offset      int64
	acquisition uint64
	count       int
	value       string
}

func (m message) span() native.Span {
	return native.Span{Partition: m.partition, Offset: m.offset, Acquisition: m.acquisition, Count: 1}
}

// messages takes n messages from Deliver frames, and fails on any other frame.
func (p *peer) messages(n int) (all []message) {
	p.t.Helper()
	for len(all) < n {
		f, payload := expect[native.Deliver](p)
		all = append(all, unpack(p.t, f, payload)...)
	}
	if len(all) > n {
		p.t.Fatalf("%d messages came, %d were expected: %+v", len(all), n, all)
	}
	return all
}

func unpack(t testing.TB, f *native.Deliver, payload []byte) (all []message) {
	t.Helper()
	var r record.Reader
	if err := r.Reset(payload, 64<<20); err != nil {
		t.Fatal(err)
	}
	for i := 0; r.Next(); i++ {
		m := message{
			consumer: f.Consumer, partition: f.Partition, offset: r.Record().Offset,
			acquisition: f.FirstAcquisition + uint64(i), count: 1, value: string(r.Record().Value),
		}
		if len(f.Counts) > 0 {
			m.count = int(binary.BigEndian.Uint16(f.Counts[2*i:]))
		}
		all = append(all, m)
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
}

// nothing checks that no Deliver is under way.
func (p *peer) nothing() {
	p.t.Helper()
	p.send(&native.Ping{Number: 99}, nil)
	expect[native.Pong](p)
}

// put sends values to a queue, each in a Send of its own but all in one write,
// and waits for the confirms.
func (p *peer) putAll(handle uint64, values ...string) {
	p.t.Helper()
	for i, v := range values {
		p.put(&native.Send{Request: uint64(1000 + i), Session: 1, Handle: handle}, batch(v))
	}
	p.flush()
	for i := range values {
		if c, _ := expect[native.Confirm](p); c.Request != uint64(1000+i) {
			p.t.Fatalf("confirm %d is for request %d", i, c.Request)
		}
	}
}

func (p *peer) subscribe(consumer, credit uint64, queue string) {
	p.t.Helper()
	p.ask(&native.Subscribe{Request: 3, Session: 1, Consumer: consumer, Destination: queue, DestinationKind: native.KindQueue, Credit: credit})
}

func (p *peer) settle(f native.Settle, messages ...message) {
	p.t.Helper()
	f.Request = 50
	for _, m := range messages {
		f.Consumer = m.consumer
		f.Spans = append(f.Spans, m.span())
	}
	p.ask(&f)
}

// Sends that arrive together are one append, and each gets its own first offset.
func TestConfirms(t *testing.T) {
	b := newSmall(t)
	p := open(t, b, server.Options{}, wire.Limits{}).hello()
	q, other := p.resolve("q", native.KindQueue), p.resolve("other", native.KindQueue)
	var want []int64
	for i, values := range [][]string{{"a"}, {"b", "c", "d"}, {"e"}, {strings.Repeat("large", 10_000)}, {"f", "g"}} {
		base := []int64{0, 1, 4, 5, 6}[i]
		want = append(want, base)
		p.put(&native.Send{Request: uint64(10 + i), Session: 1, Handle: q.Handle}, batch(values...))
	}
	p.put(&native.Send{Request: 20, Session: 1, Handle: other.Handle, Unsynced: true}, batch("x"))
	p.put(&native.Send{Request: 21, Session: 1, Handle: q.Handle, Partition: 5}, batch("x"))
	p.put(&native.Send{Request: 22, Session: 1, Handle: q.Handle}, batch("h"))
	p.flush()
	got := map[uint64]int64{}
	for range 8 {
		switch f, _ := p.next(); f := f.(type) {
		case *native.Confirm:
			got[f.Request] = f.Base
		case *native.Fail:
			if f.Request != 21 || f.Error.Code != native.CodeInvalid {
				t.Errorf("%s", show(f))
			}
		default:
			t.Fatalf("got %s", show(f))
		}
	}
	for i, base := range want {
		if got[uint64(10+i)] != base {
			t.Errorf("send %d is at %d, not %d", i, got[uint64(10+i)], base)
		}
	}
	if got[20] != 0 || got[22] != 8 {
		t.Errorf("%v", got)
	}
}

func TestDeliverAndSettle(t *testing.T) {
	p := open(t, newSmall(t), server.Options{}, wire.Limits{}).hello()
	q := p.resolve("q", native.KindQueue)
	p.putAll(q.Handle, "a", "b", "c", "d")
	p.subscribe(1, 2, "q")
	got := p.messages(2)
	if got[0].value != "a" || got[1].value != "b" || got[0].count != 1 || got[0].acquisition == got[1].acquisition {
		t.Fatalf("%+v", got)
	}
	p.settle(native.Settle{}, got[0])
	p.refused(native.CodeStale, &native.Settle{Request: 51, Consumer: 1, Spans: []native.Span{got[0].span()}}, nil)
	p.settle(native.Settle{Kind: native.OutcomeRelease}, got[1])
	p.send(&native.Credit{Consumer: 1, Messages: 1}, nil)
	again := p.messages(1)[0]
	if again.value != "b" || again.count != 2 || again.acquisition == got[1].acquisition {
		t.Fatalf("%+v", again)
	}
	p.settle(native.Settle{Kind: native.OutcomeRelease, Uncounted: true}, again)
	p.send(&native.Credit{Consumer: 1, Messages: 3}, nil)
	rest := p.messages(3)
	if rest[0].value != "b" || rest[0].count != 2 || rest[1].value != "c" {
		t.Fatalf("%+v", rest)
	}
	// Several settlements without an answer, in one write: only what fails is told.
	for _, m := range rest {
		p.put(&native.Settle{Consumer: 1, Spans: []native.Span{m.span()}}, nil)
	}
	p.put(&native.Settle{Consumer: 1, Spans: []native.Span{rest[0].span()}}, nil)
	p.flush()
	if f, _ := expect[native.Fail](p); f.Request != 0 || f.Error.Code != native.CodeStale {
		t.Errorf("%s", show(f))
	}
	p.send(&native.Credit{Consumer: 1, Messages: 5, Drain: true}, nil)
	if f, _ := expect[native.Drained](p); f.Consumer != 1 {
		t.Errorf("%s", show(f))
	}
	p.putAll(q.Handle, "e")
	p.nothing() // the credit is gone
}

// Spans that make no sense are refused, and settle nothing.
func TestHostileSpans(t *testing.T) {
	p := open(t, newSmall(t), server.Options{}, wire.Limits{}).hello()
	q := p.resolve("q", native.KindQueue)
	p.putAll(q.Handle, "a")
	p.subscribe(1, 1, "q")
	m := p.messages(1)[0]
	for _, s := range []native.Span{
		{Count: 0},
		{Count: 1 << 40},
		{Count: 1, Partition: 1 << 40},
		{Count: 1, Offset: -1},
		{Count: 10, Offset: 1<<63 - 5},
		{Count: 10, Acquisition: 1<<64 - 5},
	} {
		p.refused(native.CodeInvalid, &native.Settle{Request: 5, Consumer: 1, Spans: []native.Span{s}}, nil)
	}
	for _, s := range []native.Span{
		{Count: 1, Partition: 3, Offset: m.offset, Acquisition: m.acquisition},
		{Count: 1, Offset: m.offset, Acquisition: m.acquisition + 1},
		{Count: 1<<31 - 1, Offset: m.offset, Acquisition: m.acquisition},
		{Count: 1, Offset: 1 << 40, Acquisition: m.acquisition},
	} {
		p.send(&native.Settle{Request: 5, Consumer: 1, Spans: []native.Span{s}}, nil)
		if f, _ := expect[native.Fail](p); f.Error.Code != native.CodeStale && f.Error.Code != native.CodeInvalid {
			t.Errorf("%+v: %s", s, show(f))
		}
	}
	p.settle(native.Settle{}, m)
}

// A client cannot settle what another holds.
func TestSettlementOfAnother(t *testing.T) {
	d := open(t, newSmall(t), server.Options{}, wire.Limits{})
	p, thief := d.hello(), d.hello()
	q := p.resolve("q", native.KindQueue)
	p.putAll(q.Handle, "a")
	p.subscribe(1, 1, "q")
	m := p.messages(1)[0]
	thief.subscribe(1, 0, "q")
	thief.refused(native.CodeStale, &native.Settle{Request: 5, Consumer: 1, Spans: []native.Span{m.span()}}, nil)
	p.settle(native.Settle{}, m)
}

// Jakarta Messaging 3.1 §8.8: a closed consumer's deliveries can still be
// acknowledged; §6.2.15: a closed session's go back.
func TestCloseRules(t *testing.T) {
	d := open(t, newSmall(t), server.Options{MaxConsumers: 2}, wire.Limits{})
	p, other := d.hello(), d.hello()
	q := p.resolve("q", native.KindQueue)
	p.putAll(q.Handle, "a", "b")
	p.subscribe(1, 2, "q")
	got := p.messages(2)
	p.ask(&native.CloseConsumer{Request: 4, Consumer: 1})
	p.refused(native.CodeNotFound, &native.CloseConsumer{Request: 4, Consumer: 1}, nil)
	other.subscribe(1, 5, "q")
	other.nothing()
	p.settle(native.Settle{}, got[0])
	p.ask(&native.CloseSession{Request: 4, Session: 1})
	if m := other.messages(1)[0]; m.value != "b" || m.count != 2 {
		t.Errorf("%+v", m)
	}
	p.refused(native.CodeNotFound, &native.Settle{Request: 5, Consumer: 1, Spans: []native.Span{got[1].span()}}, nil)

	// Who opens, settles and closes all the time never runs out of numbers or
	// of places.
	other.ask(&native.CloseSession{Request: 4, Session: 1})
	p.ask(&native.OpenSession{Request: 1, Session: 1})
	for range 10 {
		p.subscribe(7, 1, "q")
		m := p.messages(1)[0]
		p.ask(&native.CloseConsumer{Request: 4, Consumer: 7})
		p.settle(native.Settle{Kind: native.OutcomeRelease, Uncounted: true}, m)
	}
}

// A connection that dies gives everything back.
func TestConnectionDeath(t *testing.T) {
	b := newSmall(t)
	d := open(t, b, server.Options{}, wire.Limits{})
	p, other := d.hello(func(h *native.Hello) { h.ClientID = "dies" }), d.hello()
	q := p.resolve("q", native.KindQueue)
	temporary, err := native.DecodeResolved(p.ask(&native.Temporary{Request: 5, Kind: native.KindQueue}))
	if err != nil {
		t.Fatal(err)
	}
	p.putAll(q.Handle, "a")
	p.subscribe(1, 1, "q")
	p.messages(1)
	other.subscribe(1, 1, "q")
	other.nothing()
	p.conn.Close()
	if m := other.messages(1)[0]; m.value != "a" || m.count != 2 {
		t.Errorf("%+v", m)
	}
	eventually(t, "it is gone", func() bool { return d.server.Connections() == 1 })
	if changes := b.changesNow(); changes[len(changes)-1] != "delete "+temporary.Name {
		t.Errorf("%v", changes)
	}
	d.hello(func(h *native.Hello) { h.ClientID = "dies" })
}

// Only the connection that made a temporary destination consumes from it;
// everybody may send to it; it cannot go while it has a consumer.
func TestTemporaryDestinations(t *testing.T) {
	b := newSmall(t)
	d := open(t, b, server.Options{MaxTemporary: 1}, wire.Limits{})
	p, other := d.hello(), d.hello()
	made, err := native.DecodeResolved(p.ask(&native.Temporary{Request: 5, Kind: native.KindQueue}))
	if err != nil {
		t.Fatal(err)
	}
	p.refused(native.CodeBusy, &native.Temporary{Request: 5, Kind: native.KindTopic}, nil)
	other.refused(native.CodeUnauthorized, &native.Subscribe{Request: 3, Session: 1, Consumer: 1, Destination: made.Name, Credit: 1}, nil)
	to := other.resolve(made.Name, native.KindAny)
	other.putAll(to.Handle, "answer")
	p.subscribe(1, 1, made.Name)
	m := p.messages(1)[0]
	body, _ := native.MarshalBody(native.DestinationQuery{Name: made.Name})
	p.refused(native.CodeConflict, &native.Admin{Request: 6, Verb: native.VerbDestinationDelete, Body: body}, nil)
	p.settle(native.Settle{}, m)
	p.ask(&native.CloseConsumer{Request: 4, Consumer: 1})
	p.ask(&native.Admin{Request: 6, Verb: native.VerbDestinationDelete, Body: body})
}

// Once Flow is answered nothing that was under way is still to come: Jakarta
// Messaging 3.1 §6.1.5.
func TestFlow(t *testing.T) {
	d := open(t, newSmall(t), server.Options{}, wire.Limits{})
	for _, session := range []uint64{0, 1} {
		p, producer := d.hello(), d.hello()
		queue := fmt.Sprint("q", session)
		q := producer.resolve(queue, native.KindQueue)
		p.ask(&native.Flow{Request: 6, Session: session})
		p.subscribe(1, 1<<19, queue) // it opens stopped
		producer.putAll(q.Handle, "a", "b")
		p.nothing()

		var spans []native.Span
		take := func(until func(native.Frame) bool) {
			for {
				f, payload := p.next()
				if deliver, ok := f.(*native.Deliver); ok {
					for _, m := range unpack(t, deliver, payload) {
						spans = append(spans, m.span())
					}
				}
				if until(f) {
					return
				}
			}
		}
		flow := func(start bool) {
			p.send(&native.Flow{Request: 6, Session: session, Start: start}, nil)
			take(func(f native.Frame) bool { _, ok := f.(*native.OK); return ok })
		}
		flow(true)
		stop, poured := make(chan struct{}), make(chan int)
		var sent atomic.Int64
		go func() { // messages pour in
			for n := 2; ; n++ {
				select {
				case <-stop:
					poured <- n
					return
				default:
					producer.putAll(q.Handle, "x")
					sent.Add(1)
				}
			}
		}()
		for i := 0; i < 10 || sent.Load() < 10; i++ { // a slow disk takes its time
			time.Sleep(2 * time.Millisecond)
			flow(false)
			time.Sleep(2 * time.Millisecond)
			p.nothing()
			flow(true)
		}
		close(stop)
		total := <-poured
		if len(spans) < total {
			take(func(native.Frame) bool { return len(spans) >= total })
		}
		if len(spans) != total {
			t.Errorf("%d messages came of %d", len(spans), total)
		}
		for len(spans) > 0 {
			n := min(len(spans), native.MaxSpans)
			p.ask(&native.Settle{Request: 7, Consumer: 1, Spans: spans[:n]})
			spans = spans[n:]
		}
	}
}

func TestBrowse(t *testing.T) {
	b := newSmall(t)
	p := open(t, b, server.Options{}, wire.Limits{}).hello()
	q := p.resolve("q", native.KindQueue)
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i, strings.Repeat("-", 30<<10)))
	}
	p.putAll(q.Handle, want...)
	p.subscribe(1, 1, "q")
	p.messages(1)
	var got []string
	var after []byte
	for pages := 1; ; pages++ {
		p.send(&native.Browse{Request: 5, Destination: "q", After: after, Max: 30}, nil)
		ok, payload := expect[native.OK](p)
		page, err := native.DecodeBrowsed(ok.Body)
		if err != nil {
			t.Fatal(err)
		}
		if len(payload) > 600<<10 {
			t.Errorf("a page of %d bytes", len(payload))
		}
		for range page.Bodies {
			batch, rest, err := record.Next(payload)
			if err != nil {
				t.Fatal(err)
			}
			var r record.Reader
			r.Reset(batch, 64<<20)
			for r.Next() {
				got = append(got, string(r.Record().Value))
			}
			payload = rest
		}
		if after = page.After; len(after) == 0 {
			if pages < 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d messages, not in order or not all", len(got))
	}
}

// A request that waits holds up no send of its own connection, and requests of
// one session keep their order.
func TestSlowRequestsHoldUpNobody(t *testing.T) {
	b := newSmall(t)
	d := open(t, b, server.Options{MaxRequests: 3}, wire.Limits{})
	p := d.hello()
	q := p.resolve("fast", native.KindQueue)
	b.slow = make(chan struct{})
	p.send(&native.Resolve{Request: 30, Name: "slow", Kind: native.KindQueue}, nil)
	eventually(t, "the first request has left the lane", func() bool { return b.waiting.Load() == 1 })
	p.send(&native.Subscribe{Request: 31, Session: 1, Consumer: 1, Destination: "fast", DestinationKind: native.KindQueue}, nil)
	p.send(&native.Credit{Consumer: 1, Messages: 1}, nil) // for a consumer that is not open yet
	p.putAll(q.Handle, "a")
	p.send(&native.Resolve{Request: 32, Name: "other", Kind: native.KindQueue}, nil)
	eventually(t, "the lane is full", func() bool {
		p.send(&native.Resolve{Request: 33, Name: "one too many", Kind: native.KindQueue}, nil)
		f, _ := expect[native.Fail](p)
		return f.Request == 33 && f.Error.Code == native.CodeBusy
	})
	close(b.slow)
	for _, request := range []uint64{30, 31} {
		if ok, _ := expect[native.OK](p); ok.Request != request {
			t.Errorf("answered %d, not %d", ok.Request, request)
		}
	}
	delivered := false
	for range 2 {
		switch f, _ := p.next(); f.(type) {
		case *native.Deliver:
			delivered = true
		case *native.OK:
		default:
			t.Errorf("got %s", show(f))
		}
	}
	if !delivered {
		t.Error("the credit that came early is lost")
	}
}

// A peer that is silent for two of its heartbeats is dead, one that answers
// pings is not, and the broker is not silent itself.
func TestHeartbeats(t *testing.T) {
	b := newSmall(t)
	synctest.Test(t, func(t *testing.T) {
		s := server.New(b, server.Options{Logger: silent, Heartbeat: 4 * time.Second})
		l, err := wire.Listen(wire.Config{}, wire.NewGuard(wire.Limits{}), s, silent)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		connect := func() *peer {
			near, far := wire.Pipe()
			l.ServeConn(far)
			p := &peer{t: t, conn: near, encoder: native.NewEncoder(), decoder: native.NewDecoder(), reader: native.NewReader(near, 1<<20)}
			p.send(&native.Hello{Version: native.Version, HeartbeatMS: 6000}, nil)
			expect[native.Welcome](p)
			return p
		}
		dead, alive := connect(), connect()
		began := time.Now()
		done := make(chan time.Duration)
		go func() {
			last := time.Now()
			for {
				typ, _, err := alive.reader.Next()
				if err != nil {
					return
				}
				if silence := time.Since(last); silence > 4*time.Second {
					t.Errorf("silent for %v", silence)
				}
				last = time.Now()
				if typ == native.TypePing {
					alive.send(&native.Pong{}, nil)
				}
			}
		}()
		go func() {
			for {
				if _, _, err := dead.reader.Next(); err != nil {
					done <- time.Since(began)
					return
				}
			}
		}()
		if took := <-done; took < 12*time.Second || took > 16*time.Second {
			t.Errorf("dead after %v", took)
		}
		time.Sleep(time.Minute)
		if s.Connections() != 1 {
			t.Errorf("%d connections", s.Connections())
		}
		alive.conn.Close()
		dead.conn.Close()
	})
}

// A drain stops deliveries, answers what is under way, takes settlements,
// refuses new work, and closes who is quiet.
func TestDrain(t *testing.T) {
	b := newSmall(t)
	d := open(t, b, server.Options{}, wire.Limits{})
	p, idle := d.hello(), d.hello()
	q := p.resolve("q", native.KindQueue)
	p.putAll(q.Handle, "a")
	p.subscribe(1, 10, "q")
	m := p.messages(1)[0]
	stranger := d.raw()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	drained := make(chan struct{})
	began := time.Now()
	go func() { d.listener.Drain(ctx); close(drained) }()
	expect[native.GoAway](p)
	p.put(&native.Settle{Request: 8, Consumer: 1, Spans: []native.Span{m.span()}}, nil)
	p.put(&native.Send{Request: 9, Session: 1, Handle: q.Handle}, batch("b"))
	p.put(&native.Resolve{Request: 10, Name: "new", Kind: native.KindQueue}, nil)
	p.put(&native.Subscribe{Request: 11, Session: 1, Consumer: 2, Destination: "q"}, nil)
	p.put(&native.OpenSession{Request: 12, Session: 5}, nil)
	p.flush()
	answers := map[uint64]native.Code{}
	for range 5 {
		switch f, _ := p.next(); f := f.(type) {
		case *native.OK:
			answers[f.Request] = "ok"
		case *native.Fail:
			answers[f.Request] = f.Error.Code
		default:
			t.Fatalf("got %s", show(f))
		}
	}
	for request, want := range map[uint64]native.Code{8: "ok", 9: native.CodeShuttingDown, 10: native.CodeShuttingDown, 11: native.CodeShuttingDown, 12: native.CodeShuttingDown} {
		if answers[request] != want {
			t.Errorf("request %d: %s", request, answers[request])
		}
	}
	expect[native.GoAway](idle)
	<-drained
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("quiet connections kept it for %v", took)
	}
	for _, q := range []*peer{p, idle, stranger} {
		for f, _ := q.next(); f != nil; f, _ = q.next() {
			if _, ok := f.(*native.Fail); !ok {
				t.Errorf("after the drain: %s", show(f))
			}
		}
	}
}

// A peer that reads nothing is let go in time, and what it holds goes back.
func TestStuckPeer(t *testing.T) {
	b := newSmall(t)
	d := open(t, b, server.Options{WriteTimeout: 200 * time.Millisecond, MaxOutgoing: 64 << 10}, wire.Limits{})
	stuck, other := d.hello(), d.hello()
	q := other.resolve("q", native.KindQueue)
	for range 40 {
		other.putAll(q.Handle, strings.Repeat("x", 60<<10))
	}
	stuck.subscribe(1, 1000, "q") // and never reads again
	other.subscribe(1, 1000, "q")
	got := map[string]bool{}
	for len(got) < 40 {
		f, payload := expect[native.Deliver](other)
		for _, m := range unpack(t, f, payload) {
			got[fmt.Sprint(m.partition, m.offset)] = true
		}
	}
	eventually(t, "the stuck one is gone", func() bool { return d.server.Connections() == 1 })
}

// A peer that asks and does not listen is not read any more: what it makes us
// hold is bounded.
func TestAsksAndDoesNotListen(t *testing.T) {
	d := open(t, newSmall(t), server.Options{MaxOutgoing: 64 << 10, WriteTimeout: 300 * time.Millisecond}, wire.Limits{})
	p := d.hello()
	p.conn.SetDeadline(time.Now().Add(10 * time.Second))
	pings := p.encoder.Append(nil, &native.Ping{Number: 1}, nil)
	for len(pings) < 64<<10 {
		pings = append(pings, pings...)
	}
	written := 0
	for {
		n, err := p.conn.Write(pings)
		written += n
		if err != nil {
			break
		}
		if written > 8<<20 {
			t.Fatal("it takes more and more")
		}
	}
	eventually(t, "it is gone", func() bool { return d.server.Connections() == 0 })
}
