package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

func (r *rig) directories() (names []string) {
	r.t.Helper()
	entries, err := r.fs.ReadDir(".")
	r.must(err)
	for _, e := range entries {
		if e.Dir {
			names = append(names, e.Name)
		}
	}
	return names
}

// Temporary destinations are in memory, and neither a stop nor a crash leaves
// anything of them.
func TestTemporary(t *testing.T) {
	for name, again := range map[string]func(*rig){"stop": (*rig).reopen, "crash": func(r *rig) { r.crash(7) }} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			d, err := r.b.CreateTemporary(ctx, destination.KindQueue)
			r.must(err)
			if !d.Temporary || !strings.HasPrefix(d.Name, "temp-queue/") || d.Settings.Durability != destination.DurabilityMemory {
				t.Errorf("%+v", d)
			}
			r.must(put(t, d, "reply"))
			v, err := r.b.Queue(ctx, d)
			r.must(err)
			k := r.consume(v)
			k.gets("reply")
			k.acknowledge()
			found, err := r.b.Destination(ctx, d.Name, destination.KindQueue)
			r.must(err)
			if found != d {
				t.Error("another destination")
			}
			topicOf, err := r.b.CreateTemporary(ctx, destination.KindTopic)
			r.must(err)
			_, release, err := r.b.Subscribe(ctx, topicOf, topic.Spec{Kind: topic.Temporary})
			r.must(err)
			release()
			_, err = r.b.CreateTemporary(ctx, destination.KindLog)
			r.is(err, destination.ErrInvalid)

			again(r)
			for _, name := range []string{d.Name, topicOf.Name} {
				_, err = r.b.Destination(ctx, name, 0)
				r.is(err, destination.ErrNotFound)
			}
			for _, dir := range r.directories() {
				if isTemporaryDirectory(dir) {
					t.Errorf("%s is left", dir)
				}
			}
			for _, l := range r.b.store.Logs() {
				if isTemporaryDirectory(l.Dir) {
					t.Errorf("log %s is left", l.Dir)
				}
			}
			for id := range r.b.state.Cursors() {
				t.Errorf("cursor %s is left", id)
			}
		})
	}
}

func TestDeleteTemporary(t *testing.T) {
	r := newRig(t)
	d, err := r.b.CreateTemporary(ctx, destination.KindQueue)
	r.must(err)
	r.must(put(t, d, "one"))
	v, err := r.b.Queue(ctx, d)
	r.must(err)
	k := r.consume(v)
	k.gets("one")
	r.must(r.b.DeleteTemporary(ctx, d))
	r.is(<-k.closed, destination.ErrClosed)
	r.is(r.b.DeleteTemporary(ctx, d), destination.ErrNotFound)
	if err := put(t, d, "two"); !errors.Is(err, commitlog.ErrDeleted) {
		t.Errorf("put: %v", err)
	}
	_, err = r.b.Queue(ctx, d)
	r.is(err, destination.ErrNotFound)
	_, _, err = r.b.Subscribe(ctx, &destination.Destination{Name: "t", ID: d.ID, Kind: destination.KindTopic}, topic.Spec{Kind: topic.Temporary})
	r.is(err, destination.ErrNotFound)
	r.is(r.b.DeleteTemporary(ctx, r.queue("orders")), destination.ErrInvalid)
	for id := range r.b.state.Cursors() {
		t.Errorf("cursor %s is left", id)
	}
}

func TestDelete(t *testing.T) {
	r := newRig(t)
	r.is(r.b.DeleteDestination(ctx, "orders"), destination.ErrNotFound)
	r.put("orders", "one", "two")
	k := r.take("orders")
	k.gets("one", "two")
	r.is(r.b.DeleteDestination(ctx, "orders"), destination.ErrConflict)
	k.close()
	old := r.queue("orders")
	r.must(r.b.DeleteDestination(ctx, "orders"))
	r.is(r.b.DeleteDestination(ctx, "orders"), destination.ErrNotFound)
	r.put("orders", "three") // another of that name
	if r.queue("orders").ID == old.ID {
		t.Error("the same id")
	}
	r.take("orders").gets("three")
	r.reopen()
	r.take("orders").gets("three")

	// A topic goes with its subscriptions.
	news, err := r.b.Destination(ctx, "news", destination.KindTopic)
	r.must(err)
	desk := topic.Spec{Kind: topic.Durable, ClientID: "desk", Name: "s"}
	_, release, err := r.b.Subscribe(ctx, news, desk)
	r.must(err)
	r.is(r.b.DeleteDestination(ctx, "news"), destination.ErrConflict)
	release()
	r.must(r.b.DeleteDestination(ctx, "news"))
	r.is(r.b.Unsubscribe(ctx, "desk", "s", false), destination.ErrNotFound)
	_, _, err = r.b.Subscribe(ctx, news, desk)
	r.is(err, destination.ErrNotFound)
	c, err := r.b.metadata.Load()
	r.must(err)
	if len(c.Deletions) != 0 || len(c.Subscriptions) != 0 {
		t.Errorf("metadata: %+v", c)
	}
}

// A power cut at any write of a deletion: afterwards the destination is there
// with all its messages, or it is gone with its cursors and its files, and its
// name can be used again.
func TestCrashInDeletion(t *testing.T) {
	for cut := 1; ; cut++ {
		r := newRig(t)
		r.put("orders", "one", "two")
		k := r.take("orders")
		k.gets("one", "two")
		k.acknowledge()
		k.close()
		r.put("orders", "three")
		old := r.queue("orders").ID
		n := 0
		r.fs.Inject(func(commitlog.Op, string) error {
			if n++; n >= cut {
				return errors.New("power cut")
			}
			return nil
		})
		err := r.b.DeleteDestination(ctx, "orders")
		r.cut(uint64(cut))
		r.open()
		d, found := r.b.Destination(ctx, "orders", 0)
		switch {
		case found == nil && d.ID == old:
			if err == nil {
				t.Fatalf("cut %d: deleted, and there again", cut)
			}
			r.take("orders").gets("three")
		case !errors.Is(found, destination.ErrNotFound):
			t.Fatalf("cut %d: %v", cut, found)
		default:
			c, err := r.b.metadata.Load()
			r.must(err)
			if len(c.Deletions) != 0 {
				t.Fatalf("cut %d: deletion not finished: %+v", cut, c.Deletions)
			}
			for id := range r.b.state.Cursors() {
				t.Fatalf("cut %d: cursor %s is left", cut, id)
			}
			r.put("orders", "anew")
			r.take("orders").gets("anew")
		}
		r.close()
		if err == nil {
			if cut < 3 {
				t.Fatalf("a deletion of %d writes: the cuts are not where they should be", cut)
			}
			return
		}
	}
}

// A crash when a destination is remembered and has no log yet.
func TestCrashInCreation(t *testing.T) {
	r := newRig(t)
	d := r.queue("orders")
	r.crash(3)
	if r.queue("orders").ID != d.ID {
		t.Error("another one")
	}
	r.put("orders", "one")
	r.take("orders").gets("one")
}

// A memory destination loses its messages with the power, and what it is given
// afterwards is not taken for what was settled before.
func TestMemoryResumesPastWhatWasSettled(t *testing.T) {
	for seed := range uint64(8) {
		r := newRig(t)
		_, err := r.b.CreateDestination(ctx, "ticks", destination.KindQueue, map[string]string{"durability": "memory"})
		r.must(err)
		for i := range 10 {
			r.put("ticks", fmt.Sprint("old", i))
		}
		k := r.take("ticks")
		k.next(10)
		k.acknowledge()
		epoch := r.b.Epoch()
		r.crash(seed)
		if r.b.Epoch() <= epoch {
			t.Errorf("epoch %d after %d", r.b.Epoch(), epoch)
		}
		r.put("ticks", "new1", "new2")
		k = r.take("ticks")
		k.gets("new1", "new2")
		if end := r.queue("ticks").Partitions[0].End(); end < 12 {
			t.Errorf("end %d", end)
		}
		r.close()
	}
}

// The same for a durable subscription that has seen nothing yet: it begins
// where the topic was, which the log has forgotten.
func TestMemoryTopicResumesPastStarts(t *testing.T) {
	r := newRig(t)
	_, err := r.b.CreateDestination(ctx, "ticks", destination.KindTopic, map[string]string{"durability": "memory"})
	r.must(err)
	ticks, err := r.b.Destination(ctx, "ticks", 0)
	r.must(err)
	r.must(put(t, ticks, "a", "b", "c"))
	desk := topic.Spec{Kind: topic.Durable, ClientID: "desk", Name: "s"}
	_, release, err := r.b.Subscribe(ctx, ticks, desk)
	r.must(err)
	release()
	r.crash(1)
	ticks, err = r.b.Destination(ctx, "ticks", 0)
	r.must(err)
	sub, release, err := r.b.Subscribe(ctx, ticks, desk)
	r.must(err)
	defer release()
	k := r.consume(sub.View)
	r.must(put(t, ticks, "d"))
	k.gets("d")
	k.acknowledge()
}

// Subscriptions after a restart: the durable ones stand where they stood, the
// others are gone with their cursors.
func TestSubscriptionsOverRestarts(t *testing.T) {
	r := newRig(t)
	news, err := r.b.Destination(ctx, "news", destination.KindTopic)
	r.must(err)
	specs := map[string]topic.Spec{
		"durable":   {Kind: topic.Durable, ClientID: "desk", Name: "d"},
		"shared":    {Kind: topic.Shared, Name: "s"},
		"temporary": {Kind: topic.Temporary},
	}
	for _, s := range specs {
		sub, _, err := r.b.Subscribe(ctx, news, s)
		r.must(err)
		k := r.consume(sub.View)
		defer k.close()
	}
	r.must(put(t, news, "one"))
	r.crash(5)
	infos, err := r.b.ListSubscriptions(ctx, topic.Query{Topic: "news"})
	r.must(err)
	if len(infos) != 1 || infos[0].Kind != topic.Durable || infos[0].View.Waiting != 1 {
		t.Errorf("%+v", infos)
	}
	for id := range r.b.state.Cursors() {
		if !r.b.topics.Owns(id.Topic, id.Subscription) {
			t.Errorf("cursor %s is nobody's", id)
		}
	}
	news, err = r.b.Destination(ctx, "news", 0)
	r.must(err)
	for name, s := range specs {
		sub, release, err := r.b.Subscribe(ctx, news, s)
		r.must(err)
		k := r.consume(sub.View)
		if name == "durable" {
			k.gets("one")
		} else {
			k.nothing()
		}
		k.close()
		release()
	}
	info, err := r.b.DescribeDestination(ctx, "news")
	r.must(err)
	if info.Subscriptions != 1 {
		t.Errorf("%d subscriptions", info.Subscriptions)
	}
	_, err = r.b.SeekSubscription(ctx, topic.Query{ClientID: "desk", Name: "d"}, queue.Start{}, true)
	r.must(err)
	r.must(r.b.DeleteSubscription(ctx, topic.Query{ClientID: "desk", Name: "d"}))
	r.is(r.b.DeleteSubscription(ctx, topic.Query{ClientID: "desk", Name: "d"}), destination.ErrNotFound)
}

// A subscription that is opened with what was resolved before a change follows
// the change all the same.
func TestSubscribeAfterAlter(t *testing.T) {
	r := newRig(t)
	old, err := r.b.Destination(ctx, "news", destination.KindTopic)
	r.must(err)
	_, err = r.b.AlterDestination(ctx, "news", map[string]string{"partitions": "2"})
	r.must(err)
	sub, release, err := r.b.Subscribe(ctx, old, topic.Spec{Kind: topic.Temporary})
	r.must(err)
	defer release()
	k := r.consume(sub.View)
	if len(sub.Topic.Partitions) != 2 {
		t.Fatalf("%d partitions", len(sub.Topic.Partitions))
	}
	_, err = sub.Topic.Partitions[1].Append(batch(t, "on the new one"), nil)
	r.must(err)
	k.gets("on the new one")
	k.close()
}

func TestAlter(t *testing.T) {
	r := newRig(t)
	r.put("orders", "one")
	k := r.take("orders")
	k.gets("one")
	alter := func(want error, settings map[string]string) {
		t.Helper()
		_, err := r.b.AlterDestination(ctx, "orders", settings)
		if want == nil {
			r.must(err)
			return
		}
		r.is(err, want)
	}
	alter(destination.ErrInvalid, map[string]string{"colour": "red"})
	alter(destination.ErrInvalid, map[string]string{"max.deliveries": "many"})
	alter(destination.ErrInvalid, map[string]string{"partitions": "0"})
	alter(destination.ErrInvalid, map[string]string{"dead.letter": "orders"})
	alter(destination.ErrInvalid, map[string]string{"dead.letter": "__mine"})
	alter(destination.ErrUnsupported, map[string]string{"durability": "memory"})
	alter(nil, map[string]string{"max.deliveries": "1", "partitions": "3", "dead.letter": "bin"})
	if _, err := r.b.AlterDestination(ctx, "nowhere", nil); !errors.Is(err, destination.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	alter(destination.ErrInvalid, map[string]string{"partitions": "2"})

	// The view that is open follows: one delivery is enough now, and what
	// arrives on a new partition is delivered.
	r.must(k.settle(queue.Release))
	bin := r.queue("bin")
	for range 500 {
		if bin = r.queue("bin"); bin.Partitions[0].End() == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if bin.Partitions[0].End() != 1 {
		t.Error("not in the new dead letter destination")
	}
	d := r.queue("orders")
	done := make(synced, 1)
	_, err := d.Partitions[2].Append(batch(t, "elsewhere"), done)
	r.must(err)
	r.must(<-done)
	k.gets("elsewhere")
	alter(nil, map[string]string{"max.deliveries": ""})
	r.reopen()
	d = r.queue("orders")
	if len(d.Partitions) != 3 || d.Settings.MaxDeliveries != 5 || d.Settings.DeadLetter != "bin" {
		t.Errorf("after a restart: %+v", d.Settings)
	}
}
