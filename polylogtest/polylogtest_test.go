package polylogtest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestARestartKeepsMessages(t *testing.T) {
	b := polylogtest.Start(t)
	q := polylog.QueueOf[string](b.Session(), "orders")
	if _, err := q.Put(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	b.Restart()
	d, err := q.Take(t.Context())
	if err != nil || d.Value != "one" {
		t.Fatalf("took %v, %v", d, err)
	}
}
