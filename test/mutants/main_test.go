package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func absolute(t *testing.T, dir string) string {
	t.Helper()
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// points are those of the subject, as the report shows them.
const points = `22 number: buffer := make([]int, [-0-]{+1+}, 8)
23 number: for i := [-0-]{+1+}; i < len(values); i++ {
23 comparison: for i := 0; i [-<-]{+<=+} len(values); i++ {
24 condition: if [-values[i] < 0 && strict-]{+!(values[i] < 0 && strict)+} {
24 comparison: if values[i] [-<-]{+<=+} 0 && strict {
24 number: if values[i] < [-0-]{+1+} && strict {
24 logic: if values[i] < 0 [-&&-]{+||+} strict {
24 body: if values[i] < 0 && strict {[-return 0, errors.New("below 0")-]} (does not compile)
25 number: return [-0-]{+1+}, errors.New("below 0")
25 error: return 0, [-errors.New("below 0")-]{+nil+} (does not compile)
27 negation: if [-!-]strict {
27 body: if !strict {[-continue-]}
28 branch: [-continue-]{+break+}
30 statement: [-buffer = append(buffer, values[i])-]
31 statement: [-sum += 2 * values[i]-]
31 arithmetic: sum [-+=-]{+-=+} 2 * values[i]
31 number: sum += [-2-]{+1+} * values[i]
31 arithmetic: sum += 2 [-*-]{+/+} values[i]
33 comparison: if sum [-==-]{+!=+} 0 {
33 number: if sum == [-0-]{+1+} {
36 condition: if [-sum < 0-]{+!(sum < 0)+} {
36 comparison: if sum [-<-]{+<=+} 0 {
36 number: if sum < [-0-]{+1+} {
40 number: case [-1-]{+2+}:
40 body: case 1:[-return sum, nil-]
43 statement: [-note(fmt.Sprint("a"+"b"), true)-]
43 boolean: note(fmt.Sprint("a"+"b"), [-true-]{+false+})
44 arithmetic: return sum [---]{+++} 1, err
44 number: return sum - [-1-]{+0+}, err
44 error: return sum - 1, [-err-]{+nil+}
50 condition: if [-keep-]{+!(keep)+} {
50 body: if keep {[-notes = append(notes, text) return-]}
51 statement: [-notes = append(notes, text)-]
52 return: [-return-]
`

func TestPoints(t *testing.T) {
	p, err := load(absolute(t, "testdata/subject"), parseTarget(".:subject.go"))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	f := p.files["subject.go"]
	for _, point := range f.points {
		m := mutant{pkg: p, file: f, point: point}
		does := ""
		if !p.compiles(f, point.applied(f.source)) {
			does = " (does not compile)"
		}
		fmt.Fprintf(&got, "%d %s: %s%s\n", m.line(), point.kind, point.diff(f.source), does)
	}
	if got.String() != points {
		t.Errorf("got\n%s", got.String())
	}
	if n := len(p.files["clamp.go"].points); n != 0 {
		t.Errorf("%d points in a file that was not named", n)
	}
	if _, err := load(absolute(t, "testdata/subject"), parseTarget(".:other.go")); err == nil {
		t.Error("a file that is not there")
	}
}

// Of three mutants two fail a test; what is known is not run again.
func TestRun(t *testing.T) {
	c := config{
		root: "testdata/subject", targets: []target{parseTarget(".:clamp.go")}, n: 9, seed: 3, workers: 2,
		out: filepath.Join(t.TempDir(), "results"), memory: 4096, progress: io.Discard,
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// printed runs, and returns the report and how long the file of results is.
	printed := func() (string, int) {
		t.Helper()
		r, err := run(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		r.print(&b)
		kept, err := os.ReadFile(c.out)
		if err != nil {
			t.Fatal(err)
		}
		return b.String(), bytes.Count(kept, []byte("\n"))
	}
	want := strings.TrimPrefix(`
      file  points  mutants  killed  hung  survived  caught
  clamp.go       3        3       2     0         1   66.7%
       all       3        3       2     0         1   66.7%
clamp.go:5: comparison: if v [->-]{+>=+} limit {
`, "\n")
	first, lines := printed()
	if first != want || lines != 3 {
		t.Errorf("%d lines, got\n%s", lines, first)
	}
	if again, lines := printed(); again != want || lines != 3 {
		t.Errorf("again: %d lines, got\n%s", lines, again)
	}
	c.again = true
	if again, lines := printed(); again != want || lines != 4 {
		t.Errorf("with those that survived: %d lines, got\n%s", lines, again)
	}
}

func TestFates(t *testing.T) {
	dir := t.TempDir()
	for script, want := range map[string]string{
		"exit 0":                                 "survived ",
		"echo '--- FAIL: TestX (0.00s)'; exit 1": "killed ./p TestX",
		"echo 'panic: out of range'; exit 2":     "killed ./p out of range",
		"exit 3":                                 "killed ./p exit",
		"echo 'panic: test timed out after 1s'; exit 2": "hung ./p",
		`[ "$(ulimit -v)" = 1000000 ]`:                  "survived ",
		`[ "$TMPDIR" = ` + dir + ` ]`:                   "survived ",
		`[ "$2" = -test.timeout=1s ]`:                   "survived ",
		`[ "$3" = -test.short ]`:                        "survived ",
	} {
		binary := filepath.Join(dir, "test")
		if err := os.WriteFile(binary, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		x := &tester{memoryKB: 1_000_000}
		fate, by, err := x.run(t.Context(), &suite{pattern: "./p", dir: dir, flags: []string{"-test.short"}}, binary, dir, time.Second)
		if got := fate + " " + by; got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", script, got, err, want)
		}
	}
}

// Any beginning of the order has its share of each file.
func TestShuffle(t *testing.T) {
	sizes := map[string]int{"a": 10, "b": 30, "c": 60}
	var all []mutant
	for name, n := range sizes {
		f := &file{shown: name}
		for i := range n {
			all = append(all, mutant{file: f, point: point{from: i}})
		}
	}
	order := func(seed uint64) (names []string) {
		seen := map[string]int{}
		for i, m := range shuffle(all, seed) {
			seen[m.file.shown]++
			for name, n := range sizes {
				if want := float64((i+1)*n) / 100; float64(seen[name]) < want-2 || float64(seen[name]) > want+2 {
					t.Errorf("seed %d: %d of the first %d are of %s", seed, seen[name], i+1, name)
				}
			}
			names = append(names, fmt.Sprint(m.file.shown, m.point.from))
		}
		return names
	}
	one := order(1)
	if slices.Equal(one, order(2)) {
		t.Error("two seeds, one order")
	}
	if slices.Sort(one); len(slices.Compact(one)) != 100 {
		t.Error("some are twice there")
	}
}

// A line that was cut short is passed over, and the next is one of its own.
func TestResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results")
	if err := os.WriteFile(path, []byte(`{"id":"a","fate":"survived"}`+"\n"+`{"id":"a","fate":"killed"}`+"\n"+`{"id":"b","fa`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"map[a:killed]", "map[a:killed c:hung]"} {
		r, err := openResults(path)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for id, one := range r.byID {
			got[id] = one.Fate
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%v, want %s", got, want)
		}
		if err := r.add(record{ID: "c", Fate: hung}); err != nil {
			t.Fatal(err)
		}
		if err := r.out.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
