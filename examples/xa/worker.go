package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/nats-io/nuid"

	"github.com/polylog-mq/polylog"
)

// The steps of a unit of work, after each of which the worker may die.
const (
	begun         = "begun"
	worked        = "worked"
	postgresReady = "prepared PostgreSQL"
	polylogReady  = "prepared polylog"
	decided       = "decided"
	postgresDone  = "committed PostgreSQL"
	polylogDone   = "committed polylog"
)

var (
	steps        = []string{begun, worked, postgresReady, polylogReady, decided, postgresDone, polylogDone}
	prepareSteps = []string{postgresReady, polylogReady}
	commitSteps  = []string{postgresDone, polylogDone}
)

type workerOptions struct{ postgres, polylog, log, die string }

// worker takes orders.
type worker struct {
	*coordinator
	db *postgresResource
	mq *polylogResource
}

func open(ctx context.Context, o workerOptions) (*worker, error) {
	db, err := openPostgres(ctx, o.postgres)
	if err != nil {
		return nil, err
	}
	mq, err := openPolylog(ctx, o.polylog)
	if err != nil {
		return nil, err
	}
	paid := 0
	c, err := openCoordinator(o.log, func(step string) {
		if step == begun {
			paid++
		}
		if step == o.die && paid == 2 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}, db, mq)
	return &worker{c, db, mq}, err
}

// recovers ends what workers before have left.
func recovers(ctx context.Context, o workerOptions) error {
	w, err := open(ctx, o)
	if err != nil {
		return err
	}
	return w.recover(ctx)
}

// work has orders paid until it dies.
func work(ctx context.Context, o workerOptions) error {
	w, err := open(ctx, o)
	if err != nil {
		return err
	}
	if err := w.recover(ctx); err != nil {
		return err
	}
	for {
		if err := w.pay(ctx, nuid.Next()); err != nil {
			return err
		}
	}
}

// pay is one unit of work.
func (w *worker) pay(ctx context.Context, id string) error {
	if err := w.db.begin(ctx); err != nil {
		return err
	}
	if err := w.mq.begin(ctx, id); err != nil {
		return err
	}
	w.reached(begun)
	order, err := polylog.QueueOf[string](w.mq.session, "orders").Take(ctx)
	if err != nil {
		return err
	}
	if _, err := w.db.tx.Exec(ctx, "INSERT INTO payments (id) VALUES ($1)", order.Value); err != nil {
		return fmt.Errorf("pay %s: %w", order.Value, err)
	}
	if _, err := polylog.QueueOf[string](w.mq.session, "receipts").Put(ctx, order.Value); err != nil {
		return err
	}
	w.reached(worked)
	return w.commit(ctx, id)
}
