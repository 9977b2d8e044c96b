package record

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEscapeName(t *testing.T) {
	for name, want := range map[string]string{
		"orders": "orders", "Orders.v2_x-y": "Orders.v2_x-y", "": "%", ".": "%2E", "..": "%2E%2E", "...": "...",
		"a/b": "a%2Fb", "%": "%25", "100%2F": "100%252F", "ä": "%C3%A4", "\x00": "%00", "a b": "a%20b",
		strings.Repeat("a", 249): strings.Repeat("a", 249), strings.Repeat("/", 83): strings.Repeat("%2F", 83),
	} {
		if got := EscapeName(name); got != want {
			t.Errorf("%q: %q", name, got)
		}
		if got, ok := UnescapeName(want); !ok || got != name {
			t.Errorf("back from %q: %q %v", want, got, ok)
		}
	}
	for _, never := range []string{"", ".", "..", "%2", "%2f", "%41", "%zz", "a/b", "%%", "a%", "%2E.", "a%2E"} {
		if got, ok := UnescapeName(never); ok {
			t.Errorf("%q comes from %q", never, got)
		}
	}
	long, longer := EscapeName(strings.Repeat("/", 84)), EscapeName(strings.Repeat("/", 85))
	if len(long) > maxName || long == longer || !strings.HasPrefix(long, "%2F%2F") || strings.Contains(long, "/") {
		t.Error(long, longer)
	}
	if _, ok := UnescapeName(long); ok {
		t.Error("a cut name is given back")
	}
	// Cut at a whole escape.
	if prefix, _, _ := strings.Cut(EscapeName("a"+strings.Repeat("/", 84)), "%-"); len(prefix)%3 != 1 {
		t.Error(prefix)
	}
}

func TestTopicName(t *testing.T) {
	for name, want := range map[string]string{
		"orders": "orders", "Orders.v2-y": "Orders.v2-y", "": "_x_", ".": "_x2E_", "..": "_x2E__x2E_", "...": "...",
		"a/b": "a_x2F_b", "//": "_x2F__x2F_", "ä": "_xC3__xA4_", "_x2F_": "_x5F_x2F_", "_x2f_": "_x2f_", "_x41_": "_x41_",
		"_x2F/": "_x5F_x2F_x2F_", "_x_": "_x5F_x_", "_x2E_": "_x5F_x2E_", "_x5F_x_": "_x5F_x5F_x_", "_x": "_x", "%": "_x25_",
		"my_x_y": "my_x_y", "_x5F_": "_x5F_", "_x5F_x2F_": "_x5F_x5F_x5F_x2F_", "a_x2E_": "a_x2E_",
	} {
		if got := TopicName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
		if got := DestinationName(want); got != name {
			t.Errorf("back from %q: %q, want %q", want, got, name)
		}
	}
	for _, name := range []string{strings.Repeat("a", 250), strings.Repeat("/", 50), strings.Repeat("é", 1<<20)} {
		got := TopicName(name)
		if len(got) > maxName || !kafkaLegal(got) || got == TopicName(name+"a") {
			t.Error(got)
		}
	}
}

// Both escapes are one to one in both directions.
func TestNamesRoundTrip(t *testing.T) {
	pieces := rapid.SampledFrom([]string{
		"_x", "_", "x", "2", "F", "5F", "2F", "2E", "/", ".", "..", "%", "%2F", "a", "ä", "_x5F_", "_x2F_", "_x2E_", "",
	})
	rapid.Check(t, func(t *rapid.T) {
		name := strings.Join(rapid.SliceOfN(pieces, 0, 12).Draw(t, "pieces"), "")
		topic := TopicName(name)
		if !kafkaLegal(topic) {
			t.Fatalf("%q: topic %q", name, topic)
		}
		if back := DestinationName(topic); back != name {
			t.Fatalf("%q: topic %q: back %q", name, topic, back)
		}
		if kafkaLegal(name) {
			if again := TopicName(DestinationName(name)); again != name {
				t.Fatalf("topic %q: %q", name, again)
			}
		}
		directory := EscapeName(name)
		if back, ok := UnescapeName(directory); !ok || back != name {
			t.Fatalf("%q: directory %q: back %q", name, directory, back)
		}
		if back, ok := UnescapeName(name); ok && EscapeName(back) != name {
			t.Fatalf("directory %q: %q", name, back)
		}
	})
}
