package destination

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestRoute(t *testing.T) {
	d := &Destination{}
	for n := range int32(3) {
		d.Partitions = append(d.Partitions, &Partition{number: n})
	}
	for producer := range uint64(9) {
		if got := d.Route(nil, producer).Number(); got != int32(producer%3) {
			t.Errorf("producer %d: partition %d", producer, got)
		}
		if got := d.Route([]byte("foobar"), producer).Number(); got != int32((-790332482&0x7fffffff)%3) {
			t.Errorf("key: partition %d", got)
		}
	}
	one := &Destination{Partitions: d.Partitions[:1]}
	if n := testing.AllocsPerRun(100, func() { one.Route([]byte("key"), 7); d.Route([]byte("key"), 7) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestKind(t *testing.T) {
	for _, k := range []Kind{KindQueue, KindTopic, KindLog} {
		var back Kind
		if text, err := json.Marshal(k); err != nil || json.Unmarshal(text, &back) != nil || back != k {
			t.Errorf("%s became %s: %v", k, back, err)
		}
	}
	if _, err := ParseKind("stack"); !errors.Is(err, ErrKind) {
		t.Error(err)
	}
	if _, err := Kind(0).MarshalText(); !errors.Is(err, ErrKind) {
		t.Error(err)
	}
}

func TestDeadLetterName(t *testing.T) {
	for _, c := range []struct{ name, setting, want string }{
		{"orders", "", "DLQ.orders"},
		{"orders", None, ""},
		{"orders", "dead", "dead"},
		{"DLQ.orders", "", ""},
		{"DLQ.orders", "dead", "dead"},
	} {
		d := Destination{Name: c.name, Settings: Settings{DeadLetter: c.setting}}
		if got := d.DeadLetterName(); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.name, c.setting, got, c.want)
		}
	}
}
