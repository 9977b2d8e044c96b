package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/test/child"
)

const (
	rareEvery = 1_000_000 // one message in so many has the property rare
	rare      = "rare = TRUE"
	windows   = 3 // of each kind, interleaved; the median counts
)

// selector has a consumer with a selector find a few messages in a long backlog,
// and looks at what that costs consumers without one.
func (s *scale) selector(ctx context.Context, dir string) error {
	b, err := child.Start(s.binary, dir, nil)
	if err != nil {
		return err
	}
	defer func() { b.Kill() }()
	c, err := polylog.Connect(ctx, b.URL)
	if err != nil {
		return err
	}
	defer c.Close()
	begin := time.Now()
	if err := put(ctx, c, s.selected, nil); err != nil {
		return err
	}
	fmt.Printf("  %d messages put in %.0f s\n", s.selected, time.Since(begin).Seconds())
	if err := s.find(ctx, b, c); err != nil {
		return err
	}
	var plain, beside []float64
	for i := range windows {
		// Now this one first, now that: the machine is not the same to the second.
		var rates [2]float64
		for _, selecting := range []bool{i%2 == 1, i%2 == 0} {
			rate, err := s.throughput(ctx, b.URL, selecting)
			if err != nil {
				return err
			}
			if selecting {
				rates[1] = rate
			} else {
				rates[0] = rate
			}
		}
		plain, beside = append(plain, rates[0]), append(beside, rates[1])
		fmt.Printf("  in %s: %.0f/s alone, %.0f/s beside a selector\n", s.window, rates[0], rates[1])
	}
	slices.Sort(plain)
	slices.Sort(beside)
	ratio := beside[windows/2] / plain[windows/2]
	fmt.Printf("  plain consumers keep %.0f%% of their speed\n", 100*ratio)
	if ratio < 0.8 {
		return errors.New("less than 80%")
	}
	return nil
}

// put puts n messages of which one in rareEvery is rare, or until stop is closed.
func put(ctx context.Context, c *polylog.Connection, n int, stop <-chan struct{}) error {
	session, err := c.Session(ctx)
	if err != nil {
		return err
	}
	q := polylog.QueueOf[[]byte](session, "backlog")
	var failed atomic.Pointer[error]
	done := func(_ polylog.Receipt, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	}
	body := make([]byte, 100)
	for i := 1; n == 0 || i <= n; i++ {
		select {
		case <-stop:
			return session.Close(ctx)
		default:
		}
		if i%rareEvery == 0 {
			err = q.PutAsync(ctx, body, done, polylog.WithProperty("rare", true))
		} else {
			err = q.PutAsync(ctx, body, done)
		}
		if err != nil {
			return err
		}
	}
	if err := session.Close(ctx); err != nil {
		return err
	}
	if e := failed.Load(); e != nil {
		return *e
	}
	return nil
}

// find has the rare ones found, once, and then those that come.
func (s *scale) find(ctx context.Context, b *child.Broker, c *polylog.Connection) error {
	session, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		return err
	}
	defer session.Close(ctx)
	q := polylog.QueueOf[[]byte](session, "backlog")
	before, err := b.Usage()
	if err != nil {
		return err
	}
	begin := time.Now()
	found, want := 0, s.selected/rareEvery
	var first time.Duration
	var scanned child.Usage
	late := make(chan error, 1)
	var asked time.Time
	for d, err := range q.Consume(ctx, polylog.WithSelector(rare)) {
		if err != nil {
			return err
		}
		if err := d.AckAsync(); err != nil {
			return err
		}
		switch found++; found {
		case 1:
			first = time.Since(begin)
		case want:
			fmt.Printf("  %d of them found: the first after %s, all after %.1f s\n", want, first.Round(time.Millisecond), time.Since(begin).Seconds())
			time.Sleep(2 * time.Second) // it goes on to the end
			if scanned, err = b.Usage(); err != nil {
				return err
			}
			asked = time.Now()
			go func() {
				_, err := q.Put(ctx, make([]byte, 100), polylog.WithProperty("rare", true))
				late <- err
			}()
		}
		if found > want {
			break
		}
	}
	took := time.Since(asked)
	if err := <-late; err != nil {
		return err
	}
	after, err := b.Usage()
	if err != nil {
		return err
	}
	fmt.Printf("  %d MB were read for that; one more came after %s, and %d KB were read for it\n",
		(scanned.ReadBytes-before.ReadBytes)>>20, took.Round(time.Millisecond), (after.ReadBytes-scanned.ReadBytes)>>10)
	if after.ReadBytes-scanned.ReadBytes > 4<<20 {
		return errors.New("it reads again what it has read")
	}
	return nil
}

// throughput is how many messages a second two plain consumers take while two
// producers put, perhaps with a consumer beside them that has a selector.
func (s *scale) throughput(ctx context.Context, url string, selecting bool) (float64, error) {
	c, err := polylog.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	const pairs = 2
	ended := make(chan error, 2*pairs+1)
	var taken atomic.Int64
	consume := func(count *atomic.Int64, opts ...polylog.ConsumeOption) error {
		session, err := c.Session(ctx)
		if err != nil {
			return err
		}
		for _, err := range polylog.QueueOf[[]byte](session, "backlog").Consume(ctx, opts...) {
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			count.Add(1)
		}
		return nil
	}
	for range pairs {
		go func() { ended <- put(ctx, c, 0, stop) }()
		go func() { ended <- consume(&taken) }()
	}
	if selecting {
		go func() { ended <- consume(new(atomic.Int64), polylog.WithSelector(rare)) }()
	}
	select {
	case <-time.After(5 * time.Second): // they get going
	case err := <-ended:
		return 0, errors.Join(errors.New("one has ended"), err)
	}
	before, begin := taken.Load(), time.Now()
	select {
	case <-time.After(s.window):
	case err := <-ended:
		return 0, errors.Join(errors.New("one has ended"), err)
	}
	rate := float64(taken.Load()-before) / time.Since(begin).Seconds()
	close(stop)
	for range pairs { // the producers
		if err := <-ended; err != nil {
			return 0, err
		}
	}
	cancel()
	return rate, nil
}
