package record

import (
	"fmt"
	"runtime"
	"testing"
)

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// sampleMessage is what a JMS application sends: a text, a few properties.
func sampleMessage() *Message {
	return &Message{
		Meta: Meta{
			ID: "ID:8rXhNRP6bEzWJ0vCkYyS0f-17", CorrelationID: "order-4711", Type: "Order", ReplyTo: "replies",
			ReplyToKind: DestinationQueue, ClientID: "shop-1", Priority: 7, Expiration: 1700000060000, Kind: BodyText,
		},
		Body:      []byte(`{"order":4711,"customer":"ACME","lines":[{"sku":"a","n":1}]}`),
		Timestamp: 1700000000000,
		Properties: map[string]any{
			"region": "EU", "amount": 12.5, "rush": true, "count": int32(3),
		},
	}
}

// sampleBatch is n of those.
func sampleBatch(t testing.TB, n int) Batch {
	var w Builder
	m := sampleMessage()
	for range n {
		if err := m.AppendTo(&w); err != nil {
			t.Fatal(err)
		}
	}
	return w.Batch()
}

func TestAllocations(t *testing.T) {
	b := sampleBatch(t, 100)
	var r Reader
	var w Builder
	var m Message
	headers := []Header{{"a", []byte("b")}}
	text := []byte("text")
	room := make([]byte, 0, 2*len(b))
	meta := sampleMessage().Meta
	first := func() *Record {
		if err := r.Reset(b, 0); err != nil || !r.Next() {
			t.Fatal(err)
		}
		return r.Record()
	}
	jms, _ := first().Header(JMSHeader)
	sample := sampleMessage()

	for name, c := range map[string]struct {
		most float64
		run  func()
	}{
		"Next":     {0, func() { _, _, _ = Next(b) }},
		"CRCValid": {0, func() { b.CRCValid() }},
		"Validate": {0, func() {
			if Validate(b, 0) != nil {
				t.Fatal()
			}
		}},
		"Reader": {0, func() {
			_ = r.Reset(b, 0)
			for r.Next() {
			}
		}},
		"Header": {0, func() {
			if _, ok := first().Header("region"); !ok {
				t.Fatal()
			}
		}},
		"ParseRouting": {0, func() {
			if got, err := ParseRouting(jms); err != nil || got.Priority != 7 {
				t.Fatal(got, err)
			}
		}},
		"AppendMeta": {0, func() { room = AppendMeta(room[:0], &meta) }},
		"Builder": {0, func() {
			w.Reset()
			for range 100 {
				w.Append(1, text, text, headers)
			}
			w.Batch()
		}},
		"Subset": {0, func() {
			if _, n, err := Subset(room[:0], b, func(offset int64) bool { return offset&1 == 0 }); n != 50 || err != nil {
				t.Fatal(n, err)
			}
		}},
		"AppendTo": {0, func() {
			w.Reset()
			_ = sample.AppendTo(&w)
		}},
		// The headers' copy, and a box for each property that needs one.
		"DecodeMessage": {6, func() { _ = DecodeMessage(first(), &m) }},
	} {
		c.run() // buffers grow
		if got := testing.AllocsPerRun(100, c.run); got > c.most {
			t.Errorf("%s: %v allocations, at most %v are allowed", name, got, c.most)
		}
	}
}

func BenchmarkBuilderAppend(b *testing.B) {
	var w Builder
	value := make([]byte, 200)
	headers := []Header{{JMSHeader, make([]byte, 60)}, {"region", []byte("EU")}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			w.Reset()
		}
		w.Append(1700000000000, nil, value, headers)
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	var w Builder
	m := sampleMessage()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			w.Reset()
		}
		_ = m.AppendTo(&w)
	}
}

func BenchmarkReaderNext(b *testing.B) {
	batch := sampleBatch(b, 1000)
	var r Reader
	b.ReportAllocs()
	for b.Loop() {
		if !r.Next() {
			_ = r.Reset(batch, 0)
		}
	}
}

func BenchmarkParseRouting(b *testing.B) {
	var r Reader
	_ = r.Reset(sampleBatch(b, 1), 0)
	r.Next()
	jms, _ := r.Record().Header(JMSHeader)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = ParseRouting(jms)
	}
}

func BenchmarkDecodeMessage(b *testing.B) {
	var r Reader
	_ = r.Reset(sampleBatch(b, 1), 0)
	r.Next()
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		_ = DecodeMessage(r.Record(), &m)
	}
}

func BenchmarkSubset(b *testing.B) {
	batch := sampleBatch(b, 100)
	room := make([]byte, 0, len(batch))
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = Subset(room, batch, func(offset int64) bool { return offset%2 == 0 })
	}
}

func BenchmarkValidate(b *testing.B) {
	for codec := None; codec <= Zstd; codec++ {
		b.Run(fmt.Sprint(codec), func(b *testing.B) {
			plain := sampleBatch(b, 1000)
			batch, _ := Compress(nil, plain, codec)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Validate(batch, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
