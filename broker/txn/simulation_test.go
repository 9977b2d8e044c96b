package txn

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

// history is what clients have seen, over crashes.
type history struct {
	mu       sync.Mutex
	attempts []*attempt
	seen     map[string]int64 // the highest id and epoch that a transactional id was given, as one number
	crashed  bool             // a marker may be there twice
}

// attempt is one transaction as its client knows it.
type attempt struct {
	name    string
	places  map[string]bool // "a-0" or "g/name": its records there are durable
	verdict verdict
}

type verdict int

const (
	open      verdict = iota // nobody asked for its end, or only for an abort: it must not be committed
	unknown                  // a commit was asked for, and the answer is not known
	committed                // the client was told
)

// given checks that ids and epochs only rise. Asking again may give the same.
func (h *history) given(t testing.TB, name string, id int64, epoch int16, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := id<<16 | int64(epoch)
	if last := h.seen[name]; now < last || now == last && !again {
		t.Errorf("%s was given %d/%d after %d/%d", name, id, epoch, last>>16, last&0xffff)
	}
	h.seen[name] = now
}

func (h *history) begin(name string) *attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &attempt{name: fmt.Sprintf("%s#%d", name, len(h.attempts)), places: map[string]bool{}}
	h.attempts = append(h.attempts, a)
	return a
}

// producer is a client with a transactional id. It gives up at the first
// answer that it does not expect from a broker that is well.
type producer struct {
	r       *rig
	h       *history
	random  *rand.Rand
	name    string
	version int16 // version0 or version2
	id      int64
	epoch   int16
	zombie  bool // somebody else has the transactional id by now
}

func (p *producer) init() bool {
	for range 5 {
		id, epoch, code := p.r.init(p.name)
		switch code {
		case codeNone:
			p.id, p.epoch = id, epoch
			p.h.given(p.r.t, p.name, id, epoch, false)
			return true
		case codeConcurrentTransactions:
			time.Sleep(20 * time.Millisecond)
		default:
			return false
		}
	}
	return false
}

// transaction is one, from its first record to its end.
func (p *producer) transaction() bool {
	a := p.h.begin(p.name)
	for i := range 1 + p.random.IntN(3) {
		if !p.record(a, i) {
			return false
		}
	}
	switch p.random.IntN(6) {
	case 0:
		return false // and never comes back
	case 1:
		return p.end(a, false)
	case 2:
		time.Sleep(2 * time.Minute) // for too long
	}
	return p.end(a, true)
}

func (p *producer) record(a *attempt, i int) bool {
	value := fmt.Sprintf("%s.%d", a.name, i)
	if p.random.IntN(4) == 0 {
		group := fmt.Sprintf("g%d", p.random.IntN(2))
		if p.version == version0 && p.r.addOffsets(p.name, p.id, p.epoch, group) != codeNone {
			return false
		}
		hold, code := p.r.c.EnterOffsets(p.r.t.Context(), p.name, p.id, p.epoch, group, p.version == version2)
		defer hold.Release()
		if code != codeNone || p.r.group(group).produce(p.id, p.epoch, value) != nil {
			return false
		}
		a.places["g/"+group] = true
		return true
	}
	at := []TopicPartition{p0, p1, p2}[p.random.IntN(3)]
	if p.version == version0 && p.r.add(p.name, p.id, p.epoch, at) != codeNone {
		return false
	}
	hold, codes := p.r.c.Enter(p.r.t.Context(), p.name, p.id, p.epoch, []TopicPartition{at}, p.version == version2)
	defer hold.Release()
	d, err := p.r.dataLog(at)
	if codes != nil || err != nil || d.produce(p.id, p.epoch, value) != nil {
		return false
	}
	a.places[fmt.Sprintf("%s-%d", at.Topic, at.Partition)] = true
	return true
}

func (p *producer) end(a *attempt, commit bool) bool {
	request := int16(3)
	if p.version == version2 {
		request = 5
	}
	p.h.mu.Lock()
	if commit {
		a.verdict = unknown
	}
	p.h.mu.Unlock()
	for try := range 4 {
		id, epoch, code := p.r.end(p.name, request, p.id, p.epoch, commit)
		switch code {
		case codeNone:
			p.h.mu.Lock()
			if commit {
				a.verdict = committed
				if p.zombie {
					p.r.t.Errorf("%s was fenced and has committed", a.name)
				}
			}
			p.h.mu.Unlock()
			if p.version == version2 {
				p.h.given(p.r.t, p.name, id, epoch, try > 0)
				if p.random.IntN(3) == 0 { // the answer was lost
					again, epochAgain, code := p.r.end(p.name, request, p.id, p.epoch, commit)
					for range 20 { // in vain after a crash
						if code != codeConcurrentTransactions {
							break
						}
						time.Sleep(20 * time.Millisecond)
						again, epochAgain, code = p.r.end(p.name, request, p.id, p.epoch, commit)
					}
					if code == codeNone && (again != id || epochAgain != epoch) {
						p.r.t.Errorf("%s: ended with %d/%d, then with %d/%d", a.name, id, epoch, again, epochAgain)
					}
				}
				p.id, p.epoch = id, epoch
			}
			return true
		case codeConcurrentTransactions:
			time.Sleep(20 * time.Millisecond)
		case codeProducerFenced, codeInvalidTxnState:
			// It is decided, and not as a commit: nobody but us asks for one.
			p.h.mu.Lock()
			if try == 0 {
				a.verdict = open
			}
			p.h.mu.Unlock()
			return false
		default:
			return false
		}
	}
	return false
}

// work is a client's life: it begins anew when something went wrong.
func (p *producer) work(rounds int) {
	for range rounds {
		if p.id == noID && !p.init() {
			return
		}
		if !p.transaction() {
			p.id = noID
		}
		if p.random.IntN(8) == 0 && p.id != noID {
			p.zombieCommit()
		}
	}
}

// zombieCommit has another producer take the transactional id while this one
// has a transaction, which it then tries to commit.
func (p *producer) zombieCommit() {
	a := p.h.begin(p.name)
	if !p.record(a, 0) {
		p.id = noID
		return
	}
	old := *p
	if !p.init() {
		p.id = noID
		return
	}
	mine := p.h.begin(p.name)
	ok := p.record(mine, 0)
	old.zombie = true
	old.end(a, true) // which must not commit mine
	if !ok || !p.end(mine, p.random.IntN(2) == 0) {
		p.id = noID
	}
}

// check reads everything after a recovery.
func (h *history) check(t testing.TB, r *rig) {
	t.Helper()
	places := map[string]*dataLog{}
	for _, at := range []TopicPartition{p0, p1, p2} {
		places[fmt.Sprintf("%s-%d", at.Topic, at.Partition)], _ = r.dataLog(at)
	}
	for _, g := range []string{"g0", "g1"} {
		places["g/"+g] = r.group(g)
	}
	outcome := map[string]map[string]bool{} // by attempt and place
	for place, d := range places {
		for value, commit := range d.outcomes(t) {
			name, _, _ := strings.Cut(value, ".")
			if commit == nil {
				t.Errorf("%s is open for ever in %s", value, place)
				continue
			}
			if outcome[name] == nil {
				outcome[name] = map[string]bool{}
			}
			if before, known := outcome[name][place]; known && before != *commit {
				t.Errorf("%s is both in %s", name, place)
			}
			outcome[name][place] = *commit
		}
		if d.LastStable() != d.Stable() {
			t.Errorf("%s is stable up to %d of %d", place, d.LastStable(), d.Stable())
		}
		h.checkMarkers(t, place, d)
	}
	for _, a := range h.attempts {
		var yes, no int
		for place := range a.places {
			commit, found := outcome[a.name][place]
			switch {
			case !found:
				t.Errorf("%s: lost what was durable in %s", a.name, place)
			case commit:
				yes++
			default:
				no++
			}
		}
		for place, commit := range outcome[a.name] {
			if commit && !a.places[place] {
				// Its client never heard that the record is durable, so it did not commit.
				t.Errorf("%s: committed in %s without its client's will", a.name, place)
			}
		}
		switch {
		case yes > 0 && no > 0:
			t.Errorf("%s: committed in %d places, aborted in %d", a.name, yes, no)
		case a.verdict == committed && no > 0, a.verdict == open && yes > 0:
			t.Errorf("%s: verdict %d, committed in %d places, aborted in %d", a.name, a.verdict, yes, no)
		}
	}
}

// checkMarkers: without a crash there are no two in a row of one producer.
func (h *history) checkMarkers(t testing.TB, place string, d *dataLog) {
	last := map[identity]event{}
	for _, e := range d.events(t) {
		key := identity{e.producerID, e.epoch}
		before, known := last[key]
		if e.value == "" && known && before.value == "" {
			if !h.crashed {
				t.Errorf("%d/%d has two markers in %s", e.producerID, e.epoch, place)
			}
			if before.commit != e.commit {
				t.Errorf("%d/%d has two different markers in %s", e.producerID, e.epoch, place)
			}
		}
		last[key] = e
	}
}

// recover starts again after a crash and lets everything come to its end.
func (h *history) recover(r *rig, seed uint64) *rig {
	h.crashed = true
	r = r.crash(seed)
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	return r
}

// TestCrashAtEveryStep runs the same clients, one after the other, and cuts the
// power at every change of the disk.
func TestCrashAtEveryStep(t *testing.T) {
	steps, every := 1, 1
	if testing.Short() {
		every = 7
	}
	for done := false; !done; steps += every {
		synctest.Test(t, func(t *testing.T) {
			seed := uint64(steps)
			h := &history{seen: map[string]int64{}}
			r := openRig(t, commitlog.NewMemFS(), nil)
			r.fs.StopAt(steps)
			random := rand.New(rand.NewPCG(7, 7))
			for i, version := range []int16{version0, version2, version2} {
				p := &producer{r: r, h: h, random: random, name: fmt.Sprint("p", i), version: version, id: noID}
				p.work(3)
			}
			synctest.Wait()
			done = r.store.Err() == nil
			r = h.recover(r, seed)
			h.check(t, r)
			// It works, and with higher epochs.
			for i, version := range []int16{version0, version2, version2} {
				p := &producer{r: r, h: h, random: random, name: fmt.Sprint("p", i), version: version, id: noID}
				if !p.init() {
					t.Errorf("p%d cannot go on", i)
				}
				p.work(2)
			}
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			h.check(t, r)
			r.close()
			if t.Failed() {
				t.Fatalf("power cut at change %d of the disk", steps)
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d changes of the disk", steps)
}

// TestSimulation has many clients at once, some of which share a transactional
// id, crashes at random, and checks after each recovery.
func TestSimulation(t *testing.T) {
	seeds := uint64(15)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		if !t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		}) {
			return
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	h := &history{seen: map[string]int64{}}
	r := openRig(t, commitlog.NewMemFS(), nil)
	for range 3 {
		crash := random.IntN(3) > 0
		if crash {
			r.fs.StopAt(1 + random.IntN(150))
		}
		var clients sync.WaitGroup
		for i := range 6 {
			p := &producer{
				r: r, h: h, random: rand.New(rand.NewPCG(seed, random.Uint64())),
				name: fmt.Sprint("p", i), version: []int16{version0, version2}[random.IntN(2)], id: noID,
			}
			clients.Go(func() { p.work(5) })
		}
		clients.Wait()
		if crash {
			r = h.recover(r, random.Uint64())
		} else {
			time.Sleep(5 * time.Minute)
			synctest.Wait()
		}
		h.check(t, r)
		if t.Failed() {
			break
		}
	}
	r.close()
}
