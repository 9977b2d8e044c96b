package topic

import (
	"fmt"
	"unicode/utf8"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
)

// Limits of what a client may store with a subscription, in bytes.
const (
	// MaxNameBytes bounds a subscription's name and a client id.
	MaxNameBytes = 1024
	// MaxSelectorBytes bounds a selector's text.
	MaxSelectorBytes = 4 << 10
)

// Spec says which subscription a consumer wants. Selector and NoLocal identify
// it together with the topic: with others it is another subscription.
type Spec struct {
	Kind     Kind
	ClientID string // needed for Durable; optional for the other kinds
	Name     string // needed for all but Temporary
	Selector string
	NoLocal  bool
	Pattern  string // of the topics, where there is one such subscription on each that it matches
	// Settings are for a new one, in place of the topic's.
	Settings destination.Overrides
	Start    queue.Start // for a new one; the zero value is the topic's end
}

// Subscription is an open subscription, as one consumer has it.
type Subscription struct {
	Spec
	Topic *destination.Destination
	View  *queue.View
}

func (s Spec) check() error {
	switch {
	case !s.Kind.valid():
		return fmt.Errorf("%w: unknown kind of subscription %d", destination.ErrInvalid, s.Kind)
	case s.Kind != Temporary && s.Name == "":
		return fmt.Errorf("%w: a %s subscription needs a name", destination.ErrInvalid, s.Kind)
	case s.Kind == Durable && s.ClientID == "":
		// Jakarta Messaging 3.1 §8.3.3; §8.3.2 and §8.3.4 make it optional.
		return fmt.Errorf("%w: an unshared durable subscription needs a client id", destination.ErrInvalid)
	case s.Kind == ShareGroup && (s.ClientID != "" || s.Selector != "" || s.NoLocal):
		return fmt.Errorf("%w: a share group has no client id, selector or noLocal", destination.ErrInvalid)
	case len(s.Name) > MaxNameBytes, len(s.ClientID) > MaxNameBytes:
		return fmt.Errorf("%w: a subscription's name and a client id may have %d bytes", destination.ErrTooLarge, MaxNameBytes)
	case len(s.Selector) > MaxSelectorBytes:
		return fmt.Errorf("%w: a selector may have %d bytes", destination.ErrTooLarge, MaxSelectorBytes)
	case !utf8.ValidString(s.Name), !utf8.ValidString(s.ClientID), !utf8.ValidString(s.Selector):
		return fmt.Errorf("%w: name, client id and selector of a subscription must be UTF-8", destination.ErrInvalid)
	}
	return nil
}

// name identifies a subscription that has a name. Names are unique across
// topics, but for those of one pattern, which are named by their topic too. Durable ones, shared or not, have one space of names, and shared
// ones that are not durable another: Jakarta Messaging 3.1 §8.3.2, §8.3.4. What
// a share group has is named by its topic too.
type name struct {
	durable              bool
	clientID, subscribed string
	topic                [16]byte
}

// name is that of JMS's kinds. Of a share group's it is what a JMS
// subscription would be called that is the same: who opens either takes the
// turn of both.
func (s Spec) name() name {
	return name{durable: s.Kind.durable(), clientID: s.ClientID, subscribed: s.Name}
}

// entry is one subscription in the registry. What stands above the line never
// changes once it is created; what stands below is guarded by the registry's mu.
type entry struct {
	id        string // of its cursors
	spec      Spec
	filter    queue.Selector // of spec.Selector; nil: none, or not compiled yet
	createdMS int64

	topic *destination.Destination
	start []int64 // of each partition there was when it began
	// floor is how far it was at the broker's start, and so what it holds until
	// its view is open.
	floor    []int64
	settings destination.Overrides
	view     *queue.View // nil until its first use since the broker's start
	users    int         // consumers
	// members are those of the users that belong to a share group. They do not
	// keep their topic from being deleted, as nothing does in Kafka.
	members int
	gone    bool // deleted; whoever still uses it gets errors
}

func (e *entry) matches(d *destination.Destination, s Spec) bool {
	return e.topic.ID == d.ID && e.spec.Selector == s.Selector && e.spec.NoLocal == s.NoLocal && e.spec.Pattern == s.Pattern
}

// name is what the registry knows e by.
func (e *entry) name() name { return e.spec.nameOn(e.topic) }

// nameOn is name with the topic, for those that are named by that too.
func (s Spec) nameOn(d *destination.Destination) name {
	n := s.name()
	if s.Kind == ShareGroup || s.Pattern != "" {
		n.topic = d.ID
	}
	return n
}

// startOf is where partition began for this subscription: at its first message
// if the partition was added later.
func (e *entry) startOf(partition int) int64 {
	if partition < len(e.start) {
		return e.start[partition]
	}
	return 0
}

// holds is the offset from which on it needs partition's messages, as long as
// its view is not open.
func (e *entry) holds(partition int) int64 {
	if partition < len(e.floor) {
		return e.floor[partition]
	}
	return e.startOf(partition)
}

// unacknowledged counts what its consumers, closed ones included, have taken
// and not settled.
func (e *entry) unacknowledged() int64 {
	if e.view == nil {
		return 0
	}
	s := e.view.Stats()
	return s.Acquired + s.Held
}

func (e *entry) String() string {
	switch {
	case e.spec.Kind == Temporary:
		return fmt.Sprintf("temporary subscription on %q", e.topic.Name)
	case e.spec.Kind == ShareGroup:
		return fmt.Sprintf("share group %q on %q", e.spec.Name, e.topic.Name)
	case e.spec.ClientID == "":
		return fmt.Sprintf("%s subscription %q on %q", e.spec.Kind, e.spec.Name, e.topic.Name)
	}
	return fmt.Sprintf("%s subscription %q of client %q on %q", e.spec.Kind, e.spec.Name, e.spec.ClientID, e.topic.Name)
}
