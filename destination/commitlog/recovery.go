package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// recover reads the checkpoint, replays the journal over it, and makes the result durable as a new checkpoint. Until then
// it changes nothing that it needs to begin again: journal files are only read, and segments only cut and written behind
// what the old checkpoint says.
func (s *Store) recover() error {
	s.journal = newJournal(s.fs, s.options)
	for _, dir := range []string{journalDir, damagedDir} {
		if err := s.fs.MkdirAll(dir); err != nil {
			return err
		}
	}
	if err := s.fs.SyncDir("."); err != nil {
		return err
	}
	c, damaged, err := readCheckpoint(s.fs)
	if err != nil {
		return err
	}
	for _, d := range damaged {
		s.damage.found(d, true)
	}
	files, err := s.openJournal()
	if err != nil {
		return err
	}
	if c == nil {
		for _, f := range files {
			if f.header.use != 0 { // the first checkpoint is older than the first journal file
				return fmt.Errorf("%w: there is none, but %s is there", ErrCheckpointDamaged, f.name)
			}
		}
		c = &checkpoint{epoch: -1, mark: journalMark{use: 1, position: journalDataStart, sequence: 1}, nextUse: 1}
	}
	s.recovery.Clean = c.clean
	s.recovery.Logs = len(c.logs)
	s.epoch = max(c.epoch+1, s.options.MinEpoch)
	s.journal.epoch = s.epoch
	for i := range c.logs {
		s.restore(&c.logs[i])
	}
	r := &replay{store: s, from: c.mark, committer: committer{store: s}}
	if err := r.run(files); err != nil {
		return err
	}
	return s.restart(c, r)
}

// restore makes a log of its line in the checkpoint, without looking at its files.
func (s *Store) restore(k *checkpointedLog) {
	l := s.newLog(k.id, k.dir, Config{SegmentBytes: k.segmentBytes, Memory: k.memory}.withDefaults())
	l.start.Store(k.start)
	l.created = true
	l.next = k.end
	l.stable.Store(k.end)
	l.durable.Store(k.end)
	l.produced.Store(!k.unproduced)
	l.readable = place{k.base, k.size}
	l.w.known, l.w.adopt = true, k.memory
	l.ready.Store(!k.memory)
	l.w.end, l.w.base, l.w.size = k.end, k.base, k.size
	l.aside.metadata = k.base >= 0
	s.logs[k.id] = l
}

// openJournal opens the journal's files. Those without a readable header have use 0.
func (s *Store) openJournal() ([]*journalFile, error) {
	entries, err := s.fs.ReadDir(journalDir)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	var files []*journalFile
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name, ".journal")
		number, err := strconv.Atoi(digits)
		if !ok || err != nil || e.Dir {
			continue
		}
		f := &journalFile{name: journalName(number)}
		if err := f.open(s.fs, false); err != nil {
			return nil, err
		}
		s.journal.number = max(s.journal.number, number)
		s.journal.free = append(s.journal.free, f)
		files = append(files, f)
		if err := f.readHeader(); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (f *journalFile) readHeader() error {
	for _, at := range []int64{0, journalDataStart / 2} {
		var p [journalHeader]byte
		n, _ := f.ReadAt(p[:], at)
		h, version, err := parseFileHeader(p[:n])
		if errors.Is(err, ErrNewerFormat) {
			return fmt.Errorf("%s: %w: version %d, known is %d", f.name, err, version, journalVersion)
		}
		if err == nil {
			f.header, f.seed = h, h.seed()
			return nil
		}
	}
	return nil
}

// restart makes what was recovered durable, and begins an empty journal.
func (s *Store) restart(old *checkpoint, r *replay) error {
	j := s.journal
	j.sequence, j.synced = r.next, r.next-1
	j.nextUse = max(old.nextUse, r.lastUse+1)
	for _, l := range s.logs {
		if !l.memory {
			l.next = l.w.end
			l.w.run = 0 // the committer counts its runs from 1, as the replay has
			l.publish()
		}
	}
	shot := s.snapshot()
	if err := s.withRoom(true, func() error { return s.writeSnapshot(shot) }); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	s.checkpointed.Store(shot.checkpoint.mark.sequence)
	for _, l := range s.logs {
		l.durable.Store(l.w.end)
	}
	if err := s.dropDamagedJournal(r.aside); err != nil {
		return err
	}
	for _, f := range slices.Clone(j.free) {
		size, err := f.Size()
		if err != nil {
			return err
		}
		f.prepared.Store(min(size, j.fileBytes))
	}
	if err := j.shrink(); err != nil {
		return err
	}
	if !s.reserve.take() {
		s.logger.Warn("commitlog: no room for the reserve", "bytes", s.options.ReservedBytes)
	}
	if err := j.advance(); err != nil {
		return fmt.Errorf("begin a journal file: %w", err)
	}
	if err := j.spare(); err != nil {
		return fmt.Errorf("the journal needs two files of %d bytes: %w", j.fileBytes, err)
	}
	return nil
}

// shrink removes files beyond the bound, after it was lowered, and cuts longer ones.
func (j *journal) shrink() error {
	for len(j.free) > j.maxFiles {
		f := j.free[len(j.free)-1]
		j.free = j.free[:len(j.free)-1]
		if err := errors.Join(f.Close(), j.fs.Remove(f.name)); err != nil {
			return err
		}
	}
	for _, f := range j.free {
		size, err := f.Size()
		if err == nil && size > j.fileBytes {
			err = f.Truncate(j.fileBytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropDamagedJournal removes the journal's names of files that have another one under damaged/.
func (s *Store) dropDamagedJournal(aside []*journalFile) error {
	for _, f := range aside {
		if err := errors.Join(f.Close(), s.fs.Remove(f.name)); err != nil {
			return err
		}
		s.journal.free = slices.DeleteFunc(s.journal.free, func(g *journalFile) bool { return g == f })
	}
	return nil
}

// removeDeleted removes directories of deleted logs that a crash has left.
func (s *Store) removeDeleted() {
	entries, err := s.fs.ReadDir(".")
	for _, e := range entries {
		select {
		case <-s.stop:
			return
		default:
		}
		if e.Dir && strings.HasSuffix(e.Name, deletedSuffix) {
			err = errors.Join(err, s.fs.RemoveAll(e.Name))
		}
	}
	if err != nil && s.Err() == nil {
		s.logger.Warn("commitlog: remove deleted logs", "error", err)
	}
}

// load reads the log's directory and makes its last segment ready. It is called with files held, by whoever needs the
// files first. What lies behind the checkpoint was never confirmed, or is in the journal: it is cut off.
func (l *Log) load() error {
	if l.loaded {
		return nil
	}
	if l.w.adopt {
		if err := l.adopt(); err != nil {
			return fmt.Errorf("adopt %s: %w", l.dir, err)
		}
		l.w.adopt, l.loaded = false, true
		return nil
	}
	bases, err := l.list()
	if err == nil {
		err = l.dropSnapshots(l.stable.Load())
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", l.dir, err)
	}
	for _, base := range bases {
		s := &segment{dir: l.dir, base: base, maxTimestamp: unknownTimestamp}
		if base > l.w.base {
			if err := l.removeSegment(s); err != nil {
				return err
			}
			continue
		}
		l.segments = append(l.segments, s)
	}
	if l.w.base >= 0 {
		if err := l.loadActive(); err != nil {
			return fmt.Errorf("load %s: %w", l.dir, err)
		}
	}
	for _, s := range l.segments[:max(0, len(l.segments)-1)] {
		if s.size, err = l.store.fs.Stat(s.name(kindLog)); err != nil {
			return err
		}
	}
	l.loaded = true
	return nil
}

// loadActive cuts the last segment to the planned size and reads its indexes.
func (l *Log) loadActive() error {
	n := len(l.segments)
	if n == 0 || l.segments[n-1].base != l.w.base { // lost; the read that misses it will say so
		if err := l.store.fs.MkdirAll(l.dir); err != nil {
			return err
		}
		l.segments = append(l.segments, &segment{dir: l.dir, base: l.w.base, fresh: true})
		n = len(l.segments)
	}
	s := l.segments[n-1]
	s.size = l.w.size
	h, err := l.store.cache.acquire(s, kindLog, true)
	if err != nil {
		return err
	}
	defer l.store.cache.release(h)
	size, err := h.Size()
	if err != nil {
		return err
	}
	if err := h.Truncate(s.size); err != nil { // also gives back what was preallocated
		return err
	}
	if size != s.size && !l.memory { // if it is closed soon, its size tells what it holds
		l.store.syncLater(l, s)
	}
	l.w.room = s.size
	x, err := loadIndexes(l.store.cache, s)
	if err != nil {
		return err
	}
	l.indexes, l.indexed = x, s
	end := l.stable.Load()
	if l.w.adopt {
		end = l.w.end
	}
	if err := l.loadTxnIndex(s, end); err != nil {
		return err
	}
	l.w.first = firstTimestamp(h, s.size)
	return l.loadEpochs()
}

// syncLater puts a segment into the list for the next checkpoint, from any goroutine.
func (s *Store) syncLater(l *Log, seg *segment) {
	add := func() {
		if !seg.dirty {
			seg.dirty = true
			s.dirty = append(s.dirty, dirtySegment{log: l, segment: seg})
		}
	}
	if s.started {
		s.disk.ask(add)
	} else {
		add()
	}
}

// firstTimestamp is that of the segment's first batch; 0 if there is none.
func firstTimestamp(f File, size int64) int64 {
	w := &walk{file: f, limit: size}
	if !w.next() {
		return 0
	}
	return w.batch.baseTimestamp
}

// list returns the base offsets of the log's segments, ascending, and ends what a crash has interrupted.
func (l *Log) list() ([]int64, error) {
	entries, err := l.store.fs.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, e := range entries {
		name := path.Join(l.dir, e.Name)
		switch {
		case strings.HasSuffix(e.Name, cleanedSuffix), strings.HasSuffix(e.Name, ".tmp"):
			if err := l.store.fs.Remove(name); err != nil {
				return nil, err
			}
		case strings.HasSuffix(e.Name, swapSuffix):
			base, ok := parseSegmentName(strings.TrimSuffix(e.Name, swapSuffix), extensions[kindLog])
			if !ok {
				continue
			}
			if err := l.finishSwap(base); err != nil {
				return nil, err
			}
			bases = append(bases, base)
		default:
			if base, ok := parseSegmentName(e.Name, extensions[kindLog]); ok {
				bases = append(bases, base)
			}
		}
	}
	slices.Sort(bases)
	return slices.Compact(bases), nil
}

// adopt reads a directory of which nothing else is known: a log in memory after a restart, or a directory copied from a
// Kafka broker. The last segment is checked and cut behind its last valid batch.
func (l *Log) adopt() error {
	bases, err := l.list()
	if err != nil || len(bases) == 0 {
		return err
	}
	if !l.memory {
		if _, err := l.store.fs.Stat(l.dir + "/partition.metadata"); errors.Is(err, fs.ErrNotExist) {
			// Ours, from before a crash, and its creation never became durable: partition.metadata is written after that.
			return l.store.setDirAside(l.dir)
		} else if err != nil {
			return err
		}
	}
	for _, base := range bases {
		s := &segment{dir: l.dir, base: base, maxTimestamp: unknownTimestamp}
		if s.size, err = l.store.fs.Stat(s.name(kindLog)); err != nil {
			return err
		}
		l.segments = append(l.segments, s)
	}
	l.produced.Store(true)
	if err := l.adoptTxnIndexes(); err != nil {
		return err
	}
	last := l.segments[len(l.segments)-1]
	l.w.base = last.base
	end, size, err := l.validEnd(last)
	if err != nil {
		return err
	}
	l.w.end, l.w.size = max(l.w.end, end), size
	if err := l.dropSnapshots(end); err != nil {
		return err
	}
	if err := l.loadActive(); err != nil {
		return err
	}
	l.start.Store(max(l.start.Load(), bases[0]))
	l.readable = place{l.w.base, l.w.size}
	l.stable.Store(l.w.end)
	l.mu.Lock()
	l.next = l.w.end
	l.mu.Unlock()
	return nil
}

// validEnd reads a segment with its checksums up to the first batch that is not valid.
func (l *Log) validEnd(s *segment) (end, size int64, err error) {
	h, err := l.store.cache.acquire(s, kindLog, false)
	if err != nil {
		return 0, 0, err
	}
	defer l.store.cache.release(h)
	end = s.base
	w := &walk{file: h, limit: s.size, buf: make([]byte, 0, walkBytes)}
	for w.next() && w.valid() && w.batch.base >= end {
		end, size = w.batch.next, w.position
	}
	return end, size, ignoreNoBatch(w.err)
}
