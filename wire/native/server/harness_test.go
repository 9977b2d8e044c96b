package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/topic"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
	"github.com/polylog-mq/polylog/wire/native/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var silent = slog.New(slog.DiscardHandler)

// small is a broker without metadata, on logs in memory: real destinations and
// views, nothing else.
type small struct {
	session.Broker // what is not here is not called

	store   *commitlog.Store
	state   *destination.DeliveryState
	work    *queue.Dispatcher
	numbers atomic.Uint64
	// slow, if set, is waited for by every Destination but those called "fast".
	slow    chan struct{}
	waiting atomic.Int32 // Destinations that wait for slow, or have

	mu           sync.Mutex
	changes      []string // what was asked for that changes something
	destinations map[string]*destination.Destination
	views        map[string]*queue.View
	clientIDs    map[string]bool
}

func newSmall(t testing.TB) *small { return newSmallOn(t, commitlog.NewMemFS()) }

// newSmallOnDisk is for what measures: the file system in memory remembers
// every write.
func newSmallOnDisk(t testing.TB) *small {
	t.Helper()
	fs, err := commitlog.DirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return newSmallOn(t, fs)
}

func newSmallOn(t testing.TB, fs commitlog.FS) *small {
	t.Helper()
	store, err := commitlog.Open(fs, commitlog.Options{Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	log, err := store.OpenLog(commitlog.LogID{Topic: [16]byte{255}}, "__delivery_state-0", commitlog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := destination.OpenDeliveryState(store, log, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b := &small{
		store: store, state: state, work: queue.NewDispatcher(0),
		destinations: map[string]*destination.Destination{}, views: map[string]*queue.View{}, clientIDs: map[string]bool{},
	}
	t.Cleanup(func() {
		for _, v := range b.views {
			v.Close()
		}
		b.work.Close()
		state.Close()
		store.Close()
	})
	return b
}

func (b *small) Hold() { b.store.Hold() }

func (b *small) Release(mayWait bool, answer func()) {
	runs := b.store.Release(mayWait, b.work.Hold)
	answer()
	for range runs {
		b.work.Release()
	}
}

func (b *small) changed(format string, args ...any) {
	b.changes = append(b.changes, fmt.Sprintf(format, args...))
}

// make makes a destination.
func (b *small) make(name string, kind destination.Kind, change func(*destination.Settings)) (*destination.Destination, error) {
	d := &destination.Destination{Name: name, Kind: kind, Settings: destination.DefaultSettings()}
	d.ID[0] = byte(len(b.destinations) + 1)
	if change != nil {
		change(&d.Settings)
	}
	for i := range d.Settings.Partitions {
		log, err := b.store.OpenLog(commitlog.LogID{Topic: d.ID, Partition: int32(i)}, fmt.Sprintf("%s-%d", record.EscapeName(name), i), commitlog.Config{
			Memory: d.Settings.Durability == destination.DurabilityMemory,
		})
		if err != nil {
			return nil, err
		}
		d.Partitions = append(d.Partitions, destination.NewPartition(int32(i), log, 1))
	}
	b.destinations[name] = d
	return d, nil
}

func (b *small) Destination(ctx context.Context, name string, kind destination.Kind) (*destination.Destination, error) {
	if b.slow != nil && name != "fast" {
		b.waiting.Add(1)
		select {
		case <-b.slow:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.destinations[name]; d != nil {
		return d, nil
	}
	if kind == 0 {
		return nil, fmt.Errorf("destination %q %w", name, session.ErrNotFound)
	}
	b.changed("create %s", name)
	return b.make(name, kind, nil)
}

func (b *small) view(d *destination.Destination, subscription string) (*queue.View, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := d.Name + "\x00" + subscription
	if v := b.views[key]; v != nil {
		return v, nil
	}
	v, err := queue.OpenView(d, subscription, queue.Start{}, queue.Deps{
		State: b.state, Dispatcher: b.work, Logger: silent,
		DeadLetter: func(name string) (*destination.Destination, error) {
			return b.Destination(context.Background(), name, destination.KindQueue)
		},
	})
	if err == nil {
		b.views[key] = v
	}
	return v, err
}

func (b *small) Queue(_ context.Context, d *destination.Destination) (*queue.View, error) {
	return b.view(d, "")
}

func (b *small) Subscribe(_ context.Context, d *destination.Destination, s topic.Spec) (*topic.Subscription, func(), error) {
	v, err := b.view(d, "s-"+s.Name)
	return &topic.Subscription{Spec: s, Topic: d, View: v}, func() {}, err
}

func (b *small) Unsubscribe(context.Context, string, string, bool) error { return nil }

func (b *small) CreateTemporary(_ context.Context, kind destination.Kind) (*destination.Destination, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := fmt.Sprintf("temporary-%d", len(b.destinations))
	b.changed("create %s", name)
	d, err := b.make(name, kind, nil)
	if err == nil {
		d.Temporary = true
	}
	return d, err
}

func (b *small) DeleteTemporary(_ context.Context, d *destination.Destination) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed("delete %s", d.Name)
	delete(b.destinations, d.Name)
	return nil
}

func (b *small) DeleteDestination(_ context.Context, name string) error {
	return fmt.Errorf("destination %q %w", name, session.ErrNotFound)
}

func (b *small) ClaimClientID(id string) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.clientIDs[id] {
		return nil, fmt.Errorf("client id %q %w", id, session.ErrConflict)
	}
	b.changed("claim %s", id)
	b.clientIDs[id] = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.clientIDs, id)
	}, nil
}

func (b *small) Authorize(_ session.Principal, _ session.Operation, resource string) error {
	if resource == "forbidden" {
		return fmt.Errorf("%w: %q", session.ErrUnauthorized, resource)
	}
	return nil
}

func (b *small) WatchAccess(func()) func() { return func() {} }
func (b *small) Epoch() int32              { return 1 }
func (b *small) NextNumber() uint64        { return b.numbers.Add(1) }

// changesNow returns what was asked for that changes something.
func (b *small) changesNow() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.changes...)
}

// doors is a server and its listener, within the process.
type doors struct {
	t        testing.TB
	server   *server.Server
	listener *wire.Listener
	guard    *wire.Guard
}

func open(t testing.TB, b session.Broker, o server.Options, l wire.Limits) *doors {
	t.Helper()
	if o.Logger == nil {
		o.Logger = silent
	}
	d := &doors{t: t, server: server.New(b, o), guard: wire.NewGuard(l)}
	var err error
	if d.listener, err = wire.Listen(wire.Config{}, d.guard, d.server, silent); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.listener.Close)
	return d
}

// peer is a client that speaks in raw frames.
type peer struct {
	t       testing.TB
	conn    net.Conn
	encoder *native.Encoder
	decoder *native.Decoder
	reader  *native.Reader
	out     []byte
}

// raw connects and says nothing.
func (d *doors) raw() *peer {
	near, far := wire.Pipe()
	d.listener.ServeConn(far)
	d.t.Cleanup(func() { near.Close() })
	near.SetDeadline(time.Now().Add(20 * time.Second))
	return &peer{
		t: d.t, conn: near, encoder: native.NewEncoder(), decoder: native.NewDecoder(),
		reader: native.NewReader(near, 64<<20),
	}
}

// hello connects and opens session 1.
func (d *doors) hello(change ...func(*native.Hello)) *peer {
	d.t.Helper()
	p := d.raw()
	h := &native.Hello{Version: native.Version, HeartbeatMS: 60_000}
	for _, c := range change {
		c(h)
	}
	p.send(h, nil)
	expect[native.Welcome](p)
	p.ask(&native.OpenSession{Request: 1, Session: 1})
	return p
}

// put queues a frame, flush sends what is queued in one write.
func (p *peer) put(f native.Frame, payload []byte) { p.out = p.encoder.Append(p.out, f, payload) }

func (p *peer) flush() {
	p.t.Helper()
	_, err := p.conn.Write(p.out)
	p.out = p.out[:0]
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Fatal(err)
	}
}

func (p *peer) send(f native.Frame, payload []byte) {
	p.t.Helper()
	p.put(f, payload)
	p.flush()
}

var frameTypes = map[native.Type]reflect.Type{}

func init() {
	for _, f := range []native.Frame{
		&native.Welcome{}, &native.OK{}, &native.Fail{}, &native.Confirm{}, &native.Deliver{}, &native.Drained{},
		&native.ConsumerClosed{}, &native.Joined{}, &native.Check{}, &native.GoAway{}, &native.Ping{}, &native.Pong{},
	} {
		frameTypes[f.Type()] = reflect.TypeOf(f).Elem()
	}
}

// next returns the next frame that is no Ping; nil at the end.
func (p *peer) next() (native.Frame, []byte) {
	p.t.Helper()
	for {
		typ, body, err := p.reader.Next()
		if err != nil {
			if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) {
				p.t.Fatalf("reading: %v", err)
			}
			return nil, nil
		}
		f := reflect.New(frameTypes[typ]).Interface().(native.Frame)
		payload, err := p.decoder.Decode(body, f)
		if err != nil {
			p.t.Fatal(err)
		}
		if typ != native.TypePing {
			return f, append([]byte(nil), payload...)
		}
	}
}

// expect returns the next frame, which must be an F.
func expect[F any, P interface {
	*F
	native.Frame
}](p *peer) (P, []byte) {
	p.t.Helper()
	f, payload := p.next()
	want, ok := f.(P)
	if !ok {
		p.t.Fatalf("expected %s, got %s", P(new(F)).Type(), show(f))
	}
	return want, payload
}

func show(f native.Frame) string {
	if f == nil {
		return "the end"
	}
	return fmt.Sprintf("%s %+v", f.Type(), f)
}

// ask sends a request and returns the body of its OK.
func (p *peer) ask(f native.Frame) []byte {
	p.t.Helper()
	p.send(f, nil)
	ok, _ := expect[native.OK](p)
	return ok.Body
}

// refused sends a request and checks the code of its Fail.
func (p *peer) refused(code native.Code, f native.Frame, payload []byte) {
	p.t.Helper()
	p.send(f, payload)
	if fail, _ := expect[native.Fail](p); fail.Error.Code != code {
		p.t.Errorf("%+v: refused with %s (%s), not with %s", f, fail.Error.Code, fail.Error.Message, code)
	}
}

// ended checks that the connection ends with code.
func (p *peer) ended(code native.Code) {
	p.t.Helper()
	for {
		switch f, _ := p.next(); f := f.(type) {
		case *native.Fail:
			if f.Request != 0 || f.Error.Code != code {
				p.t.Errorf("ended with request %d: %s (%s), not with %s", f.Request, f.Error.Code, f.Error.Message, code)
			}
			if f, _ := p.next(); f != nil {
				p.t.Errorf("after the end came %s", show(f))
			}
			return
		default:
			p.t.Errorf("expected a Fail with %s, got %s", code, show(f))
			return
		}
	}
}

func (p *peer) resolve(name string, kind native.DestinationKind) *native.Resolved {
	p.t.Helper()
	r, err := native.DecodeResolved(p.ask(&native.Resolve{Request: 2, Name: name, Kind: kind}))
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// batch is a record batch with these values.
func batch(values ...string) []byte {
	w := &record.Builder{}
	w.Reset()
	for _, v := range values {
		w.Append(time.Now().UnixMilli(), nil, []byte(v), nil)
	}
	return append([]byte(nil), w.Batch()...)
}

// eventually waits for what no frame tells.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
