package subject

import "testing"

func TestClamp(t *testing.T) {
	if got := Clamp(7, 5); got != 5 {
		t.Errorf("%d", got)
	}
	if got := Clamp(5, 5); got != 5 {
		t.Errorf("%d", got)
	}
}
