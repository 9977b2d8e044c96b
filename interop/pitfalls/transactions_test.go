package pitfalls

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/interop/target"
)

// open sends values in a transaction, and gives what ends it.
func open(t *testing.T, topic string, values ...string) (end func(commit bool)) {
	t.Helper()
	cl := target.Client(t, kgo.TransactionalID(target.Name(t)), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := cl.ProduceSync(target.Context(t), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return func(commit bool) {
		t.Helper()
		if err := cl.EndTransaction(target.Context(t), kgo.TransactionEndTry(commit)); err != nil {
			t.Fatal(err)
		}
	}
}

func transaction(t *testing.T, topic string, commit bool, values ...string) {
	t.Helper()
	open(t, topic, values...)(commit)
}

// overlapping makes transactions that end in another order than they began: four
// aborted ones and two committed ones, entangled.
func overlapping(t *testing.T) string {
	t.Helper()
	topic := target.Topic(t, 1)
	var ends []func(bool)
	for _, v := range []string{"a", "b", "c", "d", "e", "f"} {
		ends = append(ends, open(t, topic, v))
	}
	for _, i := range []int{5, 0, 3, 1, 4, 2} {
		ends[i](i == 1 || i == 4)
	}
	target.Fill(t, topic, "last")
	return topic
}

var remaining = []string{"b", "e", "last"}

// Test08Aborted: the list of aborted transactions is in the order of offsets, and
// consumers of what is committed see nothing else. Kafka itself lists them in the
// order of their ends, and most clients sort; one that does not would be misled.
func Test08Aborted(t *testing.T) {
	t.Run("kgo-list", func(t *testing.T) {
		topic := overlapping(t)
		cl := target.Client(t)
		r := fetchRequest(topic, topicID(t, cl, topic), 0)
		r.IsolationLevel = 1
		answer := target.Ask[*kmsg.FetchResponse](t, cl, r)
		p := answer.Topics[0].Partitions[0]
		var firsts []int64
		for _, a := range p.AbortedTransactions {
			firsts = append(firsts, a.FirstOffset)
		}
		if !slices.Equal(firsts, []int64{0, 2, 3, 5}) {
			t.Errorf("aborted transactions begin at %v", firsts)
		}
	})
	t.Run("kgo", func(t *testing.T) {
		got := target.Values(target.Read(t, overlapping(t), 3, kgo.FetchIsolationLevel(kgo.ReadCommitted())))
		if !slices.Equal(got, remaining) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("librdkafka", func(t *testing.T) {
		topic := overlapping(t)
		c := librdkafkaConsumer(t, "isolation.level", "read_committed")
		if err := c.Assign(partition(topic, kafka.OffsetBeginning)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range take(t, c, 3) {
			got = append(got, string(m.Value))
		}
		if !slices.Equal(got, remaining) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("sarama", func(t *testing.T) {
		topic := overlapping(t)
		c := saramaConfig()
		c.Consumer.IsolationLevel = sarama.ReadCommitted
		consumer, err := sarama.NewConsumerFromClient(saramaClient(t, c))
		if err != nil {
			t.Fatal(err)
		}
		p, err := consumer.ConsumePartition(topic, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		var got []string
		for late := time.After(target.Patience); len(got) < 3; {
			select {
			case m := <-p.Messages():
				got = append(got, string(m.Value))
			case <-late:
				t.Fatalf("got %v", got)
			}
		}
		if !slices.Equal(got, remaining) {
			t.Errorf("got %v", got)
		}
	})
}

// Test08Fenced: the producer whose transactional id another one has taken is told
// so in a way that it does not survive, and what it had begun is aborted.
func Test08Fenced(t *testing.T) {
	t.Run("kgo", func(t *testing.T) {
		topic, id := target.Topic(t, 1), target.Name(t)
		producer := func() *kgo.Client { return target.Client(t, kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic)) }
		old, young := producer(), producer()
		if err := old.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := old.ProduceSync(target.Context(t), kgo.StringRecord("old")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := young.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := young.ProduceSync(target.Context(t), kgo.StringRecord("young")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		err := old.EndTransaction(target.Context(t), kgo.TryCommit)
		if !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) {
			t.Errorf("the old one's commit: %v", err)
		}
		if err := young.EndTransaction(target.Context(t), kgo.TryCommit); err != nil {
			t.Errorf("the young one's commit: %v", err)
		}
		if got := target.Values(target.Read(t, topic, 1, kgo.FetchIsolationLevel(kgo.ReadCommitted()))); !slices.Equal(got, []string{"young"}) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("librdkafka", func(t *testing.T) {
		topic, id := target.Topic(t, 1), target.Name(t)
		ctx, cancel := context.WithTimeout(background, 2*target.Patience)
		defer cancel()
		producer := func(value string) *kafka.Producer {
			p := librdkafkaProducer(t, "transactional.id", id)
			if err := errors.Join(p.InitTransactions(ctx), p.BeginTransaction()); err != nil {
				t.Fatal(err)
			}
			if _, err := deliver(t, p, topic, "", value); err != nil {
				t.Fatal(err)
			}
			return p
		}
		old, young := producer("old"), producer("young")
		var e kafka.Error
		if err := old.CommitTransaction(ctx); !errors.As(err, &e) || !e.IsFatal() || e.Code() != kafka.ErrFenced {
			t.Errorf("the old one's commit: %v", err)
		}
		if err := young.CommitTransaction(ctx); err != nil {
			t.Errorf("the young one's commit: %v", err)
		}
		if got := target.Values(target.Read(t, topic, 1, kgo.FetchIsolationLevel(kgo.ReadCommitted()))); !slices.Equal(got, []string{"young"}) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("sarama", func(t *testing.T) {
		topic, id := target.Topic(t, 1), target.Name(t)
		producer := func(value string) sarama.SyncProducer {
			c := saramaConfig()
			c.Producer.Idempotent, c.Net.MaxOpenRequests, c.Producer.Transaction.ID = true, 1, id
			c.Producer.Transaction.Retry.Max = 2
			p, err := sarama.NewSyncProducer([]string{target.Bootstrap(t)}, c)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
			if err := p.BeginTxn(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}); err != nil {
				t.Fatal(err)
			}
			return p
		}
		old, young := producer("old"), producer("young")
		if err := old.CommitTxn(); err == nil {
			t.Error("the old one commits")
		}
		if old.TxnStatus()&sarama.ProducerTxnFlagFatalError == 0 {
			t.Errorf("the old one lives on: %v", old.TxnStatus())
		}
		if err := young.CommitTxn(); err != nil {
			t.Errorf("the young one's commit: %v", err)
		}
		if got := target.Values(target.Read(t, topic, 1, kgo.FetchIsolationLevel(kgo.ReadCommitted()))); !slices.Equal(got, []string{"young"}) {
			t.Errorf("got %v", got)
		}
	})
}
