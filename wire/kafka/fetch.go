package kafka

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// Fetch 4–17. The bytes of the log go out as they are, in one buffer for the
// whole answer, whose size is bounded by the client's MaxBytes and by ours
// however many partitions are named; only the first batch of the first
// partition that has one may be longer. With nothing to give, the request waits
// until there are MinBytes or MaxWait is over. A committed read (KIP-98) ends at
// the last stable offset and lists the aborted transactions in what it gives,
// by first offset. Sessions (KIP-227) are in fetch_session.go.

const (
	// maxFetchBytes bounds the records of one answer.
	maxFetchBytes = 50 << 20
	// maxFetchWait bounds how long one waits, whatever the client says.
	maxFetchWait = 5 * time.Minute
)

// fetched is an answer, encoded by hand.
type fetched struct {
	version    int16
	code       int16
	session    int32
	topics     []fetchedTopic
	partitions []fetchedPartition  // of all topics, in order
	kept       []*sessionPartition // the same in their session
	records    []byte              // of all partitions
	vain       int                 // bytes that were read and did not fit
	head       []byte
}

type fetchedTopic struct {
	name       string
	id         [16]byte
	partitions int
}

type fetchedPartition struct {
	partition  *destination.Partition
	number     int32
	code       int16
	high       int64
	lastStable int64
	start      int64
	aborted    []destination.AbortedTransaction
	committed  bool  // the client reads committed: the list is there, be it empty
	from, to   int   // of records
	epoch      int32 // leader epoch that the client believes in
	offset     int64
	max        int
}

var fetchBuffers = sync.Pool{New: func() any { return new(fetched) }}

// keptFetch is the largest buffer that is kept for the next answer.
const keptFetch = 4 << 20

// keptPartitions is the most partitions that room is kept for.
const keptPartitions = 4096

func fetch(c *connection, request kmsg.Request, a *reply) {
	r := request.(*kmsg.FetchRequest)
	f := fetchBuffers.Get().(*fetched)
	f.version = r.Version
	c.fetch(c.ctx, r, f)
	a.done(f)
}

func (c *connection) fetch(ctx context.Context, r *kmsg.FetchRequest, f *fetched) {
	all := &c.server.fetches
	if r.Version < 7 || r.SessionEpoch == closeFetchSession || r.SessionEpoch == openFetchSession {
		if r.Version >= 7 {
			all.close(r.SessionID)
		}
		c.fetchNamed(ctx, r, f)
		if r.Version >= 7 && r.SessionEpoch == openFetchSession {
			if c.fetches == nil {
				c.fetches = new(fetchOwner)
			}
			f.session = all.open(c.fetches, f, c.server.now())
		}
		return
	}
	s, epoch, code := all.next(r, c.server.now())
	switch {
	case code != codeNone:
		f.code = code
	case s == nil:
		c.fetchNamed(ctx, r, f)
	default:
		c.fetchKept(ctx, r, s, f)
		f.session = s.id
		if !s.finish(epoch, f) {
			clear(f.partitions)
			f.code, f.partitions = codeInvalidFetchSessionEpoch, f.partitions[:0]
		}
	}
}

// fetchNamed fetches what the request names, and answers for all of that.
func (c *connection) fetchNamed(ctx context.Context, r *kmsg.FetchRequest, f *fetched) {
	for i := range r.Topics {
		t := &r.Topics[i]
		f.topics = append(f.topics, fetchedTopic{name: t.Topic, id: t.TopicID, partitions: len(t.Partitions)})
		d, code := c.lookup(t.Topic, t.TopicID, r.Version >= 13, session.OperationConsume)
		for j := range t.Partitions {
			n := &t.Partitions[j]
			p := asked(n.Partition, n.CurrentLeaderEpoch, n.FetchOffset, n.PartitionMaxBytes)
			p.begin(d, code, r.IsolationLevel == 1)
			f.partitions = append(f.partitions, p)
		}
	}
	f.await(ctx, r)
}

// fetchKept fetches what a session has.
func (c *connection) fetchKept(ctx context.Context, r *kmsg.FetchRequest, s *fetchSession, f *fetched) {
	s.list(f)
	type found struct {
		d    *destination.Destination
		code int16
	}
	var last *sessionTopic
	var now found
	seen := map[*sessionTopic]found{}
	for i, k := range f.kept {
		if k.topic != last {
			var ok bool
			if now, ok = seen[k.topic]; !ok {
				now.d, now.code = c.lookup(k.topic.name, k.topic.id, s.byID, session.OperationConsume)
				seen[k.topic] = now
			}
			last = k.topic
		}
		f.partitions[i].begin(now.d, now.code, r.IsolationLevel == 1)
	}
	f.await(ctx, r)
}

// await fills the answer, as soon as there is enough or the time is over.
func (f *fetched) await(ctx context.Context, r *kmsg.FetchRequest) {
	limit := min(int(r.MaxBytes), maxFetchBytes)
	wait := min(time.Duration(max(r.MaxWaitMillis, 0))*time.Millisecond, maxFetchWait)
	if enough := f.fill(limit, int(r.MinBytes)); enough || wait == 0 || len(f.partitions) == 0 {
		return
	}
	// Watch first, look again, and only then wait, so that nothing is missed.
	grown := make(chan struct{}, 1)
	wake := func() {
		select {
		case grown <- struct{}{}:
		default:
		}
	}
	watched := map[*destination.Partition]struct{}{} // one may be named often
	for i := range f.partitions {
		p := f.partitions[i].partition
		if _, ok := watched[p]; !ok && p != nil {
			watched[p] = struct{}{}
			defer p.Watch(wake)()
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for !f.fill(limit, int(r.MinBytes)) {
		select {
		case <-grown:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// asked is a partition as a client asks for it.
func asked(number, epoch int32, offset int64, bytes int32) fetchedPartition {
	return fetchedPartition{
		number: number, high: -1, lastStable: -1, start: -1,
		epoch: epoch, offset: offset, max: int(bytes),
	}
}

// begin checks what is asked, of d or of a topic that has an error.
func (p *fetchedPartition) begin(d *destination.Destination, code int16, committed bool) {
	p.code, p.committed = code, committed
	if code != codeNone {
		return
	}
	partition := partitionOf(d, p.number)
	if partition == nil {
		p.code = codeUnknownTopicOrPartition
		return
	}
	if p.code = checkEpoch(partition, p.epoch); p.code == codeNone {
		p.partition = partition
	}
}

// fill reads what there is, and says whether that is enough, or an error that
// the client should hear of at once.
func (f *fetched) fill(limit, enough int) bool {
	f.records, f.vain = f.records[:0], 0
	failed := false
	for i := range f.partitions {
		p := &f.partitions[i]
		if p.partition != nil {
			f.read(p, limit)
		}
		failed = failed || p.code != codeNone
	}
	return failed || len(f.records) >= enough
}

// read adds a partition's batches within what is left of the limit. What was read
// and did not fit counts too, so that many partitions with large batches cost no
// more than the limit either.
func (f *fetched) read(p *fetchedPartition, limit int) {
	p.code, p.aborted = codeNone, nil
	p.high, p.start = p.partition.Stable(), p.partition.Start()
	p.lastStable = min(p.partition.LastStable(), p.high)
	p.from, p.to = len(f.records), len(f.records)
	if p.offset < p.start || p.offset > p.high {
		// A client may be ahead of what is readable, but never of the log.
		if p.offset < p.start || p.offset > p.partition.End() {
			p.code = codeOffsetOutOfRange
		}
		return
	}
	end := p.high
	if p.committed {
		end = p.lastStable
	}
	room := min(p.max, limit-len(f.records)-f.vain)
	if p.offset >= end || room <= 0 && len(f.records) > 0 {
		return
	}
	all, err := p.partition.Read(p.offset, room, f.records)
	if err != nil {
		p.code = codeOf(err)
		return
	}
	got := all[p.from:]
	if first, _, err := record.Next(got); err == nil && len(first) > room && p.from > 0 {
		f.records = all[:p.from] // it may have grown
		f.vain += len(got)
		return // it does not fit any more; the next request will have it
	}
	if p.committed { // the log may have grown since, and what is read now is open
		got = below(got, end)
	}
	f.records = all[:p.from+len(got)]
	p.to = len(f.records)
	if p.committed && len(got) > 0 {
		p.aborted, err = p.partition.Aborted(p.offset, after(got))
		if err != nil {
			p.code = codeOf(err)
			f.records, p.to = f.records[:p.from], p.from
		}
	}
}

// below cuts batches off that begin at or above end.
func below(batches []byte, end int64) []byte {
	rest := batches
	for len(rest) > 0 {
		b, next, err := record.Next(rest)
		if err != nil || b.BaseOffset() >= end {
			break
		}
		rest = next
	}
	return batches[:len(batches)-len(rest)]
}

// after is the offset behind the last batch.
func after(batches []byte) (offset int64) {
	for rest := batches; len(rest) > 0; {
		b, next, err := record.Next(rest)
		if err != nil {
			break
		}
		offset, rest = b.NextOffset(), next
	}
	return offset
}

// IsFlexible implements encoder.
func (f *fetched) IsFlexible() bool { return f.version >= 12 }

// AppendTo implements encoder.
func (f *fetched) AppendTo(dst []byte) []byte {
	for _, s := range f.segments() {
		dst = append(dst, s...)
	}
	return dst
}

// segments implements segmented: what is encoded here, and between it the
// records where they were read to.
func (f *fetched) segments() net.Buffers {
	type cut struct{ at, from, to int }
	cuts := make([]cut, 0, len(f.partitions))
	flexible := f.version >= 12
	dst := f.head[:0]
	count := func(n int) {
		if flexible {
			dst = binary.AppendUvarint(dst, uint64(n)+1)
		} else {
			dst = binary.BigEndian.AppendUint32(dst, uint32(n))
		}
	}
	tags := func() {
		if flexible {
			dst = append(dst, 0)
		}
	}
	dst = binary.BigEndian.AppendUint32(dst, 0) // throttle time
	if f.version >= 7 {
		dst = binary.BigEndian.AppendUint16(dst, uint16(f.code))
		dst = binary.BigEndian.AppendUint32(dst, uint32(f.session))
	}
	count(len(f.topics))
	next := 0
	for i := range f.topics {
		t := &f.topics[i]
		switch {
		case f.version >= 13:
			dst = append(dst, t.id[:]...)
		case flexible:
			dst = binary.AppendUvarint(dst, uint64(len(t.name))+1)
			dst = append(dst, t.name...)
		default:
			dst = binary.BigEndian.AppendUint16(dst, uint16(len(t.name)))
			dst = append(dst, t.name...)
		}
		count(t.partitions)
		for range t.partitions {
			p := &f.partitions[next]
			next++
			dst = binary.BigEndian.AppendUint32(dst, uint32(p.number))
			dst = binary.BigEndian.AppendUint16(dst, uint16(p.code))
			dst = binary.BigEndian.AppendUint64(dst, uint64(p.high))
			dst = binary.BigEndian.AppendUint64(dst, uint64(p.lastStable))
			if f.version >= 5 {
				dst = binary.BigEndian.AppendUint64(dst, uint64(p.start))
			}
			if p.committed {
				count(len(p.aborted))
				for _, a := range p.aborted {
					dst = binary.BigEndian.AppendUint64(dst, uint64(a.ProducerID))
					dst = binary.BigEndian.AppendUint64(dst, uint64(a.FirstOffset))
					tags()
				}
			} else {
				count(-1)
			}
			if f.version >= 11 {
				dst = binary.BigEndian.AppendUint32(dst, 0xffffffff) // no preferred replica
			}
			count(p.to - p.from)
			if p.to > p.from {
				cuts = append(cuts, cut{len(dst), p.from, p.to})
			}
			tags()
		}
		tags()
	}
	tags()
	f.head = dst
	parts := make(net.Buffers, 0, 2*len(cuts)+1)
	at := 0
	for _, c := range cuts {
		parts = append(parts, dst[at:c.at], f.records[c.from:c.to])
		at = c.at
	}
	return append(parts, dst[at:])
}

// release implements segmented.
func (f *fetched) release() {
	kept := fetched{}
	if cap(f.partitions) <= keptPartitions && cap(f.kept) <= keptPartitions && cap(f.topics) <= keptPartitions {
		clear(f.topics)
		clear(f.partitions)
		clear(f.kept)
		kept.topics, kept.partitions, kept.kept, kept.head = f.topics[:0], f.partitions[:0], f.kept[:0], f.head[:0]
	}
	if cap(f.records) <= keptFetch {
		kept.records = f.records[:0]
	}
	*f = kept
	fetchBuffers.Put(f)
}
