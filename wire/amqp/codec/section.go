package codec

// BodyCode says of which sections a body is.
type BodyCode uint8

// The bodies (§3.2).
const (
	BodyNone     BodyCode = iota
	BodyData              // one or more
	BodySequence          // one or more
	BodyValue             // one
)

// Sections are the parts of a message, as they are encoded, descriptors included;
// nil for those that it does not have. They alias the message.
type Sections struct {
	Header                []byte
	DeliveryAnnotations   []byte
	MessageAnnotations    []byte
	Properties            []byte
	ApplicationProperties []byte
	Body                  []byte // all sections of the body
	Footer                []byte

	BodyCode  BodyCode
	BodyCount int // of sections
}

// Split finds the sections of a message, of which the footer may stand before the
// body. It looks no deeper than it must: what is in them is read by others.
func Split(message []byte) (s Sections, err error) {
	r := newReader(message)
	last, body := uint64(0), 0 // where the body begins
	for len(r.buf) > 0 && r.err == nil {
		start := r.buf
		d := r.descriptor()
		r.skip()
		if r.err != nil {
			break
		}
		section := start[: len(start)-len(r.buf) : len(start)-len(r.buf)]
		ofBody := d >= descData && d <= descValue
		if d < descHeader || d > descFooter {
			return s, decodeError("a section with descriptor 0x%02x", d)
		}
		if last == descFooter && ofBody && s.BodyCount == 0 {
			last = 0 // rhea writes the footer before the body
		}
		if d < last || d == last && d != descData && d != descSequence || ofBody && s.BodyCount > 0 && d != last {
			return s, decodeError("section 0x%02x behind section 0x%02x", d, last)
		}
		last = d
		switch d {
		case descHeader:
			s.Header = section
		case descDeliveryAnnotations:
			s.DeliveryAnnotations = section
		case descMessageAnnotations:
			s.MessageAnnotations = section
		case descProperties:
			s.Properties = section
		case descApplicationProperties:
			s.ApplicationProperties = section
		case descFooter:
			s.Footer = section
		default:
			s.BodyCode = BodyCode(d - descData + uint64(BodyData))
			if s.BodyCount++; s.BodyCount == 1 {
				body = len(message) - len(start)
			}
			end := len(message) - len(r.buf)
			s.Body = message[body:end:end]
		}
	}
	return s, r.err
}

// MessageHeader is §3.2.1.
type MessageHeader struct {
	Durable       bool
	Priority      uint8 // default 4
	TTL           Uint32
	FirstAcquirer bool
	DeliveryCount uint32
}

// DefaultPriority is that of a message that does not say.
const DefaultPriority = 4

// DecodeHeader decodes the section; nothing is the default.
func DecodeHeader(section []byte) (h MessageHeader, err error) {
	h.Priority = DefaultPriority
	if section == nil {
		return h, nil
	}
	r := newReader(section)
	r.descriptor()
	f := r.fields()
	h.Durable = f.bool(false)
	h.Priority = f.uint8(DefaultPriority)
	h.TTL = f.uint32()
	h.FirstAcquirer = f.bool(false)
	h.DeliveryCount = f.uint32().V
	f.done()
	return h, r.err
}

// Append appends the section, or nothing if all is the default.
func (h *MessageHeader) Append(dst []byte) []byte {
	if *h == (MessageHeader{Priority: DefaultPriority}) {
		return dst
	}
	l := beginList(dst, descHeader)
	l.bool(h.Durable, false)
	l.uint8(h.Priority, DefaultPriority)
	l.uint32(h.TTL)
	l.bool(h.FirstAcquirer, false)
	l.uint32Or(h.DeliveryCount, 0)
	return l.end()
}

// MessageProperties is §3.2.4. Ids are nil, uint64, UUID, []byte or string.
type MessageProperties struct {
	MessageID       any
	UserID          []byte
	To              String
	Subject         String
	ReplyTo         String
	CorrelationID   any
	ContentType     Symbol
	ContentEncoding Symbol
	AbsoluteExpiry  Timestamp
	HasExpiry       bool
	CreationTime    Timestamp
	HasCreation     bool
	GroupID         String
	GroupSequence   Uint32
	ReplyToGroupID  String
}

// DecodeProperties decodes the section, whose bytes UserID aliases.
func DecodeProperties(section []byte) (p MessageProperties, err error) {
	if section == nil {
		return p, nil
	}
	r := newReader(section)
	r.descriptor()
	f := r.fields()
	p.MessageID = f.id()
	p.UserID = f.binary()
	p.To, p.Subject, p.ReplyTo = f.address(), f.string(), f.address()
	p.CorrelationID = f.id()
	p.ContentType, p.ContentEncoding = f.symbol(), f.symbol()
	p.AbsoluteExpiry, p.HasExpiry = f.timestamp()
	p.CreationTime, p.HasCreation = f.timestamp()
	p.GroupID = f.string()
	p.GroupSequence = f.uint32()
	p.ReplyToGroupID = f.string()
	f.done()
	return p, r.err
}

func (f *fields) id() any {
	switch v := f.any().(type) {
	case nil, uint64, UUID, []byte, string:
		return v
	default:
		f.in.fail("an id of type %T", v)
	}
	return nil
}

// Append appends the section, or nothing if it is empty.
func (p *MessageProperties) Append(dst []byte) []byte {
	l := beginList(dst, descProperties)
	l.any(p.MessageID)
	l.binary(p.UserID)
	l.string(p.To)
	l.string(p.Subject)
	l.string(p.ReplyTo)
	l.any(p.CorrelationID)
	l.symbol(p.ContentType)
	l.symbol(p.ContentEncoding)
	l.timestamp(p.AbsoluteExpiry, p.HasExpiry)
	l.timestamp(p.CreationTime, p.HasCreation)
	l.string(p.GroupID)
	l.uint32(p.GroupSequence)
	l.string(p.ReplyToGroupID)
	if l.last == 0 {
		return dst
	}
	return l.end()
}

// DecodeMap decodes a section whose value is a map: annotations, application
// properties, the footer.
func DecodeMap(section []byte) (Map, error) {
	if section == nil {
		return nil, nil
	}
	r := newReader(section)
	r.descriptor()
	var m Map
	switch code := r.u8(); code {
	case codeNull:
	case codeMap8, codeMap32:
		m = r.mapping(code == codeMap32)
	default:
		r.fail("a map with constructor 0x%02x", code)
	}
	return m, r.err
}

// AppendAnnotations, AppendApplicationProperties append these sections.
func AppendAnnotations(dst []byte, m Map) []byte {
	return appendMap(AppendDescriptor(dst, descMessageAnnotations), m)
}

// AppendApplicationProperties appends the section.
func AppendApplicationProperties(dst []byte, m Map) []byte {
	return appendMap(AppendDescriptor(dst, descApplicationProperties), m)
}

// DecodeData returns the bytes of one data section, which it aliases.
func DecodeData(section []byte) ([]byte, error) {
	r := newReader(section)
	r.descriptor()
	b := r.binary()
	return b, r.err
}

func (r *reader) binary() []byte {
	switch code := r.u8(); code {
	case codeVbin8, codeVbin32:
		return r.sized(code == codeVbin32)
	default:
		r.fail("data with constructor 0x%02x", code)
	}
	return nil
}

// AppendData appends a data section.
func AppendData(dst, data []byte) []byte {
	return AppendBinary(AppendDescriptor(dst, descData), data)
}

// DecodeBodyValue returns what an amqp-value or a single amqp-sequence has.
// ErrTooMany if that is too much to be taken apart.
func DecodeBodyValue(section []byte) (any, error) {
	r := newReader(section)
	r.descriptor()
	v := r.value()
	return v, r.err
}

// TextBody returns the text of an amqp-value that is a string, which it aliases;
// false if it is something else.
func TextBody(section []byte) ([]byte, bool) {
	r := newReader(section)
	r.descriptor()
	code := r.u8()
	if code != codeStr8 && code != codeStr32 {
		return nil, false
	}
	b := r.sized(code == codeStr32)
	return b, r.err == nil
}

// AppendText appends an amqp-value that is a string.
func AppendText(dst, text []byte) []byte {
	dst = AppendDescriptor(dst, descValue)
	return append(appendSized(dst, len(text), codeStr8, codeStr32), text...)
}

// AppendBodyValue appends an amqp-value.
func AppendBodyValue(dst []byte, v any) []byte {
	return AppendValue(AppendDescriptor(dst, descValue), v)
}

// AppendSequence appends an amqp-sequence.
func AppendSequence(dst []byte, l List) []byte {
	return AppendValue(AppendDescriptor(dst, descSequence), l)
}

// IsBodyNull says whether a body is an amqp-value that is null.
func IsBodyNull(section []byte) bool {
	r := newReader(section)
	r.descriptor()
	return r.u8() == codeNull && r.err == nil
}

// EachSection calls fn with the sections of a body, one by one.
func EachSection(body []byte, fn func(section []byte) error) error {
	r := newReader(body)
	for len(r.buf) > 0 {
		start := r.buf
		r.descriptor()
		r.skip()
		if r.err != nil {
			return r.err
		}
		if err := fn(start[:len(start)-len(r.buf)]); err != nil {
			return err
		}
	}
	return nil
}
