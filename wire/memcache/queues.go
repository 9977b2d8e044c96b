package memcache

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/session"
)

// purge deletes what waits in a queue.
func (c *connection) purge(cmd *command) {
	name := string(cmd.keys[0])
	c.settleSets()
	_, err := c.state.Resolve(c.ctx, name, 0)
	if err == nil {
		err = c.state.Authorize(session.OperationDelete, name)
	}
	for t := (session.Transfer{Name: name}); err == nil; {
		var r session.TransferResult
		if r, err = c.server.broker.Purge(c.ctx, t); err == nil && !r.More {
			break
		}
		t.After = r.Next
	}
	switch {
	case cmd.noreply:
	case errors.Is(err, session.ErrNotFound):
		c.say("NOT_FOUND")
	case err != nil:
		c.say(string(appendError(nil, err)))
	default:
		c.say("DELETED")
	}
}

// stats says how the broker is, or, of "stats queue", what each queue has had, and
// how much of it is done, as MemcacheQ does.
func (c *connection) stats(cmd *command) {
	var text []byte
	if len(cmd.keys) == 0 {
		s := c.server
		for _, line := range [][2]string{
			{"pid", strconv.Itoa(os.Getpid())},
			{"uptime", strconv.Itoa(int(time.Since(s.started).Seconds()))},
			{"time", strconv.FormatInt(time.Now().Unix(), 10)},
			{"version", s.options.Version},
			{"curr_connections", strconv.Itoa(s.Connections())},
		} {
			text = fmt.Appendf(text, "STAT %s %s\r\n", line[0], line[1])
		}
		c.replies = append(c.replies, reply{text: append(text, "END\r\n"...)})
		return
	}
	if string(cmd.keys[0]) != "queue" {
		c.replies = append(c.replies, reply{text: []byte("END\r\n")})
		return
	}
	c.settleSets()
	all, err := c.server.broker.ListDestinations(c.ctx, "", false)
	if err != nil {
		c.say(string(appendError(nil, err)))
		return
	}
	for _, d := range all {
		if d.Kind != destination.KindQueue || c.state.Authorize(session.OperationDescribe, d.Name) != nil || strings.ContainsAny(d.Name, " \r\n") {
			continue
		}
		if d.Queue == nil { // nobody has used it since the start
			if d, err = c.opened(d.Name); err != nil || d.Queue == nil {
				continue // it has gone meanwhile
			}
		}
		total := int64(0)
		for _, p := range d.Partitions {
			total += p.Stable
		}
		left := d.Queue.Waiting + d.Queue.Acquired + d.Queue.Scheduled + d.Queue.Held
		text = fmt.Appendf(text, "STAT %s %d/%d\r\n", d.Name, total, max(total-left, 0))
	}
	c.replies = append(c.replies, reply{text: append(text, "END\r\n"...)})
}

func (c *connection) opened(name string) (session.DestinationInfo, error) {
	d, err := c.server.broker.Destination(c.ctx, name, 0)
	if err == nil {
		_, err = c.server.broker.Queue(c.ctx, d)
	}
	if err != nil {
		return session.DestinationInfo{}, err
	}
	return c.server.broker.DescribeDestination(c.ctx, name)
}
