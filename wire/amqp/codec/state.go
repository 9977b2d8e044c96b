package codec

// StateKind is what a State says.
type StateKind uint8

// The delivery states (§3.4) and that of Declare's delivery (§4.5.5).
const (
	NoState StateKind = iota
	Received
	Accepted
	Rejected
	Released
	Modified
	Declared
	UnknownState // one of somebody's own
)

var stateKinds = map[uint64]StateKind{
	descReceived: Received, descAccepted: Accepted, descRejected: Rejected,
	descReleased: Released, descModified: Modified, descDeclared: Declared,
}

var stateDescriptors = [...]uint64{
	Received: descReceived, Accepted: descAccepted, Rejected: descRejected,
	Released: descReleased, Modified: descModified, Declared: descDeclared,
}

// State is the state of a delivery.
type State struct {
	Kind StateKind
	// Error is Rejected's.
	Error *Error
	// Failed and Undeliverable are delivery-failed and undeliverable-here of
	// Modified.
	Failed, Undeliverable bool
	// Transactional says that Kind, which may be NoState, is a transactional
	// state's outcome (§4.5.8). TxnID is its transaction, or the one Declared. It
	// aliases what it was decoded from.
	Transactional bool
	TxnID         []byte
}

func (f *fields) state() (s State) {
	if !f.described() {
		return s
	}
	f.in.stateInto(&s, true)
	return s
}

func (r *reader) stateInto(s *State, mayNest bool) {
	d := r.descriptor()
	switch d {
	case descTransactionalState:
		if !mayNest {
			r.fail("a transactional state in another")
			return
		}
		g := r.fields()
		s.Transactional = true
		if s.TxnID = g.binary(); s.TxnID == nil {
			g.missing("txn-id")
		}
		if g.described() {
			g.in.stateInto(s, false)
		}
		g.done()
		return
	case descRejected:
		g := r.fields()
		s.Error = g.error()
		g.done()
	case descModified:
		g := r.fields()
		s.Failed, s.Undeliverable = g.bool(false), g.bool(false)
		g.done()
	case descDeclared:
		g := r.fields()
		if s.TxnID = g.binary(); s.TxnID == nil {
			g.missing("txn-id")
		}
		g.done()
	default:
		r.skip() // Received says how far, which is nothing to us; the others have no fields
	}
	if s.Kind = stateKinds[d]; s.Kind == NoState {
		s.Kind = UnknownState
	}
}

func (l *list) state(s State) {
	switch {
	case s.Transactional:
		g := beginList(l.dst, descTransactionalState)
		g.binary(s.TxnID)
		if s.Kind != NoState && s.Kind != UnknownState {
			g.dst = s.appendOutcome(g.dst)
			g.wrote()
		}
		l.dst = g.end()
	case s.Kind == NoState || s.Kind == UnknownState:
		l.null()
		return
	default:
		l.dst = s.appendOutcome(l.dst)
	}
	l.wrote()
}

func (s *State) appendOutcome(dst []byte) []byte {
	l := beginList(dst, stateDescriptors[s.Kind])
	switch s.Kind {
	case Received: // its two fields are mandatory (§3.4.1)
		l.must(0)
		l.dst = appendUlong(l.dst, 0)
		l.wrote()
	case Rejected:
		l.error(s.Error)
	case Modified:
		l.bool(s.Failed, false)
		l.bool(s.Undeliverable, false)
	case Declared:
		l.binary(s.TxnID)
	}
	return l.end()
}

// Declare and Discharge are what a coordinator is sent, as the value of a message
// (§4.5.2, §4.5.4).
type (
	Declare   struct{}
	Discharge struct {
		TxnID []byte
		Fail  bool
	}
)

// DecodeControl decodes the message to a coordinator: *Declare or *Discharge.
func DecodeControl(payload []byte) (any, error) {
	s, err := Split(payload)
	if err != nil {
		return nil, err
	}
	if s.BodyCode != BodyValue {
		return nil, decodeError("a message to a coordinator without an amqp-value")
	}
	r := newReader(s.Body)
	r.descriptor()
	var v any
	switch d := r.descriptor(); d {
	case descDeclare:
		r.skip() // a global id, which nobody uses
		v = &Declare{}
	case descDischarge:
		f := r.fields()
		discharge := &Discharge{TxnID: f.binary()}
		if discharge.TxnID == nil {
			f.missing("txn-id")
		}
		discharge.Fail = f.bool(false)
		f.done()
		v = discharge
	default:
		r.fail("a message to a coordinator with descriptor 0x%02x", d)
	}
	return v, r.err
}
