package server

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/wire/native"
)

// directBytes is up to how much is written without waking the writer, by
// whoever has something for the peer.
const directBytes = 16 << 10

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
	now   func() time.Duration

	// reader says that the connection's reader is about to flush, so that
	// confirmations need not.
	reader atomic.Bool

	// writing is when the write that is under way began, in ns on the
	// connection's clock, or 0; wrote is when the last one ended.
	writing, wrote atomic.Int64

	mu      sync.Mutex // guards what follows; nothing is called under it
	drained sync.Cond  // pending is below half of limit again, or closed
	wake    sync.Cond  // there is something to write, or closed
	encoder *native.Encoder
	pending []byte // frames that wait for the writer
	asleep  bool   // the writer waits for wake
	stead   bool   // somebody writes in its stead
	choked  bool   // pending went over limit
	closed  bool   // nothing more is appended

	// The frames of the hot path, reused: what is passed to the encoder
	// through an interface would otherwise be allocated each time.
	confirm native.Confirm
	ok      native.OK
	deliver native.Deliver
	counts  []byte

	// Of who writes in the writer's stead.
	socket  syscall.RawConn // nil: it cannot be done
	write   func(fd uintptr) bool
	direct  []byte // is written
	written int    // of it
}

func newOutput(limit int, choke func(), conn net.Conn, now func() time.Duration) *output {
	o := &output{limit: limit, choke: choke, now: now, encoder: native.NewEncoder()}
	o.drained.L, o.wake.L = &o.mu, &o.mu
	if c, ok := conn.(syscall.Conn); ok && canTryWrite {
		o.socket, _ = c.SyscallConn()
	}
	o.write = func(fd uintptr) bool {
		o.written = tryWrite(fd, o.direct)
		return true // without waiting for room: what is left is the writer's
	}
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
	if o.asleep && !o.stead && len(o.pending) > 0 {
		o.asleep = false
		o.wake.Signal()
	}
}

// flushConfirms is flushLocked after confirmations.
func (o *output) flushConfirms() {
	if !o.reader.Load() {
		o.flushLocked()
	}
}

// flushReader is the flush of the reader, after it has set reader.
func (o *output) flushReader() {
	o.reader.Store(false)
	o.flushDirect()
}

// flushDirect writes what is pending itself, if that is little and the socket
// takes it at once; else it is flush.
func (o *output) flushDirect() {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.pending)
	if !o.asleep || o.stead || n == 0 || n > min(directBytes, o.limit) || o.socket == nil {
		o.flushLocked()
		return
	}
	o.stead = true
	o.direct, o.pending = o.pending, o.direct[:0]
	o.mu.Unlock()
	o.written = 0
	_ = o.socket.Write(o.write) // with an error nothing is written, and the writer meets it
	o.wrote.Store(int64(o.now()))
	o.mu.Lock()
	if rest := o.direct[o.written:]; len(rest) > 0 {
		o.pending = append(bytes.Clone(rest), o.pending...)
	}
	if o.stead = false; len(o.pending) > 0 || o.closed {
		o.asleep = false
		o.wake.Signal()
	}
}

// deliverBatch appends a Deliver, and wakes the writer only for much. It is
// called under a view's lock.
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
	if len(o.pending) > directBytes {
		o.flushLocked()
	}
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

// behind reports whether the peer has more to read than the limit, or has gone.
func (o *output) behind() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed || len(o.pending) > o.limit
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
func (o *output) run(conn net.Conn) error {
	var spare []byte
	for {
		out, caughtUp := o.take(spare)
		if caughtUp {
			o.choke()
		}
		if out == nil {
			return nil
		}
		o.writing.Store(int64(o.now()))
		_, err := conn.Write(out)
		o.wrote.Store(int64(o.now()))
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
	for len(o.pending) == 0 && !o.closed || o.stead {
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
	return len(o.pending) == 0 && o.asleep && !o.stead
}
