package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/test/child"
)

const (
	redriveKills = 10
	rejecters    = 512
)

// redrive has messages die, and sends them back while the broker is killed again
// and again. Each is back once in the end.
func (s *scale) redrive(ctx context.Context, dir string) error {
	b, err := child.Start(s.binary, dir, nil)
	if err != nil {
		return err
	}
	defer func() { b.Kill() }()
	if err := fill(ctx, b.URL, s.dead); err != nil {
		return err
	}
	begin := time.Now()
	if err := reject(ctx, b.URL, s.dead); err != nil {
		return err
	}
	fmt.Printf("  %d messages rejected in %.1f s\n", s.dead, time.Since(begin).Seconds())
	begin = time.Now()
	for kill := range redriveKills {
		left := int64(s.dead) * int64(redriveKills-kill) / (redriveKills + 1)
		if err := redriveUntil(ctx, b, left); err != nil {
			return err
		}
		if b, err = child.Start(s.binary, dir, nil); err != nil {
			return err
		}
	}
	c, err := polylog.Connect(ctx, b.URL)
	if err != nil {
		return err
	}
	defer c.Close()
	result, err := c.Admin().Redrive(ctx, polylog.TransferSpec{Name: "DLQ.backlog"})
	if err != nil {
		return err
	}
	fmt.Printf("  redriven in %.1f s, with %d kills on the way and %d messages after the last\n", time.Since(begin).Seconds(), redriveKills, result.Messages)
	info, err := c.Admin().Describe(ctx, "DLQ.backlog")
	if err != nil {
		return err
	}
	if result.Messages == 0 || info.Queue.Waiting != 0 {
		return fmt.Errorf("%d dead letters are left", info.Queue.Waiting)
	}
	lost, doubled, err := account(ctx, c, s.dead)
	if err != nil {
		return err
	}
	fmt.Printf("  lost %d, doubled %d\n", lost, doubled)
	if lost+doubled > 0 {
		return errors.New("the account does not add up")
	}
	return nil
}

// reject takes n messages and rejects each.
func reject(ctx context.Context, url string, n int) error {
	c, err := polylog.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close()
	session, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		return err
	}
	todo, failed := make(chan *polylog.Delivery[[]byte]), make(chan error, rejecters)
	var group sync.WaitGroup
	for range rejecters {
		group.Go(func() {
			for d := range todo {
				if err := d.Reject(ctx, "no good"); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	left := n
	for d, err := range polylog.QueueOf[[]byte](session, "backlog").Consume(ctx) {
		if err != nil {
			return err
		}
		select {
		case todo <- d:
		case err := <-failed:
			return err
		}
		if left--; left == 0 {
			break
		}
	}
	close(todo)
	group.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return session.Close(ctx)
	}
}

// redriveUntil redrives until no more than so many are left, and kills the broker
// in the middle of it.
func redriveUntil(ctx context.Context, b *child.Broker, left int64) error {
	c, err := polylog.Connect(ctx, b.URL)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := c.Admin().Redrive(ctx, polylog.TransferSpec{Name: "DLQ.backlog"})
		ended <- err
	}()
	for {
		info, err := c.Admin().Describe(ctx, "DLQ.backlog")
		if err != nil {
			return err
		}
		if info.Queue.Waiting <= left {
			break
		}
	}
	b.Kill()
	cancel()
	if err := <-ended; err == nil {
		return errors.New("it was over before the kill")
	}
	return nil
}

// account takes what is there, and says which of n messages are not, and how many
// are there more than once.
func account(ctx context.Context, c *polylog.Connection, n int) (lost, doubled int, err error) {
	session, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		return 0, 0, err
	}
	seen := make([]bool, n)
	q := polylog.QueueOf[[]byte](session, "backlog")
	lost = n
	for {
		batch, err := q.TakeBatch(ctx, 1000, polylog.NoWait())
		if errors.Is(err, polylog.ErrNoMessage) {
			return lost, doubled, session.Close(ctx)
		}
		if err != nil {
			return 0, 0, err
		}
		for _, d := range batch {
			if i := binary.BigEndian.Uint64(d.Value); seen[i] {
				doubled++
			} else {
				seen[i] = true
				lost--
			}
			if err := d.AckAsync(); err != nil {
				return 0, 0, err
			}
		}
	}
}
