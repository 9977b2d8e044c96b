package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestKnownBatches(t *testing.T) {
	for _, k := range knownBatches {
		t.Run(k.name, func(t *testing.T) {
			want := unhex(t, k.hex)
			var w Builder
			k.build(&w)
			got := w.Batch()
			if !bytes.Equal(got, want) {
				t.Fatalf("built\n%x, want\n%x", got, want)
			}
			if w.Size() != len(got) || w.Count() != got.Count() {
				t.Errorf("size %d, count %d", w.Size(), w.Count())
			}
			b, rest, err := Next(append(want, 1, 2, 3))
			if err != nil || !bytes.Equal(rest, []byte{1, 2, 3}) {
				t.Fatal(rest, err)
			}
			if err := Validate(b, 0); err != nil {
				t.Fatal(err)
			}
			if got, want := readAll(t, b, 0), readFranz(t, b); !reflect.DeepEqual(got, want) {
				t.Fatalf("read %+v, franz-go reads %+v", got, want)
			}
		})
	}
}

func TestKnownHeader(t *testing.T) {
	b := Batch(unhex(t, knownBatches[2].hex))
	if b.BaseOffset() != 0 || b.LastOffset() != 0 || b.NextOffset() != 1 || b.LeaderEpoch() != -1 ||
		b.Attributes() != 0x10 || b.Compression() != None || b.IsControl() || !b.IsTransactional() ||
		b.HasLogAppendTime() || b.BaseTimestamp() != 1 || b.MaxTimestamp() != 1 || b.ProducerID() != 42 ||
		b.ProducerEpoch() != 7 || b.BaseSequence() != 9 || b.LastOffsetDelta() != 0 || b.Count() != 1 {
		t.Fatalf("%x", b)
	}
	b.SetBaseOffset(1 << 40)
	b.SetLeaderEpoch(5)
	if b.BaseOffset() != 1<<40 || b.NextOffset() != 1<<40+1 || b.LeaderEpoch() != 5 || !b.CRCValid() {
		t.Fatalf("stamped: %x", b)
	}
	b[len(b)-1]++
	if b.CRCValid() {
		t.Fatal("a changed byte passes the CRC")
	}
}

func TestBatchOfKafka(t *testing.T) {
	b, rest, err := Next(unhex(t, kraftBatch))
	if err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	if err := Validate(b, 0); err != nil {
		t.Fatal(err)
	}
	all := readAll(t, b, 0)
	if len(all) != 1 || !bytes.Contains(all[0].Value, []byte("metadata.version")) || all[0].Key != nil ||
		all[0].Timestamp != 0x191e05af818 {
		t.Fatalf("%+v", all)
	}
	var w Builder
	w.Append(all[0].Timestamp, all[0].Key, all[0].Value, nil)
	again := w.Batch()
	again.SetLeaderEpoch(1)
	if !bytes.Equal(again, b) {
		t.Fatalf("built\n%x, want\n%x", again, b)
	}
}

func TestCompressedBatches(t *testing.T) {
	value := bytes.Repeat([]byte("polylog "), 8)
	for _, k := range compressedBatches {
		t.Run(k.name, func(t *testing.T) {
			b := Batch(unhex(t, k.hex))
			if b.Compression() != k.codec {
				t.Fatal(b.Compression())
			}
			if err := Validate(b, 228); err != nil {
				t.Fatal(err)
			}
			all := readAll(t, b, 228)
			for i, s := range all {
				if s.Offset != int64(i) || !bytes.Equal(s.Value, value) || string(s.Key) != "key" {
					t.Fatalf("%+v", s)
				}
			}
			if len(all) != 3 {
				t.Fatal(len(all))
			}
			if err := Validate(b, 227); !errors.Is(err, ErrTooLarge) {
				t.Errorf("one byte above the limit: %v", err)
			}
			for cut := HeaderSize; cut < len(b); cut++ {
				if err := Validate(withRecords(b, b[HeaderSize:cut]...), 1<<20); !errors.Is(err, ErrCorrupt) {
					t.Errorf("cut to %d of %d bytes: %v", cut, len(b), err)
				}
			}
			longer := withRecords(b, append(clone(b[HeaderSize:]), 0)...)
			if err := Validate(longer, 1<<20); !errors.Is(err, ErrCorrupt) {
				t.Errorf("a byte more: %v", err)
			}
		})
	}
}

func TestNext(t *testing.T) {
	one := unhex(t, knownBatches[0].hex)
	if _, _, err := Next(nil); err != io.EOF {
		t.Errorf("nothing: %v", err)
	}
	for cut := 1; cut < len(one); cut++ {
		if _, rest, err := Next(one[:cut]); err != io.ErrUnexpectedEOF || len(rest) != cut {
			t.Errorf("cut to %d: %v", cut, err)
		}
	}
	for _, damage := range []struct {
		at    int
		bytes []byte
	}{
		{atMagic, []byte{1}},
		{atMagic, []byte{3}},
		{atLength, []byte{0, 0, 0, HeaderSize - lengthOverhead - 1}},
		{atLength, []byte{0xff, 0xff, 0xff, 0xff}},
	} {
		b := clone(one)
		copy(b[damage.at:], damage.bytes)
		_, _, err := Next(b)
		var c *CorruptError
		if !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) || c.Offset != 0 {
			t.Errorf("%x at %d: %v", damage.bytes, damage.at, err)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	good := Batch(unhex(t, knownBatches[1].hex))
	records := func(records ...byte) Batch { return withRecords(good, records...) }
	header := func(at int, bytes ...byte) Batch {
		b := Batch(clone(good))
		copy(b[at:], bytes)
		return restamp(b)
	}
	one := func(b Batch) Batch { // claims one record
		binary.BigEndian.PutUint32(b[atCount:], 1)
		binary.BigEndian.PutUint32(b[atLastOffsetDelta:], 0)
		return restamp(b)
	}
	for name, b := range map[string]Batch{
		"nothing":                      nil,
		"a header cut short":           good[:HeaderSize-1],
		"a record cut short":           good[:len(good)-1],
		"two batches":                  append(clone(good), good...),
		"a wrong checksum":             append(clone(good[:len(good)-1]), 0),
		"magic 1":                      header(atMagic, 1),
		"codec 5":                      header(atAttributes, 0, 5),
		"control":                      header(atAttributes, 0, attrControl),
		"log append time":              header(atAttributes, 0, attrLogAppendTime),
		"delete horizon":               header(atAttributes, 0, attrDeleteHorizon),
		"transaction without producer": header(atAttributes, 0, attrTransactional),
		"producer without sequence":    header(atProducerID, 0, 0, 0, 0, 0, 0, 0, 1),
		"no records":                   header(atCount, 0, 0, 0, 0),
		"a negative count":             header(atCount, 0xff, 0xff, 0xff, 0xff),
		"more records than there are":  header(atCount, 0, 0, 0, 4),
		"two billion records":          header(atLastOffsetDelta, 0x7f, 0xff, 0xff, 0xfe)[:0:0],
		"last offset delta of 4":       header(atLastOffsetDelta, 0, 0, 0, 4),
		"fewer records than there are": one(Batch(clone(good))),

		"a gap":                       records(0x0c, 0, 0, 0, 1, 1, 0, 0x0c, 0, 0, 4, 1, 1, 0, 0x0c, 0, 0, 6, 1, 1, 0),
		"deltas from 1":               records(0x0c, 0, 0, 2, 1, 1, 0, 0x0c, 0, 0, 4, 1, 1, 0, 0x0c, 0, 0, 6, 1, 1, 0),
		"a delta twice":               records(0x0c, 0, 0, 0, 1, 1, 0, 0x0c, 0, 0, 2, 1, 1, 0, 0x0c, 0, 0, 2, 1, 1, 0),
		"a negative delta":            one(records(0x0c, 0, 0, 1, 1, 1, 0)),
		"a record too short":          one(records(0x0a, 0, 0, 0, 1, 1)),
		"a record of negative length": one(records(0x01, 0, 0, 0, 1, 1, 0)),
		"a record beyond the batch":   one(records(0x0e, 0, 0, 0, 1, 1, 0)),
		"a record with bytes left":    one(records(0x0e, 0, 0, 0, 1, 1, 0, 0)),
		"bytes after the records":     one(records(0x0c, 0, 0, 0, 1, 1, 0, 0)),
		"a key of -2":                 one(records(0x0c, 0, 0, 0, 3, 1, 0)),
		"a key beyond the record":     one(records(0x0c, 0, 0, 0, 8, 1, 0)),
		"a value of -2":               one(records(0x0c, 0, 0, 0, 1, 3, 0)),
		"a value beyond the record":   one(records(0x0c, 0, 0, 0, 1, 4, 0)),
		"a negative header count":     one(records(0x0c, 0, 0, 0, 1, 1, 1)),
		"headers that are not there":  one(records(0x0e, 0, 0, 0, 1, 1, 4, 0)),
		"a header with a null name":   one(records(0x10, 0, 0, 0, 1, 1, 2, 1, 1)),
		"a header value of -2":        one(records(0x10, 0, 0, 0, 1, 1, 2, 0, 3)),
		"bytes after the headers":     one(records(0x12, 0, 0, 0, 1, 1, 2, 0, 1, 0)),
		"a varint of six bytes":       one(records(0x16, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 1, 1, 0)),
		"a varint of 33 bits":         one(records(0x14, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 1, 0)),
		"a varint of 65 bits": one(records(0x1e, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2,
			0, 1, 1, 0)),
		"a varint of eleven bytes": one(records(0x20, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0,
			0, 1, 1, 0)),
	} {
		err := Validate(b, 1<<20)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A padded varint is legal in Kafka.
	if err := Validate(one(records(0x10, 0, 0, 0x80, 0x80, 0, 1, 1, 0)), 0); err != nil {
		t.Errorf("padded varint: %v", err)
	}
}

// A claimed count must not cost memory, whatever the compression.
func TestClaimedCount(t *testing.T) {
	b := Batch(unhex(t, knownBatches[1].hex))
	binary.BigEndian.PutUint32(b[atCount:], 1<<31-1)
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], 1<<31-2)
	if err := Validate(restamp(b), 0); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestReaderAfterCompaction(t *testing.T) {
	var w Builder
	for i := range 10 {
		w.Append(int64(100+i), []byte{byte(i)}, nil, nil)
	}
	whole := Batch(clone(w.Batch()))
	whole.SetBaseOffset(1000)
	some, n, err := Subset(nil, whole, func(offset int64) bool { return offset%3 == 0 })
	if err != nil || n != 3 {
		t.Fatal(n, err)
	}
	all := readAll(t, some, 0)
	for i, want := range []int64{1002, 1005, 1008} {
		if all[i].Offset != want || all[i].Timestamp != want-900 {
			t.Errorf("record %d: %+v", i, all[i])
		}
	}
	if some.LastOffset() != 1009 || some.MaxTimestamp() != 108 || !some.CRCValid() {
		t.Errorf("header %x", some[:HeaderSize])
	}
	// Such a batch is a log's, and nothing that a producer may send.
	if err := Validate(some, 0); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if none, n, err := Subset(nil, whole, func(int64) bool { return false }); none != nil || n != 0 || err != nil {
		t.Error(none, n, err)
	}
	if every, n, err := Subset(nil, whole, func(int64) bool { return true }); !bytes.Equal(every, whole) || n != 10 || err != nil {
		t.Error(every, n, err)
	}
}

func TestLogAppendTime(t *testing.T) {
	b := Batch(unhex(t, knownBatches[1].hex))
	b[atAttributes+1] |= attrLogAppendTime
	for _, s := range readAll(t, b, 0) {
		if s.Timestamp != b.MaxTimestamp() {
			t.Errorf("%+v", s)
		}
	}
}

func TestHeaderLastWins(t *testing.T) {
	var w Builder
	w.Append(0, nil, nil, []Header{{"a", []byte("1")}, {"b", nil}, {"a", []byte("2")}, {"c", []byte{}}})
	var r Reader
	if err := r.Reset(w.Batch(), 0); err != nil || !r.Next() {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"a": []byte("2"), "b": nil, "c": {}} {
		if got, ok := r.Record().Header(name); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q %v", name, got, ok)
		}
	}
	if _, ok := r.Record().Header("d"); ok {
		t.Error("a header that is not there")
	}
}

func TestControl(t *testing.T) {
	var w Builder
	w.SetProducer(1, 0, -1, true)
	w.SetControl()
	w.Append(5, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 0, 0, 0}, nil)
	if b := w.Batch(); !b.IsControl() || !b.IsTransactional() || !b.CRCValid() {
		t.Errorf("%x", b)
	}
	w.Reset()
	if w.Batch() != nil || w.Size() != HeaderSize {
		t.Error("an empty builder")
	}
	w.Append(5, nil, nil, nil)
	if b := w.Batch(); b.IsControl() || b.IsTransactional() || b.ProducerID() != -1 {
		t.Errorf("after Reset %x", b)
	}
}

func genRecords(t *rapid.T) []seen {
	some := rapid.SliceOfN(rapid.Byte(), 0, 40)
	nullable := rapid.Custom(func(t *rapid.T) []byte {
		if rapid.Bool().Draw(t, "null") {
			return nil
		}
		return append([]byte{}, some.Draw(t, "bytes")...)
	})
	records := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) seen {
		s := seen{
			Timestamp: rapid.Int64Range(-1<<50, 1<<50).Draw(t, "timestamp"),
			Key:       nullable.Draw(t, "key"), Value: nullable.Draw(t, "value"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			s.Headers = append(s.Headers, Header{rapid.String().Draw(t, "name"), nullable.Draw(t, "header")})
		}
		return s
	}), 1, 80).Draw(t, "records")
	for i := range records {
		records[i].Offset = int64(i)
	}
	return records
}

func TestRoundTrip(t *testing.T) {
	var w Builder // reused, as its users do
	rapid.Check(t, func(rt *rapid.T) {
		want := genRecords(rt)
		w.Reset()
		for _, s := range want {
			w.Append(s.Timestamp, s.Key, s.Value, s.Headers)
		}
		b := w.Batch()
		if err := Validate(b, 0); err != nil {
			rt.Fatal(err)
		}
		if got := readAll(t, b, 0); !reflect.DeepEqual(got, want) {
			rt.Fatalf("read %+v\nwrote %+v", got, want)
		}
		if got := readFranz(t, b); !reflect.DeepEqual(got, want) {
			rt.Fatalf("franz-go read %+v\nwrote %+v", got, want)
		}
		for codec := None; codec <= Zstd; codec++ {
			c, err := Compress([]byte("before"), b, codec)
			if err != nil {
				rt.Fatal(codec, err)
			}
			if err := Validate(c, len(b)-HeaderSize); err != nil {
				rt.Fatal(codec, err)
			}
			if got := readAll(t, c, len(b)); !reflect.DeepEqual(got, want) || c.Compression() != codec {
				rt.Fatalf("%s: read %+v\nwrote %+v", codec, got, want)
			}
			// And from there to another codec, and back.
			other, err := Compress(nil, c, (codec+1)%5)
			if err != nil {
				rt.Fatal(err)
			}
			if back, err := Compress(nil, other, None); err != nil || !bytes.Equal(back, b) {
				rt.Fatal(codec, err)
			}
		}
		codec := Codec(rapid.IntRange(0, 4).Draw(rt, "codec"))
		c, _ := Compress(nil, b, codec)
		c.SetBaseOffset(500)
		checkSubset(rt, c, want, uint64(rapid.Uint64().Draw(rt, "kept")))
	})
}

func checkSubset(t *rapid.T, b Batch, want []seen, mask uint64) {
	var asked []int64
	got, n, err := Subset(make([]byte, 3, 5000), b, func(offset int64) bool {
		asked = append(asked, offset)
		return mask>>((offset-500)%64)&1 == 1
	})
	if err != nil {
		t.Fatal(err)
	}
	kept := []seen{}
	for i, s := range want {
		if asked[i] != 500+s.Offset {
			t.Fatal("asked", asked)
		}
		if mask>>(s.Offset%64)&1 == 1 {
			s.Offset += 500
			kept = append(kept, s)
		}
	}
	if n != len(kept) || len(asked) != len(want) {
		t.Fatal(n, len(kept), len(asked))
	}
	if n == 0 {
		return
	}
	var r Reader
	if err := r.Reset(got, 1<<20); err != nil || !got.CRCValid() || got.Count() != n || got.LastOffset() != b.LastOffset() {
		t.Fatal(err)
	}
	for i := 0; r.Next(); i++ {
		rec := r.Record()
		if rec.Offset != kept[i].Offset || rec.Timestamp != kept[i].Timestamp ||
			!reflect.DeepEqual(clone(rec.Key), kept[i].Key) || !reflect.DeepEqual(clone(rec.Value), kept[i].Value) {
			t.Fatalf("%+v", rec)
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
}

// What expands enormously must not be allowed to, and must not cost what it claims.
func TestBomb(t *testing.T) {
	var w Builder
	w.Append(0, nil, make([]byte, 64<<20), nil)
	plain := w.Batch()
	for codec := Gzip; codec <= Zstd; codec++ {
		b, err := Compress(nil, plain, codec)
		if err != nil {
			t.Fatal(err)
		}
		const limit = 1 << 20
		before := allocated()
		if err := Validate(b, limit); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", codec, err)
		}
		if spent := allocated() - before; spent > 8<<20 {
			t.Errorf("%s: %d bytes allocated for a limit of %d", codec, spent, limit)
		}
		if err := Validate(b, 65<<20); err != nil {
			t.Errorf("%s within its limit: %v", codec, err)
		}
	}
}

// Small input that claims to be large, with a generous limit.
func TestClaimedSize(t *testing.T) {
	b := Batch(unhex(t, compressedBatches[0].hex))
	for name, claim := range map[string]struct {
		codec Codec
		bytes []byte
	}{
		"snappy block of 1 GiB":  {Snappy, append(binary.AppendUvarint(nil, 1<<30), 0, 'x')},
		"xerial block of 2 GiB":  {Snappy, []byte(xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01\x7f\xff\xff\xff\x00")},
		"xerial block of -1":     {Snappy, []byte(xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff\x00")},
		"xerial header alone":    {Snappy, []byte(xerialMagic)},
		"zstd frame of 1 GiB":    {Zstd, []byte("\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40\x01\x00\x00")},
		"zstd window of 512 MiB": {Zstd, []byte("\x28\xb5\x2f\xfd\x00\x98\x11\x00\x00AB")},
		"s2 repetition":          {Snappy, []byte{9, 0, 'x', 0x11, 0}},
	} {
		c := withRecords(b, claim.bytes...)
		c.setCompression(claim.codec)
		before := allocated()
		err := Validate(restamp(c), 1<<30)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if spent := allocated() - before; spent > 8<<20 {
			t.Errorf("%s: %d bytes allocated", name, spent)
		}
	}
}

// Pooled coders must not carry anything over from a batch that failed.
func TestCodersAfterDamage(t *testing.T) {
	for range 20 {
		for _, k := range compressedBatches {
			b := Batch(unhex(t, k.hex))
			if err := Validate(withRecords(b, b[HeaderSize:len(b)-3]...), 1<<20); err == nil {
				t.Fatal(k.name)
			}
			if err := Validate(b, 1<<20); err != nil {
				t.Fatal(k.name, err)
			}
		}
	}
}

func TestCompressUnknown(t *testing.T) {
	if _, err := Compress(nil, Batch(unhex(t, knownBatches[0].hex)), 9); err == nil {
		t.Error("codec 9")
	}
	if _, err := Compress(nil, nil, Gzip); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if _, _, err := Subset(nil, nil, nil); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if got := fmt.Sprint(None, Gzip, Snappy, LZ4, Zstd, Codec(7)); got != "none gzip snappy lz4 zstd codec 7" {
		t.Error(got)
	}
}
