package polylog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/polylog-mq/polylog/wire/native"
)

// XID names a branch of a distributed transaction: X/Open XA §4.2. Global and
// Branch may be up to 64 bytes each, of any value; Format must not be negative.
type XID struct {
	Format         int32
	Global, Branch string
}

// String is the format, and both parts in hexadecimal: 1:6f72:01.
func (x XID) String() string { return fmt.Sprintf("%d:%x:%x", x.Format, x.Global, x.Branch) }

// ParseXID parses what String returns: ErrInvalid.
func ParseXID(s string) (XID, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return XID{}, &Error{Code: native.CodeInvalid, Message: fmt.Sprintf("XID %q: want FORMAT:GLOBAL:BRANCH, the last two in hexadecimal", s)}
	}
	format, err := strconv.ParseInt(parts[0], 10, 32)
	global, failed := hex.DecodeString(parts[1])
	err = errors.Join(err, failed)
	branch, failed := hex.DecodeString(parts[2])
	if err = errors.Join(err, failed); err != nil {
		return XID{}, fmt.Errorf("%w: XID %q: %w", ErrInvalid, s, err)
	}
	return XID{Format: int32(format), Global: string(global), Branch: string(branch)}, nil
}

func (x XID) native() native.XID {
	return native.XID{Format: x.Format, Global: []byte(x.Global), Branch: []byte(x.Branch)}
}

// XAFlag says how a session joins or leaves a branch: X/Open XA §4.3.
type XAFlag string

// The flags of Start, and those of End.
const (
	XANew     XAFlag = native.BranchNew     // TMNOFLAGS: begin a branch
	XAJoin    XAFlag = native.BranchJoin    // TMJOIN: go on with one that another session of the connection has left
	XAResume  XAFlag = native.BranchResume  // TMRESUME: go on with one that this session has suspended
	XASuccess XAFlag = native.BranchSuccess // TMSUCCESS: leave it
	XAFail    XAFlag = native.BranchFail    // TMFAIL: leave it; it can only be rolled back
	XASuspend XAFlag = native.BranchSuspend // TMSUSPEND: leave it for a while
)

// XAResource is a session's part in distributed transactions, for a transaction
// manager: Jakarta Messaging 3.1 §6.2.8, Jakarta Transactions 2.0 §3.4. Between
// Start and End what the session sends and receives belongs to the branch, and
// is done, or undone, as the manager ends that.
//
// A branch that is not prepared is lost with its connection. A prepared one is
// on the broker's disk and survives anything; it may be ended on any connection.
//
// The errors, and what they are in XA: ErrNotFound XAER_NOTA, ErrExists
// XAER_DUPID, ErrConflict XAER_PROTO, ErrInvalid XAER_INVAL or XAER_OUTSIDE,
// ErrRolledBack XA_RBROLLBACK, ErrBusy XA_RETRY, ErrHeuristicCommit XA_HEURCOM,
// ErrHeuristicRollback XA_HEURRB, ErrInDoubt XAER_RMFAIL: then Recover tells.
type XAResource struct{ s *Session }

// XA returns the session's part in distributed transactions. The session must be
// Transacted.
func (s *Session) XA() XAResource { return XAResource{s} }

// Start has the session work for a branch. A new one is rolled back unless it is
// prepared, or committed in one phase, within the timeout; 0: never.
func (r XAResource) Start(ctx context.Context, x XID, flag XAFlag, timeout time.Duration) error {
	s := r.s
	if err := s.transacted("start"); err != nil {
		return err
	}
	if s.work.used.Load() {
		return &Error{Code: native.CodeInvalid, Message: "start: the session has a transaction of its own under way; commit it or roll it back"}
	}
	s.work.begin()
	s.work.use() // from here on a connection that breaks takes the branch along
	_, err := s.c.branch(ctx, s.number, native.VerbBranchStart, &native.BranchSpec{
		XID: x.native(), Flag: string(flag), TimeoutMS: timeout.Milliseconds(),
	})
	if err != nil {
		s.work.begin()
	}
	return err
}

// End has the session leave its branch. ErrRolledBack says that the branch is
// over, or can only be rolled back.
func (r XAResource) End(ctx context.Context, x XID, flag XAFlag) error {
	s := r.s
	l, err := s.endWork(ctx, "end")
	if errors.Is(err, ErrRolledBack) { // the session has yet to leave it
		l, err = s.c.await(ctx)
	}
	if err != nil {
		return err
	}
	if s.work.lost.Load() { // on another connection the broker knows nothing of it
		return s.rolledBack(ctx)
	}
	body, err := native.MarshalBody(&native.BranchSpec{XID: x.native(), Flag: string(flag)})
	if err != nil {
		return err
	}
	_, err = l.call(ctx, func(request uint64) native.Frame {
		return &native.Branch{Request: request, Session: s.number, Verb: native.VerbBranchEnd, Body: body}
	})
	if errors.Is(err, errBroken) {
		return s.rolledBack(ctx)
	}
	if !errors.Is(err, ErrConflict) {
		s.work.begin()
	}
	if err != nil {
		return fmt.Errorf("end: %w", err)
	}
	return nil
}

// Prepare prepares a branch that no session works for any more: with nil all of
// it is on the broker's disk. readOnly says that it had done nothing, and is over:
// XA_RDONLY. With ErrRolledBack it is over, too.
func (r XAResource) Prepare(ctx context.Context, x XID) (readOnly bool, err error) {
	k, err := r.s.c.branch(ctx, 0, native.VerbBranchPrepare, &native.BranchSpec{XID: x.native()})
	if err != nil {
		return false, err
	}
	var vote native.BranchVote
	if err := native.UnmarshalBody(k.body, &vote); err != nil {
		return false, fmt.Errorf("prepare: %w", err)
	}
	return vote.ReadOnly, nil
}

// Commit commits a prepared branch, or in one phase one that is not prepared.
func (r XAResource) Commit(ctx context.Context, x XID, onePhase bool) error {
	_, err := r.s.c.branch(ctx, 0, native.VerbBranchCommit, &native.BranchSpec{XID: x.native(), OnePhase: onePhase})
	return err
}

// Rollback rolls a branch back, prepared or not. What it has received is
// delivered again.
func (r XAResource) Rollback(ctx context.Context, x XID) error {
	_, err := r.s.c.branch(ctx, 0, native.VerbBranchRollback, &native.BranchSpec{XID: x.native()})
	return err
}

// Forget has the broker forget a branch that an operator has ended.
func (r XAResource) Forget(ctx context.Context, x XID) error {
	_, err := r.s.c.branch(ctx, 0, native.VerbBranchForget, &native.BranchSpec{XID: x.native()})
	return err
}

// Recover lists all branches that are prepared, or were ended by an operator and
// are not forgotten, whoever has prepared them, by age.
func (r XAResource) Recover(ctx context.Context) ([]XID, error) {
	k, err := r.s.c.call(ctx, true, func(request uint64) native.Frame {
		return &native.Branch{Request: request, Verb: native.VerbBranchRecover}
	})
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	var infos []native.BranchInfo
	if err := native.UnmarshalBody(k.body, &infos); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	xids := make([]XID, len(infos))
	for i := range infos {
		xids[i] = xidOf(infos[i].XID)
	}
	return xids, nil
}

func xidOf(x native.XID) XID {
	return XID{Format: x.Format, Global: string(x.Global), Branch: string(x.Branch)}
}

// branch asks the broker something about a branch.
func (c *Connection) branch(ctx context.Context, session uint64, verb string, spec *native.BranchSpec) (*call, error) {
	body, err := native.MarshalBody(spec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	k, err := c.call(ctx, false, func(request uint64) native.Frame {
		return &native.Branch{Request: request, Session: session, Verb: verb, Body: body}
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return k, nil
}

// BranchInfo describes a branch that is prepared, or was ended by an operator.
type BranchInfo struct {
	XID XID `json:"-"`
	native.BranchInfo
}

// Branches lists the branches that are prepared, or were ended by an operator and
// are not forgotten, by age.
func (a Admin) Branches(ctx context.Context) ([]BranchInfo, error) {
	var infos []native.BranchInfo
	if err := a.ask(ctx, native.VerbBranchList, nil, &infos, true); err != nil {
		return nil, err
	}
	all := make([]BranchInfo, len(infos))
	for i := range infos {
		all[i] = BranchInfo{XID: xidOf(infos[i].XID), BranchInfo: infos[i]}
	}
	return all, nil
}

// SettleBranch ends a prepared branch in place of its transaction manager, who is
// told when he comes, with ErrHeuristicCommit or ErrHeuristicRollback: X/Open XA
// §2.3.3. What others have decided for their branches of the transaction may then
// differ: it is for managers that never come back.
func (a Admin) SettleBranch(ctx context.Context, x XID, commit bool) error {
	return a.ask(ctx, native.VerbBranchSettle, &native.BranchSpec{XID: x.native(), Commit: commit}, nil, false)
}

// ForgetBranch forgets a branch that was ended by SettleBranch.
func (a Admin) ForgetBranch(ctx context.Context, x XID) error {
	return a.ask(ctx, native.VerbBranchForget, &native.BranchSpec{XID: x.native()}, nil, false)
}
