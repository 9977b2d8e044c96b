package queue

import "github.com/polylog-mq/polylog/destination"

// counters count what became of messages since the view was opened.
type counters struct {
	delivered, acknowledged, expired, deadLettered, purged, moved, lockExpired int64
}

// Stats account for a view's messages. Of those below Stable and from where
// the cursors started, at all times (Q5)
//
//	Produced = Waiting + Acquired + Scheduled + Held + Done
//
// where offsets that were never looked at count as waiting, though some may be
// no messages. The counts of ViewInfo's second line, Purged and Moved are since
// the view was opened.
type Stats struct {
	destination.ViewInfo
	Produced    int64 // offsets since the cursors started
	Done        int64 // acknowledged, archived, moved, passed: since the cursors started
	Passed      int64 // of Done: no messages, or not for this view
	Purged      int64
	Moved       int64 // to other destinations on an operator's wish
	Moving      int64 // of Acquired: on the way to another destination
	LockExpired int64 // acquisitions whose lock ran out
	WindowBytes int64 // of read-ahead buffers
}

// Stats counts.
func (v *View) Stats() Stats {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := &v.counters
	s := Stats{Purged: n.purged, Moved: n.moved, LockExpired: n.lockExpired}
	s.Delivered, s.Acknowledged, s.Expired, s.DeadLettered = n.delivered, n.acknowledged, n.expired, n.deadLettered
	s.Consumers = len(v.consumers)
	for _, p := range v.parts {
		p.count(&s)
	}
	return s
}

// Length is how many messages wait or are delivered, and not done.
func (v *View) Length() int64 {
	s := v.Stats()
	return s.Waiting + s.Acquired + s.Scheduled + s.Held
}

func (p *part) count(s *Stats) {
	c := p.cursor.Stats()
	unseen := max(p.p.Stable()-p.cursor.Next(), 0)
	s.Waiting += c.Available + unseen
	s.Acquired += c.Acquired
	s.Scheduled += c.Scheduled
	s.Held += c.Held + c.HeldSends
	s.Done += c.Acknowledged + c.Archived + c.Passed
	s.Passed += c.Passed
	s.Produced += p.cursor.Next() - c.Start + unseen
	s.Moving += int64(len(p.moves))
	if p.moving != nil {
		s.Moving += int64(len(p.moving.items))
	}
	s.WindowBytes += p.shared.ready.bytes
	for _, l := range p.lanes {
		s.WindowBytes += l.ready.bytes
	}
}
