package polylog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// handshakeTimeout bounds dialling and the exchange of Hello and Welcome.
const handshakeTimeout = 10 * time.Second

// agent is how the client names itself.
const agent = "polylog-go/1"

// link is one network connection. A Connection has one at a time. Its reader
// and its writer are a goroutine each; both end when it breaks.
type link struct {
	c          *Connection
	conn       net.Conn
	generation uint64 // counts the Connection's links from 1
	heartbeat  time.Duration
	silence    time.Duration // the broker is dead after this

	reader *native.Reader
	frames atomic.Uint64 // received
	writes atomic.Uint64 // done

	// Guarded by Connection.mu.
	encoder     *native.Encoder // of out
	out         []byte          // frames to be written next
	requests    map[uint64]answerer
	lastRequest uint64
	wake        sync.Cond // of the writer
	established bool      // sessions and consumers are open; sends may go
	leaving     bool      // to be closed once out is written
	err         error     // why it broke

	down chan struct{} // closed when it broke
	done sync.WaitGroup
}

// answerer is told the answer to a request, once.
type answerer interface {
	answered(body, payload []byte) // valid only during the call
	refused(err error)
	broken(cause error) // the connection broke before the answer
}

func (c *Connection) handshake(conn net.Conn) (*link, error) {
	l := &link{c: c, conn: conn, encoder: native.NewEncoder(), requests: map[uint64]answerer{}, down: make(chan struct{})}
	l.wake.L = &c.mu
	hello := &native.Hello{
		Version: native.Version, ClientID: c.options.clientID, User: c.options.user, Password: c.options.password,
		Agent: agent, HeartbeatMS: uint64(c.options.heartbeat.Milliseconds()),
	}
	if _, err := conn.Write(l.encoder.Append(nil, hello, nil)); err != nil {
		return nil, err
	}
	l.reader = native.NewReader(conn, native.MaxHelloFrame)
	typ, body, err := l.reader.Next()
	if err != nil {
		return nil, fmt.Errorf("the broker closed the connection in the handshake: %w", err)
	}
	decoder := native.NewDecoder()
	switch typ {
	case native.TypeWelcome:
	case native.TypeFail:
		var f native.Fail
		if _, err := decoder.Decode(body, &f); err != nil {
			return nil, err
		}
		return nil, &f.Error
	default:
		return nil, fmt.Errorf("%w: %s in place of Welcome", native.ErrProtocol, typ)
	}
	var w native.Welcome
	if _, err := decoder.Decode(body, &w); err != nil {
		return nil, err
	}
	if w.Version != native.Version {
		return nil, &Error{Code: native.CodeUnsupported, Message: fmt.Sprintf("the broker speaks version %d of the protocol, this client %d", w.Version, native.Version)}
	}
	l.reader.SetMax(2 * max(native.DefaultMaxFrame, int(min(w.MaxFrame, 1<<30))))
	l.heartbeat = max(c.options.heartbeat, time.Millisecond)
	l.silence = 2 * max(time.Duration(w.HeartbeatMS)*time.Millisecond, time.Millisecond)
	if w.HeartbeatMS == 0 {
		l.silence = 0
	}
	return l, nil
}

// start starts the reader and the writer.
func (l *link) start() {
	l.done.Go(func() { l.fail(l.read()) })
	l.done.Go(l.write)
}

// fail breaks the link; the first cause stays.
func (l *link) fail(err error) {
	l.c.mu.Lock()
	if l.err == nil {
		l.err = err
		close(l.down)
	}
	l.wake.Broadcast()
	l.c.mu.Unlock()
	l.conn.Close()
}

// cause returns why it broke.
func (l *link) cause() error {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	return l.err
}

// monitor sends heartbeats and watches for silence until the link breaks and
// its goroutines have ended.
func (l *link) monitor() {
	interval := l.heartbeat / 2
	if l.silence > 0 {
		interval = min(interval, l.silence/2)
	}
	tick := time.NewTicker(max(interval, time.Millisecond))
	defer tick.Stop()
	var frames, writes, number uint64
	heard := time.Now()
	for {
		select {
		case <-l.down:
			l.done.Wait()
			return
		case now := <-tick.C:
			if n := l.frames.Load(); n != frames {
				frames, heard = n, now
			} else if l.silence > 0 && now.Sub(heard) >= l.silence {
				l.fail(fmt.Errorf("the broker was silent for %v", l.silence))
				continue
			}
			if n := l.writes.Load(); n == writes {
				number++
				l.c.post(l.generation, &native.Ping{Number: number})
			} else {
				writes = n
			}
		}
	}
}

// request sends a request whose answer goes to a. It returns false if the link
// is broken; a is then not told.
func (l *link) request(a answerer, frame func(request uint64) native.Frame) bool {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	return l.requestLocked(a, frame)
}

func (l *link) requestLocked(a answerer, frame func(request uint64) native.Frame) bool {
	if l.err != nil || l.leaving {
		return false
	}
	l.out = l.encoder.Append(l.out, frame(l.register(a)), nil)
	l.wake.Signal()
	return true
}

// register numbers a request. The caller holds Connection.mu.
func (l *link) register(a answerer) uint64 {
	l.lastRequest++
	l.requests[l.lastRequest] = a
	return l.lastRequest
}

// takeAnswerer takes the one that waits for the answer to a request.
func (l *link) takeAnswerer(request uint64) answerer {
	l.c.mu.Lock()
	a := l.requests[request]
	delete(l.requests, request)
	l.c.mu.Unlock()
	return a
}

// read takes frames until the link breaks, and returns why it did.
func (l *link) read() error {
	in := incoming{l: l, decoder: native.NewDecoder()}
	for {
		typ, body, err := l.reader.Next()
		if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		l.frames.Add(1)
		if err := in.frame(typ, body); err != nil {
			return err
		}
	}
}

// incoming has the frames that the reader decodes into.
type incoming struct {
	l       *link
	decoder *native.Decoder
	ok      native.OK
	fail    native.Fail
	confirm native.Confirm
	deliver native.Deliver
	drained native.Drained
	closed  native.ConsumerClosed
}

func (in *incoming) frame(typ native.Type, body []byte) error {
	switch typ {
	case native.TypeConfirm:
		if _, err := in.decoder.Decode(body, &in.confirm); err != nil {
			return err
		}
		if a, ok := in.l.takeAnswerer(in.confirm.Request).(interface{ confirmed(int64) }); ok {
			a.confirmed(in.confirm.Base)
		}
	case native.TypeOK:
		payload, err := in.decoder.Decode(body, &in.ok)
		if err != nil {
			return err
		}
		if a := in.l.takeAnswerer(in.ok.Request); a != nil {
			a.answered(in.ok.Body, payload)
		}
	case native.TypeDeliver:
		return in.delivery(body)
	case native.TypeDrained:
		if _, err := in.decoder.Decode(body, &in.drained); err != nil {
			return err
		}
		if c := in.l.c.consumer(in.drained.Consumer); c != nil {
			c.drained()
		}
	default:
		return in.rare(typ, body)
	}
	return nil
}

func (in *incoming) delivery(body []byte) error {
	payload, err := in.decoder.Decode(body, &in.deliver)
	if err != nil {
		return err
	}
	f := &in.deliver
	c := in.l.c.consumer(f.Consumer)
	if c == nil {
		return nil // closed, and nothing of it is held any more
	}
	// The frame's memory is used again for the next; the batch's belongs to
	// the application from here on.
	batch, rest, err := record.Next(bytes.Clone(payload))
	if err != nil || len(rest) > 0 {
		return fmt.Errorf("%w: a delivery is not one record batch (%v)", native.ErrProtocol, err)
	}
	c.deliver(inbound{batch: batch, counts: f.Counts, partition: int32(f.Partition), acquisition: f.FirstAcquisition, generation: in.l.generation})
	return nil
}

// rare handles what a busy connection hardly sees.
func (in *incoming) rare(typ native.Type, body []byte) error {
	c := in.l.c
	switch typ {
	case native.TypeFail:
		if _, err := in.decoder.Decode(body, &in.fail); err != nil {
			return err
		}
		err := in.fail.Error
		if a := in.l.takeAnswerer(in.fail.Request); a != nil {
			a.refused(&err)
		} else {
			c.exception(&err)
		}
	case native.TypeConsumerClosed:
		if _, err := in.decoder.Decode(body, &in.closed); err != nil {
			return err
		}
		err := in.closed.Error
		if consumer := c.consumer(in.closed.Consumer); consumer != nil {
			consumer.closedByBroker(&err)
		}
	case native.TypeCheck:
		var f native.Check
		payload, err := in.decoder.Decode(body, &f)
		if err != nil {
			return err
		}
		c.mu.Lock()
		p := c.producers[f.Group]
		c.mu.Unlock()
		if p != nil {
			f.Body = bytes.Clone(f.Body)
			p.ask(&f, bytes.Clone(payload))
		}
	case native.TypeJoined:
		var f native.Joined
		if _, err := in.decoder.Decode(body, &f); err != nil {
			return err
		}
		if consumer := c.consumer(f.Consumer); consumer != nil {
			consumer.joined(f.Member, f.Destination)
		}
	case native.TypeGoAway:
		var f native.GoAway
		if _, err := in.decoder.Decode(body, &f); err != nil {
			return err
		}
		c.options.logger.Info("polylog: the broker drains", "message", f.Message)
	case native.TypePing:
		var f native.Ping
		if _, err := in.decoder.Decode(body, &f); err != nil {
			return err
		}
		c.post(in.l.generation, &native.Pong{Number: f.Number})
	case native.TypePong:
	case native.TypeBye:
		return fmt.Errorf("%w: the broker has said goodbye", errBroken)
	default:
		return fmt.Errorf("%w: %s from the broker", native.ErrProtocol, typ)
	}
	return nil
}

// lost ends what was under way when the link broke. Its goroutines have ended.
func (l *link) lost() {
	c := l.c
	c.mu.Lock()
	requests := l.requests
	l.requests = nil
	cause := fmt.Errorf("%w: %w", errBroken, l.err)
	if errors.Is(l.err, errBroken) {
		cause = l.err
	}
	c.mu.Unlock()

	numbers := make([]uint64, 0, len(requests))
	for n := range requests {
		numbers = append(numbers, n)
	}
	slices.SortFunc(numbers, cmp.Compare)
	again := map[*lane][]*batch{}
	var order []*lane
	for _, n := range numbers {
		b, ok := requests[n].(*batch)
		if !ok || b.written && !c.options.retryInDoubt {
			requests[n].broken(cause)
			continue
		}
		if again[b.lane] == nil {
			order = append(order, b.lane)
		}
		again[b.lane] = append(again[b.lane], b)
	}
	for _, lane := range order {
		lane.putBack(again[lane])
	}
}

// call is a request that a goroutine waits for.
type call struct {
	link       *link
	generation uint64
	done       chan struct{}
	body       []byte
	payload    []byte
	err        error
}

func newCall(l *link) *call {
	return &call{link: l, generation: l.generation, done: make(chan struct{})}
}

func (k *call) answered(body, payload []byte) {
	k.body, k.payload = body, bytes.Clone(payload)
	close(k.done)
}

func (k *call) refused(err error) {
	k.err = err
	close(k.done)
}

func (k *call) broken(cause error) { k.refused(cause) }

// call sends a request on this link and waits for its answer. The error is
// errBroken if the link broke, and errNotSent if it was broken before.
func (l *link) call(ctx context.Context, frame func(request uint64) native.Frame) (*call, error) {
	k := newCall(l)
	if !l.request(k, frame) {
		return nil, errNotSent
	}
	return k.wait(ctx)
}

// wait does not rely on being told that the link broke: while a new link is
// being established there is nobody yet who would tell.
func (k *call) wait(ctx context.Context) (*call, error) {
	select {
	case <-k.done:
		return k, k.err
	case <-k.link.down:
		return nil, errBroken
	case <-ctx.Done():
		return nil, doubt(ctx.Err())
	}
}
