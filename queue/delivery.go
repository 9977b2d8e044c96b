package queue

import (
	"time"

	"github.com/polylog-mq/polylog/destination/record"
)

// Selector chooses records. Match is called with the view locked, by one
// goroutine at a time; it must not block and must not keep the record.
type Selector interface {
	Match(r *record.Record) bool
}

// Sink takes what a view gives its consumers. Its methods are called with the
// view locked: they copy what they need and return, they never block, and they
// never call the view or a consumer. For one consumer they are called one at a
// time, in order.
type Sink interface {
	// Deliver hands over records. They belong to the consumer's holder until
	// they are settled or the consumer is closed.
	Deliver(d Delivery)
	// Drained says that all that was ready went out within the credit, and
	// that the credit is zero now.
	Drained(c *Consumer)
	// Closed says that the view closed the consumer, and why. What it held has
	// gone back.
	Closed(c *Consumer, err error)
	// Flush comes after the Delivers of a turn, without the view's lock.
	Flush()
}

// Delivery is records for one consumer. The offsets of its records are
// consecutive.
type Delivery struct {
	Consumer         *Consumer
	Partition        int32
	FirstAcquisition uint64       // record i has FirstAcquisition+i
	Offset           int64        // of the first record
	Records          int          // how many
	Batch            record.Batch // valid during the call; its base offset may be below Offset
	Counts           []uint16     // how often each was delivered with this time, at most 65,535; nil: all for the first time
}

// Span is deliveries of one partition that are consecutive both in offset and
// in acquisition number.
type Span struct {
	Partition   int32
	Offset      int64
	Acquisition uint64
	Count       int32
}

// OutcomeKind says what becomes of a delivery.
type OutcomeKind uint8

// The outcomes.
const (
	Acknowledge OutcomeKind = iota // done
	Release                        // available again, perhaps later
	Reject                         // to the dead letter destination
)

// Outcome ends deliveries.
type Outcome struct {
	Kind OutcomeKind
	// Delay is how long a released message waits; negative: as long as the
	// destination's redelivery settings say.
	Delay time.Duration
	// CountBack takes a release back as if it had never been delivered, because
	// nobody saw it.
	CountBack bool
	// Reason is why a message is rejected, or released: then its dead letter has
	// it as the exception, if this was its last delivery. At most 1,024 bytes.
	Reason string
}
