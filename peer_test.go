package polylog_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// peer is a scripted broker: enough of one, in memory, to hold a conversation
// with, and hooks to make it do what a real broker does only on a bad day. It
// speaks frames over net.Pipe, so that tests run under synctest.
type peer struct {
	// handle sees every frame first; it returns true if it has dealt with it.
	// It is called on the connection's reading goroutine.
	handle func(c *peerConn, f native.Frame, payload []byte) bool
	// refuse, if it is set, fails a dial.
	refuse error

	mu     sync.Mutex
	logs   map[string]*peerLog
	conns  []*peerConn
	frames []native.Frame
	done   sync.WaitGroup
}

func newPeer(t testing.TB) *peer {
	p := &peer{logs: map[string]*peerLog{}}
	t.Cleanup(func() {
		p.cut()
		p.done.Wait()
	})
	return p
}

// connect connects a client to the peer; it is closed at the test's end.
func (p *peer) connect(t testing.TB, opts ...polylog.Option) *polylog.Connection {
	t.Helper()
	c, err := polylog.Connect(context.Background(), "polylog://peer", append([]polylog.Option{polylog.WithDialer(p.dial)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (p *peer) dial(context.Context) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return nil, p.refuse
	}
	client, server := net.Pipe()
	c := &peerConn{p: p, conn: server, encoder: native.NewEncoder(), consumers: map[uint64]*peerConsumer{}, stopped: map[uint64]bool{}}
	c.more.L = &c.out
	p.conns = append(p.conns, c)
	p.done.Go(c.read)
	p.done.Go(c.write)
	return client, nil
}

// cut breaks every connection.
func (p *peer) cut() {
	p.mu.Lock()
	conns := slices.Clone(p.conns)
	p.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
}

// setRefuse makes dials fail, or succeed again.
func (p *peer) setRefuse(err error) {
	p.mu.Lock()
	p.refuse = err
	p.mu.Unlock()
}

// received returns the frames of one type so far.
func received[F native.Frame](p *peer) []F {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []F
	for _, f := range p.frames {
		if f, ok := f.(F); ok {
			list = append(list, f)
		}
	}
	return list
}

// peerConn is the peer's end of a connection.
type peerConn struct {
	p       *peer
	conn    net.Conn
	encoder *native.Encoder

	out     sync.Mutex
	more    sync.Cond
	pending []byte
	closed  bool

	consumers map[uint64]*peerConsumer // guarded by peer.mu
	handles   []string
	temporary int
	stopped   map[uint64]bool // sessions; 0 is all
}

func (c *peerConn) close() {
	c.out.Lock()
	c.closed = true
	c.out.Unlock()
	c.more.Broadcast()
	c.conn.Close()
}

func (c *peerConn) send(f native.Frame, payload []byte) {
	c.out.Lock()
	c.pending = c.encoder.Append(c.pending, f, payload)
	c.out.Unlock()
	c.more.Broadcast()
}

func (c *peerConn) write() {
	for {
		c.out.Lock()
		for len(c.pending) == 0 && !c.closed {
			c.more.Wait()
		}
		b := c.pending
		c.pending = nil
		closed := c.closed
		c.out.Unlock()
		if closed {
			return
		}
		if _, err := c.conn.Write(b); err != nil {
			return
		}
	}
}

func (c *peerConn) read() {
	defer c.gone()
	r, d := native.NewReader(c.conn, 64<<20), native.NewDecoder()
	for {
		typ, body, err := r.Next()
		if err != nil {
			return
		}
		f := newFrame(typ)
		payload, err := d.Decode(body, f)
		if err != nil {
			panic(err)
		}
		c.p.mu.Lock()
		c.p.frames = append(c.p.frames, f)
		handle := c.p.handle
		c.p.mu.Unlock()
		if _, bye := f.(*native.Bye); bye {
			return
		}
		if handle == nil || !handle(c, f, payload) {
			c.serve(f, payload)
		}
	}
}

func newFrame(typ native.Type) native.Frame {
	for _, f := range []native.Frame{
		new(native.Hello), new(native.OpenSession), new(native.CloseSession), new(native.Flow), new(native.Resolve),
		new(native.Send), new(native.Subscribe), new(native.Credit), new(native.Settle), new(native.CloseConsumer),
		new(native.Unsubscribe), new(native.Browse), new(native.Temporary), new(native.Admin), new(native.Ping),
		new(native.Pong), new(native.Bye), new(native.EndWork),
	} {
		if f.Type() == typ {
			return f
		}
	}
	panic(typ)
}

// serve does what a broker does.
func (c *peerConn) serve(f native.Frame, payload []byte) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	switch f := f.(type) {
	case *native.Hello:
		c.send(&native.Welcome{Version: native.Version, Broker: "peer", Connection: 1, Epoch: 1, MaxFrame: native.DefaultMaxFrame, HeartbeatMS: 10_000}, nil)
	case *native.OpenSession:
		c.ok(f.Request, nil)
	case *native.CloseSession:
		c.ok(f.Request, nil)
	case *native.Flow:
		c.stopped[f.Session] = !f.Start
		c.ok(f.Request, nil)
		for _, k := range c.consumers {
			k.log.deliver()
		}
	case *native.Unsubscribe:
		delete(c.p.logs, "subscription "+f.Name)
		c.ok(f.Request, nil)
	case *native.Ping:
		c.send(&native.Pong{Number: f.Number}, nil)
	case *native.Resolve:
		c.ok(f.Request, c.resolve(f.Name, f.Kind))
	case *native.Temporary:
		c.temporary++
		c.ok(f.Request, c.resolve("temporary-"+string(rune('a'+c.temporary)), f.Kind))
	case *native.Send:
		c.send(&native.Confirm{Request: f.Request, Base: c.p.append(c.handles[f.Handle-1], payload)}, nil)
	case *native.Subscribe:
		c.subscribe(f)
	case *native.Credit:
		c.credit(f)
	case *native.Settle:
		c.settle(f)
	case *native.CloseConsumer:
		if k := c.consumers[f.Consumer]; k != nil {
			k.credit, k.closed = 0, true
		}
		c.ok(f.Request, nil)
	case *native.Browse:
		c.browse(f)
	default:
		c.send(&native.Fail{Error: native.Error{Code: native.CodeUnsupported, Message: "the peer does not do that"}}, nil)
	}
}

func (c *peerConn) ok(request uint64, body []byte) {
	if request != 0 {
		c.send(&native.OK{Request: request, Body: body}, nil)
	}
}

func (c *peerConn) resolve(name string, kind native.DestinationKind) []byte {
	c.handles = append(c.handles, name)
	c.p.log(name)
	r := native.Resolved{Handle: uint64(len(c.handles)), Name: name, Kind: kind, Partitions: 1, MaxMessage: 1 << 20}
	return r.Append(nil)
}

// gone gives back what the connection's consumers held.
func (c *peerConn) gone() {
	c.close()
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for _, k := range c.consumers {
		k.credit, k.closed = 0, true
		for _, m := range k.log.messages {
			if m.holder == k {
				m.holder = nil
			}
		}
	}
	for _, k := range c.consumers {
		k.log.deliver()
	}
}

// peerLog is a queue or a subscription with one partition.
type peerLog struct {
	messages  []*peerMessage
	consumers []*peerConsumer
	topic     string // of a subscription
	lastAcq   uint64
}

type peerMessage struct {
	record record.Message
	holder *peerConsumer
	acq    uint64
	count  uint16
	done   bool
}

type peerConsumer struct {
	c       *peerConn
	number  uint64
	session uint64
	log     *peerLog
	credit  int
	closed  bool
}

func (p *peer) log(name string) *peerLog {
	l := p.logs[name]
	if l == nil {
		l = &peerLog{}
		p.logs[name] = l
	}
	return l
}

// append appends a batch to a destination and to its subscriptions.
func (p *peer) append(name string, payload []byte) int64 {
	l := p.log(name)
	base := int64(len(l.messages))
	if err := record.Validate(record.Batch(bytes.Clone(payload)), 64<<20); err != nil {
		panic(err)
	}
	for _, to := range p.logs {
		if to != l && to.topic != name {
			continue
		}
		var r record.Reader
		if err := r.Reset(record.Batch(bytes.Clone(payload)), 64<<20); err != nil {
			panic(err)
		}
		for r.Next() {
			m := &peerMessage{}
			if err := record.DecodeMessage(r.Record(), &m.record); err != nil {
				panic(err)
			}
			to.messages = append(to.messages, m)
		}
		to.deliver()
	}
	return base
}

// put appends a message of the test's own.
func (p *peer) put(name string, texts ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b record.Builder
	b.Reset()
	for _, text := range texts {
		m := polylog.NewText(text)
		if err := m.AppendTo(&b); err != nil {
			panic(err)
		}
	}
	p.append(name, b.Batch())
}

func (c *peerConn) subscribe(f *native.Subscribe) {
	name := f.Destination
	if f.Kind != native.SubscribeQueue {
		name = "subscription " + f.Name
		c.p.log(name).topic = f.Destination
	}
	if strings.Contains(f.Selector, "syntax error") {
		c.send(&native.Fail{Request: f.Request, Error: native.Error{Code: native.CodeBadSelector, Message: "at 1"}}, nil)
		return
	}
	l := c.p.log(name)
	k := &peerConsumer{c: c, number: f.Consumer, session: f.Session, log: l, credit: int(f.Credit)}
	c.consumers[f.Consumer] = k
	l.consumers = append(l.consumers, k)
	c.ok(f.Request, nil)
	l.deliver()
}

func (c *peerConn) credit(f *native.Credit) {
	k := c.consumers[f.Consumer]
	if k == nil || k.closed {
		return
	}
	k.credit += int(f.Messages)
	k.log.deliver()
	if f.Drain {
		k.credit = 0
		c.send(&native.Drained{Consumer: f.Consumer}, nil)
	}
}

// deliver gives what is available to who has credit, a run of offsets at a
// time.
func (l *peerLog) deliver() {
	for _, k := range l.consumers {
		if k.c.stopped[0] || k.c.stopped[k.session] {
			continue
		}
		for at := 0; at < len(l.messages) && k.credit > 0; at++ {
			if m := l.messages[at]; m.done || m.holder != nil {
				continue
			}
			at = l.deliverRun(k, at)
		}
	}
}

func (l *peerLog) deliverRun(k *peerConsumer, at int) int {
	var b record.Builder
	b.Reset()
	f := &native.Deliver{Consumer: k.number, FirstAcquisition: l.lastAcq + 1}
	base := int64(at)
	for ; at < len(l.messages) && k.credit > 0 && b.Count() < 100; at++ {
		m := l.messages[at]
		if m.done || m.holder != nil {
			break
		}
		l.lastAcq++
		m.holder, m.acq, m.count = k, l.lastAcq, m.count+1
		k.credit--
		f.Counts = append(f.Counts, byte(m.count>>8), byte(m.count))
		if err := m.record.AppendTo(&b); err != nil {
			panic(err)
		}
	}
	batch := b.Batch()
	batch.SetBaseOffset(base)
	k.c.send(f, batch)
	return at - 1
}

func (c *peerConn) settle(f *native.Settle) {
	k := c.consumers[f.Consumer]
	stale := k == nil
	for _, s := range f.Spans {
		for i := range s.Count {
			if k == nil || !k.log.settle(k, s.Offset+int64(i), s.Acquisition+i, f) {
				stale = true
			}
		}
	}
	if stale {
		c.send(&native.Fail{Request: f.Request, Error: native.Error{Code: native.CodeStale, Message: "held by nobody or somebody else"}}, nil)
	} else {
		c.ok(f.Request, nil)
	}
	if k != nil {
		k.log.deliver()
	}
}

func (l *peerLog) settle(k *peerConsumer, offset int64, acq uint64, f *native.Settle) bool {
	m := l.messages[offset]
	if m.holder != k || m.acq != acq {
		return false
	}
	m.holder = nil
	m.done = f.Kind != native.OutcomeRelease
	if f.Uncounted {
		m.count--
	}
	return true
}

func (c *peerConn) browse(f *native.Browse) {
	l := c.p.log(f.Destination)
	body := &native.Browsed{}
	var payload []byte
	from := int64(0)
	if len(f.After) > 0 {
		from = int64(f.After[0])
	}
	for at := from; at < int64(len(l.messages)) && body.Bodies < 2; at++ { // pages of two
		if l.messages[at].done {
			continue
		}
		var b record.Builder
		b.Reset()
		if err := l.messages[at].record.AppendTo(&b); err != nil {
			panic(err)
		}
		b.Batch().SetBaseOffset(at)
		batch := b.Batch()
		batch.SetBaseOffset(at)
		payload = append(payload, batch...)
		body.Bodies++
		body.Parts = append(body.Parts, 0, 0)
		state := byte(0)
		if l.messages[at].holder != nil {
			state = 1
		}
		body.States = append(body.States, state)
		body.After = []byte{byte(at + 1)}
	}
	if body.Bodies < 2 {
		body.After = nil
	}
	c.send(&native.OK{Request: f.Request, Body: body.Append(nil)}, payload)
}

// state counts what a log's messages are doing.
func (p *peer) state(name string) (available, acquired, done int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.log(name).messages {
		switch {
		case m.done:
			done++
		case m.holder != nil:
			acquired++
		default:
			available++
		}
	}
	return available, acquired, done
}

// counts returns how often each message of a log was delivered.
func (p *peer) counts(name string) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []int
	for _, m := range p.log(name).messages {
		list = append(list, int(m.count))
	}
	return list
}

var errRefused = errors.New("refused")
