package pitfalls

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	segmentio "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/interop/target"
)

// Test04AutoCreate: Metadata before version 4 cannot say that topics may be made,
// and makes them; so does a newer one that says so, and no other. The answer
// comes when there is a leader, or asking again brings it.
func Test04AutoCreate(t *testing.T) {
	ask := func(t *testing.T, cl *kgo.Client, topic string, allow bool) kmsg.MetadataResponseTopic {
		t.Helper()
		r := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(topic)
		r.Topics, r.AllowAutoTopicCreation = append(r.Topics, rt), allow
		answer := target.Ask[*kmsg.MetadataResponse](t, cl, r)
		if len(answer.Topics) != 1 {
			t.Fatalf("%+v", answer)
		}
		return answer.Topics[0]
	}
	led := func(m kmsg.MetadataResponseTopic) bool {
		return m.ErrorCode == 0 && len(m.Partitions) > 0 && m.Partitions[0].ErrorCode == 0 && m.Partitions[0].Leader >= 0
	}
	for _, version := range []int16{0, 1, 2, 3, 4, 9, 12} {
		t.Run(fmt.Sprintf("kgo-v%d", version), func(t *testing.T) {
			cl, topic := pinned(t, 3, version), target.Name(t)
			target.Eventually(t, "the topic has a leader", func() bool { return led(ask(t, cl, topic, version >= 4)) })
		})
		t.Run(fmt.Sprintf("kgo-v%d-at-once", version), func(t *testing.T) {
			if m := ask(t, pinned(t, 3, version), target.Name(t), version >= 4); !led(m) {
				t.Errorf("%+v", m)
			}
		})
	}
	t.Run("kgo-not-allowed", func(t *testing.T) {
		m := ask(t, target.Client(t), target.Name(t), false)
		code(t, "Metadata", m.ErrorCode, kerr.UnknownTopicOrPartition)
	})
	t.Run("kafka-go", func(t *testing.T) {
		topic := target.Name(t)
		c, err := segmentio.Dial("tcp", target.Bootstrap(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		target.Eventually(t, "the topic has a leader", func() bool {
			p, err := c.ReadPartitions(topic) // Metadata 1
			return err == nil && len(p) > 0 && p[0].Leader.Host != ""
		})
	})
	t.Run("sarama", func(t *testing.T) {
		topic := target.Name(t)
		c := saramaConfig()
		c.Version = sarama.V0_10_2_0 // Metadata 2
		cl := saramaClient(t, c)
		target.Eventually(t, "the topic has a leader", func() bool {
			_, err := cl.Leader(topic, 0)
			return err == nil
		})
	})
	t.Run("librdkafka", func(t *testing.T) {
		topic := target.Name(t)
		if offset, err := deliver(t, librdkafkaProducer(t), topic, "", "hello"); err != nil || offset != 0 {
			t.Errorf("%v, %v", offset, err)
		}
	})
}

// Test09LogDirectories: user interfaces ask for sizes.
func Test09LogDirectories(t *testing.T) {
	t.Run("kadm", func(t *testing.T) {
		topic := target.Topic(t, 1)
		target.Fill(t, topic, target.Numbered(100)...)
		dirs, err := target.Admin(t).DescribeAllLogDirs(target.Context(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, d := range dirs {
			for _, dir := range d {
				if p, ok := dir.Topics.Lookup(topic, 0); ok {
					found = p.Size > 0
				}
			}
		}
		if !found {
			t.Errorf("no size of %s in %+v", topic, dirs)
		}
	})
	t.Run("sarama", func(t *testing.T) {
		topic := target.Topic(t, 1)
		target.Fill(t, topic, target.Numbered(100)...)
		a, err := sarama.NewClusterAdmin([]string{target.Bootstrap(t)}, saramaConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		brokers, _, err := a.DescribeCluster()
		if err != nil {
			t.Fatal(err)
		}
		dirs, err := a.DescribeLogDirs([]int32{brokers[0].ID()})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, d := range dirs[brokers[0].ID()] {
			for _, dt := range d.Topics {
				found = found || dt.Topic == topic && len(dt.Partitions) == 1 && dt.Partitions[0].Size > 0
			}
		}
		if !found {
			t.Errorf("no size of %s in %+v", topic, dirs)
		}
	})
}

// Test09TopicSettings: what a topic cannot have is INVALID_CONFIG.
func Test09TopicSettings(t *testing.T) {
	for what, setting := range map[string][2]string{
		"unknown": {"no.such.setting", "1"},
		"illegal": {"retention.ms", "soon"},
	} {
		t.Run("kadm-"+what, func(t *testing.T) {
			_, err := target.Admin(t).CreateTopic(target.Context(t), 1, 1, map[string]*string{setting[0]: &setting[1]}, target.Name(t))
			if !errors.Is(err, kerr.InvalidConfig) {
				t.Error(err)
			}
		})
		t.Run("librdkafka-"+what, func(t *testing.T) {
			got, err := librdkafkaAdmin(t).CreateTopics(target.Context(t), []kafka.TopicSpecification{{
				Topic: target.Name(t), NumPartitions: 1, ReplicationFactor: 1, Config: map[string]string{setting[0]: setting[1]},
			}})
			if err != nil || len(got) != 1 || got[0].Error.Code() != kafka.ErrInvalidConfig {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// Test09TopicNames: what no topic can be called is INVALID_TOPIC_EXCEPTION.
func Test09TopicNames(t *testing.T) {
	for what, name := range map[string]string{
		"slash": "not/legal", "space": "not legal", "dots": "..", "long": strings.Repeat("x", 250),
	} {
		t.Run("kadm-"+what, func(t *testing.T) {
			_, err := target.Admin(t).CreateTopic(target.Context(t), 1, 1, nil, name)
			if !errors.Is(err, kerr.InvalidTopicException) {
				t.Error(err)
			}
		})
		t.Run("kgo-metadata-"+what, func(t *testing.T) {
			r := kmsg.NewPtrMetadataRequest()
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = kmsg.StringPtr(name)
			r.Topics, r.AllowAutoTopicCreation = append(r.Topics, rt), true
			answer := target.Ask[*kmsg.MetadataResponse](t, target.Client(t), r)
			code(t, "Metadata", answer.Topics[0].ErrorCode, kerr.InvalidTopicException)
		})
		t.Run("librdkafka-"+what, func(t *testing.T) {
			got, err := librdkafkaAdmin(t).CreateTopics(target.Context(t), []kafka.TopicSpecification{{Topic: name, NumPartitions: 1, ReplicationFactor: 1}})
			if err != nil || len(got) != 1 || got[0].Error.Code() != kafka.ErrTopicException {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// Test09BadRecords: a compacted topic takes no record without a key, and says
// which one it is.
func Test09BadRecords(t *testing.T) {
	const compacted = "cleanup.policy=compact"
	t.Run("kgo", func(t *testing.T) {
		topic := target.Topic(t, 1, compacted)
		err := target.Client(t).ProduceSync(target.Context(t), &kgo.Record{Topic: topic, Value: []byte("no key")}).FirstErr()
		if !errors.Is(err, kerr.InvalidRecord) {
			t.Error(err)
		}
		if err := target.Client(t).ProduceSync(target.Context(t), &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
			t.Error(err)
		}
	})
	t.Run("librdkafka", func(t *testing.T) {
		topic := target.Topic(t, 1, compacted)
		p := librdkafkaProducer(t)
		if _, err := deliver(t, p, topic, "", "no key"); librdkafkaCode(err) != kafka.ErrInvalidRecord {
			t.Error(err)
		}
		if offset, err := deliver(t, p, topic, "k", "v"); err != nil || offset != 0 {
			t.Errorf("%v, %v", offset, err)
		}
	})
	// The answer names the record, KIP-467.
	t.Run("sarama", func(t *testing.T) {
		topic := target.Topic(t, 1, compacted)
		r := &sarama.ProduceRequest{Version: 8, RequiredAcks: sarama.WaitForAll, Timeout: 10_000}
		r.AddBatch(topic, 0, batch(-1, -1, -1, "k1=v1", "=v2", "k3=v3"))
		answer, err := saramaBroker(t).Produce(r)
		if err != nil {
			t.Fatal(err)
		}
		b := answer.GetBlock(topic, 0)
		if b == nil || !errors.Is(b.Err, sarama.ErrInvalidRecord) || len(b.RecordErrors) != 1 || b.RecordErrors[0].BatchIndex != 1 {
			t.Errorf("%+v", b)
		}
	})
}

// Test09NoFetchSession: clients that fetch without a session are served.
func Test09NoFetchSession(t *testing.T) {
	t.Run("kgo", func(t *testing.T) {
		topic := target.Topic(t, 1)
		target.Fill(t, topic, target.Numbered(100)...)
		target.Read(t, topic, 100, kgo.DisableFetchSessions())
	})
	t.Run("sarama", func(t *testing.T) {
		topic := target.Topic(t, 1)
		target.Fill(t, topic, target.Numbered(100)...)
		consumer, err := sarama.NewConsumerFromClient(saramaClient(t, saramaConfig()))
		if err != nil {
			t.Fatal(err)
		}
		p, err := consumer.ConsumePartition(topic, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		late := time.After(target.Patience)
		for i := range 100 {
			select {
			case m := <-p.Messages():
				if m.Offset != int64(i) {
					t.Fatalf("offset %d, want %d", m.Offset, i)
				}
			case <-late:
				t.Fatalf("%d of 100 messages came", i)
			}
		}
	})
	// An unknown session is refused by name, so that the client begins a new one.
	t.Run("kgo-unknown-session", func(t *testing.T) {
		topic := target.Topic(t, 1)
		cl := target.Client(t)
		r := fetchRequest(topic, topicID(t, cl, topic), 0)
		r.SessionID, r.SessionEpoch = 0x7eadbeef, 7
		answer := target.Ask[*kmsg.FetchResponse](t, cl, r)
		code(t, "Fetch", answer.ErrorCode, kerr.FetchSessionIDNotFound)
	})
}
