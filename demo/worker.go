package demo

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/polylog-mq/polylog"
)

// worker builds what the queue gives it, one order at a time. It rejects an
// order that it cannot read, unless it is one that mends them.
type worker struct {
	name   string
	story  *story
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	socket  net.Conn // guarded by mu: what a crash cuts
	crashed bool     // guarded by mu
}

func (s *story) startWorkers(ctx context.Context, names ...string) map[string]*worker {
	workers := map[string]*worker{}
	for _, name := range names {
		w := &worker{name: name, story: s}
		ctx, cancel := context.WithCancel(ctx)
		w.cancel = cancel
		w.done.Go(func() { w.work(ctx) })
		workers[name] = w
	}
	return workers
}

// work consumes until it is told to stop, and comes back when the broker does.
func (w *worker) work(ctx context.Context) {
	c, err := polylog.Connect(ctx, w.story.broker.url, polylog.WithDialer(w.dial))
	if err != nil {
		return
	}
	defer c.Close()
	s, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		return
	}
	for d, err := range polylog.QueueOf[[]byte](s, buildsQueue).Consume(ctx, polylog.WithPrefetch(20)) {
		if err != nil || w.gone() {
			return
		}
		w.build(ctx, d)
	}
}

func (w *worker) build(ctx context.Context, d *polylog.Delivery[[]byte]) {
	id := deliveryID(d.Message())
	time.Sleep(200 * time.Microsecond) // the build
	if w.gone() {
		return
	}
	if !wellFormed(d.Value) && !strings.HasSuffix(w.name, "-fixed") {
		w.note(dead, id, d.Reject(ctx, poisonReason))
		return
	}
	w.note(built, id, d.Ack(ctx))
}

// note writes into the ledger what became of an order. One whose answer was
// lost with the broker may be done or come again; any other failure means that
// it comes again.
func (w *worker) note(e entry, id string, err error) {
	switch {
	case err == nil:
		w.story.ledger.note(e, id)
	case errors.Is(err, polylog.ErrInDoubt):
		w.story.ledger.note(unsure, id)
	}
}

// dial refuses once the worker has crashed.
func (w *worker) dial(ctx context.Context) (net.Conn, error) {
	if w.gone() {
		return nil, net.ErrClosed
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", w.story.broker.address)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.socket = c
	return c, err
}

func (w *worker) gone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.crashed
}

// crash cuts the worker's connection and lets it do nothing any more: it
// acknowledges nothing and says no goodbye.
func (w *worker) crash() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crashed = true
	if w.socket != nil {
		w.socket.Close()
	}
}

func (w *worker) stop() {
	w.cancel()
	w.done.Wait()
}
