package record

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
)

// The seeds in testdata/fuzz are what the fuzzers found or came close to; the
// known bytes are seeds too.

const fuzzLimit = 1 << 20

func addBatches(f *testing.F) {
	for _, k := range knownBatches {
		f.Add(unhex(f, k.hex))
	}
	for _, k := range compressedBatches {
		f.Add(unhex(f, k.hex))
	}
	f.Add(unhex(f, kraftBatch))
	f.Add([]byte(sampleBatch(f, 2)))
}

func FuzzNext(f *testing.F) {
	addBatches(f)
	f.Fuzz(func(t *testing.T, buf []byte) {
		for rest := buf; ; {
			b, next, err := Next(rest)
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
				if len(next) != len(rest) {
					t.Fatal("an error consumes")
				}
				return
			}
			if len(b)+len(next) != len(rest) || checkShape(b) != nil {
				t.Fatal("not one batch")
			}
			b.CRCValid()
			rest = next
		}
	})
}

// FuzzReader must not panic on anything that has the shape of a batch, and what
// it reads of a valid one must be what franz-go reads.
func FuzzReader(f *testing.F) {
	addBatches(f)
	f.Fuzz(func(t *testing.T, buf []byte) {
		b, _, err := Next(buf)
		if err != nil {
			return
		}
		var r Reader
		if err := r.Reset(b, fuzzLimit); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		last := int64(-1)
		for n := 0; r.Next(); n++ {
			rec := r.Record()
			delta := rec.Offset - b.BaseOffset()
			if n >= b.Count() || delta <= last || delta > int64(b.LastOffsetDelta()) {
				t.Fatal("record", n, "delta", delta)
			}
			last = delta
			rec.Header("region")
			for range rec.Headers() {
			}
			var m Message
			_ = DecodeMessage(rec, &m)
		}
		if r.Err() != nil && !errors.Is(r.Err(), ErrCorrupt) {
			t.Fatal(r.Err())
		}
		kept, n, err := Subset(nil, b, func(offset int64) bool { return offset&1 == 0 })
		if (err == nil) != (r.Err() == nil) {
			t.Fatal(err, r.Err())
		}
		if n > 0 && n < b.Count() && len(readAll(t, kept, 0)) != n {
			t.Fatal("subset")
		}
	})
}

func FuzzValidate(f *testing.F) {
	addBatches(f)
	f.Fuzz(func(t *testing.T, buf []byte) {
		b, _, err := Next(clone(buf))
		if err != nil {
			return
		}
		err = Validate(restamp(b), fuzzLimit)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		all := readAll(t, b, fuzzLimit)
		for i, s := range all {
			if s.Offset != b.BaseOffset()+int64(i) {
				t.Fatal("offset", s.Offset)
			}
		}
		plain, err := Compress(nil, b, None)
		if err != nil || len(all) != b.Count() {
			t.Fatal(err, len(all))
		}
		if got := readFranz(t, plain); !reflect.DeepEqual(got, all) {
			t.Fatalf("read %+v, franz-go reads %+v", all, got)
		}
	})
}

// FuzzMeta holds the two readers of the JMS header, and the writer, to each other.
func FuzzMeta(f *testing.F) {
	for _, k := range knownMetas {
		f.Add(unhex(f, k.hex))
	}
	f.Add(unhex(f, "83 a176 01 a17a df00000001 c0 92 c7010500 c0 a170 06"))
	f.Fuzz(func(t *testing.T, value []byte) {
		var m Meta
		routing, routingErr := ParseRouting(value)
		if err := ParseMeta(value, &m); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerVersion) {
				t.Fatal(err)
			}
			return
		}
		if value == nil {
			return
		}
		if routingErr != nil || routing != routingOf(&m) {
			t.Fatal(routing, routingErr, m)
		}
		var back Meta
		written := AppendMeta(nil, &m)
		if err := ParseMeta(written, &back); err != nil || !reflect.DeepEqual(m, back) && len(m.PropertyTypes) > 0 {
			t.Fatalf("%v: %+v, back %+v", err, m, back)
		}
		if again := AppendMeta(nil, &back); !bytes.Equal(again, written) {
			t.Fatalf("%x, again %x", written, again)
		}
	})
}

// FuzzMessage decodes a record of any JMS header, property and body; what comes
// out can be written, and is then the same.
func FuzzMessage(f *testing.F) {
	for _, k := range knownMetas {
		f.Add(unhex(f, k.hex), "a", []byte("true"), []byte("body"))
	}
	for _, k := range knownBodies {
		f.Add([]byte{0x81, 0xa1, 'v', 1}, "x", []byte{0xff}, unhex(f, k.hex))
	}
	f.Fuzz(func(t *testing.T, jms []byte, name string, property, body []byte) {
		if values, err := DecodeMap(body); err == nil {
			if _, err := EncodeMap(nil, values); err != nil {
				t.Fatal(err)
			}
		}
		if values, err := DecodeStream(body); err == nil {
			if _, err := EncodeStream(nil, values); err != nil {
				t.Fatal(err)
			}
		}
		var w Builder
		w.Append(1, nil, body, []Header{{JMSHeader, jms}, {name, property}})
		if err := Validate(w.Batch(), 0); err != nil {
			t.Fatal(err)
		}
		var m Message
		_ = DecodeMessage(first(t, w.Batch()), &m)
		r := one(t, &m)
		raw := clone(r.Raw())
		var back Message
		if err := DecodeMessage(r, &back); err != nil {
			t.Fatal(err)
		}
		if again := one(t, &back); !bytes.Equal(again.Raw(), raw) {
			t.Fatalf("%x, again %x", raw, again.Raw())
		}
	})
}
