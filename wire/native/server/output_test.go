package server

import (
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/wire/native"
)

// narrow is a socket that takes a part of what is written in the writer's
// stead, while the next frame is appended.
type narrow struct{ write func() }

func (n narrow) Write(func(uintptr) bool) error  { n.write(); return nil }
func (narrow) Read(func(uintptr) bool) error     { return nil }
func (narrow) Control(fn func(fd uintptr)) error { return nil }

// TestOutputOrder has frames written by the writer and in its stead: all
// arrive, in order, the last after the output is closed.
func TestOutputOrder(t *testing.T) {
	peer, conn := net.Pipe()
	defer peer.Close()
	o := newOutput(1<<20, func() {}, conn, func() time.Duration { return 1 })
	const frames = 5000
	var next uint64 // of the goroutine that appends
	add := func() {
		if next < frames {
			o.append(&native.OK{Request: next, Body: make([]byte, rand.IntN(200))}, nil)
			next++
		}
	}
	parts := 0
	o.socket = narrow{func() {
		n := rand.IntN(len(o.direct) + 1)
		if _, err := conn.Write(o.direct[:n]); err != nil {
			t.Error(err)
		}
		if o.written = n; n < len(o.direct) {
			parts++
		}
		if rand.IntN(2) == 0 {
			add()
		}
	}}
	var running sync.WaitGroup
	running.Go(func() {
		defer conn.Close()
		if err := o.run(conn); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		for next < frames {
			switch add(); rand.IntN(3) {
			case 0:
				o.flush()
			case 1:
				for range 100 { // most likely the writer sleeps after that
					runtime.Gosched()
				}
				o.flushDirect()
			}
		}
		o.close()
	})
	r, d := native.NewReader(peer, 1<<20), native.NewDecoder()
	for i := range uint64(frames) {
		typ, body, err := r.Next()
		if err != nil || typ != native.TypeOK {
			t.Fatalf("frame %d: %s, %v", i, typ, err)
		}
		var f native.OK
		if _, err := d.Decode(body, &f); err != nil || f.Request != i {
			t.Fatalf("frame %d is %d, %v", i, f.Request, err)
		}
	}
	running.Wait()
	if parts == 0 {
		t.Error("nothing was written in part")
	}
}
