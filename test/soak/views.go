package main

// view is where messages go: a queue, or a subscription.
type view uint8

const (
	viewPlain view = iota
	viewPriority
	viewGroups
	viewExpiry
	viewPoison
	viewTxIn
	viewTxA
	viewTxB
	viewXAIn
	viewXAA
	viewXAB
	viewDurable
	viewShared
	views
)

const (
	newsTopic  = "soak.news"
	durableID  = "soak"
	durableSub = "archive"
	sharedSub  = "workers"
)

var viewNames = [views]string{
	"soak.plain", "soak.priority", "soak.groups", "soak.expiry", "soak.poison",
	"soak.tx.in", "soak.tx.a", "soak.tx.b", "soak.xa.in", "soak.xa.a", "soak.xa.b",
	durableSub, sharedSub,
}

// settings are those of the queues that differ from the defaults.
var settings = [views]map[string]string{
	viewPoison: {"max.deliveries": "3", "redelivery.delay": "10ms"},
	// What dies with its client has been delivered; that alone must not make it a dead letter.
	viewPlain: {"max.deliveries": "0"}, viewPriority: {"max.deliveries": "0"}, viewGroups: {"max.deliveries": "0"},
	viewExpiry: {"max.deliveries": "0"}, viewTxIn: {"max.deliveries": "0"}, viewTxA: {"max.deliveries": "0"}, viewTxB: {"max.deliveries": "0"},
	viewXAIn: {"max.deliveries": "0"}, viewXAA: {"max.deliveries": "0"}, viewXAB: {"max.deliveries": "0"},
}

func (v view) queue() bool { return v < viewDurable }

// outputs are the queues to which a unit of work sends one message each for
// each that it took from v.
func (v view) outputs() (a, b view, ok bool) {
	switch v {
	case viewTxIn:
		return viewTxA, viewTxB, true
	case viewXAIn:
		return viewXAA, viewXAB, true
	}
	return 0, 0, false
}

// output says that messages come here by units of work alone, and which of
// the two this is.
func (v view) output() (bit uint8, ok bool) {
	switch v {
	case viewTxA, viewXAA:
		return attemptInA, true
	case viewTxB, viewXAB:
		return attemptInB, true
	}
	return 0, false
}

// item is a message's body.
type item struct {
	View               view
	Producer, Sequence uint32
	Group              uint32
	Flags              uint16
}

func (i item) event(k kind, aux uint32) event {
	return event{Kind: k, View: i.View, Flags: i.Flags, Producer: i.Producer, Sequence: i.Sequence, Aux: aux}
}
