package broker

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

// keeperSteps is in how many steps the keeper goes round, so that ten thousand
// destinations do not all open their files at once.
const keeperSteps = 30

// keeper deletes, cleans and compacts, one log at a time. It belongs to one
// goroutine. What it remembers only spares work.
type keeper struct {
	b        *Broker
	rest     []*destination.Destination // of this round
	perStep  int
	compacts map[commitlog.LogID]int64 // first offset that the last compaction has not seen
	cleans   map[commitlog.LogID]cleaned
}

// cleaned is how a log stood when it was cleaned last.
type cleaned struct {
	at   time.Time
	next int64 // first offset of the active segment
}

// keep goes round until ctx ends.
func (b *Broker) keep(ctx context.Context) {
	k := newKeeper(b)
	ticker := time.NewTicker(max(b.o.KeepInterval/keeperSteps, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			b.topics.Sweep()
			k.step(ctx)
		}
	}
}

func newKeeper(b *Broker) *keeper {
	return &keeper{b: b, compacts: map[commitlog.LogID]int64{}, cleans: map[commitlog.LogID]cleaned{}}
}

// step looks after the next few destinations.
func (k *keeper) step(ctx context.Context) {
	if len(k.rest) == 0 {
		k.rest = k.b.entries()
		k.perStep = (len(k.rest) + keeperSteps - 1) / keeperSteps
		k.forget()
	}
	n := min(k.perStep, len(k.rest))
	for _, d := range k.rest[:n] {
		if ctx.Err() != nil {
			return
		}
		k.look(ctx, d)
	}
	k.rest = k.rest[n:]
}

// forget forgets logs that are gone.
func (k *keeper) forget() {
	known := make(map[[16]byte]struct{}, len(k.rest))
	for _, d := range k.rest {
		known[d.ID] = struct{}{}
	}
	for id := range k.compacts {
		if _, ok := known[id.Topic]; !ok {
			delete(k.compacts, id)
		}
	}
	for id := range k.cleans {
		if _, ok := known[id.Topic]; !ok {
			delete(k.cleans, id)
		}
	}
}

// look does what is due to one destination.
func (k *keeper) look(ctx context.Context, d *destination.Destination) {
	if d.Name == destination.DeliveryStateName {
		return // it trims its own log
	}
	if d.Settings.ExpiryDestination != "" {
		k.b.openIdle(ctx, d)
	}
	for p, partition := range d.Partitions {
		log := partition.Log()
		if log.Start() == log.End() {
			continue
		}
		if err := k.lookAt(ctx, d, p, log); err != nil && ctx.Err() == nil && !errors.Is(err, commitlog.ErrDeleted) {
			k.b.o.Logger.Error("cannot delete what is due", "destination", d.Name, "partition", p, "error", err)
		}
	}
}

// openIdle opens the views of a destination whose expired messages go somewhere, so
// that they go there also if nobody has used it since the start.
func (b *Broker) openIdle(ctx context.Context, d *destination.Destination) {
	err := b.topics.OpenAll(ctx, d.ID)
	if d.Kind == destination.KindQueue {
		_, failed := b.queueView(ctx, d)
		err = errors.Join(err, failed)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, destination.ErrNotFound) {
		b.o.Logger.Error("cannot look for what has expired", "destination", d.Name, "error", err)
	}
}

func (k *keeper) lookAt(ctx context.Context, d *destination.Destination, partition int, log *commitlog.Log) error {
	now := k.b.o.Now()
	if strings.Contains(d.Settings.CleanupPolicy, destination.CleanupCompact) {
		if err := k.compact(ctx, d, log, now); err != nil {
			return err
		}
	}
	if !strings.Contains(d.Settings.CleanupPolicy, destination.CleanupDelete) {
		return nil
	}
	floor := k.b.floor(d, partition)
	if _, err := log.Retain(retention(&d.Settings, floor), now); err != nil {
		return err
	}
	return k.clean(ctx, d, partition, log, floor, now)
}

// retention is what may be deleted. With retention.ms=0 a message is kept
// until it is consumed, and no longer.
func retention(s *destination.Settings, floor int64) commitlog.Retention {
	r := commitlog.Retention{Floor: floor, Hard: s.RetentionHard, Bytes: max(s.RetentionBytes, 0)}
	switch {
	case s.RetentionMS == 0:
		r.Consumed = true
	case s.RetentionMS > 0:
		r.Age = time.Duration(min(s.RetentionMS, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
	}
	return r
}

// floor is the offset from which on somebody still needs the messages of a
// partition: the smallest of its holders, and math.MaxInt64 if it has none.
// The holders are the durable and the open subscriptions, and the queue's own
// cursor. A queue has that from the beginning: what nobody has taken yet waits
// for whoever comes. On a topic or a log it is there from the first take. With
// hold.groups the consumer groups that have committed an offset are holders, too.
func (b *Broker) floor(d *destination.Destination, partition int) int64 {
	floor := b.queueFloor(d, partition)
	if f, ok := b.topics.Floor(d.ID, partition); ok {
		floor = min(floor, f)
	}
	if d.Settings.HoldGroups {
		if f, ok := b.groups.Floor(record.TopicName(d.Name), int32(partition)); ok {
			floor = min(floor, f)
		}
	}
	return floor
}

func (b *Broker) queueFloor(d *destination.Destination, partition int) int64 {
	b.mu.RLock()
	e := b.byID[d.ID]
	if e != nil && e.busy == nil && e.view != nil {
		v := e.view
		b.mu.RUnlock()
		return v.Floor(int32(partition)) // without the lock: it may be reading
	}
	defer b.mu.RUnlock()
	if e == nil || e.busy != nil {
		return 0 // next time
	}
	// Nobody opens the view while mu is held, so nobody owns the cursor.
	id := destination.CursorID{Topic: d.ID, Partition: int32(partition)}
	if c, ok := b.state.Cursor(id); ok {
		return c.Floor()
	}
	if d.Kind == destination.KindQueue {
		return 0
	}
	return math.MaxInt64
}

// compact keeps the last message of each key, once at least half of what is in
// closed segments has not been through it: then a byte is rewritten about
// twice in its life.
func (k *keeper) compact(ctx context.Context, d *destination.Destination, log *commitlog.Log, now time.Time) error {
	var dirty, all, end int64
	seen := k.compacts[log.ID()]
	for _, s := range log.Segments() {
		if s.Active {
			end = s.Base
			continue
		}
		all += s.Bytes
		if s.Base >= seen {
			dirty += s.Bytes
		}
	}
	if dirty == 0 || dirty*2 < all {
		return nil
	}
	lag := time.Duration(min(d.Settings.CompactionLagMS, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
	if err := log.Compact(ctx, lag, now); err != nil {
		return err
	}
	k.compacts[log.ID()] = end
	return nil
}

// Cleaning reads and may rewrite whole segments, so it is done where there is
// much behind the floor, and not all the time.
const (
	cleanEvery = 10 * time.Minute
	cleanShare = 2 // at least 1/cleanShare of what lies between floor and end must be settled
)

// clean drops from closed segments what every holder has settled and what is
// past its age, though a floor is stuck before it: one message that is delayed
// for a month must not keep everything behind it.
func (k *keeper) clean(ctx context.Context, d *destination.Destination, partition int, log *commitlog.Log, floor int64, now time.Time) error {
	if d.Settings.RetentionMS < 0 || floor >= log.End() {
		return nil
	}
	var next int64
	closed := false // whether a closed segment lies behind the floor
	segments := log.Segments()
	for i, s := range segments {
		if s.Active {
			next = s.Base
		} else if i+1 < len(segments) && segments[i+1].Base > floor {
			closed = true
		}
	}
	last := k.cleans[log.ID()]
	if !closed || now.Sub(last.at) < cleanEvery {
		return nil
	}
	settled, ok, err := k.b.settledByAll(ctx, d, int32(partition))
	if err != nil || !ok {
		return err
	}
	k.cleans[log.ID()] = cleaned{now, next}
	if !worthCleaning(settled, floor, next) {
		return nil
	}
	before := now.UnixMilli() - d.Settings.RetentionMS
	return log.Clean(ctx, func(r *record.Record) bool {
		return r.Offset < floor || r.Timestamp > before || !settled(r.Offset)
	})
}

// worthCleaning looks at some of the offsets.
func worthCleaning(settled func(int64) bool, from, to int64) bool {
	const probes = 1000
	step := max((to-from)/probes, 1)
	var looked, done int64
	for o := from; o < to; o += step {
		looked++
		if settled(o) {
			done++
		}
	}
	return done > 0 && done*cleanShare >= looked
}

// settledByAll says what every holder of a partition is done with. It is false
// if there is a holder that cannot be asked now.
func (b *Broker) settledByAll(ctx context.Context, d *destination.Destination, partition int32) (func(int64) bool, bool, error) {
	var all []func(int64) bool
	if b.queueFloor(d, int(partition)) != math.MaxInt64 {
		v, err := b.queueView(ctx, d)
		if err != nil {
			return nil, false, err
		}
		f, err := v.Settled(partition)
		if err != nil {
			return nil, false, err
		}
		all = append(all, f)
	}
	of, ok, err := b.topics.Settled(d.ID, partition)
	if err != nil || !ok {
		return nil, false, err
	}
	all = append(all, of...)
	if len(all) == 0 {
		return nil, false, nil
	}
	return func(offset int64) bool {
		for _, settled := range all {
			if !settled(offset) {
				return false
			}
		}
		return true
	}, true, nil
}
