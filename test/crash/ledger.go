package main

import (
	"fmt"
	"sync"
)

// message names one message: who sent it where, and its place in that order.
type message struct {
	Queue, Producer, Sequence int
	Plain                     bool // without a delay: its order counts
}

// ledger is what clients know. It lives through every crash, as the broker's
// word must.
type ledger struct {
	mu        sync.Mutex
	next      int // numbers producers
	confirmed map[message]bool
	doubtful  map[message]bool
	acked     map[message]bool // confirmed
	unsure    map[message]bool // acknowledged without an answer
	refused   map[message]bool // rejected, confirmed
	dead      map[message]bool // taken from a dead letter queue and confirmed
	delivered map[message]int
	highest   map[[2]int]int // queue and producer: highest sequence delivered
	cameBack  int
	disorder  int
	examples  []string
}

func newLedger() *ledger {
	return &ledger{
		confirmed: map[message]bool{}, doubtful: map[message]bool{}, acked: map[message]bool{}, unsure: map[message]bool{}, refused: map[message]bool{}, dead: map[message]bool{},
		delivered: map[message]int{}, highest: map[[2]int]int{},
	}
}

func (l *ledger) producer() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return l.next
}

func (l *ledger) sent(m message, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.doubtful[m] = true
		return
	}
	l.confirmed[m] = true
}

// arrived notes a delivery. ordered says that the queue has one consumer, so
// that messages never seen before come in the order of their session.
func (l *ledger) arrived(m message, ordered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked[m] || l.dead[m] {
		l.cameBack++
		l.example("%+v came back", m)
	}
	l.delivered[m]++
	if !ordered || !m.Plain || l.delivered[m] > 1 {
		return
	}
	key := [2]int{m.Queue, m.Producer}
	if m.Sequence < l.highest[key] {
		l.disorder++
		l.example("%+v came after %d", m, l.highest[key])
	}
	l.highest[key] = max(l.highest[key], m.Sequence)
}

// acknowledged notes the answer to an acknowledgement. Without one the message
// may be done with or come back.
func (l *ledger) acknowledged(m message, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.unsure[m] = true
		return
	}
	l.acked[m] = true
}

// rejected notes a rejection. What was confirmed must be found in the dead
// letter queue in the end.
func (l *ledger) rejected(m message, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.refused[m] = true
	}
}

func (l *ledger) buried(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead[m] {
		l.cameBack++
		l.example("%+v is dead twice", m)
	}
	l.dead[m] = true
}

func (l *ledger) example(format string, args ...any) {
	if len(l.examples) < 10 {
		l.examples = append(l.examples, fmt.Sprintf(format, args...))
	}
}

func (l *ledger) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d confirmed, %d acknowledged, %d dead, came back %d, out of order %d",
		len(l.confirmed), len(l.acked), len(l.dead), l.cameBack, l.disorder)
}

// finish draws the account when every queue has been drained: what was
// confirmed has been acknowledged or is dead.
func (l *ledger) finish(r *result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for m := range l.confirmed {
		if !l.acked[m] && !l.dead[m] && !l.unsure[m] {
			r.Lost++
			l.example("%+v is lost", m)
		}
	}
	for m := range l.refused {
		if !l.dead[m] {
			r.Lost++
			l.example("%+v was rejected and is no dead letter", m)
		}
	}
	for _, n := range l.delivered {
		r.Redelivered += n - 1
	}
	r.Confirmed, r.InDoubt, r.Acknowledged, r.DeadLettered = len(l.confirmed), len(l.doubtful), len(l.acked), len(l.dead)
	r.CameBack, r.Misordered, r.Examples = l.cameBack, l.disorder, l.examples
}
