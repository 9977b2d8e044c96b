package wire

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
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
	o := new(Output)
	o.Init(1<<20, func() {}, conn, func() time.Duration { return 1 })
	const frames = 5000
	var next uint64 // of the goroutine that appends
	add := func() {
		if next < frames {
			b, _ := o.Begin()
			length := rand.IntN(200)
			b = binary.BigEndian.AppendUint64(append(b, byte(length)), next)
			b = append(b, make([]byte, length)...)
			switch rand.IntN(3) {
			case 0:
				o.EndConfirms(b)
			case 1:
				o.EndDelivery(b)
			default:
				o.End(b)
			}
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
		if err := o.Run(conn); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		for next < frames {
			switch add(); rand.IntN(3) {
			case 0:
				o.Flush()
			case 1:
				for range 100 { // most likely the writer sleeps after that
					runtime.Gosched()
				}
				o.FlushDirect()
			}
		}
		o.Close()
	})
	head, body := make([]byte, 9), make([]byte, 200)
	for i := range uint64(frames) {
		if _, err := io.ReadFull(peer, head); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if _, err := io.ReadFull(peer, body[:head[0]]); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if got := binary.BigEndian.Uint64(head[1:]); got != i {
			t.Fatalf("frame %d is %d", i, got)
		}
	}
	running.Wait()
	if parts == 0 {
		t.Error("nothing was written in part")
	}
}
