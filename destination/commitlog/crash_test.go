package commitlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// modelLog is what a log should hold.
type modelLog struct {
	start, end int64
	batches    []got
	counts     []int64
}

func (m *modelLog) clone() *modelLog {
	return &modelLog{m.start, m.end, slices.Clone(m.batches), slices.Clone(m.counts)}
}

func (m *modelLog) append(v string, count int64) {
	m.batches, m.counts = append(m.batches, got{m.end, v}), append(m.counts, count)
	m.end += count
}

// visible leaves out the batches that end below the start.
func (m *modelLog) visible() []got {
	if m.counts == nil { // it was read, not modelled
		return m.batches
	}
	for i, b := range m.batches {
		if b.base+m.counts[i] > m.start {
			return m.batches[i:]
		}
	}
	return nil
}

func (m *modelLog) truncate(offset int64) {
	for n := len(m.batches); n > 0 && m.batches[n-1].base+m.counts[n-1] > offset; n-- {
		m.batches, m.counts = m.batches[:n-1], m.counts[:n-1]
	}
	m.end = offset
}

// model is the state of all logs after the first operations of a workload.
type model map[LogID]*modelLog

func (m model) clone() model {
	c := model{}
	for id, l := range m {
		c[id] = l.clone()
	}
	return c
}

// workload runs random operations on a store, one after the other, and remembers the state after each. An operation is
// done when it was confirmed. After a crash the store must hold the state after one of the operations that is not before
// the last that was confirmed: everything confirmed, nothing else but what was under way, in order, commits whole.
type workload struct {
	t         testing.TB
	store     *Store
	rnd       *rand.Rand
	states    []model // after 0, 1, 2... operations
	confirmed int     // operations
	waits     []func() error
	logs      []*Log // one for each directory
	ids       int
	values    int
}

const workloadDirs = 4

func newWorkload(t testing.TB, s *Store, seed uint64) *workload {
	return &workload{t: t, store: s, rnd: rand.New(rand.NewPCG(seed, 1)), states: []model{{}}, logs: make([]*Log, workloadDirs)}
}

func (w *workload) config() Config { return Config{SegmentBytes: 6000} }

func (w *workload) log(i int) *Log {
	if w.logs[i] == nil {
		w.ids++
		id := LogID{Partition: int32(i)}
		id.Topic[3] = byte(w.ids)
		l, err := w.store.OpenLog(id, fmt.Sprintf("dir-%d", i), w.config())
		if err != nil {
			w.t.Fatal(err)
		}
		w.logs[i] = l
	}
	return w.logs[i]
}

// next begins a new state.
func (w *workload) next() model {
	m := w.states[len(w.states)-1].clone()
	w.states = append(w.states, m)
	return m
}

func (m model) log(l *Log) *modelLog {
	if m[l.id] == nil {
		m[l.id] = &modelLog{}
	}
	return m[l.id]
}

// settle waits for all that is under way.
func (w *workload) settle() error {
	for len(w.waits) > 0 {
		wait := w.waits[0]
		w.waits = w.waits[1:]
		if err := wait(); err != nil {
			return err
		}
		w.confirmed++
	}
	return nil
}

func (w *workload) wait(c waitFor) {
	w.waits = append(w.waits, func() error { return <-c })
}

func (w *workload) value() (string, int) {
	w.values++
	return fmt.Sprintf("%06d%s", w.values, strings.Repeat("v", w.rnd.IntN(1500))), 1 + w.rnd.IntN(3)
}

// now is for operations that wait themselves: the state counts from its call on.
func (w *workload) now(change func(model), call func() error) error {
	if err := w.settle(); err != nil {
		return err
	}
	change(w.next())
	if err := call(); err != nil {
		return err
	}
	w.confirmed++
	return nil
}

// step does one operation.
func (w *workload) step() error {
	i := w.rnd.IntN(workloadDirs)
	l := w.log(i)
	n := w.rnd.IntN(100)
	if n < 75 && w.rnd.IntN(2) == 0 { // the appends of half the steps are committed by this goroutine
		w.store.Hold()
		defer w.store.Release(w.rnd.IntN(3) == 0, nil)
	}
	switch {
	case n < 55:
		v, count := w.value()
		c := make(waitFor, 1)
		if _, err := l.Append(batchOf(v, count, 1000), c); err != nil {
			return err
		}
		w.next().log(l).append(v, int64(count))
		w.wait(c)
		return nil
	case n < 75:
		return w.commit()
	case n < 79:
		end := w.states[len(w.states)-1].log(l)
		offset := end.start + w.rnd.Int64N(end.end-end.start+1)
		return w.now(func(m model) { m.log(l).truncate(offset) }, func() error { return l.TruncateTo(offset) })
	case n < 83:
		if err := w.settle(); err != nil {
			return err
		}
		m := w.states[len(w.states)-1].log(l)
		offset := m.start + w.rnd.Int64N(m.end-m.start+1)
		return w.now(func(m model) { m.log(l).start = offset }, func() error { return l.AdvanceStart(offset) })
	case n < 86:
		offset := w.states[len(w.states)-1].log(l).end + w.rnd.Int64N(20)
		return w.now(func(m model) { m.log(l).end = offset }, func() error { return l.SkipTo(offset) })
	case n < 88:
		w.logs[i] = nil
		return w.now(func(m model) { delete(m, l.id) }, l.Delete)
	case n < 92:
		return w.store.Checkpoint(context.Background())
	default:
		return w.settle()
	}
}

func (w *workload) commit() error {
	var ws []Write
	m := w.states[len(w.states)-1].clone()
	for range 1 + w.rnd.IntN(4) {
		l := w.log(w.rnd.IntN(workloadDirs))
		v, count := w.value()
		ws = append(ws, Write{Log: l, Batches: batchOf(v, count, 1000)})
		m.log(l).append(v, int64(count))
	}
	c := make(waitFor, 1)
	if err := w.store.Commit(ws, c); err != nil {
		return err
	}
	w.states = append(w.states, m)
	w.wait(c)
	return nil
}

// state reads all logs of a store.
func state(s *Store) (model, error) {
	m := model{}
	for id, l := range s.logs {
		list, err := readFrom(l, l.Start(), 2000)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.dir, err)
		}
		m[id] = &modelLog{start: l.Start(), end: l.End(), batches: list}
		if l.Stable() != l.End() {
			return nil, fmt.Errorf("%s: stable %d, end %d", l.dir, l.Stable(), l.End())
		}
	}
	return m, nil
}

// differs compares what was read with the model; a log without anything in it need not exist.
func differs(have, want model) string {
	ids := map[LogID]bool{}
	for id := range have {
		ids[id] = true
	}
	for id := range want {
		ids[id] = true
	}
	for id := range ids {
		h, w := have.get(id), want.get(id)
		visible := w.visible()
		if h.start != w.start || h.end != w.end || !slices.Equal(h.batches, visible) {
			return fmt.Sprintf("%s: start %d end %d with %d batches %s, want %d to %d with %d %s", id, h.start, h.end, len(h.batches),
				bases(h.batches), w.start, w.end, len(visible), bases(visible))
		}
	}
	return ""
}

func (m model) get(id LogID) *modelLog {
	if l := m[id]; l != nil {
		return l
	}
	return &modelLog{}
}

func bases(list []got) (s string) {
	for _, g := range list {
		s += fmt.Sprintf(" %d:%.6s", g.base, g.value)
	}
	return s
}

// check finds the state that the store is in.
func (w *workload) check(s *Store) (model, error) {
	have, err := state(s)
	if err != nil {
		return nil, err
	}
	if d := s.Recovery().Damaged; len(d) > 0 {
		return nil, fmt.Errorf("a crash alone damages nothing: %w", d[0])
	}
	if n := s.Stats().Damaged; n > 0 {
		return nil, fmt.Errorf("%d damaged ranges were read", n)
	}
	first := ""
	for k := w.confirmed; k < len(w.states); k++ {
		d := differs(have, w.states[k])
		if d == "" {
			return have, nil
		}
		first += "\n" + d
	}
	return nil, fmt.Errorf("no state from %d to %d: %s", w.confirmed, len(w.states)-1, first)
}

// run does the workload until it is over or the file system stops.
func (w *workload) run(steps int) {
	for range steps {
		if err := w.step(); err != nil {
			return
		}
		if len(w.waits) > 10 && w.settle() != nil {
			return
		}
	}
	_ = w.settle()
}

// TestCrashAnywhere shows S1 and S2: a crash at every call that changes the disk, and another one in the recovery.
func TestCrashAnywhere(t *testing.T) {
	const steps = 80
	began := time.Now()
	runs := 0
	for seed := uint64(1); seed <= 12; seed++ {
		fs := NewMemFS()
		s := open(t, fs, small())
		w := newWorkload(t, s, seed)
		w.run(steps)
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		if have, err := state(s); err != nil || differs(have, w.states[len(w.states)-1]) != "" {
			t.Fatalf("seed %d: %v %s", seed, err, differs(have, w.states[len(w.states)-1]))
		}
		_ = s.Close()
		calls := fs.Count(OpAny)
		step := 1
		if seed > 2 || testing.Short() { // every call for two workloads, some for the others
			step = 37
		}
		for n := 1; n < calls; n += step {
			crashOnce(t, seed, steps, n)
			if t.Failed() {
				return
			}
			runs++
		}
	}
	t.Logf("%d crashes in %v", runs, time.Since(began))
}

func crashOnce(t *testing.T, seed uint64, steps, n int) {
	t.Helper()
	fs := NewMemFS()
	fs.StopAt(n)
	w := &workload{states: []model{{}}}
	if s, err := Open(fs, small()); err == nil {
		w = newWorkload(t, s, seed)
		w.run(steps)
		_ = s.Close()
	}
	fs = fs.Crash(seed + uint64(n))
	// A crash in the recovery must not matter.
	fs.StopAt(1 + n%40)
	if s, err := Open(fs, small()); err == nil {
		_ = s.Close()
	}
	fs = fs.Crash(seed)
	s, err := Open(fs, small())
	if err != nil {
		t.Errorf("seed %d, call %d: %v\n%s", seed, n, err, fs)
		return
	}
	first, err := w.check(s)
	if err != nil {
		t.Errorf("seed %d, call %d: %v\n%s\n%+v", seed, n, err, fs, s.Recovery())
		_ = s.Close()
		return
	}
	if n%4 == 0 { // more runs than were replayed
		if err := goOn(s, first, 25); err != nil {
			t.Errorf("seed %d, call %d: %v", seed, n, err)
		}
	}
	// A second crash at once changes nothing, and the store goes on.
	fs.Stop()
	_ = s.Close()
	fs = fs.Crash(seed + 1)
	s, err = Open(fs, small())
	if err != nil {
		t.Errorf("seed %d, call %d, again: %v", seed, n, err)
		return
	}
	second, err := state(s)
	if err == nil {
		if d := differs(second, first); d != "" {
			err = fmt.Errorf("recovered twice: %s", d)
		}
	}
	if err == nil {
		err = goOn(s, second, 2)
	}
	if err != nil {
		t.Errorf("seed %d, call %d, again: %v", seed, n, err)
	}
	_ = s.Close()
}

// goOn appends to every log of a store and reads it all back.
func goOn(s *Store, m model, appends int) error {
	for _, l := range s.logs {
		for i := range appends {
			w := make(waitFor, 1)
			v := fmt.Sprint("after ", i)
			base, err := l.Append(batchOf(v, 1, 1), w)
			if err == nil {
				err = <-w
			}
			if err != nil {
				return err
			}
			m[l.id].batches = append(m[l.id].batches, got{base, v})
			m[l.id].end++
		}
	}
	have, err := state(s)
	if err != nil {
		return err
	}
	if d := differs(have, m); d != "" {
		return fmt.Errorf("after the recovery: %s", d)
	}
	return nil
}
