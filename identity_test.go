package polylog_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// Jakarta Messaging 3.1 §3.4.4: the timestamp is of the time a message was
// handed over, not of its transmission.
func TestAMessageThatWasMadeEarlierIsSentAsItWas(t *testing.T) {
	b := polylogtest.Start(t)
	m := polylog.NewText("hello")
	setProperty(t, m, "colour", "red")
	made, err := m.With(polylog.WithPriority(7), polylog.WithTTL(time.Hour), polylog.WithProperty("size", int32(3)), polylog.WithGroup("g"))
	if err != nil {
		t.Fatal(err)
	}
	m.Body[0] = 'j'
	setProperty(t, m, "colour", "blue")
	sent := time.UnixMilli(made.Timestamp).Add(-time.Minute)
	q := b.Session().Queue("q")
	receipt, err := q.Put(t.Context(), made, polylog.WithIdentity("ID:x-1", sent))
	if err != nil || receipt.MessageID() != "ID:x-1" {
		t.Fatal(receipt.MessageID(), err)
	}
	d, err := q.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := d.Value
	if got.ID != "ID:x-1" || !got.Sent().Equal(sent) || got.Expiration != made.Timestamp+time.Hour.Milliseconds() {
		t.Errorf("id %s, sent %v, expires %d", got.ID, got.Sent(), got.Expiration)
	}
	if got.Text() != "hello" || got.Priority != 7 || got.Group() != "g" || got.Properties["colour"] != "red" || got.Properties["size"] != int32(3) {
		t.Errorf("%+v", got.Message)
	}
	// The next send is under an id of the session's again.
	receipt, err = q.Put(t.Context(), got)
	if err != nil || receipt.MessageID() == "ID:x-1" {
		t.Error(receipt.MessageID(), err)
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	reserved := polylog.NewText("x")
	reserved.Properties = map[string]any{"JMSXGroupID": "g"}
	untyped := polylog.NewText("x")
	untyped.Properties = map[string]any{"p": struct{}{}}
	for name, try := range map[string]func() (*polylog.Message, error){
		"reserved name": func() (*polylog.Message, error) { return reserved.With() },
		"property type": func() (*polylog.Message, error) { return untyped.With() },
		"priority":      func() (*polylog.Message, error) { return polylog.NewText("x").With(polylog.WithPriority(10)) },
		"partition":     func() (*polylog.Message, error) { return polylog.NewText("x").With(polylog.WithPartition(0)) },
		"id": func() (*polylog.Message, error) {
			return polylog.NewText("x").With(polylog.WithIdentity("x", time.Now()))
		},
	} {
		if m, err := try(); !errors.Is(err, polylog.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}

// What has no key goes where the giver of its id goes, whichever session sends it.
func TestAGivenIDPicksThePartition(t *testing.T) {
	b := polylogtest.Start(t)
	if _, err := b.Connection.Admin().Create(t.Context(), polylog.DestinationSpec{Name: "q", Kind: "queue", Settings: map[string]string{"partitions": "8"}}); err != nil {
		t.Fatal(err)
	}
	partitions := map[int32]bool{}
	for giver := range 8 {
		want := int32(-1)
		for n := range 4 {
			r, err := b.Session().Queue("q").Put(t.Context(), polylog.NewText("x"), polylog.WithIdentity(fmt.Sprintf("ID:%d-%d", giver, n), time.Now()))
			if err != nil {
				t.Fatal(err)
			}
			if want < 0 {
				want = r.Partition
			}
			if r.Partition != want {
				t.Errorf("giver %d, message %d: partition %d, not %d", giver, n, r.Partition, want)
			}
			partitions[r.Partition] = true
		}
	}
	if len(partitions) < 2 {
		t.Errorf("eight givers use partitions %v", partitions)
	}
}

func setProperty(t *testing.T, m *polylog.Message, name string, value any) {
	t.Helper()
	if err := m.SetProperty(name, value); err != nil {
		t.Fatal(err)
	}
}
