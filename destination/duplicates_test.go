package destination

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// withIDs is a batch of messages with these ids; "" has none.
func withIDs(t testing.TB, padding int, ids ...string) record.Batch {
	t.Helper()
	var b record.Builder
	for _, id := range ids {
		m := record.Message{Meta: record.Meta{ID: id}, Timestamp: time.Now().UnixMilli(), Body: make([]byte, padding)}
		if err := m.AppendTo(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.Batch()
}

// stored counts the messages of each id, and returns where they are.
func (r *producersRig) stored() (count map[string]int, at map[string]int64) {
	r.t.Helper()
	count, at = map[string]int{}, map[string]int64{}
	for offset := r.p.Start(); offset < r.p.Stable(); {
		buf, err := r.p.Read(offset, 1<<20, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		for len(buf) > 0 {
			b, rest, err := record.Next(buf)
			if err != nil {
				r.t.Fatal(err)
			}
			var reader record.Reader
			if err := reader.Reset(b, 1<<20); err != nil {
				r.t.Fatal(err)
			}
			for reader.Next() {
				var m record.Meta
				header, _ := reader.Record().Header(record.JMSHeader)
				if err := record.ParseMeta(header, &m); err != nil {
					r.t.Fatal(err)
				}
				count[m.ID]++
				at[m.ID] = reader.Record().Offset
			}
			offset, buf = b.NextOffset(), rest
		}
	}
	return count, at
}

// sendIDs sends a batch and returns its base.
func (r *producersRig) sendIDs(ids ...string) int64 {
	r.t.Helper()
	w := newWaiter()
	base, err := r.p.Send(withIDs(r.t, 0, ids...), w)
	if err == nil {
		err = <-w
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return base
}

func TestDuplicates(t *testing.T) {
	r := openProducers(t, commitlog.NewMemFS())
	r.p.Deduplicate(4, 0)
	base := func(want int64, ids ...string) {
		t.Helper()
		if have := r.sendIDs(ids...); have != want {
			t.Errorf("%q are at %d, want %d", ids, have, want)
		}
	}
	base(0, "a")
	base(1, "b", "c")
	base(0, "a")
	base(1, "b", "c")
	base(-1, "c", "d", "d") // d is at 3
	base(4, "", "")
	base(6, "")
	base(7, "e") // a is forgotten
	base(8, "a") // and b
	base(7, "e")
	r = r.crash(1)
	r.p.Deduplicate(4, 0)
	base(8, "a") // the last four are known again
	base(9, "b")
	r.p.Deduplicate(0, 0)
	base(10, "b")
	r.p.Deduplicate(4, 0)
	base(10, "b")
	count, _ := r.stored()
	if want := map[string]int{"": 3, "a": 2, "b": 3, "c": 1, "d": 1, "e": 1}; !maps.Equal(count, want) {
		t.Errorf("%v, want %v", count, want)
	}
	r.close()
}

func TestDuplicatesExpire(t *testing.T) {
	d := duplicates{window: 10, ageMS: 100, known: map[idHash]int64{}, loaded: true}
	at := int64(0)
	send := func(now int64, name string) (fresh bool) {
		s := sending{d: &d, ids: []id{{hash: hashOf(name), has: true}}, now: now}
		_, err := s.Admit(nil, at)
		if err == nil {
			at++
		}
		return err == nil
	}
	if !send(1000, "a") || send(1100, "a") || !send(1101, "a") || send(1150, "a") {
		t.Error("an id is not remembered as long as it should be")
	}
	if len(d.known) != 1 {
		t.Errorf("%d ids are remembered", len(d.known))
	}
}

// TestDuplicatesOnce sends every message several times, from several producers,
// alone, together and in transactions, on a disk that is full now and then, with
// power cuts: what was confirmed is there, once.
func TestDuplicatesOnce(t *testing.T) {
	const producers, each = 4, 150
	r := openProducers(t, commitlog.NewMemFS())
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(3, 4))
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	confirmed := map[string]bool{}
	full := r.store.Stats().Full
	for round := range 3 {
		if round > 0 {
			r = r.crash(uint64(round))
		}
		r.fs.Inject(func(op commitlog.Op, _ string) error {
			if op == commitlog.OpPreallocate && draw(3) != 0 {
				return syscall.ENOSPC
			}
			return nil
		})
		r.p.Deduplicate(1<<20, 0)
		var all sync.WaitGroup
		for range producers {
			all.Go(func() {
				for range each {
					ids := make([]string, 1+draw(3))
					for i := range ids {
						ids[i] = fmt.Sprint("ID:", round*each/2+draw(each))
					}
					b := withIDs(t, 3000, ids...)
					w := newWaiter()
					var err error
					if draw(3) == 0 { // as a transaction does it
						var rest []byte
						var reserved *Reservation
						if rest, reserved, err = r.p.Reserve(b); err == nil && rest != nil {
							var base int64
							if base, err = r.p.Append(rest, w); err == nil {
								err = <-w
							}
							reserved.Done(base, err)
						}
					} else if _, err = r.p.Send(b, w); err == nil {
						err = <-w
					}
					switch {
					case err == nil:
						mu.Lock()
						for _, id := range ids {
							confirmed[id] = true
						}
						mu.Unlock()
					case !errors.Is(err, commitlog.ErrFull) && !errors.Is(err, ErrBeingSent):
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		full += r.store.Stats().Full
	}
	count, _ := r.stored()
	for _, id := range slices.Sorted(maps.Keys(confirmed)) {
		if count[id] != 1 {
			t.Errorf("%s is there %d times", id, count[id])
		}
	}
	for id, n := range count {
		if n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if len(confirmed) < each || full == 0 {
		t.Errorf("%d were confirmed, the disk was full %d times", len(confirmed), full)
	}
	r.fs.Inject(nil)
	r.close()
}
