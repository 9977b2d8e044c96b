package kafka

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/topic"
)

// modelRecord is what a naive model knows of one record.
type modelRecord struct {
	partition int32
	offset    int64
	value     string
	count     int
	holder    string // "": nobody
	until     int64  // ms; 0: as long as the holder lives
	done      bool   // accepted
	rejected  bool
}

// shareModel is a share group as one would write it without thinking of size.
type shareModel struct {
	*shareRig
	random  *rand.Rand
	seed    uint64
	d       *destination.Destination
	members []*sharer
	jms     *jms
	leave   func()
	records []*modelRecord
	ends    [modelPartitions]int64
}

const (
	modelPartitions = 2
	modelDeliveries = 4
	modelLock       = 30_000
)

func (m *shareModel) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d: %s", m.seed, fmt.Sprintf(format, args...))
}

// held says whether a record is held by anybody now.
func (m *shareModel) held(r *modelRecord) bool {
	return r.holder != "" && (r.until == 0 || r.until > m.now.Load())
}

// ready says whether a record is to be delivered.
func (m *shareModel) ready(r *modelRecord) bool {
	return !r.done && !r.rejected && !m.held(r) && r.count < modelDeliveries
}

func (m *shareModel) find(partition int32, offset int64) *modelRecord {
	m.t.Helper()
	for _, r := range m.records {
		if r.partition == partition && r.offset == offset {
			return r
		}
	}
	m.fail("there is no record %d-%d", partition, offset)
	return nil
}

// deliver checks that holder may get a record.
func (m *shareModel) deliver(r *modelRecord, holder string, until int64) {
	m.t.Helper()
	if !m.ready(r) {
		m.fail("%s gets %+v", holder, *r)
	}
	r.count++
	r.holder, r.until = holder, until
}

// release ends what a holder has.
func (m *shareModel) release(holder string) {
	for _, r := range m.records {
		if r.holder == holder {
			r.holder = ""
		}
	}
}

func (m *shareModel) open(id int) *sharer {
	return m.join("g", fmt.Sprint("member", id), m.d)
}

func (m *shareModel) openJMS() {
	m.t.Helper()
	sub, leave, err := m.broker.Subscribe(context.Background(), m.d, topic.Spec{Kind: topic.SharedDurable, Name: "g"})
	if err != nil {
		m.t.Fatal(err)
	}
	m.jms, m.leave = m.shareRig.jms(sub.View), leave
}

// step does one thing.
func (m *shareModel) step() {
	member := m.members[m.random.IntN(len(m.members))]
	switch n := m.random.IntN(100); {
	case n < 20:
		m.produce()
	case n < 50:
		m.fetch(member)
	case n < 80:
		m.answer(member)
	case n < 87:
		m.pass(time.Duration(m.random.IntN(20_000)) * time.Millisecond)
	case n < 94:
		m.takeJMS()
	case n < 96:
		m.reopen(member)
	case n < 98:
		m.hangUp(member)
	default:
		m.again()
	}
}

func (m *shareModel) produce() {
	p := int32(m.random.IntN(modelPartitions))
	var values []string
	for range 1 + m.random.IntN(6) {
		r := &modelRecord{partition: p, offset: m.ends[p], value: fmt.Sprintf("%d-%d", p, m.ends[p])}
		m.records, values = append(m.records, r), append(values, r.value)
		m.ends[p]++
	}
	m.put("t", p, values...)
}

func (m *shareModel) fetch(s *sharer) {
	m.t.Helper()
	s.records, s.mode = int32(1+m.random.IntN(12)), int8(m.random.IntN(2))
	got := s.fetch()
	if s.mode == 1 && len(got) > int(s.records) {
		m.fail("%d records, %d are the most", len(got), s.records)
	}
	for _, k := range got {
		r := m.find(k.partition, k.offset)
		m.deliver(r, s.id, m.now.Load()+modelLock)
		if k.value != r.value || k.count != r.count {
			m.fail("%+v is delivered as %+v", *r, k)
		}
	}
	for _, r := range m.records {
		if len(got) < int(s.records) && m.ready(r) {
			m.fail("%+v is not delivered", *r)
		}
	}
}

// answer acknowledges some of what a member has had on one partition, now or
// earlier, in one of many ways.
func (m *shareModel) answer(s *sharer) {
	m.t.Helper()
	p := int32(m.random.IntN(modelPartitions))
	stale := m.random.IntN(8) == 0
	var some []*modelRecord
	for _, r := range m.records {
		if r.partition == p && (r.holder == s.id && m.held(r) || stale && r.holder == s.id) && m.random.IntN(3) > 0 {
			some = append(some, r)
		}
	}
	if len(some) == 0 {
		return
	}
	slices.SortFunc(some, func(a, b *modelRecord) int { return int(a.offset - b.offset) })
	q := kmsg.NewPtrShareAcknowledgeRequest()
	q.GroupID, q.MemberID, q.ShareSessionEpoch, q.IsRenewAck = &s.group, &s.id, s.epoch, true
	t := kmsg.ShareAcknowledgeRequestTopic{TopicID: m.d.ID, Partitions: []kmsg.ShareAcknowledgeRequestTopicPartition{{Partition: p}}}
	batches := &t.Partitions[0].AcknowledgementBatches
	want := codeNone
	kinds := make([]int8, len(some))
	for i, r := range some {
		kinds[i] = int8(m.random.IntN(5))
		if m.random.IntN(2) == 0 {
			kinds[i] = ackAccept
		}
		if !m.held(r) {
			want = codeInvalidRecordState
		}
		if n := len(*batches); n > 0 && (*batches)[n-1].LastOffset == r.offset-1 {
			(*batches)[n-1].LastOffset++
			(*batches)[n-1].AcknowledgeTypes = append((*batches)[n-1].AcknowledgeTypes, kinds[i])
			continue
		}
		*batches = append(*batches, kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{
			FirstOffset: r.offset, LastOffset: r.offset, AcknowledgeTypes: []int8{kinds[i]},
		})
	}
	q.Topics = append(q.Topics, t)
	response := ask[*kmsg.ShareAcknowledgeResponse](s.c, q, 2)
	s.epoch++
	if code := response.Topics[0].Partitions[0].ErrorCode; response.ErrorCode != 0 || code != want {
		m.fail("codes %d, %d, not %d", response.ErrorCode, code, want)
	}
	if want != codeNone {
		return
	}
	for i, r := range some {
		switch kinds[i] {
		case ackRenew:
			r.until = m.now.Load() + modelLock
			continue
		case ackReject:
			r.rejected = true
		case ackAccept, ackGap:
			r.done = true
		}
		r.holder = ""
	}
}

// takeJMS has a JMS consumer of the same subscription take some, and keep them,
// acknowledge them or go.
func (m *shareModel) takeJMS() {
	m.t.Helper()
	for _, value := range m.jms.take(1 + m.random.IntN(5)) {
		for _, r := range m.records {
			if r.value == value {
				m.deliver(r, "JMS", 0)
			}
		}
	}
	switch m.random.IntN(3) {
	case 0:
		m.jms.acknowledge(m.t)
		for _, r := range m.records {
			if r.holder == "JMS" {
				r.done, r.holder = true, ""
			}
		}
	case 1:
		m.jms.consumer.Close(false)
		m.leave()
		m.release("JMS")
		m.openJMS()
	}
}

func (m *shareModel) reopen(s *sharer) {
	if m.random.IntN(2) == 0 {
		s.leave()
	}
	i := slices.Index(m.members, s)
	m.members[i] = m.open(i)
	m.release(s.id)
	s.c.conn.Close() // which opened nothing that is still there
}

// hangUp closes a member's connection, and waits until the broker has noticed.
func (m *shareModel) hangUp(s *sharer) {
	s.c.conn.Close()
	all := &m.server.shares
	for gone := false; !gone; {
		time.Sleep(time.Millisecond)
		all.mu.Lock()
		_, there := all.byKey[shareKey{"g", s.id}]
		all.mu.Unlock()
		gone = !there && m.server.Connections() == len(m.members)-1
	}
	i := slices.Index(m.members, s)
	m.members[i] = m.open(i)
	m.release(s.id)
}

func (m *shareModel) again() {
	m.t.Helper()
	m.leave()
	m.restart()
	m.start()
}

// start opens what a start of the broker has closed.
func (m *shareModel) start() {
	m.t.Helper()
	var err error
	if m.d, err = m.broker.Destination(context.Background(), "t", 0); err != nil {
		m.t.Fatal(err)
	}
	m.openJMS()
	for i := range m.members {
		m.members[i] = m.open(i)
	}
	for _, r := range m.records {
		r.holder = ""
	}
}

// finish accepts all that comes until nothing does.
func (m *shareModel) finish() {
	m.t.Helper()
	m.jms.consumer.Close(false)
	m.leave()
	for _, s := range m.members[1:] {
		s.leave()
	}
	m.pass(time.Hour)
	s := m.members[0]
	s.records = 10_000
	want := 0
	for _, r := range m.records {
		r.holder = ""
		if m.ready(r) {
			want++
		}
	}
	got := s.fetch()
	if len(got) != want {
		m.fail("%d records are left, not %d", len(got), want)
	}
	if want > 0 {
		s.must(ackAccept, got...)
	}
	var dead []string
	for _, r := range m.records {
		if !r.done && (r.rejected || r.count >= modelDeliveries) {
			dead = append(dead, r.value)
		}
	}
	if len(dead) > 0 {
		letters := m.dead("DLQ.t", len(dead))
		slices.Sort(letters)
		slices.Sort(dead)
		if strings.Join(letters, " ") != strings.Join(dead, " ") {
			m.fail("dead letters %v, expected are %v", letters, dead)
		}
	}
	if v := m.server.shares.byKey[shareKey{"g", s.id}]; len(v.topics[0].held) != 0 {
		for p, h := range v.topics[0].held {
			if len(h.runs) > 0 {
				m.fail("partition %d: %v are remembered as held", p, h.runs)
			}
		}
	}
}

// TestShareModel does random things with three members and a JMS consumer of
// one subscription, and compares with the model.
func TestShareModel(t *testing.T) {
	for seed := range uint64(8) {
		m := &shareModel{shareRig: newShareRig(t), random: rand.New(rand.NewPCG(seed, 1)), seed: seed, members: make([]*sharer, 3)}
		m.create("t", "partitions=2", fmt.Sprint("max.deliveries=", modelDeliveries))
		m.shareRig.broker.SetGroup("g", map[string]string{shareReset: "earliest"})
		m.start()
		for range 250 {
			m.step()
		}
		m.finish()
		m.stop()
	}
}

// TestHeldRecords compares the runs that a session holds with a map.
func TestHeldRecords(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 2))
		var h heldRecords
		type one struct {
			acquisition uint64
			until       int64
		}
		want := map[int64]one{}
		next := uint64(1)
		for range 200 {
			from := random.Int64N(60)
			to := from + 1 + random.Int64N(10)
			switch random.IntN(4) {
			case 0, 1:
				until := 1 + random.Int64N(100)
				h.add(heldRun{from, to, next, until})
				for o := from; o < to; o++ {
					want[o] = one{next + uint64(o-from), until}
				}
				next += uint64(to - from)
			case 2:
				h.remove(from, to)
				for o := from; o < to; o++ {
					delete(want, o)
				}
			default:
				now := random.Int64N(20)
				h.expire(now)
				for o, k := range want {
					if k.until <= now {
						delete(want, o)
					}
				}
			}
			last := int64(0)
			n := 0
			for _, r := range h.runs {
				if r.from < last || r.to <= r.from {
					t.Fatalf("seed %d: runs %v", seed, h.runs)
				}
				last = r.to
				for o := r.from; o < r.to; o++ {
					n++
					if want[o] != (one{r.acquisition + uint64(o-r.from), r.until}) {
						t.Fatalf("seed %d: offset %d in %v, expected is %v", seed, o, r, want[o])
					}
				}
			}
			if n != len(want) {
				t.Fatalf("seed %d: %d are held, not %d", seed, n, len(want))
			}
			from = random.Int64N(60)
			to = from + 1 + random.Int64N(5)
			all := true
			for o := from; o < to; o++ {
				_, held := want[o]
				all = all && held
			}
			if _, ok := h.spans(0, from, to, nil); ok != all {
				t.Fatalf("seed %d: [%d, %d) of %v: %t", seed, from, to, h.runs, ok)
			}
		}
	}
}
