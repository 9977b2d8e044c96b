package demo

import (
	"fmt"
	"io"
	"sync"
	"text/tabwriter"
)

// entry is what the ledger counts.
type entry int

const (
	published entry = iota // confirmed events
	ordered                // confirmed build orders
	audited                // events that the audit service acknowledged
	built                  // build orders acknowledged
	dead                   // build orders rejected
	unsure                 // build orders settled as the broker died: done, or to come again
	entries                // how many kinds there are
)

// ledger is the story's own account, from what its services were told.
type ledger struct {
	mu      sync.Mutex
	ids     map[entry]map[string]int // delivery ids, and how often each was noted
	doubted int                      // sends in doubt, sent again
}

func newLedger() *ledger {
	l := &ledger{ids: map[entry]map[string]int{}}
	for e := range entries {
		l.ids[e] = map[string]int{}
	}
	return l
}

func (l *ledger) note(e entry, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids[e][id]++
}

// doubt notes that a send was in doubt and is sent again.
func (l *ledger) doubt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubted++
}

func (l *ledger) count(e entry) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ids[e])
}

func (l *ledger) doubts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubted
}

func (l *ledger) clear(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids[e] = map[string]int{}
}

// outside returns the ids of an entry that are not in set.
func (l *ledger) outside(e entry, set map[string]bool) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.ids[e] {
		if !set[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// settled reports whether every build order is built, dead, or in doubt.
func (l *ledger) settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.ids[ordered] {
		if l.ids[built][id]+l.ids[dead][id]+l.ids[unsure][id] == 0 {
			return false
		}
	}
	return true
}

func (l *ledger) String() string {
	return fmt.Sprintf("%d published, %d audited, %d ordered, %d built, %d dead",
		l.count(published), l.count(audited), l.count(ordered), l.count(built), l.count(dead))
}

// print writes the account and returns an error if it does not add up. A
// message is told by its delivery id; one that was sent again after a doubt
// may have arrived twice, and both count.
func (l *ledger) print(out io.Writer, waiting map[string]int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var missing []string
	row := func(what string, sent, done, dead map[string]int, waits int64) string {
		acknowledged, again := 0, 0
		for id := range sent {
			switch {
			case done[id] > 0 || waits == 0 && l.ids[unsure][id] > 0: // not waiting: the lost answer was a yes
				acknowledged++
			case dead[id] == 0:
				missing = append(missing, what+" "+id)
			}
		}
		for _, n := range done {
			again += n - 1
		}
		return fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%d\t", what, len(sent), acknowledged, len(dead), waits, again)
	}
	events := row(eventsTopic, l.ids[published], l.ids[audited], nil, waiting[eventsTopic])
	builds := row(buildsQueue, l.ids[ordered], l.ids[built], l.ids[dead], waiting[buildsQueue]+waiting["DLQ."+buildsQueue])
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tproduced\tacknowledged\tdead-lettered\twaiting\tarrived again\t")
	fmt.Fprintln(t, events)
	fmt.Fprintln(t, builds)
	t.Flush()
	var waits int64
	for _, n := range waiting {
		waits += n
	}
	if again := l.doubled(); again > l.doubted {
		return fmt.Errorf("the account does not add up: %s again, but %s in doubt",
			counted(again, "message arrived", "messages arrived"), counted(l.doubted, "send was", "sends were"))
	}
	if len(missing) > 0 || waits != 0 {
		return fmt.Errorf("the account does not add up: %d waiting, %d missing, the first of them %v", waits, len(missing), missing[:min(3, len(missing))])
	}
	fmt.Fprintln(out, "\nThe account adds up: produced = acknowledged + dead-lettered + waiting.")
	return nil
}

// doubled counts confirmed acknowledgements beyond the first of a delivery id.
func (l *ledger) doubled() (n int) {
	for _, e := range []entry{audited, built} {
		for _, times := range l.ids[e] {
			n += times - 1
		}
	}
	return n
}
