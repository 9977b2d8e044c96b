package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// tryLimit ends what should have ended long before.
	tryLimit = 90 * time.Second
	// shortTimeout is the transaction timeout of one producer, which sometimes waits longer.
	shortTimeout = 3 * time.Second
)

// A producer writes transactions of random sizes over random partitions, and commits
// them, aborts them, forgets them, or has another one of its name fence it off.
type producer struct {
	t      *trial
	id     int
	random *rand.Rand
	stalls bool
}

func newProducer(t *trial, id int) *producer {
	return &producer{t: t, id: id, random: t.random(id), stalls: id == producers-1}
}

// options are those of a producer or processor. Every other one is impatient: it gives
// up an EndTxn that a crash has interrupted, which leaves its commit in doubt.
func (t *trial) options(id int) []kgo.Opt {
	return append(patient(t.broker.address, 20*time.Second),
		kgo.RetryTimeoutFn(func(key int16) time.Duration {
			if key == kmsg.EndTxn.Int16() && id%2 == 1 {
				return time.Millisecond
			}
			return 20 * time.Second
		}),
		kgo.TransactionalID(fmt.Sprintf("soak-%d", id)),
		kgo.TransactionTimeout(30*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
}

func (p *producer) open() (*kgo.Client, error) {
	o := p.t.options(p.id)
	if p.stalls {
		o = append(o, kgo.TransactionTimeout(shortTimeout))
	}
	return kgo.NewClient(o...)
}

func (p *producer) run(ctx context.Context, stop <-chan struct{}) {
	for !stopped(ctx, stop) {
		cl, err := p.open()
		if err != nil {
			p.t.abort(err)
			return
		}
		for !stopped(ctx, stop) {
			began := time.Now()
			n, ok := p.transaction(ctx, cl)
			if !ok {
				break
			}
			wait(ctx, time.Duration(float64(n)*producers/p.t.o.rate*float64(time.Second))-time.Since(began))
		}
		cl.Close()
	}
	p.t.lastWords(ctx, p.id)
}

func stopped(ctx context.Context, stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// lastWords ends a transaction that was left open: who asks for a producer id ends the
// transaction of the one before.
func (t *trial) lastWords(ctx context.Context, id int) {
	var err error
	for began := time.Now(); ctx.Err() == nil; wait(ctx, 200*time.Millisecond) {
		if time.Since(began) > tryLimit {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.own.add(faultHanging, 1, "producer %d gets no producer id: %v", id, err)
			return
		}
		var cl *kgo.Client
		if cl, err = kgo.NewClient(t.options(id)...); err != nil {
			t.abort(err)
			return
		}
		try, cancel := context.WithTimeout(ctx, tryLimit/3)
		_, _, err = cl.ProducerID(try)
		cancel()
		cl.Close()
		if err == nil {
			return
		}
	}
}

// transaction is one. It is not ok if the client is of no further use.
func (p *producer) transaction(ctx context.Context, cl *kgo.Client) (n int, ok bool) {
	n = 1 + min(int(p.random.ExpFloat64()*12), 300)
	const commit, abort, forget, fenced = 0, 1, 2, 3
	plan := commit
	switch r := p.random.Float64(); {
	case r < 0.20:
		plan = abort
	case r < 0.22:
		plan = forget
	case r < 0.24:
		plan = fenced
	}
	if err := cl.BeginTransaction(); err != nil {
		return n, false
	}
	id := p.t.begin(p.id, n)
	try, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	var batch produced
	for i := range n {
		if plan == fenced && i == n/2 {
			_ = cl.Flush(try)
			other, err := p.open()
			if err != nil {
				p.t.abort(err)
				return n, false
			}
			defer other.Close()
			if _, _, err := other.ProducerID(try); err != nil {
				plan = abort // the broker is down, and nobody fenced off
			}
		}
		s := stamp{transactionID: id, Position: i, Count: n, Abort: plan != commit}
		batch.produce(try, cl, &kgo.Record{
			Topic:     writtenTopics[p.random.IntN(len(writtenTopics))],
			Partition: p.random.Int32N(topicPartitions),
			Value:     s.value(p.random.IntN(600)),
		})
		if p.random.IntN(10) == 0 {
			wait(ctx, time.Duration(p.random.IntN(50))*time.Millisecond)
		}
	}
	if p.stalls && p.random.IntN(20) == 0 {
		wait(ctx, time.Duration(p.random.Float64()*2*float64(shortTimeout)))
	}
	switch plan {
	case forget:
		if p.random.IntN(2) == 0 {
			_ = cl.Flush(try)
		}
		p.t.ended(id, n, aborted)
		return n, false
	case fenced: // there is nothing to commit any more, and the stamps say so
		_ = cl.Flush(try)
		_ = cl.EndTransaction(try, kgo.TryCommit)
		p.t.ended(id, n, aborted)
		return n, false
	case abort:
		if p.random.IntN(2) == 0 {
			_ = cl.AbortBufferedRecords(try)
		}
	}
	if err := cl.Flush(try); err != nil { // its context has ended
		p.t.ended(id, n, aborted)
		return n, false
	}
	if plan == abort || batch.err() != nil {
		p.t.ended(id, n, aborted)
		return n, cl.EndTransaction(try, kgo.TryAbort) == nil
	}
	err := cl.EndTransaction(try, kgo.TryCommit)
	switch {
	case err == nil:
		p.t.ended(id, n, committed)
		return n, true
	case errors.Is(err, kerr.OperationNotAttempted), errors.Is(err, kerr.TransactionAbortable):
		p.t.ended(id, n, aborted)
		return n, cl.EndTransaction(try, kgo.TryAbort) == nil
	default:
		p.t.ended(id, n, doubt)
		return n, false
	}
}

// produced gathers the answers to what was produced.
type produced struct {
	mu    sync.Mutex
	first error
}

func (b *produced) produce(ctx context.Context, cl interface {
	Produce(context.Context, *kgo.Record, func(*kgo.Record, error))
}, r *kgo.Record,
) {
	cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.first == nil {
			b.first = err
		}
	})
}

func (b *produced) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first
}
