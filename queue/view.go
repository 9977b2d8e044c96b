package queue

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

const (
	// turnRecords is how many records a view may hand out before others get
	// their turn.
	turnRecords = 8192
	// turnBytes is how much it may read, for what it reads may be for nobody.
	turnBytes = 4 << 20
	// scanBytes is how much of that the selectors may look at, most of which they
	// do not want. Then they wait, a millisecond for every scanYield records that
	// others have been given, of which scanOwed count, but no longer than
	// scanPause, ms: so the others keep their speed whatever the backlog.
	scanBytes = 64 << 10
	scanYield = 50
	scanOwed  = 5000
	scanPause = 4
	// journalDelay is how long an acquisition may wait to be journaled. The
	// settlement that follows usually takes it along, which saves a write and
	// perhaps a sync for each delivery.
	journalDelay = 50 * time.Millisecond
	// retryDelay is how long to wait after something failed that may succeed
	// later: a read, or a move to another destination.
	retryDelay = time.Second
	// idleDelay is how long a lane that nobody takes from keeps what it has read.
	idleDelay = 5 * time.Second
	// groupSlots is how many slots message groups hash to.
	groupSlots = 4096
)

// Deps is what a view needs of its broker.
type Deps struct {
	State      *destination.DeliveryState
	Dispatcher *Dispatcher
	// Now is the clock; default time.Now.
	Now func() time.Time
	// AfterFunc calls a function in its own goroutine after a while, unless it
	// is stopped before; default time.AfterFunc.
	AfterFunc func(time.Duration, func()) (stop func() bool)
	// DeadLetter finds or makes the destination for dead letters or expired
	// messages that the settings name. It is called without locks.
	DeadLetter func(name string) (*destination.Destination, error)
	// Logger is told what nobody is there to be told; default slog.Default.
	Logger *slog.Logger
	// Filter and NoLocal restrict the whole view. What does not match, or was
	// sent under the client id NoLocal, is passed as done. A subscription of a
	// topic has them, a queue does not.
	Filter  Selector
	NoLocal string
}

// View is one subscription over all partitions of a destination. It may be
// used by many goroutines.
//
// Its mutex is held while records are read from the page cache and handed to
// sinks, and while deltas are copied into the journal's buffer, never for a
// sync. Locks, in order: View.mu, then whatever a Sink takes, or the delivery
// state's. Several views are locked in the order of their numbers, by a
// Committer alone. Dispatcher.mu and View.finished are leaves. The committer takes
// neither View.mu nor anything behind it.
type View struct {
	number       uint64 // in the order of their opening; several views are locked in this order
	deps         Deps
	subscription string
	state        atomic.Int32 // viewIdle and so on; not guarded by mu
	draining     atomic.Bool  // some consumer is; not guarded by mu

	finished finished // moves that the committer has ended

	first  *destination.Partition // its first
	served []*Consumer            // in this turn, whose giver has it to itself

	mu        sync.Mutex // guards what follows
	d         *destination.Destination
	settings  *destination.Settings // of d
	dead      string                // name of the dead letter destination, "" for none
	noLocal   string
	parts     []*part
	turnPart  int // the partition that goes first in the next turn
	turnLane  int // the lane of those with a selector that goes first
	consumers []*Consumer
	holders   map[destination.Holder]*Consumer // the detached, too
	exclusive int                              // consumers that asked to be exclusive
	limit     int                              // of deliveries, in place of the settings'; 0: none
	plain     plain
	groups    []*Consumer // by slot, nil until there is a group
	paused    bool
	closed    bool
	awaiting  *Committer // who waits for a move to end, nil if nobody
	counters  counters
	timer     timer
	idleAt    int64                               // ms; when the lanes are dropped unless something is taken from them
	targets   map[string]*destination.Destination // of moves, by name, once found
	reader    record.Reader
	meta      record.Meta
	cut       []byte // the batch that is handed over
	runs      []run  // of the batch that is looked at
	available intervals
	counts    []uint16
	touched   []*part
	journalAt int64 // ms; when what this turn delivers is journaled at the latest
	readLeft  int64 // bytes that this turn may still read
	scan      scan
}

// scan is how far the selectors come beside the other consumers.
type scan struct {
	left   int64 // bytes that their lanes may still read in this turn
	wanted bool  // one of them stopped for want of more
	at     int64 // ms; when the last turn was
	owed   int64 // records that others were given, less scanYield for each ms since
	until  int64 // ms; when the next slice is due, whatever is owed
}

// opened counts views.
var opened atomic.Uint64

// OpenView opens the view of a subscription of d, "" for the queue's own.
// Where it has a cursor, it goes on there, else at start.
func OpenView(d *destination.Destination, subscription string, start Start, deps Deps) (*View, error) {
	offsets, err := start.Offsets(d, subscription)
	if err != nil {
		return nil, err
	}
	return OpenViewAt(d, subscription, offsets, deps)
}

// OpenViewAt is OpenView with a start for each partition; partitions beyond
// start at their beginning.
func OpenViewAt(d *destination.Destination, subscription string, offsets []int64, deps Deps) (*View, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.AfterFunc == nil {
		deps.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	if deps.Logger == nil {
		deps.Logger = slog.Default()
	}
	if deps.DeadLetter == nil {
		deps.DeadLetter = func(name string) (*destination.Destination, error) {
			return nil, fmt.Errorf("destination %q: %w", name, destination.ErrNotFound)
		}
	}
	v := &View{
		first: d.Partitions[0], number: opened.Add(1), deps: deps, subscription: subscription, noLocal: deps.NoLocal,
		holders: map[destination.Holder]*Consumer{}, targets: map[string]*destination.Destination{},
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.configure(d); err != nil {
		return nil, err
	}
	v.addPartitions(offsets)
	if v.settings.ExpiryDestination != "" {
		v.trigger() // what expires goes there, also if nobody comes
	}
	return v, nil
}

func (v *View) configure(d *destination.Destination) error {
	dead := d.DeadLetterName()
	for _, name := range []string{dead, d.Settings.ExpiryDestination} {
		if name == d.Name {
			return fmt.Errorf("%w: %q cannot be its own destination for dead or expired messages", destination.ErrInvalid, d.Name)
		}
	}
	v.d, v.settings, v.dead = d, &d.Settings, dead
	return nil
}

func (v *View) addPartitions(offsets []int64) {
	for i := len(v.parts); i < len(v.d.Partitions); i++ {
		p := v.d.Partitions[i]
		start := p.Start()
		if i < len(offsets) {
			start = offsets[i]
		}
		v.parts = append(v.parts, openPart(v, p, start))
	}
}

// Reconfigure has the view follow changed settings, and partitions that were
// added. It is the same destination. ErrInvalid.
func (v *View) Reconfigure(d *destination.Destination) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return v.closedError()
	}
	if err := v.configure(d); err != nil {
		return err
	}
	v.addPartitions(nil)
	for _, c := range v.consumers {
		v.openLanes(c)
	}
	v.trigger()
	return nil
}

// Destination is what the view delivers from.
func (v *View) Destination() *destination.Destination {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.d
}

// Subscription is the name that the view's cursors have, "" for a queue's own.
func (v *View) Subscription() string { return v.subscription }

func (v *View) closedError() error {
	return fmt.Errorf("view of %q: %w", v.d.Name, destination.ErrClosed)
}

// Put appends validated batches to the partition that key and producer choose.
// w, if not nil, is told when they are as durable as the destination says.
// ErrTooLarge.
func (v *View) Put(key []byte, producer uint64, batches []byte, w commitlog.Waiter) (partition int32, base int64, err error) {
	d := v.Destination()
	if limit := d.Settings.MaxMessageBytes; limit > 0 {
		for rest := batches; len(rest) > 0; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return 0, 0, fmt.Errorf("put to %q: %w", d.Name, err)
			}
			if int64(len(b)) > limit {
				return 0, 0, fmt.Errorf("put to %q: %w: batch of %d bytes, max.message.bytes=%d",
					d.Name, destination.ErrTooLarge, len(b), limit)
			}
		}
	}
	p := d.Route(key, producer)
	if base, err = p.Append(batches, w); err != nil {
		return 0, 0, fmt.Errorf("put to %q: %w", d.Name, err)
	}
	return p.Number(), base, nil
}

// Pause stops or starts the delivery to all consumers. When it returns, no
// Deliver is under way.
func (v *View) Pause(paused bool) {
	v.mu.Lock()
	v.paused = paused
	v.mu.Unlock()
	v.trigger()
}

// Floor is the offset below which this view needs nothing of a partition.
func (v *View) Floor(partition int32) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if partition < 0 || int(partition) >= len(v.parts) {
		return 0
	}
	return v.parts[partition].cursor.Floor()
}

// Close closes the consumers, whose sinks are told so, gives back what they
// hold, and ends when nothing of the view is on its way to the disk. The
// cursors stay with the delivery state.
func (v *View) Close() error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil
	}
	v.closed = true
	v.timer.stop()
	reason := v.closedError()
	for _, p := range v.parts {
		p.unwatch()
		p.abandonMoves(reason)
	}
	v.mu.Unlock()
	v.finished.wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.endMoves()
	for _, c := range v.holders {
		detached := c.detached
		c.leave(false)
		if !detached {
			c.sink.Closed(c, reason)
		}
	}
	var first error
	for _, p := range v.parts {
		p.dropLanes()
		if p.cursor.Dirty() || len(p.deferred) > 0 {
			if err := p.journal(nil); err != nil && first == nil {
				first = err
			}
		}
	}
	v.consumers, v.groups = nil, nil
	return first
}

// Drop closes the view and forgets its cursors: the subscription is deleted.
func (v *View) Drop() error {
	err := v.Close()
	for i := range v.parts {
		if e := v.deps.State.Drop(v.parts[i].id); e != nil && err == nil {
			err = e
		}
	}
	return err
}

// Seek forgets what was delivered and goes on at to. What is held is nobody's
// any more. w, if not nil, is told when that is on disk, unless Seek fails.
func (v *View) Seek(to Start, w commitlog.Waiter) error {
	offsets, err := to.Offsets(v.Destination(), v.subscription)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return v.closedError()
	}
	for i, p := range v.parts {
		if p.busy() || len(p.moves) > 0 {
			return fmt.Errorf("seek %q: %w: messages are being moved", v.d.Name, destination.ErrBusy)
		}
		p.seek(offsets[i])
		v.touch(p)
	}
	for _, c := range v.holders {
		c.held = 0
	}
	v.trigger()
	return v.journalTouched(w)
}

// now is the clock in ms.
func (v *View) now() int64 { return v.deps.Now().UnixMilli() }
