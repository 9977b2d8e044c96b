package commitlog

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sort"

	"github.com/polylog-mq/polylog/destination/record"
)

// transactions says, while segments are cleaned one after the other from the first on, what becomes of producers' batches.
type transactions struct {
	aborted []AbortedTransaction // what ends in the segments or begins there, by producer and end
	newest  map[int64]int64      // the last offset of each producer's newest batch: its sequence is remembered by it
	seen    map[int64]bool       // producers of whose present transaction there was a record
	horizon int64                // ms; end markers from then on stay
}

// verdict is what becomes of a batch.
type verdict int

const (
	stays   verdict = iota
	goes            // as a whole
	asked           // its records are asked for
	emptied         // only its header stays
)

// lastStable is the first offset of the oldest open transaction, or Stable.
func (l *Log) lastStable() (stable int64, err error) {
	if !l.Produced() {
		return l.stable.Load(), nil
	}
	err = l.withProducers(func(p *producers) { stable = p.unstable(l.stable.Load()) })
	return stable, err
}

// transactionsIn is for a cleaning of segments, with admin held.
func (l *Log) transactionsIn(segments []*segment, horizon int64) (*transactions, error) {
	t := &transactions{horizon: horizon, newest: map[int64]int64{}, seen: map[int64]bool{}}
	if len(segments) == 0 || !l.Produced() {
		return t, nil
	}
	l.files.RLock()
	end := l.endOf(segments[len(segments)-1])
	l.files.RUnlock()
	var err error
	if t.aborted, err = l.abortedRebuilt(segments[0].base, end); err != nil {
		return nil, err
	}
	sort.Slice(t.aborted, func(i, j int) bool {
		a, b := &t.aborted[i], &t.aborted[j]
		if a.ProducerID != b.ProducerID {
			return a.ProducerID < b.ProducerID
		}
		return a.LastOffset < b.LastOffset
	})
	return t, l.withProducers(func(p *producers) {
		for id, s := range p.all {
			t.newest[id] = s.LastOffset
		}
	})
}

// aborts says whether a batch belongs to an aborted transaction.
func (t *transactions) aborts(b record.Batch) bool {
	if !b.IsTransactional() || b.IsControl() || len(t.aborted) == 0 {
		return false
	}
	id, last := b.ProducerID(), b.LastOffset()
	i := sort.Search(len(t.aborted), func(i int) bool {
		a := &t.aborted[i]
		return a.ProducerID > id || a.ProducerID == id && a.LastOffset >= last
	})
	return i < len(t.aborted) && t.aborted[i].ProducerID == id && t.aborted[i].FirstOffset <= b.BaseOffset()
}

// judge is asked for each batch, in the log's order.
func (t *transactions) judge(b record.Batch) verdict {
	id := b.ProducerID()
	if b.IsControl() {
		// Everything of a transaction lies before its marker, which stays until all of that has gone in an earlier cleaning
		// (see forgetAborted), and until whoever has read some of it has had the time to read how it ended.
		seen := t.seen[id]
		delete(t.seen, id)
		if seen || b.MaxTimestamp() > t.horizon {
			return stays
		}
		return goes
	}
	if id < 0 {
		return asked
	}
	if b.Count() > 0 && b.IsTransactional() {
		t.seen[id] = true
	}
	switch {
	case b.Count() == 0 && t.isNewest(b):
		return stays
	case b.Count() == 0:
		return goes // it was kept for its sequence, and there is a newer one
	case !t.aborts(b):
		return asked
	case t.isNewest(b):
		return emptied
	}
	return goes
}

// isNewest says whether a batch is its producer's last, which keeps its header, so that the next sequence is known however
// the state is read back. Kafka's cleaner does the same.
func (t *transactions) isNewest(b record.Batch) bool {
	last, known := t.newest[b.ProducerID()]
	return b.ProducerID() >= 0 && known && last == b.LastOffset()
}

// headerOnly is a batch without its records. It opens no transaction.
func headerOnly(b record.Batch) record.Batch {
	const codecAndTransactional = 0x17
	e := append(record.Batch(nil), b[:record.HeaderSize]...)
	e[22] &^= codecAndTransactional
	binary.BigEndian.PutUint32(e[8:], record.HeaderSize-12)
	binary.BigEndian.PutUint32(e[57:], 0)
	binary.BigEndian.PutUint32(e[17:], crc32.Checksum(e[21:], castagnoli))
	return e
}

// forgetAborted takes transactions out of a closed segment's index before their end markers go, durably. A reader that is told
// of an aborted transaction leaves out what its producer wrote until it comes to the marker; without one it would not end.
func (l *Log) forgetAborted(s *segment, markers []int64) error {
	if len(markers) == 0 || !l.Produced() {
		return nil
	}
	list, err := readTxnIndex(l.store.cache, s)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(list), func(e abortedEntry) bool { _, gone := slices.BinarySearch(markers, e.LastOffset); return gone })
	if len(kept) == len(list) {
		return nil
	}
	if err := l.putTxnIndex(s, kept); err != nil || l.memory {
		return err
	}
	return l.syncDir()
}
