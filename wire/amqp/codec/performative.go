package codec

import "math"

// The descriptors: of performatives (§2.7), delivery states (§3.4), sections
// (§3.2), termini (§3.5), transactions (§4.5) and security (§5.3.3).
const (
	descOpen        = 0x10
	descBegin       = 0x11
	descAttach      = 0x12
	descFlow        = 0x13
	descTransfer    = 0x14
	descDisposition = 0x15
	descDetach      = 0x16
	descEnd         = 0x17
	descClose       = 0x18
	descError       = 0x1d

	descReceived = 0x23
	descAccepted = 0x24
	descRejected = 0x25
	descReleased = 0x26
	descModified = 0x27
	descSource   = 0x28
	descTarget   = 0x29

	descCoordinator        = 0x30
	descDeclare            = 0x31
	descDischarge          = 0x32
	descDeclared           = 0x33
	descTransactionalState = 0x34

	descMechanisms = 0x40
	descInit       = 0x41
	descChallenge  = 0x42
	descResponse   = 0x43
	descOutcome    = 0x44

	descHeader                = 0x70
	descDeliveryAnnotations   = 0x71
	descMessageAnnotations    = 0x72
	descProperties            = 0x73
	descApplicationProperties = 0x74
	descData                  = 0x75
	descSequence              = 0x76
	descValue                 = 0x77
	descFooter                = 0x78
)

// byName are the descriptors by their symbols, which peers may use instead.
var byName = map[string]uint64{
	"amqp:open:list": descOpen, "amqp:begin:list": descBegin, "amqp:attach:list": descAttach,
	"amqp:flow:list": descFlow, "amqp:transfer:list": descTransfer, "amqp:disposition:list": descDisposition,
	"amqp:detach:list": descDetach, "amqp:end:list": descEnd, "amqp:close:list": descClose, "amqp:error:list": descError,
	"amqp:received:list": descReceived, "amqp:accepted:list": descAccepted, "amqp:rejected:list": descRejected,
	"amqp:released:list": descReleased, "amqp:modified:list": descModified,
	"amqp:source:list": descSource, "amqp:target:list": descTarget,
	"amqp:coordinator:list": descCoordinator, "amqp:declare:list": descDeclare, "amqp:discharge:list": descDischarge,
	"amqp:declared:list": descDeclared, "amqp:transactional-state:list": descTransactionalState,
	"amqp:sasl-mechanisms:list": descMechanisms, "amqp:sasl-init:list": descInit, "amqp:sasl-challenge:list": descChallenge,
	"amqp:sasl-response:list": descResponse, "amqp:sasl-outcome:list": descOutcome,
	"amqp:header:list": descHeader, "amqp:delivery-annotations:map": descDeliveryAnnotations,
	"amqp:message-annotations:map": descMessageAnnotations, "amqp:properties:list": descProperties,
	"amqp:application-properties:map": descApplicationProperties, "amqp:data:binary": descData,
	"amqp:amqp-sequence:list": descSequence, "amqp:amqp-value:*": descValue, "amqp:footer:map": descFooter,
}

// Performative is one of the frames of a connection or of its security layer.
type Performative interface {
	// Append appends its encoding.
	Append(dst []byte) []byte
	decode(r *reader)
}

// Open is §2.7.1.
type Open struct {
	ContainerID  string
	Hostname     string
	MaxFrameSize uint32 // default 4,294,967,295
	ChannelMax   uint16 // default 65,535
	IdleTimeOut  uint32 // ms; 0 is none
	Offered      []Symbol
	Desired      []Symbol
	Properties   Map
}

func (p *Open) decode(r *reader) {
	f := r.fields()
	id := f.string()
	if !id.Set {
		f.missing("container-id")
	}
	p.ContainerID = id.V
	p.Hostname = f.string().V
	p.MaxFrameSize = f.uint32Or(math.MaxUint32)
	p.ChannelMax = math.MaxUint16
	if v, set := f.uint16(); set {
		p.ChannelMax = v
	}
	p.IdleTimeOut = f.uint32().V
	f.symbols() // the locales
	f.symbols()
	p.Offered, p.Desired = f.symbols(), f.symbols()
	p.Properties = f.mapping()
	f.done()
}

// Append implements Performative.
func (p *Open) Append(dst []byte) []byte {
	l := beginList(dst, descOpen)
	l.string(SomeString(p.ContainerID))
	l.string(String{p.Hostname, p.Hostname != ""})
	l.uint32Or(p.MaxFrameSize, math.MaxUint32)
	l.uint16(p.ChannelMax, p.ChannelMax != math.MaxUint16)
	l.uint32Or(p.IdleTimeOut, 0)
	l.null()
	l.null()
	l.symbols(p.Offered)
	l.symbols(p.Desired)
	l.mapping(p.Properties)
	return l.end()
}

// Begin is §2.7.2.
type Begin struct {
	RemoteChannel  uint16
	HasRemote      bool
	NextOutgoingID uint32
	IncomingWindow uint32
	OutgoingWindow uint32
	HandleMax      uint32 // default 4,294,967,295
	Offered        []Symbol
	Desired        []Symbol
	Properties     Map
}

func (p *Begin) decode(r *reader) {
	f := r.fields()
	p.RemoteChannel, p.HasRemote = f.uint16()
	p.NextOutgoingID = f.must("next-outgoing-id")
	p.IncomingWindow = f.must("incoming-window")
	p.OutgoingWindow = f.must("outgoing-window")
	p.HandleMax = f.uint32Or(math.MaxUint32)
	p.Offered, p.Desired = f.symbols(), f.symbols()
	p.Properties = f.mapping()
	f.done()
}

// Append implements Performative.
func (p *Begin) Append(dst []byte) []byte {
	l := beginList(dst, descBegin)
	l.uint16(p.RemoteChannel, p.HasRemote)
	l.must(p.NextOutgoingID)
	l.must(p.IncomingWindow)
	l.must(p.OutgoingWindow)
	l.uint32Or(p.HandleMax, math.MaxUint32)
	l.symbols(p.Offered)
	l.symbols(p.Desired)
	l.mapping(p.Properties)
	return l.end()
}

// The roles of a link's ends (§2.8.1).
const (
	RoleSender   = false
	RoleReceiver = true
)

// The settle modes of a sender (§2.8.2) and of a receiver (§2.8.3).
const (
	SenderUnsettled uint8 = 0
	SenderSettled   uint8 = 1
	SenderMixed     uint8 = 2
	ReceiverFirst   uint8 = 0
	ReceiverSecond  uint8 = 1
)

// Attach is §2.7.3. The map of unsettled deliveries is not kept.
type Attach struct {
	Name                 string
	Handle               uint32
	Role                 bool
	SenderSettleMode     uint8 // default SenderMixed
	ReceiverSettleMode   uint8
	Source               *Source
	Target               *Target
	Coordinator          *Coordinator // in place of a target
	Unsettled            bool         // there is a map of unsettled deliveries
	InitialDeliveryCount Uint32
	MaxMessageSize       uint64 // 0 is any
	Offered              []Symbol
	Desired              []Symbol
	Properties           Map
}

func (p *Attach) decode(r *reader) {
	f := r.fields()
	name := f.string()
	if !name.Set {
		f.missing("name")
	}
	p.Name = name.V
	p.Handle = f.must("handle")
	p.Role = f.bool(false)
	p.SenderSettleMode = f.uint8(SenderMixed)
	p.ReceiverSettleMode = f.uint8(ReceiverFirst)
	if f.described() {
		if d := f.in.descriptor(); d == descSource {
			p.Source = new(Source)
			p.Source.decode(&f.in)
		} else {
			f.in.fail("a source with descriptor 0x%02x", d)
		}
	}
	if f.described() {
		switch d := f.in.descriptor(); d {
		case descTarget:
			p.Target = new(Target)
			p.Target.decode(&f.in)
		case descCoordinator:
			p.Coordinator = new(Coordinator)
			p.Coordinator.decode(&f.in)
		default:
			f.in.fail("a target with descriptor 0x%02x", d)
		}
	}
	p.Unsettled = len(f.mapping()) > 0
	f.bool(false) // incomplete-unsettled
	p.InitialDeliveryCount = f.uint32()
	p.MaxMessageSize = f.uint64()
	p.Offered, p.Desired = f.symbols(), f.symbols()
	p.Properties = f.mapping()
	f.done()
}

// Append implements Performative.
func (p *Attach) Append(dst []byte) []byte {
	l := beginList(dst, descAttach)
	l.string(SomeString(p.Name))
	l.must(p.Handle)
	l.dst = appendBool(l.dst, p.Role)
	l.wrote()
	l.uint8(p.SenderSettleMode, SenderMixed)
	l.uint8(p.ReceiverSettleMode, ReceiverFirst)
	switch {
	case p.Source != nil:
		l.dst = p.Source.append(l.dst)
		l.wrote()
	default:
		l.null()
	}
	switch {
	case p.Target != nil:
		l.dst = p.Target.append(l.dst)
		l.wrote()
	case p.Coordinator != nil:
		l.dst = p.Coordinator.append(l.dst)
		l.wrote()
	default:
		l.null()
	}
	l.null()
	l.null()
	l.uint32(p.InitialDeliveryCount)
	l.uint64(p.MaxMessageSize)
	l.symbols(p.Offered)
	l.symbols(p.Desired)
	l.mapping(p.Properties)
	return l.end()
}

// Flow is §2.7.4.
type Flow struct {
	NextIncomingID Uint32
	IncomingWindow uint32
	NextOutgoingID uint32
	OutgoingWindow uint32
	Handle         Uint32
	DeliveryCount  Uint32
	LinkCredit     Uint32
	Available      Uint32
	Drain          bool
	Echo           bool
}

func (p *Flow) decode(r *reader) {
	f := r.fields()
	p.NextIncomingID = f.uint32()
	p.IncomingWindow = f.must("incoming-window")
	p.NextOutgoingID = f.must("next-outgoing-id")
	p.OutgoingWindow = f.must("outgoing-window")
	p.Handle, p.DeliveryCount, p.LinkCredit, p.Available = f.uint32(), f.uint32(), f.uint32(), f.uint32()
	p.Drain, p.Echo = f.bool(false), f.bool(false)
	f.done()
}

// Append implements Performative.
func (p *Flow) Append(dst []byte) []byte {
	l := beginList(dst, descFlow)
	l.uint32(p.NextIncomingID)
	l.must(p.IncomingWindow)
	l.must(p.NextOutgoingID)
	l.must(p.OutgoingWindow)
	l.uint32(p.Handle)
	l.uint32(p.DeliveryCount)
	l.uint32(p.LinkCredit)
	l.uint32(p.Available)
	l.bool(p.Drain, false)
	l.bool(p.Echo, false)
	return l.end()
}

// Transfer is §2.7.5, without its payload. Its DeliveryTag aliases what it was
// decoded from.
type Transfer struct {
	Handle        uint32
	DeliveryID    Uint32
	DeliveryTag   []byte
	MessageFormat Uint32
	Settled       bool
	More          bool
	State         State
	Resume        bool
	Aborted       bool
	Batchable     bool
}

func (p *Transfer) decode(r *reader) {
	f := r.fields()
	p.Handle = f.must("handle")
	p.DeliveryID = f.uint32()
	p.DeliveryTag = f.binary()
	p.MessageFormat = f.uint32()
	p.Settled, p.More = f.bool(false), f.bool(false)
	f.uint8(ReceiverFirst) // rcv-settle-mode
	p.State = f.state()
	p.Resume, p.Aborted, p.Batchable = f.bool(false), f.bool(false), f.bool(false)
	f.done()
}

// Append implements Performative.
func (p *Transfer) Append(dst []byte) []byte {
	l := beginList(dst, descTransfer)
	l.must(p.Handle)
	l.uint32(p.DeliveryID)
	l.binary(p.DeliveryTag)
	l.uint32(p.MessageFormat)
	l.bool(p.Settled, false)
	l.bool(p.More, false)
	l.null()
	l.state(p.State)
	l.bool(p.Resume, false)
	l.bool(p.Aborted, false)
	l.bool(p.Batchable, false)
	return l.end()
}

// Disposition is §2.7.6.
type Disposition struct {
	Role    bool
	First   uint32
	Last    uint32 // First, if it was not said
	Settled bool
	State   State
}

func (p *Disposition) decode(r *reader) {
	f := r.fields()
	p.Role = f.bool(false)
	p.First = f.must("first")
	p.Last = f.uint32Or(p.First)
	p.Settled = f.bool(false)
	p.State = f.state()
	f.bool(false) // batchable
	f.done()
}

// Append implements Performative.
func (p *Disposition) Append(dst []byte) []byte {
	l := beginList(dst, descDisposition)
	l.dst = appendBool(l.dst, p.Role)
	l.wrote()
	l.must(p.First)
	l.uint32Or(p.Last, p.First)
	l.bool(p.Settled, false)
	l.state(p.State)
	return l.end()
}

// Detach is §2.7.7.
type Detach struct {
	Handle uint32
	Closed bool
	Error  *Error
}

func (p *Detach) decode(r *reader) {
	f := r.fields()
	p.Handle = f.must("handle")
	p.Closed = f.bool(false)
	p.Error = f.error()
	f.done()
}

// Append implements Performative.
func (p *Detach) Append(dst []byte) []byte {
	l := beginList(dst, descDetach)
	l.must(p.Handle)
	l.bool(p.Closed, false)
	l.error(p.Error)
	return l.end()
}

// End is §2.7.8.
type End struct{ Error *Error }

func (p *End) decode(r *reader) {
	f := r.fields()
	p.Error = f.error()
	f.done()
}

// Append implements Performative.
func (p *End) Append(dst []byte) []byte {
	l := beginList(dst, descEnd)
	l.error(p.Error)
	return l.end()
}

// Close is §2.7.9.
type Close struct{ Error *Error }

func (p *Close) decode(r *reader) {
	f := r.fields()
	p.Error = f.error()
	f.done()
}

// Append implements Performative.
func (p *Close) Append(dst []byte) []byte {
	l := beginList(dst, descClose)
	l.error(p.Error)
	return l.end()
}

func (f *fields) error() *Error {
	if !f.described() {
		return nil
	}
	if d := f.in.descriptor(); d != descError {
		f.in.fail("an error with descriptor 0x%02x", d)
		return nil
	}
	return f.in.errorFields()
}

func (r *reader) errorFields() *Error {
	e := &Error{}
	g := r.fields()
	e.Condition = g.symbol()
	e.Description = g.string().V
	e.Info = g.mapping()
	g.done()
	return e
}

func (e *Error) append(dst []byte) []byte {
	l := beginList(dst, descError)
	l.symbol(e.Condition)
	l.string(String{e.Description, e.Description != ""})
	l.mapping(e.Info)
	return l.end()
}

func (l *list) error(e *Error) {
	if e == nil {
		l.null()
		return
	}
	l.dst = e.append(l.dst)
	l.wrote()
}

// Decoder decodes the bodies of frames. A Transfer, a Flow and a Disposition are
// valid until the next call.
type Decoder struct {
	flow        Flow
	transfer    Transfer
	disposition Disposition
}

// Decode returns what a frame of a connection says, and what follows it: the
// payload of a Transfer.
func (d *Decoder) Decode(body []byte) (Performative, []byte, error) {
	r := newReader(body)
	var p Performative
	switch desc := r.descriptor(); desc {
	case descOpen:
		p = new(Open)
	case descBegin:
		p = new(Begin)
	case descAttach:
		p = new(Attach)
	case descFlow:
		d.flow = Flow{}
		p = &d.flow
	case descTransfer:
		d.transfer = Transfer{}
		p = &d.transfer
	case descDisposition:
		d.disposition = Disposition{}
		p = &d.disposition
	case descDetach:
		p = new(Detach)
	case descEnd:
		p = new(End)
	case descClose:
		p = new(Close)
	default:
		r.fail("a frame with descriptor 0x%02x", desc)
	}
	return decodeFrame(p, &r)
}

func decodeFrame(p Performative, r *reader) (Performative, []byte, error) {
	if r.err == nil {
		p.decode(r)
	}
	if r.err != nil {
		return nil, nil, r.err
	}
	return p, r.buf, nil
}
