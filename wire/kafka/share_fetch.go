package kafka

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
)

// ShareFetch 1–2. The request's acknowledgements come first; then its
// partitions join the session, and leave it, and each topic's view is asked for
// what is ready, one after the other, each for what the others have left of
// MaxRecords and MaxBytes. If that is less than MinBytes, all are asked at once
// and the request waits, up to MaxWait; what comes beyond MaxRecords goes back as
// never delivered. Nothing stays acquired that the answer does not say.
//
// Records go out as their batches are stored, or cut out of those, sorted by
// offset. Acquire mode 0 (batch_optimized, KIP-1206) leaves stored batches whole,
// mode 1 (record_limit) keeps to MaxRecords. BatchSize, the granularity in which
// a broker would like to be answered, is of no use here. A request with
// IsRenewAck (KIP-1222) fetches nothing. Reads are always committed.

// shared is what a view has delivered. The topic's lock guards it, until the
// fetch takes it.
type shared struct {
	partition   int32
	offset      int64
	records     int
	acquisition uint64
	from, to    int // in the topic's bytes
	at          int64
	counts      []uint16
}

// Deliver implements queue.Sink.
func (t *shareTopic) Deliver(d queue.Delivery) {
	t.mu.Lock()
	from := len(t.bytes)
	t.bytes = append(t.bytes, d.Batch...)
	if end := d.Offset + int64(d.Records); end < d.Batch.NextOffset() {
		endBatch(t.bytes[from:], end)
	}
	t.got = append(t.got, shared{
		partition: d.Partition, offset: d.Offset, records: d.Records, acquisition: d.FirstAcquisition,
		from: from, to: len(t.bytes), at: t.session.server.now(), counts: slices.Clone(d.Counts),
	})
	t.records += d.Records
	t.mu.Unlock()
}

// Flush implements queue.Sink.
func (t *shareTopic) Flush() { t.session.notify() }

// endBatch has a batch that was cut say that it ends before offset. Clients go
// on behind the end that a batch says, and would miss the rest of it.
func endBatch(b []byte, offset int64) {
	const crcAt, attributesAt, lastDeltaAt = 17, 21, 23
	base := int64(binary.BigEndian.Uint64(b))
	binary.BigEndian.PutUint32(b[lastDeltaAt:], uint32(offset-1-base))
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[attributesAt:], castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Drained implements queue.Sink.
func (t *shareTopic) Drained(*queue.Consumer) {
	t.mu.Lock()
	t.drained = true
	t.mu.Unlock()
	t.session.notify()
}

// Closed implements queue.Sink.
func (t *shareTopic) Closed(_ *queue.Consumer, err error) {
	t.mu.Lock()
	t.err = err
	t.mu.Unlock()
	t.session.notify()
}

// gathered is how much is there, and whether the drain that was asked for is over.
func (t *shareTopic) gathered() (records, bytes int, drained bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.records, len(t.bytes), t.drained || t.err != nil
}

// openTopic is a topic with its consumer as it was when the fetch began: the
// session may be closed meanwhile.
type openTopic struct {
	*shareTopic
	consumer *queue.Consumer
}

// ask has the consumer be given up to so many records and bytes; with drain,
// only what is ready now.
func (t openTopic) ask(records, bytes int, whole, drain bool) {
	if drain {
		t.mu.Lock()
		t.drained = false
		t.mu.Unlock()
	}
	t.consumer.Ask(records, bytes, whole)
	if drain {
		t.consumer.Drain()
	}
}

// take takes what was delivered; the bytes are the caller's.
func (t *shareTopic) take() (got []shared, bytes []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	got, bytes = t.got, t.bytes
	t.got, t.bytes, t.records = nil, nil, 0
	return got, bytes
}

// shareFetching is one request that is being served.
type shareFetching struct {
	c        *connection
	s        *shareSession
	r        *kmsg.ShareFetchRequest
	answer   *fetchedShares
	topics   []openTopic // in this fetch's order
	failed   bool        // there is an error that the member has not heard of
	records  int         // of the request
	bytes    int
	enough   int
	whole    bool
	deadline time.Time
}

func shareFetch(c *connection, request kmsg.Request, a *reply) {
	r := request.(*kmsg.ShareFetchRequest)
	f := &fetchedShares{version: r.Version}
	f.code = c.shareFetch(r, f)
	a.done(f)
}

func (c *connection) shareFetch(r *kmsg.ShareFetchRequest, f *fetchedShares) int16 {
	key, code := shareID(r.GroupID, r.MemberID)
	if code != codeNone {
		return code
	}
	f.lock = c.server.shareSettings(key.group, nil).lock
	acks := fetchAcks(r)
	switch {
	case r.ShareSessionEpoch == openShareSession && len(acks) > 0:
		return codeInvalidRequest
	case r.IsRenewAck && (r.MaxBytes != 0 || r.MinBytes != 0 || r.MaxRecords != 0 || r.MaxWaitMillis != 0):
		return codeInvalidRequest
	}
	s, code := c.server.shares.begin(c, key, r.ShareSessionEpoch)
	if code != codeNone {
		return code
	}
	answered := s.acknowledge(acks, r.IsRenewAck)
	switch {
	case r.ShareSessionEpoch == closeShareSession:
		s.close()
	case !r.IsRenewAck:
		code = c.fetchShares(s, r, f)
	}
	for i, code := range answered.wait(c.ctx) {
		f.partition(acks[i].topic, acks[i].partition).ackCode = code
	}
	return code
}

// fetchShares is the part that takes records.
func (c *connection) fetchShares(s *shareSession, r *kmsg.ShareFetchRequest, f *fetchedShares) int16 {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-s.ctx.Done():
		return codeShareSessionNotFound
	case <-c.ctx.Done():
		return codeNone
	}
	wait := min(time.Duration(max(r.MaxWaitMillis, 0))*time.Millisecond, maxFetchWait)
	fetching := &shareFetching{
		c: c, s: s, r: r, answer: f, whole: r.ShareAcquireMode == 0,
		records: int(r.MaxRecords), bytes: min(int(r.MaxBytes), maxFetchBytes), enough: int(r.MinBytes),
		deadline: time.Now().Add(wait),
	}
	if !fetching.change() {
		return codeInvalidRequest
	}
	fetching.open()
	if fetching.records > 0 && fetching.bytes > 0 {
		fetching.gather()
	}
	return fetching.finish()
}

// change has partitions join and leave the session.
func (f *shareFetching) change() bool {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range f.r.Topics {
		for j := range f.r.Topics[i].Partitions {
			if !s.add(f.r.Topics[i].TopicID, f.r.Topics[i].Partitions[j].Partition) {
				return false
			}
		}
	}
	for i := range f.r.ForgottenTopicsData {
		for _, p := range f.r.ForgottenTopicsData[i].Partitions {
			s.forget(f.r.ForgottenTopicsData[i].TopicID, p)
		}
	}
	s.prune(s.server.now())
	return true
}

// open opens the topics, and says of which partitions that is not possible.
func (f *shareFetching) open() {
	s := f.s
	s.mu.Lock()
	topics := slices.Clone(s.topics)
	if len(topics) > 0 {
		s.first = (s.first + 1) % len(topics)
		topics = append(topics[s.first:], topics[:s.first]...)
	}
	s.mu.Unlock()
	for _, t := range topics {
		if len(t.partitions) == 0 {
			continue // it is only held
		}
		d, code := f.c.lookup("", t.id, true, session.OperationConsume)
		text := ""
		if code == codeNone {
			consumer, err := t.open(f.c.ctx, d)
			if err == nil {
				f.topics = append(f.topics, openTopic{t, consumer})
				f.answer.lock = min(f.answer.lock, t.settings.lock)
			} else {
				code, text = shareCode(err), err.Error()
			}
		}
		f.report(t, d, code, text)
	}
}

// report says what is wrong with a topic's partitions. Only an error that the
// member has not heard of keeps it from waiting for the others.
func (f *shareFetching) report(t *shareTopic, d *destination.Destination, code int16, text string) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for _, n := range t.partitions {
		code := code
		if code == codeNone && partitionOf(d, n) == nil {
			code = codeUnknownTopicOrPartition
		}
		if code == codeNone {
			delete(t.told, n)
			continue
		}
		p := f.answer.partition(t.id, n)
		p.code, p.text = code, text
		if t.told[n] != code {
			f.failed = true
			if t.told == nil {
				t.told = map[int32]int16{}
			}
			t.told[n] = code
		}
	}
}

// shareCode is the code for a subscription that does not open. Of those that
// clients know, it is the one that says that asking again does not help.
func shareCode(err error) int16 {
	code := codeOf(err)
	if code == codePolicyViolation {
		return codeTopicAuthorizationFailed
	}
	return code
}

// gather waits for records.
func (f *shareFetching) gather() {
	f.drain()
	if f.failed || f.sufficient() || time.Until(f.deadline) <= 0 {
		return
	}
	timer := time.NewTimer(time.Until(f.deadline))
	defer timer.Stop()
	for !f.sufficient() {
		records, bytes := f.left()
		for _, t := range f.topics {
			t.ask(records, bytes, f.whole, false)
		}
		more := f.await(timer.C, func() bool {
			now, _ := f.left()
			return now < records
		})
		f.drain()
		if !more {
			return
		}
	}
}

// left is what may still come.
func (f *shareFetching) left() (records, bytes int) {
	records, bytes = f.records, f.bytes
	for _, t := range f.topics {
		r, b, _ := t.gathered()
		records, bytes = records-r, bytes-b
	}
	return max(records, 0), max(bytes, 0)
}

// sufficient says whether the answer need not wait.
func (f *shareFetching) sufficient() bool {
	records, bytes := f.left()
	return records == 0 || bytes == 0 || f.bytes-bytes >= f.enough
}

// drain takes what is ready, of one topic after the other. When it returns,
// nothing more will be delivered.
func (f *shareFetching) drain() {
	for _, t := range f.topics {
		records, bytes := f.left()
		if bytes == 0 {
			records = 0
		}
		t.ask(records, bytes, f.whole, true)
		if records == 0 {
			continue // nothing comes; awaited below with the others
		}
		f.await(nil, t.isDrained)
	}
	for _, t := range f.topics {
		f.await(nil, t.isDrained)
	}
}

func (t *shareTopic) isDrained() bool {
	_, _, drained := t.gathered()
	return drained
}

// await waits until ready; false if the time is over, or the session is.
func (f *shareFetching) await(timeout <-chan time.Time, ready func() bool) bool {
	for !ready() {
		select {
		case <-f.s.wake:
		case <-timeout:
			return false
		case <-f.s.ctx.Done():
			return false
		case <-f.c.ctx.Done():
			return false
		}
	}
	return true
}

// finish makes the answer of what has come, and gives back what is too much.
func (f *shareFetching) finish() int16 {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for _, t := range f.topics {
		got, bytes := t.take()
		if s.closed {
			continue // it has gone back
		}
		kept := got[:0]
		var back []queue.Span
		for _, d := range got {
			if total > 0 && (total >= f.records || !f.whole && total+d.records > f.records) {
				back = append(back, queue.Span{Partition: d.partition, Offset: d.offset, Acquisition: d.acquisition, Count: int32(d.records)})
				continue
			}
			total += d.records
			kept = append(kept, d)
		}
		t.giveBack(back)
		f.include(t.shareTopic, kept, bytes)
	}
	if s.closed {
		return codeShareSessionNotFound
	}
	return codeNone
}

// giveBack releases what nobody has seen. If it fails, the lock ends it.
func (t openTopic) giveBack(spans []queue.Span) {
	if len(spans) > 0 {
		_ = t.consumer.View().Settle(t.consumer.Holder(), spans, queue.Outcome{Kind: queue.Release, CountBack: true}, nil)
	}
}

// include notes that the member holds what it is sent.
func (f *shareFetching) include(t *shareTopic, got []shared, bytes []byte) {
	slices.SortFunc(got, func(a, b shared) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
	})
	lock := t.settings.lock.Milliseconds()
	for i := range got {
		d := &got[i]
		p := f.answer.partition(t.id, d.partition)
		p.records = append(p.records, bytes[d.from:d.to])
		p.acquire(d)
		h := t.held[d.partition]
		if h == nil {
			if t.held == nil {
				t.held = map[int32]*heldRecords{}
			}
			h = &heldRecords{}
			t.held[d.partition] = h
		}
		h.add(heldRun{d.offset, d.offset + int64(d.records), d.acquisition, d.at + lock})
	}
}

var _ queue.Sink = (*shareTopic)(nil)
