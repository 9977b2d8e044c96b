package main

import (
	"fmt"
	"maps"
	"slices"
)

// An ownership judges a group of consumers of one topic by what its members are told:
// who owns which partition, which offsets are committed, which records are processed.
// Members are numbers that are not used again. It is not safe for concurrent use.
//
// Two members may own one partition only if the coordinator has given up the first:
// that one is told so later, or never if it is gone.
type ownership struct {
	found      *faults
	partitions []*owned
	overlaps   []overlap

	Excused   int // partitions with two owners, the first of which had been given up
	Reread    int // records that were processed more than once
	Processed int
	Produced  int
	Commits   int
}

type owned struct {
	owners    map[int]bool
	committed int64 // the highest offset of a commit that was answered
	acked     bits  // records, by number, that were produced
	processed bits
}

type overlap struct {
	partition     int32
	first, second int
}

var rebalanceFaults = []string{faultUnprocessed, faultBack, faultShared, faultUnsettled, faultMembership, faultDamaged, faultLost, faultCrash}

func newOwnership(partitions int) *ownership {
	o := &ownership{found: newFaults(rebalanceFaults...)}
	for range partitions {
		o.partitions = append(o.partitions, &owned{owners: map[int]bool{}})
	}
	return o
}

func (o *ownership) assigned(member int, partitions []int32) {
	for _, p := range partitions {
		for other := range o.partitions[p].owners {
			if other != member {
				o.overlaps = append(o.overlaps, overlap{p, other, member})
			}
		}
		o.partitions[p].owners[member] = true
	}
}

// revoked is called when the member has finished with them, before it says so.
func (o *ownership) revoked(member int, partitions []int32) { o.over(member, partitions, false) }

// lost is called when the member has learned that the coordinator had given it up.
func (o *ownership) lost(member int, partitions []int32) { o.over(member, partitions, true) }

// gone is called before a member ends without a word.
func (o *ownership) gone(member int) {
	for p, owned := range o.partitions {
		if owned.owners[member] {
			o.over(member, []int32{int32(p)}, true)
		}
	}
}

func (o *ownership) over(member int, partitions []int32, excused bool) {
	for _, p := range partitions {
		delete(o.partitions[p].owners, member)
		o.overlaps = slices.DeleteFunc(o.overlaps, func(l overlap) bool {
			if l.partition != p || l.first != member {
				return false
			}
			if excused {
				o.Excused++
			} else {
				o.found.add(faultShared, 1, "partition %d was given to member %d while member %d had it, and was in good standing", p, l.second, l.first)
			}
			return true
		})
	}
}

// floor is what committed offsets must not be below that are asked for, or set, from now on.
func (o *ownership) floor(partition int32) int64 { return o.partitions[partition].committed }

// commit tells that a commit was answered; floor is from before it was sent.
func (o *ownership) commit(member int, partition int32, offset, floor int64) {
	o.Commits++
	if offset < floor {
		o.found.add(faultBack, 1, "member %d committed %d in partition %d, after %d was", member, offset, partition, floor)
	}
	o.partitions[partition].committed = max(o.partitions[partition].committed, offset)
}

// fetched tells which offset the coordinator says is committed; floor is from before it
// was asked.
func (o *ownership) fetched(partition int32, offset, floor int64) {
	if offset < floor {
		o.found.add(faultBack, 1, "partition %d has offset %d, after %d was committed", partition, offset, floor)
	}
	o.partitions[partition].committed = max(o.partitions[partition].committed, offset)
}

func (o *ownership) acked(partition int32, record int) {
	o.Produced++
	o.partitions[partition].acked.set(record)
}

func (o *ownership) process(partition int32, record int) {
	if o.partitions[partition].processed.set(record) {
		o.Processed++
	} else {
		o.Reread++
	}
}

// left counts the records that were produced and not processed.
func (o *ownership) left() int {
	n := 0
	for _, p := range o.partitions {
		for i, word := range p.acked {
			if i < len(p.processed) {
				word &^= p.processed[i]
			}
			n += bits{word}.count()
		}
	}
	return n
}

// unsettled tells why a group of these members has not settled, or nothing: each
// partition has one owner, and no member has two more than another.
func (o *ownership) unsettled(members []int) string {
	share := map[int]int{}
	for _, m := range members {
		share[m] = 0
	}
	for p, owned := range o.partitions {
		if len(owned.owners) != 1 {
			return fmt.Sprintf("partition %d is owned by %v", p, slices.Sorted(maps.Keys(owned.owners)))
		}
		for m := range owned.owners {
			if _, ok := share[m]; !ok {
				return fmt.Sprintf("partition %d is owned by member %d, who has left", p, m)
			}
			share[m]++
		}
	}
	low, high := len(o.partitions), 0
	for _, n := range share {
		low, high = min(low, n), max(high, n)
	}
	if high > low+1 {
		return fmt.Sprintf("one member has %d partitions, and another %d", low, high)
	}
	return ""
}

// finish judges when nobody is left.
func (o *ownership) finish() {
	for _, l := range o.overlaps {
		o.found.add(faultShared, 1, "partition %d was given to member %d while member %d had it until the end", l.partition, l.second, l.first)
	}
	for p, owned := range o.partitions {
		missing := 0
		for i, word := range owned.acked {
			if i < len(owned.processed) {
				word &^= owned.processed[i]
			}
			missing += bits{word}.count()
		}
		o.found.add(faultUnprocessed, missing, "%d records of partition %d", missing, p)
	}
}
