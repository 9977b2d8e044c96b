// Command crash loads a polylog broker, ends it without warning, starts it
// again, and checks that nothing confirmed was lost and nothing acknowledged
// came back. It repeats that for as many cycles as it is told.
//
// It ends the broker by kill -9, or with -powercut by cutting off the file
// system that it writes to (ext4 on a loop device; root). With -control the
// broker does not sync, so that a power cut must lose something: that shows
// that the test can fail.
//
// It shows S1 AckDurable, Q3 AckSticks, Q4 order per session and Q5 NoLimbo.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/polylog-mq/polylog/test/child"
)

func main() {
	var r run
	flag.StringVar(&r.binary, "polylog", "bin/polylog", "the program to test")
	flag.IntVar(&r.cycles, "cycles", 200, "how often the broker is ended")
	flag.BoolVar(&r.powercut, "powercut", false, "cut the power of a loop device in place of kill -9")
	flag.BoolVar(&r.control, "control", false, "run without syncs; then losses are expected, and none is the failure")
	flag.DurationVar(&r.load, "load", 400*time.Millisecond, "longest load before the end, drawn anew for each cycle")
	flag.Uint64Var(&r.seed, "seed", uint64(time.Now().UnixNano()), "seed of all that is drawn")
	asJSON := flag.Bool("json", false, "print the result as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	result, err := r.all(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
	if *asJSON {
		json.NewEncoder(os.Stdout).Encode(result)
	} else {
		fmt.Println(result)
	}
	if !result.passed(r.control) {
		os.Exit(1)
	}
}

// run is one run of the program.
type run struct {
	binary            string
	cycles            int
	powercut, control bool
	load              time.Duration
	seed              uint64
}

// result is what a run has seen.
type result struct {
	Cycles       int      `json:"cycles"`
	Seed         uint64   `json:"seed"`
	Confirmed    int      `json:"confirmed"`    // sends
	InDoubt      int      `json:"in_doubt"`     // sends without an answer
	Acknowledged int      `json:"acknowledged"` // confirmed acknowledgements
	DeadLettered int      `json:"dead_lettered"`
	Redelivered  int      `json:"redelivered"` // deliveries beyond a message's first
	RecoveryMS   int64    `json:"slowest_recovery_ms"`
	Lost         int      `json:"lost"`
	CameBack     int      `json:"acknowledged_came_back"`
	Misordered   int      `json:"misordered"`
	Left         int64    `json:"left_over"` // the broker's own count when all should be settled
	Examples     []string `json:"examples,omitempty"`
}

func (r result) String() string {
	return fmt.Sprintf("%d cycles (seed %d): %d sends confirmed, %d in doubt, %d acknowledged, %d dead-lettered, %d redeliveries, slowest restart %d ms\n"+
		"lost %d, acknowledged and came back %d, out of order %d, left over %d %v",
		r.Cycles, r.Seed, r.Confirmed, r.InDoubt, r.Acknowledged, r.DeadLettered, r.Redelivered, r.RecoveryMS,
		r.Lost, r.CameBack, r.Misordered, r.Left, r.Examples)
}

func (r result) passed(control bool) bool {
	if control {
		return r.Lost+r.CameBack > 0
	}
	return r.Lost == 0 && r.CameBack == 0 && r.Misordered == 0 && r.Left == 0 && r.Confirmed > 0 && r.Acknowledged > 0
}

func (r *run) start(d disk) (*child.Broker, error) {
	if r.control {
		return child.Start(r.binary, d.path(), nil, "--durability", "memory")
	}
	return child.Start(r.binary, d.path(), nil)
}

func (r *run) all(ctx context.Context) (result, error) {
	random := rand.New(rand.NewPCG(r.seed, 0))
	dir, err := os.MkdirTemp("", "crash")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	var d disk = plainDisk{dir}
	if r.powercut {
		if d, err = newLoopDisk(dir); err != nil {
			return result{}, err
		}
	}
	defer d.remove()
	l := newLedger()
	res := result{Seed: r.seed}
	for res.Cycles < r.cycles && ctx.Err() == nil {
		b, err := r.start(d)
		if err != nil {
			return res, fmt.Errorf("cycle %d (seed %d): %w", res.Cycles, r.seed, err)
		}
		res.RecoveryMS = max(res.RecoveryMS, b.Took.Milliseconds())
		w, err := newWork(ctx, b.URL, l, random.Uint64())
		if err != nil {
			b.Kill()
			return res, fmt.Errorf("cycle %d (seed %d): %w", res.Cycles, r.seed, err)
		}
		time.Sleep(time.Duration(1 + random.Int64N(int64(r.load))))
		err = d.cut(b.Kill)
		w.stop()
		if err != nil {
			return res, fmt.Errorf("cycle %d (seed %d): %w", res.Cycles, r.seed, err)
		}
		res.Cycles++
		if res.Cycles%20 == 0 {
			fmt.Fprintf(os.Stderr, "%d of %d cycles, %s\n", res.Cycles, r.cycles, l.summary())
		}
	}
	b, err := r.start(d)
	if err != nil {
		return res, err
	}
	defer b.Kill()
	if res.Left, err = drain(ctx, b.URL, l); err != nil {
		return res, fmt.Errorf("drain (seed %d): %w", r.seed, err)
	}
	l.finish(&res)
	return res, nil
}
