package stomp

import (
	"fmt"
	"strings"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// The prefixes of destinations, as ActiveMQ has them.
const (
	queuePrefix     = "/queue/"
	topicPrefix     = "/topic/"
	temporaryPrefix = "/temp-queue/"
)

// address takes a destination apart. A temporary queue's name is the peer's own, or
// one that a reply-to has told it.
func address(text string) (name string, kind destination.Kind, temporary bool, err error) {
	for _, p := range [...]struct {
		prefix    string
		kind      destination.Kind
		temporary bool
	}{{queuePrefix, destination.KindQueue, false}, {topicPrefix, destination.KindTopic, false}, {temporaryPrefix, destination.KindQueue, true}} {
		if rest, ok := strings.CutPrefix(text, p.prefix); ok && rest != "" {
			return rest, p.kind, p.temporary, nil
		}
	}
	return "", 0, false, invalid("destination %.80q: it is /queue/NAME, /topic/NAME or /temp-queue/NAME", text)
}

// addressOf is the reverse, for a destination that is not the peer's own temporary one.
func addressOf(name string, kind record.DestinationKind) string {
	switch kind {
	case record.DestinationTopic, record.DestinationTemporaryTopic:
		return topicPrefix + name
	case record.DestinationTemporaryQueue:
		return temporaryPrefix + name
	}
	return queuePrefix + name
}

// nodeAddress is how a destination is called in what it delivers.
func nodeAddress(d *destination.Destination) string {
	if d.Kind == destination.KindTopic {
		return topicPrefix + d.Name
	}
	return queuePrefix + d.Name
}

// temporaryQueue returns the temporary queue that the peer calls name, and makes it on
// its first use.
func (c *connection) temporaryQueue(name string) (*destination.Destination, error) {
	if d := c.temporary[name]; d != nil {
		return d, nil
	}
	c.endPass() // the broker may wait for its disk
	d, err := c.state.CreateTemporary(c.ctx, destination.KindQueue)
	if err == nil {
		c.temporary[name] = d
	}
	return d, err
}

// maxNodes bounds the destinations that are remembered by their names.
const maxNodes = 1024

// target returns the destination of a SEND.
func (c *connection) target(text string) (*destination.Destination, error) {
	d := c.nodes[text]
	if d == nil {
		name, kind, temporary, err := address(text)
		if err != nil {
			return nil, err
		}
		if d = c.temporary[name]; !temporary || d == nil {
			if temporary {
				kind = 0 // it is there, or it is not
			}
			c.endPass()
			if d, err = c.state.Resolve(c.ctx, name, kind); err != nil {
				return nil, err
			}
		}
		if len(c.nodes) >= maxNodes {
			clear(c.nodes)
		}
		c.nodes[text] = d
	}
	if d.Internal {
		return nil, fmt.Errorf("%w: %q is the broker's own", session.ErrUnauthorized, d.Name)
	}
	return d, c.state.Authorize(session.OperationSend, d.Name)
}
