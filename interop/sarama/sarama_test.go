// Package sarama has programs with IBM's sarama.
package sarama

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/polylog-mq/polylog/interop/target"
)

func config(change ...func(*sarama.Config)) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.MaxWaitTime = 200 * time.Millisecond
	for _, f := range change {
		f(c)
	}
	return c
}

func client(t *testing.T, c *sarama.Config) sarama.Client {
	t.Helper()
	cl, err := sarama.NewClient([]string{target.Bootstrap(t)}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

func producer(t *testing.T, c *sarama.Config) sarama.SyncProducer {
	t.Helper()
	p, err := sarama.NewSyncProducer([]string{target.Bootstrap(t)}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func admin(t *testing.T) sarama.ClusterAdmin {
	t.Helper()
	a, err := sarama.NewClusterAdmin([]string{target.Bootstrap(t)}, config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func messages(topic string, partition int32, values ...string) []*sarama.ProducerMessage {
	var m []*sarama.ProducerMessage
	for _, v := range values {
		m = append(m, &sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.StringEncoder(v)})
	}
	return m
}

// read gives n messages of partition 0 from an offset on.
func read(t *testing.T, c *sarama.Config, topic string, from int64, n int) []*sarama.ConsumerMessage {
	t.Helper()
	consumer, err := sarama.NewConsumerFromClient(client(t, c))
	if err != nil {
		t.Fatal(err)
	}
	p, err := consumer.ConsumePartition(topic, 0, from)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var got []*sarama.ConsumerMessage
	late := time.After(target.Patience)
	for len(got) < n {
		select {
		case m := <-p.Messages():
			got = append(got, m)
		case <-late:
			t.Fatalf("%d of %d messages came", len(got), n)
		}
	}
	return got
}

func values(got []*sarama.ConsumerMessage) []string {
	var v []string
	for _, m := range got {
		v = append(v, string(m.Value))
	}
	return v
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %d: %.200v\nwant %d: %.200v", len(got), got, len(want), want)
	}
}

func TestCodecs(t *testing.T) {
	for _, codec := range []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy,
		sarama.CompressionLZ4, sarama.CompressionZSTD,
	} {
		t.Run(codec.String(), func(t *testing.T) {
			topic := target.Topic(t, 1)
			c := config(func(c *sarama.Config) { c.Producer.Compression = codec })
			if err := producer(t, c).SendMessages(messages(topic, 0, target.Numbered(2000)...)); err != nil {
				t.Fatal(err)
			}
			same(t, values(read(t, c, topic, sarama.OffsetOldest, 2000)), target.Numbered(2000))
		})
	}
}

// TestVersions plays clients of many ages, which is sarama's way to choose the
// versions of its requests.
func TestVersions(t *testing.T) {
	for _, v := range []sarama.KafkaVersion{
		sarama.V0_11_0_0, sarama.V1_0_0_0, sarama.V2_0_0_0, sarama.V2_4_0_0, sarama.V2_8_0_0,
		sarama.V3_0_0_0, sarama.V3_6_0_0, sarama.V4_0_0_0, sarama.MaxVersion,
	} {
		t.Run(v.String(), func(t *testing.T) {
			topic := target.Topic(t, 1)
			c := config(func(c *sarama.Config) { c.Version = v })
			if err := producer(t, c).SendMessages(messages(topic, 0, "one", "two")); err != nil {
				t.Fatal(err)
			}
			same(t, values(read(t, c, topic, 0, 2)), []string{"one", "two"})
			same(t, consume(t, c, topic, target.Name(t), 2), []string{"one", "two"})
		})
	}
}

func TestAsyncProducer(t *testing.T) {
	topic := target.Topic(t, 1)
	c := config(func(c *sarama.Config) { c.Producer.Flush.Frequency = 5 * time.Millisecond })
	p, err := sarama.NewAsyncProducer([]string{target.Bootstrap(t)}, c)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for _, m := range messages(topic, 0, target.Numbered(5000)...) {
			p.Input() <- m
		}
		p.AsyncClose()
	}()
	var offset int64
	for m := range p.Successes() {
		if m.Offset != offset {
			t.Fatalf("offset %d, want %d", m.Offset, offset)
		}
		offset++
	}
	for err := range p.Errors() {
		t.Error(err)
	}
	same(t, values(read(t, c, topic, 0, 5000)), target.Numbered(5000))
}

func TestKeyHeadersTimestamp(t *testing.T) {
	topic := target.Topic(t, 1)
	at := time.UnixMilli(1_700_000_000_000)
	m := &sarama.ProducerMessage{
		Topic: topic, Key: sarama.StringEncoder("k"), Value: sarama.StringEncoder("v"), Timestamp: at,
		Headers: []sarama.RecordHeader{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("a"), Value: nil}},
	}
	p := producer(t, config())
	if _, _, err := p.SendMessage(m); err != nil {
		t.Fatal(err)
	}
	if _, offset, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("k")}); err != nil || offset != 1 {
		t.Fatal(offset, err)
	}
	got := read(t, config(), topic, 0, 2)
	if r := got[0]; string(r.Key) != "k" || string(r.Value) != "v" || !r.Timestamp.Equal(at) || len(r.Headers) != 2 ||
		string(r.Headers[0].Value) != "1" || r.Headers[1].Value != nil {
		t.Errorf("%+v", r)
	}
	if got[1].Value != nil {
		t.Errorf("tombstone has value %q", got[1].Value)
	}
}

func TestIdempotent(t *testing.T) {
	topic := target.Topic(t, 1)
	c := config(func(c *sarama.Config) { c.Producer.Idempotent, c.Net.MaxOpenRequests = true, 1 })
	p := producer(t, c)
	for _, v := range target.Numbered(100) {
		if _, _, err := p.SendMessage(messages(topic, 0, v)[0]); err != nil {
			t.Fatal(err)
		}
	}
	same(t, values(read(t, c, topic, 0, 100)), target.Numbered(100))
}

func transactional(id string) *sarama.Config {
	return config(func(c *sarama.Config) {
		c.Producer.Idempotent, c.Net.MaxOpenRequests = true, 1
		c.Producer.Transaction.ID = id
		c.Consumer.IsolationLevel = sarama.ReadCommitted
	})
}

func TestTransactions(t *testing.T) {
	topic := target.Topic(t, 1)
	c := transactional(target.Name(t))
	p := producer(t, c)
	for i, commit := range []bool{true, false, true} {
		if err := p.BeginTxn(); err != nil {
			t.Fatal(err)
		}
		if err := p.SendMessages(messages(topic, 0, fmt.Sprintf("%d-a", i), fmt.Sprintf("%d-b", i))); err != nil {
			t.Fatal(err)
		}
		end := p.CommitTxn
		if !commit {
			end = p.AbortTxn
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	same(t, values(read(t, c, topic, 0, 4)), []string{"0-a", "0-b", "2-a", "2-b"})
	same(t, values(read(t, config(), topic, 0, 6)), []string{"0-a", "0-b", "1-a", "1-b", "2-a", "2-b"})
}

func TestTransactionalOffsets(t *testing.T) {
	topic, group := target.Topic(t, 1), target.Name(t)
	p := producer(t, transactional(target.Name(t)))
	for i, commit := range []bool{true, false} {
		if err := p.BeginTxn(); err != nil {
			t.Fatal(err)
		}
		note := "note"
		offsets := map[string][]*sarama.PartitionOffsetMetadata{topic: {{Partition: 0, Offset: int64(40 + i), Metadata: &note}}}
		if err := p.AddOffsetsToTxn(offsets, group); err != nil {
			t.Fatal(err)
		}
		end := p.CommitTxn
		if !commit {
			end = p.AbortTxn
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	a := admin(t)
	// The transaction's end is confirmed before it has reached the group.
	target.Eventually(t, "the offset is committed", func() bool {
		answer, err := a.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
		if err != nil {
			t.Fatal(err)
		}
		b := answer.GetBlock(topic, 0)
		return b != nil && b.Offset == 40 && b.Metadata == "note"
	})
}

// handler marks what it gets and ends the session after n.
type handler struct {
	mu   sync.Mutex
	got  []string
	n    int
	done context.CancelFunc
}

func (h *handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *handler) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for m := range c.Messages() {
		h.mu.Lock()
		h.got = append(h.got, string(m.Value))
		last := len(h.got) == h.n
		h.mu.Unlock()
		s.MarkMessage(m, "")
		if last {
			s.Commit()
			h.done()
		}
	}
	return nil
}

// consume runs a member of a group until it has n messages, and leaves.
func consume(t *testing.T, c *sarama.Config, topic, group string, n int) []string {
	t.Helper()
	g, err := sarama.NewConsumerGroup([]string{target.Bootstrap(t)}, group, c)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithTimeout(context.Background(), target.Patience)
	defer cancel()
	h := &handler{n: n, done: cancel}
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{topic}, h); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if len(h.got) < n {
		t.Fatalf("%d of %d messages came", len(h.got), n)
	}
	return h.got
}

func TestGroup(t *testing.T) {
	for _, s := range []sarama.BalanceStrategy{
		sarama.NewBalanceStrategyRange(), sarama.NewBalanceStrategyRoundRobin(), sarama.NewBalanceStrategySticky(),
	} {
		t.Run(s.Name(), func(t *testing.T) {
			topic, group := target.Topic(t, 2), target.Name(t)
			c := config(func(c *sarama.Config) { c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{s} })
			p := producer(t, c)
			all := target.Numbered(100)
			send := func(v []string) {
				for i, m := range messages(topic, 0, v...) {
					m.Partition = int32(i % 2)
					if _, _, err := p.SendMessage(m); err != nil {
						t.Fatal(err)
					}
				}
			}
			send(all[:60])
			got := consume(t, c, topic, group, 60)
			send(all[60:])
			got = append(got, consume(t, c, topic, group, 40)...)
			slices.Sort(got)
			same(t, got, all)
		})
	}
}

// TestStaticMember comes back under its instance id within its session and keeps
// its place.
func TestStaticMember(t *testing.T) {
	topic, group := target.Topic(t, 1), target.Name(t)
	c := config(func(c *sarama.Config) { c.Consumer.Group.InstanceId = "one" })
	p := producer(t, c)
	for _, v := range []string{"a", "b"} {
		if _, _, err := p.SendMessage(messages(topic, 0, v)[0]); err != nil {
			t.Fatal(err)
		}
		same(t, consume(t, c, topic, group, 1), []string{v})
	}
	g, err := admin(t).DescribeConsumerGroups([]string{group})
	if err != nil {
		t.Fatal(err)
	}
	if len(g[0].Members) != 1 {
		t.Errorf("%d members: a static member stays until its session ends", len(g[0].Members))
	}
}

func TestOffsets(t *testing.T) {
	topic := target.Topic(t, 1)
	p := producer(t, config())
	for i := range 10 {
		m := messages(topic, 0, fmt.Sprint(i))[0]
		m.Timestamp = time.UnixMilli(1_700_000_000_000 + int64(i)*1000)
		if _, _, err := p.SendMessage(m); err != nil {
			t.Fatal(err)
		}
	}
	cl := client(t, config())
	for at, want := range map[int64]int64{
		sarama.OffsetOldest: 0, sarama.OffsetNewest: 10,
		1_700_000_000_000: 0, 1_700_000_004_001: 5, 1_700_000_009_000: 9, 1_700_000_009_001: -1,
	} {
		if got, err := cl.GetOffset(topic, 0, at); err != nil || got != want {
			t.Errorf("offset at %d: %d, %v; want %d", at, got, err, want)
		}
	}
	same(t, values(read(t, config(), topic, 7, 3)), []string{"7", "8", "9"})
	consumer, err := sarama.NewConsumerFromClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.ConsumePartition(topic, 0, 11); !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		t.Errorf("offset beyond the end: %v", err)
	}
}

func TestOffsetManager(t *testing.T) {
	topic, group := target.Topic(t, 1), target.Name(t)
	m, err := sarama.NewOffsetManagerFromClient(group, client(t, config()))
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.ManagePartition(topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	if next, _ := p.NextOffset(); next != sarama.OffsetOldest {
		t.Errorf("unknown group: %d", next)
	}
	p.MarkOffset(42, "note")
	m.Commit()
	p.Close()
	m.Close()
	m, err = sarama.NewOffsetManagerFromClient(group, client(t, config()))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err = m.ManagePartition(topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if next, note := p.NextOffset(); next != 42 || note != "note" {
		t.Errorf("%d, %q", next, note)
	}
}

func TestAdminTopics(t *testing.T) {
	a, topic := admin(t), target.Name(t)
	if err := a.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}, false); err != nil {
		t.Fatal(err)
	}
	var refused *sarama.TopicError
	if err := a.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); !errors.As(err, &refused) || refused.Err != sarama.ErrTopicAlreadyExists {
		t.Errorf("again: %v", err)
	}
	if err := a.CreatePartitions(topic, 5, nil, false); err != nil {
		t.Fatal(err)
	}
	m, err := a.DescribeTopics([]string{topic})
	if err != nil || len(m) != 1 || len(m[0].Partitions) != 5 {
		t.Fatalf("%+v, %v", m, err)
	}
	list, err := a.ListTopics()
	if err != nil || list[topic].NumPartitions != 5 {
		t.Errorf("%+v, %v", list[topic], err)
	}
	if err := a.DeleteTopic(topic); err != nil {
		t.Fatal(err)
	}
	if err := a.DeleteTopic(topic); err == nil {
		t.Error("deleted twice")
	}
}

func TestAdminConfigs(t *testing.T) {
	a := admin(t)
	topic := target.Topic(t, 1, "retention.ms=3600000")
	setting := func() string {
		r := &sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}}
		answers, err := a.DescribeConfigs([]*sarama.ConfigResource{r}, sarama.DescribeConfigsOptions{})
		if err != nil || len(answers) != 1 || len(answers[0].Configs) != 1 {
			t.Fatalf("%+v, %v", answers, err)
		}
		return answers[0].Configs[0].Value
	}
	if v := setting(); v != "3600000" {
		t.Error(v)
	}
	value := "7200000"
	if err := a.AlterConfig(sarama.TopicResource, topic, map[string]*string{"retention.ms": &value}, false); err != nil {
		t.Fatal(err)
	}
	if v := setting(); v != value {
		t.Error(v)
	}
	value = "1800000"
	set := map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}
	if err := a.IncrementalAlterConfig(sarama.TopicResource, topic, set, false); err != nil {
		t.Fatal(err)
	}
	if v := setting(); v != value {
		t.Error(v)
	}
}

func TestAdminGroups(t *testing.T) {
	a, topic, group := admin(t), target.Topic(t, 1), target.Name(t)
	target.Fill(t, topic, "x")
	consume(t, config(), topic, group, 1)
	list, err := a.ListConsumerGroups()
	if err != nil {
		t.Fatal(err)
	}
	if kind, ok := list[group]; !ok || kind != "consumer" {
		t.Errorf("%q, %v", kind, ok)
	}
	g, err := a.DescribeConsumerGroups([]string{group})
	if err != nil || g[0].State != "Empty" {
		t.Errorf("%+v, %v", g, err)
	}
	if err := a.DeleteConsumerGroupOffset(group, topic, 0); err != nil {
		t.Error(err)
	}
	if err := a.DeleteConsumerGroup(group); err != nil {
		t.Error(err)
	}
	if err := a.DeleteConsumerGroup(group); !errors.Is(err, sarama.ErrGroupIDNotFound) {
		t.Errorf("again: %v", err)
	}
}

func TestDeleteRecords(t *testing.T) {
	topic := target.Topic(t, 1)
	target.Fill(t, topic, target.Numbered(10)...)
	if err := admin(t).DeleteRecords(topic, map[int32]int64{0: 4}); err != nil {
		t.Fatal(err)
	}
	got := read(t, config(), topic, sarama.OffsetOldest, 6)
	if got[0].Offset != 4 {
		t.Errorf("begins at %d", got[0].Offset)
	}
}

func TestCluster(t *testing.T) {
	brokers, controller, err := admin(t).DescribeCluster()
	if err != nil || len(brokers) != 1 || brokers[0].ID() != controller || brokers[0].Addr() != target.Bootstrap(t) {
		t.Errorf("%v, %d, %v", brokers, controller, err)
	}
}
