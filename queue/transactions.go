package queue

import (
	"sort"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// A view delivers past an open transaction of a Kafka producer (KIP-98). What
// it wrote is held back when a lane comes to it, and let go, or passed, when
// the transaction ends: a lane that comes to the end marker does that, or the
// turn after the marker became stable, whoever is first. What a lane comes to
// later it takes as the transaction has ended.

// sendOutcome is what became of the transaction that wrote a batch.
type sendOutcome uint8

const (
	open sendOutcome = iota
	committed
	aborted
)

// abortedAhead is for how many offsets at once aborted transactions are asked
// for.
const abortedAhead = 1 << 14

// sends is what is known of a partition's transactions at one moment.
type sends struct {
	p        *destination.Partition
	taken    bool
	open     []destination.OpenTransaction    // by producer
	aborted  []destination.AbortedTransaction // that overlap [from, to)
	from, to int64
}

// forget has the next outcome look anew.
func (s *sends) forget() { *s = sends{p: s.p} }

// take looks at what is open now. It must be after stable was.
func (s *sends) take(p *destination.Partition, stable int64) (err error) {
	*s = sends{p: p}
	s.open, err = p.Open()
	s.taken = err == nil
	return err
}

// outcome says what became of a batch's transaction. The batch lies below what
// was stable before the first call.
func (s *sends) outcome(b record.Batch) (sendOutcome, error) {
	if !s.taken {
		if err := s.take(s.p, 0); err != nil {
			return open, err
		}
	}
	if s.isOpen(b.ProducerID(), b.BaseOffset()) {
		return open, nil
	}
	// It had ended when open was asked for, so that what is asked for now says how.
	if b.BaseOffset() < s.from || b.NextOffset() > s.to {
		from, to := b.BaseOffset(), b.NextOffset()+abortedAhead
		list, err := s.p.Aborted(from, to)
		if err != nil {
			return open, err
		}
		s.aborted, s.from, s.to = list, from, to
	}
	if hasAborted(s.aborted, b.ProducerID(), b.BaseOffset(), b.NextOffset()) {
		return aborted, nil
	}
	return committed, nil
}

func (s *sends) isOpen(producer, offset int64) bool {
	i := sort.Search(len(s.open), func(i int) bool { return s.open[i].ProducerID >= producer })
	return i < len(s.open) && s.open[i].ProducerID == producer && s.open[i].FirstOffset <= offset
}

func hasAborted(list []destination.AbortedTransaction, producer, from, to int64) bool {
	for i := range list {
		if a := &list[i]; a.ProducerID == producer && a.FirstOffset < to && a.LastOffset >= from {
			return true
		}
	}
	return false
}

// look has the cursor look at what of a producer's batch is at or above Next.
// It is false if it cannot be said now what became of it.
func (p *part) look(b record.Batch) bool {
	c := p.cursor
	from, to := max(c.Next(), b.BaseOffset()), b.NextOffset()
	if from > c.Next() {
		c.Pass(c.Next(), from) // compacted away
	}
	if b.IsControl() {
		if m, ok := commitlog.ParseMarker(b); ok {
			p.endSend(uint64(b.ProducerID()), m.Commit)
		}
		c.Pass(from, to)
		return true
	}
	if !b.IsTransactional() {
		c.ScanTo(to)
		return true
	}
	o, err := p.sends.outcome(b)
	switch {
	case err != nil:
		p.v.deps.Logger.Error("read transactions", "destination", p.v.d.Name, "partition", p.id.Partition, "offset", from, "error", err)
		p.v.timer.want(p.v.now() + retryDelay.Milliseconds())
		return false
	case o == open:
		c.HoldSend(from, to, uint64(b.ProducerID()))
		p.owe(p.v.now() + journalDelay.Milliseconds())
	case o == aborted:
		c.Pass(from, to)
	default:
		c.ScanTo(to)
	}
	return true
}

// endSend lets go, or passes, what the view holds back of a producer. A lane
// may be reading: it is offered later.
func (p *part) endSend(producer uint64, commit bool) {
	offsets := p.cursor.EndSend(producer, commit)
	if len(offsets) == 0 {
		return
	}
	p.owe(p.v.now() + journalDelay.Milliseconds())
	if commit {
		p.ended = append(p.ended, offsets...)
	}
}

// offerEnded offers to all lanes what endSend has let go.
func (p *part) offerEnded() {
	if len(p.ended) == 0 {
		return
	}
	offsets := p.ended
	p.ended = nil
	p.takeBack(offsets)
	p.v.trigger()
}

// neverLooked is no number that Partition.Ended has.
const neverLooked = 1<<64 - 1

// endSends ends what is held back for transactions that have ended since, also
// while the view was closed.
func (p *part) endSends() {
	if p.cursor.Stats().HeldSends == 0 {
		return
	}
	ends := p.p.Ended()
	if ends == p.ends {
		return
	}
	var now sends
	if err := now.take(p.p, 0); err != nil {
		p.endLater(err)
		return
	}
	for _, producer := range p.cursor.HeldSends() {
		// All of it is of one transaction: the end of one is seen before the next one begins.
		from, to := p.cursor.HeldSend(producer)
		if now.isOpen(int64(producer), from) {
			continue
		}
		list, err := p.p.Aborted(from, to)
		if err != nil {
			p.endLater(err)
			return
		}
		p.endSend(producer, !hasAborted(list, int64(producer), from, to))
	}
	p.ends = ends
	p.offerEnded()
}

func (p *part) endLater(err error) {
	p.offerEnded()
	p.v.deps.Logger.Error("read transactions", "destination", p.v.d.Name, "partition", p.id.Partition, "error", err)
	p.v.timer.want(p.v.now() + retryDelay.Milliseconds())
}

// scanAll has the cursor look at everything up to Stable. It reads where
// transactions were aborted, and what lies above the first open one.
func (p *part) scanAll() {
	stable := p.p.Stable()
	if !p.p.Log().Produced() {
		p.cursor.ScanTo(stable)
		return
	}
	p.sends.forget()
	defer p.offerEnded()
	ended := min(p.p.LastStable(), stable)
	list, err := p.p.Aborted(p.cursor.Next(), ended)
	if err != nil {
		return
	}
	for _, a := range list {
		p.cursor.ScanTo(min(a.FirstOffset, ended))
		if !p.lookUpTo(min(a.LastOffset+1, stable)) {
			return
		}
	}
	p.cursor.ScanTo(ended)
	p.lookUpTo(stable)
}

// lookUpTo reads batches until the cursor has looked at all below offset. It
// is false if that cannot be done.
func (p *part) lookUpTo(offset int64) bool {
	var buf []byte
	for p.cursor.Next() < offset {
		before := p.cursor.Next()
		var err error
		if buf, err = p.p.Read(before, readBytes, buf[:0]); err != nil {
			return false
		}
		for rest := buf; len(rest) > 0 && p.cursor.Next() < offset; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return false
			}
			if b.NextOffset() > p.cursor.Next() && !p.look(b) {
				return false
			}
		}
		if p.cursor.Next() == before {
			return false
		}
	}
	return true
}
