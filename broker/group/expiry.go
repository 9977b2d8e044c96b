package group

import (
	"errors"
	"slices"
	"time"

	"github.com/polylog-mq/polylog/broker/group/classic"
	"github.com/polylog-mq/polylog/broker/group/consumer"
	"github.com/polylog-mq/polylog/destination"
)

// sweepEvery is how often offsets are looked at that may have expired (Kafka's
// offsets.retention.check.interval.ms).
const sweepEvery = 10 * time.Minute

// maxTombstones bounds those in one batch.
const maxTombstones = 10_000

// sweepOffsets forgets offsets that have expired, and groups of which nothing
// is left.
func (c *Coordinator) sweepOffsets() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.sweep = c.o.AfterFunc(sweepEvery, c.sweepOffsets)
	c.mu.Unlock()
	now := c.o.Now()
	for _, e := range c.entries() {
		e.mu.Lock()
		if wait, err := c.enter(e); wait == nil && err == nil && !e.gone {
			c.sweepEntry(e, now)
		}
		c.unlock(e)
	}
}

// sweepEntry looks at one group. e.mu is held.
func (c *Coordinator) sweepEntry(e *entry, now time.Time) {
	var expired []partition
	for p, o := range e.offsets {
		if c.expired(e, p, o, now) {
			expired = append(expired, p)
		}
	}
	idle := e.size() == 0 && (e.classic == nil || e.classic.Idle()) && e.share == nil // share groups stay until they are deleted
	if idle && len(expired) == len(e.offsets) && len(e.pending) == 0 && len(e.flying) == 0 {
		if _, err := c.remove(e); err != nil {
			c.o.Logger.Error("delete group", "group", e.id, "error", err)
		}
		return
	}
	c.eraseAll(e, expired)
}

// expired says whether an offset has to go: not while a member consumes the
// topic, or while members are deciding what they consume; else when the
// retention has passed since the group became empty and since the offset was
// committed (KIP-211). One that was committed with a time to live goes then.
func (c *Coordinator) expired(e *entry, p partition, o committed, now time.Time) bool {
	if e.size() > 0 {
		if e.classic != nil && e.classic.State() != classic.Stable || e.subscribed(p.topic) {
			return false
		}
	}
	if c.dead(o) {
		return true
	}
	if o.expires >= 0 {
		return now.UnixMilli() >= o.expires
	}
	since := max(o.at, e.emptyAt.UnixMilli())
	return now.UnixMilli()-since >= c.o.OffsetsRetention.Milliseconds()
}

// dead says that an offset's topic is known to be no more.
func (c *Coordinator) dead(o committed) bool {
	if o.topicID == [16]byte{} {
		return false
	}
	_, err := c.o.TopicByID(o.topicID)
	return errors.Is(err, destination.ErrNotFound)
}

// forget drops the offsets of a topic that was deleted. e.mu is held.
func (c *Coordinator) forget(e *entry, topic [16]byte) {
	var gone []partition
	of := func(offsets map[partition]committed) {
		for p, o := range offsets {
			switch o.topicID {
			case topic:
				gone = append(gone, p)
			case [16]byte{}:
				if _, err := c.o.Topic(p.topic); errors.Is(err, destination.ErrNotFound) {
					gone = append(gone, p)
				}
			}
		}
	}
	of(e.offsets)
	for _, offsets := range e.pending {
		of(offsets)
	}
	c.eraseAll(e, gone)
}

// eraseAll appends tombstones of offsets that nobody waits for. e.mu is held.
func (c *Coordinator) eraseAll(e *entry, list []partition) {
	slices.SortFunc(list, partition.compare)
	for some := range slices.Chunk(slices.Compact(list), maxTombstones) {
		records := make([]consumer.Record, 0, len(some))
		for _, p := range some {
			records = append(records, consumer.Record{Key: offsetKey(e.id, p)})
		}
		if err := c.erase(&write{e: e, touches: some}, records); err != nil {
			c.o.Logger.Error("forget offsets", "group", e.id, "error", err)
			return
		}
	}
}

// remove deletes a group in which nobody is. Until that is durable who asks for
// it waits. e.mu is held.
func (c *Coordinator) remove(e *entry) (*write, error) {
	machine := e.tombstones()
	offsets := e.touched()
	if n := len(offsets) - maxTombstones; n > 0 {
		c.eraseAll(e, offsets[:n])
		offsets = offsets[n:]
	}
	records := make([]consumer.Record, 0, len(offsets)+len(machine))
	for _, p := range offsets {
		records = append(records, consumer.Record{Key: offsetKey(e.id, p)})
	}
	if records = append(records, machine...); len(records) == 0 {
		c.drop(e)
		return nil, nil
	}
	w := &write{e: e}
	w.apply = func(err error) {
		e.deleting = nil
		if err == nil {
			for _, p := range offsets {
				e.erase(p)
			}
		}
		if err != nil || len(e.offsets) > 0 { // some of it is still there, and so is the group
			c.broken(e, err)
			return
		}
		c.drop(e)
	}
	err := c.append(w, records)
	if err != nil {
		c.broken(e, err)
		return nil, err
	}
	e.deleting = w
	return w, nil
}
