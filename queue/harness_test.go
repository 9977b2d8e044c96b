package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a store in memory with destinations and a delivery state, as a broker
// has them.
type rig struct {
	t     testing.TB
	fs    *commitlog.MemFS
	store *commitlog.Store
	state *destination.DeliveryState
	work  *Dispatcher
	deps  Deps

	mu           sync.Mutex
	destinations map[string]*destination.Destination
	find         func(name string) error // fails the search for a destination; may be nil
}

func openRig(t testing.TB, fs *commitlog.MemFS) *rig {
	t.Helper()
	r := &rig{t: t, fs: fs, destinations: map[string]*destination.Destination{}}
	var err error
	r.store, err = commitlog.Open(fs, commitlog.Options{
		JournalFileBytes: 1 << 20, CheckpointInterval: time.Hour, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	log, err := r.store.OpenLog(commitlog.LogID{Topic: [16]byte{255}}, "__delivery_state-0", destination.DeliveryStateConfig)
	must(t, err)
	r.state, err = destination.OpenDeliveryState(r.store, log, time.Now)
	must(t, err)
	r.work = NewDispatcher(2)
	r.deps = Deps{State: r.state, Dispatcher: r.work, DeadLetter: r.deadLetter, Logger: slog.New(slog.DiscardHandler)}
	return r
}

func newRig(t testing.TB) *rig { return openRig(t, commitlog.NewMemFS()) }

// close closes everything; the views were closed before.
func (r *rig) close() {
	r.work.Close()
	r.state.Close()
	r.store.Close()
}

// destination makes or opens a destination. Its settings are changed with
// name, value pairs.
func (r *rig) destination(name string, changes ...string) *destination.Destination {
	r.t.Helper()
	settings := map[string]string{}
	for i := 0; i < len(changes); i += 2 {
		settings[changes[i]] = changes[i+1]
	}
	s, err := destination.SettingsFrom(settings)
	must(r.t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.destinations[name]; d != nil {
		return d
	}
	d := &destination.Destination{Name: name, Kind: destination.KindQueue, Settings: s}
	copy(d.ID[:], name)
	for i := range s.Partitions {
		log, err := r.store.OpenLog(commitlog.LogID{Topic: d.ID, Partition: int32(i)}, fmt.Sprintf("%s-%d", name, i),
			commitlog.Config{MaxBatchBytes: int(s.MaxMessageBytes) + 65536})
		must(r.t, err)
		d.Partitions = append(d.Partitions, destination.NewPartition(int32(i), log, r.store.Epoch()))
	}
	r.destinations[name] = d
	return d
}

func (r *rig) deadLetter(name string) (*destination.Destination, error) {
	if r.find != nil {
		if err := r.find(name); err != nil {
			return nil, err
		}
	}
	return r.destination(name), nil
}

func (r *rig) view(d *destination.Destination) *View {
	r.t.Helper()
	v, err := OpenView(d, "", Start{}, r.deps)
	must(r.t, err)
	return v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waiter waits for one Committed.
type waiter chan error

func newWaiter() waiter              { return make(waiter, 1) }
func (w waiter) Committed(err error) { w <- err }
func (w waiter) wait(t testing.TB)   { t.Helper(); must(t, <-w) }

// message is what a test puts.
type message struct {
	body     string
	key      string
	grouped  bool
	priority int // 0 is 4; -1 is 0
	expires  int64
	due      int64
	client   string
}

func (m *message) appendTo(b *record.Builder, now int64) {
	meta := record.Meta{Priority: uint8(m.priority), Grouped: m.grouped, Expiration: m.expires, DeliveryTime: m.due, ClientID: m.client, Kind: record.BodyText, ID: "ID:" + m.body[:min(len(m.body), 20)]}
	switch m.priority {
	case 0:
		meta.Priority = 4
	case -1:
		meta.Priority = 0
	}
	var key []byte
	if m.key != "" {
		key = []byte(m.key)
	}
	b.Append(now, key, []byte(m.body), []record.Header{{Key: record.JMSHeader, Value: record.AppendMeta(nil, &meta)}, {Key: "colour", Value: []byte("red")}})
}

// put puts messages as one batch and waits until it is on disk.
func put(t testing.TB, v *View, messages ...message) int64 {
	t.Helper()
	return putCoded(t, v, record.None, messages...)
}

func putCoded(t testing.TB, v *View, codec record.Codec, messages ...message) int64 {
	t.Helper()
	var b record.Builder
	for i := range messages {
		messages[i].appendTo(&b, v.deps.Now().UnixMilli())
	}
	batch, err := record.Compress(nil, b.Batch(), codec)
	must(t, err)
	w := newWaiter()
	var key []byte
	if messages[0].key != "" {
		key = []byte(messages[0].key)
	}
	_, base, err := v.Put(key, 0, batch, w)
	must(t, err)
	w.wait(t)
	return base
}

// texts makes messages of bodies.
func texts(bodies ...string) (all []message) {
	for _, b := range bodies {
		all = append(all, message{body: b})
	}
	return all
}

func numbered(from, to int) (all []message) {
	for i := from; i < to; i++ {
		all = append(all, message{body: fmt.Sprint(i)})
	}
	return all
}

func bodies(messages []message) (all []string) {
	for _, m := range messages {
		all = append(all, m.body)
	}
	return all
}

// got is one record that a sink was given.
type got struct {
	body        string
	partition   int32
	offset      int64
	acquisition uint64
	count       int
}

func (g got) span() Span {
	return Span{Partition: g.partition, Offset: g.offset, Acquisition: g.acquisition, Count: 1}
}

// recorder is a sink that remembers.
type recorder struct {
	t       testing.TB
	mu      sync.Mutex
	change  *sync.Cond
	got     []got
	batches int
	drained int
	flushed int
	closed  error
}

func newRecorder(t testing.TB) *recorder {
	s := &recorder{t: t}
	s.change = sync.NewCond(&s.mu)
	return s
}

func (s *recorder) Deliver(d Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.change.Broadcast()
	s.batches++
	if !d.Batch.CRCValid() {
		s.t.Error("delivered batch has a wrong checksum")
	}
	var r record.Reader
	must(s.t, r.Reset(d.Batch, maxDecompressed))
	i := 0
	for ; r.Next(); i++ {
		rec := r.Record()
		if rec.Offset != d.Offset+int64(i) {
			s.t.Errorf("record %d of a delivery from %d has offset %d", i, d.Offset, rec.Offset)
		}
		count := 1
		if d.Counts != nil {
			count = int(d.Counts[i])
		}
		s.got = append(s.got, got{string(rec.Value), d.Partition, rec.Offset, d.FirstAcquisition + uint64(i), count})
	}
	must(s.t, r.Err())
	if i != d.Records {
		s.t.Errorf("delivery of %d records has %d", d.Records, i)
	}
}

func (s *recorder) Flush() {
	s.mu.Lock()
	s.flushed++
	s.mu.Unlock()
}

func (s *recorder) Drained(*Consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drained++
	s.change.Broadcast()
}

func (s *recorder) Closed(_ *Consumer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = err
	s.change.Broadcast()
}

// take waits until n records are there and takes them.
func (s *recorder) take(n int) []got {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.got) < n {
		s.change.Wait()
	}
	taken := slices.Clone(s.got[:n])
	s.got = slices.Delete(s.got, 0, n)
	return taken
}

// closedWith waits until the view has closed the consumer.
func (s *recorder) closedWith() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.closed == nil {
		s.change.Wait()
	}
	return s.closed
}

func (s *recorder) pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func gotBodies(g []got) (all []string) {
	for _, m := range g {
		all = append(all, m.body)
	}
	return all
}

func spans(g ...got) (all []Span) {
	for _, m := range g {
		all = append(all, m.span())
	}
	return all
}

var holders destination.Holder

func consume(t testing.TB, v *View, o ConsumerOptions) (*Consumer, *recorder) {
	t.Helper()
	holders++
	o.Holder = holders
	s := newRecorder(t)
	c, err := v.Consume(o, s)
	must(t, err)
	return c, s
}

// settle settles and waits until that is on disk.
func settle(t testing.TB, c *Consumer, o Outcome, g ...got) {
	t.Helper()
	w := newWaiter()
	must(t, c.v.Settle(c.holder, spans(g...), o, w))
	w.wait(t)
}

func wantBodies(t testing.TB, what string, g []got, want ...string) {
	t.Helper()
	if b := gotBodies(g); !slices.Equal(b, want) {
		t.Fatalf("%s: got %v, want %v", what, b, want)
	}
}

// drain asks for what is ready and waits until it is there.
func drain(t testing.TB, c *Consumer, s *recorder, credit int) []got {
	t.Helper()
	s.mu.Lock()
	before := s.drained
	s.mu.Unlock()
	c.Credit(credit)
	c.Drain()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.drained == before {
		s.change.Wait()
	}
	taken := s.got
	s.got = nil
	return taken
}

var errTest = errors.New("test")

type match func(r *record.Record) bool

func (m match) Match(r *record.Record) bool { return m(r) }
