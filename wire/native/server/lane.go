package server

import (
	"fmt"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire"
)

// lane runs requests that may wait, one after the other in their order, beside
// the reader.
type lane struct {
	wire.Lane
	c     *connection
	limit int
}

func (l *lane) init(c *connection, limit int) { l.c, l.limit = c, limit }

// do queues request number request, or answers that too many wait. Done, do
// has answered by itself or returns the error to answer with.
func (l *lane) do(request uint64, do func() error) (queued bool) {
	if l.queue(l.limit, request, do) {
		return true
	}
	l.c.out.fail(request, fmt.Errorf("%w: %d requests wait", session.ErrBusy, l.limit))
	return false
}

// must queues a request whose effect the reader has announced already, and
// which can not be more than there are sessions and consumers.
func (l *lane) must(request uint64, do func() error) { l.queue(0, request, do) }

func (l *lane) queue(limit int, request uint64, do func() error) bool {
	l.c.underWay.Add(1)
	queued := l.Do(limit, func() {
		if err := do(); err != nil {
			l.c.out.fail(request, err)
		}
		l.c.underWay.Add(-1)
		l.c.out.Flush()
	})
	if !queued {
		l.c.underWay.Add(-1)
	}
	return queued
}
