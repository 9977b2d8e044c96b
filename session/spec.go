package session

import (
	"fmt"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// Spec says what a consumer consumes.
type Spec struct {
	Destination     string
	DestinationKind destination.Kind // 0: whatever it is; not created
	Subscription    topic.Kind       // 0: the queue's own cursor
	Name            string           // the subscription's
	Global          bool             // a shared subscription is of no client id, though the connection has one
	Selector        string
	NoLocal         bool // subscriptions only: not what this connection's client id sent
	Exclusive       bool // queues only: one such consumer is served at a time
	Start           queue.Start
	Settings        map[string]string // of a new subscription, in place of its topic's

	queueOfTopic bool // it was named as a virtual topic's queue
}

// check refuses what makes no sense before anything is opened.
func (s Spec) check(clientID string) error {
	named := s.Subscription != 0 && s.Subscription != topic.Temporary
	switch {
	case s.Destination == "":
		return fmt.Errorf("%w: a consumer needs a destination", ErrInvalid)
	case named && s.Name == "":
		return fmt.Errorf("%w: a %s subscription needs a name", ErrInvalid, s.Subscription)
	case !named && s.Name != "":
		return fmt.Errorf("%w: %q names a subscription, but what was asked for has none", ErrInvalid, s.Name)
	case s.Subscription == topic.Durable && clientID == "":
		// Jakarta Messaging 3.1 §8.3.3; §8.3.4 makes it optional for shared ones.
		return fmt.Errorf("%w: an unshared durable subscription needs a client id on its connection (polylog.WithClientID, or ?client-id= in the address)", ErrInvalid)
	case s.Global && s.Subscription != topic.Shared && s.Subscription != topic.SharedDurable:
		return fmt.Errorf("%w: only a shared subscription is of no client id", ErrInvalid)
	case s.NoLocal && (s.Subscription == 0 || s.Subscription == topic.Shared || s.Subscription == topic.SharedDurable):
		return fmt.Errorf("%w: noLocal is for unshared subscriptions", ErrInvalid)
	case s.NoLocal && clientID == "":
		return fmt.Errorf("%w: noLocal goes by client id, and the connection has none", ErrInvalid)
	case s.Exclusive && s.Subscription != 0 && !s.queueOfTopic:
		return fmt.Errorf("%w: an exclusive consumer is one of a queue; a topic has the exclusive subscription", ErrInvalid)
	case s.Subscription == 0 && len(s.Settings) > 0:
		return fmt.Errorf("%w: settings are a subscription's; those of a queue are altered", ErrInvalid)
	case s.Subscription == 0 && s.Start != (queue.Start{}):
		return fmt.Errorf("%w: a queue begins at its first waiting message, not where a consumer says", ErrInvalid)
	}
	_, err := destination.Overrides("").With(s.Settings)
	return err
}

// virtual is s, or, if that is a queue of a virtual topic, such as
// Consumer.G.VirtualTopic.ORDERS, the subscription of that name that its consumers
// share.
func (s Spec) virtual() Spec {
	on, ok := destination.CutVirtual(s.Destination)
	if !ok || s.Subscription != 0 {
		return s
	}
	s.Name, s.Destination = s.Destination, on
	s.Subscription, s.queueOfTopic = topic.SharedDurable, true
	if s.DestinationKind != 0 {
		s.DestinationKind = destination.KindTopic
	}
	return s
}

// subscription is what is to be opened on each topic; false for a queue.
func (s Spec) subscription(clientID string) (topic.Spec, bool) {
	settings, _ := destination.Overrides("").With(s.Settings) // check has looked
	t := topic.Spec{
		Settings: settings,
		Kind:     s.Subscription, ClientID: clientID, Name: s.Name,
		Selector: s.Selector, NoLocal: s.NoLocal, Start: s.Start,
	}
	if s.queueOfTopic { // its consumers choose, as those of a queue do
		t.ClientID, t.Selector = "", ""
	}
	if s.Global {
		t.ClientID = ""
	}
	if destination.IsPattern(s.Destination) && s.Subscription != topic.Temporary {
		t.Pattern = s.Destination
	}
	return t, s.Subscription != 0
}
