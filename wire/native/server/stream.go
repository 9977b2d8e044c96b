package server

import (
	"fmt"
	"net"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

const (
	// maxFetches bounds the Fetches of a connection that wait at once.
	maxFetches = 256
	// fetchMax and fetchWait bound one, in bytes and in time.
	fetchMax  = 1 << 20
	fetchWait = 30 * time.Second
	// fetchSkip bounds what one looks at without giving it, bytes.
	fetchSkip = 8 << 20
)

// fetch handles a Fetch. One that has to wait does so in a goroutine of its
// own, which ends with the connection.
func (c *connection) fetch(f *native.Fetch) {
	if c.draining.Load() {
		c.out.fail(f.Request, errDraining)
		return
	}
	if c.fetches.Add(1) > maxFetches {
		c.fetches.Add(-1)
		c.out.fail(f.Request, fmt.Errorf("%w: %d fetches of a connection wait", session.ErrBusy, maxFetches))
		return
	}
	c.fetching.Go(func() {
		defer c.fetches.Add(-1)
		if err := c.answerFetch(f); err != nil {
			c.out.fail(f.Request, err)
		}
		c.out.Flush()
	})
}

func (c *connection) answerFetch(f *native.Fetch) error {
	d, err := c.readable(f.Destination)
	if err != nil {
		return err
	}
	g := fetching{d: d, max: int(min(max(f.Max, 1), fetchMax, uint64(c.server.options.MaxFrame)/2))}
	for _, p := range f.Positions {
		if p.Partition >= uint64(len(d.Partitions)) || p.Offset < 0 {
			return fmt.Errorf("%w: offset %d of partition %d of %q, which has %d", session.ErrInvalid, p.Offset, p.Partition, d.Name, len(d.Partitions))
		}
	}
	ready, err := g.fill(f.Positions)
	if err != nil {
		return err
	}
	if wait := time.Duration(min(f.WaitMS, uint64(fetchWait/time.Millisecond))) * time.Millisecond; !ready && wait > 0 {
		if err := c.awaitFetch(f, &g, wait); err != nil {
			return err
		}
	}
	c.out.append(&native.OK{Request: f.Request, Body: g.Append(nil)}, g.payload)
	return nil
}

// awaitFetch waits until there is something, or the time is over.
func (c *connection) awaitFetch(f *native.Fetch, g *fetching, wait time.Duration) error {
	grown := make(chan struct{}, 1)
	wake := func() {
		select {
		case grown <- struct{}{}:
		default:
		}
	}
	watched := map[uint64]bool{}
	for _, p := range f.Positions {
		if !watched[p.Partition] {
			watched[p.Partition] = true
			defer g.d.Partitions[p.Partition].Watch(wake)()
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		if ready, err := g.fill(f.Positions); ready || err != nil {
			return err
		}
		select {
		case <-grown:
		case <-timer.C:
			return nil
		case <-c.ctx.Done():
			return nil
		}
	}
}

// readable is a destination that this connection may read as a log.
func (c *connection) readable(name string) (*destination.Destination, error) {
	d, err := c.state.Resolve(c.ctx, name, 0)
	if err != nil {
		return nil, err
	}
	if d.Internal {
		return nil, fmt.Errorf("%w: %q is the broker's own", session.ErrUnauthorized, d.Name)
	}
	return d, c.state.Authorize(session.OperationConsume, d.Name)
}

// fetching is a Fetched that is being made.
type fetching struct {
	native.Fetched
	d       *destination.Destination
	max     int
	payload []byte
}

// fill reads what there is, and says whether that is anything.
func (g *fetching) fill(positions []native.Position) (ready bool, err error) {
	g.Parts, g.payload = g.Parts[:0], g.payload[:0]
	for _, p := range positions {
		if len(g.payload) >= g.max {
			break
		}
		before := len(g.payload)
		next, err := g.read(g.d.Partitions[p.Partition], p.Offset)
		if err != nil {
			return false, err
		}
		if next > p.Offset {
			g.Parts = append(g.Parts, native.FetchedPart{Partition: p.Partition, Next: next, Bytes: uint64(len(g.payload) - before)})
		}
	}
	return len(g.Parts) > 0, nil
}

// read appends committed batches of a partition from an offset on, and returns
// where to read on.
func (g *fetching) read(p *destination.Partition, from int64) (next int64, err error) {
	end := p.LastStable()
	from = max(from, p.Start())
	aborted, err := p.Aborted(from, end)
	if err != nil {
		return 0, err
	}
	var buf []byte
	for skipped := 0; from < end && skipped < fetchSkip && len(g.payload) < g.max; {
		buf, err = p.Read(from, g.max-len(g.payload), buf[:0])
		if err != nil {
			return 0, err
		}
		begin := from
		for rest := buf; len(rest) > 0; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return 0, err
			}
			if b.BaseOffset() >= end {
				break
			}
			if len(g.payload) > 0 && len(g.payload)+len(b) > g.max {
				return from, nil
			}
			if from = b.NextOffset(); b.IsControl() || isAborted(aborted, b) {
				skipped += len(b)
				continue
			}
			g.payload = append(g.payload, b...)
		}
		if from == begin {
			break
		}
	}
	return from, nil
}

func isAborted(list []destination.AbortedTransaction, b record.Batch) bool {
	if !b.IsTransactional() {
		return false
	}
	for i := range list {
		if a := &list[i]; a.ProducerID == b.ProducerID() && a.FirstOffset < b.NextOffset() && a.LastOffset >= b.BaseOffset() {
			return true
		}
	}
	return false
}

// group handles a Group, on the lane.
func (c *connection) group(f *native.Group) error {
	do := groupVerbs[f.Verb]
	if do == nil {
		return fmt.Errorf("%w: no verb %q", session.ErrUnsupported, f.Verb)
	}
	reply, err := do(c, f.Body)
	if err != nil {
		return err
	}
	var body []byte
	if reply != nil {
		if body, err = native.MarshalBody(reply); err != nil {
			return err
		}
	}
	c.out.append(&native.OK{Request: f.Request, Body: body}, nil)
	return nil
}

// commitAsks is for the group, and for what it has consumed.
func commitAsks(g native.GroupCommit) []asked {
	all := ask(session.OperationSubscribe, g.Group)
	for _, o := range g.Offsets {
		all = append(all, asked{session.OperationConsume, o.Topic})
	}
	return all
}

// groupVerbs is the one table of what members of groups ask.
var groupVerbs = map[string]func(c *connection, body []byte) (any, error){
	native.VerbHeartbeat: verb(func(h native.GroupHeartbeat) []asked { return ask(session.OperationSubscribe, h.Group) }, func(c *connection, h native.GroupHeartbeat) (any, error) {
		a, err := c.broker().GroupHeartbeat(c.ctx, destination.GroupHeartbeat{
			Group: h.Group, MemberID: h.MemberID, ClientID: c.state.ClientID(), Host: c.host(),
			Epoch: h.Epoch, Topics: h.Topics, Rebalance: time.Duration(h.RebalanceMS) * time.Millisecond,
			Owned: each(h.Owned, func(p native.TopicPartition) destination.TopicPartition { return destination.TopicPartition(p) }),
		})
		return native.GroupAssignment{
			MemberID: a.MemberID, Epoch: a.Epoch, IntervalMS: a.Interval.Milliseconds(), Changed: a.Changed,
			Assigned: each(a.Assigned, topicPartition),
		}, err
	}),
	native.VerbCommit: verb(commitAsks, func(c *connection, g native.GroupCommit) (any, error) {
		return nil, c.broker().CommitGroup(c.ctx, destination.GroupCommit{
			Group: g.Group, MemberID: g.MemberID, Epoch: g.Epoch,
			Offsets: each(g.Offsets, func(o native.CommittedOffset) destination.CommittedOffset {
				return destination.CommittedOffset{TopicPartition: destination.TopicPartition{Topic: o.Topic, Partition: o.Partition}, Offset: o.Offset}
			}),
		})
	}),
	native.VerbCommitted: verb(func(g native.GroupCommit) []asked { return ask(session.OperationDescribeGroup, g.Group) }, func(c *connection, g native.GroupCommit) (any, error) {
		return c.broker().GroupOffsets(c.ctx, g.Group, each(g.Offsets, func(o native.CommittedOffset) destination.TopicPartition {
			return destination.TopicPartition{Topic: o.Topic, Partition: o.Partition}
		}))
	}),
	native.VerbStart: verb(nil, func(c *connection, s native.StreamStart) (any, error) {
		d, err := c.readable(s.Name)
		if err != nil {
			return nil, err
		}
		start, err := startOf(s.To, s.At)
		if err != nil {
			return nil, err
		}
		if s.ToEnd {
			start = queue.Start{Kind: queue.StartEnd}
		}
		offsets, err := start.Offsets(d, "")
		if err != nil {
			return nil, err
		}
		list := make([]native.StreamPosition, len(offsets))
		for i, p := range d.Partitions {
			list[i] = native.StreamPosition{Partition: p.Number(), Offset: offsets[i], End: p.LastStable()}
		}
		return list, nil
	}),
}

func topicPartition(p destination.TopicPartition) native.TopicPartition {
	return native.TopicPartition(p)
}

// host is the peer's address without its port.
func (c *connection) host() string {
	address := c.conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
