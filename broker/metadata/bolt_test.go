package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/destination"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *Bolt {
	t.Helper()
	b, err := OpenBolt(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func reopen(t *testing.T, b *Bolt) *Bolt {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, b.path)
}

func load(t *testing.T, s Store) *Contents {
	t.Helper()
	c, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func orders(t *testing.T) Destination {
	t.Helper()
	settings, err := destination.SettingsFrom(map[string]string{"max.deliveries": "3", "views": "any"})
	if err != nil {
		t.Fatal(err)
	}
	return Destination{
		Name: "orders/päckchen", ID: ID{1, 2, 3}, Kind: destination.KindQueue,
		Partitions: 3, Settings: settings, CreatedMS: 1234567,
	}
}

func news() Subscription {
	return Subscription{
		ID: "cursor-1", Topic: ID{1, 2, 3}, Kind: "durable", ClientID: "desk", Name: "news",
		Selector: "a = '<b>'", NoLocal: true, Start: []int64{0, 17, 1 << 40}, CreatedMS: 99,
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestContentsSurviveReopening(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "metadata.db"))
	must(t, b.PutDestination(orders(t)))
	must(t, b.PutSubscription(news()))
	must(t, b.PutFact("cluster.id", "xyz"))
	want := &Contents{
		Destinations: []Destination{orders(t)}, Subscriptions: []Subscription{news()},
		Facts: map[string]string{"cluster.id": "xyz"},
	}
	if got := load(t, reopen(t, b)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestDeletionIsRememberedUntilForgotten(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "metadata.db"))
	must(t, b.PutDestination(orders(t)))
	must(t, b.PutSubscription(news()))
	must(t, b.DeleteDestination("orders/päckchen", []string{"cursor-1"}))
	must(t, b.DeleteDestination("never there", nil))
	b = reopen(t, b)
	c := load(t, b)
	if len(c.Destinations) != 0 || len(c.Subscriptions) != 0 || !reflect.DeepEqual(c.Deletions, []Destination{orders(t)}) {
		t.Fatalf("after the deletion: %+v", c)
	}
	must(t, b.Forget(orders(t).ID))
	if c := load(t, reopen(t, b)); len(c.Deletions) != 0 {
		t.Fatalf("after forgetting: %+v", c)
	}
}

func TestSubscriptionReplacesAtOnce(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "metadata.db"))
	must(t, b.PutSubscription(news()))
	anew := news()
	anew.ID, anew.Selector = "cursor-2", ""
	must(t, b.PutSubscription(anew, "cursor-1"))
	if c := load(t, b); !reflect.DeepEqual(c.Subscriptions, []Subscription{anew}) {
		t.Fatalf("%+v", c.Subscriptions)
	}
	must(t, b.DeleteSubscription("cursor-2"))
	if c := load(t, b); len(c.Subscriptions) != 0 {
		t.Fatalf("%+v", c.Subscriptions)
	}
}

func TestNewerVersionIsRefusedByName(t *testing.T) {
	put := func(bucket []byte, key string, value string) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(key), []byte(value)) }
	}
	for _, test := range []struct {
		name   string
		change func(*bbolt.Tx) error
		want   error
		says   string
	}{
		{"file", put(factsBucket, "format", "2"), ErrNewerVersion, "has format 2, this release knows 1"},
		{"file without a number", put(factsBucket, "format", "two"), ErrCorrupt, `format "two"`},
		{"destination", put(destinationsBucket, "orders", `{"version":7,"value":{}}`), ErrNewerVersion, `destination "orders" has version 7`},
		{"subscription", put(subscriptionsBucket, "s", `{"version":3,"value":{}}`), ErrNewerVersion, `subscription "s" has version 3`},
		{"deletion", put(deletionsBucket, "x", `{"version":3,"value":{}}`), ErrNewerVersion, `deletion "x" has version 3`},
		{"broken value", put(destinationsBucket, "orders", `{"version":1,"va`), ErrCorrupt, `destination "orders"`},
		{"unknown setting", put(destinationsBucket, "orders", `{"version":1,"value":{"kind":"queue","id":"00000000000000000000000000000000","settings":{"colour":"red"}}}`), ErrCorrupt, "colour"},
		{"short id", put(destinationsBucket, "orders", `{"version":1,"value":{"id":"0011"}}`), ErrCorrupt, "32 hexadecimal digits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := open(t, filepath.Join(t.TempDir(), "metadata.db"))
			must(t, b.db.Update(test.change))
			must(t, b.Close())
			b, err := OpenBolt(b.path, Options{})
			if err == nil {
				_, err = b.Load()
				must(t, b.Close())
			}
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want %v that says %s", err, test.want, test.says)
			}
		})
	}
}

func TestOneProcessAtATime(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "metadata.db"))
	if _, err := OpenBolt(b.path, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v, want ErrLocked", err)
	}
}

func TestNotAFileOfOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metadata.db")
	must(t, os.WriteFile(path, []byte(strings.Repeat("no bolt ", 4096)), 0o600))
	if _, err := OpenBolt(path, Options{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
}

// Ten thousand destinations that are put at the same time share their syncs.
func TestManyAtOnceShareSyncs(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "metadata.db"))
	const n = 10_000
	start := time.Now()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := b.PutDestination(Destination{
				Name: fmt.Sprint("d", i), Kind: destination.KindQueue, Partitions: 1, Settings: destination.DefaultSettings(),
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	t.Logf("%d in %v", n, time.Since(start))
	var last int
	must(t, b.db.View(func(tx *bbolt.Tx) error { last = tx.ID(); return nil }))
	if last > n/20 {
		t.Errorf("%d transactions for %d destinations", last, n)
	}
	if c := load(t, reopen(t, b)); len(c.Destinations) != n {
		t.Errorf("%d destinations", len(c.Destinations))
	}
}

// S3: after a failed sync nothing is confirmed. The file is closed under the
// database, so that the next sync fails.
func TestFailedSyncStops(t *testing.T) {
	var file *os.File
	b, err := OpenBolt(filepath.Join(t.TempDir(), "metadata.db"), Options{
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			file = f
			return f, err
		},
	})
	must(t, err)
	must(t, b.PutFact("a", "b"))
	must(t, file.Close())
	if err := b.PutFact("c", "d"); !errors.Is(err, ErrFailed) {
		t.Fatalf("error %v, want ErrFailed", err)
	}
	select {
	case <-b.Failed():
	default:
		t.Fatal("Failed is not closed")
	}
	if err := b.PutDestination(orders(t)); !errors.Is(err, ErrFailed) {
		t.Fatalf("error %v, want ErrFailed", err)
	}
	_ = b.Close() // the file is gone already
}

func TestClosed(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "metadata.db"))
	must(t, b.Close())
	if err := b.PutFact("a", "b"); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if _, err := b.Load(); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

// FuzzDecode: no bytes in the file make the broker panic.
func FuzzDecode(f *testing.F) {
	for _, s := range []any{versioned[Subscription]{1, news()}, versioned[ID]{2, ID{}}, nil} {
		data, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := decode[Destination]("destination", nil, data)
		if err == nil {
			again, err := encode(d)
			if err != nil {
				t.Skip() // a kind that JSON could not name
			}
			if d2, err := decode[Destination]("destination", nil, again); err != nil || !reflect.DeepEqual(d, d2) {
				t.Errorf("%+v became %+v: %v", d, d2, err)
			}
		}
		_, _ = decode[Subscription]("subscription", nil, data)
	})
}
