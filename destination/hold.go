package destination

import (
	"cmp"
	"slices"
)

// Hold acknowledges a message in the open transaction txn. It is neither
// available nor its holder's any more, whoever dies, until EndHold.
// ErrStaleToken.
func (c *Cursor) Hold(offset int64, acquisition uint64, txn uint64) error {
	return c.HoldRange(offset, offset+1, acquisition, anyHolder, txn)
}

// HoldRange holds all of [from, to), which h acquired as first, first+1 and so
// on, or nothing. ErrStaleToken.
func (c *Cursor) HoldRange(from, to int64, first uint64, h Holder, txn uint64) error {
	if err := c.CheckRange(from, to, first, h); err != nil || from >= to {
		return err
	}
	for offset := from; offset < to; {
		r := c.take(c.runs.seek(offset), offset, to)
		c.track(run{from: r.from, to: r.to, state: held, owner: txn, count: r.count})
		offset = r.to
	}
	c.delta.emit(opHold, from, to, txn)
	return nil
}

// EndHold ends what txn holds: acknowledged if it commits, available again if
// not. It returns the offsets, ascending.
func (c *Cursor) EndHold(txn uint64, commit bool) (offsets []int64) {
	o, ok := c.owners[ownerKey{txn, held}]
	if !ok {
		return nil
	}
	op := opAbortHold
	if commit {
		op = opCommitHold
	}
	offsets = c.endHold(txn, commit, make([]int64, 0, o.records))
	c.delta.emit(op, 0, 1, txn)
	return offsets
}

func (c *Cursor) endHold(txn uint64, commit bool, offsets []int64) []int64 {
	c.takeOwned(ownerKey{txn, held}, func(r run) {
		if commit {
			c.finish(r.from, r.to)
			c.stats.Acknowledged += r.length()
		} else {
			c.counts.put(r.from, r.to, r.count)
		}
		if offsets != nil {
			offsets = appendRange(offsets, r.from, r.to)
		}
	})
	return offsets
}

// HoldSend keeps back what of [from, to) is available, because the transaction
// of producer that wrote it is open. Offsets at or above Next are looked at on
// the way.
func (c *Cursor) HoldSend(from, to int64, producer uint64) {
	from = max(from, c.floor)
	if from >= to {
		return
	}
	c.reach(from, to)
	for start, end := range c.UndoneRanges(from, to) {
		c.trackCounted(start, end, run{state: heldSend, owner: producer})
		c.delta.emit(opHoldSend, start, end, producer)
	}
}

// EndSend ends the open transaction of producer: what it wrote becomes
// available if it commits and is passed if not. It returns the offsets,
// ascending.
func (c *Cursor) EndSend(producer uint64, commit bool) (offsets []int64) {
	o, ok := c.owners[ownerKey{producer, heldSend}]
	if !ok {
		return nil
	}
	op := opAbortSend
	if commit {
		op = opCommitSend
	}
	offsets = c.endSend(producer, commit, make([]int64, 0, o.records))
	c.delta.emit(op, 0, 1, producer)
	return offsets
}

func (c *Cursor) endSend(producer uint64, commit bool, offsets []int64) []int64 {
	c.takeOwned(ownerKey{producer, heldSend}, func(r run) {
		if commit {
			c.counts.put(r.from, r.to, r.count)
		} else {
			c.finish(r.from, r.to)
			c.stats.Passed += r.length()
		}
		if offsets != nil {
			offsets = appendRange(offsets, r.from, r.to)
		}
	})
	return offsets
}

// trackCounted puts [from, to), which is available, into runs like r, one for
// each stretch that shares a delivery count.
func (c *Cursor) trackCounted(from, to int64, r run) {
	for from < to {
		count, end := c.counts.at(from)
		end = min(end, to)
		c.counts.drop(from, end)
		r.from, r.to, r.count = from, end, count
		c.track(r)
		from = end
	}
}

// HeldSend is where what producer keeps back lies: within [from, to).
func (c *Cursor) HeldSend(producer uint64) (from, to int64) {
	o := c.owners[ownerKey{producer, heldSend}]
	return o.from, o.to
}

// Held are the transactions that hold messages, ascending. After a restart the
// coordinator ends those that were never prepared.
func (c *Cursor) Held() []uint64 { return c.ownersOf(held) }

// HeldSends are the producers whose open transactions keep messages back, ascending.
func (c *Cursor) HeldSends() []uint64 { return c.ownersOf(heldSend) }

func (c *Cursor) ownersOf(s state) (ids []uint64) {
	for key := range c.owners {
		if key.state == s {
			ids = append(ids, key.id)
		}
	}
	slices.SortFunc(ids, cmp.Compare[uint64])
	return ids
}
