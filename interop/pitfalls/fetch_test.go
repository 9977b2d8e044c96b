package pitfalls

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/interop/target"
)

// fetchRequest asks for partition 0 from an offset on.
func fetchRequest(topic string, id [16]byte, offset int64) *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.SessionEpoch = 500, 1, 1<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = offset, 1<<20
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.TopicID, ft.Partitions = topic, id, append(ft.Partitions, p)
	r.Topics = append(r.Topics, ft)
	return r
}

// within says that something took about as long as it should: not at once, and
// not for ever.
func within(t *testing.T, what string, took, least, most time.Duration) {
	t.Helper()
	if took < least || took > most {
		t.Errorf("%s took %s, want between %s and %s", what, took, least, most)
	}
}

// Test05MaxWait: a fetch that finds less than MinBytes waits for more until
// MaxWait is over, neither less nor much more.
func Test05MaxWait(t *testing.T) {
	t.Run("kgo", func(t *testing.T) {
		topic := target.Topic(t, 1)
		cl := target.Client(t)
		id := topicID(t, cl, topic)
		fetch := func(minBytes int32) (int, time.Duration) {
			r := fetchRequest(topic, id, 0)
			r.MinBytes = minBytes
			begin := time.Now()
			answer := target.Ask[*kmsg.FetchResponse](t, cl, r)
			took := time.Since(begin)
			if len(answer.Topics) == 0 { // nothing to tell, KIP-227
				return 0, took
			}
			p := answer.Topics[0].Partitions[0]
			code(t, "Fetch", p.ErrorCode, nil)
			return len(p.RecordBatches), took
		}
		n, took := fetch(1)
		within(t, "a fetch of nothing", took, 450*time.Millisecond, 3*time.Second)
		if n != 0 {
			t.Errorf("%d bytes of an empty topic", n)
		}
		if _, took = fetch(0); took > 400*time.Millisecond {
			t.Errorf("a fetch that wants nothing waited %s", took)
		}
		target.Fill(t, topic, "hello")
		if n, took = fetch(1); n == 0 || took > 400*time.Millisecond {
			t.Errorf("%d bytes after %s of what is there", n, took)
		}
		n, took = fetch(1 << 19)
		within(t, "a fetch of more than there is", took, 450*time.Millisecond, 3*time.Second)
		if n == 0 {
			t.Error("what there is does not come in the end")
		}
	})
	t.Run("kgo-wakes", func(t *testing.T) {
		topic := target.Topic(t, 1)
		cl := target.Client(t)
		r := fetchRequest(topic, topicID(t, cl, topic), 0)
		r.MaxWaitMillis = 15_000
		answers := make(chan *kmsg.FetchResponse, 1)
		go func() { answers <- target.Ask[*kmsg.FetchResponse](t, cl, r) }()
		time.Sleep(300 * time.Millisecond) // the fetch waits by then
		produced := time.Now()
		target.Fill(t, topic, "hello")
		answer := <-answers
		within(t, "waking a fetch", time.Since(produced), 0, 5*time.Second)
		if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions[0].RecordBatches) == 0 {
			t.Errorf("%+v", answer)
		}
	})
	t.Run("sarama", func(t *testing.T) {
		topic := target.Topic(t, 1)
		b := saramaBroker(t)
		fetch := func(minBytes int32) time.Duration {
			r := &sarama.FetchRequest{Version: 11, MaxWaitTime: 500, MinBytes: minBytes, MaxBytes: 1 << 20, SessionEpoch: -1}
			r.AddBlock(topic, 0, 0, 1<<20, -1)
			begin := time.Now()
			if _, err := b.Fetch(r); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		within(t, "a fetch of nothing", fetch(1), 450*time.Millisecond, 3*time.Second)
		target.Fill(t, topic, "hello")
		within(t, "a fetch of what is there", fetch(1), 0, 400*time.Millisecond)
		within(t, "a fetch of more than there is", fetch(1<<19), 450*time.Millisecond, 3*time.Second)
	})
	// A consumer that waits at the end asks about twice a second, not a thousand times.
	t.Run("librdkafka-is-not-busy", func(t *testing.T) {
		topic := target.Topic(t, 1)
		c := librdkafkaConsumer(t, "fetch.wait.max.ms", "500", "statistics.interval.ms", "500")
		if err := c.Assign(partition(topic, 0)); err != nil {
			t.Fatal(err)
		}
		var first, last fetches
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
			if s, ok := c.Poll(100).(*kafka.Stats); ok {
				last = fetchesOf(t, s.String())
				if first.at == 0 {
					first = last
				}
			}
		}
		n, seconds := last.n-first.n, float64(last.at-first.at)/1e6
		if seconds < 1.5 || float64(n) > 6*seconds || n == 0 {
			t.Errorf("%d fetches in %.1f s", n, seconds)
		}
	})
}

type fetches struct{ n, at int64 }

func fetchesOf(t *testing.T, text string) (f fetches) {
	var s struct {
		TS      int64
		Brokers map[string]struct{ Req map[string]int64 }
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	f.at = s.TS
	for _, b := range s.Brokers {
		f.n += b.Req["Fetch"]
	}
	return f
}

// Test07Offsets: offsets are dense and every one can be sought, and who has read
// to the end has no lag, markers of transactions or not.
func Test07Offsets(t *testing.T) {
	t.Run("kgo", func(t *testing.T) {
		topic := target.Topic(t, 1)
		for range 10 { // batches of ten
			target.Fill(t, topic, target.Numbered(10)...)
		}
		for i, r := range target.Read(t, topic, 100) {
			if r.Offset != int64(i) {
				t.Fatalf("offset %d, want %d", r.Offset, i)
			}
		}
		for _, offset := range []int64{0, 1, 9, 10, 15, 99} {
			at := kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(offset)}})
			cl := target.Client(t, at)
			r := cl.PollFetches(target.Context(t)).Records()
			if len(r) == 0 || r[0].Offset != offset || string(r[0].Value) != target.Numbered(10)[offset%10] {
				t.Errorf("from %d on: %+v", offset, r)
			}
		}
	})
	t.Run("librdkafka", func(t *testing.T) {
		topic := target.Topic(t, 1)
		for range 10 {
			target.Fill(t, topic, target.Numbered(10)...)
		}
		c := librdkafkaConsumer(t)
		for _, offset := range []int64{0, 1, 9, 10, 15, 99} {
			if err := c.Assign(partition(topic, kafka.Offset(offset))); err != nil {
				t.Fatal(err)
			}
			if m := take(t, c, 1)[0]; int64(m.TopicPartition.Offset) != offset || string(m.Value) != target.Numbered(10)[offset%10] {
				t.Errorf("from %d on: %v", offset, m)
			}
		}
	})
	transactions := func(t *testing.T) string {
		topic := target.Topic(t, 1)
		for i := range 3 {
			transaction(t, topic, i != 1, fmt.Sprint(i))
		}
		return topic
	}
	t.Run("kgo-no-lag-behind-markers", func(t *testing.T) {
		topic, group := transactions(t), target.Name(t)
		cl := target.Client(t, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
		ctx := target.Context(t)
		for end := int64(0); end < 6; {
			f := cl.PollFetches(ctx)
			if f.Err() != nil {
				t.Fatal(f.Err())
			}
			for _, r := range f.Records() {
				end = r.Offset + 1
			}
		}
		if err := cl.CommitUncommittedOffsets(ctx); err != nil {
			t.Fatal(err)
		}
		if l := lag(t, group, topic); l != 0 {
			t.Errorf("lag %d", l)
		}
	})
	t.Run("librdkafka-no-lag-behind-markers", func(t *testing.T) {
		topic := transactions(t)
		c := librdkafkaConsumer(t, "isolation.level", "read_committed")
		if err := c.Assign(partition(topic, kafka.OffsetBeginning)); err != nil {
			t.Fatal(err)
		}
		take(t, c, 2)
		target.Eventually(t, "the consumer stands at the end", func() bool {
			c.Poll(50)
			_, high, err := c.QueryWatermarkOffsets(topic, 0, int(target.Patience.Milliseconds()))
			if err != nil {
				t.Fatal(err)
			}
			at, err := c.Position(partition(topic, 0))
			return err == nil && int64(at[0].Offset) >= high-1 // a marker at the end is passed with what follows it
		})
	})
}
