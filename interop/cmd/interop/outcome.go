package main

import (
	"regexp"
	"strings"
)

type verdict string

const (
	passed  verdict = "passed"
	failed  verdict = "failed"
	skipped verdict = "skipped"
)

// An outcome is what became of one test.
type outcome struct {
	test    string
	verdict verdict
}

var (
	goEnd   = regexp.MustCompile(`^( *)--- (PASS|FAIL|SKIP): (\S+) \(`)
	goBegin = regexp.MustCompile(`^=== (?:RUN|CONT|NAME) +(\S+)$`)
	tapLine = regexp.MustCompile(`^ *(not )?ok \d+(?: - )?(.*?)(?: # (SKIP|TODO|time=).*)?$`)
)

// goTests reads what go test -v prints: tests, and subtests of one level in
// place of the test that holds them.
func goTests(output string) []outcome {
	all := goOutcomes(output)
	hold := map[string]bool{}
	for _, o := range all {
		if parent, _, ok := strings.Cut(o.test, "/"); ok {
			hold[parent] = true
		}
	}
	var found []outcome
	for _, o := range all {
		if strings.Count(o.test, "/") > 1 || hold[o.test] && !onlyItself(o, all) {
			continue
		}
		found = append(found, o)
	}
	return found
}

// onlyItself says whether a test failed and none of its subtests did.
func onlyItself(parent outcome, all []outcome) bool {
	if parent.verdict != failed {
		return false
	}
	for _, o := range all {
		if o.verdict == failed && strings.HasPrefix(o.test, parent.test+"/") {
			return false
		}
	}
	return true
}

// topLevel reads what go test -v prints, without subtests.
func topLevel(output string) []outcome {
	var found []outcome
	for _, o := range goOutcomes(output) {
		if !strings.Contains(o.test, "/") {
			found = append(found, o)
		}
	}
	return found
}

// goOutcomes lists all tests. One that began and did not end, because the
// program ended first, has failed.
func goOutcomes(output string) []outcome {
	var found []outcome
	ended, begun := map[string]bool{}, []string{}
	seen := map[string]bool{}
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		if m := goBegin.FindStringSubmatch(line); m != nil {
			if !seen[m[1]] {
				seen[m[1]] = true
				begun = append(begun, m[1])
			}
			continue
		}
		m := goEnd.FindStringSubmatch(line)
		if m == nil {
			// A test that prints without a newline pushes its end away from the margin.
			if i := strings.LastIndex(line, "--- "); i > 0 {
				m = goEnd.FindStringSubmatch(line[i:])
			}
			if m == nil {
				continue
			}
		}
		ended[m[3]] = true
		found = append(found, outcome{m[3], map[string]verdict{"PASS": passed, "FAIL": failed, "SKIP": skipped}[m[2]]})
	}
	for _, test := range begun {
		if !ended[test] {
			found = append(found, outcome{test, failed})
		}
	}
	return found
}

// tap reads the lines of the Test Anything Protocol at the margin.
func tap(output string) []outcome {
	var found []outcome
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\r\n")
		if !strings.HasPrefix(line, "ok ") && !strings.HasPrefix(line, "not ok ") {
			continue
		}
		m := tapLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		o := outcome{test: strings.TrimSpace(m[2]), verdict: passed}
		switch {
		case m[3] == "SKIP":
			o.verdict = skipped
		case m[1] != "":
			o.verdict = failed
		}
		found = append(found, o)
	}
	return found
}
