package server

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/wire/native"
)

// keepOutgoing is the largest buffer that is kept for the next frames; a
// larger one was for a rare burst.
const keepOutgoing = 1 << 20

// output is a connection's outgoing side: one buffer that everybody appends
// frames to, and one that the writer goroutine is writing.
type output struct {
	limit int
	// choke is called without mu when the peer has fallen behind the limit, or
	// has caught up, which full tells; it must not block.
	choke func()

	// writing is when the write that is under way began, in ns on the
	// connection's clock, or 0; wrote is when the last one ended.
	writing, wrote atomic.Int64

	mu      sync.Mutex // guards what follows; nothing is called under it
	drained sync.Cond  // pending is below half of limit again, or closed
	wake    sync.Cond  // there is something to write, or closed
	encoder *native.Encoder
	pending []byte // frames that wait for the writer
	asleep  bool   // the writer waits for wake
	choked  bool   // pending went over limit
	closed  bool   // nothing more is appended

	// The frames of the hot path, reused: what is passed to the encoder
	// through an interface would otherwise be allocated each time.
	confirm native.Confirm
	ok      native.OK
	deliver native.Deliver
	counts  []byte
}

func newOutput(limit int, choke func()) *output {
	o := &output{limit: limit, choke: choke, encoder: native.NewEncoder()}
	o.drained.L, o.wake.L = &o.mu, &o.mu
	return o
}

// append appends one frame. The writer is not woken: flush does that.
func (o *output) append(f native.Frame, payload []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.pending = o.encoder.Append(o.pending, f, payload)
	}
}

// fail appends a Fail.
func (o *output) fail(request uint64, err error) {
	o.append(&native.Fail{Request: request, Error: refusal(err)}, nil)
}

// flush wakes the writer if there is something to write and it sleeps.
func (o *output) flush() {
	o.mu.Lock()
	o.flushLocked()
	o.mu.Unlock()
}

func (o *output) flushLocked() {
	if o.asleep && len(o.pending) > 0 {
		o.asleep = false
		o.wake.Signal()
	}
}

// deliverBatch appends a Deliver and wakes the writer. It is called under a
// view's lock.
func (o *output) deliverBatch(consumer uint64, d queue.Delivery) {
	if o.appendDelivery(consumer, d) {
		o.choke()
	}
}

// appendDelivery reports whether the peer has just fallen behind.
func (o *output) appendDelivery(consumer uint64, d queue.Delivery) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.counts = o.counts[:0]
	for _, n := range d.Counts {
		o.counts = append(o.counts, byte(n>>8), byte(n))
	}
	o.deliver = native.Deliver{
		Consumer: consumer, Partition: uint64(d.Partition), FirstAcquisition: d.FirstAcquisition, Counts: o.counts,
	}
	o.pending = o.encoder.Append(o.pending, &o.deliver, d.Batch)
	o.flushLocked()
	before := o.choked
	o.choked = o.choked || len(o.pending) > o.limit
	return o.choked && !before
}

// room waits until the peer has read what is over the limit; false once the
// output is closed. The reader calls it before it reads more requests, so that
// a peer that asks and does not listen stops being served.
func (o *output) room() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) > o.limit && !o.closed {
		o.drained.Wait()
	}
	return !o.closed
}

// full reports whether the consumers of this connection should get nothing.
func (o *output) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.choked
}

// close ends the output: what is pending is still written, nothing follows.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.asleep = false
	o.wake.Signal()
	o.drained.Broadcast()
}

// run is the writer goroutine. It returns when the output is closed and all is
// written, or a write failed.
func (o *output) run(conn net.Conn, now func() time.Duration) error {
	var spare []byte
	for {
		out, caughtUp := o.take(spare)
		if caughtUp {
			o.choke()
		}
		if out == nil {
			return nil
		}
		o.writing.Store(int64(now()))
		_, err := conn.Write(out)
		o.wrote.Store(int64(now()))
		o.writing.Store(0)
		if err != nil {
			return err
		}
		if spare = out[:0]; cap(spare) > keepOutgoing {
			spare = nil
		}
	}
}

// take waits for frames and swaps them for an empty buffer; nil when the
// output is closed and there are none. What has been taken has been read by
// the peer before the next is taken, so that much is let through again: the
// limit is on each of the two buffers.
func (o *output) take(empty []byte) (out []byte, caughtUp bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) == 0 && !o.closed {
		o.asleep = true
		o.wake.Wait()
	}
	o.asleep = false
	if len(o.pending) == 0 {
		return nil, false
	}
	out, o.pending = o.pending, empty
	caughtUp, o.choked = o.choked, false
	o.drained.Broadcast()
	return out, caughtUp
}

// idle reports whether everything has been written.
func (o *output) idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.pending) == 0 && o.asleep
}
