package polylog

import (
	"context"
	"fmt"
	"iter"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// BrowseState says what a browsed message is doing.
type BrowseState uint8

// The states of a browsed message.
const (
	BrowseAvailable BrowseState = iota // it waits
	BrowseAcquired                     // somebody has it
	BrowseScheduled                    // its time has not come
	BrowseHeld                         // an open transaction has it
)

// Browsed is a message that was looked at and not taken.
type Browsed[T any] struct {
	Value     T
	Partition int32
	Offset    int64
	State     BrowseState

	d delivery
}

// Message returns the message with its headers and properties.
func (b *Browsed[T]) Message() *Message { return b.d.Message() }

// browsePage is how many messages one request of a browser asks for.
const browsePage = 500

func browse[T any](ctx context.Context, s *Session, name, selector string, k codec[T]) iter.Seq2[*Browsed[T], error] {
	return func(yield func(*Browsed[T], error) bool) {
		var after []byte
		from := &consumer{c: s.c, session: s, spec: native.Subscribe{Destination: name}}
		for {
			page, err := s.c.browse(ctx, name, selector, after)
			if err != nil {
				yield(nil, fmt.Errorf("browse %s: %w", name, err))
				return
			}
			if !browseOnePage(page, from, k, yield) {
				return
			}
			if after = page.After; len(after) == 0 {
				return
			}
		}
	}
}

type browsed struct {
	*native.Browsed
	payload []byte
}

func (c *Connection) browse(ctx context.Context, name, selector string, after []byte) (browsed, error) {
	answer, err := c.call(ctx, true, func(request uint64) native.Frame {
		return &native.Browse{Request: request, Destination: name, Selector: selector, After: after, Max: browsePage}
	})
	if err != nil {
		return browsed{}, err
	}
	page, err := native.DecodeBrowsed(answer.body)
	return browsed{page, answer.payload}, err
}

func browseOnePage[T any](page browsed, from *consumer, k codec[T], yield func(*Browsed[T], error) bool) bool {
	rest, seen := page.payload, 0
	for i := range int(page.Bodies) {
		batch, next, err := record.Next(rest)
		if err != nil {
			yield(nil, fmt.Errorf("browse %s: %w", from.spec.Destination, err))
			return false
		}
		rest = next
		partition := int32(0)
		if len(page.Parts) >= 2*i+2 {
			partition = int32(page.Parts[2*i])<<8 | int32(page.Parts[2*i+1])
		}
		var r record.Reader
		if err := r.Reset(batch, maxInflated); err != nil {
			yield(nil, fmt.Errorf("browse %s: %w", from.spec.Destination, err))
			return false
		}
		for r.Next() {
			b := &Browsed[T]{Partition: partition, Offset: r.Record().Offset}
			if seen < len(page.States) {
				b.State = BrowseState(page.States[seen])
			}
			seen++
			b.d.from, b.d.partition, b.d.record = from, partition, *r.Record()
			b.Value, err = k.decode(&b.d)
			if !yield(b, b.d.bodyError(err)) {
				return false
			}
		}
	}
	return true
}
