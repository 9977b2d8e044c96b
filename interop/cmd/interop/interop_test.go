package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const goOutput = `=== RUN   TestWhole
    x_test.go:1: a log line
--- PASS: TestWhole (0.01s)
=== RUN   TestParts
=== RUN   TestParts/one
=== RUN   TestParts/one/deep
=== RUN   TestParts/two
--- FAIL: TestParts (0.02s)
    --- PASS: TestParts/one (0.01s)
        --- PASS: TestParts/one/deep (0.00s)
    --- FAIL: TestParts/two (0.01s)
=== RUN   TestSuite
=== RUN   TestSuite/fine
--- FAIL: TestSuite (0.02s)
    --- PASS: TestSuite/fine (0.01s)
=== RUN   TestNoNewline
printed--- SKIP: TestNoNewline (0.00s)
=== RUN   TestCrash
panic: oh
`

func TestGoTests(t *testing.T) {
	want := []outcome{
		{"TestWhole", passed},
		{"TestParts/one", passed},
		{"TestParts/two", failed},
		{"TestSuite", failed}, // though each of its parts is fine
		{"TestSuite/fine", passed},
		{"TestNoNewline", skipped},
		{"TestCrash", failed},
	}
	if got := goTests(goOutput); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	want = []outcome{{"TestWhole", passed}, {"TestParts", failed}, {"TestSuite", failed}, {"TestNoNewline", skipped}, {"TestCrash", failed}}
	if got := topLevel(goOutput); !slices.Equal(got, want) {
		t.Errorf("top level: got %v", got)
	}
}

func TestTAP(t *testing.T) {
	got := tap("TAP version 13\n# Subtest: a: b\nok 1 - a: b\n  ---\n  ok 7 - not at the margin\n  ...\nnot ok 2 - c\nok 3 - d # SKIP no zstd\n1..3\n")
	if want := []outcome{{"a: b", passed}, {"c", failed}, {"d", skipped}}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestJudge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "expected.txt")
	text := "# for people\n\nkfake,polylog s a: known -- it is so\n* s mended -- it was so\nkafka s b -- not here\npolylog s gone -- it was so\npolylog s c -- sometimes: it is slow\npolylog s d -- skips: no zstd\npolylog other x -- elsewhere\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	expected, err := readExpected(path, "polylog")
	if err != nil {
		t.Fatal(err)
	}
	r := report{suite: "s", outcomes: []outcome{{"a: known", failed}, {"b", failed}, {"mended", passed}, {"c", passed}, {"d", skipped}, {"e", skipped}}}
	r.judge(expected)
	if !slices.Equal(r.expected, []string{"a: known: it is so"}) || !slices.Equal(r.surprises, []string{"b", "e (skipped)"}) {
		t.Errorf("expected %v, surprises %v", r.expected, r.surprises)
	}
	slices.Sort(r.unexpectedly)
	if len(r.unexpectedly) != 2 || !strings.HasPrefix(r.unexpectedly[0], "gone: is no more") || !strings.HasPrefix(r.unexpectedly[1], "mended: passed") {
		t.Errorf("unexpectedly %v", r.unexpectedly)
	}
	if text, ok := table("polylog", []report{r}); ok || !strings.Contains(text, "s b\n") {
		t.Errorf("%v\n%s", ok, text)
	}
}

// TestSecondTry: what passes only then is told, with what the first try printed;
// what fails both times is a failure.
func TestSecondTry(t *testing.T) {
	first := report{suite: "s", outcomes: []outcome{{"slow", failed}, {"wrong", failed}}, output: "x.go:1: waited 9s\n--- FAIL: slow (9s)\n"}
	first.judge(expectation{})
	if !first.doubtful() {
		t.Error("not doubtful")
	}
	r := report{suite: "s", outcomes: []outcome{{"slow", passed}, {"wrong", failed}}}
	r.judge(expectation{})
	r.second(first)
	text, ok := table("x", []report{r})
	if ok || len(r.again) != 1 || !strings.Contains(text, "SECOND TRY\n  s slow\n    x.go:1: waited 9s") || !strings.Contains(text, "s wrong\n") {
		t.Errorf("%v\n%s", ok, text)
	}
	first.broken = errors.New("the broker crashed")
	if first.doubtful() {
		t.Error("a crash of the broker is beyond doubt")
	}
}

func TestGoodAndBroken(t *testing.T) {
	r := report{suite: "s", outcomes: []outcome{{"a", passed}, {"b", skipped}}}
	r.judge(expectation{"s b": skips + "not here"})
	if text, ok := table("x", []report{r}); !ok {
		t.Error(text)
	}
	r.broken = errors.New("the broker ended")
	if text, ok := table("x", []report{r}); ok || !strings.Contains(text, "the broker ended") {
		t.Error(text)
	}
}

func TestExpectedSyntax(t *testing.T) {
	for _, line := range []string{"polylog s", "polylog s t", "polylog s -- why", "polylog s t -- "} {
		path := filepath.Join(t.TempDir(), "expected.txt")
		if err := os.WriteFile(path, []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readExpected(path, "polylog"); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}

// TestExpectedFile reads the file that is checked in: every line names a suite
// that there is.
func TestExpectedFile(t *testing.T) {
	for _, target := range []string{"polylog", "kfake", "kafka"} {
		e, err := readExpected("../../expected.txt", target)
		if err != nil {
			t.Fatal(err)
		}
		for what := range e {
			name, _, _ := strings.Cut(what, " ")
			if !slices.ContainsFunc(suites, func(s suite) bool { return s.name == name }) {
				t.Errorf("%s: no such suite", what)
			}
		}
	}
}
