package amqp

import (
	"fmt"
	"unicode/utf8"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// outbound makes AMQP messages of records. It is used again and again.
type outbound struct {
	message    record.Message
	properties codec.Map
}

// node is where messages come from, as they say it.
type node struct {
	name string
	kind int8 // annotationDestination's
}

// nodeOf is d as a node.
func nodeOf(d *destination.Destination) node {
	n := node{name: d.Name}
	if d.Kind == destination.KindTopic {
		n.kind = 1
	}
	if d.Temporary {
		n.kind += 2
	}
	return n
}

// append appends r as a message that is delivered for the count-th time, at now in
// ms.
func (o *outbound) append(dst []byte, from node, partition int32, r *record.Record, count uint16, now int64) []byte {
	m := &o.message
	_ = record.DecodeMessage(r, m) // what cannot be read of its header is as if it had none
	h := codec.MessageHeader{
		Durable: !m.NonPersistent, Priority: m.Priority,
		FirstAcquirer: count <= 1, DeliveryCount: uint32(max(count, 1) - 1),
	}
	if m.Expiration > 0 {
		h.TTL = codec.Some(uint32(min(max(m.Expiration-now, 1), 1<<32-1)))
	}
	dst = h.Append(dst)
	if kept, ok := r.Header(header); ok && len(kept) >= 2 && kept[0] == headerVersion {
		if s, err := codec.Split(kept[2:]); err == nil {
			return o.appendKept(dst, r, kept[1], &s)
		}
	}
	dst = o.appendAnnotations(dst, from)
	if _, jms := r.Header(record.JMSHeader); m.ID == "" && !jms {
		m.ID = fmt.Sprintf("ID:%s-%d-%d", from.name, partition, r.Offset)
	}
	dst = o.appendProperties(dst, from)
	dst = o.appendApplicationProperties(dst, nil)
	return o.appendBody(dst)
}

// jmsTypes are the kinds of bodies as annotationType has them.
var jmsTypes = [...]int8{
	record.BodyNone: typeMessage, record.BodyBytes: typeBytes, record.BodyText: typeText, record.BodyMap: typeMap,
	record.BodyStream: typeStream, record.BodyObject: typeObject, record.BodyValue: typeBytes,
}

func (o *outbound) appendAnnotations(dst []byte, from node) []byte {
	m := &o.message
	kind := typeBytes
	if int(m.Kind) < len(jmsTypes) {
		kind = jmsTypes[m.Kind]
	}
	var array [4]codec.Entry
	all := append(codec.Map(array[:0]), codec.Entry{Key: codec.Symbol(annotationType), Value: kind},
		codec.Entry{Key: codec.Symbol(annotationDestination), Value: from.kind})
	if m.ReplyToKind != record.DestinationNone {
		all = append(all, codec.Entry{Key: codec.Symbol(annotationReplyTo), Value: int8(m.ReplyToKind - record.DestinationQueue)})
	}
	if m.DeliveryTime > 0 {
		all = append(all, codec.Entry{Key: codec.Symbol(annotationDeliveryTime), Value: m.DeliveryTime})
	}
	return codec.AppendAnnotations(dst, all)
}

func (o *outbound) appendProperties(dst []byte, from node) []byte {
	m := &o.message
	p := codec.MessageProperties{
		MessageID: amqpID(m.ID), To: codec.SomeString(from.name), CorrelationID: amqpID(m.CorrelationID),
		AbsoluteExpiry: codec.Timestamp(m.Expiration), HasExpiry: m.Expiration > 0,
		CreationTime: codec.Timestamp(m.Timestamp), HasCreation: m.Timestamp > 0,
		GroupSequence: codec.Uint32{V: uint32(m.GroupSeq), Set: m.GroupSeq != 0},
		Subject:       some(m.Type), ReplyTo: some(m.ReplyTo),
	}
	if m.UserID != "" {
		p.UserID = []byte(m.UserID)
	}
	if m.Grouped {
		p.GroupID = some(string(m.Key))
	}
	switch m.Kind {
	case record.BodyBytes:
		p.ContentType = contentOctets
	case record.BodyObject:
		p.ContentType = codec.Symbol(m.ContentType)
	case record.BodyValue:
		p.ContentType = "application/vnd.msgpack"
	}
	return p.Append(dst)
}

// some is a text that is there unless it is empty.
func some(s string) codec.String {
	if v, ok := text(s).(string); ok {
		return codec.String{V: v, Set: v != ""}
	}
	return codec.String{}
}

// text is s as what AMQP has for it, whose strings are UTF-8.
func text(s string) any {
	if utf8.ValidString(s) {
		return s
	}
	return []byte(s)
}

// appendApplicationProperties appends those of the message that are not in kept,
// and kept.
func (o *outbound) appendApplicationProperties(dst []byte, kept codec.Map) []byte {
	all := append(o.properties[:0], kept...)
	for name, value := range o.message.Properties {
		if s, ok := value.(string); ok {
			value = text(s)
		}
		if kept == nil || !has(kept, name) {
			all = append(all, codec.Entry{Key: name, Value: value})
		}
	}
	if len(all) > 0 {
		dst = codec.AppendApplicationProperties(dst, all)
	}
	clear(all) // hold on to none of the message
	o.properties = all[:0]
	return dst
}

func has(m codec.Map, name string) bool {
	for _, e := range m {
		if e.Key == name {
			return true
		}
	}
	return false
}

// appendKept appends a message that has kept sections as they were sent, but for
// what has changed since: when it expires, and properties that were added.
func (o *outbound) appendKept(dst []byte, r *record.Record, form byte, s *codec.Sections) []byte {
	m := &o.message
	dst = append(dst, s.DeliveryAnnotations...)
	dst = append(dst, s.MessageAnnotations...)
	p, err := codec.DecodeProperties(s.Properties)
	if err == nil && p.HasExpiry && int64(p.AbsoluteExpiry) != m.Expiration {
		p.AbsoluteExpiry, p.HasExpiry = codec.Timestamp(m.Expiration), m.Expiration > 0
		dst = p.Append(dst)
	} else {
		dst = append(dst, s.Properties...)
	}
	kept, err := codec.DecodeMap(s.ApplicationProperties)
	added := false
	if err == nil {
		for name := range m.Properties {
			added = added || !has(kept, name)
		}
	}
	if added {
		dst = o.appendApplicationProperties(dst, kept)
	} else {
		dst = append(dst, s.ApplicationProperties...)
	}
	switch form {
	case bodyHere:
		dst = append(dst, s.Body...)
	case bodyIsValue:
		dst = append(dst, r.Value...)
	case bodyBinary:
		dst = codec.AppendBodyValue(dst, r.Value)
	case bodyData:
		dst = codec.AppendData(dst, r.Value)
	default:
		dst = o.appendBody(dst)
	}
	return append(dst, s.Footer...)
}

func (o *outbound) appendBody(dst []byte) []byte {
	m := &o.message
	switch m.Kind {
	case record.BodyNone:
		return codec.AppendBodyValue(dst, nil)
	case record.BodyText:
		if utf8.Valid(m.Body) {
			return codec.AppendText(dst, m.Body)
		}
	case record.BodyMap:
		if values, err := record.DecodeMap(m.Body); err == nil {
			all := make(codec.Map, 0, len(values))
			for name, value := range values {
				all = append(all, codec.Entry{Key: text(name), Value: value})
			}
			return codec.AppendBodyValue(dst, all)
		}
	case record.BodyStream:
		if values, err := record.DecodeStream(m.Body); err == nil {
			return codec.AppendSequence(dst, codec.List(values))
		}
	}
	return codec.AppendData(dst, m.Body)
}
