package selector

import (
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/polylog-mq/polylog/destination/record"
)

// Match says whether a record is selected. It implements queue.Selector.
func (s *Selector) Match(r *record.Record) bool {
	v := s.views.Get().(*view)
	v.r, v.parsed, v.foreign = r, false, false
	ok := s.root.eval(v).isTrue()
	v.r = nil
	s.views.Put(v)
	return ok
}

// view is a record as a Message. Its texts alias the record.
type view struct {
	r               *record.Record
	meta            record.Meta
	parsed, foreign bool // foreign: it is no JMS message, and its headers are texts
}

// jms parses the JMS header when it is first asked for. One that is damaged
// counts as none.
func (v *view) jms() *record.Meta {
	if !v.parsed {
		v.parsed = true
		header, ok := v.r.Header(record.JMSHeader)
		v.foreign = !ok || record.ViewMeta(header, &v.meta) != nil
		if v.foreign {
			v.meta = record.Meta{Priority: record.DefaultPriority}
		}
	}
	return &v.meta
}

// Value implements Message.
func (v *view) Value(id Identifier) Value {
	switch m := v.jms(); id.Field {
	case JMSDeliveryMode:
		if m.NonPersistent {
			return Value{Kind: String, Text: "NON_PERSISTENT"}
		}
		return Value{Kind: String, Text: "PERSISTENT"}
	case JMSPriority:
		return Value{Kind: Int, Int: int64(m.Priority)}
	case JMSTimestamp:
		return Value{Kind: Int, Int: v.r.Timestamp}
	case JMSMessageID:
		return present(m.ID)
	case JMSCorrelationID:
		return present(m.CorrelationID)
	case JMSType:
		return present(m.Type)
	}
	switch id.Name {
	case "JMSXGroupID":
		if v.meta.Grouped {
			return present(view8(v.r.Key))
		}
		return Value{}
	case "JMSXGroupSeq":
		if v.meta.GroupSeq == 0 {
			return Value{}
		}
		return Value{Kind: Int, Int: int64(v.meta.GroupSeq)}
	case "JMSXUserID":
		return present(v.meta.UserID)
	}
	if record.ReservedProperty(id.Name) {
		return Value{}
	}
	value, ok := v.r.Header(id.Name)
	if !ok || value == nil {
		return Value{}
	}
	return property(view8(value), v.typeOf(id.Name))
}

// typeOf is a property's type: text unless it is said otherwise.
func (v *view) typeOf(name string) record.PropertyType {
	for i := range v.meta.PropertyTypes {
		if p := &v.meta.PropertyTypes[i]; p.Name == name {
			return p.Type
		}
	}
	return record.PropertyString
}

// present is a text that is not there if it is empty.
func present(text string) Value {
	if text == "" {
		return Value{}
	}
	return Value{Kind: String, Text: text}
}

// view8 lends bytes as a text.
func view8(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// property is a header's text as the property that it stands for. What is not
// as it should be is not there.
func property(text string, typ record.PropertyType) Value {
	switch typ {
	case record.PropertyBool:
		if text == "true" || text == "false" {
			return boolean(text == "true")
		}
	case record.PropertyByte, record.PropertyShort, record.PropertyInt, record.PropertyLong:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return Value{Kind: Int, Int: n}
		}
	case record.PropertyFloat:
		if n, err := strconv.ParseFloat(text, 32); err == nil {
			return Value{Kind: Float, Float: n}
		}
	case record.PropertyDouble:
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return Value{Kind: Float, Float: n}
		}
	case record.PropertyString:
		if utf8.ValidString(text) {
			return Value{Kind: String, Text: text}
		}
	}
	return Value{}
}
