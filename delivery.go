package polylog

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire/native"
)

// Delivery is one message that was delivered and waits to be settled. What
// settles it depends on the session's mode: in AutoAcknowledge and
// DupsOKAcknowledge the end of the loop's body, in ClientAcknowledge an Ack of
// any delivery settles all that the session has delivered, in Transacted the
// commit does, and in IndividualAcknowledge each is settled by its own. Its methods may be called
// by several goroutines; the first that settles it wins, and the others get
// ErrStale.
type Delivery[T any] struct {
	Value T // a []byte shares memory with the messages that came with it
	delivery
}

// Message returns the message with its headers and properties, or nil if they
// cannot be read. It must not be changed.
func (d *Delivery[T]) Message() *Message { return d.delivery.Message() }

// Ack acknowledges and waits until that is confirmed, which means on the
// broker's disk: the message will not come again. In ClientAcknowledge it is
// Session.Acknowledge. It fails with ErrStale if the delivery is no longer
// held, and with ErrInDoubt if the context ends first.
func (d *Delivery[T]) Ack(ctx context.Context) error { return d.delivery.Ack(ctx) }

// AckAsync acknowledges without waiting. What becomes of it the exception
// listener is told if it fails; Session.Close waits for it.
func (d *Delivery[T]) AckAsync() error { return d.delivery.AckAsync() }

// Release gives the message back, to be delivered again after a delay; a
// negative one leaves it to the destination's redelivery policy. A message
// that was delivered too often becomes a dead letter.
func (d *Delivery[T]) Release(ctx context.Context, delay time.Duration) error {
	return d.delivery.Release(ctx, delay)
}

// Fail is Release by the destination's redelivery policy, with an error that
// says why. If the message becomes a dead letter with it, that has the error's
// text, of up to 1,024 bytes (DeadLetter.Exception).
func (d *Delivery[T]) Fail(ctx context.Context, err error) error {
	return d.delivery.Fail(ctx, err)
}

// Reject moves the message to its dead letter destination, with the reason.
func (d *Delivery[T]) Reject(ctx context.Context, reason string) error {
	return d.delivery.Reject(ctx, reason)
}

// delivery is a Delivery without its value. It is not copied.
type delivery struct {
	from        *consumer
	generation  uint64 // of the connection that brought it
	partition   int32  // with the destination's number above it
	destination string // "": the consumer's own
	count       uint16
	acquisition uint64
	settled     atomic.Bool
	record      record.Record
	message     atomic.Pointer[Message]
}

// DeliveryCount returns JMSXDeliveryCount, 1 at the first delivery: Jakarta
// Messaging 3.1 §3.5.11.
func (d *delivery) DeliveryCount() int { return int(d.count) }

// Redelivered returns JMSRedelivered: Jakarta Messaging 3.1 §3.4.7.
func (d *delivery) Redelivered() bool { return d.count > 1 }

// Destination returns the name of where the message was consumed from.
func (d *delivery) Destination() string {
	if d.destination != "" {
		return d.destination
	}
	return d.from.spec.Destination
}

// Partition returns the message's partition.
func (d *delivery) Partition() int32 { return d.partition & (1<<native.MemberShift - 1) }

// Offset returns the message's offset in its partition.
func (d *delivery) Offset() int64 { return d.record.Offset }

// Sent returns JMSTimestamp.
func (d *delivery) Sent() time.Time { return time.UnixMilli(d.record.Timestamp) }

// Key returns the record's key, nil if it has none.
func (d *delivery) Key() []byte { return d.record.Key }

// Message implements Delivery.Message. It is decoded when it is first asked
// for.
func (d *delivery) Message() *Message {
	m, err := d.parsed()
	if err != nil {
		d.from.c.options.logger.Warn("polylog: a message's headers cannot be read", "destination", d.Destination(), "offset", d.Offset(), "error", err)
	}
	return m
}

func (d *delivery) parsed() (*Message, error) {
	if m := d.message.Load(); m != nil {
		return m, nil
	}
	m := &Message{Destination: d.Destination(), DeliveryCount: int(d.count)}
	if err := decodeRecord(&d.record, d.Partition(), m); err != nil {
		return nil, err
	}
	d.message.Store(m)
	return m, nil
}

// bodyKind reads the JMS header alone, not the properties. A record without
// it, from a Kafka producer, has bytes.
func (d *delivery) bodyKind() (BodyKind, error) {
	if m := d.message.Load(); m != nil {
		return m.Kind, nil
	}
	header, ok := d.record.Header(record.JMSHeader)
	if !ok {
		return BodyBytes, nil
	}
	var m record.Meta
	err := record.ParseMeta(header, &m)
	return m.Kind, err
}

// Ack implements Delivery.Ack.
func (d *delivery) Ack(ctx context.Context) error {
	switch d.from.session.mode {
	case ClientAcknowledge:
		if err := d.stale(); err != nil {
			return err
		}
		return d.from.session.Acknowledge(ctx)
	case Transacted: // the commit does it
		return nil
	}
	return d.settle(ctx, outcome{kind: native.OutcomeAcknowledge})
}

// AckAsync implements Delivery.AckAsync.
func (d *delivery) AckAsync() error {
	switch d.from.session.mode {
	case ClientAcknowledge:
		if err := d.stale(); err != nil {
			return err
		}
		return d.from.session.acknowledge(nil)
	case Transacted: // the commit does it
		return nil
	}
	if d.settled.Swap(true) {
		return staleError("%s: offset %d is settled already", d.Destination(), d.Offset())
	}
	return d.from.settle(d.span(), d.generation, outcome{kind: native.OutcomeAcknowledge}, nil, false)
}

// stale says, for ClientAcknowledge, that there is nothing to acknowledge: the
// session is closed, or the connection broke since.
func (d *delivery) stale() error {
	if err := d.from.session.alive(); err != nil {
		return err
	}
	if d.generation != d.from.c.generation.Load() {
		return staleError("%s: offset %d was delivered over another connection, and is delivered again", d.Destination(), d.Offset())
	}
	return nil
}

// Release implements Delivery.Release.
func (d *delivery) Release(ctx context.Context, delay time.Duration) error {
	return d.settle(ctx, outcome{kind: native.OutcomeRelease, delayMS: delayMS(delay)})
}

// Fail implements Delivery.Fail.
func (d *delivery) Fail(ctx context.Context, err error) error {
	return d.settle(ctx, failed(err))
}

// failed is what becomes of a delivery that an application could not handle.
func failed(err error) outcome {
	return outcome{kind: native.OutcomeRelease, delayMS: -1, reason: bounded(err.Error())}
}

// Reject implements Delivery.Reject.
func (d *delivery) Reject(ctx context.Context, reason string) error {
	return d.settle(ctx, outcome{kind: native.OutcomeReject, reason: bounded(reason)})
}

// maxReason is how much of a reason the broker keeps, in bytes.
const maxReason = 1024

// bounded cuts a text at a rune.
func bounded(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "")
}

// delayMS keeps a delay below a millisecond from meaning none, and a negative
// one from becoming none.
func delayMS(d time.Duration) int64 {
	switch {
	case d < 0:
		return -1
	case d > 0 && d < time.Millisecond:
		return 1
	}
	return d.Milliseconds()
}

func (d *delivery) span() native.Span {
	return native.Span{Partition: uint64(d.partition), Offset: d.record.Offset, Acquisition: d.acquisition, Count: 1}
}

// settle settles and waits for the answer.
func (d *delivery) settle(ctx context.Context, o outcome) error {
	if d.settled.Swap(true) {
		return staleError("%s: offset %d is settled already", d.Destination(), d.Offset())
	}
	if d.from.session.notes() {
		d.from.forget(d.span())
	}
	w := d.from.c.newWaiter()
	if err := d.from.settle(d.span(), d.generation, o, w, false); err != nil {
		w.free()
		return err
	}
	_, err := w.wait(ctx)
	return err
}

// finish does what the session's mode does when the application is done with
// a delivery that it has not settled: Jakarta Messaging 3.1 §6.2.10. failed
// says that the body could not be read: it is then released and counted, so
// that it becomes a dead letter in the end.
func (d *delivery) finish(failed bool) {
	mode := d.from.session.mode
	if d.settled.Load() || mode == IndividualAcknowledge || d.from.session.notes() && !failed {
		return
	}
	if d.settled.Swap(true) {
		return
	}
	o := outcome{kind: native.OutcomeAcknowledge}
	if failed {
		o = outcome{kind: native.OutcomeRelease, delayMS: -1}
		if d.from.session.notes() {
			d.from.forget(d.span())
		}
	}
	// A stale delivery comes again by itself; there is nobody to tell.
	_ = d.from.settle(d.span(), d.generation, o, nil, mode == DupsOKAcknowledge && !failed)
}
