package queue

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

const (
	// mover is the holder of messages that are about to leave.
	mover = destination.Holder(1) << 62
	// moveBit marks the transactions of moves among those of a cursor.
	moveBit = uint64(1) << 63
	// moveRecords and moveBytes bound one atomic move.
	moveRecords = 1024
	moveBytes   = 1 << 20
)

// moveKind says why a message leaves.
type moveKind uint8

const (
	moveDead    moveKind = iota // to the dead letter destination
	moveExpired                 // to the destination for expired messages
	moveWished                  // where an operator wants it
)

// move is one message that the mover holds.
//
// How a message moves. It is acquired by the mover, which a crash undoes. Then
// it is held in a transaction of its own kind, and the delta that says so is
// one commit with the append at its new place; so after a crash what is held
// has moved (openPart). When the committer reports success the hold ends as
// acknowledged, else as aborted, and the message is back. Until then nothing
// else of that cursor is journaled, because a snapshot would have the hold in
// it whatever became of the commit.
type move struct {
	offset      int64
	acquisition uint64
	count       int // deliveries before the mover's
	kind        moveKind
	reason      string
	exception   string
	to          *destination.Destination // moveWished only
	redrive     bool                     // moveWished: the marks of a dead letter come off
	done        *joint                   // told when it has moved or not; may be nil
}

// moving is moves that one commit does.
type moving struct {
	p     *part
	txn   uint64
	items []move
	err   error
}

// finished collects moves that the committer has ended. It has a lock of its
// own because the committer must not wait for a view.
type finished struct {
	mu   sync.Mutex // guards what follows; a leaf
	done []*moving
	open sync.WaitGroup
}

func (f *finished) wait() { f.open.Wait() }

func (f *finished) take() []*moving {
	f.mu.Lock()
	defer f.mu.Unlock()
	done := f.done
	f.done = nil
	return done
}

// Committed is called by the committer, or by whoever could not commit.
func (m *moving) Committed(err error) {
	v := m.p.v
	m.err = err
	v.finished.mu.Lock()
	v.finished.done = append(v.finished.done, m)
	v.finished.mu.Unlock()
	for i := range m.items {
		if done := m.items[i].done; done != nil {
			done.Committed(err)
		}
	}
	v.finished.open.Done()
	v.trigger()
}

// leaveDead has an available message leave for the dead letter destination.
func (p *part) leaveDead(offset int64, reason, exception string) {
	if p.v.dead == "" {
		if p.cursor.Archive(offset) {
			p.v.counters.deadLettered++
			p.owe(p.v.journalAt)
		}
		return
	}
	p.leave(move{offset: offset, kind: moveDead, reason: reason, exception: exception})
}

// expire ends an available message whose time is over.
func (p *part) expire(offset int64) {
	if p.v.settings.ExpiryDestination == "" {
		if p.cursor.Archive(offset) {
			p.v.counters.expired++
			p.owe(p.v.journalAt)
		}
		return
	}
	p.leave(move{offset: offset, kind: moveExpired, reason: reasonExpired})
}

// leave has the mover take an available message.
func (p *part) leave(m move) bool {
	m.count = p.cursor.Count(m.offset)
	number, _, ok := p.cursor.Acquire(m.offset, mover, 0)
	if !ok {
		return false
	}
	m.acquisition = number
	p.moves = append(p.moves, m)
	return true
}

// targetName is the destination that has to be looked up for a move, or "".
func (v *View) targetName(m *move) string {
	switch m.kind {
	case moveDead:
		return v.dead
	case moveExpired:
		return v.settings.ExpiryDestination
	}
	return ""
}

// target is where a message is to go, or nil for nowhere.
func (v *View) target(m *move) *destination.Destination {
	if m.kind == moveWished {
		return m.to
	}
	return v.targets[v.targetName(m)]
}

// startMoves starts a commit for each partition that has moves and none under
// way. The view's lock is held, but not while a destination is looked up.
func (v *View) startMoves(now int64) {
	for _, p := range v.parts {
		for len(p.moves) > 0 && !p.busy() && !p.reserved && p.retry <= now && !v.closed {
			if name, missing := v.missingTarget(p); missing {
				v.findTarget(p, name, now)
				continue
			}
			p.startMove(now)
		}
	}
}

// missingTarget is the name of a destination of p's next moves that has not
// been looked up.
func (v *View) missingTarget(p *part) (name string, missing bool) {
	for i := range p.moves[:min(len(p.moves), moveRecords)] {
		if name = v.targetName(&p.moves[i]); name != "" && v.targets[name] == nil {
			return name, true
		}
	}
	return "", false
}

// findTarget looks a destination up, without the view's lock, since it may
// have to be made.
func (v *View) findTarget(p *part, name string, now int64) {
	v.mu.Unlock()
	d, err := v.deps.DeadLetter(name)
	v.mu.Lock()
	if err == nil && len(d.Partitions) == 0 {
		err = fmt.Errorf("%w: it has no partition", destination.ErrInvalid)
	}
	if err != nil {
		v.deps.Logger.Error("find the destination for dead or expired messages", "destination", v.d.Name, "name", name, "error", err)
		p.failMoves(fmt.Errorf("find %q: %w", name, err), now)
		return
	}
	v.targets[name] = d
}

// failMoves tells those who wait that their moves have failed for now. They
// are tried again.
func (p *part) failMoves(err error, now int64) {
	p.retry = now + retryDelay.Milliseconds()
	kept := p.moves[:0]
	for _, m := range p.moves {
		if m.done != nil {
			m.done.Committed(err)
			m.done = nil
		}
		if m.kind == moveWished {
			p.comeBack(&m)
			continue
		}
		kept = append(kept, m)
	}
	clear(p.moves[len(kept):])
	p.moves = kept
}

// comeBack gives back a message that the mover holds.
func (p *part) comeBack(m *move) {
	if p.cursor.ReleaseRange(m.offset, m.offset+1, m.acquisition, mover, 0, true) == nil {
		p.giveBack(m.offset, m.offset+1)
	}
}

// abandonMoves gives all back that has not been started, because the view closes.
func (p *part) abandonMoves(reason error) {
	for i := range p.moves {
		if done := p.moves[i].done; done != nil {
			done.Committed(reason)
		}
		p.comeBack(&p.moves[i])
	}
	p.moves = nil
}

// startMove commits the next moves. They are read from the log once more, in
// the order of offsets, so that one read serves many.
func (p *part) startMove(now int64) {
	v := p.v
	n := min(len(p.moves), moveRecords)
	slices.SortFunc(p.moves[:n], func(a, b move) int { return int(min(max(a.offset-b.offset, -1), 1)) })
	w := writer{v: v, p: p, now: now}
	items, err := w.write(p.moves[:n])
	if err != nil {
		v.deps.Logger.Error("read messages that are to move", "destination", v.d.Name, "partition", p.id.Partition, "error", err)
		p.failMoves(err, now)
		return
	}
	m := &moving{p: p, txn: moveBit | uint64(items[0].offset), items: slices.Clone(items)}
	p.moves = slices.Delete(p.moves, 0, len(items))
	if len(p.moves) == 0 {
		p.moves = nil
	}
	for i := range m.items {
		it := &m.items[i]
		if err := p.cursor.HoldRange(it.offset, it.offset+1, it.acquisition, mover, m.txn); err != nil {
			panic("queue: the mover has lost a message: " + err.Error())
		}
	}
	v.finished.open.Add(1)
	p.owed, p.moving = 0, m
	waiter := p.takeDeferred(m)
	if err := v.deps.State.Journal(p.id, p.cursor, waiter, w.writes()...); err != nil {
		waiter.Committed(err)
	}
}

// endMoves ends the moves that the committer is done with. The view's lock is held.
func (v *View) endMoves() {
	for _, m := range v.finished.take() {
		p := m.p
		p.moving = nil
		if p.reserved {
			v.awaiting.wake()
		}
		offsets := p.cursor.EndHold(m.txn, m.err == nil)
		now := v.now()
		if m.err != nil {
			v.deps.Logger.Error("move messages", "destination", v.d.Name, "partition", p.id.Partition, "messages", len(m.items), "error", m.err)
			p.retry = now + retryDelay.Milliseconds()
			p.retryMoves(m, offsets)
			clear(v.targets) // one may have been deleted
		} else {
			v.countMoved(m)
		}
		p.owe(now + journalDelay.Milliseconds())
		if len(p.deferred) > 0 {
			p.owe(now)
		}
	}
}

// retryMoves puts what could not move back: an operator's wish is given up,
// the others are tried again.
func (p *part) retryMoves(m *moving, offsets []int64) {
	for i := range m.items {
		it := &m.items[i]
		if _, found := slices.BinarySearch(offsets, it.offset); !found {
			continue
		}
		if it.kind == moveWished || p.v.closed {
			p.giveBack(it.offset, it.offset+1)
			continue
		}
		count := it.count
		again := *it
		again.done = nil
		if p.leave(again) {
			p.moves[len(p.moves)-1].count = count
		}
	}
}

func (v *View) countMoved(m *moving) {
	for i := range m.items {
		switch m.items[i].kind {
		case moveDead:
			v.counters.deadLettered++
		case moveExpired:
			v.counters.expired++
		case moveWished:
			if m.items[i].to == nil {
				v.counters.purged++
			} else {
				v.counters.moved++
			}
		}
	}
}

// writer makes the batches of one move, for each partition that they go to.
type writer struct {
	v      *View
	p      *part
	now    int64
	places []place
	reader record.Reader
	bytes  int
	dead   deadLetter
}

// place is a partition that messages move to.
type place struct {
	log     *commitlog.Log
	limit   int64 // bytes of one batch, unless a single message has more
	batches []byte
	builder *record.Builder
}

// close ends the batch that is being built.
func (pl *place) close() {
	pl.batches = append(pl.batches, pl.builder.Batch()...)
	pl.builder.Reset()
}

// write puts messages into batches until they are as many as one commit takes,
// and returns those that it has.
func (w *writer) write(moves []move) ([]move, error) {
	done := 0
	for done < len(moves) && (done == 0 || w.bytes < moveBytes) {
		n, err := w.writeFrom(moves[done:])
		if err != nil {
			return nil, err
		}
		done += n
	}
	return moves[:done], nil
}

// writeFrom writes the first message, and those that follow in what was read
// with it. What the log does not have any more, or only damaged, ends without a
// copy.
func (w *writer) writeFrom(moves []move) (done int, err error) {
	c := chunks.Get().(*chunk)
	defer func() { c.free() }()
	c.buf, err = w.p.p.Read(moves[0].offset, readBytes, c.buf[:0])
	var damaged *commitlog.DamagedError
	switch {
	case err == nil || len(c.buf) > 0:
	case errors.Is(err, commitlog.ErrOffsetOutOfRange) || errors.As(err, &damaged):
		return 1, nil
	default:
		return 0, err
	}
	for rest := c.buf; len(rest) > 0 && done < len(moves) && w.bytes < moveBytes; {
		var b record.Batch
		if b, rest, err = record.Next(rest); err != nil {
			break
		}
		done += w.writeBatch(b, moves[done:])
	}
	return max(done, 1), nil
}

// writeBatch writes those of the first messages that are in b.
func (w *writer) writeBatch(b record.Batch, moves []move) (done int) {
	if len(moves) == 0 || b.NextOffset() <= moves[0].offset {
		return 0
	}
	if err := w.reader.Reset(b, maxDecompressed); err == nil {
		for done < len(moves) && w.bytes < moveBytes && w.reader.Next() {
			r := w.reader.Record()
			for done < len(moves) && moves[done].offset < r.Offset {
				done++
			}
			if done < len(moves) && moves[done].offset == r.Offset {
				w.add(&moves[done], r)
				done++
			}
		}
	}
	if err := w.reader.Err(); err != nil {
		w.v.deps.Logger.Error("damaged message does not move", "destination", w.v.d.Name, "partition", w.p.id.Partition, "error", err)
	}
	for done < len(moves) && w.bytes < moveBytes && moves[done].offset < b.NextOffset() {
		done++
	}
	return done
}

// markBytes is more than the marks of a dead letter take, in bytes, without
// the name and the reason.
const markBytes = 512

// add puts one message into the batch for its new place.
func (w *writer) add(m *move, r *record.Record) {
	target := w.v.target(m)
	if target == nil {
		return
	}
	w.bytes += len(r.Raw())
	pl := w.place(target, r)
	size := pl.builder.Size() + len(r.Raw()) + markBytes + len(w.v.d.Name) + len(m.reason)
	if pl.builder.Count() > 0 && int64(size) > pl.limit {
		pl.close()
	}
	w.dead.append(pl.builder, w, m, r)
}

func (w *writer) place(target *destination.Destination, r *record.Record) *place {
	log := target.Route(r.Key, uint64(w.p.id.Partition)).Log()
	for i := range w.places {
		if w.places[i].log == log {
			return &w.places[i]
		}
	}
	w.places = append(w.places, place{log: log, limit: target.Settings.MaxMessageBytes, builder: &record.Builder{}})
	return &w.places[len(w.places)-1]
}

func (w *writer) writes() []commitlog.Write {
	writes := make([]commitlog.Write, len(w.places))
	for i := range w.places {
		w.places[i].close()
		writes[i] = commitlog.Write{Log: w.places[i].log, Batches: w.places[i].batches}
	}
	return writes
}
