package codec

// The frames of the security layer: §5.3.3.
type (
	Mechanisms struct{ Names []Symbol }
	Init       struct {
		Mechanism Symbol
		Response  []byte
		Hostname  string
	}
	Challenge struct{ Bytes []byte }
	Response  struct{ Bytes []byte }
	Outcome   struct {
		Code uint8
		Data []byte
	}
)

// The codes of an Outcome (§5.3.3.6).
const (
	SASLOk      uint8 = 0
	SASLAuth    uint8 = 1
	SASLSystem  uint8 = 2
	SASLSysPerm uint8 = 3
	SASLSysTemp uint8 = 4
)

func (p *Mechanisms) decode(r *reader) {
	f := r.fields()
	p.Names = f.symbols()
	f.done()
}

// Append implements Performative.
func (p *Mechanisms) Append(dst []byte) []byte {
	l := beginList(dst, descMechanisms)
	l.symbols(p.Names)
	return l.end()
}

func (p *Init) decode(r *reader) {
	f := r.fields()
	if p.Mechanism = f.symbol(); p.Mechanism == "" {
		f.missing("mechanism")
	}
	p.Response = f.binary()
	p.Hostname = f.string().V
	f.done()
}

// Append implements Performative.
func (p *Init) Append(dst []byte) []byte {
	l := beginList(dst, descInit)
	l.symbol(p.Mechanism)
	l.binary(p.Response)
	l.string(String{p.Hostname, p.Hostname != ""})
	return l.end()
}

func (p *Challenge) decode(r *reader) {
	f := r.fields()
	p.Bytes = f.binary()
	f.done()
}

// Append implements Performative.
func (p *Challenge) Append(dst []byte) []byte {
	l := beginList(dst, descChallenge)
	l.binary(p.Bytes)
	return l.end()
}

func (p *Response) decode(r *reader) {
	f := r.fields()
	p.Bytes = f.binary()
	f.done()
}

// Append implements Performative.
func (p *Response) Append(dst []byte) []byte {
	l := beginList(dst, descResponse)
	l.binary(p.Bytes)
	return l.end()
}

func (p *Outcome) decode(r *reader) {
	f := r.fields()
	p.Code = f.uint8(SASLOk)
	p.Data = f.binary()
	f.done()
}

// Append implements Performative. The code is written also where it is 0, for it is
// mandatory.
func (p *Outcome) Append(dst []byte) []byte {
	l := beginList(dst, descOutcome)
	l.dst = append(l.dst, codeUbyte, p.Code)
	l.wrote()
	l.binary(p.Data)
	return l.end()
}

// DecodeSASL decodes the body of a frame of the security layer. What it returns
// aliases it.
func DecodeSASL(body []byte) (Performative, error) {
	r := newReader(body)
	var p Performative
	switch desc := r.descriptor(); desc {
	case descMechanisms:
		p = new(Mechanisms)
	case descInit:
		p = new(Init)
	case descChallenge:
		p = new(Challenge)
	case descResponse:
		p = new(Response)
	case descOutcome:
		p = new(Outcome)
	default:
		r.fail("a frame of the security layer with descriptor 0x%02x", desc)
	}
	p, rest, err := decodeFrame(p, &r)
	if err == nil && len(rest) > 0 {
		err = decodeError("%d bytes behind a frame of the security layer", len(rest))
	}
	return p, err
}
