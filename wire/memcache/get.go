package memcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
)

// get takes one message of each queue.
func (c *connection) get(cmd *command) error {
	c.settleSets() // what was put before is there
	var text []byte
	for _, key := range cmd.keys {
		m, t, err := c.take(string(key))
		if err != nil {
			c.replies = append(c.replies, reply{text: append(appendError(text, err), "\r\n"...)})
			return nil
		}
		if m == nil {
			continue
		}
		text = fmt.Appendf(text, "VALUE %s %d %d", key, m.flags, len(m.value))
		if cmd.verb == gets {
			text = fmt.Appendf(text, " %d", m.span.Offset+1)
		}
		text = append(append(append(text, "\r\n"...), m.value...), "\r\n"...)
		c.taken = append(c.taken, taken{t, m.span})
		if len(text) > passBytes {
			c.replies = append(c.replies, reply{text: text})
			if err := c.answer(); err != nil {
				return err
			}
			text = nil
		}
	}
	c.replies = append(c.replies, reply{text: append(text, "END\r\n"...)})
	return nil
}

// take takes from a queue; nil if it is empty, or not there.
func (c *connection) take(name string) (*message, *taker, error) {
	if err := c.state.Authorize(session.OperationConsume, name); err != nil { // the rules may have changed
		return nil, nil, err
	}
	t, err := c.taker(name)
	if errors.Is(err, session.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := t.take(c.ctx)
	return m, t, err
}

// taker returns what takes from a queue, which stays for the next get.
func (c *connection) taker(name string) (*taker, error) {
	if t := c.queues[name]; t != nil && t.err() == nil {
		return t, nil
	}
	if len(c.queues) >= c.server.options.MaxQueues {
		if err := c.answer(); err != nil { // they hold nothing then
			return nil, err
		}
		for _, t := range c.queues {
			t.consumer.Close()
		}
		clear(c.queues)
	}
	t := &taker{drained: make(chan struct{}, 1)}
	k, err := c.session.Consume(c.ctx, session.Spec{Destination: name}, t)
	if err != nil {
		return nil, err
	}
	t.consumer = k
	c.queues[name] = t
	return t, nil
}

// taker takes messages of one queue, one at a time. It is a session.Sink.
type taker struct {
	consumer *session.Consumer
	drained  chan struct{}

	mu     sync.Mutex // guards what follows; taken under the view's lock
	got    *message
	closed error
}

// message is one that was taken.
type message struct {
	span  queue.Span
	flags uint32
	value []byte
}

func (t *taker) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// take returns the next message, or nil if there is none.
func (t *taker) take(ctx context.Context) (*message, error) {
	t.consumer.Credit(1)
	t.consumer.Drain()
	select {
	case <-t.drained:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.got
	t.got = nil
	if m == nil && t.closed != nil {
		return nil, t.closed
	}
	return m, nil
}

// Deliver implements queue.Sink.
func (t *taker) Deliver(d queue.Delivery) {
	var r record.Reader
	if r.Reset(d.Batch, math.MaxInt32) != nil {
		return // it was read from our own log
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for r.Next() {
		one := r.Record()
		if one.Offset < d.Offset {
			continue
		}
		var m record.Message
		_ = record.DecodeMessage(one, &m) // what cannot be read of its header is as if it had none
		flags, _ := m.Properties[flagsProperty].(int64)
		t.got = &message{
			span:  queue.Span{Partition: d.Partition, Offset: one.Offset, Acquisition: d.FirstAcquisition, Count: 1},
			flags: uint32(flags), value: bytes.Clone(m.Body),
		}
		return
	}
}

// Flush implements queue.Sink.
func (*taker) Flush() {}

// Joined implements session.Sink.
func (*taker) Joined(int32, *destination.Destination) {}

// Drained implements queue.Sink.
func (t *taker) Drained(*queue.Consumer) { t.signal() }

// Closed implements queue.Sink.
func (t *taker) Closed(_ *queue.Consumer, err error) {
	if err == nil {
		err = session.ErrClosed
	}
	t.mu.Lock()
	t.closed = err
	t.mu.Unlock()
	t.signal()
}

func (t *taker) signal() {
	select {
	case t.drained <- struct{}{}:
	default:
	}
}
