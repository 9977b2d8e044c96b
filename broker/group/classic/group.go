package classic

import (
	"cmp"
	"crypto/rand"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Options are the settings of a group. Zero values stand for the defaults.
type Options struct {
	MinSessionTimeout, MaxSessionTimeout time.Duration // 6 s and 30 min
	// InitialDelay is how long an empty group's first rebalance waits for more
	// members (group.initial.rebalance.delay.ms): 0.
	InitialDelay time.Duration
	MaxSize      int                        // 10,000
	NewMemberID  func(prefix string) string // random
}

func (o Options) withDefaults() Options {
	o.MinSessionTimeout = cmp.Or(o.MinSessionTimeout, 6*time.Second)
	o.MaxSessionTimeout = cmp.Or(o.MaxSessionTimeout, 30*time.Minute)
	o.MaxSize = cmp.Or(o.MaxSize, 10_000)
	if o.NewMemberID == nil {
		o.NewMemberID = func(prefix string) string { return prefix + "-" + rand.Text() }
	}
	return o
}

// The states of a group, as describe says them.
const (
	Empty               = "Empty"
	PreparingRebalance  = "PreparingRebalance"
	CompletingRebalance = "CompletingRebalance"
	Stable              = "Stable"
	Dead                = "Dead"
)

// The error codes that a group answers with.
const (
	codeNone                      int16 = 0
	codeIllegalGeneration         int16 = 22
	codeInconsistentGroupProtocol int16 = 23
	codeUnknownMemberID           int16 = 25
	codeInvalidSessionTimeout     int16 = 26
	codeRebalanceInProgress       int16 = 27
	codeMemberIDRequired          int16 = 79
	codeGroupMaxSizeReached       int16 = 81
	codeFencedInstanceID          int16 = 82
)

// Ticket names a request that waits for its answer. The caller chooses it.
type Ticket uint64

// Answer is what one ticket gets.
type Answer struct {
	Ticket   Ticket
	Response kmsg.Response
}

// Result is what a call leads to.
type Result struct {
	Answers []Answer
	// Changed says that Record has to be durable before the answers are sent.
	Changed bool
}

// Client is who asks, as describe shows it.
type Client struct{ ID, Host string }

// Group is one group.
type Group struct {
	id string
	o  Options

	state        string
	generation   int32
	protocolType string
	protocol     string
	leader       string
	changedAt    time.Time

	members map[string]*member
	static  map[string]string    // instance id → member id
	pending map[string]time.Time // ids that were given out and wait for their join, and until when
	joined  int                  // counts joins, for their order
	until   time.Time            // when the present step of a rebalance ends at the latest
	full    time.Time            // of the initial delay: when it ends though members keep coming
	fresh   bool                 // members came since the initial delay was set
}

// member is one member of the group.
type member struct {
	id                 string
	instance           *string
	client             Client
	session, rebalance time.Duration
	protocols          []kmsg.JoinGroupRequestProtocol
	assignment         []byte
	heard              time.Time
	joinedAt           int
	join, sync         *waiting // nil unless it waits for an answer
	joining            bool     // it has joined the rebalance that is under way
	synced             bool     // it has asked for its assignment in this generation
}

// waiting is a request without its answer.
type waiting struct {
	ticket  Ticket
	version int16
	request kmsg.Request
}

// New makes an empty group.
func New(id string, o Options) *Group {
	return &Group{
		id: id, o: o.withDefaults(), state: Empty,
		members: map[string]*member{}, static: map[string]string{}, pending: map[string]time.Time{},
	}
}

// State is one of the constants.
func (g *Group) State() string { return g.state }

// Size is the number of members.
func (g *Group) Size() int { return len(g.members) }

// ProtocolType is what kind of members it has, "consumer" for consumers; empty
// for a group that has never had any.
func (g *Group) ProtocolType() string { return g.protocolType }

// ChangedAt is since when the group is in its state.
func (g *Group) ChangedAt() time.Time { return g.changedAt }

func (g *Group) become(state string, now time.Time) { g.state, g.changedAt = state, now }

// Deadline is when Expire has to be called, at the latest; zero for never.
func (g *Group) Deadline() time.Time {
	var first time.Time
	note := func(t time.Time) {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	note(g.until)
	for _, m := range g.members {
		if m.expires() {
			note(m.heard.Add(m.session))
		}
	}
	for _, t := range g.pending {
		note(t)
	}
	return first
}

// expires says whether a member's session can end: not while it waits for us.
func (m *member) expires() bool { return m.join == nil && m.sync == nil }

// Expire does what the time asks for.
func (g *Group) Expire(now time.Time) (r Result) {
	for id, t := range g.pending {
		if !now.Before(t) {
			delete(g.pending, id)
		}
	}
	gone := false
	for _, m := range g.inOrder() {
		if m.expires() && !now.Before(m.heard.Add(m.session)) {
			g.remove(m, &r, codeUnknownMemberID)
			gone = true
		}
	}
	if gone {
		g.memberLeft(now, &r)
	}
	if g.until.IsZero() || now.Before(g.until) {
		g.maybeComplete(now, &r)
		return r
	}
	switch g.state {
	case PreparingRebalance:
		if g.fresh && now.Before(g.full) { // members keep coming
			g.fresh = false
			g.until = earlier(now.Add(g.o.InitialDelay), g.full)
			return r
		}
		g.completeJoin(now, &r)
	case CompletingRebalance:
		for _, m := range g.inOrder() {
			if !m.synced {
				g.remove(m, &r, codeUnknownMemberID)
			}
		}
		g.prepare(now, &r)
	}
	return r
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// inOrder are the members in the order in which they joined.
func (g *Group) inOrder() []*member {
	return slices.SortedFunc(maps.Values(g.members), func(a, b *member) int { return a.joinedAt - b.joinedAt })
}

// remove takes a member out; what it waits for is answered with code.
func (g *Group) remove(m *member, r *Result, code int16) {
	g.refuseWaiting(m, r, code)
	delete(g.members, m.id)
	if m.instance != nil && g.static[*m.instance] == m.id {
		delete(g.static, *m.instance)
	}
}

func (g *Group) refuseWaiting(m *member, r *Result, code int16) {
	if m.join != nil {
		r.answer(m.join.ticket, refuseJoin(m.join.request.(*kmsg.JoinGroupRequest), code, m.id))
		m.join = nil
	}
	if m.sync != nil {
		r.answer(m.sync.ticket, refuseSync(m.sync.request.(*kmsg.SyncGroupRequest), code))
		m.sync = nil
	}
}

func (r *Result) answer(t Ticket, response kmsg.Response) {
	r.Answers = append(r.Answers, Answer{t, response})
}

// memberLeft goes on without one or some.
func (g *Group) memberLeft(now time.Time, r *Result) {
	switch g.state {
	case Stable, CompletingRebalance:
		g.prepare(now, r)
	case PreparingRebalance:
		g.maybeComplete(now, r)
	}
}

// prepare begins a rebalance.
func (g *Group) prepare(now time.Time, r *Result) {
	initial := g.state == Empty
	for _, m := range g.members {
		if m.sync != nil {
			r.answer(m.sync.ticket, refuseSync(m.sync.request.(*kmsg.SyncGroupRequest), codeRebalanceInProgress))
			m.sync, m.heard = nil, now
		}
		m.assignment, m.synced = nil, false
	}
	g.become(PreparingRebalance, now)
	timeout := g.rebalanceTimeout()
	g.until, g.full, g.fresh = now.Add(timeout), now.Add(timeout), false
	if initial {
		g.until = earlier(now.Add(g.o.InitialDelay), g.full)
	}
	if !initial || g.o.InitialDelay == 0 {
		g.maybeComplete(now, r)
	}
}

func (g *Group) rebalanceTimeout() (longest time.Duration) {
	for _, m := range g.members {
		longest = max(longest, m.rebalance)
	}
	return longest
}

// maybeComplete ends the wait for members that nobody has to be waited for.
func (g *Group) maybeComplete(now time.Time, r *Result) {
	if g.state != PreparingRebalance || len(g.pending) > 0 || now.Before(g.until) && g.initialWait() {
		return
	}
	for _, m := range g.members {
		if !m.joining {
			return
		}
	}
	g.completeJoin(now, r)
}

// initialWait says whether until is that of the initial delay.
func (g *Group) initialWait() bool {
	return g.generation == 0 && g.o.InitialDelay > 0 && g.until.Before(g.full)
}

// completeJoin begins a generation with those who have joined, and the static
// members who will.
func (g *Group) completeJoin(now time.Time, r *Result) {
	for _, m := range g.inOrder() {
		if !m.joining && m.instance == nil {
			g.remove(m, r, codeUnknownMemberID)
		}
	}
	g.generation++
	g.until = time.Time{}
	if len(g.members) == 0 {
		g.become(Empty, now)
		g.leader, g.protocol = "", ""
		r.Changed = true
		return
	}
	if l := g.members[g.leader]; l == nil || !l.joining {
		g.leader = ""
		for _, m := range g.inOrder() {
			if m.joining {
				g.leader = m.id
				break
			}
		}
	}
	g.protocol = g.vote()
	g.become(CompletingRebalance, now)
	g.until = now.Add(g.rebalanceTimeout())
	for _, m := range g.inOrder() {
		m.joining, m.synced, m.assignment = false, false, nil
		m.heard = now
		if m.join != nil {
			r.answer(m.join.ticket, g.generationFor(m, m.join.request.(*kmsg.JoinGroupRequest), false))
			m.join = nil
		}
	}
}

// generationFor answers a join with the present generation.
func (g *Group) generationFor(m *member, q *kmsg.JoinGroupRequest, skip bool) *kmsg.JoinGroupResponse {
	a := q.ResponseKind().(*kmsg.JoinGroupResponse)
	a.Generation, a.LeaderID, a.MemberID, a.SkipAssignment = g.generation, g.leader, m.id, skip
	protocolType, protocol := g.protocolType, g.protocol
	a.ProtocolType, a.Protocol = &protocolType, &protocol
	a.Members = []kmsg.JoinGroupResponseMember{}
	if g.leader == m.id {
		for _, o := range g.inOrder() {
			x := kmsg.NewJoinGroupResponseMember()
			x.MemberID, x.InstanceID, x.ProtocolMetadata = o.id, o.instance, o.metadata(g.protocol)
			a.Members = append(a.Members, x)
		}
	}
	return a
}

func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

// vote selects the protocol that most members like best of those that all have.
func (g *Group) vote() string {
	common := g.common()
	votes := map[string]int{}
	best := ""
	for _, m := range g.inOrder() {
		for _, p := range m.protocols {
			if common[p.Name] {
				if votes[p.Name]++; best == "" || votes[p.Name] > votes[best] {
					best = p.Name
				}
				break
			}
		}
	}
	return best
}

// common are the protocols that all members have.
func (g *Group) common() map[string]bool {
	counts := map[string]int{}
	for _, m := range g.members {
		for _, p := range m.protocols {
			counts[p.Name]++
		}
	}
	all := map[string]bool{}
	for name, n := range counts {
		all[name] = n >= len(g.members)
		if !all[name] {
			delete(all, name)
		}
	}
	return all
}

// supports says whether a member with protocols fits the others.
func (g *Group) supports(protocolType string, protocols []kmsg.JoinGroupRequestProtocol, without *member) bool {
	others := len(g.members)
	if without != nil {
		others--
	}
	if others == 0 {
		return protocolType != "" && len(protocols) > 0
	}
	if protocolType != g.protocolType {
		return false
	}
	for _, p := range protocols {
		shared := true
		for _, m := range g.members {
			if m != without && m.metadata(p.Name) == nil && !slices.ContainsFunc(m.protocols, func(q kmsg.JoinGroupRequestProtocol) bool { return q.Name == p.Name }) {
				shared = false
				break
			}
		}
		if shared {
			return true
		}
	}
	return false
}

func refuseJoin(q *kmsg.JoinGroupRequest, code int16, memberID string) *kmsg.JoinGroupResponse {
	a := q.ResponseKind().(*kmsg.JoinGroupResponse)
	a.ErrorCode, a.Generation, a.MemberID = code, -1, memberID
	a.Members = []kmsg.JoinGroupResponseMember{}
	if q.Version < 7 {
		none := ""
		a.Protocol = &none
	}
	return a
}

func refuseSync(q *kmsg.SyncGroupRequest, code int16) *kmsg.SyncGroupResponse {
	a := q.ResponseKind().(*kmsg.SyncGroupResponse)
	a.ErrorCode, a.MemberAssignment = code, []byte{}
	return a
}

const maxTimeout = time.Duration(math.MaxInt32) * time.Millisecond

func milliseconds(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }
