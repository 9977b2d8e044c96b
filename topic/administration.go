package topic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
)

// Floor is the offset below which no subscription of the topic needs
// partition's messages any more; ok is false if it has no subscription.
func (r *Registry) Floor(topic [16]byte, partition int) (offset int64, ok bool) {
	offset = math.MaxInt64
	r.mu.Lock()
	var views []*queue.View
	for e := range r.topics[topic] {
		ok = true
		if e.view != nil {
			views = append(views, e.view)
		} else {
			offset = min(offset, e.holds(partition))
		}
	}
	r.mu.Unlock()
	for _, v := range views { // without the lock: a view may be reading
		offset = min(offset, v.Floor(int32(partition)))
	}
	return offset, ok
}

// Count says how many subscriptions a topic has, and how many consumers those.
func (r *Registry) Count(topic [16]byte) (subscriptions, consumers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.topics[topic] {
		subscriptions++
		consumers += e.users
	}
	return subscriptions, consumers
}

// Length is how many messages the longest of a topic's subscriptions has. Of one
// that nobody has used yet only offsets are known.
func (r *Registry) Length(topic [16]byte) (longest int64) {
	r.mu.Lock()
	var views []*queue.View
	for e := range r.topics[topic] {
		if e.view != nil {
			views = append(views, e.view)
			continue
		}
		n := int64(0)
		for i, p := range e.topic.Partitions {
			n += max(p.Stable()-e.holds(i), 0)
		}
		longest = max(longest, n)
	}
	r.mu.Unlock()
	for _, v := range views { // without the lock: a view may be reading
		longest = max(longest, v.Length())
	}
	return longest
}

// List describes the subscriptions that match all that q sets, by topic,
// client id and name. It opens the views of those that nobody has used yet,
// because only they can count what waits.
func (r *Registry) List(ctx context.Context, q Query) ([]Info, error) {
	r.mu.Lock()
	var found []*entry
	for _, of := range r.topics {
		for e := range of {
			if e.asked(q) {
				found = append(found, e)
			}
		}
	}
	r.mu.Unlock()
	infos := r.emptyPatterns(q)
	for _, e := range found {
		i, ok, err := r.describe(ctx, e)
		if err != nil {
			return nil, err
		}
		if ok {
			infos = append(infos, i)
		}
	}
	slices.SortFunc(infos, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.Name, b.Name))
	})
	return infos, nil
}

// asked says whether q means e. A query without Shared asks for all kinds.
func (e *entry) asked(q Query) bool {
	return (q.Topic == "" || q.Topic == e.topic.Name) &&
		(q.ClientID == "" || q.ClientID == e.spec.ClientID) &&
		(q.Name == "" || q.Name == e.spec.Name) &&
		(!q.Shared || e.spec.Kind == Shared || e.spec.Kind == SharedDurable || e.spec.Kind == ShareGroup)
}

// describe returns false if e is gone meanwhile.
func (r *Registry) describe(ctx context.Context, e *entry) (Info, bool, error) {
	v, leave, err := r.use(ctx, e)
	if v == nil || err != nil {
		return Info{}, false, err
	}
	defer leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	return e.info(), true, nil
}

// use returns e's view, opened, and keeps e from being deleted until leave is
// called; nil if e is gone.
func (r *Registry) use(ctx context.Context, e *entry) (v *queue.View, leave func(), err error) {
	r.mu.Lock()
	v, durable := e.view, e.spec.Kind.durable()
	gone := e.gone || r.closed
	r.mu.Unlock()
	if gone || v == nil && !durable { // the latter is just being created or refused
		return nil, nil, nil
	}
	if v != nil {
		return v, func() {}, nil
	}
	done, err := r.take(ctx, e.spec.name())
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	if gone = e.gone || r.closed; !gone {
		e.users++
	}
	r.mu.Unlock()
	if gone {
		done()
		return nil, nil, nil
	}
	if err := r.openView(e); err != nil {
		done()
		return nil, nil, err
	}
	return e.view, func() { r.leave(e); done() }, nil
}

// OpenAll opens the views of a topic's durable subscriptions.
func (r *Registry) OpenAll(ctx context.Context, topic [16]byte) error {
	r.mu.Lock()
	var idle []*entry
	for e := range r.topics[topic] {
		if e.view == nil {
			idle = append(idle, e)
		}
	}
	r.mu.Unlock()
	var errs []error
	for _, e := range idle {
		_, leave, err := r.use(ctx, e)
		if leave != nil {
			leave()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// View opens the view of a subscription of a topic, and keeps it until leave is
// called; nil if it is gone.
func (r *Registry) View(ctx context.Context, topic [16]byte, id string) (v *queue.View, leave func(), err error) {
	r.mu.Lock()
	var found *entry
	for e := range r.topics[topic] {
		if e.id == id {
			found = e
		}
	}
	r.mu.Unlock()
	if found == nil {
		return nil, nil, nil
	}
	return r.use(ctx, found)
}

// Delete deletes the one durable subscription that q names, as Unsubscribe; all
// of a pattern's if it names a pattern.
func (r *Registry) Delete(ctx context.Context, q Query) error {
	n := name{durable: true, clientID: q.ClientID, subscribed: q.Name}
	r.mu.Lock()
	p := r.pattern[n]
	r.mu.Unlock()
	if p != nil && (q.Topic == "" || q.Topic == p.spec.Pattern) {
		return r.Unsubscribe(ctx, q.ClientID, q.Name, false)
	}
	e, err := r.find(q)
	if err != nil {
		return err
	}
	return r.delete(ctx, e)
}

// delete deletes what was found, unless it has consumers: ErrConflict.
func (r *Registry) delete(ctx context.Context, e *entry) error {
	if e.spec.Pattern != "" {
		return fmt.Errorf("%w: the %s is one of the pattern %q, and goes with it", destination.ErrConflict, e, e.spec.Pattern)
	}
	done, err := r.take(ctx, e.spec.name())
	if err != nil {
		return err
	}
	defer done()
	r.mu.Lock()
	if err = r.idle(e); e.gone {
		err = fmt.Errorf("%w: the %s", destination.ErrNotFound, e)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	return r.unsubscribe(e)
}

// Alter changes settings that a durable subscription has of its own; an empty
// value has the topic's hold again: ErrNotFound, ErrInvalid. Those of a pattern
// are altered one by one.
func (r *Registry) Alter(ctx context.Context, q Query, changes map[string]string) (Info, error) {
	e, err := r.find(q)
	if err != nil {
		return Info{}, err
	}
	done, err := r.take(ctx, e.spec.name())
	if err != nil {
		return Info{}, err
	}
	defer done()
	r.mu.Lock()
	old, d, gone := e.settings, e.topic, e.gone
	r.mu.Unlock()
	if gone {
		return Info{}, fmt.Errorf("%w: the %s", destination.ErrNotFound, e)
	}
	settings, err := old.With(changes)
	if err == nil {
		_, err = settings.On(d)
	}
	if err != nil {
		return Info{}, fmt.Errorf("alter %s: %w", e, err)
	}
	rec := e.record()
	rec.Settings = settings
	if err := r.o.Store.PutSubscription(rec); err != nil {
		return Info{}, fmt.Errorf("alter %s: %w", e, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.settings = settings; e.view != nil {
		err = e.reconfigure(e.topic)
	}
	return e.info(), err
}

// info describes e. The lock is held.
func (e *entry) info() Info {
	i := Info{
		Topic: e.topic.Name, ClientID: e.spec.ClientID, Name: e.spec.Name, Kind: e.spec.Kind,
		Selector: e.spec.Selector, NoLocal: e.spec.NoLocal, Pattern: e.spec.Pattern, Settings: e.settings.Map(),
	}
	if e.view != nil {
		i.View = e.view.Stats().ViewInfo
	}
	return i
}

// Seek has a durable subscription forget what it was delivered and go on at
// to: ErrNotFound, or ErrConflict while it has a consumer, whose deliveries
// would lose their meaning.
func (r *Registry) Seek(ctx context.Context, q Query, to queue.Start) (Info, error) {
	e, err := r.find(q)
	if err != nil {
		return Info{}, err
	}
	done, err := r.take(ctx, e.spec.name())
	if err != nil {
		return Info{}, err
	}
	defer done()
	r.mu.Lock()
	if err = r.idle(e); e.gone {
		err = fmt.Errorf("%w: the %s", destination.ErrNotFound, e)
	}
	if err == nil {
		e.users++
	}
	r.mu.Unlock()
	if err != nil {
		return Info{}, err
	}
	if err := r.openView(e); err != nil {
		return Info{}, err
	}
	defer r.leave(e)
	w := make(waiter, 1)
	if err := e.view.Seek(to, w); err != nil {
		return Info{}, fmt.Errorf("seek %s: %w", e, err)
	}
	if err := <-w; err != nil {
		return Info{}, fmt.Errorf("seek %s: %w", e, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return e.info(), nil
}

// waiter hands over how a change of a cursor ended; its capacity is 1.
type waiter chan error

func (w waiter) Committed(err error) { w <- err }

// find returns the one durable subscription that q names. A share group's, and
// one of a pattern, needs the topic, if there are several.
func (r *Registry) find(q Query) (*entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.named[name{durable: true, clientID: q.ClientID, subscribed: q.Name}]
	if e == nil || !e.asked(q) {
		e = nil
		for _, g := range r.named {
			if g.name().topic == [16]byte{} || g.spec.Name != q.Name || !g.asked(q) || q.ClientID != g.spec.ClientID {
				continue
			}
			if e != nil {
				return nil, fmt.Errorf("%w: %q has several topics; say which", destination.ErrInvalid, q.Name)
			}
			e = g
		}
	}
	if e == nil {
		return nil, fmt.Errorf("%w: no durable subscription %q of client id %q", destination.ErrNotFound, q.Name, q.ClientID)
	}
	return e, nil
}

// DeleteTopic deletes a topic's subscriptions together with the topic: forget
// is called with the ids of the durable ones, removes them and the topic from
// where they are remembered, and when it returns Current must say so. With
// consumers it is ErrConflict, unless force is set: then they are closed.
// Nothing can be opened on the topic meanwhile.
func (r *Registry) DeleteTopic(d *destination.Destination, force bool, forget func(ids []string) error) error {
	entries, ids, err := r.close(d, force)
	if err != nil {
		return err
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.closing, d.ID)
	}()
	if err := forget(ids); err != nil {
		return err
	}
	for _, e := range entries {
		r.mu.Lock()
		removed := r.remove(e)
		v := e.view
		r.mu.Unlock()
		if !removed {
			continue
		}
		if err := r.drop(v, d, e.id); err != nil {
			r.o.Logger.Warn("cursors are left over until the next start", "subscription", e.String(), "error", err)
		}
	}
	return nil
}

// close begins the deletion of a topic.
func (r *Registry) close(d *destination.Destination, force bool) (entries []*entry, ids []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, already := r.closing[d.ID]; already {
		return nil, nil, fmt.Errorf("%w: %q is being deleted", destination.ErrConflict, d.Name)
	}
	for e := range r.topics[d.ID] {
		if e.users > e.members && !force {
			return nil, nil, fmt.Errorf("%w: the %s has a consumer", destination.ErrConflict, e)
		}
		entries = append(entries, e)
		if e.spec.Kind.durable() {
			ids = append(ids, e.id)
		}
	}
	r.closing[d.ID] = struct{}{}
	return entries, ids, nil
}

// Reconfigure tells the subscriptions of d that its settings, or the number of
// its partitions, have changed.
func (r *Registry) Reconfigure(d *destination.Destination) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for e := range r.topics[d.ID] {
		e.topic = d
		if e.view != nil {
			errs = append(errs, e.reconfigure(d))
		}
	}
	return errors.Join(errs...)
}

// Owns says whether a cursor of that subscription has an owner.
func (r *Registry) Owns(topic [16]byte, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.topics[topic] {
		if e.id == id {
			return true
		}
	}
	return false
}

// Close closes all views. Nothing can be opened afterwards.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	var views []*queue.View
	for _, of := range r.topics {
		for e := range of {
			if e.view != nil {
				views = append(views, e.view)
			}
		}
	}
	for _, e := range r.lingering {
		views = append(views, e.view)
	}
	r.lingering = nil
	r.mu.Unlock()
	var err error
	for _, v := range views {
		if closeErr := v.Close(); err == nil {
			err = closeErr
		}
	}
	return err
}

// Settled asks each subscription of a topic what it needs nothing more of. It
// is false if one has not been opened yet and so cannot be asked.
func (r *Registry) Settled(topic [16]byte, partition int32) (all []func(offset int64) bool, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.topics[topic] {
		if e.view == nil {
			return nil, false, nil
		}
		f, err := e.view.Settled(partition)
		if err != nil {
			return nil, false, err
		}
		all = append(all, f)
	}
	return all, true, nil
}
