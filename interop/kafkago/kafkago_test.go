// Package kafkago has programs with segmentio's kafka-go, which asks for old
// versions of most requests.
package kafkago

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/polylog-mq/polylog/interop/target"
)

func writer(t *testing.T, topic string, change ...func(*kafka.Writer)) *kafka.Writer {
	// A transport of its own: one that is older than the topic would not ask for it
	// before its next turn to ask for metadata.
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	t.Cleanup(transport.CloseIdleConnections)
	w := &kafka.Writer{
		Addr: kafka.TCP(target.Bootstrap(t)), Topic: topic, Transport: transport,
		RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond,
	}
	for _, f := range change {
		f(w)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func messages(values ...string) []kafka.Message {
	var m []kafka.Message
	for _, v := range values {
		m = append(m, kafka.Message{Value: []byte(v)})
	}
	return m
}

func reader(t *testing.T, topic string, change ...func(*kafka.ReaderConfig)) *kafka.Reader {
	c := kafka.ReaderConfig{
		Brokers: []string{target.Bootstrap(t)}, Topic: topic,
		StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond,
	}
	for _, f := range change {
		f(&c)
	}
	r := kafka.NewReader(c)
	t.Cleanup(func() { r.Close() })
	return r
}

func read(t *testing.T, r *kafka.Reader, n int) []kafka.Message {
	t.Helper()
	ctx := target.Context(t)
	var got []kafka.Message
	for len(got) < n {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(got), n, err)
		}
		got = append(got, m)
	}
	return got
}

func values(got []kafka.Message) []string {
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

func client(t *testing.T) *kafka.Client {
	transport := &kafka.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(target.Bootstrap(t)), Timeout: target.Patience, Transport: transport}
}

func TestCodecs(t *testing.T) {
	for name, codec := range map[string]kafka.Compression{
		"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
	} {
		t.Run(name, func(t *testing.T) {
			topic := target.Topic(t, 1)
			w := writer(t, topic, func(w *kafka.Writer) { w.Compression = codec })
			if err := w.WriteMessages(target.Context(t), messages(target.Numbered(1000)...)...); err != nil {
				t.Fatal(err)
			}
			same(t, values(read(t, reader(t, topic), 1000)), target.Numbered(1000))
		})
	}
}

func TestAcks(t *testing.T) {
	for _, acks := range []kafka.RequiredAcks{kafka.RequireNone, kafka.RequireOne, kafka.RequireAll} {
		t.Run(acks.String(), func(t *testing.T) {
			topic := target.Topic(t, 1)
			w := writer(t, topic, func(w *kafka.Writer) { w.RequiredAcks = acks })
			if err := w.WriteMessages(target.Context(t), messages("one", "two")...); err != nil {
				t.Fatal(err)
			}
			same(t, values(read(t, reader(t, topic), 2)), []string{"one", "two"})
		})
	}
}

func TestKeyHeadersTime(t *testing.T) {
	topic := target.Topic(t, 1)
	at := time.UnixMilli(1_700_000_000_000)
	m := kafka.Message{
		Key: []byte("k"), Value: []byte("v"), Time: at,
		Headers: []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}},
	}
	if err := writer(t, topic).WriteMessages(target.Context(t), m, kafka.Message{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	got := read(t, reader(t, topic), 2)
	if r := got[0]; string(r.Key) != "k" || string(r.Value) != "v" || !r.Time.Equal(at) || len(r.Headers) != 2 || string(r.Headers[1].Value) != "2" {
		t.Errorf("%+v", r)
	}
	if got[1].Value != nil {
		t.Errorf("tombstone has value %q", got[1].Value)
	}
}

// TestConn works on one connection, with the oldest requests: Metadata 1,
// Produce 2 or what is offered, Fetch 2 or what is offered.
func TestConn(t *testing.T) {
	topic := target.Topic(t, 1)
	c, err := kafka.DialLeader(target.Context(t), "tcp", target.Bootstrap(t), topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(target.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteMessages(messages(target.Numbered(100)...)...); err != nil {
		t.Fatal(err)
	}
	if first, last, err := c.ReadOffsets(); err != nil || first != 0 || last != 100 {
		t.Fatalf("offsets %d to %d, %v", first, last, err)
	}
	if _, err := c.Seek(42, kafka.SeekAbsolute); err != nil {
		t.Fatal(err)
	}
	m, err := c.ReadMessage(1 << 20)
	if err != nil || m.Offset != 42 || string(m.Value) != target.Numbered(100)[42] {
		t.Errorf("%+v, %v", m, err)
	}
	partitions, err := c.ReadPartitions(topic)
	if err != nil || len(partitions) != 1 || partitions[0].Leader.Host == "" {
		t.Errorf("%+v, %v", partitions, err)
	}
	if b := c.Broker(); net.JoinHostPort(b.Host, fmt.Sprint(b.Port)) != target.Bootstrap(t) {
		t.Errorf("broker %+v", b)
	}
}

func TestReaderOffsets(t *testing.T) {
	topic := target.Topic(t, 1)
	w := writer(t, topic)
	base := time.UnixMilli(1_700_000_000_000)
	for i := range 10 {
		if err := w.WriteMessages(target.Context(t), kafka.Message{Value: []byte(fmt.Sprint(i)), Time: base.Add(time.Duration(i) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	r := reader(t, topic)
	if err := r.SetOffset(7); err != nil {
		t.Fatal(err)
	}
	same(t, values(read(t, r, 1)), []string{"7"})
	if err := r.SetOffsetAt(target.Context(t), base.Add(4001*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	same(t, values(read(t, r, 1)), []string{"5"})
	if lag, err := r.ReadLag(target.Context(t)); err != nil || lag != 4 {
		t.Errorf("lag %d, %v", lag, err)
	}
}

func group(id string) func(*kafka.ReaderConfig) {
	return func(c *kafka.ReaderConfig) {
		c.GroupID, c.HeartbeatInterval, c.SessionTimeout = id, 500*time.Millisecond, 6*time.Second
	}
}

func TestGroup(t *testing.T) {
	topic, id := target.Topic(t, 2), target.Name(t)
	w := writer(t, topic, func(w *kafka.Writer) { w.Balancer = &kafka.RoundRobin{} })
	all := target.Numbered(100)
	if err := w.WriteMessages(target.Context(t), messages(all[:60]...)...); err != nil {
		t.Fatal(err)
	}
	r := reader(t, topic, group(id))
	got := values(read(t, r, 60)) // commits each
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteMessages(target.Context(t), messages(all[60:]...)...); err != nil {
		t.Fatal(err)
	}
	got = append(got, values(read(t, reader(t, topic, group(id)), 40))...)
	slices.Sort(got)
	same(t, got, all)
}

func TestGroupShares(t *testing.T) {
	topic, id := target.Topic(t, 2), target.Name(t)
	ctx := target.Context(t)
	var generations [2]*kafka.Generation
	var groups [2]*kafka.ConsumerGroup
	for i := range groups {
		var err error
		groups[i], err = kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
			ID: id, Brokers: []string{target.Bootstrap(t)}, Topics: []string{topic},
			HeartbeatInterval: 300 * time.Millisecond, SessionTimeout: 6 * time.Second, RebalanceTimeout: 5 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer groups[i].Close()
	}
	type next struct {
		i   int
		g   *kafka.Generation
		err error
	}
	nexts := make(chan next)
	for i, g := range groups {
		go func() {
			for {
				generation, err := g.Next(ctx)
				if errors.Is(err, kafka.RebalanceInProgress) {
					continue // the other one came while this one joined
				}
				select {
				case nexts <- next{i, generation, err}:
				case <-ctx.Done():
					return
				}
				if err != nil {
					return
				}
			}
		}()
	}
	for {
		n := <-nexts
		if n.err != nil {
			t.Fatal(n.err)
		}
		generations[n.i] = n.g
		if generations[0] != nil && generations[1] != nil && generations[0].ID == generations[1].ID {
			break
		}
	}
	var held []int
	for _, g := range generations {
		if len(g.Assignments[topic]) != 1 {
			t.Fatalf("assigned %+v", g.Assignments)
		}
		held = append(held, g.Assignments[topic][0].ID)
	}
	slices.Sort(held)
	if !slices.Equal(held, []int{0, 1}) {
		t.Errorf("held %v", held)
	}
}

func TestTopics(t *testing.T) {
	c, topic := client(t), target.Name(t)
	ctx := target.Context(t)
	made, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: topic, NumPartitions: 3, ReplicationFactor: 1,
		ConfigEntries: []kafka.ConfigEntry{{ConfigName: "retention.ms", ConfigValue: "3600000"}},
	}}})
	if err != nil || made.Errors[topic] != nil {
		t.Fatal(err, made)
	}
	made, err = c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}}})
	if err != nil || !errors.Is(made.Errors[topic], kafka.TopicAlreadyExists) {
		t.Errorf("again: %v, %+v", err, made)
	}
	m, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil || len(m.Topics) != 1 || len(m.Topics[0].Partitions) != 3 {
		t.Fatalf("%+v, %v", m, err)
	}
	described, err := c.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"}},
	}})
	if err != nil || len(described.Resources) != 1 || len(described.Resources[0].ConfigEntries) != 1 || described.Resources[0].ConfigEntries[0].ConfigValue != "3600000" {
		t.Errorf("%+v, %v", described, err)
	}
	gone, err := c.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil || gone.Errors[topic] != nil {
		t.Fatal(err, gone)
	}
}

// TestOldAdmin uses the connection's own requests: CreateTopics and DeleteTopics
// in the oldest versions that are left.
func TestOldAdmin(t *testing.T) {
	c, err := kafka.DialContext(target.Context(t), "tcp", target.Bootstrap(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	topic := target.Name(t)
	if err := c.CreateTopics(kafka.TopicConfig{Topic: topic, NumPartitions: 2, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	target.Eventually(t, "the topic has two partitions", func() bool {
		p, err := c.ReadPartitions(topic)
		return err == nil && len(p) == 2
	})
	if err := c.DeleteTopics(topic); err != nil {
		t.Fatal(err)
	}
	controller, err := c.Controller()
	if err != nil || net.JoinHostPort(controller.Host, fmt.Sprint(controller.Port)) != target.Bootstrap(t) {
		t.Errorf("%+v, %v", controller, err)
	}
}

func TestListOffsets(t *testing.T) {
	topic := target.Topic(t, 1)
	target.Fill(t, topic, target.Numbered(10)...)
	answer, err := client(t).ListOffsets(target.Context(t), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		topic: {kafka.FirstOffsetOf(0), kafka.LastOffsetOf(0)},
	}})
	if err != nil || len(answer.Topics[topic]) != 1 {
		t.Fatalf("%+v, %v", answer, err)
	}
	if p := answer.Topics[topic][0]; p.Error != nil || p.FirstOffset != 0 || p.LastOffset != 10 {
		t.Errorf("%+v", p)
	}
}

func TestGroupOffsets(t *testing.T) {
	c, topic, id := client(t), target.Topic(t, 1), target.Name(t)
	ctx := target.Context(t)
	committed := func() int64 {
		answer, err := c.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: id, Topics: map[string][]int{topic: {0}}})
		if err != nil || answer.Error != nil || len(answer.Topics[topic]) != 1 {
			t.Fatalf("%+v, %v", answer, err)
		}
		return answer.Topics[topic][0].CommittedOffset
	}
	if o := committed(); o != -1 {
		t.Errorf("unknown group: %d", o)
	}
	_, err := c.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID: id, GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: 0, Offset: 7}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if o := committed(); o != 7 {
		t.Errorf("committed: %d", o)
	}
	groups, err := c.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil || !slices.ContainsFunc(groups.Groups, func(g kafka.ListGroupsResponseGroup) bool { return g.GroupID == id }) {
		t.Errorf("%+v, %v", groups, err)
	}
	gone, err := c.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{id}})
	if err != nil || gone.Errors[id] != nil {
		t.Errorf("%+v, %v", gone, err)
	}
}

// TestAutoCreate makes a topic by asking for it in a version that cannot say
// that it may be made.
func TestAutoCreate(t *testing.T) {
	topic := target.Name(t)
	w := writer(t, topic, func(w *kafka.Writer) { w.AllowAutoTopicCreation = true })
	ctx, cancel := context.WithTimeout(context.Background(), target.Patience)
	defer cancel()
	for {
		err := w.WriteMessages(ctx, messages("hello")...)
		if err == nil {
			break
		}
		// What Kafka answers until the topic has a leader.
		if !errors.Is(err, kafka.LeaderNotAvailable) && !errors.Is(err, kafka.UnknownTopicOrPartition) {
			t.Fatal(err)
		}
	}
	same(t, values(read(t, reader(t, topic), 1)), []string{"hello"})
}
