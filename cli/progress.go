package cli

import (
	"fmt"
	"sync/atomic"
	"time"
)

// progress shows a count and a rate on a terminal, twice a second. Its one
// goroutine ends with stop. A nil progress shows nothing.
type progress struct {
	r       *run
	verb    string
	unit    func(n int64) string
	started time.Time
	count   atomic.Int64
	quit    chan struct{}
	ended   chan struct{}
}

// startProgress begins one, or returns nil where nobody would see it.
func (r *run) startProgress(verb string) *progress {
	if r.quiet || !r.stderrTerminal {
		return nil
	}
	p := &progress{r: r, verb: verb, unit: messages, started: time.Now(), quit: make(chan struct{}), ended: make(chan struct{})}
	go p.show()
	return p
}

// of has it count something else than messages.
func (p *progress) of(unit func(n int64) string) *progress {
	if p != nil {
		p.unit = unit
	}
	return p
}

func (p *progress) add(n int64) {
	if p != nil {
		p.count.Add(n)
	}
}

func (p *progress) show() {
	defer close(p.ended)
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	shown := false
	for {
		select {
		case <-ticker.C:
			n := p.count.Load()
			rate := float64(n) / time.Since(p.started).Seconds()
			fmt.Fprintf(p.r.stderr, "\r\x1b[K%s %s, %s/s", p.unit(n), p.verb, humanCount(int64(rate)))
			shown = true
		case <-p.quit:
			if shown {
				fmt.Fprint(p.r.stderr, "\r\x1b[K")
			}
			return
		}
	}
}

func (p *progress) stop() {
	if p != nil {
		close(p.quit)
		<-p.ended
	}
}
