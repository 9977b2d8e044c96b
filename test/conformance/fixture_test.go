package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native/server"
)

// transport is how a case reaches its broker.
type transport string

const (
	inProcess transport = "process"
	overTCP   transport = "tcp"
)

// testBroker is a broker that cases connect to.
type testBroker struct {
	via     transport
	options embed.Options

	mu     sync.Mutex // guards server
	server *embed.Server

	shared     func() (*polylog.Connection, error) // one for the cases that change nothing of it
	specimen   sync.Once                           // what the property cases read
	received   *polylog.Message
	selectable sync.Once // what the selector cases browse
}

// brokerOptions say how a case's own broker differs from the one that all share.
type brokerOptions struct {
	onDisk       bool // it survives a restart
	noAutoCreate bool
	authenticate func(user, password string) (string, error)
}

// start starts a broker that ends with the test.
func start(t *testing.T, via transport, o brokerOptions) *testBroker {
	t.Helper()
	b := &testBroker{via: via, options: embed.Options{
		Dir: t.TempDir(), CloseTimeout: 5 * time.Second,
		Broker: broker.Options{NoAutoCreate: o.noAutoCreate},
		Native: server.Options{Authenticate: o.authenticate},
	}}
	if !o.onDisk {
		b.options.Broker.FS = commitlog.NewMemFS() // what a disk does is for other tests, and takes time
	}
	if via == overTCP {
		b.options.Listen = wire.Config{Address: "127.0.0.1:0"}
	}
	b.open(t)
	b.shared = sync.OnceValues(func() (*polylog.Connection, error) {
		return polylog.Connect(context.Background(), b.address(), b.reach()...)
	})
	t.Cleanup(func() {
		if c, err := b.shared(); err == nil {
			c.Close()
		}
		if err := b.running().Close(); err != nil {
			t.Errorf("close the broker: %v", err)
		}
	})
	return b
}

func (b *testBroker) open(t *testing.T) {
	t.Helper()
	s, err := embed.Start(b.options)
	if err != nil {
		t.Fatalf("start a broker: %v", err)
	}
	b.mu.Lock()
	b.server = s
	b.mu.Unlock()
}

func (b *testBroker) running() *embed.Server {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server
}

// restart closes the broker and starts it again with the same data.
func (b *testBroker) restart(t *testing.T) {
	t.Helper()
	if err := b.running().Close(); err != nil {
		t.Fatalf("close the broker: %v", err)
	}
	b.open(t)
}

// address is what a client dials; within the process it is a name for errors.
func (b *testBroker) address() string {
	if b.via == overTCP {
		return "polylog://" + b.running().Addr().String()
	}
	return "polylog://embedded"
}

// reach are the options without which the address leads nowhere.
func (b *testBroker) reach() []polylog.Option {
	if b.via == overTCP {
		return nil
	}
	return []polylog.Option{polylog.WithDialer(b.dial)}
}

func (b *testBroker) dial(ctx context.Context) (net.Conn, error) {
	if b.via == overTCP {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", b.running().Addr().String())
	}
	return b.running().Dial(ctx)
}

// patience is how long a case may wait for what has to come. It is long, so that
// a loaded machine fails nothing.
const patience = 30 * time.Second

// fixture is what one case works with.
type fixture struct {
	t   *testing.T
	ctx context.Context // ends if the case takes too long
	b   *testBroker

	prefix string // of names that no other case has
	own    *polylog.Connection
}

var fixtures atomic.Int64

func newFixture(t *testing.T, b *testBroker) *fixture {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return &fixture{t: t, ctx: ctx, b: b, prefix: fmt.Sprintf("c%d.", fixtures.Add(1))}
}

// alone is the fixture with a broker of its own, for what would disturb others.
func (c *fixture) alone(o brokerOptions) *fixture {
	c.t.Helper()
	return newFixture(c.t, start(c.t, c.b.via, o))
}

// name is a name of the case's own.
func (c *fixture) name(of string) string { return c.prefix + of }

func (c *fixture) tryConnect(opts ...polylog.Option) (*polylog.Connection, error) {
	con, err := polylog.Connect(c.ctx, c.b.address(), append(c.b.reach(), opts...)...)
	if err == nil {
		c.t.Cleanup(func() { con.Close() })
	}
	return con, err
}

// connect makes a connection that is closed when the case ends.
func (c *fixture) connect(opts ...polylog.Option) *polylog.Connection {
	c.t.Helper()
	con, err := c.tryConnect(opts...)
	if err != nil {
		c.t.Fatalf("connect: %v", err)
	}
	return con
}

// connection is the case's first connection.
func (c *fixture) connection() *polylog.Connection {
	c.t.Helper()
	if c.own == nil {
		c.own = c.connect()
	}
	return c.own
}

// session opens a session on the case's first connection.
func (c *fixture) session(mode ...polylog.Mode) *polylog.Session {
	c.t.Helper()
	return c.sessionOn(c.connection(), mode...)
}

// opener is a connection, breakable or not.
type opener interface {
	Session(context.Context, ...polylog.Mode) (*polylog.Session, error)
}

func (c *fixture) sessionOn(con opener, mode ...polylog.Mode) *polylog.Session {
	c.t.Helper()
	s, err := con.Session(c.ctx, mode...)
	if err != nil {
		c.t.Fatalf("open a session: %v", err)
	}
	return s
}

// texts is a queue of text messages of the case's own.
func (c *fixture) texts(mode ...polylog.Mode) *polylog.Queue[string] {
	c.t.Helper()
	return polylog.QueueOf[string](c.session(mode...), c.name("q"))
}

// messages is a queue of untyped messages of the case's own.
func (c *fixture) messages(mode ...polylog.Mode) *polylog.Queue[*polylog.Message] {
	c.t.Helper()
	return c.session(mode...).Queue(c.name("q"))
}

// fragile is a connection that a case can break or hold up.
type fragile struct {
	*polylog.Connection
	noticed chan struct{} // the client has noticed a break

	mu   sync.Mutex // guards what follows
	last *fragileConn
}

// fragileConn is a network connection whose writes can be held up.
type fragileConn struct {
	net.Conn
	held sync.RWMutex // held up while it is locked
}

func (f *fragileConn) Write(b []byte) (int, error) {
	f.held.RLock()
	defer f.held.RUnlock()
	return f.Conn.Write(b)
}

// breakable makes a connection over a dialer that a case can cut: the client
// notices, and dials again. An exception listener among the options takes the place
// of the one that lose waits for.
func (c *fixture) breakable(opts ...polylog.Option) *fragile {
	c.t.Helper()
	f := &fragile{noticed: make(chan struct{}, 16)}
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := c.b.dial(ctx)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.last = &fragileConn{Conn: conn}
		return f.last, nil
	}
	all := []polylog.Option{
		polylog.WithDialer(dial),
		polylog.WithReconnect(polylog.ReconnectPolicy{Min: time.Millisecond, Max: 10 * time.Millisecond}),
		polylog.WithExceptionListener(func(error) { f.noticed <- struct{}{} }),
	}
	var err error
	if f.Connection, err = polylog.Connect(c.ctx, "polylog://breakable", append(all, opts...)...); err != nil {
		c.t.Fatalf("connect: %v", err)
	}
	c.t.Cleanup(func() { f.Close() })
	return f
}

// cut breaks the connection.
func (f *fragile) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last.Close()
}

// lose breaks the connection and waits until the client has noticed.
func (f *fragile) lose(c *fixture) {
	c.t.Helper()
	f.cut()
	c.comes("the notice of the break", f.noticed)
}

// holdUp lets nothing leave the client until goOn is called.
func (f *fragile) holdUp() (goOn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last.held.Lock()
	return f.last.held.Unlock
}

func put[T any](c *fixture, q *polylog.Queue[T], v T, opts ...polylog.PutOption) polylog.Receipt {
	c.t.Helper()
	r, err := q.Put(c.ctx, v, opts...)
	if err != nil {
		c.t.Fatalf("put: %v", err)
	}
	return r
}

func putAll(c *fixture, q *polylog.Queue[string], values ...string) {
	c.t.Helper()
	if _, err := q.PutAll(c.ctx, slices.Values(values)); err != nil {
		c.t.Fatalf("put: %v", err)
	}
}

func publish[T any](c *fixture, topic *polylog.Topic[T], v T, opts ...polylog.PutOption) polylog.Receipt {
	c.t.Helper()
	r, err := topic.Publish(c.ctx, v, opts...)
	if err != nil {
		c.t.Fatalf("publish: %v", err)
	}
	return r
}

// taker is a Queue or a Subscription.
type taker[T any] interface {
	Take(context.Context, ...polylog.ConsumeOption) (*polylog.Delivery[T], error)
}

// take waits for the next message.
func take[T any](c *fixture, from taker[T], opts ...polylog.ConsumeOption) *polylog.Delivery[T] {
	c.t.Helper()
	d, err := from.Take(c.ctx, opts...)
	if err != nil {
		c.t.Fatalf("take: %v", err)
	}
	return d
}

// nothing wants no message to be ready.
func nothing[T any](c *fixture, from taker[T], opts ...polylog.ConsumeOption) {
	c.t.Helper()
	d, err := from.Take(c.ctx, append(opts, polylog.NoWait())...)
	if err == nil {
		c.t.Errorf("took %v, where there should be nothing", d.Value)
	} else if !errors.Is(err, polylog.ErrNoMessage) {
		c.t.Errorf("take: %v", err)
	}
}

// rest takes all that is ready.
func rest(c *fixture, from taker[string], opts ...polylog.ConsumeOption) (all []string) {
	c.t.Helper()
	for {
		d, err := from.Take(c.ctx, append(opts, polylog.NoWait())...)
		if errors.Is(err, polylog.ErrNoMessage) {
			return all
		}
		if err != nil {
			c.t.Fatalf("take: %v", err)
		}
		all = append(all, d.Value)
	}
}

// takeN takes n messages, waiting for them.
func takeN(c *fixture, from taker[string], n int) (all []string) {
	c.t.Helper()
	for range n {
		all = append(all, take(c, from).Value)
	}
	return all
}

// sub opens a subscription and closes it when the case ends.
func sub[T any](c *fixture) func(*polylog.Subscription[T], error) *polylog.Subscription[T] {
	c.t.Helper()
	return func(s *polylog.Subscription[T], err error) *polylog.Subscription[T] {
		c.t.Helper()
		if err != nil {
			c.t.Fatalf("open a subscription: %v", err)
		}
		return s
	}
}

// done wants no error.
func (c *fixture) done(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// refused wants an error that is want.
func (c *fixture) refused(err, want error) {
	c.t.Helper()
	if errors.Is(err, want) {
		return
	}
	var code *polylog.Error
	if errors.As(want, &code) {
		want = errors.New(string(code.Code))
	}
	c.t.Errorf("error %v, want one that is %v", err, want)
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func wantTexts(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// until waits for a condition that no event tells of.
func (c *fixture) until(what string, condition func() bool) {
	c.t.Helper()
	for !condition() {
		select {
		case <-c.ctx.Done():
			c.t.Fatalf("%s has not come true", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// waits wants done to be still blocked after a moment: a call that must wait for
// something. The moment is short; a call that wrongly returns does so at once.
func (c *fixture) waits(what string, done <-chan struct{}) {
	c.t.Helper()
	select {
	case <-done:
		c.t.Errorf("%s did not wait", what)
	case <-time.After(20 * time.Millisecond):
	}
}

// comes wants a channel to be closed.
func (c *fixture) comes(what string, done <-chan struct{}) {
	c.t.Helper()
	select {
	case <-done:
	case <-c.ctx.Done():
		c.t.Fatalf("%s has not come", what)
	}
}

// background runs f until it returns; its context ends with the case, which waits
// for it.
func (c *fixture) background(f func(ctx context.Context)) (done chan struct{}) {
	ctx, cancel := context.WithCancel(c.ctx)
	done = make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	c.t.Cleanup(func() {
		cancel()
		<-done
	})
	return done
}

// sleepUntil is for what goes by the wall clock in milliseconds.
func sleepUntil(at time.Time) {
	for time.Now().UnixMilli() <= at.UnixMilli() {
		time.Sleep(time.Until(at) + time.Millisecond)
	}
}
