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
	// MinSessionTimeout and MaxSessionTimeout bound what members ask for: 6 s
	// and 30 min. Others get INVALID_SESSION_TIMEOUT.
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// InitialDelay is how long an empty group's first rebalance waits for more
	// members (group.initial.rebalance.delay.ms): 0, where Kafka has 3 s.
	InitialDelay time.Duration
	// NewMemberTimeout is how long a new member waits for its first generation
	// before it is taken for gone: 5 min.
	NewMemberTimeout time.Duration
	// MaxSize bounds the members, and the ids that were given out and not used
	// yet: 10,000. More get GROUP_MAX_SIZE_REACHED.
	MaxSize int
	// NewMemberID makes the id of a new member: prefix, a dash, and random text.
	NewMemberID func(prefix string) string
}

func (o Options) withDefaults() Options {
	o.MinSessionTimeout = cmp.Or(o.MinSessionTimeout, 6*time.Second)
	o.MaxSessionTimeout = cmp.Or(o.MaxSessionTimeout, 30*time.Minute)
	o.NewMemberTimeout = cmp.Or(o.NewMemberTimeout, 5*time.Minute)
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
	Dead                = "Dead" // of a group that is not there
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

// Answer is what one ticket gets: a *kmsg.JoinGroupResponse or a
// *kmsg.SyncGroupResponse.
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

func (r *Result) answer(t Ticket, response kmsg.Response) {
	r.Answers = append(r.Answers, Answer{t, response})
}

// Client is who asks, as describe shows it.
type Client struct{ ID, Host string }

// Group is one group.
type Group struct {
	id string
	o  Options

	state        string
	changedAt    time.Time // since when it is in its state
	generation   int32
	protocolType string // what kind of members it has
	protocol     string // of the generation
	leader       string // member id; a member of the group, or ""

	members   map[string]*member
	static    map[string]string // instance id → member id
	pending   map[string]time.Time
	supported map[string]int // how many members have a protocol
	awaiting  int            // members that wait in JoinGroup
	unsynced  int            // members that have not sent SyncGroup in this generation
	joins     int            // for the order of members

	// The step of a rebalance that is under way.
	until     time.Time     // when it ends at the latest; zero if there is none
	initial   bool          // it is the first of an empty group
	remaining time.Duration // by how much newcomers can still prolong it
	fresh     bool          // some came since it was last prolonged

	behind map[string]int32 // what members who come from another protocol take for the generation
	topics map[string]bool  // what consumers subscribe to; nil if not computed
	wake   time.Time        // no deadline is before it; zero for none
}

// member is one member of the group.
type member struct {
	id                 string
	instance           *string
	client             Client
	session, rebalance time.Duration
	protocols          []kmsg.JoinGroupRequestProtocol // in order of preference, each name once
	assignment         []byte
	last               []byte // what it was last assigned, and may have until it is assigned anew
	heard              time.Time
	order              int // its turn among the members
	isNew              bool
	synced             bool
	join, sync         *waiting // nil unless it waits for an answer
}

// waiting is a request without its answer.
type waiting struct {
	ticket  Ticket
	request kmsg.Request
}

// New makes an empty group.
func New(id string, o Options) *Group {
	return &Group{
		id: id, o: o.withDefaults(), state: Empty,
		members: map[string]*member{}, static: map[string]string{}, pending: map[string]time.Time{}, supported: map[string]int{},
	}
}

// State is one of the constants.
func (g *Group) State() string { return g.state }

// Size is the number of members.
func (g *Group) Size() int { return len(g.members) }

// Idle says that there are neither members nor clients that were told to join
// with an id.
func (g *Group) Idle() bool { return len(g.members)+len(g.pending) == 0 }

// Pristine says that nothing was ever recorded of the group.
func (g *Group) Pristine() bool { return g.generation == 0 && g.Idle() }

// ProtocolType is what kind of members it has, "consumer" for consumers; empty
// for a group that has never had any.
func (g *Group) ProtocolType() string { return g.protocolType }

// ChangedAt is since when the group is in its state.
func (g *Group) ChangedAt() time.Time { return g.changedAt }

func (g *Group) become(state string, now time.Time) { g.state, g.changedAt = state, now }

// Deadline is when Expire has to be called, at the latest; zero for never. It
// may be earlier than there is something to do.
func (g *Group) Deadline() time.Time { return g.wake }

// wakeBy has Expire called by then.
func (g *Group) wakeBy(t time.Time) {
	if !t.IsZero() && (g.wake.IsZero() || t.Before(g.wake)) {
		g.wake = t
	}
}

// deadline is when a member is taken for gone; zero while it waits for us.
func (g *Group) deadline(m *member) time.Time {
	switch {
	case m.isNew:
		// It knows no id yet with which it could be heard of.
		return m.heard.Add(g.o.NewMemberTimeout)
	case m.join != nil || m.sync != nil:
		return time.Time{}
	}
	return m.heard.Add(m.session)
}

// listen expects to hear of a member, from now on.
func (g *Group) listen(m *member, now time.Time) {
	m.heard = now
	g.wakeBy(g.deadline(m))
}

// Expire does what the time asks for.
func (g *Group) Expire(now time.Time) (r Result) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	forgotten := false
	for id, t := range g.pending {
		if due(t) {
			delete(g.pending, id)
			forgotten = true
		}
	}
	gone := false
	for _, m := range g.inOrder() {
		if due(g.deadline(m)) {
			g.remove(m, &r, codeUnknownMemberID)
			gone = true
		}
	}
	switch {
	case gone:
		g.memberLeft(now, &r)
	case forgotten:
		g.maybeComplete(now, &r)
	}
	if due(g.until) {
		g.stepEnds(now, &r)
	}

	g.wake = time.Time{}
	g.wakeBy(g.until)
	for _, m := range g.members {
		g.wakeBy(g.deadline(m))
	}
	for _, t := range g.pending {
		g.wakeBy(t)
	}
	return r
}

// inOrder are the members in the order in which they came.
func (g *Group) inOrder() []*member {
	return slices.SortedFunc(maps.Values(g.members), func(a, b *member) int { return a.order - b.order })
}

// remove takes a member out; what it waits for is answered with code.
func (g *Group) remove(m *member, r *Result, code int16) {
	g.refuseWaiting(m, r, code)
	g.count(m.protocols, -1)
	if !m.synced && g.unsynced > 0 {
		g.unsynced--
	}
	delete(g.members, m.id)
	if m.instance != nil && g.static[*m.instance] == m.id {
		delete(g.static, *m.instance)
	}
	if g.leader == m.id {
		g.leader = ""
	}
	g.topics = nil
}

func (g *Group) refuseWaiting(m *member, r *Result, code int16) {
	if m.join != nil {
		r.answer(m.join.ticket, RefuseJoin(m.join.request.(*kmsg.JoinGroupRequest), code, m.id))
		m.join = nil
		g.awaiting--
	}
	if m.sync != nil {
		r.answer(m.sync.ticket, RefuseSync(m.sync.request.(*kmsg.SyncGroupRequest), code))
		m.sync = nil
	}
}

// checkMember says whether id, perhaps of a static member, is one of the group.
func (g *Group) checkMember(id string, instance *string) (*member, int16) {
	if instance != nil {
		switch current, known := g.static[*instance]; {
		case !known:
			return nil, codeUnknownMemberID
		case current != id:
			return nil, codeFencedInstanceID // KIP-345
		}
	}
	m := g.members[id]
	if m == nil {
		return nil, codeUnknownMemberID
	}
	return m, codeNone
}

const maxTimeout = time.Duration(math.MaxInt32) * time.Millisecond

func milliseconds(ms int32) time.Duration { return max(time.Duration(ms)*time.Millisecond, 0) }
