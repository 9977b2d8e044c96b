package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/test/child"
)

// many puts into thousands of destinations over a thousand connections.
func (s *scale) many(ctx context.Context, dir string) error {
	b, err := child.Start(s.binary, dir, nil)
	if err != nil {
		return err
	}
	defer b.Kill()
	begin := time.Now()
	sessions := make([]*polylog.Session, s.connections)
	var opening sync.WaitGroup
	var failed atomic.Pointer[error]
	fail := func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	}
	gate := make(chan struct{}, 64) // connections that open at once
	for i := range sessions {
		opening.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			c, err := polylog.Connect(ctx, b.URL)
			if err != nil {
				fail(err)
				return
			}
			sessions[i], err = c.Session(ctx)
			fail(err)
		})
	}
	opening.Wait()
	if e := failed.Load(); e != nil {
		return *e
	}
	fmt.Printf("  %d connections in %.1f s\n", s.connections, time.Since(begin).Seconds())

	// The first put creates the destination and is not measured.
	begin = time.Now()
	if _, err := s.putEverywhere(ctx, sessions, 0); err != nil {
		return err
	}
	fmt.Printf("  %d destinations created in %.1f s\n", s.destinations, time.Since(begin).Seconds())
	times, err := s.putEverywhere(ctx, sessions, 200*time.Microsecond)
	if err != nil {
		return err
	}
	u, err := b.Usage()
	if err != nil {
		return err
	}
	p99 := times[len(times)*99/100]
	fmt.Printf("  %d puts: p50 %s, p99 %s; %d descriptors, peak memory %d MB\n",
		len(times), times[len(times)/2], p99, u.Descriptors, u.PeakBytes>>20)
	switch {
	case u.Descriptors >= 8000:
		return errors.New("8,000 descriptors or more")
	case u.PeakBytes > 500<<20:
		return errors.New("more than 500 MB")
	case p99 > 50*time.Millisecond:
		return errors.New("put p99 is over 50 ms")
	}
	return nil
}

// putEverywhere puts one message into each destination, each connection into
// its share of them, pausing between two puts so that the load is the same
// whatever the machine; it returns the sorted times.
func (s *scale) putEverywhere(ctx context.Context, sessions []*polylog.Session, pause time.Duration) ([]time.Duration, error) {
	var mu sync.Mutex
	var times []time.Duration
	var first error
	var wg sync.WaitGroup
	body := make([]byte, 1024)
	for i, session := range sessions {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * pause)
			for d := i; d < s.destinations; d += len(sessions) {
				at := time.Now()
				_, err := polylog.QueueOf[[]byte](session, fmt.Sprintf("many-%05d", d)).Put(ctx, body)
				took := time.Since(at)
				mu.Lock()
				times = append(times, took)
				if first == nil && err != nil {
					first = err
				}
				mu.Unlock()
				if err != nil {
					return
				}
				time.Sleep(pause * time.Duration(len(sessions)))
			}
		})
	}
	wg.Wait()
	slices.Sort(times)
	return times, first
}
