package amqp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// connection is one peer. Its goroutines are the reader, which runs run and owns
// the fields of its group without a lock; the writer, which is Output.Run; and the
// lanes while they have something to do.
type connection struct {
	server *Server
	conn   net.Conn
	out    wire.Output

	// reading is when the read that is under way began, in ns on the
	// connection's clock, or 0 while frames are handled.
	reading  atomic.Int64
	underWay atomic.Int64 // what is not yet answered
	draining atomic.Bool
	leaving  atomic.Bool  // a Close was sent by a drain
	stalled  atomic.Int32 // channels that have more to send than is kept

	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc

	ordered  wire.Lane // attaches, detaches and ends, in their order
	throttle wire.Lane
	later    wire.Lane // what a sink may not do itself

	shared atomic.Pointer[session.Connection] // state, for others than the reader

	// Of the reader; state and maxFrame do not change once there are sessions.
	state        *session.Connection
	maxFrame     int // the largest frame that the peer takes
	watch        *watch
	frames       *codec.Frames
	decoder      codec.Decoder
	principal    string
	said         bool // our Open is
	channels     map[uint16]*channel
	in           inbound
	sends        sendGather
	unfinished   int // bytes of messages whose last frame has not come
	transactions map[string]*transaction
	declared     uint64 // transactions so far
	nodes        map[relayed]*destination.Destination
	blocked      map[*destination.Partition]*wire.Lane // of sends that wait for room
	flushed      func()                                // out.FlushReader
	holding      bool                                  // the broker is held
	awaited      bool                                  // somebody waits for something that came since

	blockedNow atomic.Int64 // bytes of the sends that wait for room
}

func newConnection(s *Server, conn net.Conn) *connection {
	c := &connection{
		server: s, conn: conn, maxFrame: codec.MinMaxFrameSize,
		channels: map[uint16]*channel{}, transactions: map[string]*transaction{}, nodes: map[relayed]*destination.Destination{},
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.frames = codec.NewFrames(source{c}, maxOpen)
	c.out.Init(s.options.MaxOutgoing, c.choke, conn, c.now)
	c.flushed = c.out.FlushReader
	return c
}

// maxOpen is the largest frame before the Open, and the Open itself. AMQP 1.0 §2.4.1
// wants 512 bytes; some clients say more of themselves.
const maxOpen = 16 << 10

// now is the connection's clock: since the server's start. It is never 0.
func (c *connection) now() time.Duration { return time.Since(c.server.started) + 1 }

// source is the connection as the frames' reader sees it. A read is where the
// frames that had arrived are all handled, so what they left to do is done here.
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
	if limit := t.HandshakeTimeout(); limit > 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(limit))
	}
	err := c.authenticate()
	if err == nil {
		err = c.open()
	}
	if err == nil {
		_ = c.conn.SetReadDeadline(time.Time{})
		t.Authenticated()
		err = c.serve()
	}
	c.end(err)
	writer.Wait()
	if err != nil && !gone(err) {
		c.linger()
	}
}

// linger lets the peer read the last Close: closing a socket that has unread input
// resets it, and the peer may lose what was written last.
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

// open takes the peer's Open and answers it.
func (c *connection) open() error {
	p, err := c.next()
	if err != nil {
		return err
	}
	open, ok := p.(*codec.Open)
	if !ok {
		return broken(codec.NotAllowed, "%T before the open", p)
	}
	o := c.server.options
	if open.MaxFrameSize < codec.MinMaxFrameSize {
		return broken(codec.InvalidField, "a max-frame-size of %d; the least is %d", open.MaxFrameSize, codec.MinMaxFrameSize)
	}
	state := session.NewConnection(c.server.broker, session.Options{
		Principal: session.Principal{Name: c.principal, Host: wire.Host(c.conn.RemoteAddr())}, CompileSelector: o.CompileSelector,
		MaxSessions: o.MaxSessions, MaxConsumers: o.MaxLinks, MaxTemporary: o.MaxTemporary,
	})
	// A container's id is a JMS client's id, which one connection may have at a
	// time; others may have connections of one id, of which the first can have
	// durable subscriptions.
	err = state.Authorize(session.OperationConnect, open.ContainerID)
	if err == nil && open.ContainerID != "" {
		if err = state.SetClientID(open.ContainerID); err != nil && !slices.Contains(open.Desired, "sole-connection-for-container") && errors.Is(err, session.ErrConflict) {
			err = nil
		}
	}
	c.said = true
	if err != nil {
		c.performative(0, c.server.open(true))
		refused := refusal(err)
		if errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrInvalid) {
			refused.Condition = codec.InvalidField
			refused.Info = codec.Map{{Key: codec.Symbol("invalid-field"), Value: codec.Symbol("container-id")}}
		}
		return refused
	}
	c.state = state
	c.shared.Store(state)
	c.maxFrame = int(min(open.MaxFrameSize, uint32(o.MaxFrame)))
	c.frames.SetMax(uint32(o.MaxFrame))
	c.performative(0, c.server.open(false))
	c.watch = startWatch(c, time.Duration(open.IdleTimeOut)*time.Millisecond)
	return nil
}

// next returns the next performative before a session is of concern.
func (c *connection) next() (codec.Performative, error) {
	for {
		typ, _, body, err := c.frames.Next()
		if err != nil {
			return nil, err
		}
		if typ != codec.FrameAMQP {
			return nil, broken(codec.FramingError, "a frame of type %d", typ)
		}
		if len(body) == 0 {
			continue
		}
		p, _, err := c.decoder.Decode(body)
		return p, err
	}
}

// serve handles frames until the peer leaves or breaks the protocol.
func (c *connection) serve() error {
	defer c.endPass() // what came before the end counts
	for {
		typ, number, body, err := c.frames.Next()
		if err != nil {
			return err
		}
		if typ != codec.FrameAMQP {
			return broken(codec.FramingError, "a frame of type %d", typ)
		}
		if len(body) == 0 {
			continue // the peer is there
		}
		p, payload, err := c.decoder.Decode(body)
		if err != nil {
			return err
		}
		if _, closed := p.(*codec.Close); closed {
			c.sends.flush(c)
			c.performative(0, &codec.Close{})
			return nil
		}
		if err := c.handle(number, p, payload); err != nil {
			return err
		}
	}
}

// handle handles one frame of a session.
func (c *connection) handle(number uint16, p codec.Performative, payload []byte) error {
	s := c.channels[number]
	if begin, ok := p.(*codec.Begin); ok {
		return c.begin(number, s, begin)
	}
	switch {
	case s == nil:
		return broken(codec.NotAllowed, "%T on channel %d, where no session is", p, number)
	case s.ended:
		if _, ok := p.(*codec.End); ok {
			delete(c.channels, number)
		}
		return nil // it crossed our End
	}
	err := s.handle(p, payload)
	var ends *sessionError
	if errors.As(err, &ends) {
		s.abandon(ends.why)
		return nil
	}
	return err
}

// begin opens a session.
func (c *connection) begin(number uint16, s *channel, p *codec.Begin) error {
	switch {
	case s != nil:
		return broken(codec.NotAllowed, "channel %d has a session", number)
	case int(number) >= c.server.options.MaxSessions:
		return broken(codec.FramingError, "channel %d; channel-max is %d", number, c.server.options.MaxSessions-1)
	case p.HasRemote:
		return broken(codec.InvalidField, "a remote-channel in the begin that opens a session")
	}
	inner, err := c.state.OpenSession(session.AckIndividual)
	s = newChannel(c, number, inner, p)
	c.performative(number, &codec.Begin{
		RemoteChannel: number, HasRemote: true, IncomingWindow: incomingWindow, OutgoingWindow: outgoingWindow,
		HandleMax: uint32(c.server.options.MaxLinks - 1),
	})
	c.channels[number] = s
	if err != nil {
		s.ended = true
		c.performative(number, &codec.End{Error: refusal(err)})
	}
	return nil
}

// performative appends one frame.
func (c *connection) performative(number uint16, p codec.Performative) {
	if b, ok := c.out.Begin(); ok {
		c.out.End(codec.AppendFrame(b, codec.FrameAMQP, number, p))
	}
}

// disposition says what became of messages that the peer has sent.
func (c *connection) disposition(number uint16, p *codec.Disposition) {
	if b, ok := c.out.Begin(); ok {
		c.out.EndConfirms(codec.AppendFrame(b, codec.FrameAMQP, number, p))
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

// end tells the peer why, if it broke something, and releases everything: in this
// order, because the release may wait for others.
func (c *connection) end(err error) {
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	c.log(err)
	if err != nil && !gone(err) && !errors.Is(err, errRefused) {
		c.farewell(err)
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(farewell))
	c.out.Close()
	if c.watch != nil {
		c.watch.stop()
	}
	c.cancel(session.ErrClosed)
	c.ordered.Close()
	c.throttle.Close()
	c.later.Close()
	for _, l := range c.blocked {
		l.Close()
	}
	if c.state == nil {
		return
	}
	if err == nil { // it has taken its leave: what it did not settle it has not seen
		for _, s := range c.channels {
			revoke(s.links)
		}
		for _, s := range c.channels {
			giveBack(s.links)
		}
	}
	if err := c.state.Close(context.WithoutCancel(c.ctx)); err != nil {
		c.server.options.Logger.Warn("closing a connection", "connection", c.state.Number(), "error", err)
	}
}

func (c *connection) farewell(err error) {
	var frame *codec.FrameError
	why := refusal(err)
	if errors.As(err, &frame) {
		why.Condition = codec.FramingError
	}
	if !c.said {
		c.performative(0, c.server.open(true)) // §2.4.3: a Close follows an Open
	}
	c.performative(0, &codec.Close{Error: why})
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

// choke stops or restarts the deliveries of a peer that does not keep up, on a lane
// of its own: it is called under a view's lock, and by the writer, and the pauses
// that it leads to take views' locks.
func (c *connection) choke() {
	c.throttle.Do(0, func() {
		if state := c.shared.Load(); state != nil {
			state.Hold(c.out.Full() || c.stalled.Load() > 0)
		}
	})
}

// drain begins a drain.
func (c *connection) drain() {
	if !c.draining.Swap(true) {
		c.later.Do(0, func() {
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
	if !c.leaving.Swap(true) {
		c.performative(0, &codec.Close{Error: &codec.Error{Condition: codec.ConnectionForced, Description: "the broker is shutting down"}})
		c.out.Flush()
		return
	}
	c.kill(session.ErrShuttingDown)
}

// transaction is one that the peer has declared.
type transaction struct {
	inner  *session.Transaction
	id     []byte
	by     *receiver // the coordinator's link
	failed error     // something that was sent in it was refused: it can only be rolled back
}

func (c *connection) declare(by *receiver) (*transaction, error) {
	inner, err := c.state.Begin()
	if err != nil {
		return nil, err
	}
	c.declared++
	t := &transaction{inner: inner, id: strconv.AppendUint(nil, c.declared, 36), by: by}
	c.transactions[string(t.id)] = t
	return t, nil
}

// transaction returns one by its id, or an error that is the peer's.
func (c *connection) transaction(id []byte) (*transaction, error) {
	if t := c.transactions[string(id)]; t != nil {
		return t, nil
	}
	return nil, broken(codec.UnknownTransactionID, "no transaction %q", id)
}

// rollback ends the transactions that a coordinator's link has declared.
func (c *connection) rollback(by *receiver) {
	for id, t := range c.transactions {
		if t.by == by {
			delete(c.transactions, id)
			_ = t.inner.Rollback(nil) // it has not ended, for it was there
		}
	}
}
