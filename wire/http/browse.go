package http

import (
	"math"
	"net/http"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/session"
)

var states = map[queue.State]string{queue.Available: "available", queue.Acquired: "acquired", queue.Scheduled: "scheduled", queue.Held: "held"}

// maxBrowse bounds the messages of one answer.
const maxBrowse = 1000

// browse shows what is in a queue, without taking it.
func (s *Server) browse(w http.ResponseWriter, r *http.Request, c *session.Connection) error {
	limit, err := number(r.URL.Query().Get("limit"), 100, maxBrowse)
	if err != nil {
		return err
	}
	name, list, size := r.PathValue("name"), []message{}, int64(0)
	var reader record.Reader
	_, _, err = c.Browse(r.Context(), name, r.URL.Query().Get("selector"), nil, limit, func(partition int32, b record.Batch, all []queue.State) error {
		if err := reader.Reset(b, math.MaxInt32); err != nil {
			return err
		}
		for i := 0; i < len(all) && size < s.options.MaxBody && reader.Next(); i++ {
			m := messageOf(reader.Record(), name, partition, 0)
			m.State = states[all[i]]
			size += int64(len(reader.Record().Value))
			list = append(list, m)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, list)
}

// destinationInfo is a destination as it is answered.
type destinationInfo struct {
	Name          string            `json:"name"`
	Kind          string            `json:"kind"`
	Partitions    int               `json:"partitions"`
	Bytes         int64             `json:"bytes"`
	Subscriptions int               `json:"subscriptions"`
	Settings      map[string]string `json:"settings,omitempty"`
	Waiting       *int64            `json:"waiting,omitempty"` // of a queue that is in use
	Acquired      *int64            `json:"acquired,omitempty"`
	Scheduled     *int64            `json:"scheduled,omitempty"`
}

func infoOf(d *session.DestinationInfo) destinationInfo {
	info := destinationInfo{
		Name: d.Name, Kind: d.Kind.String(), Partitions: len(d.Partitions), Bytes: d.Bytes, Subscriptions: int(d.Subscriptions), Settings: d.Settings,
	}
	if q := d.Queue; q != nil {
		info.Waiting, info.Acquired, info.Scheduled = &q.Waiting, &q.Acquired, &q.Scheduled
	}
	return info
}

func (s *Server) destinations(w http.ResponseWriter, r *http.Request, c *session.Connection) error {
	all, err := s.broker.ListDestinations(r.Context(), r.URL.Query().Get("prefix"), false)
	if err != nil {
		return err
	}
	list := []destinationInfo{}
	for i := range all {
		if c.Authorize(session.OperationDescribe, all[i].Name) == nil {
			list = append(list, infoOf(&all[i]))
		}
	}
	return reply(w, http.StatusOK, list)
}

func (s *Server) destination(w http.ResponseWriter, r *http.Request, c *session.Connection) error {
	name := r.PathValue("name")
	if err := c.Authorize(session.OperationDescribe, name); err != nil {
		return err
	}
	d, err := s.broker.DescribeDestination(r.Context(), name)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, infoOf(&d))
}
