package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"

	"github.com/polylog-mq/polylog/destination/record"
)

// replay applies the journal to the logs of the checkpoint.
//
// It reads the journal twice. The first time it finds where it ends: entries are numbered, and each tells up to which one
// everything was synced when it was written. Where an entry is missing above the highest such number, the group that was
// being written at the crash is torn, was never confirmed, and is cut off with all that follows. Where one is missing
// below, the file is damaged (reliability S2): what follows is applied, and the logs continue with a gap.
type replay struct {
	store     *Store
	from      journalMark
	committer committer

	next    uint64 // the next sequence that is expected
	end     uint64 // the first that is cut off
	synced  uint64
	last    *journalFile // of the newest entry so far, and where that ends
	lastEnd int
	lastUse uint64
	gaps    []journalGap
	deletes []deletion
	deleted map[LogID]uint64 // the sequence of the last deletion
	aside   []*journalFile
	group   group
}

// deletion is where a log was deleted: a later one of the same id has nothing to do with it.
type deletion struct {
	id       LogID
	sequence uint64
}

// journalGap is a range of missing entries.
type journalGap struct {
	file     *journalFile
	position int
	length   int
	from, to uint64
}

func (r *replay) run(all []*journalFile) error {
	r.next, r.synced = r.from.sequence, r.from.synced
	var files, unreadable []*journalFile
	for _, f := range all {
		switch r.lastUse = max(r.lastUse, f.header.use); {
		case f.header.use == 0:
			unreadable = append(unreadable, f)
		case f.header.use >= r.from.use:
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b *journalFile) int { return int(int64(a.header.use - b.header.use)) })
	if err := r.each(files, r.scan); err != nil {
		return err
	}
	if err := r.judge(unreadable); err != nil {
		return err
	}
	r.deleted = map[LogID]uint64{}
	for _, d := range r.deletes {
		if d.sequence < r.end {
			r.deleted[d.id] = d.sequence
		}
	}
	if err := r.each(files, r.apply); err != nil {
		return err
	}
	r.next = r.end
	return nil
}

// each reads every file whole and hands over its entries in order. Where none starts, the next one is looked for.
func (r *replay) each(files []*journalFile, visit func(f *journalFile, at int, e entry) error) error {
	next := r.from.sequence
	var buf []byte
	for _, f := range files {
		size, err := f.Size()
		if err != nil {
			return err
		}
		if int64(cap(buf)) < size {
			buf = make([]byte, size)
		}
		n, err := f.ReadAt(buf[:size], 0)
		if err != nil && err != io.EOF {
			return fmt.Errorf("read %s: %w", f.name, err)
		}
		at := journalDataStart
		if f.header.use == r.from.use {
			at = int(min(r.from.position, math.MaxInt32))
		}
		for p := buf[:n]; ; {
			var e entry
			if at, e = nextEntry(p, at, f.seed, next); at < 0 {
				break
			}
			if err := visit(f, at, e); err != nil {
				return fmt.Errorf("%s at byte %d: %w", f.name, at, err)
			}
			at, next = at+e.size, e.sequence+1
		}
	}
	return nil
}

// nextEntry finds the first valid entry at or behind a position whose sequence is not below next; -1 if there is none.
// What a recycled file holds of earlier uses has lower numbers and another seed.
func nextEntry(p []byte, at int, seed uint32, next uint64) (int, entry) {
	for ; at+entryHeader <= len(p); at += entryAlign {
		if s := binary.BigEndian.Uint64(p[at+8:]); s < next || s-next > uint64(len(p)) || binary.BigEndian.Uint64(p[at+16:]) >= s {
			continue
		}
		if e, err := parseEntry(p[at:], seed); err == nil {
			return at, e
		}
	}
	return -1, entry{}
}

// scan is the first reading.
func (r *replay) scan(f *journalFile, at int, e entry) error {
	if e.sequence != r.next {
		from := journalDataStart
		if r.last == f {
			from = r.lastEnd
		}
		r.gaps = append(r.gaps, journalGap{file: f, position: from, length: at - from, from: r.next, to: e.sequence})
	}
	r.last, r.lastEnd = f, at+e.size
	r.next = e.sequence + 1
	r.synced = max(r.synced, e.synced)
	return operationsOf(e.body, e.operations, func(o operation) error {
		if o.kind == opDelete {
			r.deletes = append(r.deletes, deletion{o.id, e.sequence})
		}
		return nil
	})
}

// judge tells a torn tail from damage.
func (r *replay) judge(unreadable []*journalFile) error {
	r.end = r.next
	for i, g := range r.gaps {
		if g.from > r.synced {
			r.end = g.from
			r.gaps = r.gaps[:i]
			break
		}
	}
	if r.end <= r.synced { // the newest of what was synced is gone
		r.gaps = append(r.gaps, journalGap{from: r.end, to: r.synced + 1})
	}
	for _, g := range r.gaps {
		d := &DamagedError{
			Dir: journalDir, Offset: int64(g.from), Next: int64(g.to), Position: int64(g.position), Length: int64(g.length),
			Reason: "synced entries are missing",
		}
		if g.file != nil {
			d.Segment = path.Base(g.file.name)
			aside, err := r.setAside(g.file)
			if err != nil {
				return err
			}
			d.Aside = aside
		}
		r.store.damage.found(d, true)
	}
	if len(r.gaps) > 0 {
		for _, f := range unreadable {
			if _, err := r.setAside(f); err != nil {
				return err
			}
		}
		r.end = max(r.end, r.synced+1)
	}
	return nil
}

// setAside gives a journal file a second name, so that it survives being recycled.
func (r *replay) setAside(f *journalFile) (string, error) {
	name, err := r.store.linkAside(f.name, fmt.Sprintf("%s.%d", path.Base(f.name), f.header.use))
	if err == nil && !slices.Contains(r.aside, f) {
		r.aside = append(r.aside, f)
	}
	return name, err
}

// apply is the second reading. An entry is a run: its appends are written together.
func (r *replay) apply(f *journalFile, _ int, e entry) error {
	if e.sequence >= r.end {
		r.store.recovery.TornBytes += int64(e.size)
		return nil
	}
	recovery := &r.store.recovery
	if f.header.use != r.lastApplied() {
		recovery.JournalFiles++
	}
	recovery.Entries++
	recovery.Bytes += int64(e.size)
	c := &r.committer
	c.count++
	c.touched = c.touched[:0]
	r.group.buf, r.group.ops = e.body, r.group.ops[:0]
	r.store.journal.sequence = e.sequence
	r.store.journal.nextUse = f.header.use
	at := 0
	err := operationsOf(e.body, e.operations, func(o operation) error {
		header := at
		at += operationHeader + len(o.payload)
		if e.sequence < r.deleted[o.id] {
			return nil
		}
		return r.operation(o, header)
	})
	if err != nil {
		return err
	}
	return r.flush()
}

// lastApplied is the use of the file of the entry before; the journal's field is free until the recovery ends.
func (r *replay) lastApplied() uint64 { return r.store.journal.nextUse }

// flush writes what the entry has appended so far.
func (r *replay) flush() error {
	c := &r.committer
	if err := c.writeSegments(&r.group); err != nil {
		return err
	}
	for _, l := range c.touched {
		l.w.head, l.w.tail = -1, -1
	}
	r.group.ops = r.group.ops[:0]
	return nil
}

func (r *replay) operation(o operation, header int) error {
	s := r.store
	l := s.logs[o.id]
	if o.kind == opCreate {
		return r.create(o)
	}
	if o.kind == opVoid || o.kind == opDelete && l == nil {
		return nil
	}
	if l == nil {
		s.damage.found(&DamagedError{Dir: o.id.String(), Offset: o.offset, Next: o.offset + 1, Reason: "its creation is lost from the journal"}, true)
		return nil
	}
	r.committer.touch(l)
	switch o.kind {
	case opAppend:
		return r.append(l, o, header)
	case opSkip:
		l.w.end = max(l.w.end, o.offset)
	case opStart:
		l.start.Store(max(l.start.Load(), o.offset))
	case opTruncate:
		if err := r.flush(); err != nil {
			return err
		}
		return l.truncate(o.offset)
	case opDelete:
		if err := r.flush(); err != nil {
			return err
		}
		delete(s.logs, l.id)
		return l.renameDeleted()
	default:
		return fmt.Errorf("%w: operation %d", ErrNewerFormat, o.kind)
	}
	return nil
}

// create makes the log that the operation names, unless the checkpoint has it.
func (r *replay) create(o operation) error {
	segmentBytes, dir, err := parseCreate(o.payload)
	if err != nil {
		return err
	}
	if l := r.store.logs[o.id]; l != nil {
		l.w.known = true
		return nil
	}
	r.store.restore(&checkpointedLog{
		id: o.id, segmentBytes: segmentBytes, dir: dir, base: -1, start: o.offset, end: o.offset, unproduced: true,
	})
	return nil
}

// append applies an append. Behind damage in the journal it may not be contiguous.
func (r *replay) append(l *Log, o operation, header int) error {
	if o.offset < l.w.end { // a truncation is lost
		if err := r.flush(); err != nil {
			return err
		}
		if err := l.truncate(o.offset); err != nil {
			return err
		}
	} else if o.offset > l.w.end {
		r.store.damage.found(&DamagedError{
			Dir: l.dir, Segment: path.Base(segmentName(l.dir, max(l.w.base, 0), extensions[kindLog])),
			Offset: l.w.end, Next: o.offset, Position: l.w.size, Reason: "its appends are lost from the journal",
		}, true)
		l.w.end = o.offset
	}
	next, err := checkOffsets(o.payload, o.offset)
	if err != nil {
		return err
	}
	g := &r.group
	g.ops = append(g.ops, op{
		kind: opAppend, log: l, header: header, at: header + operationHeader, length: len(o.payload),
		base: o.offset, next: next, sibling: -1,
	})
	i := len(g.ops) - 1
	if err := l.accept(&g.ops[i], r.store.options.Now().UnixMilli()); err != nil {
		return err
	}
	if l.w.head < 0 {
		l.w.head = i
	} else {
		g.ops[l.w.tail].sibling = i
	}
	l.w.tail = i
	return nil
}

// checkOffsets walks stamped batches and returns the offset behind them.
func checkOffsets(batches []byte, base int64) (int64, error) {
	for rest := batches; len(rest) > 0; {
		b, tail, err := record.Next(rest)
		if err != nil {
			return 0, err
		}
		if b.BaseOffset() != base || b.LastOffsetDelta() < 0 {
			return 0, errors.New("batch with another offset than its entry")
		}
		base, rest = b.NextOffset(), tail
	}
	return base, nil
}
