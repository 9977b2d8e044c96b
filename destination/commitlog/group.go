package commitlog

import (
	"encoding/binary"

	"github.com/polylog-mq/polylog/destination/record"
)

// op is one operation on its way through a lane.
type op struct {
	kind   opKind
	log    *Log
	header int // where it is in the group's buffer
	at     int // where its payload is
	length int // of its payload
	base   int64
	next   int64 // append: the offset behind it
	tied   int   // how many operations, from this one on, stand or fall together; 0 behind the first of them
	waiter Waiter
	early  bool // the waiter is called after the write
	round  int  // Log.round when it was appended

	// Set by the committer.
	err      error
	segment  *segment
	position int64
	sibling  int // index of the log's next append in the run; -1 for the last
}

// span is an entry in a group: a range of its buffer and of its operations.
type span struct {
	start, end      int // of the buffer; end is before the padding
	firstOp, lastOp int // lastOp is behind the last
	barrier         bool
}

// group is what a lane has gathered for the committer. Its buffers are used again.
type group struct {
	buf     []byte
	ops     []op
	entries []span
	open    bool // the last entry may take more
	target  int  // where an entry is closed: entryTarget, or a quarter of a small journal file
}

// reset keeps the buffers unless they have grown out of proportion to what they were used for.
func (g *group) reset() {
	if cap(g.buf) > 1<<20 && len(g.buf) < cap(g.buf)/8 {
		g.buf = make([]byte, 0, cap(g.buf)/2)
	}
	if cap(g.ops) > 1<<12 && len(g.ops) < cap(g.ops)/8 {
		g.ops = make([]op, 0, cap(g.ops)/2)
	}
	clear(g.ops) // let go of waiters and logs
	g.buf, g.ops, g.entries, g.open = g.buf[:0], g.ops[:0], g.entries[:0], false
}

// entry makes sure that the next size bytes of operations go into one entry.
func (g *group) entry(size int, barrier bool) {
	if g.open && !barrier {
		if e := &g.entries[len(g.entries)-1]; len(g.buf)-e.start+size <= g.target {
			return
		}
	}
	for len(g.buf)%entryAlign != 0 {
		g.buf = append(g.buf, 0)
	}
	start := len(g.buf)
	g.buf = append(g.buf, make([]byte, entryHeader)...)
	g.entries = append(g.entries, span{start: start, end: len(g.buf), firstOp: len(g.ops), lastOp: len(g.ops), barrier: barrier})
	g.open = !barrier
}

// add appends an operation to the last entry.
func (g *group) add(l *Log, kind opKind, offset int64, payload []byte) *op {
	header := len(g.buf)
	g.buf = appendOperation(g.buf, kind, l.id, offset, len(payload))
	at := len(g.buf)
	g.buf = append(g.buf, payload...)
	g.ops = append(g.ops, op{
		kind: kind, log: l, header: header, at: at, length: len(payload),
		base: offset, next: offset, tied: 1, sibling: -1,
	})
	e := &g.entries[len(g.entries)-1]
	e.end, e.lastOp = len(g.buf), len(g.ops)
	return &g.ops[len(g.ops)-1]
}

// stamp gives the batches of an append their offsets and the leader epoch, in the group's copy.
// The batches have been walked before, so that it cannot fail.
func (g *group) stamp(o *op, epoch int32) {
	next := o.base
	for rest := g.buf[o.at : o.at+o.length]; len(rest) > 0; {
		b, r, err := record.Next(rest)
		if err != nil {
			panic("commitlog: batches changed during an append: " + err.Error())
		}
		b.SetBaseOffset(next)
		b.SetLeaderEpoch(epoch)
		next, rest = b.NextOffset(), r
	}
	o.next = next
}

// void takes an operation out of the journal.
func (g *group) void(o *op, err error) {
	g.buf[o.header] = byte(opVoid)
	o.kind, o.err = opVoid, err
}

// seal completes the entries of a run with their numbers.
func (g *group) seal(entries []span, seed uint32, first, synced uint64) {
	for i, e := range entries {
		sealEntry(g.buf[e.start:e.end], e.end-e.start-entryHeader, seed, first+uint64(i), synced, e.lastOp-e.firstOp)
	}
}

// bytesOf is the part of the buffer that a run takes in the journal, without the padding of its last entry.
func (g *group) bytesOf(entries []span) []byte {
	return g.buf[entries[0].start:entries[len(entries)-1].end]
}

// sizeOfBatches walks the batches and returns how many records' offsets they take; every batch is at most limit bytes.
func sizeOfBatches(batches []byte, limit int) (offsets int64, err error) {
	if len(batches) == 0 {
		return 0, &record.CorruptError{Offset: -1, Reason: "no batch"}
	}
	for rest := batches; len(rest) > 0; {
		b, r, err := record.Next(rest)
		if err != nil {
			return 0, err
		}
		if len(b) > limit {
			return 0, ErrTooLarge
		}
		if b.LastOffsetDelta() < 0 {
			return 0, &record.CorruptError{Offset: b.BaseOffset(), Reason: "negative last offset delta"}
		}
		offsets, rest = offsets+int64(b.LastOffsetDelta())+1, r
	}
	return offsets, nil
}

// operationsOf walks the operations of a body.
func operationsOf(body []byte, count int, visit func(operation) error) error {
	for range count {
		o, rest, err := parseOperation(body)
		if err != nil {
			return err
		}
		if err := visit(o); err != nil {
			return err
		}
		body = rest
	}
	if len(body) != 0 {
		return errEntry
	}
	return nil
}

// batchHeader is what the log needs to know of a batch without its records.
type batchHeader struct {
	base, next    int64
	size          int
	baseTimestamp int64
	maxTimestamp  int64
	epoch         int32
}

func headerOf(p []byte) (batchHeader, bool) {
	if len(p) < record.HeaderSize || p[16] != 2 {
		return batchHeader{}, false
	}
	b := record.Batch(p)
	length := int64(int32(binary.BigEndian.Uint32(p[8:])))
	if length < record.HeaderSize-12 || b.LastOffsetDelta() < 0 || b.BaseOffset() < 0 {
		return batchHeader{}, false
	}
	return batchHeader{
		base: b.BaseOffset(), next: b.NextOffset(), size: int(length) + 12,
		baseTimestamp: b.BaseTimestamp(), maxTimestamp: b.MaxTimestamp(), epoch: b.LeaderEpoch(),
	}, true
}
