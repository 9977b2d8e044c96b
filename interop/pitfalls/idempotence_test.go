package pitfalls

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/interop/target"
)

// batch is one of sarama's; records are key=value, a key of nothing is none.
func batch(producer int64, epoch int16, sequence int32, records ...string) *sarama.RecordBatch {
	b := &sarama.RecordBatch{
		Version: 2, FirstTimestamp: time.Now(), MaxTimestamp: time.Now(),
		ProducerID: producer, ProducerEpoch: epoch, FirstSequence: sequence, LastOffsetDelta: int32(len(records) - 1),
	}
	for i, r := range records {
		key, value, _ := strings.Cut(r, "=")
		record := &sarama.Record{OffsetDelta: int64(i), Value: []byte(value)}
		if key != "" {
			record.Key = []byte(key)
		}
		b.Records = append(b.Records, record)
	}
	return b
}

// Test10Idempotence: a batch that comes again is answered with the offset that it
// got the first time, and one that leaves a gap is refused.
func Test10Idempotence(t *testing.T) {
	// In sequence: what is sent, and what must be answered.
	type step struct {
		sequence int32
		records  int
		refused  bool
		offset   int64
	}
	steps := []step{
		{sequence: 0, records: 3, offset: 0},
		{sequence: 3, records: 2, offset: 3},
		{sequence: 0, records: 3, offset: 0}, // again
		{sequence: 3, records: 2, offset: 3}, // again
		{sequence: 7, records: 1, refused: true},
		{sequence: 5, records: 1, offset: 5},
		{sequence: 6, records: 1, offset: 6},
		{sequence: 7, records: 1, offset: 7},
		{sequence: 3, records: 2, offset: 3}, // the oldest of the last five
	}
	t.Run("sarama", func(t *testing.T) {
		topic, b := target.Topic(t, 1), saramaBroker(t)
		id, err := b.InitProducerID(&sarama.InitProducerIDRequest{Version: 1})
		if err != nil || id.Err != sarama.ErrNoError {
			t.Fatal(err, id)
		}
		for i, s := range steps {
			var records []string
			for n := range s.records {
				records = append(records, fmt.Sprintf("k=%d", int(s.sequence)+n))
			}
			r := &sarama.ProduceRequest{Version: 7, RequiredAcks: sarama.WaitForAll, Timeout: 10_000}
			r.AddBatch(topic, 0, batch(id.ProducerID, id.ProducerEpoch, s.sequence, records...))
			answer, err := b.Produce(r)
			if err != nil {
				t.Fatal(err)
			}
			got := answer.GetBlock(topic, 0)
			switch {
			case s.refused:
				if !errors.Is(got.Err, sarama.ErrOutOfOrderSequenceNumber) {
					t.Errorf("step %d: %+v", i, got)
				}
			case got.Err != sarama.ErrNoError || got.Offset != s.offset:
				t.Errorf("step %d: %+v, want offset %d", i, got, s.offset)
			}
		}
		if n := len(target.Read(t, topic, 8)); n != 8 {
			t.Errorf("%d records", n)
		}
	})
	t.Run("kgo", func(t *testing.T) {
		topic, cl := target.Topic(t, 1), target.Client(t)
		tid := topicID(t, cl, topic)
		id := target.Ask[*kmsg.InitProducerIDResponse](t, cl, kmsg.NewPtrInitProducerIDRequest())
		code(t, "InitProducerID", id.ErrorCode, nil)
		for i, s := range steps {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Records = encoded(id.ProducerID, id.ProducerEpoch, s.sequence, s.records)
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic, rt.TopicID, rt.Partitions = topic, tid, append(rt.Partitions, p)
			r := kmsg.NewPtrProduceRequest()
			r.Acks, r.TimeoutMillis, r.Topics = -1, 10_000, append(r.Topics, rt)
			got := target.Ask[*kmsg.ProduceResponse](t, cl, r).Topics[0].Partitions[0]
			if s.refused {
				code(t, fmt.Sprintf("step %d", i), got.ErrorCode, kerr.OutOfOrderSequenceNumber)
				continue
			}
			code(t, fmt.Sprintf("step %d", i), got.ErrorCode, nil)
			if got.BaseOffset != s.offset {
				t.Errorf("step %d: offset %d, want %d", i, got.BaseOffset, s.offset)
			}
		}
		if n := len(target.Read(t, topic, 8)); n != 8 {
			t.Errorf("%d records", n)
		}
	})
	// Clients that count for themselves, through a change of connection.
	t.Run("kgo-itself", func(t *testing.T) {
		topic, cl := target.Topic(t, 1), target.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for _, v := range target.Numbered(50) {
			if err := cl.ProduceSync(target.Context(t), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		target.Read(t, topic, 50)
	})
	t.Run("librdkafka-itself", func(t *testing.T) {
		topic, p := target.Topic(t, 1), librdkafkaProducer(t, "enable.idempotence", "true")
		for i, v := range target.Numbered(50) {
			if offset, err := deliver(t, p, topic, "", v); err != nil || int(offset) != i {
				t.Fatal(offset, err)
			}
		}
		target.Read(t, topic, 50)
	})
}

// encoded is a batch as kgo's messages describe it.
func encoded(producer int64, epoch int16, sequence int32, n int) []byte {
	var records []byte
	for i := range n {
		r := kmsg.NewRecord()
		r.OffsetDelta, r.Key, r.Value = int32(i), []byte("k"), []byte(fmt.Sprint(int(sequence)+i))
		r.Length = int32(len(r.AppendTo(nil))) - 1 // less the length, which is one byte while it is 0
		records = r.AppendTo(records)
	}
	b := kmsg.NewRecordBatch()
	now := time.Now().UnixMilli()
	b.PartitionLeaderEpoch, b.Magic, b.LastOffsetDelta = -1, 2, int32(n-1)
	b.FirstTimestamp, b.MaxTimestamp = now, now
	b.ProducerID, b.ProducerEpoch, b.FirstSequence, b.NumRecords = producer, epoch, sequence, int32(n)
	b.Records = records
	text := b.AppendTo(nil)
	b.Length = int32(len(text)) - 12
	text = b.AppendTo(nil)
	copy(text[17:], kbin.AppendUint32(nil, castagnoli(text[21:])))
	return text
}
