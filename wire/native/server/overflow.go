package server

import (
	"bytes"
	"fmt"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

// blockedBytes bounds what waits on one connection for room in full queues.
const blockedBytes = 16 << 20

// overflows handles a Send for which there is no room, by the destination's
// setting: it is refused, or waits on a lane of its partition's own, behind those
// that came before, so that the order stays and others are not held up.
func (c *connection) overflows(s *session.Session, p *destination.Partition, f *native.Send, payload []byte) bool {
	room := p.Room()
	l := c.blocked[p]
	if room == nil && l == nil {
		return false
	}
	n := record.Batch(payload).Count()
	transacted := s.Mode() == session.AckTransacted
	if l == nil || l.Idle() || transacted {
		err := room.Take(n)
		if err == nil {
			return false
		}
		if !room.Blocks() || transacted {
			c.sends.flush(c)
			c.out.fail(f.Request, fmt.Errorf("%q: %w", c.handles.get(f.Handle).destination.Name, err))
			return true
		}
	}
	c.sends.flush(c)
	size := int64(len(payload))
	if c.blockedNow.Add(size) > blockedBytes {
		c.blockedNow.Add(-size)
		c.out.fail(f.Request, fmt.Errorf("%w: %d bytes wait on this connection for room", session.ErrQueueFull, blockedBytes))
		return true
	}
	if l == nil {
		l = new(lane)
		l.init(c, c.server.options.MaxRequests)
		if c.blocked == nil {
			c.blocked = map[*destination.Partition]*lane{}
		}
		c.blocked[p] = l
	}
	one := sent{request: f.Request, bytes: len(payload)}
	payload = bytes.Clone(payload)
	queued := l.do(f.Request, func() error {
		defer c.blockedNow.Add(-size)
		if err := p.WaitRoom(c.ctx, n); err != nil {
			return err
		}
		g := newSendGroup(c)
		g.sends = append(g.sends, one)
		if err := g.append(p, payload); err != nil {
			g.refuse(err)
		}
		return nil
	})
	if !queued {
		c.blockedNow.Add(-size)
	}
	return true
}
