package destination

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is a cursor as one would write it without a thought for memory: every
// offset has an entry.
type model struct {
	start, next int64
	entries     []entry // of start, start+1, ...
	acquisition uint64
}

type entry struct {
	state       state // 0 is available, modelDone is done
	acquisition uint64
	owner       uint64
	until       int64
	count       int
	// due is when the entry was scheduled for, as long as no delta says that
	// it was acquired since: after a crash it is scheduled again.
	due int64
}

const modelDone = state(100)

func (m *model) at(offset int64) *entry {
	for m.next <= offset {
		m.entries = append(m.entries, entry{})
		m.next++
	}
	return &m.entries[offset-m.start]
}

func (m *model) reach(from, to int64) {
	for m.next < from {
		m.at(m.next).state = modelDone
	}
	if to > m.start {
		m.at(to - 1)
	}
}

func (m *model) each(f func(offset int64, e *entry)) {
	for i := range m.entries {
		f(m.start+int64(i), &m.entries[i])
	}
}

func (m *model) offsets(pred func(e *entry) bool) (found []int64) {
	m.each(func(offset int64, e *entry) {
		if pred(e) {
			found = append(found, offset)
		}
	})
	return found
}

func (m *model) holds(from, to int64, first uint64, h Holder) bool {
	for o := from; o < to; o++ {
		if o < m.start || o >= m.next {
			return false
		}
		e := m.at(o)
		if e.state != acquired || e.acquisition != first+uint64(o-from) || h != anyHolder && e.owner != uint64(h) {
			return false
		}
	}
	return true
}

// crash is what a cursor that is built again from the journal knows.
func (m *model) crash() {
	m.each(func(_ int64, e *entry) {
		switch {
		case e.state == acquired:
			*e = entry{count: e.count}
		case e.state == 0 && e.due > 0:
			e.state, e.until = scheduled, e.due
		}
	})
}

// pair is a cursor, its model, and the journal from which the cursor can be
// built again.
type pair struct {
	c       *Cursor
	m       *model
	journal [][]byte
	now     int64
}

func newPair(start int64) *pair {
	p := &pair{c: NewCursor(start), m: &model{start: start, next: start, acquisition: 1}, now: 1000}
	p.journal = [][]byte{p.c.AppendSnapshot(nil)}
	return p
}

func (p *pair) flush() {
	if d := p.c.TakeDelta(nil); len(d) > 0 {
		p.journal = append(p.journal, d)
	}
}

func (p *pair) rebuild() (*Cursor, error) {
	c, err := RestoreCursor(p.journal[0])
	for _, d := range p.journal[1:] {
		if err == nil {
			err = c.Apply(d)
		}
	}
	return c, err
}

// check compares everything that can be seen.
func (p *pair) check() error {
	c, m := p.c, p.m
	if c.Next() != m.next {
		return fmt.Errorf("next %d, want %d", c.Next(), m.next)
	}
	want := CursorStats{Start: c.Stats().Start, Acknowledged: c.Stats().Acknowledged, Archived: c.Stats().Archived, Passed: c.Stats().Passed}
	floor := m.start
	for floor < m.next && m.at(floor).state == modelDone {
		floor++
	}
	if c.Floor() != floor {
		return fmt.Errorf("floor %d, want %d", c.Floor(), floor)
	}
	var done int64
	var undone []int64
	var failed error
	m.each(func(o int64, e *entry) {
		switch e.state {
		case 0:
			want.Available++
			undone = append(undone, o)
		case acquired:
			want.Acquired++
		case scheduled:
			want.Scheduled++
		case held:
			want.Held++
		case heldSend:
			want.HeldSends++
		case modelDone:
			done++
			if o >= floor {
				want.DoneAboveFloor++
			}
		}
		if n := c.Count(o); e.state != modelDone && n != e.count || e.state == modelDone && n != 0 {
			failed = fmt.Errorf("offset %d: count %d, want %d", o, n, e.count)
		}
		if e.state == acquired {
			if err := c.Check(o, e.acquisition, Holder(e.owner)); err != nil {
				failed = err
			}
		}
		if fresh := c.Scan(o); fresh != (e.state == 0) {
			failed = fmt.Errorf("offset %d: fresh %t, state %d", o, fresh, e.state)
		}
	})
	if failed != nil {
		return failed
	}
	if got := c.Stats(); got != want {
		return fmt.Errorf("stats %+v, want %+v", got, want)
	}
	if s := c.Stats(); s.Acknowledged+s.Archived+s.Passed != done || c.Next()-s.Start != done+s.Available+s.Acquired+s.Scheduled+s.Held+s.HeldSends {
		return fmt.Errorf("Q5: %d done of %+v", done, s)
	}
	if got := slices.Collect(c.Undone(0, none)); !slices.Equal(got, undone) {
		return fmt.Errorf("undone %v, want %v", got, undone)
	}
	return p.checkWake()
}

func (p *pair) checkWake() error {
	want := none
	p.m.each(func(_ int64, e *entry) {
		if e.until > 0 && (e.state == acquired || e.state == scheduled) {
			want = min(want, e.until)
		}
	})
	if got, ok := p.c.NextWake(); ok != (want != none) || ok && got != want {
		return fmt.Errorf("next wake %d %t, want %d", got, ok, want)
	}
	for key, o := range p.c.owners {
		if o.records <= 0 {
			return fmt.Errorf("owner %v of %d records", key, o.records)
		}
	}
	return nil
}

// TestCursorModel compares a cursor with the model under random operations,
// crashes among them (Q1, Q2, Q3, Q5, Q7).
func TestCursorModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(rapid.Int64Range(0, 5).Draw(t, "start"))
		t.Repeat(p.actions())
	})
}

func (p *pair) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"": func(t *rapid.T) {
			if err := p.check(); err != nil {
				t.Fatal(err)
			}
		},
	}
	maps.Copy(actions, p.scanActions())
	maps.Copy(actions, p.settleActions())
	maps.Copy(actions, p.endActions())
	return actions
}

func (p *pair) drawRange(t *rapid.T) (from, to int64) {
	from = rapid.Int64Range(p.m.start, p.m.next+3).Draw(t, "from")
	return from, from + rapid.Int64Range(1, 8).Draw(t, "length")
}

// drawHeld draws a range of a holder, mostly a right one.
func (p *pair) drawHeld(t *rapid.T) (from, to int64, first uint64, h Holder) {
	offsets := p.m.offsets(func(e *entry) bool { return e.state == acquired })
	if len(offsets) == 0 {
		t.Skip("nothing is acquired")
	}
	from = rapid.SampledFrom(offsets).Draw(t, "from")
	e := p.m.at(from)
	to = from + 1
	for length := rapid.Int64Range(1, 6).Draw(t, "length"); to-from < length && p.m.holds(from, to+1, e.acquisition, Holder(e.owner)); to++ {
	}
	first, h = e.acquisition, Holder(e.owner)
	switch rapid.IntRange(0, 15).Draw(t, "wrong") {
	case 0:
		first++
	case 1:
		h++
	case 2:
		to++
	case 3:
		h = anyHolder
	}
	return from, to, first, h
}

func (p *pair) drawUntil(t *rapid.T) int64 {
	return max(0, p.now+rapid.Int64Range(-3, 5).Draw(t, "until"))
}

func (p *pair) scanActions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"scan": func(t *rapid.T) {
			o := rapid.Int64Range(p.m.next, p.m.next+3).Draw(t, "offset")
			p.m.reach(o, o+1)
			if !p.c.Scan(o) {
				t.Fatalf("offset %d is not fresh", o)
			}
		},
		"scanTo": func(t *rapid.T) {
			n := rapid.Int64Range(p.m.start, p.m.next+5).Draw(t, "next")
			for p.m.next < n {
				p.m.at(p.m.next)
			}
			p.c.ScanTo(n)
		},
		"pass": func(t *rapid.T) {
			from, to := p.drawRange(t)
			for o := from; o < to; o++ {
				if e := p.m.at(o); e.state != acquired && e.state != held {
					*e = entry{state: modelDone}
				}
			}
			p.c.Pass(from, to)
		},
		"archive": func(t *rapid.T) {
			from, to := p.drawRange(t)
			want := true
			for o := from; o < min(to, p.m.next); o++ {
				s := p.m.at(o).state
				want = want && (s == 0 || s == acquired || s == scheduled)
			}
			if got := p.c.ArchiveRange(from, to); got != want {
				t.Fatalf("archived %t, want %t", got, want)
			}
			if want {
				p.m.reach(from, to)
				for o := from; o < to; o++ {
					*p.m.at(o) = entry{state: modelDone}
				}
			}
		},
		"schedule": func(t *rapid.T) {
			o, _ := p.drawRange(t)
			due := p.drawUntil(t)
			want := o >= p.m.next || p.m.at(o).state == 0
			if want {
				p.m.reach(o, o+1)
				e := p.m.at(o)
				e.state, e.until, e.due = scheduled, due, due
			}
			if got := p.c.Schedule(o, due); got != want {
				t.Fatalf("scheduled %t, want %t", got, want)
			}
		},
		"acquire": func(t *rapid.T) {
			o, _ := p.drawRange(t)
			h := rapid.Uint64Range(1, 3).Draw(t, "holder")
			until := p.drawUntil(t) * rapid.Int64Range(0, 1).Draw(t, "locked")
			want := o >= p.m.next || p.m.at(o).state == 0
			number, count, got := p.c.Acquire(o, Holder(h), until)
			if got != want {
				t.Fatalf("acquired %t, want %t", got, want)
			}
			if want {
				p.m.reach(o, o+1)
				p.acquire(o, h, until)
				if e := p.m.at(o); number != e.acquisition || count != e.count {
					t.Fatalf("acquisition %d count %d, want %+v", number, count, *e)
				}
			}
		},
		"acquireRange": func(t *rapid.T) {
			from, to := p.drawRange(t)
			h := rapid.Uint64Range(1, 3).Draw(t, "holder")
			want := true
			for o := from; o < min(to, p.m.next); o++ {
				want = want && p.m.at(o).state == 0 && p.m.at(o).count == 0
			}
			first, got := p.c.AcquireRange(from, to, Holder(h), 0)
			if got != want || got && first != p.m.acquisition {
				t.Fatalf("acquired %t from %d, want %t from %d", got, first, want, p.m.acquisition)
			}
			if want {
				p.m.reach(from, to)
				for o := from; o < to; o++ {
					p.acquire(o, h, 0)
				}
			}
		},
		"holdSend": func(t *rapid.T) {
			from, to := p.drawRange(t)
			producer := rapid.Uint64Range(1, 3).Draw(t, "producer")
			p.m.reach(from, to)
			for o := from; o < to; o++ {
				if e := p.m.at(o); e.state == 0 {
					e.state, e.owner, e.due = heldSend, producer, 0
				}
			}
			p.c.HoldSend(from, to, producer)
		},
	}
}

func (p *pair) acquire(o int64, h uint64, until int64) {
	e := p.m.at(o)
	*e = entry{state: acquired, acquisition: p.m.acquisition, owner: h, until: until, count: e.count + 1}
	p.m.acquisition++
}

// settle checks the verdict on a token and calls f with each entry if it is good.
func (p *pair) settle(t *rapid.T, err error, want bool, from, to int64, f func(e *entry)) {
	if (err == nil) != want || err != nil && !errors.Is(err, ErrStaleToken) {
		t.Fatalf("settled %v, want %t", err, want)
	}
	if want {
		for o := from; o < to; o++ {
			f(p.m.at(o))
		}
	}
}

func (p *pair) settleActions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"acknowledge": func(t *rapid.T) {
			from, to, first, h := p.drawHeld(t)
			want := p.m.holds(from, to, first, h)
			p.settle(t, p.c.AcknowledgeRange(from, to, first, h), want, from, to, func(e *entry) {
				*e = entry{state: modelDone}
			})
		},
		"release": func(t *rapid.T) {
			from, to, first, h := p.drawHeld(t)
			want := p.m.holds(from, to, first, h)
			due := rapid.Int64Range(0, 1).Draw(t, "delayed") * p.drawUntil(t)
			back := rapid.Bool().Draw(t, "countBack")
			p.settle(t, p.c.ReleaseRange(from, to, first, h, due, back), want, from, to, func(e *entry) {
				release(e, back)
				if due > 0 {
					e.state, e.until, e.due = scheduled, due, due
				}
			})
		},
		"hold": func(t *rapid.T) {
			from, to, first, h := p.drawHeld(t)
			txn := rapid.Uint64Range(1, 3).Draw(t, "txn")
			want := p.m.holds(from, to, first, h)
			p.settle(t, p.c.HoldRange(from, to, first, h, txn), want, from, to, func(e *entry) {
				*e = entry{state: held, owner: txn, count: e.count}
			})
		},
		"extend": func(t *rapid.T) {
			from, _, first, _ := p.drawHeld(t)
			want := p.m.holds(from, from+1, first, anyHolder)
			until := p.drawUntil(t)
			p.settle(t, p.c.Extend(from, first, until), want, from, from+1, func(e *entry) { e.until = until })
		},
	}
}

func release(e *entry, back bool) {
	if back {
		e.count--
	}
	*e = entry{count: e.count}
}

func (p *pair) endActions() map[string]func(*rapid.T) {
	// end checks that the offsets are those that match, and changes them.
	end := func(t *rapid.T, got []int64, match func(*entry) bool, change func(*entry)) {
		want := p.m.offsets(match)
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for _, o := range want {
			change(p.m.at(o))
		}
	}
	return map[string]func(*rapid.T){
		"endHold": func(t *rapid.T) {
			txn, commit := rapid.Uint64Range(1, 3).Draw(t, "txn"), rapid.Bool().Draw(t, "commit")
			end(t, p.c.EndHold(txn, commit),
				func(e *entry) bool { return e.state == held && e.owner == txn },
				func(e *entry) {
					if *e = (entry{count: e.count}); commit {
						e.state = modelDone
					}
				})
		},
		"endSend": func(t *rapid.T) {
			producer, commit := rapid.Uint64Range(1, 3).Draw(t, "producer"), rapid.Bool().Draw(t, "commit")
			end(t, p.c.EndSend(producer, commit),
				func(e *entry) bool { return e.state == heldSend && e.owner == producer },
				func(e *entry) {
					if *e = (entry{count: e.count}); !commit {
						e.state = modelDone
					}
				})
		},
		"releaseHolder": func(t *rapid.T) {
			h, back := rapid.Uint64Range(1, 3).Draw(t, "holder"), rapid.Bool().Draw(t, "countBack")
			end(t, p.c.ReleaseHolder(Holder(h), back),
				func(e *entry) bool { return e.state == acquired && e.owner == h },
				func(e *entry) { release(e, back) })
		},
		"expireLocks": func(t *rapid.T) {
			p.now++
			end(t, p.c.ExpireLocks(p.now),
				func(e *entry) bool { return e.state == acquired && e.until > 0 && e.until <= p.now },
				func(e *entry) { release(e, false) })
		},
		"dueScheduled": func(t *rapid.T) { p.dueScheduled(t) },
		"flush":        func(*rapid.T) { p.flush() },
		"snapshot": func(*rapid.T) {
			p.c.TakeDelta(nil)
			p.journal = [][]byte{p.c.AppendSnapshot(nil)}
			p.m.each(func(_ int64, e *entry) {
				if e.state == 0 {
					e.due = 0
				}
			})
		},
		"crash": func(t *rapid.T) {
			p.flush()
			c, err := p.rebuild()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := c.Stats(), p.c.Stats(); got.Acknowledged != want.Acknowledged || got.Archived != want.Archived || got.Passed != want.Passed {
				t.Fatalf("stats %+v, want %+v", got, want)
			}
			p.c = c
			p.m.crash()
		},
	}
}

// dueScheduled may take the due ones in any order of equal times.
func (p *pair) dueScheduled(t *rapid.T) {
	p.now++
	limit := rapid.IntRange(1, 10).Draw(t, "limit")
	due := p.m.offsets(func(e *entry) bool { return e.state == scheduled && e.until <= p.now })
	got := p.c.DueScheduled(p.now, limit)
	if len(got) != min(limit, len(due)) || !slices.IsSorted(got) {
		t.Fatalf("got %v of %v", got, due)
	}
	slices.SortFunc(due, func(a, b int64) int { return cmp.Compare(p.m.at(a).until, p.m.at(b).until) })
	for _, o := range got {
		if e := p.m.at(o); !slices.Contains(due, o) || e.until > p.m.at(due[len(got)-1]).until {
			t.Fatalf("%d is not among the first due", o)
		}
	}
	for _, o := range got {
		e := p.m.at(o)
		e.state, e.until = 0, 0
	}
}
