package polylog

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
)

// BodyKind says what a message's body is.
type BodyKind = record.BodyKind

// The kinds of body.
const (
	BodyNone   = record.BodyNone   // a message of headers and properties only
	BodyBytes  = record.BodyBytes  // bytes, and whatever a Kafka producer wrote
	BodyText   = record.BodyText   // UTF-8
	BodyMap    = record.BodyMap    // names and values
	BodyStream = record.BodyStream // values in order
	BodyObject = record.BodyObject // another platform's object, never read
	BodyValue  = record.BodyValue  // a Go value as MessagePack
)

// Message is a message with its headers and properties. One that was received
// is read-only: Jakarta Messaging 3.1 §3.10. One that is sent is not changed
// by sending; the Receipt has its id.
type Message struct {
	record.Message

	Destination   string // where it was received from
	DeliveryCount int    // JMSXDeliveryCount: 1 at the first delivery
}

// NewText returns a text message.
func NewText(text string) *Message { return newMessage(BodyText, []byte(text)) }

// NewBytes returns a bytes message. It keeps body.
func NewBytes(body []byte) *Message { return newMessage(BodyBytes, body) }

// NewMap returns a map message. Values are bool, int8, int16, int32, int64,
// float32, float64, string, []byte or nil; others fail here.
func NewMap(values map[string]any) (*Message, error) {
	body, err := record.EncodeMap(nil, values)
	if err != nil {
		return nil, err
	}
	return newMessage(BodyMap, body), nil
}

// NewStream returns a stream message; values as in NewMap.
func NewStream(values ...any) (*Message, error) {
	body, err := record.EncodeStream(nil, values)
	if err != nil {
		return nil, err
	}
	return newMessage(BodyStream, body), nil
}

// NewValue returns a message whose body is a Go value as MessagePack.
func NewValue(v any) (*Message, error) {
	body, err := marshalValue(nil, v)
	if err != nil {
		return nil, err
	}
	return newMessage(BodyValue, body), nil
}

// NewMessage returns a message without a body.
func NewMessage() *Message { return newMessage(BodyNone, nil) }

// With returns a copy of the message, which shares nothing with m, with the
// options set as a send at this moment would set them: what they say of a delay or
// a time to live counts from now, which becomes its Timestamp. Sending the copy
// with WithIdentity and that Timestamp sends what m would have been. The id is
// that of WithIdentity, else none.
//
// Errors: ErrInvalid, for what cannot be sent, and for WithPartition, which is no
// part of a message.
func (m *Message) With(opts ...PutOption) (*Message, error) {
	p := newParcel()
	defer p.free()
	if err := encodeMessage(m, p); err != nil {
		return nil, err
	}
	if err := p.apply(opts); err != nil {
		return nil, err
	}
	if p.partition != anyPartition {
		return nil, &Error{Code: "invalid", Message: "a partition is no part of a message"}
	}
	out := &Message{Message: p.message}
	for name, value := range out.Properties {
		if record.ReservedProperty(name) {
			return nil, fmt.Errorf("%w: %w: %q", ErrInvalid, record.ErrReservedName, name)
		}
		if b, ok := value.([]byte); ok {
			out.Properties[name] = bytes.Clone(b)
		}
	}
	out.Key, out.Body = bytes.Clone(out.Key), bytes.Clone(out.Body)
	out.PropertyTypes, out.Offset, out.Partition = nil, 0, 0
	return out, nil
}

func newMessage(kind BodyKind, body []byte) *Message {
	m := &Message{}
	m.Priority, m.Kind, m.Body = defaultPriority, kind, body
	return m
}

// defaultPriority is Message.DEFAULT_PRIORITY.
const defaultPriority = 4

// Text returns the body as text; it is meaningful for text and bytes.
func (m *Message) Text() string { return string(m.Body) }

// Map returns the body of a map message.
func (m *Message) Map() (map[string]any, error) {
	if m.Kind != BodyMap {
		return nil, fmt.Errorf("%w: it is no map message", ErrBody)
	}
	return record.DecodeMap(m.Body)
}

// Stream returns the body of a stream message.
func (m *Message) Stream() ([]any, error) {
	if m.Kind != BodyStream {
		return nil, fmt.Errorf("%w: it is no stream message", ErrBody)
	}
	return record.DecodeStream(m.Body)
}

// Value decodes the body into v: MessagePack, or JSON if the body is text or
// bytes.
func (m *Message) Value(v any) error { return unmarshalValue(m.Kind, m.Body, v) }

// Sent returns JMSTimestamp.
func (m *Message) Sent() time.Time { return time.UnixMilli(m.Timestamp) }

// Redelivered returns JMSRedelivered: Jakarta Messaging 3.1 §3.4.7.
func (m *Message) Redelivered() bool { return m.DeliveryCount > 1 }

// Group returns JMSXGroupID, empty if the message is in no group.
func (m *Message) Group() string {
	if !m.Grouped {
		return ""
	}
	return string(m.Key)
}

// The properties that a message in a dead letter destination has besides its
// own.
const (
	propertyOrigin     = "JMS_POLYLOG_DLQ_ORIGIN"
	propertyReason     = "JMS_POLYLOG_DLQ_REASON"
	propertyException  = "JMS_POLYLOG_DLQ_EXCEPTION"
	propertyDeadCount  = "JMS_POLYLOG_DLQ_COUNT"
	propertyDeadOffset = "JMS_POLYLOG_DLQ_OFFSET"
)

// DeadLetter says where a dead message came from.
type DeadLetter struct {
	Origin string // the destination that it was taken out of
	Reason string
	// Exception is what failed at its last delivery, if its consumer said so
	// (Delivery.Fail, or the error of a listener).
	Exception string
	Count     int64 // how often it was delivered there
	Offset    int64 // its offset there
}

// DeadLetter returns where the message came from; ok is false if it is no dead
// letter.
func (m *Message) DeadLetter() (d DeadLetter, ok bool) {
	if d.Origin, ok = m.Properties[propertyOrigin].(string); !ok {
		return DeadLetter{}, false
	}
	d.Reason, _ = m.Properties[propertyReason].(string)
	d.Exception, _ = m.Properties[propertyException].(string)
	d.Count, _ = Property[int64](m, propertyDeadCount)
	d.Offset, _ = Property[int64](m, propertyDeadOffset)
	return d, true
}

// SetProperty sets a property: a bool, int8, int16, int32, int64, int,
// float32, float64, string or []byte.
func (m *Message) SetProperty(name string, value any) error {
	return setProperty(&m.Message, name, value)
}

func setProperty(m *record.Message, name string, value any) error {
	switch v := value.(type) {
	case bool, int8, int16, int32, int64, float32, float64, string, []byte:
	case int:
		value = int64(v)
	case nil:
		delete(m.Properties, name)
		return nil
	default:
		return &Error{Code: "invalid", Message: fmt.Sprintf("property %s: a %T cannot be a property", name, value)}
	}
	if name == "" {
		return &Error{Code: "invalid", Message: "a property needs a name"}
	}
	if m.Properties == nil {
		m.Properties = make(map[string]any)
	}
	m.Properties[name] = value
	return nil
}

// PropertyValue is what a property can be read as.
type PropertyValue interface {
	bool | int8 | int16 | int32 | int64 | float32 | float64 | string
}

// Property reads a property as a T, by the conversions of Jakarta Messaging
// 3.1 §3.5.4: narrower integers as wider ones, anything as a string, a string
// as anything that it spells. Other pairs fail with ErrInvalid. A property
// that is not there is "" as a string and false as a bool, and fails as a
// number, as the valueOf of Java does.
func Property[T PropertyValue](m *Message, name string) (T, error) {
	var out T
	value, there := m.Properties[name]
	ok := false
	switch p := any(&out).(type) {
	case *string:
		*p, ok = propertyString(value), true
	case *bool:
		*p, ok = propertyBool(value)
	case *int8:
		ok = propertyInt(value, 8, p)
	case *int16:
		ok = propertyInt(value, 16, p)
	case *int32:
		ok = propertyInt(value, 32, p)
	case *int64:
		ok = propertyInt(value, 64, p)
	case *float32:
		ok = propertyFloat(value, 32, p)
	case *float64:
		ok = propertyFloat(value, 64, p)
	}
	if ok {
		return out, nil
	}
	if !there {
		return out, &Error{Code: "invalid", Message: fmt.Sprintf("property %s is not there and cannot be read as %T", name, out)}
	}
	return out, &Error{Code: "invalid", Message: fmt.Sprintf("property %s is a %T and cannot be read as %T", name, value, out)}
}

func propertyString(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}

func propertyBool(value any) (result, ok bool) {
	switch v := value.(type) {
	case nil:
		return false, true
	case bool:
		return v, true
	case string: // Java's Boolean.valueOf: whatever does not spell true is false
		return len(v) == 4 && (v[0]|0x20) == 't' && (v[1]|0x20) == 'r' && (v[2]|0x20) == 'u' && (v[3]|0x20) == 'e', true
	}
	return false, false
}

// propertyInt widens, and reads a string in the range of bits.
func propertyInt[T int8 | int16 | int32 | int64](value any, bits int, out *T) bool {
	var n int64
	width := 64
	switch v := value.(type) {
	case int8:
		n, width = int64(v), 8
	case int16:
		n, width = int64(v), 16
	case int32:
		n, width = int64(v), 32
	case int64:
		n = v
	case string:
		parsed, err := strconv.ParseInt(v, 10, bits)
		if err != nil {
			return false
		}
		n, width = parsed, bits
	default:
		return false
	}
	*out = T(n)
	return width <= bits
}

func propertyFloat[T float32 | float64](value any, bits int, out *T) bool {
	switch v := value.(type) {
	case float32:
		*out = T(v)
		return true
	case float64:
		*out = T(v)
		return bits == 64
	case string:
		f, err := strconv.ParseFloat(v, bits)
		*out = T(f)
		return err == nil && !math.IsNaN(f)
	}
	return false
}

// decodeRecord reads a record into m.
func decodeRecord(r *record.Record, partition int32, m *Message) error {
	if err := record.DecodeMessage(r, &m.Message); err != nil {
		return err
	}
	m.Offset, m.Partition = r.Offset, partition
	if m.ID == "" { // from a Kafka producer
		m.ID = fmt.Sprintf("ID:%s-%d-%d", m.Destination, partition, r.Offset)
	}
	return nil
}
