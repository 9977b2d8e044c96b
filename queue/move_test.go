package queue

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// Q6 when the commit of a dead letter is refused: the message stays and leaves
// later, and what is settled meanwhile is journaled only when it is known
// whether the message has left.
func TestMoveRefused(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	put(t, v, numbered(0, 3)...)
	c, s := consume(t, v, ConsumerOptions{})
	c.Credit(3)
	g := s.take(3)
	r.destination("DLQ.q")

	gate := make(chan struct{})
	_, _, err := v.Put(nil, 0, oneBatch(), gatekeeper(gate)) // holds the committer up
	must(t, err)
	writes := 0
	waitFor(t, func() bool { return v.parts[0].p.Stable() == 4 })
	r.fs.Inject(func(op commitlog.Op, name string) error {
		if op == commitlog.OpWrite && strings.HasPrefix(name, "journal/") {
			if writes++; writes == 1 {
				return syscall.ENOSPC
			}
		}
		return nil
	})
	rejected, acknowledged := newWaiter(), newWaiter()
	must(t, v.Settle(c.holder, spans(g[1]), Outcome{Kind: Reject}, rejected))
	waitFor(t, func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.parts[0].moving != nil
	})
	must(t, v.Settle(c.holder, spans(g[0]), Outcome{}, acknowledged))
	if st := v.Stats(); st.Held != 1 || st.Moving != 1 {
		t.Errorf("while it moves: %+v", st)
	}
	v.mu.Lock()
	if n := len(v.parts[0].deferred); n != 1 {
		t.Errorf("%d settlements wait for the move", n)
	}
	v.mu.Unlock()
	close(gate)
	if err := <-rejected; !errors.Is(err, commitlog.ErrFull) {
		t.Errorf("rejection: %v", err)
	}
	acknowledged.wait(t)
	waitFor(t, func() bool { return v.Stats().DeadLettered == 1 })
	deadLetters(t, r, "DLQ.q", 1)
	if st := v.Stats(); st.Acknowledged != 1 || st.Acquired != 1 || st.Moving+st.Held != 0 {
		t.Errorf("in the end: %+v", st)
	}
}

// gatekeeper is a waiter that blocks the committer, as none but a test may.
type gatekeeper chan struct{}

func (g gatekeeper) Committed(error) { <-g }

func oneBatch() record.Batch {
	var b record.Builder
	(&message{body: "held up"}).appendTo(&b, 0)
	return b.Batch()
}

// What the hot path allocates for 1,024 messages is a fraction of an
// allocation for each.
func TestAllocations(t *testing.T) {
	r := newRig(t)
	v := r.view(r.destination("q"))
	defer r.store.Close()
	defer r.state.Close()
	defer v.Close()
	for range 16 {
		put(t, v, numbered(0, 1024)...)
	}
	r.work.Close()
	l := &loop{}
	c, err := v.Consume(ConsumerOptions{Holder: 1}, l)
	must(t, err)
	n := testing.AllocsPerRun(12, func() {
		c.Credit(1024)
		v.run()
		must(t, v.Settle(1, l.spans, Outcome{}, nil))
		l.spans = l.spans[:0]
	})
	if n > 100 {
		t.Errorf("%v allocations for 1,024 messages", n)
	}
}
