package stomp

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/stomp/frame"
)

// outbound makes MESSAGE frames of records. It is used again and again.
type outbound struct {
	message record.Message
	version frame.Version
}

// delivered is what a MESSAGE says of its delivery.
type delivered struct {
	subscription string // the id; empty: 1.0, and none was given
	destination  string
	token        string // what is acknowledged
	acks         bool   // it is to be acknowledged
	count        uint16 // how often it was delivered, with this time
	id           string // of a message whose record knows none
}

// append appends r as a MESSAGE frame.
func (o *outbound) append(b []byte, r *record.Record, d delivered) []byte {
	m := &o.message
	_ = record.DecodeMessage(r, m) // what cannot be read of its header is as if it had none
	add := func(name, value string) { b = frame.AppendHeader(b, o.version, "MESSAGE", name, value) }
	addNumber := func(name string, n int64) { add(name, strconv.FormatInt(n, 10)) }
	b = append(b, "MESSAGE\n"...)
	if d.subscription != "" {
		add("subscription", d.subscription)
	}
	// ACK goes by message-id before 1.2, so there it has to be ours.
	id := m.ID
	if id == "" {
		id = d.id
	}
	if o.version != frame.V12 {
		id = d.token
	}
	add("message-id", id)
	add("destination", d.destination)
	if d.acks && o.version == frame.V12 {
		add("ack", d.token)
	}
	if _, ok := m.Properties["content-type"]; !ok {
		add("content-type", contentType(m))
	}
	addNumber("priority", int64(m.Priority))
	add("persistent", strconv.FormatBool(!m.NonPersistent))
	addNumber("timestamp", m.Timestamp)
	addNumber("expires", m.Expiration)
	if m.CorrelationID != "" {
		add("correlation-id", m.CorrelationID)
	}
	if m.Type != "" {
		add("type", m.Type)
	}
	if m.ReplyTo != "" {
		if m.ReplyToKind == record.DestinationNone {
			add("reply-to", m.ReplyTo)
		} else {
			add("reply-to", addressOf(m.ReplyTo, m.ReplyToKind))
		}
	}
	if m.Grouped {
		add("JMSXGroupID", string(m.Key))
		addNumber("JMSXGroupSeq", int64(m.GroupSeq))
	}
	if d.count > 1 {
		add("redelivered", "true")
		addNumber("JMSXDeliveryCount", int64(d.count))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Properties)) {
		if !protocolHeaders[name] && m.Properties[name] != nil {
			add(name, text(m.Properties[name]))
		}
	}
	b = frame.AppendLength(b, len(m.Body))
	b = append(append(b, '\n'), m.Body...)
	return append(b, 0, '\n')
}

// contentType says what a body is that no STOMP client has said it of.
func contentType(m *record.Message) string {
	switch m.Kind {
	case record.BodyText:
		return "text/plain"
	case record.BodyMap, record.BodyStream, record.BodyValue:
		return "application/msgpack"
	}
	if m.ContentType != "" {
		return m.ContentType
	}
	return "application/octet-stream"
}

// text is a property as text.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}
