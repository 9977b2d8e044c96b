// Command scale checks what the broker promises at size: a backlog of millions
// that costs no memory, delayed messages that come on time, thousands of
// destinations and connections at once, dead letters that are sent back while the
// broker is killed, a selector that finds little in much, priorities. Each check prints its figures and
// fails if a promise is broken.
//
//	go run ./test/scale -polylog bin/polylog backlog delayed many redrive selector priority
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// scale is what the flags choose.
type scale struct {
	binary       string
	dir          string
	messages     int
	delayed      int
	destinations int
	connections  int
	dead         int
	selected     int
	window       time.Duration
	mixed        int
}

func main() {
	var s scale
	flag.StringVar(&s.binary, "polylog", "bin/polylog", "the program to test")
	flag.StringVar(&s.dir, "dir", "", "where data goes (default: a temporary directory)")
	flag.IntVar(&s.messages, "messages", 20_000_000, "backlog: waiting messages of 100 bytes")
	flag.IntVar(&s.delayed, "delayed", 100_000, "delayed: messages spread over a minute")
	flag.IntVar(&s.destinations, "destinations", 10_000, "many: destinations")
	flag.IntVar(&s.connections, "connections", 1_000, "many: connections")
	flag.IntVar(&s.dead, "dead", 1_000_000, "redrive: dead letters")
	flag.IntVar(&s.selected, "selected", 10_000_000, "selector: waiting messages, one in a million of which is selected")
	flag.DurationVar(&s.window, "window", time.Minute, "selector: how long each of six measurements takes")
	flag.IntVar(&s.mixed, "mixed", 1_000_000, "priority: waiting messages of mixed priority")
	flag.Parse()
	checks := map[string]func(context.Context, string) error{"backlog": s.backlog, "delayed": s.onTime, "many": s.many, "redrive": s.redrive, "selector": s.selector, "priority": s.priority}
	failed := false
	for _, name := range flag.Args() {
		check, ok := checks[name]
		if !ok {
			fmt.Fprintf(os.Stderr, "scale: no check %q\n", name)
			os.Exit(2)
		}
		fmt.Printf("%s\n", name)
		if err := s.in(name, check); err != nil {
			fmt.Printf("  FAILED: %v\n", err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// in runs a check with a data directory of its own.
func (s *scale) in(name string, check func(context.Context, string) error) error {
	dir, err := os.MkdirTemp(s.dir, "scale-"+name)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return check(context.Background(), filepath.Join(dir, "data"))
}
