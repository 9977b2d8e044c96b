package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// expectation says why a test is known to fail. Key: suite, a space, test. A
// reason that begins with sometimes is that of a test which also passes, for it
// depends on how fast the machine is; one that begins with skips is that of a test
// which does not run here, and may do so elsewhere.
type expectation map[string]string

const (
	sometimes = "sometimes: "
	skips     = "skips: "
)

// readExpected reads the lines that hold for one target:
//
//	TARGET SUITE TEST -- REASON
//
// TARGET may be several names with commas between them, or * for all targets.
// Empty lines and those that begin with # are for people.
func readExpected(path, target string) (expectation, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e := expectation{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		what, reason, ok := strings.Cut(line, " -- ")
		targets, rest, ok2 := strings.Cut(what, " ")
		name, test, ok3 := strings.Cut(strings.TrimSpace(rest), " ")
		if test = strings.TrimSpace(test); !ok || !ok2 || !ok3 || test == "" || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: want TARGET SUITE TEST -- REASON", path, n)
		}
		for t := range strings.SplitSeq(targets, ",") {
			if t == target || t == "*" {
				e[name+" "+test] = strings.TrimSpace(reason)
			}
		}
	}
	return e, lines.Err()
}
