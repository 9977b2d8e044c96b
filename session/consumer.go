package session

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// Sink takes what a Consumer is delivered. A consumer of a pattern is delivered to
// by several views at once; for the partitions of one member it is as queue.Sink says.
type Sink interface {
	queue.Sink
	// Joined comes before the first delivery of a member of a pattern: from
	// here on, partitions from member<<MemberShift on are d's. A consumer of one
	// destination is not told, and its member is 0.
	Joined(member int32, d *destination.Destination)
}

// MemberShift is where a partition's number ends and that of its destination
// among the consumer's begins: destination.MaxPartitions fit below.
const MemberShift = 14

// maxMembers bounds the destinations that one consumer has had.
const maxMembers = 1 << 16

// Consumer is one holder of deliveries, of one destination or of all that a
// pattern matches. It may be used by many goroutines.
type Consumer struct {
	session  *Session
	spec     Spec
	selector queue.Selector
	sink     Sink
	number   destination.Holder
	credit   *queue.Credit // of all members of a pattern; nil without one
	pattern  *pattern      // nil without one

	destination *destination.Destination // nil with a pattern

	members atomic.Pointer[[]*member] // changed under mu, never in place

	mu     sync.Mutex // guards what follows; not taken under a view's lock
	closed bool       // no more deliveries
	ended  bool       // and nothing held any more
}

// member is what a consumer has of one destination.
type member struct {
	destination *destination.Destination
	view        *queue.View
	holder      *queue.Consumer
	release     func() // of the subscription; nil on a queue
	gone        atomic.Bool
}

// all are the members, also those that are gone, by number.
func (k *Consumer) all() []*member {
	if l := k.members.Load(); l != nil {
		return *l
	}
	return nil
}

// push makes m the next member; false if the consumer is closed.
func (k *Consumer) push(m *member) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return false
	}
	old := k.all()
	list := append(append(make([]*member, 0, len(old)+1), old...), m)
	k.members.Store(&list)
	return true
}

// Destination is what it consumes from, or nil if that is a pattern.
func (k *Consumer) Destination() *destination.Destination { return k.destination }

// leave ends this consumer's use of its subscription.
func (m *member) leave() {
	if m.release != nil {
		m.release()
	}
}

// Credit permits n more deliveries.
func (k *Consumer) Credit(n int) {
	if k.credit == nil {
		k.all()[0].holder.Credit(n)
		return
	}
	k.credit.Add(n)
	for _, m := range k.all() {
		m.holder.Wake()
	}
}

// Revoke takes back the credit that is left. When it returns, no Deliver is under
// way.
func (k *Consumer) Revoke() {
	if k.credit != nil {
		k.credit.Clear()
	}
	for _, m := range k.all() {
		m.holder.Revoke()
	}
}

// Drain delivers what is ready within the credit, takes the rest of the credit
// back, and has the sink's Drained called.
func (k *Consumer) Drain() {
	if k.pattern != nil {
		k.pattern.drain(k)
		return
	}
	k.all()[0].holder.Drain()
}

// pause stops or starts the delivery. When it returns, no Deliver is under way.
func (k *Consumer) pause(paused bool) {
	for _, m := range k.all() {
		m.holder.Pause(paused)
	}
}

// Settle settles deliveries of this consumer, closed or not. w, if not nil, is
// told when the outcome is on disk. An error names the first span that is
// refused; the others are settled. In AckTransacted an acknowledgement is of the
// session's transaction: w is told at once that it is noted.
func (k *Consumer) Settle(spans []queue.Span, o queue.Outcome, w commitlog.Waiter) error {
	if k.session.mode == AckTransacted && o.Kind == queue.Acknowledge {
		return k.session.note(k, spans, w)
	}
	if s := k.session; s.connection.options.Track {
		s.mu.Lock()
		s.delivered.remove(k, spans)
		s.mu.Unlock()
	}
	return k.settle(spans, o, w)
}

func (k *Consumer) settle(spans []queue.Span, o queue.Outcome, w commitlog.Waiter) error {
	if k.pattern == nil {
		return k.all()[0].view.Settle(k.number, spans, o, w)
	}
	parts, err := k.split(spans)
	if err != nil {
		return err
	}
	joint := newJoint(len(parts), w)
	var first error
	for _, part := range parts {
		// A view that refuses does not call the waiter.
		if err := part.View.Settle(k.number, part.Spans, o, joint); err != nil {
			joint.Committed(err)
			if first == nil {
				first = err
			}
		}
	}
	if w != nil {
		return nil // it is told
	}
	return first
}

// split sorts spans by the views that they are of.
func (k *Consumer) split(spans []queue.Span) ([]queue.Settled, error) {
	members := k.all()
	if k.pattern == nil {
		return []queue.Settled{{View: members[0].view, Holder: k.number, Spans: spans}}, nil
	}
	var parts []queue.Settled
	index := map[int32]int{}
	for _, s := range spans {
		number := s.Partition >> MemberShift
		if number < 0 || int(number) >= len(members) {
			return nil, fmt.Errorf("%w: partition %d of a consumer of %d destinations", ErrInvalid, s.Partition, len(members))
		}
		i, ok := index[number]
		if !ok {
			i = len(parts)
			index[number] = i
			parts = append(parts, queue.Settled{View: members[number].view, Holder: k.number})
		}
		s.Partition &= 1<<MemberShift - 1
		parts[i].Spans = append(parts[i].Spans, s)
	}
	return parts, nil
}

// Close ends the deliveries. What its session has delivered of it stays held,
// to be settled, until the session closes: Jakarta Messaging 3.1 §8.8. It may
// be called again.
func (k *Consumer) Close() {
	if !k.stop() {
		return
	}
	for _, m := range k.all() {
		m.holder.Detach()
	}
	k.leave()
	k.Prune()
}

// stop has nobody join any more; false if it was called before.
func (k *Consumer) stop() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return false
	}
	k.closed = true
	return true
}

// leave gives up what a closed consumer has used.
func (k *Consumer) leave() {
	for _, m := range k.all() {
		m.leave()
	}
	if k.pattern != nil {
		k.pattern.leave()
	}
	k.session.connection.consumerClosed(k.destination)
}

// Prune forgets a closed consumer that holds nothing any more, and reports
// whether it has. A protocol whose clients open and close consumers all the
// time calls it when one has settled what it held.
func (k *Consumer) Prune() bool {
	k.mu.Lock()
	idle := k.closed && !k.ended && k.held() == 0
	k.mu.Unlock()
	if !idle {
		return false
	}
	k.session.forget(k)
	k.end(false)
	return true
}

func (k *Consumer) held() (n int) {
	for _, m := range k.all() {
		n += m.holder.Held()
	}
	return n
}

// Ended reports whether it is closed and holds nothing any more.
func (k *Consumer) Ended() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended
}

// end closes the holder, and so gives back what it holds; uncounted where the
// application has seen none of it.
func (k *Consumer) end(uncounted bool) {
	k.mu.Lock()
	if k.ended {
		k.mu.Unlock()
		return
	}
	first := !k.closed
	k.closed, k.ended = true, true
	k.mu.Unlock()
	for _, m := range k.all() {
		m.holder.Close(uncounted)
	}
	if first {
		k.leave()
	}
	k.session.connection.consumerGone()
}

// open opens the view of d and the holder on it, without credit, as the next member.
func (k *Consumer) open(ctx context.Context, d *destination.Destination, spec Spec) (err error) {
	m := &member{destination: d}
	c := k.session.connection
	o := queue.ConsumerOptions{
		Exclusive: spec.Exclusive || d.Settings.Exclusive, Holder: k.number,
		Selector: k.selector, Credit: k.credit, Paused: k.credit != nil,
	}
	if s, ok := spec.subscription(c.ClientID()); !ok {
		m.view, err = c.broker.Queue(ctx, d)
	} else {
		if err = c.Authorize(OperationSubscribe, s.Name); err != nil {
			return err
		}
		sub, release, failed := c.broker.Subscribe(ctx, d, s)
		if err = failed; err == nil {
			m.view, m.release = sub.View, release
		}
		o.Exclusive = spec.Exclusive || s.Kind == topic.Exclusive
		if s.Selector != "" {
			o.Selector = nil // the subscription has it
		}
		if s.NoLocal {
			o.NoLocal = s.ClientID
		}
	}
	if err != nil {
		return err
	}
	var sink queue.Sink = k.sink
	if k.session.connection.options.Track {
		sink = &trackingSink{consumer: k, next: sink}
	}
	if k.pattern != nil {
		number := len(k.all())
		sink = &memberSink{Sink: sink, consumer: k, member: m, number: int32(number)}
		k.sink.Joined(int32(number), d)
	}
	if m.holder, err = m.view.Consume(o, sink); err != nil {
		m.leave()
		return err
	}
	if !k.push(m) {
		m.holder.Close(true)
		m.leave()
		return errConsumerClosed
	}
	return nil
}

var errConsumerClosed = fmt.Errorf("consumer %w", ErrClosed)
