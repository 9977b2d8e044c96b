package commitlog

import (
	"errors"
	"fmt"
	"syscall"
)

// committer writes for a lane: a goroutine of its own, and Store.Release in its stead, one at a time (lane.busy). Each run
// goes: accept (plan the places, take the disk's room), write and sync the journal and meanwhile write the segments, publish.
type committer struct {
	store   *Store
	lane    *lane
	journal *journal // nil for memory
	telling func()   // called before a run's waiters are, unless nil

	syncs  chan *journalFile // to the syncer
	synced chan error

	count   int64 // of runs
	touched []*Log
	scratch []byte
}

func (c *committer) run() {
	defer close(c.lane.done)
	if c.syncs != nil {
		defer close(c.syncs)
	}
	for g := c.lane.take(); g != nil; g = c.lane.take() {
		c.commitGroup(g)
		c.lane.recycle(g)
	}
}

// commitGroup brings a group to its end, and returns in how many runs.
func (c *committer) commitGroup(g *group) (runs int) {
	for entries := g.entries; len(entries) > 0; runs++ {
		n := c.runLength(entries)
		c.commit(g, entries[:n])
		entries = entries[n:]
	}
	c.store.counters.groups.Add(1)
	return runs
}

// Hold says that the caller is about to append, and will call Release soon and in the same goroutine. Between the two it
// must not wait for an append.
func (s *Store) Hold() {
	for _, c := range s.committers {
		c.lane.hold()
	}
}

// Release ends a Hold. What was appended is committed by the caller, here and now, where it is little and nothing else is
// under way: that saves the wake-ups of two goroutines, which is most of what a single append costs beside its sync. Else
// Release leaves it to the committers. What mayWait, because nobody waits for it, shares the sync of what comes within a
// millisecond. telling is called before the waiters are, once for each of the runs that Release returns.
func (s *Store) Release(mayWait bool, telling func()) (runs int) {
	for _, c := range s.committers {
		g := c.lane.release(mayWait)
		if g == nil {
			continue
		}
		c.telling = telling
		runs += c.commitGroup(g)
		c.telling = nil
		c.lane.recycle(g)
	}
	return runs
}

// syncer syncs the journal while the committer writes segments.
func (c *committer) syncer() {
	for f := range c.syncs {
		c.synced <- f.Sync()
	}
}

// runLength says how many entries are committed together: what the journal file has room for.
func (c *committer) runLength(entries []span) int {
	if c.journal == nil {
		for i, e := range entries {
			if e.barrier {
				return max(i, 1)
			}
		}
		return len(entries)
	}
	for c.store.err.Load() == nil {
		if n := c.journal.fits(entries); n > 0 {
			return n
		}
		c.nextFile()
	}
	return len(entries)
}

// nextFile goes on in another journal file. If there is none it waits for the checkpoint, which asks this goroutine for
// its state.
func (c *committer) nextFile() {
	err := c.journal.advance()
	c.store.requestCheckpoint()
	if err == nil {
		return
	}
	if !errors.Is(err, errNoFile) {
		c.store.fail("begin a journal file", err)
		return
	}
	c.store.counters.stalls.Add(1)
	c.lane.waitFreed(c.journal.freed, c.store.failed)
}

// commit brings a run to its end; every waiter of it is called.
func (c *committer) commit(g *group, entries []span) {
	first, last := entries[0].firstOp, entries[len(entries)-1].lastOp
	ops := g.ops[first:last]
	err := c.store.Err()
	if err == nil {
		c.accept(g, first, last)
		if c.journal != nil {
			err = c.commitToDisk(g, entries)
		} else {
			c.writeMemory(g)
		}
	}
	if err == nil {
		err = c.apply(ops)
	}
	if c.telling != nil {
		c.telling()
	}
	if err == nil {
		c.publish()
	}
	c.tell(ops, err)
}

// accept decides in order which operations stand.
func (c *committer) accept(g *group, first, last int) {
	c.count++
	c.touched = c.touched[:0]
	now := c.store.options.Now().UnixMilli()
	for i := first; i < last; {
		o := &g.ops[i]
		c.touch(o.log)
		n := max(o.tied, 1)
		if o.kind == opAppend {
			c.acceptAppends(g, i, n, now)
		} else {
			o.log.acceptChange(o)
		}
		i += n
	}
}

func (c *committer) touch(l *Log) {
	if l.w.run == c.count {
		return
	}
	l.w.run, l.w.head, l.w.tail = c.count, -1, -1
	l.w.before = l.mark()
	c.touched = append(c.touched, l)
}

// acceptAppends takes n appends together, or none.
func (c *committer) acceptAppends(g *group, first, n int, now int64) {
	ops := g.ops[first : first+n]
	for i := range ops {
		o := &ops[i]
		c.touch(o.log)
		if err := o.log.accept(o, now); err != nil {
			c.refuse(g, ops, i, c.asFull(err))
			return
		}
	}
	for i := range ops {
		w := &ops[i].log.w
		if w.head < 0 {
			w.head = first + i
		} else {
			g.ops[w.tail].sibling = first + i
		}
		w.tail = first + i
	}
}

// refuse voids appends that were accepted together up to failed, and lets the logs give out the offsets again.
func (c *committer) refuse(g *group, ops []op, failed int, err error) {
	for i := failed; i >= 0; i-- {
		o := &ops[i]
		if o.segment == nil {
			continue
		}
		l := o.log
		if err := l.unaccept(o); err != nil {
			c.store.logger.Error("commitlog: undo a refused append", "dir", l.dir, "error", err)
		}
	}
	for i := range ops {
		o := &ops[i]
		g.void(o, err)
		if o.round == o.log.w.round { // otherwise it stands behind a rollback, which took its offsets back already
			o.log.rollback()
		}
	}
	c.store.counters.full.Add(1)
}

// asFull gives every lack of room one error.
func (c *committer) asFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return ErrFull
	}
	return err
}

// rollback lets the next append take the offset behind the last accepted one. What was appended before it and is not
// accepted yet will be refused: it is of an older round.
func (l *Log) rollback() {
	l.mu.Lock()
	l.next = l.w.end
	l.round++
	l.w.round = l.round
	if l.onCut != nil {
		l.onCut(l.next)
	}
	l.mu.Unlock()
}

// commitToDisk writes a run to the journal and to its segments, and syncs the journal.
func (c *committer) commitToDisk(g *group, entries []span) error {
	j := c.journal
	p := g.bytesOf(entries)
	g.seal(entries, j.current.seed, j.sequence, j.synced)
	if err := j.write(p); err != nil {
		var failedSync *syncError
		if errors.Is(err, syscall.ENOSPC) && !errors.As(err, &failedSync) {
			return c.refuseRun(g, entries)
		}
		c.store.fail("write "+j.current.name, err)
		return c.store.Err()
	}
	j.done(len(p), len(entries))
	c.tellEarly(g.ops[entries[0].firstOp:entries[len(entries)-1].lastOp])
	c.store.counters.journalBytes.Add(int64(len(p)))
	concurrent := len(p) > inlineBytes
	if concurrent {
		c.syncs <- j.current
	}
	err := c.writeSegments(g)
	var syncErr error
	if concurrent {
		syncErr = <-c.synced
	} else {
		syncErr = j.current.Sync()
	}
	c.store.counters.syncs.Add(1)
	if syncErr != nil {
		c.store.fail("sync "+j.current.name, syncErr)
	} else if err != nil {
		c.store.fail("write segments", err)
	}
	j.synced = j.sequence - 1
	return c.store.Err()
}

// inlineBytes is the size of a run whose segment writes are cheaper than waking another goroutine for the sync.
const inlineBytes = 32 << 10

func (c *committer) writeSegments(g *group) error {
	for _, l := range c.touched {
		if l.w.head < 0 {
			continue
		}
		c.store.markDirty(l, g)
		var err error
		if c.scratch, err = l.write(g, c.scratch); err != nil {
			return fmt.Errorf("%s: %w", l.dir, err)
		}
	}
	return nil
}

// refuseRun ends a run for which the journal had no room.
func (c *committer) refuseRun(g *group, entries []span) error {
	var errs error
	for _, l := range c.touched {
		errs = errors.Join(errs, l.undo(l.w.before))
		l.w.head = -1
		l.rollback()
		l.mu.Lock()
		l.created = l.w.known
		l.mu.Unlock()
	}
	c.store.counters.full.Add(int64(entries[len(entries)-1].lastOp - entries[0].firstOp))
	if errs != nil {
		c.store.fail("undo after a full disk", errs)
		return c.store.Err()
	}
	c.touched = c.touched[:0]
	return ErrFull
}

// writeMemory writes a run of the memory lane; a log that fails does so alone.
func (c *committer) writeMemory(g *group) {
	for _, l := range c.touched {
		if l.w.head < 0 {
			continue
		}
		c.store.markDirty(l, g)
		var err error
		if c.scratch, err = l.write(g, c.scratch); err == nil {
			continue
		}
		err = c.asFull(err)
		for i := l.w.head; i >= 0; i = g.ops[i].sibling {
			g.ops[i].kind, g.ops[i].err = opVoid, err
			c.store.counters.full.Add(1)
		}
		l.w.head = -1
		if undo := l.undo(l.w.before); undo != nil {
			c.store.logger.Error("commitlog: undo a refused append", "dir", l.dir, "error", undo)
		}
		l.rollback()
	}
}

// publish lets readers see what the run has written.
func (c *committer) publish() {
	for _, l := range c.touched {
		l.publish()
	}
}

// tellEarly calls those who do not wait for the sync.
func (c *committer) tellEarly(ops []op) {
	for i := range ops {
		if o := &ops[i]; o.early && o.kind == opAppend && o.waiter != nil {
			w := o.waiter
			o.waiter = nil
			w.Committed(nil)
		}
	}
}

// tell calls the other waiters, in order. A run that failed takes them all with it.
func (c *committer) tell(ops []op, err error) {
	counters := &c.store.counters
	waiters, appends, bytes := 0, 0, 0
	for i := range ops {
		o := &ops[i]
		if o.kind == opAppend {
			appends++
			bytes += o.length
		}
		if o.waiter == nil {
			continue
		}
		waiters++
		if err != nil {
			o.waiter.Committed(err)
		} else {
			o.waiter.Committed(o.err)
		}
	}
	counters.waiters.Add(int64(waiters))
	if err == nil {
		counters.appends.Add(int64(appends))
		counters.appendedBytes.Add(int64(bytes))
	}
}
