package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/destination/record"
)

const offsetsPartitions = 5

// rig is a coordinator over a store in memory, with topics that have partitions
// but no logs.
type rig struct {
	t     testing.TB
	fs    *commitlog.MemFS
	store *commitlog.Store
	c     *Coordinator
	cl    Client

	mu     sync.Mutex
	log    *destination.Destination
	made   bool
	topics map[string]*destination.Destination
	set    map[string]GroupSettings
}

// openRig opens what fs holds. It must run in a synctest bubble. topics are those
// of a rig before, or nil.
func openRig(t testing.TB, fs *commitlog.MemFS, topics map[string]*destination.Destination) *rig {
	t.Helper()
	r := &rig{t: t, fs: fs, topics: topics, cl: Client{ID: "client", Host: "/127.0.0.1"}}
	if topics == nil {
		r.topics = map[string]*destination.Destination{}
		r.create("a", 4)
		r.create("b", 2)
	}
	var err error
	r.store, err = commitlog.Open(fs, commitlog.Options{
		JournalFileBytes: 256 << 10, ReservedBytes: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.log = &destination.Destination{Name: TopicName, Kind: destination.KindLog, Internal: true}
	for i := range int32(offsetsPartitions) {
		l, err := r.store.OpenLog(commitlog.LogID{Topic: [16]byte{1}, Partition: i}, fmt.Sprintf("%s-%d", TopicName, i), commitlog.Config{SegmentBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		r.log.Partitions = append(r.log.Partitions, destination.NewPartition(i, l, r.store.Epoch()))
	}
	t.Cleanup(func() { _ = r.store.Close() }) // a test that fails leaves no goroutine in its bubble
	r.made = r.store.Epoch() > 0
	r.openCoordinator()
	return r
}

func (r *rig) openCoordinator() {
	r.t.Helper()
	var err error
	r.c, err = Open(Options{
		Offsets: func() (*destination.Destination, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.made = true
			return r.log, nil
		},
		Find: func() (*destination.Destination, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if !r.made {
				return nil, destination.ErrNotFound
			}
			return r.log, nil
		},
		Topic: func(name string) (*destination.Destination, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if d := r.topics[name]; d != nil {
				return d, nil
			}
			return nil, fmt.Errorf("%w: topic %q", destination.ErrNotFound, name)
		},
		TopicByID: func(id [16]byte) (*destination.Destination, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, d := range r.topics {
				if d.ID == id {
					return d, nil
				}
			}
			return nil, fmt.Errorf("%w: topic %x", destination.ErrNotFound, id)
		},
		Topics: func() []*destination.Destination {
			r.mu.Lock()
			defer r.mu.Unlock()
			return slices.Collect(maps.Values(r.topics))
		},
		Settings: func(group string) GroupSettings {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.set[group]
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// configure sets something for a group.
func (r *rig) configure(group string, s GroupSettings) {
	r.mu.Lock()
	r.set = map[string]GroupSettings{group: s}
	r.mu.Unlock()
	r.c.Configured(group)
}

var topicIDs byte

// create makes a topic, another one each time.
func (r *rig) create(name string, partitions int) [16]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	topicIDs++
	d := &destination.Destination{Name: name, ID: [16]byte{9, topicIDs}, Kind: destination.KindLog}
	d.Partitions = make([]*destination.Partition, partitions)
	r.topics[name] = d
	return d.ID
}

// remove deletes a topic, and tells the coordinator.
func (r *rig) remove(name string) {
	r.mu.Lock()
	id := r.topics[name].ID
	delete(r.topics, name)
	r.mu.Unlock()
	r.c.Changed(id)
}

func (r *rig) id(topic string) [16]byte { return r.topics[topic].ID }

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
	return openRig(r.t, r.fs.Crash(seed), r.topics)
}

// The requests.

var ctx = context.Background()

// offsets are those of a request or answer, by "topic/partition".
type offsets map[string]int64

func (o offsets) topics() (list []string, partitions map[string][]int32) {
	partitions = map[string][]int32{}
	for key := range o {
		topic, number := split(key)
		if partitions[topic] == nil {
			list = append(list, topic)
		}
		partitions[topic] = append(partitions[topic], number)
	}
	slices.Sort(list)
	for _, p := range partitions {
		slices.Sort(p)
	}
	return list, partitions
}

func split(key string) (topic string, number int32) {
	for i := range key {
		if key[i] == '/' {
			_, _ = fmt.Sscan(key[i+1:], &number)
			return key[:i], number
		}
	}
	return key, 0
}

// member is who commits; the zero value is nobody in particular.
type member struct {
	id, instance string
	generation   int32
}

var nobody = member{generation: -1}

func (r *rig) commitRequest(version int16, group string, m member, o offsets) *kmsg.OffsetCommitRequest {
	q := kmsg.NewPtrOffsetCommitRequest()
	q.Version, q.Group, q.MemberID, q.Generation = version, group, m.id, m.generation
	if m.instance != "" {
		q.InstanceID = &m.instance
	}
	topics, partitions := o.topics()
	for _, topic := range topics {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = topic
		if d := r.topics[topic]; version >= 10 {
			if t.TopicID = [16]byte{0xff}; d != nil {
				t.TopicID = d.ID
			}
		}
		for _, number := range partitions[topic] {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch = number, o[fmt.Sprintf("%s/%d", topic, number)], 7
			text := fmt.Sprint("at ", p.Offset)
			p.Metadata = &text
			t.Partitions = append(t.Partitions, p)
		}
		q.Topics = append(q.Topics, t)
	}
	return q
}

// commitAs returns the code of the last partition.
func (r *rig) commitAs(m member, group string, o offsets) (code int16) {
	for _, t := range r.c.OffsetCommit(ctx, r.cl, r.commitRequest(9, group, m, o)).Topics {
		for _, p := range t.Partitions {
			code = p.ErrorCode
		}
	}
	return code
}

func (r *rig) commit(group string, o offsets) {
	r.t.Helper()
	if code := r.commitAs(nobody, group, o); code != codeNone {
		r.t.Errorf("commit of %v in %q: code %d", o, group, code)
	}
}

func (r *rig) fetchRequest(version int16, group string, stable bool, keys ...string) *kmsg.OffsetFetchRequest {
	q := kmsg.NewPtrOffsetFetchRequest()
	q.Version, q.Group, q.RequireStable = version, group, stable
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.MemberEpoch = group, -1
	wanted := offsets{}
	for _, k := range keys {
		wanted[k] = 0
	}
	topics, partitions := wanted.topics()
	if len(keys) > 0 {
		g.Topics, q.Topics = []kmsg.OffsetFetchRequestGroupTopic{}, []kmsg.OffsetFetchRequestTopic{}
	}
	for _, topic := range topics {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = topic, partitions[topic]
		if t.TopicID = [16]byte{0xff}; r.topics[topic] != nil {
			t.TopicID = r.topics[topic].ID
		}
		g.Topics = append(g.Topics, t)
		q.Topics = append(q.Topics, kmsg.OffsetFetchRequestTopic{Topic: topic, Partitions: partitions[topic]})
	}
	q.Groups = append(q.Groups, g)
	return q
}

// fetched are a group's offsets, -1 and codes included (as 1000 + the code).
func (r *rig) fetched(group string, stable bool, keys ...string) offsets {
	r.t.Helper()
	all := offsets{}
	g := r.c.OffsetFetch(ctx, r.cl, r.fetchRequest(9, group, stable, keys...)).Groups[0]
	if g.ErrorCode != 0 {
		all["error"] = int64(g.ErrorCode)
	}
	for _, t := range g.Topics {
		for _, p := range t.Partitions {
			o := p.Offset
			if p.ErrorCode != 0 {
				o = 1000 + int64(p.ErrorCode)
			}
			all[fmt.Sprintf("%s/%d", t.Topic, p.Partition)] = o
		}
	}
	return all
}

// has compares all that a group has committed.
func (r *rig) has(group string, want offsets) {
	r.t.Helper()
	if got := r.fetched(group, false); !maps.Equal(got, want) {
		r.t.Errorf("%q has %v, want %v", group, got, want)
	}
}

func (r *rig) txnCommit(producer int64, epoch int16, group string, o offsets) (code int16) {
	q := kmsg.NewPtrTxnOffsetCommitRequest()
	q.Version, q.TransactionalID, q.Group, q.ProducerID, q.ProducerEpoch, q.Generation = 5, "txn", group, producer, epoch, -1
	topics, partitions := o.topics()
	for _, topic := range topics {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = topic
		for _, number := range partitions[topic] {
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset = number, o[fmt.Sprintf("%s/%d", topic, number)]
			t.Partitions = append(t.Partitions, p)
		}
		q.Topics = append(q.Topics, t)
	}
	for _, t := range r.c.TxnOffsetCommit(ctx, r.cl, q).Topics {
		for _, p := range t.Partitions {
			code = p.ErrorCode
		}
	}
	return code
}

func (r *rig) end(producer int64, epoch int16, group string, commit bool) {
	r.t.Helper()
	if err := r.c.EndTransaction(ctx, producer, epoch, group, commit); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) deleteGroup(group string) int16 {
	q := kmsg.NewPtrDeleteGroupsRequest()
	q.Groups = []string{group}
	return r.c.DeleteGroups(ctx, r.cl, q).Groups[0].ErrorCode
}

// listed are the groups as "id type state".
func (r *rig) listed(states, types []string) (all []string) {
	q := kmsg.NewPtrListGroupsRequest()
	q.Version, q.StatesFilter, q.TypesFilter = 5, states, types
	for _, g := range r.c.ListGroups(ctx, r.cl, q).Groups {
		all = append(all, g.Group+" "+g.GroupType+" "+g.GroupState)
	}
	return all
}

func (r *rig) joinRequest(group, memberID string, session time.Duration) *kmsg.JoinGroupRequest {
	q := kmsg.NewPtrJoinGroupRequest()
	q.Version, q.Group, q.MemberID, q.ProtocolType = 9, group, memberID, "consumer"
	q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = int32(session.Milliseconds()), 60_000
	m := kmsg.NewConsumerMemberMetadata()
	m.Topics = []string{"a"}
	q.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: m.AppendTo(nil)}}
	return q
}

// join makes a group of one classic member, with an assignment.
func (r *rig) join(group string, session time.Duration) member {
	r.t.Helper()
	first := r.c.JoinGroup(ctx, r.cl, r.joinRequest(group, "", session))
	a := r.c.JoinGroup(ctx, r.cl, r.joinRequest(group, first.MemberID, session))
	if a.ErrorCode != 0 {
		r.t.Fatalf("join %q: code %d", group, a.ErrorCode)
	}
	m := member{id: a.MemberID, generation: a.Generation}
	if s := r.sync(group, m); s.ErrorCode != 0 || string(s.MemberAssignment) != "all" {
		r.t.Fatalf("sync %q: %+v", group, s)
	}
	return m
}

func (r *rig) sync(group string, m member) *kmsg.SyncGroupResponse {
	q := kmsg.NewPtrSyncGroupRequest()
	q.Version, q.Group, q.MemberID, q.Generation = 5, group, m.id, m.generation
	q.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: m.id, MemberAssignment: []byte("all")}}
	return r.c.SyncGroup(ctx, r.cl, q)
}

func (r *rig) heartbeat(group string, m member) int16 {
	q := kmsg.NewPtrHeartbeatRequest()
	q.Version, q.Group, q.MemberID, q.Generation = 4, group, m.id, m.generation
	return r.c.Heartbeat(ctx, r.cl, q).ErrorCode
}

func (r *rig) leave(group string, m member) int16 {
	q := kmsg.NewPtrLeaveGroupRequest()
	q.Version, q.Group, q.Members = 5, group, []kmsg.LeaveGroupRequestMember{{MemberID: m.id}}
	a := r.c.LeaveGroup(ctx, r.cl, q)
	if a.ErrorCode != 0 {
		return a.ErrorCode
	}
	return a.Members[0].ErrorCode
}

// consume is a heartbeat of a KIP-848 member.
func (r *rig) consume(group, memberID string, epoch int32) *kmsg.ConsumerGroupHeartbeatResponse {
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Version, q.Group, q.MemberID, q.MemberEpoch = 1, group, memberID, epoch
	if epoch == 0 {
		q.RebalanceTimeoutMillis, q.SubscribedTopicNames, q.Topics = 60_000, []string{"a"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	return r.c.ConsumerGroupHeartbeat(ctx, r.cl, q)
}

func (r *rig) share(group, memberID string, epoch int32) *kmsg.ShareGroupHeartbeatResponse {
	q := kmsg.NewPtrShareGroupHeartbeatRequest()
	q.Version, q.GroupID, q.MemberID, q.MemberEpoch = 1, group, memberID, epoch
	if epoch == 0 {
		q.SubscribedTopicNames = []string{"a"}
	}
	return r.c.ShareGroupHeartbeat(ctx, r.cl, q)
}

func (r *rig) describe(version int16, group string) kmsg.DescribeGroupsResponseGroup {
	q := kmsg.NewPtrDescribeGroupsRequest()
	q.Version, q.Groups = version, []string{group}
	return r.c.DescribeGroups(ctx, r.cl, q).Groups[0]
}

// append writes a record past the coordinator.
func (r *rig) append(group string, key, value []byte) {
	r.t.Helper()
	var b record.Builder
	b.Append(time.Now().UnixMilli(), key, value, nil)
	done := make(chan error, 1)
	if _, err := r.log.Partitions[indexOf(group, offsetsPartitions)].Append(b.Batch(), committedFunc(func(err error) { done <- err })); err != nil {
		r.t.Fatal(err)
	}
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
}

type committedFunc func(error)

func (f committedFunc) Committed(err error) { f(err) }

// records is the number of records with that key and a value, or tombstones, of
// a group's partition.
func (r *rig) records(group string, key []byte) (values, tombstones int) {
	r.t.Helper()
	p := r.log.Partitions[indexOf(group, offsetsPartitions)]
	var reader record.Reader
	for offset := p.Start(); offset < p.Stable(); {
		buf, err := p.Read(offset, 1<<20, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		for len(buf) > 0 {
			var b record.Batch
			if b, buf, err = record.Next(buf); err == nil {
				err = reader.Reset(b, 1<<20)
			}
			if err != nil {
				r.t.Fatal(err)
			}
			offset = b.NextOffset()
			for reader.Next() {
				switch rec := reader.Record(); {
				case string(rec.Key) != string(key):
				case rec.Value == nil:
					tombstones++
				default:
					values++
				}
			}
		}
	}
	return values, tombstones
}
