// Package pitfalls has the ten behaviours of a broker that break clients when
// they are wrong, each seen by two clients or more that know nothing of each
// other: franz-go, sarama, kafka-go, and librdkafka.
package pitfalls

import (
	"context"
	"errors"
	"hash/crc32"
	"slices"
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

// pinned is a kgo client that sends a request in one version.
func pinned(t *testing.T, key, version int16) *kgo.Client {
	t.Helper()
	return target.Client(t, kgo.MaxVersions(onlyUpTo(key, version)), kgo.DisableClientMetrics())
}

// saramaConfig has sarama do what it can do newest, and let the tests see errors.
func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	return c
}

func saramaClient(t *testing.T, c *sarama.Config) sarama.Client {
	t.Helper()
	cl, err := sarama.NewClient([]string{target.Bootstrap(t)}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

// saramaBroker is a connection to the broker.
func saramaBroker(t *testing.T) *sarama.Broker {
	t.Helper()
	b := sarama.NewBroker(target.Bootstrap(t))
	if err := b.Open(saramaConfig()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Connected(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func segmentioClient(t *testing.T) *segmentio.Client {
	transport := &segmentio.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &segmentio.Client{Addr: segmentio.TCP(target.Bootstrap(t)), Timeout: target.Patience, Transport: transport}
}

// librdkafka is a configuration; pairs are names and values.
func librdkafka(t *testing.T, pairs ...string) *kafka.ConfigMap {
	c := &kafka.ConfigMap{"bootstrap.servers": target.Bootstrap(t), "log_level": 0}
	for pair := range slices.Chunk(pairs, 2) {
		if err := c.SetKey(pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func librdkafkaConsumer(t *testing.T, pairs ...string) *kafka.Consumer {
	t.Helper()
	c, err := kafka.NewConsumer(librdkafka(t, append([]string{"group.id", target.Name(t)}, pairs...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func librdkafkaProducer(t *testing.T, pairs ...string) *kafka.Producer {
	t.Helper()
	p, err := kafka.NewProducer(librdkafka(t, pairs...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func librdkafkaAdmin(t *testing.T) *kafka.AdminClient {
	t.Helper()
	a, err := kafka.NewAdminClient(librdkafka(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// deliver produces one message and waits for its report.
func deliver(t *testing.T, p *kafka.Producer, topic, key, value string) (kafka.Offset, error) {
	t.Helper()
	m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: 0}, Value: []byte(value)}
	if key != "" {
		m.Key = []byte(key)
	}
	reports := make(chan kafka.Event, 1)
	if err := p.Produce(m, reports); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-reports:
		report := e.(*kafka.Message)
		return report.TopicPartition.Offset, report.TopicPartition.Error
	case <-time.After(target.Patience):
		t.Fatal("no delivery report")
		return 0, nil
	}
}

func partition(topic string, offset kafka.Offset) []kafka.TopicPartition {
	return []kafka.TopicPartition{{Topic: &topic, Partition: 0, Offset: offset}}
}

// take reads n messages of partition 0 with librdkafka.
func take(t *testing.T, c *kafka.Consumer, n int) []*kafka.Message {
	t.Helper()
	var got []*kafka.Message
	for end := time.Now().Add(target.Patience); len(got) < n; {
		m, err := c.ReadMessage(time.Until(end))
		if err != nil {
			t.Fatalf("%d of %d messages came: %v", len(got), n, err)
		}
		got = append(got, m)
	}
	return got
}

func librdkafkaCode(err error) kafka.ErrorCode {
	var e kafka.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return kafka.ErrNoError
}

func code(t *testing.T, what string, got int16, want *kerr.Error) {
	t.Helper()
	var expected int16
	if want != nil {
		expected = want.Code
	}
	if got != expected {
		t.Errorf("%s: error %v, want %v", what, kerr.ErrorForCode(got), want)
	}
}

// background is for calls that have time limits of their own.
var background = context.Background()

// topicID asks for a topic's id, which newer requests name it by.
func topicID(t *testing.T, cl *kgo.Client, topic string) [16]byte {
	t.Helper()
	r := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	r.Topics = append(r.Topics, rt)
	answer := target.Ask[*kmsg.MetadataResponse](t, cl, r)
	return answer.Topics[0].TopicID
}

// castagnoli is the checksum of record batches.
func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
