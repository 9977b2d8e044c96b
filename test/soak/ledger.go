package main

import "fmt"

// What is known of a message in a view.
const (
	isIntended uint8 = 1 << iota // somebody was about to send it
	isSent
	isArrived
	isSettling // somebody was about to acknowledge or to reject it
	isAcked
	isDead // was seen in a dead letter queue
	isBuried
	isMortal
)

// What is known of an attempt.
const (
	attemptCommitting uint8 = 1 << iota
	attemptCommitted
	attemptUndone
	attemptInA // arrived there
	attemptInB
)

// attempt is one message that a unit of work sent, to both its outputs, for
// one that it took.
type attemptState struct {
	View     view // of the message that was taken
	Flags    uint8
	Producer uint32 // of that
	Sequence uint32
}

// faults are what must not be.
type faults struct {
	Lost       int `json:"lost"`
	CameBack   int `json:"acknowledged_came_back"`
	Ghosts     int `json:"ghosts"`   // never sent, refused, or rolled back, and there
	Torn       int `json:"torn"`     // units of work done in part
	Doubled    int `json:"doubled"`  // taken by two units that were both done
	Disorder   int `json:"disorder"` // out of the order of a producer or group
	Unbalanced int `json:"unbalanced"`
	LeftOver   int `json:"left_over"`
}

func (f faults) any() bool { return f != faults{} }

// place is a group of a producer's messages, or one of them.
type place struct {
	View             view
	Producer, Number uint32
}

// ledger is what is known of every message, a byte for each: what clients said
// of it, in the order of time.
type ledger struct {
	Messages [views]map[uint32][]uint8 // by producer, by sequence
	Attempts map[uint32][]attemptState
	Highest  map[place]uint32 // the last first arrival, plus one
	Faults   faults
	Examples []string

	pending map[uint32]uint32 // by producer, the attempt whose attemptOf follows
}

func newLedger() *ledger {
	l := &ledger{Attempts: map[uint32][]attemptState{}, Highest: map[place]uint32{}, pending: map[uint32]uint32{}}
	for v := range l.Messages {
		l.Messages[v] = map[uint32][]uint8{}
	}
	return l
}

func (l *ledger) fault(n *int, format string, args ...any) {
	*n++
	if len(l.Examples) < 20 {
		l.Examples = append(l.Examples, fmt.Sprintf(format, args...))
	}
}

// at returns the state of a message.
func (l *ledger) at(v view, producer, sequence uint32) *uint8 {
	m := l.Messages[v][producer]
	for uint32(len(m)) <= sequence {
		m = append(m, 0)
	}
	l.Messages[v][producer] = m
	return &m[sequence]
}

func (l *ledger) attempt(producer, sequence uint32) *attemptState {
	a := l.Attempts[producer]
	for uint32(len(a)) <= sequence {
		a = append(a, attemptState{})
	}
	l.Attempts[producer] = a
	return &a[sequence]
}

func (e event) String() string {
	return fmt.Sprintf("%d of producer %d in %s", e.Sequence, e.Producer, viewNames[e.View])
}

// note takes one event in. Events come in the order of their times, but for
// those of one process, which come in its own order.
func (l *ledger) note(e event) {
	switch e.Kind {
	case attempt:
		l.pending[e.Producer] = e.Sequence
		return
	case attemptOf:
		*l.attempt(e.Aux, l.pending[e.Aux]) = attemptState{View: e.View, Producer: e.Producer, Sequence: e.Sequence}
		return
	case committing, committed, rolledBack:
		l.ended(e)
		return
	}
	s := l.at(e.View, e.Producer, e.Sequence)
	switch e.Kind {
	case sending:
		*s |= isIntended
		if e.Flags&mortal != 0 {
			*s |= isMortal
		}
	case sent:
		*s |= isSent
	case unsent:
		*s &^= isIntended
	case arrived:
		l.arrived(e, s)
	case acking:
		*s |= isSettling
	case acked:
		*s |= isAcked
	case unacked:
		*s &^= isSettling
	case died:
		if *s&(isAcked|isBuried) != 0 {
			l.fault(&l.Faults.CameBack, "%s is dead, and was acknowledged or buried", e)
		}
		if *s&isIntended == 0 {
			l.fault(&l.Faults.Ghosts, "%s is dead, and was never sent", e)
		}
		*s |= isDead
	case burying:
		*s |= isSettling
	case buried:
		*s |= isBuried
	}
}

func (l *ledger) arrived(e event, s *uint8) {
	if *s&(isAcked|isDead) != 0 {
		l.fault(&l.Faults.CameBack, "%s came back", e)
	}
	first := *s&isArrived == 0
	*s |= isArrived
	if bit, ok := e.View.output(); ok {
		a := l.attempt(e.Producer, e.Sequence)
		a.Flags |= bit
		if a.Flags&(attemptCommitting|attemptCommitted) == 0 {
			l.fault(&l.Faults.Ghosts, "%s came of a unit that was not committed", e)
		}
		return
	}
	if *s&isIntended == 0 {
		l.fault(&l.Faults.Ghosts, "%s was never sent", e)
	}
	if e.Flags&ordered == 0 || !first {
		return
	}
	p := place{View: e.View, Producer: e.Producer}
	if e.View == viewGroups {
		p.Number = e.Sequence % groups
	}
	if e.Sequence < l.Highest[p] {
		l.fault(&l.Faults.Disorder, "%s came first after %d", e, l.Highest[p]-1)
	}
	l.Highest[p] = max(l.Highest[p], e.Sequence+1)
}

// ended notes what is said of a unit.
func (l *ledger) ended(e event) {
	for i := range e.Aux {
		a := l.attempt(e.Producer, e.Sequence+i)
		in := l.at(a.View, a.Producer, a.Sequence)
		switch e.Kind {
		case committing:
			a.Flags |= attemptCommitting
			*in |= isSettling
		case committed:
			if a.Flags&attemptCommitted != 0 {
				continue // said again by whoever took the place of one that died
			}
			a.Flags |= attemptCommitted
			if *in&isAcked != 0 {
				l.fault(&l.Faults.Doubled, "%d of producer %d in %s was taken by two units", a.Sequence, a.Producer, viewNames[a.View])
			}
			*in |= isAcked
		case rolledBack:
			a.Flags |= attemptUndone
			if a.Flags&(attemptCommitted|attemptInA|attemptInB) != 0 {
				l.fault(&l.Faults.Ghosts, "%s was rolled back, and is there", e)
			}
			a.Flags &^= attemptCommitting
		}
	}
}

// bounds say how many messages of a view must be at the broker at the least,
// in it or in its dead letter queue, and may be there at the most.
func (l *ledger) bounds(v view) (least, most int64) {
	if bit, ok := v.output(); ok {
		return l.outputBounds(v, bit)
	}
	for _, messages := range l.Messages[v] {
		for _, s := range messages {
			if s&isIntended == 0 || s&(isAcked|isBuried) != 0 {
				continue
			}
			most++
			if s&isSent != 0 && s&(isSettling|isMortal) == 0 {
				least++
			}
		}
	}
	return least, most
}

func (l *ledger) outputBounds(v view, bit uint8) (least, most int64) {
	for producer, attempts := range l.Attempts {
		for i, a := range attempts {
			if o, other, _ := a.View.outputs(); a.Flags == 0 || v != o && v != other {
				continue
			}
			s := *l.at(v, producer, uint32(i))
			if a.Flags&(attemptCommitting|attemptCommitted) == 0 || s&isAcked != 0 {
				continue
			}
			most++
			if a.Flags&attemptCommitted != 0 && s&isSettling == 0 {
				least++
			}
		}
	}
	return least, most
}

// totals are the account.
type totals struct {
	Confirmed    int `json:"confirmed"` // sends, and messages sent by units that were committed
	InDoubt      int `json:"in_doubt"`
	Acknowledged int `json:"acknowledged"`
	Dead         int `json:"dead_lettered"`
	Expired      int `json:"expired"`
	Units        int `json:"units_committed"` // messages that they took
	RolledBack   int `json:"units_rolled_back"`
	UnitsInDoubt int `json:"units_in_doubt"`
}

// finish draws the account when every queue is empty.
func (l *ledger) finish() (t totals) {
	done := map[place]bool{} // messages that a unit has taken for good
	for producer, attempts := range l.Attempts {
		for i, a := range attempts {
			if a != (attemptState{}) {
				l.finishAttempt(event{View: a.View, Producer: producer, Sequence: uint32(i)}, a, done, &t)
			}
		}
	}
	for v := range views {
		if _, ok := v.output(); !ok {
			l.finishView(v, done, &t)
		}
	}
	return t
}

func (l *ledger) finishView(v view, done map[place]bool, t *totals) {
	_, _, taken := v.outputs()
	for producer, messages := range l.Messages[v] {
		for i, s := range messages {
			e := event{View: v, Producer: producer, Sequence: uint32(i)}
			switch {
			case s&isIntended == 0:
				continue
			case s&isSent != 0:
				t.Confirmed++
			default:
				t.InDoubt++
			}
			settled := s&(isAcked|isSettling) != 0
			if taken {
				settled = done[place{v, producer, uint32(i)}]
			}
			switch {
			case s&isDead != 0:
				t.Dead++
			case settled:
				t.Acknowledged++
			case s&isMortal != 0:
				t.Expired++
			case s&isSent != 0:
				l.fault(&l.Faults.Lost, "%s is lost", e)
			}
		}
	}
}

func (l *ledger) finishAttempt(e event, a attemptState, done map[place]bool, t *totals) {
	there := a.Flags & (attemptInA | attemptInB)
	switch {
	case a.Flags&attemptCommitted != 0:
		t.Units++
		t.Confirmed += 2
		t.Acknowledged += 2
	case a.Flags&attemptCommitting != 0:
		t.UnitsInDoubt++
	default:
		t.RolledBack++
	}
	switch {
	case there != 0 && there != attemptInA|attemptInB:
		l.fault(&l.Faults.Torn, "%s has one of its two messages", e)
	case there == 0 && a.Flags&attemptCommitted != 0:
		l.fault(&l.Faults.Lost, "%s was committed, and its messages are lost", e)
	case there != 0:
		in := place{a.View, a.Producer, a.Sequence}
		if done[in] {
			l.fault(&l.Faults.Doubled, "%d of producer %d in %s was done twice", a.Sequence, a.Producer, viewNames[a.View])
		}
		done[in] = true
	}
}
