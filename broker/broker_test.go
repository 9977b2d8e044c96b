package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// rig is a data directory and the broker that has it open.
type rig struct {
	t       *testing.T
	fs      *commitlog.MemFS // nil: on the disk
	options Options
	b       *Broker
	holder  destination.Holder

	mu  sync.Mutex
	now time.Time
}

// newRig opens a broker with its logs in memory, and its metadata on disk.
func newRig(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	return newRigOn(t, commitlog.NewMemFS(), change...)
}

func newRigOnDisk(t *testing.T) *rig {
	t.Helper()
	return newRigOn(t, nil)
}

func newRigOn(t *testing.T, fs *commitlog.MemFS, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, fs: fs, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	r.options = Options{
		Dir: t.TempDir(), KeepInterval: time.Hour, Now: r.clock, Version: "test",
		Log: commitlog.Options{JournalFileBytes: 4 << 20}, Logger: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&r.options)
	}
	r.open()
	t.Cleanup(r.close)
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) open() {
	r.t.Helper()
	if r.fs != nil {
		r.options.FS = r.fs
	}
	var err error
	r.b, err = Open(r.options)
	r.must(err)
}

func (r *rig) close() {
	if r.b != nil {
		if err := r.b.Close(); err != nil {
			r.t.Errorf("close: %v", err)
		}
	}
	r.b = nil
}

func (r *rig) reopen() {
	r.t.Helper()
	r.close()
	r.open()
}

// crash cuts the power: of what was not synced, a part is left.
func (r *rig) crash(seed uint64) {
	r.t.Helper()
	r.cut(seed)
	r.open()
}

func (r *rig) cut(seed uint64) {
	after := r.fs.Crash(seed)
	_ = r.b.Close() // its goroutines end; its files are gone
	r.b, r.fs = nil, after
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) is(err, want error) {
	r.t.Helper()
	if !errors.Is(err, want) {
		r.t.Fatalf("error %v, want %v", err, want)
	}
}

func (r *rig) queue(name string) *destination.Destination {
	r.t.Helper()
	d, err := r.b.Destination(ctx, name, destination.KindQueue)
	r.must(err)
	return d
}

// synced waits for an append or a settlement.
type synced chan error

func (s synced) Committed(err error) { s <- err }

func batch(t testing.TB, bodies ...string) record.Batch {
	var w record.Builder
	for _, body := range bodies {
		m := record.Message{Meta: record.Meta{Kind: record.BodyText, Priority: 4}, Body: []byte(body)}
		if err := m.AppendTo(&w); err != nil {
			t.Fatal(err)
		}
	}
	return w.Batch()
}

func put(t testing.TB, d *destination.Destination, bodies ...string) error {
	t.Helper()
	done := make(synced, 1)
	if _, err := d.Partitions[0].Append(batch(t, bodies...), done); err != nil {
		return err
	}
	return <-done
}

func (r *rig) put(name string, bodies ...string) {
	r.t.Helper()
	r.must(put(r.t, r.queue(name), bodies...))
}

// reader consumes from a view.
type reader struct {
	r        *rig
	view     *queue.View
	consumer *queue.Consumer
	holder   destination.Holder
	bodies   chan string
	closed   chan error
	mu       sync.Mutex
	spans    []queue.Span
	header   map[string]string // of the last
}

func (k *reader) Deliver(d queue.Delivery) {
	var read record.Reader
	if err := read.Reset(d.Batch, 1<<20); err != nil {
		panic(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spans = append(k.spans, queue.Span{Partition: d.Partition, Offset: d.Offset, Acquisition: d.FirstAcquisition, Count: int32(d.Records)})
	for read.Next() {
		rec := read.Record()
		if rec.Offset < d.Offset || rec.Offset >= d.Offset+int64(d.Records) {
			continue
		}
		k.header = map[string]string{}
		for name, value := range rec.Headers() {
			k.header[name] = string(value)
		}
		k.bodies <- string(rec.Value)
	}
}
func (*reader) Flush()                                {}
func (k *reader) Drained(*queue.Consumer)             {}
func (k *reader) Closed(_ *queue.Consumer, err error) { k.closed <- err }

func (r *rig) consume(v *queue.View) *reader {
	r.t.Helper()
	r.holder++
	k := &reader{r: r, view: v, holder: r.holder, bodies: make(chan string, 100_000), closed: make(chan error, 1)}
	var err error
	k.consumer, err = v.Consume(queue.ConsumerOptions{Holder: k.holder}, k)
	r.must(err)
	k.consumer.Credit(100_000)
	return k
}

func (r *rig) take(name string) *reader {
	r.t.Helper()
	v, err := r.b.Queue(ctx, r.queue(name))
	r.must(err)
	return r.consume(v)
}

// next returns the next n bodies.
func (k *reader) next(n int) []string {
	k.r.t.Helper()
	var got []string
	for range n {
		select {
		case body := <-k.bodies:
			got = append(got, body)
		case <-time.After(10 * time.Second):
			k.r.t.Fatalf("%d of %d messages have come", len(got), n)
		}
	}
	return got
}

// nothing fails if anything comes soon.
func (k *reader) nothing() {
	k.r.t.Helper()
	select {
	case body := <-k.bodies:
		k.r.t.Fatalf("got %q", body)
	case <-time.After(20 * time.Millisecond):
	}
}

func (k *reader) gets(want ...string) {
	k.r.t.Helper()
	if got := k.next(len(want)); strings.Join(got, "|") != strings.Join(want, "|") {
		k.r.t.Fatalf("got %q, want %q", got, want)
	}
	k.nothing()
}

func (k *reader) settle(kind queue.OutcomeKind) error {
	k.mu.Lock()
	spans := k.spans
	k.spans = nil
	k.mu.Unlock()
	done := make(synced, 1)
	if err := k.view.Settle(k.holder, spans, queue.Outcome{Kind: kind, Reason: "test"}, done); err != nil {
		return err
	}
	return <-done
}

func (k *reader) acknowledge() { k.r.t.Helper(); k.r.must(k.settle(queue.Acknowledge)) }

func (k *reader) close() { k.consumer.Close(false) }

// S1, Q3: what was confirmed is there after a start, what was acknowledged is
// not delivered again; with the logs in memory and on a disk.
func TestReopen(t *testing.T) {
	for name, fs := range map[string]*commitlog.MemFS{"memory": commitlog.NewMemFS(), "disk": nil} {
		t.Run(name, func(t *testing.T) {
			r := newRigOn(t, fs)
			r.put("orders", "one", "two")
			id, cluster, epoch := r.queue("orders").ID, r.b.ClusterID(), r.b.Epoch()
			k := r.take("orders")
			k.gets("one", "two")
			k.acknowledge()
			r.put("orders", "three")
			k.gets("three")
			r.reopen()
			if r.queue("orders").ID != id || r.b.ClusterID() != cluster || cluster == "" {
				t.Error("another destination, or another cluster")
			}
			if r.b.Epoch() <= epoch {
				t.Errorf("epoch %d after %d", r.b.Epoch(), epoch)
			}
			info, err := r.b.DescribeDestination(ctx, "orders")
			r.must(err)
			if info.Queue == nil || info.Queue.Waiting != 1 || info.Partitions[0].End != 3 {
				t.Errorf("before its first use: %+v %+v", info.Queue, info.Partitions)
			}
			k = r.take("orders")
			k.gets("three")
			k.acknowledge()
			k.close()
			if _, err := os.Stat(filepath.Join(r.options.Dir, "metadata.db")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOneBrokerForADirectory(t *testing.T) {
	r := newRigOnDisk(t)
	if b, err := Open(r.options); !errors.Is(err, metadata.ErrLocked) {
		t.Errorf("error %v, want ErrLocked", err)
		if b != nil {
			_ = b.Close()
		}
	}
}

func TestKinds(t *testing.T) {
	r := newRig(t)
	for _, kind := range []destination.Kind{destination.KindQueue, destination.KindTopic, destination.KindLog} {
		_, err := r.b.Destination(ctx, kind.String(), kind)
		r.must(err)
	}
	_, err := r.b.CreateDestination(ctx, "both", destination.KindQueue, map[string]string{"views": "any"})
	r.must(err)
	for _, test := range []struct {
		name string
		as   destination.Kind
		ok   bool
	}{
		{"queue", 0, true},
		{"queue", destination.KindQueue, true},
		{"queue", destination.KindTopic, false},
		{"queue", destination.KindLog, true},
		{"topic", destination.KindQueue, false},
		{"topic", destination.KindTopic, true},
		{"topic", destination.KindLog, true},
		{"log", destination.KindQueue, true},
		{"log", destination.KindTopic, true},
		{"both", destination.KindTopic, true},
	} {
		d, err := r.b.Destination(ctx, test.name, test.as)
		if !test.ok {
			r.is(err, destination.ErrWrongKind)
			if !strings.Contains(err.Error(), "views=any") {
				t.Errorf("%s as %s: the error does not name the setting: %v", test.name, test.as, err)
			}
			d, err = r.b.Destination(ctx, test.name, 0)
		}
		r.must(err)
		switch test.as {
		case destination.KindQueue:
			_, err = r.b.Queue(ctx, d)
		case destination.KindTopic:
			var release func()
			if _, release, err = r.b.Subscribe(ctx, d, topic.Spec{Kind: topic.Temporary}); err == nil {
				release()
			}
		default:
			continue
		}
		if test.ok {
			r.must(err)
		} else {
			r.is(err, destination.ErrWrongKind)
		}
	}
}

func TestNames(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{
		"orders", "a/b", "../../etc/passwd", ".", "..", "päckchen 📦", "x%2F", strings.Repeat("n", MaxNameBytes), "\x00", "CON", "-",
	} {
		r.put(name, "hello "+name)
	}
	r.reopen()
	infos, err := r.b.ListDestinations(ctx, "", false)
	r.must(err)
	if len(infos) != 11 {
		t.Errorf("%d destinations", len(infos))
	}
	for _, i := range infos {
		k := r.take(i.Name)
		k.gets("hello " + i.Name)
	}
	for name, want := range map[string]error{
		"":                                    destination.ErrInvalid,
		"\xff":                                destination.ErrInvalid,
		"__mine":                              destination.ErrInvalid,
		"temp-queue/x":                        destination.ErrInvalid,
		"temp-topic/x":                        destination.ErrInvalid,
		strings.Repeat("n", MaxNameBytes+1):   destination.ErrTooLarge,
		destination.DeliveryStateName + "xyz": destination.ErrInvalid,
		destination.DeliveryStateName:         destination.ErrWrongKind,
	} {
		_, err := r.b.Destination(ctx, name, destination.KindQueue)
		r.is(err, want)
		_, err = r.b.CreateDestination(ctx, name, destination.KindQueue, nil)
		if err == nil {
			t.Errorf("%.20q was created", name)
		}
	}
}

func TestInternalIsNobodysBusiness(t *testing.T) {
	r := newRig(t)
	d, err := r.b.Destination(ctx, destination.DeliveryStateName, 0)
	r.must(err)
	_, err = r.b.Queue(ctx, d)
	r.is(err, destination.ErrWrongKind)
	_, _, err = r.b.Subscribe(ctx, d, topic.Spec{Kind: topic.Temporary})
	r.is(err, destination.ErrWrongKind)
	r.is(r.b.DeleteDestination(ctx, d.Name), destination.ErrInvalid)
	_, err = r.b.AlterDestination(ctx, d.Name, map[string]string{"retention.ms": "1"})
	r.is(err, destination.ErrInvalid)
	for _, op := range []destination.Operation{destination.OperationSend, destination.OperationConsume, destination.OperationBrowse, destination.OperationDelete} {
		r.is(r.b.Authorize(destination.Principal{Name: "anyone"}, op, d.Name), destination.ErrUnauthorized)
		r.must(r.b.Authorize(destination.Principal{Name: "anyone"}, op, "orders"))
	}
	infos, err := r.b.ListDestinations(ctx, "", false)
	r.must(err)
	internal, err := r.b.ListDestinations(ctx, "__", true)
	r.must(err)
	if len(infos) != 0 || len(internal) != 1 {
		t.Errorf("%d and %d listed", len(infos), len(internal))
	}
}

func TestNoAutoCreate(t *testing.T) {
	r := newRig(t, func(o *Options) { o.NoAutoCreate = true })
	_, err := r.b.Destination(ctx, "orders", destination.KindQueue)
	r.is(err, destination.ErrNotFound)
	_, err = r.b.CreateDestination(ctx, "orders", destination.KindQueue, map[string]string{"max.deliveries": "1"})
	r.must(err)
	_, err = r.b.CreateDestination(ctx, "orders", destination.KindQueue, nil)
	r.is(err, destination.ErrExists)
	// Dead letters have a place all the same.
	r.put("orders", "dead")
	k := r.take("orders")
	k.gets("dead")
	r.must(k.settle(queue.Reject))
	d, err := r.b.Destination(ctx, "DLQ.orders", 0)
	r.must(err)
	if d.Settings.DeadLetter != destination.None || d.Partitions[0].End() != 1 {
		t.Errorf("%+v", d)
	}
}

func TestDefaultsApplyAtCreation(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Defaults = map[string]string{"max.deliveries": "2", "partitions": "3"} })
	r.queue("orders")
	r.close()
	r.options.Defaults = nil
	r.open()
	if d := r.queue("orders"); d.Settings.MaxDeliveries != 2 || len(d.Partitions) != 3 || d.Settings.Partitions != 3 {
		t.Errorf("%+v", d.Settings)
	}
	if d := r.queue("later"); d.Settings.MaxDeliveries != 5 || len(d.Partitions) != 1 {
		t.Errorf("%+v", d.Settings)
	}
	r.close()
	r.options.Defaults = map[string]string{"colour": "red"}
	if _, err := Open(r.options); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("error %v", err)
	}
	r.options.Defaults = nil
	r.open()
}

// Many who use a name for the first time at once get the same destination.
func TestConcurrentFirstUse(t *testing.T) {
	r := newRig(t)
	var all sync.WaitGroup
	got := make([]*destination.Destination, 100)
	views := make([]*queue.View, 100)
	for i := range got {
		all.Go(func() {
			d, err := r.b.Destination(ctx, "orders", destination.KindQueue)
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = d
			if views[i], err = r.b.Queue(ctx, d); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range got {
		if got[i] != got[0] || views[i] != views[0] {
			t.Fatal("there are two")
		}
	}
}

func TestBoundOfDestinations(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxDestinations = 3 }) // one is internal
	r.queue("a")
	_, err := r.b.CreateTemporary(ctx, destination.KindQueue)
	r.must(err)
	_, err = r.b.Destination(ctx, "b", destination.KindQueue)
	r.is(err, destination.ErrBusy)
	r.must(r.b.DeleteDestination(ctx, "a"))
	r.queue("b")
}

func TestClientIDs(t *testing.T) {
	r := newRig(t)
	release, err := r.b.ClaimClientID("desk")
	r.must(err)
	_, err = r.b.ClaimClientID("desk")
	r.is(err, destination.ErrConflict)
	release()
	again, err := r.b.ClaimClientID("desk")
	r.must(err)
	release() // a second time: it is not ours any more
	_, err = r.b.ClaimClientID("desk")
	r.is(err, destination.ErrConflict)
	again()
}

func TestDrain(t *testing.T) {
	r := newRig(t)
	d := r.queue("orders")
	r.put("orders", "one")
	k := r.take("orders")
	r.b.Drain()
	_, err := r.b.Destination(ctx, "new", destination.KindQueue)
	r.is(err, destination.ErrShuttingDown)
	_, err = r.b.CreateTemporary(ctx, destination.KindQueue)
	r.is(err, destination.ErrShuttingDown)
	k.gets("one") // what is open goes on
	k.acknowledge()
	r.must(put(t, d, "two"))
	r.must(r.b.Close())
	r.must(r.b.Close())
	select {
	case err := <-k.closed:
		r.is(err, destination.ErrClosed)
	default:
		t.Error("the consumer was not told")
	}
	if err := put(t, d, "three"); err == nil {
		t.Error("a closed broker takes messages")
	}
	r.b = nil
	r.open()
	k = r.take("orders")
	k.gets("two")
}

// Close amid first uses: what was made is whole, and what was not is refused.
func TestCloseAmidWork(t *testing.T) {
	for range 5 {
		r := newRig(t)
		made := make(chan string, 1000)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				name := fmt.Sprint("d", i)
				d, err := r.b.Destination(ctx, name, destination.KindQueue)
				if err == nil {
					made <- name
					_, err = r.b.Queue(ctx, d)
				}
				if err != nil && !errors.Is(err, destination.ErrShuttingDown) {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * time.Millisecond)
		if err := r.b.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
		r.b = nil
		r.open()
		close(made)
		for name := range made {
			if _, err := r.b.Destination(ctx, name, 0); err != nil {
				t.Error(err)
			}
		}
		r.close()
	}
}

// Ten thousand destinations, made by as many at once, and opened again: none
// takes much memory. How long it takes is logged and not judged, because a
// machine may be busy; that they share their syncs is shown in metadata.
func TestTenThousandDestinations(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	r := newRigOnDisk(t)
	const n = 10_000
	start := time.Now()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if _, err := r.b.Destination(ctx, fmt.Sprint("d", i), destination.KindQueue); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	made := time.Since(start)
	before := heap()
	r.close()
	empty := heap()
	start = time.Now()
	r.open()
	opened := time.Since(start)
	each := (int64(heap()) - int64(empty)) / n
	t.Logf("made in %v, opened in %v; %d bytes each, before %d", made, opened, each, (int64(before)-int64(empty))/n)
	if each > 20<<10 {
		t.Errorf("%d bytes for each destination", each)
	}
	if s, err := r.b.Stats(ctx); err != nil || s.Destinations != n || s.Version != "test" {
		t.Errorf("%+v, %v", s, err)
	}
}
