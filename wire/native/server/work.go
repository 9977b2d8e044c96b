package server

import (
	"fmt"

	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

// endWork handles an EndWork, on the reader: what comes behind it belongs to
// the session's next transaction.
func (c *connection) endWork(f *native.EndWork) {
	s := c.session(f.Session)
	if s == nil {
		c.out.fail(f.Request, fmt.Errorf("session %d: %w on this connection", f.Session, session.ErrNotFound))
		return
	}
	w := newSettleWaiter(c, f.Request)
	end := s.Rollback
	if f.Commit {
		end = s.Commit
	}
	if err := end(w); err != nil {
		w.Committed(err)
	}
	c.prune(f.Session)
}

// prune forgets the closed consumers of a session that hold nothing any more.
func (c *connection) prune(session uint64) {
	c.mu.Lock()
	var closing []*consumer
	for _, k := range c.consumers {
		if k.session == session && k.closing.Load() {
			closing = append(closing, k)
		}
	}
	c.mu.Unlock()
	for _, k := range closing {
		if opened := k.opened.Load(); opened != nil && (opened.Ended() || opened.Prune()) {
			c.forget(k)
		}
	}
}
