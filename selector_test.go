package polylog_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// Jakarta Messaging 3.1 §3.8: a consumer with a selector gets what it holds
// for, others the rest, and nobody holds anybody up.
func TestSelectors(t *testing.T) {
	b := polylogtest.Start(t)
	ctx := t.Context()
	q := polylog.QueueOf[string](b.Session(), "q")
	for i, colour := range []string{"red", "blue", "green", "red", "blue"} {
		must[polylog.Receipt](t)(q.Put(ctx, colour, polylog.WithProperty("colour", colour), polylog.WithProperty("number", i), polylog.WithPriority(4+i)))
	}
	take := func(selector string) string {
		t.Helper()
		d, err := q.Take(ctx, polylog.WithSelector(selector), polylog.NoWait())
		if errors.Is(err, polylog.ErrNoMessage) {
			return ""
		}
		return must[*polylog.Delivery[string]](t)(d, err).Value
	}
	for _, step := range [][2]string{
		{"colour = 'green'", "green"},
		{"colour = 'green'", ""},
		{"number BETWEEN 1 AND 2 AND JMSPriority = 5", "blue"},
		{"colour LIKE 'b%' OR missing = 1", "blue"},
		{"missing IS NOT NULL", ""},
		{"NOT missing = 1", ""},
	} {
		if got := take(step[0]); got != step[1] {
			t.Errorf("%s: %q, want %q", step[0], got, step[1])
		}
	}
	wantValues(t, "the rest", values(t, b, "q"), "red", "red")

	for _, open := range []func(string) error{
		func(s string) error { _, err := q.Take(ctx, polylog.WithSelector(s), polylog.NoWait()); return err },
		func(s string) error {
			_, err := polylog.TopicOf[string](b.Session(), "t").SharedDurable(ctx, "sub", polylog.WithSelector(s))
			return err
		},
		func(s string) error {
			for _, err := range q.Browse(ctx, polylog.WithSelector(s)) {
				return err
			}
			return nil
		},
	} {
		if err := open("colour = = 'red'"); !errors.Is(err, polylog.ErrBadSelector) || !strings.Contains(err.Error(), "column 10") {
			t.Errorf("a wrong selector: %v", err)
		}
	}
}

// A subscription's selector keeps what does not match from waiting, and a
// durable one that is opened with another selector begins anew (§8.3.3).
func TestSubscriptionSelectors(t *testing.T) {
	b := polylogtest.Start(t, polylog.WithClientID("me"))
	ctx := t.Context()
	topic := polylog.TopicOf[string](b.Session(), "t")
	open := func(selector string) *polylog.Subscription[string] {
		t.Helper()
		s, err := topic.Durable(ctx, "d", polylog.WithSelector(selector))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	publish := func(names ...string) {
		t.Helper()
		for _, name := range names {
			must[polylog.Receipt](t)(topic.Publish(ctx, name, polylog.WithProperty("name", name)))
		}
	}
	s := open("name <> 'b'")
	publish("a", "b", "c")
	for _, want := range []string{"a", "c"} {
		if d := must[*polylog.Delivery[string]](t)(s.Take(ctx)); d.Value != want {
			t.Errorf("got %s, want %s", d.Value, want)
		}
	}
	publish("d")
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	s = open("name = 'e'")
	publish("d", "e")
	if d := must[*polylog.Delivery[string]](t)(s.Take(ctx)); d.Value != "e" {
		t.Errorf("got %s of a subscription that has begun anew", d.Value)
	}
	nothing, cancel := context.WithCancel(ctx)
	cancel()
	if d, err := s.Take(nothing); err == nil {
		t.Errorf("got %s", d.Value)
	}
}
