package broker_test

import (
	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/session"
)

// What sessions need of a broker is what a Broker has. It stands here because
// the two packages do not import each other.
var _ session.Broker = (*broker.Broker)(nil)
