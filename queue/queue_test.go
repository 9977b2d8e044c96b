package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

func TestOrderAndAcknowledge(t *testing.T) {
	for _, codec := range []record.Codec{record.None, record.LZ4} {
		t.Run(codec.String(), func(t *testing.T) {
			r := newRig(t)
			defer r.close()
			v := r.view(r.destination("q"))
			defer v.Close()
			putCoded(t, v, codec, numbered(0, 10)...)
			putCoded(t, v, codec, numbered(10, 20)...)
			c, s := consume(t, v, ConsumerOptions{})
			c.Credit(3)
			g := s.take(3)
			c.Credit(1)
			g = append(g, s.take(1)...)
			c.Credit(100)
			g = append(g, s.take(16)...)
			wantBodies(t, "order", g, bodies(numbered(0, 20))...)
			if c.Held() != 20 {
				t.Errorf("holds %d", c.Held())
			}
			settle(t, c, Outcome{}, g...)
			if st := v.Stats(); st.Acknowledged != 20 || st.Waiting != 0 || st.Acquired != 0 || v.Floor(0) != 20 || c.Held() != 0 {
				t.Errorf("stats %+v, floor %d", st, v.Floor(0))
			}
		})
	}
}

// A batch that goes whole to one consumer goes as it is stored.
func TestWholeBatch(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	putCoded(t, v, record.Zstd, numbered(0, 100)...)
	put(t, v, numbered(100, 200)...)
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(1000)
	s.take(200)
	if s.batches != 2 {
		t.Errorf("%d deliveries", s.batches)
	}
}

func TestCompetingConsumers(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	v.Pause(true)
	put(t, v, numbered(0, 1000)...)
	var consumers []*Consumer
	var sinks []*recorder
	for range 8 {
		c, s := consume(t, v, ConsumerOptions{})
		c.Credit(64)
		consumers, sinks = append(consumers, c), append(sinks, s)
	}
	v.Pause(false)
	seen := map[string]bool{}
	for i, s := range sinks {
		g := s.take(64)
		for _, m := range g {
			if seen[m.body] {
				t.Fatalf("%s was delivered twice", m.body)
			}
			seen[m.body] = true
		}
		if n := s.pending(); n > 0 {
			t.Errorf("consumer %d got %d more than its credit", i, n)
		}
	}
	// What is ready is divided: nobody gets all while others idle.
	v.Pause(true)
	for _, c := range consumers {
		c.Credit(10_000)
	}
	v.Pause(false)
	total := 0
	for i, s := range sinks {
		s.take(40)
		total += 40 + s.pending()
		if n := s.pending(); n > 150 {
			t.Errorf("consumer %d got %d", i, n+40)
		}
	}
	if total > 1000-8*64 {
		t.Errorf("%d delivered", total)
	}
}

func TestPriority(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	var all []message
	for i := range 100 {
		p := i % 10
		if p == 0 {
			p = -1
		}
		all = append(all, message{body: fmt.Sprintf("%d.%02d", i%10, i), priority: p})
	}
	for i := 0; i < 100; i += 5 {
		put(t, v, all[i:i+5]...)
	}
	c, s := consume(t, v, ConsumerOptions{})
	var want []string
	for p := 9; p >= 0; p-- {
		for i := p; i < 100; i += 10 {
			want = append(want, fmt.Sprintf("%d.%02d", p, i))
		}
	}
	c.Credit(7)
	g := s.take(7)
	c.Credit(93)
	wantBodies(t, "by priority", append(g, s.take(93)...), want...)

	v2 := r.view(r.destination("flat", "priority.window", "0"))
	defer v2.Close()
	put(t, v2, message{body: "a", priority: 1}, message{body: "b", priority: 9})
	c, s = consume(t, v2, ConsumerOptions{})
	c.Credit(2)
	wantBodies(t, "priority off", s.take(2), "a", "b")
}

func TestPriorityWindowBounds(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q", "priority.window", "10"))
	defer v.Close()
	v.Pause(true)
	for i := range 30 {
		put(t, v, message{body: fmt.Sprint(i)})
	}
	put(t, v, message{body: "urgent", priority: 9})
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(1)
	v.Pause(false)
	wantBodies(t, "beyond the window", s.take(1), "0")
	c.Credit(30)
	g := s.take(30)
	// It is seen when no more than the window is before it; what was handed out
	// by then is the dispatcher's affair.
	if at := slices.Index(gotBodies(g), "urgent"); at < 15 || at == len(g)-1 {
		t.Errorf("urgent came as number %d", at)
	}
}

func TestReleaseOrderAndCount(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 10)...)
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(5)
	g := s.take(5)
	settle(t, c, Outcome{Kind: Release}, g[3], g[1])
	settle(t, c, Outcome{Kind: Release, CountBack: true}, g[2])
	c.Credit(5)
	g2 := s.take(5)
	wantBodies(t, "released before the backlog", g2, "1", "2", "3", "5", "6")
	for i, want := range []int{2, 1, 2, 1, 1} {
		if g2[i].count != want {
			t.Errorf("%s was delivered %d times, want %d", g2[i].body, g2[i].count, want)
		}
	}
	// Q1: only the newest token counts.
	err := v.Settle(c.holder, spans(g[3]), Outcome{}, nil)
	var stale *destination.StaleTokenError
	if !errors.As(err, &stale) || stale.Offset != g[3].offset {
		t.Errorf("stale token: %v", err)
	}
	if err := v.Settle(c.holder+1000, spans(g2[0]), Outcome{}, nil); !errors.Is(err, destination.ErrStaleToken) {
		t.Errorf("another holder's token: %v", err)
	}
	// Of a span with a stale record the rest is settled.
	err = v.Settle(c.holder, []Span{{Offset: 0, Acquisition: g[0].acquisition, Count: 5}}, Outcome{}, nil)
	if !errors.Is(err, destination.ErrStaleToken) {
		t.Errorf("partly stale: %v", err)
	}
	if n := v.Stats().Acknowledged; n != 2 { // 0 and 4
		t.Errorf("%d acknowledged of a partly stale span", n)
	}
}

func TestCloseGivesBackInOrder(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 20)...)
	c1, s1 := consume(t, v, ConsumerOptions{})
	c1.Credit(10)
	g := s1.take(10)
	settle(t, c1, Outcome{}, g[4])
	c2, s2 := consume(t, v, ConsumerOptions{})
	c1.Close(false)
	c2.Credit(100)
	g = s2.take(19)
	wantBodies(t, "after the close", g, "0", "1", "2", "3", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19")
	if g[0].count != 2 || g[10].count != 1 {
		t.Errorf("counts %d, %d", g[0].count, g[10].count)
	}
	c2.Close(true)
	c3, s3 := consume(t, v, ConsumerOptions{})
	c3.Credit(1)
	if g = s3.take(1); g[0].count != 2 {
		t.Errorf("count %d after a release that does not count", g[0].count)
	}
}

func TestDetachKeepsHoldings(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 4)...)
	c1, s1 := consume(t, v, ConsumerOptions{})
	c1.Credit(2)
	g := s1.take(2)
	c1.Credit(1000)
	c1.Detach()
	more := s1.pending()
	c2, s2 := consume(t, v, ConsumerOptions{})
	if got := drain(t, c2, s2, 100); len(got) != 2-more {
		t.Errorf("%d for the next consumer", len(got))
	}
	settle(t, c1, Outcome{}, g[0])
	c1.Close(false)
	if got := drain(t, c2, s2, 100); len(got) != 1+more || got[0].body != "1" {
		t.Errorf("given back: %v", got)
	}
}

func TestDrain(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 5)...)
	c, s := consume(t, v, ConsumerOptions{})
	if g := drain(t, c, s, 3); len(g) != 3 {
		t.Errorf("drained %d of 3", len(g))
	}
	if g := drain(t, c, s, 10); len(g) != 2 {
		t.Errorf("drained %d of 2", len(g))
	}
	put(t, v, numbered(5, 6)...)
	if c.credit.records.Load() != 0 {
		t.Errorf("credit %d after a drain", c.credit.records.Load())
	}
	if g := drain(t, c, s, 1); len(g) != 1 {
		t.Errorf("after the drain: %v", g)
	}
}

// drainNext has another consumer ask and drain when its own drain is over,
// which is in the middle of a turn of the view.
type drainNext struct {
	*recorder
	next []*Consumer
}

func (*drainNext) Flush() {}
func (s *drainNext) Drained(c *Consumer) {
	for _, n := range s.next {
		n.Ask(1, 1<<20, false)
		n.Drain()
	}
	s.recorder.Drained(c)
}

// TestDrainDuringTurn shows that a drain is ended only by a turn that began
// after it was asked for, and so has looked at what is ready.
func TestDrainDuringTurn(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 20)...)
	first := &drainNext{recorder: newRecorder(t)}
	var sinks []*recorder
	for range 20 {
		c, s := consume(t, v, ConsumerOptions{})
		first.next, sinks = append(first.next, c), append(sinks, s)
	}
	holders++
	c, err := v.Consume(ConsumerOptions{Holder: holders}, first)
	must(t, err)
	c.Drain()
	for i, s := range sinks {
		s.mu.Lock()
		for s.drained == 0 {
			s.change.Wait()
		}
		if len(s.got) != 1 {
			t.Errorf("consumer %d was told that there is nothing", i)
		}
		s.mu.Unlock()
	}
}

func TestPause(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	c, s := consume(t, v, ConsumerOptions{})
	c.Pause(true)
	c.Credit(10)
	put(t, v, numbered(0, 5)...)
	other, so := consume(t, v, ConsumerOptions{})
	if g := drain(t, other, so, 2); len(g) != 2 || s.pending() != 0 {
		t.Errorf("%d for the other, %d for the paused one", len(g), s.pending())
	}
	c.Pause(false)
	wantBodies(t, "after the pause", s.take(3), "2", "3", "4")
}

func TestSelectors(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	even := match(func(r *record.Record) bool { return len(r.Value) > 0 && (r.Value[len(r.Value)-1]-'0')%2 == 0 })
	never := match(func(*record.Record) bool { return false })
	for i := 0; i < 5000; i += 100 {
		put(t, v, numbered(i, i+100)...)
	}
	idle, _ := consume(t, v, ConsumerOptions{Selector: even}) // has no credit, holds nobody up
	none, sn := consume(t, v, ConsumerOptions{Selector: never})
	none.Credit(10)
	c, s := consume(t, v, ConsumerOptions{Selector: even})
	c.Credit(10_000)
	g := s.take(2500)
	if g[0].body != "0" || g[2499].body != "4998" {
		t.Errorf("%s to %s", g[0].body, g[2499].body)
	}
	settle(t, c, Outcome{Kind: Release}, g[7])
	if again := s.take(1)[0]; again.body != "14" || again.count != 2 {
		t.Errorf("released: %v", again)
	}
	idle.Close(false)
	odd, so := consume(t, v, ConsumerOptions{})
	odd.Credit(10_000)
	g = so.take(2500)
	if g[0].body != "1" || g[2499].body != "4999" || sn.pending() > 0 {
		t.Errorf("%s to %s", g[0].body, g[2499].body)
	}
	put(t, v, texts("5001", "5002")...)
	odd.Pause(true)
	c.Pause(true)
	if n := v.Stats().Waiting + int64(s.pending()+so.pending()); n != 2 {
		t.Errorf("%d waiting", n)
	}
}

func TestFilterAndNoLocal(t *testing.T) {
	r := newRig(t)
	defer r.close()
	d := r.destination("t")
	deps := r.deps
	deps.Filter = match(func(r *record.Record) bool { return !strings.HasPrefix(string(r.Value), "x") })
	v, err := OpenViewAt(d, "sub", []int64{0}, deps)
	must(t, err)
	defer v.Close()
	put(t, v, message{body: "a"}, message{body: "x1"}, message{body: "mine", client: "me"}, message{body: "b", client: "you"}, message{body: "x2"})
	c, s := consume(t, v, ConsumerOptions{NoLocal: "me"})
	g := drain(t, c, s, 100)
	wantBodies(t, "filtered", g, "a", "b")
	settle(t, c, Outcome{}, g...)
	if st := v.Stats(); v.Floor(0) != 5 || st.Passed != 3 {
		t.Errorf("floor %d, stats %+v", v.Floor(0), st)
	}
}

func TestGroups(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	c1, s1 := consume(t, v, ConsumerOptions{})
	c2, s2 := consume(t, v, ConsumerOptions{})
	c1.Credit(2)
	c2.Credit(1000)
	v.Pause(true)
	for i := range 60 {
		put(t, v, message{body: fmt.Sprintf("%c%d", 'a'+i%6, i/6), key: string(rune('a' + i%6)), grouped: true})
	}
	v.Pause(false)
	g2 := s2.take(10)
	g1 := s1.take(2)
	owner := map[byte]int{}
	note := func(who int, g []got) {
		for _, m := range g {
			if o := owner[m.body[0]]; o != 0 && o != who {
				t.Fatalf("group %c went to both", m.body[0])
			}
			owner[m.body[0]] = who
		}
	}
	note(1, g1)
	note(2, g2)
	// c1 has no credit: its groups wait, the others go past them.
	c1.Credit(1)
	g1 = append(g1, s1.take(1)...)
	deadline := time.Now().Add(10 * time.Second)
	for v.Stats().Delivered < 3+10*int64(groupsOf(v, c2, "abcdef")) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	g2 = append(g2, s2.take(s2.pending())...)
	note(1, g1)
	note(2, g2)
	if len(g2) != 10*groupsOf(v, c2, "abcdef") {
		t.Errorf("the other consumer got %d", len(g2))
	}
	inOrder(t, g1)
	inOrder(t, g2)
	// Failover: the groups of c1 go to c2, from the first that is not settled.
	settle(t, c1, Outcome{}, g1[0])
	c1.Close(false)
	g2 = append(g2, s2.take(59-len(g2))...)
	counts := map[byte]int{}
	for _, m := range g2 {
		counts[m.body[0]]++
	}
	inOrder(t, g2)
}

func groupsOf(v *View, c *Consumer, keys string) (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range keys {
		if v.groups[slotOf([]byte(string(k)))] == c {
			n++
		}
	}
	return n
}

// Q4: within a group the order of sending.
func inOrder(t *testing.T, g []got) {
	t.Helper()
	last := map[byte]int64{}
	for _, m := range g {
		if m.offset < last[m.body[0]] {
			t.Errorf("group %c: offset %d after %d", m.body[0], m.offset, last[m.body[0]])
		}
		last[m.body[0]] = m.offset
	}
}

func TestExclusive(t *testing.T) {
	for _, bySetting := range []bool{true, false} {
		r := newRig(t)
		v := r.view(r.destination("q", "exclusive", fmt.Sprint(bySetting)))
		o := ConsumerOptions{Exclusive: !bySetting}
		c1, s1 := consume(t, v, o)
		c2, s2 := consume(t, v, o)
		c1.Credit(100)
		c2.Credit(100)
		put(t, v, numbered(0, 10)...)
		g := s1.take(10)
		settle(t, c1, Outcome{}, g[:9]...)
		put(t, v, numbered(10, 12)...)
		s1.take(2)
		if s2.pending() > 0 {
			t.Error("the second exclusive consumer was served")
		}
		c1.Close(false)
		wantBodies(t, "takes over", s2.take(3), "9", "10", "11")
		must(t, v.Close())
		r.close()
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		v := r.view(r.destination("q"))
		defer v.Close()
		start := time.Now()
		put(t, v, message{body: "later", due: start.Add(time.Minute).UnixMilli()}, message{body: "now"},
			message{body: "soon", due: start.Add(time.Second).UnixMilli()})
		c, s := consume(t, v, ConsumerOptions{})
		c.Credit(100)
		wantBodies(t, "first", s.take(1), "now")
		synctest.Wait()
		if st := v.Stats(); st.Scheduled != 2 {
			t.Errorf("%d scheduled", st.Scheduled)
		}
		wantBodies(t, "then", s.take(2), "soon", "later")
		if d := time.Since(start); d < time.Minute || d > time.Minute+10*time.Millisecond {
			t.Errorf("after %s", d)
		}
	})
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		v := r.view(r.destination("q"))
		defer v.Close()
		now := time.Now()
		put(t, v, message{body: "a", expires: now.Add(time.Second).UnixMilli()}, message{body: "b", expires: now.Add(time.Hour).UnixMilli()},
			message{body: "c", expires: now.Add(2 * time.Second).UnixMilli()}, message{body: "d"})
		c, s := consume(t, v, ConsumerOptions{})
		c.Credit(1)
		wantBodies(t, "in time", s.take(1), "a")
		time.Sleep(3 * time.Second) // b and c wait in the window
		c.Credit(10)
		wantBodies(t, "what is left", s.take(2), "b", "d")
		synctest.Wait()
		if st := v.Stats(); st.Expired != 1 {
			t.Errorf("%d expired", st.Expired)
		}
		put(t, v, message{body: "e", expires: now.UnixMilli()}, message{body: "f"})
		wantBodies(t, "expired before it was read", s.take(1), "f")

		v2 := r.view(r.destination("q2", "expiry.destination", "EXPIRED"))
		defer v2.Close()
		put(t, v2, message{body: "gone", expires: now.UnixMilli()})
		c, s = consume(t, v2, ConsumerOptions{})
		c.Credit(1)
		v3 := r.view(r.destination("EXPIRED"))
		defer v3.Close()
		c3, s3 := consume(t, v3, ConsumerOptions{})
		c3.Credit(1)
		wantBodies(t, "in the expiry destination", s3.take(1), "gone")
		if s.pending() > 0 || v2.Stats().Expired != 1 {
			t.Errorf("stats %+v", v2.Stats())
		}
	})
}

func TestLockExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		v := r.view(r.destination("q"))
		defer v.Close()
		put(t, v, numbered(0, 3)...)
		c, s := consume(t, v, ConsumerOptions{Lock: 30 * time.Second})
		c.Credit(3)
		g := s.take(3)
		settle(t, c, Outcome{}, g[1])
		start := time.Now()
		other, so := consume(t, v, ConsumerOptions{})
		other.Credit(10)
		g2 := so.take(2) // Q7
		wantBodies(t, "locks expired", g2, "0", "2")
		if d := time.Since(start); d > 31*time.Second || g2[0].count != 2 {
			t.Errorf("after %s, count %d", d, g2[0].count)
		}
		if err := v.Settle(c.holder, spans(g[0]), Outcome{}, nil); !errors.Is(err, destination.ErrStaleToken) {
			t.Errorf("a late acknowledgement: %v", err)
		}
	})
}

func TestBackoffThenDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		v := r.view(r.destination("q", "max.deliveries", "3", "redelivery.delay", "1s", "redelivery.multiplier", "2"))
		defer v.Close()
		put(t, v, message{body: "bad", key: "k", expires: time.Now().Add(time.Hour).UnixMilli()})
		c, s := consume(t, v, ConsumerOptions{})
		c.Credit(10)
		start := time.Now()
		for i, want := range []time.Duration{0, time.Second, 3 * time.Second} {
			g := s.take(1)
			if d := time.Since(start); d < want || d > want+50*time.Millisecond || g[0].count != i+1 {
				t.Errorf("delivery %d, count %d, after %s, want %s", i, g[0].count, d, want)
			}
			settle(t, c, Outcome{Kind: Release, Delay: -1}, g[0])
		}
		m := deadLetters(t, r, "DLQ.q", 1)[0]
		for name, want := range map[string]any{
			DeadLetterOrigin: "q", DeadLetterPartition: int32(0), DeadLetterOffset: int64(0),
			DeadLetterReason: reasonDeliveries, DeadLetterCount: int32(3), DeadLetterTime: time.Now().UnixMilli(), "colour": "red",
		} {
			if m.Properties[name] != want {
				t.Errorf("%s is %v (%T), want %v", name, m.Properties[name], m.Properties[name], want)
			}
		}
		if m.Expiration != 0 || m.ID != "ID:bad" || string(m.Key) != "k" || m.Kind != record.BodyText {
			t.Errorf("meta %+v", m.Meta)
		}
		synctest.Wait()
		if st := v.Stats(); st.DeadLettered != 1 || st.Waiting+st.Acquired+st.Held+st.Scheduled != 0 || v.Floor(0) != 1 {
			t.Errorf("stats %+v, floor %d", st, v.Floor(0))
		}
	})
}

// deadLetters takes n messages from a dead letter destination.
func deadLetters(t *testing.T, r *rig, name string, n int) []record.Message {
	t.Helper()
	d := r.destination(name)
	v := r.view(d)
	defer v.Close()
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(n)
	s.take(n)
	var all []record.Message
	buf, err := d.Partitions[0].Read(0, 1<<20, nil)
	must(t, err)
	for len(buf) > 0 {
		b, rest, err := record.Next(buf)
		must(t, err)
		buf = rest
		var rd record.Reader
		must(t, rd.Reset(b, maxDecompressed))
		for rd.Next() {
			var m record.Message
			must(t, record.DecodeMessage(rd.Record(), &m))
			all = append(all, m)
		}
	}
	if len(all) != n {
		t.Fatalf("%d in %s, want %d", len(all), name, n)
	}
	return all
}

func TestReject(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 10)...)
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(10)
	g := s.take(10)
	settle(t, c, Outcome{Kind: Reject, Reason: "poison"}, g[2], g[3], g[7])
	settle(t, c, Outcome{}, g[0], g[1])
	all := deadLetters(t, r, "DLQ.q", 3)
	if string(all[2].Body) != "7" || all[2].Properties[DeadLetterReason] != "poison" || all[2].Properties[DeadLetterCount] != int32(1) {
		t.Errorf("%+v", all[2])
	}
	waitFor(t, func() bool { return v.Stats().DeadLettered == 3 })
	if st := v.Stats(); st.Acknowledged != 2 || st.Acquired != 5 || st.Held != 0 || c.Held() != 5 {
		t.Errorf("stats %+v", st)
	}

	v2 := r.view(r.destination("dropping", "dead.letter", "none"))
	defer v2.Close()
	put(t, v2, numbered(0, 2)...)
	c, s = consume(t, v2, ConsumerOptions{})
	c.Credit(10)
	settle(t, c, Outcome{Kind: Reject}, s.take(2)...)
	waitFor(t, func() bool { return v2.Stats().DeadLettered == 2 && v2.Floor(0) == 2 })

	if _, err := OpenView(r.destination("self", "dead.letter", "self"), "", Start{}, r.deps); !errors.Is(err, destination.ErrInvalid) {
		t.Errorf("own dead letter destination: %v", err)
	}
}

// waitFor is for what happens a moment after a confirmation.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 10 s")
		}
	}
}

// A dead letter destination that cannot be had fails the rejection and keeps
// the message, which leaves later.
func TestRejectRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		v := r.view(r.destination("q"))
		defer v.Close()
		var fail atomic.Bool
		fail.Store(true)
		r.find = func(string) error {
			if fail.Load() {
				return errTest
			}
			return nil
		}
		put(t, v, numbered(0, 1)...)
		c, s := consume(t, v, ConsumerOptions{})
		c.Credit(10)
		w := newWaiter()
		must(t, v.Settle(c.holder, spans(s.take(1)...), Outcome{Kind: Reject}, w))
		if err := <-w; !errors.Is(err, errTest) {
			t.Errorf("rejection: %v", err)
		}
		synctest.Wait()
		if st := v.Stats(); st.Moving != 1 || s.pending() != 0 {
			t.Errorf("stats %+v", st)
		}
		fail.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := v.Stats(); st.DeadLettered != 1 || st.Moving != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestBrowse(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 5)...)
	put(t, v, message{body: "5", due: time.Now().Add(time.Hour).UnixMilli()}, message{body: "6"}, message{body: "7", expires: 1}, message{body: "8"})
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(3)
	g := s.take(3)
	settle(t, c, Outcome{}, g[1])
	settle(t, c, Outcome{Kind: Release, Delay: time.Hour}, g[2])
	page := func(after Position, sel Selector, limit int) (seen []string, next Position, more bool) {
		next, more, err := v.Browse(t.Context(), after, sel, limit, func(_ int32, b record.Batch, states []State) error {
			var rd record.Reader
			must(t, rd.Reset(b, maxDecompressed))
			for i := 0; rd.Next(); i++ {
				seen = append(seen, fmt.Sprintf("%s:%d", rd.Record().Value, states[i]))
			}
			return rd.Err()
		})
		must(t, err)
		return seen, next, more
	}
	all, _, more := page(nil, nil, 100)
	if want := []string{"0:1", "2:2", "3:0", "4:0", "5:2", "6:0", "8:0"}; !slices.Equal(all, want) || more {
		t.Errorf("browsed %v %t, want %v", all, more, want)
	}
	one, next, more := page(nil, nil, 3)
	two, _, rest := page(next, nil, 100)
	if !slices.Equal(append(one, two...), all) || !more || rest || len(one) != 3 {
		t.Errorf("pages %v %v", one, two)
	}
	some, _, _ := page(nil, match(func(r *record.Record) bool { return string(r.Value) == "6" }), 10)
	if !slices.Equal(some, []string{"6:0"}) {
		t.Errorf("selected %v", some)
	}
	if st := v.Stats(); st.Acquired != 1 || st.Acknowledged != 1 {
		t.Errorf("a browser changed something: %+v", st)
	}
}

func TestPurgeMoveRedrive(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 100)...)
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(2)
	g := s.take(2)
	to := r.destination("other")
	did, err := v.Transfer(t.Context(), TransferOptions{
		Selector: match(func(r *record.Record) bool { return strings.HasSuffix(string(r.Value), "5") }),
		To:       func(*record.Record) (*destination.Destination, error) { return to, nil }, Max: 8,
	})
	must(t, err)
	if did.Messages != 8 || !did.More || did.Next[0] <= 75 || did.Next[0] > 85 {
		t.Errorf("moved %+v", did)
	}
	did, err = v.Transfer(t.Context(), TransferOptions{Selector: match(func(r *record.Record) bool { return len(r.Value) == 1 })})
	must(t, err)
	if did.Messages != 7 || did.More { // 0 and 1 are delivered, 5 has moved
		t.Errorf("purged %+v", did)
	}
	did, err = v.Transfer(t.Context(), TransferOptions{Max: 3})
	must(t, err)
	if did.Messages != 3 || !did.More {
		t.Errorf("purged %+v", did)
	}
	did, err = v.Transfer(t.Context(), TransferOptions{})
	must(t, err)
	if did.Messages != 100-2-8-7-3 {
		t.Errorf("purged the rest: %+v", did)
	}
	settle(t, c, Outcome{Kind: Reject}, g...)
	waitFor(t, func() bool { return v.Floor(0) == 100 })
	dlq := r.view(r.destination("DLQ.q"))
	defer dlq.Close()
	did, err = dlq.Transfer(t.Context(), TransferOptions{Redrive: true, To: func(r2 *record.Record) (*destination.Destination, error) {
		origin, _ := r2.Header(DeadLetterOrigin)
		return r.destination(string(origin)), nil
	}})
	must(t, err)
	c.Credit(10)
	g = s.take(2)
	wantBodies(t, "redriven", g, "0", "1")
	if did.Messages != 2 || g[0].count != 1 {
		t.Errorf("%+v redriven, count %d", did, g[0].count)
	}
	v3 := r.view(to)
	defer v3.Close()
	c3, s3 := consume(t, v3, ConsumerOptions{})
	c3.Credit(100)
	wantBodies(t, "moved", s3.take(8), "5", "15", "25", "35", "45", "55", "65", "75")
}

func TestSeekAndReopen(t *testing.T) {
	r := newRig(t)
	defer r.close()
	d := r.destination("q")
	v := r.view(d)
	put(t, v, numbered(0, 10)...)
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(6)
	g := s.take(6)
	settle(t, c, Outcome{}, g[0], g[1], g[4])
	w := newWaiter()
	must(t, v.Close())
	if s.closed == nil {
		t.Error("the sink was not told")
	}
	if err := v.Settle(c.holder, spans(g[2]), Outcome{}, w); !errors.Is(err, destination.ErrClosed) {
		t.Errorf("settle on a closed view: %v", err)
	}
	v = r.view(d)
	c, s = consume(t, v, ConsumerOptions{})
	c.Credit(100)
	g = s.take(7)
	wantBodies(t, "reopened", g, "2", "3", "5", "6", "7", "8", "9")
	if g[0].count != 2 || g[3].count != 1 {
		t.Errorf("counts %d %d", g[0].count, g[3].count)
	}
	w = newWaiter()
	must(t, v.Seek(Start{Kind: StartOffset, At: 8}, w))
	w.wait(t)
	wantBodies(t, "after the seek", s.take(2), "8", "9")
	if err := v.Settle(c.holder, spans(g[0]), Outcome{}, nil); !errors.Is(err, destination.ErrStaleToken) {
		t.Errorf("a token from before the seek: %v", err)
	}
	must(t, v.Drop())
}

func TestPartitions(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q", "partitions", "4"))
	defer v.Close()
	for i := range 100 {
		put(t, v, message{body: fmt.Sprint(i), key: fmt.Sprint(i)})
	}
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(1000)
	g := s.take(100)
	perPartition := map[int32]int{}
	for _, m := range g {
		perPartition[m.partition]++
	}
	if len(perPartition) != 4 {
		t.Errorf("partitions %v", perPartition)
	}
	settle(t, c, Outcome{}, g...)
	if st := v.Stats(); st.Acknowledged != 100 || st.Waiting != 0 {
		t.Errorf("stats %+v", st)
	}
}

// Nothing is read ahead for nobody, and what was is dropped after a while.
func TestWindowIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		v := r.view(r.destination("q"))
		defer v.Close()
		put(t, v, numbered(0, 500)...)
		c, s := consume(t, v, ConsumerOptions{})
		synctest.Wait()
		if n := v.Stats().WindowBytes; n != 0 {
			t.Errorf("%d bytes without credit", n)
		}
		c.Credit(3)
		s.take(3)
		synctest.Wait()
		if n := v.Stats().WindowBytes; n == 0 || n > windowBytes {
			t.Errorf("%d bytes in the window", n)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if n := v.Stats().WindowBytes; n != 0 {
			t.Errorf("%d bytes after a while", n)
		}
		c.Credit(1000)
		if g := s.take(497); g[0].body != "3" || g[496].body != "499" {
			t.Errorf("%s to %s", g[0].body, g[496].body)
		}
	})
}
