package destination

import "fmt"

// trimCursors bounds how many idle cursors one trim writes again: it builds
// them all in memory.
const trimCursors = 4096

// maybeTrim starts a trim if it is time for one and none is under way.
func (s *DeliveryState) maybeTrim() {
	if s.appended.Load() < max(s.trimAfter, 2*s.live.Load()) || !s.trimming.CompareAndSwap(false, true) {
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return
	}
	s.appended.Store(0)
	s.trims.Go(func() {
		defer s.trimming.Store(false)
		// A failure here is a failure of the log, which its waiters are told.
		// The next trim tries again.
		_ = s.trim()
	})
}

// trim drops what no cursor needs from the log's start, and sees to it that
// next time the older half is not needed either: busy cursors are asked for a
// snapshot, and idle ones, whose owners will not come, are read back from the
// log and written again.
func (s *DeliveryState) trim() error {
	start, end := s.log.Start(), s.log.Stable()
	needed, cut := end, start+(end-start)/2
	idle := map[CursorID]*cursorState{}
	for _, st := range s.all() {
		st.mu.Lock()
		at := st.snapshotAt.Load()
		if at < 0 {
			// Its first snapshot may be on disk already, and only not told yet.
			needed = min(needed, st.first)
		} else if needed = min(needed, at); at < cut {
			if st.last >= cut {
				st.stale.Store(true)
			} else if len(idle) < trimCursors {
				idle[st.id] = st
			}
		}
		st.mu.Unlock()
	}
	if needed > start {
		if err := s.log.AdvanceStart(needed); err != nil {
			return fmt.Errorf("trim %s: %w", DeliveryStateName, err)
		}
	}
	return s.rewrite(idle, needed, cut)
}

func (s *DeliveryState) all() []*cursorState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*cursorState, 0, len(s.states))
	for _, st := range s.states {
		all = append(all, st)
	}
	return all
}

// rewrite reads the idle cursors, all of whose records are in [from, to), and
// writes them again.
func (s *DeliveryState) rewrite(idle map[CursorID]*cursorState, from, to int64) error {
	if len(idle) == 0 {
		return nil
	}
	r := replay{
		cursors: map[CursorID]*replayed{},
		wanted:  func(id CursorID) bool { return idle[id] != nil },
	}
	if err := r.read(s.log, from, to); err != nil {
		return fmt.Errorf("trim %s: %w", DeliveryStateName, err)
	}
	e := new(encoder) // not from the pool: a snapshot may be large
	for id, found := range r.cursors {
		if found.cursor == nil {
			continue
		}
		st := idle[id]
		var err error
		st.mu.Lock()
		// If it was written meanwhile, it is not idle, and this is out of date.
		if st.last < to && !st.dropped {
			e.value = found.cursor.AppendSnapshot(e.value[:0])
			if err = st.writeSnapshot(e, nil, nil); err != nil {
				st.stale.Store(true)
			}
		}
		st.mu.Unlock()
		if err != nil {
			return fmt.Errorf("trim %s: %w", DeliveryStateName, err)
		}
	}
	return nil
}
