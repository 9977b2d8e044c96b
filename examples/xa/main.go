// Xa does one unit of work in PostgreSQL and polylog: a payment is taken from a
// queue, written into a table, and a receipt for it is put on another queue, all
// of it or nothing. Who sees to that is a coordinator of two phases, here in the
// worker's own process, which is killed at every step, again and again; the next
// one recovers what it has left, and after each death the accounts have to agree.
//
// It wants PostgreSQL's server programs (Debian: postgresql) and starts a server
// and a broker of its own, in a temporary directory:
//
//	go run . -rounds 100
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/wire"
)

func main() {
	rounds := flag.Int("rounds", 2*len(steps), "how often the worker is killed, each time one step further")
	child := flag.Bool("worker", false, "be the worker; the flags that follow are for it")
	var o workerOptions
	flag.StringVar(&o.postgres, "postgres", "", "where PostgreSQL is")
	flag.StringVar(&o.polylog, "polylog", "", "where polylog is")
	flag.StringVar(&o.log, "log", "", "the `FILE` of the coordinator's decisions")
	flag.StringVar(&o.die, "die", "", "the `STEP` of the second payment at which to die; empty: recover, and leave it at that")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := errors.New("the worker has outlived its death")
	if *child {
		if o.die == "" {
			err = recovers(ctx, o)
		} else if failed := work(ctx, o); failed != nil {
			err = failed
		}
	} else {
		err = run(ctx, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "xa:", err)
		os.Exit(1)
	}
}

// run kills workers, and looks at the accounts after each.
func run(ctx context.Context, rounds int) (err error) {
	dir, err := os.MkdirTemp("", "polylog-xa-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	postgres, stopPostgres, err := startPostgres(ctx, filepath.Join(dir, "postgres"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopPostgres()) }()
	broker, err := embed.Start(embed.Options{Dir: filepath.Join(dir, "polylog"), Listen: wire.Config{Address: "127.0.0.1:0"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()

	a := &auditor{orders: 2 * rounds}
	o := workerOptions{postgres: postgres, polylog: "polylog://" + broker.Addr().String(), log: filepath.Join(dir, "decisions")}
	if err := a.open(ctx, o); err != nil {
		return err
	}
	defer a.close(ctx)
	for i := range rounds {
		step := steps[i%len(steps)]
		if err := startWorker(ctx, o, step); err != nil {
			return err
		}
		left, err := a.inDoubt(ctx)
		if err != nil {
			return err
		}
		if err := startWorker(ctx, o, ""); err != nil {
			return err
		}
		paid, err := a.check(ctx)
		if err != nil {
			return fmt.Errorf("killed when it had %s: %w", step, err)
		}
		fmt.Printf("%3d killed when it had %-20s %-42s %3d paid\n", i+1, step, left, paid)
	}
	fmt.Printf("consistent %d times of %d\n", rounds, rounds)
	return nil
}

// startWorker runs a worker until it dies at a step or, without one, has recovered.
func startWorker(ctx context.Context, o workerOptions, die string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "-worker", "-postgres", o.postgres, "-polylog", o.polylog, "-log", o.log, "-die", die)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if die != "" && errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	return err
}

// auditor looks at both sides.
type auditor struct {
	orders     int // that were put at the beginning
	db         *pgx.Conn
	connection *polylog.Connection
	session    *polylog.Session
}

func (a *auditor) open(ctx context.Context, o workerOptions) (err error) {
	if a.db, err = pgx.Connect(ctx, o.postgres); err != nil {
		return err
	}
	if _, err := a.db.Exec(ctx, "CREATE TABLE payments (id text PRIMARY KEY)"); err != nil {
		return err
	}
	if a.connection, err = polylog.Connect(ctx, o.polylog); err != nil {
		return err
	}
	if a.session, err = a.connection.Session(ctx); err != nil {
		return err
	}
	for i := range a.orders {
		if _, err := polylog.QueueOf[string](a.session, "orders").Put(ctx, fmt.Sprintf("order %03d", i)); err != nil {
			return err
		}
	}
	return nil
}

func (a *auditor) close(ctx context.Context) {
	_ = a.db.Close(ctx)
	_ = a.connection.Close()
}

// inDoubt says what is prepared.
func (a *auditor) inDoubt(ctx context.Context) (string, error) {
	gids, err := postgresPrepared(ctx, a.db)
	if err != nil {
		return "", err
	}
	branches, err := a.connection.Admin().Branches(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("prepared: %d in PostgreSQL, %d in polylog;", len(gids), len(branches)), nil
}

// check fails unless what is paid, what has a receipt and what is ordered no more
// are the same, and nothing is in doubt.
func (a *auditor) check(ctx context.Context) (paid int, err error) {
	rows, err := a.db.Query(ctx, "SELECT id FROM payments ORDER BY id")
	if err != nil {
		return 0, err
	}
	payments, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	receipts, err := a.browse(ctx, "receipts")
	if err != nil {
		return 0, err
	}
	waiting, err := a.browse(ctx, "orders")
	if err != nil {
		return 0, err
	}
	var want []string
	for i := range a.orders {
		if order := fmt.Sprintf("order %03d", i); !slices.Contains(waiting, order) {
			want = append(want, order)
		}
	}
	doubt, err := a.inDoubt(ctx)
	if err != nil {
		return 0, err
	}
	if !slices.Equal(payments, want) || !slices.Equal(receipts, want) || doubt != "prepared: 0 in PostgreSQL, 0 in polylog;" {
		return 0, fmt.Errorf("paid are %q, receipts there are for %q, taken are %q; %s", payments, receipts, want, doubt)
	}
	return len(payments), nil
}

// browse lists what waits in a queue, sorted.
func (a *auditor) browse(ctx context.Context, name string) (all []string, err error) {
	for m, err := range polylog.QueueOf[string](a.session, name).Browse(ctx) {
		if errors.Is(err, polylog.ErrNotFound) { // nobody has sent there yet
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, m.Value)
	}
	slices.Sort(all)
	return all, nil
}
