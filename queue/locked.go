package queue

import (
	"fmt"
	"math"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// Extend gives h more time for what it holds: until lock from now. It is all or
// nothing, a *destination.StaleTokenError names the first delivery that was not
// h's newest of its message. Locks are not journaled: after a restart nobody
// holds anything.
func (v *View) Extend(h destination.Holder, spans []Span, lock time.Duration) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return v.closedError()
	}
	for _, s := range spans {
		if s.Partition < 0 || int(s.Partition) >= len(v.parts) || s.Count <= 0 || s.Offset < 0 {
			return fmt.Errorf("extend on %q: %w: partition %d, %d records", v.d.Name, destination.ErrInvalid, s.Partition, s.Count)
		}
		if err := v.parts[s.Partition].cursor.CheckRange(s.Offset, s.Offset+int64(s.Count), s.Acquisition, h); err != nil {
			return err
		}
	}
	until := v.now() + lockMS(lock)
	for _, s := range spans {
		for i := range int64(s.Count) {
			if err := v.parts[s.Partition].cursor.Extend(s.Offset+i, s.Acquisition+uint64(i), until); err != nil {
				panic("queue: a checked token is stale: " + err.Error())
			}
		}
	}
	return nil
}

// LimitDeliveries has a message leave for the dead letter destination after so
// many deliveries, whatever the destination's settings say; 0 takes that back.
func (v *View) LimitDeliveries(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.limit = max(n, 0)
}

func (v *View) maxDeliveries() int {
	if v.limit > 0 {
		return v.limit
	}
	return v.settings.MaxDeliveries
}

// PartitionStats counts what is in one partition, as Stats does; the counts
// since the view was opened are left out. It is false if there is no such
// partition.
func (v *View) PartitionStats(partition int32) (s Stats, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if partition < 0 || int(partition) >= len(v.parts) {
		return s, false
	}
	v.parts[partition].count(&s)
	return s, true
}

// SeekTo is Seek with an offset for each partition that is to go on elsewhere;
// those beyond a partition's end stand for it.
func (v *View) SeekTo(offsets map[int32]int64, w commitlog.Waiter) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return v.closedError()
	}
	for i := range offsets {
		switch {
		case i < 0 || int(i) >= len(v.parts):
			return fmt.Errorf("seek %q: %w: partition %d", v.d.Name, destination.ErrNotFound, i)
		case v.parts[i].busy() || len(v.parts[i].moves) > 0:
			return fmt.Errorf("seek %q: %w: messages are being moved", v.d.Name, destination.ErrBusy)
		}
	}
	for i, offset := range offsets {
		p := v.parts[i]
		p.seek(min(max(offset, p.p.Start()), p.p.End()))
		v.touch(p)
	}
	v.trigger()
	return v.journalTouched(w)
}

// seek has the cursor forget what was delivered and go on at offset.
func (p *part) seek(offset int64) {
	p.cursor.SeekTo(offset)
	p.rewind(offset)
	p.locked = 0
}

// unlimited is a credit in bytes that is never used up.
const unlimited = math.MaxInt64
