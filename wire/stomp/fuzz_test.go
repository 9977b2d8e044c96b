package stomp_test

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/stomp"
)

// FuzzPeer has a peer send whatever it likes behind its CONNECT: the door stays open
// for others.
func FuzzPeer(f *testing.F) {
	for _, seed := range []string{
		"SEND\ndestination:/queue/q\nreceipt:1\n\nx\x00",
		"SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\n\n\x00SEND\ndestination:/queue/q\n\nx\x00ACK\nid:d1-1\n\n\x00UNSUBSCRIBE\nid:1\n\n\x00",
		"BEGIN\ntransaction:t\n\n\x00SEND\ntransaction:t\ndestination:/queue/q\n\nx\x00COMMIT\ntransaction:t\nreceipt:1\n\n\x00DISCONNECT\nreceipt:2\n\n\x00",
		"SUBSCRIBE\nid:1\ndestination:/topic/t.>\nselector:a = 1\n\n\x00SEND\ndestination:/topic/t.a\na:1\n\nx\x00",
		"SUBSCRIBE\nid:1\nbrowser:true\ndestination:/queue/q\n\n\x00SUBSCRIBE\nid:2\ndestination:/temp-queue/t\n\n\x00",
	} {
		f.Add(seed)
	}
	d := open(f, stomp.Options{MaxSubscriptions: 16, MaxTemporary: 16})
	honest := d.connect("1.2", "")
	var mu sync.Mutex
	f.Fuzz(func(t *testing.T, text string) {
		near, far := wire.Pipe()
		d.listener.ServeConn(far)
		_ = near.SetDeadline(time.Now().Add(20 * time.Second))
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(io.Discard, near) })
		_, _ = io.WriteString(near, "CONNECT\naccept-version:1.2\n\n\x00"+text) // it may have been cut off
		near.Close()
		reading.Wait()
		mu.Lock()
		defer mu.Unlock()
		honest.t = t
		_ = honest.conn.SetDeadline(time.Now().Add(20 * time.Second))
		honest.receipt("SEND\ndestination:/queue/honest\n\nx")
	})
}
