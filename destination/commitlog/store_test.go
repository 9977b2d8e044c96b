package commitlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/destination/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// batchOf makes a batch of count records whose bytes after the header are value: the log never looks into them.
func batchOf(value string, count int, timestamp int64) record.Batch {
	b := make([]byte, record.HeaderSize, record.HeaderSize+len(value))
	binary.BigEndian.PutUint32(b[8:], uint32(record.HeaderSize-12+len(value)))
	b[16] = 2
	binary.BigEndian.PutUint32(b[23:], uint32(count-1))
	binary.BigEndian.PutUint64(b[27:], uint64(timestamp))
	binary.BigEndian.PutUint64(b[35:], uint64(timestamp))
	binary.BigEndian.PutUint64(b[43:], ^uint64(0)) // no producer
	binary.BigEndian.PutUint16(b[51:], 0xffff)
	binary.BigEndian.PutUint32(b[53:], 0xffffffff)
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	b = append(b, value...)
	return sealed(b)
}

func sealed(b record.Batch) record.Batch {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return b
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func logID(n int) LogID {
	id := LogID{Partition: int32(n)}
	id.Topic[0] = byte(n)
	id.Topic[15] = 7
	return id
}

// small options make rolls, new journal files and checkpoints happen soon.
func small() Options {
	return Options{JournalFileBytes: 64 << 10, JournalFiles: 3, ReservedBytes: -1, Logger: quiet(), CheckpointInterval: time.Hour}
}

func open(t testing.TB, fs FS, o Options) *Store {
	t.Helper()
	s, err := Open(fs, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openLog(t testing.TB, s *Store, n int, c Config) *Log {
	t.Helper()
	l, err := s.OpenLog(logID(n), fmt.Sprintf("log%d-%d", n, n), c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// put appends and waits.
func put(t testing.TB, l *Log, batches ...record.Batch) int64 {
	t.Helper()
	w := make(waitFor, 1)
	base, err := l.Append(bytes.Join(asBytes(batches), nil), w)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-w; err != nil {
		t.Fatal(err)
	}
	return base
}

func asBytes(batches []record.Batch) (list [][]byte) {
	for _, b := range batches {
		list = append(list, b)
	}
	return list
}

// got is what is read: a batch's offset and value.
type got struct {
	base  int64
	value string
}

func readAll(t testing.TB, l *Log) (list []got) {
	t.Helper()
	list, err := readFrom(l, l.Start(), 4096)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func readFrom(l *Log, offset int64, max int) (list []got, err error) {
	var buf []byte
	for {
		if buf, err = l.Read(offset, max, buf[:0]); err != nil || len(buf) == 0 {
			return list, err
		}
		for rest := buf; len(rest) > 0; {
			b, r, err := record.Next(rest)
			if err != nil {
				return list, err
			}
			list = append(list, got{b.BaseOffset(), string(b[record.HeaderSize:])})
			offset, rest = b.NextOffset(), r
		}
	}
}

func TestAppendReadReopen(t *testing.T) {
	for _, memory := range []bool{false, true} {
		t.Run(fmt.Sprintf("memory=%t", memory), func(t *testing.T) {
			dir := t.TempDir()
			fs, err := DirFS(dir)
			if err != nil {
				t.Fatal(err)
			}
			c := Config{SegmentBytes: 20_000, Memory: memory}
			s := open(t, fs, small())
			l := openLog(t, s, 1, c)
			var want []got
			for i := range 300 {
				v := fmt.Sprintf("%04d%s", i, bytes.Repeat([]byte("x"), i))
				base := put(t, l, batchOf(v, 2, int64(1000+i)))
				if base != int64(2*i) {
					t.Fatalf("base %d of append %d", base, i)
				}
				want = append(want, got{base, v})
			}
			check := func(l *Log) {
				t.Helper()
				if l.Start() != 0 || l.End() != 600 || l.Stable() != 600 {
					t.Fatalf("start %d end %d stable %d", l.Start(), l.End(), l.Stable())
				}
				compare(t, readAll(t, l), want)
				for i := 0; i < len(want); i += 13 { // from every so many offsets, in both records of a batch
					for _, offset := range []int64{want[i].base, want[i].base + 1} {
						list, err := readFrom(l, offset, 1)
						if err != nil {
							t.Fatal(err)
						}
						if len(list) != len(want)-i || list[0] != want[i] {
							t.Fatalf("read from %d gives %d batches", offset, len(list))
						}
					}
				}
			}
			check(l)
			if n := len(l.Segments()); n < 3 {
				t.Fatalf("%d segments", n)
			}
			for range 2 {
				closeStore(t, s)
				if fs, err = DirFS(dir); err != nil {
					t.Fatal(err)
				}
				epoch := s.Epoch()
				s = open(t, fs, small())
				if r := s.Recovery(); !r.Clean || r.Entries != 0 || s.Epoch() != epoch+1 {
					t.Fatalf("recovery %+v, epoch %d after %d", r, s.Epoch(), epoch)
				}
				l = openLog(t, s, 1, c)
				check(l)
			}
			closeStore(t, s)
		})
	}
}

func compare(t testing.TB, have, want []got) {
	t.Helper()
	for i := range max(len(have), len(want)) {
		if i >= len(have) || i >= len(want) || have[i] != want[i] {
			h, w := "nothing", "nothing"
			if i < len(have) {
				h = fmt.Sprintf("%.40v", have[i])
			}
			if i < len(want) {
				w = fmt.Sprintf("%.40v", want[i])
			}
			t.Fatalf("batch %d of %d (want %d): %s, want %s", i, len(have), len(want), h, w)
		}
	}
}
