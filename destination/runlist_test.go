package destination

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// listed are the runs of l, checked to be as the type says: ascending, in
// blocks that are not empty and not too long, none that the one before could
// have had in it.
func listed(t *testing.T, l *runList) (all []run) {
	t.Helper()
	for i, block := range l.blocks {
		if len(block) == 0 || len(block) > blockRuns {
			t.Fatalf("block %d of %d has %d runs", i, len(l.blocks), len(block))
		}
		all = append(all, block...)
	}
	for i := range all {
		if all[i].from >= all[i].to {
			t.Fatalf("run %+v", all[i])
		}
		if i > 0 && (all[i-1].to > all[i].from || all[i-1].continues(&all[i])) {
			t.Fatalf("run %+v behind %+v", all[i], all[i-1])
		}
	}
	if len(l.spare) > 1 {
		t.Fatalf("%d spare blocks", len(l.spare))
	}
	return all
}

// offsets is what a list says of each offset: the run that it would be in alone.
func (l *runList) offsets() map[int64]run {
	single := map[int64]run{}
	for p := (place{}); l.valid(p); p = l.next(p) {
		r := *l.at(p)
		for o := r.from; o < r.to; o++ {
			one := r
			one.from, one.to, one.acquisition = o, o+1, r.acquisition+uint64(o-r.from)
			if r.state != acquired {
				one.acquisition = 0 // of nothing else is it kept right
			}
			single[o] = one
		}
	}
	return single
}

// TestRunList compares a list of many blocks with a map, while it grows and while
// it shrinks.
func TestRunList(t *testing.T) {
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 1))
		const width = 4000
		var l runList
		want := map[int64]run{}
		most := 0
		for step := range 12_000 {
			from := random.Int64N(width)
			to := min(width, from+1+random.Int64N(3))
			free := true
			for o := from; o < to; o++ {
				_, taken := want[o]
				free = free && !taken
			}
			if l.overlaps(from, to) == free {
				t.Fatalf("seed %d step %d: [%d, %d) overlaps %t", seed, step, from, to, free)
			}
			grows := step < 4000 || step > 8000 && step < 10_000
			switch {
			case free && (grows || random.IntN(8) == 0):
				r := run{from: from, to: to, count: 1, state: acquired, acquisition: uint64(from), owner: uint64(random.IntN(2))}
				if random.IntN(4) == 0 {
					r = run{from: from, to: to, count: 1, state: scheduled, until: 5}
				}
				l.insert(r)
				for o := from; o < to; o++ {
					one := r
					if one.from, one.to = o, o+1; r.state == acquired {
						one.acquisition = uint64(o)
					}
					want[o] = one
				}
			case !free && (!grows || random.IntN(4) == 0):
				p := l.seek(from)
				r := *l.at(p)
				from, to = max(from, r.from), min(to, r.to)
				if random.IntN(2) == 0 {
					from, to = r.from, r.to
				}
				l.cut(p, from, to)
				for o := from; o < to; o++ {
					delete(want, o)
				}
			}
			if step%100 == 0 {
				all := listed(t, &l)
				most = max(most, len(l.blocks))
				if n := len(l.blocks); n > 4 && len(all) < n*mergeRuns/4 {
					t.Fatalf("seed %d step %d: %d runs in %d blocks", seed, step, len(all), n)
				}
				got := l.offsets()
				for o := range int64(width) {
					p, found := l.find(o)
					if one, ok := want[o]; ok != found || found && (one != got[o] || l.at(p).from > o || l.at(p).to <= o) {
						t.Fatalf("seed %d step %d: offset %d: %+v, want %+v", seed, step, o, got[o], one)
					}
				}
			}
		}
		if most < 8 {
			t.Errorf("seed %d: %d blocks at most", seed, most)
		}
		for p := (place{}); l.valid(p); p = (place{}) {
			l.cut(p, l.at(p).from, l.at(p).to)
		}
		if len(l.blocks) != 0 {
			t.Errorf("seed %d: %d blocks of nothing", seed, len(l.blocks))
		}
		l.insert(run{from: 1, to: 2})
		if l.clear(); len(listed(t, &l)) != 0 || l.overlaps(0, none) {
			t.Errorf("seed %d: something is left", seed)
		}
	}
}

// A run that fits between two makes one of all three, across blocks too; what
// differs in anything does not.
func TestRunListJoins(t *testing.T) {
	r := func(from, to int64) run {
		return run{from: from, to: to, acquisition: uint64(from), owner: 1, until: 9, count: 1, state: acquired}
	}
	for _, order := range [][]run{{r(1, 3), r(5, 8), r(3, 5)}, {r(5, 8), r(3, 5), r(1, 3)}, {r(1, 3), r(3, 5), r(5, 8)}} {
		var l runList
		for _, one := range order {
			l.insert(one)
		}
		if all := listed(t, &l); !slices.Equal(all, []run{r(1, 8)}) {
			t.Errorf("%+v", all)
		}
	}
	for i, change := range []func(r *run){
		func(r *run) { r.acquisition++ },
		func(r *run) { r.owner++ },
		func(r *run) { r.until++ },
		func(r *run) { r.count++ },
		func(r *run) { r.state = held },
		func(r *run) { r.from++ },
	} {
		second := r(3, 5)
		change(&second)
		var up, down runList
		up.insert(r(1, 3))
		up.insert(second)
		down.insert(second)
		down.insert(r(1, 3))
		if want := []run{r(1, 3), second}; !slices.Equal(listed(t, &up), want) || !slices.Equal(listed(t, &down), want) {
			t.Errorf("change %d: %+v and %+v", i, up.blocks, down.blocks)
		}
	}
	// At the end of a full block, and before the first run of the next.
	var l runList
	for i := range int64(blockRuns + 1) {
		l.insert(r(4*i, 4*i+2))
	}
	last, n := l.blocks[0][len(l.blocks[0])-1], len(listed(t, &l))
	l.insert(r(last.to, last.to+2))
	if all := listed(t, &l); len(all) != n-1 {
		t.Errorf("%d runs, want %d", len(all), n-1)
	}
}
