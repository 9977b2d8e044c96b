package server_test

import (
	"io"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
	"github.com/polylog-mq/polylog/wire/native/server"
)

// Whatever a peer sends, the server answers or ends the connection, lets go of
// everything, and goes on serving another.
func FuzzConnection(f *testing.F) {
	w := native.NewEncoder()
	hello := w.Append(nil, &native.Hello{Version: native.Version, ClientID: "fuzz"}, nil)
	session := w.Append(hello, &native.OpenSession{Request: 1, Session: 1}, nil)
	ready := append([]byte(nil), session...)
	ready = w.Append(ready, &native.Resolve{Request: 2, Name: "q", Kind: native.KindQueue}, nil)
	ready = w.Append(ready, &native.Send{Request: 3, Session: 1, Handle: 1}, batch("x"))
	ready = w.Append(ready, &native.Subscribe{Request: 4, Session: 1, Consumer: 1, Destination: "q", DestinationKind: native.KindQueue, Credit: 5}, nil)
	for _, frame := range everything() {
		f.Add(w.Append(nil, frame, nil))
		f.Add(w.Append(append([]byte(nil), hello...), frame, nil))
		f.Add(w.Append(append([]byte(nil), session...), frame, batch("x")))
		f.Add(w.Append(append([]byte(nil), ready...), frame, nil))
	}
	b := newSmall(f)
	d := open(f, b, server.Options{MaxFrame: 64 << 10, MaxSessions: 4, MaxConsumers: 4, MaxTemporary: 2, MaxHandles: 4}, wire.Limits{})
	other := d.hello()
	f.Fuzz(func(t *testing.T, stream []byte) {
		near, far := wire.Pipe()
		d.listener.ServeConn(far)
		read := make(chan struct{})
		go func() { io.Copy(io.Discard, near); close(read) }()
		near.SetWriteDeadline(time.Now().Add(time.Second))
		near.Write(stream)
		near.Write(w.Append(nil, &native.Bye{}, nil))
		near.Close()
		<-read
		other.t = t
		other.conn.SetDeadline(time.Now().Add(10 * time.Second))
		other.send(&native.Ping{Number: 3}, nil)
		expect[native.Pong](other)
		eventually(t, "the connection has ended", func() bool { return d.server.Connections() == 1 })
	})
}
