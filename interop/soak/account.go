package main

import "encoding/binary"

// An account reads a whole log as a read_uncommitted consumer is given it, control
// records included, and works out from the markers what a read_committed one must be
// given. It finds offsets at which there is nothing, and transactions without an end.
type account struct {
	found  *faults
	places map[place]*book

	Records, Markers int
}

type book struct {
	committed passage
	open      map[int64]*passage // by producer id
}

func newAccount() *account {
	return &account{found: newFaults(transactionFaults...), places: map[place]*book{}}
}

func (a *account) book(at place) *book {
	b := a.places[at]
	if b == nil {
		b = &book{open: map[int64]*passage{}}
		a.places[at] = b
	}
	return b
}

func (a *account) offset(at place, offset int64) *book {
	b := a.book(at)
	if offset != b.committed.Next {
		a.found.add(faultGap, 1, "%s: offset %d where %d should be", at, offset, b.committed.Next)
	}
	b.committed.Next = offset + 1
	return b
}

// record is one that is no control record.
func (a *account) record(at place, offset, producerID int64, value []byte) {
	b := a.offset(at, offset)
	a.Records++
	p := b.open[producerID]
	if p == nil {
		p = &passage{}
		b.open[producerID] = p
	}
	p.add(offset, value)
}

// marker is a control record: its key is a version and a type, 0 for aborted and 1 for
// committed (KIP-98).
func (a *account) marker(at place, offset, producerID int64, key []byte) {
	b := a.offset(at, offset)
	a.Markers++
	if len(key) < 4 {
		a.found.add(faultDamaged, 1, "%s offset %d: a marker with key %x", at, offset, key)
		return
	}
	p := b.open[producerID]
	delete(b.open, producerID)
	switch kind := binary.BigEndian.Uint16(key[2:]); {
	case kind > 1:
		a.found.add(faultDamaged, 1, "%s offset %d: a marker of type %d", at, offset, kind)
	case kind == 1 && p != nil:
		b.committed.Records += p.Records
		b.committed.Sum += p.Sum
	}
}

// compare finds where a read_committed consumer was not given what the markers say.
func (a *account) compare(l *ledger) {
	for at, b := range a.places {
		for id, p := range b.open {
			a.found.add(faultHanging, 1, "%s: %d records of producer id %d have no end", at, p.Records, id)
		}
		read := l.passage(at)
		if read.Records != b.committed.Records || read.Sum != b.committed.Sum {
			a.found.add(faultChanged, 1, "%s: read_committed gave %d records (sum %x), the log's markers say %d (sum %x)",
				at, read.Records, read.Sum, b.committed.Records, b.committed.Sum)
		}
	}
}

// compareReads finds where two read_committed consumers were given different records.
func compareReads(found *faults, live, again *ledger) {
	for at, a := range again.places {
		l := live.passage(at)
		if l.Records != a.Records || l.Sum != a.Sum {
			found.add(faultChanged, 1, "%s: %d records (sum %x) while it was written, %d (sum %x) in the end", at, l.Records, l.Sum, a.Records, a.Sum)
		}
	}
	for at := range live.places {
		if again.places[at] == nil {
			found.add(faultChanged, 1, "%s: nothing in the end", at)
		}
	}
}
