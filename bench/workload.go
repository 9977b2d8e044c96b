package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// workload runs against a started peer, fills in figures, and returns how
// many messages went through.
type workload func(s settings, p peer, srv *server, f figures) (int, error)

var workloads = map[string]workload{
	"w1":      oneProducer,
	"w2":      oneInFlight,
	"w4":      eightAndEight,
	"latency": endToEnd,
	"hundred": hundredQueues,
}

// budget bounds a phase whose peer is slow: it stops sending after this.
const budget = 6 * time.Second

// oneProducer (W1): one producer with 1,000 unconfirmed, then a drain with
// individual acknowledgements, then both at once.
func oneProducer(s settings, p peer, srv *server, f figures) (int, error) {
	c, err := p.connect(srv)
	if err != nil {
		return 0, err
	}
	defer c.close()
	d, err := p.connect(srv)
	if err != nil {
		return 0, err
	}
	defer d.close()
	if err := c.declare("w1"); err != nil {
		return 0, err
	}
	n, rate, err := produce(c, "w1", 1000, int(400_000*s.scale), s.bodyBytes)
	if err != nil {
		return 0, err
	}
	f["produce/s"] = rate
	f["drain/s"], err = drain(d, "w1", n)
	if errors.Is(err, errProduceOnly) {
		return n, nil
	}
	if err != nil {
		return 0, fmt.Errorf("drain: %w", err)
	}
	both := n / 2
	var wg sync.WaitGroup
	var drained, produced error
	begin := time.Now()
	wg.Go(func() { _, drained = drain(d, "w1", both) })
	wg.Go(func() { _, _, produced = produceExactly(c, "w1", 1000, both, s.bodyBytes) })
	wg.Wait()
	f["both/s"] = float64(both) / time.Since(begin).Seconds()
	for _, err := range []error{drained, produced} {
		if err != nil {
			return 0, fmt.Errorf("both: %w", err)
		}
	}
	return n + both, nil
}

// produce sends up to n messages, fewer if the budget ends before, and
// returns how many and how many a second were confirmed.
func produce(c client, queue string, window, n, size int) (int, float64, error) {
	return send(c, queue, window, n, size, time.Now().Add(budget))
}

func produceExactly(c client, queue string, window, n, size int) (int, float64, error) {
	return send(c, queue, window, n, size, time.Now().Add(time.Hour))
}

func send(c client, queue string, window, n, size int, until time.Time) (int, float64, error) {
	p, err := c.producer(queue, window)
	if err != nil {
		return 0, 0, err
	}
	body := make([]byte, size)
	begin := time.Now()
	sent := 0
	for ; sent < n; sent++ {
		if sent%128 == 0 && time.Now().After(until) {
			break
		}
		binary.BigEndian.PutUint64(body, uint64(sent))
		if err := p.send(body); err != nil {
			return 0, 0, err
		}
	}
	if err := p.flush(); err != nil {
		return 0, 0, err
	}
	return sent, float64(sent) / time.Since(begin).Seconds(), nil
}

func drain(c client, queue string, n int) (float64, error) {
	k, err := c.consumer(queue, 1000)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := k.take(n, func([]byte) {}); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// oneInFlight (W2): each message is sent when the one before is confirmed.
func oneInFlight(s settings, p peer, srv *server, f figures) (int, error) {
	c, err := p.connect(srv)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if err := c.declare("w2"); err != nil {
		return 0, err
	}
	k, err := c.producer("w2", 1)
	if err != nil {
		return 0, err
	}
	body := make([]byte, s.bodyBytes)
	var times []time.Duration
	begin := time.Now()
	for time.Since(begin) < time.Duration(3*s.scale*float64(time.Second)) {
		at := time.Now()
		if err := k.send(body); err != nil {
			return 0, err
		}
		if err := k.flush(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(at))
	}
	f["confirmed/s"] = float64(len(times)) / time.Since(begin).Seconds()
	percentiles(f, times)
	return len(times), nil
}

// eightAndEight (W4): eight producers with 64 unconfirmed each and eight
// consumers with individual acknowledgements on one queue.
func eightAndEight(s settings, p peer, srv *server, f figures) (int, error) {
	rate, n, err := many(s, p, srv, 8, func(int) string { return "w4" })
	f["through/s"] = rate
	return n, err
}

// hundredQueues: the same eight and eight over a hundred queues.
func hundredQueues(s settings, p peer, srv *server, f figures) (int, error) {
	rate, n, err := many(s, p, srv, 100, func(i int) string { return fmt.Sprintf("h%02d", i) })
	f["through/s"] = rate
	return n, err
}

// many runs pairs of a producer and a consumer over eight connections each
// for the budget, and measures until all is consumed.
func many(s settings, p peer, srv *server, pairs int, queue func(int) string) (float64, int, error) {
	conns := make([]client, 16)
	for i := range conns {
		c, err := p.connect(srv)
		if err != nil {
			return 0, 0, err
		}
		defer c.close()
		conns[i] = c
	}
	for i := range pairs {
		if err := conns[0].declare(queue(i)); err != nil {
			return 0, 0, err
		}
	}
	share := int(320_000*s.scale) / pairs
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	fail := func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	}
	// Every peer gets the time of the budget: the slow ones send less.
	counts := make([]int, pairs)
	until := time.Now().Add(budget)
	begin := time.Now()
	var sending sync.WaitGroup
	var total, taken atomic.Int64
	done := make(chan struct{})
	for i := range pairs {
		sending.Add(1)
		wg.Go(func() {
			defer sending.Done()
			n, _, err := send(conns[i%8], queue(i), 64, share, s.bodyBytes, until)
			counts[i] = n
			total.Add(int64(n))
			fail(err)
		})
	}
	go func() { sending.Wait(); close(done) }()
	for i := range pairs {
		wg.Go(func() {
			k, err := conns[8+i%8].consumer(queue(i), 128)
			if errors.Is(err, errProduceOnly) {
				return
			}
			if err != nil {
				fail(err)
				return
			}
			fail(takeUntil(k, &taken, &total, done))
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, 0, *err
	}
	return float64(total.Load()) / time.Since(begin).Seconds(), int(total.Load()), nil
}

// stopper is a consumer that can end without having taken all it was asked for.
type stopper interface{ stop() }

// takeUntil takes until all consumers together have taken all that was sent.
func takeUntil(k consumer, taken, total *atomic.Int64, done <-chan struct{}) error {
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		<-done
		for t := time.NewTicker(2 * time.Millisecond); ; {
			select {
			case <-stopped:
				return
			case <-t.C:
				if taken.Load() >= total.Load() {
					k.(stopper).stop()
					return
				}
			}
		}
	}()
	return k.take(1<<60, func([]byte) { taken.Add(1) })
}

// endToEnd: 5,000 messages a second through one queue, from the send to the
// arrival.
func endToEnd(s settings, p peer, srv *server, f figures) (int, error) {
	const rate = 5000
	c, err := p.connect(srv)
	if err != nil {
		return 0, err
	}
	defer c.close()
	d, err := p.connect(srv)
	if err != nil {
		return 0, err
	}
	defer d.close()
	if err := c.declare("latency"); err != nil {
		return 0, err
	}
	n := int(rate * 4 * s.scale)
	k, err := d.consumer("latency", 1000)
	if errors.Is(err, errProduceOnly) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	start := time.Now()
	times := make([]time.Duration, 0, n)
	var wg sync.WaitGroup
	var taking error
	wg.Go(func() {
		taking = k.take(n, func(body []byte) {
			times = append(times, time.Since(start)-time.Duration(binary.BigEndian.Uint64(body)))
		})
	})
	pr, err := c.producer("latency", 1000)
	if err != nil {
		return 0, err
	}
	for i := range n {
		due := time.Duration(i) * time.Second / rate
		for time.Since(start) < due {
			time.Sleep(max(50*time.Microsecond, due-time.Since(start)))
		}
		body := make([]byte, s.bodyBytes)
		binary.BigEndian.PutUint64(body, uint64(time.Since(start)))
		if err := pr.send(body); err != nil {
			return 0, err
		}
	}
	if err := pr.flush(); err != nil {
		return 0, err
	}
	wg.Wait()
	if taking != nil {
		return 0, taking
	}
	percentiles(f, times[n/4:]) // the first quarter warms up
	return n, nil
}

func percentiles(f figures, times []time.Duration) {
	slices.Sort(times)
	f["p50 us"] = float64(times[len(times)/2].Microseconds())
	f["p99 us"] = float64(times[len(times)*99/100].Microseconds())
}
