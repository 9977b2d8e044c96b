package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/polylog-mq/polylog/broker/half"
	"github.com/polylog-mq/polylog/destination"
)

// halves are the groups of producers that are connected, and who asks them.
type halves struct {
	wake chan struct{} // has room for one: something is new

	mu      sync.Mutex // guards what follows
	members map[string][]*halfMember
}

type halfMember struct {
	producers destination.Producers
	check     func(destination.Half)
}

// JoinProducers makes the caller a member of a group of producers until leave is
// called: check is told of half messages of the group whose end is not known, and
// must not wait. ErrInvalid.
func (b *Broker) JoinProducers(p destination.Producers, check func(destination.Half)) (leave func(), err error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if p.AfterMS == 0 {
		p.AfterMS = half.DefaultAfterMS
	}
	if p.MaxChecks == 0 {
		p.MaxChecks = half.DefaultMax
	}
	m := &halfMember{p, check}
	h := &b.halves
	h.mu.Lock()
	h.members[p.Group] = append(h.members[p.Group], m)
	h.mu.Unlock()
	h.look()
	var once sync.Once
	return func() {
		once.Do(func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			i := slices.Index(h.members[p.Group], m)
			if h.members[p.Group] = slices.Delete(slices.Clone(h.members[p.Group]), i, i+1); len(h.members[p.Group]) == 0 {
				delete(h.members, p.Group)
			}
		})
	}, nil
}

// look has the halves looked at.
func (h *halves) look() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// groups are those that have members, whose last says how often to ask.
func (h *halves) groups() (groups map[string]half.Group, members map[string][]*halfMember) {
	groups, members = map[string]half.Group{}, map[string][]*halfMember{}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, all := range h.members {
		last := all[len(all)-1].producers
		groups[name] = half.Group{Members: len(all), AfterMS: last.AfterMS, Max: last.MaxChecks}
		members[name] = all // not changed in place
	}
	return groups, members
}

// checkHalves asks what became of half messages until ctx ends.
func (b *Broker) checkHalves(ctx context.Context) {
	h := &b.halves
	var checker half.Checker
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.wake:
		}
		groups, members := h.groups()
		var prepared []half.Prepared
		if len(groups) > 0 {
			prepared = b.prepared()
		}
		now := b.o.Now().UnixMilli()
		checks, over, next := checker.Step(now, prepared, groups)
		for _, c := range checks {
			sends, err := b.branches.Sends(c.XID)
			if err != nil { // it has just ended, or cannot be read
				if !errors.Is(err, destination.ErrNotFound) {
					b.o.Logger.Error("a half message cannot be read", "branch", c.XID.String(), "error", err)
				}
				continue
			}
			members[c.XID.Global][c.Member].check(destination.Half{XID: c.XID, Checks: c.Number, Sends: b.named(sends)})
		}
		for _, x := range over {
			b.o.Logger.Warn("a half message is rolled back: nobody knows what became of it", "group", x.Global, "id", x.Branch)
			if err := b.branches.Rollback(ctx, x); err != nil {
				b.o.Logger.Error("roll a half message back", "branch", x.String(), "error", err)
			}
		}
		timer.Reset(time.Duration(min(max(next-now, 0), maxWait.Milliseconds())) * time.Millisecond)
	}
}

// prepared are the half messages that nobody has ended.
func (b *Broker) prepared() (all []half.Prepared) {
	for _, i := range b.branches.Branches() {
		if i.Format == destination.HalfFormat && i.State == destination.BranchPrepared {
			all = append(all, half.Prepared{XID: i.XID, PreparedMS: i.Prepared.UnixMilli()})
		}
	}
	return all
}

// named are sends with the names of their destinations; those that are gone are
// left out.
func (b *Broker) named(sends []destination.BranchSend) (all []destination.HalfSend) {
	for _, s := range sends {
		if d := b.current(s.Topic); d != nil {
			all = append(all, destination.HalfSend{Destination: d.Name, Partition: s.Partition, Batches: s.Batches})
		}
	}
	return all
}
