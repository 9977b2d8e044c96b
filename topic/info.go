package topic

import "github.com/polylog-mq/polylog/destination"

// Query names one durable subscription, or all that match what it sets.
type Query struct {
	Topic    string
	ClientID string
	Name     string
	Shared   bool
}

// Info describes a subscription for operators.
type Info struct {
	Topic    string
	ClientID string
	Name     string
	Kind     Kind
	Selector string
	NoLocal  bool
	Pattern  string            // whose subscription on Topic it is; Topic is the same if there is none yet
	Settings map[string]string // in place of the topic's
	View     destination.ViewInfo
}
