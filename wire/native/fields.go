package native

// How each frame's fields lie in its body: one after the other, in the order
// of the struct, as docs/format/native.md draws them.

// Type implements Frame.
func (*Hello) Type() Type { return TypeHello }

func (f *Hello) encode(e *encoder) {
	e.uint(f.Version)
	e.text(f.ClientID)
	e.text(f.User)
	e.text(f.Password)
	e.text(f.Agent)
	e.uint(f.HeartbeatMS)
}

func (f *Hello) decode(d *decoder) {
	f.Version = d.uint()
	f.ClientID = d.text()
	f.User = d.text()
	f.Password = d.text()
	f.Agent = d.text()
	f.HeartbeatMS = d.uint()
}

// Type implements Frame.
func (*OpenSession) Type() Type { return TypeOpenSession }

func (f *OpenSession) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(f.Session)
	e.uint(uint64(f.Mode))
}

func (f *OpenSession) decode(d *decoder) {
	f.Request = d.uint()
	f.Session = d.uint()
	f.Mode = AckMode(d.small())
}

// Type implements Frame.
func (*CloseSession) Type() Type { return TypeCloseSession }

func (f *CloseSession) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(f.Session)
}

func (f *CloseSession) decode(d *decoder) {
	f.Request = d.uint()
	f.Session = d.uint()
}

// Type implements Frame.
func (*EndWork) Type() Type { return TypeEndWork }

func (f *EndWork) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(f.Session)
	e.bool(f.Commit)
}

func (f *EndWork) decode(d *decoder) {
	f.Request = d.uint()
	f.Session = d.uint()
	f.Commit = d.bool()
}

// Type implements Frame.
func (*Flow) Type() Type { return TypeFlow }

func (f *Flow) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(f.Session)
	e.bool(f.Start)
}

func (f *Flow) decode(d *decoder) {
	f.Request = d.uint()
	f.Session = d.uint()
	f.Start = d.bool()
}

// Type implements Frame.
func (*Resolve) Type() Type { return TypeResolve }

func (f *Resolve) encode(e *encoder) {
	e.uint(f.Request)
	e.text(f.Name)
	e.uint(uint64(f.Kind))
}

func (f *Resolve) decode(d *decoder) {
	f.Request = d.uint()
	f.Name = d.text()
	f.Kind = DestinationKind(d.small())
}

// Type implements Frame.
func (*Send) Type() Type { return TypeSend }

func (f *Send) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(f.Session)
	e.uint(f.Handle)
	e.uint(f.Partition)
	e.bool(f.Unsynced)
}

func (f *Send) decode(d *decoder) {
	f.Request = d.uint()
	f.Session = d.uint()
	f.Handle = d.uint()
	f.Partition = d.uint()
	f.Unsynced = d.bool()
}

// Type implements Frame.
func (*Subscribe) Type() Type { return TypeSubscribe }

func (f *Subscribe) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(f.Session)
	e.uint(f.Consumer)
	e.text(f.Destination)
	e.uint(uint64(f.DestinationKind))
	e.uint(uint64(f.Kind))
	e.text(f.Name)
	e.text(f.Selector)
	e.bool(f.NoLocal)
	e.bool(f.Exclusive)
	e.uint(uint64(f.Start))
	e.int(f.StartAt)
	e.text(f.Settings)
	e.uint(f.Credit)
}

func (f *Subscribe) decode(d *decoder) {
	f.Request = d.uint()
	f.Session = d.uint()
	f.Consumer = d.uint()
	f.Destination = d.text()
	f.DestinationKind = DestinationKind(d.small())
	f.Kind = SubscriptionKind(d.small())
	f.Name = d.text()
	f.Selector = d.text()
	f.NoLocal = d.bool()
	f.Exclusive = d.bool()
	f.Start = StartKind(d.small())
	f.StartAt = d.int()
	f.Settings = d.text()
	f.Credit = d.uint()
}

// Type implements Frame.
func (*Credit) Type() Type { return TypeCredit }

func (f *Credit) encode(e *encoder) {
	e.uint(f.Consumer)
	e.uint(f.Messages)
	e.bool(f.Drain)
}

func (f *Credit) decode(d *decoder) {
	f.Consumer = d.uint()
	f.Messages = d.uint()
	f.Drain = d.bool()
}

// Type implements Frame.
func (*Settle) Type() Type { return TypeSettle }

func (f *Settle) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(f.Consumer)
	e.uint(uint64(f.Kind))
	e.int(f.DelayMS)
	e.bool(f.Uncounted)
	e.bool(f.Awaited)
	e.text(f.Reason)
	e.spans(f.Spans)
}

func (f *Settle) decode(d *decoder) {
	f.Request = d.uint()
	f.Consumer = d.uint()
	f.Kind = OutcomeKind(d.small())
	f.DelayMS = d.int()
	f.Uncounted = d.bool()
	f.Awaited = d.bool()
	f.Reason = d.text()
	f.Spans = d.spans(f.Spans)
}

// Type implements Frame.
func (*CloseConsumer) Type() Type { return TypeCloseConsumer }

func (f *CloseConsumer) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(f.Consumer)
}

func (f *CloseConsumer) decode(d *decoder) {
	f.Request = d.uint()
	f.Consumer = d.uint()
}

// Type implements Frame.
func (*Unsubscribe) Type() Type { return TypeUnsubscribe }

func (f *Unsubscribe) encode(e *encoder) {
	e.uint(f.Request)
	e.text(f.Name)
	e.bool(f.Shared)
}

func (f *Unsubscribe) decode(d *decoder) {
	f.Request = d.uint()
	f.Name = d.text()
	f.Shared = d.bool()
}

// Type implements Frame.
func (*Fetch) Type() Type { return TypeFetch }

func (f *Fetch) encode(e *encoder) {
	e.uint(f.Request)
	e.text(f.Destination)
	e.uint(f.Max)
	e.uint(f.WaitMS)
	e.array(2 * len(f.Positions))
	for i := range f.Positions {
		e.uint(f.Positions[i].Partition)
		e.int(f.Positions[i].Offset)
	}
}

func (f *Fetch) decode(d *decoder) {
	f.Request = d.uint()
	f.Destination = d.text()
	f.Max = d.uint()
	f.WaitMS = d.uint()
	n := d.array(2 * MaxPositions)
	if n%2 != 0 {
		d.fail("positions are two numbers each, here are %d", n)
	}
	f.Positions = f.Positions[:0]
	for ; n > 0 && d.err == nil; n -= 2 {
		f.Positions = append(f.Positions, Position{Partition: d.uint(), Offset: d.int()})
	}
}

// Append appends the body to dst.
func (f *Fetched) Append(dst []byte) []byte {
	e := newEncoder()
	e.buf = dst
	e.array(3 * len(f.Parts))
	for i := range f.Parts {
		e.uint(f.Parts[i].Partition)
		e.int(f.Parts[i].Next)
		e.uint(f.Parts[i].Bytes)
	}
	return e.buf
}

// DecodeFetched reads the body of an OK.
func DecodeFetched(body []byte) (*Fetched, error) {
	d := newDecoder()
	d.reset(body)
	n := d.array(3 * MaxPositions)
	f := &Fetched{}
	for ; n > 0 && d.err == nil; n -= 3 {
		f.Parts = append(f.Parts, FetchedPart{Partition: d.uint(), Next: d.int(), Bytes: d.uint()})
	}
	return f, d.err
}

// Type implements Frame.
func (*Group) Type() Type { return TypeGroup }

func (f *Group) encode(e *encoder) {
	e.uint(f.Request)
	e.text(f.Verb)
	e.bytes(f.Body)
}

func (f *Group) decode(d *decoder) {
	f.Request = d.uint()
	f.Verb = d.text()
	f.Body = d.raw(d.src.Len())
}

// Type implements Frame.
func (*Branch) Type() Type { return TypeBranch }

func (f *Branch) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(f.Session)
	e.text(f.Verb)
	e.bytes(f.Body)
}

func (f *Branch) decode(d *decoder) {
	f.Request = d.uint()
	f.Session = d.uint()
	f.Verb = d.text()
	f.Body = d.raw(d.src.Len())
}

// Type implements Frame.
func (*Browse) Type() Type { return TypeBrowse }

func (f *Browse) encode(e *encoder) {
	e.uint(f.Request)
	e.text(f.Destination)
	e.text(f.Selector)
	e.bytes(f.After)
	e.uint(f.Max)
}

func (f *Browse) decode(d *decoder) {
	f.Request = d.uint()
	f.Destination = d.text()
	f.Selector = d.text()
	f.After = d.raw(d.src.Len())
	f.Max = d.uint()
}

// Type implements Frame.
func (*Temporary) Type() Type { return TypeTemporary }

func (f *Temporary) encode(e *encoder) {
	e.uint(f.Request)
	e.uint(uint64(f.Kind))
}

func (f *Temporary) decode(d *decoder) {
	f.Request = d.uint()
	f.Kind = DestinationKind(d.small())
}

// Type implements Frame.
func (*Admin) Type() Type { return TypeAdmin }

func (f *Admin) encode(e *encoder) {
	e.uint(f.Request)
	e.text(f.Verb)
	e.bytes(f.Body)
}

func (f *Admin) decode(d *decoder) {
	f.Request = d.uint()
	f.Verb = d.text()
	f.Body = d.raw(d.src.Len())
}

// Type implements Frame.
func (*Ping) Type() Type { return TypePing }

func (f *Ping) encode(e *encoder) {
	e.uint(f.Number)
}

func (f *Ping) decode(d *decoder) {
	f.Number = d.uint()
}

// Type implements Frame.
func (*Pong) Type() Type { return TypePong }

func (f *Pong) encode(e *encoder) {
	e.uint(f.Number)
}

func (f *Pong) decode(d *decoder) {
	f.Number = d.uint()
}

// Type implements Frame.
func (*Bye) Type() Type { return TypeBye }

func (*Bye) encode(*encoder) {}

func (*Bye) decode(*decoder) {}

// Type implements Frame.
func (*Welcome) Type() Type { return TypeWelcome }

func (f *Welcome) encode(e *encoder) {
	e.uint(f.Version)
	e.text(f.Broker)
	e.uint(f.Connection)
	e.int(f.Epoch)
	e.uint(f.MaxFrame)
	e.uint(f.HeartbeatMS)
}

func (f *Welcome) decode(d *decoder) {
	f.Version = d.uint()
	f.Broker = d.text()
	f.Connection = d.uint()
	f.Epoch = d.int()
	f.MaxFrame = d.uint()
	f.HeartbeatMS = d.uint()
}

// Type implements Frame.
func (*OK) Type() Type { return TypeOK }

func (f *OK) encode(e *encoder) {
	e.uint(f.Request)
	e.bytes(f.Body)
}

func (f *OK) decode(d *decoder) {
	f.Request = d.uint()
	f.Body = d.raw(d.src.Len())
}

// Type implements Frame.
func (*Fail) Type() Type { return TypeFail }

func (f *Fail) encode(e *encoder) {
	e.uint(f.Request)
	e.text(string(f.Error.Code))
	e.text(f.Error.Message)
}

func (f *Fail) decode(d *decoder) {
	f.Request = d.uint()
	f.Error = Error{Code: Code(d.text()), Message: d.text()}
}

// Type implements Frame.
func (*Confirm) Type() Type { return TypeConfirm }

func (f *Confirm) encode(e *encoder) {
	e.uint(f.Request)
	e.int(f.Base)
}

func (f *Confirm) decode(d *decoder) {
	f.Request = d.uint()
	f.Base = d.int()
}

// Type implements Frame.
func (*Deliver) Type() Type { return TypeDeliver }

func (f *Deliver) encode(e *encoder) {
	e.uint(f.Consumer)
	e.uint(f.Partition)
	e.uint(f.FirstAcquisition)
	e.bytes(f.Counts)
}

func (f *Deliver) decode(d *decoder) {
	f.Consumer = d.uint()
	f.Partition = d.uint()
	f.FirstAcquisition = d.uint()
	f.Counts = d.raw(d.src.Len())
}

// Type implements Frame.
func (*Drained) Type() Type { return TypeDrained }

func (f *Drained) encode(e *encoder) {
	e.uint(f.Consumer)
}

func (f *Drained) decode(d *decoder) {
	f.Consumer = d.uint()
}

// Type implements Frame.
func (*Joined) Type() Type { return TypeJoined }

func (f *Joined) encode(e *encoder) {
	e.uint(f.Consumer)
	e.uint(f.Member)
	e.text(f.Destination)
}

func (f *Joined) decode(d *decoder) {
	f.Consumer = d.uint()
	f.Member = d.uint()
	f.Destination = d.text()
}

// Type implements Frame.
func (*Check) Type() Type { return TypeCheck }

func (f *Check) encode(e *encoder) {
	e.text(f.Group)
	e.text(f.ID)
	e.uint(f.Checks)
	e.bytes(f.Body)
}

func (f *Check) decode(d *decoder) {
	f.Group = d.text()
	f.ID = d.text()
	f.Checks = d.uint()
	f.Body = d.raw(d.src.Len())
}

// Type implements Frame.
func (*ConsumerClosed) Type() Type { return TypeConsumerClosed }

func (f *ConsumerClosed) encode(e *encoder) {
	e.uint(f.Consumer)
	e.text(string(f.Error.Code))
	e.text(f.Error.Message)
}

func (f *ConsumerClosed) decode(d *decoder) {
	f.Consumer = d.uint()
	f.Error = Error{Code: Code(d.text()), Message: d.text()}
}

// Type implements Frame.
func (*GoAway) Type() Type { return TypeGoAway }

func (f *GoAway) encode(e *encoder) {
	e.text(f.Message)
}

func (f *GoAway) decode(d *decoder) {
	f.Message = d.text()
}

// Append appends f as the body of an OK.
func (f *Resolved) Append(dst []byte) []byte {
	e := newEncoder()
	e.buf = dst
	e.uint(f.Handle)
	e.text(f.Name)
	e.uint(uint64(f.Kind))
	e.uint(f.Partitions)
	e.uint(f.MaxMessage)
	return e.buf
}

// DecodeResolved reads the body of an OK.
func DecodeResolved(body []byte) (*Resolved, error) {
	d := newDecoder()
	d.reset(body)
	f := &Resolved{}
	f.Handle = d.uint()
	f.Name = d.text()
	f.Kind = DestinationKind(d.small())
	f.Partitions = d.uint()
	f.MaxMessage = d.uint()
	return f, d.err
}

// Append appends f as the body of an OK.
func (f *Browsed) Append(dst []byte) []byte {
	e := newEncoder()
	e.buf = dst
	e.bytes(f.After)
	e.uint(f.Bodies)
	e.bytes(f.States)
	e.bytes(f.Parts)
	return e.buf
}

// DecodeBrowsed reads the body of an OK.
func DecodeBrowsed(body []byte) (*Browsed, error) {
	d := newDecoder()
	d.reset(body)
	f := &Browsed{}
	f.After = d.raw(d.src.Len())
	f.Bodies = d.uint()
	f.States = d.raw(d.src.Len())
	f.Parts = d.raw(d.src.Len())
	return f, d.err
}

func (e *encoder) spans(spans []Span) {
	e.array(4 * len(spans))
	for i := range spans {
		e.uint(spans[i].Partition)
		e.int(spans[i].Offset)
		e.uint(spans[i].Acquisition)
		e.uint(spans[i].Count)
	}
}

// spans reads into the capacity of old.
func (d *decoder) spans(old []Span) []Span {
	n := d.array(4 * MaxSpans)
	if n%4 != 0 {
		d.fail("spans are four numbers each, here are %d", n)
	}
	spans := old[:0]
	for ; n > 0 && d.err == nil; n -= 4 {
		spans = append(spans, Span{Partition: d.uint(), Offset: d.int(), Acquisition: d.uint(), Count: d.uint()})
	}
	return spans
}

// small reads an enumeration's value.
func (d *decoder) small() uint8 {
	v := d.uint()
	if v > 255 {
		d.fail("%d is no known value of an enumeration", v)
	}
	return uint8(v)
}
