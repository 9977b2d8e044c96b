package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/test/child"
)

// onTime spreads delayed messages over a minute and measures how late they
// come; then it lets others fall due while the broker is down.
func (s *scale) onTime(ctx context.Context, dir string) error {
	b, err := child.Start(s.binary, dir, nil)
	if err != nil {
		return err
	}
	defer func() { b.Kill() }()
	const lead, spread = 15 * time.Second, time.Minute
	begin := time.Now()
	if err := delay(ctx, b.URL, s.delayed, lead, spread); err != nil {
		return err
	}
	fmt.Printf("  %d delayed messages put in %.1f s\n", s.delayed, time.Since(begin).Seconds())
	late, _, err := lateness(ctx, b.URL, s.delayed)
	if err != nil {
		return err
	}
	p99 := late[len(late)*99/100]
	fmt.Printf("  late by p50 %s, p99 %s, at most %s; none early\n", late[len(late)/2], p99, late[len(late)-1])

	if err := delay(ctx, b.URL, s.delayed, 0, 5*time.Second); err != nil {
		return err
	}
	b.Kill()
	time.Sleep(6 * time.Second) // all fall due while nobody is there
	if b, err = child.Start(s.binary, dir, nil); err != nil {
		return err
	}
	ready := time.Now()
	_, last, err := lateness(ctx, b.URL, s.delayed)
	if err != nil {
		return err
	}
	fmt.Printf("  %d that fell due while the broker was down: all delivered %d ms after ready (ready took %d ms)\n",
		s.delayed, last.Sub(ready).Milliseconds(), b.Took.Milliseconds())
	if p99 > 50*time.Millisecond {
		return errors.New("p99 is over 50 ms")
	}
	if last.Sub(ready) > time.Second {
		return errors.New("the overdue took more than a second")
	}
	return nil
}

func delay(ctx context.Context, url string, n int, lead, spread time.Duration) error {
	c, err := polylog.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close()
	session, err := c.Session(ctx)
	if err != nil {
		return err
	}
	q := polylog.QueueOf[[]byte](session, "delayed")
	begin := time.Now()
	for range n {
		d := lead + rand.N(spread) - time.Since(begin)
		body := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(d).UnixMilli()))
		if err := q.PutAsync(ctx, body, nil, polylog.WithDelay(d)); err != nil {
			return err
		}
	}
	return session.Close(ctx)
}

// lateness takes n messages and returns, sorted, how long after its time each
// came, and when the last came.
func lateness(ctx context.Context, url string, n int) ([]time.Duration, time.Time, error) {
	c, err := polylog.Connect(ctx, url)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer c.Close()
	session, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		return nil, time.Time{}, err
	}
	var late []time.Duration
	var last time.Time
	for d, err := range polylog.QueueOf[[]byte](session, "delayed").Consume(ctx) {
		if err != nil {
			return nil, last, err
		}
		last = time.Now()
		by := last.Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(d.Value))))
		if by < -2*time.Millisecond { // the delay is in whole milliseconds
			return nil, last, fmt.Errorf("a message came %s early", -by)
		}
		late = append(late, by)
		if err := d.AckAsync(); err != nil {
			return nil, last, err
		}
		if len(late) == n {
			break
		}
	}
	slices.Sort(late)
	return late, last, session.Close(ctx)
}
