package group

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group/classic"
)

// noOperations says that authorized operations were not asked for; else they
// are all of a group's: read, delete, describe, and its settings too.
const (
	noOperations    int32 = -1 << 31
	groupOperations int32 = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11
)

func operations(asked bool) int32 {
	if asked {
		return groupOperations
	}
	return noOperations
}

// described calls f with a group, which is locked, or with nil and the code and
// text of what keeps it from being described.
func (c *Coordinator) described(id, kind string, f func(e *entry, code int16, text *string)) {
	e, code := c.lock(id, false)
	if e != nil {
		defer c.unlock(e)
	}
	is := e != nil
	switch {
	case !is:
	case kind == "consumer":
		is = e.consumer != nil
	case kind == "share":
		is = e.share != nil
	default:
		is = e.consumer == nil && e.share == nil
	}
	switch {
	case is:
		f(e, codeNone, nil)
	case code != codeNone:
		f(nil, code, nil)
	default:
		text := notThatKind(id, e, kind)
		f(nil, codeGroupIDNotFound, &text)
	}
}

// DescribeGroups answers DescribeGroups 0–6: of classic groups.
func (c *Coordinator) DescribeGroups(_ context.Context, _ Client, r *kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse {
	a := r.ResponseKind().(*kmsg.DescribeGroupsResponse)
	for _, id := range r.Groups {
		g := kmsg.NewDescribeGroupsResponseGroup()
		c.described(id, "classic", func(e *entry, code int16, text *string) {
			g.Group = id
			switch {
			case e != nil && e.classic != nil:
				g = e.classic.Describe()
			case e != nil:
				g.State = classic.Empty // it has only offsets
			case code == codeGroupIDNotFound && r.Version < 6: // KIP-1043
				g.State = classic.Dead
			default:
				g.State, g.ErrorCode, g.ErrorMessage = classic.Dead, code, text
			}
		})
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
		c.described(id, "consumer", func(e *entry, code int16, text *string) {
			if e != nil {
				g = e.consumer.Describe(topics{c})
			} else {
				g.Group, g.ErrorCode, g.ErrorMessage = id, code, text
			}
		})
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
		c.described(id, "share", func(e *entry, code int16, text *string) {
			if e != nil {
				g = e.share.Describe(topics{c})
			} else {
				g.GroupID, g.ErrorCode, g.ErrorMessage = id, code, text
			}
		})
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
	a.Groups = []kmsg.ListGroupsResponseGroup{}
	for _, e := range c.entries() {
		e.mu.Lock()
		_, _ = c.enter(e) // as it is, even if it cannot be used just now
		g, listed := e.listed(), !e.gone && !e.blank()
		e.mu.Unlock()
		if listed && matches(r.StatesFilter, g.GroupState) && matches(r.TypesFilter, g.GroupType) {
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

// DeleteGroups answers DeleteGroups 0–3. It waits for the disk.
func (c *Coordinator) DeleteGroups(_ context.Context, _ Client, r *kmsg.DeleteGroupsRequest) *kmsg.DeleteGroupsResponse {
	a := r.ResponseKind().(*kmsg.DeleteGroupsResponse)
	writes := make([]*write, len(r.Groups))
	for i, id := range r.Groups {
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group = id
		writes[i], g.ErrorCode = c.deleteGroup(id)
		a.Groups = append(a.Groups, g)
	}
	for i, w := range writes { // one sync for all
		if w != nil {
			a.Groups[i].ErrorCode = codeOf(w.wait())
		}
	}
	return a
}

func (c *Coordinator) deleteGroup(id string) (*write, int16) {
	e, code := c.lock(id, false)
	if e == nil {
		if code == codeNone {
			code = codeGroupIDNotFound
		}
		return nil, code
	}
	defer c.unlock(e)
	if e.size() > 0 || e.classic != nil && e.classic.State() != classic.Empty {
		return nil, codeNonEmptyGroup
	}
	w, err := c.remove(e)
	return w, codeOf(err)
}
