// Command soak uses a polylog broker in every way at once, from processes that
// are killed, while the broker is killed as well, and keeps the account:
//
//	produced = acknowledged + dead-lettered + expired + waiting + scheduled + in doubt
//
// There are priorities, delays, expiry, selectors, message groups, exclusive
// consumers, durable and shared subscriptions, redelivery and dead letters,
// transacted sessions with rollbacks, and branches of distributed transactions
// whose manager dies. Clients write what they are about to do, and what came
// of it, to files; the ledger is drawn from those. After each round the
// clients stop, and the broker's own counts must fit the ledger; in the end
// every queue is drained, and each message accounted for.
//
// With -dir the run can be interrupted and goes on where it was.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 7 && os.Args[1] == "client" {
		number, _ := strconv.ParseUint(os.Args[5], 10, 32)
		slot, _ := strconv.ParseUint(os.Args[6], 10, 32)
		if err := runClient(context.Background(), os.Args[2], os.Args[3], os.Args[4], uint32(number), uint32(slot)); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintf(os.Stderr, "%s %d: %v\n", os.Args[2], number, err)
			os.Exit(1)
		}
		return
	}
	var s soak
	flag.StringVar(&s.binary, "polylog", "bin/polylog", "the program to test")
	flag.DurationVar(&s.time, "time", 30*time.Minute, "how long in all, over all runs in the same -dir")
	flag.DurationVar(&s.round, "round", 30*time.Second, "how long before the account is drawn")
	flag.DurationVar(&s.kill, "kill", 4*time.Second, "the mean time between two kills of the broker; half of it between those of clients")
	flag.StringVar(&s.dir, "dir", "", "where data and account are; they stay (default: a temporary directory)")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the kills")
	asJSON := flag.Bool("json", false, "print the result as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := s.run(ctx, *seed)
	if ctx.Err() != nil && s.keeps {
		fmt.Fprintln(os.Stderr, "soak: interrupted; the same command goes on with it")
		os.Exit(130)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	if *asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(r)
	} else {
		fmt.Println(r)
	}
	if r.Faults.any() || r.Totals.Confirmed == 0 {
		os.Exit(1)
	}
}
