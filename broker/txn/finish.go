package txn

import (
	"errors"
	"sync"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// job is something to do for a transaction that may wait for the disk.
type job struct {
	t    *transaction
	kind jobKind
	rest []target // of a prepared transaction; nil: all of it
}

type jobKind int8

const (
	jobMarkers  jobKind = iota // write the end markers
	jobComplete                // they are written
	jobTimeout
	jobExpire
)

// target is a partition, or a group, that the end of a transaction concerns.
type target struct {
	topic     string
	partition int32
	group     string // if topic is ""
}

// do has a worker do j. mu is held.
func (c *Coordinator) do(j job) {
	if c.closed {
		return
	}
	c.jobs = append(c.jobs, j)
	if c.workers < maxWorkers {
		c.workers++
		c.wait.Go(c.work)
	}
}

// work is a worker: it goes when there is nothing left to do.
func (c *Coordinator) work() {
	for {
		c.mu.Lock()
		if len(c.jobs) == 0 {
			c.workers--
			c.mu.Unlock()
			return
		}
		j := c.jobs[0]
		c.jobs[0] = job{}
		c.jobs = c.jobs[1:]
		c.mu.Unlock()
		switch j.kind {
		case jobMarkers:
			c.writeMarkers(j)
		case jobComplete:
			c.writeComplete(j.t)
		case jobTimeout:
			c.abortTimedOut(j.t)
		case jobExpire:
			c.forget(j.t)
		}
	}
}

// ending is a prepared transaction whose markers are being written. It counts
// what is not durable yet; who is last goes on.
type ending struct {
	c      *Coordinator
	t      *transaction
	mu     sync.Mutex // guards what is below; a leaf
	open   int
	failed []target
}

// marker is told of one partition.
type marker struct {
	e *ending
	t target
}

// Committed is called by the partition's log.
func (m *marker) Committed(err error) { m.e.done(m.t, err) }

// writeMarkers ends a prepared transaction in its partitions and groups. The
// outcome stands; what fails now is tried again for as long as it takes. While
// it is under way nobody changes the machine.
func (c *Coordinator) writeMarkers(j job) {
	m := &j.t.current
	commit := m.state == prepareCommit
	targets := j.rest
	if targets == nil {
		targets = m.targets(c.o.OffsetsPartitions())
	}
	coordinatorEpoch := c.partition(j.t.id).Epoch()
	e := &ending{c: c, t: j.t, open: 1}
	for _, t := range targets {
		if t.topic == "" {
			continue
		}
		e.begin()
		if err := c.writeMarker(t, m, coordinatorEpoch, commit, &marker{e, t}); err != nil {
			e.done(t, err)
		}
	}
	// The partitions' markers are on their way to the disk meanwhile.
	for _, t := range targets {
		if t.topic == "" {
			e.begin()
			e.done(t, c.o.Groups.EndTransaction(c.ctx, m.producerID, m.epoch, t.group, commit))
		}
	}
	e.done(target{}, nil)
}

func (c *Coordinator) writeMarker(t target, m *metadata, coordinatorEpoch int32, commit bool, w commitlog.Waiter) error {
	p, err := c.o.Partition(t.topic, t.partition)
	if err != nil {
		return err
	}
	return p.EndTransaction(m.producerID, m.epoch, coordinatorEpoch, commit, w)
}

func (e *ending) begin() {
	e.mu.Lock()
	e.open++
	e.mu.Unlock()
}

func (e *ending) done(t target, err error) {
	if over(err) {
		err = nil
	}
	e.mu.Lock()
	e.open--
	if err != nil {
		e.failed = append(e.failed, t)
	}
	last, failed := e.open == 0, e.failed
	e.mu.Unlock()
	c := e.c
	if err != nil && c.ctx.Err() == nil {
		c.o.Logger.Warn("end of a transaction not written", "transactional_id", e.t.id,
			"topic", t.topic, "partition", t.partition, "group", t.group, "error", err)
	}
	if !last {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(failed) == 0 {
		c.do(job{t: e.t, kind: jobComplete})
		return
	}
	c.again(job{t: e.t, rest: failed})
}

// over says that there is nothing to end any more: the topic was deleted, or
// the marker is there and more behind it.
func over(err error) bool {
	return errors.Is(err, destination.ErrNotFound) || errors.Is(err, commitlog.ErrDeleted) || errors.Is(err, destination.ErrProducerFenced)
}

// again does j a little later. mu is held.
func (c *Coordinator) again(j job) {
	if c.closed {
		return
	}
	c.o.AfterFunc(retryAfter, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.do(j)
	})
}

// targets are what the end concerns. Where Kafka has written the record, only
// the partitions of the groups are known, not their names: those get their
// marker as any other partition.
func (m *metadata) targets(offsetsPartitions int) []target {
	all := make([]target, 0, len(m.topics)+len(m.groups))
	known := map[int32]bool{}
	for _, g := range m.groups {
		known[partitionOf(g, offsetsPartitions)] = true
		all = append(all, target{group: g})
	}
	for _, t := range m.topics {
		for _, p := range t.Partitions {
			if t.Topic != OffsetsTopicName || !known[p] {
				all = append(all, target{topic: t.Topic, partition: p})
			}
		}
	}
	return all
}

// writeComplete says that nothing is left to do. The next transaction need not
// wait until that is durable: a crash that takes this record takes what was
// written behind it, too, and then the markers are only written once more. If
// the record finds no room, the next one of the id takes its place.
func (c *Coordinator) writeComplete(t *transaction) {
	next := t.completed(c.nowMS()) // nobody changes it while it is prepared
	if err := c.appendRecord(t.id, &next, (*completion)(c)); err != nil {
		(*completion)(c).Committed(err)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.again(job{t: t, kind: jobComplete})
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.complete(next)
	t.finishing = false
	c.settled(t)
}

// completion is told of complete records.
type completion Coordinator

// Committed is called by the log.
func (c *completion) Committed(err error) {
	if err != nil {
		c.o.Logger.Warn("end of a transaction not recorded", "error", err)
	}
}
