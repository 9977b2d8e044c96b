package server

import (
	"fmt"
	"time"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/session"
	"github.com/polylog-mq/polylog/wire/native"
)

// maxEndings bounds the branches of a connection that are being prepared or
// ended at once.
const maxEndings = 256

// branch handles a Branch. What has a session start or leave one is done on the
// reader, in order with what it sends and settles; what waits for the disk in a
// goroutine of its own, also while the broker drains.
func (c *connection) branch(f *native.Branch) {
	var spec native.BranchSpec
	if len(f.Body) > 0 {
		if err := native.UnmarshalBody(f.Body, &spec); err != nil {
			c.out.fail(f.Request, fmt.Errorf("%w: %w", session.ErrInvalid, err))
			return
		}
	}
	if f.Verb == native.VerbBranchJoin || f.Verb == native.VerbBranchLeave {
		c.answer(f.Request, c.producers(f))
		return
	}
	if f.Verb == native.VerbBranchStart || f.Verb == native.VerbBranchEnd {
		c.answer(f.Request, c.work(f, &spec))
		return
	}
	if c.endings.Add(1) > maxEndings {
		c.endings.Add(-1)
		c.out.fail(f.Request, fmt.Errorf("%w: %d branches of a connection are being ended", session.ErrBusy, maxEndings))
		return
	}
	c.fetching.Go(func() {
		defer c.endings.Add(-1)
		if err := c.endBranch(f, &spec); err != nil {
			c.out.fail(f.Request, err)
		}
		c.out.Flush()
	})
}

// producers has the connection join a group of producers, or leave it.
func (c *connection) producers(f *native.Branch) error {
	var p native.Producers
	if err := native.UnmarshalBody(f.Body, &p); err != nil {
		return fmt.Errorf("%w: %w", session.ErrInvalid, err)
	}
	if f.Verb == native.VerbBranchLeave {
		return c.state.LeaveProducers(p.Group)
	}
	return c.state.JoinProducers(destination.Producers(p), c.check)
}

// check asks the peer about a half message, unless it does not listen: another is
// asked later. One that is larger than a frame goes without its messages.
func (c *connection) check(h destination.Half) {
	if c.out.Behind() {
		return
	}
	var sends []native.HalfSend
	var payload []byte
	for _, s := range h.Sends {
		sends = append(sends, native.HalfSend{Destination: s.Destination, Partition: s.Partition, Bytes: len(s.Batches)})
		payload = append(payload, s.Batches...)
	}
	if len(payload) > c.server.options.MaxFrame/2 {
		sends, payload = nil, nil
	}
	body, err := native.MarshalBody(sends)
	if err != nil {
		return
	}
	c.out.append(&native.Check{Group: h.Global, ID: h.Branch, Checks: uint64(h.Checks), Body: body}, payload)
	c.out.Flush()
}

var branchFlags = map[string]session.BranchFlag{
	native.BranchNew: session.BranchNew, native.BranchJoin: session.BranchJoin, native.BranchResume: session.BranchResume,
	native.BranchSuccess: session.BranchSuccess, native.BranchFail: session.BranchFail, native.BranchSuspend: session.BranchSuspend,
}

// work has a session start or leave a branch.
func (c *connection) work(f *native.Branch, spec *native.BranchSpec) error {
	s := c.session(f.Session)
	if s == nil {
		return fmt.Errorf("session %d: %w on this connection", f.Session, session.ErrNotFound)
	}
	flag, ok := branchFlags[spec.Flag]
	if !ok {
		return fmt.Errorf("%w: flag %q of a branch", session.ErrInvalid, spec.Flag)
	}
	if f.Verb == native.VerbBranchStart {
		if c.draining.Load() && flag == session.BranchNew {
			return errDraining
		}
		return s.StartBranch(xid(spec.XID), flag, time.Duration(spec.TimeoutMS)*time.Millisecond)
	}
	err := s.EndBranch(xid(spec.XID), flag)
	c.prune(f.Session)
	return err
}

// endBranch does, and answers, what waits for the disk.
func (c *connection) endBranch(f *native.Branch, spec *native.BranchSpec) (err error) {
	var reply any
	switch x := xid(spec.XID); f.Verb {
	case native.VerbBranchPrepare:
		var vote native.BranchVote
		vote.ReadOnly, err = c.state.PrepareBranch(x)
		reply = vote
	case native.VerbBranchCommit:
		err = c.state.CommitBranch(c.ctx, x, spec.OnePhase)
	case native.VerbBranchRollback:
		err = c.state.RollbackBranch(c.ctx, x)
	case native.VerbBranchForget:
		err = c.state.ForgetBranch(x)
	case native.VerbBranchRecover:
		reply = each(c.state.RecoverBranches(), branchInfo)
	default:
		err = fmt.Errorf("%w: no verb %q", session.ErrUnsupported, f.Verb)
	}
	if err != nil {
		return err
	}
	var body []byte
	if reply != nil {
		if body, err = native.MarshalBody(reply); err != nil {
			return err
		}
	}
	c.out.append(&native.OK{Request: f.Request, Body: body}, nil)
	return nil
}

func xid(x native.XID) destination.XID {
	return destination.XID{Format: x.Format, Global: string(x.Global), Branch: string(x.Branch)}
}

func branchInfo(b destination.BranchInfo) native.BranchInfo {
	info := native.BranchInfo{
		XID:   native.XID{Format: b.Format, Global: []byte(b.Global), Branch: []byte(b.Branch)},
		State: b.State.String(), PreparedMS: b.Prepared.UnixMilli(),
		Sends: b.Sends, Acknowledges: b.Acknowledges, Destinations: b.Destinations,
	}
	if !b.Ended.IsZero() {
		info.EndedMS = b.Ended.UnixMilli()
	}
	return info
}
