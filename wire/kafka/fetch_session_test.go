package kafka

import (
	"fmt"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination/record"
)

// modelPartition is a topic and a partition's number.
type modelPartition struct {
	topic  string
	number int32
}

// modelRequest names partitions and forgets some.
func modelRequest(version int16, id, epoch int32, named map[modelPartition]int64, forgotten ...modelPartition) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.Version, q.SessionID, q.SessionEpoch = version, id, epoch
	for _, p := range slices.SortedFunc(maps.Keys(named), func(a, b modelPartition) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}) {
		n := kmsg.NewFetchRequestTopicPartition()
		n.Partition, n.FetchOffset, n.PartitionMaxBytes = p.number, named[p], 100
		q.Topics = append(q.Topics, kmsg.FetchRequestTopic{
			Topic: p.topic, TopicID: modelID(p.topic), Partitions: []kmsg.FetchRequestTopicPartition{n},
		})
	}
	for _, p := range forgotten {
		q.ForgottenTopics = append(q.ForgottenTopics, kmsg.FetchRequestForgottenTopic{
			Topic: p.topic, TopicID: modelID(p.topic), Partitions: []int32{p.number},
		})
	}
	return q
}

func modelID(topic string) (id [16]byte) {
	copy(id[:], topic)
	return id
}

// listed is a full request as if it were looked up.
func listed(q *kmsg.FetchRequest) *fetched {
	f := &fetched{version: q.Version}
	for _, t := range q.Topics {
		f.topics = append(f.topics, fetchedTopic{t.Topic, t.TopicID, len(t.Partitions)})
		for _, p := range t.Partitions {
			f.partitions = append(f.partitions, asked(p.Partition, p.CurrentLeaderEpoch, p.FetchOffset, p.PartitionMaxBytes))
		}
	}
	return f
}

// partitionsNamed is as many partitions of one topic.
func partitionsNamed(topic string, n int) map[modelPartition]int64 {
	m := map[modelPartition]int64{}
	for i := range n {
		m[modelPartition{topic, int32(i)}] = 0
	}
	return m
}

// modelBroker is what there is to be told of a partition.
type modelBroker struct {
	fetchKnown
	code    int16
	records int64 // behind what the client asks for
}

// TestFetchSessionModel has a client as KIP-227 describes it and a broker whose
// partitions change at random speak by way of sessions. After every answer the
// client knows of each partition what a full request would have told it, and
// nothing was told that it knew.
func TestFetchSessionModel(t *testing.T) {
	for seed := range uint64(40) {
		version := int16(12 + seed%2)
		random := rand.New(rand.NewPCG(seed, 227))
		var all fetchSessions
		var owner fetchOwner
		topics := []string{"a", "b", "c"}
		broker := map[modelPartition]*modelBroker{}
		for _, topic := range topics {
			for n := range int32(4) {
				broker[modelPartition{topic, n}] = &modelBroker{}
			}
		}
		every := slices.SortedFunc(maps.Keys(broker), func(a, b modelPartition) int {
			return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
		})
		var id, epoch int32
		wanted := map[modelPartition]int64{}      // the client fetches, from these offsets
		said := map[modelPartition]int64{}        // in its session
		known := map[modelPartition]modelBroker{} // it was told
		incremental := 0
		for step := range 400 {
			// Things happen.
			for range random.IntN(4) {
				p := every[random.IntN(len(every))]
				switch b := broker[p]; random.IntN(7) {
				case 0:
					b.high++
					b.records++
				case 1:
					b.lastStable++
				case 2:
					b.start++
				case 3:
					b.code = codeUnknownLeaderEpoch
				case 4:
					b.code = codeNone
				case 5:
					wanted[p] = random.Int64N(100)
				case 6:
					delete(wanted, p)
				}
			}
			for p := range wanted {
				if random.IntN(4) == 0 {
					wanted[p]++
				}
			}
			if random.IntN(25) == 0 {
				all.close(id) // evicted
			}
			// A request.
			full := epoch == 0
			var q *kmsg.FetchRequest
			if full {
				q = modelRequest(version, id, 0, wanted)
				clear(known)
			} else {
				named := map[modelPartition]int64{}
				var forgotten []modelPartition
				for p, offset := range wanted {
					if was, ok := said[p]; !ok || was != offset {
						named[p] = offset
					}
					if _, ok := said[p]; !ok {
						delete(known, p)
					}
				}
				for p := range said {
					if _, ok := wanted[p]; !ok {
						forgotten = append(forgotten, p)
						delete(known, p)
					}
				}
				q = modelRequest(version, id, epoch, named, forgotten...)
			}
			said = maps.Clone(wanted)
			// The answer.
			var f *fetched
			var s *fetchSession
			var next int32
			if full {
				all.close(id)
				f = listed(q)
			} else {
				var code int16
				s, next, code = all.next(q, int64(step))
				if code != codeNone {
					if code != codeFetchSessionIDNotFound || all.byID[id] != nil {
						t.Fatalf("seed %d, step %d: code %d", seed, step, code)
					}
					id, epoch = 0, 0
					continue
				}
				if s == nil {
					if len(wanted) > 0 {
						t.Fatalf("seed %d, step %d: the session is over with %d partitions", seed, step, len(wanted))
					}
					id, epoch = 0, 0
					continue
				}
				f = &fetched{version: version}
				s.list(f)
			}
			if len(f.partitions) != len(wanted) {
				t.Fatalf("seed %d, step %d: %d partitions are fetched, %d wanted", seed, step, len(f.partitions), len(wanted))
			}
			names := make([]modelPartition, len(f.partitions))
			room := int64(2) // partitions that get records
			for i := range f.partitions {
				p := &f.partitions[i]
				if full {
					names[i] = modelPartition{f.topics[i].name, p.number}
				} else {
					names[i] = modelPartition{strings.TrimRight(f.kept[i].topic.name+string(f.kept[i].topic.id[:]), "\x00"), p.number}
				}
				if offset, ok := wanted[names[i]]; !ok || offset != p.offset {
					t.Fatalf("seed %d, step %d: %v is fetched from %d; wanted is %d (%v)", seed, step, names[i], p.offset, offset, ok)
				}
				b := broker[names[i]]
				p.high, p.lastStable, p.start, p.code = b.high, b.lastStable, b.start, b.code
				if b.code == codeNone && b.records > 0 && room > 0 {
					p.from, p.to = 0, 1
					room--
				}
			}
			if full {
				id = all.open(&owner, f, int64(step))
				epoch = 1
			} else {
				incremental++
				if !s.finish(next, f) {
					t.Fatalf("seed %d, step %d: taken for a duplicate", seed, step)
				}
				epoch = next
			}
			at, toldOf := 0, map[modelPartition]bool{}
			for _, topic := range f.topics {
				for range topic.partitions {
					p := f.partitions[at]
					at++
					name := modelPartition{topic.name, p.number}
					if version >= 13 {
						name.topic = strings.TrimRight(string(topic.id[:]), "\x00")
					}
					if toldOf[name] {
						t.Fatalf("seed %d, step %d: %v twice", seed, step, name)
					}
					toldOf[name] = true
					knew, ok := known[name]
					is := modelBroker{fetchKnown: fetchKnown{p.high, p.lastStable, p.start}, code: p.code}
					if p.to == p.from && p.code == codeNone && ok && knew == is && !full {
						t.Fatalf("seed %d, step %d: %v is told again", seed, step, name)
					}
					known[name] = is
					if p.to > p.from {
						broker[name].records = 0
					}
				}
			}
			if at != len(f.partitions) {
				t.Fatalf("seed %d, step %d: topics have %d partitions of %d", seed, step, at, len(f.partitions))
			}
			for name := range wanted {
				b := broker[name]
				if b.code != codeNone && !toldOf[name] {
					t.Fatalf("seed %d, step %d: the error of %v is not told", seed, step, name)
				}
				if got, ok := known[name]; !ok || got.fetchKnown != b.fetchKnown || got.code != b.code {
					t.Fatalf("seed %d, step %d: of %v the client knows %+v, the truth is %+v", seed, step, name, got, *b)
				}
			}
			if s := all.byID[id]; s != nil && len(s.topics) != len(slices.Compact(slices.Sorted(topicsOf(wanted)))) {
				t.Fatalf("seed %d, step %d: %d topics are kept of %v", seed, step, len(s.topics), wanted)
			}
			if all.partitions != owner.partitions || id != 0 && all.byID[id].counted != len(wanted) {
				t.Fatalf("seed %d, step %d: %d partitions are counted", seed, step, all.partitions)
			}
		}
		if incremental < 200 {
			t.Errorf("seed %d: only %d incremental requests", seed, incremental)
		}
		all.close(id)
		if all.partitions != 0 || owner != (fetchOwner{}) || len(all.byID) != 0 {
			t.Errorf("seed %d: at the end %d partitions are counted, and %+v", seed, all.partitions, owner)
		}
	}
}

func topicsOf(m map[modelPartition]int64) iter.Seq[string] {
	return func(yield func(string) bool) {
		for p := range m {
			if !yield(p.topic) {
				return
			}
		}
	}
}

// TestFetchSessionEpochs shows which requests a session refuses, and that none
// of them changes it.
func TestFetchSessionEpochs(t *testing.T) {
	var all fetchSessions
	id := all.open(new(fetchOwner), listed(modelRequest(12, 0, 0, partitionsNamed("t", 2))), 0)
	if id <= 0 {
		t.Fatalf("session %d", id)
	}
	next := func(version int16, id, epoch int32) int16 {
		_, _, code := all.next(modelRequest(version, id, epoch, nil), 0)
		return code
	}
	for _, is := range []struct {
		name      string
		version   int16
		id, epoch int32
		code      int16
	}{
		{"another session", 12, id ^ 1, 1, codeFetchSessionIDNotFound},
		{"no session", 12, 0, 1, codeFetchSessionIDNotFound},
		{"too late an epoch", 12, id, 2, codeInvalidFetchSessionEpoch},
		{"no epoch", 12, id, -2, codeInvalidFetchSessionEpoch},
		{"topic ids", 13, id, 1, codeFetchSessionTopicIDError},
		{"the next", 12, id, 1, codeNone},
		{"the same again", 12, id, 1, codeInvalidFetchSessionEpoch},
		{"the next but one", 7, id, 2, codeNone},
	} {
		if code := next(is.version, is.id, is.epoch); code != is.code {
			t.Errorf("%s: code %d, not %d", is.name, code, is.code)
		}
	}
	s := all.byID[id]
	s.epoch = math.MaxInt32
	if code := next(12, id, math.MaxInt32); code != codeNone || s.epoch != 1 {
		t.Errorf("the largest epoch: code %d, and then %d", code, s.epoch)
	}
	// An answer that a later request has overtaken changes nothing.
	var f fetched
	_, epoch, _ := all.next(modelRequest(12, id, 1, nil), 0)
	s.list(&f)
	f.partitions[0].high = 7
	next(12, id, 2)
	if s.finish(epoch, &f) || s.first.high == 7 {
		t.Error("an answer that was overtaken is given")
	}
	all.close(id)
	if code := next(12, id, 3); code != codeFetchSessionIDNotFound {
		t.Errorf("closed: code %d", code)
	}
}

// TestFetchSessionTurns shows that partitions that always have records get them
// in turn, though an answer has room for one only.
func TestFetchSessionTurns(t *testing.T) {
	var all fetchSessions
	f := listed(modelRequest(12, 0, 0, partitionsNamed("t", 5)))
	f.partitions[0].to = 1
	id := all.open(new(fetchOwner), f, 0)
	got := []int32{0}
	for epoch := int32(1); epoch < 10; epoch++ {
		s, next, code := all.next(modelRequest(12, id, epoch, nil), 0)
		if code != codeNone {
			t.Fatal(code)
		}
		f := &fetched{version: 12}
		s.list(f)
		for i := range f.partitions {
			f.partitions[i].high = int64(epoch) // all have news, one has records
		}
		f.partitions[0].to = 1
		got = append(got, f.partitions[0].number)
		if !s.finish(next, f) || len(f.partitions) != 5 {
			t.Fatalf("%d partitions", len(f.partitions))
		}
	}
	if want := []int32{0, 1, 2, 3, 4, 0, 1, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("records of %v", got)
	}
}

// TestFetchSessionPlaces shows who gets a place when all are taken.
func TestFetchSessionPlaces(t *testing.T) {
	var all fetchSessions
	open := func(o *fetchOwner, partitions int, now int64) int32 {
		return all.open(o, listed(modelRequest(12, 0, 0, partitionsNamed("t", partitions))), now)
	}
	var ids []int32
	for i := range maxFetchSessions {
		ids = append(ids, open(new(fetchOwner), 1+min(i, 1), int64(i)))
	}
	if len(all.byID) != maxFetchSessions || slices.Contains(ids, 0) {
		t.Fatalf("%d sessions", len(all.byID))
	}
	const soon = fetchSessionIdle
	if id := open(new(fetchOwner), 50, soon); id != 0 {
		t.Error("a place is taken from a session that is neither old nor idle")
	}
	// The first is idle by now, but has been used.
	if _, _, code := all.next(modelRequest(12, ids[0], 1, nil), 5); code != codeNone {
		t.Fatal(code)
	}
	if id := open(new(fetchOwner), 1, soon+2); id == 0 || all.byID[ids[1]] != nil || all.byID[ids[0]] == nil {
		t.Error("the session unused longest does not go")
	}
	if id := open(new(fetchOwner), 1, soon+2); id != 0 {
		t.Error("more than one has gone")
	}
	// All are in use, and old: a larger one may have the smallest's place.
	for _, id := range ids {
		if s := all.byID[id]; s != nil {
			if _, _, code := all.next(modelRequest(12, id, s.epoch, nil), 2*soon); code != codeNone {
				t.Fatal(code)
			}
		}
	}
	for _, s := range all.byID {
		s.used = 2 * soon
	}
	if id := open(new(fetchOwner), 1, 2*soon); id != 0 {
		t.Error("a session goes for one that is not larger")
	}
	if id := open(new(fetchOwner), 2, 2*soon); id == 0 || all.byID[ids[0]] != nil {
		t.Error("the smallest does not go for a larger one")
	}
	if len(all.byID) != maxFetchSessions {
		t.Errorf("%d sessions", len(all.byID))
	}
}

// TestFetchSessionBounds shows what one connection, and all together, may have
// kept.
func TestFetchSessionBounds(t *testing.T) {
	var all fetchSessions
	full := func(o *fetchOwner, partitions int, now int64) int32 {
		f := &fetched{version: 12, topics: []fetchedTopic{{name: "t", partitions: partitions}}}
		for i := range partitions {
			f.partitions = append(f.partitions, asked(int32(i), -1, 0, 1))
		}
		return all.open(o, f, now)
	}
	var one fetchOwner
	var ids []int32
	for i := range maxConnectionFetchSessions + 3 {
		ids = append(ids, full(&one, 1, int64(i)))
	}
	for i, id := range ids {
		if there := all.byID[id] != nil; there != (i >= 3) {
			t.Errorf("session %d of a connection is there: %v", i, there)
		}
	}
	if id := full(&one, maxConnectionFetchPartitions, 100); id == 0 || one != (fetchOwner{1, maxConnectionFetchPartitions}) {
		t.Errorf("session %d, %+v", id, one)
	}
	if id := full(&one, maxConnectionFetchPartitions+1, 100); id != 0 {
		t.Error("more partitions than a connection may have")
	}
	// One that grows beyond what it may is closed; the client begins anew.
	id := full(&one, maxConnectionFetchPartitions, 100)
	more := map[modelPartition]int64{{"u", 0}: 0}
	if _, _, code := all.next(modelRequest(12, id, 1, more), 100); code != codeFetchSessionIDNotFound || one != (fetchOwner{}) || len(all.byID) != 0 {
		t.Errorf("code %d, %+v", code, one)
	}
	// So is one that begins with a name that no topic has.
	long := strings.Repeat("n", maxTopicName+1)
	if id := all.open(&one, listed(modelRequest(12, 0, 0, partitionsNamed(long, 1))), 0); id != 0 {
		t.Error("a long name is kept")
	}
	id = full(&one, 1, 100)
	if _, _, code := all.next(modelRequest(12, id, 1, partitionsNamed(long, 1)), 100); code != codeFetchSessionIDNotFound || len(all.byID) != 0 {
		t.Errorf("code %d", code)
	}
	// All together.
	const many = maxFetchSessionPartitions / maxConnectionFetchPartitions
	var first int32
	for i := range many {
		id := full(new(fetchOwner), 1, int64(i))
		if id == 0 {
			t.Fatalf("session %d is refused", i)
		}
		all.count(all.byID[id], maxConnectionFetchPartitions) // as if it had so many
		if i == 0 {
			first = id
		}
	}
	if id := full(new(fetchOwner), 1, many); id != 0 {
		t.Error("more partitions than all may have")
	}
	// One that grows then is closed, too.
	small := all.byID[first]
	all.count(small, maxConnectionFetchPartitions-1)
	grown := full(new(fetchOwner), 1, many)
	if _, _, code := all.next(modelRequest(12, grown, 1, more), many); code != codeFetchSessionIDNotFound || all.byID[grown] != nil {
		t.Errorf("code %d with %d partitions", code, all.partitions)
	}
	all.count(small, maxConnectionFetchPartitions)
	if id := full(new(fetchOwner), 1, fetchSessionIdle+1); id == 0 || all.byID[first] != nil || len(all.byID) != many {
		t.Error("an idle session does not go")
	}
	if all.partitions != maxFetchSessionPartitions-maxConnectionFetchPartitions+1 {
		t.Errorf("%d partitions", all.partitions)
	}
}

// fetchIn is a request of a session for a topic's partitions.
func fetchIn(id, epoch int32, topic string, topicID [16]byte, offset int64, partitions ...int32) *kmsg.FetchRequest {
	q := fetchRequest(topic, offset, partitions...)
	q.Topics[0].TopicID = topicID
	q.SessionID, q.SessionEpoch = id, epoch
	if len(partitions) == 0 {
		q.Topics = nil
	}
	return q
}

// told is an answer in a few words.
func told(r *kmsg.FetchResponse) string {
	var b strings.Builder
	if r.ErrorCode != 0 {
		fmt.Fprintf(&b, "code %d", r.ErrorCode)
	}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			fmt.Fprintf(&b, "[%d: code %d high %d start %d", p.Partition, p.ErrorCode, p.HighWatermark, p.LogStartOffset)
			for rest := p.RecordBatches; len(rest) > 0; {
				batch, next, err := record.Next(rest)
				if err != nil {
					return err.Error()
				}
				fmt.Fprintf(&b, " %d–%d", batch.BaseOffset(), batch.NextOffset()-1)
				rest = next
			}
			b.WriteString("]")
		}
	}
	return b.String()
}

// TestFetchSessions goes through the life of a session at every version that
// has them: its answers say only what is new, on whatever connection it is used.
func TestFetchSessions(t *testing.T) {
	r := newRig(t)
	for version := int16(7); version <= 17; version++ {
		topic := fmt.Sprintf("t%d", version)
		d := r.create(topic, "partitions=3")
		c, producer := r.dial(), r.dial()
		all := []int32{0, 1, 2}
		answer := func(c *client, q *kmsg.FetchRequest) *kmsg.FetchResponse {
			return ask[*kmsg.FetchResponse](c, q, version)
		}
		expect := func(what string, a *kmsg.FetchResponse, id int32, want string) {
			t.Helper()
			if got := told(a); got != want || a.SessionID != id {
				t.Errorf("version %d, %s: session %d (not %d), %s\nexpected is %s", version, what, a.SessionID, id, got, want)
			}
			for _, tp := range a.Topics {
				if version >= 13 && tp.TopicID != d.ID || version < 13 && tp.Topic != topic {
					t.Errorf("version %d, %s: topic %q %x", version, what, tp.Topic, tp.TopicID)
				}
			}
		}
		want := batch("a", "b")
		producer.produce(topic, 1, want)
		first := answer(c, fetchIn(0, 0, topic, d.ID, 0, all...))
		id := first.SessionID
		if id <= 0 {
			t.Fatalf("version %d: session %d", version, id)
		}
		expect("full", first, id, "[0: code 0 high 0 start 0][1: code 0 high 2 start 0 0–1][2: code 0 high 0 start 0]")
		if got := first.Topics[0].Partitions[1].RecordBatches; string(got[16:]) != string(want[16:]) {
			t.Errorf("version %d: the batch has changed", version)
		}
		expect("consumed", answer(c, fetchIn(id, 1, topic, d.ID, 2, 1)), id, "")
		producer.produce(topic, 2, batch("c"))
		expect("new records", answer(c, fetchIn(id, 2, topic, d.ID, 0)), id, "[2: code 0 high 1 start 0 0–0]")
		expect("not consumed", answer(c, fetchIn(id, 3, topic, d.ID, 0)), id, "[2: code 0 high 1 start 0 0–0]")
		expect("duplicate", answer(c, fetchIn(id, 3, topic, d.ID, 0)), 0, "code 71")

		another := r.dial()
		c.conn.Close()
		q := fetchIn(id, 4, topic, d.ID, 5, 2, 7)
		expect("errors, on another connection", answer(another, q), id, "[2: code 1 high 1 start 0][7: code 3 high -1 start -1]")
		expect("errors again", answer(another, fetchIn(id, 5, topic, d.ID, 0)), id, "[2: code 1 high 1 start 0][7: code 3 high -1 start -1]")
		q = fetchIn(id, 6, topic, d.ID, 1, 2)
		q.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: topic, TopicID: d.ID, Partitions: []int32{0, 7}}}
		expect("forgotten, and well again", answer(another, q), id, "[2: code 0 high 1 start 0]")
		producer.produce(topic, 0, batch("d"))
		expect("what is forgotten", answer(another, fetchIn(id, 7, topic, d.ID, 0)), id, "")

		// What waits is woken by what only the session knows of.
		q = fetchIn(id, 8, topic, d.ID, 0)
		q.MaxWaitMillis = 60_000
		another.send(q, version)
		producer.produce(topic, 1, batch("e"))
		expect("waiting", another.receive(q, another.correlation).(*kmsg.FetchResponse), id, "[1: code 0 high 3 start 0 2–2]")

		expect("closed", answer(another, fetchIn(id, -1, topic, d.ID, 3, 1)), 0, "[1: code 0 high 3 start 0]")
		expect("after that", answer(another, fetchIn(id, 9, topic, d.ID, 0)), 0, "code 70")

		// A full request closes the session that it names.
		id = answer(another, fetchIn(0, 0, topic, d.ID, 3, 1)).SessionID
		second := answer(another, fetchIn(id, 0, topic, d.ID, 3, 1)).SessionID
		expect("the older one", answer(another, fetchIn(id, 1, topic, d.ID, 0)), 0, "code 70")
		q = fetchIn(second, 1, topic, d.ID, 0)
		q.MaxWaitMillis = 60_000 // and yet it is answered at once
		q.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: topic, TopicID: d.ID, Partitions: []int32{1}}}
		expect("the last is forgotten", answer(another, q), 0, "")
		expect("then it is over", answer(another, fetchIn(second, 2, topic, d.ID, 0)), 0, "code 70")
	}
}

// TestFetchSessionsTakeTurns shows that no partition starves behind MaxBytes,
// and that every answer keeps to that or has one batch only.
func TestFetchSessionsTakeTurns(t *testing.T) {
	r := newRig(t)
	r.create("t", "partitions=7")
	c := r.dial()
	offsets := make([]int64, 7)
	var all []int32
	for i := range int32(7) {
		all = append(all, i)
		for range 10 {
			c.produce("t", i, batch(strings.Repeat("v", 5000)))
		}
	}
	q := fetchIn(0, 0, "t", [16]byte{}, 0, all...)
	q.MaxBytes = 1000 // less than one batch
	var id, epoch int32
	for range 70 {
		a := ask[*kmsg.FetchResponse](c, q, 12)
		id, epoch = a.SessionID, epoch+1
		q = fetchIn(id, epoch, "t", [16]byte{}, 0)
		q.MaxBytes = 1000
		batches := 0
		for _, topic := range a.Topics {
			for _, p := range topic.Partitions {
				if len(p.RecordBatches) > 0 {
					batches++
					offsets[p.Partition]++
					q.Topics = fetchIn(0, 0, "t", [16]byte{}, offsets[p.Partition], p.Partition).Topics
				}
			}
		}
		if batches != 1 {
			t.Fatalf("%d batches: %s", batches, told(a))
		}
		if most, least := slices.Max(offsets), slices.Min(offsets); most-least > 1 {
			t.Fatalf("partitions are read up to %v", offsets)
		}
	}
	if a := ask[*kmsg.FetchResponse](c, q, 12); told(a) != "" || slices.Min(offsets) != 10 {
		t.Errorf("at the end %v and %s", offsets, told(a))
	}
}

// TestFetchSessionShared has four connections send the same requests of one
// session at once: each epoch is accepted once.
func TestFetchSessionShared(t *testing.T) {
	r := newRig(t)
	r.create("t", "partitions=4")
	clients := []*client{r.dial(), r.dial(), r.dial(), r.dial()}
	id := ask[*kmsg.FetchResponse](clients[0], fetchIn(0, 0, "t", [16]byte{}, 0, 0, 1, 2, 3), 12).SessionID
	for epoch := int32(1); epoch <= 50; epoch++ {
		var answers sync.WaitGroup
		codes := make([]int16, len(clients))
		for i, c := range clients {
			answers.Go(func() {
				q := fetchIn(id, epoch, "t", [16]byte{}, int64(epoch), int32(i)) // each changes the session
				codes[i] = ask[*kmsg.FetchResponse](c, q, 12).ErrorCode
			})
		}
		answers.Wait()
		slices.Sort(codes)
		if want := []int16{codeNone, codeInvalidFetchSessionEpoch, codeInvalidFetchSessionEpoch, codeInvalidFetchSessionEpoch}; !slices.Equal(codes, want) {
			t.Fatalf("epoch %d: codes %v", epoch, codes)
		}
	}
}

// TestFetchSessionMemory shows what a partition costs that is kept.
func TestFetchSessionMemory(t *testing.T) {
	f := &fetched{version: 12, topics: []fetchedTopic{{name: "t", partitions: maxConnectionFetchPartitions}}}
	for i := range maxConnectionFetchPartitions {
		f.partitions = append(f.partitions, asked(int32(i), -1, 0, 1))
	}
	f.kept = make([]*sessionPartition, 0, len(f.partitions))
	var all fetchSessions
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // pools are empty after the second
	runtime.ReadMemStats(&before)
	id := all.open(new(fetchOwner), f, 0)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / maxConnectionFetchPartitions
	if each > 160 || all.byID[id] == nil {
		t.Errorf("session %d has %d bytes for each", id, each)
	}
	runtime.KeepAlive(f)
}

// TestFetchSessionTimes shows that the server's clock decides who is idle.
func TestFetchSessionTimes(t *testing.T) {
	r := newRig(t)
	r.create("t")
	now := time.UnixMilli(1_000_000)
	s := New(r.broker, Options{Now: func() time.Time { return now }})
	c := &connection{server: s, ctx: t.Context()}
	q := fetchIn(0, 0, "t", [16]byte{}, 0, 0)
	q.Version = 12
	var f fetched
	c.fetch(t.Context(), q, &f)
	if kept := s.fetches.byID[f.session]; kept == nil || kept.used != 1_000_000 {
		t.Fatalf("session %+v", kept)
	}
	now = now.Add(time.Second)
	q = fetchIn(f.session, 1, "t", [16]byte{}, 0)
	q.Version = 12
	var g fetched
	c.fetch(t.Context(), q, &g)
	if kept := s.fetches.byID[f.session]; g.code != codeNone || kept.used != 1_001_000 || kept.opened != 1_000_000 {
		t.Errorf("code %d, session %+v", g.code, kept)
	}
}
