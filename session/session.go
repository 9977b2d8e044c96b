package session

import (
	"context"
	"fmt"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
)

// AckMode says what acknowledges a delivery: Jakarta Messaging 3.1 §6.2.10,
// and ours, Individual.
type AckMode uint8

// The acknowledgement modes. In AckAuto and AckDupsOK the protocol, or its
// client, settles each delivery when the application is done with it; in
// AckClient one Acknowledge settles all that the session has delivered; in
// AckIndividual the application settles each delivery. In AckTransacted what is
// settled and sent is done by Commit, or undone by Rollback: §6.2.7.
const (
	AckAuto AckMode = iota
	AckClient
	AckDupsOK
	AckIndividual
	AckTransacted
)

// Session is one unit of delivery and acknowledgement of a Connection. It may
// be used by many goroutines.
type Session struct {
	connection *Connection
	mode       AckMode

	// mu guards what follows. Sinks take it under a view's lock, so no view is
	// called while it is held.
	mu        sync.Mutex
	stopped   bool // by StopDelivery, whatever the connection says
	closed    bool
	consumers map[*Consumer]struct{}
	delivered history // where Options.Track is set
	work      work    // of AckTransacted, or of branch
	branch    *branch // of a distributed transaction that it works for, nil if none
}

// Mode is the session's acknowledgement mode.
func (s *Session) Mode() AckMode { return s.mode }

// Start starts the delivery to this session, unless its connection is stopped.
func (s *Session) Start() { s.setStopped(false) }

// Stop stops it, with the guarantee of Connection.Stop.
func (s *Session) Stop() { s.setStopped(true) }

func (s *Session) setStopped(stopped bool) {
	c := s.connection
	c.flow.Lock()
	defer c.flow.Unlock()
	s.mu.Lock()
	s.stopped = stopped
	s.mu.Unlock()
	s.applyFlow(!c.flowing())
}

// applyFlow tells every consumer whether to deliver. The caller holds
// Connection.flow. A view's Pause returns when no delivery is under way.
func (s *Session) applyFlow(connectionStopped bool) {
	s.mu.Lock()
	stopped := s.stopped || connectionStopped
	consumers := s.consumerList()
	s.mu.Unlock()
	for _, k := range consumers {
		k.pause(stopped)
	}
}

func (s *Session) consumerList() []*Consumer {
	consumers := make([]*Consumer, 0, len(s.consumers))
	for k := range s.consumers {
		consumers = append(consumers, k)
	}
	return consumers
}

// Consume opens a consumer, whose deliveries go to sink once it has credit.
func (s *Session) Consume(ctx context.Context, spec Spec, sink Sink) (*Consumer, error) {
	spec = spec.virtual()
	if err := spec.check(s.connection.ClientID()); err != nil {
		return nil, err
	}
	selector, err := s.connection.compile(spec.Selector)
	if err != nil {
		return nil, err
	}
	k := &Consumer{
		session: s, spec: spec, selector: selector, sink: sink,
		number: destination.Holder(s.connection.broker.NextNumber()),
	}
	if !destination.IsPattern(spec.Destination) {
		if k.destination, err = s.resolve(ctx, spec); err != nil {
			return nil, err
		}
	}
	if err := s.connection.admitConsumer(k.destination); err != nil {
		return nil, err
	}
	if k.destination != nil {
		err = k.open(ctx, k.destination, spec)
	} else {
		err = s.consumePattern(ctx, k)
	}
	if err != nil {
		k.end(true)
		return nil, err
	}
	if !s.add(k) {
		k.end(true)
		return nil, errSessionClosed
	}
	return k, nil
}

var errSessionClosed = fmt.Errorf("session %w", ErrClosed)

func (s *Session) resolve(ctx context.Context, spec Spec) (*destination.Destination, error) {
	d, err := s.connection.Resolve(ctx, spec.Destination, spec.DestinationKind)
	if err != nil {
		return nil, err
	}
	if err := s.connection.Authorize(OperationConsume, d.Name); err != nil {
		return nil, err
	}
	if spec.Subscription == 0 {
		return d, permitsQueue(d)
	}
	return d, permitsTopic(d)
}

// permitsQueue refuses to take from a topic as if it were a queue, and
// permitsTopic the reverse, because two applications that meant two
// destinations must not share one by accident.
func permitsQueue(d *destination.Destination) error {
	if d.Kind == destination.KindTopic && d.Settings.Views != destination.ViewsAny {
		return fmt.Errorf("%w: %q is a topic; to take from it as from a queue needs its setting views=any", ErrWrongKind, d.Name)
	}
	return permitsAny(d)
}

func permitsTopic(d *destination.Destination) error {
	if d.Kind == destination.KindQueue && d.Settings.Views != destination.ViewsAny {
		return fmt.Errorf("%w: %q is a queue; a subscription on it needs its setting views=any", ErrWrongKind, d.Name)
	}
	return permitsAny(d)
}

func permitsAny(d *destination.Destination) error {
	if d.Internal {
		return fmt.Errorf("%w: %q is the broker's own", ErrUnauthorized, d.Name)
	}
	return nil
}

// add makes k one of the session's consumers and tells it whether to deliver,
// unless the session has closed meanwhile.
func (s *Session) add(k *Consumer) bool {
	c := s.connection
	c.flow.Lock()
	defer c.flow.Unlock()
	flowing := c.flowing()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.consumers[k] = struct{}{}
	stopped := s.stopped || !flowing
	s.mu.Unlock()
	k.pause(stopped)
	return true
}

// Acknowledge settles all that the session has delivered so far and that has
// not been settled: Jakarta Messaging 3.1 §6.2.10, CLIENT_ACKNOWLEDGE. w, if
// not nil, is told once, when the last of it is on disk. It needs
// Options.Track.
func (s *Session) Acknowledge(w commitlog.Waiter) error {
	return s.settleAll(queue.Outcome{Kind: queue.Acknowledge}, w)
}

// Recover gives back all that the session has delivered and that has not been
// settled, to be delivered again, in order, with the redelivered flag: §6.2.11.
// It needs Options.Track.
func (s *Session) Recover(w commitlog.Waiter) error {
	return s.settleAll(queue.Outcome{Kind: queue.Release}, w)
}

func (s *Session) settleAll(o queue.Outcome, w commitlog.Waiter) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errSessionClosed
	}
	all := s.delivered.takeAll()
	s.mu.Unlock()
	if len(all) == 0 {
		if w != nil {
			w.Committed(nil)
		}
		return nil
	}
	joint := newJoint(len(all), w)
	for _, part := range all {
		// A view that refuses does not call the waiter.
		if err := part.consumer.settle(part.spans, o, joint); err != nil {
			joint.Committed(err)
		}
	}
	return nil
}

// Close closes the session: its consumers end and what they hold goes back
// (Jakarta Messaging 3.1 §6.2.15). It may be called again.
func (s *Session) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	consumers := s.consumerList()
	s.consumers = nil
	s.delivered, s.work = history{}, work{}
	s.mu.Unlock()
	s.connection.branches.leave(s)
	for _, k := range consumers {
		k.end(false)
	}
	s.connection.forget(s)
}

func (s *Session) forget(k *Consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.consumers, k)
}

// Takes says whether p of d takes a batch of that many bytes from a client now:
// ErrPaused, ErrTooLarge. Whether there is room is Partition.Room's to say.
func Takes(d *destination.Destination, p *destination.Partition, bytes int) error {
	switch limit := d.Settings.MaxMessageBytes; {
	case p.Paused():
		return fmt.Errorf("%q: %w; it takes messages again once it is resumed", d.Name, ErrPaused)
	case int64(bytes) > limit:
		return fmt.Errorf("%w: a batch of %d bytes; %q takes %d (max.message.bytes)", ErrTooLarge, bytes, d.Name, limit)
	}
	return nil
}
