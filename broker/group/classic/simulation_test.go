package classic

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run the simulation with this seed only")
	seedsFlag = flag.Uint64("seeds", 30, "how many simulations to run")
)

// longest is what a client of the simulation asks for at most, as a session or
// rebalance timeout; in version 0 they are one.
const longest = 30 * time.Second

// simulation is a group and clients that join, leave, crash, come late and lose
// requests and answers; the group too may crash, and be restored from what was
// recorded last.
type simulation struct {
	t       *testing.T
	rnd     *rand.Rand
	o       Options
	g       *Group
	now     time.Time
	tickets Ticket
	ids     int
	clients []*client
	asked   map[Ticket]*asked
	record  *kmsg.GroupMetadataValue
	trace   []string

	life      int                         // counts restarts of the group
	highest   int32                       // generation in this life
	leaders   map[int32]string            // client name, by generation of this life
	assigned  map[int32]map[string]string // what the leader said, by generation of this life and who
	completed int                         // generations that became stable
}

// asked is a request that waits for its answer.
type asked struct {
	c     *client
	since time.Time
	life  int
	lost  bool // nobody will hear the answer
}

// client is one that follows the protocol, but for its accidents.
type client struct {
	name       string
	version    int16
	static     bool
	session    time.Duration
	rebalance  time.Duration
	protocols  []string
	topics     string // its metadata
	up         bool
	id         string
	generation int32
	leads      bool
	members    map[string]string // when it leads: who has a member id
	state      int
	ticket     Ticket
	due        time.Time // of its next heartbeat, or of its patience
}

const (
	out = iota
	joining
	syncing
	steady
)

func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		simulate(t, *seedFlag)
		return
	}
	for seed := range *seedsFlag {
		simulate(t, seed+1)
		if t.Failed() {
			return
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	s := &simulation{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), now: start, asked: map[Ticket]*asked{},
		leaders: map[int32]string{}, assigned: map[int32]map[string]string{},
	}
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("seed %d: panic: %v", seed, r)
		}
		if t.Failed() {
			t.Logf("seed %d; the last steps:\n%s", seed, strings.Join(s.trace[max(0, len(s.trace)-60):], "\n"))
		}
	}()
	s.o = Options{NewMemberID: func(prefix string) string { s.ids++; return fmt.Sprintf("%s#%d", prefix, s.ids) }}
	if s.rnd.IntN(3) == 0 {
		s.o.InitialDelay = 3 * time.Second
	}
	s.g = New("group", s.o)
	for i := range 2 + s.rnd.IntN(6) {
		c := &client{
			name: fmt.Sprintf("c%d", i), version: int16(s.rnd.IntN(10)), protocols: []string{"a", "b"},
			session: time.Duration(6+s.rnd.IntN(24)) * time.Second, rebalance: time.Duration(5+s.rnd.IntN(15)) * time.Second,
			topics: "t0",
		}
		if s.rnd.IntN(3) == 0 {
			c.static, c.version = true, int16(5+s.rnd.IntN(5))
		}
		if s.rnd.IntN(2) == 0 {
			slices.Reverse(c.protocols)
		}
		s.clients = append(s.clients, c)
	}
	for range 400 {
		s.accident()
		s.pass(time.Duration(s.rnd.IntN(1500)) * time.Millisecond)
		if t.Failed() {
			return
		}
	}
	s.settle()
	if !t.Failed() {
		s.leaveAll()
	}
}

func (s *simulation) log(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%8s ", s.now.Sub(start))+fmt.Sprintf(format, args...))
}

func (s *simulation) fail(format string, args ...any) {
	s.t.Helper()
	s.log(format, args...)
	s.t.Errorf(format, args...)
}

// accident is something that a client, or the group, does not do every day.
func (s *simulation) accident() {
	c := s.clients[s.rnd.IntN(len(s.clients))]
	switch n := s.rnd.IntN(100); {
	case n < 25:
		if !c.up {
			s.log("%s starts", c.name)
			*c = client{name: c.name, version: c.version, static: c.static, session: c.session, rebalance: c.rebalance, protocols: c.protocols, topics: c.topics, up: true, due: s.now}
		}
	case n < 32:
		if c.up {
			s.log("%s crashes", c.name)
			s.drop(c)
			c.up = false
		}
	case n < 38:
		if c.up && c.id != "" && !c.static {
			s.leave(c)
		}
	case n < 42:
		if c.up {
			c.topics = fmt.Sprintf("t%d", s.rnd.IntN(5))
			s.log("%s subscribes to %s", c.name, c.topics)
			if c.state == steady {
				s.join(c)
			}
		}
	case n < 44:
		if c.state == steady && c.leads {
			s.log("%s wants to assign anew", c.name)
			s.join(c)
		}
	case n < 50:
		if a := s.asked[c.ticket]; a != nil && !a.lost {
			s.log("%s loses its connection", c.name)
			s.drop(c)
			c.due = s.now.Add(time.Duration(s.rnd.IntN(3000)) * time.Millisecond)
		}
	case n < 51:
		s.log("the group crashes")
		s.life++
		s.highest, s.leaders, s.assigned = 0, map[int32]string{}, map[int32]map[string]string{}
		clear(s.asked)
		s.g = New("group", s.o)
		if s.record != nil {
			s.g.Restore(s.record, s.now)
		}
		for _, c := range s.clients { // their connections break
			if c.state == joining || c.state == syncing {
				c.state, c.ticket, c.due = out, 0, s.now
			}
		}
	}
}

// drop has nobody hear the answer that a client waits for.
func (s *simulation) drop(c *client) {
	if a := s.asked[c.ticket]; a != nil {
		a.lost = true
	}
	if c.ticket = 0; c.state == joining || c.state == syncing {
		c.state = out
	}
}

// pass moves the time, in which clients do what they are due to.
func (s *simulation) pass(d time.Duration) {
	end := s.now.Add(d)
	for steps := 0; !s.t.Failed(); steps++ {
		if steps > 10_000 {
			s.fail("time stands still")
			return
		}
		at, turn := end, func() {}
		if w := s.g.Deadline(); !w.IsZero() && w.Before(at) {
			at, turn = w, func() { s.take(s.g.Expire(s.now)) }
		}
		for _, c := range s.clients {
			if c.up && c.ticket == 0 && c.due.Before(at) {
				at, turn = c.due, func() { s.act(c) }
			}
		}
		if at.After(s.now) {
			s.now = at
		}
		if at == end {
			break
		}
		turn()
	}
	for ticket, a := range s.asked {
		// One step of a rebalance, and what a newcomer may prolong it by.
		if bound := longest + time.Second; s.now.Sub(a.since) > bound && a.life == s.life {
			s.fail("ticket %d of %s waits since %v", ticket, a.c.name, a.since.Sub(start))
		}
	}
}

// act is what a client does next.
func (s *simulation) act(c *client) {
	switch c.state {
	case out:
		s.join(c)
	case steady:
		s.heartbeat(c)
	}
}

func (s *simulation) ask(c *client) Ticket {
	s.tickets++
	c.ticket = s.tickets
	s.asked[s.tickets] = &asked{c: c, since: s.now, life: s.life}
	return s.tickets
}

func (s *simulation) join(c *client) {
	q := kmsg.NewPtrJoinGroupRequest()
	q.Version, q.MemberID, q.ProtocolType = c.version, c.id, "consumer"
	if c.static {
		q.InstanceID = &c.name
	}
	q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = int32(c.session.Milliseconds()), int32(c.rebalance.Milliseconds())
	for _, p := range c.protocols {
		q.Protocols = append(q.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: []byte(c.topics)})
	}
	s.log("%s joins as %q", c.name, c.id)
	c.state = joining
	t := s.ask(c)
	s.take(s.g.Join(s.now, q, Client{ID: c.name}, t))
}

func (s *simulation) sync(c *client) {
	q := kmsg.NewPtrSyncGroupRequest()
	q.Version, q.MemberID, q.Generation = min(c.version, 5), c.id, c.generation
	if c.static {
		q.InstanceID = &c.name
	}
	if c.leads {
		said := map[string]string{}
		for id, who := range c.members {
			if s.rnd.IntN(20) == 0 {
				continue // it may forget somebody
			}
			assignment := fmt.Sprintf("%d/%s/%d", c.generation, who, s.rnd.IntN(1000))
			q.GroupAssignment = append(q.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: []byte(assignment)})
			said[who] = assignment
		}
		slices.SortFunc(q.GroupAssignment, func(a, b kmsg.SyncGroupRequestGroupAssignment) int { return cmp.Compare(a.MemberID, b.MemberID) })
		if s.assigned[c.generation] == nil {
			s.assigned[c.generation] = said
			s.completed++
		}
	}
	s.log("%s syncs in generation %d", c.name, c.generation)
	c.state = syncing
	t := s.ask(c)
	s.take(s.g.Sync(s.now, q, t))
}

func (s *simulation) heartbeat(c *client) {
	q := kmsg.NewPtrHeartbeatRequest()
	q.Version, q.MemberID, q.Generation = min(c.version, 4), c.id, c.generation
	if c.static {
		q.InstanceID = &c.name
	}
	code := s.g.Heartbeat(s.now, q)
	s.check()
	s.refused(c, code)
	c.due = s.now.Add(2 * time.Second)
	if code == codeNone && s.g.generation != c.generation {
		s.fail("%s is told that generation %d goes on, it is %d", c.name, c.generation, s.g.generation)
	}
	if code != codeNone {
		s.log("%s hears %d", c.name, code)
		s.join(c)
	}
}

// refused forgets what an error code says is of no use.
func (s *simulation) refused(c *client, code int16) {
	switch code {
	case codeUnknownMemberID, codeFencedInstanceID:
		c.id, c.generation = "", 0
	case codeIllegalGeneration:
		c.generation = 0
	}
}

func (s *simulation) leave(c *client) {
	s.log("%s leaves", c.name)
	s.drop(c)
	l := kmsg.NewLeaveGroupRequestMember()
	l.MemberID = c.id
	if c.static {
		l.InstanceID = &c.name
	}
	c.up, c.state = false, out
	_, r := s.g.Leave(s.now, []kmsg.LeaveGroupRequestMember{l})
	s.take(r)
}

func (s *simulation) check() {
	if err := s.g.consistent(); err != nil {
		s.fail("%v", err)
	}
	if s.g.generation < s.highest {
		s.fail("generation %d after %d", s.g.generation, s.highest)
	}
	s.highest = s.g.generation
}

// take hands answers out; what clients ask next they ask afterwards.
func (s *simulation) take(r Result) {
	if r.Changed {
		v := s.g.Record()
		var copied kmsg.GroupMetadataValue
		if err := copied.ReadFrom(v.AppendTo(nil)); err != nil {
			s.fail("record: %v", err)
		}
		s.record = &copied
	}
	s.check()
	for _, a := range r.Answers {
		asked := s.asked[a.Ticket]
		if asked == nil {
			s.fail("ticket %d is answered twice", a.Ticket)
			return
		}
		delete(s.asked, a.Ticket)
		if asked.lost {
			continue
		}
		c := asked.c
		if c.ticket != a.Ticket {
			continue // it has asked again
		}
		c.ticket, c.state, c.due = 0, out, s.now.Add(50*time.Millisecond)
		switch a := a.Response.(type) {
		case *kmsg.JoinGroupResponse:
			s.joined(c, a)
		case *kmsg.SyncGroupResponse:
			s.synced(c, a)
		}
	}
	for _, c := range s.clients {
		if c.up && c.state == syncing && c.ticket == 0 {
			s.sync(c)
		}
	}
}

func (s *simulation) joined(c *client, a *kmsg.JoinGroupResponse) {
	s.log("%s has joined: code %d, %q in generation %d of %q", c.name, a.ErrorCode, a.MemberID, a.Generation, a.LeaderID)
	s.refused(c, a.ErrorCode)
	if a.ErrorCode == codeMemberIDRequired {
		c.id = a.MemberID
	}
	if a.ErrorCode != codeNone {
		return
	}
	c.id, c.generation, c.leads, c.members = a.MemberID, a.Generation, a.LeaderID == a.MemberID && !a.SkipAssignment, map[string]string{}
	if a.Generation != s.g.generation {
		s.fail("%s is told generation %d, it is %d", c.name, a.Generation, s.g.generation)
	}
	if (a.LeaderID == a.MemberID) != (len(a.Members) > 0) {
		s.fail("%s of leader %s is told of %d members", a.MemberID, a.LeaderID, len(a.Members))
	}
	if c.leads {
		if other, ok := s.leaders[a.Generation]; ok && other != c.name {
			s.fail("%s leads generation %d, and so does %s", c.name, a.Generation, other)
		}
		s.leaders[a.Generation] = c.name
		for _, m := range a.Members {
			if c.members[m.MemberID] = m.MemberID; m.InstanceID != nil {
				c.members[m.MemberID] = *m.InstanceID
			}
		}
		if c.members[c.id] != c.who() {
			s.fail("the leader %s is not among the members", c.name)
		}
	}
	c.state = syncing
}

// who is a client over the generations: a dynamic one is another each time.
func (c *client) who() string {
	if c.static {
		return c.name
	}
	return c.id
}

func (s *simulation) synced(c *client, a *kmsg.SyncGroupResponse) {
	s.log("%s has synced: code %d, %q", c.name, a.ErrorCode, a.MemberAssignment)
	s.refused(c, a.ErrorCode)
	if a.ErrorCode != codeNone {
		return
	}
	c.state, c.due = steady, s.now.Add(2*time.Second)
	want, known := s.assigned[c.generation]
	if !known { // by the record, in a life before this
		if !strings.HasPrefix(string(a.MemberAssignment)+"/", fmt.Sprintf("%d/%s/", c.generation, c.who())) && len(a.MemberAssignment) > 0 {
			s.fail("%s in generation %d is assigned %q", c.name, c.generation, a.MemberAssignment)
		}
		return
	}
	if got := string(a.MemberAssignment); got != want[c.who()] && got != "" {
		s.fail("%s in generation %d is assigned %q, the leader said %q", c.name, c.generation, got, want[c.who()])
	} else if got == "" && want[c.who()] != "" {
		s.fail("%s in generation %d is assigned nothing, the leader said %q", c.name, c.generation, want[c.who()])
	}
}

// settle has no more accidents; then the group must become stable, with those
// who are up and nobody else.
func (s *simulation) settle() {
	s.log("no more accidents")
	for _, c := range s.clients {
		if c.up && c.ticket == 0 && c.state != steady {
			c.state, c.due = out, s.now
		}
	}
	s.pass(4*longest + 6*time.Minute) // an old static one may hold everybody up; a newcomer's hung up join too
	if s.t.Failed() {
		return
	}
	up := 0
	for _, c := range s.clients {
		if !c.up {
			continue
		}
		up++
		if c.state != steady || c.generation != s.g.generation {
			s.fail("%s is in state %d and generation %d of %d", c.name, c.state, c.generation, s.g.generation)
		}
	}
	if want := map[bool]string{true: Stable, false: Empty}[up > 0]; s.g.State() != want || s.g.Size() != up {
		s.fail("the group is %s with %d members, %d are up", s.g.State(), s.g.Size(), up)
	}
	generation := s.g.generation
	if s.pass(time.Minute); s.g.generation != generation {
		s.fail("the group does not rest: generation %d, then %d", generation, s.g.generation)
	}
}

func (s *simulation) leaveAll() {
	for _, c := range s.clients {
		if c.up {
			s.leave(c)
		}
	}
	if s.check(); s.g.State() != Empty || !s.g.Idle() || !s.g.Deadline().IsZero() && len(s.asked) > 0 {
		s.fail("after all have left: %s, %d members", s.g.State(), s.g.Size())
	}
	s.pass(time.Hour)
	if !s.g.Deadline().IsZero() {
		s.fail("an empty group waits for something")
	}
}
