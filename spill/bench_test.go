package spill_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/spill"
)

// BenchmarkSend sends 100 bytes, many at once, which waits for a sync: the broker's
// or the producer's own. BenchmarkSend/drained is what goes out after an outage.
func BenchmarkSend(b *testing.B) {
	server, err := embed.Start(embed.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	there := polylog.WithDialer(server.Dial)
	away := polylog.WithDialer(func(context.Context) (net.Conn, error) { return nil, errAway })
	open := func(b *testing.B, dir string, dialer polylog.Option) *spill.Producer {
		p, err := spill.Open(dir, "polylog://test", spill.Options{Patience: time.Minute, Connect: []polylog.Option{dialer}})
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	put := func(b *testing.B, p *spill.Producer) {
		m := polylog.NewBytes(make([]byte, 100))
		done := make(chan error, b.N)
		for range b.N {
			if err := p.SendAsync(b.Context(), spill.Queue("q"), m, func(_ spill.Receipt, err error) { done <- err }); err != nil {
				b.Fatal(err)
			}
		}
		for range b.N {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
	for name, dialer := range map[string]polylog.Option{"there": there, "away": away} {
		b.Run(name, func(b *testing.B) {
			p := open(b, b.TempDir(), dialer)
			b.ReportAllocs()
			b.ResetTimer()
			put(b, p)
			b.StopTimer()
			if err := p.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
	b.Run("drained", func(b *testing.B) {
		dir := b.TempDir()
		p := open(b, dir, away)
		put(b, p)
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.ResetTimer()
		p = open(b, dir, there)
		if err := p.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	})
}
