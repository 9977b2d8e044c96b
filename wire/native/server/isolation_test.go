package server_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
	"github.com/polylog-mq/polylog/wire/native/server"
)

// hostile is what connections do that mean harm, until stop is closed.
var hostile = map[string]func(d *doors, stop *atomic.Bool){
	"garbage": func(d *doors, stop *atomic.Bool) {
		for !stop.Load() {
			near, far := wire.Pipe()
			d.listener.ServeConn(far)
			near.Write([]byte(strings.Repeat("GET / HTTP/1.1\r\n", 10)))
			near.Close()
		}
	},
	"requests that fail": func(d *doors, stop *atomic.Bool) {
		p := d.hello()
		for !stop.Load() {
			for range 50 {
				p.put(&native.Resolve{Request: 9, Name: "absent"}, nil)
			}
			p.flush()
			for range 50 {
				p.next()
			}
		}
	},
	"asks and does not listen": func(d *doors, stop *atomic.Bool) {
		p := d.hello()
		p.conn.SetDeadline(time.Time{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			ping := p.encoder.Append(nil, &native.Ping{Number: 1}, nil)
			for {
				if _, err := p.conn.Write(ping); err != nil {
					return
				}
			}
		}()
		for !stop.Load() {
			time.Sleep(time.Millisecond)
		}
		p.conn.Close()
		<-done
	},
	"subscribes and does not read": func(d *doors, stop *atomic.Bool) {
		p := d.hello()
		q := p.resolve("flood", native.KindQueue)
		for range 20 {
			p.putAll(q.Handle, strings.Repeat("x", 60<<10))
		}
		p.subscribe(1, 1<<19, "flood")
		for !stop.Load() {
			time.Sleep(time.Millisecond)
		}
	},
}

// A hostile connection disturbs no other (reliability S6): what another sends
// is confirmed while it does its worst. The bound is wide, because machines
// that run tests are busy; what it finds is somebody who waits for a peer.
func TestHostileConnectionsDisturbNobody(t *testing.T) {
	for name, do := range hostile {
		t.Run(name, func(t *testing.T) {
			d := open(t, newSmall(t), server.Options{MaxOutgoing: 256 << 10}, wire.Limits{})
			good := d.hello()
			q := good.resolve("good", native.KindQueue)
			alone := worst(good, q.Handle)
			var stop atomic.Bool
			var others sync.WaitGroup
			for range 3 {
				others.Go(func() { do(d, &stop) })
			}
			time.Sleep(20 * time.Millisecond)
			beside := worst(good, q.Handle)
			stop.Store(true)
			others.Wait()
			t.Logf("95th percentile of a confirm: alone %v, beside them %v", alone, beside)
			if limit := max(50*alone, 250*time.Millisecond); beside > limit {
				t.Errorf("a confirm took %v, %v without them", beside, alone)
			}
		})
	}
}

// worst is the 95th percentile of the time from a send to its confirm.
func worst(p *peer, handle uint64) time.Duration {
	var took []time.Duration
	for range 100 {
		began := time.Now()
		p.putAll(handle, "x")
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[95]
}
