package consumer

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// fork is a world of its own, in which the broker dies after n of the records
// of a result were written and before its answer was heard.
func (w *world) fork(records []Record, n int, died *simulated) *world {
	f := *w
	f.choose = rand.New(rand.NewPCG(uint64(n), 2)).IntN
	f.topics = maps.Clone(w.topics)
	f.log = append(append([]Record{}, w.log...), records[:n]...)
	f.story = append([]string{}, w.story...)
	f.clients = nil
	for _, c := range w.clients {
		o := *c
		o.owned, o.assigned, o.told = maps.Clone(c.owned), maps.Clone(c.assigned), maps.Clone(c.told)
		if c.classic != nil {
			phase := *c.classic
			o.classic = &phase
		}
		o.full = o.full || c == died
		f.clients = append(f.clients, &o)
	}
	f.tell("the broker dies after %d of %d records", n, len(records))
	f.restart()
	return &f
}

// TestTornWrites: wherever a write is torn, in a story in which everything
// happens, the group converges, and nobody owns what another does.
func TestTornWrites(t *testing.T) {
	forks := 0
	for seed := range uint64(4) {
		w := newWorld(t, rand.New(rand.NewPCG(seed, 3)).IntN)
		for range 60 {
			w.step()
			for _, c := range w.clients {
				if c.paused || c.gone {
					continue
				}
				// What would be written if it sent a heartbeat now?
				probe := w.replayed()
				probe.Start(w.now)
				if records := c.writes(probe, w.now, w.topics); len(records) > 1 {
					for n := 1; n < len(records); n++ {
						w.fork(records, n, c).settle()
						forks++
					}
					break
				}
			}
		}
	}
	if forks < 300 {
		t.Errorf("only %d torn writes", forks)
	}
}
