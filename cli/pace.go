package cli

import (
	"context"
	"iter"
	"time"
)

// pacer keeps to a rate on average: who was late may catch up for a second.
type pacer struct {
	interval time.Duration // 0: no limit
	next     time.Time
}

func newPacer(perSecond float64) *pacer {
	if perSecond <= 0 {
		return &pacer{}
	}
	return &pacer{interval: time.Duration(float64(time.Second) / perSecond), next: time.Now()}
}

// wait waits for the next turn.
func (p *pacer) wait(ctx context.Context) error {
	if p.interval == 0 {
		return ctx.Err()
	}
	now := time.Now()
	if earliest := now.Add(-time.Second); p.next.Before(earliest) {
		p.next = earliest
	}
	pause := p.next.Sub(now)
	p.next = p.next.Add(p.interval)
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// interruptible yields what inner yields until ctx ends, even while inner is
// blocked in a read that nothing can interrupt, as one of a terminal: that read
// is then left behind, and the process is about to end.
func interruptible(ctx context.Context, inner iter.Seq2[[]byte, error]) iter.Seq2[[]byte, error] {
	type item struct {
		body []byte
		err  error
	}
	return func(yield func([]byte, error) bool) {
		items := make(chan item, 16) // few, because a body may be large
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			defer close(items)
			for body, err := range inner {
				select {
				case items <- item{body, err}:
				case <-stop:
					return
				}
			}
		}()
		for {
			select {
			case i, ok := <-items:
				if !ok || !yield(i.body, i.err) {
					return
				}
			case <-ctx.Done():
				yield(nil, errInterrupted)
				return
			}
		}
	}
}
