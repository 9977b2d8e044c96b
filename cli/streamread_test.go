package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog"
)

// fakeStream yields records of two partitions in turn, each so long after the
// one before, and then waits.
type fakeStream struct {
	records   int
	every     time.Duration
	fails     error // behind them
	ends      bool  // behind them
	committed map[int32]int64
	commits   int
	refuses   error
}

func (f *fakeStream) read(ctx context.Context) streamRecords {
	return func(yield func(streamRecord, error) bool) {
		for i := range f.records {
			select {
			case <-time.After(f.every):
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
			if !yield(&polylog.Record[*polylog.Message]{Topic: "t", Partition: int32(i % 2), Offset: int64(i / 2)}, nil) {
				return
			}
		}
		switch {
		case f.fails != nil:
			yield(nil, f.fails)
		case !f.ends:
			<-ctx.Done()
			yield(nil, ctx.Err())
		}
	}
}

func (f *fakeStream) commit(_ context.Context, list ...streamRecord) error {
	f.commits++
	for _, record := range list {
		f.committed[record.Partition] = record.Offset + 1
	}
	return f.refuses
}

func (f *fakeStream) reader(out io.Writer, count int, timeout time.Duration) *streamReader {
	w := &recordWriter{
		messageWriter: (&run{stdout: out, output: formatTable}).newMessageWriter(false, false),
		fields:        []string{"partition", "offset"}, separator: ":",
		valueOf: func(streamRecord) (*polylog.Message, error) { return polylog.NewText(""), nil },
	}
	f.committed = map[int32]int64{}
	return &streamReader{records: f.read, commit: f.commit, count: count, timeout: timeout, out: w}
}

func TestStreamReader(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name    string
		stream  fakeStream
		count   int
		timeout time.Duration
		code    int
		printed int
		took    time.Duration
		commits int
	}{
		{"as many as asked for", fakeStream{records: 9, every: time.Millisecond}, 4, 0, exitOK, 4, 4 * time.Millisecond, 1},
		{"fewer", fakeStream{records: 3}, 4, 2 * time.Second, exitFewer, 3, 2 * time.Second, 1},
		{"up to the end", fakeStream{records: 3, ends: true}, 0, 0, exitOK, 3, 0, 1},
		{"fewer up to the end", fakeStream{records: 3, ends: true}, 4, 0, exitFewer, 3, 0, 1},
		{"interrupted", fakeStream{records: 3}, 0, 0, exitInterrupted, 3, time.Minute, 1},
		{"a record now and then", fakeStream{records: 3, every: 900 * time.Millisecond}, 0, time.Second, exitOK, 3, 3700 * time.Millisecond, 3},
		{"broken", fakeStream{records: 3, fails: broken}, 0, 0, exitFailure, 3, 0, 1},
		{"nothing", fakeStream{}, 0, time.Second, exitOK, 0, time.Second, 0},
		{"commit refused", fakeStream{records: 1, refuses: broken, ends: true}, 0, 0, exitFailure, 1, 0, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			v := c.stream.reader(&out, c.count, c.timeout)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			started := time.Now()
			err := v.run(ctx)
			lines := strings.Count(out.String(), "\n")
			if exitCode(err) != c.code || lines != c.printed || time.Since(started) != c.took || c.stream.commits != c.commits {
				t.Errorf("%s: %v, %d printed, %d commits, after %s", c.name, err, lines, c.stream.commits, time.Since(started))
			}
			total := int64(0)
			for _, offset := range c.stream.committed {
				total += offset
			}
			if total != int64(c.printed) {
				t.Errorf("%s: %d printed, and committed %v", c.name, c.printed, c.stream.committed)
			}
		})
	}
}

// What a reader waits for next is no reason to keep back what it has.
func TestStreamReaderFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read, write := io.Pipe()
		f := &fakeStream{records: 2, every: time.Hour}
		done := make(chan error)
		go func() { done <- f.reader(write, 2, 0).run(t.Context()) }()
		started := time.Now()
		line := make([]byte, 10)
		n, err := read.Read(line)
		if string(line[:n]) != "0:0\n" || time.Since(started) != time.Hour {
			t.Errorf("%q, %v, after %s", line[:n], err, time.Since(started))
		}
		go func() { _, _ = io.Copy(io.Discard, read) }()
		must(t, <-done)
		must(t, write.Close())
	})
}

// What could not be written is not committed.
func TestStreamReaderIntoBrokenPipe(t *testing.T) {
	f := &fakeStream{records: 8, ends: true}
	err := f.reader(&brokenPipe{left: 3}, 0, 0).run(t.Context())
	if exitCode(err) != exitBrokenPipe || f.commits != 0 {
		t.Errorf("%v, %d commits", err, f.commits)
	}
}

func TestRecordWriter(t *testing.T) {
	text := polylog.NewText("v\x00")
	text.Properties = map[string]any{"n": int32(3), "b": []byte{0xff}}
	tombstone := polylog.NewBytes(nil)
	record := &polylog.Record[*polylog.Message]{Topic: "t", Partition: 2, Offset: 7, Timestamp: time.UnixMilli(1).In(time.FixedZone("", 3600)), Key: []byte{0xfe}}
	for _, c := range []struct {
		fields string
		record streamRecord
		m      *polylog.Message
		want   string
	}{
		{"value", record, text, "v\x00\n"},
		{"key,value", record, text, "\xfe|v\x00\n"},
		{"headers,offset,topic,partition", record, text, "b=\xff,n=3|7|t|2\n"},
		{"timestamp", record, text, "1970-01-01T00:00:00.001Z\n"},
		{"key,value", &polylog.Record[*polylog.Message]{}, tombstone, "none|none\n"},
		{"key,value", &polylog.Record[*polylog.Message]{Key: []byte{}}, polylog.NewBytes([]byte{}), "|\n"},
	} {
		var out bytes.Buffer
		w := &recordWriter{
			messageWriter: (&run{stdout: &out, output: formatTable}).newMessageWriter(false, false),
			valueOf:       func(streamRecord) (*polylog.Message, error) { return c.m, nil },
			fields:        strings.Split(c.fields, ","), separator: "|", nullLiteral: "none",
		}
		must(t, w.write(c.record))
		must(t, w.end())
		if out.String() != c.want {
			t.Errorf("%s: %q, want %q", c.fields, out.String(), c.want)
		}
	}
	for name := range recordFields {
		if !strings.Contains(recordFieldNames, name) {
			t.Errorf("help does not name the field %s", name)
		}
	}
}

func TestParseStart(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for text, options := range map[string]int{"": 0, "end": 0, "beginning": 1, "0": 1, "12": 1, "-1h": 1, "2026-07-01": 1} {
		if got, err := parseStart(text, now); err != nil || len(got) != options {
			t.Errorf("%q: %d options, %v", text, len(got), err)
		}
	}
	for text, want := range map[string]string{"-3": "begin at 0", "begining": "did you mean beginning?", "soon": "write beginning"} {
		if _, err := parseStart(text, now); !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
