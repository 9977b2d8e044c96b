package main

import (
	"fmt"
	"hash/fnv"
)

// An outcome is what the producer of a transaction knows of its end.
type outcome int

const (
	open      outcome = iota // not ended, or by a session of the run that is over: as doubt
	committed                // the answer to the commit came
	aborted                  // no commit was asked for, or it was refused
	doubt                    // a commit was asked for, and no answer came: whole, or not at all
)

var outcomeNames = [...]string{"open", "committed", "aborted", "doubt"}

func (o outcome) String() string { return outcomeNames[o] }

func parseOutcome(s string) (outcome, bool) {
	for i, name := range outcomeNames {
		if name == s {
			return outcome(i), true
		}
	}
	return 0, false
}

// A place is a partition.
type place struct {
	Topic     string
	Partition int32
}

func (p place) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.Partition) }

// A ledger judges what a read_committed consumer is given. It is told of each end of a
// transaction and of each record, in any order, and in the end, or as soon as a
// transaction is known to have been visible, to settle it. It is not safe for
// concurrent use.
type ledger struct {
	found        *faults
	transactions map[transactionID]*entry
	unsettled    map[int][]transactionID // by producer, in order
	last         map[lane]stamp
	places       map[place]*passage
	made         map[origin]transactionID // who has made something of a record
	sources      map[string]bool          // topics whose records are processed

	Records int // read, markers apart
}

// An entry is what is known of a transaction.
type entry struct {
	outcome outcome
	count   int // -1 until known
	seen    bits
	aborted bool // counted as an aborted read
	settled bool
	source  bits // positions that are in a source topic
}

// A lane has an order: what one producer wrote into one partition.
type lane struct {
	place
	producer int
}

// A passage is how far a partition was read, and what: a sum over its records, markers
// apart, which does not depend on their order.
type passage struct {
	Next    int64 // the first offset that was not read
	Records int
	Sum     uint64
}

func (p *passage) add(offset int64, value []byte) {
	p.Records++
	p.Sum += recordSum(offset, value)
}

func recordSum(offset int64, value []byte) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d ", offset)
	h.Write(value)
	return h.Sum64()
}

type bits []uint64

// set is false if it was so already.
func (b *bits) set(i int) bool {
	for len(*b) <= i/64 {
		*b = append(*b, 0)
	}
	word, bit := &(*b)[i/64], uint64(1)<<(i%64)
	was := *word&bit != 0
	*word |= bit
	return !was
}

func (b bits) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }

func (b bits) count() int {
	n := 0
	for _, w := range b {
		for ; w != 0; w &= w - 1 {
			n++
		}
	}
	return n
}

var transactionFaults = []string{
	faultTorn, faultAborted, faultLost, faultDuplicate, faultDisorder,
	faultDamaged, faultChanged, faultGap, faultHanging, faultCrash,
}

// newLedger makes one for a run in which everything in the source topics is consumed,
// and something made of it, exactly once.
func newLedger(sources ...string) *ledger {
	l := &ledger{
		found:        newFaults(transactionFaults...),
		transactions: map[transactionID]*entry{},
		unsettled:    map[int][]transactionID{},
		last:         map[lane]stamp{},
		places:       map[place]*passage{},
		made:         map[origin]transactionID{},
		sources:      map[string]bool{},
	}
	for _, s := range sources {
		l.sources[s] = true
	}
	return l
}

func (l *ledger) entry(id transactionID) *entry {
	e := l.transactions[id]
	if e == nil {
		e = &entry{count: -1}
		l.transactions[id] = e
		l.unsettled[id.Producer] = append(l.unsettled[id.Producer], id)
	}
	return e
}

// begun tells of a transaction before its first record is produced.
func (l *ledger) begun(id transactionID, count int) { l.entry(id).count = count }

// ended tells how a transaction ended, as its producer knows it.
func (l *ledger) ended(id transactionID, count int, o outcome) {
	e := l.entry(id)
	e.outcome, e.count = o, count
	if o == aborted && e.seen.count() > 0 {
		l.abortedRead(id, e)
	}
}

func (l *ledger) abortedRead(id transactionID, e *entry) {
	if !e.aborted {
		e.aborted = true
		l.found.add(faultAborted, 1, "transaction %s, %d of its %d records so far", id, e.seen.count(), e.count)
	}
}

// passage is how far a partition was read; it may be written by the caller.
func (l *ledger) passage(at place) *passage {
	p := l.places[at]
	if p == nil {
		p = &passage{}
		l.places[at] = p
	}
	return p
}

// marker tells that a control record was read.
func (l *ledger) marker(at place, offset int64) { l.advance(at, offset) }

func (l *ledger) advance(at place, offset int64) {
	p := l.passage(at)
	if offset < p.Next {
		l.found.add(faultDuplicate, 1, "%s gave offset %d after %d", at, offset, p.Next-1)
	}
	p.Next = max(p.Next, offset+1)
}

// read tells of a record.
func (l *ledger) read(at place, offset int64, value []byte) {
	l.advance(at, offset)
	l.passage(at).add(offset, value)
	l.Records++
	s, err := parseStamp(value)
	if err != nil {
		l.found.add(faultDamaged, 1, "%s offset %d: %.60q", at, offset, value)
		return
	}
	e := l.entry(s.transactionID)
	if e.count < 0 {
		e.count = s.Count
	}
	if s.Count != e.count {
		l.found.add(faultDamaged, 1, "%s offset %d: %s, but the transaction has %d records", at, offset, s, e.count)
	}
	switch {
	case !e.seen.set(s.Position):
		l.found.add(faultDuplicate, 1, "%s offset %d: %s was there before", at, offset, s)
		return
	case s.Abort || e.outcome == aborted:
		l.abortedRead(s.transactionID, e)
	}
	way := lane{at, s.Producer}
	if before, ok := l.last[way]; ok && !s.follows(before) {
		l.found.add(faultDisorder, 1, "%s offset %d: %s after %s", at, offset, s, before)
	}
	l.last[way] = s
	if l.sources[at.Topic] {
		e.source.set(s.Position)
	}
	if s.From != nil {
		if first, ok := l.made[*s.From]; ok {
			l.found.add(faultDuplicate, 1, "%s offset %d: transaction %s makes something of %s#%d, of which %s has",
				at, offset, s.transactionID, s.From.Transaction, s.From.Position, first)
		}
		l.made[*s.From] = s.transactionID
	}
}

// follows tells whether a producer made s after t.
func (s stamp) follows(t stamp) bool {
	if s.transactionID == t.transactionID {
		return s.Position > t.Position
	}
	return s.after(t.transactionID)
}

// settle judges the transactions of a producer before the given one, all of whose
// records, if any, must have been read by now. nil: all of them.
func (l *ledger) settle(producer int, before *transactionID) {
	rest := l.unsettled[producer][:0]
	for _, id := range l.unsettled[producer] {
		if before != nil && !before.after(id) {
			rest = append(rest, id)
			continue
		}
		l.judge(id, l.transactions[id])
	}
	l.unsettled[producer] = rest
}

func (l *ledger) settleAll() {
	for producer := range l.unsettled {
		l.settle(producer, nil)
	}
}

func (l *ledger) judge(id transactionID, e *entry) {
	e.settled = true
	seen := e.seen.count()
	switch {
	case e.outcome == aborted: // known by now
	case seen == 0 && e.outcome == committed:
		l.found.add(faultLost, e.count, "transaction %s was committed; none of its %d records is there", id, e.count)
	case seen > 0 && seen < e.count:
		l.found.add(faultTorn, 1, "transaction %s, %s: %d of its %d records are there", id, e.outcome, seen, e.count)
		if e.outcome == committed {
			l.found.add(faultLost, e.count-seen, "transaction %s, torn", id)
		}
	}
}

// unmade counts the records of source topics of which nothing was made so far.
func (l *ledger) unmade() int {
	n := 0
	for id, e := range l.transactions {
		for i := range e.count {
			if _, ok := l.made[origin{id, i}]; e.source.has(i) && !ok {
				n++
			}
		}
	}
	return n
}

// judgeSources counts as lost what has not been processed, and as aborted reads what
// was made of something that is not there.
func (l *ledger) judgeSources() {
	for id, e := range l.transactions {
		for i := range e.count {
			if _, ok := l.made[origin{id, i}]; e.source.has(i) && !ok {
				l.found.add(faultLost, 1, "nothing was made of record %d of transaction %s", i, id)
			}
		}
	}
	for from, by := range l.made {
		if e := l.transactions[from.Transaction]; e == nil || !e.source.has(from.Position) {
			l.found.add(faultAborted, 1, "transaction %s made something of %s#%d, which is not there", by, from.Transaction, from.Position)
		}
	}
}

// outcomes counts the transactions by their ends.
func (l *ledger) outcomes() map[string]int {
	n := map[string]int{}
	for _, e := range l.transactions {
		n[e.outcome.String()]++
	}
	return n
}

// whole counts the transactions that were read whole though their commit was in doubt.
func (l *ledger) doubtWhole() int {
	n := 0
	for _, e := range l.transactions {
		if (e.outcome == doubt || e.outcome == open) && e.count > 0 && e.seen.count() == e.count {
			n++
		}
	}
	return n
}
