package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
)

// entry is one name. It is guarded by the broker's mu.
type entry struct {
	d         *destination.Destination // nil while it is being created, or once it is deleted
	createdMS int64
	view      *queue.View // the queue's own; nil until its first use
	// busy is closed when the one who creates, changes or deletes the
	// destination, or opens its view, is done; nil when nobody does. Whoever
	// finds it waits without the lock and looks again.
	busy chan struct{}
}

// idle says that whoever made e busy is done.
func (e *entry) idle() {
	close(e.busy)
	e.busy = nil
}

// Destination returns the destination of that name. Kind 0 takes it as it is:
// ErrNotFound. Another kind creates it, where the broker permits that, and
// refuses one of another kind that does not permit the view: ErrWrongKind.
func (b *Broker) Destination(ctx context.Context, name string, kind destination.Kind) (*destination.Destination, error) {
	d, err := b.find(ctx, name)
	if errors.Is(err, destination.ErrNotFound) && kind != 0 {
		if err := checkName(name); err != nil {
			return nil, err
		}
		if b.o.NoAutoCreate {
			return nil, fmt.Errorf("%w: destination %q, and this broker creates none on first use", destination.ErrNotFound, name)
		}
		d, err = b.create(ctx, name, kind, b.defaults, false)
	}
	if err != nil {
		return nil, err
	}
	return d, permits(d, kind)
}

// permits says whether d takes the views of kind. A queue and a topic of the
// same name were meant to be two, unless somebody says that they are one.
func permits(d *destination.Destination, kind destination.Kind) error {
	switch {
	case kind == 0, kind == d.Kind:
		return nil
	case d.Internal:
		return fmt.Errorf("%w: %q is the broker's own", destination.ErrWrongKind, d.Name)
	case kind == destination.KindLog, d.Kind == destination.KindLog, d.Settings.Views == destination.ViewsAny:
		return nil
	}
	return fmt.Errorf("%w: %q is a %s and was opened as a %s; its setting views=any permits both",
		destination.ErrWrongKind, d.Name, d.Kind, kind)
}

// find returns a destination that is there: ErrNotFound.
func (b *Broker) find(ctx context.Context, name string) (*destination.Destination, error) {
	for {
		b.mu.RLock()
		e := b.byName[name]
		var d *destination.Destination
		var busy chan struct{}
		if e != nil {
			if d = e.d; d == nil {
				busy = e.busy
			}
		}
		b.mu.RUnlock()
		switch {
		case d != nil:
			return d, nil
		case busy == nil:
			return nil, fmt.Errorf("%w: destination %q", destination.ErrNotFound, name)
		}
		if err := wait(ctx, busy); err != nil {
			return nil, err
		}
	}
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// create makes a destination, or returns the one that somebody else has made
// meanwhile; with exclusive set, the latter is ErrExists.
func (b *Broker) create(ctx context.Context, name string, kind destination.Kind, s destination.Settings, exclusive bool) (*destination.Destination, error) {
	e, d, err := b.reserve(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case d != nil && exclusive:
		return nil, fmt.Errorf("%w: destination %q", destination.ErrExists, name)
	case d != nil:
		return d, nil
	}
	m := metadata.Destination{
		Name: name, ID: newID(), Kind: kind, Partitions: s.Partitions, Settings: s, CreatedMS: b.o.Now().UnixMilli(),
	}
	// Remembered first, so that no log is without an owner. It is put even if
	// the caller has gone: others may be waiting for it.
	if err = b.metadata.PutDestination(m); err == nil {
		d, err = b.build(m)
	}
	e.createdMS = m.CreatedMS
	b.settle(e, name, d, err)
	if err != nil {
		return nil, fmt.Errorf("create %q: %w", name, err)
	}
	b.regroup(d)
	b.made(ctx, d)
	return d, nil
}

// reserve waits until name is free, and makes a busy entry of it, or returns
// the destination that has it.
func (b *Broker) reserve(ctx context.Context, name string) (*entry, *destination.Destination, error) {
	for {
		b.mu.Lock()
		old := b.byName[name]
		switch {
		case old != nil && old.d != nil:
			b.mu.Unlock()
			return nil, old.d, nil
		case old != nil:
			busy := old.busy
			b.mu.Unlock()
			if err := wait(ctx, busy); err != nil {
				return nil, nil, err
			}
			continue
		}
		e := &entry{busy: make(chan struct{})}
		err := b.admit()
		if err == nil {
			b.byName[name] = e
		}
		b.mu.Unlock()
		return e, nil, err
	}
}

// admit says whether there may be one destination more.
func (b *Broker) admit() error {
	switch {
	case b.draining:
		return fmt.Errorf("broker is %w", destination.ErrShuttingDown)
	case len(b.byName) >= b.o.MaxDestinations:
		return fmt.Errorf("%w: there are %d destinations, the most that this broker takes", destination.ErrBusy, len(b.byName))
	}
	return nil
}

// settle ends a creation that reserve has begun.
func (b *Broker) settle(e *entry, name string, d *destination.Destination, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		delete(b.byName, name)
	} else {
		e.d = d
		b.byID[d.ID] = e
	}
	e.idle()
}

// newID is a random UUID, as Kafka's topic ids are.
func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// current is what topics ask, with their lock held.
func (b *Broker) current(id [16]byte) *destination.Destination {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if e := b.byID[id]; e != nil {
		return e.d
	}
	return nil
}

// Queue returns the queue view of d, which opens with its first use:
// ErrWrongKind, ErrNotFound where d has been deleted.
func (b *Broker) Queue(ctx context.Context, d *destination.Destination) (*queue.View, error) {
	if err := permits(d, destination.KindQueue); err != nil {
		return nil, err
	}
	return b.queueView(ctx, d)
}

func (b *Broker) queueView(ctx context.Context, d *destination.Destination) (*queue.View, error) {
	for {
		b.mu.Lock()
		e := b.byID[d.ID]
		switch {
		case e == nil || e.d == nil && e.busy == nil:
			b.mu.Unlock()
			return nil, fmt.Errorf("%w: destination %q has been deleted", destination.ErrNotFound, d.Name)
		case e.view != nil && e.d != nil:
			b.mu.Unlock()
			return e.view, nil
		case b.draining:
			b.mu.Unlock()
			return nil, fmt.Errorf("broker is %w", destination.ErrShuttingDown)
		case e.busy != nil:
			busy := e.busy
			b.mu.Unlock()
			if err := wait(ctx, busy); err != nil {
				return nil, err
			}
			continue
		}
		e.busy = make(chan struct{})
		current := e.d
		b.mu.Unlock()
		return b.openQueue(e, current)
	}
}

// openQueue opens the view of a busy entry.
func (b *Broker) openQueue(e *entry, d *destination.Destination) (*queue.View, error) {
	v, err := queue.OpenView(d, "", queue.Start{}, b.deps)
	b.mu.Lock()
	defer b.mu.Unlock()
	defer e.idle()
	if err != nil {
		return nil, fmt.Errorf("open queue %q: %w", d.Name, err)
	}
	e.view = v
	return v, nil
}

// deadLetter finds or makes a destination for messages that could not be
// delivered or have expired. It is made even where nothing else is: losing a
// message is worse than a destination that nobody asked for.
func (b *Broker) deadLetter(name string) (*destination.Destination, error) {
	ctx := context.Background()
	d, err := b.find(ctx, name)
	if !errors.Is(err, destination.ErrNotFound) {
		return d, err
	}
	if err := checkDeadLetterName(name); err != nil {
		return nil, err
	}
	s := b.defaults
	s.Partitions = 1
	s.Durability = destination.DurabilityDisk
	s.DeadLetter = destination.None // so that nothing goes round in circles
	return b.create(ctx, name, destination.KindQueue, s, false)
}

// logConfig is how the logs of d are kept.
func logConfig(d *destination.Destination) commitlog.Config {
	s := &d.Settings
	return commitlog.Config{
		SegmentBytes:  s.SegmentBytes,
		SegmentAge:    time.Duration(min(s.SegmentMS, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond,
		MaxBatchBytes: int(s.MaxMessageBytes),
		TombstoneAge:  time.Duration(min(s.DeleteRetentionMS, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond,
		Memory:        s.Durability == destination.DurabilityMemory,
	}
}

// settingsWith is s with changes by name; an empty value sets the default back.
func (b *Broker) settingsWith(s destination.Settings, changes map[string]string) (destination.Settings, error) {
	for name, text := range changes {
		var err error
		if text == "" {
			if text, err = b.defaults.Get(name); err != nil {
				return s, fmt.Errorf("%w: %w", destination.ErrInvalid, err)
			}
		}
		if err := s.Set(name, text); err != nil {
			return s, fmt.Errorf("%w: %w", destination.ErrInvalid, err)
		}
	}
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("%w: %w", destination.ErrInvalid, err)
	}
	return s, nil
}

// settingTexts are all settings by name.
func settingTexts(s *destination.Settings) map[string]string {
	texts := make(map[string]string)
	for _, i := range destination.SettingNames() {
		texts[i.Name], _ = s.Get(i.Name) // the name is known
	}
	return texts
}

// entries are all destinations that are there, in no particular order.
func (b *Broker) entries() []*destination.Destination {
	b.mu.RLock()
	defer b.mu.RUnlock()
	all := make([]*destination.Destination, 0, len(b.byName))
	for e := range maps.Values(b.byName) {
		if e.d != nil {
			all = append(all, e.d)
		}
	}
	return all
}

func isNotFound(err error) bool { return errors.Is(err, destination.ErrNotFound) }
