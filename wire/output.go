package wire

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// directBytes is up to how much is written without waking the writer, by
// whoever has something for the peer.
const directBytes = 16 << 10

// keepOutgoing is the largest buffer that is kept for the next frames; a
// larger one was for a rare burst.
const keepOutgoing = 1 << 20

// Output is a connection's outgoing side: one buffer that everybody appends
// frames to, between Begin and one of the Ends, and one that the writer goroutine
// is writing.
type Output struct {
	limit int
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
	pending []byte     // frames that wait for the writer
	asleep  bool       // the writer waits for wake
	stead   bool       // somebody writes in its stead
	choked  bool       // pending went over limit
	closed  bool       // nothing more is appended

	// Of who writes in the writer's stead.
	socket  syscall.RawConn // nil: it cannot be done
	write   func(fd uintptr) bool
	direct  []byte // is written
	written int    // of it
}

// Init makes o ready for a connection. Above limit, in bytes, the peer has fallen
// behind: then, and when it has caught up, choke is called without a lock, and Full
// tells which; it must not block. now is the connection's clock.
func (o *Output) Init(limit int, choke func(), conn net.Conn, now func() time.Duration) {
	o.limit, o.choke, o.now = limit, choke, now
	o.drained.L, o.wake.L = &o.mu, &o.mu
	if c, ok := conn.(syscall.Conn); ok && canTryWrite {
		o.socket, _ = c.SyscallConn()
	}
	o.write = func(fd uintptr) bool {
		o.written = tryWrite(fd, o.direct)
		return true // without waiting for room: what is left is the writer's
	}
}

// Begin locks the buffer and returns it to append to; false, and no lock, once the
// output is closed.
func (o *Output) Begin() (pending []byte, ok bool) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil, false
	}
	return o.pending, true
}

// End takes back the buffer that Begin gave. The writer is not woken.
func (o *Output) End(pending []byte) {
	o.pending = pending
	o.mu.Unlock()
}

// EndFlush is End, and wakes the writer.
func (o *Output) EndFlush(pending []byte) {
	o.pending = pending
	o.flushLocked()
	o.mu.Unlock()
}

// EndConfirms is EndFlush after confirmations, which the reader, if it is about to
// flush, flushes with the rest.
func (o *Output) EndConfirms(pending []byte) {
	o.pending = pending
	if !o.reader.Load() {
		o.flushLocked()
	}
	o.mu.Unlock()
}

// EndDelivery is End after a delivery: it wakes the writer only for much, and
// chokes a peer that has just fallen behind.
func (o *Output) EndDelivery(pending []byte) {
	o.pending = pending
	if len(o.pending) > directBytes {
		o.flushLocked()
	}
	before := o.choked
	o.choked = o.choked || len(o.pending) > o.limit
	fell := o.choked && !before
	o.mu.Unlock()
	if fell {
		o.choke()
	}
}

// Flush wakes the writer if there is something to write and it sleeps.
func (o *Output) Flush() {
	o.mu.Lock()
	o.flushLocked()
	o.mu.Unlock()
}

func (o *Output) flushLocked() {
	if o.asleep && !o.stead && len(o.pending) > 0 {
		o.asleep = false
		o.wake.Signal()
	}
}

// ReaderFlushes says that the reader is about to call FlushReader.
func (o *Output) ReaderFlushes() { o.reader.Store(true) }

// FlushReader is the flush of the reader, after ReaderFlushes.
func (o *Output) FlushReader() {
	o.reader.Store(false)
	o.FlushDirect()
}

// FlushDirect writes what is pending itself, if that is little and the socket
// takes it at once; else it is Flush.
func (o *Output) FlushDirect() {
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

// Room waits until the peer has read what is over the limit; false once the
// output is closed. The reader calls it before it reads more requests, so that
// a peer that asks and does not listen stops being served.
func (o *Output) Room() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) > o.limit && !o.closed {
		o.drained.Wait()
	}
	return !o.closed
}

// Full reports whether the consumers of this connection should get nothing.
func (o *Output) Full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.choked
}

// Behind reports whether the peer has more to read than the limit, or has gone.
func (o *Output) Behind() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed || len(o.pending) > o.limit
}

// Stuck is for how long the write that is under way has been, at now; 0 if none is.
func (o *Output) Stuck(now time.Duration) time.Duration {
	if since := o.writing.Load(); since != 0 {
		return now - time.Duration(since)
	}
	return 0
}

// Quiet is for how long nothing has been written, at now; 0 while something is.
func (o *Output) Quiet(now time.Duration) time.Duration {
	if o.writing.Load() != 0 {
		return 0
	}
	return now - time.Duration(o.wrote.Load())
}

// Close ends the output: what is pending is still written, nothing follows.
func (o *Output) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.asleep = false
	o.wake.Signal()
	o.drained.Broadcast()
}

// Run is the writer goroutine. It returns when the output is closed and all is
// written, or a write failed.
func (o *Output) Run(conn net.Conn) error {
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
func (o *Output) take(empty []byte) (out []byte, caughtUp bool) {
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

// Idle reports whether everything has been written.
func (o *Output) Idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.pending) == 0 && o.asleep && !o.stead
}
