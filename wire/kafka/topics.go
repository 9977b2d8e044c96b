package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// A topic is a destination under its own name; what Kafka does not allow in a
// name is escaped. Temporary destinations are no topics: they are their
// connection's own.

// maxTopicName is Kafka's bound, bytes.
const maxTopicName = 249

// checkTopicName is Kafka's rule for names.
func checkTopicName(name string) error {
	switch {
	case name == "":
		return errors.New("the empty string is not allowed")
	case name == "." || name == "..":
		return fmt.Errorf("'%s' is not allowed", name)
	case len(name) > maxTopicName:
		return fmt.Errorf("the length of '%s' is longer than the max allowed length %d", name, maxTopicName)
	}
	for i := range len(name) {
		b := name[i]
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("._-", b) >= 0) {
			return fmt.Errorf("'%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name)
		}
	}
	return nil
}

// topicName is what a destination is called here.
func topicName(d *destination.Destination) string { return record.TopicName(d.Name) }

// topic finds a destination by its topic name: session.ErrNotFound.
func (c *connection) topic(ctx context.Context, name string) (*destination.Destination, error) {
	d, err := c.server.broker.Destination(ctx, record.DestinationName(name), 0)
	if err == nil && d.Temporary {
		return nil, fmt.Errorf("%w: topic %q", session.ErrNotFound, name)
	}
	return d, err
}

// topicByID finds one by id: session.ErrNotFound.
func (c *connection) topicByID(id [16]byte) (*destination.Destination, error) {
	d := c.server.broker.ByID(id)
	if d == nil || d.Temporary {
		return nil, fmt.Errorf("%w: topic id %x", session.ErrNotFound, id)
	}
	return d, nil
}

// lookup finds a topic as a request names it, by name or, where version says
// so, by id, and asks whether it may be used. The code says what is wrong.
func (c *connection) lookup(name string, id [16]byte, byID bool, op session.Operation) (d *destination.Destination, code int16) {
	var err error
	if byID {
		if d, err = c.topicByID(id); err != nil {
			return nil, codeUnknownTopicID
		}
	} else if d, err = c.topic(c.ctx, name); err != nil {
		if !c.mayTopic(op, name, id) { // whether it is there is not for everybody to know
			return nil, codeTopicAuthorizationFailed
		}
		return nil, codeOf(err)
	}
	if err := c.server.broker.Authorize(c.principal(), op, d.Name); err != nil {
		return nil, codeOf(err)
	}
	return d, codeNone
}

// partitionOf is a topic's partition by number; nil if there is none.
func partitionOf(d *destination.Destination, number int32) *destination.Partition {
	if number < 0 || int(number) >= len(d.Partitions) {
		return nil
	}
	return d.Partitions[number]
}

// checkEpoch compares the leader epoch that a client believes in (KIP-320).
func checkEpoch(p *destination.Partition, claimed int32) int16 {
	switch current := p.Epoch(); {
	case claimed < 0 || claimed == current:
		return codeNone
	case claimed < current:
		return codeFencedLeaderEpoch
	}
	return codeUnknownLeaderEpoch
}
