package codec

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzDecode: whatever is decoded is written again as something that decodes to
// the same.
func FuzzDecode(f *testing.F) {
	for _, p := range performatives {
		f.Add(p.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Decoder
		p, rest, err := d.Decode(b)
		if err != nil {
			return
		}
		if a, ok := p.(*Attach); ok && a.Unsettled {
			return // is not written
		}
		again := p.Append(nil)
		var e Decoder
		q, _, err := e.Decode(again)
		if err != nil {
			t.Fatalf("%x: %v", again, err)
		}
		if third := q.Append(nil); !bytes.Equal(again, third) {
			t.Fatalf("%#v became %#v (%d bytes behind)", p, q, len(rest))
		}
	})
}

func FuzzSASL(f *testing.F) {
	f.Add((&Init{Mechanism: "PLAIN", Response: []byte("\x00u\x00p")}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeSASL(b)
		if err != nil {
			return
		}
		if q, err := DecodeSASL(p.Append(nil)); err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("%#v became %#v, %v", p, q, err)
		}
	})
}

// FuzzMessage: the sections of a message are all of it, in order.
func FuzzMessage(f *testing.F) {
	h := MessageHeader{Durable: true, Priority: 9}
	f.Add(AppendData(AppendData(h.Append(nil), []byte("a")), []byte("b")))
	f.Add(AppendBodyValue((&MessageProperties{MessageID: "id"}).Append(nil), Map{{"k", List{int32(1)}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Split(b)
		if err != nil {
			return
		}
		var all []byte
		for _, part := range [][]byte{s.Header, s.DeliveryAnnotations, s.MessageAnnotations, s.Properties, s.ApplicationProperties, s.Body, s.Footer} {
			all = append(all, part...)
		}
		if !bytes.Equal(all, b) && !(s.Footer != nil && s.Body != nil && len(all) == len(b)) {
			t.Fatalf("%x became %x", b, all)
		}
		if h, err := DecodeHeader(s.Header); err == nil {
			if got, err := DecodeHeader(h.Append(nil)); err != nil || got != h && len(h.Append(nil)) > 0 {
				t.Fatalf("%+v became %+v, %v", h, got, err)
			}
		}
		if p, err := DecodeProperties(s.Properties); err == nil {
			if section := p.Append(nil); section != nil {
				if got, err := DecodeProperties(section); err != nil || !reflect.DeepEqual(got, p) {
					t.Fatalf("%+v became %+v, %v", p, got, err)
				}
			}
		}
		for _, part := range [][]byte{s.MessageAnnotations, s.ApplicationProperties, s.Footer} {
			if m, err := DecodeMap(part); err == nil && m != nil {
				AppendAnnotations(nil, m)
			}
		}
		if s.BodyCount == 1 {
			if v, err := DecodeBodyValue(s.Body); err == nil {
				AppendBodyValue(nil, v)
			}
		}
		DecodeControl(b)
	})
}
