package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog"
)

// fakeQueue gives out its bodies in batches of at most three, and then
// nothing.
type fakeQueue struct {
	bodies  []string
	settled int
	asked   []int
}

func (q *fakeQueue) take(ctx context.Context, most int, opts ...polylog.ConsumeOption) ([]*polylog.Delivery[*polylog.Message], error) {
	q.asked = append(q.asked, most)
	if len(q.bodies) == 0 {
		if len(opts) == 0 { // else it was asked not to wait
			<-ctx.Done()
		}
		return nil, polylog.ErrNoMessage
	}
	n := min(most, len(q.bodies), 3)
	batch := make([]*polylog.Delivery[*polylog.Message], n)
	for i := range batch {
		batch[i] = &polylog.Delivery[*polylog.Message]{Value: polylog.NewText(q.bodies[i])}
	}
	q.bodies = q.bodies[n:]
	return batch, nil
}

func (q *fakeQueue) settle(_ context.Context, batch []*polylog.Delivery[*polylog.Message]) error {
	q.settled += len(batch)
	return nil
}

func (q *fakeQueue) receiver(r *run, count int, timeout time.Duration) *receiver {
	return &receiver{take: q.take, settle: q.settle, count: count, timeout: timeout, out: r.newMessageWriter(false, false)}
}

func TestReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name    string
			bodies  string
			count   int
			timeout time.Duration
			code    int
			out     string
			took    time.Duration
		}{
			{"as many as asked for", "a b c d e", 4, -1, exitOK, "a b c d", 0},
			{"fewer", "a b", 3, 2 * time.Second, exitFewer, "a b", 2 * time.Second},
			{"none, without waiting", "", 1, 0, exitFewer, "", 0},
			{"all", "a b c d", 0, 0, exitOK, "a b c d", 0},
			{"interrupted", "a", 2, -1, exitInterrupted, "a", time.Minute},
			{"followed until interrupted", "a", 0, -1, exitInterrupted, "a", time.Minute},
		} {
			var out bytes.Buffer
			q := &fakeQueue{bodies: strings.Fields(c.bodies)}
			v := q.receiver(&run{stdout: &out, output: formatTable}, c.count, c.timeout)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			started := time.Now()
			err := v.run(ctx)
			cancel()
			got := strings.Join(strings.Fields(out.String()), " ")
			if exitCode(err) != c.code || got != c.out || q.settled != len(strings.Fields(c.out)) || time.Since(started) != c.took {
				t.Errorf("%s: %v, %q, %d settled, after %s", c.name, err, got, q.settled, time.Since(started))
			}
		}
	})
}

// brokenPipe takes so many bytes and then has no reader any more.
type brokenPipe struct{ left int }

func (p *brokenPipe) Write(b []byte) (int, error) {
	if p.left -= len(b); p.left < 0 {
		return 0, syscall.EPIPE
	}
	return len(b), nil
}

// What could not be written is not settled.
func TestReceiveIntoBrokenPipe(t *testing.T) {
	q := &fakeQueue{bodies: strings.Fields("a b c d e f g h")}
	err := q.receiver(&run{stdout: &brokenPipe{left: 6}, output: formatTable}, 8, -1).run(t.Context())
	if exitCode(err) != exitBrokenPipe || q.settled != 3 {
		t.Errorf("%v, %d settled; the first batch of 3 was written", err, q.settled)
	}
}

func TestReceiveSettleFails(t *testing.T) {
	q := &fakeQueue{bodies: []string{"a"}}
	v := q.receiver(&run{stdout: &bytes.Buffer{}, output: formatTable}, 1, -1)
	v.settle = func(context.Context, []*polylog.Delivery[*polylog.Message]) error { return polylog.ErrStale }
	if err := v.run(t.Context()); !errors.Is(err, polylog.ErrStale) || !strings.Contains(err.Error(), "may come again") {
		t.Error(err)
	}
}

func TestRoom(t *testing.T) {
	v := &receiver{}
	for _, c := range []struct{ got, bytes, count, want int }{
		{0, 0, 0, 32}, {10, 1000, 0, 500}, {10, 10 << 20, 0, 7}, {1, 100 << 20, 0, 1}, {10, 1000, 12, 2}, {0, 0, 5, 5},
	} {
		if v.count = c.count; v.room(c.got, c.bytes) != c.want {
			t.Errorf("%+v: %d", c, v.room(c.got, c.bytes))
		}
	}
}

func TestMessageWriter(t *testing.T) {
	for _, c := range []struct {
		format format
		bodies int
		want   string
	}{
		{formatTable, 2, "x\nx\n"},
		{formatJSON, 0, "[]\n"},
		{formatJSON, 2, "[\n  {\n"},
		{formatLines, 1, `{"id":"","destination":"","partition":0,"offset":0,"timestamp_ms":0,"kind":"text","body":"x","priority":4}` + "\n"},
	} {
		var out bytes.Buffer
		w := (&run{stdout: &out, output: c.format}).newMessageWriter(false, false)
		for range c.bodies {
			must(t, w.write(polylog.NewText("x")))
		}
		must(t, w.end())
		if !strings.HasPrefix(out.String(), c.want) {
			t.Errorf("%s: %q", c.format, out.String())
		}
	}
}

func TestDescribeMessage(t *testing.T) {
	binary := describeMessage(polylog.NewBytes([]byte{0xff, 1}))
	if binary.Body != nil || binary.BodyBase64 != "/wE=" || binary.Kind != "bytes" {
		t.Errorf("%+v", binary)
	}
	m, err := polylog.NewMap(map[string]any{"n": int32(3)})
	must(t, err)
	if got := string(plainBody(m)); got != `{"n":3}` {
		t.Error(got)
	}
	line, err := marshalMessage(m, "scheduled", false)
	if err != nil || !strings.Contains(string(line), `"state":"scheduled"`) || !strings.Contains(string(line), `"body":{"n":3}`) {
		t.Errorf("%s %v", line, err)
	}
}
