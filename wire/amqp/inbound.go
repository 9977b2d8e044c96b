package amqp

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// The annotations of the AMQP JMS mapping (§3.2.1.4, §3.2.3): what a message is,
// what its destination and its reply-to are, and when it may be delivered.
const (
	annotationType         = "x-opt-jms-msg-type"
	annotationDestination  = "x-opt-jms-dest"
	annotationReplyTo      = "x-opt-jms-reply-to"
	annotationDeliveryTime = "x-opt-delivery-time"
	// annotationDeliveryDelay, in ms, is what clients without JMS use with other
	// brokers.
	annotationDeliveryDelay = "x-opt-delivery-delay"
)

// The values of annotationType.
const (
	typeMessage int8 = 0
	typeObject  int8 = 1
	typeMap     int8 = 2
	typeBytes   int8 = 3
	typeStream  int8 = 4
	typeText    int8 = 5
)

const (
	contentOctets = "application/octet-stream"
	contentObject = "application/x-java-serialized-object"
)

// header is the record header that a message has whose sections the message as
// polylog keeps it would not give back: a version, where the body is, and the
// sections that come back as they were sent.
const header = "polylog.amqp"

const headerVersion = 1

// Where the body of a message with the header is.
const (
	bodyByKind  = 0 // as any other's
	bodyHere    = 1 // in the header, among the sections
	bodyIsValue = 2 // the record's value is its sections
	bodyBinary  = 3 // an amqp-value that is the record's value
	bodyData    = 4 // a data section that is the record's value
)

// errMessage says that a message makes no sense, which is its sender's fault.
var errMessage = errors.New("not a valid message")

// inbound is a message that a client sends. It is used again and again.
type inbound struct {
	message record.Message
	own     []record.Header // besides polylog.jms: none, or one
	// to and toKind are the destination that the message names; toKind is -1 where
	// it does not say what that is.
	to     string
	toKind int8

	exact   bool // it comes back as it is without the header
	isJMS   bool
	jmsType int8
	form    byte
	raw     []byte
	body    []byte // that was encoded here
}

// parse takes a message apart. node is where it was sent to, empty where the message
// says it itself; now is the time in ms. What it has aliases payload.
func (in *inbound) parse(payload []byte, node string, now int64) error {
	s, err := codec.Split(payload)
	if err != nil {
		return err
	}
	h, err := codec.DecodeHeader(s.Header)
	if err != nil {
		return err
	}
	p, err := codec.DecodeProperties(s.Properties)
	if err != nil {
		return err
	}
	properties := in.message.Properties
	clear(properties)
	in.message = record.Message{Properties: properties}
	m := &in.message
	in.own, in.form, in.exact = in.own[:0], bodyByKind, s.DeliveryAnnotations == nil && s.Footer == nil
	in.to, in.toKind = p.To.V, -1

	m.NonPersistent = !h.Durable
	m.Priority = min(h.Priority, 9)
	m.Timestamp = now
	if p.HasCreation && p.CreationTime > 0 {
		m.Timestamp = int64(p.CreationTime)
	}
	in.need(p.HasCreation)
	switch {
	case p.HasExpiry && p.AbsoluteExpiry > 0:
		m.Expiration = int64(p.AbsoluteExpiry)
	case h.TTL.V > 0:
		m.Expiration = now + int64(h.TTL.V)
	}
	if err := in.annotations(s.MessageAnnotations, now); err != nil {
		return err
	}
	if p.MessageID != nil {
		m.ID = messageID(p.MessageID)
	}
	if p.CorrelationID != nil {
		m.CorrelationID = correlationID(p.CorrelationID)
	}
	m.UserID, m.Type, m.ReplyTo = string(p.UserID), p.Subject.V, p.ReplyTo.V
	in.need((p.UserID == nil) == (m.UserID == "") && p.Subject.Set == (m.Type != "") && p.ReplyTo.Set == (m.ReplyTo != ""))
	in.need(p.To.Set && (node == "" || p.To.V == node) && p.ContentEncoding == "" && !p.ReplyToGroupID.Set)
	if p.GroupID.V != "" {
		m.Key, m.Grouped = []byte(p.GroupID.V), true
	}
	m.GroupSeq = int32(p.GroupSequence.V)
	in.need(p.GroupID.Set == m.Grouped && p.GroupSequence.Set == (m.GroupSeq != 0))
	if err := in.applicationProperties(s.ApplicationProperties); err != nil {
		return err
	}
	if err := in.parseBody(&s, p.ContentType); err != nil {
		return err
	}
	if !in.exact {
		in.keep(&s)
	}
	return nil
}

// need has the message keep its sections where a condition does not hold.
func (in *inbound) need(condition bool) { in.exact = in.exact && condition }

func (in *inbound) annotations(section []byte, now int64) error {
	all, err := codec.DecodeMap(section)
	if err != nil {
		return err
	}
	m := &in.message
	in.isJMS, in.jmsType = false, -1
	for _, a := range all {
		key, _ := a.Key.(codec.Symbol)
		kind, small := a.Value.(int8)
		switch {
		case key == annotationType && small:
			in.isJMS, in.jmsType = true, kind
		case key == annotationDestination && small:
			in.toKind = kind
		case key == annotationReplyTo && small && kind >= 0 && kind <= 3:
			m.ReplyToKind = record.DestinationKind(kind) + record.DestinationQueue
		case key == annotationDeliveryTime:
			m.DeliveryTime = milliseconds(a.Value)
			in.need(isLong(a.Value) && m.DeliveryTime > 0)
		case key == annotationDeliveryDelay:
			if delay := milliseconds(a.Value); delay > 0 && delay < math.MaxInt64-now {
				m.DeliveryTime = now + delay
			}
			in.exact = false
		default:
			in.exact = false
		}
	}
	in.need(in.isJMS && in.toKind >= 0)
	return nil
}

func isLong(v any) bool { _, ok := v.(int64); return ok }

// milliseconds is a time that clients write in several types; 0 if it is none.
func milliseconds(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case codec.Timestamp:
		return int64(v)
	case uint64:
		return int64(min(v, math.MaxInt64))
	case int32:
		return int64(v)
	case uint32:
		return int64(v)
	}
	return 0
}

func (in *inbound) applicationProperties(section []byte) error {
	all, err := codec.DecodeMap(section)
	if err != nil {
		return err
	}
	m := &in.message
	for _, p := range all {
		name, ok := p.Key.(string)
		if !ok || record.ReservedProperty(name) {
			in.exact = false
			continue
		}
		value, exact, ok := property(p.Value)
		in.need(exact)
		if !ok {
			continue
		}
		if m.Properties == nil {
			m.Properties = map[string]any{}
		}
		m.Properties[name] = value
	}
	return nil
}

// property is a value as a property of a JMS message. exact says that it comes back
// as it was, ok that there is such a value.
func property(v any) (value any, exact, ok bool) {
	switch v := v.(type) {
	case nil, bool, int8, int16, int32, int64, float32, float64, []byte:
		return v, true, true
	case string:
		return v, utf8.ValidString(v), true
	case uint8:
		return int16(v), false, true
	case uint16:
		return int32(v), false, true
	case uint32:
		return int64(v), false, true
	case uint64:
		if v > math.MaxInt64 {
			return strconv.FormatUint(v, 10), false, true
		}
		return int64(v), false, true
	case codec.Symbol:
		return string(v), false, true
	case codec.Char:
		return string(rune(v)), false, true
	case codec.Timestamp:
		return int64(v), false, true
	case codec.UUID:
		return formatUUID(v), false, true
	}
	return nil, false, false
}

// parseBody finds the kind of body that JMS has for a message: AMQP JMS mapping
// §3.3, and §3.4 for what other clients send.
func (in *inbound) parseBody(s *codec.Sections, content codec.Symbol) error {
	m := &in.message
	if s.BodyCode == codec.BodyData {
		return in.parseData(s, content)
	}
	in.need(content == "")
	if s.BodyCount == 0 {
		m.Kind = record.BodyNone
		in.form = bodyHere // none
		in.need(in.jmsType == typeMessage)
		return nil
	}
	if s.BodyCode == codec.BodyValue {
		if text, ok := codec.TextBody(s.Body); ok {
			return in.parseText(text)
		}
	}
	if s.BodyCount > 1 {
		in.asSections(s)
		return nil
	}
	v, err := codec.DecodeBodyValue(s.Body)
	if errors.Is(err, codec.ErrTooMany) {
		in.asSections(s)
		return nil
	}
	if err != nil {
		return err
	}
	in.parseValue(s, v)
	return nil
}

// asSections keeps a body that JMS has no kind for as its sections.
func (in *inbound) asSections(s *codec.Sections) {
	in.message.Kind, in.message.Body = record.BodyBytes, s.Body
	in.form, in.exact = bodyIsValue, false
}

func (in *inbound) parseText(text []byte) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("%w: a string that is not UTF-8", errMessage)
	}
	in.message.Kind, in.message.Body = record.BodyText, text
	in.need(in.jmsType == typeText)
	return nil
}

func (in *inbound) parseData(s *codec.Sections, content codec.Symbol) error {
	m := &in.message
	var data []byte
	err := codec.EachSection(s.Body, func(section []byte) error {
		b, err := codec.DecodeData(section)
		if s.BodyCount == 1 {
			data = b
		} else {
			data = append(data, b...)
		}
		return err
	})
	if err != nil {
		return err
	}
	m.Body = data
	switch {
	case content == contentObject:
		m.Kind, m.ContentType = record.BodyObject, string(content)
		in.need(in.jmsType == typeObject)
	case textual(content) && utf8.Valid(data):
		m.Kind = record.BodyText
		in.exact = false
		in.form = bodyData
	default:
		m.Kind = record.BodyBytes
		in.need(in.jmsType == typeBytes && content == contentOctets)
	}
	if s.BodyCount > 1 {
		in.form, in.exact = bodyHere, false
	}
	return nil
}

// textual says whether what a data section has is to be read as text.
func textual(content codec.Symbol) bool {
	return strings.HasPrefix(string(content), "text/") ||
		content == "application/json" || content == "application/xml" || content == "application/xhtml+xml"
}

func (in *inbound) parseValue(s *codec.Sections, v any) {
	m := &in.message
	var err error
	switch v := v.(type) {
	case nil:
		m.Kind = record.BodyNone
		if in.jmsType == typeText { // a TextMessage without a text
			m.Kind = record.BodyText
		}
		in.form = bodyHere
		in.need(in.jmsType == typeMessage)
		return
	case codec.Map:
		values := make(map[string]any, len(v))
		for _, e := range v {
			name, isString := e.Key.(string)
			value, exact, ok := property(e.Value)
			if !isString || !ok {
				in.asSections(s)
				return
			}
			if !exact {
				in.form, in.exact = bodyHere, false
			}
			values[name] = value
		}
		if len(values) != len(v) {
			in.asSections(s)
			return
		}
		m.Kind = record.BodyMap
		in.body, err = record.EncodeMap(in.body[:0], values)
		in.need(in.jmsType == typeMap)
	case codec.List:
		values := make([]any, len(v))
		for i := range v {
			value, exact, ok := property(v[i])
			if !ok {
				in.asSections(s)
				return
			}
			if !exact {
				in.form, in.exact = bodyHere, false
			}
			values[i] = value
		}
		m.Kind = record.BodyStream
		in.body, err = record.EncodeStream(in.body[:0], values)
		if s.BodyCode != codec.BodySequence {
			in.form, in.exact = bodyHere, false
		}
		in.need(in.jmsType == typeStream)
	case []byte:
		m.Kind, m.Body = record.BodyBytes, v
		in.form, in.exact = bodyBinary, false
		return
	default:
		value, _, ok := property(v)
		if !ok {
			in.asSections(s)
			return
		}
		m.Kind, m.Body = record.BodyText, fmt.Append(nil, value)
		in.form, in.exact = bodyHere, false
		return
	}
	if err != nil {
		in.asSections(s)
		return
	}
	m.Body = in.body
}

// keep makes the header.
func (in *inbound) keep(s *codec.Sections) {
	in.raw = append(in.raw[:0], headerVersion, in.form)
	in.raw = append(in.raw, s.DeliveryAnnotations...)
	in.raw = append(in.raw, s.MessageAnnotations...)
	in.raw = append(in.raw, s.Properties...)
	in.raw = append(in.raw, s.ApplicationProperties...)
	if in.form == bodyHere {
		in.raw = append(in.raw, s.Body...)
	}
	in.raw = append(in.raw, s.Footer...)
	in.own = append(in.own, record.Header{Key: header, Value: in.raw})
}
