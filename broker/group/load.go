package group

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/classic"
	"github.com/polylog-mq/polylog/broker/group/consumer"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// maxDecompressed bounds what a batch of records may become, bytes: those of
// others are compressed.
const maxDecompressed = 64 << 20

// loader replays partitions of __consumer_offsets. Records that it does not
// know stay where they are, and are passed over.
type loader struct {
	c *Coordinator
	// group is where a group's records go; nil for one that is not wanted.
	group func(id string) *entry
	open  map[int64]map[*entry]bool // the groups in which a producer has a transaction
}

// load reads all of __consumer_offsets.
func (c *Coordinator) load() error {
	l := loader{c: c, group: func(id string) *entry {
		e := c.groups[id]
		if e == nil {
			e = newEntry(id)
			c.groups[id] = e
		}
		return e
	}}
	for _, p := range c.log.Partitions {
		if err := l.read(p); err != nil {
			return fmt.Errorf("partition %d: %w", p.Number(), err)
		}
	}
	for _, e := range c.entries() {
		e.mu.Lock()
		c.loaded(e)
		c.unlock(e)
	}
	return nil
}

// loaded ends a replay. e.mu is held.
func (c *Coordinator) loaded(e *entry) {
	now := c.o.Now()
	if e.consumer != nil {
		if e.consumer.Pristine() {
			e.consumer = nil
		} else {
			e.consumer.Start(now)
		}
	}
	if e.share != nil {
		if e.share.Pristine() {
			e.share = nil
		} else {
			e.share.Start(now)
		}
	}
	if e.classic != nil && e.classic.Size() == 0 {
		e.emptyAt = e.classic.ChangedAt()
	}
}

// reload reads a group's machine again after its records could not be written.
// e.mu is held, and nothing is under way.
func (c *Coordinator) reload(e *entry) error {
	p, err := c.partitionOf(e.id)
	if err != nil {
		return err
	}
	fresh := newEntry(e.id)
	l := loader{c: c, group: func(id string) *entry {
		if id != e.id {
			return nil
		}
		return fresh
	}}
	if err := l.read(p); err != nil {
		c.o.Logger.Error("read group again", "group", e.id, "error", err)
		return err
	}
	c.loaded(fresh)
	for t, to := range e.waiting { // of the machine that there was
		delete(e.waiting, t)
		to <- nil // the channels have room
	}
	e.classic, e.consumer, e.share, e.emptyAt, e.failed = fresh.classic, fresh.consumer, fresh.share, fresh.emptyAt, false
	return nil
}

// read replays one partition.
func (l *loader) read(p *destination.Partition) error {
	l.open = map[int64]map[*entry]bool{}
	var buf []byte
	for offset := p.Start(); offset < p.Stable(); {
		var err error
		if buf, err = p.Read(offset, 1<<20, buf[:0]); err != nil {
			return err
		}
		if len(buf) == 0 {
			return nil
		}
		for rest := buf; len(rest) > 0; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return err
			}
			offset = b.NextOffset()
			l.batch(b)
		}
	}
	return nil
}

func (l *loader) batch(b record.Batch) {
	var r record.Reader
	if err := r.Reset(b, maxDecompressed); err != nil {
		l.c.o.Logger.Error("a batch of groups is damaged and passed over", "offset", b.BaseOffset(), "error", err)
		return
	}
	for r.Next() {
		if err := l.replay(b, r.Record()); err != nil {
			l.c.o.Logger.Error("a record of groups cannot be read and is passed over", "offset", r.Record().Offset, "error", err)
		}
	}
	if err := r.Err(); err != nil {
		l.c.o.Logger.Error("a batch of groups is damaged and passed over", "offset", b.BaseOffset(), "error", err)
	}
}

// replay applies one record.
func (l *loader) replay(b record.Batch, r *record.Record) error {
	if b.IsControl() {
		if len(r.Key) >= 4 {
			l.end(b.ProducerID(), binary.BigEndian.Uint16(r.Key[2:]) == 1)
		}
		return nil
	}
	if len(r.Key) < 2 {
		return fmt.Errorf("a key of %d bytes", len(r.Key))
	}
	switch version := int16(binary.BigEndian.Uint16(r.Key)); version {
	case 0, 1:
		return l.offset(b, r)
	case 2:
		return l.classic(r)
	}
	id, isConsumer, isShare := consumer.Owns(r.Key)
	if !isConsumer && !isShare {
		return nil // of a newer version, or somebody else's
	}
	e := l.group(id)
	if e == nil {
		return nil
	}
	if r.Value != nil {
		e.classic = nil // a group is of one kind, the one that was recorded last
	}
	if isConsumer {
		if e.consumer == nil {
			e.consumer = consumer.New(id, l.c.consumerOptions(id))
		}
		return e.consumer.Replay(r.Key, r.Value)
	}
	if e.share == nil {
		e.share = consumer.NewShare(id, l.c.shareOptions(id))
	}
	return e.share.Replay(r.Key, r.Value)
}

func (l *loader) end(producer int64, commit bool) {
	for e := range l.open[producer] {
		e.endPending(producer, commit)
	}
	delete(l.open, producer)
}

func (l *loader) offset(b record.Batch, r *record.Record) error {
	var key kmsg.OffsetCommitKey
	if err := key.ReadFrom(r.Key); err != nil {
		return err
	}
	e, p := l.group(key.Group), partition{key.Topic, key.Partition}
	if e == nil {
		return nil
	}
	if r.Value == nil {
		e.erase(p)
		return nil
	}
	o, err := readOffset(r.Value, r.Offset)
	if err != nil {
		return err
	}
	if !b.IsTransactional() {
		e.put(p, o)
		return nil
	}
	e.hold(b.ProducerID(), p, o)
	if l.open[b.ProducerID()] == nil {
		l.open[b.ProducerID()] = map[*entry]bool{}
	}
	l.open[b.ProducerID()][e] = true
	return nil
}

func (l *loader) classic(r *record.Record) error {
	var key kmsg.GroupMetadataKey
	if err := key.ReadFrom(r.Key); err != nil {
		return err
	}
	e := l.group(key.Group)
	if e == nil {
		return nil
	}
	if r.Value == nil {
		e.classic = nil
		return nil
	}
	var v kmsg.GroupMetadataValue
	if err := v.ReadFrom(r.Value); err != nil {
		return err
	}
	e.classic, e.consumer, e.share = classic.New(key.Group, l.c.o.Classic), nil, nil
	e.classic.Restore(&v, l.c.o.Now())
	return nil
}
