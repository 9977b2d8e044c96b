package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/wire"
)

// rig is a broker with a door.
type rig struct {
	t        testing.TB
	broker   *broker.Broker
	listener *wire.Listener
}

func newRig(t testing.TB) *rig {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Log: commitlog.Options{JournalFileBytes: 8 << 20}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	l, err := wire.Listen(wire.Config{}, wire.NewGuard(wire.Limits{}), New(b, Options{Logger: quiet}), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{t, b, l}
}

// create makes a topic with settings as name=value.
func (r *rig) create(name string, settings ...string) *destination.Destination {
	r.t.Helper()
	m := map[string]string{}
	for _, s := range settings {
		k, v, _ := strings.Cut(s, "=")
		m[k] = v
	}
	if _, err := r.broker.CreateDestination(context.Background(), name, destination.KindLog, m); err != nil {
		r.t.Fatal(err)
	}
	d, err := r.broker.Destination(context.Background(), name, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// client speaks Kafka's protocol, one request after the other.
type client struct {
	t           testing.TB
	conn        net.Conn
	correlation int32
}

func (r *rig) dial() *client { return r.dialFor(r.t) }

func (r *rig) dialFor(t testing.TB) *client {
	near, far := wire.Pipe()
	r.listener.ServeConn(far)
	t.Cleanup(func() { near.Close() })
	return &client{t: t, conn: near}
}

// send writes a request at a version.
func (c *client) send(q kmsg.Request, version int16) {
	c.t.Helper()
	q.SetVersion(version)
	c.correlation++
	if _, err := c.conn.Write(encodeRequest(q, c.correlation)); err != nil {
		c.t.Fatal(err)
	}
}

func encodeRequest(q kmsg.Request, correlation int32) []byte {
	p := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(q.Key()))
	p = binary.BigEndian.AppendUint16(p, uint16(q.GetVersion()))
	p = binary.BigEndian.AppendUint32(p, uint32(correlation))
	p = binary.BigEndian.AppendUint16(p, 4)
	p = append(p, "test"...)
	if q.IsFlexible() {
		p = append(p, 0)
	}
	p = q.AppendTo(p)
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

// receive reads the answer to a request that was sent; it must be the next one.
func (c *client) receive(q kmsg.Request, correlation int32) kmsg.Response {
	c.t.Helper()
	response := q.ResponseKind()
	p := c.frame()
	if got := int32(binary.BigEndian.Uint32(p)); got != correlation {
		c.t.Fatalf("answer to %d, expected is %d", got, correlation)
	}
	p = p[4:]
	if response.IsFlexible() && q.Key() != apiVersionsKey {
		p = p[1:]
	}
	if err := response.ReadFrom(p); err != nil {
		c.t.Fatalf("%s version %d: %v", kmsg.NameForKey(q.Key()), q.GetVersion(), err)
	}
	return response
}

func (c *client) frame() []byte {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var head [4]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		c.t.Fatal(err)
	}
	p := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c.conn, p); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// ask sends a request and reads its answer.
func ask[R kmsg.Response](c *client, q kmsg.Request, version int16) R {
	c.t.Helper()
	c.send(q, version)
	return c.receive(q, c.correlation).(R)
}

// batch has one record for each value, with the keys k0, k1 and so on.
func batch(values ...string) record.Batch {
	var b record.Builder
	for i, v := range values {
		b.Append(1000+int64(i), fmt.Appendf(nil, "k%d", i), []byte(v), nil)
	}
	return b.Batch()
}

func produceRequest(topic string, partition int32, acks int16, records []byte) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.Acks, q.TimeoutMillis = acks, 1000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	return q
}

// produce sends a batch and returns what is said of it.
func (c *client) produce(topic string, partition int32, records []byte) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	return ask[*kmsg.ProduceResponse](c, produceRequest(topic, partition, -1, records), 9).Topics[0].Partitions[0]
}

func fetchRequest(topic string, offset int64, partitions ...int32) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.ReplicaID, q.MaxWaitMillis, q.MinBytes, q.MaxBytes = -1, 0, 1, 1<<20
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	for _, n := range partitions {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = n, offset, 1<<20, -1
		t.Partitions = append(t.Partitions, p)
	}
	q.Topics = append(q.Topics, t)
	return q
}

// TestAdvertised pins what ApiVersions says.
func TestAdvertised(t *testing.T) {
	c := newRig(t).dial()
	response := ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{ClientSoftwareName: "test", ClientSoftwareVersion: "1"}, 3)
	var b strings.Builder
	for _, k := range response.ApiKeys {
		fmt.Fprintf(&b, "%d %s %d-%d\n", k.ApiKey, kmsg.NameForKey(k.ApiKey), k.MinVersion, k.MaxVersion)
	}
	for _, f := range response.FinalizedFeatures {
		fmt.Fprintf(&b, "%s %d\n", f.Name, f.MaxVersionLevel)
	}
	golden, err := os.ReadFile("testdata/apiversions.txt")
	if err != nil || b.String() != string(golden) {
		if os.Getenv("REWRITE") != "" {
			err = os.WriteFile("testdata/apiversions.txt", []byte(b.String()), 0o644)
		}
		t.Errorf("ApiVersions says (%v; REWRITE=1 writes the file)\n%s", err, b.String())
	}
	for _, name := range withoutOldProduce {
		response := ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{ClientSoftwareName: name, ClientSoftwareVersion: "1"}, 3)
		if k := response.ApiKeys[0]; k.ApiKey != int16(kmsg.Produce) || k.MinVersion != 3 {
			t.Errorf("%s is offered %+v", name, k)
		}
	}
}

// TestApiVersionsTooNew shows that a version from the future is answered in
// version 0 (KIP-511).
func TestApiVersionsTooNew(t *testing.T) {
	c := newRig(t).dial()
	p := encodeRequest(kmsg.NewPtrApiVersionsRequest(), 7)
	binary.BigEndian.PutUint16(p[6:], 99)
	if _, err := c.conn.Write(p); err != nil {
		t.Fatal(err)
	}
	response := c.receive(kmsg.NewPtrApiVersionsRequest(), 7).(*kmsg.ApiVersionsResponse)
	if response.ErrorCode != codeUnsupportedVersion || len(response.ApiKeys) != 1 || response.ApiKeys[0].ApiKey != apiVersionsKey {
		t.Errorf("code %d with %d keys", response.ErrorCode, len(response.ApiKeys))
	}
	ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest(), 0) // the connection is still good
}

// TestBatchesAreOpaque shows that what is produced is fetched as the same
// bytes, offset and epoch apart, in every compression, also when what was
// compressed is nothing that could be decompressed.
func TestBatchesAreOpaque(t *testing.T) {
	r := newRig(t)
	d := r.create("t", "partitions=1")
	c := r.dial()
	var want [][]byte
	for codec := record.None; codec <= record.Zstd; codec++ {
		b, err := record.Compress(nil, batch("a", strings.Repeat("b", 1000)), codec)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, b)
	}
	garbage := append(record.Batch(nil), want[record.Zstd]...)
	for i := record.HeaderSize; i < len(garbage); i++ {
		garbage[i] = byte(i)
	}
	binary.BigEndian.PutUint32(garbage[17:], crc32.Checksum(garbage[21:], crc32.MakeTable(crc32.Castagnoli)))
	want = append(want, garbage)
	for i, b := range want {
		if a := c.produce("t", 0, b); a.ErrorCode != 0 || a.BaseOffset != int64(2*i) {
			t.Fatalf("batch %d: code %d, base %d, %v", i, a.ErrorCode, a.BaseOffset, a.ErrorMessage)
		}
	}
	for version := int16(4); version <= 12; version++ {
		got := ask[*kmsg.FetchResponse](c, fetchRequest("t", 0, 0), version).Topics[0].Partitions[0]
		if got.ErrorCode != 0 || got.HighWatermark != int64(2*len(want)) {
			t.Fatalf("version %d: code %d, high watermark %d", version, got.ErrorCode, got.HighWatermark)
		}
		rest := got.RecordBatches
		for i, w := range want {
			b, next, err := record.Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = next
			if b.BaseOffset() != int64(2*i) || b.LeaderEpoch() != d.Partitions[0].Epoch() || string(b[16:]) != string(w[16:]) {
				t.Errorf("version %d: batch %d has changed", version, i)
			}
		}
		if len(rest) > 0 {
			t.Errorf("version %d: %d bytes more", version, len(rest))
		}
	}
}

// TestPipelinedProduce shows that requests behind one another are answered in
// order, and that a slow fetch in front delays them only until it is answered.
func TestPipelinedProduce(t *testing.T) {
	r := newRig(t)
	r.create("t")
	c := r.dial()
	const n = 500
	q := produceRequest("t", 0, -1, batch("x"))
	q.SetVersion(9)
	go func() {
		for i := range int32(n) {
			if _, err := c.conn.Write(encodeRequest(q, i+1)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range int32(n) {
		a := c.receive(q, i+1).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if a.ErrorCode != 0 || a.BaseOffset != int64(i) {
			t.Fatalf("request %d: code %d, base %d", i, a.ErrorCode, a.BaseOffset)
		}
	}
}

// TestPausedDestination refuses what is produced to a paused destination, in a
// way that clients try again after, and goes on giving out what is there.
func TestPausedDestination(t *testing.T) {
	r := newRig(t)
	r.create("t")
	c := r.dial()
	set := func(paused string) {
		t.Helper()
		if _, err := r.broker.AlterDestination(t.Context(), "t", map[string]string{"paused": paused}); err != nil {
			t.Fatal(err)
		}
	}
	for i, step := range []struct {
		paused string
		code   int16
	}{{"", 0}, {"puts", codeNotEnoughReplicas}, {"takes", 0}, {"all", codeNotEnoughReplicas}, {"", 0}} {
		set(step.paused)
		if a := c.produce("t", 0, batch("v")); a.ErrorCode != step.code {
			t.Errorf("step %d: code %d, want %d", i, a.ErrorCode, step.code)
		}
	}
	set("all")
	f := ask[*kmsg.FetchResponse](c, fetchRequest("t", 0, 0), 11).Topics[0].Partitions[0]
	if f.HighWatermark != 3 || len(f.RecordBatches) == 0 {
		t.Errorf("fetched %d bytes up to %d", len(f.RecordBatches), f.HighWatermark)
	}
}

// TestFetchIsBounded shows that an answer keeps to MaxBytes however many
// partitions are named, and yet always makes progress.
func TestFetchIsBounded(t *testing.T) {
	r := newRig(t)
	r.create("t", "partitions=100")
	c := r.dial()
	all := make([]int32, 100)
	for i := range all {
		all[i] = int32(i)
		if a := c.produce("t", int32(i), batch(strings.Repeat("v", 10_000))); a.ErrorCode != 0 {
			t.Fatal(a.ErrorCode)
		}
	}
	for _, limit := range []int32{1, 10_500, 55_000} {
		q := fetchRequest("t", 0, all...)
		q.MaxBytes = limit
		bytes, partitions := 0, 0
		for _, p := range ask[*kmsg.FetchResponse](c, q, 12).Topics[0].Partitions {
			if bytes += len(p.RecordBatches); len(p.RecordBatches) > 0 {
				partitions++
			}
			if p.HighWatermark != 1 {
				t.Errorf("high watermark %d", p.HighWatermark)
			}
		}
		if partitions == 0 || partitions > 1 && bytes > int(limit) {
			t.Errorf("limit %d: %d bytes of %d partitions", limit, bytes, partitions)
		}
	}
}

// TestFetchWaits shows MaxWait and MinBytes: no answer before there is enough,
// and one at once when there is.
func TestFetchWaits(t *testing.T) {
	r := newRig(t)
	r.create("t")
	c, producer := r.dial(), r.dial()
	q := fetchRequest("t", 0, 0)
	q.MaxWaitMillis, q.MinBytes = 60_000, 200
	c.send(q, 12)
	answered := make(chan kmsg.Response, 1)
	go func() { answered <- c.receive(q, c.correlation) }()
	first := batch("little")
	producer.produce("t", 0, first)
	select {
	case <-answered:
		t.Errorf("%d bytes are not enough", len(first))
	case <-time.After(20 * time.Millisecond):
	}
	producer.produce("t", 0, batch(strings.Repeat("much", 50)))
	select {
	case response := <-answered:
		if n := len(response.(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches); n < 200 {
			t.Errorf("%d bytes", n)
		}
	case <-time.After(5 * time.Second):
		t.Error("no answer")
	}
	q.MaxWaitMillis = 30
	q.Topics[0].Partitions[0].FetchOffset = 2
	began := time.Now()
	if p := ask[*kmsg.FetchResponse](c, q, 12).Topics[0].Partitions[0]; p.ErrorCode != 0 || len(p.RecordBatches) > 0 {
		t.Errorf("code %d, %d bytes", p.ErrorCode, len(p.RecordBatches))
	}
	if waited := time.Since(began); waited < 25*time.Millisecond || waited > 5*time.Second {
		t.Errorf("waited %v of 30 ms", waited)
	}
}

// TestRefusedBatches shows each refusal, and that the rest of a request is
// served.
func TestRefusedBatches(t *testing.T) {
	r := newRig(t)
	r.create("t", "max.message.bytes=2000")
	r.create("compacted", "cleanup.policy=compact")
	c := r.dial()
	keyless := func() record.Batch {
		var b record.Builder
		b.Append(1, []byte("k"), []byte("v"), nil)
		b.Append(1, nil, []byte("v"), nil)
		return b.Batch()
	}()
	damaged := batch("damaged")
	damaged[len(damaged)-1] ^= 1
	control := func() record.Batch {
		var b record.Builder
		b.SetControl()
		b.Append(1, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 0, 0, 0}, nil)
		return b.Batch()
	}()
	old := append([]byte(nil), batch("old")...)
	old[16] = 1
	for _, is := range []struct {
		name, topic string
		partition   int32
		records     []byte
		code        int16
	}{
		{"no topic", "nothing", 0, batch("v"), codeUnknownTopicOrPartition},
		{"no partition", "t", 1, batch("v"), codeUnknownTopicOrPartition},
		{"damaged", "t", 0, damaged, codeCorruptMessage},
		{"empty", "t", 0, nil, codeInvalidRecord},
		{"two batches", "t", 0, append(append([]byte(nil), batch("1")...), batch("2")...), codeInvalidRecord},
		{"control", "t", 0, control, codeInvalidRecord},
		{"large", "t", 0, batch(strings.Repeat("l", 3000)), codeMessageTooLarge},
		{"old format", "t", 0, old, codeInvalidRecord},
		{"no key", "compacted", 0, keyless, codeInvalidRecord},
		{"internal", "__delivery_state", 0, batch("v"), codeTopicAuthorizationFailed},
	} {
		a := c.produce(is.topic, is.partition, is.records)
		if a.ErrorCode != is.code {
			t.Errorf("%s: code %d, not %d", is.name, a.ErrorCode, is.code)
		}
		if is.name == "no key" && (len(a.ErrorRecords) != 1 || a.ErrorRecords[0].RelativeOffset != 1) {
			t.Errorf("error records %v", a.ErrorRecords)
		}
	}
	if a := c.produce("t", 0, batch("good")); a.ErrorCode != 0 || a.BaseOffset != 0 {
		t.Errorf("after all that: code %d, base %d", a.ErrorCode, a.BaseOffset)
	}
	if a := ask[*kmsg.ProduceResponse](c, produceRequest("t", 0, -1, batch("v")), 2).Topics[0].Partitions[0]; a.ErrorCode != codeUnsupportedVersion {
		t.Errorf("version 2: code %d", a.ErrorCode)
	}
	if a := ask[*kmsg.ProduceResponse](c, produceRequest("t", 0, 2, batch("v")), 9).Topics[0].Partitions[0]; a.ErrorCode != codeInvalidRequiredAcks {
		t.Errorf("acks=2: code %d", a.ErrorCode)
	}
}
