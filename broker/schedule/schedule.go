// Package schedule is when a recurring message is sent, and as what. It is pure:
// the times come in.
package schedule

import (
	"fmt"
	"slices"
	"time"
	_ "time/tzdata" // zones are known where the system has none
	"unicode/utf8"

	"github.com/robfig/cron/v3"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// Limits of one schedule, in bytes.
const (
	MaxNameBytes = 255
	MaxBatch     = 1 << 20
)

// Version is the format's that this release writes.
const Version = 1

// Property is the property of a message that says which schedule has sent it.
const Property = "JMS_POLYLOG_SCHEDULE"

// lateness is how late a message may be without having been missed, ms.
const lateness = 1000

// Schedule is one, with what it takes to send it once: a producer of the log's own
// (KIP-98). A message that was sent before a crash and not noted is so not sent again.
type Schedule struct {
	Version int `json:"version"` // of this format
	destination.Schedule
	ProducerID int64 `json:"producer_id"`
	Sequence   int32 `json:"sequence"`

	times cron.Schedule
	zone  *time.Location
}

var parser = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Open checks a schedule and reads its times: ErrInvalid, ErrTooLarge.
func (s *Schedule) Open() (err error) {
	switch {
	case s.Name == "" || !utf8.ValidString(s.Name):
		return fmt.Errorf("%w: a schedule needs a name, in UTF-8", destination.ErrInvalid)
	case len(s.Name) > MaxNameBytes:
		return fmt.Errorf("%w: a schedule's name may have %d bytes", destination.ErrTooLarge, MaxNameBytes)
	case s.Kind != destination.KindQueue && s.Kind != destination.KindTopic:
		return fmt.Errorf("%w: a schedule sends to a queue or a topic", destination.ErrInvalid)
	case !slices.Contains([]string{"", destination.MissedOnce, destination.MissedSkip, destination.MissedAll}, s.Missed):
		return fmt.Errorf("%w: missed=%q is none of once, skip, all", destination.ErrInvalid, s.Missed)
	case s.Count < 0 || s.StartMS < 0 || s.EndMS < 0:
		return fmt.Errorf("%w: count, start and end of a schedule are not negative", destination.ErrInvalid)
	case len(s.Batch) > MaxBatch:
		return fmt.Errorf("%w: a recurring message may have %d bytes", destination.ErrTooLarge, MaxBatch)
	}
	if s.times, err = parser.Parse(s.Cron); err != nil {
		return fmt.Errorf("%w: cron %q: %w; write minute, hour, day of month, month, day of week, or @every 90s", destination.ErrInvalid, s.Cron, err)
	}
	if s.zone, err = time.LoadLocation(s.Zone); err != nil {
		return fmt.Errorf("%w: %w", destination.ErrInvalid, err)
	}
	if b, rest, err := record.Next(s.Batch); err != nil || len(rest) > 0 || b.Count() != 1 || record.Validate(b, MaxBatch) != nil {
		return fmt.Errorf("%w: a schedule has one message (%v)", destination.ErrInvalid, err)
	}
	return nil
}

// Begin says when it is sent first.
func (s *Schedule) Begin(now int64) {
	// Not before its start, but at it if it is one of its times.
	s.NextMS = s.after(max(now, s.StartMS-1))
}

// Resume is told that the broker has started, or the schedule goes on: what was
// missed with MissedSkip is not sent.
func (s *Schedule) Resume(now int64) {
	if s.Missed == destination.MissedSkip && s.NextMS > 0 && s.NextMS < now-lateness {
		s.NextMS = s.after(now)
	}
}

// Due says whether it is to be sent.
func (s *Schedule) Due(now int64) bool { return !s.Paused && s.NextMS > 0 && s.NextMS <= now }

// Done notes that it was sent.
func (s *Schedule) Done(now int64) {
	from := now
	if s.Missed == destination.MissedAll {
		from = s.NextMS
	}
	s.Sent++
	s.Sequence = (s.Sequence + 1) & 0x7fffffff
	s.LastMS = now
	if s.NextMS = s.after(from); s.Count > 0 && s.Sent >= s.Count {
		s.NextMS = 0
	}
}

// after is its first time after one, 0 if there is none.
func (s *Schedule) after(ms int64) int64 {
	// What is in front of a fire time's second counts for a whole one.
	next := s.times.Next(time.UnixMilli(ms).In(s.zone))
	if next.IsZero() || s.EndMS > 0 && next.UnixMilli() > s.EndMS {
		return 0
	}
	return next.UnixMilli()
}

// Message is what is sent at a time: the message as of then, with an id of its own.
func (s *Schedule) Message(now int64) (record.Batch, error) {
	var r record.Reader
	if err := r.Reset(s.Batch, MaxBatch); err != nil {
		return nil, err
	}
	r.Next()
	var m record.Message
	if err := record.DecodeMessage(r.Record(), &m); err != nil {
		return nil, err
	}
	if m.Expiration > 0 {
		m.Expiration += now - m.Timestamp
	}
	if m.DeliveryTime > 0 {
		m.DeliveryTime += now - m.Timestamp
	}
	m.Timestamp = now
	m.ID = fmt.Sprintf("ID:schedule-%d-%d", s.ProducerID, s.Sequence)
	if m.Properties == nil {
		m.Properties = map[string]any{}
	}
	m.Properties[Property] = s.Name
	var b record.Builder
	if err := m.AppendTo(&b); err != nil {
		return nil, err
	}
	b.SetProducer(s.ProducerID, 0, s.Sequence, false)
	return b.Batch(), nil
}
