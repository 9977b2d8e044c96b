package spill

import (
	"errors"
	"time"

	"github.com/polylog-mq/polylog"
)

// entry is a message whose sender waits, and how the sender is told.
type entry struct {
	item
	bytes int64
	since time.Time // when it was handed over

	waiter *waiter // one of the two
	done   func(Receipt, error)

	tried int  // rounds after which the broker may have it
	known bool // the sender has been told
	state entryState
}

type entryState uint8

const (
	waiting   entryState = iota // in memory alone
	writing                     // being written
	spilled                     // safe on the disk
	confirmed                   // the broker has it
	failed                      // neither
)

// queue is the order in which messages were handed over: first those in the store,
// then those that are being written there, then those in memory alone. It is pure:
// it does no I/O, owns no goroutine and reads no clock. What senders are to be told
// gathers in answers.
//
// Either its head is sent from memory, which it is while the store is empty, or it
// is in the store and is sent from there. What is sent from memory may be spilled
// meanwhile; then it is confirmed in the store.
type queue struct {
	waiting []*entry
	writing []*entry
	stored  int64 // messages in the store that are not confirmed
	bytes   int64 // of waiting and writing

	// spilling: what waits is to be written now. Otherwise it waits for the broker,
	// and no longer than Options.Patience.
	spilling bool

	answers []answer
}

// answer is what a sender is to be told.
type answer struct {
	entry   *entry
	receipt Receipt
	err     error
}

// Limits of a batch that is written, and of a round that is sent.
const (
	batchBytes   = 1 << 20
	batchRecords = 8192
	roundBytes   = 1 << 20
	roundRecords = 1000
)

// pending is how many messages the broker has not confirmed.
func (q *queue) pending() int64 {
	n := q.stored + int64(len(q.waiting))
	for _, e := range q.writing {
		if e.state == writing {
			n++
		}
	}
	return n
}

func (q *queue) push(e *entry) {
	q.waiting = append(q.waiting, e)
	q.bytes += e.bytes
}

// batch takes the oldest of what waits, to be written; nil if nothing is to be.
func (q *queue) batch() []*entry {
	if !q.spilling || len(q.writing) > 0 || len(q.waiting) == 0 {
		return nil
	}
	n := prefix(q.waiting, batchRecords, batchBytes)
	q.writing, q.waiting = q.waiting[:n:n], q.waiting[n:]
	for _, e := range q.writing {
		e.state = writing
	}
	return q.writing
}

// written ends a batch. It returns how many of its first messages the broker has
// confirmed meanwhile; those are in the store, too, if err is nil.
func (q *queue) written(err error) (confirmedAlready int64) {
	for _, e := range q.writing {
		q.bytes -= e.bytes
		switch {
		case e.state == confirmed:
			confirmedAlready++
		case err == nil:
			e.state = spilled
			q.stored++
			q.tell(e, true, nil)
		default:
			q.fail(e, err)
		}
	}
	q.writing = nil
	if err != nil {
		return 0
	}
	return confirmedAlready
}

// round returns the oldest messages, to be sent from memory; nil if the head is in
// the store, or will be.
func (q *queue) round(most int) []*entry {
	if q.stored > 0 || len(q.writing) > 0 || len(q.waiting) == 0 {
		return nil
	}
	n := prefix(q.waiting, most, roundBytes)
	round := q.waiting[:n:n]
	for _, e := range round {
		e.tried++
	}
	return round
}

// confirmed ends a round that was sent from memory: the broker has all of it. It
// returns how many of them have been spilled meanwhile, the first in the store.
func (q *queue) confirmed(round []*entry) (inStore int64) {
	for _, e := range round {
		switch e.state {
		case waiting:
			q.drop(e)
			q.bytes -= e.bytes
		case spilled:
			inStore++
			q.stored--
		}
		e.state = confirmed
		q.tell(e, false, nil)
	}
	return inStore
}

// refused ends a round of one message that the broker will not have, unless that
// has been spilled meanwhile. Then it is to be sent from the store.
func (q *queue) refused(e *entry, err error) {
	e.tried--
	if e.state == waiting {
		q.drop(e)
		q.bytes -= e.bytes
		q.fail(e, err)
	}
}

// undone ends a round of which the broker has nothing.
func (q *queue) undone(round []*entry) {
	for _, e := range round {
		e.tried--
	}
}

// drop removes the head of what waits, which e is.
func (q *queue) drop(e *entry) {
	if q.waiting[0] != e {
		panic("spill: what was sent is not what is oldest")
	}
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
}

// abandon fails all that is not safe.
func (q *queue) abandon(err error) {
	for _, e := range q.waiting {
		q.bytes -= e.bytes
		q.fail(e, err)
	}
	q.waiting = nil
}

func (q *queue) fail(e *entry, err error) {
	e.state = failed
	if e.tried > 0 {
		err = errors.Join(err, polylog.ErrInDoubt)
	}
	q.tell(e, false, err)
}

// tell has the sender told, once.
func (q *queue) tell(e *entry, spilled bool, err error) {
	if e.known {
		return
	}
	e.known = true
	q.answers = append(q.answers, answer{e, Receipt{MessageID: e.message.ID, Spilled: spilled}, err})
}

// prefix is how many of the first entries fit the limits; one always does.
func prefix(entries []*entry, most int, bytes int64) int {
	size := int64(0)
	for n, e := range entries {
		if size += e.bytes; n > 0 && (n == most || size > bytes) {
			return n
		}
	}
	return len(entries)
}
