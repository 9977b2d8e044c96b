package session

import (
	"context"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// Consumer is one holder of deliveries. It may be used by many goroutines.
type Consumer struct {
	session     *Session
	destination *destination.Destination
	number      destination.Holder
	view        *queue.View
	holder      *queue.Consumer
	release     func() // of the subscription; nil on a queue

	mu     sync.Mutex // guards what follows
	closed bool       // no more deliveries
	ended  bool       // and nothing held any more
}

// Destination is what it consumes from.
func (k *Consumer) Destination() *destination.Destination { return k.destination }

// open opens the view and the holder on it, without credit.
func (k *Consumer) open(ctx context.Context, spec Spec, selector queue.Selector, sink queue.Sink) (err error) {
	o := queue.ConsumerOptions{Exclusive: spec.Exclusive || k.destination.Settings.Exclusive, Holder: k.number}
	b := k.session.connection.broker
	if spec.Subscription == 0 {
		o.Selector = selector // a subscription has its own
		k.view, err = b.Queue(ctx, k.destination)
	} else {
		clientID := k.session.connection.ClientID()
		if err = k.session.connection.Authorize(OperationSubscribe, spec.Name); err != nil {
			return err
		}
		var sub *topic.Subscription
		sub, k.release, err = b.Subscribe(ctx, k.destination, topic.Spec{
			Kind: spec.Subscription, ClientID: clientID, Name: spec.Name,
			Selector: spec.Selector, NoLocal: spec.NoLocal, Start: spec.Start,
		})
		if err == nil {
			k.view = sub.View
		}
		o.Exclusive = spec.Subscription == topic.Exclusive
		if spec.NoLocal {
			o.NoLocal = clientID
		}
	}
	if err != nil {
		return err
	}
	if k.holder, err = k.view.Consume(o, sink); err != nil {
		k.leave()
	}
	return err
}

// leave ends this consumer's use of its subscription.
func (k *Consumer) leave() {
	if k.release != nil {
		k.release()
	}
}

// Credit permits n more deliveries.
func (k *Consumer) Credit(n int) { k.holder.Credit(n) }

// Drain delivers what is ready within the credit, takes the rest of the credit
// back, and has the sink's Drained called.
func (k *Consumer) Drain() { k.holder.Drain() }

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
	return k.view.Settle(k.number, spans, o, w)
}

// Close ends the deliveries. What its session has delivered of it stays held,
// to be settled, until the session closes: Jakarta Messaging 3.1 §8.8. It may
// be called again.
func (k *Consumer) Close() {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return
	}
	k.closed = true
	k.mu.Unlock()
	k.holder.Detach()
	k.leave()
	k.session.connection.consumerClosed(k.destination)
	k.Prune()
}

// Prune forgets a closed consumer that holds nothing any more, and reports
// whether it has. A protocol whose clients open and close consumers all the
// time calls it when one has settled what it held.
func (k *Consumer) Prune() bool {
	k.mu.Lock()
	idle := k.closed && !k.ended && k.holder.Held() == 0
	k.mu.Unlock()
	if !idle {
		return false
	}
	k.session.forget(k)
	k.end(false)
	return true
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
	k.holder.Close(uncounted)
	if first {
		k.leave()
		k.session.connection.consumerClosed(k.destination)
	}
	k.session.connection.consumerGone()
}
