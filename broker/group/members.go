package group

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/classic"
	"github.com/polylog-mq/polylog/broker/group/consumer"
)

// classicOf makes a group a classic one, if it can be. e.mu is held.
func (c *Coordinator) classicOf(e *entry) (code int16) {
	switch {
	case e.classic != nil:
		return codeNone
	case e.share != nil || e.size() > 0:
		return codeInconsistentGroupProtocol
	}
	if e.consumer != nil { // an empty group may change its protocol
		if records := e.consumer.Delete(); len(records) > 0 {
			if err := c.append(&write{e: e}, records); err != nil {
				c.broken(e, err)
				return codeOf(err)
			}
		}
		e.consumer = nil
	}
	e.classic = classic.New(e.id, c.o.Classic)
	return codeNone
}

// ticketFor is a new ticket and where its answer comes. e.mu is held.
func (c *Coordinator) ticketFor(e *entry) (classic.Ticket, chan kmsg.Response) {
	t, answer := classic.Ticket(c.ticket.Add(1)), make(chan kmsg.Response, 1)
	e.waiting[t] = answer
	return t, answer
}

// JoinGroup answers JoinGroup 0–9. It waits for the other members.
func (c *Coordinator) JoinGroup(ctx context.Context, cl Client, r *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	if r.Group == "" {
		return classic.RefuseJoin(r, codeInvalidGroupID, r.MemberID)
	}
	e, code := c.lock(r.Group, r.MemberID == "")
	if e == nil {
		if code == codeNone {
			code = codeUnknownMemberID
		}
		return classic.RefuseJoin(r, code, r.MemberID)
	}
	if e.consumer != nil && e.consumer.Size() > 0 {
		return c.joinConsumer(e, cl, r)
	}
	if code := c.classicOf(e); code != codeNone {
		c.unlock(e)
		return classic.RefuseJoin(r, code, r.MemberID)
	}
	t, answer := c.ticketFor(e)
	now := c.o.Now()
	c.settle(e, e.classic.Join(now, r, classic.Client{ID: cl.ID, Host: cl.Host}, t))
	e.noteEmpty(now)
	c.unlock(e)
	if a, ok := c.await(ctx, e, t, answer).(*kmsg.JoinGroupResponse); ok {
		return a
	}
	return classic.RefuseJoin(r, codeCoordinatorNotAvailable, r.MemberID)
}

// SyncGroup answers SyncGroup 0–5. It waits for the leader.
func (c *Coordinator) SyncGroup(ctx context.Context, _ Client, r *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	if r.Group == "" {
		return classic.RefuseSync(r, codeInvalidGroupID)
	}
	e, code := c.lock(r.Group, false)
	if e != nil && e.consumer != nil {
		return c.syncConsumer(e, r)
	}
	if e == nil || e.classic == nil {
		if e != nil {
			c.unlock(e)
		}
		if code == codeNone {
			code = codeUnknownMemberID
		}
		return classic.RefuseSync(r, code)
	}
	t, answer := c.ticketFor(e)
	c.settle(e, e.classic.Sync(c.o.Now(), r, t))
	c.unlock(e)
	if a, ok := c.await(ctx, e, t, answer).(*kmsg.SyncGroupResponse); ok {
		return a
	}
	return classic.RefuseSync(r, codeCoordinatorNotAvailable)
}

// Heartbeat answers Heartbeat 0–4.
func (c *Coordinator) Heartbeat(_ context.Context, _ Client, r *kmsg.HeartbeatRequest) *kmsg.HeartbeatResponse {
	a := r.ResponseKind().(*kmsg.HeartbeatResponse)
	if r.Group == "" {
		a.ErrorCode = codeInvalidGroupID
		return a
	}
	e, code := c.lock(r.Group, false)
	if e != nil {
		defer c.unlock(e)
	}
	switch {
	case code != codeNone:
		a.ErrorCode = code
	case e != nil && e.consumer != nil:
		a.ErrorCode = e.consumer.ClassicHeartbeat(c.o.Now(), topics{c}, r)
	case e == nil || e.classic == nil:
		a.ErrorCode = codeUnknownMemberID
	default:
		a.ErrorCode = e.classic.Heartbeat(c.o.Now(), r)
	}
	return a
}

// LeaveGroup answers LeaveGroup 0–5.
func (c *Coordinator) LeaveGroup(_ context.Context, _ Client, r *kmsg.LeaveGroupRequest) *kmsg.LeaveGroupResponse {
	a := r.ResponseKind().(*kmsg.LeaveGroupResponse)
	if r.Group == "" {
		a.ErrorCode = codeInvalidGroupID
		return a
	}
	members := r.Members
	if r.Version < 3 {
		members = []kmsg.LeaveGroupRequestMember{{MemberID: r.MemberID}}
	}
	e, code := c.lock(r.Group, false)
	switch {
	case code != codeNone:
		a.ErrorCode = code
		return a
	case e == nil:
		a.Members = leftNobody(members)
	case e.consumer != nil:
		a.Members, a.ErrorCode = c.leaveConsumer(e, members)
	case e.classic == nil:
		c.unlock(e)
		a.Members = leftNobody(members)
	default:
		now := c.o.Now()
		left, result := e.classic.Leave(now, members)
		c.settle(e, result)
		e.noteEmpty(now)
		c.unlock(e)
		a.Members = left
		for i := range left {
			if r.Version >= 5 && members[i].Reason != nil {
				c.o.Logger.Debug("member leaves", "group", r.Group, "member", left[i].MemberID, "reason", *members[i].Reason)
			}
		}
	}
	if r.Version < 3 && a.ErrorCode == codeNone {
		a.ErrorCode = a.Members[0].ErrorCode
	}
	return a
}

// leftNobody answers for a group that is not there.
func leftNobody(members []kmsg.LeaveGroupRequestMember) []kmsg.LeaveGroupResponseMember {
	all := []kmsg.LeaveGroupResponseMember{}
	for _, m := range members {
		x := kmsg.NewLeaveGroupResponseMember()
		x.MemberID, x.InstanceID, x.ErrorCode = m.MemberID, m.InstanceID, codeUnknownMemberID
		all = append(all, x)
	}
	return all
}

// ConsumerGroupHeartbeat answers ConsumerGroupHeartbeat 0–1 (KIP-848).
func (c *Coordinator) ConsumerGroupHeartbeat(_ context.Context, cl Client, r *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	refuse := func(code int16, text string) *kmsg.ConsumerGroupHeartbeatResponse {
		a := r.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
		if a.ErrorCode = code; text != "" {
			a.ErrorMessage = &text
		}
		return a
	}
	if r.Group == "" {
		return refuse(codeInvalidGroupID, "GroupId can't be empty.")
	}
	e, code := c.lock(r.Group, r.MemberEpoch == 0)
	switch {
	case code != codeNone:
		return refuse(code, "")
	case e == nil:
		return refuse(codeGroupIDNotFound, notThatKind(r.Group, nil, "consumer"))
	}
	now := c.o.Now()
	g, records, ok := c.consumerOf(e, now)
	if !ok || e.consumer == nil && r.MemberEpoch != 0 {
		defer c.unlock(e)
		return refuse(codeGroupIDNotFound, notThatKind(r.Group, e, "consumer"))
	}
	result := g.Heartbeat(now, topics{c}, r, consumer.Client{ID: cl.ID, Host: cl.Host})
	if e.consumer == nil && result.Response.ErrorCode != codeNone { // and it stays what it was
		c.unlock(e)
		return result.Response
	}
	if e.classic != nil {
		c.settle(e, e.classic.Dissolve())
		e.classic = nil
	}
	e.consumer = g
	w, err := c.keepConsumer(e, now, append(records, result.Records...))
	c.unlock(e)
	if w != nil {
		err = w.wait()
	}
	if err != nil {
		return refuse(codeOf(err), "")
	}
	return result.Response
}

// ShareGroupHeartbeat answers ShareGroupHeartbeat 1 (KIP-932).
func (c *Coordinator) ShareGroupHeartbeat(_ context.Context, cl Client, r *kmsg.ShareGroupHeartbeatRequest) *kmsg.ShareGroupHeartbeatResponse {
	refuse := func(code int16, text string) *kmsg.ShareGroupHeartbeatResponse {
		a := r.ResponseKind().(*kmsg.ShareGroupHeartbeatResponse)
		if a.ErrorCode = code; text != "" {
			a.ErrorMessage = &text
		}
		return a
	}
	if r.GroupID == "" {
		return refuse(codeInvalidGroupID, "GroupId can't be empty.")
	}
	e, code := c.lock(r.GroupID, r.MemberEpoch == 0)
	switch {
	case code != codeNone:
		return refuse(code, "")
	case e == nil:
		return refuse(codeGroupIDNotFound, notThatKind(r.GroupID, nil, "share"))
	case e.share == nil && (r.MemberEpoch != 0 || !e.blank()):
		defer c.unlock(e)
		return refuse(codeGroupIDNotFound, notThatKind(r.GroupID, e, "share"))
	}
	g := e.share
	if g == nil {
		g = consumer.NewShare(e.id, c.shareOptions(e.id))
	}
	now := c.o.Now()
	result := g.Heartbeat(now, topics{c}, r, consumer.Client{ID: cl.ID, Host: cl.Host})
	if g.Pristine() { // it was refused
		c.unlock(e)
		return result.Response
	}
	e.classic, e.consumer, e.share = nil, nil, g
	w, err := c.keep(e, result.Records)
	e.noteEmpty(now)
	c.unlock(e)
	if w != nil {
		err = w.wait()
	}
	if err != nil {
		return refuse(codeOf(err), "")
	}
	return result.Response
}

// ShareMembers is the number of members of a share group; 0 if there is none.
func (c *Coordinator) ShareMembers(group string) int {
	e, _ := c.lock(group, false)
	if e == nil {
		return 0
	}
	defer c.unlock(e)
	if e.share == nil {
		return 0
	}
	return e.share.Size()
}

// ForgetShare drops topics from what a share group has begun to consume: their
// offsets are deleted. It waits for the disk.
func (c *Coordinator) ForgetShare(group string, topics ...[16]byte) error {
	e, code := c.lock(group, false)
	switch {
	case code != codeNone:
		return fmt.Errorf("forget topics of %q: %w", group, errUnavailable)
	case e == nil:
		return nil
	case e.share == nil:
		c.unlock(e)
		return nil
	}
	w, err := c.keep(e, e.share.Forget(topics...))
	c.unlock(e)
	if w != nil {
		err = w.wait()
	}
	return err
}
