package main

import (
	"os"
	"path/filepath"
	"testing"
)

// story is what happens to one message of each kind when all goes well: a
// plain one, a dead letter, one that may expire, and a unit of work.
func story() []event {
	plain := item{View: viewPlain, Producer: 1, Sequence: 0, Flags: ordered}
	next := item{View: viewPlain, Producer: 1, Sequence: 1, Flags: ordered}
	dead := item{View: viewPoison, Producer: 1, Sequence: 0}
	short := item{View: viewExpiry, Producer: 1, Sequence: 0, Flags: mortal}
	in := item{View: viewTxIn, Producer: 1, Sequence: 0}
	a, b := item{View: viewTxA, Producer: 2, Sequence: 0}, item{View: viewTxB, Producer: 2, Sequence: 0}
	unit := func(k kind) event { return event{Kind: k, Producer: 2, Sequence: 0, Aux: 1} }
	return []event{
		plain.event(sending, 0), plain.event(sent, 0), next.event(sending, 0), next.event(sent, 0),
		plain.event(arrived, 3), plain.event(acking, 3), plain.event(acked, 3),
		next.event(arrived, 3), next.event(acking, 3), next.event(acked, 3),
		dead.event(sending, 0), dead.event(sent, 0), dead.event(arrived, 3), dead.event(died, 3), dead.event(burying, 3), dead.event(buried, 3),
		short.event(sending, 0), short.event(sent, 0),
		in.event(sending, 0), in.event(sent, 0), in.event(arrived, 2), a.event(attempt, 0), in.event(attemptOf, 2), unit(committing), unit(committed),
		a.event(arrived, 3), a.event(acking, 3), a.event(acked, 3), b.event(arrived, 3), b.event(acking, 3), b.event(acked, 3),
	}
}

func TestGoodStory(t *testing.T) {
	l := newLedger()
	for _, e := range story() {
		l.note(e)
	}
	want := totals{Confirmed: 7, Acknowledged: 5, Dead: 1, Expired: 1, Units: 1}
	if got := l.finish(); got != want || l.Faults.any() {
		t.Errorf("%+v, want %+v; %+v %v", got, want, l.Faults, l.Examples)
	}
	for v := range views {
		least, most := l.bounds(v)
		if v == viewExpiry && least == 0 && most == 1 || least == 0 && most == 0 {
			continue
		}
		t.Errorf("%s: between %d and %d are left", viewNames[v], least, most)
	}
}

// TestFaults has each fault found that is put into the good story.
func TestFaults(t *testing.T) {
	plain := item{View: viewPlain, Producer: 1, Sequence: 0, Flags: ordered}
	next := item{View: viewPlain, Producer: 1, Sequence: 1, Flags: ordered}
	in := item{View: viewTxIn, Producer: 1, Sequence: 0}
	without := func(k kind, v view) func([]event) []event {
		return func(all []event) (rest []event) {
			for _, e := range all {
				if e.Kind != k || e.View != v {
					rest = append(rest, e)
				}
			}
			return rest
		}
	}
	and := func(fs ...func([]event) []event) func([]event) []event {
		return func(all []event) []event {
			for _, f := range fs {
				all = f(all)
			}
			return all
		}
	}
	more := func(events ...event) func([]event) []event {
		return func(all []event) []event { return append(all, events...) }
	}
	again := item{View: viewTxA, Producer: 2, Sequence: 1}
	other := item{View: viewTxB, Producer: 2, Sequence: 1}
	second := event{Kind: committed, Producer: 2, Sequence: 1, Aux: 1}
	begun := event{Kind: committing, Producer: 2, Sequence: 1, Aux: 1}
	for name, c := range map[string]struct {
		change func([]event) []event
		want   faults
	}{
		"lost":              {and(without(arrived, viewPlain), without(acking, viewPlain), without(acked, viewPlain)), faults{Lost: 2}},
		"lost by a unit":    {and(without(arrived, viewTxA), without(arrived, viewTxB)), faults{Lost: 2}}, // its messages, and so the one it took
		"came back":         {more(plain.event(arrived, 4)), faults{CameBack: 1}},
		"dead and buried":   {more(item{View: viewPoison, Producer: 1}.event(died, 3)), faults{CameBack: 1}},
		"dead and done":     {more(plain.event(died, 3)), faults{CameBack: 1}},
		"taken again":       {more(in.event(arrived, 2)), faults{CameBack: 1}},
		"never sent":        {more(item{View: viewPriority, Producer: 9}.event(arrived, 3)), faults{Ghosts: 1}},
		"refused":           {more(item{View: viewPriority, Producer: 9}.event(sending, 3), item{View: viewPriority, Producer: 9}.event(unsent, 3), item{View: viewPriority, Producer: 9}.event(arrived, 3)), faults{Ghosts: 1}},
		"undone, and there": {more(event{Kind: rolledBack, Producer: 2, Sequence: 0, Aux: 1}), faults{Ghosts: 1}},
		"never committed":   {more(again.event(attempt, 0), in.event(attemptOf, 2), again.event(arrived, 3), other.event(arrived, 3)), faults{Ghosts: 2, Doubled: 1}},
		"torn":              {without(arrived, viewTxB), faults{Torn: 1, Lost: 1}}, // what it took counts as done only with both
		"taken twice":       {more(again.event(attempt, 0), in.event(attemptOf, 2), begun, second, again.event(arrived, 3), other.event(arrived, 3)), faults{Doubled: 2}},
		"out of order": {func(all []event) []event {
			l := without(arrived, viewPlain)(all)
			return append(l[:4:4], append([]event{next.event(arrived, 3), plain.event(arrived, 3)}, l[4:]...)...)
		}, faults{Disorder: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			for _, e := range c.change(story()) {
				l.note(e)
			}
			l.finish()
			if l.Faults != c.want {
				t.Errorf("%+v, want %+v: %v", l.Faults, c.want, l.Examples)
			}
		})
	}
}

// TestBounds has doubt widen what the broker may have.
func TestBounds(t *testing.T) {
	l := newLedger()
	m := func(n uint32, kinds ...kind) {
		for _, k := range kinds {
			l.note(item{View: viewPlain, Producer: 1, Sequence: n}.event(k, 0))
		}
	}
	m(0, sending, sent)                         // there
	m(1, sending)                               // in doubt
	m(2, sending, sent, arrived, acking)        // in doubt, too
	m(3, sending, sent, arrived, acking, acked) // gone
	m(4, sending, unsent)                       // refused
	m(5, sending, sent, arrived, acking, unacked)
	if least, most := l.bounds(viewPlain); least != 2 || most != 4 {
		t.Errorf("between %d and %d, want 2 and 4", least, most)
	}
	in := item{View: viewXAIn, Producer: 1}
	for n := range uint32(3) {
		l.note(item{View: viewXAA, Producer: 2, Sequence: n}.event(attempt, 0))
		l.note(in.event(attemptOf, 2))
	}
	l.note(event{Kind: committing, Producer: 2, Sequence: 0, Aux: 2})
	l.note(event{Kind: committed, Producer: 2, Sequence: 0, Aux: 1})
	for _, v := range []view{viewXAA, viewXAB} {
		if least, most := l.bounds(v); least != 1 || most != 2 {
			t.Errorf("%s: between %d and %d, want 1 and 2", viewNames[v], least, most)
		}
	}
}

// TestJournal has events come out as they went in, also when they are read
// while they are written.
func TestJournal(t *testing.T) {
	name := filepath.Join(t.TempDir(), "events-1")
	j, err := openJournal(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := &tail{f: f}
	var got []event
	want := story()
	for i, e := range want {
		j.write(e)
		if i%7 == 0 {
			if got, err = r.read(got); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err = r.read(got); err != nil || len(got) != len(want) {
		t.Fatalf("%d of %d events, %v", len(got), len(want), err)
	}
	last := int64(0)
	for i, e := range got {
		if e.At < last {
			t.Errorf("event %d is before its predecessor", i)
		}
		last, e.At = e.At, 0
		if e != want[i] {
			t.Errorf("event %d is %+v, want %+v", i, e, want[i])
		}
	}
}

// TestInterleaved has two transactors begin attempts at the same time: what
// each took stays its own.
func TestInterleaved(t *testing.T) {
	l := newLedger()
	in := func(n uint32) item { return item{View: viewTxIn, Producer: 1, Sequence: n} }
	for n := range uint32(2) {
		l.note(in(n).event(sending, 0))
		l.note(in(n).event(sent, 0))
	}
	for _, producer := range []uint32{2, 3} {
		l.note(item{View: viewTxA, Producer: producer}.event(attempt, 0))
	}
	for n, producer := range []uint32{2, 3} {
		l.note(in(uint32(n)).event(attemptOf, producer))
	}
	for _, producer := range []uint32{2, 3} {
		l.note(event{Kind: committing, Producer: producer, Aux: 1})
		l.note(event{Kind: committed, Producer: producer, Aux: 1})
		for _, v := range []view{viewTxA, viewTxB} {
			l.note(item{View: v, Producer: producer}.event(arrived, 9))
		}
	}
	want := totals{Confirmed: 6, Acknowledged: 6, Units: 2}
	if got := l.finish(); got != want || l.Faults.any() {
		t.Errorf("%+v, want %+v; %+v %v", got, want, l.Faults, l.Examples)
	}
}
