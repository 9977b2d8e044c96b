package classic

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// rig drives a group: it has the clock, and keeps the answers.
type rig struct {
	t       *testing.T
	g       *Group
	now     time.Time
	tickets Ticket
	answers map[Ticket]kmsg.Response
	record  *kmsg.GroupMetadataValue // the last that was to be durable
	ids     int
}

func newRig(t *testing.T, o Options) *rig {
	r := &rig{t: t, now: start, answers: map[Ticket]kmsg.Response{}}
	if o.NewMemberID == nil {
		o.NewMemberID = r.newID
	}
	r.g = New("group", o)
	return r
}

func (r *rig) newID(prefix string) string {
	r.ids++
	return fmt.Sprintf("%s-%d", prefix, r.ids)
}

func (r *rig) take(result Result) {
	r.t.Helper()
	for _, a := range result.Answers {
		if r.answers[a.Ticket] != nil {
			r.t.Fatalf("ticket %d is answered twice", a.Ticket)
		}
		r.answers[a.Ticket] = a.Response
	}
	if result.Changed {
		v := r.g.Record()
		r.record = &v
	}
	r.check()
}

// check compares what the group counts with what there is.
func (r *rig) check() {
	r.t.Helper()
	if err := r.g.consistent(); err != nil {
		r.t.Fatal(err)
	}
}

// consistent compares what the group counts with what there is.
func (g *Group) consistent() error {
	awaiting, unsynced := 0, 0
	supported := map[string]int{}
	first := g.until
	note := func(t time.Time) {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	for id, m := range g.members {
		if id != m.id {
			return fmt.Errorf("member %q is at %q", m.id, id)
		}
		if m.join != nil {
			awaiting++
		}
		if !m.synced {
			unsynced++
		}
		for _, p := range m.protocols {
			supported[p.Name]++
		}
		if m.join != nil && g.state != PreparingRebalance || m.sync != nil && g.state != CompletingRebalance {
			return fmt.Errorf("%s waits while the group is %s", id, g.state)
		}
		note(g.deadline(m))
	}
	for instance, id := range g.static {
		if m := g.members[id]; m == nil || m.instance == nil || *m.instance != instance {
			return fmt.Errorf("instance %q is %q, who is not there", instance, id)
		}
	}
	for _, t := range g.pending {
		note(t)
	}
	rebalanced := g.state == CompletingRebalance || g.state == Stable
	switch {
	case awaiting != g.awaiting:
		return fmt.Errorf("%d are counted as joining, %d are", g.awaiting, awaiting)
	case rebalanced && unsynced != g.unsynced:
		return fmt.Errorf("%d are counted as unsynced, %d are", g.unsynced, unsynced)
	case !maps.Equal(supported, g.supported):
		return fmt.Errorf("protocols are counted as %v, they are %v", g.supported, supported)
	case rebalanced && g.members[g.leader] == nil:
		return fmt.Errorf("%s without a leader", g.state)
	case g.state == Empty && len(g.members) > 0, rebalanced && len(g.members) == 0:
		return fmt.Errorf("%s with %d members", g.state, len(g.members))
	case g.state == PreparingRebalance && g.until.IsZero(), g.state == Empty && !g.until.IsZero():
		return fmt.Errorf("%s until %v", g.state, g.until)
	case !first.IsZero() && (g.wake.IsZero() || g.wake.After(first)):
		return fmt.Errorf("wakes at %v, too late for %v", g.wake, first)
	}
	return nil
}

// pass moves the clock, and calls Expire when the group wants it.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	end := r.now.Add(d)
	for calls := 0; ; calls++ {
		at := r.g.Deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		if calls > 1000 {
			r.t.Fatal("Expire is called again and again")
		}
		if at.After(r.now) {
			r.now = at
		}
		r.take(r.g.Expire(r.now))
	}
	r.now = end
}

// asker is what a member says in a join.
type asker struct {
	id, instance       string
	version            int16
	session, rebalance time.Duration
	kind               string
	protocols          []string // name, or name=metadata
}

func (r *rig) join(a asker) Ticket {
	r.t.Helper()
	q := kmsg.NewPtrJoinGroupRequest()
	q.Version, q.Group, q.MemberID, q.ProtocolType = a.version, "group", a.id, a.kind
	if a.instance != "" {
		q.InstanceID = &a.instance
	}
	if a.version == 0 {
		q.Version = 9
	}
	if a.kind == "" {
		q.ProtocolType = "consumer"
	}
	if a.session == 0 {
		a.session = 10 * time.Second
	}
	if a.rebalance == 0 {
		a.rebalance = time.Minute
	}
	q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = int32(a.session.Milliseconds()), int32(a.rebalance.Milliseconds())
	if a.protocols == nil {
		a.protocols = []string{"range"}
	}
	for _, p := range a.protocols {
		name, metadata, _ := strings.Cut(p, "=")
		q.Protocols = append(q.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: []byte(metadata)})
	}
	r.tickets++
	r.take(r.g.Join(r.now, q, Client{"client", "/host"}, r.tickets))
	return r.tickets
}

func (r *rig) joined(t Ticket) *kmsg.JoinGroupResponse {
	r.t.Helper()
	a, ok := r.answers[t].(*kmsg.JoinGroupResponse)
	if !ok {
		r.t.Fatalf("join %d has no answer", t)
	}
	return a
}

// waits fails if a ticket has an answer.
func (r *rig) waits(tickets ...Ticket) {
	r.t.Helper()
	for _, t := range tickets {
		if a := r.answers[t]; a != nil {
			r.t.Fatalf("ticket %d is answered: %+v", t, a)
		}
	}
}

// refused says that a ticket has an answer with that code.
func (r *rig) refused(t Ticket, code int16) {
	r.t.Helper()
	got := int16(-1)
	switch a := r.answers[t].(type) {
	case *kmsg.JoinGroupResponse:
		got = a.ErrorCode
	case *kmsg.SyncGroupResponse:
		got = a.ErrorCode
	}
	if got != code {
		r.t.Fatalf("ticket %d has code %d, want %d", t, got, code)
	}
}

// known takes a new member through the round for its id.
func (r *rig) known(a asker) asker {
	r.t.Helper()
	first := r.joined(r.join(a))
	if first.ErrorCode != codeMemberIDRequired || first.MemberID == "" {
		r.t.Fatalf("no id is asked for: %+v", first)
	}
	a.id = first.MemberID
	return a
}

func (r *rig) sync(id, instance string, generation int32, assignments ...string) Ticket {
	r.t.Helper()
	q := kmsg.NewPtrSyncGroupRequest()
	q.Version, q.Group, q.MemberID, q.Generation = 5, "group", id, generation
	if instance != "" {
		q.InstanceID = &instance
	}
	for _, a := range assignments {
		member, assignment, _ := strings.Cut(a, "=")
		q.GroupAssignment = append(q.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: member, MemberAssignment: []byte(assignment)})
	}
	r.tickets++
	r.take(r.g.Sync(r.now, q, r.tickets))
	return r.tickets
}

func (r *rig) assigned(t Ticket, want string) {
	r.t.Helper()
	a, ok := r.answers[t].(*kmsg.SyncGroupResponse)
	if !ok || a.ErrorCode != 0 || string(a.MemberAssignment) != want {
		r.t.Fatalf("sync %d is answered %+v, want %q", t, r.answers[t], want)
	}
}

func (r *rig) heartbeat(id, instance string, generation int32) int16 {
	q := kmsg.NewPtrHeartbeatRequest()
	q.Version, q.Group, q.MemberID, q.Generation = 4, "group", id, generation
	if instance != "" {
		q.InstanceID = &instance
	}
	code := r.g.Heartbeat(r.now, q)
	r.check()
	return code
}

func (r *rig) beats(want int16, id string, generation int32) {
	r.t.Helper()
	if code := r.heartbeat(id, "", generation); code != want {
		r.t.Fatalf("heartbeat of %s in generation %d has code %d, want %d", id, generation, code, want)
	}
}

func (r *rig) leave(id, instance string) int16 {
	r.t.Helper()
	l := kmsg.NewLeaveGroupRequestMember()
	l.MemberID = id
	if instance != "" {
		l.InstanceID = &instance
	}
	answers, result := r.g.Leave(r.now, []kmsg.LeaveGroupRequestMember{l})
	r.take(result)
	return answers[0].ErrorCode
}

func (r *rig) state(want string) {
	r.t.Helper()
	if r.g.State() != want {
		r.t.Fatalf("the group is %s, want %s", r.g.State(), want)
	}
}

// stable makes a group of members, the first of which leads, with an assignment
// that names each.
func (r *rig) stable(askers ...asker) (generation int32) {
	r.t.Helper()
	for i := range askers {
		if askers[i].instance == "" && askers[i].id == "" {
			askers[i] = r.known(askers[i])
		}
	}
	var tickets []Ticket
	for range 2 { // the first round completes with the first member alone
		tickets = nil
		for i := range askers {
			tickets = append(tickets, r.join(askers[i]))
			if a, ok := r.answers[tickets[i]].(*kmsg.JoinGroupResponse); ok && a.ErrorCode == 0 {
				askers[i].id = a.MemberID
			} else if askers[i].id == "" {
				for id, m := range r.g.members {
					if m.instance != nil && *m.instance == askers[i].instance {
						askers[i].id = id
					}
				}
			}
		}
	}
	generation = r.joined(tickets[0]).Generation
	var assignments []string
	for _, a := range askers {
		assignments = append(assignments, a.id+"="+a.id)
	}
	for i := range slices.Backward(askers) {
		t := r.sync(askers[i].id, askers[i].instance, generation, assignments...)
		if i > 0 {
			continue
		}
		r.assigned(t, askers[0].id)
	}
	r.state(Stable)
	return generation
}

func TestMemberIDIsRequired(t *testing.T) {
	r := newRig(t, Options{})
	a := r.known(asker{}) // version 4 and above: KIP-394
	r.state(Empty)
	if b := r.join(asker{id: "somebody"}); r.joined(b).ErrorCode != codeUnknownMemberID {
		t.Errorf("an unknown id is answered %+v", r.joined(b))
	}
	if got := r.joined(r.join(a)); got.ErrorCode != 0 || got.MemberID != a.id || got.Generation != 1 || got.LeaderID != a.id {
		t.Errorf("the id is answered %+v", got)
	}

	r = newRig(t, Options{})
	if got := r.joined(r.join(asker{version: 3})); got.ErrorCode != 0 || got.MemberID == "" {
		t.Errorf("version 3 is answered %+v", got)
	}

	r = newRig(t, Options{}) // an id that is not used in time
	a = r.known(asker{session: 10 * time.Second})
	r.pass(10 * time.Second)
	r.refused(r.join(a), codeUnknownMemberID)
	if !r.g.Pristine() || !r.g.Deadline().IsZero() {
		t.Error("a forgotten id leaves something behind")
	}
}

func TestRebalance(t *testing.T) {
	r := newRig(t, Options{})
	a, b := r.known(asker{protocols: []string{"range=a"}}), asker{}
	r.joined(r.join(a))
	b = r.known(asker{protocols: []string{"range=b"}})
	tb := r.join(b)
	r.waits(tb)
	r.beats(codeRebalanceInProgress, a.id, 1)
	ta := r.join(a)
	leader, follower := r.joined(ta), r.joined(tb)
	if leader.Generation != 2 || follower.Generation != 2 || leader.LeaderID != a.id || follower.LeaderID != a.id {
		t.Errorf("leader %+v, follower %+v", leader, follower)
	}
	if len(follower.Members) != 0 || len(leader.Members) != 2 || leader.Members[0].MemberID != a.id || string(leader.Members[1].ProtocolMetadata) != "b" {
		t.Errorf("the leader hears %+v, the follower %+v", leader.Members, follower.Members)
	}
	if *leader.Protocol != "range" || *leader.ProtocolType != "consumer" {
		t.Errorf("protocol %q of %q", *leader.Protocol, *leader.ProtocolType)
	}
	r.state(CompletingRebalance)
	sb := r.sync(b.id, "", 2)
	r.waits(sb)
	r.beats(codeNone, b.id, 2)
	sa := r.sync(a.id, "", 2, a.id+"=one", b.id+"=two", "nobody=three")
	r.assigned(sa, "one")
	r.assigned(sb, "two")
	r.state(Stable)
	if len(r.record.Members) != 2 || r.record.Generation != 2 || *r.record.Leader != a.id {
		t.Errorf("recorded is %+v", r.record)
	}
	r.assigned(r.sync(b.id, "", 2), "two") // again

	r.refused(r.sync(b.id, "", 1), codeIllegalGeneration)
	r.refused(r.sync("nobody", "", 2), codeUnknownMemberID)
	r.beats(codeIllegalGeneration, b.id, 3)
	r.beats(codeUnknownMemberID, "nobody", 2)
	q := kmsg.NewPtrSyncGroupRequest()
	other := "other"
	q.Version, q.MemberID, q.Generation, q.Protocol = 5, b.id, 2, &other
	r.take(r.g.Sync(r.now, q, 1000))
	r.refused(1000, codeInconsistentGroupProtocol)

	// The leader goes: the other one leads, and then nobody is left.
	if code := r.leave(a.id, ""); code != 0 {
		t.Error(code)
	}
	r.refused(r.sync(b.id, "", 2), codeRebalanceInProgress)
	if got := r.joined(r.join(b)); got.Generation != 3 || got.LeaderID != b.id || len(got.Members) != 1 {
		t.Errorf("alone: %+v", got)
	}
	r.record = nil
	if code := r.leave(b.id, ""); code != 0 {
		t.Error(code)
	}
	r.state(Empty)
	if r.record == nil || len(r.record.Members) != 0 || r.record.Generation != 4 || r.record.ProtocolType != "consumer" {
		t.Errorf("empty is recorded as %+v", r.record)
	}
	r.refused(r.join(b), codeUnknownMemberID)
}

// Nobody waits longer than for the longest of the rebalance timeouts.
func TestRebalanceTimeout(t *testing.T) {
	r := newRig(t, Options{})
	askers := []asker{{rebalance: 20 * time.Second}, {rebalance: 30 * time.Second, session: 20 * time.Second}}
	generation := r.stable(askers...)
	a, b := r.g.inOrder()[0].id, r.g.inOrder()[1].id
	c := r.known(asker{})
	tc := r.join(asker{id: c.id, rebalance: 25 * time.Second})
	ta := r.join(asker{id: a, rebalance: 20 * time.Second})
	for range 3 {
		r.pass(10*time.Second - time.Millisecond)
		r.beats(codeRebalanceInProgress, b, generation) // alive, but does not join
		r.waits(ta, tc)
	}
	r.pass(3 * time.Millisecond)
	if got := r.joined(ta); got.Generation != generation+1 || len(got.Members) != 2 {
		t.Errorf("without who did not join: %+v", got)
	}
	r.joined(tc)
	r.beats(codeUnknownMemberID, b, generation)
}

// Who hangs up while it waits for the others has its session from then on, and
// holds nobody up for longer; who has not been told its id is gone at once.
func TestHungUp(t *testing.T) {
	r := newRig(t, Options{})
	r.stable(asker{session: 10 * time.Second}, asker{session: 10 * time.Second})
	a, b := r.g.inOrder()[0].id, r.g.inOrder()[1].id
	ta := r.join(asker{id: a})
	r.pass(3 * time.Second)
	r.take(r.g.HungUp(r.now, ta))
	r.take(r.g.HungUp(r.now, ta)) // nobody waits with it
	r.pass(time.Second)
	tb := r.join(asker{id: b})
	r.waits(tb)
	r.pass(9*time.Second - time.Millisecond)
	r.waits(tb)
	r.pass(2 * time.Millisecond)
	if got := r.joined(tb); len(got.Members) != 1 {
		t.Errorf("without who hung up: %+v", got)
	}

	// While it waits for its assignment.
	c := r.known(asker{})
	tc := r.join(asker{id: c.id})
	tb = r.join(asker{id: b})
	generation := r.joined(tb).Generation
	r.joined(tc)
	ts := r.sync(c.id, "", generation)
	r.take(r.g.HungUp(r.now, ts))
	r.sync(b, "", generation, b+"=b", c.id+"=c")
	r.assigned(r.sync(c.id, "", generation), "c") // it asks again

	// A new one of before there were ids.
	told := r.g.Size()
	tn := r.join(asker{version: 3})
	r.take(r.g.HungUp(r.now, tn))
	if r.g.Size() != told {
		t.Errorf("%d members, want %d", r.g.Size(), told)
	}
}

// Who does not ask for its assignment in time is out, even after the others have
// theirs.
func TestSyncTimeout(t *testing.T) {
	for _, leaderSyncs := range []bool{true, false} {
		r := newRig(t, Options{})
		a, b := asker{rebalance: 20 * time.Second}, asker{rebalance: 20 * time.Second}
		a = r.known(a)
		r.join(a)
		b = r.known(b)
		r.join(b)
		r.joined(r.join(a))
		synced, silent := a.id, b.id
		if !leaderSyncs {
			synced, silent = b.id, a.id
		}
		ticket := r.sync(synced, "", 2, a.id+"=one", b.id+"=two")
		for range 2 {
			r.pass(9 * time.Second)
			r.beats(codeNone, synced, 2)
			r.beats(codeNone, silent, 2)
		}
		r.pass(2 * time.Second)
		if leaderSyncs {
			r.assigned(ticket, "one")
			r.beats(codeRebalanceInProgress, synced, 2)
		} else {
			r.refused(ticket, codeRebalanceInProgress)
		}
		r.beats(codeUnknownMemberID, silent, 2)
		if got := r.joined(r.join(asker{id: synced})); got.LeaderID != synced || got.Generation != 3 {
			t.Errorf("who is left is answered %+v", got)
		}
	}
}

func TestSessionTimeout(t *testing.T) {
	r := newRig(t, Options{})
	askers := []asker{{session: 10 * time.Second}, {session: 20 * time.Second}}
	generation := r.stable(askers...)
	a, b := r.g.inOrder()[0].id, r.g.inOrder()[1].id
	r.pass(9 * time.Second)
	r.beats(codeNone, b, generation)
	r.pass(time.Second)
	r.beats(codeUnknownMemberID, a, generation)
	r.beats(codeRebalanceInProgress, b, generation)
	r.pass(20 * time.Second)
	r.state(Empty)

	for _, d := range []time.Duration{time.Second, time.Hour} {
		r.refused(r.join(asker{session: d}), codeInvalidSessionTimeout)
	}
}

func TestRejoin(t *testing.T) {
	r := newRig(t, Options{})
	askers := []asker{{protocols: []string{"range=a"}}, {protocols: []string{"range=b"}}}
	generation := r.stable(askers...)
	a, b := askers[0], askers[1]
	a.id, b.id = r.g.inOrder()[0].id, r.g.inOrder()[1].id

	if got := r.joined(r.join(b)); got.Generation != generation || len(got.Members) != 0 {
		t.Errorf("a follower that has not changed is answered %+v", got)
	}
	r.state(Stable)
	ta := r.join(a) // a leader wants to assign anew
	r.state(PreparingRebalance)
	again := r.join(a) // on another connection
	r.refused(ta, codeRebalanceInProgress)
	r.waits(again)
	r.joined(r.join(b))
	generation++
	if got := r.joined(again); got.Generation != generation || got.LeaderID != a.id {
		t.Errorf("the leader is answered %+v", got)
	}
	r.state(CompletingRebalance)
	if got := r.joined(r.join(a)); got.Generation != generation || len(got.Members) != 2 { // the answer was lost
		t.Errorf("the leader is answered %+v", got)
	}
	sb := r.sync(b.id, "", generation)
	b.protocols = []string{"range=changed"}
	tb := r.join(b)
	r.refused(sb, codeRebalanceInProgress)
	r.waits(tb)
	if got := r.joined(r.join(a)); got.Generation != generation+1 || string(got.Members[1].ProtocolMetadata) != "changed" {
		t.Errorf("after a change: %+v", got)
	}
	r.joined(tb)
}

func TestVotes(t *testing.T) {
	for _, test := range []struct {
		want    string
		members [][]string
	}{
		{"a", [][]string{{"a", "b"}}},
		{"b", [][]string{{"a", "b"}, {"b", "a"}, {"b", "a"}}},
		{"c", [][]string{{"a", "b", "c"}, {"c", "b"}, {"c", "a"}}},
		{"a", [][]string{{"a", "b"}, {"b", "a"}}},
		{"b", [][]string{{"a", "a", "b"}, {"b"}}}, // named twice counts once
	} {
		r := newRig(t, Options{InitialDelay: time.Second})
		for _, protocols := range test.members {
			r.join(asker{version: 3, protocols: protocols})
		}
		r.pass(time.Minute)
		if got := r.joined(1); *got.Protocol != test.want || len(got.Members) != len(test.members) {
			t.Errorf("%v: %q of %d members, want %q", test.members, *got.Protocol, len(got.Members), test.want)
		}
	}
}

func TestInconsistentProtocols(t *testing.T) {
	r := newRig(t, Options{})
	r.refused(r.join(asker{protocols: []string{}}), codeInconsistentGroupProtocol)
	r.stable(asker{protocols: []string{"a", "b"}}, asker{protocols: []string{"b", "c"}})
	r.refused(r.join(asker{protocols: []string{"a", "c"}}), codeInconsistentGroupProtocol)
	r.refused(r.join(asker{protocols: []string{"b"}, kind: "connect"}), codeInconsistentGroupProtocol)
	r.refused(r.join(asker{protocols: []string{"c"}, id: r.g.inOrder()[0].id}), codeInconsistentGroupProtocol)
	r.known(asker{protocols: []string{"b"}})
	for _, m := range r.g.inOrder() {
		r.leave(m.id, "")
	}
	r.pass(time.Minute)
	r.state(Empty) // so it may become something else
	r.stable(asker{protocols: []string{"v1"}, kind: "connect"})
	if r.g.ProtocolType() != "connect" {
		t.Error(r.g.ProtocolType())
	}
}

// group.initial.rebalance.delay.ms: it begins anew with who comes meanwhile, up
// to the rebalance timeout.
func TestInitialDelay(t *testing.T) {
	r := newRig(t, Options{InitialDelay: 3 * time.Second})
	join := func() Ticket { return r.join(asker{version: 3, rebalance: 10 * time.Second, session: time.Minute}) }
	first := join()
	r.pass(2 * time.Second)
	second := join()
	r.pass(2 * time.Second) // 4 s: prolonged at 3 s
	third := join()
	r.pass(4500 * time.Millisecond)
	r.waits(first, second, third) // 8.5 s: prolonged at 6 s
	r.pass(time.Second)
	for _, ticket := range []Ticket{first, second, third} {
		if got := r.joined(ticket); got.Generation != 1 || got.LeaderID != r.joined(first).MemberID {
			t.Errorf("%+v", got)
		}
	}
	r.pass(time.Hour) // all die
	r.state(Empty)

	var all []Ticket // without end
	for range 12 {
		all = append(all, join())
		r.pass(time.Second)
	}
	if got := r.joined(all[0]); got.Generation != 3 || len(got.Members) != 10 {
		t.Errorf("after the rebalance timeout: generation %d of %d", got.Generation, len(got.Members))
	}
	r.waits(all[10], all[11])
}

func TestMaxSize(t *testing.T) {
	r := newRig(t, Options{MaxSize: 2})
	generation := r.stable(asker{}, asker{instance: "one"})
	r.refused(r.join(asker{version: 3}), codeGroupMaxSizeReached)
	r.refused(r.join(asker{}), codeGroupMaxSizeReached)
	r.refused(r.join(asker{instance: "two"}), codeGroupMaxSizeReached)
	if got := r.joined(r.join(asker{instance: "one"})); got.ErrorCode != 0 || got.Generation != generation {
		t.Errorf("a static member that comes back is answered %+v", got)
	}

	r = newRig(t, Options{MaxSize: 2}) // ids are counted too
	r.known(asker{})
	r.known(asker{})
	r.refused(r.join(asker{}), codeGroupMaxSizeReached)

	// A group that was restored with more: the last to come back stays outside.
	r = newRig(t, Options{})
	r.stable(asker{}, asker{}, asker{})
	ids := r.g.inOrder()
	record := r.record
	r.g = New("group", Options{MaxSize: 2, NewMemberID: r.newID})
	r.g.Restore(record, r.now)
	first, second := r.join(asker{id: ids[0].id}), r.join(asker{id: ids[1].id})
	r.refused(r.join(asker{id: ids[2].id}), codeGroupMaxSizeReached)
	if got := r.joined(first); len(got.Members) != 2 {
		t.Errorf("%+v", got)
	}
	r.joined(second)
}

func TestLeave(t *testing.T) {
	r := newRig(t, Options{})
	r.stable(asker{}, asker{instance: "one"}, asker{instance: "two"})
	one, two := r.g.static["one"], r.g.static["two"]
	for _, test := range []struct {
		id, instance string
		want         int16
	}{
		{"nobody", "", codeUnknownMemberID},
		{"", "", codeUnknownMemberID},
		{"", "three", codeUnknownMemberID},
		{two, "one", codeFencedInstanceID},
		{one, "three", codeUnknownMemberID},
		{"", "one", codeNone}, // by an administrator
		{two, "two", codeNone},
	} {
		if got := r.leave(test.id, test.instance); got != test.want {
			t.Errorf("%q as %q leaves with code %d, want %d", test.id, test.instance, got, test.want)
		}
	}
	if r.g.Size() != 1 {
		t.Errorf("%d are left", r.g.Size())
	}

	// An id that was given out holds a rebalance up until it is given back.
	r = newRig(t, Options{})
	a := r.known(asker{})
	r.joined(r.join(a))
	b, c := r.known(asker{}), r.known(asker{})
	tb := r.join(b)
	ta := r.join(a)
	r.waits(ta, tb)
	if code := r.leave(c.id, ""); code != 0 {
		t.Error(code)
	}
	if got := r.joined(ta); len(got.Members) != 2 {
		t.Errorf("%+v", got)
	}
}

func TestStaticMember(t *testing.T) {
	for _, version := range []int16{5, 8, 9} {
		r := newRig(t, Options{})
		one, two := asker{instance: "one", version: version, protocols: []string{"range=old"}}, asker{instance: "two", version: version}
		generation := r.stable(one, two)
		was, other := r.g.static["one"], r.g.static["two"]
		leads := r.g.leader == was
		if !leads {
			t.Fatal("the first does not lead")
		}
		r.record = nil
		one.protocols = []string{"range=new"}
		got := r.joined(r.join(one))
		is := r.g.static["one"]
		if got.ErrorCode != 0 || got.Generation != generation || got.MemberID != is || is == was {
			t.Errorf("version %d: who comes back is answered %+v", version, got)
		}
		if version >= 9 {
			if !got.SkipAssignment || got.LeaderID != is || len(got.Members) != 2 { // KIP-814
				t.Errorf("version %d: a leader that comes back is answered %+v", version, got)
			}
		} else if got.SkipAssignment || got.LeaderID != was || len(got.Members) != 0 {
			t.Errorf("version %d: a leader that comes back is answered %+v", version, got)
		}
		r.state(Stable)
		if r.record == nil || r.record.Members[0].MemberID != is || string(r.record.Members[0].Assignment) != was || string(r.record.Members[0].Subscription) != "new" {
			t.Errorf("recorded is %+v", r.record)
		}
		r.assigned(r.sync(is, "one", generation), was) // what the one before it had
		if code := r.heartbeat(is, "one", generation); code != 0 {
			t.Error(code)
		}
		if code := r.heartbeat(other, "two", generation); code != 0 {
			t.Errorf("the other one notices: %d", code)
		}
		// The one before it is fenced, whatever it does.
		if code := r.heartbeat(was, "one", generation); code != codeFencedInstanceID {
			t.Errorf("heartbeat: %d", code)
		}
		r.refused(r.sync(was, "one", generation), codeFencedInstanceID)
		r.refused(r.join(asker{id: was, instance: "one", version: version}), codeFencedInstanceID)
		if code := r.leave(was, "one"); code != codeFencedInstanceID {
			t.Errorf("leave: %d", code)
		}
		instance := "one"
		if code := r.g.CheckCommit(r.now, was, &instance, generation, false); code != codeFencedInstanceID {
			t.Errorf("commit: %d", code)
		}
	}
}

func TestStaticMemberInRebalance(t *testing.T) {
	// While it waits.
	r := newRig(t, Options{})
	r.stable(asker{}, asker{instance: "one"})
	dynamic := r.g.inOrder()[0].id
	r.join(asker{id: dynamic}) // leads
	waiting := r.join(asker{id: r.g.static["one"], instance: "one"})
	_ = waiting
	r.state(CompletingRebalance)
	synced := r.sync(r.g.static["one"], "one", r.g.generation)
	t1 := r.join(asker{instance: "one"}) // the leader may assign to the one before it
	r.refused(synced, codeFencedInstanceID)
	r.state(PreparingRebalance)
	t2 := r.join(asker{instance: "one"})
	r.refused(t1, codeFencedInstanceID)
	r.joined(r.join(asker{id: dynamic}))
	if got := r.joined(t2); got.ErrorCode != 0 || got.MemberID != r.g.static["one"] {
		t.Errorf("%+v", got)
	}

	// The protocol would be another.
	r = newRig(t, Options{})
	r.stable(asker{instance: "one", protocols: []string{"a", "b"}}, asker{instance: "two", protocols: []string{"b", "a"}}, asker{instance: "three", protocols: []string{"a", "b"}})
	r.join(asker{instance: "one", protocols: []string{"b", "a"}})
	r.state(PreparingRebalance)
}

// A static member keeps its place over a rebalance that it misses, as long as
// its session lasts.
func TestStaticMemberMissesRebalance(t *testing.T) {
	r := newRig(t, Options{})
	r.stable(asker{rebalance: 10 * time.Second, session: 30 * time.Minute}, asker{instance: "one", session: time.Minute, rebalance: 10 * time.Second})
	dynamic, static := r.g.inOrder()[0].id, r.g.static["one"]
	ticket := r.join(asker{id: dynamic, rebalance: 10 * time.Second, session: 30 * time.Minute})
	r.waits(ticket)
	r.pass(10 * time.Second)
	if got := r.joined(ticket); len(got.Members) != 2 || got.Members[1].MemberID != static {
		t.Errorf("without who may come back: %+v", got)
	}

	// Only static ones are left, and none of them comes: no generation of nobody.
	r = newRig(t, Options{})
	generation := r.stable(asker{instance: "one", session: time.Minute, rebalance: 10 * time.Second}, asker{instance: "two", session: time.Minute, rebalance: 10 * time.Second}, asker{rebalance: 10 * time.Second})
	r.leave(r.g.inOrder()[2].id, "")
	r.state(PreparingRebalance)
	r.pass(30 * time.Second)
	r.state(PreparingRebalance)
	if r.g.generation != generation || r.g.Size() != 2 {
		t.Errorf("generation %d of %d", r.g.generation, r.g.Size())
	}
	ticket = r.join(asker{instance: "one", rebalance: 10 * time.Second})
	r.waits(ticket)
	r.pass(10 * time.Second)
	if got := r.joined(ticket); got.Generation != generation+1 || got.LeaderID != r.g.static["one"] {
		t.Errorf("%+v", got)
	}
	r.pass(10 * time.Minute)
	r.state(Empty)
}

// A client that hangs up while it waits for its first generation is not a
// member for ever.
func TestNewMemberTimeout(t *testing.T) {
	r := newRig(t, Options{})
	r.stable(asker{session: 30 * time.Minute, rebalance: 20 * time.Minute})
	member := r.g.inOrder()[0].id
	ticket := r.join(asker{version: 3, rebalance: 20 * time.Minute})
	r.pass(5*time.Minute - time.Second)
	r.waits(ticket)
	r.pass(time.Second)
	r.refused(ticket, codeUnknownMemberID)
	if got := r.joined(r.join(asker{id: member})); len(got.Members) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestCheckCommit(t *testing.T) {
	r := newRig(t, Options{})
	instance := "one"
	check := func(name string, want int16, id string, instance *string, generation int32, transactional bool) {
		t.Helper()
		if got := r.g.CheckCommit(r.now, id, instance, generation, transactional); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	check("nobody, empty", codeNone, "", nil, -1, false)
	check("somebody without generation, empty", codeNone, "somebody", nil, -1, false)
	check("somebody, empty", codeUnknownMemberID, "somebody", nil, 1, false)
	generation := r.stable(asker{}, asker{instance: instance})
	member, static := r.g.inOrder()[0].id, r.g.static[instance]
	check("nobody", codeUnknownMemberID, "", nil, -1, false)
	check("nobody, transactional", codeNone, "", nil, -1, true)
	check("member", codeNone, member, nil, generation, false)
	check("member of the past", codeIllegalGeneration, member, nil, generation-1, false)
	check("member without generation", codeIllegalGeneration, member, nil, -1, true)
	check("static", codeNone, static, &instance, generation, true)
	check("fenced", codeFencedInstanceID, member, &instance, generation, false)
	check("stranger", codeUnknownMemberID, "stranger", nil, generation, false)
	r.pass(9 * time.Second)
	check("as a heartbeat", codeNone, member, nil, generation, false)
	r.pass(9 * time.Second) // the static one is out
	check("while others join", codeNone, member, nil, generation, false)
	r.join(asker{id: member})
	r.state(CompletingRebalance)
	check("before sync", codeRebalanceInProgress, member, nil, generation+1, false)
	check("before sync, transactional", codeNone, member, nil, generation+1, true)
}

func TestRestore(t *testing.T) {
	r := newRig(t, Options{})
	generation := r.stable(asker{protocols: []string{"range=a", "sticky=b"}, session: 20 * time.Second}, asker{instance: "one"})
	before := r.g.Describe()
	bytes := r.record.AppendTo(nil)
	var v kmsg.GroupMetadataValue
	if err := v.ReadFrom(bytes); err != nil {
		t.Fatal(err)
	}
	r.pass(time.Hour)
	r.g = New("group", Options{NewMemberID: r.newID})
	r.g.Restore(&v, r.now)
	r.check()
	bytesOf := func(g kmsg.DescribeGroupsResponseGroup) string {
		return string((&kmsg.DescribeGroupsResponse{Version: 6, Groups: []kmsg.DescribeGroupsResponseGroup{g}}).AppendTo(nil))
	}
	if after := r.g.Describe(); bytesOf(after) != bytesOf(before) {
		t.Errorf("restored is\n%+v, was\n%+v", after, before)
	}
	member, static := r.g.inOrder()[0].id, r.g.static["one"]
	r.pass(19 * time.Second) // a whole session from the start on; the other one has 10 s
	r.beats(codeRebalanceInProgress, member, generation)
	if code := r.heartbeat(static, "one", generation); code != codeUnknownMemberID {
		t.Error(code)
	}
	if got := r.joined(r.join(asker{id: member})); got.Generation != generation+1 {
		t.Errorf("generations do not go on: %+v", got)
	}

	// An empty group remembers since when.
	r.leave(member, "")
	v = *r.record
	since := r.now
	r.pass(time.Hour)
	r.g.Restore(&v, r.now)
	if r.state(Empty); !r.g.ChangedAt().Equal(since) || r.g.Pristine() {
		t.Errorf("empty since %v, want %v", r.g.ChangedAt(), since)
	}

	// Kafka's first version knows neither rebalance timeouts nor when.
	v = kmsg.GroupMetadataValue{Version: 0, ProtocolType: "consumer", Generation: 5, Protocol: v.Protocol}
	v.Members = []kmsg.GroupMetadataValueMember{{MemberID: "m", SessionTimeoutMillis: 10_000, Subscription: []byte("s"), Assignment: []byte("a")}}
	leader := "m"
	v.Leader = &leader
	r.g.Restore(&v, r.now)
	if r.state(Stable); r.g.rebalanceTimeout() != 10*time.Second || !r.g.ChangedAt().Equal(r.now) {
		t.Errorf("an old record is restored as %+v", r.g)
	}

	// Members that nobody leads come from another protocol: they join again.
	v.Leader = nil
	r.g.Restore(&v, r.now)
	r.state(PreparingRebalance)
	r.beats(codeRebalanceInProgress, "m", 5)
	r.beats(codeIllegalGeneration, "m", 4)
	r.g.Behind(map[string]int32{"m": 4})
	r.beats(codeRebalanceInProgress, "m", 4)
	r.beats(codeIllegalGeneration, "m", 3)
	for generation, want := range map[int32]int16{3: codeIllegalGeneration, 4: codeNone, 5: codeNone} {
		if code := r.g.CheckCommit(r.now, "m", nil, generation, false); code != want {
			t.Errorf("commit at %d: %d", generation, code)
		}
	}
	if all := r.g.Members(); len(all) != 1 || string(all[0].Assignment) != "a" {
		t.Errorf("members: %+v", all)
	}
	if got := r.joined(r.join(asker{id: "m", protocols: []string{""}})); got.Generation != 6 {
		t.Errorf("it joins: %+v", got)
	}
	r.beats(codeIllegalGeneration, "m", 4) // it knows better by now
}

// What could not be recorded is assigned anew.
func TestFailed(t *testing.T) {
	r := newRig(t, Options{})
	generation := r.stable(asker{})
	member := r.g.inOrder()[0].id
	r.take(r.g.Failed(r.now))
	r.beats(codeRebalanceInProgress, member, generation)
	r.joined(r.join(asker{id: member}))
	r.leave(member, "")
	r.take(r.g.Failed(r.now))
	r.state(Empty)
}

func TestDescribe(t *testing.T) {
	r := newRig(t, Options{})
	if d := r.g.Describe(); d.State != Empty || d.Group != "group" || d.Members == nil {
		t.Errorf("%+v", d)
	}
	r.stable(asker{instance: "one", protocols: []string{"range=sub"}})
	d := r.g.Describe()
	if d.State != Stable || d.Protocol != "range" || d.ProtocolType != "consumer" || len(d.Members) != 1 {
		t.Fatalf("%+v", d)
	}
	m := d.Members[0]
	if m.MemberID != r.g.static["one"] || *m.InstanceID != "one" || m.ClientID != "client" || m.ClientHost != "/host" || string(m.ProtocolMetadata) != "sub" || string(m.MemberAssignment) != m.MemberID {
		t.Errorf("%+v", m)
	}
	r.join(asker{instance: "two"})
	if d = r.g.Describe(); d.State != PreparingRebalance || d.Protocol != "" || len(d.Members) != 2 || len(d.Members[0].ProtocolMetadata) != 0 {
		t.Errorf("while rebalancing: %+v", d)
	}
}

func TestSubscribed(t *testing.T) {
	r := newRig(t, Options{})
	metadata := func(topics ...string) string {
		m := kmsg.NewConsumerMemberMetadata()
		m.Version, m.Topics = 1, topics
		return "range=" + string(m.AppendTo(nil))
	}
	is := func(topic string, want bool) {
		t.Helper()
		if r.g.Subscribed(topic) != want {
			t.Errorf("subscribed to %q: %t", topic, !want)
		}
	}
	is("a", false)
	r.stable(asker{protocols: []string{metadata("a", "b")}}, asker{protocols: []string{metadata("c")}})
	is("a", true)
	is("c", true)
	is("d", false)
	r.leave(r.g.inOrder()[1].id, "")
	is("c", false)
	r.join(asker{id: r.g.inOrder()[0].id, protocols: []string{"range=!"}})
	is("d", true) // who knows
}

// Every version of every answer can be sent.
func TestVersions(t *testing.T) {
	for version := range int16(10) {
		q := kmsg.NewPtrJoinGroupRequest()
		q.Version = version
		for _, a := range []*kmsg.JoinGroupResponse{RefuseJoin(q, codeUnknownMemberID, "m"), newRig(t, Options{}).g.generationFor(&member{id: "m"}, q, false)} {
			back := kmsg.NewPtrJoinGroupResponse()
			back.Version = version
			if err := back.ReadFrom(a.AppendTo(nil)); err != nil || back.MemberID != "m" || back.ErrorCode != a.ErrorCode {
				t.Errorf("version %d: %+v, %v", version, back, err)
			}
		}
	}
	// Version 0 has no rebalance timeout: it is the session's.
	r := newRig(t, Options{})
	q := kmsg.NewPtrJoinGroupRequest()
	q.Version, q.ProtocolType, q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = 0, "consumer", 12_000, -1
	q.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	r.take(r.g.Join(r.now, q, Client{}, 1))
	if r.g.rebalanceTimeout() != 12*time.Second {
		t.Error(r.g.rebalanceTimeout())
	}
}
