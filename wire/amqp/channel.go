package amqp

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

const (
	// incomingWindow is how many transfers a peer may send ahead (§2.5.6).
	incomingWindow = 2048
	// outgoingWindow is what we say of ours, which has no bound of its own.
	outgoingWindow = math.MaxInt32
)

// link is one of ours: a sender, or a receiver.
type link interface {
	// flow handles a Flow of the peer's for this link.
	flow(f *codec.Flow)
	// detach ends the link, whose handle is free: the peer has sent a Detach.
	detach(d *codec.Detach)
	// end ends it with its session, on the reader.
	end()
}

// channel is a session of AMQP's (§2.5), which is one of ours, and the channel of
// that number in both directions.
type channel struct {
	c      *connection
	number uint16
	inner  *session.Session

	// Of the reader.
	links    map[uint32]link
	ended    bool // our End was sent, and the peer's is awaited
	incoming struct {
		id      uint32 // of the next delivery
		started bool
	}

	nextIncomingID atomic.Uint32 // of the next transfer; the reader alone changes it
	window         atomic.Uint32 // transfers that the peer may still send; likewise
	nextOutgoingID atomic.Uint32 // who has mu changes it

	mu           sync.Mutex // guards what follows; taken under views' locks
	remoteWindow uint32     // transfers that we may still send
	nextDelivery uint32
	unsettled    map[uint32]held
	pending      []parcel // deliveries that are to be sent, in order
	kept         int      // bytes of them
	overfull     bool     // kept is too much
	over         bool     // the session has ended
	out          outbound
	records      record.Reader // of the first of pending
	opened       bool          // records is
	at           int           // how many of its records are sent
	message      []byte        // the one that is being sent
	rest         []byte        // of it
	restOf       *sender
	restID       codec.Uint32 // not set once its first frame is sent
	restSettled  bool
	done         []settled // sent settled, to be acknowledged
}

// held is a delivery that the peer has not settled.
type held struct {
	sender *sender
	span   queue.Span
	noted  bool // acknowledged in a transaction
}

// settled is a delivery that was settled when it was sent.
type settled struct {
	sender *sender
	span   queue.Span
}

// parcel is a delivery of a view, a page of a browser, or what follows one: that a
// sender is drained.
type parcel struct {
	sender      *sender
	drained     bool
	upTo        uint32  // the delivery-count of a sender that is
	batch       *[]byte // pooled
	partition   int32
	offset      int64
	records     int
	acquisition uint64
	counts      []uint16
	states      []queue.State // of a browser's
}

var batches = sync.Pool{New: func() any { return new([]byte) }}

// pooledBatch is the largest buffer that is pooled.
const pooledBatch = 1 << 20

func newChannel(c *connection, number uint16, inner *session.Session, p *codec.Begin) *channel {
	s := &channel{
		c: c, number: number, inner: inner, links: map[uint32]link{}, unsettled: map[uint32]held{}, remoteWindow: p.IncomingWindow,
	}
	s.nextIncomingID.Store(p.NextOutgoingID)
	s.window.Store(incomingWindow)
	return s
}

// handle handles a frame. A *sessionError ends the session, any other error the
// connection.
func (s *channel) handle(p codec.Performative, payload []byte) error {
	switch p := p.(type) {
	case *codec.Attach:
		return s.attach(p)
	case *codec.Flow:
		return s.flow(p)
	case *codec.Transfer:
		return s.transfer(p, payload)
	case *codec.Disposition:
		return s.disposition(p)
	case *codec.Detach:
		l := s.links[p.Handle]
		if l == nil {
			return endsSession(codec.UnattachedHandle, "a detach of handle %d", p.Handle)
		}
		s.c.sends.flush(s.c)
		delete(s.links, p.Handle)
		l.detach(p)
		return nil
	case *codec.End:
		s.end()
		return nil
	}
	return broken(codec.NotAllowed, "%T within a session", p)
}

func (s *channel) attach(p *codec.Attach) error {
	switch {
	case p.Handle >= uint32(s.c.server.options.MaxLinks):
		return broken(codec.FramingError, "handle %d; handle-max is %d", p.Handle, s.c.server.options.MaxLinks-1)
	case s.links[p.Handle] != nil:
		return endsSession(codec.HandleInUse, "handle %d", p.Handle)
	}
	if p.Role == codec.RoleReceiver {
		s.links[p.Handle] = newSender(s, p)
	} else {
		s.links[p.Handle] = newReceiver(s, p)
	}
	return nil
}

// flow handles a Flow (§2.5.6, §2.6.7).
func (s *channel) flow(f *codec.Flow) error {
	var l link
	if f.Handle.Set {
		if l = s.links[f.Handle.V]; l == nil {
			return endsSession(codec.UnattachedHandle, "a flow for handle %d", f.Handle.V)
		}
	}
	s.mu.Lock()
	// What it has not received yet was sent into the window that it says.
	s.remoteWindow = f.NextIncomingID.V + f.IncomingWindow - s.nextOutgoingID.Load()
	if int32(s.remoteWindow) < 0 {
		s.remoteWindow = 0
	}
	s.mu.Unlock()
	s.nextIncomingID.Store(f.NextOutgoingID)
	s.pump()
	if l != nil {
		l.flow(f)
		return nil
	}
	if f.Echo {
		s.c.performative(s.number, s.flowFrame())
	}
	return nil
}

// flowFrame is the session's state.
func (s *channel) flowFrame() *codec.Flow {
	return &codec.Flow{
		NextIncomingID: codec.Some(s.nextIncomingID.Load()), IncomingWindow: s.window.Load(),
		NextOutgoingID: s.nextOutgoingID.Load(), OutgoingWindow: outgoingWindow,
	}
}

// transfer handles a Transfer (§2.7.5).
func (s *channel) transfer(p *codec.Transfer, payload []byte) error {
	left := s.window.Load()
	if left == 0 {
		return endsSession(codec.WindowViolation, "a transfer beyond the incoming-window")
	}
	s.nextIncomingID.Add(1)
	s.window.Store(left - 1)
	if left-1 < incomingWindow/2 {
		s.window.Store(incomingWindow)
		s.c.performative(s.number, s.flowFrame())
	}
	r, ok := s.links[p.Handle].(*receiver)
	if !ok {
		return endsSession(codec.UnattachedHandle, "a transfer on handle %d", p.Handle)
	}
	return r.transfer(p, payload)
}

// nextID checks the id of a new delivery: they do not go backwards (§2.8.10).
func (s *channel) nextID(id uint32) error {
	if s.incoming.started && int32(id-s.incoming.id) < 0 {
		return endsSession(codec.InvalidField, "delivery %d after %d", id, s.incoming.id-1)
	}
	s.incoming.id, s.incoming.started = id+1, true
	return nil
}

// disposition handles what the peer says of deliveries (§2.7.6).
func (s *channel) disposition(p *codec.Disposition) error {
	if p.Role == codec.RoleSender {
		return nil // it has settled what it sent, and what is settled here already
	}
	if int32(p.Last-p.First) < 0 {
		return endsSession(codec.InvalidField, "a disposition from %d to %d", p.First, p.Last)
	}
	var t *transaction
	if p.State.Transactional {
		var err error
		if t, err = s.c.transaction(p.State.TxnID); err != nil {
			return &sessionError{refusal(err)}
		}
	}
	parts := s.collect(p, t != nil)
	for _, part := range parts {
		s.settle(p, t, part)
	}
	return nil
}

// portion is deliveries of one sender.
type portion struct {
	sender *sender
	spans  []queue.Span
}

// collect takes the deliveries of a disposition that are to be settled, and forgets
// those that the peer has.
func (s *channel) collect(p *codec.Disposition, transactional bool) (parts []portion) {
	outcome := p.State.Kind != codec.NoState && p.State.Kind != codec.Received && p.State.Kind != codec.UnknownState
	s.mu.Lock()
	defer s.mu.Unlock()
	take := func(id uint32, h held) {
		if !h.noted && (outcome || p.Settled) {
			parts = addSpan(parts, h.sender, h.span)
			h.noted = transactional
			s.unsettled[id] = h
		}
		if p.Settled || outcome && !transactional {
			delete(s.unsettled, id)
		}
	}
	if n := p.Last - p.First; int(n) < len(s.unsettled) {
		for i := range n + 1 {
			if h, ok := s.unsettled[p.First+i]; ok {
				take(p.First+i, h)
			}
		}
		return parts
	}
	for id, h := range s.unsettled {
		if id-p.First <= p.Last-p.First {
			take(id, h)
		}
	}
	return parts
}

// addSpan adds a delivery, in the last span of its sender if it continues that.
func addSpan(parts []portion, of *sender, span queue.Span) []portion {
	for i := range parts {
		if parts[i].sender != of {
			continue
		}
		spans := parts[i].spans
		last := &spans[len(spans)-1]
		if last.Partition == span.Partition && last.Offset+int64(last.Count) == span.Offset && last.Acquisition+uint64(last.Count) == span.Acquisition {
			last.Count += span.Count
			return parts
		}
		parts[i].spans = append(spans, span)
		return parts
	}
	return append(parts, portion{of, []queue.Span{span}})
}

// settle has an outcome done.
func (s *channel) settle(p *codec.Disposition, t *transaction, part portion) {
	k := part.sender.consumer.Load()
	if k == nil {
		return // a browser's
	}
	c := s.c
	state := p.State
	if state.Kind == codec.NoState || state.Kind == codec.Received || state.Kind == codec.UnknownState {
		state = part.sender.defaultOutcome
	}
	if t != nil && state.Kind == codec.Accepted {
		if err := t.inner.Acknowledge(k, part.spans); err != nil && t.failed == nil {
			t.failed = err
		}
		if !p.Settled {
			c.disposition(s.number, &codec.Disposition{Role: codec.RoleSender, First: p.First, Last: p.Last, State: p.State})
		}
		return
	}
	var w *settlement
	if !p.Settled {
		w = &settlement{c: c, number: s.number, first: p.First, last: p.Last, state: state}
		c.underWay.Add(1)
	}
	c.hold(!p.Settled)
	var err error
	if w != nil {
		err = k.Settle(part.spans, outcomeOf(&state), w)
	} else {
		err = k.Settle(part.spans, outcomeOf(&state), nil)
	}
	if err != nil {
		c.server.options.Logger.Debug("settling", "peer", c.conn.RemoteAddr(), "error", err)
		if w != nil {
			w.Committed(nil) // it is not held any more, whatever the peer says of it
		}
	}
	k.Prune()
}

// outcomeOf is a state as what the queue does: AMQP 1.0 §3.4.
func outcomeOf(state *codec.State) queue.Outcome {
	switch {
	case state.Kind == codec.Accepted:
		return queue.Outcome{Kind: queue.Acknowledge}
	case state.Kind == codec.Rejected:
		o := queue.Outcome{Kind: queue.Reject, Reason: "rejected"}
		if e := state.Error; e != nil {
			o.Reason = e.Error()
		}
		return o
	case state.Kind == codec.Modified && state.Undeliverable:
		return queue.Outcome{Kind: queue.Reject, Reason: "undeliverable here"}
	case state.Kind == codec.Modified && state.Failed:
		return queue.Outcome{Kind: queue.Release, Delay: -1}
	}
	return queue.Outcome{Kind: queue.Release, CountBack: true}
}

// settlement tells a peer that waits for it that an outcome is on disk.
type settlement struct {
	c           *connection
	number      uint16
	first, last uint32
	state       codec.State
}

// Committed implements commitlog.Waiter.
func (w *settlement) Committed(err error) {
	state := w.state
	if err != nil {
		state = codec.State{Kind: codec.Released}
	}
	w.c.disposition(w.number, &codec.Disposition{Role: codec.RoleSender, First: w.first, Last: w.last, Settled: true, State: state})
	w.c.underWay.Add(-1)
}

// keepBytes is how many bytes of deliveries wait for a peer's window before its
// connection gets no more.
const keepBytes = 1 << 20

// enqueue adds a parcel. The lock is held.
func (s *channel) enqueue(p parcel) {
	if s.over {
		p.free()
		return
	}
	s.pending = append(s.pending, p)
	if p.batch != nil {
		s.kept += len(*p.batch)
	}
	if s.kept > keepBytes && !s.overfull {
		s.overfull = true
		s.c.stalled.Add(1)
		s.c.choke()
	}
}

func (p *parcel) free() {
	if p.batch != nil && cap(*p.batch) <= pooledBatch {
		batches.Put(p.batch)
	}
	p.batch = nil
}

// pump sends what is pending, as far as the peer's window goes. It must not be
// called under a view's lock.
func (s *channel) pump() {
	s.mu.Lock()
	for n := 1; s.remoteWindow > 0 && s.step(); n++ {
		if n%64 == 0 { // who delivers is not held up for long
			s.mu.Unlock()
			s.mu.Lock()
		}
	}
	done := s.done
	s.done = nil
	s.mu.Unlock()
	var parts []portion
	for _, d := range done {
		parts = addSpan(parts, d.sender, d.span)
	}
	for _, p := range parts {
		if k := p.sender.consumer.Load(); k != nil {
			_ = k.Settle(p.spans, queue.Outcome{Kind: queue.Acknowledge}, nil) // what is not held has gone back
		}
	}
}

// step sends one frame, or finds the next message; false if there is none.
func (s *channel) step() bool {
	if len(s.rest) > 0 {
		s.frame()
		return true
	}
	if len(s.pending) == 0 {
		return false
	}
	p := &s.pending[0]
	if p.drained {
		p.sender.sendDrained(p.upTo)
		s.pop()
		return true
	}
	if !s.opened {
		if s.records.Reset(record.Batch(*p.batch), math.MaxInt32) != nil { // it was read from our own log
			s.pop()
			return true
		}
		s.opened, s.at = true, 0
	}
	if s.at == p.records || !s.records.Next() {
		s.pop()
		return true
	}
	r := s.records.Record()
	if r.Offset < p.offset {
		return true
	}
	i := s.at
	s.at++
	if p.sender.gone || i < len(p.states) && p.states[i] == queue.Scheduled {
		return true
	}
	s.begin(p, r, i)
	return true
}

func (s *channel) pop() {
	p := &s.pending[0]
	if p.batch != nil {
		s.kept -= len(*p.batch)
	}
	p.free()
	if s.opened = false; len(s.pending) == 1 {
		s.pending = s.pending[:0]
	} else {
		s.pending = s.pending[1:]
	}
	if s.overfull && s.kept < keepBytes/2 {
		s.overfull = false
		s.c.stalled.Add(-1)
		s.c.choke()
	}
}

// begin makes the i-th record of p the message that is being sent.
func (s *channel) begin(p *parcel, r *record.Record, i int) {
	l := p.sender
	count := uint16(1)
	if i < len(p.counts) {
		count = p.counts[i]
	}
	s.message = s.out.append(s.message[:0], l.node(p.partition), p.partition&(1<<session.MemberShift-1), r, count, time.Now().UnixMilli())
	s.rest, s.restOf, s.restID, s.restSettled = s.message, l, codec.Some(s.nextDelivery), l.settles
	if p.states == nil {
		span := queue.Span{Partition: p.partition, Offset: r.Offset, Acquisition: p.acquisition + uint64(i), Count: 1}
		if l.settles {
			s.done = append(s.done, settled{l, span})
		} else {
			s.unsettled[s.nextDelivery] = held{sender: l, span: span}
		}
	}
	s.nextDelivery++
	l.deliveryCount++
}

// transferHead bounds what a Transfer has before its payload.
const transferHead = 64

// frame sends the next frame of the message that is being sent.
func (s *channel) frame() {
	b, ok := s.c.out.Begin()
	if !ok {
		s.rest, s.remoteWindow = s.rest[:0], 0
		return
	}
	p := codec.Transfer{Handle: s.restOf.handle}
	var tag [4]byte
	if s.restID.Set {
		binary.BigEndian.PutUint32(tag[:], s.restID.V)
		p.DeliveryID, p.DeliveryTag, p.MessageFormat, p.Settled = s.restID, tag[:], codec.Some(0), s.restSettled
		s.restID.Set = false
	}
	n := min(len(s.rest), s.c.maxFrame-codec.FrameHeaderSize-transferHead)
	p.More = n < len(s.rest)
	b, at := codec.BeginFrame(b, codec.FrameAMQP, s.number)
	b = append(p.Append(b), s.rest[:n]...)
	s.c.out.EndDelivery(codec.EndFrame(b, at))
	if s.rest = s.rest[n:]; len(s.rest) == 0 {
		s.restOf = nil
		if cap(s.message) > pooledBatch {
			s.message = nil
		}
	}
	s.nextOutgoingID.Add(1)
	s.remoteWindow--
}

// forget drops what is pending for a sender, and returns the deliveries that the
// peer has not settled and those that it was never sent; neither is noted in a
// transaction.
func (s *channel) forget(l *sender) (parts []portion) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.gone = true
	if s.restOf == l {
		s.rest, s.restOf = nil, nil
	}
	for id, h := range s.unsettled {
		if h.sender == l {
			if !h.noted {
				parts = addSpan(parts, l, h.span)
			}
			delete(s.unsettled, id)
		}
	}
	for i := range s.pending {
		if p := &s.pending[i]; p.sender == l && !p.drained && p.states == nil {
			from := 0
			if i == 0 && s.opened {
				from = s.at
			}
			if n := p.records - from; n > 0 {
				parts = addSpan(parts, l, queue.Span{
					Partition: p.partition, Offset: p.offset + int64(from), Acquisition: p.acquisition + uint64(from), Count: int32(n),
				})
			}
		}
	}
	return parts
}

// revoke has nothing more delivered to some links, and giveBack what the peer has not
// settled delivered again as if it had not been, for nobody has said that he has seen it.
func revoke(links map[uint32]link) {
	for _, l := range links {
		if l, ok := l.(*sender); ok {
			l.revoke()
		}
	}
}

func giveBack(links map[uint32]link) {
	for _, l := range links {
		if l, ok := l.(*sender); ok {
			l.giveBack()
		}
	}
}

// close makes the channel send nothing any more.
func (s *channel) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.rest, s.restOf = nil, nil
	for len(s.pending) > 0 {
		s.pop()
	}
}

// end handles the peer's End: what it has not settled goes back (§2.5.5).
func (s *channel) end() {
	delete(s.c.channels, s.number)
	s.release(nil)
}

// abandon ends the session in the peer's face.
func (s *channel) abandon(why *codec.Error) {
	s.ended = true
	s.release(why)
}

// release ends the session behind what came before.
func (s *channel) release(why *codec.Error) {
	c := s.c
	c.sends.flush(c)
	links := s.links
	s.links = map[uint32]link{}
	for _, l := range links {
		l.end()
	}
	c.underWay.Add(1)
	c.ordered.Do(0, func() {
		defer c.underWay.Add(-1)
		revoke(links)
		giveBack(links)
		s.close()
		s.inner.Close()
		for _, l := range links {
			switch l := l.(type) {
			case *sender:
				l.deleteTemporary()
			case *receiver:
				l.deleteTemporary()
			}
		}
		c.performative(s.number, &codec.End{Error: why})
		c.out.Flush()
	})
}
