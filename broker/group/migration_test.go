package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

// consumers are those of one group, some of the classic protocol, some of
// KIP-848, as their users see them: each in a goroutine of its own.
type consumers struct {
	t    testing.TB
	seed uint64

	mu       sync.Mutex // guards what follows
	r        *rig
	rnd      *rand.Rand
	owner    map[string]*fake
	acked    offsets         // what was committed
	unsure   map[string]bool // perhaps more, when the power went
	next     int64
	problems []string
	story    []string
}

// tell is for who looks for the reason of a failure. mu is held.
func (w *consumers) tell(format string, args ...any) {
	w.story = append(w.story, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func (w *consumers) problem(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
	w.tell(format, args...)
}

// rig is the broker as it is now.
func (w *consumers) rig() *rig {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.r
}

// fake is a consumer of topics a and b.
type fake struct {
	w           *consumers
	name        string
	id          string
	epoch       int32
	cooperative bool
	owned       map[string]bool
	stop        chan struct{}
	stopped     sync.WaitGroup
	kind        string // the protocol it uses
}

const (
	classicKind = "classic"
	kip848Kind  = "KIP-848"
)

func (w *consumers) start(name, kind string, cooperative bool) *fake {
	f := &fake{w: w, name: name, kind: kind, cooperative: cooperative, owned: map[string]bool{}, stop: make(chan struct{})}
	f.stopped.Go(func() {
		if kind == classicKind {
			f.runClassic()
		} else {
			f.id = name
			f.run848()
		}
	})
	return f
}

// leave has it go, politely.
func (f *fake) leave() {
	f.w.mu.Lock()
	f.w.tell("%s leaves", f.name)
	f.w.mu.Unlock()
	close(f.stop)
	f.stopped.Wait()
}

func (f *fake) pause(d time.Duration) bool {
	select {
	case <-f.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// own takes and gives up partitions. What it takes nobody may have.
func (f *fake) own(assigned map[string]bool) {
	f.w.mu.Lock()
	for key := range f.owned {
		if !assigned[key] {
			delete(f.w.owner, key)
		}
	}
	for key := range assigned {
		if o := f.w.owner[key]; o != nil && o != f {
			f.w.problem("%s is given %s, which %s owns", f.name, key, o.name)
		}
		f.w.owner[key] = f
	}
	w := f.w
	w.tell("%s (%s) at %d owned %v, owns %v", f.name, f.id, f.epoch, slices.Sorted(maps.Keys(f.owned)), slices.Sorted(maps.Keys(assigned)))
	taken := maps.Clone(assigned)
	for key := range f.owned {
		delete(taken, key)
	}
	f.owned = maps.Clone(assigned)
	f.w.mu.Unlock()
	for key := range taken { // it goes on where somebody else stopped
		r := f.w.rig()
		got := r.fetched("g", true, key)
		f.w.mu.Lock()
		want, ok := f.w.acked[key]
		if !ok {
			want = -1
		}
		if got["error"] == 0 && got[key] != want && f.w.owner[key] == f && !f.w.unsure[key] {
			f.w.problem("%s goes on with %s at %d, committed was %d", f.name, key, got[key], want)
		}
		f.w.mu.Unlock()
	}
}

// commit commits something for all that it owns.
func (f *fake) commit() {
	m := member{id: f.id, generation: f.epoch}
	for key := range f.owned {
		f.w.mu.Lock()
		f.w.next++
		n, r := f.w.next, f.w.r
		f.w.mu.Unlock()
		code := r.commitAs(m, "g", offsets{key: n})
		f.w.mu.Lock()
		switch code {
		case codeNone:
			f.w.acked[key] = n
			delete(f.w.unsure, key)
		case codeCoordinatorNotAvailable:
			f.w.unsure[key] = true
		case codeIllegalGeneration, codeUnknownMemberID, 27, 113: // a rebalance, which it will hear of
		default:
			f.w.problem("%s commits at %d: %d", f.name, f.epoch, code)
		}
		f.w.mu.Unlock()
	}
}

func (f *fake) run848() {
	full := true
	for f.pause(time.Second) {
		r := f.w.rig()
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Version, q.Group, q.MemberID, q.MemberEpoch, q.RebalanceTimeoutMillis = 1, "g", f.id, f.epoch, 30_000
		if full {
			q.SubscribedTopicNames = []string{"a", "b"}
		}
		q.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for _, topic := range []string{"a", "b"} {
			t := kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: r.id(topic)}
			for key := range f.owned {
				if name, number := split(key); name == topic {
					t.Partitions = append(t.Partitions, number)
				}
			}
			if len(t.Partitions) > 0 {
				q.Topics = append(q.Topics, t)
			}
		}
		a := r.c.ConsumerGroupHeartbeat(ctx, r.cl, q)
		switch a.ErrorCode {
		case codeNone:
			f.epoch, full = a.MemberEpoch, false
			if a.Assignment != nil {
				assigned := map[string]bool{}
				for _, t := range a.Assignment.Topics {
					for _, p := range t.Partitions {
						name := "a"
						if t.TopicID == r.id("b") {
							name = "b"
						}
						assigned[fmt.Sprintf("%s/%d", name, p)] = true
					}
				}
				f.own(assigned)
			}
			f.commit()
		case codeCoordinatorNotAvailable:
			full = true
		case codeUnknownMemberID, codeGroupIDNotFound, 110:
			f.own(nil)
			f.epoch, full = 0, true
		default:
			f.w.mu.Lock()
			f.w.problem("%s is answered %d", f.name, a.ErrorCode)
			f.w.mu.Unlock()
		}
	}
	f.own(nil)
	r := f.w.rig()
	r.consume("g", f.id, -1)
}

func (f *fake) runClassic() {
	for {
		if !f.join() {
			break
		}
		for f.pause(time.Second) {
			r := f.w.rig()
			code := r.heartbeat("g", member{id: f.id, generation: f.epoch})
			if code == codeNone {
				f.commit()
				continue
			}
			f.failed(code)
			break
		}
		select {
		case <-f.stop:
			f.own(nil)
			r := f.w.rig()
			r.leave("g", member{id: f.id})
			return
		default:
		}
	}
}

// failed is what a client makes of a code.
func (f *fake) failed(code int16) {
	f.w.mu.Lock()
	f.w.tell("%s (%s) at %d is answered %d", f.name, f.id, f.epoch, code)
	f.w.mu.Unlock()
	switch code {
	case 27, codeCoordinatorNotAvailable, 79:
	case codeIllegalGeneration:
		f.own(nil)
	case codeUnknownMemberID:
		f.own(nil)
		f.id = ""
	default:
		f.w.mu.Lock()
		f.w.problem("%s is answered %d", f.name, code)
		f.w.mu.Unlock()
	}
}

// join joins until it has an assignment; false when it is to stop.
func (f *fake) join() bool {
	for {
		if !f.cooperative {
			f.own(nil)
		}
		r := f.w.rig()
		q := r.joinRequest("g", f.id, 30*time.Second)
		s := kmsg.NewConsumerMemberMetadata()
		s.Version, s.Topics, s.Generation = 3, []string{"a", "b"}, f.epoch
		for _, key := range slices.Sorted(maps.Keys(f.owned)) {
			topic, number := split(key)
			s.OwnedPartitions = append(s.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: topic, Partitions: []int32{number}})
		}
		q.Protocols[0].Metadata = s.AppendTo(nil)
		a := r.c.JoinGroup(ctx, r.cl, q)
		if a.ErrorCode == 79 {
			f.id = a.MemberID
			continue
		}
		if a.ErrorCode != 0 {
			f.failed(a.ErrorCode)
			if !f.pause(100 * time.Millisecond) {
				return true
			}
			continue
		}
		f.id, f.epoch = a.MemberID, a.Generation
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Version, sync.Group, sync.MemberID, sync.Generation = 5, "g", f.id, f.epoch
		if a.LeaderID == f.id {
			sync.GroupAssignment = assign(a.Members)
		}
		b := r.c.SyncGroup(ctx, r.cl, sync)
		if b.ErrorCode != 0 {
			f.failed(b.ErrorCode)
			if !f.pause(100 * time.Millisecond) {
				return true
			}
			continue
		}
		var x kmsg.ConsumerMemberAssignment
		if err := x.ReadFrom(b.MemberAssignment); err != nil {
			f.w.t.Errorf("%s is assigned %x", f.name, b.MemberAssignment)
		}
		assigned, gaveUp := map[string]bool{}, false
		for _, t := range x.Topics {
			for _, p := range t.Partitions {
				assigned[fmt.Sprintf("%s/%d", t.Topic, p)] = true
			}
		}
		for key := range f.owned {
			gaveUp = gaveUp || !assigned[key]
		}
		f.own(assigned)
		if !gaveUp {
			return true
		}
	}
}

// assign is a leader's: who has what another should have gives it up first.
func assign(members []kmsg.JoinGroupResponseMember) (all []kmsg.SyncGroupRequestGroupAssignment) {
	slices.SortFunc(members, func(x, y kmsg.JoinGroupResponseMember) int {
		if x.MemberID < y.MemberID {
			return -1
		}
		return 1
	})
	owner := map[string]int{}
	for i, m := range members {
		var s kmsg.ConsumerMemberMetadata
		if s.ReadFrom(m.ProtocolMetadata) == nil {
			for _, t := range s.OwnedPartitions {
				for _, p := range t.Partitions {
					owner[fmt.Sprintf("%s/%d", t.Topic, p)] = i
				}
			}
		}
	}
	parts := make([]kmsg.ConsumerMemberAssignment, len(members))
	n := 0
	for _, topic := range []string{"a", "a", "a", "a", "b", "b"} {
		number := int32(n)
		if topic == "b" {
			number -= 4
		}
		to := n % len(members)
		n++
		if o, owned := owner[fmt.Sprintf("%s/%d", topic, number)]; !owned || o == to {
			parts[to].Topics = append(parts[to].Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: topic, Partitions: []int32{number}})
		}
	}
	for i, m := range members {
		all = append(all, kmsg.SyncGroupRequestGroupAssignment{MemberID: m.MemberID, MemberAssignment: parts[i].AppendTo(nil)})
	}
	return all
}

// settled waits, and looks whether every partition has an owner and the group is
// of that type.
func (w *consumers) settled(kind string) {
	w.t.Helper()
	time.Sleep(40 * time.Second)
	w.mu.Lock()
	owned := slices.Sorted(maps.Keys(w.owner))
	all := w.r.listed(nil, nil)
	w.mu.Unlock()
	if fmt.Sprint(owned) != "[a/0 a/1 a/2 a/3 b/0 b/1]" || fmt.Sprint(all) != "[g "+kind+" Stable]" {
		w.t.Errorf("owned is %v, of %v, which is to be %s", owned, all, kind)
	}
	time.Sleep(10 * time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.unsure) > 0 {
		w.t.Errorf("not committed: %v", w.unsure)
	}
	if got := w.r.fetched("g", true); !maps.Equal(got, w.acked) && len(w.unsure) == 0 {
		// One may be on its way.
		for key, o := range w.acked {
			if got[key] < o {
				w.t.Errorf("%s is at %d, committed is %d", key, got[key], o)
			}
		}
	}
}

func (w *consumers) end(running []*fake) {
	for _, f := range running {
		f.leave()
	}
	for _, p := range w.problems {
		w.t.Error(p)
	}
	if w.t.Failed() {
		w.t.Logf("seed %d\n%s", w.seed, strings.Join(w.story, "\n"))
	}
	w.r.close()
}

func newConsumers(t testing.TB, seed uint64) *consumers {
	return &consumers{
		t: t, seed: seed, r: openRig(t, commitlog.NewMemFS(), nil), rnd: rand.New(rand.NewPCG(seed, 3)),
		owner: map[string]*fake{}, acked: offsets{}, unsure: map[string]bool{},
	}
}

// TestMigration moves three consumers to KIP-848, one after the other, and back.
func TestMigration(t *testing.T) {
	for _, cooperative := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newConsumers(t, 1)
			var running []*fake
			for i := range 3 {
				running = append(running, w.start(fmt.Sprint("classic", i), classicKind, cooperative))
			}
			w.settled("Classic")
			for i := range running {
				running[i].leave()
				running[i] = w.start(fmt.Sprint("new", i), kip848Kind, cooperative)
				w.settled("Consumer")
			}
			for i := range running {
				running[i].leave()
				running[i] = w.start(fmt.Sprint("old", i), classicKind, cooperative)
				w.settled([]string{"Consumer", "Consumer", "Classic"}[i])
			}
			w.end(running)
		})
	}
}

// TestMigrationSimulation has consumers of both kinds come and go while the power
// is cut now and then.
func TestMigrationSimulation(t *testing.T) {
	for seed := uint64(1); seed <= *seedsFlag; seed++ {
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		synctest.Test(t, func(t *testing.T) { migrate(t, seed) })
		if *seedFlag != 0 {
			return
		}
	}
}

func migrate(t *testing.T, seed uint64) {
	w := newConsumers(t, seed)
	var running []*fake
	made := 0
	add := func() {
		made++
		kind := []string{classicKind, kip848Kind}[w.rnd.IntN(2)]
		running = append(running, w.start(fmt.Sprint(kind, made), kind, w.rnd.IntN(2) == 0))
	}
	for range 60 {
		switch n := w.rnd.IntN(10); {
		case len(running) == 0 || n < 3 && len(running) < 5:
			add()
		case n < 6:
			i := w.rnd.IntN(len(running))
			running[i].leave()
			running = slices.Delete(running, i, i+1)
		case n == 6:
			w.mu.Lock()
			w.tell("the power is cut")
			w.r = w.r.crash(seed)
			w.mu.Unlock()
		default:
			time.Sleep(time.Duration(w.rnd.IntN(4000)) * time.Millisecond)
		}
	}
	if len(running) == 0 {
		add()
	}
	kind := "Classic"
	for _, f := range running {
		if f.kind == kip848Kind {
			kind = "Consumer"
		}
	}
	w.settled(kind)
	w.end(running)
}

// A static member takes its partitions with it when it changes its protocol, and
// who it was before is fenced (KIP-345).
func TestStaticMemberMigrates(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		instance := "i"
		join := func(id string) *kmsg.JoinGroupResponse {
			q := r.joinRequest("g", id, time.Minute)
			q.InstanceID = &instance
			return r.c.JoinGroup(ctx, r.cl, q)
		}
		sync := func(m member, all ...kmsg.SyncGroupRequestGroupAssignment) *kmsg.SyncGroupResponse {
			q := kmsg.NewPtrSyncGroupRequest()
			q.Version, q.Group, q.MemberID, q.Generation, q.InstanceID, q.GroupAssignment = 5, "g", m.id, m.generation, &instance, all
			return r.c.SyncGroup(ctx, r.cl, q)
		}
		heartbeat848 := func(id string, epoch int32) *kmsg.ConsumerGroupHeartbeatResponse {
			q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			q.Version, q.Group, q.MemberID, q.MemberEpoch, q.InstanceID = 1, "g", id, epoch, &instance
			if epoch == 0 {
				q.RebalanceTimeoutMillis, q.SubscribedTopicNames, q.Topics = 60_000, []string{"a"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			}
			return r.c.ConsumerGroupHeartbeat(ctx, r.cl, q)
		}
		led := func() member { // a classic group of this member
			t.Helper()
			a := join("")
			if a.ErrorCode == 0 && a.LeaderID == "" { // into a group of KIP-848, which it ends
				if s := sync(member{id: a.MemberID, generation: a.Generation}); s.ErrorCode != 27 {
					t.Errorf("sync while the group changes: %+v", s)
				}
				a = join(a.MemberID)
			}
			if a.ErrorCode != 0 || a.LeaderID != a.MemberID {
				t.Fatalf("join: %+v", a)
			}
			m := member{id: a.MemberID, generation: a.Generation, instance: instance}
			if s := sync(m, assign(a.Members)...); s.ErrorCode != 0 {
				t.Fatalf("sync: %+v", s)
			}
			return m
		}
		old := led()
		if code := r.commitAs(old, "g", offsets{"a/0": 5}); code != 0 {
			t.Fatal(code)
		}
		a := heartbeat848("k", 0)
		if a.ErrorCode != 0 || a.Assignment == nil || len(a.Assignment.Topics) != 1 || len(a.Assignment.Topics[0].Partitions) != 4 {
			t.Fatalf("it is not given all at once: %+v", a)
		}
		if s := sync(old); s.ErrorCode != 82 {
			t.Errorf("the member that it was: %+v", s)
		}
		r = r.crash(1)
		r.has("g", offsets{"a/0": 5})
		if b := heartbeat848("k", a.MemberEpoch); b.ErrorCode != 0 {
			t.Errorf("after a crash: %+v", b)
		}
		if all := r.listed(nil, nil); fmt.Sprint(all) != "[g Consumer Stable]" {
			t.Errorf("listed: %v", all)
		}
		again := led()
		if b := heartbeat848("k", a.MemberEpoch); b.ErrorCode != codeGroupIDNotFound {
			t.Errorf("the member that it was: %+v", b)
		}
		r = r.crash(2)
		if code := r.commitAs(again, "g", offsets{"a/0": 6}); code != 0 {
			t.Errorf("commit after a crash: %d", code)
		}
		if all := r.listed(nil, nil); fmt.Sprint(all) != "[g Classic Stable]" {
			t.Errorf("listed: %v", all)
		}
		r.close()
	})
}
