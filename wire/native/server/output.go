package server

import (
	"net"
	"time"

	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/native"
)

// output is a connection's outgoing side.
type output struct {
	wire.Output

	// What follows is of who is between Begin and End.
	encoder *native.Encoder
	// The frames of the hot path, reused: what is passed to the encoder
	// through an interface would otherwise be allocated each time.
	confirm native.Confirm
	ok      native.OK
	deliver native.Deliver
	counts  []byte
}

func newOutput(limit int, choke func(), conn net.Conn, now func() time.Duration) *output {
	o := &output{encoder: native.NewEncoder()}
	o.Init(limit, choke, conn, now)
	return o
}

// append appends one frame. The writer is not woken: Flush does that.
func (o *output) append(f native.Frame, payload []byte) {
	if b, ok := o.Begin(); ok {
		o.End(o.encoder.Append(b, f, payload))
	}
}

// fail appends a Fail.
func (o *output) fail(request uint64, err error) {
	o.append(&native.Fail{Request: request, Error: refusal(err)}, nil)
}

// deliverBatch appends a Deliver. It is called under a view's lock.
func (o *output) deliverBatch(consumer uint64, d queue.Delivery) {
	b, ok := o.Begin()
	if !ok {
		return
	}
	o.counts = o.counts[:0]
	for _, n := range d.Counts {
		o.counts = append(o.counts, byte(n>>8), byte(n))
	}
	o.deliver = native.Deliver{
		Consumer: consumer, Partition: uint64(d.Partition), FirstAcquisition: d.FirstAcquisition, Counts: o.counts,
	}
	o.EndDelivery(o.encoder.Append(b, &o.deliver, d.Batch))
}
