package http

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
)

// taken is a message with what settles it.
type taken struct {
	message
	span queue.Span
}

// inbox collects what a consumer is delivered. It is a session.Sink.
type inbox struct {
	name string

	mu      sync.Mutex // guards what follows; taken under a view's lock
	reader  record.Reader
	got     []taken
	closed  error
	arrived chan struct{} // has something once there is news
	drained chan struct{}
}

func newInbox(name string) *inbox {
	return &inbox{name: name, arrived: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
}

// Deliver implements queue.Sink.
func (in *inbox) Deliver(d queue.Delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.reader.Reset(d.Batch, math.MaxInt32) != nil { // it was read from our own log
		return
	}
	for i := 0; i < d.Records && in.reader.Next(); {
		r := in.reader.Record()
		if r.Offset < d.Offset {
			continue
		}
		count := 1
		if d.Counts != nil {
			count = int(d.Counts[i])
		}
		in.got = append(in.got, taken{
			messageOf(r, in.name, d.Partition, count),
			queue.Span{Partition: d.Partition, Offset: r.Offset, Acquisition: d.FirstAcquisition + uint64(i), Count: 1},
		})
		i++
	}
	signal(in.arrived)
}

// Joined implements session.Sink.
func (in *inbox) Joined(int32, *destination.Destination) {}

// Flush implements queue.Sink.
func (in *inbox) Flush() {}

// Drained implements queue.Sink.
func (in *inbox) Drained(*queue.Consumer) { signal(in.drained) }

// Closed implements queue.Sink.
func (in *inbox) Closed(_ *queue.Consumer, err error) {
	if err == nil {
		err = session.ErrClosed
	}
	in.mu.Lock()
	in.closed = err
	in.mu.Unlock()
	signal(in.arrived)
	signal(in.drained)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// all takes what has come.
func (in *inbox) all() (got []taken, closed error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	got, in.got = in.got, nil
	return got, in.closed
}

// take takes messages of a queue: what there is up to a count, or, if there is nothing,
// the first that comes within a timeout.
func (s *Server) take(w http.ResponseWriter, r *http.Request, c *session.Connection) error {
	q := r.URL.Query()
	count, err1 := number(q.Get("count"), 1, s.options.MaxCount)
	timeout, err2 := bounded(q.Get("timeout"), 0, s.options.MaxWait)
	lease, err3 := bounded(q.Get("lease"), s.options.DefaultLease, s.options.MaxLease)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	auto := q.Get("ack") == "auto"
	if !auto && q.Get("ack") != "" && q.Get("ack") != "receipt" {
		return invalid("ack %.40q is neither auto nor receipt", q.Get("ack"))
	}
	ss, err := c.OpenSession(session.AckIndividual)
	if err != nil {
		return err
	}
	in := newInbox(r.PathValue("name"))
	k, err := ss.Consume(r.Context(), session.Spec{Destination: in.name, DestinationKind: destination.KindQueue, Selector: q.Get("selector")}, in)
	if err != nil {
		return err
	}
	got, err := s.await(r.Context(), k, in, count, timeout)
	if err != nil {
		return err
	}
	if len(got) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	k.Close() // what it has delivered stays held
	if !auto {
		if err := s.leases.add(c, k, got, lease); err != nil {
			return err // they go back with the connection
		}
	}
	list := make([]message, len(got))
	for i := range got {
		list[i] = got[i].message
	}
	if err := reply(w, http.StatusOK, list); err != nil || http.NewResponseController(w).Flush() != nil || r.Context().Err() != nil {
		s.leases.release(c) // nobody has read them
		return errors.Join(errAnswered, err)
	}
	if !auto {
		return nil
	}
	done := make(waiter, 1)
	if err = k.Settle(spansOf(got), queue.Outcome{Kind: queue.Acknowledge}, done); err == nil {
		err = <-done
	}
	if err != nil {
		s.options.Logger.Warn("acknowledging what was taken", "queue", in.name, "error", err)
	}
	return nil
}

// await returns what comes.
func (s *Server) await(ctx context.Context, k *session.Consumer, in *inbox, count int, timeout time.Duration) ([]taken, error) {
	drain := func() ([]taken, error) {
		k.Drain()
		select {
		case <-in.drained:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return in.all()
	}
	k.Credit(count)
	got, err := drain()
	if err != nil || len(got) > 0 || timeout == 0 {
		return got, err
	}
	k.Credit(count)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-in.arrived:
	case <-timer.C:
	case <-s.draining:
	case <-ctx.Done():
	}
	got, err = drain() // what came in the last moment counts
	if len(got) > 0 {
		return got, nil
	}
	return nil, err
}

func spansOf(all []taken) []queue.Span {
	spans := make([]queue.Span, len(all))
	for i := range all {
		spans[i] = all[i].span
	}
	return spans
}

// number reads a whole number from 1 to most.
func number(text string, otherwise, most int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, invalid("%.40q is not a number from 1 to %d", text, most)
	}
	return n, nil
}

// bounded reads a duration up to most.
func bounded(text string, otherwise, most time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	d, err := duration(text)
	if err != nil {
		return 0, invalid("%.40q: %s", text, err)
	}
	if d > most {
		return 0, invalid("%.40q is more than %s", text, most)
	}
	return d, nil
}

// settle settles one message that was taken.
func (s *Server) settle(w http.ResponseWriter, r *http.Request, c *session.Connection) error {
	var o queue.Outcome
	switch r.PathValue("outcome") {
	case "accept":
		o.Kind = queue.Acknowledge
	case "release":
		o.Kind, o.Delay = queue.Release, -1
		if text := r.URL.Query().Get("delay"); text != "" {
			d, err := duration(text)
			if err != nil {
				return invalid("%.40q: %s", text, err)
			}
			o.Delay = d
		}
	case "reject":
		o.Kind, o.Reason = queue.Reject, "rejected"
		if text := r.URL.Query().Get("reason"); text != "" {
			o.Reason = text[:min(len(text), 1024)]
		}
	default:
		return fmt.Errorf("outcome %.40q: %w; it is accept, release or reject", r.PathValue("outcome"), session.ErrNotFound)
	}
	done := make(waiter, 1)
	if err := s.leases.settle(r.PathValue("receipt"), c.Principal(), o, done); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// receiptOf names the i-th message of a take.
func receiptOf(nonce [8]byte, number uint64, i int) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nonce[:], "%d.%d", number, i))
}
