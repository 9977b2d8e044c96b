package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
)

// Record is a durable subscription as a Store keeps it.
type Record struct {
	ID        string   // of its cursors; never used again
	Topic     [16]byte // the destination's id
	Kind      Kind
	ClientID  string
	Name      string
	Selector  string
	NoLocal   bool
	Pattern   string // of which it is one; its own record has no topic
	Settings  destination.Overrides
	Start     []int64 // first offset, of each partition there was
	CreatedMS int64
}

// Store keeps durable subscriptions. A change that returns nil is durable.
type Store interface {
	// PutSubscription creates or replaces the one of that id, and deletes
	// those of the other ids, at once.
	PutSubscription(r Record, replaces ...string) error
	// DeleteSubscription deletes one. Nothing happens if there is none.
	DeleteSubscription(id string) error
}

// Options of a Registry.
type Options struct {
	Store Store
	Deps  queue.Deps // what views are opened with
	Now   func() time.Time
	// Current returns a topic as it is now, or nil if it is gone. It is called
	// with the registry locked.
	Current func(id [16]byte) *destination.Destination
	// CompileSelector makes a selector of its text, ErrBadSelector; nil
	// refuses all with ErrUnsupported.
	CompileSelector func(text string) (queue.Selector, error)
	// Logger is told of what could not be cleaned up; default slog.Default.
	Logger *slog.Logger
}

// Registry is all subscriptions of a broker. It may be used by many goroutines.
//
// No lock is held across a change of metadata. Instead, who opens or deletes a
// subscription takes the turn of its name, and others who want the same name
// wait for it.
type Registry struct {
	o Options

	mu      sync.Mutex // guards what follows, and the entries
	closed  bool
	turns   map[name]*turn
	named   map[name]*entry
	pattern map[name]*pattern // by the name without a topic
	topics  map[[16]byte]map[*entry]struct{}
	closing map[[16]byte]struct{} // topics that are being deleted
	// lingering are the views of subscriptions that are gone while a session
	// has yet to settle what it took from them.
	lingering []*entry
}

// turn is held by one goroutine at a time, which works on one name.
type turn struct {
	held    chan struct{} // capacity 1
	waiting int           // those who hold it or want it
}

// NewRegistry returns an empty registry.
func NewRegistry(o Options) *Registry {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Registry{
		o:       o,
		turns:   map[name]*turn{},
		named:   map[name]*entry{},
		pattern: map[name]*pattern{},
		topics:  map[[16]byte]map[*entry]struct{}{},
		closing: map[[16]byte]struct{}{},
	}
}

// Restore puts a subscription of d back that a Store remembers, at the
// broker's start. Its view opens with its first use.
func (r *Registry) Restore(d *destination.Destination, rec Record) {
	e := &entry{
		id: rec.ID, topic: d, start: rec.Start, createdMS: rec.CreatedMS, settings: rec.Settings,
		spec: Spec{
			Kind: rec.Kind, ClientID: rec.ClientID, Name: rec.Name,
			Selector: rec.Selector, NoLocal: rec.NoLocal, Pattern: rec.Pattern,
		},
	}
	for p := range d.Partitions {
		floor := e.startOf(p)
		if c, ok := r.o.Deps.State.Cursor(destination.CursorID{Topic: d.ID, Partition: int32(p), Subscription: rec.ID}); ok {
			floor = c.Floor()
		}
		e.floor = append(e.floor, floor)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.named[e.name()] = e
	r.attach(e)
}

// Open opens a subscription of d under the rules of Jakarta Messaging 3.1
// §8.3, and counts the caller as one of its consumers until release is called.
// It creates it, opens it again, replaces it, or refuses: ErrInvalid,
// ErrTooLarge, ErrConflict, ErrClosed.
func (r *Registry) Open(ctx context.Context, d *destination.Destination, s Spec) (*Subscription, func(), error) {
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	if s.Kind != Temporary {
		done, err := r.take(ctx, s.name())
		if err != nil {
			return nil, nil, err
		}
		defer done()
	}
	e, old, fresh, err := r.admit(d, s)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case fresh:
		err = r.create(e, old, s)
	case old != nil:
		if err = r.unsubscribe(old); err != nil {
			r.leave(e)
			break
		}
		fallthrough
	default:
		err = r.openView(e)
	}
	if err != nil {
		r.memberLeaves(e, s)
		return nil, nil, err
	}
	r.mu.Lock()
	sub := &Subscription{Spec: e.spec, Topic: e.topic, View: e.view}
	r.mu.Unlock()
	var once sync.Once
	return sub, func() { once.Do(func() { r.memberLeaves(e, s); r.leave(e) }) }, nil
}

// admit decides whether s may be opened, and counts its consumer. It returns
// the subscription that it is, or a fresh one, and the old one that it replaces
// if any.
func (r *Registry) admit(d *destination.Destination, s Spec) (e, old *entry, fresh bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, false, fmt.Errorf("broker %w", destination.ErrClosed)
	}
	// The caller's d may be older than the topic's last change.
	current := r.o.Current(d.ID)
	if _, gone := r.closing[d.ID]; gone || current == nil {
		return nil, nil, false, fmt.Errorf("%w: %q has been deleted", destination.ErrNotFound, d.Name)
	}
	d = current
	if s.Kind == ShareGroup {
		if e = r.group(d, s.Name); e != nil {
			e.users++
			e.members++
			return e, nil, false, nil
		}
	} else if s.Kind != Temporary {
		if err := r.patternRule(s); err != nil {
			return nil, nil, false, err
		}
		if old = r.named[s.nameOn(d)]; old != nil && old.spec.Kind == ShareGroup {
			old = nil // it is what sameGroup returns, or refuses
		}
	}
	if old != nil {
		if err := r.rule(old, d, s); err != nil {
			return nil, nil, false, err
		}
		if old.matches(d, s) {
			old.users++
			return old, nil, false, nil
		}
	}
	if e, err = r.sameGroup(d, s); err != nil {
		return nil, nil, false, err
	}
	if e != nil {
		e.users++
		return e, old, false, nil
	}
	e = &entry{id: nuid.Next(), spec: s, topic: d, settings: s.Settings, createdMS: r.o.Now().UnixMilli(), users: 1}
	if s.Kind == ShareGroup {
		e.members = 1
	}
	e.spec.Start, e.spec.Settings = queue.Start{}, "" // they become the entry's own
	r.attach(e)
	return e, old, true, nil
}

// rule says whether old may be opened, or replaced, as s on d.
func (r *Registry) rule(old *entry, d *destination.Destination, s Spec) error {
	switch {
	case old.spec.Kind != s.Kind:
		// §8.3.3, §8.3.4: a shared and an unshared durable subscription may
		// not have the same name and client id.
		return fmt.Errorf("%w: there is a %s, which cannot be opened as %s", destination.ErrConflict, old, s.Kind)
	case old.matches(d, s):
		if old.users > 0 && s.Kind.oneConsumer() {
			return fmt.Errorf("%w: the %s has a consumer", destination.ErrConflict, old) // §8.3.3
		}
		return nil
	case old.users > 0:
		// §8.3.2, §8.3.3, §8.3.4: another topic, selector or noLocal while a
		// consumer is active.
		return fmt.Errorf("%w: the %s has a consumer, and was opened with another topic, selector or noLocal", destination.ErrConflict, old)
	}
	// Replacing is deleting, which §8.3.6 forbids while messages are
	// unacknowledged.
	return r.settled(old)
}

// create makes e durable where its kind is, in place of old, and opens it.
func (r *Registry) create(e, old *entry, s Spec) error {
	if err := r.begin(e, s); err != nil {
		r.discard(e)
		return err
	}
	if e.spec.Kind.durable() {
		var replaces []string
		if old != nil {
			replaces = []string{old.id}
		}
		if err := r.o.Store.PutSubscription(e.record(), replaces...); err != nil {
			r.discard(e)
			return fmt.Errorf("create %s: %w", e, err)
		}
	}
	r.mu.Lock()
	replaced := old != nil && r.remove(old)
	if e.spec.Kind != Temporary && !e.gone {
		r.named[e.name()] = e
	}
	r.mu.Unlock()
	if replaced {
		r.bury(old)
	}
	return r.openView(e)
}

// begin finds out what a new subscription needs before it may exist: its
// selector, and where it starts.
func (r *Registry) begin(e *entry, s Spec) (err error) {
	if e.filter, err = r.compile(s.Selector); err != nil {
		return err
	}
	if _, err := e.settings.On(e.topic); err != nil {
		return err
	}
	// Not "" as a queue's own cursor: by default it starts at the end.
	start, err := s.Start.Offsets(e.topic, e.id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.start = start
	return nil
}

func (r *Registry) compile(selector string) (queue.Selector, error) {
	switch {
	case selector == "":
		return nil, nil // Jakarta Messaging 3.1 §3.8.1: none
	case r.o.CompileSelector == nil:
		return nil, fmt.Errorf("%w: selectors", destination.ErrUnsupported)
	}
	return r.o.CompileSelector(selector)
}

func (e *entry) record() Record {
	return Record{
		ID: e.id, Topic: e.topic.ID, Kind: e.spec.Kind, ClientID: e.spec.ClientID, Name: e.spec.Name,
		Selector: e.spec.Selector, NoLocal: e.spec.NoLocal, Pattern: e.spec.Pattern, Settings: e.settings, Start: e.start, CreatedMS: e.createdMS,
	}
}

// openView opens e's view if it is not open. If that fails, the consumer that
// was counted leaves again.
func (r *Registry) openView(e *entry) error {
	r.mu.Lock()
	open, d := e.view != nil, e.topic
	r.mu.Unlock()
	if open {
		return nil
	}
	v, err := r.newView(d, e)
	if err != nil {
		r.leave(e)
		return fmt.Errorf("open %s: %w", e, err)
	}
	r.mu.Lock()
	gone := e.gone || r.closed
	if !gone {
		e.view = v
		if e.topic != d { // it has changed meanwhile
			err = e.reconfigure(e.topic)
		}
	}
	r.mu.Unlock()
	if err != nil {
		r.o.Logger.Warn("a subscription keeps its topic's old settings", "subscription", e.String(), "error", err)
	}
	if gone {
		r.leave(e)
		return errors.Join(fmt.Errorf("%s: %w", e, destination.ErrClosed), v.Close())
	}
	return nil
}

func (r *Registry) newView(d *destination.Destination, e *entry) (*queue.View, error) {
	deps := r.o.Deps
	var err error
	if deps.Filter, err = e.filter, nil; deps.Filter == nil { // also after a restart
		if deps.Filter, err = r.compile(e.spec.Selector); err != nil {
			return nil, err
		}
	}
	if e.spec.NoLocal {
		deps.NoLocal = e.spec.ClientID // §8.3.3: of every connection with it
	}
	starts := make([]int64, len(d.Partitions))
	for p := range starts {
		starts[p] = e.startOf(p)
	}
	if d, err = e.settings.On(d); err != nil {
		return nil, err
	}
	return queue.OpenViewAt(d, e.id, starts, deps)
}

// reconfigure tells e's view, which is open, what d is now. The lock is held.
func (e *entry) reconfigure(d *destination.Destination) error {
	d, err := e.settings.On(d)
	if err != nil {
		return err
	}
	return e.view.Reconfigure(d)
}

// leave ends one consumer's use of e. A subscription that is not durable is
// gone with the last: Jakarta Messaging 3.1 §8.3.1, §8.3.2.
func (r *Registry) leave(e *entry) {
	r.mu.Lock()
	e.users--
	gone := e.users == 0 && !e.spec.Kind.durable() && !r.closed && r.remove(e)
	r.mu.Unlock()
	if gone {
		r.bury(e)
	}
}

// Unsubscribe deletes a durable subscription, of any kind unless shared is
// set: ErrNotFound, or ErrConflict while it has a consumer or unacknowledged
// messages. Jakarta Messaging 3.1 §8.3.6.
func (r *Registry) Unsubscribe(ctx context.Context, clientID, subscribed string, shared bool) error {
	n := name{durable: true, clientID: clientID, subscribed: subscribed}
	done, err := r.take(ctx, n)
	if err != nil {
		return err
	}
	defer done()
	r.mu.Lock()
	if p := r.pattern[n]; p != nil && (!shared || p.spec.Kind != Durable) {
		r.mu.Unlock()
		return r.deletePattern(p)
	}
	e := r.named[n]
	if e == nil || shared && e.spec.Kind == Durable {
		err = fmt.Errorf("%w: no durable subscription %q of client id %q", destination.ErrNotFound, subscribed, clientID)
	} else {
		err = r.idle(e)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	return r.unsubscribe(e)
}

// unsubscribe deletes a durable subscription that is idle. Nobody can open it
// meanwhile: that takes the turn. Its topic can be deleted, and that deletes it
// as well.
func (r *Registry) unsubscribe(e *entry) error {
	if err := r.o.Store.DeleteSubscription(e.id); err != nil {
		return fmt.Errorf("delete %s: %w", e, err)
	}
	r.mu.Lock()
	removed := r.remove(e)
	r.mu.Unlock()
	if removed { // and not meanwhile with its topic
		r.bury(e)
	}
	return nil
}

// idle says whether e has neither consumers nor unacknowledged messages.
func (r *Registry) idle(e *entry) error {
	if e.users > 0 {
		return fmt.Errorf("%w: the %s has a consumer", destination.ErrConflict, e)
	}
	return r.settled(e)
}

// settled says whether e has no unacknowledged messages.
func (r *Registry) settled(e *entry) error {
	if n := e.unacknowledged(); n > 0 {
		return fmt.Errorf("%w: the %s has %d unacknowledged messages", destination.ErrConflict, e, n)
	}
	return nil
}

// take waits for the turn of a name. done gives it back.
func (r *Registry) take(ctx context.Context, n name) (done func(), err error) {
	r.mu.Lock()
	t := r.turns[n]
	if t == nil {
		t = &turn{held: make(chan struct{}, 1)}
		r.turns[n] = t
	}
	t.waiting++
	r.mu.Unlock()
	forget := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if t.waiting--; t.waiting == 0 {
			delete(r.turns, n)
		}
	}
	select {
	case t.held <- struct{}{}:
		return func() { <-t.held; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

// attach has e found by its topic.
func (r *Registry) attach(e *entry) {
	of := r.topics[e.topic.ID]
	if of == nil {
		of = map[*entry]struct{}{}
		r.topics[e.topic.ID] = of
	}
	of[e] = struct{}{}
}

// remove takes e out of the registry for good; false if it was gone before.
func (r *Registry) remove(e *entry) bool {
	if e.gone {
		return false
	}
	e.gone = true
	of := r.topics[e.topic.ID]
	delete(of, e)
	if len(of) == 0 {
		delete(r.topics, e.topic.ID)
	}
	if n := e.name(); r.named[n] == e {
		delete(r.named, n)
	}
	return true
}

// discard takes back an entry that came to nothing.
func (r *Registry) discard(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(e)
}

// bury forgets the cursors of an entry that was removed, now or, where a
// session has yet to settle what it took, with a later Sweep.
func (r *Registry) bury(e *entry) {
	r.mu.Lock()
	v, d := e.view, e.topic
	linger := v != nil && !r.closed && e.unacknowledged() > 0
	if linger {
		r.lingering = append(r.lingering, e)
	}
	r.mu.Unlock()
	if linger {
		return
	}
	if err := r.drop(v, d, e.id); err != nil {
		r.o.Logger.Warn("cursors are left over until the next start", "subscription", e.String(), "error", err)
	}
}

// drop closes v and forgets its cursors, or those that an earlier start left.
func (r *Registry) drop(v *queue.View, d *destination.Destination, id string) error {
	if v != nil {
		return v.Drop()
	}
	var errs []error
	for p := range d.Partitions {
		c := destination.CursorID{Topic: d.ID, Partition: int32(p), Subscription: id}
		if _, ok := r.o.Deps.State.Cursor(c); ok {
			errs = append(errs, r.o.Deps.State.Drop(c))
		}
	}
	return errors.Join(errs...)
}

// Sweep closes the views of subscriptions that are gone, once nothing taken
// from them is unsettled. The broker calls it now and then.
func (r *Registry) Sweep() {
	r.mu.Lock()
	old := r.lingering
	r.lingering = nil
	r.mu.Unlock()
	for _, e := range old {
		r.bury(e)
	}
}
