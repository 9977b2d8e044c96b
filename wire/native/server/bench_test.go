package server_test

import (
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
	"github.com/polylog-mq/polylog/wire/native/server"
)

// window is how many sends or messages are under way in the benchmarks.
const window = 256

// sender sends in windows and reads confirms, without allocating.
type sender struct {
	*peer
	frames  []byte
	confirm native.Confirm
}

func newSender(d *doors, queue string) *sender {
	s := &sender{peer: d.hello()}
	s.conn.SetDeadline(time.Time{})
	q := s.resolve(queue, native.KindQueue)
	value := make([]byte, 1024)
	for range window {
		s.frames = s.encoder.Append(s.frames, &native.Send{Request: 7, Session: 1, Handle: q.Handle}, batch(string(value)))
	}
	return s
}

// round sends a window and waits for its confirms.
func (s *sender) round() {
	if _, err := s.conn.Write(s.frames); err != nil {
		s.t.Fatal(err)
	}
	for n := 0; n < window; {
		typ, body, err := s.reader.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		switch typ {
		case native.TypeConfirm:
			if _, err := s.decoder.Decode(body, &s.confirm); err != nil {
				s.t.Fatal(err)
			}
			n++
		case native.TypePing:
		default:
			s.t.Fatalf("got %s", typ)
		}
	}
}

// taker takes a window, settles it in one frame, and gives the credit back.
type taker struct {
	*peer
	deliver native.Deliver
	settle  native.Settle
	credit  native.Credit
}

func newTaker(d *doors, queue string) *taker {
	k := &taker{peer: d.hello()}
	k.conn.SetDeadline(time.Time{})
	k.subscribe(1, window, queue)
	return k
}

func (k *taker) round() {
	k.settle = native.Settle{Consumer: 1, Spans: k.settle.Spans[:0]}
	for n := 0; n < window; {
		typ, body, err := k.reader.Next()
		if err != nil {
			k.t.Fatal(err)
		}
		switch typ {
		case native.TypeDeliver:
			payload, err := k.decoder.Decode(body, &k.deliver)
			if err != nil {
				k.t.Fatal(err)
			}
			span := spanOf(&k.deliver, payload)
			k.settle.Spans = append(k.settle.Spans, span)
			n += int(span.Count)
		case native.TypePing:
		default:
			k.t.Fatalf("got %s", typ)
		}
	}
	k.credit = native.Credit{Consumer: 1, Messages: window}
	k.put(&k.settle, nil)
	k.put(&k.credit, nil)
	k.flush()
}

func BenchmarkSend(b *testing.B) {
	s := newSender(open(b, newSmallOnDisk(b), server.Options{}, wire.Limits{}), "q")
	b.SetBytes(1024)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += window {
		s.round()
	}
}

func BenchmarkSendDeliverSettle(b *testing.B) {
	d := open(b, newSmallOnDisk(b), server.Options{}, wire.Limits{})
	s, k := newSender(d, "q"), newTaker(d, "q")
	b.SetBytes(1024)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += window {
		s.round()
		k.round()
	}
}

// In steady state a message costs no allocation of ours: not its Send, its
// Confirm, its Deliver, its Settle, nor its Credit. The bound leaves room for
// what the log and the view do once for many messages.
func TestNoAllocationPerMessage(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	d := open(t, newSmallOnDisk(t), server.Options{}, wire.Limits{})
	s, k := newSender(d, "q"), newTaker(d, "q")
	for range 100 {
		s.round()
		k.round()
	}
	perRound := testing.AllocsPerRun(200, func() {
		s.round()
		k.round()
	})
	if perMessage := perRound / window; perMessage > 0.1 {
		t.Errorf("%.2f allocations for a message", perMessage)
	}
}

// spanOf is what a Deliver of a batch of consecutive records holds.
func spanOf(f *native.Deliver, payload []byte) native.Span {
	b := record.Batch(payload)
	first := b.LastOffset() + 1 - int64(b.Count())
	return native.Span{Partition: f.Partition, Offset: first, Acquisition: f.FirstAcquisition, Count: uint64(b.Count())}
}
