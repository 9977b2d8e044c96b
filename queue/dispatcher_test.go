package queue

import "testing"

// TestReleaseGivesATurn has a Hold keep the workers asleep, and Release deliver
// in the caller's goroutine.
func TestReleaseGivesATurn(t *testing.T) {
	r := newRig(t)
	defer r.close()
	v := r.view(r.destination("q"))
	defer v.Close()
	s := newRecorder(t)
	k, err := v.Consume(ConsumerOptions{Holder: 1}, s)
	must(t, err)
	k.Credit(10)
	quieten(r)
	r.work.Hold()
	put(t, v, texts("a", "b")...)
	s.mu.Lock()
	early := len(s.got)
	s.mu.Unlock()
	r.work.Release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if early != 0 || len(s.got) != 2 || s.flushed == 0 {
		t.Errorf("%d came before Release, %d with it; flushed %d times", early, len(s.got), s.flushed)
	}
}

// quieten waits until no view is in line or has its turn.
func quieten(r *rig) {
	for {
		r.work.mu.Lock()
		n := len(r.work.line) - r.work.head
		r.work.mu.Unlock()
		if n == 0 {
			return
		}
	}
}
