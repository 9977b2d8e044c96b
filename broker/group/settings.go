package group

import (
	"cmp"
	"time"

	"github.com/polylog-mq/polylog/broker/group/consumer"
)

// GroupSettings are what is set for one group (Kafka's configs of groups). Zero
// values stand for those of the coordinator.
type GroupSettings struct {
	ConsumerSession, ConsumerHeartbeat time.Duration // consumer.session.timeout.ms, consumer.heartbeat.interval.ms
	ShareSession, ShareHeartbeat       time.Duration // share.session.timeout.ms, share.heartbeat.interval.ms
}

func (c *Coordinator) settingsOf(group string) (s GroupSettings) {
	if c.o.Settings != nil {
		s = c.o.Settings(group)
	}
	return s
}

// consumerOptions are those of a KIP-848 group.
func (c *Coordinator) consumerOptions(group string) consumer.Options {
	s := c.settingsOf(group)
	return with(c.o.Consumer, s.ConsumerSession, s.ConsumerHeartbeat)
}

// shareOptions are those of a share group.
func (c *Coordinator) shareOptions(group string) consumer.Options {
	s := c.settingsOf(group)
	return with(c.o.Share, s.ShareSession, s.ShareHeartbeat)
}

func with(o consumer.Options, session, heartbeat time.Duration) consumer.Options {
	o.SessionTimeout, o.HeartbeatInterval = cmp.Or(session, o.SessionTimeout), cmp.Or(heartbeat, o.HeartbeatInterval)
	return o
}

// Configured tells that what is set for a group has changed. It holds from each
// member's next heartbeat on.
func (c *Coordinator) Configured(group string) {
	e, _ := c.lock(group, false)
	if e == nil {
		return // who makes it asks for its settings
	}
	defer c.unlock(e)
	switch {
	case e.consumer != nil:
		e.consumer.SetOptions(c.consumerOptions(group))
	case e.share != nil:
		e.share.SetOptions(c.shareOptions(group))
	}
}
