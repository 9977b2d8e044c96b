package txn

import (
	"errors"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

const (
	readBytes     = 1 << 20  // at a time
	maxBatchBytes = 64 << 20 // of ours, which are not compressed
)

// load reads all records: the last of each id counts.
func (c *Coordinator) load() error {
	for _, p := range c.log.Partitions {
		if err := c.loadPartition(p); err != nil {
			return err
		}
	}
	return nil
}

func (c *Coordinator) loadPartition(p *destination.Partition) error {
	var reader record.Reader
	var buf []byte
	for from, to := p.Start(), p.Stable(); from < to; {
		var err error
		buf, err = p.Read(from, readBytes, buf[:0])
		var damage *commitlog.DamagedError
		if errors.As(err, &damage) {
			c.o.Logger.Error("transaction records lost", "partition", p.Number(), "error", err)
			if len(buf) == 0 {
				continue // behind the damage
			}
		} else if err != nil {
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
			if err := c.loadBatch(&reader, b, p.Number()); err != nil {
				return err
			}
			from = max(from, b.NextOffset())
		}
	}
	return nil
}

func (c *Coordinator) loadBatch(reader *record.Reader, b record.Batch, partition int32) error {
	if b.IsControl() {
		return nil
	}
	if err := reader.Reset(b, maxBatchBytes); err != nil {
		return err
	}
	for reader.Next() {
		rec := reader.Record()
		if err := c.loadRecord(rec); err != nil {
			// Kafka passes it over too: one id must not keep all others down.
			c.o.Logger.Error("transactional id not restored", "partition", partition, "offset", rec.Offset, "error", err)
		}
	}
	return reader.Err()
}

func (c *Coordinator) loadRecord(rec *record.Record) error {
	id, err := parseKey(rec.Key)
	if err != nil {
		return err
	}
	if rec.Value == nil {
		delete(c.transactions, id)
		return nil
	}
	m, err := parseValue(rec.Value)
	if err != nil {
		return err
	}
	t := c.transactions[id]
	if t == nil {
		t = &transaction{id: id, index: -1}
		c.transactions[id] = t
	}
	t.current = m
	return nil
}
