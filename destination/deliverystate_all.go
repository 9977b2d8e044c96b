package destination

import (
	"fmt"
	"slices"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

// Change is a cursor that is journaled together with others.
type Change struct {
	ID     CursorID
	Cursor *Cursor
}

// MaxAlso bounds the batches that may go along with JournalAll, bytes; the rest
// of one entry of the journal is for the cursors.
func (s *DeliveryState) MaxAlso() int { return int(s.store.MaxCommitBytes() / 2) }

// JournalAll is Journal for several cursors: what has changed in all of them,
// and the batches of also, are on disk together or not at all. The locks of all
// owners are held. It is used by one goroutine at a time. w, if not nil, is
// told once; it is not called if JournalAll fails, and then what has changed is
// journaled with the next Journal of each cursor.
func (s *DeliveryState) JournalAll(changes []Change, w commitlog.Waiter, also ...commitlog.Write) error {
	j := &journalAll{s: s, w: w, writes: slices.Clone(also)}
	defer j.unlock()
	for i := range changes {
		if err := j.lock(&changes[i]); err != nil {
			return err
		}
	}
	for _, c := range j.pieces {
		j.add(c)
	}
	if len(j.writes) == 0 {
		if w != nil {
			w.Committed(nil)
		}
		return nil
	}
	if err := s.store.Commit(j.writes, j); err != nil {
		for _, p := range j.pieces {
			p.st.stale.Store(true)
		}
		return fmt.Errorf("journal %d cursors: %w", len(changes), err)
	}
	for i := range also {
		also[i].Base = j.writes[i].Base
	}
	for _, p := range j.pieces {
		p.appended(s, j.writes)
	}
	s.maybeTrim()
	return nil
}

// journalAll is one JournalAll. As a Waiter it is told when all of it is on disk.
type journalAll struct {
	s      *DeliveryState
	w      commitlog.Waiter
	writes []commitlog.Write
	pieces []*piece
}

// piece is one cursor's part.
type piece struct {
	st       *cursorState
	cursor   *Cursor
	outcome  outcome
	from, to int   // its writes
	bytes    int64 // of them
	snapshot int64 // size of the snapshot; -1: it is a delta
}

func (j *journalAll) lock(c *Change) error {
	st := j.s.makeState(c.ID)
	st.mu.Lock()
	j.pieces = append(j.pieces, &piece{st: st, cursor: c.Cursor})
	if st.dropped {
		return fmt.Errorf("journal cursor %s: %w", c.ID, ErrDropped)
	}
	return nil
}

func (j *journalAll) unlock() {
	for _, p := range j.pieces {
		p.st.mu.Unlock()
	}
}

// add makes the records of one cursor. Its lock is held.
func (j *journalAll) add(p *piece) {
	st, c := p.st, p.cursor
	st.cursor = c
	p.from, p.snapshot = len(j.writes), -1
	p.outcome = outcome{state: st, snapshotAt: -1}
	switch {
	case st.wantsSnapshot(c):
		st.stale.Store(false)
		p.outcome.snapshotAt = j.s.log.Stable() // as writeSnapshot
		value := c.AppendSnapshot(nil)
		c.forgetDelta()
		p.snapshot = int64(len(value))
		limit := j.s.partBytes
		if parts := (len(value) + limit - 1) / limit; parts > 1 {
			for i := range parts {
				j.write(p, appendPart(nil, i, parts, value[i*limit:min((i+1)*limit, len(value))]))
			}
		} else {
			j.write(p, value)
		}
	case c.Dirty():
		j.write(p, c.TakeDelta(nil))
	}
	p.to = len(j.writes)
}

func (j *journalAll) write(p *piece, value []byte) {
	var e encoder
	batch := p.st.batch(&e, value)
	p.bytes += int64(len(batch))
	j.writes = append(j.writes, commitlog.Write{Log: j.s.log, Batches: batch})
}

// appended notes what was appended for one cursor.
func (p *piece) appended(s *DeliveryState, writes []commitlog.Write) {
	if p.to == p.from {
		return
	}
	st := p.st
	st.last = writes[p.to-1].Base
	s.appended.Add(p.bytes)
	if p.snapshot < 0 {
		st.deltaBytes += p.bytes
		return
	}
	s.live.Add(p.snapshot - st.snapshotBytes)
	st.snapshotBytes, st.deltaBytes = p.snapshot, 0
}

// Committed is called by the log.
func (j *journalAll) Committed(err error) {
	for _, p := range j.pieces {
		if p.to > p.from {
			p.outcome.settle(err)
		}
	}
	if j.w != nil {
		j.w.Committed(err)
	}
}
