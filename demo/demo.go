// Package demo tells polylog's story on real input: recorded webhooks go
// through a topic and a queue while services come and go and the broker is
// killed, and in the end every message is accounted for.
//
// Run tells it. The broker runs as a process of its own, because kill -9 is
// part of the story; everything else is in this process: a publisher, an audit
// service with a durable subscription, and three build workers.
package demo

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/polylog-mq/polylog"
)

// The input: one payload for each kind of event; see LICENSE.webhooks.
//
//go:embed webhooks.jsonl
var webhooks []byte

// Options of a Run.
type Options struct {
	// Program is the polylog program, started as "Program serve ...".
	Program string
	// Rounds is how often the recorded webhooks are delivered.
	Rounds int
	// Out gets the story.
	Out io.Writer
}

// webhook is a line of the input.
type webhook struct {
	Event   string          `json:"event"`
	Payload json.RawMessage `json:"payload"`
}

// Names of what the story uses.
const (
	eventsTopic  = "github.events"
	buildsQueue  = "builds"
	auditClient  = "audit-service"
	auditName    = "audit"
	poisonReason = "the payload is cut short"
)

// poisonEvery is how many build orders have one cut short among them.
const poisonEvery = 25

// Run tells the story and returns an error if a message is missing, doubled,
// or anywhere it should not be.
func Run(ctx context.Context, o Options) error {
	hooks, err := readWebhooks()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "polylog-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &broker{program: o.Program, dir: filepath.Join(dir, "data")}
	if err := b.start(); err != nil {
		return err
	}
	defer b.kill()
	s := &story{out: o.Out, broker: b, hooks: hooks, rounds: o.Rounds, ledger: newLedger(), begun: time.Now()}
	return s.tell(ctx)
}

func readWebhooks() ([]webhook, error) {
	var hooks []webhook
	lines := bufio.NewScanner(bytes.NewReader(webhooks))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var h webhook
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			return nil, fmt.Errorf("recorded webhooks: %w", err)
		}
		hooks = append(hooks, h)
	}
	return hooks, lines.Err()
}

// story is one run.
type story struct {
	out    io.Writer
	broker *broker
	hooks  []webhook
	rounds int
	ledger *ledger
	begun  time.Time
}

func (s *story) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.2fs  %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

// counted is a number and what it counts.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// tell runs the acts in order.
func (s *story) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	acts := []func(context.Context) error{
		s.auditSubscribes,
		s.firstHalf,
		s.secondHalf,
		s.auditCatchesUp,
		s.redrive,
		s.account,
	}
	for _, act := range acts {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// connect opens a connection of a service and a session on it.
func (s *story) connect(ctx context.Context, opts ...polylog.Option) (*polylog.Connection, *polylog.Session, error) {
	c, err := polylog.Connect(ctx, s.broker.url, opts...)
	if err != nil {
		return nil, nil, err
	}
	session, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, session, nil
}
