package cli

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// A signal ends an endless command in order and interrupts every other, but
// hides neither what was done nor what went wrong.
func TestAfterSignal(t *testing.T) {
	failure := errors.New("disk on fire")
	canceled := fmt.Errorf("take: %w", context.Canceled)
	midway := fmt.Errorf("3 messages confirmed, then: %w", errInterrupted)
	for _, c := range []struct {
		err             error
		ending, forever int // exit codes of a command with an end, and without
	}{
		{nil, exitOK, exitOK},
		{errInterrupted, exitInterrupted, exitOK},
		{canceled, exitInterrupted, exitOK},
		{midway, exitInterrupted, exitOK},
		{failure, exitFailure, exitFailure},
	} {
		if code := exitCode(afterSignal(c.err, false)); code != c.ending {
			t.Errorf("%v, with an end: %d, want %d", c.err, code, c.ending)
		}
		if code := exitCode(afterSignal(c.err, true)); code != c.forever {
			t.Errorf("%v, without: %d, want %d", c.err, code, c.forever)
		}
	}
	if err := afterSignal(midway, false); err != midway {
		t.Errorf("%v does not say how far it came", err)
	}
}

// Every code that the broker's refusals come to is documented.
func TestExitCodes(t *testing.T) {
	documented := map[int]bool{}
	for _, e := range exitCodes {
		documented[e.code] = true
	}
	for refusal, code := range codesOf {
		if !documented[code] {
			t.Errorf("%v ends with %d, which is in no table", refusal, code)
		}
	}
}
