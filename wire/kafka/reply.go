package kafka

import (
	"encoding/binary"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// replies are what a connection still has to answer, in the order of its
// requests. Whoever completes a reply wakes the writer, if it is the first.
type replies struct {
	conn net.Conn

	mu     sync.Mutex // guards what follows; innermost
	work   sync.Cond  // the first reply is complete, or closed is set
	room   sync.Cond  // fewer than maxPipelined wait
	queue  []*reply
	closed bool
	failed bool // the peer does not read any more
}

func newReplies(conn net.Conn) *replies {
	r := &replies{conn: conn}
	r.work.L, r.room.L = &r.mu, &r.mu
	return r
}

// reply is the place of one answer.
type reply struct {
	owner       *replies
	correlation int32
	version     int16
	key         int16
	response    encoder
	complete    bool
}

// encoder is a response: kmsg's, or one that is encoded by hand.
type encoder interface {
	AppendTo(dst []byte) []byte
	IsFlexible() bool
}

// segmented is a response whose bytes lie in several places.
type segmented interface {
	encoder
	// segments returns the response after its header; release gives the memory back.
	segments() net.Buffers
	release()
}

// add makes the place of the next answer; it waits while there are too many.
func (r *replies) add(correlation int32, version, key int16) *reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) >= maxPipelined && !r.closed && !r.failed {
		r.room.Wait()
	}
	a := &reply{owner: r, correlation: correlation, version: version, key: key}
	r.queue = append(r.queue, a)
	return a
}

// done completes a reply. It may be called by any goroutine, once, and does not
// block.
func (a *reply) done(response encoder) {
	r := a.owner
	r.mu.Lock()
	defer r.mu.Unlock()
	a.response, a.complete = response, true
	if len(r.queue) > 0 && r.queue[0] == a {
		r.work.Signal()
	}
}

// close lets the writer end when all is answered that can be.
func (r *replies) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.work.Signal()
	r.room.Signal()
}

// write sends replies until the connection is closed and all are sent, or the
// peer is gone. Replies that are complete together leave together.
func (r *replies) write() {
	var out []byte
	var ready []*reply
	for {
		if ready = r.take(ready[:0]); len(ready) == 0 {
			return
		}
		out = out[:0]
		var err error
		for _, a := range ready {
			s, ok := a.response.(segmented)
			if !ok {
				out = a.appendTo(out)
				continue
			}
			if err == nil {
				err = r.send(out, a, s)
			}
			s.release()
			out = out[:0]
		}
		if err == nil && len(out) > 0 {
			_, err = r.conn.Write(out)
		}
		if err != nil {
			r.fail()
			return
		}
		if cap(out) > 1<<20 {
			out = nil
		}
		clear(ready)
	}
}

// take waits for replies that are complete, and takes them from the queue.
func (r *replies) take(ready []*reply) []*reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		n := 0
		for n < len(r.queue) && r.queue[n].complete {
			n++
		}
		if n > 0 {
			ready = append(ready, r.queue[:n]...)
			rest := copy(r.queue, r.queue[n:])
			clear(r.queue[rest:])
			r.queue = r.queue[:rest]
			r.room.Signal()
			return ready
		}
		if r.closed && len(r.queue) == 0 {
			return nil
		}
		r.work.Wait()
	}
}

// fail drops what comes: the peer is gone.
func (r *replies) fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	r.room.Signal()
	for _, a := range r.queue {
		if s, ok := a.response.(segmented); ok {
			s.release()
		}
	}
	r.queue = nil
}

// header is the response header; ApiVersions has never a flexible one (KIP-511).
func (a *reply) header(dst []byte, size int) []byte {
	flexible := a.response.IsFlexible() && a.key != apiVersionsKey
	if flexible {
		size++
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(size+4))
	dst = binary.BigEndian.AppendUint32(dst, uint32(a.correlation))
	if flexible {
		dst = append(dst, 0)
	}
	return dst
}

// appendTo encodes the whole reply.
func (a *reply) appendTo(dst []byte) []byte {
	if k, ok := a.response.(kmsg.Response); ok {
		k.SetVersion(a.version)
	}
	at := len(dst)
	dst = a.header(dst, 0)
	dst = a.response.AppendTo(dst)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// send writes what is in front, and then a reply in several places.
func (r *replies) send(front []byte, a *reply, s segmented) error {
	parts := s.segments()
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	all := make(net.Buffers, 0, len(parts)+1)
	all = append(all, a.header(front, size))
	all = append(all, parts...)
	_, err := all.WriteTo(r.conn)
	return err
}
