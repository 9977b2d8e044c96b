package codec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The encodings are those of AMQP 1.0 part 1, §1.6.
func TestEncodings(t *testing.T) {
	for _, c := range []struct {
		bytes string
		value any
	}{
		{"40", nil},
		{"41", true},
		{"42", false},
		{"56 01", true},
		{"56 00", false},
		{"50 ff", uint8(255)},
		{"60 1234", uint16(0x1234)},
		{"70 00000100", uint32(256)},
		{"52 7f", uint32(127)},
		{"43", uint32(0)},
		{"80 0000000100000000", uint64(1 << 32)},
		{"53 10", uint64(16)},
		{"44", uint64(0)},
		{"51 80", int8(-128)},
		{"61 8000", int16(math.MinInt16)},
		{"71 80000000", int32(math.MinInt32)},
		{"54 ff", int32(-1)},
		{"81 8000000000000000", int64(math.MinInt64)},
		{"55 fe", int64(-2)},
		{"72 3f800000", float32(1)},
		{"82 3ff0000000000000", float64(1)},
		{"74 01020304", Decimal32{1, 2, 3, 4}},
		{"84 0102030405060708", Decimal64{1, 2, 3, 4, 5, 6, 7, 8}},
		{"94 0102030405060708090a0b0c0d0e0f10", Decimal128{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
		{"73 0001f600", Char(0x1f600)},
		{"83 0000011f71fb04cb", Timestamp(1234567890123)},
		{"98 f81d4fae7dec11d0a76500a0c91e6bf6", UUID{0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6}},
		{"a0 02 0102", []byte{1, 2}},
		{"b0 00000002 0102", []byte{1, 2}},
		{"a1 05 68656c6c6f", "hello"},
		{"b1 00000005 68656c6c6f", "hello"},
		{"a3 03 666f6f", Symbol("foo")},
		{"b3 00000003 666f6f", Symbol("foo")},
		{"45", List{}},
		{"c0 04 02 41 5007", List{true, uint8(7)}},
		{"d0 00000007 00000002 41 5007", List{true, uint8(7)}},
		{"c1 05 02 a101 61 41", Map{{"a", true}}},
		{"d1 00000008 00000002 a30161 40", Map{{Symbol("a"), nil}}},
		{"e0 04 02 50 0102", Array{Code: 0x50, Values: []any{uint8(1), uint8(2)}}},
		{"f0 0000000a 00000002 a3 0161 026263", Array{Code: 0xa3, Values: []any{Symbol("a"), Symbol("bc")}}},
		{"00 a303 666f6f 41", &Described{Symbol("foo"), true}},
	} {
		r := newReader(unhex(t, c.bytes))
		got := r.value()
		if r.err != nil || len(r.buf) != 0 || !reflect.DeepEqual(got, c.value) {
			t.Errorf("%s: read %#v, %d bytes left, %v; want %#v", c.bytes, got, len(r.buf), r.err, c.value)
		}
		again := newReader(AppendValue(nil, c.value))
		back := again.value()
		if a, ok := back.(Array); ok { // whose narrow constructors become wide
			a.Code = c.value.(Array).Code
			back = a
		}
		if again.err != nil || len(again.buf) != 0 || !reflect.DeepEqual(back, c.value) {
			t.Errorf("%#v became %#v, %v", c.value, back, again.err)
		}
	}
}

func TestRefused(t *testing.T) {
	deep := strings.Repeat("c0 ff 01 ", 1) // is cut off
	for name, c := range map[string]struct {
		bytes string
		err   error
	}{
		"no constructor":                {"", ErrDecode},
		"unknown constructor":           {"9f", ErrDecode},
		"short":                         {"70 0000", ErrDecode},
		"a boolean of 2":                {"56 02", ErrDecode},
		"a size past the end":           {"b0 7fffffff 00", ErrDecode},
		"a list past the end":           {deep, ErrDecode},
		"a list with something behind":  {"c0 03 01 41 41", ErrDecode},
		"a list without its elements":   {"c0 02 02 41", ErrDecode},
		"a list shorter than its count": {"d0 00000002 0000", ErrDecode},
		"a map of three":                {"c1 04 03 41 41 41", ErrDecode},
		"an array of 4 billion nulls":   {"f0 00000005 ffffffff 40", ErrTooMany},
		"an array of 4 billion lists":   {"f0 00000005 ffffffff 45", ErrTooMany},
		"a list of 4 billion":           {"d0 00000005 ffffffff 40", ErrTooMany},
		"a twice described array":       {"f0 00000009 00000001 00 4000 40 40", ErrDecode},
	} {
		r := newReader(unhex(t, c.bytes))
		if r.value(); !errors.Is(r.err, c.err) {
			t.Errorf("%s: %v; want %v", name, r.err, c.err)
		}
	}
	var b []byte
	for range 1000 {
		b = append(b, codeDescribed)
	}
	r := newReader(b)
	if r.value(); !errors.Is(r.err, ErrTooMany) {
		t.Errorf("a thousand descriptors in one another: %v", r.err)
	}
	r = newReader(b)
	if r.skip(); !errors.Is(r.err, ErrTooMany) {
		t.Errorf("passed over: %v", r.err)
	}
}

// What is said to be large costs nothing until it is there.
func TestClaimsCostNothing(t *testing.T) {
	b := unhex(t, "f0 00000005 0000ffff 40")
	cost := testing.Benchmark(func(b2 *testing.B) {
		b2.ReportAllocs()
		for range b2.N {
			r := newReader(b)
			r.value()
		}
	}).AllocedBytesPerOp()
	if cost > MaxElements*16+4096 {
		t.Errorf("%d bytes", cost)
	}
}

func genValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kinds := 18
		if depth > 0 {
			kinds = 21
		}
		switch rapid.IntRange(0, kinds).Draw(t, "kind") {
		case 0:
			return rapid.Bool().Draw(t, "v")
		case 1:
			return rapid.Uint8().Draw(t, "v")
		case 2:
			return rapid.Uint16().Draw(t, "v")
		case 3:
			return rapid.Uint32().Draw(t, "v")
		case 4:
			return rapid.Uint64().Draw(t, "v")
		case 5:
			return rapid.Int8().Draw(t, "v")
		case 6:
			return rapid.Int16().Draw(t, "v")
		case 7:
			return rapid.Int32().Draw(t, "v")
		case 8:
			return rapid.Int64().Draw(t, "v")
		case 9:
			return rapid.Float32().Draw(t, "v")
		case 10:
			return rapid.Float64().Draw(t, "v")
		case 11:
			return Char(rapid.Rune().Draw(t, "v"))
		case 12:
			return Timestamp(rapid.Int64().Draw(t, "v"))
		case 13:
			return UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v"))
		case 14:
			return append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "v")...)
		case 15:
			return rapid.StringN(0, 300, 400).Draw(t, "v")
		case 16:
			return Symbol(rapid.StringMatching("[a-z:]{0,300}").Draw(t, "v"))
		case 17:
			return Decimal64(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "v"))
		case 19:
			return append(List{}, rapid.SliceOfN(genValue(depth-1), 0, 5).Draw(t, "v")...)
		case 20:
			m := Map{}
			for _, key := range rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "keys") {
				m = append(m, Entry{key, genValue(depth-1).Draw(t, "v")})
			}
			return m
		case 21:
			return &Described{Symbol(rapid.StringMatching("[a-z]{1,5}").Draw(t, "d")), genValue(depth-1).Draw(t, "v")}
		}
		return nil
	})
}

func TestValuesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genValue(3).Draw(t, "value")
		b := AppendValue([]byte("x"), v)[1:]
		r := newReader(b)
		got := r.value()
		if r.err != nil || len(r.buf) != 0 || !reflect.DeepEqual(got, v) {
			t.Fatalf("%#v became %#v, %v", v, got, r.err)
		}
		r = newReader(append(b, 0x40))
		if r.skip(); r.err != nil || len(r.buf) != 1 {
			t.Fatalf("passing over %#v: %d bytes left, %v", v, len(r.buf), r.err)
		}
	})
}

var performatives = []Performative{
	&Open{ContainerID: "c", MaxFrameSize: math.MaxUint32, ChannelMax: math.MaxUint16},
	&Open{
		ContainerID: "", Hostname: "h", MaxFrameSize: 512, ChannelMax: 0, IdleTimeOut: 1000,
		Offered: []Symbol{"a"}, Desired: []Symbol{"b", "c"}, Properties: Map{{Symbol("product"), "p"}},
	},
	&Begin{NextOutgoingID: 0, IncomingWindow: 1, OutgoingWindow: math.MaxUint32, HandleMax: math.MaxUint32},
	&Begin{RemoteChannel: 7, HasRemote: true, NextOutgoingID: 300, HandleMax: 255, Properties: Map{}},
	&Attach{Name: "n", Handle: 3, Role: true, SenderSettleMode: SenderMixed},
	&Attach{
		Name: strings.Repeat("n", 300), SenderSettleMode: SenderSettled, ReceiverSettleMode: ReceiverSecond,
		Source: &Source{
			Address: SomeString("q"), Durable: DurabilityUnsettled, Expiry: ExpireNever, Timeout: 4, Dynamic: true,
			DynamicNode:      Map{{Symbol("lifetime-policy"), &Described{LifetimeDeleteOnClose, List{}}}},
			DistributionMode: DistributionCopy, Filter: Map{{Symbol("jms-selector"), &Described{uint64(0x468C00000004), "a = 1"}}},
			DefaultOutcome: State{Kind: Modified, Failed: true}, Outcomes: []Symbol{"amqp:accepted:list"}, Capabilities: []Symbol{"topic"},
		},
		Target: &Target{
			Address: SomeString(""), Durable: 1, Expiry: ExpireLinkDetach, Timeout: 1, Dynamic: true,
			DynamicNode: Map{}, Capabilities: []Symbol{"x"},
		},
		InitialDeliveryCount: Some(0), MaxMessageSize: 1 << 40, Offered: []Symbol{"o"}, Desired: []Symbol{"d"}, Properties: Map{{"a", int32(1)}},
	},
	&Attach{Name: "tx", SenderSettleMode: SenderMixed, Source: &Source{Expiry: ExpireSessionEnd}, Coordinator: &Coordinator{Capabilities: []Symbol{"amqp:local-transactions"}}},
	&Flow{NextIncomingID: Some(1), IncomingWindow: 2, NextOutgoingID: 3, OutgoingWindow: 4, Handle: Some(0), DeliveryCount: Some(5), LinkCredit: Some(6), Available: Some(7), Drain: true, Echo: true},
	&Flow{},
	&Transfer{Handle: 1},
	&Transfer{
		Handle: 1, DeliveryID: Some(0), DeliveryTag: []byte{1}, MessageFormat: Some(0), Settled: true, More: true,
		State: State{Transactional: true, TxnID: []byte{9}}, Resume: true, Aborted: true, Batchable: true,
	},
	&Disposition{Role: true, First: 4, Last: 9, Settled: true, State: State{Kind: Accepted}},
	&Disposition{First: 4, Last: 4, State: State{Kind: Rejected, Error: &Error{Condition: NotAllowed, Description: "d", Info: Map{{Symbol("k"), "v"}}}}},
	&Disposition{State: State{Kind: Rejected}},
	&Disposition{State: State{Kind: Released}},
	&Disposition{State: State{Kind: Received}},
	&Disposition{State: State{Kind: Modified, Failed: true, Undeliverable: true}},
	&Disposition{State: State{Kind: Declared, TxnID: []byte{1, 2}}},
	&Disposition{State: State{Transactional: true, TxnID: []byte{}, Kind: Accepted}},
	&Disposition{State: State{Transactional: true, TxnID: []byte{1}, Kind: Modified, Failed: true}},
	&Detach{Handle: 1, Closed: true, Error: &Error{Condition: NotFound}},
	&Detach{Handle: 0},
	&End{}, &End{Error: &Error{Condition: WindowViolation, Description: "w"}},
	&Close{}, &Close{Error: &Error{Condition: InvalidField, Info: Map{{Symbol("invalid-field"), Symbol("container-id")}}}},
}

func TestPerformatives(t *testing.T) {
	var d Decoder
	for _, p := range performatives {
		b := p.Append(nil)
		got, rest, err := d.Decode(append(b, 1, 2, 3))
		if err != nil || !bytes.Equal(rest, []byte{1, 2, 3}) || !reflect.DeepEqual(got, p) {
			t.Errorf("%#v became %#v, %v (%x)", p, got, err, b)
		}
		for n := range b {
			if got, _, err := d.Decode(b[:n]); err == nil {
				t.Errorf("%d of %d bytes of %T: %#v", n, len(b), p, got)
			}
		}
	}
	for _, p := range []Performative{
		&Mechanisms{Names: []Symbol{"PLAIN", "ANONYMOUS"}}, &Init{Mechanism: "PLAIN", Response: []byte("\x00u\x00p"), Hostname: "h"},
		&Challenge{Bytes: []byte{1}}, &Response{Bytes: []byte{}}, &Outcome{}, &Outcome{Code: SASLAuth, Data: []byte{2}},
	} {
		got, err := DecodeSASL(p.Append(nil))
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%#v became %#v, %v", p, got, err)
		}
	}
}

// As Qpid Proton-J writes an Open, a symbolic descriptor in place of a numeric one,
// and trailing nulls.
func TestOthersForms(t *testing.T) {
	var d Decoder
	for name, s := range map[string]string{
		"proton-j":         "0053 10 c0 10 05 a1 01 63 a1 01 68 70 00100000 60 7fff 40",
		"symbolic":         "00 a30e 616d71703a6f70656e3a6c697374 c0 0f 04 a1 01 63 a1 01 68 70 00100000 607fff",
		"eight bytes":      "0080 0000000000000010 d0 00000012 00000004 a1 01 63 a1 01 68 70 00100000 607fff",
		"more than fields": "0053 10 c0 19 0e a1 01 63 a1 01 68 70 00100000 607fff 40 40 40 40 40 40 40 40 40 40",
	} {
		p, _, err := d.Decode(unhex(t, s))
		open, ok := p.(*Open)
		if err != nil || !ok || open.ContainerID != "c" || open.Hostname != "h" || open.MaxFrameSize != 1<<20 || open.ChannelMax != 32767 {
			t.Errorf("%s: %#v, %v", name, p, err)
		}
	}
	for name, s := range map[string]string{
		"no container id":   "0053 10 45",
		"a number for it":   "0053 10 c0 02 01 43",
		"not described":     "c0 02 01 43",
		"unknown":           "0053 99 45",
		"not a list":        "0053 10 a1 00",
		"an Accepted":       "0053 24 45",
		"a strange source":  "0053 12 c0 0c 06 a1 00 43 42 40 40 00 53 29 45",
		"a state in itself": "0053 15 c0 1b 05 42 43 40 41 00 53 34 c0 10 02 a0 00 00 53 34 c0 08 02 a0 00 00 53 24 45 40",
	} {
		if p, _, err := d.Decode(unhex(t, s)); !errors.Is(err, ErrDecode) {
			t.Errorf("%s: %#v, %v", name, p, err)
		}
	}
}

func TestSections(t *testing.T) {
	h := MessageHeader{Durable: true, Priority: 9, TTL: Some(1000), FirstAcquirer: true, DeliveryCount: 2}
	p := MessageProperties{
		MessageID: UUID{1}, UserID: []byte("u"), To: SomeString("q"), Subject: SomeString(""), ReplyTo: SomeString("r"),
		CorrelationID: uint64(5), ContentType: "text/plain", ContentEncoding: "gzip", AbsoluteExpiry: 5, HasExpiry: true,
		CreationTime: 6, HasCreation: true, GroupID: SomeString("g"), GroupSequence: Some(0), ReplyToGroupID: SomeString("x"),
	}
	ma := Map{{Symbol("x-opt-jms-msg-type"), int8(5)}}
	ap := Map{{"a", int32(5)}, {"b", nil}}
	m := h.Append(nil)
	m = AppendAnnotations(m, ma)
	m = p.Append(m)
	m = AppendApplicationProperties(m, ap)
	head := len(m)
	m = AppendData(m, []byte("one"))
	m = AppendData(m, bytes.Repeat([]byte("t"), 300))
	s, err := Split(m)
	if err != nil || s.BodyCode != BodyData || s.BodyCount != 2 || !bytes.Equal(s.Body, m[head:]) || s.Footer != nil || s.DeliveryAnnotations != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	if got, err := DecodeHeader(s.Header); err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := DecodeProperties(s.Properties); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := DecodeMap(s.MessageAnnotations); err != nil || !reflect.DeepEqual(got, ma) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := DecodeMap(s.ApplicationProperties); err != nil || !reflect.DeepEqual(got, ap) {
		t.Errorf("%+v, %v", got, err)
	}
	var all []byte
	err = EachSection(s.Body, func(section []byte) error {
		b, err := DecodeData(section)
		all = append(all, b...)
		return err
	})
	if err != nil || string(all) != "one"+strings.Repeat("t", 300) {
		t.Errorf("%q, %v", all, err)
	}
	for name, b := range map[string][]byte{
		"properties twice":   p.Append(p.Append(nil)),
		"header at the end":  h.Append(AppendData(nil, nil)),
		"a value and data":   AppendData(AppendBodyValue(nil, "v"), nil),
		"two values":         AppendBodyValue(AppendBodyValue(nil, "v"), "w"),
		"no section":         {0x40},
		"an unknown section": AppendValue(AppendDescriptor(nil, 0x79), Map{}),
		"half a section":     AppendData(nil, []byte("xx"))[:4],
	} {
		if s, err := Split(b); !errors.Is(err, ErrDecode) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if text, ok := TextBody(AppendText(nil, []byte("hey"))); !ok || string(text) != "hey" {
		t.Errorf("%q, %v", text, ok)
	}
	if _, ok := TextBody(AppendBodyValue(nil, int32(1))); ok {
		t.Error("a number is a text")
	}
	if !IsBodyNull(AppendBodyValue(nil, nil)) || IsBodyNull(AppendBodyValue(nil, "")) {
		t.Error("IsBodyNull")
	}
}

func TestControl(t *testing.T) {
	declare := AppendBodyValue(nil, &Described{uint64(descDeclare), List{}})
	if v, err := DecodeControl(declare); err != nil || !reflect.DeepEqual(v, &Declare{}) {
		t.Errorf("%#v, %v", v, err)
	}
	discharge := AppendBodyValue(nil, &Described{uint64(descDischarge), List{[]byte{7}, true}})
	if v, err := DecodeControl(discharge); err != nil || !reflect.DeepEqual(v, &Discharge{TxnID: []byte{7}, Fail: true}) {
		t.Errorf("%#v, %v", v, err)
	}
	for _, b := range [][]byte{nil, AppendData(nil, []byte{1}), AppendBodyValue(nil, nil), AppendBodyValue(nil, &Described{uint64(descDischarge), List{}})} {
		if v, err := DecodeControl(b); !errors.Is(err, ErrDecode) {
			t.Errorf("%x: %#v, %v", b, v, err)
		}
	}
}

// dribble gives a byte at a time.
type dribble struct{ b []byte }

func (d *dribble) Read(p []byte) (int, error) {
	if len(d.b) == 0 {
		return 0, errors.New("end")
	}
	p[0] = d.b[0]
	d.b = d.b[1:]
	return 1, nil
}

func TestFrames(t *testing.T) {
	b := append([]byte{}, HeaderAMQP[:]...)
	b = AppendFrame(b, FrameAMQP, 0x0102, &End{})
	b, at := BeginFrame(b, FrameAMQP, 0)
	b = EndFrame(b, at) // an empty one
	large := &Transfer{DeliveryTag: bytes.Repeat([]byte{1}, 100_000)}
	b = AppendFrame(b, FrameSASL, 1, large)
	f := NewFrames(&dribble{b}, 200_000)
	if h, err := f.Header(); err != nil || h != HeaderAMQP {
		t.Fatal(h, err)
	}
	typ, channel, body, err := f.Next()
	if err != nil || typ != FrameAMQP || channel != 0x0102 || !bytes.Equal(body, (&End{}).Append(nil)) {
		t.Fatal(typ, channel, body, err)
	}
	if _, _, body, err := f.Next(); err != nil || len(body) != 0 {
		t.Fatal(body, err)
	}
	if typ, _, body, err := f.Next(); err != nil || typ != FrameSASL || !bytes.Equal(body, large.Append(nil)) {
		t.Fatal(typ, len(body), err)
	}
	if _, _, _, err := f.Next(); err == nil {
		t.Error("a frame behind the end")
	}
	for name, s := range map[string]string{
		"too large": "00100000 02 00 0000",
		"too small": "00000007 02 00 0000",
		"doff 1":    "00000008 01 00 0000",
		"doff past": "00000008 03 00 0000",
	} {
		f := NewFrames(bytes.NewReader(unhex(t, s)), 512)
		var frame *FrameError
		if _, _, _, err := f.Next(); !errors.As(err, &frame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rhea, the client for JavaScript, writes a footer before the body.
func TestFooterBeforeTheBody(t *testing.T) {
	footer := AppendValue(AppendDescriptor(nil, descFooter), Map{{Symbol("sum"), "x"}})
	s, err := Split(append(append([]byte{}, footer...), AppendData(AppendData(nil, []byte("a")), []byte("b"))...))
	if err != nil || !bytes.Equal(s.Footer, footer) || s.BodyCount != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, b := range [][]byte{append(append([]byte{}, footer...), footer...), append(AppendData(append(AppendData(nil, nil), footer...), nil), 0)} {
		if s, err := Split(b); err == nil {
			t.Errorf("%x: %+v", b, s)
		}
	}
}
