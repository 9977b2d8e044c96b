package queue

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// unitBit marks, with moveBit, the hold of transactions among those of moves.
const unitBit = uint64(1) << 62

// Unit is what one local transaction does (Jakarta Messaging 3.1 §6.2.7): all of
// it is on disk at once, or nothing.
type Unit struct {
	// Settled is what it acknowledges.
	Settled []Settled
	// Sends are the batches that it appends; after the commit each has its Base.
	Sends []commitlog.Write
	// Hold, if not 0, prepares: what it acknowledges stays held under this
	// number, which is less than 1<<62, until View.EndHold.
	Hold uint64
	// Done is told once, when all of it is on disk, or why nothing is. Then
	// what was to be acknowledged is its holder's still, with a
	// *destination.StaleTokenError that names what was not, or available again.
	// It may call views, and must not wait.
	Done commitlog.Waiter
}

// Settled is deliveries of one view's holder.
type Settled struct {
	View   *View
	Holder destination.Holder
	Spans  []Span
}

// Committer commits units. Those that come while the disk is busy go to it
// together.
//
// How a unit commits. What it acknowledges is held, in each cursor, and the
// deltas that say so are one journal entry with what it sends; so after a crash
// what is held is acknowledged (openPart). When that is on disk the holds end as
// acknowledged, else as aborted. Until then nothing else of those cursors is
// journaled, as with a move.
//
// Its goroutine is the only one that locks several views.
type Committer struct {
	state   *destination.DeliveryState
	kick    chan struct{} // has room for one
	closing chan struct{}
	ended   sync.WaitGroup

	mu      sync.Mutex // guards what follows; a leaf
	waiting []*Unit
	closed  bool

	holds uint64 // that there have been; the goroutine's
}

// NewCommitter starts a Committer, which lives until Close.
func NewCommitter(s *destination.DeliveryState) *Committer {
	c := &Committer{state: s, kick: make(chan struct{}, 1), closing: make(chan struct{})}
	c.ended.Go(c.run)
	return c
}

// MaxBytes bounds what one unit sends, bytes, because all of it is one entry of
// the journal: an eighth of journal-file-size.
func (c *Committer) MaxBytes() int { return c.state.MaxAlso() }

// Commit has a unit committed. If it returns an error, Done is not called:
// ErrClosed, or ErrTooLarge if it sends more than MaxBytes.
func (c *Committer) Commit(u *Unit) error {
	if size := u.bytes(); size > c.MaxBytes() {
		return fmt.Errorf("%w: a transaction sends %d bytes, %d are the most", destination.ErrTooLarge, size, c.MaxBytes())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("commit: %w", destination.ErrClosed)
	}
	c.waiting = append(c.waiting, u)
	c.wake()
	return nil
}

func (u *Unit) bytes() (size int) {
	for i := range u.Sends {
		size += len(u.Sends[i].Batches)
	}
	return size
}

// Close commits what is waiting, and ends. The views are closed after it.
func (c *Committer) Close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.closing)
	}
	c.mu.Unlock()
	c.ended.Wait()
}

// wake has the goroutine look for what it can do.
func (c *Committer) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (c *Committer) run() {
	closing := c.closing
	for {
		select {
		case <-c.kick:
		case <-closing:
			closing = nil
		}
		for c.round() {
		}
		if closing == nil && c.idle() {
			return
		}
	}
}

func (c *Committer) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) == 0
}

// round commits what is waiting, as far as it goes to the disk together. It is
// false if there is nothing, or all of it waits for moves.
func (c *Committer) round() bool {
	c.mu.Lock()
	n, size := 0, 0
	for n < len(c.waiting) {
		if size += c.waiting[n].bytes(); n > 0 && size > c.MaxBytes() {
			break
		}
		n++
	}
	units := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	c.mu.Unlock()
	if n == 0 {
		return false
	}
	f := flight{c: c, done: make(chan error, 1)}
	later := f.commit(units)
	c.mu.Lock()
	c.waiting = append(later, c.waiting...)
	c.mu.Unlock()
	return len(later) < len(units)
}

// flight is units that go to the disk together.
type flight struct {
	c       *Committer
	views   []*View // by number
	units   []held
	parts   []*part
	changes []destination.Change
	sends   []commitlog.Write
	waiters []commitlog.Waiter // of settlements that go along
	done    chan error
}

// held is a unit that holds what it acknowledges.
type held struct {
	unit  *Unit
	id    uint64
	parts []*part
	from  int // where its sends begin
}

// Committed is called by the committer of the log.
func (f *flight) Committed(err error) { f.done <- err }

// commit commits units, and returns those that have to wait for a move.
func (f *flight) commit(units []*Unit) (later []*Unit) {
	refused := map[*Unit]error{}
	f.lock(units)
	for _, u := range units {
		switch err := f.hold(u); {
		case errors.Is(err, errMoving):
			later = append(later, u)
		case err != nil:
			refused[u] = err
		}
	}
	defer func() {
		for u, err := range refused {
			u.Done.Committed(err)
		}
	}()
	if len(f.units) == 0 {
		f.unlock()
		return later
	}
	for _, p := range f.parts {
		f.changes = append(f.changes, destination.Change{ID: p.id, Cursor: p.cursor})
		f.waiters = append(f.waiters, p.deferred...)
		p.deferred, p.owed = nil, 0
	}
	err := f.c.state.JournalAll(f.changes, f, f.sends...)
	f.unlock()
	if err == nil {
		err = <-f.done
	}
	f.end(err)
	return later
}

// lock locks all views of units.
func (f *flight) lock(units []*Unit) {
	for _, u := range units {
		for i := range u.Settled {
			if v := u.Settled[i].View; !slices.Contains(f.views, v) {
				f.views = append(f.views, v)
			}
		}
	}
	slices.SortFunc(f.views, func(a, b *View) int { return int(int64(a.number - b.number)) })
	for _, v := range f.views {
		v.mu.Lock()
	}
}

func (f *flight) unlock() {
	for _, v := range f.views {
		v.mu.Unlock()
	}
}

var errMoving = errors.New("messages are being moved")

// hold has a unit hold all that it acknowledges, or nothing. The views are locked.
func (f *flight) hold(u *Unit) error {
	for i := range u.Sends { // or none of those that go with it could be done
		if u.Sends[i].Log.Deleted() {
			return fmt.Errorf("commit: %w", commitlog.ErrDeleted)
		}
	}
	var parts []*part
	for i := range u.Settled {
		s := &u.Settled[i]
		for _, span := range s.Spans {
			p, err := s.check(f.c, span)
			if err != nil {
				return err
			}
			if !slices.Contains(parts, p) {
				parts = append(parts, p)
			}
		}
	}
	for _, p := range parts {
		if p.committing {
			continue
		}
		// So that what goes into the one entry is a delta, which is short.
		if err := f.c.state.Settle(p.id, p.cursor); err != nil {
			return err
		}
	}
	f.c.holds++
	h := held{unit: u, id: moveBit | unitBit | f.c.holds, parts: parts, from: len(f.sends)}
	if u.Hold != 0 {
		h.id = u.Hold
	}
	for i := range u.Settled {
		if err := u.Settled[i].hold(h.id); err != nil {
			for _, p := range parts {
				p.takeBack(p.cursor.EndHold(h.id, false))
			}
			return err
		}
	}
	for _, p := range parts {
		if p.reserved = false; !p.committing {
			p.committing = true
			p.v.finished.open.Add(1)
			f.parts = append(f.parts, p)
		}
	}
	f.sends = append(f.sends, u.Sends...)
	f.units = append(f.units, h)
	return nil
}

// check says whether a span can be acknowledged now. The view is locked.
func (s *Settled) check(c *Committer, span Span) (*part, error) {
	v := s.View
	switch {
	case v.closed:
		return nil, v.closedError()
	case span.Partition < 0 || int(span.Partition) >= len(v.parts) || span.Count <= 0 || span.Offset < 0:
		return nil, fmt.Errorf("commit on %q: %w: partition %d, %d records", v.d.Name, destination.ErrInvalid, span.Partition, span.Count)
	}
	p := v.parts[span.Partition]
	if p.moving != nil {
		p.reserved, v.awaiting = true, c
		return nil, errMoving
	}
	return p, p.cursor.CheckRange(span.Offset, span.Offset+int64(span.Count), span.Acquisition, s.Holder)
}

// hold takes what is acknowledged from its holder. The view is locked.
func (s *Settled) hold(id uint64) error {
	v, c := s.View, s.View.holders[s.Holder]
	for _, span := range s.Spans {
		p := v.parts[span.Partition]
		if err := p.cursor.HoldRange(span.Offset, span.Offset+int64(span.Count), span.Acquisition, s.Holder, id); err != nil {
			return err
		}
		if c != nil {
			c.settles(int64(span.Count))
			if c.lockMS > 0 {
				p.locked -= int64(span.Count)
			}
		}
	}
	return nil
}

// end ends the holds, and tells who waits.
func (f *flight) end(err error) {
	for _, v := range f.views {
		v.mu.Lock()
		v.endUnits(f, err == nil)
		v.mu.Unlock()
	}
	for _, p := range f.parts {
		p.v.finished.open.Done()
	}
	for _, w := range f.waiters {
		w.Committed(err)
	}
	for _, h := range f.units {
		for i := range h.unit.Sends {
			h.unit.Sends[i].Base = f.sends[h.from+i].Base
		}
		h.unit.Done.Committed(err)
	}
}

// endUnits ends what a flight holds in the view, which is locked.
func (v *View) endUnits(f *flight, committed bool) {
	for _, h := range f.units {
		for _, p := range h.parts {
			if p.v != v || committed && h.unit.Hold != 0 {
				continue
			}
			offsets := p.cursor.EndHold(h.id, committed)
			if committed {
				v.counters.acknowledged += int64(len(offsets))
			} else {
				p.takeBack(offsets)
			}
		}
	}
	now := v.now()
	for _, p := range v.parts {
		if !p.committing {
			continue
		}
		p.committing = false
		p.owe(now + journalDelay.Milliseconds())
		if len(p.deferred) > 0 {
			p.owe(now)
		}
	}
	v.trigger()
}

// HeldByUnit says whether a cursor's hold is a unit's or a move's, which is on
// disk only with all else that belongs to it, and which the view ends.
func HeldByUnit(hold uint64) bool { return hold&moveBit != 0 }

// EndHold ends what a prepared unit holds in the view: acknowledged if it
// commits, available again after the redelivery delay if not. w is told once, when that is on disk.
func (v *View) EndHold(hold uint64, commit bool, w commitlog.Waiter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		w.Committed(v.closedError())
		return
	}
	var parts []*part
	for _, p := range v.parts {
		offsets := p.cursor.EndHold(hold, commit)
		if len(offsets) == 0 {
			continue
		}
		parts = append(parts, p)
		if commit {
			v.counters.acknowledged += int64(len(offsets))
		} else {
			p.backOff(offsets)
		}
	}
	all := newJoint(len(parts)+1, w)
	for _, p := range parts {
		if err := p.journal(all); err != nil {
			all.Committed(err)
		}
	}
	all.Committed(nil)
	v.trigger()
}
