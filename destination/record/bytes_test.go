package record

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// knownBatches are the bytes of batches, used both ways: a Builder must write
// them, and the readers, ours and franz-go's, must read them. Their checksums were
// computed by another implementation.
var knownBatches = []struct {
	name  string
	hex   string
	build func(w *Builder)
}{
	{
		name: "one record, key, value and header",
		hex: `0000000000000000 00000046 ffffffff 02 4093b217 0000 00000000
			0000018bcfe56800 0000018bcfe56800 ffffffffffffffff ffff ffffffff 00000001
			28 00 00 00 06 6b6579 0a 76616c7565 02 04 6831 04 7631`,
		build: func(w *Builder) {
			w.Append(1700000000000, []byte("key"), []byte("value"), []Header{{"h1", []byte("v1")}})
		},
	},
	{
		name: "nulls, and a timestamp that goes back",
		hex: `0000000000000000 00000049 ffffffff 02 3b0118c9 0000 00000002
			0000018bcfe56800 0000018bcfe56801 ffffffffffffffff ffff ffffffff 00000003
			0c 00 00 00 01 01 00
			0c 00 02 02 00 00 00
			12 00 01 04 01 02 78 02 00 01`,
		build: func(w *Builder) {
			w.Append(1700000000000, nil, nil, nil)
			w.Append(1700000000001, []byte{}, []byte{}, nil)
			w.Append(1699999999999, nil, []byte("x"), []Header{{"", nil}})
		},
	},
	{
		name: "a transaction's",
		hex: `0000000000000000 00000039 ffffffff 02 51fa078e 0010 00000000
			0000000000000001 0000000000000001 000000000000002a 0007 00000009 00000001
			0e 00 00 00 01 02 61 00`,
		build: func(w *Builder) {
			w.SetProducer(42, 7, 9, true)
			w.Append(1, nil, []byte("a"), nil)
		},
	},
}

// kraftBatch is the first batch of a metadata log that a Kafka 3 broker wrote.
const kraftBatch = `0000000000000000 0000004f 00000001 02 b069457c 0000 00000000
	00000191e05af818 00000191e05af818 ffffffffffffffff ffff ffffffff 00000001
	3a 00 00 00 01 2e 010c00116d657461646174612e76657273696f6e001400 00`

// compressedBatches all hold three records with key "key" and value eight times
// "polylog ". gzip, lz4 and zstd are those tools' own output, snappy is written
// by hand.
var compressedBatches = []struct {
	name  string
	codec Codec
	hex   string
}{
	{"gzip", Gzip, `
			000000000000000000000067ffffffff02477e58ed0001000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffffffffff00000003
			1f8b08000000000002039bc2c8c0c0c0969d5ad9c058909f5399939fae402ecd3085918189897a66b1b050c92c0017a9
			7041e4000000`},
	{"lz4", LZ4, `
			00000000000000000000006effffffff02c35b6b7e0003000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffffffffff00000003
			04224d186040822e000000ff049401000000066b65798001706f6c796c6f67200800256f0094010002024c00372f0404
			4c002f506c6f67200000000000`},
	{"lz4 with checksums", LZ4, `
			000000000000000000000076ffffffff022a69d85b0003000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffffffffff00000003
			04224d187440bd2e000000ff049401000000066b65798001706f6c796c6f67200800256f0094010002024c00372f0404
			4c002f506c6f672000a39c9234000000006f6d5856`},
	{"zstd", Zstd, `
			000000000000000000000065ffffffff0265d0a6250004000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffffffffff00000003
			28b52ffd04583d0100d89401000000066b65798001706f6c796c6f6720009401000202040403000428be27a065779630
			300c74cd`},
	{"zstd 19", Zstd, `
			000000000000000000000061ffffffff02b3f47d610004000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffffffffff00000003
			28b52ffd00683d0100d89401000000066b65798001706f6c796c6f6720009401000202040403000428be27a0659f370c`},
	{"snappy", Snappy, `
			00000000000000000000007cffffffff028dd8921b0002000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffffffffff00000003
			e401489401000000066b65798001706f6c796c6f6720de08004c009401000202066b65798001706f6c796c6f6720de08
			004c009401000404066b65798001706f6c796c6f6720de08000000`},
	{"xerial", Snappy, `
			000000000000000000000134ffffffff02fbb6a56c0002000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffffffffff00000003
			82534e415050590000000001000000010000006764f0639401000000066b65798001706f6c796c6f6720706f6c796c6f
			6720706f6c796c6f6720706f6c796c6f6720706f6c796c6f6720706f6c796c6f6720706f6c796c6f6720706f6c796c6f
			6720009401000202066b65798001706f6c796c6f6720706f6c796c000000848001f07f6f6720706f6c796c6f6720706f
			6c796c6f6720706f6c796c6f6720706f6c796c6f6720706f6c796c6f6720706f6c796c6f6720009401000404066b6579
			8001706f6c796c6f6720706f6c796c6f6720706f6c796c6f6720706f6c796c6f6720706f6c796c6f6720706f6c796c6f
			6720706f6c796c6f6720706f6c796c6f672000`},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// restamp makes the CRC of damaged bytes right again, so that what is behind the
// checksum is tested.
func restamp(b Batch) Batch {
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return b
}

// withRecords is batch b with other bytes for records, closed properly.
func withRecords(b Batch, records ...byte) Batch {
	out := append(append(Batch(nil), b[:HeaderSize]...), records...)
	out.seal()
	return out
}

// seen is a record as a test compares it.
type seen struct {
	Offset, Timestamp int64
	Key, Value        []byte
	Headers           []Header
}

func readAll(t testing.TB, b Batch, limit int) []seen {
	t.Helper()
	var r Reader
	if err := r.Reset(b, limit); err != nil {
		t.Fatal(err)
	}
	var all []seen
	for r.Next() {
		rec := r.Record()
		s := seen{Offset: rec.Offset, Timestamp: rec.Timestamp, Key: clone(rec.Key), Value: clone(rec.Value)}
		for name, value := range rec.Headers() {
			s.Headers = append(s.Headers, Header{name, clone(value)})
		}
		all = append(all, s)
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
}

// readFranz reads an uncompressed batch by franz-go's codec.
func readFranz(t testing.TB, b Batch) []seen {
	t.Helper()
	var batch kmsg.RecordBatch
	if err := batch.ReadFrom(b); err != nil {
		t.Fatal("franz-go:", err)
	}
	var all []seen
	rest := batch.Records
	for range batch.NumRecords {
		size, n := binary.Varint(rest)
		var rec kmsg.Record
		if err := rec.ReadFrom(rest[:n+int(size)]); err != nil {
			t.Fatal("franz-go:", err)
		}
		rest = rest[n+int(size):]
		s := seen{
			Offset: batch.FirstOffset + int64(rec.OffsetDelta), Timestamp: batch.FirstTimestamp + rec.TimestampDelta64,
			Key: rec.Key, Value: rec.Value,
		}
		for _, h := range rec.Headers {
			s.Headers = append(s.Headers, Header(h))
		}
		all = append(all, s)
	}
	if len(rest) != 0 {
		t.Fatal("franz-go: bytes left")
	}
	return all
}

// clone keeps nil and empty apart.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}
