package spill_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/spill"
)

var errAway = errors.New("the broker is away")

// broker is a broker that can go away and come back on the same data directory.
type broker struct {
	t   *testing.T
	dir string

	mu     sync.Mutex // guards server
	server *embed.Server
}

func newBroker(t *testing.T) *broker {
	b := &broker{t: t, dir: t.TempDir()}
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	server, err := embed.Start(embed.Options{Dir: b.dir, CloseTimeout: 50 * time.Millisecond})
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	b.server = server
	b.mu.Unlock()
}

func (b *broker) stop() {
	b.t.Helper()
	b.mu.Lock()
	server := b.server
	b.server = nil
	b.mu.Unlock()
	if server != nil {
		if err := server.Close(); err != nil {
			b.t.Error(err)
		}
	}
}

func (b *broker) dial(ctx context.Context) (net.Conn, error) {
	b.mu.Lock()
	server := b.server
	b.mu.Unlock()
	if server == nil {
		return nil, errAway
	}
	return server.Dial(ctx)
}

func (b *broker) options() []polylog.Option {
	return []polylog.Option{
		polylog.WithDialer(b.dial),
		polylog.WithReconnect(polylog.ReconnectPolicy{Min: time.Millisecond, Max: 5 * time.Millisecond}),
	}
}

func (b *broker) producer(dir string, o spill.Options) *spill.Producer {
	b.t.Helper()
	o.Connect = append(b.options(), o.Connect...)
	p, err := spill.Open(dir, "polylog://test", o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = p.Close() })
	return p
}

func (b *broker) session() *polylog.Session {
	b.t.Helper()
	c, err := polylog.Connect(b.t.Context(), "polylog://test", b.options()...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	s, err := c.Session(b.t.Context(), polylog.IndividualAcknowledge)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// subscribe opens the one durable subscription of the tests.
func (b *broker) subscribe(topic string) (*polylog.Connection, *polylog.Subscription[*polylog.Message]) {
	b.t.Helper()
	c, err := polylog.Connect(b.t.Context(), "polylog://test", append(b.options(), polylog.WithClientID("reader"))...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	s, err := c.Session(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	sub, err := s.Topic(topic).Durable(b.t.Context(), "all")
	if err != nil {
		b.t.Fatal(err)
	}
	return c, sub
}

// take takes all that is in a queue.
func (b *broker) take(name string) []*polylog.Message {
	b.t.Helper()
	return takeAll(b.t, b.session(), name)
}

func takeAll(t *testing.T, s *polylog.Session, name string) (all []*polylog.Message) {
	t.Helper()
	q := s.Queue(name)
	for {
		batch, err := q.TakeBatch(t.Context(), 1000, polylog.NoWait())
		if errors.Is(err, polylog.ErrNoMessage) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range batch {
			all = append(all, d.Value)
			if err := d.AckAsync(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func textsOf(all []*polylog.Message) (texts []string) {
	for _, m := range all {
		texts = append(texts, m.Text())
	}
	return texts
}

func send(t testing.TB, p *spill.Producer, to spill.Destination, text string) spill.Receipt {
	t.Helper()
	r, err := p.Send(t.Context(), to, polylog.NewText(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func flush(t testing.TB, p *spill.Producer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func numbers(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func closed(t testing.TB, p *spill.Producer) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheBrokerIsThere(t *testing.T) {
	b := newBroker(t)
	b.start()
	p := b.producer(t.TempDir(), spill.Options{Patience: time.Minute})
	for n := range 10 {
		if r := send(t, p, spill.Queue("q"), fmt.Sprint(n)); r.Spilled || r.MessageID == "" {
			t.Errorf("%+v", r)
		}
	}
	if p.Pending() != 0 || p.Err() != nil {
		t.Error(p.Pending(), p.Err())
	}
	if got := textsOf(b.take("q")); !slices.Equal(got, numbers(10)) {
		t.Errorf("%q", got)
	}
	closed(t, p)
	if _, err := p.Send(t.Context(), spill.Queue("q"), polylog.NewText("late")); !errors.Is(err, spill.ErrClosed) {
		t.Error(err)
	}
}

// The story of the package: away at first, there, and away, over several producers.
func TestOutages(t *testing.T) {
	b := newBroker(t)
	dir := t.TempDir()
	b.start()
	reader, sub := b.subscribe("news")
	if err := errors.Join(sub.Close(t.Context()), reader.Close()); err != nil {
		t.Fatal(err)
	}
	b.stop()
	n := 0
	ids := map[string]string{}
	both := func(p *spill.Producer, count int, spilled bool) {
		t.Helper()
		for range count {
			r := send(t, p, spill.Queue("q"), fmt.Sprint(n))
			ids[fmt.Sprint(n)] = r.MessageID
			if spilled != r.Spilled {
				t.Fatalf("message %d: %+v", n, r)
			}
			send(t, p, spill.Topic("news"), fmt.Sprint(n))
			n++
		}
	}
	for range 3 {
		p := b.producer(dir, spill.Options{Patience: time.Millisecond})
		both(p, 20, true)
		if p.Err() == nil || p.Pending() < 40 {
			t.Error(p.Pending(), p.Err())
		}
		closed(t, p)
		p = b.producer(dir, spill.Options{Patience: time.Millisecond})
		both(p, 20, true)
		b.start()
		flush(t, p)
		closed(t, p)
		p = b.producer(dir, spill.Options{Patience: time.Minute})
		both(p, 5, false)
		b.stop()
		closed(t, p)
	}
	b.start()
	all := b.take("q")
	if got := textsOf(all); !slices.Equal(got, numbers(n)) {
		t.Errorf("queue: %q", got)
	}
	for _, m := range all {
		if m.ID != ids[m.Text()] {
			t.Errorf("message %s has the id %s, not %s", m.Text(), m.ID, ids[m.Text()])
		}
	}
	var got []string
	_, sub = b.subscribe("news")
	for d, err := range sub.Consume(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, d.Value.Text()); len(got) == n {
			break
		}
	}
	if !slices.Equal(got, numbers(n)) {
		t.Errorf("topic: %q", got)
	}
}

// Several producers' goroutines, while the broker comes and goes: whatever Send
// has returned for is there, and what one goroutine has sent is in order, if what
// comes again is dropped.
func TestManySendersOverRestarts(t *testing.T) {
	b := newBroker(t)
	b.start()
	p := b.producer(t.TempDir(), spill.Options{Patience: 2 * time.Millisecond})
	const senders, each = 8, 300
	var wait sync.WaitGroup
	for s := range senders {
		wait.Go(func() {
			for n := range each {
				if _, err := p.Send(t.Context(), spill.Queue("q"), polylog.NewText(fmt.Sprintf("%d %d", s, n))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	restarts := 0
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		default:
			b.stop()
			b.start()
			restarts++
		}
	}
	flush(t, p)
	inOrder(t, b.take("q"), senders, each)
	t.Logf("%d restarts", restarts)
}

// inOrder checks what is left when what comes again is dropped.
func inOrder(t *testing.T, all []*polylog.Message, senders, each int) (again int) {
	t.Helper()
	next := make([]int, senders)
	seen := map[string]bool{}
	for _, m := range all {
		if seen[m.ID] {
			continue
		}
		seen[m.ID] = true
		var s, n int
		if _, err := fmt.Sscan(m.Text(), &s, &n); err != nil {
			t.Fatal(err)
		}
		if n != next[s] {
			t.Fatalf("sender %d: %d where %d is next", s, n, next[s])
		}
		next[s]++
	}
	for s, n := range next {
		if n != each {
			t.Errorf("sender %d: %d messages of %d", s, n, each)
		}
	}
	t.Logf("%d messages, %d of them again", len(all), len(all)-len(seen))
	return len(all) - len(seen)
}

// A connection that is cut at random places, of requests and of answers, loses and
// reorders nothing.
func TestACutConnection(t *testing.T) {
	if cutConnections(t, "0") == 0 {
		t.Error("no answer was lost: this test shows nothing")
	}
}

// With duplicate detection what is sent again is there once.
func TestDuplicatesAreDetected(t *testing.T) {
	if n := cutConnections(t, "1000"); n > 0 {
		t.Errorf("%d messages came again", n)
	}
}

// cutConnections returns how many messages came again.
func cutConnections(t *testing.T, window string) (again int) {
	b := newBroker(t)
	b.start()
	spec := polylog.DestinationSpec{Name: "q", Kind: "queue", Settings: map[string]string{"duplicate.window": window}}
	if _, err := b.session().Connection().Admin().Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	rnd, dialRnd, dials := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4)), 0
	p := b.producer(t.TempDir(), spill.Options{
		Patience: 5 * time.Millisecond,
		Connect: []polylog.Option{polylog.WithDialer(func(ctx context.Context) (net.Conn, error) {
			c, err := b.dial(ctx)
			if err != nil {
				return nil, err
			}
			if dials++; dials%3 == 0 {
				return &cutConn{Conn: c, left: 500 + dialRnd.IntN(20000), answers: 1 << 30}, nil
			}
			return &cutConn{Conn: c, left: 1 << 30, answers: 3 + dials%10}, nil
		})},
	})
	const count = 500
	var wait sync.WaitGroup
	for n := range count {
		wait.Add(1)
		err := p.SendAsync(t.Context(), spill.Queue("q"), polylog.NewText(fmt.Sprintf("0 %d", n)), func(_ spill.Receipt, err error) {
			if err != nil {
				t.Error(err)
			}
			wait.Done()
		})
		if err != nil {
			t.Fatal(err)
		}
		// So there are rounds of all sizes, and in the end many of one.
		if rnd.IntN(20) == 0 || n > count-50 {
			wait.Wait()
			flush(t, p)
		}
	}
	flush(t, p)
	return inOrder(t, b.take("q"), 1, count)
}

// cutConn breaks in the write that reaches so many bytes, which are written, or in
// the answer behind so many, which is lost.
type cutConn struct {
	net.Conn
	left, answers int // bytes, and reads; each has one goroutine
}

func (c *cutConn) Write(b []byte) (int, error) {
	if len(b) < c.left {
		c.left -= len(b)
		return c.Conn.Write(b)
	}
	n, _ := c.Conn.Write(b[:c.left])
	c.left = 0
	c.Conn.Close()
	return n, errAway
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.answers--; c.answers < 0 {
		c.Conn.Close()
		return 0, errAway
	}
	return n, err
}

func TestFull(t *testing.T) {
	b := newBroker(t)
	dir := t.TempDir()
	p := b.producer(dir, spill.Options{Patience: time.Millisecond, MaxBytes: 256 << 10})
	n := 0
	var err error
	for ; err == nil; n++ {
		_, err = p.Send(t.Context(), spill.Queue("q"), polylog.NewText(fmt.Sprintf("%d %1000s", n, "")))
	}
	n-- // the last was refused
	if !errors.Is(err, spill.ErrFull) || n < 100 || n > 256 {
		t.Fatal(n, err)
	}
	if _, err := p.Send(t.Context(), spill.Queue("q"), polylog.NewBytes(make([]byte, 300<<10))); !errors.Is(err, spill.ErrFull) {
		t.Error(err)
	}
	b.start()
	flush(t, p)
	send(t, p, spill.Queue("q"), fmt.Sprint(n))
	all := b.take("q")
	if len(all) != n+1 {
		t.Errorf("%d messages of %d", len(all), n+1)
	}
	for i, m := range all {
		var got int
		if _, err := fmt.Sscan(m.Text(), &got); err != nil || got != i {
			t.Fatalf("message %d is %d, %v", i, got, err)
		}
	}
}

func TestWhatTheBrokerRefuses(t *testing.T) {
	b := newBroker(t)
	b.start()
	if _, err := b.session().Topic("topic").Publish(t.Context(), polylog.NewText("")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := b.producer(dir, spill.Options{Patience: time.Minute})
	// A sender who waits is told, and those around it are not concerned.
	outcomes := make([]error, 60)
	refused := func(n int) bool { return n == 7 || n == 8 || n == 30 }
	var wait sync.WaitGroup
	for n := range outcomes {
		to := spill.Queue("q")
		if refused(n) {
			to = spill.Queue("topic")
		}
		if n == 40 {
			wait.Wait() // from here on no message is alone any more
		}
		wait.Add(1)
		if err := p.SendAsync(t.Context(), to, polylog.NewText(fmt.Sprint(n)), func(_ spill.Receipt, err error) {
			outcomes[n] = err
			wait.Done()
		}); err != nil {
			t.Fatal(err)
		}
	}
	wait.Wait()
	for n, err := range outcomes {
		if refused(n) != errors.Is(err, polylog.ErrWrongKind) || !refused(n) && err != nil {
			t.Errorf("message %d: %v", n, err)
		}
	}
	want := slices.DeleteFunc(numbers(60), func(s string) bool { return s == "7" || s == "8" || s == "30" })
	if got := textsOf(b.take("q")); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if _, err := p.Send(t.Context(), spill.Queue("topic"), polylog.NewText("x")); !errors.Is(err, polylog.ErrWrongKind) {
		t.Error(err)
	}
	for _, err := range []error{
		func() error { _, err := p.Send(t.Context(), spill.Queue(""), polylog.NewText("x")); return err }(),
		func() error { _, err := p.Send(t.Context(), spill.Destination{}, polylog.NewText("x")); return err }(),
		func() error { _, err := p.Send(t.Context(), spill.Queue("q"), nil); return err }(),
		func() error {
			_, err := p.Send(t.Context(), spill.Queue("q"), polylog.NewText("x"), polylog.WithPartition(0))
			return err
		}(),
	} {
		if !errors.Is(err, polylog.ErrInvalid) {
			t.Error(err)
		}
	}
	b.stop()
	closed(t, p)

	// One that has been spilled stops what is behind it, until it is dropped.
	p = b.producer(dir, spill.Options{Patience: time.Millisecond})
	for n := range 5 {
		send(t, p, spill.Queue("q"), fmt.Sprint(n))
	}
	send(t, p, spill.Queue("topic"), "poison")
	send(t, p, spill.Queue("q"), "5")
	b.start()
	for !errors.Is(p.Err(), polylog.ErrWrongKind) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := p.Flush(ctx); err == nil {
			t.Fatal("it went past what the broker refuses")
		}
		cancel()
	}
	if n := p.Pending(); n != 2 {
		t.Errorf("%d pending", n)
	}
	closed(t, p)
	var dropped []string
	p = b.producer(dir, spill.Options{Patience: time.Millisecond, Refused: func(to spill.Destination, m *polylog.Message, err error) bool {
		dropped = append(dropped, fmt.Sprint(to, " ", m.Text(), " ", errors.Is(err, polylog.ErrWrongKind)))
		return true
	}})
	flush(t, p)
	closed(t, p)
	if !slices.Equal(dropped, []string{"queue topic poison true"}) {
		t.Errorf("%q", dropped)
	}
	if got := textsOf(b.take("q")); !slices.Equal(got, numbers(6)) {
		t.Errorf("%q", got)
	}
}

// A context that ends leaves a message in doubt, and it is sent all the same.
func TestAnEndedContext(t *testing.T) {
	b := newBroker(t)
	dir := t.TempDir()
	p := b.producer(dir, spill.Options{Patience: time.Minute, Connect: []polylog.Option{polylog.WithDialer(func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Send(ctx, spill.Queue("q"), polylog.NewText("x")); !errors.Is(err, polylog.ErrInDoubt) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := p.Flush(ctx); !errors.Is(err, context.Canceled) || p.Pending() != 1 {
		t.Error(err, p.Pending())
	}
	// Close does not wait for the broker, which has not answered yet.
	started := time.Now()
	closed(t, p)
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	p = b.producer(dir, spill.Options{})
	if n := p.Pending(); n != 1 {
		t.Errorf("%d pending", n)
	}
}

// What waits in memory has a bound, beyond which a sender waits too.
func TestMemoryIsBounded(t *testing.T) {
	b := newBroker(t)
	p := b.producer(t.TempDir(), spill.Options{Patience: time.Minute, Connect: []polylog.Option{polylog.WithDialer(func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it bounds the wait for room alone
	m := polylog.NewBytes(make([]byte, 1<<20))
	n := 0
	var err error
	for ; err == nil && n < 100; n++ {
		err = p.SendAsync(ctx, spill.Queue("q"), m, nil)
	}
	if !errors.Is(err, context.Canceled) || n < 4 || n > 9 {
		t.Errorf("%d messages of 1 MiB, and then %v", n, err)
	}
}

// A backlog goes over a connection that never lasts for a whole round.
func TestABadConnection(t *testing.T) {
	b := newBroker(t)
	dir := t.TempDir()
	p := b.producer(dir, spill.Options{})
	const count = 500
	for n := range count {
		send(t, p, spill.Queue("q"), fmt.Sprintf("0 %d", n))
	}
	closed(t, p)
	b.start()
	p = b.producer(dir, spill.Options{Connect: []polylog.Option{polylog.WithDialer(func(ctx context.Context) (net.Conn, error) {
		c, err := b.dial(ctx)
		if err != nil {
			return nil, err
		}
		return &cutConn{Conn: c, left: 20000, answers: 1 << 30}, nil
	})}})
	flush(t, p)
	inOrder(t, b.take("q"), 1, count)
}

// When the broker is back, messages are not written to the disk any more.
func TestSpillingEnds(t *testing.T) {
	b := newBroker(t)
	p := b.producer(t.TempDir(), spill.Options{Patience: time.Minute})
	for range 3 {
		if r := send(t, p, spill.Queue("q"), "x"); !r.Spilled {
			t.Errorf("%+v", r)
		}
	}
	if err := p.Err(); !errors.Is(err, errAway) {
		t.Error(err)
	}
	b.start()
	flush(t, p)
	if r := send(t, p, spill.Queue("q"), "x"); r.Spilled || p.Err() != nil {
		t.Errorf("%+v, %v", r, p.Err())
	}
}

func TestOneProducerADirectory(t *testing.T) {
	b := newBroker(t)
	dir := t.TempDir()
	p := b.producer(dir, spill.Options{})
	if _, err := spill.Open(dir, "polylog://test", spill.Options{}); !errors.Is(err, spill.ErrLocked) {
		t.Error(err)
	}
	closed(t, p)
	closed(t, b.producer(dir, spill.Options{}))
}
