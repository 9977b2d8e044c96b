package topic

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Store that can fail.
type memory struct {
	mu      sync.Mutex
	records map[string]Record
	fail    error
}

func (m *memory) PutSubscription(r Record, replaces ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, id := range replaces {
		delete(m.records, id)
	}
	m.records[r.ID] = r
	return nil
}

func (m *memory) DeleteSubscription(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	delete(m.records, id)
	return nil
}

func (m *memory) failWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// rig is a registry over a real log.
type rig struct {
	t        *testing.T
	fs       *commitlog.MemFS
	memory   *memory
	store    *commitlog.Store
	state    *destination.DeliveryState
	work     *queue.Dispatcher
	registry *Registry
	topics   map[string]*destination.Destination
	holders  destination.Holder
}

func newRig(t *testing.T, topics ...string) *rig {
	r := &rig{t: t, fs: commitlog.NewMemFS(), memory: &memory{records: map[string]Record{}}}
	r.start(topics)
	t.Cleanup(r.stop)
	return r
}

func (r *rig) start(topics []string) {
	r.t.Helper()
	var err error
	r.store, err = commitlog.Open(r.fs, commitlog.Options{JournalFileBytes: 1 << 20})
	r.must(err)
	log, err := r.store.OpenLog(commitlog.LogID{}, "__delivery_state-0", destination.DeliveryStateConfig)
	r.must(err)
	r.state, err = destination.OpenDeliveryState(r.store, log, time.Now)
	r.must(err)
	r.work = queue.NewDispatcher(0)
	r.topics = map[string]*destination.Destination{}
	r.registry = NewRegistry(Options{
		Store: r.memory, Now: time.Now,
		Deps: queue.Deps{State: r.state, Dispatcher: r.work},
		Current: func(id [16]byte) *destination.Destination {
			for _, d := range r.topics {
				if d.ID == id {
					return d
				}
			}
			return nil
		},
		CompileSelector: func(text string) (queue.Selector, error) {
			if strings.HasPrefix(text, "bad") {
				return nil, fmt.Errorf("%w: at 1", destination.ErrBadSelector)
			}
			return contains(text), nil
		},
	})
	for i, name := range topics {
		id := [16]byte{byte(i + 1)}
		log, err := r.store.OpenLog(commitlog.LogID{Topic: id}, name+"-0", commitlog.Config{})
		r.must(err)
		r.topics[name] = &destination.Destination{
			Name: name, ID: id, Kind: destination.KindTopic, Settings: destination.DefaultSettings(),
			Partitions: []*destination.Partition{destination.NewPartition(0, log, r.store.Epoch())},
		}
	}
	for _, rec := range r.memory.records {
		for _, d := range r.topics {
			if d.ID == rec.Topic {
				r.registry.Restore(d, rec)
			}
		}
	}
}

func (r *rig) stop() {
	if r.store == nil {
		return
	}
	if err := errors.Join(r.registry.Close()); err != nil {
		r.t.Error(err)
	}
	r.work.Close()
	if err := errors.Join(r.state.Close(), r.store.Close()); err != nil {
		r.t.Error(err)
	}
	r.store = nil
}

func (r *rig) restart(topics ...string) {
	r.t.Helper()
	r.stop()
	r.start(topics)
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// contains is a selector that looks for its text in the value.
type contains string

func (c contains) Match(r *record.Record) bool { return strings.Contains(string(r.Value), string(c)) }

func (r *rig) publish(topic string, bodies ...string) {
	r.t.Helper()
	var w record.Builder
	for _, body := range bodies {
		m := record.Message{Meta: record.Meta{Kind: record.BodyText, Priority: 4}, Body: []byte(body)}
		r.must(m.AppendTo(&w))
	}
	done := make(waiter, 1)
	_, err := r.topics[topic].Partitions[0].Append(w.Batch(), done)
	r.must(err)
	r.must(<-done)
}

// reader consumes from a subscription.
type reader struct {
	rig      *rig
	sub      *Subscription
	release  func()
	consumer *queue.Consumer
	holder   destination.Holder
	bodies   chan string
	mu       sync.Mutex
	spans    []queue.Span
	closed   chan error
}

func (r *reader) Deliver(d queue.Delivery) {
	var read record.Reader
	if err := read.Reset(d.Batch, 1<<20); err != nil {
		panic(err)
	}
	r.mu.Lock()
	r.spans = append(r.spans, queue.Span{Partition: d.Partition, Offset: d.Offset, Acquisition: d.FirstAcquisition, Count: int32(d.Records)})
	r.mu.Unlock()
	for read.Next() {
		rec := read.Record()
		if rec.Offset >= d.Offset && rec.Offset < d.Offset+int64(d.Records) {
			r.bodies <- string(rec.Value)
		}
	}
}
func (*reader) Flush()                                {}
func (r *reader) Drained(*queue.Consumer)             {}
func (r *reader) Closed(_ *queue.Consumer, err error) { r.closed <- err }

func (r *rig) open(topic string, s Spec) (*reader, error) {
	r.t.Helper()
	sub, release, err := r.registry.Open(context.Background(), r.topics[topic], s)
	if err != nil {
		return nil, err
	}
	r.holders++
	c := &reader{rig: r, sub: sub, release: release, holder: r.holders, bodies: make(chan string, 1000), closed: make(chan error, 1)}
	c.consumer, err = sub.View.Consume(queue.ConsumerOptions{Holder: c.holder, Exclusive: s.Kind == Exclusive}, c)
	r.must(err)
	c.consumer.Credit(1000)
	return c, nil
}

func (r *rig) mustOpen(topic string, s Spec) *reader {
	r.t.Helper()
	c, err := r.open(topic, s)
	r.must(err)
	return c
}

// gets fails unless the next bodies are these, and no other is there.
func (c *reader) gets(bodies ...string) {
	c.rig.t.Helper()
	for _, want := range bodies {
		select {
		case got := <-c.bodies:
			if got != want {
				c.rig.t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(5 * time.Second):
			c.rig.t.Fatalf("%q has not come", want)
		}
	}
	select {
	case got := <-c.bodies:
		c.rig.t.Fatalf("got %q too", got)
	case <-time.After(20 * time.Millisecond):
	}
}

func (c *reader) acknowledge() {
	c.rig.t.Helper()
	c.mu.Lock()
	spans := c.spans
	c.spans = nil
	c.mu.Unlock()
	done := make(waiter, 1)
	c.rig.must(c.sub.View.Settle(c.holder, spans, queue.Outcome{Kind: queue.Acknowledge}, done))
	c.rig.must(<-done)
}

// detach is what closing a consumer does while its session goes on.
func (c *reader) detach() {
	c.consumer.Detach()
	c.release()
}

func (c *reader) close() {
	c.consumer.Close(false)
	c.release()
}

// rules is the table of Jakarta Messaging 3.1 §8.3: what is there, in which
// state, and what becomes of the next that is opened.
func TestRules(t *testing.T) {
	desk := Spec{Kind: Durable, ClientID: "desk", Name: "s"}
	shared := Spec{Kind: SharedDurable, Name: "s"}
	sharedOfDesk := Spec{Kind: SharedDurable, ClientID: "desk", Name: "s"}
	floating := Spec{Kind: Shared, Name: "s"}
	exclusive := Spec{Kind: Exclusive, Name: "s"}
	with := func(s Spec, change func(*Spec)) Spec { change(&s); return s }
	selecting := func(s *Spec) { s.Selector = "x" }
	noLocal := func(s *Spec) { s.NoLocal = true }
	const (
		same     = "the same"  // goes on where the first stood
		anew     = "anew"      // another one, from now on
		another  = "another"   // beside the first
		conflict = "in use"    // ErrConflict
		active   = "active"    // the first has a consumer
		idle     = "idle"      // it has none
		taken    = "unsettled" // it has none, but unacknowledged messages
	)
	for _, test := range []struct {
		clause string
		first  Spec
		state  string
		topic  string // of the second
		second Spec
		want   string
	}{
		{"§8.3.3 reopened", desk, idle, "a", desk, same},
		{"§8.3.3 one active consumer", desk, active, "a", desk, conflict},
		{"§8.3.3 another topic", desk, idle, "b", desk, anew},
		{"§8.3.3 another selector", desk, idle, "a", with(desk, selecting), anew},
		{"§8.3.3 selector gone", with(desk, selecting), idle, "a", desk, anew},
		{"§8.3.3 another noLocal", desk, idle, "a", with(desk, noLocal), anew},
		{"§8.3.3 another topic, active", desk, active, "b", desk, conflict},
		{"§8.3.3 another selector, active", desk, active, "a", with(desk, selecting), conflict},
		{"§8.3.3 another client id", desk, active, "a", with(desk, func(s *Spec) { s.ClientID = "till" }), another},
		{"§8.3.6 replaced with unacknowledged messages", desk, taken, "b", desk, conflict},
		{"§8.3.3 reopened with unacknowledged messages", desk, taken, "a", desk, same},
		{"§8.3.4 shared by two", shared, active, "a", shared, same},
		{"§8.3.4 reopened", shared, idle, "a", shared, same},
		{"§8.3.4 another topic, active", shared, active, "b", shared, conflict},
		{"§8.3.4 another selector, active", shared, active, "a", with(shared, selecting), conflict},
		{"§8.3.4 another topic, idle", shared, idle, "b", shared, anew},
		{"§8.3.4 another selector, idle", shared, idle, "a", with(shared, selecting), anew},
		{"§8.3.4 with and without client id", shared, active, "b", sharedOfDesk, another},
		{"§8.3.4 unshared of that name", sharedOfDesk, idle, "a", desk, conflict},
		{"§8.3.4 shared of that name", desk, idle, "a", sharedOfDesk, conflict},
		{"§8.3.4 unshared of that name, on another topic", sharedOfDesk, idle, "b", desk, conflict},
		{"§8.3.2 shared by two", floating, active, "a", floating, same},
		{"§8.3.2 another topic, active", floating, active, "b", floating, conflict},
		{"§8.3.2 another selector, active", floating, active, "a", with(floating, selecting), conflict},
		{"§8.3.2 gone with the last", floating, idle, "a", floating, anew},
		{"§8.3.2 gone with the last, unacknowledged", floating, taken, "b", floating, anew},
		{"§8.3.2 a space of names of its own", shared, active, "b", floating, another},
		{"§8.3.2 a space of names of its own, too", floating, active, "b", shared, another},
		{"exclusive: others stand by", exclusive, active, "a", exclusive, same},
		{"exclusive: not as shared", exclusive, idle, "a", shared, conflict},
		{"exclusive: another topic, active", exclusive, active, "b", exclusive, conflict},
		{"§8.3.1 temporary", Spec{Kind: Temporary}, active, "a", Spec{Kind: Temporary}, another},
	} {
		t.Run(test.clause, func(t *testing.T) {
			r := newRig(t, "a", "b")
			first := r.mustOpen("a", test.first)
			if test.state == active {
				// The backlog stays with the view, so that it tells the two apart.
				first.consumer.Pause(true)
			}
			if test.state == idle {
				first.close()
			}
			r.publish("a", "x before")
			if test.state == taken {
				first.gets("x before")
				first.detach()
			}
			second, err := r.open(test.topic, test.second)
			if test.want == conflict {
				if !errors.Is(err, destination.ErrConflict) {
					t.Fatalf("error %v, want ErrConflict", err)
				}
				first.consumer.Close(false)
				return
			}
			r.must(err)
			if got := second.sub.View == first.sub.View; got != (test.want == same) {
				t.Fatalf("the same view: %t", got)
			}
			r.publish(test.topic, "x after")
			switch {
			case test.want == same && test.state == idle:
				second.gets("x before", "x after")
			case test.want == same && test.state == active && test.first.Kind == Exclusive:
				second.gets() // it stands by
			case test.want == same && test.state == active:
				second.gets("x before", "x after")
			case test.want == same:
				second.gets("x after") // the other is held
				first.consumer.Close(false)
				second.gets("x before")
			default:
				second.gets("x after")
			}
		})
	}
}

func TestUnsubscribe(t *testing.T) {
	ctx := context.Background()
	desk := Spec{Kind: Durable, ClientID: "desk", Name: "s"}
	r := newRig(t, "a")
	unsubscribe := func(want error) {
		t.Helper()
		if err := r.registry.Unsubscribe(ctx, "desk", "s", false); !errors.Is(err, want) {
			t.Fatalf("error %v, want %v", err, want)
		}
	}
	unsubscribe(destination.ErrNotFound)
	c := r.mustOpen("a", desk)
	unsubscribe(destination.ErrConflict) // §8.3.6: active consumer
	r.publish("a", "one")
	c.gets("one")
	c.detach()
	unsubscribe(destination.ErrConflict) // §8.3.6: unacknowledged
	c.acknowledge()
	if err := r.registry.Unsubscribe(ctx, "desk", "s", true); !errors.Is(err, destination.ErrNotFound) {
		t.Fatalf("an unshared one deleted as shared: %v", err)
	}
	unsubscribe(nil)
	unsubscribe(destination.ErrNotFound)
	if len(r.memory.records) != 0 {
		t.Errorf("remembered: %v", r.memory.records)
	}
	for id := range r.state.Cursors() {
		t.Errorf("cursor %s is left", id)
	}
	if n, _ := r.registry.Count(r.topics["a"].ID); n != 0 {
		t.Errorf("%d subscriptions left", n)
	}
}

// S1, Q3: a durable subscription goes on where it stood.
func TestDurableSurvivesRestart(t *testing.T) {
	r := newRig(t, "a")
	desk := Spec{Kind: Durable, ClientID: "desk", Name: "s", Selector: "x"}
	idle := Spec{Kind: SharedDurable, Name: "never used again"}
	r.publish("a", "x too early")
	c := r.mustOpen("a", desk)
	r.mustOpen("a", idle).close()
	r.publish("a", "x one", "not for it", "x two")
	c.gets("x one", "x two")
	c.acknowledge()
	r.publish("a", "x three")
	c.gets("x three") // and it is not acknowledged
	c.close()
	r.publish("a", "x four")

	r.restart("a")
	if floor, ok := r.registry.Floor(r.topics["a"].ID, 0); !ok || floor != 1 {
		t.Errorf("floor %d, %t: nobody has used the shared one, which begins at 1", floor, ok)
	}
	c = r.mustOpen("a", desk)
	c.gets("x three", "x four")
	c.acknowledge()
	r.must(r.registry.Unsubscribe(context.Background(), "", idle.Name, true))
	if floor, ok := r.registry.Floor(r.topics["a"].ID, 0); !ok || floor != 6 {
		t.Errorf("floor %d, %t", floor, ok)
	}
	infos, err := r.registry.List(context.Background(), Query{Topic: "a"})
	r.must(err)
	if len(infos) != 1 || infos[0].Kind != Durable || infos[0].ClientID != "desk" || infos[0].Selector != "x" {
		t.Errorf("%+v", infos)
	}
}

// What a subscription holds until it is used again is what it had not done.
func TestFloorAfterRestart(t *testing.T) {
	r := newRig(t, "a")
	desk := Spec{Kind: Durable, ClientID: "desk", Name: "s"}
	c := r.mustOpen("a", desk)
	r.publish("a", "one", "two", "three")
	c.gets("one", "two", "three")
	c.acknowledge()
	r.restart("a")
	if floor, ok := r.registry.Floor(r.topics["a"].ID, 0); !ok || floor != 3 {
		t.Errorf("floor %d, %t", floor, ok)
	}
}

// §8.3.3: noLocal is by client id, whichever connection has sent it.
func TestNoLocal(t *testing.T) {
	r := newRig(t, "a")
	c := r.mustOpen("a", Spec{Kind: Durable, ClientID: "desk", Name: "s", NoLocal: true})
	for _, client := range []string{"desk", "till", ""} {
		var w record.Builder
		m := record.Message{Meta: record.Meta{Kind: record.BodyText, Priority: 4, ClientID: client}, Body: []byte("from " + client)}
		r.must(m.AppendTo(&w))
		_, err := r.topics["a"].Partitions[0].Append(w.Batch(), nil)
		r.must(err)
	}
	c.gets("from till", "from ")
}

// A crash between the metadata and the first change of the cursor: the
// subscription begins where the metadata say.
func TestCreatedButNeverRead(t *testing.T) {
	r := newRig(t, "a")
	desk := Spec{Kind: Durable, ClientID: "desk", Name: "s"}
	r.publish("a", "before")
	c := r.mustOpen("a", desk)
	c.consumer.Pause(true)
	r.publish("a", "after")
	r.fs = r.fs.Crash(1)
	old := *r
	r.store = nil
	r.start([]string{"a"})
	_ = old.registry.Close()
	old.work.Close()
	_ = old.state.Close()
	_ = old.store.Close()
	c = r.mustOpen("a", desk)
	c.gets("after")
}

func TestNonDurableVanishes(t *testing.T) {
	for _, s := range []Spec{{Kind: Temporary}, {Kind: Shared, Name: "s"}} {
		r := newRig(t, "a")
		c := r.mustOpen("a", s)
		if n, consumers := r.registry.Count(r.topics["a"].ID); n != 1 || consumers != 1 {
			t.Errorf("%s: %d subscriptions, %d consumers", s.Kind, n, consumers)
		}
		r.publish("a", "one")
		c.gets("one")
		c.detach()
		if n, _ := r.registry.Count(r.topics["a"].ID); n != 0 {
			t.Errorf("%s: still there", s.Kind)
		}
		// Its session can still acknowledge what it took (§8.8).
		c.acknowledge()
		r.registry.Sweep()
		if len(r.registry.lingering) != 0 {
			t.Errorf("%s: its view lingers", s.Kind)
		}
		for id := range r.state.Cursors() {
			t.Errorf("%s: cursor %s is left", s.Kind, id)
		}
		if len(r.memory.records) != 0 {
			t.Errorf("%s: remembered", s.Kind)
		}
	}
}

func TestNothingIsLeftWhenMetadataFail(t *testing.T) {
	r := newRig(t, "a", "b")
	full := errors.New("disk full")
	desk := Spec{Kind: Durable, ClientID: "desk", Name: "s"}
	r.memory.failWith(full)
	if _, err := r.open("a", desk); !errors.Is(err, full) {
		t.Fatalf("error %v", err)
	}
	if n, _ := r.registry.Count(r.topics["a"].ID); n != 0 {
		t.Error("it is there all the same")
	}
	r.memory.failWith(nil)
	r.mustOpen("a", desk).close()
	r.publish("a", "kept")
	r.memory.failWith(full)
	if _, err := r.open("b", desk); !errors.Is(err, full) {
		t.Fatalf("error %v", err)
	}
	if err := r.registry.Unsubscribe(context.Background(), "desk", "s", false); !errors.Is(err, full) {
		t.Fatalf("error %v", err)
	}
	r.memory.failWith(nil)
	r.mustOpen("a", desk).gets("kept") // the old one is what it was
}

func TestRefusedSpecs(t *testing.T) {
	r := newRig(t, "a")
	long := strings.Repeat("n", MaxNameBytes+1)
	for _, test := range []struct {
		spec Spec
		want error
	}{
		{Spec{}, destination.ErrInvalid},
		{Spec{Kind: ShareGroup + 1, Name: "s"}, destination.ErrInvalid},
		{Spec{Kind: Durable, Name: "s"}, destination.ErrInvalid},
		{Spec{Kind: Durable, ClientID: "c"}, destination.ErrInvalid},
		{Spec{Kind: Shared}, destination.ErrInvalid},
		{Spec{Kind: Shared, Name: "\xff"}, destination.ErrInvalid},
		{Spec{Kind: Shared, Name: long}, destination.ErrTooLarge},
		{Spec{Kind: Shared, Name: "s", ClientID: long}, destination.ErrTooLarge},
		{Spec{Kind: Shared, Name: "s", Selector: strings.Repeat("x", MaxSelectorBytes+1)}, destination.ErrTooLarge},
		{Spec{Kind: Durable, ClientID: "c", Name: "s", Selector: "bad"}, destination.ErrBadSelector},
		{Spec{Kind: Shared, Name: "s", Start: queue.Start{Kind: 77}}, destination.ErrInvalid},
	} {
		if _, err := r.open("a", test.spec); !errors.Is(err, test.want) {
			t.Errorf("%+v: error %v, want %v", test.spec, err, test.want)
		}
	}
	if n, _ := r.registry.Count(r.topics["a"].ID); n != 0 || len(r.memory.records) != 0 {
		t.Error("something of it is left")
	}
}

func TestStart(t *testing.T) {
	r := newRig(t, "a")
	r.publish("a", "one")
	r.publish("a", "two")
	for name, test := range map[string]struct {
		start queue.Start
		want  []string
	}{
		"default":   {queue.Start{}, nil},
		"beginning": {queue.Start{Kind: queue.StartBeginning}, []string{"one", "two"}},
		"offset":    {queue.Start{Kind: queue.StartOffset, At: 1}, []string{"two"}},
		"last":      {queue.Start{Kind: queue.StartLast, At: 1}, []string{"two"}},
		"last few":  {queue.Start{Kind: queue.StartLast, At: 5}, []string{"one", "two"}},
		"last none": {queue.Start{Kind: queue.StartLast}, nil},
	} {
		c := r.mustOpen("a", Spec{Kind: Durable, ClientID: "c", Name: name, Start: test.start})
		c.gets(test.want...)
		c.close()
	}
}

func TestSeek(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, "a")
	desk := Spec{Kind: Durable, ClientID: "desk", Name: "s"}
	q := Query{ClientID: "desk", Name: "s"}
	if _, err := r.registry.Seek(ctx, q, queue.Start{}); !errors.Is(err, destination.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	c := r.mustOpen("a", desk)
	r.publish("a", "one", "two")
	c.gets("one", "two")
	c.acknowledge()
	if _, err := r.registry.Seek(ctx, q, queue.Start{}); !errors.Is(err, destination.ErrConflict) {
		t.Errorf("with a consumer: %v", err)
	}
	c.close()
	r.restart("a")
	info, err := r.registry.Seek(ctx, q, queue.Start{Kind: queue.StartOffset, At: 1})
	r.must(err)
	if info.View.Waiting != 1 {
		t.Errorf("%+v", info)
	}
	r.mustOpen("a", desk).gets("two")
}

func TestDeleteTopic(t *testing.T) {
	r := newRig(t, "a", "b")
	desk := Spec{Kind: Durable, ClientID: "desk", Name: "s"}
	c := r.mustOpen("a", desk)
	d := r.topics["a"]
	forget := func(ids []string) error {
		if len(ids) != 1 {
			t.Errorf("ids %v", ids)
		}
		delete(r.topics, "a")
		return nil
	}
	if err := r.registry.DeleteTopic(d, false, forget); !errors.Is(err, destination.ErrConflict) {
		t.Fatalf("error %v", err)
	}
	refuse := errors.New("no")
	c.close()
	if err := r.registry.DeleteTopic(d, false, func([]string) error { return refuse }); !errors.Is(err, refuse) {
		t.Fatalf("error %v", err)
	}
	c = r.mustOpen("a", desk) // it is still there
	r.must(r.registry.DeleteTopic(d, true, forget))
	select {
	case err := <-c.closed:
		if !errors.Is(err, destination.ErrClosed) {
			t.Errorf("closed with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the consumer was not told")
	}
	c.release()
	if _, _, err := r.registry.Open(context.Background(), d, desk); !errors.Is(err, destination.ErrNotFound) {
		t.Errorf("on a topic that is gone: %v", err)
	}
	r.mustOpen("b", desk).close() // the name is free
}

// Many who open, close and delete the same names at once: no subscription is
// there twice, and nothing is left in the end.
func TestConcurrentUse(t *testing.T) {
	r := newRig(t, "a", "b")
	var all sync.WaitGroup
	var mu sync.Mutex
	active := map[string]int{}
	for g := range 8 {
		all.Go(func() {
			for i := range 60 {
				name := fmt.Sprint("s", (g+i)%3)
				s := Spec{Kind: Durable, ClientID: "c", Name: name}
				sub, release, err := r.registry.Open(context.Background(), r.topics[string(rune('a'+i%2))], s)
				if err != nil {
					if !errors.Is(err, destination.ErrConflict) {
						t.Error(err)
					}
					continue
				}
				mu.Lock()
				if active[name]++; active[name] > 1 {
					t.Errorf("%s has two consumers", name)
				}
				mu.Unlock()
				if sub.View == nil {
					t.Error("no view")
				}
				mu.Lock()
				active[name]--
				mu.Unlock()
				release()
				if err := r.registry.Unsubscribe(context.Background(), "c", name, false); err != nil &&
					!errors.Is(err, destination.ErrConflict) && !errors.Is(err, destination.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for i := range 3 {
		err := r.registry.Unsubscribe(context.Background(), "c", fmt.Sprint("s", i), false)
		if err != nil && !errors.Is(err, destination.ErrNotFound) {
			t.Error(err)
		}
	}
	if len(r.registry.named) != 0 || len(r.registry.topics) != 0 || len(r.registry.turns) != 0 || len(r.memory.records) != 0 {
		t.Errorf("left: %d named, %d topics, %d turns, %d records",
			len(r.registry.named), len(r.registry.topics), len(r.registry.turns), len(r.memory.records))
	}
}

func TestWaitingForATurnEndsWithTheContext(t *testing.T) {
	r := newRig(t, "a")
	n := Spec{Kind: Durable, ClientID: "c", Name: "s"}.name()
	done, err := r.registry.take(context.Background(), n)
	r.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.registry.take(ctx, n); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	done()
	if len(r.registry.turns) != 0 {
		t.Error("a turn is left")
	}
}
