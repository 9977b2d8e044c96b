// Interop runs Kafka clients that were written by others against a broker and
// tells, suite by suite, what passed.
//
// A target is a broker: polylog built from this tree, a real Kafka broker from its
// jars, kfake, or whatever answers at -bootstrap. A suite is a program that prints
// its tests in a form that outcomes can read. The expectation, a checked-in file,
// names each test that is known to fail, with the reason; the run fails when a
// test fails that it does not name, and when one passes that it does. Many tests
// of others measure time, on a machine that others use, too: a suite with such a
// failure is run once more, alone, and the table tells what passed only then.
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
	"sync"
	"syscall"
)

type options struct {
	target    string // polylog, kfake, or the name under which expectations know what bootstrap is
	bootstrap string
	native    string // native address of a polylog at bootstrap
	polylog   string // the program; built when empty
	module    string // directory of the interop module
	results   string
	quick     bool
	parallel  int
	only      []string
}

func main() {
	var o options
	flag.StringVar(&o.target, "target", "polylog", "`NAME` of the broker: polylog, kafka and kfake are started; any other name needs -bootstrap")
	flag.StringVar(&o.bootstrap, "bootstrap", "", "`HOST:PORT` of a broker that runs already; every suite then runs against that one")
	flag.StringVar(&o.native, "native", "", "`HOST:PORT` of the native protocol of the polylog at -bootstrap")
	flag.StringVar(&o.polylog, "polylog", "", "the polylog `PROGRAM`; built from the tree if empty")
	flag.StringVar(&o.module, "module", ".", "`DIRECTORY` of the interop module")
	flag.StringVar(&o.results, "results", "", "`DIRECTORY` for the table and the logs (default: results/TARGET in the module)")
	flag.BoolVar(&o.quick, "quick", false, "fewer records, and without the suites that take long")
	flag.IntVar(&o.parallel, "parallel", 3, "suites at once; they wait more than they work")
	list := flag.Bool("list", false, "only list the suites")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: interop [flags] [SUITE ...]\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.only = flag.Args()
	if *list {
		for _, s := range suites {
			fmt.Printf("%-18s %s\n", s.name, s.what)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// run says whether everything came as expected.
func run(ctx context.Context, o options, out io.Writer) (bool, error) {
	var err error
	if o.module, err = filepath.Abs(o.module); err != nil {
		return false, err
	}
	if o.results == "" {
		o.results = filepath.Join(o.module, "results", o.target)
	}
	if o.results, err = filepath.Abs(o.results); err != nil {
		return false, err
	}
	if err := os.MkdirAll(o.results, 0o755); err != nil {
		return false, err
	}
	chosen, err := choose(o)
	if err != nil {
		return false, err
	}
	expected, err := readExpected(filepath.Join(o.module, "expected.txt"), o.target)
	if err != nil {
		return false, err
	}
	work, err := os.MkdirTemp("", "interop-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(work)
	t, err := newTarget(ctx, o, work)
	if err != nil {
		return false, err
	}

	reports := make([]report, len(chosen))
	running := make(chan struct{}, max(o.parallel, 1))
	var building sync.Mutex // compilers use all cores by themselves
	var group sync.WaitGroup
	for i, s := range chosen {
		group.Go(func() {
			running <- struct{}{}
			defer func() { <-running }()
			reports[i] = s.run(ctx, &environment{options: o, target: t, work: filepath.Join(work, s.name), building: &building}, expected)
		})
	}
	group.Wait()
	for i, s := range chosen {
		if first := reports[i]; first.doubtful() && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "%s: once more, alone, for %s\n", s.name, strings.Join(first.surprises, ", "))
			reports[i] = s.run(ctx, &environment{options: o, target: t, work: filepath.Join(work, s.name+"-again"), building: &building}, expected)
			reports[i].second(first)
		}
	}
	if ctx.Err() != nil {
		return false, errors.New("interrupted")
	}
	text, ok := table(o.target, reports)
	fmt.Fprint(out, text)
	return ok, os.WriteFile(filepath.Join(o.results, "table.txt"), []byte(text), 0o644)
}

func choose(o options) ([]suite, error) {
	if len(o.only) == 0 {
		var all []suite
		for _, s := range suites {
			if s.wants(o) {
				all = append(all, s)
			}
		}
		return all, nil
	}
	var some []suite
next:
	for _, name := range o.only {
		for _, s := range suites {
			if s.name == name {
				some = append(some, s)
				continue next
			}
		}
		return nil, fmt.Errorf("there is no suite %s; interop -list tells which there are", strings.TrimSpace(name))
	}
	return some, nil
}
