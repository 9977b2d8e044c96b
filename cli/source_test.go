package cli

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	for _, c := range []struct {
		in        string
		delimiter byte
		want      []string
	}{
		{"", '\n', nil},
		{"a", '\n', []string{"a"}},
		{"a\nb\n", '\n', []string{"a", "b"}},
		{"a\n\nb", '\n', []string{"a", "", "b"}},
		{"\n", '\n', []string{""}},
		{"a\r\n", '\n', []string{"a\r"}},
		{"a\nb\x00c", 0, []string{"a\nb", "c"}},
		{long + "\n" + long, '\n', []string{long, long}},
	} {
		var got []string
		for line, err := range linesOf("input", iotest.HalfReader(strings.NewReader(c.in)), c.delimiter) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(line))
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
			t.Errorf("%.20q: %.60q", c.in, got)
		}
	}
	broken := errors.New("broken")
	var seen []string
	var failed error
	for line, err := range linesOf("input", io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), '\n') {
		if failed = err; err == nil {
			seen = append(seen, string(line))
		}
	}
	if !errors.Is(failed, broken) || !strings.Contains(failed.Error(), "line 2") || len(seen) != 1 {
		t.Errorf("%q, %v: half a line is no message", seen, failed)
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-06-30T10:00:00Z":      time.Date(2026, 6, 30, 10, 0, 0, 0, time.UTC),
		"2026-06-30T10:00:00+02:00": time.Date(2026, 6, 30, 8, 0, 0, 0, time.UTC),
		"2026-06-30":                time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC),
		"2026-06-30 10:00:00":       time.Date(2026, 6, 30, 10, 0, 0, 0, time.UTC),
		"-1h":                       now.Add(-time.Hour),
	} {
		if got, err := parseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
}

func TestParseProperty(t *testing.T) {
	for text, want := range map[string]any{
		"a=b=c": "b=c", "a=": "", "a:int=3": int32(3), "a:byte=-1": int8(-1), "a:short=7": int16(7),
		"a:long=9000000000": int64(9000000000), "a:bool=true": true, "a:double=1.5": 1.5, "a:float=2": float32(2), "a:string=x:y": "x:y",
	} {
		name, got, err := parseProperty(text)
		if err != nil || name != "a" || got != want {
			t.Errorf("%s: %s %v (%T), %v", text, name, got, got, err)
		}
	}
	for _, text := range []string{"a", "=b", "a:byte=128", "a:bool=maybe"} {
		if _, got, err := parseProperty(text); err == nil {
			t.Errorf("%s is taken for %v", text, got)
		}
	}
}
