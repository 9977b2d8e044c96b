package stomp

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/topic"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

// ackMode is what a SUBSCRIBE says of acknowledgements.
type ackMode uint8

const (
	ackAuto       ackMode = iota
	ackClient             // with what was delivered before
	ackIndividual         // one by one
)

var ackModes = map[string]ackMode{"": ackAuto, "auto": ackAuto, "client": ackClient, "client-individual": ackIndividual}

// maxPrefetch bounds what a subscription may have that is not acknowledged.
const maxPrefetch = 1 << 16

// subscription is a consumer by the id that its peer gave it. It is a session.Sink.
type subscription struct {
	c        *connection
	id       string
	number   uint64
	mode     ackMode
	named    string            // its own temporary queue, as the peer calls it; empty: none
	consumer *session.Consumer // nil: a browser

	mu      sync.Mutex // guards what follows; taken under a view's lock
	out     outbound
	reader  record.Reader
	from    []string // by member
	names   []string // the same without prefixes
	held    []held   // delivered and not acknowledged, by number
	last    uint64   // the newest delivery's number
	settles bool     // in auto mode: the lane will settle what is held
	gone    bool     // nothing more is delivered
}

// held is one delivery.
type held struct {
	number uint64
	span   queue.Span
}

// subscribe handles a SUBSCRIBE.
func (c *connection) subscribe(f *frame.Frame) error {
	where := f.Get("destination")
	id, ok := f.Lookup("id")
	key := id
	if !ok {
		if c.version != frame.V10 {
			return invalid("SUBSCRIBE without an id")
		}
		key = where // 1.0: it may be named by its destination
	}
	mode, known := ackModes[f.Get("ack")]
	switch {
	case !known || mode == ackIndividual && c.version == frame.V10:
		return invalid("ack %.40q", f.Get("ack"))
	case c.subscriptions[key] != nil:
		return fmt.Errorf("subscription %.80q: %w", key, session.ErrExists)
	case len(c.subscriptions) >= c.server.options.MaxSubscriptions:
		return fmt.Errorf("%w: a connection may have %d subscriptions", session.ErrBusy, c.server.options.MaxSubscriptions)
	}
	prefetch := int64(c.server.options.Prefetch)
	if text, ok := f.Lookup("activemq.prefetchSize"); ok {
		n, err := number(text, maxPrefetch)
		if err != nil {
			return err
		}
		prefetch = max(n, 1) // there is no frame that asks for a message
	}
	c.subscribed++
	s := &subscription{c: c, id: id, number: c.subscribed, mode: mode, out: outbound{version: c.version}}
	spec, err := c.spec(f, s)
	if err != nil {
		return err
	}
	c.endPass() // opening a consumer may wait
	if f.Get("browser") == "true" {
		if spec.DestinationKind != destination.KindQueue {
			return invalid("a browser of %.80q, which is no queue", where)
		}
		s.mode = ackAuto
		if err := c.browse(s, spec); err != nil {
			return err
		}
		c.subscriptions[key], c.numbers[s.number] = s, s
		c.receipt(f.Get("receipt"))
		return nil
	}
	if s.consumer, err = c.session.Consume(c.ctx, spec, s); err != nil {
		return err
	}
	if d := s.consumer.Destination(); d != nil {
		where = nodeAddress(d)
		if s.named != "" {
			where = temporaryPrefix + s.named
		}
		s.from, s.names = []string{where}, []string{d.Name}
	}
	c.subscriptions[key], c.numbers[s.number] = s, s
	c.receipt(f.Get("receipt"))
	s.consumer.Credit(int(prefetch))
	return nil
}

// spec is what a SUBSCRIBE asks for.
func (c *connection) spec(f *frame.Frame, s *subscription) (session.Spec, error) {
	name, kind, temporary, err := address(f.Get("destination"))
	if err != nil {
		return session.Spec{}, err
	}
	spec := session.Spec{
		Destination: name, DestinationKind: kind, Selector: f.Get("selector"),
		NoLocal:   f.Get("no-local") == "true" || f.Get("activemq.noLocal") == "true",
		Exclusive: f.Get("activemq.exclusive") == "true",
	}
	durable := durableName(f)
	switch {
	case temporary:
		d, err := c.temporaryQueue(name)
		if err != nil {
			return spec, err
		}
		s.named, spec.Destination = name, d.Name
	case kind == destination.KindTopic && durable != "":
		spec.Subscription, spec.Name = topic.Durable, durable
	case kind == destination.KindTopic:
		spec.Subscription = topic.Temporary
	case durable != "":
		return spec, invalid("a durable subscription of a queue")
	}
	return spec, nil
}

// durableName is the name of a durable subscription, as ActiveMQ's clients say it.
func durableName(f *frame.Frame) string {
	if name := f.Get("durable-subscription-name"); name != "" {
		return name
	}
	return f.Get("activemq.subscriptionName")
}

// unsubscribe handles an UNSUBSCRIBE: with the name of a durable subscription it
// deletes that, without it goes on without a consumer.
func (c *connection) unsubscribe(f *frame.Frame) error {
	key, ok := f.Lookup("id")
	if !ok && c.version == frame.V10 {
		key = f.Get("destination")
	}
	s, durable := c.subscriptions[key], durableName(f)
	if s == nil && durable == "" {
		return fmt.Errorf("subscription %.80q: %w", key, session.ErrNotFound)
	}
	c.endPass() // what follows may wait
	if s != nil {
		delete(c.subscriptions, key)
		delete(c.numbers, s.number)
		if err := s.close(); err != nil {
			return err
		}
	}
	c.prune()
	if durable != "" {
		if err := c.state.Unsubscribe(c.ctx, durable, false); err != nil {
			return err
		}
	}
	c.receipt(f.Get("receipt"))
	return nil
}

// close ends the deliveries, and gives back what was not acknowledged: uncounted, for
// a client has prefetched most of it and shown it to nobody.
func (s *subscription) close() error {
	if s.consumer != nil {
		s.consumer.Revoke()
	}
	s.mu.Lock()
	s.gone = true
	spans := spansOf(s.held)
	s.held = nil
	s.mu.Unlock()
	if s.consumer == nil {
		return nil
	}
	outcome := queue.Outcome{Kind: queue.Release, CountBack: true}
	if s.mode == ackAuto {
		outcome.Kind = queue.Acknowledge // it was sent
	}
	s.consumer.Close()
	s.c.closed = append(s.c.closed, s)
	if len(spans) == 0 {
		return nil
	}
	return s.consumer.Settle(spans, outcome, nil)
}

// prune forgets the closed subscriptions of which no transaction holds anything.
func (c *connection) prune() {
	c.closed = slices.DeleteFunc(c.closed, func(s *subscription) bool { return s.consumer.Ended() || s.consumer.Prune() })
}

// acknowledge handles an ACK or a NACK.
func (c *connection) acknowledge(f *frame.Frame, ack bool) error {
	if !ack && c.version == frame.V10 {
		return invalid("NACK in STOMP 1.0")
	}
	name := f.Get("id")
	if name == "" || c.version != frame.V12 {
		name = f.Get("message-id")
	}
	first, second, _ := strings.Cut(strings.TrimPrefix(name, "d"), "-")
	number, err1 := strconv.ParseUint(first, 36, 64)
	delivery, err2 := strconv.ParseUint(second, 36, 64)
	s := c.numbers[number]
	if err1 != nil || err2 != nil || s == nil {
		return fmt.Errorf("message %.80q: %w among what is to be acknowledged", name, session.ErrNotFound)
	}
	if id, ok := f.Lookup("subscription"); ok && id != s.id && c.version == frame.V11 {
		return invalid("message %.80q is not of subscription %.80q", name, id)
	}
	in, transacted := f.Lookup("transaction")
	t := c.transactions[in]
	if transacted && t == nil {
		return fmt.Errorf("transaction %.80q: %w", in, session.ErrNotFound)
	}
	if s.mode == ackAuto {
		c.receipt(f.Get("receipt")) // it is done already, or soon
		return nil
	}
	taken := s.take(delivery)
	if len(taken) == 0 {
		return fmt.Errorf("message %.80q: %w among what is to be acknowledged", name, session.ErrNotFound)
	}
	c.sends.flush() // so that the order stays
	c.hold()
	spans := spansOf(taken)
	if transacted && ack {
		if err := t.Acknowledge(s.consumer, spans); err != nil {
			return err
		}
		c.receipt(f.Get("receipt"))
	} else {
		outcome := queue.Outcome{Kind: queue.Acknowledge}
		if !ack {
			outcome = queue.Outcome{Kind: queue.Release, Delay: -1, Reason: "NACK"}
		}
		if err := s.consumer.Settle(spans, outcome, c.waiter(f.Get("receipt"))); err != nil {
			c.end() // a view that refuses does not call it
			return err
		}
	}
	s.consumer.Credit(len(taken))
	return nil
}

// take takes a delivery from what is held; in client mode all before it, too.
func (s *subscription) take(number uint64) []held {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := slices.BinarySearchFunc(s.held, number, func(h held, n uint64) int {
		switch {
		case h.number < n:
			return -1
		case h.number > n:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	from := i
	if s.mode == ackClient {
		from = 0
	}
	taken := slices.Clone(s.held[from : i+1])
	s.held = slices.Delete(s.held, from, i+1)
	return taken
}

// spansOf joins neighbours.
func spansOf(all []held) (spans []queue.Span) {
	for _, h := range all {
		if n := len(spans); n > 0 {
			p := &spans[n-1]
			if p.Partition == h.span.Partition && p.Offset+int64(p.Count) == h.span.Offset && p.Acquisition+uint64(p.Count) == h.span.Acquisition {
				p.Count++
				continue
			}
		}
		spans = append(spans, h.span)
	}
	return spans
}

// Deliver implements queue.Sink. It is called under the view's lock.
func (s *subscription) Deliver(d queue.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return // close gives back what the consumer holds, with its session
	}
	b, writing := s.c.out.Begin()
	if err := s.reader.Reset(d.Batch, math.MaxInt32); err == nil {
		for i := 0; i < d.Records && s.reader.Next(); {
			r := s.reader.Record()
			if r.Offset < d.Offset {
				continue
			}
			s.last++
			s.held = append(s.held, held{s.last, queue.Span{
				Partition: d.Partition, Offset: r.Offset, Acquisition: d.FirstAcquisition + uint64(i), Count: 1,
			}})
			if writing {
				b = s.message(b, r, d, i)
			}
			i++
		}
	}
	if writing {
		s.c.out.EndDelivery(b)
	}
	if s.mode == ackAuto && !s.settles {
		s.settles = true
		s.c.later.Do(0, s.settle)
	}
}

// message appends the i-th record of a delivery. The lock is held.
func (s *subscription) message(b []byte, r *record.Record, d queue.Delivery, i int) []byte {
	what := delivered{subscription: s.id, token: token(s.number, s.last), acks: s.mode != ackAuto, count: 1}
	if member := int(d.Partition >> session.MemberShift); member < len(s.from) {
		what.destination = s.from[member]
		what.id = fmt.Sprintf("ID:%s-%d-%d", s.names[member], d.Partition&(1<<session.MemberShift-1), r.Offset)
	}
	if d.Counts != nil {
		what.count = d.Counts[i]
	}
	return s.out.append(b, r, what)
}

// settle acknowledges, in auto mode, what was sent, once the peer keeps up.
func (s *subscription) settle() {
	if !s.c.out.Room() {
		return
	}
	s.mu.Lock()
	taken := s.held
	s.held, s.settles = nil, false
	s.mu.Unlock()
	if len(taken) == 0 {
		return
	}
	if err := s.consumer.Settle(spansOf(taken), queue.Outcome{Kind: queue.Acknowledge}, nil); err != nil {
		s.c.fail(err)
		return
	}
	s.consumer.Credit(len(taken))
}

// Joined implements session.Sink.
func (s *subscription) Joined(_ int32, d *destination.Destination) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from, s.names = append(s.from, nodeAddress(d)), append(s.names, d.Name)
}

// Drained implements queue.Sink.
func (s *subscription) Drained(*queue.Consumer) {}

// Closed implements queue.Sink: the broker has closed it, because its destination or
// subscription is gone. STOMP can tell that only with an ERROR.
func (s *subscription) Closed(_ *queue.Consumer, err error) {
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	if gone {
		return
	}
	if err == nil {
		err = session.ErrClosed
	}
	s.c.fail(fmt.Errorf("subscription %.80q: %w", s.id, err))
}

// Flush implements queue.Sink.
func (s *subscription) Flush() { s.c.out.FlushDirect() }
