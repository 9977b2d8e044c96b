package main

import (
	"fmt"
	"slices"
	"strings"
)

// What can be found. Each is counted, and all of the counts must be 0.
const (
	faultTorn      = "torn transactions" // a part of one was read
	faultAborted   = "aborted reads"     // records of a transaction that did not commit
	faultLost      = "lost"              // committed records that were not read
	faultDuplicate = "duplicates"        // records that were read, or consumed and produced from, twice
	faultDisorder  = "out of order"      // of one producer in one partition
	faultDamaged   = "damaged"           // not what was produced
	faultChanged   = "changed"           // read once, and not again, or as something else
	faultGap       = "gaps"              // offsets that hold neither a record nor a marker
	faultHanging   = "hanging"           // transactions that do not end, consumers who get no further
	faultCrash     = "broker failures"   // it ended by itself, or did not come back

	faultUnprocessed = "unprocessed"     // records that no member of the group was given
	faultBack        = "commits back"    // committed offsets that went back
	faultShared      = "shared"          // partitions with two owners
	faultUnsettled   = "settled late"    // or not at all
	faultMembership  = "group's state"   // not what its members know of themselves
	exampleLimit     = 8                 // examples kept of each
	countText        = "  %-18s %6d%s\n" // one line for each kind
)

// faults counts what was found, and keeps the first examples.
type faults struct {
	Counts   map[string]int      `json:"counts"`
	Examples map[string][]string `json:"examples,omitempty"`
}

// newFaults makes each of the kinds appear in the result, though nothing of it be found.
func newFaults(kinds ...string) *faults {
	f := &faults{Counts: map[string]int{}, Examples: map[string][]string{}}
	for _, k := range kinds {
		f.Counts[k] = 0
	}
	return f
}

func (f *faults) add(kind string, n int, format string, a ...any) {
	if n == 0 {
		return
	}
	if len(f.Examples[kind]) < exampleLimit {
		text := fmt.Sprintf(format, a...)
		f.Examples[kind] = append(f.Examples[kind], text)
		progress("FOUND %s: %s", kind, text)
	}
	f.Counts[kind] += n
}

// merge adds what another found.
func (f *faults) merge(of string, g *faults) {
	for kind, n := range g.Counts {
		f.Counts[kind] += n
		for _, e := range g.Examples[kind] {
			f.Examples[kind] = append(f.Examples[kind], of+": "+e)
		}
	}
}

func (f *faults) none() bool {
	for _, n := range f.Counts {
		if n > 0 {
			return false
		}
	}
	return true
}

func (f *faults) text() string {
	var b strings.Builder
	var kinds []string
	for k := range f.Counts {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		mark := ""
		if f.Counts[k] > 0 {
			mark = "  <<<"
		}
		fmt.Fprintf(&b, countText, k, f.Counts[k], mark)
		for _, e := range f.Examples[k] {
			fmt.Fprintf(&b, "      %s\n", e)
		}
	}
	return b.String()
}
