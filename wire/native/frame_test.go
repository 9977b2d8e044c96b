package native_test

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog/wire/native"
)

// every has one frame of each type with every field set.
var every = []native.Frame{
	&native.Hello{Version: 1, ClientID: "shop", User: "u", Password: "p", Agent: "go/1", HeartbeatMS: 10000},
	&native.OpenSession{Request: 1, Session: 2, Mode: native.AckIndividual},
	&native.CloseSession{Request: 1, Session: 2},
	&native.Fetch{Request: 1, Destination: "orders", Max: 1 << 20, WaitMS: 500, Positions: []native.Position{{Partition: 1, Offset: 1 << 40}, {Partition: 2}}},
	&native.Branch{Request: 1, Session: 2, Verb: native.VerbBranchStart, Body: []byte{0x80}},
	&native.Group{Request: 1, Verb: native.VerbHeartbeat, Body: []byte{0x80}},
	&native.EndWork{Request: 1, Session: 2, Commit: true},
	&native.Flow{Request: 1, Session: 2, Start: true},
	&native.Resolve{Request: 1, Name: "orders", Kind: native.KindQueue},
	&native.Send{Request: 1, Session: 2, Handle: 3, Partition: 4, Unsynced: true},
	&native.Subscribe{Request: 1, Session: 2, Consumer: 3, Destination: "orders", DestinationKind: native.KindTopic, Kind: native.SubscribeSharedDurable, Name: "audit", Selector: "a = 1", NoLocal: true, Exclusive: true, Start: native.StartTime, StartAt: -5, Credit: 100},
	&native.Credit{Consumer: 1, Messages: 2, Drain: true},
	&native.Settle{Request: 1, Consumer: 2, Kind: native.OutcomeReject, DelayMS: -1, Uncounted: true, Awaited: true, Reason: "bad", Spans: []native.Span{{Partition: 1, Offset: 1 << 40, Acquisition: 3, Count: 4}, {Offset: 9, Acquisition: 8, Count: 1}}},
	&native.CloseConsumer{Request: 1, Consumer: 2},
	&native.Unsubscribe{Request: 1, Name: "audit", Shared: true},
	&native.Browse{Request: 1, Destination: "orders", Selector: "b = 2", After: []byte{1}, Max: 10},
	&native.Temporary{Request: 1, Kind: native.KindQueue},
	&native.Admin{Request: 1, Verb: native.VerbQueuePurge, Body: []byte{0x80}},
	&native.Ping{Number: 7}, &native.Pong{Number: 7}, &native.Bye{},
	&native.Welcome{Version: 1, Broker: "b", Connection: 5, Epoch: 6, MaxFrame: 7, HeartbeatMS: 8},
	&native.OK{Request: 1, Body: []byte("x")},
	&native.Fail{Request: 1, Error: native.Error{Code: native.CodeFull, Message: "no space"}},
	&native.Confirm{Request: 1, Base: 1 << 50},
	&native.Deliver{Consumer: 1, Partition: 2, FirstAcquisition: 3, Counts: []byte{0, 1, 0, 2}},
	&native.Drained{Consumer: 1},
	&native.Check{Group: "orders", ID: "17", Checks: 2, Body: []byte{0x90}},
	&native.Joined{Consumer: 1, Member: 3, Destination: "orders.eu"},
	&native.ConsumerClosed{Consumer: 1, Error: native.Error{Code: native.CodeConflict, Message: "gone"}},
	&native.GoAway{Message: "drain"},
}

func TestEveryFrameComesBack(t *testing.T) {
	var stream []byte
	w := native.NewEncoder()
	payload := []byte("payload")
	for _, f := range every {
		stream = w.Append(stream, f, payload)
	}
	r, d := native.NewReader(bytes.NewReader(stream), native.DefaultMaxFrame), native.NewDecoder()
	for _, want := range every {
		typ, body, err := r.Next()
		if err != nil || typ != want.Type() {
			t.Fatalf("%s: got %s, %v", want.Type(), typ, err)
		}
		got := reflect.New(reflect.TypeOf(want).Elem()).Interface().(native.Frame)
		rest, err := d.Decode(body, got)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) || !bytes.Equal(rest, payload) {
			t.Errorf("sent %+v, got %+v with payload %q", want, got, rest)
		}
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestDamagedFramesAreRefused(t *testing.T) {
	w, d := native.NewEncoder(), native.NewDecoder()
	for _, f := range every {
		body := w.Append(nil, f, nil)[5:]
		for cut := range body {
			got := reflect.New(reflect.TypeOf(f).Elem()).Interface().(native.Frame)
			if _, err := d.Decode(body[:cut], got); err == nil {
				t.Errorf("%s cut to %d of %d bytes was taken", f.Type(), cut, len(body))
			}
		}
	}
}

// A length that lies costs what arrives, not what it claims.
func TestReaderBoundsMemory(t *testing.T) {
	r := native.NewReader(strings.NewReader("\x7f\xff\xff\xff"), native.DefaultMaxFrame)
	if _, _, err := r.Next(); err == nil {
		t.Error("a frame of 2 GiB was taken")
	}
	lying := append([]byte{0, 0x1f, 0xff, 0xff, 6}, make([]byte, 10)...)
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			native.NewReader(bytes.NewReader(lying), native.DefaultMaxFrame).Next()
		}
	}).AllocedBytesPerOp()
	if allocated > 600<<10 {
		t.Errorf("a frame that claims 2 MiB and brings 10 bytes cost %d bytes", allocated)
	}
}

// A frame larger than the read buffer comes whole, and those around it too.
func TestLargeFrames(t *testing.T) {
	w := native.NewEncoder()
	big := bytes.Repeat([]byte("0123456789"), 100<<10)
	var stream []byte
	for range 3 {
		stream = w.Append(stream, &native.Ping{Number: 1}, nil)
		stream = w.Append(stream, &native.Send{Request: 2}, big)
	}
	r, d := native.NewReader(iotestOneByteLess{bytes.NewReader(stream)}, native.DefaultMaxFrame), native.NewDecoder()
	for i := range 6 {
		typ, body, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			payload, err := d.Decode(body, &native.Send{})
			if err != nil || !bytes.Equal(payload, big) {
				t.Fatalf("frame %d (%s): %d bytes, %v", i, typ, len(payload), err)
			}
		}
	}
}

// iotestOneByteLess reads in odd pieces.
type iotestOneByteLess struct{ r io.Reader }

func (o iotestOneByteLess) Read(p []byte) (int, error) {
	if len(p) > 1 {
		p = p[:len(p)-1]
	}
	return o.r.Read(p)
}

func FuzzFrame(f *testing.F) {
	w := native.NewEncoder()
	for _, frame := range every {
		f.Add(w.Append(nil, frame, []byte("tail")))
	}
	types := map[native.Type]reflect.Type{}
	for _, frame := range every {
		types[frame.Type()] = reflect.TypeOf(frame).Elem()
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r, d := native.NewReader(bytes.NewReader(stream), native.MaxHelloFrame), native.NewDecoder()
		for {
			typ, body, err := r.Next()
			if err != nil {
				return
			}
			goType, ok := types[typ]
			if !ok {
				continue
			}
			frame := reflect.New(goType).Interface().(native.Frame)
			payload, err := d.Decode(body, frame)
			if err != nil {
				continue
			}
			again := w.Append(nil, frame, payload)
			second := reflect.New(goType).Interface().(native.Frame)
			if _, err := d.Decode(again[5:], second); err != nil || !reflect.DeepEqual(frame, second) {
				t.Fatalf("%s: %+v came back as %+v, %v", typ, frame, second, err)
			}
		}
	})
}

func BenchmarkDeliverRoundTrip(b *testing.B) {
	w, d := native.NewEncoder(), native.NewDecoder()
	f := &native.Deliver{Consumer: 3, Partition: 1, FirstAcquisition: 1 << 30}
	var buf []byte
	b.ReportAllocs()
	for range b.N {
		buf = w.Append(buf[:0], f, nil)
		if _, err := d.Decode(buf[5:], f); err != nil {
			b.Fatal(err)
		}
	}
}
