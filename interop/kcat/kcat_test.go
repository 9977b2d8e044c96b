// Package kcat runs kcat, which is librdkafka's command line, as people do.
package kcat

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/interop/target"
)

// kcat runs the program with input until it ends, which it must within the
// test's patience, and gives what it printed.
func kcat(t *testing.T, input string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), target.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kcat", append([]string{"-b", target.Bootstrap(t)}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("kcat %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

func lines(values []string) string { return strings.Join(values, "\n") + "\n" }

func same(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("got %d bytes:\n%.500s\nwant %d bytes:\n%.500s", len(got), got, len(want), want)
	}
}

func TestMetadata(t *testing.T) {
	topic := target.Topic(t, 3)
	var m struct {
		Brokers []struct {
			ID   int
			Name string
		}
		Topics []struct {
			Topic      string
			Partitions []struct{ Partition, Leader int }
		}
	}
	if err := json.Unmarshal([]byte(kcat(t, "", "-L", "-J", "-t", topic)), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Brokers) != 1 || m.Brokers[0].Name != target.Bootstrap(t) {
		t.Errorf("brokers %+v", m.Brokers)
	}
	if len(m.Topics) != 1 || m.Topics[0].Topic != topic || len(m.Topics[0].Partitions) != 3 {
		t.Fatalf("topics %+v", m.Topics)
	}
	for _, p := range m.Topics[0].Partitions {
		if p.Leader != m.Brokers[0].ID {
			t.Errorf("partition %d is led by %d", p.Partition, p.Leader)
		}
	}
}

func TestProduceConsume(t *testing.T) {
	topic := target.Topic(t, 1)
	values := lines(target.Numbered(10_000))
	kcat(t, values, "-P", "-t", topic)
	same(t, kcat(t, "", "-C", "-t", topic, "-e", "-q"), values)
}

func TestCodecs(t *testing.T) {
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			topic := target.Topic(t, 1)
			values := lines(target.Numbered(5000))
			kcat(t, values, "-P", "-t", topic, "-z", codec)
			same(t, kcat(t, "", "-C", "-t", topic, "-e", "-q", "-X", "check.crcs=true"), values)
		})
	}
}

func TestAcks(t *testing.T) {
	for _, acks := range []string{"0", "1", "all"} {
		t.Run(acks, func(t *testing.T) {
			topic := target.Topic(t, 1)
			kcat(t, "one\ntwo\n", "-P", "-t", topic, "-X", "acks="+acks)
			same(t, kcat(t, "", "-C", "-t", topic, "-c", "2", "-q"), "one\ntwo\n")
		})
	}
}

func TestKeysAndHeaders(t *testing.T) {
	topic := target.Topic(t, 1)
	kcat(t, "k1:v1\nk2:v2\n", "-P", "-t", topic, "-K:", "-H", "colour=grün", "-H", "empty=", "-H", "twice=1", "-H", "twice=2")
	got := kcat(t, "", "-C", "-t", topic, "-e", "-q", "-f", `%p %o %k=%s [%h]\n`)
	same(t, got, "0 0 k1=v1 [colour=grün,empty=,twice=1,twice=2]\n0 1 k2=v2 [colour=grün,empty=,twice=1,twice=2]\n")
}

func TestNullValue(t *testing.T) {
	topic := target.Topic(t, 1)
	kcat(t, "key:\n", "-P", "-t", topic, "-K:", "-Z")
	same(t, kcat(t, "", "-C", "-t", topic, "-e", "-q", "-Z", "-f", `%k=%s %S\n`), "key=NULL -1\n")
}

func TestBigMessage(t *testing.T) {
	topic := target.Topic(t, 1)
	value := strings.Repeat("0123456789abcdef", 60_000) // 960,000 bytes: Kafka's default limit is 1,048,588
	kcat(t, value, "-P", "-t", topic)
	same(t, kcat(t, "", "-C", "-t", topic, "-e", "-q", "-f", "%s"), value)
}

func TestTooBigMessage(t *testing.T) {
	topic := target.Topic(t, 1, "max.message.bytes=10000")
	ctx, cancel := context.WithTimeout(context.Background(), target.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kcat", "-b", target.Bootstrap(t), "-P", "-t", topic)
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 20_000))
	text, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(text), "Message size too large") {
		t.Fatalf("%v\n%s", err, text)
	}
}

func TestPartitions(t *testing.T) {
	topic := target.Topic(t, 4)
	for p := range 4 {
		kcat(t, fmt.Sprintf("for %d\n", p), "-P", "-t", topic, "-p", fmt.Sprint(p))
	}
	for p := range 4 {
		same(t, kcat(t, "", "-C", "-t", topic, "-p", fmt.Sprint(p), "-e", "-q"), fmt.Sprintf("for %d\n", p))
	}
}

func TestOffsets(t *testing.T) {
	topic := target.Topic(t, 1)
	values := target.Numbered(100)
	kcat(t, lines(values), "-P", "-t", topic)
	same(t, kcat(t, "", "-C", "-t", topic, "-o", "42", "-c", "3", "-q"), lines(values[42:45]))
	same(t, kcat(t, "", "-C", "-t", topic, "-o", "-7", "-e", "-q"), lines(values[93:]))
	same(t, kcat(t, "", "-C", "-t", topic, "-o", "end", "-e", "-q"), "")
}

// TestOffsetsByTime asks for the first record at or after a moment, which only
// an index by time can tell.
func TestOffsetsByTime(t *testing.T) {
	topic := target.Topic(t, 1)
	kcat(t, "a\nb\n", "-P", "-t", topic)
	time.Sleep(20 * time.Millisecond)
	moment := time.Now().UnixMilli()
	time.Sleep(20 * time.Millisecond)
	kcat(t, "c\nd\n", "-P", "-t", topic)
	same(t, kcat(t, "", "-C", "-t", topic, "-o", fmt.Sprintf("s@%d", moment), "-e", "-q"), "c\nd\n")
	got := kcat(t, "", "-Q", "-t", fmt.Sprintf("%s:0:%d", topic, moment))
	if !strings.Contains(got, "offset 2") {
		t.Errorf("query: %s", got)
	}
	got = kcat(t, "", "-Q", "-t", fmt.Sprintf("%s:0:%d", topic, moment+3_600_000))
	if !strings.Contains(got, "offset -1") { // librdkafka's "end"
		t.Errorf("query of the future: %s", got)
	}
}

func TestGroup(t *testing.T) {
	for _, assignor := range []string{"range", "roundrobin", "cooperative-sticky"} {
		t.Run(assignor, func(t *testing.T) {
			topic, group := target.Topic(t, 3), target.Name(t)
			args := []string{"-G", group, "-e", "-q", "-X", "auto.offset.reset=earliest", "-X", "partition.assignment.strategy=" + assignor, topic}
			first, second := target.Numbered(200)[:100], target.Numbered(200)[100:]
			kcat(t, lines(first), "-P", "-t", topic)
			same(t, sorted(kcat(t, "", args...)), lines(first))
			kcat(t, lines(second), "-P", "-t", topic)
			same(t, sorted(kcat(t, "", args...)), lines(second)) // from what the first had committed
		})
	}
}

func sorted(text string) string {
	l := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	slices.Sort(l)
	return lines(l)
}

// TestTransaction sends in one transaction. kcat commits at the end of its input.
func TestTransaction(t *testing.T) {
	topic := target.Topic(t, 1)
	for round := range 3 { // each takes the transactional id over from the last
		kcat(t, fmt.Sprintf("%d-a\n%d-b\n", round, round), "-P", "-t", topic, "-X", "transactional.id="+topic)
	}
	for _, level := range []string{"read_committed", "read_uncommitted"} {
		same(t, kcat(t, "", "-C", "-t", topic, "-e", "-q", "-X", "isolation.level="+level), "0-a\n0-b\n1-a\n1-b\n2-a\n2-b\n")
	}
}

func TestIdempotent(t *testing.T) {
	topic := target.Topic(t, 1)
	values := lines(target.Numbered(5000))
	kcat(t, values, "-P", "-t", topic, "-X", "enable.idempotence=true", "-X", "batch.num.messages=50")
	same(t, kcat(t, "", "-C", "-t", topic, "-e", "-q"), values)
}

// TestAutoCreate is what people try first.
func TestAutoCreate(t *testing.T) {
	topic := target.Name(t)
	kcat(t, "hello\n", "-P", "-t", topic)
	same(t, kcat(t, "", "-C", "-t", topic, "-e", "-q"), "hello\n")
}

// TestJSON looks at a record whole.
func TestJSON(t *testing.T) {
	topic := target.Topic(t, 1)
	kcat(t, "k:v\n", "-P", "-t", topic, "-K:", "-H", "a=b")
	var m struct {
		Topic     string
		Partition int
		Offset    int
		Tstype    string
		TS        int64
		Headers   []string
		Key       string
		Payload   string
	}
	text := kcat(t, "", "-C", "-t", topic, "-e", "-q", "-J")
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	if m.Topic != topic || m.Tstype != "create" || time.Since(time.UnixMilli(m.TS)) > time.Minute ||
		!slices.Equal(m.Headers, []string{"a", "b"}) || m.Key != "k" || m.Payload != "v" {
		t.Errorf("%s", text)
	}
}
