package amqp

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// receiver is a link on which the peer sends: to a destination, to several, to
// whatever each message names, or to the coordinator of its transactions.
type receiver struct {
	s           *channel
	handle      uint32
	coordinator bool

	// Set before there is credit.
	name      string // of the destination, as the peer says it; empty for the relay
	d         *destination.Destination
	all       []*destination.Destination // of a list
	limit     int                        // bytes of a message
	temporary string                     // that is deleted with the link

	// Of the reader.
	detached bool // our Detach was sent: what crossed it is nothing
	partial  struct {
		under   bool // the last frame is awaited
		id      uint32
		settled bool
		state   codec.State
		txn     []byte
		payload []byte
	}

	mu            sync.Mutex // guards what follows; a leaf but for the output's
	deliveryCount uint32
	credit        int
	awaited       int // messages that are not answered
	gone          bool
}

// relayLimit bounds a message on a link that goes nowhere in particular; that of
// its destination holds too.
const relayLimit = 64 << 20

func newReceiver(s *channel, p *codec.Attach) *receiver {
	l := &receiver{s: s, handle: p.Handle, coordinator: p.Coordinator != nil, deliveryCount: p.InitialDeliveryCount.V}
	c := s.c
	c.underWay.Add(1)
	c.ordered.Do(0, func() {
		l.attach(c.ctx, p)
		c.underWay.Add(-1)
		c.out.Flush()
	})
	return l
}

// attach opens the link, and answers.
func (l *receiver) attach(ctx context.Context, p *codec.Attach) {
	s, c := l.s, l.s.c
	reply := &codec.Attach{
		Name: p.Name, Handle: p.Handle, Role: codec.RoleReceiver, SenderSettleMode: p.SenderSettleMode,
		ReceiverSettleMode: codec.ReceiverFirst, Source: p.Source, Coordinator: p.Coordinator,
	}
	var err error
	switch {
	case c.draining.Load():
		err = session.ErrShuttingDown
	case l.coordinator:
		reply.Coordinator = &codec.Coordinator{Capabilities: []codec.Symbol{capLocal}}
		l.limit = 1 << 10
	case p.Target == nil:
		err = broken(codec.InvalidField, "a sender without a target")
	default:
		reply.Target, err = l.open(ctx, p.Target)
		reply.MaxMessageSize = uint64(l.limit)
	}
	if err != nil {
		reply.Target, reply.Coordinator, reply.MaxMessageSize = nil, nil, 0
	}
	c.performative(s.number, reply)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.gone = true
		c.performative(s.number, &codec.Detach{Handle: l.handle, Closed: true, Error: refusal(err)})
		return
	}
	l.replenish()
}

// open resolves the target, and returns what it is.
func (l *receiver) open(ctx context.Context, t *codec.Target) (*codec.Target, error) {
	c := l.s.c
	answer := *t
	l.limit = relayLimit
	switch {
	case t.Dynamic:
		d, err := c.temporary(ctx, t.Capabilities)
		if err != nil {
			return nil, err
		}
		l.temporary, l.name, l.d = d.Name, d.Name, d
		answer.Address, answer.DynamicNode = codec.SomeString(d.Name), dynamicNode
	case !t.Address.Set || t.Address.V == "":
		return &answer, nil
	default:
		name, kind := address(t.Address.V, t.Capabilities)
		l.name = name
		if destination.IsPattern(name) {
			return &answer, l.openList(ctx, name, kind)
		}
		d, err := c.resolve(ctx, name, kind, mayCreate(t.Capabilities))
		if err == nil {
			err = c.sendable(d)
		}
		if err != nil {
			return nil, err
		}
		l.d = d
	}
	l.limit = int(min(l.d.Settings.MaxMessageBytes, math.MaxInt32))
	return &answer, nil
}

func (l *receiver) openList(ctx context.Context, list string, kind destination.Kind) (err error) {
	if kind == 0 {
		kind = destination.KindQueue
	}
	if l.all, err = l.s.c.state.ResolveList(ctx, list, kind); err != nil {
		return err
	}
	for _, d := range l.all {
		if err := l.s.c.sendable(d); err != nil {
			return err
		}
		l.limit = int(min(int64(l.limit), d.Settings.MaxMessageBytes))
	}
	return nil
}

// replenish gives the peer credit once half of it is used up, for what is answered.
// The lock is held.
func (l *receiver) replenish() {
	full := l.s.c.server.options.Credit
	if l.gone || l.credit > full/2 || l.s.c.draining.Load() {
		return
	}
	if give := full - l.awaited; give > l.credit && give >= full/4 {
		l.credit = give
		l.s.c.performative(l.s.number, l.flowFrame())
	}
}

// flowFrame is the link's state. The lock is held.
func (l *receiver) flowFrame() *codec.Flow {
	f := l.s.flowFrame()
	f.Handle, f.DeliveryCount, f.LinkCredit = codec.Some(l.handle), codec.Some(l.deliveryCount), codec.Some(uint32(l.credit))
	return f
}

// flow implements link: the peer says how it stands.
func (l *receiver) flow(f *codec.Flow) {
	if !f.Echo {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.c.performative(l.s.number, l.flowFrame())
}

// detach implements link.
func (l *receiver) detach(d *codec.Detach) {
	closed := d.Closed
	c := l.s.c
	l.end()
	c.underWay.Add(1)
	c.ordered.Do(0, func() {
		l.mu.Lock()
		told := l.gone
		l.gone = true
		l.mu.Unlock()
		l.deleteTemporary()
		if !told {
			c.performative(l.s.number, &codec.Detach{Handle: l.handle, Closed: closed})
		}
		c.underWay.Add(-1)
		c.out.Flush()
	})
}

// end implements link.
func (l *receiver) end() {
	l.dropPartial()
	if l.coordinator {
		l.s.c.rollback(l)
	}
}

func (l *receiver) deleteTemporary() {
	if l.temporary != "" {
		l.s.c.deleteTemporary(l.temporary)
		l.temporary = ""
	}
}

// refuse ends the link for something that the peer sent.
func (l *receiver) refuse(why *codec.Error) {
	l.dropPartial()
	l.detached = true
	s := l.s
	s.c.sends.flush(s.c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.gone {
		l.gone = true
		s.c.performative(s.number, &codec.Detach{Handle: l.handle, Closed: true, Error: why})
	}
}

func (l *receiver) dropPartial() {
	l.s.c.unfinished -= len(l.partial.payload)
	l.partial.under, l.partial.payload, l.partial.txn = false, nil, nil
}

// transfer takes a frame of a message (§2.6.12).
func (l *receiver) transfer(p *codec.Transfer, payload []byte) error {
	s, c := l.s, l.s.c
	if l.detached {
		return nil
	}
	part := &l.partial
	if !part.under {
		if !p.DeliveryID.Set {
			return endsSession(codec.InvalidField, "a delivery without an id")
		}
		if err := s.nextID(p.DeliveryID.V); err != nil {
			return err
		}
		l.mu.Lock()
		l.credit--
		l.deliveryCount++
		l.awaited++
		beyond, gone := l.credit < 0, l.gone
		l.mu.Unlock()
		if gone {
			l.detached = true
			return nil
		}
		if beyond {
			l.refuse(broken(codec.TransferLimitExceeded, "a message beyond the link-credit"))
			return nil
		}
		part.id, part.settled, part.state = p.DeliveryID.V, p.Settled, p.State
	} else {
		if p.DeliveryID.Set && p.DeliveryID.V != part.id {
			return endsSession(codec.InvalidField, "delivery %d within delivery %d", p.DeliveryID.V, part.id)
		}
		part.settled = part.settled || p.Settled
		if p.State.Kind != codec.NoState || p.State.Transactional {
			part.state = p.State
		}
	}
	switch {
	case p.Aborted:
		l.dropPartial()
		l.answered(1)
		return nil
	case len(part.payload)+len(payload) > l.limit:
		l.refuse(broken(codec.MessageSizeExceeded, "a message of more than %d bytes", l.limit))
		return nil
	case p.More && c.unfinished+len(payload) > c.server.options.MaxUnfinished:
		l.refuse(broken(codec.ResourceLimitExceeded, "%d bytes of unfinished messages on this connection", c.server.options.MaxUnfinished))
		return nil
	case p.More:
		part.under = true
		part.payload = append(part.payload, payload...)
		part.txn = append(part.txn[:0], part.state.TxnID...)
		part.state.TxnID = part.txn // it aliased the frame
		c.unfinished += len(payload)
		return nil
	}
	whole := payload
	if part.under {
		whole = append(part.payload, payload...)
		c.unfinished -= len(part.payload)
		part.under, part.payload = false, nil
	}
	if l.coordinator {
		l.control(part.id, part.settled, whole)
		return nil
	}
	if err := l.message(part.id, part.settled, &part.state, whole); err != nil {
		c.sends.flush(c) // so that answers keep the order
		l.reject(part.id, part.settled, err)
	}
	return nil
}

// answered says that n messages are.
func (l *receiver) answered(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaited -= n
	l.replenish()
}

// reject tells the peer that a message was not taken: by its delivery's state, or if
// it wants to hear no more of that, by the link's end.
func (l *receiver) reject(id uint32, settled bool, err error) {
	l.answered(1)
	if settled {
		l.refuse(refusal(err))
		return
	}
	l.s.c.disposition(l.s.number, &codec.Disposition{
		Role: codec.RoleReceiver, First: id, Last: id, Settled: true, State: codec.State{Kind: codec.Rejected, Error: refusal(err)},
	})
}

// message sends a message where it goes.
func (l *receiver) message(id uint32, settled bool, state *codec.State, payload []byte) error {
	c := l.s.c
	in := &c.in
	if err := in.parse(payload, l.name, time.Now().UnixMilli()); err != nil {
		return err
	}
	in.message.ClientID = c.state.ClientID()
	if c.draining.Load() {
		return session.ErrShuttingDown
	}
	if l.all != nil {
		return l.messageToAll(id, settled, state)
	}
	d := l.d
	if d != nil {
		if err := c.sendable(d); err != nil { // the rules may have changed
			return err
		}
	}
	if d == nil {
		var err error
		if d, err = c.named(in.to, in.toKind); err != nil {
			return err
		}
	}
	if state.Transactional {
		return l.inTransaction(id, settled, state, d)
	}
	return c.sends.add(c, message{l, id, settled}, d, len(payload))
}

// relayed is a destination that messages name.
type relayed struct {
	name string
	kind int8
}

// named is the destination that a message on the anonymous relay names.
func (c *connection) named(to string, kind int8) (*destination.Destination, error) {
	key := relayed{to, kind}
	if d := c.nodes[key]; d != nil && !d.Partitions[0].Log().Deleted() {
		return d, nil
	}
	if to == "" {
		return nil, broken(codec.InvalidField, "a message on the anonymous relay that names no destination")
	}
	name, k := address(to, nil)
	create := true
	switch kind {
	case 0:
		k = destination.KindQueue
	case 1:
		k = destination.KindTopic
	case 2, 3:
		k, create = 0, false
	}
	d, err := c.resolve(c.ctx, name, k, create)
	if err == nil {
		err = c.sendable(d)
	}
	if err != nil {
		return nil, err
	}
	if len(c.nodes) >= maxNodes {
		clear(c.nodes)
	}
	c.nodes[key] = d
	return d, nil
}

// maxNodes bounds the destinations of the relay that a connection remembers.
const maxNodes = 4096

// single makes a batch of the message that was parsed. It is valid until the next.
func (c *connection) single() (record.Batch, error) {
	c.sends.one.Reset()
	if err := c.in.message.AppendTo(&c.sends.one, c.in.own...); err != nil {
		return nil, err
	}
	return c.sends.one.Batch(), nil
}

// inTransaction adds a message to a transaction (§4.4.1).
func (l *receiver) inTransaction(id uint32, settled bool, state *codec.State, d *destination.Destination) error {
	c := l.s.c
	t, err := c.transaction(state.TxnID)
	if err != nil {
		return err
	}
	p := d.Route(c.in.message.Key, c.state.Number())
	batch, err := c.single()
	if err == nil {
		err = session.Takes(d, p, len(batch))
	}
	if err == nil {
		err = p.Room().Take(1)
	}
	if err == nil {
		err = t.inner.Send(p, batch)
	}
	if err != nil {
		if t.failed == nil {
			t.failed = err
		}
		return err
	}
	l.answered(1)
	if !settled {
		c.disposition(l.s.number, &codec.Disposition{
			Role: codec.RoleReceiver, First: id, Last: id, Settled: true,
			State: codec.State{Transactional: true, TxnID: t.id, Kind: codec.Accepted},
		})
	}
	return nil
}

// messageToAll sends a message to all destinations of a list, or to none.
func (l *receiver) messageToAll(id uint32, settled bool, state *codec.State) error {
	c := l.s.c
	if state.Transactional {
		return fmt.Errorf("%w: a list of destinations in a transaction; send to each", session.ErrUnsupported)
	}
	c.sends.flush(c) // so that the order stays
	batch, err := c.single()
	if err != nil {
		return err
	}
	for _, d := range l.all {
		for _, p := range d.Partitions {
			if err := session.Takes(d, p, len(batch)); err != nil {
				return err
			}
		}
		if err := d.Partitions[0].Room().Take(1); err != nil {
			return fmt.Errorf("%q: %w", d.Name, err)
		}
	}
	g := newSendGroup(c)
	g.messages = append(g.messages, message{l, id, settled})
	c.hold(true)
	if err := l.s.inner.SendAll(l.all, batch, g); err != nil {
		g.forget()
		return err
	}
	return nil
}

// control takes a message to the coordinator (§4.1).
func (l *receiver) control(id uint32, settled bool, payload []byte) {
	c := l.s.c
	what, err := codec.DecodeControl(payload)
	if err != nil {
		l.reject(id, settled, err)
		return
	}
	if _, ok := what.(*codec.Declare); ok {
		t, err := c.declare(l)
		if err != nil {
			l.reject(id, settled, err)
			return
		}
		l.answered(1)
		c.disposition(l.s.number, &codec.Disposition{
			Role: codec.RoleReceiver, First: id, Last: id, Settled: true, State: codec.State{Kind: codec.Declared, TxnID: t.id},
		})
		return
	}
	discharge := what.(*codec.Discharge)
	t, err := c.transaction(discharge.TxnID)
	if err != nil {
		l.reject(id, settled, err)
		return
	}
	delete(c.transactions, string(t.id))
	c.sends.flush(c)
	end := &transactionEnd{l: l, id: id, settled: settled}
	c.underWay.Add(1)
	switch {
	case discharge.Fail:
		err = t.inner.Rollback(end)
	case t.failed != nil:
		_ = t.inner.Rollback(nil)
		err = fmt.Errorf("%w: %w", session.ErrRolledBack, t.failed)
	default:
		c.hold(true)
		err = t.inner.Commit(end)
	}
	if err != nil {
		end.Committed(err)
	}
}

// transactionEnd answers a discharge.
type transactionEnd struct {
	l       *receiver
	id      uint32
	settled bool
}

// Committed implements commitlog.Waiter.
func (e *transactionEnd) Committed(err error) {
	c := e.l.s.c
	if err != nil {
		refused := refusal(err)
		refused.Condition = codec.TransactionRollback
		err = refused
		e.l.reject(e.id, e.settled, err)
	} else {
		e.l.answered(1)
		if !e.settled {
			c.disposition(e.l.s.number, &codec.Disposition{
				Role: codec.RoleReceiver, First: e.id, Last: e.id, Settled: true, State: codec.State{Kind: codec.Accepted},
			})
		}
	}
	c.out.Flush()
	c.underWay.Add(-1)
}

var _ commitlog.Waiter = (*transactionEnd)(nil)
