// Command bench runs the same workloads against polylog, against a bare
// append server (the ceiling of what this machine can do), and against other
// brokers, in one run and interleaved, and prints what each did and the
// ratios. Absolute figures mean nothing on another machine.
//
//	go run . -polylog ../bin/polylog -peers ceiling,polylog,jetstream -rounds 3
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// settings are what the flags choose.
type settings struct {
	binary    string
	dir       string
	rounds    int
	scale     float64
	bodyBytes int
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "serve" { // a child process: see process.go
		serve(os.Args[2], os.Args[3:])
		return
	}
	if len(os.Args) > 1 {
		if command := map[string]func([]string) error{"kafka": kafkaMain, "jms": jmsMain, "amqp": amqpMain}[os.Args[1]]; command != nil {
			if err := command(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
				os.Exit(1)
			}
			return
		}
	}
	var s settings
	peers := flag.String("peers", "ceiling,ceiling-memory,polylog,polylog-memory,jetstream,jetstream-sync,rabbitmq-quorum,activemq,redis-always", "whom to measure, in this order")
	works := flag.String("workloads", "w1,w2,w4,latency,hundred", "what to run")
	output := flag.String("json", "", "write every figure to this file as JSON")
	flag.StringVar(&s.binary, "polylog", "../bin/polylog", "the program to measure")
	flag.StringVar(&s.dir, "dir", "", "where data goes (default: a temporary directory)")
	flag.IntVar(&s.rounds, "rounds", 3, "interleaved rounds; the median is printed")
	flag.Float64Var(&s.scale, "scale", 1, "multiplies the number of messages")
	flag.IntVar(&s.bodyBytes, "size", 1024, "bytes in a message")
	flag.Parse()
	if err := run(s, split(*peers), split(*works), *output); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

func run(s settings, peerNames, workNames []string, output string) error {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		s.dir = dir
	}
	machine, err := measureMachine(s.dir)
	if err != nil {
		return err
	}
	fmt.Printf("machine: %s\n\n", machine)
	all := known(s)
	results := map[string]map[string][]figures{} // workload, peer
	for round := range s.rounds {
		for _, w := range workNames {
			work, ok := workloads[w]
			if !ok {
				return fmt.Errorf("no workload %q", w)
			}
			for _, name := range peerNames {
				p, ok := all[name]
				if !ok {
					return fmt.Errorf("no peer %q", name)
				}
				fmt.Fprintf(os.Stderr, "round %d/%d %-8s %s\n", round+1, s.rounds, w, name)
				f, err := measure(s, p, name, work)
				if err != nil {
					fmt.Fprintf(os.Stderr, "  %s %s: %v\n", w, name, err)
					continue
				}
				if results[w] == nil {
					results[w] = map[string][]figures{}
				}
				results[w][name] = append(results[w][name], f)
			}
		}
	}
	report(os.Stdout, results, peerNames, workNames)
	if output == "" {
		return nil
	}
	b, err := json.MarshalIndent(map[string]any{"machine": machine, "go": runtime.Version(), "results": results}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(output, b, 0o644)
}

// measure starts the peer on an empty directory, runs one workload and stops it.
func measure(s settings, p peer, name string, work workload) (figures, error) {
	dir, err := os.MkdirTemp(s.dir, name)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	srv, err := p.start(dir)
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	defer srv.stop()
	f := figures{}
	before, mallocs, served := srv.cpuSeconds(), clientMallocs(), srv.mallocs()
	messages, err := work(s, p, srv, f)
	if err != nil {
		return nil, err
	}
	f["client allocs"] = float64(clientMallocs()-mallocs) / float64(messages)
	if srv.debug != "" {
		f["server allocs"] = float64(srv.mallocs()-served) / float64(messages)
	}
	f["cpu s/M"] = (srv.cpuSeconds() - before) / float64(messages) * 1e6
	f["RSS MB"] = float64(srv.peakBytes()) / 1e6
	return f, nil
}

// clientMallocs is how many objects this process has allocated: the client's,
// whose broker is another process.
func clientMallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// figures are named results of one run.
type figures map[string]float64

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}
