package broker

import (
	"context"
	"fmt"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
)

// maxTransfer bounds the messages of one request that has to look at each, so
// that it ends in time and can be interrupted; TransferResult.More asks for
// another. To purge all costs the same however many there are.
const maxTransfer = 10_000

// Purge deletes waiting messages of a queue.
func (b *Broker) Purge(ctx context.Context, t destination.Transfer) (destination.TransferResult, error) {
	return b.transfer(ctx, t, queue.TransferOptions{})
}

// Move moves waiting messages of a queue to t.To, which is made as a queue if
// it is not there. Each message is in one of the two at any time, never in
// both and never in none (reliability Q6).
func (b *Broker) Move(ctx context.Context, t destination.Transfer) (destination.TransferResult, error) {
	to, err := b.transferTarget(ctx, t.Name, t.To)
	if err != nil {
		return destination.TransferResult{}, err
	}
	return b.transfer(ctx, t, queue.TransferOptions{
		To: func(*record.Record) (*destination.Destination, error) { return to, nil },
	})
}

// Redrive sends dead letters back to where they came from, or to t.To, without
// what was noted on them when they died. What died in a topic's subscription
// goes back to the topic, and so to all its subscriptions.
func (b *Broker) Redrive(ctx context.Context, t destination.Transfer) (destination.TransferResult, error) {
	o := queue.TransferOptions{Redrive: true, DryRun: t.DryRun, MaxRedrives: t.MaxRedrives}
	switch {
	case t.MaxRedrives == 0:
		o.MaxRedrives = destination.DefaultMaxRedrives
	case t.MaxRedrives < 0:
		o.MaxRedrives = 0
	}
	targets := map[string]*destination.Destination{}
	to := map[string]int64{}
	o.To = func(r *record.Record) (*destination.Destination, error) {
		name := t.To
		if name == "" {
			origin, ok := r.Header(originHeader)
			if !ok {
				return nil, fmt.Errorf("%w: the message at offset %d does not say where it came from; name a destination",
					destination.ErrInvalid, r.Offset)
			}
			name = string(origin)
		}
		to[name]++
		if d := targets[name]; d != nil || t.DryRun {
			return d, nil
		}
		d, err := b.transferTarget(ctx, t.Name, name)
		if err == nil {
			targets[name] = d
		}
		return d, err
	}
	if t.To == t.Name {
		return destination.TransferResult{}, fmt.Errorf("%w: messages cannot be moved to where they are", destination.ErrInvalid)
	}
	result, err := b.transfer(ctx, t, o)
	result.To = to
	return result, err
}

// originHeader is where a dead letter says which destination it comes from.
const originHeader = "JMS_POLYLOG_DLQ_ORIGIN"

// transferTarget is the destination of that name, made as a queue if need be.
func (b *Broker) transferTarget(ctx context.Context, from, name string) (*destination.Destination, error) {
	d, err := b.Destination(ctx, name, 0)
	if isNotFound(err) {
		d, err = b.Destination(ctx, name, destination.KindQueue)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("move messages to %q: %w", name, err)
	case name == from:
		return nil, fmt.Errorf("%w: messages cannot be moved to where they are", destination.ErrInvalid)
	case d.Internal:
		return nil, fmt.Errorf("%w: %q is the broker's own", destination.ErrInvalid, name)
	}
	return d, nil
}

func (b *Broker) transfer(ctx context.Context, t destination.Transfer, o queue.TransferOptions) (destination.TransferResult, error) {
	var none destination.TransferResult
	d, err := b.find(ctx, t.Name)
	if err != nil {
		return none, err
	}
	if t.Selector != "" {
		if b.o.CompileSelector == nil {
			return none, fmt.Errorf("%w: selectors", destination.ErrUnsupported)
		}
		if o.Selector, err = b.o.CompileSelector(t.Selector); err != nil {
			return none, err
		}
	}
	v, err := b.Queue(ctx, d)
	if err != nil {
		return none, err
	}
	o.Max, o.After = t.Max, t.After
	if looks := o.Selector != nil || o.To != nil; looks && !o.DryRun && (o.Max <= 0 || o.Max > maxTransfer) {
		o.Max = maxTransfer
	}
	did, err := v.Transfer(ctx, o)
	result := destination.TransferResult{Messages: did.Messages, Skipped: did.Skipped, More: did.More, Next: did.Next}
	if err != nil {
		return result, fmt.Errorf("after %d messages of %q: %w", did.Messages, d.Name, err)
	}
	return result, nil
}
