package schedule

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// made is a schedule of a message that was given at a time, with a time to live.
func made(t *testing.T, cron string, change func(*destination.Schedule)) *Schedule {
	t.Helper()
	m := record.Message{Timestamp: 1000, Body: []byte("tick"), Meta: record.Meta{Kind: record.BodyText, Expiration: 6000, DeliveryTime: 3000}}
	var b record.Builder
	if err := m.AppendTo(&b); err != nil {
		t.Fatal(err)
	}
	s := &Schedule{Schedule: destination.Schedule{Name: "s", Destination: "q", Kind: destination.KindQueue, Cron: cron, Batch: b.Batch()}, ProducerID: 7}
	if change != nil {
		change(&s.Schedule)
	}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	return s
}

func ms(t *testing.T, text string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMilli()
}

// run is the first n times from one on.
func run(s *Schedule, now int64, n int) (times []string) {
	s.Begin(now)
	for range n {
		if s.NextMS == 0 {
			return append(times, "never")
		}
		now = s.NextMS
		times = append(times, time.UnixMilli(now).UTC().Format("2006-01-02T15:04:05"))
		s.Done(now)
	}
	return times
}

func TestTimes(t *testing.T) {
	for _, test := range []struct {
		name, cron, from string
		change           func(*destination.Schedule)
		want             string
	}{
		{"every quarter", "*/15 * * * *", "2026-11-23T10:07:00Z", nil, "2026-11-23T10:15:00 2026-11-23T10:30:00"},
		{"seconds", "*/30 * * * * *", "2026-11-23T10:07:01Z", nil, "2026-11-23T10:07:30 2026-11-23T10:08:00"},
		{"a period", "@every 90s", "2026-11-23T10:00:00Z", nil, "2026-11-23T10:01:30 2026-11-23T10:03:00"},
		{"leap day", "0 0 29 2 *", "2026-11-23T10:00:00Z", nil, "2028-02-29T00:00:00 2032-02-29T00:00:00"},
		{"never", "0 0 31 2 *", "2026-11-23T10:00:00Z", nil, "never"},
		{"a zone", "0 9 * * *", "2026-11-23T10:00:00Z", func(s *destination.Schedule) { s.Zone = "Europe/Berlin" }, "2026-11-24T08:00:00 2026-11-25T08:00:00"},
		// On 2026-03-29 there is no 02:30 in Berlin, on 2026-10-25 there are two.
		{"the hour that is not there", "30 2 * * *", "2026-03-27T12:00:00Z", func(s *destination.Schedule) { s.Zone = "Europe/Berlin" }, "2026-03-28T01:30:00 2026-03-30T00:30:00"},
		{"the hour that is there twice", "30 2 * * *", "2026-10-24T12:00:00Z", func(s *destination.Schedule) { s.Zone = "Europe/Berlin" }, "2026-10-25T00:30:00 2026-10-25T01:30:00"},
		{"a start", "@hourly", "2026-11-23T10:07:00Z", func(s *destination.Schedule) { s.StartMS = ms(t, "2026-12-01T00:00:00Z") }, "2026-12-01T00:00:00 2026-12-01T01:00:00"},
		{"an end", "@daily", "2026-11-23T10:07:00Z", func(s *destination.Schedule) { s.EndMS = ms(t, "2026-11-24T00:00:00Z") }, "2026-11-24T00:00:00 never"},
		{"a count", "@daily", "2026-11-23T10:07:00Z", func(s *destination.Schedule) { s.Count = 1 }, "2026-11-24T00:00:00 never"},
	} {
		got := strings.Join(run(made(t, test.cron, test.change), ms(t, test.from), 2), " ")
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestMissed(t *testing.T) {
	down, up := ms(t, "2026-11-23T10:00:30Z"), ms(t, "2026-11-23T10:03:30Z")
	for missed, want := range map[string]int{"": 1, destination.MissedOnce: 1, destination.MissedSkip: 0, destination.MissedAll: 3} {
		s := made(t, "* * * * *", func(d *destination.Schedule) { d.Missed = missed })
		s.Begin(down)
		s.Resume(up)
		n := 0
		for ; s.Due(up); n++ {
			s.Done(up)
		}
		if n != want || s.NextMS != ms(t, "2026-11-23T10:04:00Z") {
			t.Errorf("missed=%q: %d, the next at %v", missed, n, time.UnixMilli(s.NextMS).UTC())
		}
	}
	s := made(t, "* * * * *", func(d *destination.Schedule) { d.Missed = destination.MissedSkip })
	s.Begin(down)
	s.Resume(s.NextMS + lateness)
	if !s.Due(s.NextMS) || s.NextMS != ms(t, "2026-11-23T10:01:00Z") {
		t.Error("what is a little late was skipped")
	}
	if s.Paused = true; s.Due(up) {
		t.Error("a paused one is due")
	}
}

func TestMessage(t *testing.T) {
	s := made(t, "@hourly", nil)
	s.Begin(0)
	s.Done(s.NextMS)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again Schedule
	if err := json.Unmarshal(text, &again); err != nil || again.Open() != nil {
		t.Fatal(err)
	}
	b, err := again.Message(500_000)
	if err != nil || b.ProducerID() != 7 || b.BaseSequence() != 1 || b.Count() != 1 {
		t.Fatal(err, b.ProducerID(), b.BaseSequence(), b.Count())
	}
	var r record.Reader
	var m record.Message
	if err := r.Reset(b, MaxBatch); err != nil || !r.Next() || record.DecodeMessage(r.Record(), &m) != nil {
		t.Fatal(err)
	}
	if string(m.Body) != "tick" || m.Timestamp != 500_000 || m.Expiration != 505_000 || m.DeliveryTime != 502_000 ||
		m.ID != "ID:schedule-7-1" || m.Properties[Property] != "s" || m.Kind != record.BodyText {
		t.Errorf("%+v", m)
	}
}

func TestRefusals(t *testing.T) {
	for name, change := range map[string]func(*destination.Schedule){
		"no name":      func(s *destination.Schedule) { s.Name = "" },
		"a long name":  func(s *destination.Schedule) { s.Name = strings.Repeat("n", 256) },
		"a log":        func(s *destination.Schedule) { s.Kind = destination.KindLog },
		"no cron":      func(s *destination.Schedule) { s.Cron = "every day" },
		"a bad field":  func(s *destination.Schedule) { s.Cron = "61 * * * *" },
		"a bad zone":   func(s *destination.Schedule) { s.Zone = "Europe/Nowhere" },
		"a bad policy": func(s *destination.Schedule) { s.Missed = "some" },
		"a count":      func(s *destination.Schedule) { s.Count = -1 },
		"no message":   func(s *destination.Schedule) { s.Batch = nil },
		"half of one":  func(s *destination.Schedule) { s.Batch = s.Batch[:len(s.Batch)-1] },
		"two":          func(s *destination.Schedule) { s.Batch = append(s.Batch, s.Batch...) },
	} {
		s := made(t, "@hourly", nil)
		change(&s.Schedule)
		if err := s.Open(); !errors.Is(err, destination.ErrInvalid) && !errors.Is(err, destination.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
