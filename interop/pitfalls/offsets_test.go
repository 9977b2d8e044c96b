package pitfalls

import (
	"fmt"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	segmentio "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/interop/target"
)

const epoch = 1_700_000_000_000

// timed makes a topic of ten records, in batches of five, a second apart.
func timed(t *testing.T) string {
	t.Helper()
	topic := target.Topic(t, 1)
	cl := target.Client(t)
	for half := range 2 {
		var records []*kgo.Record
		for i := range 5 {
			n := half*5 + i
			records = append(records, &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(n)), Timestamp: time.UnixMilli(epoch + int64(n)*1000)})
		}
		if err := cl.ProduceSync(target.Context(t), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return topic
}

// what a time is answered with: an offset and its time.
var times = []struct{ asked, offset, found int64 }{
	{0, 0, epoch},
	{epoch, 0, epoch},
	{epoch + 1, 1, epoch + 1000},
	{epoch + 4000, 4, epoch + 4000},
	{epoch + 4001, 5, epoch + 5000},
	{epoch + 9000, 9, epoch + 9000},
	{epoch + 9001, -1, -1},
}

// Test06OffsetsByTime: the first offset at or after a time, with that record's
// own time, and nothing that is not committed yet.
func Test06OffsetsByTime(t *testing.T) {
	list := func(t *testing.T, topic string, at int64, isolation int8) kmsg.ListOffsetsResponseTopicPartition {
		t.Helper()
		r := kmsg.NewPtrListOffsetsRequest()
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp = at
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic, rt.Partitions = topic, append(rt.Partitions, p)
		r.ReplicaID, r.IsolationLevel, r.Topics = -1, isolation, append(r.Topics, rt)
		answer := target.Ask[*kmsg.ListOffsetsResponse](t, target.Client(t), r).Topics[0].Partitions[0]
		code(t, fmt.Sprintf("ListOffsets at %d", at), answer.ErrorCode, nil)
		return answer
	}
	t.Run("kgo", func(t *testing.T) {
		topic := timed(t)
		for _, c := range times {
			if p := list(t, topic, c.asked, 0); p.Offset != c.offset || p.Timestamp != c.found {
				t.Errorf("at %d: offset %d of %d, want %d of %d", c.asked, p.Offset, p.Timestamp, c.offset, c.found)
			}
		}
		if p := list(t, topic, -3, 0); p.Offset != 9 || p.Timestamp != epoch+9000 {
			t.Errorf("the latest time: offset %d of %d", p.Offset, p.Timestamp) // KIP-734
		}
	})
	t.Run("librdkafka", func(t *testing.T) {
		topic := timed(t)
		c := librdkafkaConsumer(t)
		for _, want := range times {
			got, err := c.OffsetsForTimes(partition(topic, kafka.Offset(want.asked)), int(target.Patience.Milliseconds()))
			if err != nil || got[0].Error != nil {
				t.Fatal(err, got)
			}
			expected := kafka.Offset(want.offset)
			if want.offset < 0 {
				expected = kafka.OffsetEnd
			}
			if got[0].Offset != expected {
				t.Errorf("at %d: %v, want %v", want.asked, got[0].Offset, expected)
			}
		}
	})
	t.Run("kafka-go", func(t *testing.T) {
		topic := timed(t)
		for _, want := range times {
			answer, err := segmentioClient(t).ListOffsets(target.Context(t), &segmentio.ListOffsetsRequest{
				Topics: map[string][]segmentio.OffsetRequest{topic: {{Partition: 0, Timestamp: want.asked}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			p := answer.Topics[topic][0]
			// kafka-go gives the time that was asked for, not the one that came.
			if _, ok := p.Offsets[want.offset]; p.Error != nil || !ok {
				t.Errorf("at %d: %+v, want %d", want.asked, p, want.offset)
			}
		}
	})
	t.Run("kgo-uncommitted", func(t *testing.T) {
		topic := target.Topic(t, 1)
		target.Fill(t, topic, "before")
		end := open(t, topic, "open")
		const committed = 1
		if p := list(t, topic, -1, committed); p.Offset != 1 {
			t.Errorf("last stable offset %d", p.Offset)
		}
		if p := list(t, topic, -1, 0); p.Offset != 2 {
			t.Errorf("end %d", p.Offset)
		}
		if p := list(t, topic, time.Now().Add(-time.Hour).UnixMilli(), committed); p.Offset != 0 {
			t.Errorf("an hour ago: %d", p.Offset)
		}
		end(true)
		target.Eventually(t, "the transaction has ended", func() bool { return list(t, topic, -1, committed).Offset == 3 })
	})
	t.Run("librdkafka-uncommitted", func(t *testing.T) {
		topic := target.Topic(t, 1)
		target.Fill(t, topic, "before")
		c := librdkafkaConsumer(t, "isolation.level", "read_committed")
		stable := func() int64 {
			_, high, err := c.QueryWatermarkOffsets(topic, 0, int(target.Patience.Milliseconds()))
			if err != nil {
				t.Fatal(err)
			}
			return high
		}
		end := open(t, topic, "open")
		if high := stable(); high != 1 {
			t.Errorf("last stable offset %d", high)
		}
		end(false)
		target.Eventually(t, "the transaction has ended", func() bool { return stable() == 3 })
	})
}
