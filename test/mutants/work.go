package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// shuffle puts mutants in an order that seed decides, any beginning of which has
// of each file as many as it has of all.
func shuffle(all []mutant, seed uint64) []mutant {
	files := map[string][]mutant{}
	for _, m := range all {
		files[m.file.shown] = append(files[m.file.shown], m)
	}
	type placed struct {
		mutant
		at float64 // 0 is the begin, 1 the end
	}
	var order []placed
	for name, own := range files {
		h := fnv.New64a()
		h.Write([]byte(name))
		random := rand.New(rand.NewPCG(seed, h.Sum64()))
		random.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
		shift := random.Float64()
		for i, m := range own {
			order = append(order, placed{m, (float64(i) + shift) / float64(len(own))})
		}
	}
	slices.SortFunc(order, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.file.shown, b.file.shown))
	})
	queue := make([]mutant, len(order))
	for i, p := range order {
		queue[i] = p.mutant
	}
	return queue
}

// work is a run of mutants by several workers.
type work struct {
	config config
	tester *tester

	mu       sync.Mutex // guards what follows
	queue    []mutant
	results  *results
	report   *report
	underWay int
	deadline time.Time
	err      error
}

func (w *work) run(ctx context.Context) error {
	w.deadline = time.Now().Add(math.MaxInt64)
	if w.config.duration > 0 {
		w.deadline = time.Now().Add(w.config.duration)
	}
	var workers sync.WaitGroup
	idle := sync.NewCond(&w.mu)
	for range w.config.workers {
		workers.Go(func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			for {
				m, more := w.next(ctx)
				if m == nil && more {
					idle.Wait() // for what is under way: it may turn out not to count
					continue
				}
				if m == nil {
					idle.Broadcast()
					return
				}
				w.underWay++
				w.mu.Unlock()
				started := time.Now()
				fate, by, err := w.tester.try(ctx, *m)
				w.mu.Lock()
				w.underWay--
				w.done(ctx, *m, fate, by, time.Since(started), err)
				idle.Broadcast()
			}
		})
	}
	workers.Wait()
	return w.err
}

// next is the next mutant to run, whose tests are known to pass without it. If
// there is none, more says whether there may be one when another is done. Those
// of which the result is known are counted on the way. The caller holds mu.
func (w *work) next(ctx context.Context) (m *mutant, more bool) {
	for {
		switch {
		case w.err != nil:
			return nil, false
		case len(w.report.records) >= w.config.n || len(w.queue) == 0:
			return nil, false
		case len(w.report.records)+w.underWay >= w.config.n:
			return nil, true
		case ctx.Err() != nil || time.Now().After(w.deadline):
			w.report.stopped = true
			return nil, false
		}
		m := w.queue[0]
		w.queue = w.queue[1:]
		if one, ok := w.results.byID[m.id()]; ok && (one.Fate != survived || !w.config.again) {
			w.report.add(one)
			continue
		}
		if !m.pkg.compiles(m.file, m.point.applied(m.file.source)) {
			continue
		}
		for _, s := range m.suites {
			if err := w.tester.measure(ctx, s); err != nil {
				if w.report.stopped = ctx.Err() != nil; !w.report.stopped {
					w.err = err
				}
				return nil, false
			}
		}
		return &m, true
	}
}

// done keeps a result. The caller holds mu.
func (w *work) done(ctx context.Context, m mutant, fate, by string, took time.Duration, err error) {
	if ctx.Err() != nil {
		return // by which it was cut short
	}
	if err == nil {
		one := record{m.id(), m.file.shown, m.line(), m.point.kind, m.point.diff(m.file.source), fate, by, took.Seconds()}
		w.report.add(one)
		err = w.results.add(one)
	}
	w.err = errors.Join(w.err, err)
	fmt.Fprintf(w.config.progress, "\r\x1b[K%d of %d, %d survived", len(w.report.records), w.config.n, w.report.count(survived))
}
