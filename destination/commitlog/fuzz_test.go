package commitlog

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
)

// The bytes of docs/format, used both ways.
const (
	headerBytes = "504c4a5200010000000000000000000701020304000000000000002a00000003000000004e49f7fb"
)

func TestFormats(t *testing.T) {
	h := fileHeader{use: 7, salt: 0x01020304, first: 42, epoch: 3}
	p := h.appendTo(nil)
	if got := hex.EncodeToString(p); got != headerBytes {
		t.Errorf("header %s", got)
	}
	if back, version, err := parseFileHeader(p); err != nil || version != 1 || back != h {
		t.Errorf("header %+v, version %d, %v", back, version, err)
	}
	body := appendOperation(nil, opSkip, logID(5), 99, 3)
	body = append(body, "abc"...)
	e := append(make([]byte, entryHeader), body...)
	sealEntry(e, len(body), h.seed(), 43, 41, 1)
	for len(e)%entryAlign != 0 {
		e = append(e, 0)
	}
	back, err := parseEntry(e, h.seed())
	if err != nil || back.sequence != 43 || back.synced != 41 || back.operations != 1 || back.size != len(e) {
		t.Errorf("entry %+v, %v", back, err)
	}
	err = operationsOf(back.body, back.operations, func(o operation) error {
		if want := (operation{opSkip, logID(5), 99, []byte("abc")}); !reflect.DeepEqual(o, want) {
			t.Errorf("operation %+v", o)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	other := h
	other.use++
	if _, err := parseEntry(e, other.seed()); err == nil {
		t.Error("an entry of another use is taken for one")
	}
	c := sampleCheckpoint()
	if got, err := parseCheckpoint(c.appendTo(nil)); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("checkpoint %+v, %v", got, err)
	}
}

func sampleCheckpoint() *checkpoint {
	return &checkpoint{
		clean: true, epoch: 4, mark: journalMark{use: 3, position: 8192, sequence: 10, synced: 9}, nextUse: 5,
		logs: []checkpointedLog{
			{id: logID(1), segmentBytes: 1 << 20, start: 5, end: 100, base: 50, size: 4000, dir: "a-0"},
			{id: logID(2), memory: true, segmentBytes: 1 << 10, end: 7, base: -1, dir: "b-0"},
		},
	}
}

func FuzzEntry(f *testing.F) {
	body := appendOperation(nil, opAppend, logID(1), 7, 2)
	body = append(body, 1, 2)
	e := append(make([]byte, entryHeader), body...)
	sealEntry(e, len(body), 1, 9, 8, 1)
	f.Add(e, uint32(1))
	f.Fuzz(func(t *testing.T, p []byte, seed uint32) {
		e, err := parseEntry(p, seed)
		if err != nil {
			return
		}
		again := bytes.Clone(p[:entryHeader+len(e.body)])
		sealEntry(again, len(e.body), seed, e.sequence, e.synced, e.operations)
		if _, err := parseEntry(again, seed); err != nil {
			t.Error("sealed again, it is none")
		}
		var back []byte
		if operationsOf(e.body, e.operations, func(o operation) error {
			back = appendOperation(back, o.kind, o.id, o.offset, len(o.payload))
			back = append(back, o.payload...)
			_, _, _ = parseCreate(o.payload)
			return nil
		}) == nil && len(back) != len(e.body) {
			t.Errorf("%d bytes of operations, %d written", len(e.body), len(back))
		}
	})
}

// FuzzOperations passes over the checksum, which a fuzzer seldom meets.
func FuzzOperations(f *testing.F) {
	f.Add(appendOperation(nil, opTruncate, logID(1), 7, 0), 1)
	f.Fuzz(func(t *testing.T, p []byte, n int) {
		count := 0
		_ = operationsOf(p, min(n, 100), func(operation) error { count++; return nil })
		if count*operationHeader > len(p) {
			t.Errorf("%d operations in %d bytes", count, len(p))
		}
	})
}

func FuzzFileHeader(f *testing.F) {
	f.Add(fileHeader{use: 1}.appendTo(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if h, _, err := parseFileHeader(p); err == nil && len(h.appendTo(nil)) != journalHeader {
			t.Error("length")
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	f.Add(sampleCheckpoint().appendTo(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if c, err := parseCheckpoint(p); err == nil {
			if again, err := parseCheckpoint(c.appendTo(nil)); err != nil || !reflect.DeepEqual(again, c) {
				t.Errorf("%+v became %+v, %v", c, again, err)
			}
		}
		_, _, _ = parseCheckpointedLog(p) // behind the checksum
	})
}

func FuzzIndex(f *testing.F) {
	f.Add(appendIndexEntries(nil, []indexEntry{{3, 0}, {9, 4200}}), int64(9000))
	f.Fuzz(func(t *testing.T, p []byte, size int64) {
		list, ok := parseIndex(p, size)
		if ok && !bytes.Equal(appendIndexEntries(nil, list), p) {
			t.Error("entries changed")
		}
		times, ok := parseTimeIndex(p)
		if ok && !bytes.Equal(appendTimeEntries(nil, times), p) {
			t.Error("times changed")
		}
		_, _ = parseSnapshot(p)
		_ = parseEpochs(p)
		_, _ = headerOf(p)
	})
}
