package half

import (
	"math"
	"reflect"
	"testing"

	"github.com/polylog-mq/polylog/destination"
)

func TestStep(t *testing.T) {
	x, y := destination.XID{Format: 1, Global: "g", Branch: "x"}, destination.XID{Format: 1, Global: "g", Branch: "y"}
	both := []Prepared{{x, 1000}, {y, 1500}}
	var c Checker
	step := func(now int64, prepared []Prepared, members int, wake int64, over []destination.XID, want ...Check) {
		t.Helper()
		checks, gone, at := c.Step(now, prepared, map[string]Group{"g": {Members: members, AfterMS: 1000, Max: 2}})
		if !reflect.DeepEqual(checks, want) || at != wake || !reflect.DeepEqual(gone, over) {
			t.Errorf("at %d: %v, over %v, wake %d; want %v, %v, %d", now, checks, gone, at, want, over, wake)
		}
	}
	step(1600, both, 0, math.MaxInt64, nil) // nobody is there to be asked
	step(1600, both, 2, 2000, nil)
	step(2000, both, 2, 2500, nil, Check{x, 0, 1})
	step(2400, both, 2, 2500, nil)
	step(2600, both, 2, 4000, nil, Check{y, 1, 1})
	step(3000, both, 0, math.MaxInt64, nil)
	step(5000, both, 3, 9000, nil, Check{x, 2, 2}, Check{y, 0, 2})
	step(9000, both[:1], 3, math.MaxInt64, []destination.XID{x})
	step(9000, nil, 3, math.MaxInt64, nil)
	if len(c.asked) != 0 {
		t.Errorf("%d are remembered", len(c.asked))
	}
}
