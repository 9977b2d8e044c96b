package topic

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nuid"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
)

// A subscription of a pattern is one on each topic that it matches. They have
// its name and what else it was opened with, and are opened like others, with
// Spec.Pattern; but they come and go together. On a topic that was there when the
// subscription was made it begins where that said; on one that was made later, at
// its first message.

// pattern is such a subscription. It is guarded by the registry's mu.
type pattern struct {
	id        string
	spec      Spec // Start and Settings excluded
	settings  destination.Overrides
	matcher   destination.Pattern
	createdMS int64
	users     int
}

// OpenPattern opens the subscription s on all of topics, which are those that p
// matches, and counts the caller as one of its consumers until release is called:
// ErrConflict if there is one of that name that is not the same.
func (r *Registry) OpenPattern(ctx context.Context, p destination.Pattern, s Spec, topics func() []*destination.Destination) (release func(), err error) {
	if s.Pattern = p.String(); s.Kind == Temporary || s.Kind == ShareGroup {
		return nil, fmt.Errorf("%w: a %s subscription has no pattern", destination.ErrInvalid, s.Kind)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if _, err := r.compile(s.Selector); err != nil {
		return nil, err
	}
	done, err := r.take(ctx, s.name())
	if err != nil {
		return nil, err
	}
	defer done()
	start, settings := s.Start, s.Settings
	s.Start, s.Settings = queue.Start{}, ""
	r.mu.Lock()
	e, err := r.admitPattern(p, s, settings)
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if e.id == "" {
		if err := r.createPattern(e, start, topics()); err != nil {
			r.leavePattern(e)
			return nil, err
		}
	}
	return func() { r.leavePattern(e) }, nil
}

// admitPattern returns the one that s is, or a new one without an id. The lock is held.
func (r *Registry) admitPattern(p destination.Pattern, s Spec, settings destination.Overrides) (*pattern, error) {
	if r.closed {
		return nil, fmt.Errorf("broker %w", destination.ErrClosed)
	}
	if e := r.named[s.name()]; e != nil {
		return nil, fmt.Errorf("%w: there is a %s; delete it first", destination.ErrConflict, e)
	}
	e := r.pattern[s.name()]
	switch {
	case e == nil:
		e = &pattern{spec: s, settings: settings, matcher: p, createdMS: r.o.Now().UnixMilli()}
		r.pattern[s.name()] = e
	case e.spec != s:
		return nil, fmt.Errorf("%w: there is a %s, with another topic, selector or noLocal; delete it first", destination.ErrConflict, e)
	case e.users > 0 && s.Kind.oneConsumer():
		return nil, fmt.Errorf("%w: the %s has a consumer", destination.ErrConflict, e)
	}
	e.users++
	return e, nil
}

// patternRule says whether s may have its name beside the patterns. The lock is held.
func (r *Registry) patternRule(s Spec) error {
	switch p := r.pattern[s.name()]; {
	case p != nil && s.Pattern == "":
		return fmt.Errorf("%w: there is a %s; delete it first", destination.ErrConflict, p)
	case p == nil && s.Pattern != "":
		return fmt.Errorf("%w: the subscription %q on %q", destination.ErrNotFound, s.Name, s.Pattern)
	}
	return nil
}

// createPattern makes the subscriptions on the topics that are there, and
// remembers the pattern when they are: a start takes those without one for the
// rest of what did not come so far.
func (r *Registry) createPattern(p *pattern, start queue.Start, topics []*destination.Destination) error {
	for _, d := range topics {
		if err := r.ensure(p, d, start); err != nil && !errors.Is(err, destination.ErrNotFound) {
			return err
		}
	}
	id := nuid.Next()
	if p.spec.Kind.durable() {
		if err := r.o.Store.PutSubscription(p.record(id)); err != nil {
			return fmt.Errorf("create %s: %w", p, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.id = id
	return nil
}

// ensure makes the subscription on d if it is not there. The turn is held.
func (r *Registry) ensure(p *pattern, d *destination.Destination, start queue.Start) error {
	s := p.spec
	s.Start, s.Settings = start, p.settings
	r.mu.Lock()
	there := r.named[s.nameOn(d)] != nil
	r.mu.Unlock()
	if there {
		return nil
	}
	e, _, fresh, err := r.admit(d, s)
	if err != nil {
		return err
	}
	if !fresh { // not a durable one: somebody uses it
		r.leave(e)
		return nil
	}
	if err = r.begin(e, s); err == nil && s.Kind.durable() {
		err = r.o.Store.PutSubscription(e.record())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.users--
	if err != nil {
		r.remove(e)
		return fmt.Errorf("create %s: %w", e, err)
	}
	if !e.gone {
		r.named[e.name()] = e
	}
	return nil
}

// leavePattern ends one consumer's use of p. What is not durable, or came to
// nothing, is gone with the last.
func (r *Registry) leavePattern(p *pattern) {
	r.mu.Lock()
	p.users--
	gone := p.users == 0 && (!p.spec.Kind.durable() || p.id == "") && !r.closed
	if gone {
		delete(r.pattern, p.spec.name())
	}
	members := r.members(p)
	r.mu.Unlock()
	for _, e := range members {
		r.mu.Lock()
		removed := gone && e.users == 0 && r.remove(e)
		r.mu.Unlock()
		if !removed {
			continue
		}
		if p.spec.Kind.durable() { // it came to nothing
			if err := r.o.Store.DeleteSubscription(e.id); err != nil {
				r.o.Logger.Warn("a subscription is left over until the next start", "subscription", e.String(), "error", err)
			}
		}
		r.bury(e)
	}
}

// members are the subscriptions of p. The lock is held.
func (r *Registry) members(p *pattern) (all []*entry) {
	for n, e := range r.named {
		if e.spec.Pattern != "" && n.durable == p.spec.Kind.durable() && n.clientID == p.spec.ClientID && n.subscribed == p.spec.Name {
			all = append(all, e)
		}
	}
	return all
}

// deletePattern deletes p and its subscriptions, as Unsubscribe. The turn is held.
func (r *Registry) deletePattern(p *pattern) error {
	r.mu.Lock()
	var err error
	members := r.members(p)
	for _, e := range members {
		if err == nil {
			err = r.idle(e)
		}
	}
	if p.users > 0 {
		err = fmt.Errorf("%w: the %s has a consumer", destination.ErrConflict, p)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if err := r.o.Store.DeleteSubscription(p.id); err != nil {
		return fmt.Errorf("delete %s: %w", p, err)
	}
	r.mu.Lock()
	delete(r.pattern, p.spec.name())
	r.mu.Unlock()
	for _, e := range members {
		err = errors.Join(err, r.unsubscribe(e))
	}
	return err
}

// Made makes the subscriptions on a new topic that patterns match.
func (r *Registry) Made(ctx context.Context, d *destination.Destination) error {
	r.mu.Lock()
	var all []*pattern
	for _, p := range r.pattern {
		if p.matcher.Matches(d.Name) {
			all = append(all, p)
		}
	}
	r.mu.Unlock()
	var errs []error
	for _, p := range all {
		errs = append(errs, r.made(ctx, p, d))
	}
	return errors.Join(errs...)
}

func (r *Registry) made(ctx context.Context, p *pattern, d *destination.Destination) error {
	done, err := r.take(ctx, p.spec.name())
	if err != nil {
		return err
	}
	defer done()
	r.mu.Lock()
	gone := r.pattern[p.spec.name()] != p
	r.mu.Unlock()
	if gone {
		return nil
	}
	return r.ensure(p, d, queue.Start{Kind: queue.StartBeginning})
}

// RestorePattern puts a pattern back that a Store remembers: ErrInvalid.
func (r *Registry) RestorePattern(rec Record) error {
	matcher, err := destination.ParsePattern(rec.Pattern)
	if err != nil {
		return err
	}
	p := &pattern{
		id: rec.ID, matcher: matcher, createdMS: rec.CreatedMS, settings: rec.Settings,
		spec: Spec{
			Kind: rec.Kind, ClientID: rec.ClientID, Name: rec.Name,
			Selector: rec.Selector, NoLocal: rec.NoLocal, Pattern: rec.Pattern,
		},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pattern[p.spec.name()] = p
	return nil
}

// emptyPatterns describes those that q asks for and that have no topic yet.
func (r *Registry) emptyPatterns(q Query) []Info {
	infos := []Info{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pattern {
		e := entry{spec: p.spec, topic: &destination.Destination{Name: p.spec.Pattern}}
		if len(r.members(p)) == 0 && e.asked(q) {
			infos = append(infos, Info{
				Topic: p.spec.Pattern, ClientID: p.spec.ClientID, Name: p.spec.Name, Kind: p.spec.Kind,
				Selector: p.spec.Selector, NoLocal: p.spec.NoLocal, Pattern: p.spec.Pattern,
			})
		}
	}
	return infos
}

func (p *pattern) record(id string) Record {
	return Record{
		ID: id, Kind: p.spec.Kind, ClientID: p.spec.ClientID, Name: p.spec.Name,
		Selector: p.spec.Selector, NoLocal: p.spec.NoLocal, Pattern: p.spec.Pattern, Settings: p.settings, CreatedMS: p.createdMS,
	}
}

func (p *pattern) String() string {
	e := entry{spec: p.spec, topic: &destination.Destination{Name: p.spec.Pattern}}
	return e.String()
}
