package queue

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination"
)

// lockedOf is what consumers with a lock hold of a partition: as it is counted,
// and as the cursor has it, which knows of no others here.
func lockedOf(t *testing.T, v *View, partition int) int64 {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.parts[partition]
	if acquired := p.cursor.Stats().Acquired; acquired != p.locked {
		t.Errorf("partition %d: %d are counted as locked, %d are", partition, p.locked, acquired)
	}
	return p.locked
}

// TestLockedLimit shows that consumers with a lock share a bound for each
// partition, and that settling, expiry and leaving make room again.
func TestLockedLimit(t *testing.T) {
	r := newRig(t)
	defer r.close()
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	r.deps.Now = func() time.Time { return time.UnixMilli(now.Load()) }
	v := r.view(r.destination("q", "partitions", "1"))
	defer v.Close()
	put(t, v, numbered(0, 100)...)
	o := ConsumerOptions{Lock: time.Minute, LockedLimit: 10}
	a, as := consume(t, v, o)
	b, bs := consume(t, v, o)
	first := drain(t, a, as, 6)
	if second := drain(t, b, bs, 50); len(first) != 6 || len(second) != 4 {
		t.Fatalf("%d and %d", len(first), len(second))
	}
	if more := drain(t, a, as, 50); len(more) != 0 || lockedOf(t, v, 0) != 10 {
		t.Errorf("%d over the limit", len(more))
	}
	c, cs := consume(t, v, ConsumerOptions{}) // has no lock, so no limit
	if free := drain(t, c, cs, 20); len(free) != 20 {
		t.Errorf("a consumer without a lock gets %d", len(free))
	}
	c.Close(true)
	b.Credit(1) // waits for room
	settle(t, a, Outcome{Kind: Acknowledge}, first[:1]...)
	bs.take(1)
	settle(t, a, Outcome{Kind: Release}, first[1:3]...)
	settle(t, a, Outcome{Kind: Reject}, first[3])
	if n := lockedOf(t, v, 0); n != 7 {
		t.Errorf("%d are locked, 7 should be", n)
	}
	b.Close(false)
	if n := lockedOf(t, v, 0); n != 2 {
		t.Errorf("%d are locked, 2 should be", n)
	}
	now.Add(time.Minute.Milliseconds())
	if again := drain(t, a, as, 100); len(again) != 10 {
		t.Errorf("%d after the lock has expired", len(again))
	}
	lockedOf(t, v, 0)
	w := newWaiter()
	must(t, v.SeekTo(map[int32]int64{0: 95}, w))
	w.wait(t)
	if rest := drain(t, a, as, 100); len(rest) != 5 || rest[0].offset != 95 || lockedOf(t, v, 0) != 5 {
		t.Errorf("%d after the seek", len(rest))
	}
	if err := v.SeekTo(map[int32]int64{1: 0}, nil); !errors.Is(err, destination.ErrNotFound) {
		t.Errorf("seek of no partition: %v", err)
	}
}

// TestExtend shows that a lock that was extended does not expire, and that
// only its holder can extend it.
func TestExtend(t *testing.T) {
	r := newRig(t)
	defer r.close()
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	r.deps.Now = func() time.Time { return time.UnixMilli(now.Load()) }
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 4)...)
	a, as := consume(t, v, ConsumerOptions{Lock: time.Minute})
	b, bs := consume(t, v, ConsumerOptions{Lock: time.Minute})
	got := drain(t, a, as, 4)
	now.Add(30_000)
	span := Span{Offset: 1, Acquisition: got[1].acquisition, Count: 2}
	must(t, v.Extend(a.Holder(), []Span{span}, time.Minute))
	if err := v.Extend(b.Holder(), []Span{span}, time.Minute); !errors.Is(err, destination.ErrStaleToken) {
		t.Errorf("another holder: %v", err)
	}
	now.Add(30_000)
	wantBodies(t, "expired", drain(t, b, bs, 10), "0", "3")
	now.Add(29_999)
	wantBodies(t, "extended", drain(t, b, bs, 10))
	settle(t, a, Outcome{Kind: Acknowledge}, got[1])
	now.Add(1)
	wantBodies(t, "expired later", drain(t, b, bs, 10), "2")
	if err := v.Extend(a.Holder(), []Span{span}, time.Minute); !errors.Is(err, destination.ErrStaleToken) {
		t.Errorf("expired: %v", err)
	}
}

// TestAsk shows the credit in bytes and that whole batches stay whole.
func TestAsk(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	for i := range 10 {
		put(t, v, numbered(10*i, 10*i+10)...)
	}
	c, s := consume(t, v, ConsumerOptions{})
	ask := func(records, bytes int, whole bool) int {
		t.Helper()
		c.Ask(records, bytes, whole)
		return len(drain(t, c, s, 0))
	}
	if n := ask(15, unlimited, false); n != 15 {
		t.Errorf("%d, 15 were asked for", n)
	}
	if n := ask(5, unlimited, true); n != 5 {
		t.Errorf("%d of a batch that was cut, 5 were asked for", n)
	}
	if n := ask(15, unlimited, true); n != 20 {
		t.Errorf("%d, two whole batches were asked for", n)
	}
	if n := ask(1000, 1, true); n != 10 {
		t.Errorf("%d, one batch was asked for", n)
	}
	if n := ask(0, unlimited, true); n != 0 {
		t.Errorf("%d, nothing was asked for", n)
	}
	if n := ask(1000, unlimited, true); n != 50 {
		t.Errorf("%d are left", n)
	}
}

// TestRestrict shows that consumers get only what is in their partitions, in
// order within each message group.
func TestRestrict(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q", "partitions", "4"))
	defer v.Close()
	const groups = 50
	for i := range 10 {
		for g := range groups {
			put(t, v, message{body: fmt.Sprint(g, " ", i), key: fmt.Sprint("group", g), grouped: true})
		}
	}
	a, as := consume(t, v, ConsumerOptions{Partitions: []int32{}})
	b, bs := consume(t, v, ConsumerOptions{Partitions: []int32{0, 1, 7}})
	if got := drain(t, a, as, 1000); len(got) != 0 {
		t.Fatalf("%d of no partitions", len(got))
	}
	// b takes the slots of its groups; those of others are still served to others.
	all := drain(t, b, bs, 1000)
	for _, g := range all {
		if g.partition > 1 {
			t.Fatalf("partition %d", g.partition)
		}
	}
	a.Restrict([]int32{2, 3})
	all = append(all, drain(t, a, as, 1000)...)
	a.Restrict([]int32{3})
	b.Restrict(nil)
	put(t, v, texts("x", "y", "z")...)
	all = append(all, drain(t, b, bs, 1000)...)
	if len(all) != 10*groups+3 {
		t.Errorf("%d of %d", len(all), 10*groups+3)
	}
	last := map[string]string{}
	for _, body := range gotBodies(all) {
		if len(body) < 3 {
			continue
		}
		group := body[:len(body)-2]
		if last[group] >= body {
			t.Errorf("%q comes behind %q", body, last[group])
		}
		last[group] = body
	}
	b.Close(false)
	a.Restrict(nil)
	if again := drain(t, a, as, 1000); len(again) == 0 {
		t.Error("what b held does not come to a")
	}
}
