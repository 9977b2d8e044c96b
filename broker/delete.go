package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/polylog-mq/polylog/destination"
)

// DeleteDestination deletes a destination, its subscriptions and its messages:
// ErrNotFound, or ErrConflict while it has consumers.
func (b *Broker) DeleteDestination(ctx context.Context, name string) error {
	d, err := b.find(ctx, name)
	if err != nil {
		return err
	}
	if d.Internal {
		return fmt.Errorf("%w: %q is the broker's own", destination.ErrInvalid, name)
	}
	return b.delete(ctx, d, d.Temporary)
}

// delete deletes d. With force, its consumers are closed; else they are
// ErrConflict. Until the files are gone, whoever wants the name waits.
func (b *Broker) delete(ctx context.Context, d *destination.Destination, force bool) error {
	e, err := b.seize(ctx, d)
	if err != nil {
		return err
	}
	if n := consumers(e); n > 0 && !force {
		b.unseize(e)
		return fmt.Errorf("%w: %q has %d consumers", destination.ErrConflict, d.Name, n)
	}
	err = b.topics.DeleteTopic(d, force, func(subscriptions []string) error {
		if !d.Temporary {
			if err := b.metadata.DeleteDestination(d.Name, subscriptions); err != nil {
				return err
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		e.d = nil // from here on it does not exist
		return nil
	})
	if err != nil {
		b.unseize(e)
		return fmt.Errorf("delete %q: %w", d.Name, err)
	}
	err = b.erase(e, d)
	b.mu.Lock()
	delete(b.byName, d.Name)
	delete(b.byID, d.ID)
	e.idle()
	b.mu.Unlock()
	b.regroup(d)
	return err
}

// seize makes the entry of d busy: ErrNotFound if d is not there any more.
func (b *Broker) seize(ctx context.Context, d *destination.Destination) (*entry, error) {
	for {
		b.mu.Lock()
		e := b.byID[d.ID]
		if b.shut {
			b.mu.Unlock()
			return nil, fmt.Errorf("broker %w", destination.ErrClosed)
		}
		if e == nil || e.d == nil {
			b.mu.Unlock()
			return nil, fmt.Errorf("%w: destination %q", destination.ErrNotFound, d.Name)
		}
		busy := e.busy
		if busy == nil {
			e.busy = make(chan struct{})
			b.mu.Unlock()
			return e, nil
		}
		b.mu.Unlock()
		if err := wait(ctx, busy); err != nil {
			return nil, err
		}
	}
}

// erase removes what there is of a destination that nobody can find any more.
// If that fails, the next start finishes it.
func (b *Broker) erase(e *entry, d *destination.Destination) error {
	var errs []error
	if e.view != nil {
		errs = append(errs, e.view.Drop())
	} else {
		for p := range d.Partitions {
			id := destination.CursorID{Topic: d.ID, Partition: int32(p)}
			if _, ok := b.state.Cursor(id); ok {
				errs = append(errs, b.state.Drop(id))
			}
		}
	}
	for _, p := range d.Partitions {
		errs = append(errs, p.Log().Delete())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("delete %q: %w; the next start finishes it", d.Name, err)
	}
	if d.Temporary {
		return nil
	}
	return b.metadata.Forget(d.ID)
}

func consumers(e *entry) int {
	if e.view == nil {
		return 0
	}
	return e.view.Stats().Consumers
}

// unseize gives an entry back that seize has made busy.
func (b *Broker) unseize(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.idle()
}
