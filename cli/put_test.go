package cli

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog"
)

// What is counted as confirmed is what came before the first failure.
func TestTally(t *testing.T) {
	stopped := false
	y := &tally{stop: func() { stopped = true }}
	for range 4 {
		y.sending()
	}
	broken := errors.New("broken")
	for _, err := range []error{nil, nil, broken, nil} {
		y.done(polylog.Receipt{}, err)
	}
	if n, err := y.wait(t.Context()); n != 2 || !errors.Is(err, broken) || !stopped {
		t.Errorf("%d confirmed, %v, stopped %t", n, err, stopped)
	}
}

func TestTallyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := &tally{}
		y.sending()
		time.AfterFunc(time.Hour, func() { y.done(polylog.Receipt{}, nil) })
		if n, err := y.wait(t.Context()); n != 1 || err != nil {
			t.Error(n, err)
		}
		// Interrupted, it does not wait for ever.
		y.sending()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		started := time.Now()
		_, err := y.wait(ctx)
		if exitCode(err) != exitInterrupted || time.Since(started) != closeTimeout {
			t.Error(err, time.Since(started))
		}
	})
}

func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		p := newPacer(100)
		for range 201 {
			must(t, p.wait(t.Context()))
		}
		if got := time.Since(started); got != 2*time.Second {
			t.Errorf("201 turns at 100 a second took %s", got)
		}
		time.Sleep(time.Hour) // catches up for a second at most
		started = time.Now()
		for range 201 {
			must(t, p.wait(t.Context()))
		}
		if got := time.Since(started); got < 990*time.Millisecond || got > 1010*time.Millisecond {
			t.Errorf("after a pause, 201 turns took %s", got)
		}
	})
}

// A read that nothing ends does not keep an interrupted command.
func TestInterruptible(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	block := make(chan struct{})
	defer close(block)
	defer cancel()
	inner := func(yield func([]byte, error) bool) {
		yield([]byte("a"), nil)
		<-block
	}
	var got []string
	var last error
	for body, err := range interruptible(ctx, inner) {
		if last = err; err == nil {
			got = append(got, string(body))
			cancel()
		}
	}
	if len(got) != 1 || !errors.Is(last, errInterrupted) {
		t.Error(got, last)
	}
}
