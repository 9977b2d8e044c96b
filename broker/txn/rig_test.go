package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

const (
	logPartitions     = 3
	offsetsPartitions = 5
)

// rig is a coordinator over a store in memory, with data partitions and groups
// that keep their markers in logs of that store.
type rig struct {
	t     testing.TB
	fs    *commitlog.MemFS
	store *commitlog.Store
	txns  *destination.Destination
	c     *Coordinator
	o     Options

	mu       sync.Mutex
	made     bool // __transaction_state
	data     map[TopicPartition]*dataLog
	groups   map[string]*dataLog
	deleted  map[string]bool
	nextID   int64
	blocks   int
	refuse   func(TopicPartition) error // what a partition's end is answered, if not nil
	late     func(TopicPartition) error // what becomes of a marker that was taken, if not nil
	groupEnd func(group string) error
}

// openRig opens what fs holds. It must run in a synctest bubble.
func openRig(t testing.TB, fs *commitlog.MemFS, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, fs: fs, data: map[TopicPartition]*dataLog{}, groups: map[string]*dataLog{}, deleted: map[string]bool{}, nextID: 1000}
	var err error
	r.store, err = commitlog.Open(fs, commitlog.Options{
		JournalFileBytes: 128 << 10, ReservedBytes: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.nextID = int64(r.store.Epoch()+1) * 1000 // never those of the last start
	r.txns = &destination.Destination{Name: TopicName, Kind: destination.KindLog, Internal: true}
	for i := range int32(logPartitions) {
		l, err := r.store.OpenLog(commitlog.LogID{Topic: [16]byte{1}, Partition: i}, fmt.Sprintf("%s-%d", TopicName, i), commitlog.Config{SegmentBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		r.txns.Partitions = append(r.txns.Partitions, destination.NewPartition(i, l, r.store.Epoch()))
	}
	r.made = r.store.Epoch() > 0
	r.o = Options{
		Log: func() (*destination.Destination, error) {
			r.made = true
			return r.txns, nil
		},
		Find: func() (*destination.Destination, error) {
			if !r.made {
				return nil, destination.ErrNotFound
			}
			return r.txns, nil
		},
		Partition:         r.partition,
		Groups:            r,
		OffsetsPartitions: func() int { return offsetsPartitions },
		NextProducerIDBlock: func() (int64, int, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.blocks++
			first := r.nextID
			r.nextID += 3
			return first, 3, nil
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&r.o)
	}
	r.c, err = Open(r.o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) close() {
	r.t.Helper()
	if err := errors.Join(r.c.Close(), r.store.Close()); err != nil {
		r.t.Error(err)
	}
}

// crash cuts the power and starts again.
func (r *rig) crash(seed uint64) *rig {
	r.t.Helper()
	r.fs.Stop()
	_ = r.c.Close()
	_ = r.store.Close()
	return openRig(r.t, r.fs.Crash(seed), nil)
}

// reopen is a clean restart.
func (r *rig) reopen() *rig {
	r.t.Helper()
	r.close()
	return openRig(r.t, r.fs, nil)
}

func (r *rig) partition(topic string, partition int32) (Partition, error) {
	at := TopicPartition{topic, partition}
	r.mu.Lock()
	refuse, late := r.refuse, r.late
	r.mu.Unlock()
	if refuse != nil {
		if err := refuse(at); err != nil {
			return nil, err
		}
	}
	if late != nil {
		if err := late(at); err != nil {
			return latePartition{err}, nil
		}
	}
	return r.dataLog(at)
}

// latePartition takes a marker, and says a second later that it is not written.
type latePartition struct{ err error }

func (p latePartition) EndTransaction(_ int64, _ int16, _ int32, _ bool, w commitlog.Waiter) error {
	time.AfterFunc(time.Second, func() { w.Committed(p.err) })
	return nil
}

func (r *rig) dataLog(at TopicPartition) (*dataLog, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deleted[at.Topic] || at.Partition > 9 {
		return nil, destination.ErrNotFound
	}
	if r.data[at] == nil {
		r.data[at] = r.newLog("data-"+at.Topic, at.Partition)
	}
	return r.data[at], nil
}

func (r *rig) group(name string) *dataLog {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.groups[name] == nil {
		r.groups[name] = r.newLog("group-"+name, 0)
	}
	return r.groups[name]
}

// EndTransaction implements Groups.
func (r *rig) EndTransaction(ctx context.Context, producerID int64, epoch int16, group string, commit bool) error {
	r.mu.Lock()
	groupEnd := r.groupEnd
	r.mu.Unlock()
	if groupEnd != nil {
		if err := groupEnd(group); err != nil {
			return err
		}
	}
	w := make(waiter, 1)
	if err := r.group(group).EndTransaction(producerID, epoch, r.store.Epoch(), commit, w); err != nil {
		return err
	}
	select {
	case err := <-w:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

type waiter chan error

func (w waiter) Committed(err error) { w <- err }

// dataLog is a partition, and the sequences of its producers.
type dataLog struct {
	*destination.Partition
	log *commitlog.Log

	mu   sync.Mutex
	next map[identity]int32
}

type identity struct {
	id    int64
	epoch int16
}

// newLog is in r.mu.
func (r *rig) newLog(name string, partition int32) *dataLog {
	var id [16]byte
	copy(id[:], name)
	l, err := r.store.OpenLog(commitlog.LogID{Topic: id, Partition: partition}, fmt.Sprintf("%s-%d", name, partition), commitlog.Config{SegmentBytes: 1 << 20})
	if err != nil {
		r.t.Error(err)
	}
	return &dataLog{Partition: destination.NewPartition(partition, l, r.store.Epoch()), log: l, next: map[identity]int32{}}
}

// produce appends one record, and waits until it is durable.
func (d *dataLog) produce(producerID int64, epoch int16, value string) error {
	d.mu.Lock()
	sequence := d.next[identity{producerID, epoch}]
	d.next[identity{producerID, epoch}]++
	d.mu.Unlock()
	var b record.Builder
	b.SetProducer(producerID, epoch, sequence, true)
	b.Append(time.Now().UnixMilli(), nil, []byte(value), nil)
	w := make(waiter, 1)
	if _, err := d.Produce(b.Batch(), false, w); err != nil {
		return err
	}
	return <-w
}

// event is a record or a marker.
type event struct {
	producerID int64
	epoch      int16
	value      string // "" for a marker
	commit     bool
}

func (d *dataLog) events(t testing.TB) (all []event) {
	var reader record.Reader
	for from := d.log.Start(); from < d.log.Stable(); {
		buf, err := d.log.Read(from, 1<<20, nil)
		if err != nil || len(buf) == 0 {
			t.Errorf("read %s: %v", d.log.Dir(), err)
			return all
		}
		for len(buf) > 0 {
			b, rest, err := record.Next(buf)
			if err == nil {
				err = reader.Reset(b, 1<<20)
			}
			if err != nil {
				t.Error(err)
				return all
			}
			for reader.Next() {
				e := event{producerID: b.ProducerID(), epoch: b.ProducerEpoch()}
				if rec := reader.Record(); b.IsControl() {
					e.commit = rec.Key[3] == 1
				} else {
					e.value = string(rec.Value)
				}
				all = append(all, e)
			}
			buf, from = rest, b.NextOffset()
		}
	}
	return all
}

// outcomes says of every value whether it was committed; nil: it is still open.
func (d *dataLog) outcomes(t testing.TB) map[string]*bool {
	found, open := map[string]*bool{}, map[int64][]string{}
	for _, e := range d.events(t) {
		if e.value != "" {
			open[e.producerID] = append(open[e.producerID], e.value)
			found[e.value] = nil
			continue
		}
		for _, v := range open[e.producerID] {
			commit := e.commit
			found[v] = &commit
		}
		delete(open, e.producerID)
	}
	return found
}

// markers are the markers alone, as text.
func (d *dataLog) markers(t testing.TB) (all []string) {
	for _, e := range d.events(t) {
		if e.value == "" {
			all = append(all, fmt.Sprintf("%d/%d %t", e.producerID, e.epoch, e.commit))
		}
	}
	return all
}

// The requests, at their newest versions unless told otherwise.

func (r *rig) init(id string) (producerID int64, epoch, code int16) {
	return r.initWith(id, 5, noID, noEpoch)
}

func (r *rig) initWith(id string, version int16, producerID int64, epoch int16) (int64, int16, int16) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID, req.TransactionTimeoutMillis = version, &id, 60_000
	req.ProducerID, req.ProducerEpoch = producerID, epoch
	resp := r.c.InitProducerID(context.Background(), req)
	return resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode
}

func (r *rig) add(id string, producerID int64, epoch int16, partitions ...TopicPartition) int16 {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch = 3, id, producerID, epoch
	for _, p := range partitions {
		req.Topics = append(req.Topics, kmsg.AddPartitionsToTxnRequestTopic{Topic: p.Topic, Partitions: []int32{p.Partition}})
	}
	return r.c.AddPartitionsToTxn(context.Background(), req).Topics[0].Partitions[0].ErrorCode
}

func (r *rig) addOffsets(id string, producerID int64, epoch int16, group string) int16 {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = 3, id, producerID, epoch, group
	return r.c.AddOffsetsToTxn(context.Background(), req).ErrorCode
}

func (r *rig) end(id string, version int16, producerID int64, epoch int16, commit bool) (nextID int64, nextEpoch, code int16) {
	req := kmsg.NewPtrEndTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = version, id, producerID, epoch, commit
	resp := r.c.EndTxn(context.Background(), req)
	return resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode
}

func (r *rig) state(id string) string {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	s := r.c.DescribeTransactions(context.Background(), req).TransactionStates[0]
	if s.ErrorCode != 0 {
		return fmt.Sprint("error ", s.ErrorCode)
	}
	return s.State
}
