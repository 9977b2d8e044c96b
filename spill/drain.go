package spill

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/polylog-mq/polylog"
)

// round is what is sent at once: all of it is confirmed, or nothing.
type round struct {
	items   []item
	entries []*entry // of items, if they are sent from memory; else they are in the store
}

// drain sends rounds, one after the other, until the end: so nothing overtakes what
// the broker has not confirmed.
func (p *Producer) drain() {
	l := &line{address: p.address, options: p.options.Connect}
	defer l.close()
	pause := backoff{}
	most := roundRecords // half of it after each failure, so that a bad connection has a chance
	alone := 0           // so many rounds are of one message, to find the one that is refused
	for {
		if err := l.open(p.life); err != nil {
			p.lost(err)
			if !pause.wait(p) {
				return
			}
			continue
		}
		n := most
		if alone > 0 {
			n = 1
		}
		r, ok := p.nextRound(n)
		if !ok {
			return
		}
		err := l.deliver(p.life, r.items)
		stuck := p.settle(r, err, alone > 0)
		switch {
		case err == nil:
			pause, most = backoff{}, min(2*most, roundRecords)
			alone = max(alone-len(r.items), 0)
		case refusal(err) && alone == 0:
			alone = len(r.items)
		case refusal(err) && !stuck:
			alone--
		default:
			most = max(most/2, 1)
			if !pause.wait(p) {
				return
			}
		}
	}
}

// refusal says whether the error is the broker's about a message, which sending it
// again will not change.
func refusal(err error) bool {
	for _, refused := range []error{
		polylog.ErrInvalid, polylog.ErrUnsupported, polylog.ErrUnauthorized, polylog.ErrNotFound, polylog.ErrWrongKind, polylog.ErrTooLarge,
	} {
		if errors.Is(err, refused) {
			return true
		}
	}
	return false
}

// nextRound waits for something to send, and takes so many at most. It returns
// false at the end.
func (p *Producer) nextRound(most int) (r round, ok bool) {
	p.mu.Lock()
	defer p.unlock()
	p.sending = false
	p.changed.Broadcast()
	for {
		if p.passed > 0 {
			n := p.passed
			p.passed = 0
			p.unlock()
			err := p.store.pass(n)
			p.mu.Lock()
			p.check(err)
		}
		if p.failed != nil || p.closed {
			return round{}, false
		}
		if p.queue.stored > 0 {
			p.sending = true
			p.unlock()
			items, err := p.store.read(most)
			p.mu.Lock()
			if err == nil && len(items) == 0 {
				err = fmt.Errorf("%w: %d messages are missing", ErrCorrupt, p.queue.stored)
			}
			p.check(err)
			if err == nil {
				return round{items: items}, true
			}
			continue
		}
		if entries := p.queue.round(most); entries != nil {
			p.sending = true
			r := round{entries: entries, items: make([]item, len(entries))}
			for i, e := range entries {
				r.items[i] = e.item
			}
			return r, true
		}
		p.changed.Wait()
	}
}

// check ends all if the disk has failed. The caller holds mu.
func (p *Producer) check(err error) {
	if err != nil {
		p.fail(err)
	}
}

// settle notes how a round has ended. If its one message is refused for good it
// goes back to its sender, or to Options.Refused; it is stuck if neither takes it.
func (p *Producer) settle(r round, err error, alone bool) (stuck bool) {
	drop := false
	if err != nil && refusal(err) && alone && r.entries == nil && p.options.Refused != nil {
		drop = p.options.Refused(r.items[0].to, r.items[0].message, err)
	}
	p.mu.Lock()
	defer p.unlock()
	switch {
	case err == nil:
		p.confirmed(r)
	case refusal(err) && !alone: // each alone, next
		p.queue.undone(r.entries)
	case refusal(err) && r.entries != nil:
		p.queue.refused(r.entries[0], err)
	case drop:
		p.options.Logger.Error("polylog: a message that the broker refuses was dropped", "destination", r.items[0].to.String(), "id", r.items[0].message.ID, "error", err)
		p.check(p.confirmStored(1))
	default:
		stuck = true
		if p.away == nil || refusal(err) {
			p.away = err
		}
		p.spill(err)
	}
	p.changed.Broadcast()
	return stuck
}

// confirmed notes that the broker has a round. The caller holds mu.
func (p *Producer) confirmed(r round) {
	var err error
	if r.entries == nil {
		err = p.confirmStored(len(r.items))
	} else if n := p.queue.confirmed(r.entries); n > 0 {
		err = p.unlocked(func() error { return p.store.pass(n) })
	}
	p.check(err)
	if p.away != nil {
		p.options.Logger.Info("polylog: the broker takes messages again", "pending", p.queue.pending())
	}
	p.away = nil
	// What comes now need not be written: it is next, or nearly so.
	if p.queue.stored <= roundRecords && !p.closed {
		p.queue.spilling = false
		if len(p.queue.waiting) > 0 {
			p.timer.Reset(p.options.Patience)
		}
	}
}

// confirmStored is confirmed for the first n messages of the store.
func (p *Producer) confirmStored(n int) error {
	p.queue.stored -= int64(n)
	return p.unlocked(func() error { return p.store.confirm(n) })
}

// unlocked calls f without mu.
func (p *Producer) unlocked(f func() error) error {
	p.unlock()
	defer p.mu.Lock()
	return f()
}

// lost notes that there is no connection.
func (p *Producer) lost(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() == nil {
		p.away = err
		p.spill(err)
	}
}

// backoff is how long to wait before the next attempt: between shortestPause and
// that doubled each time, up to longestPause.
type backoff struct{ attempts int }

const (
	shortestPause = 50 * time.Millisecond
	longestPause  = 5 * time.Second
)

// wait returns false at the end.
func (b *backoff) wait(p *Producer) bool {
	p.mu.Lock()
	p.sending = false
	p.changed.Broadcast()
	p.mu.Unlock()
	longest := min(shortestPause<<min(b.attempts, 10), longestPause)
	b.attempts++
	timer := time.NewTimer(shortestPause + rand.N(longest-shortestPause+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.life.Done():
		return false
	}
}
