package consumer

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"
)

// kinds are the types of records that a group is written in.
type kinds struct{ group, member, target, targetMember, current int16 }

// roster is what consumer and share groups have in common: members, epochs,
// the target assignment, and deadlines. It changes only in apply and erased,
// which Replay and a live call share.
type roster struct {
	id    string
	kinds kinds
	o     Options

	epoch       int32 // raised by whatever changes what members should own
	hash        int64 // of the topics subscribed to, when the epoch was raised
	targetEpoch int32 // the epoch for which targets were computed
	members     map[string]*member
	instances   map[string]string    // member id by instance id
	classics    int                  // how many members use the classic protocol
	owners      map[Partition]string // who holds a partition; nil where several may
	regexes     map[string]*regex    // those that members subscribe to
	initialized []initializedTopic   // what a share group has begun to consume
	others      map[int16]bool       // types of other records that are in the log

	refresh time.Time // when topics are looked at again
	wake    time.Time // no deadline is before it; zero if there is none
	out     []Record  // of the call under way
	dead    bool
}

func newRoster(id string, k kinds, o Options, maxSize int) roster {
	return roster{
		id: id, kinds: k, o: o.withDefaults(maxSize),
		members: map[string]*member{}, instances: map[string]string{},
		regexes: map[string]*regex{}, others: map[int16]bool{},
	}
}

func (o Options) withDefaults(maxSize int) Options {
	orDefault := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	orDefault(&o.SessionTimeout, 45*time.Second)
	orDefault(&o.HeartbeatInterval, 3*time.Second)
	orDefault(&o.WaitingInterval, o.HeartbeatInterval/5)
	orDefault(&o.RefreshInterval, time.Minute)
	orDefault(&o.MinClassicSession, 6*time.Second)
	orDefault(&o.MaxClassicSession, 30*time.Minute)
	if o.MaxSize <= 0 {
		o.MaxSize = maxSize
	}
	if o.NewMemberID == nil {
		o.NewMemberID = randomID
	}
	return o
}

// randomID looks as Kafka's ids do.
func randomID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// take ends a call: its records.
func (r *roster) take() []Record {
	out := r.out
	r.out = nil
	return out
}

// write records a change and applies it.
func (r *roster) write(kind int16, item string, v value) {
	k := key{kind: kind, group: r.id, item: item}
	r.out = append(r.out, newRecord(k, v))
	r.apply(k, v)
}

func (r *roster) erase(kind int16, item string) {
	k := key{kind: kind, group: r.id, item: item}
	r.out = append(r.out, newRecord(k, nil))
	r.erased(k)
}

// bump raises the group's epoch. Its record goes before all others of the
// call: should only some of them survive, the group computes a new target.
func (r *roster) bump(hash int64) {
	rest := r.out
	r.out = nil
	r.write(r.kinds.group, "", groupValue{epoch: r.epoch + 1, hash: hash})
	r.out = append(r.out, rest...)
}

func (r *roster) member(id string) *member {
	m := r.members[id]
	if m == nil {
		m = &member{id: id}
		r.members[id] = m
	}
	return m
}

func (r *roster) apply(k key, v value) {
	switch v := v.(type) {
	case groupValue:
		r.epoch, r.hash = v.epoch, v.hash
	case targetValue:
		r.targetEpoch = v.epoch
		r.others[k.kind] = true
	case memberValue:
		m := r.member(k.item)
		r.unmap(m)
		m.memberValue = v
		if v.classic != nil {
			r.classics++
		}
		if v.instance != "" {
			r.instances[v.instance] = m.id
		}
	case targetMemberValue:
		r.member(k.item).target = v
	case currentValue:
		m := r.member(k.item)
		r.disown(m)
		m.currentValue = v
		r.own(m)
	case regexValue:
		x := r.regexes[k.item]
		if x == nil {
			x = &regex{}
			r.regexes[k.item] = x
		}
		x.regexValue = v
	case shareStateValue:
		r.initialized = v.topics
		r.others[k.kind] = true
	default: // typeTopics
		r.others[k.kind] = true
	}
}

// erased applies a tombstone.
func (r *roster) erased(k key) {
	m := r.members[k.item]
	switch k.kind {
	case r.kinds.group:
		r.epoch, r.hash = 0, 0
	case r.kinds.target:
		r.targetEpoch = 0
		delete(r.others, k.kind)
	case r.kinds.member:
		if m != nil {
			r.unmap(m)
			r.disown(m)
			delete(r.members, k.item)
		}
	case r.kinds.targetMember:
		if m != nil {
			m.target = nil
		}
	case r.kinds.current:
		if m != nil {
			r.disown(m)
			m.currentValue = currentValue{}
		}
	case typeRegex:
		delete(r.regexes, k.item)
	case typeShareState:
		r.initialized = nil
		delete(r.others, k.kind)
	default:
		delete(r.others, k.kind)
	}
}

func (r *roster) unmap(m *member) {
	if m.classic != nil {
		r.classics--
	}
	if m.instance != "" && r.instances[m.instance] == m.id {
		delete(r.instances, m.instance)
	}
}

func (r *roster) own(m *member) {
	if r.owners == nil {
		return
	}
	for p := range m.assigned {
		r.owners[p] = m.id
	}
	for p := range m.revoking {
		r.owners[p] = m.id
	}
}

// disown leaves alone what another has taken over: in a compacted log that may
// stand before the record which gives it up.
func (r *roster) disown(m *member) {
	if r.owners == nil {
		return
	}
	for p := range m.assigned {
		if r.owners[p] == m.id {
			delete(r.owners, p)
		}
	}
	for p := range m.revoking {
		if r.owners[p] == m.id {
			delete(r.owners, p)
		}
	}
}

// replay applies a record of the log.
func (r *roster) replay(recordKey, recordValue []byte, wanted func(kind int16) bool) error {
	k, err := parseKey(recordKey)
	if err != nil {
		return err
	}
	if k.group != r.id || !wanted(k.kind) {
		return fmt.Errorf("record of type %d of group %q is not one of group %q", k.kind, k.group, r.id)
	}
	if recordValue == nil {
		r.erased(k)
		return nil
	}
	v, err := parseValue(k.kind, recordValue)
	if err != nil {
		return err
	}
	r.apply(k, v)
	return nil
}

// start gives all members a whole session, and those that have to give
// partitions up all the time they have for it.
func (r *roster) start(now time.Time) {
	r.refresh = time.Time{}
	for _, m := range r.members {
		m.session = now.Add(r.sessionOf(m))
		m.rebalance = time.Time{}
		if m.state == unrevoked {
			m.rebalance = now.Add(m.rebalanceTimeout())
		}
	}
	r.reckon()
}

// sessionOf is how long a member may be silent.
func (r *roster) sessionOf(m *member) time.Duration {
	if m.classic != nil {
		return time.Duration(m.classic.sessionMillis) * time.Millisecond
	}
	return r.o.SessionTimeout
}

func (m *member) rebalanceTimeout() time.Duration {
	return time.Duration(max(m.rebalanceTimeoutMillis, 0)) * time.Millisecond
}

// reckon finds the first deadline.
func (r *roster) reckon() {
	r.wake = time.Time{}
	for _, m := range r.members {
		r.soonest(m)
	}
}

// soonest makes the machine wake for the deadlines of m. They may move away
// later without it: it then wakes for nothing, once.
func (r *roster) soonest(m *member) {
	for _, t := range []time.Time{m.session, m.rebalance} {
		if !t.IsZero() && (r.wake.IsZero() || t.Before(r.wake)) {
			r.wake = t
		}
	}
}

// late lists the members one of whose deadlines has passed, in order.
func (r *roster) late(now time.Time) []*member {
	if r.wake.IsZero() || now.Before(r.wake) {
		return nil
	}
	var all []*member
	for _, m := range r.sorted() {
		if !m.session.IsZero() && !now.Before(m.session) || !m.rebalance.IsZero() && !now.Before(m.rebalance) {
			all = append(all, m)
		}
	}
	return all
}

func (r *roster) sorted() []*member {
	all := make([]*member, 0, len(r.members))
	for _, id := range slices.Sorted(maps.Keys(r.members)) {
		all = append(all, r.members[id])
	}
	return all
}

// remove erases members, and what was recorded for them only. What is
// subscribed to may have changed, which the next heartbeat looks at.
func (r *roster) remove(all ...*member) {
	r.bump(r.hash)
	r.refresh = time.Time{}
	for _, m := range all {
		r.eraseMember(m)
		r.dropRegex(m.regex)
	}
	r.reckon()
}

func (r *roster) eraseMember(m *member) {
	r.erase(r.kinds.current, m.id)
	r.erase(r.kinds.targetMember, m.id)
	r.erase(r.kinds.member, m.id)
}

// topicHash is a hash of the topics that members subscribe to, as far as they
// exist: their names, ids and partitions. It is never zero.
func (r *roster) topicHash(topics Topics) int64 {
	names := map[string]bool{}
	for _, m := range r.members {
		for _, name := range m.topics {
			names[name] = true
		}
	}
	for _, x := range r.regexes {
		for _, name := range x.topics {
			names[name] = true
		}
	}
	h := fnv.New64a()
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if t, ok := topics.Topic(name); ok {
			b = append(appendCompact(b[:0], name), t.ID[:]...)
			_, _ = h.Write(binary.BigEndian.AppendUint32(b, uint32(t.Partitions)))
		}
	}
	return int64(h.Sum64() | 1)
}

// topicsOf are the topics that a member subscribes to and that exist, by id.
func (r *roster) topicsOf(m *member, topics Topics) map[[16]byte]Topic {
	found := map[[16]byte]Topic{}
	add := func(names []string) {
		for _, name := range names {
			if t, ok := topics.Topic(name); ok {
				found[t.ID] = t
			}
		}
	}
	add(m.topics)
	if x := r.regexes[m.regex]; m.regex != "" && x != nil {
		add(x.topics)
	}
	return found
}

func (r *roster) subscribed(topic string) bool {
	for _, m := range r.members {
		if _, ok := slices.BinarySearch(m.topics, topic); ok {
			return true
		}
	}
	for _, x := range r.regexes {
		if _, ok := slices.BinarySearch(x.topics, topic); ok {
			return true
		}
	}
	return false
}

// retarget computes the target of the group's epoch and records what differs
// from the target before.
func (r *roster) retarget(topics Topics, assign assignor) {
	members := r.sorted()
	subscribers := make([]subscriber, 0, len(members))
	for _, m := range members {
		subscribers = append(subscribers, subscriber{
			id: m.id, instance: m.instance, topics: r.topicsOf(m, topics), previous: m.target,
		})
	}
	for i, target := range assign(subscribers) {
		if !slices.Equal(target, members[i].target) {
			r.write(r.kinds.targetMember, members[i].id, targetMemberValue(target))
		}
	}
	r.write(r.kinds.target, "", targetValue{epoch: r.epoch})
}

// delete erases everything.
func (r *roster) delete() []Record {
	for _, m := range r.sorted() {
		r.eraseMember(m)
	}
	for _, x := range slices.Sorted(maps.Keys(r.regexes)) {
		r.erase(typeRegex, x)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.others)) {
		r.erase(kind, "")
	}
	if r.epoch != 0 {
		r.erase(r.kinds.group, "")
	}
	r.dead = true
	r.wake = time.Time{}
	return r.take()
}

func (r *roster) pristine() bool {
	return r.epoch == 0 && len(r.members) == 0 && len(r.regexes) == 0 && len(r.others) == 0
}
