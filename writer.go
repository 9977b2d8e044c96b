package polylog

import (
	"errors"
	"net"

	"github.com/polylog-mq/polylog/wire/native"
)

// copied is the size in bytes up to which a batch is copied behind its header;
// larger ones are handed to the socket as they are.
const copied = 8 << 10

// writing is what the writer gathers for one write, and the memory for it.
type writing struct {
	encoder *native.Encoder
	spare   []byte // swapped with link.out

	control     []byte
	lanes       []*lane
	consumers   []*consumer
	batches     []*batch
	handles     []uint64
	settlements []*settlement
	requests    []uint64

	buf    []byte      // headers and whatever is small
	from   int         // the part of buf that is in no piece yet
	pieces net.Buffers // what is written
	keep   net.Buffers // pieces again: writing consumes it
	size   int64
	starts []int64 // where each batch begins in the write
}

// write writes what gathers until the link breaks.
func (l *link) write() {
	w := &writing{encoder: native.NewEncoder()}
	for l.gather(w) {
		if err := l.writeOnce(w); err != nil {
			l.fail(err)
			return
		}
		l.writes.Add(1)
	}
}

// gather waits for work and takes all of it: control frames first, then
// settlements, which free room at the broker, then sends.
func (l *link) gather(w *writing) bool {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for l.err == nil && len(l.out) == 0 && !l.leaving && !(l.established && (len(c.ready) > 0 || len(c.dirty) > 0)) {
		l.wake.Wait()
	}
	if l.err != nil {
		return false
	}
	w.control, l.out, w.spare = l.out, w.spare[:0], l.out
	w.lanes, w.consumers = w.lanes[:0], w.consumers[:0]
	if l.established && !l.leaving {
		w.lanes, c.ready = c.ready, w.lanes
		w.consumers, c.dirty = c.dirty, w.consumers
	}
	return true
}

// writeOnce writes what was gathered. Without any, the link is leaving.
func (l *link) writeOnce(w *writing) error {
	if len(w.control)+len(w.lanes)+len(w.consumers) == 0 {
		return closedError("the connection is closed")
	}
	w.batches, w.handles, w.settlements = w.batches[:0], w.handles[:0], w.settlements[:0]
	for _, c := range w.consumers {
		w.settlements = c.takeSettlements(w.settlements)
	}
	for _, lane := range w.lanes {
		handle, ok := lane.destination.handle(l, lane)
		if !ok {
			continue // parked until the broker has answered
		}
		w.batches = lane.take(w.batches)
		for len(w.handles) < len(w.batches) {
			w.handles = append(w.handles, handle)
		}
	}
	clear(w.lanes)
	clear(w.consumers)
	l.number(w)
	w.compose()
	err := w.flush(l.conn)
	clear(w.batches)
	clear(w.settlements)
	return err
}

// number registers the requests before they can be answered. If the link has
// broken meanwhile they are found there, marked as not written.
func (l *link) number(w *writing) {
	w.requests = w.requests[:0]
	l.c.mu.Lock()
	for _, t := range w.settlements {
		w.requests = append(w.requests, l.register(t))
	}
	for _, b := range w.batches {
		w.requests = append(w.requests, l.register(b))
	}
	l.c.mu.Unlock()
}

// compose lays the frames out.
func (w *writing) compose() {
	w.buf, w.from, w.pieces, w.size, w.starts = w.buf[:0], 0, w.keep[:0], 0, w.starts[:0]
	w.buf = append(w.buf, w.control...)
	for i, t := range w.settlements {
		t.compact()
		w.buf = w.encoder.Append(w.buf, &native.Settle{
			Request: w.requests[i], Consumer: t.consumer.number, Kind: t.kind,
			DelayMS: t.delayMS, Uncounted: t.uncounted, Awaited: t.awaited, Reason: t.reason, Spans: t.spans,
		}, nil)
	}
	requests := w.requests[len(w.settlements):]
	var f native.Send
	for i, b := range w.batches {
		w.starts = append(w.starts, w.size+int64(len(w.buf)-w.from))
		b.written = true
		f = native.Send{Request: requests[i], Session: b.lane.sends.s.number, Handle: w.handles[i], Partition: uint64(b.lane.partition), Unsynced: b.lane.unsynced}
		payload := b.builder.Batch()
		w.buf = w.encoder.AppendHeader(w.buf, &f, len(payload))
		if len(payload) <= copied {
			w.buf = append(w.buf, payload...)
			continue
		}
		w.cut()
		w.pieces = append(w.pieces, payload)
		w.size += int64(len(payload))
	}
	w.cut()
	w.keep = w.pieces
}

// cut makes a piece of what was appended to buf. Pieces stay valid when buf
// moves: the bytes they have are not written again.
func (w *writing) cut() {
	if piece := w.buf[w.from:]; len(piece) > 0 {
		w.pieces = append(w.pieces, piece)
		w.size += int64(len(piece))
	}
	w.from = len(w.buf)
}

// flush writes. If that fails, the batches that it did not reach have not been
// written.
func (w *writing) flush(conn net.Conn) error {
	n, err := w.pieces.WriteTo(conn)
	clear(w.keep)
	if err == nil {
		return nil
	}
	for i, b := range w.batches {
		if w.starts[i] >= n {
			b.written = false
		}
	}
	return errors.Join(errBroken, err)
}
