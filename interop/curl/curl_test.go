// Package curl has programs with curl, and looks at their messages through another door.
package curl

import (
	"bufio"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/interop/target"
)

// curl asks the broker for a path, and returns what it answers; an error of the broker's
// fails the test.
func curl(t *testing.T, path string, args ...string) string {
	t.Helper()
	args = append([]string{"-sS", "--fail-with-body", "--max-time", "30", "http://" + target.HTTP(t) + path}, args...)
	text, err := exec.CommandContext(t.Context(), "curl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return string(text)
}

type message struct {
	Receipt, Kind, Text string
	Priority            int
	Properties          map[string]any
	CorrelationID       string `json:"correlation_id"`
	DeliveryCount       int    `json:"delivery_count"`
}

func take(t *testing.T, queue, query string) []message {
	t.Helper()
	text := curl(t, "/v1/queues/"+queue+"/take?"+query, "-X", "POST")
	if text == "" {
		return nil
	}
	var list []message
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return list
}

func TestPutAndTake(t *testing.T) {
	q := target.Name(t)
	for _, body := range []string{"first", "second"} {
		curl(t, "/v1/queues/"+q+"/messages", "-d", body, "-H", "Content-Type: text/plain", "-H", `Polylog-Properties: {"n": 5}`)
	}
	got := take(t, q, "count=10")
	if len(got) != 2 || got[0].Text != "first" || got[1].Properties["n"] != 5.0 {
		t.Fatalf("%+v", got)
	}
	curl(t, "/v1/receipts/"+got[0].Receipt+"/accept", "-X", "POST")
	curl(t, "/v1/receipts/"+got[1].Receipt+"/release?delay=0", "-X", "POST")
	if got = take(t, q, "timeout=10s&ack=auto"); len(got) != 1 || got[0].Text != "second" || got[0].DeliveryCount != 2 {
		t.Fatalf("%+v", got)
	}
	if got = take(t, q, ""); got != nil {
		t.Fatalf("%+v", got)
	}
}

func TestEvents(t *testing.T) {
	name := target.Name(t)
	ctx, cancel := context.WithTimeout(t.Context(), target.Patience)
	defer cancel()
	stream := exec.CommandContext(ctx, "curl", "-sSN", "http://"+target.HTTP(t)+"/v1/topics/"+name+"/events")
	out, err := stream.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = stream.Wait() }()
	lines := bufio.NewScanner(out)
	lines.Scan() // the subscription is open
	curl(t, "/v1/topics/"+name+"/messages", "-d", "news", "-H", "Content-Type: text/plain")
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"text":"news"`) {
			return
		}
	}
	t.Error("nothing came")
}

// What curl puts is seen by polylog's own client, and the reverse.
func TestOtherDoors(t *testing.T) {
	name, ctx := target.Name(t), target.Context(t)
	curl(t, "/v1/queues/"+name+"/messages", "-d", `{"a":1}`, "-H", "Content-Type: application/json", "-H", "Polylog-Priority: 8", "-H", "Polylog-Correlation-Id: c")
	conn, err := polylog.Connect(ctx, "polylog://"+target.Native(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := conn.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		t.Fatal(err)
	}
	q := polylog.QueueOf[*polylog.Message](s, name)
	d, err := q.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if m := d.Message(); m.Text() != `{"a":1}` || m.Priority != 8 || m.CorrelationID != "c" {
		t.Errorf("%+v", m)
	}
	if err := d.Ack(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Put(ctx, polylog.NewText("from Go")); err != nil {
		t.Fatal(err)
	}
	if text := curl(t, "/v1/queues/"+name+"/messages"); !strings.Contains(text, `"text":"from Go"`) {
		t.Error(text)
	}
	if got := take(t, name, "ack=auto&timeout=5s"); len(got) != 1 || got[0].Text != "from Go" {
		t.Errorf("%+v", got)
	}
}

func TestOperators(t *testing.T) {
	if got := curl(t, "/readyz"); got != "ok\n" {
		t.Errorf("%q", got)
	}
	if got := curl(t, "/metrics"); !strings.Contains(got, "polylog_destinations ") {
		t.Errorf("%q", got)
	}
}
