package broker

import (
	"context"
	"fmt"

	"github.com/polylog-mq/polylog/broker/xa"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/queue"
)

// openBranches opens the coordinator of XA's branches. No view is open yet.
func (b *Broker) openBranches() (err error) {
	b.branches, err = xa.Open(xa.Options{
		Log:    func() (*destination.Destination, error) { return b.own(xa.TopicName, xa.Settings()) },
		Find:   func() (*destination.Destination, error) { return b.find(context.Background(), xa.TopicName) },
		Commit: b.units.Commit,
		State:  b.state,
		Topic:  b.current,
		View:   b.viewOf,
		Now:    b.o.Now,
		Logger: b.o.Logger,
	})
	if err != nil {
		return fmt.Errorf("open the branches: %w", err)
	}
	return nil
}

// viewOf opens the view that a cursor belongs to, and keeps it until leave is
// called; nil if it is gone.
func (b *Broker) viewOf(ctx context.Context, id destination.CursorID) (v *queue.View, leave func(), err error) {
	if id.Subscription != "" {
		return b.topics.View(ctx, id.Topic, id.Subscription)
	}
	d := b.current(id.Topic)
	if d == nil {
		return nil, nil, nil
	}
	if v, err = b.queueView(ctx, d); isNotFound(err) {
		return nil, nil, nil
	}
	return v, func() {}, err
}

// ReserveBranch, ReleaseBranch, PrepareBranch, CommitBranch, RollbackBranch,
// ForgetBranch, Branches and SettleBranch are those of xa.Coordinator.
func (b *Broker) ReserveBranch(x destination.XID) error { return b.branches.Reserve(x) }

// ReleaseBranch: see ReserveBranch.
func (b *Broker) ReleaseBranch(x destination.XID) { b.branches.Release(x) }

// PrepareBranch: see ReserveBranch.
func (b *Broker) PrepareBranch(x destination.XID, settled []queue.Settled, sends []destination.BranchSend) error {
	err := b.branches.Prepare(x, settled, sends)
	if err == nil && x.Format == destination.HalfFormat {
		b.halves.look()
	}
	return err
}

// CommitBranch: see ReserveBranch.
func (b *Broker) CommitBranch(ctx context.Context, x destination.XID) error {
	return b.branches.Commit(ctx, x)
}

// RollbackBranch: see ReserveBranch.
func (b *Broker) RollbackBranch(ctx context.Context, x destination.XID) error {
	return b.branches.Rollback(ctx, x)
}

// ForgetBranch: see ReserveBranch.
func (b *Broker) ForgetBranch(x destination.XID) error { return b.branches.Forget(x) }

// Branches: see ReserveBranch.
func (b *Broker) Branches() []destination.BranchInfo { return b.branches.Branches() }

// SettleBranch: see ReserveBranch.
func (b *Broker) SettleBranch(ctx context.Context, x destination.XID, commit bool) error {
	return b.branches.Settle(ctx, x, commit)
}
