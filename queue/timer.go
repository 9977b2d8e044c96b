package queue

import "time"

// timer is the one of a view. The view's lock guards it.
type timer struct {
	at     int64 // ms; when it rings, 0: it is not set
	next   int64 // ms; the earliest time wanted in this turn, 0: none
	cancel func() bool
}

// want asks for a turn at a time, ms.
func (t *timer) want(at int64) {
	if t.next == 0 || at < t.next {
		t.next = max(at, 1)
	}
}

func (t *timer) stop() {
	if t.cancel != nil {
		t.cancel()
		t.cancel = nil
	}
	t.at = 0
}

// setTimer sets the timer to the earliest time that anything is due. One that
// rings too early does no harm.
func (v *View) setTimer(now int64) {
	t := &v.timer
	for _, p := range v.parts {
		if at, ok := p.cursor.NextWake(); ok {
			t.want(at)
		}
		if p.owed > 0 && !p.busy() {
			t.want(p.owed)
		}
		if len(p.moves) > 0 && p.retry > now {
			t.want(p.retry)
		}
	}
	if v.idleAt > 0 {
		t.want(v.idleAt)
	}
	at := t.next
	t.next = 0
	if at == 0 || t.at > 0 && t.at <= at {
		return
	}
	t.stop()
	t.at = at
	t.cancel = v.deps.AfterFunc(time.Duration(min(max(at-now, 0), 1<<40))*time.Millisecond, v.ring)
}

// ring is called by the timer.
func (v *View) ring() {
	v.mu.Lock()
	v.timer.at, v.timer.cancel = 0, nil
	v.mu.Unlock()
	v.trigger()
}
