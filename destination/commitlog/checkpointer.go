package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"
)

// checkpointRequest asks for a checkpoint; done, which may be nil, gets its end.
type checkpointRequest struct{ done chan error }

// dirtySegment was written since the last checkpoint.
type dirtySegment struct {
	log     *Log
	segment *segment
	fresh   bool  // its name is not durable
	end     int64 // of the log
}

// snapshot is the state of all logs between two runs of the committer.
type snapshot struct {
	checkpoint checkpoint
	dirty      []dirtySegment
}

// syncAllAbove is the number of dirty segments from which on one syncfs is cheaper than a sync of each.
const syncAllAbove = 128

// checkpointAgain is how long after a checkpoint for which there was no room the next one is tried.
const checkpointAgain = 500 * time.Millisecond

// requestCheckpoint asks for one without waiting for it; one that is asked for already will do.
func (s *Store) requestCheckpoint() {
	select {
	case s.checkpoints <- checkpointRequest{}:
	default:
	}
}

// checkpointer writes a checkpoint when a journal file is full, when asked, and some time after the last append.
// It ends when the committers have.
func (s *Store) checkpointer() {
	ticker := time.NewTicker(s.options.CheckpointInterval)
	defer ticker.Stop()
	written := s.counters.journalBytes.Load()
	var again <-chan time.Time // after one that found no room: the committer may be waiting for it
	for {
		var request checkpointRequest
		select {
		case <-s.stop:
			return
		case request = <-s.checkpoints:
		case <-again:
		case <-ticker.C:
			if written == s.counters.journalBytes.Load() {
				continue
			}
		}
		written = s.counters.journalBytes.Load()
		err := s.Err()
		if err == nil {
			err = s.checkpointNow()
		}
		again = nil
		if errors.Is(err, ErrFull) {
			again = time.After(checkpointAgain)
		}
		if request.done != nil {
			request.done <- err
		}
	}
}

func (s *Store) checkpointNow() error {
	began := time.Now()
	got := make(chan snapshot, 1)
	if !s.disk.ask(func() { got <- s.snapshot() }) {
		return ErrClosed
	}
	var shot snapshot
	select {
	case shot = <-got:
	case <-s.stop: // what was asked after the committer ended is not answered
		return ErrClosed
	}
	err := s.withRoom(true, func() error { return s.writeSnapshot(shot) })
	if err == nil {
		s.journal.release(shot.checkpoint.mark.use)
		s.checkpointed.Store(shot.checkpoint.mark.sequence)
		for i := range shot.dirty {
			shot.dirty[i].log.durable.Store(shot.dirty[i].end)
		}
		s.counters.checkpoints.Add(1)
		s.counters.lastCheckpoint.Store(int64(time.Since(began)))
		s.reserve.take()
		return nil
	}
	s.redo(shot)
	var failedSync *syncError
	if errors.Is(err, syscall.ENOSPC) && !errors.As(err, &failedSync) {
		s.logger.Warn("commitlog: no room for a checkpoint, trying again later", "error", err)
		return ErrFull
	}
	s.fail("write checkpoint", err)
	return s.Err()
}

// redo puts the segments of a checkpoint that was not written back into the list.
func (s *Store) redo(shot snapshot) {
	s.disk.ask(func() {
		for _, d := range shot.dirty {
			d.segment.fresh = d.segment.fresh || d.fresh
			if !d.segment.dirty {
				d.segment.dirty = true
				s.dirty = append(s.dirty, d)
			}
		}
	})
}

// markDirty notes the segments that a run writes. Called by the committers; logs in memory are never synced.
func (s *Store) markDirty(l *Log, g *group) {
	if l.memory {
		return
	}
	for i := l.w.head; i >= 0; i = g.ops[i].sibling {
		if seg := g.ops[i].segment; !seg.dirty {
			seg.dirty = true
			s.dirty = append(s.dirty, dirtySegment{log: l, segment: seg})
		}
	}
}

// snapshot is called by the journal's committer between two runs, or when there is none.
func (s *Store) snapshot() snapshot {
	shot := snapshot{dirty: s.dirty}
	s.dirty = nil
	for i := range shot.dirty {
		d := &shot.dirty[i]
		d.fresh, d.end = d.segment.fresh, d.log.w.end
		d.segment.dirty, d.segment.fresh = false, false
	}
	c := &shot.checkpoint
	c.epoch = s.epoch
	c.mark = s.journal.mark()
	s.journal.mu.Lock()
	c.nextUse = s.journal.nextUse
	s.journal.mu.Unlock()
	s.mu.Lock()
	logs := make([]*Log, 0, len(s.logs))
	for _, l := range s.logs {
		logs = append(logs, l)
	}
	s.mu.Unlock()
	c.logs = make([]checkpointedLog, 0, len(logs))
	for _, l := range logs {
		if k, ok := l.checkpointed(); ok {
			c.logs = append(c.logs, k)
		}
	}
	slices.SortFunc(c.logs, func(a, b checkpointedLog) int {
		if less(a.id, b.id) {
			return -1
		}
		return 1
	})
	return shot
}

// checkpointed is the log's line. Of a log in memory only its start and how far it got are kept.
func (l *Log) checkpointed() (checkpointedLog, bool) {
	k := checkpointedLog{
		id: l.id, dir: l.dir, memory: l.memory, segmentBytes: l.config.Load().SegmentBytes,
		start: l.start.Load(), end: l.stable.Load(), base: -1,
	}
	if l.memory {
		return k, true
	}
	if !l.w.known { // whoever adopts the log may be writing the rest of w
		return k, false
	}
	k.end, k.base, k.size = l.w.end, l.w.base, l.w.size
	k.unproduced = !l.produced.Load()
	return k, true
}

// writeSnapshot makes what the snapshot describes durable, and then the snapshot.
func (s *Store) writeSnapshot(shot snapshot) error {
	if err := s.syncDirty(shot.dirty); err != nil {
		return err
	}
	return writeCheckpoint(s.fs, shot.checkpoint.appendTo(nil))
}

// syncDirty syncs segments one after the other, which spreads the load, or all at once if they are many.
func (s *Store) syncDirty(dirty []dirtySegment) error {
	dirs := map[string]bool{}
	for _, d := range dirty {
		if err := d.log.warmProducers(); err != nil {
			d.log.store.logger.Warn("commitlog: read producers", "dir", d.log.dir, "error", err) // there will be no snapshot
		}
		renamed, isNew, err := d.log.saveSidecars()
		if err == nil {
			var created bool
			created, err = d.log.syncTxnIndexes()
			renamed = renamed || created
		}
		if errors.Is(err, fs.ErrNotExist) && d.log.isDeleted() {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.log.dir, err)
		}
		if isNew {
			dirs[parentOf(d.log.dir)] = true
		}
		if renamed || d.fresh {
			dirs[d.log.dir] = true
		}
	}
	if len(dirty) > syncAllAbove {
		err := s.fs.SyncAll()
		if err == nil {
			return nil
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return &syncError{err}
		}
	}
	for _, d := range dirty {
		if err := d.log.syncSegment(d.segment); err != nil {
			return err
		}
	}
	for dir := range dirs {
		if err := s.fs.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &syncError{err}
		}
	}
	return nil
}

func (l *Log) isDeleted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deleted
}

// syncSegment syncs a segment unless it was removed meanwhile, which only an operation in the journal does.
func (l *Log) syncSegment(s *segment) error {
	l.files.RLock()
	if s.gone {
		l.files.RUnlock()
		return nil
	}
	h, err := l.store.cache.acquire(s, kindLog, false)
	l.files.RUnlock()
	if errors.Is(err, fs.ErrNotExist) && l.isDeleted() {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	if err := h.Sync(); err != nil {
		return &syncError{fmt.Errorf("%s: %w", s.name(kindLog), err)}
	}
	return nil
}

// saveSidecars writes what belongs to the log beside its segments. renamed means that a file's name in the log's directory is
// not durable yet, isNew that the directory's own is not.
func (l *Log) saveSidecars() (renamed, isNew bool, err error) {
	l.files.Lock()
	defer l.files.Unlock()
	if l.isDeleted() { // its directory may be another log's by now
		return false, false, nil
	}
	if l.indexed != nil {
		if err := l.indexes.save(l.store.cache, l.indexed); err != nil {
			return false, false, err
		}
	}
	if err := l.saveTxnIndexes(); err != nil {
		return false, false, err
	}
	if err := l.saveProducers(0, false); err != nil {
		return false, false, err
	}
	if renamed, err = l.saveEpochs(); err != nil || l.aside.metadata {
		return renamed, false, err
	}
	// That the file exists shows that the log's creation is durable in the journal: see adopt.
	if err := replaceFile(l.store.fs, l.dir+"/partition.metadata", partitionMetadata(l.id), true); err != nil {
		return false, false, err
	}
	l.aside.metadata = true
	return true, true, nil
}

// finish writes the last checkpoint, when no goroutine is left: the journal behind it is empty.
func (s *Store) finish() error {
	s.mu.Lock()
	logs := make([]*Log, 0, len(s.logs))
	for _, l := range s.logs {
		logs = append(logs, l)
	}
	s.mu.Unlock()
	for _, l := range logs {
		if err := l.finish(); err != nil && !errors.Is(err, syscall.ENOSPC) {
			return err
		}
	}
	shot := s.snapshot()
	shot.checkpoint.clean = true
	c := &shot.checkpoint
	c.mark.use, c.mark.position, c.mark.synced = c.nextUse, journalDataStart, c.mark.sequence-1
	err := s.withRoom(true, func() error { return s.writeSnapshot(shot) })
	if err != nil {
		s.fail("write the last checkpoint", err)
	}
	return err
}

// finish writes the indexes and the producers' state at the end, and gives back spare room.
func (l *Log) finish() error {
	l.files.Lock()
	defer l.files.Unlock()
	if !l.loaded || l.indexed == nil {
		return nil
	}
	if err := l.indexes.save(l.store.cache, l.indexed); err != nil {
		return err
	}
	if err := l.saveTxnIndexes(); err != nil {
		return err
	}
	if err := l.saveProducers(l.w.end, false); err != nil {
		return err
	}
	h, err := l.store.cache.acquire(l.indexed, kindLog, false)
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	return h.Truncate(l.w.size)
}
