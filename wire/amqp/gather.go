package amqp

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

const (
	// gatherBytes and gatherMessages bound what is gathered for one append; a
	// message from aloneFrom bytes on is one by itself.
	gatherBytes    = 128 << 10
	gatherMessages = 1024
	aloneFrom      = 32 << 10
	// blockedBytes bounds what waits on one connection for room in full queues.
	blockedBytes = 16 << 20
)

// message is one that a peer has sent and that is to be answered.
type message struct {
	l       *receiver
	id      uint32
	settled bool
}

// sendGather is the append that the reader is gathering: messages for one partition
// that arrived together, as one batch.
type sendGather struct {
	partition *destination.Partition
	limit     int // bytes of the batch
	builder   record.Builder
	group     *sendGroup
	one       record.Builder // of a message that goes by itself
}

// add adds the message that was parsed, of size bytes. With an error it was not.
func (g *sendGather) add(c *connection, m message, d *destination.Destination, size int) error {
	p := d.Route(c.in.message.Key, c.state.Number())
	if err := session.Takes(d, p, 0); err != nil {
		return err
	}
	room, lane := p.Room(), c.blocked[p]
	waits := lane != nil && !lane.Idle()
	if !waits {
		if err := room.Take(1); err != nil {
			if !room.Blocks() {
				return fmt.Errorf("%q: %w", d.Name, err)
			}
			waits = true
		}
	}
	limit := int(min(d.Settings.MaxMessageBytes, gatherBytes))
	if waits || size >= aloneFrom || 2*size+1024 > limit || p.Deduplicates() {
		return g.alone(c, m, d, p, waits)
	}
	if g.group != nil && (g.partition != p || g.builder.Size()+2*size+1024 > g.limit || len(g.group.messages) == gatherMessages) {
		g.flush(c)
	}
	if g.group == nil {
		g.partition, g.limit, g.group = p, limit, newSendGroup(c)
		g.builder.Reset()
	}
	if err := c.in.message.AppendTo(&g.builder, c.in.own...); err != nil {
		if len(g.group.messages) == 0 {
			g.group.forget()
			g.group = nil
		}
		return fmt.Errorf("%w: %w", session.ErrInvalid, err)
	}
	g.group.messages = append(g.group.messages, m)
	c.hold(true)
	return nil
}

// alone sends a message by itself; one that waits for room behind those that do.
func (g *sendGather) alone(c *connection, m message, d *destination.Destination, p *destination.Partition, waits bool) error {
	g.flush(c)
	batch, err := c.single()
	if err != nil {
		return fmt.Errorf("%w: %w", session.ErrInvalid, err)
	}
	if err := session.Takes(d, p, len(batch)); err != nil {
		return err
	}
	if waits {
		return c.wait(m, p, bytes.Clone(batch))
	}
	c.hold(true)
	one := newSendGroup(c)
	one.messages = append(one.messages, m)
	one.append(p, batch)
	return nil
}

// wait sends a message once there is room for it, on a lane of its partition's.
func (c *connection) wait(m message, p *destination.Partition, batch []byte) error {
	size := int64(len(batch))
	if c.blockedNow.Add(size) > blockedBytes {
		c.blockedNow.Add(-size)
		return fmt.Errorf("%w: %d bytes wait on this connection for room", session.ErrQueueFull, blockedBytes)
	}
	lane := c.blocked[p]
	if lane == nil {
		lane = new(wire.Lane)
		if c.blocked == nil {
			c.blocked = map[*destination.Partition]*wire.Lane{}
		}
		c.blocked[p] = lane
	}
	one := newSendGroup(c)
	one.messages = append(one.messages, m)
	lane.Do(0, func() {
		defer c.blockedNow.Add(-size)
		if err := p.WaitRoom(c.ctx, 1); err != nil {
			one.Committed(err)
			return
		}
		one.append(p, batch)
	})
	return nil
}

// flush appends what was gathered, if anything.
func (g *sendGather) flush(*connection) {
	if group := g.group; group != nil {
		g.group = nil
		group.append(g.partition, g.builder.Batch())
	}
}

// sendGroup waits for one append and answers its messages. It is pooled.
type sendGroup struct {
	c        *connection
	messages []message
}

var sendGroups = sync.Pool{New: func() any { return new(sendGroup) }}

func newSendGroup(c *connection) *sendGroup {
	g := sendGroups.Get().(*sendGroup)
	g.c = c
	c.underWay.Add(1)
	return g
}

// forget frees a group whose messages are answered, or were never taken.
func (g *sendGroup) forget() {
	g.c.underWay.Add(-1)
	clear(g.messages)
	g.c, g.messages = nil, g.messages[:0]
	sendGroups.Put(g)
}

func (g *sendGroup) append(p *destination.Partition, batch []byte) {
	if _, err := p.Send(batch, g); err != nil {
		g.Committed(err) // a log that refuses does not call it
	}
}

// Committed implements commitlog.Waiter: it answers the messages, runs of them with
// one Disposition.
func (g *sendGroup) Committed(err error) {
	state := codec.State{Kind: codec.Accepted}
	if err != nil {
		state = codec.State{Kind: codec.Rejected, Error: refusal(err)}
	}
	c := g.c
	for from := 0; from < len(g.messages); {
		first := g.messages[from]
		to := from + 1
		for to < len(g.messages) && g.messages[to].l == first.l && g.messages[to].settled == first.settled && g.messages[to].id == first.id+uint32(to-from) {
			to++
		}
		first.l.answered(to - from)
		if !first.settled {
			c.disposition(first.l.s.number, &codec.Disposition{
				Role: codec.RoleReceiver, First: first.id, Last: first.id + uint32(to-from-1), Settled: true, State: state,
			})
		} else if err != nil {
			c.server.options.Logger.Warn("a message that was sent settled is lost", "peer", c.conn.RemoteAddr(), "error", err)
		}
		if first.settled {
			c.out.Flush() // credit
		}
		from = to
	}
	g.forget()
}
