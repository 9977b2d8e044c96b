package destination

import (
	"errors"
	"strings"
	"testing"
)

func TestPatternMatches(t *testing.T) {
	for _, test := range []struct {
		pattern  string
		yes, not []string
	}{
		{"orders.*", []string{"orders.eu", "orders."}, []string{"orders", "orders.eu.new", "order.eu", "x.orders.eu"}},
		{"orders.>", []string{"orders", "orders.eu", "orders.eu.new"}, []string{"ordersx", "order", "x.orders"}},
		{">", []string{"a", "a.b", "a.b.c"}, nil},
		{"*", []string{"a", "a>b"}, []string{"a.b"}},
		{"*.eu.*", []string{"orders.eu.new"}, []string{"orders.eu", "orders.us.new", "orders.eu.new.x"}},
		{"a,b.*, c", []string{"a", "b.x", "c"}, []string{"b", "c.x", " c"}},
		{"price.*.>", []string{"price.stock", "price.stock.ibm"}, []string{"price"}},
	} {
		if !IsPattern(test.pattern) {
			t.Errorf("IsPattern(%q) is false", test.pattern)
		}
		p, err := ParsePattern(test.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range test.yes {
			if !p.Matches(name) {
				t.Errorf("%q does not match %q", test.pattern, name)
			}
		}
		for _, name := range test.not {
			if p.Matches(name) {
				t.Errorf("%q matches %q", test.pattern, name)
			}
		}
	}
	for _, name := range []string{"orders", "a*b", "a.b>", "x>y.z", "price*", ""} {
		if IsPattern(name) {
			t.Errorf("IsPattern(%q)", name)
		}
	}
}

func TestPatternsThatAreRefused(t *testing.T) {
	for text, want := range map[string]error{
		"a,":                           ErrInvalid,
		",a":                           ErrInvalid,
		"a.>.b":                        ErrInvalid,
		strings.Repeat("x,", 64) + "x": ErrTooLarge,
		strings.Repeat("x", MaxPatternBytes) + ".*": ErrTooLarge,
	} {
		if _, err := ParsePattern(text); !errors.Is(err, want) {
			t.Errorf("ParsePattern(%.20q): %v, want %v", text, err, want)
		}
	}
	if _, err := Names("a,b.*", KindQueue); !errors.Is(err, ErrInvalid) {
		t.Errorf("Names with a wildcard: %v", err)
	}
}

func TestNames(t *testing.T) {
	got, err := Names("a, topic://b,queue://c", KindTopic)
	if err != nil {
		t.Fatal(err)
	}
	want := []Name{{"a", KindTopic}, {"b", KindTopic}, {"c", KindQueue}}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestCutVirtual(t *testing.T) {
	for name, want := range map[string]string{
		"Consumer.a.VirtualTopic.orders":    "VirtualTopic.orders",
		"Consumer.a.VirtualTopic.orders.eu": "VirtualTopic.orders.eu",
		"Consumer.a.VirtualTopic.>":         "VirtualTopic.>",
		"Consumer.a.VirtualTopic.":          "",
		"Consumer..VirtualTopic.x":          "",
		"Consumer.a.b.VirtualTopic.x":       "",
		"Consumer.VirtualTopic.x":           "",
		"VirtualTopic.x":                    "",
	} {
		topic, ok := CutVirtual(name)
		if ok != (want != "") || ok && topic != want {
			t.Errorf("CutVirtual(%q) = %q, %v; want %q", name, topic, ok, want)
		}
	}
}
