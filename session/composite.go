package session

import (
	"context"
	"fmt"
	"slices"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// ResolveList returns the destinations of a list of names, such as
// "orders,topic://audit": what is sent to the list goes to all of them. A name
// without a prefix is of kind. ErrInvalid, and what Resolve returns.
func (c *Connection) ResolveList(ctx context.Context, list string, kind destination.Kind) ([]*destination.Destination, error) {
	names, err := destination.Names(list, kind)
	if err != nil {
		return nil, err
	}
	all := make([]*destination.Destination, 0, len(names))
	for _, n := range names {
		d, err := c.Resolve(ctx, n.Name, n.Kind)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", n.Name, err)
		}
		if !slices.ContainsFunc(all, func(o *destination.Destination) bool { return o.ID == d.ID }) {
			all = append(all, d)
		}
	}
	return all, nil
}

// SendAll sends a validated batch to all of to, or to none. In a transacted
// session it is of the transaction, and w is told at once; else w is told when
// all of it is on disk. If SendAll returns an error, w is not told.
func (s *Session) SendAll(to []*destination.Destination, batch record.Batch, w commitlog.Waiter) error {
	var sends []send
	size := 0
	for _, d := range to {
		parts, err := s.parts(d, batch)
		if err != nil {
			return err
		}
		for _, part := range parts {
			size += len(part.batches)
		}
		sends = append(sends, parts...)
	}
	if s.mode != AckTransacted {
		return s.connection.unit(nil, sends, w)
	}
	s.mu.Lock()
	err := s.mayAdd(size)
	for i := 0; err == nil && i < len(sends); i++ {
		s.work.add(sends[i].partition, sends[i].batches, sends[i].records)
	}
	s.mu.Unlock()
	if err == nil {
		w.Committed(nil)
	}
	return err
}

// parts is a batch by the partitions of d that its records belong to.
func (s *Session) parts(d *destination.Destination, batch record.Batch) ([]send, error) {
	if len(d.Partitions) == 1 {
		return []send{{d.Partitions[0], append([]byte(nil), batch...), batch.Count()}}, nil
	}
	var r record.Reader
	if err := r.Reset(batch, maxOpened); err != nil {
		return nil, err
	}
	builders := map[*destination.Partition]*record.Builder{}
	var order []*destination.Partition
	var headers []record.Header
	for r.Next() {
		one := r.Record()
		p := d.Route(one.Key, s.connection.number)
		b := builders[p]
		if b == nil {
			b = new(record.Builder)
			builders[p] = b
			order = append(order, p)
		}
		headers = headers[:0]
		for name, value := range one.Headers() {
			headers = append(headers, record.Header{Key: name, Value: value})
		}
		b.Append(one.Timestamp, one.Key, one.Value, headers)
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	var parts []send
	for _, p := range order {
		parts = append(parts, send{p, builders[p].Batch(), builders[p].Count()})
	}
	return parts, nil
}

// maxOpened bounds what a compressed batch may become, in bytes.
const maxOpened = 64 << 20
