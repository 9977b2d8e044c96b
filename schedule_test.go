package polylog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/polylogtest"
)

// TestSchedule has messages sent every second, over restarts of the broker.
func TestSchedule(t *testing.T) {
	b := polylogtest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	admin := b.Connection.Admin()
	m, err := polylog.NewText("tick").With(polylog.WithTTL(time.Hour), polylog.WithPriority(7))
	if err != nil {
		t.Fatal(err)
	}
	spec := polylog.ScheduleSpec{Name: "ticks", Destination: "q", Kind: "queue", Cron: "@every 1s", Count: 4, Missed: "all"}
	if info := must[*polylog.ScheduleInfo](t)(admin.CreateSchedule(ctx, spec, m)); info.NextMS == 0 || info.Sent != 0 || info.CreatedMS == 0 {
		t.Errorf("%+v", info)
	}
	if _, err := admin.CreateSchedule(ctx, spec, m); !errors.Is(err, polylog.ErrExists) {
		t.Errorf("another of its name: %v", err)
	}
	wrong := spec
	wrong.Name, wrong.Cron = "wrong", "now and then"
	if _, err := admin.CreateSchedule(ctx, wrong, m); !errors.Is(err, polylog.ErrInvalid) {
		t.Errorf("a bad expression: %v", err)
	}
	q := polylog.QueueOf[*polylog.Message](b.Session(), "q")
	ids := map[string]bool{}
	for i := range 4 {
		d, err := q.Take(ctx)
		if err != nil {
			t.Fatal(err)
		}
		v := d.Value
		if v.Text() != "tick" || v.Priority != 7 || v.Properties["JMS_POLYLOG_SCHEDULE"] != "ticks" || ids[v.ID] || v.Expiration-v.Timestamp != time.Hour.Milliseconds() {
			t.Errorf("%d: %+v", i, v)
		}
		ids[v.ID] = true
		if i == 1 {
			b.Restart()
		}
	}
	if info := must[*polylog.ScheduleInfo](t)(admin.PauseSchedule(ctx, "ticks", true)); !info.Paused {
		t.Errorf("%+v", info)
	}
	list := must[[]polylog.ScheduleInfo](t)(admin.Schedules(ctx))
	if len(list) != 1 || list[0].Sent != 4 || list[0].NextMS != 0 || list[0].Cron != "@every 1s" {
		t.Errorf("%+v", list)
	}
	if d, err := q.Take(ctx, polylog.NoWait()); !errors.Is(err, polylog.ErrNoMessage) {
		t.Errorf("one more: %v, %v", d, err)
	}
	if err := admin.DeleteSchedule(ctx, "ticks"); err != nil {
		t.Fatal(err)
	}
	b.Restart()
	if list := must[[]polylog.ScheduleInfo](t)(admin.Schedules(ctx)); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if err := admin.DeleteSchedule(ctx, "ticks"); !errors.Is(err, polylog.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}
