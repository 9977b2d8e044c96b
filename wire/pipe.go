package wire

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	pipeNetwork = "memory"
	// pipeBytes is what each direction of a Pipe holds before a write waits.
	pipeBytes = 256 << 10
)

// Pipe returns the two ends of a connection within this process. Unlike
// net.Pipe's, its writes return when the bytes are buffered, up to 256 KiB in
// each direction, as a socket's do: no rendezvous with the reader.
func Pipe() (net.Conn, net.Conn) {
	a, b := newStream(), newStream()
	return &pipeEnd{in: a, out: b}, &pipeEnd{in: b, out: a}
}

type pipeEnd struct{ in, out *stream }

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.in.read(b) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.out.write(b) }

// Close ends both directions. The peer still reads what was written, then
// io.EOF.
func (p *pipeEnd) Close() error {
	p.in.closeReader()
	p.out.closeWriter()
	return nil
}

func (p *pipeEnd) LocalAddr() net.Addr  { return pipeAddr{} }
func (p *pipeEnd) RemoteAddr() net.Addr { return pipeAddr{} }

func (p *pipeEnd) SetDeadline(t time.Time) error {
	p.in.readDeadline.set(p.in, t)
	p.out.writeDeadline.set(p.out, t)
	return nil
}

func (p *pipeEnd) SetReadDeadline(t time.Time) error {
	p.in.readDeadline.set(p.in, t)
	return nil
}

func (p *pipeEnd) SetWriteDeadline(t time.Time) error {
	p.out.writeDeadline.set(p.out, t)
	return nil
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return pipeNetwork }
func (pipeAddr) String() string  { return pipeNetwork }

// stream is one direction: a ring of bytes.
type stream struct {
	mu            sync.Mutex // guards what follows
	readable      sync.Cond  // something was written, or ended, or a deadline passed
	writable      sync.Cond
	ring          []byte
	head, count   int
	writerClosed  bool
	readerClosed  bool
	readDeadline  deadline
	writeDeadline deadline
}

func newStream() *stream {
	s := &stream{}
	s.readable.L, s.writable.L = &s.mu, &s.mu
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readerClosed:
			return 0, net.ErrClosed
		case s.readDeadline.passed:
			return 0, os.ErrDeadlineExceeded
		case s.count > 0 || len(b) == 0:
			n := s.take(b)
			s.writable.Signal()
			return n, nil
		case s.writerClosed:
			return 0, io.EOF
		}
		s.readable.Wait()
	}
}

func (s *stream) write(b []byte) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writerClosed:
			return written, net.ErrClosed
		case s.readerClosed:
			return written, io.ErrClosedPipe
		case s.writeDeadline.passed:
			return written, os.ErrDeadlineExceeded
		}
		written += s.put(b[written:])
		s.readable.Signal()
		if written == len(b) {
			return written, nil
		}
		s.writable.Wait()
	}
}

func (s *stream) take(b []byte) int {
	n := min(len(b), s.count)
	first := copy(b[:n], s.ring[s.head:])
	copy(b[first:n], s.ring)
	s.head, s.count = (s.head+n)%max(len(s.ring), 1), s.count-n
	if s.count == 0 {
		s.head = 0 // so that most copies stay whole
	}
	return n
}

func (s *stream) put(b []byte) int {
	s.grow(s.count + len(b))
	n := min(len(b), len(s.ring)-s.count)
	tail := (s.head + s.count) % len(s.ring)
	first := copy(s.ring[tail:], b[:n])
	copy(s.ring, b[first:n])
	s.count += n
	return n
}

// grow makes the ring hold n bytes, at most pipeBytes: an idle connection
// costs little.
func (s *stream) grow(n int) {
	size := max(len(s.ring), 4<<10)
	for size < min(n, pipeBytes) {
		size *= 2
	}
	if size == len(s.ring) {
		return
	}
	ring, count := make([]byte, size), s.count
	s.take(ring)
	s.ring, s.head, s.count = ring, 0, count
}

func (s *stream) closeReader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readerClosed = true
	s.readDeadline.stop()
	s.wake()
}

func (s *stream) closeWriter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writerClosed = true
	s.writeDeadline.stop()
	s.wake()
}

func (s *stream) wake() {
	s.readable.Broadcast()
	s.writable.Broadcast()
}

// deadline is guarded by its stream's mu.
type deadline struct {
	passed bool
	timer  *time.Timer
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadline) set(s *stream, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.passed = false
	if t.IsZero() || s.readerClosed || s.writerClosed {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		s.wake()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.timer == timer { // else it was set anew meanwhile
			d.passed = true
			s.wake()
		}
	})
	d.timer = timer
}
