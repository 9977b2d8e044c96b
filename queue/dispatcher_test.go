package queue

import (
	"runtime"
	"testing"
)

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
	for v.state.Load() != viewIdle { // the turn for the credit
		runtime.Gosched()
	}
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
