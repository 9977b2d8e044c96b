package amqp_test

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/amqp"
	"github.com/polylog-mq/polylog/wire/amqp/codec"
)

// FuzzPeer has a peer send whatever it likes behind a begin: the door stays open for
// others.
func FuzzPeer(f *testing.F) {
	frames := func(all ...[]byte) (b []byte) {
		for _, one := range all {
			b = append(b, one...)
		}
		return b
	}
	frame := func(p codec.Performative, payload ...byte) []byte {
		b, at := codec.BeginFrame(nil, codec.FrameAMQP, 0)
		return codec.EndFrame(append(p.Append(b), payload...), at)
	}
	sender := frame(&codec.Attach{Name: "s", Handle: 0, Source: &codec.Source{}, Target: &codec.Target{Address: codec.SomeString("q")}})
	receiver := frame(&codec.Attach{Name: "r", Handle: 1, Role: codec.RoleReceiver, Source: &codec.Source{Address: codec.SomeString("q")}, Target: &codec.Target{}})
	coordinator := frame(&codec.Attach{Name: "c", Handle: 2, Source: &codec.Source{}, Coordinator: &codec.Coordinator{}})
	transfer := frame(&codec.Transfer{Handle: 0, DeliveryID: codec.Some(0), DeliveryTag: []byte{1}}, codec.AppendText(nil, []byte("x"))...)
	declare := frame(&codec.Transfer{Handle: 2, DeliveryID: codec.Some(1), DeliveryTag: []byte{1}},
		codec.AppendBodyValue(nil, &codec.Described{Descriptor: uint64(0x31), Value: codec.List{}})...)
	credit := frame(&codec.Flow{NextIncomingID: codec.Some(0), IncomingWindow: 10, Handle: codec.Some(1), DeliveryCount: codec.Some(0), LinkCredit: codec.Some(10), Drain: true})
	settle := frame(&codec.Disposition{Role: codec.RoleReceiver, Last: 5, Settled: true, State: codec.State{Kind: codec.Accepted, Transactional: true, TxnID: []byte("1")}})
	detach := frame(&codec.Detach{Handle: 1, Closed: true})
	f.Add(frames(sender, transfer))
	f.Add(frames(receiver, credit, settle, detach))
	f.Add(frames(sender, receiver, coordinator, transfer, credit, declare, settle, detach))
	f.Add(frames(frame(&codec.End{}), frame(&codec.Begin{IncomingWindow: 1}), frame(&codec.Close{})))

	d := open(f, amqp.Options{MaxLinks: 16, MaxSessions: 16, MaxTemporary: 16, MaxUnfinished: 1 << 20})
	honest := d.connect("honest")
	honest.attachSender(0, "honest")
	opening := frames(codec.HeaderAMQP[:], frame(&codec.Open{ContainerID: "", MaxFrameSize: 512, ChannelMax: 10}), frame(&codec.Begin{IncomingWindow: 100, OutgoingWindow: 100}))
	var mu sync.Mutex
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := wire.Pipe()
		d.listener.ServeConn(far)
		_ = near.SetDeadline(time.Now().Add(maxWait))
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(io.Discard, near) })
		_, _ = near.Write(append(opening[:len(opening):len(opening)], b...)) // it may have been cut off
		near.Close()
		reading.Wait()
		mu.Lock()
		defer mu.Unlock()
		honest.t = t
		_ = honest.conn.SetReadDeadline(time.Now().Add(maxWait))
		if s := honest.send(0, text("x")); s.Kind != codec.Accepted {
			t.Errorf("%+v", s)
		}
	})
}
