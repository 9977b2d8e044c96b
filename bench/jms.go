package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog"
)

// `bench jms` measures what Jakarta Messaging adds to a queue against the same
// queue without it, in interleaved rounds: transacted sends and receives
// against as many plain ones that are waited for together, and message groups
// and priorities against messages without.

// jmsWorkload is one table of the report. Its variants are run on a broker of
// their own each; the first is what the others are compared with.
type jmsWorkload struct {
	name     string
	variants []jmsVariant
}

type jmsVariant struct {
	name string
	run  func(s settings, srv *server, f figures) (int, error)
}

// jmsBudget is how long batches are sent.
const jmsBudget = 3 * time.Second

var jmsWorkloads = []jmsWorkload{
	batches("send", 1), batches("send", 10), batches("send", 100),
	batches("receive", 1), batches("receive", 10), batches("receive", 100),
	{"queue", []jmsVariant{
		{"polylog", through(nil)},
		{"groups", through(perMessage(func(i int) polylog.PutOption { return polylog.WithGroup(strconv.Itoa(i)) }, 100))},
		{"priorities", through(perMessage(polylog.WithPriority, 10))},
	}},
}

// batches compares batches of n messages that are confirmed together because
// they are waited for together with those that are one transaction.
func batches(what string, n int) jmsWorkload {
	run := sendBatches
	if what == "receive" {
		run = receiveBatches
	}
	variant := func(mode polylog.Mode) func(settings, *server, figures) (int, error) {
		return func(s settings, srv *server, f figures) (int, error) { return run(s, srv, f, mode, n) }
	}
	return jmsWorkload{fmt.Sprintf("%s by %d", what, n), []jmsVariant{
		{"polylog", variant(polylog.IndividualAcknowledge)},
		{"transacted", variant(polylog.Transacted)},
	}}
}

func jmsMain(args []string) error {
	var s settings
	flags := flag.NewFlagSet("bench jms", flag.ExitOnError)
	flags.StringVar(&s.binary, "polylog", "../bin/polylog", "the program to measure")
	flags.IntVar(&s.rounds, "rounds", 5, "interleaved rounds; the median is printed")
	flags.Float64Var(&s.scale, "scale", 1, "multiplies the number of messages")
	flags.IntVar(&s.bodyBytes, "size", 1024, "bytes in a message")
	_ = flags.Parse(args)
	dir, err := os.MkdirTemp("", "bench-jms-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.dir = dir
	machine, err := measureMachine(dir)
	if err != nil {
		return err
	}
	fmt.Printf("machine: %s\n\n", machine)
	results := map[string]map[string][]figures{}
	var works, names []string
	seen := map[string]bool{}
	for _, w := range jmsWorkloads {
		works = append(works, w.name)
		results[w.name] = map[string][]figures{}
		for _, v := range w.variants {
			if !seen[v.name] {
				seen[v.name] = true
				names = append(names, v.name)
			}
		}
	}
	for round := range s.rounds {
		for _, w := range jmsWorkloads {
			for _, v := range w.variants {
				fmt.Fprintf(os.Stderr, "round %d/%d %-14s %s\n", round+1, s.rounds, w.name, v.name)
				run := func(s settings, _ peer, srv *server, f figures) (int, error) { return v.run(s, srv, f) }
				f, err := measure(s, polylogPeer{binary: s.binary}, v.name, run)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", w.name, v.name, err)
				}
				results[w.name][v.name] = append(results[w.name][v.name], f)
			}
		}
	}
	report(os.Stdout, results, names, works)
	return nil
}

// openJMS opens a connection with a session on a queue.
func openJMS(srv *server, mode polylog.Mode) (*polylog.Queue[[]byte], error) {
	ctx := context.Background()
	c, err := polylog.Connect(ctx, "polylog://"+srv.addr)
	if err != nil {
		return nil, err
	}
	session, err := c.Session(ctx, mode)
	if err != nil {
		c.Close()
		return nil, err
	}
	return polylog.QueueOf[[]byte](session, "jms"), nil
}

func closeJMS(q *polylog.Queue[[]byte]) { q.Session().Connection().Close() }

// settle waits until what the session has done is on disk.
func settle(s *polylog.Session) error {
	if s.Mode() == polylog.Transacted {
		return s.Commit(context.Background())
	}
	return s.Flush(context.Background())
}

// sendBatches sends n messages at a time, and the next n when those are on disk.
func sendBatches(s settings, srv *server, f figures, mode polylog.Mode, n int) (int, error) {
	q, err := openJMS(srv, mode)
	if err != nil {
		return 0, err
	}
	defer closeJMS(q)
	body := make([]byte, s.bodyBytes)
	var failed firstError
	begin, sent := time.Now(), 0
	for time.Since(begin) < time.Duration(s.scale*float64(jmsBudget)) {
		for range n {
			if err := q.PutAsync(context.Background(), body, failed.done); err != nil {
				return 0, err
			}
		}
		if err := errors.Join(settle(q.Session()), failed.get()); err != nil {
			return 0, err
		}
		sent += n
	}
	f["messages/s"] = float64(sent) / time.Since(begin).Seconds()
	return sent, nil
}

// receiveBatches drains a queue that was filled before, n messages at a time,
// and the next n when the acknowledgements of those are on disk. What a message
// costs is that of putting it, too; the rate is that of taking alone.
func receiveBatches(s settings, srv *server, f figures, mode polylog.Mode, n int) (int, error) {
	batches := max(1, int(s.scale*min(4000, 200_000/float64(n))))
	if err := fill(s, srv, batches*n, nil); err != nil {
		return 0, err
	}
	q, err := openJMS(srv, mode)
	if err != nil {
		return 0, err
	}
	defer closeJMS(q)
	begin, taken := time.Now(), 0
	for d, err := range q.Consume(context.Background()) {
		if err != nil {
			return 0, err
		}
		if mode != polylog.Transacted {
			if err := d.AckAsync(); err != nil {
				return 0, err
			}
		}
		if taken++; taken%n != 0 {
			continue
		}
		if err := settle(q.Session()); err != nil {
			return 0, err
		}
		if taken == batches*n {
			break
		}
	}
	f["messages/s"] = float64(taken) / time.Since(begin).Seconds()
	return taken, nil
}

// perMessage makes options that go round n values.
func perMessage(option func(int) polylog.PutOption, n int) [][]polylog.PutOption {
	all := make([][]polylog.PutOption, n)
	for i := range all {
		all[i] = []polylog.PutOption{option(i)}
	}
	return all
}

// fill puts n messages, pipelined, and waits until they are on disk.
func fill(s settings, srv *server, n int, options [][]polylog.PutOption) error {
	q, err := openJMS(srv, polylog.IndividualAcknowledge)
	if err != nil {
		return err
	}
	defer closeJMS(q)
	body := make([]byte, s.bodyBytes)
	var failed firstError
	var option []polylog.PutOption
	for i := range n {
		if len(options) > 0 {
			option = options[i%len(options)]
		}
		if err := q.PutAsync(context.Background(), body, failed.done, option...); err != nil {
			return err
		}
	}
	return errors.Join(q.Session().Flush(context.Background()), failed.get())
}

// through fills a queue, drains it with four consumers, and then does both at
// once.
func through(options [][]polylog.PutOption) func(settings, *server, figures) (int, error) {
	return func(s settings, srv *server, f figures) (int, error) {
		n := int(200_000 * s.scale)
		begin := time.Now()
		if err := fill(s, srv, n, options); err != nil {
			return 0, err
		}
		f["put/s"] = float64(n) / time.Since(begin).Seconds()
		begin = time.Now()
		if err := takeAll(srv, n); err != nil {
			return 0, err
		}
		f["take/s"] = float64(n) / time.Since(begin).Seconds()
		begin = time.Now()
		var wg sync.WaitGroup
		var put, taken error
		wg.Go(func() { put = fill(s, srv, n, options) })
		wg.Go(func() { taken = takeAll(srv, n) })
		wg.Wait()
		f["both/s"] = float64(n) / time.Since(begin).Seconds()
		return 2 * n, errors.Join(put, taken)
	}
}

// takeAll takes n messages with four consumers on a connection each, and
// returns when the acknowledgements are on disk.
func takeAll(srv *server, n int) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	var taken atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			q, err := openJMS(srv, polylog.IndividualAcknowledge)
			if err != nil {
				errs[i] = err
				stop()
				return
			}
			defer closeJMS(q)
			for d, err := range q.Consume(ctx) {
				if err == nil {
					err = d.AckAsync()
				}
				if err != nil {
					if taken.Load() < int64(n) {
						errs[i] = err
						stop()
					}
					break
				}
				if taken.Add(1) == int64(n) {
					stop()
				}
			}
			errs[i] = errors.Join(errs[i], q.Session().Close(context.Background()))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// firstError keeps the first failure of sends.
type firstError struct{ err atomic.Pointer[error] }

func (e *firstError) done(_ polylog.Receipt, err error) {
	if err != nil {
		e.err.CompareAndSwap(nil, &err)
	}
}

func (e *firstError) get() error {
	if err := e.err.Load(); err != nil {
		return *err
	}
	return nil
}
