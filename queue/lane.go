package queue

import (
	"errors"
	"hash/maphash"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

const (
	// windowBytes bounds what a lane has read ahead, in bytes of buffers. One
	// batch more may be there, however large.
	windowBytes = 1 << 20
	// blockedFactor is by how much a window may grow for messages whose groups
	// wait for their owners, so that other groups go past them.
	blockedFactor = 16
	// defaultWindow is the window, in records, where priority.window is 0.
	defaultWindow = 1024
	// maxBack bounds the stretches of returned messages that a lane remembers.
	// Beyond, it looks again at everything from the first of them on.
	maxBack = 1024
)

// lane reads one partition ahead for one consumer with a selector, or for all
// that have none.
//
// What is available below scan is in ready or in back, or the lane's consumer
// does not want it. A message may be in several lanes, or twice in one after it
// went through another: what counts is whether the cursor still has it.
type lane struct {
	p        *part
	consumer *Consumer // nil: shared
	scan     int64     // the next offset to look at
	back     intervals // below scan: available again, to be looked at first
	ready    ready
	expiry   *expiry // whose lane it is, nil for all others
	slack    bool    // something was read into a buffer that is much too large for it
}

// rewind looks again at everything from offset on.
func (l *lane) rewind(offset int64) {
	l.drop()
	l.scan = offset
}

// drop forgets what was read ahead. It will be read again.
func (l *lane) drop() {
	if lowest, any := l.ready.clear(); any {
		l.scan = min(l.scan, lowest)
	}
	if len(l.back) > 0 {
		l.scan = min(l.scan, l.back[0].from)
		l.back = nil
	}
}

// giveBack offers [from, to) again, unless the lane comes there anyway.
func (l *lane) giveBack(from, to int64) {
	if from >= l.scan {
		return
	}
	if l.consumer == nil && l.ready.records == 0 && len(l.back) == 0 && to >= l.scan {
		// Nothing else is available below scan, and nothing lies between, so
		// going back costs nothing.
		l.scan = from
		return
	}
	l.back.add(from, min(to, l.scan))
	if len(l.back) > maxBack {
		l.drop()
	}
}

// window is how many records the lane reads ahead.
func (l *lane) window() int64 {
	if n := l.p.v.settings.PriorityWindow; n > 0 {
		return int64(n)
	}
	return defaultWindow
}

// room says whether the lane may read on.
func (l *lane) room() bool {
	q, window := &l.ready, l.window()
	if q.blocked == 0 {
		return q.records < window && q.bytes < windowBytes
	}
	return q.records-q.blocked < window && q.records < blockedFactor*window && q.bytes < blockedFactor*windowBytes
}

// fill reads ahead: first what came back, which goes in front of the backlog
// and so may find the window full, then on from scan.
func (l *lane) fill(now int64) {
	for len(l.back) > 0 && l.ready.records < 2*blockedFactor*l.window() && l.ready.bytes < 2*blockedFactor*windowBytes && l.mayRead() {
		if !l.readBack(now) {
			break
		}
	}
	for l.room() && l.position() < l.p.stable && l.mayRead() {
		if !l.readOn(now) {
			break
		}
	}
}

// mayRead says whether the lane may read any more in this turn.
func (l *lane) mayRead() bool {
	v := l.p.v
	if l.consumer != nil && v.scan.left <= 0 {
		v.scan.wanted = true
		return false
	}
	return v.readLeft > 0
}

// position moves scan to the next offset where there may be something to do.
func (l *lane) position() int64 {
	if next := l.p.cursor.Next(); l.scan < next {
		start := next
		for from := range l.p.cursor.UndoneRanges(l.scan, next) {
			start = from
			break
		}
		l.scan = start
	}
	return l.scan
}

// read reads from offset into a chunk. It is nil if there is nothing, or if
// the read failed, which is tried again a little later.
func (l *lane) read(offset int64) *chunk {
	c := chunks.Get().(*chunk)
	for range 2 {
		buf, err := l.p.p.Read(offset, readBytes, c.buf[:0])
		c.buf, c.runs = buf, 0
		if len(buf) > 0 {
			l.p.v.readLeft -= int64(len(buf))
			if l.consumer != nil {
				l.p.v.scan.left -= int64(len(buf))
			}
			return c
		}
		var damaged *commitlog.DamagedError
		switch {
		case err == nil:
			// There is nothing up to the end: a power cut took what a log in
			// memory had, and it goes on behind what was seen of it.
			l.missing(offset)
			c.free()
			return nil
		case errors.As(err, &damaged):
			// Reported where it was found. The next read skips it.
		case errors.Is(err, commitlog.ErrOffsetOutOfRange) && offset < l.p.p.Start():
			// Retention did not wait for this view.
			start := l.p.p.Start()
			l.p.cursor.Pass(l.p.cursor.Floor(), start)
			offset, l.scan = start, max(l.scan, start)
			l.back.below(start)
		default:
			l.p.v.deps.Logger.Error("read for delivery", "destination", l.p.v.d.Name, "partition", l.p.id.Partition, "offset", offset, "error", err)
			l.p.v.timer.want(l.p.v.now() + retryDelay.Milliseconds())
			c.free()
			return nil
		}
	}
	c.free()
	return nil
}

// readOn reads one chunk from scan on, and says whether it came any further.
func (l *lane) readOn(now int64) bool {
	before := l.scan
	c := l.read(l.scan)
	if c == nil {
		return l.scan > before
	}
	c.runs++ // until all is looked at
	for rest := c.buf; len(rest) > 0; {
		at := len(c.buf) - len(rest)
		b, r, err := record.Next(rest)
		if err != nil || b.NextOffset() > l.p.stable {
			break
		}
		rest = r
		if b.NextOffset() <= l.scan {
			continue
		}
		if !l.lookAt(c, int32(at), b, now) {
			break
		}
		l.scan = b.NextOffset()
		if !l.room() {
			break
		}
	}
	l.settleChunk(c)
	before, after := before, l.scan
	l.p.offerEnded()
	return after > before
}

// lookAt looks at what of a batch is at or above scan. It is false if that cannot be done now.
func (l *lane) lookAt(c *chunk, at int32, b record.Batch, now int64) bool {
	cursor := l.p.cursor
	from, to := max(l.scan, b.BaseOffset()), b.NextOffset()
	if from > l.scan {
		cursor.Pass(l.scan, from) // compacted away
	}
	next := cursor.Next()
	if b.ProducerID() >= 0 && to > next {
		if !l.p.look(b) {
			return false
		}
		next = to // what is open is not available
	}
	if b.IsControl() {
		cursor.Pass(from, to)
		return true
	}
	cursor.ScanTo(to)
	available := l.p.v.available[:0]
	if next > from {
		for f, t := range cursor.UndoneRanges(from, min(next, to)) {
			available = append(available, interval{f, t})
		}
	}
	if next < to {
		available = append(available, interval{max(next, from), to})
	}
	l.p.v.available = available
	if len(available) > 0 {
		l.absorb(c, at, b, available, true, now)
	}
	return true
}

// readBack reads one chunk of what came back, and says whether it came any further.
func (l *lane) readBack(now int64) bool {
	before := l.back[0].from
	c := l.read(before)
	if c == nil {
		return len(l.back) == 0 || l.back[0].from > before
	}
	c.runs++
	for rest := c.buf; len(rest) > 0 && len(l.back) > 0; {
		at := len(c.buf) - len(rest)
		b, r, err := record.Next(rest)
		if err != nil {
			break
		}
		rest = r
		l.passMissing(b.BaseOffset())
		if len(l.back) == 0 || l.back[0].from >= b.NextOffset() {
			continue
		}
		available := l.p.v.available[:0]
		for _, i := range l.back {
			if i.from >= b.NextOffset() {
				break
			}
			for f, t := range l.p.cursor.UndoneRanges(i.from, min(i.to, b.NextOffset())) {
				available = append(available, interval{f, t})
			}
		}
		l.p.v.available = available
		if len(available) > 0 {
			l.absorb(c, int32(at), b, available, false, now)
		}
		l.back.below(b.NextOffset())
	}
	l.settleChunk(c)
	return len(l.back) == 0 || l.back[0].from > before
}

// missing passes everything from offset up to stable, none of which is in the
// log.
func (l *lane) missing(offset int64) {
	stable := l.p.stable
	if offset >= stable {
		return
	}
	l.p.cursor.Pass(offset, stable)
	l.p.owe(l.p.v.now() + journalDelay.Milliseconds())
	l.back.below(stable)
	l.scan = max(l.scan, stable)
}

// passMissing passes what came back and is not in the log any more, below offset.
func (l *lane) passMissing(offset int64) {
	for len(l.back) > 0 && l.back[0].from < offset {
		to := min(l.back[0].to, offset)
		l.p.cursor.Pass(l.back[0].from, to)
		l.back.below(to)
	}
}

// settleChunk ends the reader's own use of a chunk.
func (l *lane) settleChunk(c *chunk) {
	c.runs--
	if c.runs == 0 {
		c.free()
		return
	}
	l.ready.bytes += int64(cap(c.buf))
	if len(c.buf) < cap(c.buf)/2 {
		l.slack = true
	}
}

// absorb sorts the records of b, which is at at in c and in the log, into the
// window, as far as they are in available. What is in available and not in b
// was compacted away, or is damaged. scanning says that all of them come behind
// what is in the window.
func (l *lane) absorb(c *chunk, at int32, b record.Batch, available intervals, scanning bool, now int64) {
	v := l.p.v
	packed := b.Compression() != record.None
	position := at + record.HeaderSize
	if packed {
		position = record.HeaderSize
	}
	runs := v.runs[:0]
	err := v.reader.Reset(b, maxDecompressed)
	for err == nil && len(available) > 0 && v.reader.Next() {
		r := v.reader.Record()
		one := run{chunk: c, batch: at, batchEnd: at + int32(len(b)), at: position, from: r.Offset, to: r.Offset + 1}
		position += int32(len(r.Raw()))
		one.end = position
		var wanted bool
		if available, wanted = l.upTo(available, r.Offset); !wanted || !l.admit(r, &one, now) {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].continues(&one) {
			runs[n-1].to, runs[n-1].end = one.to, one.end
			runs[n-1].expires = min(runs[n-1].expires, one.expires)
			continue
		}
		runs = append(runs, one)
	}
	v.runs = runs[:0]
	if err = v.reader.Err(); err != nil {
		v.deps.Logger.Error("damaged batch is not delivered", "destination", v.d.Name, "partition", l.p.id.Partition, "offset", b.BaseOffset(), "error", err)
	}
	for _, i := range available {
		l.p.cursor.Pass(i.from, i.to)
	}
	if packed && len(runs) > 0 && !l.unpack(runs, b) {
		return
	}
	for i := range runs {
		if scanning {
			l.ready.push(runs[i])
		} else {
			l.ready.insert(runs[i])
		}
		runs[i].chunk = nil
	}
}

// upTo goes on in available to offset, says whether that is in it, and passes
// what is in it before. It changes available's array.
func (l *lane) upTo(available intervals, offset int64) (rest intervals, wanted bool) {
	for len(available) > 0 && available[0].to <= offset {
		l.p.cursor.Pass(available[0].from, available[0].to)
		available = available[1:]
	}
	if len(available) == 0 || offset < available[0].from {
		return available, false
	}
	if offset > available[0].from {
		l.p.cursor.Pass(available[0].from, offset)
	}
	if available[0].from = offset + 1; available[0].from == available[0].to {
		available = available[1:]
	}
	return available, true
}

// unpack has the runs of a compressed batch point to its bytes: as they are if
// it is one run that may leave whole, else out of the compression.
func (l *lane) unpack(runs []run, b record.Batch) bool {
	if len(runs) == 1 && runs[0].records() == int64(b.Count()) {
		runs[0].at, runs[0].end = 0, runs[0].batchEnd
		return true
	}
	c, err := decompress(b)
	if err != nil {
		l.p.v.deps.Logger.Error("decompress for delivery", "destination", l.p.v.d.Name, "offset", b.BaseOffset(), "error", err)
		return false
	}
	for i := range runs {
		runs[i].chunk, runs[i].batch, runs[i].batchEnd = c, 0, int32(len(c.buf))
	}
	return true
}

// decompress returns b out of its compression, in a chunk of its own.
func decompress(b record.Batch) (*chunk, error) {
	opened, err := record.Compress(nil, b, record.None)
	if err != nil {
		return nil, err
	}
	return &chunk{buf: opened}, nil
}

// open takes a packed run out of its compression. If that fails, which it did
// not when the batch was read, the run is passed.
func (l *lane) open(r *run) bool {
	c, err := decompress(r.stored())
	if err != nil {
		l.p.cursor.Pass(r.from, r.to)
		return false
	}
	l.ready.open(r, c)
	return true
}

var groupSeed = maphash.MakeSeed()

// slotOf is the slot of a message group. Groups that share one share its owner.
func slotOf(group []byte) int32 { return int32(maphash.Bytes(groupSeed, group) % groupSlots) }

// admit decides what is to be done with an available record. If it is to be
// delivered it says so and completes the run.
func (l *lane) admit(r *record.Record, one *run, now int64) bool {
	v := l.p.v
	header, _ := r.Header(record.JMSHeader)
	// With an error the routing is that of a record that says nothing: what a
	// sender wrote into a header must not keep a message from being delivered.
	routing, _ := record.ParseRouting(header)
	if v.filter(r, header) {
		l.p.cursor.Pass(r.Offset, r.Offset+1)
		return false
	}
	if routing.Expiration > 0 && routing.Expiration <= now {
		l.p.expire(r.Offset)
		return false
	}
	if routing.DeliveryTime > now && l.p.cursor.Count(r.Offset) == 0 {
		l.p.cursor.Schedule(r.Offset, routing.DeliveryTime)
		l.p.owe(now + journalDelay.Milliseconds())
		return false
	}
	if l.expiry != nil && routing.Expiration > 0 {
		l.expiry.note(r.Offset, routing.Expiration)
	}
	if l.consumer != nil && !l.consumer.selector.Match(r) {
		return false
	}
	one.expires = max(routing.Expiration, 0)
	one.priority = record.DefaultPriority
	if v.settings.PriorityWindow > 0 {
		one.priority = min(routing.Priority, priorities-1)
	}
	if routing.Grouped && r.Key != nil || v.settings.Groups != "" && r.Key != nil {
		one.group = 1 + slotOf(r.Key)
	}
	return true
}

// filter says whether a record is not for this view at all.
func (v *View) filter(r *record.Record, header []byte) bool {
	if v.noLocal != "" && header != nil {
		if record.ParseMeta(header, &v.meta) == nil && v.meta.ClientID == v.noLocal {
			return true
		}
	}
	return v.deps.Filter != nil && !v.deps.Filter.Match(r)
}

// expireReady takes what has expired out of the window.
func (l *lane) expireReady(now int64) {
	q := &l.ready
	var again []run
	q.expires = 0
	for p := range q.lists {
		list := &q.lists[p]
		kept := list.head
		for i := list.head; i < len(list.items); i++ {
			r := &list.items[i]
			if r.expires > 0 && r.expires <= now {
				again = append(again, *r)
				continue
			}
			if r.expires > 0 && (q.expires == 0 || r.expires < q.expires) {
				q.expires = r.expires
			}
			list.items[kept] = *r
			kept++
		}
		list.shift(kept, len(list.items))
	}
	for i := range again {
		l.lookAgain(&again[i], now)
	}
}

// lookAgain takes a run out of the window and sorts its records in anew.
func (l *lane) lookAgain(r *run, now int64) {
	defer l.ready.remove(r)
	if r.packed() && !l.open(r) {
		return
	}
	cut := &chunk{buf: appendCut(nil, r.stored(), r.chunk.buf[r.at:r.end], r.records())}
	var available intervals
	for f, t := range l.p.cursor.UndoneRanges(r.from, r.to) {
		available = append(available, interval{f, t})
	}
	l.absorb(cut, 0, record.Batch(cut.buf), available, false, now)
}

// shrink copies what stays in buffers that are much too large for it.
func (l *lane) shrink() {
	if !l.slack {
		return
	}
	l.slack = false
	for p := range l.ready.lists {
		list := &l.ready.lists[p]
		for i := list.head; i < len(list.items); i++ {
			c := list.items[i].chunk
			if cap(c.buf) < readBytes || len(c.buf) >= cap(c.buf)/2 {
				continue
			}
			small := append(make([]byte, 0, len(c.buf)), c.buf...)
			l.ready.bytes -= int64(cap(c.buf) - cap(small))
			chunks.Put(&chunk{buf: c.buf[:0]})
			c.buf = small
		}
	}
}
