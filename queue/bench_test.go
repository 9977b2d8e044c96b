package queue

import (
	"fmt"
	"testing"

	"github.com/polylog-mq/polylog/destination/record"
)

// loop is a sink that acknowledges nothing by itself and remembers spans only.
type loop struct {
	spans []Span
	n     int
	ready chan struct{}
	want  int
}

func (l *loop) Deliver(d Delivery) {
	l.spans = append(l.spans, Span{Partition: d.Partition, Offset: d.Offset, Acquisition: d.FirstAcquisition, Count: int32(d.Records)})
	l.n += d.Records
	if l.n == l.want {
		l.ready <- struct{}{}
	}
}
func (*loop) Flush()                    {}
func (l *loop) Drained(*Consumer)       {}
func (l *loop) Closed(*Consumer, error) {}

// BenchmarkDispatch delivers and acknowledges what is in the log: one consumer,
// a stored batch of so many messages of 1,024 bytes, and spans as delivered.
// An op is a message.
func BenchmarkDispatch(b *testing.B) {
	for _, c := range []struct{ batch, credit int }{{64, 1024}, {1, 1024}, {64, 1}, {200, 10}} {
		b.Run(fmt.Sprintf("batch=%d/credit=%d", c.batch, c.credit), func(b *testing.B) { benchmarkDispatch(b, c.batch, c.credit) })
	}
}

func benchmarkDispatch(b *testing.B, size, credit int) {
	r := newRig(b)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	var builder record.Builder
	body := string(make([]byte, 1000))
	for range size {
		(&message{body: body}).appendTo(&builder, 0)
	}
	const total = 20_000
	for range total / size {
		_, _, err := v.Put(nil, 0, builder.Batch(), nil)
		must(b, err)
	}
	w := newWaiter()
	_, _, err := v.Put(nil, 0, builder.Batch(), w)
	must(b, err)
	w.wait(b)
	n := v.parts[0].p.Stable()
	l := &loop{ready: make(chan struct{}, 1)}
	c, err := v.Consume(ConsumerOptions{Holder: 1}, l)
	must(b, err)
	b.SetBytes(1024)
	b.ReportAllocs()
	b.ResetTimer()
	for done, at := 0, int64(0); done < b.N; {
		if at+int64(credit) > n {
			must(b, v.Seek(Start{Kind: StartBeginning}, nil))
			at = 0
		}
		l.want = l.n + credit
		c.Credit(credit)
		<-l.ready
		v.mu.Lock() // the turn is over
		spans := l.spans
		v.mu.Unlock()
		if err := v.Settle(1, spans, Outcome{}, nil); err != nil {
			b.Fatal(err)
		}
		l.spans = l.spans[:0]
		done, at = done+credit, at+int64(credit)
	}
}

// BenchmarkTurn is BenchmarkDispatch without goroutines: what the view itself
// costs for a message.
func BenchmarkTurn(b *testing.B) {
	r := newRig(b)
	v := r.view(r.destination("q"))
	defer r.store.Close()
	defer r.state.Close()
	defer v.Close()
	var builder record.Builder
	body := string(make([]byte, 1000))
	for range 64 {
		(&message{body: body}).appendTo(&builder, 0)
	}
	for range 300 {
		_, _, err := v.Put(nil, 0, builder.Batch(), nil)
		must(b, err)
	}
	w := newWaiter()
	_, _, err := v.Put(nil, 0, builder.Batch(), w)
	must(b, err)
	w.wait(b)
	r.work.Close()
	n := v.parts[0].p.Stable()
	l := &loop{ready: make(chan struct{}, 1)}
	c, err := v.Consume(ConsumerOptions{Holder: 1}, l)
	must(b, err)
	b.SetBytes(1024)
	b.ReportAllocs()
	b.ResetTimer()
	for done, at := 0, int64(0); done < b.N; {
		if at+1024 > n {
			must(b, v.Seek(Start{Kind: StartBeginning}, nil))
			at = 0
		}
		c.Credit(1024)
		v.run()
		if err := v.Settle(1, l.spans, Outcome{}, nil); err != nil {
			b.Fatal(err)
		}
		l.spans = l.spans[:0]
		done, at = done+1024, at+1024
	}
}
