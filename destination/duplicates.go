package destination

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// duplicates is what a partition remembers of the ids of its last messages, so
// that one that is sent again (JMSMessageID, Jakarta Messaging 3.1 §3.4.3) is not
// stored again. It is read back from the end of the log.
type duplicates struct {
	on      atomic.Bool
	loading sync.Mutex // held while the log is read; taken before the log's locks

	mu     sync.Mutex // guards what follows; a leaf, taken under the log's own
	window int        // how many are remembered
	ageMS  int64      // and how long; 0: no limit
	loaded bool
	cuts   int // times that something was taken back
	known  map[idHash]int64
	order  []remembered // oldest first, from head on
	head   int
}

// idHash stands for an id. Two ids do not share one, but for one case in 2^128.
type idHash [2]uint64

type remembered struct {
	id     idHash
	offset int64
	at     int64 // ms
}

// reserved stands in place of the offset of a message whose transaction is being
// committed.
const reserved = -1

// ErrBeingSent: a message of the same id is on its way to the disk, and may not
// get there. It can be sent again.
var ErrBeingSent = fmt.Errorf("%w: a message with this id is being sent", ErrConflict)

var idSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func hashOf(id string) idHash {
	return idHash{maphash.String(idSeeds[0], id), maphash.String(idSeeds[1], id)}
}

// Deduplicate has Send and Reserve look for ids among those of the last so many
// messages, that are no older than age, 0: of any age. A window of 0 ends it.
func (p *Partition) Deduplicate(window int, age time.Duration) {
	d := &p.duplicates
	d.mu.Lock()
	defer d.mu.Unlock()
	if window > d.window || window == 0 {
		d.loaded = false // more of the log is to be read
	}
	d.window, d.ageMS = window, age.Milliseconds()
	if window == 0 {
		d.known, d.order, d.head = nil, nil, 0
	}
	d.on.Store(window > 0)
}

// Deduplicates says whether the ids of messages are looked at.
func (p *Partition) Deduplicates() bool { return p.duplicates.on.Load() }

// Send is Append of one batch of a client's. Where ids are looked at, messages
// that are there already are not stored again: base is that of the first time if
// all of them are, and -1 if some are. w is told in any case, perhaps before Send
// returns.
func (p *Partition) Send(b record.Batch, w commitlog.Waiter) (base int64, err error) {
	if !p.Deduplicates() {
		return p.log.Append(b, w)
	}
	ids, err := idsOf(nil, b)
	if err != nil {
		return 0, err
	}
	s := sending{d: &p.duplicates, ids: ids}
	for {
		if err := p.loadIDs(); err != nil {
			return 0, err
		}
		s.now, s.repeated, s.first = p.log.Now(), s.repeated[:0], -1
		waiter := w
		if len(s.dropped) > 0 {
			waiter = &repeatedIDs{s.d, s.dropped, s.cuts, w}
		}
		base, fresh, err := p.log.AppendChecked(b, false, waiter, &s)
		switch {
		case errors.Is(err, errReload):
			continue
		case errors.Is(err, errRepeated):
			if b, err = s.drop(b); err != nil {
				return 0, err
			}
			if b == nil {
				return s.first, p.log.Barrier(&repeatedIDs{s.d, s.dropped, s.cuts, w})
			}
			continue
		case err != nil:
			return 0, err
		case !fresh || len(s.dropped) > 0:
			return -1, nil
		}
		return base, nil
	}
}

var errRepeated = errors.New("some ids are there already")

// id is a record's place in its batch, and what its id hashes to.
type id struct {
	hash  idHash
	delta int32
	has   bool
}

// idsOf appends the ids of a batch's records.
func idsOf(ids []id, b record.Batch) ([]id, error) {
	var r record.Reader
	var m record.Meta
	if err := r.Reset(b, maxOpened); err != nil {
		return nil, err
	}
	for r.Next() {
		one := id{delta: int32(r.Record().Offset - b.BaseOffset())}
		if header, ok := r.Record().Header(record.JMSHeader); ok && record.ParseMeta(header, &m) == nil && m.ID != "" {
			one.hash, one.has = hashOf(m.ID), true
		}
		ids = append(ids, one)
	}
	return ids, r.Err()
}

// maxOpened bounds what a compressed batch may become, in bytes.
const maxOpened = 64 << 20

// sending is a Gate for a batch whose ids are looked at.
type sending struct {
	d        *duplicates
	ids      []id
	now      int64
	repeated []int    // of ids: those that are there
	first    int64    // the offset of the first of them
	cuts     int      // when that was found
	dropped  []idHash // those that were there and are not in the batch any more
}

// Admit is asked by the log, which is locked.
func (s *sending) Admit(_ record.Batch, at int64) (int64, error) {
	d := s.d
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.window == 0: // meanwhile
		return at, nil
	case !d.loaded:
		return 0, errReload
	}
	s.cuts = d.cuts
	d.expire(s.now)
	for i := range s.ids {
		one := &s.ids[i]
		if !one.has {
			continue
		}
		offset, known := d.known[one.hash]
		switch {
		case known && offset == reserved:
			d.forget(at)
			return 0, ErrBeingSent
		case known && len(s.repeated) == 0:
			s.first = offset
			fallthrough
		case known:
			s.repeated = append(s.repeated, i)
		default:
			d.add(one.hash, at+int64(one.delta), s.now)
		}
	}
	if len(s.repeated) > 0 {
		d.forget(at)
		return 0, errRepeated
	}
	return at, nil
}

// drop takes the repeated records out of b; nil if none is left.
func (s *sending) drop(b record.Batch) (record.Batch, error) {
	for _, i := range s.repeated {
		s.dropped = append(s.dropped, s.ids[i].hash)
	}
	next := s.repeated
	rest, err := keep(b, func(i int) bool {
		if len(next) > 0 && next[0] == i {
			next = next[1:]
			return false
		}
		return true
	})
	if err == nil && rest != nil {
		s.ids, err = idsOf(s.ids[:0], rest)
	}
	return rest, err
}

// keep is b with those records only; nil if there are none.
func keep(b record.Batch, wanted func(i int) bool) (record.Batch, error) {
	var r record.Reader
	if err := r.Reset(b, maxOpened); err != nil {
		return nil, err
	}
	var out record.Builder
	var headers []record.Header
	for i := 0; r.Next(); i++ {
		if !wanted(i) {
			continue
		}
		one := r.Record()
		headers = headers[:0]
		for name, value := range one.Headers() {
			headers = append(headers, record.Header{Key: name, Value: value})
		}
		out.Append(one.Timestamp, one.Key, one.Value, headers)
	}
	if r.Err() != nil || out.Count() == 0 {
		return nil, r.Err()
	}
	return out.Batch(), nil
}

// add remembers an id. The lock is held.
func (d *duplicates) add(id idHash, offset, now int64) {
	d.known[id] = offset
	d.order = append(d.order, remembered{id, offset, now})
	for len(d.order)-d.head > d.window {
		d.pop()
	}
}

// pop forgets the oldest. The lock is held.
func (d *duplicates) pop() {
	old := &d.order[d.head]
	if d.known[old.id] == old.offset {
		delete(d.known, old.id)
	}
	if d.head++; d.head > len(d.order)/2 && d.head > 64 {
		d.order = append(d.order[:0], d.order[d.head:]...)
		d.head = 0
	}
}

// expire forgets those that are too old. The lock is held.
func (d *duplicates) expire(now int64) {
	for d.ageMS > 0 && d.head < len(d.order) && d.order[d.head].at < now-d.ageMS {
		d.pop()
	}
}

// forget takes back what was added at and above an offset. The lock is held.
func (d *duplicates) forget(from int64) {
	kept := d.order[:d.head]
	for _, r := range d.order[d.head:] {
		switch {
		case r.offset < from:
			kept = append(kept, r)
		case d.known[r.id] == r.offset:
			delete(d.known, r.id)
		}
	}
	d.order = kept
}

// cut is told by the log that what was appended from end on is refused.
func (d *duplicates) cut(end int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cuts++ // perhaps it is being read
	d.forget(end)
}

// repeatedIDs waits for the first sending of messages that were sent again.
type repeatedIDs struct {
	d    *duplicates
	ids  []idHash
	cuts int // before
	w    commitlog.Waiter
}

// Committed tells w, after everything before has been committed or refused.
func (r *repeatedIDs) Committed(err error) {
	r.d.mu.Lock()
	for _, id := range r.ids {
		if _, ok := r.d.known[id]; !ok && r.d.cuts != r.cuts && err == nil {
			err = commitlog.ErrFull // it may have been taken back
		}
	}
	r.d.mu.Unlock()
	if r.w != nil {
		r.w.Committed(err)
	}
}

// loadIDs reads the end of the log, if that was not done.
func (p *Partition) loadIDs() error {
	d := &p.duplicates
	d.loading.Lock()
	defer d.loading.Unlock()
	for {
		d.mu.Lock()
		loaded, cuts, window, age := d.loaded, d.cuts, d.window, d.ageMS
		d.mu.Unlock()
		if loaded || window == 0 {
			return nil
		}
		w := make(loadWaiter, 1) // what is on its way is then there, or refused
		if err := p.log.Barrier(w); err != nil {
			return err
		}
		if err := <-w; err != nil {
			return err
		}
		found := duplicates{window: window, ageMS: age, known: map[idHash]int64{}}
		if err := found.read(p.log); err != nil {
			return fmt.Errorf("read the ids of messages: %w", err)
		}
		d.mu.Lock()
		if d.cuts == cuts && d.window == window {
			for id, offset := range d.known {
				if offset == reserved {
					found.known[id] = offset
				}
			}
			d.known, d.order, d.head, d.loaded = found.known, found.order, 0, true
		}
		d.mu.Unlock()
	}
}

func (d *duplicates) read(log *commitlog.Log) error {
	end := log.Stable()
	from := max(log.Start(), end-int64(d.window))
	var buf []byte
	var ids []id
	for from < end {
		var err error
		var damaged *commitlog.DamagedError
		if buf, err = log.Read(from, readStep, buf[:0]); errors.As(err, &damaged) {
			buf, err = log.Read(from, readStep, buf[:0]) // skips it; it was reported where it was found
		}
		if err != nil {
			return err
		}
		before := from
		for rest := buf; len(rest) > 0; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return err
			}
			from = b.NextOffset()
			if b.IsControl() {
				continue
			}
			if ids, err = idsOf(ids[:0], b); err != nil {
				continue // nobody is delivered it either
			}
			for _, one := range ids {
				if one.has {
					d.add(one.hash, b.BaseOffset()+int64(one.delta), b.MaxTimestamp())
				}
			}
		}
		if from == before {
			return nil
		}
	}
	return nil
}

const readStep = 1 << 20

// Reservation is ids of messages whose transaction is being committed.
type Reservation struct {
	d   *duplicates
	ids []id // in the order of the records
	now int64
}

// Reserve returns the batches that are left of those that a transaction sends to
// the partition, nil if none is, and keeps their ids for it until Done. A message
// that is on its way by itself, or with another transaction, is ErrBeingSent.
func (p *Partition) Reserve(batches []byte) (rest []byte, r *Reservation, err error) {
	if err := p.loadIDs(); err != nil {
		return nil, nil, err
	}
	r = &Reservation{d: &p.duplicates, now: p.log.Now()}
	defer func() {
		if err != nil {
			r.Done(0, err)
		}
	}()
	stable, next := p.log.Stable(), int32(0)
	for len(batches) > 0 {
		var b record.Batch
		if b, batches, err = record.Next(batches); err != nil {
			return nil, r, err
		}
		ids, err := idsOf(nil, b)
		if err != nil {
			return nil, r, err
		}
		wanted, err := r.reserve(ids, stable)
		if err != nil {
			return nil, r, err
		}
		kept, err := keep(b, func(i int) bool { return wanted[i] })
		if err != nil {
			return nil, r, err
		}
		for i := range ids {
			if wanted[i] { // in what keep returns, they follow each other
				ids[i].delta = next
				next++
				r.ids = append(r.ids, ids[i])
			}
		}
		rest = append(rest, kept...)
	}
	return rest, r, nil
}

// reserve says which of ids are not there yet, and reserves those.
func (r *Reservation) reserve(ids []id, stable int64) (wanted []bool, err error) {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted = make([]bool, len(ids))
	mine := map[idHash]bool{}
	for i, one := range ids {
		offset, known := d.known[one.hash]
		switch {
		case one.has && mine[one.hash]: // twice in one batch
		case one.has && known && (offset == reserved && !r.has(one.hash) || offset >= stable):
			err = ErrBeingSent
		case one.has && known:
		default:
			if wanted[i] = true; one.has {
				mine[one.hash] = true
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if d.known == nil {
		d.known = map[idHash]int64{}
	}
	for hash := range mine {
		d.known[hash] = reserved
	}
	return wanted, nil
}

func (r *Reservation) has(hash idHash) bool {
	for i := range r.ids {
		if r.ids[i].has && r.ids[i].hash == hash {
			return true
		}
	}
	return false
}

// Done says where the messages are, or that the transaction is not committed.
func (r *Reservation) Done(base int64, err error) {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range r.ids {
		if !one.has || d.known[one.hash] != reserved {
			continue
		}
		delete(d.known, one.hash)
		if err == nil && d.window > 0 {
			d.add(one.hash, base+int64(one.delta), r.now)
		}
	}
}
