package polylog

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// Record is one message of a log, as a Stream reads it.
type Record[T any] struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time
	Key       []byte // nil: none

	d     delivery
	codec codec[T]
}

// Message returns the message with its headers and properties, or nil if they
// cannot be read. It must not be changed.
func (r *Record[T]) Message() *Message { return r.d.Message() }

// Value returns what the message holds: ErrBody if that is no T.
func (r *Record[T]) Value() (T, error) {
	v, err := r.codec.decode(&r.d)
	return v, r.d.bodyError(err)
}

// Stream is a destination as a log: records are read by partition and offset,
// nothing is taken away by it, and what JMS consumers do with the same messages
// is not seen. Of Kafka's transactions only what is committed comes.
type Stream[T any] struct {
	session *Session
	name    string
	codec   codec[T]
	from    *consumer // which the records say they come from
}

// StreamOf returns a stream typed by T, as QueueOf does a queue. It does not
// create the destination.
func StreamOf[T any](s *Session, name string) *Stream[T] {
	return &Stream[T]{session: s, name: name, codec: codecOf[T](), from: &consumer{c: s.c, session: s, spec: native.Subscribe{Destination: name}}}
}

// Stream returns a stream of untyped messages.
func (s *Session) Stream(name string) *Stream[*Message] { return StreamOf[*Message](s, name) }

const (
	// fetchBytes is how much one Fetch asks for, and fetchWait how long it waits.
	fetchBytes = 512 << 10
	fetchWait  = 5 * time.Second
)

// cursor is where to read in a partition.
type cursor struct {
	partition int32
	next, end int64 // end is what could be read when the reading began
}

// Read reads from the end on, or from where FromBeginning, FromOffset, FromTime or FromLast
// say, in all partitions or those of WithPartitions: in the order of each
// partition, and without end, over broken connections too. With NoWait it ends
// with what was there when it began. What retention has deleted meanwhile is
// left out.
func (s *Stream[T]) Read(ctx context.Context, opts ...ConsumeOption) iter.Seq2[*Record[T], error] {
	return func(yield func(*Record[T], error) bool) {
		o := consumeOptionsOf(opts)
		cursors, err := s.start(ctx, &o)
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			if o.noWait {
				cursors = slices.DeleteFunc(cursors, func(c cursor) bool { return c.next >= c.end })
			}
			if len(cursors) == 0 {
				return
			}
			page, err := s.fetch(ctx, cursors)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.parts {
				p := &page.parts[i]
				at := slices.IndexFunc(cursors, func(c cursor) bool { return c.partition == p.partition })
				c := cursors[at]
				if !s.each(p, c.next, func(r *Record[T], err error) bool {
					return o.noWait && r != nil && r.Offset >= c.end || yield(r, err)
				}) {
					return
				}
				// Who had something goes last, so that nobody starves.
				c.next = p.next
				cursors = append(slices.Delete(cursors, at, at+1), c)
			}
		}
	}
}

// start is where reading begins.
func (s *Stream[T]) start(ctx context.Context, o *consumeOptions) ([]cursor, error) {
	var list []native.StreamPosition
	err := s.session.c.group(ctx, native.VerbStart, &native.StreamStart{
		Name: s.name, To: o.start, At: o.startAt, ToEnd: o.start == StartDefault,
	}, &list, true)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.name, err)
	}
	var cursors []cursor
	for _, p := range list {
		if len(o.partitions) == 0 || slices.Contains(o.partitions, p.Partition) {
			cursors = append(cursors, cursor{p.Partition, p.Offset, p.End})
		}
	}
	for _, p := range o.partitions {
		if !slices.ContainsFunc(list, func(known native.StreamPosition) bool { return known.Partition == p }) {
			return nil, &Error{Code: native.CodeNotFound, Message: fmt.Sprintf("read %s: there is no partition %d", s.name, p)}
		}
	}
	return cursors, nil
}

// page is the answer to a Fetch.
type page struct{ parts []pagePart }

type pagePart struct {
	partition int32
	next      int64
	batches   []byte
}

// fetch reads what follows in partitions, and waits for it a while.
func (s *Stream[T]) fetch(ctx context.Context, cursors []cursor) (*page, error) {
	cursors = cursors[:min(len(cursors), native.MaxPositions)]
	k, err := s.session.c.call(ctx, true, func(request uint64) native.Frame {
		f := &native.Fetch{Request: request, Destination: s.name, Max: fetchBytes, WaitMS: uint64(fetchWait / time.Millisecond)}
		for _, c := range cursors {
			f.Positions = append(f.Positions, native.Position{Partition: uint64(c.partition), Offset: c.next})
		}
		return f
	})
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // nothing is in doubt: it only reads
		}
		return nil, fmt.Errorf("read %s: %w", s.name, err)
	}
	body, err := native.DecodeFetched(k.body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.name, err)
	}
	answer, rest := &page{}, k.payload
	for _, p := range body.Parts {
		if p.Bytes > uint64(len(rest)) {
			return nil, fmt.Errorf("read %s: %w: an answer that is cut short", s.name, native.ErrProtocol)
		}
		answer.parts = append(answer.parts, pagePart{int32(p.Partition), p.Next, rest[:p.Bytes]})
		rest = rest[p.Bytes:]
	}
	return answer, nil
}

// each calls f with the records of a part from an offset on, until f is false.
func (s *Stream[T]) each(p *pagePart, from int64, f func(*Record[T], error) bool) bool {
	for rest := p.batches; len(rest) > 0; {
		var b record.Batch
		var err error
		if b, rest, err = record.Next(rest); err != nil {
			return f(nil, fmt.Errorf("read %s, partition %d: %w", s.name, p.partition, err))
		}
		var r record.Reader // records may alias what it inflates
		if err = r.Reset(b, maxInflated); err == nil {
			for r.Next() {
				if r.Record().Offset >= from && !f(s.record(p.partition, r.Record()), nil) {
					return false
				}
			}
			err = r.Err()
		}
		if err != nil {
			return f(nil, fmt.Errorf("read %s, partition %d, batch at %d: %w", s.name, p.partition, b.BaseOffset(), err))
		}
	}
	return true
}

func (s *Stream[T]) record(partition int32, r *record.Record) *Record[T] {
	one := &Record[T]{
		Topic: s.name, Partition: partition, Offset: r.Offset, Timestamp: time.UnixMilli(r.Timestamp), Key: r.Key, codec: s.codec,
	}
	one.d.from, one.d.partition, one.d.count, one.d.record = s.from, partition, 1, *r
	return one
}

// group asks something that members of groups and readers ask.
func (c *Connection) group(ctx context.Context, verb string, question, answer any, again bool) error {
	body, err := native.MarshalBody(question)
	if err != nil {
		return err
	}
	k, err := c.call(ctx, again, func(request uint64) native.Frame {
		return &native.Group{Request: request, Verb: verb, Body: body}
	})
	if err != nil || answer == nil {
		return err
	}
	return native.UnmarshalBody(k.body, answer)
}
