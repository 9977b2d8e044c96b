package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog"
)

// unitMax is how many messages a unit of work takes at most.
const unitMax = 5

// transact does units of work: it takes messages and sends two for each, to
// two queues, in transacted sessions and in branches of a distributed
// transaction.
func (c *client) transact(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	t := &transactor{client: c}
	var running sync.WaitGroup
	running.Go(func() {
		c.again(ctx, conn, func(s *polylog.Session) error { return t.local(ctx, s) }, polylog.Transacted)
	})
	running.Go(func() {
		c.again(ctx, conn, func(s *polylog.Session) error { return t.branches(ctx, s) }, polylog.Transacted)
	})
	running.Wait()
	return nil
}

type transactor struct {
	*client
	next atomic.Uint32 // numbers attempts
}

// unit takes what waits in a queue, and sends. It returns the first of its n
// attempts.
func (t *transactor) unit(ctx context.Context, s *polylog.Session, in view) (first, n uint32, err error) {
	taking, cancel := context.WithTimeout(ctx, time.Second)
	deliveries, err := polylog.QueueOf[item](s, viewNames[in]).TakeBatch(taking, 1+int(t.next.Load())%unitMax)
	cancel()
	if err != nil || len(deliveries) == 0 {
		return 0, 0, err
	}
	n = uint32(len(deliveries))
	first = t.next.Add(n) - n
	a, b, _ := in.outputs()
	for i, d := range deliveries {
		out := item{View: a, Producer: t.number, Sequence: first + uint32(i)}
		t.j.write(d.Value.event(arrived, t.number), out.event(attempt, 0), d.Value.event(attemptOf, t.number))
		if _, err := polylog.QueueOf[item](s, viewNames[a]).Put(ctx, out); err != nil {
			return first, n, err
		}
		out.View = b
		if _, err := polylog.QueueOf[item](s, viewNames[b]).Put(ctx, out); err != nil {
			return first, n, err
		}
	}
	return first, n, nil
}

func (t *transactor) say(k kind, producer, first, n uint32) {
	t.j.write(event{Kind: k, Producer: producer, Sequence: first, Aux: n})
}

// local does units in a transacted session until something goes wrong.
func (t *transactor) local(ctx context.Context, s *polylog.Session) error {
	for ctx.Err() == nil {
		first, n, err := t.unit(ctx, s, viewTxIn)
		switch {
		case errors.Is(err, polylog.ErrNoMessage):
			continue
		case err != nil || first%7 == 0:
			if err := errors.Join(err, s.Rollback(ctx)); err != nil {
				return err // the session's end rolls back
			}
			t.say(rolledBack, t.number, first, n)
			continue
		}
		t.say(committing, t.number, first, n)
		switch err := s.Commit(context.WithoutCancel(ctx)); {
		case err == nil:
			t.say(committed, t.number, first, n)
		case errors.Is(err, polylog.ErrInDoubt):
			return err
		default:
			t.say(rolledBack, t.number, first, n)
			return err
		}
	}
	return nil
}

// branches does units as a transaction manager does: its decision is in its
// journal before the commit. It dies at every step, now and then, and whoever
// takes its slot ends what it has left.
func (t *transactor) branches(ctx context.Context, s *polylog.Session) error {
	if err := t.recover(ctx, s.XA()); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := t.branch(ctx, s); err != nil {
			return err // recover comes next
		}
	}
	return nil
}

func (t *transactor) branch(ctx context.Context, s *polylog.Session) error {
	xa := s.XA()
	x := polylog.XID{Global: fmt.Sprintf("%d-%d", t.number, clock()), Branch: fmt.Sprintf("soak-%d", t.slot)}
	if err := xa.Start(ctx, x, polylog.XANew, 0); err != nil {
		return err
	}
	first, n, err := t.unit(ctx, s, viewXAIn)
	if err != nil || n == 0 {
		if errors.Is(err, polylog.ErrNoMessage) {
			err = nil
		}
		return errors.Join(err, xa.End(ctx, x, polylog.XAFail), xa.Rollback(ctx, x))
	}
	if err := xa.End(ctx, x, polylog.XASuccess); err != nil {
		return err
	}
	t.note(x, first, n)
	t.mayDie(first, 1)
	if _, err := xa.Prepare(ctx, x); err != nil {
		return err
	}
	t.mayDie(first, 2)
	if first%7 == 0 {
		if err := xa.Rollback(ctx, x); err != nil {
			return err
		}
		t.say(rolledBack, t.number, first, n)
		return nil
	}
	t.say(committing, t.number, first, n)
	t.mayDie(first, 3)
	if err := xa.Commit(ctx, x, false); err != nil {
		return err
	}
	t.mayDie(first, 4)
	t.say(committed, t.number, first, n)
	return nil
}

// mayDie ends the process at one of the steps of one unit of a hundred or so.
func (t *transactor) mayDie(first uint32, step int) {
	if first%97 == 0 && int(first/97)%5 == step {
		os.Exit(7)
	}
}

// The manager's log has a line for each branch: what it is, and its attempts.
func (t *transactor) logName() string { return fmt.Sprintf("%s/branches-%d", t.dir, t.slot) }

func (t *transactor) note(x polylog.XID, first, n uint32) {
	f, err := os.OpenFile(t.logName(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s %d %d %d\n", x.Global, t.number, first, n)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		panic(err)
	}
}

// recover ends the branches of this slot: those whose commit was decided, and
// then the others.
func (t *transactor) recover(ctx context.Context, xa polylog.XAResource) error {
	prepared, err := xa.Recover(ctx)
	if err != nil {
		return err
	}
	there := map[string]polylog.XID{}
	for _, x := range prepared {
		if x.Branch == fmt.Sprintf("soak-%d", t.slot) {
			there[x.Global] = x
		}
	}
	log, err := os.ReadFile(t.logName())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	known, err := parseBranches(log)
	if err != nil {
		return err
	}
	decided := map[uint32]map[uint32]bool{}
	for _, b := range known {
		if decided[b.producer] == nil {
			if decided[b.producer], err = decisions(journalName(t.dir, b.producer)); err != nil {
				return err
			}
		}
		commit := decided[b.producer][b.first]
		x, ok := there[b.global]
		switch {
		case ok && commit:
			err = xa.Commit(ctx, x, false)
		case ok:
			err = xa.Rollback(ctx, x)
		}
		if err != nil {
			return err
		}
		if commit { // a branch whose commit was decided was prepared; if it is not there, it is done
			t.say(committed, b.producer, b.first, b.n)
		} else {
			t.say(rolledBack, b.producer, b.first, b.n)
		}
	}
	return os.WriteFile(t.logName(), nil, 0o644)
}

type knownBranch struct {
	global             string
	producer, first, n uint32
}

func parseBranches(log []byte) (known []knownBranch, err error) {
	for len(log) > 0 {
		var b knownBranch
		line, rest, whole := cut(log)
		if log = rest; !whole {
			return known, nil // its writer died on it, before it prepared
		}
		if _, err := fmt.Sscanf(line, "%s %d %d %d", &b.global, &b.producer, &b.first, &b.n); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		known = append(known, b)
	}
	return known, nil
}

func cut(log []byte) (line string, rest []byte, whole bool) {
	for i, c := range log {
		if c == '\n' {
			return string(log[:i]), log[i+1:], true
		}
	}
	return string(log), nil, false
}

// decisions are the units that a journal says were to be committed, and were
// not rolled back after.
func decisions(name string) (map[uint32]bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	events, err := (&tail{f: f}).read(nil)
	decided := map[uint32]bool{}
	for _, e := range events {
		switch e.Kind {
		case committing:
			decided[e.Sequence] = true
		case rolledBack:
			delete(decided, e.Sequence)
		}
	}
	return decided, err
}
