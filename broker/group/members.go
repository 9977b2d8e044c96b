package group

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/classic"
	"github.com/polylog-mq/polylog/broker/group/consumer"
	"github.com/polylog-mq/polylog/destination"
)

// codeOf is the code of what kept a record from being written.
func codeOf(err error) int16 {
	switch {
	case err == nil:
		return codeNone
	case errors.Is(err, destination.ErrProducerFenced):
		return 47 // INVALID_PRODUCER_EPOCH
	case errors.Is(err, destination.ErrInvalidTxnState):
		return 48
	}
	return codeCoordinatorNotAvailable
}

// classicOf makes a group a classic one, if it can be. e.mu is held.
func (c *Coordinator) classicOf(e *entry) (code int16) {
	switch {
	case e.classic != nil:
		return codeNone
	case e.size() > 0 || e.share != nil:
		return codeInconsistentGroupProtocol
	}
	if e.consumer != nil { // an empty group may change its protocol
		c.keep(e, e.consumer.Delete())
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
	refuse := func(code int16) *kmsg.JoinGroupResponse {
		a := r.ResponseKind().(*kmsg.JoinGroupResponse)
		a.ErrorCode, a.Generation, a.MemberID = code, -1, r.MemberID
		return a
	}
	if r.Group == "" {
		return refuse(codeInvalidGroupID)
	}
	e := c.lock(r.Group, r.MemberID == "")
	if e == nil {
		return refuse(codeUnknownMemberID)
	}
	if code := c.classicOf(e); code != codeNone {
		e.mu.Unlock()
		return refuse(code)
	}
	t, answer := c.ticketFor(e)
	now := c.o.Now()
	c.settle(e, e.classic.Join(now, r, classic.Client{ID: cl.ID, Host: cl.Host}, t))
	c.noteEmpty(e, now)
	c.schedule(e)
	e.mu.Unlock()
	if a, ok := wait(ctx, answer).(*kmsg.JoinGroupResponse); ok {
		return a
	}
	return refuse(codeCoordinatorNotAvailable)
}

// SyncGroup answers SyncGroup 0–5. It waits for the leader.
func (c *Coordinator) SyncGroup(ctx context.Context, _ Client, r *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	refuse := func(code int16) *kmsg.SyncGroupResponse {
		a := r.ResponseKind().(*kmsg.SyncGroupResponse)
		a.ErrorCode = code
		return a
	}
	if r.Group == "" {
		return refuse(codeInvalidGroupID)
	}
	e := c.lock(r.Group, false)
	if e == nil {
		return refuse(codeUnknownMemberID)
	}
	if e.classic == nil {
		e.mu.Unlock()
		return refuse(codeUnknownMemberID)
	}
	t, answer := c.ticketFor(e)
	c.settle(e, e.classic.Sync(c.o.Now(), r, t))
	c.schedule(e)
	e.mu.Unlock()
	if a, ok := wait(ctx, answer).(*kmsg.SyncGroupResponse); ok {
		return a
	}
	return refuse(codeCoordinatorNotAvailable)
}

// Heartbeat answers Heartbeat 0–4.
func (c *Coordinator) Heartbeat(_ context.Context, _ Client, r *kmsg.HeartbeatRequest) *kmsg.HeartbeatResponse {
	a := r.ResponseKind().(*kmsg.HeartbeatResponse)
	a.ErrorCode = codeUnknownMemberID
	if r.Group == "" {
		a.ErrorCode = codeInvalidGroupID
		return a
	}
	e := c.lock(r.Group, false)
	if e == nil {
		return a
	}
	defer e.mu.Unlock()
	if e.classic != nil {
		a.ErrorCode = e.classic.Heartbeat(c.o.Now(), r)
		c.schedule(e)
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
	e := c.lock(r.Group, false)
	if e == nil {
		return leftNobody(a, r.Version, members)
	}
	defer e.mu.Unlock()
	if e.classic == nil {
		return leftNobody(a, r.Version, members)
	}
	now := c.o.Now()
	codes, result := e.classic.Leave(now, members)
	c.settle(e, result)
	c.noteEmpty(e, now)
	c.schedule(e)
	if r.Version < 3 {
		a.ErrorCode = codes[0].ErrorCode
	} else {
		a.Members = codes
	}
	return a
}

// leftNobody answers for a group that is not there.
func leftNobody(a *kmsg.LeaveGroupResponse, version int16, members []kmsg.LeaveGroupRequestMember) *kmsg.LeaveGroupResponse {
	if version < 3 {
		a.ErrorCode = codeUnknownMemberID
		return a
	}
	for _, m := range members {
		x := kmsg.NewLeaveGroupResponseMember()
		x.MemberID, x.InstanceID, x.ErrorCode = m.MemberID, m.InstanceID, codeUnknownMemberID
		a.Members = append(a.Members, x)
	}
	return a
}

// ConsumerGroupHeartbeat answers ConsumerGroupHeartbeat 0–1 (KIP-848).
func (c *Coordinator) ConsumerGroupHeartbeat(_ context.Context, cl Client, r *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	refuse := func(code int16) *kmsg.ConsumerGroupHeartbeatResponse {
		a := r.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
		a.ErrorCode = code
		return a
	}
	if r.Group == "" {
		return refuse(codeInvalidGroupID)
	}
	e := c.lock(r.Group, r.MemberEpoch == 0)
	if e == nil {
		return refuse(codeGroupIDNotFound)
	}
	var tombstones []consumer.Record
	if e.consumer == nil {
		switch {
		case e.share != nil, e.size() > 0:
			e.mu.Unlock()
			return refuse(codeInconsistentGroupProtocol)
		case r.MemberEpoch != 0:
			e.mu.Unlock()
			return refuse(codeGroupIDNotFound)
		}
		if e.classic != nil {
			tombstones = e.tombstones()
			e.classic = nil
		}
		e.consumer = consumer.New(e.id, c.o.Consumer)
	}
	now := c.o.Now()
	result := e.consumer.Heartbeat(now, topics{c}, r, consumer.Client{ID: cl.ID, Host: cl.Host})
	done := c.append(e, append(tombstones, result.Records...))
	if e.consumer.Pristine() {
		e.consumer = nil
	}
	c.noteEmpty(e, now)
	c.schedule(e)
	e.mu.Unlock()
	if err := done(); err != nil {
		c.o.Logger.Error("write group", "group", r.Group, "error", err)
		c.reload(e)
		return refuse(codeCoordinatorNotAvailable)
	}
	return result.Response
}

// ShareGroupHeartbeat answers ShareGroupHeartbeat 1 (KIP-932).
func (c *Coordinator) ShareGroupHeartbeat(_ context.Context, cl Client, r *kmsg.ShareGroupHeartbeatRequest) *kmsg.ShareGroupHeartbeatResponse {
	refuse := func(code int16) *kmsg.ShareGroupHeartbeatResponse {
		a := r.ResponseKind().(*kmsg.ShareGroupHeartbeatResponse)
		a.ErrorCode = code
		return a
	}
	if r.GroupID == "" {
		return refuse(codeInvalidGroupID)
	}
	e := c.lock(r.GroupID, r.MemberEpoch == 0)
	if e == nil {
		return refuse(codeGroupIDNotFound)
	}
	if e.share == nil {
		switch {
		case e.consumer != nil, e.classic != nil, len(e.offsets) > 0:
			e.mu.Unlock()
			return refuse(codeInconsistentGroupProtocol)
		case r.MemberEpoch != 0:
			e.mu.Unlock()
			return refuse(codeGroupIDNotFound)
		}
		e.share = consumer.NewShare(e.id, c.o.Share)
	}
	now := c.o.Now()
	result := e.share.Heartbeat(now, topics{c}, r, consumer.Client{ID: cl.ID, Host: cl.Host})
	done := c.append(e, result.Records)
	if e.share.Pristine() {
		e.share = nil
	}
	c.noteEmpty(e, now)
	c.schedule(e)
	e.mu.Unlock()
	if err := done(); err != nil {
		c.o.Logger.Error("write group", "group", r.GroupID, "error", err)
		c.reload(e)
		return refuse(codeCoordinatorNotAvailable)
	}
	return result.Response
}

// ShareMembers is the number of members of a share group; 0 if there is none.
func (c *Coordinator) ShareMembers(group string) int {
	e := c.lock(group, false)
	if e == nil {
		return 0
	}
	defer e.mu.Unlock()
	if e.share == nil {
		return 0
	}
	return e.share.Size()
}

// ForgetShare drops topics from what a share group has begun to consume: their
// offsets are deleted.
func (c *Coordinator) ForgetShare(group string, topics ...[16]byte) error {
	e := c.lock(group, false)
	if e == nil {
		return nil
	}
	if e.share == nil {
		e.mu.Unlock()
		return nil
	}
	done := c.append(e, e.share.Forget(topics...))
	e.mu.Unlock()
	return done()
}
