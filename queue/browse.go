package queue

import (
	"context"
	"fmt"
	"math"
	"sort"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// State is what a waiting message is in.
type State uint8

// The states that a browser sees.
const (
	Available State = iota // to be delivered
	Acquired               // delivered and not settled, or about to move
	Scheduled              // not yet due
	Held                   // acknowledged in a transaction that is open
)

// Position is where a Browse goes on: the next offset of each partition. Nil is
// the beginning.
type Position []int64

// Browse shows waiting messages without taking any: those of one partition
// after the other, in order, that match sel, which may be nil. What waits is as
// it was when Browse was called. fn gets batches in which the i-th record is in
// state states[i]; both are valid during the call, which is without locks. An
// error of fn ends the browse and is returned.
//
// It stops after limit records, and then more is true and next is where to go
// on.
func (v *View) Browse(ctx context.Context, after Position, sel Selector, limit int, fn func(partition int32, b record.Batch, states []State) error) (next Position, more bool, err error) {
	b := browser{v: v, sel: sel, left: limit, fn: fn, now: v.now()}
	next, pictures, err := v.picture(after)
	if err != nil {
		return nil, false, err
	}
	for i := range pictures {
		if next[i], err = b.partition(ctx, &pictures[i], next[i]); err != nil {
			return next, false, err
		}
		if b.left <= 0 && next[i] < pictures[i].stable {
			return next, true, nil
		}
	}
	return next, false, nil
}

// picture is what a partition's cursor said at one moment.
type picture struct {
	p         *destination.Partition
	sends     sends // of Kafka's transactions, as they were
	stable    int64
	next      int64               // offsets from here on were never looked at
	available intervals           // below next
	acquired  *destination.Cursor // a copy, in which what is acquired is available too
	scheduled *destination.Cursor // and one in which what is scheduled is
	held      *destination.Cursor // and one in which everything is
}

// picture takes one of each partition. The copies of a cursor cost what is in
// flight, not what waits.
func (v *View) picture(after Position) (Position, []picture, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, nil, v.closedError()
	}
	next, pictures := make(Position, len(v.parts)), make([]picture, len(v.parts))
	for i, p := range v.parts {
		next[i] = p.cursor.Floor()
		if i < len(after) {
			next[i] = max(next[i], after[i])
		}
		p.endSends()
		pic := &pictures[i]
		*pic = picture{p: p.p, stable: p.p.Stable(), next: p.cursor.Next()}
		if err := pic.sends.take(p.p, pic.stable); err != nil {
			return nil, nil, fmt.Errorf("browse %q: %w", v.d.Name, err)
		}
		for from, to := range p.cursor.UndoneRanges(next[i], pic.next) {
			pic.available = append(pic.available, interval{from, to})
		}
		snapshot := p.cursor.AppendSnapshot(nil)
		for _, c := range []**destination.Cursor{&pic.acquired, &pic.scheduled, &pic.held} {
			copied, err := destination.RestoreCursor(snapshot)
			if err != nil {
				return nil, nil, fmt.Errorf("browse %q: %w", v.d.Name, err)
			}
			*c = copied
		}
		pic.scheduled.DueScheduled(math.MaxInt64, int(pic.scheduled.Stats().Scheduled))
		pic.held.DueScheduled(math.MaxInt64, int(pic.held.Stats().Scheduled))
		for _, txn := range pic.held.Held() {
			pic.held.EndHold(txn, false)
		}
	}
	return next, pictures, nil
}

// state is what a message was in; ok is false if it was done.
func (p *picture) state(offset int64) (s State, ok bool) {
	if offset >= p.next {
		return Available, true
	}
	i := sort.Search(len(p.available), func(i int) bool { return p.available[i].to > offset })
	if i < len(p.available) && p.available[i].from <= offset {
		return Available, true
	}
	for i, c := range []*destination.Cursor{p.acquired, p.scheduled, p.held} {
		for range c.UndoneRanges(offset, offset+1) {
			return Acquired + State(i), true
		}
	}
	return 0, false
}

// browser is one Browse.
type browser struct {
	v      *View
	sel    Selector
	left   int
	now    int64
	fn     func(int32, record.Batch, []State) error
	reader record.Reader
	buf    []byte
	cut    []byte
	chosen []int64
	states []State
}

// partition browses one partition from offset on and returns where it stopped.
func (b *browser) partition(ctx context.Context, pic *picture, offset int64) (int64, error) {
	offset = max(offset, pic.p.Start())
	for offset < pic.stable && b.left > 0 {
		if err := ctx.Err(); err != nil {
			return offset, err
		}
		var err error
		if b.buf, err = pic.p.Read(offset, readBytes, b.buf[:0]); err != nil {
			return offset, fmt.Errorf("browse: %w", err)
		}
		before := offset
		for rest := b.buf; len(rest) > 0 && b.left > 0 && offset < pic.stable; {
			var batch record.Batch
			if batch, rest, err = record.Next(rest); err != nil {
				break
			}
			if batch.NextOffset() <= offset {
				continue
			}
			if offset, err = b.batch(pic, batch, offset); err != nil {
				return offset, err
			}
		}
		if offset == before {
			break
		}
	}
	return offset, nil
}

// batch shows what of one stored batch is at or above offset, and returns
// where to go on.
func (b *browser) batch(pic *picture, batch record.Batch, offset int64) (int64, error) {
	if batch.IsControl() {
		return batch.NextOffset(), nil
	}
	if batch.NextOffset() > pic.next && batch.IsTransactional() { // nobody has looked at it yet
		o, err := pic.sends.outcome(batch)
		if err != nil {
			return offset, fmt.Errorf("browse: %w", err)
		}
		if o != committed {
			return batch.NextOffset(), nil
		}
	}
	next := b.choose(pic, batch, offset)
	if len(b.chosen) == 0 {
		return next, nil
	}
	chosen := b.chosen
	cut, _, err := record.Subset(b.cut[:0], batch, func(offset int64) bool {
		if len(chosen) == 0 || chosen[0] != offset {
			return false
		}
		chosen = chosen[1:]
		return true
	})
	if err != nil {
		return next, fmt.Errorf("browse: %w", err)
	}
	b.cut = cut[:0]
	return next, b.fn(pic.p.Number(), cut, b.states)
}

// choose finds the records to show. It has the view's lock, because the
// view's own filter wants that.
func (b *browser) choose(pic *picture, batch record.Batch, offset int64) (next int64) {
	b.chosen, b.states = b.chosen[:0], b.states[:0]
	b.v.mu.Lock()
	defer b.v.mu.Unlock()
	if b.reader.Reset(batch, maxDecompressed) != nil {
		return batch.NextOffset()
	}
	for b.reader.Next() {
		r := b.reader.Record()
		if r.Offset < offset {
			continue
		}
		if b.left <= 0 {
			return r.Offset
		}
		if s, ok := b.show(pic, r); ok {
			b.chosen, b.states = append(b.chosen, r.Offset), append(b.states, s)
			b.left--
		}
	}
	return batch.NextOffset()
}

func (b *browser) show(pic *picture, r *record.Record) (State, bool) {
	s, ok := pic.state(r.Offset)
	if !ok {
		return 0, false
	}
	header, _ := r.Header(record.JMSHeader)
	routing, _ := record.ParseRouting(header)
	if s == Available {
		if routing.Expiration > 0 && routing.Expiration <= b.now {
			return 0, false
		}
		if routing.DeliveryTime > b.now {
			s = Scheduled
		}
	}
	return s, !b.v.filter(r, header) && (b.sel == nil || b.sel.Match(r))
}
