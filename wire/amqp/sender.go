package amqp

import (
	"context"
	"sync/atomic"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/topic"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// sender is a link on which we send: a consumer of ours, a browser, or what is left
// of a subscription that the peer is about to delete. It is a session.Sink.
type sender struct {
	s              *channel
	handle         uint32
	name           string
	settles        bool // what is sent is settled
	defaultOutcome codec.State
	consumer       atomic.Pointer[session.Consumer] // nil until it is open, and for a browser

	// Of the ordered lane.
	browse    *browser
	durable   *subscription // that a closing Detach deletes
	temporary string        // that is deleted with the link

	// Guarded by the channel's lock.
	open          bool
	early         *codec.Flow // that came before it was open
	granted       uint32      // up to where the peer has given credit, as a delivery-count
	given         uint32      // what the view has delivered, likewise
	deliveryCount uint32      // what was sent (§2.6.7)
	gone          bool        // nothing more is sent
	nodes         []node
}

func newSender(s *channel, p *codec.Attach) *sender {
	l := &sender{s: s, handle: p.Handle, name: p.Name, settles: p.SenderSettleMode == codec.SenderSettled}
	if p.Source != nil {
		l.defaultOutcome = p.Source.DefaultOutcome
	}
	l.later(func(ctx context.Context) { l.attach(ctx, p) })
	return l
}

// later does what may wait, in its order.
func (l *sender) later(do func(ctx context.Context)) {
	c := l.s.c
	c.underWay.Add(1)
	c.ordered.Do(0, func() {
		do(c.ctx)
		c.underWay.Add(-1)
		c.out.Flush()
	})
}

// attach opens the link, and answers.
func (l *sender) attach(ctx context.Context, p *codec.Attach) {
	s, c := l.s, l.s.c
	mode := codec.SenderUnsettled
	if l.settles {
		mode = codec.SenderSettled
	}
	reply := &codec.Attach{
		Name: p.Name, Handle: p.Handle, Role: codec.RoleSender, SenderSettleMode: mode, ReceiverSettleMode: p.ReceiverSettleMode,
		Target: p.Target, Coordinator: p.Coordinator, InitialDeliveryCount: codec.Some(0),
	}
	var err error
	if c.draining.Load() {
		err = session.ErrShuttingDown
	} else {
		reply.Source, err = l.consume(ctx, p)
	}
	c.performative(s.number, reply)
	if err != nil {
		l.refuse(err)
		return
	}
	for {
		s.mu.Lock()
		early := l.early
		l.early, l.open = nil, early == nil
		s.mu.Unlock()
		if early == nil {
			return
		}
		l.apply(early)
	}
}

// refuse ends a link that could not be opened (§2.6.3: an attach without a source
// has been sent).
func (l *sender) refuse(err error) {
	l.s.mu.Lock()
	l.gone = true
	l.s.mu.Unlock()
	l.s.c.performative(l.s.number, &codec.Detach{Handle: l.handle, Closed: true, Error: refusal(err)})
}

// consume opens what the source says, and returns what it is.
func (l *sender) consume(ctx context.Context, p *codec.Attach) (*codec.Source, error) {
	c := l.s.c
	if p.Source == nil {
		sub, source, err := c.stored(ctx, p)
		if err == nil {
			l.durable = &sub
		}
		return source, err
	}
	source := *p.Source
	var spec session.Spec
	browse := false
	if source.Dynamic {
		d, err := c.temporary(ctx, source.Capabilities)
		if err != nil {
			return nil, err
		}
		l.temporary = d.Name
		source.Address, source.DynamicNode = codec.SomeString(d.Name), dynamicNode
		spec = session.Spec{Destination: d.Name}
		if d.Kind == destination.KindTopic {
			spec.Subscription = topic.Temporary
		}
	} else {
		var err error
		if spec, browse, source.Filter, err = c.spec(ctx, p); err != nil {
			return nil, err
		}
	}
	if browse {
		b, err := newBrowser(ctx, l, spec)
		if err != nil {
			return nil, err
		}
		l.browse, l.settles = b, true
		return &source, nil
	}
	k, err := l.s.inner.Consume(ctx, spec, l)
	if err != nil {
		l.deleteTemporary()
		return nil, err
	}
	if d := k.Destination(); d != nil {
		l.s.mu.Lock()
		l.nodes = append(l.nodes, nodeOf(d))
		l.s.mu.Unlock()
	}
	if spec.Subscription == topic.Durable || spec.Subscription == topic.SharedDurable {
		l.durable = &subscription{name: spec.Name, shared: spec.Subscription == topic.SharedDurable, global: spec.Global}
	}
	l.consumer.Store(k)
	return &source, nil
}

// node is where a delivery of a partition comes from. The channel's lock is held.
func (l *sender) node(partition int32) node {
	if i := int(partition >> session.MemberShift); i < len(l.nodes) {
		return l.nodes[i]
	}
	return node{}
}

// flow implements link.
func (l *sender) flow(f *codec.Flow) {
	s := l.s
	s.mu.Lock()
	if !l.open {
		early := *f
		l.early = &early
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	l.apply(f)
}

// apply takes credit, or takes it back: §2.6.7. It is called by whoever has opened
// the link, and then by the reader.
func (l *sender) apply(f *codec.Flow) {
	s := l.s
	k := l.consumer.Load()
	if f.LinkCredit.Set && (k != nil || l.browse != nil) {
		limit := f.DeliveryCount.V + f.LinkCredit.V
		s.mu.Lock()
		more := int32(limit - l.granted)
		if more > 0 || k == nil {
			l.granted = limit
		}
		s.mu.Unlock()
		switch {
		case l.browse != nil:
			l.browse.want(limit, f.Drain)
		case more > 0:
			k.Credit(int(more))
		case more < 0:
			l.reduce(k, limit)
		}
		if f.Drain && k != nil {
			k.Drain()
		}
	}
	if f.Echo && !f.Drain {
		s.mu.Lock()
		reply := l.flowFrame(l.granted - l.deliveryCount)
		s.mu.Unlock()
		s.c.performative(s.number, reply)
		s.c.out.Flush()
	}
}

// reduce takes back credit: what the view has delivered meanwhile is on its way.
func (l *sender) reduce(k *session.Consumer, limit uint32) {
	k.Revoke()
	l.s.mu.Lock()
	more := int32(limit - l.given)
	l.granted = l.given + uint32(max(more, 0))
	l.s.mu.Unlock()
	if more > 0 {
		k.Credit(int(more))
	}
}

// flowFrame is the link's state. The channel's lock is held.
func (l *sender) flowFrame(credit uint32) *codec.Flow {
	f := l.s.flowFrame()
	f.Handle, f.DeliveryCount, f.LinkCredit = codec.Some(l.handle), codec.Some(l.deliveryCount), codec.Some(credit)
	return f
}

// sendDrained tells the peer that its credit is used up (§2.6.7). The channel's
// lock is held.
func (l *sender) sendDrained(upTo uint32) {
	if l.gone {
		return
	}
	l.deliveryCount = upTo
	f := l.flowFrame(0)
	f.Drain = true
	l.s.c.performative(l.s.number, f)
}

// Deliver implements queue.Sink. It is called under the view's lock.
func (l *sender) Deliver(d queue.Delivery) {
	batch := batches.Get().(*[]byte)
	*batch = append((*batch)[:0], d.Batch...)
	p := parcel{
		sender: l, batch: batch, partition: d.Partition, offset: d.Offset, records: d.Records, acquisition: d.FirstAcquisition,
	}
	if d.Counts != nil {
		p.counts = append(p.counts, d.Counts...)
	}
	s := l.s
	s.mu.Lock()
	l.given += uint32(d.Records)
	s.enqueue(p)
	s.mu.Unlock()
}

// Flush implements queue.Sink.
func (l *sender) Flush() {
	l.s.pump()
	l.s.c.out.FlushDirect()
}

// Drained implements queue.Sink.
func (l *sender) Drained(*queue.Consumer) {
	s := l.s
	s.mu.Lock()
	l.given = l.granted
	s.enqueue(parcel{sender: l, drained: true, upTo: l.given})
	s.mu.Unlock()
	s.c.later.Do(0, func() {
		s.pump()
		s.c.out.Flush()
	})
}

// Joined implements session.Sink.
func (l *sender) Joined(member int32, d *destination.Destination) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for len(l.nodes) <= int(member) {
		l.nodes = append(l.nodes, node{})
	}
	l.nodes[member] = nodeOf(d)
}

// Closed implements queue.Sink: the broker has closed it, because its destination
// or subscription is gone.
func (l *sender) Closed(_ *queue.Consumer, err error) {
	if err == nil {
		err = session.ErrClosed
	}
	l.s.c.later.Do(0, func() {
		l.s.mu.Lock()
		gone := l.gone
		l.gone = true
		l.s.mu.Unlock()
		if !gone {
			l.refuse(err)
			l.s.c.out.Flush()
		}
	})
}

// detach implements link.
func (l *sender) detach(d *codec.Detach) {
	closed := d.Closed
	l.later(func(ctx context.Context) {
		s := l.s
		s.mu.Lock()
		told := l.gone // our Detach has crossed the peer's
		s.mu.Unlock()
		l.revoke()
		l.giveBack()
		if k := l.consumer.Load(); k != nil {
			k.Close()
		}
		reply := &codec.Detach{Handle: l.handle, Closed: closed}
		if closed && l.durable != nil {
			if err := s.c.unsubscribe(ctx, *l.durable); err != nil {
				reply.Error = refusal(err)
			}
		}
		l.deleteTemporary()
		if !told {
			s.c.performative(s.number, reply)
		}
	})
}

// revoke has nothing more delivered. It comes before giveBack, which else might be given
// the same again.
func (l *sender) revoke() {
	if k := l.consumer.Load(); k != nil {
		k.Revoke()
	}
}

// giveBack has what the peer has not settled delivered again, as if it had not
// been: nobody says that he has seen it.
func (l *sender) giveBack() {
	parts := l.s.forget(l)
	k := l.consumer.Load()
	if k == nil {
		return
	}
	for _, p := range parts {
		_ = k.Settle(p.spans, queue.Outcome{Kind: queue.Release, CountBack: true}, nil) // what is not held has gone back
	}
	k.Prune()
}

// end implements link.
func (l *sender) end() {}

// deleteTemporary deletes the node that was made for the link.
func (l *sender) deleteTemporary() {
	if l.temporary != "" {
		l.s.c.deleteTemporary(l.temporary)
		l.temporary = ""
	}
}

// deleteTemporary deletes a temporary destination, if the peer has not done so, and
// unless somebody consumes from it: then it goes with the connection.
func (c *connection) deleteTemporary(name string) {
	if err := c.state.DeleteTemporary(context.WithoutCancel(c.ctx), name); err != nil {
		c.server.options.Logger.Debug("deleting a temporary destination", "name", name, "error", err)
	}
}

// browser shows what is in a queue, page by page, as the peer has credit.
type browser struct {
	l        *sender
	name     string
	selector string
	after    queue.Position

	// Of the lane later.
	shown uint32 // as a delivery-count
}

// browserPage bounds the records of a page.
const browserPage = 100

func newBrowser(ctx context.Context, l *sender, spec session.Spec) (*browser, error) {
	b := &browser{l: l, name: spec.Destination, selector: spec.Selector}
	c := l.s.c
	n := node{name: spec.Destination}
	if !destination.IsPattern(spec.Destination) {
		if _, virtual := destination.CutVirtual(spec.Destination); !virtual {
			d, err := c.resolve(ctx, spec.Destination, spec.DestinationKind, true)
			if err != nil {
				return nil, err
			}
			n = nodeOf(d)
		}
	}
	l.s.mu.Lock()
	l.nodes = append(l.nodes, n)
	l.s.mu.Unlock()
	// What is wrong with it is told now.
	_, _, err := c.state.Browse(ctx, b.name, b.selector, nil, 1, func(int32, record.Batch, []queue.State) error { return nil })
	return b, err
}

// want shows more, up to where the peer has given credit.
func (b *browser) want(granted uint32, drain bool) {
	c := b.l.s.c
	c.underWay.Add(1)
	c.later.Do(0, func() {
		defer c.underWay.Add(-1)
		if err := b.show(granted); err != nil {
			b.l.Closed(nil, err)
			return
		}
		if drain {
			s := b.l.s
			s.mu.Lock()
			b.shown = granted
			b.l.given = granted
			s.enqueue(parcel{sender: b.l, drained: true, upTo: granted})
			s.mu.Unlock()
			s.pump()
		}
		c.out.Flush()
	})
}

func (b *browser) show(granted uint32) error {
	l, s := b.l, b.l.s
	for more := true; more && int32(granted-b.shown) > 0; {
		s.mu.Lock()
		stop := l.gone || s.over
		s.mu.Unlock()
		if stop {
			return nil
		}
		var err error
		b.after, more, err = s.c.state.Browse(s.c.ctx, b.name, b.selector, b.after, int(min(granted-b.shown, browserPage)),
			func(partition int32, batch record.Batch, states []queue.State) error {
				n := uint32(0)
				for _, state := range states {
					if state != queue.Scheduled {
						n++
					}
				}
				copied := batches.Get().(*[]byte)
				*copied = append((*copied)[:0], batch...)
				s.mu.Lock()
				b.shown += n
				l.given += n
				s.enqueue(parcel{
					sender: l, batch: copied, partition: partition, offset: batch.BaseOffset(), records: len(states),
					states: append([]queue.State{}, states...),
				})
				s.mu.Unlock()
				return nil
			})
		if err != nil {
			return err
		}
		s.pump()
	}
	return nil
}
