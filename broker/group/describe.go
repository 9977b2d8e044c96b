package group

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/classic"
	"github.com/polylog-mq/polylog/broker/group/consumer"
)

// noOperations says that authorized operations were not asked for; else they
// are all of a group's: read, delete, describe.
const (
	noOperations    int32 = -1 << 31
	groupOperations int32 = 1<<3 | 1<<6 | 1<<8
)

func operations(asked bool) int32 {
	if asked {
		return groupOperations
	}
	return noOperations
}

// DescribeGroups answers DescribeGroups 0–6: of classic groups.
func (c *Coordinator) DescribeGroups(_ context.Context, _ Client, r *kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse {
	a := r.ResponseKind().(*kmsg.DescribeGroupsResponse)
	for _, id := range r.Groups {
		g := kmsg.NewDescribeGroupsResponseGroup()
		e := c.lock(id, false)
		switch {
		case e != nil && e.classic != nil:
			g = e.classic.Describe()
		case e != nil && e.consumer == nil && e.share == nil:
			g.Group, g.State = id, classic.Empty // it has only offsets
		default:
			g.Group, g.State = id, classic.Dead
			if r.Version >= 6 {
				text := fmt.Sprintf("Group %s not found.", id)
				if e != nil {
					text = fmt.Sprintf("Group %s is not a classic group.", id)
				}
				g.ErrorCode, g.ErrorMessage = codeGroupIDNotFound, &text
			}
		}
		if e != nil {
			e.mu.Unlock()
		}
		g.AuthorizedOperations = operations(r.IncludeAuthorizedOperations)
		a.Groups = append(a.Groups, g)
	}
	return a
}

// ConsumerGroupDescribe answers ConsumerGroupDescribe 0–1: of KIP-848 groups.
func (c *Coordinator) ConsumerGroupDescribe(_ context.Context, _ Client, r *kmsg.ConsumerGroupDescribeRequest) *kmsg.ConsumerGroupDescribeResponse {
	a := r.ResponseKind().(*kmsg.ConsumerGroupDescribeResponse)
	for _, id := range r.Groups {
		g := kmsg.NewConsumerGroupDescribeResponseGroup()
		e := c.lock(id, false)
		if e != nil && e.consumer != nil {
			g = e.consumer.Describe(topics{c})
		} else {
			text := notThatKind(id, e, "consumer")
			g.Group, g.ErrorCode, g.ErrorMessage = id, codeGroupIDNotFound, &text
		}
		if e != nil {
			e.mu.Unlock()
		}
		g.AuthorizedOperations = operations(r.IncludeAuthorizedOperations)
		a.Groups = append(a.Groups, g)
	}
	return a
}

// ShareGroupDescribe answers ShareGroupDescribe 1.
func (c *Coordinator) ShareGroupDescribe(_ context.Context, _ Client, r *kmsg.ShareGroupDescribeRequest) *kmsg.ShareGroupDescribeResponse {
	a := r.ResponseKind().(*kmsg.ShareGroupDescribeResponse)
	for _, id := range r.GroupIDs {
		g := kmsg.NewShareGroupDescribeResponseGroup()
		e := c.lock(id, false)
		if e != nil && e.share != nil {
			g = e.share.Describe(topics{c})
		} else {
			text := notThatKind(id, e, "share")
			g.GroupID, g.ErrorCode, g.ErrorMessage = id, codeGroupIDNotFound, &text
		}
		if e != nil {
			e.mu.Unlock()
		}
		g.AuthorizedOperations = operations(r.IncludeAuthorizedOperations)
		a.Groups = append(a.Groups, g)
	}
	return a
}

func notThatKind(id string, e *entry, kind string) string {
	if e == nil {
		return fmt.Sprintf("Group %s not found.", id)
	}
	return fmt.Sprintf("Group %s is not a %s group.", id, kind)
}

// ListGroups answers ListGroups 0–5, by id.
func (c *Coordinator) ListGroups(_ context.Context, _ Client, r *kmsg.ListGroupsRequest) *kmsg.ListGroupsResponse {
	a := r.ResponseKind().(*kmsg.ListGroupsResponse)
	c.mu.Lock()
	all := c.entries()
	c.mu.Unlock()
	a.Groups = []kmsg.ListGroupsResponseGroup{}
	for _, e := range all {
		e.mu.Lock()
		g, gone := e.listed(), e.gone
		e.mu.Unlock()
		if !gone && matches(r.StatesFilter, g.GroupState) && matches(r.TypesFilter, g.GroupType) {
			a.Groups = append(a.Groups, g)
		}
	}
	slices.SortFunc(a.Groups, func(x, y kmsg.ListGroupsResponseGroup) int { return strings.Compare(x.Group, y.Group) })
	return a
}

// matches says whether a filter, empty for all, has a word in any case.
func matches(filter []string, word string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, word) })
}

func (e *entry) listed() kmsg.ListGroupsResponseGroup {
	g := kmsg.NewListGroupsResponseGroup()
	g.Group, g.GroupState, g.GroupType = e.id, classic.Empty, "Classic"
	switch {
	case e.classic != nil:
		g.GroupState, g.ProtocolType = e.classic.State(), e.classic.ProtocolType()
	case e.consumer != nil:
		g.GroupState, g.ProtocolType, g.GroupType = e.consumer.State(), "consumer", "Consumer"
	case e.share != nil:
		g.GroupState, g.ProtocolType, g.GroupType = e.share.State(), "share", "Share"
	}
	return g
}

// DeleteGroups answers DeleteGroups 0–3.
func (c *Coordinator) DeleteGroups(_ context.Context, _ Client, r *kmsg.DeleteGroupsRequest) *kmsg.DeleteGroupsResponse {
	a := r.ResponseKind().(*kmsg.DeleteGroupsResponse)
	var waits []func() error
	for _, id := range r.Groups {
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group = id
		done, code := c.deleteGroup(id)
		g.ErrorCode = code
		waits = append(waits, done)
		a.Groups = append(a.Groups, g)
	}
	for i, done := range waits { // one sync for all
		if done != nil {
			a.Groups[i].ErrorCode = codeOf(done())
		}
	}
	return a
}

func (c *Coordinator) deleteGroup(id string) (done func() error, code int16) {
	e := c.lock(id, false)
	if e == nil {
		return nil, codeGroupIDNotFound
	}
	defer e.mu.Unlock()
	switch {
	case e.size() > 0:
		return nil, codeNonEmptyGroup
	case e.empty() && e.classic == nil:
		c.drop(e)
		return nil, codeGroupIDNotFound
	}
	var records []consumer.Record
	for _, p := range sortedPartitions(e.offsets) {
		records = append(records, consumer.Record{Key: offsetKey(e.id, p)})
	}
	records = append(records, e.tombstones()...)
	c.drop(e)
	return c.append(e, records), codeNone
}
