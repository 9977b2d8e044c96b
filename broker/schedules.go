package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/broker/schedule"
	"github.com/polylog-mq/polylog/destination"
)

const (
	scheduleFact = "schedule."
	// maxSchedules bounds how many there are.
	maxSchedules = 10_000
	// scheduleRetry is how long a message waits that could not be sent.
	scheduleRetry = 5 * time.Second
)

// schedules are the recurring messages; each is a fact in the metadata.
type schedules struct {
	changing sync.Mutex    // one change at a time; held over a sync
	wake     chan struct{} // has room for one: something has changed

	mu    sync.Mutex                    // guards what follows
	all   map[string]*schedule.Schedule // never changed, only replaced
	retry map[string]int64              // ms; of those that could not be sent
}

// restoreSchedules reads them.
func (b *Broker) restoreSchedules(facts map[string]string) error {
	s := &b.schedules
	s.wake, s.all, s.retry = make(chan struct{}, 1), map[string]*schedule.Schedule{}, map[string]int64{}
	for fact, text := range facts {
		name, ok := strings.CutPrefix(fact, scheduleFact)
		if !ok {
			continue
		}
		one := new(schedule.Schedule)
		err := json.Unmarshal([]byte(text), one)
		if err == nil && one.Version > schedule.Version {
			err = fmt.Errorf("%w: version %d, this release knows %d", metadata.ErrNewerVersion, one.Version, schedule.Version)
		}
		if err == nil {
			err = one.Open()
		}
		if err != nil {
			return fmt.Errorf("metadata: %s: %w", fact, err)
		}
		one.Resume(b.o.Now().UnixMilli())
		s.all[name] = one
	}
	return nil
}

// CreateSchedule has a message sent again and again: ErrExists, ErrInvalid,
// ErrTooLarge.
func (b *Broker) CreateSchedule(_ context.Context, given destination.Schedule) (destination.Schedule, error) {
	now := b.o.Now().UnixMilli()
	given.CreatedMS, given.Sent, given.LastMS = now, 0, 0
	one := &schedule.Schedule{Version: schedule.Version, Schedule: given}
	if err := one.Open(); err != nil {
		return given, err
	}
	if err := checkName(given.Destination); err != nil {
		return given, err
	}
	s := &b.schedules
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	old, n := s.all[given.Name], len(s.all)
	s.mu.Unlock()
	switch {
	case old != nil:
		return given, fmt.Errorf("%w: schedule %q", destination.ErrExists, given.Name)
	case n >= maxSchedules:
		return given, fmt.Errorf("%w: there are %d schedules", destination.ErrBusy, n)
	}
	var err error
	if one.ProducerID, err = b.newProducer(); err != nil {
		return given, err
	}
	one.Begin(now)
	return one.Schedule, b.putSchedule(one)
}

// newProducer returns the id of a producer of the broker's own.
func (b *Broker) newProducer() (int64, error) {
	r := b.transactions.InitProducerID(context.Background(), kmsg.NewPtrInitProducerIDRequest())
	if r.ErrorCode != 0 {
		return 0, fmt.Errorf("%w: no producer id, code %d", destination.ErrBusy, r.ErrorCode)
	}
	return r.ProducerID, nil
}

// putSchedule remembers one and has it looked at. Who changes it has changing.
func (b *Broker) putSchedule(one *schedule.Schedule) error {
	text, err := json.Marshal(one)
	if err != nil {
		return fmt.Errorf("schedule %q: %w", one.Name, err)
	}
	if err := b.metadata.PutFact(scheduleFact+one.Name, string(text)); err != nil {
		return err
	}
	s := &b.schedules
	s.mu.Lock()
	s.all[one.Name] = one
	delete(s.retry, one.Name)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// ListSchedules describes all, by name.
func (b *Broker) ListSchedules(context.Context) ([]destination.Schedule, error) {
	s := &b.schedules
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]destination.Schedule, 0, len(s.all))
	for one := range maps.Values(s.all) {
		list = append(list, one.Schedule)
	}
	slices.SortFunc(list, func(a, b destination.Schedule) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// PauseSchedule stops one, or has it go on: ErrNotFound.
func (b *Broker) PauseSchedule(_ context.Context, name string, paused bool) (destination.Schedule, error) {
	s := &b.schedules
	s.changing.Lock()
	defer s.changing.Unlock()
	old, err := s.get(name)
	if err != nil {
		return destination.Schedule{}, err
	}
	one := *old
	if one.Paused = paused; !paused {
		one.Resume(b.o.Now().UnixMilli())
	}
	return one.Schedule, b.putSchedule(&one)
}

// DeleteSchedule deletes one: ErrNotFound.
func (b *Broker) DeleteSchedule(_ context.Context, name string) error {
	s := &b.schedules
	s.changing.Lock()
	defer s.changing.Unlock()
	if _, err := s.get(name); err != nil {
		return err
	}
	if err := b.metadata.PutFact(scheduleFact+name, ""); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, name)
	delete(s.retry, name)
	return nil
}

func (s *schedules) get(name string) (*schedule.Schedule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.all[name]; one != nil {
		return one, nil
	}
	return nil, fmt.Errorf("%w: schedule %q", destination.ErrNotFound, name)
}

// due returns the schedules that are, and when the next is, ms.
func (s *schedules) due(now int64) (names []string, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = math.MaxInt64
	for name, one := range s.all {
		switch at := max(one.NextMS, s.retry[name]); {
		case one.Paused || one.NextMS == 0:
		case at <= now:
			names = append(names, name)
		default:
			next = min(next, at)
		}
	}
	return names, next
}

// maxWait has the times of schedules looked at after a step of the clock.
const maxWait = time.Minute

// sendSchedules sends what is due until ctx ends.
func (b *Broker) sendSchedules(ctx context.Context) {
	s := &b.schedules
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		b.mu.RLock()
		draining := b.draining
		b.mu.RUnlock()
		if draining {
			return
		}
		now := b.o.Now().UnixMilli()
		names, next := s.due(now)
		for _, name := range names {
			err := b.sendScheduled(ctx, name)
			if err == nil || ctx.Err() != nil {
				continue
			}
			b.o.Logger.Error("a recurring message could not be sent", "schedule", name, "error", err)
			s.mu.Lock()
			s.retry[name] = now + scheduleRetry.Milliseconds()
			s.mu.Unlock()
		}
		if len(names) > 0 {
			next = now // look at once: some may be due again
		}
		timer.Reset(time.Duration(min(max(next-now, 0), maxWait.Milliseconds())) * time.Millisecond)
	}
}

// sendScheduled sends one message and notes that it did. If it is not noted, it is
// sent again with the same sequence, which the log then knows.
func (b *Broker) sendScheduled(ctx context.Context, name string) error {
	s := &b.schedules
	s.changing.Lock()
	defer s.changing.Unlock()
	old, err := s.get(name)
	if err != nil {
		return nil // deleted meanwhile
	}
	one := *old
	now := b.o.Now().UnixMilli()
	if !one.Due(now) {
		return nil
	}
	batch, err := one.Message(now)
	if err != nil {
		return err
	}
	d, err := b.Destination(ctx, one.Destination, one.Kind)
	if err != nil {
		return err
	}
	p := d.Route(nil, uint64(one.ProducerID))
	if p.Paused() {
		return fmt.Errorf("%q: %w", d.Name, destination.ErrPaused)
	}
	if err := p.Room().Take(1); err != nil {
		return fmt.Errorf("%q: %w", d.Name, err)
	}
	done := make(sentWaiter, 1)
	_, err = p.Produce(batch, false, done)
	if err == nil {
		err = <-done
	}
	switch {
	case errors.Is(err, destination.ErrOutOfOrderSequence):
		// The log does not know what went before: it begins anew, and soon.
		if one.ProducerID, err = b.newProducer(); err != nil {
			return err
		}
		one.Sequence = 0
	case err != nil:
		return err
	default:
		one.Done(now)
	}
	return b.putSchedule(&one)
}

// sentWaiter hands over how an append ended; its capacity is 1.
type sentWaiter chan error

func (w sentWaiter) Committed(err error) { w <- err }
