package amqp

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

const testNow = 1_800_000_000_000

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// through sends a message to node and returns how it comes back, its record, and
// whether it had to keep its sections.
func through(t fataler, in *inbound, payload []byte, to node) (back []byte, m record.Message, kept bool) {
	t.Helper()
	if err := in.parse(payload, to.name, testNow); err != nil {
		t.Fatalf("%x: %v", payload, err)
	}
	var w record.Builder
	if err := in.message.AppendTo(&w, in.own...); err != nil {
		t.Fatal(err)
	}
	var r record.Reader
	if err := r.Reset(w.Batch(), 1<<20); err != nil || !r.Next() {
		t.Fatal(err)
	}
	if err := record.DecodeMessage(r.Record(), &m); err != nil {
		t.Fatal(err)
	}
	var o outbound
	return o.append(nil, to, 0, r.Record(), 1, testNow), m, len(in.own) > 0
}

// parts is what a message says, but for its header, by value.
type parts struct {
	delivery, annotations, application, footer map[any]any
	properties                                 codec.MessageProperties
	body                                       []any
	code                                       codec.BodyCode
}

func partsOf(t fataler, b []byte) (p parts) {
	t.Helper()
	s, err := codec.Split(b)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	unordered := func(section []byte) map[any]any {
		m, err := codec.DecodeMap(section)
		if err != nil {
			t.Fatal(err)
		}
		if section == nil {
			return nil
		}
		all := map[any]any{}
		for _, e := range m {
			all[e.Key] = e.Value
		}
		return all
	}
	p.delivery, p.annotations = unordered(s.DeliveryAnnotations), unordered(s.MessageAnnotations)
	p.application, p.footer = unordered(s.ApplicationProperties), unordered(s.Footer)
	if len(p.application) == 0 {
		p.application = nil
	}
	if p.properties, err = codec.DecodeProperties(s.Properties); err != nil {
		t.Fatal(err)
	}
	p.code = s.BodyCode
	err = codec.EachSection(s.Body, func(section []byte) error {
		v, err := codec.DecodeBodyValue(section)
		if m, ok := v.(codec.Map); ok {
			slices.SortFunc(m, func(a, b codec.Entry) int {
				return bytes.Compare(codec.AppendValue(nil, a.Key), codec.AppendValue(nil, b.Key))
			})
		}
		p.body = append(p.body, v)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	genText   = rapid.StringN(0, 20, 60)
	genSymbol = rapid.Map(rapid.StringMatching("[a-z-]{1,12}"), func(s string) codec.Symbol { return codec.Symbol(s) })
	genJMS    = rapid.OneOf(
		rapid.Just[any](nil), rapid.Map(rapid.Bool(), toAny[bool]), rapid.Map(rapid.Int8(), toAny[int8]),
		rapid.Map(rapid.Int16(), toAny[int16]), rapid.Map(rapid.Int32(), toAny[int32]), rapid.Map(rapid.Int64(), toAny[int64]),
		rapid.Map(rapid.Float32Range(-1e9, 1e9), toAny[float32]), rapid.Map(rapid.Float64Range(-1e9, 1e9), toAny[float64]), rapid.Map(genText, toAny[string]),
	)
	genOther = rapid.OneOf(
		genJMS, rapid.Map(rapid.Uint8(), toAny[uint8]), rapid.Map(rapid.Uint64(), toAny[uint64]), rapid.Map(genSymbol, toAny[codec.Symbol]),
		rapid.Map(rapid.Int64(), func(v int64) any { return codec.Timestamp(v) }), rapid.Map(rapid.Rune(), func(v rune) any { return codec.Char(v) }),
		rapid.Just[any](codec.UUID{1, 2, 3}), rapid.Just[any](codec.List{int32(1), codec.Map{{Key: "x", Value: codec.Symbol("y")}}}),
		rapid.Just[any](codec.Decimal32{1}), rapid.Just[any](&codec.Described{Descriptor: codec.Symbol("d"), Value: int32(7)}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 9), func(v []byte) any { return v }),
	)
	genID = rapid.OneOf(
		rapid.Just[any](nil), rapid.Map(genText, toAny[string]), rapid.Map(rapid.Uint64(), toAny[uint64]),
		rapid.Just[any](codec.UUID{0xf8, 1}), rapid.Just[any]([]byte{1, 0xff}),
		rapid.Map(rapid.SampledFrom([]string{"ID:1", "ID:AMQP_UUID:1", "ID:AMQP_ULONG:7", "ID:AMQP_BINARY:0G", "ID:AMQP_STRING:ID:x", "ID:AMQP_NO_PREFIX:x", "ID:AMQP_OTHER:"}), toAny[string]),
	)
)

func toAny[T any](v T) any { return v }

func drawMap(t *rapid.T, key *rapid.Generator[any], value *rapid.Generator[any], what string) codec.Map {
	m := codec.Map{}
	for _, k := range rapid.SliceOfNDistinct(key, 0, 4, func(k any) any { return k }).Draw(t, what) {
		m = append(m, codec.Entry{Key: k, Value: value.Draw(t, what)})
	}
	return m
}

func optional(t *rapid.T, what string) codec.String {
	if !rapid.Bool().Draw(t, what+"?") {
		return codec.String{}
	}
	return codec.SomeString(genText.Draw(t, what))
}

// Whatever a client sends comes back with every section as it was (but the header,
// which is the broker's).
func TestMessagesComeBack(t *testing.T) {
	var in inbound
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		h := codec.MessageHeader{Durable: rapid.Bool().Draw(t, "durable"), Priority: rapid.Uint8().Draw(t, "priority")}
		b = h.Append(b)
		described := func(code uint64, m codec.Map) {
			if rapid.Bool().Draw(t, "section") {
				b = codec.AppendValue(codec.AppendDescriptor(b, code), m)
			}
		}
		symbols, names := rapid.Map(genSymbol, toAny[codec.Symbol]), rapid.Map(genText, toAny[string])
		described(0x71, drawMap(t, symbols, genOther, "da"))
		described(0x72, drawMap(t, symbols, genOther, "ma"))
		p := codec.MessageProperties{
			MessageID: genID.Draw(t, "id"), To: optional(t, "to"), Subject: optional(t, "subject"), ReplyTo: optional(t, "reply"),
			CorrelationID: genID.Draw(t, "correlation"), ContentType: rapid.SampledFrom([]codec.Symbol{"", "text/plain", contentObject, contentOctets, "x/y"}).Draw(t, "content"),
			ContentEncoding: rapid.SampledFrom([]codec.Symbol{"", "gzip"}).Draw(t, "encoding"),
			HasExpiry:       rapid.Bool().Draw(t, "expiry"), HasCreation: rapid.Bool().Draw(t, "creation"),
			GroupID: optional(t, "group"), ReplyToGroupID: optional(t, "replyGroup"),
		}
		if p.HasExpiry {
			p.AbsoluteExpiry = codec.Timestamp(rapid.Int64Range(1, testNow*2).Draw(t, "at"))
		}
		if p.HasCreation {
			p.CreationTime = codec.Timestamp(rapid.Int64Range(0, testNow).Draw(t, "created"))
		}
		if rapid.Bool().Draw(t, "seq?") {
			p.GroupSequence = codec.Some(rapid.Uint32().Draw(t, "seq"))
		}
		b = p.Append(b)
		described(0x74, drawMap(t, names, genOther, "ap"))
		switch rapid.IntRange(0, 4).Draw(t, "body") {
		case 0:
		case 1:
			for range rapid.IntRange(1, 3).Draw(t, "n") {
				b = codec.AppendData(b, []byte(genText.Draw(t, "data")))
			}
		case 2:
			for range rapid.IntRange(1, 2).Draw(t, "n") {
				b = codec.AppendSequence(b, append(codec.List{}, rapid.SliceOfN(genOther, 0, 4).Draw(t, "list")...))
			}
		case 3:
			b = codec.AppendBodyValue(b, genOther.Draw(t, "value"))
		case 4:
			b = codec.AppendBodyValue(b, drawMap(t, names, genOther, "map"))
		}
		described(0x78, drawMap(t, symbols, genOther, "footer"))

		back, _, _ := through(t, &in, b, node{name: "q"})
		if got, want := partsOf(t, back), partsOf(t, b); !reflect.DeepEqual(got, want) {
			t.Fatalf("came back as\n%+v, not\n%+v", got, want)
		}
	})
}

// jms is a message as a JMS client writes it.
func jms(kind int8, content codec.Symbol, body func([]byte) []byte, more ...codec.Entry) []byte {
	h := codec.MessageHeader{Durable: true, Priority: 7, TTL: codec.Some(60_000)}
	b := h.Append(nil)
	b = codec.AppendAnnotations(b, append(codec.Map{
		{Key: codec.Symbol(annotationType), Value: kind}, {Key: codec.Symbol(annotationDestination), Value: int8(0)},
	}, more...))
	p := codec.MessageProperties{
		MessageID: "ID:a:1:1:1-1", To: codec.SomeString("q"), CorrelationID: "c", ContentType: content,
		AbsoluteExpiry: testNow + 60_000, HasExpiry: true, CreationTime: testNow - 5, HasCreation: true,
		Subject: codec.SomeString("type"), ReplyTo: codec.SomeString("r"), GroupID: codec.SomeString("g"), GroupSequence: codec.Some(3),
	}
	b = p.Append(b)
	b = codec.AppendApplicationProperties(b, codec.Map{{Key: "i", Value: int32(5)}, {Key: "s", Value: "x"}, {Key: "n", Value: nil}})
	return body(b)
}

// What a JMS client sends is kept as any message of JMS is, and needs no header of
// its own.
func TestJMSMessagesAreOurs(t *testing.T) {
	reply := codec.Entry{Key: codec.Symbol(annotationReplyTo), Value: int8(2)}
	later := codec.Entry{Key: codec.Symbol(annotationDeliveryTime), Value: int64(testNow + 1000)}
	value := func(v any) func([]byte) []byte {
		return func(b []byte) []byte { return codec.AppendBodyValue(b, v) }
	}
	for name, c := range map[string]struct {
		payload []byte
		kind    record.BodyKind
		body    string // hex, where it is not a text
	}{
		"text":    {jms(typeText, "", value("hello")), record.BodyText, "68656c6c6f"},
		"message": {jms(typeMessage, "", value(nil)), record.BodyNone, ""},
		"bytes": {
			jms(typeBytes, contentOctets, func(b []byte) []byte { return codec.AppendData(b, []byte{1, 2}) }, reply, later),
			record.BodyBytes, "0102",
		},
		"object": {
			jms(typeObject, contentObject, func(b []byte) []byte { return codec.AppendData(b, []byte{0xac, 0xed}) }),
			record.BodyObject, "aced",
		},
		"map":    {jms(typeMap, "", value(codec.Map{{Key: "a", Value: int16(1)}, {Key: "b", Value: []byte{9}}})), record.BodyMap, "82a161d10001a162c40109"},
		"stream": {jms(typeStream, "", func(b []byte) []byte { return codec.AppendSequence(b, codec.List{"x", true}) }), record.BodyStream, "92a178c3"},
	} {
		var in inbound
		back, m, kept := through(t, &in, c.payload, node{name: "q"})
		if kept {
			t.Errorf("%s: kept its sections", name)
		}
		if got, want := partsOf(t, back), partsOf(t, c.payload); !reflect.DeepEqual(got, want) {
			t.Errorf("%s came back as\n%+v, not\n%+v", name, got, want)
		}
		if m.Kind != c.kind || hex.EncodeToString(m.Body) != c.body {
			t.Errorf("%s: kind %d, %x", name, m.Kind, m.Body)
		}
		if m.ID != "ID:a:1:1:1-1" || m.CorrelationID != "c" || m.Type != "type" || m.ReplyTo != "r" || m.Priority != 7 || m.NonPersistent ||
			m.Expiration != testNow+60_000 || m.Timestamp != testNow-5 || string(m.Key) != "g" || !m.Grouped || m.GroupSeq != 3 ||
			m.Properties["i"] != int32(5) || m.Properties["s"] != "x" || len(m.Properties) != 3 {
			t.Errorf("%s: %+v", name, m)
		}
		if name == "bytes" && (m.ReplyToKind != record.DestinationTemporaryQueue || m.DeliveryTime != testNow+1000) {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// What other doors and selectors see of a message of a client without JMS.
func TestOthersMessages(t *testing.T) {
	var in inbound
	p := codec.MessageProperties{MessageID: codec.UUID{0xab}, CorrelationID: uint64(7)}
	b := p.Append(nil)
	b = codec.AppendApplicationProperties(b, codec.Map{{Key: "u", Value: uint16(9)}, {Key: "JMSPriority", Value: int32(1)}})
	b = codec.AppendBodyValue(b, uint32(12))
	_, m, kept := through(t, &in, b, node{name: "q"})
	if !kept || m.ID != "ID:AMQP_UUID:ab000000-0000-0000-0000-000000000000" || m.CorrelationID != "ID:AMQP_ULONG:7" ||
		m.Kind != record.BodyText || string(m.Body) != "12" || m.Properties["u"] != int32(9) || len(m.Properties) != 1 || !m.NonPersistent || m.Priority != 4 {
		t.Errorf("%+v", m)
	}
	_, m, _ = through(t, &in, codec.AppendData(codec.AppendData(nil, []byte("a")), []byte("b")), node{name: "q"})
	if m.Kind != record.BodyBytes || string(m.Body) != "ab" || m.Timestamp != testNow {
		t.Errorf("%+v", m)
	}
	h := codec.MessageHeader{Priority: 4, TTL: codec.Some(10)}
	if _, m, _ = through(t, &in, codec.AppendData(h.Append(nil), nil), node{name: "q"}); m.Expiration != testNow+10 {
		t.Errorf("%+v", m)
	}
}

// A record of a Kafka producer is a BytesMessage, and one that the broker has added
// properties to has them.
func TestForeignRecords(t *testing.T) {
	var w record.Builder
	w.Append(5, []byte("k"), []byte("body"), []record.Header{{Key: "h", Value: []byte("v")}})
	var r record.Reader
	if err := r.Reset(w.Batch(), 1<<20); err != nil || !r.Next() {
		t.Fatal(err)
	}
	var o outbound
	got := partsOf(t, o.append(nil, node{"t", 1}, 3, r.Record(), 4, testNow))
	want := parts{
		annotations: map[any]any{codec.Symbol(annotationType): typeBytes, codec.Symbol(annotationDestination): int8(1)},
		application: map[any]any{"h": "v"}, code: codec.BodyData, body: []any{[]byte("body")},
		properties: codec.MessageProperties{
			MessageID: "ID:t-3-0", To: codec.SomeString("t"), ContentType: contentOctets, CreationTime: 5, HasCreation: true,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}

	var in inbound
	p := codec.MessageProperties{AbsoluteExpiry: testNow + 1, HasExpiry: true, ContentEncoding: "gzip"}
	b := codec.AppendApplicationProperties(p.Append(nil), codec.Map{{Key: "own", Value: uint8(1)}})
	if err := in.parse(codec.AppendData(b, nil), "q", testNow); err != nil {
		t.Fatal(err)
	}
	in.message.Properties["JMS_POLYLOG_DLQ_ORIGIN"], in.message.Expiration = "q", 0
	w.Reset()
	if err := in.message.AppendTo(&w, in.own...); err != nil {
		t.Fatal(err)
	}
	if err := r.Reset(w.Batch(), 1<<20); err != nil || !r.Next() {
		t.Fatal(err)
	}
	got = partsOf(t, o.append(nil, node{"DLQ.q", 0}, 0, r.Record(), 1, testNow))
	if !reflect.DeepEqual(got.application, map[any]any{"own": uint8(1), "JMS_POLYLOG_DLQ_ORIGIN": "q"}) || got.properties.HasExpiry || got.properties.ContentEncoding != "gzip" {
		t.Errorf("%+v", got)
	}
}

func FuzzInbound(f *testing.F) {
	f.Add(jms(typeText, "", func(b []byte) []byte { return codec.AppendBodyValue(b, "x") }))
	f.Add(jms(typeMap, "", func(b []byte) []byte { return codec.AppendBodyValue(b, codec.Map{{Key: "a", Value: int64(1)}}) }))
	f.Add(codec.AppendData(codec.AppendData(nil, []byte("a")), []byte("b")))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in inbound
		if in.parse(b, "q", testNow) != nil {
			return
		}
		back, _, _ := through(t, &in, b, node{name: "q"})
		if _, err := codec.Split(back); err != nil {
			t.Fatalf("%x: %v", back, err)
		}
	})
}
