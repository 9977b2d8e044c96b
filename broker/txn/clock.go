package txn

import (
	"container/heap"
	"time"
)

// deadlines has the open transactions, the one that is to be looked at first
// on top.
type deadlines []*transaction

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].wakeAt < d[j].wakeAt }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	t := x.(*transaction)
	t.index = len(*d)
	*d = append(*d, t)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	t := (*d)[last]
	(*d)[last], *d = nil, (*d)[:last]
	t.index = -1
	return t
}

// alarm is the one timer for all deadlines. It may ring early, never late.
type alarm struct {
	atMS   int64
	cancel func() bool // nil: not set
}

func (a *alarm) stop() {
	if a.cancel != nil {
		a.cancel()
		a.cancel = nil
	}
}

// setDeadline puts t where it belongs, after its state may have changed. mu is held.
func (c *Coordinator) setDeadline(t *transaction) {
	open := t.current.state == ongoing
	switch {
	case open && t.index < 0:
		t.wakeAt = t.current.deadlineMS()
		heap.Push(&c.deadlines, t)
	case !open && t.index >= 0:
		heap.Remove(&c.deadlines, t.index)
	default:
		return
	}
	c.setAlarm()
}

func (c *Coordinator) setAlarm() {
	if c.closed || len(c.deadlines) == 0 {
		return
	}
	at := c.deadlines[0].wakeAt
	if c.alarm.cancel != nil {
		if c.alarm.atMS <= at {
			return
		}
		c.alarm.stop()
	}
	c.alarm.atMS = at
	c.alarm.cancel = c.o.AfterFunc(max(0, time.Duration(at-c.nowMS())*time.Millisecond), c.ring)
}

// ring times out what is due. What cannot be, because something else is being
// written, is looked at again.
func (c *Coordinator) ring() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm.cancel = nil
	now := c.nowMS()
	for len(c.deadlines) > 0 && c.deadlines[0].wakeAt <= now {
		t := c.deadlines[0]
		t.wakeAt = now + retryAfter.Milliseconds()
		heap.Fix(&c.deadlines, 0)
		c.do(job{t: t, kind: jobTimeout})
	}
	c.setAlarm()
}

// abortTimedOut is the coordinator's own abort, with a raised epoch.
func (c *Coordinator) abortTimedOut(t *transaction) {
	w, _ := c.start(c.ctx, t.id, func(t *transaction, newID int64) answer {
		a := t.timeout(newID, c.nowMS())
		if a.write != nil {
			c.o.Logger.Info("transaction timed out", "transactional_id", t.id, "producer_id", t.current.producerID)
		}
		return a
	})
	_ = w // whatever follows is arranged when it is durable
}

// scheduleExpiry looks for idle ids later. mu is held.
func (c *Coordinator) scheduleExpiry(d time.Duration) {
	if !c.closed {
		c.expiry = c.o.AfterFunc(d, c.expireIdle)
	}
}

// expireIdle has tombstones written for ids that were not used for long.
func (c *Coordinator) expireIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.nowMS() - c.o.Expiration.Milliseconds()
	for _, t := range c.transactions {
		if t.current.updatedMS <= before && t.current.state.settled() && !t.busy() {
			c.do(job{t: t, kind: jobExpire})
		}
	}
	c.scheduleExpiry(expireEvery)
}

func (c *Coordinator) forget(t *transaction) {
	_, _ = c.start(c.ctx, t.id, func(t *transaction, _ int64) answer {
		return t.expire(c.nowMS(), c.o.Expiration.Milliseconds())
	})
}
