package broker

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// forgetful is metadata that do not take what schedules have sent.
type forgetful struct {
	metadata.Store
	refused chan struct{}
}

func (f *forgetful) PutFact(name, value string) error {
	if strings.HasPrefix(name, scheduleFact) && !strings.Contains(value, `"sent":0`) {
		f.refused <- struct{}{}
		return errors.New("power is cut")
	}
	return f.Store.PutFact(name, value)
}

// TestScheduleOnce has the broker die between sending a message and noting that it
// was sent: after the restart it is not sent again.
func TestScheduleOnce(t *testing.T) {
	refused := make(chan struct{}, 8)
	r := newRig(t, func(o *Options) {
		bolt, err := metadata.OpenBolt(filepath.Join(o.Dir, "metadata.db"), metadata.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o.Metadata = &forgetful{bolt, refused}
	})
	var b record.Builder
	m := record.Message{Body: []byte("x"), Timestamp: r.clock().UnixMilli()}
	r.must(m.AppendTo(&b))
	made, err := r.b.CreateSchedule(ctx, destination.Schedule{
		Name: "s", Destination: "q", Kind: destination.KindQueue, Cron: "@every 1s", Batch: b.Batch(), StartMS: r.clock().Add(-time.Second).UnixMilli(),
	})
	r.must(err)
	r.pass(time.UnixMilli(made.NextMS).Sub(r.clock()))
	r.b.schedules.wake <- struct{}{}
	<-refused
	if end := r.queue("q").Partitions[0].Stable(); end != 1 {
		t.Fatalf("%d messages were sent", end)
	}
	r.options.Metadata = nil
	r.crash(1)
	for range 1000 { // it is due at once
		if list, err := r.b.ListSchedules(ctx); err != nil || len(list) != 1 || list[0].Sent == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	list, err := r.b.ListSchedules(ctx)
	r.must(err)
	if end := r.queue("q").Partitions[0].Stable(); end != 1 || list[0].Sent != 1 {
		t.Errorf("%d messages are there, %d are noted", end, list[0].Sent)
	}
	r.must(r.b.metadata.PutFact(scheduleFact+"s", `{"version":2}`))
	r.close()
	_, err = Open(r.options)
	r.is(err, metadata.ErrNewerVersion)
}
