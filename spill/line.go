package spill

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/polylog-mq/polylog"
)

// line is the way to the broker: a connection, which makes itself again when it
// breaks, and two sessions. Several messages go in one transaction, so that none
// overtakes one that the broker did not take; a single one needs none.
type line struct {
	address    string
	options    []polylog.Option
	connection *polylog.Connection
	single     *polylog.Session
	several    *polylog.Session
}

// open makes what is missing, and waits for the broker as long as the connection
// does.
func (l *line) open(ctx context.Context) (err error) {
	if l.connection == nil {
		if l.connection, err = polylog.Connect(ctx, l.address, l.options...); err != nil {
			l.connection = nil
			return err
		}
	}
	if l.single == nil {
		l.single, err = l.connection.Session(ctx)
	}
	if err == nil && l.several == nil {
		l.several, err = l.connection.Session(ctx, polylog.Transacted)
	}
	if errors.Is(err, polylog.ErrClosed) { // it has given up
		l.close()
	}
	return err
}

// deliver sends items in order, and returns when the broker has confirmed them all.
// If there is an error it may have all of them, or none.
func (l *line) deliver(ctx context.Context, items []item) error {
	session, last := l.several, len(items)-1
	if last == 0 {
		session = l.single
	}
	var first firstError
	for i := range items {
		err := send(ctx, session, &items[i], first.note)
		if first.note(polylog.Receipt{}, err); err != nil {
			break
		}
	}
	err := session.Flush(ctx)
	if failed := first.get(); failed != nil {
		err = failed
	}
	if err == nil && last > 0 {
		err = session.Commit(ctx)
	}
	if err != nil {
		l.abandon()
	}
	return err
}

// send sends one message under its own id, as of the time it was handed over. The
// id is what a broker with duplicate.window knows a message by that it has already.
func send(ctx context.Context, s *polylog.Session, i *item, done func(polylog.Receipt, error)) error {
	identity := polylog.WithIdentity(i.message.ID, time.UnixMilli(i.message.Timestamp))
	if i.to.kind == kindTopic {
		return s.Topic(i.to.name).PublishAsync(ctx, i.message, done, identity)
	}
	return s.Queue(i.to.name).PutAsync(ctx, i.message, done, identity)
}

// firstError is the first of the errors that completions tell.
type firstError struct {
	mu  sync.Mutex // guards err
	err error
}

func (f *firstError) note(_ polylog.Receipt, err error) {
	f.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	f.mu.Unlock()
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// abandon closes the sessions without waiting: what they have not written is never
// sent, and what is not committed is rolled back.
func (l *line) abandon() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, s := range []*polylog.Session{l.single, l.several} {
		if s != nil {
			_ = s.Close(ended) // that it did not wait is meant
		}
	}
	l.single, l.several = nil, nil
}

func (l *line) close() {
	l.abandon()
	if l.connection != nil {
		_ = l.connection.Close() // what it has not confirmed is sent again
		l.connection = nil
	}
}
