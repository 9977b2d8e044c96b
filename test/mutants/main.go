// Command mutants seeds faults into packages and says how many of them the
// packages' own tests catch.
//
//	go run ./test/mutants
//	go run ./test/mutants -n 50 -out mutants.jsonl ./queue ./destination:hold.go
//
// A mutant is one small change: a comparison or a logical operator is another,
// a condition is negated, a statement or a body is not there, a number is off by
// one, a loop is left where it went on, an error is not returned, true is false.
// Each file has its share of them, by how many places it has, in an order that
// -seed decides. The source tree is never touched: the go command is given each
// change by -overlay. A change that does not compile does not count. The tests
// of the package itself run first, then those of -also that use it, until one
// fails; a run that takes three times as long as it should, or more memory than
// -memory, has failed.
//
// With -out each result is kept as a line of JSON, and another call goes on
// where the last one ended; -again runs those that survived anew, for when
// tests were added. What survives is to be looked at: it is a fault that no test
// sees, or a change that makes no difference.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// standard is what is mutated unless packages are named: the code whose faults
// lose messages, or deliver them twice.
var standard = []string{
	"./destination/selector",
	"./destination:cursor.go,acquire.go,apply.go,delta.go,done.go,runlist.go,offsetset.go,hold.go,counts.go",
	"./session",
}

// further are the packages whose tests run after a package's own, if they are
// there.
var further = []string{"./test/conformance"}

// config is what the command was told.
type config struct {
	root     string
	targets  []target
	also     []string
	n        int
	seed     uint64
	workers  int
	duration time.Duration
	out      string
	again    bool
	least    float64
	short    bool
	memory   int // MB
	progress io.Writer
}

func main() {
	c := config{progress: io.Discard}
	var also string
	flag.IntVar(&c.n, "n", 300, "how many mutants")
	flag.Uint64Var(&c.seed, "seed", 1, "decides which")
	flag.IntVar(&c.workers, "p", 2, "how many at a time")
	flag.StringVar(&also, "also", strings.Join(there(further), ","), "packages whose tests run too, where they use what is mutated")
	flag.DurationVar(&c.duration, "for", 0, "begin no more of them after this time")
	flag.StringVar(&c.out, "out", "", "keep results in this file, and go on from it")
	flag.BoolVar(&c.again, "again", false, "run those of -out that survived once more")
	flag.Float64Var(&c.least, "least", 0.85, "exit 1 if a smaller share is killed")
	flag.BoolVar(&c.short, "short", true, "run the tests with -short")
	flag.IntVar(&c.memory, "memory", 4096, "address space of a test, MB")
	flag.Parse()
	if also != "" {
		c.also = strings.Split(also, ",")
	}
	patterns := flag.Args()
	if len(patterns) == 0 {
		patterns = standard
	}
	for _, p := range patterns {
		c.targets = append(c.targets, parseTarget(p))
	}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		c.progress = os.Stderr
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	r.print(os.Stdout)
	switch {
	case r.share() < c.least:
		fmt.Printf("less than %.0f%%\n", 100*c.least)
		os.Exit(1)
	case len(r.records) < c.n && r.stopped:
		fmt.Printf("stopped before %d\n", c.n)
		os.Exit(2)
	}
}

// there are the packages of which there is a directory.
func there(patterns []string) (found []string) {
	for _, p := range patterns {
		if _, err := os.Stat(p); err == nil {
			found = append(found, p)
		}
	}
	return found
}

// run loads the packages, and runs the mutants of them.
func run(ctx context.Context, c config) (*report, error) {
	if c.n < 1 || c.workers < 1 || c.memory < 1 {
		return nil, errors.New("-n, -p and -memory want a number above 0")
	}
	root, err := filepath.Abs(c.root)
	if err != nil {
		return nil, err
	}
	t := &tester{root: root, short: c.short, seed: max(c.seed, 1), memoryKB: c.memory << 10}
	results, err := openResults(c.out)
	if err != nil {
		return nil, err
	}
	if results.out != nil {
		defer results.out.Close()
	}
	var all []mutant
	known := map[string]*suite{}
	for _, target := range c.targets {
		p, err := load(root, target)
		if err != nil {
			return nil, err
		}
		suites, err := t.suites(p, c.also)
		if err != nil {
			return nil, err
		}
		for i, s := range suites {
			if known[s.pattern] == nil {
				known[s.pattern] = s
			}
			suites[i] = known[s.pattern]
		}
		for _, f := range p.files {
			for _, point := range f.points {
				all = append(all, mutant{p, f, point, suites})
			}
		}
	}
	r := &report{points: map[string]int{}}
	for _, m := range all {
		r.points[m.file.shown]++
	}
	w := &work{config: c, tester: t, results: results, report: r, queue: shuffle(all, c.seed)}
	err = w.run(ctx)
	fmt.Fprint(c.progress, "\r\x1b[K")
	return r, err
}
