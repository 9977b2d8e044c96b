package polylog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// consumer is the receiving half of a session for one destination or
// subscription. The connection's reader puts batches into its inbox; the one
// goroutine that holds using takes them out, decodes them, and gives credit
// back. What arrives while nobody wants it goes back at once, uncounted.
type consumer struct {
	c       *Connection
	session *Session
	number  uint64
	spec    native.Subscribe // without what differs between connections
	limit   int              // messages fetched ahead, at most

	temporary bool // its destination is gone with the link

	using   chan struct{} // of one element: held by who consumes
	arrived chan struct{} // of one element: something below has changed

	// generation is of the connection that the consumer is open on, 0 while it
	// is on none. It is written under mu.
	generation atomic.Uint64

	mu       sync.Mutex // guards what follows; taken before the connection's
	inbox    []inbound
	head     int  // the first of inbox that is not taken
	wanted   bool // somebody consumes
	stream   bool // credit is given back as messages are seen
	credit   int  // messages granted and not yet seen by the application
	window   int  // credit to keep granted while streaming
	bytes    int  // average of a message, 0: unknown
	drains   int  // Drain asked for and not answered
	err      error
	closing  bool
	left     bool // the broker was asked to close it
	settling settling
	members  []string      // of a pattern: the names of its destinations
	unacked  []native.Span // delivered in ClientAcknowledge and Transacted, in order of delivery

	// current is the batch that is being read, nil between two, and seen how
	// many of its records the application has had. Who holds using moves them;
	// Session.Recover takes current away.
	current atomic.Pointer[inbound]
	seen    atomic.Int64

	// Owned by who holds using.
	reader     *record.Reader
	unreported int // seen, and their credit not yet accounted for
	step       int // report after so many
}

// inbound is one Deliver frame.
type inbound struct {
	batch       record.Batch
	counts      []byte
	partition   int32
	destination string // where it is not the consumer's
	acquisition uint64
	generation  uint64
}

func (in *inbound) count(i int) uint16 {
	if len(in.counts) < 2*i+2 {
		return 1
	}
	return uint16(in.counts[2*i])<<8 | uint16(in.counts[2*i+1])
}

func (s *Session) newConsumer(spec native.Subscribe, prefetch int) *consumer {
	c := &consumer{
		c: s.c, session: s, spec: spec, limit: prefetch,
		using: make(chan struct{}, 1), arrived: make(chan struct{}, 1),
		reader: new(record.Reader),
	}
	c.window = max(1, min(prefetch, prefetchBytes/assumedBytes))
	return c
}

// openConsumer opens a consumer that holds nothing until it is consumed.
func (s *Session) openConsumer(ctx context.Context, spec native.Subscribe, o *consumeOptions) (*consumer, error) {
	if err := s.alive(); err != nil {
		return nil, fmt.Errorf("consume from %s: %w", spec.Destination, err)
	}
	c := s.newConsumer(spec, o.prefetch)
	c.temporary = o.temporary
	if err := c.open(ctx); err != nil {
		return nil, fmt.Errorf("consume from %s: %w", spec.Destination, err)
	}
	return c, nil
}

func (c *consumer) open(ctx context.Context) error {
	s := c.session
	err := c.c.open(ctx, func() {
		c.c.lastConsumer++
		c.number = c.c.lastConsumer
		c.c.consumers[c.number] = c
		c.generation.Store(c.c.link.generation)
	}, c.request, c.closeRequest)
	if err == nil {
		err = c.failure()
	}
	s.mu.Lock()
	if err == nil && s.closed {
		err = closedError("the session is closed")
	}
	if err == nil {
		s.consumers[c.number] = c
	}
	s.mu.Unlock()
	if err != nil {
		c.c.forgetConsumer(c)
		c.end(err)
	}
	return err
}

func (c *consumer) request(request uint64) native.Frame {
	f := c.spec
	f.Request, f.Session, f.Consumer = request, c.session.number, c.number
	return &f
}

func (c *consumer) closeRequest(request uint64) native.Frame {
	return &native.CloseConsumer{Request: request, Consumer: c.number}
}

func (c *consumer) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// taker returns the session's implicit consumer for Take.
func (s *Session) taker(ctx context.Context, spec native.Subscribe, temporary bool) (*consumer, error) {
	key := takerKey{spec.Destination, spec.Selector}
	s.mu.Lock()
	c := s.takers[key]
	crowded := len(s.takers) >= maxTakers
	s.mu.Unlock()
	if c != nil && c.failure() == nil {
		return c, nil
	}
	if crowded {
		s.closeIdleTakers(ctx)
	}
	c, err := s.openConsumer(ctx, spec, &consumeOptions{prefetch: 1, temporary: temporary})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	other := s.takers[key]
	if other == nil || other.failure() != nil {
		s.takers[key] = c
		other = nil
	}
	s.mu.Unlock()
	if other != nil { // somebody was faster
		return other, c.close(ctx)
	}
	return c, nil
}

func (s *Session) closeIdleTakers(ctx context.Context) {
	s.mu.Lock()
	var idle []*consumer
	for key, c := range s.takers {
		select {
		case c.using <- struct{}{}: // and nobody uses it again
			idle = append(idle, c)
			delete(s.takers, key)
		default:
		}
	}
	s.mu.Unlock()
	for _, c := range idle {
		_ = c.close(ctx)
		c.release()
	}
}

// acquire waits to be the one who consumes.
func (c *consumer) acquire(ctx context.Context) error {
	select {
	case c.using <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *consumer) release() { <-c.using }

func (c *consumer) signal() {
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

// startStream lets credit flow.
func (c *consumer) startStream() {
	c.mu.Lock()
	c.wanted, c.stream = true, true
	c.step = max(1, c.window/4)
	c.mu.Unlock()
	c.replenish()
}

// next waits for the next message and fills d with it. The caller holds using.
func (c *consumer) next(ctx context.Context, d *delivery) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.pass(ctx); err != nil {
			return err
		}
		if c.following(d) {
			c.unreported++
			if c.unreported >= c.step {
				c.report()
			}
			return nil
		}
		if err := c.fetch(ctx); err != nil {
			return err
		}
	}
}

// following fills d with the current batch's next record, if there is one and
// it is still held.
func (c *consumer) following(d *delivery) bool {
	in := c.current.Load()
	if in == nil || in.generation != c.generation.Load() || !c.reader.Next() {
		return false
	}
	i := int(c.seen.Add(1)) - 1
	d.from, d.generation, d.partition, d.destination = c, in.generation, in.partition, in.destination
	d.acquisition, d.count = in.acquisition+uint64(i), in.count(i)
	d.record = *c.reader.Record()
	if c.session.notes() {
		c.note(d.span())
	}
	return true
}

// report accounts for what was seen, and grants half a window or more.
func (c *consumer) report() {
	c.mu.Lock()
	c.credit -= c.unreported
	c.unreported = 0
	c.mu.Unlock()
	c.replenish()
}

// replenish grants what the window has room for, if that is half of it.
// Between two connections it does nothing; the next one begins with it.
func (c *consumer) replenish() {
	c.mu.Lock()
	grant, generation := 0, c.generation.Load()
	if generation > 0 && c.stream && c.credit <= c.window/2 {
		grant = c.window - c.credit
		c.credit += grant
	}
	c.mu.Unlock()
	if grant > 0 {
		c.c.post(generation, &native.Credit{Consumer: c.number, Messages: uint64(grant)})
	}
}

// fetch makes the next batch current, waiting for it.
func (c *consumer) fetch(ctx context.Context) error {
	if err := c.finishCurrent(); err != nil {
		return err
	}
	for {
		ok, err := c.pop()
		if ok || err != nil {
			return err
		}
		select {
		case <-c.arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := c.pass(ctx); err != nil {
			return err
		}
	}
}

// pass waits until delivery is not stopped, or the consumer has ended.
func (c *consumer) pass(ctx context.Context) error {
	for {
		opened := c.c.gate.shutUntil()
		if opened == nil {
			return nil
		}
		if err := c.failure(); err != nil {
			return err
		}
		select {
		case <-opened:
		case <-c.arrived: // whoever waits for what arrives looks before he waits
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *consumer) finishCurrent() error {
	if c.current.Swap(nil) == nil {
		return nil
	}
	if err := c.reader.Err(); err != nil {
		return fmt.Errorf("a delivery of %s cannot be read: %w", c.spec.Destination, err)
	}
	c.report()
	return nil
}

// pop takes a batch out of the inbox.
func (c *consumer) pop() (bool, error) {
	c.mu.Lock()
	in, ok := c.popLocked()
	err := c.err
	c.mu.Unlock()
	if !ok {
		return false, err
	}
	return true, c.setCurrent(in)
}

func (c *consumer) popLocked() (inbound, bool) {
	if c.head == len(c.inbox) {
		return inbound{}, false
	}
	in := c.inbox[c.head]
	c.inbox[c.head] = inbound{}
	if c.head++; c.head == len(c.inbox) {
		c.inbox, c.head = c.inbox[:0], 0
	}
	return in, true
}

func (c *consumer) setCurrent(in inbound) error {
	if in.batch.Compression() != 0 { // the records would alias memory that is used again
		c.reader = new(record.Reader)
	}
	if err := c.reader.Reset(in.batch, maxInflated); err != nil {
		return fmt.Errorf("a delivery of %s cannot be read: %w", c.spec.Destination, err)
	}
	c.seen.Store(0)
	c.current.Store(&in)
	return nil
}

// maxInflated bounds what a compressed batch may become, in bytes.
const maxInflated = 64 << 20

// deliver takes a Deliver frame over from the connection's reader.
func (c *consumer) deliver(in inbound) {
	n := in.batch.Count()
	c.mu.Lock()
	if in.generation != c.generation.Load() || n == 0 {
		c.mu.Unlock()
		return
	}
	if !c.wanted {
		c.credit = max(c.credit-n, 0)
		settle := c.settling.add(c, spansOf(&in, 0), outcome{kind: native.OutcomeRelease, uncounted: true}, nil)
		c.mu.Unlock()
		if settle {
			c.c.settle(c)
		}
		return
	}
	if member := int(in.partition >> native.MemberShift); member < len(c.members) {
		in.destination = c.members[member]
	}
	c.inbox = append(c.inbox, in)
	c.average(len(in.batch) / n)
	c.mu.Unlock()
	c.signal()
}

// joined takes a Joined frame.
func (c *consumer) joined(member uint64, destination string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if member <= uint64(len(c.members)) { // they come in order, on each connection anew
		c.members = append(c.members[:member:member], destination)
	}
}

// average lets the window follow the size of the messages.
func (c *consumer) average(bytes int) {
	if c.bytes == 0 {
		c.bytes = bytes
	}
	c.bytes = max(1, (7*c.bytes+bytes)/8)
	c.window = max(1, min(c.limit, prefetchBytes/c.bytes))
}

// drained takes a Drained frame.
func (c *consumer) drained() {
	c.mu.Lock()
	if c.drains > 0 {
		c.drains--
	}
	c.mu.Unlock()
	c.signal()
}

// end ends the consumer for good: closed by either side, or its connection is.
func (c *consumer) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.generation.Store(0)
	c.inbox, c.head, c.unacked = nil, 0, nil
	lost := c.settling.abandon()
	c.mu.Unlock()
	answer(lost, staleError("%s: the consumer is closed", c.spec.Destination))
	c.signal()
}

// closedByBroker ends the stream; what was delivered can still be settled.
func (c *consumer) closedByBroker(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = fmt.Errorf("consume from %s: %w", c.spec.Destination, err)
	}
	c.mu.Unlock()
	c.signal()
}

// disconnected forgets what the broken connection had delivered: the broker
// delivers it again, to whoever is there.
func (c *consumer) disconnected() {
	c.mu.Lock()
	c.generation.Store(0)
	c.inbox, c.head, c.unacked = nil, 0, nil
	c.credit, c.drains = 0, 0
	lost := c.settling.abandon()
	c.mu.Unlock()
	answer(lost, staleError("%s: the connection broke", c.spec.Destination))
	c.signal()
}

// giveBackUnseen settles what was fetched ahead and not seen. The caller holds
// using, or nobody consumes.
func (c *consumer) giveBackUnseen() {
	c.mu.Lock()
	spans := c.takeUnseen()
	settle := c.settling.add(c, spans, outcome{kind: native.OutcomeRelease, uncounted: true}, nil)
	c.mu.Unlock()
	if settle {
		c.c.settle(c)
	}
}

// takeUnseen takes away what was fetched ahead, and its credit. The caller
// holds mu.
func (c *consumer) takeUnseen() []native.Span {
	generation := c.generation.Load()
	var spans []native.Span
	if in := c.current.Swap(nil); in != nil && in.generation == generation {
		seen := int(c.seen.Load())
		spans = spansOf(in, seen)
		c.credit -= in.batch.Count() - seen
	}
	for {
		in, ok := c.popLocked()
		if !ok {
			return spans
		}
		if in.generation == generation {
			spans = append(spans, spansOf(&in, 0)...)
			c.credit -= in.batch.Count()
		}
	}
}

// pause ends a stream and leaves the consumer open, holding nothing.
func (c *consumer) pause(ctx context.Context) {
	c.mu.Lock()
	c.wanted, c.stream = false, false
	generation := c.generation.Load()
	c.mu.Unlock()
	c.giveBackUnseen()
	if generation > 0 {
		c.drain(ctx, generation)
	}
	c.mu.Lock()
	c.credit = 0
	c.mu.Unlock()
}

// close gives back what nobody has seen, waits for the acknowledgements, and
// closes the consumer at the broker. What the application holds stays held
// until it is settled or the session closes: Jakarta Messaging 3.1 §8.8.
func (c *consumer) close(ctx context.Context) error {
	c.mu.Lock()
	if c.closing || c.err != nil && c.generation.Load() == 0 {
		c.mu.Unlock()
		return nil
	}
	c.closing = true
	c.wanted, c.stream = false, false
	if c.err == nil {
		c.err = closedError("the consumer of %s is closed", c.spec.Destination)
	}
	c.mu.Unlock()
	c.signal()

	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if ctx.Value(listening{}) == c { // its listener closes it
		c.giveBackUnseen()
	} else if c.acquire(ctx) == nil { // who consumed has seen the end
		c.giveBackUnseen()
		c.release()
	}
	failed := c.flush(ctx)
	c.mu.Lock()
	c.left = true
	c.mu.Unlock()
	err := c.c.callOnce(ctx, c.closeRequest)
	if failed == nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotFound) {
		failed = err
	}
	// What came in between went back as it arrived.
	if err := c.flush(ctx); failed == nil {
		failed = err
	}
	c.forgetIfDone()
	return failed
}

// forgetIfDone drops a closed consumer, unless Session.Acknowledge still needs
// it.
func (c *consumer) forgetIfDone() {
	c.mu.Lock()
	done := c.closing && len(c.unacked) == 0
	c.mu.Unlock()
	if !done {
		return
	}
	c.c.forgetConsumer(c)
	c.session.mu.Lock()
	delete(c.session.consumers, c.number)
	c.session.mu.Unlock()
}
