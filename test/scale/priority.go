package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/test/child"
)

// batch is how many messages go to the broker at once, at most: a window ends
// with the batch that fills it.
const batch = 100

// urgent is how many messages of the highest priority are sent last.
const urgent = 1000

// priority fills a queue with messages of mixed priority, sends urgent ones
// behind them, and looks at the order in which all come: of each stretch of
// priority.window messages the highest are first.
func (s *scale) priority(ctx context.Context, dir string) error {
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
	window := 1024 // priority.window's default
	for _, backlog := range []int{window - urgent, s.mixed} {
		name := fmt.Sprintf("mixed-%d", backlog)
		if err := s.order(ctx, c, name, backlog, window); err != nil {
			return err
		}
	}
	return nil
}

func (s *scale) order(ctx context.Context, c *polylog.Connection, name string, backlog, window int) error {
	session, err := c.Session(ctx)
	if err != nil {
		return err
	}
	q := polylog.QueueOf[int](session, name)
	send := func(i, priority int) error {
		return q.PutAsync(ctx, i, func(polylog.Receipt, error) {}, polylog.WithPriority(priority))
	}
	for i := range backlog {
		if err := send(i, priorityOf(i, backlog)); err != nil {
			return err
		}
		if i%batch == batch-1 {
			if err := session.Flush(ctx); err != nil {
				return err
			}
		}
	}
	for i := range urgent {
		if err := send(backlog+i, 9); err != nil {
			return err
		}
	}
	if err := session.Flush(ctx); err != nil {
		return err
	}
	if session, err = c.Session(ctx, polylog.IndividualAcknowledge); err != nil {
		return err
	}
	q = polylog.QueueOf[int](session, name)
	n, total, firstUrgent, early, inverted := 0, backlog+urgent, -1, 0, 0
	last := map[int]int{} // by priority: messages of one keep their order
	begin := time.Now()
	// One at a time: what a consumer has fetched ahead it has got.
	for d, err := range q.Consume(ctx, polylog.WithPrefetch(1)) {
		if err != nil {
			return err
		}
		priority := priorityOf(d.Value, backlog)
		if before, ok := last[priority]; ok && d.Value < before {
			inverted++
		}
		last[priority] = d.Value
		if priority == 9 && firstUrgent < 0 {
			firstUrgent = n
		}
		if ahead := d.Value - n; ahead > window+batch {
			early++ // it comes from beyond the window
		}
		if err := d.AckAsync(); err != nil {
			return err
		}
		if n++; n == total {
			break
		}
	}
	fmt.Printf("  %d messages of priorities 0 to 8, then %d of priority 9: the first of these came as number %d, %d before the end; all in %.1f s\n",
		backlog, urgent, firstUrgent+1, total-firstUrgent, time.Since(begin).Seconds())
	switch {
	case inverted > 0:
		return fmt.Errorf("%d messages overtook others of their priority", inverted)
	case early > 0:
		return fmt.Errorf("%d messages came from beyond the window", early)
	case backlog < window && firstUrgent != 0:
		return errors.New("within the window the urgent ones were not first")
	case firstUrgent > backlog-window+urgent+1 && backlog >= window:
		return errors.New("the urgent ones did not go past the window")
	}
	return session.Close(ctx)
}

// priorityOf is the priority of message number i.
func priorityOf(i, backlog int) int {
	if i >= backlog {
		return 9
	}
	return i * 7 % 9
}
