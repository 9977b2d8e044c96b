package queue

import (
	"context"
	"log/slog"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// Dispatcher is the workers that all views share.
type Dispatcher struct{}

// NewDispatcher starts workers; 0 means 2 or GOMAXPROCS, whichever is less.
func NewDispatcher(workers int) *Dispatcher { return &Dispatcher{} }

// Close waits for the workers to end. Views are closed before.
func (d *Dispatcher) Close() {}

// Deps is what a view needs of its broker.
type Deps struct {
	State      *destination.DeliveryState
	Store      *commitlog.Store
	Dispatcher *Dispatcher
	Now        func() time.Time                                     // default time.Now
	AfterFunc  func(time.Duration, func()) (stop func() bool)       // default time.AfterFunc
	DeadLetter func(name string) (*destination.Destination, error) // finds or makes a dead letter or expiry destination; called without locks
	Logger     *slog.Logger                                         // default slog.Default
	// Filter and NoLocal restrict the whole view: what does not match, or was sent under the client id NoLocal,
	// is passed as done. A topic's subscription sets them; a queue does not.
	Filter  Selector
	NoLocal string
}

// View is one subscription over all partitions.
type View struct{}

// OpenView opens the view of a subscription ("" is the queue's own). start is used if it has no cursor yet.
func OpenView(d *destination.Destination, subscription string, start Start, deps Deps) (*View, error) {
	return nil, nil
}

// OpenViewAt is OpenView with an offset for each partition to start from.
func OpenViewAt(d *destination.Destination, subscription string, offsets []int64, deps Deps) (*View, error) {
	return nil, nil
}
func (v *View) Close() error                              { return nil } // consumers get Closed
func (v *View) Destination() *destination.Destination     { return nil }
func (v *View) Reconfigure(d *destination.Destination)    {} // settings changed; same partitions or more
func (v *View) Pause(paused bool)                         {}
func (v *View) Floor(partition int32) int64               { return 0 } // for retention until consumed
func (v *View) Stats() Stats                              { return Stats{} }
func (v *View) Drop() error                               { return nil } // Close, and forget the cursors in State (subscription deleted)
func (v *View) Seek(to Start, w commitlog.Waiter) error   { return nil }
func (v *View) Consume(o ConsumerOptions, s Sink) (*Consumer, error) { return nil, nil }

// Settle: if it returns an error, w is not called; spans other than the one a *destination.StaleTokenError names are settled all the same.
func (v *View) Settle(h destination.Holder, spans []Span, o Outcome, w commitlog.Waiter) error {
	return nil
}

// Put appends batches to the partition that key and producer choose.
func (v *View) Put(key []byte, producer uint64, batches []byte, w commitlog.Waiter) (partition int32, base int64, err error) {
	return 0, 0, nil
}

// Position is where a Browse goes on: the next offset of each partition; nil is the beginning.
type Position []int64

type State uint8

const (
	Available State = iota
	Acquired
	Scheduled
	Held
)

// Browse calls fn with batches of waiting records in order, without taking them; record i of the batch is in states[i].
// It stops after max records, and then more is true.
func (v *View) Browse(ctx context.Context, after Position, sel Selector, max int, fn func(partition int32, b record.Batch, states []State) error) (next Position, more bool, err error) {
	return nil, false, nil
}

// TransferOptions: To nil purges.
type TransferOptions struct {
	Selector Selector
	Max      int64
	To       func(r *record.Record) (*destination.Destination, error) // called without locks
	Redrive  bool                                                     // take the dead letter properties off again
}

// Transfer purges or moves available messages, atomically each, and returns when that is on disk.
func (v *View) Transfer(ctx context.Context, o TransferOptions) (n int64, more bool, err error) {
	return 0, false, nil
}

// Stats: Produced-like account, Q5.
type Stats struct {
	destination.ViewInfo
	Produced, Archived, Passed int64
	Purged                     int64
}

type ConsumerOptions struct {
	Selector   Selector
	NoLocal    string // client id; see Deps.NoLocal, which it sets for the view
	Exclusive  bool
	Lock       time.Duration // 0: as long as the holder lives
	Holder     destination.Holder
	BatchBytes int // most bytes of one Delivery of several records; default 256 KiB
}
type Consumer struct{}

func (c *Consumer) View() *View                { return nil }
func (c *Consumer) Holder() destination.Holder { return 0 }
func (c *Consumer) Held() int                  { return 0 } // delivered and not settled
func (c *Consumer) Credit(n int)               {}           // adds; a consumer begins with none
func (c *Consumer) Drain()                     {}
func (c *Consumer) Pause(paused bool)          {}           // when it returns, no Deliver is under way nor comes
func (c *Consumer) Detach()                    {}           // no more deliveries; what it holds stays
func (c *Consumer) Close(countBack bool)       {}           // and gives back what it holds
