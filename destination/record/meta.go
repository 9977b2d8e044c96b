package record

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unsafe"
)

// JMSHeader is the name of the record header that holds a Meta.
const JMSHeader = "polylog.jms"

// metaVersion is the version of the JMS header's format that this build writes
// and the newest it reads.
const metaVersion = 1

// DefaultPriority is that of a message that says nothing (Jakarta Messaging 3.1 §3.4.10).
const DefaultPriority = 4

// maxPriority is the most urgent there is (Jakarta Messaging 3.1 §3.4.10).
const maxPriority = 9

// BodyKind is how a record's value is to be read.
type BodyKind uint8

const (
	BodyNone   BodyKind = 0 // Message: no body
	BodyBytes  BodyKind = 1 // BytesMessage: as it is; also what a foreign record is
	BodyText   BodyKind = 2 // TextMessage: UTF-8
	BodyMap    BodyKind = 3 // MapMessage: EncodeMap
	BodyStream BodyKind = 4 // StreamMessage: EncodeStream
	BodyObject BodyKind = 5 // ObjectMessage: foreign bytes that Meta.ContentType describes, never deserialized
	BodyValue  BodyKind = 6 // a Go value as MessagePack
)

// DestinationKind is what a JMSReplyTo refers to.
type DestinationKind uint8

const (
	DestinationNone           DestinationKind = 0 // not said
	DestinationQueue          DestinationKind = 1
	DestinationTopic          DestinationKind = 2
	DestinationTemporaryQueue DestinationKind = 3
	DestinationTemporaryTopic DestinationKind = 4
)

// PropertyType is what a property is, whose record header is its text.
type PropertyType uint8

const (
	PropertyString PropertyType = 0 // said only of strings that are not UTF-8
	PropertyBool   PropertyType = 1
	PropertyByte   PropertyType = 2 // int8
	PropertyShort  PropertyType = 3 // int16
	PropertyInt    PropertyType = 4 // int32
	PropertyLong   PropertyType = 5 // int64
	PropertyFloat  PropertyType = 6 // float32
	PropertyDouble PropertyType = 7 // float64
	PropertyBytes  PropertyType = 8 // []byte; not JMS, but a Kafka header may be it
)

// TypedProperty names the type of one property.
type TypedProperty struct {
	Name string
	Type PropertyType
}

// Meta is what a message says beyond its body, key, timestamp and properties: the
// content of the record header polylog.jms. All of it is what a sender claimed,
// and is data, never authority.
type Meta struct {
	ID            string // JMSMessageID; empty when the sender disabled it
	CorrelationID string // JMSCorrelationID; may hold bytes that are not UTF-8
	Type          string // JMSType
	ReplyTo       string // JMSReplyTo: a destination's name
	ReplyToKind   DestinationKind
	UserID        string // JMSXUserID
	ClientID      string // of the sending connection, for noLocal
	ContentType   string // of a BodyObject

	Priority      uint8 // 0 to 9; the zero Meta has 0 and not the default 4
	Expiration    int64 // JMSExpiration, unix milliseconds; 0 is never
	DeliveryTime  int64 // JMSDeliveryTime, unix milliseconds; 0 is at once
	NonPersistent bool  // JMSDeliveryMode
	Grouped       bool  // the record's key is the JMSXGroupID
	GroupSeq      int32 // JMSXGroupSeq
	Kind          BodyKind

	// PropertyTypes are those of the properties that are not strings.
	// Message.AppendTo finds them out by itself.
	PropertyTypes []TypedProperty
}

// Routing is the part of a Meta that a queue needs to decide about delivery.
type Routing struct {
	Priority      uint8
	Grouped       bool
	Expiration    int64 // unix milliseconds; 0 is never
	DeliveryTime  int64 // unix milliseconds; 0 is at once
	NonPersistent bool
}

// The keys that a queue needs stand before those of any length, so that
// ParseRouting can stop at the first of these.
const (
	routingKeys = "pgned"
	textKeys    = "ictruloy"
)

var (
	errOrder   = errors.New("a key of routing stands behind a text")
	errVersion = errors.New("it does not start with a version")
)

// AppendMeta appends m as the value of a JMS header. What has its default value
// is left out. A priority above 9 is written as 9.
func AppendMeta(dst []byte, m *Meta) []byte {
	at := len(dst)
	dst = append(dst, 0) // the map's length, known in the end: 15 pairs fit into this byte
	n := 1
	dst = append(dst, 0xa1, 'v', metaVersion)
	number := func(key byte, v int64) {
		n++
		dst = appendInteger(append(dst, 0xa1, key), v)
	}
	text := func(key byte, v string) {
		if v != "" {
			n++
			dst = appendText(append(dst, 0xa1, key), v)
		}
	}
	if m.Kind != BodyNone {
		number('k', int64(m.Kind))
	}
	if m.Priority != DefaultPriority {
		number('p', int64(min(m.Priority, maxPriority)))
	}
	if m.Grouped {
		n++
		dst = append(dst, 0xa1, 'g', 0xc3)
	}
	if m.NonPersistent {
		n++
		dst = append(dst, 0xa1, 'n', 0xc3)
	}
	if m.Expiration != 0 {
		number('e', m.Expiration)
	}
	if m.DeliveryTime != 0 {
		number('d', m.DeliveryTime)
	}
	if m.GroupSeq != 0 {
		number('s', int64(m.GroupSeq))
	}
	if m.ReplyToKind != DestinationNone {
		number('R', int64(m.ReplyToKind))
	}
	text('i', m.ID)
	text('c', m.CorrelationID)
	text('t', m.Type)
	text('r', m.ReplyTo)
	text('u', m.UserID)
	text('l', m.ClientID)
	text('o', m.ContentType)
	if len(m.PropertyTypes) > 0 {
		n++
		dst = appendMapLength(append(dst, 0xa1, 'y'), len(m.PropertyTypes))
		for _, p := range m.PropertyTypes {
			dst = append(appendText(dst, p.Name), byte(p.Type))
		}
	}
	return closeMap(dst, at, n)
}

// closeMap sets the length of the map at index at, which needs two bytes more
// when it exceeds 15.
func closeMap(dst []byte, at, n int) []byte {
	if n < 16 {
		dst[at] = 0x80 | byte(n)
		return dst
	}
	dst = append(dst, 0, 0)
	copy(dst[at+3:], dst[at+1:])
	dst[at], dst[at+1], dst[at+2] = 0xde, byte(n>>8), byte(n)
	return dst
}

// ParseMeta reads the value of a JMS header into m, all of which it overwrites but
// the array of PropertyTypes, which it reuses. Unknown keys are skipped, and of
// a repeated key the last counts. What it keeps is a copy of value.
//
// Errors: ErrNewerVersion, with the versions named, and CorruptError.
func ParseMeta(value []byte, m *Meta) error { return parseMeta(string(value), m) }

// ViewMeta is ParseMeta without copies: the texts alias value.
func ViewMeta(value []byte, m *Meta) error {
	return parseMeta(unsafe.String(unsafe.SliceData(value), len(value)), m)
}

func parseMeta(value string, m *Meta) error {
	*m = Meta{Priority: DefaultPriority, PropertyTypes: m.PropertyTypes[:0]}
	s := scanner{s: value}
	n, err := s.version()
	if err != nil {
		return err
	}
	texts := false
	for i := 1; i < n && s.err == nil; i++ {
		key := s.key()
		if strings.IndexByte(routingKeys, key) >= 0 && texts {
			s.fail(errOrder)
		}
		texts = texts || strings.IndexByte(textKeys, key) >= 0
		switch key {
		case 'k':
			m.Kind = BodyKind(s.integer(0, int64(BodyValue)))
		case 'p':
			m.Priority = uint8(s.integer(0, maxPriority))
		case 'g':
			m.Grouped = s.boolean()
		case 'n':
			m.NonPersistent = s.boolean()
		case 'e':
			m.Expiration = s.integer(math.MinInt64, math.MaxInt64)
		case 'd':
			m.DeliveryTime = s.integer(math.MinInt64, math.MaxInt64)
		case 's':
			m.GroupSeq = int32(s.integer(math.MinInt32, math.MaxInt32))
		case 'R':
			m.ReplyToKind = DestinationKind(s.integer(0, int64(DestinationTemporaryTopic)))
		case 'i':
			m.ID = s.text()
		case 'c':
			m.CorrelationID = s.text()
		case 't':
			m.Type = s.text()
		case 'r':
			m.ReplyTo = s.text()
		case 'u':
			m.UserID = s.text()
		case 'l':
			m.ClientID = s.text()
		case 'o':
			m.ContentType = s.text()
		case 'y':
			m.PropertyTypes = s.propertyTypes(m.PropertyTypes[:0])
		default:
			s.skip(maxDepth)
		}
	}
	return s.end()
}

// ParseRouting reads only what Routing has from the value of a JMS header, without
// allocating. For a nil value, of a record without the header, it returns the zero
// Routing with priority 4. Errors are ParseMeta's, though it overlooks damage
// behind what it reads; with an error, too, the Routing is that of a record without.
func ParseRouting(value []byte) (Routing, error) {
	r := Routing{Priority: DefaultPriority}
	if value == nil {
		return r, nil
	}
	// Nothing of the string outlives this call.
	s := scanner{s: unsafe.String(unsafe.SliceData(value), len(value))}
	n, err := s.version()
	if err != nil {
		return r, err
	}
	for i := 1; i < n && s.err == nil; i++ {
		switch s.key() {
		case 'p':
			r.Priority = uint8(s.integer(0, maxPriority))
		case 'g':
			r.Grouped = s.boolean()
		case 'n':
			r.NonPersistent = s.boolean()
		case 'e':
			r.Expiration = s.integer(math.MinInt64, math.MaxInt64)
		case 'd':
			r.DeliveryTime = s.integer(math.MinInt64, math.MaxInt64)
		case 'i', 'c', 't', 'r', 'u', 'l', 'o', 'y':
			return r, nil
		default:
			s.skip(maxDepth)
		}
	}
	if err := s.end(); err != nil {
		return Routing{Priority: DefaultPriority}, err
	}
	return r, nil
}

// version reads the map's start and its first pair, which is the version, and
// returns the number of pairs, that one included.
func (s *scanner) version() (pairs int, err error) {
	pairs = s.mapLength()
	if pairs == 0 || s.text() != "v" {
		s.fail(errVersion)
	}
	version := s.integer(1, math.MaxInt64)
	if s.err != nil {
		return 0, s.end()
	}
	if version > metaVersion {
		return 0, fmt.Errorf("%w: record header %s has version %d, and this polylog knows none beyond %d",
			ErrNewerVersion, JMSHeader, version, metaVersion)
	}
	return pairs, nil
}

// end returns what was wrong, if only that there are bytes too many.
func (s *scanner) end() error {
	if s.err == nil && s.i == len(s.s) {
		return nil
	}
	if s.err == nil {
		return corrupt(-1, "record header "+JMSHeader+": bytes after its end")
	}
	return corrupt(-1, "record header "+JMSHeader+": "+s.err.Error())
}

// key reads a key: its byte, or 0 for an unknown one of another length.
func (s *scanner) key() byte {
	if at := s.i; len(s.s)-at >= 2 && s.s[at] == 0xa1 {
		s.i += 2
		return s.s[at+1]
	}
	if key := s.text(); len(key) == 1 {
		return key[0]
	}
	return 0
}

func (s *scanner) propertyTypes(dst []TypedProperty) []TypedProperty {
	for range s.mapLength() {
		name := s.text()
		typ := s.integer(0, int64(PropertyBytes))
		if s.err != nil {
			return dst[:0]
		}
		dst = append(dst, TypedProperty{name, PropertyType(typ)})
	}
	return dst
}
