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

// load reads all of __consumer_offsets.
func (c *Coordinator) load() error {
	for _, p := range c.log.Partitions {
		if err := c.loadPartition(p); err != nil {
			return fmt.Errorf("partition %d: %w", p.Number(), err)
		}
	}
	now := c.o.Now()
	for _, e := range c.entries() {
		e.mu.Lock()
		c.loaded(e)
		if e.size() == 0 && e.emptyAt.IsZero() {
			e.emptyAt = now
		}
		if e.empty() {
			c.drop(e)
		}
		e.mu.Unlock()
	}
	return nil
}

// empty says whether nothing is known of a group.
func (e *entry) empty() bool {
	return e.classic == nil && len(e.offsets) == 0 && len(e.pending) == 0 &&
		(e.consumer == nil || e.consumer.Pristine()) && (e.share == nil || e.share.Pristine())
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
	c.schedule(e)
}

// loadPartition reads one partition.
func (c *Coordinator) loadPartition(p *destination.Partition) error {
	var buf []byte
	var r record.Reader
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
			if err := r.Reset(b, maxDecompressed); err != nil {
				c.o.Logger.Error("a batch of groups is damaged and passed over", "offset", b.BaseOffset(), "error", err)
				continue
			}
			for r.Next() {
				if err := c.replay(p, b, r.Record()); err != nil {
					c.o.Logger.Error("a record of groups cannot be read and is passed over", "offset", r.Record().Offset, "error", err)
				}
			}
			if err := r.Err(); err != nil {
				c.o.Logger.Error("a batch of groups is damaged and passed over", "offset", b.BaseOffset(), "error", err)
			}
		}
	}
	return nil
}

// replay applies one record.
func (c *Coordinator) replay(p *destination.Partition, b record.Batch, r *record.Record) error {
	if b.IsControl() {
		if len(r.Key) >= 4 {
			c.replayEnd(p, b.ProducerID(), binary.BigEndian.Uint16(r.Key[2:]) == 1)
		}
		return nil
	}
	if len(r.Key) < 2 {
		return fmt.Errorf("a key of %d bytes", len(r.Key))
	}
	switch version := int16(binary.BigEndian.Uint16(r.Key)); version {
	case 0, 1:
		return c.replayOffset(b, r)
	case 2:
		return c.replayClassic(r)
	}
	id, isConsumer, isShare := consumer.Owns(r.Key)
	if !isConsumer && !isShare {
		return nil // of a newer version, or somebody else's
	}
	e := c.replayed(id)
	if isConsumer {
		if e.consumer == nil {
			e.consumer = consumer.New(id, c.o.Consumer)
		}
		return e.consumer.Replay(r.Key, r.Value)
	}
	if e.share == nil {
		e.share = consumer.NewShare(id, c.o.Share)
	}
	return e.share.Replay(r.Key, r.Value)
}

// replayed is the entry of a group that is read.
func (c *Coordinator) replayed(id string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.groups[id]
	if e == nil {
		e = newEntry(id)
		c.groups[id] = e
	}
	return e
}

func (c *Coordinator) replayEnd(p *destination.Partition, producer int64, commit bool) {
	c.mu.Lock()
	all := c.entries()
	c.mu.Unlock()
	for _, e := range all {
		if len(e.pending) > 0 && c.log.Partitions[indexOf(e.id, len(c.log.Partitions))] == p {
			e.endPending(producer, commit)
		}
	}
}

// endPending makes the offsets of a transaction the group's, or forgets them.
func (e *entry) endPending(producer int64, commit bool) {
	if commit {
		for p, o := range e.pending[producer] {
			if have, ok := e.offsets[p]; !ok || have.at <= o.at {
				e.offsets[p] = o
			}
		}
	}
	delete(e.pending, producer)
}

func (c *Coordinator) replayOffset(b record.Batch, r *record.Record) error {
	var key kmsg.OffsetCommitKey
	if err := key.ReadFrom(r.Key); err != nil {
		return err
	}
	e, p := c.replayed(key.Group), partition{key.Topic, key.Partition}
	if r.Value == nil {
		delete(e.offsets, p)
		for _, offsets := range e.pending {
			delete(offsets, p)
		}
		return nil
	}
	var v kmsg.OffsetCommitValue
	if err := v.ReadFrom(r.Value); err != nil {
		return err
	}
	o := committed{offset: v.Offset, epoch: -1, metadata: v.Metadata, at: v.CommitTimestamp, expires: -1}
	if v.Version >= 3 {
		o.epoch = v.LeaderEpoch
	}
	if v.Version == 1 {
		o.expires = v.ExpireTimestamp
	}
	if !b.IsTransactional() {
		e.offsets[p] = o
		return nil
	}
	if e.pending[b.ProducerID()] == nil {
		e.pending[b.ProducerID()] = map[partition]committed{}
	}
	e.pending[b.ProducerID()][p] = o
	return nil
}

func (c *Coordinator) replayClassic(r *record.Record) error {
	var key kmsg.GroupMetadataKey
	if err := key.ReadFrom(r.Key); err != nil {
		return err
	}
	e := c.replayed(key.Group)
	if r.Value == nil {
		e.classic = nil
		return nil
	}
	var v kmsg.GroupMetadataValue
	if err := v.ReadFrom(r.Value); err != nil {
		return err
	}
	e.classic = classic.New(key.Group, c.o.Classic)
	e.classic.Restore(&v, c.o.Now())
	return nil
}

// reload reads a group again after its records could not be written.
func (c *Coordinator) reload(e *entry) {
	p, err := c.partitionOf(e.id)
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone || e.consumer == nil && e.share == nil {
		return
	}
	e.consumer, e.share = nil, nil
	if err := c.loadPartitionOf(p, e); err != nil {
		c.o.Logger.Error("read group again", "group", e.id, "error", err)
	}
	c.loaded(e)
}

// loadPartitionOf replays only the machine of a KIP-848 or share group. e.mu is held.
func (c *Coordinator) loadPartitionOf(p *destination.Partition, e *entry) error {
	var r record.Reader
	var buf []byte
	for offset := p.Start(); offset < p.Stable(); {
		var err error
		if buf, err = p.Read(offset, 1<<20, buf[:0]); err != nil || len(buf) == 0 {
			return err
		}
		for rest := buf; len(rest) > 0; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return err
			}
			offset = b.NextOffset()
			if b.IsControl() {
				continue
			}
			if err := r.Reset(b, maxDecompressed); err != nil {
				return err
			}
			for r.Next() {
				id, isConsumer, isShare := consumer.Owns(r.Record().Key)
				switch {
				case id != e.id:
				case isConsumer:
					if e.consumer == nil {
						e.consumer = consumer.New(id, c.o.Consumer)
					}
					err = e.consumer.Replay(r.Record().Key, r.Record().Value)
				case isShare:
					if e.share == nil {
						e.share = consumer.NewShare(id, c.o.Share)
					}
					err = e.share.Replay(r.Record().Key, r.Record().Value)
				}
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}
