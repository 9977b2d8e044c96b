package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/classic"
	"github.com/polylog-mq/polylog/broker/group/consumer"
)

// Consumers move from the classic protocol to that of KIP-848, and back, one by
// one. The first member of KIP-848 makes a group of consumers one of KIP-848, in
// which the others go on with their requests; the last one that leaves makes it
// classic again (group.consumer.migration.policy is bidirectional). Offsets are
// the group's all the while.

// consumerOf is the KIP-848 group of e, which is kept only if somebody joins it,
// and the records that replace a classic one; ok is false if there cannot be one.
// e.mu is held.
func (c *Coordinator) consumerOf(e *entry, now time.Time) (g *consumer.Group, records []consumer.Record, ok bool) {
	switch {
	case e.consumer != nil:
		return e.consumer, nil, true
	case e.share != nil:
		return nil, nil, false
	case e.classic == nil:
		return consumer.New(e.id, c.consumerOptions(e.id)), nil, true
	case e.classic.State() == classic.Empty: // it may change its protocol
		return consumer.New(e.id, c.consumerOptions(e.id)), e.tombstones(), true
	case e.classic.ProtocolType() != "consumer":
		return nil, nil, false
	}
	was := consumer.Classic{Generation: e.classic.Generation()}
	for _, m := range e.classic.Members() {
		was.Members = append(was.Members, consumer.ClassicMember{
			ID: m.ID, Instance: m.Instance, Client: consumer.Client(m.Client),
			Session: m.Session, Rebalance: m.Rebalance, Protocols: m.Protocols, Assignment: m.Assignment,
		})
	}
	if len(was.Members) == 0 { // they do not know yet that they are members
		return consumer.New(e.id, c.consumerOptions(e.id)), e.tombstones(), true
	}
	g, upgrade, ok := consumer.Upgrade(e.id, c.consumerOptions(e.id), now, topics{c}, was)
	return g, append(e.tombstones(), upgrade...), ok
}

// keepConsumer is keep for a KIP-848 group. One whose members all use the classic
// protocol becomes a classic group. e.mu is held.
func (c *Coordinator) keepConsumer(e *entry, now time.Time, records []consumer.Record) (*write, error) {
	if e.consumer.OnlyClassic() {
		tombstones, value, behind := e.consumer.Downgrade(now, topics{c})
		records = append(append(records, tombstones...), consumer.Record{Key: classicKey(e.id), Value: value.AppendTo(nil)})
		e.consumer, e.classic = nil, classic.New(e.id, c.o.Classic)
		e.classic.Restore(&value, now)
		e.classic.Behind(behind)
	}
	e.noteEmpty(now)
	return c.keep(e, records)
}

// joinConsumer answers the JoinGroup of a classic member of a KIP-848 group. It
// takes over e.mu.
func (c *Coordinator) joinConsumer(e *entry, cl Client, r *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	now := c.o.Now()
	joined, records := e.consumer.Join(now, topics{c}, r, consumer.Client{ID: cl.ID, Host: cl.Host})
	w, err := c.keepConsumer(e, now, records)
	c.unlock(e)
	if w != nil {
		err = w.wait()
	}
	switch {
	case err != nil:
		return classic.RefuseJoin(r, codeOf(err), r.MemberID)
	case joined.Code != codeNone:
		return classic.RefuseJoin(r, joined.Code, joined.MemberID)
	}
	a, kind := r.ResponseKind().(*kmsg.JoinGroupResponse), "consumer"
	a.Generation, a.MemberID, a.ProtocolType, a.Protocol = joined.Epoch, joined.MemberID, &kind, &joined.Protocol
	a.Members = []kmsg.JoinGroupResponseMember{} // nobody leads
	return a
}

// syncConsumer answers the SyncGroup of a classic member of a KIP-848 group. It
// takes over e.mu.
func (c *Coordinator) syncConsumer(e *entry, r *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	synced := e.consumer.Sync(c.o.Now(), topics{c}, r)
	w, err := c.keep(e, nil) // what it is told has to be durable
	c.unlock(e)
	if w != nil {
		err = w.wait()
	}
	switch {
	case synced.Code != codeNone:
		return classic.RefuseSync(r, synced.Code)
	case err != nil:
		return classic.RefuseSync(r, codeOf(err))
	}
	a, kind := r.ResponseKind().(*kmsg.SyncGroupResponse), "consumer"
	a.ProtocolType, a.Protocol, a.MemberAssignment = &kind, &synced.Protocol, synced.Assignment
	return a
}

// leaveConsumer answers the LeaveGroup of classic members of a KIP-848 group. It
// takes over e.mu.
func (c *Coordinator) leaveConsumer(e *entry, members []kmsg.LeaveGroupRequestMember) ([]kmsg.LeaveGroupResponseMember, int16) {
	left, records := e.consumer.Leave(members)
	w, err := c.keepConsumer(e, c.o.Now(), records)
	c.unlock(e)
	if w != nil {
		err = w.wait()
	}
	return left, codeOf(err)
}
