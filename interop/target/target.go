// Package target is what the suites written in Go share: where the broker is,
// and topics to work with.
package target

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Patience is how long a test waits for what must come.
const Patience = 20 * time.Second

// fake is for a plain go test, to which nobody has said where a broker is.
var fake = sync.OnceValues(func() (string, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1),
		kfake.BrokerConfigs(map[string]string{"auto.create.topics.enable": "true"}))
	if err != nil {
		return "", err
	}
	return c.ListenAddrs()[0], nil
})

// Bootstrap is the address of the broker under test: $INTEROP_BOOTSTRAP, or else
// that of a fake one, which lives as long as the process.
func Bootstrap(t testing.TB) string {
	t.Helper()
	if addr := os.Getenv("INTEROP_BOOTSTRAP"); addr != "" {
		return addr
	}
	addr, err := fake()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Native is where the broker under test speaks polylog's own protocol, and Data
// is its data directory. A test that needs them is skipped where they are not.
func Native(t testing.TB) string { return variable(t, "INTEROP_NATIVE") }

// AMQP is where the broker under test speaks AMQP 1.0; see Native.
func AMQP(t testing.TB) string { return variable(t, "INTEROP_AMQP") }

// STOMP is where the broker under test speaks STOMP; see Native.
func STOMP(t testing.TB) string { return variable(t, "INTEROP_STOMP") }

// Memcache is where the broker under test speaks memcached's protocol; see Native.
func Memcache(t testing.TB) string { return variable(t, "INTEROP_MEMCACHE") }

// HTTP is where the broker under test speaks HTTP; see Native.
func HTTP(t testing.TB) string { return variable(t, "INTEROP_HTTP") }

// Data is the data directory of the broker under test; see Native.
func Data(t testing.TB) string { return variable(t, "INTEROP_DATA") }

func variable(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Skip(name + " is not set: the broker under test is not a polylog that was started here")
	}
	return v
}

// Context ends before the test's patience does.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Name is a name for a topic, a group or a transactional id that nobody has used.
func Name(t testing.TB) string {
	name := strings.NewReplacer("/", ".", " ", "_", "#", "_").Replace(t.Name())
	return fmt.Sprintf("%s-%08x", name, rand.Uint32())
}

// Topic creates a topic for one test. Settings are name=value.
func Topic(t testing.TB, partitions int32, settings ...string) string {
	t.Helper()
	configs := map[string]*string{}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		configs[name] = &value
	}
	topic, admin := Name(t), Admin(t)
	if _, err := admin.CreateTopic(Context(t), partitions, 1, configs, topic); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
	// Kafka answers before the topic's leaders know that they are.
	Eventually(t, "the partitions of "+topic+" have leaders", func() bool {
		offsets, err := admin.ListEndOffsets(Context(t), topic)
		return err == nil && offsets.Error() == nil
	})
	return topic
}

// Client is a kgo client that is closed with the test.
func Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(Bootstrap(t))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// Admin is a kadm client that is closed with the test.
func Admin(t testing.TB) *kadm.Client {
	t.Helper()
	return kadm.NewClient(Client(t))
}

// Fill produces values into partition 0 of a topic.
func Fill(t testing.TB, topic string, values ...string) {
	t.Helper()
	cl := Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(v)})
	}
	if err := cl.ProduceSync(Context(t), records...).FirstErr(); err != nil {
		t.Fatalf("produce to %s: %v", topic, err)
	}
}

// Read consumes n records of a topic from its beginning.
func Read(t testing.TB, topic string, n int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	cl := Client(t, append([]kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, opts...)...)
	ctx := Context(t)
	var records []*kgo.Record
	for len(records) < n {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%d of %d records came from %s", len(records), n, topic)
		}
		if err := fetches.Err(); err != nil {
			t.Fatalf("fetch from %s: %v", topic, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// Values are the values of records.
func Values(records []*kgo.Record) []string {
	var v []string
	for _, r := range records {
		v = append(v, string(r.Value))
	}
	return v
}

// Numbered gives n different values.
func Numbered(n int) []string {
	var v []string
	for i := range n {
		v = append(v, fmt.Sprintf("value-%06d", i))
	}
	return v
}

// Ask sends one request and gives its answer.
func Ask[R kmsg.Response](t testing.TB, cl *kgo.Client, r kmsg.Request) R {
	t.Helper()
	answer, err := cl.Request(Context(t), r)
	if err != nil {
		t.Fatalf("%s: %v", kmsg.NameForKey(r.Key()), err)
	}
	return answer.(R)
}

// Eventually waits until a condition holds.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after %s: %s", Patience, what)
		}
	}
}
