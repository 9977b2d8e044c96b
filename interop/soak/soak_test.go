package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

var (
	work = place{workTopic, 0}
	made = place{madeTopic, 1}
	side = place{"soak-a", 2}
)

func of(producer int, number int64) transactionID { return transactionID{1, producer, number} }

// found compares what was found, kind by kind.
func found(t *testing.T, f *faults, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for kind, n := range f.Counts {
		if n != 0 {
			got[kind] = n
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("found %v, not %v; %v", got, want, f.Examples)
	}
}

func TestStampSurvives(t *testing.T) {
	for _, s := range []stamp{
		{transactionID: of(3, 17), Position: 2, Count: 5},
		{transactionID: of(3, 18), Position: 0, Count: 1, Abort: true, From: &origin{of(0, 9), 4}},
	} {
		value := s.value(40)
		got, err := parseStamp(value)
		if err != nil || got.String() != s.String() {
			t.Errorf("%q is %v, %v", value, got, err)
		}
		for i := range value {
			damaged := append([]byte{}, value...)
			damaged[i] ^= 1
			if _, err := parseStamp(damaged); err == nil {
				t.Errorf("%q is not what was produced, and passes", damaged)
			}
		}
	}
}

func TestLedger(t *testing.T) {
	one, two, three := of(0, 1), of(0, 2), of(0, 3)
	type step = func(l *ledger)
	begun := func(id transactionID, n int) step { return func(l *ledger) { l.begun(id, n) } }
	ended := func(id transactionID, n int, o outcome) step { return func(l *ledger) { l.ended(id, n, o) } }
	read := func(at place, offset int64, s stamp) step {
		return func(l *ledger) { l.read(at, offset, s.value(10)) }
	}
	record := func(id transactionID, i, n int) stamp { return stamp{transactionID: id, Position: i, Count: n} }
	madeFrom := func(id transactionID, i, n int, from transactionID, position int) stamp {
		return stamp{transactionID: id, Position: i, Count: n, From: &origin{from, position}}
	}
	for name, c := range map[string]struct {
		steps []step
		want  map[string]int
	}{
		"whole": {
			[]step{begun(one, 2), read(side, 0, record(one, 0, 2)), ended(one, 2, committed), read(side, 1, record(one, 1, 2))},
			nil,
		},
		"aborted and not there":        {[]step{begun(one, 2), ended(one, 2, aborted)}, nil},
		"in doubt and not there":       {[]step{begun(one, 2), ended(one, 2, doubt)}, nil},
		"in doubt and whole":           {[]step{ended(one, 1, doubt), read(side, 0, record(one, 0, 1))}, nil},
		"of a session without journal": {[]step{read(side, 0, record(one, 0, 1))}, nil},
		"committed and torn": {
			[]step{begun(one, 3), read(side, 0, record(one, 0, 3)), ended(one, 3, committed)},
			map[string]int{faultTorn: 1, faultLost: 2},
		},
		"in doubt and torn": {
			[]step{begun(one, 3), read(side, 0, record(one, 0, 3)), ended(one, 3, doubt)},
			map[string]int{faultTorn: 1},
		},
		"unknown and torn":        {[]step{read(side, 0, record(one, 0, 2))}, map[string]int{faultTorn: 1}},
		"committed and not there": {[]step{ended(one, 3, committed)}, map[string]int{faultLost: 3}},
		"aborted, then read": {
			[]step{ended(one, 2, aborted), read(side, 0, record(one, 0, 2)), read(side, 1, record(one, 1, 2))},
			map[string]int{faultAborted: 1},
		},
		"read, then aborted": {
			[]step{begun(one, 1), read(side, 0, record(one, 0, 1)), ended(one, 1, aborted)},
			map[string]int{faultAborted: 1},
		},
		"read, though meant to be aborted": {
			[]step{read(side, 0, stamp{transactionID: one, Count: 1, Abort: true})},
			map[string]int{faultAborted: 1},
		},
		"twice in the log": {
			[]step{ended(one, 1, committed), read(side, 0, record(one, 0, 1)), read(side, 1, record(one, 0, 1))},
			map[string]int{faultDuplicate: 1},
		},
		"an offset twice": {
			[]step{ended(one, 1, committed), read(side, 5, record(one, 0, 1)), func(l *ledger) { l.marker(side, 5) }},
			map[string]int{faultDuplicate: 1},
		},
		"transactions in the wrong order": {
			[]step{
				ended(one, 1, committed), ended(two, 1, committed),
				read(side, 0, record(two, 0, 1)), read(side, 1, record(one, 0, 1)),
			},
			map[string]int{faultDisorder: 1},
		},
		"records in the wrong order": {
			[]step{ended(one, 2, committed), read(side, 0, record(one, 1, 2)), read(side, 1, record(one, 0, 2))},
			map[string]int{faultDisorder: 1},
		},
		"damaged": {
			[]step{func(l *ledger) { l.read(side, 0, []byte("what")) }},
			map[string]int{faultDamaged: 1},
		},
		"processed": {
			[]step{
				ended(one, 1, committed), read(work, 0, record(one, 0, 1)),
				ended(of(7, 1), 1, committed), read(made, 0, madeFrom(of(7, 1), 0, 1, one, 0)),
			},
			nil,
		},
		"processed twice": {
			[]step{
				ended(one, 1, committed), read(work, 0, record(one, 0, 1)),
				ended(of(7, 1), 1, committed), read(made, 0, madeFrom(of(7, 1), 0, 1, one, 0)),
				ended(of(6, 1), 1, committed), read(made, 1, madeFrom(of(6, 1), 0, 1, one, 0)),
			},
			map[string]int{faultDuplicate: 1},
		},
		"not processed": {
			[]step{ended(one, 1, committed), read(work, 0, record(one, 0, 1))},
			map[string]int{faultLost: 1},
		},
		"processed though it is not there": {
			[]step{ended(of(7, 1), 1, committed), read(made, 0, madeFrom(of(7, 1), 0, 1, three, 0))},
			map[string]int{faultAborted: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(workTopic)
			for _, s := range c.steps {
				s(l)
			}
			l.settleAll()
			l.judgeSources()
			found(t, l.found, c.want)
		})
	}
}

// What may still come is not judged.
func TestLedgerSettlesOnlyWhatIsBefore(t *testing.T) {
	l := newLedger()
	for n := range int64(3) {
		l.ended(of(0, n+1), 2, committed)
	}
	l.ended(of(1, 1), 2, committed)
	last := of(0, 3)
	l.settle(0, &last)
	found(t, l.found, map[string]int{faultLost: 4})
	l.settle(0, &last)
	found(t, l.found, map[string]int{faultLost: 4})
	l.settleAll()
	found(t, l.found, map[string]int{faultLost: 8})
}

func TestAccount(t *testing.T) {
	const commit, abort = 1, 0
	key := func(kind byte) []byte { return []byte{0, 0, 0, kind} }
	l := newLedger()
	a := newAccount()
	value := stamp{transactionID: of(0, 1), Count: 1}.value(10)
	a.record(side, 0, 100, value)
	a.record(side, 1, 200, []byte("of another"))
	a.marker(side, 2, 100, key(commit))
	a.marker(side, 3, 200, key(abort))
	l.read(side, 0, value)
	a.compare(l)
	found(t, a.found, nil)

	l.read(side, 1, stamp{transactionID: of(0, 2), Count: 1}.value(10))
	a.compare(l)
	found(t, a.found, map[string]int{faultChanged: 1})

	a = newAccount()
	a.record(side, 0, 100, value)
	a.compare(newLedger())
	found(t, a.found, map[string]int{faultHanging: 1})

	a = newAccount()
	a.marker(side, 0, 100, key(commit))
	a.marker(side, 2, 100, key(commit))
	found(t, a.found, map[string]int{faultGap: 1})
}

func TestReadsAreCompared(t *testing.T) {
	live, again := newLedger(), newLedger()
	value := stamp{transactionID: of(0, 1), Count: 1}.value(10)
	live.read(side, 0, value)
	f := newFaults()
	compareReads(f, live, again)
	found(t, f, map[string]int{faultChanged: 1})
	again.read(side, 0, value)
	f = newFaults()
	compareReads(f, live, again)
	found(t, f, nil)
	again.read(side, 1, value)
	compareReads(f, live, again)
	found(t, f, map[string]int{faultChanged: 1})
}

func TestJournalGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	read := func() (*journal, map[transactionID]outcome) {
		t.Helper()
		got := map[transactionID]outcome{}
		j, err := openJournal(path, func(id transactionID, n int, o outcome) {
			if n != 7 {
				t.Errorf("%s has %d records", id, n)
			}
			got[id] = o
		})
		if err != nil {
			t.Fatal(err)
		}
		return j, got
	}
	j, _ := read()
	want := map[transactionID]outcome{of(0, 1): committed, of(1, 1): aborted, of(2, 1): doubt}
	for id, o := range want {
		if err := j.ended(id, 7, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	// The soak was killed in the middle of a line.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("1/3/1 7 comm"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	j, got := read()
	if !maps.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
	if err := j.ended(of(4, 1), 7, committed); err != nil {
		t.Fatal(err)
	}
	j.close()
	want[of(4, 1)] = committed
	if j, got = read(); !maps.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
	j.close()
}

func TestStateGoesOn(t *testing.T) {
	o := &options{broker: "polylog", dir: t.TempDir()}
	s, err := openState(o, "transactions")
	if err != nil {
		t.Fatal(err)
	}
	s.Kills, s.Earlier = 5, newFaults(faultTorn)
	s.Earlier.add(faultTorn, 2, "it was torn")
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	s, err = openState(o, "transactions")
	if err != nil {
		t.Fatal(err)
	}
	if s.Sessions != 2 || s.Kills != 5 || s.Earlier.Counts[faultTorn] != 2 {
		t.Errorf("%+v", s)
	}
	if _, err := openState(o, "rebalance"); err == nil {
		t.Error("a run goes on as another one")
	}
}

func TestOwnership(t *testing.T) {
	for name, c := range map[string]struct {
		steps func(o *ownership)
		want  map[string]int
	}{
		"handed over": {func(o *ownership) {
			o.assigned(1, []int32{0, 1})
			o.revoked(1, []int32{0})
			o.assigned(2, []int32{0})
		}, nil},
		"given to another too soon": {func(o *ownership) {
			o.assigned(1, []int32{0})
			o.assigned(2, []int32{0})
			o.revoked(1, []int32{0})
		}, map[string]int{faultShared: 1}},
		"never given back": {func(o *ownership) {
			o.assigned(1, []int32{0})
			o.assigned(2, []int32{0})
			o.revoked(2, []int32{0})
		}, map[string]int{faultShared: 1}},
		"given up, and told later": {func(o *ownership) {
			o.assigned(1, []int32{0})
			o.assigned(2, []int32{0})
			o.lost(1, []int32{0})
		}, nil},
		"given up, and gone": {func(o *ownership) {
			o.assigned(1, []int32{0})
			o.assigned(2, []int32{0})
			o.gone(1)
		}, nil},
		"gone before": {func(o *ownership) {
			o.assigned(1, []int32{0})
			o.gone(1)
			o.assigned(2, []int32{0})
		}, nil},
		"commits go on": {func(o *ownership) {
			o.commit(1, 0, 5, o.floor(0))
			o.fetched(0, 5, o.floor(0))
			o.commit(1, 0, 7, o.floor(0))
		}, nil},
		"a commit goes back": {func(o *ownership) {
			o.commit(1, 0, 5, o.floor(0))
			o.commit(2, 0, 4, o.floor(0))
		}, map[string]int{faultBack: 1}},
		"a commit is forgotten": {func(o *ownership) {
			o.commit(1, 0, 5, o.floor(0))
			o.fetched(0, -1, o.floor(0))
		}, map[string]int{faultBack: 1}},
		"asked before the commit": {func(o *ownership) {
			floor := o.floor(0)
			o.commit(1, 0, 5, floor)
			o.fetched(0, 0, floor)
		}, nil},
		"processed": {func(o *ownership) {
			o.acked(0, 0)
			o.process(0, 0)
			o.process(0, 0)
		}, nil},
		"not processed": {func(o *ownership) {
			o.acked(0, 0)
			o.acked(0, 70)
			o.process(0, 0)
		}, map[string]int{faultUnprocessed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOwnership(2)
			c.steps(o)
			if got := o.left(); got != c.want[faultUnprocessed] {
				t.Errorf("%d are left", got)
			}
			o.finish()
			found(t, o.found, c.want)
		})
	}
}

func TestSettled(t *testing.T) {
	o := newOwnership(3)
	settled := func(want bool, members ...int) {
		t.Helper()
		if why := o.unsettled(members); (why == "") != want {
			t.Errorf("members %v: %q", members, why)
		}
	}
	settled(false, 1)
	o.assigned(1, []int32{0, 1, 2})
	settled(true, 1)
	settled(false, 1, 2) // who has nothing yet
	o.revoked(1, []int32{2})
	settled(false, 1, 2)
	o.assigned(2, []int32{2})
	settled(true, 1, 2)
	settled(false, 2) // one has left
	o.assigned(2, []int32{1})
	settled(false, 1, 2)
}
