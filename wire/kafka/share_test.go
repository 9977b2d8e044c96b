package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
	"github.com/polylog-mq/polylog/wire"
)

// shareRig is a rig that can be started again, with a clock that stands still.
type shareRig struct {
	*rig
	dir    string
	now    atomic.Int64 // ms
	server *Server
	stop   func()
}

func newShareRig(t testing.TB) *shareRig {
	r := &shareRig{rig: &rig{t: t}, dir: t.TempDir()}
	r.now.Store(1_700_000_000_000)
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *shareRig) start() {
	r.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	now := func() time.Time { return time.UnixMilli(r.now.Load()) }
	b, err := broker.Open(broker.Options{Dir: r.dir, Log: commitlog.Options{JournalFileBytes: 8 << 20}, Logger: quiet, Now: now})
	if err != nil {
		r.t.Fatal(err)
	}
	r.server = New(b, Options{Logger: quiet, Now: now})
	l, err := wire.Listen(wire.Config{}, wire.NewGuard(wire.Limits{}), r.server, quiet)
	if err != nil {
		r.t.Fatal(err)
	}
	r.broker, r.listener = b, l
	r.stop = sync.OnceFunc(func() {
		l.Close()
		if err := b.Close(); err != nil {
			r.t.Error(err)
		}
	})
}

func (r *shareRig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

func (r *shareRig) pass(d time.Duration) { r.now.Add(d.Milliseconds()) }

// put produces one batch of values.
func (r *shareRig) put(topic string, partition int32, values ...string) {
	r.t.Helper()
	c := r.dial()
	defer c.conn.Close()
	if a := c.produce(topic, partition, batch(values...)); a.ErrorCode != 0 {
		r.t.Fatalf("produce: code %d", a.ErrorCode)
	}
}

// sharer is a member of a share group, with a session.
type sharer struct {
	t       testing.TB
	c       *client
	group   string
	id      string
	epoch   int32
	records int32
	mode    int8
	wait    int32 // ms
	last    *kmsg.ShareFetchResponse
}

// join opens a session on partitions of topics, of which nothing is fetched yet.
func (r *shareRig) join(group, id string, topics ...*destination.Destination) *sharer {
	r.t.Helper()
	s := &sharer{t: r.t, c: r.dial(), group: group, id: id, records: 1000}
	q := s.request()
	q.MaxRecords = 0
	for _, d := range topics {
		q.Topics = append(q.Topics, shareTopicOf(d))
	}
	s.send(q)
	return s
}

func shareTopicOf(d *destination.Destination, partitions ...int32) kmsg.ShareFetchRequestTopic {
	if partitions == nil {
		for n := range d.Partitions {
			partitions = append(partitions, int32(n))
		}
	}
	t := kmsg.NewShareFetchRequestTopic()
	t.TopicID = d.ID
	for _, n := range partitions {
		p := kmsg.NewShareFetchRequestTopicPartition()
		p.Partition = n
		t.Partitions = append(t.Partitions, p)
	}
	return t
}

func (s *sharer) request() *kmsg.ShareFetchRequest {
	q := kmsg.NewPtrShareFetchRequest()
	q.GroupID, q.MemberID, q.ShareSessionEpoch = &s.group, &s.id, s.epoch
	q.MaxWaitMillis, q.MinBytes, q.MaxBytes = s.wait, 1, 1<<20
	q.MaxRecords, q.BatchSize, q.ShareAcquireMode = s.records, s.records, s.mode
	return q
}

// send asks, and expects that the session goes on.
func (s *sharer) send(q *kmsg.ShareFetchRequest) []taken {
	s.t.Helper()
	s.last = ask[*kmsg.ShareFetchResponse](s.c, q, 2)
	if s.last.ErrorCode != 0 {
		s.t.Fatalf("share fetch: code %d", s.last.ErrorCode)
	}
	s.epoch++
	return takenOf(s.t, s.last)
}

func (s *sharer) fetch() []taken { s.t.Helper(); return s.send(s.request()) }

// taken is one record that a member has acquired.
type taken struct {
	topic     [16]byte
	partition int32
	offset    int64
	value     string
	count     int
}

func takenOf(t testing.TB, response *kmsg.ShareFetchResponse) (all []taken) {
	t.Helper()
	for i := range response.Topics {
		for j := range response.Topics[i].Partitions {
			p := &response.Topics[i].Partitions[j]
			acquired, end := p.AcquiredRecords, int64(-1)
			next := int64(0) // where a client would go on: behind the end of the batches before
			for rest := p.Records; len(rest) > 0; {
				b, more, err := record.Next(rest)
				if err != nil || !b.CRCValid() {
					t.Fatalf("batch: %v", err)
				}
				rest = more
				var r record.Reader
				if err := r.Reset(b, 1<<20); err != nil {
					t.Fatal(err)
				}
				for r.Next() {
					if r.Record().Offset < next {
						t.Errorf("offset %d is behind the end of the batch before it", r.Record().Offset)
					}
					for len(acquired) > 0 && acquired[0].LastOffset < r.Record().Offset {
						acquired = acquired[1:]
					}
					if len(acquired) == 0 || r.Record().Offset < acquired[0].FirstOffset || r.Record().Offset <= end {
						t.Errorf("offset %d is sent and not acquired, or twice", r.Record().Offset)
						continue
					}
					end = r.Record().Offset
					all = append(all, taken{response.Topics[i].TopicID, p.Partition, end, string(r.Record().Value), int(acquired[0].DeliveryCount)})
				}
				next = b.NextOffset()
			}
			want := int64(0)
			for _, a := range p.AcquiredRecords {
				want += a.LastOffset - a.FirstOffset + 1
			}
			got := int64(0)
			for _, k := range all {
				if k.topic == response.Topics[i].TopicID && k.partition == p.Partition {
					got++
				}
			}
			if got != want {
				t.Errorf("partition %d: %d records are acquired, %d sent", p.Partition, want, got)
			}
		}
	}
	return all
}

func valuesOf(all []taken) string {
	values := make([]string, 0, len(all))
	for _, k := range all {
		values = append(values, k.value)
	}
	return strings.Join(values, " ")
}

func (s *sharer) gets(values string) []taken {
	s.t.Helper()
	all := s.fetch()
	if got := valuesOf(all); got != values {
		s.t.Fatalf("%s gets %q, expected is %q", s.id, got, values)
	}
	return all
}

// acknowledge answers with the codes of the partitions.
func (s *sharer) acknowledge(kind int8, all ...taken) []int16 {
	s.t.Helper()
	q := kmsg.NewPtrShareAcknowledgeRequest()
	q.GroupID, q.MemberID, q.ShareSessionEpoch, q.IsRenewAck = &s.group, &s.id, s.epoch, kind == ackRenew
	for _, k := range all {
		b := kmsg.NewShareAcknowledgeRequestTopicPartitionAcknowledgementBatch()
		b.FirstOffset, b.LastOffset, b.AcknowledgeTypes = k.offset, k.offset, []int8{kind}
		i := slices.IndexFunc(q.Topics, func(t kmsg.ShareAcknowledgeRequestTopic) bool { return t.TopicID == k.topic })
		if i < 0 {
			i = len(q.Topics)
			q.Topics = append(q.Topics, kmsg.ShareAcknowledgeRequestTopic{TopicID: k.topic})
		}
		t := &q.Topics[i]
		if n := len(t.Partitions); n == 0 || t.Partitions[n-1].Partition != k.partition {
			t.Partitions = append(t.Partitions, kmsg.ShareAcknowledgeRequestTopicPartition{Partition: k.partition})
		}
		p := &t.Partitions[len(t.Partitions)-1]
		p.AcknowledgementBatches = append(p.AcknowledgementBatches, b)
	}
	response := ask[*kmsg.ShareAcknowledgeResponse](s.c, q, 2)
	if response.ErrorCode != 0 {
		s.t.Fatalf("share acknowledge: code %d", response.ErrorCode)
	}
	s.epoch++
	var codes []int16
	for _, t := range response.Topics {
		for _, p := range t.Partitions {
			codes = append(codes, p.ErrorCode)
		}
	}
	return codes
}

func (s *sharer) must(kind int8, all ...taken) {
	s.t.Helper()
	if codes := s.acknowledge(kind, all...); slices.Max(codes) != 0 || slices.Min(codes) != 0 {
		s.t.Fatalf("acknowledge with %d: codes %v", kind, codes)
	}
}

// TestShareAcknowledgements shows what becomes of records that are accepted,
// released, rejected, and of those whose member has gone.
func TestShareAcknowledgements(t *testing.T) {
	r := newShareRig(t)
	d := r.create("t", "max.deliveries=3")
	a, b := r.join("g", "a", d), r.join("g", "b", d)
	r.put("t", 0, "0", "1", "2", "3", "4", "5")
	got := a.gets("0 1 2 3 4 5")
	b.gets("")
	a.must(ackAccept, got[0], got[2])
	a.must(ackRelease, got[1], got[4])
	a.must(ackReject, got[3])
	again := b.gets("1 4")
	if again[0].count != 2 || got[0].count != 1 {
		t.Errorf("delivered for the %d. time", again[0].count)
	}
	if codes := a.acknowledge(ackAccept, got[0]); codes[0] != codeInvalidRecordState {
		t.Errorf("accepted twice: code %d", codes[0])
	}
	if codes := b.acknowledge(ackAccept, got[5]); codes[0] != codeInvalidRecordState {
		t.Errorf("accepted what another holds: code %d", codes[0])
	}
	if codes := b.acknowledge(ackAccept, again[0], got[5]); codes[0] != codeInvalidRecordState {
		t.Errorf("accepted in part: code %d", codes[0])
	}
	a.c.conn.Close() // 5 goes back
	b.must(ackRelease, again...)
	third := b.waits(3)
	for _, k := range third {
		if want := map[string]int{"1": 3, "4": 3, "5": 2}[k.value]; k.count != want {
			t.Errorf("%s is delivered for the %d. time, not the %d.", k.value, k.count, want)
		}
	}
	b.must(ackRelease, third...) // 1 and 4 for the last time
	b.gets("5")
	dead := r.dead("DLQ.t", 3)
	slices.Sort(dead)
	if got := strings.Join(dead, " "); got != "1 3 4" {
		t.Errorf("dead letters %s", got)
	}
}

// waits fetches until n records are there.
func (s *sharer) waits(n int) (all []taken) {
	s.t.Helper()
	s.wait = 2000
	for len(all) < n {
		more := s.fetch()
		if len(more) == 0 {
			s.t.Fatalf("%d records, expected are %d", len(all), n)
		}
		all = append(all, more...)
	}
	s.wait = 0
	return all
}

// dead reads n messages of a destination.
func (r *shareRig) dead(name string, n int) (values []string) {
	r.t.Helper()
	c := r.dial()
	defer c.conn.Close()
	deadline := time.Now().Add(10 * time.Second)
	for next := int64(0); len(values) < n; {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s has %q, expected are %d", name, values, n)
		}
		q := fetchRequest(name, next, 0)
		q.MaxWaitMillis = 5000
		response := ask[*kmsg.FetchResponse](c, q, 12)
		rest := response.Topics[0].Partitions[0].RecordBatches
		if len(rest) == 0 && response.Topics[0].Partitions[0].ErrorCode == 0 {
			r.t.Fatalf("%s has %q, expected are %d", name, values, n)
		}
		for len(rest) > 0 {
			b, more, err := record.Next(rest)
			if err != nil {
				break
			}
			rest, next = more, b.NextOffset()
			var read record.Reader
			if err := read.Reset(b, 1<<20); err != nil {
				r.t.Fatal(err)
			}
			for read.Next() {
				values = append(values, string(read.Record().Value))
			}
		}
	}
	return values
}

// TestShareLocks shows that a lock expires, that it can be renewed, and that
// what is acknowledged after that is refused.
func TestShareLocks(t *testing.T) {
	r := newShareRig(t)
	d := r.create("t")
	a, b := r.join("g", "a", d), r.join("g", "b", d)
	r.put("t", 0, "0", "1", "2")
	got := a.gets("0 1 2")
	if lock := a.last.AcquisitionLockTimeoutMillis; lock != 30_000 {
		t.Errorf("the lock is %d ms", lock)
	}
	r.pass(20 * time.Second)
	a.must(ackRenew, got[1])
	r.pass(10 * time.Second)
	again := b.gets("0 2")
	if codes := a.acknowledge(ackAccept, got[0]); codes[0] != codeInvalidRecordState {
		t.Errorf("accepted too late: code %d", codes[0])
	}
	if codes := a.acknowledge(ackRenew, got[2]); codes[0] != codeInvalidRecordState {
		t.Errorf("renewed too late: code %d", codes[0])
	}
	r.pass(10 * time.Second)
	a.must(ackAccept, got[1])
	b.must(ackAccept, again...)
	r.pass(time.Hour)
	a.gets("")
	b.gets("")
	if n := len(r.server.shares.byKey[shareKey{"g", "a"}].topics[0].held); n != 0 {
		t.Errorf("%d partitions are remembered of which nothing is held", n)
	}
	r.put("t", 0, "3")
	one := a.gets("3")
	r.pass(time.Hour)
	two := a.gets("3") // to the same member, once more
	if one[0].count != 1 || two[0].count != 2 {
		t.Errorf("delivered for the %d. and %d. time", one[0].count, two[0].count)
	}
	a.must(ackAccept, two[0])
	// Renewing needs to be announced, and fetches nothing.
	r.put("t", 0, "4")
	got = a.gets("4")
	q := a.request()
	q.Topics = append(q.Topics, shareTopicOf(d))
	batch := kmsg.NewShareFetchRequestTopicPartitionAcknowledgementBatch()
	batch.FirstOffset, batch.LastOffset, batch.AcknowledgeTypes = got[0].offset, got[0].offset, []int8{ackRenew}
	q.Topics[0].Partitions[0].AcknowledgementBatches = append(q.Topics[0].Partitions[0].AcknowledgementBatches, batch)
	a.send(q)
	if code := a.last.Topics[0].Partitions[0].AcknowledgeErrorCode; code != codeInvalidRequest {
		t.Errorf("renewed without saying so: code %d", code)
	}
	q.IsRenewAck, q.ShareSessionEpoch = true, a.epoch
	if code := ask[*kmsg.ShareFetchResponse](a.c, q, 2).ErrorCode; code != codeInvalidRequest {
		t.Errorf("renewed and fetched: code %d", code)
	}
	q.MaxBytes, q.MinBytes, q.MaxRecords, q.MaxWaitMillis = 0, 0, 0, 0
	a.send(q)
	if p := a.last.Topics[0].Partitions[0]; p.AcknowledgeErrorCode != 0 || len(p.Records) > 0 {
		t.Errorf("renewed in a fetch: code %d", p.AcknowledgeErrorCode)
	}
}

// TestShareSessions shows the rules of epochs, and who ends a session.
func TestShareSessions(t *testing.T) {
	r := newShareRig(t)
	d := r.create("t", "partitions=2")
	a := r.join("g", "a", d)
	r.put("t", 0, "0", "1")
	got := a.gets("0 1")
	fetch := func(group, member string, epoch int32) int16 {
		t.Helper()
		q := a.request()
		q.GroupID, q.MemberID, q.ShareSessionEpoch = &group, &member, epoch
		return ask[*kmsg.ShareFetchResponse](a.c, q, 2).ErrorCode
	}
	long := strings.Repeat("m", maxMemberID+1)
	for _, is := range []struct {
		group, member string
		epoch         int32
		code          int16
	}{
		{"g", "a", a.epoch - 1, codeInvalidShareSessionEpoch},
		{"g", "a", a.epoch + 1, codeInvalidShareSessionEpoch},
		{"g", "nobody", 1, codeShareSessionNotFound},
		{"other", "a", -1, codeShareSessionNotFound},
		{"", "a", 0, codeInvalidGroupID},
		{"g", "", 0, codeInvalidRequest},
		{"g", long, 0, codeInvalidRequest},
	} {
		if code := fetch(is.group, is.member, is.epoch); code != is.code {
			t.Errorf("%+v: code %d", is, code)
		}
	}
	q := kmsg.NewPtrShareAcknowledgeRequest()
	q.GroupID, q.MemberID = &a.group, &a.id
	if code := ask[*kmsg.ShareAcknowledgeResponse](a.c, q, 2).ErrorCode; code != codeInvalidShareSessionEpoch {
		t.Errorf("acknowledged with epoch 0: code %d", code)
	}
	a.must(ackAccept, got[0]) // all that has not moved the epoch
	q.ShareSessionEpoch = closeShareSession
	if code := ask[*kmsg.ShareAcknowledgeResponse](a.c, q, 2).ErrorCode; code != 0 {
		t.Errorf("closed: code %d", code)
	}
	if code := fetch("g", "a", a.epoch); code != codeShareSessionNotFound {
		t.Errorf("after it was closed: code %d", code)
	}
	b := r.join("g", "b", d)
	if got := b.gets("1"); got[0].count != 2 {
		t.Errorf("delivered for the %d. time", got[0].count)
	}
	// A member that opens another session has lost the first.
	c := r.join("g", "b", d)
	if got := c.gets("1"); got[0].count != 3 {
		t.Errorf("delivered for the %d. time", got[0].count)
	}
	b.c.conn.Close() // does not end what it did not open
	if codes := c.acknowledge(ackGap, taken{topic: d.ID, partition: 0, offset: 1}); codes[0] != 0 {
		t.Errorf("code %d", codes[0])
	}
	// Partitions leave the session; what is held of them stays held.
	r.put("t", 0, "2")
	r.put("t", 1, "3")
	held := c.waits(2)
	forget := c.request()
	forget.ForgottenTopicsData = append(forget.ForgottenTopicsData, kmsg.ShareFetchRequestForgottenTopicsData{TopicID: d.ID, Partitions: []int32{0}})
	c.send(forget)
	r.put("t", 0, "4")
	r.put("t", 1, "5")
	c.gets("5")
	c.must(ackAccept, held...)
	e := r.join("g", "e", d)
	e.gets("4")
}

// TestShareErrors shows what is said of partitions that cannot be fetched, once
// without waiting.
func TestShareErrors(t *testing.T) {
	r := newShareRig(t)
	d := r.create("t")
	ctx := context.Background()
	if _, err := r.broker.CreateDestination(ctx, "work", destination.KindQueue, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.broker.CreateDestination(ctx, "news", destination.KindTopic, nil); err != nil {
		t.Fatal(err)
	}
	work, _ := r.broker.Destination(ctx, "work", 0)
	news, _ := r.broker.Destination(ctx, "news", 0)
	a := &sharer{t: t, c: r.dial(), group: "g", id: "a", records: 100, wait: 60_000}
	unknown := &destination.Destination{ID: [16]byte{9}}
	q := a.request()
	q.Topics = append(q.Topics, shareTopicOf(d, 0, 5), shareTopicOf(work), shareTopicOf(news), shareTopicOf(unknown, 0))
	a.send(q)
	codes := map[string]int16{}
	for _, s := range a.last.Topics {
		for _, p := range s.Partitions {
			codes[fmt.Sprint(s.TopicID[:1], p.Partition)] = p.ErrorCode
		}
	}
	want := map[string]int16{
		fmt.Sprint(d.ID[:1], 5):       codeUnknownTopicOrPartition,
		fmt.Sprint(work.ID[:1], 0):    codeTopicAuthorizationFailed, // a queue is no topic
		fmt.Sprint(unknown.ID[:1], 0): codeUnknownTopicID,
	}
	if fmt.Sprint(codes) != fmt.Sprint(want) {
		t.Errorf("codes %v, expected are %v", codes, want)
	}
	a.wait = 30 // and now it waits
	began := time.Now()
	a.fetch()
	if waited := time.Since(began); waited < 25*time.Millisecond {
		t.Errorf("waited %v", waited)
	}
	b := &sharer{t: t, c: r.dial(), group: queueGroup, id: "b", records: 100}
	q = b.request()
	q.Topics = append(q.Topics, shareTopicOf(work), shareTopicOf(news))
	b.send(q)
	if s := b.last.Topics; len(s) != 1 || s[0].TopicID != news.ID || s[0].Partitions[0].ErrorCode != codeTopicAuthorizationFailed {
		t.Errorf("topics %v", s) // a topic is no queue
	}
	// A topic that is deleted while it is consumed.
	if err := r.broker.DeleteDestination(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	a.wait = 60_000
	a.fetch()
	if s := a.last.Topics; !slices.ContainsFunc(s, func(s kmsg.ShareFetchResponseTopic) bool {
		return s.TopicID == d.ID && s.Partitions[0].ErrorCode == codeUnknownTopicID
	}) {
		t.Errorf("topics %v", s)
	}
}

// TestShareWaits shows MaxWait, and that a member who waits is served, from
// whichever topic.
func TestShareWaits(t *testing.T) {
	r := newShareRig(t)
	d, e := r.create("t", "partitions=3"), r.create("u")
	a := r.join("g", "a", d, e)
	for i, where := range []string{"t 2", "u 0", "t 0"} {
		topic, partition, _ := strings.Cut(where, " ")
		a.wait = 60_000
		q := a.request()
		a.c.send(q, 2)
		go r.put(topic, int32(partition[0]-'0'), fmt.Sprint(i))
		response := a.c.receive(q, a.c.correlation).(*kmsg.ShareFetchResponse)
		a.epoch++
		if got := valuesOf(takenOf(t, response)); got != fmt.Sprint(i) {
			t.Errorf("%q, not %d", got, i)
		}
	}
	// Not as much as MaxRecords, though it is there of either.
	r.put("t", 1, "a", "b", "c")
	r.put("u", 0, "d", "e", "f")
	a.records, a.wait, a.mode = 4, 0, 1
	if got := a.fetch(); len(got) != 4 || got[0].count != 1 {
		t.Errorf("%d records, 4 are the most", len(got))
	}
	rest := a.fetch()
	if len(rest) != 2 || rest[0].count != 1 {
		t.Errorf("%v are left", rest)
	}
}

// TestShareBatches shows the acquire modes, the bounds of an answer, and that
// what is cut out of a batch is complete.
func TestShareBatches(t *testing.T) {
	for codec := record.None; codec <= record.Zstd; codec++ {
		r := newShareRig(t)
		d := r.create("t")
		a, b := r.join("g", "a", d), r.join("g", "b", d)
		var values []string
		for i := range 20 {
			values = append(values, fmt.Sprint(i, strings.Repeat("-", 100)))
		}
		for i := 0; i < 20; i += 10 {
			packed, err := record.Compress(nil, batch(values[i:i+10]...), codec)
			if err != nil {
				t.Fatal(err)
			}
			if answer := a.c.produce("t", 0, packed); answer.ErrorCode != 0 {
				t.Fatal(answer.ErrorCode)
			}
		}
		a.records, a.mode = 3, 1
		got := a.fetch()
		if len(got) != 3 {
			t.Fatalf("codec %v: %d records, 3 are the most", codec, len(got))
		}
		b.records = 8
		rest := b.fetch() // whole batches, where they are whole
		if len(rest) != 17 && len(rest) != 8 {
			t.Errorf("codec %v: %d records", codec, len(rest))
		}
		a.must(ackRelease, got[1])
		a.records = 1000
		all := append(append(got[:1:1], got[2]), rest...)
		for {
			more := a.fetch()
			if len(more) == 0 {
				break
			}
			all = append(all, more...)
		}
		slices.SortFunc(all, func(a, b taken) int { return int(a.offset - b.offset) })
		if valuesOf(all) != strings.Join(values, " ") {
			t.Errorf("codec %v: %s", codec, valuesOf(all))
		}
	}
	r := newShareRig(t)
	d := r.create("t")
	a := r.join("g", "a", d)
	for range 20 {
		r.put("t", 0, strings.Repeat("v", 10_000))
	}
	q := a.request()
	q.MaxBytes = 35_000
	if got := a.send(q); len(got) != 4 {
		t.Errorf("%d records of 10 kB, 35 kB are wanted", len(got))
	}
}

// TestShareLimit shows that a partition's locked records are bounded by their
// number, and that one that is stuck does not hold up the rest.
func TestShareLimit(t *testing.T) {
	r := newShareRig(t)
	d := r.create("t")
	a := r.join("g", "a", d)
	values := make([]string, 500)
	for i := range 9 {
		for j := range values {
			values[j] = fmt.Sprint(500*i + j)
		}
		r.put("t", 0, values...)
	}
	a.records = 5000
	q := a.request()
	q.MaxBytes = 50 << 20
	got := a.send(q)
	if len(got) != maxLockedRecords {
		t.Fatalf("%d records are locked", len(got))
	}
	a.gets("")
	for i := 1; i < len(got); i += 2 { // all but the first and each second one
		got[i/2] = got[i]
	}
	a.must(ackAccept, got[:maxLockedRecords/2]...)
	q.ShareSessionEpoch = a.epoch
	next := a.send(q)
	if len(next) != maxLockedRecords/2 || next[0].offset != maxLockedRecords {
		t.Errorf("%d more records, from %d", len(next), next[0].offset)
	}
}

// jms is a consumer of a view as JMS clients are.
type jms struct {
	view     *queue.View
	consumer *queue.Consumer
	mu       sync.Mutex
	spans    []queue.Span
	values   []string
	drained  chan struct{}
}

func (j *jms) Deliver(d queue.Delivery) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var r record.Reader
	if err := r.Reset(d.Batch, 1<<20); err != nil {
		panic(err)
	}
	for r.Next() {
		j.values = append(j.values, string(r.Record().Value))
	}
	j.spans = append(j.spans, queue.Span{Partition: d.Partition, Offset: d.Offset, Acquisition: d.FirstAcquisition, Count: int32(d.Records)})
}
func (*jms) Flush()                          {}
func (j *jms) Drained(*queue.Consumer)       { j.drained <- struct{}{} }
func (j *jms) Closed(*queue.Consumer, error) {}

func (r *shareRig) jms(v *queue.View) *jms {
	r.t.Helper()
	j := &jms{view: v, drained: make(chan struct{}, 1)}
	var err error
	if j.consumer, err = v.Consume(queue.ConsumerOptions{Holder: destination.Holder(r.broker.NextNumber())}, j); err != nil {
		r.t.Fatal(err)
	}
	return j
}

// take takes what is ready, up to n.
func (j *jms) take(n int) []string {
	j.consumer.Credit(n)
	j.consumer.Drain()
	<-j.drained
	j.mu.Lock()
	defer j.mu.Unlock()
	got := j.values
	j.values = nil
	return got
}

func (j *jms) acknowledge(t testing.TB) {
	t.Helper()
	j.mu.Lock()
	spans := j.spans
	j.spans = nil
	j.mu.Unlock()
	done := make(errorWaiter, 1)
	if err := j.view.Settle(j.consumer.Holder(), spans, queue.Outcome{}, done); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestShareAndJMSCompete shows that a share group, JMS's shared durable
// subscription of that name, and a queue with the group polylog.queue are one
// each: every message comes to one of the consumers, and once.
func TestShareAndJMSCompete(t *testing.T) {
	const messages = 400
	for _, group := range []string{"office", queueGroup} {
		t.Run(group, func(t *testing.T) {
			r := newShareRig(t)
			d := r.create("t", "partitions=2")
			var v *queue.View
			if group == queueGroup {
				var err error
				if v, err = r.broker.Queue(context.Background(), d); err != nil {
					t.Fatal(err)
				}
			} else {
				sub, leave, err := r.broker.Subscribe(context.Background(), d, topic.Spec{Kind: topic.SharedDurable, Name: group})
				if err != nil {
					t.Fatal(err)
				}
				defer leave()
				v = sub.View
			}
			a, j := r.join(group, "a", d), r.jms(v)
			seen := map[string]int{}
			byShare, byJMS := 0, 0
			for i := range messages {
				r.put("t", int32(i%2), fmt.Sprint(i))
				if i%20 != 19 {
					continue
				}
				for range 2 {
					a.records, a.mode = 7, 1
					if got := a.fetch(); len(got) > 0 {
						for _, k := range got {
							seen[k.value]++
							byShare++
						}
						a.must(ackAccept, got...)
					}
					for _, value := range j.take(5) {
						seen[value]++
						byJMS++
					}
					j.acknowledge(t)
				}
			}
			for len(seen) < messages {
				got := a.fetch()
				if len(got) == 0 {
					t.Fatalf("%d of %d have come", len(seen), messages)
				}
				for _, k := range got {
					seen[k.value]++
				}
				a.must(ackAccept, got...)
			}
			for value, n := range seen {
				if n != 1 {
					t.Errorf("%s came %d times", value, n)
				}
			}
			if byShare == 0 || byJMS == 0 {
				t.Errorf("%d and %d", byShare, byJMS)
			}
			// Both wait: each gets its turn.
			a.wait = 60_000
			q := a.request()
			a.c.send(q, 2)
			j.consumer.Credit(1000)
			answered := make(chan []taken, 1)
			go func() { answered <- takenOf(t, a.c.receive(q, a.c.correlation).(*kmsg.ShareFetchResponse)) }()
			for i := 0; ; i++ {
				r.put("t", 0, fmt.Sprint("more", i))
				select {
				case got := <-answered:
					if len(got) == 0 {
						t.Error("nothing has come")
					}
					return
				default:
				}
				if i > 1000 {
					t.Fatal("the member starves")
				}
			}
		})
	}
}

// TestShareRestart shows that what was accepted stays so, and what was not
// comes again, with its count.
func TestShareRestart(t *testing.T) {
	r := newShareRig(t)
	d := r.create("t")
	a := r.join("g", "a", d)
	r.put("t", 0, "0", "1", "2", "3")
	got := a.gets("0 1 2 3")
	a.must(ackAccept, got[1])
	a.must(ackRelease, got[3])
	r.restart()
	d, err := r.broker.Destination(context.Background(), "t", 0)
	if err != nil {
		t.Fatal(err)
	}
	b := r.join("g", "b", d)
	if got := b.gets("0 2 3"); got[0].count != 2 {
		t.Errorf("delivered for the %d. time", got[0].count)
	}
}

// TestShareOffsets shows describing, altering and deleting, and where a new
// group begins.
func TestShareOffsets(t *testing.T) {
	r := newShareRig(t)
	d := r.create("t", "partitions=2")
	r.put("t", 0, "0", "1", "2", "3")
	c := r.dial()
	describe := func(topics ...string) string {
		t.Helper()
		q := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
		g := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
		g.GroupID = "g"
		for _, name := range topics {
			g.Topics = append(g.Topics, kmsg.DescribeShareGroupOffsetsRequestGroupTopic{Topic: name, Partitions: []int32{0, 1}})
		}
		q.Groups = append(q.Groups, g)
		response := ask[*kmsg.DescribeShareGroupOffsetsResponse](c, q, 1)
		var b strings.Builder
		for _, topic := range response.Groups[0].Topics {
			for _, p := range topic.Partitions {
				fmt.Fprintf(&b, "%s-%d %d+%d %d;", topic.Topic, p.Partition, p.StartOffset, p.Lag, p.ErrorCode)
			}
		}
		return b.String()
	}
	alter := func(partition int32, offset int64) (int16, int16) {
		t.Helper()
		q := kmsg.NewPtrAlterShareGroupOffsetsRequest()
		q.GroupID = "g"
		q.Topics = append(q.Topics, kmsg.AlterShareGroupOffsetsRequestTopic{Topic: "t", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{Partition: partition, StartOffset: offset}}})
		response := ask[*kmsg.AlterShareGroupOffsetsResponse](c, q, 0)
		if len(response.Topics) == 0 {
			return response.ErrorCode, 0
		}
		return response.ErrorCode, response.Topics[0].Partitions[0].ErrorCode
	}
	remove := func() (int16, int16) {
		t.Helper()
		q := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
		q.GroupID = "g"
		q.Topics = append(q.Topics, kmsg.DeleteShareGroupOffsetsRequestTopic{Topic: "t"})
		response := ask[*kmsg.DeleteShareGroupOffsetsResponse](c, q, 0)
		if len(response.Topics) == 0 {
			return response.ErrorCode, 0
		}
		return response.ErrorCode, response.Topics[0].ErrorCode
	}
	if got := describe("t", "nothing"); got != "t-0 -1+-1 0;t-1 -1+-1 0;nothing-0 -1+-1 0;nothing-1 -1+-1 0;" {
		t.Errorf("before there is a group: %s", got)
	}
	if code, _ := remove(); code != codeGroupIDNotFound {
		t.Errorf("deleted before there is a group: code %d", code)
	}
	a := r.join("g", "a", d)
	a.gets("") // it begins at the end
	if got := describe(); got != "t-0 4+0 0;t-1 0+0 0;" {
		t.Errorf("a new group: %s", got)
	}
	if _, code := alter(0, 1); code != codeNonEmptyGroup {
		t.Errorf("altered while it consumes: code %d", code)
	}
	if _, code := remove(); code != codeNonEmptyGroup {
		t.Errorf("deleted while it consumes: code %d", code)
	}
	r.put("t", 1, "4", "5", "6")
	got := a.gets("4 5 6")
	a.must(ackAccept, got[1])
	if got := describe(); got != "t-0 4+0 0;t-1 0+2 0;" {
		t.Errorf("one of three is done: %s", got)
	}
	a.leave()
	if _, code := alter(7, 1); code != codeUnknownTopicOrPartition {
		t.Errorf("altered what is not there: code %d", code)
	}
	if top, code := alter(0, 1); top != 0 || code != 0 {
		t.Errorf("altered: codes %d, %d", top, code)
	}
	if got := describe("t"); got != "t-0 1+3 0;t-1 0+2 0;" {
		t.Errorf("altered: %s", got)
	}
	a = r.join("g", "a", d)
	if got := len(a.waits(5)); got != 5 {
		t.Errorf("%d", got)
	}
	a.leave()
	if top, code := remove(); top != 0 || code != 0 {
		t.Errorf("deleted: codes %d, %d", top, code)
	}
	if got := describe(); got != "" {
		t.Errorf("deleted: %s", got)
	}
	// With its config, the next one begins at the beginning.
	r.configure(c, "g", shareReset, "earliest", 0)
	a = r.join("g", "a", d)
	if got := len(a.waits(7)); got != 7 {
		t.Errorf("%d", got)
	}
	a.leave()
	// Deleting the group takes all of it.
	dq := kmsg.NewPtrDeleteGroupsRequest()
	dq.Groups = []string{"g"}
	if code := ask[*kmsg.DeleteGroupsResponse](c, dq, 2).Groups[0].ErrorCode; code != 0 {
		t.Errorf("delete the group: code %d", code)
	}
	if got := describe(); got != "" {
		t.Errorf("deleted: %s", got)
	}
}

// leave closes the session.
func (s *sharer) leave() {
	s.t.Helper()
	q := s.request()
	q.ShareSessionEpoch = closeShareSession
	if code := ask[*kmsg.ShareFetchResponse](s.c, q, 2).ErrorCode; code != 0 {
		s.t.Errorf("leave: code %d", code)
	}
}

// configure sets a group's config, "" sets the default back.
func (r *shareRig) configure(c *client, group, name, value string, want int16) {
	r.t.Helper()
	q := kmsg.NewPtrIncrementalAlterConfigsRequest()
	k := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	k.Name, k.Value = name, &value
	if value == "" {
		k.Op, k.Value = kmsg.IncrementalAlterConfigOpDelete, nil
	}
	q.Resources = append(q.Resources, kmsg.IncrementalAlterConfigsRequestResource{
		ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: group,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{k},
	})
	if code := ask[*kmsg.IncrementalAlterConfigsResponse](c, q, 1).Resources[0].ErrorCode; code != want {
		r.t.Errorf("%s=%q: code %d, not %d", name, value, code, want)
	}
}

// TestGroupConfigs shows what can be set for a share group, that it holds for
// sessions that are open, and that it outlives a restart.
func TestGroupConfigs(t *testing.T) {
	r := newShareRig(t)
	d := r.create("t")
	c := r.dial()
	a := r.join("g", "a", d)
	r.configure(c, "g", shareIsolation, "read_uncommitted", codeInvalidConfig)
	r.configure(c, "g", shareLock, "999", codeInvalidConfig)
	r.configure(c, "g", shareReset, "none", codeInvalidConfig)
	r.configure(c, "g", "share.nothing", "1", codeInvalidConfig)
	r.configure(c, "g", "share.session.timeout.ms", "1", codeInvalidConfig)
	r.configure(c, "", shareLock, "15000", codeInvalidRequest)
	r.configure(c, "g", shareIsolation, "read_committed", 0)
	r.configure(c, "g", shareLock, "15000", 0)
	r.configure(c, "g", shareLimit, "2", 0)
	for i := range 2 {
		if i == 1 {
			r.restart()
			d, _ = r.broker.Destination(context.Background(), "t", 0)
			c, a = r.dial(), r.join("g", "a", d)
		}
		r.put("t", 0, fmt.Sprint(i))
		a.gets(fmt.Sprint(i))
		if lock := a.last.AcquisitionLockTimeoutMillis; lock != 15_000 {
			t.Errorf("the lock is %d ms", lock)
		}
		r.pass(15 * time.Second)
		a.gets(fmt.Sprint(i))
		r.pass(15 * time.Second)
		a.gets("") // it was delivered twice
		r.dead("DLQ.t", i+1)
	}
	q := kmsg.NewPtrDescribeConfigsRequest()
	q.Resources = append(q.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: "g"})
	var b strings.Builder
	for _, k := range ask[*kmsg.DescribeConfigsResponse](c, q, 4).Resources[0].Configs {
		if k.Source == kmsg.ConfigSourceGroupConfig {
			fmt.Fprintf(&b, "%s=%s ", k.Name, *k.Value)
		}
	}
	if b.String() != "share.delivery.count.limit=2 share.record.lock.duration.ms=15000 " {
		t.Errorf("configs %s", b.String())
	}
	r.configure(c, "g", shareLock, "", 0)
	r.configure(c, "g", shareLimit, "", 0)
	r.configure(c, "g", shareIsolation, "", 0)
	if left := r.broker.GroupsSet(); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}
