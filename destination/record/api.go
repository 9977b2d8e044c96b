package record

import "iter"

type Codec uint8

const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

func Validate(b Batch, maxDecompressed int) error { panic("soon") }

type Record struct {
	Offset, Timestamp int64
	Key, Value        []byte
}

func (r *Record) Header(name string) (value []byte, ok bool) { panic("soon") }
func (r *Record) Headers() iter.Seq2[string, []byte]         { panic("soon") }
func (r *Record) Raw() []byte                                { panic("soon") }

type Reader struct{}

func (r *Reader) Reset(b Batch, maxDecompressed int) error { panic("soon") }
func (r *Reader) Next() bool                               { panic("soon") }
func (r *Reader) Record() *Record                          { panic("soon") }
func (r *Reader) Err() error                               { panic("soon") }

type Header struct {
	Key   string
	Value []byte
}
type Builder struct{}

func (w *Builder) Reset()                                                           { panic("soon") }
func (w *Builder) Append(timestamp int64, key, value []byte, headers []Header)      { panic("soon") }
func (w *Builder) Count() int                                                       { panic("soon") }
func (w *Builder) Size() int                                                        { panic("soon") }
func (w *Builder) Batch() Batch                                                     { panic("soon") }
func (w *Builder) SetProducer(id int64, epoch int16, seq int32, transactional bool) { panic("soon") }
func Compress(dst []byte, b Batch, c Codec) (Batch, error)                          { panic("soon") }
func Subset(dst []byte, b Batch, keep func(offset int64) bool) (Batch, int, error) {
	panic("soon")
}

const JMSHeader = "polylog.jms"

type BodyKind uint8

const (
	BodyNone BodyKind = iota
	BodyBytes
	BodyText
	BodyMap
	BodyStream
	BodyObject
	BodyValue
)

type DestinationKind uint8

const (
	DestinationNone DestinationKind = iota
	DestinationQueue
	DestinationTopic
	DestinationTemporaryQueue
	DestinationTemporaryTopic
)

type PropertyType uint8

const (
	PropertyString PropertyType = iota
	PropertyBool
	PropertyByte
	PropertyShort
	PropertyInt
	PropertyLong
	PropertyFloat
	PropertyDouble
	PropertyBytes
)

type TypedProperty struct {
	Name string
	Type PropertyType
}
type Meta struct {
	ID, CorrelationID, Type, ReplyTo, UserID, ClientID, ContentType string
	ReplyToKind                                                     DestinationKind
	Priority                                                        uint8
	Expiration, DeliveryTime                                        int64
	NonPersistent, Grouped                                          bool
	GroupSeq                                                        int32
	Kind                                                            BodyKind
	PropertyTypes                                                   []TypedProperty
}

func AppendMeta(dst []byte, m *Meta) []byte { panic("soon") }
func ParseMeta(value []byte, m *Meta) error { panic("soon") }

type Routing struct {
	Priority                 uint8
	Grouped                  bool
	Expiration, DeliveryTime int64
	NonPersistent            bool
}

func ParseRouting(value []byte) (Routing, error) { panic("soon") }

type Message struct {
	Meta
	Key, Body  []byte
	Timestamp  int64
	Properties map[string]any
	Offset     int64
	Partition  int32
}

func (m *Message) AppendTo(w *Builder) error                      { panic("soon") }
func DecodeMessage(r *Record, m *Message) error                   { panic("soon") }
func EncodeMap(dst []byte, values map[string]any) ([]byte, error) { panic("soon") }
func DecodeMap(body []byte) (map[string]any, error)               { panic("soon") }
func EncodeStream(dst []byte, values []any) ([]byte, error)       { panic("soon") }
func DecodeStream(body []byte) ([]any, error)                     { panic("soon") }
func EscapeName(name string) string                               { panic("soon") }
func UnescapeName(directory string) (name string, ok bool)        { panic("soon") }
func TopicName(name string) string                                { panic("soon") }
func DestinationName(topic string) (name string)                  { panic("soon") }
