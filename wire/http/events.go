package http

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/topic"
)

const (
	// eventCredit is how many messages a stream has ahead of what was written.
	eventCredit = 256
	// eventBeat is how long a stream is silent, and eventWrite how long one write may
	// take.
	eventBeat  = 15 * time.Second
	eventWrite = 30 * time.Second
)

// events streams what is published, as server-sent events (WHATWG HTML §9.2): from now on,
// or, with the name of a subscription and a client id, from where that is. A message is
// acknowledged once it is written.
func (s *Server) events(w http.ResponseWriter, r *http.Request, c *session.Connection) error {
	q := r.URL.Query()
	name := r.PathValue("name")
	spec := session.Spec{Destination: name, DestinationKind: destination.KindTopic, Selector: q.Get("selector"), Subscription: topic.Temporary}
	if id := q.Get("client-id"); id != "" {
		if err := c.SetClientID(id); err != nil {
			return err
		}
	}
	if spec.Name = q.Get("subscription"); spec.Name != "" {
		spec.Subscription = topic.Durable
		if c.ClientID() == "" {
			return invalid("a durable subscription needs a client-id")
		}
	}
	ss, err := c.OpenSession(session.AckIndividual)
	if err != nil {
		return err
	}
	in := newInbox(name)
	k, err := ss.Consume(r.Context(), spec, in)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	write := func(text []byte) error {
		_ = control.SetWriteDeadline(time.Now().Add(eventWrite))
		if _, err := w.Write(text); err != nil {
			return err
		}
		return control.Flush()
	}
	if err := write([]byte(": the subscription is open\n\n")); err != nil {
		return errAnswered
	}
	k.Credit(eventCredit)
	beat := time.NewTicker(eventBeat)
	defer beat.Stop()
	var text []byte
	for {
		select {
		case <-in.arrived:
		case <-beat.C:
			if write([]byte(":\n\n")) != nil {
				return errAnswered
			}
			continue
		case <-r.Context().Done():
			return errAnswered
		case <-s.draining:
			return errAnswered
		}
		got, closed := in.all()
		text = text[:0]
		for i := range got {
			data, err := json.Marshal(&got[i].message)
			if err != nil {
				s.options.Logger.Warn("a message that JSON cannot have", "destination", name, "error", err)
				continue
			}
			text = fmt.Appendf(text, "id: %d.%d\ndata: %s\n\n", got[i].Partition, got[i].Offset, data)
		}
		if len(text) > 0 && write(text) != nil {
			return errAnswered // what was not written goes back
		}
		if len(got) > 0 {
			if err := k.Settle(spansOf(got), queue.Outcome{Kind: queue.Acknowledge}, nil); err != nil {
				s.options.Logger.Warn("acknowledging events", "destination", name, "error", err)
			}
			k.Credit(len(got))
		}
		if closed != nil {
			_ = write(fmt.Appendf(nil, "event: closed\ndata: %q\n\n", closed.Error()))
			return errAnswered
		}
	}
}
