package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
)

// connection is one peer. Its goroutines are the reader, which runs run and
// owns the fields of its group without a lock; the writer, which is
// Output.Run; lanes while they have requests; and one for each Fetch that waits.
type connection struct {
	server *Server
	conn   net.Conn
	out    *output

	// reading is when the read that is under way began, in ns on the
	// connection's clock, or 0 while frames are handled.
	reading  atomic.Int64
	pings    atomic.Uint64
	underWay atomic.Int64 // requests, sends and settlements not yet answered
	draining atomic.Bool
	// tooLargeAtOnce: a log has refused a gathered append as a whole.
	tooLargeAtOnce atomic.Bool

	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc

	// Of the reader.
	frames  *native.Reader
	decoder *native.Decoder
	in      frames
	sends   sendGather
	settles settleGather
	flushed func()                           // out.FlushReader
	holding bool                             // the broker is held
	awaited bool                             // somebody waits for something that came since
	blocked map[*destination.Partition]*lane // of sends that wait for room

	ordered, administration, throttle lane

	blockedNow atomic.Int64 // bytes of the sends that wait for room

	fetching sync.WaitGroup // the Fetches that wait, and the branches that end
	fetches  atomic.Int32   // how many they are
	endings  atomic.Int32   // how many these are

	handles handles
	watch   *watch // nil before Hello

	mu        sync.Mutex          // guards what follows; the reader alone sets state
	state     *session.Connection // nil before Hello
	sessions  map[uint64]*session.Session
	consumers map[uint64]*consumer
}

// frames are those of the hot path, decoded into again and again.
type frames struct {
	send   native.Send
	credit native.Credit
	settle native.Settle
	ping   native.Ping
	pong   native.Pong
}

func newConnection(s *Server, conn net.Conn) *connection {
	c := &connection{
		server: s, conn: conn, decoder: native.NewDecoder(),
		sessions: map[uint64]*session.Session{}, consumers: map[uint64]*consumer{},
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.frames = native.NewReader(source{c}, native.MaxHelloFrame)
	c.out = newOutput(s.options.MaxOutgoing, c.choke, conn, c.now)
	c.flushed = c.out.FlushReader
	c.ordered.init(c, s.options.MaxRequests)
	c.administration.init(c, s.options.MaxRequests)
	c.throttle.init(c, 0)
	return c
}

// now is the connection's clock: since the server's start, so that a step of
// the wall clock kills nobody (reliability S5). It is never 0.
func (c *connection) now() time.Duration { return time.Since(c.server.started) + 1 }

// source is the connection as the frames' reader sees it. A read is where the
// frames that had arrived are all handled, so what they left to do is done
// here: that, and not a look into the buffer, is the rhythm of coalescing.
type source struct{ c *connection }

func (s source) Read(p []byte) (int, error) {
	c := s.c
	c.endPass()
	if !c.out.Room() {
		return 0, net.ErrClosed
	}
	c.reading.Store(int64(c.now()))
	n, err := c.conn.Read(p)
	c.reading.Store(0)
	return n, err
}

// endPass appends what was gathered and has the answers written.
func (c *connection) endPass() {
	c.sends.flush(c)
	c.settles.flush(c)
	if !c.holding {
		c.out.FlushDirect()
		return
	}
	c.out.ReaderFlushes()
	mayWait := !c.awaited
	c.holding, c.awaited = false, false
	c.server.broker.Release(mayWait, c.flushed)
}

// hold keeps what is sent and settled from now on for the end of the pass.
func (c *connection) hold(awaited bool) {
	c.awaited = c.awaited || awaited
	if !c.holding {
		c.holding = true
		c.server.broker.Hold()
	}
}

// run serves the connection until it ends.
func (c *connection) run(t *wire.Ticket) {
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := c.out.Run(c.conn); err != nil {
			c.kill(err)
		}
	})
	err := c.handshake(t)
	if err == nil {
		t.Authenticated()
		err = c.serve()
	}
	c.end(err)
	writer.Wait()
	if err != nil && !gone(err) {
		c.linger()
	}
}

// linger lets the peer read the last Fail: closing a socket that has unread
// input resets it, and the peer may lose what was written last.
func (c *connection) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.conn, lingerBytes)
}

// What a peer that is being cut off may still send unread.
const (
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 1 << 20
)

// serve handles frames until the peer leaves or breaks the protocol.
func (c *connection) serve() error {
	defer c.endPass() // what came before the end counts
	for {
		typ, body, err := c.frames.Next()
		if err != nil {
			return err
		}
		if typ == native.TypeBye {
			return nil
		}
		if err := c.handle(typ, body); err != nil {
			return err
		}
	}
}

// kill ends the connection from outside the reader, at once.
func (c *connection) kill(why error) {
	c.cancel(why)
	c.out.Close()
	c.conn.Close()
}

// farewell bounds how long the last frames may take to be written.
const farewell = time.Second

// end tells the peer why, if it broke something, and releases everything: in
// this order, because the release may wait for others.
func (c *connection) end(err error) {
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	c.log(err)
	if err != nil && !gone(err) {
		c.out.fail(0, err)
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(farewell))
	c.out.Close()
	if c.watch != nil {
		c.watch.stop()
	}
	c.cancel(session.ErrClosed)
	c.ordered.Close()
	c.administration.Close()
	c.throttle.Close()
	for _, l := range c.blocked {
		l.Close()
	}
	c.fetching.Wait()
	if c.state != nil {
		if err := c.state.Close(context.WithoutCancel(c.ctx)); err != nil {
			c.server.options.Logger.Warn("closing a connection", "connection", c.state.Number(), "error", err)
		}
	}
}

func (c *connection) log(err error) {
	if err == nil || errors.Is(err, io.EOF) {
		return
	}
	c.server.options.Logger.Info("connection ended", "peer", c.conn.RemoteAddr(), "error", err)
}

// gone reports whether the peer is not there to be told anything.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrDeadlineExceeded)
}

// choke stops or restarts the deliveries of a peer that does not keep up, on a
// lane of its own: it is called under a view's lock, and by the writer, and the
// pauses that it leads to take views' locks.
func (c *connection) choke() {
	c.throttle.must(0, func() error {
		c.state.Hold(c.out.Full())
		return nil
	})
}

// goAway begins a drain.
func (c *connection) goAway() {
	if c.draining.Swap(true) {
		return
	}
	c.mu.Lock()
	state := c.state
	c.mu.Unlock()
	if state == nil {
		c.kill(session.ErrShuttingDown) // it has not said Hello: nothing of it is under way
		return
	}
	state.Stop()
	c.out.append(&native.GoAway{Message: "the broker is shutting down"}, nil)
	c.out.Flush()
}

// closeIfQuiet ends a draining connection for which nothing is under way.
func (c *connection) closeIfQuiet(quiet time.Duration) {
	since := c.reading.Load()
	if since != 0 && c.now()-time.Duration(since) >= quiet && c.underWay.Load() == 0 && c.out.Idle() {
		c.kill(session.ErrShuttingDown)
	}
}

// errFrame is the error for a frame that has no place here.
func errFrame(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{native.ErrProtocol}, args...)...)
}
