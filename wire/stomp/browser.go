package stomp

import (
	"math"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

// browserPage bounds the records that are read at once.
const browserPage = 100

// browse has the lane show what waits in a queue, page by page as the peer reads, and
// then say that this was all, as ActiveMQ does: a MESSAGE with the header browser:end.
func (c *connection) browse(s *subscription, spec session.Spec) error {
	// What is wrong with it is told now.
	_, _, err := c.state.Browse(c.ctx, spec.Destination, spec.Selector, nil, 1, func(int32, record.Batch, []queue.State) error { return nil })
	if err != nil {
		return err
	}
	s.from, s.names = []string{queuePrefix + spec.Destination}, []string{spec.Destination}
	c.begin()
	c.later.Do(0, func() {
		defer c.end()
		var after queue.Position
		for more := true; more && c.out.Room() && !s.ended(); {
			var err error
			if after, more, err = c.state.Browse(c.ctx, spec.Destination, spec.Selector, after, browserPage, s.show); err != nil {
				c.fail(err)
				return
			}
		}
		if !s.ended() {
			c.write(&frame.Frame{Command: "MESSAGE", Headers: []frame.Header{
				{Name: "subscription", Value: s.id}, {Name: "destination", Value: s.from[0]}, {Name: "message-id", Value: token(s.number, 0)}, {Name: "browser", Value: "end"},
			}})
		}
		c.out.Flush()
	})
	return nil
}

// ended reports whether nothing more is to be shown.
func (s *subscription) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// show writes the records of a page; states are theirs from the first on.
func (s *subscription) show(_ int32, batch record.Batch, states []queue.State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, writing := s.c.out.Begin()
	if !writing {
		return session.ErrClosed
	}
	err := s.reader.Reset(batch, math.MaxInt32)
	for i := 0; err == nil && i < len(states) && s.reader.Next(); i++ {
		if states[i] == queue.Scheduled {
			continue // it does not wait yet
		}
		s.last++
		b = s.message(b, s.reader.Record(), queue.Delivery{}, i)
	}
	s.c.out.EndDelivery(b)
	return err
}
