package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/test/child"
)

// backlog fills a queue, kills the broker, and takes from the queue again.
func (s *scale) backlog(ctx context.Context, dir string) error {
	b, err := child.Start(s.binary, dir, nil)
	if err != nil {
		return err
	}
	defer func() { b.Kill() }()
	begin := time.Now()
	if err := fill(ctx, b.URL, s.messages); err != nil {
		return err
	}
	full, err := b.Usage()
	if err != nil {
		return err
	}
	fmt.Printf("  %d messages of 100 bytes put in %.0f s; peak memory %d MB, of its own now %d MB\n",
		s.messages, time.Since(begin).Seconds(), full.PeakBytes>>20, full.AnonymousBytes>>20)
	b.Kill()
	if b, err = child.Start(s.binary, dir, nil); err != nil {
		return err
	}
	ready := time.Now()
	first, rest, err := takeInOrder(ctx, b.URL, s.messages)
	if err != nil {
		return err
	}
	drained, err := b.Usage()
	if err != nil {
		return err
	}
	fmt.Printf("  after kill -9: ready in %d ms; first take %d ms after ready; all taken in order in %.0f s; peak memory %d MB\n",
		b.Took.Milliseconds(), first.Sub(ready).Milliseconds(), rest.Sub(first).Seconds(), drained.PeakBytes>>20)
	switch {
	case full.PeakBytes > 300<<20 || drained.PeakBytes > 300<<20:
		return errors.New("more than 300 MB of memory")
	case first.Sub(ready)+b.Took > time.Second:
		return errors.New("the first take came later than a second after the restart")
	}
	return nil
}

func fill(ctx context.Context, url string, n int) error {
	c, err := polylog.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close()
	session, err := c.Session(ctx)
	if err != nil {
		return err
	}
	q := polylog.QueueOf[[]byte](session, "backlog")
	var failed atomic.Pointer[error]
	body := make([]byte, 100)
	for i := range n {
		binary.BigEndian.PutUint64(body, uint64(i))
		if err := q.PutAsync(ctx, body, func(_ polylog.Receipt, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		}); err != nil {
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

// takeInOrder takes n messages and says when the first and the last came.
func takeInOrder(ctx context.Context, url string, n int) (first, last time.Time, err error) {
	c, err := polylog.Connect(ctx, url)
	if err != nil {
		return first, last, err
	}
	defer c.Close()
	session, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		return first, last, err
	}
	next := 0
	for d, err := range polylog.QueueOf[[]byte](session, "backlog").Consume(ctx) {
		if err != nil {
			return first, last, err
		}
		if next == 0 {
			first = time.Now()
		}
		if got := int(binary.BigEndian.Uint64(d.Value)); got != next {
			return first, last, fmt.Errorf("message %d came where %d was due", got, next)
		}
		if err := d.AckAsync(); err != nil {
			return first, last, err
		}
		if next++; next == n {
			break
		}
	}
	return first, time.Now(), session.Close(ctx)
}
