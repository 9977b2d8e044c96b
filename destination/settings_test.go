package destination

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/vmihailenco/msgpack/v5"
)

// TestSettingsTable: every field of Settings is in the table, once, and every
// default is written as Get gives it.
func TestSettingsTable(t *testing.T) {
	if fields := reflect.TypeFor[Settings]().NumField(); fields != len(settings) {
		t.Fatalf("%d fields, %d in the table", fields, len(settings))
	}
	s := DefaultSettings()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	seen := map[any]bool{}
	for i, info := range SettingNames() {
		if got, err := s.Get(info.Name); err != nil || got != info.Default {
			t.Errorf("%s: %q %v, want %q", info.Name, got, err, info.Default)
		}
		p := reflect.ValueOf(settings[i].field(&s)).Field(0).Pointer()
		if seen[p] || info.Doc == "" || info.Type == "" {
			t.Errorf("%s: field is used twice, or it has no doc", info.Name)
		}
		seen[p] = true
	}
	if s.MaxDeliveries != 5 || s.PriorityWindow != 1024 || s.Partitions != 1 || s.Durability != DurabilityDisk {
		t.Errorf("defaults: %+v", s)
	}
}

func TestSettingsSet(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"retention.ms", "7d", "604800000"},
		{"retention.ms", "5s", "5000"},
		{"retention.ms", "-1", "-1"},
		{"retention.bytes", "64MiB", "67108864"},
		{"retention.bytes", "-1", "-1"},
		{"segment.bytes", "1GiB", "1073741824"},
		{"segment.bytes", "1MB", "1000000"},
		{"redelivery.delay", "1m30s", "1m30s"},
		{"redelivery.multiplier", "1.5", "1.5"},
		{"durability", "memory", "memory"},
		{"exclusive", "true", "true"},
		{"groups", "key", "key"},
		{"dead.letter", "none", "none"},
	} {
		s := DefaultSettings()
		if err := s.Set(c.name, c.text); err != nil {
			t.Error(err)
		} else if got, _ := s.Get(c.name); got != c.want {
			t.Errorf("%s=%s became %s, want %s", c.name, c.text, got, c.want)
		}
	}
	for _, c := range []struct{ name, text string }{
		{"partitions", "0"},
		{"partitions", "10001"},
		{"partitions", "many"},
		{"durability", "paper"},
		{"retention.ms", "-2"},
		{"retention.ms", "-5s"},
		{"retention.ms", "999999999999d"},
		{"retention.bytes", "9223372036854775807KiB"},
		{"retention.bytes", "-1KiB"},
		{"retention.bytes", "64 parsecs"},
		{"redelivery.multiplier", "NaN"},
		{"redelivery.multiplier", "0"},
		{"max.deliveries", "-1"},
		{"dead.letter", string(make([]byte, 250))},
	} {
		s := DefaultSettings()
		if err := s.Set(c.name, c.text); !errors.Is(err, ErrSettingValue) {
			t.Errorf("%s=%s: %v", c.name, c.text, err)
		}
		if s != DefaultSettings() {
			t.Errorf("%s=%s: was changed", c.name, c.text)
		}
	}
	s := DefaultSettings()
	if err := s.Set("no.such", "1"); !errors.Is(err, ErrUnknownSetting) {
		t.Error(err)
	}
	s.RedeliveryDelay = time.Hour
	if err := s.Validate(); !errors.Is(err, ErrSettingValue) {
		t.Error(err)
	}
}

// TestSettingsCodecs: through JSON, MessagePack and TOML only what differs
// from the default travels, and it arrives.
func TestSettingsCodecs(t *testing.T) {
	want, err := SettingsFrom(map[string]string{"max.deliveries": "3", "retention.ms": "1h", "exclusive": "true"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `{"exclusive":"true","max.deliveries":"3","retention.ms":"3600000"}` {
		t.Errorf("%s %v", text, err)
	}
	packed, err := msgpack.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var fromJSON, fromMsgpack Settings
	if err := json.Unmarshal(text, &fromJSON); err != nil || fromJSON != want {
		t.Errorf("JSON: %v %v", &fromJSON, err)
	}
	if err := msgpack.Unmarshal(packed, &fromMsgpack); err != nil || fromMsgpack != want {
		t.Errorf("MessagePack: %v %v", &fromMsgpack, err)
	}
	var file struct{ Orders Settings }
	if _, err := toml.Decode("[orders]\nmax.deliveries = 3\n\"retention.ms\" = '1h'\nexclusive = true\n", &file); err != nil || file.Orders != want {
		t.Errorf("TOML: %v %v", &file.Orders, err)
	}
	if got := want.String(); got != "retention.ms=3600000 max.deliveries=3 exclusive=true" {
		t.Error(got)
	}
	if _, err := toml.Decode("[orders]\nmax.deliveries = []\n", &file); err == nil {
		t.Error("TOML: a list was taken")
	}
}

func TestRedeliveryAfter(t *testing.T) {
	s := DefaultSettings()
	s.RedeliveryDelay, s.RedeliveryMultiplier, s.RedeliveryMaxDelay = time.Second, 2, time.Minute
	for count, want := range map[int]time.Duration{0: 0, 1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, math.MaxInt32: time.Minute} {
		if got := s.RedeliveryAfter(count, 3); got != want {
			t.Errorf("after %d: %s, want %s", count, got, want)
		}
	}
	s.RedeliveryMaxDelay = 0
	if got := s.RedeliveryAfter(math.MaxInt32, 3); got != math.MaxInt64 {
		t.Errorf("without a limit: %s", got)
	}
}

// TestRedeliveryJitter has messages that fail together come back over the whole
// of the wait's last part, each at the same time however often that is asked.
func TestRedeliveryJitter(t *testing.T) {
	s := DefaultSettings()
	s.RedeliveryDelay, s.RedeliveryJitter = time.Second, 0.25
	var tenths [10]int
	for offset := range int64(10_000) {
		d := s.RedeliveryAfter(1, offset)
		if d != s.RedeliveryAfter(1, offset) {
			t.Fatal("drawn anew")
		}
		if d <= 750*time.Millisecond || d > time.Second {
			t.Fatalf("offset %d: %s", offset, d)
		}
		tenths[min(9, (d-750*time.Millisecond)/(25*time.Millisecond))]++
	}
	for i, n := range tenths {
		if n < 850 || n > 1150 {
			t.Errorf("%d of 10,000 in tenth %d", n, i)
		}
	}
}
