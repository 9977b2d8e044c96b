package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/polylog-mq/polylog"
)

// The load: producers that each send to every queue in turn, queue 0 with one
// consumer, the others with two.
const (
	queues    = 4
	producers = 4
)

func queueName(i int) string { return fmt.Sprintf("crash-%d", i) }

// work is the load of one cycle.
type work struct {
	ledger *ledger
	cancel context.CancelFunc
	conns  []*polylog.Connection
	done   sync.WaitGroup
}

func newWork(ctx context.Context, url string, l *ledger, seed uint64) (*work, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &work{ledger: l, cancel: cancel}
	for i := range producers {
		s, err := w.session(ctx, url)
		if err != nil {
			w.stop()
			return nil, err
		}
		w.done.Go(func() { w.produce(ctx, s, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	for i := range queues {
		consumers := 2
		if i == 0 {
			consumers = 1
		}
		for k := range consumers {
			s, err := w.session(ctx, url)
			if err != nil {
				w.stop()
				return nil, err
			}
			w.done.Go(func() { w.consume(ctx, s, i, consumers == 1, rand.New(rand.NewPCG(seed, uint64(100+10*i+k)))) })
		}
	}
	return w, nil
}

func (w *work) session(ctx context.Context, url string) (*polylog.Session, error) {
	c, err := polylog.Connect(ctx, url, polylog.WithReconnect(polylog.ReconnectPolicy{Disabled: true}))
	if err != nil {
		return nil, err
	}
	w.conns = append(w.conns, c)
	return c.Session(ctx, polylog.IndividualAcknowledge)
}

func (w *work) stop() {
	w.cancel()
	for _, c := range w.conns {
		c.Close()
	}
	w.done.Wait()
}

// produce sends until it fails: nine of ten at once, the others delayed.
func (w *work) produce(ctx context.Context, s *polylog.Session, random *rand.Rand) {
	me := w.ledger.producer()
	var qs [queues]*polylog.Queue[message]
	for i := range qs {
		qs[i] = polylog.QueueOf[message](s, queueName(i))
	}
	for n := 0; ctx.Err() == nil; n++ {
		m := message{Queue: n % queues, Producer: me, Sequence: n, Plain: true}
		var opts []polylog.PutOption
		if random.IntN(10) == 0 {
			m.Plain = false
			opts = append(opts, polylog.WithDelay(time.Duration(random.IntN(300))*time.Millisecond))
		}
		if err := qs[m.Queue].PutAsync(ctx, m, func(_ polylog.Receipt, err error) { w.ledger.sent(m, err) }, opts...); err != nil {
			w.ledger.sent(m, err)
			return
		}
		if n%10 == 9 { // more than consumers settle in the time, but not so much that the last drain takes long
			time.Sleep(time.Millisecond)
		}
	}
}

// consume acknowledges most, releases some with a delay, and rejects a few.
func (w *work) consume(ctx context.Context, s *polylog.Session, queue int, ordered bool, random *rand.Rand) {
	q := polylog.QueueOf[message](s, queueName(queue))
	for d, err := range q.Consume(ctx, polylog.WithPrefetch(50)) {
		if err != nil {
			return
		}
		m := d.Value
		w.ledger.arrived(m, ordered)
		switch random.IntN(100) {
		case 0:
			w.ledger.rejected(m, d.Reject(ctx, "the test rejects one in a hundred"))
		case 1, 2, 3, 4:
			d.Release(ctx, time.Duration(random.IntN(100))*time.Millisecond)
		default:
			w.done.Go(func() {
				w.ledger.acknowledged(m, d.Ack(ctx))
			})
		}
	}
}

// drain takes all that is left, dead letters included, and returns what the
// broker counts as not settled after that.
func drain(ctx context.Context, url string, l *ledger) (int64, error) {
	c, err := polylog.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for i := range queues {
		if err := drainQueue(ctx, c, queueName(i), func(m message) { l.arrived(m, i == 0) }, func(m message) { l.acknowledged(m, nil) }); err != nil {
			return 0, err
		}
		if err := drainQueue(ctx, c, "DLQ."+queueName(i), func(message) {}, l.buried); err != nil {
			return 0, err
		}
	}
	var left int64
	for i := range queues {
		n, err := unsettled(ctx, c, queueName(i))
		if err != nil {
			return 0, err
		}
		left += n
	}
	return left, nil
}

// drainQueue takes from a queue until the broker says that it is empty.
func drainQueue(ctx context.Context, c *polylog.Connection, name string, arrived, acked func(message)) error {
	s, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	q := polylog.QueueOf[message](s, name)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if err := takeAll(ctx, q, arrived, acked); err != nil {
			return err
		}
		if n, err := unsettled(ctx, c, name); err != nil || n == 0 {
			return err
		}
	}
	info, err := c.Admin().Describe(ctx, name)
	return errors.Join(err, fmt.Errorf("%s is not empty after a minute: %+v %+v", name, info.Partitions, info.Queue))
}

// takeAll takes until nothing has come for a while.
func takeAll(ctx context.Context, q *polylog.Queue[message], arrived, acked func(message)) error {
	for {
		wait, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		ds, err := q.TakeBatch(wait, 1000)
		cancel()
		if errors.Is(err, polylog.ErrNoMessage) {
			return nil
		}
		if err != nil {
			return err
		}
		failed := make(chan error, len(ds))
		for _, d := range ds {
			arrived(d.Value)
			go func() { failed <- d.Ack(ctx) }()
		}
		for range ds {
			err = errors.Join(err, <-failed)
		}
		if err != nil {
			return err
		}
		for _, d := range ds {
			acked(d.Value)
		}
	}
}

func unsettled(ctx context.Context, c *polylog.Connection, name string) (int64, error) {
	info, err := c.Admin().Describe(ctx, name)
	if err != nil || info.Queue == nil {
		return 0, err
	}
	v := info.Queue
	return v.Waiting + v.Acquired + v.Scheduled + v.Held, nil
}
