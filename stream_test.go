package polylog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// makeLog makes a log of three partitions with n messages, one after the other.
func makeLog(t *testing.T, b *polylogtest.Broker, n int) {
	t.Helper()
	_, err := b.Connection.Admin().Create(t.Context(), polylog.DestinationSpec{Name: "log", Kind: "log", Settings: map[string]string{"partitions": "3"}})
	if err != nil {
		t.Fatal(err)
	}
	more(t, b, 0, n)
}

func more(t *testing.T, b *polylogtest.Broker, from, to int) {
	t.Helper()
	q := polylog.QueueOf[string](b.Session(), "log")
	for i := from; i < to; i++ {
		must[polylog.Receipt](t)(q.Put(t.Context(), fmt.Sprint(i), polylog.WithPartition(int32(i%3)), polylog.WithKey(fmt.Sprint("k", i))))
	}
}

func read(t *testing.T, s *polylog.Stream[string], opts ...polylog.ConsumeOption) (all []string) {
	t.Helper()
	for r, err := range s.Read(t.Context(), append(opts, polylog.NoWait())...) {
		if err != nil {
			t.Fatal(err)
		}
		v := must[string](t)(r.Value())
		if want := "k" + v; string(r.Key) != want || r.Message() == nil || r.Topic != "log" || r.Timestamp.IsZero() {
			t.Errorf("read %+v", r)
		}
		all = append(all, fmt.Sprintf("%d/%d=%s", r.Partition, r.Offset, v))
	}
	slices.Sort(all)
	return all
}

func TestStreamRead(t *testing.T) {
	b := polylogtest.Start(t)
	makeLog(t, b, 9)
	s := polylog.StreamOf[string](b.Session(), "log")
	wantValues(t, "all", read(t, s, polylog.FromBeginning()), "0/0=0", "0/1=3", "0/2=6", "1/0=1", "1/1=4", "1/2=7", "2/0=2", "2/1=5", "2/2=8")
	wantValues(t, "again, of one partition", read(t, s, polylog.FromBeginning(), polylog.WithPartitions(1)), "1/0=1", "1/1=4", "1/2=7")
	wantValues(t, "from an offset", read(t, s, polylog.FromOffset(2)), "0/2=6", "1/2=7", "2/2=8")
	wantValues(t, "from the end", read(t, s))
	wantValues(t, "the last of each", read(t, s, polylog.FromLast(1)), "0/2=6", "1/2=7", "2/2=8")
	wantValues(t, "from a time to come", read(t, s, polylog.FromTime(time.Now().Add(time.Hour))))
	wantValues(t, "from a time past", read(t, s, polylog.FromTime(time.Now().Add(-time.Hour)), polylog.WithPartitions(2)), "2/0=2", "2/1=5", "2/2=8")
	for _, err := range s.Read(t.Context(), polylog.WithPartitions(7)) {
		if !errors.Is(err, polylog.ErrNotFound) {
			t.Errorf("a partition that is not there: %v", err)
		}
	}
	for _, err := range polylog.StreamOf[string](b.Session(), "nowhere").Read(t.Context()) {
		if !errors.Is(err, polylog.ErrNotFound) {
			t.Errorf("a log that is not there: %v", err)
		}
	}
	q := polylog.QueueOf[string](b.Session(), "log")
	if _, err := q.Put(t.Context(), "x", polylog.WithPartition(3)); !errors.Is(err, polylog.ErrNotFound) {
		t.Errorf("put to a partition that is not there: %v", err)
	}
	// Nothing was taken by reading.
	if d := must[*polylog.Delivery[string]](t)(q.Take(t.Context())); d.Redelivered() {
		t.Error("redelivered")
	}
}

// A reader follows the log, over a restart of the broker, without a gap and
// without a repetition.
func TestStreamFollows(t *testing.T) {
	b := polylogtest.Start(t, polylog.WithReconnect(polylog.ReconnectPolicy{Min: time.Millisecond, Max: 20 * time.Millisecond}))
	makeLog(t, b, 3)
	s := polylog.StreamOf[string](b.Session(), "log")
	seen := map[int32]int64{}
	n := 0
	for r, err := range s.Read(t.Context(), polylog.FromBeginning()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := seen[r.Partition]; r.Offset != want {
			t.Fatalf("offset %d of partition %d, want %d", r.Offset, r.Partition, want)
		}
		seen[r.Partition]++
		switch n++; n {
		case 3:
			more(t, b, 3, 6)
		case 6:
			b.Restart()
			more(t, b, 6, 9)
		case 9:
			return
		}
	}
}

// Two members share the partitions of a log; what they commit is the group's,
// and who comes later goes on there.
func TestGroup(t *testing.T) {
	b := polylogtest.Start(t)
	makeLog(t, b, 30)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	seen := map[string]bool{}
	total := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
	join := func() *polylog.GroupConsumer[string] {
		g, err := polylog.StreamOf[string](b.Session(), "log").Group(ctx, "readers", polylog.FromBeginning())
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	var wait sync.WaitGroup
	consume := func(g *polylog.GroupConsumer[string]) {
		wait.Go(func() {
			for r, err := range g.Consume(ctx) {
				if err != nil {
					if !errors.Is(err, polylog.ErrClosed) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				seen[must[string](t)(r.Value())] = true
				mu.Unlock()
				if err := g.Commit(ctx, r); err != nil && !errors.Is(err, polylog.ErrStale) {
					t.Error(err)
				}
			}
		})
	}
	first := join()
	consume(first)
	eventually(t, "all is read by one", func() bool { return total() == 30 })
	second := join()
	consume(second)
	eventually(t, "both have partitions", func() bool {
		return len(first.Assigned()) > 0 && len(second.Assigned()) > 0 && len(first.Assigned())+len(second.Assigned()) == 3
	})
	more(t, b, 30, 60)
	eventually(t, "all is read by two", func() bool { return total() == 60 })

	a := b.Connection.Admin()
	d, err := a.DescribeGroup(ctx, "readers")
	if err != nil || d.Type != "consumer" || len(d.Members) != 2 || len(d.Offsets) != 3 {
		t.Fatalf("described as %+v, %v", d, err)
	}
	eventually(t, "all is committed", func() bool {
		d, err := a.DescribeGroup(ctx, "readers")
		return err == nil && !slices.ContainsFunc(d.Offsets, func(o polylog.GroupOffset) bool { return o.Committed != 20 || o.Lag != 0 || o.LagMS != 0 })
	})
	if _, err := a.ResetGroup(ctx, polylog.GroupResetSpec{Group: "readers", Topic: "log"}); !errors.Is(err, polylog.ErrConflict) {
		t.Errorf("reset of a group with members: %v", err)
	}
	if err := a.DeleteGroup(ctx, "readers"); !errors.Is(err, polylog.ErrConflict) {
		t.Errorf("deletion of a group with members: %v", err)
	}
	for _, g := range []*polylog.GroupConsumer[string]{first, second, first} {
		if err := g.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	wait.Wait()
	more(t, b, 60, 63)
	third := join()
	var again []string
	for r, err := range third.Consume(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if again = append(again, must[string](t)(r.Value())); len(again) == 3 {
			break
		}
	}
	slices.Sort(again)
	wantValues(t, "what came later", again, "60", "61", "62")
	if err := third.Commit(ctx); err != nil {
		t.Error(err)
	}
	if err := third.Close(ctx); err != nil {
		t.Error(err)
	}
	if d, err = a.DescribeGroup(ctx, "readers"); err != nil || d.State != "Empty" || slices.ContainsFunc(d.Offsets, func(o polylog.GroupOffset) bool { return o.Committed != 21 }) {
		t.Errorf("described as %+v, %v", d, err)
	}
}

// The offsets of a group are described, set and forgotten.
func TestGroupAdministration(t *testing.T) {
	b := polylogtest.Start(t)
	makeLog(t, b, 9)
	ctx, a := t.Context(), b.Connection.Admin()
	if _, err := a.DescribeGroup(ctx, "g"); !errors.Is(err, polylog.ErrNotFound) {
		t.Errorf("a group that is not there: %v", err)
	}
	reset := func(spec polylog.GroupResetSpec) string {
		t.Helper()
		spec.Group, spec.Topic = "g", "log"
		list, err := a.ResetGroup(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, r := range list {
			text = append(text, fmt.Sprintf("%d:%d>%d", r.Partition, r.From, r.To))
		}
		return strings.Join(text, " ")
	}
	for _, step := range []struct {
		spec polylog.GroupResetSpec
		want string
	}{
		{polylog.GroupResetSpec{To: polylog.ResetLatest, DryRun: true}, "0:-1>3 1:-1>3 2:-1>3"},
		{polylog.GroupResetSpec{To: polylog.ResetCurrent}, ""},
		{polylog.GroupResetSpec{To: polylog.ResetLatest}, "0:-1>3 1:-1>3 2:-1>3"},
		{polylog.GroupResetSpec{To: polylog.ResetOffset, Offset: 1, Partitions: []int32{1}}, "1:3>1"},
		{polylog.GroupResetSpec{To: polylog.ResetShift, Offset: -1}, "0:3>2 1:1>0 2:3>2"},
		{polylog.GroupResetSpec{To: polylog.ResetShift, Offset: 10, Partitions: []int32{2}}, "2:2>3"},
		{polylog.GroupResetSpec{To: polylog.ResetTime, AtMS: time.Now().Add(-time.Hour).UnixMilli(), Partitions: []int32{2}}, "2:3>0"},
		{polylog.GroupResetSpec{To: polylog.ResetEarliest, Partitions: []int32{0}}, "0:2>0"},
	} {
		if got := reset(step.spec); got != step.want {
			t.Errorf("%+v: %s, want %s", step.spec, got, step.want)
		}
	}
	list, err := a.Groups(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "g" || list[0].State != "Empty" || list[0].Members != 0 {
		t.Errorf("groups: %+v, %v", list, err)
	}
	d, err := a.DescribeGroup(ctx, "g")
	if err != nil || len(d.Offsets) != 3 || d.Offsets[0].Lag != 3 || d.Offsets[0].End != 3 || d.Offsets[1].Committed != 0 {
		t.Errorf("described: %+v, %v", d, err)
	}
	if err := a.DeleteGroupOffsets(ctx, "g", "log", 0, 1); err != nil {
		t.Error(err)
	}
	if d, err := a.DescribeGroup(ctx, "g"); err != nil || len(d.Offsets) != 1 {
		t.Errorf("described: %+v, %v", d, err)
	}
	if err := a.DeleteGroup(ctx, "g"); err != nil {
		t.Error(err)
	}
	if err := a.DeleteGroup(ctx, "g"); !errors.Is(err, polylog.ErrNotFound) {
		t.Errorf("a group that is not there: %v", err)
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}
