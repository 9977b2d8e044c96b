package polylog

import (
	"fmt"
	"strings"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
)

// PutOption sets something of one message. It is a value, so that a Put with
// options allocates nothing for them.
type PutOption struct {
	set   putSetting
	name  string
	value any
	n     int64
}

type putSetting uint8

const (
	putPriority putSetting = iota + 1
	putDelay
	putTTL
	putExpiry
	putKey
	putGroup
	putCorrelation
	putType
	putReplyTo
	putProperty
	putNonPersistent
	putPartition
	putIdentity
)

// WithPriority sets JMSPriority, from 0 to 9; the default is 4.
func WithPriority(priority int) PutOption {
	return PutOption{set: putPriority, n: int64(priority)}
}

// WithDelay hides the message until the delay has passed: Jakarta Messaging
// 3.1 §7.9. The resolution is a millisecond.
func WithDelay(d time.Duration) PutOption { return PutOption{set: putDelay, n: d.Milliseconds()} }

// WithTTL lets the message expire. The time counts from the send, not from the
// end of a delay: Jakarta Messaging 3.1 §7.8. The resolution is a millisecond.
func WithTTL(d time.Duration) PutOption { return PutOption{set: putTTL, n: d.Milliseconds()} }

// WithExpiry lets the message expire at t.
func WithExpiry(t time.Time) PutOption { return PutOption{set: putExpiry, n: t.UnixMilli()} }

// WithKey sets the record's key, which picks the partition and is what
// compaction goes by.
func WithKey(key string) PutOption { return PutOption{set: putKey, name: key} }

// WithPartition sends the message to this partition, whatever its key:
// ErrNotFound if there is none.
func WithPartition(partition int32) PutOption {
	return PutOption{set: putPartition, n: int64(partition)}
}

// WithGroup sets JMSXGroupID: messages of a group go to one consumer at a
// time, in order. It is the record's key too.
func WithGroup(id string) PutOption { return PutOption{set: putGroup, name: id} }

// WithCorrelationID sets JMSCorrelationID.
func WithCorrelationID(id string) PutOption { return PutOption{set: putCorrelation, name: id} }

// WithType sets JMSType.
func WithType(name string) PutOption { return PutOption{set: putType, name: name} }

// WithReplyTo sets JMSReplyTo to a queue.
func WithReplyTo(queue string) PutOption { return PutOption{set: putReplyTo, name: queue} }

// WithProperty sets a property: a bool, int8, int16, int32, int64, int,
// float32, float64, string or []byte.
func WithProperty(name string, value any) PutOption {
	return PutOption{set: putProperty, name: name, value: value}
}

// WithIdentity sends the message under this id and as of this time, in place of
// an id of the session's and the time of the send: for a message that was handed
// over earlier (Jakarta Messaging 3.1 §3.4.4), or that is sent again. An id begins
// with "ID:" (§3.4.3), and is unique. Messages without a key whose ids are the
// same up to the last "-" go to one partition, whatever session sends them. What
// options in front of it say of a delay or a time to live counts from the send.
func WithIdentity(id string, sent time.Time) PutOption {
	return PutOption{set: putIdentity, name: id, n: sent.UnixMilli()}
}

// NonPersistent asks for confirmation once the message is written: Jakarta
// Messaging 3.1 §7.7. A destination with durability=disk syncs first all the
// same, because the sync is shared; durability=memory does not.
func NonPersistent() PutOption { return PutOption{set: putNonPersistent} }

// apply sets the options on p, whose message's Timestamp is the time of the send.
func (p *parcel) apply(opts []PutOption) error {
	for i := range opts {
		if opts[i].set == putPartition {
			p.partition = int32(opts[i].n)
			continue
		}
		if err := opts[i].apply(&p.message); err != nil {
			return err
		}
	}
	return nil
}

func (o *PutOption) apply(m *record.Message) error {
	switch o.set {
	case putPriority:
		if o.n < 0 || o.n > 9 {
			return &Error{Code: "invalid", Message: fmt.Sprintf("priority %d is not between 0 and 9", o.n)}
		}
		m.Priority = uint8(o.n)
	case putDelay:
		m.DeliveryTime = 0
		if o.n > 0 {
			m.DeliveryTime = m.Timestamp + o.n
		}
	case putTTL:
		m.Expiration = 0
		if o.n > 0 {
			m.Expiration = m.Timestamp + o.n
		}
	case putExpiry:
		m.Expiration = o.n
	case putKey:
		m.Key = bytesOf(o.name)
	case putGroup:
		m.Key, m.Grouped = bytesOf(o.name), true
	case putCorrelation:
		m.CorrelationID = o.name
	case putType:
		m.Meta.Type = o.name
	case putReplyTo:
		m.ReplyTo, m.ReplyToKind = o.name, record.DestinationQueue
	case putProperty:
		return setProperty(m, o.name, o.value)
	case putIdentity:
		if !strings.HasPrefix(o.name, "ID:") {
			return &Error{Code: "invalid", Message: fmt.Sprintf("the message id %q does not begin with \"ID:\"", o.name)}
		}
		m.ID, m.Timestamp = o.name, o.n
	case putNonPersistent:
		m.NonPersistent = true
	}
	return nil
}
