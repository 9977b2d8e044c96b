package txn

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func topics(name string, partitions ...int32) []kmsg.TxnMetadataValueTopic {
	return []kmsg.TxnMetadataValueTopic{{Topic: name, Partitions: partitions}}
}

// at is a machine of producer 7, epoch 5, in state s.
func at(s state) machine {
	m := created(7, 0)
	m.current.state, m.current.epoch, m.current.lastEpoch = s, 5, 4
	m.current.previousID, m.current.timeoutMS = 7, 1000
	if s == ongoing || s.prepared() {
		m.current.startMS, m.current.topics = 10, topics("t", 0)
	}
	return m
}

// TestEndTable is the table in the comment of Kafka's
// TransactionCoordinator.endTransaction, and what it says of version 1.
func TestEndTable(t *testing.T) {
	const (
		none    = "none"
		raise   = "raise" // accepted, and the epoch rises
		keep    = "keep"  // accepted, and the epoch stays
		fenced  = "fenced"
		invalid = "invalid"
		busy    = "busy"
	)
	for _, row := range []struct {
		state   state
		version int16
		// abort with the epoch before, abort with the epoch, commit the same
		want [4]string
	}{
		{empty, version2, [4]string{fenced, raise, fenced, invalid}},
		{completeAbort, version2, [4]string{none, raise, invalid, invalid}},
		{completeCommit, version2, [4]string{invalid, raise, none, invalid}},
		{ongoing, version2, [4]string{fenced, raise, fenced, raise}},
		{prepareAbort, version2, [4]string{busy, busy, busy, busy}},
		{prepareCommit, version2, [4]string{busy, busy, busy, busy}},
		{empty, version0, [4]string{fenced, invalid, fenced, invalid}},
		{completeAbort, version0, [4]string{fenced, none, fenced, invalid}},
		{completeCommit, version0, [4]string{fenced, invalid, fenced, none}},
		{ongoing, version0, [4]string{fenced, keep, fenced, keep}},
		{prepareAbort, version0, [4]string{fenced, busy, fenced, busy}},
		{prepareCommit, version0, [4]string{fenced, busy, fenced, busy}},
	} {
		for i, want := range row.want {
			m := at(row.state)
			a := m.end(endRequest{id: 7, epoch: []int16{4, 5}[i%2], commit: i >= 2, version: row.version, newID: noID, nowMS: 50})
			got := map[int16]string{
				codeNone: none, codeProducerFenced: fenced, codeInvalidTxnState: invalid, codeConcurrentTransactions: busy,
			}[a.code]
			if a.write != nil {
				got = keep
				if a.write.epoch == 6 {
					got = raise
				}
			}
			if got != want {
				t.Errorf("version %d, %s, request %d: %s, want %s", row.version, row.state, i, got, want)
			}
		}
		m := at(row.state)
		if a := m.end(endRequest{id: 8, epoch: 5, version: row.version}); a.code != codeInvalidProducerIDMapping && !m.busy() {
			t.Errorf("version %d, %s: another producer id: code %d", row.version, row.state, a.code)
		}
	}
}

// TestTransitions enters every state from every state as Kafka permits, and no other way.
func TestTransitions(t *testing.T) {
	type event struct {
		name string
		do   func(m *machine) answer
	}
	events := []event{
		{"init", func(m *machine) answer {
			return m.initProducerID(initRequest{id: noID, epoch: noEpoch, timeoutMS: 1, newID: 9})
		}},
		{"add", func(m *machine) answer { return m.add(addRequest{id: 7, epoch: 5, topics: topics("u", 1)}) }},
		{"commit", func(m *machine) answer { return m.end(endRequest{id: 7, epoch: 5, commit: true, version: version0}) }},
		{"abort", func(m *machine) answer { return m.end(endRequest{id: 7, epoch: 5, version: version0}) }},
		{"commit2", func(m *machine) answer { return m.end(endRequest{id: 7, epoch: 5, commit: true, version: version2}) }},
		{"abort2", func(m *machine) answer { return m.end(endRequest{id: 7, epoch: 5, version: version2}) }},
		{"timeout", func(m *machine) answer { return m.timeout(9, 1<<40) }},
		{"expire", func(m *machine) answer { return m.expire(1<<40, 1) }},
	}
	got := map[string]string{}
	for s := empty; s <= completeAbort; s++ {
		for _, e := range events {
			m := at(s)
			a := e.do(&m)
			if a.write == nil {
				if m.next != nil {
					t.Fatalf("%s in %s: busy for nothing", e.name, s)
				}
				continue
			}
			if again := e.do(&m); again.write != nil {
				t.Fatalf("%s in %s: accepted twice", e.name, s)
			}
			before := m.current
			m.appended(false)
			if m.busy() || fmt.Sprint(m.current) != fmt.Sprint(before) {
				t.Fatalf("%s in %s: a record that was not written changed something", e.name, s)
			}
			e.do(&m)
			m.appended(true)
			got[s.String()+" "+e.name] = m.current.state.String()
		}
	}
	want := map[string]string{}
	for _, s := range []string{"Empty", "CompleteCommit", "CompleteAbort"} {
		want[s+" init"], want[s+" add"], want[s+" abort2"], want[s+" expire"] = "Empty", "Ongoing", "PrepareAbort", "Dead"
	}
	for event, s := range map[string]string{
		"init": "PrepareAbort", "add": "Ongoing", "commit": "PrepareCommit", "abort": "PrepareAbort",
		"commit2": "PrepareCommit", "abort2": "PrepareAbort", "timeout": "PrepareAbort",
	} {
		want["Ongoing "+event] = s
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %q, want %q", k, got[k], v)
		}
	}
	for k, v := range got {
		if want[k] == "" {
			t.Errorf("%s: %s, which Kafka does not permit", k, v)
		}
	}
}

// TestInitProducerID follows KIP-360.
func TestInitProducerID(t *testing.T) {
	type want struct {
		code      int16
		id        int64
		epoch     int16
		lastEpoch int16
	}
	for _, row := range []struct {
		name   string
		change func(*metadata)
		id     int64
		epoch  int16
		want   want
	}{
		{"another producer", nil, noID, noEpoch, want{0, 7, 6, noEpoch}},
		{"the same goes on", nil, 7, 5, want{0, 7, 6, 5}},
		{"asked again", nil, 7, 4, want{0, 7, 5, 4}},
		{"older", nil, 7, 3, want{code: codeProducerFenced}},
		{"newer than ours", nil, 7, 6, want{code: codeProducerFenced}},
		{"another id", nil, 6, 5, want{code: codeProducerFenced}},
		{"after somebody else", func(m *metadata) { m.lastEpoch = noEpoch }, 7, 4, want{code: codeProducerFenced}},
		{"first", func(m *metadata) { m.epoch, m.lastEpoch = noEpoch, noEpoch }, noID, noEpoch, want{0, 7, 0, noEpoch}},
		{"first, of one that was forgotten", func(m *metadata) { m.epoch, m.lastEpoch = noEpoch, noEpoch }, 3, 12, want{0, 7, 0, noEpoch}},
		{"exhausted", func(m *metadata) { m.epoch = maxEpoch - 1 }, noID, noEpoch, want{0, 9, 0, noEpoch}},
		{"exhausted, the same goes on", func(m *metadata) { m.epoch = maxEpoch - 1 }, 7, maxEpoch - 1, want{0, 9, 0, maxEpoch - 1}},
		{"exhausted, asked again", func(m *metadata) { m.epoch, m.lastEpoch = maxEpoch-1, maxEpoch-2 }, 7, maxEpoch - 2, want{0, 7, maxEpoch - 1, maxEpoch - 2}},
		{"exhausted, older", func(m *metadata) { m.epoch = maxEpoch - 1 }, 7, 3, want{code: codeProducerFenced}},
		{
			"rotated, asked again",
			func(m *metadata) { m.previousID, m.producerID, m.epoch, m.lastEpoch = 7, 9, 0, maxEpoch-1 },
			7, maxEpoch - 1,
			want{0, 9, 0, maxEpoch - 1},
		},
		{"rotated, older", func(m *metadata) { m.previousID, m.producerID, m.epoch = 7, 9, 0 }, 7, 3, want{code: codeProducerFenced}},
	} {
		for _, s := range []state{empty, completeCommit, completeAbort} {
			m := at(s)
			if row.change != nil {
				row.change(&m.current)
			}
			for range 2 { // a request that is asked again after the record was lost
				a := m.initProducerID(initRequest{id: row.id, epoch: row.epoch, timeoutMS: 77, newID: noID, nowMS: 50})
				if a.needID {
					a = m.initProducerID(initRequest{id: row.id, epoch: row.epoch, timeoutMS: 77, newID: 9, nowMS: 50})
				}
				if a.write == nil {
					if a.code != row.want.code || a.code == 0 {
						t.Errorf("%s, %s: code %d, want %d", row.name, s, a.code, row.want.code)
					}
					break
				}
				n := *a.write
				if got := (want{a.code, n.producerID, n.epoch, n.lastEpoch}); got != row.want {
					t.Errorf("%s, %s: %+v, want %+v", row.name, s, got, row.want)
				}
				if n.state != empty || n.timeoutMS != 77 || n.topics != nil || n.startMS != noTime {
					t.Errorf("%s, %s: %+v", row.name, s, n)
				}
				m.appended(false)
			}
		}
	}
}

// TestInitAgainAfterRotation answers a client twice that never heard the first answer.
func TestInitAgainAfterRotation(t *testing.T) {
	m := at(empty)
	m.current.epoch = maxEpoch - 1
	for range 3 {
		a := m.initProducerID(initRequest{id: 7, epoch: maxEpoch - 1, timeoutMS: 1, newID: 9})
		if a.write == nil || a.write.producerID != 9 || a.write.epoch != 0 {
			t.Fatalf("%+v", a)
		}
		m.appended(true)
	}
}

func TestFence(t *testing.T) {
	m := at(ongoing)
	a := m.initProducerID(initRequest{id: noID, epoch: noEpoch, timeoutMS: 1, newID: noID, nowMS: 50})
	if a.code != codeConcurrentTransactions || a.write == nil || a.write.state != prepareAbort || a.write.epoch != 6 {
		t.Fatalf("%+v", a)
	}
	m.appended(true)
	m.complete(m.completed(51))
	if c := m.current; c.state != completeAbort || c.epoch != 6 || c.producerID != 7 {
		t.Fatalf("%+v", c)
	}
	if a := m.end(endRequest{id: 7, epoch: 5, commit: true, version: version2}); a.code != codeInvalidTxnState {
		t.Errorf("a commit after the fence: %+v", a)
	}
	if a := m.end(endRequest{id: 7, epoch: 5, commit: true, version: version0}); a.code != codeProducerFenced {
		t.Errorf("a commit after the fence, version 1: %+v", a)
	}
	a = m.initProducerID(initRequest{id: noID, epoch: noEpoch, timeoutMS: 1, newID: noID, nowMS: 50})
	if a.code != codeNone || a.write.epoch != 7 {
		t.Fatalf("%+v", a)
	}
}

// TestExhaustedEpochs ends the last transaction of a producer id.
func TestExhaustedEpochs(t *testing.T) {
	for _, abort := range []bool{false, true} {
		m := at(ongoing)
		m.current.epoch = maxEpoch - 1
		r := endRequest{id: 7, epoch: maxEpoch - 1, commit: !abort, version: version2, newID: noID}
		if a := m.end(r); !a.needID || m.busy() {
			t.Fatalf("%+v", a)
		}
		r.newID = 9
		a := m.end(r)
		if a.write == nil || a.write.epoch != maxEpoch || a.write.producerID != 7 || a.write.nextID != 9 {
			t.Fatalf("%+v", a.write)
		}
		if id, epoch := a.write.following(); id != 9 || epoch != 0 {
			t.Fatalf("the producer goes on with %d, %d", id, epoch)
		}
		m.appended(true)
		m.complete(m.completed(60))
		if c := m.current; c.producerID != 9 || c.epoch != 0 || c.previousID != 7 || c.nextID != noID {
			t.Fatalf("%+v", c)
		}
		if a := m.end(r); a.code != codeNone || a.write != nil {
			t.Errorf("asked again: %+v", a)
		}
		r.commit = !r.commit
		if a := m.end(r); a.code != codeInvalidTxnState {
			t.Errorf("the other outcome: %+v", a)
		}
	}
}

// TestMachineWalk asks at random, and looks at the invariants.
func TestMachineWalk(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := created(100, 0)
		nextID, now := int64(101), int64(1)
		if r.IntN(2) == 0 {
			m.current.epoch = maxEpoch - 4 // so that rotation is met
		}
		var fenced []identity // that no request may commit with
		me := identity{m.current.producerID, m.current.epoch}
		for step := range 300 {
			now += int64(r.IntN(400))
			before := m.current
			who := me
			if len(fenced) > 0 && r.IntN(4) == 0 {
				who = fenced[r.IntN(len(fenced))]
			}
			var a answer
			ends := false
			commit, version, kind := r.IntN(2) == 0, []int16{version0, version2}[r.IntN(2)], r.IntN(6)
			ask := func(newID int64) answer {
				switch kind {
				case 0:
					return m.initProducerID(initRequest{id: noID, epoch: noEpoch, timeoutMS: 500, newID: newID, nowMS: now})
				case 1:
					return m.initProducerID(initRequest{id: who.id, epoch: max(who.epoch, 0), timeoutMS: 500, newID: newID, nowMS: now})
				case 2, 3:
					return m.add(addRequest{id: who.id, epoch: who.epoch, version: version, topics: topics("t", int32(r.IntN(5))), nowMS: now})
				case 4:
					ends = true
					return m.end(endRequest{id: who.id, epoch: who.epoch, commit: commit, version: version, newID: newID, nowMS: now})
				}
				return m.timeout(newID, now)
			}
			if a = ask(noID); a.needID {
				nextID++
				a = ask(nextID)
			}
			if a.needID {
				t.Fatalf("seed %d, step %d: asks for an id again", seed, step)
			}
			if a.write == nil {
				continue
			}
			if a.write.state == prepareCommit && (!ends || who != me) {
				t.Fatalf("seed %d, step %d: %v committed, the producer is %v", seed, step, who, me)
			}
			durable := r.IntN(5) > 0
			m.appended(durable)
			if durable && m.current.state.prepared() {
				if a := m.add(addRequest{id: me.id, epoch: me.epoch, topics: topics("t", 9)}); a.code != codeConcurrentTransactions {
					t.Fatalf("seed %d, step %d: added to a prepared transaction", seed, step)
				}
				m.complete(m.completed(now))
			}
			c := m.current
			switch {
			case c.producerID == before.producerID && c.epoch < before.epoch,
				c.producerID != before.producerID && (c.producerID <= before.producerID || c.epoch != 0),
				c.epoch > maxEpoch-1 && c.state != prepareAbort && c.state != prepareCommit:
				t.Fatalf("seed %d, step %d: from %d, %d to %d, %d in %s", seed, step,
					before.producerID, before.epoch, c.producerID, c.epoch, c.state)
			case c.state == ongoing && (len(c.topics) == 0 || c.startMS <= 0), c.state != ongoing && len(c.topics) > 0:
				t.Fatalf("seed %d, step %d: %+v", seed, step, c)
			}
			if now := (identity{c.producerID, c.epoch}); now != me {
				if me.epoch >= 0 {
					fenced = append(fenced, me)
				}
				me = now
			}
		}
	}
}
