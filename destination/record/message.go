package record

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Message is a JMS message in its parts.
type Message struct {
	Meta
	Key       []byte // the JMSXGroupID if Grouped, else only for routing; nil is none
	Body      []byte // encoded as Kind says
	Timestamp int64  // JMSTimestamp, unix milliseconds

	// Properties are bool, int8, int16, int32, int64, float32, float64 or string,
	// and nil for a null string (Jakarta Messaging 3.1 §3.5.4). A []byte is
	// a Kafka header that is not text.
	Properties map[string]any

	Offset    int64 // where it was read from; AppendTo ignores both
	Partition int32
}

// AppendTo adds the message to w as a record. The JMS header comes first, then
// the properties by name, as readable text. The value is never null, for that
// would be a tombstone to compaction. Headers of polylog's own, whose names no
// property can have, may come between the two.
//
// Errors, after which w is as before: ErrReservedName and ErrPropertyType.
func (m *Message) AppendTo(w *Builder, own ...Header) error {
	w.names, w.types = w.names[:0], w.types[:0]
	for name, value := range m.Properties {
		if ReservedProperty(name) {
			return fmt.Errorf("%w: %q", ErrReservedName, name)
		}
		typ, err := propertyType(value)
		if err != nil {
			return fmt.Errorf("property %q: %w", name, err)
		}
		if typ != PropertyString || !textual(value) {
			w.types = append(w.types, TypedProperty{name, typ})
		}
		w.names = append(w.names, name)
	}
	slices.Sort(w.names) // the same message is the same bytes
	slices.SortFunc(w.types, func(a, b TypedProperty) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})

	meta := m.Meta
	meta.PropertyTypes = w.types
	w.text = AppendMeta(w.text[:0], &meta)
	w.headers = append(w.headers[:0], Header{JMSHeader, w.text})
	w.headers = append(w.headers, own...)
	for _, name := range w.names {
		from := len(w.text)
		w.text = appendProperty(w.text, m.Properties[name])
		// If the text moves when it grows, the parts before stay what they are.
		value := w.text[from:len(w.text):len(w.text)]
		if m.Properties[name] == nil {
			value = nil
		}
		w.headers = append(w.headers, Header{name, value})
	}

	body := m.Body
	if body == nil {
		body = []byte{}
	}
	w.Append(m.Timestamp, m.Key, body, w.headers)
	clear(w.headers) // hold on to none of the message
	clear(w.names)
	clear(w.types)
	return nil
}

// DecodeMessage takes a record for a message, and overwrites all of m but the
// partition; the map of Properties, if there is one, is cleared and used again.
// Key and Body alias the record. A record without the JMS header is a BytesMessage
// whose properties are its headers, as strings, or []byte when they are not UTF-8;
// its ID is empty, for only the caller knows what to derive it from. Of headers
// with one name the last counts; those with a reserved name are not properties.
//
// When the JMS header cannot be read, by ErrNewerVersion or a CorruptError, the
// error says so and m is the record without that header. A CorruptError for the
// headers as such leaves no properties.
func DecodeMessage(r *Record, m *Message) error {
	properties := m.Properties
	clear(properties)
	m.Key, m.Body, m.Timestamp, m.Offset = r.Key, r.Value, r.Timestamp, r.Offset
	m.setForeign()

	// One copy of all headers, of which names and values are parts.
	headers := string(r.headers)
	var jms string
	found := false
	at := 0
	for range r.headerCount {
		h, next := headerAt(r.headers, at)
		if at = next; at < 0 {
			break
		}
		name := headers[h.key:h.keyEnd]
		if name == JMSHeader {
			if found = h.value >= 0; found {
				jms = headers[h.value:h.valueEnd]
			}
			continue
		}
		if ReservedProperty(name) {
			continue
		}
		if properties == nil {
			properties = make(map[string]any, min(r.headerCount, 16))
		}
		properties[name] = foreignProperty(headers, h)
	}
	if at != len(r.headers) {
		clear(properties)
		m.Properties = properties
		return corrupt(r.Offset, "record headers")
	}
	m.Properties = properties
	if !found {
		return nil
	}
	if err := parseMeta(jms, &m.Meta); err != nil {
		m.setForeign()
		return atOffset(err, r.Offset)
	}
	for _, p := range m.PropertyTypes {
		if value, ok := properties[p.Name]; ok {
			properties[p.Name] = typedProperty(value, p.Type)
		}
	}
	return nil
}

// setForeign makes the Meta that of a record that has none.
func (m *Message) setForeign() {
	m.Meta = Meta{Priority: DefaultPriority, Kind: BodyBytes, PropertyTypes: m.PropertyTypes[:0]}
}

func foreignProperty(headers string, h headerSpan) any {
	if h.value < 0 {
		return nil
	}
	value := headers[h.value:h.valueEnd]
	if !utf8.ValidString(value) {
		return []byte(value)
	}
	return value
}

func textual(value any) bool {
	s, ok := value.(string)
	return !ok || utf8.ValidString(s)
}

func propertyType(value any) (PropertyType, error) {
	switch value.(type) {
	case nil, string:
		return PropertyString, nil
	case bool:
		return PropertyBool, nil
	case int8:
		return PropertyByte, nil
	case int16:
		return PropertyShort, nil
	case int32:
		return PropertyInt, nil
	case int64:
		return PropertyLong, nil
	case float32:
		return PropertyFloat, nil
	case float64:
		return PropertyDouble, nil
	case []byte:
		return PropertyBytes, nil
	}
	return 0, fmt.Errorf("%w %T", ErrPropertyType, value)
}

// appendProperty writes a property as the text of its header.
func appendProperty(dst []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return append(dst, v...)
	case []byte:
		return append(dst, v...)
	case bool:
		return strconv.AppendBool(dst, v)
	case int8:
		return strconv.AppendInt(dst, int64(v), 10)
	case int16:
		return strconv.AppendInt(dst, int64(v), 10)
	case int32:
		return strconv.AppendInt(dst, int64(v), 10)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case float32:
		return strconv.AppendFloat(dst, float64(v), 'g', -1, 32)
	case float64:
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	}
	return dst // nil: a null header
}

// typedProperty reads a header's text as the type that the JMS header says. If it
// no longer is one, because somebody changed the header on its way, it stays what
// a foreign header is.
func typedProperty(value any, typ PropertyType) any {
	text, ok := value.(string)
	if !ok {
		b, ok := value.([]byte)
		if ok && typ == PropertyString {
			return string(b)
		}
		return value
	}
	switch typ {
	case PropertyBool:
		if text == "true" || text == "false" {
			return text == "true"
		}
	case PropertyByte:
		if v, err := strconv.ParseInt(text, 10, 8); err == nil {
			return int8(v)
		}
	case PropertyShort:
		if v, err := strconv.ParseInt(text, 10, 16); err == nil {
			return int16(v)
		}
	case PropertyInt:
		if v, err := strconv.ParseInt(text, 10, 32); err == nil {
			return int32(v)
		}
	case PropertyLong:
		if v, err := strconv.ParseInt(text, 10, 64); err == nil {
			return v
		}
	case PropertyFloat:
		if v, err := strconv.ParseFloat(text, 32); err == nil {
			return float32(v)
		}
	case PropertyDouble:
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			return v
		}
	case PropertyBytes:
		return []byte(text)
	}
	return text
}
