package polylog_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// The benchmarks count the broker in: it runs in the same process.

// BenchmarkPutAsync pipelines messages of 1 KiB.
func BenchmarkPutAsync(b *testing.B) {
	q := polylog.QueueOf[[]byte](polylogtest.Start(b).Session(), "bench")
	body := make([]byte, 1024)
	var failed atomic.Int64
	done := func(_ polylog.Receipt, err error) {
		if err != nil {
			failed.Add(1)
		}
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := q.PutAsync(b.Context(), body, done); err != nil {
			b.Fatal(err)
		}
	}
	if err := q.Session().Flush(b.Context()); err != nil || failed.Load() > 0 {
		b.Fatal(err, failed.Load())
	}
}

// BenchmarkPut has one message of 1 KiB in flight.
func BenchmarkPut(b *testing.B) {
	q := polylog.QueueOf[[]byte](polylogtest.Start(b).Session(), "bench")
	body := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := q.Put(b.Context(), body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConsume drains a queue of messages of 1 KiB that is filled
// beforehand, and acknowledges each.
func BenchmarkConsume(b *testing.B) {
	broker := polylogtest.Start(b)
	q := polylog.QueueOf[[]byte](broker.Session(polylog.IndividualAcknowledge), "bench")
	body := make([]byte, 1024)
	for range b.N {
		if err := q.PutAsync(b.Context(), body, nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := q.Session().Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for d, err := range q.Consume(b.Context()) {
		if err != nil {
			b.Fatal(err)
		}
		if err := d.AckAsync(); err != nil {
			b.Fatal(err)
		}
		if n++; n == b.N {
			break
		}
	}
}

// BenchmarkW4 has 8 producers and 8 consumers on a connection each, with
// individual acknowledgements.
func BenchmarkW4(b *testing.B) {
	broker := polylogtest.Start(b)
	body := make([]byte, 1024)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var seen atomic.Int64
	finished := make(chan error, 16)
	for i := range 8 {
		consumer := polylog.QueueOf[[]byte](session(b, broker.Connect(), polylog.IndividualAcknowledge), "bench")
		go func() {
			for d, err := range consumer.Consume(ctx) {
				if err != nil {
					if errors.Is(err, context.Canceled) {
						err = nil
					}
					finished <- err
					return
				}
				if err := d.AckAsync(); err != nil {
					finished <- err
					return
				}
				if seen.Add(1) == int64(b.N) {
					cancel()
				}
			}
		}()
		producer := polylog.QueueOf[[]byte](session(b, broker.Connect()), "bench")
		n := b.N / 8
		if i == 0 {
			n += b.N % 8
		}
		go func() {
			for range n {
				if err := producer.PutAsync(b.Context(), body, nil); err != nil {
					finished <- err
					return
				}
			}
			finished <- producer.Session().Flush(b.Context())
		}()
	}
	for range 16 {
		if err := <-finished; err != nil {
			b.Fatal(err)
		}
	}
}
