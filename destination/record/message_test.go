package record

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// knownMetas are JMS headers as bytes, used both ways.
var knownMetas = []struct {
	name string
	hex  string
	meta Meta
}{
	{"nothing but defaults", "81 a176 01", Meta{Priority: 4}},
	{
		"a queue's routing", "87 a176 01 a16b 02 a170 09 a167 c3 a16e c3 a165 d3 0000018bcfe56800 a164 ff",
		Meta{Kind: BodyText, Priority: 9, Grouped: true, NonPersistent: true, Expiration: 1700000000000, DeliveryTime: -1},
	},
	{
		"all", `de 0010 a176 01 a16b 06 a170 00 a167 c3 a16e c3 a165 01 a164 cc80 a173 d2 80000000 a152 04
			a169 a26964 a163 c4 02 ff00 a174 a174 a172 a172 a175 a175 a16c a16c a16f a16f`,
		Meta{
			Kind: BodyValue, Priority: 0, Grouped: true, NonPersistent: true, Expiration: 1, DeliveryTime: 128,
			GroupSeq: math.MinInt32, ReplyToKind: DestinationTemporaryTopic, ID: "id", CorrelationID: "\xff\x00",
			Type: "t", ReplyTo: "r", UserID: "u", ClientID: "l", ContentType: "o",
		},
	},
	{
		"property types", "82 a176 01 a179 82 a161 01 a162 08",
		Meta{Priority: 4, PropertyTypes: []TypedProperty{{"a", PropertyBool}, {"b", PropertyBytes}}},
	},
}

func TestKnownMetas(t *testing.T) {
	for _, k := range knownMetas {
		t.Run(k.name, func(t *testing.T) {
			want := unhex(t, k.hex)
			if got := AppendMeta([]byte("before"), &k.meta); !bytes.Equal(got[6:], want) {
				t.Errorf("wrote\n%x, want\n%x", got[6:], want)
			}
			var m Meta
			if err := ParseMeta(want, &m); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(m, k.meta) && !(len(m.PropertyTypes) == 0 && len(k.meta.PropertyTypes) == 0) {
				t.Errorf("read %+v, want %+v", m, k.meta)
			}
			r, err := ParseRouting(want)
			if err != nil || r != routingOf(&k.meta) {
				t.Errorf("routing %+v, %v", r, err)
			}
			for cut := range want {
				if err := ParseMeta(want[:cut], &m); !errors.Is(err, ErrCorrupt) {
					t.Errorf("cut to %d: %v", cut, err)
				}
				r, err := ParseRouting(want[:cut])
				if err == nil && r == routingOf(&k.meta) {
					continue // the cut is behind the routing
				}
				if !errors.Is(err, ErrCorrupt) || r != (Routing{Priority: 4}) {
					t.Errorf("routing cut to %d: %+v %v", cut, r, err)
				}
			}
		})
	}
}

func routingOf(m *Meta) Routing {
	return Routing{m.Priority, m.Grouped, m.Expiration, m.DeliveryTime, m.NonPersistent}
}

func TestMetaUnknownKeys(t *testing.T) {
	for name, unknown := range map[string]string{
		"nil": "c0", "bool": "c2", "fixnum": "7f", "negative": "e0", "uint64": "cf ffffffffffffffff",
		"int8": "d0 80", "int16": "d1 8000", "uint16": "cd ffff", "uint32": "ce ffffffff", "float": "ca 00000000",
		"double": "cb 0000000000000000", "str8": "d9 01 61", "str16": "da 0001 61", "str32": "db 00000001 61",
		"bin8": "c4 01 ff", "bin16": "c5 0001 ff", "bin32": "c6 00000001 ff", "array": "92 01 91 02",
		"array16": "dc 0001 c0", "array32": "dd 00000001 c0", "map": "81 a161 81 01 02", "map16": "de 0001 c0 c0",
		"map32": "df 00000001 c0 c0", "fixext1": "d4 01 00", "fixext2": "d5 01 0000", "fixext4": "d6 01 00000000",
		"fixext8": "d7 01 0000000000000000", "fixext16": "d8 01 00000000000000000000000000000000",
		"ext8": "c7 01 05 00", "ext16": "c8 0001 05 00", "ext32": "c9 00000001 05 00",
		"nested 16 deep": strings.Repeat("91", 16) + "c0",
	} {
		for _, key := range []string{"a17a", "a26161", "a0"} {
			value := unhex(t, "83 a176 01 "+key+unknown+" a170 06")
			var m Meta
			if err := ParseMeta(value, &m); err != nil || m.Priority != 6 {
				t.Errorf("%s: %v %+v", name, err, m)
			}
			if r, err := ParseRouting(value); err != nil || r.Priority != 6 {
				t.Errorf("%s: routing %v %+v", name, err, r)
			}
		}
	}
}

func TestMetaRefuses(t *testing.T) {
	for name, damaged := range map[string]string{
		"nothing":               "",
		"no map":                "91 01",
		"an empty map":          "80",
		"no version":            "81 a170 04",
		"version not first":     "82 a170 04 a176 01",
		"version 0":             "81 a176 00",
		"a text for a version":  "81 a176 a131",
		"bytes left":            "81 a176 01 00",
		"a pair missing":        "82 a176 01",
		"priority 10":           "82 a176 01 a170 0a",
		"a number for a bool":   "82 a176 01 a167 01",
		"an integer too large":  "82 a176 01 a165 cf ffffffffffffffff",
		"a key that is none":    "82 a176 01 01 01",
		"more pairs than bytes": "df ffffffff a176 01",
		"a text too long":       "82 a176 01 a17a db ffffffff",
		"an array too long":     "82 a176 01 a17a dd ffffffff",
		"a map too long":        "82 a176 01 a17a df ffffffff",
		"an ext too long":       "82 a176 01 a17a c9 ffffffff 01",
		"code c1":               "82 a176 01 a17a c1",
		"nested 17 deep":        "82 a176 01 a17a " + strings.Repeat("91", 17) + "c0",
	} {
		value := unhex(t, damaged)
		var m Meta
		if err := ParseMeta(value, &m); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if r, err := ParseRouting(value); !errors.Is(err, ErrCorrupt) || r.Priority != 4 {
			t.Errorf("%s: routing %v", name, err)
		}
	}
	// These only the whole header's reader sees.
	for name, damaged := range map[string]string{
		"body kind 7":           "82 a176 01 a16b 07",
		"reply kind 5":          "82 a176 01 a152 05",
		"group sequence":        "82 a176 01 a173 ce ffffffff",
		"property type 9":       "82 a176 01 a179 81 a161 09",
		"a number for an id":    "82 a176 01 a169 01",
		"property types array":  "82 a176 01 a179 90",
		"routing behind a text": "83 a176 01 a169 a161 a170 05",
		"a text cut short":      "82 a176 01 a169 a2 61",
	} {
		var m Meta
		if err := ParseMeta(unhex(t, damaged), &m); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMetaNewerVersion(t *testing.T) {
	value := unhex(t, "82 a176 02 a170 c1") // what follows may be anything
	var m Meta
	err := ParseMeta(value, &m)
	if !errors.Is(err, ErrNewerVersion) || errors.Is(err, ErrCorrupt) ||
		!strings.Contains(err.Error(), JMSHeader) || !strings.Contains(err.Error(), "version 2") {
		t.Error(err)
	}
	if _, err := ParseRouting(value); !errors.Is(err, ErrNewerVersion) {
		t.Error(err)
	}
}

func TestRoutingWithoutHeader(t *testing.T) {
	if r, err := ParseRouting(nil); err != nil || r != (Routing{Priority: 4}) {
		t.Error(r, err)
	}
}

// one writes m and returns its record.
func one(t testing.TB, m *Message) *Record {
	t.Helper()
	var w Builder
	if err := m.AppendTo(&w); err != nil {
		t.Fatal(err)
	}
	if err := Validate(w.Batch(), 0); err != nil {
		t.Fatal(err)
	}
	return first(t, w.Batch())
}

func first(t testing.TB, b Batch) *Record {
	t.Helper()
	r := new(Reader)
	if err := r.Reset(b, 0); err != nil || !r.Next() {
		t.Fatal(err, r.Err())
	}
	return r.Record()
}

func TestMessageAsRecord(t *testing.T) {
	m := &Message{
		Meta: Meta{Kind: BodyText, Priority: 4, Grouped: true, PropertyTypes: []TypedProperty{{"not", 1}, {"asked", 2}}},
		Key:  []byte("group"), Body: []byte("hello"), Timestamp: 17,
		Properties: map[string]any{
			"b": true, "i8": int8(-1), "i16": int16(-300), "i32": int32(70000), "i64": int64(1) << 40,
			"f32": float32(0.1), "f64": math.Inf(-1), "s": "text", "null": nil, "raw": []byte{0xff}, "latin": "\xe4",
		},
	}
	r := one(t, m)
	if string(r.Key) != "group" || string(r.Value) != "hello" || r.Timestamp != 17 {
		t.Errorf("%+v", r)
	}
	var names []string
	got := map[string]string{}
	for name, value := range r.Headers() {
		names = append(names, name)
		got[name] = string(value)
		if name == "null" && value != nil {
			t.Error("null is not null")
		}
	}
	if want := strings.Fields("polylog.jms b f32 f64 i16 i32 i64 i8 latin null raw s"); !reflect.DeepEqual(names, want) {
		t.Error(names)
	}
	delete(got, JMSHeader)
	if want := map[string]string{
		"b": "true", "i8": "-1", "i16": "-300", "i32": "70000", "i64": "1099511627776", "f32": "0.1", "f64": "-Inf",
		"s": "text", "null": "", "raw": "\xff", "latin": "\xe4",
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	var back Message
	if err := DecodeMessage(r, &back); err != nil {
		t.Fatal(err)
	}
	back.PropertyTypes = m.PropertyTypes // AppendTo found its own
	if !reflect.DeepEqual(&back, m) {
		t.Errorf("read %+v\nwrote %+v", back, m)
	}
}

func TestNoBodyIsNoTombstone(t *testing.T) {
	r := one(t, &Message{})
	if r.Value == nil || len(r.Value) != 0 || r.Key != nil {
		t.Errorf("%+v", r)
	}
	var m Message
	if err := DecodeMessage(r, &m); err != nil || m.Kind != BodyNone || m.Priority != 0 {
		t.Error(m, err)
	}
}

func TestForeignRecord(t *testing.T) {
	var w Builder
	w.Append(99, []byte("k"), nil, []Header{
		{"traceparent", []byte("00-ab-cd-01")},
		{"binary", []byte{0xfe}},
		{"null", nil},
		{"twice", []byte("1")},
		{"twice", []byte("2")},
		{"", []byte("x")},
		{"JMSXGroupID", []byte("x")},
		{"polylog.other", []byte("x")},
		{"\xff", []byte("x")},
	})
	m := Message{Meta: Meta{ID: "old", Priority: 1}, Properties: map[string]any{"old": "x"}, Partition: 3}
	if err := DecodeMessage(first(t, w.Batch()), &m); err != nil {
		t.Fatal(err)
	}
	m.PropertyTypes = nil
	want := Message{
		Meta: Meta{Priority: 4, Kind: BodyBytes}, Key: []byte("k"), Timestamp: 99, Partition: 3,
		Properties: map[string]any{"traceparent": "00-ab-cd-01", "binary": []byte{0xfe}, "null": nil, "twice": "2"},
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("read %+v\nwant %+v", m, want)
	}
	// What was foreign can be sent on.
	if err := m.AppendTo(&w); err != nil {
		t.Error(err)
	}
}

func TestUnreadableJMSHeader(t *testing.T) {
	for _, c := range []struct {
		value []byte
		err   error
	}{
		{[]byte{0x81, 0xa1, 'v', 9}, ErrNewerVersion},
		{[]byte("junk"), ErrCorrupt},
		{[]byte{}, ErrCorrupt},
	} {
		var w Builder
		w.Append(1, []byte("k"), []byte("v"), []Header{{JMSHeader, c.value}, {"p", []byte("q")}})
		var m Message
		if err := DecodeMessage(first(t, w.Batch()), &m); !errors.Is(err, c.err) {
			t.Errorf("%x: %v", c.value, err)
		}
		if m.Kind != BodyBytes || m.Priority != 4 || string(m.Body) != "v" || m.Properties["p"] != "q" {
			t.Errorf("%x: %+v", c.value, m)
		}
	}
}

func TestPropertyChangedOnItsWay(t *testing.T) {
	var w Builder
	meta := Meta{PropertyTypes: []TypedProperty{{"n", PropertyInt}, {"b", PropertyBool}, {"gone", PropertyLong}}}
	w.Append(1, nil, nil, []Header{{JMSHeader, AppendMeta(nil, &meta)}, {"n", []byte("many")}, {"b", []byte("TRUE")}})
	var m Message
	if err := DecodeMessage(first(t, w.Batch()), &m); err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"n": "many", "b": "TRUE"}; !reflect.DeepEqual(m.Properties, want) {
		t.Error(m.Properties)
	}
}

func TestAppendToRefuses(t *testing.T) {
	var w Builder
	for name, want := range map[string]error{
		"": ErrReservedName, "polylog.jms": ErrReservedName, "polylog.x": ErrReservedName, "JMSXGroupID": ErrReservedName,
		"JMSXDeliveryCount": ErrReservedName, "JMSMessageID": ErrReservedName, "\xff": ErrReservedName,
		"JMS_POLYLOG_DLQ_REASON": nil, "JMSXAppID": nil, "any-thing/goes": nil,
	} {
		w.Reset()
		err := (&Message{Properties: map[string]any{name: "x"}}).AppendTo(&w)
		if !errors.Is(err, want) || err == nil != (w.Count() == 1) {
			t.Errorf("%q: %v, %d records", name, err, w.Count())
		}
	}
	w.Reset()
	for _, value := range []any{1, uint8(1), struct{}{}, []int{1}} {
		err := (&Message{Properties: map[string]any{"x": value}}).AppendTo(&w)
		if !errors.Is(err, ErrPropertyType) || w.Count() != 0 {
			t.Errorf("%T: %v", value, err)
		}
	}
}

func TestCheckPropertyName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "_a1": true, "$x": true, "größe": true, "a.b": false, "1a": false, "a b": false, "": false,
		"null": false, "Between": false, "NULLs": true, "JMSType": false, "JMSXAppID": true, "JMS_IBM_x": true,
		"JMSXUserID": false, "JMS": false, strings.Repeat("a", 1025): false,
	} {
		if err := CheckPropertyName(name); (err == nil) != ok || err != nil && !errors.Is(err, ErrReservedName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func genMessage(t *rapid.T) *Message {
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringN(0, 300, -1))
	m := &Message{
		Meta: Meta{
			ID: text.Draw(t, "id"), CorrelationID: string(rapid.SliceOf(rapid.Byte()).Draw(t, "correlation")),
			Type: text.Draw(t, "type"), ReplyTo: text.Draw(t, "reply to"), UserID: text.Draw(t, "user"),
			ClientID: text.Draw(t, "client"), ContentType: text.Draw(t, "content type"),
			ReplyToKind: DestinationKind(rapid.IntRange(0, 4).Draw(t, "reply kind")),
			Priority:    uint8(rapid.IntRange(0, 9).Draw(t, "priority")),
			Expiration:  rapid.Int64().Draw(t, "expiration"), DeliveryTime: rapid.Int64().Draw(t, "delivery time"),
			NonPersistent: rapid.Bool().Draw(t, "non-persistent"), Grouped: rapid.Bool().Draw(t, "grouped"),
			GroupSeq: rapid.Int32().Draw(t, "sequence"), Kind: BodyKind(rapid.IntRange(0, 6).Draw(t, "kind")),
		},
		Key: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "key"), Body: rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
		Timestamp: rapid.Int64().Draw(t, "timestamp"),
	}
	value := rapid.OneOf(
		rapid.Bool().AsAny(), rapid.Int8().AsAny(), rapid.Int16().AsAny(), rapid.Int32().AsAny(), rapid.Int64().AsAny(),
		rapid.Float32().AsAny(), rapid.Float64().AsAny(), rapid.String().AsAny(), rapid.SliceOf(rapid.Byte()).AsAny(),
		rapid.Just[any](nil))
	m.Properties = rapid.MapOfN(rapid.StringMatching(`[a-zä$_][a-z0-9_.-]{0,20}`), value, 0, 20).Draw(t, "properties")
	for name, v := range m.Properties {
		if ReservedProperty(name) {
			delete(m.Properties, name)
		}
		if b, ok := v.([]byte); ok && b == nil {
			m.Properties[name] = []byte{}
		}
	}
	return m
}

func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := genMessage(rt)
		r := one(t, m)
		var back Message
		if err := DecodeMessage(r, &back); err != nil {
			rt.Fatal(err)
		}
		jms, _ := r.Header(JMSHeader)
		if routing, err := ParseRouting(jms); err != nil || routing != routingOf(&m.Meta) {
			rt.Fatal(routing, err)
		}
		back.PropertyTypes = nil
		if back.Properties == nil {
			back.Properties = map[string]any{}
		}
		if !reflect.DeepEqual(&back, m) {
			rt.Fatalf("read %+v\nwrote %+v", &back, m)
		}
		again := one(t, &back)
		if !bytes.Equal(again.Raw(), r.Raw()) {
			rt.Fatal("the same message is other bytes")
		}
	})
}
