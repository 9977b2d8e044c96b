package broker

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// small has segments of 64 KiB, about six messages of fill each.
func small(changes ...string) map[string]string {
	s := map[string]string{"segment.bytes": "65536", "max.message.bytes": "65536"}
	for _, c := range changes {
		name, value, _ := strings.Cut(c, "=")
		s[name] = value
	}
	return s
}

func (r *rig) create(name string, kind destination.Kind, settings map[string]string) *destination.Destination {
	r.t.Helper()
	_, err := r.b.CreateDestination(ctx, name, kind, settings)
	r.must(err)
	d, err := r.b.Destination(ctx, name, 0)
	r.must(err)
	return d
}

// fill appends n messages of 10 KB that are dated now.
func (r *rig) fill(d *destination.Destination, n int) {
	r.t.Helper()
	for i := range n {
		r.must(r.keyed(d, nil, fmt.Sprintf("%04d %s", i, strings.Repeat("x", 10_000))))
	}
}

func (r *rig) keyed(d *destination.Destination, key []byte, value string) error {
	var w record.Builder
	w.Append(r.clock().UnixMilli(), key, []byte(value), nil)
	done := make(synced, 1)
	if _, err := d.Partitions[0].Append(w.Batch(), done); err != nil {
		return err
	}
	return <-done
}

// round has the keeper look after everything once, some time later.
func (r *rig) round() {
	r.t.Helper()
	r.must(r.b.store.Checkpoint(ctx)) // what is not checkpointed stays
	k := newKeeper(r.b)
	for range keeperSteps {
		k.step(ctx)
	}
}

func start(d *destination.Destination) int64 { return d.Partitions[0].Start() }

func (k *reader) acknowledgeTo(n int) {
	k.r.t.Helper()
	k.next(n)
	k.acknowledge()
}

// With hold.groups a consumer group keeps what it has not committed past.
func TestRetentionOfGroups(t *testing.T) {
	r := newRig(t)
	held := r.create("held", destination.KindLog, small("retention.ms=1h", "hold.groups=true"))
	free := r.create("free", destination.KindLog, small("retention.ms=1h"))
	for _, d := range []*destination.Destination{held, free} {
		r.fill(d, 40)
		q := kmsg.NewPtrOffsetCommitRequest()
		q.Version, q.Group, q.Generation = 8, "readers", -1
		q.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: d.Name, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 20}}}}
		if a := r.b.Groups().OffsetCommit(ctx, group.Client{}, q); a.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("commit: %+v", a)
		}
	}
	r.pass(2 * time.Hour)
	r.round()
	if s := start(held); s == 0 || s > 20 {
		t.Errorf("held starts at %d, and its group has committed 20", s)
	}
	if s := start(free); s <= 20 {
		t.Errorf("free starts at %d, and nothing holds it", s)
	}
}

// A queue keeps what nobody has taken, however old, unless its limits are hard.
func TestRetentionOfAQueue(t *testing.T) {
	r := newRig(t)
	soft := r.create("soft", destination.KindQueue, small("retention.ms=1h"))
	hard := r.create("hard", destination.KindQueue, small("retention.ms=1h", "retention.hard=true"))
	r.fill(soft, 40)
	r.fill(hard, 40)
	r.pass(2 * time.Hour)
	r.round()
	if start(soft) != 0 {
		t.Errorf("soft starts at %d, and nobody has taken anything", start(soft))
	}
	if start(hard) == 0 {
		t.Error("hard has kept everything")
	}
	v, err := r.b.Queue(ctx, soft)
	r.must(err)
	r.holder++
	k := &reader{r: r, view: v, holder: r.holder, bodies: make(chan string, 100), closed: make(chan error, 1)}
	k.consumer, err = v.Consume(queue.ConsumerOptions{Holder: k.holder}, k)
	r.must(err)
	k.consumer.Credit(20)
	k.acknowledgeTo(20)
	r.round()
	if s := start(soft); s == 0 || s > 20 {
		t.Errorf("soft starts at %d, and 20 are done", s)
	}
	r.reopen()
	soft, err = r.b.Destination(ctx, "soft", 0)
	r.must(err)
	if f := r.b.floor(soft, 0); f != 20 { // nobody has opened its view yet
		t.Errorf("floor %d after a restart", f)
	}
	r.round()
	if s := start(soft); s > 20 {
		t.Errorf("soft starts at %d, and 20 are done", s)
	}
	r.take("soft").next(20)
}

// retention.ms=0: until consumed, and no longer.
func TestUntilConsumed(t *testing.T) {
	r := newRig(t)
	d := r.create("q", destination.KindQueue, small("retention.ms=0"))
	r.fill(d, 40)
	r.round()
	if start(d) != 0 {
		t.Errorf("starts at %d", start(d))
	}
	r.take("q").acknowledgeTo(40)
	r.round()
	if start(d) < 30 {
		t.Errorf("starts at %d, and all is consumed", start(d))
	}
}

// A topic keeps what a durable subscription needs, also one that nobody has
// used since the start; without one its limits hold.
func TestRetentionOfATopic(t *testing.T) {
	r := newRig(t)
	held := r.create("held", destination.KindTopic, small("retention.ms=1h"))
	free := r.create("free", destination.KindTopic, small("retention.ms=1h"))
	_, release, err := r.b.Subscribe(ctx, held, topic.Spec{Kind: topic.Durable, ClientID: "desk", Name: "s"})
	r.must(err)
	release()
	r.fill(held, 40)
	r.fill(free, 40)
	r.pass(2 * time.Hour)
	for range 2 {
		r.round()
		if start(held) != 0 || start(free) < 30 {
			t.Errorf("held starts at %d, free at %d", start(held), start(free))
		}
		r.reopen()
		held, err = r.b.Destination(ctx, "held", 0)
		r.must(err)
		free, err = r.b.Destination(ctx, "free", 0)
		r.must(err)
	}
	r.must(r.b.Unsubscribe(ctx, "desk", "s", false))
	r.round()
	if start(held) < 30 {
		t.Errorf("held starts at %d, and nobody holds it", start(held))
	}
}

// One message that is held must not keep everything behind it.
func TestCleaningBehindAStuckFloor(t *testing.T) {
	r := newRig(t)
	d := r.create("q", destination.KindQueue, small("retention.ms=1h"))
	r.fill(d, 60)
	k := r.take("q")
	k.next(60)
	k.mu.Lock()
	first := k.spans[0]
	k.spans[0].Offset++
	k.spans[0].Acquisition++
	k.spans[0].Count--
	if k.spans[0].Count == 0 {
		k.spans = k.spans[1:]
	}
	k.mu.Unlock()
	k.acknowledge()
	before := d.Partitions[0].Log().Bytes()
	r.round()
	if d.Partitions[0].Log().Bytes() != before {
		t.Error("something went before its time")
	}
	r.pass(2 * time.Hour)
	r.round()
	after := d.Partitions[0].Log().Bytes()
	if after > before/3 {
		t.Errorf("%d bytes became %d", before, after)
	}
	if start(d) != first.Offset {
		t.Errorf("starts at %d", start(d))
	}
	if buf, err := d.Partitions[0].Read(0, 1, nil); err != nil || record.Batch(buf).BaseOffset() != first.Offset {
		t.Errorf("what is held is gone: %v", err)
	}
	r.crash(1)
	k = r.take("q")
	if got := k.next(1); !strings.HasPrefix(got[0], "0000 ") {
		t.Errorf("got %.10q", got)
	}
	k.nothing()
	r.fill(r.queue("q"), 1)
	k.next(1)
}

// cleanup.policy=compact keeps the last message of each key, at its offset.
func TestCompaction(t *testing.T) {
	r := newRig(t)
	d := r.create("table", destination.KindLog, small("cleanup.policy=compact"))
	for i := range 60 {
		r.must(r.keyed(d, []byte(fmt.Sprint("k", i%3)), fmt.Sprintf("%02d %s", i, strings.Repeat("x", 10_000))))
	}
	before := d.Partitions[0].Log().Bytes()
	r.pass(time.Hour)
	r.round()
	after := d.Partitions[0].Log().Bytes()
	if after > before/2 {
		t.Errorf("%d bytes became %d", before, after)
	}
	k := r.take("table")
	var got []string
	for {
		select {
		case body := <-k.bodies:
			got = append(got, body[:2])
			continue
		case <-time.After(100 * time.Millisecond):
		}
		break
	}
	if n := len(got); n > 20 || !slices.Equal(got[n-3:], []string{"57", "58", "59"}) {
		t.Errorf("got %v", got)
	}
}

func TestFloorWithoutHolders(t *testing.T) {
	r := newRig(t)
	news := r.create("news", destination.KindTopic, nil)
	if f := r.b.floor(news, 0); f != math.MaxInt64 {
		t.Errorf("floor %d of a topic that nobody holds", f)
	}
	if f := r.b.floor(r.queue("orders"), 0); f != 0 {
		t.Errorf("floor %d of a queue that nobody has taken from", f)
	}
	both := r.create("both", destination.KindLog, nil)
	r.must(put(t, both, "one", "two"))
	k := r.take("both")
	k.gets("one", "two")
	k.acknowledge()
	_, release, err := r.b.Subscribe(ctx, both, topic.Spec{Kind: topic.Temporary, Start: queue.Start{Kind: queue.StartOffset, At: 1}})
	r.must(err)
	if f := r.b.floor(both, 0); f != 1 {
		t.Errorf("floor %d, want that of the slower of two", f)
	}
	release()
	if f := r.b.floor(both, 0); f != 2 {
		t.Errorf("floor %d, want the queue's own", f)
	}
}

// The keeper goes round on its own, and ends with the broker.
func TestKeeperRuns(t *testing.T) {
	r := newRig(t, func(o *Options) { o.KeepInterval = 30 * time.Millisecond })
	d := r.create("q", destination.KindTopic, small("retention.ms=1h"))
	r.fill(d, 40)
	r.pass(2 * time.Hour)
	for range 500 {
		if start(d) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("nothing was deleted")
}

func TestRetentionSettings(t *testing.T) {
	set := func(changes ...string) destination.Settings {
		s, err := destination.SettingsFrom(small(changes...))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, test := range []struct {
		settings destination.Settings
		want     commitlog.Retention
	}{
		{set(), commitlog.Retention{Floor: 5, Age: 7 * 24 * time.Hour}},
		{set("retention.ms=-1"), commitlog.Retention{Floor: 5}},
		{set("retention.ms=0"), commitlog.Retention{Floor: 5, Consumed: true}},
		{set("retention.ms=9223372036854775807"), commitlog.Retention{Floor: 5, Age: math.MaxInt64 / time.Millisecond * time.Millisecond}},
		{set("retention.bytes=1MiB", "retention.hard=true"), commitlog.Retention{Floor: 5, Age: 7 * 24 * time.Hour, Bytes: 1 << 20, Hard: true}},
	} {
		if got := retention(&test.settings, 5); got != test.want {
			t.Errorf("%s: %+v, want %+v", &test.settings, got, test.want)
		}
	}
}

// After a restart, what expires goes where it should, though nobody asks for it.
func TestExpiryAfterRestart(t *testing.T) {
	r := newRig(t)
	d := r.create("q", destination.KindQueue, map[string]string{"expiry.destination": "EXPIRED"})
	var b record.Builder
	m := record.Message{Body: []byte("x"), Timestamp: r.clock().UnixMilli()}
	m.Expiration = r.clock().Add(time.Minute).UnixMilli()
	r.must(m.AppendTo(&b))
	w := make(synced, 1)
	_, err := d.Partitions[0].Append(b.Batch(), w)
	r.must(err)
	r.must(<-w)
	r.reopen()
	r.pass(2 * time.Minute)
	r.round()
	r.take("EXPIRED").next(1)
}
