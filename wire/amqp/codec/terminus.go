package codec

// Durability and expiry of a terminus (§3.5.5, §3.5.6).
const (
	DurabilityNone          uint32 = 0
	DurabilityConfiguration uint32 = 1
	DurabilityUnsettled     uint32 = 2

	ExpireLinkDetach      Symbol = "link-detach"
	ExpireSessionEnd      Symbol = "session-end"
	ExpireConnectionClose Symbol = "connection-close"
	ExpireNever           Symbol = "never"

	DistributionMove Symbol = "move"
	DistributionCopy Symbol = "copy"
)

// LifetimeDeleteOnClose is that of a node that is deleted with its link (§3.5.10).
const LifetimeDeleteOnClose uint64 = 0x2b

// Source is §3.5.3.
type Source struct {
	Address          String
	Durable          uint32
	Expiry           Symbol // default session-end
	Timeout          uint32 // s
	Dynamic          bool
	DynamicNode      Map
	DistributionMode Symbol
	Filter           Map
	DefaultOutcome   State
	Outcomes         []Symbol
	Capabilities     []Symbol
}

func (s *Source) decode(r *reader) {
	f := r.fields()
	s.Address = f.address()
	s.Durable = f.uint32().V
	if s.Expiry = f.symbol(); s.Expiry == "" {
		s.Expiry = ExpireSessionEnd
	}
	s.Timeout = f.uint32().V
	s.Dynamic = f.bool(false)
	s.DynamicNode = f.mapping()
	s.DistributionMode = f.symbol()
	s.Filter = f.mapping()
	s.DefaultOutcome = f.state()
	s.Outcomes, s.Capabilities = f.symbols(), f.symbols()
	f.done()
}

func (s *Source) append(dst []byte) []byte {
	l := beginList(dst, descSource)
	l.string(s.Address)
	l.uint32Or(s.Durable, DurabilityNone)
	if s.Expiry == ExpireSessionEnd {
		l.null()
	} else {
		l.symbol(s.Expiry)
	}
	l.uint32Or(s.Timeout, 0)
	l.bool(s.Dynamic, false)
	l.mapping(s.DynamicNode)
	l.symbol(s.DistributionMode)
	l.mapping(s.Filter)
	l.state(s.DefaultOutcome)
	l.symbols(s.Outcomes)
	l.symbols(s.Capabilities)
	return l.end()
}

// Target is §3.5.4.
type Target struct {
	Address      String
	Durable      uint32
	Expiry       Symbol // default session-end
	Timeout      uint32 // s
	Dynamic      bool
	DynamicNode  Map
	Capabilities []Symbol
}

func (t *Target) decode(r *reader) {
	f := r.fields()
	t.Address = f.address()
	t.Durable = f.uint32().V
	if t.Expiry = f.symbol(); t.Expiry == "" {
		t.Expiry = ExpireSessionEnd
	}
	t.Timeout = f.uint32().V
	t.Dynamic = f.bool(false)
	t.DynamicNode = f.mapping()
	t.Capabilities = f.symbols()
	f.done()
}

func (t *Target) append(dst []byte) []byte {
	l := beginList(dst, descTarget)
	l.string(t.Address)
	l.uint32Or(t.Durable, DurabilityNone)
	if t.Expiry == ExpireSessionEnd {
		l.null()
	} else {
		l.symbol(t.Expiry)
	}
	l.uint32Or(t.Timeout, 0)
	l.bool(t.Dynamic, false)
	l.mapping(t.DynamicNode)
	l.symbols(t.Capabilities)
	return l.end()
}

// Coordinator is §4.5.1.
type Coordinator struct{ Capabilities []Symbol }

func (c *Coordinator) decode(r *reader) {
	f := r.fields()
	c.Capabilities = f.symbols()
	f.done()
}

func (c *Coordinator) append(dst []byte) []byte {
	l := beginList(dst, descCoordinator)
	l.symbols(c.Capabilities)
	return l.end()
}
