package classic

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// rig drives one group with a clock of its own.
type rig struct {
	t       testing.TB
	g       *Group
	now     time.Time
	tickets Ticket
	answers map[Ticket]kmsg.Response
	records int
	// generation is the newest that a join was answered with.
	generation int32
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, now: start, answers: map[Ticket]kmsg.Response{}}
	ids := 0
	r.g = New("g", Options{NewMemberID: func(prefix string) string { ids++; return fmt.Sprint(prefix, "-", ids) }})
	return r
}

func (r *rig) take(result Result) {
	for _, a := range result.Answers {
		if r.answers[a.Ticket] != nil {
			r.t.Errorf("ticket %d is answered twice", a.Ticket)
		}
		r.answers[a.Ticket] = a.Response
		if j, ok := a.Response.(*kmsg.JoinGroupResponse); ok && j.ErrorCode == codeNone {
			if j.Generation < r.generation {
				r.t.Errorf("generation %d after %d", j.Generation, r.generation)
			}
			r.generation = j.Generation
		}
	}
	if result.Changed {
		r.records++
		v := r.g.Record()
		var back kmsg.GroupMetadataValue
		if err := back.ReadFrom(v.AppendTo(nil)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// pass lets time go by, and the group do what it asks for.
func (r *rig) pass(d time.Duration) {
	end := r.now.Add(d)
	for {
		at := r.g.Deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		if at.After(r.now) {
			r.now = at
		}
		r.take(r.g.Expire(r.now))
		if next := r.g.Deadline(); !next.IsZero() && !next.After(r.now) {
			r.t.Fatalf("the deadline stays at %v", next)
		}
	}
	r.now = end
}

func joinRequest(member string, instance *string, protocols ...string) *kmsg.JoinGroupRequest {
	q := kmsg.NewPtrJoinGroupRequest()
	q.Version, q.Group, q.MemberID, q.InstanceID, q.ProtocolType = 9, "g", member, instance, "consumer"
	q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = 10_000, 20_000
	for _, p := range protocols {
		q.Protocols = append(q.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: []byte(p)})
	}
	return q
}

func (r *rig) join(q *kmsg.JoinGroupRequest) Ticket {
	r.tickets++
	r.take(r.g.Join(r.now, q, Client{ID: "c"}, r.tickets))
	return r.tickets
}

func (r *rig) joined(t Ticket) *kmsg.JoinGroupResponse {
	r.t.Helper()
	a, ok := r.answers[t].(*kmsg.JoinGroupResponse)
	if !ok {
		r.t.Fatalf("ticket %d has no answer", t)
	}
	return a
}

// member joins as a new member and returns its id and the ticket of its join.
func (r *rig) member(protocols ...string) (string, Ticket) {
	r.t.Helper()
	a := r.joined(r.join(joinRequest("", nil, protocols...)))
	if a.ErrorCode != codeMemberIDRequired || a.MemberID == "" {
		r.t.Fatalf("code %d, member %q", a.ErrorCode, a.MemberID)
	}
	return a.MemberID, r.join(joinRequest(a.MemberID, nil, protocols...))
}

func (r *rig) sync(member string, generation int32, assignments ...string) Ticket {
	q := kmsg.NewPtrSyncGroupRequest()
	q.Version, q.Group, q.MemberID, q.Generation = 5, "g", member, generation
	for i := 0; i < len(assignments); i += 2 {
		q.GroupAssignment = append(q.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: assignments[i], MemberAssignment: []byte(assignments[i+1])})
	}
	r.tickets++
	r.take(r.g.Sync(r.now, q, r.tickets))
	return r.tickets
}

func (r *rig) heartbeat(member string, generation int32) int16 {
	q := kmsg.NewPtrHeartbeatRequest()
	q.MemberID, q.Generation = member, generation
	return r.g.Heartbeat(r.now, q)
}

func TestTwoMembers(t *testing.T) {
	r := newRig(t)
	a, at := r.member("range", "sticky")
	first := r.joined(at)
	if first.ErrorCode != 0 || first.LeaderID != a || len(first.Members) != 1 || *first.Protocol != "range" {
		t.Fatalf("%+v", first)
	}
	if s := r.answers[r.sync(a, first.Generation, a, "all")].(*kmsg.SyncGroupResponse); string(s.MemberAssignment) != "all" {
		t.Fatalf("%+v", s)
	}
	b, bt := r.member("sticky")
	if r.answers[bt] != nil {
		t.Error("the second does not wait for the first")
	}
	if code := r.heartbeat(a, first.Generation); code != codeRebalanceInProgress {
		t.Errorf("heartbeat: %d", code)
	}
	at = r.join(joinRequest(a, nil, "range", "sticky"))
	second := r.joined(at)
	if r.joined(bt).Generation != second.Generation || second.Generation != first.Generation+1 || *second.Protocol != "sticky" ||
		len(second.Members) != 2 || len(r.joined(bt).Members) != 0 {
		t.Fatalf("%+v and %+v", second, r.joined(bt))
	}
	waits := r.sync(b, second.Generation)
	if r.answers[waits] != nil {
		t.Error("the follower has an assignment before the leader has made one")
	}
	r.sync(a, second.Generation, a, "1", b, "2")
	if s := r.answers[waits].(*kmsg.SyncGroupResponse); string(s.MemberAssignment) != "2" {
		t.Errorf("%+v", s)
	}
	for name, code := range map[string]int16{
		"old generation": r.heartbeat(a, first.Generation), "nobody": r.heartbeat("nobody", second.Generation), "fine": r.heartbeat(b, second.Generation),
	} {
		if want := map[string]int16{"old generation": codeIllegalGeneration, "nobody": codeUnknownMemberID}[name]; code != want {
			t.Errorf("heartbeat, %s: %d", name, code)
		}
	}
	if a := r.joined(r.join(joinRequest("", nil, "other"))); a.ErrorCode != codeInconsistentGroupProtocol {
		t.Errorf("no protocol in common: %d", a.ErrorCode)
	}
	r.pass(15 * time.Second) // both are silent
	if r.g.State() != Empty || r.g.Size() != 0 {
		t.Errorf("%s with %d members", r.g.State(), r.g.Size())
	}
}

// TestStaticMember shows KIP-345: a restart is no rebalance, and the old one is
// fenced.
func TestStaticMember(t *testing.T) {
	r := newRig(t)
	instance := "i"
	first := r.joined(r.join(joinRequest("", &instance, "range")))
	old := first.MemberID
	r.sync(old, first.Generation, old, "mine")
	records := r.records
	again := r.joined(r.join(joinRequest("", &instance, "range")))
	if again.Generation != first.Generation || again.MemberID == old || !again.SkipAssignment || r.records != records+1 {
		t.Fatalf("%+v", again)
	}
	if s := r.answers[r.sync(again.MemberID, again.Generation)].(*kmsg.SyncGroupResponse); string(s.MemberAssignment) != "mine" {
		t.Errorf("%+v", s)
	}
	q := kmsg.NewPtrHeartbeatRequest()
	q.MemberID, q.InstanceID, q.Generation = old, &instance, first.Generation
	if code := r.g.Heartbeat(r.now, q); code != codeFencedInstanceID {
		t.Errorf("the old one: %d", code)
	}
}

// TestRestore shows that a group goes on after a restart, and that who does not
// is out in time.
func TestRestore(t *testing.T) {
	r := newRig(t)
	a, at := r.member("range")
	r.sync(a, r.joined(at).Generation, a, "all")
	v := r.g.Record()
	generation := r.joined(at).Generation
	r.g = New("g", Options{})
	r.g.Restore(&v, r.now)
	if code := r.heartbeat(a, generation); code != 0 || r.g.State() != Stable {
		t.Errorf("heartbeat after the restart: %d, %s", code, r.g.State())
	}
	if s := r.answers[r.sync(a, generation)].(*kmsg.SyncGroupResponse); string(s.MemberAssignment) != "all" {
		t.Errorf("%+v", s)
	}
	r.pass(time.Minute)
	if r.g.State() != Empty {
		t.Error(r.g.State())
	}
}

// TestStory has members that come, go, die, are late or slow, and looks after
// what must hold all the time; in the end they settle.
func TestStory(t *testing.T) {
	for seed := range uint64(200) {
		story(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// actor is a client.
type actor struct {
	id         string
	instance   *string
	join, sync Ticket
	generation int32
	leader     bool
	members    []string
	assigned   bool
	dead       bool
	asked      time.Time
}

func story(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	r := newRig(t)
	var actors []*actor
	generation := int32(0)
	act := func(a *actor) {
		switch {
		case a.dead:
		case a.join != 0:
			answer, ok := r.answers[a.join].(*kmsg.JoinGroupResponse)
			if !ok {
				if r.now.Sub(a.asked) > 2*time.Minute {
					t.Errorf("a join has waited %v", r.now.Sub(a.asked))
				}
				return
			}
			a.join = 0
			switch answer.ErrorCode {
			case codeNone:
				a.id, a.generation, a.leader = answer.MemberID, answer.Generation, answer.LeaderID == answer.MemberID
				generation = max(generation, a.generation)
				a.members = nil
				for _, m := range answer.Members {
					a.members = append(a.members, m.MemberID)
				}
				if a.leader && !answer.SkipAssignment && len(a.members) == 0 {
					t.Error("a leader without members")
				}
				var assignments []string
				if a.leader {
					for _, m := range a.members {
						assignments = append(assignments, m, fmt.Sprint(a.generation))
					}
				}
				a.sync, a.asked = r.sync(a.id, a.generation, assignments...), r.now
			case codeMemberIDRequired:
				a.id = answer.MemberID
			case codeUnknownMemberID, codeFencedInstanceID:
				a.id = ""
			case codeRebalanceInProgress:
			default:
				t.Errorf("join: code %d", answer.ErrorCode)
			}
		case a.sync != 0:
			answer, ok := r.answers[a.sync].(*kmsg.SyncGroupResponse)
			if !ok {
				if r.now.Sub(a.asked) > 2*time.Minute {
					t.Errorf("a sync has waited %v", r.now.Sub(a.asked))
				}
				return
			}
			a.sync = 0
			switch answer.ErrorCode {
			case codeNone:
				if got := string(answer.MemberAssignment); got != fmt.Sprint(a.generation) && got != "" {
					t.Errorf("the assignment of generation %s in %d", got, a.generation)
				}
				a.assigned = true
			case codeUnknownMemberID, codeFencedInstanceID:
				a.id = ""
			}
		case !a.assigned:
			a.join, a.asked = r.join(joinRequest(a.id, a.instance, "range")), r.now
		default:
			switch r.heartbeat(a.id, a.generation) {
			case codeNone:
			case codeUnknownMemberID:
				a.id, a.assigned = "", false
			default:
				a.assigned = false
			}
		}
	}
	for step := range 300 {
		switch n := random.IntN(20); {
		case n == 0 && len(actors) < 8:
			a := &actor{}
			if random.IntN(3) == 0 {
				instance := fmt.Sprint("i", len(actors))
				a.instance = &instance
			}
			actors = append(actors, a)
		case n == 1 && len(actors) > 0:
			actors[random.IntN(len(actors))].dead = true
		case n == 2 && len(actors) > 0:
			a := actors[random.IntN(len(actors))]
			if a.id != "" && !a.dead {
				_, result := r.g.Leave(r.now, []kmsg.LeaveGroupRequestMember{{MemberID: a.id, InstanceID: a.instance}})
				r.take(result)
				*a = actor{instance: a.instance, join: a.join, sync: a.sync, asked: a.asked, generation: a.generation}
			}
		case n == 3 && len(actors) > 0: // back, or restarted
			a := actors[random.IntN(len(actors))]
			*a = actor{instance: a.instance}
		default:
			if len(actors) > 0 {
				act(actors[random.IntN(len(actors))])
			}
		}
		if step%3 == 0 {
			r.pass(time.Duration(random.IntN(2000)) * time.Millisecond)
		}
	}
	living := 0
	for range 200 {
		for _, a := range actors {
			act(a)
		}
		r.pass(500 * time.Millisecond)
	}
	for _, a := range actors {
		if a.dead {
			continue
		}
		living++
		if !a.assigned || a.generation != generation {
			t.Errorf("a member of generation %d is not settled in %d: %+v", a.generation, generation, *a)
		}
	}
	if r.g.Size() != living || living > 0 && r.g.State() != Stable {
		t.Errorf("%s with %d members, %d live", r.g.State(), r.g.Size(), living)
	}
}
