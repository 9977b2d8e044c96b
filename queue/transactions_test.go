package queue

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// producer is a transactional one, on one partition.
type producer struct {
	t        testing.TB
	p        *destination.Partition
	id       int64
	sequence int32
}

func (p *producer) send(messages ...message) {
	p.t.Helper()
	var b record.Builder
	for i := range messages {
		messages[i].appendTo(&b, time.Now().UnixMilli())
	}
	b.SetProducer(p.id, 0, p.sequence, true)
	p.sequence += int32(len(messages))
	w := newWaiter()
	_, err := p.p.Produce(b.Batch(), false, w)
	must(p.t, err)
	w.wait(p.t)
}

func (p *producer) end(commit bool) {
	p.t.Helper()
	w := newWaiter()
	must(p.t, p.p.EndTransaction(p.id, 0, 0, commit, w))
	w.wait(p.t)
}

// TestTransactions shows that a view delivers past open transactions, what
// they sent when they have committed, and nothing of the others.
func TestTransactions(t *testing.T) {
	r := newRig(t)
	d := r.destination("q")
	v := r.view(d)
	c, s := consume(t, v, ConsumerOptions{})
	a, b := &producer{t: t, p: d.Partitions[0], id: 1}, &producer{t: t, p: d.Partitions[0], id: 2}
	put(t, v, texts("0")...)
	a.send(texts("a0", "a1")...)
	put(t, v, texts("1")...)
	b.send(texts("b0")...)
	a.send(texts("a2")...)
	put(t, v, texts("2")...)
	var all []got
	take := func(what string, want ...string) {
		t.Helper()
		g := drain(t, c, s, 100)
		wantBodies(t, what, g, want...)
		all = append(all, g...)
	}
	take("two are open", "0", "1", "2")
	if st := v.Stats(); st.Held != 4 {
		t.Errorf("%+v", st)
	}
	b.end(false)
	put(t, v, texts("3")...)
	take("one was aborted", "3")
	a.end(true)
	a.send(texts("a3")...)
	take("the other has committed", "a0", "a1", "a2")
	a.end(false)
	take("the next was aborted")
	settle(t, c, Outcome{}, all...)
	if floor, end := v.Floor(0), d.Partitions[0].End(); floor != end {
		t.Errorf("floor %d, end %d: %+v", floor, end, v.Stats())
	}
	must(t, v.Close())
	r.close()
}

// TestTransactionEndAhead shows that what was held back is delivered when its
// transaction has committed, though the end marker lies far behind a window
// that nobody empties; and in its place before the backlog.
func TestTransactionEndAhead(t *testing.T) {
	r := newRig(t)
	d := r.destination("q", "priority.window", "4")
	v := r.view(d)
	c, s := consume(t, v, ConsumerOptions{})
	a := &producer{t: t, p: d.Partitions[0], id: 1}
	a.send(texts("a0", "a1")...)
	for i := range 50 {
		put(t, v, texts(fmt.Sprint(i))...)
	}
	c.Credit(1)
	wantBodies(t, "past the open one", s.take(1), "0")
	a.end(true)
	c.Credit(3)
	wantBodies(t, "what has committed", s.take(3), "a0", "a1", "1")
	must(t, v.Close())
	r.close()
}

// TestTransactionsInOneReading has a lane come to the end of a transaction and
// to the next one of the same producer before the view has heard of either.
func TestTransactionsInOneReading(t *testing.T) {
	for _, commit := range []bool{true, false} {
		r := newRig(t)
		d := r.destination("q")
		v := r.view(d)
		c, s := consume(t, v, ConsumerOptions{})
		a := &producer{t: t, p: d.Partitions[0], id: 1}
		a.send(texts("a0", "a1")...)
		drain(t, c, s, 10)
		v.mu.Lock()
		a.end(commit)
		a.send(texts("a2")...)
		p := v.parts[0]
		p.stable, v.readLeft = p.p.Stable(), turnBytes
		p.sends.forget()
		p.shared.fill(v.now())
		if from, to := p.cursor.HeldSend(1); from != 3 || to != 4 {
			t.Errorf("held from %d to %d", from, to)
		}
		v.mu.Unlock()
		if commit {
			wantBodies(t, "the first", drain(t, c, s, 10), "a0", "a1")
		} else {
			wantBodies(t, "the first", drain(t, c, s, 10))
		}
		a.end(true)
		wantBodies(t, "the second", drain(t, c, s, 10), "a2")
		must(t, v.Close())
		r.close()
	}
}

// TestTransactionsEndedWhileClosed shows that a view finds out how what it
// holds back has ended meanwhile.
func TestTransactionsEndedWhileClosed(t *testing.T) {
	r := newRig(t)
	d := r.destination("q")
	v := r.view(d)
	c, s := consume(t, v, ConsumerOptions{})
	var producers []*producer
	for i := range 4 {
		p := &producer{t: t, p: d.Partitions[0], id: int64(i)}
		p.send(texts(fmt.Sprint("first of ", i))...)
		producers = append(producers, p)
	}
	put(t, v, texts("x")...)
	g := drain(t, c, s, 10)
	wantBodies(t, "past four", g, "x")
	settle(t, c, Outcome{}, g...)
	must(t, v.Close())
	producers[0].end(true)
	producers[1].end(false)
	producers[2].end(true) // and begins another
	producers[2].send(texts("second of 2")...)
	r.close()

	r = openRig(t, r.fs)
	d = r.destination("q")
	v = r.view(d)
	c, s = consume(t, v, ConsumerOptions{})
	wantBodies(t, "after the restart", drain(t, c, s, 10), "first of 0", "first of 2")
	for _, i := range []int{2, 3} {
		producers[i].p = d.Partitions[0]
		producers[i].end(true)
	}
	wantBodies(t, "the others", drain(t, c, s, 10), "first of 3", "second of 2")
	must(t, v.Close())
	r.close()
}

// TestTransactionsAndTheRest shows that what a transaction lets go is for
// those whom its selector, priority, group and time are for.
func TestTransactionsAndTheRest(t *testing.T) {
	r := newRig(t)
	d := r.destination("q", "priority.window", "100")
	v := r.view(d)
	odd, o := consume(t, v, ConsumerOptions{Selector: match(func(r *record.Record) bool { return r.Value[len(r.Value)-1]%2 == 1 })})
	all, s := consume(t, v, ConsumerOptions{})
	a := &producer{t: t, p: d.Partitions[0], id: 1}
	put(t, v, message{body: "g0", key: "g", grouped: true})
	first := drain(t, all, s, 10)
	wantBodies(t, "the group's first", first, "g0")
	a.send(message{body: "low 2", priority: 1}, message{body: "high 2", priority: 9}, message{body: "1"},
		message{body: "g2", key: "g", grouped: true}, message{body: "late 2", due: time.Now().Add(time.Hour).UnixMilli()})
	put(t, v, texts("3", "4")...)
	wantBodies(t, "to the selector", drain(t, odd, o, 10), "3")
	wantBodies(t, "to the others", drain(t, all, s, 10), "4")
	a.end(true)
	wantBodies(t, "to the selector", drain(t, odd, o, 10), "1")
	wantBodies(t, "to the others", drain(t, all, s, 10), "high 2", "g2", "low 2")
	if st := v.Stats(); st.Scheduled != 1 || st.Held != 0 {
		t.Errorf("%+v", st)
	}
	must(t, v.Close())
	r.close()
}

// TestTransactionsUnread shows that browsing, moving and purging see what has
// committed, and nothing else, also where nobody has read yet.
func TestTransactionsUnread(t *testing.T) {
	r := newRig(t)
	d, other := r.destination("q"), r.destination("other")
	v := r.view(d)
	p := d.Partitions[0]
	open, committed, aborted := &producer{t: t, p: p, id: 1}, &producer{t: t, p: p, id: 2}, &producer{t: t, p: p, id: 3}
	fill := func() {
		put(t, v, texts("plain")...)
		aborted.send(texts("aborted")...)
		committed.send(texts("committed")...)
		aborted.end(false)
		open.send(texts("open")...)
		aborted.send(texts("aborted")...)
		committed.send(texts("committed")...)
		aborted.end(false)
		committed.end(true)
		put(t, v, texts("plain")...)
	}
	browse := func(want ...string) {
		t.Helper()
		var have []got
		_, _, err := v.Browse(context.Background(), nil, nil, 100, func(_ int32, b record.Batch, states []State) error {
			var r record.Reader
			must(t, r.Reset(b, maxDecompressed))
			for i := 0; r.Next(); i++ {
				if states[i] == Available { // a move may not have ended yet
					have = append(have, got{body: string(r.Record().Value)})
				}
			}
			return nil
		})
		must(t, err)
		wantBodies(t, "browsed", have, want...)
	}
	fill()
	browse("plain", "committed", "committed", "plain")
	did, err := v.Transfer(context.Background(), TransferOptions{To: func(*record.Record) (*destination.Destination, error) { return other, nil }})
	if err != nil || did.Messages != 4 {
		t.Errorf("moved %+v, %v", did, err)
	}
	browse()
	open.end(true)
	browse("open")
	fill()
	if did, err := v.Transfer(context.Background(), TransferOptions{Max: 3}); err != nil || did.Messages != 3 {
		t.Errorf("purged %+v, %v", did, err)
	}
	open.end(false)
	c, s := consume(t, v, ConsumerOptions{})
	rest := drain(t, c, s, 100)
	for _, g := range rest {
		if g.body != "plain" && g.body != "committed" {
			t.Errorf("delivered %q", g.body)
		}
	}
	to, err := OpenView(other, "", Start{}, r.deps)
	must(t, err)
	c, s = consume(t, to, ConsumerOptions{})
	wantBodies(t, "moved", drain(t, c, s, 100), "plain", "committed", "committed", "plain")
	must(t, to.Close())
	must(t, v.Close())
	r.close()
}
