// Soak runs Kafka clients against a broker for a long time while the ground moves
// under them, and counts what a client must never see.
//
//	transactions  eight transactional producers and a read_committed consumer while
//	              the broker is killed again and again
//	rebalance     fifty consumers which join and leave a group
//
// A run has a directory, which holds the broker's data, its log, and how far the run
// has come: a run that was interrupted goes on when it is started again with the same
// one.
//
// What is counted is decided by three types that know neither a clock nor a network:
// a [ledger] judges the records that a consumer was given by the ends of their
// transactions, an [account] the offsets of a whole log by its markers, and an
// [ownership] the partitions, commits and records of a group's members.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: soak transactions|rebalance [flags]

  transactions   8 transactional producers, some of which consume what they produce
                 from, and a read_committed consumer, while the broker is killed
  rebalance      50 consumers which join and leave a topic of 100 partitions

Ends with 0 if nothing was found, 1 if something was, 3 if it was interrupted: the
same command goes on then, if it had a --dir. soak COMMAND --help tells the flags.
`

// options are the flags.
type options struct {
	broker   string // polylog or kafka
	program  string // a polylog that is built already, or empty
	dir      string
	duration time.Duration
	json     bool
	rate     float64 // records per second
	seed     uint64

	// transactions
	kills         int
	killEvery     time.Duration
	groupProtocol string // classic or consumer

	// rebalance
	protocols  string
	consumers  int
	partitions int
	settle     time.Duration
}

// A result is what a run found. It is good if found is empty.
type result interface {
	good() bool
	text() string
}

var errInterrupted = errors.New("interrupted")

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	var o options
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.StringVar(&o.broker, "broker", "polylog", "`NAME` of the broker: polylog, built from this tree, or kafka, started from its jars")
	flags.StringVar(&o.program, "polylog", "", "the polylog `PROGRAM`; built from the tree if empty")
	flags.StringVar(&o.dir, "dir", "", "`DIRECTORY` of the run, made if it is not there, and gone on with if it is; if empty a temporary one, which is removed unless something was found")
	flags.BoolVar(&o.json, "json", false, "print the result as JSON")
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "`NUMBER` from which all that is random follows, the clients' and the broker's timing apart")

	var run func(context.Context, options) (result, error)
	switch os.Args[1] {
	case "transactions":
		run = transactions
		flags.DurationVar(&o.duration, "duration", 30*time.Minute, "how long, unless --kills come first")
		flags.IntVar(&o.kills, "kills", 100, "how `OFTEN` the broker is killed, unless --duration comes first")
		flags.DurationVar(&o.killEvery, "kill-every", 0, "time between kills, in the middle (default: a tenth of --duration, at most 12s)")
		flags.Float64Var(&o.rate, "rate", 300, "`RECORDS` each second that the producers who do not consume write")
		flags.StringVar(&o.groupProtocol, "group-protocol", "classic", "how those who consume are a group: classic or consumer (KIP-848)")
	case "rebalance":
		run = rebalance
		flags.DurationVar(&o.duration, "duration", 5*time.Minute, "how long, for each of --protocols")
		flags.StringVar(&o.protocols, "protocols", "range,cooperative-sticky,consumer", "`NAMES` of what is tried, one after the other; consumer is KIP-848")
		flags.IntVar(&o.consumers, "consumers", 50, "`HOW MANY` consumers at most")
		flags.IntVar(&o.partitions, "partitions", 100, "`HOW MANY` partitions")
		flags.DurationVar(&o.settle, "settle", 5*time.Second, "the group must have settled this long after the last change")
		flags.Float64Var(&o.rate, "rate", 500, "`RECORDS` each second")
	default:
		fmt.Fprint(os.Stderr, usage)
		if o := os.Args[1]; o == "help" || o == "--help" || o == "-h" {
			return
		}
		os.Exit(2)
	}
	_ = flags.Parse(os.Args[2:])
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "soak: %s is more than I asked for\n%s", strings.Join(flags.Args(), " "), usage)
		os.Exit(2)
	}
	os.Exit(finish(&o, run))
}

func finish(o *options, run func(context.Context, options) (result, error)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	temporary := o.dir == ""
	var err error
	if temporary {
		o.dir, err = os.MkdirTemp("", "soak-")
	} else {
		err = os.MkdirAll(o.dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1
	}
	found, err := run(ctx, *o)
	if errors.Is(err, errInterrupted) {
		progress("interrupted; what there is is in %s", o.dir)
		return 3
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v\nsoak: what there is is in %s\n", err, o.dir)
		return 1
	}
	if o.json {
		text, err := json.MarshalIndent(found, "", "  ")
		if err != nil {
			panic(err) // plain structs
		}
		fmt.Println(string(text))
	} else {
		fmt.Print(found.text())
	}
	if !found.good() {
		progress("what there is is in %s", o.dir)
		return 1
	}
	if temporary {
		if err := os.RemoveAll(o.dir); err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
			return 1
		}
	}
	return 0
}

func progress(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, a...)...)
}

// wait is false if the context ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
