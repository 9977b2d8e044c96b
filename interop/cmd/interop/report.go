package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A report is what became of a suite.
type report struct {
	suite    string
	outcomes []outcome
	broken   error // why the suite as a whole is no good
	took     time.Duration
	output   string

	expected     []string // failed, and known to
	surprises    []string // failed, or skipped
	unexpectedly []string // passed, or gone, though known to fail
	again        []string // passed only at the second try
}

// doubtful says whether a second try may tell more: tests failed, and that is all.
func (r *report) doubtful() bool {
	return r.broken == nil && len(r.surprises) > 0 && len(r.unexpectedly) == 0
}

// second makes r, the second try, tell what failed at the first and does no more.
func (r *report) second(first report) {
	for _, s := range first.surprises {
		if !slices.Contains(r.surprises, s) {
			r.again = append(r.again, s+"\n"+excerpt(first.output, s))
		}
	}
}

// excerpt is what a suite printed about where it failed a test, as far as that
// can be found.
func excerpt(output, test string) string {
	lines := strings.Split(output, "\n")
	for i, line := range lines {
		if strings.Contains(line, "--- FAIL: "+test+" ") || strings.HasPrefix(line, "not ok ") && strings.Contains(line, test) {
			return strings.Join(lines[max(i-12, 0):min(i+13, len(lines))], "\n")
		}
	}
	return strings.Join(lines[max(len(lines)-25, 0):], "\n")
}

func (r *report) count(v verdict) int {
	n := 0
	for _, o := range r.outcomes {
		if o.verdict == v {
			n++
		}
	}
	return n
}

func (r *report) judge(e expectation) {
	verdicts := map[string]verdict{}
	for _, o := range r.outcomes {
		verdicts[o.test] = o.verdict
		reason, known := e[r.suite+" "+o.test]
		switch {
		case o.verdict == failed && known && !strings.HasPrefix(reason, skips):
			r.expected = append(r.expected, o.test+": "+reason)
		case o.verdict == failed:
			r.surprises = append(r.surprises, o.test)
		case o.verdict == skipped && !strings.HasPrefix(reason, skips):
			r.surprises = append(r.surprises, o.test+" (skipped)")
		case known && !strings.HasPrefix(reason, sometimes) && !strings.HasPrefix(reason, skips):
			r.unexpectedly = append(r.unexpectedly, fmt.Sprintf("%s: %s, though known to fail: %s", o.test, o.verdict, reason))
		}
	}
	if r.broken != nil {
		return
	}
	for what, reason := range e {
		name, test, _ := strings.Cut(what, " ")
		if _, ran := verdicts[test]; name == r.suite && !ran {
			r.unexpectedly = append(r.unexpectedly, fmt.Sprintf("%s: is no more, though known to fail: %s", test, reason))
		}
	}
}

func (r *report) good() bool {
	return r.broken == nil && len(r.surprises)+len(r.unexpectedly) == 0
}

func (r *report) line() string {
	return fmt.Sprintf("%d passed, %d failed (%d known), %d skipped, %.0fs",
		r.count(passed), r.count(failed), len(r.expected), r.count(skipped), r.took.Seconds())
}

// table prints reports for people, and says whether all of them are good.
func table(target string, reports []report) (string, bool) {
	var b strings.Builder
	ok := true
	fmt.Fprintf(&b, "\n%-14s %7s %7s %7s %7s %6s\n", target, "passed", "failed", "known", "skipped", "time")
	var p, f, k, s int
	for _, r := range reports {
		mark := ""
		if !r.good() {
			ok, mark = false, "  <<<"
		}
		fmt.Fprintf(&b, "%-14s %7d %7d %7d %7d %5.0fs%s\n", r.suite, r.count(passed), r.count(failed), len(r.expected), r.count(skipped), r.took.Seconds(), mark)
		p, f, k, s = p+r.count(passed), f+r.count(failed), k+len(r.expected), s+r.count(skipped)
	}
	fmt.Fprintf(&b, "%-14s %7d %7d %7d %7d\n", "all", p, f, k, s)
	section := func(title string, of func(r report) []string) {
		first := true
		for _, r := range reports {
			for _, line := range of(r) {
				if first {
					fmt.Fprintf(&b, "\n%s\n", title)
					first = false
				}
				fmt.Fprintf(&b, "  %s %s\n", r.suite, strings.ReplaceAll(line, "\n", "\n    "))
			}
		}
	}
	section("failed, as expected", func(r report) []string { return r.expected })
	section("PASSED ONLY AT THE SECOND TRY", func(r report) []string { return r.again })
	section("FAILED, or skipped, though expected.txt does not say so", func(r report) []string {
		var all []string
		for _, s := range r.surprises {
			all = append(all, s+"\n"+excerpt(r.output, s))
		}
		return all
	})
	section("NOT FAILED, though expected.txt says so", func(r report) []string { return r.unexpectedly })
	section("BROKEN", func(r report) []string {
		if r.broken == nil {
			return nil
		}
		return []string{r.broken.Error()}
	})
	if ok {
		fmt.Fprintf(&b, "\neverything as expected\n")
	}
	return b.String(), ok
}
