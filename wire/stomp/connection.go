package stomp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

// connection is one peer. Its goroutines are the reader, which runs run and owns the
// fields of its group without a lock; the writer, which is Output.Run; and the lanes
// while they have something to do.
type connection struct {
	server *Server
	conn   net.Conn
	out    wire.Output

	// reading is when the read that is under way began, in ns on the connection's
	// clock, or 0 while frames are handled.
	reading  atomic.Int64
	underWay atomic.Int64   // what is not yet answered
	answered sync.WaitGroup // the same; the reader alone adds to it
	draining atomic.Bool

	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc

	throttle wire.Lane
	later    wire.Lane // what a sink may not do itself, and the end after a DISCONNECT

	shared atomic.Pointer[session.Connection] // state, for others than the reader

	// Of the reader; version and state do not change after the CONNECT.
	state         *session.Connection
	session       *session.Session
	version       frame.Version
	frames        *frame.Reader
	watch         *watch
	in            inbound
	sends         sendGather
	sent          uint64 // messages so far
	subscribed    uint64 // subscriptions so far
	subscriptions map[string]*subscription
	numbers       map[uint64]*subscription // the same by the number in what is acknowledged
	closed        []*subscription          // that a transaction may still hold deliveries of
	transactions  map[string]*session.Transaction
	nodes         map[string]*destination.Destination // what is sent to
	temporary     map[string]*destination.Destination // by the names that the peer has given them
	blocked       map[*destination.Partition]*wire.Lane
	flushed       func() // out.FlushReader
	holding       bool   // the broker is held
	left          bool   // a DISCONNECT was read

	blockedNow atomic.Int64 // bytes of the sends that wait for room
}

func newConnection(s *Server, conn net.Conn) *connection {
	c := &connection{
		server: s, conn: conn,
		subscriptions: map[string]*subscription{}, numbers: map[uint64]*subscription{},
		transactions: map[string]*session.Transaction{}, nodes: map[string]*destination.Destination{},
		temporary: map[string]*destination.Destination{}, blocked: map[*destination.Partition]*wire.Lane{},
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	strangers := frame.Limits{Headers: s.options.Frame.Headers, HeaderBytes: min(s.options.Frame.HeaderBytes, 16<<10), Body: 1}
	c.frames = frame.NewReader(source{c}, strangers)
	c.out.Init(s.options.MaxOutgoing, c.choke, conn, c.now)
	c.flushed = c.out.FlushReader
	return c
}

// now is the connection's clock: since the server's start. It is never 0.
func (c *connection) now() time.Duration { return time.Since(c.server.started) + 1 }

// source is the connection as the frames' reader sees it. A read is where the frames
// that had arrived are all handled, so what they left to do is done here.
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

// endPass appends what was gathered and has the answers written. It comes before
// whatever may wait.
func (c *connection) endPass() {
	c.sends.flush()
	if !c.holding {
		c.out.FlushDirect()
		return
	}
	c.out.ReaderFlushes()
	c.holding = false
	c.server.broker.Release(false, c.flushed)
}

// hold keeps what is sent and settled from now on for the end of the pass.
func (c *connection) hold() {
	if !c.holding {
		c.holding = true
		c.server.broker.Hold()
	}
}

// begin counts something that will be answered, and end says that it was.
func (c *connection) begin() {
	c.underWay.Add(1)
	c.answered.Add(1)
}

func (c *connection) end() {
	c.underWay.Add(-1)
	c.answered.Done()
}

// run serves the connection until it ends.
func (c *connection) run(t *wire.Ticket) {
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := c.out.Run(c.conn); err != nil {
			c.kill(err)
		}
	})
	if limit := t.HandshakeTimeout(); limit > 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(limit))
	}
	err := c.connect()
	if err == nil {
		_ = c.conn.SetReadDeadline(time.Time{})
		t.Authenticated()
		err = c.serve()
	}
	c.close(err)
	writer.Wait()
	if err != nil && !gone(err) {
		c.linger()
	}
}

// What a peer that is being cut off may still send unread, so that it reads the ERROR:
// closing a socket that has unread input resets it.
const (
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 1 << 20
)

func (c *connection) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.conn, lingerBytes)
}

// connect takes the peer's CONNECT and answers it. STOMP 1.2, Connecting
func (c *connection) connect() error {
	f, err := c.frames.Next()
	if err != nil {
		return err
	}
	if f.Command != "CONNECT" && f.Command != "STOMP" {
		return invalid("%.40q before CONNECT", f.Command)
	}
	version, err := negotiate(f)
	if err != nil {
		return err
	}
	client, server, err := beats(f.Get("heart-beat"))
	if err != nil {
		return err
	}
	o := c.server.options
	who := session.Principal{Host: wire.Host(c.conn.RemoteAddr())}
	if who.Name = wire.CertifiedName(c.conn); o.Authenticate != nil && (who.Name == "" || f.Get("login") != "") {
		if who.Name, err = o.Authenticate(f.Get("login"), f.Get("passcode")); err != nil {
			return err
		}
	}
	c.state = session.NewConnection(c.server.broker, session.Options{
		Principal: who, CompileSelector: o.CompileSelector,
		MaxSessions: 1, MaxConsumers: 2 * o.MaxSubscriptions, MaxTemporary: o.MaxTemporary,
	})
	id := f.Get("client-id")
	if err := c.state.Authorize(session.OperationConnect, id); err != nil {
		return err
	}
	if id != "" {
		if err := c.state.SetClientID(id); err != nil {
			return err
		}
	}
	if c.session, err = c.state.OpenSession(session.AckIndividual); err != nil {
		return err
	}
	c.shared.Store(c.state)
	c.version = version
	c.frames.SetVersion(version)
	c.frames.SetLimits(o.Frame)
	reply := frame.Frame{Command: "CONNECTED"}
	reply.Add("version", version.String())
	reply.Add("heart-beat", strconv.Itoa(int(leastBeat/time.Millisecond))+","+strconv.Itoa(int(leastBeat/time.Millisecond)))
	reply.Add("session", strconv.FormatUint(c.state.Number(), 10))
	reply.Add("server", strings.ReplaceAll(o.Name, " ", "/"))
	c.write(&reply)
	c.watch = startWatch(c, client, server)
	return nil
}

// negotiate returns the highest version that both speak. A client that names none
// speaks 1.0. STOMP 1.2, Protocol Negotiation
func negotiate(f *frame.Frame) (frame.Version, error) {
	accepted, ok := f.Lookup("accept-version")
	if !ok {
		return frame.V10, nil
	}
	for v := frame.V12; ; v-- {
		for text := range strings.SplitSeq(accepted, ",") {
			if strings.TrimSpace(text) == v.String() {
				return v, nil
			}
		}
		if v == frame.V10 {
			return 0, errVersions
		}
	}
}

// serve handles frames until the peer leaves or breaks the protocol.
func (c *connection) serve() error {
	defer c.endPass() // what came before the end counts
	for {
		f, err := c.frames.Next()
		if err != nil {
			return err
		}
		if c.left {
			return invalid("%.40q after DISCONNECT", f.Command)
		}
		if err := c.handle(f); err != nil {
			return &refused{f.Get("receipt"), err}
		}
	}
}

// handle handles one frame.
func (c *connection) handle(f *frame.Frame) error {
	if c.draining.Load() && (f.Command == "SEND" || f.Command == "SUBSCRIBE" || f.Command == "BEGIN") {
		return session.ErrShuttingDown
	}
	if len(f.Body) > 0 && f.Command != "SEND" {
		return invalid("%.40q has a body", f.Command) // STOMP 1.2, Body
	}
	switch f.Command {
	case "SEND":
		return c.send(f)
	case "SUBSCRIBE":
		return c.subscribe(f)
	case "UNSUBSCRIBE":
		return c.unsubscribe(f)
	case "ACK":
		return c.acknowledge(f, true)
	case "NACK":
		return c.acknowledge(f, false)
	case "BEGIN":
		return c.beginTransaction(f)
	case "COMMIT", "ABORT":
		return c.endTransaction(f)
	case "DISCONNECT":
		return c.disconnect(f)
	}
	return invalid("unknown command %.40q", f.Command)
}

// disconnect ends the connection once everything before it is answered. The reader
// reads on meanwhile, so that a peer that goes away does not wait for that.
func (c *connection) disconnect(f *frame.Frame) error {
	c.left = true
	c.endPass() // what follows may wait
	for _, s := range c.subscriptions {
		if s.consumer != nil {
			s.consumer.Revoke() // before any gives back what another might get
		}
	}
	for _, s := range c.subscriptions {
		if err := s.close(); err != nil {
			return err
		}
	}
	receipt := f.Get("receipt")
	c.later.Do(0, func() {
		c.answered.Wait()
		c.receipt(receipt)
		c.fail(errLeft)
	})
	return nil
}

// errLeft ends a connection whose peer has taken its leave.
var errLeft = errors.New("the client has disconnected")

// write appends one frame.
func (c *connection) write(f *frame.Frame) {
	if b, ok := c.out.Begin(); ok {
		c.out.End(frame.Append(b, c.version, f))
	}
}

// receipt answers a frame that asked for it: empty if it did not.
func (c *connection) receipt(id string) {
	if id == "" {
		return
	}
	if b, ok := c.out.Begin(); ok {
		f := frame.Frame{Command: "RECEIPT", Headers: []frame.Header{{Name: "receipt-id", Value: id}}}
		c.out.EndConfirms(frame.Append(b, c.version, &f))
	}
}

// fail has the reader end the connection, with an ERROR that says why. It may be called
// from anywhere.
func (c *connection) fail(why error) {
	c.cancel(why)
	_ = c.conn.SetReadDeadline(time.Now())
}

// kill ends the connection from outside the reader, at once.
func (c *connection) kill(why error) {
	c.cancel(why)
	c.out.Close()
	c.conn.Close()
}

// farewell bounds how long the last frames may take to be written.
const farewell = time.Second

// close tells the peer why, if something was refused, and releases everything: in this
// order, because the release may wait for others.
func (c *connection) close(err error) {
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	if err != nil && !errors.Is(err, errLeft) && !errors.Is(err, io.EOF) {
		c.server.options.Logger.Info("connection ended", "peer", c.conn.RemoteAddr(), "error", err)
		if !gone(err) {
			c.write(errorFrame(err))
		}
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(farewell))
	c.out.Close()
	if c.watch != nil {
		c.watch.stop()
	}
	c.cancel(session.ErrClosed)
	for _, l := range c.blocked {
		l.Close()
	}
	c.later.Close()
	c.throttle.Close()
	if c.state == nil {
		return
	}
	if err := c.state.Close(context.WithoutCancel(c.ctx)); err != nil {
		c.server.options.Logger.Warn("closing a connection", "connection", c.state.Number(), "error", err)
	}
}

// gone reports whether the peer is not there to be told anything.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrDeadlineExceeded)
}

// choke stops or restarts the deliveries of a peer that does not keep up, on a lane of
// its own: it is called under a view's lock, and by the writer, and the pauses that it
// leads to take views' locks.
func (c *connection) choke() {
	c.throttle.Do(0, func() {
		if state := c.shared.Load(); state != nil {
			state.Hold(c.out.Full())
		}
	})
}

// drain begins a drain.
func (c *connection) drain() {
	if !c.draining.Swap(true) {
		c.throttle.Do(0, func() {
			if state := c.shared.Load(); state != nil {
				state.Stop()
			}
		})
	}
}

// closeIfQuiet ends a draining connection for which nothing is under way.
func (c *connection) closeIfQuiet(quiet time.Duration) {
	since := c.reading.Load()
	if since == 0 || c.now()-time.Duration(since) < quiet || c.underWay.Load() != 0 || !c.out.Idle() {
		return
	}
	c.fail(session.ErrShuttingDown)
}
