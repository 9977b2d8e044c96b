package commitlog

import "fmt"

// Commit appends to several logs in one journal entry: after a crash either all of it is there or nothing. What it writes
// to logs in memory has no part in that promise. w, which may be nil, is called once, when all is durable.
//
// Errors as of Append; then nothing was appended and w is not called. If w gets ErrFull, nothing was appended either.
func (s *Store) Commit(ws []Write, w Waiter) error {
	size, err := s.checkWrites(ws)
	if err != nil {
		return err
	}
	lanes := [2]bool{}
	for i := range ws {
		lanes[laneIndex(ws[i].Log)] = true
	}
	for i, ln := range [2]*lane{s.disk, s.memory} {
		if lanes[i] {
			if err := ln.admit(); err != nil {
				return err
			}
		}
	}
	var array [8]*Log
	logs := distinct(array[:0], ws)
	for _, l := range logs {
		l.mu.Lock()
	}
	err = s.commitLocked(ws, w, lanes, size)
	for _, l := range logs {
		l.mu.Unlock()
	}
	return err
}

func laneIndex(l *Log) int {
	if l.memory {
		return 1
	}
	return 0
}

// checkWrites returns the size of the entry.
func (s *Store) checkWrites(ws []Write) (int, error) {
	size := 0
	for i := range ws {
		if ws[i].Log.store != s {
			return 0, fmt.Errorf("commitlog: %s is a log of another store", ws[i].Log.dir)
		}
		if _, err := ws[i].Log.check(ws[i].Batches); err != nil {
			return 0, err
		}
		if err := ws[i].Log.ensureAdopted(); err != nil {
			return 0, err
		}
		size += 2*operationHeader + 8 + len(ws[i].Log.dir) + len(ws[i].Batches)
	}
	if len(ws) == 0 {
		return 0, fmt.Errorf("commitlog: commit of nothing")
	}
	if int64(size) > s.MaxCommitBytes() {
		return 0, ErrTooLarge
	}
	return size, nil
}

// MaxCommitBytes bounds what goes into one Commit, names and headers included, bytes.
func (s *Store) MaxCommitBytes() int64 { return s.options.JournalFileBytes / 4 }

// commitLocked is called with the mutex of every log held. The waiter goes to the disk lane if that has a part.
func (s *Store) commitLocked(ws []Write, w Waiter, lanes [2]bool, size int) error {
	for i, ln := range [2]*lane{s.disk, s.memory} {
		if lanes[i] {
			ln.mu.Lock()
			defer ln.mu.Unlock()
		}
	}
	for i := range ws {
		if err := ws[i].Log.refused(); err != nil {
			return err
		}
	}
	waiting := 0
	if !lanes[0] {
		waiting = 1
	}
	for i, ln := range [2]*lane{s.disk, s.memory} {
		if !lanes[i] {
			continue
		}
		g := ln.filling
		g.entry(size, false)
		for j := range ws { // creations are not part of what stands or falls together
			if laneIndex(ws[j].Log) == i {
				ws[j].Log.create(g)
			}
		}
		first := len(g.ops)
		for j := range ws {
			if laneIndex(ws[j].Log) == i {
				o := ws[j].Log.append(g, ws[j].Batches)
				o.tied = 0
				ws[j].Base = o.base
			}
		}
		g.ops[first].tied = len(g.ops) - first
		if i == waiting {
			g.ops[len(g.ops)-1].waiter = w
		}
		ln.inserted()
	}
	return nil
}

// distinct returns the logs in the order in which their mutexes are taken.
func distinct(logs []*Log, ws []Write) []*Log {
	for i := range ws {
		l := ws[i].Log
		at := 0
		for at < len(logs) && less(logs[at].id, l.id) {
			at++
		}
		if at < len(logs) && logs[at] == l {
			continue
		}
		logs = append(logs, nil)
		copy(logs[at+1:], logs[at:])
		logs[at] = l
	}
	return logs
}

func less(a, b LogID) bool {
	if a.Topic != b.Topic {
		return string(a.Topic[:]) < string(b.Topic[:])
	}
	return a.Partition < b.Partition
}
